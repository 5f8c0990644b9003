"""Bugs that Raft implementations had: reads. `mutants.py` brings each back."""

from cluster import Cluster
from lone import Lone, accept, beat
from test_paper_clients import beats, heartbeat

from distkit.core import Outcome
from distkit.raft.messages import AppendEntries, Heartbeat, ReadIndex, ReadIndexReply

# -- 17: a new leader reads before it committed in its own term (etcd#7331, tikv#6340, #9239) -------------------------


def test_bug_17_a_read_right_after_the_election_waits_for_the_own_term_commit(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    cluster.propose(1, b"a")
    cluster.settle()  # committed and answered at 1; 2 does not know that it is committed
    cluster.crash(1)
    cluster.sleep(cluster.options.election_timeout)
    cluster.campaign(2)
    while not cluster.nodes[2].leads:
        cluster.run(2)
        cluster.run(3)
        assert cluster.deliver()
    cluster.take(AppendEntries)
    assert cluster.nodes[2].machine.commit_index < 2
    ticket = cluster.read(2)  # the ledger demands an index of at least 2
    for _ in range(4):
        cluster.run(2)
        cluster.run(3)
        cluster.take(AppendEntries)
        cluster.deliver()
    assert cluster.outcome(ticket) is None
    cluster.elapse(1)
    assert cluster.outcome(ticket) is Outcome.READABLE
    assert cluster.reply(ticket).index >= 2


def test_bug_17_a_follower_that_asks_waits_too(raft):
    lone = Lone(raft, log=[1], term=1)
    lone.elected()
    appends = lone.take(AppendEntries)
    lone.receive(2, ReadIndex(lone.machine.term, 77, 5))
    for _ in range(2):
        for letter in heartbeat(lone):
            lone.receive_only(letter.target, beat(letter))
    assert lone.letters(ReadIndexReply) == []
    lone.take()
    for letter in appends:
        lone.receive_only(letter.target, accept(letter))
    for letter in heartbeat(lone):
        lone.receive_only(letter.target, beat(letter))
    assert [letter.message for letter in lone.take(ReadIndexReply)] == [ReadIndexReply(lone.machine.term, 77, 5, 2)]


# -- 18: rounds confused (etcd#20418) ---------------------------------------------------------------------------------


def test_bug_18_repeated_and_delayed_heartbeat_answers_confirm_no_later_read(raft):
    lone = Lone(raft, 5)
    lone.lead()
    first = lone.read(1)
    old = beats(lone)
    for letter in old[:2]:
        lone.receive_only(letter.target, beat(letter))
    assert lone.outcome(first) is Outcome.READABLE
    second = lone.read(1)
    lone.take()
    for letter in (*old, *old):
        lone.receive_only(letter.target, beat(letter))
    assert lone.outcome(second) is None
    for letter in heartbeat(lone)[:2]:
        lone.receive_only(letter.target, beat(letter))
    assert lone.outcome(second) is Outcome.READABLE


def test_bug_18_one_voter_that_answers_often_is_no_quorum(raft):
    lone = Lone(raft, 5)
    lone.lead()
    ticket = lone.read(1)
    letter = beats(lone)[0]
    for _ in range(5):
        lone.receive_only(letter.target, beat(letter))
    assert lone.outcome(ticket) is None


def test_bug_18_a_read_that_joins_during_a_round_waits_for_the_next_one(raft):
    lone = Lone(raft)
    lone.lead()
    first = lone.read(1)
    round_one = beats(lone)
    second = lone.read(1)
    lone.take(Heartbeat)
    lone.receive_only(2, beat(round_one[0]))
    assert lone.outcome(first) is Outcome.READABLE
    assert lone.outcome(second) is None


def test_bug_18_the_same_question_of_a_follower_twice_is_answered_for_each_round(raft):
    lone = Lone(raft)
    lone.lead()
    term = lone.machine.term
    lone.receive(2, ReadIndex(term, 77, 1))
    old = beats(lone)
    lone.receive_only(3, beat(next(letter for letter in old if letter.target == 3)))
    assert len(lone.take(ReadIndexReply)) == 1
    lone.propose(1, b"a")
    lone.run(1)
    for letter in lone.take(AppendEntries):
        lone.receive_only(letter.target, accept(letter))
    lone.take()
    lone.receive(2, ReadIndex(term, 77, 1))
    for letter in old:
        lone.receive_only(letter.target, beat(letter))
    assert lone.letters(ReadIndexReply) == []


def test_bug_18_a_late_answer_fits_no_later_question_of_a_follower(raft):
    lone = Lone(raft, term=1)
    lone.hear(2)
    first = lone.read(1)
    question = lone.take(ReadIndex)[0].message
    answer = ReadIndexReply(1, question.origin, question.position, 3)
    lone.receive(2, answer)
    assert lone.outcome(first) is Outcome.READABLE
    second = lone.read(1)
    lone.receive(2, answer)
    assert lone.outcome(second) is None


def test_bug_18_questions_from_before_a_restart_are_not_taken_for_new_ones(raft):
    lone = Lone(raft, term=1)
    lone.hear(2)
    lone.read(1)
    question = lone.take(ReadIndex)[0].message
    lone.crash(1)
    lone.restart(1)
    lone.hear(2)
    ticket = lone.read(1)
    assert lone.take(ReadIndex)[0].message.origin != question.origin
    lone.receive(2, ReadIndexReply(1, question.origin, question.position, 0))
    assert lone.outcome(ticket) is None


def test_no_read_is_answered_by_a_leader_that_a_quorum_left(raft):
    cluster = Cluster(raft, 5)
    cluster.elect(1)
    cluster.cut((1, 3), (1, 4), (1, 5))
    ticket = cluster.read(1)
    cluster.settle()
    assert cluster.outcome(ticket) is None
