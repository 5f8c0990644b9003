"""Bytes over a connected socket, plain or in TLS, with the non-blocking call first.

Waiting costs far more than the call itself, so `recv` and `send` try at once and say so when they would block; only
then does anybody wait. TLS runs over memory buffers, so that the same holds for it.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections import deque
from itertools import islice
from typing import Any

import trio

from distkit.core import DistkitError
from distkit.transport.credentials import CertificateNames

READ_BYTES = 64 << 10
#: Buffers in one system call; Linux takes up to 1,024.
_BUFFERS_MAX = 256
#: Plaintext that is encrypted at once: small enough to be sent soon, large enough for whole TLS records.
_SEAL_BYTES = 64 << 10


#: What waits to be sent. A buffer that went out in part stays as a view of its rest.
Outbox = deque[bytes | memoryview]


class Disconnected(DistkitError):
    """A connection is gone. `reason`: "reset" (closed or reset by the other end), "timeout" or "nonsense"."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def _disconnected(error: OSError) -> Disconnected:
    """What an error of the socket or of TLS means for the connection."""
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        return Disconnected(f"TLS failed: {error.reason or error}", "nonsense")
    silent = error.errno in (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)
    return Disconnected(f"connection broken: {error}", "timeout" if silent else "reset")


class Wire:
    """A plain connection. One task reads, one writes; `send` may also be called from anywhere else.

    Raises Disconnected when the connection is broken. `taken` counts the bytes that `send` took.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.taken = 0
        self._sock = sock
        self._exhausted = False  # the last read got less than it asked for, so another one now would get nothing

    def recv(self) -> bytes | None:
        """What has arrived; None when one has to wait for it, b"" at the end of the stream."""
        if self._exhausted:
            self._exhausted = False
            return None
        try:
            data = self._sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise _disconnected(error) from error
        self._exhausted = 0 < len(data) < READ_BYTES
        return data

    def send(self, outbox: Outbox) -> bool:
        """Take from `outbox` what the connection takes now; True when nothing is left."""
        while outbox:
            sent = self._send_once(outbox)
            if sent is None:
                return False
            self.taken += sent
        return True

    def _send_once(self, outbox: Outbox) -> int | None:
        """One system call: how many bytes it took off `outbox`, None when it would block."""
        try:
            if len(outbox) == 1:
                sent = self._sock.send(outbox[0])
            else:
                sent = self._sock.sendmsg(islice(outbox, _BUFFERS_MAX))
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise _disconnected(error) from error
        left = sent
        while left:
            buffer = outbox.popleft()
            if len(buffer) > left:
                outbox.appendleft(memoryview(buffer)[left:])
                break
            left -= len(buffer)
        return sent

    def names(self) -> CertificateNames | None:
        """Names in the other end's certificate, None without TLS."""
        return None

    async def start(self) -> None:
        """Do what must be done before the first byte."""

    async def wait_writable(self) -> None:
        """Wait until `send` gets on."""
        await trio.lowlevel.wait_writable(self._sock)

    async def receive_some(self) -> bytes:
        """Wait for bytes; b"" at the end of the stream."""
        while (data := self.recv()) is None:
            await trio.lowlevel.wait_readable(self._sock)
        return data

    async def send_all(self, *buffers: bytes) -> None:
        """Send everything, waiting as long as it takes."""
        outbox: Outbox = deque(filter(None, buffers))
        while not self.send(outbox):
            await self.wait_writable()

    def close(self) -> None:
        """Close the socket; whoever waits on it gets trio.ClosedResourceError."""
        if self._sock.fileno() != -1:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()


class TlsWire(Wire):
    """A connection in TLS."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_side: bool) -> None:
        super().__init__(sock)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._sealed: Outbox = deque()  # encrypted, not sent yet

    def recv(self) -> bytes | None:
        data = super().recv()
        if data is not None:
            self._feed(data)
        elif not self._incoming.pending:  # the handshake may have left the beginning of the stream there
            return None
        opened = []
        try:
            while piece := self._tls.read(READ_BYTES):
                opened.append(piece)
                if not self._incoming.pending:
                    break  # a read takes a whole record, so there is no more
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            data = b""
        except ssl.SSLError as error:
            self._send_sealed()  # the alert, which tells the other end why
            raise _disconnected(error) from error
        self._send_sealed()  # TLS may have to answer for itself (a new key)
        if opened:
            return b"".join(opened)  # an end of the stream is met again by the next call
        self._exhausted = False
        return b"" if data == b"" else None

    def _feed(self, data: bytes) -> None:
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def send(self, outbox: Outbox) -> bool:
        while self._send_sealed():
            if not outbox:
                return True
            data = _gathered(outbox)
            try:
                self._tls.write(data)
            except ssl.SSLError as error:
                raise _disconnected(error) from error
            self.taken += len(data)
        return False

    def _send_sealed(self) -> bool:
        if self._outgoing.pending:
            self._sealed.append(self._outgoing.read())
        while self._sealed:
            if self._send_once(self._sealed) is None:
                return False
        return True

    def names(self) -> CertificateNames | None:
        certificate: dict[str, Any] = self._tls.getpeercert() or {}
        return frozenset(certificate.get("subjectAltName", ()))

    async def start(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._send_all_sealed()
                while (data := super().recv()) is None:
                    await trio.lowlevel.wait_readable(self._sock)
                self._feed(data)
            except ssl.SSLError as error:
                self._send_sealed()  # the alert, which tells the other end why
                raise _disconnected(error) from error
            else:
                await self._send_all_sealed()
                return

    async def _send_all_sealed(self) -> None:
        while not self._send_sealed():
            await self.wait_writable()


def _gathered(outbox: Outbox) -> bytes | memoryview:
    """Small buffers joined up to one helping, or one large buffer as it is."""
    first = outbox.popleft()
    if not outbox or len(first) >= _SEAL_BYTES:
        return first
    pieces, size = [first], len(first)
    while outbox and size < _SEAL_BYTES:
        pieces.append(outbox.popleft())
        size += len(pieces[-1])
    return b"".join(pieces)
