"""Keys, values and deadlines of the example store: frozen for a snapshot at no cost, and blind to the wall clock.

Two questions shape this file.

*What does a snapshot of two million keys cost?* The keys live in 4096 small dictionaries. `freeze` copies the list of
them and marks each as shared; the first write to a shared one replaces it by a copy. Freezing takes microseconds
whatever the size, and the price, one small copy, is paid by the writes that cause it. (One large dictionary takes
tens of milliseconds to copy, more when it has seen deletions.) The same cut gives SCAN a cursor without any state: a
key never changes its dictionary, so a walk over the dictionaries meets every key that is there from the walk's
beginning to its end, across a failover too.

*When is a key expired?* When its deadline is not later than `time_us`, the leader's clock in the last applied entry. No
method shows an expired key, removed or not; so replicas agree although each removes them in its own time: `advance`
removes a bounded number, because a million keys that fall due at once must not hold up a heartbeat.

A value without deadline is stored as bytes, one with a deadline as a tuple of bytes and int: nothing that the garbage
collector follows for long.
"""

import heapq
import struct
from collections.abc import Iterable, Iterator
from zlib import crc32

__all__ = ["BUCKETS", "VALUE_BYTES_MAX", "Frozen", "Keyspace", "SnapshotError"]

BUCKETS = 4096
"""How many dictionaries share the keys. Part of the meaning of a SCAN cursor, so equal on every replica."""

VALUE_BYTES_MAX = 1_000_000
"""Bytes of one key or one value at most. It decides what a command answers, so it is no option of a replica."""

SNAPSHOT_CHUNK_BYTES = 256 * 1024

Bucket = dict[bytes, bytes | tuple[bytes, int]]

# A snapshot is a sequence of records. The first has the magic as its key and the time in place of a deadline, the last
# has _END in place of a key's length and the number of records before it in place of a deadline.
_RECORD = struct.Struct("<IIQ")  # key bytes, value bytes, deadline (0: none); then the key, then the value
_MAGIC = b"distkit example keyspace 1"
_END = 0xFFFF_FFFF


class SnapshotError(ValueError):
    """These bytes are no whole snapshot of a keyspace. Nothing was changed; the snapshot has to be fetched again."""


class Keyspace:
    """A map of bytes to bytes with deadlines in microseconds. The module's text says what it guarantees."""

    __slots__ = ("_buckets", "_deadlines", "_deadlines_max", "_shared", "time_us")

    def __init__(self) -> None:
        self.time_us = 0
        self.clear()

    def clear(self) -> None:
        """Remove every key; time stays."""
        self._buckets: list[Bucket] = [{} for _ in range(BUCKETS)]
        self._shared = bytearray(BUCKETS)  # 1: a frozen view sees this bucket too
        # A heap of (deadline, key). A pair is stale when the key has another deadline by now, or none.
        self._deadlines: list[tuple[int, bytes]] = []
        self._deadlines_max = 1024

    def __len__(self) -> int:
        if self._deadlines and self._deadlines[0][0] <= self.time_us:  # some may be expired and still stored
            return sum(len(self.keys(number)) for number in range(BUCKETS))
        return sum(map(len, self._buckets))

    def get(self, key: bytes) -> bytes | None:
        """The value, None if there is no such key."""
        entry = self._buckets[crc32(key) % BUCKETS].get(key)
        if isinstance(entry, tuple):
            return entry[0] if entry[1] > self.time_us else None
        return entry

    def deadline_us(self, key: bytes) -> int:
        """When an existing key expires; 0 if never."""
        entry = self._buckets[crc32(key) % BUCKETS].get(key)
        return entry[1] if isinstance(entry, tuple) else 0

    def put(self, key: bytes, value: bytes, deadline_us: int = 0) -> None:
        """Set value and deadline; a deadline of 0 means none, one that has passed leaves no visible key."""
        bucket = self._writable(key)
        entry = bucket.get(key)
        if isinstance(entry, tuple) and entry[1] <= self.time_us:
            # A new key goes to the end of its bucket. Where the expired one is removed already that happens by itself;
            # it has to happen here too, or the order of KEYS would differ between replicas.
            del bucket[key]
        if not deadline_us:
            bucket[key] = value
            return
        bucket[key] = (value, deadline_us)
        heapq.heappush(self._deadlines, (deadline_us, key))
        if len(self._deadlines) > self._deadlines_max:
            self._drop_stale_deadlines()

    def delete(self, key: bytes) -> bool:
        """Remove the key; say whether it was there."""
        if self.get(key) is None:
            return False
        del self._writable(key)[key]
        return True

    def keys(self, number: int) -> list[bytes]:
        """The keys of one bucket, 0 to BUCKETS - 1, in the order in which they came."""
        now = self.time_us
        return [key for key, entry in self._buckets[number].items() if isinstance(entry, bytes) or entry[1] > now]

    def advance(self, time_us: int, removals_max: int) -> None:
        """Move time forward, never back, and remove at most `removals_max` of the keys that are expired by then."""
        if time_us > self.time_us:
            self.time_us = time_us
        deadlines = self._deadlines
        while deadlines and deadlines[0][0] <= self.time_us and removals_max:
            deadline, key = heapq.heappop(deadlines)
            if self._is_current(deadline, key):
                del self._writable(key)[key]
            removals_max -= 1

    def next_deadline_us(self) -> int | None:
        """The earliest deadline of a key that is still stored, expired or not; None if no key has one."""
        deadlines = self._deadlines
        while deadlines and not self._is_current(*deadlines[0]):
            heapq.heappop(deadlines)
        return deadlines[0][0] if deadlines else None

    def freeze(self) -> "Frozen":
        """The keys as they are now, whatever is written later."""
        self._shared = bytearray(b"\1") * BUCKETS
        return Frozen(self._buckets.copy(), self.time_us)

    def view(self) -> "Frozen":
        """The same for use before the next write: it does not make that write copy anything."""
        return Frozen(self._buckets, self.time_us)

    def _writable(self, key: bytes) -> Bucket:
        number = crc32(key) % BUCKETS
        if self._shared[number]:
            self._shared[number] = 0
            self._buckets[number] = self._buckets[number].copy()
        return self._buckets[number]

    def _is_current(self, deadline_us: int, key: bytes) -> bool:
        entry = self._buckets[crc32(key) % BUCKETS].get(key)
        return isinstance(entry, tuple) and entry[1] == deadline_us

    def _drop_stale_deadlines(self) -> None:
        """Keep the heap in proportion to the keys: a key set with a deadline over and over leaves a pair each time."""
        self._deadlines = [pair for pair in dict.fromkeys(self._deadlines) if self._is_current(*pair)]
        heapq.heapify(self._deadlines)
        self._deadlines_max = 2 * len(self._deadlines) + 1024

    @classmethod
    def restore(cls, chunks: Iterable[bytes]) -> "Keyspace":
        """Build a keyspace from what `Frozen.chunks` gave, in pieces of any size.

        Raises:
            SnapshotError: the bytes are cut short, damaged or of another version.
        """
        records = _read_records(chunks)
        magic, _, time_us = next(records, (b"", b"", 0))
        if magic != _MAGIC:
            raise SnapshotError(f"a snapshot starts with {_MAGIC!r}, this one with {magic[:40]!r}")
        keyspace = cls()
        keyspace.time_us = time_us
        buckets, deadlines = keyspace._buckets, keyspace._deadlines
        for key, value, deadline_us in records:
            if deadline_us:
                buckets[crc32(key) % BUCKETS][key] = (value, deadline_us)
                deadlines.append((deadline_us, key))
            else:
                buckets[crc32(key) % BUCKETS][key] = value
        keyspace._drop_stale_deadlines()
        return keyspace


