"""Adaptive concurrency: each rule step by step, and each against a server with a known capacity."""

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit.balance.adaptive import Aimd, AimdOptions, Gradient, GradientOptions, Vegas, VegasOptions
from distkit.core import LocalError


def test_aimd_rises_by_one_a_round_and_falls_by_a_factor() -> None:
    aimd = Aimd(AimdOptions(first=10))
    for _ in range(10):
        aimd.sample(0.1, 10, False, 0.0)
    assert aimd.limit == 10  # just below 11: the limit grew while the round went on
    aimd.sample(0.1, 10, False, 0.0)
    assert aimd.limit == 11
    for _ in range(3):
        aimd.sample(0.1, 10, True, 0.0)
    assert aimd.limit == 8  # 11.05 * 0.9^3 = 8.06
    for _ in range(100):
        aimd.sample(0.1, 1, False, 0.0)  # hardly used: nothing is learned
    assert aimd.limit == 8
    for _ in range(100):
        aimd.sample(0.1, 8, True, 0.0)
    assert aimd.limit == 1


def test_vegas_follows_the_queue_that_it_estimates() -> None:
    def after(latency: float, first: int = 100, in_flight: int = 100, dropped: bool = False) -> int:
        vegas = Vegas(VegasOptions(first=first))
        vegas.sample(0.1, in_flight, False, 0.0)  # the smallest
        vegas.sample(latency, in_flight, dropped, 0.0)
        return vegas.limit

    # step 2 (log10 of 100): up to a queue of 2 by 12, below 6 by 2, to 12 none, above by -2
    assert after(0.1) == after(0.102) == 112
    assert after(0.105) == 102
    assert after(0.1063) == 100  # a queue of exactly 6
    assert after(0.11) == after(0.113) == 100
    assert after(0.12) == after(9.0) == 98
    assert after(0.1, dropped=True) == 98
    assert after(9.0, in_flight=49) == 100
    assert after(0.1, first=20) == 26  # step 1


def test_vegas_looks_for_the_smallest_latency_anew() -> None:
    vegas = Vegas(VegasOptions(first=10, relearn=30, most=10))
    vegas.sample(0.1, 10, False, 0.0)
    for _ in range(28):
        vegas.sample(0.5, 10, False, 0.0)
    assert vegas.limit == 7  # a queue of 6 is as much as it bears
    for _ in range(300):
        vegas.sample(0.5, 10, False, 0.0)  # the way is longer now: this is the new normal
    assert vegas.limit == 10


def gradient(**options: Any) -> Gradient:
    machine = Gradient(GradientOptions(**{"jitter": 0.0} | options), random.Random(1))
    for _ in range(50):
        assert machine.learning
        assert machine.limit == 3
        machine.sample(0.1, 3, False, 1.0)
    assert not machine.learning
    return machine


def test_gradient_learns_the_smallest_latency_first() -> None:
    machine = gradient()
    assert (machine.smallest, machine.limit) == (0.1, 20)
    assert machine.deadline() == 1.1


@pytest.mark.parametrize(
    ("latency", "limit"),
    [
        (0.125, 24),  # gradient 1: 20 + sqrt(20)
        (0.25, 13),  # 0.5: 10 + sqrt(10)
        (1.0, 13),  # never below 0.5
        (0.0625, 46),  # 2: 40 + sqrt(40)
        (0.01, 46),  # never above 2
        (0.0, 46),
    ],
)
def test_gradient_compares_the_median_of_a_window_with_it(latency: float, limit: int) -> None:
    machine = gradient(window=1.0)
    for sample in (latency, latency, 0.0 if latency else 0.9):
        machine.sample(sample, 20, False, 1.5)
    machine.tick(1.999)
    assert machine.limit == 20
    machine.tick(2.0)
    assert machine.limit == limit


def test_gradient_learns_anew_now_and_then_and_ignores_requests_from_before() -> None:
    machine = gradient(relearn=60.0)
    now = 1.0
    while now < 60.9:
        now += 0.1
        machine.sample(0.1, 20, False, now)
    assert not machine.learning
    before = machine.limit
    assert before > 20
    machine.tick(61.0)
    assert (machine.learning, machine.limit) == (True, 3)
    for _ in range(100):
        machine.sample(0.5, 3, False, 61.2)  # these began at 60.7
    assert machine.learning
    for _ in range(50):
        machine.sample(0.2, 3, False, 61.2)
    assert (machine.smallest, machine.limit) == (0.2, before)


