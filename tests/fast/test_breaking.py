"""Breaker and budgets, compiled and pure: the rules one by one, then both builds against each other and an oracle."""

import math
import random
from typing import Any

import pytest
from builds import builds, outcome
from hypothesis import given, settings
from hypothesis import strategies as st

from distkit._fast import breaking as fast
from distkit._fast.pure import breaking as twin
from distkit.core.errors import LocalError

OK, ERROR, TIMEOUT, CONNECT_FAIL, CANCELLED, OVERLOAD = range(6)


@pytest.fixture(params=builds("breaking"), scope="module")
def breaking(request: pytest.FixtureRequest) -> Any:
    return request.param


def opened(breaking: Any, now: float = 0.0, **options: Any) -> Any:
    breaker = breaking.Breaker(failures=1, open_for=5.0, **options)
    assert breaker.done(breaker.permit(now), ERROR, now)
    assert breaker.state == breaking.OPEN
    return breaker


def end(breaker: Any, how: int, now: float, times: int = 1) -> None:
    for _ in range(times):
        permit = breaker.permit(now)
        assert permit > 0
        assert breaker.done(permit, how, now)


def test_failures_in_a_row_open_it_and_a_success_breaks_the_row(breaking: Any) -> None:
    breaker = breaking.Breaker(failures=3)
    end(breaker, ERROR, 1.0, 2)
    end(breaker, OK, 1.0)
    end(breaker, TIMEOUT, 1.0)
    end(breaker, CONNECT_FAIL, 1.0)
    assert (breaker.state, breaker.deadline()) == (breaking.CLOSED, math.inf)
    end(breaker, ERROR, 1.5)
    assert (breaker.state, breaker.deadline()) == (breaking.OPEN, 6.5)
    assert (breaker.permit(6.4999), breaker.refused) == (0, 1)
    assert breaker.permit(6.5) > 0
    assert breaker.state == breaking.HALF_OPEN


def test_cancelled_and_overload_count_neither_way(breaking: Any) -> None:
    breaker = breaking.Breaker(failures=2, ratio=0.5, requests=2)
    end(breaker, ERROR, 1.0)
    for neutral in (CANCELLED, OVERLOAD) * 4:
        end(breaker, neutral, 1.0)
    assert breaker.state == breaking.CLOSED
    end(breaker, ERROR, 1.0)
    assert breaker.state == breaking.OPEN


def test_a_share_of_failures_opens_it_once_there_are_enough_requests(breaking: Any) -> None:
    breaker = breaking.Breaker(failures=0, ratio=0.5, requests=10)
    for _ in range(4):
        end(breaker, OK, 0.0)
        end(breaker, ERROR, 0.0)
    end(breaker, OK, 0.0)
    assert breaker.state == breaking.CLOSED
    end(breaker, ERROR, 0.0)  # 5 of 10
    assert breaker.state == breaking.OPEN


def test_failures_leave_the_window(breaking: Any) -> None:
    breaker = breaking.Breaker(failures=0, ratio=0.5, requests=4, window=10.0)
    end(breaker, ERROR, 100.0, 3)
    end(breaker, OK, 109.9, 1)
    end(breaker, OK, 110.0, 3)  # the slice of 100.0 is gone
    end(breaker, ERROR, 110.0, 3)  # 3 of 7
    assert breaker.state == breaking.CLOSED
    end(breaker, ERROR, 110.0, 1)
    assert breaker.state == breaking.OPEN


@pytest.mark.parametrize("probes", [1, 2, 5, 62])
def test_pitfall_half_open_admits_exactly_n_of_n_plus_1_concurrent(breaking: Any, probes: int) -> None:
    breaker = opened(breaking, probes=probes, successes=probes)
    permits = [breaker.permit(5.0) for _ in range(probes + 1)]
    assert sum(permit > 0 for permit in permits) == probes == breaker.probing
    assert permits[-1] == 0
    assert len(set(permits)) == probes + 1
    for n, permit in enumerate(permits[:-1]):
        assert breaker.state == breaking.HALF_OPEN, n
        assert breaker.done(permit, OK, 5.0)
    assert breaker.state == breaking.CLOSED


