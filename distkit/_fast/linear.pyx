"""The search of the linearizability checker: see `distkit._fast.pure.linear`, the specification of this kernel."""

cimport cython
from cpython.list cimport PyList_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from distkit._fast.sequences cimport (
    HASH_BASE,
    SEQUENCE_BYTES,
    Sequences,
    mixed,
    product,
    sequence_pop,
    sequence_push,
    sequences_free,
    sequences_grow,
)

from distkit.core.errors import LocalError

READ = 0
UNLESS = 1
WRITE = 2
CAS = 3
ADD = 4
PUSH = 5
POP = 6
TAKE = 7

LEGAL = 1
PENDING = 0
ILLEGAL = -1
FULL = -2

MEMORY_FACTOR = 1

NUMBER_MAX = 0x3FFFFFFFFFFFFFFF
VALUE_MAX = 0x7FFFFFFF
OPERATIONS_MAX = 0x7FFFFFFF

cdef enum:
    C_READ = 0
    C_UNLESS = 1
    C_WRITE = 2
    C_CAS = 3
    C_ADD = 4
    C_PUSH = 5
    C_POP = 6
    C_TAKE = 7

    C_LEGAL = 1
    C_PENDING = 0
    C_ILLEGAL = -1
    C_FULL = -2

    OPERATION_BYTES = 80
    CELL_BYTES = 8
    STATE_BYTES = 256
    CAPACITY_MIN = 64
    NONE = 0xFFFFFFFF  # no operation; no table of ours has so many places

    SMALL_MAX = 0x7FFFFFFF  # VALUE_MAX

cdef int64_t LARGE_MAX = 0x3FFFFFFFFFFFFFFF  # NUMBER_MAX


cdef struct Instruction:
    int64_t a
    int64_t b
    uint8_t code


