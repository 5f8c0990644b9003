"""What an object does, one operation after the other: the models that a history is checked against."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from math import inf
from typing import Any, Final, NamedTuple

from distkit._fast import linear
from distkit.core import LocalError, record
from distkit.sim.linear.records import Operation


@record
class Program:
    """Operations as instructions that the compiled search runs by itself: see `distkit._fast.pure.linear`."""

    instructions: Sequence[tuple[int, int, int]]
    initial: int = 0
    sequences: Sequence[tuple[int, int]] = ()


class Model(ABC):
    """An object that does one operation at a time. Subclass it for your own: `initial` and `step` are enough.

    States are hashable values that are never changed, equal if and only if the objects behave equally from there on.
    `step` must be a function of its arguments alone: the search goes back and tries other orders.
    """

    @abstractmethod
    def initial(self) -> Hashable:
        """The state before the first operation; not None."""

    @abstractmethod
    def step(self, state: Any, operation: Operation) -> Hashable | None:
        """The state after the operation, or None if in this state it can't have answered what it did.

        An open operation (`Operation.is_open`) has no answer: return the state that its effect leaves, or None if it
        has none here.
        """

    def partition(self, operation: Operation) -> Hashable:
        """Operations with different answers are independent of each other and are checked apart. Default: the key."""
        key: Hashable = operation.key
        return key

    def droppable(self, operations: Sequence[Operation]) -> Iterable[int]:
        """Indexes of open operations whose effect none of the others can have observed: the search leaves them out.

        Leaving one out must not turn a history illegal that is legal with it. It is asked again, with the rest,
        until it names none. Default: none.
        """
        return ()

    def effect(self, operation: Operation) -> Hashable:
        """Open operations with equal answers can stand for each other in every state. Default: all but the times."""
        return operation.process, operation.kind, operation.input, operation.key

    def program(self, operations: Sequence[Operation]) -> Program | None:
        """The same as `step`, for the compiled search, which is faster by far. Default: None, so it calls `step`."""
        return None


class Action(NamedTuple):
    """What an operation does to a cell that holds one value."""

    code: int  # READ, UNLESS, WRITE or CAS of distkit._fast.linear
    expected: Any = None
    written: Any = None


class Cell(Model):
    """What has one value at a time. Its models say which `Action` each operation is.

    States are (value,): None is a value as any other.
    """

    def __init__(self, initial: Hashable = None) -> None:
        self._initial = initial

    @abstractmethod
    def action(self, operation: Operation) -> Action:
        """What the operation does. LocalError if the model knows no such operation."""

    def initial(self) -> Hashable:
        """The cell with its first value."""
        return (self._initial,)

    def step(self, state: tuple[Any], operation: Operation) -> Hashable | None:
        """The cell after the action."""
        code, expected, written = self.action(operation)
        if code != linear.WRITE and (state[0] == expected) == (code == linear.UNLESS):
            return None
        return (written,) if code in (linear.WRITE, linear.CAS) else state

    def effect(self, operation: Operation) -> Hashable:
        """The action: who does it makes no difference."""
        return self.action(operation)

    def droppable(self, operations: Sequence[Operation]) -> Iterable[int]:
        """Open reads, and what leaves a value that nobody needs from its call on.

        A value is needed until the last answer of those that found it: a completed read or compare-and-set, or an open
        compare-and-set that would turn it into one that is needed then. Between two needed values the cell may hold
        anything, unless a compare-and-set failed: it found something else than it expected, and nobody knows what.
        """
        actions = list(zip(map(self.action, operations), operations, strict=True))
        failed = -inf
        latest: dict[Hashable, float] = {}
        origins: dict[Hashable, list[tuple[Hashable, float]]] = defaultdict(list)
        for (code, expected, written), operation in actions:
            if operation.is_open and code == linear.CAS:
                origins[written].append((expected, operation.called))
            elif not operation.is_open and code == linear.UNLESS:
                failed = max(failed, operation.returned)
            elif not operation.is_open and code != linear.WRITE:
                latest[expected] = max(latest.get(expected, -inf), operation.returned)
        needed: dict[Hashable, float] = {}
        for value, until in sorted(latest.items(), key=lambda item: -item[1]):
            todo = [value]
            while todo:
                found = todo.pop()
                if found not in needed:
                    needed[found] = until
                    todo.extend(origin for origin, called in origins[found] if called <= until)
        return [
            number
            for number, ((code, _expected, written), operation) in enumerate(actions)
            if operation.is_open and (code == linear.READ or operation.called > max(failed, needed.get(written, -inf)))
        ]

    def program(self, operations: Sequence[Operation]) -> Program | None:
        """Values as numbers."""
        number = numbering()
        initial = number(self._initial)
        actions = (self.action(operation) for operation in operations)
        return Program([(code, number(old), number(new)) for code, old, new in actions], initial)


class Register(Cell):
    """``read`` -> value; ``write`` value. Answers of writes are ignored."""

    kinds = "read, write"

    def action(self, operation: Operation) -> Action:
        """Read or write."""
        if operation.kind == "read":
            return Action(linear.READ, operation.output)
        if operation.kind == "write":
            return Action(linear.WRITE, None, operation.input)
        raise unknown(operation, self.kinds)


class CasRegister(Register):
    """A register with ``cas`` (old, new) -> True or False as well."""

    kinds = "read, write, cas"

    def action(self, operation: Operation) -> Action:
        """Read, write or compare-and-set."""
        if operation.kind == "cas":
            return compare_and_set(operation, operation.input)
        return Register.action(self, operation)


class Mutex(Cell):
    """``acquire`` and ``release`` by a process: one that is held can't be acquired, nor released by another process."""

    def action(self, operation: Operation) -> Action:
        """The cell holds the process that has the lock."""
        if operation.kind == "acquire":
            return Action(linear.CAS, None, operation.process)
        if operation.kind == "release":
            return Action(linear.CAS, operation.process, None)
        raise unknown(operation, "acquire, release")


