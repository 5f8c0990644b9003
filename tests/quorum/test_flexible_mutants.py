"""Every rule of the quorum systems is held by a test that fails when the rule is broken."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from flexible_mutants import MUTANTS
from mutating import load

import distkit.quorum


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "_"))
def test_the_test_of_a_rule_of_quorums_fails_once_the_rule_is_broken(mutant, monkeypatch):
    broken = load("distkit.quorum", mutant).flexible
    monkeypatch.setattr(distkit.quorum, "flexible", broken)
    monkeypatch.setitem(sys.modules, "distkit.quorum.flexible", broken)
    spec = spec_from_file_location("test_flexible_broken", Path(__file__).with_name("test_flexible.py"))
    tests = module_from_spec(spec)
    spec.loader.exec_module(tests)  # the same tests, of the broken copy
    with pytest.raises((AssertionError, pytest.fail.Exception, broken.QuorumError)):
        getattr(tests, mutant.killer)(**dict(mutant.arguments))
