"""The systems distkit is compared with, run on this machine with the same load as distkit's own benchmark.

`measure(peer, clients, seconds)` does everything for one peer and returns its figures; `open_cluster(peer)` gives the
cluster itself, for a program that interleaves short loads of several systems in one run.
"""

from .machine import Failed
from .measuring import KV_PEERS, OURS, PEERS, load_records, measure, median_record, open_cluster, record_of
from .programs import PeerMissing

__all__ = [
    "Failed",
    "KV_PEERS",
    "OURS",
    "PEERS",
    "PeerMissing",
    "load_records",
    "measure",
    "median_record",
    "open_cluster",
    "record_of",
]
