"""Blocks and log records: see `distkit._fast.pure.codec`, the specification of this kernel."""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from distkit._fast.block cimport (
    BLOCK_BYTES_MAX,
    BLOCK_ENTRIES_MAX,
    ENTRY,
    HEADER,
    INDEX_MAX,
    block_count,
    block_first,
    block_last,
    block_payload,
    block_round,
    block_time_us,
    bounded,
    check_ends,
    entry_end,
    entry_kind,
    entry_payload,
    entry_start,
    length_of,
    load16,
    load32,
    load64,
    payload_bytes,
    store16,
    store32,
    store64,
    whole_block,
)

import google_crc32c

from distkit.core.errors import LocalError, PeerError

cdef enum:
    BLOCK_MAGIC = 0xB10C
    BLOCK_VERSION = 1
    RECORD = 24  # header of a log record
    RECORD_MAGIC = 0xD157
    BY_REFERENCE = 4096  # from this length on a content is written from where it is

BLOCK_HEADER = HEADER
RECORD_HEADER = RECORD
CRC_IMPLEMENTATION = google_crc32c.implementation

cdef uint64_t U64 = 0xFFFFFFFFFFFFFFFF
cdef const char* PADDING = b"\0\0\0\0\0\0\0"


# ---- blocks


def encode_block(object round, object first, object time_us, bytes kinds not None, object payloads not None):
    cdef uint64_t round_number = bounded("round", round, 0, INDEX_MAX)
    cdef uint64_t first_index = bounded("first", first, 1, INDEX_MAX)
    cdef uint64_t time = bounded("time_us", time_us, 0, U64)
    cdef tuple items = tuple(payloads)  # a list could change between the two passes
    cdef Py_ssize_t count = bounded("count of entries", len(items), 1, BLOCK_ENTRIES_MAX)
    if PyBytes_GET_SIZE(kinds) != count:
        raise LocalError(f"{len(kinds)} kinds for {count} payloads")
    bounded("last index", first_index + count - 1, 1, INDEX_MAX)
    cdef Py_ssize_t i
    cdef Py_ssize_t size = HEADER + ENTRY * count
    for i in range(count):
        size += length_of("payload", items[i])
    if size > BLOCK_BYTES_MAX:
        raise LocalError(f"a block of {size} bytes is over the limit of {BLOCK_BYTES_MAX}")

    cdef bytes block = PyBytes_FromStringAndSize(NULL, size)
    cdef uint8_t* at = <uint8_t*>PyBytes_AS_STRING(block)
    cdef uint8_t* payload = at + HEADER + ENTRY * count
    cdef Py_ssize_t end = 0
    for i in range(count):
        memcpy(payload + end, PyBytes_AS_STRING(items[i]), PyBytes_GET_SIZE(items[i]))
        end += PyBytes_GET_SIZE(items[i])
        put_entry(at, i, <uint32_t>end, <uint8_t>PyBytes_AS_STRING(kinds)[i])
    put_header(at, <uint32_t>count, round_number, first_index, time, <uint32_t>end)
    seal(at)
    return block


def block_info(object block):
    return info(whole_block(block))


def check_block(bytes block not None):
    return info(checked(block))


