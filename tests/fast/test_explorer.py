"""The search of the explorer: the twin and the compiled kernel find the same states in the same order, all of them."""

from collections import deque
from itertools import permutations
from random import Random

import pytest
from builds import builds

from distkit._fast.pure import explore as twin
from distkit.core import LocalError


@pytest.fixture(params=builds("explore"), scope="module")
def explore(request):
    return request.param


class Maze:
    """Parts that go from number to number by chance."""

    def __init__(self, seed, parts, alike=0):
        self.seed, self.parts, self.alike = seed, parts, alike
        self.first = (0,) * (parts + 1)
        self.allowed = b"\1\1\0\1\1"
        self.low, self.high = (1, 1 + alike) if alike else (0, 0)
        self.orders = list(permutations(range(alike))) if alike else []
        self.judged = []

    def drawn(self, *what):
        random = Random(repr((self.seed, *what)))
        return [(random.randrange(6), random.choice((0, 0, 1, 3))) for _ in range(random.randrange(3))]

    def alone(self, place, number):
        return self.drawn(place, number)

    def together(self, place, number, other, source):
        if self.alike:
            if place >= self.alike > other and source == 3:
                return [(number | 1 << other, 0)]
            return []
        return self.drawn(place, number, other, source)

    def view(self, place, number):
        return number

    def judge(self, views):
        self.judged.append(views)

    def renamed(self, place, number, order):
        met = [new for new, old in enumerate(self.orders[order]) if number >> old & 1]
        return sum(1 << new for new in met)


class Counting(Maze):
    """Parts of which some are alike; the others know which of these they met."""

    def alone(self, place, number):
        return self.drawn(0, number) if place < self.alike else []


def searched(explore, space, states_max=1 << 40, looks=1 << 40):
    explorer = explore.Explorer(space, space.first, space.allowed, space.low, space.high, space.orders)
    status = explore.PENDING
    while status == explore.PENDING:
        status = explorer.run(states_max, looks)
    states = [explorer.state(number) for number in range(explorer.count)]
    parents = [explorer.parent(number) for number in range(explorer.count)]
    return status, states, parents, explorer.at, explorer.depth, space.judged


def every(space):
    """What can be reached, in the simplest way."""
    known, waiting = {space.first}, deque([space.first])
    while waiting:
        state = waiting.popleft()
        for place, number in enumerate(state[1:]):
            moves = list(space.alone(place, number))
            for other, source in enumerate(state[1:]):
                if other != place:
                    moves += space.together(place, number, other, source)
            for after, cost in moves:
                spent = state[0] + cost
                if spent < len(space.allowed) and space.allowed[spent]:
                    changed = (spent, *state[1 : place + 1], after, *state[place + 2 :])
                    if changed not in known:
                        known.add(changed)
                        waiting.append(changed)
    return known


@pytest.mark.parametrize("seed", range(20))
def test_it_finds_every_state_once_and_as_the_twin_does(explore, seed):
    parts = 1 + seed % 4
    found = searched(explore, Maze(seed, parts))
    assert found == searched(twin, Maze(seed, parts))
    assert found == searched(explore, Maze(seed, parts), looks=1)
    status, states, parents, at, _, judged = found
    assert status == explore.COMPLETE
    assert len(states) == len(set(states)) == at
    assert set(states) == every(Maze(seed, parts))
    assert all(parent < child for child, parent in enumerate(parents) if child)
    assert set(judged) == {state[1:] for state in states}
    assert len(judged) == len(set(judged))


@pytest.mark.parametrize("seed", range(12))
def test_of_states_that_are_alike_it_looks_at_one(explore, seed):
    found = searched(explore, Counting(seed, 4, alike=3))
    assert found == searched(twin, Counting(seed, 4, alike=3))
    _, states, *_ = found
    space = Counting(seed, 4, alike=3)

    def others(state):
        for number, order in enumerate(space.orders):
            yield (state[0], *[state[1 + each] for each in order], space.renamed(3, state[4], number))

    orbits = [set(others(state)) for state in states]
    assert sum(map(len, orbits)) == len(set().union(*orbits))
    assert set().union(*orbits) == every(Counting(seed, 4, alike=3))


@pytest.mark.parametrize("most", [1, 2, 7])
def test_it_stops_before_one_state_too_many(explore, most):
    seed = next(seed for seed in range(100) if len(every(Maze(seed, 3))) > 7)
    status, states, *_ = searched(explore, Maze(seed, 3), states_max=most)
    assert (status, len(states)) == (explore.CAPPED, most)


def test_a_move_that_leads_nowhere_ends_it_if_it_can_be_paid(explore):
    class Trap(Maze):
        def alone(self, place, number):
            return [(explore.NOWHERE, 9), (number + 1, 0)] if number < 3 else [(explore.NOWHERE, 1)]

    status, states, _, at, depth, _ = searched(explore, Trap(0, 1))
    assert (status, states[at], depth) == (explore.BROKEN, (0, 3), 3)


def test_what_the_space_raises_ends_it(explore):
    class Strict(Maze):
        def judge(self, views):
            if views == (2,):
                raise KeyError("two")

        def alone(self, place, number):
            return [(number + 1, 0)]

    space = Strict(0, 1)
    explorer = explore.Explorer(space, space.first, space.allowed)
    with pytest.raises(KeyError):
        explorer.run(100, 100)
    assert explorer.state(explorer.count - 1) == (0, 2)


@pytest.mark.parametrize("after", [-1, 1 << 26])
def test_numbers_have_limits(explore, after):
    class Wide(Maze):
        def alone(self, place, number):
            return [(after, 0)]

    with pytest.raises(LocalError, match="numbers of a state"):
        searched(explore, Wide(0, 1))


@pytest.mark.parametrize(
    ("first", "low", "high", "orders"),
    [
        ((0,), 0, 0, ()),
        ((0,) * 33, 0, 0, ()),
        ((0, -1), 0, 0, ()),
        ((0, (1 << 26) - 1), 0, 0, ()),
        ((9, 0), 0, 0, ()),
        ((0, 0), 2, 1, ()),
        ((0, 0, 0), 1, 3, ((0, 0),)),
        ((0, 0, 0), 1, 3, ((0, 1),) * 721),
    ],
)
def test_what_makes_no_sense_is_refused(explore, first, low, high, orders):
    with pytest.raises(LocalError):
        explore.Explorer(Maze(0, 1), first, b"\1", low, high, orders)


def test_only_states_that_are_known_can_be_asked_for(explore):
    explorer = explore.Explorer(Maze(0, 1), (0, 0), b"\1")
    assert (explorer.state(0), explorer.parent(0)) == ((0, 0), 0)
    for number in (-1, 1):
        with pytest.raises(LocalError, match="no state"):
            explorer.state(number)
        with pytest.raises(LocalError, match="no state"):
            explorer.parent(number)
