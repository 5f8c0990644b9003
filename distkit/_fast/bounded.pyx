"""Bounded loads over any order of hashing: see `distkit._fast.pure.bounded`, the specification of this kernel."""

cimport cython
from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from distkit._fast.hashing cimport Order, hash_of, made, number_of, weights_of

from distkit.core.errors import LocalError

FACTOR_MAX = 1_000_000
HAPROXY_WEIGHTS_MAX = 0x7FFFFFFF
EXACT = 0
HAPROXY = 1
ENVOY = 2

cdef enum:
    C_EXACT = 0
    C_HAPROXY = 1
    C_ENVOY = 2

    MT_WORDS = 624
    MT_MIDDLE = 397

    EXCLUDED = 1
    CLOSED = 2


def overflow_order(hashed, count):
    cdef uint64_t key = hash_of("hash", hashed)
    cdef uint32_t size = <uint32_t>number_of("count", count, 1, 0x100000)
    cdef uint32_t* positions = <uint32_t*>zeros(size, sizeof(uint32_t))
    cdef uint32_t at
    cdef Twister twister
    cdef list found = []
    start_twister(&twister, <uint32_t>key)
    try:
        for at in range(size):
            positions[at] = at
        for at in range(size):
            found.append(next_in_overflow(&twister, positions, at, size))
    finally:
        free(positions)
    return found


cdef struct Twister:
    uint32_t[MT_WORDS] words
    uint32_t at


@cython.overflowcheck(False)
cdef void start_twister(Twister* twister, uint32_t seed) noexcept nogil:
    cdef uint32_t number
    twister.words[0] = seed
    for number in range(1, <uint32_t>MT_WORDS):
        seed = 1812433253 * (seed ^ seed >> 30) + number
        twister.words[number] = seed
    twister.at = MT_WORDS


@cython.overflowcheck(False)
cdef uint32_t next_of(Twister* twister) noexcept nogil:
    cdef uint32_t number, word
    if twister.at == MT_WORDS:
        for number in range(<uint32_t>MT_WORDS):
            word = twister.words[number] & 0x80000000U | twister.words[(number + 1) % MT_WORDS] & 0x7FFFFFFFU
            twister.words[number] = (
                twister.words[(number + MT_MIDDLE) % MT_WORDS] ^ word >> 1 ^ (0x9908B0DFU if word & 1 else 0U)
            )
        twister.at = 0
    word = twister.words[twister.at]
    twister.at += 1
    word ^= word >> 11
    word ^= word << 7 & 0x9D2C5680U
    word ^= word << 15 & 0xEFC60000U
    return word ^ word >> 18


