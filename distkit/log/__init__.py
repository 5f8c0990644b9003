"""The log on a disk: write-ahead log, snapshot files, the identity of a directory. Synchronous, over `core.Files`."""

from distkit.log.identity import Identity, StoredIdentity, open_identity, read_identity
from distkit.log.recovery import DamageError, Recovered, Scan, Segment, recover, segment_header
from distkit.log.segment import (
    BLOCK,
    STATE_KIND_MAX,
    STATE_KIND_MIN,
    TRUNCATE,
    Record,
    SegmentHeader,
    WalIdentity,
    read_header,
    segment_ids,
    segment_name,
    truncate_content,
    truncate_index,
)
from distkit.log.snapshot import (
    SnapshotInfo,
    SnapshotReader,
    SnapshotReceiver,
    SnapshotWriter,
    list_snapshots,
    remove_snapshots,
    snapshot_name,
)
from distkit.log.wal import Wal, WalOptions, WalStats

__all__ = [
    "BLOCK",
    "DamageError",
    "Identity",
    "Record",
    "Recovered",
    "STATE_KIND_MAX",
    "STATE_KIND_MIN",
    "Scan",
    "Segment",
    "SegmentHeader",
    "SnapshotInfo",
    "SnapshotReader",
    "SnapshotReceiver",
    "SnapshotWriter",
    "StoredIdentity",
    "TRUNCATE",
    "Wal",
    "WalIdentity",
    "WalOptions",
    "WalStats",
    "list_snapshots",
    "open_identity",
    "read_header",
    "read_identity",
    "recover",
    "remove_snapshots",
    "segment_header",
    "segment_ids",
    "segment_name",
    "snapshot_name",
    "truncate_content",
    "truncate_index",
]
