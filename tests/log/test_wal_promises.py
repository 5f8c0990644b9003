"""The promises of the log, one by one: what a crash, a failing disk and rot may do, and what they may not."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import tracemalloc
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import (
    FIRST_STATE,
    OWNER,
    SMALL,
    Writer,
    batch,
    block,
    busy,
    calls_of,
    entries,
    hard,
    image,
    synced_log,
    truncate,
)

from distkit._fast.codec import RECORD_HEADER, encode_records
from distkit.core import Full, IdentityError, Space, StorageError
from distkit.log import (
    DamageError,
    Wal,
    WalIdentity,
    WalOptions,
    open_identity,
    recover,
    segment_name,
)
from distkit.log.segment import PAGE
from distkit.sim import Crashed, MemoryFiles
from distkit.storage import DiskFiles

CALLS = len(calls_of(busy))


def crashed_at(nth: int) -> Writer:
    """A busy log whose process died in its nth call of the disk."""
    writer = Writer(MemoryFiles())
    writer.files.crash_at(nth)
    with pytest.raises(Crashed):
        busy(writer)
    return writer


def reopen(writer: Writer) -> None:
    """What must hold after any crash: it opens, nothing synced is missing, and it goes on."""
    if not writer.created and not Wal.exists(writer.files.copy()):
        return  # it died before there was a log
    writer.reopen()
    writer.append(batch(99))
    writer.sync()
    writer.files.crash()
    writer.reopen()


# W1, W2: a completed append survives any crash; what is recovered is a run of what was appended


@pytest.mark.parametrize("nth", range(1, CALLS + 1))
def test_w1_synced_records_survive_a_crash_at_any_call_that_loses_all_else(nth: int) -> None:
    writer = crashed_at(nth)
    writer.files.crash()
    reopen(writer)


@given(nth=st.integers(1, CALLS), seed=st.integers(0, 2**32), again=st.integers(1, 30))
@settings(max_examples=300, deadline=None)
def test_w1_synced_records_survive_any_subset_of_what_was_in_flight(nth: int, seed: int, again: int) -> None:
    writer = crashed_at(nth)
    rng = Random(seed)
    writer.files.crash(rng)
    if Wal.exists(writer.files):
        writer.files.crash_at(again)  # and once more while it recovers
        try:
            writer.reopen()
        except Crashed:
            pass
        writer.files.crash(rng)
    reopen(writer)


def test_w2_what_is_recovered_of_a_torn_batch_is_a_prefix_of_it() -> None:
    """Each sector of it old, new, zero or garbage, in every combination."""
    kept = set()
    for fate in itertools.product(range(4), repeat=4):
        writer = Writer(MemoryFiles())
        writer.create()
        writer.append(batch(1, size=300))
        writer.sync()
        writer.append(batch(2, size=150))
        writer.append([block(3, size=700)])
        sectors = iter(fate)
        writer.files.crash_choosing(lambda count, sectors=sectors: next(sectors) if count == 4 else 0x5A % count)
        assert next(sectors, None) is None
        recovered = writer.reopen()  # checks that it is a prefix
        kept.add(tuple(index for index, _ in entries(recovered.records)))
    assert kept == {(1,), (1, 2), (1, 2, 3)}


def test_w2_bytes_of_another_place_are_no_records() -> None:
    """Misdirected and recycled blocks: a valid record of another offset, segment, node or cluster does not check."""
    for foreign in [(0xC1, 3, 1, 8), (0xC1, 3, 2, 0), (0xC1, 4, 1, 0), (0xC2, 3, 1, 0)]:
        writer = Writer(MemoryFiles())
        writer.create()
        writer.append(batch(1))
        writer.sync()
        writer.wal.close()
        name = segment_name(1)
        content = bytearray(writer.files.read(name))
        end = len(content[:-PAGE].rstrip(b"\0")) + 7 & ~7
        *place, shift = foreign
        record = b"".join(encode_records(*place, end + shift, 0, [block(2)]))
        content[end : end + len(record)] = record
        writer.files.replace(name, bytes(content))
        recovered = writer.reopen()
        assert [index for index, _ in entries(recovered.records)] == [1]
        assert recovered.torn_bytes > 0


# W3, W4: rot is found, told from a torn tail, and said


def found(files: MemoryFiles, records: list[tuple[int, int, bytes]]) -> bool:
    """True if the log is refused, with the file and place; False if it holds what it should. Else the test fails."""
    try:
        recovered = recover(files, OWNER)
    except StorageError as error:
        return error.path is not None and error.offset is not None
    assert recovered.records == records, "rot was taken for a torn tail"
    return False


def test_w3_every_flipped_bit_of_a_synced_log_is_found_or_harmless() -> None:
    """Every bit of every field; within runs of equal bytes (filler, empty space) one bit of each byte."""
    files, records = synced_log()
    count = 0
    for name in files.listdir():
        content = files.read(name)
        for byte in range(len(content)):
            dull = len(set(content[max(0, byte - 8) : byte + 8])) == 1
            for bit in (byte % 8,) if dull else range(8):
                files.flip(name, byte * 8 + bit)
                count += found(files, records)
                files.flip(name, byte * 8 + bit)
    assert count > 15_000  # most of what is used is needed


@pytest.mark.parametrize("size", [8, 512, 4096])
def test_w3_every_zeroed_sector_of_a_synced_log_is_found_or_harmless(size: int) -> None:
    files, records = synced_log()
    count = 0
    for name in files.listdir():
        content = files.read(name)
        for offset in range(0, len(content), size):
            if any(content[offset : offset + size]):
                files.replace(name, content[:offset] + bytes(size) + content[offset + size :])
                count += found(files, records)
        files.replace(name, content)
    assert count > 0


def test_w3_rot_in_the_head_of_a_new_segment_is_found() -> None:
    """Nothing was written behind it yet that could prove it."""
    writer = Writer(MemoryFiles())
    writer.create()
    name = segment_name(1)
    writer.files.flip(name, writer.files.read(name).index(b"born") * 8)
    with pytest.raises(DamageError):
        recover(writer.files, OWNER)


def test_w3_a_file_that_lost_its_end_is_found() -> None:
    files, records = synced_log()
    for name in [segment_name(1), segment_name(2)]:
        content = files.read(name)
        for size in range(0, len(content), 509):
            files.replace(name, content[:size])
            assert found(files, records)
        files.replace(name, content)


def test_w3_a_missing_segment_is_found() -> None:
    writer = Writer(MemoryFiles())
    writer.create()
    for index in range(1, 20):
        writer.append(batch(index, size=1500))
        writer.sync()
    writer.files.remove(segment_name(2))
    with pytest.raises(DamageError, match="missing"):
        recover(writer.files, OWNER)


def test_w3_only_what_was_not_proven_durable_is_taken_for_torn() -> None:
    """The stated limit: rot of the last batch, and no mark behind it. With the mark it is found."""
    for marked in (False, True):
        writer = Writer(MemoryFiles())
        writer.create()
        writer.append(batch(1))
        writer.sync()
        writer.append(batch(2))
        writer.sync()
        if marked:
            writer.wal.mark()
        name = segment_name(1)
        end = len(writer.files.read(name)[:-PAGE].rstrip(b"\0"))
        writer.files.flip(name, (end - 10) * 8)
        if marked:
            with pytest.raises(DamageError):
                recover(writer.files, OWNER)
        else:
            assert [index for index, _ in entries(recover(writer.files, OWNER).records)] == [1]


def test_w4_damage_names_file_offset_and_entries_and_changes_nothing() -> None:
    writer = Writer(MemoryFiles())
    writer.create()
    for index in range(1, 6):
        writer.append([block(index, term=index)])
        writer.sync()
    writer.wal.mark()
    name = segment_name(1)
    at = writer.files.read(name).index(b"entry 3")
    writer.files.flip(name, at * 8)
    before = image(writer.files)
    with pytest.raises(DamageError, match=r"after index 2 \(term 2\) before index 4 \(term 4\)") as caught:
        Wal.open(writer.files, OWNER, SMALL)
    assert caught.value.path == name
    assert caught.value.offset is not None
    assert at - 200 < caught.value.offset < at
    assert image(writer.files) == before


# W5: a failed disk is never trusted again


def run_until_it_fails(writer: Writer) -> bool:
    try:
        busy(writer)
    except StorageError:
        return True
    return False


SYNCS = calls_of(busy).count("fdatasync")


@pytest.mark.parametrize("cleans", [False, True])
@pytest.mark.parametrize("nth", range(1, SYNCS + 1))
def test_w5_after_a_failed_sync_nothing_is_acknowledged_and_nothing_synced_again(nth: int, cleans: bool) -> None:
    writer = Writer(MemoryFiles())
    if cleans:
        writer.files.fail_sync(nth)
    else:
        writer.files.fail("fdatasync", nth, OSError(errno.EIO, "no"))
    assert run_until_it_fails(writer)
    if writer.created:
        writer.files.tracing = True
        for call in (
            lambda: writer.wal.append(batch(50)),
            writer.wal.sync,
            writer.wal.mark,
            writer.wal.claim,
            lambda: writer.wal.release(0, 99),
        ):
            with pytest.raises(StorageError):
                call()
        assert writer.files.calls == []
        writer.wal.close()
    # The process ends, the system lives on: it may show bytes that never reached the disk. What a new process
    # recovers from that must stay.
    writer.files.kill()
    if not writer.created:
        assert not Wal.exists(writer.files)
        return
    writer.reopen()
    writer.files.crash()
    writer.reopen()


def test_w5_the_sync_test_fails_each_sync() -> None:
    writer = Writer(MemoryFiles())
    writer.files.fail_sync(SYNCS + 1)
    assert not run_until_it_fails(writer)


@pytest.mark.parametrize("call", ["pwritev", "fallocate", "rename", "fsync_dir", "truncate", "unlink", "open", "pread"])
def test_w5_any_other_error_of_the_disk_fails_the_log_too(call: str) -> None:
    for nth in itertools.count(1):
        writer = Writer(MemoryFiles())
        writer.files.fail(call, nth, OSError(errno.EIO, "no"))
        if not run_until_it_fails(writer):
            break
        if writer.created:
            with pytest.raises(StorageError):
                writer.wal.append(batch(50))
        writer.files.crash()
        if writer.created or Wal.exists(writer.files):
            writer.reopen()
    assert nth > 1 or call == "pread"


# W6: a full disk


@pytest.mark.parametrize("space", range(8 << 10, 96 << 10, 2 << 10))
def test_w6_a_full_disk_refuses_loses_nothing_and_goes_on_when_space_returns(space: int) -> None:
    writer = Writer(MemoryFiles(space))
    try:
        writer.create()
    except StorageError as error:
        assert "the disk is full" in str(error)  # noqa: PT017
        assert not Wal.exists(writer.files)
        writer.files.space_bytes = None
        writer.create()
    for index in range(1, 30):
        before = writer.wal.stats
        records = batch(index, size=1500)
        try:
            writer.wal.append(records)
        except Full:
            assert writer.wal.space is Space.FULL
            assert writer.wal.stats == before
            break
        writer.appended += records
        writer.sync()
    writer.files.space_bytes = None
    assert writer.wal.claim() is Space.OK
    for index in range(31, 40):
        writer.append(batch(index, size=1500))
        writer.sync()
    writer.files.crash()
    writer.reopen()


def fill(writer: Writer) -> None:
    """Append until the next segment cannot be claimed; the disk has 30 KiB more than it is created with."""
    writer.create()
    writer.files.space_bytes = sum(map(len, image(writer.files).values())) + (30 << 10)
    while writer.wal.space is Space.OK:
        writer.append(batch(len(writer.appended) + 1, size=1000))
        writer.sync()


def test_w6_votes_terms_and_the_empty_entry_fit_on_a_full_disk() -> None:
    writer = Writer(MemoryFiles(), WalOptions(64 << 10, 64 << 10, 16 << 10))
    fill(writer)
    for term in range(200):  # the host takes no new entries by now
        writer.append([hard(term), block(1000 + term, term, size=0)])
        writer.sync()
    writer.files.crash()
    writer.reopen()


def test_w6_a_node_restarts_on_a_full_disk() -> None:
    writer = Writer(MemoryFiles(), WalOptions(64 << 10, 64 << 10, 16 << 10))
    fill(writer)
    writer.files.crash()
    writer.reopen()
    writer.append([hard("a vote")])
    writer.sync()
    writer.files.space_bytes = None
    assert writer.wal.claim() is Space.OK


def test_w6_what_a_failed_claim_got_is_given_back() -> None:
    writer = Writer(MemoryFiles(), WalOptions(64 << 10, 64 << 10, 16 << 10))
    fill(writer)
    assert len(writer.files.read("next")) == 16 << 10


def test_w6_no_space_within_what_was_claimed_is_an_error_of_the_disk() -> None:
    writer = Writer(MemoryFiles())
    writer.create()
    writer.files.fail("pwritev", 1, OSError(errno.ENOSPC, "no"))
    with pytest.raises(StorageError):
        writer.wal.append(batch(1))
    with pytest.raises(StorageError):
        writer.wal.append(batch(1))


# W7: names


@pytest.mark.parametrize("names", [0, 1])
@pytest.mark.parametrize("nth", range(1, CALLS + 1))
def test_w7_names_are_durable_before_anything_relies_on_them(nth: int, names: int) -> None:
    """Content and names part: either all of the one survives and none of the other, or the reverse."""
    writer = crashed_at(nth)
    writer.files.crash_choosing(lambda count: names if count == 2 else 1 - names)
    reopen(writer)


def lose_names(writer: Writer, lost: int) -> None:
    """A crash that keeps all content, and of the names those whose bit is set."""
    bits = itertools.cycle([lost >> bit & 1 for bit in range(4)])
    writer.files.crash_choosing(lambda count: next(bits) if count == 2 else 1)


@pytest.mark.parametrize("nth", range(1, CALLS + 1))
def test_w7_any_name_may_be_lost_while_others_survive(nth: int) -> None:
    for lost in range(16):
        writer = crashed_at(nth)
        lose_names(writer, lost)
        reopen(writer)


@pytest.mark.parametrize("nth", [nth for nth, call in enumerate(calls_of(busy), 1) if call == "fsync_dir"])
def test_w7_names_that_a_killed_process_left_are_made_durable_first(nth: int) -> None:
    for again, lost in itertools.product(range(1, 30), range(16)):
        writer = crashed_at(nth)
        writer.files.kill()
        if Wal.exists(writer.files):
            writer.files.crash_at(again)
            try:
                writer.reopen()
            except Crashed:
                pass
        lose_names(writer, lost)
        reopen(writer)


# W8: truncation


def figure_7(writer: Writer) -> None:
    """Each of the logs (c) to (f) of the paper's Figure 7 is mended to that of the leader of term 8 in turn."""
    leader = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
    writer.create()
    log: list[int] = []
    for other in ([*leader, 6], [*leader, 7, 7], [1, 1, 1, 4, 4, 4, 4], [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3]):
        for wanted in (other, leader):
            same = next(
                (i for i, pair in enumerate(zip(log, wanted, strict=False)) if pair[0] != pair[1]),
                min(len(log), len(wanted)),
            )
            records = [hard(f"{wanted}")]
            if same < len(log):
                records.append(truncate(same + 1))
            records += [block(i + 1, wanted[i], size=200) for i in range(same, len(wanted))]
            log = wanted.copy()
            writer.append(records)
            writer.sync()


