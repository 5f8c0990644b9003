"""The only door to a disk: an os-like object. `storage` has the real one, `sim` the one that fails on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Files(Protocol):
    """Files of one data directory. Paths are names relative to it, without separators.

    Every method may raise OSError (ENOSPC, EIO, ENOENT ...), which callers turn into StorageError. Nothing is
    durable before `fdatasync` of the file (content) or `fsync_dir` (names: create, rename, unlink) returned.
    """

    def open(self, name: str, create: bool = False) -> int:
        """Open for reading and writing and return a handle. `create` makes a new file and refuses an existing one."""
        ...

    def close(self, handle: int) -> None:
        """Close a handle; content that was not synced stays not durable."""
        ...

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        """Read up to `size` bytes; fewer only at the end of the file."""
        ...

    def pwritev(self, handle: int, buffers: Sequence[bytes], offset: int) -> None:
        """Write all buffers one after the other at `offset`, or raise. A short write is an error (EIO)."""
        ...

    def fallocate(self, handle: int, offset: int, size: int) -> None:
        """Claim space, so that later writes into it cannot meet ENOSPC; new bytes read as zero."""
        ...

    def truncate(self, handle: int, size: int) -> None:
        """Cut or extend (with zeros) the file."""
        ...

    def size(self, handle: int) -> int:
        """Length of the file in bytes."""
        ...

    def fdatasync(self, handle: int) -> None:
        """Make content and length durable. After a failure the handle must never be synced again."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Atomically give a file a new name, replacing what had it."""
        ...

    def unlink(self, name: str) -> None:
        """Remove a name."""
        ...

    def fsync_dir(self) -> None:
        """Make all names of the directory durable."""
        ...

    def listdir(self) -> list[str]:
        """Names in the directory, sorted."""
        ...

    def lock(self, name: str) -> int:
        """Create or open `name` and hold it exclusively until `close` or process end. BlockingIOError if it is held."""
        ...
