"""Replies of the replica as exceptions with meaning."""

from __future__ import annotations

from distkit.core import (
    Busy,
    Fenced,
    Full,
    NotLeader,
    Outcome,
    OutcomeUnknown,
    Reason,
    Refused,
    SessionExpired,
    Superseded,
)
from distkit.core.errors import OutcomeError
from distkit.replica import ReplicaReply

#: Refusals that another leader, or the same one a little later, may lift. Nothing was done, so asking again is safe.
PASSING = frozenset((Reason.NOT_LEADER, Reason.FENCED, Reason.TRANSFER, Reason.LEADER_CHANGED))


def error_of(reply: ReplicaReply) -> OutcomeError | None:
    """The exception that a reply amounts to; None if it succeeded."""
    if reply.outcome is Outcome.COMMITTED and reply.reason is Reason.RESULT_TOO_LARGE:
        return OutcomeError(f"the command was applied at index {reply.index}, but its result was too large to keep")
    if reply.outcome in (Outcome.COMMITTED, Outcome.READABLE):
        return None
    if reply.outcome is Outcome.SUPERSEDED:
        return Superseded("another entry was committed in its place: it was not applied and will not be")
    if reply.outcome is Outcome.LOST:
        return OutcomeUnknown(f"the outcome is unknown ({reply.reason.name.lower()}): it may or may not be applied")
    return _refusal(reply)


def result_of(reply: ReplicaReply) -> bytes:
    """The result of a reply, or its exception raised."""
    error = error_of(reply)
    if error is not None:
        raise error
    return reply.result


def _refusal(reply: ReplicaReply) -> Refused:
    leader = reply.leader or None
    match reply.reason:
        case Reason.NOT_LEADER | Reason.LEADER_CHANGED:
            return NotLeader(f"no leader took it; the last known one is {leader or 'unknown'}", leader)
        case Reason.BUSY:
            return Busy("too much is waiting already: slow down and try again")
        case Reason.FULL:
            return Full("the leader's disk is full: free space, or add some; reads go on")
        case Reason.FENCED:
            return Fenced("the term that it was tied to is over")
        case Reason.SESSION_EXPIRED:
            return SessionExpired("the session was closed or evicted: register a new one and check what was done")
        case Reason.TRANSFER:
            return Busy("leadership is being handed over: try again")
        case Reason.STOPPED:
            return Refused("this node has stopped")
        case _:
            return Refused(f"refused: {reply.reason.name.lower()}")


def only_cause(cause: BaseException) -> BaseException:
    """The one exception in nested groups of one; the group itself when there are several."""
    while isinstance(cause, BaseExceptionGroup) and len(cause.exceptions) == 1:
        cause = cause.exceptions[0]
    return cause
