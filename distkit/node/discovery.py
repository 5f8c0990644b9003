"""Where endpoints come from: the addresses behind a name, and the EndpointSlices of a Kubernetes service.

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow_name, "app.internal:8080", on_change)
        nursery.start_soon(follow_service, ApiServer.in_cluster(os.environ), "default", "app", on_slices, rng)

Each calls back when there is something else than before, and never with nothing because somebody could not be asked:
who is known stays known until a better answer comes. Needs `distkit[server]` (h11) for Kubernetes.
"""

from __future__ import annotations

import json
import logging
import random
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import trio

from distkit.core import DistkitError, LocalError
from distkit.transport import join_address, split_address

logger = logging.getLogger(__name__)

#: A name is asked for again this often: what the resolver gives has no time to live.
NAME_INTERVAL = 5.0
#: A failed attempt is repeated after a random time up to this, which doubles up to RETRY_MAX.
RETRY_MIN, RETRY_MAX = 0.5, 30.0
#: The API server is asked to end a watch after this time; one that is silent for longer is taken for dead.
WATCH_SECONDS = 240
REQUEST_TIMEOUT = 30.0
#: Of one object, and of the answer to a list.
OBJECT_BYTES_MAX = 8 << 20
LIST_BYTES_MAX = 64 << 20
SLICES_MAX = 10_000
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class DiscoveryError(DistkitError):
    """A source of endpoints gave no usable answer. It is asked again."""


async def follow_name(
    address: str, changed: Callable[[tuple[str, ...]], None], *, interval: float = NAME_INTERVAL
) -> None:
    """Call `changed` with all addresses (HOST:PORT, sorted) behind HOST:PORT, now and whenever they change.

    Runs until cancelled. A failed look-up and one without any address are logged and change nothing.
    """
    host, port = split_address(address)
    known: tuple[str, ...] = ()
    while True:
        try:
            found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
        except OSError as error:
            logger.warning("%s can't be resolved, %d known addresses stay: %s", host, len(known), error)
        else:
            addresses = tuple(sorted({join_address(str(each[4][0]), port) for each in found}))
            if addresses and addresses != known:
                known = addresses
                changed(known)
        await trio.sleep(interval)


# -- Kubernetes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ApiServer:
    """Where the API server is and how it is spoken to. The token is read for each request, since it rotates."""

    address: str
    token: Path | None = None
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @classmethod
    def in_cluster(cls, environment: Mapping[str, str], account: Path = SERVICE_ACCOUNT) -> ApiServer:
        """The one that every pod is told of. LocalError outside of Kubernetes."""
        host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
        if not host or not port:
            raise LocalError("this is no pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
        try:
            tls = ssl.create_default_context(cafile=str(account / "ca.crt"))
        except OSError as error:
            raise LocalError(f"{account / 'ca.crt'} can't be used: {error.strerror or error}") from None
        return cls(join_address(host, int(port)), account / "token", tls)


class SliceSet:
    """The EndpointSlices of a service, kept up to date by the answers of the API server. Pure: no I/O."""

    def __init__(self) -> None:
        self._slices: dict[str, dict[str, Any]] = {}
        #: Where a watch goes on from; "" asks for a new list.
        self.version = ""

    @property
    def slices(self) -> tuple[dict[str, Any], ...]:
        """All of them, by name."""
        return tuple(self._slices[name] for name in sorted(self._slices))

    def listed(self, answer: Any) -> None:
        """A whole list. DiscoveryError if it is none."""
        items, version = _at(answer, "items"), _at(answer, "metadata", "resourceVersion")
        if not isinstance(items, list) or not isinstance(version, str) or len(items) > SLICES_MAX:
            raise DiscoveryError(f"no list of at most {SLICES_MAX} EndpointSlices")
        self._slices = {_name(each): each for each in items}
        self.version = version

    def watched(self, event: Any) -> bool:
        """One event of a watch; whether the slices changed. After one that ends the watch, `version` is ""."""
        kind, item = _at(event, "type"), _at(event, "object")
        if kind == "ERROR":
            self.version = ""
            raise DiscoveryError(f"the watch ended: {_at(item, 'message')}")
        version = _at(item, "metadata", "resourceVersion")
        if not isinstance(version, str):
            raise DiscoveryError("an event without a version")
        self.version = version
        if kind == "BOOKMARK":
            return False
        name = _name(item)
        if kind == "DELETED":
            return self._slices.pop(name, None) is not None
        if kind not in ("ADDED", "MODIFIED"):
            raise DiscoveryError(f"an event of the unknown type {kind!r}")
        if name not in self._slices and len(self._slices) == SLICES_MAX:
            raise DiscoveryError(f"more than {SLICES_MAX} EndpointSlices")
        self._slices[name] = item
        return True


async def follow_service(
    api: ApiServer,
    namespace: str,
    service: str,
    changed: Callable[[tuple[dict[str, Any], ...]], None],
    rng: random.Random,
) -> None:
    """Call `changed` with all EndpointSlices of the service, now and whenever one changes. Runs until cancelled.

    Lists, then watches from there; lists again when the API server has forgotten the version (410). Errors are logged
    and tried again with a back-off, while the slices that are known stay.
    """
    known, delay = SliceSet(), RETRY_MIN
    selector = quote(f"kubernetes.io/service-name={service}", safe="")
    path = f"/apis/discovery.k8s.io/v1/namespaces/{quote(namespace, safe='')}/endpointslices?labelSelector={selector}"
    while True:
        try:
            if not known.version:
                known.listed(await _get(api, path))
                changed(known.slices)
            await _watch(api, path, known, changed)
            delay = RETRY_MIN
            await trio.sleep(rng.uniform(0, delay))
        except (DiscoveryError, OSError, trio.BrokenResourceError, trio.TooSlowError, ssl.SSLError) as error:
            logger.warning("EndpointSlices of %s/%s: %s", namespace, service, error)
            await trio.sleep(rng.uniform(0, delay))
            delay = min(RETRY_MAX, 2 * delay)


async def _get(api: ApiServer, path: str) -> Any:
    body = bytearray()
    with trio.fail_after(REQUEST_TIMEOUT):
        async with _request(api, path) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) > LIST_BYTES_MAX:
                    raise DiscoveryError(f"the list is larger than {LIST_BYTES_MAX} bytes")
    return _decoded(bytes(body))


