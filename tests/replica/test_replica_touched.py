"""Whether a flush is due: every door that may cause something says so, so that a host may spare all other flushes.

That a flush which is spared would give nothing is checked by every other test here: see `replicas.Node.flush`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from replicas import Node, World

from distkit.core import Outcome, Reason, Space
from distkit.raft.messages import AppendEntriesReply, Heartbeat, InstallSnapshot, Snapshot
from distkit.replica import ReplicaCore, ReplicaOptions
from distkit.replica.messages import Propose, ProposeReply

Call = Callable[[ReplicaCore, float, Snapshot], Any]

#: A follower's or leader's doors; the snapshot is one that nobody has.
DOORS: dict[str, Call] = {
    "connected": lambda core, now, snapshot: core.connected(now, 2),
    "lost": lambda core, now, snapshot: core.lost(now, 2, "timeout"),
    "storage": lambda core, now, snapshot: core.storage(now, Space.FULL),
    "tick": lambda core, now, snapshot: core.tick(now),
    "propose": lambda core, now, snapshot: core.propose(now, 99, b"x"),
    "register": lambda core, now, snapshot: core.register(now, 99),
    "close_session": lambda core, now, snapshot: core.close_session(now, 99, 1),
    "read": lambda core, now, snapshot: core.read(now, 99),
    "transfer": lambda core, now, snapshot: core.transfer(now, 99, 2),
    "cancel": lambda core, now, snapshot: core.cancel(now, 98),
    "snapshot_saved": lambda core, now, snapshot: core.snapshot_saved(now, core.raft.snapshot),
    "snapshot_failed": lambda core, now, snapshot: core.snapshot_failed(now),
    "fetched": lambda core, now, snapshot: core.fetched(now, snapshot),
    "fetch_failed": lambda core, now, snapshot: core.fetch_failed(now, snapshot),
    "restored": lambda core, now, snapshot: core.restored(now, core.raft.snapshot),
    "snapshot_serving": lambda core, now, snapshot: core.snapshot_serving(now, 2, snapshot),
    "snapshot_sent": lambda core, now, snapshot: core.snapshot_sent(now, 2, False),
}

#: Doors that are used all the time and mostly change nothing; the tests below say when they do.
QUIET = {"receive", "persisted", "wall"}


def settled() -> tuple[World, Node]:
    world = World()
    leader = world.elect(1)
    leader.propose(b"a")
    world.run(0.3)
    assert not any(node.core.touched for node in world.nodes.values())
    return world, leader


def test_every_door_is_known_here() -> None:
    doors = {
        name
        for name, function in inspect.getmembers(ReplicaCore, inspect.isfunction)
        if not name.startswith("_") and "now" in inspect.signature(function).parameters
    }
    assert doors == {*DOORS, *QUIET, "flush"}


@pytest.mark.parametrize("node", [1, 2], ids=["leader", "follower"])
@pytest.mark.parametrize("door", DOORS)
def test_a_door_makes_a_flush_due_and_the_flush_ends_that(door: str, node: int) -> None:
    world, _leader = settled()
    core = world.nodes[node].core
    member = core.raft.configuration
    DOORS[door](core, world.now, Snapshot(90, core.raft.term, 1, 1, 0, member))
    assert core.touched
    core.flush(world.now)
    assert not core.touched


def test_messages_make_a_flush_due() -> None:
    world, leader = settled()
    core, term = leader.core, leader.raft.term
    snapshot = Snapshot(90, term, 1, 1, 0, core.raft.configuration)
    answer = ProposeReply(1, 1, 0, Outcome.LOST, Reason.NONE, 1, 0, b"", ())
    for node, message in (
        (1, Propose(1, 1, term, b"\1", (b"x",))),
        (1, answer),
        (2, Heartbeat(term, 1, 0, 0, 0)),
        (2, InstallSnapshot(term, 1, snapshot)),
    ):
        core = world.nodes[node].core
        core.receive(world.now, 3 - node, message)
        assert core.touched, message
        core.flush(world.now)


def test_the_acknowledgement_that_commits_makes_a_flush_due_and_the_one_behind_it_does_not() -> None:
    world, leader = settled()
    core = leader.core
    leader.propose(b"b")
    leader.flush()
    for node in (2, 3):
        _source, _target, append = world.letters.popleft()
        world.nodes[node].core.receive(world.now, 1, append)
        world.nodes[node].flush()
    due = []
    while world.letters:
        source, _target, message = world.letters.popleft()
        assert type(message) is AppendEntriesReply
        core.receive(world.now, source, message)
        due.append(core.touched)
        core.flush(world.now)
    assert due == [True, False]


def test_a_durable_write_makes_a_flush_due_where_it_commits_and_nowhere_else() -> None:
    lone = World(1)
    node = lone.elect(1)
    node.propose(b"a")
    output = node.core.flush(lone.now)
    assert output is not None
    assert not node.core.touched
    node.core.persisted(lone.now, output.writes[0].token)
    assert node.core.touched  # alone it is a majority

    world, leader = settled()
    leader.propose(b"a")
    output = leader.core.flush(world.now)
    assert output is not None
    leader.core.persisted(world.now, output.writes[0].token)
    assert not leader.core.touched


def test_what_is_left_to_apply_keeps_a_flush_due() -> None:
    world = World(1, options=ReplicaOptions(apply_entries_max=2))
    node = world.elect(1)
    for _ in range(5):
        node.propose(b"x")
    applied = []
    while node.core.touched:
        node.flush()
        applied.append(len(node.journal.commands))
    assert applied == [0, 2, 4, 5]
