"""Policies that go by hashes: see `distkit._fast.pure.hashed`."""

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

from distkit._fast.hashing cimport Order
from distkit._fast.table cimport View, Wish


@cython.final
cdef class Hashed(View):
    cdef readonly int64_t rebuilt
    cdef object build
    cdef object keys
    cdef bint by_key
    cdef bint weighted
    cdef double bound
    cdef uint32_t* in_order  # rows of the view as they came
    cdef uint32_t* slots
    cdef Order order
    cdef double weight
    cdef int rebuild(self) except -1
    cdef double room_for_all(self) noexcept
