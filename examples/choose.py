"""Three processes agree on one value over real sockets, while one of them is killed.

    python examples/choose.py            # the whole demonstration: exit status 0 if all agree, 1 if not

Every process is proposer, acceptor and learner of single-decree Paxos (`distkit.paxos.synod`), has a log on the disk
and proposes a value of its own. At a random moment one is killed with SIGKILL and started again from its log. What one
process does is in `choose_member.py`.
"""

from __future__ import annotations

import argparse
import logging
import random
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import trio
from choose_member import Member

from distkit.core import DistkitError

VALUES = {1: "tea", 2: "coffee", 3: "water"}
#: The demonstration gives up after so many seconds.
PATIENCE = 20.0


async def take_part(arguments: argparse.Namespace) -> None:
    """One process of the demonstration. It proposes when it reads a line, and ends with its standard input."""
    logging.getLogger("distkit").setLevel(logging.ERROR)  # at first nobody can be reached
    addresses = dict(enumerate(arguments.members.split(","), 1))
    member = Member(
        arguments.node, addresses, arguments.group, arguments.data, form=arguments.form, say=lambda text: _print(text)
    )
    may_propose = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(member.run, VALUES[arguments.node].encode(), may_propose)
        _print("is ready")
        while await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            may_propose.set()
        nursery.cancel_scope.cancel()


def _print(text: str) -> None:
    print(text, flush=True)


# -- the demonstration ------------------------------------------------------------------------------------------------


class Demonstration:
    """Starts the processes, kills one, and remembers what each has said."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.decisions: list[tuple[int, str]] = []  #: (node, value), in the order in which they were said
        self._random = random.Random(seed)
        self._folder = folder
        self._group = secrets.randbits(48) << 8 | 1 << 56
        self._addresses = ",".join(f"127.0.0.1:{port}" for port in _free_ports(len(VALUES)))
        self._processes: dict[int, trio.Process] = {}
        self._said = trio.Event()
        self._lines: list[tuple[int, str]] = []

    async def run(self) -> None:
        """The whole story."""
        try:
            async with trio.open_nursery() as nursery:
                await self._tell(nursery)
        finally:
            for process in self._processes.values():
                process.kill()

    async def _tell(self, nursery: trio.Nursery) -> None:
        for node in VALUES:
            await self._start(nursery, node, "--form")
        await self._until(lambda: sum(line == "is ready" for _, line in self._lines) == len(VALUES))
        for process in self._processes.values():
            await _go(process)
        victim = self._random.choice(list(VALUES))
        await trio.sleep(self._random.uniform(0.0, 0.03))
        process = self._processes[victim]
        process.kill()
        await process.wait()
        print(f"node {victim} is killed (SIGKILL to process {process.pid})")
        await trio.sleep(self._random.uniform(0.0, 0.3))
        print(f"node {victim} is started again")
        lives = len(self._lines)
        await self._start(nursery, victim)
        await _go(self._processes[victim])
        await self._until(lambda: all(self._knows(node, lives if node == victim else 0) for node in VALUES))
        for process in self._processes.values():
            await _close(process)

    def _knows(self, node: int, since: int) -> bool:
        return any(who == node and line.startswith("knows") for who, line in self._lines[since:])

    async def _start(self, nursery: trio.Nursery, node: int, *more: str) -> None:
        words = [f"--node={node}", f"--members={self._addresses}", f"--group={self._group}"]
        command = [sys.executable, __file__, *words, f"--data={self._folder / str(node)}", *more]
        process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._processes[node] = process
        nursery.start_soon(self._listen, node, process)

    async def _listen(self, node: int, process: trio.Process) -> None:
        """Print what a process says, and remember it."""
        assert process.stdout is not None
        rest = b""
        async for data in process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in map(bytes.decode, lines):
                print(f"node {node} {line}")
                self._lines.append((node, line))
                if line.startswith("knows"):
                    self.decisions.append((node, line.split("'")[1]))
                self._said.set()
        await process.wait()

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done():
            self._said = trio.Event()
            await self._said.wait()


async def _go(process: trio.Process) -> None:
    assert process.stdin is not None
    await process.stdin.send_all(b"go\n")


async def _close(process: trio.Process) -> None:
    assert process.stdin is not None
    await process.stdin.aclose()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def verdict(decisions: list[tuple[int, str]]) -> tuple[bool, str]:
    """Whether everybody has decided, and alike in every life; and that in words."""
    values = {value for _, value in decisions}
    silent = sorted(VALUES.keys() - {node for node, _ in decisions})
    if len(values) > 1:
        return False, f"WRONG: {' and '.join(sorted(values))} were both chosen"
    if silent:
        return False, f"node {', '.join(map(str, silent))} has not learned what was chosen"
    if values - set(VALUES.values()):
        return False, f"WRONG: nobody proposed {values.pop()}"
    return True, f"all {len(VALUES)} nodes agree on {values.pop()}, in every life"


async def demonstrate(seed: int) -> int:
    """Run the demonstration; the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        demonstration = Demonstration(Path(folder), seed)
        with trio.move_on_after(PATIENCE):
            await demonstration.run()
    right, text = verdict(demonstration.decisions)
    print(text)
    return 0 if right else 1


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Three processes agree on one value while one is killed.")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="who is killed and when (by chance)")
    one = parser.add_argument_group("to run one node by hand")
    one.add_argument("--node", type=int, choices=sorted(VALUES))
    one.add_argument("--members", metavar="HOST:PORT,...", help="the addresses of nodes 1, 2 and 3")
    one.add_argument("--group", type=int, help="a number that the three share")
    one.add_argument("--data", type=Path, metavar="FOLDER")
    one.add_argument("--form", action="store_true", help="at its very first start")
    arguments = parser.parse_args()
    try:
        if arguments.node is None:
            return trio.run(demonstrate, arguments.seed)
        if None in (arguments.members, arguments.group, arguments.data):
            parser.error("--node needs --members, --group and --data")
        trio.run(take_part, arguments)
    except DistkitError as error:
        print(f"choose.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
