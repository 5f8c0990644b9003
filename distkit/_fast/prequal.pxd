"""Prequal for other kernels: see `distkit._fast.pure.prequal`. A simulator takes probes and brings answers in C."""

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

from distkit._fast.table cimport View, Wish

cdef enum:
    POOL_SIZE_MAX = 64
    RECENT_COUNT = 128
    PENDING_COUNT_MAX = 64


cdef struct Answer:
    double latency
    double at
    int64_t in_flight
    uint32_t slot
    uint32_t uses


@cython.final
cdef class Prequal(View):
    cdef double probes
    cdef double removals
    cdef uint32_t pool_size
    cdef uint32_t pool_min
    cdef double age
    cdef double quantile
    cdef double delta
    cdef Answer[POOL_SIZE_MAX] pool
    cdef readonly uint32_t pooled
    cdef uint32_t[RECENT_COUNT] recent
    cdef uint32_t[RECENT_COUNT] ranked
    cdef uint32_t recent_count
    cdef uint32_t recent_at
    cdef int64_t[PENDING_COUNT_MAX] waiting  # handles to probe, the oldest first
    cdef readonly uint32_t pending
    cdef double probe_credit
    cdef double removal_credit
    cdef bint remove_worst

    cdef bint answered_probe(self, int64_t handle, uint64_t in_flight, double latency) noexcept
    cdef bint is_member(self, uint32_t slot) noexcept
    cdef uint32_t uses(self) noexcept
    cdef int64_t threshold(self) noexcept
    cdef int64_t best(self, const Wish* wish) noexcept
    cdef void forget(self, uint32_t i) noexcept
    cdef void remove(self) noexcept
    cdef void ask(self) noexcept
