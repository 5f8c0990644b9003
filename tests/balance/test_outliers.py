"""Outlier ejection: the published numbers, the cap, durations, and an oracle written from the definition."""

import math
import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit.balance.endpoints import Outcome
from distkit.balance.outliers import Cause, Ejection, OutlierOptions, Outliers, Return
from distkit.core import LocalError

NAMES = ("a", "b", "c", "d", "e")


def outliers(ids: Iterable[str] = NAMES, seed: int = 1, **options: object) -> Outliers:
    machine = Outliers(OutlierOptions(**options), random.Random(seed))  # type: ignore[arg-type]
    machine.update(ids, 0.0)
    return machine


def feed(machine: Outliers, successes: dict[str, int], requests: int) -> None:
    for id, count in successes.items():
        machine.add(id, count, requests - count, 0.0)


def out(decisions: list[Ejection | Return]) -> list[str]:
    return [decision.id for decision in decisions if isinstance(decision, Ejection)]


def test_defaults_are_those_of_envoy_and_grpc() -> None:
    options = OutlierOptions()
    assert (options.interval, options.base, options.max, options.max_ejected_percent) == (10, 30, 300, 10)
    assert (options.success_rate_hosts, options.success_rate_requests, options.success_rate_factor) == (5, 100, 1.9)
    assert (options.failure_percent, options.failure_hosts, options.failure_requests) == (85, 5, 50)
    assert (options.enforcing_success_rate, options.enforcing_failures, options.consecutive_errors) == (100, 0, 5)


def test_the_success_rate_threshold_is_mean_minus_factor_times_population_deviation() -> None:
    # {50, 100, 100, 100, 100}: mean 90, deviation 20, so the usual factor gives 52.
    for factor, ejected in ((1.9, ["a"]), (1.99, ["a"]), (2.0, [])):  # 50 against 52, 50.2, 50: below, not at
        machine = outliers(success_rate_factor=factor)
        feed(machine, {"a": 50, "b": 100, "c": 100, "d": 100, "e": 100}, 100)
        assert out(machine.tick(10.0)) == ejected


def test_success_rates_need_enough_endpoints_with_enough_requests() -> None:
    machine = outliers()
    feed(machine, {"a": 50, "b": 100, "c": 100, "d": 100}, 100)
    machine.add("e", 99, 0, 0.0)  # one request too few: only four endpoints count
    assert machine.tick(10.0) == []
    feed(machine, {"a": 50, "b": 100, "c": 100, "d": 100, "e": 100}, 100)
    assert out(machine.tick(20.0)) == ["a"]


@pytest.mark.parametrize(("failures", "ejected"), [(84, []), (85, ["a"]), (86, ["a"])])
def test_a_failure_percentage_at_the_threshold_ejects(failures: int, ejected: list[str]) -> None:
    machine = outliers(enforcing_failures=100, enforcing_success_rate=0)
    feed(machine, {"a": 100 - failures, "b": 100, "c": 100, "d": 100, "e": 100}, 100)
    assert out(machine.tick(10.0)) == ejected


def test_failure_percentages_need_enough_endpoints_with_enough_requests() -> None:
    machine = outliers(enforcing_failures=100, enforcing_success_rate=0)
    feed(machine, {"a": 0, "b": 49, "c": 49, "d": 49, "e": 49}, 49)
    assert machine.tick(10.0) == []
    feed(machine, {"a": 0, "b": 50, "c": 50, "d": 50, "e": 50}, 50)
    assert machine.tick(20.0)[0] == Ejection("a", Cause.FAILURES, 1, 50.0)


def test_consecutive_errors_eject_at_once_and_a_success_breaks_them() -> None:
    machine = outliers()
    for error in (Outcome.ERROR, Outcome.TIMEOUT, Outcome.CONNECT_FAIL, Outcome.ERROR):
        assert machine.observe("a", error, 0.1, 1.0) is None
    machine.observe("a", Outcome.OK, 0.1, 1.0)
    for _ in range(4):
        assert machine.observe("a", Outcome.ERROR, 0.1, 2.0) is None
    assert machine.observe("a", Outcome.ERROR, 0.1, 2.0) == Ejection("a", Cause.CONSECUTIVE, 1, 32.0)
    assert machine.ejected == ("a",)


