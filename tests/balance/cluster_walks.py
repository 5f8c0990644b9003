"""Scripts for a cluster, acted out and watched: what must hold after every step, and a trace to compare.

A script is plain data (JSON), so that another process, with the other kernels, can act it out too; started as a program
this reads scripts from standard input, one a line, and answers each with its trace.
"""

import json
import math
import random
import sys
from array import array
from collections import Counter
from typing import Any

from distkit.balance import (
    DROPPED,
    NO_ENDPOINT,
    SATURATED,
    Cluster,
    ClusterOptions,
    Context,
    Endpoint,
    Gate,
    Outcome,
    policies,
)
from distkit.balance.checks import CheckOptions
from distkit.balance.events import Checked, Ejected, PanicOff, PanicOn, Probe, Restored
from distkit.balance.outliers import OutlierOptions
from distkit.balance.reports import LoadReport, ReportOptions
from distkit.balance.routing import ZoneOptions
from distkit.balance.slow_start import SlowStart

OUTLIERS = OutlierOptions(
    interval=5.0, base=4.0, max=9.0, jitter=1.0, max_ejected_percent=60, consecutive_errors=2, success_rate_hosts=2,
    success_rate_requests=2, success_rate_factor=0.5, failure_hosts=1, failure_requests=2, enforcing_failures=80,
    latency_hosts=2, latency_requests=1, enforcing_latency=100,
)  # fmt: skip
CHECKS = CheckOptions(interval=2.0, rise=1, fall=2, spread=1.0, idle_after=20.0)
SETS: list[dict[str, Any]] = [
    {},
    {"outliers": OUTLIERS, "slow_start": SlowStart(10.0, 2.0)},
    {"checks": CHECKS, "panic_threshold": 0},
    {"concurrency_max": 6, "drop": 0.1, "subset_tags": ("v",)},
    {"zones": ZoneOptions(own="z0", clients={"z0": 3, "z1": 2, "z2": 1}, endpoints_min=1)},
    {"zones": ZoneOptions(weights={"z0": 2.0, "z1": 1.0, "z2": 0.5})},
    {"reports": ReportOptions(blackout=1.0, expiry=20.0), "slow_start": SlowStart(5.0)},
    {"subset_size": 3, "panic_threshold": 0},
    {"outliers": OUTLIERS, "checks": CHECKS, "reports": ReportOptions(blackout=1.0), "slow_start": SlowStart(5.0),
     "concurrency_max": 8, "subset_tags": ("v",), "zones": ZoneOptions(weights={"z0": 1.0, "z1": 1.0, "z2": 1.0})},
]  # fmt: skip
OPTIONS = {"maglev": {"size": 251}, "anchor": {"capacity": 16}}
CLOSED = Gate(511) & ~(Gate.DEGRADED | Gate.SATURATED)
GATES = (Gate.SUSPECT, Gate.DEAD, Gate.BREAKER_OPEN, Gate.DEGRADED, Gate.DRAINED)


