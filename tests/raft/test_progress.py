"""How a leader paces what it sends to a peer: probe, replicate, snapshot, the window, and hints."""

import pytest
from cluster import Cluster, blocks, incarnation
from lone import Lone, accept, beat, refuse
from test_votes import ask

from distkit.core import Outcome, Reason, Space
from distkit.raft.messages import AppendEntries, AppendEntriesReply, Heartbeat, HeartbeatReply, InstallSnapshot


def peer(lone, node=2):
    """The leader's view of a peer."""
    return next(status for status in lone.machine.status().peers if status.node == node)


def state(lone, node=2):
    return peer(lone, node).state.name


def leader(raft, **options):
    lone = Lone(raft, **options)
    lone.lead()
    return lone


def propose(lone, count=1, size=10):
    """Propose one command a flush; what is sent stays in the pool."""
    for number in range(count):
        lone.propose(1, b"%*d" % (size, number))
        lone.run(1)


def pulse(lone, node=2):
    """A heartbeat goes to the peer and is answered."""
    lone.take(Heartbeat)
    while not (letters := [x for x in lone.take(Heartbeat, target=node) if x.message.read_position]):
        lone.elapse_alone(lone.options.heartbeat / 4)
    lone.receive_only(node, beat(letters[-1]))


def check(lone):
    for status in lone.machine.status().peers:
        assert 0 <= status.match < status.next
        assert status.inflight_messages <= lone.options.inflight_messages_max
        assert status.state.name == "REPLICATE" or (status.inflight_messages, status.inflight_bytes) == (0, 0)


# -- probe ------------------------------------------------------------------------------------------------------------


def test_a_new_leader_probes_with_one_append_at_a_time(raft):
    lone = Lone(raft, log=[1])
    lone.elected()
    assert state(lone) == "PROBE"
    assert len(lone.take(AppendEntries, target=2)) == 1
    propose(lone, 5)
    assert lone.letters(AppendEntries, target=2) == []
    check(lone)


def test_an_answered_heartbeat_lets_the_probe_be_sent_again(raft):
    lone = Lone(raft, log=[1])
    lone.elected()
    lone.take()
    pulse(lone)
    assert len(lone.take(AppendEntries, target=2)) == 1


def test_a_positive_answer_starts_replication_even_if_it_is_no_news(raft):
    lone = Lone(raft, log=[1])
    lone.elected()
    (letter,) = lone.take(AppendEntries, target=2)
    lone.receive_only(2, accept(letter, 0))
    assert state(lone) == "REPLICATE"
    sent = lone.take(AppendEntries, target=2)
    assert sent[0].message.prev_index == 0


# -- replicate --------------------------------------------------------------------------------------------------------


def test_appends_are_pipelined_until_the_window_is_full_and_one_answer_makes_room_for_one(raft):
    lone = leader(raft, inflight_messages_max=3)
    propose(lone, 8)
    letters = lone.take(AppendEntries, target=2)
    assert [letter.message.prev_index for letter in letters] == [1, 2, 3]
    check(lone)
    lone.receive_only(2, accept(letters[0]))
    (letter,) = lone.take(AppendEntries, target=2)
    assert letter.message.prev_index == 4
    check(lone)


def test_what_waited_for_the_window_leaves_in_one_append(raft):
    lone = leader(raft, inflight_messages_max=1)
    propose(lone, 10)
    (letter,) = lone.take(AppendEntries, target=2)
    lone.receive_only(2, accept(letter))
    (letter,) = lone.take(AppendEntries, target=2)
    assert len(letter.message.blocks) == 9


def test_the_window_is_bounded_in_bytes_too_and_one_append_may_cross_the_limit(raft):
    lone = leader(raft, inflight_messages_max=100, inflight_bytes_max=2500)
    propose(lone, 10, size=1000)
    assert len(lone.take(AppendEntries, target=2)) == 3
    assert peer(lone).inflight_bytes >= 2500


def test_an_append_is_bounded_in_bytes_but_always_holds_a_block(raft):
    lone = leader(raft, inflight_messages_max=1, append_bytes_max=2500)
    propose(lone, 7, size=1000)
    counts = []
    for _ in range(4):
        (letter,) = lone.take(AppendEntries, target=2)
        counts.append(len(letter.message.blocks))
        lone.receive_only(2, accept(letter))
    assert counts == [1, 2, 2, 2]


def test_an_answer_frees_everything_up_to_its_index(raft):
    lone = leader(raft, inflight_messages_max=3)
    propose(lone, 3)
    letters = lone.take(AppendEntries, target=2)
    lone.receive_only(2, accept(letters[2]))
    assert (peer(lone).inflight_messages, peer(lone).inflight_bytes) == (0, 0)
    assert peer(lone).match == 4


