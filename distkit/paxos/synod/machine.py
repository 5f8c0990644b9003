"""Single-decree Paxos as one machine: the doors and the flush. What happens behind them is in the other modules.

    proposer   ballots, phases 1 and 2, back-off     durable   writes, completions, recovery
    acceptor   promises and votes                    state     the record they all work on
    learner    counting votes, telling the decision

Source: Lamport, "Paxos Made Simple" (2001), with quorums that are any values of `distkit.quorum.flexible`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from distkit.core import LocalError, Output, Space
from distkit.paxos.synod import acceptor, durable, learner, proposer
from distkit.paxos.synod.configuration import SynodConfiguration
from distkit.paxos.synod.messages import Accept, Accepted, Decide, Decided, LastVote, Learn, Nack, Prepare, Promise
from distkit.paxos.synod.options import SynodOptions
from distkit.paxos.synod.state import State, Trace
from distkit.paxos.synod.status import SynodStatus

if TYPE_CHECKING:
    from random import Random

Handler = Callable[[State, float, int, Any], None]

#: For each message, whether it makes sense from its source, which is asked first, and what it does.
HANDLERS: dict[type, tuple[Callable[[State, int, Any], bool], Handler]] = {
    Prepare: (acceptor.sensible_prepare, acceptor.on_prepare),
    Promise: (proposer.sensible_promise, proposer.on_promise),
    Accept: (acceptor.sensible_accept, acceptor.on_accept),
    Accepted: (learner.sensible_accepted, learner.on_accepted),
    Nack: (proposer.sensible_nack, proposer.on_nack),
    Learn: (learner.sensible_learn, acceptor.on_learn),
    LastVote: (learner.sensible_last_vote, learner.on_last_vote),
    Decide: (learner.sensible_decide, learner.on_decide),
}


def recover(
    records: Iterable[Any],
    *,
    node: int,
    incarnation: int,
    configuration: SynodConfiguration,
    random: Random,
    now: float,
    options: SynodOptions | None = None,
    trace: Trace | None = None,
) -> Synod:
    """The machine that the durable `records` (types of `messages.RECORDS`) amount to; first `formation_records`.

    Raises StorageError if the records contradict each other, LocalError if `node` is no member under this incarnation,
    or if the records count by another configuration than this one.
    """
    configuration.check()
    found = durable.fold(records)
    if found.epoch != configuration.epoch:
        raise LocalError(
            "members, roles and quorums of a synod can't be changed in place: two majorities of different groups need "
            "not meet. Start it with the configuration it was formed with"
        )
    member = configuration.members.member(node)
    if member is None:
        raise LocalError(f"node {node} is no member of the synod")
    if member.incarnation != incarnation:
        raise LocalError(
            f"node {node} is a member with incarnation {member.incarnation:016x}, not {incarnation:016x}: "
            "a wiped node has forgotten its promises and can't come back under its old id"
        )
    return Synod(State(node, incarnation, configuration, options or SynodOptions(), random, now, found, trace))


class Synod:
    """One node. Drive it as `distkit.core.machine` says; make it with `recover`.

    Delivers one `Decided(ballot, origin, value)` in each life of the node, as soon as it knows what was chosen.
    """

    def __init__(self, state: State) -> None:
        self.state = state

    # -- network ------------------------------------------------------------------------------------------------------

    def receive(self, now: float, source: int, message: Any) -> None:
        """A well-typed message of a peer. Stale, absurd and unknown ones are counted and change nothing."""
        s = self._at(now)
        handlers = HANDLERS.get(type(message))
        if handlers is None:
            raise LocalError(f"the synod takes no {type(message).__name__}")
        sensible, handle = handlers
        if source not in s.incarnations or source == s.node:
            s.count("unknown_member")
        elif message.epoch != s.epoch:
            s.count("wrong_epoch")
        elif message.incarnation != s.incarnations[source]:
            s.count("wrong_incarnation")
        elif not sensible(s, source, message):
            s.count("nonsense")
        else:
            handle(s, now, source, message)

    def connected(self, now: float, peer: int) -> None:
        """A connection to the peer was made: ask it again what it has not answered."""
        s = self._at(now)
        if peer in s.bits:
            proposer.resend(s, peer)

    def lost(self, now: float, peer: int, reason: str) -> None:
        """The connection broke. Nothing follows: what is missing is asked for again in time."""
        self._at(now)

    # -- disk ---------------------------------------------------------------------------------------------------------

    def persisted(self, now: float, token: int) -> None:
        """All writes up to `token` are durable. Repeats are harmless."""
        durable.persisted(self._quiet_at(now), token)

    def storage(self, now: float, space: Space) -> None:
        """FULL: take no values to propose or to vote for; promises, repeated votes and learning go on."""
        self._at(now).space = space

    # -- clock --------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Do what is due."""
        s = self._at(now)
        if now >= s.propose_deadline:
            proposer.tick(s, now)
        if now >= s.learn_deadline:
            learner.tick(s, now)

    def deadline(self) -> float:
        """When `tick` has something to do."""
        return min(self.state.propose_deadline, self.state.learn_deadline)

    # -- application --------------------------------------------------------------------------------------------------

    def propose(self, now: float, ticket: int, value: bytes) -> None:
        """Propose a value, and keep on until something is chosen.

        COMMITTED: this proposal was chosen. SUPERSEDED: another one was, perhaps with equal bytes; this one never will
        be. Either way `term` of the reply is the ballot, and the chosen value is in the `Decided` that was delivered
        before the reply or with it, and in `chosen`. REFUSED: it was never proposed (busy, full, stopped). LOST: the
        last round is used up. Callers bring deadlines: without a quorum there is no reply.

        LocalError: this node is no proposer, or the value is longer than VALUE_BYTES_MAX.
        """
        proposer.propose(self._at(now), now, ticket, value)

    # -- out ----------------------------------------------------------------------------------------------------------

    def flush(self, now: float) -> Output | None:
        """Everything caused since the last flush."""
        if not self.state.touched:
            return None
        s = self._quiet_at(now)
        s.touched = False
        while s.own:
            message = s.own.popleft()
            HANDLERS[type(message)][1](s, now, s.node, message)
        write = durable.collect_write(s)
        if write is None and not (s.sends or s.delivers or s.replies):
            return None
        output = Output(tuple(s.sends), () if write is None else (write,), tuple(s.delivers), tuple(s.replies))
        s.sends.clear()
        s.delivers.clear()
        s.replies.clear()
        return output

    def status(self) -> SynodStatus:
        """Where this node stands; cheap."""
        return SynodStatus.of(self.state)

    def digest(self) -> bytes:
        """Hash of all that decides what the node does next, except time, chance, and what waits for a flush."""
        s = self.state
        facts = (
            (s.epoch, s.promised, s.vote, s.chosen, s.space),
            (s.promised_durable, [(promised, own) for _, promised, own in s.outstanding]),
            (s.phase, s.ballot, s.seen, s.promises, s.highest, s.proposed),
            [(own.origin, own.value) for own in s.proposals],
            sorted(s.votes.items()),
        )
        return hashlib.sha256(repr(facts).encode()).digest()[:16]

    def image(self) -> tuple[Any, ...]:
        """Records that `recover` turns into this state."""
        return durable.image(self.state)

    # -- for hosts ----------------------------------------------------------------------------------------------------

    @property
    def node(self) -> int:
        """Id of this node."""
        return self.state.node

    @property
    def chosen(self) -> Decided | None:
        """The decision, once it is known here."""
        return self.state.chosen

    # -- inside -------------------------------------------------------------------------------------------------------

    def _at(self, now: float) -> State:
        """The state at the time of an input that the next flush must look at."""
        s = self.state
        if not now >= s.now:
            raise _time_went_back(now, s.now)
        s.now = now
        s.touched = True
        return s

    def _quiet_at(self, now: float) -> State:
        """The state at the time of an input that may well have caused nothing."""
        s = self.state
        if not now >= s.now:
            raise _time_went_back(now, s.now)
        s.now = now
        return s


def _time_went_back(now: float, last: float) -> LocalError:
    return LocalError(f"time went back, or is not a number: {now!r} after {last!r}")
