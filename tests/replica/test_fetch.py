"""Fetching a snapshot file: in order, within bounds, resumed after a break."""

from __future__ import annotations

import pytest
from replicas import configuration_of, through_codec

from distkit.core import LocalError, PeerError
from distkit.raft import Snapshot
from distkit.replica import Fetch, SnapshotGone
from distkit.replica.fetch import gone, piece, span
from distkit.replica.messages import PIECE_BYTES_MAX, FetchSnapshot, SnapshotPiece

CONTENT = bytes(range(256)) * 10
SNAPSHOT = Snapshot(70, 3, 0, len(CONTENT), 0, configuration_of(1, 2, 3))


def answer(request: FetchSnapshot) -> SnapshotPiece:
    offset, size = span(request, SNAPSHOT)
    return through_codec(piece(request, SNAPSHOT, CONTENT[offset : offset + size]))


def fetched(fetch: Fetch, pieces: int = 1000) -> bytes:
    content = b""
    while pieces and (request := fetch.request()) is not None:
        assert request.offset == fetch.received
        content += fetch.take(answer(through_codec(request)))
        pieces -= 1
    return content


@pytest.mark.parametrize("piece_bytes", [1, 7, 256, len(CONTENT) - 1, len(CONTENT), len(CONTENT) + 1])
def test_a_file_comes_in_pieces(piece_bytes: int):
    fetch = Fetch(SNAPSHOT, piece_bytes=piece_bytes)
    assert fetched(fetch, pieces=len(CONTENT)) == CONTENT
    assert fetch.complete


def test_a_fetch_goes_on_where_an_earlier_one_stopped():
    first = Fetch(SNAPSHOT, piece_bytes=100)
    start = fetched(first, pieces=3)
    assert start + fetched(Fetch(SNAPSHOT, first.received, piece_bytes=100)) == CONTENT


def test_after_a_break_the_same_piece_is_asked_for_again():
    fetch = Fetch(SNAPSHOT, piece_bytes=100)
    fetched(fetch, pieces=3)
    assert fetch.request() == fetch.request() == FetchSnapshot(70, 3, 300, 100)


@pytest.mark.parametrize(
    "wrong",
    [
        SnapshotPiece(71, 3, 0, len(CONTENT), b"x"),
        SnapshotPiece(70, 4, 0, len(CONTENT), b"x"),
        SnapshotPiece(70, 3, 1, len(CONTENT), b"x"),
        SnapshotPiece(70, 3, 0, len(CONTENT) + 1, b"x"),
        SnapshotPiece(70, 3, 0, len(CONTENT), b""),
        SnapshotPiece(70, 3, 0, len(CONTENT), CONTENT + b"x"),
        SnapshotPiece(70, 3, 0, 0, b"x"),
    ],
    ids=["index", "term", "offset", "size", "empty", "too much", "no file"],
)
def test_a_piece_that_was_not_asked_for_is_refused_and_changes_nothing(wrong: SnapshotPiece):
    fetch = Fetch(SNAPSHOT)
    with pytest.raises(PeerError):
        fetch.take(wrong)
    assert fetched(fetch) == CONTENT


def test_a_repeated_piece_is_refused():
    fetch = Fetch(SNAPSHOT, piece_bytes=100)
    first = answer(fetch.request())
    fetch.take(first)
    with pytest.raises(PeerError, match="at 0 came"):
        fetch.take(first)


def test_a_file_that_is_gone_ends_the_fetch():
    fetch = Fetch(SNAPSHOT)
    with pytest.raises(SnapshotGone, match="index 70"):
        fetch.take(through_codec(gone(fetch.request())))


@pytest.mark.parametrize("request_", [FetchSnapshot(70, 3, len(CONTENT), 1), FetchSnapshot(70, 3, 0, 0)])
def test_a_request_outside_of_the_file_is_refused(request_: FetchSnapshot):
    with pytest.raises(PeerError, match="asked of a snapshot"):
        span(request_, SNAPSHOT)


def test_a_request_gets_no_more_than_a_piece():
    large = Snapshot(70, 3, 0, 1 << 40, 0, SNAPSHOT.configuration)
    assert span(FetchSnapshot(70, 3, 5, (1 << 32) - 1), large) == (5, PIECE_BYTES_MAX)


@pytest.mark.parametrize(("received", "piece_bytes"), [(-1, 100), (len(CONTENT) + 1, 100), (0, 0), (0, 1 << 21)])
def test_a_fetch_that_makes_no_sense_is_an_error_of_the_caller(received: int, piece_bytes: int):
    with pytest.raises(LocalError, match="cannot fetch"):
        Fetch(SNAPSHOT, received, piece_bytes)
