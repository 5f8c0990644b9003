"""How many events a second does the simulator run, on one core, with the ledger, the history and the checker on?

An event is a delivery, a timer, a disk completion, a client's call or a flush that was put off. Time is processor time
of this process, so a busy machine disturbs less; where all cores are taken the figures still fall, by a quarter or so.
Beside the figures stand their goals. Swarm has none: the codec and the log on a disk of bytes run in it, too.

    python benchmarks/sim.py [--seeds 100] [--json]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable

import distkit
from distkit.sim import drawn, run
from distkit.sim.scenario import Scenario

#: At least so much: events/s by what runs, virtual time over real of an idle cluster, lite seeds a minute on one core.
EVENTS_GOAL = 100_000 if distkit.COMPILED else 20_000
IDLE_GOAL = 1_000
SEEDS_GOAL = 400

#: Takes (name, value, unit, params).
Show = Callable[[str, float, str, dict[str, object]], None]


def measured(scenarios: list[Scenario]) -> tuple[int, float, float]:
    """(events, virtual seconds, processor seconds) of some runs."""
    start = time.process_time()
    outcomes = [run(scenario) for scenario in scenarios]
    taken = time.process_time() - start
    failed = [outcome.text for outcome in outcomes if outcome.rule]
    if failed:
        raise SystemExit(f"a run failed: {failed[0]}")
    return sum(each.events for each in outcomes), sum(each.virtual for each in outcomes), taken


def measure(show: Show, seeds: int) -> None:
    """All cases."""
    for profile, count in (("idle", 3), ("loaded", 2), ("lite", seeds), ("swarm", max(1, seeds // 10))):
        events, virtual, taken = measured([drawn(seed, profile) for seed in range(count)])
        params: dict[str, object] = {"seeds": count, "events": events}
        goal = {} if profile == "swarm" else {"goal_min": EVENTS_GOAL}
        show(f"{profile}: events", events / taken, "events/s", params | goal)
        if profile in ("idle", "loaded"):
            goal = {"goal_min": IDLE_GOAL} if profile == "idle" else {}
            show(f"{profile}: 5 nodes, virtual time over real", virtual / taken, "x", params | goal)
        else:
            goal = {"goal_min": SEEDS_GOAL} if profile == "lite" else {}
            show(f"{profile}: seeds a minute on one core", count / taken * 60, "seeds/min", params | goal)


def as_text(name: str, value: float, unit: str, params: dict[str, object]) -> None:
    """One line for people."""
    goal = f"goal: at least {params['goal_min']:,}" if "goal_min" in params else ""
    print(f"{name:<44} {value:>12,.0f} {unit:<10} {goal}".rstrip())


def as_json(name: str, value: float, unit: str, params: dict[str, object]) -> None:
    """One line for machines."""
    print(json.dumps({"name": name, "value": value, "unit": unit, "params": params}))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="lite seeds; swarm: a tenth of them")
    parser.add_argument("--json", action="store_true", help="JSON lines")
    arguments = parser.parse_args()
    show = as_json if arguments.json else as_text
    kernels = "compiled" if distkit.COMPILED else "pure"
    about = {"python": platform.python_version(), "kernels": kernels, "machine": platform.machine()}
    if arguments.json:
        print(json.dumps({"name": "about", "value": 1, "unit": "", "params": about}))
    else:
        print(", ".join(f"{name} {value}" for name, value in about.items()))
    measure(show, arguments.seeds)


if __name__ == "__main__":
    main()
