"""The cluster: what it does with endpoints, gates, priorities, zones, weights and nonsense."""

import math
from array import array
from collections import Counter
from random import Random
from typing import Any

import pytest
from balancing import cluster_of, end, in_flight, load, picked, picks
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from distkit.balance import (
    DROPPED,
    NO_ENDPOINT,
    SATURATED,
    Cluster,
    ClusterOptions,
    Context,
    Endpoint,
    Gate,
    Outcome,
    policies,
)
from distkit.balance.checks import CheckOptions
from distkit.balance.events import Checked, Ejected, PanicOff, PanicOn, Probe, Restored
from distkit.balance.outliers import OutlierOptions
from distkit.balance.policies import POLICIES, LeastRequest, RoundRobin, named
from distkit.balance.reports import LoadReport, ReportOptions
from distkit.balance.routing import ZoneOptions
from distkit.balance.slow_start import SlowStart
from distkit.core import LocalError


def cluster_with(endpoints: list[Endpoint], seed: int = 1, **options: Any) -> Cluster:
    cluster = Cluster(ClusterOptions(**options), Random(seed))
    cluster.update(endpoints, 0.0)
    return cluster


def shares(cluster: Cluster, count: int = 4000) -> dict[str, float]:
    counts = Counter(picked(cluster) for _ in range(count))
    return {id: counts[id] / count for id in sorted(counts)}


# Endpoints come and go.


def test_update_says_what_changed() -> None:
    cluster = cluster_with([Endpoint("a"), Endpoint("b")])
    diff = cluster.update([Endpoint("c"), Endpoint("b", weight=2.0)], 1.0)
    assert (diff.added, diff.removed, diff.changed) == (("c",), ("a",), ("b",))
    assert cluster.update([Endpoint("c"), Endpoint("b", weight=2.0)], 2.0).changed == ()
    assert [row.id for row in cluster.status().endpoints] == ["c", "b"]


def test_stale_handles_are_counted_and_change_nothing() -> None:
    cluster = cluster_with([Endpoint("a"), Endpoint("b")])
    handle = load(cluster, a=1)["a"][0]
    cluster.update([Endpoint("b")], 0.0)
    assert cluster.endpoint(handle).id == "a"
    assert not cluster.done(handle, Outcome.OK, 0.1, 0.0)
    assert not cluster.done(handle, Outcome.OK, 0.1, 0.0)
    assert not cluster.done(NO_ENDPOINT, Outcome.OK, 0.1, 0.0)
    assert cluster.status().stale == 3
    assert cluster.status().in_flight == 0
    with pytest.raises(LocalError, match="names no endpoint"):
        cluster.endpoint(handle)
    cluster.update([Endpoint("b"), Endpoint("new")], 0.0)  # in the same slot
    assert not cluster.done(handle, Outcome.OK, 0.1, 0.0)
    assert in_flight(cluster) == {"b": 0, "new": 0}


def test_a_drained_endpoint_gets_nothing_and_finishes_what_it_has() -> None:
    cluster = cluster_with([Endpoint("a"), Endpoint("b")], policy=RoundRobin())
    handles = load(cluster, a=2)["a"]
    for drained in (Endpoint("a", weight=0), Endpoint("a", drained=True)):
        cluster.update([drained, Endpoint("b")], 0.0)
        assert set(picks(cluster, 20)) == {"b"}
        assert cluster.status().endpoints[0].gate == Gate.DRAINED
        cluster.update([Endpoint("a"), Endpoint("b")], 0.0)
        assert set(picks(cluster, 50)) == {"a", "b"}
    end(cluster, handles)


def test_an_unknown_weight_counts_as_the_mean_of_the_known_ones() -> None:
    cluster = cluster_of("weighted_random", {"a": 1.0, "b": 3.0, "unknown": None, "drained": 0.0})
    weights = {row.id: row.weight for row in cluster.status().endpoints}
    assert weights == {"a": 1.0, "b": 3.0, "unknown": 2.0, "drained": 0.0}
    cluster.update([Endpoint("unknown", weight=None)], 0.0)
    assert cluster.status().endpoints[0].weight == 1.0


