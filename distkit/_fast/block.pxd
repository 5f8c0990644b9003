"""What codec and logbuf share: little-endian numbers, the fields of a block, checked arguments.

All of it is compiled into each of them; there is no module behind this file.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.long cimport PyLong_AsUnsignedLongLong
from cpython.number cimport PyNumber_Index
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    HEADER = 48  # of a block
    ENTRY = 8  # of the table of a block

    # The values of distkit/core/limits.py. As numbers: in debug builds Cython fails on an expression here.
    BLOCK_BYTES_MAX = 0x100000
    BLOCK_ENTRIES_MAX = 0x4000

cdef extern from *:
    """
    #define INDEX_MAX ((UINT64_C(1) << 62) - 1)
    """
    const uint64_t INDEX_MAX


# Byte by byte, so that it is right on any machine; compilers make one load or store of it.


cdef inline uint16_t load16(const uint8_t* at) noexcept nogil:
    return <uint16_t>(at[0] | <uint32_t>at[1] << 8)


cdef inline uint32_t load32(const uint8_t* at) noexcept nogil:
    return at[0] | <uint32_t>at[1] << 8 | <uint32_t>at[2] << 16 | <uint32_t>at[3] << 24


cdef inline uint64_t load64(const uint8_t* at) noexcept nogil:
    return load32(at) | <uint64_t>load32(at + 4) << 32


cdef inline void store16(uint8_t* at, uint16_t value) noexcept nogil:
    at[0] = <uint8_t>value
    at[1] = <uint8_t>(value >> 8)


cdef inline void store32(uint8_t* at, uint32_t value) noexcept nogil:
    store16(at, <uint16_t>value)
    store16(at + 2, <uint16_t>(value >> 16))


cdef inline void store64(uint8_t* at, uint64_t value) noexcept nogil:
    store32(at, <uint32_t>value)
    store32(at + 4, <uint32_t>(value >> 32))


# Fields of a block and of its table, where i counts the entries from 0.


cdef inline uint32_t block_count(const uint8_t* at) noexcept nogil:
    return load32(at + 4)


cdef inline uint64_t block_round(const uint8_t* at) noexcept nogil:
    return load64(at + 8)


cdef inline uint64_t block_first(const uint8_t* at) noexcept nogil:
    return load64(at + 16)


cdef inline uint64_t block_last(const uint8_t* at) noexcept nogil:
    return block_first(at) + block_count(at) - 1


cdef inline uint64_t block_time_us(const uint8_t* at) noexcept nogil:
    return load64(at + 24)


cdef inline uint32_t payload_bytes(const uint8_t* at) noexcept nogil:
    return load32(at + 32)


cdef inline const uint8_t* block_payload(const uint8_t* at) noexcept nogil:
    return at + HEADER + ENTRY * <Py_ssize_t>block_count(at)


cdef inline uint32_t entry_end(const uint8_t* at, Py_ssize_t i) noexcept nogil:
    return load32(at + HEADER + ENTRY * i)


cdef inline uint32_t entry_start(const uint8_t* at, Py_ssize_t i) noexcept nogil:
    return entry_end(at, i - 1) if i else 0


cdef inline uint8_t entry_kind(const uint8_t* at, Py_ssize_t i) noexcept nogil:
    return at[HEADER + ENTRY * i + 4]


cdef inline bytes entry_payload(const uint8_t* at, Py_ssize_t i):
    cdef uint32_t start = entry_start(at, i)
    return PyBytes_FromStringAndSize(<const char*>block_payload(at) + start, entry_end(at, i) - start)


# Checks. Errors are imported where they are raised, as there is no module to hold them.


cdef inline uint64_t bounded(str name, object value, uint64_t low, uint64_t high) except? 0:
    """The number, if it is within low to high; LocalError if not, TypeError if it is no integer."""
    cdef uint64_t number
    try:
        number = PyLong_AsUnsignedLongLong(PyNumber_Index(value))
        if low <= number <= high:
            return number
    except OverflowError:
        pass
    from distkit.core.errors import LocalError

    raise LocalError(f"{name} must be {low} to {high}, not {value}")


cdef inline Py_ssize_t length_of(str name, object value) except -1:
    if not PyBytes_CheckExact(value):
        raise TypeError(f"{name} must be bytes, not {type(value).__name__}")
    return PyBytes_GET_SIZE(value)


cdef inline const uint8_t* whole_block(object block) except NULL:
    """The bytes of a block whose header is possible and says its length: nothing behind its end will be read."""
    cdef Py_ssize_t length = length_of("block", block)
    cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(block)
    if not is_whole(at, length):
        from distkit.core.errors import LocalError

        raise LocalError("not a checked block: its header is wrong")
    return at


cdef inline bint is_whole(const uint8_t* at, Py_ssize_t length) noexcept nogil:
    return (
        HEADER <= length <= BLOCK_BYTES_MAX
        and 1 <= block_count(at) <= BLOCK_ENTRIES_MAX
        and length == HEADER + ENTRY * <Py_ssize_t>block_count(at) + payload_bytes(at)
        and block_round(at) <= INDEX_MAX
        and 1 <= block_first(at) <= INDEX_MAX - block_count(at) + 1
    )


cdef inline int check_ends(const uint8_t* at, Py_ssize_t i, Py_ssize_t behind) except -1:
    """LocalError unless the entries from i to behind - 1 of a whole block lie inside of its payload."""
    if not ends_are_inside(at, i, behind):
        from distkit.core.errors import LocalError

        raise LocalError("not a checked block: its table is wrong")
    return 0


cdef inline bint ends_are_inside(const uint8_t* at, Py_ssize_t i, Py_ssize_t behind) noexcept nogil:
    cdef uint32_t start = entry_start(at, i)
    while i < behind:
        if not start <= entry_end(at, i) <= payload_bytes(at):
            return False
        start = entry_end(at, i)
        i += 1
    return True