cdef uint32_t next_in_overflow(Twister* twister, uint32_t* positions, uint32_t at, uint32_t count) noexcept nogil:
    """The position at this place of the order: one of those behind, which changes places with the one there."""
    cdef uint32_t left = count - at
    cdef uint64_t part = (<uint64_t>1 << 32) // left
    cdef uint32_t drawn, position
    while True:
        drawn = <uint32_t>(next_of(twister) // part)
        if drawn < left:
            break
    position = positions[at + drawn]
    positions[at + drawn] = positions[at]
    positions[at] = position
    return position


cdef int64_t envoy_choice(
    Order order, uint64_t hashed, uint32_t attempt, Overload overload, void* state, uint32_t* scratch
) noexcept nogil:
    cdef uint32_t owner = order.place(hashed, attempt)
    cdef uint32_t at, position
    cdef double load, lowest = overload(state, owner)
    cdef int64_t best = owner if lowest < INFINITY else -1
    cdef Twister twister
    if lowest <= 1.0:
        return owner
    start_twister(&twister, <uint32_t>hashed)
    for at in range(order.span):
        scratch[at] = at
    for at in range(order.span):
        position = next_in_overflow(&twister, scratch, at, order.span)
        if position == owner:
            continue
        load = overload(state, position)
        if load <= 1.0:
            return position
        if load < lowest:
            lowest, best = load, position
    return best


@cython.final
cdef class Bounded:
    def __init__(self, Order order not None, weights=None, factor=125, rule=EXACT):
        if self.active is not NULL:
            raise LocalError("it is made once")
        made(order)
        cdef uint32_t position
        cdef list taken = weights_of(weights, order.span)
        self.rule = <int>number_of("rule", rule, C_EXACT, C_ENVOY)
        self.factor = <uint32_t>number_of("factor", factor, 100, FACTOR_MAX)
        if self.rule == C_HAPROXY:
            check_haproxy(taken)
        self.weights = <double*>zeros(order.span, sizeof(double))
        self.before = <double*>zeros(order.span, sizeof(double))
        self.closed = <unsigned char*>zeros(order.span, 1)
        self.scratch = <uint32_t*>zeros(order.span, sizeof(uint32_t))
        self.active = <uint64_t*>zeros(order.span, sizeof(uint64_t))
        for position in range(order.span):
            self.weights[position] = taken[position]
            self.closed[position] = 0 if order.holds(position) else CLOSED
        self.order = order
        add_up(self)

    def __dealloc__(self):
        free(self.weights)
        free(self.before)
        free(self.closed)
        free(self.scratch)
        free(self.active)

    def active_at(self, position):
        return self.active[checked(self, position)]

    def cap(self, position):
        cdef uint32_t at = checked(self, position)
        if self.closed[at]:
            return 0
        return cap_of(self, at, bound_of(self.total, self.factor))

    def is_open(self, position):
        return not self.closed[checked(self, position)]

    def close(self, position):
        self.closed[checked(self, position)] = CLOSED
        add_up(self)

    def open(self, position):
        self.closed[checked(self, position)] = 0
        add_up(self)

    def pick(self, hashed, exclude=()):
        cdef uint64_t key = hash_of("hash", hashed)
        cdef list excluded = [checked(self, position) for position in exclude]
        cdef uint32_t position
        cdef int64_t found
        if self.order is None:
            raise LocalError("it was not made")
        for position in excluded:
            self.closed[position] |= EXCLUDED
        found = find(self, key)
        for position in excluded:
            self.closed[position] &= ~EXCLUDED
        if found >= 0:
            self.active[found] += 1
            self.total += 1
        return found

    def done(self, position):
        cdef uint32_t at = checked(self, position)
        if not self.active[at]:
            raise LocalError(f"nothing is in flight at {at}")
        self.active[at] -= 1
        if not self.closed[at]:
            self.total -= 1


cdef struct Asked:
    const double* weights
    const double* before
    const uint64_t* active
    const unsigned char* closed
    double weights_sum
    uint64_t bound
    int rule


cdef uint64_t cap_at(const Asked* asked, uint32_t position) noexcept nogil:
    cdef double weight = asked.weights[position]
    if asked.rule == C_EXACT:
        return exact_cap(asked.bound, weight, asked.weights_sum)
    if asked.rule == C_ENVOY:
        return envoy_cap(asked.bound, weight / asked.weights_sum)
    return haproxy_cap(
        asked.bound, <uint64_t>weight, <uint64_t>asked.before[position], <uint64_t>asked.weights_sum
    )


cdef bint is_below(void* state, uint32_t position) noexcept nogil:
    cdef const Asked* asked = <const Asked*>state
    return not asked.closed[position] and asked.active[position] < cap_at(asked, position)


cdef double overload_of(void* state, uint32_t position) noexcept nogil:
    cdef const Asked* asked = <const Asked*>state
    if asked.closed[position]:
        return INFINITY
    return <double>asked.active[position] / <double>cap_at(asked, position)


cdef Asked asked_of(Bounded self, uint64_t bound) noexcept:
    cdef Asked asked
    asked.weights, asked.before = self.weights, self.before
    asked.active, asked.closed = self.active, self.closed
    asked.weights_sum, asked.bound, asked.rule = self.weights_sum, bound, self.rule
    return asked


cdef uint64_t cap_of(Bounded self, uint32_t position, uint64_t bound) noexcept:
    cdef Asked asked = asked_of(self, bound)
    return cap_at(&asked, position)


cdef int64_t find(Bounded self, uint64_t hashed) noexcept:
    cdef Asked asked = asked_of(self, bound_of(self.total, self.factor))
    if asked.rule == C_ENVOY:
        return envoy_choice(self.order, hashed, 0, overload_of, &asked, self.scratch)
    return self.order.first(hashed, is_below, &asked)


cdef int add_up(Bounded self) except -1:
    """The sums over those that are open."""
    cdef uint32_t position
    self.total = 0
    self.weights_sum = 0.0
    for position in range(self.order.span):
        self.before[position] = self.weights_sum
        if not self.closed[position]:
            self.weights_sum += self.weights[position]
            self.total += self.active[position]
    return 0


cdef int check_haproxy(list weights) except -1:
    for position, weight in enumerate(weights):
        if weight != int(weight):
            raise LocalError(f"weight {position} is {weight}: weights of HAProxy are whole numbers")
    if sum(weights) > HAPROXY_WEIGHTS_MAX:
        raise LocalError(f"the sum of weights is above {HAPROXY_WEIGHTS_MAX}")
    return 0


cdef uint32_t checked(Bounded self, object position) except? 0xFFFFFFFF:
    if self.order is None:
        raise LocalError("it was not made")
    return <uint32_t>number_of("position", position, 0, self.order.span - 1)


cdef void* zeros(uint64_t count, size_t size) except NULL:
    cdef void* memory = calloc(count, size)
    if memory is NULL:
        raise MemoryError
    return memory
