"""SWIM's messages as datagrams: encrypted and authenticated with a key that all members share, or in the clear.

    magic u16 | version u8 | key id u8 | nonce (12) | ChaCha20-Poly1305 of: kind u16, body | tag (16)
    magic u16 | version u8 | 0         | crc u32    | kind u16, body                                     without a key

The header and the name of the cluster are authenticated too, so members of two clusters with one key do not mix. What
an outsider sends is refused before anything in it is parsed. `docs/formats.md` has it byte for byte.

A recorded packet may be sent again by anybody. That changes little: claims hold by incarnation, and old ones lose;
answers count by their number; a request makes a node send one or two packets of the usual size to whoever sent it. A
member that everyone has forgotten can be made to look alive by an old claim, until it is found dead once more.

Nonces are random. With one key, two of 2^32 packets have the same one with probability 2^-33: change the key before
that. A group of 1,000 at rest sends as many in two weeks.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from distkit._fast.codec import crc32c
from distkit.codec import Registry
from distkit.core import LocalError, PeerError
from distkit.membership.swim.messages import MESSAGES, PARTS, check_message

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

#: A shorter key is refused.
KEY_BYTES_MIN: Final = 32
#: Bytes of a nonce.
NONCE_BYTES: Final = 12
#: Bytes of the name of a cluster, in UTF-8.
CLUSTER_BYTES_MAX: Final = 255

_MAGIC: Final = 0xD15D
_VERSION: Final = 1
_HEADER: Final = struct.Struct("<HBB")
_KIND: Final = struct.Struct("<H")
_CRC: Final = struct.Struct("<I")
_TAG_BYTES: Final = 16
_SEALED_BYTES_MIN: Final = _HEADER.size + NONCE_BYTES + _KIND.size + _TAG_BYTES
_CLEAR_BYTES_MIN: Final = _HEADER.size + _CRC.size + _KIND.size
_REGISTRY: Final = Registry(MESSAGES, parts=PARTS)


class Outsider(PeerError):
    """A datagram that no member of this cluster sent, or that was changed on its way. Nothing in it was looked at."""


class Packets:
    """Seals and opens the datagrams of one cluster.

    The first of `keys` (32 secret bytes or more each) encrypts, all of them decrypt. To change the key of a running
    cluster: give every node the new one in second place, then in first place, then take the old one away. `nonces`
    returns 12 random bytes at each call, such as `lambda: os.urandom(12)`. Without keys packets are in the clear: their
    checksum finds damage and other clusters, it stops nobody.

    LocalError: a key is too short, or the package `cryptography` is missing.
    """

    def __init__(self, cluster: str, keys: Sequence[bytes], nonces: Callable[[], bytes]) -> None:
        name = cluster.encode()
        if not 0 < len(name) <= CLUSTER_BYTES_MAX:
            raise LocalError(f"the name of a cluster has 1 to {CLUSTER_BYTES_MAX} bytes: {cluster!r}")
        self._cluster = name
        self._nonces = nonces
        #: By key id; two keys may have the same.
        self._ciphers: dict[int, list[ChaCha20Poly1305]] = {}
        for key in keys:
            self._ciphers.setdefault(_key_id(key), []).append(_cipher(key))
        key_id = _key_id(keys[0]) if keys else 0
        self._header = _HEADER.pack(_MAGIC, _VERSION, key_id)
        self._cipher = self._ciphers[key_id][0] if keys else None

    def seal(self, message: Any) -> bytes:
        """The datagram of a message. LocalError: it can't be encoded."""
        kind, body = _REGISTRY.encode_body(message)
        content = b"".join((_KIND.pack(kind), *body))
        header = self._header
        if self._cipher is None:
            return b"".join((header, _CRC.pack(self._crc(header, content)), content))
        nonce = self._nonces()
        return b"".join((header, nonce, self._cipher.encrypt(nonce, content, header + self._cluster)))

    def open(self, datagram: bytes) -> Any:
        """The message in a datagram. Outsider: it is not of this cluster. PeerError: of this cluster, but nonsense."""
        if len(datagram) < _CLEAR_BYTES_MIN:
            raise Outsider("too short for a datagram of distkit")
        magic, version, key_id = _HEADER.unpack_from(datagram)
        if magic != _MAGIC or version != _VERSION:
            raise Outsider(f"not a datagram of distkit, version {_VERSION} (magic {magic:#06x}, version {version})")
        content = self._decrypted(key_id, datagram) if self._ciphers else self._checked(key_id, datagram)
        (kind,) = _KIND.unpack_from(content)
        message = _REGISTRY.decode_body(kind, content, _KIND.size)
        check_message(message)
        return message

    def _decrypted(self, key_id: int, datagram: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag  # there are ciphers, so it is installed

        nonce = datagram[_HEADER.size : _HEADER.size + NONCE_BYTES]
        sealed = datagram[_HEADER.size + NONCE_BYTES :]
        if len(datagram) >= _SEALED_BYTES_MIN:
            for cipher in self._ciphers.get(key_id, ()):
                try:
                    return cipher.decrypt(nonce, sealed, datagram[: _HEADER.size] + self._cluster)
                except InvalidTag:
                    continue
        raise Outsider("no key of this cluster opens the datagram")

    def _checked(self, key_id: int, datagram: bytes) -> bytes:
        content = datagram[_HEADER.size + _CRC.size :]
        (crc,) = _CRC.unpack_from(datagram, _HEADER.size)
        if key_id != 0 or crc != self._crc(datagram[: _HEADER.size], content):
            raise Outsider("the datagram is encrypted, damaged or of another cluster")
        return content

    def _crc(self, header: bytes, content: bytes) -> int:
        return crc32c(b"".join((header, bytes((len(self._cluster),)), self._cluster, content)))


def _key_id(key: bytes) -> int:
    """1 to 255, says nothing about the key that helps to guess it; 0 is no key."""
    if not isinstance(key, bytes) or len(key) < KEY_BYTES_MIN:
        raise LocalError(f"a key has at least {KEY_BYTES_MIN} bytes: head -c 32 /dev/urandom > FILE")
    return 1 + int.from_bytes(_derived(key, b"distkit datagram key id")[:8], "little") % 255


def _cipher(key: bytes) -> ChaCha20Poly1305:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    except ImportError:
        raise LocalError("encrypted membership needs a package: pip install 'distkit[membership]'") from None
    return ChaCha20Poly1305(_derived(key, b"distkit datagram"))


def _derived(key: bytes, purpose: bytes) -> bytes:
    """32 bytes for one purpose, so that one secret may serve for several."""
    return hmac.new(key, purpose, hashlib.sha256).digest()
