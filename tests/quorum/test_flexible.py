"""Quorum systems against their definition, set by set: counts, weights, grids, expressions, and what is refused."""

from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit.core.errors import LocalError
from distkit.quorum import flexible
from distkit.quorum.flexible import QuorumError, QuorumSystem, Threshold, all_of, any_of, at_least, dual, weighted


def subsets(members):
    return [frozenset(chosen) for size in range(len(members) + 1) for chosen in combinations(members, size)]


def agrees(expression, nodes):
    """The definition: the weights of the parts that agree add up to what is needed."""
    if isinstance(expression, int):
        return expression in nodes
    return sum(weight for weight, part in expression.parts if agrees(part, nodes)) >= expression.need


def mentioned(expression):
    if isinstance(expression, int):
        return {expression}
    return set().union(*(mentioned(part) for _, part in expression.parts))


def make(one, two):
    """The system, or None where two quorums share no member, as the definition says; anything else is a failure."""
    members = sorted(mentioned(one) | mentioned(two))
    apart = [
        (first, second)
        for first in subsets(members)
        if agrees(one, first)
        for second in subsets(members)
        if agrees(two, second) and not first & second
    ]
    if apart:
        with pytest.raises(QuorumError, match="share no member"):
            QuorumSystem(one, two)
        return None
    return QuorumSystem(one, two)


def quorums(system, phase):
    """The sets of members that a system takes for quorums."""
    enough = system.phase1 if phase == 1 else system.phase2
    return {nodes for nodes in subsets(system.members) if enough(system.mask(tuple(nodes)))}


EXPRESSIONS = st.recursive(
    st.integers(1, 6),
    lambda parts: st.lists(
        st.tuples(st.integers(1, 3), parts), min_size=1, max_size=4, unique_by=lambda p: p[1]
    ).flatmap(lambda found: st.builds(Threshold, st.integers(1, sum(w for w, _ in found)), st.just(tuple(found)))),
    max_leaves=8,
).map(lambda part: part if isinstance(part, Threshold) else any_of(part))


# -- what is a quorum -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(1, 8))
def test_pitfall_03_counts_are_counted_right_for_every_subset(size):
    members = tuple(range(1, size + 1))
    for one, two in product(members, repeat=2):
        if one + two <= size:
            with pytest.raises(QuorumError):
                flexible.counts(members, one, two)
            continue
        system = flexible.counts(members, one, two)
        assert quorums(system, 1) == {nodes for nodes in subsets(members) if len(nodes) >= one}
        assert quorums(system, 2) == {nodes for nodes in subsets(members) if len(nodes) >= two}


@pytest.mark.parametrize("size", range(1, 8))
def test_a_majority_is_more_than_half(size):
    members = tuple(range(1, size + 1))
    system = flexible.majority(members)
    assert quorums(system, 1) == quorums(system, 2) == {nodes for nodes in subsets(members) if 2 * len(nodes) > size}


def test_phases_may_have_quorums_of_any_size_as_long_as_they_meet():
    assert quorums(flexible.counts((1, 2, 3), 1, 3), 1) >= {frozenset({2})}
    assert quorums(flexible.counts((1, 2, 3), 3, 1), 2) >= {frozenset({2})}


def test_weights_add_up():
    system = flexible.weights({1: 3, 2: 1, 3: 1, 4: 1}, 4, 3)
    assert list(system.minimal(1)) == [(1, 2), (1, 3), (1, 4)]
    assert list(system.minimal(2)) == [(1,), (2, 3, 4)]


def test_a_grid_takes_rows_and_columns():
    system = flexible.grid([[1, 2, 3], [4, 5, 6]])
    assert list(system.minimal(1)) == [(1, 2, 3), (4, 5, 6)]
    assert list(system.minimal(2)) == [(1, 4), (2, 5), (3, 6)]


@given(EXPRESSIONS, EXPRESSIONS)
def test_any_two_expressions_are_a_system_exactly_if_all_their_quorums_meet(one, two):
    system = make(one, two)
    if system is not None:
        assert quorums(system, 1) == {nodes for nodes in subsets(system.members) if agrees(one, nodes)}
        assert quorums(system, 2) == {nodes for nodes in subsets(system.members) if agrees(two, nodes)}


def test_the_dual_of_a_count_is_the_smallest_count_that_meets_it():
    assert dual(at_least(2, 1, 2, 3, 4, 5)) == at_least(4, 1, 2, 3, 4, 5)
    assert dual(all_of(1, 2)) == any_of(1, 2)
    assert dual(any_of(all_of(1, 2), 3)) == all_of(any_of(1, 2), 3)
    assert dual(7) == any_of(7)


@given(EXPRESSIONS)
def test_the_dual_is_exactly_what_meets_every_quorum(expression):
    members = sorted(mentioned(expression))
    system = make(expression, dual(expression))
    assert system is not None
    meets = {nodes for nodes in subsets(members) if all(nodes & q for q in subsets(members) if agrees(expression, q))}
    assert quorums(system, 2) == meets
    assert quorums(QuorumSystem(dual(expression), dual(dual(expression))), 2) == quorums(system, 1)


def test_sixteen_members_compile_to_tables_of_8_kib():
    members = tuple(range(10, 170, 10))
    system = flexible.counts(members, 9, 8)
    assert [len(table) for table in system.tables] == [8192, 8192]
    for nodes in (members[:8], members[-8:], members[::2]):
        assert not system.phase1(system.mask(nodes))
        assert system.phase2(system.mask(nodes))
        assert not system.phase2(system.mask(nodes[1:]))
    assert system.phase1(system.mask(members[:9]))
    assert system.phase1(0xFFFF)


