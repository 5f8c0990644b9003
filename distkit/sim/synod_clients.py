"""Clients of a synod: they propose, wait, and try again at another proposer, until a value is chosen.

Every attempt is a ticket of its own. In half of the runs (`sessions`) all attempts of a call carry the same bytes, as
those of a client would that does not know what became of the first; else each has its own, so that an answer about one
of them can be held against the value that is chosen in the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from distkit.core import Outcome, Reply
from distkit.sim.broken import require
from distkit.sim.chance import SECOND
from distkit.sim.linear import Operation
from distkit.sim.scenario import Call

if TYPE_CHECKING:
    from distkit.sim.world import World

_PATIENCE: Final = SECOND  #: of a client, for one attempt
_PAUSE: Final = SECOND // 50  #: before it tries again
_ATTEMPTS: Final = 12
#: Every so many values one is long, so that logs fill their segments.
_LONG_EVERY: Final = 5
_LONG_BYTES: Final = 20_000


class _Running:
    """A call that is under way."""

    __slots__ = ("attempts", "call", "node", "ticket")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.attempts = 0
        self.ticket = 0
        self.node = 0


class SynodClients:
    """All clients of a world."""

    def __init__(self, world: World, proposers: tuple[int, ...]) -> None:
        self.world = world
        self.history: list[Operation] = []  # nothing to judge by a model: the ledger knows the one value
        self.acknowledged = self.unknown = self.refused = 0
        self._proposers = proposers
        self._running: dict[int, _Running] = {}  # by the ticket of the newest attempt
        self._ends: dict[int, Outcome] = {}  # of tickets, also of those that nobody waits for any more
        self._last_ticket = 0

    def event(self, what: Call | int) -> None:
        """A call falls due, or a ticket has waited for long enough, for its answer or for another attempt."""
        if isinstance(what, Call):
            return self._attempt(_Running(what))
        running = self._running.pop(what, None)
        return None if running is None else self._attempt(running)

    def replied(self, reply: Reply) -> None:
        """A proposer ended a ticket."""
        self._ends[reply.ticket] = reply.outcome
        if reply.ticket not in self._running:
            return
        running = self._running[reply.ticket]
        self._tell_return(running, reply.outcome.name.lower())
        if reply.outcome in (Outcome.COMMITTED, Outcome.SUPERSEDED):
            self.world.marks[f"a proposal was {'chosen' if reply.outcome is Outcome.COMMITTED else 'superseded'}"] += 1
            del self._running[reply.ticket]
            self.acknowledged += 1
        else:
            self.world.marks[f"a proposal was {reply.outcome.name.lower()}: {reply.reason.name.lower()}"] += 1
            self._later(running)

    def lost(self, tickets: Iterable[int]) -> None:
        """The process that had these tickets died."""
        for ticket in sorted(tickets):
            if ticket in self._running:
                self.world.marks["a proposal was lost with its proposer"] += 1
                self._tell_return(self._running[ticket], "lost")
                self._later(self._running[ticket])

    def stop(self) -> None:
        """No call waits for another one."""

    def last(self) -> int:
        """After everything healed: one more proposal at each proposer that can be answered."""
        calls = [
            Call(self.world.timeline.now, 2000 + node, place, "propose", "", 1_000_000 + node)
            for place, node in enumerate(self._proposers, 1)
            if self.world.oracle.answers(node)
        ]
        for call in calls:
            self.event(call)
        return len(calls)

    def finish(self) -> None:
        """The end: of all that was proposed, the chosen value was not refused, nor did another one supersede it."""
        self.unknown += len(self._running)
        chosen = self.world.oracle.ledger.chosen
        if chosen is not None:
            proposed = self.world.oracle.ledger.proposed
            ends = {self._ends.get(ticket) for ticket, value in proposed.items() if value == chosen[1]}
            definite = ends <= {Outcome.REFUSED, Outcome.SUPERSEDED}
            require(not definite, "tickets", "the chosen value ended as", ends, ":", chosen)

    def _attempt(self, running: _Running) -> None:
        if running.attempts >= _ATTEMPTS:
            self.unknown += 1
            self.world.marks["a proposal ended without an answer"] += 1
            return None
        world, call = self.world, running.call
        running.node = self._proposers[(call.node - 1 + running.attempts) % len(self._proposers)]
        running.attempts += 1
        self._last_ticket += 1
        running.ticket = ticket = self._last_ticket
        self._running[ticket] = running
        host = world.hosts[running.node]
        if not host.up:
            return self._later(running)
        value = self._value(running)
        world.oracle.ledger.proposed[ticket] = value
        host.guest.tickets.add(ticket)
        world.timeline.after(_PATIENCE, world.CLIENT, 0, ticket)
        if world.trace is not None:
            shown = value[:12].decode()
            world.tell("invoke", host.id, client=call.client, id=ticket, op=f"propose {shown}", value=None)
        host.input("propose", ticket, value)
        return None

    def _value(self, running: _Running) -> bytes:
        number = running.call.value
        value = b"v%d" % number if self.world.scenario.sessions else b"v%d.%d" % (number, running.attempts)
        return value + b" " * _LONG_BYTES if number % _LONG_EVERY == 0 else value

    def _later(self, running: _Running) -> None:
        """Try again after a pause, under a ticket of its own."""
        self._running.pop(running.ticket, None)
        self._last_ticket += 1
        running.ticket = self._last_ticket
        self._running[running.ticket] = running
        self.world.timeline.after(_PAUSE << min(running.attempts, 4), self.world.CLIENT, 0, running.ticket)

    def _tell_return(self, running: _Running, outcome: str) -> None:
        if self.world.trace is not None:
            client = running.call.client
            self.world.tell("return", running.node, client=client, id=running.ticket, outcome=outcome, value=None)
