"""Points on a circle of hashes and who owns them: see `Ring` of `distkit._fast.pure.hashing`.

All of it is compiled into the hashing kernel; there is no module behind this file. The circle is cut into places by
the leading bits of hashes, with 2 to 4 points in each on average, so that sorting and finding take a step or two.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy


cdef struct Points:
    uint64_t* hashes  # rising, once they are sorted
    uint32_t* owners  # by point
    uint32_t* starts  # by place: the first point there or behind
    uint64_t mask  # the bits of a hash that count
    uint32_t size
    int shift  # what is left of a hash without so many bits is its place


cdef inline bint points_allocate(Points* all, uint32_t size, int bits) noexcept:
    """Room for the points of hashes with so many bits; False if there is no memory."""
    cdef int leading = 1  # a shift by all 64 bits would be undefined
    while size >> leading > 4:
        leading += 1
    all.hashes = <uint64_t*>calloc(size, sizeof(uint64_t))
    all.owners = <uint32_t*>calloc(size, sizeof(uint32_t))
    all.starts = <uint32_t*>calloc(<size_t>1 << leading, sizeof(uint32_t))
    all.mask = <uint64_t>0xFFFFFFFFFFFFFFFF >> (64 - bits)
    all.shift = bits - leading
    all.size = size
    return all.hashes is not NULL and all.owners is not NULL and all.starts is not NULL


cdef inline void points_free(Points* all) noexcept:
    free(all.hashes)
    free(all.owners)
    free(all.starts)


cdef inline bint points_sort(Points* all) noexcept:
    """Equal ones stay in the order they came in. False if there is no memory."""
    cdef uint64_t* hashes = <uint64_t*>calloc(all.size, sizeof(uint64_t))
    cdef uint32_t* owners = <uint32_t*>calloc(all.size, sizeof(uint32_t))
    if hashes is not NULL and owners is not NULL:
        memcpy(hashes, all.hashes, all.size * sizeof(uint64_t))
        memcpy(owners, all.owners, all.size * sizeof(uint32_t))
        points_spread(all, hashes, owners)
        points_insert(all)
        points_start(all)
    free(hashes)
    free(owners)
    return hashes is not NULL and owners is not NULL


cdef inline void points_spread(Points* all, const uint64_t* hashes, const uint32_t* owners) noexcept nogil:
    """Put the points into their places."""
    cdef uint32_t at, to, here, total = 0
    for at in range(all.size):
        all.starts[hashes[at] >> all.shift] += 1
    for at in range(points_places(all)):
        here = all.starts[at]
        all.starts[at] = total
        total += here
    for at in range(all.size):
        to = all.starts[hashes[at] >> all.shift]
        all.starts[hashes[at] >> all.shift] += 1
        all.hashes[to] = hashes[at]
        all.owners[to] = owners[at]


cdef inline void points_insert(Points* all) noexcept nogil:
    """Sort what is nearly sorted."""
    cdef uint32_t at, to, owner
    cdef uint64_t hashed
    for at in range(1, all.size):
        hashed, owner, to = all.hashes[at], all.owners[at], at
        while to and all.hashes[to - 1] > hashed:
            all.hashes[to] = all.hashes[to - 1]
            all.owners[to] = all.owners[to - 1]
            to -= 1
        all.hashes[to] = hashed
        all.owners[to] = owner


cdef inline void points_start(Points* all) noexcept nogil:
    cdef uint32_t place, at = 0
    for place in range(points_places(all)):
        while at < all.size and all.hashes[at] >> all.shift < place:
            at += 1
        all.starts[place] = at


cdef inline void points_drop_equals(Points* all) noexcept nogil:
    """Of equal points only the first stays."""
    cdef uint32_t at, kept = 1
    for at in range(1, all.size):
        if all.hashes[at] != all.hashes[kept - 1]:
            all.hashes[kept] = all.hashes[at]
            all.owners[kept] = all.owners[at]
            kept += 1
    all.size = kept
    points_start(all)


cdef inline uint32_t points_places(const Points* all) noexcept nogil:
    return 1 + <uint32_t>(all.mask >> all.shift)


cdef inline uint32_t points_find(const Points* all, uint64_t hashed) noexcept nogil:
    """The first point at or behind the hash; the first of all if there is none."""
    hashed &= all.mask
    cdef uint32_t at = all.starts[hashed >> all.shift]
    while at < all.size and all.hashes[at] < hashed:
        at += 1
    return at if at < all.size else 0


cdef inline uint32_t points_next(const Points* all, uint32_t at) noexcept nogil:
    return at + 1 if at + 1 < all.size else 0
