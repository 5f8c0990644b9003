"""Rules of the house that a reviewer would otherwise have to remember."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from test_layers import LAYER, MACHINES

ROOT = Path(__file__).parents[2]
LINES_MAX = 700
SHIPPED = ("distkit", "examples")


def sources(*folders: str) -> list[Path]:
    """Python and Cython sources of ours; folders that begin with a dot hold what others wrote."""
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py*") if path.suffix in (".py", ".pyx")]
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(ROOT).parts))


def dangers(source: str) -> list[str]:
    """Ways to run code that came as data: unpickling, eval, a shell."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in ("pickle", "marshal", "shelve")]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("pickle", "marshal", "shelve"):
            found.append(str(node.module))
        elif isinstance(node, ast.Call):
            if ast.unparse(node.func) in ("eval", "exec", "os.system", "os.popen"):
                found.append(ast.unparse(node.func))
            found += ["shell" for word in node.keywords if word.arg == "shell" and ast.unparse(word.value) != "False"]
    return found


def test_no_file_is_too_long_to_read() -> None:
    lengths = {
        path: len(path.read_text().splitlines()) for path in sources("distkit", "examples", "benchmarks", "tests")
    }
    assert {str(path.relative_to(ROOT)): count for path, count in lengths.items() if count > LINES_MAX} == {}


def test_nothing_runs_code_that_came_as_data() -> None:
    python = [path for path in sources(*SHIPPED) if path.suffix == ".py"]
    assert {str(path.relative_to(ROOT)): found for path in python if (found := dangers(path.read_text()))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from marshal import loads",
        "eval('1')",
        "exec(text)",
        "os.system('ls')",
        "subprocess.run('ls', shell=True)",
    ],
)
def test_a_planted_danger_is_found(source: str) -> None:
    assert len(dangers(source)) == 1


def test_machines_work_where_trio_is_absent() -> None:
    present = [name for name in sorted(MACHINES, key=lambda name: LAYER[name]) if (ROOT / "distkit" / name).is_dir()]
    assert "core" in present
    blocked = "import sys; sys.modules['trio'] = None; import distkit, " + ", ".join(
        f"distkit.{name}" for name in present
    )
    subprocess.run([sys.executable, "-c", blocked], check=True, timeout=60)
