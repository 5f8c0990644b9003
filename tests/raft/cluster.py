"""A small deterministic world for Raft machines: virtual time, a pool of letters, disks that keep what was synced.

Nothing happens by itself. A test delivers, drops or repeats letters, makes writes durable, crashes and restarts nodes
and lets time pass; `settle` and `elapse` do all that is possible without faults. After every flush of every machine
the `TicketLedger` checks the invariants.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from math import inf
from random import Random
from types import ModuleType
from typing import Any, NamedTuple

from tickets import TicketLedger

from distkit._fast.codec import block_info, encode_block
from distkit.core import (
    Configuration,
    DistkitError,
    Member,
    Outcome,
    Reply,
    Restore,
    Role,
    RoleName,
    Span,
    Write,
)
from distkit.raft.messages import (
    Entries,
    InstallSnapshot,
    Snapshot,
)
from distkit.sim import broken
from distkit.sim.broken import Broken
from distkit.sim.raft_ledger import Stored, entries_of

EPOCH_US = 1_700_000_000_000_000
#: Time of the blocks that a test makes itself; later than those of the nodes, because times never fall.
PEERS_US = EPOCH_US + 10**10
ROUNDS_MAX = 1000


def require(holds: bool, *explanation: object) -> None:
    """Raise Broken unless what a test world takes for granted holds."""
    broken.require(holds, "group", *explanation)


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


def block(first: int, term: int, *payloads: bytes, kinds: bytes | None = None, time_us: int = PEERS_US) -> bytes:
    """Commands (or entries of other kinds) from index `first` on."""
    return encode_block(term, first, time_us, kinds or b"\1" * len(payloads), list(payloads))


def blocks(first: int, terms: Iterable[int]) -> tuple[bytes, ...]:
    """One block for each entry: the entry of index i and term t is always the same, as log matching demands."""
    return tuple(block(index, term, b"%d/%d" % (index, term)) for index, term in enumerate(terms, first))


class Node:
    """One machine, its disk, its application and the host that carries between them."""

    def __init__(self, world: Cluster, node: int, records: Sequence[Any]) -> None:
        self.world = world
        self.id = node
        self.disk = list(records)
        self.boots = 0
        self.snapshots: dict[int, Snapshot] = {}
        self.applies = True
        self.restart()

    def restart(self) -> None:
        """Start again from what is durable."""
        world = self.world
        self.durable, self.accepted = Stored(), Stored()
        for record in self.disk:
            self.durable.replay(record)
            self.accepted.replay(record)
        self.boots += 1
        self.up = True
        self.dirty = False
        self.writes: deque[Write] = deque()
        self.spans: deque[Span] = deque()
        self.role = Role(RoleName.FOLLOWER, self.durable.term, 0, False)
        self.roles: list[Role] = []
        self.delivered: list[Any] = []
        self.term_seen, self.commit_seen = self.durable.term, 0
        try:
            self.machine = world.raft.recover(
                tuple(self.disk),
                node=self.id,
                incarnation=incarnation(self.id),
                options=world.options,
                random=Random(f"{world.seed} {self.id} {self.boots}"),
                now=world.now,
            )
        except DistkitError as error:
            raise Broken("start", f"node {self.id}: {error!r}") from error
        require(self.machine.last_index == self.durable.last, "recovered a log up to", self.machine.last_index)
        require(self.machine.term == self.durable.term, "recovered term", self.machine.term)
        self.state = list(world.states[self.machine.snapshot.index])
        self.span_end = self.machine.snapshot.index
        self.call("wall", EPOCH_US + int(world.now * 1e6))

    def crash(self, keep: int = 0) -> None:
        """Lose everything that is not durable; `keep` records in flight reached the disk."""
        records = [record for write in self.writes for record in write.records]
        self.disk += records[:keep]
        self.up = False
        self.durable = Stored()
        for record in self.disk:
            self.durable.replay(record)

    def call(self, door: str, *arguments: Any, **options: Any) -> Any:
        """Use a door of the machine. An error that the project raises on purpose is a broken machine here."""
        self.dirty = True
        due = self.machine.deadline()
        try:
            result = getattr(self.machine, door)(self.world.now, *arguments, **options)
        except DistkitError as error:
            raise Broken("errors", f"{door}{arguments} raised {error!r}") from error
        require(self.machine.touched or door == "flush" or self.machine.deadline() >= due, door, "moved the deadline")
        return result

    def flush(self) -> None:
        """Take what the machine has caused: send, queue the write, apply, note the replies."""
        while self.up and self.dirty:
            self.dirty = False
            output = self.call("flush")
            if output is None:  # a flush that was spared would have given nothing either
                self.machine.state.touched = True
                require(self.call("flush") is None, "an input that did not touch the machine had an effect")
            self.dirty = False
            ledger = self.world.ledger
            if output is None:
                ledger.state(self)
                return
            if self.world.recording:
                self.world.transcript.append((self.id, output))
            require(len(output.writes) <= 1, "two writes in one flush")
            for write in output.writes:
                ledger.wrote(self, write)
                self.writes.append(write)
            ledger.state(self)
            for target, message in output.sends:
                ledger.left(self, target, message, held=False)
                self.world.post(self.id, target, message)
            for item in output.delivers:
                self._take(item)
            for reply in output.replies:
                ledger.replied(reply)
            if self.applies:
                self.apply()

    def _take(self, item: Span | Restore | Role) -> None:
        self.delivered.append(item)
        if isinstance(item, Role):
            self.role = item
            self.roles.append(item)
        elif isinstance(item, Span):
            machine = self.machine
            require(item.lo == self.span_end and item.lo < item.hi, "span", item, "after", self.span_end)
            require(item.hi <= min(machine.commit_index, machine.flushed_index), "span", item, "is not durable")
            self.span_end = item.hi
            self.spans.append(item)
        else:
            snapshot = item.snapshot
            require(self.durable.snapshot_index >= snapshot.index, "restored before its mark is durable:", snapshot)
            self.state = list(self.world.states[snapshot.index])
            self.spans.clear()
            self.span_end = snapshot.index
            self.call("applied", snapshot.index)

    def apply(self) -> None:
        """Apply all that was delivered, unless a snapshot that is about to be durable has taken its place."""
        while self.spans and self.machine.window.base_index <= len(self.state):
            span = self.spans.popleft()
            for index, term, _, kind, payload in self.machine.window.entries(span.lo + 1, span.hi, 1 << 30):
                self.world.ledger.applied(index, term, kind, payload)
                require(len(self.state) + 1 == index, "applied", index, "after", len(self.state))
                self.state.append((index, term, kind, payload))
            self.call("applied", span.hi)

    def persist(self, count: int | None = None, *, report: bool = True) -> None:
        """Make the oldest `count` writes (default: all) durable. `report`: each on its own, else only the last one."""
        for left in reversed(range(len(self.writes) if count is None else count)):
            write = self.writes.popleft()
            for record in write.records:
                self.durable.replay(record)
                self.disk.append(record)
            for target, message in write.then:
                self.world.ledger.left(self, target, message, held=True)
                self.world.post(self.id, target, message)
            if report or left == 0:
                self.call("persisted", write.token)
        self.flush()

    @property
    def leads(self) -> bool:
        return self.up and self.machine.role is RoleName.LEADER

    @property
    def log(self) -> list[int]:
        """Terms of the entries from index 1 on (or behind the snapshot), as the machine holds them."""
        window = self.machine.window
        return [window.term(index) for index in range(window.base_index + 1, window.last + 1)]

    @property
    def commands(self) -> list[bytes]:
        """What the application has applied, without empty entries."""
        return [payload for _, _, kind, payload in self.state if kind]


class Cluster:
    """Nodes 1 to `size`, of which `real` exist; their first durable records may be given."""

    def __init__(
        self,
        raft: ModuleType,
        size: int = 3,
        *,
        real: Iterable[int] | None = None,
        records: dict[int, Sequence[Any]] | None = None,
        seed: int = 0,
        recording: bool = False,
        **options: Any,
    ) -> None:
        self.raft = raft
        self.seed = seed
        self.now = 100.0
        self.options = raft.RaftOptions(**options)
        self.configuration = configuration(size)
        self.pool: list[Letter] = []
        self.cuts: set[tuple[int, int]] = set()
        self.tickets = 0
        self.reports_snapshots = True
        self.states: dict[int, list[tuple[int, int, int, bytes]]] = {0: []}
        self.recording = recording
        self.transcript: list[Any] = []
        self.nodes: dict[int, Node] = {}
        self.ledger = TicketLedger(self.nodes, size)
        first = list(raft.formation_records(self.configuration))
        for node in real or range(1, size + 1):
            self.nodes[node] = Node(self, node, first + list((records or {}).get(node, ())))
        self._know_what_is_stored()
        for node in self.nodes.values():
            for peer in self.nodes:
                if peer != node.id:
                    node.call("connected", peer)
            node.flush()

    def _know_what_is_stored(self) -> None:
        """Entries and commits that nodes start with are history for the ledger."""
        for node in self.nodes.values():
            previous = 0
            for record in node.disk:
                if isinstance(record, Entries):
                    for index, found, kind, payload in entries_of(record.block):
                        self.ledger.entries[index, found] = (previous, kind, payload, block_info(record.block)[3])
                        previous = found
            for index in range(len(self.ledger.committed), min(node.durable.commit, node.durable.last) + 1):
                self.ledger.committed.append(node.durable.term_of(index))
                self.ledger.committed_by.append(node.durable.term)

    # -- letters ------------------------------------------------------------------------------------------------------

    def post(self, source: int, target: int, message: Any) -> None:
        self.pool.append(Letter(source, target, message))

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
        arrives = node is not None and node.up and (source, target) not in self.cuts
        if node is not None and arrives:
            node.call("receive", source, message)
            if flush:
                node.flush()
        if isinstance(message, InstallSnapshot) and self.reports_snapshots:
            sender = self.nodes.get(source)
            if sender is not None and sender.up:
                sender.call("snapshot_sent", target, arrives)
                sender.flush()

    def deliver(self, kind: type | None = None, source: int = 0, target: int = 0) -> int:
        """Deliver the letters that are in the pool now, in order; what they cause stays in the pool."""
        taken = self.take(kind, source, target)
        for letter in taken:
            self.hand(letter)
        return len(taken)

    def cut(self, *pairs: tuple[int, int]) -> None:
        """Letters between these nodes are lost, both ways."""
        self.cuts.update(pairs, [(b, a) for a, b in pairs])

    def isolate(self, node: int) -> None:
        self.cut(*[(node, other.id) for other in self.configuration.members if other.id != node])

    def heal(self) -> None:
        self.cuts.clear()

    # -- faults -------------------------------------------------------------------------------------------------------

    def crash(self, *nodes: int, keep: int = 0, noticed: bool = False) -> None:
        """Kill nodes. `noticed`: the others see their connections reset."""
        for node in nodes:
            self.nodes[node].crash(keep)
        for other in self.nodes.values():
            for node in nodes if noticed and other.up else ():
                other.call("lost", node, "reset")
                other.flush()

    def restart(self, *nodes: int) -> None:
        for node in nodes:
            self.nodes[node].restart()
        for node in nodes:
            for other in self.nodes.values():
                if other.up and other.id != node:
                    self.nodes[node].call("connected", other.id)
                    other.call("connected", node)
                    other.flush()
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
            for node in self.nodes:
                if self.nodes[node].up:
                    self.run(node)
            if not self.deliver():
                return
        raise Broken("progress", f"no end of messages: {self.pool[:5]}")

    def elapse(self, seconds: float) -> None:
        """Let time pass with ticks in time, settling after each."""
        end = self.now + seconds
        late = 0
        while True:
            self.settle()
            up = [node for node in self.nodes.values() if node.up]
            due = min([node.machine.deadline() for node in up], default=inf)
            if due > end:
                break
            late = late + 1 if due <= self.now else 0
            require(late < 100, "a tick leaves its deadline in the past")
            self.now = max(self.now, due)
            for node in up:
                if node.machine.deadline() <= self.now:
                    node.call("tick")
                    node.flush()
        self.now = end

    def sleep(self, seconds: float) -> None:
        """Let time pass while nobody ticks (a busy machine: ticks come late)."""
        self.now += seconds

    def tick(self, *nodes: int) -> None:
        for node in nodes:
            self.nodes[node].call("tick")
            self.nodes[node].flush()

    # -- verbs --------------------------------------------------------------------------------------------------------

    def ticket(self) -> int:
        self.tickets += 1
        return self.tickets

    def propose(self, node: int, *commands: bytes, term: int | None = None, flush: bool = True) -> int:
        ticket = self.ticket()
        self.ledger.commands[ticket] = commands
        self.nodes[node].call("propose", ticket, commands, term=term)
        if flush:
            self.nodes[node].flush()
        return ticket

    def read(self, node: int, *, flush: bool = True) -> int:
        ticket = self.ticket()
        self.ledger.floors[ticket] = len(self.ledger.committed) - 1
        self.nodes[node].call("read", ticket)
        if flush:
            self.nodes[node].flush()
        return ticket

    def transfer(self, node: int, target: int) -> int:
        ticket = self.ticket()
        self.nodes[node].call("transfer", ticket, target)
        self.nodes[node].flush()
        return ticket

    def campaign(self, node: int) -> None:
        self.nodes[node].call("campaign")
        self.nodes[node].flush()

    def elect(self, node: int) -> None:
        """Make this node the leader, ready, and known as such by all that it can reach."""
        self.sleep(self.options.election_timeout)
        for _ in range(3):  # the first attempts may only learn the term
            if not self.nodes[node].leads:
                self.campaign(node)
                self.settle()
        require(self.nodes[node].leads, "node", node, "was not elected")
        self.elapse(self.options.heartbeat)

    def compact(self, node: int, index: int | None = None) -> Snapshot:
        """Take a snapshot of the node's state (default: all that is applied) and let the machine forget its log."""
        host = self.nodes[node]
        index = len(host.state) if index is None else index
        _, term, _, _ = host.state[index - 1]
        self.states[index] = host.state[:index]
        time_us = host.machine.window.entries(index, index, 1)[0][2]
        snapshot = Snapshot(index, term, time_us, 8 * index, index, self.configuration)
        host.call("compact", index, snapshot)
        host.flush()
        return snapshot

    def reply(self, ticket: int) -> Reply | None:
        return self.ledger.replies.get(ticket)

    def outcome(self, ticket: int) -> Outcome | None:
        reply = self.reply(ticket)
        return None if reply is None else reply.outcome

    @property
    def leader(self) -> int:
        """The leader of the highest term, 0 if there is none."""
        leading = [(node.machine.term, node.id) for node in self.nodes.values() if node.leads]
        return max(leading, default=(0, 0))[1]
