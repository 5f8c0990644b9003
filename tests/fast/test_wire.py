"""Frames and fields, against the format written by hand, the twin, and every way to damage one."""

import struct
from types import SimpleNamespace
from typing import Any

import pytest
from builds import builds, outcome
from hypothesis import given
from hypothesis import strategies as st

from distkit._fast.pure import wire as twin
from distkit._fast.pure.codec import crc32c, encode_block
from distkit.core.errors import LocalError, PeerError
from distkit.core.limits import BLOCK_BYTES_MAX, FRAME_BLOBS_MAX, FRAME_BYTES_MAX

PIECES = st.lists(st.binary(max_size=40) | st.integers(4090, 4100).map(bytes), max_size=6)
KINDS = frozenset((7, 8, 65535))
EDGES = [edge + step for edge in (0, 2**8, 2**16, 2**32, 2**63, 2**64) for step in (-1, 0, 1)]


@pytest.fixture(params=builds("wire"), scope="module")
def wire(request: pytest.FixtureRequest) -> Any:
    return request.param


def by_hand(body: bytes, kind: int = 7, group: int = 9, magic: int = 0xD15C) -> bytes:
    covered = struct.pack("<IHHI", len(body), magic, kind, group) + body
    return struct.pack("<I", crc32c(covered)) + covered


# ---- frames


def test_a_frame_has_the_bytes_of_the_document(wire: Any) -> None:
    assert wire.seal_frame(7, 9, [b"ab", b"", b"c"]) == [by_hand(b"abc")]
    assert wire.seal_frame(7, 9, []) == [by_hand(b"")]
    assert wire.open_frame(by_hand(b"abc"), 0, KINDS, 3) == (7, 9, wire.FRAME_HEADER_BYTES + 3)


@given(PIECES, st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), st.binary(max_size=20))
def test_what_is_sealed_is_opened(wire: Any, pieces: list[bytes], kind: int, group: int, before: bytes) -> None:
    given_pieces = pieces.copy()
    buffers = wire.seal_frame(kind, group, pieces)
    assert pieces == given_pieces
    assert buffers == twin.seal_frame(kind, group, pieces)
    assert buffers[1:] == twin.join_pieces([b"head", *pieces])[1:]
    frame = b"".join(buffers)
    assert frame == by_hand(b"".join(pieces), kind, group)
    end = len(before) + len(frame)
    for data in (before + frame, before + frame + b"more", (before + frame)[:-1]):
        assert wire.open_frame(data, len(before), {kind}, len(frame)) == (
            (kind, group, end) if len(frame) > 16 or len(data) >= end else (0, 0, end)
        )


@given(PIECES)
def test_pieces_are_joined_and_large_ones_passed_by_reference(wire: Any, pieces: list[bytes]) -> None:
    buffers = wire.join_pieces(pieces)
    assert buffers == twin.join_pieces(pieces)
    assert b"".join(buffers) == b"".join(pieces)
    large = [piece for piece in pieces if len(piece) >= 4096]
    assert [buffer for buffer in buffers if any(buffer is piece for piece in large)] == large
    assert 1 <= len(buffers) <= 2 * len(large) + 1