FIGURE_7_CALLS = len(calls_of(figure_7))


@pytest.mark.parametrize("nth", range(1, FIGURE_7_CALLS + 1))
def test_w8_no_old_suffix_comes_back_after_new_entries_are_acknowledged(nth: int) -> None:
    for rng in (None, *(Random(nth * 10 + seed) for seed in range(4))):
        writer = Writer(MemoryFiles())
        writer.files.crash_at(nth)
        with pytest.raises(Crashed):
            figure_7(writer)
        writer.files.crash(rng)
        if not writer.created:
            continue
        appended, acked = writer.appended, writer.acked
        recovered = writer.reopen()
        possible = [entries(appended[:end]) for end in range(acked, len(appended) + 1)]
        assert entries(recovered.records) in possible


# W9: one writer, and the right one


def test_w9_a_second_process_is_refused() -> None:
    files = MemoryFiles()
    identity = open_identity(files, 1, 77)
    with pytest.raises(IdentityError, match="another process"):
        open_identity(files, 1, 78)
    identity.close()
    assert open_identity(files, 1, 79).incarnation == 77


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (WalIdentity(0xC1, 4, 0x1F), "node 3, this is node 4"),
        (WalIdentity(0xC1, 3, 0x2F), "incarnation"),
        (WalIdentity(0xC2, 3, 0x1F), "cluster"),
        (WalIdentity(0, 4, 0x1F), "node 3"),
    ],
)
def test_w9_a_log_of_another_owner_is_refused_untouched(expected: WalIdentity, text: str) -> None:
    files, _ = synced_log()
    before = image(files)
    with pytest.raises(IdentityError, match=text):
        Wal.open(files, expected, SMALL)
    assert image(files) == before


