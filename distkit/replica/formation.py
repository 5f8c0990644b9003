"""Formation of a fixed cluster, and the identity of its members afterwards.

A node with an empty directory knows only the map of ids and addresses it was started with, and its own incarnation,
the random number of its directory. It waits until every other node of the map has said hello as equally empty; then
the first configuration and the cluster id are the same pure function of the same facts on all of them. Or it hears of
a cluster that is formed already and counts it in, under this very incarnation, and adopts that.

A formed cluster that knows the node under another incarnation refuses it: its directory was lost, and with it votes and
acknowledgements that others rely on. Absence from a configuration proves nothing, it may be old.

What this cannot see: a directory that is lost while the cluster is being formed, after the node itself was formed
and before another node heard of that. Form a cluster with all disks in place.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Protocol

from distkit.core import Configuration, IdentityError, LocalError, Member, PeerError, record
from distkit.core.ids import check_members

_MEMBER = struct.Struct("<IQH")


class PeerHello(Protocol):
    """What a node says about itself. `configuration` is None and `cluster` 0 as long as it is not formed; `members`
    is the map it was started with, sorted by id."""

    @property
    def node(self) -> int: ...

    @property
    def incarnation(self) -> int: ...

    @property
    def members(self) -> tuple[tuple[int, str], ...]: ...

    @property
    def configuration(self) -> Configuration | None: ...

    @property
    def cluster(self) -> int: ...


@record
class Waiting:
    """Not formed yet: these members have not said hello."""

    missing: tuple[int, ...]


@record
class Formed:
    """The configuration and the id of the cluster: store both, then begin."""

    configuration: Configuration
    cluster: int


class Formation:
    """The formation of one node. Feed it hellos of peers that were authenticated; `state` says when it is done."""

    __slots__ = ("_formed", "_incarnation", "_incarnations", "_members", "_node")

    def __init__(self, node: int, incarnation: int, members: dict[int, str]) -> None:
        check_members(members)
        if node not in members:
            raise LocalError(f"node {node} is not among the members {_shown(_sorted(members))}")
        self._node = node
        self._incarnation = incarnation
        self._members = _sorted(members)
        self._incarnations: dict[int, int] = {node: incarnation}
        self._formed: Formed | None = None
        self._form()

    def state(self) -> Waiting | Formed:
        """Where the formation stands."""
        if self._formed is not None:
            return self._formed
        return Waiting(tuple(node for node, _ in self._members if node not in self._incarnations))

    def hello(self, hello: PeerHello) -> None:
        """A peer said hello. IdentityError: the two cannot be members of one cluster, the text says how to go on."""
        if self._formed is not None:
            judge_hello(self._node, self._formed.configuration, self._formed.cluster, hello)
            return
        if hello.node == self._node:
            raise IdentityError(
                f"another process runs as node {self._node} (incarnation {hello.incarnation:016x}, "
                f"this one is {self._incarnation:016x}): give each node an id and a data directory of its own"
            )
        if hello.configuration is not None:
            if hello.cluster == 0:
                raise PeerError(f"node {hello.node} has a configuration and no cluster id")
            self._adopt(hello, hello.configuration)
            return
        if hello.members != self._members:
            raise IdentityError(
                f"node {hello.node} was started with the members {_shown(hello.members)}, node {self._node} with "
                f"{_shown(self._members)}: start all nodes with the same map"
            )
        self._incarnations[hello.node] = hello.incarnation
        self._form()

    def lost(self, peer: int) -> None:
        """The connection to a peer broke: until it says hello again, it may have come back as somebody else."""
        if peer != self._node:
            self._incarnations.pop(peer, None)

    def _form(self) -> None:
        if all(node in self._incarnations for node, _ in self._members):
            members = tuple(Member(node, self._incarnations[node], address) for node, address in self._members)
            configuration = Configuration(1, members)
            self._formed = Formed(configuration, cluster_id(configuration))

    def _adopt(self, hello: PeerHello, configuration: Configuration) -> None:
        member = configuration.member(self._node)
        if member is None:
            raise IdentityError(
                f"node {hello.node} belongs to a cluster of {_shown(_addresses(configuration))}, without node "
                f"{self._node}: start this node with the members of its own cluster"
            )
        if member.incarnation != self._incarnation:
            raise IdentityError(_replaced(self._node, self._incarnation, member, hello.node))
        self._formed = Formed(configuration, hello.cluster)


def judge_hello(node: int, configuration: Configuration, cluster: int, hello: PeerHello) -> None:
    """Whether formed `node` may talk to who says hello. IdentityError says why not, for both ends to log.

    Never judges by mere absence from `configuration`, which may be older than the peer's.
    """
    if hello.configuration is not None and hello.cluster != cluster:
        raise IdentityError(
            f"node {hello.node} belongs to cluster {hello.cluster:016x}, node {node} to {cluster:016x}: "
            "one of them has the address or the data directory of another cluster"
        )
    member = configuration.member(hello.node)
    if member is not None and member.incarnation != hello.incarnation:
        raise IdentityError(_replaced(hello.node, hello.incarnation, member, node))


def cluster_id(configuration: Configuration) -> int:
    """The id of the cluster that this first configuration forms: 64 bits of a SHA-256, never 0."""
    digest = hashlib.sha256(b"distkit cluster")
    for member in sorted(configuration.members, key=lambda member: member.id):
        address = member.address.encode()
        digest.update(_MEMBER.pack(member.id, member.incarnation, len(address)) + address)
    return int.from_bytes(digest.digest()[:8], "little") or 1


def _replaced(node: int, incarnation: int, member: Member, knows: int) -> str:
    return (
        f"node {node} has a new data directory (incarnation {incarnation:016x}), but node {knows} knows it as "
        f"{member.incarnation:016x}: with the old directory it lost votes and entries that the cluster relies on, so "
        f"it must not take part as node {node}. Put the old directory back. If it is lost, the others go on as "
        "long as they are a majority; replace the member by one with a new id and an empty directory (a change of "
        "configuration)"
    )


def _sorted(members: dict[int, str]) -> tuple[tuple[int, str], ...]:
    return tuple(sorted(members.items()))


def _addresses(configuration: Configuration) -> tuple[tuple[int, str], ...]:
    return tuple((member.id, member.address) for member in configuration.members)


def _shown(members: tuple[tuple[int, str], ...]) -> str:
    return ", ".join(f"{node}={address}" for node, address in members)
