"""Adaptive concurrency: find out how many requests at a time an endpoint, or this server itself, can do.

Three rules behind one interface: `sample` after each request, `limit` before the next; who is above `limit` is shed.

- `Aimd`: rises by one for each full round without a drop, falls by a factor at a drop. Needs no good latencies.
- `Vegas` (as Netflix' VegasLimit): estimates the queue from the latency beside the smallest one seen.
- `Gradient` (Envoy's adaptive concurrency): measures the smallest latency anew from time to time, with few requests in
  flight, and compares windows of samples with it.

`dropped` says that the request timed out or was refused for overload: its latency is not looked at. No rule raises the
limit while it isn't used, since nothing is learned then.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from distkit.balance.bounds import instant, number, whole
from distkit.balance.endpoints import check_duration
from distkit.core import record

if TYPE_CHECKING:
    from random import Random

#: A window of Gradient looks at no more samples than these.
SAMPLES_MAX = 10_000


@record
class AimdOptions:
    """Limits are requests in flight."""

    first: int = 20
    least: int = 1
    most: int = 1000
    backoff: float = 0.9

    def check(self) -> None:
        """Raise LocalError unless the options make sense."""
        _check_range(self.first, self.least, self.most)
        number("backoff", self.backoff, 0.1, 0.999)


class Aimd:
    """Additive increase, multiplicative decrease."""

    def __init__(self, options: AimdOptions) -> None:
        options.check()
        self.options = options
        self._limit = float(options.first)

    @property
    def limit(self) -> int:
        """How many requests may be in flight."""
        return int(self._limit)

    def sample(self, latency: float, in_flight: int, dropped: bool, now: float) -> None:
        """A request ended; `in_flight` includes it."""
        _check_sample(latency, in_flight, now)
        if dropped:
            self._limit = max(float(self.options.least), self._limit * self.options.backoff)
        elif in_flight * 2 >= self._limit:
            self._limit = min(float(self.options.most), self._limit + 1.0 / self._limit)


@record
class VegasOptions:
    """`relearn` is after how many samples, in multiples of the limit, the smallest latency is looked for anew."""

    first: int = 20
    least: int = 1
    most: int = 1000
    relearn: int = 30

    def check(self) -> None:
        """Raise LocalError unless the options make sense."""
        _check_range(self.first, self.least, self.most)
        whole("relearn", self.relearn, 1, 1_000_000)


class Vegas:
    """Keep the estimated queue, limit * (1 - smallest / latency), between 3 and 6 times log10(limit)."""

    def __init__(self, options: VegasOptions) -> None:
        options.check()
        self.options = options
        self._limit = float(options.first)
        self._smallest = math.inf
        self._samples = 0

    @property
    def limit(self) -> int:
        """How many requests may be in flight."""
        return int(self._limit)

    def sample(self, latency: float, in_flight: int, dropped: bool, now: float) -> None:
        """A request ended; `in_flight` includes it."""
        _check_sample(latency, in_flight, now)
        # The number of digits less one, at least 1: as Netflix, and the same with every C library.
        step = max(1, len(str(int(self._limit))) - 1)
        if dropped:
            self._set(self._limit - step)
            return
        self._samples += 1
        if self._samples >= self.options.relearn * self._limit:
            self._samples, self._smallest = 0, math.inf
        if latency < self._smallest:
            self._smallest = latency
            return
        if in_flight * 2 < self._limit or not latency:
            return
        queue = math.ceil(self._limit * (1.0 - self._smallest / latency))
        if queue <= step:
            self._set(self._limit + 6 * step)
        elif queue < 3 * step:
            self._set(self._limit + step)
        elif queue > 6 * step:
            self._set(self._limit - step)

    def _set(self, limit: float) -> None:
        self._limit = max(float(self.options.least), min(float(self.options.most), limit))


@record
class GradientOptions:
    """Envoy's: times are seconds. Every `relearn` seconds (plus up to the share `jitter`) the smallest latency is
    measured again over `relearn_requests`, with `least` requests in flight. `buffer` is the share by which latency may
    exceed it.
    """

    first: int = 20
    least: int = 3
    most: int = 1000
    window: float = 0.1
    relearn: float = 60.0
    relearn_requests: int = 50
    jitter: float = 0.15
    buffer: float = 0.25

    def check(self) -> None:
        """Raise LocalError unless the options make sense."""
        _check_range(self.first, self.least, self.most)
        number("window", self.window, 0.001, 3600)
        number("relearn", self.relearn, 0.001, 86400)
        whole("relearn_requests", self.relearn_requests, 1, SAMPLES_MAX)
        number("jitter", self.jitter, 0, 1)
        number("buffer", self.buffer, 0, 100)


class Gradient:
    """limit = limit * gradient + sqrt(limit * gradient), gradient = (1 + buffer) * smallest / median, 0.5 to 2.

    It starts by measuring the smallest latency (a median, too). If the limit is at its least for five windows in a
    row, what is thought to be the smallest latency is wrong, and is measured again.
    """

    def __init__(self, options: GradientOptions, rng: Random) -> None:
        options.check()
        self.options = options
        self._rng = rng
        self._limit = float(options.first)
        self._smallest = 0.0
        self._learning = True
        self._since = -math.inf  # requests that began before count for nothing: they were made under another limit
        self._relearn = -math.inf
        self._window_end = math.inf
        self._samples: list[float] = []
        self._at_least = 0
        self._now = -math.inf

    @property
    def limit(self) -> int:
        """How many requests may be in flight."""
        return self.options.least if self._learning else int(self._limit)

    @property
    def learning(self) -> bool:
        """Whether the smallest latency is being measured."""
        return self._learning

    @property
    def smallest(self) -> float:
        """The smallest latency, as last measured; 0 before."""
        return self._smallest

    def sample(self, latency: float, in_flight: int, dropped: bool, now: float) -> None:
        """A request ended; `in_flight` includes it."""
        _check_sample(latency, in_flight, now)
        self._now = instant(now, self._now)
        self.tick(now)
        if dropped or self._now - latency < self._since:
            return
        if len(self._samples) < SAMPLES_MAX:
            self._samples.append(latency)
        if self._learning and len(self._samples) >= self.options.relearn_requests:
            self._smallest = self._median()
            self._learning = False
            self._at_least = 0
            self._begin()
            self._relearn = self._now + self.options.relearn * (1.0 + self.options.jitter * self._rng.random())

    def deadline(self) -> float:
        """When `tick` has something to do; infinity while it learns, which only samples end."""
        return math.inf if self._learning else min(self._window_end, self._relearn)

    def tick(self, now: float) -> None:
        """Time has passed."""
        self._now = instant(now, self._now)
        if self._learning:
            return
        if self._now >= self._relearn:
            self._learn()
        elif self._now >= self._window_end:
            if self._samples:
                self._adapt(self._median())
            if self._at_least >= 5:
                self._learn()
            else:
                self._begin()

    def _adapt(self, median: float) -> None:
        options = self.options
        raw = (1.0 + options.buffer) * self._smallest / median if median else 2.0
        scaled = self._limit * max(0.5, min(2.0, raw))
        self._limit = max(float(options.least), min(float(options.most), scaled + math.sqrt(scaled)))
        self._at_least = self._at_least + 1 if self._limit == options.least else 0

    def _learn(self) -> None:
        self._learning = True
        self._since = self._now
        self._samples = []

    def _begin(self) -> None:
        self._samples = []
        self._window_end = self._now + self.options.window

    def _median(self) -> float:
        return sorted(self._samples)[(len(self._samples) - 1) // 2]


def _check_range(first: int, least: int, most: int) -> None:
    whole("least", least, 1, 1_000_000)
    whole("most", most, least, 1_000_000)
    whole("first", first, least, most)


def _check_sample(latency: float, in_flight: int, now: float) -> None:
    check_duration("latency", latency)
    whole("in_flight", in_flight)
    instant(now, now)
