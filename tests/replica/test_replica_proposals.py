"""How proposals end: on the leader, forwarded, held, refused, superseded, lost."""

from __future__ import annotations

import pytest
from replicas import Node, World

from distkit.core import LocalError, Outcome, Reason, RoleName, Space
from distkit.core.limits import BLOCK_BYTES_SOFT, ENTRY_BYTES_MAX
from distkit.raft import RaftOptions
from distkit.raft.messages import AppendEntries, AppendEntriesReply
from distkit.replica import ReplicaOptions
from distkit.replica.messages import RESULT_BYTES_MAX, Propose, ProposeReply


def outcome(node: Node, ticket: int) -> tuple[Outcome, Reason]:
    reply = node.replies[ticket]
    return reply.outcome, reply.reason


def new_leader(world: World, node: int) -> None:
    """Elect another leader while the old one keeps its connections."""
    for other in world.nodes.values():
        if other.id != node:
            other.raft.lost(world.now, world.leader().id, "reset")
    world.nodes[node].raft.lost(world.now, world.leader().id, "reset")
    world.nodes[node].raft.campaign(world.now)
    world.settle()
    assert world.nodes[node].raft.role is RoleName.LEADER


# -- the normal way ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("node", [1, 2, 3])
def test_a_proposal_on_any_node_is_applied_everywhere_and_answered_there(node: int):
    world = World()
    world.elect(1)
    ticket = world.nodes[node].propose(b"hello")
    world.run(0.2)
    reply = world.nodes[node].replies[ticket]
    assert (reply.outcome, reply.result, reply.index) == (Outcome.COMMITTED, b"1:hello", 2)
    assert all(other.journal.commands == [b"hello"] for other in world.nodes.values())


def test_one_member_alone_works():
    world = World(1)
    world.elect(1)
    ticket = world.nodes[1].propose(b"alone")
    world.settle()
    assert world.nodes[1].replies[ticket].result == b"1:alone"


@pytest.mark.parametrize("node", [1, 2])
def test_proposals_of_one_node_keep_their_order(node: int):
    world = World()
    world.elect(1)
    commands = [b"%d" % number for number in range(50)]
    for position, command in enumerate(commands):
        world.nodes[node].propose(command)
        if position % 7 == 0:
            world.nodes[node].flush()
    world.settle()
    assert world.nodes[1].journal.commands == commands


def test_the_commands_of_one_flush_travel_in_one_frame():
    world = World()
    world.elect(1)
    frames = []
    world.passes = lambda source, target, message: frames.append(message) or True
    tickets = [world.nodes[2].propose(b"%d" % number) for number in range(10)]
    world.settle()
    assert [len(frame.items) for frame in frames if type(frame) is Propose] == [10]
    assert [len(frame.results) for frame in frames if type(frame) is ProposeReply] == [10]
    assert [world.nodes[2].replies[ticket].index for ticket in tickets] == list(range(2, 12))


