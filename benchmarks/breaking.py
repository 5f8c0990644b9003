"""What do a breaker and a retry budget cost, asked from Python?

The goal is at most 150 ns for what a request asks before it is tried again: permit of the breaker, check of the
budget. A whole request is permit + done + what it gives to the budget. The loop itself is taken off.

    python benchmarks/breaking.py [--seconds 0.2] [--json]
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
import timeit

import distkit
from distkit.balance.breaker import Breaker, BreakerOptions
from distkit.balance.retries import RetryBudget, RetryThrottle

CASES = {
    "breaker_permit": "permit(1.0)",
    "breaker_permit_done": "done(permit(1.0), 0, 1.0)",
    "breaker_with_ratio_permit_done": "ratio_done(ratio_permit(1.0), 0, 1.0)",
    "breaker_open_refuses": "refuse(1.0)",
    "budget_request": "request(1.0)",
    "budget_retry": "retry(1.0)",
    "throttle_allowed": "allowed()",
    "breaker_permit_and_budget_retry": "permit(1.0); retry(1.0)",
    "whole_request": "request(1.0); done(permit(1.0), 0, 1.0)",
}


def names() -> dict[str, object]:
    """The doors under short names, so that looking them up is not measured."""
    breaker, budget = BreakerOptions().breaker(random.Random(1)), RetryBudget(ratio=1.0)
    judging, opened = BreakerOptions(ratio=0.5).breaker(random.Random(1)), Breaker()
    opened.trip(1.0)
    return {
        "permit": breaker.permit,
        "done": breaker.done,
        "ratio_permit": judging.permit,
        "ratio_done": judging.done,
        "refuse": opened.permit,
        "request": budget.request,
        "retry": budget.retry,
        "allowed": RetryThrottle().allowed,
    }


def nanoseconds(statement: str, seconds: float) -> float:
    """The best of five rounds, for one execution."""
    timer = timeit.Timer(statement, globals=names())
    number, took = timer.autorange()
    number = max(1, int(number * seconds / 5 / took))
    return min(timer.repeat(5, number)) / number * 1e9


def main() -> int:
    """Run the cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="time for each case")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    arguments = parser.parse_args()
    params = {"distkit": distkit.__version__, "python": platform.python_version(), "compiled": distkit.COMPILED}
    loop = nanoseconds("pass", arguments.seconds)
    for name, statement in CASES.items():
        value = nanoseconds(statement, arguments.seconds) - loop
        if arguments.json:
            print(json.dumps({"name": name, "value": round(value, 1), "unit": "ns", "params": params}), flush=True)
        else:
            print(f"{name:34} {value:8.1f} ns  {'compiled' if distkit.COMPILED else 'pure'}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
