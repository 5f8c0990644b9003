"""The Raft paper, sections 5.1, 5.2 and 5.4.1: terms, roles, elections. One test for each rule, named after it."""

import pytest
from cluster import Cluster, Letter, blocks, configuration, incarnation
from lone import Lone, accept, beat

from distkit.core import RoleName
from distkit.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    HardState,
    Heartbeat,
    HeartbeatReply,
    RequestVote,
    RequestVoteReply,
)

FOLLOWER, CANDIDATE, LEADER = RoleName.FOLLOWER, RoleName.CANDIDATE, RoleName.LEADER
ROLES = ["follower", "candidate", "leader"]


def in_role(raft, role, **past):
    """A lone node of three in a role, in whatever term it took to get there."""
    lone = Lone(raft, **past)
    if role == "candidate":
        lone.candidate()
    elif role == "leader":
        lone.lead()
    lone.take()
    return lone


def ask(term, last_index=0, last_term=0, *, node=2, pre=False, transfer=False):
    return RequestVote(term, incarnation(node), last_index, last_term, pre, transfer)


# -- 5.1: terms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "message",
    [
        lambda term: AppendEntries(term, 7, 0, 0, 0, ()),
        lambda term: Heartbeat(term, 7, 0, 1, 0),
        lambda term: RequestVoteReply(term, incarnation(2), False, False),
        lambda term: AppendEntriesReply(term, 7, incarnation(2), False, 0, 0, 0, 0),
        lambda term: HeartbeatReply(term, 7, incarnation(2), 1, 0, 0),
        lambda term: ask(term, 99, term, transfer=True),
    ],
    ids=["append", "heartbeat", "vote reply", "append reply", "heartbeat reply", "vote request"],
)
def test_a_server_that_sees_a_larger_term_updates_its_own_and_becomes_a_follower(raft, role, message):
    lone = in_role(raft, role)
    term = lone.machine.term + 5
    lone.receive(2, message(term))
    assert (lone.machine.term, lone.machine.role) == (term, FOLLOWER)
    assert lone.host.durable.term == term


@pytest.mark.parametrize("role", ROLES)
def test_a_request_with_a_stale_term_is_rejected(raft, role):
    lone = in_role(raft, role, log=[1, 2], term=4)
    term, last = lone.machine.term, lone.machine.last_index
    stale = AppendEntries(term - 1, 7, 2, 2, 2, blocks(3, [term - 1]))
    replies = lone.receive(2, stale)
    assert [(reply.term, reply.accepted) for reply in replies if isinstance(reply, AppendEntriesReply)] == [
        (term, False)
    ]
    assert not any(reply.granted for reply in lone.receive(3, ask(term - 1, 99, term - 1, node=3)))
    assert (lone.machine.term, lone.machine.last_index) == (term, last)


def test_terms_are_exchanged_whenever_servers_communicate(raft):
    cluster = Cluster(raft)
    cluster.elect(2)
    cluster.propose(2, b"a")
    term = cluster.nodes[2].machine.term
    seen = 0
    while cluster.pool:
        seen += len(cluster.pool)
        assert {letter.message.term for letter in cluster.pool} == {term}
        cluster.deliver()
        for node in cluster.nodes:
            cluster.run(node)
    assert seen >= 4


def test_terms_increase_monotonically_and_survive_a_restart(raft):
    cluster = Cluster(raft)
    for leader in (1, 2, 3, 1):
        before = max(node.machine.term for node in cluster.nodes.values())
        cluster.elect(leader)
        assert cluster.nodes[leader].machine.term > before
        cluster.crash(1, 2, 3)
        term = cluster.nodes[leader].durable.term
        cluster.restart(1, 2, 3)
        assert cluster.nodes[leader].machine.term == term


def test_term_and_vote_are_on_stable_storage_before_a_server_answers(raft):
    lone = Lone(raft)
    lone.hand(Letter(2, 1, ask(3)))
    assert lone.take(target=2) == []
    (write,) = lone.host.writes
    assert write.records[0] == HardState(3, 2, 0)
    assert [(target, type(message)) for target, message in write.then] == [(2, RequestVoteReply)]
    lone.host.persist()
    assert [letter.message for letter in lone.take(target=2)] == [RequestVoteReply(3, incarnation(1), False, True)]


