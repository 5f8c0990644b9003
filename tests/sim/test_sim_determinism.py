"""One seed is one run: in another process, with other hash seeds, compiled or pure, by reference or as bytes.

The digests of some seeds are pinned in `sim_digests.json`. They change with whatever a run does: machines, draws,
faults. After such a change write them anew with

    python tests/sim/test_sim_determinism.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_sim_users import machine, returning

from distkit.sim import drawn, run
from distkit.sim.replicas import ReplicaSystem

FILE = Path(__file__).with_name("sim_digests.json")
SEEDS = {"lite": range(20), "swarm": range(3)}


def digests(profile: str, hash_seed: str, pure: str, tmp_path: Path) -> dict[str, str]:
    """What another process says."""
    lines = tmp_path / f"{profile} {hash_seed} {pure}"
    seeds = SEEDS[profile]
    command = ["sim", "--seeds", f"{seeds.start}:{seeds.stop}", "--profile", profile, "--json", str(lines)]
    subprocess.run(
        [sys.executable, "-m", "distkit", *command],
        env=os.environ | {"PYTHONHASHSEED": hash_seed, "DISTKIT_PURE": pure},
        check=True,
        capture_output=True,
        timeout=300,
    )
    found = map(json.loads, lines.read_text().splitlines())
    return {str(line["seed"]): line["digest"] for line in found}


@pytest.mark.parametrize("profile", SEEDS)
def test_the_digests_are_those_that_are_pinned(profile: str) -> None:
    pinned = json.loads(FILE.read_text())[profile]
    found = {str(seed): run(drawn(seed, profile)).digest for seed in SEEDS[profile]}
    assert found == pinned, "if a run was meant to change: python tests/sim/test_sim_determinism.py"


@pytest.mark.process
@pytest.mark.parametrize(
    ("profile", "hash_seed", "pure"),
    [("lite", "1", ""), ("lite", "2", ""), ("lite", "3", "1"), ("swarm", "1", ""), ("swarm", "3", "1")],
)
def test_other_processes_give_the_same_runs(profile: str, hash_seed: str, pure: str, tmp_path: Path) -> None:
    assert digests(profile, hash_seed, pure, tmp_path) == json.loads(FILE.read_text())[profile]


@pytest.mark.parametrize("seed", [1, 4, 11])
def test_messages_by_reference_and_through_the_codec_give_the_same_run(seed: int) -> None:
    scenario = drawn(seed)
    found = [run(replace(scenario, by_bytes=by_bytes)) for by_bytes in (False, True)]
    assert found[0].digest == found[1].digest
    assert found[0].marks == found[1].marks
    assert found[0].events > 500


def test_the_same_holds_on_the_log_that_ships() -> None:
    """Without damage and bandwidth, which are about bytes."""
    scenario = drawn(2, "swarm")
    scenario = replace(scenario, network=replace(scenario.network, flip=0.0, bandwidth=0), seconds=6.0)
    found = [run(replace(scenario, by_bytes=by_bytes)) for by_bytes in (False, True)]
    assert found[0].digest == found[1].digest
    assert found[0].marks == found[1].marks


def test_a_run_leaves_nothing_behind_for_the_next() -> None:
    scenario = drawn(6)
    first = run(scenario)
    run(drawn(7))
    assert run(scenario).digest == first.digest


def test_watching_a_run_changes_nothing() -> None:
    events: list[object] = []
    scenario = drawn(8)
    assert run(scenario, events.append).digest == run(scenario, strict=True).digest == run(scenario).digest
    assert len(events) > 100


def test_states_are_a_part_of_the_digest() -> None:
    scenario = drawn(5)
    systems = [ReplicaSystem(machine(digest=returning(state))) for state in (b"one", b"two", b"one")]
    found = [run(replace(scenario, calls=()), system=system) for system in systems]
    assert found[0].events == found[1].events
    assert found[0].digest == found[2].digest != found[1].digest


def test_other_seeds_are_other_runs() -> None:
    pinned = json.loads(FILE.read_text())
    for profile, seeds in SEEDS.items():
        assert len(set(pinned[profile].values())) == len(seeds)


if __name__ == "__main__":
    every = {
        profile: {str(seed): run(drawn(seed, profile)).digest for seed in seeds} for profile, seeds in SEEDS.items()
    }
    FILE.write_text(json.dumps(every, indent=1) + "\n")
