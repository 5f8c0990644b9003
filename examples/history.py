"""What clients saw, and whether one register per key could have answered so: a small linearizability checker.

Wing and Gong's search with Lowe's memo of (operations done, value), key by key. Every written value must be unique. A
write whose outcome is unknown may have taken effect at any time after its call, or never. Times are of one clock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

__all__ = ["Illegal", "Operation", "check"]


@dataclass(frozen=True)
class Operation:
    """One operation of one client: a write of `value`, or a read that returned it (None: no such key).

    `returned` is infinity for a write whose outcome is unknown. Reads without an answer, and writes that were
    definitely not done, are no operations.
    """

    key: str
    is_write: bool
    value: str | None
    called: float
    returned: float


@dataclass(frozen=True)
class Illegal:
    """The first operation of a key that no order of effects explains, and what the key held before it at the latest."""

    operation: Operation
    done: int

    def __str__(self) -> str:
        operation = self.operation
        what = "a write of" if operation.is_write else "a read that returned"
        return (
            f"key {operation.key}: {what} {operation.value!r} (called {operation.called:.3f} s, answered "
            f"{operation.returned:.3f} s) has no place in any order; {self.done} operations before it do"
        )


def check(history: Iterable[Operation], steps_max: int = 20_000_000) -> list[Illegal]:
    """The first illegal operation of each key; an empty list means that the history is linearizable.

    Raises TimeoutError after `steps_max` steps of the search of one key: undecided is never a pass.
    """
    keys: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        keys[operation.key].append(operation)
    verdicts = (_check_key(_relevant(operations), steps_max) for _key, operations in sorted(keys.items()))
    return [verdict for verdict in verdicts if verdict is not None]


def _relevant(operations: list[Operation]) -> list[Operation]:
    """Without the unknown writes that nobody can have seen: they could only add states to search."""
    seen = {operation.value for operation in operations if not operation.is_write}
    return [each for each in operations if each.returned != inf or not each.is_write or each.value in seen]


class _Entry:
    """A call or a return in a doubly linked list of events."""

    __slots__ = ("after", "before", "number", "partner")

    def __init__(self, number: int, partner: _Entry | None) -> None:
        self.number = number
        self.partner = partner  # of a call: its return; None for a return
        self.before: _Entry | None = None
        self.after: _Entry | None = None


def _check_key(operations: list[Operation], steps_max: int) -> Illegal | None:
    head, completed = _events(operations)
    done: set[tuple[int, str | None]] = set()
    bits, value = 0, None
    stack: list[tuple[_Entry, str | None]] = []
    farthest: tuple[int, int] | None = None
    entry = head.after
    for _ in range(steps_max):
        if not completed or entry is None:
            return None
        if entry.partner is not None:
            operation = operations[entry.number]
            legal = operation.is_write or operation.value == value
            after = (bits | 1 << entry.number, operation.value if operation.is_write else value)
            if legal and after not in done:
                done.add(after)
                stack.append((entry, value))
                bits, value = after
                _lift(entry)
                completed -= operation.returned != inf
                entry = head.after
            else:
                entry = entry.after
            continue
        if farthest is None or len(stack) > farthest[0]:
            farthest = (len(stack), entry.number)
        if not stack:
            return Illegal(operations[farthest[1]], farthest[0])
        entry, value = stack.pop()
        bits &= ~(1 << entry.number)
        completed += operations[entry.number].returned != inf
        _put_back(entry)
        entry = entry.after
    raise TimeoutError(f"key {operations[0].key}: not decided after {steps_max} steps")


def _events(operations: list[Operation]) -> tuple[_Entry, int]:
    """The list of calls and returns in the order of time, behind a head, and how many operations have a return."""
    events: list[tuple[float, int, _Entry]] = []
    for number, operation in enumerate(operations):
        answer = _Entry(number, None)
        events.append((operation.called, 0, _Entry(number, answer)))
        events.append((operation.returned, 1, answer))
    events.sort(key=lambda event: event[:2])
    head = last = _Entry(-1, None)
    for _time, _kind, entry in events:
        last.after, entry.before = entry, last
        last = entry
    return head, sum(operation.returned != inf for operation in operations)


def _lift(call: _Entry) -> None:
    """Take a call and its return out of the list."""
    for entry in (call, call.partner):
        assert entry is not None
        assert entry.before is not None
        entry.before.after = entry.after
        if entry.after is not None:
            entry.after.before = entry.before


def _put_back(call: _Entry) -> None:
    for entry in (call.partner, call):
        assert entry is not None
        assert entry.before is not None
        entry.before.after = entry
        if entry.after is not None:
            entry.after.before = entry
