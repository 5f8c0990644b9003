"""The table of endpoints: one row an endpoint, and the small generator that picks draw from.

A row is known by its slot, and by a generation that changes when the slot gets another tenant. Its flags are the bits
of `distkit.balance.Gate` and REMOVED; each view has a mask, and a row is a member of its view while no bit of the
mask is set. Weights are more than 0 here: an endpoint of weight 0 has a flag.

A view keeps the members of one part of the cluster and chooses among them. `View` itself is the base of all policies:
it keeps them in no order and chooses none.
"""

from __future__ import annotations

from typing import ClassVar, Final

from distkit.core.errors import LocalError

SLOTS_MAX: Final = 1 << 20
NOWHERE: Final = 0xFFFFFFFF
NOBODY: Final = -1

#: Flags beside those of Gate that the kernel knows itself.
SATURATED_FLAG: Final = 16
REMOVED: Final = 1 << 16

OK: Final = 0
CONNECT_FAIL: Final = 3
CANCELLED: Final = 4
OVERLOAD: Final = 5

U64: Final = 0xFFFFFFFFFFFFFFFF
U32: Final = 0xFFFFFFFF
_STEP: Final = 0x9E3779B97F4A7C15


class Row:
    """One endpoint. The first fields after `latency_sum` belong to the policy of the view that the row is in."""

    __slots__ = (
        "active",
        "barred",
        "current",
        "effective",
        "failures",
        "flags",
        "generation",
        "labels",
        "latency",
        "latency_sum",
        "limit",
        "place",
        "stamp",
        "streak",
        "successes",
        "turn",
        "view",
        "weight",
    )

    def __init__(self) -> None:
        self.weight = 1.0
        self.labels = 0  # one bit for each tag that the endpoint has
        self.latency_sum = 0.0  # of the successes since the counters were taken
        self.current = 0.0
        self.effective = 0.0
        self.latency = -1.0  # an average that the policy keeps; below 0: unknown
        self.stamp = 0.0
        self.turn = 0
        self.flags = REMOVED
        self.active = 0
        self.limit = 0  # of requests in flight; 0: none
        self.generation = 0
        self.place = NOWHERE  # among the members of its view
        self.view = NOWHERE
        self.barred = 0  # the serial number of the last request that does not want it
        self.successes = 0
        self.failures = 0
        self.streak = 0  # failures in a row


class Wish:
    """What a request asks for; unless it is `filtered`, every member will do."""

    __slots__ = ("attempt", "filtered", "hashed", "keyed", "labels", "priority", "serial")

    def __init__(self) -> None:
        self.hashed = 0
        self.keyed = False
        self.attempt = 0
        self.filtered = False
        self.labels = 0
        self.serial = 0
        self.priority = -1

    def admits(self, row: Row) -> bool:
        """Whether the request may go there."""
        return not self.filtered or (row.barred != self.serial and row.labels & self.labels == self.labels)


class Table:
    """The rows, and SplitMix64 as the only source of chance."""

    __slots__ = ("_free", "_seed", "now", "outstanding", "rows")

    def __init__(self, seed: int) -> None:
        self.rows: list[Row] = []
        self.now = 0.0
        self.outstanding = 0
        self._seed = seed & U64
        self._free: list[int] = []

    @property
    def count(self) -> int:
        """How many slots were ever used."""
        return len(self.rows)

    @property
    def seed(self) -> int:
        """The state of the generator: it rises by the same number, modulo 2^64, with each draw."""
        return self._seed

    def draw(self) -> int:
        """64 random bits."""
        self._seed = (self._seed + _STEP) & U64
        mixed = ((self._seed ^ self._seed >> 30) * 0xBF58476D1CE4E5B9) & U64
        mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & U64
        return mixed ^ mixed >> 31

    def below(self, count: int) -> int:
        """A random integer from 0 to count - 1; count is below 2^32."""
        return (self.draw() >> 32) * count >> 32

    def unit(self) -> float:
        """A random number of [0, 1)."""
        return (self.draw() >> 11) * (1.0 / 9007199254740992.0)

    def new_row(self) -> int:
        """The slot of a row for a new tenant."""
        if not self._free:
            if len(self.rows) >= SLOTS_MAX:
                raise LocalError(f"a cluster has at most {SLOTS_MAX} endpoints, those that still drain included")
            self.rows.append(Row())
            self._free.append(len(self.rows) - 1)
        slot = self._free.pop()
        generation = self.rows[slot].generation
        self.rows[slot] = row = Row()
        row.generation = generation % 0x7FFFFFFF + 1
        row.flags = 0
        return slot

    def free_row(self, slot: int) -> None:
        """The tenant is gone, and no request to it is in flight."""
        self.rows[slot].flags = REMOVED
        self._free.append(slot)


