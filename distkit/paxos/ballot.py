"""Ballots: (round, node), compared in that order, packed into one integer so that they compare as integers do.

    round (32 bits) | node id (31 bits)

Ballot 0 means none. No two nodes share a ballot, and a node never uses one twice, over all its lives: rounds are taken
above the promise that is on the disk before the first message of the ballot leaves.
"""

from __future__ import annotations

from distkit.core import LocalError
from distkit.core.limits import NODE_ID_MAX

_NODE_BITS = 31
assert NODE_ID_MAX < 1 << _NODE_BITS

#: The last round. A node that has seen it can't propose any more.
ROUND_MAX = (1 << 32) - 1
#: The last ballot.
BALLOT_MAX = ROUND_MAX << _NODE_BITS | NODE_ID_MAX
#: A message may raise the ballot by at most this much, 2^28 rounds; a larger jump is nonsense and is ignored.
BALLOT_JUMP_MAX = 1 << 28 + _NODE_BITS


def make_ballot(round_: int, node: int) -> int:
    """The ballot of a node in a round. LocalError unless both are in range."""
    if not 1 <= round_ <= ROUND_MAX or not 1 <= node <= NODE_ID_MAX:
        raise LocalError(f"a ballot has a round from 1 to {ROUND_MAX} and a node, not {round_} and {node}")
    return round_ << _NODE_BITS | node


def round_of(ballot: int) -> int:
    """The round of a ballot, 0 of none."""
    return ballot >> _NODE_BITS


def node_of(ballot: int) -> int:
    """The node whose ballot it is."""
    return ballot & NODE_ID_MAX


def show_ballot(ballot: int) -> str:
    """For people: "round.node", or "-"."""
    return f"{round_of(ballot)}.{node_of(ballot)}" if ballot else "-"
