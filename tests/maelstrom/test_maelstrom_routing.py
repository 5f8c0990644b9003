"""The network model of the runner, and its partitions."""

from __future__ import annotations

from random import Random

import pytest
import trio
from routing import PARTITIONS, Conditions, Router, partition
from trio.testing import MockClock

NAMES = ["n0", "n1", "n2", "n3", "n4"]


def heard(cuts: frozenset[tuple[str, str]], name: str, names: list[str]) -> frozenset[str]:
    return frozenset(other for other in names if (other, name) not in cuts)


def talks(cuts: frozenset[tuple[str, str]], names: list[str]) -> set[frozenset[str]]:
    """Who is in reach of whom, both ways."""
    return {frozenset(b for b in names if not {(a, b), (b, a)} & cuts) for a in names}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("count", [3, 4, 5])
def test_partitions_are_what_their_names_say(count: int, seed: int) -> None:
    names, majority = NAMES[:count], count // 2 + 1
    random = Random(seed)
    assert sorted(map(len, talks(partition("one", names, random), names))) == [1, count - 1]
    small, large = sorted(map(len, talks(partition("majority", names, random), names)))
    assert (small < majority <= large, small + large) == (True, count)
    small, large = sorted(map(len, talks(partition("minority-third", names, random), names)))
    assert 3 * small <= count
    ring = partition("majorities-ring", names, random)
    sides = {heard(ring, name, names) for name in names}
    assert len(sides) == count
    assert set(map(len, sides)) == {majority}
    one_way = partition("one-way", names, random)
    assert len(one_way) == count - 1
    assert not {(b, a) for a, b in one_way} & one_way


@pytest.mark.parametrize("kind", PARTITIONS)
def test_one_node_alone_is_never_cut_from_itself(kind: str) -> None:
    assert all(a != b for a, b in partition(kind, NAMES, Random(1)))
    assert partition(kind, NAMES[:1], Random(1)) == frozenset()


def deliveries(conditions: Conditions, count: int, cut_at: float = 1000.0) -> list[tuple[float, int]]:
    """When which of `count` messages, all sent at 0, arrived."""
    arrived: list[tuple[float, int]] = []

    async def main() -> None:
        router = Router(Random(7), conditions, lambda _name, line: arrived.append((trio.current_time(), int(line))))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(router.run)
            for number in range(count):
                router.send("n0", "n1", b"%d" % number)
            await trio.sleep(cut_at)
            router.cuts = frozenset({("n0", "n1")})
            await trio.sleep(1000)
            nursery.cancel_scope.cancel()
        counters = router.counters
        assert counters["sent"] + counters["copies"] == counters["delivered"] + counters["lost"] + counters["cut"]

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return arrived


@pytest.mark.parametrize("spread", ["constant", "uniform", "exponential"])
def test_delays_have_their_mean_and_spread(spread: str) -> None:
    arrived = deliveries(Conditions(latency=2.0, spread=spread), 2000)
    times = [time for time, _ in arrived]
    assert sum(times) / len(times) == pytest.approx(2.0, rel=0.1)
    in_order = [number for _, number in arrived] == list(range(2000))
    assert in_order == (spread == "constant")
    assert max(times) <= {"constant": 2.0, "uniform": 4.0, "exponential": 40.0}[spread] + 1e-6


def test_messages_are_lost_and_copied_as_often_as_was_asked_for() -> None:
    assert len(deliveries(Conditions(loss=0.25), 4000)) == pytest.approx(3000, rel=0.05)
    copied = [number for _, number in deliveries(Conditions(duplicates=0.25), 4000)]
    assert len(copied) == pytest.approx(5000, rel=0.05)
    assert len(set(copied)) == 4000


def test_a_cut_counts_when_a_message_would_arrive() -> None:
    assert deliveries(Conditions(latency=2.0), 10, cut_at=1.0) == []
    assert len(deliveries(Conditions(latency=2.0), 10, cut_at=3.0)) == 10
