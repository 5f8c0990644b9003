"""Configuration changes: every rule by name, and the safety of every step by enumeration."""

from collections.abc import Collection
from itertools import combinations, pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit.core.errors import LocalError
from distkit.core.limits import MEMBERS_MAX, NODE_ID_MAX
from distkit.quorum import change, joint
from distkit.quorum.change import (
    Change,
    ChangeError,
    ConfState,
    Operation,
    Transition,
    enter_joint,
    leave_joint,
    simple,
    validate,
)

VOTER, LEARNER, REMOVE, UPDATE = Operation
THREE = ConfState(voters=(1, 2, 3))
JOINT = enter_joint(THREE, [(VOTER, 4), (LEARNER, 1), (REMOVE, 2)], auto_leave=True)


# ---- simple changes


@pytest.mark.parametrize(
    ("before", "changes", "after"),
    [
        (ConfState(), [(VOTER, 1)], ConfState((1,))),
        (THREE, [(VOTER, 4)], ConfState((1, 2, 3, 4))),
        (THREE, [(VOTER, 2)], THREE),
        (THREE, [(LEARNER, 4)], ConfState((1, 2, 3), learners=(4,))),
        (THREE, [(LEARNER, 2)], ConfState((1, 3), learners=(2,))),
        (THREE, [(REMOVE, 2)], ConfState((1, 3))),
        (THREE, [(REMOVE, 9)], THREE),
        (THREE, [(UPDATE, 2)], THREE),
        (THREE, [(UPDATE, 9)], THREE),
        (THREE, [(VOTER, 0), (REMOVE, 0)], THREE),
        (THREE, [(VOTER, 4), (REMOVE, 4)], THREE),
        (ConfState((1,), learners=(2,)), [(VOTER, 2)], ConfState((1, 2))),
        (ConfState((1,), learners=(2,)), [(LEARNER, 2)], ConfState((1,), learners=(2,))),
        (ConfState((1,), learners=(2,)), [(REMOVE, 2)], ConfState((1,))),
        (THREE, [(LEARNER, 5), (LEARNER, 4), (VOTER, 6)], ConfState((1, 2, 3, 6), learners=(4, 5))),
    ],
)
def test_a_simple_change(before: ConfState, changes: list[Change], after: ConfState) -> None:
    assert simple(before, changes) == after


@pytest.mark.parametrize(
    ("before", "changes", "error"),
    [
        (JOINT, [(VOTER, 5)], change.SimpleChangeInJoint),
        (JOINT, [(REMOVE, 3), (REMOVE, 4)], change.SimpleChangeInJoint),
        (ConfState((1,)), [(REMOVE, 1)], change.RemovedAllVoters),
        (ConfState((1, 2)), [(REMOVE, 1), (REMOVE, 2)], change.RemovedAllVoters),
        (ConfState(), [(LEARNER, 1)], change.RemovedAllVoters),
        (THREE, [(VOTER, 4), (VOTER, 5)], change.MultipleVotersChanged),
        (THREE, [(VOTER, 4), (REMOVE, 1)], change.MultipleVotersChanged),
        (ConfState(), [(VOTER, 1), (VOTER, 2)], change.MultipleVotersChanged),
    ],
)
def test_a_simple_change_that_is_refused(before: ConfState, changes: list[Change], error: type[ChangeError]) -> None:
    with pytest.raises(error):
        simple(before, changes)


# ---- joint consensus


def test_the_outgoing_half_keeps_its_vote_until_the_change_is_left() -> None:
    assert ConfState((3, 4), outgoing=(1, 2, 3), learners_next=(1,), auto_leave=True) == JOINT
    assert JOINT.members == (1, 2, 3, 4)
    assert leave_joint(JOINT) == ConfState((3, 4), learners=(1,))


def test_a_node_that_never_voted_becomes_a_learner_at_once() -> None:
    entered = enter_joint(THREE, [(LEARNER, 9), (LEARNER, 3), (VOTER, 3)], auto_leave=False)
    assert entered == ConfState((1, 2, 3), outgoing=(1, 2, 3), learners=(9,))
    assert leave_joint(entered) == ConfState((1, 2, 3), learners=(9,))


def test_refused_joint_changes() -> None:
    with pytest.raises(change.AlreadyJoint):
        enter_joint(JOINT, [(VOTER, 5)], auto_leave=True)
    with pytest.raises(change.ZeroVoterJoint):
        enter_joint(ConfState(learners=(1,)), [(VOTER, 1)], auto_leave=True)
    with pytest.raises(change.RemovedAllVoters):
        enter_joint(ConfState((1, 2)), [(REMOVE, 1), (LEARNER, 2)], auto_leave=True)
    with pytest.raises(change.NotJoint):
        leave_joint(THREE)


