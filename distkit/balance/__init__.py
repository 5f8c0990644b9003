"""Load balancing without I/O: endpoints, policies, health, outlier ejection and limits.

Time is an argument and randomness is passed in, so that the same calls give the same picks, with compiled and with
pure kernels.
"""

from distkit.balance.cluster import Cluster, ClusterOptions, Diff
from distkit.balance.endpoints import (
    DROPPED,
    NO_ENDPOINT,
    SATURATED,
    Context,
    Endpoint,
    Gate,
    Outcome,
)

__all__ = [
    "DROPPED",
    "NO_ENDPOINT",
    "SATURATED",
    "Cluster",
    "ClusterOptions",
    "Context",
    "Diff",
    "Endpoint",
    "Gate",
    "Outcome",
]
