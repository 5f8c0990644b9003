"""Traces of real Raft machines in a small world of virtual time, for tests of what reads traces.

The machines are those that ship; the world is only as good as a picture needs: links that take a few milliseconds,
disks that take one, connections that break when a process dies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import Any

from distkit.core import Configuration, Member, Outcome, Reply, Span, Write
from distkit.raft import RaftOptions, formation_records, recover

Event = dict[str, Any]
OPTIONS = RaftOptions(heartbeat=0.05, election_timeout=0.3, evidence_delay=0.03)


class Host:
    """One node: its machine, its disk and the operations that wait for an answer."""

    def __init__(self) -> None:
        self.disk: list[Any] = []
        self.boots = 0
        self.up = self.paused = False
        self.machine: Any = None
        self.commit = 0
        self.tick_at = 0.0
        self.waiting: dict[int, tuple[int, int]] = {}
        self.late: list[Callable[[], None]] = []


class World:
    """Nodes 1 to `size`. What happens is in `events`, in order."""

    def __init__(self, size: int = 3, seed: int = 1) -> None:
        self.random = Random(f"trace {seed}")
        self.seed = seed
        self.now = 0.0
        self.events: list[Event] = []
        self.cuts: set[tuple[int, int]] = set()
        self.loss = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._planned = self._sent = self._called = 0
        members = tuple(Member(node, 1000 + node, f"127.0.0.1:{7100 + node}") for node in range(1, size + 1))
        self.nodes = {node: Host() for node in range(1, size + 1)}
        for node, host in self.nodes.items():
            host.disk = list(formation_records(Configuration(1, members)))
            self._boot(node)

    # -- what a test asks for -----------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, step = heappop(self._queue)
            step()
        self.now = end

    def run_until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Let time pass until something is so."""
        end = self.now + seconds
        while not condition():
            assert self._queue
            assert self._queue[0][0] < end, "it did not happen"
            self.now, _, step = heappop(self._queue)
            step()

    def emit(self, event: str, node: int = 0, **fields: Any) -> None:
        self.events.append(
            {"seq": len(self.events) + 1, "time": round(self.now, 6), "event": event, "node": node, **fields}
        )

    def leads(self, node: int) -> bool:
        host = self.nodes[node]
        return host.up and host.machine.role.name == "LEADER"

    @property
    def leader(self) -> int:
        """The leader of the highest term, 0 if there is none."""
        return max([(self.nodes[node].machine.term, node) for node in self.nodes if self.leads(node)], default=(0, 0))[
            1
        ]

    def elect(self, node: int) -> None:
        """Let this node campaign, and wait until it leads."""
        self.run(OPTIONS.election_timeout if self.now else 0.01)
        for _ in range(9):
            if not self.leads(node):
                self.act(node, "campaign")
                self.run(0.03)
        assert self.leads(node)

    def act(self, node: int, door: str, *arguments: Any) -> None:
        """Use a door of the machine, and do what it says."""
        host = self.nodes[node]
        if host.up:
            getattr(host.machine, door)(self.now, *arguments)
            self._flush(node)

    def write(self, client: int, node: int, text: str) -> None:
        """A client proposes a command at a node."""
        self._called += 1
        name, host = self._called, self.nodes[node]
        self.emit("invoke", node, client=client, id=name, op=f"write {text}", value=text)
        if host.up:
            host.waiting[name] = (client, name)
            self.act(node, "propose", name, [text.encode()])
        self._plan(0.4, lambda: self._give_up(host, client, name))

    def cut(self, *links: tuple[int, int]) -> None:
        """Directed links lose everything."""
        self.cuts.update(links)
        self.emit("cut", links=[list(link) for link in links])

    def isolate(self, *group: int) -> None:
        """A group of nodes and the others don't hear each other."""
        others = [node for node in self.nodes if node not in group]
        self.cut(*[link for a in group for b in others for link in ((a, b), (b, a))])

    def heal(self) -> None:
        self.emit("heal", links=[list(link) for link in sorted(self.cuts)])
        self.cuts.clear()

    def crash(self, node: int, reason: str = "kill") -> None:
        host = self.nodes[node]
        host.up = False
        host.waiting.clear()
        self.emit("crash", node, reason=reason)
        for other in self.nodes:
            if other != node and (node, other) not in self.cuts:
                self._plan(0.002, partial(self.act, other, "lost", node, "reset"))

    def restart(self, node: int, disk: Iterable[Any] | None = None) -> None:
        """Start again from its disk; an older `disk` is a fault that machines can't see."""
        if disk is not None:
            self.nodes[node].disk = list(disk)
        self.emit("restart", node, **({} if disk is None else {"reason": "with an older disk"}))
        self._boot(node)

    def pause(self, node: int, seconds: float) -> None:
        self.emit("pause", node)
        self.nodes[node].paused = True
        self._plan(seconds, lambda: self._resume(node))

    # -- the machinery ------------------------------------------------------------------------------------------------

    def _plan(self, delay: float, step: Callable[[], None]) -> None:
        self._planned += 1
        heappush(self._queue, (self.now + delay, self._planned, step))

    def _boot(self, node: int) -> None:
        host = self.nodes[node]
        host.boots += 1
        host.machine = recover(
            tuple(host.disk),
            node=node,
            incarnation=1000 + node,
            random=Random(f"machine {self.seed} {node} {host.boots}"),
            now=self.now,
            options=OPTIONS,
            trace=lambda event, fields: self._tell(event, node, fields),
        )
        host.up, host.paused, host.commit, host.tick_at = True, False, 0, 0.0
        for other, there in self.nodes.items():
            if other != node and there.up:
                self.act(node, "connected", other)
                self.act(other, "connected", node)
        self._flush(node)

    def _tell(self, event: str, node: int, fields: dict[str, Any]) -> None:
        """A transition of a machine; what it sends and receives this world tells itself."""
        if not event.startswith(("Send", "Receive", "Ready", "InitState", "Replicate")):
            self.emit(event, node, **{name: value for name, value in fields.items() if name not in ("node", "time")})

    def _resume(self, node: int) -> None:
        host = self.nodes[node]
        if host.paused:
            host.paused = False
            self.emit("resume", node)
            late, host.late = host.late, []
            for step in late:
                step()

    def _on(self, node: int, delay: float, step: Callable[[], None]) -> None:
        """Do something on this node later, if the same process still runs then, and not while it is paused."""
        host = self.nodes[node]
        boot = host.boots

        def due() -> None:
            if host.up and host.boots == boot:
                if host.paused:
                    host.late.append(due)
                else:
                    step()

        self._plan(delay, due)

    def _flush(self, node: int) -> None:
        host = self.nodes[node]
        output = host.machine.flush(self.now)
        while output is not None:
            for target, message in output.sends:
                self._send(node, target, message)
            for write in output.writes:
                self._on(node, 0.001 + 0.0005 * self.random.random(), partial(self._written, node, write))
            for item in output.delivers:
                if isinstance(item, Span):
                    host.machine.applied(self.now, item.hi)
            for reply in output.replies:
                self._answer(node, reply)
            output = host.machine.flush(self.now)
        if host.machine.commit_index > host.commit:
            host.commit = host.machine.commit_index
            machine = host.machine
            self.emit("Commit", node, role=machine.role.name, term=machine.term, commit=host.commit)
        due = host.machine.deadline()
        if not self.now < host.tick_at <= due:
            host.tick_at = due
            self._on(node, max(due - self.now, 0.0), lambda: self._tick(node, due))

    def _tick(self, node: int, due: float) -> None:
        host = self.nodes[node]
        if host.tick_at == due:
            host.tick_at = 0.0
            self.act(node, "tick")

    def _written(self, node: int, write: Write) -> None:
        self.nodes[node].disk += write.records
        self.emit("durable", node, token=write.token, records=len(write.records))
        for target, message in write.then:
            self._send(node, target, message)
        self.act(node, "persisted", write.token)

    def _send(self, source: int, target: int, message: Any) -> None:
        self._sent += 1
        name, kind = self._sent, type(message).__name__
        self.emit("send", source, to=target, id=name, message=kind, term=message.term, detail=_detail(message))
        if (source, target) in self.cuts:
            self.emit("drop", id=name, reason="cut")
        elif self.random.random() < self.loss:
            self._plan(0.001, lambda: self.emit("drop", id=name, reason="loss"))
        else:
            self._plan(0.002 + 0.003 * self.random.random(), lambda: self._arrive(source, target, name, message))

    def _arrive(self, source: int, target: int, name: int, message: Any) -> None:
        if (source, target) in self.cuts:
            self.emit("drop", id=name, reason="cut")
        elif not self.nodes[target].up:
            self.emit("drop", id=name, reason="down")
        else:
            self._on(target, 0.0, lambda: self._receive(source, target, name, message))

    def _receive(self, source: int, target: int, name: int, message: Any) -> None:
        self.emit("receive", target, id=name)
        self.act(target, "receive", source, message)

    def _answer(self, node: int, reply: Reply) -> None:
        client, name = self.nodes[node].waiting.pop(reply.ticket, (0, 0))
        if name:
            value = reply.index if reply.outcome is Outcome.COMMITTED else reply.reason.name.lower()
            self.emit("return", node, client=client, id=name, outcome=reply.outcome.name.lower(), value=value)

    def _give_up(self, host: Host, client: int, name: int) -> None:
        done = any(event["event"] == "return" and event["id"] == name for event in self.events[-5000:])
        if not done:
            host.waiting.pop(name, None)
            self.emit("return", client=client, id=name, outcome="timeout", value=None)