def test_one_operation_is_simple_and_several_are_joint() -> None:
    assert change.apply(THREE, [(VOTER, 4)]) == simple(THREE, [(VOTER, 4)])
    two: list[Change] = [(VOTER, 4), (REMOVE, 1)]
    assert change.apply(THREE, two) == enter_joint(THREE, two, auto_leave=True)
    assert change.apply(THREE, two[:1], Transition.IMPLICIT) == enter_joint(THREE, two[:1], auto_leave=True)
    assert change.apply(THREE, two[:1], Transition.EXPLICIT) == enter_joint(THREE, two[:1], auto_leave=False)


def test_a_joint_configuration_takes_the_empty_change_only() -> None:
    assert change.apply(JOINT, []) == leave_joint(JOINT)
    for changes, transition in product([[(VOTER, 5)], [(VOTER, 5), (VOTER, 6)]], Transition):
        with pytest.raises((change.SimpleChangeInJoint, change.AlreadyJoint)):
            change.apply(JOINT, changes, transition)
    with pytest.raises(change.NotJoint):
        change.apply(THREE, [])


# ---- states from outside


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (ConfState((2, 1)), "sorted and each there once"),
        (ConfState((1, 1)), "sorted and each there once"),
        (ConfState((0, 1)), "ids must be 1 to"),
        (ConfState((NODE_ID_MAX + 1,)), "ids must be 1 to"),
        (ConfState((1, 2), learners=(2,)), r"learners that vote: \[2\]"),
        (ConfState((1,), outgoing=(1, 2), learners=(2,)), r"learners that vote: \[2\]"),
        (ConfState((1,), learners_next=(2,)), "learners_next must vote in the outgoing half only"),
        (ConfState((1,), outgoing=(1, 2), learners_next=(1,)), "learners_next must vote in the outgoing half only"),
        (ConfState((1,), auto_leave=True), "auto_leave without a joint configuration"),
        (ConfState(tuple(range(1, 66))), "65 members are more than 64"),
    ],
)
def test_contradicting_sets_are_refused(state: ConfState, message: str) -> None:
    with pytest.raises(change.ImpossibleConfiguration, match=message) as caught:
        validate(state)
    assert isinstance(caught.value, LocalError)


def test_the_largest_configuration_is_possible_and_one_more_is_not() -> None:
    full = ConfState(tuple(range(1, MEMBERS_MAX + 1)))
    validate(full)
    for changes in ([(VOTER, MEMBERS_MAX + 1)], [(LEARNER, -1)]):
        with pytest.raises(change.ImpossibleConfiguration):
            simple(full, changes)
        with pytest.raises(change.ImpossibleConfiguration):
            enter_joint(full, changes, auto_leave=True)


# ---- laws

CHANGES = st.lists(st.tuples(st.sampled_from(Operation), st.integers(0, 6)), max_size=4)


@given(st.lists(st.tuples(CHANGES, st.sampled_from(Transition)), max_size=12))
def test_any_changes_lead_from_possible_to_possible_configurations(
    steps: list[tuple[list[Change], Transition]],
) -> None:
    state = ConfState((1, 2))
    for changes, transition in steps:
        try:
            after = change.apply(state, changes, transition)
        except ChangeError:
            continue
        validate(after)
        assert after.voters
        if after.joint:
            assert after.outgoing == state.voters
        state = after


@given(CHANGES.filter(bool))
def test_operations_are_idempotent(changes: list[Change]) -> None:
    before = ConfState((1, 2, 3), learners=(4,))
    doubled = [operation for operation in changes for _ in range(2)]
    results = []
    for operations in (changes, doubled):
        try:
            results.append(enter_joint(before, operations, auto_leave=False))
        except change.RemovedAllVoters:
            results.append(before)
    assert results[0] == results[1]


def quorums(state: ConfState, ids: Collection[int]) -> list[set[int]]:
    """Every set of nodes that can elect and commit under a configuration."""
    groups = [set(group) for size in range(len(ids) + 1) for group in combinations(ids, size)]
    return [group for group in groups if joint.vote(state.voters, state.outgoing, dict.fromkeys(group, True)) == 1]


def test_quorums_before_and_after_every_step_intersect() -> None:
    ids = (1, 2, 3, 4)
    steps = 0
    for size in range(1, 4):
        before = ConfState(ids[:size])
        for operations in product([VOTER, LEARNER, REMOVE, UPDATE], repeat=len(ids)):
            changes = list(zip(operations, ids, strict=True))
            chain = [before]
            try:
                chain.append(enter_joint(before, changes, auto_leave=True))
                chain.append(leave_joint(chain[-1]))
            except change.RemovedAllVoters:
                continue
            for older, newer in pairwise(chain):
                assert all(a & b for a in quorums(older, ids) for b in quorums(newer, ids))
                steps += 1
        for operation, node in product(Operation, ids):
            if (operation, node, size) in ((REMOVE, 1, 1), (LEARNER, 1, 1)):
                continue
            after = simple(before, [(operation, node)])
            assert all(a & b for a in quorums(before, ids) for b in quorums(after, ids))
            steps += 1
    assert steps > 1000
