"""The picker for other kernels, which pick without Python objects: see `distkit._fast.pure.picker`.

    cdef int64_t handle = picker.pick_hashed(False, 0, now)      # as pick(None, now)
    cdef int64_t handle = picker.pick_hashed(True, hashed, now)  # as pick(Context(key=hashed), now)
    picker.finish(handle, outcome, latency, now)                 # as done(handle, outcome, latency, now)

`<uint32_t>handle` is the slot. Both raise what the methods raise.
"""

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

from distkit._fast.table cimport Table, View, Wish

cdef enum:
    PICK_FAILED = -9


@cython.final
cdef class Picker(Table):
    cdef readonly dict slots
    cdef readonly dict labels
    cdef public object listener
    cdef public int64_t limit
    cdef public uint32_t streak_max
    cdef public uint32_t drop
    cdef public bint by_hash
    cdef public bint spare_draw
    cdef readonly uint64_t picks
    cdef readonly uint64_t stale
    cdef readonly uint32_t full
    cdef list views
    cdef void** view_at  # the same without counting references
    cdef uint32_t* block  # entries, ends and priorities
    cdef uint32_t* entries
    cdef uint32_t* ends
    cdef uint32_t* priorities
    cdef uint32_t entry_count
    cdef uint32_t scale
    cdef int64_t sole
    cdef uint32_t serial

    cdef int64_t pick_hashed(self, bint keyed, uint64_t hashed, double now) except? PICK_FAILED
    cdef bint finish(self, int64_t handle, int outcome, double latency, double now) except -1

    cdef int advance(self, double now) except -1
    cdef bint is_open(self) noexcept
    cdef int64_t take(self, const Wish* wish) except? PICK_FAILED
    cdef int64_t entry_for(self, const Wish* wish) noexcept
    cdef int64_t entry_at(self, int64_t priority) noexcept
    cdef int64_t elsewhere(self, const Wish* wish, int64_t tried) except? PICK_FAILED
    cdef int64_t charge(self, uint32_t slot) noexcept
    cdef int fill(self, Wish* wish, object context) except -1
    cdef void change_flags(self, uint32_t slot, uint32_t flags) noexcept
    cdef int64_t living(self, int64_t handle) noexcept
    cdef uint32_t checked_slot(self, object slot) except? 0xFFFFFFFF
    cdef uint32_t tenant(self, object slot) except? 0xFFFFFFFF
    cdef View checked_view(self, object index)
