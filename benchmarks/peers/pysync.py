"""PySyncObj of PyPI: three processes with its journal, which it maps into memory and never forces to disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from .cluster import GIVE_UP, NODES, Client, Cluster, Load, numbered
from .machine import Process, free_ports
from .programs import HERE, PYSYNCOBJ, pysyncobj_python


class PySyncObj(Cluster):
    """It has no clients, programs are members: the load runs inside the leader's process, and its CPU counts there."""

    system = "pysyncobj"
    reads = None
    connections = 0
    note = "load inside the leader's process; journal never flushed; appendEntriesUseBatch=False"

    def __init__(self, directory: Path, size: int, keys: int) -> None:
        super().__init__(directory, size, keys)
        self._python = pysyncobj_python()
        self._addresses = {node: f"127.0.0.1:{port}" for node, port in numbered(free_ports(3))}

    @property
    def version(self) -> str:
        return PYSYNCOBJ.replace("==", " ")

    def spawn(self, node: int) -> Process:
        others = [address for other, address in self._addresses.items() if other != node]
        program = HERE / "pysyncobj_node.py"
        argv = [str(self._python), str(program), str(self.directory / f"n{node}"), self._addresses[node], *others]
        return Process(argv, self.directory / f"n{node}.log", lines=True)

    def leader(self) -> int | None:
        return next((node for node in NODES if self._leads(node)), None)

    def client(self, op: str, nodes: Sequence[int], clients: int, seconds: float, *, lazy: bool = False) -> Client:
        command = {"op": op, "clients": clients, "seconds": seconds, "size": self.size, "keys": self.keys}
        return _Members(self, nodes, command)

    def _leads(self, node: int) -> bool:
        server = self.servers[node]
        server.tell(json.dumps({"op": "leader"}))
        return bool(json.loads(server.hear(GIVE_UP)))


class _Members(Client):
    """A load that members run on themselves; of several, the first acknowledgement counts."""

    def __init__(self, cluster: PySyncObj, nodes: Sequence[int], command: dict[str, object]) -> None:
        self._cluster = cluster
        self._nodes = nodes
        self._command = json.dumps(command)

    def go(self) -> None:
        for node in self._nodes:
            self._cluster.servers[node].tell(self._command)

    def result(self, timeout: float) -> Load:
        loads = [Load(**json.loads(self._cluster.servers[node].hear(timeout))) for node in self._nodes]
        return min(loads, key=lambda load: load.seconds)

    def close(self) -> None:
        """Nothing to end: the members stay."""
