"""Every rule is held by a test that fails when the rule is broken."""

import importlib

import pytest
from mutating import Mutant, load
from synod_mutants import MUTANTS

PACKAGE = "distkit.paxos.synod"


def broken(mutant: Mutant):
    """The synod with this rule broken. Messages stay the same classes."""
    return load(PACKAGE, mutant, shared=("messages",))


def killer_of(mutant: Mutant):
    file, function = mutant.killer.split(".")
    return getattr(importlib.import_module(file), function)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "_"))
def test_the_test_of_a_rule_of_the_synod_passes_and_fails_once_the_rule_is_broken(synod, mutant):
    test = killer_of(mutant)
    test(synod, **dict(mutant.arguments))
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test(broken(mutant), **dict(mutant.arguments))
