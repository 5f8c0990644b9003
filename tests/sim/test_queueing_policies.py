"""Policies before simulated servers: theory within confidence intervals, known orders, and what a report says."""

import dataclasses
import math

import numpy as np
import pytest

from distkit._fast import queueing
from distkit.balance import ClusterOptions, policies
from distkit.core import LocalError
from distkit.sim.queueing import SCENARIOS, Change, Scenario, Server, compare, measure, report, simulate
from distkit.sim.queueing.compare import Interval, interval
from distkit.sim.queueing.scenarios import SHAPES, draw


def options(name: str, **values: object) -> ClusterOptions:
    return ClusterOptions(policy=policies.named(name, **values))


def means(name: str, scenario: Scenario, seeds: int = 5, **values: object) -> Interval:
    """The mean latency in units of the mean service time."""
    found = [measure(simulate(options(name, **values), scenario, seed)).mean for seed in range(seeds)]
    return interval([each / scenario.unit for each in found])


def queues(count: int, load: float, requests: int, **more: object) -> Scenario:
    return Scenario("test", "", (Server(),) * count, load=load, requests=requests, warm_up=0.2, **more)


def agrees(found: Interval, expected: float, bias: float = 0.0) -> bool:
    """Whether a value lies in the interval, widened for what a finite run leaves out."""
    return abs(found.mean - expected) <= found.half + bias


# -- theory ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("load", "expected"), [(0.5, 2.0), (0.9, 10.0)])
def test_random_is_m_m_1(load: float, expected: float) -> None:
    """Mean sojourn 1 / (1 - load)."""
    assert agrees(means("random", queues(100, load, 400_000), seeds=6), expected, bias=0.01 * expected)


@pytest.mark.parametrize(("load", "expected"), [(0.5, 1.2657), (0.9, 2.6141)])
def test_two_choices_are_as_mitzenmacher_has_it(load: float, expected: float) -> None:
    """The sum over i of load^(2^i - 2) for many servers; a hundred of them are a little above."""
    found = means("least_request", queues(100, load, 400_000), seeds=6, choices=2, replacement=True)
    assert agrees(found, expected, bias=0.015 * expected)


def test_round_robin_is_e_n_m_1() -> None:
    """Each server sees every n-th request: Erlang arrivals. 1 / (1 - s), s the root of s = (n l / (n l + 1 - s))^n."""
    count, load = 10, 0.8
    root = 0.5
    for _ in range(200):
        root = (count * load / (count * load + 1 - root)) ** count
    assert agrees(means("round_robin", queues(count, load, 300_000)), 1 / (1 - root), bias=0.02)


@pytest.mark.parametrize("shape", ["fixed", "lognormal", "bimodal"])
def test_one_server_keeps_pollaczek_and_khinchine(shape: str) -> None:
    """1 + load (1 + cv^2) / (2 (1 - load))."""
    squared = {"fixed": 0.0, "lognormal": math.exp(0.0625) - 1, "bimodal": 0.01 * 0.99 * 49**2 / 1.49**2}
    expected = 1 + 0.5 * (1 + squared[shape]) / (2 * 0.5)
    found = means("random", queues(1, 0.5, 400_000, shape=shape), seeds=8)
    assert agrees(found, expected, bias=0.01 * expected)


def test_the_least_loaded_of_all_stays_above_one_common_queue() -> None:
    """Join the shortest queue can't beat M/M/N (Erlang C), and is close to it."""
    count, load = 10, 0.8
    offered = count * load
    terms = [offered**each / math.factorial(each) for each in range(count)]
    last = offered**count / math.factorial(count) / (1 - load)
    common = 1 + last / (sum(terms) + last) / (count * (1 - load))
    found = means("least_connections", queues(count, load, 300_000))
    assert common - found.half < found.mean < 1.35 * common


