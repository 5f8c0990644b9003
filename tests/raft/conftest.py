"""The Raft under test is an argument of every test, so that a mutated copy can take its place (`mutants.py`)."""

from types import ModuleType

import pytest

import distkit.raft


@pytest.fixture
def raft() -> ModuleType:
    return distkit.raft
