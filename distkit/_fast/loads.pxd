"""Policies that draw or go by loads: see `distkit._fast.pure.loads`."""

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

from distkit._fast.table cimport Heap, Row, View, Wish


@cython.final
cdef class Uniform(View):
    pass


cdef class Weighted(View):
    cdef bint summed
    cdef double* sums
    cdef double total  # of all members
    cdef int64_t choose_filtered(self, const Wish* wish) noexcept
    @cython.final
    cdef void change(self, uint32_t place) noexcept
    @cython.final
    cdef void add_up(self, uint32_t node) noexcept
    @cython.final
    cdef double before(self, uint32_t place) noexcept
    @cython.final
    cdef uint32_t at(self, double number) noexcept


@cython.final
cdef class Choices(Weighted):
    cdef uint32_t choices
    cdef bint plain  # two different ones by requests in flight
    cdef bint replacement
    cdef int cost
    cdef double tau
    cdef double default_rtt
    cdef double failure_penalty
    cdef int64_t better_of_two(self, const Row* rows) noexcept
    cdef int64_t pass_over(self, uint32_t* places, uint32_t i, double total) noexcept
    cdef int64_t look_at_all(self, const Wish* wish) noexcept
    cdef double cost_of(self, Row* row) noexcept


@cython.final
cdef class LeastConnections(Heap):
    cdef int cost
    cdef bint by_chance
    cdef uint64_t turns
    cdef uint64_t next_turn(self) noexcept
    cdef void change(self, uint32_t slot) noexcept
    cdef void reckon(self, uint32_t slot) noexcept


@cython.final
cdef class LeastTime(View):
    cdef int64_t fail_timeout
    cdef int64_t take_turn(self, const Wish* wish, int64_t best, double least) noexcept
    cdef double cost_of(self, const Row* row) noexcept
