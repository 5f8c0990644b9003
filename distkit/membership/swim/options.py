"""Options of a SWIM node. The defaults are those of memberlist for a local network."""

from __future__ import annotations

import math
from dataclasses import replace

from distkit.core import LocalError, record


@record
class SwimOptions:
    """Times are seconds. Options with the same meaning should be the same on all members.

    Probing: one member a `probe_interval`; without an answer within `probe_timeout`, `indirect_checks` others are asked
    to probe it. Such a relay says after `relay_timeout` that it got no answer either (80 % of the probe timeout as in
    the paper, so that this arrives before the interval is over).

    Suspicion lasts `suspicion_mult` x log10 of the group's size probe intervals, and `suspicion_max_mult` times as long
    while nobody confirms it.

    Gossip: what is new goes to `gossip_nodes` members a `gossip_interval`, `retransmit_mult` x log10 of the size times
    in all. Members that died hear it too, and are remembered, for `gossip_to_dead`. Every `sync_interval`, longer in
    groups over 32, the tables of two members are compared.

    Lifeguard: a node that is slow itself slows down, at most `awareness_max` times; `nacks` and `buddy` are the other
    parts, and `suspicion_max_mult` above 1. `plain` turns all of it off.

    Bounds: `members_max` members, dead ones included; `relays_max` probes for others at a time; `packet_bytes` a
    datagram, encryption included.
    """

    probe_interval: float = 1.0
    probe_timeout: float = 0.5
    indirect_checks: int = 3
    relay_timeout: float = 0.4
    suspicion_mult: int = 4
    suspicion_max_mult: int = 6
    gossip_interval: float = 0.2
    gossip_nodes: int = 3
    gossip_to_dead: float = 30.0
    retransmit_mult: int = 4
    sync_interval: float = 30.0
    join_interval: float = 1.0
    awareness_max: int = 8
    nacks: bool = True
    buddy: bool = True
    members_max: int = 4096
    relays_max: int = 1024
    packet_bytes: int = 1400

    def __post_init__(self) -> None:
        for name in _TIMES:
            if not 0 < getattr(self, name) < math.inf:
                raise LocalError(f"{name} must be a finite number of seconds above 0, not {getattr(self, name)!r}")
        for name, (low, high) in _COUNTS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or not low <= value <= high:
                raise LocalError(f"{name} must be {low} to {high}, not {value!r}")
        if not self.relay_timeout <= self.probe_timeout < self.probe_interval:
            raise LocalError("need relay_timeout <= probe_timeout < probe_interval")


def plain(options: SwimOptions) -> SwimOptions:
    """The same options with every part of Lifeguard turned off: SWIM with suspicion, as published in 2002."""
    return replace(options, awareness_max=1, suspicion_max_mult=1, nacks=False, buddy=False)


_TIMES = (
    "probe_interval",
    "probe_timeout",
    "relay_timeout",
    "gossip_interval",
    "gossip_to_dead",
    "sync_interval",
    "join_interval",
)
_COUNTS = {
    "indirect_checks": (0, 64),
    "suspicion_mult": (1, 64),
    "suspicion_max_mult": (1, 64),
    "gossip_nodes": (1, 64),
    "retransmit_mult": (1, 64),
    "awareness_max": (1, 64),
    "members_max": (2, 1 << 16),
    "relays_max": (1, 1 << 16),
    "packet_bytes": (1232, 65507),
}
