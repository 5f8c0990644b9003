"""A second kind of connection between two nodes, for what is large: it never stands in the way of a heartbeat."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Protocol, Self

import trio

from distkit.codec import FrameDecoder, Registry
from distkit.core import PeerError
from distkit.transport.hello import Hello
from distkit.transport.limits import Limits
from distkit.transport.wire import Disconnected, Wire


class Bulk(Protocol):
    """What a node needs of such a connection, whatever carries it. Disconnected and PeerError as in `BulkStream`."""

    async def send(self, message: Any) -> None:
        """Send a message."""
        ...

    async def receive(self) -> Any:
        """Wait for the next message."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class BulkStream:
    """Messages one after the other, with the other end's pace as the limit. `hello` is what the other end said.

    One task may send while another receives. Each message must pass within `bulk_timeout`. Raises Disconnected when the
    connection is gone or too slow, PeerError for what is not a message.
    """

    def __init__(self, wire: Wire, hello: Hello, registry: Registry, limits: Limits, rest: bytes) -> None:
        self.hello = hello
        self._wire = wire
        self._registry = registry
        self._timeout = limits.bulk_timeout
        self._decoder = FrameDecoder(registry, limits.frame_bytes_max)
        self._decoder.feed(rest)
        self._messages: Iterator[tuple[int, Any]] = iter(self._decoder)

    async def send(self, message: Any) -> None:
        """Send a message; returns when the system took it, which does not mean that it arrived."""
        with trio.move_on_after(self._timeout):
            await trio.lowlevel.checkpoint()  # a stream that never blocks must not hold up a heartbeat
            await self._wire.send_all(*self._registry.encode_frame(message))
            return
        raise Disconnected(f"node {self.hello.node} did not take a message within {self._timeout} s", "timeout")

    async def receive(self) -> Any:
        """Wait for the next message."""
        with trio.move_on_after(self._timeout):
            await trio.lowlevel.checkpoint()
            return await self._next()
        raise Disconnected(f"no message from node {self.hello.node} within {self._timeout} s", "timeout")

    async def _next(self) -> Any:
        while True:
            for group, message in self._messages:
                if group != 0:
                    raise PeerError(f"a message for group {group} on a bulk connection")
                return message
            data = await self._wire.receive_some()
            if not data:
                raise Disconnected("closed by the other end", "reset")
            self._decoder.feed(data)
            self._messages = iter(self._decoder)

    async def aclose(self) -> None:
        """Close the connection."""
        self._wire.close()
        await trio.lowlevel.checkpoint()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
