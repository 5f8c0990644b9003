"""Circuit breakers: an endpoint, or anything else that fails, is left alone for a while, then tried with few requests.

    closed --- too many failures --> open --- time --> half-open --- enough successes --> closed
                                       ^                   |
                                       +---- a failure ----+

`Breaker` (compiled) gives a permit for each request that may go, and each permit is handed back once by `done`.
Half-open admits exactly `probes` at a time, however many ask at once: a probe that is cancelled, or whose answer says
nothing about health, frees its place, and one that is never done is given up after `probe_timeout`. Permits know the
state they were given in: a slow answer from before the opening neither closes nor re-opens anything.

What Envoy calls circuit breakers are limits on concurrency: see `distkit.balance.limits`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from distkit._fast.breaking import CLOSED, HALF_OPEN, OPEN, PROBES_MAX, Breaker
from distkit.balance.bounds import number, whole
from distkit.core import LocalError, record

if TYPE_CHECKING:
    from random import Random

__all__ = ["CLOSED", "HALF_OPEN", "OPEN", "PROBES_MAX", "Breaker", "BreakerOptions"]


@record
class BreakerOptions:
    """Times are seconds. A breaker opens after `failures` in a row (0: not by that), or when, of at least `requests`
    that ended within `window`, the share `ratio` failed (0: not by that).

    It stays open for `open_for`, twice as long each time that it opens again before it has closed, at most `open_max`,
    plus up to the share `jitter` of that. Half-open, `probes` may be in flight, and `successes` close it.
    """

    failures: int = 5
    ratio: float = 0.0
    requests: int = 20
    window: float = 10.0
    open_for: float = 5.0
    open_max: float = 60.0
    probes: int = 1
    successes: int = 1
    probe_timeout: float = 60.0
    jitter: float = 0.1

    def check(self) -> None:
        """Raise LocalError unless the options make sense."""
        for name, low, high in (("failures", 0, 10**9), ("requests", 1, 10**9), ("successes", 1, 10**9)):
            whole(name, getattr(self, name), low, high)
        whole("probes", self.probes, 1, PROBES_MAX)
        number("window", self.window, 0.001, 86400)
        number("open_for", self.open_for, 0, 86400)
        number("open_max", self.open_max, self.open_for, 86400)
        number("probe_timeout", self.probe_timeout, 0.001, 86400)
        number("ratio", self.ratio, 0, 1)
        number("jitter", self.jitter, 0, 1)
        if not self.failures and not self.ratio:
            raise LocalError("failures and ratio are both 0, so the breaker could never open: set one of them")

    def breaker(self, rng: Random) -> Breaker:
        """A closed breaker of this kind."""
        self.check()
        return Breaker(
            self.failures,
            self.ratio,
            self.requests,
            self.window,
            self.open_for,
            self.open_max,
            self.probes,
            self.successes,
            self.probe_timeout,
            self.jitter,
            rng,
        )
