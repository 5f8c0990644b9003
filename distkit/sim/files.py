"""A disk that forgets: files in memory whose content and names are durable only as far as the `Files` protocol says.

    files = MemoryFiles()
    ... write through it ...
    files.crash()                 # strict: whatever was not synced is gone, content and names
    files.crash(rng)              # any subset of it survives, sector by sector, names apart from content

Each file has what a reader sees and what is on the disk, and between them the operations since the last sync, in
order. A crash keeps any of them: later ones without earlier ones, a length without its content, a name without its
file's bytes. A sector that was being written may also hold zeros or garbage afterwards. Faults are asked for by call:
`fail`, `fail_sync`, `crash_at`, `space_bytes`, `flip`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

#: What a disk writes as a whole, or not.
SECTOR_BYTES: Final = 512

#: Picks one of n: chance in a simulation, each in turn in an enumeration.
Choose = Callable[[int], int]


class Crashed(Exception):
    """The process died in this call. Every further call raises it, until `MemoryFiles.crash` or `kill`."""


class _File:
    """One file: what is on the disk, what a reader sees, and the operations between the two."""

    def __init__(self) -> None:
        self.disk = bytearray()
        self.seen = bytearray()
        self.pending: list[tuple[int, bytes]] = []  # (offset, data) in order; (new length, b"") for truncate, fallocate

    def write(self, offset: int, data: bytes) -> None:
        self.pending.append((offset, data))
        _write(self.seen, offset, data)

    def resize(self, size: int) -> None:
        self.pending.append((size, b""))
        _resize(self.seen, size)

    def sync(self) -> None:
        for offset, data in self.pending:
            if data:
                _write(self.disk, offset, data)
            else:
                _resize(self.disk, offset)
        self.pending.clear()

    def crash(self, choose: Choose) -> None:
        """Keep any part of the pending operations."""
        for offset, data in self.pending:
            if not data:
                if choose(2):
                    _resize(self.disk, offset)
                continue
            position = 0
            while position < len(data):
                size = min(SECTOR_BYTES - (offset + position) % SECTOR_BYTES, len(data) - position)
                self._keep(offset + position, data[position : position + size], choose)
                position += size
        self.lose()

    def lose(self) -> None:
        """What was not synced is gone."""
        self.seen = bytearray(self.disk)
        self.pending.clear()

    def _keep(self, offset: int, sector: bytes, choose: Choose) -> None:
        fate = choose(4)
        if fate == 1:
            _write(self.disk, offset, sector)
        elif fate == 2:
            _write(self.disk, offset, bytes(len(sector)))
        elif fate == 3:
            garbage = bytes(choose(256) for _ in range(min(8, len(sector))))
            _write(self.disk, offset, garbage.ljust(len(sector), b"\xa5"))


class MemoryFiles:
    """The `Files` of one data directory, in memory. Deterministic: chance comes from what is passed in."""

    def __init__(self, space_bytes: int | None = None) -> None:
        #: All files together may take this much; a call that needs more raises ENOSPC. May be changed at any time.
        self.space_bytes = space_bytes
        #: With `tracing`, (call, name) of every call in order.
        self.calls: list[tuple[str, str]] = []
        self.tracing = False
        self._names: dict[str, _File] = {}
        self._disk_names: dict[str, _File] = {}
        self._pending_names: list[dict[str, _File | None]] = []  # each one atomic
        self._handles: dict[int, tuple[_File, str]] = {}
        self._locks: dict[int, str] = {}
        self._opened = 0
        self._faults: list[_Fault] = []
        self._dead = False

    # Faults

    def fail(self, call: str, nth: int, error: Exception) -> None:
        """The nth (from 1) call from now of this kind ("*": of any kind) raises the error and does nothing."""
        self._faults.append(_Fault(call, nth, error))

    def fail_sync(self, nth: int) -> None:
        """The nth fdatasync from now raises EIO and marks the pages clean: readers see them, the disk never will."""
        self._faults.append(_Fault("fdatasync", nth, OSError(errno.EIO, os.strerror(errno.EIO)), cleans=True))

    def misdirect(self, nth: int, sectors: int) -> None:
        """The nth pwritev from now goes so many sectors further than asked, and says that all is well; 0: nowhere."""
        self._faults.append(_Fault("pwritev", nth, OSError(), sectors=sectors))

    def calm(self) -> None:
        """No fault that was asked for and has not struck yet will."""
        self._faults.clear()

    def crash_at(self, nth: int) -> None:
        """The process dies in the nth call from now, before that call had any effect."""
        self.fail("*", nth, Crashed(f"crash at call {nth}"))

    def crash(self, rng: Random | None = None) -> None:
        """Lose the process and the power. Without `rng` every byte and name that was not synced is gone.

        With it, any part of them survives; how much differs from crash to crash, nothing and all included.
        """
        if rng is None:
            self.crash_choosing(lambda _: 0)
            return
        severity = rng.random() * 1.5 - 0.25  # below 0: all of it survives, above 1: none of it

        def choose(count: int) -> int:
            if count == 256:
                return rng.getrandbits(8)
            if rng.random() < severity:
                return 0 if count == 2 or rng.random() < 0.5 else 2 + rng.getrandbits(1)
            return 1

        self.crash_choosing(choose)

    def crash_choosing(self, choose: Choose) -> None:
        """Lose the process and the power; `choose` picks the fate of each pending operation.

        choose(2): 0 lost, 1 kept. choose(4), for a sector: 0 old, 1 new, 2 zeros, 3 garbage (choose(256) a byte).
        """
        for change in self._pending_names:
            if choose(2):
                _rename(self._disk_names, change)
        every = {id(file): file for file in [*self._disk_names.values(), *self._names.values()]}
        for file in every.values():
            file.crash(choose)
        self._names = self._disk_names.copy()
        self._pending_names.clear()
        self.kill()

    def kill(self) -> None:
        """Lose the process only: what was written stays, as after kill -9."""
        self._handles.clear()
        self._locks.clear()
        self._faults.clear()
        self._dead = False

    # What a test looks at or breaks

    def read(self, name: str) -> bytes:
        """The whole content of a file."""
        return bytes(self._names[name].seen)

    def replace(self, name: str, data: bytes) -> None:
        """Make `data` the durable content of a file, which is made if it is not there."""
        file = self._names.setdefault(name, _File())
        self._disk_names[name] = file
        file.disk = bytearray(data)
        file.lose()

    def remove(self, name: str) -> None:
        """A file is gone, durably."""
        del self._names[name]
        self._disk_names.pop(name, None)

    def flip(self, name: str, bit: int) -> None:
        """Flip one bit of a file, counted from its start, on the disk and for readers."""
        file = self._names[name]
        for image in (file.disk, file.seen):
            if bit // 8 < len(image):
                image[bit // 8] ^= 1 << bit % 8

    def used(self) -> int:
        """Bytes of all files."""
        return sum(len(file.seen) for file in self._names.values())

    def copy(self) -> MemoryFiles:
        """Another disk with what is durable on this one."""
        other = MemoryFiles(self.space_bytes)
        for name, file in self._disk_names.items():
            other.replace(name, bytes(file.disk))
        return other

    # The Files protocol

    def open(self, name: str, create: bool = False) -> int:
        self._call("open", name)
        if create:
            if name in self._names:
                raise _error(errno.EEXIST, name)
            self._rename({name: _File()})
        return self._handle(self._named(name), name)

    def close(self, handle: int) -> None:
        _, name = self._opened_file(handle)
        self._call("close", name)
        del self._handles[handle]
        self._locks.pop(handle, None)

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        file, name = self._opened_file(handle)
        self._call("pread", name)
        return bytes(file.seen[offset : offset + size])

    def pwritev(self, handle: int, buffers: Sequence[bytes], offset: int) -> None:
        file, name = self._opened_file(handle)
        data = b"".join(buffers)
        try:
            self._call("pwritev", name)
        except _Misdirected as error:
            if error.sectors == 0:
                return
            offset += SECTOR_BYTES * error.sectors
        self._need(file, offset + len(data), name)
        if data:
            file.write(offset, data)

    def fallocate(self, handle: int, offset: int, size: int) -> None:
        file, name = self._opened_file(handle)
        self._call("fallocate", name)
        try:
            self._need(file, offset + size, name)
        except OSError:
            if self._left() > 0:
                file.resize(len(file.seen) + self._left())  # as real ones do: it takes what there is, and fails
            raise
        if offset + size > len(file.seen):
            file.resize(offset + size)

    def truncate(self, handle: int, size: int) -> None:
        file, name = self._opened_file(handle)
        self._call("truncate", name)
        self._need(file, size, name)
        file.resize(size)

    def size(self, handle: int) -> int:
        file, name = self._opened_file(handle)
        self._call("size", name)
        return len(file.seen)

    def fdatasync(self, handle: int) -> None:
        file, name = self._opened_file(handle)
        try:
            self._call("fdatasync", name)
        except _PagesClean as error:
            file.pending.clear()
            raise error.error from None
        file.sync()

    def rename(self, old: str, new: str) -> None:
        self._call("rename", new)
        self._rename({old: None, new: self._named(old)})

    def unlink(self, name: str) -> None:
        self._call("unlink", name)
        self._named(name)
        self._rename({name: None})

    def fsync_dir(self) -> None:
        self._call("fsync_dir", "")
        self._disk_names = self._names.copy()
        self._pending_names.clear()

    def listdir(self) -> list[str]:
        self._call("listdir", "")
        return sorted(self._names)

    def lock(self, name: str) -> int:
        self._call("lock", name)
        if name in self._locks.values():
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), name)
        if name not in self._names:
            self._rename({name: _File()})
        handle = self._handle(self._named(name), name)
        self._locks[handle] = name
        return handle

    def _call(self, call: str, name: str) -> None:
        """Count a call, and raise what was asked for."""
        if self._dead:
            raise Crashed("the process is dead")
        if self.tracing:
            self.calls.append((call, name))
        for fault in self._faults:
            if fault.call in (call, "*"):
                fault.left -= 1
                if fault.left == 0:
                    self._dead = isinstance(fault.error, Crashed)
                    if fault.sectors is not None:
                        raise _Misdirected(fault.sectors)
                    raise _PagesClean(fault.error) if fault.cleans else fault.error

    def _need(self, file: _File, size: int, name: str) -> None:
        """Raise ENOSPC if the file cannot grow to this size."""
        if self.space_bytes is not None and size - len(file.seen) > max(0, self._left()):
            raise _error(errno.ENOSPC, name)

    def _left(self) -> int:
        """Space that nobody has claimed."""
        return (self.space_bytes or 0) - self.used()

    def _rename(self, change: dict[str, _File | None]) -> None:
        self._pending_names.append(change)
        _rename(self._names, change)

    def _named(self, name: str) -> _File:
        if name not in self._names:
            raise _error(errno.ENOENT, name)
        return self._names[name]

    def _handle(self, file: _File, name: str) -> int:
        self._opened += 1
        self._handles[self._opened] = (file, name)
        return self._opened

    def _opened_file(self, handle: int) -> tuple[_File, str]:
        if self._dead:
            raise Crashed("the process is dead")
        if handle not in self._handles:
            raise _error(errno.EBADF, str(handle))
        return self._handles[handle]


class _Fault:
    """One fault that waits for its call."""

    def __init__(self, call: str, nth: int, error: Exception, cleans: bool = False, sectors: int | None = None) -> None:
        self.call = call
        self.left = nth
        self.error = error
        self.cleans = cleans
        self.sectors = sectors


class _PagesClean(Exception):
    """Tells `fdatasync` that the fault at hand drops the pages too."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Misdirected(Exception):
    """Tells `pwritev` that the fault at hand moves the write."""

    def __init__(self, sectors: int) -> None:
        self.sectors = sectors


def _rename(names: dict[str, _File], change: dict[str, _File | None]) -> None:
    for name, file in change.items():
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file


def _write(image: bytearray, offset: int, data: bytes) -> None:
    if offset > len(image):
        _resize(image, offset)
    image[offset : offset + len(data)] = data


def _resize(image: bytearray, size: int) -> None:
    if size < len(image):
        del image[size:]
    else:
        image.extend(bytes(size - len(image)))


def _error(number: int, name: str) -> OSError:
    return OSError(number, os.strerror(number), name)
