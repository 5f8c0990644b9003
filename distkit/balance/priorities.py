"""How load is shared among priority levels, as Envoy's code does it (its public tables differ in places).

A level takes load in proportion to its health, which is overprovisioned: at the usual factor of 140 % a level with 72 %
of its endpoints healthy counts as whole. What a level cannot take spills to the next. When all levels together are
less than whole, a level of which too few endpoints are healthy is in panic: all its endpoints get requests.

All numbers are integers and exact; loads are percent and always sum to 100.
"""

from __future__ import annotations

from collections.abc import Sequence

from distkit.balance.bounds import whole
from distkit.core import LocalError, record


@record
class Level:
    """One priority: how many endpoints there are (or their integer weights), and how many of these are excluded.

    `total` counts all; `healthy` and `degraded` are disjoint parts of it. `excluded` ones (never checked yet, for
    instance) are no part of the shares, so they don't make a level look ill.
    """

    healthy: int
    degraded: int
    total: int
    excluded: int = 0


_NOBODY = Level(0, 0, 0)


@record
class Shares:
    """The outcome: percent of the load for the healthy and the degraded endpoints of each level, and who is in panic.

    A level in panic spreads its load, healthy and degraded, over all its endpoints. `unavailable`: no endpoint is
    there, or none is healthy or degraded and panic is off: requests fail (the load stands nominally on level 0).
    """

    healthy: tuple[int, ...]
    degraded: tuple[int, ...]
    panic: tuple[bool, ...]
    unavailable: bool = False

    def choose(self, number: int) -> tuple[int, bool]:
        """The level for a random number or hash, and whether its degraded endpoints are meant.

        The first level whose cumulative load, healthy levels first, is at least number mod 100 + 1.
        """
        left = number % 100 + 1
        for degraded, loads in ((False, self.healthy), (True, self.degraded)):
            for level, load in enumerate(loads):
                left -= load
                if left <= 0:
                    return level, degraded
        raise LocalError("loads must sum to 100: make Shares with share_load")


def share_load(
    levels: Sequence[Level], overprovisioning: int = 140, panic_threshold: int = 50, without: Sequence[int] = ()
) -> Shares:
    """Share the load among `levels`, the first being the one to prefer.

    `overprovisioning` is percent, at least 100. `panic_threshold` is the percent of healthy and degraded endpoints
    below which a level panics; 0: never. Levels `without` (tried already, say) count as empty, as long as an endpoint
    of another level is healthy or degraded.
    """
    if not levels:
        raise LocalError("there must be at least one priority level")
    whole("overprovisioning", overprovisioning, 100, 1_000_000)
    whole("panic_threshold", panic_threshold, 0, 100)
    for level in levels:
        _check(level)
    left = [_NOBODY if i in without else level for i, level in enumerate(levels)]
    if any(level.healthy + level.degraded for level in left):
        levels = left
    health = [_health(level.healthy, level, overprovisioning) for level in levels]
    degraded = [_health(level.degraded, level, overprovisioning) for level in levels]
    available = min(100, sum(health) + sum(degraded))
    panic = tuple(available < 100 and _in_panic(level, panic_threshold) for level in levels)
    if all(panic) and any(level.total for level in levels):
        return Shares(_by_size(levels), (0,) * len(levels), panic)
    if not available:
        return _too_few(levels, panic)
    return _spill(health, degraded, available, panic)


def _spill(health: list[int], degraded: list[int], available: int, panic: tuple[bool, ...]) -> Shares:
    """Healthy endpoints in order of priority, then degraded ones; what rounding left goes to the first that can."""
    left = 100
    loads: list[list[int]] = []
    for shares in (health, degraded):
        loads.append([])
        for share in shares:
            load = min(left, share * 100 // available)
            loads[-1].append(load)
            left -= load
    rest = 0 if any(health) else 1
    first = next(i for i, share in enumerate((health, degraded)[rest]) if share)
    loads[rest][first] += left
    return Shares(tuple(loads[0]), tuple(loads[1]), panic)


def _too_few(levels: Sequence[Level], panic: tuple[bool, ...]) -> Shares:
    """So few are well that every share rounds to 0: all load on the first level where there is one, else on level 0."""
    healthy, degraded = [0] * len(levels), [0] * len(levels)
    for loads, counts in ((healthy, [v.healthy for v in levels]), (degraded, [v.degraded for v in levels])):
        if any(counts):
            loads[next(i for i, count in enumerate(counts) if count)] = 100
            return Shares(tuple(healthy), tuple(degraded), panic)
    healthy[0] = 100
    return Shares(tuple(healthy), tuple(degraded), panic, unavailable=True)


def _health(count: int, level: Level, overprovisioning: int) -> int:
    counted = level.total - level.excluded
    return min(100, overprovisioning * count // counted) if counted else 0


def _in_panic(level: Level, threshold: int) -> bool:
    counted = level.total - level.excluded
    return 100 * (level.healthy + level.degraded) < threshold * counted if counted else threshold > 0


def _by_size(levels: Sequence[Level]) -> tuple[int, ...]:
    """Every level is in panic: load by the number of endpoints, the rest to the first level that has any."""
    total = sum(level.total for level in levels)
    loads = [100 * level.total // total for level in levels]
    loads[next(i for i, level in enumerate(levels) if level.total)] += 100 - sum(loads)
    return tuple(loads)


def _check(level: Level) -> None:
    for name in ("healthy", "degraded", "total", "excluded"):
        whole(name, getattr(level, name))
    if level.healthy + level.degraded + level.excluded > level.total:
        raise LocalError(f"healthy, degraded and excluded endpoints must not exceed the total of {level.total}")
