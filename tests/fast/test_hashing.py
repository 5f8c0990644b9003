"""Hash functions, rings and Maglev tables: published values, oracles written from the definitions, and both builds."""

import hashlib
import operator
import zlib
from collections import Counter
from collections.abc import Callable
from ctypes import c_float
from itertools import pairwise
from math import ceil, floor, inf, nan
from random import Random
from typing import Any

import pytest
import xxhash
from builds import builds, outcome
from hypothesis import given, settings
from hypothesis import strategies as st

from distkit._fast import hashing as used
from distkit._fast.pure import hashing as twin
from distkit.core.errors import LocalError

TOP = (1 << 64) - 1
HOSTS = [b"127.0.0.1:%d" % port for port in range(90, 96)]
THOUSAND = [b"10.0.%d.%d:8080" % divmod(number, 250) for number in range(1000)]


@pytest.fixture(params=builds("hashing"), scope="module")
def hashing(request: pytest.FixtureRequest) -> Any:
    return request.param


keys_of_endpoints = st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=12, unique=True)
hashes = st.integers(0, TOP)


@st.composite
def weighted(draw: Callable[..., Any]) -> tuple[list[bytes], list[float]]:
    keys = draw(keys_of_endpoints)
    weight = st.one_of(st.integers(1, 10), st.floats(0.1, 10, allow_nan=False))
    return keys, draw(st.lists(weight, min_size=len(keys), max_size=len(keys)))


# What they are compared with: written from the definitions, for small cases.


def envoy_points(keys: list[bytes], weights: list[float], size_min: int, size_max: int) -> list[tuple[int, int]]:
    shares = [weight / plain_sum(weights) for weight in weights]
    scale = min(ceil(min(shares) * size_min) / min(shares), size_max)
    points, current, target = [], 0.0, 0.0
    for position, share in enumerate(shares):
        target += scale * share
        k = 0
        while current < target:
            points.append((xxhash.xxh64_intdigest(keys[position] + b"_" + str(k).encode()), position))
            k, current = k + 1, current + 1
    return sorted(points, key=operator.itemgetter(0))


def plain_sum(numbers: list[float]) -> float:
    total = 0.0
    for number in numbers:
        total += number
    return total


def ketama_points(keys: list[bytes], weights: list[float]) -> list[tuple[int, int]]:
    points = []
    for position, key in enumerate(keys):
        share = c_float(c_float(weights[position]).value / c_float(plain_sum(weights)).value).value
        for k in range(floor(c_float(share * 40.0 * len(keys)).value)):
            digest = hashlib.md5(key + b"-" + str(k).encode()).digest()
            points += [(int.from_bytes(digest[at : at + 4], "little"), position) for at in range(0, 16, 4)]
    return sorted(points, key=operator.itemgetter(0))


def nginx_points(addresses: list[tuple[bytes, bytes]], weights: list[int]) -> list[tuple[int, int]]:
    points = []
    for position, (host, port) in enumerate(addresses):
        last = 0
        for _ in range(160 * weights[position]):
            last = zlib.crc32(host + b"\0" + port + last.to_bytes(4, "little"))
            points.append((last, position))
    points.sort(key=operator.itemgetter(0))
    return [point for at, point in enumerate(points) if at == 0 or points[at - 1][0] != point[0]]


def on_circle(points: list[tuple[int, int]], hashed: int) -> list[int]:
    """The owners of all points, from the one on that owns the hash."""
    at = next((at for at, (point, _owner) in enumerate(points) if point >= hashed), 0)
    return [owner for _point, owner in points[at:] + points[:at]]


def maglev_table(keys: list[bytes], weights: list[float], size: int) -> list[int]:
    order = sorted(range(len(keys)), key=lambda position: keys[position])
    total = plain_sum([weights[position] for position in order])
    share = {position: weights[position] / total for position in order}
    free = {
        position: iter([(first + skip * j) % size for j in range(size)])
        for position in order
        for first in [xxhash.xxh64_intdigest(keys[position]) % size]
        for skip in [xxhash.xxh64_intdigest(keys[position], seed=1) % (size - 1) + 1]
    }
    table, target, turn = [-1] * size, dict.fromkeys(order, 0.0), 0
    while -1 in table:
        turn += 1
        for position in order:
            if turn * share[position] >= target[position] and -1 in table:
                target[position] += max(share.values())
                table[next(slot for slot in free[position] if table[slot] < 0)] = position
    return table


