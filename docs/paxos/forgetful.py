"""Acceptors that forget their votes when they start again, for a picture of what follows from that.

    python -m distkit replay docs/paxos/forgetful.json --picture forgetful.svg

The ledger of the simulator would stop this run when the node comes back without its vote. This one looks on until two
values are chosen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from distkit.core import Write
from distkit.paxos.synod import Synod, Voted, recover
from distkit.sim.synod_ledger import Ledger, View
from distkit.sim.synod_oracle import SynodOracle
from distkit.sim.synods import SynodSystem
from distkit.sim.world import World


def forget(records: Iterable[Any], **arguments: Any) -> Synod:
    """A machine that has every record but its votes."""
    return recover([each for each in records if type(each) is not Voted], **arguments)


class Onlooker(Ledger):
    """Remembers the votes on all disks, and judges by S7 alone: at most one value is chosen."""

    def restarted(self, node: View) -> None:
        pass

    def stepped(self, node: View) -> None:
        pass

    def wrote(self, node: View, write: Write) -> None:
        pass

    def completed(self, node: View, write: Write) -> None:
        for record in write.records:
            self.disk[node.id].replay(record)
        self._choose()

    def left(self, node: View, target: int, message: Any) -> None:
        pass


class Forgetful(SynodSystem):
    """Synods of such nodes."""

    def __init__(self) -> None:
        super().__init__(forget)

    def oracle(self, world: World) -> SynodOracle:
        oracle = super().oracle(world)
        oracle.ledger = Onlooker(oracle.configuration, frozenset(oracle.nodes))
        return oracle
