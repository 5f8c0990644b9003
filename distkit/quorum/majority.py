"""Agreement of more than half of one set of voters."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping

from distkit._fast import quorum as kernel
from distkit.core.errors import LocalError

#: What a set without voters has acknowledged: more than any position. See `committed`.
INFINITY = kernel.INFINITY


class VoteResult(enum.IntEnum):
    """State of an election. PENDING: the voters that have not answered yet can still decide it."""

    LOST = -1
    PENDING = 0
    WON = 1


def committed(voters: Collection[int], acked: Mapping[int, int]) -> int:
    """The largest position that a majority of `voters` has acknowledged.

    A voter without an entry in `acked` counts as 0; nodes that are no voters are ignored. Positions are any integers
    from 0 to 2^63 - 1: log indexes, numbers of read rounds, times.

    Without voters the answer is INFINITY, which makes the empty half of a joint configuration hold nothing back. It
    must never become a commit index: commit min(it, last index), and only if the term of that entry is the leader's.

    Raises LocalError if a voter is named twice, there are more than 64, or a position is out of range.
    """
    _check(voters)
    return kernel.majority_index([acked.get(voter, 0) for voter in voters])


def vote(voters: Collection[int], granted: Mapping[int, bool]) -> VoteResult:
    """How an election stands: `granted` holds the first answer of each node; nodes that are no voters are ignored.

    WON without voters, so that the empty half of a joint configuration does not decide; a node whose whole
    configuration is empty must not campaign. Raises LocalError if a voter is named twice or there are more than 64.
    """
    _check(voters)
    answers = [granted[voter] for voter in voters if voter in granted]
    return VoteResult(kernel.vote_result(answers.count(True), answers.count(False), len(voters)))


def describe(voters: Collection[int], acked: Mapping[int, int]) -> str:
    """Draw who acknowledged what: each bar is as long as the number of voters that are behind, `*` marks the majority.

    node  acked
       1     12  xx>  *
       2      -  ?
       3      9  x>   *
    committed 9: reached by 2 of 3, needs 2
    """
    position = committed(voters, acked)
    if not voters:
        return "no voters: nothing is held back"
    lines = ["node  acked"]
    for voter in sorted(voters):
        behind = sum(1 for other in voters if acked.get(other, 0) < acked.get(voter, 0))
        bar = "x" * behind + ">" if voter in acked else "?"
        mark = "*" if voter in acked and acked[voter] >= position else ""
        lines.append(f"{voter:4}  {acked.get(voter, '-'):>5}  {bar:{len(voters)}}  {mark}".rstrip())
    reached = sum(1 for voter in voters if acked.get(voter, 0) >= position)
    lines.append(f"committed {position}: reached by {reached} of {len(voters)}, needs {len(voters) // 2 + 1}")
    return "\n".join(lines)


def _check(voters: Collection[int]) -> None:
    if len(set(voters)) != len(voters):
        raise LocalError(f"a voter is named twice in {sorted(voters)}")
