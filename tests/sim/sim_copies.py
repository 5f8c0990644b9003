"""The simulator and everything of the project that runs in it, once more, with pieces of the source replaced.

Packages of `PACKAGES` are imported anew under another name, one copy at a time, so the real ones stay as they are. The
rest (records, codec, kernels) is shared. A piece that is not found exactly once is an error.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_loader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from distkit.core import LocalError

PACKAGES = ("log", "raft", "paxos", "replica", "sim")
_ALIAS = "mutated_distkit"
#: Compiled modules that no patch touches, as every copy has them.
_unpatched: dict[str, CodeType] = {}


@dataclass(frozen=True)
class Patch:
    """In `module` (such as "raft.election") `old` is replaced by `new`."""

    module: str
    old: str
    new: str


@dataclass(frozen=True)
class Copy:
    """The doors of a copy of `distkit.sim`."""

    drawn: Callable[..., Any]
    run: Callable[..., Any]
    Shrinker: Callable[..., Any]
    from_json: Callable[[str], Any]


class _Copier(MetaPathFinder, Loader):
    def __init__(self, patches: tuple[Patch, ...]) -> None:
        self.patches = {patch.module: [each for each in patches if each.module == patch.module] for patch in patches}

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if not name.startswith(_ALIAS + "."):
            return None
        original = find_spec("distkit" + name[len(_ALIAS) :])
        if original is None:
            return None
        package = original.submodule_search_locations is not None
        return spec_from_loader(name, self, origin=original.origin, is_package=package)

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__[len(_ALIAS) + 1 :]
        assert module.__spec__ is not None
        assert module.__spec__.origin is not None
        file = Path(module.__spec__.origin)
        patches = self.patches.pop(name, [])
        if not patches and name in _unpatched:
            code = _unpatched[name]
        else:
            source = file.read_text()
            for patch in patches:
                source = _patched(patch, source)
            code = compile(_redirected(ast.parse(source, str(file))), str(file), "exec")
            if not patches:
                _unpatched[name] = code
        exec(code, module.__dict__)


def load(*patches: Patch) -> Copy:
    """A copy with these patches. It holds until the next is loaded. LocalError: a patch does not apply any more."""
    for name in [name for name in sys.modules if name.split(".")[0] == _ALIAS]:
        del sys.modules[name]
    root = ModuleType(_ALIAS)
    root.__path__ = []
    sys.modules[_ALIAS] = root
    copier = _Copier(patches)
    sys.meta_path.insert(0, copier)
    try:
        simulation = importlib.import_module(f"{_ALIAS}.sim.simulation")
        shrink = importlib.import_module(f"{_ALIAS}.sim.shrink")
        scenario = importlib.import_module(f"{_ALIAS}.sim.scenario")
    finally:
        sys.meta_path.remove(copier)
    if copier.patches:
        raise LocalError(f"no run needs the modules {', '.join(copier.patches)}, which were to be patched")
    return Copy(simulation.drawn, simulation.run, shrink.Shrinker, scenario.from_json)


def _patched(patch: Patch, source: str) -> str:
    found = source.count(patch.old)
    if found != 1:
        raise LocalError(f"the patch no longer applies: this text is {found} times in {patch.module}: {patch.old!r}")
    return source.replace(patch.old, patch.new)


def _redirected(tree: ast.Module) -> ast.Module:
    """Imports of copied packages come from the copy."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("distkit."):
            rest = node.module.removeprefix("distkit")
            if rest.split(".")[1] in PACKAGES:
                node.module = _ALIAS + rest
    return tree
