"""Sequences of values by number, equal ones under one: see `_Sequences` of `distkit._fast.pure.linear`.

All of it is compiled into the search kernel; there is no module behind this file.
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

cdef enum:
    SEQUENCE_BYTES = 32  # with two places of the table
    SEQUENCES_MIN = 64

cdef extern from *:
    """
    #define HASH_BASE UINT64_C(0x9E3779B97F4A7C15)
    """
    const uint64_t HASH_BASE


cdef struct Sequence:
    uint64_t hashed
    uint32_t before
    uint32_t last
    uint32_t length


cdef struct Sequences:
    Sequence* items  # by number; 0 is the empty one
    uint64_t count
    uint64_t capacity
    uint32_t* found  # numbers by hash, 0 where none is: twice as many places as there may be sequences


cdef inline bint sequences_grow(Sequences* all) noexcept:
    """Room for twice as many, or for the first ones; False if there is no memory."""
    cdef uint64_t capacity = 2 * all.capacity if all.capacity else SEQUENCES_MIN
    cdef Sequence* items = <Sequence*>calloc(capacity, sizeof(Sequence))
    cdef uint32_t* found = <uint32_t*>calloc(2 * capacity, sizeof(uint32_t))
    cdef uint64_t number, place
    if items is NULL or found is NULL:
        free(items)
        free(found)
        return False
    if all.items is not NULL:
        memcpy(items, all.items, all.count * sizeof(Sequence))
    sequences_free(all)
    all.items, all.found, all.capacity = items, found, capacity
    if all.count == 0:
        all.count = 1
    for number in range(1, all.count):
        place = mixed(items[number].hashed) & (2 * capacity - 1)
        while found[place]:
            place = (place + 1) & (2 * capacity - 1)
        found[place] = <uint32_t>number
    return True


cdef inline void sequences_free(Sequences* all) noexcept:
    free(all.items)
    free(all.found)


@cython.overflowcheck(False)
cdef inline uint32_t sequence_push(Sequences* all, uint32_t sequence, uint32_t value) noexcept:
    """With a value more at the end. There must be room."""
    cdef Sequence* old = &all.items[sequence]
    return sequence_intern(all, sequence, value, old.length + 1, old.hashed * HASH_BASE + value + 1)


@cython.overflowcheck(False)
cdef inline uint32_t sequence_pop(Sequences* all, uint32_t sequence, uint32_t first, const uint64_t* powers) noexcept:
    """Without the first value, which the caller knows, as well as the powers of HASH_BASE. There must be room."""
    cdef Sequence* old = &all.items[sequence]
    cdef uint64_t hashed = old.hashed - (<uint64_t>first + 1) * powers[old.length - 1]
    return sequence_intern(all, old.before, old.last, old.length - 1, hashed)


cdef inline uint32_t sequence_intern(
    Sequences* all, uint32_t before, uint32_t last, uint32_t length, uint64_t hashed
) noexcept:
    cdef uint64_t mask = 2 * all.capacity - 1
    cdef uint64_t place = mixed(hashed) & mask
    cdef Sequence* each
    if length == 0:
        return 0
    while all.found[place]:
        each = &all.items[all.found[place]]
        if (
            each.hashed == hashed
            and each.length == length
            and each.last == last
            and equal_ends(all, each.before, before, length - 1)
        ):
            return all.found[place]
        place = (place + 1) & mask
    all.found[place] = <uint32_t>all.count
    all.items[all.count] = Sequence(hashed=hashed, before=before, last=last, length=length)
    all.count += 1
    return all.found[place]


cdef inline bint equal_ends(const Sequences* all, uint32_t one, uint32_t other, uint32_t length) noexcept:
    """Whether the last values of both are equal."""
    while length and one != other:
        if all.items[one].last != all.items[other].last:
            return False
        one = all.items[one].before
        other = all.items[other].before
        length -= 1
    return True


# Hashes are meant to overflow.


@cython.overflowcheck(False)
cdef inline uint64_t mixed(uint64_t number) noexcept nogil:
    number *= HASH_BASE
    return number ^ number >> 32


@cython.overflowcheck(False)
cdef inline uint64_t product(uint64_t one, uint64_t other) noexcept nogil:
    return one * other
