"""TCP through the proxy: pick an endpoint when a client comes, then carry bytes both ways until both have ended."""

from __future__ import annotations

import time

import trio
from proxy_http import relay
from proxy_protocol import Source
from proxy_upstream import Attempt, Upstream, unreached
from proxy_wire import Wire

from distkit.balance import Outcome


class TcpClient:
    """One connection of a client. It has no limit of time: what its protocol takes for idle is not known here."""

    __slots__ = ("_upstream", "_wire", "draining", "scope", "source")

    def __init__(self, wire: Wire, source: Source, upstream: Upstream) -> None:
        self._wire = wire
        self._upstream = upstream
        self.source = source
        self.draining = False
        self.scope = trio.CancelScope()

    #: A connection may be at rest without being over.
    idle = False

    def sweep(self, now: float) -> None:
        """Whoever leaves is noticed by reading, whoever vanishes by the kernel (`keep_alive`)."""

    def route(self, upstream: Upstream) -> None:
        """A connection stays where it is."""

    async def serve(self, first: bytes = b"") -> None:
        """Carry bytes until both sides have ended; a client that nobody can take is reset."""
        upstream = self._upstream
        upstream.counters.requests += 1
        upstream.active += 1
        try:
            with self.scope:
                attempt = upstream.first_attempt(self.source, None)
                while attempt.pick():
                    try:
                        if await self._attempt(attempt, first):
                            return
                    finally:
                        attempt.done()
                    if not attempt.next():
                        break
                self._wire.reset()
        finally:
            upstream.active -= 1
            self._wire.close()

    async def _attempt(self, attempt: Attempt, first: bytes) -> bool:
        """Whether an endpoint was reached; then all is done."""
        try:
            wire = await attempt.upstream.connect(attempt.endpoint, self.source)
        except (OSError, trio.TooSlowError) as error:
            attempt.outcome = unreached(error)
            return False
        attempt.outcome = Outcome.OK
        attempt.answered = time.monotonic()  # how long the connection then lasts is the client's affair
        try:
            await wire.send(first)
            await relay(self._wire, wire)
        except OSError:
            self._wire.reset()  # who broke it can't be told; both learn that something is missing
        finally:
            wire.close()
        return True
