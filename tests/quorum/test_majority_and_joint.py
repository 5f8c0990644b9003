"""Commit index and votes of one set of voters and of joint configurations, exhaustively for up to four nodes."""

from collections.abc import Collection, Iterator, Mapping
from itertools import combinations, permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit.core.errors import LocalError
from distkit.quorum import INFINITY, VoteResult, joint, majority

WON, PENDING, LOST = VoteResult.WON, VoteResult.PENDING, VoteResult.LOST
IDS = (1, 2, 3, 4)


def subsets(ids: Collection[int]) -> Iterator[tuple[int, ...]]:
    for size in range(len(ids) + 1):
        yield from combinations(ids, size)


def agree(voters: Collection[int], agreeing: Collection[int]) -> bool:
    """The definition: more than half of the voters, or nobody to ask."""
    return not voters or 2 * sum(1 for voter in voters if voter in agreeing) > len(voters)


def by_definition(halves: tuple[tuple[int, ...], ...], acked: Mapping[int, int]) -> int:
    """The largest position that was acknowledged by enough nodes of every half."""
    candidates = [0, *acked.values(), INFINITY]
    return max(
        position
        for position in candidates
        if all(agree(half, [node for node in IDS if acked.get(node, 0) >= position]) for half in halves)
    )


# ---- committed


def test_every_joint_configuration_of_four_nodes_after_every_update() -> None:
    for incoming, outgoing in product(list(subsets(IDS)), repeat=2):
        for positions in product(range(3), repeat=len(IDS)):
            acked = dict(zip(IDS, positions, strict=True))
            expected = by_definition((incoming, outgoing), acked)
            assert joint.committed(incoming, outgoing, acked) == expected
            assert joint.committed(outgoing, incoming, acked) == expected


def test_every_order_of_acknowledgements() -> None:
    for incoming, outgoing in [((1, 2, 3), ()), ((1, 2, 3), (3, 4)), ((1, 2), (1, 2, 3, 4))]:
        for order in permutations(IDS):
            acked: dict[int, int] = {}
            before = joint.committed(incoming, outgoing, acked)
            for position, node in enumerate(order, 1):
                acked[node] = position
                result = joint.committed(incoming, outgoing, acked)
                assert result == by_definition((incoming, outgoing), acked)
                assert result >= before
                before = result


ACKED = st.dictionaries(st.integers(1, 9), st.integers(0, 2**63 - 1))
VOTERS = st.sets(st.integers(1, 9)).map(lambda ids: tuple(sorted(ids)))


@given(VOTERS, ACKED)
def test_an_empty_half_and_an_equal_half_change_nothing(voters: tuple[int, ...], acked: dict[int, int]) -> None:
    alone = majority.committed(voters, acked)
    assert joint.committed(voters, (), acked) == joint.committed((), voters, acked) == alone
    assert joint.committed(voters, voters, acked) == alone


@given(VOTERS, ACKED, st.integers(1, 9), st.integers(0, 2**63 - 1))
def test_raising_never_lowers_and_lowering_what_is_below_changes_nothing(
    voters: tuple[int, ...], acked: dict[int, int], node: int, position: int
) -> None:
    before = majority.committed(voters, acked)
    raised = acked | {node: max(position, acked.get(node, 0))}
    assert majority.committed(voters, raised) >= before
    if acked.get(node, 0) < before:
        lowered = acked | {node: min(position, acked.get(node, 0))}
        assert majority.committed(voters, lowered) == before


def test_nobody_has_acknowledged_infinity() -> None:
    assert majority.committed((), {}) == joint.committed((), (), {1: 5}) == INFINITY == 2**63 - 1
    assert majority.committed((7,), {}) == 0


# ---- votes


def completions(ids: Collection[int], granted: Mapping[int, bool]) -> Iterator[dict[int, bool]]:
    waiting = [node for node in ids if node not in granted]
    for answers in product([True, False], repeat=len(waiting)):
        yield {**granted, **dict(zip(waiting, answers, strict=True))}


def test_a_vote_is_decided_exactly_when_the_missing_answers_cannot_change_it() -> None:
    answers = [
        {node: answer for node, answer in zip(IDS[:3], given, strict=True) if answer is not None}
        for given in product([True, False, None], repeat=3)
    ]
    for incoming, outgoing in product(list(subsets(IDS[:3])), repeat=2):
        for granted in answers:
            wins = {
                all(agree(half, [node for node in IDS if final.get(node)]) for half in (incoming, outgoing))
                for final in completions({*incoming, *outgoing}, granted)
            }
            expected = PENDING if len(wins) == 2 else WON if wins == {True} else LOST
            assert joint.vote(incoming, outgoing, granted) is expected
            assert joint.vote(outgoing, incoming, granted) is expected
            if not outgoing:
                assert majority.vote(incoming, granted) is expected


def test_answers_of_nodes_that_are_no_voters_do_not_count() -> None:
    assert majority.vote((1, 2, 3), {1: True, 8: True, 9: True}) is PENDING
    assert majority.vote((1, 2, 3), {1: True, 8: False, 9: False}) is PENDING
    assert majority.committed((1, 2, 3), {1: 5, 8: 9, 9: 9}) == 0
    assert majority.vote((), {1: False}) is WON


# ---- mistakes and pictures


def test_a_voter_named_twice_and_too_many_voters_are_refused() -> None:
    for call in (majority.committed, majority.vote, majority.describe):
        with pytest.raises(LocalError, match=r"a voter is named twice in \[1, 2, 2\]"):
            call((2, 1, 2), {})
    with pytest.raises(LocalError, match="65 voters are more than 64"):
        majority.committed(range(1, 66), {})
    with pytest.raises(LocalError, match="position -1 is not"):
        majority.committed((1,), {1: -1})


def test_a_majority_draws_who_acknowledged_what() -> None:
    assert majority.describe((3, 1, 2), {1: 12, 3: 9}) == "\n".join(
        [
            "node  acked",
            "   1     12  xx>  *",
            "   2      -  ?",
            "   3      9  x>   *",
            "committed 9: reached by 2 of 3, needs 2",
        ]
    )
    assert majority.describe((1, 2), {2: 4}) == "\n".join(
        [
            "node  acked",
            "   1      -  ?",
            "   2      4  x>  *",
            "committed 0: reached by 2 of 2, needs 2",
        ]
    )
    assert majority.describe((), {}) == "no voters: nothing is held back"


def test_a_joint_configuration_draws_both_halves() -> None:
    assert joint.describe((1, 2), (), {1: 7, 2: 8}) == "\n".join(
        [
            "incoming",
            "node  acked",
            "   1      7  >   *",
            "   2      8  x>  *",
            "committed 7: reached by 2 of 2, needs 2",
            "outgoing",
            "no voters: nothing is held back",
            "both 7",
        ]
    )
