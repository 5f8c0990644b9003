"""Elections: pre-vote, votes, leader stickiness, and campaigns asked for by a transfer (paper 5.2, 5.4.1; thesis 9.6).

Whatever a node says about its vote rides on a write: requests, because a candidate that crashes before its term is
durable could campaign again in the same term and count a stale grant; grants, because a forgotten vote can be given
twice.
"""

from __future__ import annotations

from distkit.raft.messages import RequestVote, RequestVoteReply, TimeoutNow
from distkit.raft.proposals import append_empty
from distkit.raft.roles import become_candidate, become_follower, become_leader, draw_election_deadline
from distkit.raft.state import CANDIDATE, FOLLOWER, LEADER, State


def promotable(s: State) -> bool:
    """A voter that has replayed what it knew as committed before it stopped, and has no snapshot to load."""
    return s.node in s.voters and not s.restoring and s.applied >= s.boot_commit


def campaign(s: State, now: float, transfer: bool = False) -> None:
    """Start an election: with a pre-vote, or at once if the leader asked for it."""
    if not promotable(s):
        s.count("not_promotable")
        draw_election_deadline(s, now)
        return
    become_candidate(s, now, pre=not transfer)
    _request_votes(s, transfer)


def on_request_vote(s: State, now: float, source: int, message: RequestVote) -> None:
    """Grant if the vote is free and the candidate's log is at least as up to date (paper 5.4.1).

    Higher terms were adopted before, but for pre-votes, which change nothing.
    """
    free = s.vote == source or (s.vote == 0 and s.leader == 0) or (message.pre and message.term > s.term)
    up_to_date = (message.last_term, message.last_index) >= (s.window.last_term, s.window.last)
    if message.term < s.term or not free or not up_to_date:
        reply = RequestVoteReply(s.term, s.incarnation, message.pre, False)
    else:
        reply = RequestVoteReply(message.term, s.incarnation, message.pre, True)
        if not message.pre:
            s.vote = source
            s.election_deadline = now + s.patience
    s.then.append((source, reply))


def on_request_vote_reply(s: State, now: float, source: int, message: RequestVoteReply) -> None:
    """Count one answer of each voter, the first one."""
    expected = s.term + 1 if s.pre and message.granted else s.term
    if s.role is not CANDIDATE or message.pre != s.pre or message.term != expected:
        s.count("stale")
        return
    s.votes.setdefault(source, message.granted)
    tally(s, now)


def tally(s: State, now: float) -> None:
    """Won, lost, or wait for more answers."""
    yes = sum(1 for voter in s.voters if s.votes.get(voter) is True)
    no = sum(1 for voter in s.voters if s.votes.get(voter) is False)
    if yes >= s.majority:
        if s.pre:
            become_candidate(s, now, pre=False)
            _request_votes(s, transfer=False)
        else:
            become_leader(s, now)
            append_empty(s)
    elif len(s.voters) - no < s.majority:
        become_follower(s, now, s.term, 0)


def on_timeout_now(s: State, now: float, source: int, message: TimeoutNow) -> None:
    """The leader hands over: campaign at once, without a pre-vote."""
    if s.role is not FOLLOWER or s.leader != source:
        s.count("stale")
        return
    campaign(s, now, transfer=True)


def sticky(s: State, now: float, message: RequestVote) -> bool:
    """Whether a leader is alive, so that a vote of a higher term is ignored without taking its term (thesis 4.2.3)."""
    if message.transfer:
        return False
    if s.role is LEADER:
        return True
    return s.leader != 0 and now - s.leader_heard < s.options.election_timeout


def _request_votes(s: State, transfer: bool) -> None:
    term = s.term + 1 if s.pre else s.term
    request = RequestVote(term, s.incarnation, s.window.last, s.window.last_term, s.pre, transfer)
    for voter in s.voters:
        if voter != s.node:
            s.then.append((voter, request))
