"""Rotations as others publish them: each policy through a cluster, against a sequence or an oracle of a few lines."""

import heapq
import random
from collections import Counter
from fractions import Fraction
from math import floor, gcd, lcm

import pytest
from clusters import endpoints, made, of, pick, too_uneven, turn, turns
from hypothesis import given, settings
from hypothesis import strategies as st

from distkit.balance import Cluster, ClusterOptions, Context, Endpoint, Gate, Outcome, policies

WEIGHTS = st.lists(st.integers(1, 20), min_size=1, max_size=8)

# -- round robin -------------------------------------------------------------------------------------------------------


@given(st.integers(1, 26))
def test_round_robin_gives_each_its_turn_in_order(count: int) -> None:
    names = "".join(each.id for each in endpoints([1] * count))
    assert turns(made("round_robin", [1] * count, random_phase=False), 3 * count) == names * 3


def test_round_robins_of_many_clients_begin_everywhere() -> None:
    firsts = Counter(turn(made("round_robin", [1] * 5, seed)) for seed in range(1000))
    assert not too_uneven(firsts, dict.fromkeys("abcde", 1.0))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), max_size=40))
def test_round_robin_over_closing_gates_keeps_counts_of_open_ones_within_one(changes: list[tuple[bool, int]]) -> None:
    """Whoever is open from one round's end to the next is served once in it, whatever others do."""
    cluster = made("round_robin", [1] * 6, random_phase=False)
    served: Counter[str] = Counter()
    for closed, number in changes:  # "f" is never closed
        cluster.set_gate("abcde"[number], Gate.SUSPECT, closed, 0.0)
        served[turn(cluster)] += 1
    assert all(served[name] <= served["f"] + 1 for name in "abcde")


# -- smooth weighted round robin ---------------------------------------------------------------------------------------


def smooth(weights: list[int], closed: list[set[int]], fails: list[bool], max_fails: int = 1) -> str:
    """nginx's rule, to the letter: one pick for each entry of `closed`, which fails where `fails` says so."""
    current, effective, word = [0.0] * len(weights), [float(weight) for weight in weights], ""
    for shut, failed in zip(closed, fails, strict=True):
        best, total = -1, 0.0
        for i in range(len(weights)):
            if i in shut:
                continue
            current[i] += effective[i]
            total += effective[i]
            effective[i] += effective[i] < weights[i]
            if best < 0 or current[i] > current[best]:
                best = i
        current[best] -= total
        if failed:
            effective[best] = max(0.0, effective[best] - weights[best] / max_fails)
        word += "abcdefgh"[best]
    return word


def test_smooth_weighted_round_robin_spreads_5_1_1_as_nginx_says() -> None:
    assert turns(made("weighted_round_robin", [5, 1, 1]), 14) == "aabacaa" * 2


