"""Random schedules keep every invariant, and the same seed gives the same run, byte for byte, everywhere."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mutants import MUTANTS
from mutation import load
from schedule import Schedule

from distkit.sim.broken import Broken

STEPS = 800
HERE = Path(__file__).parent


def run(raft, seeds):
    for seed in seeds:
        Schedule(raft, seed, STEPS).heal()


@pytest.mark.parametrize("block", range(10))
def test_invariants_hold_and_the_group_recovers_under_any_schedule(raft, block):
    run(raft, range(block * 30, block * 30 + 30))


@pytest.mark.soak
@pytest.mark.parametrize("block", range(100))
def test_invariants_hold_over_ten_thousand_schedules(raft, block):
    run(raft, range(1000 + block * 100, 1100 + block * 100))


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


#: Broken rules that random schedules alone must find, so that the schedules and the ledger prove something.
FOUND = [
    "02 half of the voters is a quorum for commit",
    "02 the own entries count before they are durable",
    "05 an append truncates what follows it, conflict or not",
    "05 the term of the entry before is not compared",
    "07 the vote is not written when only the vote changed",
    "07 the vote is forgotten at a restart",
    "09 the longer log wins whatever its term",
    "17 reads do not wait for a commit of the own term",
    "18 reads join the round under way",
    "18 questions of a follower have the same position",
    "25 a peer below the log gets nothing",
    "29 what is flushed does not fall with a truncation",
    "30 a completion stands for its own write only",
    "31 the commit index goes before the truncation and the snapshot that it speaks of",
    "32 entries that were removed later are replayed",
    "a message of the same term clears the vote",
    "a read is answered without asking a quorum",
    "a repeated append is acknowledged while its first write is in flight",
    "appends are acknowledged before they are durable",
    "committed entries are delivered before they are durable here",
    "pre-votes count as votes",
]


@pytest.mark.parametrize("name", FOUND)
def test_the_schedules_find_a_broken_rule(name):
    (mutant,) = [mutant for mutant in MUTANTS if mutant.name == name]
    broken = load(mutant)
    with pytest.raises(Broken):
        run(broken, range(300))  # the rarest is found by the 200th


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
