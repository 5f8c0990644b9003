"""Frames: a stream split anywhere gives the same messages, and a damaged one ends in PeerError."""

import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit._fast.codec import crc32c, encode_block
from distkit.codec import FRAME_HEADER_BYTES, FrameDecoder, Registry
from distkit.core import LocalError, PeerError, record
from distkit.core.limits import FRAME_BYTES_MAX
from distkit.raft import messages as raft


@record
class Load:
    """Some bytes."""

    content: bytes


REGISTRY = Registry(raft.MESSAGES, [(1, Load, "content:bytes")], parts=raft.PARTS)
BLOCK = encode_block(3, 10, 5, b"\1\1", [b"one", bytes(5000)])
MESSAGES = [
    (0, raft.TimeoutNow(7)),
    (5, raft.AppendEntries(1, 2, 3, 4, 5, (BLOCK,))),
    (0, raft.Heartbeat(1, 2, 3, 4, 5)),
    ((1 << 32) - 1, Load(b"")),
]


def frame(message: Any, group: int = 0) -> bytes:
    return b"".join(REGISTRY.encode_frame(message, group))


STREAM = b"".join(frame(message, group) for group, message in MESSAGES)


def header(size: int, magic: int = 0xD15C, kind: int = 1, group: int = 0) -> bytes:
    covered = struct.pack("<IHHI", size, magic, kind, group)
    return struct.pack("<I", crc32c(covered)) + covered


def test_a_stream_gives_its_messages() -> None:
    decoder = FrameDecoder(REGISTRY)
    decoder.feed(STREAM)
    assert list(decoder) == MESSAGES
    assert decoder.rest == b""


def test_split_at_every_byte() -> None:
    for at in range(len(STREAM) + 1):
        decoder = FrameDecoder(REGISTRY)
        decoder.feed(STREAM[:at])
        found = list(decoder)
        decoder.feed(STREAM[at:])
        assert found + list(decoder) == MESSAGES


@pytest.mark.parametrize("step", [1, 2, 3, 15, 16, 17, 1000])
def test_small_pieces_give_the_same_and_never_hold_more_than_what_arrived(step: int) -> None:
    decoder = FrameDecoder(REGISTRY)
    found = []
    for at in range(0, len(STREAM), step):
        decoder.feed(STREAM[at : at + step])
        found += list(decoder)
        assert len(decoder.rest) <= at + step
    assert found == MESSAGES


def test_a_header_after_a_large_frame_waits_only_for_itself() -> None:
    decoder = FrameDecoder(REGISTRY)
    first, second = frame(Load(bytes(10_000))), frame(Load(b"x"))
    decoder.feed(first + second[:5])
    assert list(decoder) == [(0, Load(bytes(10_000)))]
    decoder.feed(second[5:])
    assert list(decoder) == [(0, Load(b"x"))]


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_split_anywhere(cuts: list[int]) -> None:
    decoder = FrameDecoder(REGISTRY)
    found = []
    edges = [0, *sorted(cuts), len(STREAM)]
    for start, end in pairwise(edges):
        decoder.feed(STREAM[start:end])
        found += list(decoder)
    assert found == MESSAGES


def test_an_iteration_that_was_left_early_goes_on() -> None:
    decoder = FrameDecoder(REGISTRY)
    decoder.feed(STREAM + b"tail")
    assert next(iter(decoder)) == MESSAGES[0]
    assert decoder.rest == STREAM[len(frame(MESSAGES[0][1])) :] + b"tail"
    with pytest.raises(LocalError):
        decoder.feed(b"more")
    assert list(decoder) == MESSAGES[1:]
    assert decoder.rest == b"tail"