def all_of(order: Any, size: int) -> list[int]:
    return [order.lookup(slot) for slot in range(size)]


def check_circle(ring: Any, points: list[tuple[int, int]], bits: int) -> None:
    """The ring is that of the points."""
    assert ring.size == len(points)
    owners = [owner for _point, owner in points]
    found = [at for at, (point, _owner) in enumerate(points) if at == 0 or points[at - 1][0] != point]
    for at, following in zip(found, [*found[1:], 0], strict=True):
        assert ring.lookup(points[at][0]) == owners[at]
        if points[at][0] + 1 < 1 << bits:
            assert ring.lookup(points[at][0] + 1) == owners[following]
    for hashed in (0, (1 << bits) - 1, 1 << bits - 1):
        expected = on_circle(points, hashed)
        assert [ring.lookup(hashed, attempt) for attempt in range(len(points) + 1)] == [*expected, expected[0]]
        assert ring.candidates(hashed) == list(dict.fromkeys([*expected, *range(ring.count)]))


# Hash functions


def test_xxh64_and_murmur2_are_those_of_envoy(hashing: Any) -> None:
    words = (b"foo", b"bar", b"foo\nbar", b"lyft", b"")
    assert [hashing.xxh64(word) for word in words] == [
        3728699739546630719,
        5234164152756840025,
        8917841378505826757,
        4400747396090729504,
        17241709254077376921,
    ]
    assert [hashing.murmur2(word) for word in words] == [
        9631199822919835226,
        11474628671133349555,
        16306510975912980159,
        12847078931730529320,
        6142509188972423790,
    ]


@given(data=st.binary(max_size=200), seed=hashes)
def test_xxh64_is_that_of_its_authors(data: bytes, seed: int) -> None:
    assert used.xxh64(data, seed) == twin.xxh64(data, seed) == xxhash.xxh64_intdigest(data, seed)


@given(data=st.binary(max_size=200), seed=hashes)
def test_builds_agree_on_murmur2(data: bytes, seed: int) -> None:
    assert used.murmur2(data, seed) == twin.murmur2(data, seed)
    assert used.murmur2(data) == twin.murmur2(data, 0xC70F6907)


