"""The lines of a history file, in any of its formats, as one record an event: what fields it has, and on which line.

The first line in which there is something tells the format: EDN, JSON lines, or the log of a Jepsen test.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final, NoReturn

from distkit.sim.linear.edn import (
    DEPTH_MAX,
    RECORD_CHARS_MAX,
    HistoryError,
    Plain,
    Record,
    plain_set,
    read_forms,
    read_records,
    shown,
)

#: Characters of one line, at most; EDN may have a whole history on one.
LINE_CHARS_MAX: Final = 1 << 26

_NOTHING: Final = re.compile(r"\s*+(?:;|$)")
#: JSON may only begin with `[` to be told that it must not; that of EDN is looked through.
_JSON_BEGIN: Final = re.compile(r"\s*+\[?\s*+\{\s*+[\"}]")
_EDN_BEGIN: Final = re.compile(r"\s*+[\[(]?\s*+(?:[{#]|$)")

#: The type in a line of a log. Before it come the process and, before that, the logger; behind it f and the value.
_TYPE: Final = re.compile(r"\s:(invoke|ok|fail|info)(?!\S)")
_PROCESS: Final = re.compile(r"-?\d{1,18}|:[\w.-]+", re.ASCII)
_CUT: Final = "the history was cut short"


def read_events(lines: Iterable[str | bytes]) -> Iterator[tuple[int, Record]]:
    """The fields of each event, with the number of its line. Which fields there are is not judged here.

    Memory: one line and one record. HistoryError: malformed, cut short, or past a bound.
    """
    numbered = _numbered(lines)
    begin = next(((number, line) for number, line in numbered if _NOTHING.match(line) is None), None)
    if begin is None:
        return
    numbered = chain([begin], numbered)
    if _JSON_BEGIN.match(begin[1]):
        yield from _read_json(numbered)
    elif _EDN_BEGIN.match(begin[1]):
        yield from read_records(numbered)
    else:
        yield from _read_log(numbered)


def _numbered(lines: Iterable[str | bytes]) -> Iterator[tuple[int, str]]:
    """The lines as text, counted from 1."""
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_CHARS_MAX:
            raise HistoryError(number, f"the line is longer than {LINE_CHARS_MAX} characters")
        try:
            text = line.decode() if isinstance(line, bytes) else line
            text.encode()
        except UnicodeError as error:
            raise HistoryError(number, f"this is not UTF-8 text: {error}") from error
        yield number, text.removeprefix("\ufeff") if number == 1 else text


def _read_log(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, Record]]:
    """The events in a log; its other lines are skipped. No bracket closes such a line, so it ends with a newline."""
    terminated = False
    for number, line in lines:
        if terminated and not line.endswith("\n"):
            raise HistoryError(number, f"the last line of the log has no newline at its end: {_CUT}")
        terminated = line.endswith("\n")
        found = _logged(number, line)
        if found is not None:
            yield number, found


def _logged(number: int, line: str) -> Record | None:
    """The event in a line of a log: `INFO  jepsen.util - 0 :invoke :write 3`, or with other words before the 0."""
    match = _TYPE.search(line)
    if match is None:
        return None
    *logger, process = line[: match.start()].rsplit(None, 2) or [""]
    if not _PROCESS.fullmatch(process) or (logger and logger[-1] != "-" and not re.search(r"\w\.\w", logger[-1])):
        if "jepsen.util" in line:
            raise HistoryError(number, f"an event begins with the number of its process, not {shown(process)}")
        return None
    forms = read_forms(number, line[match.end() :])
    found: Record = {"process": process[1:] if process[0] == ":" else int(process), "type": match[1]}
    try:
        found["f"] = next(forms)
        if match[1] in ("invoke", "ok"):
            found["value"] = next(forms)
    except StopIteration:
        raise HistoryError(number, f"the event has no {'value' if 'f' in found else 'operation'}: {_CUT}") from None
    return found


def _read_json(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, Record]]:
    """The objects of a file that has one a line."""
    for number, line in lines:
        text = line.strip()
        if not text:
            continue
        if text[0] != "{":
            raise HistoryError(number, f"expected a JSON object on one line, found {shown(text)}")
        if len(text) > RECORD_CHARS_MAX:
            raise HistoryError(number, f"one record is longer than {RECORD_CHARS_MAX} characters")
        try:
            found = _JSON.decode(text)
        except json.JSONDecodeError as error:
            cut = error.pos >= len(text) or (text[-1] != "}" and error.msg != "Extra data")
            why = f"the JSON object does not end on its line: {_CUT}" if cut else f"column {error.colno}: {error.msg}"
            raise HistoryError(number, why) from error
        except (ValueError, RecursionError) as error:
            raise HistoryError(number, f"this is no value of a history: {error}") from error
        yield number, {name: _plain(number, value, DEPTH_MAX) for name, value in found.items()}


def _plain(line: int, value: Any, depth: int) -> Plain:
    if not depth:
        raise HistoryError(line, f"nested more than {DEPTH_MAX} deep")
    match value:
        case str():
            if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
                raise HistoryError(line, f"the text {shown(value)} has half of a character in it")
            return value
        case list():
            return tuple([_plain(line, item, depth - 1) for item in value])
        case dict():
            return plain_set((name, _plain(line, item, depth - 1)) for name, item in value.items())
        case _:
            plain: Plain = value
            return plain


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has one name twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is equal to nothing, or to no other number")


_JSON: Final = json.JSONDecoder(object_pairs_hook=_without_doubles, parse_constant=_no_number)
