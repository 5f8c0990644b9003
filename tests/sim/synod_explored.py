"""Small worlds of the synod in which the explorer sees what no drawn run shows, and the mutants that show there.

A world is a synod with something added that happens at any moment: a forged message, a full disk, more proposals,
rounds that are used up, a start that must be refused. The machine that ships keeps every rule in each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from mutating import load
from synod_more_mutants import MORE
from synod_mutants import MUTANTS

from distkit.core import LocalError, Space, StorageError
from distkit.paxos.ballot import ROUND_MAX, make_ballot, node_of, round_of
from distkit.paxos.synod import VALUE_BYTES_MAX
from distkit.paxos.synod.messages import (
    Accept,
    Accepted,
    Decide,
    Decided,
    Formed,
    LastVote,
    Nack,
    Prepare,
    Promise,
    Promised,
    Voted,
)
from distkit.quorum import flexible
from distkit.sim.broken import require
from distkit.sim.explore import Cluster, Found, Node, SynodSubject, search
from distkit.sim.explore.node import ARMED
from distkit.sim.explore.synod import Past
from distkit.sim.synod_ledger import Ledger

#: No world needs more to show its mutants.
STATES_MAX = 20_000
_INCARNATION = 1
_FOREIGN = b"z"


class Judged(SynodSubject):
    """A world whose nodes are judged by more rules: those of `past`, and `judged` after each move."""

    past: type[Past] = Past

    def ledger(self, node: int) -> Past:
        ledger = self.past(self.configuration, frozenset((node,)))
        ledger.proposed = dict(self.values)
        return ledger

    def judged(self, node: Node) -> None:
        pass

    def settle(self, node: Node) -> None:
        self.judged(node)
        super().settle(node)


# -- messages that no honest node sends -------------------------------------------------------------------------------


class Forged(Judged):
    """Messages of `forged` may arrive at any moment."""

    def forged(self, node: Node) -> Iterable[tuple[int, Any]]:
        """(source, message)."""
        raise NotImplementedError

    def calls(self, node: Node) -> Iterator[tuple[str, tuple[Any, ...]]]:
        yield from super().calls(node)
        for forged in self.forged(node):
            yield "receive", forged

    def accept(self, ballot: int, value: bytes) -> Accept:
        """A proposal."""
        return Accept(self.configuration.epoch, _INCARNATION, ballot, ballot, value)


class OtherConfiguration(Forged):
    """Acceptors of another configuration promise anything."""

    def forged(self, node: Node) -> Iterable[tuple[int, Any]]:
        ballot = node.machine.state.ballot
        if node.id in self.values and ballot:
            for acceptor in self.exchangeable:
                yield acceptor, Promise(self.configuration.epoch ^ 1, _INCARNATION, ballot, 0, 0, b"")


class ForeignBallot(Forged):
    """The first proposer asks for promises of the second one's ballot."""

    class past(Past):
        def left(self, node: Any, target: int, message: Any) -> None:
            super().left(node, target, message)
            if isinstance(message, Promise):
                require(node_of(message.ballot) == target, "S5", "a promise of a ballot to another node:", message)

    def forged(self, node: Node) -> Iterable[tuple[int, Any]]:
        first, second = self.values
        if node.id not in self.values:
            yield first, Prepare(self.configuration.epoch, _INCARNATION, make_ballot(1, second))


class TwoAtOneBallot(Forged):
    """Who has heard of a vote hears of another one for something else at the same ballot."""

    def forged(self, node: Node) -> Iterable[tuple[int, Any]]:
        votes = node.machine.state.votes
        for vote in set(votes.values()):
            for acceptor in self.exchangeable:
                if acceptor not in votes and vote.value != _FOREIGN:
                    yield (
                        acceptor,
                        LastVote(self.configuration.epoch, _INCARNATION, vote.ballot, vote.ballot, _FOREIGN),
                    )


class EarlyPromise(Forged):
    """Acceptors promise a ballot before its proposer has it on its disk."""

    def forged(self, node: Node) -> Iterable[tuple[int, Any]]:
        s = node.machine.state
        if s.phase is self.machine.Phase.PREPARING and s.promised_durable < s.ballot:
            for acceptor in self.exchangeable:
                yield acceptor, Promise(s.epoch, _INCARNATION, s.ballot, 0, 0, b"")


