"""Clients that people have, unmodified, against leader and follower; and what strangers can send."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from servers import PATIENCE, Client, Servers, running, until

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with running(tmp_path_factory.mktemp("clients")) as servers:
        yield servers


@pytest.fixture(params=["leader", "follower"])
def port(request: pytest.FixtureRequest, servers: Servers) -> int:
    node = servers.leader() if request.param == "leader" else servers.follower()
    return servers.clients[node]


def resident(servers: Servers, node: int) -> int:
    status = Path(f"/proc/{servers.processes[node].pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmRSS"))


def test_redis_cli(program, port: int) -> None:
    def cli(*words: str) -> str:
        done = subprocess.run(
            [program("redis-cli"), "-p", str(port), *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        return done.stdout.strip()

    assert cli("SET", "greeting", "hello") == "OK"
    assert cli("GET", "greeting") == "hello"
    assert "proto" in cli("-3", "HELLO", "3")
    assert "role:" in cli("INFO")
    assert cli("NOSUCH").startswith("ERR unknown command")


def test_redis_benchmark(program, port: int) -> None:
    words = [program("redis-benchmark"), "-p", str(port), "-t", "set,get", "-n", "2000", "-c", "20", "-q", "-e"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert "SET: " in done.stdout
    assert "GET: " in done.stdout
    assert "Error" not in done.stdout + done.stderr


def test_redis_py(port: int) -> None:
    with redis.Redis(port=port, decode_responses=True, socket_timeout=PATIENCE) as client:
        client.flushall()
        assert client.set("counter", 1) is True
        assert client.incrby("counter", 41) == 42
        assert client.set("lease", "me", nx=True, px=60_000) is True
        assert client.set("lease", "you", nx=True) is None
        assert 0 < client.pttl("lease") <= 60_000
        with client.pipeline(transaction=True) as pipe:
            assert pipe.set("a", 1).incr("a").get("a").execute() == [True, 2, "2"]
        with client.pipeline(transaction=False) as pipe:
            assert pipe.set("x", 1).get("x").set("x", 2).get("x").execute() == [True, "1", True, "2"]
        client.mset({f"many:{number}": number for number in range(500)})
        assert len(set(client.scan_iter("many:*"))) == 500
        assert client.mget("many:0", "many:499", "nothing") == ["0", "499", None]


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_speaks_both_versions(port: int, protocol: int) -> None:
    with redis.Redis(port=port, protocol=protocol, client_name="tester") as client:
        assert client.client_getname() in (b"tester", "tester")
        assert client.get("nothing at all") is None
        assert client.config_get("save")


def test_a_read_follows_the_writes_of_its_connection_and_precedes_the_next(port: int) -> None:
    with Client(port) as client:
        client.socket.sendall(b"SET order 1\r\nGET order\r\nSET order 2\r\nGET order\r\n")
        assert [client.answer() for _ in range(4)] == ["OK", b"1", "OK", b"2"]


def test_a_key_expires_through_the_log(port: int) -> None:
    with Client(port) as client:
        assert client.ask("SET", "brief", "x", "PX", "150") == "OK"
        until(lambda: client.ask("GET", "brief") is None, "the key to expire")


def test_a_thousand_connections(port: int) -> None:
    clients = [Client(port) for _ in range(1000)]
    try:
        for number, client in enumerate(clients):
            client.socket.sendall(b"SET conn:%d %d\r\n" % (number, number))
        assert [client.answer() for client in clients] == ["OK"] * 1000
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    "nonsense",
    [
        b"*1000000000\r\n",
        b"*1\r\n$99999999999\r\n",
        b"*-5\r\n$3\r\nGET\r\n*x\r\n",
        b"*1\r\n$x\r\n",
        b"\x00\xff" * 40000,
    ],
)
def test_nonsense_is_answered_by_an_error_and_a_close_and_takes_no_memory(servers: Servers, nonsense: bytes) -> None:
    node = servers.leader()
    before = resident(servers, node)
    with Client(servers.clients[node]) as client:
        client.socket.sendall(nonsense)
        received = b""
        try:
            while data := client.socket.recv(65536):
                received += data
        except ConnectionResetError:
            pass  # it was closed while we still sent
        assert b"-ERR" in received or not received
    assert resident(servers, node) < before + (32 << 20)
    with Client(servers.clients[node]) as client:
        assert client.ask("PING") == "PONG"


def test_a_value_that_is_too_large_is_refused_and_nothing_breaks(port: int) -> None:
    with Client(port) as client:
        client.socket.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$2000000\r\n")
        assert str(client.answer()).startswith("-ERR Protocol error")
    with Client(port) as client:
        assert client.ask("SET", "big", b"v" * 1_000_000) == "OK"
        assert client.ask("STRLEN", "big") == 1_000_000


def test_large_answers_of_one_packet_of_questions_all_arrive(port: int) -> None:
    """More than the server lets wait for a client at a time, and more than one write takes."""
    with Client(port) as client:
        assert client.ask("SET", "large", b"v" * 300_000) == "OK"
        client.socket.sendall(b"GET large\r\n" * 50)
        for _ in range(50):
            assert client.answer() == b"v" * 300_000


def test_clients_that_never_finish_a_command_hinder_nobody(servers: Servers) -> None:
    node = servers.leader()
    before = resident(servers, node)
    halves = [Client(servers.clients[node]) for _ in range(200)]
    try:
        for half in halves:
            half.socket.sendall(b"*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$1000000\r\n" + b"v" * 1000)
        with Client(servers.clients[node]) as client:
            assert client.ask("SET", "whole", "x") == "OK"
            assert client.ask("EXISTS", "half") == 0
        assert resident(servers, node) < before + (64 << 20)
    finally:
        for half in halves:
            half.close()


def test_a_client_that_never_reads_costs_no_memory_and_nobody_else_time(servers: Servers) -> None:
    node = servers.leader()
    with Client(servers.clients[node]) as writer:
        assert writer.ask("SET", "large", b"v" * 500_000) == "OK"
    before = resident(servers, node)
    deaf = socket.create_connection(("127.0.0.1", servers.clients[node]))
    deaf.setblocking(False)
    try:
        sent = 0
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline and sent < 200_000:
            try:
                sent += deaf.send(b"GET large\r\n" * 100)
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:
                break  # it closed us
        with Client(servers.clients[node]) as client:
            assert client.ask("PING") == "PONG"
            assert client.ask("SET", "still", "here") == "OK"
        assert resident(servers, node) < before + (128 << 20)
    finally:
        deaf.close()
