"""Raft: one machine without I/O that keeps a replicated log (Ongaro and Ousterhout), with PreVote, CheckQuorum,
leadership transfer, read index, asynchronous durability and snapshots. Fixed membership so far.

Make a node with `recover`, first from `formation_records`; drive it as `distkit.core.machine` says.
"""

from distkit.raft.durable import formation_records
from distkit.raft.machine import Raft, recover
from distkit.raft.messages import MESSAGES, PARTS, RECORDS, Snapshot
from distkit.raft.options import RaftOptions
from distkit.raft.status import PeerStatus, RaftStatus

__all__ = [
    "MESSAGES",
    "PARTS",
    "RECORDS",
    "PeerStatus",
    "Raft",
    "RaftOptions",
    "RaftStatus",
    "Snapshot",
    "formation_records",
    "recover",
]