class Overtaken(Forged):
    """The first proposer is refused at its first ballot after it has proposed; the second one begins in round 3; what
    makes no difference to them is lost."""

    writes = 1

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, quorums=flexible.counts((1, 2), 1, 2), **more)

    def formation(self, node: int) -> Iterable[Any]:
        records = super().formation(node)
        return (*records, Promised(make_ballot(2, node))) if node == max(self.values) else records

    def forged(self, node: Node) -> Iterable[tuple[int, Any]]:
        s = node.machine.state
        first, second = self.values
        if node.id == first and s.ballot == make_ballot(1, first) and s.phase is self.machine.Phase.ACCEPTING:
            yield 1, Nack(s.epoch, _INCARNATION, s.ballot, make_ballot(1, second))

    def carries(self, message: Any) -> bool:
        if isinstance(message, Accepted):
            return round_of(message.ballot) == 3
        return not isinstance(message, Nack) and not (isinstance(message, Accept) and round_of(message.ballot) == 2)


class TwoProposals(Forged):
    """An acceptor that has voted, and said so, is asked to vote for something else at the same ballot."""

    class past(Past):
        def left(self, node: Any, target: int, message: Any) -> None:
            super().left(node, target, message)
            again = isinstance(message, Accepted) and (target, message) in node.sent
            require(not again, "S3", "a second vote at one ballot:", message)

    def forged(self, node: Node) -> Iterable[tuple[int, Any]]:
        proposer = next(iter(self.values))
        ballot, voted = make_ballot(1, proposer), node.machine.status().vote
        if node.id != proposer and not voted.ballot:
            yield proposer, self.accept(ballot, self.values[proposer])
        elif any(isinstance(message, Accepted) for _, message in node.sent):
            yield proposer, self.accept(ballot, _FOREIGN)

    def carries(self, message: Any) -> bool:
        return not isinstance(message, Accept)


class OldVotes(Forged):
    """Learners are told of a vote, and of an older one, in any order."""

    class past(Past):
        heard: int = 0

        def stepped(self, node: Any) -> None:
            super().stepped(node)
            heard = max((vote.ballot for vote in node.machine.state.votes.values()), default=0)
            require(heard >= self.heard, "S1", "node", node.id, "forgets the newest vote it was told of")
            self.heard = heard

    def forged(self, node: Node) -> Iterable[tuple[int, Any]]:
        for proposer in self.values:
            first = make_ballot(1, proposer)
            for ballot in (first, make_ballot(2, proposer)):
                yield 1, LastVote(self.configuration.epoch, _INCARNATION, ballot, first, self.values[proposer])

    def carries(self, message: Any) -> bool:
        return False


class Refusals(Forged):
    """Proposers are refused at their ballot because of round 5, and told of another ballot that was refused."""

    def forged(self, node: Node) -> Iterable[tuple[int, Any]]:
        ballot, other = node.machine.state.ballot, max(self.values)
        if node.id in self.values and ballot:
            for refused, promised in ((ballot, 5), (make_ballot(9, node.id), 10)):
                yield 1, Nack(self.configuration.epoch, _INCARNATION, refused, make_ballot(promised, other))

    def carries(self, message: Any) -> bool:
        return not isinstance(message, Nack)

    def judged(self, node: Node) -> None:
        s = node.machine.state
        if s.phase is self.machine.Phase.BACKING_OFF:
            require(round_of(s.seen) == 5, "work", "node", node.id, "backs off because of", s.seen)


class VotesOnce(Forged):
    """Each acceptor has voted once, at a ballot of its own, and learners are told so in any order. Nothing is old then:
    who counts in order takes a vote for stale that others may complete to a quorum."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.exchangeable = ()  # else each would be told of with the vote of the other one

    def forged(self, node: Node) -> Iterable[tuple[int, Any]]:
        proposer = next(iter(self.values))
        first = make_ballot(1, proposer)
        for acceptor, round_ in ((1, 1), (2, 2)):
            ballot = make_ballot(round_, proposer)
            yield acceptor, LastVote(self.configuration.epoch, _INCARNATION, ballot, first, self.values[proposer])

    def carries(self, message: Any) -> bool:
        return False

    def judged(self, node: Node) -> None:
        stale = node.machine.status().counters.get("stale")
        require(not stale or node.machine.chosen is not None, "learning", "node", node.id, "ignores a new vote")
        node.machine.state.counters.clear()


class OtherReports(Forged):
    """Node 1 has voted for `b`, node 2 before that for `a`, and the first proposer is refused while it prepares. "The
    value of the highest-numbered proposal among the responses" (phase 2a) is that among those of its own ballot."""

    class past(Past):
        def left(self, node: Any, target: int, message: Any) -> None:
            super().left(node, target, message)
            s = node.machine.state
            if isinstance(message, Accept) and message.ballot == s.ballot:
                votes = [vote for acceptor, vote in node.subject.voted.items() if s.promises & s.bits[acceptor]]
                newest = max(votes, key=lambda vote: vote.ballot, default=None)
                require(newest is None or newest.value == message.value, "P2a", message, "though told of", votes)

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.exchangeable = ()
        one, two = (make_ballot(round_, node) for round_, node in enumerate(self.values, 1))
        self.voted = {1: Voted(two, two, b"b"), 2: Voted(one, one, b"a")}
        self._last = two

    def formation(self, node: int) -> Iterable[Any]:
        return (*super().formation(node), self.voted.get(node, Promised(self._last)))

    def calls(self, node: Node) -> Iterator[tuple[str, tuple[Any, ...]]]:
        return super().calls(node) if node.id != max(self.values) else iter(())

    def forged(self, node: Node) -> Iterable[tuple[int, Any]]:
        s = node.machine.state
        first, second = self.values
        if node.id == first and s.phase is self.machine.Phase.PREPARING:
            yield 3, Nack(s.epoch, _INCARNATION, s.ballot, make_ballot(round_of(s.ballot), second))


