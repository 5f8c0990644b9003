"""The search of the explorer: breadth first through vectors of small numbers.

`distkit.sim.explore` says what the numbers mean. The first number of a state is what was spent so far, each other one
is what one part of the whole is. A move changes one part (its `place`) and depends on that part alone, or on it and one
other part; so what a move does is asked for once, and looked up from then on. States are kept and compared exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from distkit.core.errors import LocalError

PENDING: Final = 0  # run again
COMPLETE: Final = 1  # every state that can be reached was looked at
CAPPED: Final = 2  # there are more states than wanted
BROKEN: Final = 3  # a move leads nowhere: it breaks a rule

NUMBER_MAX: Final = (1 << 26) - 2
#: What a move that breaks a rule leads to.
NOWHERE: Final = (1 << 26) - 1
WIDTH_MAX: Final = 32
ORDERS_MAX: Final = 720


class _Space(Protocol):
    """What the search asks for, each thing once. Places count from 0, without the number that is spent."""

    def alone(self, place: int, number: int) -> Iterable[tuple[int, int]]:
        """(what the part becomes, what that costs) for each move of a part that needs no other one."""
        ...

    def together(self, place: int, number: int, other: int, source: int) -> Iterable[tuple[int, int]]:
        """The same for moves that depend on another part, which is `source`."""
        ...

    def view(self, place: int, number: int) -> int:
        """What judges must know of a part, as a number."""
        ...

    def judge(self, views: tuple[int, ...]) -> None:
        """Raise if the parts together break a rule."""
        ...

    def renamed(self, place: int, number: int, order: int) -> int:
        """What a part becomes when other parts change places by this order."""
        ...


class Explorer:
    """A search that can be interrupted.

    `first` is the state to begin with; sums of costs are allowed where `allowed` is not 0. Parts at the places `low` to
    `high` of a state, without `high`, are alike: of the states that differ by one of the `orders` of these parts only
    one is looked at. An order lists who takes the first of the places, who the second ...; all orders must be given.

    `at` is the number of the state that is looked at, `depth` its distance from the first, `count` how many are known.
    What `space` raises ends the search; if it is `judge` that raised, the last state is the one that it judged.
    """

    def __init__(
        self,
        space: _Space,
        first: Sequence[int],
        allowed: bytes,
        low: int = 0,
        high: int = 0,
        orders: Sequence[Sequence[int]] = (),
    ) -> None:
        if not 2 <= len(first) <= WIDTH_MAX:
            raise LocalError(f"a state has 2 to {WIDTH_MAX} numbers, not {len(first)}")
        if not 0 <= low <= high <= len(first) or len(orders) > ORDERS_MAX:
            raise LocalError(f"places {low} to {high} in {len(orders)} orders of a state of {len(first)}")
        for number in first:
            if not 0 <= number <= NUMBER_MAX:
                raise LocalError(f"the numbers of a state are 0 to {NUMBER_MAX}, not {number}")
        for order in orders:
            if sorted(order) != list(range(high - low)):
                raise LocalError(f"{order} is no order of {high - low} places")
        if not first[0] < len(allowed):
            raise LocalError("the first state spends more than is allowed")
        self._at = 0
        self._depth = 0
        self._space = space
        self._allowed = bytes(allowed)
        self._low, self._high = low, high
        self._orders = [tuple(order) for order in orders]
        self._states: list[tuple[int, ...]] = []
        self._known: set[tuple[int, ...]] = set()
        self._parents: list[int] = []
        self._judged: set[tuple[int, ...]] = set()
        self._views: dict[tuple[int, int], int] = {}
        self._moves: dict[tuple[int, ...], tuple[tuple[int, int], ...]] = {}
        self._names: dict[tuple[int, int, int], int] = {}
        self._level_end = 1
        self._running = False
        self._add(tuple(first), 0)

    @property
    def at(self) -> int:
        """The state that is looked at."""
        return self._at

    @property
    def depth(self) -> int:
        """Its distance from the first one."""
        return self._depth

    @property
    def count(self) -> int:
        """States known so far."""
        return len(self._states)

    def state(self, number: int) -> tuple[int, ...]:
        """A state, by number in the order in which they were found."""
        self._check(number)
        return self._states[number]

    def parent(self, number: int) -> int:
        """The state from which this one was found first; the first state is its own."""
        self._check(number)
        return self._parents[number]

    def run(self, states_max: int, looks: int) -> int:
        """Look at so many states, unless one more than `states_max` is found, or a move that breaks a rule."""
        if self._running:
            raise LocalError("the explorer is running")
        self._running = True
        try:
            end = self._at + looks
            while self._at < len(self._states):
                if self._at >= end:
                    return PENDING
                if self._at == self._level_end:
                    self._depth += 1
                    self._level_end = len(self._states)
                status = self._look(states_max)
                if status:
                    return status
                self._at += 1
            return COMPLETE
        finally:
            self._running = False

    def _check(self, number: int) -> None:
        if not 0 <= number < len(self._states):
            raise LocalError(f"there is no state {number}, only {len(self._states)}")

    def _look(self, states_max: int) -> int:
        """Everything that is one move away from the state `at`."""
        state = self._states[self._at]
        for place, number in enumerate(state[1:], 1):
            key: tuple[int, ...] = (place, number)
            moves = self._moves.get(key)
            if moves is None:
                moves = self._learn(key, self._space.alone(place - 1, number))
            status = self._follow(state, place, moves, states_max)
            if status:
                return status
            for other, source in enumerate(state[1:], 1):
                if other == place:
                    continue
                key = (place, number, other, source)
                moves = self._moves.get(key)
                if moves is None:
                    moves = self._learn(key, self._space.together(place - 1, number, other - 1, source))
                status = self._follow(state, place, moves, states_max)
                if status:
                    return status
        return 0

    def _learn(self, key: tuple[int, ...], found: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        """Keep the moves of a key."""
        moves = tuple(found)
        for after, _ in moves:
            if not 0 <= after <= NOWHERE:
                raise LocalError(f"the numbers of a state are 0 to {NUMBER_MAX}, not {after}")
        self._moves[key] = moves
        return moves

    def _follow(self, state: tuple[int, ...], place: int, moves: tuple[tuple[int, int], ...], states_max: int) -> int:
        """Make the moves of one place."""
        for after, cost in moves:
            spent = state[0] + cost
            if spent >= len(self._allowed) or not self._allowed[spent]:
                continue
            if after == NOWHERE:
                return BROKEN
            changed = (spent, *state[1:place], after, *state[place + 1 :])
            if self._orders:
                changed = self._canonical(changed)
            if changed in self._known:
                continue
            if len(self._states) >= states_max:
                return CAPPED
            self._add(changed, self._at)
        return 0

    def _canonical(self, state: tuple[int, ...]) -> tuple[int, ...]:
        """Bring a state into the order that stands for all: the smallest one with sorted places."""
        alike = state[self._low : self._high]
        wanted = tuple(sorted(alike))
        if alike == wanted and len(set(alike)) == len(alike):
            return state  # and no other order is sorted
        found = []
        for number, order in enumerate(self._orders):
            if tuple([alike[each] for each in order]) != wanted:
                continue
            other = list(state)
            other[self._low : self._high] = wanted
            for place in range(1, len(state)):
                if self._low <= place < self._high:
                    continue
                key = (place, state[place], number)
                renamed = self._names.get(key)
                if renamed is None:
                    renamed = self._space.renamed(place - 1, state[place], number)
                    if not 0 <= renamed < NOWHERE:
                        raise LocalError(f"the numbers of a state are 0 to {NUMBER_MAX}, not {renamed}")
                    self._names[key] = renamed
                other[place] = renamed
            found.append(tuple(other))
        return min(found)

    def _add(self, state: tuple[int, ...], parent: int) -> None:
        """A new state: keep it, and have it judged unless one that looks the same was."""
        self._states.append(state)
        self._known.add(state)
        self._parents.append(parent)
        views = []
        for place, number in enumerate(state[1:]):
            view = self._views.get((place, number))
            if view is None:
                view = self._space.view(place, number)
                if not 0 <= view < NOWHERE:
                    raise LocalError(f"the numbers of views are 0 to {NUMBER_MAX}, not {view}")
                self._views[place, number] = view
            views.append(view)
        looks = tuple(views)
        if looks not in self._judged:
            self._judged.add(looks)
            self._space.judge(looks)
