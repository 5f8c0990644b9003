"""Sessions from end to end: a retry from another node takes effect once, whatever happened in between."""

from __future__ import annotations

from random import Random

import pytest
from replicas import Node, World

from distkit.core import Outcome, Reason
from distkit.replica import ClientSession, ReplicaReply, retry_delay
from distkit.replica.messages import Propose, ProposeReply


def opened(world: World, node: Node) -> ClientSession:
    ticket = node.register()
    world.settle()
    return ClientSession(int.from_bytes(node.replies[ticket].result, "little"))


def end(node: Node, ticket: int) -> tuple[Outcome, Reason, bytes]:
    reply = node.replies[ticket]
    return reply.outcome, reply.reason, reply.result


@pytest.mark.parametrize("node", [1, 2])
def test_a_session_is_registered_from_any_node(node: int):
    world = World()
    world.elect(1)
    session = opened(world, world.nodes[node])
    world.run(0.2)
    assert all(session.id in other.core.sessions for other in world.nodes.values())


def test_a_retry_from_another_node_takes_effect_once_and_gets_the_first_answer():
    world = World()
    world.elect(1)
    session = opened(world, world.nodes[2])
    sequence = session.begin()
    world.passes = lambda source, target, message: type(message) is not ProposeReply
    first = world.nodes[2].propose(b"pay", session.id, sequence, session.lowest)
    world.settle()
    world.nodes[2].core.lost(world.now, 1, "reset")
    world.settle()
    assert end(world.nodes[2], first)[0] is Outcome.LOST
    world.passes = lambda source, target, message: True
    again = world.nodes[3].propose(b"pay", session.id, sequence, session.lowest)
    world.run(0.2)
    assert end(world.nodes[3], again) == (Outcome.COMMITTED, Reason.NONE, b"1:pay")
    assert all(node.journal.commands == [b"pay"] for node in world.nodes.values())


def test_a_late_first_attempt_after_the_answered_retry_takes_no_effect():
    world = World()
    world.elect(1)
    session = opened(world, world.nodes[2])
    sequence = session.begin()
    first = world.nodes[2].propose(b"pay", session.id, sequence, session.lowest)
    world.nodes[2].flush()
    late, world.letters = list(world.letters), type(world.letters)()
    retry = world.nodes[3].propose(b"pay", session.id, sequence, session.lowest)
    world.settle()
    assert end(world.nodes[3], retry)[0] is Outcome.COMMITTED
    session.finish(sequence)
    following = session.begin()
    world.nodes[3].propose(b"next", session.id, following, session.lowest)
    world.settle()
    world.letters.extend(late)
    world.run(0.2)
    assert end(world.nodes[2], first) == (Outcome.REFUSED, Reason.ANSWERED, b"")
    assert world.nodes[1].journal.commands == [b"pay", b"next"]


def test_a_retry_after_the_leader_died_takes_effect_once():
    world = World()
    world.elect(1)
    session = opened(world, world.nodes[1])
    sequence = session.begin()
    world.nodes[1].propose(b"pay", session.id, sequence, session.lowest)
    world.settle()
    world.stop(1)
    retry = world.nodes[2].propose(b"pay", session.id, sequence, session.lowest)
    world.run(5.0)
    assert end(world.nodes[2], retry) == (Outcome.COMMITTED, Reason.NONE, b"1:pay")
    assert world.nodes[3].journal.commands == [b"pay"]


@pytest.mark.parametrize("node", [1, 2])
def test_a_closed_session_is_expired_on_any_node(node: int):
    world = World()
    world.elect(1)
    session = opened(world, world.nodes[1])
    ticket = world.ticket()
    world.nodes[node].core.close_session(world.now, ticket, session.id)
    world.settle()
    assert end(world.nodes[node], ticket)[0] is Outcome.COMMITTED
    refused = world.nodes[node].propose(b"x", session.id, session.begin(), session.lowest)
    fine = world.nodes[node].propose(b"y")
    world.settle()
    assert end(world.nodes[node], refused) == (Outcome.REFUSED, Reason.SESSION_EXPIRED, b"")
    assert end(world.nodes[node], fine) == (Outcome.COMMITTED, Reason.NONE, b"1:y")


