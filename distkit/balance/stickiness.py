"""Stickiness: the endpoint that served a client, written into a cookie so that its next request goes there too.

A pure codec, in the line of Envoy's stateful session. With keys the value is authenticated (HMAC-SHA256, cut to 128
bits, over the name of the cluster, the expiry and the id): what this cluster did not write is nobody's. Without keys it
is the plain id, and any client can choose the endpoint that it talks to; that is fine where endpoints are equal and ids
are no secret. Either way the id is only a wish: the balancer follows it (`Context.override`) as long as the endpoint is
known and its gate is open.

    value:  version "1" . expiry (seconds since 1970, "0": never) . id . mac        id and mac in base64url
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence

from distkit.balance.endpoints import TEXT_MAX
from distkit.core import LocalError

_VERSION = "1"
_MAC_BYTES = 16
_KEY_BYTES_MIN = 16
_EXPIRY_MAX = 1 << 53
#: Longer values than an id can make are not looked at.
VALUE_MAX = 4 * TEXT_MAX * 4 // 3 + 64


class Sticky:
    """Writes and reads the values of one cluster.

    `keys`, of at least 16 bytes each: the first one signs, all are accepted, so keys can be replaced without losing
    anybody. No keys: plain ids.
    """

    def __init__(self, cluster: str, keys: Sequence[bytes] = ()) -> None:
        for key in keys:
            if not isinstance(key, bytes) or len(key) < _KEY_BYTES_MIN:
                raise LocalError(
                    f"a key must be at least {_KEY_BYTES_MIN} bytes: make one with secrets.token_bytes(32)"
                )
        self._cluster = cluster.encode()
        self._keys = tuple(keys)

    def write(self, id: str, expiry: int = 0) -> str:
        """The value that leads back to the endpoint, until `expiry` (seconds since 1970; 0: for ever)."""
        if not isinstance(id, str) or not 0 < len(id) <= TEXT_MAX:
            raise LocalError(f"an id is text of 1 to {TEXT_MAX} characters, not {str(id)[:80]!r}")
        if type(expiry) is not int or not 0 <= expiry < _EXPIRY_MAX:
            raise LocalError(f"expiry must be whole seconds since 1970, not {expiry!r}")
        raw = id.encode("utf-8", "surrogatepass")
        mac = _text(self._mac(self._keys[0], expiry, raw)) if self._keys else ""
        return f"{_VERSION}.{expiry}.{_text(raw)}.{mac}"

    def read(self, value: str, now: int = 0) -> str | None:
        """The id in a value that this cluster wrote; None for every other value, and after its expiry.

        `now` is the wall clock in seconds since 1970. Never raises: values come from clients.
        """
        if not isinstance(value, str) or len(value) > VALUE_MAX or not value.isascii():
            return None
        parts = value.split(".")
        if len(parts) != 4 or parts[0] != _VERSION or not parts[1].isdigit() or len(parts[1]) > 16:
            return None
        expiry, raw, mac = int(parts[1]), _bytes(parts[2]), _bytes(parts[3])
        if not raw or mac is None or str(expiry) != parts[1]:
            return None
        if not self._genuine(expiry, raw, mac) or (expiry and now >= expiry):
            return None
        try:
            return raw.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return None

    def _genuine(self, expiry: int, raw: bytes, mac: bytes) -> bool:
        if not self._keys:
            return not mac
        # Every key is tried, so that time does not tell which one fits.
        fits = [hmac.compare_digest(self._mac(key, expiry, raw), mac) for key in self._keys]
        return any(fits)

    def _mac(self, key: bytes, expiry: int, raw: bytes) -> bytes:
        cluster = len(self._cluster).to_bytes(4, "little") + self._cluster
        content = b"distkit sticky 1" + cluster + expiry.to_bytes(8, "little") + raw
        return hmac.digest(key, content, "sha256")[:_MAC_BYTES]


def read_cookie(header: str, name: str) -> str | None:
    """The first cookie of this name in a Cookie header (RFC 6265, section 5.4), or None."""
    for pair in header.split(";"):
        found, equals, value = pair.partition("=")
        if equals and found.strip(" \t") == name:
            return value.strip(' \t"')
    return None


def write_cookie(name: str, value: str, path: str = "/", max_age: int = 0, secure: bool = False) -> str:
    """A Set-Cookie header that scripts can't read; `max_age` in seconds, 0: as long as the browser runs."""
    for part, forbidden in ((name, '=;," \t'), (value, ';," \t'), (path, ";")):
        if not part.isascii() or not part.isprintable() or any(letter in forbidden for letter in part):
            raise LocalError(f"{part!r} can't be part of a cookie")
    if not name:
        raise LocalError("a cookie needs a name")
    age = f"; Max-Age={max_age}" if max_age else ""
    return f"{name}={value}; Path={path}{age}; HttpOnly; SameSite=Lax" + ("; Secure" if secure else "")


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes | None:
    """What `_text` made into this, or None if it made nothing of the kind: each value has one spelling only."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if _text(raw) == text else None