class RefusedAgain(Forged):
    """A proposer is refused again and again, and remembers how often: it is back within `backoff_max`."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.options = replace(self.options, backoff_max=self.options.backoff)

    def forged(self, node: Node) -> Iterable[tuple[int, Any]]:
        s, other = node.machine.state, max(self.values)
        if node.id in self.values and s.ballot:
            yield 1, Nack(s.epoch, _INCARNATION, s.ballot, make_ballot(round_of(s.ballot) + 1, other))

    def carries(self, message: Any) -> bool:
        return False

    def judged(self, node: Node) -> None:
        s = node.machine.state
        if s.phase is self.machine.Phase.BACKING_OFF and s.propose_deadline != ARMED:
            require(
                s.propose_deadline <= self.options.backoff_max, "work", "node", node.id, "waits", s.propose_deadline
            )

    def settle(self, node: Node) -> None:
        refusals = node.machine.state.refusals
        super().settle(node)
        node.machine.state.refusals = refusals


class FarJump(Forged):
    """The last ballot there is, at once."""

    def forged(self, node: Node) -> Iterable[tuple[int, Any]]:
        proposer = next(iter(self.values))
        if node.id != proposer:
            yield proposer, Prepare(self.configuration.epoch, _INCARNATION, make_ballot(ROUND_MAX, proposer))

    def judged(self, node: Node) -> None:
        promised = node.machine.status().promised
        require(round_of(promised) <= self.attempts, "limits", "node", node.id, "promises", promised)


class LongValue(Forged):
    """A value that is too long for any log."""

    _value = bytes(VALUE_BYTES_MAX + 1)

    def forged(self, node: Node) -> Iterable[tuple[int, Any]]:
        proposer = next(iter(self.values))
        if node.id != proposer:
            yield proposer, self.accept(make_ballot(1, proposer), self._value)

    def judged(self, node: Node) -> None:
        size = len(node.machine.status().vote.value)
        require(size <= VALUE_BYTES_MAX, "limits", "node", node.id, "votes for", size, "bytes")


# -- what a host and an application may do ----------------------------------------------------------------------------


class FullDisk(Judged):
    """The disk of any node may be full, until it starts again."""

    class past(Past):
        def wrote(self, node: Any, write: Any) -> None:
            super().wrote(node, write)
            votes = [each for each in write.records if isinstance(each, Voted)]
            require(node.machine.state.space is Space.OK or not votes, "limits", "a full disk takes", votes)

    def calls(self, node: Node) -> Iterator[tuple[str, tuple[Any, ...]]]:
        yield from super().calls(node)
        if node.machine.state.space is Space.OK:
            yield "storage", (Space.FULL,)


class ManyProposals(Judged):
    """Proposals come until there is a decision, one may wait."""

    class past(Past):
        def replied(self, node: Any, reply: Any) -> None:
            Ledger.replied(self, node, reply)  # a life has more than one proposal here

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.options = replace(self.options, tickets_max=1)

    def calls(self, node: Node) -> Iterator[tuple[str, tuple[Any, ...]]]:
        if node.id in self.values and node.machine.chosen is None:
            yield "propose", (node.id, self.values[node.id])

    def judged(self, node: Node) -> None:
        waiting = node.machine.status().tickets_waiting
        require(waiting <= self.options.tickets_max, "limits", waiting, "proposals wait at node", node.id)


class EmptyValue(SynodSubject):
    """The first proposer proposes no bytes at all."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.values[min(self.values)] = b""


