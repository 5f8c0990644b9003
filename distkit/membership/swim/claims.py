"""What a claim changes: one rule says which of two claims about a member holds.

    alive i     overrides alive j and suspect j if i > j
    suspect i   overrides suspect j if i > j, alive j if i >= j
    dead i      overrides alive j and suspect j if i >= j

All of this is the order of (incarnation, status). What overrides is passed on, once; nothing else is, except
confirmations of a suspicion. Sources: Das, Gupta, Motivala, "SWIM" (2002), section 4.2; memberlist for restarts.
"""

from __future__ import annotations

from distkit.membership.swim import suspicion
from distkit.membership.swim.events import Alive, Conflict, Dead, Joined, Left, Updated
from distkit.membership.swim.messages import ALIVE, DEAD, INCARNATION_MAX, LEFT, SUSPECT, Claim, Gossip
from distkit.membership.swim.state import Peer, State, is_live


def hear(s: State, now: float, claims: tuple[Claim, ...]) -> None:
    """Take in news, and tables of others."""
    peers = s.peers
    for claim in claims:
        peer = peers.get(claim.name)
        if peer is None:
            if claim.name == s.name:
                on_self(s, claim)
            else:
                on_unknown(s, now, claim)
        elif claim.incarnation > peer.incarnation or (
            claim.incarnation == peer.incarnation and claim.status > peer.status
        ):
            override(s, now, peer, claim)
        elif peer.suspicion is not None and claim.incarnation == peer.incarnation and claim.status == SUSPECT:
            suspicion.confirm(s, now, peer, claim.accuser or s.name)
        elif claim.status == ALIVE and claim.incarnation == peer.incarnation and claim.metadata != peer.claim.metadata:
            ask_itself(s, peer, claim)


def override(s: State, now: float, peer: Peer, claim: Claim) -> None:
    """The claim holds against what is known of the peer."""
    if claim.status == ALIVE:
        on_alive(s, now, peer, claim)
    elif claim.status == LEFT:
        end(s, now, peer, claim)
    elif claim.status == SUSPECT or not claim.accuser:
        # A table says only that somebody was dead for its owner: that is one more reason to suspect.
        suspicion.suspect(s, now, peer, claim.incarnation, claim.accuser or s.name)
    else:
        end(s, now, peer, claim)


def on_unknown(s: State, now: float, claim: Claim) -> None:
    """Only somebody with an address can become a member; of the dead nothing need be known."""
    if claim.status > SUSPECT or not claim.address:
        s.count("unknown_member")
        return
    if len(s.peers) + 1 >= s.options.members_max and not make_room(s):
        s.count("full")
        return
    alive = claim if claim.status == ALIVE else _as_alive(claim)
    peer = Peer(alive, now)
    s.enter(peer)
    s.events.append(Joined(peer.view()))
    s.tell(alive)
    if claim.status == SUSPECT:
        suspicion.suspect(s, now, peer, claim.incarnation, s.name)


def make_room(s: State) -> bool:
    """Forget the member that has been dead for the longest time. False: all are alive."""
    while s.graves:
        forget_at, peer = s.graves.popleft()
        if s.is_buried(forget_at, peer):
            s.forget(peer)
            return True
    return False


def on_alive(s: State, now: float, peer: Peer, claim: Claim) -> None:
    """The peer has refuted, came back, or says something new about itself."""
    was_live = is_live(peer.status)
    if claim.address != peer.claim.address and was_live:
        conflict(s, peer, claim)
        return
    was, before = peer.status, peer.claim
    if was_live:
        s.renew(peer, claim.incarnation, claim)
    else:
        peer.incarnation = claim.incarnation
        peer.claim = claim
        s.enter(peer)
    if was != ALIVE:
        suspicion.clear(peer)
        peer.status = ALIVE
        peer.since = now
    s.tell(claim)
    if not was_live:
        s.events.append(Joined(peer.view()))
        return
    if was == SUSPECT:
        s.events.append(Alive(peer.view()))
    if claim.metadata != before.metadata:
        s.events.append(Updated(peer.view()))


def conflict(s: State, peer: Peer, claim: Claim) -> None:
    """Somebody else uses the name. Said once for each address."""
    s.count("conflict")
    if claim.address != peer.conflict:
        peer.conflict = claim.address
        s.events.append(Conflict(peer.view(), claim.address))


def ask_itself(s: State, peer: Peer, claim: Claim) -> None:
    """Two claims of one incarnation differ: it was restarted without a higher one. It hears both, and goes above."""
    s.sends.append((peer.claim.address, Gossip((claim, peer.claim))))


def end(s: State, now: float, peer: Peer, claim: Claim) -> None:
    """The peer is dead, or has left."""
    was_live = is_live(peer.status)
    suspicion.clear(peer)
    if was_live:
        s.renew(peer, claim.incarnation, peer.claim)
        s.exit(peer)
        peer.since = now
    peer.incarnation = claim.incarnation
    peer.status = claim.status
    if was_live:
        s.events.append(Left(peer.view()) if claim.status == LEFT else Dead(peer.view()))
    s.tell(claim)


def declare_dead(s: State, now: float, peer: Peer) -> None:
    """This node's suspicion has lasted long enough."""
    end(s, now, peer, Claim(DEAD, peer.name, peer.incarnation, s.name, "", b""))


def on_self(s: State, claim: Claim) -> None:
    """Somebody says something about this node: refute what is wrong, with a higher incarnation."""
    if claim.incarnation < s.incarnation or s.leaving:
        return
    if claim.status == ALIVE:
        if claim.address != s.address:
            s.count("conflict")  # to refute would be a race without an end; once one of the two is dead, it ends
        elif claim.incarnation > s.incarnation or claim.metadata != s.metadata:
            refute(s, claim.incarnation)  # of an earlier start of this node
        return
    refute(s, claim.incarnation)
    if claim.status != LEFT:
        be_aware(s, 1)


def refute(s: State, incarnation: int) -> None:
    """Be alive in a higher incarnation than this one."""
    if incarnation >= INCARNATION_MAX:
        s.count("nonsense")
        return
    s.incarnation = incarnation + 1
    s.renew_self()
    s.tell(s.own_claim)


def be_aware(s: State, change: int) -> None:
    """Change the awareness: how slow this node itself seems to be, 0 .. awareness_max - 1."""
    s.awareness = min(max(0, s.awareness + change), s.options.awareness_max - 1)


def _as_alive(claim: Claim) -> Claim:
    return Claim(ALIVE, claim.name, claim.incarnation, "", claim.address, claim.metadata)
