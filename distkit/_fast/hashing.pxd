"""What other kernels call of the hashing kernel in C. Positions are those in the list that the order was made of.

    cdef Order order = ...                          # any order of distkit._fast.hashing or distkit._fast.tableless
    position = order.place(hashed, 0)               # the owner of a hash
    position = order.first(hashed, accept, &state)  # the first candidate that `accept` takes, -1 if it takes nobody

`accept` may be asked about a candidate any number of times and must answer alike during one call. A call in which it
takes nobody looks at everybody (a ring: at every point), so ask only while somebody can be taken.
"""

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

from distkit._fast.points cimport Points

ctypedef bint (*Accept)(void* state, uint32_t position) noexcept nogil


cdef class Order:
    cdef readonly uint32_t count  # endpoints
    cdef readonly uint32_t span  # positions are below it; the count, but for an Anchor
    cdef uint32_t* ranks  # in what order `first` asks who is left at last; NULL: by position

    cdef bint holds(self, uint32_t position) noexcept nogil

    cdef uint32_t place(self, uint64_t hashed, uint32_t attempt) noexcept nogil

    cdef int64_t first(self, uint64_t hashed, Accept accept, void* state) noexcept nogil


@cython.final
cdef class Ring(Order):
    cdef Points points


@cython.final
cdef class Maglev(Order):
    cdef readonly uint32_t size
    cdef uint32_t* table


# What the other kernels of orders share.

cdef int made(Order order) except -1

cdef list names_of(object keys)

cdef list weights_of(object weights, Py_ssize_t count)

cdef uint64_t hash_of(str name, object value) except? 0xDEADBEEF

cdef int64_t number_of(str name, object value, int64_t smallest, int64_t largest) except? -1
