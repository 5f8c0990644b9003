"""How good are the failure detectors, and what does a heartbeat cost?

The same heartbeats for all of them, in virtual time: one a second for some hours, with jitter, lost ones and pauses of
the sender; then it crashes, many times over. What is printed does not depend on the machine, but for the cost.

    python benchmarks/detectors.py [--hours 4] [--json]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from random import Random
from statistics import fmean

from distkit.membership.detectors import (
    Bertier,
    Chen,
    Deadline,
    Detector,
    Method,
    PhiExponential,
    PhiNormal,
    quality,
    watch,
)

#: Sender: jitter of each heartbeat (standard deviation, seconds), chance of a loss, of a pause, and its length.
NETWORKS = {
    "calm": (0.01, 0.0, 0.0, 0.0),
    "jitter, 1 % loss": (0.1, 0.01, 0.0, 0.0),
    "pauses of 3 s": (0.05, 0.001, 0.002, 3.0),
}
METHODS: dict[str, Method] = {
    "deadline 4 s": Deadline(4.0),
    "phi normal, Akka's defaults": PhiNormal(),
    "phi normal, no pause": PhiNormal(pause=0.0),
    "phi exponential, Cassandra's": PhiExponential(),
    "Chen, alpha 1 s": Chen(),
    "Bertier": Bertier(),
}
#: Crashes whose detection is timed.
CRASHES = 20

#: Takes (network, method, what was measured).
Show = Callable[[str, str, dict[str, float]], None]


def arrivals(network: tuple[float, float, float, float], seconds: int, random: Random) -> list[float]:
    """When the heartbeats arrive."""
    jitter, loss, pause_chance, pause = network
    found: list[float] = []
    behind = 0.0
    for second in range(seconds):
        if random.random() < pause_chance:
            behind = pause
        behind = max(0.0, behind - 1.0)
        if random.random() >= loss:
            arrival = second + 0.5 + behind + abs(random.gauss(0.0, jitter))
            found.append(max(arrival, found[-1] if found else 0.0))
    return found


def measure(show: Show, hours: float) -> None:
    """All methods on all networks."""
    seconds = round(hours * 3600)
    for network, numbers in NETWORKS.items():
        beats = arrivals(numbers, seconds, Random(1))
        for name, method in METHODS.items():
            start = time.process_time()
            trace = watch(Detector(method), "peer", beats, seconds)
            cost = (time.process_time() - start) / len(beats) * 1e6
            found = quality(trace, 0.0, seconds)
            show(
                network,
                name,
                {
                    "detection_time": detection(method, numbers),
                    "mistakes_an_hour": found.mistakes / hours,
                    "mistake_recurrence": found.mistake_recurrence,
                    "mistake_duration": found.mistake_duration,
                    "accuracy_percent": 100 * found.query_accuracy,
                    "heartbeat_us": cost,
                },
            )


def detection(method: Method, network: tuple[float, float, float, float]) -> float:
    """Mean time from a crash to the suspicion that lasts, over crashes at any time between two heartbeats."""
    found = []
    for number in range(CRASHES):
        crash = 1000.0 + number / CRASHES
        beats = [beat for beat in arrivals(network, 1100, Random(number)) if beat < crash]
        found.append(quality(watch(Detector(method), "peer", beats, 2000.0), 0.0, 2000.0, crash).detection_time)
    return fmean(found)


def as_text(network: str, name: str, values: dict[str, float]) -> None:
    """One line for people."""
    numbers = " ".join(f"{value:>12,.3f}" for value in values.values())
    print(f"{network:<18} {name:<28} {numbers}", flush=True)


def as_json(network: str, name: str, values: dict[str, float]) -> None:
    """Lines for machines."""
    for key, value in values.items():
        print(json.dumps({"name": key, "value": value, "params": {"network": network, "method": name}}), flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=4.0, metavar="H", help="of heartbeats, virtual")
    parser.add_argument("--json", action="store_true", help="JSON lines")
    arguments = parser.parse_args()
    show = as_json if arguments.json else as_text
    if arguments.json:
        print(json.dumps({"name": "about", "value": 1, "params": {"python": platform.python_version()}}))
    else:
        head = ("detect s", "mistakes/h", "between s", "lasts s", "right %", "us a beat")
        print(f"{'network':<18} {'method':<28} " + " ".join(f"{word:>12}" for word in head))
    measure(show, arguments.hours)


if __name__ == "__main__":
    main()
