"""Frames: records on a stream, each with its length, kind and group under one checksum.

    crc u32 | body length u32 | magic u16 | kind u16 | group u32 | body

The crc covers everything behind it, so a flipped bit anywhere is found before the body is looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from distkit._fast.codec import crc32c
from distkit.core import LocalError, PeerError
from distkit.core.limits import FRAME_BYTES_MAX

if TYPE_CHECKING:
    from distkit.codec.registry import Registry

FRAME_MAGIC = 0xD15C
FRAME_HEADER_BYTES = 16

_CRC = struct.Struct("<I")
_COVERED = struct.Struct("<IHHI")
_HEADER = struct.Struct("<IIHHI")
assert _HEADER.size == _CRC.size + _COVERED.size == FRAME_HEADER_BYTES

#: Contents of this size are worth a buffer of their own; smaller ones are cheaper to copy.
_BY_REFERENCE_BYTES = 4096


def joined(pieces: list[bytes], size: int) -> list[bytes]:
    """The same `size` bytes in as few buffers as it takes to pass large pieces by reference. At least one buffer."""
    if size < _BY_REFERENCE_BYTES:
        return [b"".join(pieces)]
    buffers: list[bytes] = []
    small: list[bytes] = []
    for piece in pieces:
        if len(piece) < _BY_REFERENCE_BYTES:
            small.append(piece)
            continue
        if small:
            buffers.append(b"".join(small))
            small = []
        buffers.append(piece)
    if small:
        buffers.append(b"".join(small))
    return buffers


def sealed(kind: int, group: int, pieces: list[bytes]) -> list[bytes]:
    """The frame of a body given in pieces, as buffers. LocalError when the body is longer than FRAME_BYTES_MAX."""
    size = sum(map(len, pieces))
    if size > FRAME_BYTES_MAX or not 0 <= group < 1 << 32:
        raise LocalError(f"a frame of group {group} with {size} bytes; at most {FRAME_BYTES_MAX} are allowed")
    if size < _BY_REFERENCE_BYTES:
        covered = _COVERED.pack(size, FRAME_MAGIC, kind, group) + b"".join(pieces)
        return [_CRC.pack(crc32c(covered)) + covered]
    pieces.insert(0, _COVERED.pack(size, FRAME_MAGIC, kind, group))
    buffers = joined(pieces, size + _COVERED.size)
    crc = 0
    for buffer in buffers:
        crc = crc32c(buffer, crc)
    buffers[0] = _CRC.pack(crc) + buffers[0]
    return buffers


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
        try:
            while (available := len(self._data) - self._start) >= FRAME_HEADER_BYTES:
                data, begin = self._data, self._start
                crc, size, magic, kind, group = _HEADER.unpack_from(data, begin)
                self._wanted = FRAME_HEADER_BYTES + size
                if magic != FRAME_MAGIC or size > self._frame_bytes_max or kind not in self._kinds:
                    raise PeerError(_complaint(size, magic, kind, self._frame_bytes_max))
                if available < self._wanted:
                    break
                self._start += self._wanted
                covered = data[begin + _CRC.size : self._start]
                if crc32c(covered) != crc:
                    raise PeerError("the crc of a frame does not match")
                yield group, self._registry.decode_body(kind, covered, _COVERED.size)
        except PeerError as error:
            self._end_error = str(error)
            raise
        if available < FRAME_HEADER_BYTES:
            self._wanted = FRAME_HEADER_BYTES
        if available:
            self._head += self._data[self._start :]
        self._data, self._start = b"", 0


def _complaint(size: int, magic: int, kind: int, frame_bytes_max: int) -> str:
    if magic != FRAME_MAGIC:
        return f"not a distkit frame (magic {magic:#06x})"
    if size > frame_bytes_max:
        return f"a frame of {size} bytes, at most {frame_bytes_max} are allowed"
    return f"unknown kind {kind}"
