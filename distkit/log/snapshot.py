"""Snapshot files: written chunk by chunk, verified on every reading, sent to other nodes as they are.

A file has its name only when it is whole and durable; until then it has a temporary one. Nothing in it depends on the
node, so the same bytes serve every member. Bytes: docs/formats.md section 4.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final

from distkit._fast.codec import crc32c
from distkit.core import Files, Full, IdentityError, LocalError, PeerError, StorageError, record
from distkit.core.limits import INDEX_MAX
from distkit.log.wal import NO_SPACE

#: Content of one chunk, and the meta bytes of a snapshot.
CHUNK_BYTES_MAX: Final = 1 << 20
#: Small chunks are gathered up to this size before they are written.
_BUFFER_BYTES: Final = 256 << 10
#: What is written is synced in portions, so that no sync is so long that others on the same disk feel it.
_SYNC_BYTES: Final = 8 << 20

_FORMAT: Final = 1
_MAGIC: Final = b"DKSN"
_NAME = re.compile(r"snap-([0-9a-f]{16})-([0-9a-f]{16})")
_ANY = re.compile(r"snap-[0-9a-f]{16}-[0-9a-f]{16}(\.tmp|\.part)?")
#: Ends the name of a file that is being received.
PART = ".part"
# crc, meta length, magic, format, cluster, index, term, time_us
_HEADER = struct.Struct("<II4sIQQQQ")
# crc, length
_CHUNK = struct.Struct("<II")
# chunks, bytes of their contents
_TRAILER = struct.Struct("<QQ")
# cluster, index, term, offset: in the crc of a chunk, but not in the chunk
_PLACE = struct.Struct("<QQQQ")


@record
class SnapshotInfo:
    """What a snapshot file says about itself. `size` is the length of the file in bytes."""

    name: str
    cluster: int
    index: int
    term: int
    time_us: int
    meta: bytes
    size: int


def snapshot_name(index: int, term: int) -> str:
    """Name of the file of a snapshot."""
    return f"snap-{index:016x}-{term:016x}"


def list_snapshots(files: Files) -> list[tuple[int, int, str]]:
    """(index, term, name) of the finished snapshots, oldest first."""
    with _failing("list the snapshots"):
        matches = [match for name in files.listdir() if (match := _NAME.fullmatch(name))]
    return sorted((int(match[1], 16), int(match[2], 16), match[0]) for match in matches)


def remove_snapshots(files: Files, keep: Collection[str]) -> None:
    """Delete all snapshot files, unfinished ones included, but for the names to keep, and what is being received under
    these names. Durable when it returns."""
    with _failing("delete snapshots"):
        ours = [name for name in files.listdir() if _ANY.fullmatch(name)]
        gone = [name for name in ours if name not in keep and name.removesuffix(PART) not in keep]
        for name in gone:
            files.unlink(name)
        if gone:
            files.fsync_dir()


class SnapshotWriter:
    """Writes a snapshot of the local state. The host calls `write` in slices between other work, then `finish`.

    Full: the disk has no room; call `abort` and try later. StorageError: the disk failed.
    """

    def __init__(self, files: Files, cluster: int, index: int, term: int, time_us: int, meta: bytes) -> None:
        if not 0 <= index <= INDEX_MAX or not 0 <= term <= INDEX_MAX or len(meta) > CHUNK_BYTES_MAX:
            raise LocalError("index, term or the length of meta is out of bounds")
        self._files = files
        self._place = (cluster, index, term)
        self._name = snapshot_name(index, term)
        self._count = self._content_bytes = 0
        fields = _HEADER.pack(0, len(meta), _MAGIC, _FORMAT, cluster, index, term, time_us)[4:] + meta
        self._buffer = [crc32c(fields).to_bytes(4, "little") + fields]
        self._buffered = len(self._buffer[0])
        self._written = self._synced = 0
        self._handle = _create(files, self._temporary)

    @property
    def _temporary(self) -> str:
        return self._name + ".tmp"

    def write(self, chunk: bytes) -> None:
        """Add a chunk of 1 byte to CHUNK_BYTES_MAX."""
        if not 1 <= len(chunk) <= CHUNK_BYTES_MAX:
            raise LocalError(f"a chunk of a snapshot has 1 to {CHUNK_BYTES_MAX} bytes, not {len(chunk)}")
        self._add(len(chunk), chunk)
        self._count += 1
        self._content_bytes += len(chunk)
        if self._buffered >= _BUFFER_BYTES:
            self._flush()

    def finish(self) -> SnapshotInfo:
        """Make the file durable and give it its name."""
        self._add(0, _TRAILER.pack(self._count, self._content_bytes))
        self._flush()
        with _failing("finish a snapshot", self._name):
            self._files.fdatasync(self._handle)
            self._files.close(self._handle)
            self._handle = -1
            self._files.rename(self._temporary, self._name)
            self._files.fsync_dir()
        with SnapshotReader(self._files, self._name) as reader:
            return reader.info

    def abort(self) -> None:
        """Remove what was written. Harmless after `finish`."""
        if self._handle < 0:
            return
        with _failing("remove an unfinished snapshot", self._temporary):
            self._files.close(self._handle)
            self._handle = -1
            self._files.unlink(self._temporary)

    def _add(self, length: int, content: bytes) -> None:
        self._buffer += [_chunk_header(self._place, self._written + self._buffered, length, content), content]
        self._buffered += _CHUNK.size + len(content)

    def _flush(self) -> None:
        with _failing("write a snapshot", self._temporary):
            self._files.pwritev(self._handle, self._buffer, self._written)
            self._written += self._buffered
            self._buffer, self._buffered = [], 0
            if self._written - self._synced >= _SYNC_BYTES:
                self._files.fdatasync(self._handle)
                self._synced = self._written


class SnapshotReader:
    """Reads a snapshot file. Iterate over it for the chunks: each is verified before it is given, the whole at the end.

    StorageError names file and offset of whatever does not check. Memory: one chunk.
    """

    def __init__(self, files: Files, name: str) -> None:
        self._files = files
        self._name = name
        with _failing("open a snapshot", name):
            self._handle = files.open(name)
        try:
            self.info = self._read_info()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> SnapshotReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        info = self.info
        place = (info.cluster, info.index, info.term)
        offset = _HEADER.size + len(info.meta)
        count = total = 0
        while True:
            header = self.file_bytes(offset, _CHUNK.size)
            if len(header) < _CHUNK.size:
                raise self._damage("the snapshot has no end", offset)
            _, length = _CHUNK.unpack(header)
            if length > CHUNK_BYTES_MAX:
                raise self._damage("a chunk of the snapshot is damaged", offset)
            content = self.file_bytes(offset + _CHUNK.size, length or _TRAILER.size)
            if len(content) != (length or _TRAILER.size) or header != _chunk_header(place, offset, length, content):
                raise self._damage("a chunk of the snapshot is damaged", offset)
            offset += _CHUNK.size + len(content)
            if not length:
                break
            count += 1
            total += length
            yield content
        if _TRAILER.unpack(content) != (count, total) or offset != info.size:
            raise self._damage("the snapshot is not as long as it says", offset)

    def file_bytes(self, offset: int, size: int) -> bytes:
        """Bytes of the file as they are, to be sent to another node; fewer than `size` only at its end."""
        with _failing("read a snapshot", self._name):
            return self._files.pread(self._handle, size, offset)

    def close(self) -> None:
        """Give the file back."""
        with _failing("close a snapshot", self._name):
            self._files.close(self._handle)

    def _read_info(self) -> SnapshotInfo:
        with _failing("read a snapshot", self._name):
            size = self._files.size(self._handle)
        header = self.file_bytes(0, _HEADER.size)
        if len(header) < _HEADER.size:
            raise self._damage("the header of the snapshot is missing", 0)
        crc, meta_bytes, magic, version, cluster, index, term, time_us = _HEADER.unpack(header)
        if magic != _MAGIC or meta_bytes > CHUNK_BYTES_MAX:
            raise self._damage("the header of the snapshot is damaged", 0)
        meta = self.file_bytes(_HEADER.size, meta_bytes)
        if crc != crc32c(header[4:] + meta):
            raise self._damage("the header of the snapshot is damaged", 0)
        if version != _FORMAT:
            raise IdentityError(
                f"{self._name} has snapshot format {version}, this release reads format {_FORMAT}: it was written by "
                f"another release of distkit; run that one. Nothing was changed"
            )
        return SnapshotInfo(self._name, cluster, index, term, time_us, meta, size)

    def _damage(self, what: str, offset: int) -> StorageError:
        return StorageError(what, self._name, offset)


class SnapshotReceiver:
    """Puts together the file of a snapshot that another node sends as pieces, in order.

    What an earlier attempt at the same snapshot left is taken up at `received`. `size` is the length of the file that
    the sender named. Full and StorageError as in `SnapshotWriter`.
    """

    def __init__(self, files: Files, cluster: int, index: int, term: int, size: int) -> None:
        self._files = files
        self._cluster, self._index, self._term = cluster, index, term
        self._size = size
        self._name = snapshot_name(index, term)
        self._temporary = self._name + PART
        with _failing("receive a snapshot", self._temporary):
            if self._temporary in files.listdir():
                self._handle = files.open(self._temporary)
            else:
                self._handle = files.open(self._temporary, create=True)
            #: The offset at which the next piece must begin.
            self.received = files.size(self._handle)
            if self.received > size:
                files.truncate(self._handle, 0)
                self.received = 0
        self._synced = self.received

    def write(self, offset: int, data: bytes) -> None:
        """Add a piece. PeerError if it is not the next one, or longer than the file is."""
        if offset != self.received:
            raise PeerError(f"a piece of a snapshot at offset {offset}, expected was {self.received}")
        if len(data) > self._size - offset:
            raise PeerError(f"a snapshot is longer than the {self._size} bytes that were named")
        with _failing("receive a snapshot", self._temporary):
            self._files.pwritev(self._handle, [data], offset)
            self.received += len(data)
            if self.received - self._synced >= _SYNC_BYTES:
                self._files.fdatasync(self._handle)
                self._synced = self.received

    def finish(self) -> SnapshotInfo:
        """Verify the whole file, make it durable and give it its name.

        PeerError if it is not the snapshot that was named; it is removed then, and the next attempt starts anew.
        """
        if self.received != self._size:
            raise LocalError(f"the snapshot is not complete: {self.received} of {self._size} bytes")
        with _failing("finish a snapshot", self._temporary):
            self._files.fdatasync(self._handle)
        try:
            self._verify()
        except (StorageError, IdentityError) as error:
            self.abort()
            raise PeerError(f"what a peer sent is not the snapshot that it named: {error}") from error
        self.close()
        with _failing("finish a snapshot", self._name):
            self._files.rename(self._temporary, self._name)
            self._files.fsync_dir()
        with SnapshotReader(self._files, self._name) as reader:
            return reader.info

    def close(self) -> None:
        """Give the file back, keeping what was received for another attempt. Harmless when repeated."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            with _failing("close a snapshot", self._temporary):
                self._files.close(handle)

    def abort(self) -> None:
        """Remove what was received. Harmless after `finish`."""
        if self._handle >= 0:
            self.close()
            with _failing("remove an unfinished snapshot", self._temporary):
                self._files.unlink(self._temporary)

    def _verify(self) -> None:
        with SnapshotReader(self._files, self._temporary) as reader:
            info = reader.info
            if (info.cluster, info.index, info.term) != (self._cluster, self._index, self._term):
                raise StorageError("it is another snapshot", self._temporary)
            for _ in reader:
                pass


def _create(files: Files, name: str) -> int:
    """A new file under a temporary name that an earlier attempt may have left."""
    with _failing("begin a snapshot", name):
        if name in files.listdir():
            files.unlink(name)
        return files.open(name, create=True)


def _chunk_header(place: tuple[int, int, int], offset: int, length: int, content: bytes) -> bytes:
    crc = crc32c(content, crc32c(_PLACE.pack(*place, offset) + length.to_bytes(4, "little")))
    return _CHUNK.pack(crc, length)


@contextmanager
def _failing(what: str, name: str | None = None) -> Iterator[None]:
    """Turn an OSError into Full or the StorageError that says what could not be done."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise Full(f"cannot {what}: the disk is full") from error
        raise StorageError(f"cannot {what}: {error}", name) from error
