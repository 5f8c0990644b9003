"""The Raft paper, section 5.3 and 5.5: log replication. One test for each rule, named after it."""

import pytest
from cluster import Cluster, Letter, block, blocks, incarnation
from lone import Lone, accept, beat, refuse

from distkit.core import Outcome, Reason, RoleName, Span
from distkit.raft.messages import AppendEntries, AppendEntriesReply, Entries, HardState, Heartbeat, Truncate
from distkit.sim.raft_ledger import entries_of


def append(term, prev_index, prev_term, terms=(), commit=0, session=7):
    return AppendEntries(term, session, prev_index, prev_term, commit, blocks(prev_index + 1, terms))


def leader(raft, size=3, **past):
    lone = Lone(raft, size, **past)
    lone.lead()
    return lone


# -- the leader -------------------------------------------------------------------------------------------------------


def test_a_client_is_sent_to_the_leader(raft):
    cluster = Cluster(raft)
    ticket = cluster.propose(2, b"a")
    assert (cluster.reply(ticket).reason, cluster.reply(ticket).leader) == (Reason.NOT_LEADER, 0)
    cluster.elect(1)
    reply = cluster.reply(cluster.propose(2, b"a"))
    assert (reply.outcome, reply.reason, reply.leader) == (Outcome.REFUSED, Reason.NOT_LEADER, 1)


def test_the_leader_appends_a_command_and_sends_it_to_all_others_in_parallel(raft):
    lone = leader(raft, 5)
    last, term = lone.machine.last_index, lone.machine.term
    lone.propose(1, b"a")
    assert lone.machine.last_index == last + 1
    letters = lone.take(AppendEntries)  # they do not wait for the leader's own disk
    assert len(lone.host.writes) == 1
    assert [letter.target for letter in letters] == [2, 3, 4, 5]
    for letter in letters:
        message = letter.message
        assert (message.prev_index, message.prev_term) == (last, term)
        assert [len(message.blocks)] == [1]


def test_each_entry_stores_its_command_its_term_and_its_index(raft):
    lone = leader(raft)
    first = lone.machine.last_index + 1
    lone.propose(1, b"a", b"b")
    lone.propose(1, b"c")
    entries = lone.machine.window.entries(first, first + 2, 1 << 20)
    assert [(index, term, payload) for index, term, _, _, payload in entries] == [
        (first, lone.machine.term, b"a"),
        (first + 1, lone.machine.term, b"b"),
        (first + 2, lone.machine.term, b"c"),
    ]


@pytest.mark.parametrize(
    ("size", "acks", "committed"), [(3, 0, False), (3, 1, True), (5, 1, False), (5, 2, True), (5, 4, True)]
)
def test_an_entry_is_committed_once_a_majority_has_it(raft, size, acks, committed):
    lone = leader(raft, size)
    before = lone.machine.commit_index
    ticket = lone.propose(1, b"a")
    lone.run(1)
    for letter in lone.take(AppendEntries)[:acks]:
        lone.receive_only(letter.target, accept(letter))
    assert lone.machine.commit_index == before + committed
    assert lone.outcome(ticket) == (Outcome.COMMITTED if committed else None)
    assert lone.host.commands == ([b"a"] if committed else [])


def test_the_leaders_own_copy_counts_only_once_it_is_durable(raft):
    lone = leader(raft)
    before = lone.machine.commit_index
    lone.propose(1, b"a")
    letters = lone.take(AppendEntries)
    lone.hand(Letter(2, 1, accept(letters[0])))
    assert lone.machine.commit_index == before
    lone.host.persist()
    assert lone.machine.commit_index == before + 1


def test_a_commit_may_run_ahead_of_the_leaders_disk_but_its_delivery_may_not(raft):
    lone = leader(raft)
    before = lone.machine.commit_index
    lone.propose(1, b"a")
    for letter in lone.take(AppendEntries):
        lone.hand(Letter(letter.target, 1, accept(letter)))
    assert lone.machine.commit_index == before + 1
    assert lone.host.commands == []
    lone.host.persist()
    assert lone.host.commands == [b"a"]


