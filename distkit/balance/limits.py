"""Limits on concurrency: how many requests may be in flight, to a cluster or to one endpoint, and how many may wait.

`Limit` is one bound with a bounded queue in front of it, first come first served. `EndpointLimits` counts what is in
flight to each of many endpoints and has no queue: a balancer picks another endpoint instead.

What is refused here is refused at once and cheaply: a queue that is as long as patience allows serves only requests
whose callers have gone.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping

from distkit.balance.bounds import instant, number, whole
from distkit.core import LocalError


class Entry(enum.Enum):
    """May the request go?"""

    GO = "go"
    WAIT = "wait"
    FULL = "full"


class Limit:
    """At most `active_max` at a time, and at most `queue_max` waiting, none longer than `wait_max` seconds.

    Whoever may GO calls `give` once when done. Who must WAIT is named later by `give` or `resize` (may go now) or by
    `tick` (has waited too long), or leaves by `cancel`. Nobody waits while there is room.
    """

    def __init__(self, active_max: int, queue_max: int = 0, wait_max: float = math.inf) -> None:
        self.active_max = whole("active_max", active_max, 1, (1 << 31) - 1)
        self.queue_max = whole("queue_max", queue_max, 0, 1_000_000)
        self.wait_max = wait_max if wait_max == math.inf else number("wait_max", wait_max, 0, 86400)
        self.active = 0
        self.refused = 0
        self._waiting: dict[int, float] = {}  # ticket: when it will have waited too long, in order of arrival
        self._now = -math.inf

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def take(self, ticket: int, now: float) -> Entry:
        """Ask for a place. `ticket` names the request as long as it waits; a ticket that waits already is refused."""
        if ticket in self._waiting:
            raise LocalError(f"ticket {ticket} waits already: give each request its own")
        self._now = instant(now, self._now)
        if self.active < self.active_max:
            self.active += 1
            return Entry.GO
        if len(self._waiting) >= self.queue_max:
            self.refused += 1
            return Entry.FULL
        self._waiting[ticket] = self._now + self.wait_max
        return Entry.WAIT

    def give(self, now: float) -> tuple[int, ...]:
        """A request is done. Returns the ticket that takes its place, if one waits."""
        if not self.active:
            raise LocalError("give was called more often than requests were let go")
        self._now = instant(now, self._now)
        self.active -= 1
        return self._admit()

    def resize(self, active_max: int, now: float) -> tuple[int, ...]:
        """Change the bound. Returns the tickets that may go now; those in flight above a smaller bound stay."""
        self.active_max = whole("active_max", active_max, 1, (1 << 31) - 1)
        self._now = instant(now, self._now)
        return self._admit()

    def cancel(self, ticket: int) -> bool:
        """The request no longer waits. False if it did not: it was let go, or has timed out, before."""
        return self._waiting.pop(ticket, None) is not None

    def deadline(self) -> float:
        """When the first of those waiting will have waited too long; infinity if never."""
        return next(iter(self._waiting.values()), math.inf)

    def tick(self, now: float) -> tuple[int, ...]:
        """Tickets that have waited too long, and wait no more."""
        self._now = instant(now, self._now)
        late = tuple(ticket for ticket, until in self._waiting.items() if until <= self._now)
        for ticket in late:
            del self._waiting[ticket]
        self.refused += len(late)
        return late

    def _admit(self) -> tuple[int, ...]:
        """Let those go that waited longest, as far as there is room; who has waited too long is left to `tick`."""
        room = max(0, self.active_max - self.active)
        going = [ticket for ticket, until in self._waiting.items() if until > self._now][:room]
        for ticket in going:
            del self._waiting[ticket]
        self.active += len(going)
        return tuple(going)


class EndpointLimits:
    """What is in flight to each endpoint, and its bound (0: none).

    An endpoint that leaves while requests are in flight is remembered until they are done. So if it comes back before
    that, they count, and the sum of all counts is what is outstanding, always.
    """

    def __init__(self) -> None:
        self._bounds: dict[str, int] = {}
        self._active: dict[str, int] = {}

    def update(self, bounds: Mapping[str, int]) -> None:
        """These are the endpoints and their bounds now."""
        for id, bound in bounds.items():
            whole(f"the bound of {id!r}", bound, 0, (1 << 31) - 1)
        self._bounds = dict(bounds)

    def active(self, id: str) -> int:
        """Requests in flight to the endpoint."""
        return self._active.get(id, 0)

    @property
    def outstanding(self) -> int:
        """Requests in flight to all endpoints, those that left included."""
        return sum(self._active.values())

    def take(self, id: str) -> bool:
        """Count a request to the endpoint. False if it is full."""
        bound = self._bounds.get(id)
        if bound is None:
            raise LocalError(f"no endpoint has the id {id!r}: name it in update first")
        active = self._active.get(id, 0)
        if bound and active >= bound:
            return False
        self._active[id] = active + 1
        return True

    def give(self, id: str) -> None:
        """A request to the endpoint is done."""
        active = self._active.get(id, 0)
        if not active:
            raise LocalError(f"no request to {id!r} is in flight: give was called more often than take")
        if active == 1:
            del self._active[id]
        else:
            self._active[id] = active - 1
