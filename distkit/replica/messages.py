"""Messages between the hosts of replicas: forwarded proposals, and the pieces of snapshot files.

Rows as in `distkit.raft.messages`: (kind, record, layout). Kinds 32 to 47 belong to this table.
"""

from __future__ import annotations

from distkit.core import record
from distkit.core.limits import FRAME_BYTES_MAX

#: Result of one command. What is larger is dropped after it was applied, on all replicas alike, because one frame
#: must be able to carry it to another node and one session to keep it.
RESULT_BYTES_MAX = FRAME_BYTES_MAX - 1024
#: Content of one SnapshotPiece.
PIECE_BYTES_MAX = 1 << 20


@record
class Propose:
    """Commands for the leader of `term`, to be appended in this order, all or none.

    `origin` is random for each start of the sender and `batch` rises within it, so the leader recognises a repeated
    frame; the term refuses one that outlived its leader. `kinds` holds one kind of entry for each item.
    """

    origin: int
    batch: int
    term: int
    kinds: bytes
    items: tuple[bytes, ...]


@record
class ProposeReply:
    """The end of the items from `position` on: of `len(results)` ones if they were committed, else of all the rest.

    `outcome` and `reason` are numbers of `core.Outcome` and `core.Reason`, `index` is the log index of the item at
    `position`. `reasons` is empty, or says for each item why it was refused when it was applied (0: it was not).
    """

    origin: int
    batch: int
    position: int
    outcome: int
    reason: int
    leader: int
    index: int
    reasons: bytes
    results: tuple[bytes, ...]


@record
class FetchSnapshot:
    """Ask for `size` bytes of a snapshot file from `offset` on. Bulk connection only."""

    index: int
    term: int
    offset: int
    size: int


@record
class SnapshotPiece:
    """Part of a snapshot file of `file_size` bytes; 0 and no data: the sender does not have the file any more."""

    index: int
    term: int
    offset: int
    file_size: int
    data: bytes


MESSAGES = (
    (32, Propose, "origin:u64 batch:u64 term:u64 kinds:bytes items:blobs"),
    (
        33,
        ProposeReply,
        "origin:u64 batch:u64 position:u32 outcome:u8 reason:u8 leader:u32 index:u64 reasons:bytes results:blobs",
    ),
    (34, FetchSnapshot, "index:u64 term:u64 offset:u64 size:u32"),
    (35, SnapshotPiece, "index:u64 term:u64 offset:u64 file_size:u64 data:bytes"),
)
