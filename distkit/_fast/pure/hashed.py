"""Policies that go by the hash of a request: any order of hashing, with or without bounded loads.

The order is made of all rows of the view, whether their gates are open or not: a closed gate sends its requests on to
the next candidates, and they come back when it opens, while everybody else's stay. It is made anew at the first pick
after a row came, went or changed its weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, final

from distkit._fast.pure.bounded import ENVOY, EXACT, FACTOR_MAX, overflow_order
from distkit._fast.pure.hashing import Order
from distkit._fast.pure.table import NOBODY, NOWHERE, Row, Table, View, Wish
from distkit.core.errors import LocalError

#: What is done to the order when rows come and go or change their weight. Make it anew; that, but a weight is set by
#: its `set_weight` (Rendezvous); or rows `add` and `remove` buckets of an order that is made with one (Anchor).
REBUILD: Final = 0
SET_WEIGHT: Final = 1
BUCKETS: Final = 2


@final
class Hashed(View):
    """The owner of the request's hash, or the first candidate after it that can be taken; without a key, by chance.

    `build` makes the order of keys and weights; `keys` has the key of each slot. With `by_key` rows are sorted by key,
    so that the order does not depend on who came first, otherwise a row that goes gives its place to the last one.
    `factor` is the per cent of its share that anybody may have, by the rule EXACT or ENVOY of
    `distkit._fast.bounded`; 0: loads are not bounded. Only members of this view and their loads count.
    """

    name: ClassVar[str] = "hash"

    def __init__(
        self,
        table: Table,
        build: Callable[[list[bytes], list[float]], Order],
        keys: Mapping[int, bytes],
        by_key: bool = True,
        weighted: bool = True,
        factor: int = 0,
        rule: int = EXACT,
        changes: int = REBUILD,
    ) -> None:
        super().__init__(table)
        if factor and not 100 <= factor <= FACTOR_MAX:
            raise LocalError(f"a bound must be 0 (none) or 100 to {FACTOR_MAX} per cent, not {factor}")
        if rule not in (EXACT, ENVOY) or not REBUILD <= changes <= BUCKETS:
            raise LocalError(f"there is no rule {rule} for bounds, or no kind {changes} of order")
        self._rebuilt = 0
        self._build = build
        self._keys = keys
        self._by_key = by_key
        self._weighted = weighted
        self._factor = factor
        self._rule = rule
        self._changes = changes
        self._placed: list[int] = []
        self._slots: list[int] = []  # by position in the order
        self._order: Any = None
        self._weight = -1.0  # of the members; below 0: not added up yet
        self._load = 0  # in flight at the members

    @property
    def rebuilt(self) -> int:
        """How often the order was made."""
        return self._rebuilt

    def place(self, slot: int) -> None:
        """See View."""
        row = self.table.rows[slot]
        row.turn = len(self._placed)
        self._placed.append(slot)
        if self._changes != BUCKETS:
            self._order = None
        elif self._order is None:
            self._order = self._build([self._keys[slot]], [row.weight])
            self._slots = [slot] * self._order.span
            row.current = 0.0
        else:
            row.current = float(self._order.add())
            self._slots[int(row.current)] = slot

    def unplace(self, slot: int) -> None:
        """See View."""
        row = self.table.rows[slot]
        last = self._placed.pop()
        if last != slot:
            self._placed[row.turn] = last
            self.table.rows[last].turn = row.turn
        if self._changes == BUCKETS and self._placed:
            self._order.remove(int(row.current))
        else:
            self._order = None

    def join(self, slot: int) -> None:
        """See View."""
        super().join(slot)
        self._weight = -1.0
        self._load += self.table.rows[slot].active

    def leave(self, slot: int) -> None:
        """See View."""
        super().leave(slot)
        self._weight = -1.0
        self._load -= self.table.rows[slot].active

    def charged(self, slot: int) -> None:
        """See View."""
        self._load += self.table.rows[slot].place != NOWHERE

    def released(self, slot: int) -> None:
        """See View."""
        self._load -= self.table.rows[slot].place != NOWHERE

    def weigh(self, slot: int, weight: float) -> None:
        """See View."""
        row = self.table.rows[slot]
        row.weight = weight
        self._weight = -1.0
        if self._changes == SET_WEIGHT and self._order is not None:
            self._order.set_weight(int(row.current), weight)
        elif self._weighted and self._changes == REBUILD:
            self._order = None

    def choose(self, wish: Wish) -> int:
        """See View."""
        if not self.members:
            return NOBODY
        if self._order is None:
            self._rebuild()
        hashed = wish.hashed if wish.keyed else self.table.draw()
        bound = self._bound() if self._factor else 0
        if bound and self._rule == ENVOY:
            return self._envoy_choice(hashed, wish, bound)
        slot: int = self._slots[self._order._place(hashed, wish.attempt)]
        if self._accepts(slot, wish, bound):
            return slot
        open_one: int = next((each for each in self.members if self._accepts(each, wish, bound)), NOBODY)
        if open_one == NOBODY and bound:  # a request that not everybody is asked about can meet full ones only
            bound = 0
            open_one = self.scan(wish, 0)
        if open_one == NOBODY:
            return NOBODY
        position: int = self._order._first(hashed, lambda position: self._accepts(self._slots[position], wish, bound))
        return self._slots[position] if position >= 0 else open_one  # one without a point on a ring can still help

    def _envoy_choice(self, hashed: int, wish: Wish, bound: int) -> int:
        def overload(position: int) -> float:
            row = self.table.rows[self._slots[position]]
            if not self._accepts(self._slots[position], wish, 0):
                return math.inf
            return row.active / self._cap(row, bound)

        owner: int = self._order._place(hashed, wish.attempt)
        lowest = overload(owner)
        if lowest <= 1:
            return self._slots[owner]
        best = owner if lowest < math.inf else -1
        for position in overflow_order(hashed, self._order.span):
            load = overload(position) if position != owner else math.inf
            if load <= 1:
                return self._slots[position]
            if load < lowest:
                lowest, best = load, position
        return self._slots[best] if best >= 0 else NOBODY

    def _accepts(self, slot: int, wish: Wish, bound: int) -> bool:
        row = self.table.rows[slot]
        return row.place != NOWHERE and wish.admits(row) and (not bound or row.active < self._cap(row, bound))

    def _bound(self) -> int:
        """How much may be in flight at all members, with the next request."""
        if self._weight < 0:
            self._weight = 0.0
            for slot in self.members:
                self._weight += self.table.rows[slot].weight
        return ((self._load + 1) * self._factor + 99) // 100

    def _cap(self, row: Row, bound: int) -> int:
        if self._rule == ENVOY:
            return max(1, math.ceil(bound * (row.weight / self._weight)))
        return max(1, math.ceil(bound * row.weight / self._weight))

    def _rebuild(self) -> None:
        rows = self.table.rows
        slots = sorted(self._placed, key=lambda slot: self._keys[slot]) if self._by_key else list(self._placed)
        order = self._build([self._keys[slot] for slot in slots], [rows[slot].weight for slot in slots])
        if order.span != len(slots):
            raise LocalError(f"an order of {len(slots)} keys must have as many positions, not {order.span}")
        for position, slot in enumerate(slots):
            rows[slot].current = float(position)
        self._slots, self._order = slots, order
        self._rebuilt += 1