def test_a_rejection_goes_back_to_probing_behind_what_is_known_to_match(raft):
    lone = leader(raft)
    propose(lone, 3)
    letters = lone.take(AppendEntries, target=2)
    lone.receive_only(2, refuse(letters[1], 1, lone.machine.term))
    assert (state(lone), peer(lone).match, peer(lone).next) == ("PROBE", 1, 2)
    assert [letter.message.prev_index for letter in lone.take(AppendEntries, target=2)] == [1]
    check(lone)


def test_a_rejection_of_what_is_known_to_match_is_stale(raft):
    lone = leader(raft)
    propose(lone, 2)
    letters = lone.take(AppendEntries, target=2)
    lone.receive_only(2, accept(letters[1]))
    before = peer(lone)
    lone.receive_only(2, refuse(letters[1], 0, 0))
    assert peer(lone) == before


def test_a_lost_connection_goes_back_to_probing_and_resets_the_window(raft):
    lone = leader(raft)
    propose(lone, 3)
    lone.host.call("lost", 2, "closed")
    lone.host.flush()
    assert state(lone) == "PROBE"
    check(lone)


# -- snapshot ---------------------------------------------------------------------------------------------------------


def compacted(raft, **options):
    """A leader whose peer 3 needs entries that are gone."""
    lone = leader(raft, keep_entries=0, **options)
    lone.host.call("lost", 3, "closed")
    for number in range(5):
        lone.propose(1, b"%d" % number)
        lone.run(1)
        for letter in lone.take(AppendEntries, target=2):
            lone.receive_only(2, accept(letter))
    lone.compact(1)
    lone.run(1)
    lone.take()
    return lone


def test_a_peer_whose_next_entry_is_gone_gets_a_snapshot_once_it_answers(raft):
    lone = compacted(raft)
    lone.elapse_alone(2.2 * lone.options.heartbeat)
    pulse(lone, 2)
    assert lone.letters(InstallSnapshot) == []
    pulse(lone, 3)
    (letter,) = lone.take(InstallSnapshot, target=3)
    assert (state(lone, 3), peer(lone, 3).next, letter.message.snapshot.index) == ("SNAPSHOT", 7, 6)
    pulse(lone, 3)
    propose(lone)
    assert lone.letters(InstallSnapshot) == lone.letters(AppendEntries, target=3) == []


def test_a_snapshot_that_arrived_but_was_not_answered_yet_is_followed_by_a_probe_behind_it(raft):
    lone = compacted(raft)
    pulse(lone, 3)
    lone.take()
    lone.host.call("snapshot_sent", 3, True)
    lone.host.flush()
    assert (state(lone, 3), peer(lone, 3).next) == ("PROBE", 7)
    assert lone.letters(AppendEntries, target=3) == []  # paused until a heartbeat is answered
    pulse(lone, 3)
    assert [letter.message.prev_index for letter in lone.take(AppendEntries, target=3)] == [6]


def test_what_follows_a_snapshot_that_a_peer_is_being_given_is_kept(raft):
    """Else a large state would never arrive: each snapshot would be overtaken by the next before it is loaded."""
    lone = compacted(raft)
    pulse(lone, 3)
    (letter,) = lone.take(InstallSnapshot, target=3)
    given = letter.message.snapshot.index
    for number in range(5):
        lone.propose(1, b"more %d" % number)
        lone.run(1)
        for append in lone.take(AppendEntries, target=2):
            lone.receive_only(2, accept(append))
    newest = lone.compact(1)
    assert newest.index > given
    assert lone.machine.window.base_index == given
    lone.host.call("snapshot_sent", 3, False)
    lone.host.flush()


def test_a_snapshot_that_failed_is_sent_again_after_the_next_sign_of_life(raft):
    lone = compacted(raft)
    pulse(lone, 3)
    lone.take()
    lone.host.call("snapshot_sent", 3, False)
    lone.host.flush()
    assert (state(lone, 3), peer(lone, 3).next) == ("PROBE", 2)
    assert lone.letters(InstallSnapshot) == []
    pulse(lone, 3)
    assert len(lone.take(InstallSnapshot, target=3)) == 1


# -- hints ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log", "hint", "probes"),
    [
        ([1, 1, 1, 4, 4], (3, 1), 3),
        ([1, 1, 1, 4, 4], (4, 3), 3),  # we have nothing of term 2 or 3
        ([1, 2, 4, 4, 4], (4, 2), 2),
        ([4, 4, 4, 4, 4], (4, 3), 0),
        ([1, 1, 1, 4, 4], (2, 0), 2),  # the follower does not know the term
        ([1, 1, 1, 4, 4], (99, 9), 4),  # a hint never raises next
    ],
)
def test_a_hint_lets_the_leader_skip_what_cannot_match(raft, log, hint, probes):
    lone = Lone(raft, log=log)
    lone.elected()
    (letter,) = lone.take(AppendEntries, target=2)
    assert letter.message.prev_index == 5
    lone.receive_only(2, refuse(letter, *hint))
    (letter,) = lone.take(AppendEntries, target=2)
    assert letter.message.prev_index == probes
    assert peer(lone).match == 0