class Frozen:
    """The keys at one moment. Expired ones are not among them, so the bytes of equal keyspaces are equal."""

    __slots__ = ("_buckets", "_time_us")

    def __init__(self, buckets: list[Bucket], time_us: int) -> None:
        self._buckets = buckets
        self._time_us = time_us

    def chunks(self) -> Iterator[bytes]:
        """The keys as bytes for `Keyspace.restore`, about 256 KiB a piece, each made when it is asked for."""
        pack, now = _RECORD.pack, self._time_us
        parts = [pack(len(_MAGIC), 0, now), _MAGIC]
        size = records = 0
        for bucket in self._buckets:
            for key, entry in bucket.items():
                value, deadline_us = entry if isinstance(entry, tuple) else (entry, 0)
                if 0 < deadline_us <= now:
                    continue
                parts += (pack(len(key), len(value), deadline_us), key, value)
                size += len(key) + len(value) + _RECORD.size
                records += 1
                if size >= SNAPSHOT_CHUNK_BYTES:
                    whole = b"".join(parts)
                    stop = len(whole) - len(whole) % SNAPSHOT_CHUNK_BYTES
                    for start in range(0, stop, SNAPSHOT_CHUNK_BYTES):
                        yield whole[start : start + SNAPSHOT_CHUNK_BYTES]
                    parts = [whole[stop:]]
                    size = len(whole) - stop
        parts.append(pack(_END, 0, records))
        yield b"".join(parts)


def _read_records(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bytes, int]]:
    """Key, value and number of each record but the last, which is checked."""
    chunks = iter(chunks)
    unread = bytearray()
    wanted = _RECORD.size  # no progress is possible before this many bytes are unread
    records = -1  # the first is not counted
    for chunk in chunks:
        unread += chunk
        if len(unread) < wanted:
            continue
        buffer, position, wanted = bytes(unread), 0, _RECORD.size
        while position + wanted <= len(buffer):
            key_bytes, value_bytes, number = _RECORD.unpack_from(buffer, position)
            start = position + _RECORD.size
            if key_bytes == _END:
                if number != records or start != len(buffer) or any(chunks):
                    raise SnapshotError(
                        f"the last record of a snapshot, behind {records}, does not fit what is around it"
                    )
                return
            if key_bytes > VALUE_BYTES_MAX or value_bytes > VALUE_BYTES_MAX:
                raise SnapshotError(
                    f"record {records + 1} of a snapshot says it is longer than {VALUE_BYTES_MAX} bytes"
                )
            wanted = _RECORD.size + key_bytes + value_bytes
            if position + wanted > len(buffer):
                break
            yield buffer[start : start + key_bytes], buffer[start + key_bytes : position + wanted], number
            records += 1
            position += wanted
            wanted = _RECORD.size
        del unread[:position]
    raise SnapshotError(f"a snapshot is cut short behind record {records}")
