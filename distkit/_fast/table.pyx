"""The table of endpoints: see `distkit._fast.pure.table`, the specification of this kernel."""

cimport cython
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from distkit.core.errors import LocalError

SLOTS_MAX = SLOT_COUNT_MAX
REMOVED = GONE

cdef enum:
    CAPACITY_MIN = 8
    LAST_GENERATION = 0x7FFFFFFF


cdef class Table:
    def __init__(self, seed):
        self.seed = seed & 0xFFFFFFFFFFFFFFFF

    def __dealloc__(self):
        free(self.rows)
        free(self.free_slots)

    cdef int reserve(self, uint32_t capacity) except -1:
        cdef void* grown
        if capacity <= self.capacity:
            return 0
        grown = realloc(self.rows, capacity * sizeof(Row))
        if grown is NULL:
            raise MemoryError
        self.rows = <Row*>grown
        memset(self.rows + self.capacity, 0, (capacity - self.capacity) * sizeof(Row))
        grown = realloc(self.free_slots, capacity * sizeof(uint32_t))
        if grown is NULL:
            raise MemoryError
        self.free_slots = <uint32_t*>grown
        self.capacity = capacity
        return 0

    cdef int64_t new_row(self) except -1:
        cdef uint32_t slot, generation
        cdef Row* row
        if self.free_count == 0:
            if self.count >= SLOT_COUNT_MAX:
                raise LocalError(f"a cluster has at most {SLOTS_MAX} endpoints, those that still drain included")
            if self.count == self.capacity:
                self.reserve(max(CAPACITY_MIN, self.capacity + self.capacity // 4))
            self.rows[self.count].flags = GONE
            self.free_slots[0] = self.count
            self.free_count = 1
            self.count += 1
        self.free_count -= 1
        slot = self.free_slots[self.free_count]
        row = &self.rows[slot]
        generation = row.generation
        memset(row, 0, sizeof(Row))
        row.weight = 1.0
        row.latency = -1.0
        row.generation = generation % LAST_GENERATION + 1
        row.place = NO_PLACE
        row.view = NO_PLACE
        return slot

    cdef void free_row(self, uint32_t slot) noexcept:
        self.rows[slot].flags = GONE
        self.free_slots[self.free_count] = slot
        self.free_count += 1


cdef class View:
    def __init__(self, Table table not None):
        if self.table is not None:
            raise LocalError("a view is made once")
        self.table = table
        self.index = NO_PLACE

    def __dealloc__(self):
        free(self.members)

    cdef size_t taken(self) noexcept:
        """Bytes of memory that members have."""
        return self.capacity * sizeof(uint32_t)

    cdef int room(self, uint32_t count) except -1:
        """Have places for so many rows."""
        cdef uint32_t capacity = self.capacity
        cdef void* grown
        if count > capacity:
            capacity = max(count, max(CAPACITY_MIN, capacity + capacity // 4))
            grown = realloc(self.members, capacity * sizeof(uint32_t))
            if grown is NULL:
                raise MemoryError
            self.members = <uint32_t*>grown
            self.capacity = capacity
        return 0

    cdef int place(self, uint32_t slot) except -1:
        # Memory for a row is taken here, so that gates can open later without any.
        self.room(self.placed + 1)
        self.placed += 1
        return 0

    cdef int unplace(self, uint32_t slot) except -1:
        self.placed -= 1
        return 0

    cdef int start(self) except -1:
        return 0

    cdef void join(self, uint32_t slot) noexcept:
        self.table.rows[slot].place = self.count
        self.members[self.count] = slot
        self.count += 1

    cdef void leave(self, uint32_t slot) noexcept:
        cdef Row* rows = self.table.rows
        cdef uint32_t place = rows[slot].place
        cdef uint32_t last
        self.count -= 1
        last = self.members[self.count]
        if last != slot:
            self.members[place] = last
            rows[last].place = place
        rows[slot].place = NO_PLACE

    cdef int weigh(self, uint32_t slot, double weight) except -1:
        self.table.rows[slot].weight = weight
        return 0

    cdef void rank(self, uint32_t slot, uint32_t rank) noexcept:
        pass

    cdef int64_t choose(self, const Wish* wish) except? -9:
        return NOT_THERE

    cdef void charged(self, uint32_t slot) noexcept:
        pass

    cdef void released(self, uint32_t slot) noexcept:
        pass

    cdef void answered(self, uint32_t slot, int outcome, double latency) noexcept:
        pass

    @cython.final
    cdef void exchange(self, uint32_t one, uint32_t other) noexcept:
        cdef uint32_t a = self.members[one]
        cdef uint32_t b = self.members[other]
        self.members[one] = b
        self.members[other] = a
        self.table.rows[a].place = other
        self.table.rows[b].place = one

    @cython.final
    cdef int64_t scan(self, const Wish* wish, uint32_t place) noexcept:
        cdef uint32_t i, at = place
        for i in range(self.count):
            if at >= self.count:
                at = 0
            if admits(wish, &self.table.rows[self.members[at]]):
                return self.members[at]
            at += 1
        return NOT_THERE


cdef class Heap(View):
    cdef void join(self, uint32_t slot) noexcept:
        View.join(self, slot)
        self.rise(self.count - 1)

    cdef void leave(self, uint32_t slot) noexcept:
        cdef uint32_t place = self.table.rows[slot].place
        View.leave(self, slot)
        if place < self.count:
            self.settle(self.members[place])

    @cython.final
    cdef void settle(self, uint32_t slot) noexcept:
        self.rise(self.table.rows[slot].place)
        self.sink(self.table.rows[slot].place)

    @cython.final
    cdef void rise(self, uint32_t place) noexcept:
        cdef Row* rows = self.table.rows
        cdef uint32_t slot = self.members[place]
        cdef uint32_t above
        while place:
            above = self.members[(place - 1) // 2]
            if not goes_before(&rows[slot], &rows[above]):
                break
            self.members[place] = above
            rows[above].place = place
            place = (place - 1) // 2
        self.members[place] = slot
        rows[slot].place = place

    @cython.final
    cdef void sink(self, uint32_t place) noexcept:
        cdef Row* rows = self.table.rows
        cdef uint32_t slot = self.members[place]
        cdef uint32_t child = 2 * place + 1
        while child < self.count:
            if child + 1 < self.count and goes_before(&rows[self.members[child + 1]], &rows[self.members[child]]):
                child += 1
            if not goes_before(&rows[self.members[child]], &rows[slot]):
                break
            self.members[place] = self.members[child]
            rows[self.members[place]].place = place
            place = child
            child = 2 * place + 1
        self.members[place] = slot
        rows[slot].place = place

    @cython.final
    cdef int64_t least(self, const Wish* wish) noexcept:
        cdef Row* rows = self.table.rows
        cdef int64_t best = NOT_THERE
        cdef uint32_t place, slot
        if not wish.filtered:
            return <int64_t>self.members[0] if self.count else NOT_THERE
        for place in range(self.count):
            slot = self.members[place]
            if admits(wish, &rows[slot]) and (best == NOT_THERE or goes_before(&rows[slot], &rows[best])):
                best = slot
        return best