cdef const uint8_t* checked(bytes block) except NULL:
    """The bytes of a block from outside, everything about them checked."""
    cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(block)
    cdef Py_ssize_t length = PyBytes_GET_SIZE(block)
    if not HEADER <= length <= BLOCK_BYTES_MAX:
        raise PeerError(f"block: length {length} is not {HEADER} to {BLOCK_BYTES_MAX}")
    if load16(at) != BLOCK_MAGIC:
        raise PeerError("block: wrong magic, this is not a block")
    if at[2] != BLOCK_VERSION:
        raise PeerError(f"block: version {at[2]} is unknown, this release reads version {BLOCK_VERSION}")
    cdef Py_ssize_t count = block_count(at)
    if not 1 <= count <= BLOCK_ENTRIES_MAX:
        raise PeerError(f"block: {count} entries are not 1 to {BLOCK_ENTRIES_MAX}")
    cdef Py_ssize_t payload_at = HEADER + ENTRY * count
    if length != payload_at + payload_bytes(at):
        raise PeerError(f"block: length {length} is not the {payload_at + payload_bytes(at)} that its header says")
    if crc_of_head(at) != load32(at + 44):
        raise PeerError("block: the crc of header and table does not match")
    if extend_crc(0, at + payload_at, length - payload_at) != load32(at + 40):
        raise PeerError("block: the crc of the payload does not match")
    if at[3] or load32(at + 36):
        raise PeerError("block: a reserved field is not zero")
    if block_round(at) > INDEX_MAX:
        raise PeerError(f"block: round {block_round(at)} is over the limit of {INDEX_MAX}")
    if not 1 <= block_first(at) <= INDEX_MAX - count + 1:
        raise PeerError(f"block: {count} entries from index {block_first(at)} on are not within 1 to {INDEX_MAX}")
    cdef int wrong = check_table(at)
    if wrong == RESERVED:
        raise PeerError("block: a reserved field of the table is not zero")
    if wrong == FALLING:
        raise PeerError("block: the ends in the table fall")
    if wrong == SHORT:
        raise PeerError("block: the last end in the table is not the end of the payload")
    return at


def cut_block(object block, object lo, object hi):
    cdef const uint8_t* at = whole_block(block)
    cdef uint64_t lowest = bounded("lo", lo, block_first(at), block_last(at))
    return cut(block, lowest, bounded("hi", hi, lowest, block_last(at)))


def block_entries(object block, object lo, object hi):
    cdef const uint8_t* at = whole_block(block)
    cdef uint64_t lowest = bounded("lo", lo, block_first(at), block_last(at))
    cdef Py_ssize_t i = lowest - block_first(at)
    cdef Py_ssize_t behind = bounded("hi", hi, lowest, block_last(at)) - block_first(at) + 1
    check_ends(at, i, behind)
    cdef list entries = []
    while i < behind:
        entries.append((entry_kind(at, i), entry_payload(at, i)))
        i += 1
    return entries


cdef enum:
    RESERVED = 1
    FALLING = 2
    SHORT = 3


cdef int check_table(const uint8_t* at) noexcept nogil:
    """0, or what is wrong with the table of a whole block."""
    cdef Py_ssize_t i
    cdef uint32_t last_end = 0
    for i in range(<Py_ssize_t>block_count(at)):
        if load32(at + HEADER + ENTRY * i + 4) >> 8:
            return RESERVED
        if entry_end(at, i) < last_end:
            return FALLING
        last_end = entry_end(at, i)
    return 0 if last_end == payload_bytes(at) else SHORT


cdef bytes cut(bytes block, uint64_t lo, uint64_t hi):
    """The entries lo..hi of a whole block that holds them."""
    cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(block)
    if lo == block_first(at) and hi == block_last(at):
        return block
    cdef Py_ssize_t skip = lo - block_first(at)
    cdef Py_ssize_t kept = hi - lo + 1
    check_ends(at, skip, skip + kept)
    cdef uint32_t start = entry_start(at, skip)
    cdef uint32_t size = entry_end(at, skip + kept - 1) - start
    cdef bytes part = PyBytes_FromStringAndSize(NULL, HEADER + ENTRY * kept + size)
    cdef uint8_t* to = <uint8_t*>PyBytes_AS_STRING(part)
    cdef Py_ssize_t i
    for i in range(kept):
        put_entry(to, i, entry_end(at, skip + i) - start, entry_kind(at, skip + i))
    memcpy(to + HEADER + ENTRY * kept, block_payload(at) + start, size)
    put_header(to, <uint32_t>kept, block_round(at), lo, block_time_us(at), size)
    seal(to)
    return part


