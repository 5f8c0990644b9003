"""The log as its users see it: state and entries, segments and groups, refusals of wrong calls."""

from __future__ import annotations

import pytest
from logs import FIRST_STATE, HARD, MARKER, OWNER, SMALL, Writer, batch, block, entries, hard, truncate

from distkit.core import LocalError, Space, StorageError
from distkit.core.limits import BLOCK_BYTES_MAX
from distkit.log import BLOCK, Scan, Wal, WalIdentity, WalOptions, read_header, recover, segment_ids, segment_name
from distkit.sim import MemoryFiles


def test_a_new_log_holds_its_first_state() -> None:
    files = MemoryFiles()
    assert not Wal.exists(files)
    Wal.create(files, OWNER, FIRST_STATE, SMALL)
    files.crash()
    assert Wal.exists(files)
    recovered = recover(files, OWNER)
    assert recovered.records == FIRST_STATE
    assert recovered.identity == OWNER
    assert recovered.torn_bytes == 0


def test_a_log_is_created_once_and_opened_only_where_there_is_one() -> None:
    files = MemoryFiles()
    with pytest.raises(StorageError, match="no log"):
        Wal.open(files, OWNER)
    Wal.create(files, OWNER, FIRST_STATE, SMALL)
    with pytest.raises(LocalError, match="already"):
        Wal.create(files, OWNER, FIRST_STATE, SMALL)


@pytest.mark.parametrize("state", [[block(1)], [hard(1), hard(2)]])
def test_the_first_state_is_state_and_nothing_twice(state: list[tuple[int, int, bytes]]) -> None:
    files = MemoryFiles()
    with pytest.raises(LocalError):
        Wal.create(files, OWNER, state)
    assert files.listdir() == []


def test_the_owner_is_found_in_the_log_when_it_is_not_known() -> None:
    files = MemoryFiles()
    Wal.create(files, OWNER, FIRST_STATE, SMALL)
    assert recover(files, None).identity == OWNER
    assert recover(files, WalIdentity(0, OWNER.node, OWNER.incarnation)).identity == OWNER


def test_records_are_recovered_as_they_were_appended_over_many_segments_and_starts() -> None:
    writer = Writer(MemoryFiles())
    writer.create()
    for index in range(1, 60):
        writer.append(batch(index, size=500))
        writer.sync()
        if index % 13 == 0:
            writer.wal.close()
            writer.reopen()
    assert len(segment_ids(writer.files.listdir())) > 6
    assert recover(writer.files, OWNER).records == FIRST_STATE + writer.appended


def test_a_segment_begins_with_the_newest_state_in_the_order_in_which_it_was_written() -> None:
    writer = Writer(MemoryFiles())
    writer.create()
    writer.append([(MARKER, 5, b"of group 5"), hard("old"), (MARKER, 0, b"mark"), hard("new")])
    writer.sync()
    writer.reopen()
    handle = writer.files.open(segment_name(2))
    header = read_header(writer.files, handle, 2)
    placed = [record for found in Scan(writer.files, handle, header, header.size).records() for record in found]
    state = [(kind, group, content) for offset, kind, group, _, content in placed if 0 < offset < header.head_end]
    # The batch was synced, but nothing behind it says so: it is taken over whole, behind the state before it.
    assert state == [*FIRST_STATE, (MARKER, 5, b"of group 5"), hard("old"), (MARKER, 0, b"mark"), hard("new")]
    writer.reopen()
    writer.release(10)
    assert recover(writer.files, OWNER).records == [(MARKER, 5, b"of group 5"), (MARKER, 0, b"mark"), hard("new")]


def test_segments_go_when_every_group_has_released_what_they_hold() -> None:
    writer = Writer(MemoryFiles())
    writer.create()
    for index in range(1, 30):
        writer.append([hard(index), block(index, size=500), (BLOCK, 7, block(index + 100)[2])])
        writer.sync()
    count = len(segment_ids(writer.files.listdir()))
    assert writer.wal.release(0, 29) == 0
    assert writer.wal.release(7, 112) == 1
    assert writer.wal.release(7, 5) == 0  # a lower index takes nothing back
    assert writer.wal.release(7, 129) == count - 2  # all but the one in use
    assert writer.wal.stats.released == count - 1
    assert writer.wal.stats.segments == 1
    writer.files.crash()
    recovered = recover(writer.files, OWNER)
    assert recovered.state[0, HARD] == hard(29)[2]
    assert [record for record in recovered.records if record[0] == BLOCK]