# -- limits and credit ------------------------------------------------------------------------------------------------


def test_unapplied_bytes_are_bounded_but_the_first_proposal_always_fits(raft):
    lone = leader(raft, unapplied_bytes_max=100)
    first, second = lone.propose(1, b"x" * 1000), lone.propose(1, b"y")
    assert lone.outcome(first) is None
    assert (lone.reply(second).outcome, lone.reply(second).reason) == (Outcome.REFUSED, Reason.BUSY)
    lone.run(1)
    for letter in lone.take(AppendEntries):
        lone.receive_only(letter.target, accept(letter))
    assert lone.outcome(lone.propose(1, b"z")) is None


def test_the_log_in_memory_is_bounded(raft):
    lone = leader(raft, log_bytes_max=3000)
    outcomes = []
    for _ in range(4):
        outcomes.append(lone.outcome(lone.propose(1, b"x" * 1000)))
        lone.run(1)
        for letter in lone.take(AppendEntries):
            lone.receive_only(letter.target, accept(letter))
    assert outcomes == [None, None, Outcome.REFUSED, Outcome.REFUSED]


def test_what_is_not_applied_takes_at_most_half_of_the_log(raft):
    lone = leader(raft, log_bytes_max=5000)
    outcomes = [lone.outcome(lone.propose(1, b"x" * 1000)) for _ in range(3)]
    assert outcomes == [None, None, Outcome.REFUSED]


def test_tickets_are_bounded(raft):
    lone = leader(raft, tickets_max=3)
    outcomes = [lone.outcome(lone.propose(1, b"x")) for _ in range(4)]
    assert outcomes == [None, None, None, Outcome.REFUSED]


def test_no_limit_refuses_the_empty_entry_of_a_term(raft):
    cluster = Cluster(raft, log_bytes_max=1, unapplied_bytes_max=0)
    cluster.elect(1)
    assert cluster.nodes[1].machine.commit_index == 1


def test_a_full_disk_refuses_proposals_and_keeps_reads_and_votes(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    cluster.nodes[1].call("storage", Space.FULL)
    refused, read = cluster.propose(1, b"a"), cluster.read(1)
    cluster.settle()
    assert cluster.reply(refused).reason is Reason.FULL
    assert cluster.outcome(read) is Outcome.READABLE
    cluster.nodes[1].call("storage", Space.OK)
    taken = cluster.propose(1, b"a")
    cluster.settle()
    assert cluster.outcome(taken) is Outcome.COMMITTED


def test_a_follower_with_a_full_disk_answers_credit_zero_takes_no_entries_and_still_votes(raft):
    lone = Lone(raft, term=1)
    lone.host.call("storage", Space.FULL)
    (reply,) = lone.receive(2, AppendEntries(1, 7, 0, 0, 0, blocks(1, [1])))
    assert (reply.accepted, reply.index, reply.credit, lone.machine.last_index) == (True, 0, 0, 0)
    lone.sleep(10)
    lone.take()
    assert lone.receive(3, ask(2, node=3))[0].granted


def test_a_peer_without_credit_gets_no_entries_until_it_has_some_again(raft):
    lone = leader(raft)
    propose(lone)
    (letter,) = lone.take(AppendEntries, target=2)
    lone.receive_only(2, accept(letter, 1, credit=0))
    propose(lone, 3)
    assert all(not letter.message.blocks for letter in lone.take(AppendEntries, target=2))
    lone.take(Heartbeat)
    while not (letters := lone.take(Heartbeat, target=2)):
        lone.elapse_alone(lone.options.heartbeat)
    beat_ = letters[-1].message
    lone.receive_only(2, HeartbeatReply(beat_.term, beat_.session, incarnation(2), beat_.read_position, 0, 1 << 20))
    sent = lone.take(AppendEntries, target=2)
    assert sum(len(letter.message.blocks) for letter in sent) == 4


def test_a_cluster_with_one_full_follower_goes_on_and_it_catches_up_when_space_returns(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    cluster.nodes[3].call("storage", Space.FULL)
    tickets = [cluster.propose(1, b"%d" % number) for number in range(10)]
    cluster.elapse(1)
    assert {cluster.outcome(ticket) for ticket in tickets} == {Outcome.COMMITTED}
    assert cluster.nodes[3].commands == []
    cluster.nodes[3].call("storage", Space.OK)
    cluster.elapse(1)
    assert cluster.nodes[3].commands == cluster.nodes[1].commands


def test_answers_of_another_session_are_ignored(raft):
    lone = leader(raft)
    propose(lone)
    (letter,) = lone.take(AppendEntries, target=2)
    right = accept(letter)
    wrong = AppendEntriesReply(right.term, right.session + 1, right.incarnation, True, right.index, 0, 0, 9)
    before = peer(lone)
    lone.receive_only(2, wrong)
    assert peer(lone) == before
    lone.receive_only(2, right)
    assert peer(lone).match == 2
