"""What a balancer is told: endpoints, requests and how they ended; and the reasons not to use an endpoint."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from distkit.core import LocalError, record

__all__ = [
    "CONCURRENCY_MAX",
    "DROPPED",
    "NO_ENDPOINT",
    "SATURATED",
    "WEIGHT_MAX",
    "WEIGHT_MIN",
    "Context",
    "Endpoint",
    "Gate",
    "Outcome",
    "Tags",
    "check_duration",
    "check_weight",
]

#: A weight is 0 (drained) or lies between these.
WEIGHT_MIN: Final = 1e-6
WEIGHT_MAX: Final = float((1 << 32) - 1)
CONCURRENCY_MAX: Final = (1 << 31) - 1
PRIORITY_MAX: Final = 127  # as Envoy
TEXT_MAX: Final = 1024
TAGS_MAX: Final = 64
HASH_MAX: Final = (1 << 64) - 1

#: What `Cluster.pick` gives instead of a handle: nothing is eligible; all that is eligible is at its limit, or the
#: cluster is; the request was shed on purpose. Where some endpoint is at its limit SATURATED is said without a look at
#: which, so it may be one that was excluded.
NO_ENDPOINT: Final = -1
SATURATED: Final = -2
DROPPED: Final = -3

#: As given, and as they are stored: sorted pairs.
Tags = Mapping[str, str] | tuple[tuple[str, str], ...]


class Outcome(enum.IntEnum):
    """How a request ended. CANCELLED counts neither way; OVERLOAD lowers the endpoint's weight, not its health."""

    OK = 0
    ERROR = 1
    TIMEOUT = 2
    CONNECT_FAIL = 3
    CANCELLED = 4
    OVERLOAD = 5


class Gate(enum.IntFlag):
    """Reasons not to use an endpoint, one bit each. DEGRADED alone leaves the gate open: such endpoints come last."""

    DRAINED = 1
    FAILED_CHECKS = 2
    EJECTED = 4
    BREAKER_OPEN = 8
    SATURATED = 16
    SUSPECT = 32
    DEAD = 64
    OUT_OF_SUBSET = 128
    DEGRADED = 256


@record
class Endpoint:
    """One place that can serve requests.

    `id` is its identity: state follows it over updates. `weight` 0 drains it, None means unknown and counts as the mean
    of the others. Priority 0 is used first. `concurrency_max` bounds its requests in flight, 0 means no bound. Raises
    LocalError for what makes no sense.
    """

    id: str
    address: str = ""
    weight: float | None = 1.0
    priority: int = 0
    locality: str = ""
    tags: Tags = ()
    concurrency_max: int = 0
    drained: bool = False

    def __post_init__(self) -> None:
        for name in ("id", "address", "locality"):
            check_text(name, getattr(self, name))
        if not self.id:
            raise LocalError("an endpoint needs an id that is not empty")
        if self.weight is not None:
            object.__setattr__(self, "weight", check_weight(self.id, self.weight))
        if type(self.priority) is not int or not 0 <= self.priority <= PRIORITY_MAX:
            raise LocalError(f"the priority of {self.id!r} must be 0 (first) to {PRIORITY_MAX}, not {self.priority!r}")
        if type(self.concurrency_max) is not int or not 0 <= self.concurrency_max <= CONCURRENCY_MAX:
            raise LocalError(
                f"concurrency_max of {self.id!r} must be 0 (no bound) to {CONCURRENCY_MAX}, "
                f"not {self.concurrency_max!r}"
            )
        if type(self.drained) is not bool:
            raise LocalError(f"drained of {self.id!r} must be True or False, not {self.drained!r}")
        object.__setattr__(self, "tags", sorted_tags(self.tags))


@record
class Context:
    """What is known of a request. All of it is optional.

    `key` is the 64-bit hash that hash policies go by (without one they draw). `exclude` holds handles or ids of
    endpoints that were tried already. `override` is the id to use as long as its gate is open (stickiness). Otherwise
    `priority` is the only one to use. `subset` are tags that the endpoint must have. `attempt` counts retries from 0:
    hash policies start that many candidates later.
    """

    key: int | None = None
    exclude: tuple[int | str, ...] = ()
    override: str | None = None
    priority: int | None = None
    subset: Tags = ()
    attempt: int = 0

    def __post_init__(self) -> None:
        if self.key is not None and (type(self.key) is not int or not 0 <= self.key <= HASH_MAX):
            raise LocalError(f"the key of a request is its hash, a 64-bit integer, not {self.key!r}")
        if type(self.exclude) is not tuple:
            raise LocalError(f"exclude must be a tuple of handles or ids, not {self.exclude!r}")
        if self.priority is not None and type(self.priority) is not int:
            raise LocalError(f"the priority of a request must be an integer or None, not {self.priority!r}")
        if type(self.attempt) is not int or not 0 <= self.attempt <= CONCURRENCY_MAX:
            raise LocalError(f"attempt counts retries from 0, and can't be {self.attempt!r}")
        if self.subset:
            object.__setattr__(self, "subset", sorted_tags(self.subset))


def check_weight(name: str, weight: float) -> float:
    """The weight as a float; LocalError unless it is 0 or within the limits."""
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise LocalError(f"the weight of {name!r} must be a number or None (unknown), not {weight!r}")
    if weight != 0 and not WEIGHT_MIN <= weight <= WEIGHT_MAX:
        raise LocalError(
            f"the weight of {name!r} must be 0 (drained), None (unknown) or {WEIGHT_MIN} to {WEIGHT_MAX:.0f}, "
            f"not {weight!r}"
        )
    return float(weight)


def check_duration(name: str, seconds: float) -> float:
    """The duration as a float; LocalError unless it is a finite number of seconds that is not negative."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e15:
        raise LocalError(f"{name} must be a finite number of seconds, at least 0, not {seconds!r}")
    return float(seconds)


def check_text(name: str, text: str) -> None:
    """LocalError unless it is a string of reasonable length."""
    if not isinstance(text, str) or len(text) > TEXT_MAX:
        raise LocalError(f"{name} must be a string of at most {TEXT_MAX} characters, not {str(text)[:80]!r}")


def sorted_tags(tags: Tags) -> tuple[tuple[str, str], ...]:
    """Tags as sorted pairs; LocalError unless they are pairs of strings with one value a name."""
    pairs = tags.items() if isinstance(tags, Mapping) else tags
    try:
        known = dict(pairs)
    except (TypeError, ValueError):
        known = {}
        pairs = (("", ""),)
    if len(known) != len(pairs) or len(known) > TAGS_MAX:
        raise LocalError(f"tags must be at most {TAGS_MAX} pairs of strings, each name once, not {tags!r}")
    for name, value in known.items():
        check_text("the name of a tag", name)
        check_text("the value of a tag", value)
    return tuple(sorted(known.items()))
