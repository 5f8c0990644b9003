"""Peers that reach each other by Maelstrom messages: the network of a distkit node without sockets.

    distkit_hello      {hello}                        who are you? This is who I am.
    distkit_hello_ok   {to, hello}                    the answer to the start `to` of the one who asked
    distkit_refused    {to, refusal}                  ... or why there is none
    distkit            {from, to, number, frames}     frames of one turn, from one start of a node to one of another
    distkit_bulk       {from, to, number, frames, stream, asks}    the same for a snapshot file

Records are frames of the shipped codec in base64. Every start of a node has a name of its own (incarnation and boot). A
peer counts as connected once its present start has answered a hello, and as lost when a later start of it shows up.
Frames between other starts than the present ones are dropped, and so is every repeated message, as on a connection;
loss and reordering remain. The consensus below lives with both; a forwarded command that is overtaken ends as unknown.
"""

from __future__ import annotations

import base64
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import trio

from distkit.codec import FrameDecoder, Registry
from distkit.core import IdentityError, PeerError
from distkit.node import Replica
from distkit.replica import registry
from distkit.transport import Disconnected, Hello, PeerStatus, Refusal, TransportStatus
from distkit.transport.hello import HANDSHAKE, Introduction
from distkit.transport.limits import HANDSHAKE_FRAME_BYTES_MAX

__all__ = ["MaelstromNetwork"]

#: Seconds between hellos to a peer that has not answered, at least and usually.
ASK_PAUSE, ASK_INTERVAL = 0.05, 0.2
#: ... and to one that refused us.
REFUSED_INTERVAL = 1.0
#: What one turn may send to one peer; more is dropped. In base64 it fits a line.
TURN_BYTES_MAX = 5 << 20
#: Numbers below the highest one that are told apart; what comes later than that is taken for a repetition.
WINDOW = 1024
#: Snapshot transfers that one peer may have open here, and seconds that each waits for its next message.
STREAMS_MAX = 4
BULK_TIMEOUT = 2.0

_NUMBER_MAX = 1 << 53

logger = logging.getLogger(__name__)

Body = dict[str, Any]


class _Peer:
    """One other node. `session` names its present start, "" while it is unknown."""

    __slots__ = (
        "ask_at",
        "connected",
        "frames",
        "hello",
        "highest",
        "name",
        "node",
        "seen",
        "session",
        "size",
        "stream",
    )

    def __init__(self, node: int, name: str) -> None:
        self.node = node
        self.name = name
        self.hello: Hello | None = None
        self.ask_at = 0.0
        self.meet("")

    def meet(self, session: str) -> None:
        """Another start of the node: nothing of the one before counts any more."""
        self.session = session
        self.connected = False
        self.frames: list[bytes] = []
        self.size = 0
        self.highest = self.seen = 0  # numbers: bit k of `seen` is for `highest - k`
        self.stream = 0

    def is_new(self, number: int) -> bool:
        """Note the number of a message; False if it was noted before."""
        if number > self.highest:
            self.seen = (self.seen << min(number - self.highest, WINDOW) | 1) & ((1 << WINDOW) - 1)
            self.highest = number
            return True
        bit = 1 << (self.highest - number) if self.highest - number < WINDOW else 0
        if not bit or self.seen & bit:
            return False
        self.seen |= bit
        return True


