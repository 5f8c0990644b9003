#!/usr/bin/env python3
"""Three servers, real Redis clients, kill -9 of the leader half-way, and the proof that nothing acknowledged was lost.

    make demo                                   # or: python examples/demo.py --seconds 30 --clients 8
    python examples/demo.py --keep /tmp/logs    # leave the servers' directories there, to look at with `distkit wal`
    python examples/demo.py --lie               # servers that acknowledge before commit: must end with status 1

Exit status: 0 if everything held, 1 if not, 2 for a wrong command line.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import redis
from demo_clients import Journal, Load
from demo_picture import Run, draw
from demo_servers import Servers, ServersFailed
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from distkit.sim.linear import Result, check

#: Shows the state of the run at a moment.
Show = Callable[[float, Table], None]
#: How often the servers are asked for their state and the screen is drawn, in seconds.
LOOK_INTERVAL = 0.25
#: The killed server is started again after this part of the run.
RESTART_AFTER = 0.2


def main() -> int:
    """Run the demo; see the module's words for the exit status."""
    arguments = _parse()
    console = Console()
    keep: Path | None = arguments.keep
    home = keep or Path(tempfile.mkdtemp(prefix="distkit-demo-"))
    home.mkdir(parents=True, exist_ok=True)
    try:
        return _run(arguments, console, home)
    except ServersFailed as error:
        console.print(f"[red]{error}[/red]")
        return 1
    except KeyboardInterrupt:
        console.print("interrupted: the servers are stopped, nothing was checked")
        return 1
    finally:
        if keep is None:
            shutil.rmtree(home, ignore_errors=True)


def _run(arguments: argparse.Namespace, console: Console, home: Path) -> int:
    script = "lying_server.py" if arguments.lie else "kv_server.py"
    with Servers(home, script) as servers:
        servers.start_all()
        leader = servers.wait_leader()
        console.print(f"three servers form a cluster in {home}; node {leader} leads")
        run = Run(arguments.seconds)
        journal = Journal()
        with Load(servers.client_ports, arguments.clients, journal) as load:
            _drive(arguments.seconds, console, servers, run, journal)
            load.stop()
        try:
            journal.final_reads(servers.client_ports)
        except redis.RedisError as error:
            raise ServersFailed(f"the final reads failed: {error}; {servers.said_all()}") from error
        held = _verdict(console, run, journal)
    picture: Path = arguments.picture
    picture.write_text(draw(run, journal))
    console.print(f"a picture of the run: {picture}")
    return 0 if held else 1


def _drive(seconds: float, console: Console, servers: Servers, run: Run, journal: Journal) -> None:
    """Let the load run; kill the leader half-way and start it again a little later."""
    began = journal.began
    killed = restarted = False
    dead_at = seconds  # what was begun after this can't have been acknowledged by the killed leader
    with _screen(console, seconds) as show:
        while (now := time.monotonic() - began) < seconds:
            if not killed and now >= seconds / 2:
                killed = True
                run.killed_node = servers.wait_leader()
                run.killed_at = time.monotonic() - began
                servers.kill(run.killed_node)
                dead_at = time.monotonic() - began
            if killed and not restarted and now >= seconds * (0.5 + RESTART_AFTER):
                restarted = True
                servers.start(run.killed_node)
                run.restarted_at = time.monotonic() - began
            infos = servers.infos()
            run.saw(time.monotonic() - began, infos)
            show(now, _table(infos, run, journal))
            time.sleep(LOOK_INTERVAL)
    run.recovered_at = journal.first_write_after(dead_at)


@contextlib.contextmanager
def _screen(console: Console, seconds: float) -> Iterator[Show]:
    """A live table and a bar on a terminal, a line a second elsewhere."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (TextColumn("[progress.description]{task.description}"), BarColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console)
    task = progress.add_task("reads and writes", total=seconds)
    with Live(console=console, auto_refresh=False) as live:

        def show(now: float, table: Table) -> None:
            progress.update(task, completed=now)
            grid = Table.grid()
            grid.add_row(table)
            grid.add_row(progress)
            live.update(grid, refresh=True)

        yield show


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._due = 0.0

    def __call__(self, now: float, table: Table) -> None:
        if now >= self._due:
            self._due = now + 1.0
            self._console.print(f"{now:5.1f} s  {table.caption}", highlight=False, soft_wrap=True)


def _table(infos: dict[int, dict[str, str]], run: Run, journal: Journal) -> Table:
    rate, p50, p99 = journal.last_second()
    caption = f"{rate:,.0f} writes/s, p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms"
    if run.killed_at:
        caption += f"; node {run.killed_node} was killed at {run.killed_at:.1f} s"
    if run.restarted_at:
        caption += f" and started again at {run.restarted_at:.1f} s"
    table = Table("node", "role", "leader", "term", "commit", "applied", caption=caption)
    for node, info in infos.items():
        if info:
            row = [info["raft_role"], info["leader"], info["term"], info["commit"], info["applied"]]
            table.add_row(str(node), *row, style="bold green" if info["raft_role"] == "leader" else "")
        else:
            table.add_row(str(node), "down", "", "", "", "", style="red")
    return table


def _verdict(console: Console, run: Run, journal: Journal) -> bool:
    console.print(
        f"{journal.acknowledged:,} writes acknowledged, {journal.reads:,} reads, {journal.unknown} outcomes unknown, "
        f"{journal.refused} refused"
    )
    if run.recovered_at:
        gap = run.recovered_at - run.killed_at
        console.print(
            f"node {run.killed_node} killed with SIGKILL: the next write was acknowledged {gap * 1e3:.0f} ms later"
        )
    else:
        console.print(f"[red]no write was acknowledged after node {run.killed_node} was killed[/red]")
    lost = journal.lost_appends()
    for text in lost[:5]:
        console.print(f"[red]{text}[/red]")
    with console.status("checking that the history is linearizable, key by key"):
        verdict = check(journal.operations(), "key-value")
    if verdict.result is not Result.OK:
        console.print(verdict.text(), style="red", markup=False, highlight=False)
    held = bool(run.recovered_at) and not lost and verdict.result is Result.OK
    if held:
        console.print("[green]every acknowledged write is there, and the history is linearizable[/green]")
    return held


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=27.0, help="length of the load (default 27, at least 4)")
    parser.add_argument("--clients", type=int, default=8, help="Redis clients, a thread each (default 8)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="use this new directory and leave it")
    parser.add_argument("--picture", type=Path, default=Path("demo.svg"), metavar="FILE", help="default: demo.svg")
    parser.add_argument("--lie", action="store_true", help="run servers that acknowledge before commit")
    arguments = parser.parse_args()
    if not 4 <= arguments.seconds <= 3600 or not 1 <= arguments.clients <= 64:
        parser.error("--seconds is 4 to 3600, --clients 1 to 64")
    if arguments.keep is not None and arguments.keep.exists() and any(arguments.keep.iterdir()):
        parser.error(f"--keep: {arguments.keep} is not empty")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
