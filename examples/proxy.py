#!/usr/bin/env python3
"""A balancing proxy for TCP and HTTP/1.1: listeners, clusters, policies and health in one TOML file (docs/proxy.md).

    python examples/proxy.py proxy.toml              # --check only reads the file

SIGHUP reads the file again, and no connection is dropped; a file with a mistake changes nothing. SIGTERM or SIGINT lets
what is under way end, for `drain_timeout` at most; a second one ends at once.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import random
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import proxy_protocol
import trio
from proxy_admin import open_admin, serve_admin
from proxy_config import ClusterConfig, ListenerConfig, ProxyConfig, read_config
from proxy_http import HttpClient
from proxy_protocol import ProxyProtocolError, Source
from proxy_tcp import TcpClient
from proxy_upstream import Upstream
from proxy_wire import NO_ROOM, Wire, keep_alive

from distkit import LocalError
from distkit.transport import split_address

#: How often connections are looked at that may be overdue, in seconds.
SWEEP_SECONDS = 0.25
#: How long no connection is taken when there is no room for one (descriptors, memory), in seconds.
NO_ROOM_SECONDS = 0.1

logger = logging.getLogger("proxy")

Client = HttpClient | TcpClient


class Listener:
    """One address, and the clients that came there."""

    def __init__(self, name: str, config: ListenerConfig, upstream: Upstream) -> None:
        self.name = name
        self.config = config
        self.upstream = upstream
        self.clients: dict[Client, None] = {}
        #: Connections that were taken and are open: clients, and who still has to say for whom it speaks.
        self.connections = 0
        self.turned_away = 0
        #: Cancelled when the address is given up; its clients stay.
        self.accepting = trio.CancelScope()
        self._socket = _listen(config.address)
        self.address = f"{config.address.rpartition(':')[0]}:{self._socket.getsockname()[1]}"

    def change(self, name: str, config: ListenerConfig, upstream: Upstream) -> None:
        """New settings for the same address; requests that are under way end as they began."""
        self.name, self.config, self.upstream = name, config, upstream
        for client in self.clients:
            client.route(upstream)

    async def run(self, nursery: trio.Nursery) -> None:
        """Take clients until cancelled. Each gets a task of `nursery`, which outlives this."""
        crowded = False
        with self.accepting, self._socket:
            while True:
                await trio.lowlevel.wait_readable(self._socket)
                try:
                    sock, peer = self._socket.accept()
                except BlockingIOError:
                    continue
                except OSError as error:
                    if error.errno in NO_ROOM:
                        if not crowded:
                            logger.warning("listen.%s takes nobody for now: %s", self.name, error.strerror)
                        crowded = True
                        await trio.sleep(NO_ROOM_SECONDS)
                    continue  # that client is gone already
                crowded = False
                if self.connections >= self.config.connections_max:
                    self.turned_away += 1
                    sock.close()
                else:
                    self.connections += 1
                    nursery.start_soon(self._serve, sock, peer)

    def drain(self) -> None:
        """The next answer of each client is its last; who waits between two requests goes now."""
        self.accepting.cancel()
        for client in self.clients:
            client.draining = True
            if client.idle:
                client.scope.cancel()

    def close(self) -> None:
        """Give up an address on which nobody was taken yet."""
        self._socket.close()

    def sweep(self, now: float) -> None:
        """Let those go that are overdue or have left."""
        for client in self.clients:
            client.sweep(now)

    async def _serve(self, sock: socket.socket, peer: tuple[str, int]) -> None:
        try:
            with sock:
                await self._serve_client(Wire(sock), peer)
        except Exception:  # a mistake of ours must not end the others
            logger.exception("listen.%s: the connection of %s was dropped", self.name, peer[0])
        finally:
            self.connections -= 1

    async def _serve_client(self, wire: Wire, peer: tuple[str, int]) -> None:
        target = wire.sock.getsockname()
        source, first = Source(peer[0], peer[1], target[0], target[1]), b""
        config = self.config
        if config.proxy_protocol:
            try:
                with trio.fail_after(config.head_timeout):
                    source, first = await _announced(wire, source)
            except (ProxyProtocolError, OSError, trio.TooSlowError) as error:
                logger.debug("listen.%s: %s: %s", self.name, peer[0], error)
                return
        client: Client
        if config.mode == "http":
            client = HttpClient(wire, source, self.upstream, config.head_timeout, config.idle_timeout)
        else:
            client = TcpClient(wire, source, self.upstream)
        client.draining = self.accepting.cancel_called
        self.clients[client] = None
        try:
            await client.serve(first)
        finally:
            del self.clients[client]


async def _announced(wire: Wire, source: Source) -> tuple[Source, bytes]:
    """Who the client is by the PROXY header it must begin with, and what followed."""
    data = b""
    while (found := proxy_protocol.decode(data)) is None:
        more = await wire.receive()
        if not more:
            raise ProxyProtocolError("closed within the header")
        data += more
    return found[0] or source, data[found[1] :]


class Proxy:
    """Everything that runs: what `apply` was told last."""

    def __init__(self, nursery: trio.Nursery, rng: random.Random) -> None:
        #: By the address of the configuration.
        self.listeners: dict[str, Listener] = {}
        self.upstreams: dict[str, Upstream] = {}
        self.began = time.monotonic()
        self.drain_timeout = 0.0
        self.reloads = 0
        self.admin = ""
        self._leaving: list[Listener] = []
        self._nursery = nursery
        self._rng = rng

    def apply(self, config: ProxyConfig) -> None:
        """Make it so. LocalError, and nothing is changed, when an address can't be listened on."""
        new: dict[str, Listener] = {}
        upstreams = {name: self._upstream(name, each) for name, each in config.cluster.items()}
        try:
            for name, each in config.listen.items():
                if each.address not in self.listeners:
                    new[each.address] = Listener(name, each, upstreams[each.cluster])
        except LocalError:
            for listener in new.values():
                listener.close()
            raise
        self.drain_timeout = config.drain_timeout
        if config.admin != self.admin and self.listeners:
            logger.warning("admin stays at %r until the next start", self.admin)
        else:
            self.admin = config.admin
        self._replace_upstreams(upstreams, config)
        wanted = {each.address: (name, each) for name, each in config.listen.items()}
        for address, listener in list(self.listeners.items()):
            if address in wanted:
                name, each = wanted[address]
                listener.change(name, each, upstreams[each.cluster])
            else:
                self._leaving.append(self.listeners.pop(address))
                listener.drain()
        for address, listener in new.items():
            self.listeners[address] = listener
            self._nursery.start_soon(listener.run, self._nursery)
            logger.info("listen.%s: %s on %s", listener.name, listener.config.mode, listener.address)

    def _upstream(self, name: str, config: ClusterConfig) -> Upstream:
        """The one that runs, if no more than its endpoints has changed: it knows what is under way and who is ill."""
        present = self.upstreams.get(name)
        if present is not None and present.config.is_same_but_for_endpoints(config):
            return present
        return Upstream(name, config, random.Random(self._rng.getrandbits(64)))

    def _replace_upstreams(self, upstreams: dict[str, Upstream], config: ProxyConfig) -> None:
        for name, old in self.upstreams.items():
            if upstreams.get(name) is not old:
                old.close()
        for name, upstream in upstreams.items():
            if self.upstreams.get(name) is upstream:
                upstream.reconfigure(config.cluster[name])
            else:
                self._nursery.start_soon(upstream.run)
        self.upstreams = upstreams

    async def drain(self) -> None:
        """Take nobody any more; return when all clients are served or `drain_timeout` is over."""
        self._leaving += self.listeners.values()
        for listener in self._leaving:
            listener.drain()
        with trio.move_on_after(self.drain_timeout):
            while any(listener.connections for listener in self._leaving):  # noqa: ASYNC110 (once in a process, and short)
                await trio.sleep(0.02)
        left = sum(listener.connections for listener in self._leaving)
        if left:
            logger.warning("%d connections were not over after %g s", left, self.drain_timeout)

    async def sweep(self) -> None:
        """Look at all connections now and then; until cancelled."""
        while True:
            await trio.sleep(SWEEP_SECONDS)
            now = time.monotonic()
            for listener in (*self.listeners.values(), *self._leaving):
                listener.sweep(now)
            self._leaving = [each for each in self._leaving if each.connections]


