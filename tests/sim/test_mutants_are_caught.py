"""The proof of the proof: bugs that are put back are found, and the copies they are put into are true ones."""

from __future__ import annotations

import pytest
from sim_blind import BLIND, UNREACHABLE
from sim_copies import Patch, load
from sim_hunt import FAULTS_MAX, hunt, named
from sim_mutants import EVERY, MUTANTS, PROOF, RAFT_MUTANTS, RULES

from distkit.core import LocalError
from distkit.sim import drawn, run

FREQUENT = [mutant for mutant in MUTANTS if not mutant.rare]


def ids(mutant):
    return mutant.name.replace(" ", "_")


@pytest.mark.parametrize("seed", [3, 17])
def test_a_copy_without_a_patch_runs_as_the_original_does(seed):
    copy = load()
    assert copy.run is not run
    assert copy.run(copy.drawn(seed)).digest == run(drawn(seed)).digest


@pytest.mark.parametrize("mutant", [*EVERY, *PROOF], ids=ids)
def test_every_patch_still_applies(mutant):
    load(*mutant.patches)


@pytest.mark.parametrize("old", ["this text is nowhere", "return"])
def test_a_patch_that_does_not_apply_exactly_once_is_an_error(old):
    with pytest.raises(LocalError, match="no longer applies"):
        load(Patch("raft.election", old, "pass"))


def test_a_patch_of_a_module_that_no_run_needs_is_an_error():
    with pytest.raises(LocalError, match="no run needs"):
        load(Patch("sim.nowhere", "a", "b"))


def test_names_are_unique_and_every_patch_of_the_bug_tables_is_caught_or_explained():
    names = [mutant.name for mutant in (*EVERY, *PROOF)]
    assert len(names) == len(set(names))
    assert {mutant.name for mutant in RAFT_MUTANTS} == {mutant.name for mutant in RULES} | set(BLIND)
    assert not {mutant.name for mutant in RULES} & set(BLIND)
    assert set(UNREACHABLE) < set(names)


def test_what_caught_a_mutant_becomes_small():
    found = hunt(named("a forwarded frame that comes twice is proposed twice"), tenth=True, shrink=True)
    assert found.rule == "at most once"
    assert len(found.small.faults) + len(found.small.script) <= FAULTS_MAX


@pytest.mark.process
@pytest.mark.parametrize("mutant", FREQUENT, ids=ids)
def test_a_mutant_is_caught_within_a_tenth_of_its_seeds(mutant):
    assert hunt(mutant, tenth=True).rule


@pytest.mark.process
@pytest.mark.parametrize("mutant", PROOF, ids=ids)
def test_a_mutant_of_the_proof_is_noticed(mutant):
    assert hunt(mutant).rule


@pytest.mark.soak
@pytest.mark.parametrize("mutant", MUTANTS, ids=ids)
def test_a_mutant_is_caught_within_its_seeds(mutant):
    assert hunt(mutant).rule
