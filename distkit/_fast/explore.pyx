"""The search of the explorer: see `distkit._fast.pure.explore`, the specification of this kernel."""

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy

from distkit.core.errors import LocalError

PENDING = 0
COMPLETE = 1
CAPPED = 2
BROKEN = 3

NUMBER_MAX = (1 << 26) - 2
NOWHERE = (1 << 26) - 1
WIDTH_MAX = 32
ORDERS_MAX = 720

cdef enum:
    C_NOWHERE = 0x3FFFFFF
    C_WIDTH_MAX = 32
    C_ORDERS_MAX = 720
    ROOM_MIN = 1024

    # Of the keys of `Table`.
    MOVES = 1
    PAIR = 2
    NAME = 3

cdef extern from *:
    """
    #define EXPLORE_MIX UINT64_C(0x9E3779B97F4A7C15)
    """
    const uint64_t EXPLORE_MIX


cdef inline uint64_t mixed(uint64_t number) noexcept nogil:
    number *= EXPLORE_MIX
    return number ^ number >> 32


cdef inline uint64_t packed(uint64_t kind, uint64_t place, uint64_t other, uint64_t number, uint64_t source) noexcept nogil:
    return kind << 62 | place << 57 | other << 52 | number << 26 | source


cdef struct Vectors:
    # Different vectors of `width` numbers, in the order in which they came, and their places by hash.
    uint32_t width
    uint32_t* items
    uint32_t* places  # number of the vector and one; 0 where none is
    uint64_t count
    uint64_t room  # for so many vectors; twice as many places


cdef bint vectors_grow(Vectors* all) noexcept nogil:
    """Room for twice as many, or for the first ones; False if there is no memory."""
    cdef uint64_t room = 2 * all.room if all.room else ROOM_MIN
    cdef uint64_t number, place
    cdef uint32_t* items = <uint32_t*>realloc(all.items, room * all.width * sizeof(uint32_t))
    if items is NULL:
        return False
    all.items = items
    free(all.places)
    all.places = <uint32_t*>calloc(2 * room, sizeof(uint32_t))
    if all.places is NULL:
        all.room = 0
        return False
    all.room = room
    for number in range(all.count):
        place = vectors_hash(all, &items[number * all.width]) & (2 * room - 1)
        while all.places[place]:
            place = (place + 1) & (2 * room - 1)
        all.places[place] = <uint32_t>(number + 1)
    return True


cdef inline uint64_t vectors_hash(Vectors* all, const uint32_t* vector) noexcept nogil:
    cdef uint64_t result = 0
    cdef uint32_t place
    for place in range(all.width):
        result = mixed(result ^ vector[place]) + place
    return mixed(result)


cdef inline int64_t vectors_add(Vectors* all, const uint32_t* vector) noexcept nogil:
    """1 if it is new, 0 if it is known, -1 if there is no memory."""
    cdef uint64_t place, mask
    cdef size_t size = all.width * sizeof(uint32_t)
    if all.count == all.room and not vectors_grow(all):
        return -1
    mask = 2 * all.room - 1
    place = vectors_hash(all, vector) & mask
    while all.places[place]:
        if memcmp(&all.items[<uint64_t>(all.places[place] - 1) * all.width], vector, size) == 0:
            return 0
        place = (place + 1) & mask
    memcpy(&all.items[all.count * all.width], vector, size)
    all.count += 1
    all.places[place] = <uint32_t>all.count
    return 1


cdef inline bint vectors_has(Vectors* all, const uint32_t* vector) noexcept nogil:
    cdef uint64_t place, mask
    cdef size_t size = all.width * sizeof(uint32_t)
    if not all.count:
        return False
    mask = 2 * all.room - 1
    place = vectors_hash(all, vector) & mask
    while all.places[place]:
        if memcmp(&all.items[<uint64_t>(all.places[place] - 1) * all.width], vector, size) == 0:
            return True
        place = (place + 1) & mask
    return False


