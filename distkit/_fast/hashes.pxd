"""The plain hash functions of the hashing kernel, in C: see `distkit._fast.pure.hashing`, their specification.

All of it is compiled into whoever cimports it; there is no module behind this file.
"""

cimport cython
from libc.math cimport frexp
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


@cython.overflowcheck(False)
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


cdef inline uint64_t attempted(uint64_t hashed, uint32_t attempt) noexcept nogil:
    """The hash itself, and for attempts behind the first one others."""
    return rehashed(hashed, attempt - 1) if attempt else hashed


@cython.overflowcheck(False)
cdef inline uint32_t jump_of(uint64_t key, uint32_t count) noexcept nogil:
    """The bucket of a key, of `count` (1 to 2^31 - 1)."""
    cdef int64_t bucket = -1, following = 0
    while following < <int64_t>count:
        bucket = following
        key = key * JUMP_MULTIPLIER + 1
        following = <int64_t>(<double>(bucket + 1) * (2147483648.0 / <double>((key >> 33) + 1)))
    return <uint32_t>bucket


cdef inline void make_crc_table(uint32_t* table) noexcept:
    cdef uint32_t byte, value
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
        table[byte] = value


cdef inline uint32_t extend_crc32(const uint32_t* table, uint32_t crc, const uint8_t* at, Py_ssize_t length) noexcept nogil:
    """The crc of zlib, of what had the given one and these bytes behind it."""
    cdef Py_ssize_t place
    crc = ~crc
    for place in range(length):
        crc = table[(crc ^ at[place]) & 0xFF] ^ crc >> 8
    return ~crc


cdef inline double negative_log(double value) noexcept nogil:
    """-ln of a number between 0 and 1, by operations that every machine rounds in the same way."""
    cdef int exponent
    cdef double mantissa = frexp(value, &exponent)
    cdef double ratio, square, series
    if mantissa < 0.7071067811865476:
        mantissa = mantissa * 2.0
        exponent -= 1
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    square = ratio * ratio
    series = 1.0 / 19.0
    series = series * square + 1.0 / 17.0
    series = series * square + 1.0 / 15.0
    series = series * square + 1.0 / 13.0
    series = series * square + 1.0 / 11.0
    series = series * square + 1.0 / 9.0
    series = series * square + 1.0 / 7.0
    series = series * square + 1.0 / 5.0
    series = series * square + 1.0 / 3.0
    series = series * square + 1.0
    return -(<double>exponent * 0.6931471805599453 + 2.0 * ratio * series)


cdef inline double unit_of(uint64_t hashed) noexcept nogil:
    """The middle of one of 2^52 equal parts between 0 and 1."""
    return <double>((hashed >> 12 << 1) + 1) * (1.0 / 9007199254740992.0)


@cython.overflowcheck(False)
cdef inline uint64_t distance_of(uint64_t here, uint64_t there) noexcept nogil:
    """How far it is on the circle, forwards."""
    return there - here


cdef inline bint is_prime(uint32_t number) noexcept nogil:
    cdef uint32_t divisor = 2
    while divisor * divisor <= number:
        if number % divisor == 0:
            return False
        divisor += 1
    return True


cdef inline Py_ssize_t write_decimal(uint8_t* at, uint32_t number) noexcept nogil:
    """Its digits; how many."""
    cdef Py_ssize_t digits = 1, place
    cdef uint32_t rest = number
    while rest >= 10:
        rest //= 10
        digits += 1
    for place in range(digits - 1, -1, -1):
        at[place] = <uint8_t>(48 + number % 10)
        number //= 10
    return digits
