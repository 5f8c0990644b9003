"""Changes of role. What a role does is in `election`, `replication`, `follower`, `proposals` and `reads`."""

from __future__ import annotations

import math
from typing import Any

from distkit.core import Outcome, Reason, Reply
from distkit.raft.messages import ReadIndexReply
from distkit.raft.progress import Progress
from distkit.raft.state import CANDIDATE, FOLLOWER, LEADER, State

#: Quick attempts to win an election after the leader's connection was reset, before the normal timeout rules again.
EVIDENCE_ATTEMPTS = 20


def draw_election_deadline(s: State, now: float) -> None:
    """Draw a new deadline. The smallest draw lies above the stickiness window, so that clocks that run in step
    cannot lock (etcd-io/etcd#10483)."""
    s.patience = s.options.election_timeout * (1.05 + 0.95 * s.random.random())
    if s.evidence > 0 and s.leader == 0:
        s.evidence -= 1
        s.election_deadline = now + s.options.evidence_delay * (1.0 + 2.0 * s.random.random())
    else:
        s.election_deadline = now + s.patience


def heard_from_leader(s: State, now: float, leader: int) -> None:
    """The leader of this term spoke."""
    if s.leader != leader:
        s.leader = leader
        fail_reads(s, Reason.LEADER_CHANGED)
        end_transfer(s)
    s.leader_heard = now
    s.evidence = 0
    s.election_deadline = now + s.patience


def become_follower(s: State, now: float, term: int, leader: int) -> None:
    """Follow `leader` (0: nobody known yet) in `term`. A higher term forgets the vote (paper, section 5.1)."""
    if s.role is LEADER:
        _leave_leadership(s, leader)
    if term > s.term:
        s.term = term
        s.vote = 0
    if s.leader != leader:
        fail_reads(s, Reason.LEADER_CHANGED)
    s.role = FOLLOWER
    s.leader = leader
    s.pre = False
    s.votes = {}
    if leader:
        s.leader_heard = now
        s.evidence = 0
        end_transfer(s)
    draw_election_deadline(s, now)
    trace(s, "BecomeFollower")


def become_candidate(s: State, now: float, pre: bool) -> None:
    """Campaign. A pre-candidate keeps its term and vote; a candidate takes the next term and votes for itself, which
    counts once it is durable."""
    s.role = CANDIDATE
    if s.leader:
        s.leader = 0
        fail_reads(s, Reason.LEADER_CHANGED)
    s.pre = pre
    s.votes = {}
    if not pre:
        s.term += 1
        s.vote = s.node
    s.campaigns += 1
    s.own_vote = s.campaigns
    draw_election_deadline(s, now)
    trace(s, "BecomePreCandidate" if pre else "BecomeCandidate")


def become_leader(s: State, now: float) -> None:
    """Lead the current term; the caller appends the empty entry."""
    s.role = LEADER
    s.leader = s.node
    s.evidence = 0
    s.votes = {}
    fail_reads(s, Reason.LEADER_CHANGED)
    end_transfer(s)
    s.term_start = s.window.last + 1
    s.progress = {}
    for peer in s.voters:
        if peer != s.node:
            s.session += 1
            s.progress[peer] = Progress(peer, s.term_start, s.session)
    s.read_position = 1
    s.heartbeat_deadline = now
    s.quorum_deadline = now + s.options.election_timeout
    s.notice_deadline = math.inf
    s.unapplied.clear()
    s.unapplied_bytes = 0
    trace(s, "BecomeLeader")


def forget_leader(s: State, now: float) -> None:
    """A follower has evidence that its leader is gone: it may grant pre-votes at once, and campaigns soon."""
    fail_reads(s, Reason.LEADER_CHANGED)
    s.leader = 0
    s.evidence = EVIDENCE_ATTEMPTS
    s.election_deadline = now + s.options.evidence_delay * s.random.random()
    trace(s, "ForgetLeader")


def end_transfer(s: State) -> None:
    """A leader is known: the transfer has succeeded if it is the target."""
    transfer, s.transfer = s.transfer, None
    if transfer is None:
        return
    if s.leader == transfer.target:
        s.replies.append(Reply(transfer.ticket, Outcome.COMMITTED, term=s.term, leader=s.leader))
    else:
        s.refuse(transfer.ticket, Reason.TRANSFER)


def fail_reads(s: State, reason: Reason) -> None:
    """End every waiting read of this node, and tell the followers that asked."""
    for ticket, peer, origin, position in s.reads_round + s.reads_waiting:
        if peer:
            s.sends.append((peer, ReadIndexReply(s.term, origin, position, 0)))
        else:
            s.refuse(ticket, reason)
    s.reads_round = []
    s.reads_waiting = []
    s.reads_resend = math.inf


def trace(s: State, event: str, more: dict[str, Any] | None = None) -> None:
    """Emit one event with the fields of etcd's TLA+ traces, if anyone listens."""
    if s.trace is not None:
        fields = {"role": s.role.name, "term": s.term, "vote": s.vote, "commit": s.commit, "log": s.last}
        s.trace(event, {"node": s.node, "time": s.now, **fields, "applied": s.applied, **(more or {})})


def _leave_leadership(s: State, successor: int) -> None:
    """Commands that never entered the log are refused; those in it keep their tickets until their fate is known."""
    s.leader = successor  # the hint of all that is refused here
    for _first, _last, _term, ticket in s.unsealed_tickets:
        s.refuse(ticket, Reason.NOT_LEADER)
    s.unsealed = []
    s.unsealed_kinds = bytearray()
    s.unsealed_bytes = 0
    s.unsealed_tickets = []
    s.progress = {}
    fail_reads(s, Reason.LEADER_CHANGED)
