"""Hedging: the percentile, the window, the budget."""

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit.balance.hedging import HedgeOptions, Hedging
from distkit.core import LocalError


def hedging(**options: Any) -> Hedging:
    return Hedging(HedgeOptions(**options))


def test_nothing_is_hedged_before_enough_is_known() -> None:
    machine = hedging(samples=3)
    assert machine.delay(0.0) is None
    for _ in range(2):
        machine.observe(0.1, 0.0)
    assert machine.delay(0.0) is None
    machine.observe(0.1, 0.0)
    assert machine.delay(0.0) is not None


@given(st.lists(st.floats(0.002, 9.0), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_the_delay_is_a_percentile_to_a_sixteenth(latencies: list[float], percentile: float) -> None:
    machine = hedging(samples=1, percentile=percentile)
    for latency in latencies:
        machine.observe(latency, 0.0)
    exact = sorted(latencies)[math.ceil(percentile * len(latencies)) - 1]
    delay = machine.delay(0.0)
    assert delay is not None
    assert exact <= delay <= exact * (1 + 1 / 16)


def test_about_one_in_twenty_is_slower_than_the_usual_delay() -> None:
    machine, rng = hedging(), random.Random(1)
    latencies = [rng.expovariate(10) for _ in range(5000)]
    for latency in latencies:
        machine.observe(latency, 0.0)
    delay = machine.delay(0.0)
    assert delay is not None
    assert 0.03 < sum(latency > delay for latency in latencies) / 5000 <= 0.05


def test_delays_stay_within_their_bounds() -> None:
    for latency, expected in ((0.0, 0.02), (1e-9, 0.02), (100.0, 0.5)):
        machine = hedging(samples=1, delay_min=0.02, delay_max=0.5)
        machine.observe(latency, 0.0)
        assert machine.delay(0.0) == expected


def test_old_latencies_are_forgotten() -> None:
    machine = hedging(samples=1, window=30.0, percentile=0.99)
    machine.observe(1.0, 0.0)
    machine.observe(0.1, 14.0)

    def slow(now: float) -> bool:
        delay = machine.delay(now)
        assert delay is not None
        return delay > 0.5

    assert slow(15.0)  # the next half began; the last one counts still
    machine.observe(0.1, 16.0)
    assert not slow(30.0)
    machine.observe(0.1, 31.0)
    assert machine.delay(70.0) is None  # both halves are over


def test_a_budget_keeps_the_share_even_when_all_is_slow() -> None:
    machine = hedging(ratio=0.05)
    sent = 0
    for n in range(1000):
        machine.request(n / 1000)
        sent += machine.hedge(1, n / 1000)
    assert sent == machine.hedged == 50
    assert not hedging(ratio=0.0).hedge(1, 0.0)
    assert hedging(per_second=1).hedge(1, 0.0)


def test_a_request_has_at_most_so_many_hedges() -> None:
    machine = hedging(hedges_max=2, per_second=100)
    assert [machine.hedge(n, 0.0) for n in (1, 2, 3)] == [True, True, False]
    assert not hedging(hedges_max=0, per_second=100).hedge(1, 0.0)


def test_time_that_goes_back_forgets_nothing() -> None:
    machine = hedging(samples=1)
    machine.observe(0.1, 100.0)
    before = machine.delay(100.0)
    machine.observe(0.1, 5.0)
    assert machine.delay(0.0) == before is not None


def test_bad_input_is_refused() -> None:
    machine = hedging(samples=1)
    for wrong in (math.nan, -1.0, math.inf):
        with pytest.raises(LocalError, match="latency"):
            machine.observe(wrong, 0.0)
    with pytest.raises(LocalError, match="nth"):
        machine.hedge(0, 0.0)
    for call in (
        machine.request,
        machine.delay,
        lambda now: machine.hedge(1, now),
        lambda now: machine.observe(1.0, now),
    ):
        with pytest.raises(LocalError, match="now"):
            call(math.nan)
    assert machine.delay(0.0) is None
    bad: Any
    for bad in (
        {"percentile": 1.0},
        {"delay_min": -1.0},
        {"delay_max": 0.0},
        {"window": math.nan},
        {"samples": 0},
        {"hedges_max": -1},
        {"ratio": 2.0},
        {"budget_window": 0.5},
    ):
        with pytest.raises(LocalError, match=next(iter(bad))):
            hedging(**bad)
