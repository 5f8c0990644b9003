"""SWIM with Lifeguard as one machine: the doors and the flush. What happens behind them is in the other modules.

    probing    pings, relays, awareness        claims     which of two claims holds, refutation
    suspicion  timeouts and confirmations      gossip     passing on what is new, leaving
    syncing    joining, comparing tables       state      the record they all work on

Sources: Das, Gupta, Motivala, "SWIM" (2002); Dadgar, Phillips, Currey, "Lifeguard" (2018); memberlist for the numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from heapq import heappop
from typing import TYPE_CHECKING, Any

from distkit.core import LocalError
from distkit.membership.swim import claims, gossip, probing, syncing
from distkit.membership.swim.events import Member, Output
from distkit.membership.swim.messages import ALIVE, Ack, Claim, Gossip, Nack, Ping, PingRequest, SyncReply, SyncRequest
from distkit.membership.swim.options import SwimOptions
from distkit.membership.swim.state import Peer, State, check_metadata
from distkit.membership.swim.status import SwimStatus

if TYPE_CHECKING:
    from random import Random

Handler = Callable[[State, float, str, Any], None]


HANDLERS: dict[type, Handler] = {
    Ping: probing.on_ping,
    Ack: probing.on_ack,
    PingRequest: probing.on_ping_request,
    Nack: probing.on_nack,
    Gossip: gossip.on_gossip,
    SyncRequest: syncing.on_request,
    SyncReply: syncing.on_reply,
}


class Swim:
    """One member. Peers are addressed by the text of their address; `now` is float seconds, never going back.

    Duties of the host: what arrived is given to `receive` before `tick` is called; after any number of inputs `flush`,
    and its `sends` leave at once (loss is allowed); `tick` once `deadline` has passed. Early, late and repeated ticks
    are harmless.

    `incarnation` should be higher than in earlier starts (seconds of the wall clock do); otherwise the others tell
    this node, and it goes above. `known`: members that are there for certain, each as its own alive claim.
    """

    def __init__(
        self,
        name: str,
        address: str,
        *,
        random: Random,
        now: float,
        options: SwimOptions | None = None,
        incarnation: int = 1,
        metadata: bytes = b"",
        known: Iterable[Claim] = (),
    ) -> None:
        self.state = s = State(name, address, metadata, incarnation, options or SwimOptions(), random, now)
        for claim in known:
            if claim.status != ALIVE or not claim.address or claim.name in s.peers:
                raise LocalError(f"known members must be alive, have an address and be named once: {claim!r}")
            if claim.name != name:
                s.enter(Peer(claim, now))
        s.tell(s.own_claim)

    # -- network ------------------------------------------------------------------------------------------------------

    def receive(self, now: float, source: str, message: Any) -> None:
        """A well-typed message (`messages.check_message`) came from an address. Stale ones change nothing."""
        s = self.state
        if not now >= s.now:
            raise _time_went_back(now, s.now)
        s.now = now
        handler = HANDLERS.get(type(message))
        if handler is None:
            raise LocalError(f"SWIM takes no {type(message).__name__}")
        if not s.left:
            handler(s, now, source, message)

    # -- clock --------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Do what is due."""
        s = self.state
        if not now >= s.now:
            raise _time_went_back(now, s.now)
        s.now = now
        if now >= s.slow_deadline:
            _slow_tick(s, now)
        if now >= s.probe_deadline:
            probing.tick(s, now)
        if now >= s.gossip_deadline:
            gossip.tick(s, now)

    def deadline(self) -> float:
        """When `tick` may have something to do; infinity once this node has left."""
        s = self.state
        deadline = s.probe_deadline if s.probe_deadline < s.gossip_deadline else s.gossip_deadline
        return deadline if deadline < s.slow_deadline else s.slow_deadline

    # -- application --------------------------------------------------------------------------------------------------

    def join(self, now: float, addresses: Iterable[str]) -> None:
        """Become a member of the group that these addresses belong to; they are asked in turn until one answers.

        They are remembered (the last 64), so that groups that were cut apart find each other again.
        """
        wanted = tuple(addresses)
        if not all(isinstance(address, str) and address for address in wanted):
            raise LocalError(f"addresses must be texts that are not empty: {wanted!r}")
        syncing.join(self._staying_at(now), now, wanted)

    def leave(self, now: float) -> None:
        """Say good-bye to all. `Left` with the own name follows when that is done. Repeats are harmless."""
        gossip.leave(self._at(now), now)

    def update(self, now: float, metadata: bytes) -> None:
        """Tell others something new about this member. LocalError: longer than 512 bytes, or it is leaving."""
        s = self._staying_at(now)
        if check_metadata(metadata) != s.metadata:
            s.metadata = metadata
            claims.refute(s, s.incarnation)

    def members(self) -> tuple[Member, ...]:
        """All members that are known, this one included, by name; also those that died or left a short while ago."""
        s = self.state
        return tuple(s.view() if name == s.name else s.peers[name].view() for name in s.names)

    def member(self, name: str) -> Member | None:
        """One member, None: unknown."""
        s = self.state
        if name == s.name:
            return s.view()
        peer = s.peers.get(name)
        return None if peer is None else peer.view()

    # -- out ----------------------------------------------------------------------------------------------------------

    def flush(self, now: float) -> Output | None:
        """Everything caused since the last flush."""
        s = self.state
        if not (s.sends or s.events):
            return None
        output = Output(tuple(s.sends), tuple(s.events))
        s.sends.clear()
        s.events.clear()
        return output

    def status(self) -> SwimStatus:
        """Where this node stands."""
        return SwimStatus.of(self.state)

    def digest(self) -> bytes:
        """Hash of what this node believes, and of what it is doing."""
        s = self.state
        facts = (
            (s.name, s.address, s.incarnation, s.metadata, s.awareness, s.leaving, s.left),
            [(peer.name, peer.incarnation, peer.status, peer.claim) for peer in map(s.peers.get, s.names) if peer],
            (s.sequence, s.probe and s.probe.name, s.probed, [peer.name for peer in s.ring], sorted(s.relays)),
            (s.contacts, s.sync_address, s.sync_after, len(s.waiting)),
        )
        return hashlib.sha256(repr(facts).encode()).digest()[:16]

    # -- inside -------------------------------------------------------------------------------------------------------

    def _at(self, now: float) -> State:
        s = self.state
        if not now >= s.now:
            raise _time_went_back(now, s.now)
        s.now = now
        return s

    def _staying_at(self, now: float) -> State:
        if self.state.leaving:
            raise LocalError("this node is leaving: make a new one to come back")
        return self._at(now)


def _time_went_back(now: float, last: float) -> LocalError:
    return LocalError(f"time went back, or is not a number: {now!r} after {last!r}")


def _slow_tick(s: State, now: float) -> None:
    """Relays, suspicions, tables and graves: what is seldom due."""
    probing.end_relays(s, now)
    while s.suspicions and s.suspicions[0][0] <= now:
        deadline, _, suspicion = heappop(s.suspicions)
        if suspicion.deadline == deadline:
            claims.declare_dead(s, now, suspicion.peer)
    syncing.tick(s, now)
    while s.graves and s.graves[0][0] <= now:
        forget_at, peer = s.graves.popleft()
        if s.is_buried(forget_at, peer):
            s.forget(peer)
    s.slow_deadline = min(
        next(iter(s.relays.values())).deadline if s.relays else s.sync_due,
        s.suspicions[0][0] if s.suspicions else s.sync_due,
        s.graves[0][0] if s.graves else s.sync_due,
        s.join_deadline,
        s.sync_deadline,
        s.sync_due,
    )
