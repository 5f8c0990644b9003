"""Everything about a node that may be set, in one record."""

from __future__ import annotations

from distkit.core import LocalError, record
from distkit.core.limits import BLOCK_BYTES_MAX, ENTRY_BYTES_MAX
from distkit.log import WalOptions
from distkit.raft import RaftOptions
from distkit.replica import ReplicaOptions
from distkit.transport import Limits

_RAFT = RaftOptions()
_REPLICA = ReplicaOptions()
_TRANSPORT = Limits()
_LOG = WalOptions()


@record
class NodeOptions:
    """Options of each part; the defaults fit a LAN. Timeouts of `raft` should be the same on all members."""

    raft: RaftOptions = _RAFT
    replica: ReplicaOptions = _REPLICA
    transport: Limits = _TRANSPORT
    log: WalOptions = _LOG

    def check(self) -> None:
        """Raise LocalError unless the parts fit together."""
        log_bytes, snapshot_bytes = self.raft.log_bytes_max, self.replica.snapshot.log_bytes
        if log_bytes < 2 * BLOCK_BYTES_MAX:
            raise LocalError(
                f"raft.log_bytes_max ({log_bytes}) must be at least {2 * BLOCK_BYTES_MAX}: a snapshot makes room once "
                f"half is taken, and the largest command, of {ENTRY_BYTES_MAX} bytes, must fit into the other half"
            )
        if log_bytes < 2 * snapshot_bytes:
            raise LocalError(
                f"raft.log_bytes_max ({log_bytes}) must be at least twice replica.snapshot.log_bytes "
                f"({snapshot_bytes}): else the log is full before a snapshot is taken, and every proposal is Busy"
            )
