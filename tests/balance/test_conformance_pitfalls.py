"""What went wrong in other balancers, and what callers do wrong: one test each, named after it."""

import dataclasses
import math
import random
from array import array
from collections import Counter

import pytest
from clusters import endpoints, in_flight, made, of, owners, pick, turn

from distkit.balance import NO_ENDPOINT, SATURATED, Cluster, ClusterOptions, Context, Endpoint, Gate, Outcome, policies
from distkit.balance.events import Ejected, PanicOn, Probe
from distkit.balance.outliers import OutlierOptions
from distkit.core import LocalError
from distkit.sim.queueing import SCENARIOS, measure, simulate

EVERY = sorted(policies.POLICIES)


def cluster_of(members: list[Endpoint], seed: int = 1, **options: object) -> Cluster:
    cluster = Cluster(ClusterOptions(**options), random.Random(seed))  # type: ignore[arg-type]
    cluster.update(members, 0.0)
    return cluster


# -- pitfalls ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", EVERY)
def test_a_flap_does_not_forget_load_in_flight(policy: str) -> None:
    cluster = made(policy, [1, 1, 1])
    handles = [cluster.pick(Context(override="a"), 0.0) for _ in range(50)]
    cluster.set_gate("a", Gate.FAILED_CHECKS, True, 1.0)
    assert in_flight(cluster)["a"] == 50
    cluster.set_gate("a", Gate.FAILED_CHECKS, False, 2.0)
    assert in_flight(cluster)["a"] == 50
    cluster.update(endpoints([1, 1, 1])[1:], 3.0)
    assert cluster.status().draining == 50
    cluster.update(endpoints([1, 1, 1]), 4.0)
    assert in_flight(cluster)["a"] == 50
    assert all(cluster.done(handle, Outcome.OK, 0.1, 5.0) for handle in handles)
    assert cluster.status().in_flight == 0


@pytest.mark.parametrize("policy", EVERY)
def test_a_black_hole_loses_its_share_with_outlier_ejection(policy: str) -> None:
    """Errors in 1 ms, the only answers of a new endpoint: whatever the policy makes of them, ejection ends it."""
    cluster = cluster_of(
        endpoints([1, 1, 1]),
        policy=policies.named(policy),
        outliers=OutlierOptions(max_ejected_percent=40, consecutive_errors=3, base=100.0),
    )
    served: Counter[str] = Counter()
    for number in range(300):
        now = number / 10
        handle = cluster.pick(Context(key=random.Random(number).randrange(1 << 32)), now)
        name = cluster.endpoint(handle).id
        served[name] += 1
        cluster.done(handle, Outcome.ERROR if name == "a" else Outcome.OK, 0.001 if name == "a" else 0.05, now)
        cluster.tick(now)
    assert served["a"] <= 6


@pytest.mark.parametrize("choices", [2, 3])
def test_the_herd_on_a_new_endpoint_is_bounded_by_the_choices(choices: int) -> None:
    """One idle endpoint beside nine busy ones gets at most 1 - (1 - 1/n)^d of picks with replacement."""
    cluster = made("least_request", [1] * 9, choices=choices, replacement=True)
    for _ in range(900):
        cluster.pick(None, 0.0)
    cluster.update(endpoints([1] * 10), 1.0)
    share = sum(turn(cluster) == "j" for _ in range(5000)) / 5000
    assert abs(share - (1 - 0.9**choices)) < 0.02


@pytest.mark.parametrize(("count", "percent", "ejected"), [(2, 10, 1), (3, 67, 2), (5, 40, 2), (4, 0, 0)])
def test_the_cap_of_ejections_holds_in_small_clusters(count: int, percent: int, ejected: int) -> None:
    """All fail: as many as documented leave, and panic is told."""
    cluster = cluster_of(
        endpoints([1] * count),
        policy=policies.RoundRobin(),
        outliers=OutlierOptions(max_ejected_percent=percent, consecutive_errors=1),
    )
    events = []
    for _ in range(10 * count):
        turn(cluster, Outcome.ERROR)
        events += cluster.events()
    assert len({event.id for event in events if isinstance(event, Ejected)}) == ejected
    assert any(isinstance(event, PanicOn) for event in events) == ((count - ejected) * 2 < count)


def test_weights_near_2_to_the_32_do_not_overflow() -> None:
    greatest = float((1 << 32) - 1)
    for policy in EVERY:
        cluster = made(policy, [greatest, greatest] if policy != "nginx_hash" else [3.0, 3.0])
        assert all(turn(cluster) in "ab" for _ in range(20))


def test_static_stride_needs_few_tries_with_very_uneven_weights() -> None:
    """The least share is a hundredth of the mean, so picks come even from weights a million times apart."""
    cluster = made("static_stride", [1e6] + [1.0] * 9)
    served = Counter(turn(cluster) for _ in range(20000))
    assert len(served) == 10


