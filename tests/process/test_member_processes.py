"""The demonstration of SWIM, as a person runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from servers import ROOT

pytestmark = pytest.mark.process

PROGRAM = [sys.executable, str(ROOT / "examples" / "members.py")]


def test_three_processes_see_each_other_and_one_that_is_killed_is_reported() -> None:
    done = subprocess.run(PROGRAM, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    killed = next(number for number, line in enumerate(lines) if line.startswith("c is killed"))
    dead = [number for number, line in enumerate(lines) if line.endswith("c is dead")]
    assert len(dead) >= 2
    assert min(dead) > killed
    assert lines[-1] == "everyone saw everything"


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(bytes(32))
    key.chmod(0o644)
    done = subprocess.run(
        [*PROGRAM, "--name=a", f"--key={key}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "chmod 600" in done.stderr


def test_beyond_loopback_a_key_is_needed() -> None:
    done = subprocess.run(
        [*PROGRAM, "--name=a", "--listen=0.0.0.0:0"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "key" in done.stderr
