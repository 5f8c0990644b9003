"""Known bugs of single-decree Paxos, put back one at a time: does a simulation find them?

`MISUSE` breaks a duty of the driver. `RULES` are the patches that ship with the tests of the synod (`tests/paxos`): of
each statement of "Paxos Made Simple" and of each pitfall. `BLIND` names those that a simulation can't see, and why.
"""

from __future__ import annotations

from sim_copies import Patch
from sim_mutants import SimMutant
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

_SLOWER = "others are slower, or talk more, and all learn the decision all the same"
_OTHERS = "another proposer decides, and tells"
_FORMED = "a host starts with the configuration that its disk was formed with"
_HOST = "no driver gives what would make a difference"
_HONEST = "no proposer of a run sends two proposals at one ballot, or uses that of another"
_LIMIT = "no run comes near the limit"

#: Name of the patch -> why.
BLIND = {
    "P1b a repeated prepare is refused": _SLOWER,
    "P1b a prepare is promised again after the vote": _SLOWER,
    "P1 a vote needs a promise of the same ballot": _SLOWER,
    "an acceptor ignores in silence": _SLOWER,
    "nobody tells the other learners": _SLOWER,
    "a decision is not written": _SLOWER,
    "28 an empty decision is not written": _SLOWER,
    "a decided acceptor promises": _SLOWER,
    "the back-off is the same for everybody": _SLOWER,
    "the back-off does not grow": _SLOWER,
    "the back-off grows without end": _SLOWER,
    "everybody is asked again for a promise": _SLOWER,
    "everybody is asked again for a vote": _SLOWER,
    "only those who promised are asked to vote": _SLOWER,
    "a new connection is no reason to ask": _SLOWER,
    "22 votes are expected in order": _SLOWER,
    "06 accepts wait for the own vote": _SLOWER,
    "06 a completion stands for its own write only": _SLOWER,
    "06 a promise counts before the ballot is durable": "nobody can promise before the request left, behind that write",
    "06 a write repeats what waited for the one before": "its storm of messages takes minutes to count as one",
    "07 a refusal does not raise the ballot": _OTHERS,
    "P2c votes of an earlier attempt are reported for this one": "a vote that was seen before is as safe to propose",
    "08 a refusal of any ballot counts": _SLOWER,
    "08 messages of another configuration count": "all nodes of a run count by one configuration",
    "13 a node starts under another configuration": _FORMED,
    "13 quorums are no part of the configuration": _FORMED,
    "13 a directory may be formed twice": _FORMED,
    "13 how quorums are written is part of the configuration": _FORMED,
    "18 of two votes at a ballot one is forgotten": _HOST,
    "18 of two decisions one is forgotten": _HOST,
    "20 a proposal is another one at each ballot": "the ticket that won is told that it lost, and the value is right",
    "21 tickets without end": _LIMIT,
    "proposers use the ballots of others": _HONEST,
    "two proposals at a ballot are both voted for": _HONEST,
    "votes for two proposals at a ballot add up": _HONEST,
    "a full disk takes votes": "the disk of a run has room for one, or the node waits for it",
    "22 the vote that comes last replaces the others": _SLOWER,
    "28 rounds have no end": _LIMIT,
    "28 the last round is not used": _LIMIT,
    "28 what was never proposed is reported as lost": _LIMIT,
    "28 a ballot may jump to the end": _LIMIT,
    "28 values of any size are voted for": _LIMIT,
}

#: What is not caught within forty lite seeds needs another profile, or more seeds.
_NEEDS = {
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
    if each.name not in BLIND
)

SYNOD = (*MISUSE, *RULES)
