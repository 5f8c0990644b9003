"""HOST:PORT, also with an IPv6 host in brackets: ``[::1]:7101``."""

from __future__ import annotations

import ipaddress

from distkit.core import LocalError


def split_address(address: str) -> tuple[str, int]:
    """Host (without brackets) and port. LocalError says what is wrong."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise LocalError(f"an address must be HOST:PORT, not {address!r}")
    try:
        host.encode("idna")  # what a look-up will do
    except UnicodeError:
        raise LocalError(f"{host!r} cannot be the name of a host") from None
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], int(port)
    if ":" in host:
        raise LocalError(f"an IPv6 host must stand in brackets: [{host}]:{port}")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """The opposite of `split_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether the host is this machine for certain. Names other than localhost may point anywhere, so they are not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
