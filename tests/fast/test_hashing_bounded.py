"""Bounded loads over every order: nobody above its cap, and the rules of HAProxy and Envoy from their definitions."""

from collections.abc import Callable
from fractions import Fraction
from math import ceil
from random import Random
from typing import Any

import pytest
from builds import builds, outcome
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distkit._fast import bounded as used
from distkit._fast import hashing as used_hashing
from distkit._fast import tableless as used_tableless
from distkit._fast.pure import bounded as twin
from distkit._fast.pure import hashing as twin_hashing
from distkit._fast.pure import tableless as twin_tableless
from distkit.core.errors import LocalError

TOP = (1 << 64) - 1
USED = (used, used_hashing, used_tableless)
TWIN = (twin, twin_hashing, twin_tableless)
KINDS = ("envoy", "ketama", "nginx", "maglev", "rendezvous", "jump", "anchor", "multi-probe")
HOSTS = [b"10.0.0.%d:80" % number for number in range(8)]


@pytest.fixture(params=builds("bounded"), scope="module")
def bounded(request: pytest.FixtureRequest) -> Any:
    return request.param


def order_of(build: tuple[Any, Any, Any], kind: str, count: int = 8) -> Any:
    """An order of so many hosts; of an anchor one bucket between them is missing."""
    _bounded, hashing, tableless = build
    if kind == "anchor":
        anchor = tableless.Anchor(count + 1, count + 1)
        anchor.remove(1)
        return anchor
    make = {
        "envoy": lambda keys: hashing.Ring.envoy(keys, size_min=40),
        "ketama": hashing.Ring.ketama,
        "nginx": hashing.Ring.nginx,
        "maglev": lambda keys: hashing.Maglev(keys, size=31),
        "rendezvous": tableless.Rendezvous,
        "jump": lambda keys: tableless.Jump(len(keys)),
        "multi-probe": tableless.MultiProbe,
    }
    return make[kind](HOSTS[:count])


def own(module: Any) -> tuple[Any, Any, Any]:
    return USED if module is used else TWIN


def load(balancer: Any, span: int) -> list[int]:
    return [balancer.active_at(position) for position in range(span)]


# Envoy's order of overflow


def standard_twister(seed: int) -> Random:
    """Python's generator in the state that C++ gives it."""
    words = [seed & 0xFFFFFFFF]
    for number in range(1, 624):
        words.append((1812433253 * (words[-1] ^ words[-1] >> 30) + number) % (1 << 32))
    random = Random()
    random.setstate((3, (*words, 624), None))
    return random


def test_the_standard_says_what_a_mersenne_twister_draws() -> None:
    random = standard_twister(5489)
    assert [random.getrandbits(32) for _ in range(10000)][-1] == 4123659995


@given(hashed=st.integers(0, TOP), count=st.integers(1, 700))
@settings(deadline=None, max_examples=50)
def test_overflow_goes_in_the_order_of_envoy(hashed: int, count: int) -> None:
    random, order = standard_twister(hashed), list(range(count))
    for i in range(count):
        m = count - i
        x = m
        while x >= m:
            x = random.getrandbits(32) // (2**32 // m)
        order[i], order[i + x] = order[i + x], order[i]
    assert used.overflow_order(hashed, count) == twin.overflow_order(hashed, count) == order


# Caps


