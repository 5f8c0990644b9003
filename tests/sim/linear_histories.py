"""Histories of objects, and whether they are linearizable by definition: trying every order on the object itself."""

from collections.abc import Callable
from math import inf
from random import Random
from typing import Any

from distkit.sim.linear import Operation

#: What an operation does: (state, kind, input, process) -> (state after it, answer), or None if it can't be done.
Does = Callable[[Any, str, Any, int], tuple[Any, Any] | None]


def register(state: Any, kind: str, value: Any, process: int) -> tuple[Any, Any]:
    if kind == "read":
        return state, state
    if kind == "write":
        return value, None
    old, new = value
    return (new, True) if state == old else (state, False)


def mutex(holder: Any, kind: str, value: Any, process: int) -> tuple[Any, Any] | None:
    if kind == "acquire":
        return (process, None) if holder is None else None
    return (None, None) if holder == process else None


def fifo_queue(values: Any, kind: str, value: Any, process: int) -> tuple[Any, Any]:
    if kind == "enqueue":
        return [*values, value], None
    return (values[1:], values[0]) if values else (values, None)


def counter(total: Any, kind: str, value: Any, process: int) -> tuple[Any, Any]:
    return (total, total) if kind == "read" else (total + value, total + value)


def append_list(values: Any, kind: str, value: Any, process: int) -> tuple[Any, Any]:
    return (values, values) if kind == "read" else ((*values, value), values)


#: By model: the first state, what operations do, and kinds with the inputs to choose from.
OBJECTS: dict[str, tuple[Any, Does, dict[str, list[Any]]]] = {
    "register": (None, register, {"read": [None], "write": [1, 2, 3]}),
    "cas-register": (
        None,
        register,
        {"read": [None], "write": [1, 2], "cas": [(1, 2), (2, 1), (2, 3), (3, 1), (None, 1)]},
    ),
    "mutex": (None, mutex, {"acquire": [None], "release": [None]}),
    "fifo-queue": ([], fifo_queue, {"enqueue": [1, 2, 3], "dequeue": [None]}),
    "counter": (0, counter, {"read": [None], "add": [1, 2, -1, 0]}),
    "append-list": ((), append_list, {"read": [None], "append": [1, 2, 3]}),
}
#: Kinds whose answer is not always told.
QUIET = ("write", "enqueue", "acquire", "release", "add", "append")


def played(model: str, random: Random, count: int, processes: int = 3, crashed: float = 0.3) -> list[Operation]:
    """What clients see of an object that does one operation at a time. Crashed clients come back as new processes."""
    state, does, kinds = OBJECTS[model]
    names = list(range(processes))
    under_way: dict[int, list[Any]] = {}
    history: list[Operation] = []
    time = begun = 0
    while len(history) < count:
        time += random.randint(0, 1)  # some events are at one time
        client = random.randrange(processes)
        if client not in under_way:
            if begun < count:
                kind = random.choice(list(kinds))
                if model == "mutex":  # who has the lock releases it
                    kind = "release" if state == names[client] else "acquire"
                under_way[client] = [kind, random.choice(kinds[kind]), time, False, None]
                begun += 1
            continue
        kind, given, called, done, answer = under_way[client]
        if not done:
            crash = random.random() < crashed
            if not crash or random.random() < 0.5:
                outcome = does(state, kind, given, names[client])
                if outcome is None and random.random() < 0.8:
                    continue  # it waits for the lock, or gives up below
                if outcome is not None:
                    state, under_way[client][4] = outcome
                crash = crash or outcome is None
            under_way[client][3] = True
            if crash:
                history.append(Operation(names[client], kind, given, None, called, inf))
                names[client] = max(names) + 1
                del under_way[client]
        else:
            told = None if kind in QUIET and (kind not in ("add", "append") or random.random() < 0.5) else answer
            history.append(Operation(names[client], kind, given, told, called, time))
            del under_way[client]
    return sorted(history, key=lambda operation: operation.called)


def spoiled(model: str, history: list[Operation], random: Random) -> list[Operation]:
    """The history with one answer exchanged for that of another operation of its kind, or for none at all."""
    answered = [number for number, operation in enumerate(history) if not operation.is_open]
    if not answered:
        return history
    number = random.choice(answered)
    old = history[number]
    others = [each.output for each in history if each.kind == old.kind and not each.is_open]
    output: Any = random.choice(others)
    if old.kind == "cas":
        output = not old.output
    elif old.kind in ("acquire", "release"):
        return [operation for place, operation in enumerate(history) if place != number]
    elif old.kind == "dequeue":
        output = random.choice([*others, None, 1, 2])
    elif model in ("register", "cas-register") and old.kind == "read":
        output = random.choice([None, 1, 2, 3])
    changed = Operation(old.process, old.kind, old.input, output, old.called, old.returned)
    return [*history[:number], changed, *history[number + 1 :]]


def explained(model: str, history: list[Operation]) -> bool:
    """By trying every order that keeps to the times, with and without the open operations."""
    first, does, _kinds = OBJECTS[model]

    def extends(state: Any, left: list[Operation]) -> bool:
        if all(operation.is_open for operation in left):
            return True
        end = min(operation.returned for operation in left)
        for number, operation in enumerate(left):
            if operation.called > end:
                continue  # something that is left was answered before it was called
            outcome = does(state, operation.kind, operation.input, operation.process)
            if (
                outcome is not None
                and answers(operation, outcome[1])
                and extends(outcome[0], left[:number] + left[number + 1 :])
            ):
                return True
        return False

    return extends(first, history)


def answers(operation: Operation, answer: Any) -> bool:
    """Whether this answer is what the client saw, as far as it saw one."""
    return operation.is_open or (operation.kind in QUIET and operation.output is None) or operation.output == answer


def follows(model: str, order: tuple[Operation, ...], history: list[Operation]) -> bool:
    """Whether the order is of operations of the history, keeps to the times, and explains all answers in it."""
    state, does, _kinds = OBJECTS[model]
    latest = -inf
    left = list(history)
    for operation in order:
        left.remove(operation)
        latest = max(latest, operation.called)
        if operation.returned < latest:
            return False
        outcome = does(state, operation.kind, operation.input, operation.process)
        if outcome is None or not answers(operation, outcome[1]):
            return False
        state = outcome[0]
    return all(operation.returned >= latest for operation in left)
