"""Clusters to ask, and what they choose: for tests that know a policy only by what `Cluster` answers."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from string import ascii_lowercase
from typing import Any

from distkit.balance import Cluster, ClusterOptions, Context, Endpoint, Outcome, policies


def endpoints(weights: Sequence[float | None], **common: Any) -> list[Endpoint]:
    """Endpoints a, b, c ... (n0, n1 ... if there are many) with these weights."""
    few = len(weights) <= len(ascii_lowercase)
    names = ascii_lowercase if few else [f"n{number}" for number in range(len(weights))]
    return [Endpoint(name, weight=weight, **common) for name, weight in zip(names, weights, strict=False)]


def made(policy: str, weights: Sequence[float | None], seed: int = 1, **options: Any) -> Cluster:
    """A cluster of these weights that chooses by a policy, whose options are given by name."""
    return of(endpoints(weights), policy, seed, **options)


def of(members: Iterable[Endpoint], policy: str, seed: int = 1, **options: Any) -> Cluster:
    """A cluster of these endpoints."""
    cluster = Cluster(ClusterOptions(policy=policies.named(policy, **options)), random.Random(seed))
    cluster.update(members, 0.0)
    return cluster


def pick(cluster: Cluster, now: float = 0.0, **context: Any) -> str:
    """The id of the next pick, which stays in flight."""
    return cluster.endpoint(cluster.pick(Context(**context) if context else None, now)).id


def turn(cluster: Cluster, outcome: Outcome = Outcome.OK, latency: float = 0.01, now: float = 0.0) -> str:
    """The id of the next pick, which is done at once."""
    handle = cluster.pick(None, now)
    name = cluster.endpoint(handle).id
    cluster.done(handle, outcome, latency, now)
    return name


def turns(cluster: Cluster, count: int) -> str:
    """The next picks, each done before the one after it, as a word."""
    return "".join(turn(cluster) for _ in range(count))


def owners(cluster: Cluster, keys: Iterable[int], **context: Any) -> dict[int, str]:
    """Who takes each key, with nothing else in flight."""
    found = {}
    for key in keys:
        handle = cluster.pick(Context(key=key, **context), 0.0)
        found[key] = cluster.endpoint(handle).id
        cluster.done(handle, Outcome.OK, 0.01, 0.0)
    return found


def in_flight(cluster: Cluster) -> dict[str, int]:
    """Requests in flight by id."""
    return {each.id: each.in_flight for each in cluster.status().endpoints}


def too_uneven(counts: Counter[str], shares: dict[str, float]) -> bool:
    """Whether chance makes counts this far from their shares less than once in about 10,000 times (chi-square)."""
    total, free = sum(counts.values()), len(shares) - 1
    whole = sum(shares.values())
    expected = {name: total * share / whole for name, share in shares.items()}
    square = sum((counts[name] - count) ** 2 / count for name, count in expected.items())
    # Wilson and Hilferty's approximation of the quantile.
    return square > free * (1 - 2 / (9 * free) + 3.72 * (2 / (9 * free)) ** 0.5) ** 3
