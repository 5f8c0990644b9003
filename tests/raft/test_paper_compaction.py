"""The Raft paper, section 7: log compaction and InstallSnapshot. One test for each rule, named after it."""

import pytest
from cluster import EPOCH_US, Cluster, Letter, blocks, configuration, incarnation
from lone import Lone, accept

from distkit.core import Restore, Role
from distkit.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    HardState,
    InstallSnapshot,
    InstallSnapshotReply,
    Snapshot,
    SnapshotMark,
)
from distkit.sim.raft_ledger import Stored


def snapshot(lone, index, term):
    """A snapshot that the test's own leader made of the entries that `blocks` gives."""
    lone.states[index] = [(i, term, 1, b"%d/%d" % (i, term)) for i in range(1, index + 1)]
    missing = index + 1 - len(lone.ledger.committed)
    lone.ledger.committed += [term] * missing
    lone.ledger.committed_by += [term] * missing
    return Snapshot(index, term, EPOCH_US, 100, 1, lone.configuration)


def install(lone, index, term, *, leader_term=None, session=7):
    return InstallSnapshot(leader_term or lone.machine.term, session, snapshot(lone, index, term))


def compacted(raft, *, keep=0, entries=10, **options):
    """A cluster whose leader 1 has taken a snapshot of everything, while node 3 missed it all."""
    cluster = Cluster(raft, keep_entries=keep, **options)
    cluster.elect(1)
    cluster.isolate(3)
    for number in range(entries):
        cluster.propose(1, b"%d" % number)
        cluster.settle()
    cluster.compact(1)
    cluster.settle()
    return cluster


# -- taking one -------------------------------------------------------------------------------------------------------


def test_a_snapshot_replaces_the_entries_that_it_covers(raft):
    cluster = compacted(raft)
    machine = cluster.nodes[1].machine
    assert (machine.window.base_index, machine.window.last, machine.snapshot.index) == (11, 11, 11)
    assert machine.window.term(11) == machine.snapshot.term


def test_it_includes_the_last_included_index_and_term_and_the_configuration(raft):
    cluster = compacted(raft)
    (mark,) = [r for r in cluster.nodes[1].disk[1:] if isinstance(r, SnapshotMark)]
    term = cluster.nodes[1].machine.term
    assert (mark.snapshot.index, mark.snapshot.term, mark.snapshot.configuration) == (11, term, configuration(3))
    assert (mark.reset, mark.term, mark.vote, mark.commit) == (False, term, 1, 11)


def test_entries_are_kept_below_a_snapshot_for_followers_that_lag_a_little(raft):
    cluster = compacted(raft, keep=4)
    assert cluster.nodes[1].machine.window.base_index == 7


def test_each_server_takes_snapshots_by_itself(raft):
    cluster = Cluster(raft, keep_entries=0)
    cluster.elect(1)
    cluster.propose(1, b"a")
    cluster.elapse(1)
    cluster.compact(2)
    cluster.settle()
    assert [node.machine.window.base_index for node in cluster.nodes.values()] == [0, 2, 0]


def test_the_consistency_check_still_works_for_the_first_entry_behind_a_snapshot(raft):
    cluster = compacted(raft)
    cluster.propose(1, b"more")
    cluster.elapse(1)
    assert cluster.nodes[2].commands[-1] == b"more"


def test_a_server_restarts_from_its_snapshot_and_the_entries_behind_it(raft):
    cluster = compacted(raft)
    cluster.propose(1, b"more")
    cluster.elapse(1)
    cluster.crash(1, 2)
    cluster.restart(1, 2)
    assert cluster.nodes[1].machine.applied_index == 11
    cluster.heal()
    cluster.elapse(5)
    assert len({tuple(node.state) for node in cluster.nodes.values()}) == 1
    assert cluster.nodes[1].commands[-1] == b"more"


# -- sending one ------------------------------------------------------------------------------------------------------


def test_a_leader_sends_a_snapshot_when_it_has_discarded_the_next_entry_a_follower_needs(raft):
    cluster = compacted(raft)
    cluster.heal()
    cluster.elapse(0.5)
    assert [mark.reset for mark in cluster.nodes[3].disk[1:] if isinstance(mark, SnapshotMark)] == [True]
    assert cluster.nodes[3].state == cluster.nodes[1].state