class KeyValue(Cell):
    """A map of registers, all absent (None) at first. Each key is checked apart.

    ``get`` -> value; ``put`` value; ``cas`` (old, new) -> True or False; ``delete``. The key is that of the operation,
    or, where that is None, stands in its input: get key, put (key, value), cas (key, old, new), delete key. Answers
    of puts and deletes are ignored.
    """

    def partition(self, operation: Operation) -> Hashable:
        """The key, wherever it is."""
        key: Hashable = operation.key
        if key is not None:
            return key
        if operation.kind in ("get", "delete"):
            key = operation.input
        elif isinstance(operation.input, tuple) and operation.input:
            key = operation.input[0]
        else:
            raise LocalError(f"an operation without a key must have it in its input: {operation.text()}")
        return key

    def action(self, operation: Operation) -> Action:
        """What it does to the register of its key."""
        kind, given = operation.kind, operation.input
        if kind == "get":
            return Action(linear.READ, operation.output)
        if kind == "delete":
            return Action(linear.WRITE)
        if kind not in ("put", "cas"):
            raise unknown(operation, "get, put, cas, delete")
        if operation.key is None:
            given = given[1:]
            if kind == "put":
                if len(given) != 1:
                    raise LocalError(f"a put without a key must be of (key, value): {operation.text()}")
                given = given[0]
        return Action(linear.WRITE, None, given) if kind == "put" else compare_and_set(operation, given)


