"""The handshake: who is at the other end, proven before anything that it says counts. A state machine without I/O.

    dialler                                   listener
    Greeting(versions, nonce)         ->
                                      <-      Greeting(versions, nonce)
    Introduction(hello, mac)          ->      checks the mac, then judges the hello
                                      <-      Introduction(hello, mac), then Welcome or Refusal
    Welcome or Refusal                ->      checks the mac, judges (the dialler did so before)

Both ends are ready when each has sent and received a Welcome. The mac is HMAC-SHA256 with the shared key over a
label, the sender's role, both greetings and the hellos said so far, so it proves ids, incarnations, cluster, versions
and both fresh nonces at once: a recorded or reflected preamble and a changed version do not check. The dialler proves
itself first, so a stranger learns nothing but the versions. Under TLS the certificate must name the node that the
hello claims. Without a key the macs are empty, and only certificates or the loopback interface vouch for the other end.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import struct
from collections.abc import Callable
from dataclasses import replace

from distkit.codec import FrameDecoder, Registry
from distkit.core import Configuration, PeerError, record
from distkit.core.limits import NODE_ID_MAX
from distkit.transport.credentials import CertificateNames, certifies
from distkit.transport.limits import HANDSHAKE_FRAME_BYTES_MAX

#: Protocol versions that this release speaks.
OLDEST, NEWEST = 1, 1
NONCE_BYTES = 32
#: A reason sent by the other end is cut to this many characters.
REFUSAL_TEXT_MAX = 500

_LABEL = b"distkit peer handshake"


class Purpose(enum.IntEnum):
    """What a connection is for."""

    PEER = 1
    BULK = 2


class RefusalCode(enum.IntEnum):
    """Why a handshake was refused."""

    VERSION = 1
    BAD_CREDENTIALS = 2
    WRONG_CLUSTER = 3
    WIPED_MEMBER = 4
    WRONG_NODE = 5
    NONSENSE = 6
    OTHER = 7

    @classmethod
    def _missing_(cls, value: object) -> RefusalCode:
        return cls.OTHER  # a code of a later release


@record
class Hello:
    """What a node says about itself. `cluster` 0 and no configuration: it is not formed yet.

    `members` is the map it was started with, as (id, address) sorted by id. `boot` counts its starts.
    """

    cluster: int
    node: int
    incarnation: int
    boot: int
    configuration: Configuration | None
    members: tuple[tuple[int, str], ...]
    purpose: Purpose = Purpose.PEER


@record
class Refusal:
    """Why one end does not talk to the other; said to it and logged by both. `code` is a RefusalCode."""

    code: int
    text: str


@record
class Greeting:
    """First words: the protocol versions that the sender speaks, and a random number never used before."""

    oldest: int
    newest: int
    nonce: bytes


@record
class Introduction:
    """Who the sender is, and the proof that it holds the shared key."""

    hello: Hello
    mac: bytes


@record
class Welcome:
    """The sender accepts the other end."""


#: Kinds 1 to 15 of frames belong to the transport.
HANDSHAKE = Registry(
    [
        (1, Greeting, "oldest:u16 newest:u16 nonce:bytes"),
        (2, Introduction, "hello:Hello mac:bytes"),
        (3, Welcome, ""),
        (4, Refusal, "code:u8 text:str"),
    ],
    parts=[
        (
            Hello,
            "cluster:u64 node:u32 incarnation:u64 boot:u64 configuration:configuration? members:addresses purpose:u8",
        )
    ],
)

Judge = Callable[[Hello], Refusal | None]


class Handshake:
    """One end of the handshake. Feed it with `receive`, send what `take` gives, until `done` or `refusal` is set.

    `expected` is the node that was dialled (None on the listening end); `names` are those of the other end's
    certificate (None without TLS). `judge` is called once, with an authenticated hello of another node, and may refuse
    it. Nothing that the other end says raises. `detail` is for the own log only: it is never sent.
    """

    def __init__(
        self,
        local: Hello,
        nonce: bytes,
        judge: Judge,
        *,
        key: bytes | None,
        names: CertificateNames | None,
        expected: int | None,
    ) -> None:
        self.done = False
        self.version = 0
        self.peer: Hello | None = None  # set when it is authenticated, even if it is refused then
        self.refusal: Refusal | None = None
        self.refused_by_peer = False
        self.detail = ""
        self._local = local
        self._judge = judge
        self._key = key
        self._names = names
        self._expected = expected
        self._dials = expected is not None
        self._greeting = Greeting(OLDEST, NEWEST, nonce)
        self._transcript: list[bytes] = []
        self._decoder = FrameDecoder(HANDSHAKE, HANDSHAKE_FRAME_BYTES_MAX)
        self._outgoing: list[bytes] = []
        self._awaits: type[Greeting] | type[Introduction] | type[Welcome] = Greeting
        if self._dials:
            self._say_greeting()

    def take(self) -> bytes:
        """What is to be sent now; b"" for nothing."""
        data = b"".join(self._outgoing)
        self._outgoing = []
        return data

    @property
    def rest(self) -> bytes:
        """Bytes behind the handshake: the beginning of the session."""
        return self._decoder.rest

    def receive(self, data: bytes) -> None:
        """Bytes of the other end arrived."""
        try:
            self._decoder.feed(data)
            for _, message in self._decoder:
                self._on_message(message)
                if self.done or self.refusal is not None:
                    return
        except PeerError as error:
            self._refuse(RefusalCode.NONSENSE, "this is not the distkit peer protocol", str(error))

    def _on_message(self, message: object) -> None:
        if isinstance(message, Refusal):
            self.refusal = Refusal(RefusalCode(message.code), message.text[:REFUSAL_TEXT_MAX])
            self.refused_by_peer = True
        elif type(message) is not self._awaits:
            raise PeerError(f"{type(message).__name__} where {self._awaits.__name__} belongs")
        elif isinstance(message, Greeting):
            self._on_greeting(message)
        elif isinstance(message, Introduction):
            self._on_introduction(message)
        else:
            self.done = True

    def _on_greeting(self, greeting: Greeting) -> None:
        if len(greeting.nonce) != NONCE_BYTES or greeting.oldest > greeting.newest:
            raise PeerError("a greeting with an impossible nonce or version")
        self._transcript.append(_bytes(greeting))
        if not self._dials:
            self._say_greeting()
        self.version = min(NEWEST, greeting.newest)
        if self.version < max(OLDEST, greeting.oldest):
            ours, theirs = f"{OLDEST} to {NEWEST}", f"{greeting.oldest} to {greeting.newest}"
            self._refuse(RefusalCode.VERSION, f"protocol {ours} here, {theirs} there: upgrade the older node first")
            return
        self._awaits = Introduction
        if self._dials:
            self._say_introduction()

    def _on_introduction(self, introduction: Introduction) -> None:
        hello = introduction.hello
        if not 1 <= hello.node <= NODE_ID_MAX or hello.purpose not in tuple(Purpose):
            raise PeerError(f"a hello of node {hello.node} for purpose {hello.purpose}")
        self._transcript.append(_bytes(Introduction(hello, b"")))
        if not hmac.compare_digest(introduction.mac, self._mac("listener" if self._dials else "dialler")):
            self._refuse(RefusalCode.BAD_CREDENTIALS, "credentials refused", "the proof of the shared key is wrong")
            return
        if self._names is not None and not certifies(self._names, hello.node):
            names = ", ".join(sorted(value for _, value in self._names)) or "nobody"
            detail = f"it claims to be node {hello.node} with a certificate for {names}"
            self._refuse(RefusalCode.BAD_CREDENTIALS, "credentials refused", detail)
            return
        self.peer = replace(hello, purpose=Purpose(hello.purpose))
        self._awaits = Welcome
        if not self._dials:
            self._local = replace(self._local, purpose=self.peer.purpose)
            self._say_introduction()
        refusal = self._wrong_node(self.peer) or self._judge(self.peer)
        if refusal is not None:
            self._refuse(RefusalCode(refusal.code), refusal.text)
        else:
            self._say(Welcome())

    def _wrong_node(self, peer: Hello) -> Refusal | None:
        if peer.purpose != self._local.purpose:
            return Refusal(RefusalCode.NONSENSE, "the purpose of the connection was changed")
        if self._expected is not None and peer.node != self._expected:
            text = f"node {self._expected} was dialled, node {peer.node} answered: check the addresses of the members"
            return Refusal(RefusalCode.WRONG_NODE, text)
        if peer.node == self._local.node:
            text = f"both ends say they are node {peer.node}: every node needs its own id and address"
            return Refusal(RefusalCode.WRONG_NODE, text)
        return None

    def _say_greeting(self) -> None:
        self._transcript.append(_bytes(self._greeting))
        self._say(self._greeting)

    def _say_introduction(self) -> None:
        self._transcript.append(_bytes(Introduction(self._local, b"")))
        self._say(Introduction(self._local, self._mac("dialler" if self._dials else "listener")))

    def _mac(self, role: str) -> bytes:
        """Proof by the end in that role that it holds the key and heard all that was said, its own hello last."""
        if self._key is None:
            return b""
        parts = (_LABEL, role.encode(), *self._transcript)
        return hmac.digest(self._key, b"".join(struct.pack("<I", len(part)) + part for part in parts), hashlib.sha256)

    def _say(self, message: object) -> None:
        self._outgoing += HANDSHAKE.encode_frame(message)

    def _refuse(self, code: RefusalCode, text: str, detail: str = "") -> None:
        self.refusal = Refusal(code, text)
        self.detail = detail
        self._say(self.refusal)


def _bytes(message: object) -> bytes:
    return b"".join(HANDSHAKE.encode_body(message)[1])
