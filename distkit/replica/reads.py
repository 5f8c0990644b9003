"""Linearizable reads: ask the machine for a read index, then wait until that much is applied.

A read changes nothing, so it is asked for again after each refusal that another leader may lift.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from distkit.core import Outcome, Reason, Reply, RoleName
from distkit.raft import Raft
from distkit.replica.records import ReplicaOptions, ReplicaReply

_INFINITY = float("inf")
_ASK_AGAIN = (Reason.NOT_LEADER, Reason.LEADER_CHANGED)


class Reads:
    """Open reads of this node. All that arrive between two flushes share one ticket of the machine."""

    __slots__ = ("_asked", "_held", "_options", "_raft", "_retry_at", "_waiting", "open", "open_high", "replies")

    def __init__(self, raft: Raft, options: ReplicaOptions) -> None:
        self._raft = raft
        self._options = options
        self._held: list[int] = []
        self._retry_at = 0.0
        self._asked: dict[int, list[int]] = {}
        self._waiting: list[tuple[int, int, list[int]]] = []
        self.open = self.open_high = 0
        self.replies: list[ReplicaReply] = []

    def add(self, ticket: int) -> None:
        """Take a read; it is asked for by the next flush."""
        if self.open >= self._options.reads_max:
            self.replies.append(ReplicaReply(ticket, Outcome.REFUSED, reason=Reason.BUSY, leader=self._raft.leader))
            return
        self.open += 1
        self._held.append(ticket)

    def cancel(self, ticket: int) -> bool:
        """Drop a read that is still held."""
        if ticket not in self._held:
            return False
        self._held.remove(ticket)
        self.open -= 1
        return True

    def place(self, now: float, next_ticket: Iterator[int]) -> None:
        """Ask the machine for one read index for all that is held, if there is a leader."""
        if self._held and now >= self._retry_at and self._askable():
            self.open_high = max(self.open_high, self.open)
            ticket = next(next_ticket)
            self._asked[ticket], self._held = self._held, []
            self._raft.read(now, ticket)

    def replied(self, now: float, reply: Reply) -> bool:
        """The machine ended a ticket; whether it was one of reads."""
        tickets = self._asked.pop(reply.ticket, None)
        if tickets is None:
            return False
        if reply.outcome is Outcome.READABLE:
            heapq.heappush(self._waiting, (reply.index, reply.ticket, tickets))
        elif reply.reason in _ASK_AGAIN:
            self._held = tickets + self._held
            self._retry_at = now + self._options.retry_interval
        else:
            self.open -= len(tickets)
            self.replies += [
                ReplicaReply(ticket, reply.outcome, reason=reply.reason, leader=reply.leader) for ticket in tickets
            ]
        return True

    def applied(self, index: int) -> None:
        """The state is at `index`: reads that waited for no more than that can be made."""
        while self._waiting and self._waiting[0][0] <= index:
            _, _, tickets = heapq.heappop(self._waiting)
            self.open -= len(tickets)
            self.replies += [ReplicaReply(ticket, Outcome.READABLE, index) for ticket in tickets]

    def leader_known(self) -> None:
        """There is a leader: ask again at once."""
        self._retry_at = 0.0

    def deadline(self) -> float:
        """When to call `place` next."""
        return self._retry_at if self._held and self._askable() else _INFINITY

    def _askable(self) -> bool:
        return self._raft.role is RoleName.LEADER or self._raft.leader != 0
