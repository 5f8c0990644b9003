"""The policies that take turns: see `distkit._fast.pure.rotations`, the specification of this kernel."""

cimport cython
from libc.math cimport INFINITY, ceil, floor, pow
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc

from distkit._fast.table cimport (
    C_CONNECT_FAIL,
    NO_PLACE,
    NOT_THERE,
    Heap,
    Row,
    Table,
    View,
    Wish,
    admits,
    below,
    draw,
    unit,
)

from distkit.core.errors import LocalError

STRIDE_MAX = 65535
PHASES = 1 << 16

cdef enum:
    C_STRIDE_MAX = 65535
    STRIDE_OFFSET = 32767
    C_PHASES = 0x10000


@cython.final
cdef class RoundRobin(View):
    def __init__(self, Table table not None, bint random_phase=True):
        View.__init__(self, table)
        self.random_phase = random_phase
        self.round = 1

    cdef int start(self) except -1:
        self.started = True
        if self.random_phase and self.count > 1:
            self.cursor = below(self.table, self.count)
        return 0

    cdef int place(self, uint32_t slot) except -1:
        cdef bint had_turn
        View.place(self, slot)
        self.table.rows[slot].turn = 0
        if self.random_phase and self.started and self.count:
            had_turn = below(self.table, self.count) < self.cursor
            self.table.rows[slot].turn = self.round if had_turn else 0
        return 0

    cdef void join(self, uint32_t slot) noexcept:
        View.join(self, slot)
        if self.table.rows[slot].turn == self.round:
            self.exchange(self.cursor, self.count - 1)
            self.cursor += 1

    cdef void leave(self, uint32_t slot) noexcept:
        cdef uint32_t place = self.table.rows[slot].place
        if place < self.cursor:
            self.cursor -= 1
            self.exchange(place, self.cursor)
        View.leave(self, slot)

    cdef int64_t choose(self, const Wish* wish) except? -9:
        cdef int64_t slot
        if not self.count:
            return NOT_THERE
        if self.cursor >= self.count:
            self.cursor = 0
            self.round += 1
        slot = self.members[self.cursor]
        if wish.filtered:
            slot = self.scan(wish, self.cursor)
            if slot == NOT_THERE or self.table.rows[slot].place < self.cursor:
                return slot
            self.exchange(self.cursor, self.table.rows[slot].place)
        self.table.rows[slot].turn = self.round
        self.cursor += 1
        return slot


@cython.final
cdef class Smooth(View):
    def __init__(self, Table table not None, max_fails=1):
        View.__init__(self, table)
        if max_fails < 0:
            raise LocalError(f"max_fails must be 0 (failures cost no weight) or more, not {max_fails}")
        self.max_fails = max_fails
        self.watches = True

    cdef int place(self, uint32_t slot) except -1:
        cdef Row* row = &self.table.rows[slot]
        View.place(self, slot)
        row.current = 0.0
        row.effective = row.weight
        return 0

    cdef int weigh(self, uint32_t slot, double weight) except -1:
        cdef Row* row = &self.table.rows[slot]
        if row.effective == row.weight or row.effective > weight:
            row.effective = weight
        row.weight = weight
        return 0

    cdef int64_t choose(self, const Wish* wish) except? -9:
        cdef Row* row
        cdef Row* best = NULL
        cdef int64_t chosen = NOT_THERE
        cdef double total = 0.0
        cdef uint32_t place
        for place in range(self.count):
            row = &self.table.rows[self.members[place]]
            if not admits(wish, row):
                continue
            row.current += row.effective
            total += row.effective
            if row.effective < row.weight:
                row.effective = min(row.weight, row.effective + 1)
            if best is NULL or row.current > best.current or (
                row.current == best.current and self.members[place] < chosen
            ):
                best = row
                chosen = self.members[place]
        if best is not NULL:
            best.current -= total
        return chosen

    cdef void answered(self, uint32_t slot, int outcome, double latency) noexcept:
        cdef Row* row = &self.table.rows[slot]
        if 0 < outcome <= C_CONNECT_FAIL and self.max_fails:
            row.effective = max(0.0, row.effective - row.weight / self.max_fails)