@settings(max_examples=60, deadline=None)
@given(
    weights=st.lists(st.integers(1, 50), min_size=8, max_size=8),
    picks=st.integers(0, 60),
    factor=st.integers(100, 300),
    kind=st.sampled_from(KINDS[:4]),
)
def test_caps_are_as_defined(weights: list[int], picks: int, factor: int, kind: str) -> None:
    for build in (USED, TWIN):
        module = build[0]
        for rule in (module.EXACT, module.HAPROXY, module.ENVOY):
            balancer = module.Bounded(order_of(build, kind), weights, factor, rule)
            for number in range(picks):
                balancer.pick(number * (TOP // 61))
            assert balancer.total == picks
            bound = ceil(Fraction((picks + 1) * factor, 100))
            caps = [balancer.cap(position) for position in range(8)]
            total, before = sum(weights), 0
            for position, weight in enumerate(weights):
                if rule == module.EXACT:
                    assert caps[position] == max(1, ceil(Fraction(bound * weight, total)))
                elif rule == module.ENVOY:
                    assert caps[position] == max(1, ceil(bound * (weight / total)))
                else:
                    rest = bound % total
                    slots = weight * (bound // total) + (before + weight) * rest // total - before * rest // total
                    assert caps[position] == max(1, slots)
                before += weight
            assert sum(caps) >= bound


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_nobody_is_ever_above_its_cap(kind: str, data: st.DataObject) -> None:
    factor = data.draw(st.integers(100, 150))
    weights = data.draw(st.lists(st.floats(0.1, 9), min_size=9, max_size=9))
    seed = data.draw(st.integers(0, TOP))
    found: list[list[int]] = []
    for build in (USED, TWIN):
        module, random = build[0], Random(seed)
        order = order_of(build, kind)
        balancer = module.Bounded(order, weights[: order.span], factor)
        found.append([])
        for _ in range(60):
            under_way = [position for position in range(order.span) if balancer.active_at(position)]
            if under_way and random.random() < 0.3:
                balancer.done(random.choice(under_way))
                continue
            hashed = random.choice((7, random.getrandbits(64)))
            caps = [balancer.cap(position) for position in range(order.span)]
            position = balancer.pick(hashed)
            assert balancer.active_at(position) <= caps[position]
            passed = order.candidates(hashed)
            for other in passed[: passed.index(position)]:
                assert balancer.active_at(other) >= caps[other]
            found[-1].append(position)
        assert balancer.total == sum(load(balancer, order.span))
    assert found[0] == found[1]


def test_one_hot_hash_is_spread_no_more_than_needed(bounded: Any) -> None:
    build = own(bounded)
    order = order_of(build, "rendezvous")
    balancer = bounded.Bounded(order, factor=200)
    for _ in range(80):
        balancer.pick(7)
    first = order.candidates(7)
    # Each of 8 may have ceil(ceil(80 * 2) / 8) = 20 at the end, so four of them are enough.
    assert [balancer.active_at(position) for position in first] == [20, 20, 20, 20, 0, 0, 0, 0]


def test_affinity_returns_when_the_owner_has_room(bounded: Any) -> None:
    order = order_of(own(bounded), "maglev")
    balancer = bounded.Bounded(order)
    owner, following = order.candidates(7, 2)
    assert [balancer.pick(7), balancer.pick(7)] == [owner, following]
    balancer.done(owner)
    assert balancer.pick(7) == owner


def test_who_is_closed_counts_for_nobody(bounded: Any) -> None:
    balancer = bounded.Bounded(order_of(own(bounded), "jump", 4), [1, 1, 1, 5], 100)
    for number in range(16):
        balancer.pick(number << 58)
    busy = balancer.active_at(3)
    assert busy > 4
    balancer.close(3)
    assert not balancer.is_open(3)
    assert balancer.total == 16 - busy
    assert balancer.cap(3) == 0
    assert balancer.cap(0) == ceil((16 - busy + 1) / 3)
    for number in range(20):
        assert balancer.pick(number << 58) != 3
    balancer.done(3)
    balancer.open(3)
    assert balancer.is_open(3)
    assert balancer.total == 16 + 20 - 1
    assert balancer.active_at(3) == busy - 1


def test_everybody_excluded_or_closed_is_nobody(bounded: Any) -> None:
    for rule in (bounded.EXACT, bounded.HAPROXY, bounded.ENVOY):
        balancer = bounded.Bounded(order_of(own(bounded), "envoy", 3), rule=rule)
        assert balancer.pick(7, [0, 1, 2]) == -1
        assert balancer.pick(7, [0, 2]) == 1
        assert balancer.total == 1
        balancer.done(1)
        for position in range(3):
            balancer.close(position)
        assert balancer.pick(7) == -1
        assert balancer.total == 0


def test_buckets_that_are_not_there_are_closed(bounded: Any) -> None:
    anchor = own(bounded)[2].Anchor(4, 2)
    balancer = bounded.Bounded(anchor)
    assert [balancer.is_open(position) for position in range(4)] == [True, True, False, False]
    assert {balancer.pick(number << 60) for number in range(16)} == {0, 1}
    assert load(balancer, 4)[:2] in ([8, 8], [7, 9], [9, 7], [10, 6], [6, 10])


def test_who_has_no_point_on_a_ring_helps_when_all_others_are_full(bounded: Any) -> None:
    hashing = own(bounded)[1]
    ring = hashing.Ring.ketama([b"a", b"b"], [1, 1000])
    assert ring.candidates(7) == [1, 0]
    balancer = bounded.Bounded(ring, factor=100)
    assert sorted(balancer.pick(7) for _ in range(4)) == [0, 0, 1, 1]


# Envoy's rule


@settings(max_examples=40, deadline=None)
@given(
    weights=st.lists(st.integers(1, 5), min_size=8, max_size=8),
    hashes=st.lists(st.integers(0, 3) | st.integers(0, TOP), max_size=60),
    factor=st.integers(100, 200),
    excluded=st.sets(st.integers(0, 7), max_size=3),
)
@example([1, 2, 3, 4, 5, 1, 1, 1], [number * (TOP // 97) for number in range(60)], 100, {3, 4, 5})
def test_envoys_rule_is_as_defined(weights: list[int], hashes: list[int], factor: int, excluded: set[int]) -> None:
    for build in (USED, TWIN):
        order, active = order_of(build, "maglev"), [0] * 8
        balancer = build[0].Bounded(order, weights, factor, build[0].ENVOY)
        for hashed in hashes:
            tot = ((sum(active) + 1) * factor + 99) // 100
            slots = [max(1, ceil(tot * (weight / sum(weights)))) for weight in weights]
            owner = order.lookup(hashed)
            tried = [owner, *(each for each in build[0].overflow_order(hashed, 8) if each != owner)]
            tried = [position for position in tried if position not in excluded]
            fitting = [position for position in tried if active[position] <= slots[position]]
            expected = fitting[0] if fitting else min(tried, key=lambda each: active[each] / slots[each])
            assert balancer.pick(hashed, excluded) == expected
            active[expected] += 1
            assert load(balancer, 8) == active
            if not excluded:
                assert active[expected] <= slots[expected] + 1


def test_envoy_multiplies_by_a_share_that_is_rounded_already(bounded: Any) -> None:
    caps = []
    for rule in (bounded.EXACT, bounded.ENVOY):
        balancer = bounded.Bounded(order_of(own(bounded), "jump", 2), [7, 18], 100, rule)
        for number in range(24):
            balancer.pick(number << 58)
        caps.append(balancer.cap(0))
    assert caps == [7, 8]  # of 25; 7 / 25 is a little more in double precision


def test_envoy_may_be_above_by_one_and_the_others_not(bounded: Any) -> None:
    most = {}
    for rule in (bounded.EXACT, bounded.HAPROXY, bounded.ENVOY):
        balancer = bounded.Bounded(order_of(own(bounded), "jump"), factor=100, rule=rule)
        most[rule] = 0
        for _ in range(16):
            caps = [balancer.cap(position) for position in range(8)]
            position = balancer.pick(7)
            most[rule] = max(most[rule], balancer.active_at(position) - caps[position])
    assert most == {bounded.EXACT: 0, bounded.HAPROXY: 0, bounded.ENVOY: 1}


# Mistakes


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda module, order: module.Bounded(order, factor=99), "factor 99 is not 100 to 1000000"),
        (lambda module, order: module.Bounded(order, rule=3), "rule 3 is not 0 to 2"),
        (lambda module, order: module.Bounded(order, [1, 2]), "2 weights for 3"),
        (lambda module, order: module.Bounded(order, [1, 2, 0]), "weight 2 is 0"),
        (lambda module, order: module.Bounded(order, [1, 2, 1.5], rule=module.HAPROXY), "weight 2 is 1.5: weights of"),
        (
            lambda module, order: module.Bounded(order, [2**31, 1, 1], rule=module.HAPROXY),
            "the sum of weights is above",
        ),
        (lambda module, order: module.Bounded(order).done(0), "nothing is in flight at 0"),
        (lambda module, order: module.Bounded(order).done(3), "position 3 is not 0 to 2"),
        (lambda module, order: module.Bounded(order).pick(-1), "hash -1 is not"),
        (lambda module, order: module.Bounded(order).pick(0, [5]), "position 5 is not 0 to 2"),
        (lambda module, order: module.Bounded(order).close(-1), "position -1 is not"),
        (lambda module, order: module.overflow_order(0, 0), "count 0 is not 1 to"),
        (lambda module, order: module.overflow_order(-1, 2), "hash -1 is not"),
    ],
)
def test_mistakes_are_told(bounded: Any, make: Callable[[Any, Any], Any], words: str) -> None:
    with pytest.raises(LocalError, match=words):
        make(bounded, order_of(own(bounded), "jump", 3))


def test_bounds_are_put_on_orders(bounded: Any) -> None:
    for value in (None, 7, "jump"):
        assert outcome(bounded.Bounded, value)[0] is TypeError
