"""How fast does the linearizability checker search, and does it decide what is hard to decide?

linear_steps        steps a second, by model: trying an operation, or taking one back, the memo included. Operations
                    that are all concurrent and an answer that nothing explains, so that every order has to be
                    ruled out. Twice: with a memo that fits a core's cache, and with one that does not
linear_hard         seconds for 200 histories of 80 operations of five clients on one register with compare-and-set,
                    13 % of them crashed; in every other history one read is exchanged, so that most are illegal
linear_long         operations a second of one long history that is linearizable, preparation included
linear_long_memory  memory for it, beside the history itself

python benchmarks/linear.py [--seconds 1] [--operations 200000] [--json]
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
from collections.abc import Callable
from math import inf
from random import Random
from typing import Any

import distkit
from distkit.sim.linear import Model, Operation, Result, check

#: Takes (name, value, unit, params).
Show = Callable[[str, float, str, dict[str, object]], None]

#: What was aimed at: steps a second of models that run in the kernel and of one in Python, seconds for what is hard.
KERNEL_AIM, PYTHON_AIM, HARD_AIM = 20_000_000, 1_000_000, 0.5
CRASHED = 0.13


class PythonRegister(Model):
    """A register as a user would write it."""

    def initial(self) -> Any:
        """No value yet."""
        return -1

    def step(self, state: Any, operation: Operation) -> Any:
        """Write it, or have read it."""
        if operation.kind == "write":
            return operation.input
        return state if state == operation.output else None


#: By model: what client `n` does, and the answer at the end that nothing explains. Then the numbers of clients for a
#: small memo and for a large one.
WORK: dict[str, tuple[Model | str, Callable[[int], list[tuple[str, Any, Any]]], tuple[str, Any], int, int]] = {
    "register": ("register", lambda n: [("write", n, None)], ("read", "?"), 10, 17),
    "cas-register": (
        "cas-register",
        lambda n: [("write", n, None) if n % 2 else ("cas", (n - 1, n), True)],
        ("read", "?"),
        13,
        23,
    ),
    "mutex": ("mutex", lambda n: [("acquire", None, None), ("release", None, None)], ("release", None), 10, 17),
    "counter": ("counter", lambda n: [("add", 1 << n, None)], ("read", -1), 12, 20),
    "fifo-queue": ("fifo-queue", lambda n: [("enqueue", n, None)], ("dequeue", "?"), 6, 9),
    "append-list": ("append-list", lambda n: [("append", n, None)], ("read", ("?",)), 6, 9),
    "in Python": (PythonRegister(), lambda n: [("write", n, None)], ("read", "?"), 10, 15),
}


def main() -> int:
    """Run all and print each figure as it comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each model and size")
    parser.add_argument("--operations", type=int, default=200_000, help="length of the long history")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    arguments = parser.parse_args()
    show: Show = show_json if arguments.json else show_row
    params = {
        "system": "distkit",
        "distkit": distkit.__version__,
        "python": platform.python_version(),
        "compiled": distkit.COMPILED,
    }
    long(arguments.operations, show, params)  # first, since it looks at the largest memory that the process had
    hard(show, params)
    for name, (model, does, last, small, large) in WORK.items():
        aim = KERNEL_AIM if isinstance(model, str) else PYTHON_AIM
        for size, clients in (("small memo", small), ("large memo", large)):
            history = concurrent(clients, does, last)
            rate, steps = steps_a_second(history, model, arguments.seconds)
            case = {**params, "case": f"{name}, {size}", "clients": clients, "steps": steps, "aim": aim}
            show("linear_steps", rate / 1e6, "M steps/s", case)
    return 0


def concurrent(
    clients: int, does: Callable[[int], list[tuple[str, Any, Any]]], last: tuple[str, Any]
) -> list[Operation]:
    """All of them at the same time, and then an answer that nothing explains."""
    history = [
        Operation(client, kind, given, answer, 0, 1)
        for client in range(clients)
        for kind, given, answer in does(client)
    ]
    kind, answer = last
    return [*history, Operation(-1, kind, None, answer, 2, 3)]


