"""Files of a data directory on a real disk."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from distkit.core import LocalError

#: Buffers that one pwritev may take (IOV_MAX on Linux and macOS).
_BUFFERS_MAX = 1024
#: Zeros are written in pieces of this size where the system can't claim space otherwise.
_ZEROS = bytes(1 << 20)
_CANNOT_CLAIM = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class DiskFiles:
    """`distkit.core.Files` over one directory. Handles are file descriptors; every error is an OSError.

    LocalError if the path is not a directory that can be used.
    """

    def __init__(self, path: str | Path, create: bool = True) -> None:
        self.path = Path(path)
        try:
            if create:
                self.path.mkdir(parents=True, exist_ok=True)
            self._directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise LocalError(f"the data directory {self.path} can't be used: {error.strerror}") from error

    def open(self, name: str, create: bool = False) -> int:
        """Open a file; with `create` it must not exist."""
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        if create:
            flags |= os.O_CREAT | os.O_EXCL
        return os.open(_checked(name), flags, 0o600, dir_fd=self._directory)

    def close(self, handle: int | None = None) -> None:
        """Close a file; without a handle, the directory."""
        os.close(self._directory if handle is None else handle)

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        """Read up to `size` bytes; fewer only at the end of the file."""
        data = os.pread(handle, size, offset)
        if len(data) == size or not data:
            return data
        pieces = [data]
        got = len(data)
        while got < size and (data := os.pread(handle, size - got, offset + got)):
            pieces.append(data)
            got += len(data)
        return b"".join(pieces)

    def pwritev(self, handle: int, buffers: Sequence[bytes], offset: int) -> None:
        """Write all buffers, or raise."""
        for start in range(0, len(buffers), _BUFFERS_MAX):
            part = buffers[start : start + _BUFFERS_MAX]
            size = sum(map(len, part))
            if os.pwritev(handle, part, offset) != size:
                raise OSError(errno.EIO, "a write was cut short")
            offset += size

    def fallocate(self, handle: int, offset: int, size: int) -> None:
        """Claim space. Where the system or the file system can't, by writing zeros behind the end."""
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(handle, offset, size)
            except OSError as error:
                if error.errno not in _CANNOT_CLAIM:
                    raise
            else:
                return
        end = os.fstat(handle).st_size
        while end < offset + size:
            end += os.pwrite(handle, _ZEROS[: offset + size - end], end)

    def truncate(self, handle: int, size: int) -> None:
        """Cut or extend the file."""
        os.ftruncate(handle, size)

    def size(self, handle: int) -> int:
        """Length of the file."""
        return os.fstat(handle).st_size

    def fdatasync(self, handle: int) -> None:
        """Make content and length durable."""
        if sys.platform == "darwin":
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)  # fsync leaves the data in the drive's cache there
        else:
            os.fdatasync(handle)

    def rename(self, old: str, new: str) -> None:
        """Give a file a new name, replacing what had it."""
        os.rename(_checked(old), _checked(new), src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def unlink(self, name: str) -> None:
        """Remove a name."""
        os.unlink(_checked(name), dir_fd=self._directory)

    def fsync_dir(self) -> None:
        """Make the names durable."""
        os.fsync(self._directory)

    def listdir(self) -> list[str]:
        """Names in the directory, sorted."""
        return sorted(os.listdir(self._directory))

    def lock(self, name: str) -> int:
        """Hold a file exclusively until `close` or the end of the process. BlockingIOError if another holds it."""
        handle = os.open(_checked(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=self._directory)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise
        return handle


def _checked(name: str) -> str:
    if not name or "/" in name or name in (".", ".."):
        raise LocalError(f"{name!r} is not the name of a file in the data directory")
    return name
