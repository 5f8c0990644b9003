"""Consistent hashing without a table: see `distkit._fast.pure.tableless`, the specification of this kernel."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from distkit._fast.hashes cimport (
    attempted,
    distance_of,
    jump_of,
    mix_of,
    negative_log,
    rehashed,
    unit_of,
    xxh64_of,
)
from distkit._fast.hashing cimport Accept, Order, hash_of, made, names_of, number_of, weights_of
from distkit._fast.points cimport Points, points_allocate, points_find, points_free, points_next, points_sort

from distkit._fast.hashing import ENDPOINTS_MAX as _ENDPOINTS_MAX
from distkit._fast.hashing import WEIGHT_MAX as _WEIGHT_MAX
from distkit._fast.hashing import WEIGHT_MIN as _WEIGHT_MIN
from distkit.core.errors import LocalError

PROBES_MAX = 1 << 10


def jump(hashed, count):
    return jump_of(hash_of("hash", hashed), <uint32_t>number_of("count", count, 1, 0x7FFFFFFF))


@cython.final
cdef class Rendezvous(Order):
    cdef uint64_t* seeds  # by position
    cdef double* inverses  # of the weights; infinite where the weight is 0

    def __init__(self, keys, weights=None):
        if self.seeds is not NULL:
            raise LocalError("it is made once")
        cdef list names = names_of(keys)
        cdef list taken = weights_of(weights, len(names))
        cdef bytes name
        self.seeds = <uint64_t*>zeros(len(names), sizeof(uint64_t))
        self.inverses = <double*>zeros(len(names), sizeof(double))
        for position, name in enumerate(names):
            self.seeds[position] = xxh64_of(<const uint8_t*>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), 0)
            self.inverses[position] = 1.0 / taken[position]
        self.count = self.span = <uint32_t>len(names)

    def __dealloc__(self):
        free(self.seeds)
        free(self.inverses)

    def set_weight(self, position, weight):
        made(self)
        cdef uint32_t at = <uint32_t>number_of("position", position, 0, self.span - 1)
        if not (weight == 0 or _WEIGHT_MIN <= weight <= _WEIGHT_MAX):
            raise LocalError(f"the weight is {weight}: there may be 0, or 2^-32 to 2^32")
        cdef double taken = weight
        cdef double before = self.inverses[at]
        self.inverses[at] = 1.0 / taken if taken else INFINITY
        if self.first(0, anybody, NULL) < 0:
            self.inverses[at] = before
            raise LocalError("the last weight above 0 must stay")

    cdef bint holds(self, uint32_t position) noexcept nogil:
        return position < self.span and self.inverses[position] != INFINITY

    cdef uint32_t place(self, uint64_t hashed, uint32_t attempt) noexcept nogil:
        return <uint32_t>self.first(attempted(hashed, attempt), anybody, NULL)

    cdef int64_t first(self, uint64_t hashed, Accept accept, void* state) noexcept nogil:
        cdef int64_t best = -1
        cdef double lowest = INFINITY
        cdef double value, inverse, cost
        cdef uint32_t position
        for position in range(self.span):
            value = unit_of(mix_of(hashed ^ self.seeds[position]))
            inverse = self.inverses[position]
            if (1.0 - value) * inverse * 0.999999 > lowest:  # -ln(x) is at least 1 - x, which is enough for most
                continue
            cost = negative_log(value) * inverse
            if cost < lowest and accept(state, position):
                lowest, best = cost, position
        return best


cdef bint anybody(void* state, uint32_t position) noexcept nogil:
    return True


@cython.final
cdef class Jump(Order):
    def __init__(self, count):
        self.count = self.span = <uint32_t>number_of("count", count, 1, _ENDPOINTS_MAX)

    cdef uint32_t place(self, uint64_t hashed, uint32_t attempt) noexcept nogil:
        return jump_of(attempted(hashed, attempt), self.count)


@cython.final
cdef class Anchor(Order):
    # The arrays A, K and L of the paper, by bucket; its W is `ranks`, its N the count. `removed` is its stack R.
    cdef uint32_t* anchors
    cdef uint32_t* successors
    cdef uint32_t* places
    cdef uint32_t* removed

    def __init__(self, capacity, count):
        if self.ranks is not NULL:
            raise LocalError("it is made once")
        cdef uint32_t size = <uint32_t>number_of("capacity", capacity, 1, _ENDPOINTS_MAX)
        cdef uint32_t working = <uint32_t>number_of("count", count, 1, size)
        cdef uint32_t bucket
        self.ranks = <uint32_t*>zeros(size, sizeof(uint32_t))
        self.anchors = <uint32_t*>zeros(size, sizeof(uint32_t))
        self.successors = <uint32_t*>zeros(size, sizeof(uint32_t))
        self.places = <uint32_t*>zeros(size, sizeof(uint32_t))
        self.removed = <uint32_t*>zeros(size, sizeof(uint32_t))
        for bucket in range(size):
            self.ranks[bucket] = self.successors[bucket] = self.places[bucket] = bucket
        for bucket in range(size - 1, working - 1, -1):
            self.anchors[bucket] = bucket
            self.removed[size - 1 - bucket] = bucket
        self.span = size
        self.count = working

    def __dealloc__(self):
        free(self.anchors)
        free(self.successors)
        free(self.places)
        free(self.removed)

    def remove(self, bucket):
        made(self)
        cdef uint32_t at = <uint32_t>number_of("bucket", bucket, 0, self.span - 1)
        if self.anchors[at]:
            raise LocalError(f"bucket {at} is removed already")
        if self.count == 1:
            raise LocalError("the last bucket must stay")
        self.removed[self.span - self.count] = at
        self.count -= 1
        cdef uint32_t last = self.ranks[self.count]
        self.anchors[at] = self.count
        self.ranks[self.places[at]] = self.successors[at] = last
        self.places[last] = self.places[at]

    def add(self):
        made(self)
        if self.count == self.span:
            raise LocalError(f"all {self.span} buckets are there: make it with a larger capacity")
        cdef uint32_t at = self.removed[self.span - self.count - 1]
        self.anchors[at] = 0
        self.places[self.ranks[self.count]] = self.count
        self.ranks[self.places[at]] = self.successors[at] = at
        self.count += 1
        return at

    cdef bint holds(self, uint32_t position) noexcept nogil:
        return position < self.span and self.anchors[position] == 0

    cdef uint32_t place(self, uint64_t hashed, uint32_t attempt) noexcept nogil:
        cdef uint64_t key = attempted(hashed, attempt)
        cdef uint32_t bucket = <uint32_t>(mix_of(key) % self.span)
        cdef uint32_t following
        while self.anchors[bucket]:
            following = <uint32_t>(rehashed(key, bucket) % self.anchors[bucket])
            while self.anchors[following] >= self.anchors[bucket]:
                following = self.successors[following]
            bucket = following
        return bucket


@cython.final
cdef class MultiProbe(Order):
    cdef readonly uint32_t probes
    cdef Points points

    def __init__(self, keys, probes=21):
        cdef list names = names_of(keys)
        if self.count:
            raise LocalError("it is made once")
        cdef bytes name
        self.probes = <uint32_t>number_of("probes", probes, 1, PROBES_MAX)
        points_free(&self.points)
        if not points_allocate(&self.points, <uint32_t>len(names), 64):
            raise MemoryError
        for position, name in enumerate(names):
            self.points.hashes[position] = xxh64_of(<const uint8_t*>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), 0)
            self.points.owners[position] = position
        if not points_sort(&self.points):
            raise MemoryError
        self.count = self.span = <uint32_t>len(names)

    def __dealloc__(self):
        points_free(&self.points)

    cdef uint32_t place(self, uint64_t hashed, uint32_t attempt) noexcept nogil:
        return <uint32_t>self.first(attempted(hashed, attempt), anybody, NULL)

    cdef int64_t first(self, uint64_t hashed, Accept accept, void* state) noexcept nogil:
        cdef const Points* points = &self.points
        cdef int64_t best = -1
        cdef uint64_t probe, distance, nearest = 0
        cdef uint32_t number, at, seen
        for number in range(self.probes):
            probe = rehashed(hashed, number)
            at = points_find(points, probe)
            seen = 0
            while not accept(state, points.owners[at]):
                at = points_next(points, at)
                seen += 1
                if seen == points.size:
                    return -1
            distance = distance_of(probe, points.hashes[at])
            if best < 0 or distance < nearest:
                nearest, best = distance, points.owners[at]
        return best


cdef void* zeros(uint64_t count, size_t size) except NULL:
    cdef void* memory = calloc(count, size)
    if memory is NULL:
        raise MemoryError
    return memory
