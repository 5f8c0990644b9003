"""Detectors that say when the next heartbeat must be there: a fixed time, Chen's estimate, Bertier's margin.

Their suspicion is the part of the margin that has passed: 0 until the heartbeat is expected, 1 at the timeout.
"""

from __future__ import annotations

from distkit.core import record
from distkit.membership.detectors.detector import check_positive, check_window
from distkit.membership.detectors.window import Window


class _Late:
    """A heartbeat is expected by one time and overdue `margin` seconds later."""

    __slots__ = ("expected", "margin")

    expected: float
    margin: float

    def suspicion(self, now: float) -> float:
        return max(0.0, (now - self.expected) / self.margin)

    def due(self) -> float:
        return self.expected + self.margin


@record
class Deadline:
    """A heartbeat at least every `timeout` seconds."""

    timeout: float = 4.0

    def __post_init__(self) -> None:
        check_positive("timeout", self.timeout)

    @property
    def threshold(self) -> float:
        """The whole timeout has passed."""
        return 1.0

    def first(self, now: float, sequence: int) -> LastHeartbeat:
        """The timeout runs."""
        return LastHeartbeat(self, now)


class LastHeartbeat(_Late):
    """What is known of one peer."""

    __slots__ = ()

    def __init__(self, method: Deadline, now: float) -> None:
        self.expected = now
        self.margin = method.timeout

    def heartbeat(self, now: float, sequence: int | None) -> None:
        """The timeout runs anew."""
        self.expected = now


@record
class Chen:
    """NFD-E: the peer sends every `interval` seconds, `alpha` is the constant margin behind the expected arrival.

    Source: Chen, Toueg, Aguilera, "On the quality of service of failure detectors" (2002), section 6.
    """

    interval: float = 1.0
    alpha: float = 1.0
    samples: int = 1000

    def __post_init__(self) -> None:
        check_positive("interval", self.interval)
        check_positive("alpha", self.alpha)
        check_window(self.samples)

    @property
    def threshold(self) -> float:
        """The whole margin has passed."""
        return 1.0

    def first(self, now: float, sequence: int) -> ExpectedArrival:
        """The next one is expected an interval later."""
        return ExpectedArrival(self, now, sequence)


class ExpectedArrival(_Late):
    """What is known of one peer: EA(k+1) = mean over the window of (A_i - i * interval) + (k+1) * interval."""

    __slots__ = ("_base", "_first", "_interval", "_window", "count")

    def __init__(self, method: Chen, now: float, sequence: int) -> None:
        self._interval = method.interval
        self._window = Window(method.samples)
        self._base = now  # this and `first` are taken away, so that nothing grows with the age of the clock
        self._first = sequence
        self.margin = method.alpha
        self.learn(now, 0)

    def heartbeat(self, now: float, sequence: int | None) -> None:
        """Take the shift of this one against the sender's schedule into the mean."""
        count = self.count_of(now, sequence)
        if count > self.count:
            self.learn(now, count)

    def count_of(self, now: float, sequence: int | None) -> int:
        """How many were sent from the first one to the one that arrives now.

        Without its sequence it is taken for the one whose time it is; those that come in a bunch, behind a pause, count
        as one.
        """
        if sequence is not None:
            return sequence - self._first
        return round((now - self._base - self._window.mean) / self._interval)

    def expected_of(self, count: int) -> float:
        """When the heartbeat with this count is expected."""
        return self._base + self._window.mean + count * self._interval

    def learn(self, now: float, count: int) -> None:
        """The one with this count arrives now."""
        self.count = count
        self._window.append(now - self._base - count * self._interval)
        self.expected = self.expected_of(count + 1)


@record
class Bertier:
    """Chen's expected arrival with a margin that adapts as Jacobson's timeout of TCP does: mean error + 4 deviations.

    `gamma` weighs the newest error, `beta` and `phi` the two terms; the margin never falls below `margin_min` seconds
    and begins at `first_margin`. Source: Bertier, Marin, Sens, "Implementation and performance evaluation of an
    adaptable failure detector" (2002).
    """

    interval: float = 1.0
    samples: int = 1000
    gamma: float = 0.1
    beta: float = 1.0
    phi: float = 4.0
    first_margin: float = 1.0
    margin_min: float = 0.01

    def __post_init__(self) -> None:
        for name in ("interval", "gamma", "beta", "phi", "first_margin", "margin_min"):
            check_positive(name, getattr(self, name))
        check_window(self.samples)

    @property
    def threshold(self) -> float:
        """The whole margin has passed."""
        return 1.0

    def first(self, now: float, sequence: int) -> AdaptiveMargin:
        """The next one is expected an interval later."""
        return AdaptiveMargin(self, now, sequence)


class AdaptiveMargin(_Late):
    """What is known of one peer. `delay` is the smoothed error of the estimate, `deviation` that of the delay."""

    __slots__ = ("_arrivals", "_method", "delay", "deviation")

    def __init__(self, method: Bertier, now: float, sequence: int) -> None:
        self._method = method
        self._arrivals = ExpectedArrival(Chen(method.interval, 1.0, method.samples), now, sequence)
        self.expected = self._arrivals.expected
        self.delay = 0.0
        self.deviation = method.first_margin / method.phi
        self.margin = method.first_margin

    def heartbeat(self, now: float, sequence: int | None) -> None:
        """Learn from the error of the estimate for this heartbeat."""
        method, arrivals = self._method, self._arrivals
        count = arrivals.count_of(now, sequence)
        if count <= arrivals.count:
            return
        error = now - arrivals.expected_of(count) - self.delay
        self.delay += method.gamma * error
        self.deviation += method.gamma * (abs(error) - self.deviation)
        self.margin = max(method.margin_min, method.beta * self.delay + method.phi * self.deviation)
        arrivals.learn(now, count)
        self.expected = arrivals.expected
