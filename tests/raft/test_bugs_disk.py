"""Bugs that Raft implementations had: writes in flight, snapshots, restarts, flow. `mutants.py` brings each back."""

from itertools import permutations

import pytest
from cluster import Cluster, Letter, blocks, incarnation
from lone import Lone, accept, beat, refuse
from test_paper_compaction import compacted, install
from test_paper_replication import append
from test_progress import check, leader, peer, propose, pulse, state

from distkit.core import Outcome, Space
from distkit.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Entries,
    HardState,
    Heartbeat,
    InstallSnapshot,
    InstallSnapshotReply,
    SnapshotMark,
)
from distkit.sim.broken import Broken

# -- 25: everything purged and a fresh progress (openraft#1828, #1829) ------------------------------------------------


def test_bug_25_an_idle_group_whose_log_is_purged_still_brings_a_peer_up_after_a_new_election(raft):
    cluster = compacted(raft)
    cluster.elapse(0.5)
    cluster.compact(2, len(cluster.nodes[2].state))
    cluster.settle()
    cluster.crash(1)
    cluster.heal()
    cluster.elect(2)
    cluster.elapse(2)
    assert cluster.nodes[2].machine.commit_index == 12  # nothing commits without node 3
    assert cluster.nodes[3].state == cluster.nodes[2].state


def test_bug_25_a_snapshot_that_was_lost_is_sent_again(raft):
    cluster = compacted(raft)
    cluster.heal()
    cluster.reports_snapshots = False
    for _ in range(5):
        cluster.now += cluster.options.heartbeat
        for _ in range(4):
            for letter in cluster.take(InstallSnapshot):
                cluster.nodes[1].call("snapshot_sent", letter.target, False)
                cluster.nodes[1].flush()
            cluster.tick(1, 2, 3)
            for node in cluster.nodes:
                cluster.run(node)
            cluster.deliver()
    cluster.take(InstallSnapshot)
    cluster.nodes[1].call("snapshot_sent", 3, False)
    cluster.reports_snapshots = True
    cluster.elapse(1)
    assert cluster.nodes[3].state == cluster.nodes[1].state


# -- 26: a full window and lost acknowledgements (etcd#14633, raft#54) ------------------------------------------------


@pytest.mark.parametrize("arrived", [True, False])
def test_bug_26_a_full_window_whose_answers_are_all_lost_moves_again_on_heartbeats(raft, arrived):
    cluster = Cluster(raft, inflight_messages_max=2)
    cluster.elect(1)
    for number in range(6):
        cluster.propose(1, b"%d" % number)
        cluster.run(1)
    if arrived:
        cluster.deliver(AppendEntries)
        for node in (2, 3):
            cluster.run(node)
    cluster.take()
    assert {status.inflight_messages for status in cluster.nodes[1].machine.status().peers} == {2}
    cluster.elapse(3 * cluster.options.heartbeat)
    assert [len(node.commands) for node in cluster.nodes.values()] == [6, 6, 6]


@pytest.mark.parametrize("reset", ["rejection", "lost", "snapshot"])
def test_bug_26_both_counters_of_the_window_are_zero_after_each_change_of_state(raft, reset):
    lone = leader(raft, keep_entries=0)
    propose(lone, 3)
    assert (peer(lone).inflight_messages, peer(lone).inflight_bytes > 0) == (3, True)
    letters = lone.take(AppendEntries, target=2)
    if reset == "rejection":
        lone.receive_only(2, refuse(letters[2], 1, 1))
    elif reset == "lost":
        lone.host.call("lost", 2, "closed")
        lone.host.flush()
    else:
        for letter in lone.take(AppendEntries, target=3):
            lone.receive_only(3, accept(letter))
        lone.compact(1)
        lone.host.call("lost", 2, "closed")
        pulse(lone, 2)
        assert state(lone) == "SNAPSHOT"
    check(lone)
    assert peer(lone).inflight_bytes == 0


# -- 27: snapshot at the last index; acknowledgements above and below it (etcd#10308, raft#110) -----------------------


def sent_snapshot(raft, **options):
    """A leader with a log up to 6 and a snapshot on its way to peer 3."""
    lone = leader(raft, keep_entries=0, **options)
    lone.host.call("lost", 3, "closed")
    for number in range(5):
        lone.propose(1, b"%d" % number)
        lone.run(1)
        for letter in lone.take(AppendEntries, target=2):
            lone.receive_only(2, accept(letter))
    lone.compact(1)
    lone.run(1)
    pulse(lone, 3)
    (letter,) = lone.take(InstallSnapshot, target=3)
    return lone, letter


def installed(letter, index):
    message = letter.message
    return InstallSnapshotReply(message.term, message.session, incarnation(letter.target), index, 1 << 30)


def test_bug_27_a_peer_returns_to_replication_after_a_snapshot_at_the_last_index(raft):
    lone, letter = sent_snapshot(raft)
    assert letter.message.snapshot.index == lone.machine.last_index
    lone.receive_only(3, installed(letter, 6))
    assert (state(lone, 3), peer(lone, 3).match) == ("REPLICATE", 6)


