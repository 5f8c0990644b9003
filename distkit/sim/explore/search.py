"""Breadth first through every state that a model can reach.

States are compared exactly: what is kept is the state itself, not a hash of it. The first state that breaks a rule ends
the search, and the way to it is a shortest one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from time import perf_counter
from typing import Final, Generic, Protocol, TypeVar

from distkit.core import LocalError, record
from distkit.sim.broken import Broken

S = TypeVar("S", bound=Hashable)

#: States between two calls of `progress`.
_PACE: Final = 10_000


class Model(Protocol[S]):
    """What can be explored."""

    def initial(self) -> Iterable[S]:
        """Where it may begin."""
        ...

    def successors(self, state: S) -> Iterable[S]:
        """The states one move away; repeats are harmless. Raises Broken if a move itself breaks a rule."""
        ...

    def check(self, state: S) -> None:
        """Raises Broken if the state breaks a rule. It is asked once for each state."""
        ...


@record
class Progress:
    """How far a search is. `depth`: moves from the beginning; `waiting`: states found but not looked at."""

    states: int
    depth: int
    waiting: int
    seconds: float


@record
class Found(Generic[S]):
    """What a search found.

    `states`: distinct ones, the initial ones included. `complete`: all that can be reached were looked at. If a rule is
    broken, `broken` says which, and `path` leads there: it ends in the state that breaks the rule, or in the one whose
    next move does (`in_move`).
    """

    states: int
    depth: int
    complete: bool
    seconds: float
    broken: Broken | None
    path: tuple[S, ...]
    in_move: bool


def search(
    model: Model[S], *, states_max: int = 1 << 62, progress: Callable[[Progress], None] | None = None
) -> Found[S]:
    """Look at every state, or at `states_max` of them. Memory grows with the number of states."""
    if states_max < 1:
        raise LocalError(f"a search needs at least one state, not {states_max}")
    start = perf_counter()
    parents: dict[S, S | None] = {}
    level: list[S] = []
    depth = 0

    def found(complete: bool, broken: Broken | None = None, last: S | None = None, in_move: bool = False) -> Found[S]:
        path = tuple(_path(parents, last))
        return Found(len(parents), depth, complete, perf_counter() - start, broken, path, in_move)

    for state in model.initial():
        if state not in parents:
            parents[state] = None
            level.append(state)
            try:
                model.check(state)
            except Broken as error:
                return found(False, error, state)
    while level:
        following: list[S] = []
        for number, state in enumerate(level):
            if progress is not None and number % _PACE == 0:
                waiting = len(level) - number + len(following)
                progress(Progress(len(parents), depth, waiting, perf_counter() - start))
            try:
                reached = model.successors(state)
            except Broken as error:
                return found(False, error, state, True)
            for after in reached:
                if after in parents:
                    continue
                if len(parents) >= states_max:
                    return found(False)
                parents[after] = state
                following.append(after)
                try:
                    model.check(after)
                except Broken as error:
                    depth += 1
                    return found(False, error, after)
        level = following
        depth += bool(level)
    return found(True)


def _path(parents: dict[S, S | None], last: S | None) -> Sequence[S]:
    """From an initial state to `last`."""
    path: list[S] = []
    while last is not None:
        path.append(last)
        last = parents[last]
    return path[::-1]
