"""Failure accrual: the two rules, the backoff, the one request that probes."""

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit.balance.accrual import Accrual, AccrualOptions, Life
from distkit.balance.endpoints import Outcome
from distkit.core import LocalError

OK, ERROR = Outcome.OK, Outcome.ERROR


def accrual(seed: int = 1, **options: Any) -> Accrual:
    return Accrual(AccrualOptions(**options), random.Random(seed))


def dead(**options: Any) -> Accrual:
    machine = accrual(**{"failures": 1, "first": 8.0} | options)
    assert machine.permit(0.0)
    assert machine.done(ERROR, 0.0)
    return machine


def test_defaults_are_finagles() -> None:
    options = AccrualOptions()
    assert (options.failures, options.success_rate, options.window, options.requests) == (5, 0.8, 30.0, 5)
    assert options.longest == 300.0


def test_failures_in_a_row_kill_and_a_success_breaks_the_row() -> None:
    machine = accrual(success_rate=0.0)
    for _ in range(4):
        assert not machine.done(ERROR, 0.0)
    machine.done(OK, 0.0)
    for outcome in (ERROR, Outcome.TIMEOUT, Outcome.CONNECT_FAIL, ERROR):
        assert not machine.done(outcome, 0.0)
    assert machine.done(ERROR, 0.0)
    assert machine.life(0.0) is Life.DEAD
    assert not machine.permit(0.0)


def test_a_low_success_rate_kills_once_there_are_enough_requests() -> None:
    machine = accrual(failures=0)
    machine.done(OK, 0.0)
    for now in (10.0, 20.0):
        assert not machine.done(ERROR, now)
    assert not machine.done(OK, 21.0)
    assert machine.success_rate == pytest.approx(
        math.exp(-20 / 30) * math.exp(-1 / 30) + 1 - math.exp(-1 / 30)  # 1, then two failures, then a success
    )
    assert machine.done(ERROR, 22.0)  # the fifth request; the rate is about 0.51


def test_requests_of_one_instant_do_not_move_the_rate() -> None:
    """Finagle's average weighs by time: what happens at once is one sample."""
    machine = accrual(failures=0)
    machine.done(OK, 1.0)
    for _ in range(50):
        assert not machine.done(ERROR, 1.0)
    assert machine.success_rate == 1.0


def test_dead_times_double_half_at_random_up_to_the_longest() -> None:
    machine, now, waits = dead(first=8.0, longest=50.0), 0.0, []
    for _ in range(6):
        waits.append(machine.deadline() - now)
        now = machine.deadline()
        assert machine.permit(now)
        machine.done(ERROR, now)
    for wait, full in zip(waits, (8, 16, 32), strict=False):
        assert full / 2 <= wait < full
    assert waits[3:] == pytest.approx([50.0, 50.0, 50.0])
    assert len({dead(seed=seed).deadline() for seed in range(20)}) == 20


def test_one_request_probes_and_its_success_revives() -> None:
    machine = dead()
    now = machine.deadline()
    assert not machine.permit(now - 0.01)
    assert [machine.permit(now) for _ in range(3)] == [True, False, False]
    assert machine.life(now) is Life.PROBING
    assert not machine.done(OK, now)
    assert machine.life(now) is Life.ALIVE
    assert machine.permit(now)
    assert machine.done(ERROR, now)
    assert machine.deadline() - now < 8.0  # the backoff began anew


def test_one_failure_of_a_probe_is_enough() -> None:
    machine = accrual()
    assert [machine.done(ERROR, 0.0) for _ in range(5)] == [False] * 4 + [True]
    now = machine.deadline()
    assert machine.permit(now)
    assert machine.done(ERROR, now)
    assert machine.life(now) is Life.DEAD


@pytest.mark.parametrize("neutral", [Outcome.CANCELLED, Outcome.OVERLOAD])
def test_a_probe_that_says_nothing_frees_its_place(neutral: Outcome) -> None:
    machine = dead()
    now = machine.deadline()
    assert machine.permit(now)
    assert not machine.done(neutral, now)
    assert machine.life(now) is Life.PROBING
    assert machine.permit(now)


def test_ends_of_earlier_requests_say_nothing_about_a_dead_endpoint() -> None:
    machine = dead()
    before = machine.deadline()
    for outcome in Outcome:
        assert not machine.done(outcome, 1.0)
    assert (machine.life(1.0), machine.deadline()) == (Life.DEAD, before)


def test_bad_input_is_refused_and_time_that_goes_back_counts_as_none() -> None:
    machine = dead()
    now = machine.deadline()
    machine.life(now)
    assert machine.life(0.0) is Life.PROBING
    for call in (machine.life, machine.permit, lambda t: machine.done(OK, t)):
        with pytest.raises(LocalError, match="now"):
            call(math.nan)
    bad: Any
    for bad in (
        {"failures": -1},
        {"success_rate": 1.1},
        {"window": 0.0},
        {"requests": 0},
        {"first": 0.0},
        {"longest": 1.0},
    ):
        with pytest.raises(LocalError, match=next(iter(bad))):
            accrual(**bad)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 20)), max_size=60), st.integers(0, 4), st.integers(1, 6))
def test_the_first_death_equals_the_definition(steps: list[tuple[bool, float]], failures: int, requests: int) -> None:
    machine, now, rate, last, streak = accrual(failures=failures, requests=requests), 0.0, 1.0, None, 0
    for count, (well, step) in enumerate(steps, 1):
        now += step
        kept = 0.0 if last is None else math.exp(-(now - last) / 30.0)
        rate, last, streak = rate * kept + well * (1 - kept), now, 0 if well else streak + 1
        expected = not well and ((failures > 0 and streak >= failures) or (count >= requests and rate < 0.8))
        assert machine.done(OK if well else ERROR, now) == expected
        if expected:
            return
