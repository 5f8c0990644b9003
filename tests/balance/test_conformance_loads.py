"""Policies that look at load, as others publish them: through a cluster, against oracles of a few lines."""

import math
import random
from array import array
from collections import Counter

import pytest
from clusters import endpoints, in_flight, made, of, pick, too_uneven, turn, turns
from hypothesis import given, settings
from hypothesis import strategies as st

from distkit.balance import SATURATED, Cluster, ClusterOptions, Context, Endpoint, Outcome, policies
from distkit.core import LocalError

U64 = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15
STEPS = st.lists(st.one_of(st.none(), st.integers(0, 20)), max_size=60)  # a pick, or the end of one of those in flight


class SplitMix64:
    """The published generator, from the state that the cluster's is in: it says what the cluster is about to draw."""

    def __init__(self, cluster: Cluster) -> None:
        self.state: int = cluster.pick.__self__.seed  # type: ignore[attr-defined]

    def below(self, count: int) -> int:
        self.state = (self.state + GAMMA) & U64
        mixed = ((self.state ^ self.state >> 30) * 0xBF58476D1CE4E5B9) & U64
        mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & U64
        return ((mixed ^ mixed >> 31) >> 32) * count >> 32


def load(cluster: Cluster, **wanted: int) -> list[int]:
    """Put so much in flight on these endpoints; the handles."""
    return [cluster.pick(Context(override=id), 0.0) for id, count in wanted.items() for _ in range(count)]


# -- draws -------------------------------------------------------------------------------------------------------------


def test_random_is_even_and_weighted_random_follows_weights() -> None:
    assert not too_uneven(Counter(turns(made("random", [9, 1, 1, 1]), 4000)), dict.fromkeys("abcd", 1.0))
    weights = {"a": 5.0, "b": 0.25, "c": 1.0, "d": 3.75}
    assert not too_uneven(Counter(turns(made("weighted_random", list(weights.values())), 4000)), weights)


@pytest.mark.parametrize(("replacement", "share"), [(True, 0.25), (False, 0.0)])
def test_of_two_endpoints_the_busier_gets_a_quarter_with_replacement_and_nothing_without(
    replacement: bool, share: float
) -> None:
    cluster = made("least_request", [1, 1], choices=2, replacement=replacement)
    load(cluster, a=5)
    assert abs(turns(cluster, 4000).count("a") / 4000 - share) <= 0.03 * (share > 0)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=8), st.integers(2, 10), st.booleans(), st.integers(0, 99))
def test_least_request_spends_exactly_envoys_draws_and_takes_the_first_of_the_least(
    active: list[int], choices: int, spare: bool, seed: int
) -> None:
    weights = [1] * len(active)
    cluster = made("least_request", weights, seed, choices=choices, replacement=True, spare_draw=spare)
    load(cluster, **dict(zip("abcdefgh", active, strict=False)))
    drawn = SplitMix64(cluster)
    if spare:
        drawn.below(100)
    candidates = [drawn.below(len(active)) for _ in range(choices)]
    assert turn(cluster) == "abcdefgh"[min(candidates, key=active.__getitem__)]
    assert cluster.pick.__self__.seed == drawn.state  # type: ignore[attr-defined]


@given(st.lists(st.integers(1, 9), min_size=2, max_size=6), STEPS, st.integers(2, 10))
def test_choices_over_weights_never_take_a_strictly_worse_one_than_all_the_others(
    weights: list[int], steps: list[int | None], choices: int
) -> None:
    """Without replacement two are looked at, so who is alone at the bottom of load / weight gets nothing."""
    cluster = made("least_request", weights, choices=choices, replacement=False)
    handles: list[int] = []
    for step in steps:
        if step is None or not handles:
            active = in_flight(cluster)
            costs = {name: active[name] / weight for name, weight in zip("abcdef", weights, strict=False)}
            seen = min(choices, len(weights))
            handles.append(cluster.pick(None, 0.0))
            chosen = costs.pop(cluster.endpoint(handles[-1]).id)
            assert sum(other >= chosen for other in costs.values()) >= seen - 1
        else:
            cluster.done(handles.pop(step % len(handles)), Outcome.OK, 0.01, 0.0)


