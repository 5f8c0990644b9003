"""The proxy between clients and servers that mean it ill or are careless: nobody harms a third, nothing is left."""

import dataclasses
import errno
import socket
from typing import Any

import pytest
import trio
from proxies import Backend, answering, configured, get, ok, proxied, response, silent, trio_test, until
from proxy_admin import open_admin, serve_admin
from proxy_http import HttpClient
from proxy_messages import BadMessage, Head, Reader
from proxy_upstream import unreached
from proxy_wire import Wire, connect

from distkit.balance import Outcome


async def rest(wire: Wire) -> bytes:
    """All that comes until the end."""
    data = b""
    while more := await wire.receive():
        data += more
    return data


def once(*answers: bytes) -> Any:
    """Read one request, send these bytes, and close."""

    async def behave(backend: Backend, wire: Wire) -> None:
        await backend.request(wire, Reader(requests=True))
        for each in answers:
            await wire.send(each)

    return behave


# -- requests ----------------------------------------------------------------------------------------------------------


@trio_test
async def test_what_came_before_nonsense_is_answered() -> None:
    async with proxied(answering(ok(b"one"))) as (proxy, (backend,)):
        for nonsense in (b"BLAH BLAH\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"):
            wire = proxy.client()
            await wire.send(get() + nonsense)
            data = await rest(wire)
            assert data.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"oneHTTP/1.1 400 Bad Request\r\n" in data
        wire = proxy.client()
        await wire.send(get("/", "Connection: close") + get())
        assert (await rest(wire)).endswith(b"one")
        assert len(backend.requests) == 3


@trio_test
async def test_a_body_behind_an_upgrade_that_is_not_carried_is_a_body() -> None:
    async with proxied(answering(ok())) as (proxy, (backend,)):
        wire = proxy.client()
        upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA")
        await proxy.ask(get("/1", *upgrade, method="POST", body=b"GET /stolen HTTP/1.1\r\n\r\n"), wire)
        chunks = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        await proxy.ask(get("/2", *upgrade, "Transfer-Encoding: chunked", method="POST") + chunks, wire)
        await proxy.ask(get("/3", *upgrade), wire)
        await proxy.ask(get("/4", "Connection: Upgrade", "Upgrade: websocket", method="POST", body=b"fgh"), wire)
        assert [(head.target, body) for head, body in backend.requests] == [
            (b"/1", b"GET /stolen HTTP/1.1\r\n\r\n"),
            (b"/2", b"abcde"),
            (b"/3", b""),
            (b"/4", b"fgh"),
        ]
        assert all(head.get(b"upgrade") is None for head, _ in backend.requests)


@trio_test
async def test_an_upgrade_needs_a_connection_header_and_a_version() -> None:
    async with proxied(answering(ok())) as (proxy, (backend,)):
        wire = proxy.client()
        await proxy.ask(get("/", "Upgrade: websocket"), wire)
        await proxy.ask(b"GET / HTTP/1.0\r\nConnection: upgrade, keep-alive\r\nUpgrade: websocket\r\n\r\n", wire)
        assert [head.get(b"upgrade") for head, _ in backend.requests] == [None, None]


def feed_all(reader: Reader, pieces: list[bytes]) -> None:
    for each in pieces:
        reader.feed(each)


@pytest.mark.parametrize("endless", [b"X: " + b"y" * 70000, b"X: y\r\n" * 12000, b"1;" + b"e" * 70000])
def test_what_stands_behind_or_between_chunks_is_bounded(endless: bytes) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
    reader = Reader(requests=True)
    reader.feed(head if endless.startswith(b"1;") else head + b"0\r\n")
    reader.events.clear()
    pieces = [endless[place : place + 1000] for place in range(0, len(endless), 1000)]
    with pytest.raises(BadMessage, match="more than 65536 bytes"):
        feed_all(reader, pieces)


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [("http://b?q", b"b", b"/?q"), ("http://b:8/x?q", b"b:8", b"/x?q"), ("HTTPS://[::1]", b"[::1]", b"/")],
)
def test_a_whole_url_takes_the_place_of_the_host(target: str, host: bytes, path: bytes) -> None:
    reader = Reader(requests=True)
    reader.feed(get(target))
    head = reader.events.popleft()
    assert isinstance(head, Head)
    assert (head.get(b"host"), head.target) == (host, path)


