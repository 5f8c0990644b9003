"""HTTP/1.1 through the proxy: one task a client connection, one request after another, each in up to a few attempts.

What may be tried again: a request that reached nobody (the connection could not be made), and an idempotent one
(RFC 9110, section 9.2.2) whose server failed before the first byte of its answer went on, if its body was kept.
Once a byte of an answer is with the client, a failure resets the connection, so that nobody takes a part for the whole.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import trio
from proxy_messages import (
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
from proxy_upstream import Attempt, Upstream
from proxy_wire import Wire, move

from distkit.balance import Outcome
from distkit.transport import join_address

#: Of bodies that have so much still to come, the rest is moved without the parser.
BULK_BYTES = 64 << 10
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ClientGone(Exception):
    """The client's connection ended before its request or our answer did."""


class UpstreamFailed(Exception):
    """An attempt failed before anything of its answer went on; the client is told `status` if it was the last."""

    def __init__(self, outcome: Outcome, status: int, what: str, *, sent: bool) -> None:
        super().__init__(what)
        self.outcome = outcome
        self.status = status
        #: The server may have acted on the request.
        self.sent = sent


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
    """One connection of a client. `overdue` is looked at by whoever owns all of them, who cancels `scope`."""

    __slots__ = (
        "_answering",
        "_reader",
        "_upstream",
        "_wire",
        "draining",
        "head_timeout",
        "idle_timeout",
        "overdue",
        "scope",
        "source",
        "waiting",
    )

    def __init__(
        self, wire: Wire, source: Source, upstream: Upstream, head_timeout: float, idle_timeout: float
    ) -> None:
        self._wire = wire
        self._upstream = upstream
        self._reader = Reader(requests=True)
        self._answering = False
        self.source = source
        self.head_timeout = head_timeout
        self.idle_timeout = idle_timeout
        #: The time at which this connection has to go, if nothing moves until then.
        self.overdue = time.monotonic() + head_timeout
        #: A server is at work, and the client has nothing to do but to wait (or to leave).
        self.waiting = False
        #: The present request is the last.
        self.draining = False
        self.scope = trio.CancelScope()

    @property
    def idle(self) -> bool:
        """Between two requests."""
        return not self._answering and not self._reader.begun

    def gone(self) -> bool:
        """The client has left while a server works for it."""
        return self.waiting and self._wire.has_ended()

    def route(self, upstream: Upstream) -> None:
        """Later requests go there."""
        self._upstream = upstream

    async def serve(self, first: bytes = b"") -> None:
        """Answer requests until one side ends. `first`: bytes that have been read already."""
        try:
            with self.scope:
                if first:
                    self._reader.feed(first)
                while await self._serve_request():
                    pass
            if self.scope.cancelled_caught and self._reader.begun and not self._answering:
                self._say(answer(408, "the request did not come in time\n", close=True))
        except BadMessage as error:
            self._say(answer(error.status, f"{error}\n", close=True))
        except (OSError, ClientGone):
            pass  # nobody is there to be told
        finally:
            self._wire.close()

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
        self.overdue = time.monotonic() + self.idle_timeout
        head = await self._event()
        if head is END or self.draining:
            return False
        assert isinstance(head, Head)
        self._answering = True
        exchange = Exchange(head, self._request(head), last=not head.keep_alive or bool(head.upgrade))
        self._take_body(exchange)
        if not exchange.complete and (head.get(b"expect") or b"").lower() == b"100-continue":
            await self._wire.send(CONTINUE)
        upstream = self._upstream
        upstream.counters.requests += 1
        upstream.active += 1
        try:
            failure = await self._attempts(exchange, upstream)
        finally:
            upstream.active -= 1
            self.waiting = False
        if failure is not None:
            exchange.last = exchange.last or not exchange.complete
            close = exchange.last or self.draining
            await self._wire.send(answer(failure.status, f"{failure}\n", close=close, empty=head.method == b"HEAD"))
        return not exchange.last and not self.draining

    async def _event(self) -> Event:
        """The next piece of a request; END also when the client has sent its last request and closes."""
        reader = self._reader
        while not reader.events:
            data = await self._wire.receive()
            if not data:
                if reader.begun or self._answering:
                    raise ClientGone
                return END
            if not reader.begun and not self._answering:
                self.overdue = time.monotonic() + self.head_timeout
            reader.feed(data)
        return reader.events.popleft()

    def _request(self, head: Head) -> bytes:
        headers = forwarded(head)
        before = b", ".join(value for name, value in headers if name == b"x-forwarded-for")
        here = self.source.host.encode()
        headers = [each for each in headers if each[0] not in (b"x-forwarded-for", b"expect")]
        headers.append((b"x-forwarded-for", before + b", " + here if before else here))
        if head.get(b"host") is None:  # HTTP/1.0 knows none, and the next hop needs one
            headers.append((b"host", join_address(self.source.target_host, self.source.target_port).encode()))
        headers.append((b"via", b"%b distkit" % head.version.encode()))
        if head.chunked:
            headers.append((b"transfer-encoding", b"chunked"))
        elif head.length is not None:
            headers.append((b"content-length", b"%d" % head.length))
        if head.upgrade:
            headers += [(b"connection", b"upgrade"), (b"upgrade", head.upgrade)]
        return encode_head(b"%b %b HTTP/1.1" % (head.method, head.target), headers)

    def _take_body(self, exchange: Exchange) -> None:
        """Move what has come of the body to the exchange."""
        events = self._reader.events
        while events and not exchange.complete:
            event = events.popleft()
            if event is END:
                exchange.complete = True
                if exchange.head.chunked:
                    exchange.body.append(LAST_CHUNK)
            else:
                assert isinstance(event, bytes)
                exchange.body.append(chunk(event) if exchange.head.chunked else event)

    # -- attempts ----------------------------------------------------------------------------------------------------

    async def _attempts(self, exchange: Exchange, upstream: Upstream) -> UpstreamFailed | None:
        """Try until an answer has gone to the client (None), or until there is nothing more to try."""
        failure: UpstreamFailed | None = None
        attempt = upstream.first_attempt(self.source, exchange.head)
        while attempt.pick():
            try:
                self.waiting = True
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
        wire = await self._open(attempt)
        reusable = False
        try:
            await wire.send(b"".join((exchange.request, *exchange.body)))
            if exchange.complete:
                reusable = await self._answer(exchange, attempt, wire)
            else:
                reusable = await self._answer_while_sending(exchange, attempt, wire)
        except OSError as error:
            raise UpstreamFailed(Outcome.ERROR, 502, f"{attempt.endpoint.id} failed: {error}", sent=True) from None
        finally:
            if reusable:
                attempt.upstream.keep(attempt.endpoint, wire)
            else:
                wire.close()

    async def _open(self, attempt: Attempt) -> Wire:
        try:
            return await attempt.upstream.open(attempt.endpoint, self.source)
        except (OSError, trio.TooSlowError) as error:
            what = f"{attempt.endpoint.id} can't be reached: {error or 'too slow'}"
            raise UpstreamFailed(Outcome.CONNECT_FAIL, 502, what, sent=False) from None

    async def _answer_while_sending(self, exchange: Exchange, attempt: Attempt, wire: Wire) -> bool:
        """The server may answer, and has to be listened to, before it has the whole body."""
        failure: Exception | None = None
        reusable = client_failed = False

        async def send() -> None:
            nonlocal client_failed
            try:
                await self._send_rest(exchange, attempt, wire)
            except (BadMessage, ClientGone):
                client_failed = True
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
        if client_failed:
            raise ClientGone
        if failure is not None:
            raise failure
        return reusable and exchange.complete

    async def _send_rest(self, exchange: Exchange, attempt: Attempt, wire: Wire) -> None:
        kept_max = attempt.upstream.config.retries.body_bytes_max
        size = sum(map(len, exchange.body))
        while not exchange.complete:
            self.overdue = time.monotonic() + self.idle_timeout
            if not self._reader.events:
                data = await self._wire.receive()
                if not data:
                    raise ClientGone
                self._reader.feed(data)
            before = len(exchange.body)
            self._take_body(exchange)
            new = exchange.body[before:]
            size += sum(map(len, new))
            if not exchange.kept or size > kept_max:
                exchange.kept = False
                exchange.body.clear()
            await wire.send(b"".join(new))

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
        self.waiting = False
        exchange.last = exchange.last or not exchange.complete
        try:
            if head.status == 101:
                await self._tunnel(attempt, head, reader, wire)
                return False
            return await self._relay(exchange, attempt, head, reader, wire)
        except BadMessage as error:
            attempt.outcome = Outcome.ERROR
            self._wire.reset()
            raise ClientGone from error

    async def _response(self, exchange: Exchange, attempt: Attempt, wire: Wire) -> tuple[Head, Reader]:
        """The head of the final response, and the reader that has what follows."""
        reader = Reader(requests=False)
        self.overdue = time.monotonic() + attempt.upstream.config.response_timeout + 1.0
        with trio.move_on_after(attempt.upstream.config.response_timeout):
            while True:
                while not reader.events:
                    data = await wire.receive()
                    if not data:
                        raise UpstreamFailed(
                            Outcome.ERROR, 502, f"{attempt.endpoint.id} closed without an answer", sent=True
                        )
                    try:
                        reader.feed(data)
                    except BadMessage as error:
                        what = f"{attempt.endpoint.id} sent what is not HTTP: {error}"
                        raise UpstreamFailed(Outcome.ERROR, 502, what, sent=True) from None
                event = reader.events.popleft()
                if isinstance(event, Head) and (event.status >= 200 or (event.status == 101 and exchange.head.upgrade)):
                    return event, reader
                # 100 (the client was told already) and 103, with their ENDs
        raise UpstreamFailed(Outcome.TIMEOUT, 504, f"{attempt.endpoint.id} did not answer in time", sent=True)

    def _response_head(self, exchange: Exchange, attempt: Attempt, head: Head) -> tuple[bytes, bool, bool]:
        """The head for the client, whether a body follows, and whether that is sent in chunks."""
        headers = forwarded(head)
        empty = exchange.head.method == b"HEAD" or head.status in (204, 304)
        chunked = False
        if head.length is not None:
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
            await self._to_client(attempt, parts)
            parts = []
            if rest is not None and rest >= BULK_BYTES:
                await self._move(attempt, wire, rest)
                return head.keep_alive
            data = await self._from_server(attempt, wire)
            if data:
                reader.feed(data)
            elif head.length is None and not head.chunked:
                ended = True  # the end of the connection is the end of the body
                head.keep_alive = False
            else:
                raise self._cut(attempt)
        await self._to_client(attempt, [*parts, LAST_CHUNK] if chunked else parts)
        return head.keep_alive and all(event is END for event in reader.events)

    async def _to_client(self, attempt: Attempt, parts: list[bytes]) -> None:
        data = b"".join(parts)
        if not data:
            return
        attempt.upstream.counters.bytes_out += len(data)
        self.overdue = time.monotonic() + self.idle_timeout
        try:
            await self._wire.send(data)
        except OSError:
            raise ClientGone from None

    async def _from_server(self, attempt: Attempt, wire: Wire) -> bytes:
        self.overdue = time.monotonic() + attempt.upstream.config.response_timeout
        try:
            return await wire.receive()
        except OSError:
            raise self._cut(attempt) from None

    async def _move(self, attempt: Attempt, wire: Wire, count: int) -> None:
        """Carry the rest of a body past the parser. The time for it follows its size, at 10 kB/s at least."""
        self.overdue = time.monotonic() + self.idle_timeout + count / 10e3
        try:
            moved = await move(wire, self._wire, count)
        except OSError:
            raise self._cut(attempt) from None
        attempt.upstream.counters.bytes_out += moved
        if moved < count:
            raise self._cut(attempt)

    def _cut(self, attempt: Attempt) -> ClientGone:
        """The answer has begun and can't be completed: what the client is told is a reset."""
        attempt.outcome = Outcome.ERROR
        self._wire.reset()
        return ClientGone()

    async def _tunnel(self, attempt: Attempt, head: Head, reader: Reader, wire: Wire) -> None:
        """Both sides speak another protocol now: carry bytes until both have ended."""
        headers = [*forwarded(head), (b"connection", b"upgrade"), (b"upgrade", head.upgrade)]
        await self._to_client(attempt, [encode_head(status_line(101), headers), reader.raw])
        self.overdue = float("inf")
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