async def _watch(
    api: ApiServer, path: str, known: SliceSet, changed: Callable[[tuple[dict[str, Any], ...]], None]
) -> None:
    """Follow one watch until the API server ends it."""
    query = f"&watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={quote(known.version)}"
    rest = b""
    with trio.fail_after(WATCH_SECONDS + REQUEST_TIMEOUT):
        async with _request(api, path + query, known) as pieces:
            async for piece in pieces:
                *lines, rest = (rest + piece).split(b"\n")
                # All events of a piece together: a rolling restart is many of them.
                news = [known.watched(_decoded(line)) for line in lines if line.strip()]
                if any(news):
                    changed(known.slices)
                if len(rest) > OBJECT_BYTES_MAX:
                    raise DiscoveryError(f"an event is larger than {OBJECT_BYTES_MAX} bytes")


@asynccontextmanager
async def _request(api: ApiServer, path: str, known: SliceSet | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
    """The body of the answer in pieces. DiscoveryError for a status other than 200; a 410 forgets `known.version`."""
    import h11

    host, port = split_address(api.address)
    headers = [("Host", api.address), ("Accept", "application/json"), ("User-Agent", "distkit")]
    if api.token is not None:
        headers.append(("Authorization", f"Bearer {_token(api.token)}"))
    connection = h11.Connection(h11.CLIENT)
    async with await _open(api, host, port) as stream:
        request = h11.Request(method="GET", target=path, headers=[*headers, ("Connection", "close")])
        await stream.send_all((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
        response = await _event(connection, stream)
        if not isinstance(response, h11.Response):
            raise DiscoveryError("the API server closed the connection")
        if response.status_code != 200:
            if response.status_code == 410 and known is not None:
                known.version = ""
            raise DiscoveryError(f"the API server answered {response.status_code} {response.reason.decode()}")

        async def pieces() -> AsyncIterator[bytes]:
            while isinstance(event := await _event(connection, stream), h11.Data):
                yield bytes(event.data)

        yield pieces()


async def _open(api: ApiServer, host: str, port: int) -> trio.abc.Stream:
    with trio.fail_after(REQUEST_TIMEOUT):
        stream = await trio.open_tcp_stream(host, port)
        if api.tls is None:
            return stream
        secured = trio.SSLStream(stream, api.tls, server_hostname=host, https_compatible=True)
        try:
            await secured.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return secured


async def _event(connection: Any, stream: trio.abc.Stream) -> Any:
    import h11

    try:
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(64 << 10)))
    except h11.RemoteProtocolError as error:
        raise DiscoveryError(f"the API server does not speak HTTP: {error}") from None
    return event


def _token(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DiscoveryError(f"the token {path} can't be read: {error}") from None


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise DiscoveryError("the API server sent what is no JSON") from None


def _at(value: Any, *path: str) -> Any:
    """What lies below these keys, None if a step is missing."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _name(item: Any) -> str:
    name = _at(item, "metadata", "name")
    if not isinstance(name, str) or not name:
        raise DiscoveryError("an EndpointSlice without a name")
    return name
