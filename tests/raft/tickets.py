"""What must hold of the tickets of bare machines, beside the ledger of their group: each ends once, and rightly.

(Of replicas the clients of the simulator judge it: no machine is asked directly there.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distkit.core import Outcome, Reply
from distkit.sim.broken import require
from distkit.sim.raft_ledger import Ledger, View


class TicketLedger(Ledger):
    """The ledger, with what was asked of the machines and what they replied."""

    def __init__(self, nodes: Mapping[int, Any], voters: int) -> None:
        super().__init__(nodes, voters)
        self.floors: dict[int, int] = {}  #: read ticket -> what its index must reach
        self.commands: dict[int, tuple[bytes, ...]] = {}  #: proposal ticket -> commands
        self.replies: dict[int, Reply] = {}
        #: Nodes whose disk lost what was durable and that came back all the same: what they owe can't be relied on.
        self.lost_tails: set[int] = set()

    def _matches(self, node: View) -> None:
        if not self.lost_tails:
            super()._matches(node)

    def replied(self, reply: Reply) -> None:
        """The machine ended a ticket."""
        ticket = reply.ticket
        require(ticket not in self.replies, "tickets", "second reply to ticket", ticket, reply)
        self.replies[ticket] = reply
        if ticket in self.floors:
            ended = reply.outcome in (Outcome.READABLE, Outcome.REFUSED, Outcome.LOST)
            require(ended, "tickets", "not an end of a read:", reply)
            if reply.outcome is Outcome.READABLE:
                require(reply.index >= self.floors[ticket], "stale read", reply, "floor", self.floors[ticket])
        elif ticket in self.commands and reply.outcome is Outcome.COMMITTED:
            found = self.contents(range(reply.first, reply.index + 1))
            require(found == self.commands[ticket], "tickets", "committed something else for ticket", ticket, found)
            require(self.committed[reply.index] == reply.term, "tickets", "committed in another term", reply)

    def contents(self, indexes: range) -> tuple[bytes, ...]:
        """Payloads of committed entries."""
        require(indexes.stop <= len(self.committed), "tickets", "not committed:", indexes)
        return tuple(self.entries[index, self.committed[index]][2] for index in indexes)

    def finish(self) -> None:
        """At the end of a run: what was said not to be done was not done."""
        done = {self.entries[at][2] for at in enumerate(self.committed) if at in self.entries}
        for ticket, commands in self.commands.items():
            reply = self.replies.get(ticket)
            if reply is not None and reply.outcome in (Outcome.REFUSED, Outcome.SUPERSEDED):
                undone = done.isdisjoint(commands)
                require(undone, "tickets", "ticket", ticket, "ended as", reply, "but is committed")
