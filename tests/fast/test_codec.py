"""Blocks, against the format written by hand, the twin, and every way to damage one."""

import gc
import struct
import subprocess
import sys
from typing import Any

import pytest
from builds import builds, outcome
from hypothesis import given
from hypothesis import strategies as st

from distkit._fast.pure import codec as twin
from distkit.core.errors import LocalError, PeerError
from distkit.core.limits import BLOCK_BYTES_MAX, BLOCK_ENTRIES_MAX, INDEX_MAX

ENTRIES = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), min_size=1, max_size=8)
NUMBERS = st.integers(0, INDEX_MAX - 10)
EDGES = [edge + step for edge in (0, 2**31, 2**32, 2**62, 2**63, 2**64) for step in (-1, 0, 1)]


@pytest.fixture(params=builds("codec"), scope="module")
def codec(request: pytest.FixtureRequest) -> Any:
    return request.param


def encode(codec: Any, entries: list[tuple[int, bytes]], round: int = 3, first: int = 10, time_us: int = 77) -> bytes:
    return codec.encode_block(round, first, time_us, bytes(kind for kind, _ in entries), [data for _, data in entries])


def crc32c(data: bytes) -> int:
    """The checksum by its definition, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def by_hand(header: tuple[int, ...], table: list[tuple[int, ...]], payload: bytes) -> bytes:
    """A block with right checksums around any header (magic to reserved), table and payload, possible or not."""
    start = struct.pack("<HBBIQQQII", *header) + struct.pack("<I", crc32c(payload))
    ends = b"".join(struct.pack("<IBBH", *entry) for entry in table)
    return start + struct.pack("<I", crc32c(start + ends)) + ends + payload


GOOD = (0xB10C, 1, 0, 3, 3, 10, 77, 5, 0)
TABLE: list[tuple[int, ...]] = [(2, 1, 0, 0), (2, 0, 0, 0), (5, 9, 0, 0)]
BLOCK = by_hand(GOOD, TABLE, b"abcde")


# ---- the format


def test_a_block_has_the_bytes_of_the_document(codec: Any) -> None:
    assert encode(codec, [(1, b"ab"), (0, b""), (9, b"cde")]) == BLOCK
    assert codec.check_block(BLOCK) == codec.block_info(BLOCK) == (3, 10, 3, 77)
    assert codec.block_entries(BLOCK, 10, 12) == [(1, b"ab"), (0, b""), (9, b"cde")]
    assert (codec.BLOCK_HEADER, codec.RECORD_HEADER) == (48, 24)


def test_the_checksum_is_crc32c(codec: Any) -> None:
    assert codec.crc32c(b"123456789") == crc32c(b"123456789") == 0xE3069283
    assert codec.crc32c(b"6789", codec.crc32c(b"12345")) == 0xE3069283
    assert codec.crc32c(b"", 7) == 7
    assert codec.CRC_IMPLEMENTATION == "c"


@given(ENTRIES, NUMBERS, NUMBERS.map(lambda first: first + 1), st.integers(0, 2**64 - 1))
def test_what_is_encoded_is_decoded(
    codec: Any, entries: list[tuple[int, bytes]], round: int, first: int, time_us: int
) -> None:
    block = encode(codec, entries, round, first, time_us)
    assert block == encode(twin, entries, round, first, time_us)
    assert codec.check_block(block) == codec.block_info(block) == (round, first, len(entries), time_us)
    assert codec.block_entries(block, first, first + len(entries) - 1) == entries


@given(ENTRIES)
def test_a_cut_at_every_index_is_the_block_of_those_entries(codec: Any, entries: list[tuple[int, bytes]]) -> None:
    block = encode(codec, entries)
    for lo in range(len(entries)):
        for hi in range(lo, len(entries)):
            part = codec.cut_block(block, 10 + lo, 10 + hi)
            assert part == encode(codec, entries[lo : hi + 1], first=10 + lo)
            assert codec.block_entries(block, 10 + lo, 10 + hi) == entries[lo : hi + 1]
    assert codec.cut_block(block, 10, 9 + len(entries)) is block


# ---- bytes from outside


def test_every_truncation_is_refused(codec: Any) -> None:
    for end in range(len(BLOCK)):
        with pytest.raises(PeerError):
            codec.check_block(BLOCK[:end])
        assert outcome(codec.block_info, BLOCK[:end])[0] is LocalError
    with pytest.raises(PeerError):
        codec.check_block(BLOCK + b"\0")


def test_every_changed_byte_is_refused_and_leads_nobody_out_of_the_block(codec: Any) -> None:
    for at in range(len(BLOCK)):
        for change in (*(1 << bit for bit in range(8)), 0xFF):
            block = BLOCK[:at] + bytes([BLOCK[at] ^ change]) + BLOCK[at + 1 :]
            assert outcome(codec.check_block, block)[0] is PeerError
            assert outcome(codec.check_block, block) == outcome(twin.check_block, block)
            assert outcome(codec.block_info, block) == outcome(twin.block_info, block)
            for lo, hi in ((10, 12), (10, 10), (11, 12), (12, 12)):
                assert outcome(codec.block_entries, block, lo, hi) == outcome(twin.block_entries, block, lo, hi)
                assert outcome(codec.cut_block, block, lo, hi) == outcome(twin.cut_block, block, lo, hi)


@given(st.binary(max_size=120), st.integers(0, 100), st.integers(0, 100))
def test_any_bytes_are_refused_alike(codec: Any, data: bytes, lo: int, hi: int) -> None:
    assert outcome(codec.check_block, data)[0] is PeerError
    assert outcome(codec.check_block, data) == outcome(twin.check_block, data)
    assert outcome(codec.block_info, data) == outcome(twin.block_info, data)
    assert outcome(codec.cut_block, data, lo, hi) == outcome(twin.cut_block, data, lo, hi)


@pytest.mark.parametrize(
    ("header", "table", "message"),
    [
        ((0xB10D, *GOOD[1:]), TABLE, "wrong magic"),
        ((*GOOD[:1], 2, *GOOD[2:]), TABLE, "version 2 is unknown"),
        ((*GOOD[:2], 1, *GOOD[3:]), TABLE, "a reserved field is not zero"),
        ((*GOOD[:3], 0, *GOOD[4:]), TABLE, "0 entries"),
        ((*GOOD[:3], 2**32 - 1, *GOOD[4:]), TABLE, "4294967295 entries"),
        ((*GOOD[:3], 2, *GOOD[4:]), TABLE, "is not the 69 that its header says"),
        ((*GOOD[:4], INDEX_MAX + 1, *GOOD[5:]), TABLE, "round"),
        ((*GOOD[:4], 2**64 - 1, *GOOD[5:]), TABLE, "round"),
        ((*GOOD[:5], 0, *GOOD[6:]), TABLE, "from index 0 on"),
        ((*GOOD[:5], INDEX_MAX - 1, *GOOD[6:]), TABLE, "from index 4611686018427387902 on"),
        ((*GOOD[:5], 2**64 - 1, *GOOD[6:]), TABLE, "from index 18446744073709551615 on"),
        ((*GOOD[:7], 4, *GOOD[8:]), TABLE, "is not the 76 that its header says"),
        ((*GOOD[:7], 2**32 - 1, *GOOD[8:]), TABLE, "is not the 4294967367 that its header says"),
        ((*GOOD[:8], 1), TABLE, "a reserved field is not zero"),
        (GOOD, [(2, 1, 1, 0), *TABLE[1:]], "a reserved field of the table"),
        (GOOD, [*TABLE[:2], (5, 9, 0, 1)], "a reserved field of the table"),
        (GOOD, [(3, 1, 0, 0), *TABLE[1:]], "the ends in the table fall"),
        (GOOD, [(2, 1, 0, 0), (6, 0, 0, 0), (5, 9, 0, 0)], "the ends in the table fall"),
        (GOOD, [*TABLE[:2], (4, 9, 0, 0)], "not the end of the payload"),
        (GOOD, [*TABLE[:2], (2**32 - 1, 9, 0, 0)], "not the end of the payload"),
    ],
)
def test_nonsense_with_right_checksums_is_refused_by_name(
    codec: Any, header: tuple[int, ...], table: list[tuple[int, ...]], message: str
) -> None:
    block = by_hand(header, table, b"abcde")
    with pytest.raises(PeerError, match=message):
        codec.check_block(block)
    assert outcome(codec.check_block, block) == outcome(twin.check_block, block)
    for lo, hi in ((10, 12), (11, 12), (0, 2), (INDEX_MAX - 1, INDEX_MAX)):
        assert outcome(codec.cut_block, block, lo, hi) == outcome(twin.cut_block, block, lo, hi)
        assert outcome(codec.block_entries, block, lo, hi) == outcome(twin.block_entries, block, lo, hi)


def test_a_block_that_fits_its_header_but_is_too_long_is_refused(codec: Any) -> None:
    size = BLOCK_BYTES_MAX - 48 - 8 + 1
    block = bytearray(by_hand((0xB10C, 1, 0, 1, 3, 10, 77, size, 0), [(size, 1, 0, 0)], b"") + bytes(size))
    with pytest.raises(PeerError, match="length 1048577 is not"):
        codec.check_block(bytes(block))
    with pytest.raises(LocalError, match="not a checked block"):
        codec.block_info(bytes(block))


# ---- the caller's mistakes


def test_a_block_of_the_largest_size_and_count(codec: Any) -> None:
    fits = BLOCK_BYTES_MAX - 48 - 8
    assert codec.check_block(encode(codec, [(1, bytes(fits))]))[2] == 1
    with pytest.raises(LocalError, match="a block of 1048577 bytes is over the limit"):
        encode(codec, [(1, bytes(fits + 1))])
    assert codec.check_block(encode(codec, [(0, b"")] * BLOCK_ENTRIES_MAX))[2] == BLOCK_ENTRIES_MAX
    with pytest.raises(LocalError, match="count of entries must be 1 to 16384, not 16385"):
        encode(codec, [(0, b"")] * (BLOCK_ENTRIES_MAX + 1))
    with pytest.raises(LocalError, match="count of entries must be 1 to 16384, not 0"):
        encode(codec, [])
    with pytest.raises(LocalError, match="2 kinds for 1 payloads"):
        codec.encode_block(3, 10, 77, b"\1\1", [b"a"])


@pytest.mark.parametrize("number", EDGES)
def test_numbers_at_the_edges(codec: Any, number: int) -> None:
    one = (b"\1", [b"x"])
    for position, fits in ((0, 0 <= number <= INDEX_MAX), (1, 1 <= number <= INDEX_MAX), (2, 0 <= number < 2**64)):
        numbers = [3, 10, 77]
        numbers[position] = number
        assert outcome(codec.encode_block, *numbers, *one)[0] is (bytes if fits else LocalError)
        assert outcome(codec.encode_block, *numbers, *one) == outcome(twin.encode_block, *numbers, *one)
    for lo, hi in ((number, 12), (10, number), (number, number)):
        assert outcome(codec.cut_block, BLOCK, lo, hi) == outcome(twin.cut_block, BLOCK, lo, hi)
        assert outcome(codec.cut_block, BLOCK, lo, hi)[0] is LocalError
        assert outcome(codec.block_entries, BLOCK, lo, hi)[0] is LocalError
    assert outcome(codec.crc32c, b"x", number) == outcome(twin.crc32c, b"x", number)


def test_the_last_index_is_bounded_too(codec: Any) -> None:
    assert codec.check_block(encode(codec, [(1, b"")] * 2, first=INDEX_MAX - 1))[1] == INDEX_MAX - 1
    with pytest.raises(LocalError, match="last index must be"):
        encode(codec, [(1, b"")] * 2, first=INDEX_MAX)


@pytest.mark.parametrize(("lo", "hi"), [(9, 12), (10, 13), (12, 11), (13, 13), (11, 10)])
def test_a_cut_outside_of_the_block_is_refused(codec: Any, lo: int, hi: int) -> None:
    for function in (codec.cut_block, codec.block_entries):
        with pytest.raises(LocalError, match="must be"):
            function(BLOCK, lo, hi)


class Bytes(bytes):
    pass


@pytest.mark.parametrize("wrong", [None, "text", 1, bytearray(BLOCK), memoryview(BLOCK), Bytes(BLOCK)])
def test_only_bytes_are_bytes(codec: Any, wrong: Any) -> None:
    calls = [
        (codec.crc32c, (wrong,)),
        (codec.encode_block, (3, 10, 77, b"\1", [wrong])),
        (codec.encode_block, (3, 10, 77, b"\1", wrong if wrong is None else [None])),
        (codec.block_info, (wrong,)),
        (codec.check_block, (wrong,)),
        (codec.cut_block, (wrong, 10, 12)),
        (codec.block_entries, (wrong, 10, 12)),
    ]
    if not isinstance(wrong, bytes):
        calls.append((codec.encode_block, (3, 10, 77, wrong, [b"x"])))
    for function, arguments in calls:
        with pytest.raises(TypeError):
            function(*arguments)


@pytest.mark.parametrize("wrong", [None, "1", 1.0, b"1"])
def test_only_integers_are_integers(codec: Any, wrong: Any) -> None:
    for arguments in ((wrong, 10, 77), (3, wrong, 77), (3, 10, wrong)):
        with pytest.raises(TypeError):
            codec.encode_block(*arguments, b"\1", [b"x"])
    for lo, hi in ((wrong, 12), (10, wrong)):
        with pytest.raises(TypeError):
            codec.cut_block(BLOCK, lo, hi)
    with pytest.raises(TypeError):
        codec.crc32c(b"", wrong)


# ---- around the format


def test_nothing_leaks_on_success_or_refusal(codec: Any) -> None:
    changed = BLOCK[:60] + b"?" + BLOCK[61:]

    def work() -> None:
        for _ in range(300):
            encode(codec, codec.block_entries(BLOCK, 10, 12))
            codec.cut_block(BLOCK, 11, 12)
            for call in (
                (codec.check_block, changed),
                (codec.cut_block, BLOCK, 1, 2),
                (codec.encode_block, 1, 1, 1, b"\1", [1]),
            ):
                outcome(*call)

    work()
    gc.collect()
    before = sys.getallocatedblocks()
    work()
    gc.collect()
    assert sys.getallocatedblocks() - before < 100


def test_without_the_c_build_of_the_checksum_the_bytes_are_the_same() -> None:
    program = (
        "import sys, warnings; warnings.simplefilter('ignore'); sys.modules['google_crc32c._crc32c'] = None\n"
        "from distkit._fast import codec\n"
        "block = codec.encode_block(3, 10, 77, b'\\1\\0\\x09', [b'ab', b'', b'cde'])\n"
        "print(codec.CRC_IMPLEMENTATION, block.hex(), codec.check_block(block))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.split(maxsplit=2) == ["python", BLOCK.hex(), "(3, 10, 3, 77)\n"]