def test_cancelled_and_overload_neither_count_nor_break_a_streak() -> None:
    machine = outliers()
    for _ in range(4):
        machine.observe("a", Outcome.ERROR, 0.1, 1.0)
    for neutral in (Outcome.CANCELLED, Outcome.OVERLOAD) * 5:
        assert machine.observe("a", neutral, 0.1, 1.0) is None
    assert machine.observe("a", Outcome.ERROR, 0.1, 1.0) is not None


def test_errors_of_an_ejected_endpoint_do_not_eject_it_again() -> None:
    machine = outliers()
    assert machine.streak("a", 1.0) == Ejection("a", Cause.CONSECUTIVE, 1, 31.0)
    assert machine.streak("a", 2.0) is None
    for _ in range(20):
        assert machine.observe("a", Outcome.ERROR, 0.1, 3.0) is None


def eject_again_and_again(machine: Outliers, times: int) -> list[tuple[int, float]]:
    """(count, seconds) of ejections that follow one another as fast as the machine lets the endpoint back."""
    now, found = 0.0, []
    while len(found) < times:
        if ejection := machine.streak("a", now):
            found.append((ejection.count, ejection.until - now))
        now = machine.deadline()
        machine.tick(now)
    return found


def test_late_answers_of_an_ejected_endpoint_eject_nobody() -> None:
    machine = outliers(enforcing_failures=100, max_ejected_percent=100)
    machine.streak("a", 1.0)
    feed(machine, {"a": 0, "b": 100, "c": 100, "d": 100, "e": 100}, 100)  # four endpoints are too few without it
    assert machine.tick(10.0) == []
    assert machine.ejected == ("a",)


def test_what_came_in_while_it_was_out_does_not_eject_it_again() -> None:
    machine = outliers(interval=40.0)
    machine.streak("a", 1.0)
    feed(machine, {"a": 0, "b": 100, "c": 100, "d": 100, "e": 100}, 100)
    for _ in range(4):
        machine.observe("a", Outcome.ERROR, 0.1, 39.0)
    assert machine.tick(40.0) == [Return("a")]
    assert machine.observe("a", Outcome.ERROR, 0.1, 41.0) is None  # the first of a new row


def test_an_ejection_lasts_base_times_count_up_to_max() -> None:
    found = eject_again_and_again(outliers(base=100.0, max=300.0, interval=1000.0), 6)
    # The sweep that brings it back is no healthy interval, so the count rises each time; above 3 nothing gets longer.
    assert found == [(1, 100.0), (2, 200.0), (3, 300.0), (3, 300.0), (3, 300.0), (3, 300.0)]
    assert eject_again_and_again(outliers(base=400.0, max=300.0, interval=1000.0), 2) == [(1, 400.0), (1, 400.0)]


def test_each_healthy_interval_lowers_the_count() -> None:
    machine = outliers(base=5.0)
    for count in (1, 2, 3):
        ejection = machine.streak("a", 100.0)
        assert ejection is not None
        assert ejection.count == count
        assert machine.restore("a") == Return("a")
    for healthy in range(2):
        assert machine.tick(110.0 + 10 * healthy) == []
    ejection = machine.streak("a", 125.0)
    assert ejection is not None
    assert ejection.count == 2  # 3 - 2 healthy intervals + 1


def test_jitter_only_lengthens() -> None:
    lengths = set()
    for seed in range(20):
        ejection = outliers(seed=seed, jitter=10.0).streak("a", 0.0)
        assert ejection is not None
        assert 30.0 <= ejection.until < 40.0
        lengths.add(ejection.until)
    assert len(lengths) == 20


def test_an_endpoint_comes_back_at_the_first_sweep_after_its_time() -> None:
    machine = outliers()
    machine.streak("a", 1.0)  # until 31
    assert [machine.tick(now) for now in (10.0, 20.0, 30.0)] == [[], [], []]
    assert machine.deadline() == 40.0
    assert machine.tick(39.9) == []
    assert machine.tick(40.0) == [Return("a")]
    assert machine.ejected == ()


