"""Snapshots of a replica: when they are taken, what is in them, how they travel, what may go afterwards."""

from __future__ import annotations

from dataclasses import replace

import pytest
from replicas import World

from distkit.core import Outcome, Reason
from distkit.raft import RaftOptions, Snapshot
from distkit.raft.messages import AppendEntries, InstallSnapshot, ReadIndexReply
from distkit.replica import ApplyError, ReplicaOptions, SnapshotPolicy
from distkit.replica.messages import ProposeReply


def small(entries: int = 10, **more: float) -> ReplicaOptions:
    return ReplicaOptions(snapshot=SnapshotPolicy(entries=entries, **more))


def fill(world: World, count: int, text: bytes = b"") -> None:
    for number in range(count):
        world.leader().propose(text or b"%d" % number)
        world.settle()
    world.run(0.2)


def test_a_snapshot_is_taken_after_so_many_entries():
    world = World(1, options=small(10))
    node = world.elect(1)
    fill(world, 8)
    assert node.files == {}
    fill(world, 1)
    assert list(node.files) == [(10, 1)]
    assert node.raft.snapshot.index == 10
    fill(world, 9)
    assert len(node.files) == 1


def test_a_snapshot_is_taken_after_so_many_bytes():
    world = World(1, options=ReplicaOptions(snapshot=SnapshotPolicy(log_bytes=5000)))
    node = world.elect(1)
    fill(world, 4, bytes(1000))
    assert node.files == {}
    fill(world, 1, bytes(1000))
    assert len(node.files) == 1


def test_a_snapshot_is_frozen_while_commands_go_on():
    world = World(1, options=small(10))
    node = world.elect(1)
    world.saves = False
    fill(world, 30)
    assert len(node.saves) == 1, "one at a time"
    snapshot = node.save()
    assert node.files[snapshot.index, snapshot.term][1:] == [b"+%d" % number for number in range(9)]


def test_a_log_that_filled_up_while_a_snapshot_was_written_is_a_reason_for_another():
    world = World(1, options=small(10), raft_options=RaftOptions(keep_entries=0, log_bytes_max=6000))
    node = world.elect(1)
    world.saves = False
    fill(world, 9)  # now there is one to be written, which will free these few
    while node.raft.window.bytes < 5000:
        fill(world, 1, bytes(400))
    large = node.propose(bytes(2900))
    world.settle()
    assert node.replies[large].reason is Reason.BUSY
    world.saves = True
    node.save()
    world.settle()
    large = node.propose(bytes(2900))
    world.settle()
    assert node.replies[large].outcome is Outcome.COMMITTED


def test_a_failed_snapshot_is_tried_again_later_with_the_state_of_then():
    world = World(1, options=small(10, retry_after=5.0))
    node = world.elect(1)
    world.saves = False
    fill(world, 9)
    first = node.saves.pop()
    node.core.snapshot_failed(world.now)
    fill(world, 3)
    assert node.saves == []
    world.run(5.0)  # without another command: a leader whose log is full takes none until a snapshot is made
    assert node.saves[0].index > first.index


def test_a_node_starts_from_its_snapshot_and_the_entries_after_it():
    world = World(options=small(10), raft_options=RaftOptions(keep_entries=0))
    world.elect(1)
    session = world.nodes[1].register()
    world.settle()
    number = int.from_bytes(world.nodes[1].replies[session].result, "little")
    first = world.nodes[1].propose(b"in a session", number, 1, 1)
    fill(world, 15)
    for node in (1, 2, 3):
        world.stop(node)
    for node in (1, 2, 3):
        world.start(node)
    assert world.nodes[1].raft.snapshot.index > 0
    world.run(5.0)
    expected = [b"in a session", *(b"%d" % number for number in range(15))]
    assert all(node.journal.commands == expected for node in world.nodes.values())
    retry = world.nodes[2].propose(b"in a session", number, 1, 1)
    world.settle()
    assert world.nodes[2].replies[retry].result == b"1:in a session", f"as {first} was answered"
    assert len({node.core.digest() for node in world.nodes.values()}) == 1