@pytest.mark.parametrize("how", [CANCELLED, OVERLOAD])
def test_pitfall_a_cancelled_probe_frees_its_place(breaking: Any, how: int) -> None:
    breaker = opened(breaking, probes=2)
    first, second = breaker.permit(5.0), breaker.permit(5.0)
    assert breaker.permit(5.0) == 0
    assert breaker.done(first, how, 5.0)
    third = breaker.permit(5.0)
    assert third > 0
    assert breaker.permit(5.0) == 0
    assert breaker.done(second, how, 5.0)
    assert breaker.done(third, how, 5.0)
    assert (breaker.state, breaker.probing, breaker.deadline()) == (breaking.HALF_OPEN, 0, math.inf)


def test_a_failed_probe_opens_it_for_twice_as_long_up_to_the_longest(breaking: Any) -> None:
    breaker, now, lengths = opened(breaking, open_max=30.0), 0.0, []
    for _ in range(5):
        lengths.append(breaker.deadline() - now)
        now = breaker.deadline()
        end(breaker, ERROR, now)
    assert lengths == [5.0, 10.0, 20.0, 30.0, 30.0]
    now = breaker.deadline()
    end(breaker, OK, now)  # closed: the next opening is short again
    end(breaker, ERROR, now)
    assert breaker.deadline() - now == 5.0


def test_a_probe_that_never_ends_is_given_up(breaking: Any) -> None:
    breaker = opened(breaking, probe_timeout=20.0)
    lost = breaker.permit(5.0)
    assert (breaker.deadline(), breaker.permit(24.0)) == (25.0, 0)
    assert (breaker.permit(25.0), breaker.state) == (0, breaking.OPEN)
    assert breaker.deadline() == 35.0  # doubled, as after a failure
    assert not breaker.done(lost, OK, 26.0)
    assert breaker.permit(35.0) > 0


def test_ends_of_an_earlier_state_say_nothing(breaking: Any) -> None:
    breaker = breaking.Breaker(failures=1, open_for=5.0, probes=2)
    slow, failing = breaker.permit(0.0), breaker.permit(0.0)
    assert breaker.done(failing, ERROR, 0.0)
    assert not breaker.done(slow, OK, 1.0)
    probe = breaker.permit(5.0)
    assert not breaker.done(slow, ERROR, 5.0)
    assert not breaker.done(failing, ERROR, 5.0)
    assert (breaker.state, breaker.stale) == (breaking.HALF_OPEN, 3)
    assert breaker.done(probe, OK, 5.0)
    assert breaker.state == breaking.CLOSED
    assert not breaker.done(probe, ERROR, 5.0)
    assert breaker.state == breaking.CLOSED


def test_a_probe_told_twice_frees_one_place_only(breaking: Any) -> None:
    breaker = opened(breaking, probes=2)
    first, second = breaker.permit(5.0), breaker.permit(5.0)
    assert breaker.done(first, CANCELLED, 5.0)
    assert not breaker.done(first, CANCELLED, 5.0)
    assert breaker.permit(5.0) > 0
    assert breaker.permit(5.0) == 0
    assert second > 0


def test_permits_that_nobody_gave_are_stale(breaking: Any) -> None:
    breaker = breaking.Breaker(failures=1)
    for forged in (0, 1, -1, -65, 63, 2**62, 2**64, 2**80):
        assert not breaker.done(forged, ERROR, 0.0)
    assert (breaker.state, breaker.stale) == (breaking.CLOSED, 8)
    for wrong in (None, "1", 1.5):
        with pytest.raises(TypeError):
            breaker.done(wrong, OK, 0.0)
    for wrong in (-1, 6, 100):
        with pytest.raises(LocalError, match="outcome must be one of Outcome"):
            breaker.done(breaker.permit(0.0), wrong, 0.0)


