"""The simulator of SWIM groups: what it promises about time, chance, loss and stalls; and what it shows of SWIM."""

import math
from dataclasses import replace

import pytest

from distkit.core import LocalError
from distkit.membership.swim import SwimOptions, plain
from distkit.membership.swim.formulas import suspicion_min
from distkit.sim.swims import Stall, SwimScenario, run_swim, stalls


def test_the_same_scenario_gives_the_same_outcome_and_another_seed_another():
    scenario = SwimScenario(nodes=30, seconds=30.0, loss=0.05, crashes=((3, 10.0),), stalls=stalls(1, 30, 3, 2, 1, 25))
    assert run_swim(scenario) == run_swim(scenario)
    assert run_swim(replace(scenario, seed=2)) != run_swim(scenario)


@pytest.mark.parametrize("nodes", [20, 200])
def test_at_rest_a_member_sends_two_messages_a_period_however_many_there_are(nodes):
    short, long = (run_swim(SwimScenario(nodes=nodes, seconds=seconds)).messages for seconds in (20.0, 40.0))
    assert (long - short) / nodes / 20 == pytest.approx(2.0, abs=0.15)  # comparing tables comes on top


@pytest.mark.parametrize("nodes", [16, 100])
def test_a_crash_is_suspected_within_periods_and_known_to_all_after_the_shortest_suspicion(nodes):
    outcome = run_swim(SwimScenario(nodes=nodes, seconds=60.0, crashes=((3, 10.0), (5, 20.0))))
    shortest = suspicion_min(4, nodes, 1.0)
    for suspected, detected, known in zip(outcome.suspected, outcome.detected, outcome.known, strict=True):
        assert 0.5 < suspected < 6.0
        assert shortest < detected < shortest + suspected + 3.0
        assert detected <= known < detected + 1.5
    assert (outcome.false_positives, outcome.suspicions) == (0, 0)


def test_what_never_happens_takes_for_ever():
    outcome = run_swim(SwimScenario(nodes=10, seconds=5.0, crashes=((3, 4.9),)))
    assert (outcome.suspected, outcome.detected, outcome.known) == ((math.inf,),) * 3


def test_lost_messages_cause_suspicions_and_no_deaths():
    calm = run_swim(SwimScenario(nodes=50, seconds=120.0, loss=0.0))
    lossy = run_swim(SwimScenario(nodes=50, seconds=120.0, loss=0.15))
    assert calm.suspicions == 0
    assert lossy.suspicions > 0
    assert lossy.false_positives == 0
    assert lossy.messages > calm.messages


def test_a_node_that_stalls_too_long_is_dead_for_the_others_and_comes_back():
    outcome = run_swim(SwimScenario(nodes=20, seconds=80.0, stalls=(Stall(4, 10.0, 20.0),)))
    assert outcome.suspicions >= 19
    assert outcome.false_positives_healthy == 0


def test_a_frozen_node_reads_what_has_come_in_before_it_judges():
    """One that goes on judging while it hears nothing suspects others; one that stands still does not."""
    hearing_nothing, frozen = (
        run_swim(SwimScenario(nodes=20, seconds=30.0, stalls=(Stall(4, 10.0, 2.9, frozen=frozen),)))
        for frozen in (False, True)
    )
    assert frozen.suspicions <= 20  # of the frozen one itself
    assert hearing_nothing.suspicions > frozen.suspicions


def test_lifeguard_takes_far_fewer_healthy_members_for_dead():
    """32 nodes, 4 of which hear nothing 16 of 17 seconds: the reduction that the paper claims is more than 50 times."""
    scenario = SwimScenario(nodes=32, seconds=120.0, stalls=stalls(1, 32, 4, 16.0, 1.0, 110.0))
    with_it = run_swim(scenario)
    without = run_swim(replace(scenario, options=plain(SwimOptions())))
    assert without.false_positives > 500
    assert with_it.false_positives * 50 < without.false_positives
    assert with_it.false_positives_healthy * 50 < without.false_positives_healthy
    assert with_it.messages < without.messages


@pytest.mark.parametrize(
    "values",
    [
        {"loss": 1.0},
        {"loss": -0.1},
        {"loss": math.nan},
        {"delay": (0.0, 0.1)},
        {"delay": (0.2, 0.1)},
        {"delay": (0.1, 1000.0)},
        {"nodes": 0},
        {"nodes": 5, "crashes": ((5, 1.0),)},
        {"nodes": 5, "stalls": (Stall(-1, 1.0, 1.0),)},
    ],
)
def test_scenarios_that_make_no_sense_are_refused(values):
    with pytest.raises(LocalError):
        SwimScenario(**values)


def test_slow_nodes_are_drawn_and_take_turns_with_pauses():
    found = stalls(3, 10, 4, 2.0, 1.0, 17.0)
    assert len({stall.node for stall in found}) == 4
    assert sorted({stall.begin for stall in found}) == [10.0, 13.0, 16.0]
    assert stalls(3, 10, 4, 2.0, 1.0, 17.0) == found != stalls(4, 10, 4, 2.0, 1.0, 17.0)