@cython.final
cdef class Search:
    cdef readonly int64_t steps
    cdef uint32_t count
    cdef uint32_t answers
    cdef bint running

    # By answer; the limits end with one more, which stops every walk along the order.
    cdef uint32_t* block  # all that is of 32 bits: one piece of memory
    cdef uint32_t* order
    cdef uint32_t* limits

    # By operation; the ring of `after` and `before` has its head at the end.
    cdef Instruction* instructions
    cdef uint32_t* twins
    cdef uint32_t* ranks
    cdef uint32_t* slots
    cdef uint32_t* after
    cdef uint32_t* before

    # The order that is being built, the state before each operation in it, and the state behind the last one.
    cdef uint32_t* stack
    cdef int64_t* states_before
    cdef uint32_t depth
    cdef uint32_t entry
    cdef uint32_t rank
    cdef int64_t state

    cdef uint32_t* best
    cdef uint32_t best_depth
    cdef uint32_t best_rank
    cdef uint32_t shared

    # The memo: places of `width` cells, by open addressing; the first cell of a free one is 0. The key of the order is
    # made in `key`, where the bits of the set have their place at all times.
    cdef uint64_t* memo
    cdef uint64_t* key
    cdef uint64_t* bits
    cdef uint64_t memo_capacity
    cdef uint64_t memo_count
    cdef uint32_t width
    cdef bint wide

    # Lists and queues; of a queue what was pushed in all, of which all but the first `popped` are the state.
    cdef bint has_sequences
    cdef Sequences sequences
    cdef uint32_t* pushed
    cdef uint32_t pushed_count
    cdef uint32_t popped
    cdef uint64_t* powers  # of HASH_BASE

    # What `step` is called with.
    cdef object step
    cdef list objects
    cdef list states
    cdef dict numbers

    def __cinit__(self):
        self.states = []
        self.numbers = {}

    def __dealloc__(self):
        free(self.block)
        free(self.instructions)
        free(self.states_before)
        free(self.key)
        free(self.memo)
        free(self.powers)
        sequences_free(&self.sequences)

    def __init__(self, order, limits, twins, instructions, initial=0, sequences=(), step=None):
        if self.block is not NULL:
            raise LocalError("a search is made once")
        self.objects = list(instructions)
        self.step = step
        if not len(twins) == len(self.objects) <= OPERATIONS_MAX or len(order) != len(limits):
            raise LocalError(
                f"{len(self.objects)} operations, {len(twins)} twins, {len(order)} answers and {len(limits)} limits "
                "don't fit"
            )
        self.allocate(len(self.objects), len(order))
        self.take_order(list(order), list(limits), list(twins))
        cdef uint32_t slots = self.take_slots()
        self.take_sequences(sequences)
        if step is None:
            self.take_instructions(initial)
            self.objects = None
        else:
            self.state = self.number(initial)
        self.width = 1 + self.wide + (slots + 63) // 64
        self.key = <uint64_t*>zeros(self.width, sizeof(uint64_t))
        self.bits = self.key + 1 + self.wide
        self.memo_capacity = CAPACITY_MIN
        self.memo = <uint64_t*>zeros(CAPACITY_MIN * self.width, sizeof(uint64_t))

    cdef int allocate(self, Py_ssize_t count, Py_ssize_t answers) except -1:
        """Everything whose size is known from the start, and the ring with all operations."""
        cdef uint32_t number
        self.count = count
        self.answers = answers
        self.block = <uint32_t*>zeros(8 * count + 2 + 2 * answers + 1, sizeof(uint32_t))
        self.order = self.block
        self.limits = self.order + answers
        self.twins = self.limits + answers + 1
        self.ranks = self.twins + count
        self.slots = self.ranks + count
        self.stack = self.slots + count
        self.best = self.stack + count
        self.pushed = self.best + count
        self.after = self.pushed + count
        self.before = self.after + count + 1
        self.states_before = <int64_t*>zeros(count, sizeof(int64_t))
        for number in range(self.count):
            self.after[number] = number + 1
            self.before[number + 1] = number
        self.before[0] = self.count
        self.after[self.count] = 0
        return 0

    cdef int take_order(self, list order, list limits, list twins) except -1:
        cdef uint32_t rank, number
        cdef int64_t limit, called = 0, answered, twin
        for number in range(self.count):
            self.ranks[number] = self.answers
        for rank in range(self.answers):
            answered = order[rank]
            limit = limits[rank]
            if (
                not called <= limit <= self.count
                or not 0 <= answered < limit
                or self.ranks[answered] != self.answers
            ):
                raise LocalError(
                    f"answer {rank} can't be of operation {answered}, with {limit} operations called before it"
                )
            self.order[rank] = <uint32_t>answered
            self.limits[rank] = <uint32_t>limit
            self.ranks[answered] = rank
            called = limit
        self.limits[self.answers] = self.count
        for number in range(self.count):
            twin = twins[number]
            if not -1 <= twin < number or (twin >= 0 and self.ranks[twin] != self.answers):
                raise LocalError(f"operation {twin} can't be the twin of operation {number}")
            self.twins[number] = NONE if twin < 0 else <uint32_t>twin
        return 0

    cdef uint32_t take_slots(self):
        """Give slots at calls and take them back at answers; how many there are. The stack holds those that are free."""
        cdef uint32_t rank, call = 0, used = 0, free_slots = 0
        for rank in range(self.answers + 1):
            while call < self.limits[rank]:
                if free_slots:
                    free_slots -= 1
                    self.slots[call] = self.stack[free_slots]
                else:
                    self.slots[call] = used
                    used += 1
                call += 1
            if rank < self.answers:
                self.stack[free_slots] = self.slots[self.order[rank]]
                free_slots += 1
        return used

    cdef int take_sequences(self, object pairs) except -1:
        cdef int64_t before, value
        cdef uint64_t number
        if not sequences_grow(&self.sequences):
            raise MemoryError
        for before, value in pairs:
            number = self.sequences.count
            if not 0 <= before < <int64_t>number or not 0 <= value <= SMALL_MAX:
                raise LocalError(f"sequence {number} can't be sequence {before} and value {value}")
            if sequence_push(&self.sequences, <uint32_t>before, <uint32_t>value) < number or number == SMALL_MAX:
                raise LocalError(f"sequence {before} and value {value} is given twice, or there are too many")
            if self.sequences.count == self.sequences.capacity and not sequences_grow(&self.sequences):
                raise MemoryError
        return 0

    cdef int take_instructions(self, object initial) except -1:
        """Look at everything that the search will rely on."""
        cdef uint32_t number, codes = 0
        cdef int64_t a, b, code, written, added = 0
        if not -NUMBER_MAX <= initial <= NUMBER_MAX:
            raise LocalError(f"the initial state {initial} is beyond {NUMBER_MAX}")
        self.state = initial
        written = size_of(self.state)
        self.instructions = <Instruction*>zeros(self.count, sizeof(Instruction))
        for number in range(self.count):
            instruction = self.objects[number]
            one, two, three = instruction
            if not READ <= one <= TAKE or not -NUMBER_MAX <= two <= NUMBER_MAX or not -NUMBER_MAX <= three <= NUMBER_MAX:
                raise LocalError(f"{instruction} is no instruction")
            code, a, b = one, two, three
            self.instructions[number] = Instruction(code=<uint8_t>code, a=a, b=b)
            codes |= 1 << code
            if code == C_WRITE or code == C_CAS:
                written = max(written, size_of(b))
            elif code == C_ADD and added <= LARGE_MAX:
                added += size_of(a)
        if added > LARGE_MAX or written + added > LARGE_MAX:
            raise LocalError(f"numbers can grow beyond {NUMBER_MAX}")
        self.wide = written + added > SMALL_MAX
        self.has_sequences = codes & (1 << C_PUSH | 1 << C_POP | 1 << C_TAKE) != 0
        if self.has_sequences:
            self.check_sequences(codes)
        return 0

    cdef int check_sequences(self, uint32_t codes) except -1:
        """Whether every instruction is of a sequence that there is; get ready to remove first values."""
        cdef bint queue = codes & (1 << C_POP | 1 << C_TAKE) != 0
        cdef uint32_t number
        cdef int64_t state, value
        cdef Instruction* each
        if codes & 1 << C_ADD or (queue and (codes & (1 << C_WRITE | 1 << C_CAS) or self.state)):
            raise LocalError("numbers and sequences, or sequences and queues, are mixed")
        for number in range(self.count):
            each = &self.instructions[number]
            state = self.state
            if each.code == C_READ or each.code == C_UNLESS or each.code == C_CAS:
                state = max(state, each.a)
            if each.code == C_WRITE or each.code == C_CAS:
                state = max(state, each.b)
            value = each.b if each.code == C_PUSH else each.a if each.code == C_POP else 0
            if min(each.a, min(each.b, self.state)) < 0 or state >= <int64_t>self.sequences.count or value > SMALL_MAX:
                raise LocalError(
                    f"{(each.code, each.a, each.b)} is of a value or sequence that there is not"
                )
        if queue:
            self.powers = <uint64_t*>zeros(self.count + 1, sizeof(uint64_t))
            self.powers[0] = 1
            for number in range(self.count):
                self.powers[number + 1] = product(self.powers[number], HASH_BASE)
        return 0

    @property
    def bytes(self):
        return self.counted()

    @property
    def trying(self):
        return self.entry

    @property
    def blocking(self):
        return self.order[self.best_rank] if self.best_rank < self.answers else -1

    @property
    def longest(self):
        cdef uint32_t place
        return [self.best[place] for place in range(self.best_depth)]

    def run(self, steps_max, memory_bytes_max):
        cdef int64_t steps = steps_max
        cdef int64_t bytes_max = memory_bytes_max
        if self.running:
            raise LocalError("the search is running: a model's step must not run it")
        if self.memo is NULL:
            raise LocalError("the search was not made")
        self.running = True
        try:
            return self.go_on(self.steps + steps, bytes_max)
        finally:
            self.running = False

    cdef int go_on(self, int64_t end, int64_t bytes_max) except? -99:
        cdef uint32_t head = self.count
        while self.rank < self.answers:
            if self.steps >= end:
                return C_PENDING
            if self.counted() > bytes_max or self.is_full():
                if not self.grow(bytes_max):
                    return C_FULL
            if self.entry >= self.limits[self.rank]:
                self.note()
                if self.depth == 0:
                    return C_ILLEGAL
                self.take_back()
            elif self.attempt(self.entry):
                self.entry = self.after[head]
            else:
                self.entry = self.after[self.entry]
            self.steps += 1
        self.note()
        return C_LEGAL

    cdef inline int attempt(self, uint32_t number) except -1:
        """Put the operation behind the order, if it is possible there and leads to something new: 1, else 0."""
        cdef uint32_t twin = self.twins[number]
        cdef int64_t before = self.state
        cdef int64_t state = before
        if twin != NONE and not self.bits[self.slots[twin] >> 6] >> (self.slots[twin] & 63) & 1:
            return 0
        if self.step is not None:
            state = self.call(number)
            if state < 0:
                return 0
        elif not self.possible(&self.instructions[number], &state):
            return 0
        self.add(number)
        if not self.remember(state):
            self.remove(number)
            return 0
        self.state = state
        self.stack[self.depth] = number
        self.states_before[self.depth] = before
        self.depth += 1
        self.after[self.before[number]] = self.after[number]
        self.before[self.after[number]] = self.before[number]
        if self.has_sequences:
            self.move(&self.instructions[number])
        return 1

    cdef inline void take_back(self) noexcept:
        """Take the last operation out of the order; those behind it are to be tried in its place."""
        cdef uint32_t number
        self.depth -= 1
        number = self.stack[self.depth]
        self.state = self.states_before[self.depth]
        self.shared = min(self.shared, self.depth)
        self.remove(number)
        self.after[self.before[number]] = number
        self.before[self.after[number]] = number
        if self.has_sequences:
            self.move_back(&self.instructions[number])
        self.entry = self.after[number]

    cdef inline void add(self, uint32_t number) noexcept:
        """Add it to the set, and move on to the first answer whose operation is not there."""
        cdef uint32_t slot = self.slots[number]
        self.bits[slot >> 6] |= <uint64_t>1 << (slot & 63)
        while self.rank < self.answers:
            slot = self.slots[self.order[self.rank]]
            if not self.bits[slot >> 6] >> (slot & 63) & 1:
                break
            self.bits[slot >> 6] ^= <uint64_t>1 << (slot & 63)
            self.rank += 1

    cdef inline void remove(self, uint32_t number) noexcept:
        cdef uint32_t slot
        while self.rank > self.ranks[number]:
            self.rank -= 1
            slot = self.slots[self.order[self.rank]]
            self.bits[slot >> 6] ^= <uint64_t>1 << (slot & 63)
        slot = self.slots[number]
        self.bits[slot >> 6] ^= <uint64_t>1 << (slot & 63)

    cdef inline bint possible(self, const Instruction* instruction, int64_t* state) noexcept:
        """Whether the instruction is possible; if so, `state` is then what it leaves."""
        cdef uint8_t code = instruction.code
        if code == C_READ:
            return state[0] == instruction.a
        if code == C_WRITE:
            state[0] = instruction.b
            return True
        if code == C_CAS:
            if state[0] != instruction.a:
                return False
            state[0] = instruction.b
            return True
        if code == C_UNLESS:
            return state[0] != instruction.a
        if code == C_ADD:
            state[0] += instruction.a
            return True
        if code == C_PUSH:
            state[0] = sequence_push(&self.sequences, <uint32_t>state[0], <uint32_t>instruction.b)
            return True
        if state[0] == 0 or (code == C_POP and self.pushed[self.popped] != <uint32_t>instruction.a):
            return False
        state[0] = sequence_pop(&self.sequences, <uint32_t>state[0], self.pushed[self.popped], self.powers)
        return True

    cdef int64_t call(self, uint32_t number) except -2:
        """The number of the state that `step` returns, -1 if it returns None."""
        state = self.step(self.states[self.state], self.objects[number])
        return -1 if state is None else self.number(state)

    cdef int64_t number(self, object state) except -2:
        """The number of a state that `step` knows."""
        cdef int64_t number = len(self.states)
        try:
            number = self.numbers.setdefault(state, number)
        except TypeError as error:
            raise LocalError(f"the state {state!r} of the model must be hashable: {error}") from error
        if number == len(self.states):
            self.states.append(state)
        return number

    cdef inline void move(self, const Instruction* instruction) noexcept:
        if instruction.code == C_PUSH:
            self.pushed[self.pushed_count] = <uint32_t>instruction.b
            self.pushed_count += 1
        elif instruction.code >= C_POP:
            self.popped += 1

    cdef inline void move_back(self, const Instruction* instruction) noexcept:
        if instruction.code == C_PUSH:
            self.pushed_count -= 1
        elif instruction.code >= C_POP:
            self.popped -= 1

    cdef inline void note(self) noexcept:
        """Remember the order if it is the best so far."""
        if self.rank < self.best_rank or (self.rank == self.best_rank and self.depth <= self.best_depth):
            return
        memcpy(self.best + self.shared, self.stack + self.shared, (self.depth - self.shared) * sizeof(uint32_t))
        self.best_rank = self.rank
        self.best_depth = self.shared = self.depth

    # Memory: what counts, and tables that double.

    cdef inline int64_t counted(self) noexcept:
        return (
            <int64_t>self.count * OPERATION_BYTES
            + <int64_t>self.memo_capacity * self.width * CELL_BYTES
            + (<int64_t>self.sequences.capacity * SEQUENCE_BYTES if self.has_sequences else 0)
            + PyList_GET_SIZE(self.states) * STATE_BYTES
        )

    cdef inline bint is_full(self) noexcept:
        return self.memo_count * 3 >= self.memo_capacity * 2 or (
            self.has_sequences and self.sequences.count >= self.sequences.capacity
        )

    cdef bint grow(self, int64_t bytes_max) noexcept:
        """Make room for one more step; False if there is not enough memory. A table that grows needs room for its copy."""
        if self.counted() > bytes_max:
            return False
        if self.memo_count * 3 >= self.memo_capacity * 2:
            if self.counted() + 2 * <int64_t>self.memo_capacity * self.width * CELL_BYTES > bytes_max:
                return False
            if not self.grow_memo():
                return False
        if self.has_sequences and self.sequences.count >= self.sequences.capacity:
            if (
                self.sequences.capacity > SMALL_MAX // 2
                or self.counted() + 2 * <int64_t>self.sequences.capacity * SEQUENCE_BYTES > bytes_max
            ):
                return False
            return sequences_grow(&self.sequences)
        return True

    cdef bint grow_memo(self) noexcept:
        cdef uint64_t* old = self.memo
        cdef uint64_t place
        cdef uint64_t* grown = <uint64_t*>calloc(2 * self.memo_capacity * self.width, sizeof(uint64_t))
        if grown is NULL:
            return False
        self.memo = grown
        self.memo_capacity *= 2
        for place in range(self.memo_capacity // 2):
            if old[place * self.width]:
                memcpy(
                    self.place_of(old + place * self.width), old + place * self.width, self.width * sizeof(uint64_t)
                )
        free(old)
        return True

    # The memo.

    cdef inline bint remember(self, int64_t state) noexcept:
        """Put (set, state) into the memo, where there is always room; False if it is there already."""
        cdef uint64_t* place
        self.key[0] = <uint64_t>(self.rank + 1) << 32 | <uint32_t>state
        if self.wide:
            self.key[1] = <uint64_t>state
        place = self.place_of(self.key)
        if place[0]:
            return False
        memcpy(place, self.key, self.width * sizeof(uint64_t))
        self.memo_count += 1
        return True

    cdef inline uint64_t* place_of(self, const uint64_t* key) noexcept:
        """Where the key is, or the free place where it belongs."""
        cdef uint64_t hashed = 0
        cdef uint64_t* place
        cdef uint32_t cell
        for cell in range(self.width):
            hashed = mixed(hashed ^ key[cell])
        hashed &= self.memo_capacity - 1
        place = self.memo + hashed * self.width
        while place[0] and not equal(place, key, self.width):
            hashed = (hashed + 1) & (self.memo_capacity - 1)
            place = self.memo + hashed * self.width
        return place


cdef inline bint equal(const uint64_t* one, const uint64_t* other, uint32_t cells) noexcept nogil:
    cdef uint32_t cell
    for cell in range(cells):
        if one[cell] != other[cell]:
            return False
    return True


cdef inline int64_t size_of(int64_t number) noexcept nogil:
    return -number if number < 0 else number


cdef void* zeros(size_t count, size_t size) except NULL:
    cdef void* memory = calloc(count if count else 1, size)
    if memory is NULL:
        raise MemoryError
    return memory