def test_quantiles_of_m_m_1_are_those_of_an_exponential() -> None:
    found = [measure(simulate(options("random"), queues(50, 0.5, 300_000), seed)) for seed in range(4)]
    assert np.mean([each.p99 for each in found]) / 0.01 == pytest.approx(-math.log(0.01) / 0.5, rel=0.03)
    assert np.mean([each.p50 for each in found]) / 0.01 == pytest.approx(-math.log(0.5) / 0.5, rel=0.02)


@pytest.mark.parametrize("shape", SHAPES)
def test_service_times_have_the_mean_one(shape: str) -> None:
    demands = draw(queues(1, 0.5, 500_000, shape=shape), 3).demands / 0.01
    assert demands.mean() == pytest.approx(1.0, rel=0.02)


def test_littles_law_holds() -> None:
    """Requests in the system on average = rate times mean time in it."""
    run = simulate(options("random"), queues(20, 0.7, 100_000), 1)
    begun, ended = run.requests.times, run.requests.times + run.latencies
    moments = np.linspace(begun[1000], begun[-1000], 20_000)
    inside = np.searchsorted(begun, moments) - np.searchsorted(np.sort(ended), moments)
    rate = len(begun) / begun[-1]
    assert inside.mean() == pytest.approx(rate * run.latencies.mean(), rel=0.03)


# -- orders that are known ---------------------------------------------------------------------------------------------


def p99(name: str, scenario: str, seeds: int = 2, requests: int = 60_000) -> float:
    smaller = dataclasses.replace(SCENARIOS[scenario], requests=requests)
    return interval([measure(simulate(options(name), smaller, seed)).p99 for seed in range(seeds)]).mean


def test_with_slow_servers_who_looks_at_latency_wins() -> None:
    turns, fewest = p99("round_robin", "slow-servers"), p99("least_connections", "slow-servers")
    assert p99("peak_ewma", "slow-servers") < 0.25 * min(turns, fewest)


def test_prequal_has_six_times_less_of_a_tail_with_slow_servers_and_loses_where_servers_compute() -> None:
    """The cases that its users publish: servers that wait, two of sixteen slow ones; and a closed loop."""
    tails = {name: p99(name, "slow-servers") for name in ("round_robin", "least_connections", "prequal")}
    assert 6 * tails["prequal"] < min(tails["round_robin"], tails["least_connections"])
    scenario = dataclasses.replace(SCENARIOS["cpu-bound"], requests=40_000)
    goodput = {
        name: measure(simulate(options(name), scenario, 1)).goodput
        for name in ("round_robin", "least_connections", "prequal")
    }
    assert goodput["prequal"] < 0.9 * min(goodput["round_robin"], goodput["least_connections"])


def test_old_news_makes_the_least_loaded_no_better_than_two_choices() -> None:
    fresh, stale = dataclasses.replace(SCENARIOS["even"], requests=60_000), SCENARIOS["stale"]
    gains = []
    for scenario in (fresh, dataclasses.replace(stale, requests=60_000)):
        least, two = (
            measure(simulate(options(name), scenario, 1)).mean - scenario.round_trip * scenario.unit
            for name in ("least_connections", "p2c")
        )
        gains.append(two / least)
    assert gains[0] > 1.3 > 1.15 > gains[1]


def test_who_fails_at_once_attracts_who_counts_connections_and_not_who_counts_failures() -> None:
    scenario = dataclasses.replace(SCENARIOS["black-hole"], requests=60_000)
    errors = {
        name: measure(simulate(options(name), scenario, 1)).errors
        for name in ("round_robin", "least_connections", "peak_ewma")
    }
    assert errors["least_connections"] > 0.03
    assert errors["peak_ewma"] < 0.001
    assert errors["round_robin"] < 0.001


def test_hashing_keeps_keys_and_a_bound_spreads_the_hot_ones() -> None:
    scenario = dataclasses.replace(SCENARIOS["hot-keys"], requests=60_000)
    plain, bounded, loose = (
        measure(simulate(each, scenario, 1))
        for each in (options("maglev"), options("maglev", bound=110), options("random"))
    )
    assert plain.max_by_mean > 1.3 > bounded.max_by_mean
    assert 0.0 == plain.moved < bounded.moved < loose.moved


