"""The state record that all functions of the Raft machine work on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from distkit._fast.logbuf import Window
from distkit.core import (
    Configuration,
    LocalError,
    Outcome,
    Reason,
    Reply,
    Restore,
    Role,
    RoleName,
    Space,
    Span,
    record,
)
from distkit.core.machine import Send
from distkit.raft.messages import Snapshot
from distkit.raft.options import RaftOptions
from distkit.raft.progress import Progress

if TYPE_CHECKING:
    from random import Random

# Members of an enumeration by name cost as much as a call on Python 3.11, and roles are asked for all the time.
FOLLOWER: Final = RoleName.FOLLOWER
CANDIDATE: Final = RoleName.CANDIDATE
LEADER: Final = RoleName.LEADER

#: Called with (event name, fields) for each transition, when set.
Trace = Callable[[str, dict[str, Any]], None]


@record
class Durable:
    """What the records on a disk amount to: the arguments of a restart."""

    term: int
    vote: int
    commit: int
    snapshot: Snapshot
    window: Window


class Outstanding:
    """A write on its way to the disk: what is true once it is there."""

    __slots__ = ("campaign", "last", "restore", "token")

    def __init__(self, token: int, last: int, campaign: int, restore: Snapshot | None) -> None:
        self.token = token
        self.last = last  #: all entries up to this index are then durable (lowered when they are truncated)
        self.campaign = campaign  #: the own vote in this campaign is then durable; 0: none
        self.restore = restore  #: this snapshot is then the start of the log


class Transfer:
    """A leadership transfer under way; it outlives the own leadership until the next leader is known."""

    __slots__ = ("deadline", "sent", "target", "ticket")

    def __init__(self, ticket: int, target: int, deadline: float) -> None:
        self.ticket = ticket
        self.target = target
        self.deadline = deadline
        self.sent = False


class State:
    """All that a Raft node knows. Only the functions of this package change it."""

    def __init__(
        self,
        node: int,
        incarnation: int,
        options: RaftOptions,
        random: Random,
        now: float,
        durable: Durable,
        trace: Trace | None,
    ) -> None:
        options.check()
        if not now >= 0.0:
            raise LocalError(f"now must be a number of seconds that is not negative, not {now!r}")
        self.node = node
        self.incarnation = incarnation
        self.options = options
        self.random = random
        self.trace = trace
        self.now = now
        self.touched = True  #: something came in that the next flush must look at
        self.wall_us = 0  #: wall clock minus `wall_now`, for blocks
        self.wall_now = now

        # Durable state as accepted (paper, figure 2); what the disk has of it is behind by `outstanding`.
        self.term = durable.term
        self.vote = durable.vote
        self.window = durable.window
        self.snapshot = durable.snapshot
        self.configuration: Configuration = durable.snapshot.configuration
        self.voters: tuple[int, ...] = self.configuration.voters
        self.incarnations: dict[int, int] = {member.id: member.incarnation for member in self.configuration.members}

        # Volatile positions. snapshot <= applied <= delivered <= min(commit, flushed); flushed, commit <= last.
        self.commit = durable.commit
        self.boot_commit = durable.commit
        self.flushed = self.window.last
        self.delivered = self.window.base_index
        self.applied = self.window.base_index

        # Writes.
        self.token = 0
        self.hard_written = (self.term, self.vote)
        self.records: list[Any] = []
        self.then: list[Send] = []
        self.compacted: Snapshot | None = None  #: a snapshot of the own state that the next write records
        self.entries_accepted = False  #: `records` holds entries, so the commit index goes before them
        self.rewritten = False  #: `records` holds a truncation or replaces the log
        self.own_vote = 0  #: the campaign whose own vote the next write makes durable; 0: none
        self.restore: Snapshot | None = None  #: a received snapshot that the next write makes durable
        self.restoring = False  #: a received snapshot is not yet durable and applied
        self.outstanding: deque[Outstanding] = deque()
        self.ack: tuple[int, int, int, int] | None = None  #: merged acknowledgement: (leader, term, session, index)

        # Outputs.
        self.sends: list[Send] = []
        self.delivers: list[Span | Restore | Role] = []
        self.replies: list[Reply] = []
        self.counters: dict[str, int] = {}

        # Role.
        self.role = FOLLOWER
        self.leader = 0
        self.leader_heard = 0.0
        self.announced = (FOLLOWER, -1, 0, False)
        self.election_deadline = 0.0
        self.patience = 0.0  #: seconds without the leader until a campaign; drawn anew with each change of role
        self.evidence = 0  #: quick attempts left after the leader's connection was reset
        self.campaigns = 0  #: campaigns begun, pre-votes included
        self.pre = False
        self.votes: dict[int, bool] = {}
        self.space = Space.OK

        # Leader.
        self.progress: dict[int, Progress] = {}
        self.session = random.getrandbits(47)  #: newest replication session; random, so that no boot repeats another's
        self.term_start = 0  #: index of the empty entry of the own term
        self.heartbeat_deadline = 0.0
        self.quorum_deadline = 0.0
        self.notice_deadline = 0.0  #: when to tell idle peers the commit index; infinity if they know
        self.transfer: Transfer | None = None

        # Proposals: unsealed commands are not in the log yet; tickets wait in the order of their entries.
        self.unsealed: list[bytes] = []
        self.unsealed_kinds = bytearray()
        self.unsealed_bytes = 0
        self.unsealed_tickets: list[tuple[int, int, int, int]] = []
        self.tickets: deque[tuple[int, int, int, int]] = deque()  #: (first, last, term, ticket)
        self.unapplied: deque[tuple[int, int]] = deque()  #: (last, bytes) of own blocks not yet applied
        self.unapplied_bytes = 0

        # Reads. A read is (ticket, 0, 0, 0) or (0, peer, origin, position).
        self.origin = random.getrandbits(63)
        self.read_position = 0  #: leader: newest position that a heartbeat carries
        self.request_position = 0  #: follower: newest request; never reused, so a late answer fits no other request
        self.reads_waiting: list[tuple[int, int, int, int]] = []  #: for the next round, or for a commit in this term
        self.reads_round: list[tuple[int, int, int, int]] = []  #: confirmed by the round under way
        self.reads_index = 0  #: read index of the round under way
        self.reads_resend = 0.0  #: follower: when to ask again

    @property
    def last(self) -> int:
        """Index of the last entry, unsealed ones included."""
        return self.window.last + len(self.unsealed)

    @property
    def majority(self) -> int:
        """How many voters are a quorum."""
        return len(self.voters) // 2 + 1

    def count(self, what: str) -> None:
        """Count something that was ignored or refused."""
        self.counters[what] = self.counters.get(what, 0) + 1

    def refuse(self, ticket: int, reason: Reason) -> None:
        """End a ticket as definitely not done."""
        self.replies.append(Reply(ticket, Outcome.REFUSED, term=self.term, reason=reason, leader=self.leader))
