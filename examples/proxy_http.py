"""HTTP/1.1 through the proxy: one task a client connection, one request after another, each in up to a few attempts.

What may be tried again: a request that reached nobody (the connection could not be made), and an idempotent one
(RFC 9110, section 9.2.2) whose server failed before the first byte of its answer went on, if its body was kept.
Once a byte of an answer is with the client, a failure resets the connection, so that nobody takes a part for the whole.

One party is waited for at a time, the client or the server, and there is one time at which that is too long: whoever
owns all connections looks at it now and then (`sweep`), which costs a request nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import trio
from proxy_messages import (
    ANEW,
    END,
    IDEMPOTENT,
    LAST_CHUNK,
    BadMessage,
    Event,
    Head,
    Reader,
    answer,
    chunk,
    encode_head,
    forwarded,
    status_line,
)
from proxy_protocol import Source
from proxy_upstream import Attempt, Upstream, unreached
from proxy_wire import Wire, move

from distkit.balance import Outcome
from distkit.transport import join_address

#: Of bodies that have so much still to come, the rest is moved without the parser.
BULK_BYTES = 64 << 10
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
#: A client that still sends gets so long to read its last answer: closing earlier would reset it.
LINGER_SECONDS = 2.0
_REQUEST_ANEW = ANEW | {b"expect", b"x-forwarded-for"}
_VIA = {version: (b"via", b"%b distkit" % version.encode()) for version in ("1.0", "1.1")}


class ClientGone(Exception):
    """The client's connection ended before its request or our answer did."""


class UpstreamFailed(Exception):
    """An attempt failed before anything of its answer went on; the client is told `status` if it was the last."""

    def __init__(self, outcome: Outcome, status: int, what: str, *, sent: bool, stale: bool = False) -> None:
        super().__init__(what)
        self.outcome = outcome
        self.status = status
        #: The server may have acted on the request.
        self.sent = sent
        #: A connection that had served before ended without a word: the server may just have tired of it.
        self.stale = stale


@dataclass(slots=True)
class Exchange:
    """A request on its way, over all its attempts."""

    head: Head
    #: The head as it goes to the server.
    request: bytes
    #: The body as it goes to the server, as far as it has come; all of it when `complete`.
    body: list[bytes] = field(default_factory=list)
    complete: bool = False
    #: `body` still begins with the first byte: it can be sent again.
    kept: bool = True
    #: A client that has to end this connection, or that we send away.
    last: bool = False

    def may_repeat(self, failure: UpstreamFailed) -> bool:
        """Another attempt can do no harm."""
        return self.kept and (not failure.sent or self.head.method in IDEMPOTENT)


