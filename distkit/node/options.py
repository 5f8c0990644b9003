"""Everything about a node that may be set, in one record."""

from __future__ import annotations

from distkit.core import record
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
