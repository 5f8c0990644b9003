"""Bugs of single-decree Paxos that are put back are found by simulator or explorer."""

from __future__ import annotations

import pytest
from sim_copies import Patch, load
from sim_hunt import FAULTS_MAX, hunt, named
from synod_explored import EXPLORED, STATES_MAX
from synod_more_mutants import MORE
from synod_mutants import MUTANTS as SYNOD_MUTANTS
from synod_sim_mutants import MISUSE, RULES, SYNOD

from distkit.sim import drawn, run
from distkit.sim.explore import Cluster, search


def ids(mutant):
    return mutant.name.replace(" ", "_")


def test_a_copy_without_a_patch_runs_as_the_original_does():
    copy = load()
    assert copy.run(copy.drawn(3, "lite", "synod")).digest == run(drawn(3, "lite", "synod")).digest


@pytest.mark.parametrize("mutant", SYNOD, ids=ids)
def test_every_patch_still_applies(mutant):
    load(*mutant.patches)


def test_every_patch_of_the_bug_tables_is_caught_once():
    tables = {each.name: Patch(f"paxos.synod.{each.module}", each.old, each.new) for each in (*SYNOD_MUTANTS, *MORE)}
    simulated = {patch for mutant in RULES for patch in mutant.patches}
    explored = {tables[each.patch] for each in EXPLORED}
    assert len(simulated) + len(explored) == len(simulated | explored)
    assert simulated | explored == set(tables.values())


@pytest.mark.parametrize("mutant", EXPLORED, ids=ids)
def test_the_explorer_catches_what_no_run_shows_on_the_shortest_way(mutant):
    found = mutant.explore()
    assert found.broken is not None
    assert (found.broken.rule, len(found.path) - 1 + found.in_move) == (mutant.rule, mutant.moves)


WORLDS = {(each.world, each.bounds, each.options): each for each in EXPLORED}.values()


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.world.__name__)
def test_the_machine_that_ships_keeps_every_rule_in_the_worlds_of_the_mutants(world):
    assert search(Cluster(world.subject()), states_max=STATES_MAX).broken is None


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
