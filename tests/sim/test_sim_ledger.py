"""Every rule of the ledger of Raft, broken by hand once: a checker that never caught anything proves nothing.

The machines here are made up: they say of themselves what the test wants. `sound` shows that an honest group passes.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from distkit._fast.codec import encode_block
from distkit.core import Configuration, Member, RoleName, Write
from distkit.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Entries,
    HardState,
    Heartbeat,
    HeartbeatReply,
    RequestVote,
    RequestVoteReply,
    Snapshot,
    SnapshotMark,
    Truncate,
)
from distkit.sim import Broken
from distkit.sim.raft_ledger import Ledger, Stored

LEADER, FOLLOWER = RoleName.LEADER, RoleName.FOLLOWER
CONFIGURATION = Configuration(1, (Member(1, 1001, "127.0.0.1:7101"),))


def entries(first: int, term: int, *payloads: bytes, time_us: int = 1000) -> Entries:
    return Entries(encode_block(term, first, time_us, b"\1" * len(payloads), list(payloads)))


def mark(index: int, term: int, commit: int = 0, *, hard: int = 0, reset: bool = False) -> SnapshotMark:
    return SnapshotMark(hard or term, 0, commit or index, reset, 0, Snapshot(index, term, 0, 9, 0, CONFIGURATION))


class Node:
    """A node that says of itself what it was told to say."""

    def __init__(self, group: Group, node: int) -> None:
        self.ledger = group.ledger
        self.id = node
        self.up = True
        self.accepted, self.durable = Stored(), Stored()
        self.term_seen = self.commit_seen = 0
        self.token = 0
        state = {"term": 0, "role": FOLLOWER, "commit": 0, "applied": 0, "flushed": 0, "last": 0, "progress": {}}
        state |= {"tickets": []}
        self.state = SimpleNamespace(**state, window=SimpleNamespace(base_index=0), snapshot=SimpleNamespace(index=0))

    @property
    def machine(self) -> Any:
        return SimpleNamespace(term=self.state.term, role=self.state.role, state=self.state)

    def write(self, *records: Any, then: tuple[Any, ...] = (), durable: bool = True) -> None:
        """Hand out a write, and make it durable."""
        for each in records:
            if isinstance(each, HardState | SnapshotMark):
                self.state.term = each.term
        self.token += 1
        self.ledger.wrote(self, Write(self.token, records, tuple((2, message) for message in then)))
        self.state.last = self.accepted.last
        if durable:
            for each in records:
                self.durable.replay(each)
            self.state.flushed = self.durable.last

    def say(self, **changes: Any) -> None:
        """The state after a flush."""
        for name, value in changes.items():
            setattr(self.state, name, value)
        self.ledger.state(self)

    def send(self, message: Any, target: int = 2, held: bool | None = None) -> None:
        waits = (RequestVote, RequestVoteReply, AppendEntriesReply)
        self.ledger.left(self, target, message, isinstance(message, waits) if held is None else held)


class Group:
    """Three nodes; node 1 leads term 1 and has committed entry 1."""

    def __init__(self, size: int = 3) -> None:
        self.nodes: dict[int, Any] = {}
        self.ledger = Ledger(self.nodes, size)
        for node in range(1, size + 1):
            self.nodes[node] = Node(self, node)

    def __getitem__(self, node: int) -> Node:
        found: Node = self.nodes[node]
        return found


def sound() -> Group:
    group = Group()
    one, two, three = (group[node] for node in (1, 2, 3))
    one.write(HardState(1, 1, 0))
    two.write(HardState(1, 1, 0))
    two.send(RequestVoteReply(1, 1002, False, True), 1)
    one.say(role=LEADER)
    one.write(HardState(1, 1, 0), entries(1, 1, b"first"))
    one.send(append(0, 0))
    two.write(HardState(1, 1, 0), entries(1, 1, b"first"))
    two.send(accepted(1), 1)
    one.say(progress={2: SimpleNamespace(match=1)}, commit=1)
    one.ledger.applied(1, 1, 1, b"first")
    one.say(applied=1)
    three.write(HardState(1, 0, 0), entries(1, 1, b"first"))
    for node in (two, three):
        node.say(commit=1)
    return group


def elected(group: Group, term: int, node: int, voter: int) -> None:
    """A node gets a vote of another for a term."""
    group[voter].write(HardState(term, node, group[voter].commit_seen))
    group[voter].send(RequestVoteReply(term, 1000 + voter, False, True), node)


def append(prev_index: int, prev_term: int, term: int = 1) -> AppendEntries:
    return AppendEntries(term, 1, prev_index, prev_term, 0, ())


def accepted(index: int, term: int = 1) -> AppendEntriesReply:
    return AppendEntriesReply(term, 1, 1002, True, index, 0, 0, 9)


def caught(rule: str, text: str, act: Any) -> None:
    with pytest.raises(Broken) as found:
        act()
    assert (found.value.rule, text in str(found.value)) == (rule, True), str(found.value)


def test_an_honest_group_passes() -> None:
    group = sound()
    two = group[2]
    two.write(HardState(2, 2, 1))
    two.send(RequestVote(2, 1002, 1, 1, False, False), 3)
    assert group.ledger.asked == {(2, 2): (1, 1)}
    elected(group, 2, 2, 3)
    two.say(role=LEADER, progress={})
    two.write(HardState(2, 2, 1), entries(2, 2, b"second", time_us=2000))
    group[3].write(HardState(2, 2, 1), entries(2, 2, b"second", time_us=2000))
    two.say(commit=2)
    assert group.ledger.committed == [0, 1, 2]
    assert group.ledger.leaders == {1: 1, 2: 2}
    assert [group.ledger.entries[at][2] for at in ((1, 1), (2, 2))] == [b"first", b"second"]


# -- elections --------------------------------------------------------------------------------------------------------


def test_two_leaders_of_a_term() -> None:
    group = sound()
    caught("election safety", "both lead term 1", lambda: group[2].say(role=LEADER))


@pytest.mark.parametrize("message", [append(0, 0), Heartbeat(1, 1, 0, 0, 0)])
def test_a_message_of_a_second_leader(message: Any) -> None:
    caught("election safety", "leads the term of 1", lambda: sound()[3].send(message))


def test_a_second_leader_long_after_the_first() -> None:
    group = sound()
    group[1].up = False
    group[1].state.role = FOLLOWER
    caught("election safety", "both lead", lambda: group[2].say(role=LEADER))


def test_a_second_vote_in_a_term() -> None:
    group = sound()
    two = group[2]
    two.durable.vote = 3  # it forgot the first one
    caught("election safety", "voted twice in term 1", lambda: two.send(RequestVoteReply(1, 1002, False, True), 3))


@pytest.mark.parametrize(("asked", "sound_vote"), [((1, 1), True), ((1, 2), True), ((0, 0), False), ((0, 9), False)])
def test_a_vote_for_a_log_that_is_older_is_found_as_it_is_granted(asked: tuple[int, int], sound_vote: bool) -> None:
    group = sound()
    two = group[2]
    group.ledger.asked[2, 3] = asked  # the term and the index of its last entry
    grant = RequestVoteReply(2, 1002, False, True)

    def act() -> None:
        two.ledger.wrote(two, Write(9, (HardState(2, 3, 1),), ((3, grant),)))

    two.state.term = 2
    if sound_vote:
        act()
    else:
        caught("election safety", f"node 2 voted in term 2 for 3 {asked} (1, 1)", act)


def test_a_vote_while_a_snapshot_replaces_a_longer_log_is_judged_by_nothing() -> None:
    group = sound()
    two = group[2]
    group.ledger.asked[2, 3] = 1, 1
    for node in (group[1], two):
        node.write(HardState(1, 1, 1), entries(2, 1, b"x"), entries(3, 1, b"y"))
    two.state.term = 2
    grant = RequestVoteReply(2, 1002, False, True)
    two.ledger.wrote(two, Write(9, (mark(2, 1, hard=2, reset=True),), ((3, grant),)))


def test_a_leader_that_is_deposed_in_the_same_flush_was_one() -> None:
    """All that is seen of it is the entry with which it began its term."""
    group = sound()
    two, three = group[2], group[3]
    two.write(HardState(2, 2, 1), entries(2, 2, b""))
    assert group.ledger.leaders == {1: 1, 2: 2}
    caught("election safety", "both lead term 2", lambda: three.write(HardState(2, 3, 1)) or three.say(role=LEADER))
    group = sound()
    three = group[3]
    three.accepted, three.commit_seen = Stored(), 0
    caught("leader completeness", "lacks committed", lambda: three.write(HardState(2, 3, 0), entries(1, 2, b"")))


def sending(*inflight: tuple[int, int], state: int = 2) -> SimpleNamespace:
    """What a leader knows of a peer."""
    total = sum(size for _, size in inflight)
    return SimpleNamespace(match=0, session=1, state=state, inflight=list(inflight), inflight_bytes=total)


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (sending((1, 90), (2, 90), (3, 50)), ""),
        (sending(state=1), ""),  # one at a time
        (sending((1, 50), (2, 50)), "does not count"),
        (sending(), "does not count"),
        (sending((1, 1), (2, 1), (3, 1), (4, 1)), "too much under way"),
        (sending((1, 150), (2, 50), (3, 1)), "too much under way"),
    ],
)
def test_no_more_is_under_way_than_the_window_allows(progress: SimpleNamespace, text: str) -> None:
    group = sound()
    one = group[1]
    one.write(HardState(1, 1, 1), entries(2, 1, b"second"), entries(3, 1, b"third"))
    one.state.options = SimpleNamespace(inflight_messages_max=3, inflight_bytes_max=200)
    one.state.progress = {2: progress}
    message = AppendEntries(1, 1, 1, 1, 0, (entries(2, 1, b"second").block, entries(3, 1, b"third").block))
    if text:
        caught("bounds", text, lambda: one.send(message))
    else:
        one.send(message)


def test_a_leader_without_what_is_committed() -> None:
    group = sound()
    three = group[3]
    three.durable, three.accepted = Stored(), Stored()
    three.commit_seen = three.state.commit = three.state.flushed = 0
    three.write(HardState(2, 3, 0))
    elected(group, 2, 3, 2)
    caught("leader completeness", "leader 3 lacks committed entry 1", lambda: three.say(role=LEADER, last=0))


# -- the log ----------------------------------------------------------------------------------------------------------


def test_a_leader_that_no_majority_voted_for() -> None:
    group = sound()
    group[2].write(HardState(2, 2, 0))
    group[2].say(commit=1)
    caught("election safety", "leads term 2 with 1 votes", lambda: group[2].say(role=LEADER))


def test_votes_that_came_twice_or_are_of_another_term_elect_nobody() -> None:
    group = Group(5)
    group[1].write(HardState(1, 1, 0))
    for term in (1, 1, 2):
        group[2].write(HardState(term, 1, 0))
        group[2].send(RequestVoteReply(term, 1002, False, True), 1)
    caught("election safety", "leads term 1 with 2 votes", lambda: group[1].say(role=LEADER))


def test_a_vote_for_a_log_that_is_behind() -> None:
    group = sound()
    three = group[3]
    three.write(HardState(2, 3, 1))
    three.send(RequestVote(2, 1003, 0, 0, False, False), 2)
    grant = RequestVoteReply(2, 1002, False, True)
    group[2].ledger.wrote(group[1], Write(9, (), ((2, RequestVoteReply(2, 1001, False, False)),)))
    caught(
        "election safety",
        "for 3",
        lambda: group[1].ledger.wrote(group[1], Write(9, (), ((3, grant),))),
    )


def test_an_entry_that_is_replaced_by_itself() -> None:
    group = sound()
    two = group[2]
    for node in (1, 2):
        group[node].write(HardState(1, 1, 1), entries(2, 1, b"second"))
    text = "replaces entry 2 by itself"
    again = (Truncate(2), HardState(1, 1, 1), entries(2, 1, b"second"))
    caught("log matching", text, lambda: two.write(*again))


def test_an_entry_with_two_contents() -> None:
    group = Group()
    group[1].write(HardState(1, 1, 0), entries(1, 1, b"one"))
    caught("log matching", "differs on 2", lambda: group[2].write(HardState(1, 1, 0), entries(1, 1, b"other")))


def test_an_entry_with_two_predecessors() -> None:
    group = Group()
    for node, first in ((1, 1), (2, 2)):
        group.ledger.leaders[first] = node
        group[node].write(HardState(first, 0, 0), entries(1, first, b"x"))
    group.ledger.leaders[3] = 1
    group[1].write(HardState(3, 0, 0), entries(2, 3, b"y"))
    caught("log matching", "differs on 2", lambda: group[2].write(HardState(3, 0, 0), entries(2, 3, b"y")))


def test_an_entry_that_its_leader_never_had() -> None:
    group = sound()
    made = entries(2, 1, b"made up", time_us=2000)
    caught("log matching", "born on 2 not on 1", lambda: group[2].write(HardState(1, 1, 1), made))


def test_times_that_fall() -> None:
    group = sound()
    caught("log matching", "time falls", lambda: group[1].write(HardState(1, 1, 1), entries(2, 1, b"x", time_us=999)))


def test_appends_behind_the_own_log() -> None:
    caught("log matching", "behind its own log", lambda: sound()[1].send(append(2, 1)))


def test_a_leader_that_takes_for_acknowledged_what_is_not_there() -> None:
    group = sound()
    group[1].write(HardState(1, 1, 1), entries(2, 1, b"x", time_us=2000))
    match = {2: SimpleNamespace(match=2)}
    caught("log matching", "takes 2 of node 2", lambda: group[1].say(progress=match))


def test_an_acknowledgement_of_another_entry() -> None:
    group = sound()
    group.ledger.leaders[0] = 2
    two = group[2]
    two.durable.terms[1] = 0
    caught("log matching", "acknowledged an entry that differs", lambda: two.send(accepted(1), 1))


def test_a_leader_that_truncates_its_log() -> None:
    caught("leader append-only", "leader 1 truncates", lambda: sound()[1].write(HardState(1, 1, 1), Truncate(1)))


def test_a_committed_entry_that_is_truncated() -> None:
    group = sound()
    act = lambda: group[2].write(HardState(2, 0, 1), Truncate(1))  # noqa: E731
    caught("committed entries", "entry 1 of term 1 truncated on 2", act)


@pytest.mark.parametrize(
    ("records", "text"),
    [
        ((HardState(1, 1, 1), Truncate(5)), "truncated at 5"),
        ((HardState(1, 1, 1), "nonsense"), "unknown record"),
    ],
)
def test_records_that_make_no_log(records: tuple[Any, ...], text: str) -> None:
    caught("log", text, lambda: sound()[3].write(*records))


def test_terms_that_fall_and_indexes_that_are_skipped() -> None:
    stored = Stored()
    stored.replay(HardState(5, 0, 0))
    stored.replay(entries(1, 5, b"x"))
    caught("log", "terms fall", lambda: stored.replay(entries(2, 4, b"y")))
    caught("log", "a gap: block from 3 after 1", lambda: stored.replay(entries(3, 5, b"y")))


# -- commits ----------------------------------------------------------------------------------------------------------


def test_another_entry_committed_at_an_index() -> None:
    group = sound()
    group.ledger.leaders[2] = 3
    three = group[3]
    three.accepted.terms[1] = three.durable.terms[1] = 2
    three.commit_seen = three.state.commit = 0
    caught("committed entries", "node 3 committed another entry at 1", lambda: three.say(commit=1))


def test_an_entry_of_an_earlier_term_committed_by_counting() -> None:
    """Figure 8 of the paper."""
    group = sound()
    one, two = group[1], group[2]
    for node in (one, two):
        node.write(HardState(1, 1, 1), entries(2, 1, b"old", time_us=2000))
    one.write(HardState(2, 1, 1))
    elected(group, 2, 1, 3)
    one.say(role=LEADER, progress={})
    caught("committed entries", "of an earlier term by counting", lambda: one.say(commit=2))


def test_a_commit_that_is_on_no_durable_quorum() -> None:
    group = sound()
    one, two = group[1], group[2]
    one.write(HardState(1, 1, 1), entries(2, 1, b"x", time_us=2000))
    two.write(HardState(1, 1, 1), entries(2, 1, b"x", time_us=2000), durable=False)
    caught("durability", "committed on no durable quorum", lambda: one.say(commit=2))


def test_a_dead_node_counts_with_its_disk() -> None:
    group = sound()
    one, two = group[1], group[2]
    for node in (one, two):
        node.write(HardState(1, 1, 1), entries(2, 1, b"x", time_us=2000))
    two.up = False
    one.say(commit=2)


def test_what_falls() -> None:
    caught("monotone", "term falls from 1 to 0", lambda: sound()[1].say(term=0))
    caught("monotone", "commit falls from 1 to 0", lambda: sound()[1].say(commit=0, applied=0))
    stored = Stored()
    stored.replay(mark(5, 1, reset=True))
    caught("monotone", "snapshot falls", lambda: stored.replay(mark(3, 1, 5)))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"applied": 2}, "applied 2"),
        ({"commit": 1, "flushed": 2}, "flushed 2 durable 1"),
        ({"flushed": 0, "applied": 1}, "applied 1 flushed 0"),
        ({"snapshot": SimpleNamespace(index=2)}, "out of order"),
        ({"window": SimpleNamespace(base_index=1)}, "out of order"),
    ],
)
def test_positions_out_of_order(changes: dict[str, Any], text: str) -> None:
    caught("positions", text, lambda: sound()[1].say(**changes))


def test_a_flushed_entry_that_was_rewritten() -> None:
    group = sound()
    one = group[1]
    one.write(HardState(1, 1, 1), entries(2, 1, b"x", time_us=2000))
    one.accepted.terms[2] = 9
    caught("positions", "rewritten", lambda: one.say())


# -- the disk before the network --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [RequestVote(1, 1001, 1, 1, False, False), RequestVoteReply(1, 1001, False, True), accepted(1)],
)
def test_what_must_wait_for_the_disk_and_did_not(message: Any) -> None:
    caught("durability", "sent before the disk had it", lambda: sound()[2].send(message, 1, held=False))


def test_what_waits_for_the_disk_and_need_not() -> None:
    reply = HeartbeatReply(1, 1, 1001, 0, 0, 0)
    caught("durability", "needs no disk", lambda: sound()[1].write(HardState(1, 1, 1), then=(reply,)))


def test_a_vote_that_may_be_forgotten() -> None:
    group = sound()
    grant = RequestVoteReply(2, 1003, False, True)
    caught("durability", "granted a vote that it may forget", lambda: group[3].send(grant, 2))
    group[3].write(HardState(2, 0, 1))
    caught("durability", "stored a vote for 0", lambda: group[3].send(grant, 2))


def test_a_candidate_that_may_forget_its_own_vote_or_entries() -> None:
    group = sound()
    for node, durable in ((1, True), (2, False)):
        group[node].write(HardState(1, 1, 1), entries(2, 1, b"x", time_us=2000), durable=durable)
    ask = RequestVote(2, 1002, 1, 1, False, False)
    caught("durability", "of a term it may forget", lambda: group[2].send(ask, 3))
    group[2].write(HardState(2, 0, 1))
    caught("durability", "without its own", lambda: group[2].send(ask, 3))
    group[2].write(HardState(2, 2, 1))
    longer = RequestVote(2, 1002, 2, 1, False, False)
    caught("durability", "entries it may lose", lambda: group[2].send(longer, 3))


def test_a_pre_vote_promises_nothing() -> None:
    group = sound()
    group[2].send(RequestVote(2, 1002, 1, 1, True, False), 3)
    group[3].send(RequestVoteReply(2, 1003, True, True), 2)


def test_an_acknowledgement_of_what_may_be_lost() -> None:
    group = sound()
    group[1].write(HardState(1, 1, 1), entries(2, 1, b"x", time_us=2000))
    group[2].write(HardState(1, 1, 1), entries(2, 1, b"x", time_us=2000), durable=False)
    caught("durability", "acknowledged 2 with 1 durable", lambda: group[2].send(accepted(2), 1))
    caught("durability", "a term that it may forget", lambda: group[2].send(accepted(1, term=2), 1))


def test_a_state_that_was_never_written() -> None:
    caught("durability", "was never written", lambda: sound()[1].say(term=2))
    caught("durability", "log ends at 2", lambda: sound()[1].say(last=2))


def test_writes_that_forget() -> None:
    more = entries(2, 1, b"x", time_us=2000)
    caught("durability", "without a hard state", lambda: sound()[1].write(more))
    caught("durability", "forget commit 1", lambda: sound()[1].write(HardState(1, 1, 0), more))
    group = sound()
    group[1].state.term = 5
    group.ledger.wrote(group[2], Write(9, (HardState(1, 1, 1),), ()))
    act = lambda: group.ledger.wrote(group[1], Write(9, (HardState(1, 1, 1),), ()))  # noqa: E731
    caught("durability", "hard state of another term", act)


def test_a_crash_in_the_middle_of_a_write_that_would_commit_something_else() -> None:
    """The commit index is on the disk before the entries that it is about, over an older suffix."""
    group = sound()
    group[1].write(HardState(1, 1, 1), entries(2, 1, b"x", time_us=2000))
    group[2].write(HardState(1, 1, 1), entries(2, 1, b"x", time_us=2000))
    group[1].say(commit=2)
    group.ledger.leaders[2] = 3
    three = group[3]
    three.write(HardState(2, 3, 1), entries(2, 2, b"other", time_us=2000))
    act = lambda: three.write(HardState(3, 0, 2), Truncate(2))  # noqa: E731
    caught("durability", "makes node 3 commit another entry at 2", act)


# -- what is applied and answered -------------------------------------------------------------------------------------


def test_what_is_applied_is_committed_and_what_was_proposed() -> None:
    ledger = sound().ledger
    caught("state machine safety", "not committed: 2", lambda: ledger.applied(2, 1, 1, b"x"))
    caught("state machine safety", "not committed: 1", lambda: ledger.applied(1, 2, 1, b"first"))
    caught("state machine safety", "other bytes 1", lambda: ledger.applied(1, 1, 1, b"other"))
    ledger.applied(1, 1, 1, b"first")


def test_a_ticket_that_is_left_over_and_a_batch_that_is_committed_in_part() -> None:
    for ticket, text in (((1, 1, 1, 7), "has no end"), ((1, 2, 1, 7), "in part")):
        group = sound()
        group[1].commit_seen, group[1].state.tickets = 0, [ticket]
        caught("tickets", text, lambda: group[1].say(commit=1))  # noqa: B023


def test_what_is_said_to_be_superseded_can_not_be_committed_any_more() -> None:
    group = sound()
    one = group[1]
    one.write(HardState(1, 1, 1), entries(2, 1, b"second"))
    for content in (b"first", b"second"):
        caught("tickets", "is said to be superseded", lambda: one.ledger.superseded(content))  # noqa: B023
    one.ledger.superseded(b"third")
    one.ledger.committed += [2]
    one.ledger.superseded(b"second")


# -- what a disk says -------------------------------------------------------------------------------------------------


def test_stored_reads_records_one_after_the_other() -> None:
    stored = Stored()
    for each in (
        HardState(2, 1, 0),
        entries(1, 1, b"a", b"b", b"c"),
        Truncate(3),
        entries(3, 2, b"d"),
        HardState(3, 0, 2),
    ):
        stored.replay(each)
    assert (stored.term, stored.vote, stored.commit, stored.last, stored.terms) == (3, 0, 2, 3, [0, 1, 1, 2])
    assert [stored.term_of(index) for index in (-1, 0, 1, 3, 4)] == [-1, 0, 1, 2, -1]
    other = stored.copy()
    other.replay(entries(4, 3, b"e"))
    assert (stored.last, other.last) == (3, 4)
    assert not other.says(stored)
    assert stored.says(stored.copy())


def test_a_snapshot_replaces_the_log_or_leaves_what_is_behind_it() -> None:
    stored = Stored()
    stored.replay(mark(0, 0))
    stored.replay(HardState(1, 0, 0))
    stored.replay(entries(1, 1, b"a", b"b", b"c"))
    kept = stored.copy()
    kept.replay(mark(2, 1, 2))
    assert (kept.base, kept.last, kept.snapshot_index) == (0, 3, 2)
    reset = stored.copy()
    reset.replay(mark(9, 2, 9, reset=True))
    assert (reset.base, reset.last, reset.terms) == (9, 9, [2])


def test_a_log_whose_beginning_is_gone_begins_with_its_snapshot() -> None:
    records = [HardState(2, 0, 3), entries(4, 2, b"d"), mark(3, 1, 3, hard=2), entries(5, 2, b"e")]
    found = Stored.recovered(records)
    assert (found.base, found.last, found.term_of(3), found.term_of(4), found.term_of(5)) == (3, 5, 1, 2, 2)
    whole = [mark(0, 0), HardState(1, 0, 0), entries(1, 1, b"a"), entries(2, 1, b"b", b"c"), *records]
    assert Stored.recovered(whole).says(found)
