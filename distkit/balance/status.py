"""What is known of a cluster at a moment, for people and for metrics."""

from __future__ import annotations

from distkit.balance.endpoints import Gate
from distkit.core import record


@record
class EndpointStatus:
    """One endpoint. `weight` is the one in effect; `latency` the average that the policy keeps, -1 if it keeps none."""

    id: str
    address: str
    priority: int
    locality: str
    gate: Gate
    in_flight: int
    weight: float
    latency: float


@record
class ClusterStatus:
    """The whole cluster. `loads` is percent by priority, healthy and degraded together; `panic` who is in panic.

    `draining` counts requests in flight on endpoints that were removed; with those of `endpoints` they are `in_flight`.
    """

    policy: str
    endpoints: tuple[EndpointStatus, ...]
    in_flight: int
    draining: int
    picks: int
    stale: int
    loads: dict[int, int]
    panic: tuple[int, ...]
    events_lost: int