def all_fail(size: int, percent: int, overshoot: bool) -> int:
    machine = outliers([str(n) for n in range(size)], max_ejected_percent=percent, overshoot=overshoot)
    for n in range(size):
        machine.streak(str(n), 1.0)
    return len(machine.ejected)


def test_pitfall_ejection_cap_on_small_clusters_all_failing() -> None:
    """2 to 5 endpoints, all failing: how many leave is written down, for our rule and for that of gRPC."""
    assert [all_fail(n, 10, False) for n in (1, 2, 3, 4, 5, 10, 20)] == [1, 1, 1, 1, 1, 1, 2]
    assert [all_fail(n, 10, True) for n in (1, 2, 3, 4, 5, 10, 20)] == [1, 1, 1, 1, 1, 1, 2]
    assert all_fail(3, 67, overshoot=True) == 3  # tested before ejecting: 66.7 < 67
    assert all_fail(3, 67, overshoot=False) == 2
    assert [all_fail(n, 50, False) for n in (2, 3, 4, 5)] == [1, 1, 2, 2]
    assert [all_fail(n, 50, True) for n in (2, 3, 4, 5)] == [1, 2, 2, 3]
    assert all_fail(5, 0, False) == all_fail(5, 0, True) == 0
    assert all_fail(5, 100, False) == all_fail(5, 100, True) == 5