cdef struct Table:
    # Numbers by key, and 0 is no key.
    uint64_t* keys
    uint64_t* values
    uint64_t count
    uint64_t places


cdef bint table_put(Table* table, uint64_t key, uint64_t value) noexcept nogil:
    """Of a key that is not there. False if there is no memory."""
    cdef Table grown
    cdef uint64_t place
    if 2 * table.count >= table.places:
        grown.places = 2 * table.places if table.places else ROOM_MIN
        grown.count = 0
        grown.keys = <uint64_t*>calloc(grown.places, sizeof(uint64_t))
        grown.values = <uint64_t*>calloc(grown.places, sizeof(uint64_t))
        if grown.keys is NULL or grown.values is NULL:
            free(grown.keys)
            free(grown.values)
            return False
        for place in range(table.places):
            if table.keys[place]:
                table_put(&grown, table.keys[place], table.values[place])
        free(table.keys)
        free(table.values)
        table[0] = grown
    place = mixed(key) & (table.places - 1)
    while table.keys[place]:
        place = (place + 1) & (table.places - 1)
    table.keys[place] = key
    table.values[place] = value
    table.count += 1
    return True


cdef inline int64_t table_get(Table* table, uint64_t key) noexcept nogil:
    """-1 if it is not there."""
    cdef uint64_t place
    if not table.places:
        return -1
    place = mixed(key) & (table.places - 1)
    while table.keys[place]:
        if table.keys[place] == key:
            return <int64_t>table.values[place]
        place = (place + 1) & (table.places - 1)
    return -1


