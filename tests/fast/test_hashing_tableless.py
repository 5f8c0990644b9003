"""Jump, rendezvous, anchor and multi-probe: published values, what the papers promise, and both builds."""

from collections import Counter
from collections.abc import Callable
from math import inf, log, nan
from random import Random
from typing import Any

import pytest
import xxhash
from builds import builds, outcome
from hypothesis import given, settings
from hypothesis import strategies as st

from distkit._fast import hashing as used_base
from distkit._fast import tableless as used
from distkit._fast.pure import hashing as twin_base
from distkit._fast.pure import tableless as twin
from distkit.core.errors import LocalError

TOP = (1 << 64) - 1
BUILDS = ((used, used_base), (twin, twin_base))
HOSTS = [b"host-%d" % number for number in range(10)]

hashes = st.integers(0, TOP)
keys_of_endpoints = st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=12, unique=True)


@pytest.fixture(params=builds("tableless"), scope="module")
def tableless(request: pytest.FixtureRequest) -> Any:
    return request.param


def mixed(value: int) -> int:
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & TOP
    value = (value ^ value >> 27) * 0x94D049BB133111EB & TOP
    return value ^ value >> 31


def output(seed: int, number: int) -> int:
    """Output `number` of SplitMix64, from 0 on."""
    return mixed(seed + (number + 1) * 0x9E3779B97F4A7C15 & TOP)


def some(count: int) -> list[int]:
    return [output(99, number) for number in range(count)]