class HttpClient:
    """One connection of a client. Whoever owns all of them calls `sweep`, and cancels `scope` to end one."""

    __slots__ = (
        "_answering",
        "_awaited",
        "_forwarded_for",
        "_late",
        "_lingers",
        "_overdue",
        "_partial",
        "_reader",
        "_served",
        "_upstream",
        "_waiting",
        "_wire",
        "draining",
        "head_timeout",
        "idle_timeout",
        "scope",
        "source",
    )

    def __init__(
        self, wire: Wire, source: Source, upstream: Upstream, head_timeout: float, idle_timeout: float
    ) -> None:
        self._wire = wire
        self._upstream = upstream
        self._reader = Reader(requests=True)
        self._answering = False
        #: A request was answered.
        self._served = False
        #: The client may still send when it has its last answer.
        self._lingers = False
        self._forwarded_for = source.host.encode()
        self.source = source
        self.head_timeout = head_timeout
        self.idle_timeout = idle_timeout
        #: Whose turn it is, the client's or a server's, and when that is too late.
        self._awaited = wire
        self._overdue = time.monotonic() + head_timeout
        self._late = False
        #: A server is at work, and the client has nothing to do but to wait (or to leave).
        self._waiting = False
        #: Something of an answer is with the client, and not all of it.
        self._partial = False
        #: The present request is the last.
        self.draining = False
        self.scope = trio.CancelScope()

    @property
    def idle(self) -> bool:
        """Between two requests. A client that has just come is not: its request is on the way."""
        return self._served and not self._answering and not self._reader.begun and self._wire.is_quiet()

    def sweep(self, now: float) -> None:
        """End the wait for a server that takes too long, and the connection of a client that does, or has left."""
        if now > self._overdue and self._awaited is not self._wire:
            self._late = True
            self._overdue = float("inf")
            self._awaited.end()
        elif now > self._overdue or (self._waiting and self._wire.has_ended()):
            self.scope.cancel()

    def _await(self, wire: Wire, seconds: float) -> None:
        self._overdue = time.monotonic() + seconds
        self._awaited = wire

    def route(self, upstream: Upstream) -> None:
        """Later requests go there."""
        self._upstream = upstream

    async def serve(self, first: bytes = b"") -> None:
        """Answer requests until one side ends. `first`: bytes that have been read already."""
        try:
            with self.scope:
                await self._serve(first)
            if self.scope.cancelled_caught and self._reader.begun and not self._answering:
                self._say(answer(408, "the request did not come in time\n", close=True))
        except (OSError, ClientGone):
            pass  # nobody is there to be told
        finally:
            if self._partial:  # also when we are told to stop: nobody may take what there is for the whole
                self._wire.reset()
            self._wire.close()

    async def _serve(self, first: bytes) -> None:
        try:
            if first:
                self._reader.feed(first)
            while await self._serve_request():
                pass
        except BadMessage as error:
            self._say(answer(error.status, f"{error}\n", close=True))
            self._lingers = True
        if self._lingers:
            self._await(self._wire, LINGER_SECONDS)
            self._wire.finish()
            while time.monotonic() < self._overdue and await self._wire.receive():
                pass

    def _say(self, data: bytes) -> None:
        """Send as much as goes at once, as the last."""
        try:
            self._wire.sock.send(data)
        except OSError:
            pass

    # -- a request ---------------------------------------------------------------------------------------------------

    async def _serve_request(self) -> bool:
        """Answer the next request; whether the connection may carry another."""
        self._answering = False
        begun = self._reader.begun or not self._served
        self._await(self._wire, self.head_timeout if begun else self.idle_timeout)
        head = await self._event()
        if head is END or self.draining:
            return False
        assert isinstance(head, Head)
        self._answering = True
        exchange = Exchange(head, self._request(head), last=not head.keep_alive)
        self._take_body(exchange)
        expects = not exchange.complete and head.version == "1.1" and (head.get(b"expect") or b"")
        if expects and expects.lower() == b"100-continue":
            await self._wire.send(CONTINUE)
        upstream = self._upstream
        upstream.counters.requests += 1
        upstream.active += 1
        try:
            failure = await self._attempts(exchange, upstream)
        finally:
            upstream.active -= 1
            self._waiting = False
        if failure is not None:
            exchange.last = exchange.last or not exchange.complete
            close = exchange.last or self.draining
            self._await(self._wire, self.idle_timeout)
            await self._wire.send(answer(failure.status, f"{failure}\n", close=close, empty=head.method == b"HEAD"))
            await trio.lowlevel.checkpoint()  # many requests that came at once may fail without any waiting
        self._served = True
        self._lingers = not exchange.complete
        return not exchange.last and not self.draining

    async def _event(self) -> Event:
        """The next piece of a request; END also when the client has sent its last request and closes."""
        reader = self._reader
        while not reader.events:
            reader.check()
            data = await self._wire.receive()
            if not data:
                if reader.begun or self._answering:
                    raise ClientGone
                return END
            if not reader.begun and not self._answering:
                self._overdue = time.monotonic() + self.head_timeout
            reader.feed(data)
        return reader.events.popleft()

    def _request(self, head: Head) -> bytes:
        headers = forwarded(head, _REQUEST_ANEW)
        before = [value for name, value in head.headers if name == b"x-forwarded-for"]
        headers.append((b"x-forwarded-for", b", ".join((*before, self._forwarded_for))))
        if head.get(b"host") is None:  # HTTP/1.0 knows none, and the next hop needs one
            headers.append((b"host", join_address(self.source.target_host, self.source.target_port).encode()))
        headers.append(_VIA[head.version])
        if head.chunked:
            headers.append((b"transfer-encoding", b"chunked"))
        elif head.length is not None:
            headers.append((b"content-length", b"%d" % head.length))
        if head.upgrade:
            headers += [(b"connection", b"upgrade"), (b"upgrade", head.upgrade)]
        return encode_head(b"%b %b HTTP/1.1" % (head.method, head.target), headers)

    def _take_body(self, exchange: Exchange) -> bytes:
        """Move what has come of the body to the exchange; that piece, as it goes to the server."""
        events = self._reader.events
        pieces: list[bytes] = []
        while events and not exchange.complete:
            event = events.popleft()
            if event is END:
                exchange.complete = True
            else:
                assert isinstance(event, bytes)
                pieces.append(event)
        data = b"".join(pieces)
        if exchange.head.chunked:
            data = (chunk(data) if data else b"") + (LAST_CHUNK if exchange.complete else b"")
        if data:
            exchange.body.append(data)
        return data

    # -- attempts ----------------------------------------------------------------------------------------------------

    async def _attempts(self, exchange: Exchange, upstream: Upstream) -> UpstreamFailed | None:
        """Try until an answer has gone to the client (None), or until there is nothing more to try."""
        failure: UpstreamFailed | None = None
        attempt = upstream.first_attempt(self.source, exchange.head)
        while attempt.pick():
            try:
                await self._attempt(exchange, attempt)
                return None
            except UpstreamFailed as error:
                failure = error
                attempt.outcome = error.outcome
            finally:
                attempt.done()
            if not exchange.may_repeat(failure) or not attempt.next():
                break
        return failure or UpstreamFailed(Outcome.OK, 503, "no endpoint can take the request", sent=False)

    async def _attempt(self, exchange: Exchange, attempt: Attempt) -> None:
        try:
            await self._attempt_on(await self._open(attempt), exchange, attempt)
        except UpstreamFailed as error:
            if not error.stale or not exchange.may_repeat(error):
                raise
            await self._attempt_on(await self._open(attempt, new=True), exchange, attempt)

    async def _attempt_on(self, wire: Wire, exchange: Exchange, attempt: Attempt) -> None:
        reusable = self._late = False
        used = wire.received
        self._waiting = True
        self._await(wire, attempt.upstream.config.response_timeout)
        try:
            await wire.send(b"".join((exchange.request, *exchange.body)))
            if exchange.complete:
                reusable = await self._answer(exchange, attempt, wire)
            else:
                reusable = await self._answer_while_sending(exchange, attempt, wire)
        except OSError as error:
            if self._late:
                what = f"{attempt.endpoint.id} did not answer in time"
                raise UpstreamFailed(Outcome.TIMEOUT, 504, what, sent=True) from None
            what, stale = f"{attempt.endpoint.id} failed: {error}", 0 < used == wire.received
            raise UpstreamFailed(Outcome.ERROR, 502, what, sent=True, stale=stale) from None
        finally:
            if reusable:
                attempt.upstream.keep(attempt.endpoint, wire)
            else:
                wire.close()

    async def _open(self, attempt: Attempt, *, new: bool = False) -> Wire:
        self._overdue = float("inf")  # connecting has a limit of its own
        upstream = attempt.upstream
        try:
            return (not new and upstream.idle(attempt.endpoint)) or await upstream.connect(
                attempt.endpoint, self.source
            )
        except (OSError, trio.TooSlowError) as error:
            what = f"{attempt.endpoint.id} can't be reached: {error or 'too slow'}"
            raise UpstreamFailed(unreached(error), 502, what, sent=False) from None

    async def _answer_while_sending(self, exchange: Exchange, attempt: Attempt, wire: Wire) -> bool:
        """The server may answer, and has to be listened to, before it has the whole body."""
        failure: Exception | None = None
        client_failure: Exception | None = None
        reusable = False

        async def send() -> None:
            nonlocal client_failure
            try:
                await self._send_rest(exchange, attempt, wire)
            except (BadMessage, ClientGone) as error:
                client_failure = error
                nursery.cancel_scope.cancel()
            except OSError:
                pass  # the server reads no more: its answer, or the lack of one, tells why

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            try:
                reusable = await self._answer(exchange, attempt, wire)
            except (UpstreamFailed, ClientGone, OSError) as error:
                failure = error
            nursery.cancel_scope.cancel()
        if client_failure is not None:
            # Only a client that has nothing of an answer can be told what is wrong.
            raise client_failure if self._waiting else ClientGone
        if failure is not None:
            raise failure
        return reusable and exchange.complete

    async def _send_rest(self, exchange: Exchange, attempt: Attempt, wire: Wire) -> None:
        config, reader = attempt.upstream.config, self._reader
        length, size = exchange.head.length or 0, sum(map(len, exchange.body))
        while not exchange.complete:
            if not exchange.kept and not reader.events and length - size >= BULK_BYTES:
                await self._move(attempt, self._wire, wire, length - size)
                self._await(wire, config.response_timeout)
                self._reader = Reader(requests=True)  # the former one waits for that body for ever
                exchange.complete = True
                return
            if not reader.events:
                reader.check()
                self._await(self._wire, self.idle_timeout)
                data = await self._wire.receive()
                if not data:
                    raise ClientGone
                reader.feed(data)
            new = self._take_body(exchange)
            size += len(new)
            if not exchange.kept or size > config.retries.body_bytes_max:
                exchange.kept = False
                exchange.body.clear()
            self._await(wire, config.response_timeout)
            await wire.send(new)

    # -- the answer --------------------------------------------------------------------------------------------------

    async def _answer(self, exchange: Exchange, attempt: Attempt, wire: Wire) -> bool:
        """Bring the server's answer to the client; whether the server's connection can be used again."""
        head, reader = await self._response(exchange, attempt, wire)
        if head.status in attempt.upstream.config.retries.statuses and exchange.kept and attempt.has_next():
            failure = UpstreamFailed(
                Outcome.ERROR, head.status, f"{attempt.endpoint.id} answered {head.status}", sent=True
            )
            if exchange.may_repeat(failure):
                raise failure
        attempt.outcome = Outcome.ERROR if head.status >= 500 else Outcome.OK
        attempt.answered = time.monotonic()  # how quickly the client reads is no merit of the server
        self._waiting, self._partial = False, True
        exchange.last = exchange.last or not exchange.complete
        try:
            if head.status == 101:
                await self._tunnel(attempt, head, reader, wire)
                reusable = False
            else:
                reusable = await self._relay(exchange, attempt, head, reader, wire)
        except BadMessage as error:
            raise self._cut(attempt) from error
        self._partial = False
        return reusable

    async def _response(self, exchange: Exchange, attempt: Attempt, wire: Wire) -> tuple[Head, Reader]:
        """The head of the final response, and the reader that has what follows."""
        reader = Reader(requests=False)
        try:
            while True:
                while not reader.events:
                    reader.check()
                    data = await wire.receive()
                    if not data:
                        raise ConnectionError("closed without an answer")
                    reader.feed(data)
                event = reader.events.popleft()
                if not isinstance(event, Head):
                    continue  # what ends a 100 (the client was told already) or a 103
                if event.status >= 200 or (event.status == 101 and exchange.head.upgrade and event.upgrade):
                    return event, reader
                if event.status == 101:
                    raise BadMessage(502, "a protocol that nobody asked for")
        except BadMessage as error:
            what = f"{attempt.endpoint.id} sent what is not HTTP: {error}"
            raise UpstreamFailed(Outcome.ERROR, 502, what, sent=True) from None

    def _response_head(self, exchange: Exchange, attempt: Attempt, head: Head) -> tuple[bytes, bool, bool]:
        """The head for the client, whether a body follows, and whether that is sent in chunks."""
        headers = forwarded(head)
        empty = exchange.head.method == b"HEAD" or head.status in (204, 304)
        chunked = False
        if head.length is not None and head.status != 204:
            headers.append((b"content-length", b"%d" % head.length))
        elif not empty and exchange.head.version == "1.1":
            chunked = True
            headers.append((b"transfer-encoding", b"chunked"))
        elif not empty:
            exchange.last = True  # its end tells an old client the length
        if cookie := attempt.cookie():
            headers.append((b"set-cookie", cookie))
        if exchange.last or self.draining:
            exchange.last = True
            headers.append((b"connection", b"close"))
        elif exchange.head.version == "1.0":
            headers.append((b"connection", b"keep-alive"))
        return encode_head(status_line(head.status), headers), empty, chunked

    async def _relay(self, exchange: Exchange, attempt: Attempt, head: Head, reader: Reader, wire: Wire) -> bool:
        first, empty, chunked = self._response_head(exchange, attempt, head)
        parts = [first]
        rest = head.length
        ended = empty
        while not ended:
            while reader.events and not ended:
                event = reader.events.popleft()
                ended = event is END
                if isinstance(event, bytes):
                    parts.append(chunk(event) if chunked else event)
                    rest = rest - len(event) if rest is not None else None
            if ended:
                break
            reader.check()
            await self._to_client(attempt, parts)
            parts = []
            if rest is not None and rest >= BULK_BYTES:
                try:
                    await self._move(attempt, wire, self._wire, rest)
                except OSError:
                    raise self._cut(attempt) from None
                attempt.upstream.counters.bytes_out += rest
                return head.keep_alive
            data = await self._from_server(attempt, wire)
            if data:
                reader.feed(data)
            elif head.length is None and not head.chunked and not self._late:
                ended = True  # the end of the connection is the end of the body
                head.keep_alive = False
            else:
                raise self._cut(attempt)
        await self._to_client(attempt, [*parts, LAST_CHUNK] if chunked else parts)
        # What follows an answer unasked spoils the connection. (A head without its body is never complete.)
        clean = reader.failure is None and (empty or not reader.begun) and all(event is END for event in reader.events)
        return head.keep_alive and clean

    async def _to_client(self, attempt: Attempt, parts: list[bytes]) -> None:
        data = b"".join(parts)
        if not data:
            return
        attempt.upstream.counters.bytes_out += len(data)
        self._await(self._wire, self.idle_timeout)
        try:
            await self._wire.send(data)
        except OSError:
            raise ClientGone from None

    async def _from_server(self, attempt: Attempt, wire: Wire) -> bytes:
        self._await(wire, attempt.upstream.config.response_timeout)
        try:
            return await wire.receive()
        except OSError:
            raise self._cut(attempt) from None

    async def _move(self, attempt: Attempt, source: Wire, target: Wire, count: int) -> None:
        """Carry the rest of a body past the parser. ClientGone or OSError (the server) if it breaks off."""
        response_timeout = attempt.upstream.config.response_timeout

        def turn(wire: Wire) -> None:
            self._await(wire, self.idle_timeout if wire is self._wire else response_timeout)

        try:
            if await move(source, target, count, turn) < count:
                raise ConnectionError("the body is not complete")
        except OSError:
            if self._awaited is self._wire:
                raise ClientGone from None
            raise

    def _cut(self, attempt: Attempt) -> ClientGone:
        """The answer has begun and can't be completed."""
        attempt.outcome = Outcome.TIMEOUT if self._late else Outcome.ERROR
        return ClientGone()

    async def _tunnel(self, attempt: Attempt, head: Head, reader: Reader, wire: Wire) -> None:
        """Both sides speak another protocol now: carry bytes until both have ended."""
        headers = [*forwarded(head), (b"connection", b"upgrade"), (b"upgrade", head.upgrade)]
        await self._to_client(attempt, [encode_head(status_line(101), headers), reader.raw])
        self._overdue = float("inf")
        try:
            await wire.send(self._reader.raw)
            await relay(self._wire, wire)
        except OSError:
            raise ClientGone from None


async def relay(one: Wire, other: Wire) -> None:
    """Carry bytes both ways until both have sent their last. OSError when either breaks."""
    failure: OSError | None = None

    async def carry(source: Wire, target: Wire) -> None:
        nonlocal failure
        try:
            await move(source, target)
            target.finish()
        except OSError as error:
            failure = error
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(carry, one, other)
        nursery.start_soon(carry, other, one)
    if failure is not None:
        raise failure
