"""Bugs that the simulator found, each as the scenario that shows it and the patch that puts it back.

A scenario runs without the generator of seeds, so it stays what it is when that changes. When the machines send
something else, it may lose its bite; `make soak` says so, and `python tests/sim/found_bugs.py NAME` makes it anew.
"""

import pytest
from found_bugs import DIRECTORY, FOUND, file_of
from sim_copies import load

from distkit.sim import run
from distkit.sim.scenario import from_json


@pytest.mark.parametrize("name", FOUND)
def test_what_once_broke_a_rule_breaks_none_now(name):
    outcome = run(from_json(file_of(name).read_text()))
    assert (outcome.rule, outcome.acknowledged > 0) == ("", True), outcome.text


@pytest.mark.soak
@pytest.mark.parametrize("name", FOUND)
def test_without_its_repair_it_breaks_the_rule_again(name):
    copy = load(*FOUND[name].patches)
    assert copy.run(copy.from_json(file_of(name).read_text())).rule == FOUND[name].rule


def test_every_scenario_file_belongs_to_a_bug():
    assert sorted(path.stem for path in DIRECTORY.glob("*.json")) == sorted(FOUND)
