"""What happens at each request: see `distkit._fast.pure.picker`, the specification of this kernel."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc

from distkit._fast.table cimport (
    C_CANCELLED,
    C_CONNECT_FAIL,
    C_OK,
    C_OVERLOAD,
    GONE,
    IN_FLIGHT_FULL,
    NO_PLACE,
    NOT_THERE,
    Row,
    Table,
    View,
    Wish,
    admits,
    draw,
    plain_wish,
)

from distkit.core.errors import LocalError

NO_ENDPOINT = -1
SATURATED = -2
DROPPED = -3

TIME_MAX = 1e15
VIEWS_MAX = 4096
ENTRIES_MAX = 4096
SCALE_MAX = 0x7FFFFFFF

cdef enum:
    C_NO_ENDPOINT = -1
    C_SATURATED = -2
    C_DROPPED = -3

cdef double LATEST = 1e15  # TIME_MAX
cdef uint64_t U64 = 0xFFFFFFFFFFFFFFFF
cdef uint64_t U32 = 0xFFFFFFFF


@cython.final
cdef class Picker(Table):
    def __cinit__(self):
        self.slots = {}
        self.labels = {}
        self.views = []
        self.sole = -1

    def __dealloc__(self):
        free(self.view_at)
        free(self.block)

    def __sizeof__(self):
        cdef View view
        size = object.__sizeof__(self) + self.capacity * (sizeof(Row) + sizeof(uint32_t))
        for view in self.views:
            size += object.__sizeof__(view) + view.taken()
        return size

    def attach(self, View view not None):
        cdef void* grown
        if view.table is not self or view.index != NO_PLACE:
            raise LocalError("a view belongs to one picker, and is attached to it once")
        if len(self.views) >= VIEWS_MAX:
            raise LocalError(f"a cluster has at most {VIEWS_MAX} views (priorities times localities)")
        grown = realloc(self.view_at, (len(self.views) + 1) * sizeof(void*))
        if grown is NULL:
            raise MemoryError
        self.view_at = <void**>grown
        self.view_at[len(self.views)] = <void*>view
        view.index = <uint32_t>len(self.views)
        view.mask = 0xFFFFFFFF
        self.views.append(view)
        return view.index

    def add(self, double weight, object limit=0, object labels=0, object flags=0):
        cdef uint32_t slot = <uint32_t>self.new_row()
        cdef Row* row = &self.rows[slot]
        row.weight = weight
        row.limit = limit
        row.labels = labels
        row.flags = <uint32_t>flags & ~(<uint32_t>GONE | IN_FLIGHT_FULL)
        return slot

    def remove(self, object slot):
        cdef uint32_t at = self.tenant(slot)
        self.move(slot, -1)
        self.change_flags(at, (self.rows[at].flags | GONE) & ~<uint32_t>IN_FLIGHT_FULL)
        if self.rows[at].active == 0:
            self.free_row(at)

    def revive(self, object slot):
        cdef uint32_t at = self.checked_slot(slot)
        cdef Row* row = &self.rows[at]
        if not row.flags & GONE or row.active == 0:
            raise LocalError(f"slot {slot} does not drain, so it can't be revived")
        self.change_flags(
            at, (row.flags | (IN_FLIGHT_FULL if row.limit and row.active >= row.limit else 0)) & ~<uint32_t>GONE
        )

    def move(self, object slot, object index):
        cdef uint32_t at = self.tenant(slot)
        cdef Row* row = &self.rows[at]
        cdef View view
        if not -1 <= index < len(self.views):
            raise LocalError(f"there is no view {index}")
        if row.view != NO_PLACE:
            view = <View>self.view_at[row.view]
            if row.place != NO_PLACE:
                view.leave(at)
            view.unplace(at)
            view.active -= row.active
            row.view = NO_PLACE
        if index >= 0:
            view = self.views[index]
            view.place(at)
            view.active += row.active
            row.view = index
            if row.flags & view.mask == 0:
                view.join(at)

    def start(self, object index):
        self.checked_view(index).start()

    def mask(self, object index, object mask):
        cdef View view = self.checked_view(index)
        cdef uint32_t slot
        cdef Row* row
        view.mask = <uint32_t>(mask & U32) | GONE | IN_FLIGHT_FULL
        for slot in range(self.count):
            row = &self.rows[slot]
            if row.view == view.index and (row.flags & view.mask == 0) != (row.place != NO_PLACE):
                if row.place == NO_PLACE:
                    view.join(slot)
                else:
                    view.leave(slot)

    def flag(self, object slot, object closed, object opened):
        cdef uint32_t at = self.checked_slot(slot)
        self.change_flags(at, (self.rows[at].flags | <uint32_t>(closed & U32)) & ~<uint32_t>(opened & U32))

    def weigh(self, object slot, double weight):
        cdef uint32_t at = self.tenant(slot)
        cdef Row* row = &self.rows[at]
        if not 0 < weight <= LATEST:
            raise LocalError(f"a weight must be more than 0 and finite, not {weight!r}")
        if row.view == NO_PLACE:
            row.weight = weight
        elif weight != row.weight:
            (<View>self.view_at[row.view]).weigh(at, weight)

    def bound(self, object slot, object limit):
        cdef uint32_t at = self.tenant(slot)
        cdef Row* row = &self.rows[at]
        if not 0 <= limit <= U32:
            raise LocalError(f"a limit must be 0 (none) to {U32}, not {limit}")
        row.limit = limit
        if row.limit and row.active >= row.limit:
            self.change_flags(at, row.flags | IN_FLIGHT_FULL)
        else:
            self.change_flags(at, row.flags & ~<uint32_t>IN_FLIGHT_FULL)

    def rank(self, object slot, object rank):
        cdef uint32_t at = self.tenant(slot)
        if self.rows[at].view != NO_PLACE:
            (<View>self.view_at[self.rows[at].view]).rank(at, rank)

    def label(self, object slot, object labels):
        self.rows[self.tenant(slot)].labels = labels & U64

    def route(self, views, ends, priorities, object scale):
        cdef uint32_t i
        cdef uint32_t* block
        if not len(views) == len(ends) == len(priorities) <= ENTRIES_MAX or not 0 < scale <= SCALE_MAX:
            raise LocalError(f"{len(views)} views, {len(ends)} ends and {len(priorities)} priorities don't fit {scale}")
        last = 0
        for index, end in zip(views, ends):
            self.checked_view(index)
            if not last <= end <= scale:
                raise LocalError(f"the ends {list(ends)} must rise up to {scale}")
            last = end
        if len(views) and last != scale:
            raise LocalError(f"the ends {list(ends)} must rise up to {scale}")
        block = <uint32_t*>calloc(3 * len(views) + 1, sizeof(uint32_t))
        if block is NULL:
            raise MemoryError
        free(self.block)
        self.block = block
        self.entry_count = <uint32_t>len(views)
        self.entries = block
        self.ends = block + self.entry_count
        self.priorities = self.ends + self.entry_count
        self.scale = scale
        self.sole = -1
        for i in range(self.entry_count):
            self.entries[i] = views[i]
            self.ends[i] = ends[i]
            self.priorities[i] = priorities[i]
            if self.sole < 0 and self.ends[i] == self.scale and (i == 0 or self.ends[i - 1] == 0):
                self.sole = i

    def pick(self, context, double now):
        cdef Wish wish
        cdef uint32_t slot
        if context is None:
            return self.pick_hashed(False, 0, now)
        if type(context) is int:
            return self.pick_hashed(True, hash_of(context), now)
        self.advance(now)
        if not self.fill(&wish, context):
            return NO_ENDPOINT
        if context.override is not None:
            found = self.slots.get(context.override)
            if found is not None:
                slot = found
                if self.rows[slot].place != NO_PLACE and admits(&wish, &self.rows[slot]) and self.is_open():
                    return self.charge(slot)
        return self.take(&wish)

    def pick_many(self, n_or_keys, out, double now):
        cdef Py_buffer results_buffer, keys_buffer
        cdef Wish wish = plain_wish(False, 0)
        cdef int64_t* results
        cdef const uint64_t* keys = NULL
        cdef Py_ssize_t i, count
        results_view = integers(out, "ql", "out")
        if results_view.readonly:
            raise LocalError("out must be writable")
        keys_view = None if isinstance(n_or_keys, int) else integers(n_or_keys, "QL", "keys")
        counted = n_or_keys if isinstance(n_or_keys, int) else len(n_or_keys)
        if not 0 <= counted <= len(results_view):
            raise LocalError(f"out has room for {len(results_view)} picks, not for {counted}")
        count = counted
        if count:
            self.advance(now)
        PyObject_GetBuffer(results_view, &results_buffer, PyBUF_WRITABLE)
        try:
            results = <int64_t*>results_buffer.buf
            if keys_view is None:
                for i in range(count):
                    results[i] = self.take(&wish)
            else:
                PyObject_GetBuffer(keys_view, &keys_buffer, PyBUF_SIMPLE)
                try:
                    keys = <const uint64_t*>keys_buffer.buf
                    wish.keyed = True
                    for i in range(count):
                        wish.hashed = keys[i]
                        results[i] = self.take(&wish)
                finally:
                    PyBuffer_Release(&keys_buffer)
        finally:
            PyBuffer_Release(&results_buffer)
        return count

    def done(self, int64_t handle, object outcome, double latency, double now, report=None):
        cdef int code = outcome if 0 <= outcome <= C_OVERLOAD else -1
        cdef bint counted
        if code < 0:
            raise LocalError(f"an outcome is one of distkit.balance.Outcome, not {outcome}")
        counted = self.finish(handle, code, latency, now)
        if counted and report is not None and self.listener is not None:
            self.listener.reported(<uint32_t>handle, report, self.now)
        return counted

    def observe(self, double now):
        self.advance(now)

    def slot(self, int64_t handle):
        return self.living(handle)

    def load(self, object slot):
        cdef Row* row = &self.rows[self.checked_slot(slot)]
        return row.flags, row.active, row.weight, row.latency

    def counters(self, object slot):
        cdef Row* row = &self.rows[self.tenant(slot)]
        counted = row.successes, row.failures, row.latency_sum
        row.successes = row.failures = 0
        row.latency_sum = 0.0
        return counted

    def members(self, object index):
        return self.checked_view(index).count

    def handle(self, object slot):
        cdef uint32_t at = self.tenant(slot)
        return <int64_t>self.rows[at].generation << 32 | at

    cdef int64_t pick_hashed(self, bint keyed, uint64_t hashed, double now) except? PICK_FAILED:
        cdef Wish wish = plain_wish(keyed, hashed)
        self.advance(now)
        return self.take(&wish)

    cdef bint finish(self, int64_t handle, int outcome, double latency, double now) except -1:
        cdef uint32_t slot = <uint32_t>(handle & U32)
        cdef Row* row
        cdef View view = None
        if not 0 <= latency <= LATEST:
            raise LocalError(f"a latency must be a finite number of seconds, at least 0, not {latency!r}")
        self.advance(now)
        if slot >= self.count or self.rows[slot].generation != handle >> 32 or self.rows[slot].active == 0:
            self.stale += 1
            return False
        row = &self.rows[slot]
        row.active -= 1
        self.outstanding -= 1
        if row.flags & GONE:
            self.stale += 1
            if row.active == 0:
                self.free_row(slot)
            return False
        if row.view != NO_PLACE:
            view = <View>self.view_at[row.view]
            view.active -= 1
            if view.watches:
                view.released(slot)
        if row.flags & IN_FLIGHT_FULL and row.active < row.limit:
            self.change_flags(slot, row.flags & ~<uint32_t>IN_FLIGHT_FULL)
        if outcome == C_CANCELLED:
            return True
        if outcome == C_OK:
            row.successes += 1
            row.latency_sum += latency
            row.streak = 0
        elif outcome <= C_CONNECT_FAIL:
            row.failures += 1
            row.streak += 1
        if view is not None and view.watches:
            view.answered(slot, outcome, latency)
        if outcome == C_OVERLOAD:
            if self.listener is not None:
                self.listener.overloaded(slot, self.now)
        elif row.streak and row.streak == self.streak_max and self.listener is not None:
            row.streak = 0
            self.listener.failing(slot, self.now)
        return True

    cdef int advance(self, double now) except -1:
        if not -LATEST <= now <= LATEST:
            raise LocalError(f"now must be a finite number of seconds, not {now!r}")
        if now > self.now:
            self.now = now
        return 0

    cdef bint is_open(self) noexcept:
        return not self.limit or self.outstanding < self.limit

    cdef int64_t take(self, const Wish* wish) except? PICK_FAILED:
        cdef int64_t entry, slot = NOT_THERE
        if not self.is_open():
            return C_SATURATED
        if self.drop and draw(self) >> 32 < self.drop:
            return C_DROPPED
        if not self.entry_count:
            return C_NO_ENDPOINT
        entry = self.entry_for(wish)
        if entry >= 0:
            slot = (<View>self.view_at[self.entries[entry]]).choose(wish)
        if slot == NOT_THERE:
            slot = self.elsewhere(wish, entry)
        if slot == NOT_THERE:
            return C_SATURATED if self.full else C_NO_ENDPOINT
        return self.charge(<uint32_t>slot)

    cdef int64_t entry_for(self, const Wish* wish) noexcept:
        cdef uint64_t number
        cdef int64_t entry = 0
        if wish.priority >= 0:
            return self.entry_at(wish.priority)
        if self.sole >= 0 and not self.spare_draw:
            return self.sole
        number = (wish.hashed if wish.keyed and self.by_hash else draw(self)) % self.scale
        while number >= self.ends[entry]:
            entry += 1
        return entry

    cdef int64_t entry_at(self, int64_t priority) noexcept:
        cdef uint64_t number, total = 0
        cdef uint32_t share, before = 0, i
        for i in range(self.entry_count):
            if self.priorities[i] == priority:
                total += self.ends[i] - before
            before = self.ends[i]
        if total == 0:
            return -1
        number = draw(self) % total
        before = 0
        for i in range(self.entry_count):
            share = self.ends[i] - before if self.priorities[i] == priority else 0
            before = self.ends[i]
            if number < share:
                return i
            number -= share
        return -1

    cdef int64_t elsewhere(self, const Wish* wish, int64_t tried) except? PICK_FAILED:
        cdef int64_t slot
        cdef uint32_t i
        for i in range(self.entry_count):
            if i != tried and (wish.priority < 0 or self.priorities[i] == wish.priority):
                slot = (<View>self.view_at[self.entries[i]]).choose(wish)
                if slot != NOT_THERE:
                    return slot
        return NOT_THERE

    cdef int64_t charge(self, uint32_t slot) noexcept:
        cdef Row* row = &self.rows[slot]
        cdef View view = <View>self.view_at[row.view]
        row.active += 1
        self.outstanding += 1
        self.picks += 1
        view.active += 1
        if view.watches:
            view.charged(slot)
        if row.active == row.limit:
            self.change_flags(slot, row.flags | IN_FLIGHT_FULL)
        return <int64_t>row.generation << 32 | slot

    cdef int fill(self, Wish* wish, object context) except -1:
        """What a context asks for; 0 if no endpoint has such tags."""
        cdef uint32_t each_slot
        cdef int64_t slot
        try:
            wish.keyed = context.key is not None
        except AttributeError:
            raise LocalError(f"a request is described by a Context or None, not {context!r:.80}") from None
        wish.hashed = context.key if wish.keyed else 0
        wish.attempt = context.attempt
        wish.priority = -1 if context.priority is None else context.priority
        wish.labels = 0
        for tag in context.subset:
            labels = self.labels.get(tag)
            if labels is None:
                return 0
            wish.labels |= <uint64_t>labels
        exclude = context.exclude
        wish.filtered = wish.labels != 0 or len(exclude) > 0
        if self.serial == 0xFFFFFFFF:  # the numbers begin again: no row may know one of the last round
            self.serial = 0
            for each_slot in range(self.count):
                self.rows[each_slot].barred = 0
        self.serial += 1
        wish.serial = self.serial
        for each in exclude:
            slot = self.slots.get(each, -1) if isinstance(each, str) else self.living(each)
            if slot >= 0:
                self.rows[slot].barred = wish.serial
        return 1

    cdef void change_flags(self, uint32_t slot, uint32_t flags) noexcept:
        cdef Row* row = &self.rows[slot]
        cdef View view
        if (flags ^ row.flags) & IN_FLIGHT_FULL:
            self.full += 1 if flags & IN_FLIGHT_FULL else -1
        row.flags = flags
        if row.view != NO_PLACE:
            view = <View>self.view_at[row.view]
            if (flags & view.mask == 0) != (row.place != NO_PLACE):
                if row.place == NO_PLACE:
                    view.join(slot)
                else:
                    view.leave(slot)

    cdef int64_t living(self, int64_t handle) noexcept:
        """The slot that a handle names, -1 if it is stale."""
        cdef uint32_t slot = <uint32_t>(handle & U32)
        if slot >= self.count or self.rows[slot].generation != handle >> 32:
            return -1
        if self.rows[slot].flags & GONE and self.rows[slot].active == 0:
            return -1
        return slot

    cdef uint32_t checked_slot(self, object slot) except? 0xFFFFFFFF:
        if not 0 <= slot < self.count:
            raise LocalError(f"there is no slot {slot}")
        return slot

    cdef uint32_t tenant(self, object slot) except? 0xFFFFFFFF:
        cdef uint32_t at = self.checked_slot(slot)
        if self.rows[at].flags & GONE:
            raise LocalError(f"the endpoint of slot {slot} was removed")
        return at

    cdef View checked_view(self, object index):
        if not 0 <= index < len(self.views):
            raise LocalError(f"there is no view {index}")
        return self.views[index]


cdef uint64_t hash_of(object key) except? 0:
    if not 0 <= key <= U64:
        raise LocalError(f"a key is a hash of 64 bits, not {key}")
    return key


cdef object integers(buffer, formats, name):
    """A buffer as a row of 64-bit integers."""
    try:
        view = memoryview(buffer)
    except TypeError:
        view = None
    if view is None or view.ndim != 1 or view.itemsize != 8 or view.format not in formats or not view.contiguous:
        raise LocalError(
            f"{name} must be a contiguous buffer of 64-bit integers (array('{formats[0]}'), numpy), not {buffer!r:.80}"
        )
    return view
