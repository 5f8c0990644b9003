"""Any calls in any order at odd times: counts hold, picks are allowed, and both kernels do the same."""

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cluster_walks
import pytest
from cluster_walks import SETS, Walk
from hypothesis import given, seed, settings
from hypothesis import strategies as st

import distkit
from distkit.balance import policies

Script = dict[str, Any]

NUMBERS = st.integers(0, 7)
KEYS = st.integers(0, (1 << 64) - 1)
LATENCIES = st.sampled_from([0.0, 0.001, 0.02, 0.5, 30.0])
OUTCOMES = st.sampled_from([0, 0, 0, 1, 1, 2, 3, 4, 5])
WAITS = st.sampled_from([0.0, 0.0, 0.001, 0.1, 1.0, 5.0, 60.0, -3.0, 1e5])


def step(verb: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(WAITS, st.just(verb), *arguments)


EXCLUDED = st.lists(st.integers(0, 20), max_size=3)
PICK = step("pick", st.none() | KEYS, EXCLUDED, st.none() | NUMBERS, st.integers(0, 3), st.integers(0, 5))
PLAIN = step("pick", st.none(), st.just([]), st.none(), st.just(0), st.just(0))
DONE = step("done", st.integers(0, 20), OUTCOMES, LATENCIES, st.booleans())
UPDATE = step("update", st.lists(st.tuples(NUMBERS, st.integers(0, 53)), max_size=8, unique_by=lambda each: each[0]))
STEPS = st.one_of(
    PICK,
    PLAIN,
    PLAIN,
    DONE,
    DONE,
    UPDATE,
    step("many", st.integers(1, 6), st.none() | st.lists(KEYS, min_size=1, max_size=6)),
    step("again", st.integers(0, 20)),
    step("gate", NUMBERS, st.integers(0, 4), st.booleans()),
    step("tick"),
    step("probed", st.integers(0, 20), OUTCOMES, st.integers(0, 9), LATENCIES),
    step("limit", st.sampled_from([0, 3, 100])),
)


def scripts(policy: str) -> st.SearchStrategy[Script]:
    return st.fixed_dictionaries(
        {
            "policy": st.just(policy),
            "set": st.integers(0, len(SETS) - 1),
            "seed": st.integers(0, 5),
            "bound": st.sampled_from([0, 125]),
            "steps": st.tuples(UPDATE, st.lists(STEPS, max_size=50)).map(lambda pair: [pair[0], *pair[1]]),
        }
    )


@pytest.fixture(scope="module")
def other() -> Iterator[Callable[[Script], Any]]:
    """Acts scripts out in a process with the other kernels: the pure ones where these are compiled."""
    environment = {**os.environ, "DISTKIT_PURE": "1" if distkit.COMPILED else "0"}
    # From the root of the project, so that `distkit` there is the one that is tested here.
    root = Path(distkit.__file__).parent.parent
    environment["PYTHONPATH"] = str(root)
    command = [sys.executable, cluster_walks.__file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdin
        assert child.stdout

        def ask(script: Script) -> Any:
            print(json.dumps(script), file=child.stdin, flush=True)
            return json.loads(child.stdout.readline())

        yield ask
        child.stdin.close()


@pytest.mark.parametrize("policy", sorted(policies.POLICIES))
def test_any_calls_in_any_order_keep_counts_and_picks_right(policy: str, other: Callable[[Script], Any]) -> None:
    @seed(zlib.crc32(policy.encode()))  # other scripts for each policy, the same ones in every run
    @settings(max_examples=40)
    @given(scripts(policy))
    def acted_out(script: Script) -> None:
        trace = json.loads(json.dumps(Walk(script).run()))
        assert json.loads(json.dumps(Walk(script, split=True).run())) == trace, "many picks are not as one by one"
        assert other(script) == trace, "compiled and pure kernels differ"

    acted_out()
