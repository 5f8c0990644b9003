"""The HTTP server for people and monitoring, in front of a real replica that keeps its log in memory."""

from __future__ import annotations

import json
import socket
from collections.abc import Awaitable, Callable

import h11
import pytest
import trio
from members import TIME_MAX, Ledger, free_addresses, options
from prometheus_client.parser import text_string_to_metric_families

from distkit.core import LocalError
from distkit.node import Replica, http, open_replica
from distkit.sim.files import MemoryFiles


class Service:
    """A replica that leads alone, its HTTP address, and the streams that a test has opened to it."""

    def __init__(self, replica: Replica[Ledger], address: str) -> None:
        self.replica = replica
        self.address = address
        self.streams: list[trio.SocketStream] = []

    async def dial(self) -> trio.SocketStream:
        host, port = self.address.split(":")
        self.streams.append(await trio.open_tcp_stream(host, int(port)))
        return self.streams[-1]

    async def send(self, data: bytes) -> bytes:
        """Send bytes on a connection of their own and return everything until it is closed."""
        stream = await self.dial()
        await stream.send_all(data)
        return await until_closed(stream)

    async def get(self, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        return (await self.talk(await self.dial(), [(method, path)]))[0]

    async def talk(
        self, stream: trio.SocketStream, requests: list[tuple[str, str]]
    ) -> list[tuple[int, dict[str, str], bytes]]:
        """Ask one after the other on one connection, as a client that knows HTTP."""
        client = h11.Connection(h11.CLIENT)
        answers = []
        for method, path in requests:
            request = h11.Request(method=method, target=path, headers=[("host", "localhost")])
            data = (client.send(request) or b"") + (client.send(h11.EndOfMessage()) or b"")
            await stream.send_all(data)
            answers.append(await self._answer(client, stream))
            client.start_next_cycle()
        return answers

    async def _answer(self, client: h11.Connection, stream: trio.SocketStream) -> tuple[int, dict[str, str], bytes]:
        status, headers, body = 0, {}, b""
        while True:
            event = client.next_event()
            if event is h11.NEED_DATA:
                client.receive_data(await stream.receive_some(65536))
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                assert isinstance(event, h11.EndOfMessage)
                return status, headers, body


async def until_closed(stream: trio.SocketStream) -> bytes:
    received = b""
    try:
        while data := await stream.receive_some(65536):
            received += data
    except trio.BrokenResourceError:
        pass  # it was closed while we still sent
    return received


def run(test: Callable[[Service], Awaitable[None]]) -> None:
    async def main() -> None:
        with trio.fail_after(TIME_MAX):
            async with (
                open_replica(
                    Ledger(), node=1, members=free_addresses(1), data=MemoryFiles(), options=options()
                ) as replica,
                trio.open_nursery() as nursery,
            ):
                await replica.wait_ready()
                service = Service(replica, await nursery.start(http.serve_http, replica, "127.0.0.1:0"))
                try:
                    await test(service)
                finally:
                    for stream in service.streams:
                        await stream.aclose()
                nursery.cancel_scope.cancel()

    trio.run(main)


def test_it_says_that_it_lives_and_whether_it_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(service: Service) -> None:
        assert await service.get("/livez") == (
            200,
            {"content-type": "text/plain", "content-length": "6"},
            b"alive\n",
        )
        assert (await service.get("/readyz"))[::2] == (200, b"ready\n")
        monkeypatch.setattr(type(service.replica), "leader", 0)
        assert (await service.get("/readyz"))[::2] == (503, b"no leader is known\n")
        assert (await service.get("/livez"))[0] == 200

    run(test)


def test_the_status_is_json_in_which_no_number_is_rounded() -> None:
    async def test(service: Service) -> None:
        await service.replica.propose(b"line")
        code, headers, body = await service.get("/status?pretty=1")
        assert (code, headers["content-type"]) == (200, "application/json")
        status = json.loads(body)
        expected = service.replica.status()
        assert status["node"] == 1
        assert status["address"] == expected.address
        assert int(status["cluster"], 16) == expected.cluster
        assert status["replica"]["raft"]["role"] == "leader"
        assert status["replica"]["raft"]["commit_index"] == expected.replica.raft.commit_index >= 2

        def numbers(value: object) -> list[int]:
            if isinstance(value, dict):
                value = list(value.values())
            if isinstance(value, list):
                return [number for each in value for number in numbers(each)]
            return [value] if isinstance(value, int) else []

        assert all(abs(number) < 1 << 53 for number in numbers(status))

    run(test)


def test_the_metrics_are_what_prometheus_reads() -> None:
    async def test(service: Service) -> None:
        await service.replica.propose(b"line")
        code, headers, body = await service.get("/metrics")
        assert (code, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        families = {family.name: family for family in text_string_to_metric_families(body.decode())}
        assert len(families) > 20
        assert all(name.startswith("distkit_") and family.samples for name, family in families.items())
        raft = service.replica.status().replica.raft
        assert families["distkit_replica_raft_commit_index"].samples[0].value == raft.commit_index
        assert families["distkit_replica_raft_term"].samples[0].value == raft.term
        assert families["distkit_node"].samples[0].value == 1

    run(test)


def test_head_has_the_headers_of_get_and_no_body() -> None:
    async def test(service: Service) -> None:
        for path in ("/livez", "/readyz", "/nothing"):
            code, headers, body = await service.get(path)
            assert await service.get(path, "HEAD") == (code, headers, b"")
            assert int(headers["content-length"]) == len(body)

    run(test)


def test_another_path_or_method_is_refused() -> None:
    async def test(service: Service) -> None:
        code, _headers, body = await service.get("/etc/passwd")
        assert (code, body) == (404, b"there are /livez, /readyz, /status and /metrics\n")
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert (await service.get("/livez", method))[::2] == (405, b"only GET and HEAD\n")

    run(test)


def test_a_connection_carries_many_requests() -> None:
    async def test(service: Service) -> None:
        answers = await service.talk(await service.dial(), [("GET", "/livez"), ("HEAD", "/livez"), ("GET", "/x")] * 5)
        assert [code for code, _headers, _body in answers] == [200, 200, 404] * 5

    run(test)


def test_requests_in_one_packet_and_in_single_bytes_are_answered_in_order() -> None:
    async def test(service: Service) -> None:
        first, last = (
            b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        answer = await service.send(first * 3 + last)
        assert answer.count(b"HTTP/1.1 200") == 3
        assert answer.index(b"HTTP/1.1 404") > answer.rindex(b"alive\n")
        stream = await service.dial()
        for byte in last:
            await stream.send_all(bytes((byte,)))
        assert (await until_closed(stream)).startswith(b"HTTP/1.1 404")

    run(test)


def test_old_clients_are_answered_and_closed() -> None:
    async def test(service: Service) -> None:
        answer = await service.send(b"GET /livez HTTP/1.0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"\r\n\r\nalive\n")

    run(test)


def test_a_request_with_a_body_is_read_to_its_end() -> None:
    async def test(service: Service) -> None:
        body = b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n" + bytes(50_000)
        answer = await service.send(body + b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 405")
        assert answer.endswith(b"alive\n")

    run(test)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x00\xff\x16\x03\x01\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",  # without a Host
        b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
        b"GET /" + b"a" * http.REQUEST_BYTES_MAX + b" HTTP/1.1\r\n",
        b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * http.REQUEST_BYTES_MAX,
    ],
)
def test_what_is_no_request_is_refused_and_closed_and_the_next_client_is_served(nonsense: bytes) -> None:
    async def test(service: Service) -> None:
        answer = await service.send(nonsense)
        assert b"HTTP/1.1 200" not in answer
        assert (await service.get("/livez"))[0] == 200

    run(test)


def test_a_client_that_leaves_half_way_is_forgotten() -> None:
    async def test(service: Service) -> None:
        for beginning in (b"", b"GET /li", b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab"):
            stream = await service.dial()
            await stream.send_all(beginning)
            await stream.send_eof()
            assert b"200" not in await until_closed(stream)
        stream = await service.dial()
        await stream.send_all(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
        await stream.aclose()
        assert (await service.get("/livez"))[0] == 200

    run(test)


def test_a_client_that_takes_too_long_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_TIMEOUT", 0.05)

    async def test(service: Service) -> None:
        assert await service.send(b"GET /livez HTT") == b""
        assert await service.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n") != b""  # and one that stays silent later

    run(test)


def test_too_many_connections_are_closed_and_room_is_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECTIONS_MAX", 2)

    async def test(service: Service) -> None:
        first, second = await service.dial(), await service.dial()
        for stream in (first, second):
            assert (await service.talk(stream, [("GET", "/livez")]))[0][0] == 200
        assert await until_closed(await service.dial()) == b""
        await first.aclose()
        answer = b""
        while not answer:
            answer = await service.send(b"GET /livez HTTP/1.0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")

    run(test)


def test_a_connection_ends_after_many_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUESTS_MAX", 3)

    async def test(service: Service) -> None:
        answer = await service.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 4)
        assert answer.count(b"alive") == 3

    run(test)


def test_an_address_that_is_taken_or_nonsense_is_named() -> None:
    async def test(service: Service) -> None:
        with pytest.raises(LocalError, match=f"http can't be served on {service.address}: "):
            await http.serve_http(service.replica, service.address)
        with pytest.raises(LocalError, match="HOST:PORT"):
            await http.serve_http(service.replica, "nowhere")

    run(test)
