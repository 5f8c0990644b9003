"""Real server processes for the tests: started, asked, killed and stopped by the process id that was started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NODES = (1, 2, 3)
#: Bound of everything that is waited for, in seconds; a loaded machine needs some of it, nothing needs all.
PATIENCE = 60.0


def free_ports(count: int) -> list[int]:
    """Ports of loopback that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in held]


def until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> object:
    """Wait for something true and return it."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {patience} s in vain: {what}")


class Client:
    """A raw Redis client: one command at a time, answers as they come, errors as text that begins with "-"."""

    def __init__(self, port: int, timeout: float = 10.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.stream = self.socket.makefile("rb")

    def ask(self, *words: str | bytes) -> object:
        """Send one command and return its answer. OSError or EOFError: nobody knows."""
        parts = [word.encode() if isinstance(word, str) else word for word in words]
        self.socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts))
        return self.answer()

    def answer(self) -> object:
        """The next answer."""
        line = self.stream.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            return "-" + rest.decode()
        if kind == b"+":
            return rest.decode()
        if kind == b":":
            return int(rest)
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        assert kind == b"$", line
        if rest == b"-1":
            return None
        return self.stream.read(int(rest) + 2)[:-2]

    def close(self) -> None:
        self.stream.close()
        self.socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Servers:
    """Up to three kv_server processes below one directory."""

    def __init__(self, home: Path, count: int = 3, options: tuple[str, ...] = ()) -> None:
        self.home = home
        self.nodes = NODES[:count]
        ports = free_ports(2 * count)
        self.peers = {node: f"127.0.0.1:{port}" for node, port in zip(self.nodes, ports, strict=False)}
        self.clients = dict(zip(self.nodes, ports[count:], strict=True))
        self.options = options
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def command(self, node: int) -> list[str]:
        """The command line of a node."""
        return [
            sys.executable,
            str(ROOT / "examples" / "kv_server.py"),
            f"--node={node}",
            f"--data={self.data(node)}",
            f"--listen={self.peers[node]}",
            f"--clients=127.0.0.1:{self.clients[node]}",
            *(f"--peer={other}={address}" for other, address in self.peers.items() if other != node),
            *self.options,
        ]

    def data(self, node: int) -> Path:
        return self.home / f"node-{node}"

    def start(self, node: int, *prefix: str) -> None:
        """Start a node, behind a prefix like strace if there is one."""
        with (self.home / f"node-{node}.log").open("ab") as log:
            self.processes[node] = subprocess.Popen(
                [*prefix, *self.command(node)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def said(self, node: int) -> str:
        return (self.home / f"node-{node}.log").read_text(errors="replace")

    def info(self, node: int) -> dict[str, str]:
        """INFO of a node, empty if it does not answer."""
        try:
            with Client(self.clients[node], timeout=1.0) as client:
                text = client.ask("INFO", "replication")
        except (OSError, EOFError):
            return {}
        assert isinstance(text, bytes)
        return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)

    def leader(self, among: tuple[int, ...] | None = None) -> int:
        """The node that leads and is up to date, waited for."""

        def look() -> int:
            for node in among or self.nodes:
                info = self.info(node)
                if info.get("role") == "master":
                    return node
            return 0

        found = until(look, "a leader")
        assert isinstance(found, int)
        return found

    def follower(self) -> int:
        """A node that does not lead."""
        leader = self.leader()
        return next(node for node in self.nodes if node != leader)

    def kill(self, node: int) -> None:
        self.processes[node].kill()
        self.processes[node].wait(PATIENCE)

    def signal(self, node: int, number: signal.Signals) -> None:
        os.kill(self.processes[node].pid, number)

    def stop(self, node: int) -> int:
        """SIGTERM, and the exit status."""
        self.processes[node].terminate()
        return self.processes[node].wait(PATIENCE)


@contextlib.contextmanager
def running(home: Path, count: int = 3, options: tuple[str, ...] = ()) -> Iterator[Servers]:
    """Servers with a leader; all are gone at the end of the block."""
    servers = Servers(home, count, options)
    try:
        for node in servers.nodes:
            servers.start(node)
        servers.leader()
        yield servers
    finally:
        for process in servers.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(PATIENCE)
