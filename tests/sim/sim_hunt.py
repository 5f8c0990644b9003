"""Run the seeds of a mutant until one breaks a rule, and make what broke it small; or explore its world."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

from sim_copies import Copy, load
from sim_mutants import MUTANTS as REPLICA_MUTANTS
from sim_mutants import PROOF, SimMutant
from synod_explored import EXPLORED, Explored
from synod_sim_mutants import SYNOD

MUTANTS = (*REPLICA_MUTANTS, *SYNOD, *EXPLORED)

#: The shrunk scenario of a mutant has at most so many faults, those of messages included.
FAULTS_MAX = 12
_SHRINK_RUNS_MAX = 600


@dataclass(frozen=True)
class Hunt:
    """How it went: `rule` is "" if the mutant escaped; else `seed`, the `runs`th one, broke that rule. Of a world that
    was explored, `runs` are the moves to there."""

    mutant: SimMutant | Explored
    rule: str
    text: str = ""
    seed: int = 0
    runs: int = 0
    small: Any = None  #: the scenario after shrinking

    def line(self) -> dict[str, Any]:
        """The same for machines."""
        mutant, small = self.mutant, self.small
        line = {"name": mutant.name, "kind": mutant.kind, "profile": mutant.profile, "seeds": mutant.seeds}
        line |= {"rule": self.rule, "text": self.text, "seed": self.seed, "runs": self.runs}
        if small is not None:
            line |= {"nodes": small.nodes, "faults": len(small.faults), "calls": len(small.calls)}
            line |= {"strikes": len(small.script or ()), "scenario": small.to_json()}
        return line


def named(name: str) -> SimMutant | Explored:
    """The mutant of this name."""
    return next(mutant for mutant in (*MUTANTS, *PROOF) if mutant.name == name)


def hunt(mutant: SimMutant | Explored, *, tenth: bool = False, shrink: bool = False) -> Hunt:
    """Run all seeds that the mutant is allowed, or the first tenth of them, until it is caught; or explore."""
    if isinstance(mutant, Explored):
        found = mutant.explore()
        if found.broken is None:
            return Hunt(mutant, "")
        return Hunt(mutant, found.broken.rule, str(found.broken), runs=len(found.path) - 1 + found.in_move)
    if mutant in PROOF:
        return _hunt_proof(mutant)
    copy = load(*mutant.patches)
    found = _first(copy, mutant, ceil(mutant.seeds / 10) if tenth else mutant.seeds)
    if not found.rule or not shrink:
        return found
    scenario = copy.drawn(found.seed, mutant.profile, mutant.machine)
    small = copy.Shrinker(copy.run, runs_max=_SHRINK_RUNS_MAX).shrink(scenario)
    return Hunt(mutant, found.rule, found.text, found.seed, found.runs, small)


def _first(copy: Copy, mutant: SimMutant, seeds: int) -> Hunt:
    for seed in range(seeds):
        outcome = copy.run(copy.drawn(seed, mutant.profile, mutant.machine))
        if outcome.failed:
            return Hunt(mutant, outcome.rule, outcome.text, seed, seed + 1)
    return Hunt(mutant, "", runs=seeds)


def _hunt_proof(mutant: SimMutant) -> Hunt:
    """A mutant of the proof shows in runs of the project that fail, in a mark that is missing, or in a mutant that
    escapes."""
    if mutant.mark:
        copy = load(*mutant.patches)
        for seed in range(mutant.seeds):
            if mutant.mark in copy.run(copy.drawn(seed, mutant.profile, mutant.machine)).marks:
                return Hunt(mutant, "", runs=seed + 1)
        return Hunt(mutant, "coverage", f"this never happens any more: {mutant.mark}", runs=mutant.seeds)
    if not mutant.sentinel:
        return _first(load(*mutant.patches), mutant, mutant.seeds)
    sentinel = named(mutant.sentinel)
    found = _first(load(*mutant.patches, *sentinel.patches), mutant, mutant.seeds)
    if found.rule:
        return Hunt(mutant, "", runs=found.runs)
    return Hunt(mutant, "calibration", f"this mutant escapes: {sentinel.name}", runs=mutant.seeds)
