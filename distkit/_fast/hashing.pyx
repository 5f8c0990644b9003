"""Consistent hashing: see `distkit._fast.pure.hashing`, the specification of this kernel."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_AsUnsignedLongLong
from cpython.number cimport PyNumber_Index
from libc.math cimport ceil, floor
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from distkit._fast.block cimport load32, store32
from distkit._fast.hashes cimport (
    extend_crc32,
    is_prime,
    make_crc_table,
    murmur2_of,
    write_decimal,
    xxh64_of,
)
from distkit._fast.points cimport (
    Points,
    points_allocate,
    points_drop_equals,
    points_find,
    points_free,
    points_next,
    points_sort,
)

from hashlib import md5

from distkit.core.errors import LocalError

ENDPOINTS_MAX = 1 << 20
KEY_BYTES_MAX = 1 << 12
WEIGHT_MIN = 2.0**-32
WEIGHT_MAX = 2.0**32
RING_SIZE_MAX = 1 << 23
MAGLEV_SIZE_MAX = 5_000_011
MURMUR_SEED = 0xC70F6907

cdef enum:
    DIGITS = 11  # of a number below 2^32, with what is in front of it

    C_KEY_BYTES_MAX = 0x1000  # KEY_BYTES_MAX

cdef uint32_t[256] CRC_TABLE
make_crc_table(CRC_TABLE)


def xxh64(data, seed=0):
    cdef bytes taken = bytes_of(data)
    return xxh64_of(<const uint8_t*>PyBytes_AS_STRING(taken), PyBytes_GET_SIZE(taken), hash_of("seed", seed))


def murmur2(data, seed=MURMUR_SEED):
    cdef bytes taken = bytes_of(data)
    return murmur2_of(<const uint8_t*>PyBytes_AS_STRING(taken), PyBytes_GET_SIZE(taken), hash_of("seed", seed))


def ketama_hash(key):
    return load32(<const uint8_t*>PyBytes_AS_STRING(md5_of(bytes_of(key))))


cdef class Order:
    def __dealloc__(self):
        free(self.ranks)

    cdef bint holds(self, uint32_t position) noexcept nogil:
        return position < self.span

    cdef uint32_t place(self, uint64_t hashed, uint32_t attempt) noexcept nogil:
        return 0

    cdef int64_t first(self, uint64_t hashed, Accept accept, void* state) noexcept nogil:
        cdef uint32_t attempt, position, at
        for attempt in range(2 * self.count):
            position = self.place(hashed, attempt)
            if accept(state, position):
                return position
        at = <uint32_t>(hashed % self.count)
        for _ in range(self.count):
            position = at if self.ranks is NULL else self.ranks[at]
            if accept(state, position):
                return position
            at = at + 1 if at + 1 < self.count else 0
        return -1

    def lookup(self, hashed, attempt=0):
        made(self)
        return self.place(hash_of("hash", hashed), <uint32_t>number_of("attempt", attempt, 0, 0xFFFFFFFF))

    def first_open(self, hashed, closed):
        cdef const uint8_t[::1] flags = closed
        made(self)
        if flags.shape[0] != self.span:
            raise LocalError(f"{flags.shape[0]} flags for {self.span} positions")
        return self.first(hash_of("hash", hashed), is_open, <void*>&flags[0])

    def candidates(self, hashed, limit=ENDPOINTS_MAX):
        cdef uint64_t key = hash_of("hash", hashed)
        cdef int64_t left = number_of("limit", limit, 0, ENDPOINTS_MAX)
        cdef int64_t position
        made(self)
        cdef bytearray seen = bytearray(self.span)
        cdef uint8_t* flags = <uint8_t*><char*>seen
        cdef list found = []
        while left:
            position = self.first(key, is_open, flags)
            if position < 0:
                break
            flags[position] = 1
            found.append(position)
            left -= 1
        return found


cdef int made(Order order) except -1:
    if order.count == 0:
        raise LocalError("there is nothing to look up in: it was not made")
    return 0


cdef bint is_open(void* state, uint32_t position) noexcept nogil:
    return not (<const uint8_t*>state)[position]


@cython.final
cdef class Ring(Order):
    def __init__(self):
        raise LocalError("a ring is made by Ring.envoy, Ring.grpc, Ring.ketama or Ring.nginx")

    def __dealloc__(self):
        points_free(&self.points)

    @property
    def size(self):
        return self.points.size

    @staticmethod
    def envoy(keys, weights=None, size_min=1024, size_max=RING_SIZE_MAX, function="xxh64", normalized=False):
        cdef list names = names_of(keys)
        return envoy_ring(names, list(range(len(names))), weights, size_min, size_max, function, normalized)

    @staticmethod
    def grpc(keys, weights=None, size_min=1024, size_max=4096):
        cdef list names = names_of(keys)
        return envoy_ring(names, sorted_by_key(names), weights, size_min, size_max, "xxh64", False)

    @staticmethod
    def ketama(keys, weights=None):
        cdef list names = names_of(keys)
        return ketama_ring(names, weights_of(weights, len(names)))

    @staticmethod
    def nginx(keys, weights=None):
        cdef list names = names_of(keys)
        return nginx_ring(names, weights_of(weights, len(names)))

    cdef uint32_t place(self, uint64_t hashed, uint32_t attempt) noexcept nogil:
        cdef uint64_t at = points_find(&self.points, hashed)
        return self.points.owners[(at + attempt) % self.points.size if attempt else at]

    cdef int64_t first(self, uint64_t hashed, Accept accept, void* state) noexcept nogil:
        cdef uint32_t at = points_find(&self.points, hashed)
        for _ in range(self.points.size):
            if accept(state, self.points.owners[at]):
                return self.points.owners[at]
            at = points_next(&self.points, at)
        for at in range(self.span):  # who has no point
            if accept(state, at):
                return at
        return -1


cdef Ring room_for(Py_ssize_t count, uint64_t size, int bits):
    """A ring without points of so many endpoints."""
    cdef Ring ring = Ring.__new__(Ring)
    if not 0 < size <= RING_SIZE_MAX:
        raise LocalError(f"a ring of {size} points: there may be 1 to {RING_SIZE_MAX}, change weights or sizes")
    if not points_allocate(&ring.points, <uint32_t>size, bits):
        raise MemoryError
    ring.count = ring.span = <uint32_t>count
    return ring


cdef Ring envoy_ring(
    list names, list order, object weights, object size_min, object size_max, object function, bint normalized
):
    cdef uint64_t most = number_of("size_max", size_max, 1, RING_SIZE_MAX)
    cdef uint64_t least = number_of("size_min", size_min, 1, most)
    cdef list shares = shares_of(weights, order, normalized)
    cdef double smallest = min(shares)
    cdef double scale = min(ceil(smallest * <double>least) / smallest, <double>most)
    cdef double share, current = 0.0, target = 0.0
    cdef list counts = []
    if function not in ("xxh64", "murmur2"):
        raise LocalError(f"{function!r} is no function of a ring: name xxh64 or murmur2")
    for share in shares:
        target += scale * share
        counts.append(max(0, <int64_t>(ceil(target) - current)))
        current = max(current, ceil(target))
    cdef Ring ring = room_for(len(names), <uint64_t>current, 64)
    cdef bint murmur = function == "murmur2"
    cdef uint32_t at = 0, position, number, count
    cdef uint8_t[C_KEY_BYTES_MAX + DIGITS] text
    cdef Py_ssize_t length, whole
    cdef bytes name
    for position, count in zip(order, counts, strict=True):
        name = names[position]
        length = PyBytes_GET_SIZE(name)
        memcpy(text, PyBytes_AS_STRING(name), length)
        text[length] = b"_"
        for number in range(count):
            whole = length + 1 + write_decimal(text + length + 1, number)
            ring.points.hashes[at] = murmur2_of(text, whole, MURMUR_SEED) if murmur else xxh64_of(text, whole, 0)
            ring.points.owners[at] = position
            at += 1
    sort(&ring.points)
    return ring


cdef Ring ketama_ring(list names, list weights):
    """In the numbers of libketama: single precision for shares, double for the product, single for the result."""
    cdef double each, total = 0.0
    cdef float share
    cdef uint64_t size = 0
    cdef uint32_t number, part, count, at = 0
    cdef list counts = []
    cdef bytes digest
    for each in weights:
        total += each
    for each in weights:
        share = <float>each / <float>total
        count = <uint32_t>floor(<double><float>(share * 40.0 * <double>len(names)))
        counts.append(count)
        size += 4 * count
    cdef Ring ring = room_for(len(names), size, 32)
    for position, name in enumerate(names):
        count = counts[position]
        for number in range(count):
            digest = md5_of(b"%s-%d" % (name, number))
            for part in range(4):
                ring.points.hashes[at] = load32(<const uint8_t*>PyBytes_AS_STRING(digest) + 4 * part)
                ring.points.owners[at] = position
                at += 1
    sort(&ring.points)
    return ring


cdef Ring nginx_ring(list names, list weights):
    cdef uint64_t size = 0
    cdef uint32_t number, count, base, crc, at = 0
    cdef uint8_t[4] before
    cdef bytes name
    for position, weight in enumerate(weights):
        if weight != int(weight):
            raise LocalError(f"weight {position} is {weight}: weights of nginx are whole numbers")
        size += 160 * <uint64_t>weight
    cdef Ring ring = room_for(len(names), size, 32)
    for position, weight in enumerate(weights):
        name = nginx_name(names[position])
        count = 160 * <uint32_t>weight
        base = extend_crc32(CRC_TABLE, 0, <const uint8_t*>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
        crc = 0
        for number in range(count):
            store32(before, crc)
            crc = extend_crc32(CRC_TABLE, base, before, 4)
            ring.points.hashes[at] = crc
            ring.points.owners[at] = position
            at += 1
    sort(&ring.points)
    points_drop_equals(&ring.points)
    return ring


cdef bytes nginx_name(bytes key):
    """Host, NUL and port."""
    if key[:5].lower() == b"unix:":
        return key[5:] + b"\0"
    host, colon, port = key.rpartition(b":")
    return host + b"\0" + port if colon and (port.isdigit() or not port) else key + b"\0"


@cython.final
cdef class Maglev(Order):
    def __init__(self, keys, weights=None, size=65537, normalized=False):
        if self.table is not NULL:
            raise LocalError("a table is made once")
        cdef list names = names_of(keys)
        cdef list order = sorted_by_key(names)
        cdef list shares = shares_of(weights, order, normalized)
        cdef uint32_t number, count = <uint32_t>len(names)
        cdef uint32_t slots = <uint32_t>number_of("size", size, 2, MAGLEV_SIZE_MAX)
        if not is_prime(slots):
            raise LocalError(f"a Maglev table of {slots} entries: it must be a prime number, such as 65537")
        self.table = <uint32_t*>zeros(slots, sizeof(uint32_t))
        self.ranks = <uint32_t*>zeros(count, sizeof(uint32_t))
        self.size = slots
        cdef Turn* turns = <Turn*>zeros(count, sizeof(Turn))
        cdef uint8_t* taken = <uint8_t*>calloc(slots, 1)
        if taken is NULL:
            free(turns)
            raise MemoryError
        for number in range(count):
            self.ranks[number] = order[number]
            turns[number] = turn_of(names[order[number]], shares[number], slots)
        fill_table(self.table, taken, slots, turns, self.ranks, count, max(shares))
        free(turns)
        free(taken)
        self.count = self.span = count

    def __dealloc__(self):
        free(self.table)

    cdef uint32_t place(self, uint64_t hashed, uint32_t attempt) noexcept nogil:
        if attempt:
            hashed ^= ~(<uint64_t>attempt - 1)
        return self.table[hashed % self.size]


cdef struct Turn:
    double weight
    double target
    uint32_t slot
    uint32_t skip


cdef Turn turn_of(bytes name, double share, uint32_t slots) noexcept:
    cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(name)
    cdef Py_ssize_t length = PyBytes_GET_SIZE(name)
    cdef Turn turn
    turn.weight = share
    turn.target = 0.0
    turn.slot = <uint32_t>(xxh64_of(at, length, 0) % slots)
    turn.skip = <uint32_t>(xxh64_of(at, length, 1) % (slots - 1)) + 1
    return turn


cdef void fill_table(
    uint32_t* table, uint8_t* taken, uint32_t slots, Turn* turns, const uint32_t* ranks, uint32_t count, double largest
) noexcept nogil:
    cdef uint32_t number, slot, filled = 0, turn = 0
    cdef Turn* each
    while True:
        turn += 1
        for number in range(count):
            each = &turns[number]
            if <double>turn * each.weight < each.target:
                continue
            each.target += largest
            slot = each.slot
            while taken[slot]:
                slot = slot + each.skip if slot < slots - each.skip else slot - (slots - each.skip)
            taken[slot] = 1
            table[slot] = ranks[number]
            each.slot = slot
            filled += 1
            if filled == slots:
                return


cdef list names_of(object keys):
    """The keys as a list, each looked at."""
    cdef list names = list(keys)
    if not 0 < len(names) <= ENDPOINTS_MAX:
        raise LocalError(f"{len(names)} keys: there may be 1 to {ENDPOINTS_MAX}")
    for position, name in enumerate(names):
        if not PyBytes_CheckExact(name):
            raise LocalError(f"key {position} is of type {type(name).__name__}: keys are bytes, encode it")
        if not 0 < len(name) <= KEY_BYTES_MAX:
            raise LocalError(f"key {position} is of {len(name)} bytes: there may be 1 to {KEY_BYTES_MAX}")
    if len(set(names)) < len(names):
        twice = next(name for position, name in enumerate(names) if names.index(name) < position)
        raise LocalError(f"the key {twice!r} is given twice")
    return names


cdef list sorted_by_key(list names):
    return sorted(range(len(names)), key=names.__getitem__)


cdef list weights_of(object weights, Py_ssize_t count):
    """As doubles, each looked at; all 1 if there are none."""
    cdef list taken
    if weights is None:
        return [1.0] * count
    taken = list(weights)
    if len(taken) != count:
        raise LocalError(f"{len(taken)} weights for {count} keys")
    for position, weight in enumerate(taken):
        if not WEIGHT_MIN <= weight <= WEIGHT_MAX:
            raise LocalError(f"weight {position} is {weight}: there may be 2^-32 to 2^32, leave out who gets nothing")
    return [float(weight) for weight in taken]


cdef list shares_of(object weights, list order, bint normalized):
    """The share of each in the given order, with a sum of 1."""
    cdef list taken = weights_of(weights, len(order))
    cdef double weight, total = 0.0
    cdef list ordered = [taken[position] for position in order]
    for weight in ordered:
        total += weight
    if normalized:
        if not 0.999999 < total < 1.000001:
            raise LocalError(f"the sum of normalized weights is {total}, not 1")
        return ordered
    return [weight / total for weight in ordered]


cdef int sort(Points* points) except -1:
    if not points_sort(points):
        raise MemoryError
    return 0


cdef bytes md5_of(bytes data):
    return md5(data, usedforsecurity=False).digest()


cdef bytes bytes_of(object data):
    if not PyBytes_CheckExact(data):
        raise LocalError(f"{type(data).__name__} can't be hashed: give bytes")
    return data


cdef uint64_t hash_of(str name, object value) except? 0xDEADBEEF:
    """A number of 64 bits."""
    try:
        return PyLong_AsUnsignedLongLong(PyNumber_Index(value))
    except OverflowError:
        raise LocalError(f"{name} {value} is not 0 to 2^64 - 1") from None


cdef int64_t number_of(str name, object value, int64_t smallest, int64_t largest) except? -1:
    cdef int overflow = 0
    cdef int64_t taken = PyLong_AsLongLongAndOverflow(PyNumber_Index(value), &overflow)
    if overflow or not smallest <= taken <= largest:
        raise LocalError(f"{name} {value} is not {smallest} to {largest}")
    return taken


cdef void* zeros(uint64_t count, size_t size) except NULL:
    cdef void* memory = calloc(count, size)
    if memory is NULL:
        raise MemoryError
    return memory
