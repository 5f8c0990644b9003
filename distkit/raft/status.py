"""What a Raft node tells people and metrics about itself."""

from __future__ import annotations

from distkit.core import RoleName, record
from distkit.raft.progress import ProgressState
from distkit.raft.state import State


@record
class PeerStatus:
    """The leader's view of one peer."""

    node: int
    state: ProgressState
    match: int
    next: int
    inflight_messages: int
    inflight_bytes: int
    recent_active: bool
    credit: int


@record
class RaftStatus:
    """Positions are indexes, sizes bytes. `counters` counts what was ignored or refused, by reason."""

    node: int
    role: RoleName
    term: int
    vote: int
    leader: int
    ready: bool
    commit_index: int
    applied_index: int
    flushed_index: int
    last_index: int
    first_index: int
    snapshot_index: int
    log_bytes: int
    unapplied_bytes: int
    tickets_waiting: int
    reads_waiting: int
    writes_outstanding: int
    peers: tuple[PeerStatus, ...]
    counters: dict[str, int]

    @classmethod
    def of(cls, s: State) -> RaftStatus:
        """The status of a state."""
        peers = tuple(
            PeerStatus(
                progress.id,
                progress.state,
                progress.match,
                progress.next,
                len(progress.inflight),
                progress.inflight_bytes,
                progress.recent_active,
                progress.credit,
            )
            for progress in s.progress.values()
        )
        return cls(
            s.node,
            s.role,
            s.term,
            s.vote,
            s.leader,
            s.role is RoleName.LEADER and s.applied >= s.term_start,
            s.commit,
            s.applied,
            s.flushed,
            s.last,
            s.window.base_index + 1,
            s.snapshot.index,
            s.window.bytes,
            s.unapplied_bytes,
            len(s.tickets) + len(s.unsealed_tickets),
            len(s.reads_waiting) + len(s.reads_round),
            len(s.outstanding),
            peers,
            dict(s.counters),
        )
