"""Which configuration may follow which: simple changes and joint consensus, as functions from value to value.

    simple ───── enter_joint ────▶ joint
     │  ▲ ▲                          │
     └──┘ └────── leave_joint ───────┘
    simple (changes at most one voter)

Every quorum of a configuration intersects every quorum of the one that follows it, which is what makes a change
safe; the tests check that by enumeration. Membership is identified by node id here; addresses, incarnations and
versions belong to `distkit.core.Configuration`. A change takes effect when it is applied, and the next one may be
proposed only after that: the configuration passed in is always the one in force.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from distkit.core.errors import LocalError
from distkit.core.limits import MEMBERS_MAX, NODE_ID_MAX
from distkit.core.records import record


class ChangeError(LocalError):
    """This change can't be made to this configuration, which stays as it is."""


class SimpleChangeInJoint(ChangeError):
    """A joint configuration can only be left."""


class RemovedAllVoters(ChangeError):
    """The change would leave nobody who can vote."""


class MultipleVotersChanged(ChangeError):
    """More than one voter changes, so the quorums before and after might not intersect: enter a joint one."""


class AlreadyJoint(ChangeError):
    """A joint configuration must be left before the next one is entered."""


class ZeroVoterJoint(ChangeError):
    """A configuration without voters can't be the outgoing half: make the first voter by a simple change."""


class NotJoint(ChangeError):
    """There is no joint configuration to leave."""


class ImpossibleConfiguration(ChangeError):
    """The sets of a configuration contradict each other, or hold ids or numbers of ids that no configuration has."""


@record
class ConfState:
    """The sets of a configuration, each sorted by id.

    ``voters`` vote; ``outgoing`` is the second half of a joint configuration, empty in a simple one. ``learners``
    receive the log and do not vote. ``learners_next`` become learners when the joint configuration is left: they still
    vote in the outgoing half. ``auto_leave``: the leader leaves the joint configuration by itself.
    """

    voters: tuple[int, ...] = ()
    outgoing: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    auto_leave: bool = False

    @property
    def joint(self) -> bool:
        """Whether both halves must agree."""
        return bool(self.outgoing)

    @property
    def members(self) -> tuple[int, ...]:
        """Everybody who receives the log, a removed voter of the outgoing half included."""
        return _sorted({*self.voters, *self.outgoing, *self.learners, *self.learners_next})


class Operation(enum.IntEnum):
    """What happens to a node. All are idempotent."""

    VOTER = 1  #: add it as a voter, or promote a learner
    LEARNER = 2  #: add it as a learner, or demote a voter
    REMOVE = 3  #: nothing if it is unknown
    UPDATE = 4  #: only its address changes, no set


class Transition(enum.IntEnum):
    """How a change is carried out."""

    AUTO = 1  #: simple for one operation, IMPLICIT for several
    IMPLICIT = 2  #: joint, left by the leader itself
    EXPLICIT = 3  #: joint, left only by an empty change


Change = tuple[Operation, int]


def apply(state: ConfState, changes: Sequence[Change], transition: Transition = Transition.AUTO) -> ConfState:
    """The configuration after a change as it stands in the log; without operations it leaves a joint one.

    Raises what `simple`, `enter_joint` and `leave_joint` raise.
    """
    if not changes:
        return leave_joint(state)
    if transition is Transition.AUTO and len(changes) == 1:
        return simple(state, changes)
    return enter_joint(state, changes, auto_leave=transition is not Transition.EXPLICIT)


def simple(state: ConfState, changes: Sequence[Change]) -> ConfState:
    """Apply operations that change at most one voter, and any number of learners.

    Raises SimpleChangeInJoint, RemovedAllVoters or MultipleVotersChanged, in this order.
    """
    if state.joint:
        raise SimpleChangeInJoint(f"leave the joint configuration first: {state}")
    after = _edit(state, changes)
    changed = sorted(set(state.voters) ^ set(after.voters))
    if len(changed) > 1:
        raise MultipleVotersChanged(f"voters {changed} change at once: enter a joint configuration")
    validate(after)
    return after


def enter_joint(state: ConfState, changes: Sequence[Change], auto_leave: bool) -> ConfState:
    """The joint configuration whose outgoing half are the voters of `state`, and whose incoming half is edited.

    Raises AlreadyJoint, ZeroVoterJoint or RemovedAllVoters, in this order.
    """
    if state.joint:
        raise AlreadyJoint(f"leave the joint configuration first: {state}")
    if not state.voters:
        raise ZeroVoterJoint("a configuration without voters can't be the outgoing half")
    both = ConfState(state.voters, state.voters, state.learners, (), auto_leave)
    after = _edit(both, changes)
    validate(after)
    return after


def leave_joint(state: ConfState) -> ConfState:
    """The simple configuration of the incoming half; who was demoted is a learner from now on. Raises NotJoint."""
    if not state.joint:
        raise NotJoint(f"not a joint configuration: {state}")
    after = ConfState(state.voters, (), _sorted({*state.learners, *state.learners_next}))
    validate(after)
    return after


def validate(state: ConfState) -> None:
    """Raise ImpossibleConfiguration unless the sets agree with each other: for states that come from outside."""
    voters, outgoing, learners, learners_next = map(
        set, (state.voters, state.outgoing, state.learners, state.learners_next)
    )
    for ids in (state.voters, state.outgoing, state.learners, state.learners_next):
        if ids != _sorted(set(ids)) or not all(1 <= node <= NODE_ID_MAX for node in ids):
            raise ImpossibleConfiguration(f"ids must be 1 to {NODE_ID_MAX}, sorted and each there once: {ids}")
    if len(state.members) > MEMBERS_MAX:
        raise ImpossibleConfiguration(f"{len(state.members)} members are more than {MEMBERS_MAX}")
    if learners & (voters | outgoing):
        raise ImpossibleConfiguration(f"learners that vote: {sorted(learners & (voters | outgoing))}")
    if learners_next - outgoing or learners_next & voters:
        raise ImpossibleConfiguration(f"learners_next must vote in the outgoing half only: {state.learners_next}")
    if state.auto_leave and not state.joint:
        raise ImpossibleConfiguration("auto_leave without a joint configuration")


def _edit(state: ConfState, changes: Sequence[Change]) -> ConfState:
    """Apply operations to the incoming half and the learners. Id 0 stands for an operation that was dropped."""
    voters, learners, learners_next = set(state.voters), set(state.learners), set(state.learners_next)
    for operation, node in changes:
        if node == 0 or operation is Operation.UPDATE:
            continue
        for ids in (voters, learners, learners_next):
            ids.discard(node)
        if operation is Operation.VOTER:
            voters.add(node)
        elif operation is Operation.LEARNER:
            (learners_next if node in state.outgoing else learners).add(node)
    if not voters:
        raise RemovedAllVoters(f"nobody could vote after {list(changes)}")
    return ConfState(_sorted(voters), state.outgoing, _sorted(learners), _sorted(learners_next), state.auto_leave)


def _sorted(ids: set[int]) -> tuple[int, ...]:
    return tuple(sorted(ids))
