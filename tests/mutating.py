"""Copies of a package with pieces of its source replaced, to stand beside the original.

A mutant replaces one piece of the source text of one module. The whole package is then imported once more under
another name, so the real one stays as it is. A piece that is no longer found exactly once is an error.
"""

from __future__ import annotations

import ast
import importlib
import sys
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_loader
from itertools import count
from pathlib import Path
from types import ModuleType

_numbers = count(1)


@dataclass(frozen=True)
class Mutant:
    """`module` of the package with `old` replaced by `new` fails the test `killer` (file.function, with arguments)."""

    name: str
    module: str
    old: str
    new: str
    killer: str
    arguments: tuple[tuple[str, object], ...] = ()


class _Copy(MetaPathFinder, Loader):
    """Imports the package under another name, with some modules changed."""

    def __init__(self, package: str, alias: str, mutants: tuple[Mutant, ...]) -> None:
        self.package = package
        self.alias = alias
        self.mutants = mutants

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != self.alias and not name.startswith(self.alias + "."):
            return None
        original = find_spec(self.package + name[len(self.alias) :])
        if original is None:
            return None
        package = original.submodule_search_locations is not None
        return spec_from_loader(name, self, origin=original.origin, is_package=package)

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None
        assert spec.origin is not None
        source = Path(spec.origin).read_text()
        short = module.__name__[len(self.alias) + 1 :]
        for mutant in self.mutants:
            if mutant.module == short:
                found = source.count(mutant.old)
                assert found == 1, f"mutant {mutant.name} no longer applies: its text is {found} times in {short}.py"
                source = source.replace(mutant.old, mutant.new)
        tree = ast.parse(source, spec.origin)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and (node.module + ".").startswith(self.package + "."):
                node.module = self.alias + node.module[len(self.package) :]
        exec(compile(tree, spec.origin, "exec"), module.__dict__)


def load(package: str, *mutants: Mutant, shared: tuple[str, ...] = ()) -> ModuleType:
    """A copy of the package with these changes. Its `shared` modules are those of the original, classes and all."""
    alias = f"mutated_{package.replace('.', '_')}_{next(_numbers)}"
    finder = _Copy(package, alias, mutants)
    sys.meta_path.insert(0, finder)
    for name in shared:
        sys.modules[f"{alias}.{name}"] = importlib.import_module(f"{package}.{name}")
    try:
        return importlib.import_module(alias)
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.startswith(alias)]:
            del sys.modules[name]
