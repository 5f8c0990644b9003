"""Framed, authenticated streams between the nodes of a cluster, on trio.

How a node embeds it: build a registry that contains `MESSAGES`, implement `Host`, then

    transport = Transport(registry, hello, credentials, host, rng)
    transport.bind("10.0.0.1:7101")
    nursery.start_soon(transport.serve, {1: "10.0.0.1:7101", 2: "10.0.0.2:7101", 3: "10.0.0.3:7101"})

and call `send` and `reply` for messages, then `flush`. Links give no guarantee beyond order: a message may be lost
with its connection, and a full queue drops it. Everything that waits is bounded by `Limits`.
"""

from distkit.transport.addresses import is_loopback, join_address, split_address
from distkit.transport.bulk import Bulk, BulkStream
from distkit.transport.credentials import Credentials, TlsFiles, check_addresses
from distkit.transport.dialling import HandshakeRefused
from distkit.transport.endpoint import Host, Network, PeerStatus, Transport, TransportStatus
from distkit.transport.hello import Handshake, Hello, Purpose, Refusal, RefusalCode
from distkit.transport.limits import Limits
from distkit.transport.link import MESSAGES, Link, Ping
from distkit.transport.wire import Disconnected

__all__ = [
    "Bulk",
    "BulkStream",
    "Credentials",
    "Disconnected",
    "Handshake",
    "HandshakeRefused",
    "Hello",
    "Host",
    "Limits",
    "Link",
    "MESSAGES",
    "Network",
    "PeerStatus",
    "Ping",
    "Purpose",
    "Refusal",
    "RefusalCode",
    "TlsFiles",
    "Transport",
    "TransportStatus",
    "check_addresses",
    "is_loopback",
    "join_address",
    "split_address",
]