@cython.final
cdef class Explorer:
    cdef readonly int64_t at
    cdef readonly int64_t depth
    cdef int64_t level_end
    cdef object space
    cdef uint32_t width
    cdef bint running

    cdef Vectors states
    cdef uint32_t* parents
    cdef uint64_t parents_room
    cdef Vectors judged

    cdef Table table
    cdef uint32_t* moves  # count, and then as often (after, cost)
    cdef uint64_t moves_count
    cdef uint64_t moves_room

    cdef bytes allowed
    cdef uint32_t low
    cdef uint32_t high
    cdef uint32_t orders_count
    cdef uint32_t* orders

    def __dealloc__(self):
        free(self.states.items)
        free(self.states.places)
        free(self.parents)
        free(self.judged.items)
        free(self.judged.places)
        free(self.table.keys)
        free(self.table.values)
        free(self.moves)
        free(self.orders)

    def __init__(self, space, first, allowed, low=0, high=0, orders=()):
        cdef uint32_t vector[C_WIDTH_MAX]
        cdef uint32_t place
        if self.width:
            raise LocalError("an explorer begins once")
        if not 2 <= len(first) <= C_WIDTH_MAX:
            raise LocalError(f"a state has 2 to {WIDTH_MAX} numbers, not {len(first)}")
        if not 0 <= low <= high <= len(first) or len(orders) > C_ORDERS_MAX:
            raise LocalError(f"places {low} to {high} in {len(orders)} orders of a state of {len(first)}")
        for number in first:
            if not 0 <= number <= NUMBER_MAX:
                raise LocalError(f"the numbers of a state are 0 to {NUMBER_MAX}, not {number}")
        for order in orders:
            if sorted(order) != list(range(high - low)):
                raise LocalError(f"{order} is no order of {high - low} places")
        self.space = space
        self.allowed = bytes(allowed)
        if not first[0] < len(self.allowed):
            raise LocalError("the first state spends more than is allowed")
        self.low = low
        self.high = high
        self.orders_count = len(orders)
        self.orders = <uint32_t*>malloc((self.orders_count * (high - low) + 1) * sizeof(uint32_t))
        if self.orders is NULL:
            raise MemoryError
        for number, order in enumerate(orders):
            for place in range(high - low):
                self.orders[number * (high - low) + place] = order[place]
        self.width = len(first)
        self.states.width = self.width
        self.judged.width = self.width - 1
        for place in range(self.width):
            vector[place] = first[place]
        self._add(vector, 0)
        self.level_end = 1

    @property
    def count(self):
        return self.states.count

    def state(self, int64_t number):
        cdef uint32_t place
        self._check(number)
        return tuple([self.states.items[number * self.width + place] for place in range(self.width)])

    def parent(self, int64_t number):
        self._check(number)
        return self.parents[number]

    def run(self, int64_t states_max, int64_t looks):
        cdef int64_t end
        cdef int status
        if self.running:
            raise LocalError("the explorer is running")
        self.running = True
        try:
            end = min(self.at + looks, <int64_t>1 << 62)
            while self.at < <int64_t>self.states.count:
                if self.at >= end:
                    return PENDING
                if self.at == self.level_end:
                    self.depth += 1
                    self.level_end = self.states.count
                status = self._look(states_max)
                if status:
                    return status
                self.at += 1
            return COMPLETE
        finally:
            self.running = False

    cdef _check(self, int64_t number):
        if not 0 <= number < <int64_t>self.states.count:
            raise LocalError(f"there is no state {number}, only {self.states.count}")

    cdef int _look(self, int64_t states_max) except -1:
        """Everything that is one move away from the state `at`."""
        cdef uint32_t state[C_WIDTH_MAX]
        cdef uint32_t place, other
        cdef int64_t moves
        cdef int status
        memcpy(state, &self.states.items[self.at * self.width], self.width * sizeof(uint32_t))
        for place in range(1, self.width):
            moves = table_get(&self.table, packed(MOVES, place, 0, state[place], 0))
            if moves < 0:
                moves = self._learn(
                    packed(MOVES, place, 0, state[place], 0), self.space.alone(place - 1, state[place])
                )
            status = self._follow(state, place, moves, states_max)
            if status:
                return status
            for other in range(1, self.width):
                if other == place:
                    continue
                moves = table_get(&self.table, packed(PAIR, place, other, state[place], state[other]))
                if moves < 0:
                    moves = self._learn(
                        packed(PAIR, place, other, state[place], state[other]),
                        self.space.together(place - 1, state[place], other - 1, state[other]),
                    )
                status = self._follow(state, place, moves, states_max)
                if status:
                    return status
        return 0

    cdef int64_t _learn(self, uint64_t key, found) except -1:
        """Keep the moves of a key."""
        cdef uint64_t room
        cdef uint32_t* moves
        cdef tuple known = tuple(found)
        cdef uint64_t start = self.moves_count
        cdef uint64_t wanted = start + 1 + 2 * <uint64_t>len(known)
        if wanted > self.moves_room:
            room = max(2 * self.moves_room, wanted, <uint64_t>ROOM_MIN)
            moves = <uint32_t*>realloc(self.moves, room * sizeof(uint32_t))
            if moves is NULL:
                raise MemoryError
            self.moves = moves
            self.moves_room = room
        self.moves[start] = <uint32_t>len(known)
        wanted = start + 1
        for after, cost in known:
            if not 0 <= after <= NOWHERE:
                raise LocalError(f"the numbers of a state are 0 to {NUMBER_MAX}, not {after}")
            self.moves[wanted] = after
            self.moves[wanted + 1] = cost
            wanted += 2
        if not table_put(&self.table, key, start):
            raise MemoryError
        self.moves_count = wanted
        return <int64_t>start

    cdef int _follow(self, uint32_t* state, uint32_t place, int64_t moves, int64_t states_max) except -1:
        """Make the moves of one place."""
        cdef uint32_t changed[C_WIDTH_MAX]
        cdef uint32_t* found
        cdef uint32_t number, after
        cdef uint64_t spent
        cdef const unsigned char* allowed = self.allowed
        cdef uint64_t allowed_count = len(self.allowed)
        for number in range(self.moves[moves]):
            after = self.moves[moves + 1 + 2 * number]
            spent = <uint64_t>state[0] + self.moves[moves + 2 + 2 * number]
            if spent >= allowed_count or not allowed[spent]:
                continue
            if after == C_NOWHERE:
                return C_BROKEN
            memcpy(changed, state, self.width * sizeof(uint32_t))
            changed[0] = <uint32_t>spent
            changed[place] = after
            found = changed
            if self.orders_count:
                self._canonical(changed)
            if vectors_has(&self.states, found):
                continue
            if <int64_t>self.states.count >= states_max:
                return C_CAPPED
            self._add(found, <uint32_t>self.at)
        return 0

    cdef int _canonical(self, uint32_t* state) except -1:
        """Bring a state into the order that stands for all: the smallest one with sorted places."""
        cdef uint32_t best[C_WIDTH_MAX]
        cdef uint32_t other[C_WIDTH_MAX]
        cdef uint32_t size = self.high - self.low
        cdef uint32_t number, place
        cdef uint32_t* order
        cdef int64_t renamed
        cdef bint sorted_, any_ = False
        sorted_ = True
        for place in range(self.low + 1, self.high):
            if state[place - 1] >= state[place]:
                sorted_ = False
                break
        if sorted_:
            return 0  # and no other order is
        for number in range(self.orders_count):
            order = &self.orders[number * size]
            sorted_ = True
            for place in range(1, size):
                if state[self.low + order[place - 1]] > state[self.low + order[place]]:
                    sorted_ = False
                    break
            if not sorted_:
                continue
            for place in range(self.width):
                other[place] = state[place]
            for place in range(size):
                other[self.low + place] = state[self.low + order[place]]
            for place in range(1, self.width):
                if self.low <= place < self.high:
                    continue
                renamed = table_get(&self.table, packed(NAME, place, 0, state[place], number))
                if renamed < 0:
                    renamed = self.space.renamed(place - 1, state[place], number)
                    if not 0 <= renamed < C_NOWHERE:
                        raise LocalError(f"the numbers of a state are 0 to {NUMBER_MAX}, not {renamed}")
                    if not table_put(&self.table, packed(NAME, place, 0, state[place], number), renamed):
                        raise MemoryError
                other[place] = <uint32_t>renamed
            if not any_ or smaller(other, best, self.width):
                any_ = True
                memcpy(best, other, self.width * sizeof(uint32_t))
        memcpy(state, best, self.width * sizeof(uint32_t))
        return 0

    cdef int _add(self, uint32_t* state, uint32_t parent) except -1:
        """A new state: keep it, and have it judged unless one that looks the same was."""
        cdef uint32_t views[C_WIDTH_MAX]
        cdef uint64_t room
        cdef uint32_t* parents
        cdef uint32_t place
        cdef int64_t view, new
        if self.states.count == self.parents_room:
            room = 2 * self.parents_room if self.parents_room else ROOM_MIN
            parents = <uint32_t*>realloc(self.parents, room * sizeof(uint32_t))
            if parents is NULL:
                raise MemoryError
            self.parents = parents
            self.parents_room = room
        self.parents[self.states.count] = parent
        if vectors_add(&self.states, state) < 0:
            raise MemoryError
        for place in range(1, self.width):
            view = table_get(&self.table, packed(MOVES, place, 1, state[place], 0))
            if view < 0:
                view = self.space.view(place - 1, state[place])
                if not 0 <= view < C_NOWHERE:
                    raise LocalError(f"the numbers of views are 0 to {NUMBER_MAX}, not {view}")
                if not table_put(&self.table, packed(MOVES, place, 1, state[place], 0), view):
                    raise MemoryError
            views[place - 1] = <uint32_t>view
        new = vectors_add(&self.judged, views)
        if new < 0:
            raise MemoryError
        if new:
            self.space.judge(tuple([views[place] for place in range(self.width - 1)]))
        return 0


cdef inline bint smaller(const uint32_t* one, const uint32_t* other, uint32_t width) noexcept nogil:
    cdef uint32_t place
    for place in range(width):
        if one[place] != other[place]:
            return one[place] < other[place]
    return False


cdef enum:
    C_CAPPED = 2
    C_BROKEN = 3
