"""The proxy as its users run it: under wrk while servers die, stall and come back; signals; the page in a browser."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import ROOT, free_ports, until

pytestmark = pytest.mark.process

BACKEND = ROOT / "tests" / "process" / "proxy_backend.py"
PROXY = ROOT / "examples" / "proxy.py"


class Fleet:
    """A proxy in front of some servers, each a process."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.port, self.admin, *self.ports = free_ports(count + 2)
        self.backends: list[subprocess.Popen[str] | None] = [None] * count
        self.config = folder / "proxy.toml"
        self.log = folder / "proxy.log"
        self.proxy: subprocess.Popen[bytes] | None = None
        #: Long enough for a server that is well on a busy machine, short enough for one that is stopped.
        self.response_timeout = 4.0

    def write(self, cluster: str = "", policy: str = "least_request", ports: list[int] | None = None) -> None:
        endpoints = "".join(
            f'[[cluster.app.endpoints]]\naddress = "127.0.0.1:{port}"\n' for port in ports or self.ports
        )
        self.config.write_text(f"""
admin = "127.0.0.1:{self.admin}"
drain_timeout = 20
[listen.web]
address = "127.0.0.1:{self.port}"
cluster = "app"
[cluster.app]
policy = "{policy}"
response_timeout = {self.response_timeout}
connect_timeout = 5.0
retries = {{ attempts = 4, budget_percent = 100, minimum = 100 }}
checks = {{ path = "/healthz", interval = 0.2, timeout = 0.5, rise = 1, fall = 1 }}
{cluster}
{endpoints}
""")

    def start_backend(self, index: int) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT / "examples")}
        command = [sys.executable, str(BACKEND), str(self.ports[index]), f"b{index}"]
        backend = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert backend.stdout is not None
        assert backend.stdout.readline() == "ready\n"
        self.backends[index] = backend

    def start(self, descriptors: int = 0) -> None:
        """Start all. The proxy may have no more than so many descriptors, if that is not 0."""

        def limit() -> None:
            if descriptors:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        for index in range(len(self.backends)):
            self.start_backend(index)
        with self.log.open("wb") as log:
            command = [sys.executable, str(PROXY), str(self.config)]
            self.proxy = subprocess.Popen(command, stderr=log, stdout=log, preexec_fn=limit)
        until(lambda: self.said("ready"), "the proxy is ready")

    def said(self, text: str) -> bool:
        assert self.proxy is not None
        assert self.proxy.poll() is None, self.log.read_text()
        return text in self.log.read_text()

    def kill(self, index: int) -> None:
        backend = self.backends[index]
        assert backend is not None
        backend.kill()
        backend.wait(10)
        assert backend.stdout is not None
        backend.stdout.close()
        self.backends[index] = None

    def get(self, path: str, port: int | None = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=20)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.proxy is not None
        self.proxy.terminate()
        return self.proxy.wait(30)

    def close(self) -> None:
        for index, backend in enumerate(self.backends):
            if backend is not None:
                with contextlib.suppress(ProcessLookupError):
                    backend.send_signal(signal.SIGCONT)
                self.kill(index)
        if self.proxy is not None and self.proxy.poll() is None:
            self.proxy.kill()
            self.proxy.wait(10)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path, 3)
    made.write()
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def wrk(program: Callable[[str], str], port: int, seconds: int) -> Iterator[dict[str, int]]:
    """Load for some seconds; when the block has ended, what became of it."""
    command = [program("wrk"), "-t1", "-c16", f"-d{seconds}", "--timeout", "15", f"http://127.0.0.1:{port}/"]
    loading = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    result: dict[str, int] = {}
    try:
        yield result
        output, _ = loading.communicate(timeout=seconds + 30)
    finally:
        loading.kill()
        loading.wait()
    done = re.search(r"(\d+) requests in", output)
    assert done is not None, output
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    result["done"] = int(done[1])
    result["failed"] = (int(refused[1]) if refused else 0) + sum(map(int, broken.groups()) if broken else (0,))


def test_nothing_fails_while_servers_are_killed_stalled_and_restarted(
    fleet: Fleet, program: Callable[[str], str]
) -> None:
    fleet.start()
    with wrk(program, fleet.port, 12) as result:
        until(lambda: requests(fleet) > 200, "the load has begun")
        for _ in range(2):
            fleet.kill(0)
            until(lambda: "failed checks" in states(fleet)[0], "the check has noticed")
            fleet.start_backend(0)
            until(lambda: states(fleet)[0] == [], "the server is used again")
        stalled = fleet.backends[1]
        assert stalled is not None
        stalled.send_signal(signal.SIGSTOP)
        until(lambda: states(fleet)[1] != [], "the stall was noticed")
        stalled.send_signal(signal.SIGCONT)
        until(lambda: states(fleet)[1] == [], "the server is used again")
    assert result["failed"] == 0
    assert result["done"] > 500
    assert fleet.stop() == 0


