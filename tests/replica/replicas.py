"""Replicas in one process and in virtual time: messages pass the codec, writes are durable at once, files are dicts.

Nothing happens by itself: a test calls verbs, `settle` does all that is possible without time passing, `run` lets
time pass. Nodes and links can be cut, nodes can be stopped and started from what they wrote.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any

from distkit.core import Configuration, Member, Outcome, RoleName, StateMachine
from distkit.raft import Raft, RaftOptions, Snapshot, formation_records, recover
from distkit.replica import (
    FetchFrom,
    LoadSnapshot,
    Release,
    ReplicaCore,
    ReplicaOptions,
    ReplicaOutput,
    ReplicaReply,
    SaveSnapshot,
    decoded,
    encoded,
    registry,
)

REGISTRY = registry()


class Journal(StateMachine):
    """Remembers every command; the result is its position and the command itself."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []

    def apply(self, index: int, term: int, time_us: int, command: bytes) -> bytes:
        if command == b"explode":
            raise ValueError("boom")
        self.commands.append(command)
        return b"%d:%s" % (len(self.commands), command[:32])

    def snapshot(self) -> Iterator[bytes]:
        return iter([b"+" + command for command in self.commands])

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.commands = [chunk[1:] for chunk in chunks]

    def digest(self) -> bytes:
        return b"|".join(self.commands)


def configuration_of(*nodes: int) -> Configuration:
    return Configuration(1, tuple(Member(node, 1000 + node, f"127.0.0.1:{7100 + node}") for node in nodes))


def through_codec(message: Any) -> Any:
    kind, buffers = REGISTRY.encode_body(message)
    return REGISTRY.decode_body(kind, b"".join(buffers))


class Node:
    """One replica and its disk. `replies` holds every reply by ticket, `reads` what was seen when one was readable."""

    def __init__(self, world: World, node: int) -> None:
        self.world = world
        self.id = node
        self.disk: list[tuple[int, int, bytes]] = []
        self.files: dict[tuple[int, int], list[bytes]] = {}
        self.fetches: list[FetchFrom] = []
        self.saves: list[SaveSnapshot] = []
        self.released: list[Release] = []
        self.starts = 0
        self.start()

    def start(self) -> None:
        """Start from what is on the disk."""
        world = self.world
        self.up = True
        self.starts += 1
        self.journal = Journal()
        self.replies: dict[int, ReplicaReply] = {}
        self.reads: dict[int, list[bytes]] = {}
        self.raft: Raft = recover(
            self.recovered(),
            node=self.id,
            incarnation=1000 + self.id,
            options=world.raft_options,
            random=Random(100 * self.starts + self.id),
            now=world.now,
        )
        self.core = ReplicaCore(
            self.raft, self.journal, world.options, now=world.now, origin=1000 * self.starts + self.id
        )
        self.core.wall(world.now, 1_000_000)
        if self.raft.snapshot.index:
            self.load(self.raft.snapshot)

    def recovered(self) -> list[Any]:
        """The records on the disk; a new one is formed first."""
        if not self.disk:
            self.store(formation_records(self.world.configuration))
        return decoded(self.disk)

    def store(self, records: Iterable[Any]) -> None:
        """Make records durable."""
        self.disk += encoded(records)

    def load(self, snapshot: Snapshot) -> None:
        self.core.load(self.files[snapshot.index, snapshot.term])
        self.core.restored(self.world.now, snapshot)

    def flush(self) -> bool:
        spared, due = not self.core.touched, self.core.deadline()
        output = self.core.flush(self.world.now)
        assert not spared or (output is None and self.core.deadline() == due)
        if output is None:
            return False
        self.take(output)
        return True

    def take(self, output: ReplicaOutput) -> None:
        world = self.world
        for peer, message in output.sends:
            world.post(self.id, peer, message)
        for reply in output.replies:
            assert reply.ticket not in self.replies, f"ticket {reply.ticket} ended twice"
            self.replies[reply.ticket] = world.ended[reply.ticket] = reply
            if reply.outcome is Outcome.READABLE:
                self.reads[reply.ticket] = list(self.journal.commands)
        for write in output.writes:
            self.store(write.records)
            for peer, message in write.then:
                world.post(self.id, peer, message)
            self.core.persisted(world.now, write.token)
        for work in output.snapshots:
            if isinstance(work, SaveSnapshot):
                self.saves.append(work)
                if world.saves:
                    self.save()
            elif isinstance(work, LoadSnapshot):
                self.load(work.snapshot)
            elif isinstance(work, FetchFrom):
                self.fetches.append(work)
                if world.fetches:
                    self.fetch()
            else:
                self.release(work)

    def save(self) -> Snapshot:
        """Do the oldest save that was asked for."""
        work = self.saves.pop(0)
        chunks = list(work.chunks)
        snapshot = Snapshot(work.index, work.term, work.time_us, sum(map(len, chunks)), 0, work.configuration)
        self.files[work.index, work.term] = chunks
        self.core.snapshot_saved(self.world.now, snapshot)
        return snapshot

    def fetch(self) -> None:
        """Do the oldest fetch that was asked for."""
        work = self.fetches.pop(0)
        source = self.world.nodes[work.source]
        key = (work.snapshot.index, work.snapshot.term)
        self.files[key] = source.files[key]
        self.core.fetched(self.world.now, work.snapshot)
        source.core.snapshot_sent(self.world.now, self.id, True)

    def release(self, work: Release) -> None:
        self.released.append(work)

    # -- verbs -----------------------------------------------------------------------------------------------------

    def propose(self, command: bytes, session: int = 0, sequence: int = 0, lowest: int = 0) -> int:
        ticket = self.world.ticket()
        self.core.propose(self.world.now, ticket, command, session, sequence, lowest)
        return ticket

    def register(self) -> int:
        ticket = self.world.ticket()
        self.core.register(self.world.now, ticket)
        return ticket

    def read(self) -> int:
        ticket = self.world.ticket()
        self.core.read(self.world.now, ticket)
        return ticket


