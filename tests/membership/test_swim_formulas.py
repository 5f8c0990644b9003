"""The numbers of SWIM and Lifeguard, against their definitions, and some values worked out by hand."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from swim_world import Lone

from distkit.core import LocalError
from distkit.membership.swim import SwimOptions, plain
from distkit.membership.swim.formulas import (
    confirmations_wanted,
    expected_first_probe,
    retransmit_limit,
    suspicion_min,
    suspicion_timeout,
    sync_factor,
)


@given(st.integers(1, 10**6))
def test_limits_equal_their_definitions(n):
    exact = next(digits for digits in range(1, 9) if n + 1 <= 10**digits)  # ceil(log10(n + 1)) in integers
    assert retransmit_limit(4, n) == 4 * exact
    doublings = 0
    while 32 * 2**doublings < n:
        doublings += 1
    assert sync_factor(n) == (1 if n <= 32 else doublings + 1)


@pytest.mark.parametrize(("n", "limit"), [(1, 4), (9, 4), (10, 8), (99, 8), (100, 12), (999, 12), (1000, 16)])
def test_the_retransmit_limit(n, limit):
    assert retransmit_limit(4, n) == limit


@pytest.mark.parametrize(("n", "factor"), [(1, 1), (32, 1), (33, 2), (64, 2), (65, 3), (128, 3), (129, 4), (1000, 6)])
def test_the_pace_of_comparisons(n, factor):
    assert sync_factor(n) == factor


@pytest.mark.parametrize(
    ("n", "seconds"), [(1, 4.0), (10, 4.0), (20, 5.204), (50, 6.792), (100, 8.0), (500, 10.792), (1000, 12.0)]
)
def test_the_shortest_suspicion_has_three_decimals_of_the_logarithm(n, seconds):
    assert suspicion_min(4, n, 1.0) == seconds


def test_confirmations_are_wanted_only_where_there_are_enough_others():
    assert [confirmations_wanted(4, n) for n in (1, 2, 3, 4, 5, 100)] == [0, 0, 0, 2, 2, 2]
    assert confirmations_wanted(2, 100) == 0
    assert confirmations_wanted(1, 100) == -1


@pytest.mark.parametrize(("confirmations", "seconds"), [(0, 30.0), (1, 16.0), (2, 7.810), (3, 2.0)])
def test_confirmations_shorten_a_suspicion_by_their_logarithm(confirmations, seconds):
    # shortest 2 s, longest 30 s, 3 wanted
    assert suspicion_timeout(confirmations, 3, 2.0, 30.0) == seconds


def test_without_enough_others_a_suspicion_is_short_at_once():
    assert suspicion_timeout(0, 0, 4.0, 24.0) == 4.0
    assert suspicion_timeout(0, -1, 4.0, 24.0) == 4.0


@pytest.mark.parametrize(("n", "periods"), [(10, 1.5353), (100, 1.5774), (1000, 1.5815)])
def test_periods_until_somebody_probes_a_member(n, periods):
    assert round(expected_first_probe(n), 4) == periods
    assert expected_first_probe(10**9) == pytest.approx(math.e / (math.e - 1), abs=1e-4)


def test_random_probing_takes_as_long_as_its_formula_says():
    """n members each pick one of all n at random, period by period, until one of them picks member 0."""
    random, n, runs = Random(7), 20, 4000
    total = 0
    for _ in range(runs):
        periods = 1
        while not any(random.random() * n < 1 for _ in range(n)):
            periods += 1
        total += periods
    assert total / runs == pytest.approx(expected_first_probe(n), rel=0.04)


def test_the_first_probe_of_a_member_by_the_machine_comes_as_the_formula_says():
    """Each of n - 1 nodes draws a round; the member is first probed in the earliest place that it has in any."""
    n, runs, total = 12, 300, 0
    for run in range(runs):
        places = []
        for node in range(n - 1):
            lone = Lone(size=n, seed=f"{run} {node}", awareness_max=1)
            sends = lone.run(n - 1.0)
            pinged = [address for _, address, message in sends if type(message).__name__ == "Ping"]
            places.append(pinged.index("10.0.0.1:7946") + 1 if "10.0.0.1:7946" in pinged else n)
        total += min(places)
    # A member is in place p of a round of n - 1 with equal chance: the mean of the least of n - 1 such places.
    exact = sum(((n - 1 - p) / (n - 1)) ** (n - 1) for p in range(n - 1))
    assert total / runs == pytest.approx(exact, rel=0.06)
    assert exact < expected_first_probe(n)


@pytest.mark.parametrize(
    "values",
    [
        {"probe_interval": 0.0},
        {"probe_interval": math.inf},
        {"probe_timeout": 1.0},
        {"relay_timeout": 0.6},
        {"gossip_interval": math.nan},
        {"indirect_checks": -1},
        {"retransmit_mult": 0},
        {"awareness_max": 0},
        {"members_max": 1},
        {"members_max": 2.5},
        {"packet_bytes": 500},
        {"packet_bytes": 70000},
    ],
)
def test_options_that_make_no_sense_are_refused(values):
    with pytest.raises(LocalError):
        SwimOptions(**values)


def test_the_defaults_are_those_of_memberlist_for_a_local_network():
    options = SwimOptions()
    assert (options.probe_interval, options.probe_timeout, options.indirect_checks) == (1.0, 0.5, 3)
    assert (options.suspicion_mult, options.suspicion_max_mult, options.awareness_max) == (4, 6, 8)
    assert (options.gossip_nodes, options.gossip_interval, options.retransmit_mult) == (3, 0.2, 4)
    assert (options.sync_interval, options.gossip_to_dead, options.packet_bytes) == (30.0, 30.0, 1400)


def test_plain_options_have_no_lifeguard():
    options = plain(SwimOptions())
    assert (options.awareness_max, options.suspicion_max_mult, options.nacks, options.buddy) == (1, 1, False, False)
