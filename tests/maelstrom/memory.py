"""Nodes in one program, their standard input and output in memory, on virtual time and real disks."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio
from maelstrom_node import Node, node_options
from maelstrom_wire import Output
from trio.testing import MemoryReceiveStream, MockClock

from distkit.core import DistkitError

Body = dict[str, Any]

NAMES = ("n1", "n2", "n3")
#: Virtual seconds after which a test that hangs is given up.
GUARD = 200.0


class VirtualClock:
    """The clock of the nodes: trio's."""

    counts_suspend = True

    def now(self) -> float:
        return trio.current_time()

    def time_us(self) -> int:
        return int(trio.current_time() * 1e6)


class Tap(trio.abc.SendStream):
    """A standard output: whole lines go to `take`."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        for line in bytes(data).splitlines():
            self._take(line)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class Cluster:
    """Nodes below `home`. Messages between them arrive at once, unless one of both is in `cut` or `lose` says so."""

    def __init__(self, home: Path, nursery: trio.Nursery, timeout: float, snapshot_entries: int) -> None:
        self.home = home
        self.nodes: dict[str, Node] = {}
        self.errors: dict[str, DistkitError] = {}
        self.cut: set[str] = set()
        self.copies = 1
        self.lose: Callable[[str, str, Body], bool] = lambda source, target, body: False
        self.passed: list[tuple[str, str, Body]] = []  # what nodes have sent each other
        self._nursery = nursery
        self._timeout = timeout
        options = node_options(1.0, snapshot_entries)
        # What is forwarded ends by what happens, not by time.
        self._options = replace(options, replica=replace(options.replica, forward_timeout=GUARD))
        self._inputs: dict[str, MemoryReceiveStream] = {}
        self._scopes: dict[str, trio.CancelScope] = {}
        self._ended: dict[str, trio.Event] = {}
        self._ids = 0
        self._answers: dict[int, Body] = {}
        self._answered: dict[int, trio.Event] = defaultdict(trio.Event)

    # -- lives --------------------------------------------------------------------------------------------------------

    def launch(self, name: str, data: Path | None = None) -> None:
        """Start a process, so to say."""
        node = Node(data or self.home, self._options, self._timeout, Output(Tap(self._route)), VirtualClock())
        self.nodes[name] = node
        self._inputs[name] = MemoryReceiveStream()
        self._scopes[name], self._ended[name] = trio.CancelScope(), trio.Event()
        self._nursery.start_soon(self._run, name, node, self._inputs[name])

    async def start(self, *names: str) -> None:
        """Start nodes and have each answer its init."""
        for name in names:
            self.launch(name)
        for name in names:
            assert await self.init(name) == {"type": "init_ok"}

    async def kill(self, name: str) -> None:
        """Its end comes without a word."""
        del self._inputs[name]
        self._scopes[name].cancel()
        await self._ended[name].wait()

    async def ended(self, name: str) -> DistkitError:
        """Wait until the node can't go on, and return why."""
        await self._ended[name].wait()
        return self.errors[name]

    async def end(self, name: str) -> None:
        """Its input ends."""
        self._inputs.pop(name).put_eof()
        await self._ended[name].wait()

    async def _run(self, name: str, node: Node, stream: MemoryReceiveStream) -> None:
        ended = self._ended[name]
        try:
            with self._scopes[name]:
                await node.run(stream)
        except DistkitError as error:
            self.errors[name] = error
        ended.set()

    # -- words --------------------------------------------------------------------------------------------------------

    async def init(self, name: str, names: tuple[str, ...] = NAMES) -> Body:
        """Send init; the answer."""
        return await self.ask(name, {"type": "init", "node_id": name, "node_ids": list(names)})

    def send(self, name: str, body: Body, client: str = "c1") -> int:
        """A request; its number."""
        self._ids += 1
        line = json.dumps({"src": client, "dest": name, "body": {**body, "msg_id": self._ids}})
        self.feed(name, line.encode() + b"\n")
        return self._ids

    def feed(self, name: str, data: bytes) -> None:
        """Bytes on a standard input."""
        if name in self._inputs:
            self._inputs[name].put_data(data)

    async def answer(self, number: int) -> Body:
        """The answer to a request, waited for."""
        await self._answered[number].wait()
        return self._answers[number]

    async def ask(self, name: str, body: Body) -> Body:
        """A request and its answer."""
        return await self.answer(self.send(name, body))

    async def write(self, name: str, value: object, key: object = 0) -> Body:
        return await self.ask(name, {"type": "write", "key": key, "value": value})

    async def cas(self, name: str, old: object, new: object, key: object = 0) -> Body:
        return await self.ask(name, {"type": "cas", "key": key, "from": old, "to": new})

    async def read(self, name: str, key: object = 0) -> Body:
        return await self.ask(name, {"type": "read", "key": key})

    async def settled(self, ask: Callable[[], Awaitable[Body]]) -> Body:
        """Ask until the answer is neither 11 nor 13, and return it."""
        while True:
            answer = await ask()
            if answer.get("code") not in (11, 13):
                return answer

    async def leader(self, *among: str) -> str:
        """The node that leads and is up to date, waited for."""

        def leaders() -> list[str]:
            running = {name: self.nodes[name].replica for name in among or NAMES if name in self._inputs}
            return [name for name, replica in running.items() if replica is not None and replica.is_ready]

        await self.until(lambda: bool(leaders()))
        return leaders()[0]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for it."""
        while True:
            if condition():
                return
            await trio.sleep(0.05)

    async def formed(self) -> str:
        """All three, with a leader, which is returned."""
        await self.start(*NAMES)
        return await self.leader()

    def _route(self, line: bytes) -> None:
        message = json.loads(line)
        source, target, body = message["src"], message["dest"], message["body"]
        if target not in NAMES:
            number = body.pop("in_reply_to")
            assert number not in self._answers, "a second answer"
            self._answers[number] = body
            self._answered[number].set()
        elif not {source, target} & self.cut and not self.lose(source, target, body):
            self.passed.append((source, target, body))
            for _ in range(self.copies):
                self.feed(target, line + b"\n")


async def _tick() -> None:
    """Virtual time passes in small steps, also when only threads are at work."""
    while True:  # noqa: ASYNC110 - there is nothing to wait for
        await trio.sleep(0.02)


def run(
    home: Path, main: Callable[[Cluster], Awaitable[None]], timeout: float = 60.0, snapshot_entries: int = 10_000
) -> None:
    """Run a test; requests end after `timeout` virtual seconds. While a real disk is slow, virtual time flies: a test
    that gives a short timeout must be ready for an error wherever one may come."""

    async def guarded() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tick)
            with trio.fail_after(GUARD):
                await main(Cluster(home, nursery, timeout, snapshot_entries))
            nursery.cancel_scope.cancel()

    trio.run(guarded, clock=MockClock(autojump_threshold=0.002))
