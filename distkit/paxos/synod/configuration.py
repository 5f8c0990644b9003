"""Who takes part in a synod, in which roles, and who is enough."""

from __future__ import annotations

import hashlib
import struct

from distkit.core import Configuration, LocalError, record
from distkit.quorum.flexible import QuorumSystem, majority

_U64 = struct.Struct("<Q")


@record
class SynodConfiguration:
    """The members of `quorums` are the acceptors. Every node has any subset of the three roles.

    It holds for the whole life of the synod: a decision counted by two quorum systems is none.

    Proposers should be learners, too, as with `all_roles`. One that is none hears of a decision from acceptors alone:
    while no quorum of them answers, it goes on asking, though learners know.
    """

    members: Configuration
    quorums: QuorumSystem
    proposers: tuple[int, ...]
    learners: tuple[int, ...]

    def check(self) -> None:
        """Raise LocalError unless everybody who has a role is a member, and there is a proposer."""
        ids = {member.id for member in self.members.members}
        for role, nodes in (
            ("acceptor", self.quorums.members),
            ("proposer", self.proposers),
            ("learner", self.learners),
        ):
            for node in nodes:
                if node not in ids:
                    raise LocalError(f"{role} {node} is no member of the synod ({', '.join(map(str, sorted(ids)))})")
            if len(set(nodes)) != len(nodes):
                raise LocalError(f"a {role} is named twice: {nodes}")
        if not self.proposers:
            raise LocalError("a synod without a proposer never decides: name one")

    @property
    def epoch(self) -> int:
        """A fingerprint of members, roles and quorums: 64 bits of a SHA-256. Addresses may change."""
        digest = hashlib.sha256(b"distkit synod")
        members = sorted(self.members.members, key=lambda member: member.id)
        for numbers in (
            (self.members.version,),
            tuple(member.id for member in members),
            tuple(member.incarnation for member in members),
            self.quorums.members,
            tuple(sorted(self.proposers)),
            tuple(sorted(self.learners)),
        ):
            digest.update(_U64.pack(len(numbers)) + b"".join(map(_U64.pack, numbers)))
        for table in self.quorums.tables:
            digest.update(table)
        return int.from_bytes(digest.digest()[:8], "little")


def all_roles(members: Configuration, quorums: QuorumSystem | None = None) -> SynodConfiguration:
    """Everybody proposes, accepts and learns, by majority unless `quorums` says otherwise."""
    ids = tuple(member.id for member in members.members)
    return SynodConfiguration(members, quorums or majority(ids), ids, ids)
