"""The Raft paper, section 8: clients, the empty entry, and reads that do not go through the log."""

import pytest
from cluster import Cluster, incarnation
from lone import Lone, accept, beat

from distkit.core import Outcome, Reason, RoleName
from distkit.raft.messages import AppendEntries, Heartbeat, HeartbeatReply, ReadIndex, ReadIndexReply


def beats(lone):
    """Heartbeats that want an answer."""
    return [letter for letter in lone.take(Heartbeat) if letter.message.read_position]


def heartbeat(lone):
    """Let the next round of heartbeats leave, and return it."""
    lone.take(Heartbeat)
    found = []
    for _ in range(20):
        found += beats(lone)
        if found:
            return found
        lone.elapse_alone(lone.options.heartbeat / 10)
    raise AssertionError("no heartbeat")


# -- the empty entry --------------------------------------------------------------------------------------------------


def test_a_leader_commits_an_empty_entry_at_the_start_of_its_term(raft):
    lone = Lone(raft, log=[1, 1])
    lone.elected()
    assert lone.machine.window.entries(3, 3, 100)[0][3:] == (0, b"")
    assert not any(role.ready for role in lone.host.roles)
    for letter in lone.take(AppendEntries):
        lone.receive_only(letter.target, accept(letter))
    assert lone.machine.commit_index == 3
    assert lone.host.roles[-1].ready


def test_the_role_is_ready_only_once_the_empty_entry_is_applied(raft):
    lone = Lone(raft)
    lone.host.applies = False
    lone.elected()
    for letter in lone.take(AppendEntries):
        lone.receive_only(letter.target, accept(letter))
    assert (lone.host.role.role, lone.host.role.ready) == (RoleName.LEADER, False)
    lone.host.apply()
    lone.host.flush()
    assert lone.host.role.ready


# -- clients ----------------------------------------------------------------------------------------------------------


def test_a_server_that_is_not_the_leader_rejects_and_names_the_most_recent_leader(raft):
    cluster = Cluster(raft)
    cluster.elect(3)
    for ticket in (cluster.propose(1, b"a"), cluster.transfer(1, 2)):
        reply = cluster.reply(ticket)
        assert (reply.outcome, reply.reason, reply.leader) == (Outcome.REFUSED, Reason.NOT_LEADER, 3)


