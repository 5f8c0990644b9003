"""The search kernel: what it finds, against trying every order, and that both builds take the very same steps."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from builds import builds, outcome
from hypothesis import given
from hypothesis import strategies as st

from distkit._fast import linear as used
from distkit._fast.pure import linear as twin
from distkit.core.errors import LocalError

READ, UNLESS, WRITE, CAS, ADD, PUSH, POP, TAKE = range(8)
PLENTY = 1 << 30
LARGE = 1 << 40
Instruction = tuple[int, int, int]

#: Sequences 1 to 4 as the kernel takes them, and what all five of them are.
PAIRS = ((0, 1), (1, 2), (0, 2), (3, 1))
LISTS = ((), (1,), (1, 2), (2,), (2, 1))

#: By family: its instructions, and the sequences that they name.
FAMILIES: dict[str, tuple[list[Instruction], Any]] = {
    "cell": ([(code, a, b) for code in (READ, UNLESS, WRITE, CAS) for a in range(3) for b in range(3)], ()),
    "large": ([(code, a * LARGE, b * -LARGE) for code in (READ, WRITE, CAS) for a in (0, 1) for b in (-1, 1)], ()),
    "number": ([(READ, 1, 0), (READ, 2, 0), (ADD, 1, 0), (ADD, -1, 0), (ADD, 2, 0), (CAS, 0, 1), (CAS, 3, 2)], ()),
    "list": ([(READ, 1, 0), (READ, 2, 0), (READ, 4, 0), (PUSH, 0, 1), (PUSH, 0, 2), (CAS, 0, 1), (CAS, 3, 4)], PAIRS),
    "queue": ([(READ, 0, 0), (TAKE, 0, 0), *((code, a, a) for code in (PUSH, POP, POP) for a in (0, 1, 2))], ()),
}
FAMILIES["queue"] = ([(code, 0 if code == PUSH else a, b) for code, a, b in FAMILIES["queue"][0]], ())


@pytest.fixture(params=builds("linear"), scope="module")
def linear(request: pytest.FixtureRequest) -> Any:
    return request.param


class Problem:
    """Random operations, sorted by call: (called, answered or None) and what they do."""

    def __init__(self, family: str, random: Random, count: int, gap: int = 2) -> None:
        self.family = family
        instructions, self.sequences = FAMILIES[family]
        calls = sorted(random.randint(0, gap * count) for _ in range(count))
        self.times = [(call, None if random.random() < 0.2 else call + random.randint(0, 6)) for call in calls]
        self.instructions = [random.choice(instructions) for _ in range(count)]
        self.open = [number for number, (_call, end) in enumerate(self.times) if end is None]
        self.order = sorted((number for number in range(count) if number not in self.open), key=self.end)
        self.limits = [sum(call <= self.end(number) for call, _end in self.times) for number in self.order]
        self.twins = [-1] * count
        for place, number in enumerate(self.open):
            same = [each for each in self.open[:place] if self.instructions[each] == self.instructions[number]]
            self.twins[number] = same[-1] if same else -1

    def end(self, number: int) -> int:
        return self.times[number][1] or 0

    def search(self, linear: Any) -> Any:
        return linear.Search(self.order, self.limits, self.twins, self.instructions, 0, self.sequences)

    def search_by_step(self, linear: Any) -> Any:
        first = () if self.family in ("list", "queue") else 0
        return linear.Search(self.order, self.limits, self.twins, self.instructions, first, step=does)

    def explained(self, answers: int) -> bool:
        """Whether an order explains the operations with the first so many answers, by trying all."""
        wanted = set(self.order[:answers])
        first: Any = () if self.family in ("list", "queue") else 0

        def extends(state: Any, left: list[int]) -> bool:
            if not wanted & set(left):
                return True
            end = min(self.end(number) for number in left if number not in self.open)
            for number in left:
                if self.times[number][0] > end:
                    continue
                after = does(state, self.instructions[number])
                if after is not None and extends(after, [each for each in left if each != number]):
                    return True
            return False

        return extends(first, list(range(len(self.times))))


def does(state: Any, instruction: Instruction) -> Any:
    """What an instruction makes of a state, None if it is impossible."""
    code, a, b = instruction
    if isinstance(state, tuple):
        if code in (READ, CAS):
            return None if state != LISTS[a] else LISTS[b] if code == CAS else state
        if code == PUSH:
            return (*state, b)
        return state[1:] if state and (code == TAKE or state[0] == a) else None
    if code in (READ, CAS):
        return None if state != a else b if code == CAS else state
    if code == UNLESS:
        return None if state == a else state
    return b if code == WRITE else state + a


def found(search: Any) -> tuple[int, int, list[int], int, int]:
    """All that a search says when it has ended."""
    return search.run(PLENTY, PLENTY), search.steps, search.longest, search.blocking, search.bytes


@pytest.mark.parametrize("family", FAMILIES)
def test_it_agrees_with_trying_every_order(linear: Any, family: str) -> None:
    answers = {linear.LEGAL: 0, linear.ILLEGAL: 0}
    for seed in range(400):
        problem = Problem(family, Random(seed), 1 + seed % 7)
        answer, _steps, longest, blocking, _bytes = found(problem.search(linear))
        answers[answer] += 1
        assert (answer == linear.LEGAL) == problem.explained(len(problem.order)), seed
        assert (answer == linear.LEGAL) == (blocking == -1)
        if blocking >= 0:  # the first answer that can't be explained: those before it can
            rank = problem.order.index(blocking)
            assert problem.explained(rank), seed
            assert not problem.explained(rank + 1), seed
            assert set(problem.order[:rank]) <= set(longest)
    assert min(answers.values()) > 40


@pytest.mark.parametrize("family", FAMILIES)
def test_the_longest_order_keeps_to_the_times_and_is_possible(linear: Any, family: str) -> None:
    for seed in range(100):
        problem = Problem(family, Random(seed), 10)
        _answer, _steps, longest, _blocking, _bytes = found(problem.search(linear))
        state: Any = () if family in ("list", "queue") else 0
        for place, number in enumerate(longest):
            later = [each for each in problem.order if each not in longest[:place]]
            assert problem.times[number][0] <= min(map(problem.end, later), default=PLENTY)
            state = does(state, problem.instructions[number])
            assert state is not None


@pytest.mark.parametrize("family", FAMILIES)
@given(seed=st.integers(0, 1 << 32), count=st.integers(0, 150), gap=st.integers(0, 3))
def test_builds_take_the_same_steps(family: str, seed: int, count: int, gap: int) -> None:
    problem = Problem(family, Random(seed), count, gap)
    searches = [problem.search(used), problem.search(twin), problem.search_by_step(used), problem.search_by_step(twin)]
    results = [(each.run(3000, PLENTY), each.steps, each.longest, each.blocking, each.trying) for each in searches]
    assert results[0] == results[1] == results[2] == results[3]
    assert searches[0].bytes == searches[1].bytes
    assert searches[2].bytes == searches[3].bytes


@pytest.mark.parametrize("family", FAMILIES)
def test_interrupted_after_each_step_it_finds_the_same(linear: Any, family: str) -> None:
    for seed in range(20):
        problem = Problem(family, Random(seed), 9, 1)
        whole, pieces = problem.search(linear), problem.search(linear)
        answer = whole.run(PLENTY, PLENTY)
        while pieces.run(1, PLENTY) == linear.PENDING:
            pass
        assert pieces.run(0, PLENTY) in (answer, linear.PENDING)
        assert (pieces.run(1, PLENTY), pieces.longest, pieces.blocking) == (answer, whole.longest, whole.blocking)
        assert pieces.steps == whole.steps


def concurrent(
    count: int, instruction: Callable[[int], Instruction], last: Instruction
) -> tuple[list[int], list[int], Any]:
    """So many operations at once, then one that is impossible."""
    return list(range(count + 1)), [count] * count + [count + 1], [*map(instruction, range(count)), last]


HARD = {
    "cell": concurrent(11, lambda number: (WRITE, 0, number), (READ, 99, 0)),
    "queue": concurrent(7, lambda number: (PUSH, 0, number), (POP, 99, 0)),
}


@pytest.mark.parametrize("name", HARD)
def test_memory_ends_the_search_at_the_same_step_in_both_builds(name: str) -> None:
    order, limits, instructions = HARD[name]
    for bytes_max in (0, 5000, 20_000, 100_000, 300_000):
        results = []
        for linear in (used, twin):
            search = linear.Search(order, limits, [-1] * len(instructions), instructions)
            assert search.run(PLENTY, bytes_max) == linear.FULL
            assert search.bytes <= bytes_max or search.steps == 0
            results.append((search.steps, search.bytes, search.run(PLENTY, PLENTY), search.steps))
            assert results[-1][2] == linear.ILLEGAL  # with more memory it goes on
        assert results[0] == results[1]


def test_states_of_a_step_count_as_memory(linear: Any) -> None:
    search = linear.Search(
        [0], [1000], [-1] * 1000, range(1000), 0, step=lambda state, number: None if number == 0 else state + number
    )
    assert search.run(PLENTY, 1_000_000) == linear.FULL


def test_equal_open_operations_are_tried_in_one_order_only(linear: Any) -> None:
    """Twenty open writes of 1 and one of 2: with twins the writes of 1 have one order, without them each its own."""
    writes = [(WRITE, 0, 1)] * 12
    steps = []
    for twins in ([-1, *range(11), -1], [-1] * 13):
        search = linear.Search([12], [13], twins, [*writes, (READ, 7, 0)])
        assert search.run(PLENTY, PLENTY) == linear.ILLEGAL
        steps.append(search.steps)
    assert steps[0] < 200 < 4000 < steps[1]


def test_operations_without_an_answer_need_no_place(linear: Any) -> None:
    search = linear.Search([], [], [-1, -1], [(READ, 5, 0), (READ, 6, 0)])
    assert found(search)[:4] == (linear.LEGAL, 0, [], -1)
    assert found(linear.Search([], [], [], []))[:4] == (linear.LEGAL, 0, [], -1)


def test_a_queue_is_the_same_whatever_left_it_before(linear: Any) -> None:
    """What left it in another order makes no other state: by content it is found again, as it is among tuples."""
    order = list(range(7))
    instructions = [(PUSH, 0, 1), (PUSH, 0, 2), (POP, 1, 0), (POP, 2, 0), (PUSH, 0, 3), (PUSH, 0, 4), (POP, 9, 0)]
    search = linear.Search(order, [4, 4, 4, 4, 6, 6, 7], [-1] * 7, instructions)
    by_step = linear.Search(order, [4, 4, 4, 4, 6, 6, 7], [-1] * 7, instructions, (), step=does)
    assert found(search)[:4] == found(by_step)[:4]
    assert search.blocking == 6


@pytest.mark.parametrize(
    "arguments",
    [
        ([0], [], [-1], [(READ, 0, 0)]),
        ([0], [1], [], [(READ, 0, 0)]),
        ([1], [1], [-1], [(READ, 0, 0)]),
        ([-1], [1], [-1], [(READ, 0, 0)]),
        ([0], [2], [-1], [(READ, 0, 0)]),
        ([0], [0], [-1], [(READ, 0, 0)]),
        ([0, 0], [1, 1], [-1], [(READ, 0, 0)]),
        ([1, 0], [2, 1], [-1, -1], [(READ, 0, 0)] * 2),
        ([], [], [0], [(READ, 0, 0)]),
        ([], [], [-2], [(READ, 0, 0)]),
        ([0], [1], [-1, 0], [(READ, 0, 0)] * 2),
        ([], [], [-1], [(8, 0, 0)]),
        ([], [], [-1], [(-1, 0, 0)]),
        ([], [], [-1], [(1 << 70, 0, 0)]),
        ([], [], [-1], [(READ, 1 << 62, 0)]),
        ([], [], [-1], [(WRITE, 0, -(1 << 62))]),
        ([], [], [-1] * 2, [(ADD, 1 << 61, 0), (ADD, 1 << 61, 0)]),
        ([], [], [-1], [(ADD, 1, 0)], (1 << 62) - 1),
        ([], [], [-1], [(ADD, 1, 0)], 1 << 70),
        ([], [], [-1] * 2, [(PUSH, 0, 1), (ADD, 1, 0)]),
        ([], [], [-1] * 2, [(POP, 1, 0), (WRITE, 0, 0)]),
        ([], [], [-1] * 2, [(TAKE, 0, 0), (CAS, 0, 0)]),
        ([], [], [-1], [(POP, 1, 0)], 1, [(0, 1)]),
        ([], [], [-1] * 2, [(PUSH, 0, 1), (READ, 1, 0)]),
        ([], [], [-1] * 2, [(PUSH, 0, 1), (CAS, 0, 5)], 0, [(0, 1)]),
        ([], [], [-1], [(PUSH, 0, -1)]),
        ([], [], [-1], [(PUSH, 0, 1 << 31)]),
        ([], [], [-1], [(PUSH, 0, 1)], 1),
        ([], [], [-1], [(PUSH, 0, 1)], 0, [(1, 1)]),
        ([], [], [-1], [(PUSH, 0, 1)], 0, [(0, -1)]),
        ([], [], [-1], [(PUSH, 0, 1)], 0, [(0, 1), (0, 1)]),
    ],
)
def test_what_does_not_fit_is_refused(linear: Any, arguments: Any) -> None:
    assert outcome(linear.Search, *arguments)[0] is LocalError
    assert outcome(linear.Search, *arguments) == outcome(twin.Search, *arguments)


def test_states_must_be_hashable(linear: Any) -> None:
    with pytest.raises(LocalError, match=r"the state \[\] of the model must be hashable"):
        linear.Search([], [], [], [], [], step=does)
    search = linear.Search([0], [1], [-1], ["x"], 0, step=lambda state, operation: [operation])
    with pytest.raises(LocalError, match=r"the state \['x'\] of the model must be hashable"):
        search.run(PLENTY, PLENTY)


def test_what_a_step_raises_comes_out_and_leaves_the_search_as_it_was(linear: Any) -> None:
    broken = True

    def step(state: int, operation: int) -> int:
        if broken and operation == 1:
            raise ZeroDivisionError
        return state + operation

    search = linear.Search([0, 1, 2], [3, 3, 3], [-1] * 3, range(3), 0, step=step)
    with pytest.raises(ZeroDivisionError):
        search.run(PLENTY, PLENTY)
    assert search.trying == 1
    broken = False
    assert found(search)[:3] == (linear.LEGAL, 3, [0, 1, 2])


def test_a_step_can_not_run_its_own_search(linear: Any) -> None:
    search: Any = None

    def step(state: int, operation: int) -> int:
        return int(search.run(1, PLENTY))

    search = linear.Search([0], [1], [-1], [0], 0, step=step)
    with pytest.raises(LocalError, match="the search is running"):
        search.run(PLENTY, PLENTY)
