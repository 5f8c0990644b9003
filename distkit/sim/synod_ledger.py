"""What must hold of a synod after every step, judged against all that ever happened.

The ledger follows every acceptor's promise P and votes V, in memory and on the disk, by what the machines show and what
their disks were given. A value counts as chosen as soon as the disks of a phase-2 quorum hold votes for it at one
ballot, whether anybody knows or not. Names S1 to S7 are those of the invariants of the protocol, C1 to C3 of crashes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from distkit.core import Outcome, Reply, Write
from distkit.paxos.ballot import show_ballot
from distkit.paxos.synod.messages import (
    Accept,
    Accepted,
    Decide,
    Decided,
    LastVote,
    Learn,
    Nack,
    Prepare,
    Promise,
    Promised,
    Voted,
)
from distkit.sim.broken import require

#: A proposal: (origin, value).
Pair = tuple[int, bytes]


class View(Protocol):
    """What the ledger looks at on a host. `boots` counts its lives, `disk` is all that is durable, and `decided` what
    was delivered in this life."""

    id: int
    boots: int
    machine: Any
    decided: Decided | None

    @property
    def disk(self) -> list[Any]: ...

    def recovered(self, records: Iterable[Any]) -> Any:
        """A machine made of these records."""
        ...


class Acceptor:
    """Promise and votes of one node, in memory or on the disk."""

    def __init__(self, promised: int = 0, votes: dict[int, Pair] | None = None) -> None:
        self.promised = promised
        self.votes = dict(votes or {})

    def copy(self) -> Acceptor:
        """The same, to be changed apart from it."""
        return Acceptor(self.promised, self.votes)

    def replay(self, record: Any) -> None:
        """The simplest possible reading of a durable record."""
        if isinstance(record, Promised):
            self.promised = max(self.promised, record.ballot)
        elif isinstance(record, Voted):
            self.promised = max(self.promised, record.ballot)
            self.votes[record.ballot] = (record.origin, record.value)

    @property
    def newest(self) -> int:
        """Ballot of the newest vote, 0 if there is none."""
        return max(self.votes, default=0)


class Ledger:
    """All that ever happened. Nodes that are not `real` are played by a test, so nothing is asked of them."""

    def __init__(self, configuration: Any, real: frozenset[int]) -> None:
        self.quorums = configuration.quorums
        self.members = [member.id for member in configuration.members.members]
        self.alone = real != frozenset(self.members)
        self.memory = {node: Acceptor() for node in self.members}
        self.disk = {node: Acceptor() for node in self.members}
        self.writes: dict[tuple[int, int, int], Acceptor] = {}  #: what each write makes durable
        self.accepts: dict[int, Pair] = {}  #: S3, C2: what each ballot proposes, over all lives
        self.prepared: dict[int, tuple[int, int]] = {}  #: C2: node and life that used a ballot
        self.chosen: Pair | None = None
        self.proposed: dict[int, bytes] = {}  #: by ticket
        self.replies: dict[int, Reply] = {}
        self.winner = 0
        self.seen: dict[str, int] = {}  #: how often each kind of message left

    # -- steps of a node ----------------------------------------------------------------------------------------------

    def restarted(self, node: View) -> None:
        """C3: what is recovered is what was durable, however often it is replayed."""
        disk, status = self.disk[node.id], node.machine.status()
        for record in node.disk if node.boots == 1 else ():
            disk.replay(record)
        self.memory[node.id] = disk.copy()
        require(status.promised == disk.promised, "C3", "node", node.id, "recovers promise", status.promised)
        require(status.vote.ballot == disk.newest, "C3", "node", node.id, "recovers vote", status.vote)
        if status.vote.ballot:
            require(disk.votes[disk.newest] == (status.vote.origin, status.vote.value), "C3", "vote", status.vote)
        digest = node.machine.digest()
        for records in (node.disk + node.disk, node.machine.image()):
            require(node.recovered(records).digest() == digest, "C3", "replay of", records)

    def crashed(self, node: View, kept: Sequence[Any]) -> None:
        """The node is gone; `kept` of the records in flight reached its disk."""
        for record in kept:
            self.disk[node.id].replay(record)
        self._choose()

    def stepped(self, node: View) -> None:
        """S1 to S4 of the node's memory."""
        memory, status = self.memory[node.id], node.machine.status()
        require(status.promised >= memory.promised, "S1", "the promise of", node.id, "falls to", status.promised)
        require(status.vote.ballot >= memory.newest, "S1", "the vote of", node.id, "falls to", status.vote)
        require(status.promised >= status.vote.ballot, "S2", "node", node.id, "voted above its promise")
        ballot, pair = status.vote.ballot, (status.vote.origin, status.vote.value)
        if ballot and ballot not in memory.votes:
            require(ballot >= memory.promised, "S2", "node", node.id, "votes below its promise", memory.promised)
            self._one_value(ballot, pair)
            memory.votes[ballot] = pair
            require(self._safe(ballot, pair), "S4", "node", node.id, "votes for", pair, "at", ballot)
        if ballot:
            require(memory.votes[ballot] == pair, "S3", "the vote of", node.id, "changes at", ballot)
        memory.promised = status.promised
        if node.machine.chosen is not None:
            self._known(node, node.machine.chosen)

    def wrote(self, node: View, write: Write) -> None:
        """A flush handed out a write: what the node knows now must be durable once it is."""
        self.writes[node.id, node.boots, write.token] = self.memory[node.id].copy()

    def completed(self, node: View, write: Write) -> None:
        """C1, C3: a write is durable, and says what the node knew when it wrote it."""
        durable = self.writes[node.id, node.boots, write.token]
        disk = self.disk[node.id]
        require(durable.promised >= disk.promised, "C1", "the durable promise of", node.id, "falls")
        replayed = disk.copy()
        for record in write.records:
            replayed.replay(record)
        require(
            (replayed.promised, replayed.newest) == (durable.promised, durable.newest),
            "C3",
            "the records of node",
            node.id,
            "do not say what it knew when it wrote them",
        )
        self.disk[node.id] = durable
        self._choose()

    def left(self, node: View, target: int, message: Any) -> None:
        """A message leaves: what it says must be durable."""
        name = type(message).__name__
        self.seen[name] = self.seen.get(name, 0) + 1
        require(target != node.id and target in self.members, "contract", name, "to", target)
        disk = self.disk[node.id]
        if isinstance(message, Prepare):
            require(disk.promised >= message.ballot, "C2", "Prepare before its ballot is durable:", message)
            life = self.prepared.setdefault(message.ballot, (node.id, node.boots))
            require(
                life == (node.id, node.boots), "C2", "ballot", show_ballot(message.ballot), "was used in another life"
            )
        elif isinstance(message, Promise):
            require(disk.promised >= message.ballot, "C1", "Promise before it is durable:", message)
            require(message.voted < message.ballot, "S5", "a vote that is not below the promise:", message)
            between = [ballot for ballot in disk.votes if message.voted < ballot < message.ballot]
            require(not between, "S5", "a vote between is not reported:", message)
            if message.voted:
                require(
                    disk.votes.get(message.voted) == (message.origin, message.value), "S5", "no such vote:", message
                )
        elif isinstance(message, Accept):
            pair = (message.origin, message.value)
            require(disk.promised >= message.ballot, "C2", "Accept before its ballot is durable:", message)
            self._one_value(message.ballot, pair)
            require(self._safe(message.ballot, pair), "S6", "not shown to be safe:", message)
        elif isinstance(message, Accepted):
            require(message.ballot in disk.votes, "C1", "Accepted before it is durable:", message)
        elif isinstance(message, LastVote):
            pair = (message.origin, message.value)
            require(disk.votes.get(message.ballot) == pair, "C1", "LastVote before it is durable:", message)
        elif isinstance(message, Decide):
            self._known(node, message)
        else:
            require(isinstance(message, Nack | Learn), "contract", "what is", message)

    def told(self, node: View, decided: Decided) -> None:
        """The node delivers a decision."""
        self._known(node, decided)

    def replied(self, node: View, reply: Reply) -> None:
        """Exactly one reply a ticket, and at most one ticket in the world wins."""
        require(reply.ticket in self.proposed, "replies", "nobody asked for", reply)
        require(reply.ticket not in self.replies, "replies", "a second reply:", reply)
        self.replies[reply.ticket] = reply
        if reply.outcome in (Outcome.COMMITTED, Outcome.SUPERSEDED):
            require(node.decided is not None, "replies", "a reply before the decision:", reply)
        if reply.outcome is Outcome.COMMITTED:
            require(not self.winner, "replies", "tickets", self.winner, "and", reply.ticket, "both win")
            self.winner = reply.ticket
            require(
                self.alone or (self.chosen or (0, b""))[1] == self.proposed[reply.ticket],
                "replies",
                "not its value:",
                reply,
            )

    def judge(self, proposals: Sequence[tuple[int, Pair]], known: Sequence[tuple[int, Pair]]) -> None:
        """S3, S4, S6, S7 of a moment: what the `disk`s hold, what was ever proposed or voted for (ballot, proposal) and
        who takes what for chosen (node, proposal). For those who have not followed all that led there."""
        self._choose()
        for ballot, pair in proposals:
            self._one_value(ballot, pair)
        for ballot, pair in proposals:
            require(
                self._safe(ballot, pair), "S4", pair[1], "at", show_ballot(ballot), "while another may be chosen below"
            )
        for node, pair in known:
            require(self.chosen == pair, "S7", "node", node, "takes", pair, "for chosen; it is", self.chosen)

    # -- judgements ---------------------------------------------------------------------------------------------------

    def _one_value(self, ballot: int, pair: Pair) -> None:
        first = self.accepts.setdefault(ballot, pair)
        require(first == pair, "S3", "ballot", ballot, "proposes", first, "and", pair)

    def _safe(self, ballot: int, pair: Pair) -> bool:
        """S4: at each lower ballot nothing but `pair` was chosen on the disks, nor ever can be."""
        if self.alone:
            return True
        used = {each for acceptor in self.disk.values() for each in acceptor.votes} | set(self.accepts)
        for lower in used:
            if lower >= ballot:
                continue
            blocking = 0
            for node in self.quorums.members:
                disk = self.disk[node]
                vote = disk.votes.get(lower)
                if vote == pair or (vote is None and disk.promised > lower):
                    blocking |= self.quorums.mask((node,))
            if not self.quorums.phase1(blocking):
                return False
        return True

    def _choose(self) -> None:
        """S7: the disks of a phase-2 quorum choose, once."""
        for ballot in {each for acceptor in self.disk.values() for each in acceptor.votes}:
            pairs = {disk.votes[ballot] for disk in self.disk.values() if ballot in disk.votes}
            for pair in pairs:
                voters = [node for node in self.quorums.members if self.disk[node].votes.get(ballot) == pair]
                if self.quorums.phase2(self.quorums.mask(voters)):
                    require(self.chosen in (None, pair), "S7", "chosen", self.chosen, "and", pair, "at", ballot)
                    self.chosen = pair
                    require(self.alone or pair[1] in self.proposed.values(), "S7", "nobody proposed", pair)

    def _known(self, node: View, decided: Decided | Decide) -> None:
        """S7: nobody takes for chosen what is not."""
        pair = (decided.origin, decided.value)
        if self.alone:
            self.chosen = self.chosen or pair
        require(self.chosen == pair, "S7", "node", node.id, "takes", pair, "for chosen; it is", self.chosen)
