"""Counting heads in one set of voters: see `distkit._fast.pure.quorum`, the specification of this kernel."""

from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.number cimport PyNumber_Index
from libc.stdint cimport int64_t

from distkit.core.errors import LocalError

cdef enum:
    VOTERS_MAX = 64  # MEMBERS_MAX of distkit/core/limits.py

INFINITY = 0x7FFFFFFFFFFFFFFF
WON = 1
PENDING = 0
LOST = -1


def majority_index(object acked not None):
    cdef int64_t[VOTERS_MAX] falling
    cdef int count = 0
    cdef int overflow = 0
    cdef int64_t position
    if len(acked) > VOTERS_MAX:
        raise LocalError(f"{len(acked)} voters are more than {VOTERS_MAX}")
    for value in acked:
        position = PyLong_AsLongLongAndOverflow(PyNumber_Index(value), &overflow)
        if overflow or position < 0:
            raise LocalError(f"position {value} is not 0 to {INFINITY}")
        if count == VOTERS_MAX:
            raise LocalError(f"more than {VOTERS_MAX} voters")
        insert(falling, count, position)
        count += 1
    return falling[count // 2] if count else INFINITY


cdef void insert(int64_t* falling, int count, int64_t position) noexcept nogil:
    """Put a position into its place among `count` falling ones, behind which there is room for one more."""
    while count and falling[count - 1] < position:
        falling[count] = falling[count - 1]
        count -= 1
    falling[count] = position


def vote_result(object yes, object no, object voters):
    cdef int count = small(voters)
    cdef int won = small(yes)
    cdef int lost = small(no)
    if not 0 <= count <= VOTERS_MAX:
        raise LocalError(f"{voters} voters are not 0 to {VOTERS_MAX}")
    if won < 0 or lost < 0 or won + lost > count:
        raise LocalError(f"{yes} yes and {no} no are not possible answers of {voters} voters")
    return result(won, lost, count)


cdef int result(int yes, int no, int voters) noexcept nogil:
    cdef int majority = voters // 2 + 1
    if voters == 0 or yes >= majority:
        return 1
    return -1 if voters - no < majority else 0


cdef int small(object value) except? -1:
    """The number; -1 in place of one that is negative or far above VOTERS_MAX, which no caller accepts."""
    cdef int overflow = 0
    cdef long long number = PyLong_AsLongLongAndOverflow(PyNumber_Index(value), &overflow)
    return -1 if overflow or not 0 <= number <= 2 * VOTERS_MAX else <int>number