@pytest.mark.parametrize("node", [1, 2])
def test_large_proposals_are_cut_into_batches_that_fit_a_block(node: int):
    world = World()
    world.elect(1)
    sizes = [BLOCK_BYTES_SOFT // 2, BLOCK_BYTES_SOFT // 2, 1, ENTRY_BYTES_MAX, 1, BLOCK_BYTES_SOFT]
    commands = [bytes([65 + position]) * size for position, size in enumerate(sizes)]
    tickets = [world.nodes[node].propose(command) for command in commands]
    world.settle()
    assert world.nodes[1].journal.commands == commands
    assert [outcome(world.nodes[node], ticket)[0] for ticket in tickets] == [Outcome.COMMITTED] * len(sizes)


def test_the_results_of_one_batch_are_cut_into_frames_that_fit():
    world = World()
    world.elect(1)
    for node in world.nodes.values():
        node.journal.apply = lambda *entry: entry[-1] * (1 << 20)
    frames = []
    world.passes = lambda source, target, message: frames.append(message) or True
    tickets = [world.nodes[2].propose(bytes([number])) for number in range(10)]
    world.settle()
    replies = [frame for frame in frames if type(frame) is ProposeReply]
    assert len(replies) > 1
    assert all(sum(map(len, frame.results)) <= RESULT_BYTES_MAX for frame in replies)
    assert [world.nodes[2].replies[ticket].result[:2] for ticket in tickets] == [bytes([n, n]) for n in range(10)]


@pytest.mark.parametrize("node", [1, 2])
def test_a_result_that_is_too_large_is_dropped_but_the_command_is_done(node: int):
    world = World()
    world.elect(1)
    for other in world.nodes.values():
        other.journal.apply = lambda *entry: bytes(RESULT_BYTES_MAX + len(entry[-1]))
    fits, over = world.nodes[node].propose(b""), world.nodes[node].propose(b"x")
    world.settle()
    assert len(world.nodes[node].replies[fits].result) == RESULT_BYTES_MAX
    assert outcome(world.nodes[node], over) == (Outcome.COMMITTED, Reason.RESULT_TOO_LARGE)


# -- held -------------------------------------------------------------------------------------------------------------


def test_proposals_wait_for_the_first_leader():
    world = World()
    tickets = [world.nodes[node].propose(b"%d" % node) for node in (1, 2, 3)]
    world.run(5.0)
    assert [outcome(world.nodes[node], ticket)[0] for node, ticket in zip((1, 2, 3), tickets, strict=True)] == [
        Outcome.COMMITTED
    ] * 3


def test_a_proposal_rides_out_an_election():
    world = World()
    world.elect(1)
    world.stop(1)
    ticket = world.nodes[2].propose(b"patience")
    world.settle()
    assert ticket not in world.nodes[2].replies
    world.run(5.0)
    assert outcome(world.nodes[2], ticket)[0] is Outcome.COMMITTED


def test_a_proposal_is_held_while_the_leader_is_not_connected():
    world = World()
    world.elect(1)
    world.nodes[2].core.lost(world.now, 1, "timeout")
    ticket = world.nodes[2].propose(b"wait")
    world.run(0.5)
    assert ticket not in world.nodes[2].replies
    world.nodes[2].core.connected(world.now, 1)
    world.settle()
    assert outcome(world.nodes[2], ticket)[0] is Outcome.COMMITTED


def test_a_proposal_rides_out_a_transfer_of_leadership():
    world = World()
    world.elect(1)
    transfer = world.ticket()
    world.nodes[1].core.transfer(world.now, transfer, 2)
    ticket = world.nodes[1].propose(b"during")
    world.run(1.0)
    assert world.nodes[1].replies[transfer].outcome is Outcome.COMMITTED
    assert world.leader().id == 2
    assert outcome(world.nodes[1], ticket)[0] is Outcome.COMMITTED


def test_what_a_transfer_refused_keeps_its_order():
    world = World()
    world.elect(1)
    world.passes = lambda source, target, message: target != 2
    world.nodes[1].core.transfer(world.now, world.ticket(), 2)
    for number in range(3):
        world.nodes[1].propose(b"%d" % number)
        world.nodes[1].flush()
    world.run(0.5)
    world.passes = lambda source, target, message: True
    world.run(3.0)
    assert world.nodes[3].journal.commands == [b"0", b"1", b"2"]


def test_a_held_proposal_can_be_cancelled_and_has_no_reply():
    world = World()
    node = world.nodes[1]
    first, second = node.propose(b"no"), node.propose(b"yes")
    assert node.core.cancel(world.now, first)
    world.run(5.0)
    assert first not in node.replies
    assert node.replies[second].result == b"1:yes"
    assert not node.core.cancel(world.now, second)


def test_a_proposal_under_way_cannot_be_cancelled():
    world = World()
    world.elect(1)
    ticket = world.nodes[1].propose(b"gone")
    world.nodes[1].flush()
    assert not world.nodes[1].core.cancel(world.now, ticket)
    world.settle()
    assert outcome(world.nodes[1], ticket)[0] is Outcome.COMMITTED


# -- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [ReplicaOptions(proposals_max=2), ReplicaOptions(held_bytes_max=7)], ids=["count", "bytes"]
)
def test_more_than_can_be_held_is_refused(options: ReplicaOptions):
    world = World(options=options)
    node = world.nodes[1]
    tickets = [node.propose(b"abc") for _ in range(3)]
    node.flush()
    assert outcome(node, tickets[2]) == (Outcome.REFUSED, Reason.BUSY)
    assert tickets[0] not in node.replies
    world.run(5.0)
    assert outcome(node, tickets[1])[0] is Outcome.COMMITTED
    assert node.core.status().proposals == 0


