"""Layouts: how the fields of one record stand on the wire, compiled from a line such as ``"term:u64 blocks:blocks"``.

| type            | Python                          | bytes                                                            |
|-----------------|---------------------------------|------------------------------------------------------------------|
| `u8` .. `u64`   | int                             | fixed width                                                      |
| `bool`          | bool                            | one byte, 0 or 1                                                 |
| `bytes`         | bytes                           | u32 length, content                                              |
| `str`           | str                             | u16 length, UTF-8                                                |
| `blobs`         | tuple[bytes, ...]               | u32 count, u32 length each, contents                             |
| `blocks`        | tuple[bytes, ...]               | as blobs; each a valid block, consecutive, rounds never falling  |
| `block`         | bytes                           | the rest of the body, a valid block; only as last field          |
| `u64s`          | tuple[int, ...]                 | u32 count, u64 each                                              |
| `addresses`     | tuple[tuple[int, str], ...]     | u16 count, u32 id and str each; ids rise                         |
| `configuration` | Configuration                   | see `docs/formats.md`                                            |
| a part's name   | that record                     | its own layout                                                   |
| a part's `*`    | tuple of such records           | u16 count, the layout of each                                    |
| any of them `?` | that or None                    | `bool`, then the value if it is 1                                |

Every count and length is compared with the bytes that are there before anything is allocated for it. The kernel `wire`
does what messages on the hot path are made of; the types that only rare records have are here.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any, Protocol

from distkit._fast.codec import check_block
from distkit._fast.wire import FIELD_TYPES, Fields
from distkit.core import Configuration, LocalError, Member, MemberRole, PeerError
from distkit.core.limits import ADDRESS_BYTES_MAX, MEMBERS_MAX, NODE_ID_MAX

#: A line of a machine's table: (kind, record type, layout).
Row = tuple[int, type[Any], str]

#: What a type puts: (value, pieces to append to).
Put = Callable[[Any, list[bytes]], None]
#: What a type takes: (data, position, end of the record) -> (value, position behind it). It may read numbers behind
#: the end of the record, but not behind the data; a position behind the end is an error then.
Take = Callable[[bytes, int, int], tuple[Any, int]]

_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_MEMBER = struct.Struct("<IQB")


class _Step(Protocol):
    """One or more neighbouring fields."""

    def put(self, record: Any, pieces: list[bytes]) -> None: ...

    def take(self, data: bytes, start: int, end: int, values: list[Any]) -> int: ...


class Layout:
    """How one record type stands on the wire. Bad bytes raise PeerError, struct.error or UnicodeDecodeError."""

    __slots__ = ("_steps", "record")

    def __init__(self, record: type[Any], line: str, parts: Mapping[str, Layout]) -> None:
        fields = [_field(word) for word in line.split()]
        names = [name for name, _ in fields]
        if names != [field.name for field in dataclasses.fields(record)]:
            raise LocalError(f"layout of {record.__name__} must name its fields in order, not {names}")
        if any(kind == "block" for _, kind in fields[:-1]):
            raise LocalError(f"layout of {record.__name__}: a block takes the rest of the body, so it must stand last")
        self.record = record
        self._steps = _steps(fields, parts)

    def put(self, record: Any, pieces: list[bytes]) -> None:
        """Append the bytes of `record`; contents are passed by reference."""
        for step in self._steps:
            step.put(record, pieces)

    def take(self, data: bytes, at: int, end: int) -> tuple[Any, int]:
        """The record at position `at`, and the position behind it, which is not behind `end`."""
        values: list[Any] = []
        for step in self._steps:
            at = step.take(data, at, end, values)
        return self.record(*values), at


def _field(word: str) -> tuple[str, str]:
    name, _, kind = word.partition(":")
    return name, kind


def _steps(fields: list[tuple[str, str]], parts: Mapping[str, Layout]) -> tuple[_Step, ...]:
    """Fields that the kernel knows and that stand together become one step, every other field its own."""
    steps: list[_Step] = []
    for known, run in groupby(fields, lambda field: field[1] in FIELD_TYPES):
        if known:
            steps.append(Fields(run))
        else:
            steps += [_ValueStep(name, *_type(kind, parts)) for name, kind in run]
    return tuple(steps)


class _ValueStep:
    """One field of a type that the kernel does not know."""

    __slots__ = ("_name", "_put", "_take")

    def __init__(self, name: str, put: Put, take: Take) -> None:
        self._name = name
        self._put = put
        self._take = take

    def put(self, record: Any, pieces: list[bytes]) -> None:
        self._put(getattr(record, self._name), pieces)

    def take(self, data: bytes, start: int, end: int, values: list[Any]) -> int:
        value, at = self._take(data, start, end)
        if at > end:
            raise PeerError(f"it ends too early: {self._name} goes {at - end} bytes too far")
        values.append(value)
        return at


def _type(kind: str, parts: Mapping[str, Layout]) -> tuple[Put, Take]:
    if kind.endswith("?"):
        return _optional(*_type(kind[:-1], parts))
    if kind.endswith("*"):
        return _many(*_type(kind[:-1], parts))
    if kind in parts:
        return parts[kind].put, parts[kind].take
    try:
        return _TYPES[kind]
    except KeyError:
        raise LocalError(f"unknown layout type {kind!r}") from None


# -- the types --------------------------------------------------------------------------------------------------------


def _content(data: bytes, at: int, end: int, size: int) -> bytes:
    if size > end - at:
        raise PeerError(f"it ends too early: {size} bytes are expected where {end - at} are left")
    return data[at : at + size]


def _put_str(value: str, pieces: list[bytes]) -> None:
    data = value.encode()
    pieces += (_U16.pack(len(data)), data)


def _take_str(data: bytes, at: int, end: int) -> tuple[str, int]:
    (size,) = _U16.unpack_from(data, at)
    return _content(data, at + 2, end, size).decode(), at + 2 + size


def _put_block(value: bytes, pieces: list[bytes]) -> None:
    pieces.append(value)


def _take_block(data: bytes, at: int, end: int) -> tuple[bytes, int]:
    block = data[at:end]
    check_block(block)
    return block, end


def _put_u64s(value: tuple[int, ...], pieces: list[bytes]) -> None:
    pieces.append(struct.pack(f"<I{len(value)}Q", len(value), *value))


def _take_u64s(data: bytes, at: int, end: int) -> tuple[tuple[int, ...], int]:
    (count,) = _U32.unpack_from(data, at)
    return struct.unpack_from(f"<{count}Q", data, at + 4), at + 4 + 8 * count


def _put_addresses(value: tuple[tuple[int, str], ...], pieces: list[bytes]) -> None:
    pieces.append(_U16.pack(len(value)))
    for node, address in value:
        pieces.append(_U32.pack(node))
        _put_str(address, pieces)


def _take_addresses(data: bytes, at: int, end: int) -> tuple[tuple[tuple[int, str], ...], int]:
    count, at = _take_member_count(data, at)
    addresses = []
    for _ in range(count):
        (node,) = _U32.unpack_from(data, at)
        address, at = _take_str(data, at + 4, end)
        _check_address(node, address)
        addresses.append((node, address))
    _check_rising([node for node, _ in addresses])
    return tuple(addresses), at


def _put_configuration(value: Configuration, pieces: list[bytes]) -> None:
    pieces.append(_U64.pack(value.version) + _U16.pack(len(value.members)))
    for member in value.members:
        pieces.append(_MEMBER.pack(member.id, member.incarnation, member.role))
        _put_str(member.address, pieces)
    pieces.append(struct.pack(f"<H{len(value.outgoing)}I", len(value.outgoing), *value.outgoing))


def _take_configuration(data: bytes, at: int, end: int) -> tuple[Configuration, int]:
    (version,) = _U64.unpack_from(data, at)
    count, at = _take_member_count(data, at + 8)
    members = []
    for _ in range(count):
        node, incarnation, role = _MEMBER.unpack_from(data, at)
        address, at = _take_str(data, at + _MEMBER.size, end)
        _check_address(node, address)
        if role not in _ROLES:
            raise PeerError(f"unknown role {role} of member {node}")
        members.append(Member(node, incarnation, address, _ROLES[role]))
    _check_rising([member.id for member in members])
    count, at = _take_member_count(data, at)
    outgoing = struct.unpack_from(f"<{count}I", data, at)
    _check_rising(outgoing)
    return Configuration(version, tuple(members), outgoing), at + 4 * count


_ROLES = {int(role): role for role in MemberRole}


def _take_member_count(data: bytes, at: int) -> tuple[int, int]:
    (count,) = _U16.unpack_from(data, at)
    if count > MEMBERS_MAX:
        raise PeerError(f"{count} members, at most {MEMBERS_MAX} are allowed")
    return count, at + 2


def _check_address(node: int, address: str) -> None:
    if not address or len(address.encode()) > ADDRESS_BYTES_MAX:
        raise PeerError(f"the address of member {node} is empty or longer than {ADDRESS_BYTES_MAX} bytes")


def _check_rising(nodes: list[int] | tuple[int, ...]) -> None:
    last = 0
    for node in nodes:
        if not last < node <= NODE_ID_MAX:
            raise PeerError(f"member ids must rise from 1 to at most {NODE_ID_MAX}, not {list(nodes)}")
        last = node


def _optional(put: Put, take: Take) -> tuple[Put, Take]:
    def put_optional(value: Any, pieces: list[bytes]) -> None:
        pieces.append(b"\0" if value is None else b"\1")
        if value is not None:
            put(value, pieces)

    def take_optional(data: bytes, at: int, end: int) -> tuple[Any, int]:
        present = _content(data, at, end, 1)
        if present == b"\0":
            return None, at + 1
        if present != b"\1":
            raise PeerError(f"presence is {present[0]}, not 0 or 1")
        return take(data, at + 1, end)

    return put_optional, take_optional


def _many(put: Put, take: Take) -> tuple[Put, Take]:
    def put_many(value: Any, pieces: list[bytes]) -> None:
        pieces.append(_U16.pack(len(value)))
        for each in value:
            put(each, pieces)

    def take_many(data: bytes, at: int, end: int) -> tuple[Any, int]:
        (count,) = _U16.unpack_from(data, at)
        at += 2
        if count > end - at:  # each has at least one byte
            raise PeerError(f"it ends too early: {count} records are expected where {end - at} bytes are left")
        values = []
        for _ in range(count):
            value, at = take(data, at, end)
            values.append(value)
        return tuple(values), at

    return put_many, take_many


_TYPES: dict[str, tuple[Put, Take]] = {
    "str": (_put_str, _take_str),
    "block": (_put_block, _take_block),
    "u64s": (_put_u64s, _take_u64s),
    "addresses": (_put_addresses, _take_addresses),
    "configuration": (_put_configuration, _take_configuration),
}
