"""What the machine promises its host beyond the paper: writes, blocks, times, tickets, recovery, status, trace."""

from random import Random

import pytest
from cluster import EPOCH_US, Cluster, Letter, block, blocks, configuration, incarnation
from lone import Lone, accept
from test_paper_replication import append

from distkit._fast.codec import block_info
from distkit.core import LocalError, Outcome, RoleName, StorageError
from distkit.core.limits import BLOCK_BYTES_MAX
from distkit.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Entries,
    HardState,
    Heartbeat,
    InstallSnapshot,
    RequestVote,
    RequestVoteReply,
    Snapshot,
    SnapshotMark,
)


def leader(raft, **options):
    lone = Lone(raft, **options)
    lone.lead()
    return lone


# -- writes -----------------------------------------------------------------------------------------------------------


def test_tokens_rise_and_a_flush_has_at_most_one_write(raft):
    lone = leader(raft)
    for number in range(5):
        for part in range(3):
            lone.propose(1, b"%d.%d" % (number, part), flush=False)
        lone.host.flush()
    tokens = [write.token for write in lone.host.writes]
    assert len(tokens) == 5
    assert tokens == sorted(set(tokens))


def test_a_flush_without_input_gives_nothing(raft):
    lone = leader(raft)
    lone.propose(1, b"a")
    assert lone.machine.flush(lone.now) is None


def test_acknowledgements_of_one_flush_are_merged_into_one(raft):
    lone = Lone(raft, term=1)
    for index in range(5):
        lone.host.call("receive", 2, append(1, index, min(index, 1), [1]))
    lone.run(1)
    (reply,) = lone.sent(AppendEntriesReply)
    assert (reply.accepted, reply.index) == (True, 5)


def test_acknowledgements_to_two_sessions_stay_apart(raft):
    lone = Lone(raft, term=1)
    lone.host.call("receive", 2, append(1, 0, 0, [1], session=7))
    lone.host.call("receive", 2, append(1, 1, 1, [1], session=8))
    lone.run(1)
    assert [(reply.session, reply.index) for reply in lone.sent(AppendEntriesReply)] == [(7, 1), (8, 2)]


def test_a_commit_is_no_reason_to_write_but_every_write_with_entries_carries_it(raft):
    lone = leader(raft)
    lone.propose(1, b"a")
    lone.run(1)
    disk = len(lone.host.disk)
    for letter in lone.take(AppendEntries):
        lone.receive_only(letter.target, accept(letter))
    assert lone.machine.commit_index == 2
    assert len(lone.host.disk) == disk
    lone.propose(1, b"b")
    lone.run(1)
    assert lone.host.disk[disk] == HardState(lone.machine.term, 1, 2)
    assert isinstance(lone.host.disk[disk + 1], Entries)


# -- blocks -----------------------------------------------------------------------------------------------------------


def test_proposals_of_one_flush_share_a_block(raft):
    lone = leader(raft)
    tickets = [lone.propose(1, b"%d" % number, flush=False) for number in range(100)]
    assert lone.machine.last_index == 101  # they have their indexes before they are encoded
    lone.host.flush()
    assert [len(letter.message.blocks) for letter in lone.take(AppendEntries)] == [1, 1]
    assert len(tickets) == 100


def test_a_full_block_is_closed_and_no_ticket_spans_two(raft):
    lone = leader(raft)
    for number in range(5):
        lone.propose(1, *[b"%d" % number * 30_000] * 4, flush=False)
    lone.host.flush()
    found = [block_info(record.block) for record in lone.host.writes[0].records if isinstance(record, Entries)]
    assert sum(count for _, _, count, _ in found) == 20
    assert len(found) > 1
    assert all(count % 4 == 0 and first % 4 == 2 for _, first, count, _ in found)


def test_kinds_of_entries_pass_through(raft):
    lone = leader(raft)
    lone.host.call("propose", lone.ticket(), [b"a", b"b"], kinds=b"\2\3")
    lone.host.flush()
    assert [entry[3:] for entry in lone.machine.window.entries(2, 3, 100)] == [(2, b"a"), (3, b"b")]


def test_the_largest_command_fits_and_one_byte_more_does_not(raft):
    lone = leader(raft)
    largest = BLOCK_BYTES_MAX - 48 - 8
    lone.propose(1, b"x" * largest)
    assert lone.machine.last_index == 2
    with pytest.raises(LocalError):
        lone.machine.propose(lone.now, 99, [b"x" * (largest + 1)])


# -- time -------------------------------------------------------------------------------------------------------------


def times(node):
    window = node.machine.window
    return [entry[2] for entry in window.entries(window.base_index + 1, window.last, 1 << 30)]


