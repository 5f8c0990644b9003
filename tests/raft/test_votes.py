"""What goes beyond the paper's elections: pre-vote, check quorum, leader stickiness, transfer, failover on evidence."""

import pytest
from cluster import Cluster, Letter, blocks, incarnation
from lone import Lone, accept, beat

from distkit.core import Outcome, Reason, RoleName
from distkit.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)

FOLLOWER, CANDIDATE, LEADER = RoleName.FOLLOWER, RoleName.CANDIDATE, RoleName.LEADER


def ask(term, last_index=0, last_term=0, *, node=2, pre=False, transfer=False):
    return RequestVote(term, incarnation(node), last_index, last_term, pre, transfer)


# -- pre-vote ---------------------------------------------------------------------------------------------------------


def test_a_pre_vote_asks_for_the_next_term_and_changes_no_state_at_the_sender(raft):
    lone = Lone(raft, log=[1], term=3, vote=2)
    disk = len(lone.host.disk)
    lone.timeout()
    assert {message.term for message in lone.sent(RequestVote)} == {4}
    assert (lone.machine.term, lone.machine.status().vote, len(lone.host.disk)) == (3, 2, disk)


def test_a_pre_vote_changes_no_state_at_the_receiver(raft):
    lone = Lone(raft, log=[1], term=3, vote=2)
    digest, disk, deadline = lone.machine.digest(), len(lone.host.disk), lone.machine.deadline()
    assert lone.receive(3, ask(4, 1, 1, node=3, pre=True)) == [RequestVoteReply(4, incarnation(1), True, True)]
    assert lone.receive(2, ask(4, 1, 1, pre=True)) == [RequestVoteReply(4, incarnation(1), True, True)]
    assert (lone.machine.digest(), len(lone.host.disk), lone.machine.deadline()) == (digest, disk, deadline)


def test_a_pre_vote_that_is_won_starts_a_real_campaign(raft):
    lone = Lone(raft, 5)
    lone.timeout()
    lone.take()
    lone.vote(2, pre=True)
    assert lone.letters(RequestVote) == []
    lone.vote(3, pre=True)
    assert {(message.term, message.pre) for message in lone.sent(RequestVote)} == {(1, False)}


def test_a_pre_vote_that_is_lost_makes_a_follower_of_the_same_term(raft):
    lone = Lone(raft, term=3)
    lone.timeout()
    lone.vote(2, 3, pre=True, granted=False)
    assert (lone.machine.role, lone.machine.term) == (FOLLOWER, 3)


def test_a_refusal_of_a_higher_term_makes_the_sender_a_follower_of_that_term(raft):
    lone = Lone(raft, term=3)
    lone.timeout()
    lone.receive(2, RequestVoteReply(9, incarnation(2), True, False))
    assert (lone.machine.role, lone.machine.term) == (FOLLOWER, 9)


def test_a_real_candidate_ignores_late_pre_vote_grants(raft):
    lone = Lone(raft, 5)
    lone.candidate()
    lone.receive(4, RequestVoteReply(lone.machine.term, incarnation(4), True, True))
    lone.receive(5, RequestVoteReply(lone.machine.term, incarnation(5), True, True))
    lone.receive(4, RequestVoteReply(lone.machine.term + 1, incarnation(4), True, True))
    lone.receive(5, RequestVoteReply(lone.machine.term + 1, incarnation(5), True, True))
    assert lone.machine.role is CANDIDATE


def test_a_pre_candidate_ignores_real_grants(raft):
    lone = Lone(raft, 5, term=3)
    lone.timeout()
    for voter in (2, 3, 4):
        lone.receive(voter, RequestVoteReply(3, incarnation(voter), False, True))
    assert lone.machine.role is not LEADER
    assert lone.machine.term == 3


def test_a_pre_vote_of_a_lower_term_is_refused_with_the_own_term(raft):
    lone = Lone(raft, term=5)
    assert lone.receive(2, ask(3, 9, 3, pre=True)) == [RequestVoteReply(5, incarnation(1), True, False)]