def test_sets_are_bits_in_the_order_of_the_sorted_members():
    system = flexible.majority((30, 10, 20))
    assert system.members == (10, 20, 30)
    assert [system.mask([node]) for node in (10, 20, 30)] == [1, 2, 4]
    assert system.mask([30, 10, 30]) == 5
    with pytest.raises(LocalError, match="node 4 is not one of the members"):
        system.mask([10, 4])


def test_systems_with_the_same_quorums_are_equal_however_they_are_written():
    pairs = any_of(all_of(1, 2), all_of(1, 3), all_of(2, 3))
    assert QuorumSystem(pairs, pairs) == flexible.majority((1, 2, 3)) == flexible.counts((3, 2, 1), 2, 2)
    assert flexible.majority((1, 2, 3)) != flexible.majority((1, 2, 4))
    assert flexible.counts((1, 2, 3), 1, 3) != flexible.counts((1, 2, 3), 3, 1)


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "pair"),
    [
        (lambda: flexible.counts((1, 2, 3, 4), 2, 2), (r"\{1, 2\}", r"\{3, 4\}")),
        (lambda: flexible.counts((1, 2, 3, 4, 5), 2, 3), (r"\{1, 2\}", r"\{3, 4, 5\}")),
        (lambda: flexible.weights({7: 2, 8: 1, 9: 1}, 2, 2), (r"\{7\}", r"\{8, 9\}")),
        (lambda: QuorumSystem(any_of(all_of(1, 2), 3), any_of(1, 2)), (r"\{3\}", r"\{[12]\}")),
        (lambda: QuorumSystem(any_of(1), any_of(2)), (r"\{1\}", r"\{2\}")),
    ],
)
def test_two_quorums_that_share_no_member_are_named(build, pair):
    with pytest.raises(QuorumError, match=f"phase-1 quorum {pair[0]} and phase-2 quorum {pair[1]} share no member"):
        build()


@given(EXPRESSIONS, EXPRESSIONS)
def test_the_named_pair_are_smallest_quorums_that_share_no_member(one, two):
    try:
        QuorumSystem(one, two)
    except QuorumError as error:
        words = str(error).replace("{", "|").replace("}", "|").split("|")
        first, second = ({int(node) for node in words[at].split(",")} for at in (1, 3))
        assert not first & second
        for expression, quorum in ((one, first), (two, second)):
            assert agrees(expression, quorum)
            assert not any(agrees(expression, quorum - {node}) for node in quorum)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: flexible.counts((1, 2, 3), 4, 3), "4 is needed where 1 to 3 can agree"),
        (lambda: flexible.counts((1, 2, 3), 3, -1), "-1 is needed"),
        (lambda: flexible.counts((), 1, 1), "1 is needed where 1 to 0 can agree"),
        (lambda: flexible.counts((1, 2, 2), 2, 2), "a part stands twice"),
        (lambda: flexible.weights({1: 1, 2: 0}, 1, 1), "weights must be at least 1"),
        (lambda: flexible.weights({1: 1, 2: -1}, 1, 1), "weights must be at least 1"),
        (lambda: flexible.weights({1: 500, 2: 501}, 501, 501), "add up to at most 1000"),
        (lambda: flexible.majority((0, 1, 2)), "member ids are 1 to"),
        (lambda: flexible.majority((1, 2, 1 << 31)), "member ids are 1 to"),
        (lambda: flexible.majority(range(1, 18)), "17 members are more than 16"),
        (lambda: flexible.grid([]), "equally long"),
        (lambda: flexible.grid([[]]), "equally long"),
        (lambda: flexible.grid([[1, 2], [3]]), "equally long"),
        (lambda: QuorumSystem(any_of(all_of()), any_of(1)), "can agree"),
    ],
)
def test_nonsense_is_refused(build, message):
    with pytest.raises(QuorumError, match=message):
        build()


def test_pitfall_03_a_phase_needs_somebody():
    for one, two in ((0, 3), (3, 0)):
        with pytest.raises(QuorumError, match="0 is needed"):
            flexible.counts((1, 2, 3), one, two)


def test_the_largest_weights_are_taken():
    assert flexible.weights({1: 500, 2: 500}, 501, 500).survives(2) == 1


# -- what people see --------------------------------------------------------------------------------------------------


def test_an_expression_reads_like_a_sentence():
    assert str(any_of(all_of(1, 2), 3)) == "any of (all of (1, 2), 3)"
    assert str(weighted(3, {1: 2, 2: 1, 3: 1})) == "3 of (2*1, 2, 3)"
    assert str(at_least(2, 1, 2, 3)) == "2 of (1, 2, 3)"


def test_a_system_draws_its_smallest_quorums_and_what_it_survives():
    expression = any_of(all_of(1, 2), 30)
    assert QuorumSystem(expression, dual(expression)).describe().splitlines() == [
        "members  1 2 30",
        "phase 1  . .  x   any of (all of (1, 2), 30)",
        "         x x  .",
        "         survives any 1 failure",
        "phase 2  x .  x   all of (any of (1, 2), 30)",
        "         . x  x",
        "         survives any 0 failures",
    ]


def test_a_drawing_of_many_quorums_ends_with_their_number():
    text = flexible.counts(tuple(range(1, 8)), 4, 4).describe()
    assert text.count("and 23 more") == 2
    assert len(text.splitlines()) == 1 + 2 * (flexible.DRAWN_MAX + 2)


@pytest.mark.parametrize("size", range(1, 8))
def test_counts_survive_the_failure_of_all_they_do_not_need(size):
    members = tuple(range(1, size + 1))
    for one in members:
        system = flexible.counts(members, one, size - one + 1)
        assert (system.survives(1), system.survives(2)) == (size - one, one - 1)