@pytest.mark.parametrize(
    "data",
    [
        get("http://me@b/"),
        get("http:///x"),
        get("*"),
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n",
    ],
)
def test_a_host_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(BadMessage) as caught:
        Reader(requests=True).feed(data)
    assert caught.value.status == 400


@trio_test
async def test_an_old_client_is_not_told_to_continue() -> None:
    async with proxied(answering(ok())) as (proxy, _):
        wire = proxy.client()
        await wire.send(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked()
        await wire.send(b"x")
        assert (await rest(wire)).startswith(b"HTTP/1.1 200 OK")


@trio_test
async def test_a_body_that_breaks_the_rules_on_its_way_is_refused() -> None:
    async with proxied(silent) as (proxy, (backend,)):
        wire = proxy.client()
        await wire.send(get("/", "Transfer-Encoding: chunked", method="POST") + b"1\r\na\r\n")
        await until(lambda: backend.connections)
        await wire.send(b"nonsense\r\n")
        assert (await response(wire))[0].status == 400
        assert proxy.upstream.counters.failures == 0


# -- answers -----------------------------------------------------------------------------------------------------------


@trio_test
async def test_an_answer_with_more_than_its_length_is_cut_there_and_spoils_the_connection() -> None:
    async with proxied(answering(ok(b"right") + b"\nSSH wrong")) as (proxy, (backend,)):
        wire = proxy.client()
        for _ in range(2):
            assert (await proxy.ask(get(), wire))[1] == b"right"
        assert backend.connections == 2


@trio_test
async def test_half_of_another_answer_spoils_the_connection() -> None:
    async with proxied(answering(ok(b"right") + b"HTTP/1.1 2")) as (proxy, (backend,)):
        for _ in range(2):
            assert (await proxy.ask(get()))[1] == b"right"
        assert backend.connections == 2


@trio_test
async def test_a_protocol_that_nobody_asked_for_is_a_bad_gateway() -> None:
    changed = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    async with proxied(once(changed)) as (proxy, _):
        assert (await proxy.ask(get()))[0].status == 502
    async with proxied(once(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")) as (proxy, _):
        assert (await proxy.ask(get("/", "Connection: upgrade", "Upgrade: websocket")))[0].status == 502


@trio_test
async def test_a_server_that_offers_a_protocol_keeps_its_connection() -> None:
    async with proxied(answering(ok(b"", b"Connection: Upgrade", b"Upgrade: h2,h2c"))) as (proxy, (backend,)):
        for _ in range(3):
            await proxy.ask(get())
        assert backend.connections == 1


@trio_test
async def test_no_content_has_no_length() -> None:
    async with proxied(answering(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n")) as (proxy, _):
        wire = proxy.client()
        await wire.send(get("/", "Connection: close"))
        assert b"content-length" not in await rest(wire)


@trio_test
async def test_interim_answers_without_an_end_are_no_answer_in_time() -> None:
    async def behave(backend: Backend, wire: Wire) -> None:
        await backend.request(wire, Reader(requests=True))
        while True:
            await wire.send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
            await trio.lowlevel.checkpoint()

    async with proxied(behave, cluster="response_timeout = 0.05") as (proxy, _):
        assert (await proxy.ask(get()))[0].status == 504


@trio_test
async def test_an_answer_that_stops_is_never_taken_for_the_whole() -> None:
    async def behave(backend: Backend, wire: Wire) -> None:
        await backend.request(wire, Reader(requests=True))
        await wire.send(b"HTTP/1.0 200 OK\r\n\r\nhalf")
        await trio.sleep_forever()

    async with proxied(behave, cluster="response_timeout = 0.05") as (proxy, _):
        wire = proxy.client()
        await wire.send(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await rest(wire)
        assert proxy.upstream.counters.failures == 1
    async with proxied(behave, top="drain_timeout = 0.01") as (proxy, _):
        wire = proxy.client()
        await wire.send(b"GET / HTTP/1.0\r\n\r\n")
        await wire.receive()
        for client in proxy.listener.clients:
            client.scope.cancel()
        with pytest.raises(ConnectionResetError):
            await rest(wire)


@trio_test
async def test_an_early_answer_is_not_lost_by_a_client_that_still_sends() -> None:
    async def behave(backend: Backend, wire: Wire) -> None:
        await wire.receive()
        await wire.send(ok(b"too large", status=b"413 Content Too Large"))

    async with proxied(behave) as (proxy, _):
        wire = proxy.client()
        await wire.send(get("/", "Content-Length: 100000000", method="POST") + b"z" * 100000)
        await until(lambda: proxy.upstream.active == 0 and proxy.upstream.counters.requests)
        await wire.send(b"z" * 100000)
        assert (await rest(wire)).endswith(b"too large")


@trio_test
async def test_a_client_that_leaves_a_large_answer_says_nothing_of_the_server() -> None:
    async with proxied(answering(ok(b"x" * 20_000_000))) as (proxy, _):
        for _ in range(3):
            wire = proxy.client()
            await wire.send(get())
            await wire.receive()
            wire.reset()
            await until(lambda: proxy.listener.connections == 0)
        assert (proxy.upstream.counters.failures, proxy.upstream.active) == (0, 0)


@trio_test
async def test_a_server_that_dies_in_a_large_upload_is_a_bad_gateway() -> None:
    async def behave(backend: Backend, wire: Wire) -> None:
        for _ in range(4):
            await wire.receive()
        wire.reset()

    async with proxied(behave) as (proxy, _):
        wire = proxy.client()
        await wire.send(get("/", "Content-Length: 100000000", method="PUT") + b"z" * 1_000_000)
        assert (await response(wire))[0].status == 502
        assert proxy.upstream.counters.failures == 1


# -- time --------------------------------------------------------------------------------------------------------------


@trio_test
async def test_an_upload_may_take_longer_than_an_answer() -> None:
    async with proxied(answering(ok(b"done")), cluster="response_timeout = 0.3") as (proxy, (backend,)):
        wire = proxy.client()
        await wire.send(get("/", "Content-Length: 20", method="PUT"))
        for _ in range(20):
            await trio.sleep(0.05)  # together far longer than the server has for its answer
            await wire.send(b"x")
        assert (await response(wire))[1] == b"done"
        assert backend.connections == 1


@trio_test
async def test_who_says_nothing_at_first_has_the_time_of_a_head() -> None:
    async with proxied(answering(ok()), listen="head_timeout = 0.05\nidle_timeout = 1000.0") as (proxy, _):
        assert await proxy.client().receive() == b""


@trio_test
async def test_who_reads_slowly_is_served_and_who_stops_is_let_go() -> None:
    large = b"x" * 20_000_000
    async with proxied(answering(ok(large)), listen="idle_timeout = 0.6") as (proxy, _):
        slow, stuck = proxy.client(), proxy.client()
        for wire in (slow, stuck):
            wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            await wire.send(get("/", "Connection: close"))
        size = 0
        while data := await slow.receive():
            size += len(data)
            if size < 2_000_000:
                await trio.sleep(0.02)  # together longer than idle_timeout
        assert size > len(large)
        await until(lambda: proxy.listener.connections == 0)
        with pytest.raises(ConnectionResetError):
            await rest(stuck)


# -- connections -------------------------------------------------------------------------------------------------------


@trio_test
async def test_a_connection_that_a_server_tires_of_costs_nobody_an_answer() -> None:
    async def behave(backend: Backend, wire: Wire) -> None:
        reader = Reader(requests=True)
        await backend.request(wire, reader)
        await wire.send(ok())
        await wire.receive()  # the next request is already on its way when this closes

    async with proxied(behave) as (proxy, (backend,)):
        assert (await proxy.ask(get()))[0].status == 200
        assert (await proxy.ask(get()))[0].status == 200
        assert (proxy.upstream.counters.failures, backend.connections) == (0, 2)
        assert (await proxy.ask(get(method="POST", body=b"x")))[0].status == 502  # it may have been served
        assert backend.connections == 2


@trio_test
async def test_an_endpoint_that_moves_takes_no_connection_along() -> None:
    async with proxied(answering(ok(b"old")), answering(ok(b"new"))) as (proxy, backends):
        config = configured(backends)
        one, other = config.cluster["app"].endpoints
        moved = dataclasses.replace(other, id=one.id)
        for endpoint, expected in ((one, b"old"), (moved, b"new"), (one, b"old")):
            cluster = dataclasses.replace(config.cluster["app"], endpoints=(endpoint,))
            proxy.proxy.apply(dataclasses.replace(config, cluster={"app": cluster}))
            assert (await proxy.ask(get()))[1] == expected


@trio_test
async def test_who_never_says_for_whom_it_speaks_takes_a_place() -> None:
    async with proxied(answering(ok()), listen="proxy_protocol = true\nconnections_max = 2") as (proxy, _):
        mute = [proxy.client() for _ in range(2)]
        await until(lambda: proxy.listener.connections == 2)
        assert await proxy.client().receive() == b""
        mute[0].close()
        await until(lambda: proxy.listener.connections == 1)


@trio_test
async def test_a_mistake_of_ours_ends_one_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with proxied(answering(ok())) as (proxy, _):
        with monkeypatch.context() as patch:
            patch.setattr(HttpClient, "_request", lambda *_: 1 / 0)
            with pytest.raises(ConnectionError):
                await proxy.ask(get())
        assert (await proxy.ask(get()))[0].status == 200
        await until(lambda: proxy.listener.connections == 0)
        assert proxy.upstream.active == 0
    assert "the connection of 127.0.0.1 was dropped" in caplog.text


@trio_test
async def test_the_kernel_asks_whether_clients_and_servers_still_exist() -> None:
    async with proxied(answering(ok())) as (proxy, (backend,)):
        await proxy.ask(get(), proxy.client())
        (client,) = proxy.listener.clients
        server = await connect(("127.0.0.1", int(backend.address.rpartition(":")[2])))
        for wire in (client._wire, server):
            assert wire.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert wire.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        server.close()


@trio_test
async def test_a_name_with_several_addresses_is_tried_at_each() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        wire = await connect(closed.getsockname(), listener.getsockname())
        assert wire.sock.getpeername() == listener.getsockname()
        wire.close()
        with pytest.raises(ConnectionRefusedError):
            await connect(closed.getsockname())


def test_our_own_lack_of_room_is_nobodys_fault() -> None:
    assert unreached(OSError(errno.EMFILE, "")) is Outcome.CANCELLED
    assert unreached(ConnectionRefusedError()) is Outcome.CONNECT_FAIL
    assert unreached(trio.TooSlowError()) is Outcome.CONNECT_FAIL


@trio_test
async def test_ipv6_on_both_sides() -> None:
    async with proxied(answering(ok(b"six")), host="::1") as (proxy, (backend,)):
        assert (await proxy.ask(get()))[1] == b"six"
        assert backend.requests[0][0].get(b"x-forwarded-for") == b"::1"


@trio_test
async def test_nothing_is_left_of_requests_that_ended_in_every_way() -> None:
    behaviours = (answering(ok()), answering(b""), once(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"), silent)
    limits = 'policy = "round_robin"\nresponse_timeout = 0.1\nretries = { minimum = 100 }'
    async with proxied(*behaviours, cluster=limits) as (proxy, _):
        requests = [
            get(),
            get(method="POST", body=b"x" * 200_000),
            get("/", "Content-Length: 9", method="PUT"),
            b"nonsense\r\n\r\n",
            get("/", "Connection: upgrade", "Upgrade: websocket"),
        ]
        for each in requests * 4:
            wire = proxy.client()
            await wire.send(each)
            await trio.testing.wait_all_tasks_blocked()
            wire.close()
        await until(lambda: proxy.listener.connections == 0)
        upstream = proxy.upstream
        assert (upstream.active, upstream.retrying) == (0, 0)
        assert [each.in_flight for each in upstream.balancer.status().endpoints] == [0, 0, 0, 0]


# -- the admin address -------------------------------------------------------------------------------------------------


@trio_test
async def test_nobody_at_the_admin_address_ends_the_proxy() -> None:
    async with proxied(answering(ok())) as (proxy, _), trio.open_nursery() as nursery:
        (listener,) = await open_admin("127.0.0.1:0")
        nursery.start_soon(serve_admin, proxy.proxy, [listener])
        address = listener.socket.getsockname()
        for _ in range(20):
            rude = await connect(address)
            await rude.send(get("/status") + b"nonsense\r\n\r\n")
            rude.reset()
        endless = await connect(address)
        await endless.send(get("/status", "Content-Length: 100000000", method="POST") + b"x" * 100_000)
        assert (await response(endless))[0].status == 400
        endless.close()
        polite = await connect(address)
        assert (await proxy.ask(get("/livez"), polite))[0].status == 200
        polite.close()
        nursery.cancel_scope.cancel()
