"""The identity of a data directory: whose it is, which incarnation, and that only one process uses it.

A directory that was empty becomes another incarnation of its node. Votes and acknowledgements count by (id,
incarnation), so a node that lost its disk cannot break a promise that it no longer remembers.
Bytes: docs/formats.md section 4.
"""

from __future__ import annotations

import struct
from typing import Final

from distkit._fast.codec import crc32c
from distkit.core import Files, IdentityError, LocalError, record
from distkit.log.recovery import failing
from distkit.log.segment import segment_ids

_FILE: Final = "identity"
_LOCK: Final = "lock"
_TEMPORARY: Final = "identity.tmp"
_FORMAT: Final = 1
_MAGIC: Final = b"DKID"
# crc, magic, format, reserved, cluster, node, incarnation, boot
_LAYOUT = struct.Struct("<I4sIIQQQQ")


@record
class StoredIdentity:
    """The content of the file `identity`. Cluster 0: not part of a cluster yet."""

    cluster: int
    node: int
    incarnation: int
    boot: int


class Identity:
    """The identity of a directory that this process holds the lock of.

    `boot` rises with each start. `cluster` is 0 until `formed` was called.
    """

    def __init__(self, files: Files, lock: int, cluster: int, node: int, incarnation: int, boot: int) -> None:
        """Use `open_identity`."""
        self._files = files
        self._lock = lock
        self.cluster = cluster
        self.node = node
        self.incarnation = incarnation
        self.boot = boot

    def formed(self, cluster: int) -> None:
        """Note, durably, that this node belongs to a cluster and has a log. Call it when the log was created."""
        if not cluster or self.cluster not in (0, cluster):
            raise LocalError(f"this directory belongs to cluster {self.cluster:016x}, it cannot join {cluster:016x}")
        if self.cluster != cluster:
            self.cluster = cluster
            self.store()

    def close(self) -> None:
        """Give the directory to other processes."""
        with failing("release the lock", _LOCK):
            self._files.close(self._lock)

    def store(self) -> None:
        """Replace the file by the present values, durably and at once: a crash leaves the old one or the new one."""
        fields = _LAYOUT.pack(0, _MAGIC, _FORMAT, 0, self.cluster, self.node, self.incarnation, self.boot)
        files = self._files
        with failing("write the identity of the directory", _FILE):
            if _TEMPORARY in files.listdir():
                files.unlink(_TEMPORARY)
            handle = files.open(_TEMPORARY, create=True)
            try:
                files.pwritev(handle, [crc32c(fields[4:]).to_bytes(4, "little") + fields[4:]], 0)
                files.fdatasync(handle)
            finally:
                files.close(handle)
            files.rename(_TEMPORARY, _FILE)
            files.fsync_dir()


def open_identity(files: Files, node: int, incarnation: int) -> Identity:
    """Lock a directory for `node` and count this start.

    `incarnation` is a fresh random number from 1 to 2^64 - 1; it is used only if the directory is empty.
    IdentityError: another process uses the directory, it is another node's, another release wrote it, or a part of
    it is gone. Nothing was changed then.
    """
    if not 0 < incarnation < 1 << 64:
        raise LocalError("an incarnation is a number from 1 to 2^64 - 1")
    with failing("lock the directory", _LOCK):
        try:
            lock = files.lock(_LOCK)
        except BlockingIOError:
            raise IdentityError(
                "another process uses this data directory: stop it first, or give each node a directory of its own"
            ) from None
    try:
        identity = _load(files, lock, node) or Identity(files, lock, 0, node, incarnation, 0)
        identity.boot += 1
        identity.store()
    except BaseException:
        files.close(lock)
        raise
    return identity


def read_identity(files: Files) -> StoredIdentity | None:
    """What the directory says about itself, without its lock; None if there is no identity. Changes nothing.

    IdentityError if it is damaged or another release wrote it.
    """
    with failing("read the identity of the directory", _FILE):
        if _FILE not in files.listdir():
            return None
        handle = files.open(_FILE)
        try:
            data = files.pread(handle, _LAYOUT.size, 0)
        finally:
            files.close(handle)
    if len(data) != _LAYOUT.size:
        raise IdentityError(f"the file '{_FILE}' is {len(data)} bytes long, {_LAYOUT.size} are needed: {_REPLACE}")
    crc, magic, version, _, cluster, node, incarnation, boot = _LAYOUT.unpack(data)
    if crc != crc32c(data[4:]) or magic != _MAGIC:
        raise IdentityError(f"the file '{_FILE}' is damaged: {_REPLACE}")
    if version != _FORMAT:
        raise IdentityError(
            f"the file '{_FILE}' has format {version}, this release reads format {_FORMAT}: the directory was used by "
            f"another release of distkit; run that one. Nothing was changed"
        )
    return StoredIdentity(cluster, node, incarnation, boot)


def _load(files: Files, lock: int, node: int) -> Identity | None:
    """What the directory says; None if it is empty."""
    stored = read_identity(files)
    with failing("read the identity of the directory", _FILE):
        has_log = bool(segment_ids(files.listdir()))
    if stored is None:
        if has_log:
            raise IdentityError(
                f"this data directory holds a log, but its file '{_FILE}' is gone: bring the file back from a "
                f"copy of this directory, or replace this member of the cluster with an empty directory"
            )
        return None
    if stored.node != node:
        raise IdentityError(
            f"this data directory belongs to node {stored.node}, not to node {node}: use the node's own"
        )
    if stored.cluster and not has_log:
        raise IdentityError(
            f"node {node} is a member of cluster {stored.cluster:016x}, but the log is gone from its data directory. "
            f"It may have promised what it no longer knows: replace this member of the cluster with an empty directory"
        )
    return Identity(files, lock, stored.cluster, stored.node, stored.incarnation, stored.boot)


_REPLACE = "bring it back from a copy of this directory, or replace this member of the cluster with an empty directory"