@pytest.mark.parametrize(("choices", "greatest"), [(1, {6, 7, 8, 9}), (2, {3, 4}), (3, {2, 3})])
def test_power_of_choices_bounds_the_maximum_as_published(choices: int, greatest: set[int]) -> None:
    count = 20000
    cluster = made("least_request", [1] * count, choices=choices, replacement=True)
    out = array("q", bytes(8 * count))
    assert cluster.pick_many(count, out, 0.0) == count
    assert max(Counter(out).values()) in greatest


def test_a_full_scan_breaks_ties_by_chance() -> None:
    assert not too_uneven(Counter(turns(made("least_request", [1] * 4, choices=0), 4000)), dict.fromkeys("abcd", 1.0))
    ties = of(endpoints([1] * 4), "least_connections", ties="random")
    assert not too_uneven(Counter(turns(ties, 4000)), dict.fromkeys("abcd", 1.0))


def test_weighted_choices_appear_as_often_as_the_closed_form_says() -> None:
    """Finagle's bias: of 2 drawn without replacement from weights 1, 1, 0.5 the light one is in 43.3 %, not 33 %."""
    weights = {"a": 1.0, "b": 1.0, "c": 0.5}
    appears = 0.2 + 2 * 0.4 * 0.5 / 1.5
    cluster = made("least_request", list(weights.values()), choices=2, weighted=True)
    load(cluster, a=10, b=10)  # now "c" wins whenever it is drawn
    assert abs(turns(cluster, 6000).count("c") / 6000 - appears) < 0.025


# -- least connections and its costs -----------------------------------------------------------------------------------


def cost_of(cost: str, active: int, weight: int) -> tuple[int, float]:
    if cost == "in_flight":
        return 0, active / weight
    if cost == "haproxy":
        return 0, (active + 1) * 256 / weight if active else 0
    return (int(active > 0) if cost == "never_queue" else 0), (active + 1) / weight


COSTS = ["in_flight", "next", "never_queue", "haproxy"]


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("policy", ["least_connections", "least_request"])
@settings(max_examples=40)
@given(weights=st.lists(st.integers(1, 9), min_size=1, max_size=6), steps=STEPS)
def test_the_least_cost_is_taken(policy: str, cost: str, weights: list[int], steps: list[int | None]) -> None:
    everybody = {"choices": 0} if policy == "least_request" else {}
    cluster = made(policy, weights, cost=cost, **everybody)
    handles: list[int] = []
    for step in steps:
        if step is None or not handles:
            active = in_flight(cluster)
            costs = {name: cost_of(cost, active[name], weights["abcdef".index(name)]) for name in active}
            if cost == "never_queue" and 0 in active.values():  # any idle one will do
                costs = {name: (int(active[name] > 0), 0.0) for name in active}
            handles.append(cluster.pick(None, 0.0))
            assert costs[cluster.endpoint(handles[-1]).id] == min(costs.values())
        else:
            cluster.done(handles.pop(step % len(handles)), Outcome.OK, 0.01, 0.0)


@pytest.mark.parametrize("name", ["sed", "nq"])
def test_sed_and_nq_are_ipvs_rules(name: str) -> None:
    """Weights 10 and 1 and nothing to do: sed goes on with the strong one, nq takes the idle one next."""
    cluster = made(name, [10, 1])
    assert [pick(cluster) for _ in range(2)] == (["a", "a"] if name == "sed" else ["a", "b"])


@pytest.mark.parametrize("cost", COSTS)
def test_equal_keys_rotate(cost: str) -> None:
    cluster = made("least_connections", [1] * 5, cost=cost)
    word = turns(cluster, 15)
    assert Counter(word[:5]) == Counter("abcde")
    assert word[:5] == word[5:10] == word[10:]


def test_weights_near_the_limit_do_not_overflow() -> None:
    greatest = float((1 << 32) - 1)
    for policy in ("least_connections", "least_request", "sed", "weighted_least_request", "edf", "static_stride"):
        cluster = made(policy, [greatest, greatest / 2])
        active = Counter(pick(cluster) for _ in range(300))
        assert abs(active["a"] - 200) <= 40, policy


# -- latencies ---------------------------------------------------------------------------------------------------------


