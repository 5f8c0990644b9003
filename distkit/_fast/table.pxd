"""Rows, wishes, the generator and the base of views for the other kernels: see `distkit._fast.pure.table`."""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

cdef enum:
    SLOT_COUNT_MAX = 0x100000
    IN_FLIGHT_FULL = 16  # SATURATED_FLAG
    GONE = 0x10000  # REMOVED
    NOT_THERE = -1  # NOBODY

    C_OK = 0
    C_CONNECT_FAIL = 3
    C_CANCELLED = 4
    C_OVERLOAD = 5

cdef extern from *:
    """
    #define NO_PLACE UINT32_C(0xFFFFFFFF)
    #define DRAW_STEP UINT64_C(0x9E3779B97F4A7C15)
    #define DRAW_FIRST UINT64_C(0xBF58476D1CE4E5B9)
    #define DRAW_SECOND UINT64_C(0x94D049BB133111EB)
    """
    const uint32_t NO_PLACE
    const uint64_t DRAW_STEP
    const uint64_t DRAW_FIRST
    const uint64_t DRAW_SECOND


cdef struct Row:
    double weight
    uint64_t labels
    double latency_sum
    double current
    double effective
    double latency
    double stamp
    uint64_t turn
    uint32_t flags
    uint32_t active
    uint32_t limit
    uint32_t generation
    uint32_t place
    uint32_t view
    uint32_t barred
    uint32_t successes
    uint32_t failures
    uint32_t streak


cdef struct Wish:
    uint64_t hashed
    uint64_t labels
    int64_t priority
    uint32_t attempt
    uint32_t serial
    bint keyed
    bint filtered


cdef inline Wish plain_wish(bint keyed, uint64_t hashed) noexcept nogil:
    return Wish(hashed=hashed, labels=0, priority=-1, attempt=0, serial=0, keyed=keyed, filtered=False)


cdef inline bint admits(const Wish* wish, const Row* row) noexcept nogil:
    return not wish.filtered or (row.barred != wish.serial and row.labels & wish.labels == wish.labels)


cdef class Table:
    cdef Row* rows
    cdef uint32_t* free_slots
    cdef uint32_t free_count
    cdef uint32_t capacity
    cdef readonly uint32_t count  # slots that were ever used
    cdef readonly uint64_t seed
    cdef readonly double now
    cdef readonly int64_t outstanding

    cdef int64_t new_row(self) except -1
    cdef void free_row(self, uint32_t slot) noexcept
    cdef int reserve(self, uint32_t capacity) except -1


@cython.overflowcheck(False)
cdef inline uint64_t draw(Table table) noexcept:
    cdef uint64_t mixed
    table.seed += DRAW_STEP
    mixed = (table.seed ^ table.seed >> 30) * DRAW_FIRST
    mixed = (mixed ^ mixed >> 27) * DRAW_SECOND
    return mixed ^ mixed >> 31


cdef inline uint32_t below(Table table, uint32_t count) noexcept:
    return <uint32_t>((draw(table) >> 32) * count >> 32)


cdef inline double unit(Table table) noexcept:
    return <double>(draw(table) >> 11) * (1.0 / 9007199254740992.0)


cdef class View:
    cdef Table table
    cdef uint32_t* members
    cdef uint32_t capacity
    cdef uint32_t count
    cdef uint32_t placed
    cdef uint32_t index
    cdef uint32_t mask
    cdef int64_t active
    cdef bint watches  # `charged`, `released` and `answered` do something

    cdef size_t taken(self) noexcept
    cdef int room(self, uint32_t count) except -1
    cdef int place(self, uint32_t slot) except -1
    cdef int unplace(self, uint32_t slot) except -1
    cdef int start(self) except -1
    cdef void join(self, uint32_t slot) noexcept
    cdef void leave(self, uint32_t slot) noexcept
    cdef int weigh(self, uint32_t slot, double weight) except -1
    cdef void rank(self, uint32_t slot, uint32_t rank) noexcept
    cdef int64_t choose(self, const Wish* wish) except? -9
    cdef void charged(self, uint32_t slot) noexcept
    cdef void released(self, uint32_t slot) noexcept
    cdef void answered(self, uint32_t slot, int outcome, double latency) noexcept
    @cython.final
    cdef void exchange(self, uint32_t one, uint32_t other) noexcept
    @cython.final
    cdef int64_t scan(self, const Wish* wish, uint32_t place) noexcept


cdef class Heap(View):
    @cython.final
    cdef void settle(self, uint32_t slot) noexcept
    @cython.final
    cdef void rise(self, uint32_t place) noexcept
    @cython.final
    cdef void sink(self, uint32_t place) noexcept
    @cython.final
    cdef int64_t least(self, const Wish* wish) noexcept


cdef inline bint goes_before(const Row* one, const Row* other) noexcept nogil:
    return one.current < other.current or (one.current == other.current and one.turn < other.turn)