def test_the_ring_is_the_same_after_a_shuffle_and_for_another_locality_total() -> None:
    names = [Endpoint(f"n{number}") for number in range(20)]
    keys = [random.Random(number).randrange(1 << 64) for number in range(200)]
    assert owners(of(names, "ring_hash"), keys) == owners(of(names[::-1], "ring_hash", seed=2), keys)
    half = [dataclasses.replace(each, weight=0.5) for each in names]  # the same shares of another total
    assert owners(of(half, "ring_hash"), keys) == owners(of(names, "ring_hash"), keys)


# -- edges -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", EVERY)
def test_all_down_is_panic_or_failure_as_configured(policy: str) -> None:
    for threshold, fails in ((50, False), (0, True)):
        cluster = cluster_of(endpoints([1, 1]), policy=policies.named(policy), panic_threshold=threshold)
        for name in "ab":
            cluster.set_gate(name, Gate.DEAD, True, 0.0)
        assert (cluster.pick(None, 0.0) == NO_ENDPOINT) == fails
        assert any(isinstance(event, PanicOn) for event in cluster.events()) != fails


@pytest.mark.parametrize("policy", EVERY)
def test_weight_0_drains_and_an_unknown_one_is_the_mean(policy: str) -> None:
    cluster = made(policy, [0.0, 2.0, 4.0, None])
    assert all(turn(cluster) != "a" for _ in range(100))
    assert {row.id: row.weight for row in cluster.status().endpoints} == {"a": 0, "b": 2, "c": 4, "d": 3}
    cluster.set_gate("a", Gate.DRAINED, False, 0.0)  # its owner says nothing against it, its weight does
    assert all(turn(cluster) != "a" for _ in range(100))


def test_what_is_drained_stays_so_over_updates() -> None:
    cluster = made("round_robin", [1, 1])
    cluster.set_gate("a", Gate.DRAINED, True, 0.0)
    cluster.update(endpoints([2, 1]), 1.0)
    assert [turn(cluster) for _ in range(4)] == ["b"] * 4
    cluster.set_gate("a", Gate.DRAINED, False, 2.0)
    assert {turn(cluster) for _ in range(4)} == {"a", "b"}


@pytest.mark.parametrize("policy", EVERY)
def test_an_empty_cluster_says_so(policy: str) -> None:
    cluster = of([], policy)
    out = array("q", [0, 0])
    assert cluster.pick(None, 0.0) == NO_ENDPOINT
    assert cluster.pick_many(2, out, 0.0) == 2
    assert list(out) == [NO_ENDPOINT, NO_ENDPOINT]
    cluster.tick(1.0)
    assert cluster.status().in_flight == 0


@pytest.mark.parametrize("policy", EVERY)
def test_a_full_cluster_is_saturated_and_recovers(policy: str) -> None:
    cluster = of([Endpoint("a", concurrency_max=1), Endpoint("b", concurrency_max=1)], policy)
    first, second = cluster.pick(None, 0.0), cluster.pick(None, 0.0)
    assert {cluster.endpoint(first).id, cluster.endpoint(second).id} == {"a", "b"}
    assert cluster.pick(None, 0.0) == SATURATED
    cluster.done(first, Outcome.OK, 0.1, 0.0)
    assert cluster.pick(None, 0.0) == first


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf, 1e300, 1e-300])
def test_impossible_weights_are_refused(weight: float) -> None:
    with pytest.raises(LocalError, match="weight"):
        Endpoint("a", weight=weight)


@pytest.mark.parametrize("latency", [-1.0, math.nan, math.inf, -math.inf, 1e300])
@pytest.mark.parametrize("policy", EVERY)
def test_impossible_latencies_are_refused_and_change_nothing(policy: str, latency: float) -> None:
    cluster = made(policy, [1])
    handle = cluster.pick(None, 0.0)
    before = cluster.status()
    with pytest.raises(LocalError, match="latency"):
        cluster.done(handle, Outcome.OK, latency, 0.0)
    assert cluster.status() == before
    assert cluster.done(handle, Outcome.OK, 0.1, 0.0)


@pytest.mark.parametrize("now", [math.nan, math.inf, -math.inf])
def test_impossible_times_are_refused(now: float) -> None:
    cluster = made("peak_ewma", [1])
    handle = cluster.pick(None, 0.0)
    out = array("q", [0])
    for call in (
        lambda: cluster.pick(None, now),
        lambda: cluster.pick_many(1, out, now),
        lambda: cluster.done(handle, Outcome.OK, 0.1, now),
        lambda: cluster.update(endpoints([1]), now),
        lambda: cluster.tick(now),
        lambda: cluster.set_gate("a", Gate.DEAD, True, now),
    ):
        with pytest.raises(LocalError):
            call()
    assert cluster.status().in_flight == 1


def test_the_same_id_twice_is_refused_and_changes_nothing() -> None:
    cluster = made("round_robin", [1, 1])
    with pytest.raises(LocalError, match="'a'"):
        cluster.update([Endpoint("a"), Endpoint("b"), Endpoint("a")], 1.0)
    assert [row.id for row in cluster.status().endpoints] == ["a", "b"]


