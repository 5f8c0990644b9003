"""What happens at each request: a view is drawn, its policy chooses a member, the row is charged, and later released.

    picker = Picker(seed)
    view = picker.attach(RoundRobin(picker))
    slot = picker.add(weight, limit, labels, flags)
    picker.move(slot, view)
    picker.route([view], [1], [0], 1)
    handle = picker.pick(None, now)
    picker.done(handle, outcome, latency, now)

The rest of a cluster, what changes seldom, is `distkit.balance.cluster`: it attaches views, moves rows into them, opens
and closes their gates and publishes the route. A handle is generation << 32 | slot. The sum of what is in flight on
all rows, removed ones that still drain included, is always `outstanding`.

Not safe to call from several threads at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol, final

from distkit._fast.pure.table import (
    CANCELLED,
    CONNECT_FAIL,
    NOBODY,
    NOWHERE,
    OK,
    OVERLOAD,
    REMOVED,
    SATURATED_FLAG,
    U32,
    U64,
    Row,
    Table,
    View,
    Wish,
)
from distkit.core.errors import LocalError

NO_ENDPOINT: Final = -1
SATURATED: Final = -2
DROPPED: Final = -3

#: A time or latency beyond it is a mistake: milliseconds since 1970 are still below.
TIME_MAX: Final = 1e15
VIEWS_MAX: Final = 4096
ENTRIES_MAX: Final = 4096
SCALE_MAX: Final = 0x7FFFFFFF


class Listener(Protocol):
    """Who is told what is rare. None of these may call `pick` or `done`."""

    def failing(self, slot: int, now: float) -> None:
        """The row has failed `streak_max` times in a row; the count begins again."""

    def overloaded(self, slot: int, now: float) -> None:
        """An endpoint said that it has too much to do."""

    def reported(self, slot: int, report: Any, now: float) -> None:
        """A load report came with a response."""


@final
class Picker(Table):
    """The table with its views and the route in front of them."""

    __slots__ = (
        *("by_hash", "drop", "full", "labels", "limit", "listener", "picks", "slots", "spare_draw", "stale"),
        *("_ends", "_entries", "_priorities", "_scale", "_serial", "_sole", "_views", "_wish", "streak_max"),
    )

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.slots: dict[str, int] = {}  # by id, for `exclude` and `override`
        self.labels: dict[tuple[str, str], int] = {}  # bits of `Row.labels` by tag
        self.listener: Listener | None = None
        self.limit = 0  # of all requests in flight; 0: none
        self.streak_max = 0  # 0: nobody asks
        self.drop = 0  # of 2^32 requests, how many are shed
        self.by_hash = False  # the policy goes by keys
        self.spare_draw = False  # spend a draw on the choice of a view even if there is one only
        self.picks = 0
        self.stale = 0
        self.full = 0  # rows at their limit
        self._views: list[View] = []
        self._entries: list[int] = []
        self._ends: list[int] = []
        self._priorities: list[int] = []
        self._scale = 0
        self._sole = -1
        self._wish = Wish()
        self._serial = 0

    # What changes seldom.

    def attach(self, view: View) -> int:
        """Take a view of this picker in; its number."""
        if view.table is not self or view.index != NOWHERE:
            raise LocalError("a view belongs to one picker, and is attached to it once")
        if len(self._views) >= VIEWS_MAX:
            raise LocalError(f"a cluster has at most {VIEWS_MAX} views (priorities times localities)")
        view.index = len(self._views)
        view.mask = U32
        self._views.append(view)
        return view.index

    def add(self, weight: float, limit: int = 0, labels: int = 0, flags: int = 0) -> int:
        """A new row, in no view yet; its slot."""
        slot = self.new_row()
        row = self.rows[slot]
        row.weight, row.limit, row.labels, row.flags = weight, limit, labels, flags & ~(REMOVED | SATURATED_FLAG)
        return slot

    def remove(self, slot: int) -> None:
        """The endpoint is gone. Its row stays until nothing is in flight there."""
        row = self._tenant(slot)
        self.move(slot, -1)
        self.flag(slot, REMOVED, SATURATED_FLAG)
        if row.active == 0:
            self.free_row(slot)

    def revive(self, slot: int) -> None:
        """The endpoint of a row that still drains is back."""
        row = self._row(slot)
        if not row.flags & REMOVED or row.active == 0:
            raise LocalError(f"slot {slot} does not drain, so it can't be revived")
        self.flag(slot, SATURATED_FLAG if row.limit and row.active >= row.limit else 0, REMOVED)

    def move(self, slot: int, index: int) -> None:
        """Take a row into another view, or into none (-1)."""
        row = self._tenant(slot)
        if not -1 <= index < len(self._views):
            raise LocalError(f"there is no view {index}")
        if row.view != NOWHERE:
            view = self._views[row.view]
            if row.place != NOWHERE:
                view.leave(slot)
            view.unplace(slot)
            view.active -= row.active
            row.view = NOWHERE
        if index >= 0:
            view = self._views[index]
            view.place(slot)
            view.active += row.active
            row.view = index
            if row.flags & view.mask == 0:
                view.join(slot)

    def start(self, index: int) -> None:
        """The first rows of a view have come."""
        self._view(index).start()

    def mask(self, index: int, mask: int) -> None:
        """Which flags close the gate of a view; REMOVED and SATURATED always do."""
        view = self._view(index)
        view.mask = (mask & U32) | REMOVED | SATURATED_FLAG
        for slot, row in enumerate(self.rows):
            if row.view == index and (row.flags & view.mask == 0) != (row.place != NOWHERE):
                if row.place == NOWHERE:
                    view.join(slot)
                else:
                    view.leave(slot)

    def flag(self, slot: int, closed: int, opened: int) -> None:
        """Set some flags of a row and clear others."""
        row = self._row(slot)
        before = row.flags
        row.flags = (before | closed) & ~opened & U32
        self.full += bool(row.flags & SATURATED_FLAG) - bool(before & SATURATED_FLAG)
        if row.view != NOWHERE:
            view = self._views[row.view]
            if (row.flags & view.mask == 0) != (row.place != NOWHERE):
                if row.place == NOWHERE:
                    view.join(slot)
                else:
                    view.leave(slot)

    def weigh(self, slot: int, weight: float) -> None:
        """Another weight, more than 0."""
        row = self._tenant(slot)
        if not 0 < weight <= TIME_MAX:
            raise LocalError(f"a weight must be more than 0 and finite, not {weight!r}")
        if row.view == NOWHERE:
            row.weight = weight
        elif weight != row.weight:
            self._views[row.view].weigh(slot, weight)

    def bound(self, slot: int, limit: int) -> None:
        """Another limit for the requests in flight on a row; 0: none."""
        row = self._tenant(slot)
        if not 0 <= limit <= U32:
            raise LocalError(f"a limit must be 0 (none) to {U32}, not {limit}")
        row.limit = limit
        full = limit and row.active >= limit
        self.flag(slot, SATURATED_FLAG if full else 0, 0 if full else SATURATED_FLAG)

    def rank(self, slot: int, rank: int) -> None:
        """Where its endpoint stands in the list, from 0."""
        row = self._tenant(slot)
        if row.view != NOWHERE:
            self._views[row.view].rank(slot, rank)

    def label(self, slot: int, labels: int) -> None:
        """Other tags."""
        self._tenant(slot).labels = labels & U64

    def route(self, views: Sequence[int], ends: Sequence[int], priorities: Sequence[int], scale: int) -> None:
        """Publish who gets how much: of `scale` numbers those from the end of the entry before it up to its own.

        Where the view of an entry has no member for a request the others are asked in this order.
        """
        if not len(views) == len(ends) == len(priorities) <= ENTRIES_MAX or not 0 < scale <= SCALE_MAX:
            raise LocalError(f"{len(views)} views, {len(ends)} ends and {len(priorities)} priorities don't fit {scale}")
        last = 0
        for index, end in zip(views, ends, strict=True):
            self._view(index)
            if not last <= end <= scale:
                raise LocalError(f"the ends {list(ends)} must rise up to {scale}")
            last = end
        if views and last != scale:
            raise LocalError(f"the ends {list(ends)} must rise up to {scale}")
        self._entries, self._ends, self._priorities = list(views), list(ends), list(priorities)
        self._scale = scale
        self._sole = next((i for i, end in enumerate(ends) if end == scale and (i == 0 or ends[i - 1] == 0)), -1)

    # What happens at each request.

    def pick(self, context: Any, now: float) -> int:
        """A handle, or NO_ENDPOINT, SATURATED or DROPPED.

        The context is one of `distkit.balance`, or the 64-bit hash of the request alone, which is quicker, or None.
        """
        if type(context) is int and not 0 <= context <= U64:
            raise LocalError(f"a key is a hash of 64 bits, not {context}")
        self.observe(now)
        if context is None or type(context) is int:
            wish = Wish()
            wish.keyed = context is not None
            wish.hashed = context or 0
            return self._pick(wish)
        described = self._wished(context)
        if described is None:
            return NO_ENDPOINT
        wish = described
        if context.override is not None:
            slot = self.slots.get(context.override, NOBODY)
            if slot != NOBODY and self.rows[slot].place != NOWHERE and wish.admits(self.rows[slot]) and self._open():
                return self._charge(slot)
        return self._pick(wish)

    def pick_many(self, n_or_keys: Any, out: Any, now: float) -> int:
        """Write n picks, or one for each 64-bit hash, into a buffer of 64-bit integers; how many were written."""
        results = _integers(out, "ql", "out")
        if results.readonly:
            raise LocalError("out must be writable")
        keys = None if isinstance(n_or_keys, int) else _integers(n_or_keys, "QL", "keys")
        count = n_or_keys if isinstance(n_or_keys, int) else len(n_or_keys)
        if not 0 <= count <= len(results):
            raise LocalError(f"out has room for {len(results)} picks, not for {count}")
        if count:
            self.observe(now)
        for i in range(count):
            wish = Wish()
            if keys is not None:
                wish.keyed = True
                wish.hashed = keys[i]
            results[i] = self._pick(wish)
        return count

    def done(self, handle: int, outcome: int, latency: float, now: float, report: Any = None) -> bool:
        """A request has ended. False: the handle is stale (its endpoint was removed, or it was given before)."""
        if not 0 <= outcome <= OVERLOAD:
            raise LocalError(f"an outcome is one of distkit.balance.Outcome, not {outcome}")
        if not 0 <= latency <= TIME_MAX:
            raise LocalError(f"a latency must be a finite number of seconds, at least 0, not {latency!r}")
        if not -(1 << 63) <= handle < 1 << 63:
            raise OverflowError(handle)
        self.observe(now)
        slot, generation = handle & U32, handle >> 32
        if slot >= len(self.rows) or self.rows[slot].generation != generation or self.rows[slot].active == 0:
            self.stale += 1
            return False
        row = self.rows[slot]
        row.active -= 1
        self.outstanding -= 1
        if row.flags & REMOVED:
            self.stale += 1
            if row.active == 0:
                self.free_row(slot)
            return False
        view = self._views[row.view] if row.view != NOWHERE else None
        if view is not None:
            view.active -= 1
            view.released(slot)
        if row.flags & SATURATED_FLAG and row.active < row.limit:
            self.flag(slot, 0, SATURATED_FLAG)
        if outcome != CANCELLED:
            if outcome == OK:
                row.successes += 1
                row.latency_sum += latency
                row.streak = 0
            elif outcome <= CONNECT_FAIL:
                row.failures += 1
                row.streak += 1
            if view is not None:
                view.answered(slot, outcome, latency)
            if outcome == OVERLOAD:
                if self.listener is not None:
                    self.listener.overloaded(slot, self.now)
            elif row.streak and row.streak == self.streak_max and self.listener is not None:
                row.streak = 0
                self.listener.failing(slot, self.now)
        if report is not None and self.listener is not None:
            self.listener.reported(slot, report, self.now)
        return True

    def observe(self, now: float) -> None:
        """It is so late now. Time that goes back counts as no time."""
        if not -TIME_MAX <= now <= TIME_MAX:
            raise LocalError(f"now must be a finite number of seconds, not {now!r}")
        if now > self.now:
            self.now = now

    # What is known.

    def slot(self, handle: int) -> int:
        """The slot that a handle names, -1 if it is stale."""
        slot, generation = handle & U32, handle >> 32
        if slot >= len(self.rows) or self.rows[slot].generation != generation or self._is_free(slot):
            return -1
        return slot

    def load(self, slot: int) -> tuple[int, int, float, float]:
        """(flags, requests in flight, weight, average latency that the policy knows or -1) of a row."""
        row = self._row(slot)
        return row.flags, row.active, row.weight, row.latency

    def counters(self, slot: int) -> tuple[int, int, float]:
        """(successes, failures, sum of the latencies of successes) since the last call."""
        row = self._tenant(slot)
        counted = row.successes, row.failures, row.latency_sum
        row.successes = row.failures = 0
        row.latency_sum = 0.0
        return counted

    def members(self, index: int) -> int:
        """How many members a view has."""
        return len(self._view(index).members)

    def handle(self, slot: int) -> int:
        """The handle that names a row now."""
        self._tenant(slot)
        return self.rows[slot].generation << 32 | slot

    def _wished(self, context: Any) -> Wish | None:
        """What a context asks for; None: no endpoint has such tags."""
        wish = self._wish
        try:
            wish.keyed = context.key is not None
        except AttributeError:
            raise LocalError(f"a request is described by a Context or None, not {context!r:.80}") from None
        wish.hashed = context.key if wish.keyed else 0
        wish.attempt = context.attempt
        wish.priority = -1 if context.priority is None else context.priority
        wish.labels = 0
        for tag in context.subset:
            if tag not in self.labels:
                return None
            wish.labels |= self.labels[tag]
        self._serial += 1
        wish.serial = self._serial
        for each in context.exclude:
            slot = self.slots.get(each, -1) if isinstance(each, str) else self.slot(each)
            if slot >= 0:
                self.rows[slot].barred = wish.serial
        wish.filtered = bool(wish.labels or context.exclude)
        return wish

    def _open(self) -> bool:
        return not self.limit or self.outstanding < self.limit

    def _pick(self, wish: Wish) -> int:
        if not self._open():
            return SATURATED
        if self.drop and self.draw() >> 32 < self.drop:
            return DROPPED
        if not self._entries:
            return NO_ENDPOINT
        entry = self._entry(wish)
        slot = self._views[self._entries[entry]].choose(wish) if entry >= 0 else NOBODY
        if slot == NOBODY:
            slot = self._elsewhere(wish, entry)
        if slot == NOBODY:
            return SATURATED if self.full else NO_ENDPOINT
        return self._charge(slot)

    def _entry(self, wish: Wish) -> int:
        """The entry of the route that is drawn; -1 if no load is meant for the priority that is asked for."""
        if wish.priority >= 0:
            return self._entry_at(wish.priority)
        entry = self._sole
        if entry >= 0 and not self.spare_draw:
            return entry
        number = (wish.hashed if wish.keyed and self.by_hash else self.draw()) % self._scale
        return next(i for i, end in enumerate(self._ends) if number < end)

    def _entry_at(self, priority: int) -> int:
        shares = [
            end - (self._ends[i - 1] if i else 0) if self._priorities[i] == priority else 0
            for i, end in enumerate(self._ends)
        ]
        if not any(shares):
            return -1
        number = self.draw() % sum(shares)
        entry = 0
        while number >= shares[entry]:
            number -= shares[entry]
            entry += 1
        return entry

    def _elsewhere(self, wish: Wish, tried: int) -> int:
        for entry, index in enumerate(self._entries):
            if entry != tried and wish.priority in (-1, self._priorities[entry]):
                slot = self._views[index].choose(wish)
                if slot != NOBODY:
                    return slot
        return NOBODY

    def _charge(self, slot: int) -> int:
        row = self.rows[slot]
        view = self._views[row.view]
        row.active += 1
        self.outstanding += 1
        self.picks += 1
        view.active += 1
        view.charged(slot)
        if row.active == row.limit:
            self.flag(slot, SATURATED_FLAG, 0)
        return row.generation << 32 | slot

    def _view(self, index: int) -> View:
        if not 0 <= index < len(self._views):
            raise LocalError(f"there is no view {index}")
        return self._views[index]

    def _row(self, slot: int) -> Row:
        if not 0 <= slot < len(self.rows):
            raise LocalError(f"there is no slot {slot}")
        return self.rows[slot]

    def _tenant(self, slot: int) -> Row:
        row = self._row(slot)
        if row.flags & REMOVED:
            raise LocalError(f"the endpoint of slot {slot} was removed")
        return row

    def _is_free(self, slot: int) -> bool:
        return bool(self.rows[slot].flags & REMOVED) and self.rows[slot].active == 0


def _integers(buffer: Any, formats: str, name: str) -> memoryview[int]:
    """A buffer as a row of 64-bit integers."""
    try:
        view = memoryview(buffer)
    except TypeError:
        view = None
    if view is None or view.ndim != 1 or view.itemsize != 8 or view.format not in formats or not view.contiguous:
        raise LocalError(
            f"{name} must be a contiguous buffer of 64-bit integers (array('{formats[0]}'), numpy), not {buffer!r:.80}"
        )
    return view
