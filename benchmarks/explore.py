"""How many states a second does the explorer find, on one core, with the machines, the ledger and symmetry on?

A state is counted once; the moves that lead to it again are not. Time is processor time of this process, so a busy
machine disturbs little. Where it goes: nearly all of it into the kernel, which makes moves by looking them up and sees
whether it knows where they lead; `moves` says how few of them a real machine had to make.

    python benchmarks/explore.py [--states 500000] [--json]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable

import distkit
from distkit.sim.explore import Cluster, RaftElectionSubject, SynodSubject, search

#: States a second that a synod should reach with compiled kernels at least.
GOAL = 30_000

#: Takes (name, value, unit, params).
Show = Callable[[str, float, str, dict[str, object]], None]


def measure(show: Show, states_max: int) -> None:
    """All cases."""
    cases = (
        ("synod 3x2x2, a crash", Cluster(SynodSubject(3, 2, 2, 1))),
        ("synod 3x2x2, a crash, no symmetry", Cluster(SynodSubject(3, 2, 2, 1), symmetry=False)),
        ("synod, roles together", Cluster(SynodSubject(3, 2, 2, 1, together=True))),
        ("raft election, 2 nodes, 2 terms", Cluster(RaftElectionSubject(2, 2, 0))),
    )
    for name, cluster in cases:
        start = time.process_time()
        found = search(cluster, states_max=states_max)
        taken = time.process_time() - start
        if found.broken is not None:
            raise SystemExit(f"{name}: {found.broken}")
        params: dict[str, object] = {"states": found.states, "complete": found.complete, "moves": cluster.runs}
        if name.startswith("synod"):
            params["goal_min"] = GOAL
        show(f"{name}: states", found.states / taken, "states/s", params)


def as_text(name: str, value: float, unit: str, params: dict[str, object]) -> None:
    """One line for people."""
    print(f"{name:<46} {value:>10,.0f} {unit}  {', '.join(f'{key} {each}' for key, each in params.items())}")


def as_json(name: str, value: float, unit: str, params: dict[str, object]) -> None:
    """One line for machines."""
    print(json.dumps({"name": name, "value": value, "unit": unit, "params": params}))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, default=500_000, metavar="N", help="stop each search there")
    parser.add_argument("--json", action="store_true", help="JSON lines")
    arguments = parser.parse_args()
    show = as_json if arguments.json else as_text
    kernels = "compiled" if distkit.COMPILED else "pure"
    about = {
        "distkit": distkit.__version__,
        "python": platform.python_version(),
        "kernels": kernels,
        "machine": platform.machine(),
    }
    if arguments.json:
        print(json.dumps({"name": "about", "value": 1, "unit": "", "params": about}))
    else:
        print(", ".join(f"{name} {value}" for name, value in about.items()))
    measure(show, arguments.states)


if __name__ == "__main__":
    main()
