"""Known bugs of single-decree Paxos, put back one at a time: does a simulation find them?

`MISUSE` breaks a duty of the driver. `RULES` are the patches that ship with the tests of the synod (`tests/paxos`): of
each statement of "Paxos Made Simple" and of each pitfall. Those of `EXPLORED` are caught by the explorer instead.
"""

from __future__ import annotations

from sim_copies import Patch
from sim_mutants import SimMutant
from synod_explored import EXPLORED
from synod_more_mutants import MORE
from synod_mutants import MUTANTS as SYNOD_MUTANTS


def _misuse(name: str, seeds: int, *patches: tuple[str, str, str], profile: str = "lite") -> SimMutant:
    return SimMutant(f"synod: {name}", "D", seeds, tuple(Patch(*patch) for patch in patches), profile, machine="synod")


_SUBMIT = "        self.disk.submit(write)\n"
_BOOT = "world.system.boot(self, records, self._now())"
_FORGETS = "world.system.boot(self, [each for each in records if type(each).__name__ != {name!r}], self._now())"

MISUSE = (
    _misuse(
        "promises and votes leave before they are durable",
        100,
        ("sim.host", _SUBMIT, "        self._release(write)\n" + _SUBMIT),
    ),
    _misuse(
        "a write counts before it is durable",
        300,
        (
            "sim.host",
            _SUBMIT,
            _SUBMIT + "        boot = self.boots\n"
            "        self.world.timeline.after(0, self.world.WORK, self.id, lambda: self._early(write.token, boot))\n",
        ),
        (
            "sim.host",
            "    def start_disk(self) -> None:\n",
            "    def _early(self, token: int, boot: int) -> None:\n"
            "        if self.up and self.boots == boot and not self.paused:\n"
            "            self.input('persisted', token)\n\n"
            "    def start_disk(self) -> None:\n",
        ),
    ),
    _misuse("the promise is forgotten at a restart", 100, ("sim.host", _BOOT, _FORGETS.format(name="Promised"))),
    _misuse("the vote is forgotten at a restart", 100, ("sim.host", _BOOT, _FORGETS.format(name="Voted"))),
    _misuse("the decision is forgotten at a restart", 100, ("sim.host", _BOOT, _FORGETS.format(name="Decided"))),
    _misuse(
        "a ballot is used again after a restart, and nobody looks at what a restart recovers",
        100,
        ("sim.host", _BOOT, _FORGETS.format(name="Promised")),
        ("sim.synod_oracle", "        self.ledger.restarted(node)\n", "        pass\n"),
    ),
    _misuse(
        "a vote is forgotten at a restart, and nobody looks at what a restart recovers",
        400,
        ("sim.host", _BOOT, _FORGETS.format(name="Voted")),
        ("sim.synod_oracle", "        self.ledger.restarted(node)\n", "        pass\n"),
    ),
    _misuse(
        "a wiped node comes back under its old id",
        400,
        (
            "sim.faults",
            '        host.barred = "its disk was wiped"\n        self.world.system.wiped(self.world, host)\n',
            "        host.disk = self.world.system.host(self.world, host.id).disk\n        self._start(host)\n",
        ),
    ),
    _misuse(
        "the log says that it is synced and is not",
        200,
        ("sim.disks", "        self._log.sync()\n", ""),
        profile="swarm",
    ),
)

#: What is not caught within forty lite seeds needs another profile, or more seeds.
_NEEDS = {
    "the back-off is the same for everybody": ("lite", 4000),
    "the back-off does not grow": ("lite", 2000),
    "P1b a repeated prepare is refused": ("lite", 10_000),
    "08 a promise of any ballot counts": ("lite", 1000),
    "P1 a vote needs a promise of the same ballot": ("lite", 2000),
    "an acceptor ignores in silence": ("lite", 8000),
    "18 a wiped node is heard": ("lite", 1000),
    "nothing is sent again": ("five", 1000),
    "20 equal bytes win": ("five", 400),
    "20 equal bytes win after the decision": ("five", 400),
    "P2c the first vote reported wins, not the highest": ("five", 1000),
    "P2c the last vote reported wins, not the highest": ("five", 1000),
    "a refused proposer goes on": ("five", 2000),
    "07 a ballot is used for every attempt": ("five", 2000),
    "08 a vote at any ballot counts": ("five", 3000),
    "09 a decision confirms the own vote": ("five", 3000),
}

_EXPLORED = {each.patch for each in EXPLORED}

RULES = tuple(
    SimMutant(
        f"synod: {each.name}",
        "S",
        _NEEDS.get(each.name, ("lite", 400))[1],
        (Patch(f"paxos.synod.{each.module}", each.old, each.new),),
        _NEEDS.get(each.name, ("lite", 400))[0],
        machine="synod",
    )
    for each in {(each.module, each.old, each.new): each for each in (*MORE, *SYNOD_MUTANTS)}.values()
    if each.name not in _EXPLORED
)

SYNOD = (*MISUSE, *RULES)
