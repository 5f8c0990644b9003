"""A data directory that is only looked at: nothing here can change it, and a running node does not notice."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from distkit.core import StorageError


class ReadOnlyFiles:
    """Files of a directory (`distkit.core.Files`) for readers; whatever would change something raises OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        #: Bytes that were read so far.
        self.read_bytes = 0

    def open(self, name: str, create: bool = False) -> int:
        """Open a regular file for reading."""
        if create:
            _refuse()
        # Without O_NONBLOCK a pipe that bears the name of a file would hold us for ever.
        handle = os.open(self._path / name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise OSError(errno.EINVAL, "not a regular file", str(self._path / name))
        return handle

    def close(self, handle: int) -> None:
        """Close a handle."""
        os.close(handle)

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        """Read up to `size` bytes; fewer only at the end of the file."""
        pieces = []
        while size > 0 and (piece := _pread(handle, size, offset)):
            pieces.append(piece)
            size -= len(piece)
            offset += len(piece)
        data = b"".join(pieces)
        self.read_bytes += len(data)
        return data

    def size(self, handle: int) -> int:
        """Length of the file in bytes."""
        return os.fstat(handle).st_size

    def listdir(self) -> list[str]:
        """Names in the directory, sorted."""
        return sorted(os.listdir(self._path))

    def pwritev(self, handle: int, buffers: Sequence[bytes], offset: int) -> None:
        """Refused, as all that follow."""
        _refuse()

    def fallocate(self, handle: int, offset: int, size: int) -> None:
        """Refused."""
        _refuse()

    def truncate(self, handle: int, size: int) -> None:
        """Refused."""
        _refuse()

    def fdatasync(self, handle: int) -> None:
        """Refused."""
        _refuse()

    def rename(self, old: str, new: str) -> None:
        """Refused."""
        _refuse()

    def unlink(self, name: str) -> None:
        """Refused."""
        _refuse()

    def fsync_dir(self) -> None:
        """Refused."""
        _refuse()

    def lock(self, name: str) -> int:
        """Refused: a node that starts at this moment would be turned away."""
        _refuse()


def lock_holder(path: Path) -> int | None:
    """Process id of the node that holds this lock file, 0 if no process that can be seen from here does.

    None where the operating system does not tell. The lock is not touched.
    """
    if sys.platform != "linux":
        return None
    try:
        status = path.stat()
        table = Path("/proc/locks").read_text()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise StorageError(f"cannot see who holds the lock: {error}", path.name) from error
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in table.splitlines():
        words = line.split()  # 1: FLOCK ADVISORY WRITE process place start end
        if len(words) >= 8 and words[5] == place and words[3] == "WRITE":
            return int(words[4])
    return 0


def _pread(handle: int, size: int, offset: int) -> bytes:
    if sys.platform == "win32":
        os.lseek(handle, offset, os.SEEK_SET)
        return os.read(handle, size)
    return os.pread(handle, size, offset)


def _refuse() -> NoReturn:
    raise OSError(errno.EROFS, "the directory is only read here")