@pytest.mark.parametrize("node", [1, 2])
def test_a_full_disk_of_the_leader_refuses_from_everywhere(node: int):
    world = World()
    world.elect(1)
    world.nodes[1].core.storage(world.now, Space.FULL)
    ticket = world.nodes[node].propose(b"x")
    world.settle()
    assert outcome(world.nodes[node], ticket) == (Outcome.REFUSED, Reason.FULL)


@pytest.mark.parametrize("node", [1, 2])
def test_a_busy_leader_refuses_from_everywhere(node: int):
    world = World(raft_options=RaftOptions(unapplied_bytes_max=1000))
    world.elect(1)
    world.passes = lambda source, target, message: type(message) is not AppendEntries
    first = world.nodes[node].propose(bytes(900))
    world.settle()
    second = world.nodes[node].propose(bytes(900))
    world.settle()
    assert first not in world.nodes[node].replies
    assert outcome(world.nodes[node], second) == (Outcome.REFUSED, Reason.BUSY)


def test_a_frame_for_a_leader_that_stepped_down_is_refused_with_a_hint():
    world = World()
    world.elect(1)
    ticket = world.nodes[2].propose(b"x")
    world.nodes[2].flush()
    late, world.letters = list(world.letters), type(world.letters)()
    new_leader(world, 3)
    world.run(0.2)
    world.letters.extend(late)
    world.settle()
    reply = world.nodes[2].replies[ticket]
    assert (reply.outcome, reply.reason, reply.leader) == (Outcome.REFUSED, Reason.NOT_LEADER, 3)
    assert world.nodes[3].journal.commands == []


def test_a_frame_that_outlived_its_term_is_refused_by_the_same_leader_in_a_later_one():
    world = World()
    world.elect(1)
    ticket = world.nodes[2].propose(b"x")
    world.nodes[2].flush()
    late, world.letters = list(world.letters), type(world.letters)()
    new_leader(world, 3)
    new_leader(world, 1)
    world.letters.extend(late)
    world.settle()
    assert outcome(world.nodes[2], ticket) == (Outcome.REFUSED, Reason.FENCED)
    assert world.nodes[1].journal.commands == []


@pytest.mark.parametrize("command", ["text", bytes(ENTRY_BYTES_MAX + 1), bytearray(b"x")], ids=["str", "size", "array"])
def test_what_is_not_a_command_is_an_error_of_the_caller(command: object):
    world = World(1)
    with pytest.raises(LocalError, match="command must be bytes"):
        world.nodes[1].core.propose(1.0, 1, command)


@pytest.mark.parametrize("numbers", [(-1, 1, 1), (1 << 63, 1, 1), (5, -1, 0), (5, 1, 2), (5, 1 << 64, 1)])
def test_session_numbers_that_do_not_fit_are_an_error_of_the_caller(numbers: tuple[int, int, int]):
    world = World(1)
    with pytest.raises(LocalError, match="do not fit together"):
        world.nodes[1].core.propose(1.0, 1, b"x", *numbers)


# -- superseded and lost ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("node", [1, 2])
def test_a_proposal_that_another_entry_replaced_is_superseded(node: int):
    world = World()
    world.elect(1)
    world.passes = lambda source, target, message: not (type(message) is AppendEntries and source == 1)
    ticket = world.nodes[node].propose(b"minority")
    world.settle()
    new_leader(world, 3)
    winner = world.nodes[3].propose(b"majority")
    world.run(0.5)
    assert outcome(world.nodes[node], ticket) == (Outcome.SUPERSEDED, Reason.NONE)
    assert outcome(world.nodes[3], winner)[0] is Outcome.COMMITTED
    assert all(other.journal.commands == [b"majority"] for other in world.nodes.values())


