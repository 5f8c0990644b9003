"""What do orders of consistent hashing cost to make and to ask, beside uhashring in the same run?

hashing_build   milliseconds to make an order of 1,000 endpoints from their keys
hashing_lookup  nanoseconds to look up a hash from Python, one call each, the loop around it included
hashing_pick    nanoseconds to pick under a bound on load and to end it again, with a request in flight at each

All cases take turns, so that a slow moment of the machine meets all of them, and the best turn counts. `goal` is what
was aimed at. uhashring is asked with a key, which it hashes itself, so compare it with the case that hashes one too
(`+ xxh64`); it is left out if it is not installed (pip install uhashring).

    python benchmarks/hashing.py [--rounds 7] [--json]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from math import inf
from random import Random
from typing import Any

import distkit
from distkit._fast.bounded import ENVOY, EXACT, HAPROXY, Bounded
from distkit._fast.hashing import Maglev, Order, Ring, xxh64
from distkit._fast.tableless import Anchor, Jump, MultiProbe, Rendezvous

#: Takes (name, value, unit, params).
Show = Callable[[str, float, str, dict[str, object]], None]

KEYS = [b"10.0.%d.%d:8080" % divmod(number, 250) for number in range(1000)]
WEIGHTS = [1 + number % 5 for number in range(1000)]
RANDOM = Random(1)
HASHES = [RANDOM.getrandbits(64) for _ in range(5000)]
REQUESTS = [b"/users/%d" % number for number in range(5000)]


@dataclass
class Case:
    """One question: seconds of `run`, divided by the calls that it makes."""

    name: str
    case: str
    run: Callable[[], object]
    unit: str
    calls: int = 1
    goal: float | None = None
    best: float = inf

    def turn(self) -> None:
        """Run it once."""
        began = time.perf_counter()
        self.run()
        self.best = min(self.best, (time.perf_counter() - began) / self.calls)


def asked(call: Callable[[Any], object], values: Iterable[Any]) -> Callable[[], object]:
    """Call it with each."""

    def run() -> None:
        for value in values:
            call(value)

    return run


def builds() -> list[Case]:
    """What orders cost to make."""

    def case(name: str, run: Callable[[], object], goal: float | None = None) -> Case:
        return Case("hashing_build", name, run, "ms", goal=goal)

    return [
        case("Maglev 65537", lambda: Maglev(KEYS), 2.0),
        case("Maglev 65537, weights 1 to 5", lambda: Maglev(KEYS, WEIGHTS), 2.0),
        case("Maglev 655373", lambda: Maglev(KEYS, size=655373)),
        case("Ring.envoy, 160 points each", lambda: Ring.envoy(KEYS, size_min=160_000), 20.0),
        case("Ring.envoy, murmur2", lambda: Ring.envoy(KEYS, size_min=160_000, function="murmur2"), 20.0),
        case("Ring.ketama, 160 points each", lambda: Ring.ketama(KEYS)),
        case("Ring.nginx, 160 points each", lambda: Ring.nginx(KEYS), 20.0),
        case("Rendezvous", lambda: Rendezvous(KEYS)),
        case("MultiProbe", lambda: MultiProbe(KEYS)),
        case("Anchor of 2,000", lambda: Anchor(2000, 1000)),
    ]


def lookups() -> list[Case]:
    """What a lookup costs, with and without the hash of a key."""
    anchor = Anchor(1100, 1100)
    for bucket in range(0, 1100, 11):
        anchor.remove(bucket)
    orders: list[tuple[str, Order, float | None]] = [
        ("Maglev", Maglev(KEYS), 100.0),
        ("Ring.envoy", Ring.envoy(KEYS, size_min=160_000), 100.0),
        ("Ring.nginx", Ring.nginx(KEYS), 100.0),
        ("Jump", Jump(1000), 150.0),
        ("Anchor, 9 % removed", anchor, 100.0),
        ("MultiProbe, 21", MultiProbe(KEYS), None),
        ("Rendezvous", Rendezvous(KEYS), None),
        ("Rendezvous, weights 1 to 5", Rendezvous(KEYS, WEIGHTS), None),
    ]
    cases = [
        Case("hashing_lookup", name, asked(order.lookup, HASHES), "ns", len(HASHES), goal)
        for name, order, goal in orders
    ]
    lookup = orders[1][1].lookup
    by_key = asked(lambda key: lookup(xxh64(key)), REQUESTS)
    return [*cases, Case("hashing_lookup", "Ring.envoy + xxh64", by_key, "ns", len(REQUESTS))]


def picks() -> list[Case]:
    """What a pick under a bound costs."""
    cases = []
    for name, rule in (("exact", EXACT), ("HAProxy", HAPROXY), ("Envoy", ENVOY)):
        balancer = Bounded(Maglev(KEYS), rule=rule)
        for hashed in HASHES[:1000]:
            balancer.pick(hashed)

        def pick(hashed: int, balancer: Bounded = balancer) -> None:
            balancer.done(balancer.pick(hashed))

        cases.append(Case("hashing_pick", f"Maglev, {name}", asked(pick, HASHES), "ns", len(HASHES)))
    return cases


def peers() -> list[Case]:
    """uhashring, if it is installed."""
    if not find_spec("uhashring"):
        return []
    hash_ring = import_module("uhashring").HashRing
    nodes = [key.decode() for key in KEYS]
    requests = [key.decode() for key in REQUESTS]
    cases = []
    for name, options in (("uhashring", {}), ("uhashring, ketama", {"hash_fn": "ketama"})):
        get = hash_ring(nodes, **options).get_node
        cases.append(Case("hashing_build", name, partial(hash_ring, nodes, **options), "ms"))
        cases.append(Case("hashing_lookup", name, asked(get, requests), "ns", len(requests)))
    return cases


def as_text(name: str, value: float, unit: str, params: dict[str, object]) -> None:
    """One line for people."""
    goal = params.get("goal")
    print(f"{name:<16}{params['case']!s:<32}{value:>12,.2f} {unit}" + (f"   goal {goal}" if goal else ""))


def as_json(name: str, value: float, unit: str, params: dict[str, object]) -> None:
    """One line for machines."""
    print(json.dumps({"name": name, "value": value, "unit": unit, "params": params}))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each case")
    parser.add_argument("--json", action="store_true", help="JSON lines")
    arguments = parser.parse_args()
    show: Show = as_json if arguments.json else as_text
    about = {"python": platform.python_version(), "compiled": distkit.COMPILED, "machine": platform.machine()}
    cases = [*builds(), *lookups(), *picks(), *peers()]
    for _ in range(arguments.rounds):
        for case in cases:
            case.turn()
    for case in cases:
        scaled = case.best * (1e3 if case.unit == "ms" else 1e9)
        goal = {} if case.goal is None else {"goal": case.goal}
        show(case.name, scaled, case.unit, {**about, "case": case.case, "endpoints": len(KEYS), **goal})


if __name__ == "__main__":
    main()
