"""Every rule is held by a test that fails when the rule is broken, and every test of a rule has such a mutant."""

import importlib
import inspect

import pytest
from mutating import Mutant, load
from synod_more_mutants import MORE
from synod_mutants import MUTANTS

from distkit.core import LocalError
from distkit.sim.broken import Broken

ALL = (*MUTANTS, *MORE)
#: Tests of the tests, and of a module that is not part of the copies.
WITHOUT = {"test_the_oracle_of_these_tests_sees_two_values_chosen", "test_pitfall_28_ballots_have_limits"}


def killer_of(mutant: Mutant):
    file, function = mutant.killer.split(".")
    return getattr(importlib.import_module(file), function)


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name.replace(" ", "_"))
def test_the_test_of_a_rule_of_the_synod_passes_and_fails_once_the_rule_is_broken(synod, mutant):
    test = killer_of(mutant)
    test(synod, **dict(mutant.arguments))
    broken = load("distkit.paxos.synod", mutant, shared=("messages",))
    with pytest.raises((AssertionError, pytest.fail.Exception, LocalError, Broken)):
        test(broken, **dict(mutant.arguments))


@pytest.mark.parametrize(
    "file", ["test_simple_choosing", "test_simple_learning", "test_synod_pitfalls", "test_synod_limits"]
)
def test_every_statement_and_pitfall_has_a_mutant(file):
    tests = {name for name, _ in inspect.getmembers(importlib.import_module(file)) if name.startswith("test_")}
    killers = {mutant.killer.partition(".")[2] for mutant in ALL}
    assert tests - killers - WITHOUT == set()


def test_a_copy_without_a_change_passes_and_stands_apart_from_the_original(synod):
    copy = load("distkit.paxos.synod", shared=("messages",))
    assert copy.Synod is not synod.Synod
    killer_of(ALL[0])(copy)


@pytest.mark.parametrize("old", ["this text is nowhere", "return"])
def test_a_change_of_the_synod_that_does_not_apply_exactly_once_is_an_error(old):
    with pytest.raises(AssertionError, match="no longer applies"):
        load("distkit.paxos.synod", Mutant("wrong", "acceptor", old, "pass", ""), shared=("messages",))
