"""Log records, against the format written by hand, the twin, and every way to damage a segment."""

import struct
from typing import Any

import pytest
from builds import builds, outcome
from hypothesis import given
from hypothesis import strategies as st

from distkit._fast.pure import codec as twin
from distkit.core.errors import LocalError
from distkit.core.limits import BLOCK_BYTES_MAX, INDEX_MAX

PLACE = (0xC1, 0xD2, 0xE3)  # cluster, node, segment
MAX = BLOCK_BYTES_MAX
EDGES = [edge + step for edge in (0, 2**16, 2**31, 2**32, 2**62, 2**63, 2**64) for step in (-1, 0, 1)]
RECORDS = st.lists(
    st.tuples(st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), st.binary(max_size=30)), min_size=1, max_size=6
)
THREE = [(64, 1, b"vote"), (96, 0, b"12345678"), (2, 0, b"")]


@pytest.fixture(params=builds("codec"), scope="module")
def codec(request: pytest.FixtureRequest) -> Any:
    return request.param


def by_hand(offset: int, synced: int, kind: int, group: int, content: bytes) -> bytes:
    rest = struct.pack("<IHHIQ", len(content), 0xD157, kind, group, synced)
    crc = twin.crc32c(struct.pack("<QQQQ", *PLACE, offset) + rest + content)
    return struct.pack("<I", crc) + rest + content + bytes(-len(content) % 8)


def stream(codec: Any, records: list[tuple[int, int, bytes]], offset: int = 64, synced: int = 24) -> bytes:
    return b"".join(codec.encode_records(*PLACE, offset, synced, records))


def scanned(codec: Any, data: bytes, start: int = 0, base: int = 64) -> tuple[list[tuple[int, int, bytes]], int]:
    records, end = codec.scan_records(data, start, *PLACE, base, MAX)
    return [(kind, group, content) for _, kind, group, _, content in records], end


# ---- the format


def test_records_have_the_bytes_of_the_document(codec: Any) -> None:
    expected = by_hand(64, 24, 64, 1, b"vote") + by_hand(96, 24, 96, 0, b"12345678") + by_hand(128, 24, 2, 0, b"")
    assert stream(codec, THREE) == expected
    assert codec.scan_records(expected, 0, *PLACE, 64, MAX) == (
        [(64, 64, 1, 24, b"vote"), (96, 96, 0, 24, b"12345678"), (128, 2, 0, 24, b"")],
        len(expected),
    )


@given(RECORDS, st.integers(0, INDEX_MAX // 8 - 1000).map(lambda number: 8 * number), st.binary(max_size=40))
def test_what_is_encoded_is_scanned(
    codec: Any, records: list[tuple[int, int, bytes]], offset: int, behind: bytes
) -> None:
    data = stream(codec, records, offset, offset)
    assert data == stream(twin, records, offset, offset)
    assert scanned(codec, data + behind, base=offset) == (records, len(data))
    assert scanned(codec, bytes(16) + data, 16, offset - 16 if offset else 0)[0] == (records if offset else [])


def test_large_contents_are_passed_by_reference_and_small_ones_joined(codec: Any) -> None:
    small, large = b"s" * 4095, b"l" * 4097
    buffers = codec.encode_records(*PLACE, 64, 0, [(1, 0, small), (1, 0, large), (1, 0, large), (1, 0, small)])
    assert [len(buffer) for buffer in buffers] == [24 + 4096 + 24, 4097, 7 + 24, 4097, 7 + 24 + 4096]
    assert buffers[1] is large
    assert buffers[3] is large
    assert scanned(codec, b"".join(buffers))[0] == [(1, 0, small), (1, 0, large), (1, 0, large), (1, 0, small)]
    aligned = b"a" * 4096
    assert codec.encode_records(*PLACE, 64, 0, [(1, 0, aligned)])[1:] == [aligned]
    assert codec.encode_records(*PLACE, 64, 0, []) == []


# ---- bytes from the disk


@pytest.mark.parametrize("wrong", [(1, 0xD2, 0xE3, 64), (0xC1, 1, 0xE3, 64), (0xC1, 0xD2, 1, 64), (*PLACE, 72)])
def test_a_record_counts_only_where_it_was_written(codec: Any, wrong: tuple[int, int, int, int]) -> None:
    data = stream(codec, THREE)
    assert codec.scan_records(data, 0, *wrong, MAX) == ([], 0)
    assert codec.find_record(data, 0, *wrong, MAX) == -1


def test_a_stream_cut_anywhere_yields_the_whole_records_in_front(codec: Any) -> None:
    data = stream(codec, THREE)
    ends = [32, 64, 88]
    for end in range(len(data)):
        whole = sum(1 for record_end in ends if record_end <= end)
        assert scanned(codec, data[:end]) == (THREE[:whole], ([0, *ends])[whole])


def test_every_changed_byte_is_found_padding_included(codec: Any) -> None:
    data = stream(codec, THREE)
    starts = [0, 32, 64, len(data)]
    for at in range(len(data)):
        damaged = max(number for number in range(3) if starts[number] <= at)
        for change in (*(1 << bit for bit in range(8)), 0xFF):
            changed = data[:at] + bytes([data[at] ^ change]) + data[at + 1 :]
            assert scanned(codec, changed) == (THREE[:damaged], starts[damaged])
            found = codec.find_record(changed, starts[damaged], *PLACE, 64, MAX)
            assert found == (starts[damaged + 1] if damaged < 2 else -1)


def test_the_next_record_is_found_from_every_position(codec: Any) -> None:
    data = b"\x57\xd1" * 12 + stream(codec, THREE, offset=88) + bytes(30)
    starts = [24, 56, 88]
    for start in range(len(data) + 1):
        expected = min((position for position in starts if position >= start), default=-1)
        assert codec.find_record(data, start, *PLACE, 64, MAX) == expected


@given(st.binary(max_size=120), st.integers(0, 15))
def test_any_bytes_hold_no_record(codec: Any, data: bytes, start: int) -> None:
    for position in (start, start * 8):
        for function in ("scan_records", "find_record"):
            arguments = (data, position, *PLACE, 64, MAX)
            assert outcome(getattr(codec, function), *arguments) == outcome(getattr(twin, function), *arguments)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 2**20, 2**20 + 1, 2**31 - 1, 2**31, 2**32 - 8, 2**32 - 1])
