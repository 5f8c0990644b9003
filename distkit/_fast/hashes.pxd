"""The plain hash functions of the hashing kernel, in C: see `distkit._fast.pure.hashing`, their specification.

All of it is compiled into whoever cimports it; there is no module behind this file.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from distkit._fast.block cimport load32, load64

cdef extern from *:
    """
    #define XXH_PRIME1 UINT64_C(0x9E3779B185EBCA87)
    #define XXH_PRIME2 UINT64_C(0xC2B2AE3D27D4EB4F)
    #define XXH_PRIME3 UINT64_C(0x165667B19E3779F9)
    #define XXH_PRIME4 UINT64_C(0x85EBCA77C2B2AE63)
    #define XXH_PRIME5 UINT64_C(0x27D4EB2F165667C5)
    #define MURMUR_MULTIPLIER UINT64_C(0xC6A4A7935BD1E995)
    #define MIX_STEP UINT64_C(0x9E3779B97F4A7C15)
    #define MIX_FIRST UINT64_C(0xBF58476D1CE4E5B9)
    #define MIX_SECOND UINT64_C(0x94D049BB133111EB)
    #define JUMP_MULTIPLIER UINT64_C(2862933555777941757)
    """
    const uint64_t XXH_PRIME1
    const uint64_t XXH_PRIME2
    const uint64_t XXH_PRIME3
    const uint64_t XXH_PRIME4
    const uint64_t XXH_PRIME5
    const uint64_t MURMUR_MULTIPLIER
    const uint64_t MIX_STEP
    const uint64_t MIX_FIRST
    const uint64_t MIX_SECOND
    const uint64_t JUMP_MULTIPLIER


# Hashes are meant to overflow.


cdef inline uint64_t rotated(uint64_t value, int bits) noexcept nogil:
    return value << bits | value >> (64 - bits)


@cython.overflowcheck(False)
cdef inline uint64_t xxh_round(uint64_t lane, uint64_t value) noexcept nogil:
    return rotated(lane + value * XXH_PRIME2, 31) * XXH_PRIME1


@cython.overflowcheck(False)
cdef inline uint64_t xxh_merge(uint64_t total, uint64_t lane) noexcept nogil:
    return (total ^ xxh_round(0, lane)) * XXH_PRIME1 + XXH_PRIME4


@cython.overflowcheck(False)
cdef inline uint64_t xxh64_of(const uint8_t* at, Py_ssize_t length, uint64_t seed) noexcept nogil:
    cdef const uint8_t* end = at + length
    cdef uint64_t total, a, b, c, d
    if length >= 32:
        a, b, c, d = seed + XXH_PRIME1 + XXH_PRIME2, seed + XXH_PRIME2, seed, seed - XXH_PRIME1
        while end - at >= 32:
            a = xxh_round(a, load64(at))
            b = xxh_round(b, load64(at + 8))
            c = xxh_round(c, load64(at + 16))
            d = xxh_round(d, load64(at + 24))
            at += 32
        total = rotated(a, 1) + rotated(b, 7) + rotated(c, 12) + rotated(d, 18)
        total = xxh_merge(xxh_merge(xxh_merge(xxh_merge(total, a), b), c), d)
    else:
        total = seed + XXH_PRIME5
    total += <uint64_t>length
    while end - at >= 8:
        total = rotated(total ^ xxh_round(0, load64(at)), 27) * XXH_PRIME1 + XXH_PRIME4
        at += 8
    if end - at >= 4:
        total = rotated(total ^ load32(at) * XXH_PRIME1, 23) * XXH_PRIME2 + XXH_PRIME3
        at += 4
    while at < end:
        total = rotated(total ^ at[0] * XXH_PRIME5, 11) * XXH_PRIME1
        at += 1
    total = (total ^ total >> 33) * XXH_PRIME2
    total = (total ^ total >> 29) * XXH_PRIME3
    return total ^ total >> 32


@cython.overflowcheck(False)
cdef inline uint64_t murmur2_of(const uint8_t* at, Py_ssize_t length, uint64_t seed) noexcept nogil:
    cdef uint64_t total = seed ^ <uint64_t>length * MURMUR_MULTIPLIER
    cdef uint64_t value
    cdef Py_ssize_t left = length
    while left >= 8:
        value = load64(at) * MURMUR_MULTIPLIER
        value = (value ^ value >> 47) * MURMUR_MULTIPLIER
        total = (total ^ value) * MURMUR_MULTIPLIER
        at += 8
        left -= 8
    if left:
        value = 0
        while left:
            left -= 1
            value = value << 8 | at[left]
        total = (total ^ value) * MURMUR_MULTIPLIER
    total = (total ^ total >> 47) * MURMUR_MULTIPLIER
    return total ^ total >> 47


@cython.overflowcheck(False)
cdef inline uint64_t mix_of(uint64_t value) noexcept nogil:
    value = (value ^ value >> 30) * MIX_FIRST
    value = (value ^ value >> 27) * MIX_SECOND
    return value ^ value >> 31


@cython.overflowcheck(False)
cdef inline uint64_t rehashed(uint64_t hashed, uint64_t attempt) noexcept nogil:
    return mix_of(hashed + (attempt + 1) * MIX_STEP)


@cython.overflowcheck(False)
cdef inline uint32_t jump_of(uint64_t key, uint32_t count) noexcept nogil:
    """The bucket of a key, of `count` (1 to 2^31 - 1)."""
    cdef int64_t bucket = -1, following = 0
    while following < <int64_t>count:
        bucket = following
        key = key * JUMP_MULTIPLIER + 1
        following = <int64_t>(<double>(bucket + 1) * (2147483648.0 / <double>((key >> 33) + 1)))
    return <uint32_t>bucket
