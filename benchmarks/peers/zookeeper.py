"""ZooKeeper 3.8 of Debian: three JVMs with the packaged defaults, fsync on, driven by a Go client."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

from .cluster import NODES, GoCluster, numbered
from .machine import Process, free_ports
from .programs import go_build, go_version, package_version, require

_CONFIG = """\
tickTime=2000
initLimit=10
syncLimit=5
dataDir={data}
clientPort={port}
clientPortAddress=127.0.0.1
maxClientCnxns=0
admin.enableServer=false
{servers}
"""
_LOGGING = """\
log4j.rootLogger=WARN, CONSOLE
log4j.appender.CONSOLE=org.apache.log4j.ConsoleAppender
log4j.appender.CONSOLE.layout=org.apache.log4j.PatternLayout
log4j.appender.CONSOLE.layout.ConversionPattern=%d %p %m%n
"""


class ZooKeeper(GoCluster):
    system = "zookeeper"
    reads = "local, may be stale"
    connections = 16
    note = "Go client, to the leader; put is setData on an existing znode"

    def __init__(self, directory: Path, size: int, keys: int) -> None:
        super().__init__(directory, size, keys)
        require(
            {
                "zookeeper": "/usr/share/java/zookeeper.jar",
                "golang-go": "/usr/bin/go",
                "golang-github-samuel-go-zookeeper-dev": "/usr/share/gocode/src/github.com/samuel/go-zookeeper",
            }
        )
        self.program = go_build("zookeeper-load", "load.go", "zookeeper.go")
        ports = free_ports(9)
        self.ports = dict(numbered(ports[:3]))
        servers = [
            f"server.{node}=127.0.0.1:{peer}:{vote}"
            for node, peer, vote in zip(NODES, ports[3:6], ports[6:], strict=True)
        ]
        for node in NODES:
            home = directory / f"n{node}"
            (home / "data").mkdir(parents=True)
            (home / "data" / "myid").write_text(str(node))
            (home / "log4j.properties").write_text(_LOGGING)
            (home / "zoo.cfg").write_text(
                _CONFIG.format(data=home / "data", port=self.ports[node], servers="\n".join(servers))
            )

    @property
    def version(self) -> str:
        return f"ZooKeeper {package_version('zookeeper')}, {go_version()}"

    def spawn(self, node: int) -> Process:
        home = self.directory / f"n{node}"
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        # -Xmx1000m is what the packaged start script passes.
        argv = ["java", "-Xmx1000m", "-cp", f"{home}:/usr/share/java/zookeeper.jar", main, str(home / "zoo.cfg")]
        return Process(argv, self.directory / f"n{node}.log")

    def leader(self) -> int | None:
        return next((node for node in NODES if "Mode: leader" in self._ask(node, "srvr")), None)

    def term(self) -> int | None:
        """The epoch: the upper half of a transaction's number."""
        epochs = [
            int(line.split()[1], 16) >> 32
            for node in NODES
            for line in self._ask(node, "srvr").splitlines()
            if line.startswith("Zxid:")
        ]
        return max(epochs, default=None)

    def _ask(self, node: int, word: str) -> str:
        answer = b""
        with (
            contextlib.suppress(OSError),  # not listening: it has nothing to say
            socket.create_connection(("127.0.0.1", self.ports[node]), timeout=2) as connection,
        ):
            connection.sendall(word.encode())
            while len(answer) < 65_536 and (data := connection.recv(4096)):
                answer += data
        return answer.decode()
