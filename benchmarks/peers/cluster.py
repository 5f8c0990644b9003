"""Three server processes of one system on loopback, and what is measured on them in the same way for every system."""

from __future__ import annotations

import abc
import contextlib
import json
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from .machine import Failed, Process

NODES = (1, 2, 3)
GIVE_UP = 60.0  # seconds for a cluster to serve, from a cold start or after losing a node


@dataclass(frozen=True)
class Load:
    """The outcome of one load: durations in seconds, `cpu` the seconds all three servers together used meanwhile."""

    ops: int
    seconds: float
    p50: float
    p99: float
    errors: int
    error: str
    cpu: float = 0.0


class Client(abc.ABC):
    """A load that stands ready, so that the moment it begins is the caller's choice."""

    @abc.abstractmethod
    def go(self) -> None:
        """Begin."""

    @abc.abstractmethod
    def result(self, timeout: float) -> Load:
        """Wait until the load is over, at most `timeout` seconds; servers' CPU is not known here."""

    @abc.abstractmethod
    def close(self) -> None:
        """End, also before the result is there."""


class Cluster(abc.ABC):
    """Three servers with default settings and logs below `directory`; systems differ in the abstract methods only."""

    system: ClassVar[str]
    reads: ClassVar[str | None]  # what a get promises, None when there is no get over the network
    connections: ClassVar[int]  # with which it was fastest at 256 clients; 0: one for each client
    note: ClassVar[str]  # goes with every figure

    def __init__(self, directory: Path, size: int, keys: int) -> None:
        self.directory = directory
        self.size = size
        self.keys = keys
        self.servers: dict[int, Process] = {}

    @property
    @abc.abstractmethod
    def version(self) -> str:
        """Versions of the server and of its client."""

    @abc.abstractmethod
    def spawn(self, node: int) -> Process:
        """Start one server; its data may exist from before."""

    @abc.abstractmethod
    def leader(self) -> int | None:
        """The node that leads, None while there is none."""

    @abc.abstractmethod
    def client(self, op: str, nodes: Sequence[int], clients: int, seconds: float, *, lazy: bool = False) -> Client:
        """A load on `nodes`: put, get, fill (every key once) or probe (time to the first acknowledged put).

        A `lazy` one stands ready before the servers do.
        """

    def cold_start(self) -> float:
        """Start all three on empty directories: seconds from the first process to the first acknowledged put."""
        with contextlib.closing(self.client("probe", NODES, 1, GIVE_UP, lazy=True)) as probe:
            begin = time.perf_counter()
            for node in NODES:
                self.servers[node] = self.spawn(node)
            started = time.perf_counter() - begin
            probe.go()
            return started + _first_put(probe)

    def load(self, op: str, clients: int, seconds: float) -> Load:
        """`op` by `clients` at once on the leader, for `seconds`."""
        with contextlib.closing(self.client(op, [self.wait_leader()], clients, seconds)) as client:
            before = self._cpu()
            client.go()
            load = client.result(seconds + GIVE_UP)
            return replace(load, cpu=self._cpu() - before)

    def fail_over(self, sign: signal.Signals = signal.SIGKILL) -> float:
        """Kill or SIGSTOP the leader: seconds from the signal to the next put a survivor acknowledges.

        The node is back, and has acknowledged a put itself, before this returns.
        """
        victim = self.wait_leader()
        with contextlib.closing(self.client("probe", [n for n in NODES if n != victim], 1, GIVE_UP)) as probe:
            begin = time.perf_counter()
            self.servers[victim].send(sign)
            sent = time.perf_counter() - begin
            probe.go()
            took = sent + _first_put(probe)
        if sign == signal.SIGSTOP:
            self.servers[victim].send(signal.SIGCONT)
        else:
            self.restart(victim)
        with contextlib.closing(self.client("probe", [victim], 1, GIVE_UP, lazy=True)) as back:
            back.go()
            _first_put(back)
        return took

    def restart(self, node: int) -> None:
        """Kill a server, unless it is dead, and start it again on its data."""
        self.servers[node].kill()
        self.servers[node] = self.spawn(node)

    def term(self) -> int | None:
        """What rises by each election, None when the system does not tell."""
        return None

    def wait_leader(self) -> int:
        """The leader, once there is one."""
        deadline = time.monotonic() + GIVE_UP
        while time.monotonic() < deadline:
            found = self.leader()
            if found is not None:
                return found
            time.sleep(0.05)
        raise Failed(f"{self.system} has no leader after {GIVE_UP:.0f} s: {self.servers[1].tail()}")

    def resident(self) -> list[int]:
        """Resident bytes of each server."""
        return [server.resident() for server in self.servers.values()]

    def close(self) -> None:
        """Kill the servers; their data is the directory's owner to remove."""
        for server in self.servers.values():
            server.kill()

    def _cpu(self) -> float:
        return sum(server.cpu() for server in self.servers.values())


class GoClient(Client):
    """The load generator of go/load.go."""

    def __init__(self, argv: list[str], log: Path) -> None:
        self._process = Process(argv, log, lines=True)
        try:
            if self._process.hear(GIVE_UP) != "ready":
                raise Failed(f"the load generator is not ready: {self._process.tail()}")
        except Failed:
            self._process.kill()
            raise

    def go(self) -> None:
        self._process.tell("go")

    def result(self, timeout: float) -> Load:
        return Load(**json.loads(self._process.hear(timeout)))

    def close(self) -> None:
        self._process.finish(timeout=5)


class GoCluster(Cluster):
    """A system whose clients are the Go load generator."""

    program: Path  # go/load.go with the system's own client
    ports: dict[int, int]  # of each node, for clients

    def client(self, op: str, nodes: Sequence[int], clients: int, seconds: float, *, lazy: bool = False) -> Client:
        options = {
            "endpoints": ",".join(f"127.0.0.1:{self.ports[node]}" for node in nodes),
            "op": op,
            "clients": clients,
            "connections": self.connections,
            "seconds": seconds,
            "size": self.size,
            "keys": self.keys,
            "lazy": str(lazy).lower(),
            **self.options(),
        }
        argv = [str(self.program), *(f"-{name}={value}" for name, value in options.items())]
        return GoClient(argv, self.directory / "load.log")

    def options(self) -> dict[str, str]:
        """Further options of the load generator."""
        return {}


def _first_put(probe: Client) -> float:
    load = probe.result(GIVE_UP + 5)
    if load.errors:
        raise Failed(load.error)
    return load.seconds


def numbered(ports: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(node, port) for three ports."""
    return zip(NODES, ports, strict=True)
