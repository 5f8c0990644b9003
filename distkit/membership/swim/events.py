"""What a SWIM node tells its application, and what it gives its host to send."""

from __future__ import annotations

from typing import Any

from distkit.core import record
from distkit.membership.swim.messages import Status


@record
class Member:
    """One member as this node sees it. `since` is when it got this status, by this node's clock."""

    name: str
    address: str
    incarnation: int
    status: Status
    metadata: bytes
    since: float


@record
class Joined:
    """A member that was unknown, dead or had left is there."""

    member: Member


@record
class Suspected:
    """A member may be dead: it did not answer somebody."""

    member: Member


@record
class Alive:
    """A suspicion was refuted."""

    member: Member


@record
class Dead:
    """Nobody could reach the member, and it did not object in time."""

    member: Member


@record
class Left:
    """The member said good-bye. With the own name: everyone who could be told was told; the host may stop."""

    member: Member


@record
class Updated:
    """A member has other metadata."""

    member: Member


@record
class Conflict:
    """Two nodes use one name: the second, at `address`, is ignored as long as the first is not dead."""

    member: Member
    address: str


#: Anything of the above.
Event = Joined | Suspected | Alive | Dead | Left | Updated | Conflict


@record
class Output:
    """Everything caused since the last flush: (address, message) to be sent at once, in order, and events in order."""

    sends: tuple[tuple[str, Any], ...]
    events: tuple[Event, ...]
