"""A replicated state machine without I/O: consensus machine, application, client sessions, reads and snapshots.

`ReplicaCore` is what a node runs on real disks and the simulator in virtual time. Around it: `registry`, `encoded` and
`decoded` between records and bytes, `Formation` and `judge_hello` for who belongs together, `Fetch` for snapshot files,
`ClientSession` for retries that take effect once.
"""

from distkit.replica.boot import RECORDS, decoded, encoded, registry
from distkit.replica.client import ClientSession, retry_delay
from distkit.replica.core import ReplicaCore
from distkit.replica.fetch import Fetch, SnapshotGone
from distkit.replica.formation import Formation, Formed, PeerHello, Waiting, cluster_id, judge_hello
from distkit.replica.records import (
    ApplyError,
    FetchFrom,
    LoadSnapshot,
    Release,
    ReplicaOptions,
    ReplicaOutput,
    ReplicaReply,
    ReplicaStatus,
    SaveSnapshot,
    SnapshotPolicy,
)
from distkit.replica.sessions import SessionLimits, Sessions

__all__ = [
    "RECORDS",
    "ApplyError",
    "ClientSession",
    "Fetch",
    "FetchFrom",
    "Formation",
    "Formed",
    "LoadSnapshot",
    "PeerHello",
    "Release",
    "ReplicaCore",
    "ReplicaOptions",
    "ReplicaOutput",
    "ReplicaReply",
    "ReplicaStatus",
    "SaveSnapshot",
    "SessionLimits",
    "Sessions",
    "SnapshotGone",
    "SnapshotPolicy",
    "Waiting",
    "cluster_id",
    "decoded",
    "encoded",
    "judge_hello",
    "registry",
    "retry_delay",
]
