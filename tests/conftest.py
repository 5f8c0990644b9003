"""What holds for every test: fresh kernels, reproducible examples, and no silent skip of a real program in CI."""

import os
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

import distkit

KERNELS = Path(distkit.__file__).parent / "_fast"

# The same examples in every run: a red run is a red commit, never bad luck.
settings.register_profile("ci", derandomize=True, deadline=None, database=None, print_blob=True)
settings.load_profile("ci")


def stale_kernels(folder: Path) -> list[str]:
    """Names of compiled modules that are older than their source."""
    return sorted(
        compiled.name
        for source in folder.glob("*.pyx")
        for compiled in folder.glob(f"{source.stem}.*")
        if compiled.suffix in (".so", ".pyd") and compiled.stat().st_mtime < source.stat().st_mtime
    )


def pytest_configure() -> None:
    stale = stale_kernels(KERNELS) if distkit.COMPILED else []
    if stale:
        raise pytest.UsageError(f"older than its .pyx: {', '.join(stale)}; run `make build`")


def pytest_report_header() -> str:
    return f"distkit: {'compiled' if distkit.COMPILED else 'pure'} kernels"


@pytest.fixture
def raft() -> ModuleType:
    """The Raft under test: an argument of each test, so that a mutated copy can take its place (raft/mutation.py)."""
    return import_module("distkit.raft")


@pytest.fixture
def synod() -> ModuleType:
    """The synod under test, for the same reason (mutating.py)."""
    return import_module("distkit.paxos.synod")


@pytest.fixture
def program() -> Callable[[str], str]:
    """Find a program outside Python by name. Absent, it skips the test on a developer's machine and fails it in CI."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{name} is not installed; run `make system`")
        return path

    return find
