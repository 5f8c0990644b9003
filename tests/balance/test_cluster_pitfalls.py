"""Pitfalls that other balancers met, one test each, named after what goes wrong."""

from collections import Counter
from random import Random

import pytest
from balancing import cluster_of, end, in_flight, load, picked, picks

from distkit.balance import Cluster, ClusterOptions, Context, Endpoint, Gate, Outcome
from distkit.balance.events import Ejected, PanicOff, PanicOn
from distkit.balance.outliers import OutlierOptions
from distkit.balance.policies import named


@pytest.mark.parametrize("policy", ["edf", "weighted_least_request", "static_stride", "weighted_random"])
def test_fresh_edf_picks_heavy_hosts_first(policy: str) -> None:
    """Many clients that start now and pick once: shares follow weights. 20 hosts of 128 and 20 of 10."""
    weights = {f"heavy{i}": 128.0 for i in range(20)} | {f"light{i}": 10.0 for i in range(20)}
    firsts = Counter(picked(cluster_of(policy, weights, seed * 977))[:5] for seed in range(3000))
    assert abs(firsts["light"] / 3000 - 10 / 138) < 0.02


@pytest.mark.parametrize("policy", ["round_robin", "weighted_round_robin", "edf", "static_stride"])
def test_rotation_restarts_after_every_update(policy: str) -> None:
    """One endpoint flaps every few picks; nobody else gets more or less than its turn."""
    cluster = cluster_of(policy, dict.fromkeys("abcdef", 1.0), 5)
    counts, random = Counter[str](), Random(5)
    all_of_them = [Endpoint(id) for id in "abcdef"]
    for turn in range(600):
        cluster.update(all_of_them if turn % 2 else [each for each in all_of_them if each.id != "c"], 0.0)
        counts.update(picks(cluster, random.randint(1, 5)))
    others = [counts[id] for id in "abdef"]
    assert max(others) - min(others) <= 0.12 * max(others)
    assert counts["c"] <= 1.1 * max(others)


def test_flap_forgets_in_flight_load() -> None:
    cluster = cluster_of("least_request", dict.fromkeys("ab", 1.0), choices=0)
    handles = load(cluster, a=50)["a"]
    for gate in (Gate.SUSPECT, Gate.DEAD, Gate.EJECTED):
        cluster.set_gate("a", gate, True, 0.0)
        assert picks(cluster, 3) == "bbb"
        cluster.set_gate("a", gate, False, 0.0)
        assert in_flight(cluster) == {"a": 50, "b": 0}
    cluster.update([Endpoint("b")], 0.0)
    assert cluster.status().draining == 50
    cluster.update([Endpoint("a"), Endpoint("b")], 0.0)
    assert in_flight(cluster) == {"a": 50, "b": 0}
    assert cluster.status().draining == 0
    assert picks(cluster, 3) == "bbb"
    end(cluster, handles)
    assert in_flight(cluster) == {"a": 0, "b": 0}