def test_time_that_goes_back_counts_as_none(breaking: Any) -> None:
    breaker = opened(breaking, now=100.0)
    assert breaker.permit(50.0) == 0
    assert breaker.permit(104.9) == 0
    assert breaker.permit(105.0) > 0
    for now in (math.nan, math.inf, -math.inf):
        for call in (breaker.permit, breaker.trip, breaker.reset, lambda t: breaker.done(0, OK, t)):
            with pytest.raises(LocalError, match="finite number of seconds"):
                call(now)


def test_jitter_only_lengthens_and_needs_a_source_of_chance(breaking: Any) -> None:
    rng = random.Random(5)
    lengths = {opened(breaking, jitter=0.5, rng=rng).deadline() for _ in range(50)}
    assert len(lengths) == 50
    assert 5.0 <= min(lengths) < 5.5 < 7.0 < max(lengths) < 7.5
    with pytest.raises(LocalError, match="jitter needs an rng"):
        breaking.Breaker(jitter=0.1)


def test_trip_and_reset(breaking: Any) -> None:
    breaker = breaking.Breaker()
    permit = breaker.permit(0.0)
    breaker.trip(0.0)
    assert (breaker.state, breaker.permit(1.0)) == (breaking.OPEN, 0)
    breaker.reset(1.0)
    assert breaker.state == breaking.CLOSED
    assert not breaker.done(permit, ERROR, 1.0)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("failures", -1),
        ("ratio", 1.5),
        ("ratio", math.nan),
        ("requests", 0),
        ("window", 0.0),
        ("window", math.inf),
        ("open_for", -1.0),
        ("open_max", 4.0),
        ("probes", 0),
        ("probes", 63),
        ("successes", 0),
        ("probe_timeout", 0.0),
        ("jitter", -0.1),
    ],
)
def test_bad_options_are_refused(breaking: Any, name: str, wrong: float) -> None:
    with pytest.raises(LocalError, match=name):
        breaking.Breaker(**{name: wrong})


def test_a_budget_of_a_share_of_requests(breaking: Any) -> None:
    budget = breaking.RetryBudget(ratio=0.2, per_second=0, ttl=10.0)
    assert not budget.retry(0.0)
    for _ in range(10):
        budget.request(0.0)
    assert budget.balance(0.0) == 2
    assert [budget.retry(0.0) for _ in range(3)] == [True, True, False]
    for _ in range(4):
        budget.request(0.0)
    assert not budget.retry(0.0)
    budget.request(0.0)
    assert budget.retry(0.0)


def test_a_budget_of_some_a_second_is_there_from_the_start_and_comes_back(breaking: Any) -> None:
    budget = breaking.RetryBudget(ratio=0.0, per_second=2, ttl=5.0)
    assert [budget.retry(0.0) for _ in range(11)] == [True] * 10 + [False]
    assert not budget.retry(4.9)
    assert budget.balance(5.0) == 10
    assert breaking.RetryBudget().balance(0.0) == 100


def test_what_requests_gave_leaves_after_the_ttl(breaking: Any) -> None:
    budget = breaking.RetryBudget(ratio=0.5, per_second=0, ttl=10.0)
    for _ in range(4):
        budget.request(1000.0)
    assert budget.balance(1009.999) == 2
    assert budget.retry(1009.999)
    assert budget.balance(1010.0) == 0  # the requests are forgotten, the retry is not
    for _ in range(4):
        budget.request(1010.0)
    assert budget.balance(1010.0) == 1
    assert budget.balance(5.0) == 1  # time that goes back forgets nothing


def test_bad_budgets_are_refused(breaking: Any) -> None:
    for wrong in (
        {"ratio": -0.1},
        {"ratio": math.nan},
        {"ratio": 1e-5},
        {"per_second": -1},
        {"ttl": 0.5},
        {"ttl": 1e9},
    ):
        with pytest.raises(LocalError, match=next(iter(wrong))):
            breaking.RetryBudget(**wrong)
    budget = breaking.RetryBudget()
    for call in (budget.request, budget.retry, budget.balance):
        with pytest.raises(LocalError, match="finite number of seconds"):
            call(math.nan)