def test_w9_a_segment_of_another_log_in_the_middle_is_refused() -> None:
    files, _ = synced_log()
    other = Writer(MemoryFiles())
    other.wal = Wal.create(other.files, WalIdentity(0xC1, 9, 0x1F), FIRST_STATE, SMALL)
    files.replace(segment_name(1), other.files.read(segment_name(1)))
    with pytest.raises(IdentityError, match="node 9"):
        recover(files, OWNER)
    with pytest.raises(StorageError):
        recover(files, None)


# W10: bounds


def test_w10_lengths_from_the_disk_are_never_believed() -> None:
    files, records = synced_log()
    name = segment_name(2)
    content = bytearray(files.read(name))
    largest = 0

    class Watched:
        def __getattr__(self, attribute: str) -> object:
            return getattr(files, attribute)

        def pread(self, handle: int, size: int, offset: int) -> bytes:
            nonlocal largest
            largest = max(largest, size)
            return files.pread(handle, size, offset)

    for offset in range(0, len(content) - RECORD_HEADER, 8):
        if content[offset + 8 : offset + 10] == b"\x57\xd1":
            broken = bytearray(content)
            broken[offset + 4 : offset + 8] = b"\xff\xff\xff\xff"
            files.replace(name, bytes(broken))
            assert found(Watched(), records) or offset == len(content) - PAGE
    assert largest <= 1 << 20