@cython.final
cdef class Stride(View):
    def __init__(self, Table table not None, bint clamp=True, bint random_phase=True):
        View.__init__(self, table)
        self.clamp = clamp
        self.random_phase = random_phase
        self.dirty = self.changed = True

    def __dealloc__(self):
        free(self.scaled)

    cdef size_t taken(self) noexcept:
        return self.capacity * (sizeof(uint32_t) + sizeof(uint16_t))

    cdef int room(self, uint32_t count) except -1:
        cdef void* grown
        View.room(self, count)
        grown = realloc(self.scaled, self.capacity * sizeof(uint16_t))
        if grown is NULL:
            raise MemoryError
        self.scaled = <uint16_t*>grown
        return 0

    cdef void join(self, uint32_t slot) noexcept:
        View.join(self, slot)
        self.dirty = self.changed = True

    cdef void leave(self, uint32_t slot) noexcept:
        View.leave(self, slot)
        self.dirty = self.changed = True

    cdef int weigh(self, uint32_t slot, double weight) except -1:
        View.weigh(self, slot, weight)
        self.dirty = True
        return 0

    @cython.overflowcheck(False)
    cdef int64_t choose(self, const Wish* wish) except? -9:
        cdef uint32_t tries, place, turn
        cdef uint64_t weight
        if not self.count:
            return NOT_THERE
        if self.dirty:
            self.scale()
        for tries in range(2 * self.count):
            turn = self.sequence // self.count
            place = self.sequence % self.count
            self.sequence += 1
            weight = self.scaled[place]
            if (weight * turn + <uint64_t>place * STRIDE_OFFSET) % C_STRIDE_MAX >= C_STRIDE_MAX - weight:
                if admits(wish, &self.table.rows[self.members[place]]):
                    return self.members[place]
        return self.scan(wish, self.sequence % self.count)

    cdef void scale(self) noexcept:
        cdef double total = 0.0, greatest = 0.0, mean, factor
        cdef uint32_t place, least = 0
        for place in range(self.count):
            total += self.weight_at(place)
            greatest = max(greatest, self.weight_at(place))
        mean = total / self.count
        if self.clamp and greatest / mean > 10:
            greatest = 10 * mean
        factor = C_STRIDE_MAX / greatest
        if self.clamp:
            least = max(<uint32_t>1, rounded(0.01 * rounded(factor * mean)))
        for place in range(self.count):
            self.scaled[place] = <uint16_t>max(least, rounded(factor * min(self.weight_at(place), greatest)))
        if self.changed and self.random_phase:
            self.sequence = <uint32_t>draw(self.table)
        self.dirty = self.changed = False

    cdef double weight_at(self, uint32_t place) noexcept:
        cdef double weight = self.table.rows[self.members[place]].weight
        return <double><float>weight if self.clamp else weight


@cython.final
cdef class EarliestDeadline(Heap):
    def __init__(self, Table table not None, double bias=0.0, bint random_phase=True):
        Heap.__init__(self, table)
        if not 0 <= bias <= 100:
            raise LocalError(f"the bias must be 0 to 100, not {bias!r}")
        self.bias = bias
        self.random_phase = random_phase

    cdef int place(self, uint32_t slot) except -1:
        cdef Row* row = &self.table.rows[slot]
        cdef double phase
        View.place(self, slot)
        phase = 1 - unit(self.table) if self.random_phase and self.started else 1.0
        row.current = self.time + phase / row.weight
        self.turns += 1
        row.turn = self.turns
        return 0

    cdef int start(self) except -1:
        cdef Row* rows = self.table.rows
        cdef Row* row
        cdef Row* first = NULL
        cdef double total = 0.0, left, phase, weight, turns
        cdef uint32_t slot
        cdef int64_t place
        self.started = True
        if not self.random_phase or self.count < 2:
            return 0
        for slot in range(self.table.count):
            if self.has(slot):
                total += rows[slot].weight
        left = unit(self.table) * total
        for slot in range(self.table.count):
            if self.has(slot):
                first = &rows[slot]
                if left < first.weight:
                    break
                left -= first.weight
        phase = 1 + below(self.table, C_PHASES)
        weight = first.weight
        for slot in range(self.table.count):
            if self.has(slot):
                row = &rows[slot]
                turns = phase if row.weight == weight else ceil(phase * row.weight / weight)
                row.current = self.time + max(0.0, (turns * weight - phase * row.weight) / (row.weight * weight))
                self.turns += 1
                row.turn = 0 if row == first else self.turns
        place = self.count // 2
        while place:
            place -= 1
            self.sink(<uint32_t>place)
        return 0

    cdef bint has(self, uint32_t slot) noexcept:
        return self.table.rows[slot].view == self.index and self.table.rows[slot].place != NO_PLACE

    cdef void join(self, uint32_t slot) noexcept:
        cdef Row* row = &self.table.rows[slot]
        row.current = max(row.current, self.time)
        Heap.join(self, slot)

    cdef int64_t choose(self, const Wish* wish) except? -9:
        cdef int64_t slot = self.least(wish)
        cdef Row* row
        cdef double weight
        if slot != NOT_THERE:
            row = &self.table.rows[slot]
            if row.place == 0:
                self.time = row.current
            weight = row.weight
            if self.bias == 1:
                weight = row.weight / (<double>row.active + 1)
            elif self.bias != 0:
                weight = row.weight / pow(<double>row.active + 1, self.bias)
            row.current += 1 / weight
            self.turns += 1
            row.turn = self.turns
            self.sink(row.place)
        return slot


@cython.final
cdef class FirstAvailable(Heap):
    cdef int place(self, uint32_t slot) except -1:
        View.place(self, slot)
        self.table.rows[slot].current = INFINITY
        self.table.rows[slot].turn = slot
        return 0

    cdef void rank(self, uint32_t slot, uint32_t rank) noexcept:
        self.table.rows[slot].current = rank
        if self.table.rows[slot].place != NO_PLACE:
            self.settle(slot)

    cdef int64_t choose(self, const Wish* wish) except? -9:
        return self.least(wish)


cdef uint32_t rounded(double value) noexcept:
    """To the nearest integer, halves away from zero, of a number that is not negative."""
    cdef double whole = floor(value)
    return <uint32_t>whole + (value - whole >= 0.5)
