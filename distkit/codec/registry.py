"""The registry: which kind of frame or log record carries which record type."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from distkit._fast.wire import join_pieces, seal_frame
from distkit.codec.layout import Layout, Row
from distkit.core import LocalError, PeerError


class Registry:
    """Encodes and decodes the records of the tables it was built from.

    `tables` are lists of (kind, record type, layout); `parts` lists (record type, layout) of records that stand inside
    others. Layout types are described in `distkit.codec.layout`. A registry is immutable and may be shared.
    """

    __slots__ = ("_by_kind", "_by_type")

    def __init__(self, *tables: Iterable[Row], parts: Iterable[tuple[type[Any], str]] = ()) -> None:
        layouts: dict[str, Layout] = {}
        for record, line in parts:
            layouts[record.__name__] = Layout(record, line, layouts)
        self._by_kind: dict[int, Layout] = {}
        self._by_type: dict[type[Any], tuple[int, Layout]] = {}
        for kind, record, line in (row for table in tables for row in table):
            if not 0 <= kind < 1 << 16 or kind in self._by_kind or record in self._by_type:
                raise LocalError(f"kind {kind} ({record.__name__}) is out of range or already taken")
            layout = Layout(record, line, layouts)
            self._by_kind[kind] = layout
            self._by_type[record] = (kind, layout)

    @property
    def kinds(self) -> frozenset[int]:
        """All kinds that can be decoded."""
        return frozenset(self._by_kind)

    def __contains__(self, item: object) -> bool:
        """Whether a kind (int) or a record type is known."""
        return item in self._by_kind or item in self._by_type

    def encode_body(self, record: Any) -> tuple[int, list[bytes]]:
        """The kind of `record` and its bytes, as buffers to be sent or written one after the other.

        Contents of 4 KiB and more are passed by reference. LocalError for an unknown type or a value that does not fit.
        """
        kind, pieces = self._pieces(record)
        return kind, join_pieces(pieces)

    def decode_body(self, kind: int, data: bytes, start: int = 0, end: int | None = None) -> Any:
        """The record whose bytes are `data` from `start` to `end`. PeerError says what is wrong with them."""
        layout = self._by_kind.get(kind)
        if layout is None:
            raise PeerError(f"unknown kind {kind}")
        if end is None:
            end = len(data)
        try:
            record, at = layout.take(data, start, end)
        except struct.error as error:
            raise PeerError(f"{layout.record.__name__} ends too early: {error}") from None
        except UnicodeDecodeError as error:
            raise PeerError(f"{layout.record.__name__} holds text that is not UTF-8: {error}") from None
        if at != end:
            raise PeerError(f"{end - at} bytes follow the end of {layout.record.__name__}")
        return record

    def encode_frame(self, message: Any, group: int = 0) -> list[bytes]:
        """A whole frame, as buffers to be sent one after the other."""
        kind, pieces = self._pieces(message)
        return seal_frame(kind, group, pieces)

    def _pieces(self, record: Any) -> tuple[int, list[bytes]]:
        try:
            kind, layout = self._by_type[type(record)]
        except KeyError:
            raise LocalError(f"{type(record).__name__} is in no table of this registry") from None
        pieces: list[bytes] = []
        try:
            layout.put(record, pieces)
        except (struct.error, TypeError, UnicodeEncodeError) as error:
            raise LocalError(f"{type(record).__name__} cannot be encoded: {error}") from None
        return kind, pieces
