"""`replay`: run one seed or scenario file again, and show what happened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from distkit.cli.seeds import is_seed
from distkit.cli.sim import MACHINE_HELP
from distkit.core import LocalError
from distkit.sim.draw import PROFILES
from distkit.sim.picture import draw as draw_picture
from distkit.sim.picture import figure
from distkit.sim.scenario import Scenario, from_json
from distkit.sim.simulation import Outcome, drawn, run, watcher

#: A scenario file is read up to this size.
_FILE_CHARS_MAX = 64 << 20


def scenario_of(what: str, profile: str, machine: str) -> Scenario:
    """The scenario of a seed, or of a file. LocalError: it is neither."""
    if is_seed(what):
        return drawn(int(what), profile, machine)
    try:
        with Path(what).open(encoding="utf-8") as file:
            text = file.read(_FILE_CHARS_MAX + 1)
    except (OSError, ValueError) as error:
        raise LocalError(f"{what!r} is neither a seed (a number) nor a scenario file: {error}") from error
    if len(text) > _FILE_CHARS_MAX:
        raise LocalError(f"{what} is larger than any scenario file")
    return from_json(text)


def report(outcome: Outcome) -> None:
    """What a run ended in, for people."""
    if outcome.rule:
        click.echo(outcome.text)
    else:
        click.echo("no rule was broken")
    click.echo(
        f"{outcome.events:,} events, {outcome.virtual:.3f} virtual seconds, {outcome.acknowledged} calls answered, "
        f"{outcome.unknown} with unknown outcome, digest {outcome.digest}"
    )


@click.command("replay")
@click.argument("what", metavar="SEED|FILE")
@click.option("--profile", type=click.Choice(PROFILES), default="lite", help="Of the seed.")
@click.option("--machine", default="raft", metavar="M", help=MACHINE_HELP)
@click.option("--trace", is_flag=True, help="Print every event, one JSON line each.")
@click.option(
    "--picture",
    type=click.File("w", lazy=False),
    metavar="FILE",
    help="Draw a space-time diagram: HTML, or only the picture as FILE.svg.",
)
@click.option("--around", type=float, metavar="S", help="Of the picture: what to show, in seconds of the run; its end.")
@click.option("--seconds", type=float, metavar="S", help="Of the picture: so much before and after that.")
@click.pass_context
def command(
    context: click.Context,
    what: str,
    profile: str,
    machine: str,
    trace: bool,
    picture: Any,
    around: float | None,
    seconds: float | None,
) -> None:
    """Run a seed, or a scenario file, again: the same run, event by event.

    Exit status: 0 no rule was broken, 1 one was, 2 undecided.
    """
    try:
        scenario = scenario_of(what, profile, machine)
        events: list[dict[str, Any]] = []
        outcome = run(scenario, watcher(events) if trace or picture else None)
    except LocalError as error:
        raise click.UsageError(str(error), context) from error
    if trace:
        for event in events:
            click.echo(json.dumps(event))
    report(outcome)
    if picture is not None:
        title = f"{scenario.machine}, {'seed ' + what if is_seed(what) else Path(what).name}"
        paint = figure if picture.name.endswith(".svg") else draw_picture
        try:
            picture.write(paint(events, title=title, around=around, seconds=seconds))
        except LocalError as error:
            raise click.UsageError(str(error), context) from error
        picture.flush()  # a full disk shows here: the error of a close is lost
    if outcome.failed:
        context.exit(1)
    if outcome.rule:
        context.exit(2)