def test_limits_of_endpoints_and_of_the_cluster() -> None:
    cluster = cluster_with([Endpoint("a", concurrency_max=2), Endpoint("b", concurrency_max=1)], concurrency_max=10)
    handles = [cluster.pick(None, 0.0) for _ in range(3)]
    assert in_flight(cluster) == {"a": 2, "b": 1}
    assert cluster.pick(None, 0.0) == SATURATED
    assert cluster.status().endpoints[0].gate == Gate.SATURATED
    end(cluster, handles[:1])
    assert cluster.pick(None, 0.0) >= 0
    cluster.concurrency_max = 2
    cluster.update([Endpoint("a"), Endpoint("b")], 0.0)
    assert cluster.pick(None, 0.0) == SATURATED
    cluster.concurrency_max = 0
    assert cluster.pick(None, 0.0) >= 0


def test_an_empty_cluster_and_one_that_is_all_down() -> None:
    cluster = cluster_with([], panic_threshold=0)
    assert cluster.pick(None, 0.0) == NO_ENDPOINT
    assert cluster.deadline() == math.inf
    cluster.update([Endpoint("a")], 0.0)
    cluster.set_gate("a", Gate.DEAD, True, 0.0)
    assert cluster.pick(None, 0.0) == NO_ENDPOINT
    panics = cluster_with([Endpoint("a")])
    panics.set_gate("a", Gate.DEAD, True, 0.0)
    assert panics.events() == [PanicOn(0)]
    assert picked(panics) == "a"
    panics.set_gate("a", Gate.DEAD, False, 0.0)
    assert panics.events() == [PanicOff(0)]


def test_requests_are_shed() -> None:
    cluster = cluster_with([Endpoint("a")], drop=0.25)
    found = Counter(cluster.pick(None, 0.0) >= 0 for _ in range(4000))
    assert abs(found[False] / 4000 - 0.25) < 0.03
    assert {cluster.pick(None, 0.0) for _ in range(100)} >= {DROPPED}


# Requests that ask for something.


@pytest.mark.parametrize("policy", POLICIES)
def test_excluded_endpoints_are_not_picked_again(policy: str) -> None:
    cluster = cluster_of(policy, {"a": 1.0, "b": 2.0, "c": 1.0, "d": 4.0})
    for _ in range(30):
        tried: list[int] = []
        for _ in range(4):
            handle = cluster.pick(Context(key=99, exclude=tuple(tried)), 0.0)
            tried.append(handle)
        assert {cluster.endpoint(handle).id for handle in tried} == set("abcd")
        assert cluster.pick(Context(key=99, exclude=tuple(tried)), 0.0) == NO_ENDPOINT
        assert picked(cluster, context=Context(exclude=("a", "b", "nobody", "d"))) == "c"
        end(cluster, tried)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_subset_by_tags(policy: str) -> None:
    endpoints = [
        Endpoint(f"{stage}{i}", tags={"stage": stage, "x": str(i)}) for stage in ("prod", "test") for i in "12"
    ]
    cluster = cluster_with(endpoints, policy=named(policy), subset_tags=("stage",))
    found = {picked(cluster, context=Context(key=i, subset={"stage": "test"})) for i in range(40)}
    assert found <= {"test1", "test2"}
    assert cluster.pick(Context(subset={"stage": "none"}), 0.0) == NO_ENDPOINT
    assert cluster.pick(Context(subset={"x": "1"}), 0.0) == NO_ENDPOINT  # not a tag for subsets


def test_an_override_sticks_while_its_gate_is_open() -> None:
    cluster = cluster_with([Endpoint(id, concurrency_max=2) for id in "abc"])
    sticky = Context(override="b")
    assert {picked(cluster, context=sticky) for _ in range(5)} == {"b"}
    assert picked(cluster, context=Context(override="b", exclude=("b",))) != "b"
    cluster.set_gate("b", Gate.EJECTED, True, 0.0)
    assert picked(cluster, context=sticky) != "b"
    cluster.set_gate("b", Gate.EJECTED, False, 0.0)
    load(cluster, b=2)
    assert picked(cluster, context=sticky) != "b"
    assert picked(cluster, context=Context(override="gone")) in "ac"


def test_a_priority_that_is_asked_for() -> None:
    cluster = cluster_with([Endpoint("a"), Endpoint("b", priority=1), Endpoint("c", priority=5)])
    assert picked(cluster) == "a"
    assert picked(cluster, context=Context(priority=5)) == "c"
    assert cluster.pick(Context(priority=2), 0.0) == NO_ENDPOINT
    assert picked(cluster, context=Context(exclude=("a",))) == "b"  # a retry goes on with the next priority


