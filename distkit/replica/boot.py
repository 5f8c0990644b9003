"""Between typed records and bytes: what a node and the simulator do alike when they send, write and start.

A start goes: records of the log -> `decoded` -> `raft.recover` -> `ReplicaCore`. A directory that was never formed
gets `encoded(raft.formation_records(configuration))` as its first records.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from distkit.codec import Registry, Row
from distkit.core import PeerError, StorageError
from distkit.raft import messages as raft
from distkit.replica import messages

#: Durable records. They are apart from the messages, so that no peer can send one.
RECORDS = Registry(raft.RECORDS, parts=raft.PARTS)


def registry(*tables: Iterable[Row]) -> Registry:
    """Every message of a replica, and those of further `tables` (the transport's). One for the whole process."""
    return Registry(raft.MESSAGES, messages.MESSAGES, *tables, parts=raft.PARTS)


def encoded(records: Iterable[Any], group: int = 0, table: Registry = RECORDS) -> list[tuple[int, int, bytes]]:
    """Typed records of a table as (kind, group, content) for the log. A block is passed by reference."""
    contents = []
    for record in records:
        kind, buffers = table.encode_body(record)
        contents.append((kind, group, buffers[0] if len(buffers) == 1 else b"".join(buffers)))
    return contents


def decoded(records: Iterable[tuple[int, int, bytes]], group: int = 0, table: Registry = RECORDS) -> list[Any]:
    """The typed records of one group, in order, of what a log recovered.

    StorageError for a record that cannot be read: it passed its checksum, so another version wrote it.
    """
    try:
        return [table.decode_body(kind, content) for kind, other, content in records if other == group]
    except PeerError as error:
        raise StorageError(f"the log holds a record that this version cannot read: {error}") from error