def test_w10_a_sparse_file_of_10_gigabytes_is_refused_at_once(tmp_path: Path) -> None:
    files = DiskFiles(tmp_path)
    Wal.create(files, OWNER, FIRST_STATE, SMALL).close()
    os.truncate(tmp_path / segment_name(1), 10 << 30)
    with pytest.raises(DamageError, match="at most"):
        recover(files, OWNER)
    files.close()


def test_w10_a_large_segment_is_read_in_little_memory(tmp_path: Path) -> None:
    files = DiskFiles(tmp_path)
    wal = Wal.create(files, OWNER, FIRST_STATE, SMALL)
    wal.append(batch(1))
    wal.sync()
    wal.close()
    os.truncate(tmp_path / segment_name(1), 256 << 20)
    tracemalloc.start()
    try:
        recovered = recover(files, OWNER)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [index for index, _ in entries(recovered.records)] == [1]
    assert peak < 8 << 20
    files.close()


# W11: formats

GOLDEN = Path(__file__).with_name("golden")


def write_golden(files: MemoryFiles) -> list[tuple[int, int, bytes]]:
    """What tests/log/golden holds: two segments, a truncation, a group of its own, an unproven tail taken over."""
    options = WalOptions(12 << 10, 12 << 10, 8 << 10)
    wal = Wal.create(files, OWNER, FIRST_STATE, options)
    records = [*batch(1), *batch(2, 2), truncate(2), *batch(2, 3), (HARD_OF_GROUP_7)]
    wal.append(records[:4])
    wal.sync()
    wal.append(records[4:])
    wal.sync()
    wal.close()
    wal, _ = Wal.open(files, OWNER, options)
    wal.append(batch(3, 3))
    wal.sync()
    wal.mark()
    wal.close()
    return [*FIRST_STATE, *records, *batch(3, 3)]