def _detail(message: Any) -> str:
    """What a person wants to know of a message."""
    kind = type(message).__name__
    if kind == "AppendEntries":
        return f"prev {message.prev_index} +{len(message.blocks)} commit {message.commit}"
    if kind == "AppendEntriesReply":
        return f"{'accepted' if message.accepted else 'rejected'} {message.index}"
    if kind == "RequestVote":
        return f"{'pre-vote, ' if message.pre else ''}last {message.last_index} of term {message.last_term}"
    if kind == "RequestVoteReply":
        return f"{'pre-vote ' if message.pre else ''}{'granted' if message.granted else 'refused'}"
    return ""


# -- runs -------------------------------------------------------------------------------------------------------------


def election() -> list[Event]:
    """Three nodes elect a leader and commit a few commands; a follower restarts; then the leader is killed."""
    world = World(3, seed=4)
    world.run_until(lambda: world.leader > 0)
    for number in range(3):
        world.write(1 + number % 2, world.leader, f"x={number}")
        world.run(0.012)
    follower = world.leader % 3 + 1
    world.crash(follower)
    world.run(0.03)
    world.restart(follower)
    world.run(0.05)
    old = world.leader
    world.write(1, old, "x=3")
    world.run(0.003)
    world.crash(old)
    world.run_until(lambda: world.leader not in (0, old))
    world.write(2, world.leader, "x=4")
    world.run(0.04)
    return world.events


