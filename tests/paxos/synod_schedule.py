"""Random schedules: deliveries, losses, repeats, slow disks, crashes, late ticks and duelling proposers, by seed.

Every step is checked by the ledger; at the end everything heals and all must know the same decision.
"""

from __future__ import annotations

from random import Random
from types import ModuleType

from synod_world import Node, World

from distkit.core import Outcome, Space
from distkit.quorum import flexible
from distkit.sim.broken import require

#: What happens at a step, and how often.
STEPS = {
    "deliver": 50,
    "persist": 24,
    "flush": 12,
    "tick": 8,
    "propose": 5,
    "repeat": 5,
    "drop": 5,
    "crash": 2,
    "restart": 4,
    "reconnect": 1,
    "space": 0.6,
    "calm": 0.15,
}

#: (size, quorum system, proposers, learners): None stands for majorities, or for everybody.
GROUPS = (
    (3, None, None, None),
    (3, None, None, None),
    (5, None, (1, 5), None),
    (4, flexible.counts((1, 2, 3, 4), 3, 2), None, (4,)),
    (4, flexible.counts((1, 2, 3, 4), 2, 3), (1, 2), None),
    (6, flexible.grid([[1, 2, 3], [4, 5, 6]]), (1, 6), (2, 6)),
    (5, flexible.majority((1, 2, 3)), (4, 1), (5,)),
    (5, flexible.weights({1: 2, 2: 1, 3: 1, 4: 1}, 3, 3), (1, 5), (5, 1)),
)


class Schedule:
    """One run."""

    def __init__(self, synod: ModuleType, seed: int, steps: int, *, recording: bool = False) -> None:
        self.random = Random(seed)
        size, quorums, proposers, learners = self.random.choice(GROUPS)
        self.world = World(
            synod,
            size,
            quorums=quorums,
            proposers=proposers,
            learners=learners,
            seed=seed,
            recording=recording,
            backoff=self.random.choice((0.001, 0.05, 0.5)),
            learn_interval=self.random.choice((0.1, 1.0)),
            tickets_max=3,
        )
        self.fired = dict.fromkeys(STEPS, 0)
        self.eager = self.random.choice((0.3, 0.8, 1.0))  # how often a node is flushed after an input
        names, weights = list(STEPS), list(STEPS.values())
        for name in self.random.choices(names, weights, k=steps):
            getattr(self, name)()

    def pick(self, up: bool = True) -> Node | None:
        nodes = [node for node in self.world.nodes.values() if node.up == up]
        return self.random.choice(nodes) if nodes else None

    def after(self, node: Node, name: str) -> None:
        self.fired[name] += 1
        if self.random.random() < self.eager:
            node.flush()

    def deliver(self) -> None:
        pool = self.world.pool
        if not pool:
            return self.tick()
        # Mostly the oldest: the network reorders, but not without end.
        letter = pool.pop(0 if self.random.random() < 0.5 else self.random.randrange(len(pool)))
        node = self.world.nodes[letter.target]
        if node.up:
            node.call("receive", letter.source, letter.message)
            self.after(node, "deliver")
        return None

    def repeat(self) -> None:
        if self.world.pool:
            self.world.pool.append(self.random.choice(self.world.pool))
            self.fired["repeat"] += 1

    def drop(self) -> None:
        if self.world.pool:
            self.world.pool.pop(self.random.randrange(len(self.world.pool)))
            self.fired["drop"] += 1

    def persist(self) -> None:
        busy = [node for node in self.world.nodes.values() if node.up and node.writes]
        if busy:
            node = self.random.choice(busy)
            node.persist(self.random.randint(1, len(node.writes)), report=self.random.random() < 0.5)
            self.fired["persist"] += 1

    def flush(self) -> None:
        for node in self.world.nodes.values():
            node.flush()
        self.fired["flush"] += 1

    def tick(self) -> None:
        world = self.world
        up = [node for node in world.nodes.values() if node.up]
        due = min([node.machine.deadline() for node in up], default=world.now)
        world.now = max(world.now, min(due, world.now + 0.5)) + self.random.random() * 0.02
        for node in up:
            if self.random.random() < 0.7:
                node.call("tick")
                self.after(node, "tick")

    def propose(self) -> None:
        nodes = [self.world.nodes[node] for node in self.world.configuration.proposers]
        up = [node for node in nodes if node.up]
        if up:
            node = self.random.choice(up)
            self.world.propose(node.id, self.random.choice((b"", b"same", b"%d" % self.world.tickets)), flush=False)
            self.after(node, "propose")

    def crash(self) -> None:
        """One or, sometimes, all; the writes in flight are lost from any record on."""
        for node in list(self.world.nodes.values()) if self.random.random() < 0.1 else [self.pick()]:
            if node is not None and node.up:
                records = sum(len(write.records) for write in node.writes)
                self.world.crash(node.id, keep=self.random.randint(0, records))
                self.fired["crash"] += 1

    def restart(self) -> None:
        node = self.pick(up=False)
        if node is not None:
            self.world.restart(node.id)
            self.fired["restart"] += 1

    def reconnect(self) -> None:
        node, peer = self.pick(), self.pick()
        if node is not None and peer is not None and node is not peer:
            node.call("lost", peer.id, "reset")
            node.call("connected", peer.id)
            self.after(node, "reconnect")

    def space(self) -> None:
        node = self.pick()
        if node is not None:
            node.call("storage", self.random.choice((Space.FULL, Space.OK, Space.OK)))
            self.after(node, "space")

    def calm(self) -> None:
        """For a moment everything works."""
        self.world.elapse(self.random.choice((0.0, 0.1)))
        self.fired["calm"] += 1

    def heal(self) -> None:
        """No more faults: one decision, known to every learner, and every ticket of a living node ended."""
        world = self.world
        world.restart(*[node.id for node in world.nodes.values() if not node.up])
        for node in world.nodes.values():
            node.call("storage", Space.OK)
        world.elapse(30)
        ticket = world.propose(world.configuration.proposers[0], b"last")
        world.elapse(30)
        require(world.outcome(ticket) in (Outcome.COMMITTED, Outcome.SUPERSEDED), "progress", "none after the heal")
        for node in world.nodes.values():
            require(node.machine.status().tickets_waiting == 0, "replies", "node", node.id, "owes a reply")
            require(
                node.machine.chosen is not None or node.id not in world.configuration.learners,
                "progress",
                "learner",
                node.id,
                "never learns",
            )
