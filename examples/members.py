"""Three processes find each other by SWIM over encrypted UDP; one is killed, and the others say so.

    python examples/members.py           # the whole demonstration: exit status 0 if all was seen, 1 if not

    head -c 32 /dev/urandom > key; chmod 600 key          # or by hand, one a terminal
    python examples/members.py --name a --listen 127.0.0.1:7001 --key key
    python examples/members.py --name b --listen 127.0.0.1:7002 --key key --join 127.0.0.1:7001

A process that is killed is suspected, and declared dead when it does not object. One that ends says good-bye.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import trio

from distkit.core import DistkitError
from distkit.membership.swim import Event, SwimOptions
from distkit.node.membership import Membership, open_membership
from distkit.transport import Credentials

#: A fifth of the usual times, so that nobody has to wait long.
OPTIONS = SwimOptions(probe_interval=0.2, probe_timeout=0.1, relay_timeout=0.08, gossip_interval=0.05)
#: The demonstration gives up after so many seconds.
PATIENCE = 30.0


async def take_part(arguments: argparse.Namespace) -> None:
    """One member: it prints what it sees, until SIGTERM or Ctrl-C."""
    key = Credentials.load(arguments.key).key
    keys = [] if key is None else [key]
    async with open_membership(
        arguments.name, arguments.listen, join=arguments.join, keys=keys, options=OPTIONS
    ) as membership:
        print(f"listens on {membership.address}", flush=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell, membership)
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                await anext(signals)
            nursery.cancel_scope.cancel()


async def tell(membership: Membership) -> None:
    """Print each event."""
    with membership.events() as events:
        async for event in events:
            print(in_words(event), flush=True)


def in_words(event: Event) -> str:
    """Such as "sees that b is dead"."""
    word = type(event).__name__.lower()
    saying = {"joined": "has joined", "alive": "is alive after all", "left": "has left", "updated": "has news"}
    return f"sees that {event.member.name} {saying.get(word, f'is {word}')}"


# -- the demonstration ------------------------------------------------------------------------------------------------


class Demonstration:
    """Starts the processes, kills one, and remembers what each has said."""

    def __init__(self, key: Path) -> None:
        self._key = key
        self._processes: dict[str, trio.Process] = {}
        self._lines: list[str] = []
        self._said = trio.Event()

    async def run(self) -> None:
        """The whole story."""
        try:
            async with trio.open_nursery() as nursery:
                await self._tell(nursery)
        finally:
            for process in self._processes.values():
                process.kill()

    async def _tell(self, nursery: trio.Nursery) -> None:
        await self._start(nursery, "a")
        address = (await self._until("a listens on ")).rpartition(" ")[2]
        for name in "bc":
            await self._start(nursery, name, f"--join={address}")
        for who, whom in ("ab", "ac", "ba", "bc", "ca", "cb"):
            await self._until(f"{who} sees that {whom} has joined")

        victim = self._processes["c"]
        victim.kill()
        await victim.wait()
        print(f"c is killed (SIGKILL to process {victim.pid})")
        for who in "ab":
            await self._until(f"{who} sees that c is dead")

        self._lines.clear()
        print("c is started again")
        await self._start(nursery, "c", f"--join={address}")
        for who in "ab":
            await self._until(f"{who} sees that c has joined")

        print("b is asked to end (SIGTERM)")
        self._processes["b"].terminate()
        for who in "ac":
            await self._until(f"{who} sees that b has left")
        for process in self._processes.values():
            process.terminate()

    async def _start(self, nursery: trio.Nursery, name: str, *more: str) -> None:
        command = [sys.executable, __file__, f"--name={name}", "--listen=127.0.0.1:0", f"--key={self._key}", *more]
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
        self._processes[name] = process
        nursery.start_soon(self._listen, name, process)

    async def _listen(self, name: str, process: trio.Process) -> None:
        """Print what a process says, and remember it."""
        assert process.stdout is not None
        rest = b""
        async for data in process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._lines.append(f"{name} {line.decode()}")
                print(self._lines[-1])
            self._said.set()
        await process.wait()

    async def _until(self, beginning: str) -> str:
        """Wait for a line that begins so, and return it."""
        while True:
            for line in self._lines:
                if line.startswith(beginning):
                    return line
            self._said = trio.Event()
            await self._said.wait()


def new_key(path: Path) -> Path:
    """A file with a secret that only its owner may read."""
    path.touch(mode=0o600)
    path.write_bytes(os.urandom(32))
    return path


async def demonstrate() -> int:
    """Run the demonstration; the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        with trio.move_on_after(PATIENCE) as scope:
            await Demonstration(new_key(Path(folder, "key"))).run()
    print("it was not all seen in time" if scope.cancelled_caught else "everyone saw everything")
    return 1 if scope.cancelled_caught else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Three processes see each other; one is killed, and it is reported.")
    one = parser.add_argument_group("to run one member by hand")
    one.add_argument("--name", help="its name, which no other member has")
    one.add_argument("--listen", metavar="HOST:PORT", default="127.0.0.1:0")
    one.add_argument("--join", metavar="HOST:PORT", action="append", default=[], help="the address of some member")
    one.add_argument("--key", type=Path, metavar="FILE", help="the secret that all members share")
    arguments = parser.parse_args()
    try:
        if arguments.name is None:
            return trio.run(demonstrate)
        trio.run(take_part, arguments)
    except DistkitError as error:
        print(f"members.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
