"""Bugs of single-decree Paxos that are put back are found by the simulator, or it is said why they can't be."""

from __future__ import annotations

import pytest
from sim_copies import Patch, load
from sim_hunt import FAULTS_MAX, hunt, named
from synod_more_mutants import MORE
from synod_mutants import MUTANTS as SYNOD_MUTANTS
from synod_sim_mutants import BLIND, MISUSE, RULES, SYNOD

from distkit.sim import drawn, run


def ids(mutant):
    return mutant.name.replace(" ", "_")


def test_a_copy_without_a_patch_runs_as_the_original_does():
    copy = load()
    assert copy.run(copy.drawn(3, "lite", "synod")).digest == run(drawn(3, "lite", "synod")).digest


@pytest.mark.parametrize("mutant", SYNOD, ids=ids)
def test_every_patch_still_applies(mutant):
    load(*mutant.patches)


def test_every_patch_of_the_bug_tables_is_caught_or_explained():
    caught = {patch for mutant in RULES for patch in mutant.patches}
    tables = {each.name: Patch(f"paxos.synod.{each.module}", each.old, each.new) for each in (*SYNOD_MUTANTS, *MORE)}
    blind = {tables[name] for name in BLIND}
    assert not caught & blind
    assert caught | blind == set(tables.values())


def test_what_caught_a_mutant_becomes_small():
    found = hunt(named("synod: 03 phase 1 counts by the quorums of phase 2"), tenth=True, shrink=True)
    assert found.rule in ("S4", "S6", "S7")
    assert len(found.small.faults) + len(found.small.script) <= FAULTS_MAX


@pytest.mark.parametrize("mutant", MISUSE[:4], ids=ids)
def test_a_driver_that_forgets_its_duty_is_caught(mutant):
    assert hunt(mutant, tenth=True).rule


@pytest.mark.process
@pytest.mark.parametrize("mutant", SYNOD, ids=ids)
def test_a_mutant_is_caught_within_a_tenth_of_its_seeds(mutant):
    assert hunt(mutant, tenth=True).rule
