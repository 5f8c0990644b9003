"""The demonstration of single-decree Paxos, as a person runs it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from servers import ROOT

pytestmark = pytest.mark.process


@pytest.mark.parametrize("seed", range(3))
def test_three_processes_agree_while_one_is_killed(seed: int) -> None:
    command = [sys.executable, str(ROOT / "examples" / "choose.py"), f"--seed={seed}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("all 3 nodes agree on ")
    assert sum("is killed (SIGKILL" in line for line in lines) == 1
    assert sum("proposes" in line for line in lines) >= 3


def test_a_node_alone_needs_to_know_the_others() -> None:
    command = [sys.executable, str(ROOT / "examples" / "choose.py"), "--node=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "--members" in done.stderr