class FinagleEwma:
    def __init__(self, default: float) -> None:
        self.ewma, self.stamp = default, 0.0

    def observe(self, latency: float, now: float, tau: float) -> None:
        e = math.exp(-max(0.0, now - self.stamp) / tau)
        self.ewma = latency if latency > self.ewma else e * self.ewma + (1 - e) * latency
        self.stamp = max(now, self.stamp)

    def load(self, pending: int, now: float, tau: float) -> float:
        self.observe(0.0, now, tau)
        return float(((1 << 63) - 1 >> 16) + pending) if self.ewma == 0 and pending else self.ewma * (pending + 1)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0, 3), st.floats(0, 2), st.booleans()), max_size=40),
    st.sampled_from([(10.0, 0.0), (1.0, 0.01)]),
)
def test_peak_ewma_is_finagles(steps: list[tuple[float, float, bool]], constants: tuple[float, float]) -> None:
    tau, default = constants
    cluster = made("peak_ewma", [1, 1], tau=tau, default_rtt=default)
    oracles = {"a": FinagleEwma(default), "b": FinagleEwma(default)}
    handles: list[int] = []
    now = 0.0
    for wait, latency, ends in steps:
        now += wait
        if ends and handles:
            handle = handles.pop(0)
            oracles[cluster.endpoint(handle).id].observe(latency, now, tau)
            cluster.done(handle, Outcome.OK, latency, now)
            continue
        active = in_flight(cluster)
        loads = {name: oracle.load(active[name], now, tau) for name, oracle in oracles.items()}
        handles.append(cluster.pick(None, now))
        assert loads[cluster.endpoint(handles[-1]).id] <= min(loads.values()) * (1 + 1e-9)


def test_peak_ewma_probes_a_new_endpoint_once() -> None:
    """A node that never answers gets one request, however many come."""
    cluster = made("peak_ewma", [1, 1])
    first = cluster.pick(Context(override="a"), 0.0)
    cluster.done(first, Outcome.OK, 1.0, 0.0)
    word = ""
    for _ in range(50):  # the first goes to "b", which nobody knows, and stays there
        handle = cluster.pick(None, 0.0)
        word += cluster.endpoint(handle).id
        if word[-1] == "a":
            cluster.done(handle, Outcome.OK, 1.0, 0.0)
    assert word == "b" + "a" * 49


@pytest.mark.parametrize(("at", "low", "high"), [(0.0, 0.00999, 0.01001), (0.1, 0.009, 0.01), (0.2, 0.008, 0.009)])
def test_peak_ewma_of_towers_constants_gives_towers_numbers(at: float, low: float, high: float) -> None:
    """Default 10 ms, tau 1 s: the load is 10 ms at the start, within (9, 10) at 100 ms, (8, 9) at 200 ms."""
    cluster = made("peak_ewma", [1, 1], tau=1.0, default_rtt=0.01)
    pick(cluster, at)
    assert all(low < row.latency < high for row in cluster.status().endpoints)


def test_envoys_peak_ewma_costs() -> None:
    """rtt 20 with 5 active is 120; without an rtt an active one costs 1e6 + active, an idle one the default of 10."""

    def wins(known: float, busy: int) -> str:
        cluster = made("peak_ewma", [1, 1], variant="envoy", default_rtt=10.0)
        handles = load(cluster, a=1)
        cluster.done(handles[0], Outcome.OK, known, 0.0)
        load(cluster, a=busy)
        return turn(cluster)

    assert wins(known=1.99, busy=4) == "a"  # 9.95, less than the default
    assert wins(known=2.01, busy=4) == "b"
    cluster = made("peak_ewma", [1, 1], variant="envoy", default_rtt=10.0)
    cluster.done(load(cluster, a=1)[0], Outcome.OK, 20.0, 0.0)
    load(cluster, a=5, b=3)  # 120 against a million
    assert turn(cluster) == "a"


def test_errors_that_come_fast_do_not_attract() -> None:
    for policy in ("peak_ewma", "least_time"):
        cluster = made(policy, [1, 1, 1])
        served: Counter[str] = Counter()
        now = 0.0
        for _ in range(600):
            now += 0.01
            handle = cluster.pick(None, now)
            name = cluster.endpoint(handle).id
            served[name] += 1
            bad = name == "a"
            cluster.done(handle, Outcome.ERROR if bad else Outcome.OK, 0.001 if bad else 0.05, now)
        if policy == "peak_ewma":
            assert served["a"] < 100


# -- least time --------------------------------------------------------------------------------------------------------


