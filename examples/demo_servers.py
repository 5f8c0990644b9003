"""The demo's three server processes: started, asked, killed by the process id that was started, and ended."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

NODES = (1, 2, 3)
START_TIMEOUT = 20.0


class ServersFailed(Exception):
    """The servers did not do what the demo needs; the text says what they said."""


class Servers:
    """Three servers with directories and logs below `home`; all are gone at the end of the block."""

    def __init__(self, home: Path, script: str) -> None:
        self._home = home
        self._script = Path(__file__).with_name(script)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        with contextlib.ExitStack() as stack:
            held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(6)]
            ports = [sock.getsockname()[1] for sock in held]
        self._peers = {node: f"127.0.0.1:{port}" for node, port in zip(NODES, ports, strict=False)}
        self.client_ports: dict[int, int] = dict(zip(NODES, ports[3:], strict=True))

    def start_all(self) -> None:
        """Start three empty servers."""
        for node in NODES:
            self.start(node)

    def start(self, node: int) -> None:
        """Start one; its directory may exist from before."""
        words = [
            f"--node={node}",
            f"--data={self._home / f'node-{node}'}",
            f"--listen={self._peers[node]}",
            f"--clients=127.0.0.1:{self.client_ports[node]}",
            *(f"--peer={other}={address}" for other, address in self._peers.items() if other != node),
        ]
        with (self._home / f"node-{node}.log").open("ab") as log:
            self._processes[node] = subprocess.Popen(
                [sys.executable, str(self._script), *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self, node: int) -> None:
        """SIGKILL: nothing is flushed, nothing is said."""
        self._processes[node].kill()
        self._processes[node].wait()

    def infos(self) -> dict[int, dict[str, str]]:
        """INFO of each node; empty for one that does not answer."""
        return {node: self._info(node) for node in NODES}

    def wait_leader(self) -> int:
        """The node that leads and is up to date, as all that answer agree."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            for node, process in self._processes.items():
                if process.poll() not in (None, -signal.SIGKILL):
                    raise ServersFailed(f"server {node} ended with status {process.returncode}: {self._said(node)}")
            leaders = {info["node"] for info in self.infos().values() if info.get("role") == "master"}
            if len(leaders) == 1:
                return int(leaders.pop())
            time.sleep(0.05)
        raise ServersFailed(f"no leader after {START_TIMEOUT:.0f} s; server 1 says: {self._said(1)}")

    def said_all(self) -> str:
        """The end of what each server wrote to its log."""
        return "; ".join(f"server {node} says: {self._said(node)[-300:]}" for node in NODES)

    def _info(self, node: int) -> dict[str, str]:
        try:
            with socket.create_connection(("127.0.0.1", self.client_ports[node]), timeout=0.5) as connection:
                connection.sendall(b"INFO replication\r\n")
                with connection.makefile("rb") as stream:
                    text = stream.read(int(stream.readline()[1:])).decode()
        except (OSError, ValueError):
            return {}
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def _said(self, node: int) -> str:
        return (self._home / f"node-{node}.log").read_text(errors="replace")[-2000:].strip() or "nothing"

    def __enter__(self) -> Servers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