def test_the_same_command_twice_in_one_batch_is_applied_once():
    world = World()
    world.elect(1)
    session = opened(world, world.nodes[2])
    tickets = [world.nodes[2].propose(b"x", session.id, 1, 1) for _ in range(2)]
    world.settle()
    assert [end(world.nodes[2], ticket)[2] for ticket in tickets] == [b"1:x"] * 2
    assert world.nodes[1].journal.commands == [b"x"]


@pytest.mark.parametrize("seed", range(20))
def test_clients_that_retry_anywhere_through_crashes_count_every_command_once(seed: int):
    """Three clients, each with a pipeline of commands; frames and answers are lost, leaders die and come back."""
    random = Random(seed)
    world = World()
    world.elect(1)
    clients = [opened(world, world.leader()) for _ in range(3)]
    lossy = (Propose, ProposeReply)
    world.passes = lambda source, target, message: type(message) not in lossy or random.random() > 0.3
    wanted = {(client.id, client.begin()): (client, 1) for client in clients for _ in range(5)}
    tickets: dict[tuple[int, int], tuple[int, int]] = {}
    for step in range(400):
        if step % 40 == 20:
            world.stop(random.choice(world.up()).id)
        if step % 40 == 35:
            (down,) = [node.id for node in world.nodes.values() if not node.up]
            world.start(down)
        for key, (client, attempt) in list(wanted.items()):
            reply = None
            if key in tickets:
                node, ticket = tickets[key]
                if world.nodes[node].up and ticket not in world.nodes[node].replies:
                    continue
                reply = world.nodes[node].replies.get(ticket)
            if reply is not None and retry_delay(reply, attempt) is None:
                assert reply.outcome is Outcome.COMMITTED
                client.finish(key[1])
                del wanted[key]
                continue
            node = random.choice(world.up())
            tickets[key] = (node.id, node.propose(b"%d/%d" % key, *key, client.lowest))
            wanted[key] = (client, attempt + 1)
        world.run(0.25)
        if not wanted and len(world.up()) == 3:
            break
    assert not wanted
    world.passes = lambda source, target, message: True
    world.run(3.0)
    expected = sorted(b"%d/%d" % (client.id, sequence) for client in clients for sequence in range(1, 6))
    assert all(sorted(node.journal.commands) == expected for node in world.nodes.values())
    assert len({node.core.digest() for node in world.nodes.values()}) == 1


# -- the client's side ------------------------------------------------------------------------------------------------


def test_the_lowest_unanswered_sequence_rises_as_answers_come_in_any_order():
    session = ClientSession(7)
    assert session.lowest == 1
    assert [session.begin() for _ in range(3)] == [1, 2, 3]
    session.finish(2)
    assert session.lowest == 1
    session.finish(1)
    assert session.lowest == 3
    session.finish(3)
    assert session.lowest == 4


@pytest.mark.parametrize(
    ("outcome", "reason", "delays"),
    [
        (Outcome.COMMITTED, Reason.NONE, [None]),
        (Outcome.COMMITTED, Reason.RESULT_TOO_LARGE, [None]),
        (Outcome.REFUSED, Reason.SESSION_EXPIRED, [None]),
        (Outcome.REFUSED, Reason.ANSWERED, [None]),
        (Outcome.LOST, Reason.STOPPED, [None]),
        (Outcome.LOST, Reason.NONE, [0.0, 0.04, 0.08]),
        (Outcome.LOST, Reason.SNAPSHOT, [0.0, 0.04]),
        (Outcome.REFUSED, Reason.NOT_LEADER, [0.0, 0.04]),
        (Outcome.REFUSED, Reason.FENCED, [0.0, 0.04]),
        (Outcome.SUPERSEDED, Reason.NONE, [0.0, 0.04]),
        (Outcome.REFUSED, Reason.BUSY, [0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0]),
        (Outcome.REFUSED, Reason.FULL, [0.02]),
        (Outcome.REFUSED, Reason.TRANSFER, [0.02]),
    ],
)
def test_which_ends_are_tried_again_and_when(outcome: Outcome, reason: Reason, delays: list[float | None]):
    reply = ReplicaReply(1, outcome, reason=reason)
    assert [retry_delay(reply, attempt) for attempt in range(1, len(delays) + 1)] == delays
