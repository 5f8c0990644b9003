"""The one shape of every protocol machine: methods in, records out, time as an argument.

Duties of the host that drives a machine (breaking one breaks safety, except where it says otherwise):

1. Sample ``now`` after reading an input and before sending anything caused by it; it never goes back.
2. After any number of inputs call ``flush(now)``; it returns everything they caused, or None.
3. Send ``output.sends`` at once, in order. Losing or repeating some is allowed.
4. Hand ``output.writes`` to the disk in token order. When a write is durable, send the messages of its ``then`` and
   call ``persisted(now, token)``. Never send ``then`` earlier, never retry a failed sync: stop the node.
5. Take ``output.delivers`` in order; report ``applied(now, index)`` when spans are applied.
6. Match each of ``output.replies`` with the ticket that was passed to a verb: exactly one each.
7. Call ``tick(now)`` once ``deadline()`` has passed. Late, early and repeated ticks are harmless.
"""

from __future__ import annotations

import enum
from typing import Any, Protocol, TypeVar

from distkit.core.records import record

#: What a machine sends to a peer: (node id, message record).
Send = tuple[int, Any]


class Space(enum.IntEnum):
    """State of the disk as reported by `storage(now, space)`."""

    OK = 0
    FULL = 1


class Outcome(enum.IntEnum):
    """How a ticket ended. REFUSED and SUPERSEDED are definite failures, LOST is indefinite."""

    COMMITTED = 1
    READABLE = 2
    REFUSED = 3
    SUPERSEDED = 4
    LOST = 5


class Reason(enum.IntEnum):
    """Why a ticket was refused or lost.

    ANSWERED: a command of a session that was answered before, and whose client wants the answer no more.
    RESULT_TOO_LARGE goes with COMMITTED: the command was applied, but its result is not kept.
    """

    NONE = 0
    NOT_LEADER = 1
    BUSY = 2
    FULL = 3
    FENCED = 4
    TRANSFER = 5
    LEADER_CHANGED = 6
    SNAPSHOT = 7
    STOPPED = 8
    SESSION_EXPIRED = 9
    ANSWERED = 10
    RESULT_TOO_LARGE = 11


class RoleName(enum.IntEnum):
    """Role of a node in a consensus machine."""

    FOLLOWER = 1
    CANDIDATE = 2
    LEADER = 3


@record
class Write:
    """Records for the disk, and the messages that may leave only when they are durable.

    Tokens rise strictly; writes complete in order; `persisted(token)` implies every earlier one. A write without
    records does no I/O and completes with the one before it.
    """

    token: int
    records: tuple[Any, ...]
    then: tuple[Send, ...]


@record
class Span:
    """Committed entries with lo < index <= hi that are durable here; the host reads them from the machine's window."""

    lo: int
    hi: int


@record
class Restore:
    """The host must replace the application's state by this snapshot, which it already holds as a file."""

    snapshot: Any


@record
class Role:
    """A change of role, term or leader (0: none known). `ready`: as leader, an entry of the own term is applied."""

    role: RoleName
    term: int
    leader: int
    ready: bool


@record
class Reply:
    """The end of a ticket.

    COMMITTED: the entries first..index are committed in `term`. READABLE: state applied up to `index` is
    linearizable for this read. REFUSED, LOST: see `reason`. `leader` is a hint, 0 if none is known.
    """

    ticket: int
    outcome: Outcome
    index: int = 0
    first: int = 0
    term: int = 0
    reason: Reason = Reason.NONE
    leader: int = 0


@record
class Output:
    """Everything that was caused since the last flush. `writes` holds at most one write.

    What is delivered is the machine's own: `Span`, `Restore` and `Role` by a replicated log, others by other machines.
    """

    sends: tuple[Send, ...]
    writes: tuple[Write, ...]
    delivers: tuple[Any, ...]
    replies: tuple[Reply, ...]


M = TypeVar("M", contravariant=True)


class Machine(Protocol[M]):
    """The doors that all machines share; verbs of the application (`propose`, `read` ...) are each machine's own."""

    def receive(self, now: float, source: int, message: M) -> None:
        """A message of a peer arrived."""
        ...

    def connected(self, now: float, peer: int) -> None:
        """A connection to the peer was made."""
        ...

    def lost(self, now: float, peer: int, reason: str) -> None:
        """The connection to the peer broke; messages in flight may be lost. `reason` "reset" means the process died."""
        ...

    def persisted(self, now: float, token: int) -> None:
        """All writes up to the token are durable."""
        ...

    def storage(self, now: float, space: Space) -> None:
        """There is no space for new entries, or there is again."""
        ...

    def tick(self, now: float) -> None:
        """Time has passed."""
        ...

    def deadline(self) -> float:
        """When to call `tick` next; infinity if never. Asked again after each flush."""
        ...

    def flush(self, now: float) -> Output | None:
        """Everything caused since the last flush, or None if there is nothing."""
        ...
