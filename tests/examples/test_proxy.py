"""The proxy as a whole: TCP and PROXY headers, reloading, draining, and what it shows."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import proxy_protocol
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from proxies import Backend, answering, configured, get, ok, proxied, response, silent, trio_test, until
from proxy import reload
from proxy_admin import metrics, open_admin, serve_admin, status
from proxy_config import ProxyConfig, read_config
from proxy_messages import Reader
from proxy_protocol import Source
from proxy_wire import Wire, connect
from toml_records import read_records

from distkit import LocalError

TCP = 'mode = "tcp"'


async def echo(backend: Backend, wire: Wire) -> None:
    while data := await wire.receive():
        await wire.send(data)


async def receive_all(wire: Wire) -> bytes:
    data = b""
    while more := await wire.receive():
        data += more
    return data


# -- TCP ---------------------------------------------------------------------------------------------------------------


@trio_test
async def test_bytes_pass_both_ways_and_each_end_ends_alone() -> None:
    large = bytes(range(256)) * 8000
    async with proxied(echo, listen=TCP) as (proxy, _):
        wire = proxy.client()

        async def send() -> None:
            await wire.send(large)
            wire.finish()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            assert await receive_all(wire) == large
        await trio.testing.wait_all_tasks_blocked()
        assert proxy.upstream.active == 0


@trio_test
async def test_who_can_not_be_reached_is_passed_over() -> None:
    async with proxied(echo, echo, listen=TCP, cluster='policy = "round_robin"') as (proxy, backends):
        backends[0].listening.cancel()
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            wire = proxy.client()
            await wire.send(b"hello")
            assert await wire.receive() == b"hello"
        backends[1].listening.cancel()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ConnectionResetError):
            await proxy.client().receive()


@trio_test
async def test_a_reset_is_passed_on() -> None:
    async def behave(backend: Backend, wire: Wire) -> None:
        await wire.receive()
        wire.reset()

    async with proxied(behave, listen=TCP) as (proxy, _):
        wire = proxy.client()
        await wire.send(b"hello")
        with pytest.raises(ConnectionResetError):
            await wire.receive()


@trio_test
async def test_proxy_headers_are_read_and_written() -> None:
    seen: list[tuple[Source | None, bytes]] = []

    async def behave(backend: Backend, wire: Wire) -> None:
        data = b""
        while (found := proxy_protocol.decode(data)) is None:
            data += await wire.receive()
        seen.append((found[0], data[found[1] :]))
        await wire.send(b"!")

    both = {"listen": TCP + "\nproxy_protocol = true", "cluster": "send_proxy_protocol = true"}
    async with proxied(behave, **both) as (proxy, _):
        client = Source("192.0.2.1", 1234, "192.0.2.2", 80)
        wire = proxy.client()
        await wire.send(proxy_protocol.encode(client) + b"hi")
        assert await wire.receive() == b"!"
        stranger = proxy.client()
        await stranger.send(b"GET / HTTP/1.1\r\n")
        assert await stranger.receive() == b""
    assert seen[0][0] == client
    assert seen[0][1] in (b"", b"hi")
    assert len(seen) == 1


@trio_test
async def test_the_client_of_a_proxy_header_is_who_http_forwards_for() -> None:
    async with proxied(answering(ok()), listen="proxy_protocol = true") as (proxy, (backend,)):
        wire = proxy.client()
        await wire.send(proxy_protocol.encode(Source("192.0.2.9", 1, "192.0.2.2", 80)))
        await proxy.ask(get(), wire)
        assert backend.requests[0][0].get(b"x-forwarded-for") == b"192.0.2.9"


# -- changes -----------------------------------------------------------------------------------------------------------


@trio_test
async def test_a_reload_changes_endpoints_and_keeps_clients() -> None:
    async with proxied(answering(ok(b"old")), answering(ok(b"new"))) as (proxy, backends):
        before = proxy.proxy.upstreams["app"]
        config = configured(backends)
        (first, second) = config.cluster["app"].endpoints
        apply_endpoints(proxy.proxy, config, first)
        wire = proxy.client()
        assert (await proxy.ask(get(), wire))[1] == b"old"
        apply_endpoints(proxy.proxy, config, second)
        assert (await proxy.ask(get(), wire))[1] == b"new"
        assert proxy.proxy.upstreams["app"] is before


def apply_endpoints(proxy: object, config: ProxyConfig, *endpoints: object) -> None:
    cluster = dataclasses.replace(config.cluster["app"], endpoints=endpoints)
    proxy.apply(dataclasses.replace(config, cluster={"app": cluster}))


@trio_test
async def test_a_reload_with_another_policy_lets_what_is_under_way_end() -> None:
    release = trio.Event()

    async def behave(backend: Backend, wire: Wire) -> None:
        await backend.request(wire, Reader(requests=True))
        await release.wait()
        await wire.send(ok(b"late"))

    async with proxied(behave) as (proxy, backends):
        wire, before = proxy.client(), proxy.upstream
        await wire.send(get())
        await until(lambda: backends[0].requests)
        proxy.proxy.apply(configured(backends, cluster='policy = "random"'))
        assert proxy.upstream is not before
        release.set()
        assert (await response(wire))[1] == b"late"
        assert (await proxy.ask(get(), wire))[0].status == 200
        assert before.active == before.idle_count() == 0


@trio_test
async def test_a_file_with_a_mistake_changes_nothing() -> None:
    async with proxied(answering(ok())) as (proxy, _):
        before = dict(proxy.proxy.upstreams)
        reload(proxy.proxy, Path("nowhere"))
        assert proxy.proxy.upstreams == before
        assert proxy.proxy.reloads == 0


@trio_test
async def test_an_address_in_use_changes_nothing() -> None:
    async with proxied(answering(ok())) as (proxy, backends):
        config = configured(backends)
        taken = dataclasses.replace(config.listen["web"], address=backends[0].address)
        with pytest.raises(LocalError, match="can't be listened on: Address already in use"):
            proxy.proxy.apply(dataclasses.replace(config, listen={"web": taken}))
        assert (await proxy.ask(get()))[0].status == 200


@trio_test
async def test_a_listener_that_is_taken_away_serves_what_it_has() -> None:
    async with proxied(answering(ok())) as (proxy, backends):
        wire = proxy.client()
        await proxy.ask(get(), wire)
        old = proxy.listener
        config = configured(backends)
        moved = dataclasses.replace(config.listen["web"], address="127.0.0.2:0")
        proxy.proxy.apply(dataclasses.replace(config, listen={"web": moved}))
        assert await wire.receive() == b""  # it was idle
        assert proxy.listener is not old
        assert (await proxy.ask(get()))[0].status == 200
        with pytest.raises(ConnectionRefusedError):
            await connect(("127.0.0.1", int(old.address.rpartition(":")[2])))


@trio_test
async def test_draining_answers_what_was_asked_and_then_closes() -> None:
    release = trio.Event()

    async def behave(backend: Backend, wire: Wire) -> None:
        await backend.request(wire, Reader(requests=True))
        await release.wait()
        await wire.send(ok(b"late"))

    async with proxied(behave) as (proxy, backends):
        busy, idle = proxy.client(), proxy.client()
        release.set()
        await proxy.ask(get(), idle)
        release = trio.Event()
        backends[0].requests.clear()
        await busy.send(get())
        await until(lambda: backends[0].requests)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(proxy.proxy.drain)
            assert await idle.receive() == b""
            release.set()
            head, body = await response(busy)
            assert (body, head.get(b"connection")) == (b"late", b"close")
            assert await busy.receive() == b""


@trio_test
async def test_draining_ends_after_its_time() -> None:
    async with proxied(silent, top="drain_timeout = 0.05") as (proxy, backends):
        await proxy.client().send(get())
        await until(lambda: backends[0].requests)
        await proxy.proxy.drain()
        assert len(proxy.listener.clients) == 1


class Names(trio.abc.HostnameResolver):
    """Everything is on loopback."""

    async def getaddrinfo(self, host: Any, port: Any, *rest: int) -> Any:
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


@trio_test
async def test_a_cluster_can_be_the_addresses_behind_a_name() -> None:
    trio.socket.set_custom_hostname_resolver(Names())
    async with proxied(answering(ok(b"found"))) as (proxy, (backend,)):
        config = configured([backend])
        dns = f"app.internal:{backend.address.rpartition(':')[2]}"
        cluster = dataclasses.replace(config.cluster["app"], endpoints=(), dns=dns)
        proxy.proxy.apply(dataclasses.replace(config, cluster={"app": cluster}))
        await until(proxy.upstream.available)
        assert (await proxy.ask(get()))[1] == b"found"
        (endpoint,) = status(proxy.proxy)["clusters"][0]["endpoints"]
        assert (endpoint["id"], endpoint["picks"]) == (backend.address, 1)


# -- what it shows -----------------------------------------------------------------------------------------------------


@trio_test
async def test_status_and_metrics_tell_the_same() -> None:
    async with proxied(answering(ok(b"1234")), answering(b""), cluster='policy = "round_robin"') as (proxy, _):
        for _ in range(6):
            await proxy.ask(get())
        (cluster,) = status(proxy.proxy)["clusters"]
        assert (cluster["name"], cluster["requests"], cluster["active"]) == ("app", 6, 0)
        assert cluster["failures"] == cluster["retries"] > 0
        assert {each["id"]: each["failures"] for each in cluster["endpoints"]} == {"b0": 0, "b1": cluster["failures"]}
        well, ill = (each["latency"] for each in cluster["endpoints"])
        assert ill is None
        assert well > 0
        samples = {
            (sample.name, sample.labels.get("endpoint")): sample.value
            for family in text_string_to_metric_families(metrics(proxy.proxy).decode())
            for sample in family.samples
        }
        assert samples["distkit_proxy_requests_total", None] == 6
        assert samples["distkit_proxy_endpoint_failures_total", "b1"] == cluster["failures"]


@trio_test
async def test_the_admin_address_answers_what_it_has_and_refuses_the_rest() -> None:
    async with proxied(answering(ok())) as (proxy, _), trio.open_nursery() as nursery:
        (listener,) = await open_admin("127.0.0.1:0")
        nursery.start_soon(serve_admin, proxy.proxy, [listener])
        wire = await connect(listener.socket.getsockname())
        try:
            for path, expected in (("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/x", 404)):
                assert (await proxy.ask(get(path), wire))[0].status == expected
            head, page = await proxy.ask(get("/status"), wire)
            assert (head.get(b"content-type"), b"status.json" in page) == (b"text/html; charset=utf-8", True)
            _, data = await proxy.ask(get("/status.json"), wire)
            assert json.loads(data)["clusters"][0]["name"] == "app"
            assert (await proxy.ask(get("/status", method="POST"), wire))[0].status == 405
            head, _ = await proxy.ask(b"nonsense\r\n\r\n", wire)
            assert head.status == 400
        finally:
            wire.close()
        nursery.cancel_scope.cancel()


# -- the file ----------------------------------------------------------------------------------------------------------

MISTAKES = {
    "no listener": ("[listen]\n[cluster]", "a [listen.NAME] is needed"),
    "unknown cluster": ('[listen.a]\naddress="127.0.0.1:1"\ncluster="b"\n[cluster]', "listen.a sends to cluster 'b'"),
    "address": ('[listen.a]\naddress="here"\ncluster="b"\n[cluster]', "line 1: listen.a: an address must be HOST:PORT"),
    "mode": ('[listen.a]\naddress="127.0.0.1:1"\ncluster="b"\nmode="udp"\n[cluster]', 'mode must be "http" or "tcp"'),
    "policy": ('[listen]\n[cluster.b]\npolicy="best"\nendpoints=[]', "one of endpoints, dns and kubernetes"),
    "unknown policy": (
        '[listen]\n[cluster.b]\npolicy="best"\nendpoints=[{address="127.0.0.1:1"}]',
        "line 2: cluster.b: .*best",
    ),
    "option": (
        '[listen]\n[cluster.b]\npolicy={name="least_request", choises=3}\nendpoints=[{address="127.0.0.1:1"}]',
        "choises",
    ),
    "twice": (
        '[listen]\n[cluster.b]\nendpoints=[{address="127.0.0.1:1"},{address="127.0.0.1:1"}]',
        "two endpoints are called '127.0.0.1:1'",
    ),
    "admin": (
        'admin="0.0.0.0:80"\n[listen.a]\naddress="127.0.0.1:1"\ncluster="b"\n[cluster.b]\nendpoints=[{address="127.0.0.1:1"}]',
        "anybody who can reach 0.0.0.0:80 sees all",
    ),
    "number": (
        '[listen.a]\naddress="127.0.0.1:1"\ncluster="b"\nidle_timeout=0\n[cluster]',
        "idle_timeout must be above 0",
    ),
    "hash": (
        '[listen]\n[cluster.b]\nhash_on="user"\nendpoints=[{address="127.0.0.1:1"}]',
        'hash_on is "source"',
    ),
    "weight": (
        '[listen]\n[cluster.b]\nendpoints=[{address="127.0.0.1:1", weight=-1}]',
        "line 3: cluster.b.endpoints.0.*weight",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_the_file_is_named(name: str) -> None:
    text, message = MISTAKES[name]
    with pytest.raises(LocalError, match=message.replace("[", r"\[") if "[" in message else message):
        read_records(ProxyConfig, text)


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"x.toml can't be read: No such file"):
        read_config(tmp_path / "x.toml")
    (tmp_path / "y.toml").write_bytes(b"\xff")
    with pytest.raises(LocalError, match=r"y.toml is not UTF-8"):
        read_config(tmp_path / "y.toml")
