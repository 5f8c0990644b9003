"""Random schedules keep every invariant, and the same seed gives the same run, byte for byte, everywhere."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from schedule import Schedule

STEPS = 800
HERE = Path(__file__).parent


@pytest.mark.parametrize("block", range(10))
def test_invariants_hold_and_the_group_recovers_under_any_schedule(raft, block):
    for seed in range(block * 30, block * 30 + 30):
        Schedule(raft, seed, STEPS).heal()


def test_the_schedules_reach_every_mechanism(raft):
    seen = {"snapshots": 0, "elections": 0, "truncations": 0, "crashes": 0}
    for seed in range(20):
        schedule = Schedule(raft, seed, STEPS)
        seen["elections"] += len(schedule.cluster.ledger.leaders)
        for node in schedule.cluster.nodes.values():
            seen["crashes"] += node.boots - 1
            kinds = [type(record).__name__ for record in node.disk]
            seen["truncations"] += kinds.count("Truncate")
            seen["snapshots"] += any(getattr(record, "reset", False) for record in node.disk[1:])
    assert all(count >= 5 for count in seen.values()), seen


def transcript(raft, seed):
    """A hash of all that the machines of one run put out."""
    schedule = Schedule(raft, seed, STEPS, recording=True)
    return hashlib.sha256(repr(schedule.cluster.transcript).encode()).hexdigest()


def test_the_same_calls_give_the_same_outputs_in_every_process(raft):
    script = (
        "import distkit.raft, test_schedules; print(*[test_schedules.transcript(distkit.raft, s) for s in range(5)])"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=HERE,
            env=os.environ | {"PYTHONHASHSEED": seed, "DISTKIT_PURE": pure, "PYTHONPATH": str(HERE.parents[1])},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout.split()
        for seed, pure in (("1", "0"), ("2", "0"), ("3", "1"))
    ]
    assert outputs == [[transcript(raft, seed) for seed in range(5)]] * 3
