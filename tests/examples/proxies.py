"""A proxy and servers behind it in one event loop, on loopback: what the tests of the proxy talk to."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial, wraps
from typing import Any

import trio
from proxy import Listener, Proxy
from proxy_config import ProxyConfig
from proxy_messages import Head, Reader
from proxy_upstream import Upstream
from proxy_wire import Wire
from toml_records import read_records

from distkit.transport import join_address, split_address

#: What a server does with one connection.
Behaviour = Callable[["Backend", Wire], Awaitable[None]]


def trio_test(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test, with its fixtures."""

    @wraps(test)
    def run(**fixtures: Any) -> None:
        trio.run(partial(test, **fixtures))

    return run


async def until(condition: Callable[[], object]) -> None:
    """Wait, within the bound of `proxied`."""
    while not condition():  # noqa: ASYNC110 (what it waits for is another process's or the kernel's)
        await trio.sleep(0.005)


class Backend:
    """A server on a port of its own. `requests` are the heads and bodies that it has read."""

    def __init__(self, behaviour: Behaviour, host: str = "127.0.0.1") -> None:
        self.behaviour = behaviour
        self.requests: list[tuple[Head, bytes]] = []
        self.connections = 0
        self.listening = trio.CancelScope()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, 0), family=family)
        self._socket.setblocking(False)
        self.address = join_address(host, self._socket.getsockname()[1])

    async def run(self) -> None:
        with self._socket, self.listening:
            async with trio.open_nursery() as nursery:
                while True:
                    await trio.lowlevel.wait_readable(self._socket)
                    sock, _ = self._socket.accept()
                    self.connections += 1
                    nursery.start_soon(self._serve, Wire(sock))

    async def _serve(self, wire: Wire) -> None:
        try:
            await self.behaviour(self, wire)
        except OSError:
            pass
        finally:
            wire.close()

    async def request(self, wire: Wire, reader: Reader) -> bool:
        """Read a request; False when the other end has closed."""
        while not any(event is None for event in reader.events):
            data = await wire.receive()
            if not data:
                return False
            reader.feed(data)
        head = reader.events.popleft()
        assert isinstance(head, Head)
        body = b""
        while (piece := reader.events.popleft()) is not None:
            assert isinstance(piece, bytes)
            body += piece
        self.requests.append((head, body))
        return True


def answering(*responses: bytes) -> Behaviour:
    """Answer each request with the next of these, the last one for ever. b"" closes without an answer."""
    rest = list(responses)

    async def behave(backend: Backend, wire: Wire) -> None:
        reader = Reader(requests=True)
        while await backend.request(wire, reader):
            data = rest.pop(0) if len(rest) > 1 else rest[0]
            if not data:
                return
            await wire.send(data)

    return behave


def ok(text: bytes = b"ok", *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole response."""
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(text), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + text


async def silent(backend: Backend, wire: Wire) -> None:
    """Read requests and never answer."""
    reader = Reader(requests=True)
    while await backend.request(wire, reader):
        pass


class Running:
    """A proxy that runs: its one listener, its cluster "app", and clients for it."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.clients: list[Wire] = []

    @property
    def listener(self) -> Listener:
        (found,) = self.proxy.listeners.values()
        return found

    @property
    def upstream(self) -> Upstream:
        return self.proxy.upstreams["app"]

    def client(self) -> Wire:
        """A new connection to the proxy."""
        self.clients.append(Wire(socket.create_connection(split_address(self.listener.address))))
        return self.clients[-1]

    async def ask(self, request: bytes, wire: Wire | None = None) -> tuple[Head, bytes]:
        """Send a request, on a connection of its own if none is given, and read the answer."""
        mine = wire or self.client()
        try:
            await mine.send(request)
            return await response(mine, request.startswith(b"HEAD"))
        finally:
            if wire is None:
                mine.close()


async def response(wire: Wire, without_body: bool = False) -> tuple[Head, bytes]:
    """Read one response. ConnectionError if it is not complete."""
    reader, body = Reader(requests=False), b""
    with trio.fail_after(20):
        head: Head | None = None
        while True:
            while not reader.events:
                data = await wire.receive()
                if not data:
                    if head is not None and head.length is None and not head.chunked:
                        return head, body
                    raise ConnectionError("the response is not complete")
                reader.feed(data)
            event = reader.events.popleft()
            if isinstance(event, Head):
                head = event
                if without_body:
                    return head, b""
            elif event is not None:
                body += event
            else:
                assert head is not None
                return head, body


def get(path: str = "/", *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
    """A request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: example", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def proxied(
    *behaviours: Behaviour, listen: str = "", cluster: str = "", top: str = "", host: str = "127.0.0.1"
) -> AsyncIterator[tuple[Running, list[Backend]]]:
    """A proxy in front of a server for each behaviour, which are called b0, b1, ... The texts are lines of TOML."""
    backends = [Backend(each, host) for each in behaviours]
    async with trio.open_nursery() as nursery:
        for backend in backends:
            nursery.start_soon(backend.run)
        proxy = Proxy(nursery, random.Random(1))
        proxy.apply(configured(backends, listen, cluster, top, host))
        nursery.start_soon(proxy.sweep)
        running = Running(proxy)
        try:
            with trio.fail_after(60):
                yield running, backends
        finally:
            for client in running.clients:
                client.close()
        nursery.cancel_scope.cancel()


def configured(
    backends: list[Backend], listen: str = "", cluster: str = "", top: str = "", host: str = "127.0.0.1"
) -> ProxyConfig:
    """The configuration of `proxied`."""
    endpoints = ", ".join(f'{{ id = "b{each}", address = "{one.address}" }}' for each, one in enumerate(backends))
    text = f"""
{top}
[listen.web]
address = "{join_address(host, 0)}"
cluster = "app"
{listen}
[cluster.app]
endpoints = [{endpoints}]
{cluster}
"""
    return read_records(ProxyConfig, text)
