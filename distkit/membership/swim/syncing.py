"""Comparing tables: how a node joins, and how what gossip has missed is found in the end.

A node asks another one for its table, part by part, so that one small request never causes more than one packet. If the
digests are equal the answer is empty. The other one asks back, so both learn.
"""

from __future__ import annotations

import math
from bisect import bisect_right

from distkit.membership.swim import claims
from distkit.membership.swim.messages import (
    SUSPECT,
    SYNC_REPLY_BYTES,
    SYNC_REQUEST_BYTES,
    Claim,
    SyncReply,
    SyncRequest,
    claim_bytes,
    text_bytes,
)
from distkit.membership.swim.state import CONTACTS_MAX, State

#: How often a part is asked for, all in all.
_TRIES = 3


def join(s: State, now: float, addresses: tuple[str, ...]) -> None:
    """Remember the addresses, and ask the first of them at once."""
    for address in addresses:
        if address not in s.contacts and address != s.address:
            s.contacts.append(address)
    del s.contacts[:-CONTACTS_MAX]
    s.next_contact = 0
    s.join_deadline = now
    s.sooner(now)


def tick(s: State, now: float) -> None:
    """Go on with what is due."""
    if now >= s.join_deadline:
        go_on_joining(s, now)
    if now >= s.sync_deadline:
        s.sync_tries += 1
        if s.sync_tries >= _TRIES:
            finish(s)
        else:
            request(s, now, False)
    if now >= s.sync_due:
        s.sync_due = now + s.sync_interval
        compare(s, now)


def go_on_joining(s: State, now: float) -> None:
    """One contact after the other, until somebody is there."""
    if len(s.peers) or not s.contacts:
        s.join_deadline = math.inf
        return
    s.join_deadline = now + s.options.join_interval
    begin(s, now, next_contact(s), True)


def next_contact(s: State) -> str:
    """The contacts take turns."""
    contact = s.contacts[s.next_contact % len(s.contacts)]
    s.next_contact += 1
    return contact


def compare(s: State, now: float) -> None:
    """Compare tables with a random member; or with a contact that is none: a group that was cut in two heals so."""
    places = {peer.claim.address for peer in s.peers.values() if peer.status <= SUSPECT} if s.contacts else ()
    if any(contact not in places for contact in s.contacts):
        contact = next_contact(s)
        if contact not in places:
            begin(s, now, contact, True)
            return
    if s.ring:
        peer = s.ring[int(s.random.random() * len(s.ring))]
        if peer.status <= SUSPECT:
            begin(s, now, peer.claim.address, True)


def begin(s: State, now: float, address: str, mutual: bool) -> None:
    """Ask for a table from its beginning; one that was coming in is given up."""
    s.sync_address = address
    s.sync_after = ""
    s.sync_tries = 0
    request(s, now, mutual)


def request(s: State, now: float, mutual: bool) -> None:
    """Ask for the next part."""
    own = s.own_claim
    room = s.room - SYNC_REQUEST_BYTES - text_bytes(s.sync_after) - claim_bytes(own)
    s.sends.append((s.sync_address, SyncRequest(s.digest, s.sync_after, mutual, (own, *s.piggyback(room)))))
    s.sync_deadline = now + s.options.probe_timeout
    s.sooner(s.sync_deadline)


def finish(s: State) -> None:
    """Nothing more is expected."""
    s.sync_address = ""
    s.sync_deadline = math.inf


def on_request(s: State, now: float, source: str, message: SyncRequest) -> None:
    """Give a part of the table, and ask back."""
    claims.hear(s, now, message.claims)
    after = message.after
    if not after and message.digest == s.digest:
        s.sends.append((source, SyncReply(after, False, ())))
        return
    room = s.room - SYNC_REPLY_BYTES - text_bytes(after)
    part: list[Claim] = []
    place = bisect_right(s.names, after)
    while place < len(s.names):
        claim = row(s, s.names[place])
        room -= claim_bytes(claim)
        if room < 0:
            break
        part.append(claim)
        place += 1
    s.sends.append((source, SyncReply(after, place < len(s.names), tuple(part))))
    if message.mutual and not s.sync_address:
        begin(s, now, source, False)


def row(s: State, name: str) -> Claim:
    """A member in a table."""
    if name == s.name:
        return s.own_claim
    peer = s.peers[name]
    claim = peer.claim
    if peer.status == claim.status and peer.incarnation == claim.incarnation:
        return claim
    return Claim(peer.status, peer.name, peer.incarnation, "", claim.address, claim.metadata)


def on_reply(s: State, now: float, source: str, message: SyncReply) -> None:
    """A part of a table: take it in, and ask for the next one."""
    if source != s.sync_address or message.after != s.sync_after:
        s.count("late_sync")
        return
    claims.hear(s, now, message.claims)
    if message.more and message.claims and message.claims[-1].name > s.sync_after:
        s.sync_after = message.claims[-1].name
        s.sync_tries = 0
        request(s, now, False)
    else:
        finish(s)
