"""Thousands of client sockets in one trio task: what arrives, what leaves, and what no client may take from the others.

    hub = Hub(greet, turn_ended=service.turn_ended)     # greet(connection) -> Handler
    address = hub.bind("127.0.0.1:6401")
    await hub.serve()                                   # until cancelled

A task, a channel or a cancel scope for each request costs more than the request. So the sockets are in one selector,
and the file descriptor of the selector is what the task waits for. One turn reads every socket that is ready, hands the
bytes to the handlers, calls `turn_ended` once (the place to send what they asked of others as one batch), and writes to
each connection once. Answers that come later, from other tasks, are written together in the same way.

Everything a stranger can make large is bounded: connections, unsent bytes, the time of a turn (`TURN_SECONDS`; then
other tasks run), the time until a client is admitted, and the time for which a client may leave answers unread.
Keepalive finds clients whose machine is gone. What a client sends without end is the handler's to bound: it calls
`pause` while it has enough, and the kernel's buffers fill up to the sender.

With a `tls` context the same loop feeds the bytes through `ssl.SSLObject`.
"""

import contextlib
import errno
import logging
import selectors
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import trio

from distkit import LocalError
from distkit.transport import split_address

__all__ = ["Connection", "Handler", "Hub", "HubLimits"]

logger = logging.getLogger(__name__)

RECEIVE_BYTES = 64 * 1024
TURN_SECONDS = 0.02
SWEEP_SECONDS = 1.0
ACCEPTS_PER_TURN = 64
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@dataclass(frozen=True)
class HubLimits:
    """Sizes in bytes, times in seconds; `idle_timeout` 0 means that a silent client may stay.

    A connection is crowded when `crowded_bytes` wait to be sent, and closed at `unsent_bytes_max`. A client is admitted
    (TLS and password) within `admission_timeout`, and takes some of what waits for it within `stall_timeout`.
    """

    connections_max: int = 4096
    crowded_bytes: int = 1 << 20
    unsent_bytes_max: int = 32 << 20
    admission_timeout: float = 10.0
    stall_timeout: float = 60.0
    idle_timeout: float = 0.0


class Handler(Protocol):
    """What understands the bytes of one connection. An exception out of it is a bug and ends `Hub.serve`."""

    @property
    def admitted(self) -> bool:
        """The client has shown what it has to show."""
        ...

    @property
    def busy(self) -> bool:
        """The client has asked something that is not answered yet."""
        ...

    def received(self, data: bytes) -> None:
        """Bytes came."""
        ...

    def drained(self) -> None:
        """The connection was crowded and is not any more."""
        ...

    def closed(self) -> None:
        """The connection is gone. Called once; nothing else is called after it."""
        ...