def test_bug_27_an_acknowledgement_above_the_pending_snapshot_is_taken(raft):
    lone, letter = sent_snapshot(raft)
    propose(lone)
    lone.receive_only(3, installed(letter, 7))
    assert (state(lone, 3), peer(lone, 3).match) == ("REPLICATE", 7)


def compacted_past_the_letter(raft, **options):
    """The leader takes a newer snapshot, at 7, while the older one is on its way; peer 3 installs the older."""
    lone, letter = sent_snapshot(raft, **options)
    for size in (800, 10):
        propose(lone, size=size)
        for append_ in lone.take(AppendEntries, target=2):
            lone.receive_only(2, accept(append_))
    lone.compact(1, 7)
    lone.run(1)
    lone.receive_only(3, installed(letter, 6))
    assert peer(lone, 3).match == 6
    return lone, letter


def test_bug_27_an_acknowledgement_below_it_is_enough_if_the_log_still_reaches_there(raft):
    lone, _letter = compacted_past_the_letter(raft)
    assert state(lone, 3) == "REPLICATE"  # entry 7 was kept for it


def test_bug_27_an_acknowledgement_below_it_is_not_enough_if_the_log_begins_above(raft):
    lone, letter = compacted_past_the_letter(raft, log_bytes_max=1500)  # too small a log to keep entry 7 for a peer
    assert state(lone, 3) == "SNAPSHOT"
    lone.receive_only(3, installed(letter, 7))
    assert state(lone, 3) == "REPLICATE"


# -- 29: the same indexes written again while writes are in flight ----------------------------------------------------


def test_bug_29_the_first_completion_marks_nothing_stable_that_was_rewritten_since(raft):
    lone = Lone(raft, log=[1], term=1)
    lone.hand(Letter(2, 1, append(2, 1, 1, [2, 2])))
    lone.sleep(2)
    lone.hand(Letter(3, 1, append(3, 1, 1, [3, 3])))
    lone.sleep(2)
    lone.hand(Letter(2, 1, append(4, 1, 1, [4, 4])))
    assert len(lone.host.writes) == 3
    flushed = []
    while lone.host.writes:
        lone.host.persist(1)
        flushed.append(lone.machine.flushed_index)
    assert flushed == [1, 1, 3]


def test_bug_29_an_acknowledgement_waits_for_the_write_that_makes_it_true(raft):
    lone = Lone(raft, log=[1], term=1)
    lone.hand(Letter(2, 1, append(2, 1, 1, [2])))
    lone.sleep(2)
    lone.hand(Letter(3, 1, append(3, 1, 1, [3])))
    lone.host.persist(1)
    assert lone.letters(AppendEntriesReply, target=3) == []
    lone.host.persist(1)
    assert [letter.message.index for letter in lone.take(AppendEntriesReply, target=3)] == [2]


def test_a_repeated_append_is_acknowledged_only_with_the_first_ones_write(raft):
    lone = Lone(raft, term=1)
    lone.hand(Letter(2, 1, append(1, 0, 0, [1])))
    lone.hand(Letter(2, 1, append(1, 0, 0, [1])))
    lone.hand(Letter(2, 1, append(1, 1, 1)))
    assert lone.letters(AppendEntriesReply) == []


# -- 30: completions out of order (openraft#1960) ---------------------------------------------------------------------


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_bug_30_completions_are_a_watermark_in_any_order(raft, order):
    lone = Lone(raft, term=1)
    for index in (1, 2, 3):
        lone.hand(Letter(2, 1, append(1, index - 1, min(index - 1, 1), [1], commit=index)))
    writes = list(lone.host.writes)
    lone.host.writes.clear()
    for write in writes:
        for record in write.records:
            lone.host.durable.replay(record)
            lone.host.disk.append(record)
    highest = 0
    for at in order:
        lone.host.call("persisted", writes[at].token)
        lone.host.flush()
        highest = max(highest, at + 1)
        assert lone.machine.flushed_index == highest
        assert len(lone.host.state) == highest
    assert lone.machine.status().writes_outstanding == 0


def test_bug_30_one_completion_wakes_everything_up_to_it(raft):
    lone = Lone(raft)
    lone.lead()
    tickets = [lone.propose(1, b"%d" % number) for number in range(3)]
    for letter in lone.take(AppendEntries, target=2):
        lone.hand(Letter(2, 1, accept(letter)))
    lone.host.persist(report=False)
    assert lone.machine.flushed_index == 4
    assert {lone.outcome(ticket) for ticket in tickets} == {Outcome.COMMITTED}
    assert lone.host.commands == [b"0", b"1", b"2"]


# -- 31: snapshot and hard state written apart (nexus#4215) -----------------------------------------------------------


