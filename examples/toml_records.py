"""TOML files as dataclasses, with errors that name the line and the key.

    @dataclass(frozen=True)
    class Server:
        address: str
        weight: float = 1.0

    server = read_records(Server, text)

A key that the class does not have, a value of another type, a missing key and whatever the class itself refuses
(`LocalError` or `ValueError` out of its `__post_init__`) are LocalErrors: `line 7: cluster.app.weihgt: ...`. Fields may
be bool, int, float, str, `tuple[X, ...]`, `dict[str, X]`, `X | None`, other dataclasses, and `Any`.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from distkit import LocalError

T = TypeVar("T")
_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")


def read_records(kind: type[T], text: str) -> T:
    """Read a whole file. Raises LocalError."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LocalError(f"this is no TOML: {error}") from None
    lines = _lines(text)

    def fail(path: tuple[str, ...], what: str) -> LocalError:
        known = path
        while known and known not in lines:
            known = known[:-1]
        place = f"line {lines[known]}: " if known else ""
        return LocalError(f"{place}{'.'.join(path) or 'the file'}: {what}")

    return typing.cast(T, _Reading(fail).record(kind, table, ()))


class _Reading:
    def __init__(self, fail: typing.Callable[[tuple[str, ...], str], LocalError]) -> None:
        self._fail = fail

    def record(self, kind: Any, table: Any, path: tuple[str, ...]) -> Any:
        if not isinstance(table, dict):
            raise self._fail(path, f"a table is needed, not {_name(table)}")
        fields = {each.name: each for each in dataclasses.fields(kind)}
        types_of = typing.get_type_hints(kind)
        for key in table:
            if key not in fields:
                near = difflib.get_close_matches(key, fields, 1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(fields)}"
                raise self._fail((*path, key), f"an unknown key; {hint}")
        for name, each in fields.items():
            needed = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
            if needed and name not in table:
                raise self._fail(path, f"{name} is missing")
        values = {key: self.value(types_of[key], value, (*path, key)) for key, value in table.items()}
        try:
            return kind(**values)
        except (LocalError, ValueError) as error:
            raise self._fail(path, str(error)) from None

    def value(self, kind: Any, value: Any, path: tuple[str, ...]) -> Any:
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if kind is Any:
            return value
        if origin in (typing.Union, types.UnionType):
            return self.value(next(each for each in arguments if each is not type(None)), value, path)
        if dataclasses.is_dataclass(kind):
            return self.record(kind, value, path)
        if origin is tuple:
            if not isinstance(value, list):
                raise self._fail(path, f"a list is needed, not {_name(value)}")
            return tuple(self.value(arguments[0], each, (*path, str(place))) for place, each in enumerate(value))
        if origin in (dict, Mapping):
            if not isinstance(value, dict):
                raise self._fail(path, f"a table is needed, not {_name(value)}")
            return {key: self.value(arguments[1], each, (*path, key)) for key, each in value.items()}
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self._fail(path, f"{_WORDS[kind]} is needed, not {_name(value)}")
        if kind is float and not abs(value) < float("inf"):
            raise self._fail(path, "a finite number is needed")
        return value


_WORDS: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}


def _name(value: Any) -> str:
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return repr(value)


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """The line of each table and key, as far as it can be seen without parsing values again."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    counts: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _parts(header[2])
            found.setdefault(table, number)
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, str(counts[table]))
                found.setdefault(table, number)
        elif key := _KEY.match(line):
            path = table
            for part in _parts(key[1]):
                path = (*path, part)
                found.setdefault(path, number)
    return found


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in re.findall(r"""\s*("[^"]*"|'[^']*'|[^.]+)""", dotted))