def test_a_partitioned_node_does_not_raise_terms_and_does_not_disturb_the_group_when_it_returns(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    term = cluster.nodes[1].machine.term
    cluster.isolate(3)
    cluster.elapse(30)
    assert cluster.nodes[3].machine.term == term
    cluster.heal()
    cluster.elapse(10)
    assert (cluster.leader, cluster.nodes[1].machine.term) == (1, term)


# -- check quorum -----------------------------------------------------------------------------------------------------


def test_a_leader_that_hears_no_quorum_for_an_election_timeout_steps_down_at_the_same_term(raft):
    lone = Lone(raft, 5)
    lone.lead()
    term = lone.machine.term
    waited = lone.until(lambda: lone.machine.role is not LEADER)
    assert waited <= 2 * lone.options.election_timeout + 1e-9
    assert (lone.machine.term, lone.machine.leader, lone.machine.role) == (term, 0, FOLLOWER)


@pytest.mark.parametrize(("answering", "leads"), [(1, False), (2, True)])
def test_answers_of_a_quorum_keep_the_leader(raft, answering, leads):
    lone = Lone(raft, 5)
    lone.lead()
    for _ in range(40):
        lone.elapse_alone(lone.options.heartbeat)
        for letter in lone.take(Heartbeat):
            if letter.target <= 1 + answering and letter.message.read_position:
                lone.receive_only(letter.target, beat(letter))
        lone.take()
    assert (lone.machine.role is LEADER) == leads


# -- stickiness -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pre", [False, True])
def test_a_vote_is_ignored_without_taking_its_term_while_a_leader_was_heard(raft, pre):
    lone = Lone(raft, term=1)
    lone.hear(2)
    digest = lone.machine.digest()
    assert lone.receive(3, ask(9, 9, 9, node=3, pre=pre)) == []
    assert lone.machine.digest() == digest
    assert lone.machine.status().counters["sticky"] == 1
    lone.sleep(lone.options.election_timeout * 1.01)
    assert lone.receive(3, ask(9, 9, 9, node=3, pre=pre)) == [RequestVoteReply(9, incarnation(1), pre, True)]


def test_only_a_transfer_passes_stickiness(raft):
    lone = Lone(raft, term=1)
    lone.hear(2)
    assert lone.receive(3, ask(2, node=3, transfer=True)) == [RequestVoteReply(2, incarnation(1), False, True)]


def test_a_leader_ignores_votes_of_higher_terms(raft):
    lone = Lone(raft)
    lone.lead()
    term = lone.machine.term
    assert lone.receive(2, ask(term + 1, 9, 9)) == []
    assert (lone.machine.role, lone.machine.term) == (LEADER, term)


def test_the_smallest_election_timeout_lies_above_the_stickiness_window(raft):
    shortest = min(hears_then_times_out(raft, seed) for seed in range(60))
    assert shortest >= 1.05


def hears_then_times_out(raft, seed):
    lone = Lone(raft, seed=seed, term=1)
    lone.hear(2)
    return lone.timeout()


# -- lower terms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", ["append", "heartbeat"])
def test_a_leader_of_a_lower_term_is_told_of_the_newer_one(raft, sign):
    lone = Lone(raft, term=5)
    message = AppendEntries(2, 7, 0, 0, 0, blocks(1, [2])) if sign == "append" else Heartbeat(2, 7, 0, 1, 0)
    (reply,) = lone.receive(2, message)
    assert isinstance(reply, AppendEntriesReply)
    assert (reply.term, reply.accepted) == (5, False)
    assert lone.machine.last_index == 0


def test_replies_of_a_lower_term_are_dropped(raft):
    lone = Lone(raft, log=[1], term=1)
    lone.lead()
    digest = lone.machine.digest()
    term = lone.machine.term - 1
    assert lone.receive(2, RequestVoteReply(term, incarnation(2), False, True)) == []
    assert lone.receive(2, AppendEntriesReply(term, 1, incarnation(2), True, 1, 0, 0, 9)) == []
    assert lone.receive(2, HeartbeatReply(term, 1, incarnation(2), 1, 0, 9)) == []
    assert lone.machine.digest() == digest
    assert lone.machine.status().counters["stale"] == 3


# -- transfer ---------------------------------------------------------------------------------------------------------


def test_leadership_is_handed_over_at_once(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    ticket = cluster.transfer(1, 3)
    cluster.settle()
    assert cluster.leader == 3
    assert cluster.outcome(ticket) is Outcome.COMMITTED
    assert cluster.nodes[3].machine.term == 2


def test_the_target_first_gets_all_entries(raft):
    lone = Lone(raft)
    lone.lead()
    lone.propose(1, b"a")
    lone.run(1)
    (append,) = lone.take(AppendEntries, target=3)
    lone.transfer(1, 3)
    assert lone.letters(TimeoutNow) == []
    lone.receive_only(3, accept(append))
    assert [letter.target for letter in lone.take(TimeoutNow)] == [3]


def test_timeout_now_skips_the_pre_vote_and_marks_the_requests(raft):
    lone = Lone(raft, term=1)
    lone.hear(2)
    lone.receive(2, TimeoutNow(1))
    lone.run(1)
    assert {(m.term, m.pre, m.transfer) for m in lone.sent(RequestVote, target=3)} == {(2, False, True)}


def test_timeout_now_is_taken_only_from_the_leader_of_the_term(raft):
    lone = Lone(raft, term=3)
    lone.hear(2)
    digest = lone.machine.digest()
    for source, term in ((3, 3), (2, 2), (3, 2)):
        assert lone.receive(source, TimeoutNow(term)) == []
    assert lone.machine.digest() == digest


def test_proposals_are_refused_during_a_transfer(raft):
    lone = Lone(raft)
    lone.lead()
    lone.transfer(1, 3)
    reply = lone.reply(lone.propose(1, b"a"))
    assert (reply.outcome, reply.reason) == (Outcome.REFUSED, Reason.TRANSFER)


def test_a_transfer_is_given_up_after_an_election_timeout_and_proposals_are_taken_again(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    cluster.isolate(3)
    ticket = cluster.transfer(1, 3)
    cluster.elapse(1.1 * cluster.options.election_timeout)
    assert (cluster.outcome(ticket), cluster.reply(ticket).reason) == (Outcome.REFUSED, Reason.TRANSFER)
    assert cluster.leader == 1
    after = cluster.propose(1, b"a")
    cluster.settle()
    assert cluster.outcome(after) is Outcome.COMMITTED


def test_a_second_request_for_the_same_target_changes_nothing_and_for_another_one_replaces_the_first(raft):
    lone = Lone(raft, 5)
    lone.lead()
    lone.propose(1, b"a")
    first, again, other = lone.transfer(1, 3), lone.transfer(1, 3), lone.transfer(1, 2)
    assert (lone.reply(again).reason, lone.reply(first).reason) == (Reason.TRANSFER, Reason.TRANSFER)
    assert lone.outcome(other) is None
    lone.run(1)
    for letter in lone.take(AppendEntries):
        lone.receive_only(letter.target, accept(letter))
    assert [letter.target for letter in lone.take(TimeoutNow)] == [2]


# -- evidence ---------------------------------------------------------------------------------------------------------


def test_the_group_fails_over_soon_after_the_leaders_connections_were_reset(raft):
    for seed in range(10):
        cluster = Cluster(raft, seed=seed)
        cluster.elect(1)
        cluster.crash(1, noticed=True)
        cluster.elapse(0.5 * cluster.options.election_timeout)
        assert cluster.leader in (2, 3)


def test_a_reset_of_the_leader_lets_a_node_grant_at_once_and_campaign_within_the_evidence_delay(raft):
    lone = Lone(raft, term=1)
    lone.hear(2)
    lone.host.call("lost", 2, "reset")
    lone.host.flush()
    assert lone.machine.leader == 0
    assert lone.now <= lone.machine.deadline() <= lone.now + lone.options.evidence_delay
    assert lone.receive(3, ask(2, node=3, pre=True)) == [RequestVoteReply(2, incarnation(1), True, True)]


@pytest.mark.parametrize(("peer", "reason"), [(3, "reset"), (2, "closed")])
def test_other_losses_are_no_evidence(raft, peer, reason):
    lone = Lone(raft, term=1)
    lone.hear(2)
    lone.host.call("lost", peer, reason)
    lone.host.flush()
    assert lone.machine.leader == 2
    assert lone.machine.deadline() > lone.now + lone.options.election_timeout


def test_one_node_that_lost_the_leader_does_not_depose_it(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    term = cluster.nodes[1].machine.term
    cluster.nodes[2].call("lost", 1, "reset")
    cluster.nodes[2].flush()
    cluster.elapse(3)
    assert (cluster.leader, cluster.nodes[1].machine.term) == (1, term)


def test_a_manual_campaign_asks_with_a_pre_vote_and_does_nothing_on_a_leader(raft):
    lone = Lone(raft)
    lone.campaign(1)
    assert {message.pre for message in lone.sent(RequestVote)} == {True}
    lone = Lone(raft)
    lone.lead()
    lone.campaign(1)
    lone.run(1)
    assert (lone.machine.role, lone.letters(RequestVote)) == (LEADER, [])


def test_a_node_replays_its_durable_commit_before_it_campaigns(raft):
    lone = Lone(raft, log=[1, 1, 1], term=1, commit=3)
    lone.host.applies = False
    lone.crash(1)
    lone.restart(1)
    lone.campaign(1)
    lone.run(1)
    assert lone.letters(RequestVote) == []
    lone.host.apply()
    lone.campaign(1)
    lone.run(1)
    assert lone.letters(RequestVote)


def test_a_vote_request_waits_for_term_and_vote_and_the_own_vote_counts_only_then(raft):
    lone = Lone(raft)
    lone.timeout()
    lone.take()
    lone.hand(Letter(2, 1, RequestVoteReply(1, incarnation(2), True, True)))
    assert (lone.machine.role, lone.machine.term) == (CANDIDATE, 1)
    assert lone.letters(RequestVote) == []
    lone.hand(Letter(2, 1, RequestVoteReply(1, incarnation(2), False, True)))
    assert lone.machine.role is CANDIDATE
    lone.host.persist()
    assert lone.machine.role is LEADER
