"""Faults that are aimed: what takes several things in a row to go wrong, which chance alone almost never draws.

A scenario of the profile `hunt` goes through some of `PLOTS`, one after the other. Each takes the nodes in an order
of its own, makes one of them the leader, and does to it and to the others what tempts a consensus protocol: the
leader is left with one follower, logs part, what was answered long ago is answered again, nodes that need a snapshot
meet an election. Calls are moved to where that happens. How long everything takes is drawn, in election timeouts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from distkit.sim.chance import SECOND, below, between, log_between
from distkit.sim.network import NetworkOptions
from distkit.sim.scenario import Call, ClockOptions, DiskOptions, Fault, Scenario
from distkit.sim.systems import System

#: Messages of replicas that may be held back, or come again.
_KINDS: Final = (
    *("AppendEntries", "AppendEntriesReply", "Heartbeat", "HeartbeatReply", "RequestVote", "RequestVoteReply"),
    *("ReadIndex", "ReadIndexReply", "InstallSnapshot", "InstallSnapshotReply", "TimeoutNow", "Propose"),
    *("ProposeReply", "FetchSnapshot", "SnapshotPiece"),
)
#: Points at which a process dies: within writes that are dangerous, and with snapshots.
_POINTS: Final = (
    *("written", "written Truncate", "written Truncate", "written SnapshotMark", "written SnapshotMark"),
    *("written segment", "written segment", "fetching", "fetched", "loading", "giving", "given"),
)


class Stage:
    """Where a plot takes place: `nodes` in the order in which they play, and time in election timeouts from `start`.

    `busy` has (nodes, from, to, kind of call or "") where calls should happen.
    """

    def __init__(self, random: Random, nodes: int, start: float, timeout: float) -> None:
        self.random = random
        self.nodes = sorted(range(1, nodes + 1), key=lambda _: random.random())
        self.start = start
        self.timeout = timeout
        self.end = 0.0
        self.faults: list[Fault] = []
        self.calls: list[Call] = []
        self.busy: list[tuple[tuple[int, ...], float, float, str]] = []

    def between(self, low: float, high: float) -> float:
        """Some length of time."""
        return between(self.random, low, high)

    def chance(self, share: float) -> bool:
        """Whether something is done this time."""
        return self.random.random() < share

    def at(self, moment: float, kind: str, node: int, length: float = 0.0, detail: str = "") -> None:
        """A fault."""
        time, seconds = self.start + moment * self.timeout, length * self.timeout
        self.faults.append(Fault(int(time * SECOND), kind, node, seconds, detail))
        self.end = max(self.end, moment + length)

    def part(self, moment: float, side: tuple[int, ...], length: float) -> None:
        """These nodes and the others can't hear each other."""
        others = [node for node in self.nodes if node not in side]
        links = [f"{one}>{two} {two}>{one}" for one in side for two in others]
        if links:
            self.at(moment, "cut", 0, length, " ".join(links))

    def lead(self, moment: float, node: int) -> None:
        """Leadership is to go to this node; asked for more than once, because an election may be under way."""
        for step in range(3):
            time = self.start + (moment + step * 0.3) * self.timeout
            self.calls.append(Call(int(time * SECOND), 900, node, "transfer", "", 0))
        self.end = max(self.end, moment + 1.0)

    def call(self, nodes: tuple[int, ...], begin: float, end: float, kind: str = "") -> None:
        """Calls should happen there."""
        self.busy.append((nodes, self.start + begin * self.timeout, self.start + end * self.timeout, kind))


#: Puts its faults and calls on a stage.
Plot = Callable[[Stage], None]


