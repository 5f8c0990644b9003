"""Events of a trace, checked one by one: what a person or another program wrote may be anything."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from reprlib import Repr
from typing import Any, Final

from distkit.core import LocalError

NUMBER_MAX: Final = 1 << 64
NAME_MAX, TEXT_MAX, BROKEN_MAX = 60, 120, 2000
FIELDS_SHOWN: Final = 8
_COMMON: Final = ("seq", "time", "event", "node")

_short = Repr()
_short.maxstring = _short.maxother = 60


@dataclass(slots=True)
class Event:
    """One line of a trace: what happened, where and when. `line` counts from 1."""

    line: int
    time: float
    name: str
    node: int
    fields: Mapping[str, Any]

    def number(self, name: str, default: int | None = None) -> int:
        """A field that is a whole number, not negative."""
        value = self.fields.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < NUMBER_MAX:
            raise malformed(self.line, f'"{name}" of "{self.name}" must be a number from 0 on, not {shown(value)}')
        return value

    def text(self, name: str, letters: int = TEXT_MAX) -> str:
        """A field as text; empty if it is absent."""
        value = self.fields.get(name)
        return "" if value is None else shown(value, letters)

    def rest(self) -> str:
        """All that an event of any kind has to say, one field a line."""
        names = [name for name in self.fields if name not in _COMMON and self.fields[name] not in (None, "")]
        lines = [f"{shown(name, NAME_MAX)} {self.text(name)}" for name in names[:FIELDS_SHOWN]]
        return shown("\n".join(lines), 2 * TEXT_MAX)

    def links(self) -> frozenset[tuple[int, int]]:
        """The directed links of a cut or heal."""
        value = self.fields.get("links", [])
        links = value if isinstance(value, (list, tuple)) else [value]
        for link in links:
            ends = link if isinstance(link, (list, tuple)) else ()
            if len(ends) != 2 or not all(type(end) is int and 0 <= end < NUMBER_MAX for end in ends):
                raise malformed(self.line, f'"links" must be pairs of nodes like [[1, 2]], not {shown(value)}')
        return frozenset((link[0], link[1]) for link in links)


def read(events: Iterable[Mapping[str, Any]]) -> Iterator[Event]:
    """The events, checked. LocalError names the line of one that is malformed or older than the one before."""
    before = -math.inf
    for line, fields in enumerate(events, 1):
        if not isinstance(fields, Mapping):
            raise malformed(line, f"an event is an object with fields, not {shown(fields)}")
        time, name = fields.get("time"), fields.get("event")
        if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX:
            raise malformed(line, f'"event" must be a name of 1 to {NAME_MAX} characters, not {shown(name)}')
        if not isinstance(time, (int, float)) or isinstance(time, bool) or not abs(time) < 1e15:
            raise malformed(line, f'"time" must be a number of seconds, not {shown(time)}')
        if time < before:
            raise malformed(line, f"events must be in order, but time goes back from {before} to {time}")
        before = time
        event = Event(line, float(time), name, 0, fields)
        event.node = event.number("node", 0)
        yield event


def malformed(line: int, what: str) -> LocalError:
    """The error for a line that can't be drawn."""
    return LocalError(f"line {line} of the trace: {what}")


def shown(value: object, letters: int = TEXT_MAX) -> str:
    """Any value as a short text."""
    if not isinstance(value, str):
        try:
            value = _short.repr(value)
        except ValueError:  # a whole number with thousands of digits
            value = f"<{type(value).__name__}>"
    return value if len(value) <= letters else value[: letters - 1] + "…"
