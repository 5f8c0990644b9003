"""Names of nodes and the configuration of a cluster."""

from __future__ import annotations

import enum

from distkit.core.errors import LocalError
from distkit.core.limits import ADDRESS_BYTES_MAX, MEMBERS_MAX, NODE_ID_MAX
from distkit.core.records import record


class MemberRole(enum.IntEnum):
    """What a member may do. Only voters exist so far; the numbers of the others are reserved in all formats."""

    VOTER = 1
    LEARNER = 2
    WITNESS = 3


@record
class Member:
    """One member of a configuration.

    ``incarnation`` is the random 64-bit number of its data directory: a node that lost its disk is another member,
    even under the same id, so votes and acknowledgements count by (id, incarnation).
    """

    id: int
    incarnation: int
    address: str
    role: MemberRole = MemberRole.VOTER


@record
class Configuration:
    """The members of a cluster, sorted by id. ``version`` rises by one with each change; the first one is 1.

    ``outgoing`` (the second half of a joint configuration) is empty until membership changes exist.
    """

    version: int
    members: tuple[Member, ...]
    outgoing: tuple[int, ...] = ()

    @property
    def voters(self) -> tuple[int, ...]:
        """Ids of the voters, sorted."""
        return tuple(member.id for member in self.members if member.role is MemberRole.VOTER)

    def member(self, node: int) -> Member | None:
        """The member with this id, or None."""
        for member in self.members:
            if member.id == node:
                return member
        return None


def check_member(node: int, address: str) -> None:
    """Raise LocalError unless ``node`` is a usable id and ``address`` a usable HOST:PORT."""
    if not isinstance(node, int) or isinstance(node, bool) or not 1 <= node <= NODE_ID_MAX:
        raise LocalError(f"node id must be an integer from 1 to {NODE_ID_MAX}, not {node!r}")
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise LocalError(f"address of node {node} must be HOST:PORT, not {address!r}")
    if len(address.encode()) > ADDRESS_BYTES_MAX:
        raise LocalError(f"address of node {node} is longer than {ADDRESS_BYTES_MAX} bytes")


def check_members(members: dict[int, str]) -> None:
    """Raise LocalError unless ``members`` (id -> HOST:PORT) is a possible first configuration."""
    if not 1 <= len(members) <= MEMBERS_MAX:
        raise LocalError(f"a cluster has 1 to {MEMBERS_MAX} members, not {len(members)}")
    for node, address in members.items():
        check_member(node, address)
    if len(set(members.values())) != len(members):
        raise LocalError("two members have the same address")