# -- runs and comparisons ----------------------------------------------------------------------------------------------


def test_the_same_seed_is_the_same_run_and_another_is_not() -> None:
    scenario = dataclasses.replace(SCENARIOS["hang"], requests=3000)
    one, two, other = (simulate(options("p2c"), scenario, seed) for seed in (4, 4, 5))
    assert np.array_equal(one.latencies, two.latencies, equal_nan=True)
    assert not np.array_equal(one.latencies, other.latencies, equal_nan=True)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_runs_and_answers_most(name: str) -> None:
    scenario = dataclasses.replace(SCENARIOS[name], requests=3000)
    found = measure(simulate(options("p2c"), scenario, 0))
    assert found.p50 <= found.p90 <= found.p99 <= found.p999
    assert found.errors < 0.1


def test_outliers_are_ejected_in_a_run() -> None:
    from distkit.balance.outliers import OutlierOptions

    scenario = dataclasses.replace(SCENARIOS["black-hole"], requests=30_000, attempts=1)
    ejecting = ClusterOptions(policy=policies.named("round_robin"), outliers=OutlierOptions())
    with_, without = (measure(simulate(each, scenario, 1)).errors for each in (ejecting, options("round_robin")))
    assert with_ < 0.1 * without


def test_checks_take_a_failing_server_out() -> None:
    from distkit.balance.checks import CheckOptions

    scenario = dataclasses.replace(SCENARIOS["black-hole"], requests=30_000, attempts=1)
    checks = CheckOptions(interval=0.5, unhealthy_interval=0.5, edge_interval=0.1)
    checking = ClusterOptions(policy=policies.named("round_robin"), checks=checks)
    with_, without = (measure(simulate(each, scenario, 1)).errors for each in (checking, options("round_robin")))
    assert with_ < 0.5 * without


def test_intervals_are_students() -> None:
    found = interval([1.0, 2.0, 3.0, 4.0])
    assert (found.mean, found.half) == (2.5, pytest.approx(3.182 * 1.2909944 / 2))
    assert math.isnan(interval([1.0]).half)
    assert interval([1.0, math.nan, 3.0]).mean == 2.0
    assert math.isnan(interval([math.nan]).mean)


def test_what_can_not_be_told_from_the_best_is_best_too() -> None:
    compared = compare(
        {"one": options("random"), "same": options("random"), "worse": options("first_available")},
        dataclasses.replace(SCENARIOS["even"], requests=4000, load=0.5),
        range(4),
    )
    assert compared.best("p99") == {"one", "same"}
    assert compared.ratio("same", "one", "p99") == Interval(1.0, 0.0)
    assert compared.ratio("worse", "one", "p99").mean > 1.0


def test_a_report_names_what_it_compares_and_escapes_it() -> None:
    scenario = Scenario(
        "a<b", "It is & it was.", (Server(),) * 3, requests=500, changes=(Change(0.5, (0,), queueing.SLOW, 2.0),)
    )
    page = report([compare({"x>y": options("random"), "p2c": options("p2c")}, scenario, range(3))], "make <it>")
    for expected in ("a&lt;b", "It is &amp; it was.", "x&gt;y", "make &lt;it&gt;", "99th percentile", "3 seeds"):
        assert expected in page
    assert "a<b" not in page
    assert page.count("<svg") == page.count("</svg>") == 2


def test_what_makes_no_scenario_is_refused() -> None:
    servers = (Server(),)
    for values in (
        {"servers": ()},
        {"load": 0.0},
        {"requests": 10},
        {"clients": 0},
        {"shape": "square"},
        {"burst": 5.0, "burst_share": 0.5},
        {"warm_up": 1.0},
    ):
        with pytest.raises(LocalError):
            Scenario("bad", "", **({"servers": servers} | values))
    with pytest.raises(LocalError, match="a comparison needs policies"):
        compare({}, SCENARIOS["even"], [1])