@pytest.mark.parametrize("policy", POLICIES)
def test_pick_many_is_many_picks(policy: str) -> None:
    weights = {"a": 1.0, "b": 2.0, "c": 3.0}
    one, other = cluster_of(policy, weights, 7), cluster_of(policy, weights, 7)
    out = array("q", [0] * 20)
    assert one.pick_many(20, out, 0.5) == 20
    assert out.tolist() == [other.pick(None, 0.5) for _ in range(20)]
    keys = array("Q", [i * 0x9E3779B97F4A7C15 % 2**64 for i in range(15)])
    assert one.pick_many(keys, out, 0.5) == 15
    assert out.tolist()[:15] == [other.pick(Context(key=key) if key % 2 else key, 0.5) for key in keys]
    assert one.picker.seed == other.picker.seed


# Priorities, panic, zones.


@pytest.mark.parametrize(
    ("well", "loads"), [((10, 10), (100, 0)), ((72, 72), (100, 0)), ((50, 50), (70, 30)), ((0, 100), (0, 100))]
)
def test_priorities_spill_over(well: tuple[int, int], loads: tuple[int, int]) -> None:
    size = 10 if well == (10, 10) else 100
    endpoints = [Endpoint(f"{level}-{i}", priority=level) for level in (0, 1) for i in range(size)]
    cluster = cluster_with(endpoints, policy=RoundRobin())
    for level in (0, 1):
        for i in range(well[level], size):
            cluster.set_gate(f"{level}-{i}", Gate.FAILED_CHECKS, True, 0.0)
    assert cluster.status().loads == {0: loads[0], 1: loads[1]}
    found = Counter(picked(cluster)[0] for _ in range(2000))
    assert abs(found["0"] / 2000 - loads[0] / 100) < 0.04


def test_degraded_endpoints_come_last() -> None:
    cluster = cluster_with([Endpoint(str(i)) for i in range(4)])
    cluster.set_gate("0", Gate.DEGRADED, True, 0.0)
    assert "0" not in shares(cluster, 200)
    for i in "123":
        cluster.set_gate(i, Gate.EJECTED, True, 0.0)
    assert cluster.status().panic == (0,)
    cluster.set_gate("1", Gate.DEGRADED, True, 0.0)
    cluster.set_gate("1", Gate.EJECTED, False, 0.0)
    assert cluster.status().panic == ()
    assert set(shares(cluster, 200)) == {"0", "1"}
    cluster.set_gate("0", Gate.DEGRADED, False, 0.0)
    assert 0.2 < shares(cluster)["0"] < 0.6  # a quarter is healthy: 35 % and the rest


def test_in_panic_all_get_requests_but_drained_ones() -> None:
    cluster = cluster_with([*(Endpoint(str(i)) for i in range(6)), Endpoint("drained", weight=0)])
    for i in "0123":
        cluster.set_gate(i, Gate.DEAD, True, 0.0)
    cluster.set_gate("4", Gate.DEGRADED, True, 0.0)
    assert cluster.events() == [PanicOn(0)]
    found = shares(cluster)
    assert set(found) == set("012345")
    assert all(abs(share - 1 / 6) < 0.04 for share in found.values())


def test_zone_aware_routing_keeps_what_it_can() -> None:
    endpoints = [Endpoint(f"{zone}{i}", locality=zone) for zone, count in (("x", 2), ("y", 4)) for i in range(count)]
    zones = ZoneOptions(own="x", clients={"x": 5, "y": 5})
    cluster = cluster_with(endpoints, policy=named("random"), zones=zones)
    found = Counter(id[0] for id in (picked(cluster) for _ in range(4000)))
    assert abs(found["x"] / 4000 - 0.6666) < 0.03  # a third of the endpoints for half of the clients
    everybody = cluster_with(endpoints[:5], policy=named("random"), zones=zones)  # too few: all alike
    assert abs(sum(share for id, share in shares(everybody).items() if id[0] == "x") - 0.4) < 0.04
    local = cluster_with(
        [Endpoint(f"{zone}{i}", locality=zone) for zone in "xy" for i in range(4)], policy=named("random"), zones=zones
    )
    assert {id[0] for id in shares(local, 300)} == {"x"}


def test_localities_by_weight() -> None:
    endpoints = [Endpoint(f"{zone}{i}", locality=zone) for zone in "xyz" for i in range(4)]
    cluster = cluster_with(endpoints, policy=named("random"), zones=ZoneOptions(weights={"x": 1.0, "y": 3.0}))
    found = Counter(id[0] for id in (picked(cluster) for _ in range(4000)))
    assert abs(found["y"] / 4000 - 0.75) < 0.03
    assert found["z"] == 0
    for i in range(4):
        cluster.set_gate(f"y{i}", Gate.EJECTED, True, 0.0)
    assert {picked(cluster)[0] for _ in range(100)} == {"x"}


