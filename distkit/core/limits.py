"""Bounds that are constants of the formats. Bounds that a user may set are options of the part they belong to."""

from __future__ import annotations

#: A block, header and table included. Also the largest content of a log record.
BLOCK_BYTES_MAX = 1 << 20
#: Entries in one block.
BLOCK_ENTRIES_MAX = 1 << 14
#: Payload of one entry: what is left in a block of one entry, with room for the session prefix.
ENTRY_BYTES_MAX = BLOCK_BYTES_MAX - 128
#: Payload at which a block is closed and the next one begun, unless one entry alone is larger.
BLOCK_BYTES_SOFT = 256 << 10
#: Body of one frame on the wire: a few blocks and the fixed fields.
FRAME_BYTES_MAX = 4 << 20
#: Blobs (blocks, commands) in one frame.
FRAME_BLOBS_MAX = 1 << 16
#: Members of a cluster. Quorum kernels use fixed arrays of this size.
MEMBERS_MAX = 64
#: Largest node id; it fits a signed 32-bit integer.
NODE_ID_MAX = (1 << 31) - 1
#: HOST:PORT in UTF-8.
ADDRESS_BYTES_MAX = 255
#: Largest index and term that is taken from a peer: leaves room so that no sum overflows 64 bits.
INDEX_MAX = (1 << 62) - 1
#: A message may raise the term by at most this much; a larger jump is nonsense and is ignored.
TERM_JUMP_MAX = 1 << 32
