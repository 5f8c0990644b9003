"""Messages and durable records of Raft, as tables that a host turns into a codec registry.

Each row is (kind, record, layout); the layout names the fields in order with their types on the wire
(`docs/formats.md`). Kinds are never reused. Fields that nothing uses yet (`promise_us`, member roles, `outgoing`,
`feature_level`) are reserved so that leases, witnesses and membership changes need no new format.
"""

from __future__ import annotations

from distkit.core import Configuration, record


@record
class Snapshot:
    """A snapshot of the state at `index`, and the configuration then in force.

    `size` is that of the snapshot file, 0 for the empty state at formation (index 0). `crc` is reserved (0): the file
    carries its own checksums.
    """

    index: int
    term: int
    time_us: int
    size: int
    crc: int
    configuration: Configuration


# -- messages ---------------------------------------------------------------------------------------------------------


@record
class AppendEntries:
    """Entries after (prev_index, prev_term), as checked, consecutive blocks; without blocks it probes.

    `session` numbers the leader's replication session with this peer and is echoed, so that an answer to an earlier
    session (before a re-election or a re-added peer) is recognised.
    """

    term: int
    session: int
    prev_index: int
    prev_term: int
    commit: int
    blocks: tuple[bytes, ...]


@record
class AppendEntriesReply:
    """Accepted: `index` is the last one that is durable and known to match. Rejected: `index` is the refused
    prev_index, and (hint_index, hint_term) the best guess where the logs still agree (hint_term 0: unknown).

    `credit` is how many more bytes of entries the follower is ready to hold, 0 when its disk is full.
    """

    term: int
    session: int
    incarnation: int
    accepted: bool
    index: int
    hint_index: int
    hint_term: int
    credit: int


@record
class Heartbeat:
    """Sent at every heartbeat interval. `commit` is at most what this peer is known to hold.

    `read_position` is the newest read that the answer will confirm. `promise_us` is reserved for lease reads.
    """

    term: int
    session: int
    commit: int
    read_position: int
    promise_us: int


@record
class HeartbeatReply:
    """Echoes `read_position` and `promise_us`."""

    term: int
    session: int
    incarnation: int
    read_position: int
    promise_us: int
    credit: int


@record
class RequestVote:
    """`pre`: a pre-vote, which changes no state anywhere. `transfer`: asked for by the leader, bypasses stickiness."""

    term: int
    incarnation: int
    last_index: int
    last_term: int
    pre: bool
    transfer: bool


@record
class RequestVoteReply:
    """A grant carries the term of the request, a refusal the term of the voter."""

    term: int
    incarnation: int
    pre: bool
    granted: bool


@record
class TimeoutNow:
    """The leader asks this peer to campaign at once (leadership transfer)."""

    term: int


@record
class ReadIndex:
    """A follower asks for a read position. (origin, position) names the request: origin is random for each start."""

    term: int
    origin: int
    position: int


@record
class ReadIndexReply:
    """`index` is 0 when the leader could not confirm; otherwise state applied up to `index` answers the read."""

    term: int
    origin: int
    position: int
    index: int


@record
class InstallSnapshot:
    """Metadata of a snapshot; the host fetches the file on another connection before the machine sees this."""

    term: int
    session: int
    snapshot: Snapshot


@record
class InstallSnapshotReply:
    """`index` is durable and known to match, like that of an accepted append."""

    term: int
    session: int
    incarnation: int
    index: int
    credit: int


# -- durable records --------------------------------------------------------------------------------------------------


@record
class HardState:
    """What Raft must never forget (paper, figure 2), and the commit index known when it was written."""

    term: int
    vote: int
    commit: int


@record
class SnapshotMark:
    """A durable snapshot with the hard state of that moment. `reset`: the whole log is replaced by it."""

    term: int
    vote: int
    commit: int
    reset: bool
    feature_level: int
    snapshot: Snapshot


@record
class Entries:
    """A block of entries, appended to the log. On disk its content is the block itself."""

    block: bytes


@record
class Truncate:
    """Entries from `index` on are removed from the log."""

    index: int


_SNAPSHOT = "index:u64 term:u64 time_us:u64 size:u64 crc:u32 configuration:configuration"

#: Records that stand inside other records.
PARTS = ((Snapshot, _SNAPSHOT),)

MESSAGES = (
    (16, AppendEntries, "term:u64 session:u64 prev_index:u64 prev_term:u64 commit:u64 blocks:blocks"),
    (
        17,
        AppendEntriesReply,
        "term:u64 session:u64 incarnation:u64 accepted:bool index:u64 hint_index:u64 hint_term:u64 credit:u64",
    ),
    (18, Heartbeat, "term:u64 session:u64 commit:u64 read_position:u64 promise_us:u64"),
    (19, HeartbeatReply, "term:u64 session:u64 incarnation:u64 read_position:u64 promise_us:u64 credit:u64"),
    (20, RequestVote, "term:u64 incarnation:u64 last_index:u64 last_term:u64 pre:bool transfer:bool"),
    (21, RequestVoteReply, "term:u64 incarnation:u64 pre:bool granted:bool"),
    (22, TimeoutNow, "term:u64"),
    (23, ReadIndex, "term:u64 origin:u64 position:u64"),
    (24, ReadIndexReply, "term:u64 origin:u64 position:u64 index:u64"),
    (25, InstallSnapshot, "term:u64 session:u64 snapshot:Snapshot"),
    (26, InstallSnapshotReply, "term:u64 session:u64 incarnation:u64 index:u64 credit:u64"),
)

RECORDS = (
    (64, HardState, "term:u64 vote:u64 commit:u64"),
    (65, SnapshotMark, "term:u64 vote:u64 commit:u64 reset:bool feature_level:u32 snapshot:Snapshot"),
    (96, Entries, "block:block"),
    (97, Truncate, "index:u64"),
)
