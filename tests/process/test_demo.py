"""The demo, as `make demo` and `make demo-lie` run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from servers import ROOT

pytestmark = pytest.mark.process


def demo(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples" / "demo.py"), f"--picture={tmp_path / 'demo.svg'}", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def test_everything_holds_and_there_is_a_picture(tmp_path: Path) -> None:
    done = demo(tmp_path, "--seconds=6", "--clients=4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every acknowledged write is there" in done.stdout
    assert "kill -9" in (tmp_path / "demo.svg").read_text()


def test_servers_that_acknowledge_before_commit_are_caught(tmp_path: Path) -> None:
    done = demo(tmp_path, "--seconds=6", "--clients=4", "--lie")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "no order has a place for" in done.stdout.replace("\n", " ")