class View:
    """Members of one part of a cluster, in no order; what a policy does in its own way it overrides."""

    name: ClassVar[str] = ""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.members: list[int] = []
        self.index = NOWHERE
        self.mask = 0
        self.active = 0  # in flight on all rows of the view, members or not

    def place(self, slot: int) -> None:
        """A row comes to the view for the first time, or from another one, and is no member yet."""

    def unplace(self, slot: int) -> None:
        """A row leaves the view for good, and is no member any more."""

    def start(self) -> None:
        """The first rows have come, all at once."""

    def join(self, slot: int) -> None:
        """The gate of a row of the view is open now."""
        self.table.rows[slot].place = len(self.members)
        self.members.append(slot)

    def leave(self, slot: int) -> None:
        """The gate of a member is closed now. What the policy knows of it stays in the row."""
        rows = self.table.rows
        place = rows[slot].place
        last = self.members.pop()
        if last != slot:
            self.members[place] = last
            rows[last].place = place
        rows[slot].place = NOWHERE

    def weigh(self, slot: int, weight: float) -> None:
        """Another weight for a row of the view."""
        self.table.rows[slot].weight = weight

    def rank(self, slot: int, rank: int) -> None:
        """Where a row of the view stands in the list of endpoints, for policies that go by that."""

    def choose(self, wish: Wish) -> int:
        """A member that the wish admits, or NOBODY."""
        return NOBODY

    def charged(self, slot: int) -> None:
        """A row of the view has one more request in flight."""

    def released(self, slot: int) -> None:
        """A row of the view has one less request in flight."""

    def answered(self, slot: int, outcome: int, latency: float) -> None:
        """A request to a row of the view ended, and it was not cancelled."""

    def exchange(self, one: int, other: int) -> None:
        """Two members change places."""
        a, b = self.members[one], self.members[other]
        self.members[one], self.members[other] = b, a
        self.table.rows[a].place, self.table.rows[b].place = other, one

    def scan(self, wish: Wish, place: int) -> int:
        """The first member that the wish admits, from a place on and round; NOBODY if there is none."""
        count = len(self.members)
        for i in range(count):
            slot = self.members[(place + i) % count]
            if wish.admits(self.table.rows[slot]):
                return slot
        return NOBODY


class Heap(View):
    """Members as a binary heap, the one with the least (current, turn) first."""

    def join(self, slot: int) -> None:
        """See View."""
        super().join(slot)
        self.rise(len(self.members) - 1)

    def leave(self, slot: int) -> None:
        """See View."""
        place = self.table.rows[slot].place
        super().leave(slot)
        if place < len(self.members):
            self.settle(self.members[place])

    def settle(self, slot: int) -> None:
        """The order of a member has changed."""
        self.rise(self.table.rows[slot].place)
        self.sink(self.table.rows[slot].place)

    def before(self, one: int, other: int) -> bool:
        """The order of two slots."""
        a, b = self.table.rows[one], self.table.rows[other]
        return a.current < b.current or (a.current == b.current and a.turn < b.turn)

    def rise(self, place: int) -> None:
        """Exchange a member with those above it that come after it."""
        while place and self.before(self.members[place], self.members[(place - 1) // 2]):
            self.exchange(place, (place - 1) // 2)
            place = (place - 1) // 2

    def sink(self, place: int) -> None:
        """Exchange a member with those below it that come before it."""
        while (child := 2 * place + 1) < len(self.members):
            if child + 1 < len(self.members) and self.before(self.members[child + 1], self.members[child]):
                child += 1
            if not self.before(self.members[child], self.members[place]):
                break
            self.exchange(place, child)
            place = child

    def least(self, wish: Wish) -> int:
        """The first member in order that the wish admits."""
        if not wish.filtered:
            return self.members[0] if self.members else NOBODY
        best = NOBODY
        for slot in self.members:
            if wish.admits(self.table.rows[slot]) and (best == NOBODY or self.before(slot, best)):
                best = slot
        return best