def test_a_throttle_lets_retries_go_above_half_of_its_tokens(breaking: Any) -> None:
    throttle = breaking.RetryThrottle(tokens=10, ratio=0.1)
    seen = []
    for _ in range(12):
        throttle.failure()
        seen.append((throttle.tokens, throttle.allowed()))
    assert seen[:6] == [(9.0, True), (8.0, True), (7.0, True), (6.0, True), (5.0, False), (4.0, False)]
    assert seen[-1] == (0.0, False)
    for _ in range(50):
        throttle.success()
    assert (throttle.tokens, throttle.allowed()) == (5.0, False)
    throttle.success()
    assert (throttle.tokens, throttle.allowed()) == (5.1, True)
    for _ in range(100):
        throttle.success()
    assert throttle.tokens == 10.0
    for wrong in ({"tokens": 0}, {"tokens": 1001}, {"ratio": 0.0}, {"ratio": math.nan}):
        with pytest.raises(LocalError, match=next(iter(wrong))):
            breaking.RetryThrottle(**wrong)


times = st.one_of(st.sampled_from([0.0, 1.0, 5.0, 6.0, -3.0, 1e6, 1e18, math.nan, math.inf]), st.floats(0, 200))
steps = st.lists(st.tuples(st.sampled_from("pppdddtr"), times, st.integers(0, 5), st.integers(0, 9)), max_size=60)
kinds = st.fixed_dictionaries(
    {
        "failures": st.integers(0, 4),
        "ratio": st.sampled_from([0.0, 0.3, 0.5, 1.0]),
        "requests": st.integers(1, 6),
        "window": st.sampled_from([0.5, 10.0, 33.3]),
        "probes": st.integers(1, 3),
        "successes": st.integers(1, 3),
        "probe_timeout": st.sampled_from([2.0, 60.0]),
        "jitter": st.sampled_from([0.0, 0.2]),
    }
)


@settings(max_examples=200)
@given(kinds, steps)
def test_both_builds_of_the_breaker_agree(kind: dict[str, Any], steps: list[tuple[str, float, int, int]]) -> None:
    pair = [module.Breaker(rng=random.Random(1), **kind) for module in (twin, fast)]
    permits = [0]
    for what, now, how, which in steps:
        results = []
        for breaker in pair:
            call = {"p": breaker.permit, "d": breaker.done, "t": breaker.trip, "r": breaker.reset}[what]
            arguments = (permits[which % len(permits)], how, now) if what == "d" else (now,)
            found = outcome(call, *arguments)
            results.append((found, breaker.state, breaker.probing, breaker.deadline(), breaker.refused, breaker.stale))
        assert results[0] == results[1]
        if what == "p" and isinstance(results[0][0][1], int):
            permits.insert(0, results[0][0][1])
            assert results[0][2] <= kind["probes"]


@settings(max_examples=200)
@given(
    st.sampled_from([0.0, 0.1, 0.2, 0.3, 1.0, 2.5]),
    st.integers(0, 3),
    st.sampled_from([1.0, 10.0, 7.7]),
    st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=80),
)
def test_both_budgets_agree_with_the_definition(
    ratio: float, per_second: int, ttl: float, steps: list[tuple[bool, float]]
) -> None:
    pair = [module.RetryBudget(ratio, per_second, ttl) for module in (twin, fast)]
    takes = int(1000 / ratio) if ratio else 1
    log: list[tuple[int, int]] = []  # (slice, given or taken)
    now = start = 1000.0
    for retry, step in steps:
        now += step
        number = int((now - start) / (ttl / 10))
        if not log:
            start, number = now, 0
        left = int(per_second * ttl) * takes + sum(amount for at, amount in log if at > number - 10)
        if retry:
            expected = left >= takes
            assert [budget.retry(now) for budget in pair] == [expected] * 2
            log.append((number, -takes if expected else 0))
        else:
            for budget in pair:
                budget.request(now)
            log.append((number, 1000 if ratio else 0))
