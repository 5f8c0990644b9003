"""Prequal: see `distkit._fast.pure.prequal`, the specification of this kernel."""

cimport cython
from libc.math cimport floor
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memmove

from distkit._fast.table cimport NO_PLACE, NOT_THERE, Table, View, Wish, admits, below, unit

from distkit.core.errors import LocalError

POOL_MAX = 64
RATE_MAX = 16.0
RECENT = 128
PENDING_MAX = 64

cdef enum:
    PROBES_A_PICK_MAX = 17  # RATE_MAX and what was left over

cdef uint32_t U32 = 0xFFFFFFFF


@cython.final
cdef class Prequal(View):
    def __init__(
        self,
        Table table not None,
        double probes=3.0,
        double removals=1.0,
        pool=16,
        pool_min=2,
        double age=1.0,
        double quantile=0.84,
        double delta=1.0,
    ):
        View.__init__(self, table)
        if not 0 < probes <= RATE_MAX or not 0 <= removals <= RATE_MAX:
            raise LocalError(f"probes must be more than 0, removals at least 0, both at most {RATE_MAX:.0f} a pick")
        if not 1 <= pool <= POOL_MAX or not 1 <= pool_min <= pool:
            raise LocalError(f"the pool must hold 1 to {POOL_MAX} answers, and pool_min be 1 to that")
        if not 0 < age <= 1e9 or not 0 <= quantile <= 1 or not 0 <= delta <= 1e9:
            raise LocalError("age must be more than 0 seconds, the quantile 0 to 1, and delta at least 0")
        self.probes = probes
        self.removals = removals
        self.pool_size = pool
        self.pool_min = pool_min
        self.age = age
        self.quantile = quantile
        self.delta = delta

    def take_probes(self):
        cdef uint32_t i
        handles = [self.waiting[i] for i in range(self.pending)]
        self.pending = 0
        return handles

    def probed(self, int64_t handle, object in_flight, double latency):
        return self.answered_probe(handle, min(in_flight, 0xFFFFFFFE), latency)

    cdef bint answered_probe(self, int64_t handle, uint64_t in_flight, double latency) noexcept:
        cdef uint32_t slot = <uint32_t>(handle & U32)
        cdef uint32_t value, i
        if not self.is_member(slot) or self.table.rows[slot].generation != handle >> 32:
            return False
        value = <uint32_t>min(in_flight, <uint64_t>U32 - 1)
        if self.recent_count == RECENT_COUNT:
            i = 0
            while self.ranked[i] != self.recent[self.recent_at]:
                i += 1
            self.recent_count -= 1
            memmove(&self.ranked[i], &self.ranked[i + 1], (self.recent_count - i) * sizeof(uint32_t))
        self.recent[self.recent_at] = value
        self.recent_at = (self.recent_at + 1) % RECENT_COUNT
        i = self.recent_count
        while i and self.ranked[i - 1] > value:
            self.ranked[i] = self.ranked[i - 1]
            i -= 1
        self.ranked[i] = value
        self.recent_count += 1
        if self.pooled == self.pool_size:
            self.forget(0)
        self.pool[self.pooled] = Answer(
            latency=latency, at=self.table.now, in_flight=value, slot=slot, uses=self.uses()
        )
        self.pooled += 1
        return True

    cdef int64_t choose(self, const Wish* wish) except? -9:
        cdef int64_t slot = NOT_THERE
        cdef uint32_t i = 0, place
        if not self.count:
            return NOT_THERE
        while i < self.pooled:
            if self.is_member(self.pool[i].slot) and self.table.now - self.pool[i].at <= self.age:
                i += 1
            else:
                self.forget(i)
        if self.pooled >= self.pool_min:
            slot = self.best(wish)
        if slot == NOT_THERE:
            place = below(self.table, self.count)
            slot = self.members[place]
            if not admits(wish, &self.table.rows[slot]):
                slot = self.scan(wish, place)
        self.remove()
        self.ask()
        return slot

    cdef void leave(self, uint32_t slot) noexcept:
        cdef uint32_t i = 0
        View.leave(self, slot)
        while i < self.pooled:
            if self.pool[i].slot == slot:
                self.forget(i)
            else:
                i += 1

    cdef bint is_member(self, uint32_t slot) noexcept:
        return (
            slot < self.table.count
            and self.table.rows[slot].view == self.index
            and self.table.rows[slot].place != NO_PLACE
        )

    cdef uint32_t uses(self) noexcept:
        cdef double spare = (1.0 - <double>self.pool_size / self.count) * self.probes - self.removals
        cdef double uses, whole
        if spare <= 0:
            return U32
        uses = min(1e9, max(1.0, (1.0 + self.delta) / spare))
        whole = floor(uses)
        return <uint32_t>whole + (unit(self.table) < uses - whole)

    cdef int64_t threshold(self) noexcept:
        cdef uint32_t rank
        if not self.recent_count:
            return U32
        rank = <uint32_t>floor(self.quantile * self.recent_count)
        return self.ranked[min(self.recent_count - 1, rank)]

    cdef int64_t best(self, const Wish* wish) noexcept:
        cdef int64_t threshold = self.threshold()
        cdef int64_t best = -1, slot
        cdef uint32_t i
        for i in range(self.pooled):
            if admits(wish, &self.table.rows[self.pool[i].slot]) and (
                best < 0 or is_better(&self.pool[i], &self.pool[best], threshold)
            ):
                best = i
        if best < 0:
            return NOT_THERE
        slot = self.pool[best].slot
        self.pool[best].in_flight += 1
        self.pool[best].uses -= 1
        if self.pool[best].uses == 0:
            self.forget(<uint32_t>best)
        return slot

    cdef void forget(self, uint32_t i) noexcept:
        self.pooled -= 1
        memmove(&self.pool[i], &self.pool[i + 1], (self.pooled - i) * sizeof(Answer))

    cdef void remove(self) noexcept:
        cdef int64_t threshold
        cdef uint32_t i, worst
        self.removal_credit += self.removals
        while self.removal_credit >= 1:
            self.removal_credit -= 1
            if not self.pooled:
                continue
            worst = 0
            if self.remove_worst:
                threshold = self.threshold()
                for i in range(self.pooled):
                    if is_better(&self.pool[worst], &self.pool[i], threshold):
                        worst = i
            self.remove_worst = not self.remove_worst
            self.forget(worst)

    cdef void ask(self) noexcept:
        cdef uint32_t[PROBES_A_PICK_MAX] places
        cdef uint32_t i, place, slot, asked = 0
        self.probe_credit += self.probes
        while self.probe_credit >= 1:
            self.probe_credit -= 1
            if asked >= self.count:
                continue
            place = below(self.table, self.count - asked)
            for i in range(asked):
                place += place >= places[i]
            i = asked
            while i and places[i - 1] > place:
                places[i] = places[i - 1]
                i -= 1
            places[i] = place
            asked += 1
            slot = self.members[place]
            if self.pending == PENDING_COUNT_MAX:
                self.pending -= 1
                memmove(&self.waiting[0], &self.waiting[1], self.pending * sizeof(int64_t))
            self.waiting[self.pending] = <int64_t>self.table.rows[slot].generation << 32 | slot
            self.pending += 1


cdef inline bint is_better(const Answer* one, const Answer* other, int64_t threshold) noexcept:
    cdef bint cold = one.in_flight <= threshold
    cdef bint other_cold = other.in_flight <= threshold
    if cold != other_cold:
        return cold
    return one.latency < other.latency if cold else one.in_flight < other.in_flight
