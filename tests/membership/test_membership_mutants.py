"""Every rule of the membership is held by a test that fails when the rule is broken."""

import importlib
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from detector_mutants import DETECTORS, MODULES
from mutating import Mutant, load
from swim_mutants import SWIM


def ident(case):
    return case[1].name.replace(" ", "_")


def changed(module: str, mutant: Mutant) -> ModuleType:
    """A single module with the change."""
    original = importlib.import_module(f"distkit.membership.{module}")
    source = Path(original.__file__).read_text()
    assert source.count(mutant.old) == 1, f"mutant {mutant.name} no longer applies"
    copy = ModuleType(original.__name__)
    exec(compile(source.replace(mutant.old, mutant.new), original.__file__, "exec"), copy.__dict__)
    return copy


def fresh(monkeypatch, name):
    """A test module once more, with what it imports as it is now."""
    spec = spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def must_fail(monkeypatch, mutant):
    file, _, killer = mutant.killer.partition(".")
    fresh(monkeypatch, "swim_world")
    tests = fresh(monkeypatch, file)
    with pytest.raises((Exception, pytest.fail.Exception)):
        getattr(tests, killer)(**dict(mutant.arguments))


@pytest.mark.parametrize(("area", "mutant"), [*SWIM, *DETECTORS], ids=[ident(case) for case in (*SWIM, *DETECTORS)])
def test_the_test_of_a_rule_fails_once_the_rule_is_broken(area, mutant, monkeypatch):
    package = f"distkit.membership.{area}"
    broken = load(package, mutant)
    monkeypatch.setitem(sys.modules, package, broken)
    monkeypatch.setattr(f"distkit.membership.{area}", broken)
    for name, module in vars(broken).items():
        if isinstance(module, ModuleType) and f"{package}.{name}" in sys.modules:
            monkeypatch.setitem(sys.modules, f"{package}.{name}", module)
    must_fail(monkeypatch, mutant)


@pytest.mark.parametrize(("module", "mutant"), MODULES, ids=[ident(case) for case in MODULES])
def test_the_test_of_a_single_module_fails_once_it_is_broken(module, mutant, monkeypatch):
    monkeypatch.setitem(sys.modules, f"distkit.membership.{module}", changed(module, mutant))
    must_fail(monkeypatch, mutant)


@pytest.mark.parametrize(("area", "mutant"), [*SWIM, *DETECTORS], ids=[ident(case) for case in (*SWIM, *DETECTORS)])
def test_the_test_of_a_rule_passes_on_an_unchanged_copy(area, mutant, monkeypatch):
    """Else a mutant could be 'found' because the copy does not work, or because its arguments are wrong."""
    file, _, killer = mutant.killer.partition(".")
    fresh(monkeypatch, "swim_world")
    getattr(fresh(monkeypatch, file), killer)(**dict(mutant.arguments))