HARD_OF_GROUP_7 = (64, 7, b"hard state of another group")


def test_w11_format_1_is_read_and_still_written() -> None:
    files, written = MemoryFiles(), MemoryFiles()
    records = write_golden(written)
    for path in sorted(GOLDEN.glob("wal-*")):
        files.replace(path.name, path.read_bytes())
        assert written.read(path.name) == path.read_bytes()
    assert len(files.listdir()) == 2
    assert recover(files, OWNER).records == records


def newer(content: bytes) -> bytes:
    """The same segment as a later release may write it: format 2, with a valid checksum."""
    header = bytearray(content[RECORD_HEADER : RECORD_HEADER + 80])
    header[0] = 2
    record = b"".join(encode_records(OWNER.cluster, OWNER.node, 2, 0, 0, [(1, 0, bytes(header))]))
    return record + content[len(record) :]


def test_w11_a_newer_format_is_refused_by_name_and_left_as_it_is() -> None:
    files = MemoryFiles()
    for path in sorted(GOLDEN.glob("wal-*")):
        files.replace(path.name, path.read_bytes())
    name = segment_name(2)
    files.replace(name, newer(files.read(name)))
    before = {name: hashlib.sha256(content).digest() for name, content in image(files).items()}
    with pytest.raises(IdentityError, match="format 2, this release reads format 1"):
        Wal.open(files, OWNER, SMALL)
    assert {name: hashlib.sha256(content).digest() for name, content in image(files).items()} == before
