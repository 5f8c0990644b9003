"""Policies against published sequences, and each against an oracle of a few lines written from its definition."""

import math
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from balancing import STEP, below, cluster_of, draws, end, in_flight, load, picked, picks

from distkit.balance import Cluster, Context, Outcome

PENALTY = ((1 << 63) - 1) >> 16


def test_smooth_round_robin_as_nginx_published() -> None:
    cluster = cluster_of("weighted_round_robin", {"a": 5, "b": 1, "c": 1})
    assert picks(cluster, 14) == "aabacaa" * 2


@pytest.mark.parametrize("weights", [(5, 1, 1), (1, 2, 3), (4, 6), (7, 7, 7), (10, 1, 3, 5)])
def test_smooth_round_robin_is_exact_over_a_period_and_comes_back(weights: tuple[int, ...]) -> None:
    cluster = cluster_of("weighted_round_robin", {chr(97 + i): weight for i, weight in enumerate(weights)})
    period = sum(weights) // math.gcd(*weights)
    first, second = picks(cluster, period), picks(cluster, period)
    assert first == second
    assert [first.count(chr(97 + i)) * math.gcd(*weights) for i in range(len(weights))] == list(weights)


def smooth(weights: list[float], max_fails: int) -> Callable[[int | None], int]:
    """nginx's rule; the argument is who failed since the last pick."""
    current, effective = [0.0] * len(weights), list(weights)

    def turn(failed: int | None) -> int:
        if failed is not None:
            effective[failed] = max(0.0, effective[failed] - weights[failed] / max_fails)
        total = 0.0
        best = -1
        for i, weight in enumerate(weights):
            current[i] += effective[i]
            total += effective[i]
            if effective[i] < weight:
                effective[i] = min(weight, effective[i] + 1)
            if best < 0 or current[i] > current[best]:
                best = i
        current[best] -= total
        return best

    return turn


@pytest.mark.parametrize("seed", range(20))
def test_smooth_round_robin_takes_weight_for_failures(seed: int) -> None:
    random = Random(seed)
    weights = [float(random.randint(1, 9)) for _ in range(5)]
    cluster = cluster_of("weighted_round_robin", dict(zip("abcde", weights, strict=True)), max_fails=2)
    oracle = smooth(weights, 2)
    failed: int | None = None
    for _ in range(100):
        handle = cluster.pick(None, 0.0)
        slot = handle & 0xFFFFFFFF
        assert slot == oracle(failed)
        failed = slot if random.random() < 0.3 else None
        cluster.done(handle, Outcome.OK if failed is None else Outcome.ERROR, 0.1, 0.0)


def stride(weights: list[int], sequence: int) -> tuple[int, int, int]:
    """(who is next, the sequence after it, tries) by the rule of gRPC's static stride scheduler."""
    tries = 0
    while True:
        place, turn = sequence % len(weights), sequence // len(weights)
        sequence = (sequence + 1) % (1 << 32)
        tries += 1
        if (weights[place] * turn + place * 32767) % 65535 >= 65535 - weights[place]:
            return place, sequence, tries


@pytest.mark.parametrize(
    ("clamp", "given", "scaled"),
    [
        (False, [1.0, 2.0, 4.0], [16384, 32768, 65535]),
        (False, [3.0, 3.0, 3.0], [65535] * 3),
        (False, [1e-6, 1.0, 1.0], [0, 65535, 65535]),
        (True, [1.0, 2.0, 4.0], [16384, 32768, 65535]),
        (True, [1e-6, 1.0, 1.0], [437, 65535, 65535]),  # a hundredth of the mean, 43690, rounded
        (True, [100.0] + [1.0] * 19, [65535] + [1101] * 19),  # no weight counts for more than ten times the mean
    ],
)
def test_static_stride_scales_and_strides_as_grpc(clamp: bool, given: list[float], scaled: list[int]) -> None:
    names = [f"e{i}" for i in range(len(given))]
    cluster = cluster_of("static_stride", dict(zip(names, given, strict=True)), clamp=clamp, random_phase=False)
    sequence = 0
    for _ in range(3000):
        place, sequence, _tries = stride(scaled, sequence)
        assert picked(cluster) == names[place]


def test_stride_loops_long_with_very_uneven_weights() -> None:
    """Of the greatest weight every turn is taken, so a pick never tries more than each place once."""
    scaled = [65535] + [656] * 99
    sequence = (1 << 32) - 5_000  # over the wrap of the sequence
    for _ in range(10_000):
        _place, sequence, tries = stride(scaled, sequence)
        assert tries <= 2 * len(scaled)
    # In the long run by weight, from any phase.
    for seed in range(3):
        cluster = cluster_of("static_stride", {"a": 10, "b": 1}, seed)
        counts = Counter(picks(cluster, 1100))
        assert abs(counts["a"] - 1000) <= 2