def test_blocks_carry_the_wall_clock_extrapolated_with_now(raft):
    lone = leader(raft)
    lone.host.call("wall", EPOCH_US + 10**12)
    lone.sleep(2.5)
    lone.propose(1, b"a")
    assert times(lone.host)[-1] == pytest.approx(EPOCH_US + 10**12 + 2_500_000, abs=2)


def test_times_of_entries_never_fall_even_if_the_clock_does_or_another_leader_is_behind(raft):
    cluster = Cluster(raft)
    cluster.elect(1)
    cluster.nodes[1].call("wall", EPOCH_US + 10**12)
    cluster.propose(1, b"a")
    cluster.nodes[1].call("wall", EPOCH_US)
    cluster.propose(1, b"b")
    cluster.settle()
    cluster.elect(2)
    cluster.propose(2, b"c")
    cluster.settle()
    found = times(cluster.nodes[2])
    assert found == sorted(found)
    assert found[-1] >= EPOCH_US + 10**12


LATE = EPOCH_US + 10**12


@pytest.mark.parametrize("restarted", [False, True])
def test_times_do_not_fall_behind_a_compaction_or_a_restart(raft, restarted):
    cluster = Cluster(raft, 1, keep_entries=0)
    cluster.elapse(3)
    cluster.nodes[1].call("wall", LATE)
    cluster.propose(1, b"a")
    cluster.settle()
    assert cluster.compact(1).time_us >= LATE
    cluster.settle()
    if restarted:
        cluster.crash(1)
        cluster.restart(1)
        cluster.elapse(3)
    cluster.nodes[1].call("wall", EPOCH_US)
    cluster.propose(1, b"b")
    assert times(cluster.nodes[1])[-1] >= LATE


def test_times_do_not_fall_behind_those_of_an_installed_snapshot(raft):
    lone = Lone(raft, term=1)
    lone.states[4] = [(index, 1, 1, b"") for index in range(1, 5)]
    lone.ledger.committed, lone.ledger.committed_by = [0, 1, 1, 1, 1], [0, 1, 1, 1, 1]
    lone.receive(2, InstallSnapshot(1, 7, Snapshot(4, 1, LATE, 9, 9, configuration(3))))
    lone.sleep(2)
    lone.lead()
    assert times(lone.host)[-1] >= LATE


# -- leaders and terms ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "known"),
    [
        (lambda: AppendEntries(5, 7, 0, 0, 0, ()), 2),
        (lambda: Heartbeat(5, 7, 0, 1, 0), 2),
        (lambda: AppendEntriesReply(5, 7, incarnation(2), False, 0, 0, 0, 0), 0),
        (lambda: RequestVote(5, incarnation(2), 0, 0, False, True), 0),
        (lambda: RequestVoteReply(5, incarnation(2), False, False), 0),
    ],
    ids=["append", "heartbeat", "append reply", "vote request", "vote reply"],
)
def test_only_a_message_that_leaders_send_names_the_leader_of_a_higher_term(raft, message, known):
    lone = Lone(raft, log=[1], term=3)
    lone.hear(3)
    lone.receive(2, message())
    assert (lone.machine.term, lone.machine.leader) == (5, known)


def test_every_change_of_role_term_and_leader_is_delivered_once(raft):
    lone = Lone(raft)
    lone.host.roles.clear()
    lone.lead()
    lone.receive(2, Heartbeat(lone.machine.term + 1, 7, 0, 1, 0))
    lone.hear(2)
    assert [(role.role.name, role.term, role.leader, role.ready) for role in lone.host.roles] == [
        ("CANDIDATE", 0, 0, False),
        ("CANDIDATE", 1, 0, False),
        ("LEADER", 1, 1, False),
        ("LEADER", 1, 1, True),
        ("FOLLOWER", 2, 2, False),
    ]


def test_unapplied_bytes_are_released_by_a_change_of_role(raft):
    lone = leader(raft, unapplied_bytes_max=500)
    lone.propose(1, b"x" * 1000)
    assert lone.outcome(lone.propose(1, b"y")) is Outcome.REFUSED
    lone.receive(2, Heartbeat(lone.machine.term + 1, 7, 0, 1, 0))
    lone.sleep(2)
    lone.elected()
    assert lone.machine.status().unapplied_bytes < 100
    assert lone.outcome(lone.propose(1, b"z" * 300)) is None


# -- recovery ---------------------------------------------------------------------------------------------------------


def recover(raft, *records, formed=True, **options):
    past = raft.formation_records(configuration(3)) if formed else ()
    return raft.recover((*past, *records), node=1, incarnation=incarnation(1), random=Random(1), now=0.0, **options)


