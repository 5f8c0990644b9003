"""Bounds and times of the transport."""

from __future__ import annotations

from distkit.core import LocalError, record
from distkit.core.limits import FRAME_BYTES_MAX

#: Body of a frame before the other end is authenticated: two configurations of 64 members with long addresses.
HANDSHAKE_FRAME_BYTES_MAX = 64 << 10


@record
class Limits:
    """Every queue, count and wait of a transport. Durations are seconds.

    `outbox_bytes_max` bounds what waits for one peer; more is dropped and counted. Connections beyond
    `connections_max` or `connections_per_ip_max` are closed at once; of those that have not finished their handshake
    the oldest gives way. A peer from which nothing useful came, or that took nothing, for `silence_timeout` is lost;
    `keepalive` is how long a link is silent before it sends a ping, so it should be a third of that or less.
    """

    outbox_bytes_max: int = 64 << 20
    frame_bytes_max: int = FRAME_BYTES_MAX
    connections_max: int = 1024
    connections_per_ip_max: int = 256
    handshakes_max: int = 64
    handshake_timeout: float = 5.0
    connect_timeout: float = 2.0
    keepalive: float = 1.0
    silence_timeout: float = 5.0
    bulk_timeout: float = 30.0
    backoff_min: float = 0.02
    backoff_max: float = 1.0

    def __post_init__(self) -> None:
        if not HANDSHAKE_FRAME_BYTES_MAX <= self.frame_bytes_max <= FRAME_BYTES_MAX < self.outbox_bytes_max:
            raise LocalError("limits: need handshake frame <= frame_bytes_max <= FRAME_BYTES_MAX < outbox_bytes_max")
        if not 0 < self.keepalive < self.silence_timeout or not 0 < self.backoff_min <= self.backoff_max:
            raise LocalError("limits: need keepalive < silence_timeout and backoff_min <= backoff_max, all above 0")
        if min(self.connections_max, self.connections_per_ip_max, self.handshakes_max) < 1:
            raise LocalError("limits: at least one connection must be allowed")
        if min(self.handshake_timeout, self.connect_timeout, self.bulk_timeout) <= 0:
            raise LocalError("limits: timeouts must be above 0")
