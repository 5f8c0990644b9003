"""Applying: in order, within a budget, and never past an entry that cannot be applied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random

import pytest
from replicas import Journal, Node, World

from distkit._fast.codec import encode_block
from distkit.core import LocalError, Outcome
from distkit.raft import formation_records, recover
from distkit.raft.messages import AppendEntries
from distkit.replica import ApplyError, ReplicaCore, ReplicaOptions, SnapshotPolicy


def alone(**options: int) -> tuple[World, Node]:
    world = World(1, options=ReplicaOptions(**options))
    return world, world.elect(1)


def applied_in_slices(world: World, node: Node) -> list[int]:
    """How many commands each flush applies until all are."""
    slices = []
    while True:
        before = len(node.journal.commands)
        node.flush()
        slices.append(len(node.journal.commands) - before)
        if node.core.applied_index == node.raft.last_index:
            return slices


def test_one_flush_applies_no_more_entries_than_allowed():
    world, node = alone(apply_entries_max=3)
    tickets = [node.propose(b"%d" % number) for number in range(10)]
    slices = applied_in_slices(world, node)
    assert max(slices) == 3
    assert [node.replies[ticket].result for ticket in tickets] == [b"%d:%d" % (n + 1, n) for n in range(10)]


def test_one_flush_applies_about_as_many_bytes_as_allowed():
    world, node = alone(apply_bytes_max=2500)
    for _ in range(9):
        node.propose(bytes(1000))
    assert max(applied_in_slices(world, node)) == 2


def test_an_entry_over_the_budget_is_applied_alone():
    world, node = alone(apply_bytes_max=10)
    node.propose(bytes(5000))
    node.propose(b"x")
    assert max(applied_in_slices(world, node)) == 1
    assert len(node.journal.commands) == 2


def test_while_there_is_more_to_apply_the_deadline_is_now():
    world, node = alone(apply_entries_max=1)
    node.propose(b"a")
    node.propose(b"b")
    node.flush()
    node.flush()
    assert node.core.status().backlog == 1
    assert node.core.deadline() <= world.now


def test_answers_of_a_forwarded_batch_come_as_they_are_applied():
    world = World(options=ReplicaOptions(apply_entries_max=2))
    world.elect(1)
    tickets = [world.nodes[2].propose(b"%d" % number) for number in range(7)]
    world.settle()
    results = [world.nodes[2].replies[ticket].result for ticket in tickets]
    assert results == [b"%d:%d" % (n + 1, n) for n in range(7)]


def test_everything_committed_is_applied_again_after_a_restart():
    world = World()
    world.elect(1)
    for number in range(5):
        world.nodes[1].propose(b"%d" % number)
    world.run(0.3)
    for node in (1, 2, 3):
        world.stop(node)
    for node in (1, 2, 3):
        world.start(node)
    world.run(5.0)
    assert all(node.journal.commands == [b"0", b"1", b"2", b"3", b"4"] for node in world.nodes.values())


def test_an_exception_of_the_application_stops_the_replica_and_names_the_entry():
    world, node = alone()
    node.propose(b"good")
    node.propose(b"explode")
    with pytest.raises(ApplyError, match=r"entry 3 .*ValueError: boom") as caught:
        world.settle()
    assert caught.value.index == 3
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(ApplyError, match="entry 3"):
        node.flush()
    assert node.journal.commands == [b"good"], "nothing is applied twice"


def test_a_result_that_is_not_bytes_stops_the_replica():
    world, node = alone()
    node.journal.apply = lambda *entry: "text"
    node.propose(b"x")
    with pytest.raises(ApplyError, match=r"entry 2 .* returned str, not bytes"):
        world.settle()


def test_an_interrupt_in_the_middle_of_applying_stops_the_replica():
    world, node = alone()

    def interrupted(*entry: object) -> bytes:
        raise KeyboardInterrupt

    node.journal.apply = interrupted
    node.propose(b"x")
    with pytest.raises(KeyboardInterrupt):
        world.settle()
    with pytest.raises(ApplyError, match="interrupted"):
        node.flush()


@pytest.mark.parametrize(
    ("kind", "payload"),
    [(5, b""), (77, b"x"), (2, b"short"), (4, b"short")],
    ids=["reserved", "new", "session", "close"],
)
def test_an_entry_of_an_unknown_kind_stops_the_replica(kind: int, payload: bytes):
    world = World()
    world.elect(1)
    block = encode_block(1, 2, 0, bytes([kind]), [payload])
    world.nodes[2].core.receive(world.now, 1, AppendEntries(1, 1, 1, 1, 2, (block,)))
    world.nodes[2].flush()
    with pytest.raises(ApplyError, match=f"entry 2 cannot be applied, .* kind {kind} "):
        world.nodes[2].flush()


class Lazy(Journal):
    def snapshot(self) -> Iterator[bytes]:
        yield from self.commands


def test_a_snapshot_that_freezes_nothing_is_refused_at_once():
    world = World(1)
    raft = recover(formation_records(world.configuration), node=1, incarnation=1001, random=Random(1), now=0.0)
    with pytest.raises(LocalError, match=r"Lazy\.snapshot is a generator function"):
        ReplicaCore(raft, Lazy(), now=0.0, origin=1)


@pytest.mark.parametrize(
    "options", [ReplicaOptions(apply_entries_max=0), ReplicaOptions(snapshot=SnapshotPolicy(entries=-1))]
)
def test_options_must_be_positive(options: ReplicaOptions):
    world = World(1)
    with pytest.raises(LocalError, match="must be positive"):
        ReplicaCore(world.nodes[1].raft, Journal(), options, now=0.0, origin=1)


class Clocked(Journal):
    def __init__(self) -> None:
        super().__init__()
        self.times: list[int] = []

    def apply(self, index: int, term: int, time_us: int, command: bytes) -> bytes:
        self.times.append(time_us)
        return b""

    def restore(self, chunks: Iterable[bytes]) -> None:
        raise NotImplementedError


def test_time_of_commands_never_goes_back():
    world, node = alone()
    clocked = Clocked()
    node.journal.apply = clocked.apply
    for wall in (5_000_000, 4_000_000, 6_000_000):
        node.core.wall(world.now, wall)
        ticket = node.propose(b"x")
        world.settle()
        assert node.replies[ticket].outcome is Outcome.COMMITTED
    assert clocked.times == [5_000_000, 5_000_000, 6_000_000]