@given(st.integers(1, 40), st.integers(0, 100), st.booleans())
def test_the_cap_holds_for_every_size(size: int, percent: int, overshoot: bool) -> None:
    ejected = all_fail(size, percent, overshoot)
    room = percent * size
    if percent == 0:
        assert ejected == 0
    elif overshoot:
        assert 100 * (ejected - 1) < room  # the last one was let go below the cap
        assert 100 * ejected >= room
    else:
        assert ejected == max(1, room // 100)


def test_enforcing_percentage_is_the_chance_to_be_ejected() -> None:
    machine = outliers(enforcing_consecutive=30, max_ejected_percent=100)
    for _ in range(2000):
        machine.streak("a", 0.0)
        machine.restore("a")
    assert 1300 < machine.unenforced < 1500
    never = outliers(enforcing_consecutive=0)
    assert [never.streak("a", 0.0) for _ in range(50)] == [None] * 50


def test_latency_above_a_multiple_of_the_median_ejects_slow_endpoints_only() -> None:
    def slow(latency: float, **options: object) -> list[str]:
        machine = outliers(enforcing_latency=100, **options)
        for id in NAMES:
            machine.add(id, 100, 0, 100 * (latency if id == "c" else 0.1))
        return out(machine.tick(10.0))

    assert slow(0.31) == ["c"]
    assert slow(0.29) == []
    assert slow(0.31, latency_floor=0.5) == []
    assert slow(0.31, latency_requests=101) == []
    assert slow(0.001) == []


def test_pitfall_black_hole_fast_errors_never_look_like_low_latency() -> None:
    """One endpoint fails in 1 ms: its latency is not looked at, its failures are."""
    machine = outliers(enforcing_latency=100, consecutive_errors=10**6)
    for id in NAMES:
        for _ in range(100):
            failing = id == "b"
            machine.observe(id, Outcome.ERROR if failing else Outcome.OK, 0.001 if failing else 0.5, 1.0)
    assert [(d.id, d.cause) for d in machine.tick(10.0) if isinstance(d, Ejection)] == [("b", Cause.SUCCESS_RATE)]


def test_counters_start_anew_each_interval() -> None:
    machine = outliers()
    feed(machine, dict.fromkeys(NAMES, 60), 60)
    machine.tick(10.0)
    feed(machine, {"a": 0, "b": 60, "c": 60, "d": 60, "e": 60}, 60)
    assert machine.tick(20.0) == []


def test_ticks_early_late_repeated_and_back_in_time_are_harmless() -> None:
    machine = outliers()
    feed(machine, {"a": 50, "b": 100, "c": 100, "d": 100, "e": 100}, 100)
    assert machine.tick(9.999) == []
    assert out(machine.tick(55.0)) == ["a"]  # late: one sweep, and the next one is a whole interval away
    assert machine.deadline() == 65.0
    assert machine.tick(3.0) == []
    ejection = machine.streak("b", 3.0)
    assert ejection is None  # the cap: one of five is out already
    assert machine.tick(85.0) == [Return("a")]


def test_update_keeps_what_is_known_and_forgets_who_leaves() -> None:
    machine = outliers()
    machine.streak("a", 0.0)
    machine.update(["a", "b"], 1.0)
    assert machine.ejected == ("a",)
    machine.update(["b"], 2.0)
    assert machine.ejected == ()
    assert machine.streak("b", 2.0) is not None  # the one that left holds no place under the cap
    machine.update([], 3.0)
    assert machine.deadline() == math.inf
    machine.update(["a"], 4.0)
    assert (machine.deadline(), machine.ejected) == (14.0, ())


def test_bad_input_is_refused_and_changes_nothing() -> None:
    machine = outliers()
    for latency in (math.nan, -0.1, math.inf, "1"):
        with pytest.raises(LocalError, match="latency"):
            machine.observe("a", Outcome.OK, latency, 0.0)  # type: ignore[arg-type]
    with pytest.raises(LocalError, match="no endpoint has the id 'x'"):
        machine.observe("x", Outcome.OK, 0.1, 0.0)
    with pytest.raises(LocalError, match="two endpoints have the same id"):
        machine.update(["a", "a"], 1.0)
    with pytest.raises(LocalError, match="now must be a finite"):
        machine.tick(math.nan)
    with pytest.raises(LocalError, match="failures"):
        machine.add("a", 1, -1, 0.0)
    assert machine.tick(10.0) == []
    for bad in ({"interval": 0}, {"max_ejected_percent": 101}, {"base": math.nan}, {"consecutive_errors": 0}):
        with pytest.raises(LocalError, match=next(iter(bad))):
            outliers(**bad)  # type: ignore[arg-type]


rates = st.lists(st.integers(0, 120), min_size=1, max_size=9)


@given(rates, st.sampled_from([0.0, 0.5, 1.0, 1.9, 3.0]))
def test_success_rate_equals_the_definition(successes: list[int], factor: float) -> None:
    names = [str(n) for n in range(len(successes))]
    machine = outliers(names, success_rate_factor=factor, max_ejected_percent=100)
    feed(machine, dict(zip(names, successes, strict=True)), 120)
    percent = [100 * count / 120 for count in successes]
    mean = sum(percent) / len(percent)
    deviation = (sum((p - mean) ** 2 for p in percent) / len(percent)) ** 0.5
    found = out(machine.tick(10.0))
    edge = [n for n, p in zip(names, percent, strict=True) if abs(p - (mean - factor * deviation)) < 1e-9]
    expected = [n for n, p in zip(names, percent, strict=True) if p < mean - factor * deviation]
    assert [n for n in found if n not in edge] == [n for n in expected if n not in edge and len(names) >= 5]


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["fail", "restore", "tick", "leave", "join"]))))
def test_the_number_ejected_is_always_what_the_decisions_say(steps: list[tuple[str, str]]) -> None:
    machine = outliers(max_ejected_percent=60, base=7.0)
    here, gone, now = list(NAMES), set(), 0.0
    for id, what in steps:
        now += 3.0
        if what == "tick":
            for decision in machine.tick(now):
                (gone.add if isinstance(decision, Ejection) else gone.remove)(decision.id)
        elif what == "leave" and id in here:
            here.remove(id)
            gone.discard(id)
            machine.update(here, now)
        elif what == "join" and id not in here:
            here.append(id)
            machine.update(here, now)
        elif what == "fail" and id in here and machine.streak(id, now):
            gone.add(id)
        elif what == "restore" and id in here and machine.restore(id):
            gone.remove(id)
        assert set(machine.ejected) == gone
