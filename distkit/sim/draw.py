"""Scenarios from seeds: which faults, how often, at what size, what clients do. Each class of faults is on or off by
the seed.

`lite` is short: three nodes, records by reference; `five` is the same with five nodes. `swarm` is long: one to nine
nodes, the codec, the log on a byte-level disk, every fault. `hunt` aims them, see `distkit.sim.hunt`. `idle` and
`loaded` are for measuring.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Final

from distkit.core import LocalError
from distkit.sim.chance import SECOND, below, between, log_between, stream
from distkit.sim.faults import LOSING
from distkit.sim.hunt import hunted
from distkit.sim.network import NetworkOptions
from distkit.sim.scenario import Call, ClockOptions, DiskOptions, Fault, Scenario
from distkit.sim.systems import System
from distkit.sim.workload import Workload

PROFILES: Final = ("lite", "five", "swarm", "hunt", "idle", "loaded")
#: Calls a second that one client has time for.
_CALLS_OF_A_CLIENT: Final = 4
#: Nodes of the short ones.
_SHORT: Final = {"lite": 3, "five": 5}

#: Faults by class, with what each lasts (seconds) and the details it is drawn with.
_CLASSES: Final[dict[str, tuple[tuple[str, float, float, tuple[str, ...]], ...]]] = {
    "crash": (("crash", 0.01, 3.0, ("", "", "kill", "flushed", "written", "durable", "sent", "boot")),),
    "pause": (("pause", 0.05, 3.0, ("", "stale")),),
    "partition": (
        ("isolate", 0.2, 3.0, ("", "", "in", "out", "two")),
        ("cut", 0.2, 3.0, ("split", "ring", "bridge", "pair")),
    ),
    "flap": (("cut", 0.05, 0.3, ("pair", "split")),),
    "clog": (("clog", 0.1, 2.0, ("",)),),
    "reset": (("reset", 0.0, 0.0, ("",)),),
    "clock": (("jump", 0.1, 5.0, ("",)),),
    "slow": (("slow", 0.5, 3.0, ("",)), ("stall", 0.2, 3.0, ("",))),
    "full": (("full", 0.5, 4.0, ("",)),),
    "error": (("error", 0.5, 2.0, ("",)), ("badsync", 0.5, 2.0, ("",))),
    "losing": (
        ("rot", 0.0, 0.0, ("",)),
        ("misplace", 0.0, 0.0, ("",)),
        ("misdirect", 0.0, 0.0, ("",)),
        ("wipe", 0.0, 0.0, ("",)),
    ),
}
#: They need the disk of bytes.
_WAL_ONLY: Final = ("error", "rot", "misplace", "misdirect")
#: How often leaders fall in a row (seconds) where the machine has no elections.
_TIMEOUT: Final = 0.3
#: What comes upon a node that lags, besides a crash at one of these points.
_BLOWS: Final = (("crash", "kill"), ("crash", ""), ("pause", ""), ("isolate", ""), ("full", ""))
_POINTS: Final = ("fetching", "fetching", "fetched", "loading", "giving")
#: Classes of blows that come in a row, see `_churn` and `_storm`.
_SERIES: Final = ("churn", "storm")


def draw(seed: int, profile: str, machine: str, system: System) -> Scenario:
    """The scenario of a seed, for nodes of a system and with the calls of its workload."""
    if profile not in PROFILES:
        raise LocalError(f"there is no profile {profile!r}; there are {', '.join(PROFILES)}")
    if profile == "idle":
        return Scenario(machine, seed, 5, 60.0)
    random = stream(seed, f"draw {profile}")
    if profile == "hunt":
        plots = getattr(system, "plots", ())
        if not plots:
            raise LocalError(f"there are no plots for {machine!r}: the profile hunt aims at replicas so far")
        return hunted(random, seed, machine, system, plots)
    workload = system.workload()
    if profile == "loaded":
        return Scenario(machine, seed, 5, 20.0, calls=_quick(random, workload))
    scenario = _swarm(random, seed, machine, system, _SHORT.get(profile, 0))
    clients = 1 + below(random, 5)
    aside = stream(seed, f"draw {profile} lag")
    if aside.random() < 0.3 and scenario.nodes > 1:
        scenario = _lagging(aside, scenario)
    rate = log_between(random, 4, 64)
    crowd = stream(seed, f"draw {profile} crowd")
    # A client with more to do than this would not come to the end of it.
    clients = 12 + below(crowd, 9) if crowd.random() < 0.25 else max(clients, int(rate / _CALLS_OF_A_CLIENT))
    calls = workload.calls(random, scenario.nodes, scenario.seconds, clients, int(scenario.seconds * rate))
    return system.aim(random, replace(scenario, calls=calls))


def _quick(random: Random, workload: Workload) -> tuple[Call, ...]:
    """Calls without queues and mutexes, whose long histories cost the checker more than the run costs."""
    calls: list[Call] = []
    for _ in range(20):
        calls += [call for call in workload.calls(random, 5, 20.0, 16, 1000) if not call.key.startswith(("q", "m"))]
    return tuple(sorted(calls[:4000], key=lambda call: call.time))


def _swarm(random: Random, seed: int, machine: str, system: System, short: int) -> Scenario:
    lite = short > 0
    nodes = short or 1 + below(random, 9)
    seconds = between(random, 4, 8) if lite else between(random, 10, 30)
    # In many runs little is amiss: where all is, nothing gets far enough to go wrong.
    share = (0.2, 0.4, 0.6)[below(random, 3)]
    on = {name: random.random() < share for name in (*_CLASSES, "loss", "copy", "late", "old")}
    on |= {name: random.random() < 0.5 for name in (*_SERIES, "drift", "eager", "tiny")}
    options = system.options(random, on["tiny"])
    timeout = dict(options).get("election_timeout", _TIMEOUT)
    faults = _faults(random, nodes, seconds, [name for name in _CLASSES if on[name]], wal=not lite)
    if on["churn"]:
        faults += _churn(random, seconds, timeout)
    if on["storm"]:
        faults += _storm(random, nodes, seconds)
    sessions = random.random() < 0.5
    return Scenario(
        machine,
        seed,
        nodes,
        seconds,
        by_bytes=not lite,
        wal=not lite,
        eager=between(random, 0.1, 0.9) if on["eager"] else 1.0,
        sessions=sessions,
        network=NetworkOptions(
            delay_min=int(log_between(random, 20_000, 2_000_000)),
            delay_mean=int(log_between(random, 50_000, 20_000_000)),
            loss=log_between(random, 0.003, 0.2) if on["loss"] else 0.0,
            copy=log_between(random, 0.003, 0.2) if on["copy"] else 0.0,
            late=log_between(random, 0.003, 0.2) if on["late"] else 0.0,
            late_mean=int(log_between(random, 5e6, 1e9)),
            old=log_between(random, 0.001, 0.05) if on["old"] else 0.0,
            flip=log_between(random, 0.001, 0.02) if on["late"] and not lite else 0.0,
            bandwidth=0 if lite or random.random() < 0.7 else int(log_between(random, 200_000, 10_000_000)),
        ),
        disk=DiskOptions(
            delay_min=50_000,
            delay_mean=int(log_between(random, 100_000, 50_000_000)),
            segment_bytes=int(log_between(random, 1 << 14, 1 << 17)),
        ),
        clock=ClockOptions(
            drift=log_between(random, 0.004, 0.5) if on["drift"] else 0.0,
            wall=between(random, 0, 100) if on["drift"] else 0.0,
            late=int(log_between(random, 1e6, 2e8)) if on["drift"] else 0,
        ),
        machine_options=options,
        faults=tuple(sorted(faults, key=lambda fault: fault.time)),
    )


def aimed(random: Random, scenario: Scenario) -> Scenario:
    """Calls of replicas, and the limits of sessions, where they matter."""
    return _in_sessions(random, _amiss(random, scenario))


def _amiss(random: Random, scenario: Scenario) -> Scenario:
    """In most runs everybody uses one key while something is amiss, and readers look at it on all nodes: wrong
    answers are given for a moment only, by a leader that does not know that it was deposed or by one that is new."""
    faults = [fault for fault in scenario.faults if fault.kind in ("isolate", "cut", "crash", "pause")]
    reads = [call for call in scenario.calls if call.kind == "read"]
    if not faults or not reads or random.random() < 0.3:
        return scenario
    moments = [faults[below(random, len(faults))].time for _ in range(1 + below(random, 4))]
    timeout = dict(scenario.machine_options)["election_timeout"] * SECOND
    look = reads[below(random, len(reads))]

    def moved(call: Call) -> Call:
        time = moments[below(random, len(moments))] + int(between(random, 0.5, 2.5) * timeout)
        return replace(call, time=min(time, int(scenario.seconds * SECOND)))

    found = [moved(call) if call.key == look.key or random.random() < 0.3 else call for call in scenario.calls]
    for node in range(1, scenario.nodes + 1):
        for _ in range(5 * len(moments)):
            found.append(replace(moved(look), client=100 * node + below(random, 8), node=node))
    return replace(scenario, calls=tuple(sorted(found, key=lambda call: call.time)))


def _in_sessions(random: Random, scenario: Scenario) -> Scenario:
    """In many runs clients have several calls under way; sessions are closed, and evicted because few have room, with
    what clients still wait for."""
    if random.random() < 0.5:
        scenario = replace(scenario, in_flight=2 + below(random, 3))
    if not scenario.sessions:
        return scenario
    options = dict(scenario.machine_options)
    if random.random() < 0.3:
        options["sessions_max"] = 2 + below(random, 8)
    if random.random() < 0.3:
        options["answers_max"] = 1 + below(random, 4)
    if random.random() < 0.3:
        one, result = int(log_between(random, 64, 1 << 11)), int(log_between(random, 8, 1 << 11))
        # As with the limits that ship, all may take what one session may, the two answers that can go over included.
        every = one + 2 * (result + 64) + int(log_between(random, 1, 1 << 12))
        options |= {"session_bytes_max": one, "result_bytes_max": result, "bytes_max": every}
    closing = log_between(random, 0.002, 0.05)
    calls = [*scenario.calls]
    calls += [Call(call.time, call.client, call.node, "close", "", 0) for call in calls if random.random() < closing]
    calls.sort(key=lambda call: call.time)
    return replace(scenario, machine_options=tuple(options.items()), calls=tuple(calls))


def limits(random: Random, tiny: bool) -> tuple[tuple[str, float], ...]:
    """Options of the replicas: tiny ones make every mechanism take part."""
    heartbeat = between(random, 0.03, 0.1)
    found: dict[str, float] = {"heartbeat": heartbeat, "election_timeout": heartbeat * between(random, 3, 10)}
    found["evidence_delay"] = 0.02
    found["entries"] = int(log_between(random, 8, 400))
    found["keep_entries"] = below(random, 3) * int(log_between(random, 2, 100))
    found["fetch_timeout"] = between(random, 0.5, 3)
    found["forward_timeout"] = between(random, 0.3, 3)
    if tiny:
        found["inflight_messages_max"] = 1 + below(random, 3)
        found["inflight_bytes_max"] = int(log_between(random, 64, 1 << 14))
        found["append_bytes_max"] = int(log_between(random, 1, 1 << 12))
        found["apply_entries_max"] = 1 + below(random, 8)
        found["proposals_max"] = 2 + below(random, 8)
        found["reads_max"] = 1 + below(random, 4)
        found["log_bytes_max"] = int(log_between(random, 1 << 12, 1 << 16))
        found["unapplied_bytes_max"] = int(log_between(random, 1 << 9, 1 << 14))
    return tuple(found.items())


def _faults(random: Random, nodes: int, seconds: float, classes: list[str], wal: bool) -> list[Fault]:
    found: list[Fault] = []
    losing = (nodes - 1) // 2
    for name in classes:
        choices = [each for each in _CLASSES[name] if wal or not {name, each[0]} & {*_WAL_ONLY}]
        if not choices:
            continue
        count = int(log_between(random, 1, 8)) if name != "losing" else below(random, losing + 1)
        victims = list(range(1, nodes + 1))
        for _ in range(count):
            kind, low, high, details = choices[below(random, len(choices))]
            time = int(between(random, 0.2, seconds * 0.9) * SECOND)
            # A third of them looks for the leader.
            node = 0 if random.random() < 0.33 else 1 + below(random, nodes)
            detail = details[below(random, len(details))]
            if kind == "cut":
                detail = _links(random, nodes, detail)
            if kind in LOSING:
                node = victims.pop(below(random, len(victims)))
            length = log_between(random, low, high) if high else 0.0
            found.append(Fault(time, kind, node, length, detail))
    return found


def _churn(random: Random, seconds: float, timeout: float) -> list[Fault]:
    """One leader after the other is cut off or dies, for about as long as it takes to elect another: logs part, what
    was appended last was seen by few, and for a moment there are two leaders."""
    time = between(random, 0.2, seconds * 0.5)
    faults = []
    for _ in range(3 + below(random, 8)):
        kind, detail, length = "crash", "kill", timeout * between(random, 0.5, 4.0)
        fate = random.random()
        if fate < 0.8:
            kind, detail = "isolate", ("", "", "in", "two", "two")[below(random, 5)]
        faults.append(Fault(int(time * SECOND), kind, 0, length, detail))
        if fate < 0.4:  # cut off and paused: it wakes up long after another was elected, and has heard nothing of it
            faults.append(Fault(int(time * SECOND), "pause", 0, length * between(random, 0.5, 1.0), "stale"))
        time += timeout * between(random, 0.5, 5.0)
    return faults


def _storm(random: Random, nodes: int, seconds: float) -> list[Fault]:
    """The leader dies, everybody sees it and campaigns at once, and voters restart within the election."""
    faults = []
    for _ in range(1 + below(random, 6)):
        time = between(random, 0.2, seconds * 0.9)
        faults.append(Fault(int(time * SECOND), "crash", 0, between(random, 0.05, 1.0), "kill"))
        width = log_between(random, 0.005, 0.3)
        for _ in range(1 + below(random, 2 * nodes)):
            blow = int((time + random.random() * width) * SECOND)
            detail = ("", "kill", "sent")[below(random, 3)]
            faults.append(Fault(blow, "crash", 1 + below(random, nodes), log_between(random, 0.0005, 0.05), detail))
    return faults


def _lagging(random: Random, scenario: Scenario) -> Scenario:
    """A node misses so much that it needs a snapshot, again and again, and while it gets one more goes wrong with it,
    with the leader, or with anybody."""
    nodes, seconds = scenario.nodes, scenario.seconds
    options = dict(scenario.machine_options)
    options |= {"entries": 4 + below(random, 12), "keep_entries": 0} if "entries" in options else {}
    faults = list(scenario.faults)
    time = between(random, 0.2, 1.0)
    while time < seconds * 0.9:
        node, length = 1 + below(random, nodes), between(random, 0.4, 1.5)
        kind, detail = (("isolate", ""), ("crash", "kill"))[below(random, 2)]
        faults.append(Fault(int(time * SECOND), kind, node, length, detail))
        time += length
        if random.random() < 0.7:
            point = _POINTS[below(random, len(_POINTS))]
            dies = 0 if point == "giving" else node
            faults.append(Fault(int((time + 0.001) * SECOND), "crash", dies, between(random, 0.5, 1.5), point))
        for _ in range(below(random, 4)):
            kind, detail = _BLOWS[below(random, len(_BLOWS))]
            victim = (node, node, 0, 1 + below(random, nodes))[below(random, 4)]
            moment = time + log_between(random, 0.02, 0.6)
            faults.append(Fault(int(moment * SECOND), kind, victim, log_between(random, 0.01, 0.8), detail))
        time += between(random, 0.3, 2.0)
    faults.sort(key=lambda fault: fault.time)
    return replace(scenario, machine_options=tuple(options.items()), faults=tuple(faults))


def _links(random: Random, nodes: int, shape: str) -> str:
    """The links of a partition."""
    order = sorted(range(1, nodes + 1), key=lambda _: random.random())
    cut: list[tuple[int, int]] = []
    if shape == "pair" and nodes > 1:
        one, two = order[:2]
        cut = [(one, two)] if random.random() < 0.5 else [(one, two), (two, one)]
    elif shape == "split":
        side = order[: 1 + below(random, max(1, nodes - 1))]
        cut = [(one, two) for one in side for two in order if two not in side]
        cut += [(two, one) for one, two in cut]
    elif shape == "bridge":  # two halves that one node still talks to
        middle = order[nodes // 2]
        half = order[: nodes // 2]
        cut = [(one, two) for one in half for two in order[nodes // 2 + 1 :] if middle not in (one, two)]
        cut += [(two, one) for one, two in cut]
    else:  # a ring: each sees a majority, no two the same
        reach = nodes // 4 + 1
        for place, one in enumerate(order):
            near = {order[(place + step) % nodes] for step in range(-reach, reach + 1)}
            cut += [(one, two) for two in order if two not in near]
    return " ".join(f"{one}>{two}" for one, two in cut)
