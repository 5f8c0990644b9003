"""`check FILE`: is a history of a real system linearizable?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isinf
from pathlib import Path
from typing import IO, Any, Final

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from distkit.core import LocalError
from distkit.sim.linear import MODELS, Operation, Result, Verdict, check
from distkit.sim.linear.drawing import draw
from distkit.sim.linear.formats import LINE_CHARS_MAX
from distkit.sim.linear.reading import OPERATIONS_MAX, read_history
from distkit.sim.linear.search import MEMORY_BYTES_MAX, STEPS_MAX

_EXIT: Final = {Result.OK: 0, Result.ILLEGAL: 1, Result.UNKNOWN: 2}
_COLOURS: Final = {Result.OK: "green", Result.ILLEGAL: "red", Result.UNKNOWN: "yellow"}
#: Bytes between two movements of the bar.
_STRIDE: Final = 1 << 16


class _CannotCheck(click.ClickException):
    """The history, or the place for the picture, is not what was needed."""

    exit_code = 2


@click.command("check")
@click.argument("path", metavar="FILE", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--model", required=True, type=click.Choice(list(MODELS)), help="What the object does.")
@click.option("--keyed", is_flag=True, help="Each value is a pair [key value], as those of jepsen.independent.")
@click.option("--by-time", is_flag=True, help="The time of each event counts, not the order of the lines.")
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="OUT.html",
    help="Draw the history as a page of HTML.",
)
@click.option("--steps-max", type=click.IntRange(min=1), default=STEPS_MAX, metavar="N", help="Give up after N steps.")
@click.option(
    "--memory-max",
    type=click.IntRange(min=1),
    default=MEMORY_BYTES_MAX,
    metavar="BYTES",
    help="Memory of the search, beside the history.",
)
@click.option(
    "--operations-max",
    type=click.IntRange(min=1),
    default=OPERATIONS_MAX,
    metavar="N",
    help="Refuse a history of more operations.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def command(
    context: click.Context,
    path: str,
    model: str,
    keyed: bool,
    by_time: bool,
    picture: Path | None,
    steps_max: int,
    memory_max: int,
    operations_max: int,
    as_json: bool,
) -> None:
    """Check whether the history in FILE is linearizable; FILE is Jepsen's EDN, a log of Jepsen, or JSON lines, or -.

    Some order of the operations, each between its call and its answer, must explain every answer.

    Exit status: 0 it is linearizable, 1 it is not, 2 undecided within the limits, or this is no history.
    """
    console = Console(stderr=True)
    name = "standard input" if path == "-" else path
    try:
        with click.open_file(path, "rb") as file, _progress(console, file, name) as advance:
            history = read_history(_lines(file, advance), keyed=keyed, by_time=by_time, operations_max=operations_max)
        with console.status(f"{len(history):,} operations: looking for an order that explains them"):
            verdict = check(history, model, steps_max=steps_max, memory_bytes_max=memory_max)
        if picture is not None:
            picture.write_text(draw(verdict, model, title=f"{name}: is it a {model}?"), encoding="utf-8")
    except (LocalError, OSError) as error:
        raise _CannotCheck(f"{name}: {error}") from error
    if as_json:
        click.echo(json.dumps(_facts(verdict, len(history))))
    else:
        _say(verdict, len(history), by_time)
    context.exit(_EXIT[verdict.result])


def _lines(file: IO[bytes], advance: Callable[[int], None]) -> Iterator[bytes]:
    """The lines, none so long that it would not be refused anyway."""
    read = shown = 0
    while line := file.readline(LINE_CHARS_MAX + 1):
        read += len(line)
        if read - shown >= _STRIDE:
            shown = read
            advance(read)
        yield line


@contextmanager
def _progress(console: Console, file: IO[bytes], name: str) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, if that is a terminal."""
    if not console.is_terminal or not file.seekable():
        yield lambda _: None
        return
    total = file.seek(0, 2)
    file.seek(0)
    with Progress(console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task(f"reading {escape(name)}", total=total)
        yield lambda read: bar.update(task, completed=read)


def _say(verdict: Verdict, operations: int, by_time: bool) -> None:
    """The verdict for people."""
    first, _, rest = verdict.text().partition("\n")
    click.secho(first, fg=_COLOURS[verdict.result], bold=True)
    if rest:
        click.echo(rest)
    where = "" if by_time else "; times are numbers of lines"
    click.echo(f"{operations:,} operations in the history{where}")


def _facts(verdict: Verdict, operations: int) -> dict[str, Any]:
    return {
        "result": verdict.result.value,
        "operations": operations,
        "steps": verdict.steps,
        "limit": verdict.limit or None,
        "key": verdict.key,
        "key_operations": len(verdict.history),
        "operation": None if verdict.operation is None else _operation(verdict.operation),
        "linearized": [_operation(operation) for operation in verdict.linearized],
    }


def _operation(operation: Operation) -> dict[str, Any]:
    return {
        "process": operation.process,
        "f": operation.kind,
        "input": operation.input,
        "output": operation.output,
        "key": operation.key,
        "called": operation.called,
        "returned": None if isinf(operation.returned) else operation.returned,
    }
