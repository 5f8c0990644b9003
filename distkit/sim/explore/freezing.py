"""Copies and exact values of machines, without their help.

A machine is a tree of plain Python data: numbers, bytes, records (which never change), containers, and objects with
fields. `fork` copies what can change, `freeze` makes a hashable value that is equal exactly for equal machines.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import is_dataclass
from typing import Any, Final

from distkit.core import LocalError

#: What never changes and is its own value.
_ATOMS: Final = (int, float, str, bytes, type(None), enum.Enum)

#: How to copy and how to freeze a type that is no plain Python data.
Special = Mapping[type, tuple[Callable[[Any], Any], Callable[[Any], Hashable]]]


class Freezer:
    """Fields named in `shared` are the same in every copy and no part of the value: what is never changed by anybody
    (options, tables), and what nobody decides by (counters for people)."""

    def __init__(self, shared: frozenset[str], special: Special | None = None) -> None:
        self._shared = shared
        self._special: Special = special or {}
        self._fields: dict[type, tuple[tuple[str, ...], tuple[str, ...]]] = {}  # (shared, own) by type
        self._atoms: dict[type, bool] = {}

    def fork(self, value: Any) -> Any:
        """A copy that can be changed apart from the original."""
        kind = type(value)
        if self._atom(kind):
            return value
        if kind is tuple:
            return tuple([self.fork(each) for each in value])
        if kind is list:
            return [self.fork(each) for each in value]
        if kind is dict:
            return {key: self.fork(each) for key, each in value.items()}
        if kind is deque:
            return deque([self.fork(each) for each in value])
        if kind in (set, frozenset, bytearray):
            return kind(value)
        if kind in self._special:
            return self._special[kind][0](value)
        shared, own = self._fields_of(kind, value)
        copy = object.__new__(kind)
        for name in shared:
            setattr(copy, name, getattr(value, name))
        for name in own:
            setattr(copy, name, self.fork(getattr(value, name)))
        return copy

    def freeze(self, value: Any) -> Hashable:
        """The value. The order of dicts and sets is no part of it."""
        kind = type(value)
        if self._atom(kind):
            frozen: Hashable = value
            return frozen
        if kind in (tuple, list, deque):
            return tuple([self.freeze(each) for each in value])
        if kind is dict:
            return frozenset([(key, self.freeze(each)) for key, each in value.items()])
        if kind in (set, frozenset):
            return frozenset(value)
        if kind is bytearray:
            return bytes(value)
        if kind in self._special:
            return self._special[kind][1](value)
        return tuple([self.freeze(getattr(value, name)) for name in self._fields_of(kind, value)[1]])

    def _atom(self, kind: type) -> bool:
        known = self._atoms.get(kind)
        if known is None:
            known = self._atoms[kind] = issubclass(kind, _ATOMS) or is_dataclass(kind)
        return known

    def _fields_of(self, kind: type, value: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(shared, own) fields of the objects of a type. All of them have the same."""
        known = self._fields.get(kind)
        if known is None:
            slots = [name for each in kind.__mro__ for name in each.__dict__.get("__slots__", ())]
            names = slots or sorted(getattr(value, "__dict__", ()))
            if not names:
                raise LocalError(f"an explored machine holds a {kind.__name__}: say how it is copied and compared")
            shared = tuple(name for name in names if name in self._shared)
            known = self._fields[kind] = (shared, tuple(name for name in names if name not in self._shared))
        return known