def test_static_stride_starts_anywhere() -> None:
    firsts = {picks(cluster_of("static_stride", {"a": 1, "b": 1, "c": 1}, seed), 1) for seed in range(20)}
    assert firsts == {"a", "b", "c"}


def edf(weights: dict[str, float], count: int) -> str:
    """Earliest deadline first; ties in order of insertion."""
    order = len(weights)
    queue = [(1 / weight, i, name) for i, (name, weight) in enumerate(weights.items())]
    chosen = ""
    for _ in range(count):
        deadline, _turn, name = min(queue)
        queue.remove(min(queue))
        chosen += name
        order += 1
        queue.append((deadline + 1 / weights[name], order, name))
    return chosen


@pytest.mark.parametrize("seed", range(10))
def test_edf_is_the_queue_of_its_definition(seed: int) -> None:
    random = Random(seed)
    weights = {name: random.choice([1.0, 2.0, 3.5, 7.0, random.random() + 0.1]) for name in "abcde"}
    assert picks(cluster_of("edf", weights, random_phase=False), 200) == edf(weights, 200)


def test_weighted_least_request_as_envoy_published() -> None:
    cluster = cluster_of("weighted_least_request", {"A": 1, "B": 2}, random_phase=False)
    assert picks(cluster, 6) == "BABBAB"
    held = load(cluster, B=1)["B"]
    assert in_flight(cluster) == {"A": 0, "B": 1}
    assert picks(cluster, 5) == "BABAB"
    end(cluster, held)
    load(cluster, A=1)
    assert picks(cluster, 10) == "ABBBABBBBA"


def test_a_bias_of_0_is_a_weighted_round_robin_and_a_high_one_avoids_load() -> None:
    weights = {"A": 1.0, "B": 2.0}
    plain = cluster_of("weighted_least_request", weights, bias=0.0, random_phase=False)
    load(plain, B=9)
    assert picks(plain, 9) == picks(cluster_of("edf", weights, random_phase=False), 9)
    strict = cluster_of("weighted_least_request", weights, bias=4.0, random_phase=False)
    load(strict, B=9)
    assert Counter(picks(strict, 100))["B"] <= 2


# Draws and loads.


def test_least_request_draws_as_envoy_published() -> None:
    """Active (4, 3, 2, 1): a spare draw, then 3, 0, 3, 2, 1 of five choices is host 3, for six random numbers."""
    wanted = [3, 0, 3, 2, 1]
    seed = next(seed for seed in range(1 << 20) if [below(each, 4) for each in draws(seed, 6)[1:]] == wanted)
    hosts = {str(place): 1.0 for place in range(4)}
    cluster = cluster_of("least_request", hosts, seed, choices=5, replacement=True, spare_draw=True)
    for place, count in enumerate((4, 3, 2, 1)):
        load(cluster, **{str(place): count})
    assert picked(cluster) == "3"
    assert (cluster.picker.seed - seed) % (1 << 64) == 6 * STEP % (1 << 64)


@pytest.mark.parametrize("seed", range(30))
def test_choices_with_replacement(seed: int) -> None:
    cluster = cluster_of("least_request", dict.fromkeys("abcdef", 1.0), seed, choices=3, replacement=True)
    drawn = iter(draws(seed, 90))
    for _ in range(30):
        active = list(in_flight(cluster).values())
        places = [below(next(drawn), 6) for _ in range(3)]
        handle = cluster.pick(None, 0.0)
        assert handle & 0xFFFFFFFF == min(places, key=lambda place: active[place])


@pytest.mark.parametrize("seed", range(30))
def test_choices_without_replacement(seed: int) -> None:
    cluster = cluster_of("least_request", dict.fromkeys("abcdef", 1.0), seed)
    drawn = iter(draws(seed, 60))
    for _ in range(30):
        active = list(in_flight(cluster).values())
        a, b = below(next(drawn), 6), below(next(drawn), 5)
        b += b >= a
        assert cluster.pick(None, 0.0) & 0xFFFFFFFF == (b if active[b] < active[a] else a)


def test_two_choices_of_two_with_replacement_give_the_busier_one_a_quarter() -> None:
    for replacement, low, high in ((True, 0.23, 0.27), (False, 0.0, 0.0)):
        cluster = cluster_of("least_request", {"a": 1.0, "b": 1.0}, replacement=replacement)
        load(cluster, a=5)
        assert low <= picks(cluster, 4000).count("a") / 4000 <= high


