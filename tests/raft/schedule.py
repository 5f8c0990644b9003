"""Random schedules: deliveries, losses, repeats, slow disks, crashes, late ticks and requests in any order, by seed.

Every flush is checked by the ledger; at the end everything heals and the group must agree and move on.
"""

from __future__ import annotations

from random import Random
from types import ModuleType

from cluster import EPOCH_US, Cluster, Node, require

from distkit.core import Outcome, Space
from distkit.raft.messages import InstallSnapshot

#: What happens at a step, and how often.
STEPS = {
    "deliver": 50,
    "persist": 24,
    "flush": 16,
    "tick": 4,
    "calm": 3.5,
    "propose": 10,
    "repeat": 4,
    "drop": 3,
    "read": 3,
    "campaign": 2.5,
    "crash": 0.8,
    "restart": 2.5,
    "compact": 1.5,
    "reset": 0.5,
    "transfer": 0.4,
    "apply": 3,
    "space": 0.6,
    "wall": 1,
}


class Schedule:
    """One run. Small limits make every mechanism of the machine take part in a few hundred steps."""

    def __init__(self, raft: ModuleType, seed: int, steps: int, *, recording: bool = False) -> None:
        self.random = Random(seed)
        self.cluster = Cluster(
            raft,
            self.random.choice((3, 3, 3, 4, 5)),
            seed=seed,
            recording=recording,
            keep_entries=self.random.choice((0, 0, 3)),
            inflight_messages_max=self.random.choice((1, 2, 4)),
            append_bytes_max=self.random.choice((1, 200, 1 << 20)),
            heartbeat=0.3,
        )
        self.eager = self.random.choice((0.3, 0.8, 1.0))  # how often a node is flushed after an input
        self.cluster.reports_snapshots = False
        for node in self.cluster.nodes.values():
            node.applies = self.random.random() < 0.7
        names, weights = list(STEPS), list(STEPS.values())
        for name in self.random.choices(names, weights, k=steps):
            getattr(self, name)()

    def pick(self, up: bool = True) -> Node | None:
        nodes = [node for node in self.cluster.nodes.values() if node.up == up]
        return self.random.choice(nodes) if nodes else None

    def after(self, node: Node) -> None:
        if self.random.random() < self.eager:
            node.flush()

    def deliver(self) -> None:
        pool = self.cluster.pool
        if not pool:
            return self.tick()
        # Mostly the oldest: the network reorders, but not without end.
        at = 0 if self.random.random() < 0.6 else self.random.randrange(len(pool))
        letter = pool.pop(at)
        node = self.cluster.nodes[letter.target]
        arrives = node.up and (letter.source, letter.target) not in self.cluster.cuts
        if arrives:
            node.call("receive", letter.source, letter.message)
            self.after(node)
        if isinstance(letter.message, InstallSnapshot):
            self.report(letter.source, letter.target, arrives)
        return None

    def report(self, source: int, target: int, ok: bool) -> None:
        sender = self.cluster.nodes[source]
        if sender.up:
            sender.call("snapshot_sent", target, ok)
            self.after(sender)

    def repeat(self) -> None:
        if self.cluster.pool:
            self.cluster.pool.append(self.random.choice(self.cluster.pool))

    def drop(self) -> None:
        if self.cluster.pool:
            letter = self.cluster.pool.pop(self.random.randrange(len(self.cluster.pool)))
            if isinstance(letter.message, InstallSnapshot):
                self.report(letter.source, letter.target, False)

    def persist(self) -> None:
        busy = [node for node in self.cluster.nodes.values() if node.up and node.writes]
        if busy:
            node = self.random.choice(busy)
            node.persist(self.random.randint(1, len(node.writes)), report=self.random.random() < 0.5)

    def flush(self) -> None:
        for node in self.cluster.nodes.values():
            if node.up:
                node.flush()

    def calm(self) -> None:
        """For a moment everything works, but perhaps not for everybody: that is how leaders come to be, and fall."""
        cluster = self.cluster
        cluster.heal()
        apart = self.random.choice([0, 0, cluster.leader, self.random.randint(1, len(cluster.nodes))])
        if apart:
            cluster.isolate(apart)
        cluster.reports_snapshots = True
        cluster.elapse(self.random.choice((0.0, 0.1, 0.5, 2.0)))
        cluster.reports_snapshots = False
        if self.random.random() < 0.5:
            cluster.heal()

    def tick(self) -> None:
        cluster = self.cluster
        up = [node for node in cluster.nodes.values() if node.up]
        if up:
            due = min(node.machine.deadline() for node in up)
            cluster.now = max(cluster.now, min(due, cluster.now + 0.5)) + self.random.random() * 0.02
        for node in up:
            if node.machine.deadline() <= cluster.now and self.random.random() < 0.8:
                node.call("tick")
                self.after(node)

    def propose(self) -> None:
        leaders = [node for node in self.cluster.nodes.values() if node.leads]
        node = self.random.choice(leaders) if leaders else self.pick()
        if node is not None:
            number = self.cluster.tickets
            commands = [b"%d.%d" % (number, part) for part in range(self.random.choice((1, 1, 1, 3)))]
            self.cluster.propose(node.id, *commands, flush=False)
            self.after(node)

    def read(self) -> None:
        node = self.pick()
        if node is not None:
            self.cluster.read(node.id, flush=False)
            self.after(node)

    def campaign(self) -> None:
        node = self.pick()
        if node is not None:
            self.cluster.sleep(self.random.choice((0.0, 1.0)))
            node.call("campaign")
            self.after(node)

    def crash(self) -> None:
        """One or, sometimes, all; the writes in flight are lost from any record on."""
        for node in list(self.cluster.nodes.values()) if self.random.random() < 0.1 else [self.pick()]:
            if node is not None and node.up:
                records = sum(len(write.records) for write in node.writes)
                self.cluster.crash(node.id, keep=self.random.randint(0, records), noticed=self.random.random() < 0.5)

    def restart(self) -> None:
        node = self.pick(up=False)
        if node is not None:
            applies, node.applies = node.applies, True
            self.cluster.restart(node.id)
            node.applies = applies

    def compact(self) -> None:
        node = self.pick()
        if node is not None:
            node.flush()
            if len(node.state) > node.machine.snapshot.index and node.machine.applied_index == len(node.state):
                self.cluster.compact(node.id)

    def reset(self) -> None:
        node, peer = self.pick(), self.pick()
        if node is not None and peer is not None and node is not peer:
            node.call("lost", peer.id, "reset")
            node.call("connected", peer.id)
            self.after(node)

    def transfer(self) -> None:
        for node in self.cluster.nodes.values():
            target = self.pick()
            if node.leads and target is not None and target is not node:
                self.cluster.transfer(node.id, target.id)
                return

    def apply(self) -> None:
        node = self.pick()
        if node is not None:
            node.apply()
            node.flush()

    def space(self) -> None:
        node = self.pick()
        if node is not None:
            node.call("storage", self.random.choice((Space.FULL, Space.OK, Space.OK)))
            self.after(node)

    def wall(self) -> None:
        """Wall clocks differ, and jump."""
        node = self.pick()
        if node is not None:
            node.call("wall", EPOCH_US + self.random.randint(-(10**9), 10**9))
            self.after(node)

    def heal(self) -> None:
        """No more faults: one leader, equal logs and states, every ticket of a living node ended."""
        cluster = self.cluster
        cluster.reports_snapshots = True
        cluster.heal()
        cluster.restart(*[node.id for node in cluster.nodes.values() if not node.up])
        for node in cluster.nodes.values():
            node.applies = True
            node.call("storage", Space.OK)
            node.apply()
        cluster.elapse(6)
        require(cluster.leader > 0, "no leader after the heal")
        ticket, read = cluster.propose(cluster.leader, b"last"), cluster.read(cluster.leader)
        cluster.elapse(1)
        require(cluster.outcome(ticket) is Outcome.COMMITTED, "no progress after the heal", cluster.reply(ticket))
        require(cluster.outcome(read) is Outcome.READABLE, "no reads after the heal", cluster.reply(read))
        states = {tuple(node.state) for node in cluster.nodes.values()}
        require(len(states) == 1, "states differ after the heal")
        for node in cluster.nodes.values():
            status = node.machine.status()
            require(status.tickets_waiting == status.reads_waiting == 0, "node", node.id, "owes a reply")
        cluster.ledger.finish()
