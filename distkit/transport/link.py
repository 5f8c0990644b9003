"""One authenticated connection between peers, for the messages of the machines."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import trio

from distkit.codec import FrameDecoder, Registry
from distkit.core import PeerError, record
from distkit.transport.hello import Hello
from distkit.transport.limits import Limits
from distkit.transport.wire import Disconnected, Outbox, Wire

#: Frames that one link may hand over in a row before the other tasks get their turn.
_FRAMES_A_TURN = 64
#: Bytes of an unfinished frame that show that the other end is alive and well.
_PROGRESS_BYTES = 4096


@record
class Ping:
    """Sent when nothing else was for a while, so that silence means trouble."""


#: The transport's own message; the registry of every host contains it.
MESSAGES = ((5, Ping, ""),)


class Traffic:
    """Counters of one or many connections."""

    __slots__ = ("bytes_in", "bytes_out", "frames_dropped", "frames_in", "frames_out", "outbox_bytes_high")

    def __init__(self) -> None:
        self.bytes_in = self.bytes_out = self.frames_in = self.frames_out = 0
        self.frames_dropped = 0
        self.outbox_bytes_high = 0

    def add(self, other: Traffic) -> None:
        """Take in the counters of another connection."""
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.frames_in += other.frames_in
        self.frames_out += other.frames_out
        self.frames_dropped += other.frames_dropped
        self.outbox_bytes_high = max(self.outbox_bytes_high, other.outbox_bytes_high)


class Link:
    """A connection whose other end is known. `hello` is what it said; `dialled` tells who made the connection.

    `send` and `flush` are plain functions that never wait: what the connection does not take now is queued, up to
    `outbox_bytes_max`. `on_message(node, group, message, link)` gets every message and may raise PeerError to end the
    link; `on_drained()` follows when all messages of a read were handed over. `unflushed` lists the links to flush.
    """

    def __init__(
        self,
        wire: Wire,
        hello: Hello,
        dialled: bool,
        registry: Registry,
        limits: Limits,
        on_message: Callable[[int, int, Any, Link], None],
        on_drained: Callable[[], None],
        unflushed: list[Link],
    ) -> None:
        self.hello = hello
        self.dialled = dialled
        self.traffic = Traffic()
        wire.taken = 0  # the bytes of the handshake are not the link's
        self._wire = wire
        self._registry = registry
        self._limits = limits
        self._on_message = on_message
        self._on_drained = on_drained
        self._decoder = FrameDecoder(registry, limits.frame_bytes_max)
        self._outbox: Outbox = deque()
        self._unflushed = unflushed
        self._listed = False  # in `_unflushed`
        self._blocked = trio.Event()  # the connection takes nothing more until it is writable
        self._scope = trio.CancelScope()
        self._in_a_row = 0  # frames handed over since the last checkpoint
        self._ended: Disconnected | None = None
        now = trio.current_time()
        self._heard = _Progress(now)
        self._spoke = _Progress(now)
        self._taken = _Progress(now)

    @property
    def outbox_bytes(self) -> int:
        """What waits to be sent."""
        return self.traffic.bytes_out - self._wire.taken if self._outbox else 0

    def send(self, message: Any, group: int = 0) -> bool:
        """Queue a message; `flush` sends it. False when the queue is full or the link is broken."""
        if self._ended is not None:
            return False
        buffers = self._registry.encode_frame(message, group)
        size = sum(map(len, buffers))
        traffic = self.traffic
        waiting = traffic.bytes_out + size - self._wire.taken
        if waiting > self._limits.outbox_bytes_max:
            traffic.frames_dropped += 1
            return False
        self._outbox += buffers
        traffic.frames_out += 1
        traffic.bytes_out += size
        if waiting > traffic.outbox_bytes_high:
            traffic.outbox_bytes_high = waiting
        if not self._listed:
            self._listed = True
            self._unflushed.append(self)
        return True

    def flush(self) -> None:
        """Send what is queued as far as the connection takes it now; the rest follows by itself."""
        self._listed = False
        if not self._blocked.is_set() and self._ended is None and not self._write():
            self._blocked.set()

    def _write(self) -> bool:
        """True when nothing is left to be written."""
        try:
            return self._wire.send(self._outbox)
        except Disconnected as cause:
            self.end(cause)
            return True

    def end(self, cause: Disconnected) -> None:
        """Break the connection from this end. `run` returns the first cause given."""
        if self._ended is None:
            self._ended = cause
            self._outbox.clear()
            self._scope.cancel()

    async def run(self, rest: bytes) -> Disconnected:
        """Serve the connection until it breaks, and say why. `rest` came in behind the handshake."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_writing)
                try:
                    await self._keep_reading(rest)
                except Disconnected as cause:
                    self.end(cause)
                except PeerError as error:
                    self.end(Disconnected(f"nonsense from node {self.hello.node}: {error}", "nonsense"))
        assert self._ended is not None  # nothing else cancels the scope
        return self._ended

    async def _keep_reading(self, rest: bytes) -> None:
        if rest:
            await self._hand_over(rest)
        while data := await self._wire.receive_some():
            await self._hand_over(data)
        raise Disconnected("closed by the other end", "reset")

    async def _hand_over(self, data: bytes) -> None:
        traffic, node = self.traffic, self.hello.node
        traffic.bytes_in += len(data)
        before = traffic.frames_in
        self._decoder.feed(data)
        for group, message in self._decoder:
            if self._in_a_row == _FRAMES_A_TURN:
                self._in_a_row = 0
                self._on_drained()
                await trio.lowlevel.checkpoint()
            self._in_a_row += 1
            traffic.frames_in += 1
            if type(message) is not Ping:
                self._on_message(node, group, message, self)
        if traffic.frames_in != before:
            self._on_drained()

    async def _keep_writing(self) -> None:
        while True:
            await self._blocked.wait()
            await self._wire.wait_writable()
            if self._write():
                self._blocked = trio.Event()

    def tick(self, now: float) -> None:
        """End the link if the other end is silent or takes nothing; ping it if nothing was sent. Call it often."""
        traffic, limits = self.traffic, self._limits
        # An unfinished frame shows life only by a fair amount of bytes, so that a byte a minute does not.
        heard = self._heard.age(now, traffic.frames_in + traffic.bytes_in // _PROGRESS_BYTES)
        if heard >= limits.silence_timeout:
            self.end(Disconnected(f"node {self.hello.node} was silent for {heard:.1f} s", "timeout"))
        elif self._outbox and self._taken.age(now, self._wire.taken) >= limits.silence_timeout:
            self.end(Disconnected(f"node {self.hello.node} stopped reading", "timeout"))
        elif self._spoke.age(now, traffic.frames_out) >= limits.keepalive:
            self.send(Ping())


class _Progress:
    """How long ago a counter was last seen to rise."""

    __slots__ = ("_count", "_since")

    def __init__(self, now: float) -> None:
        self._count = 0
        self._since = now

    def age(self, now: float, count: int) -> float:
        if count != self._count:
            self._count, self._since = count, now
        return now - self._since