def test_a_batch_larger_than_a_segment_gets_one_that_is_large_enough() -> None:
    writer = Writer(MemoryFiles())
    writer.create()
    writer.append([block(index, size=5000) for index in range(1, 30)])
    writer.append(batch(30))
    writer.sync()
    writer.files.crash()
    writer.reopen()
    assert writer.acked == 31


def test_appends_before_one_sync_share_it_and_syncs_without_news_cost_nothing() -> None:
    writer = Writer(MemoryFiles())
    writer.create()
    for index in range(1, 6):
        writer.append(batch(index))
    writer.sync()
    writer.sync()
    writer.wal.mark()
    writer.wal.mark()
    stats = writer.wal.stats
    assert (stats.records, stats.syncs, stats.marks) == (10, 2, 1)


def test_marks_take_no_room_from_records() -> None:
    writer = Writer(MemoryFiles())
    writer.create()
    for index in range(1, 30):
        writer.append([hard(index)])
        writer.sync()
        writer.wal.mark()
    assert segment_ids(writer.files.listdir()) == [1]
    writer.files.crash()
    assert writer.reopen().unproven == []


def test_empty_appends_are_nothing() -> None:
    writer = Writer(MemoryFiles())
    writer.create()
    writer.append([])
    writer.sync()
    assert writer.wal.stats.bytes == 0
    writer.reopen()


@pytest.mark.parametrize(
    "record",
    [
        (1, 0, b""),
        (2, 0, b""),
        (63, 0, b"x"),
        (98, 0, b"x"),
        (BLOCK, 0, b"too short"),
        (97, 0, b"1234567"),
        truncate(0),
        (HARD, 1 << 32, b"x"),
        (HARD, 0, bytes(BLOCK_BYTES_MAX + 1)),
    ],
)
def test_what_a_log_may_not_hold_is_refused_and_nothing_changes(record: tuple[int, int, bytes]) -> None:
    writer = Writer(MemoryFiles())
    writer.create()
    before = writer.wal.stats
    with pytest.raises(LocalError):
        writer.wal.append([hard("never"), record])
    assert writer.wal.stats == before
    writer.append(batch(1))
    writer.sync()
    writer.reopen()


def test_a_closed_log_takes_nothing_and_closing_twice_is_harmless() -> None:
    writer = Writer(MemoryFiles())
    writer.create()
    writer.wal.close()
    writer.wal.close()
    for call in (writer.wal.sync, writer.wal.mark, writer.wal.claim, lambda: writer.wal.append(batch(1))):
        with pytest.raises(StorageError, match="closed"):
            call()


def test_leftovers_and_other_files_are_no_obstacle() -> None:
    files = MemoryFiles()
    files.replace("next", b"half a head")
    files.replace("notes.txt", b"mine")
    writer = Writer(files)
    writer.create()
    files.replace("next", b"another")
    writer.append(batch(1))
    writer.sync()
    writer.reopen()
    assert files.read("notes.txt") == b"mine"


def test_the_first_segment_of_a_start_is_small_and_the_last_one_is_cut() -> None:
    files = MemoryFiles()
    options = WalOptions(64 << 10, 256 << 10, 8 << 10)
    wal = Wal.create(files, OWNER, FIRST_STATE, options)
    assert wal.space is Space.OK
    assert len(files.read(segment_name(1))) == 64 << 10
    assert len(files.read("next")) == 256 << 10
    wal.close()
    Wal.open(files, OWNER, options)
    assert len(files.read(segment_name(1))) < 1000
    assert len(files.read(segment_name(2))) == 64 << 10


def test_a_truncation_is_an_event_in_its_place() -> None:
    writer = Writer(MemoryFiles())
    writer.create()
    writer.append([block(1), block(2), block(3), truncate(2), block(2, term=2)])
    writer.sync()
    assert [index for index, _ in entries(writer.reopen().records)] == [1, 2]
