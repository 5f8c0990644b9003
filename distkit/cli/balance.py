"""`balance`: try balancing policies on simulated servers and compare them."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from distkit.balance import ClusterOptions, policies
from distkit.balance.checks import CheckOptions
from distkit.balance.outliers import OutlierOptions
from distkit.cli.seeds import seeds_of
from distkit.core import LocalError

if TYPE_CHECKING:
    from collections.abc import Callable

    from distkit.sim.queueing import Comparison
    from distkit.sim.queueing.compare import Outcome
    from distkit.sim.queueing.scenarios import Scenario

    Runner = Callable[[Iterator[tuple[ClusterOptions, Scenario, int]]], Iterator[Outcome]]

_HEALTH: dict[str, dict[str, Any]] = {
    "outliers": {"outliers": OutlierOptions()},
    "checks": {"checks": CheckOptions(interval=1.0, unhealthy_interval=1.0, edge_interval=0.1, fall=2)},
}
_SHOWN = ("p50", "p99", "p999", "errors", "retries", "max_by_mean", "moved")


class _CannotCompare(click.ClickException):
    """A policy, a scenario or a place for the report is not what was needed."""

    exit_code = 2


@click.command("balance")
@click.option(
    "--compare",
    "chosen",
    metavar="POLICY,POLICY,...",
    help="Names, each with options and health behind it: least_request:choices=3+outliers+checks.",
)
@click.option("--scenario", "wanted", metavar="NAME,NAME,...", default="even", help="Names, or all.")
@click.option("--seeds", default="0:30", metavar="A:B", callback=seeds_of, help="The seeds from A up to B, without B.")
@click.option("--requests", type=click.IntRange(100, 20_000_000), metavar="N", help="Requests a run (the scenario's).")
@click.option("--jobs", type=click.IntRange(1, 256), default=1, metavar="N", help="Processes that share the runs.")
@click.option("--report", "page", type=click.Path(dir_okay=False, writable=True, path_type=Path), metavar="OUT.html")
@click.option("--json", "json_file", type=click.File("w", lazy=False), metavar="FILE", help="One JSON line a run.")
@click.option("--list", "listing", is_flag=True, help="Say which policies and scenarios there are.")
def command(
    chosen: str | None,
    wanted: str,
    seeds: tuple[int, int],
    requests: int | None,
    jobs: int,
    page: Path | None,
    json_file: TextIO | None,
    listing: bool,
) -> None:
    """Compare balancing policies on simulated servers: the same requests for each, over many seeds.

    Exit status: 0, or 2 for a policy or a scenario that does not exist.
    """
    if find_spec("numpy") is None:
        raise _CannotCompare("this needs numpy: pip install '.[model]' in the checkout")
    from distkit.sim.queueing import report

    console = Console()
    if listing:
        _list(console)
        return
    if chosen is None:
        raise click.UsageError("--compare names the policies; --list says which there are")
    try:
        compared = {each: options_of(each) for each in chosen.split(",")}
        scenarios = _scenarios(wanted, requests)
        found = _run(compared, scenarios, range(*seeds), jobs)
    except LocalError as error:
        raise _CannotCompare(str(error)) from None
    for comparison in found:
        console.print(_table(comparison))
        if json_file is not None:
            _write_lines(comparison, json_file)
    if page is not None:
        page.write_text(report(found, f"python -m distkit {shlex.join(sys.argv[1:])}"))
        console.print(f"{page}: tables and curves")


def options_of(text: str) -> ClusterOptions:
    """`name:option=value:option=value+health+health` as options. LocalError says what is wrong."""
    head, *health = text.split("+")
    name, *pairs = head.split(":")
    values: dict[str, Any] = {}
    for pair in pairs:
        option, equals, value = pair.partition("=")
        if not equals:
            raise LocalError(f"{text!r}: options are written name=value, not {pair!r}")
        try:
            values[option] = json.loads(value)
        except ValueError:
            values[option] = value
    more: dict[str, Any] = {}
    for each in health:
        if each not in _HEALTH:
            raise LocalError(f"{text!r}: behind a + stands one of {', '.join(_HEALTH)}, not {each!r}")
        more |= _HEALTH[each]
    options = ClusterOptions(policy=policies.named(name, **values), **more)
    options.check()
    return options


def _scenarios(wanted: str, requests: int | None) -> list[Scenario]:
    from dataclasses import replace

    from distkit.sim.queueing import SCENARIOS

    names = list(SCENARIOS) if wanted == "all" else wanted.split(",")
    for name in names:
        if name not in SCENARIOS:
            raise LocalError(f"there is no scenario {name!r}: choose of {', '.join(SCENARIOS)}, or all")
    found = [SCENARIOS[name] for name in names]
    return found if requests is None else [replace(each, requests=requests) for each in found]


def _run(compared: dict[str, ClusterOptions], scenarios: list[Scenario], seeds: range, jobs: int) -> list[Comparison]:
    from distkit.sim.queueing import compare

    columns = (
        TextColumn("{task.description}"),
        *(BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[events]:.1f} M events/s"), TimeRemainingColumn()),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress, _made(jobs) as outcomes:
        total = len(scenarios) * len(compared) * len(seeds)
        task = progress.add_task(scenarios[0].name, total=total, events=0.0)
        events = 0

        def done(more: int) -> None:
            nonlocal events
            events += more
            elapsed = progress.tasks[0].elapsed or 1.0
            progress.update(task, advance=1, events=events / elapsed / 1e6)

        found = []
        for scenario in scenarios:
            progress.update(task, description=scenario.name)
            found.append(compare(compared, scenario, seeds, outcomes=outcomes, done=done))
        return found


@contextmanager
def _made(jobs: int) -> Iterator[Runner | None]:
    """Runs in other processes, in the order in which they are asked for; None: here."""
    if jobs == 1:
        yield None
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        try:
            yield lambda runs: pool.map(_one, runs, chunksize=1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _one(run: tuple[ClusterOptions, Scenario, int]) -> Outcome:
    from distkit.sim.queueing.compare import boiled_down

    return boiled_down(*run)


def _table(comparison: Comparison) -> Table:
    from distkit.sim.queueing import MEASURES
    from distkit.sim.queueing.report import shown

    names = [name for name in _SHOWN if any(comparison.interval(each, name).mean > 0 for each in comparison.outcomes)]
    best = {name: comparison.best(name) for name in names}
    table = Table(title=comparison.scenario.name, caption=comparison.scenario.about, title_justify="left")
    table.add_column("policy")
    for name in names:
        table.add_column(MEASURES[name][0], justify="right")
    for policy in comparison.outcomes:
        cells = [shown(name, comparison.interval(policy, name), " ± ") for name in names]
        styled = [
            f"[green]{cell}[/]" if policy in best[name] else cell for name, cell in zip(names, cells, strict=True)
        ]
        table.add_row(policy, *styled)
    return table


def _write_lines(comparison: Comparison, file: TextIO) -> None:
    for policy, outcomes in comparison.outcomes.items():
        for seed, outcome in zip(comparison.seeds, outcomes, strict=True):
            measures = {name: value if value == value else None for name, value in asdict(outcome.measures).items()}
            head = {"scenario": comparison.scenario.name, "policy": policy, "seed": seed, "events": outcome.events}
            file.write(json.dumps(head | measures) + "\n")


def _list(console: Console) -> None:
    from distkit.sim.queueing import SCENARIOS

    table = Table("scenario", "what it is")
    for scenario in SCENARIOS.values():
        table.add_row(scenario.name, scenario.about)
    console.print(table)
    console.print("policies:", ", ".join([*policies.POLICIES, *policies.ALIASES]))
    console.print("health:", ", ".join(f"+{each}" for each in _HEALTH))
