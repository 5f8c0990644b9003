"""`sim`: run seeds of the simulator."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from time import perf_counter
from typing import TextIO

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from distkit.cli.determinism import difference
from distkit.cli.seeds import run_here, run_in_children, seeds_of
from distkit.core import LocalError
from distkit.sim.draw import PROFILES
from distkit.sim.marks import missing

MACHINE_HELP = "What runs: raft, synod, or FILE.py:NAME or MODULE:NAME of a Workload or System of yours."


@click.command("sim")
@click.option("--seeds", required=True, metavar="A:B", callback=seeds_of, help="The seeds from A up to B, without B.")
@click.option("--lite", "profile", flag_value="lite", default=True, help="Three nodes, short (the default).")
@click.option("--swarm", "profile", flag_value="swarm", help="One to nine nodes, every fault, bytes on disk and wire.")
@click.option("--profile", "named", type=click.Choice(PROFILES), help="One of these by name.")
@click.option("--machine", default="raft", metavar="M", help=MACHINE_HELP)
@click.option("--jobs", type=click.IntRange(1, 256), default=1, metavar="N", help="Processes that share the seeds.")
@click.option(
    "--json", "json_file", type=click.File("w", lazy=False), metavar="FILE", help="Write one JSON line a seed."
)
@click.option("--check", is_flag=True, help="Look for what is not deterministic: run each seed twice, apart.")
@click.option("--marks", "wanted", is_flag=True, help="Fail if a rare thing that must happen in many runs never did.")
@click.option("--lines", is_flag=True, hidden=True, help="Only JSON lines, on standard output: for the parent process.")
@click.option("--strict", is_flag=True, hidden=True)
@click.option("--step", type=click.IntRange(min=1), default=1, hidden=True)
@click.pass_context
def command(
    context: click.Context,
    seeds: tuple[int, int],
    profile: str,
    named: str | None,
    machine: str,
    jobs: int,
    json_file: TextIO | None,
    check: bool,
    wanted: bool,
    lines: bool,
    strict: bool,
    step: int,
) -> None:
    """Run the simulator: each seed is a cluster, a load and a series of faults, in virtual time.

    Exit status: 0 no rule was broken, 1 one was (with the command that shows it again), 2 undecided.
    """
    profile = named or profile
    share = range(seeds[0], seeds[1], step)
    try:
        if lines:
            for line in run_here(share, profile, machine, strict=strict):
                click.echo(json.dumps(line))
            return
        if check:
            text = difference(share, profile, machine)
            click.echo(text or f"{len(share)} {profile} seeds: the same runs in two processes")
            context.exit(1 if text else 0)
        failures, undecided, marks = _run(share, profile, machine, jobs, json_file)
    except LocalError as error:
        raise click.UsageError(str(error), context) from error
    absent = missing(marks, profile, machine) if wanted else []
    for mark in absent:
        _say(f"never happened: {mark}", json_file)
    if failures or absent:
        context.exit(1)
    if undecided:
        context.exit(2)


def _run(
    share: range, profile: str, machine: str, jobs: int, json_file: TextIO | None
) -> tuple[int, int, Counter[str]]:
    """Run the seeds with a progress bar; (failures, undecided, marks)."""
    console = Console(stderr=True)
    marks: Counter[str] = Counter()
    failures = undecided = events = 0
    virtual = 0.0
    start = perf_counter()
    source = run_here(share, profile, machine) if jobs == 1 else run_in_children(share, profile, machine, jobs)
    with closing(source) as results, _progress(console) as progress:
        task = progress.add_task(f"{profile} seeds", total=len(share), rate="")
        for done, line in enumerate(results, 1):
            events += line["events"]
            virtual += line["virtual"]
            marks.update(line["marks"])
            if json_file is not None:
                json_file.write(json.dumps(line) + "\n")
                json_file.flush()  # a full disk shows here: the error of a close is lost
            if line["rule"] == "undecided":
                undecided += 1
            elif line["rule"]:
                failures += 1
                console.print(f"seed {line['seed']}: {line['text'][:2000]}", style="red", markup=False, soft_wrap=True)
                console.print(f"    {line['reproduce']}", markup=False, highlight=False, soft_wrap=True)
            rate = f"{done / (perf_counter() - start):.1f}/s, {failures} failed, {len(marks)} marks"
            progress.update(task, advance=1, rate=rate)
    taken = perf_counter() - start
    summary = (
        f"{len(share)} {profile} seeds: {failures} failed, {undecided} undecided; {events:,} events, "
        f"{events / taken:,.0f}/s; {virtual:,.0f} virtual seconds in {taken:.1f} s"
    )
    _say("\n".join([summary, *(f"  {count:>9,}  {mark}" for mark, count in sorted(marks.items()))]), json_file)
    return failures, undecided, marks


def _say(text: str, json_file: TextIO | None) -> None:
    """For people: on standard output, unless that is the JSON file."""
    click.echo(text, err=json_file is not None and json_file.name == "<stdout>")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_interactive,
    )
