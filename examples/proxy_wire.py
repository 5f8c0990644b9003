"""Sockets of the proxy in a trio task: try first, wait only when the kernel says so, and move bulk without copying it.

A `trio.SocketStream` yields to the scheduler on every call and locks against concurrent use; a proxy makes four calls
for each request, so that costs more than the request. Here each socket belongs to one task a direction.
"""

from __future__ import annotations

import os
import socket

import trio

RECEIVE_BYTES = 64 * 1024
#: What moves beyond this many bytes goes through a pipe in the kernel (splice) where there is one.
SPLICE_FROM_BYTES = 256 * 1024
PIPE_BYTES = 1 << 20
_SPLICE = getattr(os, "splice", None)
_FLAGS = getattr(os, "SPLICE_F_NONBLOCK", 0) | getattr(os, "SPLICE_F_MOVE", 0)


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
        rest = memoryview(data)
        while True:
            try:
                sent = self.sock.send(rest)
            except BlockingIOError:
                sent = 0
            rest = rest[sent:]
            if not rest:
                return
            await trio.lowlevel.wait_writable(self.sock)

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
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it is gone: whoever reads from it learns so

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


async def connect(address: tuple[str, int]) -> Wire:
    """Open a connection; OSError says why it can't be."""
    sock = trio.socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        await sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return Wire(socket.socket(fileno=sock.detach()))


async def move(source: Wire, target: Wire, count: int | None = None) -> int:
    """Carry `count` bytes (None: all until the end) from one to the other; how many there were.

    Fewer than `count` means that the source ended early. Starts with plain copies, which is the cheapest for little;
    goes on in the kernel once SPLICE_FROM_BYTES have passed.
    """
    moved = 0
    copied_max = SPLICE_FROM_BYTES if _SPLICE is not None else None
    while (count is None or moved < count) and (copied_max is None or moved < copied_max):
        await trio.lowlevel.wait_readable(source.sock)
        try:
            data = source.sock.recv(RECEIVE_BYTES if count is None else min(RECEIVE_BYTES, count - moved))
        except BlockingIOError:
            continue
        if not data:
            return moved
        await target.send(data)
        moved += len(data)
    if count is None or moved < count:
        moved += await _splice(source, target, None if count is None else count - moved)
    source.received += moved
    return moved


async def _splice(source: Wire, target: Wire, count: int | None) -> int:
    assert _SPLICE is not None
    reader, writer = os.pipe()
    try:
        moved = 0
        while count is None or moved < count:
            await trio.lowlevel.wait_readable(source.sock)
            wanted = PIPE_BYTES if count is None else min(PIPE_BYTES, count - moved)
            try:
                waiting = _SPLICE(source.sock.fileno(), writer, wanted, flags=_FLAGS)
            except BlockingIOError:
                continue
            if not waiting:
                break
            moved += waiting
            while waiting:
                try:
                    waiting -= _SPLICE(reader, target.sock.fileno(), waiting, flags=_FLAGS)
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(target.sock)
        return moved
    finally:
        os.close(reader)
        os.close(writer)
