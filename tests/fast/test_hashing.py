"""Hash functions, rings and Maglev tables against published values."""

from typing import Any

import pytest
from builds import builds

HOSTS = [b"127.0.0.1:%d" % port for port in range(90, 96)]


@pytest.fixture(params=builds("hashing"), scope="module")
def hashing(request: pytest.FixtureRequest) -> Any:
    return request.param


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


def test_jump_goes_where_its_authors_go(hashing: Any) -> None:
    assert [hashing.jump(key, 100) for key in range(10)] == [0, 55, 62, 8, 45, 59, 86, 97, 82, 59]


def test_a_small_maglev_table_is_that_of_envoy(hashing: Any) -> None:
    table = hashing.Maglev(HOSTS, size=7)
    assert [table.lookup(slot) for slot in range(14)] == [2, 4, 0, 1, 5, 0, 3] * 2


def test_a_small_ring_is_that_of_envoy(hashing: Any) -> None:
    ring = hashing.Ring.envoy(HOSTS, size_min=12)
    points = {
        833437586790550860: 4,
        928266305478181108: 2,
        1033482794131418490: 0,
        3551244743356806947: 5,
        3851675632748031481: 3,
        5583722120771150861: 1,
        6311230543546372928: 1,
        7700377290971790572: 3,
        13144177310400110813: 5,
        13444792449719432967: 2,
        15516499411664133160: 4,
        16117243373044804889: 0,
    }
    assert ring.size == 12
    owners = list(points.values())
    for place, (point, owner) in enumerate(points.items()):
        assert ring.lookup(point) == owner
        assert ring.lookup(point + 1) == owners[(place + 1) % 12]
        assert [ring.lookup(point, attempt) for attempt in range(13)] == (owners * 3)[place : place + 13]
    assert ring.candidates(0) == [4, 2, 0, 5, 3, 1]
