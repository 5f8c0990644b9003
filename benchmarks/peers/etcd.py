"""etcd 3.4 of Debian: three processes, defaults, fsync on, driven over gRPC by its own Go client."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from .cluster import NODES, GoCluster, numbered
from .machine import Process, free_ports
from .programs import go_build, go_version, package_version, require


class Etcd(GoCluster):
    system = "etcd"
    reads = "linearizable"
    connections = 4
    note = "Go client, to the leader"

    def __init__(self, directory: Path, size: int, keys: int) -> None:
        super().__init__(directory, size, keys)
        require(
            {
                "etcd-server": "/usr/bin/etcd",
                "golang-go": "/usr/bin/go",
                "golang-etcd-server-dev": "/usr/share/gocode/src/go.etcd.io/etcd/clientv3",
            }
        )
        self.program = go_build("etcd-load", "load.go", "etcd.go")
        ports = free_ports(6)
        self.ports = dict(numbered(ports[:3]))
        self._peers = {node: f"http://127.0.0.1:{port}" for node, port in numbered(ports[3:])}

    @property
    def version(self) -> str:
        return f"etcd {package_version('etcd-server')}, {go_version()}"

    def spawn(self, node: int) -> Process:
        client = f"http://127.0.0.1:{self.ports[node]}"
        options = {
            "name": f"n{node}",
            "data-dir": self.directory / f"n{node}",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": self._peers[node],
            "initial-advertise-peer-urls": self._peers[node],
            "initial-cluster": ",".join(f"n{other}={url}" for other, url in self._peers.items()),
            "initial-cluster-state": "new",
            "initial-cluster-token": self.directory.name,
        }
        argv = ["/usr/bin/etcd", *(f"--{name}={value}" for name, value in options.items())]
        return Process(argv, self.directory / f"n{node}.log")

    def leader(self) -> int | None:
        return next((node for node in NODES if self._leads(self._status(node))), None)

    def term(self) -> int | None:
        terms = [int(status["raftTerm"]) for node in NODES if (status := self._status(node))]
        return max(terms, default=None)

    def _leads(self, status: dict[str, Any]) -> bool:
        return bool(status) and status.get("leader") == status["header"]["member_id"]

    def _status(self, node: int) -> dict[str, Any]:
        """What the node says of itself, {} when it does not answer."""
        url = f"http://127.0.0.1:{self.ports[node]}/v3/maintenance/status"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data=b"{}"), timeout=2) as answer:
                status: dict[str, Any] = json.load(answer)
        except OSError:
            return {}
        return status
