"""Where the endpoints of the proxy come from: a Kubernetes service, and what it says about all of them."""

import json
import logging
import random
from typing import Any

import pytest
import trio
from proxies import Backend, answering, get, ok, proxied, trio_test, until
from proxy_config import ClusterConfig, EndpointConfig, ProxyConfig
from proxy_messages import Reader, chunk
from proxy_upstream import Upstream
from proxy_wire import Wire
from toml_records import read_records

from distkit import LocalError
from distkit.balance.events import Checked, Ejected, PanicOff, PanicOn, Restored


def slice_of(address: str, version: int, **conditions: bool) -> dict[str, Any]:
    """The one EndpointSlice of a service with one pod."""
    host, _, port = address.rpartition(":")
    return {
        "metadata": {"name": "app-1", "resourceVersion": str(version)},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": int(port)}, {"name": "metrics", "port": 1}],
        "endpoints": [{"addresses": [host], "conditions": conditions, "targetRef": {"uid": f"uid-{port}"}}],
    }


class Api:
    """An API server: a list with one slice, then what it is told to send to whoever watches."""

    def __init__(self, first: dict[str, Any]) -> None:
        self.first = first
        self.targets: list[bytes] = []
        self.send, self._events = trio.open_memory_channel[dict[str, Any]](10)

    async def __call__(self, backend: Backend, wire: Wire) -> None:
        await backend.request(wire, Reader(requests=True))
        self.targets.append(backend.requests[-1][0].target)
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        if b"watch=1" not in self.targets[-1]:
            await wire.send(chunk(json.dumps({"metadata": {"resourceVersion": "1"}, "items": [self.first]}).encode()))
            await wire.send(chunk(b"\n") + b"0\r\n\r\n")
            return
        async for event in self._events:
            await wire.send(chunk(json.dumps(event).encode() + b"\n"))


@trio_test
async def test_a_cluster_can_be_a_kubernetes_service(caplog: pytest.LogCaptureFixture) -> None:
    async with proxied(answering(ok(b"old")), answering(ok(b"new"))) as (proxy, (old, new)):
        api = Api(slice_of(old.address, 1))
        server = Backend(api)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run)
            cluster = f'kubernetes = "shop/app:http"\nkubernetes_api = "{server.address}"'
            text = f'[listen.web]\naddress = "127.0.0.1:0"\ncluster = "app"\n[cluster.app]\n{cluster}\n'
            proxy.proxy.apply(read_records(ProxyConfig, text))
            await until(proxy.upstream.available)
            assert (await proxy.ask(get()))[1] == b"old"
            assert b"/namespaces/shop/endpointslices?" in api.targets[0]
            await api.send.send({"type": "MODIFIED", "object": slice_of(new.address, 2)})
            await until(lambda: f"{new.address}@uid-{new.address[-5:]}" in proxy.upstream.servers)
            assert (await proxy.ask(get()))[1] == b"new"
            # What can't be understood changes nothing, a service without anybody does.
            await api.send.send({"type": "MODIFIED", "object": {**slice_of(new.address, 3), "ports": 7}})
            await until(lambda: "its endpoints stay as they were" in caplog.text)
            assert (await proxy.ask(get()))[1] == b"new"
            await api.send.send({"type": "MODIFIED", "object": slice_of(new.address, 4, ready=False)})
            await until(lambda: not proxy.upstream.servers)
            assert (await proxy.ask(get()))[0].status == 503
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("shop/app:http", ("shop", "app", "http")),
        ("shop/app:8080", ("shop", "app", 8080)),
        ("shop/app", ("shop", "app", None)),
    ],
)
def test_a_service_is_written_in_one_line(text: str, expected: object) -> None:
    assert ClusterConfig(kubernetes=text).service() == expected


@pytest.mark.parametrize("text", ["app", "/app:http", "shop/app:", "shop/app:http/x", "Shop/app", "shop/../x"])
def test_what_is_no_service_is_refused(text: str) -> None:
    with pytest.raises(LocalError, match="NAMESPACE/SERVICE:PORT_NAME"):
        ClusterConfig(kubernetes=text)


def test_a_service_is_asked_for_in_its_cluster_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(LocalError, match="this is no pod"):
        Upstream("app", ClusterConfig(kubernetes="shop/app"), random.Random(1))
    with pytest.raises(LocalError, match="must be a loopback address"):
        ClusterConfig(kubernetes="shop/app", kubernetes_api="10.0.0.1:8001")


@trio_test
async def test_what_happens_to_endpoints_is_said_in_sentences(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with proxied(answering(ok())) as (proxy, _):
        for event in (
            Checked("b0", True),
            Checked("b0", False),
            Checked("b0", True),
            Ejected("b0", "consecutive errors", 0.0),
            Restored("b0"),
            PanicOn(0),
            PanicOff(0),
        ):
            proxy.upstream._say(event)
    assert [(each.levelname, each.message.removeprefix("cluster.app: ")) for each in caplog.records][-6:] == [
        ("WARNING", "b0 fails its checks"),
        ("INFO", "b0 passes its checks"),
        ("WARNING", "b0 gets no requests for 0 s: consecutive errors"),
        ("INFO", "b0 gets requests again"),
        ("WARNING", "so few endpoints of priority 0 are well that all are used"),
        ("INFO", "enough endpoints of priority 0 are well again"),
    ]


def test_two_listeners_with_one_address_are_a_mistake() -> None:
    one = '[listen.{}]\naddress="127.0.0.1:1"\ncluster="b"\n'
    text = one.format("x") + one.format("y") + '[cluster.b]\nendpoints=[{address="127.0.0.1:1"}]'
    with pytest.raises(LocalError, match=r"two listeners have the address 127\.0\.0\.1:1"):
        read_records(ProxyConfig, text)


@trio_test
async def test_two_listeners_share_a_cluster() -> None:
    async with proxied(answering(ok())) as (proxy, (backend,)):
        (web,) = proxy.proxy.listeners.values()
        text = '[listen.{}]\naddress = "127.0.0.{}:0"\ncluster = "app"\n'
        cluster = f'[cluster.app]\nendpoints = [{{ address = "{backend.address}" }}]\n'
        proxy.proxy.apply(read_records(ProxyConfig, text.format("a", 2) + text.format("b", 3) + cluster))
        assert web not in proxy.proxy.listeners.values()
        upstreams = {each.upstream for each in proxy.proxy.listeners.values()}
        assert upstreams == {proxy.upstream}
        assert len(proxy.proxy.listeners) == 2


def test_an_endpoint_without_a_port_is_refused() -> None:
    with pytest.raises(LocalError, match="HOST:PORT"):
        EndpointConfig(address="127.0.0.1")
