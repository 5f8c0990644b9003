"""Nodes and raw peers for the tests of the transport: real sockets on the loopback interface."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from trio.testing import MockClock

from distkit.codec import Registry
from distkit.core import record
from distkit.transport import (
    MESSAGES,
    BulkStream,
    Credentials,
    Handshake,
    Hello,
    Limits,
    Link,
    Purpose,
    Refusal,
    Transport,
    split_address,
)

KEY = b"k" * 32
#: Seconds of either clock after which a test that hangs is given up.
GUARD = 60.0


@record
class Letter:
    """A message of the tests."""

    number: int
    content: bytes


REGISTRY = Registry([(100, Letter, "number:u64 content:bytes")], MESSAGES)


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run with the real clock."""
    trio.run(_guarded, main)


def run_virtual(main: Callable[[], Awaitable[None]]) -> None:
    """Run with a clock that jumps when everybody has been waiting for a moment (long enough for the loopback)."""
    trio.run(_guarded, main, clock=MockClock(autojump_threshold=0.01))


async def _guarded(main: Callable[[], Awaitable[None]]) -> None:
    with trio.fail_after(GUARD):
        await main()


class Node:
    """A host that writes down what it is told, and answers bulk streams by echoing them."""

    def __init__(
        self,
        node: int,
        cluster: int = 7,
        boot: int = 1,
        credentials: Credentials | None = None,
        limits: Limits | None = None,
        listen: str = "127.0.0.1:0",
    ) -> None:
        self.id = node
        self.hello = Hello(cluster, node, node * 11, boot, None, ((node, "a:1"),))
        self.transport = Transport(
            REGISTRY, lambda: self.hello, credentials or Credentials(KEY), self, random.Random(node), limits
        )
        self.address = self.transport.bind(listen)
        self.events: list[tuple[Any, ...]] = []
        self.letters: list[tuple[int, int, Letter]] = []
        self.answering = False
        self._changed = trio.Event()
        self._scope = trio.CancelScope()

    async def serve(self, peers: dict[int, str]) -> None:
        with self._scope:
            await self.transport.serve(peers)

    def stop(self) -> None:
        self._scope.cancel()

    def send(self, node: int, letter: Letter, group: int = 0) -> bool:
        sent = self.transport.send(node, letter, group)
        self.transport.flush()
        return sent

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something that the host was told makes it true."""
        while not true():
            self._changed = trio.Event()
            await self._changed.wait()

    async def saw(self, *event: Any) -> None:
        await self.until(lambda: event in self.events)

    def _note(self, *event: Any) -> None:
        self.events.append(event)
        self._changed.set()

    def judge(self, hello: Hello) -> Refusal | None:
        if hello.cluster != self.hello.cluster:
            return Refusal(3, f"this is cluster {self.hello.cluster}")
        return None

    def on_hello(self, hello: Hello) -> None:
        self._note("hello", hello.node, hello.boot)

    def on_connected(self, node: int) -> None:
        self._note("connected", node)

    def on_message(self, node: int, group: int, message: Any, link: Link) -> None:
        self.letters.append((node, group, message))
        if self.answering:
            link.send(message, group)
        self._changed.set()

    def on_drained(self) -> None:
        self.transport.flush()

    def on_lost(self, node: int, reason: str) -> None:
        self._note("lost", node, reason)

    def on_refused(self, node: int, refusal: Refusal, by_peer: bool, authenticated: bool) -> None:
        self._note("refused", node, refusal.code, by_peer, authenticated)

    async def on_bulk(self, hello: Hello, stream: BulkStream) -> None:
        self._note("bulk", hello.node)
        while True:
            await stream.send(await stream.receive())


@asynccontextmanager
async def serving(*nodes: Node) -> AsyncIterator[trio.Nursery]:
    """The nodes, each dialling all others, connected both ways."""
    addresses = {node.id: node.address for node in nodes}
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(node.serve, addresses)
        for node in nodes:
            for other in nodes:
                if other is not node:
                    await node.saw("connected", other.id)
                    await node.until(lambda node=node, other=other: accepted(node, other.id))  # type: ignore[misc]
        yield nursery
        nursery.cancel_scope.cancel()


def accepted(node: Node, peer: int) -> bool:
    return any(found.node == peer and found.accepted for found in node.transport.status().peers)


async def connect(address: str) -> trio.SocketStream:
    host, port = split_address(address)
    return await trio.open_tcp_stream(host, port)


async def join(node: Node, member: int, boot: int = 1, purpose: Purpose = Purpose.PEER) -> trio.SocketStream:
    """A raw connection to the node that has shaken hands as a member."""
    stream = await connect(node.address)
    hello = Hello(node.hello.cluster, member, member * 11, boot, None, (), purpose)
    handshake = Handshake(hello, bytes(32), lambda hello: None, key=KEY, names=None, expected=node.id)
    while True:
        if data := handshake.take():
            await stream.send_all(data)
        if handshake.done:
            return stream
        assert handshake.refusal is None
        handshake.receive(await stream.receive_some())


def frame(message: Any, group: int = 0) -> bytes:
    return b"".join(REGISTRY.encode_frame(message, group))