def test_weighted_choices_appear_as_often_as_the_closed_form_says() -> None:
    """Of three, drawn two without replacement by weight (Finagle): P(a) = p_a + sum over b of p_b p_a / (1 - p_b)."""
    weights = {"a": 0.5, "b": 1.0, "c": 1.0}
    total = sum(weights.values())
    expected = 0.5 / total + sum(weights[b] / total * 0.5 / (total - weights[b]) for b in "bc")
    cluster = cluster_of("least_request", weights, weighted=True, replacement=False)
    load(cluster, b=50, c=50)  # whenever a is among the two, a is taken
    assert abs(picks(cluster, 20_000).count("a") / 20_000 - expected) < 0.01
    assert expected > 0.5 * 2 * 1.0 / total  # the bias: more than half as often as one of weight 1


def test_weighted_random_follows_weights() -> None:
    weights = {"a": 1.0, "b": 2.0, "c": 7.0}
    counts = Counter(picks(cluster_of("weighted_random", weights), 20_000))
    for id, weight in weights.items():
        assert abs(counts[id] / 20_000 - weight / 10) < 0.012


def test_full_scan_breaks_ties_by_chance() -> None:
    cluster = cluster_of("least_request", dict.fromkeys("abcd", 1.0), choices=0)
    counts = Counter(picks(cluster, 4000))
    assert min(counts.values()) > 900


COSTS: dict[str, Callable[[int, float], float]] = {
    "in_flight": lambda active, weight: active / weight,
    "next": lambda active, weight: (active + 1) / weight,
    "never_queue": lambda active, weight: (active + 1) / weight if active else 0.0,
    "haproxy": lambda active, weight: (active + 1) * 256 // weight if active else 0.0,
}


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("seed", range(5))
def test_least_connections_takes_the_least_cost_and_rotates(cost: str, seed: int) -> None:
    random = Random(seed)
    weights = {id: float(random.randint(1, 4)) for id in "abcdefg"}
    cluster = cluster_of("least_connections", weights, cost=cost)
    last = dict.fromkeys(weights, 0) | {id: place for place, id in enumerate(weights)}
    active = dict.fromkeys(weights, 0)
    open_handles: list[tuple[str, int]] = []
    for turn in range(400):
        if open_handles and random.random() < 0.45:
            id, handle = open_handles.pop(random.randrange(len(open_handles)))
            end(cluster, [handle])
            active[id] -= 1
            continue
        handle = cluster.pick(None, 0.0)
        id = cluster.endpoint(handle).id
        assert id == min(weights, key=lambda id: (COSTS[cost](active[id], weights[id]), last[id]))
        active[id] += 1
        last[id] = turn + len(weights)
        open_handles.append((id, handle))


def test_least_conn_unevenness_with_queues() -> None:
    """Equal ones rotate, however many there are and whoever has just been released."""
    cluster = cluster_of("least_connections", dict.fromkeys("abcdefgh", 1.0))
    counts = Counter(picks(cluster, 800))
    assert set(counts.values()) == {100}
    counts = Counter(picks(cluster_of("least_connections", dict.fromkeys("abcd", 1.0), ties="random"), 4000))
    assert min(counts.values()) > 900


# Latencies.


def latency_of(cluster: Cluster, id: str) -> float:
    """The average that the policy keeps."""
    return next(row.latency for row in cluster.status().endpoints if row.id == id)


def answer(cluster: Cluster, id: str, latency: float, now: float, outcome: Outcome = Outcome.OK) -> None:
    """One request to this endpoint, answered."""
    assert cluster.done(cluster.pick(Context(override=id), now), outcome, latency, now)


def test_peak_ewma_as_finagle() -> None:
    cluster = cluster_of("peak_ewma", {"a": 1.0}, choices=0)
    answer(cluster, "a", 0.1, 0.0)
    assert latency_of(cluster, "a") == 0.1
    answer(cluster, "a", 0.5, 1.0)  # a peak counts at once
    assert latency_of(cluster, "a") == 0.5
    answer(cluster, "a", 0.1, 11.0)  # one tau later
    decay = math.exp(-1.0)
    assert latency_of(cluster, "a") == decay * 0.5 + (1 - decay) * 0.1


def test_peak_ewma_reads_decay_as_tower() -> None:
    cluster = cluster_of("peak_ewma", {"a": 1.0, "b": 1.0}, choices=0, tau=1.0, default_rtt=0.01)
    assert latency_of(cluster, "a") == 0.01
    for now, low, high in ((0.0, 0.01, 0.01), (0.1, 0.009, 0.01), (0.2, 0.008, 0.009)):
        picked(cluster, now)
        assert low <= latency_of(cluster, "a") <= high


def test_a_new_node_of_finagle_is_tried_once() -> None:
    """With requests in flight and no answer yet it costs more than anybody who has answered."""
    cluster = cluster_of("peak_ewma", {"a": 1.0, "b": 1.0, "c": 1.0}, choices=0)
    answer(cluster, "a", 1.0, 0.0)
    answer(cluster, "b", 1.0, 0.0)
    chosen = Counter(cluster.endpoint(cluster.pick(None, 0.0)).id for _ in range(50))
    assert chosen["c"] == 1