def test_a_random_subset_is_kept() -> None:
    endpoints = [Endpoint(str(i), address=f"10.0.0.{i}") for i in range(20)]
    cluster = cluster_with(endpoints, policy=named("random"), subset_size=5)
    chosen = set(shares(cluster, 500))
    assert len(chosen) == 5
    gone = next(iter(chosen))
    cluster.update([endpoint for endpoint in endpoints if endpoint.id != gone], 0.0)
    assert len(chosen & set(shares(cluster, 500))) == 4


# Health and weights.


def test_outliers_are_ejected_and_come_back() -> None:
    cluster = cluster_with([Endpoint(str(i)) for i in range(10)], outliers=OutlierOptions(consecutive_errors=3))
    assert cluster.deadline() == 10.0
    for handle in load(cluster, **{"3": 3})["3"]:
        cluster.done(handle, Outcome.TIMEOUT, 1.0, 1.0)
    assert cluster.events() == [Ejected("3", "consecutive errors", 31.0)]
    assert "3" not in shares(cluster, 200)
    for now in range(10, 50, 10):
        cluster.tick(float(now))
    assert cluster.events() == [Restored("3")]
    assert "3" in shares(cluster, 200)


def test_outliers_by_success_rate() -> None:
    options = OutlierOptions(consecutive_errors=1000)
    cluster = cluster_with([Endpoint(str(i)) for i in range(5)], outliers=options)
    for id in "01234":
        for number, handle in enumerate(load(cluster, **{id: 100})[id]):
            ok = id != "2" or number % 2
            cluster.done(handle, Outcome.OK if ok else Outcome.ERROR, 0.01, 1.0)
    cluster.tick(10.0)
    assert [each.id for each in cluster.events() if isinstance(each, Ejected)] == ["2"]


def test_cancelled_counts_neither_way_and_overload_lowers_the_weight_for_a_while() -> None:
    cluster = cluster_with([Endpoint("a"), Endpoint("b")], outliers=OutlierOptions(consecutive_errors=2))
    for handle in load(cluster, a=20)["a"]:
        cluster.done(handle, Outcome.CANCELLED, 0.0, 0.0)
    for handle in load(cluster, a=3)["a"]:
        cluster.done(handle, Outcome.OVERLOAD, 0.0, 0.0)
    assert cluster.events() == []
    assert cluster.status().endpoints[0].weight == pytest.approx(0.8**3)
    assert cluster.deadline() == 1.0
    cluster.tick(1.0)
    assert cluster.status().endpoints[0].weight == pytest.approx(0.8**3 + 0.1)
    for now in range(2, 12):
        cluster.tick(float(now))
    assert cluster.status().endpoints[0].weight == 1.0


def test_active_checks_close_and_open_gates() -> None:
    cluster = cluster_with([Endpoint("a"), Endpoint("b")], checks=CheckOptions(jitter=0.0))
    cluster.tick(0.0)
    probes = [each for each in cluster.events() if isinstance(each, Probe)]
    assert [(probe.id, probe.kind) for probe in probes] == [("a", "check"), ("b", "check")]
    cluster.probed(probes[0].probe_id, Outcome.ERROR, 0, 0.0, 0.1)
    cluster.probed(probes[1].probe_id, Outcome.OK, 0, 0.0, 0.1)
    assert cluster.events() == [Checked("a", False), Checked("b", True)]
    assert set(picks(cluster, 30)) == {"b"}
    assert cluster.status().endpoints[0].gate == Gate.FAILED_CHECKS
    cluster.probed(12345, Outcome.OK, 0, 0.0, 0.1)  # nobody asked
    while cluster.status().endpoints[0].gate:
        now = cluster.deadline()
        cluster.tick(now)
        for probe in cluster.events():
            if isinstance(probe, Probe):
                cluster.probed(probe.probe_id, Outcome.OK, 0, 0.0, now)
    assert set(picks(cluster, 30)) == {"a", "b"}


def test_slow_start_begins_with_a_part_of_the_weight() -> None:
    cluster = cluster_with([Endpoint("a")], slow_start=SlowStart(window=60.0))
    assert cluster.status().endpoints[0].weight == 1.0  # never at the start of the process
    cluster.update([Endpoint("a"), Endpoint("b")], 100.0)
    for now, weight in ((100.0, 0.1), (115.0, 0.25), (130.0, 0.5), (145.0, 0.75), (160.0, 1.0)):
        cluster.tick(now)
        assert cluster.status().endpoints[1].weight == weight
    assert cluster.deadline() == math.inf
    cluster.set_gate("b", Gate.DEAD, True, 200.0)
    cluster.set_gate("b", Gate.DEAD, False, 210.0)
    assert cluster.status().endpoints[1].weight == 0.1
    assert cluster.deadline() == 211.0


