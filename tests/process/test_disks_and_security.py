"""Full disks, keys and certificates between real servers."""

from __future__ import annotations

import os
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest
import redis
import trustme
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import PATIENCE, ROOT, Client, Servers, free_ports, running, until

pytestmark = pytest.mark.process


def test_a_full_disk_refuses_writes_serves_reads_and_recovers(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    small = tmp_path / "node-1"
    small.mkdir()
    # Room for the first segment and two later ones, of 16 MiB: the one in use and the one that is claimed ahead.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(small)], check=True)
    try:
        with running(tmp_path, count=1) as servers, Client(servers.clients[1]) as client:
            assert client.ask("SET", "before", "kept") == "OK"
            ballast = small / "ballast"
            free = os.statvfs(small)
            ballast.write_bytes(bytes(max(free.f_bavail * free.f_frsize - (64 << 10), 0)))
            answer, written = "OK", 0
            while answer == "OK" and written < 2000:
                answer = client.ask("SET", "fill", os.urandom(20_000))
                written += 1
            assert str(answer).startswith("-DISKFULL"), answer
            assert client.ask("GET", "before") == b"kept"
            ballast.unlink()
            until(lambda: client.ask("SET", "after", "space") == "OK", "writes to be taken again")
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def secure_and_use(home: Path, options: tuple[str, ...]) -> None:
    with running(home, options=options) as servers:
        for node in servers.nodes:
            with Client(servers.clients[node]) as client:
                assert client.ask("SET", f"from:{node}", "x") == "OK"


def test_servers_with_a_shared_key_form_a_cluster_and_a_wrong_key_is_refused(tmp_path: Path) -> None:
    key, wrong = tmp_path / "key", tmp_path / "wrong"
    for path in (key, wrong):
        path.write_bytes(os.urandom(32).hex().encode())
        path.chmod(0o600)
    secure_and_use(tmp_path, (f"--key={key}",))
    home = tmp_path / "second"
    home.mkdir()
    with running(home, options=(f"--key={key}",)) as servers:
        stranger = servers.follower()
        servers.kill(stranger)
        servers.options = (f"--key={wrong}",)
        servers.start(stranger)
        until(lambda: "credentials" in servers.said(stranger).lower(), "the refusal to be logged")
        with Client(servers.clients[servers.leader()]) as client:
            assert client.ask("SET", "still", "served") == "OK"


def test_servers_with_certificates_form_a_cluster(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    names = [f"node-{node}.distkit" for node in (1, 2, 3)]
    authority.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "nodes.pem"))
    (tmp_path / "nodes.pem").chmod(0o600)
    files = (f"--tls-cert={tmp_path / 'nodes.pem'}", f"--tls-key={tmp_path / 'nodes.pem'}")
    secure_and_use(tmp_path, (*files, f"--tls-ca={tmp_path / 'ca.pem'}"))


def test_clients_come_with_tls_and_a_password_or_not_at_all(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "clients.pem"))
    (tmp_path / "password").write_text("secret\n")
    for name in ("clients.pem", "password"):
        (tmp_path / name).chmod(0o600)
    servers = Servers(tmp_path, count=1)
    port, file = servers.clients[1], str(tmp_path / "clients.pem")
    servers.options = (
        f"--clients-tls-cert={file}",
        f"--clients-tls-key={file}",
        f"--password-file={tmp_path / 'password'}",
    )
    tls = {"ssl": True, "ssl_ca_certs": str(tmp_path / "ca.pem"), "retry": Retry(NoBackoff(), 0)}
    servers.start(1)
    try:
        until(lambda: "serves clients" in servers.said(1), "the server to serve")
        with redis.Redis("localhost", port, password="secret", protocol=3, **tls) as client:
            assert client.set("large", b"v" * 900_000) is True
            assert client.get("large") == b"v" * 900_000
        for password in (None, "guess"):
            client = redis.Redis("localhost", port, password=password, **tls)
            with client, pytest.raises(redis.AuthenticationError):
                client.get("large")
        with Client(port) as client, pytest.raises((EOFError, OSError)):
            client.ask("PING")
        assert servers.stop(1) == 0
    finally:
        servers.processes[1].kill()
        servers.processes[1].wait(PATIENCE)


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["--node=1"], 2, "required"),
        (["--node=x", "--data=d", "--listen=127.0.0.1:1", "--clients=127.0.0.1:2"], 2, "invalid int value"),
        (["--node=1", "--data=d", "--listen=nowhere", "--clients=127.0.0.1:2"], 1, "HOST:PORT"),
        (["--node=1", "--data=d", "--listen=10.0.0.1:1", "--clients=127.0.0.1:2"], 1, "--insecure"),
        (["--node=1", "--data=d", "--listen=127.0.0.1:1", "--clients=0.0.0.0:2"], 1, "password"),
        (["--node=1", "--data=d", "--listen=127.0.0.1:1", "--clients=127.0.0.1:2", "--peer=2"], 2, "NODE=HOST:PORT"),
        (
            ["--node=1", "--data=d", "--listen=127.0.0.1:1", "--clients=127.0.0.1:2", "--peer=1=127.0.0.1:3"],
            2,
            "each node once",
        ),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(tmp_path: Path, words: list[str], status: int, says: str) -> None:
    command = [sys.executable, str(ROOT / "examples" / "kv_server.py"), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == status, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_an_asyncio_service_counts_on_three_nodes(tmp_path: Path) -> None:
    ports = free_ports(6)
    members = [f"--member={node}=127.0.0.1:{port}" for node, port in zip((1, 2, 3), ports, strict=False)]
    script = str(ROOT / "examples" / "asyncio_service.py")
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                script,
                f"--node={node}",
                f"--data={tmp_path / str(node)}",
                f"--http=127.0.0.1:{port}",
                *members,
            ]
        )
        for node, port in zip((1, 2, 3), ports[3:], strict=True)
    ]

    def http(port: int, method: str, path: str) -> str:
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.request(method, path)
            return connection.getresponse().read().decode().strip()
        except OSError:
            return ""  # it does not serve yet
        finally:
            connection.close()

    try:
        until(lambda: http(ports[3], "POST", "/add/5") == "5", "the service to count")
        assert http(ports[4], "POST", "/add/37") == "42"
        assert http(ports[5], "GET", "/value") == "42"
        assert http(ports[5], "GET", "/nothing").startswith("there are")
        for process in processes:
            process.terminate()
        assert [process.wait(PATIENCE) for process in processes] == [0, 0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait(PATIENCE)
