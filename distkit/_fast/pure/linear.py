"""The search of the linearizability checker: Wing and Gong's, with Lowe's memo of what was tried.

Sources: J. Wing, C. Gong, Testing and Verifying Concurrent Objects, 1993; G. Lowe, Testing for Linearizability, 2017.
`distkit.sim.linear` prepares histories for it.

The search builds an order of operations, one after the other. What comes next must be called before the first answer
whose operation is not in the order yet: that answer, number `rank` by time, is what the order has to get past. Where no
operation fits, the last one is taken back. Operations without an answer may stay outside.

Which operations the order has, and the state that it leaves, is all that matters for how it can go on, so it is tried
once for each such pair. The set is kept small: every operation answered before `rank` is in it, none is that is called
later, so bits are needed only for those in between. They get slots as they are called and give them back with their
answers: there are as many slots as operations were ever under way at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final

from distkit.core.errors import LocalError

# What an operation does, as (code, a, b). Its state is one whole number ...
READ: Final = 0  # a: possible if the state is a
UNLESS: Final = 1  # a: possible if the state is not a
WRITE: Final = 2  # b: the state becomes b
CAS: Final = 3  # a, b: possible if the state is a; it becomes b
ADD: Final = 4  # a: the state grows by a
# ... or the number of a sequence of values: 0 is the empty one, others are given or found on the way.
PUSH: Final = 5  # b: the value b is appended
POP: Final = 6  # a: possible if the first value is a; it is removed
TAKE: Final = 7  # possible if there is a value; the first one is removed

LEGAL: Final = 1  # an order explains the history
PENDING: Final = 0  # undecided: run again
ILLEGAL: Final = -1  # no order does
FULL: Final = -2  # undecided: run again with more memory

#: This twin takes about so many bytes for each byte that it counts, which is one of the compiled kernel's.
MEMORY_FACTOR: Final = 12

NUMBER_MAX: Final = (1 << 62) - 1
VALUE_MAX: Final = (1 << 31) - 1
OPERATIONS_MAX: Final = (1 << 31) - 1

# Memory is counted in bytes of the compiled kernel, so that both give up at the same step.
_OPERATION_BYTES = 80
_CELL_BYTES = 8
_SEQUENCE_BYTES = 32
_STATE_BYTES = 256  # a guess: a Python object, and its places in a list and a dict
_CAPACITY_MIN = 64
_BASE = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


class Search:
    """The search of one history, which can be interrupted.

    Operations are numbers from 0 in the order of their calls. ``order`` lists those with an answer in the order of the
    answers, ``limits`` how many operations are called before each of these. ``twins`` has for each operation an earlier
    one that must come first, or -1: of open operations that can stand for each other the search tries the earliest.
    ``instructions`` are triples (code, a, b), ``initial`` a number, ``sequences`` the pairs (sequence, value) that make
    the sequences 1, 2, ... by appending a value to an earlier one. Or, with ``step``, instructions are any objects and
    ``initial`` is any hashable state: ``step(state, instruction)`` returns a hashable state, or None if impossible.

    LocalError if any of it is out of range or does not fit the rest.
    """

    def __init__(
        self,
        order: Sequence[int],
        limits: Sequence[int],
        twins: Sequence[int],
        instructions: Iterable[Any],
        initial: Any = 0,
        sequences: Iterable[tuple[int, int]] = (),
        step: Callable[[Any, Any], Hashable | None] | None = None,
    ) -> None:
        self._steps = 0
        self._instructions = list(instructions)
        self._count = len(self._instructions)
        self._order: list[int] = list(order)
        self._limits: list[int] = list(limits)
        self._twins = list(twins)
        self._ranks = _ranks(self._count, self._order, self._limits, self._twins)
        self._slots, slots = _slots(self._count, self._order, self._limits, self._ranks)
        self._step = step
        self._states: list[Hashable] = []
        self._numbers: dict[Hashable, int] = {}
        self._sequences = _Sequences(sequences)
        if step is None:
            self._state = _checked(self._instructions, initial, self._sequences.count)
            wide = _largest(self._instructions, initial) > VALUE_MAX
            self._has_sequences = any(code >= PUSH for code, _a, _b in self._instructions)
        else:
            self._state = self._number(initial)
            wide = self._has_sequences = False
        # The operations outside the order, as a ring: its head has the number behind the last one.
        self._after: list[int] = [*range(1, self._count + 1), 0]
        self._before = [self._count, *range(self._count)]
        self._entry = self._after[self._count]
        self._stack: list[tuple[int, int]] = []  # (operation, state before it)
        self._rank = 0
        self._bits = 0
        self._pushed: list[int] = []  # of a queue, by the order: without the first `_popped` it is the state
        self._popped = 0
        self._best: list[int] = []
        self._best_rank = 0
        self._shared = 0  # so many operations at the start of the stack are those of the best
        self._memo: set[tuple[int, int, int]] = set()
        self._memo_width = 1 + wide + (slots + 63) // 64
        self._memo_capacity = _CAPACITY_MIN
        self._running = False

    @property
    def steps(self) -> int:
        """How many were made so far."""
        return self._steps

    @property
    def bytes(self) -> int:
        """Memory that counts against the limit."""
        return (
            self._count * _OPERATION_BYTES
            + self._memo_capacity * self._memo_width * _CELL_BYTES
            + (self._sequences.capacity * _SEQUENCE_BYTES if self._has_sequences else 0)
            + len(self._states) * _STATE_BYTES
        )

    @property
    def trying(self) -> int:
        """The operation whose turn it is, for the words of an error that `step` raises."""
        return self._entry

    @property
    def blocking(self) -> int:
        """The operation with the first answer that no order got past so far; -1 if one got past all."""
        return self._order[self._best_rank] if self._best_rank < len(self._order) else -1

    @property
    def longest(self) -> list[int]:
        """The longest of the orders that came this far."""
        return list(self._best)

    def run(self, steps_max: int, memory_bytes_max: int) -> int:
        """Go on for at most so many steps, with at most so many bytes in all: LEGAL, ILLEGAL, PENDING or FULL.

        A step tries one operation, or takes one back. What `step` raises comes out, and the search may be run again.
        """
        if self._running:
            raise LocalError("the search is running: a model's step must not run it")
        self._running = True
        try:
            return self._go_on(self._steps + steps_max, memory_bytes_max)
        finally:
            self._running = False

    def _go_on(self, end: int, memory_bytes_max: int) -> int:
        while self._rank < len(self._order):
            if self._steps >= end:
                return PENDING
            if not self._has_room(memory_bytes_max):
                return FULL
            if self._entry >= self._limits[self._rank]:
                self._note()
                if not self._stack:
                    return ILLEGAL
                self._take_back()
            elif self._try(self._entry):
                self._entry = self._after[self._count]
            else:
                self._entry = self._after[self._entry]
            self._steps += 1
        self._note()
        return LEGAL

    def _try(self, number: int) -> bool:
        """Put the operation behind the order, if it is possible there and leads to something new."""
        twin = self._twins[number]
        if twin >= 0 and not self._bits >> self._slots[twin] & 1:
            return False
        before = self._state
        state = self._state_after(number)
        if state is None:
            return False
        self._add(number)
        key = self._rank, self._bits, state
        if key in self._memo:
            self._remove(number)
            return False
        self._memo.add(key)
        self._state = state
        self._stack.append((number, before))
        self._after[self._before[number]] = self._after[number]
        self._before[self._after[number]] = self._before[number]
        if self._has_sequences:
            self._move(self._instructions[number])
        return True

    def _take_back(self) -> None:
        """Take the last operation out of the order; those behind it are to be tried in its place."""
        number, self._state = self._stack.pop()
        self._shared = min(self._shared, len(self._stack))
        self._remove(number)
        self._after[self._before[number]] = self._before[self._after[number]] = number
        if self._has_sequences:
            self._move_back(self._instructions[number])
        self._entry = self._after[number]

    def _add(self, number: int) -> None:
        """Add it to the set, and move on to the first answer whose operation is not there."""
        self._bits |= 1 << self._slots[number]
        while self._rank < len(self._order) and self._bits >> self._slots[self._order[self._rank]] & 1:
            self._bits ^= 1 << self._slots[self._order[self._rank]]
            self._rank += 1

    def _remove(self, number: int) -> None:
        while self._rank > self._ranks[number]:
            self._rank -= 1
            self._bits ^= 1 << self._slots[self._order[self._rank]]
        self._bits ^= 1 << self._slots[number]

    def _state_after(self, number: int) -> int | None:
        """The state that the operation leaves, None if it is impossible."""
        if self._step is not None:
            state = self._step(self._states[self._state], self._instructions[number])
            return None if state is None else self._number(state)
        code, a, b = self._instructions[number]
        state = self._state
        if code == WRITE:
            return int(b)
        if code == ADD:
            return int(state + a)
        if code == PUSH:
            return self._sequences.push(state, b)
        if code in (POP, TAKE):
            if state == 0 or (code == POP and self._pushed[self._popped] != a):
                return None
            return self._sequences.pop(state, self._pushed[self._popped])
        if (state == a) == (code == UNLESS):
            return None
        return int(b) if code == CAS else state

    def _number(self, state: Hashable) -> int:
        """The number of a state that `step` knows."""
        try:
            number = self._numbers.setdefault(state, len(self._states))
        except TypeError as error:
            raise LocalError(f"the state {state!r} of the model must be hashable: {error}") from error
        if number == len(self._states):
            self._states.append(state)
        return number

    def _move(self, instruction: tuple[int, int, int]) -> None:
        if instruction[0] == PUSH:
            self._pushed.append(instruction[2])
        elif instruction[0] >= POP:
            self._popped += 1

    def _move_back(self, instruction: tuple[int, int, int]) -> None:
        if instruction[0] == PUSH:
            self._pushed.pop()
        elif instruction[0] >= POP:
            self._popped -= 1

    def _note(self) -> None:
        """Remember the order if it is the best so far."""
        if self._rank < self._best_rank or (self._rank == self._best_rank and len(self._stack) <= len(self._best)):
            return
        self._best_rank = self._rank
        self._best[self._shared :] = [number for number, _state in self._stack[self._shared :]]
        self._shared = len(self._stack)

    def _has_room(self, bytes_max: int) -> bool:
        """Whether there is memory for one more step. A table that grows needs room for its copy."""
        if self.bytes > bytes_max:
            return False
        if len(self._memo) * 3 >= self._memo_capacity * 2:
            if self.bytes + 2 * self._memo_capacity * self._memo_width * _CELL_BYTES > bytes_max:
                return False
            self._memo_capacity *= 2
        if self._has_sequences and self._sequences.count >= self._sequences.capacity:
            if (
                self._sequences.capacity > VALUE_MAX // 2
                or self.bytes + 2 * self._sequences.capacity * _SEQUENCE_BYTES > bytes_max
            ):
                return False
            self._sequences.capacity *= 2
        return True


class _Sequences:
    """Sequences of values by number; equal ones have one number.

    A sequence is the last `length` values on the way back over `before`, so that both ends can change without a copy.
    """

    def __init__(self, pairs: Iterable[tuple[int, int]]) -> None:
        self.capacity = _CAPACITY_MIN
        self._before = [0]
        self._last = [0]
        self._lengths = [0]
        self._hashes = [0]
        self._found: dict[tuple[int, int], list[int]] = {}
        for number, (before, value) in enumerate(pairs, 1):
            if not 0 <= before < number or not 0 <= value <= VALUE_MAX:
                raise LocalError(f"sequence {number} can't be sequence {before} and value {value}")
            if self.push(before, value) < number or number == VALUE_MAX:
                raise LocalError(f"sequence {before} and value {value} is given twice, or there are too many")
            if self.count == self.capacity:
                self.capacity *= 2

    @property
    def count(self) -> int:
        """How many there are, the empty one included."""
        return len(self._before)

    def push(self, sequence: int, value: int) -> int:
        """With a value more at the end."""
        hashed = (self._hashes[sequence] * _BASE + value + 1) & _MASK
        return self._intern(sequence, value, self._lengths[sequence] + 1, hashed)

    def pop(self, sequence: int, first: int) -> int:
        """Without the first value, which the caller knows."""
        length = self._lengths[sequence] - 1
        hashed = (self._hashes[sequence] - (first + 1) * pow(_BASE, length, 1 << 64)) & _MASK
        return self._intern(self._before[sequence], self._last[sequence], length, hashed)

    def _intern(self, before: int, last: int, length: int, hashed: int) -> int:
        if length == 0:
            return 0
        same = self._found.setdefault((length, hashed), [])
        for number in same:
            if self._last[number] == last and self._equal(self._before[number], before, length - 1):
                return number
        same.append(self.count)
        self._before.append(before)
        self._last.append(last)
        self._lengths.append(length)
        self._hashes.append(hashed)
        return self.count - 1

    def _equal(self, one: int, other: int, length: int) -> bool:
        """Whether the last values of both are equal."""
        while length and one != other:
            if self._last[one] != self._last[other]:
                return False
            one, other, length = self._before[one], self._before[other], length - 1
        return True


def _ranks(count: int, order: Sequence[int], limits: Sequence[int], twins: Sequence[int]) -> list[int]:
    """The place of each operation's answer among the answers; behind all for an open one."""
    if len(twins) != count or len(order) != len(limits) or count > OPERATIONS_MAX:
        raise LocalError(
            f"{count} operations, {len(twins)} twins, {len(order)} answers and {len(limits)} limits don't fit"
        )
    ranks = [len(order)] * count
    called = 0
    for rank, (number, limit) in enumerate(zip(order, limits, strict=True)):
        if not called <= limit <= count or not 0 <= number < limit or ranks[number] != len(order):
            raise LocalError(f"answer {rank} can't be of operation {number}, with {limit} operations called before it")
        ranks[number] = rank
        called = limit
    for number, twin in enumerate(twins):
        if not -1 <= twin < number or (twin >= 0 and ranks[twin] != len(order)):
            raise LocalError(f"operation {twin} can't be the twin of operation {number}")
    return ranks


