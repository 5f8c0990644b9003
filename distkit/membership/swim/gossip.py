"""Gossip: what is new goes to a few members at a time, and on the back of all other messages."""

from __future__ import annotations

import math

from distkit.membership.swim import claims
from distkit.membership.swim.events import Left
from distkit.membership.swim.messages import GOSSIP_BYTES, LEFT, Claim, Gossip
from distkit.membership.swim.state import State


def tick(s: State, now: float) -> None:
    """Tell some members, the dead ones included: they may be alive, and object."""
    options = s.options
    s.gossiped = now
    for address in targets(s, options.gossip_nodes):
        news = s.piggyback(s.room - GOSSIP_BYTES)
        if not news:
            break
        s.sends.append((address, Gossip(news)))
    nobody = s.live == 1 and not s.graves
    s.gossip_deadline = math.inf if nobody or not s.waiting else now + options.gossip_interval
    if s.leaving and (nobody or s.name not in s.waiting):
        end_leaving(s)


def on_gossip(s: State, now: float, source: str, message: Gossip) -> None:
    """News, and nothing else."""
    claims.hear(s, now, message.claims)


def targets(s: State, count: int) -> list[str]:
    """Addresses of so many different members, or fewer."""
    ring = s.ring
    if len(ring) <= 4 * count:
        pool = [peer.claim.address for peer in ring if peer.status != LEFT]
        for place in range(min(count, len(pool))):
            other = place + int(s.random.random() * (len(pool) - place))
            pool[place], pool[other] = pool[other], pool[place]
        return pool[:count]
    found: list[str] = []  # in a large group hardly anyone is drawn twice
    for _ in range(3 * count):
        if len(found) == count:
            break
        peer = ring[int(s.random.random() * len(ring))]
        address = peer.claim.address
        if peer.status != LEFT and address not in found:
            found.append(address)
    return found


def leave(s: State, now: float) -> None:
    """Say good-bye."""
    if s.leaving:
        return
    s.leaving = True
    s.probe = None
    s.probe_deadline = s.join_deadline = s.sync_due = math.inf
    s.tell(Claim(LEFT, s.name, s.incarnation, s.name, "", b""))


def end_leaving(s: State) -> None:
    """Everyone who could be told was told."""
    s.left = True
    s.gossip_deadline = s.slow_deadline = math.inf
    s.events.append(Left(s.view()))
