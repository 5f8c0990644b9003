"""All connections of one node: it dials every peer, and every peer dials it.

Requests go out on the connection that this node dialled, answers on the one by which the request came, so a pair of
nodes has two, and neither end ever waits to learn which of two is the right one.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import trio

from distkit.codec import Registry
from distkit.core import LocalError, PeerError, record
from distkit.transport.admission import Admission
from distkit.transport.bulk import Bulk, BulkStream
from distkit.transport.credentials import CertificateNames, Credentials, check_addresses
from distkit.transport.dialling import HandshakeRefused, Listener, dial, shake_hands
from distkit.transport.hello import NONCE_BYTES, Handshake, Hello, Purpose, Refusal, RefusalCode
from distkit.transport.limits import Limits
from distkit.transport.link import Link, Ping, Traffic
from distkit.transport.wire import Disconnected, TlsWire, Wire

logger = logging.getLogger(__name__)


class Host(Protocol):
    """What a transport tells the node. Plain functions must not wait. An exception out of any of them ends `serve`."""

    def judge(self, hello: Hello) -> Refusal | None:
        """An authenticated node says hello, on any kind of connection. A refusal is told to it and ends the matter."""
        ...

    def on_hello(self, hello: Hello) -> None:
        """Both ends accepted each other on a peer connection, whoever dialled."""
        ...

    def on_connected(self, node: int) -> None:
        """The link that this node dialled is up: `send` to the node works."""
        ...

    def on_message(self, node: int, group: int, message: Any, link: Link) -> None:
        """A message came in. PeerError ends the link."""
        ...

    def on_drained(self) -> None:
        """All messages of one read were handed over: the time to flush the machine, then the transport."""
        ...

    def on_lost(self, node: int, reason: str) -> None:
        """A link broke, dialled or accepted. "reset": the other end closed it or its process died. "timeout": it was
        silent or took nothing. "nonsense": it sent what is no message."""
        ...

    def on_refused(self, node: int, refusal: Refusal, by_peer: bool, authenticated: bool) -> None:
        """A handshake was refused by this node or `by_peer`. `node` is whom this node dialled, or who dialled it (0:
        unknown). Unless `authenticated`, anybody may have said so: fit for a log only."""
        ...

    async def on_bulk(self, hello: Hello, stream: BulkStream) -> None:
        """A node opened a bulk stream. It is closed when this returns; Disconnected and PeerError may pass out."""
        ...


class Network(Protocol):
    """The doors of a transport that a node uses. `Transport` has them over sockets, which is what ships.

    Another way to the peers (messages of somebody else's wire, a test) has the same doors and tells its `Host` the same
    things. It may lose messages and change their order; it must deliver none twice, and none from an earlier start of
    either end. It vouches for who the peers are.
    """

    def bind(self, listen: str) -> str:
        """Be reachable from now on; the address by which. Called once, when the directory was found to be in order."""
        ...

    async def serve(self, peers: Mapping[int, str]) -> None:
        """Keep in touch with the peers until cancelled."""
        ...

    def send(self, node: int, message: Any) -> bool:
        """Queue a message to a connected node. False: dropped."""
        ...

    def reply(self, node: int, message: Any) -> bool:
        """Queue an answer, by the way the question came. False: there is no such way now."""
        ...

    def flush(self) -> None:
        """Let what was queued go out; never waits."""
        ...

    def connected(self, node: int) -> bool:
        """Whether `send` works."""
        ...

    async def open_bulk(self, node: int) -> Bulk:
        """A stream for a snapshot file. Disconnected when there is no way."""
        ...

    def status(self) -> TransportStatus:
        """A picture of the moment."""
        ...


@record
class PeerStatus:
    """Connections with one node. `trouble`: why the last attempt to dial it failed, "" while it is connected."""

    node: int
    dialled: bool
    accepted: bool
    outbox_bytes: int
    trouble: str


@record
class TransportStatus:
    """Counters since the start. `strangers`: accepted connections that have not finished their handshake.

    `drops`: messages not sent ("full", "unconnected") and connections closed on arrival ("connections", "strangers").
    `refusals`: handshakes refused here, by code; `failures`: handshakes that broke off, by reason.
    """

    peers: tuple[PeerStatus, ...]
    links: int
    strangers: int
    bytes_in: int
    bytes_out: int
    frames_in: int
    frames_out: int
    outbox_bytes: int
    outbox_bytes_high: int
    drops: tuple[tuple[str, int], ...]
    refusals: tuple[tuple[str, int], ...]
    failures: tuple[tuple[str, int], ...]


class _Peer:
    """What is known of one node. `address` is None for one that is not configured here and dialled us."""

    __slots__ = ("accepted", "address", "dialled", "node", "nudged", "trouble")

    def __init__(self, node: int, address: str | None) -> None:
        self.node = node
        self.address = address
        self.dialled: Link | None = None
        self.accepted: Link | None = None
        self.nudged = trio.Event()  # it has just dialled us, so it is up
        self.trouble = ""


class Transport:
    """Authenticated links to all peers. Call `bind`, then run `serve` in a task.

    `registry` knows all messages that may come, `MESSAGES` of `link` among them; `hello` says who this node is at the
    moment; `rng` spreads the attempts to dial. LocalError for a registry without Ping or credentials that cannot be
    loaded. Nothing leaves before `flush`.
    """

    def __init__(
        self,
        registry: Registry,
        hello: Callable[[], Hello],
        credentials: Credentials,
        host: Host,
        rng: random.Random,
        limits: Limits | None = None,
    ) -> None:
        if Ping not in registry:
            raise LocalError("the registry of a transport must contain distkit.transport.MESSAGES")
        self._registry = registry
        self._hello = hello
        self._credentials = credentials
        self._client_context = credentials.client_context()
        self._server_context = credentials.server_context()
        self._host = host
        self._rng = rng
        self._limits = limits or Limits()
        self._listener: Listener | None = None
        self._peers: dict[int, _Peer] = {}
        self._links: dict[Link, None] = {}
        self._unflushed: list[Link] = []
        self._admission = Admission(self._limits)
        self._past = Traffic()  # of links that are over
        self._drops: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()

    # -- doors of the node --------------------------------------------------------------------------------------------

    def bind(self, listen: str) -> str:
        """Listen on HOST:PORT and return the real address (port 0 takes a free one). LocalError when it cannot."""
        self._listener = Listener(listen)
        return self._listener.address

    async def serve(self, peers: Mapping[int, str]) -> None:
        """Answer whoever dials, and keep a link to every peer, until cancelled. `peers` may name this node too."""
        if self._listener is None:
            raise LocalError("bind before you serve")
        own = self._hello().node
        self._peers = {node: _Peer(node, address) for node, address in sorted(peers.items()) if node != own}
        try:
            check_addresses(self._credentials, self._listener.address, peers.values())
            async with trio.open_nursery() as nursery:
                for peer in self._peers.values():
                    nursery.start_soon(self._keep_dialled, peer, peers[peer.node])
                nursery.start_soon(self._tick_links)
                await self._keep_accepting(self._listener, nursery)
        finally:
            self.close()

    def close(self) -> None:
        """Stop listening; for a transport that was bound and is not served. Doing it again does nothing."""
        if self._listener is not None:
            self._listener.close()

    def send(self, node: int, message: Any, group: int = 0) -> bool:
        """Queue a message on the link that was dialled to the node. False: dropped, there is none or it is full."""
        peer = self._peers.get(node)
        return self._queue(None if peer is None else peer.dialled, message, group)

    def reply(self, node: int, message: Any, group: int = 0) -> bool:
        """Queue an answer on the link by which the node's requests come. False: dropped."""
        peer = self._peers.get(node)
        return self._queue(None if peer is None else peer.accepted, message, group)

    def _queue(self, link: Link | None, message: Any, group: int) -> bool:
        if link is None:
            self._drops["unconnected"] += 1
            return False
        return link.send(message, group)

    def flush(self) -> None:
        """Send what was queued since the last flush, in one packet for each link if it takes it."""
        links = self._unflushed.copy()
        self._unflushed.clear()
        for link in links:
            link.flush()

    def connected(self, node: int) -> bool:
        """Whether the link that this node dialled is up."""
        peer = self._peers.get(node)
        return peer is not None and peer.dialled is not None

    async def open_bulk(self, node: int) -> BulkStream:
        """Dial a configured node for a bulk stream. Disconnected or HandshakeRefused when that fails."""
        peer = self._peers.get(node)
        if peer is None or peer.address is None:
            raise LocalError(f"node {node} is not configured as a peer")
        wire, handshake = await self._dial(node, peer.address, Purpose.BULK)
        return self._bulk(wire, handshake)

    def status(self) -> TransportStatus:
        """A picture of the moment."""
        traffic = Traffic()
        traffic.add(self._past)
        for link in self._links:
            traffic.add(link.traffic)
        drops = self._drops + Counter(full=traffic.frames_dropped)
        return TransportStatus(
            peers=tuple(_peer_status(peer) for _, peer in sorted(self._peers.items())),
            links=len(self._links),
            strangers=self._admission.strangers,
            bytes_in=traffic.bytes_in,
            bytes_out=traffic.bytes_out,
            frames_in=traffic.frames_in,
            frames_out=traffic.frames_out,
            outbox_bytes=sum(link.outbox_bytes for link in self._links),
            outbox_bytes_high=traffic.outbox_bytes_high,
            drops=tuple(sorted(drops.items())),
            refusals=tuple(sorted(self._refusals.items())),
            failures=tuple(sorted(self._failures.items())),
        )

    # -- connections --------------------------------------------------------------------------------------------------

    async def _keep_accepting(self, listener: Listener, nursery: trio.Nursery) -> None:
        while True:
            sock, host = await listener.accept()
            if self._admission.enter(host):
                nursery.start_soon(self._answer, sock, host)
            else:
                self._drops["connections"] += 1
                sock.close()

    async def _keep_dialled(self, peer: _Peer, address: str) -> None:
        backoff = self._limits.backoff_min
        while True:
            peer.nudged = trio.Event()
            try:
                wire, handshake = await self._dial(peer.node, address, Purpose.PEER)
            except (Disconnected, HandshakeRefused) as error:
                self._note_trouble(peer, str(error))
            else:
                begun = trio.current_time()
                await self._serve_link(wire, handshake, dialled=True)
                if trio.current_time() - begun > self._limits.backoff_max:
                    backoff = self._limits.backoff_min
            with trio.move_on_after(backoff * (0.5 + self._rng.random() / 2)):
                await peer.nudged.wait()
                backoff = self._limits.backoff_min
            backoff = min(2 * backoff, self._limits.backoff_max)

    def _note_trouble(self, peer: _Peer, trouble: str) -> None:
        if trouble != peer.trouble:
            logger.warning("node %d at %s cannot be reached: %s", peer.node, peer.address, trouble)
            peer.trouble = trouble

    async def _dial(self, node: int, address: str, purpose: Purpose) -> tuple[Wire, Handshake]:
        """A connection whose other end has proven to be the node. Disconnected or HandshakeRefused."""
        try:
            with trio.fail_after(self._limits.connect_timeout):
                sock = await dial(address)
        except trio.TooSlowError:
            raise Disconnected(f"no connection within {self._limits.connect_timeout} s", "timeout") from None
        except OSError as error:
            raise Disconnected(error.strerror or str(error), "reset") from None
        wire = self._wire(sock, self._client_context, server_side=False)
        try:
            return wire, await self._introduce(wire, purpose, node)
        except BaseException:
            wire.close()
            raise

    async def _answer(self, sock: socket.socket, host: str) -> None:
        wire = self._wire(sock, self._server_context, server_side=True)
        try:
            handshake = await self._introduce(wire, Purpose.PEER, None)
            if _hello_of(handshake).purpose is Purpose.BULK:
                await self._serve_bulk(wire, handshake)
            else:
                await self._serve_link(wire, handshake, dialled=False)
        except (Disconnected, PeerError) as error:
            logger.info("connection from %s ended: %s", host, error)
        finally:
            wire.close()
            self._admission.leave(host)

    def _wire(self, sock: socket.socket, context: ssl.SSLContext | None, server_side: bool) -> Wire:
        return Wire(sock) if context is None else TlsWire(sock, context, server_side)

    async def _introduce(self, wire: Wire, purpose: Purpose, expected: int | None) -> Handshake:
        """Shake hands with the node that was dialled, or (None) with whoever dialled this one."""
        scope = trio.CancelScope(deadline=trio.current_time() + self._limits.handshake_timeout)
        if expected is None and self._admission.begin(scope):
            self._drops["strangers"] += 1

        def begin(names: CertificateNames | None) -> Handshake:
            local = replace(self._hello(), purpose=purpose)
            nonce = os.urandom(NONCE_BYTES)
            return Handshake(local, nonce, self._host.judge, key=self._credentials.key, names=names, expected=expected)

        try:
            with scope:
                return await shake_hands(wire, begin)
            raise Disconnected("the handshake was not finished in time", "timeout")
        except Disconnected as error:
            self._failures[error.reason] += 1
            raise
        except HandshakeRefused as error:
            self._note_refusal(expected or 0, error)
            raise
        finally:
            self._admission.finish(scope)

    def _note_refusal(self, dialled: int, error: HandshakeRefused) -> None:
        name = RefusalCode(error.refusal.code).name
        if not error.by_peer:
            self._refusals[name] += 1
            # Once for each kind: whoever reaches the port could fill the log.
            logger.log(logging.WARNING if self._refusals[name] == 1 else logging.DEBUG, "handshake %s", error)
        node = dialled if error.peer is None else error.peer.node
        self._host.on_refused(node, error.refusal, error.by_peer, error.peer is not None)

    async def _serve_link(self, wire: Wire, handshake: Handshake, dialled: bool) -> None:
        hello = _hello_of(handshake)
        host = self._host
        link = Link(
            wire, hello, dialled, self._registry, self._limits, host.on_message, host.on_drained, self._unflushed
        )
        peer = self._peers.setdefault(hello.node, _Peer(hello.node, None))
        try:
            self._enrol(peer, link)
            cause = await link.run(handshake.rest)
        finally:
            was_current = self._forget(peer, link)
            wire.close()
        logger.info("link %s node %d ended: %s", "to" if dialled else "from", peer.node, cause)
        if was_current:
            host.on_lost(peer.node, cause.reason)

    def _enrol(self, peer: _Peer, link: Link) -> None:
        self._links[link] = None
        if link.dialled:
            peer.dialled = link
            peer.trouble = ""
            self._host.on_hello(link.hello)
            self._host.on_connected(peer.node)
            return
        previous = peer.accepted
        if previous is not None:
            self._forget(peer, previous)
            previous.end(Disconnected("replaced by a newer connection", "reset"))
            if previous.hello.boot != link.hello.boot:
                self._host.on_lost(peer.node, "reset")
        self._peers[peer.node] = peer
        peer.accepted = link
        peer.nudged.set()
        self._host.on_hello(link.hello)

    def _forget(self, peer: _Peer, link: Link) -> bool:
        """Take the link out of use; False when it was already."""
        if link not in self._links:
            return False
        del self._links[link]
        self._past.add(link.traffic)
        if link.dialled:
            peer.dialled = None
        else:
            peer.accepted = None
        if peer.address is None:
            del self._peers[peer.node]
        return True

    async def _serve_bulk(self, wire: Wire, handshake: Handshake) -> None:
        async with self._bulk(wire, handshake) as stream:
            await self._host.on_bulk(stream.hello, stream)

    def _bulk(self, wire: Wire, handshake: Handshake) -> BulkStream:
        return BulkStream(wire, _hello_of(handshake), self._registry, self._limits, handshake.rest)

    async def _tick_links(self) -> None:
        while True:
            await trio.sleep(self._limits.keepalive / 2)
            now = trio.current_time()
            for link in list(self._links):
                link.tick(now)
            self.flush()


def _hello_of(handshake: Handshake) -> Hello:
    assert handshake.peer is not None  # a finished handshake knows the other end
    return handshake.peer


def _peer_status(peer: _Peer) -> PeerStatus:
    links = [link for link in (peer.dialled, peer.accepted) if link is not None]
    waiting = sum(link.outbox_bytes for link in links)
    return PeerStatus(peer.node, peer.dialled is not None, peer.accepted is not None, waiting, peer.trouble)
