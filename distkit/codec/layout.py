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
| any of them `?` | that or None                    | `bool`, then the value if it is 1                                |

Every count and length is compared with the bytes that are there before anything is allocated for it.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Protocol

from distkit._fast.codec import check_block
from distkit.core import Configuration, LocalError, Member, MemberRole, PeerError
from distkit.core.limits import ADDRESS_BYTES_MAX, FRAME_BLOBS_MAX, MEMBERS_MAX, NODE_ID_MAX

#: A line of a machine's table: (kind, record type, layout).
Row = tuple[int, type[Any], str]

#: What a type puts: (value, pieces to append to).
Put = Callable[[Any, list[bytes]], None]
#: What a type takes: (body, position) -> (value, position behind it).
Take = Callable[[bytes, int], tuple[Any, int]]

_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_MEMBER = struct.Struct("<IQB")
_EMPTY = _U32.pack(0)
_FIXED = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "bool": "?"}


class _Step(Protocol):
    """One or more neighbouring fields."""

    def put(self, record: Any, pieces: list[bytes]) -> None: ...

    def take(self, body: bytes, at: int, values: list[Any]) -> int: ...


class Layout:
    """How one record type stands on the wire. Bad bytes raise PeerError, struct.error or UnicodeDecodeError."""

    __slots__ = ("_fixed", "_steps", "record")

    def __init__(self, record: type[Any], line: str, parts: Mapping[str, Layout]) -> None:
        fields = [_field(word) for word in line.split()]
        names = [name for name, _ in fields]
        if names != [field.name for field in dataclasses.fields(record)]:
            raise LocalError(f"layout of {record.__name__} must name its fields in order, not {names}")
        if any(kind == "block" for _, kind in fields[:-1]):
            raise LocalError(f"layout of {record.__name__}: a block takes the rest of the body, so it must stand last")
        self.record = record
        self._steps = _steps(fields, parts)
        only = self._steps[0] if len(self._steps) == 1 else None
        self._fixed = only if isinstance(only, _FixedStep) else None  # most messages: one struct call, no loop

    def put(self, record: Any, pieces: list[bytes]) -> None:
        """Append the bytes of `record`; contents are passed by reference."""
        for step in self._steps:
            step.put(record, pieces)

    def take(self, body: bytes, at: int) -> tuple[Any, int]:
        """The record at position `at`, and the position behind it."""
        if self._fixed is not None:
            return self.record(*self._fixed.values(body, at)), at + self._fixed.size
        values: list[Any] = []
        for step in self._steps:
            at = step.take(body, at, values)
        return self.record(*values), at


def _field(word: str) -> tuple[str, str]:
    name, _, kind = word.partition(":")
    return name, kind


def _steps(fields: list[tuple[str, str]], parts: Mapping[str, Layout]) -> tuple[_Step, ...]:
    """Fixed fields that stand together become one step, every other field its own."""
    steps: list[_Step] = []
    run: list[tuple[str, str]] = []
    for name, kind in fields:
        if kind in _FIXED:
            run.append((name, kind))
            continue
        if run:
            steps.append(_FixedStep(run))
            run = []
        steps.append(_ValueStep(name, *_type(kind, parts)))
    if run:
        steps.append(_FixedStep(run))
    return tuple(steps)


class _FixedStep:
    """Neighbouring fields of fixed width: one struct call for all of them."""

    __slots__ = ("_bools", "_get", "_struct", "size")

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        names = [name for name, _ in fields]
        self._struct = struct.Struct("<" + "".join(_FIXED[kind] for _, kind in fields))
        self.size = self._struct.size
        get = attrgetter(*names)
        self._get: Callable[[Any], tuple[Any, ...]] = get if len(names) > 1 else lambda record: (get(record),)
        widths = [struct.calcsize("<" + _FIXED[kind]) for _, kind in fields]
        self._bools = tuple(sum(widths[:i]) for i, (_, kind) in enumerate(fields) if kind == "bool")

    def put(self, record: Any, pieces: list[bytes]) -> None:
        pieces.append(self._struct.pack(*self._get(record)))

    def take(self, body: bytes, at: int, values: list[Any]) -> int:
        values += self.values(body, at)
        return at + self.size

    def values(self, body: bytes, at: int) -> tuple[Any, ...]:
        """The fields at position `at`."""
        values = self._struct.unpack_from(body, at)
        for offset in self._bools:
            if body[at + offset] > 1:
                raise PeerError(f"a boolean is {body[at + offset]}, not 0 or 1")
        return values


class _ValueStep:
    """One field of variable length."""

    __slots__ = ("_get", "_put", "_take")

    def __init__(self, name: str, put: Put, take: Take) -> None:
        self._get = attrgetter(name)
        self._put = put
        self._take = take

    def put(self, record: Any, pieces: list[bytes]) -> None:
        self._put(self._get(record), pieces)

    def take(self, body: bytes, at: int, values: list[Any]) -> int:
        value, at = self._take(body, at)
        values.append(value)
        return at


def _type(kind: str, parts: Mapping[str, Layout]) -> tuple[Put, Take]:
    if kind.endswith("?"):
        return _optional(*_type(kind[:-1], parts))
    if kind in parts:
        return parts[kind].put, parts[kind].take
    try:
        return _TYPES[kind]
    except KeyError:
        raise LocalError(f"unknown layout type {kind!r}") from None


