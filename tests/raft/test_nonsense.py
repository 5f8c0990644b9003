"""Well-formed absurdities from peers: ignored or refused, counted, nothing changed, and never an exception."""

from random import Random

import pytest
from cluster import EPOCH_US, blocks, configuration, incarnation
from hypothesis import given, settings
from hypothesis import strategies as st
from lone import Lone

import distkit.raft
from distkit.core import Configuration, LocalError, Member
from distkit.core.limits import INDEX_MAX, TERM_JUMP_MAX
from distkit.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    InstallSnapshotReply,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
    Snapshot,
    TimeoutNow,
)

HUGE = (1 << 64) - 1
ROLES = ["follower", "candidate", "leader"]


def in_role(raft, role):
    """Node 1 in term 3, log 1..4 with 2 committed, in a role; as a follower it has just heard leader 2."""
    lone = Lone(raft, log=[1, 1, 2, 2], term=3, commit=2)
    if role == "candidate":
        lone.candidate()
    elif role == "leader":
        lone.lead()
    else:
        lone.hear(2)
    lone.take()
    return lone


def snapshot(index, term, size=3):
    return Snapshot(index, term, EPOCH_US, 10, 10, configuration(size))


def append(term, prev_index, prev_term, first, terms, commit=0):
    return AppendEntries(term, 7, prev_index, prev_term, commit, blocks(first, terms))


