"""Clusters in few words."""

from random import Random
from typing import Any

from distkit.balance import Cluster, ClusterOptions, Context, Endpoint, Outcome
from distkit.balance.policies import Policy, named

STEP = 0x9E3779B97F4A7C15


class Seeded(Random):
    """Gives a picker exactly this seed."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.first = seed

    def getrandbits(self, bits: int) -> int:
        """The seed, whatever is asked for."""
        return self.first


def cluster_of(
    policy: str | Policy, weights: dict[str, float | None], seed: int = 1, options: Any = None, **given: Any
) -> Cluster:
    """A cluster of endpoints by id and weight at time 0; `given` are the policy's options."""
    chosen = named(policy, **given) if isinstance(policy, str) else policy
    cluster = Cluster(ClusterOptions(policy=chosen, **(options or {})), Seeded(seed))
    cluster.update([Endpoint(id, weight=weight) for id, weight in weights.items()], 0.0)
    return cluster


def picked(cluster: Cluster, now: float = 0.0, context: Context | None = None) -> str:
    """Who is picked for a request that ends at once."""
    handle = cluster.pick(context, now)
    found = cluster.endpoint(handle).id
    assert cluster.done(handle, Outcome.CANCELLED, 0.0, now)
    return found


def picks(cluster: Cluster, count: int) -> str:
    """The same many times, for ids of one letter."""
    return "".join(picked(cluster) for _ in range(count))


def load(cluster: Cluster, **wanted: int) -> dict[str, list[int]]:
    """Put requests in flight that no policy chose; their handles."""
    return {id: [cluster.pick(Context(override=id), 0.0) for _ in range(count)] for id, count in wanted.items()}


def end(
    cluster: Cluster, handles: list[int], outcome: Outcome = Outcome.OK, latency: float = 0.0, now: float = 0.0
) -> None:
    """Let requests end."""
    for handle in handles:
        assert cluster.done(handle, outcome, latency, now)


def in_flight(cluster: Cluster) -> dict[str, int]:
    """By id."""
    return {row.id: row.in_flight for row in cluster.status().endpoints}


def draws(seed: int, count: int) -> list[int]:
    """The first outputs of SplitMix64, by its definition."""
    found = []
    for _ in range(count):
        seed = (seed + STEP) % (1 << 64)
        mixed = ((seed ^ seed >> 30) * 0xBF58476D1CE4E5B9) % (1 << 64)
        mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) % (1 << 64)
        found.append(mixed ^ mixed >> 31)
    return found


def below(drawn: int, count: int) -> int:
    """What the picker makes of a draw: an integer from 0 to count - 1."""
    return (drawn >> 32) * count >> 32
