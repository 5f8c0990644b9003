"""Chance: one stream for each name, the same everywhere, drawn with nothing that differs between Pythons."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit.sim.chance import SECOND, below, between, chosen, exponential, exponentials, log_between, stream


class Frugal(Random):
    """Allows what every Python draws alike, and nothing else."""

    allowed = frozenset(("random", "getrandbits", "seed"))

    def __getattribute__(self, name: str) -> object:
        if name.startswith("_") or name in Frugal.allowed:
            return super().__getattribute__(name)
        raise AssertionError(f"chance is drawn with {name}")


def test_streams_are_the_same_in_every_process() -> None:
    """Pinned: seeded by text, so neither hash seeds nor Python versions change them."""
    random = stream(7, "network 1 2")
    assert [random.getrandbits(32) for _ in range(3)] == [2965368525, 3664273055, 1825894956]
    assert stream(7, "network 1 2").random() == stream(7, "network 1 2").random()


def test_streams_of_one_seed_are_independent() -> None:
    names = ["draw lite", "world", "faults", *(f"host {node}" for node in range(1, 10))]
    firsts = {stream(seed, name).getrandbits(64) for seed in range(50) for name in names}
    assert len(firsts) == 50 * len(names)
    alone, first, second = stream(1, "a"), stream(1, "a"), stream(1, "b")
    drawn = []
    for _ in range(100):
        second.random()
        drawn.append(first.random())
    assert drawn == [alone.random() for _ in range(100)]


def test_draws_use_only_what_every_python_draws_alike() -> None:
    random = Frugal(3)
    assert 0 <= below(random, 9) < 9
    assert 1 <= between(random, 1, 2) <= 2
    assert 1 <= log_between(random, 1, 1000) <= 1000
    assert exponential(random, SECOND) > 0
    assert chosen(random, {"a": 1.0, "b": 2.0}) in ("a", "b")
    with pytest.raises(AssertionError, match="randrange"):
        random.randrange(3)


def test_draws_are_pinned() -> None:
    random = stream(5, "pinned")
    found = [below(random, 1000), exponential(random, 1_000_000), chosen(random, {"a": 1.0, "b": 1.0, "c": 2.0})]
    assert found == [321, 1340000, "c"]
    assert (between(random, 2.0, 6.0), log_between(random, 1.0, 100.0)) == (3.921192800727885, 14.024275969781334)


@pytest.mark.parametrize("mean", [1000, 200_000, 5 * SECOND])
def test_waiting_times_have_their_mean_and_an_end(mean: int) -> None:
    random = stream(1, "waiting")
    found = [exponential(random, mean) for _ in range(20_000)]
    assert abs(sum(found) / len(found) / mean - 1) < 0.03
    assert min(found) > 0
    assert 3 * mean < max(found) <= 4.3 * mean
    median = sorted(found)[len(found) // 2]
    assert 0.6 < median / mean < 0.8  # ln 2 of an exponential distribution


def test_the_table_of_waiting_times_has_all_that_are_drawn() -> None:
    random = stream(1, "waiting")
    drawn = {7 + exponential(random, 200_000) for _ in range(2_000)}
    assert drawn == set(exponentials(7, 200_000))
    assert len(exponentials(7, 200_000)) == len(drawn)


@given(st.integers(0, 2**32), st.integers(1, 10**6))
def test_below_stays_below(seed: int, count: int) -> None:
    random = stream(seed, "below")
    assert all(0 <= below(random, count) < count for _ in range(20))


@given(st.integers(0, 2**32), st.floats(1e-4, 1e6), st.floats(1.0, 1e6))
def test_log_between_stays_between(seed: int, low: float, factor: float) -> None:
    random = stream(seed, "log")
    assert all(low <= log_between(random, low, low * factor) <= low * factor for _ in range(20))


def test_log_between_draws_each_doubling_about_as_often() -> None:
    random = stream(2, "doublings")
    counts = [0] * 10
    for _ in range(10_000):
        counts[min(9, int(log_between(random, 1.0, 1024.0)).bit_length() - 1)] += 1
    assert min(counts) > 850
    assert max(counts) < 1150


def test_chosen_follows_the_weights() -> None:
    random = stream(3, "weights")
    found = [chosen(random, {"never": 0.0, "rare": 1.0, "often": 9.0}) for _ in range(10_000)]
    assert found.count("never") == 0
    assert 900 < found.count("rare") < 1100
