"""Snapshot files: whole or not there, verified on every reading, received piece by piece."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs import image

from distkit._fast.codec import crc32c
from distkit.core import Full, IdentityError, LocalError, PeerError, StorageError
from distkit.log import (
    SnapshotInfo,
    SnapshotReader,
    SnapshotReceiver,
    SnapshotWriter,
    list_snapshots,
    remove_snapshots,
    snapshot_name,
)
from distkit.log.snapshot import CHUNK_BYTES_MAX
from distkit.sim import Crashed, MemoryFiles

CHUNKS = [b"first", b"x" * 300, b"last"]
GOLDEN = Path(__file__).with_name("golden")


def write(files: MemoryFiles, chunks: list[bytes] = CHUNKS, index: int = 10, term: int = 2) -> SnapshotInfo:
    writer = SnapshotWriter(files, 0xC1, index, term, 123, b"configuration")
    for chunk in chunks:
        writer.write(chunk)
    return writer.finish()


def read(files: MemoryFiles, name: str) -> list[bytes]:
    with SnapshotReader(files, name) as reader:
        return list(reader)


@given(sizes=st.lists(st.integers(1, 70_000), max_size=20))
def test_what_was_written_is_read(sizes: list[int]) -> None:
    files = MemoryFiles()
    chunks = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
    info = write(files, chunks)
    files.crash()
    assert read(files, info.name) == chunks
    assert info == SnapshotInfo(snapshot_name(10, 2), 0xC1, 10, 2, 123, b"configuration", len(files.read(info.name)))


def test_a_crash_at_any_call_leaves_no_half_snapshot_under_its_name() -> None:
    total = 0
    for nth in range(1, 40):
        for rng in (None, Random(nth), Random(-nth)):
            files = MemoryFiles()
            files.crash_at(nth)
            finished = False
            try:
                write(files)
                finished = True
            except Crashed:
                total += 1
            files.crash(rng)
            names = list_snapshots(files)
            assert names or not finished
            for _, _, name in names:
                assert read(files, name) == CHUNKS
            remove_snapshots(files, [name for _, _, name in names])
            assert [name for name in files.listdir() if name.startswith("snap")] == [name for _, _, name in names]
    assert total > 20


def test_every_flipped_bit_and_every_cut_is_found_and_names_the_place() -> None:
    files = MemoryFiles()
    name = write(files).name
    data = files.read(name)
    for bit in range(8 * len(data)):
        files.flip(name, bit)
        with pytest.raises(StorageError) as caught:
            read(files, name)
        assert caught.value.path == name
        assert caught.value.offset is not None
        files.flip(name, bit)
    for size in range(len(data)):
        files.replace(name, data[:size])
        with pytest.raises(StorageError):
            read(files, name)
    files.replace(name, data + b"\0")
    with pytest.raises(StorageError, match="not as long"):
        read(files, name)


def test_chunks_of_another_place_or_snapshot_are_found() -> None:
    files = MemoryFiles()
    name, other = write(files, [b"aaaa", b"bbbb"]).name, write(files, [b"aaaa", b"bbbb"], index=11).name
    data, foreign = files.read(name), files.read(other)
    at = data.index(b"aaaa") - 8
    swapped = data[:at] + data[at + 12 : at + 24] + data[at : at + 12] + data[at + 24 :]
    mixed = data[:at] + foreign[at : at + 12] + data[at + 12 :]
    for broken in (swapped, mixed):
        files.replace(name, broken)
        with pytest.raises(StorageError):
            read(files, name)


def test_lengths_in_a_file_are_bounded_before_they_are_used() -> None:
    files = MemoryFiles()
    name = write(files).name
    data = bytearray(files.read(name))
    at = data.index(b"first") - 4
    data[at : at + 4] = (CHUNK_BYTES_MAX + 1).to_bytes(4, "little")
    files.replace(name, bytes(data))
    files.tracing = True
    with pytest.raises(StorageError):
        read(files, name)
    data[4:8] = b"\xff\xff\xff\xff"
    files.replace(name, bytes(data))
    with pytest.raises(StorageError, match="header"):
        read(files, name)


def test_chunks_have_1_byte_to_1_mebibyte() -> None:
    writer = SnapshotWriter(MemoryFiles(), 1, 1, 1, 0, b"")
    writer.write(bytes(CHUNK_BYTES_MAX))
    for chunk in (b"", bytes(CHUNK_BYTES_MAX + 1)):
        with pytest.raises(LocalError):
            writer.write(chunk)


def test_a_full_disk_is_no_reason_to_stop_and_any_other_error_is() -> None:
    files = MemoryFiles(space_bytes=1 << 20)
    writer = SnapshotWriter(files, 1, 1, 1, 0, b"")
    for _ in range(3):
        writer.write(bytes(300 << 10))
    with pytest.raises(Full):
        writer.write(bytes(300 << 10))
    writer.abort()
    writer.abort()
    assert files.listdir() == []
    files.space_bytes = None
    write(files)
    files.fail("fdatasync", 1, OSError(errno.EIO, "no"))
    with pytest.raises(StorageError):
        write(files)


def test_files_of_an_attempt_before_are_no_obstacle() -> None:
    files = MemoryFiles()
    SnapshotWriter(files, 0xC1, 10, 2, 0, b"")
    assert read(files, write(files).name) == CHUNKS


def test_snapshots_are_listed_in_order_and_removed_durably() -> None:
    files = MemoryFiles()
    for index, term in ((300, 4), (20, 3), (300, 5)):
        write(files, index=index, term=term)
    SnapshotWriter(files, 0xC1, 400, 5, 0, b"")
    files.open("someone-else", create=True)
    files.fsync_dir()
    assert [(index, term) for index, term, _ in list_snapshots(files)] == [(20, 3), (300, 4), (300, 5)]
    remove_snapshots(files, [snapshot_name(300, 5)])
    files.crash()
    assert files.listdir() == [snapshot_name(300, 5), "someone-else"]


def test_what_is_being_received_under_a_name_to_keep_stays() -> None:
    files = MemoryFiles()
    data, size = sent()
    receiver, other = (SnapshotReceiver(files, 0xC1, 10, term, size) for term in (2, 3))
    receiver.write(0, data[:50])
    part = f"{snapshot_name(10, 2)}.part"
    for keep in (snapshot_name(10, 2), part):
        remove_snapshots(files, [keep])
        assert files.listdir() == [part]
    receiver.write(50, data[50:])
    assert receiver.finish().size == size
    other.close()


# Received from another node


def sent(size: int = 10) -> tuple[bytes, int]:
    files = MemoryFiles()
    info = write(files)
    with SnapshotReader(files, info.name) as reader:
        pieces = [reader.file_bytes(offset, size) for offset in range(0, info.size, size)]
    return b"".join(pieces), info.size


def test_a_received_file_is_the_same_file_and_durable() -> None:
    data, size = sent()
    files = MemoryFiles()
    receiver = SnapshotReceiver(files, 0xC1, 10, 2, size)
    for offset in range(0, size, 33):
        receiver.write(offset, data[offset : offset + 33])
    info = receiver.finish()
    files.crash()
    assert files.read(info.name) == data
    assert read(files, info.name) == CHUNKS


def test_a_transfer_goes_on_where_it_stopped() -> None:
    data, size = sent()
    files = MemoryFiles()
    receiver = SnapshotReceiver(files, 0xC1, 10, 2, size)
    receiver.write(0, data[:100])
    receiver.close()
    receiver.close()
    receiver = SnapshotReceiver(files, 0xC1, 10, 2, size)
    assert receiver.received == 100
    receiver.write(100, data[100:])
    assert read(files, receiver.finish().name) == CHUNKS


@pytest.mark.parametrize("seed", range(40))
def test_a_crash_in_a_transfer_never_makes_a_wrong_snapshot(seed: int) -> None:
    data, size = sent()
    files = MemoryFiles()
    rng = Random(seed)
    receiver = SnapshotReceiver(files, 0xC1, 10, 2, size)
    receiver.write(0, data[:300])
    files.crash(rng)
    receiver = SnapshotReceiver(files, 0xC1, 10, 2, size)
    receiver.write(receiver.received, data[receiver.received :])
    try:
        receiver.finish()
    except PeerError:  # the crash left a length without its content
        receiver = SnapshotReceiver(files, 0xC1, 10, 2, size)
        assert receiver.received == 0
        receiver.write(0, data)
        receiver.finish()
    assert files.read(snapshot_name(10, 2)) == data


def test_pieces_out_of_order_or_over_the_length_are_refused() -> None:
    data, size = sent()
    receiver = SnapshotReceiver(MemoryFiles(), 0xC1, 10, 2, size)
    receiver.write(0, data[:50])
    for offset in (0, 49, 51, 1 << 56):
        with pytest.raises(PeerError, match="expected was 50"):
            receiver.write(offset, b"x")
    with pytest.raises(PeerError, match="longer"):
        receiver.write(50, bytes(size))
    with pytest.raises(LocalError, match="not complete"):
        receiver.finish()


@pytest.mark.parametrize(
    ("cluster", "index", "term", "flip"), [(0xC2, 10, 2, 0), (0xC1, 11, 2, 0), (0xC1, 10, 3, 0), (0xC1, 10, 2, 1)]
)
def test_what_is_not_the_snapshot_that_was_named_is_thrown_away(cluster: int, index: int, term: int, flip: int) -> None:
    data, size = sent()
    files = MemoryFiles()
    receiver = SnapshotReceiver(files, cluster, index, term, size)
    receiver.write(0, data[:-3] + bytes([data[-3] ^ flip]) + data[-2:])
    with pytest.raises(PeerError, match="not the snapshot"):
        receiver.finish()
    assert files.listdir() == []


def test_a_longer_leftover_of_another_transfer_is_not_taken_up() -> None:
    data, size = sent()
    files = MemoryFiles()
    receiver = SnapshotReceiver(files, 0xC1, 10, 2, size + 50)
    receiver.write(0, bytes(size + 50))
    receiver.close()
    receiver = SnapshotReceiver(files, 0xC1, 10, 2, size)
    assert receiver.received == 0
    receiver.write(0, data)
    receiver.finish()
    receiver.abort()
    assert files.listdir() == [snapshot_name(10, 2)]


# Format


def test_format_1_is_read_and_still_written() -> None:
    files = MemoryFiles()
    info = write(files)
    assert files.read(info.name) == (GOLDEN / info.name).read_bytes()


def test_a_newer_format_is_refused_untouched() -> None:
    files = MemoryFiles()
    name = write(files).name
    data = bytearray(files.read(name))
    data[12] = 2
    end = data.index(b"configuration") + len(b"configuration")
    files.replace(name, crc32c(bytes(data[4:end])).to_bytes(4, "little") + data[4:])
    before = {name: hashlib.sha256(content).digest() for name, content in image(files).items()}
    with pytest.raises(IdentityError, match="format 2, this release reads format 1"):
        SnapshotReader(files, name)
    assert {name: hashlib.sha256(content).digest() for name, content in image(files).items()} == before
