"""A running node: the replica, its disk and its peers in a trio program. `open_replica` is the door."""

from distkit.node.clock import SystemClock
from distkit.node.options import NodeOptions
from distkit.node.outcomes import error_of
from distkit.node.replica import NodeStatus, Replica, open_replica
from distkit.node.session import Session

__all__ = ["NodeOptions", "NodeStatus", "Replica", "Session", "SystemClock", "error_of", "open_replica"]