def test_weights_from_load_reports() -> None:
    cluster = cluster_with([Endpoint("a"), Endpoint("b"), Endpoint("c")], reports=ReportOptions(blackout=1.0))
    for now in (0.0, 1.0):
        for id, rps in (("a", 100.0), ("b", 300.0)):
            handle = load(cluster, **{id: 1})[id][0]
            assert cluster.done(handle, Outcome.OK, 0.1, now, LoadReport(rps=rps, application=0.5))
    cluster.tick(cluster.deadline())
    assert [row.weight for row in cluster.status().endpoints] == [200.0, 600.0, 400.0]
    with pytest.raises(LocalError, match="a report must be a LoadReport"):
        cluster.done(load(cluster, a=1)["a"][0], Outcome.OK, 0.1, 1.0, {"rps": 1})


def test_prequal_asks_for_probes_and_believes_them() -> None:
    cluster = cluster_with([Endpoint(str(i)) for i in range(20)], policy=named("prequal"))
    cluster.pick(None, 0.0)
    assert cluster.deadline() == 0.0
    probes = [each for each in cluster.events() if isinstance(each, Probe)]
    assert len({probe.id for probe in probes}) == 3
    assert {probe.kind for probe in probes} == {"load"}
    best = probes[1].id
    for probe in probes:
        cluster.probed(probe.probe_id, Outcome.OK, 5, 0.1 if probe.id == best else 0.2, 0.01)
    assert cluster.endpoint(cluster.pick(None, 0.02)).id == best
    cluster.update([], 0.03)
    for probe in cluster.events():
        assert isinstance(probe, Probe)
        cluster.probed(probe.probe_id, Outcome.OK, 5, 0.1, 0.04)
    cluster.probed(1 << 62 | 77, Outcome.OK, 5, 0.1, 0.04)


