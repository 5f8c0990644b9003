"""The PROXY protocol, version 2: who the client is, told before its first byte.

Binary header of the specification of HAProxy ("The PROXY protocol", section 2.2): 12 bytes of signature, version and
command, family, length, addresses; what follows the addresses (TLVs) is skipped. Only a peer that is trusted may send
it: the proxy reads it only on listeners that say so, and then requires it.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

from distkit import LocalError

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
HEADER_BYTES = 16
#: Addresses of the longest kind that is understood, and room for what others add.
BODY_BYTES_MAX = 2048
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21


class Source(NamedTuple):
    """Both ends of the client's connection, as the sender of the header saw them."""

    host: str
    port: int
    target_host: str
    target_port: int


class ProxyProtocolError(Exception):
    """The bytes are no header of version 2."""


def encode(source: Source | None) -> bytes:
    """The header. None says that the connection is the proxy's own (a health check)."""
    if source is None:
        return SIGNATURE + struct.pack("!BBH", _LOCAL, 0, 0)
    here, there = ipaddress.ip_address(source.host), ipaddress.ip_address(source.target_host)
    if here.version != there.version:
        raise LocalError(f"one family of addresses is needed, not {here} and {there}")
    body = here.packed + there.packed + struct.pack("!HH", source.port, source.target_port)
    return SIGNATURE + struct.pack("!BBH", _PROXY, _TCP4 if here.version == 4 else _TCP6, len(body)) + body


def decode(data: bytes) -> tuple[Source | None, int] | None:
    """What the header at the start of `data` says, and how long it is; None while more bytes are needed.

    The source is None when the sender speaks for itself (LOCAL) or for a family that is not TCP over IP.
    """
    if not SIGNATURE.startswith(data[:12]):
        raise ProxyProtocolError("no signature of the PROXY protocol, version 2")
    if len(data) < HEADER_BYTES:
        return None
    command, family, size = struct.unpack_from("!BBH", data, 12)
    if command not in (_LOCAL, _PROXY):
        raise ProxyProtocolError(f"version and command {command:#x} are unknown")
    if size > BODY_BYTES_MAX:
        raise ProxyProtocolError(f"{size} bytes of addresses, more than {BODY_BYTES_MAX}")
    end = HEADER_BYTES + size
    if len(data) < end:
        return None
    if command == _LOCAL or family not in (_TCP4, _TCP6):
        return None, end
    width = 4 if family == _TCP4 else 16
    if size < 2 * width + 4:
        raise ProxyProtocolError(f"{size} bytes hold no two addresses")
    here, there = data[16 : 16 + width], data[16 + width : 16 + 2 * width]
    ports = struct.unpack_from("!HH", data, 16 + 2 * width)
    return Source(str(ipaddress.ip_address(here)), ports[0], str(ipaddress.ip_address(there)), ports[1]), end
