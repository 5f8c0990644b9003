"""Making connections: sockets out and in, and the handshake over them."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

import trio

from distkit.core import LocalError, PeerError
from distkit.transport.addresses import join_address, split_address
from distkit.transport.credentials import CertificateNames
from distkit.transport.hello import Handshake, Refusal, RefusalCode
from distkit.transport.wire import Disconnected, Wire

#: Connections that wait in the kernel to be accepted.
_BACKLOG = 128
#: How long to wait after a failed accept.
_ACCEPT_PAUSE = 0.1
#: Errors of accept that are about the listening socket itself.
_FATAL = (errno.EBADF, errno.EINVAL, errno.ENOTSOCK)


class HandshakeRefused(PeerError):
    """One end refused the other. `by_peer`: the other one did; `authenticated`: it had proven itself before."""

    def __init__(self, handshake: Handshake, refusal: Refusal) -> None:
        who = "the other end refused" if handshake.refused_by_peer else "refused"
        detail = f" ({handshake.detail})" if handshake.detail else ""
        super().__init__(f"{who}: {RefusalCode(refusal.code).name}: {refusal.text!r}{detail}")
        self.refusal = refusal
        self.by_peer = handshake.refused_by_peer
        self.peer = handshake.peer


async def shake_hands(wire: Wire, begin: Callable[[CertificateNames | None], Handshake]) -> Handshake:
    """Run the handshake made by `begin` over a new connection. HandshakeRefused or Disconnected when it fails."""
    await wire.start()
    handshake = begin(wire.names())
    while True:
        await wire.send_all(handshake.take())
        if handshake.refusal is not None:
            raise HandshakeRefused(handshake, handshake.refusal)
        if handshake.done:
            return handshake
        data = await wire.receive_some()
        if not data:
            raise Disconnected("closed by the other end during the handshake", "reset")
        handshake.receive(data)


async def dial(address: str) -> socket.socket:
    """A connected socket to HOST:PORT. OSError when no address of the host answers."""
    host, port = split_address(address)
    failure: OSError = OSError(f"no address for {host}")
    for family, kind, protocol, _, target in await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            await _connect(sock, target)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


async def _connect(sock: socket.socket, target: Any) -> None:
    _prepare(sock)
    code = sock.connect_ex(target)
    if code == errno.EINPROGRESS:
        await trio.lowlevel.wait_writable(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


def _prepare(sock: socket.socket) -> None:
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Listener:
    """A bound socket; `address` is the real HOST:PORT. LocalError when the address cannot be bound."""

    def __init__(self, listen: str) -> None:
        host, port = split_address(listen)
        try:
            family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self._sock = socket.socket(family, kind, protocol)
        except OSError as error:
            raise LocalError(f"cannot listen on {listen}: {error.strerror or error}") from None
        try:
            self._sock.setblocking(False)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._sock.bind(target)
            self._sock.listen(_BACKLOG)
        except OSError as error:
            self._sock.close()
            raise LocalError(f"cannot listen on {listen}: {error.strerror or error}") from None
        self.address = join_address(*self._sock.getsockname()[:2])

    async def accept(self) -> tuple[socket.socket, str]:
        """Wait for a connection; its socket, and the host that it came from."""
        await trio.lowlevel.checkpoint()  # so that a flood of connections leaves the other tasks their turn
        while True:
            try:
                sock, source = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                await trio.lowlevel.wait_readable(self._sock)
            except OSError as error:
                if error.errno in _FATAL:
                    raise
                # The connection broke before it was taken, or there are no file descriptors left.
                await trio.sleep(_ACCEPT_PAUSE)
            else:
                try:
                    _prepare(sock)
                except OSError:
                    sock.close()  # it broke already
                else:
                    return sock, source[0]

    def close(self) -> None:
        """Stop listening; nobody may be waiting in `accept`."""
        self._sock.close()