# (name, role, source, message of the own term and the last index, the counter that tells)
ABSURD = [
    ("from an unknown member", "follower", 9, lambda t, i: Heartbeat(t, 7, 0, 1, 0), "unknown_member"),
    ("from itself", "follower", 1, lambda t, i: Heartbeat(t, 7, 0, 1, 0), "unknown_member"),
    ("from node 0", "leader", 0, lambda t, i: RequestVote(t + 1, 1000, 9, 9, False, True), "unknown_member"),
    ("a vote of no member", "candidate", 9, lambda t, i: RequestVoteReply(t, 1009, False, True), "unknown_member"),
    ("term 2^64 - 1", "follower", 2, lambda t, i: Heartbeat(HUGE, 7, 0, 1, 0), "term_jump"),
    ("a term jump", "leader", 2, lambda t, i: AppendEntries(t + TERM_JUMP_MAX + 1, 7, 0, 0, 0, ()), "term_jump"),
    ("a term jump by a vote", "candidate", 2, lambda t, i: RequestVote(HUGE, 1002, 9, 9, False, True), "term_jump"),
    ("a term jump by a grant", "candidate", 2, lambda t, i: RequestVoteReply(HUGE, 1002, True, True), None),
    ("previous index 2^61", "follower", 2, lambda t, i: append(t, 1 << 61, 2, 1, []), "rejected_appends"),
    ("previous index 2^63", "follower", 2, lambda t, i: append(t, 1 << 63, 2, 1, []), "nonsense"),
    ("previous term above the own", "follower", 2, lambda t, i: append(t, i, t + 1, 1, []), "nonsense"),
    ("previous term 0 at an index", "follower", 2, lambda t, i: append(t, i, 0, 1, []), "nonsense"),
    ("previous term at index 0", "follower", 2, lambda t, i: append(t, 0, 1, 1, []), "nonsense"),
    ("entries with a gap", "follower", 2, lambda t, i: append(t, i, 2, i + 2, [t]), "nonsense"),
    ("entries that overlap", "follower", 2, lambda t, i: append(t, i, 2, i, [t]), "nonsense"),
    ("entries of a later term", "follower", 2, lambda t, i: append(t, i, 2, i + 1, [t + 1]), "nonsense"),
    ("entries of an earlier term", "follower", 2, lambda t, i: append(t, i, 2, i + 1, [1]), "nonsense"),
    ("a conflict below the commit", "follower", 2, lambda t, i: append(t, 0, 0, 1, [3, 3]), None),
    ("a second leader", "follower", 3, lambda t, i: append(t, i, 2, i + 1, [t]), "nonsense"),
    ("a second leader's heartbeat", "leader", 2, lambda t, i: Heartbeat(t, 7, 0, 1, 0), "nonsense"),
    ("a second leader's entries", "leader", 2, lambda t, i: append(t, i, t, i + 1, [t]), "nonsense"),
    ("a snapshot at 0", "follower", 2, lambda t, i: InstallSnapshot(t, 7, snapshot(0, 0)), "nonsense"),
    ("a snapshot of a later term", "follower", 2, lambda t, i: InstallSnapshot(t, 7, snapshot(9, t + 1)), "nonsense"),
    ("a snapshot at 2^63", "follower", 2, lambda t, i: InstallSnapshot(t, 7, snapshot(1 << 63, t)), "nonsense"),
    ("a snapshot without this node", "follower", 2, lambda t, i: InstallSnapshot(t, 7, OTHERS), "nonsense"),
    ("a snapshot older than the applied", "follower", 2, lambda t, i: InstallSnapshot(t, 7, snapshot(1, 1)), None),
    (
        "a vote of a wrong incarnation",
        "candidate",
        2,
        lambda t, i: RequestVoteReply(t, 5, False, True),
        "wrong_incarnation",
    ),
    (
        "a candidate of a wrong incarnation",
        "follower",
        2,
        lambda t, i: RequestVote(t + 1, 5, 9, 9, False, True),
        "wrong_incarnation",
    ),
    ("a vote never asked for", "follower", 2, lambda t, i: RequestVoteReply(t, 1002, False, True), "stale"),
    ("a pre-vote never asked for", "leader", 2, lambda t, i: RequestVoteReply(t + 1, 1002, True, True), "stale"),
    ("an ack never asked for", "follower", 2, lambda t, i: AppendEntriesReply(t, 7, 1002, True, i, 0, 0, 9), "stale"),
    (
        "an ack of an unknown session",
        "leader",
        2,
        lambda t, i: AppendEntriesReply(t, 7, 1002, True, i, 0, 0, 9),
        "stale",
    ),
    ("a heartbeat reply never asked for", "candidate", 2, lambda t, i: HeartbeatReply(t, 7, 1002, 9, 0, 9), "stale"),
    ("a snapshot reply never asked for", "leader", 2, lambda t, i: InstallSnapshotReply(t, 7, 1002, i, 9), "stale"),
    ("a read index never asked for", "follower", 2, lambda t, i: ReadIndexReply(t, 7, 7, 9), "stale"),
    ("a read index for the leader", "leader", 2, lambda t, i: ReadIndexReply(t, 7, 7, 9), "stale"),
    ("a question to a follower", "follower", 3, lambda t, i: ReadIndex(t, 7, 7), None),
    ("a transfer by another follower", "follower", 3, lambda t, i: TimeoutNow(t), "stale"),
    ("a transfer to the leader", "leader", 2, lambda t, i: TimeoutNow(t), "stale"),
    ("a transfer to a candidate", "candidate", 2, lambda t, i: TimeoutNow(t), "stale"),
    ("a transfer of an old term", "follower", 2, lambda t, i: TimeoutNow(t - 1), "stale"),
]
OTHERS = Snapshot(
    9, 3, EPOCH_US, 1, 1, Configuration(2, (Member(2, 1002, "127.0.0.1:1"), Member(3, 1003, "127.0.0.1:2")))
)


@pytest.mark.parametrize(("name", "role", "source", "message", "counter"), ABSURD, ids=[row[0] for row in ABSURD])
def test_a_well_formed_absurdity_changes_nothing_and_is_counted(raft, name, role, source, message, counter):
    lone = in_role(raft, role)
    digest, disk, status = lone.machine.digest(), list(lone.host.disk), lone.machine.status()
    answers = lone.receive(source, message(lone.machine.term, lone.machine.last_index))
    after = lone.machine.status()
    assert lone.machine.digest() == digest
    assert lone.host.disk == disk
    assert after.peers == status.peers
    assert lone.ledger.replies == {}
    assert not any(getattr(answer, "granted", False) for answer in answers)
    if counter is not None:
        assert after.counters[counter] == status.counters.get(counter, 0) + 1


