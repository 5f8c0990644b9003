"""Linearizable reads by read index (thesis 6.4), many in one heartbeat round.

The leader numbers rounds with its own positions; bytes of a caller never identify a round (etcd-io/etcd#20418). One
round is under way at a time: reads that come meanwhile share the next one.
"""

from __future__ import annotations

import math

from distkit._fast import quorum
from distkit.core import Outcome, Reason, Reply
from distkit.raft.messages import ReadIndex, ReadIndexReply
from distkit.raft.replication import heartbeat
from distkit.raft.state import LEADER, State


def read(s: State, ticket: int) -> None:
    """Queue a read, on the leader or for a question to it."""
    if s.role is not LEADER and s.leader == 0:
        s.refuse(ticket, Reason.NOT_LEADER)
    elif len(s.reads_waiting) >= s.options.reads_max:
        s.refuse(ticket, Reason.BUSY)
    else:
        s.reads_waiting.append((ticket, 0, 0, 0))


def on_read_index(s: State, now: float, source: int, message: ReadIndex) -> None:
    """A follower asks. One that is not answered asks again, so a full queue just says no."""
    if s.role is not LEADER or len(s.reads_waiting) >= s.options.reads_max:
        s.sends.append((source, ReadIndexReply(s.term, message.origin, message.position, 0)))
    else:
        s.reads_waiting.append((0, source, message.origin, message.position))


def on_read_index_reply(s: State, now: float, source: int, message: ReadIndexReply) -> None:
    """The leader's answer to the request under way; any other is stale."""
    expected = (s.origin, s.request_position)
    if s.role is LEADER or not s.reads_round or (message.origin, message.position) != expected:
        s.count("stale")
        return
    reads, s.reads_round = s.reads_round, []
    s.reads_resend = math.inf
    for ticket, _peer, _origin, _position in reads:
        if message.index:
            s.replies.append(Reply(ticket, Outcome.READABLE, message.index, term=s.term, leader=s.leader))
        else:
            s.refuse(ticket, Reason.LEADER_CHANGED)


def start_round(s: State, now: float) -> None:
    """Begin the next round if reads wait and none is under way; once a flush."""
    if not s.reads_waiting or s.reads_round:
        return
    if s.role is LEADER:
        if s.commit < s.term_start:
            return  # nothing of this term is committed: earlier commits may be unknown here
        s.reads_round, s.reads_waiting = s.reads_waiting, []
        s.reads_index = s.commit
        s.read_position += 1
        if s.progress:
            heartbeat(s, now)
        confirm(s)
    elif s.leader:
        s.reads_round, s.reads_waiting = s.reads_waiting, []
        s.request_position += 1
        ask(s, now)


def ask(s: State, now: float) -> None:
    """Put the round's question to the leader, for the first time or again."""
    s.sends.append((s.leader, ReadIndex(s.term, s.origin, s.request_position)))
    s.reads_resend = now + s.options.heartbeat


def confirm(s: State) -> None:
    """Release the round once a quorum has answered a heartbeat at least as new as it."""
    if not s.reads_round:
        return
    positions = [progress.read_position for progress in s.progress.values()]
    positions.append(s.read_position)
    if quorum.majority_index(positions) < s.read_position:
        return
    reads, s.reads_round = s.reads_round, []
    for ticket, peer, origin, position in reads:
        if peer:
            s.sends.append((peer, ReadIndexReply(s.term, origin, position, s.reads_index)))
        else:
            s.replies.append(Reply(ticket, Outcome.READABLE, s.reads_index, term=s.term, leader=s.leader))
