"""The synod under test is an argument of each test, so that a mutated copy can take its place (tests/mutation.py)."""

from importlib import import_module
from types import ModuleType

import pytest


@pytest.fixture
def synod() -> ModuleType:
    return import_module("distkit.paxos.synod")
