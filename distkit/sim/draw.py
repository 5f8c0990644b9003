"""Scenarios from seeds: which faults, how often, at what size, what clients do. Each class of faults is on or off by
the seed.

`lite` is short: three nodes, records by reference. `swarm` is long: one to nine nodes, the codec, the log on a
byte-level disk, every fault. `idle` and `loaded` are for measuring.
"""

from __future__ import annotations

from random import Random
from typing import Final

from distkit.core import LocalError
from distkit.sim.chance import SECOND, below, between, chosen, log_between, stream
from distkit.sim.faults import LOSING
from distkit.sim.network import NetworkOptions
from distkit.sim.objects import KINDS
from distkit.sim.scenario import Call, ClockOptions, DiskOptions, Fault, Scenario

PROFILES: Final = ("lite", "swarm", "idle", "loaded")

#: Faults by class, with what each lasts (seconds) and the details it is drawn with.
_CLASSES: Final[dict[str, tuple[tuple[str, float, float, tuple[str, ...]], ...]]] = {
    "crash": (("crash", 0.1, 3.0, ("", "", "kill", "flushed", "written", "durable", "sent")),),
    "pause": (("pause", 0.05, 3.0, ("", "stale")),),
    "partition": (("isolate", 0.2, 3.0, ("", "", "in", "out")), ("cut", 0.2, 3.0, ("split", "ring", "bridge", "pair"))),
    "flap": (("cut", 0.05, 0.3, ("pair", "split")),),
    "clog": (("clog", 0.1, 2.0, ("",)),),
    "reset": (("reset", 0.0, 0.0, ("",)),),
    "clock": (("jump", 0.1, 5.0, ("",)),),
    "slow": (("slow", 0.5, 3.0, ("",)), ("stall", 0.2, 3.0, ("",))),
    "full": (("full", 0.5, 4.0, ("",)),),
    "error": (("error", 0.5, 2.0, ("",)), ("badsync", 0.5, 2.0, ("",))),
    "losing": (("rot", 0.0, 0.0, ("",)), ("misplace", 0.0, 0.0, ("",)), ("wipe", 0.0, 0.0, ("",))),
}
#: They need the disk of bytes.
_BYTES_ONLY: Final = ("error",)


def draw(seed: int, profile: str = "lite", machine: str = "raft") -> Scenario:
    """The scenario of a seed."""
    if profile not in PROFILES:
        raise LocalError(f"there is no profile {profile!r}; there are {', '.join(PROFILES)}")
    if profile == "idle":
        return Scenario(machine, seed, 5, 60.0)
    random = stream(seed, f"draw {profile}")
    if profile == "loaded":
        calls = _calls(random, 5, 20.0, 16, 4000, frozenset("rcln"), Scenario.sessions)
        return Scenario(machine, seed, 5, 20.0, calls=calls)
    return _swarm(random, seed, machine, lite=profile == "lite")


def _swarm(random: Random, seed: int, machine: str, lite: bool) -> Scenario:
    nodes = 3 if lite else 1 + below(random, 9)
    seconds = between(random, 4, 8) if lite else between(random, 10, 30)
    on = {name: random.random() < 0.5 for name in (*_CLASSES, "loss", "copy", "late", "old", "drift", "eager", "tiny")}
    faults = _faults(random, nodes, seconds, [name for name in _CLASSES if on[name]], by_bytes=not lite)
    sessions = random.random() < 0.5
    kinds = frozenset(kind for kind in KINDS if random.random() < 0.7) or frozenset("l")
    clients = 1 + below(random, 5)
    count = int(seconds * log_between(random, 4, 32 if lite else 64))
    return Scenario(
        machine,
        seed,
        nodes,
        seconds,
        by_bytes=not lite,
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
            bandwidth=0 if lite or random.random() < 0.7 else int(log_between(random, 200_000, 10_000_000)),
        ),
        disk=DiskOptions(
            delay_min=50_000,
            delay_mean=int(log_between(random, 100_000, 50_000_000)),
            segment_bytes=int(log_between(random, 1 << 14, 1 << 17)),
        ),
        clock=ClockOptions(
            drift=log_between(random, 0.0001, 0.05) if on["drift"] else 0.0,
            wall=between(random, 0, 100) if on["drift"] else 0.0,
            late=int(log_between(random, 1e6, 2e8)) if on["drift"] else 0,
        ),
        machine_options=_limits(random, on["tiny"]),
        faults=faults,
        calls=_calls(random, nodes, seconds, clients, count, kinds, sessions),
    )