def split_vote() -> list[Event]:
    """Four nodes, two of which campaign at the same moment: nobody wins. The next term has a leader."""
    world = World(4, seed=3)
    world.run(0.001)
    for node in (1, 4):
        world.act(node, "campaign")
    world.cut((1, 3), (4, 2))
    world.run(0.05)
    world.heal()
    world.run_until(lambda: world.leader > 0)
    world.write(1, world.leader, "a=1")
    world.run(0.05)
    return world.events


def partition() -> list[Event]:
    """A leader is cut off with one of five nodes; the others elect another one, and both lead for a while."""
    world = World(5, seed=5)
    world.elect(1)
    for number in range(2):
        world.write(1, 1, f"x={number}")
        world.run(0.02)
    world.isolate(1, 2)
    world.write(1, 1, "x=lost")
    world.run_until(lambda: world.leader > 2)
    world.write(2, world.leader, "x=2")
    world.run(0.03)
    world.pause(3, 0.05)
    world.write(2, world.leader, "x=3")
    world.run(0.06)
    world.heal()
    world.run(0.5)
    return world.events


def double_leader() -> list[Event]:
    """Node 3 votes for node 1, loses that vote with its disk, and votes for node 2 in the same term."""
    world = World(3, seed=7)
    world.elect(2)
    world.write(1, 2, "x=1")
    world.run(0.03)
    backup = list(world.nodes[3].disk)
    world.isolate(2)
    world.run_until(lambda: world.leads(1))
    world.run_until(lambda: not world.leads(2))
    world.write(1, 1, "x=2")
    world.run(0.02)
    world.crash(3, "power loss")
    world.run(0.01)
    world.heal()
    world.isolate(1)
    world.restart(3, backup)
    world.act(2, "campaign")
    world.run_until(lambda: world.leads(2))
    term = world.nodes[2].machine.term
    assert world.leads(1)
    assert world.nodes[1].machine.term == term
    stop = next(
        place for place, each in enumerate(world.events) if each["event"] == "BecomeLeader" and _is(each, 2, term)
    )
    del world.events[stop + 1 :]
    last = world.events[-1]
    world.events.append(
        {
            "seq": last["seq"] + 1,
            "time": last["time"],
            "event": "broken",
            "node": 2,
            "text": f"two leaders in term {term}: node 1 and node 2",
        }
    )
    return world.events


def _is(event: Event, node: int, term: int) -> bool:
    return bool(event["node"] == node and event["term"] == term)


def long(events: int, seed: int = 9) -> list[Event]:
    """A long run with clients, loss, crashes and partitions, and a rule that is broken at its end."""
    world = World(5, seed=seed)
    number = 0
    while len(world.events) < events:
        number += 1
        chance = world.random.random()
        leader = world.leader
        down = [node for node, host in world.nodes.items() if not host.up]
        if chance < 0.02 and not down:
            world.crash(1 + int(world.random.random() * 5))
        elif chance < 0.06 and down:
            world.restart(down[0])
        elif chance < 0.08:
            world.isolate(1 + int(world.random.random() * 5))
        elif chance < 0.14 and world.cuts:
            world.heal()
        elif leader and chance < 0.8:
            world.write(1 + number % 3, leader, f"k={number}")
        world.run(0.02 + (0.6 if chance > 0.98 else 0.0))
    world.emit("broken", 3, text="node 3 applied another entry at index 17 than node 1")
    return world.events