def _slots(count: int, order: Sequence[int], limits: Sequence[int], ranks: Sequence[int]) -> tuple[list[int], int]:
    """The slot of each operation, and how many there are."""
    slots = [0] * count
    free: list[int] = []
    used = called = 0
    for number, limit in zip([*order, -1], [*limits, count], strict=True):
        for call in range(called, limit):
            slots[call] = free.pop() if free else used
            used = max(used, slots[call] + 1)
        called = limit
        if number >= 0:
            free.append(slots[number])
    return slots, used


def _checked(instructions: Sequence[tuple[int, int, int]], initial: int, sequences: int) -> int:
    """The initial state, after a look at all that the search will rely on."""
    if not -NUMBER_MAX <= initial <= NUMBER_MAX:
        raise LocalError(f"the initial state {initial} is beyond {NUMBER_MAX}")
    codes = {code for code, _a, _b in instructions}
    for instruction in instructions:
        code, a, b = instruction
        if not READ <= code <= TAKE or not -NUMBER_MAX <= a <= NUMBER_MAX or not -NUMBER_MAX <= b <= NUMBER_MAX:
            raise LocalError(f"{instruction} is no instruction")
    if _largest(instructions, initial) > NUMBER_MAX:
        raise LocalError(f"numbers can grow beyond {NUMBER_MAX}")
    if not codes & {PUSH, POP, TAKE}:
        return initial
    if ADD in codes or (codes & {POP, TAKE} and (codes & {WRITE, CAS} or initial)):
        raise LocalError("numbers and sequences, or sequences and queues, are mixed")
    for instruction in instructions:
        code, a, b = instruction
        state = max(a if code in (READ, UNLESS, CAS) else 0, b if code in (WRITE, CAS) else 0, initial)
        value = b if code == PUSH else a if code == POP else 0
        if not min(a, b, initial) >= 0 or state >= sequences or value > VALUE_MAX:
            raise LocalError(f"{instruction} is of a value or sequence that there is not")
    return initial


def _largest(instructions: Iterable[tuple[int, int, int]], initial: int) -> int:
    """What no state can exceed in size."""
    written, added = abs(initial), 0
    for code, a, b in instructions:
        if code in (WRITE, CAS):
            written = max(written, abs(b))
        elif code == ADD:
            added += abs(a)
    return written + added