def test_gradient_learns_anew_when_it_stays_at_its_least() -> None:
    machine = gradient(window=1.0, first=3, most=100, buffer=0.0)
    for window in range(5):
        assert not machine.learning
        machine.sample(1.0, 3, False, 2.0 + window)
        machine.tick(2.0 + window + 0.5)
        machine.sample(1.0, 3, False, 2.0 + window + 0.9)
    machine.tick(8.0)
    assert machine.learning


def test_gradient_jitter_draws_apart_who_learns_when() -> None:
    starts = set()
    for seed in range(20):
        machine = Gradient(GradientOptions(window=1000.0, jitter=0.15), random.Random(seed))
        for _ in range(50):
            machine.sample(0.1, 3, False, 0.0)
        starts.add(machine.deadline())
    assert len(starts) == 20
    assert 60.0 <= min(starts) < max(starts) < 69.0


def served(machine: Any, seed: int, capacity: int, rounds: int = 3000) -> float:
    """A server that does `capacity` at a time in 100 ms each: the mean limit once it has settled."""
    rng, now, total = random.Random(seed), 0.0, 0
    for n in range(rounds):
        flying = machine.limit
        latency = 0.1 * max(1.0, flying / capacity) * (0.95 + 0.1 * rng.random())
        now += latency / flying
        machine.sample(latency, flying, flying > 4 * capacity, now)
        total += machine.limit if n >= rounds // 2 else 0
    return total / (rounds - rounds // 2)


@pytest.mark.parametrize("capacity", [10, 40])
def test_rules_settle_near_what_a_server_can_do(capacity: int) -> None:
    assert capacity <= served(Vegas(VegasOptions(first=5, relearn=1_000_000)), 1, capacity) < 1.8 * capacity
    assert capacity <= served(Gradient(GradientOptions(), random.Random(2)), 1, capacity, 9000) < 2.2 * capacity
    assert 2 * capacity < served(Aimd(AimdOptions()), 1, capacity, 20_000) <= 4 * capacity + 1  # only drops tell it


@given(
    st.lists(
        st.tuples(st.floats(0, 1e6), st.integers(0, 2000), st.booleans(), st.floats(-10, 1e6)), min_size=1, max_size=80
    )
)
def test_limits_stay_within_their_bounds_whatever_comes(samples: list[tuple[float, int, bool, float]]) -> None:
    machines: list[Any] = [
        Aimd(AimdOptions(first=5, least=2, most=9)),
        Vegas(VegasOptions(first=5, least=2, most=9)),
        Gradient(GradientOptions(first=5, least=2, most=9, relearn_requests=2), random.Random(1)),
    ]
    for sample in samples:
        for machine in machines:
            machine.sample(*sample)
            assert 2 <= machine.limit <= 9


def test_bad_input_is_refused() -> None:
    machines: list[Any] = [Aimd(AimdOptions()), Vegas(VegasOptions()), gradient()]
    for machine in machines:
        before = machine.limit
        for latency in (math.nan, -1.0, math.inf):
            with pytest.raises(LocalError, match="latency"):
                machine.sample(latency, 1, False, 0.0)
        with pytest.raises(LocalError, match="in_flight"):
            machine.sample(0.1, -1, False, 0.0)
        with pytest.raises(LocalError, match="now"):
            machine.sample(0.1, 1, False, math.nan)
        assert machine.limit == before
    wrong: Any
    for options, wrong in (
        (AimdOptions, {"backoff": 1.0}),
        (AimdOptions, {"first": 0}),
        (VegasOptions, {"relearn": 0}),
        (VegasOptions, {"most": 0}),
        (GradientOptions, {"window": 0.0}),
        (GradientOptions, {"buffer": math.nan}),
        (GradientOptions, {"relearn_requests": 10_001}),
    ):
        with pytest.raises(LocalError, match=next(iter(wrong))):
            options(**wrong).check()