class Counter(Model):
    """``add`` number -> the new value, or None if that was not answered; ``read`` -> value.

    Whole numbers; what is added, in all, is below 2^62.
    """

    def __init__(self, initial: int = 0) -> None:
        self._initial = initial

    def initial(self) -> Hashable:
        """The first value."""
        return self._initial

    def step(self, state: int, operation: Operation) -> Hashable | None:
        """The value after the operation."""
        code, a, b = self._instruction(operation)
        if code == linear.ADD:
            return state + a
        return None if state != a else b if code == linear.CAS else state

    def effect(self, operation: Operation) -> Hashable:
        """The number: who adds it makes no difference."""
        return operation.kind, operation.input

    def droppable(self, operations: Sequence[Operation]) -> Iterable[int]:
        """Open reads, additions of 0, and what was called after the last answer that told a value."""
        last = max((each.returned for each in operations if not each.is_open and each.output is not None), default=-inf)
        return [
            number
            for number, each in enumerate(operations)
            if each.is_open and (each.called > last or each.kind == "read" or each.input == 0)
        ]

    def program(self, operations: Sequence[Operation]) -> Program | None:
        """Numbers as they are."""
        return Program([self._instruction(operation) for operation in operations], self._initial)

    def _instruction(self, operation: Operation) -> tuple[int, int, int]:
        answer = 0 if operation.output is None else whole(operation, operation.output)
        if operation.kind == "read":
            if operation.output is None and not operation.is_open:
                raise LocalError(f"a counter's read must have an answer: {operation.text()}")
            return linear.READ, answer, 0
        if operation.kind != "add":
            raise unknown(operation, "add, read")
        amount = whole(operation, operation.input)
        if operation.output is None or operation.is_open:
            return linear.ADD, amount, 0
        return linear.CAS, answer - amount, answer


class FifoQueue(Model):
    """``enqueue`` value; ``dequeue`` -> the value at the front, or None if the queue was empty."""

    def initial(self) -> Hashable:
        """No values."""
        return ()

    def step(self, state: tuple[Any, ...], operation: Operation) -> Hashable | None:
        """The values after the operation."""
        self._known(operation)
        if operation.kind == "enqueue":
            return (*state, operation.input)
        if operation.is_open:
            return state[1:] if state else None
        if operation.output is None:
            return None if state else state
        return state[1:] if state and state[0] == operation.output else None

    def effect(self, operation: Operation) -> Hashable:
        """Who does it makes no difference."""
        return operation.kind, operation.input

    def droppable(self, operations: Sequence[Operation]) -> Iterable[int]:
        """Open enqueues of values that nobody got, and open dequeues if somebody got every value that there was.

        An open dequeue may have taken a value out of the way of those behind it, if one is left to be taken.
        """
        got = Tally(each.output for each in operations if each.kind == "dequeue" and not each.is_open)
        kept = Tally(
            each.input for each in operations if each.kind == "enqueue" and (each.input in got or not each.is_open)
        )
        spare = any(count > got[value] for value, count in kept.items())
        return [
            number
            for number, each in enumerate(operations)
            if each.is_open and (each.input not in got if each.kind == "enqueue" else not spare)
        ]

    def program(self, operations: Sequence[Operation]) -> Program | None:
        """Values as numbers. That the queue is empty is the same as that it is sequence 0."""
        number = numbering()
        instructions: list[tuple[int, int, int]] = []
        for operation in operations:
            self._known(operation)
            if operation.kind == "enqueue":
                instructions.append((linear.PUSH, 0, number(operation.input)))
            elif operation.is_open:
                instructions.append((linear.TAKE, 0, 0))
            elif operation.output is None:
                instructions.append((linear.READ, 0, 0))
            else:
                instructions.append((linear.POP, number(operation.output), 0))
        return Program(instructions)

    def _known(self, operation: Operation) -> None:
        if operation.kind not in ("enqueue", "dequeue"):
            raise unknown(operation, "enqueue, dequeue")
        if operation.kind == "enqueue" and operation.input is None:
            raise LocalError(f"None can't be enqueued, it says that a queue is empty: {operation.text()}")


