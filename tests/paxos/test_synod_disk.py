"""The synod on the log of the house and a disk that forgets, at every crash, all that was not synced."""

from random import Random

import pytest
from synod_world import Node, World, incarnation

from distkit.codec import Registry
from distkit.log import Wal, WalIdentity, WalOptions
from distkit.paxos import synod
from distkit.sim import MemoryFiles
from distkit.sim.broken import Broken, require

CODEC = Registry(synod.RECORDS)
SMALL = WalOptions(first_segment_bytes=12 << 10, segment_bytes=12 << 10, reserve_bytes=8 << 10)


def encoded(records):
    return [(kind, 0, b"".join(buffers)) for kind, buffers in map(CODEC.encode_body, records)]


class LoggedNode(Node):
    """A node whose `disk` is what it may expect to find in its log."""

    syncs = True

    def __init__(self, world, node, records):
        self.files = MemoryFiles()
        self.owner = WalIdentity(cluster=1, node=node, incarnation=incarnation(node))
        self.inflight = []
        Wal.create(self.files, self.owner, encoded(records), SMALL).close()
        super().__init__(world, node, records)

    def restart(self):
        self.wal, recovered = Wal.open(self.files, self.owner, SMALL)
        found = [CODEC.decode_body(kind, content) for kind, _, content in recovered.records]
        kept = found[len(self.disk) :]
        require(found[: len(self.disk)] == self.disk, "log", "node", self.id, "lost synced records:", found)
        require(kept == self.inflight[: len(kept)], "log", "node", self.id, "recovers what was never written")
        self.world.ledger.crashed(self, kept)
        self.disk, self.inflight = found, []
        super().restart()

    def persist(self, count=None, *, report=True):
        writes = list(self.writes)[:count]
        for write in writes:
            self.wal.append(encoded(write.records))
        if self.syncs:
            self.wal.sync()
        super().persist(len(writes), report=report)

    def crash(self, keep=0):
        """Whatever was handed to the operating system may be on the disk, or some of it, or nothing."""
        self.inflight = [record for write in self.writes for record in write.records]
        self.wal.append(encoded(self.inflight))
        self.files.crash(Random(keep))
        self.up = False


class ForgetfulNode(LoggedNode):
    """Its host reports writes as durable that were never synced."""

    syncs = False


def run(host, seeds):
    for seed in seeds:
        random = Random(seed)
        world = World(synod, 3, seed=seed, host=host)
        for _ in range(120):
            node = world.nodes[random.randint(1, 3)]
            if not node.up:
                world.restart(node.id)
            elif random.random() < 0.06:
                node.crash(random.getrandbits(20))
            elif random.random() < 0.1:
                world.propose(node.id, b"%d" % random.randrange(100))
            elif random.random() < 0.4:
                node.flush()
                node.persist(random.randint(0, len(node.writes)))
            elif world.pool:
                world.hand(world.pool.pop(random.randrange(len(world.pool))), flush=random.random() < 0.7)
            elif node.machine.chosen is None:
                world.wait(node.id)
        for node in world.nodes.values():
            if node.up:
                node.crash(random.getrandbits(20))
        world.restart(1, 2, 3)
        world.propose(1, b"last")
        world.elapse(10)
        assert len(set(world.values())) == 1


def test_pitfall_06_a_disk_that_forgets_what_was_not_synced_breaks_nothing():
    run(LoggedNode, range(40))


def test_pitfall_06_a_host_that_does_not_sync_is_found():
    with pytest.raises(Broken, match="lost synced records"):
        run(ForgetfulNode, range(40))