class Connection:
    """One client: a socket, what waits to be sent, and its handler. Everything here is plain and returns at once."""

    __slots__ = (
        "_closing",
        "_crowded",
        "_dirty",
        "_hub",
        "_interest",
        "_outbox",
        "_paused",
        "_socket",
        "_tail",
        "_tls",
        "closed",
        "handler",
        "peer",
        "since",
        "touched",
        "unsent",
    )

    handler: Handler

    def __init__(self, hub: "Hub", sock: socket.socket, peer: str, tls: "TlsChannel | None", now: float) -> None:
        self._hub = hub
        self._socket = sock
        self._tls = tls
        self._outbox: list[bytes] = []
        self._tail: memoryview | None = None  # of the packet that the kernel took only in part
        self._interest = 0
        self._paused = self._closing = self._dirty = self._crowded = False
        self.peer = peer
        self.closed = False
        #: Bytes that wait to be sent.
        self.unsent = 0
        #: When it came, and when bytes last moved in either direction.
        self.since = self.touched = now

    @property
    def crowded(self) -> bool:
        """So much waits to be sent that nothing should be added; `Handler.drained` tells when that is over."""
        return self.unsent > self._hub.limits.crowded_bytes

    def send(self, data: bytes) -> None:
        """Queue bytes; they leave at the end of the turn, together."""
        if self.closed or self._closing:
            return
        self._outbox.append(data)
        self.unsent += len(data)
        self._touch()

    def close(self) -> None:
        """Close when everything queued is sent; what the client still sends is not read."""
        self._closing = True
        self._touch()

    def pause(self) -> None:
        """Read no more for now."""
        if not self._paused:
            self._paused = True
            self._update_interest()

    def resume(self) -> None:
        """Read again."""
        if self._paused and not self._hub.draining:
            self._paused = False
            self._update_interest()

    def _touch(self) -> None:
        if not self._dirty and not self.closed:
            self._dirty = True
            self._hub.to_write.append(self)
            if self._hub.wake_on_send:
                self._hub.wake()

    # -- what the hub calls ----------------------------------------------------------------------------------------

    def ready(self, events: int, now: float) -> None:
        """The selector says so."""
        if events & selectors.EVENT_WRITE:
            self.write(now)
        if events & selectors.EVENT_READ and not self._paused and not self.closed:
            self._read(now)

    def _read(self, now: float) -> None:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.drop(f"reading failed: {error}")
            return
        if not data:
            self.drop("closed by the client")
            return
        self.touched = now
        if self._tls is not None:
            try:
                data = self._tls.decrypt(data)
            except ssl.SSLError as error:
                self._hub.count("tls_failed")
                self.drop(f"TLS failed: {error.reason or error}")
                return
            self._touch()  # a handshake answers without the handler
            if self._tls.ended:
                self.close()
        if data and not self._closing:
            self.handler.received(data)

    def write(self, now: float) -> None:
        """Send what waits, as far as the kernel takes it."""
        self._dirty = False
        if self.closed:
            return
        was_crowded = self._crowded or self.crowded  # the handler has stopped, even if the kernel takes all of it now
        while self._tail is not None or self._take_outbox():
            assert self._tail is not None
            try:
                sent = self._socket.send(self._tail)
            except BlockingIOError:
                break
            except OSError as error:
                self.drop(f"writing failed: {error}")
                return
            self.touched = now
            self.unsent -= sent
            self._tail = self._tail[sent:] if sent < len(self._tail) else None
        if self._tail is None and self._closing:
            self.drop("closed here")
            return
        if self.unsent > self._hub.limits.unsent_bytes_max:
            self._hub.count("unread_too_much")
            self.drop(f"{self.unsent} bytes of answers were not read")
            return
        self._update_interest()
        self._crowded = self.crowded
        if was_crowded and not self._crowded:
            self.handler.drained()
            self._hub.wake()  # for what it sends now, the turn that this write ended is too late

    def _take_outbox(self) -> bool:
        """Make the next packet out of everything that was queued; False if there is nothing."""
        if self._tls is not None:
            plain = b"".join(self._outbox)
            data = self._tls.encrypt(plain)
            if self._tls.established:
                self.unsent += len(data) - len(plain)
                self._outbox.clear()
            else:
                self.unsent += len(data)
        else:
            data = self._outbox[0] if len(self._outbox) == 1 else b"".join(self._outbox)
            self._outbox.clear()
        self._tail = memoryview(data) if data else None
        return bool(data)

    def _update_interest(self) -> None:
        wanted = (not self._paused and not self._closing) * selectors.EVENT_READ
        wanted |= (self._tail is not None) * selectors.EVENT_WRITE
        if wanted != self._interest and not self.closed:
            self._hub.watch(self._socket, self._interest, wanted, self)
            self._interest = wanted

    def drop(self, reason: str) -> None:
        """Close at once; what waits is lost."""
        if self.closed:
            return
        self.closed = True
        logger.debug("client %s: %s", self.peer, reason)
        self._hub.watch(self._socket, self._interest, 0, self)
        self._hub.connections.pop(self, None)
        self._socket.close()
        self._outbox.clear()
        self._tail = None
        self.handler.closed()

    def overdue(self, now: float) -> str:
        """Why this connection has to go, "" if it may stay."""
        limits = self._hub.limits
        admitted = self.handler.admitted and (self._tls is None or self._tls.established)
        if not admitted:
            return "not admitted in time" if now - self.since > limits.admission_timeout else ""
        if self.unsent:
            return "answers were not read" if now - self.touched > limits.stall_timeout else ""
        if limits.idle_timeout and not self.handler.busy and now - self.touched > limits.idle_timeout:
            return "idle"
        return ""


class TlsChannel:
    """The server's end of TLS without I/O."""

    __slots__ = ("_incoming", "_outgoing", "_tls", "ended", "established")

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.established = False
        #: The client has said that nothing follows.
        self.ended = False

    def decrypt(self, data: bytes) -> bytes:
        """Take bytes of the socket, return what they say; b"" during the handshake. Raises ssl.SSLError."""
        self._incoming.write(data)
        parts: list[bytes] = []
        with contextlib.suppress(ssl.SSLWantReadError):
            if not self.established:
                self._tls.do_handshake()
                self.established = True
            while part := self._tls.read(RECEIVE_BYTES):
                parts.append(part)
            self.ended = True
        return b"".join(parts)

    def encrypt(self, data: bytes) -> bytes:
        """Bytes for the socket: what TLS itself has to say, and, once it is established, `data`."""
        if self.established and data:
            self._tls.write(data)
        return self._outgoing.read()


