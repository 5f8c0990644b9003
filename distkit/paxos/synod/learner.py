"""The learner: "a learner must find out that a proposal has been accepted by a majority of acceptors".

Acceptors tell their votes to the proposer, which is the distinguished learner of its own ballots and tells the others.
A learner that has heard nothing asks everybody, and counts the votes of the acceptors itself.
"""

from __future__ import annotations

import math

from distkit.core import Outcome
from distkit.paxos.ballot import node_of
from distkit.paxos.synod import proposer
from distkit.paxos.synod.acceptor import tell_decision
from distkit.paxos.synod.messages import Accepted, Decide, Decided, LastVote, Learn, Voted
from distkit.paxos.synod.state import NO_VOTE, Phase, State


def sensible_accepted(s: State, source: int, message: Accepted) -> bool:
    """Acceptors vote."""
    return source in s.bits


def sensible_last_vote(s: State, source: int, message: LastVote) -> bool:
    """Acceptors vote, for possible proposals."""
    return source in s.bits and s.sensible_proposal(message.ballot, message.origin, message.value)


def sensible_decide(s: State, source: int, message: Decide) -> bool:
    """What is chosen was proposed."""
    return s.sensible_proposal(message.ballot, message.origin, message.value)


def sensible_learn(s: State, source: int, message: Learn) -> bool:
    """Learners ask."""
    return source in s.learners


def on_accepted(s: State, now: float, source: int, message: Accepted) -> None:
    """A vote for what this node proposes at just this ballot."""
    if s.phase is not Phase.ACCEPTING or message.ballot != s.ballot:
        s.count("stale")
    else:
        _count(s, source, s.proposed)


def on_last_vote(s: State, now: float, source: int, message: LastVote) -> None:
    """A vote at any ballot."""
    if s.chosen is not None:
        s.count("stale")
    else:
        _count(s, source, Voted(message.ballot, message.origin, message.value))


def _count(s: State, source: int, vote: Voted) -> None:
    """Count the votes at exactly this ballot: a phase-2 quorum of them has chosen."""
    if vote.ballot < s.votes.get(source, NO_VOTE).ballot:
        s.count("stale")
        return
    voters = s.bits[source]
    for acceptor, other in s.votes.items():
        if other.ballot == vote.ballot:
            if other is not vote and other != vote:
                s.count("conflict")  # two proposals at one ballot: somebody is broken
                return
            voters |= s.bits[acceptor]
    s.votes[source] = vote
    if s.quorums.phase2(voters):
        decide(s, Decided(vote.ballot, vote.origin, vote.value))
        if node_of(vote.ballot) == s.node:
            tell_decision(s, *[learner for learner in s.learners if learner != s.node])


def on_decide(s: State, now: float, source: int, message: Decide) -> None:
    """Somebody knows the decision."""
    decision = Decided(message.ballot, message.origin, message.value)
    if s.chosen is None:
        decide(s, decision)
    elif (decision.origin, decision.value) != (s.chosen.origin, s.chosen.value):
        s.count("conflict")  # two decisions: somebody is broken, and it is too late
    else:
        s.count("stale")


def decide(s: State, decision: Decided) -> None:
    """Once and for ever: deliver, end all tickets, fall silent. The ballot may differ from node to node."""
    s.chosen = decision
    s.delivers.append(decision)
    for own in s.proposals:
        won = own.origin == decision.origin
        s.end(own.ticket, Outcome.COMMITTED if won else Outcome.SUPERSEDED, decision.ballot)
    proposer.stop(s)
    s.votes = {}
    s.learn_deadline = math.inf
    s.note("Decide", decision.ballot)


def tick(s: State, now: float) -> None:
    """Ask what was missed."""
    s.learn_deadline = now + s.options.learn_interval
    for target in s.incarnations:
        s.send(target, Learn(s.epoch, s.incarnation))