class MaelstromNetwork:
    """The doors of `distkit.transport.Network`; `receive` takes the peers' messages.

    `post(name, body)` sends a message; `on_serving()` is called once when the directory is in order. Members' addresses
    are their Maelstrom names with a port that means nothing.
    """

    def __init__(
        self,
        host: Replica[Any],
        hello: Callable[[], Hello],
        members: Mapping[int, str],
        post: Callable[[str, Body], bool],
        on_serving: Callable[[], None],
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._host = host
        self._hello = hello
        self._post = post
        self._on_serving = on_serving
        self._registry: Registry = registry()
        own = hello()
        self._session = _session(own)
        self._peers = {node: _Peer(node, _name(address)) for node, address in members.items() if node != own.node}
        self._by_name = {peer.name: peer for peer in self._peers.values()}
        self._numbers = itertools.count(1)
        self._streams: dict[tuple[str, bool, int], _Stream] = {}
        self._stream_ids = itertools.count(1)
        self._nursery: trio.Nursery
        self._handlers = {
            "distkit_hello": self._on_hello,
            "distkit_hello_ok": self._on_answer,
            "distkit_refused": self._on_refused,
            "distkit": self._on_frames,
            "distkit_bulk": self._on_bulk,
        }

    # -- doors of the node --------------------------------------------------------------------------------------------

    def bind(self, listen: str) -> str:
        """Nothing to do: Maelstrom knows the way."""
        return listen

    async def serve(self, peers: Mapping[int, str]) -> None:
        """Ask who has not answered yet; while the cluster forms, everybody, because they may have got further."""
        stored = self._hello().configuration
        if stored is not None and {member.id: member.address for member in stored.members} != dict(peers):
            names = ", ".join(_name(member.address) for member in stored.members)
            raise IdentityError(
                f"this directory belongs to a cluster of {names}, but was started in one of "
                f"{', '.join(map(_name, peers.values()))}: use another directory, or the same nodes"
            )
        async with trio.open_nursery() as self._nursery:
            self._on_serving()
            while True:
                forming = self._hello().configuration is None
                for peer in self._peers.values():
                    if forming or not peer.connected:
                        self._ask(peer)
                await trio.sleep(ASK_INTERVAL)

    def send(self, node: int, message: Any) -> bool:
        """Queue a message for the end of the turn."""
        peer = self._peers.get(node)
        if peer is None or not peer.connected:
            self.counters["unconnected"] += 1
            return False
        frame = b"".join(self._registry.encode_frame(message))
        if peer.size + len(frame) > TURN_BYTES_MAX:
            self.counters["full"] += 1
            return False
        peer.frames.append(frame)
        peer.size += len(frame)
        return True

    reply = send

    def flush(self) -> None:
        """One message to each peer that something is queued for."""
        for peer in self._peers.values():
            if peer.frames:
                self._post_frames(peer, "distkit", b"".join(peer.frames))
                self.counters["frames_out"] += len(peer.frames)
                peer.frames.clear()
                peer.size = 0

    def connected(self, node: int) -> bool:
        """Whether the peer's present start has answered."""
        peer = self._peers.get(node)
        return peer is not None and peer.connected

    async def open_bulk(self, node: int) -> _Stream:
        """A stream for a snapshot file."""
        await trio.lowlevel.checkpoint()
        peer = self._peers[node]
        if not peer.connected:
            raise Disconnected(f"{peer.name} has not answered", "timeout")
        return self._open_stream(peer, True, next(self._stream_ids))

    def status(self) -> TransportStatus:
        """What was counted."""
        counters = self.counters
        peers = tuple(PeerStatus(p.node, p.connected, p.connected, p.size, "") for p in self._peers.values())
        drops = tuple(sorted((key, counters[key]) for key in ("full", "repeated", "stale", "unconnected")))
        return TransportStatus(
            peers=peers,
            links=sum(peer.connected for peer in self._peers.values()),
            strangers=0,
            bytes_in=counters["bytes_in"],
            bytes_out=counters["bytes_out"],
            frames_in=counters["frames_in"],
            frames_out=counters["frames_out"],
            outbox_bytes=sum(peer.size for peer in self._peers.values()),
            outbox_bytes_high=0,
            drops=drops,
            refusals=(("REFUSED", counters["refused"]),),
            failures=(("nonsense", counters["nonsense"]),),
        )

    # -- what comes in ------------------------------------------------------------------------------------------------

    def receive(self, name: str, body: Body) -> None:
        """A message whose type begins with "distkit". Nonsense is counted, and said once in the log."""
        try:
            peer, handler = self._by_name.get(name), self._handlers.get(body["type"])
            if peer is None or handler is None:
                raise PeerError("this node is no member" if peer is None else f"no such type: {body['type']}")
            handler(peer, body)
        except PeerError as error:
            self.counters["nonsense"] += 1
            first = self.counters["nonsense"] == 1
            logger.log(logging.WARNING if first else logging.DEBUG, "nonsense from %.50s: %s", name, error)

    def _on_hello(self, peer: _Peer, body: Body) -> None:
        hello = self._introduced(peer, body)
        refusal = self._host.judge(hello)
        if refusal is not None:
            self._refuse(peer, hello, refusal)
            return
        if not self._meet(peer, hello):
            return
        data = _packed(b"".join(HANDSHAKE.encode_frame(Introduction(self._hello(), b""))))
        self._post(peer.name, {"type": "distkit_hello_ok", "to": _session(hello), "hello": data})
        if not peer.connected:
            self._ask(peer)

    def _on_answer(self, peer: _Peer, body: Body) -> None:
        if not self._is_mine(body):
            return
        hello = self._introduced(peer, body)
        refusal = self._host.judge(hello)
        if refusal is not None:
            self._refuse(peer, hello, refusal)
        elif self._meet(peer, hello) and not peer.connected:
            peer.connected = True
            self._host.on_hello(hello)
            self._host.on_connected(peer.node)

    def _on_refused(self, peer: _Peer, body: Body) -> None:
        if not self._is_mine(body):
            return
        refusal = _one(_messages(HANDSHAKE, body, "refusal", HANDSHAKE_FRAME_BYTES_MAX))
        if not isinstance(refusal, Refusal):
            raise PeerError("a refusal that is none")
        peer.ask_at = trio.current_time() + REFUSED_INTERVAL
        self._host.on_refused(peer.node, refusal, True, True)

    def _on_frames(self, peer: _Peer, body: Body) -> None:
        if not self._is_current(peer, body):
            return
        number, messages = _integer(body, "number"), self._frames(body)
        if not peer.is_new(number):
            self.counters["repeated"] += 1
            return
        for message in messages:
            self._host.on_message(peer.node, 0, message)
        self._host.on_drained()

    def _on_bulk(self, peer: _Peer, body: Body) -> None:
        if not self._is_current(peer, body):
            return
        key = (peer.session, body.get("asks") is not True, _integer(body, "stream"))
        message = _one(self._frames(body))
        stream = self._streams.get(key)
        if stream is None:
            if key[1] or key[2] <= peer.stream or sum(other[:2] == key[:2] for other in self._streams) >= STREAMS_MAX:
                self.counters["stale"] += 1
                return
            peer.stream = key[2]
            stream = self._open_stream(peer, *key[1:])
            self._nursery.start_soon(self._give, peer, stream)
        stream.take(_integer(body, "number"), message)

    async def _give(self, peer: _Peer, stream: _Stream) -> None:
        assert peer.hello is not None
        try:
            async with stream:
                await self._host.on_bulk(peer.hello, stream)
        except (Disconnected, PeerError) as error:
            logger.info("a transfer to %s ended: %s", peer.name, error)

    # -- the parts of it ----------------------------------------------------------------------------------------------

    def _ask(self, peer: _Peer) -> None:
        now = trio.current_time()
        if now >= peer.ask_at:
            peer.ask_at = now + ASK_PAUSE
            data = _packed(b"".join(HANDSHAKE.encode_frame(Introduction(self._hello(), b""))))
            self._post(peer.name, {"type": "distkit_hello", "hello": data})

    def _introduced(self, peer: _Peer, body: Body) -> Hello:
        message = _one(_messages(HANDSHAKE, body, "hello", HANDSHAKE_FRAME_BYTES_MAX))
        if not isinstance(message, Introduction) or message.hello.node != peer.node:
            raise PeerError("a hello that is none, or another node's")
        return message.hello

    def _refuse(self, peer: _Peer, hello: Hello, refusal: Refusal) -> None:
        self.counters["refused"] += 1
        data = _packed(b"".join(HANDSHAKE.encode_frame(refusal)))
        self._post(peer.name, {"type": "distkit_refused", "to": _session(hello), "refusal": data})
        self._host.on_refused(peer.node, refusal, False, True)

    def _meet(self, peer: _Peer, hello: Hello) -> bool:
        """Note who the peer is now; False for word of an earlier start."""
        known, session = peer.hello, _session(hello)
        if known is not None and known.incarnation == hello.incarnation and hello.boot < known.boot:
            self.counters["stale"] += 1
            return False
        peer.hello = hello
        if session != peer.session:
            was_connected = peer.connected
            peer.meet(session)
            if was_connected:
                self._host.on_lost(peer.node, "reset")
        return True

    def _is_mine(self, body: Body) -> bool:
        mine = body.get("to") == self._session
        self.counters["stale"] += not mine
        return mine

    def _is_current(self, peer: _Peer, body: Body) -> bool:
        if not peer.connected or body.get("from") != peer.session:
            self.counters["stale"] += 1
            return False
        return self._is_mine(body)

    def _frames(self, body: Body) -> list[Any]:
        messages = _messages(self._registry, body, "frames", TURN_BYTES_MAX)
        self.counters["frames_in"] += len(messages)
        self.counters["bytes_in"] += len(body["frames"])
        return messages

    def _post_frames(self, peer: _Peer, kind: str, data: bytes, **more: Any) -> bool:
        frames = _packed(data)
        self.counters["bytes_out"] += len(frames)
        head = {"type": kind, "from": self._session, "to": peer.session, "number": next(self._numbers)}
        return self._post(peer.name, {**head, "frames": frames, **more})

    def _open_stream(self, peer: _Peer, asks: bool, number: int) -> _Stream:
        key = (peer.session, asks, number)

        def post(message: Any) -> bool:
            data = b"".join(self._registry.encode_frame(message))
            return self._post_frames(peer, "distkit_bulk", data, stream=number, asks=asks)

        stream = self._streams[key] = _Stream(peer.name, post, lambda: self._streams.pop(key, None))
        return stream


class _Stream:
    """One end of a snapshot transfer (`distkit.transport.Bulk`). A lost message ends it, and the next one goes on."""

    def __init__(self, name: str, post: Callable[[Any], bool], on_close: Callable[[], object]) -> None:
        self._name = name
        self._post = post
        self._on_close = on_close
        self._highest = 0
        self._inbox_in, self._inbox = trio.open_memory_channel[Any](STREAMS_MAX)

    def take(self, number: int, message: Any) -> None:
        """A message for this end; repeated ones are dropped, and so are too many."""
        if number > self._highest:
            self._highest = number
            try:
                self._inbox_in.send_nowait(message)
            except trio.WouldBlock:
                logger.info("%s sends more than it is asked for", self._name)

    async def send(self, message: Any) -> None:
        """Send a message."""
        await trio.lowlevel.checkpoint()
        if not self._post(message):
            raise Disconnected("too much waits to be written", "timeout")

    async def receive(self) -> Any:
        """Wait for the next message."""
        with trio.move_on_after(BULK_TIMEOUT):
            return await self._inbox.receive()
        raise Disconnected(f"nothing from {self._name} within {BULK_TIMEOUT} s", "timeout")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on_close()


def _session(hello: Hello) -> str:
    return f"{hello.incarnation:016x}.{hello.boot}"


def _name(address: str) -> str:
    return address.rpartition(":")[0]


def _packed(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _integer(body: Body, field: str) -> int:
    value = body.get(field)
    if type(value) is not int or not 0 < value < _NUMBER_MAX:
        raise PeerError(f'"{field}" must be a number from 1 on')
    return value


def _messages(known: Registry, body: Body, field: str, bytes_max: int) -> list[Any]:
    """The records in a field. PeerError: it holds something else, nothing, or too much."""
    text = body.get(field)
    if not isinstance(text, str) or len(text) > (bytes_max + 64) * 4 // 3:
        raise PeerError(f'"{field}" must be base64 of at most {bytes_max} bytes')
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise PeerError(f'"{field}" is no base64: {error}') from None
    decoder = FrameDecoder(known)
    decoder.feed(data)
    messages = [message for group, message in _checked(decoder)]
    if decoder.rest or not messages:
        raise PeerError(f'"{field}" holds no whole number of frames')
    return messages


def _one(messages: list[Any]) -> Any:
    if len(messages) != 1:
        raise PeerError(f"{len(messages)} records where one belongs")
    return messages[0]


def _checked(decoder: FrameDecoder) -> Iterator[tuple[int, Any]]:
    for group, message in decoder:
        if group != 0:
            raise PeerError(f"a frame for group {group}")
        yield group, message
