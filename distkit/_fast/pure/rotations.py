"""Policies that take turns: they look at weights and at nothing else, but for the bias of `EarliestDeadline`.

State stays with the row, so a rotation goes on where it was when a gate closes and opens again, or when other rows come
and go. With `random_phase` many clients that start together do not all begin with the same endpoints.
"""

from __future__ import annotations

import math
import struct
from typing import ClassVar, Final

from distkit._fast.pure.table import CONNECT_FAIL, NOBODY, NOWHERE, U32, Heap, Table, View, Wish
from distkit.core.errors import LocalError

STRIDE_MAX: Final = 65535
_STRIDE_OFFSET: Final = 32767

#: A random phase is one of the first so many turns of an endpoint.
PHASES: Final = 1 << 16


class RoundRobin(View):
    """Each member once in a round. Members before the cursor have had their turn; `Row.turn` is the round of the last.

    Costs O(1), and so do changes: a member that leaves and comes back within a round is not served twice in it.
    """

    name: ClassVar[str] = "round_robin"

    def __init__(self, table: Table, random_phase: bool = True) -> None:
        super().__init__(table)
        self._random_phase = random_phase
        self._started = False
        self._cursor = 0
        self._round = 1

    def start(self) -> None:
        """See View."""
        self._started = True
        if self._random_phase and len(self.members) > 1:
            self._cursor = self.table.below(len(self.members))

    def place(self, slot: int) -> None:
        """See View. Among others that take turns already, a new row comes at a random place of the round."""
        row = self.table.rows[slot]
        row.turn = 0
        if self._random_phase and self._started and self.members:
            had_turn = self.table.below(len(self.members)) < self._cursor
            row.turn = self._round if had_turn else 0

    def join(self, slot: int) -> None:
        """See View."""
        super().join(slot)
        if self.table.rows[slot].turn == self._round:
            self.exchange(self._cursor, len(self.members) - 1)
            self._cursor += 1

    def leave(self, slot: int) -> None:
        """See View. The place that becomes free is taken by one that has not had its turn."""
        place = self.table.rows[slot].place
        if place < self._cursor:
            self._cursor -= 1
            self.exchange(place, self._cursor)
        super().leave(slot)

    def choose(self, wish: Wish) -> int:
        """See View."""
        if not self.members:
            return NOBODY
        if self._cursor >= len(self.members):
            self._cursor = 0
            self._round += 1
        slot = self.members[self._cursor]
        if wish.filtered:
            slot = self.scan(wish, self._cursor)
            if slot == NOBODY or self.table.rows[slot].place < self._cursor:
                return slot
            self.exchange(self._cursor, self.table.rows[slot].place)
        self.table.rows[slot].turn = self._round
        self._cursor += 1
        return slot


class Smooth(View):
    """nginx's smooth weighted round robin: the greatest current weight wins, and pays what all of them gain.

    A failure takes weight / max_fails from the effective weight, each turn gives 1 back. Costs O(n).
    """

    name: ClassVar[str] = "weighted_round_robin"

    def __init__(self, table: Table, max_fails: int = 1) -> None:
        super().__init__(table)
        if max_fails < 0:
            raise LocalError(f"max_fails must be 0 (failures cost no weight) or more, not {max_fails}")
        self._max_fails = max_fails

    def place(self, slot: int) -> None:
        """See View. The current weights sum to 0, so that is what a new row begins with."""
        row = self.table.rows[slot]
        row.current = 0.0
        row.effective = row.weight

    def weigh(self, slot: int, weight: float) -> None:
        """See View."""
        row = self.table.rows[slot]
        row.effective = weight if row.effective == row.weight else min(row.effective, weight)
        row.weight = weight

    def choose(self, wish: Wish) -> int:
        """See View."""
        rows = self.table.rows
        best = NOBODY
        total = 0.0
        for slot in self.members:
            row = rows[slot]
            if not wish.admits(row):
                continue
            row.current += row.effective
            total += row.effective
            if row.effective < row.weight:
                row.effective = min(row.weight, row.effective + 1)
            # On a tie the first in the list, whatever has happened to the order of members.
            if best == NOBODY or (row.current, -slot) > (rows[best].current, -best):
                best = slot
        if best != NOBODY:
            rows[best].current -= total
        return best

    def answered(self, slot: int, outcome: int, latency: float) -> None:
        """See View."""
        row = self.table.rows[slot]
        if 0 < outcome <= CONNECT_FAIL and self._max_fails:
            row.effective = max(0.0, row.effective - row.weight / self._max_fails)