# -- 5.2: elections ---------------------------------------------------------------------------------------------------


def test_servers_start_as_followers(raft):
    cluster = Cluster(raft, 5)
    for node in cluster.nodes.values():
        assert (node.machine.role, node.machine.term, node.machine.leader) == (FOLLOWER, 0, 0)


def test_a_server_restarts_as_a_follower_whatever_it_was(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    cluster.crash(1)
    cluster.restart(1)
    assert cluster.nodes[1].machine.role is FOLLOWER


@pytest.mark.parametrize("sign", ["append", "heartbeat"])
def test_a_server_remains_follower_as_long_as_it_hears_a_leader(raft, sign):
    lone = Lone(raft, term=1)
    message = AppendEntries(1, 7, 0, 0, 0, ()) if sign == "append" else Heartbeat(1, 7, 0, 1, 0)
    for _ in range(20):
        lone.receive(2, message)
        lone.elapse_alone(0.9 * lone.options.election_timeout)
    assert (lone.machine.role, lone.machine.leader) == (FOLLOWER, 2)
    assert lone.letters(RequestVote) == []


def test_a_granted_vote_restarts_the_timeout(raft):
    lone = Lone(raft, term=1)
    lone.hear(3)
    lone.elapse_alone(lone.options.election_timeout)
    assert lone.receive(2, ask(2)) == [RequestVoteReply(2, incarnation(1), False, True)]
    lone.elapse_alone(lone.options.election_timeout)
    assert lone.letters(RequestVote) == []


def test_a_leader_sends_heartbeats_to_all_followers_to_keep_its_authority(raft):
    lone = Lone(raft, 5)
    lone.lead()
    for _ in range(5):
        lone.elapse_alone(lone.options.heartbeat)
        beats = lone.take(Heartbeat)
        assert sorted({letter.target for letter in beats if letter.message.read_position}) == [2, 3, 4, 5]
        for letter in beats:
            lone.receive_only(letter.target, beat(letter))
    assert lone.machine.role is LEADER


def test_a_follower_without_communication_over_a_timeout_begins_an_election(raft):
    lone = Lone(raft, 5, term=1)
    lone.hear(2)
    assert lone.timeout() > lone.options.election_timeout
    requests = lone.take(RequestVote)
    assert [letter.target for letter in requests] == [2, 3, 4, 5]
    assert {letter.message.pre for letter in requests} == {True}


def test_to_begin_an_election_a_follower_increments_its_term_votes_for_itself_and_asks_all_others(raft):
    lone = Lone(raft, 5, log=[1, 1, 2], term=4, vote=3)
    lone.candidate()
    assert (lone.machine.term, lone.machine.role, lone.machine.leader) == (5, CANDIDATE, 0)
    assert (lone.host.durable.term, lone.host.durable.vote) == (5, 1)
    requests = lone.sent(RequestVote)
    assert requests == [RequestVote(5, incarnation(1), 3, 2, False, False)] * 4


def test_a_candidate_that_times_out_starts_a_new_election_in_a_new_term(raft):
    lone = Lone(raft, 5)
    lone.candidate()
    term = lone.machine.term
    lone.vote(2)
    lone.take()
    lone.candidate()
    assert lone.machine.term == term + 1
    lone.vote(2)
    assert lone.machine.role is CANDIDATE  # the vote of the last term is not carried over
    lone.vote(3)
    assert lone.machine.role is LEADER


@pytest.mark.parametrize(
    ("size", "granted", "refused", "role"),
    [
        (3, 1, 0, LEADER),
        (3, 1, 1, LEADER),
        (3, 0, 1, CANDIDATE),
        (3, 0, 2, FOLLOWER),
        (5, 2, 0, LEADER),
        (5, 2, 2, LEADER),
        (5, 1, 0, CANDIDATE),
        (5, 1, 2, CANDIDATE),
        (5, 1, 3, FOLLOWER),
        (5, 0, 3, FOLLOWER),
        (4, 1, 0, CANDIDATE),
        (4, 2, 0, LEADER),
    ],
)
def test_a_candidate_wins_with_votes_of_a_majority_of_the_full_cluster_in_one_term(raft, size, granted, refused, role):
    lone = Lone(raft, size)
    lone.candidate()
    peers = list(lone.peers)
    lone.vote(*peers[:granted])
    if lone.machine.role is CANDIDATE or refused:
        lone.vote(*peers[granted : granted + refused], granted=False)
    assert lone.machine.role is role
    assert lone.machine.term == 1


def test_votes_of_another_term_do_not_count(raft):
    lone = Lone(raft, 5, term=3)
    lone.candidate()
    lone.vote(2, 3, 4, 5, term=3)
    assert lone.machine.role is CANDIDATE


@pytest.mark.parametrize(("vote", "candidate", "granted"), [(0, 2, True), (0, 3, True), (2, 2, True), (2, 3, False)])
def test_a_server_votes_for_at_most_one_candidate_in_a_term_first_come_first_served(raft, vote, candidate, granted):
    lone = Lone(raft, term=1, vote=vote)
    replies = lone.receive(candidate, ask(1, node=candidate))
    assert replies == [RequestVoteReply(1, incarnation(1), False, granted)]
    assert lone.host.durable.vote == (candidate if granted else vote)


def test_a_vote_is_remembered_over_a_restart(raft):
    lone = Lone(raft)
    assert lone.receive(2, ask(1))[0].granted
    lone.crash(1)
    lone.restart(1)
    lone.sleep(10)
    assert not lone.receive(3, ask(1, node=3))[0].granted
    assert lone.receive(2, ask(1))[0].granted


def test_a_new_leader_establishes_its_authority_at_once(raft):
    lone = Lone(raft, 5, log=[1])
    lone.elected()
    appends = lone.take(AppendEntries)
    assert sorted(letter.target for letter in appends) == [2, 3, 4, 5]
    assert {letter.message.term for letter in appends} == {2}


@pytest.mark.parametrize("sign", ["append", "heartbeat"])
@pytest.mark.parametrize("ahead", [0, 3])
def test_a_candidate_that_hears_a_leader_of_at_least_its_term_returns_to_follower(raft, sign, ahead):
    lone = in_role(raft, "candidate")
    term = lone.machine.term + ahead
    lone.receive(2, AppendEntries(term, 7, 0, 0, 0, ()) if sign == "append" else Heartbeat(term, 7, 0, 1, 0))
    assert (lone.machine.role, lone.machine.term, lone.machine.leader) == (FOLLOWER, term, 2)


def test_a_candidate_rejects_a_leader_of_a_smaller_term_and_continues(raft):
    lone = Lone(raft, term=4)
    lone.candidate()
    lone.take()
    (reply,) = lone.receive(2, AppendEntries(4, 7, 0, 0, 0, blocks(1, [4])))
    assert (reply.term, reply.accepted) == (5, False)
    assert (lone.machine.role, lone.machine.last_index) == (CANDIDATE, 0)
    lone.vote(3)
    assert lone.machine.role is LEADER


def test_many_candidates_may_split_the_vote_and_then_each_times_out_and_one_wins(raft):
    cluster = Cluster(raft, 4)
    for node in (1, 2):
        cluster.campaign(node)
    cluster.cut((1, 4), (2, 3))
    cluster.settle()
    assert cluster.leader == 0
    cluster.heal()
    cluster.elapse(10)
    assert cluster.leader


def test_election_timeouts_are_chosen_randomly_from_a_fixed_interval(raft):
    draws = []
    for seed in range(40):
        lone = Lone(raft, seed=seed, term=1)
        lone.hear(2)
        draws.append(lone.timeout() / lone.options.election_timeout)
    assert all(1.05 <= draw <= 2.0 for draw in draws)
    assert len({round(draw, 6) for draw in draws}) > 35
    assert min(draws) < 1.25
    assert max(draws) > 1.8


@pytest.mark.parametrize("role", ["follower", "candidate"])
def test_the_timeout_is_drawn_anew_for_each_election(raft, role):
    lone = Lone(raft, 3, term=1)
    lone.hear(2)
    waits = []
    for _ in range(10):
        if role == "candidate":
            lone.candidate()
        lone.take()
        waits.append(round(lone.timeout(), 6))
    assert len(set(waits)) > 8


def test_random_timeouts_make_split_votes_rare_and_resolve_them(raft):
    rounds = []
    for seed in range(20):
        cluster = Cluster(raft, 5, seed=seed)
        cluster.elapse(4 * cluster.options.election_timeout)
        assert cluster.leader
        rounds.append(cluster.nodes[cluster.leader].machine.term)
    assert sum(term == 1 for term in rounds) >= 15


def test_with_one_leader_a_term_elections_from_every_node_never_give_two(raft):
    cluster = Cluster(raft, 5)
    for round_ in range(10):
        cluster.sleep(cluster.options.election_timeout)
        for node in (1, 2, 3, 4, 5)[round_ % 5 :]:
            cluster.campaign(node)
        cluster.settle()  # the ledger refuses a second leader of a term
    cluster.elapse(10)
    assert cluster.leader


# -- 5.4.1: election restriction --------------------------------------------------------------------------------------


@pytest.mark.parametrize("log", [[], [1], [1, 1, 2], [1, 3, 3, 7]])
def test_a_vote_request_includes_information_about_the_candidates_log(raft, log):
    lone = Lone(raft, log=log)
    last_term = log[-1] if log else 0
    lone.timeout()
    assert {(r.last_index, r.last_term, r.pre) for r in lone.sent(RequestVote)} == {(len(log), last_term, True)}
    lone.vote(2, pre=True)
    assert {(r.last_index, r.last_term, r.pre) for r in lone.sent(RequestVote)} == {(len(log), last_term, False)}


@pytest.mark.parametrize("pre", [False, True])
@pytest.mark.parametrize(
    ("log", "last_index", "last_term", "granted"),
    [
        ([1], 1, 1, True),
        ([1], 2, 1, True),
        ([1, 1], 1, 1, False),
        ([1], 1, 2, True),
        ([1], 2, 2, True),
        ([1, 1], 1, 2, True),  # a later term wins over a longer log
        ([2], 1, 1, False),
        ([2], 2, 1, False),
        ([2, 2], 1, 1, False),
        ([2, 2, 2], 2, 2, False),
        ([], 0, 0, True),
    ],
)
def test_a_voter_denies_its_vote_if_its_own_log_is_more_up_to_date(raft, log, last_index, last_term, granted, pre):
    lone = Lone(raft, log=log, term=3)
    replies = lone.receive(2, ask(4, last_index, last_term, pre=pre))
    assert replies == [RequestVoteReply(4 if granted or not pre else 3, incarnation(1), pre, granted)]
    assert lone.machine.term == (3 if pre else 4)


def test_a_candidate_without_all_committed_entries_cannot_win(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    cluster.isolate(3)
    cluster.propose(1, b"a")
    cluster.settle()
    cluster.heal()
    cluster.crash(1)
    cluster.sleep(cluster.options.election_timeout)
    cluster.campaign(3)
    cluster.settle()
    assert not cluster.nodes[3].leads
    cluster.elapse(10)
    assert cluster.nodes[2].leads


def test_the_configuration_is_the_one_that_was_formed(raft):
    cluster = Cluster(raft, 5)
    assert cluster.nodes[3].machine.configuration == configuration(5)


def test_a_sole_voter_elects_itself_and_commits_alone(raft):
    cluster = Cluster(raft, 1)
    cluster.elapse(3)
    assert cluster.nodes[1].leads
    ticket = cluster.propose(1, b"a")
    cluster.settle()
    assert cluster.reply(ticket).index == cluster.nodes[1].machine.commit_index
    assert cluster.nodes[1].commands == [b"a"]


def test_a_leader_takes_back_its_followers_with_its_first_append(raft):
    lone = Lone(raft, log=[1])
    lone.elected()
    for letter in lone.take(AppendEntries):
        lone.receive_only(letter.target, accept(letter))
    assert lone.machine.commit_index == 2
