"""Passive outlier ejection: endpoints that fail, or are slow, while their neighbours are well, leave for a while.

Five ways to be an outlier, as Envoy's and gRPC's (gRFC A50), and one by latency that is ours:

- consecutive errors, judged at once;
- success rate below mean - factor * population standard deviation of all endpoints with enough requests;
- failure percentage at or above a threshold (Envoy's rule; grpc-go takes only what is above it);
- mean latency of successes above a multiple of the median endpoint's.

All but the first are judged by `tick` once an interval, over the requests of that interval.

The cap: an endpoint is ejected if the share of ejected endpoints stays within `max_ejected_percent` with it, or if it
is the only one ejected. So the cap is never exceeded, except that one endpoint may always go (Envoy with
`always_eject_one_host`). `overshoot=True` is the older rule of Envoy and the one of gRPC: the share is compared before
the ejection, so three endpoints with a cap of 67 % can all be ejected. A cap of 0 ejects nobody. Candidates of one
sweep go in the order in which the endpoints were given.
"""

from __future__ import annotations

import enum
import math
import statistics
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from distkit.balance.bounds import instant, number, whole
from distkit.balance.endpoints import Outcome, check_duration
from distkit.core import LocalError, record

if TYPE_CHECKING:
    from random import Random


class Cause(enum.Enum):
    """Which rule an endpoint fell under."""

    CONSECUTIVE = "consecutive errors"
    SUCCESS_RATE = "success rate"
    FAILURES = "failure percentage"
    LATENCY = "latency"


@record
class Ejection:
    """An endpoint left, for the `count`-th time in a row, and comes back at the first sweep at or after `until`."""

    id: str
    cause: Cause
    count: int
    until: float


@record
class Return:
    """An ejected endpoint is back."""

    id: str


@record
class OutlierOptions:
    """Times are seconds, percentages 0 to 100. Defaults are those of Envoy and gRPC; the latency rule is off.

    Ejected for min(base * count, max(base, max)) plus up to `jitter`; the count falls by one for each interval that an
    endpoint begins in service. `enforcing_*` is the chance that an outlier found is ejected; 0 switches a rule off.
    `latency_factor` is how many times the median endpoint's mean latency makes an outlier, if `latency_floor` seconds
    are exceeded too.
    """

    interval: float = 10.0
    base: float = 30.0
    max: float = 300.0
    jitter: float = 0.0
    max_ejected_percent: int = 10
    overshoot: bool = False
    consecutive_errors: int = 5
    enforcing_consecutive: int = 100
    success_rate_hosts: int = 5
    success_rate_requests: int = 100
    success_rate_factor: float = 1.9
    enforcing_success_rate: int = 100
    failure_percent: int = 85
    failure_hosts: int = 5
    failure_requests: int = 50
    enforcing_failures: int = 0
    latency_factor: float = 3.0
    latency_floor: float = 0.01
    latency_hosts: int = 5
    latency_requests: int = 100
    enforcing_latency: int = 0

    def check(self) -> None:
        """Raise LocalError unless the options make sense."""
        number("interval", self.interval, 0.001, 86400)
        for name in ("base", "max", "jitter"):
            number(name, getattr(self, name), 0, 1e9)
        for name in ("success_rate_factor", "latency_floor"):
            number(name, getattr(self, name), 0, 1e9)
        number("latency_factor", self.latency_factor, 1, 1e9)
        for name in ("max_ejected_percent", "failure_percent", "enforcing_consecutive", "enforcing_success_rate"):
            whole(name, getattr(self, name), 0, 100)
        for name in ("enforcing_failures", "enforcing_latency"):
            whole(name, getattr(self, name), 0, 100)
        for name in ("consecutive_errors", "success_rate_hosts", "success_rate_requests", "failure_hosts"):
            whole(name, getattr(self, name), 1)
        for name in ("failure_requests", "latency_hosts", "latency_requests"):
            whole(name, getattr(self, name), 1)


class _Row:
    """What is known of one endpoint: counters of this interval, its streak of errors, its ejection."""

    __slots__ = ("count", "ejected", "failures", "latency", "streak", "successes", "until")

    def __init__(self) -> None:
        self.count = 0
        self.ejected = False
        self.until = 0.0
        self.streak = 0
        self.clear()

    def clear(self) -> None:
        self.successes = 0
        self.failures = 0
        self.latency = 0.0  # sum over the successes