def test_a_forwarded_proposal_is_lost_with_the_connection_though_it_may_be_committed():
    world = World()
    world.elect(1)
    world.passes = lambda source, target, message: type(message) is not ProposeReply
    ticket = world.nodes[2].propose(b"who knows")
    world.settle()
    assert ticket not in world.nodes[2].replies
    world.nodes[2].core.lost(world.now, 1, "timeout")
    world.nodes[2].core.connected(world.now, 1)
    world.run(0.2)
    assert outcome(world.nodes[2], ticket)[0] is Outcome.LOST
    assert world.nodes[2].journal.commands == [b"who knows"], "never sent again"


def test_a_forwarded_proposal_without_an_answer_is_lost_after_a_while():
    world = World()
    world.elect(1)
    world.passes = lambda source, target, message: type(message) is not Propose
    ticket = world.nodes[2].propose(b"dropped")
    world.run(4.9)
    assert ticket not in world.nodes[2].replies
    world.run(0.2)
    assert outcome(world.nodes[2], ticket)[0] is Outcome.LOST
    assert world.nodes[2].core.status().counters["forward_timeout"] == 1


def test_a_former_leader_has_little_time_to_answer():
    world = World()
    world.elect(1)
    world.passes = lambda source, target, message: type(message) is not ProposeReply
    ticket = world.nodes[2].propose(b"x")
    world.settle()
    new_leader(world, 3)
    world.run(1.2)
    assert outcome(world.nodes[2], ticket)[0] is Outcome.LOST


def test_a_former_leader_still_answers_in_time():
    world = World()
    world.elect(1)
    world.passes = lambda source, target, message: type(message) is not AppendEntriesReply
    ticket = world.nodes[2].propose(b"kept")
    world.settle()
    world.passes = lambda source, target, message: True
    new_leader(world, 3)
    world.run(0.5)
    assert outcome(world.nodes[2], ticket)[0] is Outcome.COMMITTED


# -- repeated and senseless frames ------------------------------------------------------------------------------------


def test_a_repeated_frame_is_proposed_once():
    world = World()
    world.elect(1)
    world.nodes[2].propose(b"once")
    world.nodes[2].flush()
    world.letters.extend(list(world.letters) * 2)
    world.settle()
    assert world.nodes[1].journal.commands == [b"once"]
    assert world.nodes[1].core.status().counters["forward_duplicate"] == 2


def test_a_copy_of_a_frame_that_comes_to_a_former_leader_refuses_nothing():
    world = World()
    world.elect(1)
    world.passes = lambda source, target, message: type(message) is not AppendEntriesReply
    ticket = world.nodes[2].propose(b"once")
    world.nodes[2].flush()
    copies = [letter for letter in world.letters if type(letter[2]) is Propose]
    world.settle()
    world.passes = lambda source, target, message: True
    new_leader(world, 3)
    world.letters.extend(copies)
    world.run(0.5)
    assert outcome(world.nodes[2], ticket)[0] is Outcome.COMMITTED
    assert world.nodes[1].core.status().counters["forward_duplicate"] == len(copies) == 1


def test_a_frame_of_a_term_before_the_start_may_be_a_copy_of_one_that_was_proposed():
    world = World()
    term = world.elect(1).raft.term
    world.stop(1)
    world.start(1)
    world.letters.clear()
    world.nodes[1].core.receive(world.now, 2, Propose(9, 1, term, b"\1", (b"x",)))
    world.nodes[1].core.receive(world.now, 2, Propose(9, 2, term + 1, b"\1", (b"y",)))
    world.nodes[1].flush()
    answers = [letter[2] for letter in world.letters if type(letter[2]) is ProposeReply]
    assert [(each.batch, each.outcome) for each in answers] == [(1, Outcome.LOST), (2, Outcome.REFUSED)]


