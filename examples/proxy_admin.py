"""What people and monitoring look at: /status (a page that follows), /status.json, /metrics, /livez and /readyz."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from proxy_messages import END, BadMessage, Head, Reader, answer

from distkit import LocalError
from distkit.balance import Gate
from distkit.transport import split_address

if TYPE_CHECKING:
    from proxy import Proxy
    from proxy_upstream import Upstream

CONNECTIONS_MAX = 64
REQUEST_TIMEOUT = 5.0
PAGE = Path(__file__).with_name("proxy_status.html")

logger = logging.getLogger("proxy")


async def open_admin(address: str) -> list[trio.SocketListener]:
    """Listen. LocalError if that can't be."""
    host, port = split_address(address)
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise LocalError(f"admin can't be served on {address}: {error.strerror or error}") from None
    logger.info("admin on http://%s:%d/status", host, listeners[0].socket.getsockname()[1])
    return listeners


async def serve_admin(proxy: Proxy, listeners: list[trio.SocketListener]) -> None:
    """Serve until cancelled."""
    await trio.serve_listeners(partial(_serve, proxy, trio.CapacityLimiter(CONNECTIONS_MAX)), listeners)


async def _serve(proxy: Proxy, limiter: trio.CapacityLimiter, stream: trio.SocketStream) -> None:
    try:
        limiter.acquire_nowait()
    except trio.WouldBlock:
        return  # closed by the caller: there are CONNECTIONS_MAX others
    try:
        reader = Reader(requests=True)
        while await _serve_request(proxy, reader, stream):
            pass
    except (trio.BrokenResourceError, trio.TooSlowError) as error:
        logger.debug("admin: %s", error)
    finally:
        limiter.release()


async def _serve_request(proxy: Proxy, reader: Reader, stream: trio.SocketStream) -> bool:
    """Answer the next request, both within REQUEST_TIMEOUT; whether there may be another."""
    with trio.fail_after(REQUEST_TIMEOUT):
        try:
            while END not in reader.events:
                reader.check()
                data = await stream.receive_some()
                if not data:
                    return False
                reader.feed(bytes(data))
                if any(isinstance(event, bytes) for event in reader.events):
                    raise BadMessage(400, "a body says nothing here")
        except BadMessage as error:
            await stream.send_all(answer(error.status, f"{error}\n", close=True))
            return False
        head = reader.events.popleft()
        reader.events.popleft()
        assert isinstance(head, Head)
        await stream.send_all(_answer(proxy, head))
        return head.keep_alive


def _answer(proxy: Proxy, head: Head) -> bytes:
    empty = head.method == b"HEAD"
    if head.method not in (b"GET", b"HEAD"):
        return answer(405, "only GET and HEAD\n", close=not head.keep_alive)
    match head.target.partition(b"?")[0]:
        case b"/livez":
            return answer(200, "alive\n", close=not head.keep_alive, empty=empty)
        case b"/readyz":
            down = [name for name, each in proxy.upstreams.items() if not each.available()]
            text = f"no endpoint is well: {', '.join(down)}\n" if down else "ready\n"
            return answer(503 if down else 200, text, close=not head.keep_alive, empty=empty)
        case b"/status":
            return answer(
                200, PAGE.read_text(), kind=b"text/html; charset=utf-8", close=not head.keep_alive, empty=empty
            )
        case b"/status.json":
            return answer(
                200, json.dumps(status(proxy)), kind=b"application/json", close=not head.keep_alive, empty=empty
            )
        case b"/metrics":
            text = metrics(proxy).decode()
            return answer(
                200, text, kind=b"text/plain; version=0.0.4; charset=utf-8", close=not head.keep_alive, empty=empty
            )
        case _:
            return answer(
                404,
                "there are /status, /status.json, /metrics, /livez and /readyz\n",
                close=not head.keep_alive,
                empty=empty,
            )