@pytest.mark.parametrize("field", ["append", "heartbeat", "snapshot"])
def test_a_leader_believes_no_acknowledgement_beyond_its_log(raft, field):
    lone = in_role(raft, "leader")
    term, session, last = lone.machine.term, lone.session_of(2), lone.machine.last_index
    replies = {
        "append": AppendEntriesReply(term, session, incarnation(2), True, last + 1, 0, 0, 9),
        "heartbeat": HeartbeatReply(term, session, incarnation(2), 1 << 60, 0, 9),
        "snapshot": InstallSnapshotReply(term, session, incarnation(2), 1 << 61, 9),
    }
    digest = lone.machine.digest()
    lone.receive(2, replies[field])
    assert lone.machine.digest() == digest
    assert lone.machine.status().counters["nonsense"] == 1
    ticket = lone.read(1)
    assert lone.outcome(ticket) is None


def test_a_commit_beyond_the_log_commits_only_what_is_there(raft):
    lone = in_role(raft, "follower")
    lone.receive(2, append(3, 4, 2, 5, [3], commit=HUGE))
    assert lone.machine.commit_index == 5
    lone.receive(2, Heartbeat(3, 7, HUGE, 1, 0))
    assert lone.machine.commit_index == 5


def test_a_conflict_below_the_commit_is_reported_and_truncates_nothing(raft):
    lone = Lone(raft, log=[1, 1, 1], term=3, commit=2)
    lone.receive(2, append(3, 2, 1, 3, [3]))  # index 3 may be replaced
    assert lone.host.log == [1, 1, 3]
    lone.receive(2, Heartbeat(3, 7, 3, 1, 0))
    lone.receive(2, append(3, 2, 1, 3, [2]))
    assert lone.host.log == [1, 1, 3]


def test_an_unknown_type_is_the_callers_fault(raft):
    lone = Lone(raft)
    with pytest.raises(LocalError):
        lone.machine.receive(lone.now, 2, "hello")


@pytest.mark.parametrize(
    "call",
    [
        lambda m, now: m.propose(now, 1, []),
        lambda m, now: m.propose(now, 1, [b"x" * (1 << 21)]),
        lambda m, now: m.propose(now, 1, [b""] * ((1 << 14) + 1)),
        lambda m, now: m.propose(now, 1, [b"a", b"b"], kinds=b"\1"),
        lambda m, now: m.transfer(now, 1, 9),
        lambda m, now: m.applied(now, 10**6),
        lambda m, now: m.applied(now, 0),
        lambda m, now: m.compact(now, 10**6, snapshot(10**6, 1)),
        lambda m, now: m.compact(now, 2, snapshot(1, 1)),
        lambda m, now: m.persisted(now, 10**6),
        lambda m, now: m.tick(now - 1),
        lambda m, now: m.tick(float("nan")),
    ],
    ids=[
        "nothing",
        "too long",
        "too many",
        "kinds",
        "target",
        "applied",
        "back",
        "compact",
        "other",
        "token",
        "past",
        "nan",
    ],
)
def test_a_broken_contract_of_the_host_is_a_local_error_that_changes_nothing(raft, call):
    lone = in_role(raft, "leader")
    digest = lone.machine.digest()
    with pytest.raises(LocalError) as caught:
        call(lone.machine, lone.now)
    assert len(str(caught.value)) > 20
    assert lone.machine.digest() == digest
    assert lone.machine.flush(lone.now) is None


# -- anything ---------------------------------------------------------------------------------------------------------

