"""Policies that go by the hash of a request: any order of `distkit._fast.hashing`, with or without bounded loads.

The order is made of all rows of the view, whether their gates are open or not: a closed gate sends its requests on to
the next candidates, and they come back when it opens, while everybody else's stay. It is made anew at the first pick
after a row came, went or changed its weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, final

from distkit._fast.pure.hashing import Order
from distkit._fast.pure.table import NOBODY, NOWHERE, Row, Table, View, Wish
from distkit.core.errors import LocalError


@final
class Hashed(View):
    """The owner of the request's hash, or the first candidate after it that can be taken; without a key, by chance.

    `build` makes the order of keys and weights; `keys` has the key of each slot. With `by_key` rows are sorted by key,
    so that the order does not depend on who came first, otherwise a row that goes gives its place to the last one.
    With a `bound` above 1 nobody gets more than max(1, ceil(share * ceil(bound * (in flight + 1)))), where a share is
    by weight among those whose gate is open, and what is in flight is counted in this view only.
    """

    name: ClassVar[str] = "hash"

    def __init__(
        self,
        table: Table,
        build: Callable[[list[bytes], list[float]], Order],
        keys: Mapping[int, bytes],
        by_key: bool = True,
        weighted: bool = True,
        bound: float = 0.0,
    ) -> None:
        super().__init__(table)
        if bound != 0 and not 1 < bound <= 1e6:
            raise LocalError(f"a bound must be 0 (none) or more than 1, not {bound!r}")
        self._rebuilt = 0
        self._build = build
        self._keys = keys
        self._by_key = by_key
        self._weighted = weighted
        self._bound = bound
        self._placed: list[int] = []
        self._slots: list[int] = []  # by position in the order
        self._order: Order | None = None
        self._weight = -1.0  # of the members; below 0: not added up yet

    @property
    def rebuilt(self) -> int:
        """How often the order was made."""
        return self._rebuilt

    def place(self, slot: int) -> None:
        """See View."""
        self.table.rows[slot].turn = len(self._placed)
        self._placed.append(slot)
        self._order = None

    def unplace(self, slot: int) -> None:
        """See View."""
        place = self.table.rows[slot].turn
        last = self._placed.pop()
        if last != slot:
            self._placed[place] = last
            self.table.rows[last].turn = place
        self._order = None

    def join(self, slot: int) -> None:
        """See View."""
        super().join(slot)
        self._weight = -1.0

    def leave(self, slot: int) -> None:
        """See View."""
        super().leave(slot)
        self._weight = -1.0

    def weigh(self, slot: int, weight: float) -> None:
        """See View."""
        self.table.rows[slot].weight = weight
        self._weight = -1.0
        if self._weighted:
            self._order = None

    def choose(self, wish: Wish) -> int:
        """See View."""
        if not self.members:
            return NOBODY
        order = self._order or self._rebuild()
        hashed = wish.hashed if wish.keyed else self.table.draw()
        room = self._room() if self._bound else 0.0
        slot = self._slots[order._place(hashed, wish.attempt)]
        if self._accepts(slot, wish, room):
            return slot
        if not any(self._accepts(each, wish, room) for each in self.members):
            room = 0.0
            if not self._bound or self.scan(wish, 0) == NOBODY:
                return NOBODY
        return self._slots[order._first(hashed, lambda position: self._accepts(self._slots[position], wish, room))]

    def _accepts(self, slot: int, wish: Wish, room: float) -> bool:
        row = self.table.rows[slot]
        return row.place != NOWHERE and wish.admits(row) and (not room or row.active < self._cap(row, room))

    def _room(self) -> float:
        """How much may be in flight in all, if each share is to be bounded."""
        if self._weight < 0:
            self._weight = 0.0
            for slot in self.members:
                self._weight += self.table.rows[slot].weight
        return math.ceil(self._bound * (self.active + 1.0))

    def _cap(self, row: Row, room: float) -> float:
        return max(1.0, math.ceil(row.weight * room / self._weight))

    def _rebuild(self) -> Order:
        slots = sorted(self._placed, key=lambda slot: self._keys[slot]) if self._by_key else list(self._placed)
        order = self._build([self._keys[slot] for slot in slots], [self.table.rows[slot].weight for slot in slots])
        if order.span != len(slots):
            raise LocalError(f"an order of {len(slots)} keys must have as many positions, not {order.span}")
        self._slots, self._order = slots, order
        self._rebuilt += 1
        return order