def test_every_flipped_bit_of_a_frame_is_found() -> None:
    whole = frame(raft.RequestVote(1, 2, 3, 4, True, False), 3)
    for at in range(len(whole)):
        for bit in range(8):
            changed = whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
            decoder = FrameDecoder(REGISTRY, 1 << 10)
            decoder.feed(changed)
            try:
                found = list(decoder)
            except PeerError:
                continue
            assert found == [], "only a longer length may leave the decoder waiting"
            assert at < 8


@pytest.mark.parametrize("size", [1 << 31, (1 << 32) - 1, FRAME_BYTES_MAX + 1])
def test_a_length_over_the_limit_is_refused_before_its_body(size: int) -> None:
    decoder = FrameDecoder(REGISTRY)
    decoder.feed(header(size))
    with pytest.raises(PeerError, match="at most"):
        list(decoder)


def test_a_64_bit_length_is_not_a_frame() -> None:
    decoder = FrameDecoder(REGISTRY)
    decoder.feed(struct.pack("<IQI", 0, 1 << 63, 0))
    with pytest.raises(PeerError, match="magic"):
        list(decoder)


def test_length_zero_is_a_frame_whose_body_is_too_short() -> None:
    decoder = FrameDecoder(REGISTRY)
    decoder.feed(header(0))
    with pytest.raises(PeerError, match="ends too early"):
        list(decoder)


def test_the_limit_itself_passes() -> None:
    whole = frame(Load(bytes(96)))
    assert len(whole) == FRAME_HEADER_BYTES + 100
    for limit, passes in ((100, True), (99, False)):
        decoder = FrameDecoder(REGISTRY, limit)
        decoder.feed(whole)
        if passes:
            assert len(list(decoder)) == 1
        else:
            with pytest.raises(PeerError):
                list(decoder)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "not a distkit frame"),
        (header(4, kind=9999) + bytes(4), "unknown kind 9999"),
        (header(4, magic=0xD157) + bytes(4), "not a distkit frame"),
    ],
)
def test_what_is_no_frame_is_refused_at_its_header(data: bytes, match: str) -> None:
    decoder = FrameDecoder(REGISTRY)
    decoder.feed(data)
    with pytest.raises(PeerError, match=match):
        list(decoder)


def test_trailing_bytes_inside_a_frame_are_refused() -> None:
    covered = struct.pack("<IHHI", 9, 0xD15C, 22, 0) + bytes(9)
    decoder = FrameDecoder(REGISTRY)
    decoder.feed(struct.pack("<I", crc32c(covered)) + covered)
    with pytest.raises(PeerError, match="1 bytes follow"):
        list(decoder)


def test_an_error_ends_the_stream_but_not_what_came_before_it() -> None:
    decoder = FrameDecoder(REGISTRY)
    decoder.feed(frame(Load(b"good")) + frame(Load(b"bad"))[:-1] + b"?" + frame(Load(b"never")))
    messages = iter(decoder)
    assert next(messages) == (0, Load(b"good"))
    for _ in range(2):
        with pytest.raises(PeerError):
            list(decoder)


@given(data=st.binary(max_size=400))
def test_noise_ends_in_nothing_or_peer_error(data: bytes) -> None:
    decoder = FrameDecoder(REGISTRY)
    decoder.feed(data)
    try:
        assert list(decoder) == []
    except PeerError:
        pass


def test_a_message_too_large_for_a_frame_is_a_local_error() -> None:
    assert (
        sum(map(len, REGISTRY.encode_frame(Load(bytes(FRAME_BYTES_MAX - 4))))) == FRAME_HEADER_BYTES + FRAME_BYTES_MAX
    )
    with pytest.raises(LocalError):
        REGISTRY.encode_frame(Load(bytes(FRAME_BYTES_MAX - 3)))
    with pytest.raises(LocalError):
        REGISTRY.encode_frame(Load(b""), group=-1)


def test_large_contents_go_into_a_frame_by_reference() -> None:
    content = bytes(5000)
    buffers = REGISTRY.encode_frame(Load(content))
    assert buffers[1] is content
    assert len(buffers) == 2