class LastRounds(Judged):
    """Everybody has promised the last round but one."""

    class past(Past):
        def replied(self, node: Any, reply: Any) -> None:
            super().replied(node, reply)
            if node.decided is None:
                s = node.machine.state
                require(round_of(max(s.promised, s.seen)) == ROUND_MAX, "limits", "rounds are left:", reply)

    def formation(self, node: int) -> Iterable[Any]:
        return (*super().formation(node), Promised(make_ballot(ROUND_MAX - 1, min(self.values))))


class RefusedStarts(Judged):
    """At each start after a crash it is also tried to start with what must not start, and with what must."""

    class past(Past):
        def restarted(self, node: Any) -> None:
            super().restarted(node)
            if node.boots > 1:
                node.subject.try_starts(node)

    def try_starts(self, node: Node) -> None:
        """`identity`: other configurations, and logs that contradict themselves."""
        voters, epoch = self.exchangeable, self.configuration.epoch
        ballot = make_ballot(1, min(self.values))
        records = self.formation(node.id)
        for quorums in (flexible.counts(voters, 1, len(voters)), flexible.counts(voters, len(voters), 1)):
            self._refused(node, records, replace(self.configuration, quorums=quorums))
        self._refused(node, records, replace(self.configuration, learners=()))
        for kind in (Voted, Decided):
            self._refused(node, [*records, kind(ballot, ballot, b"a"), kind(ballot, ballot, b"b")], self.configuration)
        self._refused(node, [Formed(epoch ^ 1), *records], self.configuration)
        same = flexible.weights(dict.fromkeys(voters, 2), 3, 3)  # a majority of three
        try:
            self._start(node, records, replace(self.configuration, quorums=same))
        except LocalError as error:
            require(False, "identity", "the same quorums in other words are refused:", error)

    def _refused(self, node: Node, records: Iterable[Any], configuration: Any) -> None:
        try:
            self._start(node, records, configuration)
        except (LocalError, StorageError):
            return
        require(False, "identity", "node", node.id, "starts with", list(records), configuration.quorums)

    def _start(self, node: Node, records: Iterable[Any], configuration: Any) -> None:
        mine, self.configuration = self.configuration, configuration
        try:
            self.recover(node, tuple(records))
        finally:
            self.configuration = mine


class Brisk(Judged):
    """Nobody waits without need, asks in vain, or keeps a decision to itself: `work`."""

    class past(Past):
        def wrote(self, node: Any, write: Any) -> None:
            super().wrote(node, write)
            kinds = {type(message) for _, message in write.then}
            require(Accept not in kinds, "work", "a proposal waits for the disk:", write)
            require(Promise not in kinds or node.machine.chosen is None, "work", "a decided node promises:", write)

        def left(self, node: Any, target: int, message: Any) -> None:
            super().left(node, target, message)
            s = node.machine.state
            if isinstance(message, Prepare) and message.ballot == s.ballot:
                require(not s.promises & s.bits[target], "work", "asked again for a promise:", target)
            if isinstance(message, Accept) and message.ballot == s.ballot and target in s.votes:
                require(s.votes[target].ballot != s.ballot, "work", "asked again for a vote:", target)

    def judged(self, node: Node) -> None:
        s, phase = node.machine.state, self.machine.Phase
        if s.phase is phase.ACCEPTING:
            asked = {to for to, message in node.sent if isinstance(message, Accept) and message.ballot == s.ballot}
            require(asked | {node.id} >= set(s.acceptors), "work", "only", asked, "are asked to vote")
        if s.phase is phase.PREPARING and not node.writes and node.id in s.bits:
            require(bool(s.promises & s.bits[node.id]), "work", "the own promise of", node.id, "does not count")
        if s.chosen is not None and node_of(s.chosen.ballot) == node.id:
            told = {to for to, message in node.sent if isinstance(message, Decide)}
            require(told | {node.id} >= set(s.learners), "work", "only", told, "are told the decision")


# -- what shows where -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Explored:
    """The patch of this name breaks `rule` in a world, after `moves` moves and not before."""

    patch: str
    world: type[SynodSubject]
    bounds: tuple[int, int, int, int]  #: acceptors, values, ballots, crashes
    rule: str
    moves: int
    options: tuple[str, ...] = ()  #: of the subject, set to true

    kind: ClassVar[str] = "S"
    machine: ClassVar[str] = "synod"
    seeds: ClassVar[int] = 0

    @property
    def name(self) -> str:
        """As of the mutants that the simulator finds."""
        return f"synod: {self.patch}"

    @property
    def profile(self) -> str:
        """Where it shows."""
        return f"moves, explored: {self.world.__name__}"

    def subject(self, **more: Any) -> SynodSubject:
        """The world."""
        return self.world(*self.bounds, **dict.fromkeys(self.options, True), **more)

    def explore(self) -> Found:
        """The world of machines with the patch."""
        mutant = next(each for each in (*MUTANTS, *MORE) if each.name == self.patch)
        machine = load("distkit.paxos.synod", mutant, shared=("messages",))
        return search(Cluster(self.subject(machine=machine)), states_max=STATES_MAX)


