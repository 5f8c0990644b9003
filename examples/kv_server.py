#!/usr/bin/env python3
"""A replicated store that speaks the Redis protocol: redis-cli, redis-py and redis-benchmark talk to any of its nodes.

Writes are acknowledged once a majority of disks has them, reads are linearizable, expiry is decided through the log.

    python examples/kv_server.py --node 1 --data data/1 --listen 127.0.0.1:7101 --clients 127.0.0.1:6401 \\
        --peer 2=127.0.0.1:7102 --peer 3=127.0.0.1:7103

Errors beside Redis's own: TRYAGAIN and DISKFULL say that nothing was done; UNKNOWN says that nobody can tell.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import logging
import platform
import signal
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import trio
from clients import Connection, Hub, HubLimits
from kv_store import TICK, KeyValueStore
from redis_connection import Server
from redis_session import RedisSession

import distkit
from distkit.core import DistkitError, LocalError
from distkit.node import Replica, open_replica
from distkit.node.http import serve_http
from distkit.replica import ReplicaReply
from distkit.transport import Credentials, TlsFiles, is_loopback, split_address

#: The version of Redis whose behaviour the commands follow; clients choose features by it.
REDIS_VERSION = "7.0.15"
#: How often the leader looks whether a key has expired, in seconds.
EXPIRY_INTERVAL = 0.1
#: How long the log's thread waits at most for a busy event loop to give up the interpreter, in seconds.
SWITCH_INTERVAL = 0.0005
#: How long a stop waits for answers that are under way, in seconds.
DRAIN_TIMEOUT = 5.0

logger = logging.getLogger("kv_server")


class Service:
    """The store behind all clients of this node: what their sessions ask for goes to the replica in batches."""

    def __init__(self, replica: Replica[KeyValueStore], password: bytes) -> None:
        self.replica = replica
        self.server = Server(REDIS_VERSION, password, self._info, self._role)
        self._numbers = itertools.count(1)
        self._reads: list[Callable[[ReplicaReply], None]] = []
        self._began = time.monotonic()
        self.hub: Hub | None = None

    def greet(self, connection: Connection) -> RedisSession:
        """A client has come."""
        return RedisSession(connection, self, next(self._numbers))

    def propose(self, entry: bytes, done: Callable[[ReplicaReply], None]) -> None:
        """Replicate an entry."""
        self.replica.propose_soon(entry, done)

    def read(self, done: Callable[[ReplicaReply], None]) -> None:
        """Wait for a moment to read in; all reads of a turn share one."""
        self._reads.append(done)
        if len(self._reads) == 1 and self.hub is not None:
            self.hub.wake()

    def query(self, arguments: Sequence[bytes], protocol: int) -> bytes:
        """Answer a read from the applied state."""
        return self.replica.machine.query(arguments, time.time_ns() // 1000, protocol)

    def turn_ended(self) -> None:
        """Everything that was ready has been read: send it on as one batch."""
        if self._reads:
            reads, self._reads = self._reads, []
            self.replica.read_soon(lambda reply: _tell(reads, reply))
        self.replica.flush()

    async def expire_keys(self) -> None:
        """The leader brings time forward when a key is due; one entry at a time."""
        while True:
            await trio.sleep(EXPIRY_INTERVAL)
            due = self.replica.machine.next_expiry_us()
            if self.replica.is_ready and due is not None and due <= time.time_ns() // 1000:
                ticked = trio.Event()
                self.replica.propose_soon(TICK, lambda _reply, ticked=ticked: ticked.set())  # type: ignore[misc]
                await ticked.wait()

    def _role(self) -> str:
        return "master" if self.replica.is_ready else "replica"

    def _info(self) -> dict[str, dict[str, object]]:
        status = self.replica.status()
        raft = status.replica.raft
        return {
            "Server": {
                "redis_version": REDIS_VERSION,
                "distkit_version": distkit.__version__,
                "distkit_kernels": "compiled" if distkit.COMPILED else "pure",
                "python_version": platform.python_version(),
                "uptime_in_seconds": int(time.monotonic() - self._began),
            },
            "Clients": {"connected_clients": 0 if self.hub is None else len(self.hub.connections)},
            "Replication": {
                "role": self._role(),
                "node": status.node,
                "raft_role": raft.role.name.lower(),
                "term": raft.term,
                "leader": raft.leader,
                "commit": raft.commit_index,
                "applied": raft.applied_index,
                "last": raft.last_index,
                "snapshot": raft.snapshot_index,
                "cluster": f"{status.cluster:016x}",
            },
            "Keyspace": {"db0": f"keys={self.replica.machine.key_count()}"},
        }


def _tell(reads: list[Callable[[ReplicaReply], None]], reply: ReplicaReply) -> None:
    for done in reads:
        done(reply)


async def serve(arguments: argparse.Namespace) -> None:
    """Run the node until SIGTERM or SIGINT."""
    members = {arguments.node: arguments.listen, **dict(arguments.peer)}
    credentials = Credentials.load(arguments.key, _tls_files(arguments), arguments.insecure)
    password = _password(arguments)
    tls = _client_tls(arguments)
    _check_clients_address(arguments.clients, bool(password) or tls is not None, arguments.insecure)
    serving, stopping = trio.Event(), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_on_signal, serving, stopping, nursery.cancel_scope)
        async with open_replica(
            KeyValueStore(), node=arguments.node, members=members, data=arguments.data, credentials=credentials
        ) as replica:
            service = Service(replica, password)
            limits = HubLimits(connections_max=arguments.connections)
            hub = service.hub = Hub(
                service.greet, turn_ended=service.turn_ended, limits=limits, tls=tls, wake_on_send=False
            )
            replica.after_turn = lambda: hub.write_answers(time.monotonic())
            async with trio.open_nursery() as tasks:
                if arguments.http:
                    await tasks.start(serve_http, replica, arguments.http)
                address = hub.bind(arguments.clients)
                tasks.start_soon(hub.serve)
                tasks.start_soon(service.expire_keys)
                gc.set_threshold(50_000, 20, 100)  # a turn makes thousands of records that die young
                gc.freeze()  # what was recovered is not looked at by every collection
                print(f"node {arguments.node} of {len(members)} serves clients on {address}", flush=True)
                serving.set()
                await stopping.wait()
                with trio.move_on_after(DRAIN_TIMEOUT):
                    await hub.drain()
                tasks.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def _stop_on_signal(serving: trio.Event, stopping: trio.Event, scope: trio.CancelScope) -> None:
    """The first signal lets what is under way be answered; before that, and a second time, everything ends at once."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            logger.info("%s: stopping", signal.Signals(number).name)
            if not serving.is_set() or stopping.is_set():
                scope.cancel()
                return
            stopping.set()


