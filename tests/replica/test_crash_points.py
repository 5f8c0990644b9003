"""Nothing acknowledged is lost: a script of three replicas with real logs, crashed at every single call to the disk.

The files drop every byte and every name that was not synced (or, as disks do, keep some of it). Each run crashes at
one call: that node alone, or all three at once as when the power of a rack fails. Then everything starts again from
what is left.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

import pytest
from replicas import Node, World

from distkit.core import Outcome, PeerError
from distkit.log import (
    SnapshotReader,
    SnapshotReceiver,
    SnapshotWriter,
    Wal,
    WalIdentity,
    WalOptions,
    open_identity,
    remove_snapshots,
    snapshot_name,
)
from distkit.raft import RaftOptions, Snapshot, formation_records
from distkit.replica import Fetch, Release, ReplicaOptions, SnapshotPolicy, cluster_id, decoded, encoded
from distkit.replica.fetch import piece, span
from distkit.sim.files import Crashed, MemoryFiles

SMALL = WalOptions(first_segment_bytes=16 << 10, segment_bytes=16 << 10, reserve_bytes=4 << 10)


class PowerFailure(Exception):
    """The crash takes all nodes with it."""


class DurableNode(Node):
    """A node with a real log and real snapshot files on a disk that forgets what was not synced."""

    world: DurableWorld

    def __init__(self, world: DurableWorld, node: int) -> None:
        self.storage = MemoryFiles()
        self.storage.tracing = True
        if world.crash is not None and world.crash[0] == node:
            self.storage.crash_at(world.crash[1])
        super().__init__(world, node)

    def start(self) -> None:
        try:
            self.identity = open_identity(self.storage, self.id, 1000 + self.id)
            super().start()
        except Crashed:
            self.die()

    def flush(self) -> bool:
        try:
            return super().flush()
        except Crashed:
            self.die()
            return True

    def die(self) -> None:
        """What was not synced is gone, and with it the process."""
        self.up = False
        self.storage.crash(self.world.torn)
        for other in self.world.up():
            other.core.lost(self.world.now, self.id, "reset")
        if self.world.together:
            raise PowerFailure

    # -- the log ------------------------------------------------------------------------------------------------------

    def recovered(self) -> list[Any]:
        configuration = self.world.configuration
        identity = WalIdentity(cluster_id(configuration), self.id, self.identity.incarnation)
        if Wal.exists(self.storage):
            self.wal, recovered = Wal.open(self.storage, identity, SMALL)
            records = decoded(recovered.records)
        else:
            records = list(formation_records(configuration))
            self.wal = Wal.create(self.storage, identity, encoded(records), SMALL)
        self.identity.formed(identity.cluster)
        return records

    def store(self, records: Iterable[Any]) -> None:
        if contents := encoded(records):
            self.wal.append(contents)
            self.wal.sync()

    def release(self, work: Release) -> None:
        super().release(work)
        self.wal.mark()
        self.wal.release(0, work.index)
        remove_snapshots(self.storage, {_name(snapshot) for snapshot in work.keep})

    # -- snapshot files -----------------------------------------------------------------------------------------------

    def save(self) -> Snapshot:
        work = self.saves.pop(0)
        writer = SnapshotWriter(self.storage, self.identity.cluster, work.index, work.term, work.time_us, b"")
        for chunk in work.chunks:
            writer.write(chunk)
        snapshot = Snapshot(work.index, work.term, work.time_us, writer.finish().size, 0, work.configuration)
        self.core.snapshot_saved(self.world.now, snapshot)
        return snapshot

    def load(self, snapshot: Snapshot) -> None:
        with SnapshotReader(self.storage, _name(snapshot)) as reader:
            self.core.load(reader)
        self.core.restored(self.world.now, snapshot)

    def fetch(self) -> None:
        work = self.fetches.pop(0)
        source, snapshot = self.world.nodes[work.source], work.snapshot
        assert isinstance(source, DurableNode)
        place = (self.identity.cluster, snapshot.index, snapshot.term)
        receiver = SnapshotReceiver(self.storage, *place, snapshot.size)
        fetch = Fetch(snapshot, receiver.received, piece_bytes=5000)
        while (request := fetch.request()) is not None:
            data = source.piece(snapshot, *span(request, snapshot))
            if data is None:
                receiver.close()
                self.core.fetch_failed(self.world.now, snapshot)
                return
            offset = fetch.received
            receiver.write(offset, fetch.take(piece(request, snapshot, data)))
        try:
            receiver.finish()
        except PeerError:  # what an attempt before the crash left is torn: it is gone now, so begin anew
            self.core.fetch_failed(self.world.now, snapshot)
            source.core.snapshot_sent(self.world.now, self.id, False)
            return
        self.core.fetched(self.world.now, snapshot)
        source.core.snapshot_sent(self.world.now, self.id, True)

    def piece(self, snapshot: Snapshot, offset: int, size: int) -> bytes | None:
        """Part of a snapshot file, for another node; None if this one dies of it."""
        try:
            with SnapshotReader(self.storage, _name(snapshot)) as reader:
                return reader.file_bytes(offset, size)
        except Crashed:
            self.die()
            return None


class DurableWorld(World):
    """Three such nodes. `crash` = (node, its nth call to the disk); `together`: the others go down with it; `torn`:
    some of what was not synced is kept."""

    def __init__(self, crash: tuple[int, int] | None = None) -> None:
        self.crash = crash
        self.together = False
        self.torn: Random | None = None
        self.proposed: dict[int, bytes] = {}
        super().__init__(
            options=ReplicaOptions(snapshot=SnapshotPolicy(entries=5)),
            raft_options=RaftOptions(keep_entries=1),
            kind=DurableNode,
        )

    def propose(self, node: int, command: bytes) -> None:
        """Start what is down, then propose on a node, with room for a few commands in a segment."""
        for other in self.nodes.values():
            if not other.up:
                self.start(other.id)
        if self.nodes[node].up:
            ticket = self.nodes[node].propose(command + bytes(1500))
            self.proposed[ticket] = command + bytes(1500)
        self.run(0.05)

    def acknowledged(self) -> set[bytes]:
        return {
            command
            for ticket, command in self.proposed.items()
            if ticket in self.ended and self.ended[ticket].outcome is Outcome.COMMITTED
        }


def _name(snapshot: Snapshot) -> str:
    return snapshot_name(snapshot.index, snapshot.term)


def script(world: DurableWorld) -> None:
    """Proposals on all nodes under changing leaders, snapshots saved, fetched and loaded, segments cut and released."""
    for node in (1, 2):
        world.settle()
        if world.nodes[node].up:
            world.nodes[node].raft.campaign(world.now)
        world.run(0.2)
        for number in range(3):
            world.propose(1 + number % 3, b"%d all %d" % (node, number))
        world.isolate(3)
        for number in range(6):
            world.propose(1 + number % 2, b"%d two %d" % (node, number))
        world.heal(3)
        world.run(0.5)


def calls(node: int) -> tuple[int, int]:
    """How many calls to its disk a node makes until it has started, and in the script."""
    world = DurableWorld()
    start = len(world.nodes[node].storage.calls)
    script(world)
    return start, len(world.nodes[node].storage.calls) - start


def check(world: DurableWorld) -> None:
    """After everything came back: what was acknowledged is there, once, everywhere."""
    world.cut.clear()
    for node in world.nodes.values():
        if not node.up:
            world.start(node.id)
    world.run(3.0)
    world.propose(1, b"last")
    world.run(1.0)
    acknowledged = world.acknowledged()
    assert any(command.startswith(b"last") for command in acknowledged), "the cluster works again"
    for node in world.nodes.values():
        assert acknowledged <= set(node.journal.commands)
        assert len(set(node.journal.commands)) == len(node.journal.commands)
        assert node.journal.commands == world.nodes[1].journal.commands


def test_the_script_does_what_it_says():
    world = DurableWorld()
    script(world)
    check(world)
    assert len(world.acknowledged()) == 19
    assert all(node.released for node in world.nodes.values())
    assert all(node.wal.stats.released for node in world.nodes.values())


@pytest.mark.parametrize("node", [1, 2, 3])
def test_a_crash_of_one_node_at_any_call_to_its_disk_loses_nothing(node: int):
    for nth in range(1, sum(calls(node)) + 1):
        world = DurableWorld((node, nth))
        script(world)
        check(world)


@pytest.mark.parametrize("torn", [False, True], ids=["nothing kept", "some kept"])
@pytest.mark.parametrize("node", [1, 2, 3])
def test_a_crash_of_all_nodes_at_any_call_to_a_disk_loses_nothing(node: int, torn: bool):
    for nth in range(1, calls(node)[1] + 1):
        world = DurableWorld()
        world.together = True
        world.torn = Random(nth) if torn else None
        world.nodes[node].storage.crash_at(nth)
        with pytest.raises(PowerFailure):
            script(world)
        world.together = False
        for other in world.nodes.values():
            other.up = False
            other.storage.crash(world.torn)
        world.letters.clear()
        check(world)
