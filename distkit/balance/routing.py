"""How the load of a cluster is shared among its views: priorities, panic, localities.

A view is the endpoints of one (priority, locality, degraded or not). Endpoints are counted as their gates change, so a
change of one of them costs as many steps as there are priorities and localities, not endpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

from distkit.balance.bounds import number, whole
from distkit.balance.endpoints import Gate
from distkit.balance.priorities import Level, Shares, share_load
from distkit.balance.zones import Locality, ZoneOff, locality_weights, route_by_zone
from distkit.core import LocalError, record

#: What closes the gate of an endpoint; in panic only what its owner decided does. SATURATED always does.
CLOSED: Final = Gate(511) & ~(Gate.DEGRADED | Gate.SATURATED)
CLOSED_IN_PANIC: Final = Gate.DRAINED | Gate.OUT_OF_SUBSET

#: Requests are shared out in so many parts: percent by priority, then millionths.
PART: Final = 1_000_000
SCALE: Final = 100 * PART

Key = tuple[int, str, bool]
T = TypeVar("T")


@record
class ZoneOptions:
    """How localities share the load of a priority. One of two ways:

    `own` and `clients` (how many there are by locality): the load stays in the own locality as far as its share of the
    endpoints allows, for priority 0 (Envoy's zone-aware routing; other priorities go by the number of endpoints). Or
    `weights` by locality: each gets its share, less what its unhealthy endpoints can't carry; one that is not named
    gets none.
    """

    own: str = ""
    clients: Mapping[str, int] | None = None
    weights: Mapping[str, float] | None = None
    endpoints_min: int = 6

    def check(self) -> None:
        """Raise LocalError unless the options make sense."""
        if (self.clients is None) == (self.weights is None):
            raise LocalError("zones need either clients (with own) or weights, not both")
        if self.clients is not None and not self.own:
            raise LocalError("zone-aware routing needs the own locality: set own")
        for locality, count in (self.clients or {}).items():
            whole(f"the number of clients in {locality!r}", count)
        for locality, weight in (self.weights or {}).items():
            number(f"the weight of {locality!r}", weight, 0, (1 << 32) - 1)
        whole("endpoints_min", self.endpoints_min)


class Count:
    """Endpoints of one priority and locality: all that are not put aside by their owner, and which of them are well."""

    __slots__ = ("degraded", "healthy", "total")

    def __init__(self) -> None:
        self.total = 0
        self.healthy = 0
        self.degraded = 0

    def add(self, gate: Gate, change: int) -> None:
        """One more (1) or less (-1) with such a gate."""
        if gate & CLOSED_IN_PANIC:
            return
        self.total += change
        if not gate & CLOSED:
            self.degraded += change if gate & Gate.DEGRADED else 0
            self.healthy += 0 if gate & Gate.DEGRADED else change


class Route:
    """Counts in, shares of views out."""

    def __init__(self, overprovisioning: int, panic_threshold: int, zones: ZoneOptions | None) -> None:
        self.overprovisioning = overprovisioning
        self.panic_threshold = panic_threshold
        self.zones = zones
        self.counts: dict[tuple[int, str], Count] = {}
        self.zone_off = ""  # why requests are not routed by zone

    def key(self, priority: int, locality: str, gate: Gate) -> Key:
        """The view of an endpoint."""
        return priority, locality if self.zones is not None else "", bool(gate & Gate.DEGRADED)

    def count(self, key: Key, gate: Gate, change: int) -> None:
        """An endpoint with such a gate came (1) or went (-1)."""
        self.counts.setdefault(key[:2], Count()).add(gate, change)

    def priorities(self) -> list[int]:
        """Those in use, the one to prefer first."""
        return sorted({priority for (priority, _), count in self.counts.items() if count.total})

    def shares(self) -> tuple[dict[int, int], set[int], list[tuple[Key, int]]]:
        """(percent by priority, priorities in panic, and the parts of `SCALE` by view, in order)."""
        priorities = self.priorities()
        if not priorities:
            return {}, set(), []
        levels = [self._level(priority) for priority in priorities]
        shares = share_load(levels, self.overprovisioning, self.panic_threshold)
        panic = {priority for priority, hit in zip(priorities, shares.panic, strict=True) if hit}
        loads = {priority: shares.healthy[i] + shares.degraded[i] for i, priority in enumerate(priorities)}
        return loads, panic, self._views(priorities, shares)

    def _level(self, priority: int) -> Level:
        counts = [count for (level, _), count in self.counts.items() if level == priority]
        return Level(
            sum(count.healthy for count in counts),
            sum(count.degraded for count in counts),
            sum(count.total for count in counts),
        )

    def _views(self, priorities: list[int], shares: Shares) -> list[tuple[Key, int]]:
        """Healthy views of all priorities, then degraded ones."""
        parts: list[tuple[Key, int]] = []
        for degraded, loads in ((False, shares.healthy), (True, shares.degraded)):
            for i, priority in enumerate(priorities):
                load = loads[i]
                if shares.panic[i]:
                    # All endpoints of the level alike: its whole load, by how many there are on either side.
                    load = shares.healthy[i] + shares.degraded[i]
                    sizes = {
                        (locality, side): self._size(priority, locality, side)
                        for locality in self._localities(priority)
                        for side in (False, True)
                    }
                    split = divided(load * PART, {place: float(size) for place, size in sizes.items()})
                    parts += [
                        ((priority, locality, side), part)
                        for (locality, side), part in split.items()
                        if side == degraded
                    ]
                else:
                    split_by_zone = divided(load * PART, self._by_locality(priority, degraded))
                    parts += [((priority, locality, degraded), part) for locality, part in split_by_zone.items()]
        return parts

    def _localities(self, priority: int) -> list[str]:
        return [locality for (level, locality), count in self.counts.items() if level == priority and count.total]

    def _size(self, priority: int, locality: str, degraded: bool) -> int:
        """In panic: degraded endpoints are in views of their own, all others in the healthy one."""
        count = self.counts[priority, locality]
        return count.degraded if degraded else count.total - count.degraded

    def _by_locality(self, priority: int, degraded: bool) -> dict[str, float]:
        """What each locality gets of the load of one priority, in any unit."""
        localities = self._localities(priority)
        usable = {
            locality: count.degraded if degraded else count.healthy
            for locality in localities
            if (count := self.counts[priority, locality])
        }
        zones = self.zones
        if zones is None or len(localities) < 2:
            return dict.fromkeys(localities, 1.0)
        if zones.weights is not None:
            weights = locality_weights(
                {
                    locality: Locality(zones.weights.get(locality, 0.0), usable[locality], count.total)
                    for locality in localities
                    if (count := self.counts[priority, locality])
                },
                self.overprovisioning,
            )
            if any(weights.values()):
                return weights
        elif zones.clients is not None and priority == self.priorities()[0] and not degraded:
            found = route_by_zone(zones.own, zones.clients, usable, zones.endpoints_min)
            if not isinstance(found, ZoneOff):
                self.zone_off = ""
                spare = found.residual[-1]
                away = PART * (10_000 - found.local) / 10_000
                before = (0, *found.residual[:-1])
                shares = {
                    locality: away * (sum_ - less) / spare if spare else 0.0
                    for locality, sum_, less in zip(found.localities, found.residual, before, strict=True)
                }
                if not spare:
                    for place in found.usable:
                        shares[found.localities[place]] += away / len(found.usable)
                shares[zones.own] += PART * found.local / 10_000
                return {locality: shares.get(locality, 0.0) for locality in localities}
            self.zone_off = found.reason
        return {locality: float(count) for locality, count in usable.items()}


def divided(total: int, weights: Mapping[T, float]) -> dict[T, int]:
    """An integer by weights, the rest to the first that has any; all to the first if nobody has."""
    weight = sum(weights.values())
    if not weight:
        return {name: total if i == 0 else 0 for i, name in enumerate(weights)}
    parts = {name: int(total * each / weight) for name, each in weights.items()}
    first = next(name for name, each in weights.items() if each)
    parts[first] += total - sum(parts.values())
    return parts