EXPLORED = (
    Explored("P1b a prepare is promised again after the vote", SynodSubject, (3, 1, 1, 0), "S5", 11),
    Explored("nobody tells the other learners", Brisk, (3, 2, 1, 0), "work", 14),
    Explored("a decided acceptor promises", Brisk, (3, 2, 2, 0), "work", 11, ("together",)),
    Explored("everybody is asked again for a promise", Brisk, (3, 2, 1, 0), "work", 6),
    Explored("everybody is asked again for a vote", Brisk, (3, 2, 1, 0), "work", 12),
    Explored("only those who promised are asked to vote", Brisk, (3, 2, 1, 0), "work", 8),
    Explored("06 accepts wait for the own vote", Brisk, (3, 2, 1, 0), "work", 8),
    Explored("06 a write repeats what waited for the one before", Brisk, (3, 1, 1, 0), "work", 5),
    Explored("06 a completion stands for its own write only", Brisk, (3, 2, 2, 0), "work", 5, ("together",)),
    Explored("06 a promise counts before the ballot is durable", EarlyPromise, (3, 1, 1, 0), "C2", 3),
    Explored("20 a proposal is another one at each ballot", Overtaken, (2, 2, 3, 0), "replies", 25),
    Explored("08 messages of another configuration count", OtherConfiguration, (3, 2, 2, 0), "S4", 8),
    Explored("proposers use the ballots of others", ForeignBallot, (3, 2, 1, 0), "S5", 2),
    Explored("votes for two proposals at a ballot add up", TwoAtOneBallot, (3, 2, 2, 0), "S7", 12, ("learning",)),
    Explored("28 a ballot may jump to the end", FarJump, (3, 1, 1, 0), "limits", 1),
    Explored("28 values of any size are voted for", LongValue, (3, 1, 1, 0), "limits", 1),
    Explored("two proposals at a ballot are both voted for", TwoProposals, (3, 1, 1, 0), "S3", 3),
    Explored("22 the vote that comes last replaces the others", OldVotes, (3, 1, 1, 0), "S1", 2),
    Explored("07 a refusal does not raise the ballot", Refusals, (3, 2, 2, 0), "work", 2),
    Explored("08 a refusal of any ballot counts", Refusals, (3, 2, 2, 0), "work", 2),
    Explored("a full disk takes votes", FullDisk, (3, 1, 1, 0), "limits", 10),
    Explored("21 tickets without end", ManyProposals, (3, 1, 1, 0), "limits", 2),
    Explored("a decision is not written", SynodSubject, (3, 1, 1, 0), "C3", 14),
    Explored("28 an empty decision is not written", EmptyValue, (3, 1, 1, 0), "C3", 14),
    Explored("28 rounds have no end", LastRounds, (3, 1, 2, 1), "errors", 3),
    Explored("28 the last round is not used", LastRounds, (3, 1, 2, 1), "limits", 1),
    Explored("28 what was never proposed is reported as lost", LastRounds, (3, 1, 2, 1), "replies", 3),
    Explored("13 a node starts under another configuration", RefusedStarts, (3, 1, 1, 1), "identity", 1),
    Explored("13 quorums are no part of the configuration", RefusedStarts, (3, 1, 1, 1), "identity", 1),
    Explored("13 a directory may be formed twice", RefusedStarts, (3, 1, 1, 1), "identity", 1),
    Explored("13 how quorums are written is part of the configuration", RefusedStarts, (3, 1, 1, 1), "identity", 1),
    Explored("18 of two votes at a ballot one is forgotten", RefusedStarts, (3, 1, 1, 1), "identity", 1),
    Explored("18 of two decisions one is forgotten", RefusedStarts, (3, 1, 1, 1), "identity", 1),
    Explored("22 votes are expected in order", VotesOnce, (3, 1, 1, 0), "learning", 2, ("learning",)),
    Explored("P2c votes of an earlier attempt are reported for this one", OtherReports, (3, 2, 2, 0), "P2a", 14),
    Explored("the back-off grows without end", RefusedAgain, (3, 2, 2, 0), "work", 4),
)