@given(WEIGHTS)
def test_smooth_weighted_round_robin_is_nginxs_and_exact_in_a_period(weights: list[int]) -> None:
    period = sum(weights) // gcd(*weights)
    word = turns(made("weighted_round_robin", weights), 2 * period)
    assert word == smooth(weights, [set()] * (2 * period), [False] * (2 * period))
    assert Counter(word[:period]) == Counter(
        {"abcdefgh"[i]: weight // gcd(*weights) for i, weight in enumerate(weights)}
    )
    assert word[:period] == word[period:]


@settings(max_examples=50)
@given(WEIGHTS, st.sampled_from([1, 2, 4]), st.data())
def test_smooth_weighted_round_robin_with_failures_and_gates_is_nginxs(
    weights: list[int], max_fails: int, data: st.DataObject
) -> None:
    weights = [4 * weight for weight in weights]  # nginx divides integers: where the quotients are whole, so do we
    steps = data.draw(st.lists(st.tuples(st.sets(st.integers(1, 7), max_size=4), st.booleans()), max_size=30))
    closed = [{i for i in shut if i < len(weights)} for shut, _ in steps]
    fails = [failed for _, failed in steps]
    options = ClusterOptions(policies.named("weighted_round_robin", max_fails=max_fails), panic_threshold=0)
    cluster = Cluster(options, random.Random(1))
    cluster.update(endpoints(weights), 0.0)
    word, before = "", set[int]()
    for shut, failed in zip(closed, fails, strict=True):
        for i in shut ^ before:
            cluster.set_gate("abcdefgh"[i], Gate.SUSPECT, i in shut, 0.0)
        before = shut
        word += turn(cluster, Outcome.ERROR if failed else Outcome.OK)
    assert word == smooth(weights, closed, fails, max_fails)


# -- static stride -----------------------------------------------------------------------------------------------------


def half_up(value: float) -> int:
    return floor(value + 0.5)


def go_scaled(weights: list[float]) -> list[int] | None:
    """Weights in 16 bits as grpc-go has them; None means plain round robin. A weight of 0 is an unknown one."""
    known = [weight for weight in weights if weight]
    if len(weights) == 1 or len(known) < 2:
        return None
    factor = 65535 / max(known)
    mean = half_up(factor * sum(known) / len(known))
    scaled = [half_up(factor * weight) if weight else mean for weight in weights]
    return None if len(set(scaled)) == 1 else scaled


def strides(scaled: list[int] | None, count: int, picks: int, sequence: int = 0) -> str:
    word = ""
    while len(word) < picks:
        i, generation = sequence % count, sequence // count
        sequence = (sequence + 1) % (1 << 32)
        if scaled is None or (scaled[i] * generation + i * 32767) % 65535 >= 65535 - scaled[i]:
            word += "abcdefgh"[i]
    return word


@given(st.lists(st.integers(0, 1000).map(float), min_size=1, max_size=8))
def test_static_stride_without_clamps_is_grpc_gos(weights: list[float]) -> None:
    cluster = of(endpoints([weight or None for weight in weights]), "static_stride", clamp=False, random_phase=False)
    assert turns(cluster, 60) == strides(go_scaled(weights), len(weights), 60)


@given(st.lists(st.integers(1, 4000).map(float), min_size=2, max_size=8))
def test_static_stride_with_clamps_is_grpc_cores(weights: list[float]) -> None:
    mean = sum(weights) / len(weights)
    greatest = min(max(weights), 10 * mean)
    factor = 65535 / greatest
    least = max(1, half_up(0.01 * factor * mean))
    scaled: list[int] | None = [max(half_up(min(weight, greatest) * factor), least) for weight in weights]
    if len(set(weights)) == 1:
        scaled = None
    cluster = made("static_stride", weights, random_phase=False)
    assert turns(cluster, 60) == strides(scaled, len(weights), 60)


def test_static_stride_serves_exactly_its_weights_in_65535_rounds() -> None:
    served = Counter(turns(made("static_stride", [65535, 13107, 39321], random_phase=False), 9000))
    assert [served[name] for name in "abc"] == [5000, 1000, 3000]


# -- earliest deadline first -------------------------------------------------------------------------------------------


def deadlines(weights: list[int], picks: int) -> str:
    heap = [(Fraction(1, weight), i, i) for i, weight in enumerate(weights)]
    heapq.heapify(heap)
    word = ""
    for order in range(len(weights), len(weights) + picks):
        at, _, i = heapq.heappop(heap)
        heapq.heappush(heap, (at + Fraction(1, weights[i]), order, i))
        word += "abcdefgh"[i]
    return word


@given(st.lists(st.sampled_from([1, 2, 4, 8, 16]), min_size=1, max_size=8))
def test_edf_without_a_phase_is_envoys(weights: list[int]) -> None:
    """Powers of two, whose deadlines are exact in doubles."""
    assert turns(made("edf", weights, random_phase=False), 60) == deadlines(weights, 60)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(0, 1000))
def test_edf_with_a_phase_serves_the_weights_from_wherever_it_begins(weights: list[int], seed: int) -> None:
    """In whole periods counts are exact but for the two ends of the window."""
    periods = 3
    word = turns(made("edf", weights, seed), periods * sum(weights))
    assert all(abs(word.count("abcdefgh"[i]) - periods * weight) <= 1 for i, weight in enumerate(weights))


