"""Slow start: an endpoint that has just become healthy begins with a part of its weight.

The rule is Envoy's: factor = max(minimum, (max(t, 1) / window) ^ (1 / aggression)) for t seconds since it became
healthy, and 1 once the window has passed. Aggression 1 is linear; above 1 the weight rises steeply at first. HAProxy's
ramp is aggression 1 with a minimum of 1 %.

It helps only where others can carry the load meanwhile: not when all endpoints are new (so start none at process
start), and not when a whole priority level takes over from another.
"""

from __future__ import annotations

import math

from distkit.balance.bounds import number
from distkit.core import LocalError, record


@record
class SlowStart:
    """`window` in seconds, 0 for none; `minimum` is a share of the weight, above 0 and at most 1."""

    window: float = 0.0
    aggression: float = 1.0
    minimum: float = 0.1

    def check(self) -> None:
        """Raise LocalError unless the options make sense."""
        number("window", self.window, 0, 86400)
        number("aggression", self.aggression, 0.01, 100)
        number("minimum", self.minimum, 0.001, 1)

    def factor(self, elapsed: float) -> float:
        """The share of its weight that an endpoint has `elapsed` seconds after it became healthy.

        Time that went back counts as none; an endpoint that was always healthy has an infinite time.
        """
        if math.isnan(elapsed):
            raise LocalError("elapsed must be a number of seconds, not NaN")
        if max(elapsed, 0.0) >= self.window:
            return 1.0
        # The second counts only where the window is longer, so that the factor never exceeds 1.
        share = min(1.0, max(elapsed, 1.0) / self.window)
        # Where pow differs between C libraries it must not matter: the usual case does without.
        return max(self.minimum, share if self.aggression == 1.0 else math.pow(share, 1.0 / self.aggression))