# -- the types --------------------------------------------------------------------------------------------------------


def _content(body: bytes, at: int, size: int) -> bytes:
    if size > len(body) - at:
        raise PeerError(f"a content of {size} bytes with {len(body) - at} bytes left")
    return body[at : at + size]


def _put_bytes(value: bytes, pieces: list[bytes]) -> None:
    pieces += (_U32.pack(len(value)), value)


def _take_bytes(body: bytes, at: int) -> tuple[bytes, int]:
    (size,) = _U32.unpack_from(body, at)
    return _content(body, at + 4, size), at + 4 + size


def _put_str(value: str, pieces: list[bytes]) -> None:
    data = value.encode()
    pieces += (_U16.pack(len(data)), data)


def _take_str(body: bytes, at: int) -> tuple[str, int]:
    (size,) = _U16.unpack_from(body, at)
    return _content(body, at + 2, size).decode(), at + 2 + size


def _put_blobs(value: tuple[bytes, ...], pieces: list[bytes]) -> None:
    count = len(value)
    if count == 0:
        pieces.append(_EMPTY)
        return
    if count > FRAME_BLOBS_MAX:
        raise LocalError(f"{count} blobs in one message, at most {FRAME_BLOBS_MAX} are allowed")
    pieces.append(struct.pack(f"<{count + 1}I", count, *map(len, value)))
    pieces += value


def _take_blobs(body: bytes, at: int) -> tuple[tuple[bytes, ...], int]:
    (count,) = _U32.unpack_from(body, at)
    at += 4
    if count == 0:
        return (), at
    if count > FRAME_BLOBS_MAX or 4 * count > len(body) - at:
        raise PeerError(f"{count} blobs in one message of {len(body)} bytes")
    sizes = struct.unpack_from(f"<{count}I", body, at)
    at += 4 * count
    blobs = []
    for size in sizes:
        blobs.append(_content(body, at, size))
        at += size
    return tuple(blobs), at


def _take_blocks(body: bytes, at: int) -> tuple[tuple[bytes, ...], int]:
    blocks, at = _take_blobs(body, at)
    following = last_round = 0
    for block in blocks:
        round_, first, count, _ = check_block(block)
        if following and first != following:
            raise PeerError(f"a block begins at index {first} where {following} follows")
        if round_ < last_round:
            raise PeerError(f"a block of round {round_} follows one of round {last_round}")
        following, last_round = first + count, round_
    return blocks, at


def _put_block(value: bytes, pieces: list[bytes]) -> None:
    pieces.append(value)


def _take_block(body: bytes, at: int) -> tuple[bytes, int]:
    block = body[at:]
    check_block(block)
    return block, len(body)


def _put_u64s(value: tuple[int, ...], pieces: list[bytes]) -> None:
    pieces.append(struct.pack(f"<I{len(value)}Q", len(value), *value))


def _take_u64s(body: bytes, at: int) -> tuple[tuple[int, ...], int]:
    (count,) = _U32.unpack_from(body, at)
    return struct.unpack_from(f"<{count}Q", body, at + 4), at + 4 + 8 * count


def _put_addresses(value: tuple[tuple[int, str], ...], pieces: list[bytes]) -> None:
    pieces.append(_U16.pack(len(value)))
    for node, address in value:
        pieces.append(_U32.pack(node))
        _put_str(address, pieces)


def _take_addresses(body: bytes, at: int) -> tuple[tuple[tuple[int, str], ...], int]:
    count, at = _take_member_count(body, at)
    addresses = []
    for _ in range(count):
        (node,) = _U32.unpack_from(body, at)
        address, at = _take_str(body, at + 4)
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


def _take_configuration(body: bytes, at: int) -> tuple[Configuration, int]:
    (version,) = _U64.unpack_from(body, at)
    count, at = _take_member_count(body, at + 8)
    members = []
    for _ in range(count):
        node, incarnation, role = _MEMBER.unpack_from(body, at)
        address, at = _take_str(body, at + _MEMBER.size)
        _check_address(node, address)
        if role not in _ROLES:
            raise PeerError(f"unknown role {role} of member {node}")
        members.append(Member(node, incarnation, address, _ROLES[role]))
    _check_rising([member.id for member in members])
    count, at = _take_member_count(body, at)
    outgoing = struct.unpack_from(f"<{count}I", body, at)
    _check_rising(outgoing)
    return Configuration(version, tuple(members), outgoing), at + 4 * count


_ROLES = {int(role): role for role in MemberRole}


def _take_member_count(body: bytes, at: int) -> tuple[int, int]:
    (count,) = _U16.unpack_from(body, at)
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

    def take_optional(body: bytes, at: int) -> tuple[Any, int]:
        present = _content(body, at, 1)
        if present == b"\0":
            return None, at + 1
        if present != b"\1":
            raise PeerError(f"presence is {present[0]}, not 0 or 1")
        return take(body, at + 1)

    return put_optional, take_optional


_TYPES: dict[str, tuple[Put, Take]] = {
    "bytes": (_put_bytes, _take_bytes),
    "str": (_put_str, _take_str),
    "blobs": (_put_blobs, _take_blobs),
    "blocks": (_put_blobs, _take_blocks),
    "block": (_put_block, _take_block),
    "u64s": (_put_u64s, _take_u64s),
    "addresses": (_put_addresses, _take_addresses),
    "configuration": (_put_configuration, _take_configuration),
}