def minority(stage: Stage) -> None:
    """A leader is left with one follower, or with none, and goes on for a while. Later it leads again, with messages
    on their way to it that are as old as its first leadership."""
    first, second, *others = stage.nodes
    side = (first, second) if stage.chance(0.8) and len(others) > 1 else (first,)
    stage.lead(0.0, first)
    parted, length = 1.2 + stage.between(0.0, 0.5), stage.between(1.2, 4.0)
    healed = parted + length
    again = healed + stage.between(0.0, 1.5)
    stage.part(parted, side, length)
    for kind in ("AppendEntriesReply", "RequestVoteReply", "HeartbeatReply"):
        fate = stage.random.random()
        if fate < (0.8 if kind == "RequestVoteReply" else 0.6):
            before = stage.between(0.0, 0.4)
            lasts = stage.between(1.0, 2.2) if kind == "HeartbeatReply" else stage.between(1.0, again - parted + 3.0)
            how = "hold" if fate < (0.2 if kind == "RequestVoteReply" else 0.4) else "echo"
            stage.at(parted - before, how, first, lasts, f"in {kind}")
    if len(side) > 1 and stage.chance(0.6):  # its follower hears who leads, and keeps what it has
        stage.at(healed - 0.1, "hold", second, again - healed + stage.between(1.0, 4.0), "in AppendEntries")
    if stage.chance(0.3):
        stage.at(parted + stage.between(0.1, 0.9), "full", first, length + stage.between(0.5, 3.0))
    stage.call(side, parted - 0.2, parted + min(length, 2.2))
    stage.call(side, parted + 0.3, parted + min(length, 2.2), "read")
    stage.call(tuple(others), parted + 1.0, healed)
    if stage.chance(0.7):
        stage.lead(again, first)
        stage.call(tuple(stage.nodes), again, again + 3.0)


def private_terms(stage: Stage) -> None:
    """Leaders of one term after the other write an entry of their own that nobody else has, or hardly anybody: logs
    part at an entry that is higher in its term and lower in its place than what the next leader has."""
    first, *others = stage.nodes
    stage.lead(0.0, first)
    parted, length = 1.2, stage.between(2.0, 3.5)
    side = (first, others[0]) if len(others) > 2 and stage.chance(0.6) else (first,)
    rest = [node for node in others if node not in side]
    stage.call(side, parted - 0.1, parted + 1.0)
    # The others elect one that can't replicate; perhaps it reaches whoever led before, and nobody else.
    unheard = parted + length
    allowed = " ".join(str(node) for node in stage.nodes if node != first) if len(side) > 1 else ""
    for node in rest:
        stage.at(parted, "mute", node, length + 1.0, f"out AppendEntries {allowed}".strip())
    for node in side:
        short = node == first and len(side) > 1 and stage.chance(0.8)
        links = [f"{node}>{other} {other}>{node}" for other in stage.nodes if other not in side]
        stage.at(parted, "cut", 0, length if short else length + stage.between(0.5, 1.0), " ".join(links))
    away = stage.between(3.0, 8.0)
    stage.at(unheard + 0.5, "isolate", 0, away)
    if len(side) > 1:
        stage.at(unheard + 0.5, "isolate", first, stage.between(2.0, away))
    stage.call(tuple(stage.nodes), unheard + 1.0, unheard + away)
    if stage.chance(0.6):
        stage.at(unheard + stage.between(2.0, away), "crash", 0, stage.between(0.1, 2.0), "kill")


def left_behind(stage: Stage) -> None:
    """Nodes miss so much that they need a snapshot, and while they get it the leader dies, offers a newer one, or they
    are struck themselves."""
    first, second, third, *_ = (*stage.nodes, *stage.nodes)
    many = len(stage.nodes) > 3
    stage.lead(0.0, first)
    length = stage.between(2.0, 6.0)
    stage.call((first,), 1.0, 2.0 + length, "write")
    healed = 1.2 + length
    if many and stage.chance(0.5):  # they hear of the leader and its death, and one of them stays behind
        for node, kind in ((second, "AppendEntries"), (third, "AppendEntries"), (third, "InstallSnapshot")):
            stage.at(1.2, "mute", node, length + 2.0, f"in {kind}")
        stage.at(1.2 + stage.between(0.0, length), "crash", 0, stage.between(1.0, 4.0), "given")
        return
    stage.part(1.2, (second, third) if many else (second,), length)
    if many and stage.chance(0.5):
        stage.part(healed, (third,), stage.between(0.05, 0.6))
    stage.call((first,), healed, healed + 3.0, "write")
    fate = stage.random.random()
    if fate < 0.55:
        stage.at(healed, "crash", 0, stage.between(1.0, 4.0), "given" if fate < 0.45 else "giving")
        if stage.chance(0.5):
            stage.at(healed, "slow", second, 3.0)
    elif fate < 0.8:  # it fetches slowly, and is offered what is newer meanwhile
        stage.at(healed, "hold", second, stage.between(0.5, 2.0), "in SnapshotPiece")
        for _ in range(2 + below(stage.random, 8)):
            stage.at(healed + stage.between(0.0, 2.5), "reset", second)
        stage.call((first,), healed, healed + 2.0, "write")
    else:
        point = ("fetching", "fetched", "loading", "written SnapshotMark")[below(stage.random, 4)]
        stage.at(healed, "crash", second, stage.between(0.2, 2.0), point)


