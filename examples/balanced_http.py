"""A balancing httpx2 client: a request goes to an endpoint of a `distkit.balance.Cluster`, or to another if that fails.

    cluster = Cluster(ClusterOptions(policy=policies.named("peak_ewma")), random.Random())
    cluster.update([Endpoint("a", "10.0.0.1:8080"), Endpoint("b", "10.0.0.2:8080")], time.monotonic())
    with httpx2.Client(transport=BalancedTransport(cluster), base_url="http://app") as client:
        client.get("/")                              # goes to a or b, with "Host: app"
    async with httpx2.AsyncClient(transport=AsyncBalancedTransport(cluster), base_url="http://app") as client: ...

A request is load of its endpoint until its response is read or closed. A connection that can't be made is tried
elsewhere; a request that may have arrived only if its method is idempotent and its body can be sent again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator

import httpx2

from distkit.balance import Cluster, Context, Endpoint, Outcome
from distkit.balance.retries import IDEMPOTENT

_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class Attempts:
    """The picks of one request. A cluster may be used by many threads: the lock is held for a microsecond."""

    _lock = threading.Lock()

    def __init__(self, cluster: Cluster, request: httpx2.Request, most: int) -> None:
        self._cluster = cluster
        self._request = request
        self._left = most
        self._tried: tuple[int, ...] = ()
        self._handle = -1
        self._began = 0.0

    def aim(self) -> httpx2.Request | None:
        """The request for another endpoint; None if there is none, or nothing left to try."""
        if self._left == 0:
            return None
        now = time.monotonic()
        with self._lock:
            if self._cluster.deadline() <= now:
                self._cluster.tick(now)
            self._handle = self._cluster.pick(Context(exclude=self._tried) if self._tried else None, now)
            if self._handle < 0:
                return None
            endpoint = self._cluster.endpoint(self._handle)
        self._tried, self._left, self._began = (*self._tried, self._handle), self._left - 1, now
        return aimed(self._request, endpoint)

    def done(self, outcome: Outcome) -> None:
        """The attempt is over."""
        now = time.monotonic()
        with self._lock:
            self._cluster.done(self._handle, outcome, now - self._began, now)

    def failed(self, error: httpx2.TransportError) -> bool:
        """Count it; whether another attempt does no harm."""
        sent = not isinstance(error, _NOT_SENT)
        timeout = isinstance(error, httpx2.TimeoutException)
        self.done(Outcome.CONNECT_FAIL if not sent else Outcome.TIMEOUT if timeout else Outcome.ERROR)
        whole = isinstance(self._request.stream, httpx2.ByteStream)
        return whole and (not sent or self._request.method in IDEMPOTENT)


def aimed(request: httpx2.Request, endpoint: Endpoint) -> httpx2.Request:
    """The same request for this endpoint: its Host header, and the name for TLS, stay those of the URL."""
    host, _, port = endpoint.address.rpartition(":")
    url = request.url.copy_with(host=host, port=int(port))
    extensions = {"sni_hostname": request.url.host} | dict(request.extensions)
    return httpx2.Request(request.method, url, headers=request.headers, stream=request.stream, extensions=extensions)


class BalancedTransport(httpx2.BaseTransport):
    """For `httpx2.Client`. `inner` makes the connections, `attempts` is how often a request is tried at most."""

    def __init__(self, cluster: Cluster, inner: httpx2.BaseTransport | None = None, *, attempts: int = 3) -> None:
        self._cluster = cluster
        self._inner = inner or httpx2.HTTPTransport()
        self._attempts = attempts

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it. Raises what the last attempt raised, httpx2.ConnectError if nobody could be asked."""
        attempts, failure = Attempts(self._cluster, request, self._attempts), None
        while (target := attempts.aim()) is not None:
            try:
                response = self._inner.handle_request(target)
            except httpx2.TransportError as error:
                failure = error
                if not attempts.failed(error):
                    break
            except BaseException:
                attempts.done(Outcome.CANCELLED)
                raise
            else:
                if response.is_closed:  # an inner transport that answers from memory
                    attempts.done(_outcome(response.status_code))
                else:
                    assert isinstance(response.stream, httpx2.SyncByteStream)
                    response.stream = _Stream(response.stream, attempts, response.status_code)
                return response
        raise failure or httpx2.ConnectError("no endpoint can take the request", request=request)

    def close(self) -> None:
        """Close all connections."""
        self._inner.close()


class AsyncBalancedTransport(httpx2.AsyncBaseTransport):
    """For `httpx2.AsyncClient`, under trio and asyncio; else like `BalancedTransport`."""

    def __init__(self, cluster: Cluster, inner: httpx2.AsyncBaseTransport | None = None, *, attempts: int = 3) -> None:
        self._cluster = cluster
        self._inner = inner or httpx2.AsyncHTTPTransport()
        self._attempts = attempts

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it. Raises what the last attempt raised, httpx2.ConnectError if nobody could be asked."""
        attempts, failure = Attempts(self._cluster, request, self._attempts), None
        while (target := attempts.aim()) is not None:
            try:
                response = await self._inner.handle_async_request(target)
            except httpx2.TransportError as error:
                failure = error
                if not attempts.failed(error):
                    break
            except BaseException:
                attempts.done(Outcome.CANCELLED)
                raise
            else:
                if response.is_closed:  # an inner transport that answers from memory
                    attempts.done(_outcome(response.status_code))
                else:
                    assert isinstance(response.stream, httpx2.AsyncByteStream)
                    response.stream = _AsyncStream(response.stream, attempts, response.status_code)
                return response
        raise failure or httpx2.ConnectError("no endpoint can take the request", request=request)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()


def _outcome(status: int) -> Outcome:
    return Outcome.ERROR if status >= 500 else Outcome.OK


class _Stream(httpx2.SyncByteStream):
    """A response that ends its attempt when it is closed, which httpx2 does once all of it was read."""

    def __init__(self, inner: httpx2.SyncByteStream, attempts: Attempts, status: int) -> None:
        self._inner, self._attempts, self._outcome = inner, attempts, _outcome(status)

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._inner
        except httpx2.TransportError:
            self._outcome = Outcome.ERROR
            raise

    def close(self) -> None:
        self._attempts.done(self._outcome)
        self._inner.close()


class _AsyncStream(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, attempts: Attempts, status: int) -> None:
        self._inner, self._attempts, self._outcome = inner, attempts, _outcome(status)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for each in self._inner:
                yield each
        except httpx2.TransportError:
            self._outcome = Outcome.ERROR
            raise

    async def aclose(self) -> None:
        self._attempts.done(self._outcome)
        await self._inner.aclose()