def steps_a_second(history: list[Operation], model: Model | str, seconds: float) -> tuple[float, int]:
    """(steps a second, steps of one check)."""
    steps = 0
    began = time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds or not steps:
        verdict = check(history, model, memory_bytes_max=4 << 30)
        assert verdict.result is Result.ILLEGAL, verdict
        steps += verdict.steps
    return steps / spent, verdict.steps


def hard(show: Show, params: dict[str, object]) -> None:
    """Two hundred histories, one after the other."""
    histories = []
    for seed in range(200):
        random = Random(seed)
        history = register_history(random, 80, clients=5, values=5, crashed=CRASHED)
        histories.append(exchanged(history, random, 5) if seed % 2 else history)
    began = time.perf_counter()
    verdicts = [check(history, "cas-register") for history in histories]
    spent = time.perf_counter() - began
    counts = {result.value: sum(verdict.result is result for verdict in verdicts) for result in Result}
    share = sum(operation.is_open for history in histories for operation in history) / (200 * 80)
    steps = sum(verdict.steps for verdict in verdicts)
    case = {**params, "case": "200 histories", "crashed": round(share, 3), "steps": steps, "aim": HARD_AIM, **counts}
    show("linear_hard", spent, "s", case)


def long(operations: int, show: Show, params: dict[str, object]) -> None:
    """One long history without crashes."""
    history = register_history(Random(1), operations, clients=5, values=100, crashed=0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    verdict = check(history, "cas-register", memory_bytes_max=4 << 30)
    spent = time.perf_counter() - began
    assert verdict.result is Result.OK, verdict
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024)
    case = {**params, "case": f"{operations:,} operations", "steps": verdict.steps}
    show("linear_long", operations / spent, "operations/s", case)
    show("linear_long_memory", grown / operations, "B/operation", case)


def register_history(random: Random, count: int, clients: int, values: int, crashed: float) -> list[Operation]:
    """What clients see of a register; each operation takes effect at a moment between its call and its answer.

    A client that crashed has called, and what it called takes effect with a chance of a half.
    """
    value: Any = None
    history: list[Operation] = []
    under_way: dict[int, tuple[str, Any, int]] = {}
    effects: dict[int, Any] = {}
    names = list(range(clients))
    time_now = called = 0
    while len(history) < count:
        time_now += 1
        client = random.randrange(clients)
        if client not in under_way:
            if called < count:
                called += 1
                kind = random.choice(("read", "write", "cas"))
                pair = random.randrange(values), random.randrange(values)
                given = {"read": None, "write": pair[0], "cas": pair}[kind]
                under_way[client] = kind, given, time_now
            continue
        kind, given, since = under_way[client]
        if client in effects:
            history.append(Operation(names[client], kind, given, effects.pop(client), since, time_now))
            del under_way[client]
            continue
        crash = random.random() < crashed
        if not crash or random.random() < 0.5:
            effects[client] = value if kind == "read" else value == given[0] if kind == "cas" else None
            if kind == "write":
                value = given
            elif kind == "cas" and effects[client]:
                value = given[1]
        if crash:
            history.append(Operation(names[client], kind, given, None, since, inf))
            names[client] = clients + called
            del under_way[client]
            effects.pop(client, None)
    return history


def exchanged(history: list[Operation], random: Random, values: int) -> list[Operation]:
    """With another answer of one read."""
    reads = [number for number, each in enumerate(history) if each.kind == "read" and not each.is_open]
    number = random.choice(reads)
    old = history[number]
    answer = random.choice([value for value in range(values) if value != old.output])
    changed = Operation(old.process, old.kind, old.input, answer, old.called, old.returned)
    return [*history[:number], changed, *history[number + 1 :]]


def show_json(name: str, value: float, unit: str, params: dict[str, object]) -> None:
    """One JSON line."""
    print(json.dumps({"name": name, "value": round(value, 3), "unit": unit, "params": params}), flush=True)


def show_row(name: str, value: float, unit: str, params: dict[str, object]) -> None:
    """One row for people."""
    kernels = "compiled" if params["compiled"] else "pure"
    counts = "  ".join(f"{result.value} {params[result.value]}" for result in Result if result.value in params)
    print(f"{params['case']:28} {name:20} {value:14,.3f} {unit:14} {kernels}  {counts}".rstrip(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
