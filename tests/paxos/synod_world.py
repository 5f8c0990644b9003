"""A small deterministic world for synod machines: virtual time, a pool of letters, disks that keep what was synced.

Nothing happens by itself. A test delivers, drops or repeats letters, makes writes durable, crashes and restarts nodes
and lets time pass; `settle` and `elapse` do all that is possible without faults. After every step of every machine the
`Ledger` checks the invariants.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from math import inf
from random import Random
from types import ModuleType
from typing import Any, NamedTuple

from distkit.core import Configuration, DistkitError, Member, Outcome, Reply, Write
from distkit.paxos.synod.messages import Accept, Accepted, Decide, Decided, LastVote, Learn, Nack, Prepare, Promise
from distkit.quorum import flexible
from distkit.sim.broken import Broken, require
from distkit.sim.synod_ledger import Ledger

ROUNDS_MAX = 1000


class Letter(NamedTuple):
    """A message on its way."""

    source: int
    target: int
    message: Any


def incarnation(node: int) -> int:
    return 1000 + node


def configuration(size: int) -> Configuration:
    return Configuration(
        1, tuple(Member(node, incarnation(node), f"127.0.0.1:{7100 + node}") for node in range(1, size + 1))
    )


class Node:
    """One machine, its disk, and the host that carries between them."""

    def __init__(self, world: World, node: int, records: Sequence[Any]) -> None:
        self.world = world
        self.id = node
        self.disk = list(records)
        self.boots = 0
        self.restart()

    def restart(self) -> None:
        """Start again from what is durable."""
        self.boots += 1
        self.up = True
        self.dirty = True
        self.writes: deque[Write] = deque()
        self.decided: Decided | None = None
        self.machine = self.recovered(self.disk)
        self.world.ledger.restarted(self)

    def recovered(self, records: Iterable[Any]) -> Any:
        """A machine made of these records."""
        world = self.world
        try:
            return world.synod.recover(
                tuple(records),
                node=self.id,
                incarnation=incarnation(self.id),
                configuration=world.configuration,
                options=world.options,
                random=Random(f"{world.seed} {self.id} {self.boots}"),
                now=world.now,
            )
        except DistkitError as error:
            raise Broken("errors", f"node {self.id} can't start: {error!r}") from error

    def crash(self, keep: int = 0) -> None:
        """Lose everything that is not durable; `keep` records in flight reached the disk."""
        records = [record for write in self.writes for record in write.records]
        self.disk += records[:keep]
        self.up = False
        self.world.ledger.crashed(self, records[:keep])

    def call(self, door: str, *arguments: Any) -> Any:
        """Use a door of the machine. An error that the project raises on purpose is a broken machine here."""
        self.dirty = True
        try:
            result = getattr(self.machine, door)(self.world.now, *arguments)
        except DistkitError as error:
            raise Broken("errors", f"{door}{arguments} raised {error!r}") from error
        self.world.ledger.stepped(self)
        return result

    def flush(self) -> None:
        """Take what the machine has caused: send, queue the write, note decision and replies."""
        if not self.up or not self.dirty:
            return
        output = self.call("flush")
        self.dirty = False
        if output is None:
            return
        world = self.world
        if world.recording:
            world.transcript.append((self.id, output))
        require(len(output.writes) <= 1, "contract", "two writes in one flush")
        for write in output.writes:
            world.ledger.wrote(self, write)
            self.writes.append(write)
        for decided in output.delivers:
            require(self.decided is None, "contract", "node", self.id, "delivers twice:", decided)
            self.decided = decided
            world.ledger.told(self, decided)
        for reply in output.replies:
            world.ledger.replied(self, reply)
        for target, message in output.sends:
            world.post(self, target, message)

    def persist(self, count: int | None = None, *, report: bool = True) -> None:
        """Make the oldest `count` writes (default: all) durable. `report`: each on its own, else only the last one."""
        for left in reversed(range(len(self.writes) if count is None else count)):
            write = self.writes.popleft()
            self.disk += write.records
            self.world.ledger.completed(self, write)
            for target, message in write.then:
                self.world.post(self, target, message)
            if report or left == 0:
                self.call("persisted", write.token)
        self.flush()


class World:
    """Nodes 1 to `size`, of which `real` exist. Everybody has every role, unless it is said otherwise."""

    def __init__(
        self,
        synod: ModuleType,
        size: int = 3,
        *,
        quorums: flexible.QuorumSystem | None = None,
        proposers: Sequence[int] | None = None,
        learners: Sequence[int] | None = None,
        real: Iterable[int] | None = None,
        records: dict[int, Sequence[Any]] | None = None,
        seed: int = 0,
        recording: bool = False,
        host: type[Node] = Node,
        **options: Any,
    ) -> None:
        everybody = tuple(range(1, size + 1))
        self.synod = synod
        self.seed = seed
        self.now = 100.0
        self.options = synod.SynodOptions(**options)
        self.configuration = synod.SynodConfiguration(
            configuration(size),
            quorums or flexible.majority(everybody),
            everybody if proposers is None else tuple(proposers),
            everybody if learners is None else tuple(learners),
        )
        self.epoch = self.configuration.epoch
        self.pool: list[Letter] = []
        self.cuts: set[tuple[int, int]] = set()
        self.tickets = 0
        self.recording = recording
        self.transcript: list[Any] = []
        self.nodes: dict[int, Node] = {}
        self.ledger = Ledger(self.configuration, frozenset(real or everybody))
        first = list(synod.formation_records(self.configuration))
        for node in real or everybody:
            self.nodes[node] = host(self, node, first + list((records or {}).get(node, ())))
        for node in self.nodes.values():
            node.flush()

    # -- letters ------------------------------------------------------------------------------------------------------

    def post(self, node: Node, target: int, message: Any) -> None:
        """A message leaves a node."""
        self.ledger.left(node, target, message)
        self.pool.append(Letter(node.id, target, message))

    def letters(self, kind: type | None = None, source: int = 0, target: int = 0) -> list[Letter]:
        """The letters in the pool, oldest first, optionally only of one kind, from one node, to one node."""
        return [
            letter
            for letter in self.pool
            if (kind is None or isinstance(letter.message, kind))
            and source in (0, letter.source)
            and target in (0, letter.target)
        ]

    def take(self, kind: type | None = None, source: int = 0, target: int = 0) -> list[Letter]:
        """Remove letters from the pool: they are lost, or the test carries them."""
        taken = self.letters(kind, source, target)
        for letter in taken:
            self.pool.remove(letter)
        return taken

    def hand(self, letter: Letter, *, flush: bool = True) -> None:
        """Deliver one letter now, whether it is in the pool or not, as often as wanted."""
        source, target, message = letter
        node = self.nodes.get(target)
        if node is not None and node.up and (source, target) not in self.cuts:
            node.call("receive", source, message)
            if flush:
                node.flush()

    def deliver(self, kind: type | None = None, source: int = 0, target: int = 0) -> int:
        """Deliver the letters that are in the pool now, in order; what they cause stays in the pool."""
        taken = self.take(kind, source, target)
        for letter in taken:
            self.hand(letter)
        return len(taken)

    def carry(self, kind: type, source: int = 0, target: int = 0) -> int:
        """Deliver letters of one kind, and make durable what they cause."""
        count = self.deliver(kind, source, target)
        for node in self.nodes.values():
            if node.up:
                self.run(node.id)
        return count

    def cut(self, *pairs: tuple[int, int]) -> None:
        """Letters between these nodes are lost, both ways."""
        self.cuts.update(pairs, [(b, a) for a, b in pairs])

    def isolate(self, node: int) -> None:
        self.cut(*[(node, other) for other in self.ledger.members if other != node])

    def heal(self) -> None:
        self.cuts.clear()

    # -- messages of this synod, as a node that a test plays would send them ------------------------------------------

    def prepare(self, ballot: int) -> Prepare:
        return Prepare(self.epoch, incarnation(ballot & 0x7FFFFFFF), ballot)

    def promise(self, node: int, ballot: int, voted: int = 0, origin: int = 0, value: bytes = b"") -> Promise:
        return Promise(self.epoch, incarnation(node), ballot, voted, origin or voted, value)

    def accept(self, ballot: int, value: bytes, origin: int = 0) -> Accept:
        return Accept(self.epoch, incarnation(ballot & 0x7FFFFFFF), ballot, origin or ballot, value)

    def accepted(self, node: int, ballot: int) -> Accepted:
        return Accepted(self.epoch, incarnation(node), ballot)

    def last_vote(self, node: int, ballot: int, value: bytes, origin: int = 0) -> LastVote:
        return LastVote(self.epoch, incarnation(node), ballot, origin or ballot, value)

    def nack(self, node: int, ballot: int, promised: int) -> Nack:
        return Nack(self.epoch, incarnation(node), ballot, promised)

    def learn(self, node: int) -> Learn:
        return Learn(self.epoch, incarnation(node))

    def decide(self, node: int, ballot: int, value: bytes, origin: int = 0) -> Decide:
        return Decide(self.epoch, incarnation(node), ballot, origin or ballot, value)

    # -- faults -------------------------------------------------------------------------------------------------------

    def crash(self, *nodes: int, keep: int = 0) -> None:
        for node in nodes:
            self.nodes[node].crash(keep)

    def restart(self, *nodes: int) -> None:
        for node in nodes:
            self.nodes[node].restart()
            self.nodes[node].flush()

    # -- progress -----------------------------------------------------------------------------------------------------

    def run(self, node: int) -> None:
        """Flush and persist one node until it has nothing more to say."""
        self.nodes[node].flush()
        while self.nodes[node].writes:
            self.nodes[node].persist()

    def settle(self) -> None:
        """Deliver and persist everything until nothing moves; no time passes."""
        for _ in range(ROUNDS_MAX):
            for node in self.nodes.values():
                if node.up:
                    self.run(node.id)
            if not self.deliver():
                return
        raise Broken("progress", f"no end of messages: {self.pool[:5]}")

    def elapse(self, seconds: float) -> None:
        """Let time pass with ticks in time, settling after each."""
        end = self.now + seconds
        while True:
            self.settle()
            up = [node for node in self.nodes.values() if node.up]
            due = min([node.machine.deadline() for node in up], default=inf)
            if due > end:
                break
            self.now = max(self.now, due)
            self.tick(*[node.id for node in up if node.machine.deadline() <= self.now])
        self.now = end

    def tick(self, *nodes: int) -> None:
        for node in nodes:
            self.nodes[node].call("tick")
            require(
                self.nodes[node].machine.deadline() > self.now, "progress", "a tick leaves its deadline in the past"
            )
            self.nodes[node].flush()

    def wait(self, node: int) -> None:
        """Let time pass until this node has something to do, and let it do it; nobody else ticks."""
        self.now = max(self.now, self.nodes[node].machine.deadline())
        self.tick(node)

    # -- verbs --------------------------------------------------------------------------------------------------------

    def propose(self, node: int, value: bytes, *, flush: bool = True) -> int:
        self.tickets += 1
        self.ledger.proposed[self.tickets] = value
        self.nodes[node].call("propose", self.tickets, value)
        if flush:
            self.nodes[node].flush()
        return self.tickets

    def reply(self, ticket: int) -> Reply | None:
        return self.ledger.replies.get(ticket)

    def outcome(self, ticket: int) -> Outcome | None:
        reply = self.reply(ticket)
        return None if reply is None else reply.outcome

    def values(self) -> list[bytes | None]:
        """What each real node knows to be chosen."""
        return [node.machine.chosen and node.machine.chosen.value for node in self.nodes.values()]


class Lone(World):
    """Node 1 with a given past; its peers are played by the test, which answers for them."""

    def __init__(self, synod: ModuleType, size: int = 3, *, past: Sequence[Any] = (), **options: Any) -> None:
        super().__init__(synod, size, real=[1], records={1: past}, **options)
        self.host = self.nodes[1]
        self.run(1)
        self.take()

    @property
    def machine(self) -> Any:
        return self.host.machine

    def counted(self, what: str) -> int:
        return int(self.machine.status().counters.get(what, 0))

    def receive(self, source: int, message: Any) -> list[Any]:
        """Hand node 1 a message and return what it answers to the sender once everything is durable."""
        self.hand(Letter(source, 1, message))
        self.run(1)
        return [letter.message for letter in self.take(target=source)]

    def sent(self, kind: type | None = None, target: int = 0) -> list[Any]:
        """What node 1 has sent since, of one kind, to one peer."""
        self.run(1)
        return [letter.message for letter in self.take(kind, target=target)]

    def ballot(self) -> int:
        """The ballot that node 1 has under way."""
        return int(self.machine.status().ballot)

    def promised_by(self, *peers: int) -> None:
        """Peers promise the ballot under way, without votes; what node 1 says then stays in the pool."""
        for peer in peers:
            self.hand(Letter(peer, 1, self.promise(peer, self.ballot())))
            self.run(1)
