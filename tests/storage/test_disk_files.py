"""Real files do what the protocol says, and what the simulated ones do."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from distkit.core import Files, LocalError
from distkit.sim import MemoryFiles
from distkit.storage import DiskFiles

Make = Callable[[], Files]


@pytest.fixture(params=["disk", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    return DiskFiles(tmp_path) if request.param == "disk" else MemoryFiles()


def test_what_was_written_is_read(files: Files) -> None:
    handle = files.open("file", create=True)
    files.pwritev(handle, [b"one ", b"", b"two ", b"three"], 3)
    files.fdatasync(handle)
    assert files.pread(handle, 100, 0) == b"\0\0\0one two three"
    assert files.pread(handle, 3, 7) == b"two"
    assert files.pread(handle, 10, 16) == b""
    assert files.size(handle) == 16
    files.close(handle)
    assert files.pread(files.open("file"), 3, 3) == b"one"


def test_more_buffers_than_one_call_takes(files: Files) -> None:
    handle = files.open("file", create=True)
    buffers = [number.to_bytes(3, "little") for number in range(5000)]
    files.pwritev(handle, buffers, 0)
    assert files.pread(handle, 20_000, 0) == b"".join(buffers)


def test_claimed_space_reads_as_zero_and_leaves_content_alone(files: Files) -> None:
    handle = files.open("file", create=True)
    files.pwritev(handle, [b"content"], 0)
    files.fallocate(handle, 0, 10_000)
    assert files.pread(handle, 10_000, 0) == b"content" + bytes(9_993)
    files.fallocate(handle, 0, 5_000)
    assert files.size(handle) == 10_000


def test_files_are_cut_and_extended(files: Files) -> None:
    handle = files.open("file", create=True)
    files.pwritev(handle, [b"content"], 0)
    files.truncate(handle, 3)
    files.truncate(handle, 5)
    assert files.pread(handle, 9, 0) == b"con\0\0"


def test_names(files: Files) -> None:
    handle = files.open("b", create=True)
    files.pwritev(handle, [b"b"], 0)
    files.close(files.open("a", create=True))
    files.close(files.open("c", create=True))
    assert files.listdir() == ["a", "b", "c"]
    files.rename("b", "a")
    files.unlink("c")
    files.fsync_dir()
    assert files.listdir() == ["a"]
    assert files.pread(files.open("a"), 1, 0) == b"b"
    with pytest.raises(FileExistsError):
        files.open("a", create=True)
    with pytest.raises(FileNotFoundError):
        files.open("b")
    with pytest.raises(FileNotFoundError):
        files.unlink("b")


def test_a_lock_is_held_until_it_is_closed(files: Files) -> None:
    lock = files.lock("lock")
    with pytest.raises(BlockingIOError):
        files.lock("lock")
    files.close(lock)
    files.close(files.lock("lock"))


def test_a_lock_excludes_other_processes_and_ends_with_its_own(tmp_path: Path) -> None:
    program = (
        "import sys; from distkit.storage import DiskFiles; DiskFiles(sys.argv[1]).lock('lock'); "
        "print('held', flush=True); sys.stdin.read()"
    )
    files = DiskFiles(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError):
            files.lock("lock")
        process.kill()
    files.close(files.lock("lock"))


def test_names_never_leave_the_directory(tmp_path: Path) -> None:
    files = DiskFiles(tmp_path / "data")
    (tmp_path / "outside").write_bytes(b"x")
    (tmp_path / "data" / "link").symlink_to(tmp_path / "outside")
    for name in ("../outside", "", ".", "..", "/etc/passwd", "a/b"):
        with pytest.raises(LocalError):
            files.open(name)
    with pytest.raises(OSError, match="symbolic link"):
        files.open("link")


def test_only_the_owner_can_read_files(tmp_path: Path) -> None:
    DiskFiles(tmp_path).open("file", create=True)
    assert (tmp_path / "file").stat().st_mode & 0o077 == 0


def test_a_path_that_is_no_directory_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path, create in ((tmp_path / "file", True), (tmp_path / "file" / "x", True), (tmp_path / "absent", False)):
        with pytest.raises(LocalError, match="can't be used"):
            DiskFiles(path, create)


def test_a_short_write_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = DiskFiles(tmp_path)
    handle = files.open("file", create=True)
    monkeypatch.setattr(os, "pwritev", lambda *_: 2)
    with pytest.raises(OSError, match="cut short") as caught:
        files.pwritev(handle, [b"abc"], 0)
    assert caught.value.errno == errno.EIO


@pytest.mark.parametrize("number", [None, errno.EOPNOTSUPP, errno.EINVAL])
def test_without_a_call_for_it_space_is_claimed_by_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(number, "not here")

    if number is None:
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", refuse)
    files = DiskFiles(tmp_path)
    handle = files.open("file", create=True)
    files.pwritev(handle, [b"content"], 0)
    files.fallocate(handle, 0, 3 << 20)
    assert files.pread(handle, 4 << 20, 0) == b"content".ljust(3 << 20, b"\0")
    assert (tmp_path / "file").stat().st_blocks * 512 >= 3 << 20


def test_a_full_disk_is_not_mistaken_for_a_system_without_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", full)
    files = DiskFiles(tmp_path)
    handle = files.open("file", create=True)
    with pytest.raises(OSError, match="full"):
        files.fallocate(handle, 0, 1 << 20)
    assert files.size(handle) == 0
