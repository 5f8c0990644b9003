"""Bounds on load, for kernels that have counts of their own: see `distkit._fast.pure.bounded`.

    bound = bound_of(total, factor)               # of all together, with the request about to be made
    active < exact_cap(bound, weight, weights)    # may this one take it?
"""

cimport cython
from libc.math cimport ceil
from libc.stdint cimport int64_t, uint32_t, uint64_t

from distkit._fast.hashing cimport Order

# What an endpoint has in flight by what it may have; infinite for one that can't be taken at all.
ctypedef double (*Overload)(void* state, uint32_t position) noexcept nogil


cdef inline uint64_t bound_of(uint64_t total, uint32_t factor) noexcept nogil:
    return ((total + 1) * factor + 99) // 100


cdef inline uint64_t exact_cap(uint64_t bound, double weight, double weights) noexcept nogil:
    cdef uint64_t cap = <uint64_t>ceil(<double>bound * weight / weights)
    return cap if cap else 1


cdef inline uint64_t haproxy_cap(uint64_t bound, uint64_t weight, uint64_t before, uint64_t weights) noexcept nogil:
    """`before`: the sum of the weights of those in front of it in the list."""
    cdef uint64_t rest = bound % weights
    cdef uint64_t cap = weight * (bound // weights) + (before + weight) * rest // weights - before * rest // weights
    return cap if cap else 1


cdef inline uint64_t envoy_cap(uint64_t bound, double share) noexcept nogil:
    cdef uint64_t cap = <uint64_t>ceil(<double>bound * share)
    return cap if cap else 1


# Envoy's choice: the owner, else the first in its order of overflow whose load is at most 1, else the lowest load.
# `scratch` has room for the order's span; -1 if all loads are infinite.
cdef int64_t envoy_choice(
    Order order, uint64_t hashed, uint32_t attempt, Overload overload, void* state, uint32_t* scratch
) noexcept nogil


@cython.final
cdef class Bounded:
    cdef readonly Order order
    cdef readonly uint64_t total
    cdef uint32_t factor
    cdef int rule
    cdef double weights_sum  # of those that are open
    cdef double* weights
    cdef double* before  # by position: the weights of the open ones in front of it
    cdef uint64_t* active
    cdef unsigned char* closed
    cdef uint32_t* scratch