cdef inline tuple info(const uint8_t* at):
    return block_round(at), block_first(at), block_count(at), block_time_us(at)


cdef inline void put_entry(uint8_t* at, Py_ssize_t i, uint32_t end, uint8_t kind) noexcept nogil:
    store32(at + HEADER + ENTRY * i, end)
    store32(at + HEADER + ENTRY * i + 4, kind)  # flags and reserved are zero


cdef void put_header(
    uint8_t* at, uint32_t count, uint64_t round, uint64_t first, uint64_t time_us, uint32_t size
) noexcept nogil:
    store16(at, BLOCK_MAGIC)
    store16(at + 2, BLOCK_VERSION)
    store32(at + 4, count)
    store64(at + 8, round)
    store64(at + 16, first)
    store64(at + 24, time_us)
    store32(at + 32, size)
    store32(at + 36, 0)


cdef int seal(uint8_t* at) except -1:
    """Put the checksums into a block that is complete otherwise."""
    store32(at + 40, extend_crc(0, block_payload(at), payload_bytes(at)))
    store32(at + 44, crc_of_head(at))
    return 0


cdef uint32_t crc_of_head(const uint8_t* at) except? 0:
    return extend_crc(extend_crc(0, at, 44), at + HEADER, ENTRY * block_count(at))


# ---- log records


def encode_records(
    object cluster, object node, object segment, object offset, object synced, object records not None
):
    cdef uint32_t place = place_crc(cluster, node, segment)
    cdef uint64_t start = bounded_offset(offset)
    cdef uint64_t synced_offset = bounded("synced", synced, 0, start)
    cdef list buffers = []
    cdef list joined = []
    cdef Py_ssize_t length, padding
    cdef uint8_t[RECORD] header
    for kind, group, content in records:
        store16(header + 8, RECORD_MAGIC)
        store16(header + 10, <uint16_t>bounded("kind", kind, 0, 0xFFFF))
        store32(header + 12, <uint32_t>bounded("group", group, 0, 0xFFFFFFFF))
        store64(header + 16, synced_offset)
        length = bounded("length of a content", length_of("content", content), 0, BLOCK_BYTES_MAX)
        store32(header + 4, <uint32_t>length)
        store32(header, record_crc(place, start, header, <const uint8_t*>PyBytes_AS_STRING(content), length))
        joined.append(PyBytes_FromStringAndSize(<const char*>header, RECORD))
        if length < BY_REFERENCE:
            joined.append(content)
        else:
            buffers += [b"".join(joined), content]
            joined = []
        padding = -length & 7
        if padding:
            joined.append(PyBytes_FromStringAndSize(PADDING, padding))
        start += RECORD + length + padding
    if joined:
        buffers.append(b"".join(joined))
    return buffers


def scan_records(
    bytes data not None,
    object start,
    object cluster,
    object node,
    object segment,
    object base,
    object content_bytes_max,
):
    cdef uint32_t place = place_crc(cluster, node, segment)
    cdef uint64_t offset = bounded_offset(base)
    cdef Py_ssize_t length_max = bounded("content_bytes_max", content_bytes_max, 0, BLOCK_BYTES_MAX)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t position = bounded("start", start, 0, size)
    if position & 7:
        raise LocalError(f"start {position} is no multiple of 8")
    cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(data)
    cdef const uint8_t* header
    cdef Py_ssize_t length
    cdef list records = []
    while is_record(at + position, size - position, place, offset + position, length_max):
        header = at + position
        length = load32(header + 4)
        content = PyBytes_FromStringAndSize(<const char*>header + RECORD, length)
        records.append((offset + position, load16(header + 10), load32(header + 12), load64(header + 16), content))
        position += RECORD + padded(length)
    return records, position


