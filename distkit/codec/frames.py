"""Frames: records on a stream, each with its length, kind and group under one checksum.

    crc u32 | body length u32 | magic u16 | kind u16 | group u32 | body

The crc covers everything behind it, so a flipped bit anywhere is found before the body is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from distkit._fast.wire import FRAME_HEADER_BYTES, open_frame
from distkit.core import LocalError, PeerError
from distkit.core.limits import FRAME_BYTES_MAX

if TYPE_CHECKING:
    from distkit.codec.registry import Registry


class FrameDecoder:
    """Cuts a stream into messages. `feed` what arrived, then iterate to the end; (group, message) comes out.

    Holds at most one frame and what was fed last; nothing is allocated because a header announces it. Each byte is
    copied a bounded number of times, however the stream was split. PeerError ends the stream for good.
    """

    __slots__ = ("_data", "_end_error", "_frame_bytes_max", "_head", "_kinds", "_registry", "_start", "_wanted")

    def __init__(self, registry: Registry, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._registry = registry
        self._kinds = registry.kinds
        self._frame_bytes_max = frame_bytes_max
        self._data = b""  # frames from `_start` on that were not handed out yet
        self._start = 0
        self._head = bytearray()  # the beginning of a frame whose rest has not arrived
        self._wanted = FRAME_HEADER_BYTES  # it can be judged once it has this many bytes
        self._end_error: str | None = None

    def feed(self, data: bytes) -> None:
        """Take bytes from the stream. LocalError unless what was fed before has been iterated to the end."""
        if self._data:
            raise LocalError("iterate to the end before feeding more")
        if not self._head:
            self._data, self._start = data, 0
            return
        self._head += data
        if len(self._head) >= self._wanted:
            self._data, self._start = bytes(self._head), 0
            self._head = bytearray()

    @property
    def rest(self) -> bytes:
        """Bytes that were fed and belong to no message handed out so far."""
        return bytes(self._head) + self._data[self._start :]

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        """Hand out the messages that are whole. May be left early and continued by another iteration."""
        if self._end_error is not None:
            raise PeerError(self._end_error)
        data = self._data
        try:
            while True:
                kind, group, end = open_frame(data, self._start, self._kinds, self._frame_bytes_max)
                if end > len(data):
                    break
                body_at = self._start + FRAME_HEADER_BYTES
                self._start = end
                yield group, self._registry.decode_body(kind, data, body_at, end)
        except PeerError as error:
            self._end_error = str(error)
            raise
        self._wanted = end - self._start
        self._head += data[self._start :]
        self._data, self._start = b"", 0
