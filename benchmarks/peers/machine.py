"""What the measurements need of the machine: processes that always end, their CPU and memory, free ports, the disk."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import socket
import statistics
import subprocess
import time
from pathlib import Path
from typing import IO

_PORTS = range(
    20_000, 32_000
)  # below what Linux hands out to outgoing connections, so nothing takes a port before its server
_TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A peer or its load did not do what it should; the text names the log or the reason."""


def free_ports(count: int) -> list[int]:
    """`count` different TCP ports of 127.0.0.1 that nobody listens on."""
    found: list[int] = []
    for port in random.sample(_PORTS, 200 + 10 * count):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise Failed(f"no {count} free ports between {_PORTS.start} and {_PORTS.stop}")


class Process:
    """A child in a process group of its own, which ends at the latest with the thread that started it.

    With `lines` its input and output are pipes; what else it prints is appended to `log`.
    """

    def __init__(self, argv: list[str], log: Path, *, lines: bool = False) -> None:
        self.log = log
        pipe = subprocess.PIPE if lines else subprocess.DEVNULL
        with log.open("ab") as sink:
            self._popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *argv],
                bufsize=0,
                stdin=pipe,
                stdout=subprocess.PIPE if lines else sink,
                stderr=sink,
                start_new_session=True,
            )
        self.pid = self._popen.pid

    def tell(self, line: str) -> None:
        """Write one line to the child."""
        try:
            _pipe(self._popen.stdin).write(line.encode() + b"\n")
        except BrokenPipeError as error:
            raise Failed(f"{self._popen.args!r} has ended: {self.tail()}") from error

    def hear(self, timeout: float) -> str:
        """The child's next line; `Failed` when it ends or stays silent for `timeout` seconds."""
        out = _pipe(self._popen.stdout)
        ready, _, _ = select.select([out], [], [], timeout)
        line = out.readline() if ready else b""
        if not line:
            raise Failed(f"{self._popen.args!r} said nothing: {self.tail()}")
        return line.decode().strip()

    def send(self, sign: signal.Signals) -> None:
        """Signal the child; nothing is waited for."""
        os.killpg(self.pid, sign)

    def kill(self) -> None:
        """SIGKILL, as a crash would end it; reap it and close its pipes."""
        if self._popen.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                pipe.close()

    def finish(self, timeout: float) -> None:
        """Close its input and let it end by itself within `timeout` seconds, else kill it."""
        _pipe(self._popen.stdin).close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout)
        self.kill()

    def tail(self) -> str:
        """The last lines of the log, for error messages."""
        return self.log.read_text(errors="replace")[-1000:]

    def cpu(self) -> float:
        """Seconds of CPU, user and system, the child has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident(self) -> int:
        """Resident memory in bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise Failed(f"process {self.pid} is gone: {self.tail()}")


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise Failed("this process was started without pipes")
    return pipe


def fdatasync_latency(directory: Path, rounds: int = 200) -> float:
    """Median seconds of an fdatasync after overwriting 4 KiB of a preallocated file: the floor of every durable put."""
    path = directory / "fdatasync"
    block = os.urandom(4096)
    with path.open("wb") as file:
        file.write(bytes(1 << 20))
        file.flush()
        os.fsync(file.fileno())
        took = []
        for i in range(rounds):
            os.pwrite(file.fileno(), block, i * 4096 % (1 << 20))
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - start)
    path.unlink()
    return statistics.median(took)
