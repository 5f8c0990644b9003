"""HTTP through the proxy: what arrives, what is tried again and what never is, and how a connection ends."""

import pytest
import trio
from proxies import Backend, answering, get, ok, proxied, response, silent, trio_test, until
from proxy_messages import Reader
from proxy_wire import Wire

ONE = 'policy = "round_robin"'


@trio_test
async def test_a_request_and_its_answer_pass_without_the_headers_of_one_hop() -> None:
    async with proxied(answering(ok(b"hello", b"Keep-Alive: 5", b"X-Mine: 1"))) as (proxy, (backend,)):
        head, body = await proxy.ask(
            get("/a?b", "X-Yours: 2", "X-Forwarded-For: 1.1.1.1", "Connection: x-gone", "X-Gone: 1")
        )
        assert (head.status, body, head.get(b"x-mine"), head.get(b"keep-alive")) == (200, b"hello", b"1", None)
        ((request, _),) = backend.requests
        assert (request.method, request.target, request.get(b"host")) == (b"GET", b"/a?b", b"example")
        assert request.get(b"x-yours") == b"2"
        assert request.get(b"x-gone") is None
        assert request.get(b"x-forwarded-for") == b"1.1.1.1, 127.0.0.1"
        assert request.get(b"via") == b"1.1 distkit"


