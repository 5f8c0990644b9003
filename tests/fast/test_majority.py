"""The majority kernel, exhaustively for up to five voters, against counting by definition."""

from itertools import permutations, product
from typing import Any

import pytest
from builds import builds, outcome
from hypothesis import given
from hypothesis import strategies as st

from distkit._fast.pure import quorum as twin
from distkit.core.errors import LocalError

EDGES = [edge + step for edge in (0, 2**31, 2**32, 2**62, 2**63, 2**64) for step in (-1, 0, 1)]


@pytest.fixture(params=builds("quorum"), scope="module")
def quorum(request: pytest.FixtureRequest) -> Any:
    return request.param


def by_definition(acked: list[int]) -> int:
    """The largest position that more than half have reached."""
    return max(p for p in (0, *acked) if 2 * sum(1 for other in acked if other >= p) > len(acked))


@pytest.mark.parametrize("voters", [1, 2, 3, 4, 5])
def test_every_vector_of_positions(quorum: Any, voters: int) -> None:
    for acked in product(range(voters + 1), repeat=voters):
        assert quorum.majority_index(list(acked)) == quorum.majority_index(acked) == by_definition(list(acked))


@pytest.mark.parametrize("voters", [1, 2, 3, 4, 5])
def test_every_order_of_updates_of_one_list(quorum: Any, voters: int) -> None:
    for target in product(range(3), repeat=voters):
        if list(target) != sorted(target):
            continue  # the orders below give the others
        for order in permutations(range(voters)):
            acked = [0] * voters
            before = 0
            for voter in order:
                acked[voter] = target[voter]
                result = quorum.majority_index(acked)
                assert result == by_definition(acked)
                assert result >= before  # a higher acknowledgement never lowers it
                before = result


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=64))
def test_any_positions(quorum: Any, acked: list[int]) -> None:
    given = list(acked)
    assert quorum.majority_index(acked) == twin.majority_index(acked) == by_definition(acked)
    assert acked == given


def test_no_voters_hold_nothing_back(quorum: Any) -> None:
    assert quorum.majority_index([]) == quorum.INFINITY == 2**63 - 1


@pytest.mark.parametrize("number", EDGES)
def test_positions_at_the_edges(quorum: Any, number: int) -> None:
    for acked in ([number], [1, number], [number, 0, number]):
        assert outcome(quorum.majority_index, acked) == outcome(twin.majority_index, acked)
        assert outcome(quorum.majority_index, acked)[0] is (int if 0 <= number < 2**63 else LocalError)


def test_sixty_four_voters_and_no_more(quorum: Any) -> None:
    assert quorum.majority_index(list(range(64))) == 31
    for size in (65, 1000):
        with pytest.raises(LocalError, match=f"{size} voters are more than 64"):
            quorum.majority_index([1] * size)


@pytest.mark.parametrize("wrong", [None, 5, [1.0], [None], ["1"], [1, 2, b"3"]])
def test_only_integers_are_positions(quorum: Any, wrong: Any) -> None:
    with pytest.raises(TypeError):
        quorum.majority_index(wrong)


@pytest.mark.parametrize("voters", range(8))
def test_a_vote_is_decided_when_no_answer_can_change_it(quorum: Any, voters: int) -> None:
    for yes, no in product(range(voters + 1), repeat=2):
        if yes + no > voters:
            continue
        possible = {2 * total > voters for total in range(yes, voters - no + 1)} if voters else {True}
        expected = quorum.PENDING if len(possible) == 2 else quorum.WON if possible == {True} else quorum.LOST
        assert quorum.vote_result(yes, no, voters) == expected
    assert (quorum.WON, quorum.PENDING, quorum.LOST) == (1, 0, -1)


@pytest.mark.parametrize("arguments", [(-1, 0, 3), (0, -1, 3), (2, 2, 3), (0, 0, -1), (0, 0, 65), (2**31, 2**31, 64)])
def test_impossible_votes_are_refused(quorum: Any, arguments: tuple[int, int, int]) -> None:
    assert outcome(quorum.vote_result, *arguments)[0] is LocalError
    assert outcome(quorum.vote_result, *arguments) == outcome(twin.vote_result, *arguments)


@pytest.mark.parametrize("number", EDGES)
def test_votes_at_the_edges(quorum: Any, number: int) -> None:
    for arguments in ((number, 0, 5), (0, number, 5), (0, 0, number), (number, number, number)):
        assert outcome(quorum.vote_result, *arguments) == outcome(twin.vote_result, *arguments)


def test_the_largest_set_can_vote(quorum: Any) -> None:
    assert quorum.vote_result(33, 31, 64) == quorum.WON
    assert quorum.vote_result(32, 32, 64) == quorum.LOST
    for wrong in ((1.0, 0, 3), (0, None, 3), (0, 0, "3")):
        with pytest.raises(TypeError):
            quorum.vote_result(*wrong)
