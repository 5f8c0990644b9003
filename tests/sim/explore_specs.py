"""The specifications Voting and Paxos of tlaplus/Examples (PaxosHowToWinATuringAward), as plain models.

Three acceptors, two values, majorities, ballots from 0; -1 is none. No symmetry. TLC finds 6,752 distinct states of
Voting with three ballots and 3,921 of Paxos with two: the search must find exactly those.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from distkit.sim.broken import require

ACCEPTORS = (0, 1, 2)
VALUES = ("v1", "v2")
QUORUMS = [frozenset(pair) for pair in combinations(ACCEPTORS, 2)] + [frozenset(ACCEPTORS)]


class Voting:
    """(votes of each acceptor as a set of (ballot, value), its highest ballot)."""

    def __init__(self, ballots: int) -> None:
        self.ballots = range(ballots)
        self.first = ((frozenset(), frozenset(), frozenset()), (-1, -1, -1))

    def after(self, state: Any) -> Iterator[Any]:
        votes, highest = state
        for acceptor in ACCEPTORS:
            for ballot in self.ballots:
                if ballot > highest[acceptor]:  # IncreaseMaxBal
                    yield votes, replaced(highest, acceptor, ballot)
                if highest[acceptor] > ballot:  # VoteFor
                    continue
                if any(known == ballot for known, _ in votes[acceptor]):
                    continue
                for value in VALUES:
                    others = [votes[other] for other in ACCEPTORS if other != acceptor]
                    if any(known == ballot and other != value for each in others for known, other in each):
                        continue
                    if any(self.shows_safe(state, quorum, ballot, value) for quorum in QUORUMS):
                        voted = votes[acceptor] | {(ballot, value)}
                        yield replaced(votes, acceptor, voted), replaced(highest, acceptor, ballot)

    def shows_safe(self, state: Any, quorum: frozenset[int], ballot: int, value: str) -> bool:
        votes, highest = state
        if any(highest[acceptor] < ballot for acceptor in quorum):
            return False
        for low in range(-1, ballot):
            if low != -1 and not any((low, value) in votes[acceptor] for acceptor in quorum):
                continue
            between = range(low + 1, ballot)
            if all(known not in between for acceptor in quorum for known, _ in votes[acceptor]):
                return True
        return False

    def check(self, state: Any) -> None:
        votes, _ = state
        chosen = {
            value
            for ballot in self.ballots
            for value in VALUES
            for quorum in QUORUMS
            if all((ballot, value) in votes[acceptor] for acceptor in quorum)
        }
        require(len(chosen) < 2, "S7", chosen)


class Paxos:
    """(highest ballot, ballot of the vote, value of the vote) of each acceptor, and all messages ever sent."""

    def __init__(self, ballots: int, *, careless: bool = False) -> None:
        self.ballots = range(ballots)
        self.careless = careless  #: proposes any value, whatever was voted for
        self.first = (((-1, -1, None),) * 3, frozenset())

    def after(self, state: Any) -> Iterator[Any]:
        acceptors, messages = state
        for ballot in self.ballots:
            yield acceptors, messages | {("1a", ballot)}
            if any(each[0] == "2a" and each[1] == ballot for each in messages):
                continue
            promises = [each for each in messages if each[0] == "1b" and each[2] == ballot]
            for value in VALUES:
                if any(self.allows(promises, quorum, value) for quorum in QUORUMS):
                    yield acceptors, messages | {("2a", ballot, value)}
        for message in sorted(messages, key=repr):
            for acceptor in ACCEPTORS:
                highest, voted, value = acceptors[acceptor]
                if message[0] == "1a" and message[1] > highest:
                    changed = replaced(acceptors, acceptor, (message[1], voted, value))
                    yield changed, messages | {("1b", acceptor, message[1], voted, value)}
                elif message[0] == "2a" and message[1] >= highest:
                    changed = replaced(acceptors, acceptor, (message[1], message[1], message[2]))
                    yield changed, messages | {("2b", acceptor, message[1], message[2])}

    def allows(self, promises: list[Any], quorum: frozenset[int], value: str) -> bool:
        of_quorum = [each for each in promises if each[1] in quorum]
        if {each[1] for each in of_quorum} != quorum:
            return False
        votes = [each for each in of_quorum if each[3] >= 0]
        if not votes or self.careless:
            return True
        highest = max(each[3] for each in votes)
        return any(each[3] == highest and each[4] == value for each in votes)

    def check(self, state: Any) -> None:
        _, messages = state
        chosen = {
            value
            for ballot in self.ballots
            for value in VALUES
            for quorum in QUORUMS
            if all(("2b", acceptor, ballot, value) in messages for acceptor in quorum)
        }
        require(len(chosen) < 2, "S7", chosen)


def replaced(values: tuple[Any, ...], place: int, value: Any) -> tuple[Any, ...]:
    return (*values[:place], value, *values[place + 1 :])
