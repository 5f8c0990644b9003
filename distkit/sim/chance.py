"""Chance from one seed: a stream of its own for everything that draws, so that dropping one leaves the others alone."""

from __future__ import annotations

from random import Random
from typing import Final

SECOND: Final = 1_000_000_000

#: Quantiles of the exponential distribution with mean 1000: `log` may differ in its last bit between C libraries, a
#: table does not.
# fmt: off
_EXPONENTIAL: Final = (
    16, 49, 82, 117, 154, 191, 229, 270, 312, 356, 402, 450, 500, 554, 611, 669,
    733, 801, 872, 950, 1034, 1126, 1227, 1340, 1467, 1611, 1780, 1983, 2237, 2577, 3093, 4204,
)
assert len(_EXPONENTIAL) == 32
# fmt: on


def stream(seed: int, name: str) -> Random:
    """The stream `name` of a seed. Users draw only with `random` and `getrandbits`: others may change with Python."""
    return Random(f"distkit {seed} {name}")


def below(random: Random, count: int) -> int:
    """One of 0 .. count - 1."""
    return int(random.random() * count)


def between(random: Random, low: float, high: float) -> float:
    """A number between two, evenly."""
    return low + random.random() * (high - low)


def log_between(random: Random, low: float, high: float) -> float:
    """A number between two positive ones; each doubling is about equally likely."""
    steps = 0
    while low * 2.0 ** (steps + 1) < high:
        steps += 1
    base = low * 2.0 ** below(random, steps + 1)
    return min(high, base * (1.0 + random.random()))


def exponential(random: Random, mean: int) -> int:
    """A waiting time with this mean, from a table; at most 4 times the mean."""
    return mean * _EXPONENTIAL[int(random.random() * 32)] // 1000


def exponentials(least: int, mean: int) -> tuple[int, ...]:
    """`least` plus each waiting time that `exponential` draws, all equally likely: for those who draw all the time."""
    return tuple(least + mean * each // 1000 for each in _EXPONENTIAL)


def chosen(random: Random, weights: dict[str, float]) -> str:
    """One of the names, by weight."""
    mark = random.random() * sum(weights.values())
    for name, weight in weights.items():
        mark -= weight
        if mark < 0:
            return name
    return next(reversed(weights))