def test_prequal_prefers_cold_ones_and_then_those_with_fewer_in_flight() -> None:
    cluster = cluster_with([Endpoint(str(i)) for i in range(40)], policy=named("prequal", quantile=0.5, removals=0.0))
    wanted = {}
    for _ in range(5):
        cluster.pick(None, 0.0)
    for number, probe in enumerate(each for each in cluster.events() if isinstance(each, Probe)):
        in_flight, latency = (1, 0.5 + number) if number % 3 == 0 else (50, 0.01)
        wanted[probe.id] = in_flight, latency
        cluster.probed(probe.probe_id, Outcome.OK, in_flight, latency, 0.0)
    chosen = wanted[cluster.endpoint(cluster.pick(None, 0.0)).id]
    threshold = sorted(load for load, _ in wanted.values())[len(wanted) // 2]
    assert chosen[0] <= threshold
    assert chosen[1] == min(latency for load, latency in wanted.values() if load <= threshold)


# Hashes.


@pytest.mark.parametrize("policy", ["ring_hash", "maglev", "rendezvous", "anchor", "multi_probe", "jump"])
def test_keys_stay_where_they_are_when_others_go(policy: str) -> None:
    cluster = cluster_of(policy, dict.fromkeys("abcdefgh", 1.0))
    keys = [i * 0x9E3779B97F4A7C15 % 2**64 for i in range(2000)]
    before = [picked(cluster, context=Context(key=key)) for key in keys]
    cluster.set_gate("c", Gate.EJECTED, True, 0.0)
    moved = [
        (old, new)
        for key, old in zip(keys, before, strict=True)
        if (new := picked(cluster, context=Context(key=key))) != old
    ]
    assert {old for old, _ in moved} == {"c"}
    assert len({new for _, new in moved}) > 3  # to many
    cluster.set_gate("c", Gate.EJECTED, False, 0.0)
    assert [picked(cluster, context=Context(key=key)) for key in keys] == before
    cluster.update([Endpoint(id) for id in "abdefgh"], 0.0)
    after = [picked(cluster, context=Context(key=key)) for key in keys]
    others = sum(old not in ("c", new) for old, new in zip(before, after, strict=True))
    assert others <= {"maglev": 150, "jump": 300, "ring_hash": 300}.get(policy, 0)  # rings: other numbers of points


def test_a_weight_changes_no_keys_but_those_it_gains_or_loses() -> None:
    cluster = cluster_of("rendezvous", dict.fromkeys("abcdef", 1.0))
    keys = [i * 0x9E3779B97F4A7C15 % 2**64 for i in range(3000)]
    before = [picked(cluster, context=Context(key=key)) for key in keys]
    cluster.update([Endpoint(id, weight=3.0 if id == "c" else 1.0) for id in "abcdef"], 0.0)
    after = [picked(cluster, context=Context(key=key)) for key in keys]
    assert {new for old, new in zip(before, after, strict=True) if old != new} == {"c"}
    assert abs(after.count("c") / 3000 - 3 / 8) < 0.04


def test_an_attempt_takes_another_candidate() -> None:
    cluster = cluster_of("ring_hash", dict.fromkeys("abcdef", 1.0))
    assert len({picked(cluster, context=Context(key=1, attempt=attempt)) for attempt in range(12)}) > 3


def test_endpoints_can_be_hashed_by_address() -> None:
    endpoints = [Endpoint(f"id{i}", address=f"10.0.0.{i}:80") for i in range(4)]
    renamed = [Endpoint(f"other{i}", address=f"10.0.0.{i}:80") for i in range(4)]
    one = cluster_with(endpoints, policy=named("maglev", size=251), hash_by="address")
    other = cluster_with(renamed, policy=named("maglev", size=251), hash_by="address")
    for key in range(100):
        assert picked(one, context=Context(key=key))[2:] == picked(other, context=Context(key=key))[5:]
    with pytest.raises(LocalError, match="an address of its own"):
        one.update([Endpoint("a"), Endpoint("b")], 0.0)


# Nonsense.


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"weight": -1.0}, "the weight of 'a' must be"),
        ({"weight": math.nan}, "the weight of 'a' must be"),
        ({"weight": math.inf}, "the weight of 'a' must be"),
        ({"weight": 1e300}, "the weight of 'a' must be"),
        ({"weight": "2"}, "must be a number or None"),
        ({"priority": -1}, "must be 0 .first. to 127"),
        ({"priority": 1 << 40}, "must be 0 .first. to 127"),
        ({"concurrency_max": -1}, "concurrency_max of 'a'"),
        ({"id": ""}, "an id that is not empty"),
        ({"id": 5}, "id must be a string"),
        ({"locality": "x" * 5000}, "locality must be a string"),
        ({"tags": {"a": 1}}, "the value of a tag"),
        ({"tags": 7}, "pairs of strings"),
        ({"drained": "yes"}, "True or False"),
    ],
)
def test_endpoints_that_make_no_sense(given: dict[str, Any], words: str) -> None:
    with pytest.raises(LocalError, match=words):
        Endpoint(**{"id": "a", **given})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"key": "text"}, "a 64-bit integer"),
        ({"key": -1}, "a 64-bit integer"),
        ({"key": 1 << 64}, "a 64-bit integer"),
        ({"exclude": ["a"]}, "a tuple of handles or ids"),
        ({"priority": 1.5}, "an integer or None"),
        ({"attempt": -1}, "counts retries"),
        ({"subset": 3}, "pairs of strings"),
    ],
)
def test_contexts_that_make_no_sense(given: dict[str, Any], words: str) -> None:
    with pytest.raises(LocalError, match=words):
        Context(**given)