@pytest.mark.parametrize("policy", ["ring_hash", "maglev", "rendezvous", "jump", "anchor", "multi_probe"])
def test_bounded_load_counts_the_whole_cluster(policy: str) -> None:
    """Another priority that is busy does not raise the caps of this one, and nobody is ever above its cap."""
    cluster = Cluster(ClusterOptions(policy=named(policy, bound=125)), Random(3))
    cluster.update([Endpoint(f"p{i % 2}-{i}", priority=i % 2) for i in range(12)], 0.0)
    load(cluster, **{"p1-1": 500})
    for _ in range(60):
        cluster.pick(Context(key=7), 0.0)  # one hot key
        active = [count for id, count in in_flight(cluster).items() if id[:2] == "p0"]
        bound = -(-(sum(active)) * 125 // 100)
        assert max(active) <= max(1, -(-bound // 6))
    assert sum(active) == 60


def test_bounded_load_as_envoy_exceeds_by_one_at_most() -> None:
    cluster = cluster_of(named("maglev", bound=125, rule="envoy"), dict.fromkeys("abcdef", 1.0))
    for number in range(1, 100):
        cluster.pick(Context(key=number % 3), 0.0)
        cap = max(1, -(-((number * 125 + 99) // 100) // 6))
        assert max(in_flight(cluster).values()) <= cap + 1


@pytest.mark.parametrize("choices", [2, 3])
def test_herd_on_a_new_endpoint(choices: int) -> None:
    """An idle endpoint that joins a busy cluster gets no more than the bound of d choices allows."""
    ids = [f"e{i}" for i in range(20)]
    cluster = cluster_of("least_request", dict.fromkeys(ids, 1.0), choices=choices, replacement=True)
    load(cluster, **dict.fromkeys(ids, 50))
    cluster.update([Endpoint(id) for id in [*ids, "new"]], 1.0)
    share = sum(picked(cluster, 1.0) == "new" for _ in range(5000)) / 5000
    assert share < 1 - (1 - 1 / 21) ** choices + 0.02


def test_ejection_cap_on_small_clusters_and_surprise_panic() -> None:
    """All of 2 to 5 endpoints fail: as many stay as the cap says, and whoever panics says so."""
    for count in range(2, 6):
        options = ClusterOptions(
            policy=named("round_robin"), outliers=OutlierOptions(consecutive_errors=3, max_ejected_percent=67)
        )
        cluster = Cluster(options, Random(1))
        cluster.update([Endpoint(str(i)) for i in range(count)], 0.0)
        for _ in range(40):
            cluster.done(cluster.pick(None, 0.0), Outcome.ERROR, 0.1, 0.0)
        told = cluster.events()
        ejected = [each.id for each in told if isinstance(each, Ejected)]
        assert len(ejected) == max(1, 67 * count // 100)
        healthy = count - len(ejected)
        assert (2 * healthy < count) == (PanicOn(0) in told)
        cluster.tick(1000.0)
        assert (PanicOff(0) in cluster.events()) == (PanicOn(0) in told)


@pytest.mark.parametrize("policy", ["ring_hash", "maglev", "rendezvous", "multi_probe", "ketama", "nginx_hash"])
def test_ring_differs_between_restarted_clients(policy: str) -> None:
    """The same members in another order, and whatever is in other priorities, give the same owners."""
    members = [Endpoint(f"10.0.0.{i}:80", weight=float(1 + i % 3)) for i in range(9)]
    owners = []
    for seed in range(4):
        random = Random(seed)
        shuffled = random.sample(members, len(members))
        cluster = Cluster(ClusterOptions(policy=named(policy)), random)
        cluster.update([Endpoint(f"other{i}", priority=1) for i in range(seed)], 0.0)
        cluster.update([*shuffled, *(Endpoint(f"other{i}", priority=1) for i in range(seed))], 0.0)
        owners.append([picked(cluster, context=Context(key=key * 0x9E3779B97F4A7C15 % 2**64)) for key in range(200)])
    assert owners[1:] == owners[:1] * 3


@pytest.mark.parametrize("policy", ["ring_hash", "maglev", "rendezvous", "jump", "anchor", "multi_probe"])
def test_hash_ignores_maxconn(policy: str) -> None:
    """A saturated owner's requests go to the same next one each time, and come back after."""
    cluster = Cluster(ClusterOptions(policy=named(policy)), Random(1))
    cluster.update([Endpoint(id, concurrency_max=2) for id in "abcde"], 0.0)
    context = Context(key=0x123456789)
    owner = picked(cluster, context=context)
    first = [cluster.pick(context, 0.0) for _ in range(2)]
    assert {cluster.endpoint(handle).id for handle in first} == {owner}
    second = {picked(cluster, context=context) for _ in range(5)}
    assert len(second) == 1
    assert owner not in second
    end(cluster, first[:1])
    assert picked(cluster, context=context) == owner


def test_weight_multiply_overflow() -> None:
    """Weights near 2^32 times loads near 2^31 compare as the exact numbers do."""
    heavy, light = float((1 << 32) - 1), float((1 << 32) - 2)
    for policy in ("least_request", "least_connections"):
        options = {"choices": 0} if policy == "least_request" else {}
        cluster = cluster_of(policy, {"a": heavy, "b": light}, **options)
        load(cluster, a=1, b=1)
        assert picks(cluster, 3) == "aaa"
        load(cluster, a=1)
        assert picks(cluster, 3) == "bbb"
    total = cluster_of("weighted_random", {str(i): heavy for i in range(1000)})
    assert len({picked(total) for _ in range(200)}) > 150