def test_this_is_splitmix64() -> None:
    assert [output(1234567, number) for number in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


# Jump


def test_jump_goes_where_its_authors_go(tableless: Any) -> None:
    assert [tableless.jump(key, 100) for key in range(10)] == [0, 55, 62, 8, 45, 59, 86, 97, 82, 59]


@given(hashed=hashes, count=st.integers(1, 0x7FFFFFFF))
def test_jump_is_as_defined(hashed: int, count: int) -> None:
    b, j, k = -1, 0, hashed
    while j < count:
        b = j
        k = (k * 2862933555777941757 + 1) % (1 << 64)
        j = int((b + 1) * (float(1 << 31) / float((k >> 33) + 1)))
    assert used.jump(hashed, count) == twin.jump(hashed, count) == b


@given(hashed=hashes, count=st.integers(1, 3000))
def test_a_bucket_more_moves_hashes_to_it_alone(hashed: int, count: int) -> None:
    assert used.jump(hashed, count + 1) in (used.jump(hashed, count), count)


def test_jump_as_an_order_is_jump(tableless: Any) -> None:
    order = tableless.Jump(7)
    for hashed in some(50):
        assert order.lookup(hashed) == tableless.jump(hashed, 7)
        assert order.lookup(hashed, 3) == tableless.jump(output(hashed, 2), 7)
        assert sorted(order.candidates(hashed)) == list(range(7))


# Rendezvous


@settings(deadline=None)
@given(
    keys=keys_of_endpoints,
    weights=st.lists(st.floats(0.01, 100, allow_nan=False), min_size=12, max_size=12),
    hashed=hashes,
)
def test_the_lowest_bid_wins(keys: list[bytes], weights: list[float], hashed: int) -> None:
    bids = {}
    for position, key in enumerate(keys):
        part = mixed(hashed ^ xxhash.xxh64_intdigest(key)) >> 12
        bids[position] = -log((part + 0.5) / 2**52) / weights[position]
    ranked = sorted(bids, key=lambda position: bids[position])
    for module, _base in BUILDS:
        found = module.Rendezvous(keys, weights[: len(keys)]).candidates(hashed)
        assert [bids[position] for position in found] == pytest.approx([bids[position] for position in ranked], 1e-12)


def test_shares_are_as_weights(tableless: Any) -> None:
    weights = [1, 2, 3, 4, 10]
    order = tableless.Rendezvous(HOSTS[:5], weights)
    counts = Counter(order.lookup(hashed) for hashed in some(20000))
    expected = [20000 * weight / 20 for weight in weights]
    chi_square = sum((counts[position] - each) ** 2 / each for position, each in enumerate(expected))
    assert chi_square < 18.5  # of 4 degrees of freedom: once in a thousand, and the hashes are always the same


def test_logarithms_are_right_everywhere(tableless: Any) -> None:
    if tableless is twin:  # the kernel's bids are compared with the twin's below
        for exponent in range(-53, 0):
            for mantissa in (0.5, 0.7071067811865475, 0.7071067811865476, 0.75, 0.9999999999999999):
                value = mantissa * 2.0**exponent
                assert twin._negative_log(value) == pytest.approx(-log(value), rel=3e-15)
        for value in (1 - 2.0**-53, 1 - 2.0**-30, 0.999):
            assert twin._negative_log(value) == pytest.approx(-log(value), rel=3e-15)


def test_logarithms_are_the_same_bits_everywhere() -> None:
    assert [twin._negative_log(value).hex() for value in (0.7072, 0.71, 0.353, 0.9)] == [
        "0x1.62c1a17840100p-2",
        "0x1.5eb5c7907e4cap-2",
        "0x1.0a91cca471450p+0",
        "0x1.af8e8210a415bp-4",
    ]


def test_a_change_of_weight_moves_only_what_one_gains_or_loses(tableless: Any) -> None:
    order = tableless.Rendezvous(HOSTS, range(1, 11))
    before = {hashed: order.lookup(hashed) for hashed in some(2000)}
    order.set_weight(4, 50)
    moved = {owner for hashed, owner in before.items() if order.lookup(hashed) != owner}
    assert {order.lookup(hashed) for hashed, owner in before.items() if order.lookup(hashed) != owner} == {4}
    assert len(moved) == 9
    order.set_weight(4, 0)
    assert order.lookup(7) != 4
    for hashed, owner in before.items():
        assert order.lookup(hashed) == owner if owner != 4 else order.lookup(hashed) != 4
        assert 4 not in order.candidates(hashed)
    order.set_weight(4, 5)
    assert {hashed: order.lookup(hashed) for hashed in before} == before


@given(keys=keys_of_endpoints, hashed=hashes, random=st.randoms(use_true_random=False))
def test_who_leaves_moves_its_own_hashes_only(keys: list[bytes], hashed: int, random: Random) -> None:
    shuffled = random.sample(keys, len(keys))
    for module, _base in BUILDS:
        for make in (module.Rendezvous, module.MultiProbe):
            names = [keys[position] for position in make(keys).candidates(hashed)]
            assert [shuffled[position] for position in make(shuffled).candidates(hashed)] == names
            if len(keys) > 1:
                others = [key for key in keys if key != names[0]]
                assert [others[position] for position in make(others).candidates(hashed)] == names[1:]


# Anchor


class AnchorByHand:
    """Each removed bucket remembers who was there behind it; the paper's arrays say the same in less memory."""

    def __init__(self, capacity: int, count: int) -> None:
        self.capacity = capacity
        self.there = list(range(capacity))
        self.removed: list[tuple[int, list[int], list[int]]] = []
        for bucket in range(capacity - 1, count - 1, -1):
            self.remove(bucket)

    def remove(self, bucket: int) -> None:
        before = list(self.there)
        last = self.there.pop()
        if last != bucket:
            self.there[self.there.index(bucket)] = last
        self.removed.append((bucket, before, list(self.there)))

    def add(self) -> int:
        bucket, before, _after = self.removed.pop()
        self.there = before
        return bucket

    def lookup(self, hashed: int) -> int:
        behind = {bucket: after for bucket, _before, after in self.removed}
        bucket = mixed(hashed) % self.capacity
        while bucket in behind:
            bucket = behind[bucket][output(hashed, bucket) % len(behind[bucket])]
        return bucket


@settings(deadline=None, max_examples=60)
@given(capacity=st.integers(1, 30), data=st.data())
def test_anchors_are_as_defined(capacity: int, data: Any) -> None:
    count = data.draw(st.integers(1, capacity))
    all_orders: list[Any] = [AnchorByHand(capacity, count), used.Anchor(capacity, count), twin.Anchor(capacity, count)]
    sample = some(30)
    for _ in range(data.draw(st.integers(0, 12))):
        by_hand = all_orders[0]
        before = [by_hand.lookup(hashed) for hashed in sample]
        if len(by_hand.there) > 1 and data.draw(st.booleans()):
            bucket = data.draw(st.sampled_from(by_hand.there))
            for order in all_orders:
                order.remove(bucket)
            after = [by_hand.lookup(hashed) for hashed in sample]
            assert all(one == other for one, other in zip(before, after, strict=True) if one != bucket)
        elif len(by_hand.there) < capacity:
            assert len({order.add() for order in all_orders}) == 1
        expected = [by_hand.lookup(hashed) for hashed in sample]
        for order in all_orders[1:]:
            assert [order.lookup(hashed) for hashed in sample] == expected
            assert (order.count, order.span) == (len(by_hand.there), capacity)
            assert sorted(order.candidates(sample[0])) == sorted(by_hand.there)
    assert all_orders[1].candidates(5) == all_orders[2].candidates(5)


def test_an_anchor_comes_back_to_what_it_was(tableless: Any) -> None:
    order = tableless.Anchor(50, 40)
    sample = some(500)
    before = [order.lookup(hashed) for hashed in sample]
    for bucket in (3, 39, 0, 17):
        order.remove(bucket)
    assert [order.add() for _ in range(4)] == [17, 0, 39, 3]
    assert [order.lookup(hashed) for hashed in sample] == before
    assert order.add() == 40


def test_anchors_share_evenly(tableless: Any) -> None:
    order = tableless.Anchor(20, 15)
    for bucket in (2, 9, 14, 0, 7):
        order.remove(bucket)
    counts = Counter(order.lookup(hashed) for hashed in some(10000))
    assert len(counts) == 10
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 27.9  # 9 degrees of freedom, 0.1 %


# Multi-probe


@settings(deadline=None)
@given(keys=keys_of_endpoints, hashed=hashes, probes=st.integers(1, 25), attempt=st.integers(0, 3))
def test_the_nearest_point_behind_a_probe_wins(keys: list[bytes], hashed: int, probes: int, attempt: int) -> None:
    start = output(hashed, attempt - 1) if attempt else hashed
    distances = {
        position: min((xxhash.xxh64_intdigest(key) - output(start, number)) % (1 << 64) for number in range(probes))
        for position, key in enumerate(keys)
    }
    for module, _base in BUILDS:
        order = module.MultiProbe(keys, probes)
        assert order.probes == probes
        assert order.lookup(hashed, attempt) == min(distances, key=lambda position: distances[position])


def test_more_probes_share_more_evenly() -> None:
    keys = [b"host-%d" % number for number in range(100)]
    most = []
    for probes in (1, 21):
        order = used.MultiProbe(keys, probes)
        most.append(max(Counter(order.lookup(hashed) for hashed in some(100000)).values()) / 1000)
    assert most[0] > 2
    assert most[1] < 1.15


# All of them


def orders(module: Any, keys: list[bytes], weights: list[float]) -> list[Any]:
    anchor = module.Anchor(len(keys) + 3, len(keys))
    if len(keys) > 2:
        anchor.remove(1)
    return [module.Rendezvous(keys, weights), module.Jump(len(keys)), anchor, module.MultiProbe(keys)]


@settings(deadline=None)
@given(
    keys=keys_of_endpoints,
    weights=st.lists(st.floats(0.01, 100, allow_nan=False), min_size=12, max_size=12),
    hashed=hashes,
    attempt=st.integers(0, 0xFFFFFFFF),
    closed=st.binary(min_size=15, max_size=15),
)
def test_builds_agree(keys: list[bytes], weights: list[float], hashed: int, attempt: int, closed: bytes) -> None:
    weights = weights[: len(keys)]
    for one, other in zip(orders(used, keys, weights), orders(twin, keys, weights), strict=True):
        flags = bytes(byte & 1 for byte in closed[: one.span])
        assert (one.count, one.span) == (other.count, other.span)
        assert one.lookup(hashed, attempt) == other.lookup(hashed, attempt)
        assert one.candidates(hashed) == other.candidates(hashed)
        assert one.first_open(hashed, flags) == other.first_open(hashed, flags)
        assert one.candidates(hashed)[0] == one.lookup(hashed)


@given(keys=keys_of_endpoints, hashed=hashes)
def test_who_is_closed_is_passed_over_in_order(keys: list[bytes], hashed: int) -> None:
    for module, base in BUILDS:
        for order in orders(module, keys, [1.0] * len(keys)):
            assert isinstance(order, base.Order)
            closed = bytearray(order.span)
            for position in order.candidates(hashed):
                assert order.first_open(hashed, closed) == position
                closed[position] = 1
            assert order.first_open(hashed, closed) == -1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda module: module.jump(7, 0), "count 0 is not 1 to 2147483647"),
        (lambda module: module.jump(7, 1 << 31), "count 2147483648 is not"),
        (lambda module: module.jump(-7, 5), "hash -7 is not 0 to 2"),
        (lambda module: module.Jump(0), "count 0 is not 1 to 1048576"),
        (lambda module: module.Rendezvous([]), "0 keys: there may be 1"),
        (lambda module: module.Rendezvous(["a"]), "key 0 is of type str"),
        (lambda module: module.Rendezvous([b"a", b"a"]), "the key b'a' is given twice"),
        (lambda module: module.Rendezvous([b"a"], [0]), "weight 0 is 0"),
        (lambda module: module.Rendezvous([b"a"], [nan]), "weight 0 is nan"),
        (lambda module: module.Rendezvous([b"a"]).set_weight(0, 0), "the last weight above 0 must stay"),
        (lambda module: module.Rendezvous([b"a"]).set_weight(1, 1), "position 1 is not 0 to 0"),
        (lambda module: module.Rendezvous([b"a"]).set_weight(0, -1), "the weight is -1: there may be 0, or"),
        (lambda module: module.Rendezvous([b"a"]).set_weight(0, nan), "the weight is nan"),
        (lambda module: module.Rendezvous([b"a"]).set_weight(0, inf), "the weight is inf"),
        (lambda module: module.Anchor(0, 0), "capacity 0 is not 1 to 1048576"),
        (lambda module: module.Anchor(1 << 21, 1), "capacity 2097152 is not"),
        (lambda module: module.Anchor(3, 4), "count 4 is not 1 to 3"),
        (lambda module: module.Anchor(3, 3).add(), "all 3 buckets are there"),
        (lambda module: module.Anchor(3, 1).remove(0), "the last bucket must stay"),
        (lambda module: module.Anchor(3, 2).remove(2), "bucket 2 is removed already"),
        (lambda module: module.Anchor(3, 2).remove(3), "bucket 3 is not 0 to 2"),
        (lambda module: module.MultiProbe([b"a"], 0), "probes 0 is not 1 to 1024"),
        (lambda module: module.MultiProbe([b""]), "key 0 is of 0 bytes"),
        (lambda module: module.MultiProbe([b"a"]).lookup(1 << 64), "is not 0 to 2"),
    ],
)
def test_mistakes_are_told(tableless: Any, make: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(LocalError, match=words):
        make(tableless)


@pytest.mark.parametrize("value", ["7", 7.0, None, b"7"])
def test_jump_takes_numbers(tableless: Any, value: Any) -> None:
    assert outcome(tableless.jump, value, 5)[0] is TypeError
    assert outcome(tableless.jump, 5, value)[0] is TypeError
    assert outcome(tableless.Rendezvous([b"a"]).set_weight, 0, "1")[0] is TypeError