def requests(fleet: Fleet) -> int:
    return sum(each["picks"] for each in cluster(fleet)["endpoints"])


def states(fleet: Fleet) -> list[list[str]]:
    return [each["state"] for each in cluster(fleet)["endpoints"]]


def cluster(fleet: Fleet) -> dict[str, Any]:
    (found,) = json.loads(fleet.get("/status.json", fleet.admin)[1])["clusters"]
    return found


def test_a_reload_under_load_drops_nothing_and_a_mistake_changes_nothing(
    fleet: Fleet, program: Callable[[str], str]
) -> None:
    fleet.start()
    assert fleet.proxy is not None
    with wrk(program, fleet.port, 4) as result:
        until(lambda: requests(fleet) > 100, "the load has begun")
        fleet.write(policy="round_robin", ports=fleet.ports[:2])
        fleet.proxy.send_signal(signal.SIGHUP)
        until(lambda: len(states(fleet)) == 2, "the file was read again")
        fleet.config.write_text("[listen.web]\nadress = 1\n[cluster]\n")
        fleet.proxy.send_signal(signal.SIGHUP)
        until(lambda: fleet.said("not reloaded"), "the mistake was named")
    assert "line 2: listen.web.adress: an unknown key; did you mean address?" in fleet.log.read_text()
    assert result["failed"] == 0
    assert fleet.get("/")[0] == 200


def test_sigterm_answers_what_was_asked(fleet: Fleet) -> None:
    fleet.response_timeout = 60.0
    fleet.write()
    fleet.start()
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", fleet.port, timeout=40)) as connection:
        connection.request("GET", "/held")
        until(lambda: cluster(fleet)["active"] == 1, "the request is under way")
        assert fleet.proxy is not None
        fleet.proxy.terminate()
        until(lambda: fleet.said("SIGTERM"), "the signal was seen")
        for backend in fleet.backends:
            assert backend is not None
            backend.send_signal(signal.SIGUSR1)
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("connection")) == (200, "close")
    assert fleet.proxy.wait(20) == 0


def test_a_second_signal_waits_for_nobody(fleet: Fleet) -> None:
    fleet.response_timeout = 60.0
    fleet.write()
    fleet.start()
    with socket.create_connection(("127.0.0.1", fleet.port)) as client:
        client.sendall(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: cluster(fleet)["active"] == 1, "the request is under way")
        assert fleet.proxy is not None
        fleet.proxy.terminate()
        until(lambda: fleet.said("SIGTERM"), "the signal was seen")
        fleet.proxy.send_signal(signal.SIGINT)
        assert fleet.proxy.wait(15) == 0  # drain_timeout is 20
    assert "1 connections were not over" not in fleet.log.read_text()


def test_without_descriptors_nobody_is_blamed_and_it_goes_on(fleet: Fleet) -> None:
    fleet.start(descriptors=40)
    assert "40 descriptors are allowed" in fleet.log.read_text()
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(socket.create_connection(("127.0.0.1", fleet.port)))
        until(lambda: fleet.said("listen.web takes nobody for now: Too many open files"), "there is no room")
    until(lambda: fleet.get("/")[0] == 200, "there is room again")
    assert all(each["failures"] == 0 for each in cluster(fleet)["endpoints"])
    assert fleet.log.read_text().count("takes nobody") < 5


def test_a_mistake_in_the_file_ends_with_2_and_names_it(fleet: Fleet) -> None:
    fleet.config.write_text("[listen.web]\naddress = '127.0.0.1:1'\ncluster = 'x'\n[cluster]\n")
    for arguments in (["--check"], []):
        command = [sys.executable, str(PROXY), *arguments, str(fleet.config)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert ended.returncode == 2
        assert "listen.web sends to cluster 'x', which is not there" in ended.stderr
        assert "Traceback" not in ended.stderr


def test_the_page_shows_servers_and_their_states_in_a_browser(fleet: Fleet, program: Callable[[str], str]) -> None:
    fleet.start()
    fleet.kill(2)
    until(lambda: "failed checks" in states(fleet)[2], "the check has noticed")
    command = [program("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000"]
    command += [f"--user-data-dir={fleet.folder / 'browser'}", "--dump-dom", f"http://127.0.0.1:{fleet.admin}/status"]
    page = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    rows = re.findall(r"<tr><td>(127\.0\.0\.1:\d+)</td><td class=\"left state (\w+)\">([^<]*)</td>", page)
    assert rows == [
        (f"127.0.0.1:{fleet.ports[0]}", "ok", "in use"),
        (f"127.0.0.1:{fleet.ports[1]}", "ok", "in use"),
        (f"127.0.0.1:{fleet.ports[2]}", "out", "failed checks"),
    ]