def stalled(stage: Stage) -> None:
    """The disk of a leader stands still, so that others commit what it has not written; then it is cut off, and they
    leave it so far behind that its log is replaced."""
    first, *others = stage.nodes
    stage.lead(0.0, first)
    stage.call((first,), 1.0, 1.8)
    begin, length = 1.2, stage.between(2.5, 5.0)
    lasts = stage.between(1.5, length)
    stage.at(begin, "stall", first, lasts + stage.between(0.0, 2.0))
    stage.part(begin + stage.between(0.1, 0.6), (first,), lasts)
    stage.call(tuple(others), begin + 1.0, begin + lasts + 1.0, "write")


def restless(stage: Stage) -> None:
    """A node starts again and again, asks and forwards each time, and is told what an earlier start of it asked for."""
    node, *others = stage.nodes
    length = stage.between(4.0, 8.0)
    for kind in ("ProposeReply", "ReadIndexReply", "Propose", "RequestVoteReply"):
        if stage.chance(0.6):
            stage.at(0.2, "echo", node, length, f"{'out' if kind == 'Propose' else 'in'} {kind}")
    if stage.chance(0.5):
        stage.at(1.0, "hold", node, stage.between(0.3, 2.0), "in AppendEntries")
    time = 0.5
    while time < length:
        stage.at(time, "crash", node, stage.between(0.05, 0.4), ("kill", "kill", "")[below(stage.random, 3)])
        time += stage.between(0.3, 1.5)
    stage.call((node,), 0.2, length)
    stage.call((node,), 0.2, length, "read")
    stage.call(tuple(others), 0.2, length, "write")


def late_answers(stage: Stage) -> None:
    """A follower is behind, and what it is told about reads and writes comes late and more than once; what it forwards
    comes late, too."""
    first, second, *others = stage.nodes
    stage.lead(0.0, first)
    time, length = 1.0, stage.between(3.0, 8.0)
    stage.at(0.5, "echo", second, length, "in ReadIndexReply")
    while time < length:
        lasts = stage.between(0.2, 1.5)
        stage.at(time, "hold", second, lasts, "in AppendEntries")
        time += lasts + stage.between(0.05, 0.5)
    if stage.chance(0.7):
        stage.at(1.0 + stage.between(0.0, 1.0), "hold", second, stage.between(3.0, 12.0), "out Propose")
    if stage.chance(0.3):
        stage.at(1.0 + stage.between(0.0, 1.0), "hold", second, stage.between(0.5, 4.0), "in ProposeReply")
    stage.call((second,), 0.5, length)
    stage.call((second,), 0.5, length, "read")
    stage.call((first, *others), 0.5, length, "write")


def struck_writes(stage: Stage) -> None:
    """The power fails within writes that replace what was there, that begin a log anew, and at the points of the way of
    a snapshot, on nodes whose disks are slow."""
    length = stage.between(3.0, 8.0)
    if stage.chance(0.5):
        for node in stage.nodes:
            stage.at(0.0, "slow", node, length)
    for _ in range(4 + below(stage.random, 8)):
        node = stage.nodes[below(stage.random, len(stage.nodes))]
        point = _POINTS[below(stage.random, len(_POINTS))]
        time = stage.between(0.0, length)
        stage.at(time, "crash", node if stage.chance(0.7) else 0, stage.between(0.2, 1.5), point)
        if stage.chance(0.6):
            stage.at(max(0.0, time - 0.5), "slow", node, 1.5)
    for _ in range(below(stage.random, 4)):
        stage.at(stage.between(0.0, length), "isolate", 0, stage.between(1.0, 3.0))
    stage.call(tuple(stage.nodes), 0.0, length)


