"""Failure accrual as in Finagle: each endpoint by itself, dead for a while after failures, then tried with one request.

An endpoint is marked dead after `failures` in a row, or when its success rate (a moving average over `window` seconds,
looked at from `requests` on) falls below `success_rate`. It stays dead for `first` seconds, twice as long each next
time, up to `longest`, and `longest` from then on; half of each backoff is drawn at random. Then one request may go: if
it succeeds the endpoint is alive again, if it fails it is dead for the next, longer time.

Unlike outlier ejection this knows no neighbours and no cap: if all fail, all are dead, and a balancer that picks then
needs its own last resort (Finagle picks anyway after a few tries).
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING

from distkit.balance.bounds import instant, number, whole
from distkit.balance.endpoints import Outcome
from distkit.core import record

if TYPE_CHECKING:
    from random import Random


class Life(enum.Enum):
    """PROBING: dead no more, but only one request at a time may go until one has succeeded."""

    ALIVE = "alive"
    DEAD = "dead"
    PROBING = "probing"


@record
class AccrualOptions:
    """Times are seconds. `failures` 0 switches that rule off, `success_rate` 0 the other."""

    failures: int = 5
    success_rate: float = 0.8
    window: float = 30.0
    requests: int = 5
    first: float = 5.0
    longest: float = 300.0

    def check(self) -> None:
        """Raise LocalError unless the options make sense."""
        whole("failures", self.failures)
        number("success_rate", self.success_rate, 0, 1)
        number("window", self.window, 0.001, 86400)
        whole("requests", self.requests, 1)
        number("first", self.first, 0.001, 86400)
        number("longest", self.longest, self.first, 86400)


class Accrual:
    """The life of one endpoint. Times that go back count as the latest one seen."""

    def __init__(self, options: AccrualOptions, rng: Random) -> None:
        options.check()
        self.options = options
        self._rng = rng
        self._life = Life.ALIVE
        self._until = math.inf
        self._deaths = 0  # without a success in between
        self._probing = False  # the one request of a probing endpoint is under way
        self._now = -math.inf
        self._streak = 0
        self._requests = 0
        self._rate = 1.0
        self._sampled = -math.inf

    @property
    def success_rate(self) -> float:
        """The moving average of successes, 1 before any request."""
        return self._rate

    def life(self, now: float) -> Life:
        """What the endpoint is at this time."""
        self._now = instant(now, self._now)
        if self._life is Life.DEAD and self._now >= self._until:
            self._life, self._until, self._probing = Life.PROBING, math.inf, False
            self._forget()
        return self._life

    def deadline(self) -> float:
        """When a dead endpoint will be probed; infinity otherwise."""
        return self._until

    def permit(self, now: float) -> bool:
        """Whether a request may go. Each one that may must end in `done`."""
        life = self.life(now)
        if life is Life.PROBING and not self._probing:
            self._probing = True
            return True
        return life is Life.ALIVE

    def done(self, outcome: Outcome, now: float) -> bool:
        """A request ended. Returns whether the endpoint was marked dead by this.

        CANCELLED and OVERLOAD count neither way, and free the place of a probe. While the endpoint is dead, ends of
        requests from before say nothing.
        """
        life = self.life(now)
        if life is Life.DEAD:
            return False
        self._probing = False
        if outcome in (Outcome.CANCELLED, Outcome.OVERLOAD):
            return False
        self._count(outcome is Outcome.OK)
        if outcome is Outcome.OK:
            self._life, self._deaths = Life.ALIVE, 0
        elif life is Life.PROBING or self._too_many_failures():
            self._die()
            return True
        return False

    def _count(self, well: bool) -> None:
        # A sample's weight is the share of the window that went by since the last one; the first one is the average.
        elapsed = self._now - self._sampled
        kept = 0.0 if self._sampled == -math.inf else math.exp(-elapsed / self.options.window)
        self._rate = self._rate * kept + (1.0 if well else 0.0) * (1.0 - kept)
        self._sampled = self._now
        self._requests += 1
        self._streak = 0 if well else self._streak + 1

    def _too_many_failures(self) -> bool:
        options = self.options
        if options.failures and self._streak >= options.failures:
            return True
        return self._requests >= options.requests and self._rate < options.success_rate

    def _die(self) -> None:
        full = min(self.options.longest, self.options.first * 2.0 ** min(self._deaths, 60))
        # Equal jitter, but the longest time is kept as it is, as Finagle does after its backoff.
        wait = full if full == self.options.longest else full / 2 + full / 2 * self._rng.random()
        self._deaths += 1
        self._life, self._until = Life.DEAD, self._now + wait
        self._forget()

    def _forget(self) -> None:
        self._streak = 0
        self._requests = 0
        self._rate = 1.0
        self._sampled = -math.inf
