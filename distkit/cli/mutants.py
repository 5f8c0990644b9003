"""`mutants`: put known bugs back, one at a time, and see whether the simulator, or else the explorer, finds them."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any, Final, TextIO

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

#: The mutants are tests: they come with the source, not with the package.
_TESTS: Final = Path(__file__).parents[2] / "tests"
#: A mutant that takes longer, in seconds, hangs.
_TIME_MAX: Final = 3600
#: So often, in seconds, a thread that waits for a mutant looks whether it is still wanted.
_LOOK: Final = 0.2


@click.command("mutants")
@click.option("--only", default="", metavar="TEXT", help="Those with this text in their name.")
@click.option("--machine", type=click.Choice(("raft", "synod")), help="Those of this machine; without it, of both.")
@click.option("--seeds-tenth", "tenth", is_flag=True, help="Only the first tenth of the seeds of each.")
@click.option("--shrink", is_flag=True, help="Make the scenario that caught each one small, which takes time.")
@click.option("--jobs", type=click.IntRange(1, 256), default=1, metavar="N", help="Processes that share the mutants.")
@click.option(
    "--json", "json_file", type=click.File("w", lazy=False), metavar="FILE", help="Write one JSON line a mutant."
)
@click.option("--one", hidden=True, help="Only this one, and only a JSON line: for the parent process.")
@click.pass_context
def command(
    context: click.Context,
    only: str,
    machine: str | None,
    tenth: bool,
    shrink: bool,
    jobs: int,
    json_file: TextIO | None,
    one: str | None,
) -> None:
    """Put known bugs back into a copy of the source, one at a time, and run seeds until the simulator finds each; what
    no run shows, the explorer finds.

    Exit status: 0 all were found, 1 one was not, 2 there is no source checkout to take mutants from.
    """
    hunting = _hunting(context)
    if one is not None:
        click.echo(json.dumps(hunting.hunt(hunting.named(one), tenth=tenth, shrink=shrink).line()))
        return
    names = [
        mutant.name
        for mutant in (*hunting.MUTANTS, *hunting.PROOF)
        if only in mutant.name and machine in (None, mutant.machine)
    ]
    if not names:
        raise click.UsageError(f"no mutant has {only!r} in its name", context)
    options = ["--seeds-tenth"] * tenth + ["--shrink"] * shrink
    lines = []
    with closing(_run(names, options, jobs)) as results:
        for line in _progress(results, len(names)):
            lines.append(line)
            if json_file is not None:
                json_file.write(json.dumps(line) + "\n")
                json_file.flush()  # a full disk shows here: the error of a close is lost
    lines.sort(key=lambda line: names.index(line["name"]))
    click.echo(f"{'the bug':72}  {'the rule it broke':22}  seeds of the profile, or moves")
    for line in lines:
        click.echo(_row(line))
    escaped = [line["name"] for line in lines if not line["rule"]]
    click.echo(f"{len(lines) - len(escaped)} of {len(lines)} mutants were caught")
    if escaped:
        context.exit(1)


def _hunting(context: click.Context) -> Any:
    """The module of the tests that knows the mutants."""
    if not (_TESTS / "sim" / "sim_hunt.py").is_file():
        raise click.UsageError("mutants are patches of the source: run this in a source checkout", context)
    for folder in (".", "raft", "paxos", "sim"):
        sys.path.insert(0, str(_TESTS / folder))
    return importlib.import_module("sim_hunt")


def _run(names: list[str], options: list[str], jobs: int) -> Generator[dict[str, Any]]:
    """A process for each mutant, `jobs` at a time; results come as they are ready. Closing it ends the processes."""
    stopped = threading.Event()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for each in as_completed([pool.submit(_child, name, options, stopped) for name in names]):
                yield each.result()
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)


def _child(name: str, options: list[str], stopped: threading.Event) -> dict[str, Any]:
    """What the process for one mutant says. A patch that no longer applies, or a process that dies, caught nothing."""
    command = [sys.executable, "-m", "distkit", "mutants", "--one", name, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603 - ours
    nothing = {"name": name, "rule": "", "runs": 0}
    end = monotonic() + _TIME_MAX
    while True:
        try:
            output, errors = process.communicate(timeout=_LOOK)
            break
        except subprocess.TimeoutExpired:
            if stopped.is_set() or monotonic() > end:
                process.kill()
                process.communicate()
                return nothing | {"text": f"no end after {_TIME_MAX} s"}
    if process.returncode != 0:
        return nothing | {"text": (errors.strip().splitlines() or ["it died"])[-1]}
    line: dict[str, Any] = json.loads(output)
    return line


def _progress(lines: Iterator[dict[str, Any]], total: int) -> Iterator[dict[str, Any]]:
    columns = (TextColumn("mutants"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[last]}"))
    console = Console(stderr=True)
    quiet = not console.is_interactive
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task("mutants", total=total, last="")
        for line in lines:
            progress.update(task, advance=1, last=line["name"])
            if not line["rule"]:
                console.print(
                    f"not caught: {line['name']} {line.get('text', '')}", style="red", markup=False, soft_wrap=True
                )
            yield line


def _row(line: dict[str, Any]) -> str:
    """A mutant in the table."""
    rule = line["rule"] or "NOT CAUGHT"
    row = f"{line['name'][:72]:72}  {rule:22}  {line['runs']:>5} {line.get('profile', '')}"
    if "faults" in line:
        row += (
            f", {line['faults']} faults + {line['strikes']} on messages, {line['calls']} calls, {line['nodes']} nodes"
        )
    return row