NUMBERS = st.one_of(st.integers(0, 8), st.sampled_from([1 << 32, INDEX_MAX, INDEX_MAX + 1, 1 << 63, HUGE]))
TERMS = st.one_of(st.integers(0, 7), st.sampled_from([1 << 33, INDEX_MAX, HUGE]))
FLAGS = st.booleans()
NODES = st.sampled_from([incarnation(2), incarnation(3), 7])
BLOCKS = st.builds(blocks, st.integers(1, 8), st.lists(st.integers(1, 7), max_size=4).map(sorted))
SNAPSHOTS = st.builds(
    Snapshot, NUMBERS, TERMS, NUMBERS, NUMBERS, st.integers(0, 9), st.sampled_from([configuration(3), configuration(5)])
)
SESSIONS = st.one_of(NUMBERS, st.just("right"))
ANYTHING = st.one_of(
    st.builds(AppendEntries, TERMS, NUMBERS, NUMBERS, TERMS, NUMBERS, BLOCKS),
    st.builds(AppendEntriesReply, TERMS, SESSIONS, NODES, FLAGS, NUMBERS, NUMBERS, TERMS, NUMBERS),
    st.builds(Heartbeat, TERMS, NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    st.builds(HeartbeatReply, TERMS, SESSIONS, NODES, NUMBERS, NUMBERS, NUMBERS),
    st.builds(RequestVote, TERMS, NODES, NUMBERS, TERMS, FLAGS, FLAGS),
    st.builds(RequestVoteReply, TERMS, NODES, FLAGS, FLAGS),
    st.builds(TimeoutNow, TERMS),
    st.builds(ReadIndex, TERMS, NUMBERS, NUMBERS),
    st.builds(ReadIndexReply, TERMS, NUMBERS, NUMBERS, NUMBERS),
    st.builds(InstallSnapshot, TERMS, NUMBERS, SNAPSHOTS),
    st.builds(InstallSnapshotReply, TERMS, SESSIONS, NODES, NUMBERS, NUMBERS),
)


@settings(max_examples=300)
@given(st.sampled_from(ROLES), st.lists(st.tuples(st.sampled_from([2, 2, 2, 3, 9]), ANYTHING, FLAGS), max_size=12))
def test_no_message_makes_a_machine_raise(role, letters):
    """The peers lie, so invariants of the group cannot hold; the machine must answer, stay sound, and boot again."""
    lone = in_role(distkit.raft, role)
    machine, disk, now = lone.machine, list(lone.host.disk), lone.now
    sessions = {peer: lone.session_of(peer) for peer in lone.peers} if role == "leader" else {}
    for source, message, persists in letters:
        now = max(now + 0.3, lone.now)
        if getattr(message, "session", None) == "right":
            message = with_session(message, sessions.get(source, 0))
        machine.receive(now, source, message)
        machine.tick(now)
        output = machine.flush(now)
        for write in output.writes if output else ():
            disk += write.records
            if persists:
                machine.persisted(now, write.token)
        status = machine.status()
        assert status.commit_index <= status.last_index
        assert status.flushed_index <= status.last_index
        assert status.applied_index <= status.commit_index
        assert all(0 <= peer.match < peer.next for peer in status.peers)
        assert all(peer.match <= status.last_index for peer in status.peers)
    again = distkit.raft.recover(disk, node=1, incarnation=incarnation(1), random=Random(1), now=now)
    assert (again.term, again.last_index) == (machine.term, machine.last_index)


def with_session(message, session):
    """The same message in the replication session that the leader has with this peer."""
    fields = [getattr(message, name) for name in type(message).__slots__]
    fields[type(message).__slots__.index("session")] = session
    return type(message)(*fields)


@settings(max_examples=100)
@given(st.sampled_from(ROLES), st.sampled_from([2, 3]), ANYTHING)
def test_the_same_message_twice_has_the_effect_of_one(role, source, message):
    lone = in_role(distkit.raft, role)
    if getattr(message, "session", None) == "right":
        message = with_session(message, 1)
    digests = []
    for _ in range(2):
        lone.machine.receive(lone.now, source, message)
        output = lone.machine.flush(lone.now)
        for write in output.writes if output else ():
            lone.machine.persisted(lone.now, write.token)
        lone.machine.flush(lone.now)
        digests.append((lone.machine.term, lone.machine.last_index, lone.machine.window.digest()))
    assert digests[0] == digests[1]
