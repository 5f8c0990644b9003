"""Probing: each period one member, in a random order that is drawn anew each round; without an answer, through others.

Sources: SWIM (2002), sections 3.1 and 4.3; Lifeguard (2018) for awareness, nacks and buddies.
"""

from __future__ import annotations

from distkit.membership.swim import claims, suspicion
from distkit.membership.swim.messages import (
    ACK_BYTES,
    ALIVE,
    NACK_BYTES,
    PING_BYTES,
    PING_REQUEST_BYTES,
    SUSPECT,
    Ack,
    Claim,
    Nack,
    Ping,
    PingRequest,
    claim_bytes,
    text_bytes,
)
from distkit.membership.swim.state import Peer, Relay, State


def tick(s: State, now: float) -> None:
    """A probe needs help, or a period is over."""
    if now - s.probe_deadline > s.options.gossip_to_dead:  # it was suspended: the others may have forgotten it
        s.sync_due = now
        s.sooner(now)
    if now < s.probe_end and s.probe is not None:
        ask_others(s, s.probe)
        s.probe_deadline = s.probe_end
        return
    if s.probe is not None:
        fail(s, now, s.probe)
    begin(s, now)


def begin(s: State, now: float) -> None:
    """Probe the next member."""
    options = s.options
    scale = s.awareness + 1
    s.probe_end = now + options.probe_interval * scale
    s.probe = peer = next_target(s)
    if peer is None:
        s.probe_deadline = s.probe_end
        return
    s.probe_deadline = now + options.probe_timeout * scale
    s.probe_sequence = sequence = s.next_sequence()
    if s.probe_nacks_wanted:
        s.probe_nacks_wanted = False
        s.probe_nackers = {}
    send_ping(s, sequence, peer.name, peer.claim.address, peer)


def next_target(s: State) -> Peer | None:
    """One of those that were not probed in this round, all equally likely: a shuffled round robin, drawn as it goes.

    Who enters during a round is probed in it, so nobody waits for more than 2n - 1 periods.
    """
    ring = s.ring
    for _ in range(2):
        while s.probed < len(ring):
            first = s.probed
            place = first + int(s.random.random() * (len(ring) - first))
            peer = ring[place]
            ring[place] = ring[first]
            ring[first] = peer
            s.probed = first + 1
            if peer.status <= SUSPECT:
                return peer
        s.probed = 0
        s.tidy_ring()
        ring = s.ring
    return None


def send_ping(s: State, sequence: int, name: str, address: str, peer: Peer | None) -> None:
    """Ping a member. One that is suspected hears so first of all, and can object in its answer (buddy)."""
    if peer is not None and peer.status == SUSPECT and s.options.buddy:
        first = Claim(SUSPECT, name, peer.incarnation, s.name, "", b"")
        room = s.room - PING_BYTES - text_bytes(name) - claim_bytes(first)
        news = (first, *s.piggyback(room))
    else:
        news = s.piggyback(s.room - PING_BYTES - text_bytes(name)) if s.waiting else ()
    s.sends.append((address, Ping(sequence, name, news)))


def ask_others(s: State, peer: Peer) -> None:
    """No answer in time: others try as well."""
    options = s.options
    name, address = peer.name, peer.claim.address
    relays = others(s, options.indirect_checks, peer)
    for relay in relays:
        room = s.room - PING_REQUEST_BYTES - text_bytes(name) - text_bytes(address)
        request = PingRequest(s.probe_sequence, name, address, options.nacks, s.piggyback(room))
        s.sends.append((relay.claim.address, request))
    s.probe_nacks_wanted = options.nacks and len(relays) > 0
    s.probe_nackers = {relay.claim.address: None for relay in relays} if options.nacks else {}


def others(s: State, count: int, peer: Peer) -> list[Peer]:
    """So many different members that are alive, or fewer, without this one. May miss some in groups of dead members."""
    ring = s.ring
    found: list[Peer] = []
    for _ in range(3 * len(ring)):
        if len(found) == count:
            break
        other = ring[int(s.random.random() * len(ring))]
        if other.status == ALIVE and other is not peer and other not in found:
            found.append(other)
    return found


def fail(s: State, now: float, peer: Peer) -> None:
    """The period is over and nobody has reached the peer: suspect it, and oneself as far as relays kept silent too."""
    s.probe = None
    if peer.status > SUSPECT:
        return
    claims.be_aware(s, len(s.probe_nackers) if s.probe_nacks_wanted else 1)
    suspicion.accuse(s, now, peer)


# -- messages ---------------------------------------------------------------------------------------------------------


def on_ping(s: State, now: float, source: str, message: Ping) -> None:
    """Answer, if it was meant for this member and not for one that had the address before."""
    if message.target != s.name:
        s.count("wrong_target")
        return
    if message.claims:
        claims.hear(s, now, message.claims)
    news = s.piggyback(s.room - ACK_BYTES) if s.waiting else ()
    s.sends.append((source, Ack(message.sequence, news)))


def on_ack(s: State, now: float, source: str, message: Ack) -> None:
    """An answer to the own probe, or to one for somebody else, who is told."""
    if message.claims:
        claims.hear(s, now, message.claims)
    sequence = message.sequence
    if sequence == s.probe_sequence and s.probe is not None:
        s.probe = None
        s.probe_deadline = s.probe_end
        if s.awareness:
            claims.be_aware(s, -1)
        return
    relay = s.relays.pop(sequence, None)
    if relay is None:
        s.count("late_ack")
    else:
        s.sends.append((relay.origin, Ack(relay.sequence, s.piggyback(s.room - ACK_BYTES))))


def on_ping_request(s: State, now: float, source: str, message: PingRequest) -> None:
    """Probe for somebody else."""
    claims.hear(s, now, message.claims)
    if len(s.relays) >= s.options.relays_max:
        s.count("relays_full")
        return
    sequence = s.next_sequence()
    deadline = now + s.options.relay_timeout
    s.relays[sequence] = Relay(source, message.sequence, message.nack, deadline)
    s.sooner(deadline)
    send_ping(s, sequence, message.target, message.address, s.peers.get(message.target))


def on_nack(s: State, now: float, source: str, message: Nack) -> None:
    """A relay is there, but the target did not answer it."""
    claims.hear(s, now, message.claims)
    if message.sequence == s.probe_sequence and s.probe is not None:
        s.probe_nackers.pop(source, None)
    else:
        s.count("late_nack")


def end_relays(s: State, now: float) -> None:
    """Relays whose target did not answer in time say so."""
    relays = s.relays
    while relays:
        sequence, relay = next(iter(relays.items()))
        if relay.deadline > now:
            break
        del relays[sequence]
        if relay.nack:
            s.sends.append((relay.origin, Nack(relay.sequence, s.piggyback(s.room - NACK_BYTES))))
