"""Frames, and the fields of records in them: see `distkit._fast.pure.wire`, the specification of this kernel."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from distkit._fast.block cimport (
    block_first,
    block_last,
    block_round,
    bounded,
    length_of,
    load16,
    load32,
    load64,
    store16,
    store32,
    store64,
)
from distkit._fast.codec cimport checked, extend_crc

from distkit.core.errors import LocalError, PeerError

cdef enum:
    HEADER = 16
    MAGIC = 0xD15C
    BY_REFERENCE = 4096  # from this length on a piece is passed on as it is
    FIELDS_MAX = 32

    # The values of distkit/core/limits.py.
    FRAME_BYTES_MAX = 0x400000
    FRAME_BLOBS_MAX = 0x10000

FRAME_HEADER_BYTES = HEADER


# ---- frames


def seal_frame(object kind, object group, list pieces not None):
    cdef uint32_t kind_number = <uint32_t>bounded("kind", kind, 0, 0xFFFF)
    cdef uint32_t group_number = <uint32_t>bounded("group", group, 0, 0xFFFFFFFF)
    cdef list buffers = gathered(pieces, HEADER)
    cdef Py_ssize_t size = -HEADER
    for buffer in buffers:
        size += PyBytes_GET_SIZE(buffer)
    if size > FRAME_BYTES_MAX:
        raise LocalError(f"a frame of {size} bytes, at most {FRAME_BYTES_MAX} are allowed")
    cdef uint8_t* at = <uint8_t*>PyBytes_AS_STRING(buffers[0])
    store32(at + 4, <uint32_t>size)
    store16(at + 8, MAGIC)
    store16(at + 10, <uint16_t>kind_number)
    store32(at + 12, group_number)
    cdef uint32_t crc = extend_crc(0, at + 4, PyBytes_GET_SIZE(buffers[0]) - 4)
    for buffer in buffers[1:]:
        crc = extend_crc(crc, <const uint8_t*>PyBytes_AS_STRING(buffer), PyBytes_GET_SIZE(buffer))
    store32(at, crc)
    return buffers


def open_frame(bytes data not None, object start, object kinds not None, object bytes_max):
    cdef Py_ssize_t begin = bounded("start", start, 0, PyBytes_GET_SIZE(data))
    cdef uint64_t size_max = bounded("bytes_max", bytes_max, 0, 0xFFFFFFFF)
    cdef Py_ssize_t available = PyBytes_GET_SIZE(data) - begin
    if available < HEADER:
        return 0, 0, begin + HEADER
    cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(data) + begin
    cdef Py_ssize_t size = load32(at + 4)
    kind = load16(at + 10)
    if load16(at + 8) != MAGIC:
        raise PeerError(f"not a distkit frame (magic {load16(at + 8):#06x})")
    if <uint64_t>size > size_max:
        raise PeerError(f"a frame of {size} bytes, at most {bytes_max} are allowed")
    if kind not in kinds:
        raise PeerError(f"unknown kind {kind}")
    if HEADER + size <= available and extend_crc(0, at + 4, HEADER - 4 + size) != load32(at):
        raise PeerError("the crc of a frame does not match")
    return kind, load32(at + 12), begin + HEADER + size


def join_pieces(list pieces not None):
    return gathered(pieces, 0)


cdef list gathered(list pieces, Py_ssize_t reserved):
    """The pieces in few buffers, with `reserved` bytes left free at the start of the first."""
    cdef list buffers = []
    cdef Py_ssize_t begin = 0
    cdef Py_ssize_t end = 0
    cdef Py_ssize_t size
    while True:
        size = reserved
        while end < len(pieces) and length_of("piece", pieces[end]) < BY_REFERENCE:
            size += PyBytes_GET_SIZE(pieces[end])
            end += 1
        if size or not buffers and end == len(pieces):
            buffers.append(copied(pieces, begin, end, reserved, size))
        if end == len(pieces):
            return buffers
        buffers.append(pieces[end])
        end += 1
        begin = end
        reserved = 0


cdef bytes copied(list pieces, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t reserved, Py_ssize_t size):
    """The pieces from begin to end - 1 in one buffer of this size, behind `reserved` bytes."""
    cdef bytes buffer = PyBytes_FromStringAndSize(NULL, size)
    cdef char* at = PyBytes_AS_STRING(buffer) + reserved
    cdef Py_ssize_t i
    for i in range(begin, end):
        memcpy(at, PyBytes_AS_STRING(pieces[i]), PyBytes_GET_SIZE(pieces[i]))
        at += PyBytes_GET_SIZE(pieces[i])
    return buffer


# ---- fields


cdef enum Type:
    U8 = 1  # a number has its width
    U16 = 2
    U32 = 4
    U64 = 8
    BOOL
    BYTES
    BLOBS
    BLOCKS

cdef dict _TYPES = {
    "u8": U8, "u16": U16, "u32": U32, "u64": U64, "bool": BOOL, "bytes": BYTES, "blobs": BLOBS, "blocks": BLOCKS
}
FIELD_TYPES = frozenset(_TYPES)


@cython.final
cdef class Fields:
    cdef tuple names
    cdef Type[FIELDS_MAX] types

    def __init__(self, object fields not None):
        cdef tuple items = tuple(fields)
        cdef Py_ssize_t i
        bounded("count of fields", len(items), 1, FIELDS_MAX)
        for i in range(len(items)):
            name, type = items[i]
            if type not in _TYPES:
                raise LocalError(f"the type of field {name} is none of {', '.join(sorted(_TYPES))}: {type}")
            self.types[i] = _TYPES[type]
        self.names = tuple([intern(name) for name, _ in items])

    def put(self, object record, list pieces not None):
        cdef uint8_t[8 * FIELDS_MAX] numbers
        cdef Py_ssize_t size = 0  # of the numbers that are not among the pieces yet
        cdef Py_ssize_t i
        cdef Type type
        for i in range(len(self.names)):
            type = self.types[i]
            value = getattr(record, self.names[i])
            if type <= BOOL:
                size += put_number(numbers + size, type, self.names[i], value)
                continue
            if size:
                pieces.append(PyBytes_FromStringAndSize(<const char*>numbers, size))
                size = 0
            if type == BYTES:
                put_contents(pieces, self.names[i], (value,), False)
            else:
                put_contents(pieces, self.names[i], tuple(value), True)
        if size:
            pieces.append(PyBytes_FromStringAndSize(<const char*>numbers, size))

    def take(self, bytes data not None, object start, object end, list values not None):
        cdef Py_ssize_t behind = bounded("end", end, 0, PyBytes_GET_SIZE(data))
        cdef Py_ssize_t at = bounded("start", start, 0, behind)
        cdef const uint8_t* bytes_at = <const uint8_t*>PyBytes_AS_STRING(data)
        cdef Py_ssize_t i
        cdef Type type
        for i in range(len(self.names)):
            type = self.types[i]
            if type <= U64:
                values.append(take_number(bytes_at, &at, behind, type))
            elif type == BOOL:
                values.append(take_bool(bytes_at, &at, behind))
            elif type == BYTES:
                values.append(take_content(bytes_at, &at, behind, take_number(bytes_at, &at, behind, U32)))
            else:
                values.append(take_blobs(bytes_at, &at, behind, type == BLOCKS))
        return at


cdef int put_number(uint8_t* at, Type type, str name, object value) except -1:
    """Put a number or a boolean; the bytes that it took."""
    if type == BOOL:
        at[0] = 1 if value else 0
        return 1
    store64(at, bounded(name, value, 0, 0xFFFFFFFFFFFFFFFF >> 64 - 8 * <int>type))
    return type


cdef int put_contents(list pieces, str name, tuple contents, bint counted) except -1:
    """Put the lengths of the contents, after their count if there may be any number of them, and the contents."""
    cdef Py_ssize_t count = len(contents)
    cdef Py_ssize_t i
    if count > FRAME_BLOBS_MAX:
        raise LocalError(f"{count} blobs in one message, at most {FRAME_BLOBS_MAX} are allowed")
    cdef bytes table = PyBytes_FromStringAndSize(NULL, 4 * (count + counted))
    cdef uint8_t* at = <uint8_t*>PyBytes_AS_STRING(table)
    if counted:
        store32(at, <uint32_t>count)
        at += 4
    for i in range(count):
        store32(at + 4 * i, <uint32_t>bounded(name, length_of(name, contents[i]), 0, 0xFFFFFFFF))
    pieces.append(table)
    pieces += contents
    return 0


# What is taken: `at` is the position in the data, and moves behind what was taken; `end` is where the data ends.


cdef int need(uint64_t size, Py_ssize_t at, Py_ssize_t end) except -1:
    if size > <uint64_t>(end - at):
        raise PeerError(f"it ends too early: {size} bytes are expected where {end - at} are left")
    return 0


cdef uint64_t take_number(const uint8_t* data, Py_ssize_t* at, Py_ssize_t end, Type type) except? 0:
    need(type, at[0], end)
    cdef const uint8_t* number = data + at[0]
    at[0] += type
    if type == U64:
        return load64(number)
    if type == U32:
        return load32(number)
    return load16(number) if type == U16 else number[0]


cdef bint take_bool(const uint8_t* data, Py_ssize_t* at, Py_ssize_t end) except -1:
    cdef uint64_t value = take_number(data, at, end, U8)
    if value > 1:
        raise PeerError(f"a boolean is {value}, not 0 or 1")
    return value


cdef bytes take_content(const uint8_t* data, Py_ssize_t* at, Py_ssize_t end, uint64_t size):
    need(size, at[0], end)
    at[0] += size
    return PyBytes_FromStringAndSize(<const char*>data + at[0] - size, size)


cdef tuple take_blobs(const uint8_t* data, Py_ssize_t* at, Py_ssize_t end, bint are_blocks):
    """Blobs of any content, or blocks that are valid, follow each other and whose rounds never fall."""
    cdef uint64_t count = take_number(data, at, end, U32)
    if count > FRAME_BLOBS_MAX:
        raise PeerError(f"{count} blobs in one message, at most {FRAME_BLOBS_MAX} are allowed")
    need(4 * count, at[0], end)
    cdef const uint8_t* sizes = data + at[0]
    cdef const uint8_t* block
    cdef uint64_t i
    cdef uint64_t following = 0
    cdef uint64_t round = 0
    cdef list blobs = []
    at[0] += 4 * count
    for i in range(count):
        blob = take_content(data, at, end, load32(sizes + 4 * i))
        if are_blocks:
            block = checked(blob)
            if following and block_first(block) != following:
                raise PeerError(f"a block begins at index {block_first(block)} where {following} follows")
            if block_round(block) < round:
                raise PeerError(f"a block of round {block_round(block)} follows one of round {round}")
            following = block_last(block) + 1
            round = block_round(block)
        blobs.append(blob)
    return tuple(blobs)