class Outliers:
    """Who is ejected. The caller says who there is, carries outcomes here and obeys what is returned.

    Outcomes come one at a time (`observe`), or counted elsewhere in bulk (`add`, with `streak` for the consecutive
    errors). OVERLOAD and CANCELLED say nothing about health and count neither way; the latency of a failure is never
    looked at, so fast errors cannot look like low latency. Time that goes back counts as no time.
    """

    def __init__(self, options: OutlierOptions, rng: Random) -> None:
        options.check()
        self.options = options
        self.unenforced = 0  # outliers that the enforcing percentages or the cap let stay
        self._rng = rng
        self._rows: dict[str, _Row] = {}
        self._ejected = 0
        self._now = -math.inf
        self._sweep = math.inf

    @property
    def ejected(self) -> tuple[str, ...]:
        """Ids of the endpoints that are ejected now."""
        return tuple(id for id, row in self._rows.items() if row.ejected)

    def update(self, ids: Iterable[str], now: float) -> None:
        """These are the endpoints now. Those known stay as they are; one that left and comes back is a new one."""
        ids = tuple(ids)
        rows = {id: self._rows.get(id) or _Row() for id in ids}
        if len(rows) != len(ids):
            raise LocalError("two endpoints have the same id: give each one once")
        self._now = instant(now, self._now)
        self._rows = rows
        self._ejected = sum(row.ejected for row in rows.values())
        if not rows:
            self._sweep = math.inf
        elif self._sweep == math.inf:
            self._sweep = self._now + self.options.interval

    def observe(self, id: str, outcome: Outcome, latency: float, now: float) -> Ejection | None:
        """One request ended. Returns the ejection if it was the last of too many errors in a row."""
        row = self._row(id)
        latency = check_duration("latency", latency)
        self._now = instant(now, self._now)
        if outcome in (Outcome.CANCELLED, Outcome.OVERLOAD):
            return None
        if outcome is Outcome.OK:
            row.successes += 1
            row.latency += latency
            row.streak = 0
            return None
        row.failures += 1
        row.streak += 1
        return self.streak(id, now) if row.streak >= self.options.consecutive_errors else None

    def add(self, id: str, successes: int, failures: int, latency: float) -> None:
        """Count requests that ended since the last call; `latency` is the sum over the successes."""
        row = self._row(id)
        whole("successes", successes)
        whole("failures", failures)
        row.latency += check_duration("latency", latency)
        row.successes += successes
        row.failures += failures

    def streak(self, id: str, now: float) -> Ejection | None:
        """The endpoint has failed `consecutive_errors` times in a row; the caller counts from 0 again."""
        row = self._row(id)
        self._now = instant(now, self._now)
        row.streak = 0
        if row.ejected:
            return None
        return self._eject(id, row, Cause.CONSECUTIVE, self.options.enforcing_consecutive)

    def restore(self, id: str) -> Return | None:
        """End an ejection early, for instance because an active check has found the endpoint healthy."""
        row = self._row(id)
        if not row.ejected:
            return None
        row.ejected = False
        row.streak = 0
        row.clear()  # what came in while it was out must not eject it again
        self._ejected -= 1
        return Return(id)

    def deadline(self) -> float:
        """When the next sweep is due; infinity without endpoints."""
        return self._sweep

    def tick(self, now: float) -> list[Ejection | Return]:
        """The sweep, if it is due: who comes back, then who is ejected. One sweep, however late it is."""
        self._now = instant(now, self._now)
        if self._now < self._sweep:
            return []
        self._sweep = self._now + self.options.interval
        decisions: list[Ejection | Return] = []
        for id, row in self._rows.items():
            if not row.ejected:
                row.count -= row.count > 0
            elif row.until <= self._now and (back := self.restore(id)):
                decisions.append(back)
        for judge in (self._by_success_rate, self._by_failures, self._by_latency):
            decisions += judge()
        for row in self._rows.values():
            row.clear()
        return decisions

    def _by_success_rate(self) -> list[Ejection]:
        options = self.options
        enough = self._with_requests(options.success_rate_requests, lambda row: row.successes + row.failures)
        if not options.enforcing_success_rate or len(enough) < options.success_rate_hosts:
            return []
        rates = [100.0 * row.successes / (row.successes + row.failures) for _, row in enough]
        mean = sum(rates) / len(rates)
        deviation = math.sqrt(sum((rate - mean) ** 2 for rate in rates) / len(rates))
        threshold = mean - options.success_rate_factor * deviation
        found = [pair for pair, rate in zip(enough, rates, strict=True) if rate < threshold]
        return self._eject_all(found, Cause.SUCCESS_RATE, options.enforcing_success_rate)

    def _by_failures(self) -> list[Ejection]:
        options = self.options
        enough = self._with_requests(options.failure_requests, lambda row: row.successes + row.failures)
        if not options.enforcing_failures or len(enough) < options.failure_hosts:
            return []
        found = [
            (id, row)
            for id, row in enough
            if 100 * row.failures >= options.failure_percent * (row.successes + row.failures)
        ]
        return self._eject_all(found, Cause.FAILURES, options.enforcing_failures)

    def _by_latency(self) -> list[Ejection]:
        options = self.options
        enough = self._with_requests(options.latency_requests, lambda row: row.successes)
        if not options.enforcing_latency or len(enough) < options.latency_hosts:
            return []
        means = [row.latency / row.successes for _, row in enough]
        threshold = max(options.latency_floor, options.latency_factor * statistics.median(means))
        found = [pair for pair, mean in zip(enough, means, strict=True) if mean > threshold]
        return self._eject_all(found, Cause.LATENCY, options.enforcing_latency)

    def _with_requests(self, minimum: int, count: Callable[[_Row], int]) -> list[tuple[str, _Row]]:
        return [(id, row) for id, row in self._rows.items() if not row.ejected and count(row) >= minimum]

    def _eject_all(self, found: list[tuple[str, _Row]], cause: Cause, enforcing: int) -> list[Ejection]:
        return [ejection for id, row in found if (ejection := self._eject(id, row, cause, enforcing))]

    def _eject(self, id: str, row: _Row, cause: Cause, enforcing: int) -> Ejection | None:
        if not self._room() or int(self._rng.random() * 100) >= enforcing:
            self.unenforced += 1
            return None
        options = self.options
        longest = max(options.base, options.max)
        # A count above what fills the longest ejection would only delay the way back to short ones.
        if options.base * row.count < longest:
            row.count += 1
        row.until = self._now + min(options.base * row.count, longest) + options.jitter * self._rng.random()
        row.ejected = True
        self._ejected += 1
        return Ejection(id, cause, row.count, row.until)

    def _room(self) -> bool:
        """Whether the cap allows one more ejection."""
        cap = self.options.max_ejected_percent * len(self._rows)
        if self.options.overshoot:
            return 100 * self._ejected < cap
        return 100 * (self._ejected + 1) <= cap or (cap > 0 and not self._ejected)

    def _row(self, id: str) -> _Row:
        row = self._rows.get(id)
        if row is None:
            raise LocalError(f"no endpoint has the id {id!r}: name it in update first")
        return row
