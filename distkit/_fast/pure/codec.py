"""Blocks and log records: the bytes of docs/formats.md sections 1 and 2, and their checks.

Bytes from outside that are not what they should be raise PeerError. A value that the caller got wrong raises
LocalError, an argument of the wrong type TypeError. Functions that take a block which was checked before look at
its lengths only, so that no bytes, however wrong, lead them outside of it.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Sequence
from typing import Final

import google_crc32c

from distkit.core.errors import LocalError, PeerError
from distkit.core.limits import BLOCK_BYTES_MAX, BLOCK_ENTRIES_MAX, INDEX_MAX

#: Length of the header of a block, in bytes.
BLOCK_HEADER: Final = 48
#: Length of the header of a log record, in bytes.
RECORD_HEADER: Final = 24
#: "c", or "python" where google-crc32c has no C build and every checksum is some hundred times slower.
CRC_IMPLEMENTATION: Final[str] = google_crc32c.implementation

_BLOCK_MAGIC = 0xB10C
_BLOCK_VERSION = 1
# magic, version, reserved, count, round, first, time_us, payload bytes, reserved, payload crc, header crc
_BLOCK = struct.Struct("<HBBIQQQIIII")
_CRC_AT = BLOCK_HEADER - 4
# end, kind, flags, reserved
_ENTRY = struct.Struct("<IBBH")

_RECORD_MAGIC = b"\x57\xd1"
# crc, content length, magic, kind, group, synced
_RECORD = struct.Struct("<II2sHIQ")
# cluster, node, segment, offset: in the crc of a record, but not in the record
_PLACE = struct.Struct("<QQQQ")
# From this length on a content is written from where it is; below, a copy is cheaper than one more buffer.
_BY_REFERENCE = 4096

_U16 = (1 << 16) - 1
_U32 = (1 << 32) - 1
_U64 = (1 << 64) - 1


def crc32c(data: bytes, seed: int = 0) -> int:
    """CRC-32C of `data`, continued from the checksum `seed`: crc32c(b, crc32c(a)) == crc32c(a + b)."""
    return int(google_crc32c.extend(_bounded("seed", seed, 0, _U32), _bytes("data", data)))


def encode_block(round: int, first: int, time_us: int, kinds: bytes, payloads: Sequence[bytes]) -> bytes:
    """The block of len(payloads) consecutive entries from index `first` on; kinds[i] is the kind of payloads[i].

    LocalError if a number does not fit, or if the block would be longer than BLOCK_BYTES_MAX.
    """
    _bounded("round", round, 0, INDEX_MAX)
    _bounded("first", first, 1, INDEX_MAX)
    _bounded("time_us", time_us, 0, _U64)
    count = _bounded("count of entries", len(payloads), 1, BLOCK_ENTRIES_MAX)
    if len(_bytes("kinds", kinds)) != count:
        raise LocalError(f"{len(kinds)} kinds for {count} payloads")
    _bounded("last index", first + count - 1, 1, INDEX_MAX)
    size = BLOCK_HEADER + _ENTRY.size * count + sum(len(_bytes("payload", payload)) for payload in payloads)
    if size > BLOCK_BYTES_MAX:
        raise LocalError(f"a block of {size} bytes is over the limit of {BLOCK_BYTES_MAX}")

    table = b""
    end = 0
    for kind, payload in zip(kinds, payloads, strict=True):
        end += len(payload)
        table += _ENTRY.pack(end, kind, 0, 0)
    payload = b"".join(payloads)
    crc = crc32c(payload)
    header = _BLOCK.pack(_BLOCK_MAGIC, _BLOCK_VERSION, 0, count, round, first, time_us, len(payload), 0, crc, 0)
    header = header[:_CRC_AT] + crc32c(header[:_CRC_AT] + table).to_bytes(4, "little")
    return header + table + payload


def block_info(block: bytes) -> tuple[int, int, int, int]:
    """(round, first, count, time_us) of a block that was checked before."""
    _, _, _, count, round, first, time_us, _, _, _, _ = _BLOCK.unpack_from(_whole_block(block))
    return round, first, count, time_us


def check_block(block: bytes) -> tuple[int, int, int, int]:
    """Check everything about a block that came from outside, kinds of entries excepted, and return its `block_info`.

    PeerError says what is wrong. Costs two checksums and a pass over the table; no entry is built.
    """
    if not BLOCK_HEADER <= len(_bytes("block", block)) <= BLOCK_BYTES_MAX:
        raise PeerError(f"block: length {len(block)} is not {BLOCK_HEADER} to {BLOCK_BYTES_MAX}")
    magic, version, reserved, count, round, first, time_us, size, reserved2, payload_crc, crc = _BLOCK.unpack_from(
        block
    )
    if magic != _BLOCK_MAGIC:
        raise PeerError("block: wrong magic, this is not a block")
    if version != _BLOCK_VERSION:
        raise PeerError(f"block: version {version} is unknown, this release reads version {_BLOCK_VERSION}")
    if not 1 <= count <= BLOCK_ENTRIES_MAX:
        raise PeerError(f"block: {count} entries are not 1 to {BLOCK_ENTRIES_MAX}")
    payload_at = BLOCK_HEADER + _ENTRY.size * count
    if len(block) != payload_at + size:
        raise PeerError(f"block: length {len(block)} is not the {payload_at + size} that its header says")
    if crc32c(block[:_CRC_AT] + block[BLOCK_HEADER:payload_at]) != crc:
        raise PeerError("block: the crc of header and table does not match")
    if crc32c(block[payload_at:]) != payload_crc:
        raise PeerError("block: the crc of the payload does not match")
    if reserved or reserved2:
        raise PeerError("block: a reserved field is not zero")
    if round > INDEX_MAX:
        raise PeerError(f"block: round {round} is over the limit of {INDEX_MAX}")
    if not 1 <= first <= INDEX_MAX - count + 1:
        raise PeerError(f"block: {count} entries from index {first} on are not within 1 to {INDEX_MAX}")

    last_end = 0
    for end, _, flags, reserved in _ENTRY.iter_unpack(block[BLOCK_HEADER:payload_at]):
        if flags or reserved:
            raise PeerError("block: a reserved field of the table is not zero")
        if end < last_end:
            raise PeerError("block: the ends in the table fall")
        last_end = end
    if last_end != size:
        raise PeerError("block: the last end in the table is not the end of the payload")
    return round, first, count, time_us


def cut_block(block: bytes, lo: int, hi: int) -> bytes:
    """The block of the entries lo..hi (absolute indexes, both included) of a checked block, encoded anew.

    The same object if nothing is cut. LocalError if the block does not hold all of lo..hi, or holds none of them.
    """
    round, first, count, time_us = block_info(block)
    if lo == first and hi == first + count - 1:
        return block
    entries = block_entries(block, lo, hi)
    return encode_block(round, lo, time_us, bytes(kind for kind, _ in entries), [payload for _, payload in entries])


def block_entries(block: bytes, lo: int, hi: int) -> list[tuple[int, bytes]]:
    """(kind, payload) of the entries lo..hi (absolute indexes, both included) of a checked block.

    LocalError if the block does not hold all of lo..hi, or holds none of them.
    """
    _, first, count, _ = block_info(block)
    _bounded("lo", lo, first, first + count - 1)
    _bounded("hi", hi, lo, first + count - 1)
    payload_at = BLOCK_HEADER + _ENTRY.size * count

    def end_of(index: int) -> int:
        return int(_ENTRY.unpack_from(block, BLOCK_HEADER + _ENTRY.size * (index - first))[0])

    entries = []
    start = end_of(lo - 1) if lo > first else 0
    for index in range(lo, hi + 1):
        end, kind, _, _ = _ENTRY.unpack_from(block, BLOCK_HEADER + _ENTRY.size * (index - first))
        if not start <= end <= len(block) - payload_at:
            raise LocalError("not a checked block: its table is wrong")
        entries.append((kind, block[payload_at + start : payload_at + end]))
        start = end
    return entries


def encode_records(
    cluster: int, node: int, segment: int, offset: int, synced: int, records: Sequence[tuple[int, int, bytes]]
) -> list[bytes]:
    """Log records (kind, group, content) as buffers that are to be written one after the other at `offset`.

    Headers and small contents are joined, contents from 4 KiB on are passed by reference; padding is included.
    `synced` is written into each. LocalError if a number does not fit, if `offset` is no multiple of 8 or below
    `synced`, or if a content is longer than BLOCK_BYTES_MAX.
    """
    _place(cluster, node, segment, offset)
    _bounded("synced", synced, 0, offset)
    buffers = []
    joined = b""
    for kind, group, content in records:
        _bounded("kind", kind, 0, _U16)
        _bounded("group", group, 0, _U32)
        _bounded("length of a content", len(_bytes("content", content)), 0, BLOCK_BYTES_MAX)
        header = _RECORD.pack(0, len(content), _RECORD_MAGIC, kind, group, synced)
        crc = crc32c(content, crc32c(_PLACE.pack(cluster, node, segment, offset) + header[4:]))
        joined += crc.to_bytes(4, "little") + header[4:]
        if len(content) < _BY_REFERENCE:
            joined += content
        else:
            buffers += [joined, content]
            joined = b""
        padding = -len(content) % 8
        joined += bytes(padding)
        offset += RECORD_HEADER + len(content) + padding
    if joined:
        buffers.append(joined)
    return buffers


def scan_records(
    data: bytes, start: int, cluster: int, node: int, segment: int, base: int, content_bytes_max: int
) -> tuple[list[tuple[int, int, int, int, bytes]], int]:
    """Decode the consecutive log records of `data` from position `start` on.

    `base` is the offset of data[0] in the segment. Returns ([(offset, kind, group, synced, content)], position in
    `data` of the first byte that does not belong to a whole, valid record). LocalError if `start` is outside of
    `data`, or `start` or `base` is no multiple of 8.
    """
    _place(cluster, node, segment, base)
    _bounded("content_bytes_max", content_bytes_max, 0, BLOCK_BYTES_MAX)
    position = _bounded("start", start, 0, len(_bytes("data", data)))
    if position % 8:
        raise LocalError(f"start {start} is no multiple of 8")
    records = []
    while (length := _record_at(data, position, cluster, node, segment, base, content_bytes_max)) >= 0:
        _, _, _, kind, group, synced = _RECORD.unpack_from(data, position)
        content_at = position + RECORD_HEADER
        records.append((base + position, kind, group, synced, data[content_at : content_at + length]))
        position = content_at + length + -length % 8
    return records, position


def find_record(
    data: bytes, start: int, cluster: int, node: int, segment: int, base: int, content_bytes_max: int
) -> int:
    """Position (a multiple of 8) of the first whole, valid log record in `data` at or after `start`, or -1.

    Arguments and errors are those of `scan_records`, but `start` may be any position.
    """
    _place(cluster, node, segment, base)
    _bounded("content_bytes_max", content_bytes_max, 0, BLOCK_BYTES_MAX)
    position = _bounded("start", start, 0, len(_bytes("data", data)))
    while (magic_at := data.find(_RECORD_MAGIC, position + 8)) >= 0:
        position = magic_at - 8
        if position % 8 == 0 and _record_at(data, position, cluster, node, segment, base, content_bytes_max) >= 0:
            return position
        position += 1
    return -1


def _record_at(
    data: bytes, position: int, cluster: int, node: int, segment: int, base: int, content_bytes_max: int
) -> int:
    """Length of the content of the valid record at `position`, padding included in the check; -1 if there is none."""
    content_at = position + RECORD_HEADER
    if content_at > len(data):
        return -1
    crc, length, magic, _, _, _ = _RECORD.unpack_from(data, position)
    end = content_at + length
    padding = -length % 8
    if magic != _RECORD_MAGIC or length > content_bytes_max or data[end : end + padding] != bytes(padding):
        return -1
    if end > len(data):
        return -1
    place = _PLACE.pack(cluster, node, segment, base + position)
    return length if crc32c(place + data[position + 4 : end]) == crc else -1


def _whole_block(block: bytes) -> bytes:
    """The block, if its header is possible and says its length, so that nothing is read behind its end."""
    if BLOCK_HEADER <= len(_bytes("block", block)) <= BLOCK_BYTES_MAX:
        _, _, _, count, round, first, _, size, _, _, _ = _BLOCK.unpack_from(block)
        if (
            1 <= count <= BLOCK_ENTRIES_MAX
            and len(block) == BLOCK_HEADER + _ENTRY.size * count + size
            and round <= INDEX_MAX
            and 1 <= first <= INDEX_MAX - count + 1
        ):
            return block
    raise LocalError("not a checked block: its header is wrong")


def _place(cluster: int, node: int, segment: int, offset: int) -> None:
    _bounded("cluster", cluster, 0, _U64)
    _bounded("node", node, 0, _U64)
    _bounded("segment", segment, 0, _U64)
    if _bounded("offset", offset, 0, INDEX_MAX) % 8:
        raise LocalError(f"offset {offset} is no multiple of 8")


def _bounded(name: str, value: int, low: int, high: int) -> int:
    if not low <= operator.index(value) <= high:
        raise LocalError(f"{name} must be {low} to {high}, not {value}")
    return value


def _bytes(name: str, value: bytes) -> bytes:
    if type(value) is not bytes:
        raise TypeError(f"{name} must be bytes, not {type(value).__name__}")
    return value
