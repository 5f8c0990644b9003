"""`shrink`: make a failing seed or scenario small enough to be understood, and to be kept as a test."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
from rich.console import Console

from distkit.cli.replay import report, scenario_of
from distkit.cli.sim import MACHINE_HELP
from distkit.core import LocalError
from distkit.sim.draw import PROFILES
from distkit.sim.shrink import Shrinker
from distkit.sim.simulation import run


@click.command("shrink")
@click.argument("what", metavar="SEED|FILE")
@click.option("--profile", type=click.Choice(PROFILES), default="lite", help="Of the seed.")
@click.option("--machine", default="raft", metavar="M", help=MACHINE_HELP)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="The scenario file.")
@click.option("--runs-max", type=click.IntRange(1), default=2000, metavar="N", help="Runs to spend at most.")
@click.pass_context
def command(context: click.Context, what: str, profile: str, machine: str, output: Path | None, runs_max: int) -> None:
    """Take away from a failing run what it fails without, and write what is left as a scenario file.

    Exit status: 0 a smaller scenario was written, 2 the run does not fail.
    """
    console = Console(stderr=True)
    output = output or Path(f"scenario-{Path(what).stem}.json")
    if not output.parent.is_dir():
        raise click.BadParameter(f"there is no directory {str(output.parent)!r}", context, param_hint="--output")
    try:
        scenario = scenario_of(what, profile, machine)
        with console.status("running ...") as status:
            shrinker = Shrinker(run, lambda text: status.update(f"{text}, {shrinker.runs} runs"), runs_max)
            small = shrinker.shrink(scenario)
        output.write_text(small.to_json() + "\n")
    except (LocalError, OSError) as error:
        raise click.UsageError(str(error), context) from error
    report(shrinker.best)
    click.echo(
        f"{small.nodes} nodes, {len(small.faults)} faults, {len(small.script or ())} on messages, "
        f"{len(small.calls)} calls after {shrinker.runs} runs: python -m distkit replay {shlex.quote(str(output))}"
    )