def time_key(average: float, active: int, weight: float) -> float:
    milliseconds = int(average * 1000 + 1e-6)
    stepped = 5000 if milliseconds > 5000 else milliseconds + 20 - milliseconds % 20
    return stepped * (1 + active) / weight


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(1, 7000), st.booleans()), max_size=30),
)
def test_least_time_is_nginxs_product_in_steps_of_20(weights: list[int], steps: list[tuple[int, bool]]) -> None:
    """Within fail_timeout; the average is what the status says."""
    cluster = made("least_time", weights)
    handles: list[int] = []
    for milliseconds, ends in steps:
        if ends and handles:
            cluster.done(handles.pop(0), Outcome.OK, milliseconds / 1000, 0.0)
            continue
        rows = cluster.status().endpoints
        if any(abs(row.latency * 1000 - round(row.latency * 1000)) < 1e-6 < row.latency for row in rows):
            continue  # on the edge of a millisecond rounding decides
        keys = {row.id: time_key(max(0.0, row.latency), row.in_flight, row.weight) for row in rows}
        handles.append(cluster.pick(None, 0.0))
        assert keys[cluster.endpoint(handles[-1]).id] == min(keys.values())


def test_least_time_averages_successes_by_a_twentieth() -> None:
    cluster = made("least_time", [1])
    for outcome, latency in ((Outcome.OK, 1.0), (Outcome.ERROR, 9.0), (Outcome.OK, 2.0), (Outcome.TIMEOUT, 9.0)):
        before = cluster.status().endpoints[0].latency
        cluster.done(cluster.pick(None, 0.0), outcome, latency, 0.0)
        after = cluster.status().endpoints[0].latency
        if outcome is not Outcome.OK:
            assert after == before
    assert after == pytest.approx(0.95 * before + 0.05 * 2.0) or after == pytest.approx(before)


# -- first available ---------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), STEPS)
def test_first_available_fills_in_order(limits: list[int], steps: list[int | None]) -> None:
    members = [Endpoint("abcdef"[i], concurrency_max=limit) for i, limit in enumerate(limits)]
    cluster = of(members, "first_available")
    handles: list[int] = []
    for step in steps:
        if step is None or not handles:
            active = in_flight(cluster)
            room = [each.id for each in members if not each.concurrency_max or active[each.id] < each.concurrency_max]
            handle = cluster.pick(None, 0.0)
            assert cluster.endpoint(handle).id == room[0] if room else handle == SATURATED
            handles += [handle] * (handle >= 0)
        else:
            cluster.done(handles.pop(step % len(handles)), Outcome.OK, 0.01, 0.0)


def test_first_available_follows_the_order_of_the_last_update() -> None:
    cluster = of([Endpoint("a"), Endpoint("b"), Endpoint("c")], "first_available")
    cluster.update([Endpoint("b"), Endpoint("a"), Endpoint("c")], 0.0)
    assert pick(cluster) == "b"
    cluster.update([Endpoint("new"), Endpoint("b")], 0.0)
    assert pick(cluster) == "new"


# -- what makes no policy ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("least_request", {"choices": -1}),
        ("least_request", {"choices": 11}),
        ("least_request", {"cost": "dear"}),
        ("least_connections", {"ties": "toss"}),
        ("peak_ewma", {"tau": 0.0}),
        ("peak_ewma", {"tau": math.nan}),
        ("peak_ewma", {"variant": "other"}),
        ("prequal", {"quantile": 1.5}),
        ("prequal", {"pool": 0}),
        ("maglev", {"size": 65536}),
        ("maglev", {"size": 1}),
        ("ring_hash", {"function": "md5"}),
        ("ring_hash", {"size_min": 10, "size_max": 5}),
        ("multi_probe", {"probes": 0}),
        ("anchor", {"capacity": 0}),
        ("jump", {"bound": 99}),
        ("jump", {"rule": "some"}),
        ("weighted_least_request", {"bias": -1.0}),
        ("weighted_least_request", {"bias": math.nan}),
        ("weighted_round_robin", {"max_fails": -1}),
        ("round_robin", {"weights": 1}),
        ("no_such_policy", {}),
    ],
)
def test_what_makes_no_policy_is_refused_by_name(name: str, options: dict[str, object]) -> None:
    with pytest.raises(LocalError) as caught:
        Cluster(ClusterOptions(policy=policies.named(name, **options)), random.Random(1))
    said = str(caught.value)
    assert name in said or any(option in said for option in options)