def status(proxy: Proxy) -> dict[str, Any]:
    """Everything that the page shows, as plain data."""
    return {
        "uptime": time.monotonic() - proxy.began,
        "reloads": proxy.reloads,
        "listeners": [
            {
                "name": each.name,
                "address": each.address,
                "mode": each.config.mode,
                "cluster": each.config.cluster,
                "clients": each.connections,
                "turned_away": each.turned_away,
            }
            for each in proxy.listeners.values()
        ],
        "clusters": [_cluster(name, each) for name, each in proxy.upstreams.items()],
    }


def _cluster(name: str, upstream: Upstream) -> dict[str, Any]:
    counters = upstream.counters
    seen = upstream.balancer.status()
    return {
        "name": name,
        "policy": seen.policy,
        "panic": bool(seen.panic),
        "active": upstream.active,
        "requests": counters.requests,
        "failures": counters.failures,
        "retries": counters.retries,
        "refused": counters.refused,
        "connections": counters.connections,
        "idle": upstream.idle_count(),
        "bytes_out": counters.bytes_out,
        "endpoints": [
            {
                "id": each.id,
                "address": each.address,
                "weight": each.weight,
                "priority": each.priority,
                "locality": each.locality,
                "state": _state(each.gate),
                "active": each.in_flight,
                "picks": upstream.servers[each.id].picks,
                "failures": upstream.servers[each.id].failures,
                "latency": upstream.servers[each.id].latency,
            }
            for each in seen.endpoints
        ],
    }


def _state(gates: Gate) -> list[str]:
    """Why an endpoint is not used; empty when it is."""
    return [(gate.name or "").lower().replace("_", " ") for gate in Gate if gate in gates]


def metrics(proxy: Proxy) -> bytes:
    """The same numbers in the text format of Prometheus."""
    registry = CollectorRegistry()
    registry.register(_Collector(proxy))
    return generate_latest(registry)


class _Collector:
    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    def collect(self) -> Iterator[Metric]:
        seen = status(self._proxy)
        for name, what in (("clients", "Connections of clients"),):
            yield _family(
                GaugeMetricFamily,
                name,
                what,
                ["listener"],
                [([each["name"]], each[name]) for each in seen["listeners"]],
            )
        for name, what in _CLUSTER_COUNTERS.items():
            yield _family(
                CounterMetricFamily,
                name,
                what,
                ["cluster"],
                [([each["name"]], each[name]) for each in seen["clusters"]],
            )
        rows = [([cluster["name"], each["id"]], each) for cluster in seen["clusters"] for each in cluster["endpoints"]]
        for name, what in (
            ("active", "Requests under way"),
            ("latency", "Mean seconds until an answer began, recent ones weigh more"),
        ):
            values = [(labels, each[name] or 0.0) for labels, each in rows]
            yield _family(GaugeMetricFamily, f"endpoint_{name}", what, ["cluster", "endpoint"], values)
        up = [(labels, float(not each["state"])) for labels, each in rows]
        yield _family(GaugeMetricFamily, "endpoint_up", "1 if nothing speaks against it", ["cluster", "endpoint"], up)
        for name, what in (("picks", "Requests that were sent there"), ("failures", "Requests that failed there")):
            values = [(labels, each[name]) for labels, each in rows]
            yield _family(CounterMetricFamily, f"endpoint_{name}", what, ["cluster", "endpoint"], values)


_CLUSTER_COUNTERS = {
    "requests": "Requests, or TCP connections",
    "failures": "Attempts that failed",
    "retries": "Attempts after the first",
    "refused": "Requests that no endpoint could take",
    "connections": "Connections made to endpoints",
    "bytes_out": "Bytes sent to clients",
}


def _family(kind: type[Any], name: str, what: str, labels: list[str], values: list[tuple[list[str], float]]) -> Metric:
    family = kind(f"distkit_proxy_{name}", what, labels=labels)
    for each, number in values:
        family.add_metric(each, number)
    assert isinstance(family, Metric)
    return family
