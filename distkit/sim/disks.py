"""The disk of a node: what it keeps when the node dies. Two of them behind the same doors.

`RecordDisk` keeps typed records: quick, and a crash keeps any prefix of those that were under way. `WalDisk` keeps
bytes: the write-ahead log and the snapshot files that ship, on `MemoryFiles`, which lose and tear sectors.

A host hands writes over with `submit`. `begin` starts on all that are queued, as one batch; after the time that the
disk takes, `complete` makes them durable and gives them back. A crash in between loses any part of the batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from random import Random
from typing import Any, Protocol

from distkit.codec import Registry
from distkit.core import Full, LocalError, Space, StorageError, Write
from distkit.log import (
    SnapshotReader,
    SnapshotReceiver,
    SnapshotWriter,
    Wal,
    WalIdentity,
    WalOptions,
    remove_snapshots,
    snapshot_name,
)
from distkit.raft.messages import Snapshot
from distkit.replica import RECORDS, Release, SaveSnapshot, decoded, encoded
from distkit.sim.chance import below
from distkit.sim.files import MemoryFiles

CLUSTER = 0xD15C


class Receiver(Protocol):
    """The file of a snapshot that is being fetched."""

    received: int

    def write(self, offset: int, data: bytes) -> None: ...
    def finish(self) -> object: ...
    def close(self) -> None: ...


class Disk(Protocol):
    """What a host does with a disk. StorageError: it has failed, the node must stop."""

    @property
    def space(self) -> Space:
        """FULL: it takes no new entries."""
        ...

    @property
    def full(self) -> bool:
        """There is too little space, on purpose."""
        ...

    def form(self, records: Iterable[Any]) -> None:
        """Make the first records of an empty disk durable."""
        ...

    def boot(self) -> list[Any]:
        """What is durable, as typed records."""
        ...

    def submit(self, write: Write) -> None: ...
    def begin(self) -> bool:
        """Start on what was submitted. False: nothing was, or the disk is at work."""
        ...

    def writes(self, kind: str) -> bool:
        """Whether what is being written has a record of this type; "segment": or begins a segment of a log."""
        ...

    def complete(self) -> list[Write]:
        """The batch is durable."""
        ...

    def claim(self) -> Space:
        """Look for space again."""
        ...

    def idle(self) -> None:
        """Nothing was written for a while: prove the last sync."""
        ...

    def lose(self, random: Random | None) -> None:
        """The process is gone. With `random` the power is, too: of what was not durable any part survives."""
        ...

    def save(self, work: SaveSnapshot) -> Snapshot: ...
    def chunks(self, snapshot: Snapshot) -> Iterator[bytes]: ...
    def read(self, snapshot: Snapshot, offset: int, size: int) -> bytes: ...
    def receiver(self, snapshot: Snapshot) -> Receiver: ...
    def release(self, work: Release) -> None: ...


class RecordDisk:
    """Typed records in a list."""

    def __init__(self) -> None:
        self.space = Space.OK
        self.records: list[Any] = []
        self.files: dict[tuple[int, int], bytes] = {}
        self._queue: list[Write] = []
        self._busy: list[Write] = []

    @property
    def full(self) -> bool:
        return self.space is Space.FULL

    def form(self, records: Iterable[Any]) -> None:
        self.records = list(records)

    def boot(self) -> list[Any]:
        return list(self.records)

    def submit(self, write: Write) -> None:
        self._queue.append(write)

    def begin(self) -> bool:
        if self._busy or not self._queue:
            return False
        self._busy, self._queue = self._queue, []
        return True

    def writes(self, kind: str) -> bool:
        return _has(self._busy, kind)

    def complete(self) -> list[Write]:
        done, self._busy = self._busy, []
        for write in done:
            self.records += write.records
        return done

    def claim(self) -> Space:
        return self.space

    def idle(self) -> None:
        pass

    def lose(self, random: Random | None) -> None:
        under_way = [record for write in self._busy for record in write.records]
        kept = len(under_way) if random is None else below(random, len(under_way) + 1)
        self.records += under_way[:kept]
        self._queue, self._busy = [], []

    def save(self, work: SaveSnapshot) -> Snapshot:
        data = b"".join(len(chunk).to_bytes(4, "little") + chunk for chunk in work.chunks)
        self.files[work.index, work.term] = data
        return Snapshot(work.index, work.term, work.time_us, len(data), 0, work.configuration)

    def chunks(self, snapshot: Snapshot) -> Iterator[bytes]:
        data = self.files[snapshot.index, snapshot.term]
        position = 0
        while position < len(data):
            size = int.from_bytes(data[position : position + 4], "little")
            yield data[position + 4 : position + 4 + size]
            position += 4 + size

    def read(self, snapshot: Snapshot, offset: int, size: int) -> bytes:
        return self.files[snapshot.index, snapshot.term][offset : offset + size]

    def receiver(self, snapshot: Snapshot) -> Receiver:
        return _Received(self, snapshot)

    def release(self, work: Release) -> None:
        keep = {(snapshot.index, snapshot.term) for snapshot in work.keep}
        self.files = {key: data for key, data in self.files.items() if key in keep or key[0] > work.index}


class _Received:
    """A snapshot that is being fetched to a RecordDisk."""

    def __init__(self, disk: RecordDisk, snapshot: Snapshot) -> None:
        self.received = 0
        self._disk = disk
        self._snapshot = snapshot
        self._data = bytearray()

    def write(self, offset: int, data: bytes) -> None:
        self._data += data
        self.received += len(data)

    def finish(self) -> object:
        self._disk.files[self._snapshot.index, self._snapshot.term] = bytes(self._data)
        return None

    def close(self) -> None:
        self._data.clear()


class WalDisk:
    """The log that ships on a disk in memory, driven as the log's thread of a node drives it. `table`: of records."""

    def __init__(
        self, node: int, incarnation: int, options: WalOptions, files: MemoryFiles, table: Registry = RECORDS
    ) -> None:
        self.files = files
        self.torn_bytes = 0
        self._identity = WalIdentity(CLUSTER, node, incarnation)
        self._options = options
        self._table = table
        self._wal: Wal | None = None
        self._queue: deque[Write] = deque()
        self._cuts = False  # the batch under way begins a segment
        self._busy: list[Write] = []

    @property
    def space(self) -> Space:
        return Space.OK if self._wal is None else self._wal.space

    @property
    def full(self) -> bool:
        return self.files.space_bytes is not None

    def form(self, records: Iterable[Any]) -> None:
        Wal.create(self.files, self._identity, encoded(records, table=self._table), self._options).close()

    def boot(self) -> list[Any]:
        self._wal, recovered = Wal.open(self.files, self._identity, self._options)
        self.torn_bytes = recovered.torn_bytes
        return decoded(recovered.records, table=self._table)

    def submit(self, write: Write) -> None:
        self._queue.append(write)

    def begin(self) -> bool:
        if self._busy or not self._queue:
            return False
        segments = self._log.stats.segments
        while self._queue:
            write = self._queue[0]
            try:
                if write.records:
                    self._log.append(encoded(write.records, table=self._table))
            except Full:
                break  # it waits for space; what there was room for goes on
            self._busy.append(self._queue.popleft())
        self._cuts = self._log.stats.segments > segments
        return bool(self._busy)

    def writes(self, kind: str) -> bool:
        return self._cuts if kind == "segment" else _has(self._busy, kind)

    def complete(self) -> list[Write]:
        self._log.sync()
        done, self._busy = self._busy, []
        return done

    def claim(self) -> Space:
        return self._log.claim()

    def idle(self) -> None:
        if not self._busy and self._wal is not None:
            self._wal.mark()

    def lose(self, random: Random | None) -> None:
        self._queue.clear()
        self._busy.clear()
        self._wal = None
        if random is None:
            self.files.kill()
        else:
            self.files.crash(random)

    def save(self, work: SaveSnapshot) -> Snapshot:
        writer = SnapshotWriter(self.files, CLUSTER, work.index, work.term, work.time_us, b"")
        try:
            for chunk in work.chunks:
                writer.write(chunk)
            info = writer.finish()
        except Full:
            writer.abort()
            raise
        return Snapshot(work.index, work.term, work.time_us, info.size, 0, work.configuration)

    def chunks(self, snapshot: Snapshot) -> Iterator[bytes]:
        name = snapshot_name(snapshot.index, snapshot.term)
        if name not in self.files.listdir():
            raise StorageError(f"the log begins after snapshot {snapshot.index}, whose file is missing", name)
        with SnapshotReader(self.files, name) as reader:
            yield from reader

    def read(self, snapshot: Snapshot, offset: int, size: int) -> bytes:
        with SnapshotReader(self.files, snapshot_name(snapshot.index, snapshot.term)) as reader:
            return reader.file_bytes(offset, size)

    def receiver(self, snapshot: Snapshot) -> Receiver:
        return SnapshotReceiver(self.files, CLUSTER, snapshot.index, snapshot.term, snapshot.size)

    def release(self, work: Release) -> None:
        keep = {(snapshot.index, snapshot.term) for snapshot in work.keep}
        newer = snapshot_name(work.index + 1, 0)
        names = {name for name in self.files.listdir() if name >= newer}
        names.update(snapshot_name(*each) for each in keep)
        remove_snapshots(self.files, names)
        self._log.release(0, work.index)

    @property
    def _log(self) -> Wal:
        if self._wal is None:
            raise LocalError("the disk is used before boot")
        return self._wal


def _has(writes: Iterable[Write], kind: str) -> bool:
    """Whether one of them has a record of this type."""
    return any(type(record).__name__ == kind for write in writes for record in write.records)
