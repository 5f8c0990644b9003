"""Policies that go by hashes: see `distkit._fast.pure.hashed`, the specification of this kernel."""

cimport cython
from libc.math cimport ceil
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc

from distkit._fast.hashing cimport Order
from distkit._fast.table cimport NO_PLACE, NOT_THERE, Row, Table, View, Wish, admits, draw

from distkit.core.errors import LocalError


cdef struct Judge:
    Row* rows
    uint32_t* slots
    const Wish* wish
    double room  # 0: loads are not bounded
    double weight


@cython.final
cdef class Hashed(View):
    def __init__(
        self, Table table not None, build, keys, bint by_key=True, bint weighted=True, double bound=0.0
    ):
        View.__init__(self, table)
        if bound != 0 and not 1 < bound <= 1e6:
            raise LocalError(f"a bound must be 0 (none) or more than 1, not {bound!r}")
        self.build = build
        self.keys = keys
        self.by_key = by_key
        self.weighted = weighted
        self.bound = bound
        self.weight = -1.0

    def __dealloc__(self):
        free(self.in_order)
        free(self.slots)

    cdef int room(self, uint32_t count) except -1:
        cdef void* grown
        View.room(self, count)
        grown = realloc(self.in_order, self.capacity * sizeof(uint32_t))
        if grown is NULL:
            raise MemoryError
        self.in_order = <uint32_t*>grown
        grown = realloc(self.slots, self.capacity * sizeof(uint32_t))
        if grown is NULL:
            raise MemoryError
        self.slots = <uint32_t*>grown
        return 0

    cdef int place(self, uint32_t slot) except -1:
        View.place(self, slot)
        self.table.rows[slot].turn = self.placed - 1
        self.in_order[self.placed - 1] = slot
        self.order = None
        return 0

    cdef void unplace(self, uint32_t slot) noexcept:
        cdef uint32_t place = <uint32_t>self.table.rows[slot].turn
        cdef uint32_t last
        View.unplace(self, slot)
        last = self.in_order[self.placed]
        if last != slot:
            self.in_order[place] = last
            self.table.rows[last].turn = place
        self.order = None

    cdef void join(self, uint32_t slot) noexcept:
        View.join(self, slot)
        self.weight = -1.0

    cdef void leave(self, uint32_t slot) noexcept:
        View.leave(self, slot)
        self.weight = -1.0

    cdef void weigh(self, uint32_t slot, double weight) noexcept:
        self.table.rows[slot].weight = weight
        self.weight = -1.0
        if self.weighted:
            self.order = None

    cdef int64_t choose(self, const Wish* wish) except? -9:
        cdef Judge judge
        cdef uint64_t hashed
        cdef uint32_t position, i
        if not self.count:
            return NOT_THERE
        if self.order is None:
            self.rebuild()
        hashed = wish.hashed if wish.keyed else draw(self.table)
        judge.rows = self.table.rows
        judge.slots = self.slots
        judge.wish = wish
        judge.room = self.room_for_all() if self.bound else 0.0
        judge.weight = self.weight
        position = self.order.place(hashed, wish.attempt)
        if accepts(&judge, position):
            return self.slots[position]
        for i in range(self.count):
            if takes(&judge, self.members[i]):
                break
        else:
            judge.room = 0.0
            if not self.bound or self.scan(wish, 0) == NOT_THERE:
                return NOT_THERE
        return self.slots[self.order.first(hashed, accepts, &judge)]

    cdef double room_for_all(self) noexcept:
        cdef uint32_t i
        if self.weight < 0:
            self.weight = 0.0
            for i in range(self.count):
                self.weight += self.table.rows[self.members[i]].weight
        return ceil(self.bound * (self.active + 1.0))

    cdef int rebuild(self) except -1:
        cdef uint32_t i
        cdef Order order
        cdef list slots = [self.in_order[i] for i in range(self.placed)]
        if self.by_key:
            slots.sort(key=self.keys.__getitem__)
        order = self.build([self.keys[slot] for slot in slots], [self.table.rows[<uint32_t>slot].weight for slot in slots])
        if order.span != len(slots):
            raise LocalError(f"an order of {len(slots)} keys must have as many positions, not {order.span}")
        for i in range(self.placed):
            self.slots[i] = slots[i]
        self.order = order
        self.rebuilt += 1
        return 0


cdef bint accepts(void* state, uint32_t position) noexcept nogil:
    return takes(<const Judge*>state, (<const Judge*>state).slots[position])


cdef inline bint takes(const Judge* judge, uint32_t slot) noexcept nogil:
    cdef const Row* row = &judge.rows[slot]
    if row.place == NO_PLACE or not admits(judge.wish, row):
        return False
    return judge.room == 0 or row.active < max(1.0, ceil(row.weight * judge.room / judge.weight))
