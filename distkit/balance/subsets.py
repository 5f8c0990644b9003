"""Subsets: each of many clients talks to a few of many servers, so that connections do not multiply.

`random_subset` (gRFC A68) needs no coordination; the load of servers then spreads binomially. `aperture` (Finagle's
deterministic aperture) needs the number of clients and a place for each; in return every server gets exactly the same
share. Both change little when a server comes or goes.
"""

from __future__ import annotations

from collections.abc import Sequence

from distkit._fast.hashing import xxh64
from distkit.balance.bounds import whole
from distkit.core import record

#: Below so many servers a client has too few to choose from: an aperture is never smaller.
APERTURE_MIN = 12
_SERVERS_MAX = 1_000_000


def random_subset(addresses: Sequence[str], size: int, seed: int) -> tuple[int, ...]:
    """Positions, rising, of the `size` addresses with the smallest xxh64(address, seed); all if there are no more.

    `seed` (64 bits) is drawn once by each client and kept. Empty addresses are left out, equal hashes go by position.
    """
    whole("size", size, 1)
    whole("seed", seed, 0, (1 << 64) - 1)
    usable = [position for position, address in enumerate(addresses) if address]
    if len(usable) > size:
        usable = sorted(usable, key=lambda position: xxh64(addresses[position].encode(), seed))[:size]
    return tuple(sorted(usable))


@record
class Overlap:
    """A server in an aperture, and how much of it: `part` of `whole` (the number of clients)."""

    server: int
    part: int
    whole: int

    @property
    def weight(self) -> float:
        """The server's weight in this client's balancer, above 0 and at most 1."""
        return self.part / self.whole


def aperture(client: int, clients: int, servers: int, size: int = APERTURE_MIN) -> tuple[Overlap, ...]:
    """The servers of the `client`-th of `clients` (from 0), in the order in which they lie on its arc.

    Clients and servers divide a ring evenly. The arc of a client begins at client/clients and is N/clients long,
    N = ceil(size/servers * clients), at most the whole ring: it covers at least `size` servers' worth. A server's
    weight is the part of its slice that the arc covers. Over all clients each server is covered exactly N times, or
    once by each if arcs are the whole ring: all integers here, so the shares are exactly equal. `size` is at least 12.
    """
    whole("clients", clients, 1, _SERVERS_MAX)
    whole("client", client, 0, clients - 1)
    whole("servers", servers, 0, _SERVERS_MAX)
    whole("size", size, 1, _SERVERS_MAX)
    if not servers:
        return ()
    # In units of 1 / (clients * servers) of the ring: a server's slice is `clients` long, a client's `servers`.
    clients_wide = min(clients, -(-max(size, APERTURE_MIN) * clients // servers))
    begin, end = client * servers, (client + clients_wide) * servers
    ring = clients * servers
    if end - begin >= ring:
        return tuple(Overlap(server, clients, clients) for server in range(servers))
    found: list[Overlap] = []
    at = begin
    while at < end:
        server, into = divmod(at % ring, clients)
        part = min(clients - into, end - at)
        found.append(Overlap(server, part, clients))
        at += part
    if len(found) > 1 and found[-1].server == found[0].server:  # the arc came round to the slice that it began in
        found[0] = Overlap(found[0].server, found[0].part + found.pop().part, clients)
    return tuple(found)
