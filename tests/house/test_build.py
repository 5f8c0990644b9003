"""The build: what is refused, what falls back to pure, and what is in the packages that are shipped."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import stale_kernels

ROOT = Path(__file__).parents[2]
BUILD = "import sys, setuptools.build_meta as backend; print(getattr(backend, sys.argv[1])(sys.argv[2]))"


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def build(kind: str, source: Path, target: Path) -> Path:
    """Build an sdist or a pure wheel of the project in `source`."""
    result = run("-c", BUILD, f"build_{kind}", str(target), cwd=source, DISTKIT_BUILD="pure")
    assert result.returncode == 0, result.stderr
    return target / result.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution, built from a copy so that nothing is left in the work tree."""
    folder = tmp_path_factory.mktemp("sdist")
    tree = folder / "tree"
    tree.mkdir()
    for path in (*ROOT.glob("*.toml"), *ROOT.glob("*.py"), *ROOT.glob("*.md"), ROOT / "LICENSE", ROOT / "MANIFEST.in"):
        shutil.copy(path, tree)
    shutil.copytree(ROOT / "distkit", tree / "distkit", ignore=shutil.ignore_patterns("__pycache__"))
    with tarfile.open(build("sdist", tree, folder)) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # 3.11.4 and later have it
        archive.extractall(folder / "unpacked")
    (unpacked,) = (folder / "unpacked").iterdir()
    return unpacked


def test_the_source_distribution_holds_every_source_and_nothing_generated(sdist: Path) -> None:
    kinds = (".py", ".pyx", ".pxd", ".pyi", ".typed")
    expected = {path.relative_to(ROOT) for path in (ROOT / "distkit").rglob("*") if path.suffix in kinds}
    assert {path.relative_to(sdist) for path in (sdist / "distkit").rglob("*") if path.is_file()} == expected


def test_a_wheel_built_from_the_source_distribution_works_alone(sdist: Path, tmp_path: Path) -> None:
    wheel = build("wheel", sdist, tmp_path)
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    shipped = {path.relative_to(tmp_path / "site") for path in (tmp_path / "site" / "distkit").rglob("*.*")}
    kinds = (".py", ".pyi", ".typed")
    assert shipped == {path.relative_to(ROOT) for path in (ROOT / "distkit").rglob("*") if path.suffix in kinds}
    result = run("-c", "import distkit; print(distkit.COMPILED, distkit.__file__)", cwd=tmp_path / "site")
    assert result.stdout.split() == ["False", str(tmp_path / "site" / "distkit" / "__init__.py")]


def test_an_unknown_build_is_refused_by_name() -> None:
    result = run("setup.py", "--version", cwd=ROOT, DISTKIT_BUILD="fast")
    assert result.returncode == 1
    assert "DISTKIT_BUILD=fast: choose one of release, debug, trace, asan, pure" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows finds its compiler without PATH")
def test_without_a_compiler_the_build_says_that_it_is_pure() -> None:
    result = run("setup.py", "--version", cwd=ROOT, DISTKIT_BUILD="release", CC="no-such-compiler")
    assert result.returncode == 0
    assert "no C compiler found" in result.stdout


def test_a_compiled_module_older_than_its_source_is_stale(tmp_path: Path) -> None:
    for name, modified in (("codec.pyx", 20), ("codec.cpython-311.so", 10), ("quorum.pyx", 20), ("quorum.abi3.so", 20)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (modified, modified))
    assert stale_kernels(tmp_path) == ["codec.cpython-311.so"]
