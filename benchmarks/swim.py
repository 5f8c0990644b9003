"""How fast are SWIM groups simulated, how soon do they find a crash, and what does Lifeguard buy?

Time is processor time of this process, the best of some runs: on a busy machine the others are slower, because the
nodes' tables do not stay in the cache. The figures of SWIM itself are in virtual time and do not depend on the machine.

    python benchmarks/swim.py [--nodes 1000] [--seeds 3] [--json]
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import fmean

import distkit
from distkit.membership.swim import SwimOptions, plain
from distkit.membership.swim.formulas import expected_first_probe, suspicion_min
from distkit.sim.swims import SwimGroup, SwimScenario, run_swim, stalls

#: Times real time with 1,000 nodes: the goal.
GOAL = 100
#: Of 128 nodes so many stall together for so many seconds, with such pauses, for two minutes: what Lifeguard is for.
ANOMALIES = ((4, 8.0, 0.5), (16, 8.0, 0.5), (16, 16.0, 1.0), (32, 16.0, 1.0))
#: Seconds of virtual time in one measurement, and before it: at the start all tell that they are there.
SECONDS = 20.0
WARM_UP = 5.0

#: Takes (name, value, unit, params).
Show = Callable[[str, float, str, dict[str, object]], None]


def measure_speed(show: Show, nodes: int, rounds: int) -> None:
    """Virtual time over real time: at rest, and with losses, a crash and a stalled node."""
    calm = SwimScenario(nodes=nodes)
    lossy = SwimScenario(nodes=nodes, loss=0.01)
    faults = replace(lossy, crashes=((nodes // 2, 10.0),), stalls=stalls(1, nodes, 1, 5.0, 5.0, WARM_UP + SECONDS))
    for name, scenario in (("at rest", calm), ("1 % loss", lossy), ("loss, a crash, one stalls 5 s in 10", faults)):
        taken = []
        for _ in range(rounds):
            group = SwimGroup(scenario)
            gc.collect()
            gc.freeze()  # a million records that live as long as the group need not be looked at again and again
            group.run(WARM_UP)
            start = time.process_time()
            group.run(WARM_UP + SECONDS)
            taken.append(time.process_time() - start)
            gc.unfreeze()
        outcome = group.outcome()
        params: dict[str, object] = {"nodes": nodes, "goal": GOAL, "events": outcome.events}
        show(f"{nodes} nodes, {name}: virtual over real time", SECONDS / min(taken), f"x   (goal: {GOAL})", params)
        show(f"{nodes} nodes, {name}: a node, a second", min(taken) / nodes / SECONDS * 1e6, "us", params)
        show(
            f"{nodes} nodes, {name}: messages a node, a second", outcome.messages / nodes / (WARM_UP + SECONDS), "", {}
        )
        show(f"{nodes} nodes, {name}: false positives", outcome.false_positives, "", params)


def measure_detection(show: Show, seeds: int) -> None:
    """What a crash is worth, in seconds, and what all that costs."""
    for nodes in (10, 100, 1000):
        found = [
            run_swim(SwimScenario(seed=seed, nodes=nodes, seconds=60.0, loss=0.01, crashes=((1, 10.0),)))
            for seed in range(seeds)
        ]
        about: dict[str, object] = {"nodes": nodes, "seeds": seeds}
        periods = expected_first_probe(nodes)
        text = f"s   (random probing: {periods:.2f} periods to the first probe, then 1 s)"
        show(f"{nodes} nodes: crash suspected", fmean(each.suspected[0] for each in found), text, about)
        text = f"s   (shortest suspicion: {suspicion_min(4, nodes, 1.0):.2f} s)"
        show(f"{nodes} nodes: crash detected", fmean(each.detected[0] for each in found), text, about)
        show(f"{nodes} nodes: crash known to all", fmean(each.known[0] for each in found), "s", about)
        messages = fmean(each.messages / nodes / 60.0 for each in found)
        show(f"{nodes} nodes: messages a node, a second", messages, "", about)


def measure_lifeguard(show: Show, seeds: int) -> None:
    """False positives with and without Lifeguard: how often a node took a healthy one for dead."""
    nodes = 128
    for slow, seconds, pause in ANOMALIES:
        counts = {}
        for name, options in (("SWIM", plain(SwimOptions())), ("Lifeguard", SwimOptions())):
            found = [
                run_swim(
                    SwimScenario(
                        seed=seed,
                        nodes=nodes,
                        seconds=120.0,
                        options=options,
                        stalls=stalls(seed, nodes, slow, seconds, pause, 120.0),
                    )
                )
                for seed in range(seeds)
            ]
            counts[name] = fmean(each.false_positives for each in found)
            healthy = fmean(each.false_positives_healthy for each in found)
            about: dict[str, object] = {"slow": slow, "stall": seconds, "pause": pause, "seeds": seeds}
            text = f"(at healthy nodes: {healthy:,.0f}; messages: {fmean(each.messages for each in found):,.0f})"
            show(f"{slow} of {nodes} stall {seconds:g} s: false positives, {name}", counts[name], text, about)
        ratio = counts["SWIM"] / max(1.0, counts["Lifeguard"])
        show(f"{slow} of {nodes} stall {seconds:g} s: fewer by", ratio, "x   (the paper claims over 50)", about)


def as_text(name: str, value: float, unit: str, params: dict[str, object]) -> None:
    """One line for people."""
    print(f"{name:<62} {value:>10,.2f} {unit}", flush=True)


def as_json(name: str, value: float, unit: str, params: dict[str, object]) -> None:
    """One line for machines."""
    print(json.dumps({"name": name, "value": value, "unit": unit.partition(" ")[0], "params": params}), flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000, metavar="N", help="size of the group that is timed")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each scenario")
    parser.add_argument("--json", action="store_true", help="JSON lines")
    arguments = parser.parse_args()
    show = as_json if arguments.json else as_text
    kernels = "compiled" if distkit.COMPILED else "pure"
    about = {"python": platform.python_version(), "kernels": kernels, "machine": platform.machine()}
    if arguments.json:
        print(json.dumps({"name": "about", "value": 1, "unit": "", "params": about}))
    else:
        print(", ".join(f"{name} {value}" for name, value in about.items()))
    measure_speed(show, arguments.nodes, arguments.seeds)
    measure_detection(show, arguments.seeds)
    measure_lifeguard(show, arguments.seeds)


if __name__ == "__main__":
    main()