def test_a_repeated_answer_is_ignored():
    world = World()
    world.elect(1)
    ticket = world.nodes[2].propose(b"x")
    world.nodes[2].flush()
    world.settle()
    world.nodes[2].core.receive(world.now, 1, ProposeReply(1002, 1, 0, 1, 0, 1, 9, b"", (b"again",)))
    world.settle()
    assert world.nodes[2].replies[ticket].result == b"1:x"
    assert world.nodes[2].core.status().counters["forward_stale"] == 1


@pytest.mark.parametrize(
    "message",
    [
        Propose(9, 1, 1, b"\1", ()),
        Propose(9, 1, 1, b"", ()),
        Propose(9, 1, 1, b"\0", (b"",)),
        Propose(9, 1, 1, b"\5", (b"",)),
        Propose(9, 1, 1, b"\2", (bytes(23),)),
        Propose(9, 1, 1, b"\4", (bytes(9),)),
        Propose(9, 1, 1, b"\1", (bytes(ENTRY_BYTES_MAX + 25),)),
        Propose(9, 1, 1, b"\1\1", (bytes(BLOCK_BYTES_SOFT), b"x")),
        Propose(9, 1, 1, b"\1" * 20000, (b"",) * 20000),
    ],
    ids=["count", "none", "empty kind", "unknown kind", "session", "close", "size", "sum", "entries"],
)
def test_a_senseless_frame_is_counted_and_changes_nothing(message: Propose):
    world = World()
    leader = world.elect(1)
    before = leader.raft.digest()
    leader.core.receive(world.now, 2, message)
    world.settle()
    assert leader.core.status().counters["forward_nonsense"] == 1
    assert leader.raft.digest() == before


@pytest.mark.parametrize(
    "answer",
    [
        ProposeReply(1002, 1, 1, 1, 0, 1, 2, b"", (b"r",)),
        ProposeReply(1002, 1, 0, 1, 0, 1, 2, b"", (b"r", b"s", b"t")),
        ProposeReply(1002, 1, 0, 1, 0, 1, 2, b"\0", (b"r", b"s")),
        ProposeReply(1002, 1, 0, 1, 0, 1, 2, b"", ()),
        ProposeReply(1002, 1, 0, 77, 99, 1, 2, b"", ()),
    ],
    ids=["gap", "too many", "reasons", "empty", "unknown"],
)
def test_after_a_senseless_answer_the_outcome_is_unknown(answer: ProposeReply):
    world = World()
    world.elect(1)
    world.passes = lambda source, target, message: type(message) is not ProposeReply
    tickets = [world.nodes[2].propose(b"a"), world.nodes[2].propose(b"b")]
    world.settle()
    world.nodes[2].core.receive(world.now, 1, answer)
    world.settle()
    assert [outcome(world.nodes[2], ticket)[0] for ticket in tickets] == [Outcome.LOST] * 2


def test_an_answer_of_another_node_is_ignored():
    world = World()
    world.elect(1)
    world.passes = lambda source, target, message: type(message) is not ProposeReply
    ticket = world.nodes[2].propose(b"a")
    world.settle()
    world.nodes[2].core.receive(world.now, 3, ProposeReply(1002, 1, 0, 1, 0, 3, 2, b"", (b"lie",)))
    world.settle()
    assert ticket not in world.nodes[2].replies


def test_every_ticket_ends_and_nothing_stays_open():
    world = World()
    world.elect(1)
    tickets = {node: [world.nodes[node].propose(b"%d" % n) for n in range(20)] for node in (1, 2, 3)}
    world.nodes[2].flush()
    world.stop(1)
    world.run(8.0)
    for node in (2, 3):
        assert all(ticket in world.nodes[node].replies for ticket in tickets[node])
        status = world.nodes[node].core.status()
        assert (status.proposals, status.held, status.held_bytes, status.forwarded) == (0, 0, 0, 0)