@pytest.mark.parametrize("keep", range(5))
@pytest.mark.parametrize("log", [[], [1, 1], [1] * 6, [1, 1, 3, 3, 3, 3]])
def test_bug_31_a_crash_at_any_record_of_a_snapshot_install_leaves_a_node_that_boots(raft, log, keep):
    lone = Lone(raft, log=log, term=3, commit=min(len(log), 2))
    message = install(lone, 4, 2, leader_term=5)
    lone.hand(Letter(2, 1, message))
    lone.host.call("receive", 2, AppendEntries(5, 7, 4, message.snapshot.term, 5, blocks(5, [5])))
    lone.host.flush()
    lone.crash(1, keep=keep)
    lone.restart(1)
    machine = lone.machine
    assert machine.snapshot.index <= machine.commit_index <= machine.last_index
    if machine.snapshot.index < 4:
        assert machine.commit_index <= 2  # what the snapshot would have replaced is not taken for committed


def test_bug_31_a_commit_index_never_reaches_the_disk_ahead_of_the_truncation_it_needs(raft):
    records = 4
    for keep in range(records + 1):
        lone = Lone(raft, log=[1, 2, 2, 2], term=2, commit=1)
        lone.ledger.committed += [3, 3]
        lone.ledger.committed_by += [3, 3]
        lone.hand(Letter(2, 1, append(3, 1, 1, [3, 3], commit=3)))
        lone.crash(1, keep=keep)
        lone.restart(1)  # applies what it takes for committed; the ledger knows better
        lone.run(1)
        assert lone.machine.commit_index in (1, 2, 3)
        if lone.machine.commit_index > 1:
            assert lone.host.log[1] == 3


# -- 32: commit and applied the wrong way round after a restart (etcd#7899) -------------------------------------------


@pytest.mark.parametrize("commit", [0, 2, 3, 4, 6, 9])
@pytest.mark.parametrize("mark_first", [True, False])
def test_bug_32_any_order_of_snapshot_commit_and_applied_boots_and_applies_densely(raft, commit, mark_first):
    lone = Lone(raft, log=[1] * 6, term=1, commit=3)
    snapshot = lone.compact(1, 3)
    lone.run(1)
    mark = SnapshotMark(1, 0, 3 if mark_first else commit, False, 0, snapshot)
    states = [mark, HardState(1, 0, max(commit, 3))] if mark_first else [HardState(1, 0, commit), mark]
    lone.crash(1)
    lone.host.disk = [lone.host.disk[0], *map(Entries, blocks(1, [1] * 6)), *states]
    lone.ledger.committed, lone.ledger.committed_by = [0, *[1] * 6], [0, *[1] * 6]
    lone.host.applies = False
    lone.restart(1)
    machine = lone.machine
    assert machine.snapshot.index == machine.applied_index == 3
    assert machine.commit_index == min(max(commit, 3), 6)
    lone.host.apply()
    lone.host.flush()
    assert machine.applied_index == machine.commit_index
    assert [entry[0] for entry in lone.host.state] == list(range(1, machine.commit_index + 1))


def test_bug_32_entries_before_a_snapshot_that_were_rewritten_later_do_not_hinder_the_boot(raft):
    cluster = Cluster(raft, keep_entries=0)
    cluster.elect(1)
    cluster.isolate(1)
    for number in range(6):
        cluster.propose(1, b"lost %d" % number)
        cluster.run(1)
    cluster.settle()
    cluster.elect(2)
    cluster.propose(2, b"kept")
    cluster.settle()
    cluster.heal()
    cluster.elapse(2)
    assert cluster.nodes[1].machine.last_index < 7
    cluster.compact(1)
    cluster.run(1)
    state = list(cluster.nodes[1].state)
    cluster.crash(1)
    cluster.restart(1)
    assert cluster.nodes[1].state == state


def test_the_ledger_of_these_tests_sees_an_entry_applied_before_it_is_committed(raft):
    lone = Lone(raft, log=[1], term=1)
    with pytest.raises(Broken, match="not committed"):
        lone.ledger.applied(1, 1, 1, b"1/1")


def test_heartbeats_alone_write_nothing(raft):
    lone = Lone(raft, log=[1, 1], term=1)
    disk = len(lone.host.disk)
    lone.receive(2, Heartbeat(1, 7, 2, 1, 0))
    assert lone.machine.commit_index == 2
    assert len(lone.host.disk) == disk


def test_space_that_returns_lets_a_new_leader_go_on(raft):
    cluster = Cluster(raft)
    for node in cluster.nodes.values():
        node.call("storage", Space.FULL)
    cluster.elect(1)
    assert cluster.nodes[1].machine.commit_index == 1  # votes and the empty entry have a reserve
    for node in cluster.nodes.values():
        node.call("storage", Space.OK)
        node.flush()
    ticket = cluster.propose(1, b"a")
    cluster.elapse(1)
    assert cluster.outcome(ticket) is Outcome.COMMITTED


def test_a_beat_with_position_zero_is_only_a_notice(raft):
    lone = Lone(raft, log=[1], term=1)
    assert lone.receive(2, Heartbeat(1, 7, 1, 0, 0)) == []
    assert (lone.machine.commit_index, lone.machine.leader) == (1, 2)
    assert beat(Letter(2, 1, Heartbeat(1, 7, 1, 3, 0))).read_position == 3
