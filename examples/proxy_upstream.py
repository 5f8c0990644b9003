"""A cluster of the proxy at run time: the balancer that picks, idle connections to endpoints, and checks."""

from __future__ import annotations

import logging
import random
import socket
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import httptools
import proxy_protocol
import trio
import xxhash
from proxy_config import CheckConfig, ClusterConfig
from proxy_messages import BadMessage, Head, Reader, encode_head
from proxy_wire import NO_ROOM, Wire, connect

from distkit import DistkitError
from distkit.balance import Cluster, Context, Endpoint, Gate, Outcome
from distkit.balance.events import Checked, Ejected, PanicOff, PanicOn, Probe, Restored
from distkit.balance.kubernetes import endpoints_of
from distkit.balance.retries import active_allows
from distkit.balance.stickiness import read_cookie, write_cookie
from distkit.node.discovery import ApiServer, follow_name, follow_service
from distkit.transport import split_address

logger = logging.getLogger("proxy")

#: The balancer is told the time at least this often, in seconds.
TICK_SECONDS = 0.25
CHECK_BYTES_MAX = 64 << 10
#: How much one request counts in the mean latency that is shown.
LATENCY_SHARE = 1 / 16


@dataclass(slots=True)
class Counters:
    """What happened in a cluster since the start, for people and metrics."""

    requests: int = 0
    failures: int = 0
    retries: int = 0
    refused: int = 0
    connections: int = 0
    bytes_out: int = 0


class Server:
    """What the proxy itself knows of an endpoint."""

    __slots__ = ("failures", "idle", "latency", "picks")

    def __init__(self) -> None:
        self.picks = 0
        self.failures = 0
        #: Mean time until an answer began (TCP: until the connection was made), recent ones weigh more; None at first.
        self.latency: float | None = None
        #: Connections that wait for a request, and since when; the newest last.
        self.idle: deque[tuple[Wire, float]] = deque()


