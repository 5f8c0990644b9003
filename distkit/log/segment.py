"""Segment files: their names, the kinds of records in them, and the header that each of them begins with.

Bytes: docs/formats.md sections 2 and 3.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from typing import Final

from distkit._fast.codec import RECORD_HEADER, block_info, encode_records, scan_records
from distkit.core import Files, IdentityError, LocalError, StorageError, record
from distkit.core.limits import BLOCK_BYTES_MAX, INDEX_MAX

#: (kind, group, content): what a machine writes, before it has a place in a file.
Record = tuple[int, int, bytes]

#: Kinds of records. Below STATE_KIND_MIN they belong to the log itself.
HEADER: Final = 1
MARK: Final = 2
STATE_KIND_MIN: Final = 64
STATE_KIND_MAX: Final = 95
BLOCK: Final = 96
TRUNCATE: Final = 97

#: The version of all that docs/formats.md says about the log.
FORMAT: Final = 1
#: The segment that is being prepared; it gets its own name when its head is durable.
NEXT: Final = "next"
#: Segments are multiples of this; the last page holds the mark, out of the way of whatever may hurt the records.
PAGE: Final = 4096
#: No segment is longer. Batches must fit into one.
SEGMENT_BYTES_MAX: Final = 1 << 30
#: The longest record.
RECORD_BYTES_MAX: Final = RECORD_HEADER + BLOCK_BYTES_MAX

_NAME = re.compile(r"wal-([0-9a-f]{16})")
# format, reserved, cluster, node, incarnation, segment, previous, previous end, state end, head end, size
_HEADER = struct.Struct("<IIQQQQQQQQQ")
# The part that stays where it is in every format version: enough to say whose the file is and who can read it.
_FIXED = struct.Struct("<IIQQQQ")
_INDEX = struct.Struct("<Q")


@record
class WalIdentity:
    """Whose log it is. To `Wal.open`, cluster 0 means any."""

    cluster: int
    node: int
    incarnation: int


@record
class SegmentHeader:
    """The first record of a segment.

    The log before this segment ends at `previous_end` of segment `previous`. Up to `state_end` follow copies of the
    state at that point, up to `head_end` records that the log had not proven durable when it was opened. `size` is
    the length of the file. All of that was durable before the file got its name.
    """

    identity: WalIdentity
    segment: int
    previous: int
    previous_end: int
    state_end: int
    head_end: int
    size: int


#: Length of the record that holds a SegmentHeader.
HEADER_BYTES: Final = RECORD_HEADER + _HEADER.size


def segment_name(segment: int) -> str:
    """Name of the file of a segment."""
    return f"wal-{segment:016x}"


def segment_ids(names: Iterable[str]) -> list[int]:
    """Ids of the segments among the names of a directory, in order."""
    return sorted(int(match[1], 16) for name in names if (match := _NAME.fullmatch(name)))


def record_bytes(content: bytes) -> int:
    """Length of a record with this content, padding included."""
    return RECORD_HEADER + (len(content) + 7 & ~7)


def encode_head(
    identity: WalIdentity,
    segment: int,
    previous: int,
    previous_end: int,
    state: Sequence[Record],
    rest: Sequence[Record],
    size: int,
) -> tuple[list[bytes], int]:
    """Everything that a segment holds before it gets its name, as buffers for offset 0, and its length."""
    state_end = HEADER_BYTES + sum(record_bytes(content) for _, _, content in state)
    head_end = state_end + sum(record_bytes(content) for _, _, content in rest)
    owner = (identity.cluster, identity.node)
    header = _HEADER.pack(
        FORMAT, 0, *owner, identity.incarnation, segment, previous, previous_end, state_end, head_end, size
    )
    return encode_records(*owner, segment, 0, 0, [(HEADER, 0, header), *state, *rest]), head_end


def read_header(files: Files, handle: int, segment: int) -> SegmentHeader:
    """The header of a segment file.

    IdentityError if a newer release wrote it; StorageError if it does not check, since a segment that has its name
    is whole at its head.
    """
    name = segment_name(segment)
    data = files.pread(handle, PAGE, 0)
    if len(data) < RECORD_HEADER + _FIXED.size:
        raise StorageError("the header of this log segment is missing: the file was cut", name, 0)
    _, _, cluster, node, _, found_segment = _FIXED.unpack_from(data, RECORD_HEADER)
    records, _ = scan_records(data, 0, cluster, node, found_segment, 0, PAGE)
    if not records or records[0][1] != HEADER or len(records[0][4]) < _FIXED.size:
        raise StorageError("the header of this log segment is damaged", name, 0)
    content = records[0][4]
    version = _FIXED.unpack_from(content)[0]
    if version != FORMAT:
        raise IdentityError(
            f"{name} has log format {version}, this release reads format {FORMAT}: it was written by another release "
            f"of distkit; run that one. Nothing was changed"
        )
    if found_segment != segment:
        raise StorageError(f"this file is segment {found_segment}: it was renamed or copied", name, 0)
    if len(content) != _HEADER.size:
        raise StorageError("the header of this log segment is damaged", name, 0)
    _, _, _, _, incarnation, _, previous, previous_end, state_end, head_end, size = _HEADER.unpack(content)
    identity = WalIdentity(cluster, node, incarnation)
    return SegmentHeader(identity, segment, previous, previous_end, state_end, head_end, size)


def check_record(kind: int, content: bytes) -> int:
    """The last index that a record speaks of: that of a block, 0 for state and truncations.

    LocalError if it is no record that a log may hold.
    """
    if len(content) > BLOCK_BYTES_MAX:
        raise LocalError(f"a log record of {len(content)} bytes is over the limit of {BLOCK_BYTES_MAX}")
    if kind == BLOCK:
        _, first, count, _ = block_info(content)
        return first + count - 1
    if STATE_KIND_MIN <= kind <= STATE_KIND_MAX:
        return 0
    if kind != TRUNCATE:
        raise LocalError(f"log record kind {kind} is not known to this release of distkit")
    if len(content) != _INDEX.size or not 1 <= truncate_index(content) <= INDEX_MAX:
        raise LocalError("a truncation must hold one index")
    return 0


def truncate_content(index: int) -> bytes:
    """Content of a TRUNCATE record: entries from `index` on are removed."""
    return _INDEX.pack(index)


def truncate_index(content: bytes) -> int:
    """The index in the content of a TRUNCATE record."""
    return int(_INDEX.unpack(content)[0])
