"""The disks of the simulator: what was completed stays, of what was under way any part, and both behave alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from distkit._fast.codec import encode_block
from distkit.core import Configuration, LocalError, Member, Space, StorageError, Write
from distkit.log import WalOptions
from distkit.raft import Snapshot, formation_records
from distkit.raft.messages import Entries, HardState, SnapshotMark
from distkit.replica import Release, SaveSnapshot
from distkit.sim.disks import RecordDisk, WalDisk
from distkit.sim.files import MemoryFiles

CONFIGURATION = Configuration(1, (Member(1, 1001, "127.0.0.1:7101"),))
FIRST = tuple(formation_records(CONFIGURATION))
OPTIONS = WalOptions(first_segment_bytes=1 << 14, segment_bytes=1 << 14, reserve_bytes=2048)

Disk = RecordDisk | WalDisk
Make = Callable[[], Disk]


def record_disk() -> Disk:
    return RecordDisk()


def wal_disk() -> Disk:
    return WalDisk(1, 1001, OPTIONS, MemoryFiles())


both = pytest.mark.parametrize("make", [record_disk, wal_disk])


def booted(make: Make) -> Disk:
    disk = make()
    disk.form(FIRST)
    assert tuple(disk.boot()) == FIRST
    return disk


def entry(index: int, size: int = 20, term: int = 1) -> Entries:
    return Entries(encode_block(term, index, 1000 + index, b"\1", [bytes([index % 256]) * size]))


def write(number: int, size: int = 20) -> Write:
    """Entry `number`, with a hard state before it as machines write it."""
    return Write(number, (HardState(1, 1, 0), entry(number, size)), ((2, f"then {number}"),))


def content(disk: Disk) -> list[Any]:
    """Records besides the first ones; the log repeats state at each start, so hard states are as good as their last."""
    found = list(disk.boot())
    return [each for each in found if isinstance(each, Entries)]


def entries(*numbers: int, size: int = 20) -> list[Any]:
    return [entry(number, size) for number in numbers]


def put(disk: Disk, *writes: Write) -> list[Write]:
    for each in writes:
        disk.submit(each)
    assert disk.begin()
    return disk.complete()


@both
def test_a_batch_is_what_was_submitted_before_it_begins(make: Make) -> None:
    disk = booted(make)
    assert not disk.begin()
    one, two, three = write(1), write(2), write(3)
    disk.submit(one)
    disk.submit(two)
    assert disk.begin()
    disk.submit(three)
    assert not disk.begin()  # it is at work
    assert disk.complete() == [one, two]
    assert disk.begin()
    assert disk.complete() == [three]
    assert not disk.begin()
    disk.lose(None)
    assert content(disk) == entries(1, 2, 3)


@both
def test_a_write_without_records_takes_its_turn(make: Make) -> None:
    disk = booted(make)
    empty = Write(2, (), ((2, "only a message"),))
    assert put(disk, write(1), empty) == [write(1), empty]
    assert put(disk, empty) == [empty]


@both
def test_what_was_completed_survives_every_loss_of_power(make: Make) -> None:
    for seed in range(40):
        disk = booted(make)
        for number in range(1, 6):
            put(disk, write(number))
        disk.submit(write(6))
        disk.lose(Random(seed))
        assert content(disk) == entries(1, 2, 3, 4, 5)  # what waited behind was never on its way


@both
def test_of_what_was_under_way_a_prefix_survives(make: Make) -> None:
    lengths = set()
    for seed in range(60):
        disk = booted(make)
        put(disk, write(1))
        for number in (2, 3, 4):
            disk.submit(write(number))
        assert disk.begin()
        disk.lose(Random(seed))
        found = content(disk)
        assert found == entries(1, 2, 3, 4)[: len(found)]
        lengths.add(len(found))
        assert put(disk, write(len(found) + 1)) == [write(len(found) + 1)]  # and it goes on
        disk.lose(Random(seed + 1))
        assert content(disk) == entries(*range(1, len(found) + 2))
    assert {1, 4} <= lengths
    assert len(lengths) > 2


@both
def test_a_kill_loses_nothing_that_was_begun(make: Make) -> None:
    disk = booted(make)
    disk.submit(write(1))
    assert disk.begin()
    disk.submit(write(2))
    disk.lose(None)
    assert content(disk) == entries(1)


@both
def test_the_last_hard_state_is_found(make: Make) -> None:
    disk = booted(make)
    put(disk, Write(1, (HardState(3, 2, 0), entry(1, term=3)), ()), Write(2, (HardState(5, 1, 1),), ()))
    disk.lose(Random(1))
    states = [each for each in disk.boot() if isinstance(each, HardState)]
    assert (states[-1].term, states[-1].vote, states[-1].commit) == (5, 1, 1)


def test_a_log_that_is_not_open_is_not_used() -> None:
    disk = WalDisk(1, 1001, OPTIONS, MemoryFiles())
    disk.form(FIRST)
    disk.submit(write(1))
    with pytest.raises(LocalError, match="before boot"):
        disk.begin()


# -- the byte-level disk ----------------------------------------------------------------------------------------------


def test_a_torn_tail_is_counted() -> None:
    torn = set()
    for seed in range(40):
        disk = booted(wal_disk)
        assert isinstance(disk, WalDisk)
        put(disk, write(1))
        disk.submit(write(2, size=3000))
        disk.begin()
        disk.lose(Random(seed))
        disk.boot()
        torn.add(disk.torn_bytes > 0)
    assert torn == {False, True}


def test_a_full_disk_keeps_what_there_was_room_for_and_goes_on_with_space() -> None:
    disk = booted(wal_disk)
    assert isinstance(disk, WalDisk)
    number = 0
    disk.files.space_bytes = disk.files.used() + 8000
    while disk.space is Space.OK and number < 200:
        number += 1
        disk.submit(write(number, size=500))
        if disk.begin():
            disk.complete()
    assert disk.space is Space.FULL
    assert 2 < number < 200
    assert disk.claim() is Space.FULL
    disk.files.space_bytes = None
    assert disk.claim() is Space.OK
    if disk.begin():
        disk.complete()
    put(disk, write(number + 1, size=500))
    disk.lose(Random(3))
    assert content(disk) == entries(*range(1, number + 2), size=500)


def test_a_failed_sync_ends_the_disk_and_what_was_durable_before_is_there() -> None:
    for seed in range(20):
        disk = booted(wal_disk)
        assert isinstance(disk, WalDisk)
        put(disk, write(1))
        disk.files.fail_sync(1)
        disk.submit(write(2))
        disk.begin()
        with pytest.raises(StorageError):
            disk.complete()
        disk.lose(Random(seed))
        assert content(disk) in (entries(1), entries(1, 2))


def test_a_failed_write_ends_the_disk() -> None:
    disk = booted(wal_disk)
    assert isinstance(disk, WalDisk)
    disk.files.fail("pwritev", 1, OSError(5, "injected"))
    disk.submit(write(1))
    with pytest.raises(StorageError):
        disk.begin()


def test_a_flipped_bit_is_found_at_the_start() -> None:
    disk = booted(wal_disk)
    assert isinstance(disk, WalDisk)
    for number in range(1, 6):
        put(disk, write(number))
    disk.idle()  # everything is proven: a tail can't be taken for torn
    disk.lose(None)
    (name,) = (name for name in disk.files.listdir() if bytes([1]) * 20 in disk.files.read(name))
    disk.files.flip(name, 8 * disk.files.read(name).index(bytes([1]) * 20))
    with pytest.raises(StorageError):
        disk.boot()


def test_an_idle_disk_proves_its_last_sync_once() -> None:
    disk = booted(wal_disk)
    assert isinstance(disk, WalDisk)
    put(disk, write(1))
    disk.files.tracing = True
    disk.idle()
    assert disk.files.calls
    disk.files.calls.clear()
    disk.idle()
    assert [call for call, _ in disk.files.calls if call == "pwritev"] == []
    fresh = WalDisk(1, 1001, OPTIONS, MemoryFiles())
    fresh.idle()  # nothing to prove before the start


# -- snapshots --------------------------------------------------------------------------------------------------------


def saved(disk: Disk, index: int, *chunks: bytes) -> Snapshot:
    view: Iterator[bytes] = iter(chunks)
    return disk.save(SaveSnapshot(index, 1, 7000, CONFIGURATION, view))


@both
def test_a_snapshot_has_its_chunks_and_survives(make: Make) -> None:
    disk = booted(make)
    snapshot = saved(disk, 5, b"one", b"three" * 100)
    assert (snapshot.index, snapshot.term, snapshot.time_us, snapshot.configuration) == (5, 1, 7000, CONFIGURATION)
    disk.lose(Random(1))
    disk.boot()
    assert b"".join(disk.chunks(snapshot)) == b"one" + b"three" * 100


@both
@pytest.mark.parametrize("piece", [1, 7, 100_000])
def test_a_snapshot_is_fetched_in_pieces_to_another_disk(make: Make, piece: int) -> None:
    source, target = booted(make), booted(make)
    snapshot = saved(source, 9, b"abc" * 5, b"defg" * 10)
    receiver = target.receiver(snapshot)
    while receiver.received < snapshot.size:
        receiver.write(receiver.received, source.read(snapshot, receiver.received, piece))
    receiver.finish()
    receiver.close()
    assert list(target.chunks(snapshot)) == list(source.chunks(snapshot)) == [b"abc" * 5, b"defg" * 10]


@both
def test_release_keeps_what_is_named_and_what_is_newer(make: Make) -> None:
    disk = booted(make)
    old, kept, newer = (saved(disk, index, b"state %d" % index) for index in (3, 5, 8))
    mark = SnapshotMark(1, 1, 5, False, 0, kept)
    put(disk, *(write(number) for number in range(1, 9)))
    put(disk, Write(9, (mark,), ()))
    disk.release(Release(5, (kept,)))
    assert list(disk.chunks(kept)) == [b"state 5"]
    assert list(disk.chunks(newer)) == [b"state 8"]
    with pytest.raises((StorageError, KeyError)):
        list(disk.chunks(old))


def test_a_log_whose_snapshot_is_missing_says_so() -> None:
    disk = booted(wal_disk)
    snapshot = saved(disk, 5, b"state")
    assert isinstance(disk, WalDisk)
    for name in disk.files.listdir():
        if name.startswith("snap"):
            disk.files.remove(name)
    with pytest.raises(StorageError, match="snapshot 5, whose file is missing"):
        list(disk.chunks(snapshot))