def _tls_files(arguments: argparse.Namespace) -> TlsFiles | None:
    given = (arguments.tls_cert, arguments.tls_key, arguments.tls_ca)
    if not any(given):
        return None
    if not all(given):
        raise LocalError("TLS between the nodes needs --tls-cert, --tls-key and --tls-ca together")
    return TlsFiles(*given)


def _client_tls(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    given = (arguments.clients_tls_cert, arguments.clients_tls_key)
    if not any(given):
        return None
    if not all(given):
        raise LocalError("TLS for clients needs --clients-tls-cert and --clients-tls-key together")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(*given)
    except (OSError, ssl.SSLError) as error:
        raise LocalError(
            f"the certificate for clients can't be loaded from {given[0]} and {given[1]}: {error}"
        ) from None
    return context


def _password(arguments: argparse.Namespace) -> bytes:
    path: Path | None = arguments.password_file
    if path is None:
        return b""
    try:
        password = path.read_bytes().strip()
        if path.stat().st_mode & 0o077:
            raise LocalError(f"others can read the password file {path}: chmod 600 {path}")
    except OSError as error:
        raise LocalError(f"the password file {path} can't be read: {error.strerror}") from None
    if not password:
        raise LocalError(f"the password file {path} is empty")
    return password


def _check_clients_address(address: str, protected: bool, insecure: bool) -> None:
    host, _port = split_address(address)
    if protected or is_loopback(host):
        return
    if not insecure:
        raise LocalError(
            f"clients on {address} would reach the store without a password from other machines: "
            "give --password-file or TLS (--clients-tls-cert), listen on 127.0.0.1, or insist with --insecure"
        )
    logger.warning("clients on %s need no password (--insecure)", address)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; argparse ends the program with status 2 and a usage line when it is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    node = parser.add_argument_group("this node")
    node.add_argument("--node", type=int, required=True, help="id of this node, a positive integer")
    node.add_argument("--data", type=Path, required=True, metavar="DIR", help="its directory, made if it is missing")
    node.add_argument("--listen", required=True, metavar="HOST:PORT", help="where the other nodes reach it")
    node.add_argument(
        "--peer",
        action="append",
        default=[],
        type=_peer,
        metavar="NODE=HOST:PORT",
        help="another node; once for each, the same on all nodes. Without any, this node is a cluster by itself",
    )
    clients = parser.add_argument_group("clients")
    clients.add_argument("--clients", required=True, metavar="HOST:PORT", help="where Redis clients connect")
    clients.add_argument("--connections", type=int, default=4096, metavar="N", help="at most N clients (default 4096)")
    clients.add_argument(
        "--password-file", type=Path, metavar="FILE", help="clients must AUTH with the content of this file (mode 0600)"
    )
    clients.add_argument("--clients-tls-cert", type=Path, metavar="FILE", help="clients must use TLS: certificate, PEM")
    clients.add_argument("--clients-tls-key", type=Path, metavar="FILE", help="... and its key, PEM")
    clients.add_argument("--http", metavar="HOST:PORT", help="serve /livez, /readyz, /status and /metrics there")
    peers = parser.add_argument_group("security between the nodes (needed unless all addresses are loopback)")
    peers.add_argument("--key", type=Path, metavar="FILE", help="shared key, at least 32 bytes, file mode 0600")
    peers.add_argument("--tls-cert", type=Path, metavar="FILE", help="mutual TLS: certificate of this node, PEM")
    peers.add_argument("--tls-key", type=Path, metavar="FILE", help="... its key, PEM")
    peers.add_argument("--tls-ca", type=Path, metavar="FILE", help="... the authority that signed all nodes, PEM")
    peers.add_argument("--insecure", action="store_true", help="go without any of this, also beyond this machine")
    parser.add_argument("--verbose", action="store_true", help="log every change of role and connection")
    arguments = parser.parse_args(words)
    if arguments.connections < 1:
        parser.error("--connections must be at least 1")
    nodes = [arguments.node, *(number for number, _address in arguments.peer)]
    if len(set(nodes)) != len(nodes):
        parser.error(f"each node once: --node is {arguments.node}, --peer names {nodes[1:]}")
    return arguments


def _peer(text: str) -> tuple[int, str]:
    number, equals, address = text.partition("=")
    if not equals or not number.isascii() or not number.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not NODE=HOST:PORT, like 2=127.0.0.1:7102")
    return int(number), address


def main(words: Sequence[str] | None = None) -> int:
    """Exit status: 0 after SIGTERM or SIGINT, 1 when the node could not start or go on, 2 for a wrong command line."""
    arguments = parse(words)
    logging.basicConfig(
        level=logging.INFO if arguments.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        trio.run(serve, arguments)
    except DistkitError as error:
        print(f"kv_server: {error}", file=sys.stderr)
        return 1
    except BaseExceptionGroup as group:
        matched, rest = group.split(DistkitError)
        if rest is not None or matched is None:
            raise
        for leaf in _leaves(matched):
            print(f"kv_server: {leaf}", file=sys.stderr)
        return 1
    return 0


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves


if __name__ == "__main__":
    sys.exit(main())