def test_ketama_looks_up_the_first_word_of_md5(hashing: Any) -> None:
    assert hashing.ketama_hash(b"test") == 3446378249


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("xxh64", ("text",), "str can't be hashed: give bytes"),
        ("murmur2", (bytearray(b"x"),), "bytearray can't be hashed"),
        ("ketama_hash", (7,), "int can't be hashed"),
        ("xxh64", (b"", -1), "seed -1 is not 0 to 2"),
        ("murmur2", (b"", 1 << 64), "is not 0 to 2"),
    ],
)
def test_only_bytes_are_hashed(hashing: Any, name: str, arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(LocalError, match=words):
        getattr(hashing, name)(*arguments)


# Envoy's ring


def test_a_small_ring_is_that_of_envoy(hashing: Any) -> None:
    points = [
        (833437586790550860, 4),
        (928266305478181108, 2),
        (1033482794131418490, 0),
        (3551244743356806947, 5),
        (3851675632748031481, 3),
        (5583722120771150861, 1),
        (6311230543546372928, 1),
        (7700377290971790572, 3),
        (13144177310400110813, 5),
        (13444792449719432967, 2),
        (15516499411664133160, 4),
        (16117243373044804889, 0),
    ]
    check_circle(hashing.Ring.envoy(HOSTS, size_min=12), points, 64)
    assert hashing.Ring.envoy(HOSTS, size_min=12).candidates(0) == [4, 2, 0, 5, 3, 1]


def test_a_ring_of_murmur2_is_that_of_envoy(hashing: Any) -> None:
    points = [
        (1358027074129602068, 5),
        (4361834613929391114, 3),
        (7224494972555149682, 4),
        (7701421856454313576, 1),
        (8649315368077433379, 2),
        (8739448859063030639, 4),
        (9887544217113020895, 1),
        (10150910876324007731, 2),
        (15168472011420622455, 3),
        (15427156902705414897, 0),
        (16375050414328759093, 5),
        (17613279263364193813, 0),
    ]
    keys = [b"127.0.0.1:%d" % port for port in range(80, 86)]
    check_circle(hashing.Ring.envoy(keys, size_min=12, function="murmur2"), points, 64)


def test_weights_on_small_rings_are_those_of_envoy(hashing: Any) -> None:
    ring = hashing.Ring.envoy(HOSTS[:3], [1, 2, 3], 6, 6)
    points = {
        928266305478181108: 2,
        4443673547860492590: 2,
        5583722120771150861: 1,
        6311230543546372928: 1,
        13444792449719432967: 2,
        16117243373044804889: 0,
    }
    check_circle(ring, list(points.items()), 64)
    localities = [1 * (1 / 3) / 3, 2 * (1 / 3) / 3, 1 * (2 / 3) / 3, 2 * (2 / 3) / 3]
    points = {
        928266305478181108: 2,
        3851675632748031481: 3,
        5583722120771150861: 1,
        6311230543546372928: 1,
        7700377290971790572: 3,
        12559126875973811811: 3,
        13444792449719432967: 2,
        13784988426630141778: 3,
        16117243373044804889: 0,
    }
    check_circle(hashing.Ring.envoy(HOSTS[:4], localities, 9, 9, normalized=True), list(points.items()), 64)


def test_normalized_weights_are_taken_as_they_are(hashing: Any) -> None:
    assert hashing.Ring.envoy(HOSTS[:2], [0.5000003] * 2, 10, 12, normalized=True).size == 12
    assert hashing.Ring.envoy(HOSTS[:2], [0.5000003] * 2, 10, 12).size == 10


def test_a_large_ring_shares_as_envoys(hashing: Any) -> None:
    ring = hashing.Ring.envoy(HOSTS[:3], [1, 2, 3], 6144)
    assert ring.size == 6144
    counts = Counter(ring.lookup(number * (TOP // 6000)) for number in range(6000))
    assert counts == {0: 987, 1: 1932, 2: 3081}


def test_rings_of_envoy_and_grpc_have_other_sizes_by_default(hashing: Any) -> None:
    weights = [1, 10000]
    assert hashing.Ring.envoy(HOSTS[:2], weights).size == 10001
    assert hashing.Ring.grpc(HOSTS[:2], weights).size == 4096
    assert hashing.Ring.envoy(HOSTS[:2]).size == hashing.Ring.grpc(HOSTS[:2]).size == 1024


def test_a_ring_can_be_larger_than_its_smallest_size(hashing: Any) -> None:
    keys = [b"127.0.0.1:80", b"127.0.0.1:81"]
    points = [
        (5454692015285649509, 0),
        (7859399908942313493, 1),
        (13838424394637650569, 0),
        (16064866803292627174, 1),
    ]
    check_circle(hashing.Ring.envoy(keys, size_min=3), points, 64)
    assert hashing.Ring.envoy(keys, [1, 1000], 10, 10).size == 11


@settings(max_examples=60)
@given(case=weighted(), size_min=st.integers(1, 200), more=st.integers(0, 200), hashed=hashes)
def test_rings_are_as_defined(case: tuple[list[bytes], list[float]], size_min: int, more: int, hashed: int) -> None:
    keys, weights = case
    points = envoy_points(keys, weights, size_min, size_min + more)
    for hashing in (used, twin):
        ring = hashing.Ring.envoy(keys, weights, size_min, size_min + more)
        assert ring.size == len(points)
        assert [ring.lookup(hashed, attempt) for attempt in range(ring.size)] == on_circle(points, hashed)


@given(case=weighted(), random=st.randoms(use_true_random=False), hashed=hashes)
def test_the_order_of_the_list_changes_no_grpc_ring(
    case: tuple[list[bytes], list[float]], random: Random, hashed: int
) -> None:
    keys, weights = case
    order = list(range(len(keys)))
    random.shuffle(order)
    for hashing in (used, twin):
        ring = hashing.Ring.grpc(keys, weights, 64, 256)
        other = hashing.Ring.grpc([keys[at] for at in order], [weights[at] for at in order], 64, 256)
        assert other.size == ring.size
        for attempt in range(ring.size):
            assert order[other.lookup(hashed, attempt)] == ring.lookup(hashed, attempt)


def test_rounding_follows_the_list_of_envoy_and_the_keys_of_grpc(hashing: Any) -> None:
    keys, weights = HOSTS[:3], [1.0, 1.3, 1.7]
    backwards = hashing.Ring.envoy(keys[::-1], weights[::-1], 10, 10)
    assert all_points(hashing.Ring.grpc(keys[::-1], weights[::-1], 10, 10)) == {2 - at for at in range(3)}
    forwards = hashing.Ring.envoy(keys, weights, 10, 10)
    counts = [Counter(ring.lookup(0, attempt) for attempt in range(ring.size)) for ring in (forwards, backwards)]
    assert [counts[0][at] for at in range(3)] != [counts[1][2 - at] for at in range(3)]
    assert hashing.Ring.grpc(keys, weights, 10, 10).lookup(7) == forwards.lookup(7)


def all_points(ring: Any) -> set[int]:
    return {ring.lookup(0, attempt) for attempt in range(ring.size)}


def test_a_weight_in_whole_numbers_may_be_scaled(hashing: Any) -> None:
    rings = [hashing.Ring.grpc(HOSTS, [weight * scale for weight in (1, 2, 3, 4, 5, 7)]) for scale in (1, 3, 1000)]
    assert len({tuple(ring.lookup(hashed << 54) for hashed in range(1024)) for ring in rings}) == 1


def test_a_removal_from_a_ring_moves_only_what_was_owned(hashing: Any) -> None:
    keys = THOUSAND[:20]
    ring, without = hashing.Ring.envoy(keys, size_min=2000), hashing.Ring.envoy(keys[:-1], size_min=1900)
    assert (ring.size, without.size) == (2000, 1900)
    for number in range(2000):
        hashed = hashing.xxh64(b"%d" % number)
        if ring.lookup(hashed) != 19:
            assert without.lookup(hashed) == ring.lookup(hashed)
        else:
            assert without.lookup(hashed) == ring.candidates(hashed, 2)[1]


# libketama, nginx


def test_keys_go_where_libketama_sends_them(hashing: Any) -> None:
    weights = [600, 300, 200, 350, 1000, 800, 950, 100]
    ring = hashing.Ring.ketama([b"10.0.1.%d:11211" % number for number in range(1, 9)], weights)
    owners = [ring.lookup(hashing.ketama_hash(b"key%d" % number)) + 1 for number in range(12)]
    assert ring.size == 1264
    assert owners == [4, 7, 5, 1, 2, 6, 1, 5, 5, 5, 7, 2]


def test_of_equal_points_the_one_that_was_made_first_comes_first(hashing: Any) -> None:
    points = ketama_points(THOUSAND, [1] * 1000)
    equal = [(one, other) for one, other in pairwise(points) if one[0] == other[0]]
    ring = hashing.Ring.ketama(THOUSAND)
    assert equal
    for (point, first), (_point, second) in equal:
        assert [ring.lookup(point), ring.lookup(point, 1)] == [first, second]
        assert first < second


@pytest.mark.parametrize(("weights", "points"), [([7, 3], [224, 96]), ([21, 10, 9], [248, 120, 108])])
def test_libketama_rounds_to_single_precision(hashing: Any, weights: list[int], points: list[int]) -> None:
    ring = hashing.Ring.ketama(HOSTS[: len(weights)], weights)
    counts = Counter(ring.lookup(0, attempt) for attempt in range(ring.size))
    assert [counts[position] for position in range(len(weights))] == points


@settings(max_examples=15, deadline=None)
@given(case=weighted())
def test_ketama_rings_are_as_defined(case: tuple[list[bytes], list[float]]) -> None:
    points = ketama_points(*case)
    for hashing in (used, twin):
        check_circle(hashing.Ring.ketama(*case), points, 32)


def test_nginx_rings_are_as_defined(hashing: Any) -> None:
    keys = [b"10.0.0.1:8080", b"10.0.0.2", b"UNIX:/run/x:1", b"[::1]:80", b"name:", b"name:80a", b":7"]
    addresses = [
        (b"10.0.0.1", b"8080"),
        (b"10.0.0.2", b""),
        (b"/run/x:1", b""),
        (b"[::1]", b"80"),
        (b"name", b""),
        (b"name:80a", b""),
        (b"", b"7"),
    ]
    check_circle(hashing.Ring.nginx(keys), nginx_points(addresses, [1] * 7), 32)
    check_circle(hashing.Ring.nginx(keys, range(1, 8)), nginx_points(addresses, list(range(1, 8))), 32)


def test_of_equal_points_the_first_one_stays(hashing: Any) -> None:
    ring = hashing.Ring.nginx([b"a:", b"a", b"b"])
    assert ring.size == 320
    assert ring.candidates(0) in ([0, 2, 1], [2, 0, 1])


def test_who_has_no_point_comes_last(hashing: Any) -> None:
    ring = hashing.Ring.ketama([b"a", b"b", b"c"], [1, 1000, 1])
    assert {ring.lookup(0, attempt) for attempt in range(ring.size)} == {1}
    assert ring.candidates(7) == [1, 0, 2]
    assert ring.first_open(7, b"\1\1\0") == 2


def test_rings_of_32_bits_look_at_the_lower_half_of_a_hash(hashing: Any) -> None:
    ring = hashing.Ring.nginx(HOSTS)
    for hashed in range(0, 1 << 32, 1 << 27):
        assert ring.lookup(hashed | 0x1234567800000000) == ring.lookup(hashed)


def test_keys_go_where_a_real_nginx_sends_them(hashing: Any) -> None:
    # nginx 1.22.1, `hash $arg_k consistent` over five servers
    ring = hashing.Ring.nginx([b"127.0.0.1:%d" % port for port in range(23101, 23106)], [1, 3, 2, 1, 5])
    owners = [ring.lookup(zlib.crc32(b"key%d" % number)) for number in range(24)]
    assert owners == [4, 1, 4, 4, 4, 1, 4, 4, 4, 2, 4, 1, 1, 0, 4, 4, 4, 4, 4, 2, 1, 1, 1, 4]


# Maglev


def test_small_maglev_tables_are_those_of_envoy(hashing: Any) -> None:
    table = hashing.Maglev(HOSTS, size=7)
    assert all_of(table, 14) == [2, 4, 0, 1, 5, 0, 3] * 2
    assert [table.lookup(10, attempt) for attempt in range(3)] == [1, 0, 5]
    assert all_of(hashing.Maglev([b"90", b"91", b"92", b"93", b"94", b"95"], size=7), 7) == [2, 5, 0, 3, 4, 1, 0]
    assert all_of(hashing.Maglev(HOSTS[:2], [1, 2], 17), 17) == [1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1]
    assert all_of(hashing.Maglev(HOSTS[:2], size=17), 17) == [1, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1]
    shares = [0.8, 0.2]
    expected = [1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0]
    assert all_of(hashing.Maglev(HOSTS[:2], shares, 17, normalized=True), 17) == expected


@settings(max_examples=60, deadline=None)
@given(case=weighted(), size=st.sampled_from([2, 3, 7, 31, 251]))
def test_maglev_tables_are_as_defined(case: tuple[list[bytes], list[float]], size: int) -> None:
    expected = maglev_table(*case, size)
    assert all_of(used.Maglev(*case, size), size) == expected
    assert all_of(twin.Maglev(*case, size), size) == expected


def test_maglev_tables_are_even(hashing: Any) -> None:
    def entries(table: Any) -> Counter[int]:
        return Counter(Counter(all_of(table, 65537)).values())

    assert set(entries(hashing.Maglev(THOUSAND))) == {65, 66}
    assert set(entries(hashing.Maglev(THOUSAND[:2], [1, 2]))) == {21846, 43691}


def test_who_leaves_a_maglev_table_moves_few_others() -> None:
    before = all_of(used.Maglev(THOUSAND), 65537)
    moved = []
    for leaving in (1, 10, 50):
        after = all_of(used.Maglev(THOUSAND[leaving:]), 65537)
        others = [owner - leaving != after[slot] for slot, owner in enumerate(before) if owner >= leaving]
        moved.append(100 * sum(others) / 65537)
    assert moved == pytest.approx([0.58, 2.4, 3.3], rel=0.25)


@given(case=weighted(), hashed=hashes, random=st.randoms(use_true_random=False))
def test_the_order_of_the_list_changes_no_maglev_table(
    case: tuple[list[bytes], list[float]], hashed: int, random: Random
) -> None:
    keys, weights = case[0], [ceil(weight) for weight in case[1]]
    order = list(range(len(keys)))
    random.shuffle(order)
    for hashing in (used, twin):
        table = hashing.Maglev(keys, weights, 31)
        other = hashing.Maglev([keys[at] for at in order], [weights[at] for at in order], 31)
        assert [order[owner] for owner in all_of(other, 31)] == all_of(table, 31)
        assert [order[each] for each in other.candidates(hashed)] == table.candidates(hashed)


def test_candidates_of_a_table_are_those_of_its_attempts(hashing: Any) -> None:
    table = hashing.Maglev(HOSTS, size=251)
    by_attempts = list(dict.fromkeys(table.lookup(77, attempt) for attempt in range(12)))
    assert len(by_attempts) > 3
    assert table.candidates(77)[: len(by_attempts)] == by_attempts
    assert sorted(table.candidates(77)) == list(range(6))
    found = hashing.Maglev(HOSTS, size=2).candidates(77)
    assert found == [*found[:2], *(position for position in (5, 0, 1, 2, 3, 4) if position not in found[:2])]


# All orders


def orders(hashing: Any, keys: list[bytes], weights: list[float]) -> list[Any]:
    whole = [ceil(weight) for weight in weights]
    return [
        hashing.Ring.envoy(keys, weights, 20, 300),
        hashing.Ring.envoy(keys, weights, 20, 300, "murmur2"),
        hashing.Ring.grpc(keys, weights, 20, 300),
        hashing.Ring.ketama(keys, weights),
        hashing.Ring.nginx(keys, whole),
        hashing.Maglev(keys, weights, 31),
    ]


@settings(max_examples=30, deadline=None)
@given(case=weighted(), hashed=hashes, attempt=st.integers(0, 0xFFFFFFFF), closed=st.binary(min_size=12, max_size=12))
def test_builds_agree(case: tuple[list[bytes], list[float]], hashed: int, attempt: int, closed: bytes) -> None:
    flags = bytes(byte & 1 for byte in closed[: len(case[0])])
    for one, other in zip(orders(used, *case), orders(twin, *case), strict=True):
        assert (one.count, one.span, one.size) == (other.count, other.span, other.size)
        assert one.lookup(hashed, attempt) == other.lookup(hashed, attempt)
        assert one.candidates(hashed) == other.candidates(hashed)
        assert one.candidates(hashed, 2) == one.candidates(hashed)[:2]
        assert one.first_open(hashed, flags) == other.first_open(hashed, flags)


@settings(max_examples=30, deadline=None)
@given(case=weighted(), hashed=hashes)
def test_who_is_closed_is_passed_over_in_order(case: tuple[list[bytes], list[float]], hashed: int) -> None:
    for order in orders(used, *case):
        closed = bytearray(order.span)
        for position in order.candidates(hashed):
            assert order.first_open(hashed, closed) == position
            closed[position] = 1
        assert order.first_open(hashed, closed) == -1
        assert order.candidates(hashed)[0] == order.lookup(hashed)


BAD_KEYS = [
    ([], "0 keys: there may be 1 to"),
    ([b"a", "b"], "key 1 is of type str: keys are bytes, encode it"),
    ([b"a", b""], "key 1 is of 0 bytes"),
    ([b"a" * 4097], "key 0 is of 4097 bytes"),
    ([b"a", b"b", b"a"], "the key b'a' is given twice"),
]
BAD_WEIGHTS = [
    ([1], "1 weights for 2 keys"),
    ([1, 0], "weight 1 is 0: there may be"),
    ([-1, 1], "weight 0 is -1:"),
    ([1, nan], "weight 1 is nan"),
    ([inf, 1], "weight 0 is inf"),
    ([1, 1e30], "weight 1 is 1e"),
    ([1, 10**400], "weight 1 is 1000"),
]


@pytest.mark.parametrize("kind", ["envoy", "grpc", "ketama", "nginx", "maglev"])
def test_bad_keys_and_weights_are_told(hashing: Any, kind: str) -> None:
    make = hashing.Maglev if kind == "maglev" else getattr(hashing.Ring, kind)
    for keys, words in BAD_KEYS:
        with pytest.raises(LocalError, match=words):
            make(keys)
    for weights, words in BAD_WEIGHTS:
        with pytest.raises(LocalError, match=words):
            make([b"a", b"b"], weights)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda hashing: hashing.Ring(), "a ring is made by"),
        (lambda hashing: hashing.Ring.envoy([b"a"], size_min=20, size_max=10), "size_min 20 is not 1 to 10"),
        (lambda hashing: hashing.Ring.envoy([b"a"], size_min=0), "size_min 0 is not"),
        (lambda hashing: hashing.Ring.envoy([b"a"], size_max=(1 << 23) + 1), "size_max 8388609 is not"),
        (lambda hashing: hashing.Ring.envoy([b"a"], size_max=1 << 70), "is not 1 to 8388608"),
        (lambda hashing: hashing.Ring.envoy([b"a"], function="md5"), "'md5' is no function of a ring"),
        (lambda hashing: hashing.Ring.envoy([b"a"], [2.0], normalized=True), "the sum of normalized weights is 2.0"),
        (lambda hashing: hashing.Ring.nginx([b"a"], [1.5]), "weight 0 is 1.5: weights of nginx are whole numbers"),
        (lambda hashing: hashing.Ring.nginx([b"a"], [1 << 20]), "a ring of 167772160 points"),
        (lambda hashing: hashing.Maglev([b"a"], size=65536), "it must be a prime number"),
        (lambda hashing: hashing.Maglev([b"a"], size=1), "size 1 is not 2 to 5000011"),
        (lambda hashing: hashing.Maglev([b"a"], size=5000077), "size 5000077 is not"),
        (lambda hashing: hashing.Maglev([b"a"], size=31).lookup(-1), "hash -1 is not 0 to 2"),
        (lambda hashing: hashing.Maglev([b"a"], size=31).lookup(1 << 64), "hash 18446744073709551616 is not"),
        (lambda hashing: hashing.Maglev([b"a"], size=31).lookup(0, -1), "attempt -1 is not"),
        (lambda hashing: hashing.Maglev([b"a"], size=31).lookup(0, 1 << 32), "attempt 4294967296 is not"),
        (lambda hashing: hashing.Maglev([b"a"], size=31).candidates(0, -1), "limit -1 is not"),
        (lambda hashing: hashing.Maglev([b"a"], size=31).first_open(0, b""), "0 flags for 1 positions"),
    ],
)
def test_mistakes_are_told(hashing: Any, make: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(LocalError, match=words):
        make(hashing)


@pytest.mark.parametrize("value", ["7", 7.0, None, b"7"])
def test_hashes_are_numbers(hashing: Any, value: Any) -> None:
    order = hashing.Maglev([b"a", b"b"], size=31)
    assert outcome(order.lookup, value)[0] is TypeError
    assert outcome(order.candidates, value)[0] is TypeError
    assert outcome(hashing.Maglev, [b"a"], ["2"])[0] is TypeError