def test_it_sends_no_snapshot_when_it_still_has_the_entries(raft):
    cluster = compacted(raft, keep=20)
    cluster.heal()
    cluster.elapse(0.5)
    assert len([mark for mark in cluster.nodes[3].disk if isinstance(mark, SnapshotMark)]) == 1
    assert cluster.nodes[3].state == cluster.nodes[1].state


def test_no_entries_are_sent_to_a_follower_while_a_snapshot_is_on_its_way(raft):
    cluster = compacted(raft)
    cluster.reports_snapshots = False
    cluster.heal()
    cluster.elapse(0.01)
    while not cluster.letters(InstallSnapshot):
        cluster.sleep(0.01)
        cluster.tick(1)
        for node in cluster.nodes:
            cluster.run(node)
        if not cluster.letters(InstallSnapshot):
            cluster.deliver()
    held = cluster.take(InstallSnapshot)
    cluster.take()
    cluster.propose(1, b"more")
    cluster.run(1)
    assert cluster.letters(AppendEntries, target=3) == []
    assert held[0].message.snapshot.index == 11


@pytest.mark.parametrize("ok", [True, False])
def test_a_snapshot_whose_answer_is_lost_does_not_stop_replication(raft, ok):
    cluster = compacted(raft)
    cluster.reports_snapshots = False
    cluster.heal()
    for _ in range(30):
        cluster.now += 0.05
        cluster.tick(1, 2, 3)
        for _ in range(3):
            for node in cluster.nodes:
                cluster.run(node)
            for letter in cluster.take(InstallSnapshot):
                if ok:
                    cluster.hand(letter)
                cluster.nodes[1].call("snapshot_sent", 3, ok)
                cluster.nodes[1].flush()
            if len(cluster.nodes[1].roles) < 5:
                cluster.take(InstallSnapshotReply)
            cluster.deliver()
    cluster.reports_snapshots = True
    cluster.elapse(1)
    assert cluster.nodes[3].state == cluster.nodes[1].state


# -- receiving one ----------------------------------------------------------------------------------------------------


def test_a_snapshot_of_a_smaller_term_is_answered_at_once_with_the_own_term(raft):
    lone = Lone(raft, term=5)
    replies = lone.receive(2, install(lone, 4, 4, leader_term=4))
    assert {reply.term for reply in replies} <= {5}
    assert (lone.machine.last_index, lone.machine.snapshot.index) == (0, 0)


@pytest.mark.parametrize("log", [[], [1], [1, 1, 1], [1, 1, 1, 1, 1, 1]])
def test_a_snapshot_with_new_information_replaces_the_whole_log(raft, log):
    lone = Lone(raft, log=log, term=3)
    message = install(lone, 4, 2)
    assert lone.machine.wants(message.snapshot)
    (reply,) = lone.receive(2, message)
    assert (reply.index, reply.term, reply.session) == (4, 3, 7)
    window = lone.machine.window
    assert (window.base_index, window.base_term, window.last) == (4, 2, 4)
    assert (lone.machine.commit_index, lone.machine.flushed_index) == (4, 4)


def test_a_snapshot_is_durable_with_the_hard_state_in_one_record_before_it_is_acknowledged(raft):
    lone = Lone(raft, term=2)
    message = install(lone, 4, 2, leader_term=3)
    lone.hand(Letter(2, 1, message))
    assert lone.letters(InstallSnapshotReply) == []
    assert not any(isinstance(item, Restore) for item in lone.host.delivered)
    (mark,) = [record for record in lone.host.writes[0].records if isinstance(record, SnapshotMark)]
    assert mark == SnapshotMark(3, 0, 4, True, 0, message.snapshot)
    lone.host.persist()
    assert [letter.message.index for letter in lone.take(InstallSnapshotReply)] == [4]
    assert [item for item in lone.host.delivered if isinstance(item, Restore)] == [Restore(message.snapshot)]


def test_the_state_machine_is_reset_with_the_snapshot_and_entries_go_on_from_there(raft):
    lone = Lone(raft, term=2)
    message = install(lone, 4, 2)
    lone.receive(2, message)
    assert lone.machine.applied_index <= 4
    lone.host.call("applied", 4)
    lone.host.flush()
    lone.receive(2, AppendEntries(2, 7, 4, 2, 5, blocks(5, [2])))
    assert [entry[:2] for entry in lone.host.state] == [(index, 2) for index in range(1, 6)]


