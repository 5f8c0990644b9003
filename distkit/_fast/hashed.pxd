"""Policies that go by hashes: see `distkit._fast.pure.hashed`."""

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

from distkit._fast.hashing cimport Order
from distkit._fast.table cimport Row, View, Wish


# What is asked about candidates.
cdef struct Judge:
    Row* rows
    uint32_t* slots
    const Wish* wish
    uint64_t bound  # 0: loads are not bounded
    double weight  # of all members
    bint envoy


@cython.final
cdef class Hashed(View):
    cdef readonly int64_t rebuilt
    cdef object build
    cdef object keys
    cdef bint by_key
    cdef bint weighted
    cdef uint32_t factor
    cdef int rule
    cdef int changes
    cdef uint32_t* in_order  # rows of the view as they came
    cdef uint32_t* slots
    cdef uint32_t span  # room of `slots` and `scratch`
    cdef uint32_t* scratch
    cdef Order order
    cdef double weight
    cdef int64_t load
    cdef int rebuild(self) except -1
    cdef int span_room(self, uint32_t span) except -1
    cdef uint64_t bound_now(self) noexcept