def endpoint(number: int, look: int) -> Endpoint:
    """One of eight endpoints, in one of many looks."""
    return Endpoint(
        f"e{number}",
        f"10.0.0.{number}:80",
        weight=(1.0, 3.0, 0.25, None, 0.0, 7.0)[look % 6],
        priority=(0, 0, 1)[look // 6 % 3] if number > 3 else 0,
        locality=f"z{number % 3}",
        tags={"v": str(number % 2)},
        concurrency_max=(0, 2, 1)[look // 18 % 3],
    )


class Walk:
    """One cluster that acts out a script. `split` picks one by one where the script says many."""

    def __init__(self, script: dict[str, Any], split: bool = False) -> None:
        name = script["policy"]
        bound = {"bound": script["bound"]} if policies.POLICIES[name].by_hash else {}
        policy = policies.named(name, **OPTIONS.get(name, {}), **bound)
        self.options = ClusterOptions(policy=policy, **SETS[script["set"]])
        self.cluster = Cluster(self.options, random.Random(script["seed"]))
        self.script, self.split = script, split
        self.now = self.latest = 0.0
        self.members: dict[str, Endpoint] = {}
        self.gates: dict[tuple[str, Gate], bool] = {}
        self.outstanding: list[tuple[int, str]] = []  # handle, id
        self.ended: list[int] = []
        self.probes: list[int] = []
        self.probe_ids: set[int] = set()
        self.panic: set[int] = set()
        self.out: set[str] = set()
        self.known: set[str] = set()
        self.picks = self.stale = 0

    def run(self) -> list[Any]:
        """The trace: what each step gave, and when the next tick was due after it."""
        trace = []
        for wait, verb, *arguments in self.script["steps"]:
            self.now += wait
            result = getattr(self, verb)(*arguments)
            self.latest = max(self.latest, self.now)
            self.check()
            trace.append([verb, result, repr(self.cluster.deadline())])
        trace.append([repr(row) for row in self.cluster.status().endpoints])
        return trace

    # -- steps ---------------------------------------------------------------------------------------------------------

    def update(self, looks: list[list[int]]) -> Any:
        given = {each.id: each for each in (endpoint(number, look) for number, look in looks)}
        diff = self.cluster.update(given.values(), self.now)
        assert set(diff.added) == given.keys() - self.members.keys()
        assert set(diff.removed) == self.members.keys() - given.keys()
        same = given.keys() & self.members.keys()
        assert set(diff.changed) == {id for id in same if given[id] != self.members[id]}
        self.gates = {key: closed for key, closed in self.gates.items() if key[0] in same}
        self.members = given
        self.known |= given.keys()
        return [diff.added, diff.removed, diff.changed]

    def pick(self, key: int | None, exclude: list[int], override: int | None, attempt: int, more: int) -> int:
        shut: list[int | str] = [f"e{number}" if number < 8 else self.some_handle(number) for number in exclude]
        context = Context(
            key=key,
            exclude=tuple(each for each in shut if each != -1),
            override=None if override is None else f"e{override}",
            priority=(None, 0, 1)[more % 3],
            subset={"v": str(more % 2)} if more > 2 and self.options.subset_tags else {},
            attempt=attempt,
        )
        plain = key is None and not (exclude or attempt or more or override is not None)
        return self.picked(lambda: self.cluster.pick(None if plain else context, self.now), context)

    def some_handle(self, number: int) -> int:
        return self.outstanding[number % len(self.outstanding)][0] if self.outstanding else -1

    def many(self, count: int, keys: list[int] | None) -> list[int]:
        if self.split:
            each = keys if keys is not None else [None] * count
            return [self.picked(lambda k=k: self.cluster.pick(Context(key=k), self.now), None) for k in each]
        wanted = len(keys) if keys is not None else count
        out = array("q", [99]) * wanted
        hashes = array("Q", keys) if keys is not None else count
        assert self.cluster.pick_many(hashes, out, self.now) == wanted
        for handle in out:
            self.charge(handle)
        return out.tolist()

    def done(self, which: int, outcome: int, latency: float, report: bool) -> bool | None:
        if not self.outstanding:
            return None
        handle, id = self.outstanding.pop(which % len(self.outstanding))
        says = LoadReport(rps=10.0 + which, application=0.5) if report else None
        alive = self.cluster.done(handle, Outcome(outcome), latency, self.now, says)
        assert alive == (id in self.members)
        self.stale += not alive
        self.ended.append(handle)
        return alive

    def again(self, which: int) -> bool | None:
        """A handle that was done before, and is not what another request has."""
        ended = [handle for handle in self.ended if handle not in {other for other, _ in self.outstanding}]
        if not ended:
            return None
        self.stale += 1
        assert not self.cluster.done(ended[which % len(ended)], Outcome.OK, 0.1, self.now)
        return False

    def gate(self, number: int, which: int, closed: bool) -> None:
        if f"e{number}" in self.members:
            self.cluster.set_gate(f"e{number}", GATES[which], closed, self.now)
            self.gates[f"e{number}", GATES[which]] = closed

    def tick(self) -> list[str]:
        self.cluster.tick(self.now)
        told = self.listen()
        if self.now >= self.latest:
            assert self.cluster.deadline() > self.now
        return told

    def listen(self) -> list[str]:
        events = self.cluster.events()
        for event in events:
            match event:
                case Probe(id, probe_id, kind):
                    assert id in self.known
                    assert kind in ("check", "load")
                    assert probe_id not in self.probe_ids
                    self.probe_ids.add(probe_id)
                    self.probes.append(probe_id)
                case Ejected(id, cause, until):
                    assert cause
                    assert self.latest <= until < math.inf
                    self.out.add(id)
                case Restored(id):
                    assert id in self.out
                    self.out.discard(id)
                case Checked(id, healthy):
                    assert id in self.known
                    assert isinstance(healthy, bool)
                case PanicOn(priority):
                    assert priority not in self.panic
                    self.panic.add(priority)
                case PanicOff(priority):
                    assert priority in self.panic
                    self.panic.discard(priority)
        assert self.cluster.events() == []
        assert self.panic == set(self.cluster.status().panic)
        return [repr(event) for event in events]

    def probed(self, which: int, outcome: int, in_flight: int, latency: float) -> None:
        if self.probes:
            probe_id = self.probes.pop(which % len(self.probes))
            self.cluster.probed(probe_id, Outcome(outcome), in_flight, latency, self.now)

    def limit(self, bound: int) -> None:
        self.cluster.concurrency_max = bound

    # -- what must hold ------------------------------------------------------------------------------------------------

    def charge(self, handle: int) -> None:
        assert handle >= 0 or handle in (NO_ENDPOINT, SATURATED, DROPPED)
        if handle >= 0:
            self.outstanding.append((handle, self.cluster.endpoint(handle).id))
            self.picks += 1

    def picked(self, call: Any, context: Context | None) -> int:
        """One pick, which must be one of those that may be taken: it is nobody only if there is none."""
        context = context or Context()
        status = self.cluster.status()
        handles = {handle for handle in context.exclude if isinstance(handle, int)}
        barred = {id for id in context.exclude if isinstance(id, str)}
        barred |= {id for handle, id in self.outstanding if handle in handles}
        able, full = set(), set()
        for row in status.endpoints:
            mask = Gate.DRAINED | Gate.OUT_OF_SUBSET if row.priority in status.panic else CLOSED
            given = self.members[row.id]
            # Stickiness goes before a wish for a priority, but not before tags.
            wrong = (context.priority not in (None, row.priority) and context.override != row.id) or any(
                dict(given.tags).get(name) != value for name, value in dict(context.subset).items()
            )
            if not (row.gate & mask or row.id in barred or wrong):
                (full if 0 < given.concurrency_max <= row.in_flight else able).add(row.id)
        limit = self.cluster.concurrency_max
        handle: int = call()
        self.charge(handle)
        if handle >= 0:
            chosen = self.outstanding[-1][1]
            assert chosen in able
            assert not limit or status.in_flight < limit
            if context.override in able:
                assert chosen == context.override
        elif handle == DROPPED:
            assert self.options.drop
        elif limit and status.in_flight >= limit:
            assert handle == SATURATED
        elif not self.options.zones and len({row.priority for row in status.endpoints}) <= 1:
            assert not able
            # Whose limit is in the way is not looked into: anybody at its limit may be taken for the reason.
            at_limit = any(row.gate & Gate.SATURATED for row in status.endpoints)
            assert handle == SATURATED if full else handle == NO_ENDPOINT or at_limit
        return handle

    def check(self) -> None:
        status = self.cluster.status()
        active = Counter(id for _, id in self.outstanding)
        assert status.in_flight == len(self.outstanding)
        assert {row.id: row.in_flight for row in status.endpoints} == {id: active[id] for id in self.members}
        assert status.draining == sum(active[id] for id in active.keys() - self.members.keys())
        assert (status.stale, status.picks) == (self.stale, self.picks)
        assert not status.loads or sum(status.loads.values()) == 100
        assert [row.id for row in status.endpoints] == list(self.members)
        for row in status.endpoints:
            given = self.members[row.id]
            assert (row.address, row.priority, row.locality) == (given.address, given.priority, given.locality)
            assert row.weight >= 0
            assert math.isfinite(row.weight)
            assert (given.weight != 0) or Gate.DRAINED & row.gate
            full = 0 < given.concurrency_max <= row.in_flight
            assert bool(row.gate & Gate.SATURATED) == full
        for (id, gate), closed in self.gates.items():
            shown = next(row.gate for row in status.endpoints if row.id == id)
            if gate is not Gate.DRAINED or closed:
                assert bool(shown & gate) == closed


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(Walk(json.loads(line)).run()), flush=True)


if __name__ == "__main__":
    main()
