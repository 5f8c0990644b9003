"""Phi accrual: how improbable it is that a heartbeat still comes, as -log10 of the probability.

Sources: Hayashibara et al., "The phi accrual failure detector" (2004); the normal one as in Akka's
PhiAccrualFailureDetector, the exponential one as in Cassandra's FailureDetector.
"""

from __future__ import annotations

import math

from distkit.core import LocalError, record
from distkit.membership.detectors.detector import check_positive, check_window
from distkit.membership.detectors.window import Window

_LN10 = math.log(10.0)
#: exp overflows above this.
_EXPONENT_MAX = 709.0


def phi_normal(elapsed: float, mean: float, deviation: float) -> float:
    """Phi of a heartbeat that is `elapsed` old where intervals are normal; the logistic approximation that Akka uses.

    0 to +inf for all finite arguments with deviation > 0; never -0.0.
    """
    y = (elapsed - mean) / deviation
    exponent = -y * (1.5976 + 0.070566 * y * y)
    e = math.exp(exponent) if exponent < _EXPONENT_MAX else math.inf
    late = e / (1.0 + e) if elapsed > mean else 1.0 - 1.0 / (1.0 + e)
    return 0.0 - math.log10(late) if late > 0.0 else math.inf


def phi_exponential(elapsed: float, mean: float) -> float:
    """Phi where intervals are exponential. `mean` > 0; heartbeats of the future count as being of now."""
    return max(0.0, elapsed / (mean * _LN10))


@record
class PhiNormal:
    """Intervals are normal. Times are seconds, `samples` of them are kept for each peer.

    `pause` is added to the mean, `deviation_min` bounds the deviation from below, `first_interval` is what the first
    heartbeat lets one expect.
    """

    threshold: float = 8.0
    samples: int = 1000
    deviation_min: float = 0.1
    pause: float = 3.0
    first_interval: float = 1.0

    def __post_init__(self) -> None:
        for name in ("threshold", "deviation_min", "first_interval"):
            check_positive(name, getattr(self, name))
        check_window(self.samples)
        if not 0 <= self.pause < math.inf:
            raise LocalError(f"pause must be 0 or more seconds, not {self.pause!r}")

    def first(self, now: float, sequence: int) -> NormalIntervals:
        """Two samples that have the expected mean, and a quarter of it as deviation."""
        return NormalIntervals(self, now)

    @property
    def lateness(self) -> float:
        """How many deviations above the mean the threshold is reached."""
        low, high = -30.0, 30.0  # phi is 0 there and infinite here
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (low, middle) if phi_normal(middle, 0.0, 1.0) >= self.threshold else (middle, high)
        return high


class NormalIntervals:
    """What is known of one peer."""

    __slots__ = ("_last", "_lateness", "_method", "_window", "deviation", "mean")

    def __init__(self, method: PhiNormal, now: float) -> None:
        self._method = method
        self._lateness = method.lateness
        self._window = Window(method.samples)
        self._window.append(method.first_interval * 0.75)
        self._window.append(method.first_interval * 1.25)
        self._last = now
        self._settle()

    def heartbeat(self, now: float, sequence: int | None) -> None:
        """Count the interval, unless it was one in which the peer was down."""
        if self.suspicion(now) < self._method.threshold:
            self._window.append(now - self._last)
            self._settle()
        self._last = now

    def suspicion(self, now: float) -> float:
        """Phi."""
        return phi_normal(now - self._last, self.mean, self.deviation)

    def due(self) -> float:
        """When phi reaches the threshold."""
        return self._last + self.mean + self._lateness * self.deviation

    def _settle(self) -> None:
        self.mean = self._window.mean + self._method.pause
        self.deviation = max(math.sqrt(self._window.variance), self._method.deviation_min)


@record
class PhiExponential:
    """Intervals are exponential. `first_interval` is the first sample, `interval_min` bounds the mean from below."""

    threshold: float = 8.0
    samples: int = 1000
    first_interval: float = 2.0
    interval_min: float = 0.001

    def __post_init__(self) -> None:
        for name in ("threshold", "first_interval", "interval_min"):
            check_positive(name, getattr(self, name))
        check_window(self.samples)

    def first(self, now: float, sequence: int) -> ExponentialIntervals:
        """One sample that is the expected interval."""
        return ExponentialIntervals(self, now)


class ExponentialIntervals:
    """What is known of one peer."""

    __slots__ = ("_last", "_method", "_window", "mean")

    def __init__(self, method: PhiExponential, now: float) -> None:
        self._method = method
        self._window = Window(method.samples)
        self._window.append(method.first_interval)
        self._last = now
        self.mean = max(self._window.mean, method.interval_min)

    def heartbeat(self, now: float, sequence: int | None) -> None:
        """Count the interval, unless it was one in which the peer was down."""
        if self.suspicion(now) < self._method.threshold:
            self._window.append(now - self._last)
            self.mean = max(self._window.mean, self._method.interval_min)
        self._last = now

    def suspicion(self, now: float) -> float:
        """Phi."""
        return phi_exponential(now - self._last, self.mean)

    def due(self) -> float:
        """When phi reaches the threshold."""
        return self._last + self._method.threshold * self.mean * _LN10