def _listen(address: str) -> socket.socket:
    host, port = split_address(address)
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise LocalError(f"{address} can't be listened on: {error.strerror or error}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # else clients of IPv4 would come with addresses that only look like IPv6
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        keep_alive(listener)
        listener.bind(target)
        listener.listen(1024)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise LocalError(f"{address} can't be listened on: {error.strerror or error}") from None
    return listener


async def run(path: Path, config: ProxyConfig) -> None:
    """Serve until SIGTERM or SIGINT. LocalError if it can't begin."""
    failure: LocalError | None = None
    async with trio.open_nursery() as nursery:
        try:
            await _serve(nursery, path, config)
        except LocalError as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _serve(nursery: trio.Nursery, path: Path, config: ProxyConfig) -> None:
    proxy = Proxy(nursery, random.Random())
    proxy.apply(config)
    nursery.start_soon(proxy.sweep)
    if config.admin:
        listeners = await open_admin(config.admin)
        nursery.start_soon(serve_admin, proxy, listeners)
    gc.collect()
    gc.freeze()
    logger.info("ready")
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            logger.info("%s", signal.Signals(number).name)
            if number == signal.SIGHUP:
                reload(proxy, path)
            else:
                break
        async with trio.open_nursery() as draining:
            draining.start_soon(_end_at_once, signals, draining.cancel_scope)
            await proxy.drain()
            draining.cancel_scope.cancel()


def make_room(config: ProxyConfig) -> None:
    """Allow as many descriptors as the system does: a connection takes two of them."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # some systems say that there is no bound, and mean that there is
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * sum(each.connections_max for each in config.listen.values())
    if soft != resource.RLIM_INFINITY and soft < wanted:
        logger.warning(
            "%d descriptors are allowed (ulimit -Hn), all connections_max together may need %d", soft, wanted
        )


def reload(proxy: Proxy, path: Path) -> None:
    """Read the file again. A mistake in it is logged and changes nothing."""
    try:
        proxy.apply(read_config(path))
    except LocalError as error:
        logger.error("not reloaded: %s", error)
    else:
        proxy.reloads += 1
        logger.info("reloaded")


async def _end_at_once(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    """A second signal waits for nobody."""
    async for number in signals:
        if number != signal.SIGHUP:
            scope.cancel()


def main() -> int:
    """The command line; 0 after a stop that was asked for, 2 for a mistake in the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", type=Path, help="the TOML file")
    parser.add_argument("--check", action="store_true", help="read the file, say whether it is right, and end")
    parser.add_argument("--verbose", action="store_true", help="log what happens to single connections")
    arguments = parser.parse_args()
    level = logging.DEBUG if arguments.verbose else logging.INFO
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        config = read_config(arguments.config)
        if arguments.check:
            listeners, clusters = ", ".join(config.listen), ", ".join(config.cluster)
            print(f"{arguments.config}: no mistake; listen {listeners}; cluster {clusters}")
            return 0
        make_room(config)
        trio.run(run, arguments.config, config)
    except LocalError as error:
        print(f"proxy: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
