"""Bugs that Raft implementations had: logs, acknowledgements, commit. `mutants.py` brings each back."""

from itertools import permutations
from random import Random

import pytest
from cluster import Cluster, Letter, blocks, incarnation
from lone import Lone, accept, refuse
from test_paper_replication import append
from test_paper_safety import figure_8

from distkit.core import Outcome
from distkit.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Entries,
    HardState,
    Heartbeat,
    InstallSnapshotReply,
    RequestVote,
    Truncate,
)

# -- 1: commit by counting replicas of an old term (logcabin#44, canonical/raft#220, PySyncObj#169) -------------------


def test_bug_01_figure_8_an_old_entry_commits_only_with_one_of_the_own_term(raft):
    cluster = figure_8(raft)
    for letter in cluster.take(AppendEntries):  # the followers confirm the old entry only
        if letter.target in (2, 3):
            cluster.hand(Letter(letter.target, 1, accept(letter, 2)))
    assert cluster.nodes[1].machine.commit_index == 0


# -- 2: commit without a quorum in an optimised structure (openraft#1802) -------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7])
def test_bug_02_commit_is_the_majority_by_sorting_after_every_single_acknowledgement(raft, size):
    random = Random(size)
    lone = Lone(raft, size, inflight_messages_max=1000)
    lone.lead()
    match = dict.fromkeys(lone.peers, 1)
    sent = {peer: [] for peer in lone.peers}
    for number in range(60):
        lone.propose(1, b"%d" % number)
        for letter in lone.take(AppendEntries):
            sent[letter.target].append(letter)
        for _ in range(random.randint(0, size)):
            peer = random.choice(lone.peers)
            if random.random() < 0.3:
                if lone.host.writes:
                    lone.host.persist(random.randint(1, len(lone.host.writes)))
            elif sent[peer]:
                letter = random.choice(sent[peer])
                answer = accept(letter)
                lone.hand(Letter(peer, 1, answer))
                match[peer] = max(match[peer], answer.index)
            expected = sorted([lone.machine.flushed_index, *match.values()])[(size - 1) // 2]
            assert lone.machine.commit_index == expected
            for letter in lone.take(AppendEntries):
                sent[letter.target].append(letter)


@pytest.mark.parametrize("order", list(permutations((2, 3, 4, 5))))
def test_bug_02_two_of_five_never_commit_and_three_always_do(raft, order):
    lone = Lone(raft, 5)
    lone.lead()
    lone.propose(1, b"a")
    letters = {letter.target: letter for letter in lone.take(AppendEntries)}
    for peer in order[:2]:
        lone.hand(Letter(peer, 1, accept(letters[peer])))
    assert lone.machine.commit_index == 1  # the own copy is not durable
    lone.hand(Letter(order[2], 1, accept(letters[order[2]])))
    assert lone.machine.commit_index == 2


# -- 3: a probe or hint used as match index (CCF#5325) --------------------------------------------------------------


@pytest.mark.parametrize("hint", [(0, 0), (1, 1), (3, 1), (5, 2), (6, 2), (99, 0), (2**62 - 1, 2), (5, 0)])
def test_bug_03_no_rejection_moves_match_or_commit(raft, hint):
    lone = Lone(raft, log=[1, 1, 1, 2, 2], term=2)
    lone.elected()
    for letter in lone.take(AppendEntries):
        lone.receive_only(letter.target, refuse(letter, *hint))
        lone.receive_only(letter.target, refuse(letter, *hint))
    assert [peer.match for peer in lone.machine.status().peers] == [0, 0]
    assert lone.machine.commit_index == 0


# -- 4: stale acknowledgements (PySyncObj has no term in them) ------------------------------------------------------


def test_bug_04_acknowledgements_from_before_a_re_election_do_not_count(raft):
    lone = Lone(raft)
    lone.lead()
    lone.propose(1, b"a")
    lone.run(1)
    old = {letter.target: accept(letter) for letter in lone.take(AppendEntries)}
    lone.receive(2, Heartbeat(lone.machine.term + 1, 7, 0, 1, 0))
    lone.sleep(2)
    lone.elected()
    term, first = lone.machine.term, lone.machine.last_index
    lone.take()
    lone.propose(1, b"b")
    lone.run(1)
    for peer, reply in old.items():
        lone.receive_only(peer, reply)
        # A follower that answers late answers in its newest term, but names the session it answers to.
        lone.receive_only(
            peer, AppendEntriesReply(term, reply.session, reply.incarnation, True, first, 0, 0, reply.credit)
        )
        lone.receive_only(peer, InstallSnapshotReply(term, reply.session, reply.incarnation, first, reply.credit))
    assert [peer.match for peer in lone.machine.status().peers] == [0, 0]
    assert lone.machine.commit_index == 1


def test_bug_04_sessions_differ_over_a_restart(raft):
    lone = Lone(raft)
    lone.lead()
    before = {letter.message.session for letter in beats(lone)}
    lone.crash(1)
    lone.restart(1)
    lone.lead()
    assert before.isdisjoint(letter.message.session for letter in beats(lone))


def beats(lone):
    lone.take()
    lone.elapse_alone(lone.options.heartbeat)
    return lone.take(Heartbeat)


def test_bug_04_an_acknowledgement_keeps_the_term_in_which_it_was_given(raft):
    lone = Lone(raft, log=[1], term=2)
    lone.host.call("receive", 2, append(2, 1, 1, [2, 2]))
    lone.host.call("receive", 2, RequestVote(3, incarnation(2), 1, 1, False, False))  # node 2 crashed and lost its tail
    lone.sleep(2)
    lone.host.call("receive", 2, RequestVote(3, incarnation(2), 1, 1, False, False))
    lone.run(1)
    assert lone.machine.term == 3
    assert all(reply.term == 2 for reply in lone.sent(AppendEntriesReply) if reply.accepted)


# -- 5: a suffix deleted without a conflict (databend#3914, PySyncObj) ----------------------------------------------


def test_bug_05_an_older_shorter_append_never_truncates_whatever_the_order(raft):
    messages = [append(2, 0, 0, [1]), append(2, 0, 0, [1, 2]), append(2, 1, 1, [2, 2]), append(2, 3, 2, [2])]
    for order in permutations(range(4)):
        lone = Lone(raft, log=[1, 2, 2], term=2)
        longest = 3
        for at in (*order, *order):
            lone.receive(2, messages[at])
            assert lone.machine.last_index >= longest
            longest = lone.machine.last_index
        assert lone.host.log == [1, 2, 2, 2]
        assert not any(isinstance(record, Truncate) for record in lone.host.disk)


def test_bug_05_only_the_conflicting_part_is_replaced(raft):
    lone = Lone(raft, log=[1, 1, 2, 2], term=3)
    lone.receive(2, append(3, 0, 0, [1, 1, 3]))
    assert [record for record in lone.host.disk if isinstance(record, Truncate)] == [Truncate(3)]
    assert lone.host.log == [1, 1, 3]


def test_bug_05_the_entry_before_an_append_must_have_the_same_term(raft):
    lone = Lone(raft, log=[1, 1], term=3)
    (reply,) = lone.receive(2, append(3, 2, 2, [3]))
    assert not reply.accepted
    assert lone.host.log == [1, 1]


# -- 6: the follower's commit (copycat#265, scylladb#9965, CCF#8172) ------------------------------------------------


def test_bug_06_an_append_commits_no_more_than_its_last_entry(raft):
    lone = Lone(raft, log=[1, 1, 1, 1], term=2)
    lone.receive(2, append(2, 1, 1, [1], commit=4))
    assert lone.machine.commit_index == 2
    lone.receive(2, append(2, 2, 1, [], commit=4))
    assert lone.machine.commit_index == 2


def test_bug_06_a_heartbeat_commits_no_more_than_the_log_holds(raft):
    lone = Lone(raft, log=[1, 1], term=1)
    lone.receive(2, Heartbeat(1, 7, 9, 1, 0))
    assert lone.machine.commit_index == 2


def test_bug_06_a_divergent_tail_is_never_committed(raft):
    cluster = Cluster(
        raft,
        records={
            1: [HardState(3, 0, 0), *map(Entries, blocks(1, [1, 3, 3]))],
            2: [HardState(3, 0, 0), *map(Entries, blocks(1, [1, 3, 3]))],
            3: [HardState(3, 0, 0), *map(Entries, blocks(1, [1, 2, 2]))],
        },
    )
    cluster.elect(1)  # the ledger sees what node 3 takes for committed after each message
    cluster.elapse(1)
    assert cluster.nodes[3].log == [1, 3, 3, 4]


# -- 28: a purged previous entry taken for a conflict (openraft#511) ------------------------------------------------


@pytest.mark.parametrize("prev", [0, 1, 3, 4])
def test_bug_28_an_append_from_below_the_purged_part_never_truncates(raft, prev):
    lone = Lone(raft, log=[1, 1, 1, 1, 1, 1], term=1, commit=5, keep_entries=0)
    lone.compact(1, 5)
    lone.run(1)
    assert lone.machine.window.base_index == 5
    (reply,) = lone.receive(2, append(1, prev, min(prev, 1), [1] * (6 - prev)))
    assert (reply.accepted, reply.index) == (True, 5)
    assert lone.host.log == [1]
    assert not any(isinstance(record, Truncate) for record in lone.host.disk)


# -- 33: a follower whose log or commit went back (etcd#10166) ------------------------------------------------------


def test_bug_33_a_follower_that_lost_its_tail_rejects_and_nobody_dies(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    for number in range(4):
        cluster.propose(1, b"%d" % number)
        cluster.settle()
    cluster.crash(3)
    disk = cluster.nodes[3].disk
    while sum(isinstance(record, Entries) for record in disk) > 2:
        disk.pop()
    disk[:] = [record for record in disk if not isinstance(record, HardState) or record.commit <= 2]
    cluster.ledger.lost_tails.add(3)
    cluster.restart(3)
    assert cluster.nodes[3].machine.last_index == 2
    ticket = cluster.propose(1, b"more")
    cluster.elapse(1)
    assert cluster.outcome(ticket) is Outcome.COMMITTED
    assert cluster.nodes[3].machine.status().counters["rejected_appends"] > 0
    cluster.elect(2)
    cluster.elapse(1)
    assert cluster.nodes[3].commands == cluster.nodes[2].commands


def test_bug_33_a_commit_beyond_the_log_at_boot_is_cut(raft):
    lone = Lone(raft, log=[1, 1], term=1, commit=9)
    assert lone.machine.commit_index == 2
    assert len(lone.host.state) == 2


# -- tickets --------------------------------------------------------------------------------------------------------


def test_a_truncation_ends_no_ticket_because_the_entry_may_come_back(raft):
    lone = Lone(raft)
    lone.lead()
    ticket = lone.propose(1, b"a")
    lone.run(1)
    lone.receive(2, append(lone.machine.term + 1, 1, 1, [lone.machine.term + 1]))
    assert any(isinstance(record, Truncate) for record in lone.host.disk)
    assert lone.outcome(ticket) is None
    lone.hear(2)
    lone.receive(2, Heartbeat(lone.machine.term, 7, 2, 1, 0))
    assert lone.outcome(ticket) is Outcome.SUPERSEDED


def test_a_ticket_waits_until_the_commit_index_decides_its_fate(raft):
    lone = Lone(raft)
    lone.lead()
    first, second = lone.propose(1, b"a"), lone.propose(1, b"b")
    lone.run(1)
    term = lone.machine.term + 1
    lone.receive(2, Heartbeat(term, 7, 2, 1, 0))  # the new leader may hold the second one too
    assert (lone.outcome(first), lone.outcome(second)) == (Outcome.COMMITTED, None)
    lone.receive(2, Heartbeat(term, 7, 3, 1, 0))
    assert lone.outcome(second) is Outcome.COMMITTED


def test_lost_tickets_of_an_earlier_leadership_do_not_hold_up_those_of_a_later_one(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    cluster.isolate(1)
    lost = [cluster.propose(1, b"%d" % number) for number in range(5)]
    cluster.settle()
    cluster.elect(2)
    cluster.heal()
    cluster.elapse(3)
    cluster.elect(1)
    ticket = cluster.propose(1, b"new")
    cluster.settle()
    assert cluster.outcome(ticket) is Outcome.COMMITTED
    assert {cluster.outcome(old) for old in lost} == {Outcome.SUPERSEDED}


def test_a_ticket_whose_entry_a_snapshot_covers_is_lost(raft):
    cluster = Cluster(raft, keep_entries=0)
    cluster.elect(1)
    cluster.isolate(1)
    ticket = cluster.propose(1, b"a")
    cluster.settle()
    cluster.elect(2)
    for number in range(5):
        cluster.propose(2, b"%d" % number)
        cluster.settle()
    cluster.elapse(0.1)
    cluster.compact(2)
    cluster.heal()
    cluster.elapse(3)
    assert cluster.outcome(ticket) in (Outcome.LOST, Outcome.SUPERSEDED)
    assert cluster.nodes[1].commands == cluster.nodes[2].commands
