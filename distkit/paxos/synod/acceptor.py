"""The acceptor: it promises, it votes, and it speaks of either only once it is durable.

"It can respond to a prepare request at any time. It can respond to an accept request, accepting the proposal, iff it
has not promised not to." (Lamport, "Paxos Made Simple", section 2.2)
"""

from __future__ import annotations

from distkit.core import Space
from distkit.paxos.ballot import node_of
from distkit.paxos.synod.messages import Accept, Accepted, Decide, LastVote, Learn, Nack, Prepare, Promise, Voted
from distkit.paxos.synod.state import State


def sensible_prepare(s: State, source: int, message: Prepare) -> bool:
    """Proposers use their own ballots only."""
    return s.node in s.bits and node_of(message.ballot) == source and s.sensible_ballot(message.ballot)


def sensible_accept(s: State, source: int, message: Accept) -> bool:
    """As above, and the proposal is possible."""
    return (
        s.node in s.bits
        and node_of(message.ballot) == source
        and s.sensible_proposal(message.ballot, message.origin, message.value)
    )


def on_prepare(s: State, now: float, source: int, message: Prepare) -> None:
    """Promise, unless more is promised. A repeated request of the same ballot is promised again."""
    ballot = message.ballot
    if s.chosen is not None:
        tell_decision(s, source)
    elif ballot < s.promised:
        refuse(s, source, ballot)
    elif ballot == s.vote.ballot:
        s.count("stale")  # it has our vote at this ballot: phase 1 is over
    else:
        s.promised = ballot
        vote = s.vote
        s.hold(source, Promise(s.epoch, s.incarnation, ballot, vote.ballot, vote.origin, vote.value))
        s.note("Promise", ballot)


def on_accept(s: State, now: float, source: int, message: Accept) -> None:
    """Vote, unless more is promised. The vote promises its ballot too, else a lower one could follow it."""
    ballot = message.ballot
    if s.chosen is not None:
        tell_decision(s, source)
        return
    if ballot < s.promised:
        refuse(s, source, ballot)
        return
    vote = Voted(ballot, message.origin, message.value)
    if ballot == s.vote.ballot:
        if vote != s.vote:
            s.count("conflict")  # two proposals at one ballot: the proposer is broken
            return
    elif s.space is Space.FULL:
        s.count("full")
        return
    else:
        s.promised = ballot
        s.vote = vote
        s.note("Vote", ballot)
    s.hold(source, Accepted(s.epoch, s.incarnation, ballot))


def on_learn(s: State, now: float, source: int, message: Learn) -> None:
    """A learner asks what it missed."""
    if s.chosen is not None:
        tell_decision(s, source)
    elif s.vote.ballot:
        vote = s.vote
        s.hold(source, LastVote(s.epoch, s.incarnation, vote.ballot, vote.origin, vote.value))


def tell_decision(s: State, *targets: int) -> None:
    """At once: a quorum's disks hold it."""
    chosen = s.chosen
    if chosen is not None:
        message = Decide(s.epoch, s.incarnation, chosen.ballot, chosen.origin, chosen.value)
        for target in targets:
            s.send(target, message)


def refuse(s: State, target: int, ballot: int) -> None:
    """At once: a refusal promises nothing."""
    s.count("refused")
    s.send(target, Nack(s.epoch, s.incarnation, ballot, s.promised))
