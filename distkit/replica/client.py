"""The client's side of a session: sequence numbers, and which ends of a command may be tried again."""

from __future__ import annotations

from distkit.core import Outcome, Reason
from distkit.replica.records import ReplicaReply

#: Ends that leave the way open; any other is the answer, or a mistake that a retry will not mend.
_AT_ONCE = frozenset((Reason.NONE, Reason.NOT_LEADER, Reason.FENCED, Reason.LEADER_CHANGED, Reason.SNAPSHOT))
_LATER = frozenset((Reason.BUSY, Reason.FULL, Reason.TRANSFER))
_DELAY_MIN, _DELAY_MAX = 0.01, 1.0


class ClientSession:
    """Numbers the commands of one session. Several may be unanswered at a time.

    Each command is proposed as `propose(ticket, command, id, sequence, lowest)`, with the `lowest` of that moment,
    again and again until it is answered (`retry_delay`) or given up. One that was given up may still be applied, until
    a later one of the session is: then it is too late for it.
    """

    __slots__ = ("_next", "_unanswered", "id")

    def __init__(self, session: int) -> None:
        self.id = session
        self._next = 1
        self._unanswered: dict[int, None] = {}

    @property
    def lowest(self) -> int:
        """The lowest sequence that still wants an answer."""
        return next(iter(self._unanswered), self._next)

    def begin(self) -> int:
        """The sequence of a new command."""
        sequence = self._next
        self._next += 1
        self._unanswered[sequence] = None
        return sequence

    def finish(self, sequence: int) -> None:
        """A command was answered, or given up."""
        del self._unanswered[sequence]


def retry_delay(reply: ReplicaReply, attempt: int) -> float | None:
    """Seconds to wait before a session command is proposed again after `attempt` attempts; None: this is its end."""
    if reply.outcome is Outcome.COMMITTED or reply.reason not in _AT_ONCE | _LATER:
        return None
    if attempt == 1 and reply.reason in _AT_ONCE:
        return 0.0
    return min(_DELAY_MAX, _DELAY_MIN * 2.0 ** min(attempt, 10))
