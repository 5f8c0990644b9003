"""The Raft paper, sections 5.4.2 and figure 3: commit of earlier terms, and the five properties."""

import pytest
from cluster import Cluster, Letter, blocks
from lone import Lone, accept

from distkit.core import Outcome
from distkit.raft.messages import AppendEntries, AppendEntriesReply, Entries, HardState, RequestVote
from distkit.sim.broken import Broken


def past(*logs, term):
    """First durable records of nodes 1, 2, ... with these logs."""
    return {node: [HardState(term, 0, 0), *map(Entries, blocks(1, log))] for node, log in enumerate(logs, 1)}


@pytest.mark.parametrize(("acknowledged", "committed"), [(1, 0), (2, 0), (3, 3)])
def test_only_entries_of_the_leaders_own_term_are_committed_by_counting_replicas(raft, acknowledged, committed):
    lone = Lone(raft, log=[1, 2], term=2)
    lone.elected()
    assert lone.host.log == [1, 2, 3]
    for letter in lone.take(AppendEntries):
        lone.receive_only(letter.target, accept(letter, acknowledged))
    assert lone.machine.commit_index == committed


def figure_8(raft):
    """(c) of the figure: S1 leads term 4, and its entry of term 2 is on a majority, but no entry of term 4 is."""
    cluster = Cluster(raft, 5, records=past([1, 2], [1, 2], [1, 2], [1], [1, 3], term=3))
    cluster.isolate(5)
    cluster.campaign(1)
    while not cluster.nodes[1].leads:  # the first appends stay in the pool
        for node in cluster.nodes:
            cluster.run(node)
        assert cluster.deliver()
    return cluster


def test_figure_8_an_old_entry_on_a_majority_is_not_committed_and_may_be_overwritten(raft):
    cluster = figure_8(raft)
    cluster.take(AppendEntries)
    assert cluster.nodes[1].machine.commit_index == 0
    cluster.crash(1)
    cluster.heal()
    cluster.elect(5)
    assert [node.log[:2] for node in cluster.nodes.values() if node.up] == [[1, 3]] * 4


def test_figure_8_the_old_entry_is_committed_with_one_of_the_leaders_own_term(raft):
    cluster = figure_8(raft)
    cluster.settle()
    assert cluster.nodes[1].machine.commit_index == 3
    cluster.crash(1)
    cluster.heal()
    cluster.sleep(cluster.options.election_timeout)
    cluster.campaign(5)
    cluster.settle()
    assert not cluster.nodes[5].leads
    cluster.elapse(10)
    assert cluster.leader in (2, 3, 4)
    assert cluster.nodes[5].log[:2] == [1, 2]


def test_if_two_logs_have_an_entry_with_the_same_index_and_term_they_are_the_same_up_to_it(raft):
    cluster = Cluster(raft, 5)
    for turn in range(12):
        leader = turn % 5 + 1
        cluster.elect(leader)
        cluster.isolate((leader + 1) % 5 + 1)
        for number in range(3):
            cluster.propose(leader, b"%d.%d" % (turn, number))
        cluster.settle()  # the ledger compares every entry that is written with every other of its index and term
        cluster.heal()
    cluster.elapse(2)
    assert len({tuple(node.state) for node in cluster.nodes.values()}) == 1


def test_every_later_leader_has_all_committed_entries(raft):
    cluster = Cluster(raft, 5)
    done = []
    for leader in (1, 2, 3, 4, 5, 1):
        cluster.elect(leader)
        command = b"by %d in %d" % (leader, cluster.nodes[leader].machine.term)
        ticket = cluster.propose(leader, command)
        cluster.settle()
        assert cluster.outcome(ticket) is Outcome.COMMITTED
        done.append(command)
        assert cluster.nodes[leader].commands == done


def test_no_server_ever_applies_another_entry_at_the_same_index(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    cluster.isolate(1)
    lost = cluster.propose(1, b"lost")
    cluster.settle()
    cluster.elect(2)
    cluster.propose(2, b"kept")
    cluster.settle()
    cluster.heal()
    cluster.elapse(3)
    assert [node.commands for node in cluster.nodes.values()] == [[b"kept"]] * 3
    assert cluster.outcome(lost) is Outcome.SUPERSEDED


def test_entries_are_applied_in_log_order_each_index_once(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    cluster.nodes[2].applies = False
    for number in range(20):
        cluster.propose(1, b"%d" % number)
        cluster.settle()
    assert cluster.nodes[2].commands == []
    cluster.elapse(1)
    cluster.nodes[2].apply()
    cluster.nodes[2].flush()
    assert [entry[0] for entry in cluster.nodes[2].state] == list(range(1, 22))
    assert cluster.nodes[2].machine.applied_index == 21


def test_a_commit_needs_durable_copies_and_survives_the_crash_of_all_at_once(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    ticket = cluster.propose(1, b"a")
    cluster.nodes[1].flush()
    cluster.deliver(AppendEntries)  # in memory everywhere, on no disk
    assert cluster.letters(AppendEntriesReply) == []
    cluster.nodes[1].persist()
    assert cluster.outcome(ticket) is None
    cluster.nodes[2].persist()
    cluster.deliver(AppendEntriesReply)
    assert cluster.outcome(ticket) is Outcome.COMMITTED
    cluster.crash(1, 2, 3)
    cluster.restart(1, 2, 3)
    cluster.elapse(10)
    assert [node.commands for node in cluster.nodes.values()] == [[b"a"]] * 3


def test_the_ledger_of_these_tests_sees_a_second_leader(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    cluster.ledger.leaders[2] = 3
    with pytest.raises(Broken, match="born on 2 not on 3"):
        cluster.elect(2)


def test_the_ledger_of_these_tests_sees_a_forgotten_vote(raft):
    lone = Lone(raft)
    lone.elected()
    lone.ledger.votes[2, 1] = 3
    lone.hand(Letter(2, 1, RequestVote(2, 1002, 9, 1, False, True)))
    with pytest.raises(Broken, match="voted twice in term 2"):
        lone.run(1)
