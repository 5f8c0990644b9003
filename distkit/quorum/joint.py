"""Agreement of both halves of a joint configuration (Raft paper, section 6).

While voters change, `incoming` and `outgoing` must each agree with a majority of their own. One empty half holds
nothing back, so joint(c, ()) == joint((), c) == joint(c, c) == majority(c), and callers need no case for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from distkit.quorum import majority
from distkit.quorum.majority import VoteResult


def committed(incoming: Collection[int], outgoing: Collection[int], acked: Mapping[int, int]) -> int:
    """The largest position that a majority of each half has acknowledged; for the rest see `majority.committed`."""
    return min(majority.committed(incoming, acked), majority.committed(outgoing, acked))


def vote(incoming: Collection[int], outgoing: Collection[int], granted: Mapping[int, bool]) -> VoteResult:
    """LOST if either half lost, WON if both won, else PENDING; for the rest see `majority.vote`.

    LOST is the smallest value and WON the largest, so the worse half decides.
    """
    return min(majority.vote(incoming, granted), majority.vote(outgoing, granted))


def describe(incoming: Collection[int], outgoing: Collection[int], acked: Mapping[int, int]) -> str:
    """Draw who acknowledged what in each half, as `majority.describe` does, and what follows."""
    lines = ["incoming", majority.describe(incoming, acked), "outgoing", majority.describe(outgoing, acked)]
    return "\n".join([*lines, f"both {committed(incoming, outgoing, acked)}"])
