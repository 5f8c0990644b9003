"""Random schedules keep every invariant, and the same seed gives the same run, byte for byte, everywhere."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mutating import load
from synod_mutants import MUTANTS
from synod_schedule import STEPS, Schedule

from distkit.sim.broken import Broken

LENGTH = 300
HERE = Path(__file__).parent


def run(synod, seeds):
    for seed in seeds:
        Schedule(synod, seed, LENGTH).heal()


@pytest.mark.parametrize("block", range(10))
def test_invariants_hold_and_everybody_learns_under_any_schedule(synod, block):
    run(synod, range(block * 50, block * 50 + 50))


@pytest.mark.soak
@pytest.mark.parametrize("block", range(100))
def test_invariants_hold_over_thirty_thousand_schedules(synod, block):
    run(synod, range(1000 + block * 300, 1300 + block * 300))


def test_pitfall_27_every_kind_of_step_and_message_takes_part(synod):
    fired, seen, chosen = dict.fromkeys(STEPS, 0), {}, set()
    for seed in range(30):
        schedule = Schedule(synod, seed, LENGTH)
        chosen.add(schedule.world.ledger.chosen is not None)
        for name, count in schedule.fired.items():
            fired[name] += count
        for name, count in schedule.world.ledger.seen.items():
            seen[name] = seen.get(name, 0) + count
    assert min(fired.values()) >= 2, fired
    assert len(seen) == len(synod.MESSAGES)
    assert min(seen.values()) >= 20, seen
    assert chosen == {True, False}


#: Broken rules that random schedules alone must find, so that the schedules and the ledger prove something.
FOUND = [
    "P1a a promise binds no vote",
    "P1a a vote at the promised ballot is refused",
    "P1b a lower prepare is promised",
    "P2 the own value is proposed whatever was voted for",
    "P2c the last vote reported wins, not the highest",
    "P2c the first vote reported wins, not the highest",
    "P2c promises of an earlier attempt count for this one",
    "a refused proposer goes on",
    "an acceptor ignores in silence",
    "learners do not ask",
    "a decision is not delivered after a restart",
    "a ballot is asked for again before it is durable",
    "03 messages are counted, not acceptors",
    "03 half is a quorum",
    "03 phase 1 counts by the quorums of phase 2",
    "03 phase 2 counts by the quorums of phase 1",
    "04 a vote leaves the promise where it is",
    "04 a vote does not count as a promise after a restart",
    "05 the promise is kept only where there is no vote",
    "05 the promise is written only where there is no vote",
    "06 a completion stands for every write",
    "06 a prepare leaves before its ballot is durable",
    "06 a promise leaves before it is durable",
    "06 a vote leaves before it is durable",
    "06 the own promise and vote count before they are durable",
    "06 the promise is forgotten at a restart",
    "06 the vote is forgotten at a restart",
    "07 a ballot is used for every attempt",
    "07 a proposer that is no acceptor remembers no ballot",
    "07 rounds come from memory",
    "08 a promise of any ballot counts",
    "08 votes at different ballots add up",
    "09 a later decision replaces the first",
    "09 votes go on deciding",
    "20 equal bytes win",
    "20 who completes a proposal makes it its own",
    "21 a decision ends no ticket",
    "24 one ballot for promise and vote",
]


@pytest.mark.parametrize("name", FOUND)
def test_the_schedules_find_a_broken_rule_of_the_synod(name):
    (mutant,) = [mutant for mutant in MUTANTS if mutant.name == name]
    synod = load("distkit.paxos.synod", mutant, shared=("messages",))
    with pytest.raises(Broken):
        run(synod, range(300))  # the rarest is found by the 79th


def transcript(synod, seed):
    """A hash of all that the machines of one run put out."""
    schedule = Schedule(synod, seed, LENGTH, recording=True)
    return hashlib.sha256(repr(schedule.world.transcript).encode()).hexdigest()


def test_the_same_calls_give_the_same_outputs_in_every_process(synod):
    script = (
        "from distkit.paxos import synod; import test_synod_schedules as t;"
        "print(*[t.transcript(synod, s) for s in range(5)])"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=HERE,
            env=os.environ
            | {
                "PYTHONHASHSEED": seed,
                "DISTKIT_PURE": pure,
                "PYTHONPATH": os.pathsep.join(map(str, (HERE.parents[1], HERE.parent))),
            },
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout.split()
        for seed, pure in (("1", "0"), ("2", "0"), ("3", "1"))
    ]
    assert outputs == [[transcript(synod, seed) for seed in range(5)]] * 3
