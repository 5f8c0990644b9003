"""Every rule is held by a test that fails when the rule is broken."""

import importlib

import pytest
from mutants import MUTANTS
from mutation import Mutant, load

from distkit.sim.broken import Broken


def killer_of(mutant: Mutant):
    file, function = mutant.killer.split(".")
    return getattr(importlib.import_module(file), function)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "_"))
def test_the_test_of_a_rule_passes_and_fails_once_the_rule_is_broken(raft, mutant):
    test = killer_of(mutant)
    test(raft, **dict(mutant.arguments))
    mutated = load(mutant)
    with pytest.raises((AssertionError, Broken)):
        test(mutated, **dict(mutant.arguments))


def test_a_copy_without_a_change_passes_and_stands_apart_from_the_original(raft):
    copy = load()
    assert copy.Raft is not raft.Raft
    killer_of(MUTANTS[0])(copy)


@pytest.mark.parametrize("old", ["this text is nowhere", "return"])
def test_a_change_that_does_not_apply_exactly_once_is_an_error(old):
    with pytest.raises(AssertionError, match="no longer applies"):
        load(Mutant("wrong", "election", old, "pass", ""))