class World:
    """Some replicas, the letters between them, and the time."""

    def __init__(
        self,
        count: int = 3,
        *,
        options: ReplicaOptions | None = None,
        raft_options: RaftOptions | None = None,
        kind: type[Node] = Node,
    ) -> None:
        self.now = 1.0
        self.options = options
        self.raft_options = raft_options or RaftOptions()
        self.saves = self.fetches = True
        self.configuration = configuration_of(*range(1, count + 1))
        self.letters: deque[tuple[int, int, Any]] = deque()
        #: Return False to lose a letter.
        self.passes: Callable[[int, int, Any], bool] = lambda source, target, message: True
        self.cut: set[int] = set()
        self._tickets = 0
        #: Every reply of every node, those that died since included.
        self.ended: dict[int, ReplicaReply] = {}
        self.nodes: dict[int, Node] = {}
        for node in range(1, count + 1):
            self.nodes[node] = kind(self, node)
        for node in self.nodes:
            self._connect(node)

    def ticket(self) -> int:
        self._tickets += 1
        return self._tickets

    def post(self, source: int, target: int, message: Any) -> None:
        if source not in self.cut and target not in self.cut and self.passes(source, target, message):
            self.letters.append((source, target, through_codec(message)))

    def settle(self) -> None:
        """Do everything that is possible without time passing."""
        for _ in range(100_000):
            busy = [node.flush() for node in self.up()]
            while self.letters:
                source, target, message = self.letters.popleft()
                if self.nodes[target].up:
                    self.nodes[target].core.receive(self.now, source, message)
                    self.nodes[target].flush()
            if not any(busy) and all(node.core.deadline() > self.now for node in self.up()):
                return
            for node in self.up():
                if node.core.deadline() <= self.now:
                    node.core.tick(self.now)
        raise AssertionError("the replicas never come to rest")

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        self.settle()
        while (due := min(node.core.deadline() for node in self.up())) <= end:
            self.now = max(self.now, due)
            for node in self.up():
                if node.core.deadline() <= self.now:
                    node.core.tick(self.now)
            self.settle()
        self.now = end

    def elect(self, node: int) -> Node:
        """Make this node the leader, and let everybody know."""
        self.settle()
        self.nodes[node].raft.campaign(self.now)
        self.settle()
        self.run(0.3)
        assert self.nodes[node].raft.role is RoleName.LEADER
        return self.nodes[node]

    def leader(self) -> Node:
        leaders = [node for node in self.up() if node.raft.role is RoleName.LEADER and node.id not in self.cut]
        return max(leaders, key=lambda node: node.raft.term)

    def others(self, node: Node) -> list[Node]:
        return [other for other in self.up() if other is not node]

    def up(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.up]

    def isolate(self, node: int, reason: str = "timeout") -> None:
        """Cut a node off; all ends notice."""
        self.cut.add(node)
        for other in self.up():
            if other.id != node:
                other.core.lost(self.now, node, reason)
                if self.nodes[node].up:
                    self.nodes[node].core.lost(self.now, other.id, reason)

    def heal(self, node: int) -> None:
        self.cut.discard(node)
        self._connect(node)

    def stop(self, node: int) -> None:
        """The process of a node dies."""
        self.nodes[node].up = False
        self.letters = deque(letter for letter in self.letters if letter[0] != node)
        self.isolate(node, "reset")

    def start(self, node: int) -> None:
        self.nodes[node].start()
        self.heal(node)

    def _connect(self, node: int) -> None:
        for other in self.up():
            if other.id != node and other.id not in self.cut and self.nodes[node].up:
                other.core.connected(self.now, node)
                self.nodes[node].core.connected(self.now, other.id)