class Upstream:
    """Where requests of one cluster go. All times are `time.monotonic()`."""

    def __init__(self, name: str, config: ClusterConfig, rng: random.Random) -> None:
        self.name = name
        self.config = config
        self.counters = Counters()
        self.balancer = Cluster(config.options(), rng)
        self.servers: dict[str, Server] = {}
        #: Requests under way, and how many of them are second attempts: what the budget of retries looks at.
        self.active = 0
        self.retrying = 0
        self.sticky = config.sticky(name)
        #: Endpoints that were said to fail their checks: that one passes is news only after that.
        self.failing: set[str] = set()
        self._rng = rng
        self._api = config.api_server() if config.kubernetes else None
        self._addresses: dict[str, str] = {}
        self._closed = trio.CancelScope()
        self.reconfigure(config)

    def reconfigure(self, config: ClusterConfig) -> None:
        """These are the endpoints now; what is under way to others ends as it would have."""
        self.config = config
        if config.endpoints:
            self.update([each.endpoint() for each in config.endpoints])

    def update(self, endpoints: list[Endpoint]) -> None:
        """The same for endpoints that were found out."""
        diff = self.balancer.update(endpoints, time.monotonic())
        before, self._addresses = self._addresses, {each.id: each.address for each in endpoints}
        for gone in diff.removed:
            self._close_idle(self.servers.pop(gone))
            self.failing.discard(gone)
        for new in diff.added:
            self.servers[new] = Server()
        for id, address in self._addresses.items():
            if before.get(id, address) != address:  # it has moved: connections lead to where it was
                self._close_idle(self.servers[id])

    # -- one attempt -------------------------------------------------------------------------------------------------

    def first_attempt(self, source: proxy_protocol.Source, head: Head | None) -> Attempt:
        """The attempts of a request (`head`) or of a TCP connection (None) of this client."""
        return Attempt(self, self._context(source, head))

    def _context(self, source: proxy_protocol.Source, head: Head | None) -> Context | None:
        """What of the request decides where it goes; None when nothing does, which is the quickest pick."""
        hash_on, cookie = self.config.hash_on, self.config.sticky_cookie
        if not hash_on and not cookie:
            return None
        override = self.sticky.read(_cookie(head, cookie)) if cookie else None
        kind, _, name = hash_on.partition(":")
        hashed = b""
        if kind == "source":
            hashed = source.host.encode()
        elif head is not None and kind == "path":
            hashed = head.target.partition(b"?")[0]
        elif head is not None and kind == "header":
            hashed = head.get(name.lower().encode()) or b""
        elif kind == "cookie":
            hashed = _cookie(head, name).encode()
        # Without the header or cookie that it asks for, a request may go anywhere.
        return Context(key=xxhash.xxh64_intdigest(hashed) if hashed else None, override=override)

    def may_retry(self) -> bool:
        """The budget allows one more retry at this moment."""
        retries = self.config.retries
        return active_allows(self.active, self.retrying, retries.budget_percent, retries.minimum)

    def idle(self, endpoint: Endpoint) -> Wire | None:
        """A connection to the endpoint that waits for a request."""
        server = self.servers.get(endpoint.id)
        while server is not None and server.idle:
            wire, _ = server.idle.pop()
            if wire.is_quiet():
                return wire
            wire.close()
        return None

    async def connect(self, endpoint: Endpoint, source: proxy_protocol.Source) -> Wire:
        """A new connection, made within `connect_timeout`. OSError or trio.TooSlowError if there is none."""
        with trio.fail_after(self.config.connect_timeout):
            wire = await connect(*await resolved(endpoint.address))
            self.counters.connections += 1
            if self.config.send_proxy_protocol:
                await wire.send(proxy_protocol.encode(source))
        return wire

    def keep(self, endpoint: Endpoint, wire: Wire) -> None:
        """The connection may serve another request."""
        server = self.servers.get(endpoint.id)
        # With PROXY in front, a connection belongs to one client.
        alone = self.config.send_proxy_protocol or self._closed.cancel_called
        alone = alone or self._addresses.get(endpoint.id) != endpoint.address
        if alone or server is None or len(server.idle) >= self.config.idle_connections_max:
            wire.close()
        else:
            server.idle.append((wire, time.monotonic()))

    # -- beside the requests -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Tell the balancer the time, ask endpoints what it wants to know, let idle connections go; until `close`."""
        try:
            with self._closed:
                async with trio.open_nursery() as nursery:
                    if self.config.dns:
                        nursery.start_soon(self._follow_name)
                    if self._api is not None:
                        nursery.start_soon(self._follow_service, self._api)
                    while True:
                        self._turn(nursery)
                        wait = self.balancer.deadline() - time.monotonic()
                        await trio.sleep(min(TICK_SECONDS, max(0.01, wait)))
        finally:
            for each in self.servers.values():
                self._close_idle(each)

    def _turn(self, nursery: trio.Nursery) -> None:
        now = time.monotonic()
        if self.balancer.deadline() <= now:
            self.balancer.tick(now)
        for event in self.balancer.events():
            if isinstance(event, Probe):
                nursery.start_soon(self._check, event)
            else:
                self._say(event)
        self._expire_idle(now)

    def _say(self, event: Checked | Ejected | Restored | PanicOn | PanicOff) -> None:
        match event:
            case Checked(id, healthy):
                failed = id in self.failing
                (self.failing.discard if healthy else self.failing.add)(id)
                level = logging.WARNING if not healthy else logging.INFO if failed else logging.DEBUG
                what = f"{id} {'passes' if healthy else 'fails'} its checks"
            case Ejected(id, cause, until):
                seconds = max(0.0, until - time.monotonic())
                level, what = logging.WARNING, f"{id} gets no requests for {seconds:.0f} s: {cause}"
            case Restored(id):
                level, what = logging.INFO, f"{id} gets requests again"
            case PanicOn(priority):
                level, what = logging.WARNING, f"so few endpoints of priority {priority} are well that all are used"
            case PanicOff(priority):
                level, what = logging.INFO, f"enough endpoints of priority {priority} are well again"
        logger.log(level, "cluster.%s: %s", self.name, what)

    def idle_count(self) -> int:
        """Connections to endpoints that wait for a request."""
        return sum(len(each.idle) for each in self.servers.values())

    def available(self) -> bool:
        """Some endpoint is well. (Without any, panic may still pick those that are not.)"""
        return any(not each.gate & ~Gate.DEGRADED for each in self.balancer.status().endpoints)

    def close(self) -> None:
        """Stop; what is under way ends as it would have."""
        self._closed.cancel()

    async def _follow_name(self) -> None:
        """Endpoints are the addresses behind a name."""
        await follow_name(self.config.dns, lambda found: self.update([Endpoint(each, each) for each in found]))

    async def _follow_service(self, api: ApiServer) -> None:
        """Endpoints are those of a Kubernetes service."""
        namespace, service, port = self.config.service()

        def changed(slices: tuple[dict[str, Any], ...]) -> None:
            try:
                self.update(list(endpoints_of(slices, port, zone=self.config.kubernetes_zone)))
            except DistkitError as error:
                logger.warning("cluster.%s: %s; its endpoints stay as they were", self.name, error)

        await follow_service(api, namespace, service, changed, self._rng)

    async def _check(self, probe: Probe) -> None:
        checks, address = self.config.checks, self._addresses.get(probe.id)
        if checks is None or address is None:
            return
        began = time.monotonic()
        outcome = await check(address, checks, self.config.send_proxy_protocol)
        now = time.monotonic()
        self.balancer.probed(probe.probe_id, outcome, 0, now - began, now)

    def _expire_idle(self, now: float) -> None:
        for server in self.servers.values():
            idle = server.idle
            while idle and (now - idle[0][1] > self.config.idle_timeout or not idle[0][0].is_quiet()):
                idle.popleft()[0].close()

    def _close_idle(self, server: Server) -> None:
        while server.idle:
            server.idle.pop()[0].close()


