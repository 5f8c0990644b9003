"""What members say to each other, as tables that a host turns into a codec registry.

News travel as claims, on the back of every message. A claim about a member holds against another one by
(incarnation, status), the higher one wins: so alive needs a higher incarnation than what it overrides, suspect
overrides alive of its own incarnation, dead both. Only the member itself raises its incarnation.
"""

from __future__ import annotations

import enum

from distkit.core import PeerError, record
from distkit.core.limits import ADDRESS_BYTES_MAX

#: Bounds of what a claim holds, in bytes of UTF-8.
NAME_BYTES_MAX = 128
METADATA_BYTES_MAX = 512
#: Room for refutations above what a peer may claim.
INCARNATION_MAX = (1 << 62) - 1


class Status(enum.IntEnum):
    """What is believed of a member. The order is that in which one overrides another of the same incarnation."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


# The same as plain ints: comparing members of an enumeration costs several times as much.
ALIVE, SUSPECT, DEAD, LEFT = 0, 1, 2, 3


@record
class Claim:
    """Somebody says that a member is in this status.

    News of a suspicion or death name the `accuser`, and neither address nor metadata. In a table that is compared
    there is no accuser, and all else is there. A member that leaves accuses itself.
    """

    status: int
    name: str
    incarnation: int
    accuser: str
    address: str
    metadata: bytes


@record
class Ping:
    """Are you there? Only the member with the name `target` answers."""

    sequence: int
    target: str
    claims: tuple[Claim, ...]


@record
class Ack:
    """Yes. To a relay's origin: the target answered."""

    sequence: int
    claims: tuple[Claim, ...]


@record
class PingRequest:
    """Ping the target for me; with `nack` say also when it does not answer."""

    sequence: int
    target: str
    address: str
    nack: bool
    claims: tuple[Claim, ...]


@record
class Nack:
    """I am here, but the target did not answer me."""

    sequence: int
    claims: tuple[Claim, ...]


@record
class Gossip:
    """News alone."""

    claims: tuple[Claim, ...]


@record
class SyncRequest:
    """Send me the part of your table behind the name `after`, unless our tables have the same digest.

    The first claim is the sender's own. `mutual`: ask me for mine as well.
    """

    digest: int
    after: str
    mutual: bool
    claims: tuple[Claim, ...]


@record
class SyncReply:
    """A part of the table, ordered by name. `more`: there is more behind the last one."""

    after: str
    more: bool
    claims: tuple[Claim, ...]


PARTS = ((Claim, "status:u8 name:str incarnation:u64 accuser:str address:str metadata:bytes"),)

MESSAGES = (
    (112, Ping, "sequence:u32 target:str claims:Claim*"),
    (113, Ack, "sequence:u32 claims:Claim*"),
    (114, PingRequest, "sequence:u32 target:str address:str nack:bool claims:Claim*"),
    (115, Nack, "sequence:u32 claims:Claim*"),
    (116, Gossip, "claims:Claim*"),
    (117, SyncRequest, "digest:u64 after:str mutual:bool claims:Claim*"),
    (118, SyncReply, "after:str more:bool claims:Claim*"),
)

# -- sizes in bytes, so that a machine fills packets without encoding anything ----------------------------------------

#: The smallest claim: fixed fields, and a name of one letter.
CLAIM_BYTES_MIN = 20
#: Everything but claims and strings: the count of claims is in it.
ACK_BYTES = NACK_BYTES = 6
GOSSIP_BYTES = 2
PING_BYTES = 8
PING_REQUEST_BYTES = 11
SYNC_REQUEST_BYTES = 13
SYNC_REPLY_BYTES = 5


def text_bytes(text: str) -> int:
    """Bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def claim_bytes(claim: Claim) -> int:
    """Bytes of a claim in a message."""
    return (
        CLAIM_BYTES_MIN
        - 1
        + text_bytes(claim.name)
        + text_bytes(claim.accuser)
        + text_bytes(claim.address)
        + len(claim.metadata)
    )


def check_message(message: object) -> None:
    """Raise PeerError for a message that no member sends. Machines count on this for what came from outside."""
    claims = getattr(message, "claims", ())
    for claim in claims:
        _check_claim(claim)
    for name in (getattr(message, "target", None), getattr(message, "after", None) or None):
        if name is not None and not 0 < text_bytes(name) <= NAME_BYTES_MAX:
            raise PeerError(f"a name must have 1 to {NAME_BYTES_MAX} bytes")
    if isinstance(message, PingRequest) and not 0 < text_bytes(message.address) <= ADDRESS_BYTES_MAX:
        raise PeerError(f"an address must have 1 to {ADDRESS_BYTES_MAX} bytes")


def _check_claim(claim: Claim) -> None:
    if claim.status > LEFT:
        raise PeerError(f"unknown status {claim.status}")
    if claim.incarnation > INCARNATION_MAX:
        raise PeerError(f"incarnation {claim.incarnation} is above {INCARNATION_MAX}")
    if not 0 < text_bytes(claim.name) <= NAME_BYTES_MAX or text_bytes(claim.accuser) > NAME_BYTES_MAX:
        raise PeerError(f"a name must have 1 to {NAME_BYTES_MAX} bytes")
    if text_bytes(claim.address) > ADDRESS_BYTES_MAX or len(claim.metadata) > METADATA_BYTES_MAX:
        raise PeerError(f"{claim.name}: address or metadata is too long")
    if not claim.address and not claim.accuser:
        raise PeerError(f"{claim.name}: neither an address nor an accuser")
