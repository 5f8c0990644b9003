"""Suspicions: they end by refutation, or in death, the sooner the more others confirm them (Lifeguard).

Source: Dadgar, Phillips, Currey, "Lifeguard: local health awareness for more accurate failure detection" (2018).
"""

from __future__ import annotations

from heapq import heapify, heappush

from distkit.membership.swim.events import Joined, Suspected
from distkit.membership.swim.formulas import confirmations_wanted, suspicion_min, suspicion_timeout
from distkit.membership.swim.messages import SUSPECT, Claim
from distkit.membership.swim.state import Peer, State, Suspicion, is_live


def suspect(s: State, now: float, peer: Peer, incarnation: int, accuser: str) -> None:
    """Begin to suspect a peer in this incarnation, which overrides what is known, and pass it on."""
    was_live = is_live(peer.status)
    clear(peer)
    if was_live:
        s.renew(peer, incarnation, peer.claim)
    else:  # somebody has seen it come back
        peer.incarnation = incarnation
        s.enter(peer)
        s.events.append(Joined(peer.view()))
    peer.status = SUSPECT
    peer.since = now
    options, n = s.options, s.live
    wanted = confirmations_wanted(options.suspicion_mult, n)
    shortest = suspicion_min(options.suspicion_mult, n, options.probe_interval)
    peer.suspicion = Suspicion(peer, now, accuser, wanted, shortest, shortest * options.suspicion_max_mult)
    _set_deadline(s, peer.suspicion)
    s.events.append(Suspected(peer.view()))
    s.tell(Claim(SUSPECT, peer.name, incarnation, accuser, "", b""))


def accuse(s: State, now: float, peer: Peer) -> None:
    """This node could not reach the peer."""
    if peer.suspicion is not None:
        confirm(s, now, peer, s.name)
    elif is_live(peer.status):
        suspect(s, now, peer, peer.incarnation, s.name)


def confirm(s: State, now: float, peer: Peer, accuser: str) -> None:
    """Somebody else suspects the peer as well: it has less time, and others hear of it. Each one counts once."""
    suspicion = peer.suspicion
    if suspicion is None or accuser in suspicion.accusers or len(suspicion.accusers) > suspicion.wanted:
        return
    suspicion.accusers[accuser] = None
    _set_deadline(s, suspicion)
    s.tell(Claim(SUSPECT, peer.name, peer.incarnation, accuser, "", b""))


def clear(peer: Peer) -> None:
    """The suspicion, if there is one, has come to its end."""
    if peer.suspicion is not None:
        peer.suspicion.deadline = -1.0  # its entries in the queue count no more
        peer.suspicion = None


def _set_deadline(s: State, suspicion: Suspicion) -> None:
    confirmations = len(suspicion.accusers) - 1
    timeout = suspicion_timeout(confirmations, suspicion.wanted, suspicion.shortest, suspicion.longest)
    suspicion.deadline = deadline = suspicion.start + timeout
    s.suspicions_made += 1
    if len(s.suspicions) > 4 * len(s.peers) + 64:  # nearly all are of suspicions that have ended
        s.suspicions = [entry for entry in s.suspicions if entry[0] == entry[2].deadline]
        heapify(s.suspicions)
    heappush(s.suspicions, (deadline, s.suspicions_made, suspicion))
    s.sooner(deadline)
