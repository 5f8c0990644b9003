"""Sockets of the proxy in a trio task: try first, wait only when the kernel says so, and move bulk without copying it.

A `trio.SocketStream` yields to the scheduler on every call and locks against concurrent use; a proxy makes four calls
for each request, so that costs more than the request. Here each socket belongs to one task a direction.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

import trio

RECEIVE_BYTES = 64 * 1024
#: What moves beyond this many bytes goes through a pipe in the kernel (splice) where there is one.
SPLICE_FROM_BYTES = 256 * 1024
PIPE_BYTES = 1 << 20
#: Errors that say that this machine or process has no room for another connection, whoever is at its other end.
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
#: A peer that vanished without a word is asked after a minute at rest, and given up after another.
KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))


class Wire:
    """One connected, non-blocking socket. Errors of the other end are OSErrors; `receive` gives b"" at its end."""

    __slots__ = ("received", "sock")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        #: Bytes received so far.
        self.received = 0

    async def receive(self) -> bytes:
        """Wait for bytes; b"" when the other end has sent its last."""
        while True:
            await trio.lowlevel.wait_readable(self.sock)
            try:
                data = self.sock.recv(RECEIVE_BYTES)
            except BlockingIOError:
                continue
            self.received += len(data)
            return data

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return
        rest = memoryview(data)[sent:]
        while rest:
            await trio.lowlevel.wait_writable(self.sock)
            try:
                rest = rest[self.sock.send(rest) :]
            except BlockingIOError:
                continue

    def is_quiet(self) -> bool:
        """Nothing has arrived, not even the end: what must hold for a connection that waits for its next request."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def has_ended(self) -> bool:
        """The other end is gone, or has sent its last byte and all of it was read."""
        try:
            return self.sock.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def finish(self) -> None:
        """Tell the other end that nothing follows."""
        self._shut(socket.SHUT_WR)

    def end(self) -> None:
        """Whoever receives gets b"" now, whoever sends an error."""
        self._shut(socket.SHUT_RDWR)

    def _shut(self, how: int) -> None:
        try:
            self.sock.shutdown(how)
        except OSError:
            pass  # it is gone: whoever uses it learns so

    def close(self) -> None:
        """Close at once. May be called again."""
        self.sock.close()

    def reset(self) -> None:
        """Close so that the other end gets an error and does not take what it has for the whole."""
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        except OSError:
            pass
        self.sock.close()


async def connect(*addresses: tuple[str, int]) -> Wire:
    """Open a connection to the first of these that takes it; OSError says why none does."""
    for place, address in enumerate(addresses, 1):
        sock = trio.socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
        keep_alive(sock)
        try:
            await sock.connect(address)
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError) and place < len(addresses):
                continue
            raise
        return Wire(socket.socket(fileno=sock.detach()))
    raise OSError("a name without an address")


def keep_alive(sock: socket.socket | trio.socket.SocketType) -> None:
    """Let the kernel find out whether the other end still exists. Of a listening socket, its connections inherit it."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE:
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def move(
    source: Wire, target: Wire, count: int | None = None, turn: Callable[[Wire], None] = lambda wire: None
) -> int:
    """Carry `count` bytes (None: all until the end) from one to the other; how many there were.

    Fewer than `count` means that the source ended early. `turn` is told before each wait for whom it is. Starts
    with plain copies, which is the cheapest for little; goes on in the kernel once SPLICE_FROM_BYTES have passed.
    """
    moved = 0
    pipe: tuple[int, int] | None = None
    try:
        while count is None or moved < count:
            turn(source)
            await trio.lowlevel.wait_readable(source.sock)
            if pipe is None and moved >= SPLICE_FROM_BYTES and hasattr(os, "splice"):
                pipe = _pipe()
            wanted = PIPE_BYTES if pipe is not None else RECEIVE_BYTES
            wanted = wanted if count is None else min(wanted, count - moved)
            data = b""
            try:
                if pipe is None:
                    data = source.sock.recv(wanted)
                size = len(data) if pipe is None else _splice(source.sock.fileno(), pipe[1], wanted)
            except BlockingIOError:
                continue
            if not size:
                break
            moved += size
            source.received += size
            turn(target)
            await (target.send(data) if pipe is None else _empty(pipe[0], size, target))
        return moved
    finally:
        for end in pipe or ():
            os.close(end)


def _pipe() -> tuple[int, int] | None:
    """None when there is no room for one: copying needs none."""
    try:
        return os.pipe()
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
    return None


def _splice(source: int, target: int, size: int) -> int:
    return os.splice(source, target, size, flags=os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE)


async def _empty(pipe: int, size: int, target: Wire) -> None:
    """Carry the `size` bytes in the pipe to the target."""
    while size:
        try:
            size -= _splice(pipe, target.sock.fileno(), size)
        except BlockingIOError:
            await trio.lowlevel.wait_writable(target.sock)
