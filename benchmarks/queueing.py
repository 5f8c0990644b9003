"""How many events a second does the simulator of queues make, with the policies that ship?

    python benchmarks/queueing.py [--requests 500000] [--json]

Twenty servers with a queue each at 80 % of what they can do, one client: an arrival and an answer a request. Time is
that of the processor for making and running the simulation; drawing the requests is measured apart. The goal is that
of compiled policies; the probes of prequal pass through Python, which shows.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys
import time

import distkit
from distkit.balance import ClusterOptions, policies
from distkit.sim.queueing import SCENARIOS, simulate
from distkit.sim.queueing.scenarios import draw

POLICIES = ("random", "round_robin", "p2c", "least_connections", "peak_ewma", "least_time", "prequal")
GOAL = 5.0


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=500_000, help="of each run (default 500,000)")
    parser.add_argument("--json", action="store_true", help='lines of {"name", "value", "unit", "params"}')
    options = parser.parse_args()
    scenario = dataclasses.replace(SCENARIOS["even"], requests=options.requests)
    params = {"python": platform.python_version(), "compiled": distkit.COMPILED, "requests": options.requests}
    began = time.process_time()
    draw(scenario, 1)
    drawing = time.process_time() - began
    for name in POLICIES:
        cluster = ClusterOptions(policy=policies.named(name))
        began = time.process_time()
        run = simulate(cluster, scenario, 1)
        rate = run.events / (time.process_time() - began - drawing) / 1e6
        if options.json:
            record = {
                "name": "queueing_events",
                "value": round(rate, 2),
                "unit": "M/s",
                "params": params | {"policy": name},
            }
            print(json.dumps(record))
        else:
            print(f"queueing_events {name:18}{rate:8.1f} M events/s   goal: at least {GOAL:g} (compiled)")
    if not options.json:
        print(", ".join(f"{name} {value}" for name, value in params.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
