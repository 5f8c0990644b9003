"""The state record that all functions of SWIM work on."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from distkit.core import LocalError
from distkit.core.limits import ADDRESS_BYTES_MAX
from distkit.membership.swim.broadcasts import Broadcasts
from distkit.membership.swim.events import Event, Member
from distkit.membership.swim.formulas import retransmit_limit, sync_factor
from distkit.membership.swim.messages import (
    ALIVE,
    INCARNATION_MAX,
    LEFT,
    METADATA_BYTES_MAX,
    NAME_BYTES_MAX,
    SUSPECT,
    Claim,
    Status,
    text_bytes,
)
from distkit.membership.swim.options import SwimOptions

if TYPE_CHECKING:
    from random import Random

#: Bytes of a datagram around a message: header, nonce, tag, kind (see `distkit.membership.packets`).
PACKET_OVERHEAD = 34
#: Addresses that are remembered from `join`.
CONTACTS_MAX = 64


class Suspicion:
    """A suspicion that runs: who suspects, and until when."""

    __slots__ = ("accusers", "deadline", "longest", "peer", "shortest", "start", "wanted")

    def __init__(self, peer: Peer, start: float, accuser: str, wanted: int, shortest: float, longest: float) -> None:
        self.peer = peer
        self.start = start
        self.accusers = {accuser: None}  #: the first one and those that confirmed, at most `wanted`
        self.wanted = wanted
        self.shortest = shortest
        self.longest = longest
        self.deadline = math.inf


class Peer:
    """What is known of another member. `claim` is the last one that said it was alive, with address and metadata."""

    __slots__ = ("claim", "conflict", "in_ring", "incarnation", "name", "since", "status", "suspicion")

    def __init__(self, claim: Claim, now: float) -> None:
        self.name = claim.name
        self.claim = claim
        self.incarnation = claim.incarnation
        self.status = ALIVE
        self.since = now
        self.suspicion: Suspicion | None = None
        self.in_ring = False
        self.conflict = ""  #: address of the last claim that conflicted with this one

    def view(self) -> Member:
        """For the application."""
        claim = self.claim
        return Member(self.name, claim.address, self.incarnation, Status(self.status), claim.metadata, self.since)


class Relay:
    """A probe for somebody else."""

    __slots__ = ("deadline", "nack", "origin", "sequence")

    def __init__(self, origin: str, sequence: int, nack: bool, deadline: float) -> None:
        self.origin = origin
        self.sequence = sequence
        self.nack = nack
        self.deadline = deadline


class State:
    """All that a node knows. Only the functions of this package change it."""

    __slots__ = (
        "address",
        "awareness",
        "broadcasts",
        "contacts",
        "counters",
        "digest",
        "events",
        "gossip_deadline",
        "gossiped",
        "graves",
        "incarnation",
        "join_deadline",
        "leaving",
        "left",
        "live",
        "metadata",
        "name",
        "names",
        "next_contact",
        "now",
        "options",
        "own_fingerprint",
        "peers",
        "probe",
        "probe_deadline",
        "probe_end",
        "probe_nackers",
        "probe_nacks_wanted",
        "probe_sequence",
        "probed",
        "random",
        "relays",
        "retransmit_limit",
        "ring",
        "room",
        "sends",
        "sequence",
        "since",
        "slow_deadline",
        "suspicions",
        "suspicions_made",
        "sync_address",
        "sync_after",
        "sync_deadline",
        "sync_due",
        "sync_tries",
        "waiting",
    )

    def __init__(
        self,
        name: str,
        address: str,
        metadata: bytes,
        incarnation: int,
        options: SwimOptions,
        random: Random,
        now: float,
    ) -> None:
        if not 0 < text_bytes(name) <= NAME_BYTES_MAX:
            raise LocalError(f"the name of a member has 1 to {NAME_BYTES_MAX} bytes: {name!r}")
        if not 0 < text_bytes(address) <= ADDRESS_BYTES_MAX:
            raise LocalError(f"the address of a member has 1 to {ADDRESS_BYTES_MAX} bytes: {address!r}")
        if not 0 < incarnation < INCARNATION_MAX:
            raise LocalError(f"incarnation must be 1 to {INCARNATION_MAX - 1}, not {incarnation!r}")
        if not 0.0 <= now < math.inf:
            raise LocalError(f"now must be a finite number of seconds that is not negative, not {now!r}")
        self.name = name
        self.address = address
        self.metadata = check_metadata(metadata)
        self.incarnation = incarnation
        self.options = options
        self.random = random
        self.now = now
        self.since = now
        self.room = options.packet_bytes - PACKET_OVERHEAD  #: bytes of a message

        # Outputs.
        self.sends: list[tuple[str, Any]] = []
        self.events: list[Event] = []
        self.counters: dict[str, int] = {}

        # Who is there.
        self.peers: dict[str, Peer] = {}
        self.names = [name]  #: of all members, sorted
        self.live = 1  #: members that are alive or suspected, this one included
        self.digest = 0  #: exclusive or over the fingerprints of the live members
        self.own_fingerprint = 0
        self.graves: deque[tuple[float, Peer]] = deque()  #: (when to forget it, a peer that died or left then)
        self.retransmit_limit = retransmit_limit(options.retransmit_mult, 1)
        self.broadcasts = Broadcasts()
        self.waiting = self.broadcasts.waiting  #: empty: there are no news
        self.leaving = False
        self.left = False

        # Probing. The ring holds all who may be probed, in two parts: first those that were in this round. Some may
        # have left or be forgotten: they are taken out when a round ends, or when they become many.
        self.ring: list[Peer] = []
        self.probed = 0
        self.awareness = 0
        self.sequence = int(random.random() * (1 << 32))  #: of the last ping
        self.probe: Peer | None = None  #: whose answer is missing
        self.probe_sequence = -1
        self.probe_end = math.inf
        self.probe_nackers: dict[str, None] = {}  #: addresses of relays that have not nacked
        self.probe_nacks_wanted = False
        self.relays: dict[int, Relay] = {}  #: by the sequence of the own ping; their deadlines rise

        # Suspicions by deadline. An entry whose deadline is no longer that of its suspicion counts for nothing.
        self.suspicions: list[tuple[float, int, Suspicion]] = []
        self.suspicions_made = 0

        # Comparing tables.
        self.contacts: list[str] = []  #: addresses to join by
        self.next_contact = 0
        self.sync_address = ""  #: of the member whose table is coming in
        self.sync_after = ""
        self.sync_deadline = math.inf
        self.sync_tries = 0

        # Deadlines.
        self.probe_deadline = now + random.random() * options.probe_interval
        self.gossip_deadline = math.inf
        self.gossiped = -math.inf
        self.join_deadline = math.inf
        self.sync_due = now + random.random() * options.sync_interval
        self.slow_deadline = self.sync_due  #: of everything but probes and gossip; never late, perhaps early
        self.renew_self()

    # -- telling ------------------------------------------------------------------------------------------------------

    def count(self, what: str) -> None:
        """Count something that was ignored or refused."""
        self.counters[what] = self.counters.get(what, 0) + 1

    def tell(self, claim: Claim) -> None:
        """Pass on a claim to everybody."""
        self.broadcasts.put(claim)
        if self.gossip_deadline == math.inf:
            self.gossip_deadline = max(self.now, self.gossiped + self.options.gossip_interval)

    def piggyback(self, room: int) -> tuple[Claim, ...]:
        """News for the rest of a packet."""
        return self.broadcasts.take(room, self.retransmit_limit) if self.waiting else ()

    def next_sequence(self) -> int:
        """A number for a ping."""
        self.sequence = sequence = (self.sequence + 1) & 0xFFFFFFFF
        return sequence

    def sooner(self, time: float) -> None:
        """Something other than a probe or gossip is due by then."""
        if time < self.slow_deadline:
            self.slow_deadline = time

    # -- who is there -------------------------------------------------------------------------------------------------

    @property
    def own_claim(self) -> Claim:
        """This node is alive."""
        return Claim(ALIVE, self.name, self.incarnation, "", self.address, self.metadata)

    def view(self) -> Member:
        """This node, for the application."""
        status = Status.LEFT if self.leaving else Status.ALIVE
        return Member(self.name, self.address, self.incarnation, status, self.metadata, self.since)

    def renew_self(self) -> None:
        """The own incarnation or metadata have changed: they are in the digest."""
        self.digest ^= self.own_fingerprint
        self.own_fingerprint = fingerprint(self.name, self.incarnation, self.metadata)
        self.digest ^= self.own_fingerprint

    def enter(self, peer: Peer) -> None:
        """A peer that was unknown, dead or had left is alive."""
        self.digest ^= fingerprint(peer.name, peer.incarnation, peer.claim.metadata)
        self._resize(1)
        if peer.name not in self.peers:
            self.peers[peer.name] = peer
            insort(self.names, peer.name)
        if not peer.in_ring:
            peer.in_ring = True
            self.ring.append(peer)
            if len(self.ring) > 2 * len(self.peers) + 16:
                self.tidy_ring()

    def exit(self, peer: Peer) -> None:
        """A live peer has died or left; it is remembered for a while."""
        self.digest ^= fingerprint(peer.name, peer.incarnation, peer.claim.metadata)
        self._resize(-1)
        forget_at = self.now + self.options.gossip_to_dead
        if len(self.graves) > 2 * len(self.peers) + 64:  # of peers that came back, again and again
            self.graves = deque(grave for grave in self.graves if self.is_buried(*grave))
        self.graves.append((forget_at, peer))
        self.sooner(forget_at)

    def is_buried(self, forget_at: float, peer: Peer) -> bool:
        """Whether the peer has been dead since it got this grave, and is not forgotten yet."""
        return (
            not is_live(peer.status)
            and forget_at == peer.since + self.options.gossip_to_dead
            and self.peers.get(peer.name) is peer
        )

    def renew(self, peer: Peer, incarnation: int, claim: Claim) -> None:
        """A live peer has another incarnation, and perhaps something new to say."""
        name = peer.name
        self.digest ^= fingerprint(name, peer.incarnation, peer.claim.metadata)
        self.digest ^= fingerprint(name, incarnation, claim.metadata)
        peer.incarnation = incarnation
        peer.claim = claim

    def forget(self, peer: Peer) -> None:
        """Nothing remains of a dead peer."""
        del self.peers[peer.name]
        del self.names[bisect_left(self.names, peer.name)]
        self.broadcasts.drop(peer.name)
        peer.status = LEFT

    def tidy_ring(self) -> None:
        """Take those out who have left or are forgotten; the ring keeps its two parts."""
        ring, probed = self.ring, self.probed
        for peer in ring:
            peer.in_ring = peer.status != LEFT
        self.probed = sum([peer.in_ring for peer in ring[:probed]])
        self.ring = [peer for peer in ring if peer.in_ring]

    def _resize(self, change: int) -> None:
        self.live += change
        self.retransmit_limit = retransmit_limit(self.options.retransmit_mult, self.live)

    @property
    def sync_interval(self) -> float:
        """Seconds between two comparisons that this node begins."""
        return self.options.sync_interval * sync_factor(self.live)


def fingerprint(name: str, incarnation: int, metadata: bytes) -> int:
    """64 bits that stand for a live member in a digest."""
    facts = f"{incarnation} {name} ".encode() + metadata
    return int.from_bytes(blake2b(facts, digest_size=8).digest(), "little")


def check_metadata(metadata: bytes) -> bytes:
    """The metadata, LocalError unless they fit into a claim."""
    if not isinstance(metadata, bytes) or len(metadata) > METADATA_BYTES_MAX:
        raise LocalError(f"metadata must be at most {METADATA_BYTES_MAX} bytes")
    return metadata


def is_live(status: int) -> bool:
    """Whether a member counts."""
    return status <= SUSPECT