class Attempt:
    """The picks of one request, one after another: the endpoint of the present one, and how it ended."""

    __slots__ = ("_began", "_context", "_handle", "_number", "answered", "endpoint", "outcome", "upstream")

    endpoint: Endpoint

    def __init__(self, upstream: Upstream, context: Context | None) -> None:
        self.upstream = upstream
        self._context = context
        self._handle = -1
        self._began = 0.0
        self._number = 1
        #: CANCELLED until something else is known.
        self.outcome = Outcome.CANCELLED
        #: When the endpoint had done what its latency is judged by, if that is not the end.
        self.answered: float | None = None

    def pick(self) -> bool:
        """Choose an endpoint; False if none can take it."""
        now = time.monotonic()
        balancer = self.upstream.balancer
        self._handle = balancer.pick(self._context, now)
        if self._handle < 0:
            self.upstream.counters.refused += 1
            self.upstream.retrying -= self._number > 1
            return False
        self._began = now
        self.outcome = Outcome.CANCELLED
        self.endpoint = balancer.endpoint(self._handle)
        self.upstream.servers[self.endpoint.id].picks += 1
        return True

    def done(self) -> None:
        """The attempt is over, `outcome` says how."""
        upstream, now = self.upstream, time.monotonic()
        ended = now if self.answered is None else self.answered
        latency = ended - self._began
        upstream.balancer.done(self._handle, self.outcome, latency, now)
        upstream.retrying -= self._number > 1
        server = upstream.servers.get(self.endpoint.id)
        if self.outcome is Outcome.OK:
            if server is not None:
                before = latency if server.latency is None else server.latency
                server.latency = before + (latency - before) * LATENCY_SHARE
        elif self.outcome is not Outcome.CANCELLED:
            upstream.counters.failures += 1
            if server is not None:
                server.failures += 1

    def has_next(self) -> bool:
        """Another attempt is allowed, and there is somebody else to try."""
        upstream = self.upstream
        return self._number < min(upstream.config.retries.attempts, len(upstream.servers)) and upstream.may_retry()

    def next(self) -> bool:
        """Go on to another attempt, with another endpoint; False if that is not allowed."""
        if not self.has_next():
            return False
        before = self._context or Context()
        self._context = replace(before, exclude=(*before.exclude, self._handle), override=None, attempt=self._number)
        self._number += 1
        self.upstream.retrying += 1
        self.upstream.counters.retries += 1
        return True

    def cookie(self) -> bytes:
        """What the client is asked to keep so that it comes back to this endpoint; b"" if nothing."""
        name = self.upstream.config.sticky_cookie
        if not name or (self._context is not None and self._context.override == self.endpoint.id):
            return b""
        return write_cookie(name, self.upstream.sticky.write(self.endpoint.id)).encode()


def unreached(error: Exception) -> Outcome:
    """What a connection that can't be made says of the endpoint: nothing, if it is we who have no room for it."""
    ours = isinstance(error, OSError) and error.errno in NO_ROOM
    return Outcome.CANCELLED if ours else Outcome.CONNECT_FAIL


async def check(address: str, checks: CheckConfig, proxied: bool) -> Outcome:
    """Ask one endpoint whether it is well."""
    outcome = Outcome.TIMEOUT
    with trio.move_on_after(checks.timeout):
        try:
            wire = await connect(*await resolved(address))
        except OSError:
            return Outcome.CONNECT_FAIL
        try:
            if proxied:
                await wire.send(proxy_protocol.encode(None))
            outcome = await _ask(wire, address, checks) if checks.path else Outcome.OK
        except (OSError, BadMessage, httptools.HttpParserError):
            outcome = Outcome.ERROR
        finally:
            wire.close()
    return outcome


async def _ask(wire: Wire, address: str, checks: CheckConfig) -> Outcome:
    headers = [(b"host", address.encode()), (b"user-agent", b"distkit-check"), (b"connection", b"close")]
    await wire.send(encode_head(b"GET %b HTTP/1.1" % checks.path.encode(), headers))
    reader = Reader(requests=False)
    while wire.received < CHECK_BYTES_MAX and (data := await wire.receive()):
        reader.feed(data)
        for event in reader.events:
            if isinstance(event, Head) and event.status >= 200:
                return Outcome.OK if event.status in checks.statuses else Outcome.ERROR
    return Outcome.ERROR


async def resolved(address: str) -> list[tuple[str, int]]:
    """HOST:PORT with the host as a number; all that the resolver gives if it is a name."""
    host, port = split_address(address)
    if host.replace(".", "").isdigit() or ":" in host:
        return [(host, port)]
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(str(each[4][0]), port) for each in found]


def _cookie(head: Head | None, name: str) -> str:
    """The value of a cookie, "" if the client has not sent it."""
    for header, value in head.headers if head is not None else ():
        if header == b"cookie" and (found := read_cookie(value.decode("latin-1"), name)) is not None:
            return found
    return ""