def test_the_leader_applies_and_answers_only_after_commit(raft):
    lone = leader(raft)
    ticket = lone.propose(1, b"a")
    lone.run(1)
    assert lone.outcome(ticket) is None
    assert lone.host.commands == []
    lone.receive_only(2, accept(lone.take(AppendEntries, target=2)[0]))
    reply = lone.reply(ticket)
    assert (reply.outcome, reply.first, reply.index) == (Outcome.COMMITTED, 2, 2)
    assert reply.term == lone.machine.term
    assert lone.host.commands == [b"a"]


def test_the_leader_retries_without_end_until_every_follower_stores_all_entries(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    cluster.isolate(3)
    cluster.propose(1, b"a")
    cluster.elapse(30)
    assert cluster.nodes[1].commands == [b"a"]
    cluster.heal()
    cluster.elapse(1)
    assert cluster.nodes[3].commands == [b"a"]


@pytest.mark.parametrize("log", [[], [2], [1, 2], [1]])
def test_commit_of_an_entry_commits_all_preceding_ones_also_of_earlier_leaders(raft, log):
    lone = Lone(raft, log=log, term=2)
    lone.elected()
    lone.propose(1, b"a")
    lone.run(1)
    while letters := lone.take(AppendEntries):
        for letter in letters:
            lone.receive_only(letter.target, accept(letter))
    assert lone.machine.commit_index == len(log) + 2
    assert len(lone.host.state) == len(log) + 2


def test_the_leader_includes_its_commit_index_in_later_messages_so_that_followers_learn_it(raft):
    lone = leader(raft)
    lone.propose(1, b"a")
    lone.run(1)
    for letter in lone.take(AppendEntries):
        lone.receive_only(letter.target, accept(letter))
    lone.elapse_alone(lone.options.heartbeat)
    told = [letter for letter in lone.pool if isinstance(letter.message, AppendEntries | Heartbeat)]
    assert {letter.target for letter in told if letter.message.commit == lone.machine.commit_index == 2} == {2, 3}
    lone.take()
    lone.propose(1, b"b")
    assert {letter.message.commit for letter in lone.take(AppendEntries)} == {2}


def test_followers_learn_a_commit_soon_without_a_new_proposal(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    cluster.propose(1, b"a")
    cluster.elapse(2 * cluster.options.commit_notice)
    assert [node.commands for node in cluster.nodes.values()] == [[b"a"]] * 3


def test_while_one_commit_follows_another_appends_tell_of_them_and_no_heartbeat_does(raft):
    lone = leader(raft)
    pause = lone.options.commit_notice / 2
    lone.elapse_alone(lone.machine.deadline() - lone.now)  # a regular heartbeat: the next one is far off
    lone.take()
    for _ in range(8):
        lone.propose(1, b"a")
        lone.run(1)
        for letter in lone.take(AppendEntries):
            lone.receive_only(letter.target, accept(letter))
        lone.elapse_alone(pause)
    assert lone.take(Heartbeat) == []
    lone.elapse_alone(lone.options.commit_notice)
    assert [letter.message.commit for letter in lone.take(Heartbeat)] == [lone.machine.commit_index] * 2


def test_a_heartbeat_carries_no_more_commit_than_the_peer_is_known_to_hold(raft):
    lone = leader(raft)
    lone.propose(1, b"a")
    lone.run(1)
    letters = lone.take(AppendEntries)
    lone.receive_only(2, accept(letters[0]))
    lone.elapse_alone(lone.options.heartbeat)
    assert {letter.message.commit for letter in lone.take(Heartbeat, target=3)} == {1}


def test_a_leader_creates_at_most_one_entry_with_an_index_in_a_term_and_never_moves_it(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    first = cluster.propose(1, b"a")
    second = cluster.propose(1, b"b", b"c")
    cluster.settle()
    assert (cluster.reply(first).first, cluster.reply(first).index) == (2, 2)
    assert (cluster.reply(second).first, cluster.reply(second).index) == (3, 4)


def test_a_leader_never_overwrites_or_deletes_entries_of_its_own_log(raft):
    lone = leader(raft, log=[1, 1])
    lone.propose(1, b"a")
    lone.run(1)
    log, term = lone.host.log, lone.machine.term
    lone.receive(2, append(term, 1, 1, [term]))  # nobody else may lead this term: nonsense
    lone.receive(2, append(term - 1, 1, 1, [2]))
    assert lone.host.log == log
    assert not any(isinstance(record, Truncate) for record in lone.host.disk)


# -- next_index and match_index ---------------------------------------------------------------------------------------


def test_a_new_leader_starts_with_the_next_index_behind_its_own_log(raft):
    lone = Lone(raft, log=[1, 1, 2])
    lone.elected()
    assert {(m.prev_index, m.prev_term) for m in lone.sent(AppendEntries)} == {(3, 2)}


def test_after_a_rejection_the_leader_decrements_next_index_and_retries_until_the_logs_match(raft):
    lone = Lone(raft, log=[1, 1, 1, 1], term=1)
    lone.elected()
    (letter,) = lone.take(AppendEntries, target=2)
    match = 1
    for _ in range(10):
        if letter.message.prev_index <= match:
            break
        lone.receive_only(2, refuse(letter, letter.message.prev_index - 1, 0))
        previous = letter.message.prev_index
        (letter,) = lone.take(AppendEntries, target=2)
        assert letter.message.prev_index < previous
    assert letter.message.prev_index == match
    lone.receive_only(2, accept(letter, match))
    while letters := lone.take(AppendEntries, target=2):
        for letter in letters:
            lone.receive_only(2, accept(letter))
    lone.elapse_alone(lone.options.heartbeat)
    assert max(letter.message.commit for letter in lone.take(Heartbeat, target=2)) == 5


def test_the_hint_of_a_follower_lets_the_leader_pass_over_a_whole_term(raft):
    lone = Lone(raft, log=[1] * 3 + [4] * 20)
    lone.elected()
    (letter,) = lone.take(AppendEntries, target=2)
    lone.receive_only(2, refuse(letter, 22, 3))  # its entries up to 22 are of term 3, which the leader never had
    (letter,) = lone.take(AppendEntries, target=2)
    assert letter.message.prev_index == 3


FIGURE_7 = {
    "a": [1, 1, 1, 4, 4, 5, 5, 6, 6],
    "b": [1, 1, 1, 4],
    "c": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    "d": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    "e": [1, 1, 1, 4, 4, 4, 4],
    "f": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    "empty": [],
}


@pytest.mark.parametrize("case", sorted(FIGURE_7))
def test_the_leader_forces_the_logs_of_followers_to_duplicate_its_own(raft, case):
    records = {
        1: [*map(Entries, blocks(1, [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]))],
        2: [*map(Entries, blocks(1, FIGURE_7[case]))],
    }
    cluster = Cluster(raft, records={node: [hard(8), *past] for node, past in records.items()})
    cluster.cut((1, 2))
    cluster.elect(1)  # with the vote of node 3, as in the paper
    cluster.heal()
    cluster.elapse(1)
    assert cluster.nodes[2].log == cluster.nodes[1].log == [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 9]
    assert cluster.nodes[2].state == cluster.nodes[1].state


def hard(term):
    return HardState(term, 0, 0)


@pytest.mark.parametrize("case", sorted(FIGURE_7))
def test_the_logs_agree_after_at_most_one_probe_for_each_term(raft, case):
    mine, theirs = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6], FIGURE_7[case]
    records = {1: [hard(8), *map(Entries, blocks(1, mine))], 2: [hard(8), *map(Entries, blocks(1, theirs))]}
    cluster = Cluster(raft, records=records)
    cluster.cut((1, 2))
    cluster.elect(1)
    cluster.heal()
    cluster.elapse(cluster.options.heartbeat / 2)
    refusals = 0
    cluster.propose(1, b"a")
    for _ in range(50):
        for node in cluster.nodes:
            cluster.run(node)
        refusals += sum(not letter.message.accepted for letter in cluster.letters(AppendEntriesReply, source=2))
        cluster.deliver()
    assert refusals <= 5  # there are four terms in the leader's log


# -- the follower -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("terms", "commit"), [([1], 1), ([1, 1], 2), ([1, 1], 1), ([1, 1, 1, 2], 4)])
def test_a_follower_applies_an_entry_once_it_learns_that_it_is_committed_in_log_order(raft, terms, commit):
    lone = Lone(raft, term=2)
    lone.receive(2, append(2, 0, 0, terms, commit))
    assert lone.machine.commit_index == commit
    assert [item for item in lone.host.delivered if isinstance(item, Span)][-1].hi == commit
    assert [(index, term) for index, term, _, _ in lone.host.state] == list(enumerate(terms[:commit], 1))


@pytest.mark.parametrize(
    ("prev_index", "prev_term", "accepted"),
    [
        (0, 0, True),
        (1, 1, True),
        (2, 2, True),
        (1, 2, False),
        (2, 1, False),
        (2, 3, False),
        (3, 2, False),
        (3, 3, False),
    ],
)
def test_a_follower_refuses_entries_unless_it_has_the_entry_before_them_with_the_same_term(
    raft, prev_index, prev_term, accepted
):
    lone = Lone(raft, log=[1, 2], term=3)
    (reply,) = lone.receive(2, append(3, prev_index, prev_term))
    assert (reply.accepted, reply.index, reply.term, reply.session) == (accepted, prev_index, 3, 7)
    assert lone.host.log == [1, 2]


@pytest.mark.parametrize(
    ("log", "prev_index", "prev_term", "hint"),
    [
        ([1, 1, 1], 7, 4, (3, 1)),  # it is too short
        ([1, 1, 3, 3], 4, 2, (2, 1)),  # no entry above index 2 can be of term 2
        ([1, 2, 2, 2], 4, 3, (4, 2)),
        ([3, 3], 2, 1, (0, 0)),
    ],
)
def test_a_refusal_names_the_last_entry_that_could_match(raft, log, prev_index, prev_term, hint):
    lone = Lone(raft, log=log, term=5)
    (reply,) = lone.receive(2, append(5, prev_index, prev_term))
    assert not reply.accepted
    assert (reply.hint_index, reply.hint_term) == hint


@pytest.mark.parametrize(
    ("prev_index", "prev_term", "terms", "log", "written"),
    [
        (2, 2, [3], [1, 2, 3], [3]),
        (1, 1, [3, 4], [1, 3, 4], [3, 4]),
        (0, 0, [1], [1, 2], []),
        (0, 0, [3], [3], [3]),
        (0, 0, [1, 2, 2], [1, 2, 2], [2]),
        (1, 1, [2], [1, 2], []),
    ],
)
def test_a_follower_deletes_conflicting_entries_and_appends_those_it_lacks(
    raft, prev_index, prev_term, terms, log, written
):
    lone = Lone(raft, log=[1, 2], term=4)
    lone.take()
    disk = len(lone.host.disk)
    (reply,) = lone.receive(2, append(4, prev_index, prev_term, terms))
    assert (reply.accepted, reply.index) == (True, prev_index + len(terms))
    assert lone.host.log == log
    fresh = [record for record in lone.host.disk[disk:] if isinstance(record, Entries)]
    assert [term for record in fresh for _, term, _, _ in entries_of(record.block)] == written


def test_entries_are_durable_before_they_are_acknowledged(raft):
    lone = Lone(raft, term=1)
    lone.hand(Letter(2, 1, append(1, 0, 0, [1, 1])))
    assert lone.letters(AppendEntriesReply) == []
    assert lone.machine.flushed_index == 0
    lone.host.persist()
    assert [letter.message.index for letter in lone.take(AppendEntriesReply)] == [2]
    assert lone.machine.flushed_index == 2


def test_the_follower_sets_its_commit_to_the_smaller_of_the_leaders_and_the_last_new_entry(raft):
    lone = Lone(raft, log=[1, 1, 1], term=2)
    lone.receive(2, append(2, 1, 1, [1], commit=3))
    assert lone.machine.commit_index == 2
    lone.receive(2, append(2, 2, 1, [1], commit=2))
    assert lone.machine.commit_index == 2


def test_append_entries_is_idempotent(raft):
    lone = Lone(raft, term=1)
    message = append(1, 0, 0, [1, 1])
    first = lone.receive(2, message)
    digest, disk = lone.machine.digest(), len(lone.host.disk)
    assert lone.receive(2, message) == first
    assert (lone.machine.digest(), len(lone.host.disk)) == (digest, disk)


def test_a_repeated_append_is_not_acknowledged_while_its_first_write_is_in_flight(raft):
    lone = Lone(raft, term=1)
    for _ in range(2):
        lone.hand(Letter(2, 1, append(1, 0, 0, [1])))
        assert lone.letters(AppendEntriesReply) == []
    assert [bool(write.records) for write in lone.host.writes] == [True, False]
    lone.host.persist(1)
    lone.host.persist()
    assert {letter.message.index for letter in lone.take(AppendEntriesReply)} == {1}


def test_a_follower_that_crashed_before_it_answered_gets_the_same_request_again(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    cluster.propose(1, b"a")
    cluster.deliver(AppendEntries, target=3)
    cluster.crash(3)
    cluster.restart(3)
    assert cluster.nodes[3].log == [1]
    cluster.elapse(1)
    assert cluster.nodes[3].commands == [b"a"]


def test_a_slow_follower_does_not_slow_the_others(raft):
    cluster = Cluster(raft, 5)
    cluster.elect(1)
    cluster.isolate(5)
    cluster.isolate(4)
    tickets = [cluster.propose(1, b"%d" % number) for number in range(10)]
    cluster.settle()
    assert {cluster.outcome(ticket) for ticket in tickets} == {Outcome.COMMITTED}


def test_several_commands_of_one_ticket_stand_in_one_block_all_or_nothing(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    ticket = cluster.propose(1, b"a", b"b", b"c")
    cluster.settle()
    reply = cluster.reply(ticket)
    assert (reply.first, reply.index) == (2, 4)
    assert cluster.nodes[2].machine.window.slice(2, 4, 1 << 20) == [
        cluster.nodes[1].machine.window.slice(2, 4, 1 << 20)[0]
    ]


def test_safety_does_not_depend_on_timing(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    cluster.propose(1, b"a")
    cluster.sleep(1e6)
    cluster.settle()
    cluster.tick(3, 2, 1)
    cluster.elapse(20)
    assert cluster.leader
    assert [node.commands for node in cluster.nodes.values()] == [[b"a"]] * 3


def test_the_leader_steps_down_when_a_reply_carries_a_higher_term(raft):
    lone = leader(raft)
    lone.receive(2, AppendEntriesReply(lone.machine.term + 1, 0, incarnation(2), False, 0, 0, 0, 0))
    assert lone.machine.role is RoleName.FOLLOWER


def test_heartbeat_answers_let_a_lost_append_be_sent_again(raft):
    lone = leader(raft)
    lone.propose(1, b"a")
    lone.run(1)
    lone.take(AppendEntries)
    lone.elapse_alone(lone.options.heartbeat)
    for letter in lone.take(Heartbeat, target=2):
        lone.receive_only(2, beat(letter))
    sent = lone.take(AppendEntries, target=2)
    assert sent  # a follower that misses the entry refuses this one and gets it
    lone.receive_only(2, refuse(sent[0], 1, lone.machine.term) if sent[0].message.prev_index > 1 else accept(sent[0]))
    assert lone.letters(AppendEntries, target=2) or lone.machine.commit_index == 2


def test_a_block_from_the_leader_is_stored_byte_for_byte(raft):
    lone = Lone(raft, term=1)
    original = block(1, 1, b"a", b"b")
    lone.receive(2, AppendEntries(1, 7, 0, 0, 0, (original,)))
    assert lone.host.disk[-1] == Entries(original)
