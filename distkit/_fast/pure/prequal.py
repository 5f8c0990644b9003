"""Prequal (arXiv 2312.10172): choose by what probes found out a moment ago, not by what this client has in flight.

Every pick asks for some probes of random members (`take_probes`). An answer (`probed`) says how many requests are in
flight at an endpoint, from all clients, and what latency it expects with so many. Answers wait in a small pool.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from typing import ClassVar, Final, final

from distkit._fast.pure.table import NOBODY, NOWHERE, U32, Table, View, Wish
from distkit.core.errors import LocalError

POOL_MAX: Final = 64
RATE_MAX: Final = 16.0

#: The quantile is one of so many answers that came last.
RECENT: Final = 128

#: Probes that nobody has taken: the oldest are forgotten.
PENDING_MAX: Final = 64


class Answer:
    """One probe in the pool."""

    __slots__ = ("at", "in_flight", "latency", "slot", "uses")

    def __init__(self, slot: int, in_flight: int, latency: float, at: float, uses: int) -> None:
        self.slot = slot
        self.in_flight = in_flight
        self.latency = latency
        self.at = at
        self.uses = uses


@final
class Prequal(View):
    """Of the pool, the cold answer with the least latency; if all are hot, the one with the fewest requests in flight.

    Hot is what has more in flight than the `quantile` of recent answers. `probes` and `removals` are how many of each a
    pick makes, fractions included; removed are in turns the oldest answer and the worst. An answer also goes when it is
    older than `age` seconds, or was used max(1, (1 + delta) / ((1 - pool / members) * probes - removals)) times (a
    fraction by chance), which keeps the pool fresh. Each use counts as one more in flight there. With fewer than
    `pool_min` answers any member is taken, by chance.
    """

    name: ClassVar[str] = "prequal"

    def __init__(
        self,
        table: Table,
        probes: float = 3.0,
        removals: float = 1.0,
        pool: int = 16,
        pool_min: int = 2,
        age: float = 1.0,
        quantile: float = 0.84,
        delta: float = 1.0,
    ) -> None:
        super().__init__(table)
        if not 0 < probes <= RATE_MAX or not 0 <= removals <= RATE_MAX:
            raise LocalError(f"probes must be more than 0, removals at least 0, both at most {RATE_MAX:.0f} a pick")
        if not 1 <= pool <= POOL_MAX or not 1 <= pool_min <= pool:
            raise LocalError(f"the pool must hold 1 to {POOL_MAX} answers, and pool_min be 1 to that")
        if not 0 < age <= 1e9 or not 0 <= quantile <= 1 or not 0 <= delta <= 1e9:
            raise LocalError("age must be more than 0 seconds, the quantile 0 to 1, and delta at least 0")
        self._probes = probes
        self._removals = removals
        self._capacity = pool
        self._pool_min = pool_min
        self._age = age
        self._quantile = quantile
        self._delta = delta
        self._pool: list[Answer] = []  # the oldest first
        self._recent: list[int] = []  # in flight at those that answered last
        self._ranked: list[int] = []  # the same, sorted
        self._pending: list[int] = []
        self._probe_credit = 0.0
        self._removal_credit = 0.0
        self._remove_worst = False

    @property
    def pooled(self) -> int:
        """Answers in the pool, those that are too old by now included."""
        return len(self._pool)

    @property
    def pending(self) -> int:
        """Probes that wait to be taken."""
        return len(self._pending)

    def take_probes(self) -> list[int]:
        """The handles of the endpoints to probe, at most 64 since the last call."""
        pending, self._pending = self._pending, []
        return pending

    def probed(self, handle: int, in_flight: int, latency: float) -> bool:
        """An answer; False if it is of an endpoint that is no member any more."""
        slot = handle & U32
        if not self._is_member(slot) or self.table.rows[slot].generation != handle >> 32:
            return False
        in_flight = min(in_flight, U32 - 1)
        if len(self._recent) == RECENT:
            del self._ranked[bisect_left(self._ranked, self._recent.pop(0))]
        self._recent.append(in_flight)
        insort(self._ranked, in_flight)
        if len(self._pool) == self._capacity:
            del self._pool[0]
        self._pool.append(Answer(slot, in_flight, latency, self.table.now, self._uses()))
        return True

    def choose(self, wish: Wish) -> int:
        """See View."""
        if not self.members:
            return NOBODY
        self._pool = [
            each for each in self._pool if self._is_member(each.slot) and self.table.now - each.at <= self._age
        ]
        slot = NOBODY
        if len(self._pool) >= self._pool_min:
            slot = self._best(wish)
        if slot == NOBODY:
            place = self.table.below(len(self.members))
            slot = self.members[place]
            if not wish.admits(self.table.rows[slot]):
                slot = self.scan(wish, place)
        self._remove()
        self._ask()
        return slot

    def leave(self, slot: int) -> None:
        """See View."""
        super().leave(slot)
        self._pool = [each for each in self._pool if each.slot != slot]

    def _is_member(self, slot: int) -> bool:
        rows = self.table.rows
        return slot < len(rows) and rows[slot].view == self.index and rows[slot].place != NOWHERE

    def _uses(self) -> int:
        """How often an answer may be used."""
        spare = (1.0 - self._capacity / len(self.members)) * self._probes - self._removals
        if spare <= 0:
            return U32
        uses = min(1e9, max(1.0, (1.0 + self._delta) / spare))
        whole = math.floor(uses)
        return whole + (self.table.unit() < uses - whole)

    def _threshold(self) -> int:
        """Above it an answer is hot."""
        count = len(self._ranked)
        return self._ranked[min(count - 1, math.floor(self._quantile * count))] if count else U32

    def _best(self, wish: Wish) -> int:
        threshold = self._threshold()
        best = -1
        for i, answer in enumerate(self._pool):
            if wish.admits(self.table.rows[answer.slot]) and (
                best < 0 or self._is_better(answer, self._pool[best], threshold)
            ):
                best = i
        if best < 0:
            return NOBODY
        answer = self._pool[best]
        answer.in_flight += 1
        answer.uses -= 1
        if answer.uses == 0:
            del self._pool[best]
        return answer.slot

    def _is_better(self, one: Answer, other: Answer, threshold: int) -> bool:
        cold, other_cold = one.in_flight <= threshold, other.in_flight <= threshold
        if cold != other_cold:
            return cold
        return one.latency < other.latency if cold else one.in_flight < other.in_flight

    def _remove(self) -> None:
        self._removal_credit += self._removals
        while self._removal_credit >= 1:
            self._removal_credit -= 1
            if not self._pool:
                continue
            worst = 0
            if self._remove_worst:
                threshold = self._threshold()
                for i, answer in enumerate(self._pool):
                    if self._is_better(self._pool[worst], answer, threshold):
                        worst = i
            self._remove_worst = not self._remove_worst
            del self._pool[worst]

    def _ask(self) -> None:
        """Probes for different members, by chance."""
        self._probe_credit += self._probes
        places: list[int] = []
        while self._probe_credit >= 1:
            self._probe_credit -= 1
            if len(places) >= len(self.members):
                continue
            place = self.table.below(len(self.members) - len(places))
            for earlier in places:
                place += place >= earlier
            insort(places, place)
            slot = self.members[place]
            if len(self._pending) == PENDING_MAX:
                del self._pending[0]
            self._pending.append(self.table.rows[slot].generation << 32 | slot)
