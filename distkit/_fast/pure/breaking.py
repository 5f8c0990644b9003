"""What is asked before a request and told after it: may it go (`Breaker`), may it be tried again (the budgets).

`distkit.balance.breaker` and `distkit.balance.retries` have the options and the reasons. Times are seconds; a time
that goes back counts as the latest one seen. Outcomes are those of `distkit.balance.endpoints`: 0 is a success, 1 to 3
are failures, 4 (cancelled) and 5 (overload) say nothing about health.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Final, final

from distkit.core.errors import LocalError

if TYPE_CHECKING:
    from random import Random

CLOSED: Final = 0
OPEN: Final = 1
HALF_OPEN: Final = 2

#: A breaker has at most so many probes in flight.
PROBES_MAX: Final = 62
#: The place in a permit of requests that are no probes.
_ORDINARY: Final = 63
_SLICES: Final = 10
_COUNT_MAX: Final = 1 << 40


def _count(name: str, value: int, low: int, high: int = _COUNT_MAX) -> int:
    if not low <= operator.index(value) <= high:
        raise LocalError(f"{name} must be {low} to {high}, not {value}")
    return value


def _number(name: str, value: float, low: float, high: float) -> float:
    value = float(value)
    if not low <= value <= high:
        raise LocalError(f"{name} must be {low:g} to {high:g}, not {value!r}")
    return value


class _Window:
    """Sums over the last `length` seconds, in ten slices: what is older than the slices held is forgotten.

    Slices are counted from the first time seen, so that a sum never depends on where the clock began.
    """

    def __init__(self, length: float) -> None:
        self.slice = length / _SLICES
        self.first = 0.0
        self.latest = -math.inf
        self.number = 0
        self.bad = [0] * _SLICES
        self.all = [0] * _SLICES
        self.bad_sum = 0
        self.all_sum = 0

    def advance(self, now: float) -> int:
        """Forget what is too old. Returns the place of the current slice."""
        now = float(now)
        if not -math.inf < now < math.inf:
            raise LocalError(f"now must be a finite number of seconds, not {now!r}")
        if self.latest == -math.inf:
            self.first = now
        if now < self.latest:
            now = self.latest
        self.latest = now
        behind = (now - self.first) / self.slice
        if behind >= 1e15:  # far beyond any window, and beyond what counts exactly
            self.clear()
            self.first, self.number, behind = now, 0, 0.0
        number = int(behind)
        if number - self.number >= _SLICES:
            self.clear()
            self.number = number
        while self.number < number:
            self.number += 1
            place = self.number % _SLICES
            self.bad_sum -= self.bad[place]
            self.all_sum -= self.all[place]
            self.bad[place] = self.all[place] = 0
        return number % _SLICES

    def add(self, place: int, bad: int, total: int) -> None:
        self.bad[place] += bad
        self.all[place] += total
        self.bad_sum += bad
        self.all_sum += total

    def clear(self) -> None:
        self.bad = [0] * _SLICES
        self.all = [0] * _SLICES
        self.bad_sum = self.all_sum = 0


@final
class Breaker:
    """A circuit breaker: closed, open, half-open.

    It opens after `failures` in a row (0: never so), or when of at least `requests` within `window` seconds the share
    `ratio` failed (0: never so). Open, it refuses for `open_for` seconds, doubled each time that it opens again before
    it closed, up to `open_max`, and lengthened by up to the share `jitter`, drawn from `rng`. Then it is half-open: at
    any time at most `probes` requests are in flight; `successes` of them close it, one failure opens it again. Probes
    that are not done after `probe_timeout` count as one failure.
    """

    def __init__(
        self,
        failures: int = 5,
        ratio: float = 0.0,
        requests: int = 20,
        window: float = 10.0,
        open_for: float = 5.0,
        open_max: float = 60.0,
        probes: int = 1,
        successes: int = 1,
        probe_timeout: float = 60.0,
        jitter: float = 0.0,
        rng: Random | None = None,
    ) -> None:
        self._failures = _count("failures", failures, 0)
        self._ratio = _number("ratio", ratio, 0.0, 1.0)
        self._requests = _count("requests", requests, 1)
        self._window = _Window(_number("window", window, 0.001, 1e9))
        self._open_for = _number("open_for", open_for, 0.0, 1e9)
        self._open_max = _number("open_max", open_max, self._open_for, 1e9)
        self._probes = _count("probes", probes, 1, PROBES_MAX)
        self._successes = _count("successes", successes, 1)
        self._probe_timeout = _number("probe_timeout", probe_timeout, 0.001, 1e9)
        self._jitter = _number("jitter", jitter, 0.0, 1.0)
        if self._jitter > 0 and rng is None:
            raise LocalError("jitter needs an rng: pass a random.Random")
        self._rng = rng
        self._era = 1  # rises with each change of state, so that permits of an earlier one are known
        self._state = CLOSED
        self._now = -math.inf
        self._until = math.inf  # the end of the open time, or of the wait for probes in flight
        self._streak = 0
        self._opened = 0  # times in a row without closing
        self._flying = 0  # a bit for each probe in flight
        self._passed = 0
        self._refused = 0
        self._stale = 0

    @property
    def state(self) -> int:
        """CLOSED, OPEN or HALF_OPEN, as of the last call: an open one turns half-open when it is next asked."""
        return self._state

    @property
    def probing(self) -> int:
        """Probes in flight."""
        return self._flying.bit_count()

    @property
    def refused(self) -> int:
        """How many requests it has refused."""
        return self._refused

    @property
    def stale(self) -> int:
        """How many ends it has ignored: of requests of an earlier state, or told twice."""
        return self._stale

    def deadline(self) -> float:
        """When an open breaker will let a probe through, or gives up on those in flight. Infinity otherwise."""
        return self._until

    def permit(self, now: float) -> int:
        """Whether a request may go: 0 if not, else a permit that must be handed to `done` exactly once."""
        self._advance(now)
        if self._state == CLOSED:
            return self._era << 6 | _ORDINARY
        if self._state == OPEN:
            if self._now < self._until:
                self._refused += 1
                return 0
            self._change(HALF_OPEN, math.inf)
        if self.probing < self._probes:
            place = 0
            while self._flying >> place & 1:
                place += 1
            self._flying |= 1 << place
            self._until = self._now + self._probe_timeout
            return self._era << 6 | place
        if self._now >= self._until:
            self._open()
        self._refused += 1
        return 0

    def done(self, permit: int, outcome: int, now: float) -> bool:
        """A request with this permit ended. False: it belongs to an earlier state, and was counted as stale only."""
        if not 0 <= outcome <= 5:
            raise LocalError(f"outcome must be one of Outcome, 0 to 5, not {outcome}")
        self._advance(now)
        place = permit & 63
        if permit >> 6 != self._era or (place != _ORDINARY and not self._flying >> place & 1):
            self._stale += 1
            return False
        if place != _ORDINARY:
            self._probed(place, outcome)
        elif outcome == 0:
            self._streak = 0
            self._counted(0)
        elif outcome <= 3:
            self._streak += 1
            self._counted(1)
        return True

    def trip(self, now: float) -> None:
        """Open now, whatever the counts say."""
        self._advance(now)
        self._open()

    def reset(self, now: float) -> None:
        """Close now and forget all failures."""
        self._advance(now)
        self._close()

    def _advance(self, now: float) -> None:
        now = float(now)
        if not -math.inf < now < math.inf:
            raise LocalError(f"now must be a finite number of seconds, not {now!r}")
        if now > self._now:
            self._now = now

    def _counted(self, failures: int) -> None:
        """A request of the closed state ended, well or not."""
        if self._ratio > 0:
            window = self._window
            window.add(window.advance(self._now), failures, 1)
            share = self._ratio * window.all_sum
            if failures and window.all_sum >= self._requests and window.bad_sum >= share:
                self._open()
                return
        if self._failures and self._streak >= self._failures:
            self._open()

    def _probed(self, place: int, outcome: int) -> None:
        self._flying &= ~(1 << place)
        if outcome == 0:
            self._passed += 1
            if self._passed >= self._successes:
                self._close()
                return
        elif outcome <= 3:
            self._open()
            return
        if not self._flying:
            self._until = math.inf

    def _open(self) -> None:
        length = self._open_for * 2.0 ** min(self._opened, 60)
        if length > self._open_max:
            length = self._open_max
        if self._jitter > 0 and self._rng is not None:
            length += length * self._jitter * self._rng.random()
        self._opened += 1
        self._change(OPEN, self._now + length)

    def _close(self) -> None:
        self._opened = 0
        self._window.clear()
        self._change(CLOSED, math.inf)

    def _change(self, state: int, until: float) -> None:
        self._state = state
        self._era += 1
        self._until = until
        self._streak = self._passed = self._flying = 0


@final
class RetryBudget:
    """Retries as a share of recent requests, plus some a second (Finagle's).

    Over the last `ttl` seconds, in ten slices, each request gives 1000 and each retry takes 1000 / `ratio` (rounded
    down); `per_second` retries a second are always there. All counts are integers.
    """

    def __init__(self, ratio: float = 0.2, per_second: int = 10, ttl: float = 10.0) -> None:
        ratio = _number("ratio", ratio, 0.0, 1000.0)
        self._window = _Window(_number("ttl", ttl, 1.0, 3600.0))
        if 0 < ratio < 1e-4:
            raise LocalError("ratio must be 0 or at least 0.0001")
        self._gives = 1000 if ratio > 0 else 0
        self._takes = int(1000.0 / ratio) if ratio > 0 else 1
        self._reserve = int(_count("per_second", per_second, 0, 1_000_000) * float(ttl)) * self._takes

    def request(self, now: float) -> None:
        """A request was made that is no retry."""
        self._window.add(self._window.advance(now), 0, self._gives)

    def retry(self, now: float) -> bool:
        """Take one retry from the budget. False: there is none, so do not retry."""
        place = self._window.advance(now)
        if self._reserve + self._window.all_sum < self._takes:
            return False
        self._window.add(place, 0, -self._takes)
        return True

    def balance(self, now: float) -> int:
        """How many retries are left."""
        self._window.advance(now)
        left = self._reserve + self._window.all_sum
        return left // self._takes if left > 0 else 0


@final
class RetryThrottle:
    """gRPC's throttle: a failure takes one token, a success gives `ratio`; retries only above half of `tokens`.

    Counted in thousandths of a token, as gRPC does, so `ratio` has three decimals. It needs no time.
    """

    def __init__(self, tokens: int = 10, ratio: float = 0.1) -> None:
        self._most = _count("tokens", tokens, 1, 1000) * 1000
        self._gives = int(_number("ratio", ratio, 0.001, 1000.0) * 1000.0 + 0.5)
        self._tokens = self._most

    @property
    def tokens(self) -> float:
        """Tokens that are there."""
        return self._tokens / 1000.0

    def success(self) -> None:
        """A request ended well."""
        self._tokens = min(self._most, self._tokens + self._gives)

    def failure(self) -> None:
        """A request failed in a way that could be retried, or the server asked not to."""
        self._tokens = max(0, self._tokens - 1000)

    def allowed(self) -> bool:
        """Whether a retry may go."""
        return self._tokens * 2 > self._most