@pytest.mark.parametrize(
    ("records", "formed", "error"),
    [
        ((), False, StorageError),
        ((HardState(1, 1, 0), Entries(block(1, 1, b"a"))), False, StorageError),
        ((Entries(block(2, 1, b"a")),), True, StorageError),
        ((Entries(block(1, 1, b"a")), Entries(block(3, 1, b"a"))), True, StorageError),
        ((Entries(block(1, 1, b"a")), Entries(block(1, 1, b"a"))), True, StorageError),
        (("what is this?",), True, StorageError),
    ],
    ids=["nothing", "no configuration", "no beginning", "a hole", "twice", "unknown"],
)
def test_records_that_do_not_fit_together_are_refused_with_a_reason(raft, records, formed, error):
    with pytest.raises(error) as caught:
        recover(raft, *records, formed=formed)
    assert len(str(caught.value)) > 20


def test_recovery_takes_the_newest_of_each_and_survives_any_prefix(raft):
    past = [
        HardState(1, 2, 0),
        *map(Entries, blocks(1, [1, 1])),
        HardState(2, 0, 1),
        HardState(2, 3, 1),
        *map(Entries, blocks(3, [2])),
        SnapshotMark(2, 3, 2, False, 0, Snapshot(2, 1, EPOCH_US, 9, 9, configuration(3))),
        HardState(3, 0, 2),
        *map(Entries, blocks(4, [3])),
    ]
    for length in range(len(past) + 1):
        assert recover(raft, *past[:length]).role is RoleName.FOLLOWER
    machine = recover(raft, *past)
    status = machine.status()
    assert (status.term, status.vote, status.commit_index, status.last_index) == (3, 0, 2, 4)
    assert (status.snapshot_index, status.applied_index, status.flushed_index) == (2, 2, 4)


def test_what_a_machine_wrote_recovers_to_what_it_was(raft):
    cluster = Cluster(raft)
    for leader_, command in ((1, b"a"), (2, b"b"), (3, b"c")):
        cluster.elect(leader_)
        cluster.propose(leader_, command)
        cluster.settle()
    for node in cluster.nodes.values():
        before = node.machine.status()
        again = raft.recover(
            node.disk, node=node.id, incarnation=incarnation(node.id), random=Random(1), now=cluster.now
        ).status()
        assert (again.term, again.vote, again.last_index) == (before.term, before.vote, before.last_index)
        assert again.commit_index <= before.commit_index


# -- people -----------------------------------------------------------------------------------------------------------


def test_the_digest_tells_states_apart_and_not_timers_or_counters(raft):
    lone = leader(raft)
    digest = lone.machine.digest()
    lone.sleep(0.01)
    lone.receive(2, RequestVoteReply(lone.machine.term, incarnation(2), False, True))
    assert lone.machine.digest() == digest
    lone.propose(1, b"a")
    assert lone.machine.digest() != digest


def test_one_event_is_traced_for_each_transition(raft):
    events = []
    machine = raft.recover(
        raft.formation_records(configuration(1)),
        node=1,
        incarnation=incarnation(1),
        random=Random(1),
        now=0.0,
        trace=lambda event, fields: events.append((event, fields)),
    )
    machine.campaign(1.0)
    now = 1.0
    while (output := machine.flush(now)) is not None:
        for write in output.writes:
            machine.persisted(now, write.token)
    names = [event for event, _ in events]
    assert names.index("BecomeCandidate") < names.index("BecomeLeader")
    assert events[-1][1]["node"] == 1
    assert events[-1][1]["term"] == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("heartbeat", 0.0),
        ("heartbeat", 1.0),
        ("election_timeout", float("nan")),
        ("evidence_delay", 2.0),
        ("inflight_messages_max", 0),
        ("keep_entries", -1),
    ],
)
def test_options_that_make_no_sense_are_refused(raft, name, value):
    options = raft.RaftOptions(**{name: value})
    with pytest.raises(LocalError, match=name):
        recover(raft, options=options)


def test_a_vote_and_its_repetition_ride_on_the_same_kind_of_write(raft):
    lone = Lone(raft)
    request = RequestVote(1, incarnation(2), 0, 0, False, False)
    lone.hand(Letter(2, 1, request))
    lone.hand(Letter(2, 1, request))
    assert lone.letters(RequestVoteReply) == []
    assert [bool(write.records) for write in lone.host.writes] == [True, False]
    lone.host.persist()
    assert [letter.message.granted for letter in lone.take(RequestVoteReply)] == [True, True]


def test_a_leader_that_steps_down_names_its_successor_to_those_it_refuses(raft):
    lone = leader(raft)
    ticket = lone.propose(1, b"not in the log yet", flush=False)
    lone.receive(2, Heartbeat(lone.machine.term + 1, 1, 0, 1, 0))
    reply = lone.reply(ticket)
    assert (reply.outcome, reply.leader) == (Outcome.REFUSED, 2)
