"""The write-ahead log: append, sync, and no more than that; what it promises is in docs/formats.md section 3.

    wal = Wal.create(files, WalIdentity(cluster, node, incarnation), state)     # or: wal, recovered = Wal.open(...)
    wal.append(records)          # any number of times
    wal.sync()                   # now all of them survive any crash
    wal.mark()                   # after a burst: the last sync is provable
    wal.release(group, index)    # a snapshot holds the entries up to index: old segments go

Records of state (hard state, configuration, snapshot: what only the newest counts of) are repeated at the head of each
segment, so any run of segments from a snapshot onward recovers alone, and old ones can go without a copy of anything.

Each segment is claimed on the disk before the one in use is full. When that fails, `space` is FULL: the host takes no
new entries, and what is left of the segment in use, plus a small reserve, is there for votes, terms and the empty
entry of a leader. `claim` tries again.

After any error of the disk the log has failed for good: nothing more is written, nothing is synced again (a second
fsync may well succeed though the first one lost data), and every call raises StorageError.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Final

from distkit._fast.codec import encode_records
from distkit.core import Files, Full, LocalError, Space, StorageError, record
from distkit.log.recovery import Recovered, Segment, failing, note_state, recover
from distkit.log.segment import (
    HEADER_BYTES,
    MARK,
    NEXT,
    PAGE,
    SEGMENT_BYTES_MAX,
    STATE_KIND_MAX,
    STATE_KIND_MIN,
    Record,
    WalIdentity,
    check_record,
    encode_head,
    record_bytes,
    segment_ids,
    segment_name,
)

#: What a disk or a quota says when nothing is left.
NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)


#: Behind a small batch that writes where nothing was written yet, so many zeros are written with it: later ones then go
#: to blocks that the file system knows as written, and their sync has no metadata to write (a third of its time).
ZERO_AHEAD_BYTES: Final = 256 << 10
_SMALL_BATCH_BYTES: Final = 16 << 10
_ZEROS: Final = bytes(ZERO_AHEAD_BYTES)


@record
class WalOptions:
    """Sizes in bytes: of the segment that each start begins, of later ones, and of what is held back on a full disk."""

    first_segment_bytes: int = 1 << 20
    segment_bytes: int = 16 << 20
    reserve_bytes: int = 256 << 10


@record
class WalStats:
    """Counters since the log was opened, and the number of segments now."""

    records: int
    bytes: int
    syncs: int
    marks: int
    segments: int
    released: int


class Wal:
    """One log in one directory, synchronous. One owner at a time; not thread safe."""

    def __init__(
        self, files: Files, identity: WalIdentity, options: WalOptions, state: dict[tuple[int, int], bytes]
    ) -> None:
        """Use `create` or `open`."""
        self._files = files
        self._identity = identity
        self._options = options
        self._state = state
        self._closed: list[Segment] = []
        self._failed: StorageError | None = None
        self._released_index: dict[int, int] = {}

        self._segment = Segment(0, 0, {})  # the one in use; its `end` is where the next record goes
        self._handle = -1
        self._limit = 0  # records end here, the mark follows
        self._synced = 0
        self._marked = 0
        self._touched = 0  # everything below was written, be it with zeros

        self._next = -1
        self._next_bytes = 0
        self._space = Space.FULL

        self._records = self._bytes = self._syncs = self._marks = self._released = 0

    @staticmethod
    def exists(files: Files) -> bool:
        """True if a log was created in this directory."""
        with failing("list the log"):
            return bool(segment_ids(files.listdir()))

    @classmethod
    def create(
        cls, files: Files, identity: WalIdentity, state: Sequence[Record], options: WalOptions | None = None
    ) -> Wal:
        """Begin a log with this state, durable when it returns. LocalError if there is one already."""
        if cls.exists(files):
            raise LocalError("there is a log in this directory already: open it")
        _, newest, _ = _summary(state)
        if len(newest) != len(state):
            raise LocalError("the first state must be records of state, one for each group and kind")
        wal = cls(files, identity, options or WalOptions(), newest)
        wal._begin_first(0, 0, ())
        return wal

    @classmethod
    def open(
        cls, files: Files, identity: WalIdentity | None, options: WalOptions | None = None
    ) -> tuple[Wal, Recovered]:
        """Read the log (see `recover` for errors) and begin a new segment in it.

        Records whose sync is not proven are written once more, into the new segment: after a failed sync the
        operating system may show bytes that are not on the disk.
        """
        with failing("sync the directory"):
            files.fsync_dir()  # a name that was seen must not vanish after newer ones were made
        recovered = recover(files, identity)
        wal = cls(files, recovered.identity, options or WalOptions(), recovered.proven_state.copy())
        wal._closed = recovered.segments.copy()
        last = recovered.segments[-1]
        wal._begin_first(last.id, last.end, recovered.unproven)
        return wal, recovered

    @property
    def space(self) -> Space:
        """FULL while the next segment could not be claimed: the host must take no new entries."""
        return self._space

    @property
    def counters(self) -> tuple[int, int, int, int, int, int]:
        """The fields of `stats`, for whoever notes them after each batch."""
        return self._records, self._bytes, self._syncs, self._marks, len(self._closed) + 1, self._released

    @property
    def stats(self) -> WalStats:
        """Counters since the log was opened."""
        return WalStats(*self.counters)

    def append(self, records: Sequence[Record]) -> None:
        """Write records behind the last ones. They are durable after the next `sync`.

        A crash before that keeps any prefix of them. Full: the disk has no room for them; nothing was written, and
        the call may be repeated after `claim`. LocalError: a record is not one that a log may hold.
        """
        self._check()
        size, state, last = _summary(records)
        if self._segment.end + size > self._limit:
            self._cut(size)
        segment = self._segment
        owner = (self._identity.cluster, self._identity.node)
        buffers = encode_records(*owner, segment.id, segment.end, self._synced, records)
        end = segment.end + size
        if end > self._touched:
            ahead = min(ZERO_AHEAD_BYTES, self._limit - end) if size <= _SMALL_BATCH_BYTES else 0
            buffers.append(_ZEROS[:ahead])
            self._touched = end + ahead
        try:
            self._files.pwritev(self._handle, buffers, segment.end)
        except OSError as error:
            raise self._fail("write", error) from error
        self._grown(size, state, last)
        self._records += len(records)
        self._bytes += size

    def sync(self) -> None:
        """Make durable what was appended. No I/O if there is nothing new."""
        self._check()
        if self._synced < self._segment.end:
            self._fdatasync()
            self._synced = self._segment.end

    def mark(self) -> None:
        """Prove the last sync, so that rot in what it made durable is told from a torn tail. No I/O if it is proven.

        Each batch proves the one before it, so this is for the end of a burst. It stands in the last page of the
        segment, because one bad sector must not take both a record and its proof.
        """
        self.sync()
        if self._marked == self._synced:
            return
        owner = (self._identity.cluster, self._identity.node)
        buffers = encode_records(*owner, self._segment.id, self._limit, self._synced, [(MARK, 0, b"")])
        try:
            self._files.pwritev(self._handle, buffers, self._limit)
        except OSError as error:
            raise self._fail("write", error) from error
        self._fdatasync()
        self._marked = self._synced
        self._marks += 1

    def claim(self) -> Space:
        """Claim the next segment, if that is not done yet, and return the new `space`."""
        self._check()
        self._space = Space.OK if self._claim(self._options.segment_bytes) else Space.FULL
        if self._space is Space.FULL:
            self._claim(self._options.reserve_bytes)
        return self._space

    def release(self, group: int, index: int) -> int:
        """Entries of the group up to index are not needed any more: delete segments that hold nothing else.

        Oldest first and each one durably before the next, so that a crash never leaves a gap. Returns how many went.
        """
        self._check()
        self._released_index[group] = max(index, self._released_index.get(group, 0))
        count = 0
        while self._closed and all(
            last <= self._released_index.get(each, 0) for each, last in self._closed[0].last.items()
        ):
            try:
                self._files.unlink(segment_name(self._closed[0].id))
                self._files.fsync_dir()
            except OSError as error:
                raise self._fail("delete a segment", error) from error
            del self._closed[0]
            count += 1
        self._released += count
        return count

    def close(self) -> None:
        """Give the files back. What was not synced may be lost; what was is there at the next open."""
        if self._failed is None:
            self._failed = StorageError("the log is closed")
        handles, self._handle, self._next = (self._handle, self._next), -1, -1
        with failing("close the log"):
            for handle in handles:
                if handle >= 0:
                    self._files.close(handle)

    def _check(self) -> None:
        if self._failed is not None:
            raise StorageError(str(self._failed)) from self._failed

    def _fail(self, what: str, error: OSError) -> StorageError:
        """The log has failed for good; the error to raise."""
        name = segment_name(self._segment.id)
        self._failed = StorageError(
            f"the log failed: cannot {what}: {error}. Nothing more is written; check the disk, then start again",
            name,
            self._segment.end,
        )
        return self._failed

    def _fdatasync(self) -> None:
        try:
            self._files.fdatasync(self._handle)
        except OSError as error:
            raise self._fail("sync", error) from error
        self._syncs += 1

    def _grown(self, size: int, state: dict[tuple[int, int], bytes], last: dict[int, int]) -> None:
        """Account for records that were written."""
        segment = self._segment
        segment.end += size
        for (group, kind), content in state.items():
            note_state(self._state, group, kind, content)
        for group, index in last.items():
            segment.last[group] = max(index, segment.last.get(group, 0))

    def _cut(self, size: int) -> None:
        """End the segment in use and go on in the next one, which must have room for `size` bytes."""
        need = _pages(self._head_bytes() + size) + PAGE
        if need > SEGMENT_BYTES_MAX:
            raise LocalError(f"a batch of {size} bytes does not fit into a segment of {SEGMENT_BYTES_MAX}")
        if not self._claim(need):
            self._space = Space.FULL
            raise Full("the disk is full: there is no room for the next segment of the log")
        self.sync()
        old, old_handle = self._segment, self._handle
        self._begin(old.id, old.end, ())
        self._closed.append(old)
        try:
            self._files.truncate(old_handle, old.end)  # the tail that was claimed and not used
            self._files.close(old_handle)
        except OSError as error:
            raise self._fail("cut a segment", error) from error
        self.claim()

    def _begin_first(self, previous: int, previous_end: int, unproven: Sequence[Record]) -> None:
        """Begin the segment of this start of the node; `unproven` are records that go to its head."""
        files, options = self._files, self._options
        size, _, _ = _summary(unproven)
        # At least a page of room: the first records of a start must not meet a full disk at once.
        least = _pages(self._head_bytes() + size) + 2 * PAGE
        with failing("begin a segment of the log"):
            if NEXT in files.listdir():
                files.unlink(NEXT)
        if not self._claim(max(options.first_segment_bytes, least)) and not self._claim(least):
            raise StorageError(f"the disk is full: the log needs {least} bytes to start; free some space first")
        self._begin(previous, previous_end, unproven)
        if previous:
            with failing("cut the last segment", segment_name(previous)):
                handle = files.open(segment_name(previous))
                files.truncate(handle, previous_end)
                files.close(handle)
        self.claim()

    def _begin(self, previous: int, previous_end: int, unproven: Sequence[Record]) -> None:
        """Write the head of `next`, make it durable and give it its name; it is the segment in use then."""
        segment = previous + 1
        copies = [(kind, group, content) for (group, kind), content in self._state.items()]
        place = (segment, previous, previous_end)
        buffers, end = encode_head(self._identity, *place, copies, unproven, self._next_bytes)
        try:
            self._files.pwritev(self._next, buffers, 0)
            self._files.fdatasync(self._next)
            self._files.rename(NEXT, segment_name(segment))
            self._files.fsync_dir()
        except OSError as error:
            raise self._fail("begin a segment", error) from error
        size, state, last = _summary(unproven)
        self._segment = Segment(segment, end - size, {})
        self._grown(size, state, last)
        self._handle, self._limit = self._next, self._next_bytes - PAGE
        self._synced = self._marked = self._touched = end
        self._next, self._next_bytes = -1, 0

    def _claim(self, size: int) -> bool:
        """True if `next` has at least `size` bytes that are its own; False if the disk does not have them."""
        size = _pages(size)
        if self._next_bytes >= size:
            return True
        try:
            if self._next < 0:
                self._next = self._files.open(NEXT, create=True)
            self._files.fallocate(self._next, 0, size)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise self._fail("claim space", error) from error
            self._give_back()
            return False
        self._next_bytes = size
        return True

    def _give_back(self) -> None:
        """After a claim that failed half-way: leave to others what we cannot use."""
        if self._next < 0:
            return
        try:
            self._files.truncate(self._next, self._next_bytes)
        except OSError as error:
            raise self._fail("give back space", error) from error

    def _head_bytes(self) -> int:
        return HEADER_BYTES + sum(record_bytes(content) for content in self._state.values())


def _summary(records: Sequence[Record]) -> tuple[int, dict[tuple[int, int], bytes], dict[int, int]]:
    """(bytes in a file, newest state by (group, kind), last index by group) of records; LocalError if one is wrong."""
    size = 0
    state: dict[tuple[int, int], bytes] = {}
    last: dict[int, int] = {}
    for kind, group, content in records:
        size += record_bytes(content)
        index = check_record(kind, content)
        if index > last.get(group, 0):
            last[group] = index
        elif STATE_KIND_MIN <= kind <= STATE_KIND_MAX:
            note_state(state, group, kind, content)
    return size, state, last


def _pages(size: int) -> int:
    """The size rounded up to whole pages."""
    return -(-size // PAGE) * PAGE
