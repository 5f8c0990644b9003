"""Judges a run of a synod: the ledger, what disks gave back, and that everybody learns who can."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from distkit.core import Reply, Write
from distkit.paxos.ballot import node_of
from distkit.paxos.synod import Decided, Phase, SynodConfiguration
from distkit.paxos.synod.messages import Accept, LastVote, Nack
from distkit.sim.broken import require
from distkit.sim.synod_ledger import Acceptor, Ledger

if TYPE_CHECKING:
    from distkit.sim.host import Host
    from distkit.sim.world import World

_ACTIVE = (Phase.PREPARING, Phase.ACCEPTING)


class _Node:
    """What the ledger sees of a host."""

    def __init__(self, node: int, made: Callable[..., Any]) -> None:
        self.id = node
        self.boots = 0
        self.machine: Any = None
        self.decided: Decided | None = None
        self.disk: list[Any] = []
        self.flight: list[Any] = []  # records of writes that are not durable yet
        self.host: Any = None
        self._made = made

    def recovered(self, records: Iterable[Any]) -> Any:
        """A machine made of these records."""
        return self._made(self.host, records, 0.0)


class SynodOracle:
    """See the module. `made` makes the machine of a host from records."""

    def __init__(self, world: World, configuration: SynodConfiguration, made: Callable[..., Any]) -> None:
        self.world = world
        self.configuration = configuration
        self.nodes = {member.id: _Node(member.id, made) for member in configuration.members.members}
        self.ledger = Ledger(configuration, frozenset(self.nodes))

    # -- what a host tells --------------------------------------------------------------------------------------------

    def booted(self, host: Host, records: Iterable[Any]) -> None:
        """A node came back: with what it had made durable, and at most some of what was under way besides."""
        node = self.nodes[host.id]
        records = list(records)
        if host.boots > 1:
            self.ledger.crashed(node, self._kept(node, records))
        node.disk, node.flight = records, []
        node.host, node.boots, node.machine, node.decided = host, host.boots, host.guest.machine, None
        self.ledger.restarted(node)
        known = [record for record in records if type(record) is Decided]
        knows = node.machine.chosen is not None
        require(knows == bool(known), "C3", "node", host.id, "recovers decision", node.machine.chosen)
        if host.boots > 1:
            self._mark_return(node)

    def _kept(self, node: _Node, found: list[Any]) -> list[Any]:
        """What of the writes under way reached the disk: some of their records, from the first on."""
        seen = _told(found)
        for count, told in enumerate(_prefixes(node.disk, node.flight)):
            if told == seen:
                if count:
                    self.world.marks["a part of a write survived a crash"] += 1
                if count < len(node.flight):
                    self.world.marks["a part of a write was lost in a crash"] += 1
                return node.flight[:count]
        require(False, "disk", "node", node.id, "came back with", seen, "; durable was", _told(node.disk))
        return []

    def lost_tail(self, host: Host, records: Iterable[Any]) -> bool:
        """Whether a disk that was damaged took the end of the log for torn, though it was durable. Only of what a later
        write or mark has proven can a log tell (`docs/formats.md`): the one thing that damage may take unseen."""
        node, seen = self.nodes[host.id], _told(records)
        if seen in _prefixes(node.disk, node.flight):
            return False
        return seen in _prefixes([], node.disk)

    def crashed(self, host: Host) -> None:
        node = self.nodes[host.id]
        if node.machine is not None and node.machine.status().phase is Phase.ACCEPTING:
            self.world.marks["a proposer died between its proposal and the decision"] += 1
        node.machine = None

    def flushed(self, host: Host, output: Any) -> None:
        node = self.nodes[host.id]
        self.ledger.stepped(node)
        for write in output.writes:
            self.ledger.wrote(node, write)
            node.flight += write.records

    def seen(self, host: Host) -> None:
        self.ledger.stepped(self.nodes[host.id])

    def left(self, host: Host, target: int, message: Any, held: bool) -> None:
        self.ledger.left(self.nodes[host.id], target, message)
        if type(message) is Nack:
            self.world.marks["a proposer was refused"] += 1
        elif type(message) is Accept and message.origin != message.ballot:
            self.world.marks["a proposer proposed what it found among the promises"] += 1
        elif type(message) is LastVote:
            self.world.marks["a learner was told a vote"] += 1

    def durable(self, host: Host, done: Iterable[Write]) -> None:
        node, before = self.nodes[host.id], self.ledger.chosen
        for write in done:
            node.disk += write.records
            del node.flight[: len(write.records)]
            self.ledger.completed(node, write)
        chosen = self.ledger.chosen
        if chosen is not None and before is None:
            proposer = node_of(self.ledger.disk[node.id].newest)
            if not self.world.hosts[proposer].up:
                self.world.marks["a value was chosen after its proposer had died"] += 1

    def told(self, host: Host, decided: Decided) -> None:
        """The decision is delivered: once in a life, and with a write of it, so that the next life knows it too."""
        node = self.nodes[host.id]
        known = any(type(each) is Decided for each in (*node.disk, *node.flight))
        require(known, "C3", "node", host.id, "does not write", decided)
        require(node.decided is None, "S7", "node", host.id, "delivers twice:", node.decided, decided)
        node.decided = decided
        self.ledger.told(node, decided)

    def replied(self, host: Host, reply: Reply) -> None:
        """A ticket ends."""
        self.ledger.replied(self.nodes[host.id], reply)

    def _mark_return(self, node: _Node) -> None:
        marks, status = self.world.marks, node.machine.status()
        if status.chosen is not None:
            marks["a node came back and knew the decision"] += 1
        elif status.vote.ballot:
            marks["an acceptor came back with its vote"] += 1
        elif status.promised:
            marks["an acceptor came back with its promise alone"] += 1

    # -- the end ------------------------------------------------------------------------------------------------------

    def leader(self) -> int:
        """The proposer of the highest ballot under way, 0: none."""
        ballots = [
            (status.ballot, node.id)
            for node, status in ((node, node.machine.status()) for node in self._up())
            if status.phase in _ACTIVE
        ]
        return max(ballots, default=(0, 0))[1]

    def led(self, host: Host) -> bool:
        """Whether the node is proposing, as far as it knows."""
        node = self.nodes[host.id]
        return node.machine is not None and node.machine.status().phase is Phase.ACCEPTING

    def answers(self, proposer: int) -> bool:
        """Whether a proposal at this node must be answered: both quorums are left. Damage and wiped disks may take more
        acceptors than a quorum system can do without."""
        up = {node.id for node in self._up()}
        quorums = self.configuration.quorums
        mask = quorums.mask([acceptor for acceptor in quorums.members if acceptor in up])
        return proposer in up and quorums.phase1(mask) and quorums.phase2(mask)

    def settled(self) -> str:
        """What is missing after everything healed: learners that could know, and answers that could be given."""
        up = list(self._up())
        known = any(node.machine.chosen is not None for node in up)
        for node in up:
            if known and node.id in self.configuration.learners and node.machine.chosen is None:
                return f"learner {node.id} does not know the decision"
            if node.machine.chosen is not None and node.decided is None:
                return f"node {node.id} knows the decision, and did not deliver it"
            waiting = len(self.world.hosts[node.id].guest.tickets)
            if waiting and self.answers(node.id):
                return f"node {node.id} owes answers to {waiting} proposals"
        return ""

    def finish(self) -> None:
        """Nothing shows only at the end."""

    def _up(self) -> Iterator[_Node]:
        return (node for node in self.nodes.values() if node.machine is not None)


def _told(records: Iterable[Any]) -> tuple[Any, ...]:
    """What records say: the simplest possible reading."""
    return next(iter(_prefixes(list(records), [])))


def _prefixes(records: list[Any], more: list[Any]) -> Iterator[tuple[Any, ...]]:
    """What the records say, then what they and ever more of the others say."""
    state, decided = Acceptor(), False
    for count, record in enumerate([*records, *more]):
        if count >= len(records):
            yield state.promised, dict(state.votes), decided
        state.replay(record)
        decided = decided or type(record) is Decided
    yield state.promised, dict(state.votes), decided
