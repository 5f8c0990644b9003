"""The proposer: phase 1 asks what may have been chosen, phase 2 proposes just that, or something of its own.

IDLE ── propose ──▶ PREPARING ── phase-1 quorum ──▶ ACCEPTING ── phase-2 quorum (learner) ──▶ decided, IDLE
                        ▲  │                            │
                        │  └────────── refused ─────────┤
                        └──────── BACKING_OFF ◀─────────┘

Its ballots are its own for ever: each lies above the promise of this node, and the first message of a ballot waits
until a promise of that ballot is durable. So no restart can use one twice.
"""

from __future__ import annotations

import math

from distkit.core import LocalError, Outcome, Reason, Space
from distkit.paxos.ballot import ROUND_MAX, make_ballot, round_of
from distkit.paxos.synod import acceptor
from distkit.paxos.synod.messages import Accept, Nack, Prepare, Promise, Voted
from distkit.paxos.synod.state import NO_VOTE, VALUE_BYTES_MAX, Phase, Proposal, State

#: Doublings of the back-off window; more make no difference.
DOUBLINGS_MAX = 16


def propose(s: State, now: float, ticket: int, value: bytes) -> None:
    """Take a value; begin a ballot unless one is under way."""
    if s.node not in s.proposers:
        raise LocalError(f"node {s.node} is no proposer: propose at {', '.join(map(str, sorted(s.proposers)))}")
    if len(value) > VALUE_BYTES_MAX:
        raise LocalError(f"a value of {len(value)} bytes; at most {VALUE_BYTES_MAX} are allowed")
    if s.chosen is not None:
        s.end(ticket, Outcome.SUPERSEDED, s.chosen.ballot)
    elif s.space is Space.FULL:
        s.end(ticket, Outcome.REFUSED, reason=Reason.FULL)
    elif len(s.proposals) >= s.options.tickets_max:
        s.end(ticket, Outcome.REFUSED, reason=Reason.BUSY)
    else:
        s.proposals.append(Proposal(ticket, value))
        if s.phase is Phase.IDLE:
            prepare(s, now)


def prepare(s: State, now: float) -> None:
    """Begin the next ballot above all that this node has promised, used or been refused for."""
    round_ = round_of(max(s.promised, s.seen)) + 1
    if round_ > ROUND_MAX:
        give_up(s)
        return
    s.ballot = make_ballot(round_, s.node)
    s.phase = Phase.PREPARING
    s.promises = 0
    s.highest = s.proposed = NO_VOTE
    s.propose_deadline = now + s.options.resend
    s.note("Prepare", s.ballot)
    message = Prepare(s.epoch, s.incarnation, s.ballot)
    if s.node in s.bits:
        acceptor.on_prepare(s, now, s.node, message)
    else:
        s.promised = s.ballot  # no acceptor, but the ballot must be on its disk before anybody hears of it
    for target in s.acceptors:
        if target != s.node:
            s.hold(target, message)


def sensible_promise(s: State, source: int, message: Promise) -> bool:
    """It reports a vote below its ballot, or none."""
    if source not in s.bits:
        return False
    if not message.voted:
        return not message.origin and not message.value
    return message.voted < message.ballot and s.sensible_proposal(message.voted, message.origin, message.value)


def sensible_nack(s: State, source: int, message: Nack) -> bool:
    """It names a higher ballot."""
    return source in s.bits and message.promised > message.ballot and s.sensible_ballot(message.promised)


def on_promise(s: State, now: float, source: int, message: Promise) -> None:
    """Once a phase-1 quorum has promised just this ballot, propose the value of the highest vote among them."""
    if s.phase is not Phase.PREPARING or message.ballot != s.ballot or s.promised_durable < s.ballot:
        s.count("stale")
        return
    if message.voted:
        report = Voted(message.voted, message.origin, message.value)
        if report.ballot > s.highest.ballot:
            s.highest = report
        elif report.ballot == s.highest.ballot and report != s.highest:
            s.count("conflict")  # two proposals at one ballot: the acceptor is broken
            return
    s.promises |= s.bits[source]
    if s.quorums.phase1(s.promises):
        _accept(s, now)


def _accept(s: State, now: float) -> None:
    """Phase 2: what may have been chosen already, or else the oldest value of our own."""
    found = s.highest
    if found.ballot:
        s.proposed = Voted(s.ballot, found.origin, found.value)
    else:
        own = s.proposals[0]
        own.origin = own.origin or s.ballot
        s.proposed = Voted(s.ballot, own.origin, own.value)
    s.phase = Phase.ACCEPTING
    s.propose_deadline = now + s.options.resend
    s.note("Accept", s.ballot)
    message = Accept(s.epoch, s.incarnation, s.ballot, s.proposed.origin, s.proposed.value)
    for target in s.acceptors:
        s.send(target, message)  # at once, also to those whose promise is missing: they may vote without one


def on_nack(s: State, now: float, source: int, message: Nack) -> None:
    """An acceptor has promised more: leave the field for a random while, then try above that ballot."""
    if s.phase not in (Phase.PREPARING, Phase.ACCEPTING) or message.ballot != s.ballot:
        s.count("stale")
        return
    s.seen = max(s.seen, message.promised)
    s.phase = Phase.BACKING_OFF
    window = min(s.options.backoff_max, s.options.backoff * 2 ** min(s.refusals, DOUBLINGS_MAX))
    s.refusals += 1
    s.propose_deadline = now + window * s.random.random()
    s.note("BackOff", s.ballot)


def tick(s: State, now: float) -> None:
    """Try again after a back-off, or send again what had no answer."""
    if s.phase is Phase.BACKING_OFF:
        prepare(s, now)
    else:
        s.propose_deadline = now + s.options.resend
        for target in s.acceptors:
            resend(s, target)


def resend(s: State, target: int) -> None:
    """Ask an acceptor again, if its answer is missing."""
    if s.phase is Phase.PREPARING:
        if s.promised_durable >= s.ballot and not s.promises & s.bits[target]:
            s.send(target, Prepare(s.epoch, s.incarnation, s.ballot))
    elif s.phase is Phase.ACCEPTING and s.votes.get(target, NO_VOTE).ballot != s.ballot:
        s.send(target, Accept(s.epoch, s.incarnation, s.ballot, s.proposed.origin, s.proposed.value))


def stop(s: State) -> None:
    """Nothing is left to propose."""
    s.proposals.clear()
    s.phase = Phase.IDLE
    s.propose_deadline = math.inf


def give_up(s: State) -> None:
    """Rounds are used up: what was never proposed is refused, of the rest nobody knows."""
    for own in s.proposals:
        s.end(own.ticket, Outcome.LOST if own.origin else Outcome.REFUSED, reason=Reason.STOPPED)
    stop(s)
