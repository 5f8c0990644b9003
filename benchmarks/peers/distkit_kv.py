"""distkit's own example server, measured like its peers: three processes, defaults, fdatasync on."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from .cluster import NODES, GoCluster, numbered
from .machine import Process, free_ports
from .programs import go_build, go_version, require

ROOT = Path(__file__).resolve().parents[2]


class Distkit(GoCluster):
    system = "distkit"
    reads = "linearizable"
    connections = 0
    note = "Go client, one connection for each client, to the leader"

    def __init__(self, directory: Path, size: int, keys: int) -> None:
        super().__init__(directory, size, keys)
        require({"golang-go": "/usr/bin/go"})
        self.program = go_build("resp-load", "load.go", "resp.go")
        ports = free_ports(6)
        self.ports = dict(numbered(ports[:3]))
        self._peers = {node: f"127.0.0.1:{port}" for node, port in numbered(ports[3:])}

    @property
    def version(self) -> str:
        import distkit

        kernels = "compiled" if distkit.COMPILED else "pure"
        return f"distkit {distkit.__version__} ({kernels}, Python {sys.version.split()[0]}), {go_version()}"

    def spawn(self, node: int) -> Process:
        argv = [
            sys.executable,
            str(ROOT / "examples" / "kv_server.py"),
            f"--node={node}",
            f"--data={self.directory / f'n{node}'}",
            f"--listen={self._peers[node]}",
            f"--clients=127.0.0.1:{self.ports[node]}",
            *(f"--peer={other}={address}" for other, address in self._peers.items() if other != node),
            *self.security(node),
        ]
        return Process(argv, self.directory / f"n{node}.log")

    def security(self, node: int) -> list[str]:
        """Options of keys and certificates: none, all is on loopback."""
        return []

    def leader(self) -> int | None:
        leaders = {int(self.info(node).get("leader", 0)) for node in NODES}
        leaders.discard(0)
        return leaders.pop() if len(leaders) == 1 else None

    def term(self) -> int | None:
        return max(int(self.info(node).get("term", 0)) for node in NODES)

    def info(self, node: int) -> dict[str, str]:
        """What INFO says, {} while the node does not answer."""
        try:
            with socket.create_connection(("127.0.0.1", self.ports[node]), timeout=2) as connection:
                text = self.ask(connection, b"INFO\r\n")
        except OSError:
            return {}
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def ask(self, connection: socket.socket, command: bytes) -> str:
        """The answer to one inline command that is answered by a bulk string."""
        connection.settimeout(2)
        connection.sendall(command)
        with connection.makefile("rb") as stream:
            return stream.read(int(stream.readline()[1:])).decode()


class DistkitTls(Distkit):
    """The same with mutual TLS between the servers and TLS to the clients."""

    system = "distkit-tls"
    note = "Go client over TLS, one connection for each client, to the leader; mutual TLS between the servers"

    def __init__(self, directory: Path, size: int, keys: int) -> None:
        super().__init__(directory, size, keys)
        import trustme

        authority = trustme.CA()
        authority.cert_pem.write_to_path(directory / "ca.pem")
        for node in NODES:
            certificate = authority.issue_cert(f"node-{node}.distkit")
            certificate.private_key_and_cert_chain_pem.write_to_path(directory / f"n{node}.pem")
            (directory / f"n{node}.pem").chmod(0o600)

    def security(self, node: int) -> list[str]:
        own = self.directory / f"n{node}.pem"
        peers = [f"--tls-cert={own}", f"--tls-key={own}", f"--tls-ca={self.directory / 'ca.pem'}"]
        return [*peers, f"--clients-tls-cert={own}", f"--clients-tls-key={own}"]

    def ask(self, connection: socket.socket, command: bytes) -> str:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with context.wrap_socket(connection) as secured:
            return super().ask(secured, command)

    def options(self) -> dict[str, str]:
        return {"tls": "true"}
