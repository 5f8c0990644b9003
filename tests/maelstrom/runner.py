#!/usr/bin/env python3
"""Maelstrom's part, and worse: real nodes under the lin-kv workload, on a bad network, killed, stopped and robbed.

    python tests/maelstrom/runner.py --nodes 3 --seconds 20 --nemesis kill,partition --seed 7

Exit status: 0 if every key was linearizable, every kind of operation succeeded and no node did what it must not; 1 if
not; 2 if the checker could not decide. What is drawn comes from the seed; processes and disks have timing of their own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import trio
from children import NODE, Body, Child
from nemesis import FAULTS, Nemesis
from routing import Conditions, Router
from workload import KINDS, Clients

from distkit.sim.linear import Result, Verdict, check

#: Seconds that healed nodes have to answer everything.
PATIENCE = 20.0
#: The most seconds that one run may take beyond the time that it is told to.
OVERTIME = 120.0


@dataclass(frozen=True)
class Plan:
    """What to do. `rate` is operations a second in all; `concurrency` a multiple of twice the nodes (0: four times)."""

    nodes: int = 3
    seconds: float = 20.0
    seed: int = 1
    nemesis: tuple[str, ...] = ()
    interval: float = 2.0
    rate: float = 60.0
    concurrency: int = 0
    conditions: Conditions = field(default_factory=Conditions)
    options: tuple[str, ...] = ("--election-timeout=0.5",)
    program: Path = NODE


@dataclass
class Report:
    """What came of it. `faults` holds everything that must not be."""

    verdict: Verdict
    faults: list[str]
    outcomes: Counter[tuple[str, str]]
    codes: Counter[int]
    latencies: list[float]
    messages: Counter[str]
    events: list[str] = field(default_factory=list)

    @property
    def status(self) -> int:
        """Exit status."""
        if self.verdict.result is Result.ILLEGAL or self.faults:
            return 1
        return 0 if self.verdict.result is Result.OK else 2

    @property
    def availability(self) -> float:
        """Share of the operations that succeeded."""
        return sum(count for (_, outcome), count in self.outcomes.items() if outcome == "ok") / self.outcomes.total()

    def text(self) -> str:
        """For people."""
        ok = sorted(self.latencies)
        lines = [
            f"{kind}: " + ", ".join(f"{self.outcomes[kind, outcome]} {outcome}" for outcome in ("ok", "fail", "info"))
            for kind in KINDS
        ]
        errors = ", ".join(f"{count} x {code}" for code, count in sorted(self.codes.items()) if code)
        lines.append(f"errors by code (-1: no answer): {errors or 'none'}")
        if ok:
            lines.append(f"latency: p50 {ok[len(ok) // 2] * 1e3:.1f} ms, p99 {ok[len(ok) * 99 // 100] * 1e3:.1f} ms")
        lines.append(f"availability {self.availability:.1%}, {self.messages['sent'] / len(ok or [0]):.1f} messages/op")
        lines.append("messages: " + ", ".join(f"{count} {what}" for what, count in sorted(self.messages.items())))
        lines.append(f"linearizable: {self.verdict.result.name}")
        if self.verdict.result is not Result.OK:
            lines.append(self.verdict.text())
        return "\n".join([*lines, *self.faults])


async def run(plan: Plan, home: Path, tell: Callable[[str], None] = lambda _text: None) -> Report:
    """Run it below `home`, which must be empty. Every process that is started is gone at the end."""
    names = [f"n{number}" for number in range(plan.nodes)]
    faults: list[str] = []
    events: list[str] = []
    nodes: dict[str, Child] = {}

    def note(text: str) -> None:
        events.append(text)
        tell(text)

    def give(name: str, line: bytes) -> None:
        nodes[name].give(line)

    def take(source: str, target: str, body: Body, line: bytes) -> None:
        if target in nodes:
            router.send(source, target, line)
        else:
            clients.receive(target, body)

    router = Router(Random(f"{plan.seed}/network"), plan.conditions, give)
    timeout = max(10 * plan.conditions.latency, 1.0)
    concurrency = plan.concurrency or 4 * plan.nodes
    clients = Clients(names, concurrency, plan.rate, timeout, plan.seed, give, faults)
    for name in names:
        nodes[name] = Child(name, names, home, [str(plan.program), *plan.options], take, faults)
    try:
        with trio.fail_after(plan.seconds + OVERTIME):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(router.run)
                for node in nodes.values():
                    await node.start(nursery)
                random = Random(f"{plan.seed}/nemesis")
                nemesis = Nemesis(plan.nemesis, plan.interval, random, nodes, router, nursery, note, faults)
                async with trio.open_nursery() as working:
                    working.start_soon(clients.run, plan.seconds)
                    working.start_soon(nemesis.run, max(0.0, plan.seconds - 2 * plan.interval))
                await clients.read_everything(PATIENCE)
                for node in nodes.values():
                    await node.kill()
                nursery.cancel_scope.cancel()
    finally:
        for node in nodes.values():
            if node.process is not None:
                node.process.kill()
    faults += [f"no {kind} has succeeded" for kind in KINDS if not clients.outcomes[kind, "ok"]]
    for node in nodes.values():
        if "Traceback" in node.log.read_text(errors="replace"):
            faults.append(f"{node.name} has raised: {node.said()}")
    verdict = check(clients.history, "cas-register")
    return Report(verdict, faults, clients.outcomes, clients.codes, clients.latencies, router.counters, events)


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nemesis", default="", metavar="A,B", help=f"any of {', '.join(FAULTS)}")
    parser.add_argument("--interval", type=float, default=2.0, metavar="S", help="between begin and end of faults")
    parser.add_argument("--rate", type=float, default=60.0, help="operations a second, in all")
    parser.add_argument("--concurrency", type=int, default=0, help="a multiple of 2 x nodes (default 4 x nodes)")
    parser.add_argument("--latency", type=float, default=0.0, metavar="MS", help="between nodes, on average")
    parser.add_argument("--spread", choices=("constant", "uniform", "exponential"), default="exponential")
    parser.add_argument("--loss", type=float, default=0.0, metavar="P", help="share of the messages that are lost")
    parser.add_argument("--duplicates", type=float, default=0.0, metavar="P", help="share that arrives twice")
    parser.add_argument("--home", type=Path, help="keep directories and logs of the nodes here")
    parser.add_argument("options", nargs="*", help="for the nodes, after --")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """With a bar of progress."""
    from rich.console import Console
    from rich.progress import Progress, TimeElapsedColumn

    given = parse_arguments(words)
    plan = Plan(
        nodes=given.nodes,
        seconds=given.seconds,
        seed=given.seed,
        nemesis=tuple(filter(None, given.nemesis.split(","))),
        interval=given.interval,
        rate=given.rate,
        concurrency=given.concurrency,
        conditions=Conditions(given.latency / 1e3, given.spread, given.loss, given.duplicates),
        options=tuple(given.options) or Plan.options,
    )
    console = Console()
    if given.home is not None:
        given.home.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        Progress(*Progress.get_default_columns(), TimeElapsedColumn()) as bar,
    ):
        task = bar.add_task("lin-kv", total=plan.seconds)

        async def watched() -> Report:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(advance)
                report = await run(plan, given.home or Path(scratch), bar.console.print)
                nursery.cancel_scope.cancel()
            return report

        async def advance() -> None:
            while True:
                await trio.sleep(0.2)
                bar.advance(task, 0.2)

        report = trio.run(watched)
    console.print(report.text(), highlight=False, markup=False)
    return report.status


if __name__ == "__main__":
    sys.exit(main())
