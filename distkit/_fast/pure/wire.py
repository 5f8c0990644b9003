"""Frames, and the fields of records in them: the bytes of docs/formats.md section 5, and their checks.

Bytes from outside that are not what they should be raise PeerError. A value that the caller got wrong raises
LocalError, an argument of the wrong type TypeError. Every count and length is compared with the bytes that are there
before anything is allocated for it.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Container, Iterable, Sequence
from typing import Any, Final, final

from distkit._fast.pure.codec import check_block, crc32c
from distkit.core.errors import LocalError, PeerError
from distkit.core.limits import FRAME_BLOBS_MAX, FRAME_BYTES_MAX

#: Length of the header of a frame, in bytes.
FRAME_HEADER_BYTES: Final = 16
#: Types of fields that `Fields` knows.
FIELD_TYPES: Final = frozenset(("u8", "u16", "u32", "u64", "bool", "bytes", "blobs", "blocks"))

_MAGIC = 0xD15C
# crc, body length, magic, kind, group
_HEADER = struct.Struct("<IIHHI")
_WIDTHS = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}
_FIELDS_MAX = 32
# From this length on a piece is passed on as it is; below, a copy is cheaper than one more buffer.
_BY_REFERENCE = 4096
_U32 = (1 << 32) - 1


def seal_frame(kind: int, group: int, pieces: list[bytes]) -> list[bytes]:
    """The frame of a body that is given in pieces, as buffers to be sent one after the other.

    Large pieces are passed by reference. LocalError when the body is longer than FRAME_BYTES_MAX.
    """
    _bounded("kind", kind, 0, (1 << 16) - 1)
    _bounded("group", group, 0, _U32)
    size = sum(len(_bytes("piece", piece)) for piece in pieces)
    if size > FRAME_BYTES_MAX:
        raise LocalError(f"a frame of {size} bytes, at most {FRAME_BYTES_MAX} are allowed")
    covered = _HEADER.pack(0, size, _MAGIC, kind, group)[4:]
    crc = crc32c(b"".join([covered, *pieces]))
    return join_pieces([crc.to_bytes(4, "little") + covered, *pieces])


def open_frame(data: bytes, start: int, kinds: Container[int], bytes_max: int) -> tuple[int, int, int]:
    """(kind, group, end) of the frame at `start`; its body lies between its header and `end`, its crc is right.

    If `end` lies behind the data, so many bytes are needed to judge the frame; kind and group are 0 as long as not
    even its header is there. PeerError, as soon as the header is, if it is none, its kind is not among `kinds`, or its
    body is longer than `bytes_max`; and if the crc is wrong.
    """
    _bounded("start", start, 0, len(_bytes("data", data)))
    _bounded("bytes_max", bytes_max, 0, _U32)
    body_at = start + FRAME_HEADER_BYTES
    if body_at > len(data):
        return 0, 0, body_at
    crc, size, magic, kind, group = _HEADER.unpack_from(data, start)
    if magic != _MAGIC:
        raise PeerError(f"not a distkit frame (magic {magic:#06x})")
    if size > bytes_max:
        raise PeerError(f"a frame of {size} bytes, at most {bytes_max} are allowed")
    if kind not in kinds:
        raise PeerError(f"unknown kind {kind}")
    end = body_at + size
    if end <= len(data) and crc32c(data[start + 4 : end]) != crc:
        raise PeerError("the crc of a frame does not match")
    return kind, group, end


def join_pieces(pieces: list[bytes]) -> list[bytes]:
    """The same bytes in as few buffers as it takes to pass large pieces by reference. At least one buffer."""
    buffers: list[bytes] = []
    small: list[bytes] = []
    for piece in pieces:
        if len(_bytes("piece", piece)) < _BY_REFERENCE:
            small.append(piece)
            continue
        buffers += [joined, piece] if (joined := b"".join(small)) else [piece]
        small = []
    joined = b"".join(small)
    return [*buffers, joined] if joined or not buffers else buffers


@final
class Fields:
    """Neighbouring fields of a record, (name, type) each; the types are those of `FIELD_TYPES`.

    LocalError if there is another type, no field or more than 32.
    """

    def __init__(self, fields: Iterable[tuple[str, str]]) -> None:
        self._fields = tuple(fields)
        _bounded("count of fields", len(self._fields), 1, _FIELDS_MAX)
        for name, type in self._fields:
            if type not in FIELD_TYPES:
                raise LocalError(f"the type of field {name} is none of {', '.join(sorted(FIELD_TYPES))}: {type}")

    def put(self, record: Any, pieces: list[bytes]) -> None:
        """Append the bytes of the fields; contents are passed by reference. LocalError if a value does not fit."""
        for name, type in self._fields:
            value = getattr(record, name)
            if type in _WIDTHS:
                width = _WIDTHS[type]
                pieces.append(_bounded(name, value, 0, (1 << 8 * width) - 1).to_bytes(width, "little"))
            elif type == "bool":
                pieces.append(b"\1" if value else b"\0")
            elif type == "bytes":
                pieces += (_lengths(name, [value]), value)
            else:
                blobs = tuple(value)
                if len(blobs) > FRAME_BLOBS_MAX:
                    raise LocalError(f"{len(blobs)} blobs in one message, at most {FRAME_BLOBS_MAX} are allowed")
                pieces += (len(blobs).to_bytes(4, "little"), _lengths(name, blobs), *blobs)

    def take(self, data: bytes, start: int, end: int, values: list[Any]) -> int:
        """Append the values of the fields that begin at `start`, and return the position behind them.

        PeerError if they do not end by `end`, if a boolean is not 0 or 1, if there are too many blobs, and if blocks
        are invalid, do not follow each other, or their rounds fall.
        """
        _bounded("end", end, 0, len(_bytes("data", data)))
        at = _bounded("start", start, 0, end)
        for _, type in self._fields:
            value: Any
            if type in _WIDTHS:
                value, at = _take_number(data, at, end, _WIDTHS[type])
            elif type == "bool":
                value, at = _take_number(data, at, end, 1)
                if value > 1:
                    raise PeerError(f"a boolean is {value}, not 0 or 1")
                value = bool(value)
            elif type == "bytes":
                size, at = _take_number(data, at, end, 4)
                value, at = _take_content(data, at, end, size)
            else:
                value, at = _take_blobs(data, at, end, type == "blocks")
            values.append(value)
        return at


def _lengths(name: str, contents: Sequence[bytes]) -> bytes:
    return b"".join(_bounded(name, len(_bytes(name, content)), 0, _U32).to_bytes(4, "little") for content in contents)


def _take_content(data: bytes, at: int, end: int, size: int) -> tuple[bytes, int]:
    if size > end - at:
        raise PeerError(f"it ends too early: {size} bytes are expected where {end - at} are left")
    return data[at : at + size], at + size


def _take_number(data: bytes, at: int, end: int, width: int) -> tuple[int, int]:
    content, at = _take_content(data, at, end, width)
    return int.from_bytes(content, "little"), at


def _take_blobs(data: bytes, at: int, end: int, are_blocks: bool) -> tuple[tuple[bytes, ...], int]:
    """Blobs of any content, or blocks that are valid, follow each other and whose rounds never fall."""
    count, at = _take_number(data, at, end, 4)
    if count > FRAME_BLOBS_MAX:
        raise PeerError(f"{count} blobs in one message, at most {FRAME_BLOBS_MAX} are allowed")
    sizes, at = _take_content(data, at, end, 4 * count)
    blobs = []
    following = last_round = 0
    for (size,) in struct.iter_unpack("<I", sizes):
        blob, at = _take_content(data, at, end, size)
        if are_blocks:
            round, first, entries, _ = check_block(blob)
            if following and first != following:
                raise PeerError(f"a block begins at index {first} where {following} follows")
            if round < last_round:
                raise PeerError(f"a block of round {round} follows one of round {last_round}")
            following, last_round = first + entries, round
        blobs.append(blob)
    return tuple(blobs), at


def _bounded(name: str, value: int, low: int, high: int) -> int:
    if not low <= operator.index(value) <= high:
        raise LocalError(f"{name} must be {low} to {high}, not {value}")
    return operator.index(value)


def _bytes(name: str, value: bytes) -> bytes:
    if type(value) is not bytes:
        raise TypeError(f"{name} must be bytes, not {type(value).__name__}")
    return value
