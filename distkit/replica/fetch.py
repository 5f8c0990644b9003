"""Fetching a snapshot file piece by piece over a connection of its own, and giving the pieces.

    fetching:  request() -> send -> receive -> take() -> write -> request() -> ... until it is None
    giving:    receive -> span() -> read -> piece() -> send

One piece is under way at a time, so a slow disk or network on either side slows the transfer and grows no queue.
"""

from __future__ import annotations

from distkit.core import DistkitError, LocalError, PeerError
from distkit.raft.messages import Snapshot
from distkit.replica.messages import PIECE_BYTES_MAX, FetchSnapshot, SnapshotPiece


class SnapshotGone(DistkitError):
    """The source does not have this snapshot file any more. The leader will offer a newer one."""


class Fetch:
    """How far one file is fetched. `received` bytes of it are there from an earlier attempt.

    It outlives connections: after a break ask for the same piece again on the next one. The content is checked when the
    file is complete, by its own checksums.
    """

    __slots__ = ("_piece_bytes", "received", "snapshot")

    def __init__(self, snapshot: Snapshot, received: int = 0, piece_bytes: int = 256 << 10) -> None:
        if not 0 <= received <= snapshot.size or not 0 < piece_bytes <= PIECE_BYTES_MAX:
            raise LocalError(
                f"cannot fetch a file of {snapshot.size} bytes from {received} on, {piece_bytes} at a time"
            )
        self.snapshot = snapshot
        self.received = received
        self._piece_bytes = piece_bytes

    @property
    def complete(self) -> bool:
        """All bytes are there."""
        return self.received == self.snapshot.size

    def request(self) -> FetchSnapshot | None:
        """The next piece to ask for; None when the file is complete."""
        if self.complete:
            return None
        size = min(self._piece_bytes, self.snapshot.size - self.received)
        return FetchSnapshot(self.snapshot.index, self.snapshot.term, self.received, size)

    def take(self, piece: SnapshotPiece) -> bytes:
        """The bytes to write at the offset that `received` had before. PeerError: not an answer to `request`."""
        snapshot = self.snapshot
        if (piece.index, piece.term) == (snapshot.index, snapshot.term) and piece.file_size == 0 and not piece.data:
            raise SnapshotGone(f"the snapshot at index {snapshot.index} is not there any more")
        if (piece.index, piece.term, piece.offset) != (snapshot.index, snapshot.term, self.received):
            raise PeerError(
                f"a piece of the snapshot ({piece.index}, {piece.term}) at {piece.offset} came, "
                f"({snapshot.index}, {snapshot.term}) at {self.received} was asked for"
            )
        if piece.file_size != snapshot.size:
            raise PeerError(f"the snapshot has {piece.file_size} bytes, the leader announced {snapshot.size}")
        if not 0 < len(piece.data) <= snapshot.size - self.received:
            raise PeerError(f"a piece of {len(piece.data)} bytes at {self.received} of {snapshot.size}")
        self.received += len(piece.data)
        return piece.data


def span(request: FetchSnapshot, snapshot: Snapshot) -> tuple[int, int]:
    """(offset, size) to read from the file of `snapshot`, for a request that names it. PeerError: not within it."""
    if not 0 <= request.offset < snapshot.size or request.size == 0:
        raise PeerError(f"{request.size} bytes at {request.offset} were asked of a snapshot of {snapshot.size}")
    return request.offset, min(request.size, PIECE_BYTES_MAX, snapshot.size - request.offset)


def piece(request: FetchSnapshot, snapshot: Snapshot, data: bytes) -> SnapshotPiece:
    """The answer with the bytes that `span` named."""
    return SnapshotPiece(request.index, request.term, request.offset, snapshot.size, data)


def gone(request: FetchSnapshot) -> SnapshotPiece:
    """The answer when the file is not there any more."""
    return SnapshotPiece(request.index, request.term, request.offset, 0, b"")
