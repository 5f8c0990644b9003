"""What is asked before a request and told after it: see `distkit._fast.pure.breaking`, the specification."""

cimport cython
from cpython.number cimport PyNumber_Index
from libc.math cimport INFINITY, isfinite
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from distkit.core.errors import LocalError

CLOSED = 0
OPEN = 1
HALF_OPEN = 2
PROBES_MAX = 62

cdef enum:
    S_CLOSED = 0
    S_OPEN = 1
    S_HALF_OPEN = 2
    ORDINARY = 63
    SLICES = 10

cdef struct Window:
    double slice
    double first
    double latest
    int64_t number
    int64_t bad_sum
    int64_t all_sum
    int64_t[SLICES] bad
    int64_t[SLICES] all


cdef object counted(str name, object value, object low, object high):
    if not low <= PyNumber_Index(value) <= high:
        raise LocalError(f"{name} must be {low} to {high}, not {value}")
    return value


cdef double number(str name, double value, double low, double high) except? -1.0:
    if not low <= value <= high:
        raise LocalError(f"{name} must be {low:g} to {high:g}, not {value!r}")
    return value


cdef object COUNT_MAX = 1 << 40


cdef int finite(double now) except -1:
    if not isfinite(now):
        raise LocalError(f"now must be a finite number of seconds, not {now!r}")
    return 0


cdef void window_clear(Window* window) noexcept nogil:
    memset(window.bad, 0, sizeof(window.bad))
    memset(window.all, 0, sizeof(window.all))
    window.bad_sum = window.all_sum = 0


cdef void window_init(Window* window, double length) noexcept nogil:
    window.slice = length / SLICES
    window.first = 0.0
    window.latest = -INFINITY
    window.number = 0
    window_clear(window)


cdef int window_advance(Window* window, double now) noexcept nogil:
    """Forget what is too old. Returns the place of the current slice."""
    cdef double behind
    cdef int64_t number
    cdef int place
    if window.latest == -INFINITY:
        window.first = now
    if now < window.latest:
        now = window.latest
    window.latest = now
    behind = (now - window.first) / window.slice
    if behind >= 1e15:
        window_clear(window)
        window.first = now
        window.number = 0
        behind = 0.0
    number = <int64_t>behind
    if number - window.number >= SLICES:
        window_clear(window)
        window.number = number
    while window.number < number:
        window.number += 1
        place = <int>(window.number % SLICES)
        window.bad_sum -= window.bad[place]
        window.all_sum -= window.all[place]
        window.bad[place] = window.all[place] = 0
    return <int>(number % SLICES)


cdef void window_add(Window* window, int place, int64_t bad, int64_t total) noexcept nogil:
    window.bad[place] += bad
    window.all[place] += total
    window.bad_sum += bad
    window.all_sum += total


cdef int bits(uint64_t flags) noexcept nogil:
    cdef int count = 0
    while flags:
        flags &= flags - 1
        count += 1
    return count


