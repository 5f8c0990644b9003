"""Linearizable reads: they see what was acknowledged before them, on any node, through elections."""

from __future__ import annotations

import pytest
from replicas import World

from distkit.core import Outcome, Reason
from distkit.raft import RaftOptions
from distkit.raft.messages import AppendEntries, Heartbeat, HeartbeatReply
from distkit.replica import ReplicaOptions


@pytest.mark.parametrize("node", [1, 2, 3])
def test_a_read_on_any_node_sees_what_was_acknowledged_before(node: int):
    world = World()
    world.elect(1)
    world.nodes[1].propose(b"written")
    world.settle()
    ticket = world.nodes[node].read()
    world.run(0.3)
    assert world.nodes[node].reads[ticket] == [b"written"]


def test_a_read_waits_until_its_index_is_applied():
    world = World()
    world.elect(1)
    world.passes = lambda source, target, message: not (target == 2 and type(message) in (AppendEntries, Heartbeat))
    world.nodes[1].propose(b"far ahead")
    world.settle()
    ticket = world.nodes[2].read()
    world.settle()
    assert ticket not in world.nodes[2].replies, "the index is known, the entry is not"
    world.passes = lambda source, target, message: True
    world.run(0.3)
    assert world.nodes[2].reads[ticket] == [b"far ahead"]


def test_a_read_waits_for_applying_in_slices():
    world = World(1, options=ReplicaOptions(apply_entries_max=2))
    node = world.elect(1)
    for number in range(5):
        node.propose(b"%d" % number)
    node.flush()
    ticket = node.read()
    node.flush()
    assert ticket not in node.replies
    world.settle()
    assert len(node.reads[ticket]) == 5


def test_reads_between_two_flushes_share_one_question():
    world = World()
    world.elect(1)
    beats = []
    world.passes = lambda source, target, message: beats.append(message) or True
    tickets = [world.nodes[1].read() for _ in range(100)]
    world.settle()
    assert len([beat for beat in beats if type(beat) is Heartbeat]) == 2
    assert all(world.nodes[1].replies[ticket].outcome is Outcome.READABLE for ticket in tickets)


@pytest.mark.parametrize("node", [1, 2])
def test_a_read_rides_out_an_election(node: int):
    world = World()
    ticket = world.nodes[node].read()
    world.settle()
    assert ticket not in world.nodes[node].replies
    world.run(5.0)
    assert world.nodes[node].replies[ticket].outcome is Outcome.READABLE


def test_a_read_under_way_is_asked_again_when_the_leader_dies():
    world = World()
    world.elect(1)
    world.passes = lambda source, target, message: type(message) is not HeartbeatReply
    ticket = world.nodes[2].read()
    world.settle()
    world.passes = lambda source, target, message: True
    world.stop(1)
    world.run(5.0)
    assert world.nodes[2].replies[ticket].outcome is Outcome.READABLE


def test_a_leader_without_a_quorum_answers_no_read():
    world = World()
    world.elect(1)
    world.isolate(1)
    ticket = world.nodes[1].read()
    world.nodes[2].propose(b"newer")
    world.run(5.0)
    assert ticket not in world.nodes[1].replies
    world.heal(1)
    world.run(3.0)
    assert world.nodes[1].reads[ticket] == [b"newer"]


def test_more_reads_than_allowed_are_refused():
    world = World(options=ReplicaOptions(reads_max=2))
    node = world.nodes[1]
    tickets = [node.read() for _ in range(3)]
    node.flush()
    assert (node.replies[tickets[2]].outcome, node.replies[tickets[2]].reason) == (Outcome.REFUSED, Reason.BUSY)
    world.run(5.0)
    assert node.replies[tickets[0]].outcome is Outcome.READABLE
    assert node.core.status().reads == 0


def test_a_refusal_of_the_machine_that_no_leader_lifts_is_passed_on():
    world = World(raft_options=RaftOptions(reads_max=1))
    node = world.elect(1)
    world.passes = lambda source, target, message: type(message) is not HeartbeatReply
    tickets = []
    for _ in range(3):
        tickets.append(node.read())
        node.flush()
    assert (node.replies[tickets[2]].outcome, node.replies[tickets[2]].reason) == (Outcome.REFUSED, Reason.BUSY)


def test_a_held_read_can_be_cancelled():
    world = World()
    node = world.nodes[1]
    ticket = node.read()
    assert node.core.cancel(world.now, ticket)
    world.run(5.0)
    assert ticket not in node.replies
    assert node.core.status().reads == 0
