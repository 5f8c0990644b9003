"""The balancing client of httpx2: where requests go, what is tried again, and that every pick is given back."""

import random
import time
from collections.abc import Callable, Iterator

import httpx2
import pytest
import trio
from balanced_http import AsyncBalancedTransport, BalancedTransport

from distkit.balance import Cluster, ClusterOptions, Endpoint, Outcome, policies

#: What a server does with a request: a response, or an exception.
Answer = Callable[[httpx2.Request], httpx2.Response]


class Watched(Cluster):
    """A cluster that remembers how requests ended."""

    def __init__(self, options: ClusterOptions, rng: random.Random) -> None:
        super().__init__(options, rng)
        self.outcomes: list[Outcome] = []
        done = self.done

        def remember(handle: int, outcome: Outcome, latency: float, now: float) -> bool:
            self.outcomes.append(outcome)
            return done(handle, outcome, latency, now)

        self.done = remember

    @property
    def in_flight(self) -> int:
        return self.status().in_flight


def two() -> Watched:
    cluster = Watched(ClusterOptions(policy=policies.named("round_robin")), random.Random(1))
    cluster.update([Endpoint("a", "127.0.0.1:1001"), Endpoint("b", "127.0.0.1:1002")], time.monotonic())
    return cluster


class Servers:
    """Stands for the network: asks the function of the port, and remembers which were asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = dict(zip((1001, 1002), answers, strict=True))
        self.asked: list[int] = []
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        assert request.url.port is not None
        self.asked.append(request.url.port)
        self.requests.append(request)
        return self.answers[request.url.port](request)


def well(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, text=f"{request.url.port}")


def ill(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(500)


def away(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("refused")


def broken(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ReadError("reset")


def client(cluster: Cluster, servers: Servers) -> httpx2.Client:
    return httpx2.Client(transport=BalancedTransport(cluster, httpx2.MockTransport(servers)), base_url="http://app")


def test_requests_go_round_and_keep_their_host() -> None:
    cluster, servers = two(), Servers(well, well)
    with client(cluster, servers) as http:
        assert sorted(http.get("/x?y").text for _ in range(4)) == ["1001", "1001", "1002", "1002"]
    assert {request.headers["host"] for request in servers.requests} == {"app"}
    assert {request.url.raw_path for request in servers.requests} == {b"/x?y"}
    assert (cluster.in_flight, cluster.outcomes) == (0, [Outcome.OK] * 4)


def test_who_can_not_be_reached_is_passed_over_for_every_method() -> None:
    cluster, servers = two(), Servers(away, well)
    with client(cluster, servers) as http:
        assert {http.post("/", content=b"x").text for _ in range(3)} == {"1002"}
    assert cluster.in_flight == 0
    assert Outcome.CONNECT_FAIL in cluster.outcomes


def test_what_may_have_arrived_is_sent_again_only_if_that_is_harmless() -> None:
    cluster, servers = two(), Servers(broken, broken)
    with client(cluster, servers) as http:
        with pytest.raises(httpx2.ReadError):
            http.get("/")
        assert sorted(servers.asked) == [1001, 1002]
        with pytest.raises(httpx2.ReadError):
            http.post("/", content=b"x")
        assert len(servers.asked) == 3
    assert (cluster.in_flight, cluster.outcomes) == (0, [Outcome.ERROR] * 3)


def test_an_error_of_a_server_is_an_answer_and_counts_against_it() -> None:
    cluster, servers = two(), Servers(ill, ill)
    with client(cluster, servers) as http:
        assert http.get("/").status_code == 500
    assert len(servers.asked) == 1
    assert cluster.outcomes == [Outcome.ERROR]


def test_a_stream_is_under_way_until_it_is_closed() -> None:
    def pieces(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=iter([b"a", b"b"]))

    cluster = two()
    with client(cluster, Servers(pieces, pieces)) as http:
        assert http.get("/").text == "ab"
        assert cluster.in_flight == 0
        with http.stream("GET", "/"):
            assert cluster.in_flight == 1
        assert cluster.in_flight == 0


def test_a_response_that_breaks_off_counts_against_its_server() -> None:
    def breaks(request: httpx2.Request) -> httpx2.Response:
        def pieces() -> Iterator[bytes]:
            yield b"a"
            raise httpx2.ReadError("reset")

        return httpx2.Response(200, content=pieces())

    cluster = two()
    with client(cluster, Servers(breaks, breaks)) as http, pytest.raises(httpx2.ReadError):
        http.get("/")
    assert (cluster.in_flight, cluster.outcomes) == (0, [Outcome.ERROR])


def test_nobody_to_ask_is_a_connect_error() -> None:
    cluster = Cluster(ClusterOptions(policy=policies.named("round_robin")), random.Random(1))
    with client(cluster, Servers(well, well)) as http, pytest.raises(httpx2.ConnectError, match="no endpoint"):
        http.get("/")


def test_the_same_under_trio() -> None:
    cluster, servers = two(), Servers(away, well)

    async def main() -> None:
        transport = AsyncBalancedTransport(cluster, httpx2.MockTransport(servers))
        async with httpx2.AsyncClient(transport=transport, base_url="http://app") as http:
            assert {(await http.post("/", content=b"x")).text for _ in range(3)} == {"1002"}
            servers.answers = {1001: broken, 1002: broken}
            with pytest.raises(httpx2.ReadError):
                await http.get("/")
            cluster.update([], time.monotonic())
            with pytest.raises(httpx2.ConnectError, match="no endpoint"):
                await http.get("/")

    trio.run(main)
    assert cluster.in_flight == 0


def test_a_cancelled_request_counts_neither_way() -> None:
    cluster = two()

    async def hang(request: httpx2.Request) -> httpx2.Response:
        await trio.sleep_forever()

    async def main() -> None:
        transport = AsyncBalancedTransport(cluster, httpx2.MockTransport(hang))
        async with httpx2.AsyncClient(transport=transport, base_url="http://app", timeout=None) as http:
            with trio.move_on_after(0):
                await http.get("/")

    trio.run(main)
    assert (cluster.in_flight, cluster.outcomes) == (0, [Outcome.CANCELLED])
