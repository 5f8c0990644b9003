"""Checking a history: key by key, each with its share of steps, until one is illegal or all are explained."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from math import inf
from typing import Any, Final, Literal

from distkit._fast import linear
from distkit.core import LocalError
from distkit.sim.linear.models import MODELS, Model
from distkit.sim.linear.records import Operation, Result, Verdict

#: Steps of one check: half a minute with compiled kernels and a model that has a name.
STEPS_MAX: Final = 500_000_000
#: Memory of one check, beside the history itself, in bytes.
MEMORY_BYTES_MAX: Final = 1 << 30

# Steps of one key before it is the turn of the next: doubled from round to round, and few enough to be interrupted.
_TURN_MIN = 1 << 12
_TURN_MAX = 1 << 22


def check(
    history: Iterable[Operation],
    model: Model | str,
    *,
    steps_max: int = STEPS_MAX,
    memory_bytes_max: int = MEMORY_BYTES_MAX,
) -> Verdict:
    """Whether there is one order of the operations that explains all answers and keeps to the times.

    An operation takes effect at one moment between its call and its answer; an open one at any time after its call,
    or never. Operations may come in any order. Keys are checked in turns, so that an illegal one is found however
    hard the others are. UNKNOWN after `steps_max` steps, or when `memory_bytes_max` bytes do not suffice. The same
    history gives the same verdict, with compiled and with pure kernels as long as memory suffices.

    LocalError if the model has no such name or operation, for impossible times, and for values that can't be compared.
    An exception out of a model's own methods comes out as it is; one out of `step` has a note of the operation.
    """
    if isinstance(model, str):
        if model not in MODELS:
            raise LocalError(f"there is no model {model!r}; there are {', '.join(MODELS)}")
        model = MODELS[model]
    keys = [_Key(key, operations, model) for key, operations in _by_key(history, model).items()]
    return _Turns(keys, steps_max, memory_bytes_max).verdict()


class _Turns:
    """The search through all keys, in the order in which the history names them first."""

    def __init__(self, keys: Sequence[_Key], steps_max: int, memory_bytes_max: int) -> None:
        self._keys = keys
        self._steps_left = steps_max
        self._bytes_left = memory_bytes_max // linear.MEMORY_FACTOR

    def verdict(self) -> Verdict:
        """Search until one key is illegal, all are legal, or a limit is reached."""
        searching = list(self._keys)
        turn = _TURN_MIN
        while searching and self._steps_left > 0:
            for key in searching:
                self._run(key, turn)
                if key.answer == linear.ILLEGAL:
                    return self._found(Result.ILLEGAL, key)
            searching = [key for key in searching if key.answer == linear.PENDING]
            turn = min(2 * turn, _TURN_MAX)
        undecided = [key for key in self._keys if key.answer != linear.LEGAL]
        if undecided:
            return self._found(Result.UNKNOWN, undecided[0])
        return self._found(Result.OK, self._keys[0] if len(self._keys) == 1 else None)

    def _run(self, key: _Key, steps: int) -> None:
        """A turn of one key. When memory does not suffice, the search that has most of it is given up."""
        while key.answer == linear.PENDING:
            steps_before, bytes_before = key.steps, key.bytes
            key.run(min(steps, self._steps_left), self._bytes_left + bytes_before)
            self._steps_left -= key.steps - steps_before
            self._bytes_left -= key.bytes - bytes_before
            if key.answer != linear.FULL:
                return
            key.answer = linear.PENDING
            largest = max(self._keys, key=lambda each: each.bytes)
            self._bytes_left += largest.bytes
            largest.put_away(linear.FULL)

    def _found(self, result: Result, key: _Key | None) -> Verdict:
        steps = sum(each.steps for each in self._keys)
        if key is None:
            return Verdict(result, None, None, (), (), steps)
        limit: Literal["", "steps", "memory"] = ""
        if result is Result.UNKNOWN:
            limit = "memory" if key.answer == linear.FULL else "steps"
        key.put_away(key.answer)
        name = None if result is Result.OK else key.key
        operation = key.blocking if result is Result.ILLEGAL else None
        return Verdict(result, name, operation, key.longest, tuple(key.history), steps, limit)


class _Key:
    """The operations of one key, by time of call, and their search, which is there from the first turn to the last."""

    def __init__(self, key: Hashable, operations: list[Operation], model: Model) -> None:
        self.key = key
        self.history = sorted(operations, key=lambda operation: operation.called)
        self.answer: int = linear.PENDING
        self.steps = 0
        self.longest: tuple[Operation, ...] = ()
        self.blocking: Operation | None = None
        self._model = model
        self._kept: Sequence[Operation] = ()
        self._search: linear.Search | None = None

    @property
    def bytes(self) -> int:
        """Memory that the search has."""
        return 0 if self._search is None else self._search.bytes

    def run(self, steps_max: int, bytes_max: int) -> None:
        """Go on within these limits."""
        if self._search is None:
            self._kept = _observable(self.history, self._model)
            self._search = _search(self._kept, self._model)
        try:
            self.answer = self._search.run(steps_max, bytes_max)
        except Exception as error:
            error.add_note(f"in the step of the model for {self._kept[self._search.trying].text()}")
            raise
        self.steps = self._search.steps
        if self.answer in (linear.LEGAL, linear.ILLEGAL):
            self.put_away(self.answer)

    def put_away(self, answer: int) -> None:
        """End the search, with what it has found."""
        self.answer = answer
        if self._search is not None:
            self.longest = tuple(self._kept[number] for number in self._search.longest)
            self.blocking = self._kept[self._search.blocking] if self._search.blocking >= 0 else None
            self._search = None
            self._kept = ()


def _by_key(history: Iterable[Operation], model: Model) -> dict[Hashable, list[Operation]]:
    """The operations of each part of the history that can be checked apart."""
    keys: dict[Hashable, list[Operation]] = {}
    for operation in history:
        try:
            hash(operation)
            possible = -inf < operation.called <= operation.returned and operation.called < inf
        except TypeError as error:
            raise LocalError(f"{error}, in {operation!r}. Times are numbers; turn lists into tuples") from error
        if not possible:
            raise LocalError(f"it must be answered after its call, or at infinity if it is open: {operation.text()}")
        keys.setdefault(model.partition(operation), []).append(operation)
    return keys


def _observable(operations: Sequence[Operation], model: Model) -> Sequence[Operation]:
    """Without the open operations whose effect nobody can have observed: they would only be more to try."""
    while any(operation.is_open for operation in operations):
        dropped = set(model.droppable(operations))
        for number in dropped:
            if not operations[number].is_open:
                raise LocalError(f"droppable names an operation that is not open: {operations[number].text()}")
        if not dropped:
            break
        operations = [operation for number, operation in enumerate(operations) if number not in dropped]
    return operations


def _search(operations: Sequence[Operation], model: Model) -> linear.Search:
    """The search of operations that are sorted by call."""
    answered = [number for number, operation in enumerate(operations) if not operation.is_open]
    answered.sort(key=lambda number: operations[number].returned)
    limits = []
    called = 0
    for number in answered:
        while called < len(operations) and operations[called].called <= operations[number].returned:
            called += 1
        limits.append(called)
    twins = _twins(operations, model)
    program = model.program(operations)
    if program is not None:
        return linear.Search(answered, limits, twins, program.instructions, program.initial, program.sequences)
    initial = model.initial()
    if initial is None:
        raise LocalError("the initial state of the model is None, which says that an operation is impossible")
    return linear.Search(answered, limits, twins, operations, initial, step=model.step)


def _twins(operations: Sequence[Operation], model: Model) -> list[int]:
    """For each open operation the one before it that can stand for it, else -1."""
    latest: dict[Any, int] = {}
    twins = [-1] * len(operations)
    for number, operation in enumerate(operations):
        if operation.is_open:
            effect = model.effect(operation)
            twins[number] = latest.get(effect, -1)
            latest[effect] = number
    return twins
