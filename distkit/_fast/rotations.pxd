"""The policies that take turns: see `distkit._fast.pure.rotations`."""

cimport cython
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from distkit._fast.table cimport Heap, View


@cython.final
cdef class RoundRobin(View):
    cdef bint random_phase
    cdef bint started
    cdef uint32_t cursor
    cdef uint64_t round


@cython.final
cdef class Smooth(View):
    cdef double max_fails


@cython.final
cdef class Stride(View):
    cdef bint clamp
    cdef bint random_phase
    cdef bint dirty
    cdef bint changed
    cdef uint32_t sequence
    cdef uint16_t* scaled
    cdef void scale(self) noexcept
    cdef double weight_at(self, uint32_t place) noexcept


@cython.final
cdef class EarliestDeadline(Heap):
    cdef double bias
    cdef bint random_phase
    cdef bint started
    cdef double time
    cdef uint64_t turns
    cdef bint has(self, uint32_t slot) noexcept


@cython.final
cdef class FirstAvailable(Heap):
    pass