@cython.final
cdef class Breaker:
    cdef double ratio, open_for, open_max, probe_timeout, jitter
    cdef int64_t failures, requests, probes, successes
    cdef Window window
    cdef object rng
    cdef int64_t era
    cdef int at
    cdef double now, until
    cdef int64_t streak, opened, passed
    cdef uint64_t flying
    cdef readonly int64_t refused
    cdef readonly int64_t stale

    def __init__(
        self,
        object failures=5,
        double ratio=0.0,
        object requests=20,
        double window=10.0,
        double open_for=5.0,
        double open_max=60.0,
        object probes=1,
        object successes=1,
        double probe_timeout=60.0,
        double jitter=0.0,
        object rng=None,
    ):
        self.failures = counted("failures", failures, 0, COUNT_MAX)
        self.ratio = number("ratio", ratio, 0.0, 1.0)
        self.requests = counted("requests", requests, 1, COUNT_MAX)
        window_init(&self.window, number("window", window, 0.001, 1e9))
        self.open_for = number("open_for", open_for, 0.0, 1e9)
        self.open_max = number("open_max", open_max, open_for, 1e9)
        self.probes = counted("probes", probes, 1, PROBES_MAX)
        self.successes = counted("successes", successes, 1, COUNT_MAX)
        self.probe_timeout = number("probe_timeout", probe_timeout, 0.001, 1e9)
        self.jitter = number("jitter", jitter, 0.0, 1.0)
        if self.jitter > 0 and rng is None:
            raise LocalError("jitter needs an rng: pass a random.Random")
        self.rng = rng
        self.era = 1
        self.at = S_CLOSED
        self.now = -INFINITY
        self.until = INFINITY
        self.streak = self.opened = self.passed = 0
        self.flying = 0
        self.refused = self.stale = 0

    @property
    def state(self):
        return self.at

    @property
    def probing(self):
        return bits(self.flying)

    def deadline(self):
        return self.until

    def permit(self, double now):
        cdef int place = 0
        finite(now)
        if now > self.now:
            self.now = now
        if self.at == S_CLOSED:
            return self.era << 6 | ORDINARY
        if self.at == S_OPEN:
            if self.now < self.until:
                self.refused += 1
                return 0
            self.change(S_HALF_OPEN, INFINITY)
        if bits(self.flying) < self.probes:
            while self.flying >> place & 1:
                place += 1
            self.flying |= <uint64_t>1 << place
            self.until = self.now + self.probe_timeout
            return self.era << 6 | place
        if self.now >= self.until:
            self.open()
        self.refused += 1
        return 0

    def done(self, object permit, long outcome, double now):
        cdef int64_t given
        cdef int place
        if not 0 <= outcome <= 5:
            raise LocalError(f"outcome must be one of Outcome, 0 to 5, not {outcome}")
        finite(now)
        if now > self.now:
            self.now = now
        given = permit_number(permit)
        place = <int>(given & 63)
        if given >> 6 != self.era or (place != ORDINARY and not self.flying >> place & 1):
            self.stale += 1
            return False
        if place != ORDINARY:
            self.probed(place, outcome)
        elif outcome == 0:
            self.streak = 0
            self.count(0)
        elif outcome <= 3:
            self.streak += 1
            self.count(1)
        return True

    def trip(self, double now):
        finite(now)
        if now > self.now:
            self.now = now
        self.open()

    def reset(self, double now):
        finite(now)
        if now > self.now:
            self.now = now
        self.close()

    cdef int count(self, int failures) except -1:
        if self.ratio > 0:
            window_add(&self.window, window_advance(&self.window, self.now), failures, 1)
            if (
                failures
                and self.window.all_sum >= self.requests
                and <double>self.window.bad_sum >= self.ratio * <double>self.window.all_sum
            ):
                self.open()
                return 0
        if self.failures and self.streak >= self.failures:
            self.open()
        return 0

    cdef int probed(self, int place, long outcome) except -1:
        self.flying &= ~(<uint64_t>1 << place)
        if outcome == 0:
            self.passed += 1
            if self.passed >= self.successes:
                self.close()
                return 0
        elif outcome <= 3:
            self.open()
            return 0
        if not self.flying:
            self.until = INFINITY
        return 0

    cdef int open(self) except -1:
        cdef double length = self.open_for * <double>(<uint64_t>1 << min(self.opened, <int64_t>60))
        cdef double drawn
        if length > self.open_max:
            length = self.open_max
        if self.jitter > 0 and self.rng is not None:
            drawn = self.rng.random()
            length += length * self.jitter * drawn
        self.opened += 1
        self.change(S_OPEN, self.now + length)
        return 0

    cdef void close(self) noexcept:
        self.opened = 0
        window_clear(&self.window)
        self.change(S_CLOSED, INFINITY)

    cdef void change(self, int state, double until) noexcept:
        self.at = state
        self.era += 1
        self.until = until
        self.streak = self.passed = 0
        self.flying = 0


cdef int64_t permit_number(object permit) except? -1:
    """The number of a permit; -1, which is nobody's, in place of one that no breaker gave."""
    if not isinstance(permit, int):
        raise TypeError("a permit is an int")
    return <int64_t>permit if 0 <= permit <= 0x7FFFFFFFFFFFFFFF else -1


@cython.final
cdef class RetryBudget:
    cdef Window window
    cdef int64_t gives, takes, reserve

    def __init__(self, double ratio=0.2, object per_second=10, double ttl=10.0):
        ratio = number("ratio", ratio, 0.0, 1000.0)
        window_init(&self.window, number("ttl", ttl, 1.0, 3600.0))
        if 0 < ratio < 1e-4:
            raise LocalError("ratio must be 0 or at least 0.0001")
        self.gives = 1000 if ratio > 0 else 0
        self.takes = <int64_t>(1000.0 / ratio) if ratio > 0 else 1
        self.reserve = int(counted("per_second", per_second, 0, 1_000_000) * ttl) * self.takes

    def request(self, double now):
        finite(now)
        window_add(&self.window, window_advance(&self.window, now), 0, self.gives)

    def retry(self, double now):
        cdef int place
        finite(now)
        place = window_advance(&self.window, now)
        if self.reserve + self.window.all_sum < self.takes:
            return False
        window_add(&self.window, place, 0, -self.takes)
        return True

    def balance(self, double now):
        cdef int64_t left
        finite(now)
        window_advance(&self.window, now)
        left = self.reserve + self.window.all_sum
        return left // self.takes if left > 0 else 0


@cython.final
cdef class RetryThrottle:
    cdef int64_t most, gives, held

    def __init__(self, object tokens=10, double ratio=0.1):
        self.most = counted("tokens", tokens, 1, 1000) * 1000
        self.gives = <int64_t>(number("ratio", ratio, 0.001, 1000.0) * 1000.0 + 0.5)
        self.held = self.most

    @property
    def tokens(self):
        return self.held / 1000.0

    def success(self):
        self.held = min(self.most, self.held + self.gives)

    def failure(self):
        self.held = max(<int64_t>0, self.held - 1000)

    def allowed(self):
        return self.held * 2 > self.most
