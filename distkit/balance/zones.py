"""Keeping traffic in the own zone as far as the zone can carry it (Envoy's zone-aware routing, its integers).

Clients and endpoints are counted by locality. If the own locality has at least as large a share of the endpoints as of
the clients, all its traffic stays. Otherwise what it can carry stays, and the rest goes to the localities that have
capacity to spare, in proportion to it. So every endpoint gets the same load, as long as all clients route like this.

The other way to use localities is to give them weights: see `locality_weights`.
"""

from __future__ import annotations

from collections.abc import Mapping

from distkit.balance.bounds import number, whole
from distkit.core import LocalError, record

_SCALE = 10_000


@record
class ZoneRoute:
    """Where the requests of one locality go. `localities` has the own one first, others in the order given.

    `local` of 10,000 requests stay. `residual` is the running sum of what each locality can carry besides.
    """

    localities: tuple[str, ...]
    local: int
    residual: tuple[int, ...]
    usable: tuple[int, ...]  # places of localities with healthy endpoints

    def choose(self, first: int, second: int) -> str:
        """The locality for one request, by two random numbers (at least 0) that know nothing of one another."""
        if first % _SCALE < self.local:
            return self.localities[0]
        spare = self.residual[-1]
        if spare == 0:  # possible by rounding only
            return self.localities[self.usable[second % len(self.usable)]]
        threshold = second % spare
        return self.localities[next(i for i, sum_ in enumerate(self.residual) if threshold < sum_)]


@record
class ZoneOff:
    """Why requests are not routed by zone: they go to all localities alike."""

    reason: str


def route_by_zone(
    own: str,
    clients: Mapping[str, int],
    endpoints: Mapping[str, int],
    endpoints_min: int = 6,
    clients_panic: bool = False,
) -> ZoneRoute | ZoneOff:
    """How to route the requests of a client in locality `own`.

    `clients` and `endpoints` count the healthy ones by locality; a locality without any healthy one is given with 0.
    `clients_panic`: too few clients are healthy for their counts to mean anything.
    """
    for name, counts in (("clients", clients), ("endpoints", endpoints)):
        for locality, count in counts.items():
            whole(f"the number of {name} in {locality!r}", count)
    whole("endpoints_min", endpoints_min)
    total_clients, total_endpoints = sum(clients.values()), sum(endpoints.values())
    if len(endpoints) < 2:
        return ZoneOff("endpoints are in fewer than two localities")
    if len(clients) < 2:
        return ZoneOff("clients are in fewer than two localities")
    if not clients.get(own):
        return ZoneOff("no client is known in the own locality")
    if total_endpoints < endpoints_min or not total_endpoints:
        return ZoneOff(f"fewer than {max(1, endpoints_min)} endpoints are healthy")
    if clients_panic:
        return ZoneOff("too few clients are healthy")
    localities = (own, *(locality for locality in endpoints if locality != own))
    share = [_SCALE * endpoints.get(locality, 0) // total_endpoints for locality in localities]
    demand = [_SCALE * clients.get(locality, 0) // total_clients for locality in localities]
    usable = tuple(i for i, locality in enumerate(localities) if endpoints.get(locality))
    if share[0] > 0 and share[0] >= demand[0]:
        return ZoneRoute(localities, _SCALE, (0,) * len(localities), usable)
    residual = [0]
    for i in range(1, len(localities)):
        residual.append(residual[-1] + max(0, share[i] - demand[i]))
    # A share of clients that rounds to 0 would divide by 0; then nothing of it can be said to stay.
    local = share[0] * _SCALE // demand[0] if demand[0] else 0
    return ZoneRoute(localities, local, tuple(residual), usable)


@record
class Locality:
    """A locality with a weight: how many of its endpoints are eligible, of how many (excluded ones not counted)."""

    weight: float
    eligible: int
    total: int


def locality_weights(localities: Mapping[str, Locality], overprovisioning: int = 140) -> dict[str, float]:
    """The share of traffic of each locality (their sum is 1), or 0 for all if none can have any.

    As Envoy: weight * min(1, overprovisioning % * eligible / total), so a locality that loses endpoints loses traffic
    once it can no longer carry it. A weight of 0 gives no traffic.
    """
    whole("overprovisioning", overprovisioning, 100, 1_000_000)
    effective: dict[str, float] = {}
    for name, locality in localities.items():
        whole(f"eligible of {name!r}", locality.eligible)
        whole(f"total of {name!r}", locality.total)
        if locality.eligible > locality.total:
            raise LocalError(f"locality {name!r} has {locality.eligible} eligible endpoints of {locality.total}")
        weight = number(f"the weight of {name!r}", locality.weight, 0, (1 << 32) - 1)
        carried = min(1.0, overprovisioning * locality.eligible / (100 * locality.total)) if locality.total else 0.0
        effective[name] = weight * carried
    total = sum(effective.values())
    return {name: weight / total if total else 0.0 for name, weight in effective.items()}
