"""`explore`: try every interleaving of a few real machines, within bounds."""

from __future__ import annotations

from typing import Any, Final

import click
from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from distkit.core import LocalError
from distkit.sim.explore import (
    Cluster,
    Found,
    Progress,
    RaftElectionSubject,
    Subject,
    SynodSubject,
    events,
    numbered,
    retell,
    search,
)
from distkit.sim.picture import draw, figure

#: Some 70 bytes each, with kernels.
STATES_MAX: Final = 20_000_000


@click.group("explore")
def command() -> None:
    """Try every interleaving of a few real machines: every order, loss and repetition of messages, every moment for
    disks to complete, timers to fire and processes to crash. What bounds it is given by options.

    Exit status: 0 all was tried and no rule was broken, 1 one was (the shortest way there is printed), 2 there is more
    than --states-max allows to try.
    """


def _common(function: Any) -> Any:
    """Options of every protocol."""
    for option in (
        click.option(
            "--picture", type=click.File("w", lazy=False), metavar="FILE", help="Draw what was found: HTML, or .svg."
        ),
        click.option("--no-symmetry", is_flag=True, help="Count states that differ in names only as different."),
        click.option("--states-max", type=click.IntRange(min=1), default=STATES_MAX, show_default=True, metavar="N"),
        click.option("--crashes", type=click.IntRange(0, 9), default=1, show_default=True, metavar="N"),
    ):
        function = option(function)
    return click.pass_context(function)


@command.command("synod")
@click.option("--acceptors", type=click.IntRange(1, 6), default=3, show_default=True, metavar="N")
@click.option("--values", type=click.IntRange(1, 6), default=2, show_default=True, metavar="N", help="And proposers.")
@click.option("--ballots", type=click.IntRange(1, 9), default=2, show_default=True, metavar="N", help="All together.")
@click.option("--together", is_flag=True, help="Proposers are acceptors, too.")
@click.option("--learning", is_flag=True, help="Proposers ask what was chosen.")
@_common
def synod(
    context: click.Context,
    acceptors: int,
    values: int,
    ballots: int,
    together: bool,
    learning: bool,
    **common: Any,
) -> None:
    """Single-decree Paxos."""
    try:
        subject = SynodSubject(acceptors, values, ballots, common["crashes"], together=together, learning=learning)
    except LocalError as error:
        raise click.UsageError(str(error), context) from error
    _explore(context, subject, **common)


@command.command("raft-election")
@click.option("--nodes", type=click.IntRange(1, 5), default=2, show_default=True, metavar="N")
@click.option("--terms", type=click.IntRange(1, 9), default=1, show_default=True, metavar="N", help="All together.")
@_common
def raft_election(context: click.Context, nodes: int, terms: int, **common: Any) -> None:
    """Elections of Raft: pre-votes, votes and leaders, whose other messages are lost."""
    _explore(context, RaftElectionSubject(nodes, terms, common["crashes"]), **common)


def _explore(
    context: click.Context, subject: Subject, crashes: int, states_max: int, no_symmetry: bool, picture: Any
) -> None:
    """Search, with a progress bar, and report."""
    cluster = Cluster(subject, symmetry=not no_symmetry)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("")

        def show(at: Progress) -> None:
            rate = f"{at.states / max(at.seconds, 1e-9):,.0f} states/s"
            bar.update(
                task,
                description=f"{at.states:,} states, {at.waiting:,} waiting, {at.depth} moves deep, {rate}",
            )

        found = search(cluster, states_max=states_max, progress=show)
    _report(cluster, found, picture)
    if found.broken is not None:
        context.exit(1)
    if not found.complete:
        context.exit(2)


def _report(cluster: Cluster, found: Found, picture: Any) -> None:
    if found.broken is not None:
        steps, broken = retell(cluster, found, found.broken)
        for line in numbered(cluster, steps, broken):
            click.echo(line)
        if picture is not None:
            paint = figure if picture.name.endswith(".svg") else draw
            picture.write(paint(events(cluster, steps, broken), title=f"The shortest way to break {broken.rule}"))
            picture.flush()  # a full disk shows here: the error of a close is lost
    verdict = "complete" if found.complete else "stopped by a broken rule" if found.broken else "capped: there are more"
    alike = len(cluster.orders) or 1
    symmetry = f", each standing for up to {alike}" if alike > 1 else ""
    click.echo(
        f"{found.states:,} distinct states{symmetry}, {found.depth} moves deep, {verdict}; {found.seconds:.1f} s, "
        f"{found.states / max(found.seconds, 1e-9):,.0f} states/s; {cluster.runs:,} moves of real machines"
    )
