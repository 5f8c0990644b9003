"""Who may come in: bounds on accepted connections, in all, per address, and before they have proven themselves."""

from __future__ import annotations

from collections import Counter, OrderedDict

import trio

from distkit.transport.limits import Limits


class Admission:
    """Counts accepted connections. Each that `enter` lets in must `leave`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._inside: Counter[str] = Counter()
        self._strangers: OrderedDict[trio.CancelScope, None] = OrderedDict()  # oldest first

    @property
    def strangers(self) -> int:
        """Connections whose handshake is not finished."""
        return len(self._strangers)

    def enter(self, host: str) -> bool:
        """Count a connection from `host` in; False when there are too many."""
        if self._inside.total() >= self._limits.connections_max:
            return False
        if self._inside[host] >= self._limits.connections_per_ip_max:
            return False
        self._inside[host] += 1
        return True

    def leave(self, host: str) -> None:
        """Count a connection from `host` out."""
        self._inside[host] -= 1
        if self._inside[host] == 0:
            del self._inside[host]

    def begin(self, scope: trio.CancelScope) -> bool:
        """A handshake begins in `scope`. True when the oldest unfinished one gave way to it.

        A member finishes its handshake within milliseconds, so those who stand about longest are not members.
        """
        self._strangers[scope] = None
        if len(self._strangers) <= self._limits.handshakes_max:
            return False
        oldest, _ = self._strangers.popitem(last=False)
        oldest.cancel()
        return True

    def finish(self, scope: trio.CancelScope) -> None:
        """The handshake in `scope` is over."""
        self._strangers.pop(scope, None)