def test_calls_that_make_no_sense_change_nothing() -> None:
    cluster = cluster_with([Endpoint("a"), Endpoint("b")])
    handle = cluster.pick(None, 5.0)
    before = cluster.status()
    out = array("q", [0] * 4)
    nonsense: list[tuple[Any, str]] = [
        (lambda: cluster.update([Endpoint("a"), Endpoint("a")], 6.0), "two endpoints have the id 'a'"),
        (lambda: cluster.update(["a"], 6.0), "must be of Endpoint"),  # type: ignore[list-item]
        (lambda: cluster.update([], math.nan), "now must be a finite number"),
        (lambda: cluster.pick(None, math.nan), "now must be a finite number"),
        (lambda: cluster.pick(None, math.inf), "now must be a finite number"),
        (lambda: cluster.done(handle, 6, 0.1, 6.0), "an outcome is one of"),
        (lambda: cluster.done(handle, -1, 0.1, 6.0), "an outcome is one of"),
        (lambda: cluster.done(handle, Outcome.OK, math.nan, 6.0), "a latency must be"),
        (lambda: cluster.done(handle, Outcome.OK, -0.1, 6.0), "a latency must be"),
        (lambda: cluster.done(handle, Outcome.OK, math.inf, 6.0), "a latency must be"),
        (lambda: cluster.pick_many(5, out, 6.0), "out has room for 4 picks, not for 5"),
        (lambda: cluster.pick_many(-1, out, 6.0), "out has room for 4 picks"),
        (lambda: cluster.pick_many(2, bytearray(16), 6.0), "a contiguous buffer of 64-bit integers"),
        (lambda: cluster.pick_many(2, [0, 0], 6.0), "a contiguous buffer of 64-bit integers"),
        (lambda: cluster.pick_many(2, memoryview(out).toreadonly(), 6.0), "out must be writable"),
        (lambda: cluster.pick_many("ab", out, 6.0), "keys must be a contiguous buffer"),
        (lambda: cluster.pick_many(array("d", [1.0]), out, 6.0), "keys must be a contiguous buffer"),
        (lambda: cluster.set_gate("nobody", Gate.DEAD, True, 6.0), "no endpoint has the id 'nobody'"),
        (lambda: cluster.set_gate("a", Gate.SATURATED, True, 6.0), "which the cluster keeps itself"),
        (lambda: cluster.set_gate("a", 64, True, 6.0), "gate must be of Gate"),  # type: ignore[arg-type]
        (lambda: cluster.endpoint(12345), "names no endpoint"),
        (lambda: cluster.pick("a", 6.0), "a Context or None"),
        (lambda: cluster.pick(-1, 6.0), "a hash of 64 bits, not -1"),
        (lambda: cluster.pick(1 << 64, 6.0), "a hash of 64 bits"),
    ]
    for call, words in nonsense:
        with pytest.raises(LocalError, match=words):
            call()
        assert cluster.status() == before
    for wrong in (None, "handle"):
        with pytest.raises(TypeError):
            cluster.done(wrong, Outcome.OK, 0.1, 6.0)
    with pytest.raises(OverflowError):
        cluster.done(1 << 80, Outcome.OK, 0.1, 6.0)
    assert cluster.done(handle, Outcome.OK, 0.1, 6.0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"policy": "round_robin"}, "policy must be a policy"),
        ({"policy": LeastRequest(choices=11)}, "choices must be from 0 to 10"),
        ({"panic_threshold": 101}, "panic_threshold must be from 0 to 100"),
        ({"overprovisioning": 50}, "overprovisioning must be from 100"),
        ({"drop": 1.5}, "drop must be a finite number from 0 to 1"),
        ({"drop": math.nan}, "drop must be a finite number"),
        ({"concurrency_max": -1}, "concurrency_max must be from 0"),
        ({"hash_by": "name"}, "hash_by must be"),
        ({"zones": ZoneOptions()}, "either clients .with own. or weights"),
    ],
)
def test_options_that_make_no_sense(given: dict[str, Any], words: str) -> None:
    with pytest.raises(LocalError, match=words):
        Cluster(ClusterOptions(**given), Random(1))


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("roundrobin", {}, "there is no policy 'roundrobin': choose one of round_robin, weighted_round_robin"),
        ("least_request", {"choice": 2}, "has no option 'choice': its options are choices, replacement"),
        ("random", {"choices": 2}, "random has no option 'choices': it has none"),
        ("p2c", {"choices": "2"}, "choices of p2c must be of type int, not '2'"),
        ("p2c", {"choices": True}, "choices of p2c must be of type int, not True"),
        ("least_request", {"cost": "cheap"}, "cost must be one of in_flight, next, never_queue, haproxy"),
        ("maglev", {"size": 65536}, "must be a prime number .65537, say., not 65536"),
        ("maglev", {"bound": 99}, "a bound must be 0 .none. or 100"),
        ("ring_hash", {"function": "md5"}, "md5"),
        ("peak_ewma", {"tau": math.nan}, "tau must be a finite number"),
        ("peak_ewma", {"variant": "x"}, "variant must be one of finagle, envoy"),
        ("edf", {"random_phase": 1}, "random_phase of edf must be of type bool"),
        ("prequal", {"pool": 0}, "pool must be from 1 to 64"),
    ],
)
def test_names_and_options_of_policies_that_make_no_sense(name: str, given: dict[str, Any], words: str) -> None:
    with pytest.raises(LocalError, match=words):
        named(name, **given)


def test_policies_have_names() -> None:
    assert named("p2c") == LeastRequest(choices=2)
    assert named("least_request", choices=3) == LeastRequest(choices=3)
    assert {policy.name for policy in POLICIES.values()} == set(POLICIES)
    for name in [*POLICIES, *policies.ALIASES]:
        named(name).check()