@pytest.mark.parametrize("key", ["a", b"a", 1.5, -1, 1 << 64, True])
@pytest.mark.parametrize("policy", ["maglev", "jump", "round_robin"])
def test_keys_of_a_wrong_type_are_refused(policy: str, key: object) -> None:
    cluster = made(policy, [1, 1])
    with pytest.raises(LocalError, match="key"):
        cluster.pick(Context(key=key), 0.0)  # type: ignore[arg-type]
    assert cluster.status().in_flight == 0


@pytest.mark.parametrize("out", [array("i", [0]), array("d", [0.0]), bytes(8), [0], None])
def test_buffers_of_a_wrong_kind_are_refused(out: object) -> None:
    cluster = made("round_robin", [1])
    with pytest.raises((LocalError, TypeError, BufferError, ValueError)):
        cluster.pick_many(1, out, 0.0)
    assert cluster.status().in_flight == 0


@pytest.mark.parametrize("count", [-1, 3])
def test_more_picks_than_there_is_room_for_are_refused(count: int) -> None:
    cluster = made("round_robin", [1])
    with pytest.raises(LocalError):
        cluster.pick_many(count, array("q", [0, 0]), 0.0)
    assert cluster.status().in_flight == 0


@pytest.mark.parametrize("handle", [-1, -2, 0, 1 << 62, (1 << 63) - 1, 7])
def test_handles_that_nobody_gave_are_stale(handle: int) -> None:
    cluster = made("round_robin", [1])
    assert not cluster.done(handle, Outcome.OK, 0.1, 0.0)
    assert cluster.status().stale == 1
    assert pick(cluster) == "a"


def test_unknown_names_are_refused() -> None:
    cluster = made("round_robin", [1])
    with pytest.raises(LocalError, match="nobody"):
        cluster.set_gate("nobody", Gate.DEAD, True, 0.0)
    with pytest.raises(LocalError):
        cluster.endpoint(99)
    assert cluster.pick(Context(override="nobody", exclude=("nobody",)), 0.0) >= 0


# -- Prequal's rules ---------------------------------------------------------------------------------------------------


def told(answers: dict[str, tuple[int, float]], **options: float) -> Cluster:
    """A cluster of whose endpoints each has answered one probe."""
    cluster = of([Endpoint(name) for name in answers], "prequal", probes=float(len(answers)), removals=0.0, **options)
    cluster.done(cluster.pick(None, 0.0), Outcome.OK, 0.1, 0.0)
    tell(cluster, answers, 0.0)
    return cluster


def tell(cluster: Cluster, answers: dict[str, tuple[int, float]], now: float) -> None:
    probes = [event for event in cluster.events() if isinstance(event, Probe)]
    assert {probe.id for probe in probes} == answers.keys()
    assert {probe.kind for probe in probes} == {"load"}
    for probe in probes:
        cluster.probed(probe.probe_id, Outcome.OK, *answers[probe.id], now)


def test_prequal_takes_the_cold_one_with_the_least_latency() -> None:
    answers = {"a": (1, 0.03), "b": (2, 0.01), "c": (2, 0.02), "d": (50, 0.001)}
    assert pick(told(answers, quantile=0.6)) == "b"
    assert pick(told(answers, quantile=1.0)) == "d"  # nobody is hot: latency alone
    assert pick(told(answers, quantile=0.0)) == "a"  # only the least loaded is cold


def test_prequal_takes_the_least_loaded_if_all_are_hot_and_nothing_that_is_too_old() -> None:
    cluster = told({"a": (0, 0.01), "b": (0, 0.01)}, quantile=0.0)
    pick(cluster, 5.0)  # the old answers are gone, the memory of what is usual is not
    tell(cluster, {"a": (20, 0.001), "b": (10, 0.9)}, 5.0)
    assert pick(cluster, 5.0) == "b"


def test_prequal_without_news_goes_by_chance() -> None:
    served = Counter(turn(made("prequal", [1] * 4, seed)) for seed in range(400))
    assert min(served.values()) > 60


def test_prequal_asks_for_as_many_probes_as_it_is_told() -> None:
    for rate in (3.0, 0.5):
        cluster = of(endpoints([1] * 8), "prequal", probes=rate)
        for _ in range(100):
            turn(cluster)
            asked = [event.id for event in cluster.events() if isinstance(event, Probe)]
            assert len(set(asked)) == len(asked) <= math.ceil(rate)


# -- before simulated servers ------------------------------------------------------------------------------------------


def test_a_slow_server_is_seen_by_latency_before_load_and_by_load_before_turns() -> None:
    """With one of many slow, latency beats load and load beats turns, seed by seed."""
    scenario = dataclasses.replace(SCENARIOS["slow-servers"], requests=20000)
    for seed in range(3):
        tails = [
            measure(simulate(ClusterOptions(policy=policies.named(name)), scenario, seed)).mean
            for name in ("peak_ewma", "least_connections", "round_robin")
        ]
        assert tails == sorted(tails)