class Stride(View):
    """gRPC's static stride scheduler: one counter, and each weight says in which rounds its place is skipped.

    Go's scaling, or with `clamp` that of C-core, which bounds how uneven weights can be. A pick costs O(max/mean), a
    change of weights or members O(n) at the next pick. Among other members the counter means something else, so with
    `random_phase` it is drawn anew: where members come and go all the time nobody is favoured.
    """

    name: ClassVar[str] = "static_stride"

    def __init__(self, table: Table, clamp: bool = True, random_phase: bool = True) -> None:
        super().__init__(table)
        self._clamp = clamp
        self._random_phase = random_phase
        self._sequence = 0
        self._scaled: list[int] = []
        self._dirty = True
        self._changed = True

    def join(self, slot: int) -> None:
        """See View."""
        super().join(slot)
        self._dirty = self._changed = True

    def leave(self, slot: int) -> None:
        """See View."""
        super().leave(slot)
        self._dirty = self._changed = True

    def weigh(self, slot: int, weight: float) -> None:
        """See View."""
        super().weigh(slot, weight)
        self._dirty = True

    def choose(self, wish: Wish) -> int:
        """See View."""
        count = len(self.members)
        if not count:
            return NOBODY
        if self._dirty:
            self._scale()
        for _ in range(2 * count):
            round_, place = divmod(self._sequence, count)
            self._sequence = (self._sequence + 1) & U32
            weight = self._scaled[place]
            if (weight * round_ + place * _STRIDE_OFFSET) % STRIDE_MAX >= STRIDE_MAX - weight:
                slot = self.members[place]
                if wish.admits(self.table.rows[slot]):
                    return slot
        return self.scan(wish, self._sequence % count)

    def _scale(self) -> None:
        """Weights as 16-bit integers of which the greatest is 65535; equal ones make it a round robin."""
        weights = [self.table.rows[slot].weight for slot in self.members]
        if self._clamp:
            weights = [struct.unpack("f", struct.pack("f", weight))[0] for weight in weights]
        total = greatest = 0.0
        for weight in weights:
            total += weight
            greatest = max(greatest, weight)
        mean = total / len(weights)
        if self._clamp and greatest / mean > 10:
            greatest = 10 * mean
        factor = STRIDE_MAX / greatest
        least = max(1, rounded(0.01 * rounded(factor * mean))) if self._clamp else 0
        self._scaled = [max(least, rounded(factor * min(weight, greatest))) for weight in weights]
        if self._changed and self._random_phase:
            self._sequence = self.table.draw() & U32
        self._dirty = self._changed = False


class EarliestDeadline(Heap):
    """Earliest deadline first, as Envoy: a pick moves the deadline of a member by 1/weight; ties in order of insertion.

    With a bias the weight at that moment is weight / (requests in flight + 1)^bias: Envoy's weighted least request. A
    random phase is that of a rotation that goes on for ever: the first pick follows the weights exactly, so many fresh
    clients don't send all they have to the heavy endpoints first. Costs O(log n).
    """

    name: ClassVar[str] = "edf"

    def __init__(self, table: Table, bias: float = 0.0, random_phase: bool = True) -> None:
        super().__init__(table)
        if not 0 <= bias <= 100:
            raise LocalError(f"the bias must be 0 to 100, not {bias!r}")
        self._bias = bias
        self._random_phase = random_phase
        self._started = False
        self._time = 0.0
        self._turns = 0

    def place(self, slot: int) -> None:
        """See View."""
        row = self.table.rows[slot]
        phase = 1 - self.table.unit() if self._random_phase and self._started else 1.0
        row.current = self._time + phase / row.weight
        self._turns += 1
        row.turn = self._turns

    def start(self) -> None:
        """Go on just before a turn that is drawn: a member by its weight, and one of its first turns."""
        self._started = True
        rows = self.table.rows
        order = [slot for slot, row in enumerate(rows) if row.view == self.index and row.place != NOWHERE]
        if not self._random_phase or len(order) < 2:
            return
        total = 0.0
        for slot in order:
            total += rows[slot].weight
        left = self.table.unit() * total
        first = order[-1]
        for slot in order:
            if left < rows[slot].weight:
                first = slot
                break
            left -= rows[slot].weight
        phase = float(1 + self.table.below(PHASES))
        weight = rows[first].weight
        for slot in order:
            row = rows[slot]
            turns = phase if row.weight == weight else float(math.ceil(phase * row.weight / weight))
            row.current = self._time + max(0.0, (turns * weight - phase * row.weight) / (row.weight * weight))
            self._turns += 1
            row.turn = 0 if slot == first else self._turns
        for place in range(len(self.members) // 2 - 1, -1, -1):
            self.sink(place)

    def join(self, slot: int) -> None:
        """See View. A deadline that has passed meanwhile counts as now."""
        row = self.table.rows[slot]
        row.current = max(row.current, self._time)
        super().join(slot)

    def choose(self, wish: Wish) -> int:
        """See View."""
        slot = self.least(wish)
        if slot != NOBODY:
            row = self.table.rows[slot]
            if row.place == 0:
                self._time = row.current
            weight = row.weight
            if self._bias == 1:
                weight = row.weight / (row.active + 1)
            elif self._bias != 0:
                weight = row.weight / math.pow(row.active + 1, self._bias)
            row.current += 1 / weight
            self._turns += 1
            row.turn = self._turns
            self.sink(row.place)
        return slot


class FirstAvailable(Heap):
    """The first endpoint of the list whose gate is open: one that is full sends on to the next."""

    name: ClassVar[str] = "first_available"

    def place(self, slot: int) -> None:
        """See View. Behind all others until its rank is given."""
        self.table.rows[slot].current = math.inf
        self.table.rows[slot].turn = slot

    def rank(self, slot: int, rank: int) -> None:
        """See View."""
        row = self.table.rows[slot]
        row.current = float(rank)
        if row.place != NOWHERE:
            self.settle(slot)

    def choose(self, wish: Wish) -> int:
        """See View."""
        return self.least(wish)


def rounded(value: float) -> int:
    """To the nearest integer, halves away from zero, of a number that is not negative."""
    whole = math.floor(value)
    return whole + (value - whole >= 0.5)