@trio_test
async def test_bodies_arrive_as_they_were_told_or_in_chunks() -> None:
    async with proxied(answering(ok())) as (proxy, (backend,)):
        wire = proxy.client()
        await proxy.ask(get("/", method="POST", body=b"x" * 1000), wire)
        await proxy.ask(get("/", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n0\r\n\r\n", wire)
        assert [(head.length, head.chunked, body) for head, body in backend.requests] == [
            (1000, False, b"x" * 1000),
            (None, True, b"abc"),
        ]
        assert backend.connections == 1


@trio_test
async def test_a_body_that_comes_later_is_carried_while_the_server_is_listened_to() -> None:
    async with proxied(answering(ok())) as (proxy, (backend,)):
        wire = proxy.client()
        await wire.send(get("/", "Content-Length: 300000", method="PUT"))
        for _ in range(30):
            await wire.send(b"y" * 10000)
            await trio.lowlevel.checkpoint()
        head, _ = await response(wire)
        assert head.status == 200
        assert backend.requests[0][1] == b"y" * 300000


@trio_test
async def test_a_large_body_passes_and_the_connections_go_on() -> None:
    large = bytes(range(256)) * 8000
    async with proxied(answering(ok())) as (proxy, (backend,)):
        wire = proxy.client()
        for _ in range(2):
            assert (await proxy.ask(get("/", method="PUT", body=large) + get("/next"), wire))[0].status == 200
            assert (await response(wire))[0].status == 200
        assert [body for _, body in backend.requests] == [large, b"", large, b""]
        assert backend.connections == 1


@trio_test
async def test_an_upload_that_breaks_off_is_nobodys_fault() -> None:
    async with proxied(answering(ok())) as (proxy, (backend,)):
        wire = proxy.client()
        await wire.send(get("/", "Content-Length: 10000000", method="PUT") + b"x" * 1_000_000)
        wire.close()
        await until(lambda: proxy.listener.connections == 0)
        await until(lambda: backend.connections)
        assert (proxy.upstream.counters.failures, proxy.upstream.active, backend.requests) == (0, 0, [])


@trio_test
async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async with proxied(answering(ok(b"one"), ok(b"two"), ok(b"three"))) as (proxy, _):
        wire = proxy.client()
        await wire.send(get("/1") + get("/2", method="POST", body=b"b") + get("/3"))
        data = b""
        while not data.endswith(b"three"):
            data += await wire.receive()
        assert data.count(b"HTTP/1.1 200 OK") == 3
        assert data.index(b"one") < data.index(b"two") < data.index(b"three")


@trio_test
async def test_answers_of_every_length() -> None:
    large = bytes(range(256)) * 8000
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    responses = (ok(b""), chunks, ok(large), ok(b"", status=b"204 No Content"), b"HTTP/1.1 304 Not Modified\r\n\r\n")
    async with proxied(answering(*responses)) as (proxy, (backend,)):
        wire = proxy.client()
        bodies = [(await proxy.ask(get(), wire))[1] for _ in responses]
        assert bodies == [b"", b"abcde", large, b"", b""]
        assert backend.connections == 1


@trio_test
async def test_a_body_that_ends_with_its_connection_becomes_chunks_or_ends_ours() -> None:
    async def behave(backend: Backend, wire: Wire) -> None:
        await backend.request(wire, Reader(requests=True))
        await wire.send(b"HTTP/1.0 200 OK\r\n\r\n")
        await wire.send(b"until the end")

    async with proxied(behave) as (proxy, (backend,)):
        head, body = await proxy.ask(get())
        assert (head.chunked, body) == (True, b"until the end")
        head, body = await proxy.ask(b"GET / HTTP/1.0\r\n\r\n")
        assert (head.chunked, head.length, body) == (False, None, b"until the end")
        assert backend.connections == 2


@trio_test
async def test_the_answer_to_a_head_has_a_length_and_no_body() -> None:
    async with proxied(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", ok(b"next"))) as (proxy, (backend,)):
        wire = proxy.client()
        head, _ = await proxy.ask(get(method="HEAD"), wire)
        assert (head.length, head.chunked) == (7, False)
        assert (await proxy.ask(get(), wire))[1] == b"next"
        assert backend.connections == 1


@trio_test
async def test_an_old_client_is_kept_only_if_it_asks_for_that() -> None:
    async with proxied(answering(ok())) as (proxy, _):
        wire = proxy.client()
        head, _ = await proxy.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", wire)
        assert head.get(b"connection") == b"keep-alive"
        head, _ = await proxy.ask(b"GET / HTTP/1.0\r\n\r\n", wire)
        assert head.get(b"connection") == b"close"
        assert await wire.receive() == b""


@trio_test
async def test_who_waits_to_be_asked_for_the_body_is_asked() -> None:
    async with proxied(answering(ok())) as (proxy, (backend,)):
        wire = proxy.client()
        await wire.send(get("/", "Expect: 100-continue", "Content-Length: 3", method="POST"))
        assert await wire.receive() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await wire.send(b"abc")
        assert (await response(wire))[0].status == 200
        assert backend.requests[0][1] == b"abc"
        assert backend.requests[0][0].get(b"expect") is None


@trio_test
async def test_interim_answers_are_not_taken_for_the_answer() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    async with proxied(answering(interim + ok(b"real"))) as (proxy, _):
        assert (await proxy.ask(get()))[1] == b"real"


@trio_test
async def test_a_server_that_answers_before_it_has_the_body_is_heard() -> None:
    async def behave(backend: Backend, wire: Wire) -> None:
        await wire.receive()
        await wire.send(ok(b"too large", status=b"413 Content Too Large"))
        wire.finish()
        await trio.sleep_forever()

    async with proxied(behave) as (proxy, _):
        wire = proxy.client()
        await wire.send(get("/", "Content-Length: 100000000", method="POST") + b"z" * 100000)
        head, _ = await response(wire)
        assert (head.status, head.get(b"connection")) == (413, b"close")


@trio_test
async def test_a_websocket_is_carried_both_ways_until_both_have_ended() -> None:
    async def behave(backend: Backend, wire: Wire) -> None:
        await wire.receive()
        await wire.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nfirst")
        while data := await wire.receive():
            await wire.send(data.upper())

    async with proxied(behave) as (proxy, _):
        wire = proxy.client()
        await wire.send(get("/", "Connection: Upgrade", "Upgrade: websocket") + b"early")
        data = b""
        while not data.endswith(b"firstEARLY"):
            data += await wire.receive()
        assert data.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"upgrade: websocket\r\n" in data
        await wire.send(b"more")
        assert await wire.receive() == b"MORE"
        wire.finish()
        assert await wire.receive() == b""
    assert proxy.upstream.active == 0


# -- attempts ----------------------------------------------------------------------------------------------------------


@trio_test
async def test_who_can_not_be_reached_is_passed_over_for_every_method() -> None:
    async with proxied(answering(ok(b"zero")), answering(ok(b"one")), cluster=ONE) as (proxy, backends):
        backends[0].listening.cancel()
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(4):
            assert (await proxy.ask(get(method="POST", body=b"x")))[1] == b"one"
        assert proxy.upstream.counters.retries > 0
        assert proxy.upstream.retrying == proxy.upstream.active == 0


@trio_test
async def test_a_request_that_may_have_been_served_is_repeated_only_if_that_is_harmless() -> None:
    async with proxied(answering(b""), answering(b"")) as (proxy, backends):
        head, _ = await proxy.ask(get())
        assert head.status == 502
        assert sum(len(each.requests) for each in backends) == 2
        head, _ = await proxy.ask(get(method="POST", body=b"x"))
        assert head.status == 502
        assert sum(len(each.requests) for each in backends) == 3


@trio_test
async def test_a_status_that_may_pass_is_tried_elsewhere_and_the_last_one_goes_on() -> None:
    busy = ok(b"busy", status=b"503 Service Unavailable")
    async with proxied(answering(busy), answering(ok(b"fine")), cluster=ONE) as (proxy, _):
        assert {(await proxy.ask(get()))[1] for _ in range(4)} == {b"fine"}
    async with proxied(answering(busy), answering(busy), cluster=ONE) as (proxy, backends):
        head, body = await proxy.ask(get())
        assert (head.status, body) == (503, b"busy")
        assert [len(each.requests) for each in backends] == [1, 1]
        head, body = await proxy.ask(get(method="POST", body=b"x"))
        assert (head.status, body) == (503, b"busy")
        assert sum(len(each.requests) for each in backends) == 3


@trio_test
async def test_a_server_that_does_not_answer_in_time_is_passed_over() -> None:
    limits = 'policy = "round_robin"\nresponse_timeout = 0.05'
    async with proxied(silent, answering(ok(b"one")), cluster=limits) as (proxy, _):
        assert {(await proxy.ask(get()))[1] for _ in range(2)} == {b"one"}
    async with proxied(silent, cluster=limits) as (proxy, _):
        assert (await proxy.ask(get()))[0].status == 504


@trio_test
async def test_the_budget_of_retries_is_not_exceeded() -> None:
    none = "retries = { minimum = 0, budget_percent = 0 }"
    async with proxied(answering(b""), answering(b""), cluster=none) as (proxy, backends):
        assert (await proxy.ask(get()))[0].status == 502
        assert sum(len(each.requests) for each in backends) == 1


@trio_test
async def test_a_body_is_sent_again_as_long_as_it_is_kept() -> None:
    async with proxied(answering(b""), answering(ok()), cluster=ONE) as (proxy, backends):
        for _ in range(2):
            head, _ = await proxy.ask(get(method="PUT", body=b"x" * 5000))
            assert head.status == 200
        assert all(body == b"x" * 5000 for each in backends for _, body in each.requests)


@trio_test
async def test_an_answer_that_breaks_off_is_a_reset_and_never_looks_whole() -> None:
    async def behave(backend: Backend, wire: Wire) -> None:
        await backend.request(wire, Reader(requests=True))
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")

    async with proxied(behave, behave) as (proxy, backends):
        with pytest.raises(ConnectionError):
            await proxy.ask(get())
        assert sum(len(each.requests) for each in backends) == 1
        assert proxy.upstream.counters.failures == 1


@trio_test
async def test_a_large_answer_that_breaks_off_is_a_reset() -> None:
    async def behave(backend: Backend, wire: Wire) -> None:
        await backend.request(wire, Reader(requests=True))
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 2000000)

    async with proxied(behave) as (proxy, _):
        with pytest.raises(ConnectionError):
            await proxy.ask(get())


@trio_test
async def test_what_is_not_http_is_a_bad_gateway() -> None:
    async with proxied(answering(b"SSH-2.0-x\r\n")) as (proxy, _):
        assert (await proxy.ask(get()))[0].status == 502


@trio_test
async def test_nobody_to_ask_is_said_at_once() -> None:
    async with proxied(answering(ok())) as (proxy, (backend,)):
        backend.listening.cancel()
        await trio.testing.wait_all_tasks_blocked()
        wire = proxy.client()
        for _ in range(3):
            head, _ = await proxy.ask(get(), wire)
            assert head.status == 502


@trio_test
async def test_an_idle_connection_that_the_server_closed_is_not_used() -> None:
    async def once(backend: Backend, wire: Wire) -> None:
        await backend.request(wire, Reader(requests=True))
        await wire.send(ok())

    async with proxied(once) as (proxy, (backend,)):
        for _ in range(3):
            head, _ = await proxy.ask(get(method="POST", body=b"x"))
            assert head.status == 200
            await trio.testing.wait_all_tasks_blocked()
        assert backend.connections == 3


@trio_test
async def test_what_follows_an_answer_unasked_spoils_the_connection() -> None:
    async with proxied(answering(ok(b"mine") + ok(b"smuggled"))) as (proxy, (backend,)):
        for _ in range(2):
            assert (await proxy.ask(get()))[1] == b"mine"
        assert backend.connections == 2


# -- clients -----------------------------------------------------------------------------------------------------------


@trio_test
async def test_what_can_not_be_understood_is_refused_and_ends_the_connection() -> None:
    async with proxied(answering(ok())) as (proxy, (backend,)):
        wire = proxy.client()
        head, _ = await proxy.ask(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", wire)
        assert (head.status, head.get(b"connection")) == (400, b"close")
        assert await wire.receive() == b""
        assert backend.requests == []


@trio_test
async def test_a_client_that_takes_its_time_is_told_so_or_let_go() -> None:
    async with proxied(answering(ok()), listen="head_timeout = 0.1\nidle_timeout = 0.1") as (proxy, _):
        slow, mute, idle = proxy.client(), proxy.client(), proxy.client()
        await slow.send(b"GET / HT")
        await proxy.ask(get(), idle)
        assert (await response(slow))[0].status == 408
        assert await mute.receive() == b""
        assert await idle.receive() == b""


@trio_test
async def test_a_client_that_leaves_ends_its_request() -> None:
    async with proxied(silent) as (proxy, (backend,)):
        wire = proxy.client()
        await wire.send(get())
        await until(lambda: backend.requests)
        assert proxy.upstream.active == 1
        wire.close()
        await until(lambda: not proxy.upstream.active)
        assert proxy.upstream.counters.failures == 0


@trio_test
async def test_more_clients_than_allowed_are_turned_away() -> None:
    async with proxied(answering(ok()), listen="connections_max = 1") as (proxy, _):
        first = proxy.client()
        await proxy.ask(get(), first)
        assert await proxy.client().receive() == b""
        assert proxy.listener.turned_away == 1
        assert (await proxy.ask(get(), first))[0].status == 200


@trio_test
async def test_a_cookie_brings_a_client_back_to_its_endpoint() -> None:
    sticky = 'policy = "round_robin"\nsticky_cookie = "seat"'
    async with proxied(answering(ok(b"0")), answering(ok(b"1")), cluster=sticky) as (proxy, _):
        head, body = await proxy.ask(get())
        cookie = (head.get(b"set-cookie") or b"").partition(b";")[0].decode()
        assert cookie.startswith("seat=")
        for _ in range(4):
            head, again = await proxy.ask(get("/", f"Cookie: a=b; {cookie}"))
            assert (again, head.get(b"set-cookie")) == (body, None)


@trio_test
async def test_requests_with_one_key_go_to_one_endpoint() -> None:
    hashed = 'policy = "maglev"\nhash_on = "header:X-User"'
    async with proxied(*(answering(ok(b"%d" % each)) for each in range(3)), cluster=hashed) as (proxy, _):
        found = [{(await proxy.ask(get("/", f"X-User: {user}")))[1] for _ in range(3)} for user in range(8)]
        assert all(len(each) == 1 for each in found)
        assert len(set.union(*found)) > 1
