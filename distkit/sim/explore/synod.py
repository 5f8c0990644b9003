"""Single-decree Paxos for the explorer: some acceptors, and for each value a proposer that proposes it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping
from random import Random
from types import ModuleType
from typing import Any, Final

from distkit.core import Configuration, LocalError, Member, Outcome, Reply, Write
from distkit.paxos import synod as real
from distkit.paxos.ballot import round_of, show_ballot
from distkit.paxos.synod.messages import Accept, Decide, Decided, Promised, Voted
from distkit.quorum import flexible
from distkit.sim.broken import require
from distkit.sim.explore.freezing import Freezer
from distkit.sim.explore.node import ARMED, Node
from distkit.sim.synod_ledger import Acceptor, Ledger, Pair, View

_TIMERS: Final = ("propose_deadline", "learn_deadline")
#: Of machine, ledger and node: what nobody changes, and what nobody decides by.
_SHARED: Final = frozenset(
    (
        *(
            "id",
            "subject",
            "node",
            "incarnation",
            "configuration",
            "options",
            "random",
            "trace",
            "quorums",
            "acceptors",
        ),
        *("bits", "proposers", "learners", "incarnations", "epoch", "counters", "members", "alone", "proposed", "seen"),
    )
)
_INCARNATION: Final = 1


class Fixed(Random):
    """Chance that decides nothing: all that is drawn is how long to back off, and any timer may fire at any time."""

    def random(self) -> float:
        """One half."""
        return 0.5


class Past(Ledger):
    """The past of one node, whose lives propose once each."""

    def replied(self, node: View, reply: Reply) -> None:
        """As always. And a proposal is new at the ballots of its life: it won if it was decided under one of those, and
        what became of it is unknown only if it was proposed at one."""
        super().replied(node, reply)
        if not self.alone:
            return  # whoever tells nobody else of its ballots leaves no trace of them
        mine = {ballot for ballot, life in self.prepared.items() if life == (node.id, node.boots)}
        if node.decided is None:
            proposed = any(origin in mine for origin, _ in self.accepts.values())
            require((reply.outcome is Outcome.LOST) == proposed, "replies", reply, "though proposed:", proposed)
        else:
            won = node.decided.origin in mine
            require((reply.outcome is Outcome.COMMITTED) == won, "replies", reply, "of", node.decided)


class SynodSubject:
    """Nodes 1 to `acceptors` accept. With `together` the first of them propose too, else the proposers are nodes of
    their own. A proposer proposes its value once in each life. `ballots` bounds the attempts of all proposers together.
    With `learning` proposers ask for what was chosen, too."""

    writes = 9  # never so many: each kind of record only rises
    moments: tuple[float, ...] = (0.0,)

    def __init__(
        self,
        acceptors: int = 3,
        values: int = 2,
        ballots: int = 2,
        crashes: int = 1,
        *,
        together: bool = False,
        learning: bool = False,
        quorums: flexible.QuorumSystem | None = None,
        machine: ModuleType = real,
    ) -> None:
        if together and values > acceptors:
            raise LocalError(f"{values} values need as many proposers, and there are only {acceptors} acceptors")
        voters = tuple(range(1, acceptors + 1))
        first = 1 if together else acceptors + 1
        proposers = tuple(range(first, first + values))
        self.nodes = tuple(sorted({*voters, *proposers}))
        self.exchangeable = () if together or quorums is not None else voters
        self.crashes = crashes
        self.attempts = ballots
        self.values = {node: b"%c" % (ord("a") + number) for number, node in enumerate(proposers)}
        self.freezer = Freezer(_SHARED)
        self.machine = machine
        self.options = machine.SynodOptions(learn_interval=1.0 if learning else math.inf)
        members = tuple(Member(node, _INCARNATION, f"127.0.0.1:{7100 + node}") for node in self.nodes)
        self.configuration = machine.SynodConfiguration(
            Configuration(1, members), quorums or flexible.majority(voters), proposers, proposers
        )

    # -- lives --------------------------------------------------------------------------------------------------------

    def formation(self, node: int) -> Iterable[Any]:
        """It is formed."""
        records: Iterable[Any] = self.machine.formation_records(self.configuration)
        return records

    def recover(self, node: Node, records: tuple[Any, ...]) -> Any:
        """The machine that the records amount to."""
        return self.machine.recover(
            records,
            node=node.id,
            incarnation=_INCARNATION,
            configuration=self.configuration,
            random=Fixed(),
            now=0.0,
            options=self.options,
        )

    def compacted(self, records: list[Any]) -> list[Any]:
        """Every vote, and the highest promise: their order says nothing (`synod.durable.fold`), and the ledger of the
        past needs old votes."""
        said = Acceptor()
        for each in records:
            said.replay(each)
        votes = sorted({each for each in records if isinstance(each, Voted)}, key=lambda vote: vote.ballot)
        rest = [each for each in dict.fromkeys(records) if not isinstance(each, Promised | Voted)]
        return [*rest, *votes, *([Promised(said.promised)] if said.promised > said.newest else [])]

    def ledger(self, node: int) -> Ledger:
        """The ledger of one node: its peers are unknown to it."""
        ledger = Past(self.configuration, frozenset((node,)))
        ledger.proposed = dict(self.values)
        return ledger

    def delivered(self, node: Node, delivered: Any) -> None:
        """A decision."""
        require(node.decided is None, "contract", "node", node.id, "delivers twice:", delivered)
        known = [*node.disk, *(each for write in node.writes for each in write.records)]
        require(any(isinstance(each, Decided) for each in known), "C3", "node", node.id, "does not write", delivered)
        node.decided = delivered
        node.ledger.told(node, delivered)

    def carries(self, message: Any) -> bool:
        """All."""
        return True

    def settle(self, node: Node) -> None:
        """Writes under way are numbered from 1; a timer is armed or not, whenever it is due."""
        s = node.machine.state
        s.now = 0.0
        s.refusals = 0
        for timer in _TIMERS:
            if getattr(s, timer) != math.inf:
                setattr(s, timer, ARMED)
        waiting = len(s.outstanding)
        require(
            waiting == len(node.writes), "contract", "node", node.id, "waits for", waiting, "writes of", node.writes
        )
        for place in reversed(range(1, len(node.writes))):
            if not node.writes[place].records:
                self._merge(node, place)
        ledger = node.ledger
        known = [ledger.writes[node.id, node.boots, each.token] for each in node.writes]
        ledger.writes = {(node.id, 1, number): each for number, each in enumerate(known, 1)}
        for place, (_, promised, own) in enumerate(s.outstanding):
            s.outstanding[place] = (place + 1, promised, list(dict.fromkeys(own)))  # heard twice at once is heard once
        node.writes = [_write(number, each, each.then) for number, each in enumerate(node.writes, 1)]
        s.token = len(node.writes)
        ledger.replies.clear()
        ledger.accepts = {each.ballot: (each.origin, each.value) for _, each in node.sent if isinstance(each, Accept)}
        # Lives are told apart by the ballots that were prepared in them, and by nothing else.
        early = {ballot: (node.id, 0) for ballot, (_, life) in ledger.prepared.items() if life != node.boots}
        ledger.prepared = early | dict.fromkeys(ledger.prepared.keys() - early.keys(), (node.id, 1))
        node.boots = 1

    def _merge(self, node: Node, place: int) -> None:
        """A write without records completes with the one before it, so they may be one; else every repeated message
        would make another state."""
        s, writes = node.machine.state, node.writes
        first, second = writes[place - 1], writes.pop(place)
        writes[place - 1] = _write(second.token, first, first.then + second.then)
        (_, _, own), (token, promised, more) = s.outstanding[place - 1], s.outstanding[place]
        del s.outstanding[place]
        s.outstanding[place - 1] = (token, promised, own + more)

    # -- moves --------------------------------------------------------------------------------------------------------

    def timers(self, node: Node) -> Iterator[str]:
        """Those that are armed."""
        for timer in _TIMERS:
            if getattr(node.machine.state, timer) != math.inf:
                yield timer

    def calls(self, node: Node) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Propose, unless that was done in this life."""
        value = self.values.get(node.id)
        if value is not None and node.machine.state.phase == 0 and node.machine.chosen is None:
            yield "propose", (node.id, value)

    def begun(self, before: Node, after: Node) -> int:
        """A new ballot is an attempt."""
        old, new = before.machine.state.ballot, after.machine.state.ballot
        return int(new != old and new != 0)

    # -- rules of all nodes together ----------------------------------------------------------------------------------

    def view(self, node: Node) -> Hashable:
        """Promise and votes on the disk, votes in memory, what it proposed, and what it takes for chosen."""
        disk, memory = node.ledger.disk[node.id], node.ledger.memory[node.id]
        proposed = {(each.ballot, (each.origin, each.value)) for _, each in node.sent if isinstance(each, Accept)}
        known = {(each.origin, each.value) for _, each in node.sent if isinstance(each, Decide)}
        chosen = node.machine.chosen
        if chosen is not None:
            known.add((chosen.origin, chosen.value))
        votes = frozenset(memory.votes.items()) - frozenset(disk.votes.items())
        return disk.promised, frozenset(disk.votes.items()), votes | proposed, frozenset(known)

    def judge(self, views: Mapping[int, Any]) -> None:
        """S3, S4, S6, S7 and C2, by the ledger of all."""
        ledger = Ledger(self.configuration, frozenset(self.nodes))
        ledger.proposed = dict(self.values)
        proposals: set[tuple[int, Pair]] = set()
        known: set[tuple[int, Pair]] = set()
        for node, (promised, votes, more, takes) in views.items():
            ledger.disk[node] = Acceptor(promised, dict(votes))
            proposals |= votes | more
            known |= {(node, pair) for pair in takes}
        ledger.judge(sorted(proposals), sorted(known))

    # -- names --------------------------------------------------------------------------------------------------------

    def renamed(self, node: Node, names: Mapping[int, int]) -> None:
        """A proposer counts promises and votes by acceptor, and speaks to acceptors by name."""
        s = node.machine.state
        promises = 0
        for old, new in names.items():
            if s.promises & s.bits[old]:
                promises |= s.bits[new]
        s.promises = promises
        s.votes = {names[acceptor]: vote for acceptor, vote in s.votes.items()}
        node.sent = {(names.get(target, target), message) for target, message in node.sent}
        node.writes = [
            _write(each.token, each, tuple([(names.get(target, target), message) for target, message in each.then]))
            for each in node.writes
        ]

    def shown(self, message: Any) -> str:
        """Its kind, its ballots as round.node, and its value."""
        words = [type(message).__name__]
        for name in ("ballot", "promised", "voted", "value"):
            found = getattr(message, name, None)
            if found:
                prefix = "" if name in ("ballot", "value") else f"{name} "
                words.append(prefix + (found.decode() if name == "value" else show_ballot(found)))
        return " ".join(words)

    def role(self, node: Node) -> tuple[str, int]:
        """The phase, and the round."""
        status = node.machine.status()
        return status.phase.name.lower().replace("_", " ") if status.phase else "follower", round_of(status.ballot)

    def told(self, node: Node) -> str:
        """Promise, vote, phase."""
        status = node.machine.status()
        text = f"promised {show_ballot(status.promised)}"
        if status.vote.ballot:
            text += f", voted {show_ballot(status.vote.ballot)} {status.vote.value.decode()}"
        if status.phase:
            text += f", {status.phase.name.lower().replace('_', ' ')} {show_ballot(status.ballot)}"
        if status.chosen is not None:
            text += f", knows {status.chosen.value.decode()}"
        return text


def _write(token: int, write: Write, then: Iterable[tuple[int, Any]]) -> Write:
    """The write with another number, and messages in an order that says nothing: they may overtake each other."""
    return Write(token, write.records, tuple(sorted(dict.fromkeys(then), key=repr)))
