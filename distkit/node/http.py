"""A small HTTP server for people and monitoring: /livez, /readyz, /status and /metrics of a replica.

    await nursery.start(serve_http, replica, "127.0.0.1:8101")

`/livez` answers 200 as long as the event loop runs. `/readyz` answers 200 when the node knows a leader, else 503.
`/status` is `Replica.status()` as JSON; `/metrics` is the same in the text format of Prometheus. Needs the extra
`distkit[server]` (h11, prometheus-client). It shows no data of the application, but who may see it is not checked:
keep it on a trusted address.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import h11
import trio
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from distkit.core import LocalError
from distkit.node.replica import Replica
from distkit.transport import split_address

logger = logging.getLogger(__name__)

#: A client has this many seconds for each request, and to take the answer.
REQUEST_TIMEOUT = 5.0
REQUEST_BYTES_MAX = 16 << 10
CONNECTIONS_MAX = 64
REQUESTS_MAX = 1000


async def serve_http(
    replica: Replica[Any], address: str, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve until cancelled; started once it listens, with the real HOST:PORT. LocalError if it can't listen there."""
    host, port = split_address(address)
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise LocalError(f"http can't be served on {address}: {error.strerror or error}") from error
    limiter = trio.CapacityLimiter(CONNECTIONS_MAX)
    bound = listeners[0].socket.getsockname()
    await trio.serve_listeners(
        partial(_serve_connection, replica, limiter),
        listeners,
        task_status=_Named(task_status, f"{host}:{bound[1]}"),  # type: ignore[arg-type]
    )


class _Named:
    """Tells the address where `serve_listeners` would tell its listeners."""

    def __init__(self, status: trio.TaskStatus[str], address: str) -> None:
        self._status = status
        self._address = address

    def started(self, _value: object) -> None:
        self._status.started(self._address)


async def _serve_connection(replica: Replica[Any], limiter: trio.CapacityLimiter, stream: trio.SocketStream) -> None:
    try:
        limiter.acquire_nowait()
    except trio.WouldBlock:
        return  # closed by the caller: there are CONNECTIONS_MAX others
    try:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=REQUEST_BYTES_MAX)
        for _ in range(REQUESTS_MAX):
            with trio.fail_after(REQUEST_TIMEOUT):
                if not await _serve_request(replica, connection, stream):
                    return
    except (trio.BrokenResourceError, trio.TooSlowError, h11.RemoteProtocolError) as error:
        logger.debug("http: %s", error)
    finally:
        limiter.release()


async def _serve_request(replica: Replica[Any], connection: h11.Connection, stream: trio.SocketStream) -> bool:
    """Answer one request; whether another may follow on this connection."""
    request: h11.Request | None = None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(REQUEST_BYTES_MAX))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.EndOfMessage):
            break
        elif not isinstance(event, h11.Data):
            return False
    assert request is not None
    status, kind, body = _answer(replica, request)
    headers = [("content-type", kind), ("content-length", str(len(body)))]
    data = connection.send(h11.Response(status_code=status, headers=headers)) or b""
    if request.method != b"HEAD":
        data += connection.send(h11.Data(data=body)) or b""
    data += connection.send(h11.EndOfMessage()) or b""
    await stream.send_all(data)
    if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
        return False
    connection.start_next_cycle()
    return True


def _answer(replica: Replica[Any], request: h11.Request) -> tuple[int, str, bytes]:
    if request.method not in (b"GET", b"HEAD"):
        return 405, "text/plain", b"only GET and HEAD\n"
    match request.target.partition(b"?")[0]:
        case b"/livez":
            return 200, "text/plain", b"alive\n"
        case b"/readyz":
            if replica.leader:
                return 200, "text/plain", b"ready\n"
            return 503, "text/plain", b"no leader is known\n"
        case b"/status":
            return 200, "application/json", json.dumps(_plain(replica.status()), indent=2).encode() + b"\n"
        case b"/metrics":
            return 200, "text/plain; version=0.0.4; charset=utf-8", _metrics(replica)
        case _:
            return 404, "text/plain", b"there are /livez, /readyz, /status and /metrics\n"


def _plain(value: Any) -> Any:
    """Records as dictionaries, enumerations as names, large numbers that JavaScript would round as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.name.lower()
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1 << 53:
        return f"{value:016x}"
    return value


def _metrics(replica: Replica[Any]) -> bytes:
    """Every number of the status as a gauge, named by its path; counters by reason have a label."""
    registry = CollectorRegistry()
    gauges: dict[str, Gauge] = {}
    for name, labels, number in _numbers("distkit", replica.status()):
        if name not in gauges:
            gauges[name] = Gauge(name, name.replace("_", " "), sorted(labels), registry=registry)
        (gauges[name].labels(**labels) if labels else gauges[name]).set(number)
    return generate_latest(registry)


def _numbers(
    name: str, value: Any, labels: dict[str, str] | None = None
) -> Iterator[tuple[str, dict[str, str], float]]:
    labels = labels or {}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for each in dataclasses.fields(value):
            yield from _numbers(f"{name}_{each.name}", getattr(value, each.name), labels)
    elif isinstance(value, bool | int | float) and not isinstance(value, enum.Flag):
        yield name, labels, float(value)
    elif isinstance(value, dict):
        for key, number in value.items():
            yield from _numbers(name, number, {**labels, "reason": str(key)})
    elif isinstance(value, tuple):
        for each in value:
            if isinstance(each, tuple) and len(each) == 2:
                yield from _numbers(name, each[1], {**labels, "reason": str(each[0])})
            elif hasattr(each, "node"):
                yield from _numbers(f"{name}_peer", each, {**labels, "peer": str(each.node)})
