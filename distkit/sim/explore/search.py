"""Breadth first through every state that can be reached: the first state found that breaks a rule ends the search, and
the way to it is a shortest one. The kernel `distkit._fast.explore` keeps the states and compares them exactly."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from time import perf_counter
from typing import Any, Final, Protocol

from distkit._fast import explore
from distkit.core import LocalError, record
from distkit.sim.broken import Broken

#: (what was spent, number of each part)
State = tuple[int, ...]
#: What a search without a limit stops at: so many states fit into the kernel's tables.
STATES_MAX: Final = (1 << 32) - 2
#: States that are looked at between two calls of `progress`.
_PACE: Final = 20_000


class Space(Protocol):
    """What can be searched: parts with numbers, as `distkit._fast.pure.explore` says, of which some may be alike."""

    first: State
    allowed: bytes
    low: int
    high: int
    orders: Sequence[tuple[int, ...]]

    def alone(self, place: int, number: int) -> Iterable[tuple[int, int]]: ...
    def together(self, place: int, number: int, other: int, source: int) -> Iterable[tuple[int, int]]: ...
    def view(self, place: int, number: int) -> int: ...
    def judge(self, views: tuple[int, ...]) -> None: ...
    def renamed(self, place: int, number: int, order: int) -> int: ...

    def broken(self, state: State) -> Broken:
        """The rule that a move out of this state breaks."""
        ...


@record
class Progress:
    """How far a search is. `depth`: moves from the beginning; `waiting`: states found but not looked at."""

    states: int
    depth: int
    waiting: int
    seconds: float


@record
class Found:
    """What a search found.

    `states`: distinct ones, the first included. `complete`: all that can be reached were looked at. If a rule is
    broken, `broken` says which, and `path` leads there: it ends in the state that breaks it, or in the one whose next
    move does (`in_move`).
    """

    states: int
    depth: int
    complete: bool
    seconds: float
    broken: Broken | None
    path: tuple[State, ...]
    in_move: bool


def search(space: Space, *, states_max: int = STATES_MAX, progress: Callable[[Progress], None] | None = None) -> Found:
    """Look at every state, or stop before there are more than `states_max` of them. A state takes some 4 bytes for each
    of its parts and 20 more (compiled; a few hundred without kernels)."""
    if not 1 <= states_max <= STATES_MAX:
        raise LocalError(f"a search takes 1 to {STATES_MAX} states, not {states_max}")
    start = perf_counter()
    try:
        explorer = explore.Explorer(space, space.first, space.allowed, space.low, space.high, space.orders)
    except Broken as error:
        return Found(1, 0, False, perf_counter() - start, error, (space.first,), False)

    def found(complete: bool, broken: Broken | None = None, last: int = -1, in_move: bool = False) -> Found:
        path: list[State] = []
        while last >= 0:
            path.append(explorer.state(last))
            last = explorer.parent(last) if last else -1
        depth = explorer.depth if complete else max(explorer.depth, len(path) - 1)
        return Found(explorer.count, depth, complete, perf_counter() - start, broken, tuple(path[::-1]), in_move)

    while True:
        try:
            status = explorer.run(states_max, _PACE)
        except Broken as error:
            return found(False, error, explorer.count - 1)
        if progress is not None:
            waiting = explorer.count - explorer.at
            progress(Progress(explorer.count, explorer.depth, waiting, perf_counter() - start))
        if status == explore.BROKEN:
            return found(False, space.broken(explorer.state(explorer.at)), explorer.at, True)
        if status != explore.PENDING:
            return found(status == explore.COMPLETE)


class Whole:
    """A space of one part: any model that can say what may follow a state.

    `states` are the model's own, by their number in the search's states.
    """

    allowed = b"\1"
    low = high = 0
    orders: Sequence[tuple[int, ...]] = ()

    def __init__(
        self, first: Hashable, after: Callable[[Any], Iterable[Hashable]], check: Callable[[Any], None]
    ) -> None:
        """`after` gives the states one move away, `check` raises Broken if a state breaks a rule; so may `after`."""
        self.first = (0, 0)
        self.states: list[Hashable] = [first]
        self._numbers: dict[Hashable, int] = {first: 0}
        self._after = after
        self._check = check

    def alone(self, place: int, number: int) -> Iterable[tuple[int, int]]:
        """What may follow."""
        try:
            return [(self._number(state), 0) for state in self._after(self.states[number])]
        except Broken:
            return [(explore.NOWHERE, 0)]

    def together(self, place: int, number: int, other: int, source: int) -> Iterable[tuple[int, int]]:
        """There is no other part."""
        return ()

    def view(self, place: int, number: int) -> int:
        """All of it."""
        return number

    def judge(self, views: tuple[int, ...]) -> None:
        """The model's check."""
        self._check(self.states[views[0]])

    def renamed(self, place: int, number: int, order: int) -> int:
        """Nothing is alike."""
        return number

    def broken(self, state: State) -> Broken:
        """What `after` raises."""
        try:
            list(self._after(self.states[state[1]]))
        except Broken as error:
            return error
        raise LocalError("a model breaks a rule once, and then does not: it must be a function of the state")

    def _number(self, state: Hashable) -> int:
        number = self._numbers.setdefault(state, len(self.states))
        if number == len(self.states):
            self.states.append(state)
        return number
