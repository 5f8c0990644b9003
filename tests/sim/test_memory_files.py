"""The disk that forgets: what it keeps, what it may keep, and the faults that it is asked for."""

from __future__ import annotations

import errno
import itertools
from random import Random

import pytest

from distkit.sim import Crashed, MemoryFiles


def written(files: MemoryFiles, name: str, *pieces: bytes, sync: bool = True) -> int:
    """A new file with a durable name, holding pieces of content."""
    handle = files.open(name, create=True)
    files.fsync_dir()
    offset = 0
    for piece in pieces:
        files.pwritev(handle, [piece], offset)
        offset += len(piece)
    if sync:
        files.fdatasync(handle)
    return handle


def test_a_strict_crash_loses_content_and_names_that_were_not_synced() -> None:
    files = MemoryFiles()
    handle = written(files, "kept", b"durable")
    files.pwritev(handle, [b"lost lost"], 4)
    files.open("nameless", create=True)
    files.rename("kept", "renamed")
    assert files.read("renamed") == b"duralost lost"
    files.crash()
    assert files.listdir() == ["kept"]
    assert files.read("kept") == b"durable"


def test_content_without_its_name_and_name_without_its_content() -> None:
    files = MemoryFiles()
    handle = files.open("new", create=True)
    files.pwritev(handle, [b"synced"], 0)
    files.fdatasync(handle)
    files.crash()
    assert files.listdir() == []
    files.open("new", create=True)
    files.pwritev(files.open("new"), [b"not synced"], 0)
    files.fsync_dir()
    files.crash()
    assert files.read("new") == b""


def test_a_crash_keeps_any_sectors_of_a_write_and_any_of_several_writes() -> None:
    states = set()
    for fate in itertools.product((0, 1), repeat=4):
        files = MemoryFiles()
        handle = written(files, "file", bytes(1536))
        files.pwritev(handle, [b"a" * 1024], 0)
        files.pwritev(handle, [b"b" * 1024], 512)
        sectors = iter(fate)
        files.crash_choosing(lambda count, sectors=sectors: next(sectors))
        content = files.read("file")
        states.add(tuple(content[at : at + 512].strip(b"\0")[:1] for at in (0, 512, 1024)))
    assert states == set(itertools.product((b"", b"a"), (b"", b"a", b"b"), (b"", b"b")))


def test_a_torn_sector_may_be_old_new_zeros_or_garbage() -> None:
    states = []
    for fate in range(4):
        files = MemoryFiles()
        files.pwritev(written(files, "file", b"old!"), [b"new!"], 0)
        files.crash_choosing(lambda count, fate=fate: fate if count == 4 else 7)
        states.append(files.read("file"))
    assert states == [b"old!", b"new!", bytes(4), b"\7\7\7\7"]


def test_a_length_may_survive_without_its_content() -> None:
    files = MemoryFiles()
    handle = written(files, "file", b"1234")
    files.fallocate(handle, 0, 1000)
    files.pwritev(handle, [b"x" * 500], 500)
    files.crash_choosing(lambda count: int(count == 2))
    assert files.read("file") == b"1234" + bytes(996)


def test_a_rename_is_lost_or_done_but_never_half() -> None:
    for kept in (0, 1):
        files = MemoryFiles()
        written(files, "old", b"new content")
        written(files, "target", b"old content")
        files.rename("old", "target")
        files.crash_choosing(lambda _, kept=kept: kept)
        if kept:
            assert files.listdir() == ["target"]
            assert files.read("target") == b"new content"
        else:
            assert files.listdir() == ["old", "target"]
            assert files.read("target") == b"old content"


def test_a_later_name_may_survive_without_an_earlier_one() -> None:
    files = MemoryFiles()
    for name in ("first", "second"):
        files.open(name, create=True)
    choices = iter((0, 1))
    files.crash_choosing(lambda _: next(choices))
    assert files.listdir() == ["second"]


def test_the_same_seed_gives_the_same_crash_and_seeds_differ() -> None:
    def state(seed: int) -> bytes:
        files = MemoryFiles()
        files.pwritev(written(files, "file", bytes(8192)), [b"z" * 8192], 0)
        files.crash(Random(seed))
        return files.read("file")

    states = [state(seed) for seed in range(40)]
    assert states == [state(seed) for seed in range(40)]
    assert len(set(states)) > 15
    assert bytes(8192) in states or b"z" * 8192 in states


def test_a_killed_process_loses_nothing_but_its_handles() -> None:
    files = MemoryFiles()
    handle = written(files, "file", b"seen", sync=False)
    lock = files.lock("lock")
    files.kill()
    assert files.read("file") == b"seen"
    with pytest.raises(OSError, match="Bad file"):
        files.size(handle)
    assert files.lock("lock") != lock
    files.crash()
    assert files.read("file") == b""


def test_faults_hit_the_call_that_was_named() -> None:
    files = MemoryFiles()
    handle = written(files, "file", b"abc")
    files.fail("pread", 2, OSError(errno.EIO, "rot"))
    assert files.pread(handle, 3, 0) == b"abc"
    with pytest.raises(OSError, match="rot"):
        files.pread(handle, 3, 0)
    assert files.pread(handle, 3, 0) == b"abc"


def test_a_failed_sync_marks_pages_clean_so_that_the_next_one_succeeds_and_saves_nothing() -> None:
    files = MemoryFiles()
    handle = written(files, "file", b"durable")
    files.pwritev(handle, [b"doomed!"], 0)
    files.fail_sync(1)
    with pytest.raises(OSError, match="Input/output"):
        files.fdatasync(handle)
    files.fdatasync(handle)
    assert files.read("file") == b"doomed!"
    files.crash()
    assert files.read("file") == b"durable"


def test_a_crash_at_a_call_kills_every_later_call_until_the_next_process() -> None:
    files = MemoryFiles()
    handle = written(files, "file")
    files.crash_at(2)
    files.pwritev(handle, [b"1"], 0)
    for call in (lambda: files.pwritev(handle, [b"2"], 0), files.listdir, lambda: files.open("file")):
        with pytest.raises(Crashed):
            call()
    files.crash()
    assert files.listdir() == ["file"]


def test_space_is_counted_over_all_files_and_given_back() -> None:
    files = MemoryFiles(space_bytes=1000)
    first, second = (files.open(name, create=True) for name in ("first", "second"))
    files.fallocate(first, 0, 800)
    files.pwritev(first, [bytes(800)], 0)  # within what was claimed
    with pytest.raises(OSError, match="No space"):
        files.pwritev(second, [bytes(201)], 0)
    with pytest.raises(OSError, match="No space"):
        files.fallocate(second, 0, 300)
    assert files.size(second) == 200
    files.truncate(second, 0)
    files.unlink("first")
    files.fallocate(second, 0, 1000)


def test_flipped_bits_are_seen_and_stay() -> None:
    files = MemoryFiles()
    handle = written(files, "file", b"\0\0\0")
    files.flip("file", 9)
    assert files.pread(handle, 3, 0) == b"\0\2\0"
    files.crash()
    assert files.read("file") == b"\0\2\0"


def test_names_that_are_wrong_raise_what_a_real_disk_raises() -> None:
    files = MemoryFiles()
    files.open("there", create=True)
    with pytest.raises(FileNotFoundError):
        files.open("absent")
    with pytest.raises(FileExistsError):
        files.open("there", create=True)
    with pytest.raises(FileNotFoundError):
        files.unlink("absent")
    with pytest.raises(FileNotFoundError):
        files.rename("absent", "there")
    files.lock("lock")
    with pytest.raises(BlockingIOError):
        files.lock("lock")