def test_a_proposal_can_be_tied_to_a_term(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    term = cluster.nodes[1].machine.term
    good, fenced = cluster.propose(1, b"a", term=term), cluster.propose(1, b"b", term=term - 1)
    cluster.settle()
    assert cluster.outcome(good) is Outcome.COMMITTED
    assert cluster.reply(fenced).reason is Reason.FENCED
    assert cluster.nodes[1].commands == [b"a"]


def test_step_down_alone_ends_no_ticket_and_an_entry_that_survives_is_committed(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    ticket = cluster.propose(1, b"a")
    cluster.deliver(AppendEntries, target=2)
    cluster.nodes[2].persist()
    cluster.take()
    cluster.nodes[1].persist()
    cluster.elect(2)
    assert cluster.nodes[1].machine.role is RoleName.FOLLOWER
    cluster.elapse(1)
    reply = cluster.reply(ticket)
    assert (reply.outcome, reply.index, reply.term) == (Outcome.COMMITTED, 2, 1)


def test_an_entry_that_was_overwritten_ends_its_ticket_only_when_the_other_one_is_committed(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    cluster.isolate(1)
    ticket = cluster.propose(1, b"a")
    cluster.settle()
    cluster.elect(2)
    cluster.heal()
    cluster.cut((1, 3))
    cluster.crash(3)
    cluster.nodes[2].call("tick")
    cluster.propose(2, b"b")
    for _ in range(4):
        for node in (1, 2):
            cluster.run(node)
        if cluster.nodes[1].log[1:2] == [cluster.nodes[2].machine.term]:
            break
        assert cluster.outcome(ticket) is None
        cluster.deliver()
    cluster.elapse(1)
    assert cluster.outcome(ticket) is Outcome.SUPERSEDED


# -- reads ------------------------------------------------------------------------------------------------------------


def test_a_leader_exchanges_heartbeats_with_a_majority_before_it_answers_a_read(raft):
    lone = Lone(raft, 5)
    lone.lead()
    ticket = lone.read(1)
    letters = heartbeat(lone)
    assert lone.outcome(ticket) is None
    lone.receive_only(2, beat(letters[0]))
    assert lone.outcome(ticket) is None
    lone.receive_only(3, beat(next(letter for letter in letters if letter.target == 3)))
    assert lone.reply(ticket).outcome is Outcome.READABLE
    assert lone.reply(ticket).index == lone.machine.commit_index


def test_a_heartbeat_that_left_before_the_read_does_not_confirm_it(raft):
    lone = Lone(raft)
    lone.lead()
    letters = heartbeat(lone)
    ticket = lone.read(1)
    for letter in letters:
        lone.receive_only(letter.target, beat(letter))
    assert lone.outcome(ticket) is None


def test_one_round_of_heartbeats_confirms_many_reads(raft):
    lone = Lone(raft, 5)
    lone.lead()
    tickets = [lone.read(1, flush=False) for _ in range(100)]
    lone.host.flush()
    letters = beats(lone)
    assert len(letters) == 4
    for letter in letters[:2]:
        lone.receive_only(letter.target, beat(letter))
    assert {lone.outcome(ticket) for ticket in tickets} == {Outcome.READABLE}


def test_a_read_does_not_touch_the_log_or_the_disk(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    before = [(len(node.disk), node.machine.last_index) for node in cluster.nodes.values()]
    ticket = cluster.read(1)
    cluster.settle()
    assert cluster.outcome(ticket) is Outcome.READABLE
    assert [(len(node.disk), node.machine.last_index) for node in cluster.nodes.values()] == before


def test_a_read_is_postponed_until_an_entry_of_the_own_term_is_committed(raft):
    lone = Lone(raft, log=[1], commit=0)
    lone.elected()
    appends = lone.take(AppendEntries)
    ticket = lone.read(1)
    for _ in range(3):
        for letter in heartbeat(lone):
            lone.receive_only(letter.target, beat(letter))
        lone.take(AppendEntries)
    assert lone.outcome(ticket) is None
    for letter in appends:
        lone.receive_only(letter.target, accept(letter))
    for letter in heartbeat(lone):
        lone.receive_only(letter.target, beat(letter))
    assert (lone.reply(ticket).outcome, lone.reply(ticket).index) == (Outcome.READABLE, 2)


def test_the_read_index_is_the_commit_index_when_the_read_came(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    cluster.propose(1, b"a")
    cluster.settle()
    ticket = cluster.read(1)
    cluster.settle()
    assert cluster.reply(ticket).index >= 2


def test_a_deposed_leader_does_not_answer_reads(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    cluster.isolate(1)
    cluster.elect(2)
    cluster.propose(2, b"new")
    cluster.settle()
    assert cluster.nodes[1].leads or cluster.nodes[1].machine.role is RoleName.FOLLOWER
    ticket = cluster.read(1)
    cluster.elapse(1)
    assert cluster.outcome(ticket) in (None, Outcome.REFUSED)
    cluster.heal()
    cluster.elapse(3)
    assert cluster.outcome(ticket) is Outcome.REFUSED


def test_waiting_reads_are_refused_when_leadership_is_lost(raft):
    lone = Lone(raft)
    lone.lead()
    ticket = lone.read(1)
    lone.receive(2, Heartbeat(lone.machine.term + 1, 7, 0, 1, 0))
    assert (lone.reply(ticket).outcome, lone.reply(ticket).reason) == (Outcome.REFUSED, Reason.LEADER_CHANGED)


def test_a_sole_voter_answers_reads_at_once(raft):
    cluster = Cluster(raft, 1)
    cluster.elapse(3)
    ticket = cluster.read(1)
    assert cluster.outcome(ticket) is Outcome.READABLE


# -- reads on followers -----------------------------------------------------------------------------------------------


def test_a_follower_asks_the_leader_for_the_read_index(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    cluster.propose(1, b"a")
    cluster.settle()
    tickets = [cluster.read(2, flush=False) for _ in range(5)]
    cluster.nodes[2].flush()
    (asked,) = cluster.letters(ReadIndex)
    assert asked.target == 1
    cluster.settle()
    assert {(cluster.reply(t).outcome, cluster.reply(t).index) for t in tickets} == {(Outcome.READABLE, 2)}


def test_a_follower_without_a_leader_refuses_reads(raft):
    cluster = Cluster(raft)
    assert cluster.reply(cluster.read(1)).reason is Reason.NOT_LEADER


@pytest.mark.parametrize("lost", [ReadIndex, ReadIndexReply])
def test_a_lost_read_index_is_asked_again_by_tick(raft, lost):
    cluster = Cluster(raft)
    cluster.elect(1)
    ticket = cluster.read(2)
    for _ in range(10):
        cluster.take(lost)
        cluster.deliver()
        for node in cluster.nodes:
            cluster.run(node)
    cluster.take(lost)
    assert cluster.outcome(ticket) is None
    cluster.elapse(cluster.options.election_timeout)
    assert cluster.outcome(ticket) is Outcome.READABLE


def test_reads_of_a_follower_are_refused_when_the_leader_changes(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    cluster.cut((1, 2))
    ticket = cluster.read(2)
    cluster.settle()
    assert cluster.outcome(ticket) is None
    cluster.elect(3)
    assert (cluster.reply(ticket).outcome, cluster.reply(ticket).reason) == (Outcome.REFUSED, Reason.LEADER_CHANGED)


def test_an_answer_to_another_request_or_another_start_confirms_nothing(raft):
    lone = Lone(raft, term=1)
    lone.hear(2)
    ticket = lone.read(1)
    (asked,) = lone.take(ReadIndex)
    request = asked.message
    lone.receive(2, ReadIndexReply(1, request.origin ^ 1, request.position, 5))
    lone.receive(2, ReadIndexReply(1, request.origin, request.position + 1, 5))
    assert lone.outcome(ticket) is None
    lone.receive(2, ReadIndexReply(1, request.origin, request.position, 5))
    assert (lone.reply(ticket).outcome, lone.reply(ticket).index) == (Outcome.READABLE, 5)


def test_answers_of_an_unknown_incarnation_confirm_no_read(raft):
    lone = Lone(raft)
    lone.lead()
    ticket = lone.read(1)
    for letter in heartbeat(lone):
        right = beat(letter)
        wiped = HeartbeatReply(right.term, right.session, incarnation(letter.target) + 9, right.read_position, 0, 1)
        lone.receive_only(letter.target, wiped)
    assert lone.outcome(ticket) is None
