"""The window of a log in memory: see `distkit._fast.pure.logbuf`, the specification of this kernel.

Blocks carry their own index, term and time, so the list of them is the whole state and every question is a binary
search that reads headers in place: nothing is kept twice that a truncation could leave behind.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.number cimport PyNumber_Index
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint8_t, uint32_t, uint64_t

from distkit._fast.block cimport (
    INDEX_MAX,
    block_count,
    block_first,
    block_last,
    block_round,
    block_time_us,
    bounded,
    check_ends,
    entry_end,
    entry_kind,
    entry_payload,
    entry_start,
    store32,
    store64,
    whole_block,
)

from distkit._fast.codec import crc32c, cut_block
from distkit.core.errors import LocalError

# Indexes and terms stay below 2^62, so signed numbers hold them and their sums.
cdef uint64_t U64 = 0xFFFFFFFFFFFFFFFF


@cython.final
cdef class Window:
    cdef list blocks
    cdef readonly int64_t base_index
    cdef readonly int64_t base_term
    cdef uint64_t base_time_us
    cdef readonly int64_t bytes
    # So many blocks are in this digest already; 0 after a change of any but the end.
    cdef Py_ssize_t digested
    cdef object crc

    def __cinit__(self):
        self.blocks = []

    def __init__(self, object base_index=0, object base_term=0, object time_us=0):
        self.reset(base_index, base_term, time_us)

    @property
    def last(self):
        return self.last_index()

    @property
    def last_term(self):
        return self.term_at(self.last_index())

    @property
    def last_time_us(self):
        return self.last_time()

    def append(self, object block):
        cdef const uint8_t* at = whole_block(block)
        if <int64_t>block_first(at) != self.last_index() + 1:
            raise LocalError(f"a block from index {block_first(at)} on does not follow index {self.last_index()}")
        if <int64_t>block_round(at) < self.term_at(self.last_index()):
            raise LocalError(f"a block of term {block_round(at)} does not follow term {self.last_term}")
        self.blocks.append(block)
        self.bytes += PyBytes_GET_SIZE(block)

    def term(self, object index):
        return self.term_at(clamped(index))

    def truncate(self, object index):
        cdef int64_t behind = bounded("index", index, self.base_index + 1, self.last_index() + 1)
        cdef Py_ssize_t keep = 0
        if behind > self.last_index():
            return
        if behind - 1 > self.base_index:
            keep = self.find(behind - 1) + 1
            self.blocks[keep - 1] = self.part(keep - 1, block_first(self.head(keep - 1)), behind - 1)
        del self.blocks[keep:]
        self.bytes = self.total()
        self.digested = 0

    def compact(self, object index):
        cdef int64_t base_index = bounded("index", index, 0, self.last_index())
        if base_index <= self.base_index:
            return
        cdef Py_ssize_t i = self.find(base_index)
        self.base_index = base_index
        self.base_term = block_round(self.head(i))
        self.base_time_us = block_time_us(self.head(i))
        if base_index == <int64_t>block_last(self.head(i)):
            i += 1
        for block in self.blocks[:i]:
            self.bytes -= PyBytes_GET_SIZE(block)
        del self.blocks[:i]
        self.digested = 0

    def reset(self, object index, object term, object time_us=0):
        cdef int64_t base_index = bounded("index", index, 0, INDEX_MAX)
        cdef int64_t base_term = bounded("term", term, 0, INDEX_MAX)
        self.base_time_us = max(self.last_time(), bounded("time_us", time_us, 0, U64))
        self.base_index = base_index
        self.base_term = base_term
        self.blocks = []
        self.bytes = 0
        self.digested = 0

    def slice(self, object lo, object hi, object bytes_max):
        cdef int64_t index = bounded("lo", lo, self.base_index + 1, self.last_index() + 1)
        cdef int64_t end = bounded("hi", hi, index - 1, self.last_index())
        cdef int64_t room = max(-1, clamped(bytes_max))
        cdef Py_ssize_t i = self.find(index)
        cdef int64_t part_end
        cdef list blocks = []
        while index <= end:
            part_end = min(end, <int64_t>block_last(self.head(i)))
            block = self.part(i, index, part_end)
            room -= PyBytes_GET_SIZE(block)
            if room < 0 and blocks:
                break
            blocks.append(block)
            index = part_end + 1
            i += 1
        return blocks

    def entries(self, object lo, object hi, object bytes_max):
        cdef int64_t index = bounded("lo", lo, self.base_index + 1, self.last_index() + 1)
        cdef int64_t end = bounded("hi", hi, index - 1, self.last_index())
        cdef int64_t room = max(-1, clamped(bytes_max))
        cdef Py_ssize_t i = self.find(index)
        cdef Py_ssize_t j, behind
        cdef const uint8_t* at
        cdef list entries = []
        while index <= end:
            at = self.head(i)
            j = index - block_first(at)
            behind = min(end, <int64_t>block_last(at)) - block_first(at) + 1
            check_ends(at, j, behind)
            term = block_round(at)
            time_us = block_time_us(at)
            while j < behind:
                room -= entry_end(at, j) - entry_start(at, j)
                if room < 0 and entries:
                    return entries
                entries.append((index, term, time_us, entry_kind(at, j), entry_payload(at, j)))
                index += 1
                j += 1
            i += 1
        return entries

    def hint(self, object index, object term):
        return self.hint_at(clamped(index), clamped(term))

    def conflict(self, object first, object blocks):
        cdef int64_t behind = bounded("first", first, 1, INDEX_MAX + 1)
        cdef tuple parts = tuple(blocks)
        cdef const uint8_t* at
        cdef int64_t index, last, term
        for block in parts:
            at = whole_block(block)
            if <int64_t>block_first(at) != behind:
                raise LocalError(f"a block from index {block_first(at)} on does not follow index {behind - 1}")
            behind = block_last(at) + 1
        for block in parts:
            at = whole_block(block)
            index = max(<int64_t>block_first(at), self.base_index + 1)
            last = block_last(at)
            term = block_round(at)
            if index > last:
                continue
            if self.term_at(index) != term:
                return index
            index = self.hint_at(last, term)
            if index < last:
                return index + 1
        return behind

    def digest(self):
        cdef uint8_t[29] fields
        cdef const char* start = <const char*>fields
        cdef const uint8_t* at
        cdef Py_ssize_t i, j
        if not self.digested:
            store64(fields, self.base_index)
            store64(fields + 8, self.base_term)
            self.crc = crc32c(start[:16])
        crc = self.crc
        for i in range(self.digested, len(self.blocks)):
            at = self.head(i)
            j = max(0, self.base_index + 1 - <int64_t>block_first(at))
            check_ends(at, j, block_count(at))
            store64(fields + 8, block_round(at))
            store64(fields + 16, block_time_us(at))
            for j in range(j, <Py_ssize_t>block_count(at)):
                payload = entry_payload(at, j)
                store64(fields, block_first(at) + j)
                fields[24] = entry_kind(at, j)
                store32(fields + 25, <uint32_t>len(payload))
                crc = crc32c(payload, crc32c(start[:29], crc))
        self.digested = len(self.blocks)
        self.crc = crc
        return crc

    # i is the position of a block in the list, j that of an entry in a block.

    cdef const uint8_t* head(self, Py_ssize_t i):
        return <const uint8_t*>PyBytes_AS_STRING(self.blocks[i])

    cdef object part(self, Py_ssize_t i, int64_t lo, int64_t hi):
        """Entries lo..hi of block i: the block itself if that is all of it."""
        cdef const uint8_t* at = self.head(i)
        if lo == <int64_t>block_first(at) and hi == <int64_t>block_last(at):
            return self.blocks[i]
        return cut_block(self.blocks[i], lo, hi)

    cdef int64_t last_index(self):
        cdef Py_ssize_t count = len(self.blocks)
        return block_last(self.head(count - 1)) if count else self.base_index

    cdef uint64_t last_time(self):
        cdef Py_ssize_t count = len(self.blocks)
        return block_time_us(self.head(count - 1)) if count else self.base_time_us

    cdef int64_t term_at(self, int64_t index):
        if index == self.base_index:
            return self.base_term
        if not self.base_index < index <= self.last_index():
            return -1
        return block_round(self.head(self.find(index)))

    cdef Py_ssize_t find(self, int64_t index):
        """Position of the block that holds this entry: the last one that begins at or before it."""
        cdef Py_ssize_t low = 0
        cdef Py_ssize_t high = len(self.blocks)
        cdef Py_ssize_t middle = high - 1  # most questions are about the newest block
        while low < high:
            if <int64_t>block_first(self.head(middle)) <= index:
                low = middle + 1
            else:
                high = middle
            middle = (low + high) // 2
        return low - 1

    cdef int64_t hint_at(self, int64_t index, int64_t term):
        if index < self.base_index or term < self.base_term:
            return -1
        cdef Py_ssize_t low = 0
        cdef Py_ssize_t high = len(self.blocks)
        cdef Py_ssize_t middle = high - 1
        while low < high:
            if <int64_t>block_round(self.head(middle)) <= term:
                low = middle + 1
            else:
                high = middle
            middle = (low + high) // 2
        return min(index, <int64_t>block_last(self.head(low - 1)) if low else self.base_index)

    cdef int64_t total(self):
        cdef int64_t size = 0
        for block in self.blocks:
            size += PyBytes_GET_SIZE(block)
        return size


cdef int64_t clamped(object value) except? -1:
    """The integer, or the nearest one of 64 bits: indexes and terms are far below that."""
    cdef int overflow = 0
    cdef int64_t number = PyLong_AsLongLongAndOverflow(PyNumber_Index(value), &overflow)
    if overflow:
        return INT64_MAX if overflow > 0 else INT64_MIN
    return number