def seized(stage: Stage) -> None:
    """Anybody's messages of any kind are held back, come again, or never come, while leaders change."""
    length = stage.between(3.0, 8.0)
    for _ in range(2 + below(stage.random, 6)):
        how = ("hold", "hold", "echo", "echo", "mute")[below(stage.random, 5)]
        node = stage.nodes[below(stage.random, len(stage.nodes))] if stage.chance(0.7) else 0
        way, kind = ("in", "out")[below(stage.random, 2)], _KINDS[below(stage.random, len(_KINDS))]
        stage.at(stage.between(0.0, length), how, node, log_between(stage.random, 0.3, 8.0), f"{way} {kind}")
    for _ in range(below(stage.random, 5)):
        kind, detail = (("crash", "kill"), ("isolate", ""), ("pause", "stale"))[below(stage.random, 3)]
        stage.at(stage.between(0.0, length), kind, 0, stage.between(0.3, 3.0), detail)
    stage.call(tuple(stage.nodes), 0.0, length)


#: Of replicas. What is there twice is drawn more often.
PLOTS: Final[tuple[Plot, ...]] = (
    *(minority, minority, private_terms, private_terms, left_behind, left_behind, stalled),
    *(restless, late_answers, struck_writes, struck_writes, seized),
)


def hunted(random: Random, seed: int, machine: str, system: System, plots: Sequence[Plot]) -> Scenario:
    """A scenario that goes through some of these plots."""
    nodes = 5 if random.random() < 0.6 else 3
    wal = random.random() < 0.4
    heartbeat = between(random, 0.03, 0.06)
    timeout = heartbeat * between(random, 3, 5)
    options = {**dict(system.options(random, random.random() < 0.5)), "heartbeat": heartbeat}
    options |= {"election_timeout": timeout, "entries": 4 + below(random, 40), "keep_entries": 0}
    options |= {"forward_timeout": between(random, 0.2, 0.6)}  # so that a leader lives longer than patience lasts
    faults: list[Fault] = []
    calls: list[Call] = []
    busy: list[tuple[tuple[int, ...], float, float, str]] = []
    time = 0.5
    for _ in range(2 + below(random, 3)):
        stage = Stage(random, nodes, time, timeout)
        plots[below(random, len(plots))](stage)
        faults, calls, busy = faults + stage.faults, calls + stage.calls, busy + stage.busy
        time += stage.timeout * (stage.end + between(random, -1.0, 2.0))
    drawn = system.workload().calls(random, nodes, time, 1 + below(random, 5), int(time * log_between(random, 20, 120)))
    # (Queues and mutexes of which so many outcomes are unknown cost the checker more than the run costs.)
    calls += [_moved(random, call, busy) for call in drawn if not call.key.startswith(("q", "m"))]
    return Scenario(
        machine,
        seed,
        nodes,
        time + 0.5,
        wal=wal,
        by_bytes=wal,
        eager=between(random, 0.1, 0.9) if random.random() < 0.3 else 1.0,
        sessions=random.random() < 0.6,
        network=NetworkOptions(
            delay_min=int(log_between(random, 20_000, 500_000)),
            delay_mean=int(log_between(random, 50_000, 4_000_000)),
            loss=log_between(random, 0.001, 0.02) if random.random() < 0.2 else 0.0,
            copy=log_between(random, 0.01, 0.2) if random.random() < 0.4 else 0.0,
        ),
        disk=DiskOptions(
            delay_min=50_000,
            delay_mean=int(log_between(random, 100_000, 20_000_000)),
            segment_bytes=1 << 12 if random.random() < 0.7 else 1 << 14,
        ),
        clock=ClockOptions(drift=log_between(random, 0.004, 0.05) if random.random() < 0.2 else 0.0),
        machine_options=tuple(options.items()),
        faults=tuple(sorted(faults, key=lambda fault: fault.time)),
        calls=tuple(sorted(calls, key=lambda call: call.time)),
    )


def _moved(random: Random, call: Call, busy: list[tuple[tuple[int, ...], float, float, str]]) -> Call:
    """Most calls happen where they are wanted, each node there with clients of its own."""
    kind = "read" if call.kind in ("read", "stale") else "write"
    places = [place for place in busy if place[3] in ("", kind)]
    if not places or call.kind == "transfer" or random.random() < 0.3:
        return call
    nodes, begin, end, _ = places[below(random, len(places))]
    node = nodes[below(random, len(nodes))]
    time = int(between(random, max(begin, 0.0), end) * SECOND)
    return replace(call, time=time, node=node, client=100 * node + below(random, 4))