def test_weighted_least_request_is_envoys_sequence() -> None:
    cluster = made("weighted_least_request", [1, 2], random_phase=False)
    assert turns(cluster, 6) == "babbab"
    on_b = cluster.pick(Context(override="b"), 0.0)
    assert turns(cluster, 5) == "babab"
    on_a = cluster.pick(Context(override="a"), 0.0)
    assert cluster.done(on_b, Outcome.OK, 0.1, 0.0)
    assert turns(cluster, 10) == "abbbabbbba"
    assert cluster.done(on_a, Outcome.OK, 0.1, 0.0)


@given(st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=8))
def test_weighted_least_request_with_bias_0_is_plain_edf(weights: list[int]) -> None:
    cluster = made("weighted_least_request", weights, bias=0.0, random_phase=False)
    assert "".join(pick(cluster) for _ in range(40)) == deadlines(weights, 40)


# -- all of them -------------------------------------------------------------------------------------------------------

WEIGHTED = ["weighted_round_robin", "static_stride", "edf", "weighted_least_request"]


@pytest.mark.parametrize("policy", [*WEIGHTED, "weighted_random"])
def test_weights_are_shares(policy: str) -> None:
    served = Counter(turns(made(policy, [4, 1, 2, 1]), 8000))
    slack = 200 if policy == "weighted_random" else 2
    for name, weight in zip("abcd", [4, 1, 2, 1], strict=True):
        assert abs(served[name] - 1000 * weight) <= slack


def test_first_picks_of_fresh_strides_are_those_of_a_random_sequence_number() -> None:
    weights, chance = [8, 4, 2, 1, 1], random.Random(9)
    scaled = go_scaled([float(weight) for weight in weights])
    expected = Counter(strides(scaled, 5, 1, chance.randrange(1 << 32)) for _ in range(20000))
    firsts = Counter(turn(made("static_stride", weights, seed)) for seed in range(2000))
    assert not too_uneven(firsts, {name: float(count) for name, count in expected.items()})


@pytest.mark.parametrize("policy", ["edf", "weighted_least_request"])
def test_first_picks_of_many_fresh_clients_follow_the_weights(policy: str) -> None:
    firsts = Counter(turn(made(policy, [8, 4, 2, 1, 1], seed)) for seed in range(2000))
    assert not too_uneven(firsts, dict(zip("abcde", [8.0, 4, 2, 1, 1], strict=True)))


@pytest.mark.parametrize("policy", ["round_robin", *WEIGHTED])
def test_a_rotation_goes_on_over_updates_every_few_picks(policy: str) -> None:
    """Somebody comes and goes every third pick: the others get what their weights say nevertheless."""
    weights = [1, 1, 1] if policy == "round_robin" else [3, 2, 1]
    cluster = made(policy, weights)
    chance = random.Random(5)
    served: Counter[str] = Counter()
    for number in range(900):
        if number % 3 == 0:
            guest = [Endpoint(f"guest-{number}", weight=float(min(weights)))] if chance.random() < 0.5 else []
            cluster.update(endpoints(weights) + guest, 0.0)
        served[turn(cluster)] += 1
    known = sum(served[name] for name in "abc")
    for name, weight in zip("abc", weights, strict=True):
        assert abs(served[name] / known - weight / sum(weights)) < 0.04


@pytest.mark.parametrize("policy", ["weighted_round_robin", "edf"])
def test_a_rotation_does_not_restart_when_the_same_endpoints_are_told_again(policy: str) -> None:
    weights = [5.0, 3.0, 1.0]
    told, quiet = made(policy, weights), made(policy, weights)
    word = ""
    for _ in range(lcm(9, 2)):
        told.update(endpoints(weights), 0.0)
        word += turn(told)
    assert word == turns(quiet, 18)


def test_named_policies_all_choose_one_of_one() -> None:
    for name in policies.POLICIES:
        cluster = Cluster(ClusterOptions(policy=policies.named(name)), random.Random(3))
        cluster.update([Endpoint("only")], 0.0)
        assert [turn(cluster) for _ in range(5)] == ["only"] * 5, name
