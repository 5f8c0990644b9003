"""What a SWIM node tells people and metrics about itself."""

from __future__ import annotations

from distkit.core import record
from distkit.membership.swim.messages import Status
from distkit.membership.swim.state import State


@record
class SwimStatus:
    """`awareness`: how slow this node thinks it is itself, 0 is not at all. `live` counts this node and suspects too.

    `waiting`: claims that are still passed on. `counters` counts what was ignored or refused, by reason.
    """

    name: str
    address: str
    incarnation: int
    awareness: int
    live: int
    suspected: int
    dead: int
    waiting: int
    relays: int
    leaving: bool
    counters: dict[str, int]

    @classmethod
    def of(cls, s: State) -> SwimStatus:
        """The status of a state. Costs a look at each member."""
        statuses = [peer.status for peer in s.peers.values()]
        return cls(
            s.name,
            s.address,
            s.incarnation,
            s.awareness,
            s.live,
            statuses.count(Status.SUSPECT),
            statuses.count(Status.DEAD),
            len(s.waiting),
            len(s.relays),
            s.leaving,
            dict(s.counters),
        )