def test_every_wrong_bit_of_a_frame_is_found(wire: Any) -> None:
    frame = by_hand(b"some body")
    for bit in range(8 * len(frame)):
        changed = bytearray(frame)
        changed[bit // 8] ^= 1 << bit % 8
        found = outcome(wire.open_frame, bytes(changed), 0, KINDS, 64)
        assert found == outcome(twin.open_frame, bytes(changed), 0, KINDS, 64)
        assert found[0] is PeerError or found[1][2] > len(frame)  # type: ignore[index]


def test_a_frame_is_judged_as_soon_as_its_header_is_there(wire: Any) -> None:
    for frame, words in (
        (by_hand(b"abcd"), "a frame of 4 bytes, at most 3 are allowed"),
        (by_hand(b"abc", kind=6), "unknown kind 6"),
        (by_hand(b"abc", magic=0x0A0D), "not a distkit frame"),
    ):
        assert wire.open_frame(frame[:15], 0, KINDS, 3) == (0, 0, 16)
        with pytest.raises(PeerError, match=words):
            wire.open_frame(frame[:16], 0, KINDS, 3)
    with pytest.raises(PeerError, match="crc"):
        wire.open_frame(by_hand(b"abc")[:-1] + b"x", 0, KINDS, 3)


@given(st.binary(max_size=60), st.integers(0, 60))
def test_noise_is_no_frame_in_both_builds(wire: Any, data: bytes, start: int) -> None:
    for changed in (data, data[:8] + b"\x5c\xd1\7\0" + data[12:]):
        assert outcome(wire.open_frame, changed, start, KINDS, 40) == outcome(
            twin.open_frame, changed, start, KINDS, 40
        )


def test_arguments_of_frames_are_checked(wire: Any) -> None:
    assert sum(map(len, wire.seal_frame(7, 9, [bytes(FRAME_BYTES_MAX)]))) == 16 + FRAME_BYTES_MAX
    with pytest.raises(LocalError, match="at most"):
        wire.seal_frame(7, 9, [bytes(FRAME_BYTES_MAX), b"x"])
    for number in EDGES:
        for call in (
            lambda module, number=number: module.seal_frame(number, 9, [b"x"]),
            lambda module, number=number: module.seal_frame(7, number, [b"x"]),
            lambda module, number=number: module.open_frame(by_hand(b"x"), number, KINDS, 9),
            lambda module, number=number: module.open_frame(by_hand(b"x"), 0, KINDS, number),
        ):
            assert outcome(call, wire) == outcome(call, twin)
    for bad in (None, "text", bytearray(b"x")):
        for call in (
            lambda bad=bad: wire.seal_frame(7, 9, [bad]),
            lambda bad=bad: wire.join_pieces([b"x", bad]),
            lambda bad=bad: wire.open_frame(bad, 0, KINDS, 9),
        ):
            with pytest.raises(TypeError):
                call()


# ---- fields

ALL = tuple((f"field_{i}", type) for i, type in enumerate(("u64", "bool", "bytes", "u8", "blobs", "u16", "u32")))
BLOCKS = (encode_block(3, 5, 0, b"\1\1", [b"a", b"b"]), encode_block(3, 7, 0, b"\1", [b"c"]))


def record(*values: object) -> SimpleNamespace:
    return SimpleNamespace(**{f"field_{i}": value for i, value in enumerate(values)})


def put(module: Any, fields: Any, *values: object) -> bytes:
    pieces: list[bytes] = [b"before"]
    module.Fields(fields).put(record(*values), pieces)
    return b"".join(pieces).removeprefix(b"before")


def take(module: Any, fields: Any, data: bytes, start: int, end: int) -> tuple[list[Any], int]:
    values: list[Any] = ["before"]
    position = module.Fields(fields).take(data, start, end, values)
    return values[1:], position


def one(type: str) -> tuple[tuple[str, str], ...]:
    return (("field_0", type),)


def test_fields_have_the_bytes_of_the_document(wire: Any) -> None:
    data = put(wire, ALL, 1 << 63, True, b"abc", 255, (b"x", b"", b"yz"), 258, 1 << 24)
    assert data == (
        struct.pack("<Q", 1 << 63) + b"\1" + struct.pack("<I", 3) + b"abc" + b"\xff"
        + struct.pack("<IIII", 3, 1, 0, 2) + b"xyz" + struct.pack("<HI", 258, 1 << 24)
    )  # fmt: skip
    assert take(wire, ALL, b"??" + data + b"??", 2, 2 + len(data)) == (
        [1 << 63, True, b"abc", 255, (b"x", b"", b"yz"), 258, 1 << 24],
        2 + len(data),
    )


@given(
    st.tuples(
        st.integers(0, 2**64 - 1),
        st.booleans(),
        st.binary(max_size=40),
        st.integers(0, 255),
        st.lists(st.binary(max_size=40), max_size=5).map(tuple),
        st.integers(0, 2**16 - 1),
        st.integers(0, 2**32 - 1),
    ),
    st.binary(max_size=8),
)
def test_what_is_put_is_taken(wire: Any, values: tuple[Any, ...], around: bytes) -> None:
    data = put(wire, ALL, *values)
    assert data == put(twin, ALL, *values)
    end = len(around) + len(data)
    assert take(wire, ALL, around + data + around, len(around), end) == (list(values), end)
    for short in range(len(around), end):
        with pytest.raises(PeerError, match="ends too early"):
            take(wire, ALL, around + data + around, len(around), short)


@given(st.lists(st.sampled_from([*twin.FIELD_TYPES]), min_size=1, max_size=5), st.binary(max_size=80))
def test_noise_is_the_same_in_both_builds(wire: Any, types: list[str], data: bytes) -> None:
    fields = [(f"field_{i}", type) for i, type in enumerate(types)]
    for changed in (data, bytes(byte & 3 for byte in data)):
        found = outcome(take, wire, fields, changed, 0, len(changed))
        assert found == outcome(take, twin, fields, changed, 0, len(changed))
        if found[0] is tuple:
            values, end = found[1]  # type: ignore[misc]
            assert put(wire, fields, *values) == changed[:end]


def test_blocks_are_checked_follow_each_other_and_their_rounds_never_fall(wire: Any) -> None:
    data = put(wire, one("blocks"), BLOCKS)
    assert take(wire, one("blocks"), data, 0, len(data)) == ([BLOCKS], len(data))
    assert take(wire, one("blocks"), bytes(4), 0, 4) == ([()], 4)
    cases = [
        (*BLOCKS, encode_block(4, 8, 0, b"\1", [b"c"])),
        (BLOCKS[1], BLOCKS[0]),
        (BLOCKS[0], BLOCKS[0]),
        (BLOCKS[0], encode_block(2, 7, 0, b"\1", [b"c"])),
        (BLOCKS[0], b""),
        (bytes(BLOCK_BYTES_MAX + 1),),
        *((BLOCKS[0][:i] + bytes([BLOCKS[0][i] ^ 1]) + BLOCKS[0][i + 1 :],) for i in range(len(BLOCKS[0]))),
    ]
    for number, blocks in enumerate(cases):
        data = put(wire, one("blobs"), blocks)
        found = outcome(take, wire, one("blocks"), data, 0, len(data))
        assert found == outcome(take, twin, one("blocks"), data, 0, len(data))
        assert found[0] is (tuple if number == 0 else PeerError)


def test_nothing_is_made_because_a_count_or_a_length_says_so(wire: Any) -> None:
    for type, data in (
        ("bytes", struct.pack("<I", 2**32 - 1) + b"x"),
        ("blobs", struct.pack("<I", 2**32 - 1)),
        ("blobs", struct.pack("<I", FRAME_BLOBS_MAX + 1) + bytes(4 * FRAME_BLOBS_MAX + 4)),
        ("blobs", struct.pack("<I", FRAME_BLOBS_MAX) + bytes(4 * FRAME_BLOBS_MAX - 1)),
        ("blobs", struct.pack("<III", 2, 1, 2**32 - 1) + b"x"),
        ("bool", b"\2"),
    ):
        with pytest.raises(PeerError):
            take(wire, one(type), data, 0, len(data))
    full = struct.pack("<I", FRAME_BLOBS_MAX) + bytes(4 * FRAME_BLOBS_MAX)
    assert take(wire, one("blobs"), full, 0, len(full)) == ([(b"",) * FRAME_BLOBS_MAX], len(full))


@pytest.mark.parametrize("type", ["u8", "u16", "u32", "u64", "bool", "bytes", "blobs", "blocks"])
def test_a_value_that_does_not_fit_is_the_callers_error(wire: Any, type: str) -> None:
    assert type in wire.FIELD_TYPES
    values = [*EDGES, True, None, 1.0, "text", b"bytes", [b"list"], (b"tuple", "mixed"), (b"",) * (FRAME_BLOBS_MAX + 1)]
    for value in values:
        assert outcome(put, wire, one(type), value) == outcome(put, twin, one(type), value)


def test_arguments_of_fields_are_checked(wire: Any) -> None:
    for fields in ((), one("u7"), one("u8") * 33, 5):
        assert outcome(wire.Fields, fields)[0] in (LocalError, TypeError)
    assert take(wire, one("u8") * 32, bytes(range(32)), 0, 32) == ([*range(32)], 32)
    assert put(wire, one("u64") * 32, 1) == struct.pack("<Q", 1) * 32
    for number in EDGES:
        for call in (
            lambda module, number=number: take(module, one("u8"), b"abc", number, 3),
            lambda module, number=number: take(module, one("u8"), b"abc", 0, number),
            lambda module, number=number: take(module, one("u8"), b"abc", 2, number),
        ):
            assert outcome(call, wire) == outcome(call, twin)
    with pytest.raises(AttributeError):
        wire.Fields((("other", "u8"),)).put(record(1), [])
    with pytest.raises(TypeError):
        take(wire, one("u8"), bytearray(b"abc"), 0, 3)  # type: ignore[arg-type]
