"""The layers of the package and the purity of its machines, held by walking every import.

Packages import only from layers below their own, never from a sibling. Machines read no clock, draw no randomness of
their own and do no I/O; that is what lets the simulator and the real node run the very same code.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import distkit

PACKAGE = Path(distkit.__file__).parent

LAYERS: list[set[str]] = [
    {"core"},
    {"_fast"},
    {"quorum", "codec"},
    {"log"},
    {"raft", "paxos", "lease", "balance", "membership", "model"},
    {"replica"},
    {"sim", "storage", "transport"},
    {"node"},
    {"blocking"},
    {"cli"},
    {"__init__", "__main__"},
]
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}

# What is proven must not depend on what ships, nor the other way round: both stand on the same replica.
PROOF, SHIPPED = {"sim"}, {"storage", "transport", "node", "blocking"}

MACHINES = set().union(*LAYERS[: LAYER["replica"] + 1])
IMPURE = {
    *{"asyncio", "concurrent", "ctypes", "datetime", "multiprocessing", "os", "pathlib", "queue", "random"},
    *{"secrets", "select", "selectors", "shutil", "signal", "socket", "subprocess", "tempfile", "threading", "time"},
    "uuid",
}
# The one switch between compiled and pure kernels reads the environment, once, at import.
EXEMPT = {("distkit._fast", "os")}


def imports(tree: ast.AST, module: str) -> Iterator[tuple[str, bool]]:
    """Every imported module with its full name, and whether only the type checker sees the import."""
    for_types = {
        id(inner)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for statement in block.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in for_types
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[: -node.level], *filter(None, [base])])
            # `from distkit import raft` names a package of ours only in its second half.
            for alias in node.names:
                yield f"{base}.{alias.name}" if base == "distkit" else base, id(node) in for_types


def allowed(package: str, other: str) -> bool:
    """Whether a package of ours may import another one."""
    if package == other:
        return True
    pair = {package, other}
    return LAYER[other] < LAYER[package] and not (pair & PROOF and pair & SHIPPED)


def violations(module: str, source: str) -> list[str]:
    """What the source of a module (full name, packages as `package.__init__`) may not do where it stands."""
    package = module.split(".")[1]
    if package not in LAYER:
        return [f"{module}: {package} has no place in LAYERS"]
    tree = ast.parse(source)
    found = []
    for target, for_types in imports(tree, module):
        root, _, rest = target.partition(".")
        other = rest.partition(".")[0] or "__init__"
        pure = package in MACHINES and (module.removesuffix(".__init__"), root) not in EXEMPT
        if root == "distkit" and (other not in LAYER or not allowed(package, other)):
            found.append(f"{module}: imports {target}, which is not below {package}")
        elif root == "trio" and package not in SHIPPED:
            found.append(f"{module}: imports {target}, which only {', '.join(sorted(SHIPPED))} may")
        elif root in IMPURE and pure and not (root == "random" and for_types):
            hint = " (a Random is passed in: import it under TYPE_CHECKING)" if root == "random" else ""
            found.append(f"{module}: imports {target}, and machines are pure{hint}")
    if package in MACHINES:
        found += [
            f"{module}:{node.lineno}: calls {node.func.id}(), which differs from run to run"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("id", "hash")
        ]
    return found


def readable(path: Path) -> str:
    """Python source as it is; of Cython source only the imports, in Python's words."""
    source = path.read_text()
    if path.suffix in (".py", ".pyi"):
        return source
    lines = re.findall(r"^\s*((?:from\s+[\w.]+\s+)?c?import\s+[\w.]+)", source, re.MULTILINE)
    return "\n".join(line.replace("cimport", "import") for line in lines)


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py*")):
        if path.suffix in (".py", ".pyi", ".pyx"):
            yield ".".join(["distkit", *path.relative_to(PACKAGE).with_suffix("").parts]), path


def test_every_module_keeps_to_its_layer() -> None:
    assert [line for module, path in modules() for line in violations(module, readable(path))] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("distkit.core.records", "import distkit._fast"),
        ("distkit.core.records", "from distkit import raft"),
        ("distkit.core.records", "from .. import raft"),
        ("distkit.core.records", "from ..raft import state"),
        ("distkit.core.__init__", "from ..raft import state"),
        ("distkit.core.records", "def late():\n    import distkit.raft"),
        ("distkit.core.records", "import distkit"),
        ("distkit.core.records", "from distkit import StateMachine"),
        ("distkit.raft.machine", "from distkit.paxos import synod"),
        ("distkit.quorum.majority", "import distkit.codec"),
        ("distkit.codec.frames", "from distkit.quorum import committed"),
        ("distkit.log.window", "import distkit.raft"),
        ("distkit.replica.core", "import distkit.storage"),
        ("distkit.sim.world", "import distkit.node"),
        ("distkit.sim.world", "import distkit.storage"),
        ("distkit.storage.disk", "import distkit.transport"),
        ("distkit.storage.disk", "import distkit.sim"),
        ("distkit.node.replica", "from distkit.sim import network"),
        ("distkit.blocking", "from distkit.sim import network"),
        ("distkit.node.replica", "from distkit import blocking"),
        ("distkit.sim.world", "import trio"),
        ("distkit.cli.wal", "from trio import run"),
        ("distkit.raft.machine", "import time"),
        ("distkit.raft.machine", "import os.path"),
        ("distkit.raft.machine", "from random import Random"),
        ("distkit.raft.machine", "if TYPE_CHECKING:\n    import x\nelse:\n    import random"),
        ("distkit._fast.pure.codec", "import os"),
        ("distkit._fast.__init__", "import time"),
        ("distkit.log.window", "def f(x):\n    return id(x)"),
        ("distkit.lease.tree", "key = hash('name')"),
        ("distkit.helpers.things", ""),
    ],
)
def test_a_planted_violation_is_found(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("distkit._fast.codec", "from distkit.core.errors import PeerError"),
        ("distkit._fast.__init__", "import os"),
        (
            "distkit.raft.machine",
            "from distkit._fast import quorum\nfrom distkit.log import window\nfrom . import messages",
        ),
        ("distkit.raft.machine", "if TYPE_CHECKING:\n    from random import Random"),
        ("distkit.raft.machine", "class Member:\n    id: int\n    def __hash__(self) -> int: ..."),
        ("distkit.sim.world", "import distkit.replica\nimport random"),
        ("distkit.node.replica", "import trio, time\nfrom distkit import replica, storage, transport"),
        ("distkit.blocking", "import trio\nfrom distkit.node import open_replica"),
        ("distkit.cli.wal", "import distkit.sim, distkit.node, os"),
        ("distkit.__init__", "from distkit.core import StateMachine"),
    ],
)
def test_what_the_layers_allow_is_allowed(module: str, source: str) -> None:
    assert violations(module, source) == []


def test_the_imports_of_cython_sources_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "codec.pyx"
    path.write_text("cimport cython\nfrom distkit.raft cimport state\ncdef int x = 1\n")
    assert readable(path) == "import cython\nfrom distkit.raft import state"
