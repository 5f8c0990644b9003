"""One UDP socket: datagrams to and from addresses that are texts. Nothing is queued here but what the system queues.

Only numeric addresses are sent to, because looking up a name would block. A datagram that can't be sent at once, or
that the system refuses, is dropped and counted: whoever uses datagrams expects that.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections import Counter

import trio

from distkit.core import LocalError
from distkit.transport.addresses import is_loopback, join_address, split_address

#: Datagrams that are read before other tasks have their turn.
BATCH_MAX = 64
#: The longest that UDP carries.
DATAGRAM_BYTES_MAX = 65507
#: Addresses whose parts are remembered.
_KNOWN_MAX = 8192


class Datagrams:
    """Bound by `bind`. With `loopback_only` nothing is sent beyond this machine, whatever address peers tell.

    `drops` counts, by reason, what was not sent or not taken.
    """

    def __init__(self, *, loopback_only: bool, bytes_max: int = DATAGRAM_BYTES_MAX) -> None:
        self._loopback_only = loopback_only
        self._bytes_max = bytes_max
        self._sock: socket.socket | None = None
        self._targets: dict[str, tuple[str, int] | None] = {}
        self.drops: Counter[str] = Counter()
        self.sent = 0
        self.received = 0

    def bind(self, address: str) -> str:
        """Listen on HOST:PORT with a numeric host or `localhost`; port 0 takes a free one. The address that it became.

        LocalError: the address can't be used.
        """
        host, port = split_address(address)
        try:
            # Names are looked up here, once, before anything runs.
            family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            sock = socket.socket(family, socket.SOCK_DGRAM)
        except OSError as error:
            raise LocalError(f"{address} can't be used: {error.strerror or error}") from None
        try:
            sock.setblocking(False)
            sock.bind(place)
        except OSError as error:
            sock.close()
            raise LocalError(f"can't listen on {address} (UDP): {error.strerror or error}") from None
        self._sock = sock
        found = sock.getsockname()
        return join_address(found[0], found[1])

    def close(self) -> None:
        """Listen no more. Repeats are harmless."""
        if self._sock is not None:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()
            self._sock = None

    def send(self, address: str, data: bytes) -> bool:
        """Send a datagram now, or drop it: False."""
        target = self._target(address)
        if target is None:
            self.drops["bad_address"] += 1
            return False
        try:
            self._open().sendto(data, target)
        except BlockingIOError:
            self.drops["send_buffer_full"] += 1
            return False
        except OSError as error:
            self.drops[errno.errorcode.get(error.errno or 0, "send_error")] += 1
            return False
        self.sent += 1
        return True

    async def wait(self) -> None:
        """Wait until something may have arrived. trio.ClosedResourceError: `close` was called."""
        await trio.lowlevel.wait_readable(self._open())

    def take(self) -> list[tuple[str, bytes]]:
        """What has arrived, at most BATCH_MAX datagrams: (source, content). Does not wait."""
        sock, found = self._open(), []
        for _ in range(BATCH_MAX):
            try:
                data, source = sock.recvfrom(DATAGRAM_BYTES_MAX + 1)
            except BlockingIOError:
                break
            except OSError as error:  # an earlier send was answered by an error
                self.drops[errno.errorcode.get(error.errno or 0, "receive_error")] += 1
                continue
            self.received += 1
            if len(data) > self._bytes_max:
                self.drops["too_long"] += 1
                continue
            found.append((join_address(source[0], source[1]), data))
        return found

    def _open(self) -> socket.socket:
        if self._sock is None:
            raise trio.ClosedResourceError("the socket is closed")
        return self._sock

    def _target(self, address: str) -> tuple[str, int] | None:
        """Host and port, None: it can't be sent to."""
        if address not in self._targets:
            if len(self._targets) >= _KNOWN_MAX:
                self._targets.clear()
            self._targets[address] = self._parsed(address)
        return self._targets[address]

    def _parsed(self, address: str) -> tuple[str, int] | None:
        try:
            host, port = split_address(address)
            ipaddress.ip_address(host)
        except (LocalError, ValueError):
            return None
        if port == 0 or (self._loopback_only and not is_loopback(host)):
            return None
        return host, port


def is_numeric(address: str) -> bool:
    """Whether an address needs no look-up and names one host: no wildcard, no port 0."""
    host, port = split_address(address)
    try:
        return port != 0 and not ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


async def look_up(address: str) -> list[str]:
    """The numeric addresses behind HOST:PORT. An empty list: the name is not known (now)."""
    host, port = split_address(address)
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError:
        return []
    return list(dict.fromkeys(join_address(str(place[0]), port) for *_, place in found))