def test_entries_that_follow_a_snapshot_of_a_prefix_of_the_log_are_retained(raft):
    lone = Lone(raft, log=[1, 1, 1, 1, 1], term=1)
    message = install(lone, 3, 1)
    assert not lone.machine.wants(message.snapshot)
    (reply,) = lone.receive(2, message)
    assert reply.index == 3
    assert lone.machine.last_index == 5
    assert lone.machine.commit_index == 3
    assert lone.host.commands == [b"1/1", b"2/1", b"3/1"]


def test_a_snapshot_older_than_what_is_committed_is_acknowledged_and_changes_nothing(raft):
    lone = Lone(raft, log=[1, 1, 1, 1], term=1, commit=4)
    assert lone.machine.commit_index == 4
    message = install(lone, 2, 1)
    lone.hear(2)
    digest = lone.machine.digest()
    assert not lone.machine.wants(message.snapshot)
    (reply,) = lone.receive(2, message)
    assert reply == InstallSnapshotReply(1, 7, incarnation(1), 4, reply.credit)
    assert lone.machine.digest() == digest


def test_a_snapshot_names_the_leader_and_restarts_the_election_timeout(raft):
    lone = Lone(raft, term=1)
    lone.receive(3, install(lone, 4, 1, leader_term=2))
    assert lone.machine.leader == 3
    assert lone.machine.deadline() > lone.now + lone.options.election_timeout
    assert lone.host.roles[-1] == Role(lone.machine.role, 2, 3, False)


def test_a_follower_that_installed_a_snapshot_gets_the_entries_behind_it(raft):
    lone = Lone(raft, keep_entries=0)
    lone.lead()
    for number in range(5):
        lone.propose(1, b"%d" % number)
        lone.run(1)
        lone.receive_only(2, accept(lone.take(AppendEntries, target=2)[-1]))
    lone.compact(1)
    lone.propose(1, b"behind")
    lone.run(1)
    lone.take()
    stale = AppendEntries(lone.machine.term, lone.session_of(3), 0, 0, 0, ())
    lone.receive_only(3, AppendEntriesReply(stale.term, stale.session, incarnation(3), False, 6, 0, 0, 1 << 30))
    (message,) = lone.take(InstallSnapshot, target=3)
    lone.host.call("snapshot_sent", 3, True)
    lone.host.flush()
    lone.take()
    answer = message.message
    lone.receive_only(3, InstallSnapshotReply(answer.term, answer.session, incarnation(3), 6, 1 << 30))
    appends = lone.take(AppendEntries, target=3)
    assert [(letter.message.prev_index, len(letter.message.blocks)) for letter in appends] == [(6, 1)]


def test_the_log_on_disk_and_an_image_recover_the_same_state(raft):
    cluster = compacted(raft, keep=3)
    cluster.propose(1, b"more")
    cluster.elapse(1)
    for node in (1, 2):
        image, disk = Stored(), cluster.nodes[node].durable
        for record in cluster.nodes[node].machine.image():
            image.replay(record)
        assert (image.term, image.vote, image.last, image.snapshot_index) == (
            disk.term,
            disk.vote,
            disk.last,
            disk.snapshot_index,
        )
        assert image.commit == cluster.nodes[node].machine.commit_index
        records = list(cluster.nodes[node].machine.image())
        digests = []
        for disk_records in (cluster.nodes[node].disk, records):
            cluster.crash(node)
            cluster.nodes[node].disk = list(disk_records)
            cluster.restart(node)
            digests.append(cluster.nodes[node].machine.window.digest())
        assert digests[0] == digests[1]


def test_formation_is_an_empty_snapshot_that_holds_the_configuration(raft):
    (mark,) = raft.formation_records(configuration(3))
    assert mark.snapshot == Snapshot(0, 0, 0, 0, 0, configuration(3))
    assert (mark.term, mark.vote, mark.commit) == (0, 0, 0)
    assert HardState not in map(type, raft.formation_records(configuration(3)))
