"""Bugs that Raft implementations had: elections and votes. `mutants.py` brings each back and sees its test fail."""

from random import Random

import pytest
from cluster import Cluster, Letter, blocks, configuration, incarnation
from lone import Lone
from test_paper_compaction import install
from test_votes import ask

from distkit.core import Configuration, LocalError, Member, MemberRole, RoleName
from distkit.raft.messages import (
    AppendEntriesReply,
    Entries,
    HardState,
    HeartbeatReply,
    RequestVote,
    RequestVoteReply,
)

FOLLOWER, CANDIDATE, LEADER = RoleName.FOLLOWER, RoleName.CANDIDATE, RoleName.LEADER


# -- 7: term or vote not durable before the reply (PySyncObj#84, #201, #202) ------------------------------------------


def test_bug_07_a_grant_leaves_only_after_the_vote_is_durable(raft):
    lone = Lone(raft)
    lone.hand(Letter(2, 1, ask(1)))
    lone.crash(1)
    assert lone.take() == []
    lone.restart(1)
    assert lone.receive(3, ask(1, node=3)) == [RequestVoteReply(1, incarnation(1), False, True)]
    assert lone.receive(2, ask(1)) == [RequestVoteReply(1, incarnation(1), False, False)]


def test_bug_07_term_and_vote_survive_the_restart_of_all_nodes_at_once(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    stored = [(node.machine.term, node.machine.status().vote) for node in cluster.nodes.values()]
    assert [vote for _, vote in stored] == [1, 1, 1]
    cluster.crash(1, 2, 3)
    cluster.restart(1, 2, 3)
    assert [(node.machine.term, node.machine.status().vote) for node in cluster.nodes.values()] == stored
    cluster.take()
    cluster.hand(Letter(3, 2, ask(1, 9, 9, node=3, transfer=True)))
    cluster.run(2)
    assert [letter.message.granted for letter in cluster.letters(RequestVoteReply)] == [False]


def test_bug_07_a_crash_at_any_write_of_an_election_never_gives_two_leaders_of_a_term(raft):
    for step in range(12):
        for keep in (0, 1):
            cluster = Cluster(raft)
            cluster.campaign(1)
            cluster.campaign(2)
            for _ in range(step):
                for node in cluster.nodes.values():
                    node.flush()
                    if len(cluster.pool) % 2:
                        node.persist()
                if cluster.pool:
                    cluster.hand(cluster.pool.pop(0))
            cluster.crash(1, 2, 3, keep=keep)
            cluster.restart(1, 2, 3)
            cluster.elapse(10)
            assert cluster.leader


def test_bug_07_the_own_vote_counts_only_once_it_is_durable(raft):
    lone = Lone(raft, 5)
    lone.candidate()
    lone.take()
    lone.vote(granted=False)
    lone = Lone(raft)
    lone.timeout()
    lone.hand(Letter(2, 1, RequestVoteReply(1, incarnation(2), True, True)))
    lone.hand(Letter(2, 1, RequestVoteReply(1, incarnation(2), False, True)))
    assert lone.machine.role is CANDIDATE
    lone.host.persist()
    assert lone.machine.role is LEADER


# -- 8: one voter's answer counted twice (PySyncObj) ----------------------------------------------------------------


@pytest.mark.parametrize("pre", [False, True])
def test_bug_08_repeated_answers_of_one_voter_count_once(raft, pre):
    lone = Lone(raft, 5)
    if pre:
        lone.timeout()
    else:
        lone.candidate()
    before = lone.machine.term, lone.machine.role
    lone.vote(2, 2, 2, 2, pre=pre)
    assert (lone.machine.term, lone.machine.role) == before
    lone.vote(3, pre=pre)
    assert (lone.machine.term, lone.machine.role) != before


def test_bug_08_the_first_answer_of_a_voter_counts(raft):
    lone = Lone(raft, 5)
    lone.candidate()
    lone.vote(2, 3, granted=False)
    lone.vote(2, 3)
    assert lone.machine.role is CANDIDATE


# -- 9: a higher vote seen taken for a vote granted (openraft#1220, databend#16175) ---------------------------------


@pytest.mark.parametrize("transfer", [False, True])
@pytest.mark.parametrize(("last_index", "last_term"), [(1, 2), (9, 1), (0, 0)])
def test_bug_09_a_refused_candidate_leaves_no_vote_behind(raft, last_index, last_term, transfer):
    lone = Lone(raft, log=[1, 2], term=2)
    (reply,) = lone.receive(2, ask(5, last_index, last_term, transfer=transfer))
    assert (reply.granted, lone.machine.term, lone.machine.status().vote) == (False, 5, 0)
    (reply,) = lone.receive(3, ask(5, 2, 2, node=3, transfer=transfer))
    assert (reply.granted, lone.host.durable.vote) == (True, 3)


def test_bug_09_a_candidate_that_repeats_its_request_is_judged_by_its_log_again(raft):
    lone = Lone(raft, log=[1, 2], term=2, vote=2)
    assert not lone.receive(2, ask(2, 1, 1))[0].granted
    assert lone.receive(2, ask(2, 2, 2))[0].granted


def test_bug_09_the_log_of_the_candidate_is_compared_by_term_before_index(raft):
    lone = Lone(raft, log=[1, 2], term=2)
    assert not lone.receive(2, ask(3, 9, 1))[0].granted
    assert lone.receive(3, ask(3, 1, 3, node=3))[0].granted


def test_bug_09_no_vote_is_given_while_a_snapshot_is_not_durable_and_loaded(raft):
    lone = Lone(raft, term=2)
    lone.hand(Letter(2, 1, install(lone, 4, 2)))
    lone.sleep(10)
    lone.hand(Letter(3, 1, ask(3, 0, 0, node=3)))
    assert not any(
        message.granted for write in lone.host.writes for _, message in write.then if hasattr(message, "granted")
    )


def test_the_vote_of_a_term_does_not_change_when_its_messages_go_on(raft):
    lone = Lone(raft)
    lone.receive(2, ask(1))
    lone.hear(3, 1)
    lone.sleep(10)
    assert lone.machine.status().vote == 2
    lone.receive(3, ask(1, 9, 9, node=3, transfer=True))
    assert lone.host.durable.vote == 2


def test_votes_of_an_earlier_campaign_do_not_count(raft):
    lone = Lone(raft, 5)
    lone.candidate()
    lone.vote(2)
    lone.vote(4, 5, granted=False)
    lone.take()
    lone.candidate()
    late = RequestVoteReply(lone.machine.term - 1, incarnation(3), False, True)
    lone.receive(3, late)
    lone.vote(2)
    assert lone.machine.role is CANDIDATE


# -- 13: voters judged by the configuration of the receiver (etcd#10998, camunda#57386) ------------------------------


def test_bug_13_a_node_that_does_not_know_of_its_promotion_votes_when_asked_but_does_not_campaign(raft):
    members = configuration(3).members
    learner = Member(1, incarnation(1), members[0].address, MemberRole.LEARNER)
    records = raft.formation_records(Configuration(1, (learner, *members[1:])))
    machine = raft.recover(records, node=1, incarnation=incarnation(1), random=Random(1), now=0.0)
    machine.campaign(1.0)
    machine.flush(1.0)
    assert machine.role is FOLLOWER
    machine.receive(2.0, 2, ask(1))
    (write,) = machine.flush(2.0).writes
    assert write.then == ((2, RequestVoteReply(1, incarnation(1), False, True)),)


# -- 15: an id that comes back with an empty disk -------------------------------------------------------------------


def test_bug_15_votes_and_acknowledgements_of_another_incarnation_count_for_nothing(raft):
    lone = Lone(raft)
    lone.candidate()
    wiped = incarnation(2) + 7
    lone.receive(2, RequestVoteReply(lone.machine.term, wiped, False, True))
    assert lone.machine.role is CANDIDATE
    lone.vote(3)
    term, session = lone.machine.term, lone.session_of(2)
    digest = lone.machine.digest()
    lone.receive(2, AppendEntriesReply(term, session, wiped, True, 1, 0, 0, 99))
    lone.receive(2, HeartbeatReply(term, session, wiped, 1, 0, 99))
    lone.receive(2, AppendEntriesReply(term + 3, session, wiped, False, 1, 0, 0, 99))
    assert lone.machine.digest() == digest
    assert lone.machine.commit_index == 0
    assert lone.machine.status().counters["wrong_incarnation"] == 4


def test_bug_15_a_wiped_candidate_gets_no_vote(raft):
    lone = Lone(raft)
    request = RequestVote(3, incarnation(2) + 7, 9, 9, False, True)
    assert lone.receive(2, request) == []
    assert lone.machine.term == 0


def test_bug_15_a_machine_does_not_start_on_the_disk_of_another_incarnation(raft):
    records = raft.formation_records(configuration(3))
    refused = ""
    try:
        raft.recover(records, node=1, incarnation=incarnation(1) + 7, random=Random(1), now=0.0)
    except LocalError as error:
        refused = str(error)
    assert "incarnation" in refused
    assert raft.recover(records, node=1, incarnation=incarnation(1), random=Random(1), now=0.0).term == 0


# -- 22: pre-vote deadlocks (etcd#8501, #8243, #10355, #9586, #10483) -------------------------------------------------


def past(*nodes):
    """Records of nodes 1, 2, ... from (term, log)."""
    return {node: [HardState(term, 0, 0), *map(Entries, blocks(1, log))] for node, (term, log) in enumerate(nodes, 1)}


@pytest.mark.parametrize("down", [0, 2, 3])
def test_bug_22_a_higher_term_with_a_shorter_log_does_not_block_elections(raft, down):
    cluster = Cluster(raft, records=past((9, [1]), (2, [1, 2]), (2, [1, 2])))
    if down:
        cluster.crash(down)
    cluster.elapse(6 * cluster.options.election_timeout)
    assert cluster.leader in {2, 3} - {down}
    assert cluster.nodes[cluster.leader].machine.term > 9


def test_bug_22_a_low_term_node_rejoins_while_there_is_no_leader(raft):
    cluster = Cluster(raft, records=past((1, [1]), (7, [1, 2]), (7, [1, 2])))
    cluster.crash(3)
    cluster.elapse(6 * cluster.options.election_timeout)
    assert cluster.leader == 2


def test_bug_22_timeouts_that_coincide_do_not_lock_the_group(raft):
    for seed in range(10):
        cluster = Cluster(raft, 4, seed=seed)
        for node in cluster.nodes:
            cluster.campaign(node)
        cluster.elapse(8 * cluster.options.election_timeout)
        assert cluster.leader


def test_bug_22_the_timer_of_a_node_is_drawn_anew_after_a_lost_pre_vote(raft):
    lone = Lone(raft, term=1)
    lone.hear(2)
    waits = set()
    for _ in range(8):
        lone.timeout()
        lone.vote(2, 3, pre=True, granted=False)
        waits.add(round(lone.machine.deadline() - lone.now, 6))
    assert len(waits) == 8
    assert min(waits) >= 1.05 * lone.options.election_timeout


# -- 23: a node with a higher term is stuck under check quorum ------------------------------------------------------


def test_bug_23_a_node_with_a_higher_term_rejoins(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    cluster.isolate(3)
    cluster.settle()
    cluster.crash(3)
    cluster.nodes[3].disk.append(HardState(9, 3, 1))  # it had campaigned for real, many times
    cluster.restart(3)
    cluster.heal()
    cluster.elapse(5 * cluster.options.election_timeout)
    assert cluster.leader
    assert {node.machine.term for node in cluster.nodes.values()} == {cluster.nodes[cluster.leader].machine.term}
    assert cluster.nodes[3].machine.leader == cluster.leader


# -- 24: partial connectivity (Cloudflare 2020-11-02) ---------------------------------------------------------------

SHAPES = {
    "chain": (3, [(1, 3)]),
    "long chain": (5, [(1, 3), (1, 4), (1, 5), (2, 4), (2, 5), (3, 5)]),
    "ring": (5, [(1, 3), (1, 4), (2, 4), (2, 5), (3, 5)]),
    "hub": (5, [(1, 2), (1, 4), (1, 5), (2, 4), (2, 5), (4, 5)]),
    "bridge": (5, [(1, 4), (1, 5), (2, 4), (2, 5)]),
}


@pytest.mark.parametrize("shape", sorted(SHAPES))
@pytest.mark.parametrize("first", [0, 1, 3])
def test_bug_24_partial_connectivity_leaves_a_stable_leader_that_commits(raft, shape, first):
    size, cuts = SHAPES[shape]
    cluster = Cluster(raft, size)
    if first:
        cluster.elect(first)
    cluster.cut(*cuts)
    cluster.elapse(15)
    leader, term = cluster.leader, max(node.machine.term for node in cluster.nodes.values())
    assert leader
    cluster.elapse(15)
    assert max(node.machine.term for node in cluster.nodes.values()) == term
    assert cluster.leader == leader
    before = cluster.nodes[leader].machine.commit_index
    cluster.propose(leader, b"a")
    cluster.elapse(1)
    assert cluster.nodes[leader].machine.commit_index == before + 1
