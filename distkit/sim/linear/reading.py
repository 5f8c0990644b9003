"""Histories of real systems: out of Jepsen's EDN, out of the log of a Jepsen test, and out of JSON lines.

Every event is the call of an operation (`invoke`) or what became of it: `ok`, `fail` (it did not happen and will not)
or `info` (nobody knows). The events of one process belong together two by two: what it calls ends before its next call.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from sys import getsizeof, intern
from typing import Final

from distkit.core import record
from distkit.sim.linear.edn import HistoryError, Plain, Record, shown
from distkit.sim.linear.formats import read_events
from distkit.sim.linear.records import Operation

#: Operations of one history, at most, unless another bound is given.
OPERATIONS_MAX: Final = 1_000_000
#: Memory for the events of one history, at most, unless another bound is given.
BYTES_MAX: Final = 1 << 30
#: What an event takes beside its value.
_EVENT_BYTES: Final = 300

#: The value of these is what was answered, also where a tool has filled it into the call.
_QUESTIONS: Final = frozenset({"read", "dequeue"})
_TYPES: Final = ("invoke", "ok", "fail", "info")
_NO_EVENT: Final = (
    "there is no event in it. A history is EDN ({:process 0, :type :invoke, :f :write, :value 3} ...), the log of a "
    "Jepsen test (INFO  jepsen.util - 0 :invoke :write 3), or JSON lines "
    '({"process": 0, "type": "invoke", "f": "write", "value": 3})'
)


@record
class _Event:
    """An operation was called, or this is what became of it."""

    line: int
    process: int | str
    type: str
    kind: str
    value: Plain
    key: Plain
    time: int | float


def read_history(
    lines: Iterable[str | bytes],
    *,
    keyed: bool = False,
    by_time: bool = False,
    operations_max: int = OPERATIONS_MAX,
    bytes_max: int = BYTES_MAX,
) -> list[Operation]:
    """The operations of a history, in the order of their calls. Its first line tells which format it is.

    Events are in the order of their lines, and their times are the numbers of the lines, which say where to look. With
    `by_time` the field `time` of the events is what counts. `keyed`: values are pairs [key value], as those of
    `jepsen.independent`; a field `key` is always read. Operations that failed are left out. Those whose outcome nobody
    knows, and those without an end, never return. Events of the nemesis are skipped.

    HistoryError, and nothing else, is raised for a history that is malformed, cut short, or larger than
    `operations_max` operations or about `bytes_max` bytes of memory. It names the line and what is wrong there.
    """
    events = _bounded(_events(lines, keyed, by_time), operations_max, bytes_max)
    return _paired(sorted(events, key=lambda event: event.time) if by_time else events)


def _paired(events: Iterable[_Event]) -> list[Operation]:
    """Join each call with its end, by process."""
    operations: list[Operation | None] = []
    open_calls: dict[int | str, tuple[int, _Event]] = {}
    for event in events:
        if event.type == "invoke":
            if event.process in open_calls:
                _, call = open_calls[event.process]
                raise HistoryError(
                    event.line, f"{_who(event)} here, but its {call.kind} of line {call.line} has no end"
                )
            open_calls[event.process] = len(operations), event
            operations.append(None)
            continue
        if event.process not in open_calls:
            raise HistoryError(event.line, f"{_who(event)} here, which it has not called")
        place, call = open_calls.pop(event.process)
        if call.kind != event.kind or (event.type == "ok" and call.key != event.key):
            called = f"{call.kind} of key {shown(call.key)}" if call.kind == event.kind else call.kind
            raise HistoryError(event.line, f"{_who(event)} here, but what it called in line {call.line} is {called}")
        if event.type != "fail":
            operations[place] = _operation(call, event if event.type == "ok" else None)
    for place, call in open_calls.values():
        operations[place] = _operation(call, None)
    return [operation for operation in operations if operation is not None]


def _who(event: _Event) -> str:
    return f"process {shown(event.process)} {'calls' if event.type == 'invoke' else 'ends'} {event.kind}"


def _operation(call: _Event, end: _Event | None) -> Operation:
    """Without an end it never returns. The value of an end is the answer, unless it only repeats what was given."""
    given = None if call.kind in _QUESTIONS else call.value
    output: Plain = None
    if end is not None:
        if call.kind == "cas":
            output = end.value is not False
        elif given is None or end.value != given:
            output = end.value
    returned = math.inf if end is None else end.time
    return Operation(call.process, call.kind, given, output, call.time, returned, call.key)


def _bounded(events: Iterable[_Event], operations_max: int, bytes_max: int) -> Iterator[_Event]:
    """The events, as long as they are few enough. In a sound history there are not more ends than calls."""
    calls = ends = held = 0
    for event in events:
        if event.type == "invoke":
            calls += 1
        else:
            ends += 1
        held += _EVENT_BYTES + _bytes(event.value)
        if max(calls, ends) > operations_max:
            raise HistoryError(event.line, f"the history has more than {operations_max} operations")
        if held > bytes_max:
            raise HistoryError(
                event.line, f"the history as far as this line takes more than {bytes_max} bytes of memory"
            )
        yield event
    if not calls:
        raise HistoryError(0, _NO_EVENT)


def _bytes(value: Plain) -> int:
    if isinstance(value, tuple):
        return getsizeof(value) + sum(map(_bytes, value))
    return getsizeof(value)


def _events(lines: Iterable[str | bytes], keyed: bool, by_time: bool) -> Iterator[_Event]:
    """The events of the clients."""
    time: int | float = 0
    for line, found in read_events(lines):
        if found.get("process") == "nemesis":
            continue
        time = _time(line, found) if by_time else max(line, math.floor(time) + 1)
        yield _event(line, found, keyed, time)


def _event(line: int, found: Record, keyed: bool, time: int | float) -> _Event:
    process, kind, value, key = (found.get(name) for name in ("process", "f", "value", "key"))
    if isinstance(process, bool) or not isinstance(process, int | str) or not str(process).isprintable():
        raise HistoryError(line, f"process must be a number or a name, not {shown(process)}")
    if found.get("type") not in _TYPES:
        raise HistoryError(line, f"type must be one of {', '.join(_TYPES)}, not {shown(found.get('type'))}")
    if not isinstance(kind, str) or not kind.isprintable():
        raise HistoryError(line, f"f must be the name of an operation, not {shown(kind)}")
    kind, type = intern(kind), intern(str(found["type"]))
    if keyed and type in ("invoke", "ok"):
        if not isinstance(value, tuple) or len(value) != 2:
            raise HistoryError(
                line, f"the value must be a pair [key value], as the history is keyed, not {shown(value)}"
            )
        key, value = value
    return _Event(line, process, type, kind, value, key, time)


def _time(line: int, found: Record) -> int | float:
    time = found.get("time")
    if isinstance(time, bool) or not isinstance(time, int | float) or not math.isfinite(time):
        raise HistoryError(line, f"time must be a number, not {shown(time)}")
    return time
