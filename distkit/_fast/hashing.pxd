"""What other kernels call of the hashing kernel in C. Positions are those in the list that the order was made of.

    cdef Order order = ...                          # any class of distkit._fast.hashing with a lookup
    position = order.place(hashed, 0)               # the owner of a hash
    position = order.first(hashed, accept, &state)  # the first candidate that `accept` takes, -1 if it takes nobody

`accept` may be asked about a candidate any number of times and must answer alike during one call. A call in which it
takes nobody looks at everybody (a ring: at every point), so ask only while somebody can be taken.
"""

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

ctypedef bint (*Accept)(void* state, uint32_t position) noexcept nogil


cdef class Order:
    cdef readonly uint32_t count  # endpoints
    cdef readonly uint32_t span  # positions are below it; the count, but for an Anchor
    cdef uint32_t* ranks  # in what order `first` asks who is left at last; NULL: by position

    cdef uint32_t place(self, uint64_t hashed, uint32_t attempt) noexcept nogil

    cdef int64_t first(self, uint64_t hashed, Accept accept, void* state) noexcept nogil


@cython.final
cdef class Ring(Order):
    cdef readonly uint32_t size
    cdef uint64_t* points  # rising
    cdef uint32_t* owners  # by point
    cdef uint32_t* starts  # by the leading bits of a hash: the first point that has these or larger ones
    cdef uint64_t mask  # the bits of a hash that count
    cdef int shift  # what is left of a hash without the others is its place in `starts`

    cdef uint32_t successor(self, uint64_t hashed) noexcept nogil


@cython.final
cdef class Maglev(Order):
    cdef readonly uint32_t size
    cdef uint32_t* table