def test_peak_ewma_as_envoy() -> None:
    """(rtt 20 ms, active 5) = 120; never answered: 1e6 + active when busy, 10 when idle."""
    options = {"variant": "envoy", "choices": 0, "default_rtt": 0.01}
    cluster = cluster_of("peak_ewma", {"a": 1.0, "idle": 1.0}, **options)
    answer(cluster, "a", 0.02, 0.0)
    assert picked(cluster) == "idle"  # 10 < 20
    load(cluster, idle=1)
    assert picked(cluster) == "a"  # 20 < 1e6 + 1
    load(cluster, a=5)
    slow = cluster_of("peak_ewma", {"a": 1.0, "b": 1.0}, **options)
    answer(slow, "a", 0.02, 0.0)
    answer(slow, "b", 0.119, 0.0)
    load(slow, a=5)
    assert picked(slow) == "b"  # 119 < 120
    answer(slow, "b", 1.0, 60.0)
    assert picked(slow, 60.0) == "a"  # 120 < about 998


def test_black_hole() -> None:
    """An endpoint that fails in 1 ms: failures never lower its cost, and its share falls."""
    for policy in ("peak_ewma", "least_time", "weighted_round_robin"):
        cluster = cluster_of(policy, dict.fromkeys("abcd", 4.0))
        now, counts = 0.0, Counter[str]()
        for _ in range(2000):
            now += 0.01
            handle = cluster.pick(None, now)
            id = cluster.endpoint(handle).id
            counts[id] += 1
            before = latency_of(cluster, "a")
            cluster.done(handle, *((Outcome.ERROR, 0.001) if id == "a" else (Outcome.OK, 0.05)), now)
            assert id != "a" or latency_of(cluster, "a") >= before
        assert counts["a"] < 500 if policy != "least_time" else counts["a"] <= 2000
        if policy == "peak_ewma":
            assert counts["a"] < 100


@pytest.mark.parametrize(("milliseconds", "step"), [(0, 20), (19, 20), (20, 40), (39, 40), (5000, 5020), (5001, 5000)])
def test_least_time_rounds_as_nginx(milliseconds: int, step: int) -> None:
    """The steps show in who is cheaper: one with n in flight costs step * (1 + n)."""
    cluster = cluster_of("least_time", {"a": 1.0, "b": 1.0})
    answer(cluster, "a", (milliseconds + 0.5) / 1000, 0.0)
    answer(cluster, "b", 0.0, 0.0)  # 20
    more = step // 20 - 1
    load(cluster, b=more)
    assert set(picks(cluster, 4)) == {"a", "b"}  # they cost the same
    load(cluster, b=1)
    assert set(picks(cluster, 4)) == {"a"}


def test_least_time_averages_successes_only_and_forgets() -> None:
    cluster = cluster_of("least_time", {"a": 1.0, "b": 1.0})
    answer(cluster, "a", 0.1, 0.0)
    answer(cluster, "a", 0.2, 0.0)
    assert latency_of(cluster, "a") == 0.95 * 0.1 + 0.05 * 0.2
    answer(cluster, "a", 9.0, 0.0, Outcome.ERROR)
    assert latency_of(cluster, "a") == 0.95 * 0.1 + 0.05 * 0.2
    answer(cluster, "b", 0.06, 0.0)
    assert set(picks(cluster, 10)) == {"b"}
    assert "a" in {picked(cluster, 22.0 + i / 100) for i in range(4)}  # 105 >> 2 = 26 costs as much as 60 >> 2 = 15


def test_least_time_goes_by_weight_and_takes_turns_among_equals() -> None:
    cluster = cluster_of("least_time", {"a": 1.0, "b": 2.0})
    load(cluster, b=1)  # 20 * 2 / 2 = 20 = 20 * 1 / 1
    assert picks(cluster, 6) == "babbab"


# The rest.


def test_first_available_goes_on_where_one_is_full() -> None:
    cluster = cluster_of("first_available", {"a": 1.0, "b": 1.0})
    assert picks(cluster, 5) == "aaaaa"
    assert picked(cluster, context=Context(exclude=("a",))) == "b"


def test_round_robin_takes_turns_from_a_random_phase() -> None:
    assert picks(cluster_of("round_robin", dict.fromkeys("abc", 9.0), random_phase=False), 7) == "abcabca"
    assert {picks(cluster_of("round_robin", dict.fromkeys("abc", 1.0), seed), 3) for seed in range(30)} == {
        "abc",
        "bca",
        "cab",
    }
