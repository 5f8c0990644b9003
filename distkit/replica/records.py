"""Records that a replica takes from its host and gives to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from distkit.core import Configuration, DistkitError, LocalError, Outcome, Reason, Role, Write, record
from distkit.core.machine import Send
from distkit.raft.messages import Snapshot


class ApplyError(DistkitError):
    """A committed entry could not be applied: the application raised, gave no bytes, or the kind is unknown.

    The replica stops, since going on would make it differ from the others. ``index`` names the entry, the cause is in
    ``__cause__``. The entry is still in the log: the next start applies it again, with a program that can.
    """

    def __init__(self, index: int, text: str) -> None:
        super().__init__(f"entry {index} cannot be applied, the replica stops: {text}")
        self.index = index


@record
class SnapshotPolicy:
    """When to take a snapshot: `entries` or `log_bytes` (payloads) were applied since the last one.

    One that failed (a full disk, say) is tried again after `retry_after` seconds. A peer that asks for no piece of the
    snapshot it was offered for `fetch_timeout` seconds is offered one again.
    """

    entries: int = 200_000
    log_bytes: int = 64 << 20
    retry_after: float = 10.0
    fetch_timeout: float = 15.0


@record
class ReplicaOptions:
    """Times are seconds, sizes are bytes.

    At most `proposals_max` proposals and `reads_max` reads of this node are open at a time, and at most
    `held_bytes_max` of commands wait for a leader; what is over is refused (Busy). One flush applies entries up to
    `apply_entries_max` and about `apply_bytes_max`, so that heartbeats never wait for long. What was forwarded to the
    leader ends as lost when it is not answered within `forward_timeout`, or within `forward_grace` once another leader
    is known. Reads and proposals that this node's own machine refused for the moment are tried again after
    `retry_interval`.
    """

    proposals_max: int = 100_000
    held_bytes_max: int = 16 << 20
    reads_max: int = 100_000
    apply_entries_max: int = 2048
    apply_bytes_max: int = 1 << 20
    forward_timeout: float = 5.0
    forward_grace: float = 1.0
    retry_interval: float = 0.05
    snapshot: SnapshotPolicy = SnapshotPolicy()

    def check(self) -> None:
        """Raise LocalError unless every limit is positive."""
        for part in (self, self.snapshot):
            for each in fields(part):
                value = getattr(part, each.name)
                if isinstance(value, (int, float)) and not value > 0:
                    raise LocalError(f"{each.name} must be positive, not {value!r}")


@record
class ReplicaReply:
    """The end of a ticket.

    COMMITTED: applied at `index` with `result`; RESULT_TOO_LARGE as reason: applied, but the result is not kept.
    READABLE: query the application now, before any other door is used; it is at least at `index`. REFUSED and
    SUPERSEDED are definite: not done. LOST: may or may not be done. `leader` is a hint, 0 if none is known.
    """

    ticket: int
    outcome: Outcome
    index: int = 0
    result: bytes = b""
    reason: Reason = Reason.NONE
    leader: int = 0


@record
class SaveSnapshot:
    """Write `chunks`, a frozen view that is drawn while commands are applied, to a file; then `snapshot_saved`."""

    index: int
    term: int
    time_us: int
    configuration: Configuration
    chunks: Iterator[bytes]


@record
class LoadSnapshot:
    """Give the chunks of this file, which is durable here, to `load`; then `restored`. Nothing is applied before."""

    snapshot: Snapshot


@record
class FetchFrom:
    """Fetch this file from `source` and make it durable; then `fetched`. Replaces a fetch that is under way."""

    source: int
    snapshot: Snapshot


@record
class Release:
    """A snapshot's mark is durable: entries up to `index`, and snapshot files that are not among `keep` or newer than
    `index`, are not needed any more. `keep` has the snapshot itself, and older ones that peers fetch, or this node."""

    index: int
    keep: tuple[Snapshot, ...]


SnapshotWork = SaveSnapshot | LoadSnapshot | FetchFrom | Release


@record
class ReplicaOutput:
    """Everything that was caused since the last flush, to be taken in this order. `role` is the newest change.

    Rules for `sends` and `writes` are those of `core.machine`.
    """

    sends: tuple[Send, ...]
    writes: tuple[Write, ...]
    replies: tuple[ReplicaReply, ...]
    role: Role | None
    snapshots: tuple[SnapshotWork, ...]


@record
class ReplicaStatus:
    """A replica in numbers, for people and metrics. `*_high` are high-water marks since the start."""

    raft: Any
    applied_index: int
    backlog: int
    sessions: int
    session_bytes: int
    proposals: int
    proposals_high: int
    held: int
    held_bytes: int
    held_bytes_high: int
    forwarded: int
    reads: int
    reads_high: int
    snapshot: str
    counters: dict[str, int]