def test_time_that_goes_back_counts_as_no_time() -> None:
    cluster = cluster_of("peak_ewma", {"a": 1.0}, choices=0)
    cluster.done(cluster.pick(None, 10.0), Outcome.OK, 0.1, 10.0)
    cluster.done(cluster.pick(None, 5.0), Outcome.OK, 0.05, 4.0)
    assert cluster.status().endpoints[0].latency == 0.1  # no time has passed
    cluster.tick(3.0)
    assert cluster.picker.now == 10.0


# Nothing is ever lost.


class Balancing(RuleBasedStateMachine):
    """Endpoints come, go and change while requests are under way; the model counts what is in flight by id."""

    policy = "least_request"

    def __init__(self) -> None:
        super().__init__()
        options = ClusterOptions(
            policy=named(self.policy),
            outliers=OutlierOptions(consecutive_errors=2, max_ejected_percent=50),
            slow_start=SlowStart(window=5.0),
            subset_tags=("t",),
        )
        self.cluster = Cluster(options, Random(1))
        self.now = 0.0
        self.open: list[tuple[int, str]] = []
        self.present: set[str] = set()

    @rule(
        ids=st.sets(st.sampled_from("abcdef")), weight=st.sampled_from([0.0, 1.0, 7.0, None]), level=st.integers(0, 2)
    )
    def update(self, ids: set[str], weight: float | None, level: int) -> None:
        endpoints = [
            Endpoint(
                id, weight=weight if i == 0 else 1.0, priority=level if i == 1 else 0, concurrency_max=3 * (i == 2)
            )
            for i, id in enumerate(sorted(ids))
        ]
        diff = self.cluster.update(endpoints, self.now)
        assert set(diff.added) == ids - self.present
        assert set(diff.removed) == self.present - ids
        self.present = ids

    @rule(count=st.integers(1, 5), key=st.none() | st.integers(0, 2**64 - 1))
    def pick(self, count: int, key: int | None) -> None:
        for _ in range(count):
            handle = self.cluster.pick(None if key is None else Context(key=key), self.now)
            if handle >= 0:
                id = self.cluster.endpoint(handle).id
                assert id in self.present
                self.open.append((handle, id))

    @precondition(lambda self: self.open)
    @rule(number=st.integers(0, 1000), outcome=st.sampled_from(Outcome), latency=st.floats(0, 2))
    def done(self, number: int, outcome: Outcome, latency: float) -> None:
        handle, id = self.open.pop(number % len(self.open))
        assert self.cluster.done(handle, outcome, latency, self.now) <= (id in self.present)

    @precondition(lambda self: self.present)
    @rule(number=st.integers(0, 10), gate=st.sampled_from([Gate.DEAD, Gate.DEGRADED]), closed=st.booleans())
    def gate(self, number: int, gate: Gate, closed: bool) -> None:
        self.cluster.set_gate(sorted(self.present)[number % len(self.present)], gate, closed, self.now)

    @rule(passed=st.sampled_from([0.0, 0.5, 10.0, 40.0]))
    def tick(self, passed: float) -> None:
        self.now += passed
        self.cluster.tick(self.now)
        self.cluster.events()
        assert self.cluster.deadline() > self.now

    @invariant()
    def nothing_is_lost(self) -> None:
        status = self.cluster.status()
        assert status.in_flight == len(self.open)
        expected = Counter(id for _, id in self.open if id in self.present)
        assert {row.id: row.in_flight for row in status.endpoints} == {id: expected[id] for id in self.present}
        assert status.draining == sum(id not in self.present for _, id in self.open)
        assert sum(status.loads.values()) in (0, 100)


class BalancingByHash(Balancing):
    policy = "ring_hash"


class BalancingInTurns(Balancing):
    policy = "round_robin"


TestBalancing = Balancing.TestCase
TestBalancingByHash = BalancingByHash.TestCase
TestBalancingInTurns = BalancingInTurns.TestCase


@given(seed=st.integers(0, 1000), policy=st.sampled_from(sorted(POLICIES)))
def test_the_same_calls_give_the_same_picks(seed: int, policy: str) -> None:
    def run() -> list[int]:
        cluster = cluster_of(policy, {"a": 1.0, "b": None, "c": 2.5}, seed)
        handles = [cluster.pick(None, i / 10) for i in range(10)]
        return handles + [cluster.done(handle, Outcome.OK, 0.1, 2.0) for handle in handles] + [cluster.pick(None, 3.0)]

    assert run() == run()
