"""Where everything stands in the picture of a history: a part of it that can be read, its rows, and its axis of time.

The axis is the order of things, not their distance: every call, answer and point gets its place, so that none covers
another however close they were. Lengths are pixels.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from distkit.core import record
from distkit.sim.linear.records import Operation, Result, Verdict

#: A history of so many operations is drawn whole.
_WHOLE: Final = 90
#: Of a longer one, so many operations are drawn before what the picture is about, and so many behind it.
_BEFORE: Final = 55
_BEHIND: Final = 15

_CALL, _POINT, _ANSWER = range(3)
#: What a call, a point and an answer need on either side of them.
_ROOM: Final = (6.0, 13.0, 6.0)
#: How far a bar without an answer goes on.
_FADE: Final = 80.0
#: How far apart two processes on one row are.
_APART: Final = 12.0


@record
class Bar:
    """One operation. The bar of one that is open fades away; `cut` means that it began before the picture does."""

    operation: Operation
    row: int
    left: float
    right: float
    number: int  # in the longest linearization, from 1; 0: not in it
    cut: bool
    failed: bool


@record
class Point:
    """Where an operation takes effect in the longest linearization."""

    number: int
    row: int
    x: float


@record
class Layout:
    """The part of a history that is drawn."""

    rows: tuple[tuple[int | str, ...], ...]  # the processes of each row, one after the other
    bars: tuple[Bar, ...]
    points: tuple[Point, ...]  # of consecutive numbers
    ticks: tuple[tuple[float, float], ...]  # place and time of each call and answer
    width: float
    first: int  # the operations drawn are these, by time of call, counted from 1
    last: int


def lay_out(verdict: Verdict, label_width: Callable[[Operation], float]) -> Layout:
    """Place the operations round the one that cannot be linearized, each bar wide enough for its label."""
    history = sorted(verdict.history, key=lambda operation: operation.called)
    first, last, end_time = _part(history, verdict)
    times = sorted({time for operation in history for time in (operation.called, operation.returned)} - {inf})
    begin, end = bisect_left(times, history[first].called), bisect_left(times, end_time)
    slots = _slots(verdict.linearized, times)
    numbers: dict[Operation, int] = {}
    for number, operation in enumerate(verdict.linearized, 1):
        numbers.setdefault(operation, number)

    spans = []
    for operation in history:
        called, returned = bisect_left(times, operation.called), bisect_left(times, operation.returned)
        number = numbers.get(operation, 0)
        reaches = slots[number - 1] if operation.is_open and number else called if operation.is_open else returned
        if called <= end and reaches >= begin:
            spans.append(_Span(operation, number, called, returned, slots[number - 1] if number else -1))
    return _placed(spans, times, begin, end, verdict.operation, label_width, first + 1, last + 1)


@record
class _Span:
    """An operation that is drawn, in ranks: the places of its times among all times of the history."""

    operation: Operation
    number: int
    called: int
    returned: int
    slot: int  # where it takes effect; -1: nowhere


def _part(history: Sequence[Operation], verdict: Verdict) -> tuple[int, int, float]:
    """The first and the last operation to draw, by time of call, and the time at which the picture ends."""
    if len(history) <= _WHOLE:
        return 0, len(history) - 1, inf
    focus = verdict.operation or max(verdict.linearized, key=lambda operation: operation.called, default=history[0])
    if verdict.result is Result.OK:
        focus = history[0]
    place = history.index(focus)
    last = min(max(place, _WHOLE - _BEHIND) + _BEHIND, len(history) - 1)
    first = max(0, min(place - _BEFORE, last - _WHOLE))
    next_call = history[last + 1].called if last + 1 < len(history) else inf
    end = history[last].called
    return first, last, max(end, focus.returned) if focus.returned < next_call else end


def _slots(linearized: Sequence[Operation], times: Sequence[float]) -> list[int]:
    """Where each operation takes effect: between the latest call up to it and the first answer from it on."""
    latest, calls = 0, []
    for operation in linearized:
        latest = max(latest, bisect_left(times, operation.called))
        calls.append(latest)
    earliest, slots = len(times), []
    for operation, call in zip(reversed(linearized), reversed(calls), strict=True):
        earliest = min(earliest, bisect_left(times, operation.returned))
        slots.append((call + min(earliest, call + 6)) // 2)
    return slots[::-1]


def _placed(
    spans: Sequence[_Span],
    times: Sequence[float],
    begin: int,
    end: int,
    failed: Operation | None,
    label_width: Callable[[Operation], float],
    first: int,
    last: int,
) -> Layout:
    """Give each call, point and answer its place on the axis, from left to right."""
    places: list[tuple[int, int, int, int]] = []  # rank, what, number, index of the span
    for index, span in enumerate(spans):
        if span.called >= begin:
            places.append((span.called, _CALL, span.number, index))
        if begin <= span.slot <= end:
            places.append((span.slot, _POINT, span.number, index))
        if not span.operation.is_open and span.returned <= end:
            places.append((span.returned, _ANSWER, span.number, index))
    lefts, effects, rights = [0.0] * len(spans), [0.0] * len(spans), [inf] * len(spans)
    x = 0.0
    before = _ROOM[_POINT]
    ticks = []
    for rank, what, _, index in sorted(places):
        x += before + _ROOM[what]
        before = _ROOM[what]
        if what == _CALL:
            lefts[index] = x
        elif what == _POINT:
            effects[index] = x
        else:
            rights[index] = x = max(x, lefts[index] + label_width(spans[index].operation))
        if what != _POINT:
            ticks.append((x, times[rank]))
    for index, span in enumerate(spans):
        if span.operation.is_open:
            rights[index] = max(effects[index], lefts[index] + label_width(span.operation)) + _FADE
    width = max(x, *(right for right in rights if right < inf), 0.0) + _ROOM[_POINT]

    rights = [min(right, width) for right in rights]
    rows = _rows(spans, lefts, rights)
    row_of = {process: row for row, processes in enumerate(rows) for process in processes}
    points = [
        Point(span.number, row_of[span.operation.process], effects[index])
        for index, span in enumerate(spans)
        if effects[index]
    ]
    return Layout(
        rows,
        tuple(
            Bar(
                span.operation,
                row_of[span.operation.process],
                lefts[index],
                rights[index],
                span.number,
                span.called < begin,
                span.operation == failed,
            )
            for index, span in enumerate(spans)
        ),
        tuple(sorted(points, key=lambda point: point.number)),
        tuple(ticks),
        width,
        first,
        last,
    )


def _rows(spans: Sequence[_Span], lefts: Sequence[float], rights: Sequence[float]) -> tuple[tuple[int | str, ...], ...]:
    """Processes that follow each other share a row: a client that gets no answer often goes on under another name."""
    extents: dict[int | str, tuple[float, float]] = {}
    for span, left, right in zip(spans, lefts, rights, strict=True):
        begin, end = extents.get(span.operation.process, (left, right))
        extents[span.operation.process] = min(begin, left), max(end, right)
    rows: list[list[int | str]] = []
    ends: list[float] = []
    for process, (begin, end) in sorted(
        extents.items(), key=lambda item: (item[1][0], isinstance(item[0], str), item[0])
    ):
        row = next((row for row, before in enumerate(ends) if before + _APART <= begin), len(rows))
        if row == len(rows):
            rows.append([])
            ends.append(0.0)
        rows[row].append(process)
        ends[row] = end
    return tuple(map(tuple, rows))
