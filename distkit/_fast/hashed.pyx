"""Policies that go by hashes: see `distkit._fast.pure.hashed`, the specification of this kernel."""

cimport cython
from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc

from distkit._fast.bounded cimport bound_of, envoy_cap, envoy_choice, exact_cap
from distkit._fast.hashing cimport Order
from distkit._fast.table cimport NO_PLACE, NOT_THERE, Row, Table, View, Wish, admits, draw

from distkit._fast.bounded import ENVOY, EXACT, FACTOR_MAX
from distkit.core.errors import LocalError

REBUILD = 0
SET_WEIGHT = 1
BUCKETS = 2

cdef enum:
    C_REBUILD = 0
    C_SET_WEIGHT = 1
    C_BUCKETS = 2
    C_ENVOY = 2


@cython.final
cdef class Hashed(View):
    def __init__(
        self,
        Table table not None,
        build,
        keys,
        bint by_key=True,
        bint weighted=True,
        factor=0,
        rule=EXACT,
        changes=REBUILD,
    ):
        View.__init__(self, table)
        if factor and not 100 <= factor <= FACTOR_MAX:
            raise LocalError(f"a bound must be 0 (none) or 100 to {FACTOR_MAX} per cent, not {factor}")
        if rule not in (EXACT, ENVOY) or not REBUILD <= changes <= BUCKETS:
            raise LocalError(f"there is no rule {rule} for bounds, or no kind {changes} of order")
        self.build = build
        self.keys = keys
        self.by_key = by_key
        self.weighted = weighted
        self.factor = factor
        self.rule = rule
        self.changes = changes
        self.weight = -1.0
        self.watches = True

    def __dealloc__(self):
        free(self.in_order)
        free(self.slots)
        free(self.scratch)

    cdef int room(self, uint32_t count) except -1:
        cdef void* grown
        View.room(self, count)
        grown = realloc(self.in_order, self.capacity * sizeof(uint32_t))
        if grown is NULL:
            raise MemoryError
        self.in_order = <uint32_t*>grown
        return 0

    cdef size_t taken(self) noexcept:
        return (2 * self.capacity + self.span) * sizeof(uint32_t)

    cdef int span_room(self, uint32_t span) except -1:
        """Have places for so many positions."""
        cdef void* grown
        if span > self.span:
            grown = realloc(self.slots, span * sizeof(uint32_t))
            if grown is NULL:
                raise MemoryError
            self.slots = <uint32_t*>grown
            if self.factor and self.rule == C_ENVOY:
                grown = realloc(self.scratch, span * sizeof(uint32_t))
                if grown is NULL:
                    raise MemoryError
                self.scratch = <uint32_t*>grown
            self.span = span
        return 0

    cdef int place(self, uint32_t slot) except -1:
        cdef uint32_t position
        cdef Order order
        if self.changes == C_BUCKETS:
            if self.order is None:
                order = self.build([self.keys[slot]], [self.table.rows[slot].weight])
                self.span_room(order.span)
                for position in range(order.span):
                    self.slots[position] = slot
                self.order = order
                self.table.rows[slot].current = 0
            else:
                position = (<object>self.order).add()
                self.slots[position] = slot
                self.table.rows[slot].current = position
        else:
            self.order = None
        View.place(self, slot)
        self.table.rows[slot].turn = self.placed - 1
        self.in_order[self.placed - 1] = slot
        return 0

    cdef int unplace(self, uint32_t slot) except -1:
        cdef Row* row = &self.table.rows[slot]
        cdef uint32_t last
        View.unplace(self, slot)
        last = self.in_order[self.placed]
        if last != slot:
            self.in_order[row.turn] = last
            self.table.rows[last].turn = row.turn
        if self.changes == C_BUCKETS and self.placed:
            (<object>self.order).remove(<uint32_t>row.current)
        else:
            self.order = None
        return 0

    cdef void join(self, uint32_t slot) noexcept:
        View.join(self, slot)
        self.weight = -1.0
        self.load += self.table.rows[slot].active

    cdef void leave(self, uint32_t slot) noexcept:
        View.leave(self, slot)
        self.weight = -1.0
        self.load -= self.table.rows[slot].active

    cdef void charged(self, uint32_t slot) noexcept:
        self.load += self.table.rows[slot].place != NO_PLACE

    cdef void released(self, uint32_t slot) noexcept:
        self.load -= self.table.rows[slot].place != NO_PLACE

    cdef int weigh(self, uint32_t slot, double weight) except -1:
        cdef Row* row = &self.table.rows[slot]
        row.weight = weight
        self.weight = -1.0
        if self.changes == C_SET_WEIGHT and self.order is not None:
            (<object>self.order).set_weight(<uint32_t>row.current, weight)
        elif self.weighted and self.changes == C_REBUILD:
            self.order = None
        return 0

    cdef int64_t choose(self, const Wish* wish) except? -9:
        cdef Judge judge
        cdef uint64_t hashed
        cdef uint32_t i
        cdef int64_t position, open_one = NOT_THERE
        if not self.count:
            return NOT_THERE
        if self.order is None:
            self.rebuild()
        hashed = wish.hashed if wish.keyed else draw(self.table)
        judge.rows = self.table.rows
        judge.slots = self.slots
        judge.wish = wish
        judge.bound = self.bound_now() if self.factor else 0
        judge.weight = self.weight
        judge.envoy = self.rule == C_ENVOY
        if judge.bound and judge.envoy:
            position = envoy_choice(self.order, hashed, wish.attempt, overload, &judge, self.scratch)
            return <int64_t>self.slots[position] if position >= 0 else NOT_THERE
        position = self.order.place(hashed, wish.attempt)
        if accepts(&judge, <uint32_t>position):
            return self.slots[position]
        for i in range(self.count):
            if takes(&judge, self.members[i]):
                open_one = self.members[i]
                break
        if open_one == NOT_THERE and judge.bound:
            judge.bound = 0
            open_one = self.scan(wish, 0)
        if open_one == NOT_THERE:
            return NOT_THERE
        position = self.order.first(hashed, accepts, &judge)
        return <int64_t>self.slots[position] if position >= 0 else open_one

    cdef uint64_t bound_now(self) noexcept:
        cdef uint32_t i
        if self.weight < 0:
            self.weight = 0.0
            for i in range(self.count):
                self.weight += self.table.rows[self.members[i]].weight
        return bound_of(<uint64_t>self.load, self.factor)

    cdef int rebuild(self) except -1:
        cdef uint32_t i
        cdef Order order
        cdef list slots = [self.in_order[i] for i in range(self.placed)]
        cdef list weights = []
        if self.by_key:
            slots.sort(key=self.keys.__getitem__)
        for slot in slots:
            weights.append(self.table.rows[<uint32_t>slot].weight)
        order = self.build([self.keys[slot] for slot in slots], weights)
        if order.span != <uint32_t>len(slots):
            raise LocalError(f"an order of {len(slots)} keys must have as many positions, not {order.span}")
        self.span_room(order.span)
        for i in range(self.placed):
            self.slots[i] = slots[i]
            self.table.rows[self.slots[i]].current = i
        self.order = order
        self.rebuilt += 1
        return 0


cdef bint accepts(void* state, uint32_t position) noexcept nogil:
    return takes(<const Judge*>state, (<const Judge*>state).slots[position])


cdef double overload(void* state, uint32_t position) noexcept nogil:
    cdef const Judge* judge = <const Judge*>state
    cdef const Row* row = &judge.rows[judge.slots[position]]
    if row.place == NO_PLACE or not admits(judge.wish, row):
        return INFINITY
    return row.active / <double>envoy_cap(judge.bound, row.weight / judge.weight)


cdef inline bint takes(const Judge* judge, uint32_t slot) noexcept nogil:
    cdef const Row* row = &judge.rows[slot]
    if row.place == NO_PLACE or not admits(judge.wish, row):
        return False
    return judge.bound == 0 or row.active < exact_cap(judge.bound, row.weight, judge.weight)