def test_a_length_beyond_the_data_is_no_record(codec: Any, length: int) -> None:
    rest = struct.pack("<IHHIQ", length, 0xD157, 1, 0, 0)
    data = struct.pack("<I", twin.crc32c(struct.pack("<QQQQ", *PLACE, 64) + rest)) + rest
    assert codec.scan_records(data, 0, *PLACE, 64, MAX) == ([], 0)
    assert codec.find_record(data, 0, *PLACE, 64, MAX) == -1


def test_a_content_over_the_callers_limit_is_no_record(codec: Any) -> None:
    data = stream(codec, [(1, 0, b"12345")])
    assert len(codec.scan_records(data, 0, *PLACE, 64, 5)[0]) == 1
    assert codec.scan_records(data, 0, *PLACE, 64, 4) == ([], 0)


# ---- the caller's mistakes


@pytest.mark.parametrize("number", EDGES)
def test_numbers_at_the_edges(codec: Any, number: int) -> None:
    for position in range(5):
        numbers = [1, 2, 3, 64, 0]
        numbers[position] = number
        for records in ([], THREE):
            fast, slow = (outcome(build.encode_records, *numbers, records) for build in (codec, twin))
            assert fast == slow
    for record, limit in (((number, 0, b""), 2**16), ((0, number, b""), 2**32)):
        fast, slow = (outcome(build.encode_records, *PLACE, 64, 0, [record]) for build in (codec, twin))
        assert fast == slow
        assert fast[0] is (list if 0 <= number < limit else LocalError)
    for position in range(1, 7):
        arguments: list[Any] = [bytes(64), 8, *PLACE, 64, MAX]
        arguments[position] = number
        for function in ("scan_records", "find_record"):
            assert outcome(getattr(codec, function), *arguments) == outcome(getattr(twin, function), *arguments)


def test_what_cannot_be_written_is_refused(codec: Any) -> None:
    for numbers, message in [
        ((2**64, 0, 0, 0, 0), "cluster must be"),
        ((0, -1, 0, 0, 0), "node must be"),
        ((0, 0, 2**64, 0, 0), "segment must be"),
        ((0, 0, 0, 12, 0), "offset 12 is no multiple of 8"),
        ((0, 0, 0, INDEX_MAX + 1, 0), "offset must be"),
        ((0, 0, 0, 8, 9), "synced must be 0 to 8, not 9"),
    ]:
        with pytest.raises(LocalError, match=message):
            codec.encode_records(*numbers, [])
    assert len(stream(codec, [(1, 0, bytes(BLOCK_BYTES_MAX))])) == 24 + BLOCK_BYTES_MAX
    with pytest.raises(LocalError, match="length of a content must be 0 to 1048576, not 1048577"):
        stream(codec, [(1, 0, bytes(BLOCK_BYTES_MAX + 1))])


def test_positions_outside_of_the_data_are_refused(codec: Any) -> None:
    with pytest.raises(LocalError, match="start 4 is no multiple of 8"):
        codec.scan_records(bytes(64), 4, *PLACE, 64, MAX)
    for function in (codec.scan_records, codec.find_record):
        for arguments, message in [
            ((bytes(64), 65, *PLACE, 64, MAX), "start must be 0 to 64, not 65"),
            ((bytes(64), -1, *PLACE, 64, MAX), "start must be"),
            ((bytes(64), 0, *PLACE, 63, MAX), "offset 63 is no multiple of 8"),
            ((bytes(64), 0, *PLACE, 64, MAX + 1), "content_bytes_max must be"),
        ]:
            with pytest.raises(LocalError, match=message):
                function(*arguments)


@pytest.mark.parametrize("wrong", [None, "text", 1, bytearray(24), memoryview(bytes(24))])
def test_only_bytes_are_bytes(codec: Any, wrong: Any) -> None:
    for function, arguments in (
        (codec.encode_records, (*PLACE, 64, 0, [(1, 0, wrong)])),
        (codec.scan_records, (wrong, 0, *PLACE, 64, MAX)),
        (codec.find_record, (wrong, 0, *PLACE, 64, MAX)),
    ):
        with pytest.raises(TypeError):
            function(*arguments)
    with pytest.raises(TypeError):
        codec.encode_records(*PLACE, 64, 0, None)
    with pytest.raises(TypeError):
        codec.encode_records(*PLACE, 64, 0, [(1.0, 0, b"")])