class Hub:
    """All connections of a server. `serve` is the task; everything else is plain.

    Args:
        greet: makes the handler of a new connection.
        turn_ended: called after the handlers had their bytes and before anything is written.
        limits: see `HubLimits`.
        tls: every client has to speak TLS with this context.
        turned_away: what a client is told that comes when there are `connections_max` already.
        wake_on_send: write answers that come from other tasks in a turn of their own. Without it, whoever answers
            calls `write_answers` afterwards, which saves the turn.
    """

    def __init__(
        self,
        greet: Callable[[Connection], Handler],
        *,
        turn_ended: Callable[[], None],
        limits: HubLimits | None = None,
        tls: ssl.SSLContext | None = None,
        turned_away: bytes = b"-ERR max number of clients reached\r\n",
        wake_on_send: bool = True,
    ) -> None:
        self.limits = limits or HubLimits()
        self.connections: dict[Connection, None] = {}
        self.to_write: list[Connection] = []
        self.counters: dict[str, int] = {}
        #: No new request is read any more.
        self.draining = False
        self._greet = greet
        self._turn_ended = turn_ended
        self._tls = tls
        self._turned_away = turned_away
        self.wake_on_send = wake_on_send
        self._selector = selectors.DefaultSelector()
        self._listener: socket.socket | None = None
        self._accepting = False
        self._wake = trio.Event()
        self._turning = False

    def bind(self, address: str) -> str:
        """Listen on HOST:PORT and return the real one (port 0 takes any). LocalError says why it can't be."""
        host, port = split_address(address)
        try:
            family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listener = socket.socket(family, kind, protocol)
        except OSError as error:
            raise LocalError(f"clients can't be served on {address}: {error.strerror or error}") from error
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(target)
            listener.listen(1024)
        except OSError as error:
            listener.close()
            raise LocalError(f"clients can't be served on {address}: {error.strerror or error}") from error
        listener.setblocking(False)
        self._listener = listener
        self._set_accepting(True)
        return f"{address.rpartition(':')[0]}:{listener.getsockname()[1]}"

    async def serve(self) -> None:
        """Serve until cancelled; then every connection is closed as it is."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write_answers)
                nursery.start_soon(self._sweep)
                await self._read_requests()
        finally:
            self._stop_listening()
            for connection in list(self.connections):
                connection.drop("the server stops")
            self._selector.close()

    async def drain(self) -> None:
        """Take no connection and no request any more; return when all is answered and sent."""
        self.draining = True
        self._stop_listening()
        for connection in self.connections:
            connection.pause()
        # Polling is fine here: it is done once in a process, and is short.
        while any(each.handler.busy or each.unsent for each in self.connections):  # noqa: ASYNC110
            await trio.sleep(0.01)

    def wake(self) -> None:
        """End a turn soon: something waits to be written, or to be asked of others."""
        if not self._turning:
            self._wake.set()

    def count(self, what: str) -> None:
        """One more of this kind, for people and metrics."""
        self.counters[what] = self.counters.get(what, 0) + 1

    def watch(self, sock: socket.socket, before: int, wanted: int, data: Connection | None) -> None:
        """Change what the selector waits for, from `before` to `wanted` (selectors.EVENT_*, 0: nothing)."""
        if not before:
            if wanted:
                self._selector.register(sock, wanted, data)
        elif wanted:
            self._selector.modify(sock, wanted, data)
        else:
            self._selector.unregister(sock)

    async def _read_requests(self) -> None:
        ready: deque[tuple[selectors.SelectorKey, int]] = deque()
        while True:
            # Who was not served in the last turn comes first in this one, so that nobody is starved by the others.
            if ready:
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.wait_readable(self._selector.fileno())
                ready.extend(self._selector.select(0))
            now = time.monotonic()
            self._turning = True
            while ready and time.monotonic() - now < TURN_SECONDS:
                key, events = ready.popleft()
                if key.data is None:
                    self._accept(now)
                elif not key.data.closed:
                    key.data.ready(events, now)
            self._end_turn(now)

    async def _write_answers(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            self._turning = True
            self._end_turn(time.monotonic())

    def _end_turn(self, now: float) -> None:
        self._turning = False
        self._turn_ended()
        self.write_answers(now)

    def write_answers(self, now: float) -> None:
        """Write what is queued for all connections, each once."""
        to_write, self.to_write = self.to_write, []
        for connection in to_write:
            connection.write(now)

    # -- connections come and go -----------------------------------------------------------------------------------

    def _accept(self, now: float) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            if self._listener is None:
                return
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in NO_ROOM:
                    logger.warning("no client can be taken for a moment: %s", error.strerror)
                    self._set_accepting(False)  # or the selector would report the listener without end
                    return
                continue  # that client is gone already
            self._welcome(sock, address, now)

    def _welcome(self, sock: socket.socket, address: tuple[object, ...], now: float) -> None:
        sock.setblocking(False)
        if len(self.connections) >= self.limits.connections_max:
            self.count("turned_away")
            with contextlib.suppress(OSError):
                if self._tls is None:
                    sock.send(self._turned_away)
            sock.close()
            return
        self.count("accepted")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, seconds in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 20), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, option):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)
        tls = TlsChannel(self._tls) if self._tls is not None else None
        connection = Connection(self, sock, f"{address[0]}:{address[1]}", tls, now)
        connection.handler = self._greet(connection)
        self.connections[connection] = None
        connection.resume() if connection._paused else connection._update_interest()

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(SWEEP_SECONDS)
            self._set_accepting(True)
            now = time.monotonic()
            for connection in list(self.connections):
                reason = connection.overdue(now)
                if reason:
                    self.count("overdue")
                    connection.drop(reason)

    def _set_accepting(self, wanted: bool) -> None:
        if self._listener is not None and wanted != self._accepting:
            self._accepting = wanted
            self.watch(self._listener, not wanted, wanted, None)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._set_accepting(False)
            self._listener.close()
            self._listener = None