def behind(world: World, count: int = 40) -> None:
    """Node 3 misses so much that the leader has no entries for it any more."""
    world.elect(1)
    world.isolate(3)
    fill(world, count)


def test_a_node_that_fell_behind_gets_the_snapshot_with_the_sessions():
    world = World(options=small(10), raft_options=RaftOptions(keep_entries=0))
    world.elect(1)
    ticket = world.nodes[1].register()
    world.settle()
    session = int.from_bytes(world.nodes[1].replies[ticket].result, "little")
    world.nodes[1].propose(b"first", session, 1, 1)
    behind(world)
    world.heal(3)
    world.run(1.0)
    assert world.nodes[3].journal.commands == world.nodes[1].journal.commands
    assert session in world.nodes[3].core.sessions
    assert world.nodes[3].core.digest() == world.nodes[1].core.digest()
    fill(world, 3)
    assert world.nodes[3].journal.commands == world.nodes[1].journal.commands
    assert len(world.nodes[3].files) == 1, "the policy counts from the snapshot that came"


def test_nothing_is_applied_or_read_while_a_snapshot_is_loaded():
    world = World(options=small(10), raft_options=RaftOptions(keep_entries=0))
    behind(world)
    node = world.nodes[3]
    loads = []
    node.load = loads.append
    world.heal(3)
    ticket = node.read()
    world.run(1.0)
    fill(world, 3)
    assert node.core.loading
    assert ticket not in node.replies
    assert node.journal.commands == []
    assert node.core.status().snapshot == "loading"
    del node.load
    node.load(loads[0])
    world.run(0.5)
    assert node.reads[ticket] == world.nodes[1].journal.commands == node.journal.commands


def test_a_proposal_that_a_snapshot_covers_before_it_is_applied_is_lost():
    world = World(options=small(10), raft_options=RaftOptions(keep_entries=0))
    old = world.elect(1)
    world.passes = lambda source, target, message: not (type(message) is AppendEntries and source == 1)
    ticket = old.propose(b"mine")
    world.settle()
    world.passes = lambda source, target, message: True
    world.isolate(1)
    world.run(4.0)
    fill(world, 40)
    world.heal(1)
    world.run(2.0)
    assert (old.replies[ticket].outcome, old.replies[ticket].reason) == (Outcome.LOST, Reason.SNAPSHOT)
    assert old.journal.commands == world.leader().journal.commands


def test_the_doors_stay_open_while_a_snapshot_is_loaded_in_another_thread():
    world = World(options=small(10), raft_options=RaftOptions(keep_entries=0))
    behind(world)
    node = world.nodes[3]
    restore, flushed = node.journal.restore, []
    node.journal.restore = lambda chunks: (flushed.append(node.flush()), restore(chunks))
    world.heal(3)
    world.run(1.0)
    assert flushed
    assert node.journal.commands == world.nodes[1].journal.commands


def test_a_snapshot_that_cannot_be_loaded_stops_the_replica():
    world = World(options=small(10), raft_options=RaftOptions(keep_entries=0))
    behind(world)
    node = world.nodes[3]

    def broken(chunks: object) -> None:
        raise ValueError("not mine")

    node.journal.restore = broken
    world.heal(3)
    with pytest.raises(ValueError, match="not mine"):
        world.run(1.0)
    with pytest.raises(ApplyError, match="loading a snapshot raised ValueError: not mine"):
        node.flush()


def test_a_read_that_was_granted_before_is_not_served_while_a_snapshot_is_loaded():
    world = World(options=small(10), raft_options=RaftOptions(keep_entries=0))
    world.elect(1)
    fill(world, 5)
    late = []
    world.passes = lambda *letter: type(letter[2]) is not ReadIndexReply or late.append(letter[2]) or False
    node = world.nodes[3]
    ticket = node.read()
    world.settle()
    node.load = lambda snapshot: None
    world.passes = lambda source, target, message: target != 3
    fill(world, 40)
    world.nodes[1].core.lost(world.now, 3, "timeout")
    world.nodes[1].core.connected(world.now, 3)
    world.passes = lambda source, target, message: type(message) is not ReadIndexReply
    world.run(0.5)
    assert node.core.loading
    node.core.receive(world.now, 1, late[0])
    node.flush()
    assert ticket not in node.replies
    assert node.core.status().reads == 1
    del node.load
    node.load(node.raft.snapshot)
    world.settle()
    assert len(node.reads[ticket]) > 5


