"""The identity of a directory: one process, one node, one incarnation, and no promise forgotten."""

from __future__ import annotations

import errno

import pytest
from logs import FIRST_STATE, SMALL, image

from distkit._fast.codec import crc32c
from distkit.core import IdentityError, LocalError, StorageError
from distkit.log import Wal, WalIdentity, open_identity
from distkit.sim import Crashed, MemoryFiles


def test_an_empty_directory_takes_the_new_incarnation_and_each_start_is_counted() -> None:
    files = MemoryFiles()
    for boot in (1, 2, 3):
        identity = open_identity(files, 7, 100 + boot)
        assert (identity.node, identity.incarnation, identity.boot, identity.cluster) == (7, 101, boot, 0)
        identity.close()


def test_a_crash_at_any_call_leaves_the_old_identity_or_the_new_one() -> None:
    base = MemoryFiles()
    open_identity(base, 7, 101).close()
    for nth in range(1, 20):
        files = base.copy()
        files.crash_at(nth)
        try:
            identity = open_identity(files, 7, 102)
            identity.close()
        except Crashed:
            pass
        files.crash()
        identity = open_identity(files, 7, 103)
        assert identity.incarnation == 101
        assert identity.boot in (2, 3)


def test_no_identity_is_used_before_it_is_durable() -> None:
    for nth in range(1, 20):
        files = MemoryFiles()
        files.crash_at(nth)
        try:
            used = open_identity(files, 7, 101).incarnation
        except Crashed:
            used = None
        files.crash()
        assert open_identity(files, 7, 102).incarnation in ((101, 102) if used is None else (101,))


def test_a_cluster_is_joined_once() -> None:
    files = MemoryFiles()
    identity = open_identity(files, 7, 101)
    Wal.create(files, WalIdentity(0xC1, 7, 101), FIRST_STATE, SMALL).close()
    identity.formed(0xC1)
    identity.formed(0xC1)
    with pytest.raises(LocalError, match="cannot join"):
        identity.formed(0xC2)
    files.crash()
    assert open_identity(files, 7, 102).cluster == 0xC1


def test_another_nodes_directory_is_refused_untouched_and_unlocked() -> None:
    files = MemoryFiles()
    open_identity(files, 7, 101).close()
    before = image(files)
    with pytest.raises(IdentityError, match="belongs to node 7, not to node 8"):
        open_identity(files, 8, 102)
    assert image(files) == before
    open_identity(files, 7, 103).close()


def test_a_newer_format_is_refused_untouched() -> None:
    files = MemoryFiles()
    open_identity(files, 7, 101).close()
    data = bytearray(files.read("identity"))
    data[8] = 2
    files.replace("identity", crc32c(bytes(data[4:])).to_bytes(4, "little") + data[4:])
    before = image(files)
    with pytest.raises(IdentityError, match="format 2, this release reads format 1"):
        open_identity(files, 7, 102)
    assert image(files) == before


def test_every_flipped_bit_and_every_length_is_refused_with_what_to_do() -> None:
    files = MemoryFiles()
    open_identity(files, 7, 101).close()
    data = files.read("identity")
    for bit in range(8 * len(data)):
        files.flip("identity", bit)
        with pytest.raises(IdentityError, match="replace this member"):
            open_identity(files, 7, 102)
        files.flip("identity", bit)
    for size in range(len(data)):
        files.replace("identity", data[:size])
        with pytest.raises(IdentityError, match="replace this member"):
            open_identity(files, 7, 102)


def test_a_log_without_identity_and_a_member_without_log_are_refused() -> None:
    files = MemoryFiles()
    identity = open_identity(files, 7, 101)
    Wal.create(files, WalIdentity(0xC1, 7, 101), FIRST_STATE, SMALL).close()
    identity.formed(0xC1)
    identity.close()
    without_identity, without_log = files.copy(), files.copy()
    without_identity.remove("identity")
    with pytest.raises(IdentityError, match="holds a log"):
        open_identity(without_identity, 7, 102)
    for name in without_log.listdir():
        if name.startswith("wal-"):
            without_log.remove(name)
    with pytest.raises(IdentityError, match="the log is gone"):
        open_identity(without_log, 7, 102)


@pytest.mark.parametrize("call", ["listdir", "open", "pwritev", "fdatasync", "rename", "fsync_dir"])
def test_errors_of_the_disk_stop_the_start_and_give_the_lock_back(call: str) -> None:
    files = MemoryFiles()
    files.fail(call, 1, OSError(errno.EIO, "no"))
    with pytest.raises(StorageError):
        open_identity(files, 7, 101)
    open_identity(files, 7, 102).close()


def test_an_incarnation_is_a_number_of_64_bits_that_is_not_zero() -> None:
    for incarnation in (0, 1 << 64, -1):
        with pytest.raises(LocalError):
            open_identity(MemoryFiles(), 7, incarnation)
