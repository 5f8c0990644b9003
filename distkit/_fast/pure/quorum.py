"""Counting heads in one set of voters. `distkit.quorum` builds named voters and joint configurations on it."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Final

from distkit.core.errors import LocalError
from distkit.core.limits import MEMBERS_MAX

#: What a set of no voters has acknowledged: above every position, so that it never holds back the other half of a
#: joint configuration. It is no index: whoever commits must clamp it to a position that exists.
INFINITY: Final = (1 << 63) - 1

WON: Final = 1
PENDING: Final = 0
LOST: Final = -1


def majority_index(acked: Sequence[int]) -> int:
    """The largest position that a majority acknowledged: the (n // 2 + 1)-th largest of n positions, in any order.

    One position for each voter, 0 for one that never answered. INFINITY if there are none. LocalError if there are
    more than 64 or one is not 0 to 2^63 - 1.
    """
    if len(acked) > MEMBERS_MAX:
        raise LocalError(f"{len(acked)} voters are more than {MEMBERS_MAX}")
    for position in acked:
        if not 0 <= operator.index(position) <= INFINITY:
            raise LocalError(f"position {position} is not 0 to {INFINITY}")
    if not acked:
        return INFINITY
    return sorted(acked, reverse=True)[len(acked) // 2]


def vote_result(yes: int, no: int, voters: int) -> int:
    """WON, LOST or PENDING, if `yes` and `no` of `voters` have answered. No voters: WON.

    LocalError if there are more than 64 voters, or more answers than voters.
    """
    if not 0 <= operator.index(voters) <= MEMBERS_MAX:
        raise LocalError(f"{voters} voters are not 0 to {MEMBERS_MAX}")
    if operator.index(yes) < 0 or operator.index(no) < 0 or yes + no > voters:
        raise LocalError(f"{yes} yes and {no} no are not possible answers of {voters} voters")
    if voters == 0:
        return WON
    majority = voters // 2 + 1
    if yes >= majority:
        return WON
    if voters - no < majority:
        return LOST
    return PENDING