def find_record(
    bytes data not None,
    object start,
    object cluster,
    object node,
    object segment,
    object base,
    object content_bytes_max,
):
    cdef uint32_t place = place_crc(cluster, node, segment)
    cdef uint64_t offset = bounded_offset(base)
    cdef Py_ssize_t length_max = bounded("content_bytes_max", content_bytes_max, 0, BLOCK_BYTES_MAX)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t position = padded(bounded("start", start, 0, size))
    cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(data)
    while True:
        position = find_magic(at, size, position)
        if position < 0 or is_record(at + position, size - position, place, offset + position, length_max):
            return position
        position += 8


cdef bint is_record(
    const uint8_t* at, Py_ssize_t room, uint32_t place, uint64_t offset, Py_ssize_t length_max
) except -1:
    """Whether there is a whole, valid record in the `room` bytes from here on."""
    return fits(at, room, length_max) and record_crc(place, offset, at, at + RECORD, load32(at + 4)) == load32(at)


cdef bint fits(const uint8_t* at, Py_ssize_t room, Py_ssize_t length_max) noexcept nogil:
    """Whether header, content and padding of a record fit in, the crc left aside."""
    cdef Py_ssize_t length, i
    if room < RECORD or load16(at + 8) != RECORD_MAGIC:
        return False
    length = load32(at + 4)
    if length > length_max or RECORD + padded(length) > room:
        return False
    for i in range(length, padded(length)):
        if at[RECORD + i]:
            return False
    return True


cdef Py_ssize_t find_magic(const uint8_t* at, Py_ssize_t size, Py_ssize_t position) noexcept nogil:
    """The next multiple of 8 from `position` on where the header of a record may be, or -1."""
    while position + RECORD <= size:
        if load16(at + position + 8) == RECORD_MAGIC:
            return position
        position += 8
    return -1


cdef inline Py_ssize_t padded(Py_ssize_t length) noexcept nogil:
    return (length + 7) & ~<Py_ssize_t>7


cdef uint32_t record_crc(
    uint32_t place, uint64_t offset, const uint8_t* header, const uint8_t* content, Py_ssize_t length
) except? 0:
    cdef uint8_t[RECORD + 4] covered  # the offset, then the header behind its crc
    store64(covered, offset)
    memcpy(covered + 8, header + 4, RECORD - 4)
    return extend_crc(extend_crc(place, covered, RECORD + 4), content, length)


cdef uint32_t place_crc(object cluster, object node, object segment) except? 0:
    """Checksum of the part of the place that is the same for all records of a segment."""
    cdef uint8_t[24] place
    store64(place, bounded("cluster", cluster, 0, U64))
    store64(place + 8, bounded("node", node, 0, U64))
    store64(place + 16, bounded("segment", segment, 0, U64))
    return extend_crc(0, place, 24)


cdef uint64_t bounded_offset(object offset) except? 0:
    cdef uint64_t number = bounded("offset", offset, 0, INDEX_MAX)
    if number & 7:
        raise LocalError(f"offset {number} is no multiple of 8")
    return number


# ---- checksums


def crc32c(bytes data not None, object seed=0):
    cdef uint32_t crc = <uint32_t>bounded("seed", seed, 0, 0xFFFFFFFF)
    return _extend(crc, data)


@cython.final
@cython.internal
@cython.freelist(4)
cdef class _View:
    """Bytes lent to google_crc32c for one call. It takes buffers without a release function, and so copies nothing."""

    cdef const uint8_t* at
    cdef Py_ssize_t length

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, <void*>self.at, self.length, 1, flags)


cdef object _extend = google_crc32c.extend
cdef bint _takes_views = CRC_IMPLEMENTATION == "c"


cdef uint32_t extend_crc(uint32_t crc, const uint8_t* at, Py_ssize_t length) except? 0:
    cdef _View view
    if not _takes_views:
        return _extend(crc, PyBytes_FromStringAndSize(<const char*>at, length))
    view = _View.__new__(_View)
    view.at = at
    view.length = length
    return _extend(crc, view)
