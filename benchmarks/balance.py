"""What does it cost to choose an endpoint?

balance_call        ns for what every call of a compiled method costs here: the floor under the next two
balance_pick_done   ns for one pick and its done from Python, outlier counters on, by policy and number of endpoints
balance_batch       ns a pick of `pick_many` into an array
balance_memory      bytes an endpoint that the table and the policy take
balance_weight      us for one change of a weight, at 1,000 and at 100,000 endpoints: it must not grow like them
balance_update      ms for an update of 10,000 endpoints of which one has changed

The machine's quietest moment counts: the least of many short runs.

python benchmarks/balance.py [--runs 200] [--json]
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from array import array
from collections.abc import Callable
from random import Random

import distkit
from distkit.balance import Cluster, ClusterOptions, Endpoint
from distkit.balance.outliers import OutlierOptions
from distkit.balance.policies import named

#: Takes (name, value, unit, params).
Show = Callable[[str, float, str, dict[str, object]], None]

#: ns, ns, bytes.
PICK_DONE_GOAL, BATCH_GOAL, MEMORY_GOAL = 120, 15, 128
CALLS = 2000
BATCH = 1000

POLICIES = (
    *("round_robin", "random", "least_request", "static_stride", "weighted_random", "edf", "weighted_least_request"),
    *("least_connections", "peak_ewma", "prequal", "first_available", "weighted_round_robin", "least_time"),
    *("ring_hash", "maglev", "jump", "anchor", "multi_probe", "rendezvous"),
)
#: Those that look at every endpoint are measured with few.
LINEAR = ("weighted_round_robin", "least_time", "rendezvous")


def main() -> int:
    """Run all and print each figure as it comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="short runs for each figure")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    arguments = parser.parse_args()
    show: Show = show_json if arguments.json else show_row
    params: dict[str, object] = {
        "system": "distkit",
        "distkit": distkit.__version__,
        "python": platform.python_version(),
        "compiled": distkit.COMPILED,
    }
    call(arguments.runs, show, params)
    for policy in POLICIES:
        for count in (10,) if policy in LINEAR else (10, 1000):
            pick_done(policy, count, arguments.runs, show, params)
            batch(policy, count, arguments.runs, show, params)
    for policy in ("round_robin", "least_request", "weighted_random", "edf", "static_stride"):
        memory(policy, show, params)
    for policy in ("least_request", "weighted_random", "least_connections", "edf"):
        for count in (1000, 100_000):
            weight(policy, count, arguments.runs, show, params)
    update(show, params)
    return 0


def made(policy: str, count: int) -> Cluster:
    """A cluster with outlier ejection, weights of 1 to 3."""
    options = ClusterOptions(policy=named(policy), outliers=OutlierOptions())
    cluster = Cluster(options, Random(1))
    cluster.update([Endpoint(f"10.0.{i >> 8}.{i & 255}:80", weight=1.0 + i % 3) for i in range(count)], 0.0)
    return cluster


def least_of(runs: int, work: Callable[[], None]) -> float:
    """Seconds of the quickest run."""
    least = float("inf")
    for _ in range(runs):
        began = time.perf_counter()
        work()
        least = min(least, time.perf_counter() - began)
    return least


def empty_loop(runs: int) -> float:
    """Seconds that the loop around the calls takes."""

    def loop() -> None:
        for _ in range(CALLS):
            pass

    return least_of(runs, loop)


def call(runs: int, show: Show, params: dict[str, object]) -> None:
    """The cheapest method that there is, with one argument."""
    observe = made("random", 1).picker.observe

    def calls() -> None:
        for _ in range(CALLS):
            observe(1.0)

    spent = least_of(runs, calls) - empty_loop(runs)
    show("balance_call", spent / CALLS * 1e9, "ns", {**params, "case": "an empty call"})


def pick_done(policy: str, count: int, runs: int, show: Show, params: dict[str, object]) -> None:
    """A pick and its done, the latency such that averages have something to do."""
    cluster = made(policy, count)
    pick, done = cluster.pick, cluster.done
    context = 0x9E3779B97F4A7C15 if cluster.options.policy.by_hash else None

    def calls() -> None:
        for _ in range(CALLS):
            done(pick(context, 1.0), 0, 0.01, 1.0)

    spent = least_of(runs, calls) - empty_loop(runs)
    case = {**params, "case": policy, "endpoints": count, "goal": PICK_DONE_GOAL}
    show("balance_pick_done", spent / CALLS * 1e9, "ns", case)


def batch(policy: str, count: int, runs: int, show: Show, params: dict[str, object]) -> None:
    """Many picks at once; what they put in flight ends outside of the measurement."""
    cluster = made(policy, count)
    out = array("q", bytes(8 * BATCH))
    random = Random(2)
    keys = array("Q", [random.getrandbits(64) for _ in range(BATCH)])
    what = keys if cluster.options.policy.by_hash else BATCH
    least = float("inf")
    for _ in range(runs):
        began = time.perf_counter()
        cluster.pick_many(what, out, 1.0)
        least = min(least, time.perf_counter() - began)
        for handle in out:
            cluster.done(handle, 0, 0.01, 1.0)
    case = {**params, "case": policy, "endpoints": count, "goal": BATCH_GOAL}
    show("balance_batch", least / BATCH * 1e9, "ns", case)


def memory(policy: str, show: Show, params: dict[str, object]) -> None:
    """What the kernels have taken, room to grow included."""
    count = 10_000
    taken = sys.getsizeof(made(policy, count).picker)
    case = {**params, "case": policy, "endpoints": count, "goal": MEMORY_GOAL}
    show("balance_memory", taken / count, "B/endpoint", case)


def weight(policy: str, count: int, runs: int, show: Show, params: dict[str, object]) -> None:
    """One weight changes, and the next pick knows it."""
    cluster = made(policy, count)
    picker = cluster.picker
    changes = 100

    def change() -> None:
        for i in range(changes):
            picker.weigh(i * 7, 1.0 + i)
            picker.weigh(i * 7, 2.0 + i)

    spent = least_of(runs, change) / changes / 2
    show("balance_weight", spent * 1e6, "us", {**params, "case": policy, "endpoints": count})


def update(show: Show, params: dict[str, object]) -> None:
    """The whole list again, with one endpoint that is another."""
    count = 10_000
    cluster = made("least_request", count)
    endpoints = [Endpoint(f"10.0.{i >> 8}.{i & 255}:80", weight=1.0 + i % 3) for i in range(count)]

    def again() -> None:
        endpoints[5] = Endpoint("10.0.0.5:80", weight=2.0 + endpoints[5].weight if endpoints[5].weight else 1.0)
        cluster.update(endpoints, 1.0)

    show("balance_update", least_of(10, again) * 1e3, "ms", {**params, "case": "one changed", "endpoints": count})


def show_json(name: str, value: float, unit: str, params: dict[str, object]) -> None:
    """One JSON line."""
    print(json.dumps({"name": name, "value": round(value, 3), "unit": unit, "params": params}), flush=True)


def show_row(name: str, value: float, unit: str, params: dict[str, object]) -> None:
    """One row for people."""
    goal = f"goal {params['goal']}" if "goal" in params else ""
    endpoints = f"{params['endpoints']:,}" if "endpoints" in params else ""
    kernels = "compiled" if params["compiled"] else "pure"
    print(
        f"{name:20} {params['case']:24} {endpoints:>8} {value:12,.1f} {unit:10} {kernels}  {goal}".rstrip(), flush=True
    )


if __name__ == "__main__":
    sys.exit(main())
