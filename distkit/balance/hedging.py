"""Hedging: send a request a second time, to another endpoint, when the first attempt takes unusually long.

What is unusual is measured: the delay is a percentile of recent latencies, so at 95 % about one request in twenty is
hedged; a budget keeps that share even when everything becomes slow (otherwise hedges double the load just then). Hedge
only what is safe to do twice, and cancel the loser.

    hedging.request(now)                      each request, once
    delay = hedging.delay(now)                None: too little is known, do not hedge
    ... after `delay` without an answer: if hedging.hedge(1, now): send it once more
    hedging.observe(latency, now)             each success, with the latency of the attempt that won
"""

from __future__ import annotations

import math

from distkit._fast.breaking import RetryBudget
from distkit.balance.bounds import instant, number, whole
from distkit.balance.endpoints import check_duration
from distkit.core import record

_SHARES = 16  # buckets an octave: a bucket is at most 1/16 wide, relative to its edge


@record
class HedgeOptions:
    """Times are seconds. `percentile` is a share below 1; delays lie within `delay_min` and `delay_max`.

    `window` is how far back latencies are looked at; `samples` of them must be known. At most `hedges_max` a request.
    The budget: `ratio` of the requests of `budget_window` seconds, plus `per_second`.
    """

    percentile: float = 0.95
    delay_min: float = 0.001
    delay_max: float = 10.0
    window: float = 30.0
    samples: int = 100
    hedges_max: int = 1
    ratio: float = 0.05
    per_second: int = 0
    budget_window: float = 10.0

    def check(self) -> None:
        """Raise LocalError unless the options make sense."""
        number("percentile", self.percentile, 0.01, 0.9999)
        number("delay_min", self.delay_min, 0, 3600)
        number("delay_max", self.delay_max, self.delay_min, 3600)
        number("window", self.window, 0.1, 86400)
        whole("samples", self.samples, 1)
        whole("hedges_max", self.hedges_max, 0, 100)
        number("ratio", self.ratio, 0, 1)
        whole("per_second", self.per_second, 0, 1_000_000)
        number("budget_window", self.budget_window, 1, 3600)


class Hedging:
    """When to hedge, and whether one may. Times that go back count as the latest one seen."""

    def __init__(self, options: HedgeOptions) -> None:
        options.check()
        self.options = options
        self.hedged = 0
        self._budget = RetryBudget(options.ratio, options.per_second, options.budget_window)
        self._counts: tuple[dict[int, int], dict[int, int]] = ({}, {})  # by bucket: this half of the window, the last
        self._half_end = -math.inf
        self._now = -math.inf

    def request(self, now: float) -> None:
        """A request was made that is no hedge."""
        self._budget.request(now)

    def observe(self, latency: float, now: float) -> None:
        """A request succeeded. Failures are not observed: fast ones would make the delay too short."""
        bucket = _bucket(check_duration("latency", latency))
        self._advance(now)
        self._counts[0][bucket] = self._counts[0].get(bucket, 0) + 1

    def delay(self, now: float) -> float | None:
        """Seconds to wait for an answer before a hedge; None if too few latencies are known.

        The percentile is the upper edge of its bucket: at most 1/16 too long, never too short.
        """
        self._advance(now)
        buckets = sorted(set(self._counts[0]) | set(self._counts[1]))
        counts = [self._counts[0].get(bucket, 0) + self._counts[1].get(bucket, 0) for bucket in buckets]
        total = sum(counts)
        if total < self.options.samples:
            return None
        rank = math.ceil(self.options.percentile * total)
        for bucket, count in zip(buckets, counts, strict=True):
            rank -= count
            if rank <= 0:
                return max(self.options.delay_min, min(self.options.delay_max, _edge(bucket)))
        return None

    def hedge(self, nth: int, now: float) -> bool:
        """Whether the `nth` hedge of a request (from 1) may be sent. Takes it from the budget if so."""
        whole("nth", nth, 1)
        if nth > self.options.hedges_max or not self._budget.retry(now):
            return False
        self.hedged += 1
        return True

    def _advance(self, now: float) -> None:
        """Begin the next half of the window when it is time; forget both after a long silence."""
        self._now = instant(now, self._now)
        half = self.options.window / 2
        if self._now < self._half_end:
            return
        silent = self._now >= self._half_end + half
        self._counts = ({}, {} if silent else self._counts[0])
        self._half_end = self._now + half


def _bucket(latency: float) -> int:
    """Buckets rise with the latency, 16 an octave, without a logarithm that C libraries might round differently."""
    mantissa, exponent = math.frexp(latency)  # latency = mantissa * 2^exponent, 0.5 <= mantissa < 1
    return exponent * _SHARES + int((mantissa - 0.5) * 2 * _SHARES) if latency else -2000 * _SHARES


def _edge(bucket: int) -> float:
    exponent, share = divmod(bucket + 1, _SHARES)
    return math.ldexp(0.5 + share / (2 * _SHARES), exponent)