def _limits(random: Random, tiny: bool) -> tuple[tuple[str, float], ...]:
    """Options of the replicas: tiny ones make every mechanism take part."""
    heartbeat = between(random, 0.03, 0.1)
    limits: dict[str, float] = {"heartbeat": heartbeat, "election_timeout": heartbeat * between(random, 3, 10)}
    limits["evidence_delay"] = 0.02
    limits["entries"] = int(log_between(random, 8, 400))
    limits["keep_entries"] = below(random, 3) * int(log_between(random, 2, 100))
    limits["fetch_timeout"] = between(random, 0.5, 3)
    limits["forward_timeout"] = between(random, 0.3, 3)
    if tiny:
        limits["inflight_messages_max"] = 1 + below(random, 3)
        limits["inflight_bytes_max"] = int(log_between(random, 64, 1 << 14))
        limits["append_bytes_max"] = int(log_between(random, 1, 1 << 12))
        limits["apply_entries_max"] = 1 + below(random, 8)
        limits["proposals_max"] = 2 + below(random, 8)
        limits["reads_max"] = 1 + below(random, 4)
        limits["log_bytes_max"] = int(log_between(random, 1 << 12, 1 << 16))
        limits["unapplied_bytes_max"] = int(log_between(random, 1 << 9, 1 << 14))
    return tuple(limits.items())


def _faults(random: Random, nodes: int, seconds: float, classes: list[str], by_bytes: bool) -> tuple[Fault, ...]:
    found: list[Fault] = []
    losing = (nodes - 1) // 2
    for name in classes:
        if name in _BYTES_ONLY and not by_bytes:
            continue
        count = int(log_between(random, 1, 8)) if name != "losing" else below(random, losing + 1)
        victims = list(range(1, nodes + 1))
        for _ in range(count):
            kind, low, high, details = _CLASSES[name][below(random, len(_CLASSES[name]))]
            time = int(between(random, 0.2, seconds * 0.9) * SECOND)
            # A third of them looks for the leader.
            node = 0 if random.random() < 0.33 else 1 + below(random, nodes)
            detail = details[below(random, len(details))]
            if kind == "cut":
                detail = _links(random, nodes, detail)
            if kind in LOSING:
                if not by_bytes and kind != "wipe":
                    continue
                node = victims.pop(below(random, len(victims)))
            length = log_between(random, low, high) if high else 0.0
            found.append(Fault(time, kind, node, length, detail))
    return tuple(sorted(found, key=lambda fault: fault.time))


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


def _calls(
    random: Random, nodes: int, seconds: float, clients: int, count: int, kinds: frozenset[str], sessions: bool
) -> tuple[Call, ...]:
    """What clients do: some keys of each kind, in bursts and quiet times. Values are unique."""
    keys = [f"{kind}{number}" for kind in sorted(kinds) for number in range(1 + below(random, 3))]
    reads = between(random, 0.1, 0.6)
    elsewhere = between(random, 0.0, 1.0)
    times = _times(random, seconds, count)
    calls: list[Call] = []
    written: dict[str, list[int]] = {}
    for number, time in enumerate(times, 1):
        client = 1 + below(random, clients)
        # Most clients stay with their node, some are everywhere.
        node = 1 + (below(random, nodes) if random.random() < elsewhere else (client - 1) % nodes)
        key = keys[below(random, len(keys))]
        if random.random() < 0.004:
            calls.append(Call(time, client, 1 + below(random, nodes), "transfer", "", 0))
            continue
        if key[0] not in "qm" and random.random() < reads:
            kind = "stale" if random.random() < 0.05 and key[0] == "l" else "read"
            calls.append(Call(time, client, node, kind, key, 0))
            continue
        kind = chosen(random, KINDS[key[0]])
        value = number
        if kind == "cas":
            known = written.get(key) or [0]
            value = number << 32 | known[below(random, len(known))]
        if kind in ("write", "cas"):
            written[key] = [*written.get(key, [])[-2:], number]
        calls.append(Call(time, client, node, kind, key, value))
    return tuple(calls)


def _times(random: Random, seconds: float, count: int) -> list[int]:
    """Times of calls: evenly, or in bursts with quiet between them."""
    if random.random() < 0.6:
        times = [between(random, 0.1, seconds) for _ in range(count)]
    else:
        bursts = 1 + below(random, 5)
        starts = [between(random, 0.1, seconds) for _ in range(bursts)]
        times = [starts[below(random, bursts)] + random.random() * 0.3 for _ in range(count)]
    return sorted(int(min(time, seconds) * SECOND) for time in times)
