"""Options of a Raft node. All members should use the same timeouts; safety does not depend on any of them."""

from __future__ import annotations

from distkit.core import LocalError, record


@record
class RaftOptions:
    """Times are seconds, sizes are bytes.

    A follower campaigns after 1.05 to 2 election timeouts without a leader, or within `evidence_delay` once the
    leader's connection was reset. `commit_notice` after its newest commit a leader tells peers of it by a heartbeat;
    before that the next append may tell them. `inflight_*` bound what is sent to one peer and not yet acknowledged: a
    small window makes large batches under load. `keep_entries` stay in memory below a snapshot for peers that lag.
    Proposals are refused (Busy) above `unapplied_bytes_max` or `log_bytes_max`; more than half of the latter may never
    fit, since an idle log of up to half is not a reason for a snapshot.
    """

    heartbeat: float = 0.1
    election_timeout: float = 1.0
    evidence_delay: float = 0.05
    commit_notice: float = 0.01
    inflight_messages_max: int = 4
    inflight_bytes_max: int = 4 << 20
    append_bytes_max: int = 512 << 10
    keep_entries: int = 10_000
    unapplied_bytes_max: int = 64 << 20
    log_bytes_max: int = 512 << 20
    reads_max: int = 100_000
    tickets_max: int = 100_000

    def check(self) -> None:
        """Raise LocalError unless the options make sense together."""
        for name in ("heartbeat", "election_timeout", "commit_notice"):
            if not 0 < getattr(self, name) < 3600:
                raise LocalError(f"{name} must be between 0 and 3600 seconds, not {getattr(self, name)!r}")
        if self.election_timeout < 3 * self.heartbeat:
            raise LocalError("election_timeout must be at least three heartbeats, or lost packets cause elections")
        if not 0 <= self.evidence_delay < self.election_timeout:
            raise LocalError("evidence_delay must be at least 0 and less than election_timeout")
        for name in ("inflight_messages_max", "inflight_bytes_max", "append_bytes_max", "reads_max", "tickets_max"):
            if getattr(self, name) < 1:
                raise LocalError(f"{name} must be at least 1, not {getattr(self, name)!r}")
        for name in ("keep_entries", "unapplied_bytes_max", "log_bytes_max"):
            if getattr(self, name) < 0:
                raise LocalError(f"{name} must not be negative, not {getattr(self, name)!r}")
