#!/usr/bin/env python3
"""kv_server with a lie: it says OK to a write at once and proposes it a little later. The demo must catch it.

python examples/demo.py --lie          # or: make demo-lie
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import kv_server
import trio

from distkit.core import Outcome
from distkit.replica import ReplicaReply

#: Seconds between the lie and the attempt to make it true.
DELAY = 0.05


class LyingService(kv_server.Service):
    """Acknowledges before commit."""

    def propose(self, entry: bytes, done: Callable[[ReplicaReply], None]) -> None:
        """Answer first, propose later."""
        token = trio.lowlevel.current_trio_token()
        token.run_sync_soon(self._lie, done)
        trio.lowlevel.spawn_system_task(self._propose_later, entry)

    def _lie(self, done: Callable[[ReplicaReply], None]) -> None:
        done(ReplicaReply(0, Outcome.COMMITTED, 1, b"+OK\r\n"))
        assert self.hub is not None
        self.hub.wake()

    async def _propose_later(self, entry: bytes) -> None:
        await trio.sleep(DELAY)
        self.replica.propose_soon(entry, lambda _reply: None)
        self.replica.flush()


if __name__ == "__main__":
    kv_server.Service = LyingService  # type: ignore[misc]
    sys.exit(kv_server.main())