class AppendList(Model):
    """``append`` value -> the list before it, or None if that was not answered; ``read`` -> the list.

    Lists are tuples.
    """

    def initial(self) -> Hashable:
        """No values."""
        return ()

    def step(self, state: tuple[Any, ...], operation: Operation) -> Hashable | None:
        """The values after the operation."""
        seen = self._seen(operation)
        if seen is not None and state != seen:
            return None
        return (*state, operation.input) if operation.kind == "append" else state

    def effect(self, operation: Operation) -> Hashable:
        """Who does it makes no difference."""
        return operation.kind, operation.input

    def droppable(self, operations: Sequence[Operation]) -> Iterable[int]:
        """Open reads, and open appends of values that nobody saw."""
        if not any(each.is_open for each in operations):
            return []
        seen = {value for each in operations for value in self._seen(each) or ()}
        return [
            number
            for number, each in enumerate(operations)
            if each.is_open and (each.kind == "read" or each.input not in seen)
        ]

    def program(self, operations: Sequence[Operation]) -> Program | None:
        """Values and lists as numbers."""
        number = numbering()
        lists = Lists()
        instructions: list[tuple[int, int, int]] = []
        for operation in operations:
            seen = self._seen(operation)
            listed = -1 if seen is None else lists.number([number(value) for value in seen])
            if operation.kind == "read":
                instructions.append((linear.READ, max(listed, 0), 0))
            elif listed < 0:
                instructions.append((linear.PUSH, 0, number(operation.input)))
            else:
                instructions.append((linear.CAS, listed, lists.appended(listed, number(operation.input))))
        return Program(instructions, 0, lists.pairs)

    def _seen(self, operation: Operation) -> tuple[Any, ...] | None:
        """The list that was answered, None for none."""
        if operation.kind not in ("append", "read"):
            raise unknown(operation, "append, read")
        output = operation.output
        if operation.is_open or (output is None and operation.kind == "append"):
            return None
        if not isinstance(output, tuple):
            raise LocalError(f"the answer must be a tuple: {operation.text()}")
        seen: tuple[Any, ...] = output
        return seen


class Lists:
    """Lists of numbers, each a pair: the number of a shorter list, and the value behind it."""

    def __init__(self) -> None:
        self.pairs: list[tuple[int, int]] = []
        self._numbers: dict[tuple[int, int], int] = {}

    def number(self, values: Sequence[int]) -> int:
        """The number of the list."""
        found = 0
        for value in values:
            found = self.appended(found, value)
        return found

    def appended(self, number: int, value: int) -> int:
        """The number of the list with a value more."""
        pair = number, value
        found = self._numbers.setdefault(pair, len(self.pairs) + 1)
        if found > len(self.pairs):
            self.pairs.append(pair)
        return found


def numbering() -> Callable[[Hashable], int]:
    """A function from values to small numbers, from 0 on as they appear."""
    numbers: dict[Hashable, int] = {}

    def number(value: Hashable) -> int:
        try:
            return numbers.setdefault(value, len(numbers))
        except TypeError as error:
            raise LocalError(f"{value!r} is not hashable: {error}. Turn lists into tuples") from error

    return number


def compare_and_set(operation: Operation, pair: Any) -> Action:
    """The action of a cas; one that failed did nothing, but says what the value was not."""
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise LocalError(f"a cas must be of (old, new): {operation.text()}")
    if not operation.is_open and not isinstance(operation.output, bool):
        raise LocalError(f"a cas must be answered True or False: {operation.text()}")
    if not operation.is_open and not operation.output:
        return Action(linear.UNLESS, pair[0])
    return Action(linear.CAS, pair[0], pair[1])


def whole(operation: Operation, value: Any) -> int:
    """The value, if it is a whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise LocalError(f"{value!r} is not a whole number: {operation.text()}")
    return value


def unknown(operation: Operation, kinds: str) -> LocalError:
    """The error for an operation of a kind that the model does not know."""
    return LocalError(f"the model knows {kinds}, not {operation.kind!r}: {operation.text()}")


#: The models that have a name.
MODELS: Final[dict[str, Model]] = {
    "register": Register(),
    "cas-register": CasRegister(),
    "mutex": Mutex(),
    "fifo-queue": FifoQueue(),
    "counter": Counter(),
    "append-list": AppendList(),
    "key-value": KeyValue(),
}