def test_what_was_committed_but_not_applied_when_a_snapshot_came_is_lost():
    options = replace(small(10), apply_entries_max=1)
    world = World(options=options, raft_options=RaftOptions(keep_entries=0))
    old = world.elect(1)
    tickets = [old.propose(b"%d" % number) for number in range(300)]
    for _ in range(3):
        old.flush()
        for source, target, message in list(world.letters):
            world.nodes[target].core.receive(world.now, source, message)
        world.letters.clear()
        world.nodes[2].flush()
        world.nodes[3].flush()
    assert old.raft.commit_index == 301
    old.up = False
    world.isolate(1)
    world.run(4.0)
    fill(world, 40)
    old.up = True
    world.heal(1)
    world.run(2.0)
    ends = [old.replies[ticket].outcome for ticket in tickets]
    assert ends == sorted(ends)
    assert set(ends) == {Outcome.COMMITTED, Outcome.LOST}
    assert old.journal.commands == world.leader().journal.commands
    assert old.core.status().proposals == 0


def test_a_machine_is_told_of_a_snapshot_only_when_its_file_is_there():
    world = World(options=small(10), raft_options=RaftOptions(keep_entries=0))
    behind(world)
    world.fetches = False
    world.heal(3)
    world.run(1.0)
    node = world.nodes[3]
    assert len(node.fetches) == 1
    assert node.raft.snapshot.index == 0
    assert node.core.status().snapshot == "fetching"
    node.fetch()
    world.run(1.0)
    assert node.raft.snapshot.index > 0
    assert node.core.status().snapshot == "idle"


def offer(world: World, index: int, term: int = 1) -> Snapshot:
    snapshot = Snapshot(index, 1, 0, 100, 0, world.configuration)
    world.nodes[3].core.receive(world.now, 1, InstallSnapshot(term, 1, snapshot))
    world.nodes[3].flush()
    return snapshot


def test_a_newer_offer_of_the_same_leader_does_not_start_the_fetch_anew():
    world = World()
    world.elect(1)
    world.fetches = False
    first = offer(world, 100)
    offer(world, 200)
    node = world.nodes[3]
    assert [fetch.snapshot for fetch in node.fetches] == [first]
    node.files[100, 1] = [b"\1\1\0\0" + bytes(4)]
    node.core.fetched(world.now, first)
    world.settle()
    assert node.core.applied_index == 100


def test_after_a_failed_fetch_the_next_offer_is_fetched():
    world = World()
    world.elect(1)
    world.fetches = False
    first = offer(world, 100)
    world.nodes[3].core.fetch_failed(world.now, first)
    second = offer(world, 200)
    assert [fetch.snapshot for fetch in world.nodes[3].fetches] == [first, second]
    world.nodes[3].core.fetched(world.now, first)
    assert world.nodes[3].raft.snapshot.index == 0, "a fetch that was given up means nothing"


def test_a_new_leader_s_offer_replaces_the_fetch():
    world = World()
    world.elect(1)
    world.fetches = False
    first = offer(world, 100)
    second = offer(world, 100, term=2)
    assert [fetch.snapshot for fetch in world.nodes[3].fetches] == [first, second]


def test_a_lost_offer_is_repeated():
    world = World(options=small(10, fetch_timeout=2.0), raft_options=RaftOptions(keep_entries=0))
    behind(world)
    lost = []
    world.passes = lambda source, target, message: type(message) is not InstallSnapshot or lost.append(message)
    world.heal(3)
    world.run(1.0)
    assert len(lost) == 1
    world.passes = lambda source, target, message: True
    world.run(2.0)
    assert world.nodes[3].journal.commands == world.nodes[1].journal.commands


