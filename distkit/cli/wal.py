"""`wal DIR`: what is in a data directory, damage included."""

from __future__ import annotations

import errno
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import click
from rich.console import Console
from rich.progress import Progress

from distkit.cli.findings import Damage, EntryFound, Finding, LockFound, RecordFound, Summary
from distkit.cli.inspection import Inspection
from distkit.cli.readonly import ReadOnlyFiles, lock_holder
from distkit.core import IdentityError, LocalError, StorageError

#: Errors of the operating system that are about who asks, not about the disk.
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.ENOTDIR)


@click.command("wal")
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, whose `type` says what it is.")
@click.option("--entries", is_flag=True, help="Show each entry of each block.")
@click.option(
    "--limit", type=click.IntRange(min=0), metavar="N", help="Show the first N records only; all are checked."
)
@click.pass_context
def command(context: click.Context, directory: Path, as_json: bool, entries: bool, limit: int | None) -> None:
    """Show what is in the data directory DIR of a node, damage included.

    The directory is only read, so this works beside a running node, on a copy, and on a read-only disk.

    Exit status: 0 no damage, 1 damage, 2 this is not a directory that can be read.
    """
    files = ReadOnlyFiles(directory)
    inspection = Inspection(files, entries)
    say = _as_json if as_json else _as_text
    try:
        process = lock_holder(directory / "lock")
        found = itertools.chain([LockFound(process)], inspection.findings())
        with _progress(directory, files) as step:
            for finding in _limited(found, limit):
                say(finding, sys.stdout)
                step()
    except (IdentityError, LocalError) as error:
        raise click.UsageError(f"{directory}: {error}", context) from error
    except StorageError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in _NOT_ALLOWED:
            raise click.UsageError(f"{directory}: {error}. Run this as the user of the node", context) from error
        raise click.ClickException(f"{directory}: {error}. The disk does not give back what is on it") from error
    if inspection.damages:
        context.exit(1)


def _as_json(finding: Finding, out: TextIO) -> None:
    out.write(json.dumps(finding.json(), separators=(",", ":")) + "\n")


def _as_text(finding: Finding, out: TextIO) -> None:
    text = finding.text()
    if out.isatty():
        if isinstance(finding, Damage) or (isinstance(finding, Summary) and finding.damages):
            text = click.style(text, fg="red", bold=True)
        elif isinstance(finding, Summary):
            text = click.style(text, fg="green", bold=True)
        elif isinstance(finding, EntryFound):
            text = click.style(text, dim=True)
    out.write(text + "\n")


def _limited(findings: Iterator[Finding], limit: int | None) -> Iterator[Finding]:
    """Without the records behind the first `limit` ones, and without their entries."""
    count = 0
    for finding in findings:
        count += isinstance(finding, RecordFound)
        if limit is None or count <= limit or not isinstance(finding, RecordFound | EntryFound):
            yield finding


@contextmanager
def _progress(directory: Path, files: ReadOnlyFiles) -> Iterator[Callable[[], None]]:
    """A bar on stderr, if that is a terminal and stdout, which would disturb it, is not."""
    console = Console(stderr=True)
    if not console.is_terminal or sys.stdout.isatty():
        yield lambda: None
        return
    total = sum(path.stat().st_size for path in directory.iterdir() if path.is_file())
    with Progress(console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task(f"reading {directory}", total=total)
        yield lambda: bar.update(task, completed=min(files.read_bytes, total))
