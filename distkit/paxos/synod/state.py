"""The state record that all functions of the synod work on."""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from distkit.core import LocalError, Outcome, Reason, Reply, Space, record
from distkit.core.limits import ENTRY_BYTES_MAX, NODE_ID_MAX
from distkit.core.machine import Send
from distkit.paxos.ballot import BALLOT_JUMP_MAX, BALLOT_MAX, node_of
from distkit.paxos.synod.configuration import SynodConfiguration
from distkit.paxos.synod.messages import Decided, Voted
from distkit.paxos.synod.options import SynodOptions

if TYPE_CHECKING:
    from random import Random

#: Called with (event name, fields) for each transition, when set.
Trace = Callable[[str, dict[str, Any]], None]

#: Bytes of a value: with ballot and origin it fits into one record of the log.
VALUE_BYTES_MAX = ENTRY_BYTES_MAX

#: The vote of an acceptor that has not voted.
NO_VOTE = Voted(0, 0, b"")


class Phase(enum.IntEnum):
    """What a proposer is doing."""

    IDLE = 0
    PREPARING = 1
    ACCEPTING = 2
    BACKING_OFF = 3


@record
class Durable:
    """What the records on a disk amount to: the arguments of a restart."""

    epoch: int
    promised: int
    vote: Voted
    chosen: Decided | None


class Proposal:
    """A ticket that waits for the decision. `origin` is the ballot at which it was first proposed, 0 if never."""

    __slots__ = ("origin", "ticket", "value")

    def __init__(self, ticket: int, value: bytes) -> None:
        self.ticket = ticket
        self.value = value
        self.origin = 0


class State:
    """All that a node of the synod knows. Only the functions of this package change it."""

    __slots__ = (
        "acceptors",
        "ballot",
        "bits",
        "chosen",
        "chosen_written",
        "configuration",
        "counters",
        "delivers",
        "epoch",
        "highest",
        "incarnation",
        "incarnations",
        "learn_deadline",
        "learners",
        "node",
        "now",
        "options",
        "outstanding",
        "own",
        "phase",
        "promised",
        "promised_durable",
        "promised_written",
        "promises",
        "proposals",
        "propose_deadline",
        "proposed",
        "proposers",
        "quorums",
        "random",
        "refusals",
        "replies",
        "seen",
        "sends",
        "space",
        "then",
        "then_own",
        "token",
        "touched",
        "trace",
        "vote",
        "vote_written",
        "votes",
    )

    def __init__(
        self,
        node: int,
        incarnation: int,
        configuration: SynodConfiguration,
        options: SynodOptions,
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
        self.configuration = configuration
        self.epoch = durable.epoch
        self.incarnations = {member.id: member.incarnation for member in configuration.members.members}
        self.quorums = configuration.quorums
        self.acceptors = configuration.quorums.members
        self.bits = {acceptor: self.quorums.mask((acceptor,)) for acceptor in self.acceptors}
        self.proposers = frozenset(configuration.proposers)
        self.learners = configuration.learners
        self.options = options
        self.random = random
        self.trace = trace
        self.now = now
        self.touched = True  #: something came in since the last flush

        # Durable state as accepted; what the disk has of it is behind by `outstanding`.
        self.promised = durable.promised  #: of the acceptor; a proposer takes its ballots above it as well
        self.vote = durable.vote
        self.chosen = durable.chosen

        # Writes.
        self.token = 0
        self.promised_written = durable.promised
        self.promised_durable = durable.promised
        self.vote_written = durable.vote
        self.chosen_written = durable.chosen
        self.then: list[Send] = []
        self.then_own: list[Any] = []  #: what this node tells itself once the next write is durable
        #: Writes under way: (token, what is promised once it is durable, what this node then tells itself).
        self.outstanding: deque[tuple[int, int, list[Any]]] = deque()

        # Outputs.
        self.sends: list[Send] = []
        self.own: deque[Any] = deque()  #: what this node tells itself at once
        self.delivers: list[Decided] = [] if durable.chosen is None else [durable.chosen]
        self.replies: list[Reply] = []
        self.counters: dict[str, int] = {}
        self.space = Space.OK

        # Proposer.
        self.proposals: deque[Proposal] = deque()
        self.phase = Phase.IDLE
        self.ballot = 0  #: of the attempt under way
        self.seen = 0  #: highest ballot that an acceptor refused us for
        self.promises = 0  #: acceptors that have promised the ballot, as bits
        self.highest = NO_VOTE  #: vote of the highest ballot that a promise reported
        self.proposed = NO_VOTE  #: what is proposed at the ballot
        self.refusals = 0  #: attempts in a row that were refused
        self.propose_deadline = math.inf  #: when to send again, or to try again

        # Learner.
        self.votes: dict[int, Voted] = {}  #: newest vote heard of each acceptor
        asks = self.node in self.learners and self.chosen is None
        self.learn_deadline = now + options.learn_interval if asks else math.inf

    # -- telling: to others through the output, to this node without leaving it ---------------------------------------

    def send(self, target: int, message: Any) -> None:
        """Say something that no crash can take back."""
        if target == self.node:
            self.own.append(message)
        else:
            self.sends.append((target, message))

    def hold(self, target: int, message: Any) -> None:
        """Say something once all that is accepted now is durable."""
        if target == self.node:
            self.then_own.append(message)
        else:
            self.then.append((target, message))

    # -- judging ------------------------------------------------------------------------------------------------------

    def sensible_ballot(self, ballot: int) -> bool:
        """Whether a proposer of this synod can have reached this ballot."""
        return (
            NODE_ID_MAX < ballot <= BALLOT_MAX
            and node_of(ballot) in self.proposers
            and (ballot - self.promised <= BALLOT_JUMP_MAX or ballot - self.seen <= BALLOT_JUMP_MAX)
        )

    def sensible_proposal(self, ballot: int, origin: int, value: bytes) -> bool:
        """Whether this can be proposed at a ballot: proposals are as old as their ballot, or older."""
        return (
            0 < origin <= ballot
            and (origin == ballot or node_of(origin) in self.proposers)
            and self.sensible_ballot(ballot)
            and len(value) <= VALUE_BYTES_MAX
        )

    # -- noting -------------------------------------------------------------------------------------------------------

    def count(self, what: str) -> None:
        """Count something that was ignored or refused."""
        self.counters[what] = self.counters.get(what, 0) + 1

    def note(self, event: str, ballot: int) -> None:
        """Tell the trace hook about a transition."""
        if self.trace is not None:
            self.trace(event, {"node": self.node, "ballot": ballot, "promised": self.promised})

    def end(self, ticket: int, outcome: Outcome, ballot: int = 0, reason: Reason = Reason.NONE) -> None:
        """End a ticket."""
        self.replies.append(Reply(ticket, outcome, term=ballot, reason=reason))