def test_what_is_older_may_go_when_the_mark_is_durable_but_not_what_a_peer_is_fetching():
    world = World(options=small(10, fetch_timeout=2.0), raft_options=RaftOptions(keep_entries=0))
    behind(world, 10)
    world.fetches = False
    world.heal(3)
    world.run(0.5)
    leader = world.nodes[1]
    fetched = world.nodes[3].fetches[0].snapshot
    leader.released.clear()
    fill(world, 10)
    (release,) = leader.released
    assert release.index == leader.raft.snapshot.index
    assert release.keep == (leader.raft.snapshot, fetched)
    assert leader.core.snapshot_asked(3, fetched.index, fetched.term) == fetched
    assert leader.core.snapshot_asked(2, fetched.index, fetched.term) is None
    leader.core.snapshot_serving(world.now, 3, fetched)
    offers = []
    world.passes = lambda source, target, message: type(message) is not InstallSnapshot or offers.append(message)
    world.run(1.9)
    assert offers == [], "the peer is still at it"
    world.nodes[3].fetch()
    world.fetches = True
    world.passes = lambda source, target, message: True
    fill(world, 11)
    assert leader.released[-1].keep == (leader.raft.snapshot,)
    assert leader.core.snapshot_asked(3, fetched.index, fetched.term) is None


def test_a_peer_goes_on_with_what_it_fetches_though_its_connection_breaks_and_a_newer_one_is_offered():
    world = World(options=small(10, fetch_timeout=2.0), raft_options=RaftOptions(keep_entries=0))
    behind(world, 10)
    world.fetches = False
    world.heal(3)
    world.run(0.5)
    leader = world.nodes[1]
    older = world.nodes[3].fetches[0].snapshot
    fill(world, 10)
    offers = []
    world.passes = lambda source, target, message: type(message) is not InstallSnapshot or not offers.append(message)
    leader.core.lost(world.now, 3, "reset")
    leader.core.connected(world.now, 3)
    world.settle()
    newer = leader.raft.snapshot
    assert [offer.snapshot for offer in offers] == [newer]
    assert newer.index > older.index
    assert len(world.nodes[3].fetches) == 1, "it goes on with the older one"
    for each in (older, newer):
        assert leader.core.snapshot_asked(3, each.index, each.term) == each
    leader.released.clear()
    fill(world, 10)
    assert leader.released[-1].keep == (leader.raft.snapshot, older)


def test_what_is_being_fetched_stays_though_the_log_got_ahead_of_it():
    """Another leader may bring the entries meanwhile; then comes an own snapshot that is newer than the one fetched."""
    world = World(options=small(10))
    world.elect(1)
    world.fetches = False
    first = offer(world, 5)
    fill(world, 12)
    released = world.nodes[3].released[-1]
    assert released.index > first.index
    assert first in released.keep


def test_a_snapshot_that_was_overtaken_by_a_received_one_is_not_recorded():
    world = World(options=small(10), raft_options=RaftOptions(keep_entries=0))
    world.elect(1)
    world.saves = False
    fill(world, 10)
    world.saves = True
    world.nodes[1].save()
    world.isolate(3)
    fill(world, 30)
    world.heal(3)
    world.run(1.0)
    node = world.nodes[3]
    received = node.raft.snapshot
    node.save()
    world.settle()
    assert node.raft.snapshot == received
    assert received.index > 12


@pytest.mark.parametrize("node", [1, 2])
def test_a_forwarded_answer_survives_the_snapshot_of_its_leader(node: int):
    world = World(options=small(3))
    world.elect(1)
    answers = []
    world.passes = lambda source, target, message: type(message) is not ProposeReply or answers.append(1) or True
    tickets = [world.nodes[node].propose(b"%d" % number) for number in range(10)]
    world.run(0.5)
    assert all(world.nodes[node].replies[ticket].outcome is Outcome.COMMITTED for ticket in tickets)
