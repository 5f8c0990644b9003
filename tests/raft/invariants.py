"""What must hold of a Raft group after every step, judged against all that ever happened.

The ledger remembers leaders, votes, entries and commits for ever, so that a rule broken long after the fact (a second
leader of an old term, a committed entry rewritten after a restart) is seen at the step that breaks it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distkit._fast.codec import block_entries, block_info
from distkit.core import Outcome, Reply, RoleName, Write
from distkit.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Entries,
    HardState,
    Heartbeat,
    InstallSnapshot,
    InstallSnapshotReply,
    RequestVote,
    RequestVoteReply,
    SnapshotMark,
    Truncate,
)

if TYPE_CHECKING:
    from cluster import Node

#: What a node says about its own log or vote: it may leave only when that is durable.
HELD = (RequestVote, RequestVoteReply, AppendEntriesReply, InstallSnapshotReply)


class Broken(AssertionError):
    """An invariant does not hold."""


def require(holds: bool, *explanation: object) -> None:
    if not holds:
        raise Broken(" ".join(map(str, explanation)))


def entries_of(block: bytes) -> list[tuple[int, int, int, bytes]]:
    """(index, term, kind, payload) of every entry of a block."""
    term, first, count, _ = block_info(block)
    found = block_entries(block, first, first + count - 1)
    return [(index, term, kind, payload) for index, (kind, payload) in enumerate(found, first)]


class Stored:
    """What a sequence of durable records says, by the simplest possible reading of them."""

    def __init__(self) -> None:
        self.term = self.vote = self.commit = 0
        self.base = self.snapshot_index = 0
        self.terms = [0]  # of the entries from index `base` on

    @property
    def last(self) -> int:
        return self.base + len(self.terms) - 1

    def term_of(self, index: int) -> int:
        """Term of the entry; -1 if the log does not hold it."""
        return self.terms[index - self.base] if self.base <= index <= self.last else -1

    def replay(self, record: Any) -> None:
        if isinstance(record, HardState):
            self._hard_state(record)
        elif isinstance(record, Entries):
            term, first, count, _ = block_info(record.block)
            require(first == self.last + 1, "log gap: block from", first, "after", self.last)
            require(term >= self.terms[-1], "log terms fall:", term, "after", self.terms[-1])
            self.terms += [term] * count
        elif isinstance(record, Truncate):
            require(self.base < record.index <= self.last, "truncated at", record.index, "in", self.base, self.last)
            del self.terms[record.index - self.base :]
        elif isinstance(record, SnapshotMark):
            self._hard_state(record)
            snapshot = record.snapshot
            require(snapshot.index >= self.snapshot_index, "snapshot falls to", snapshot.index)
            self.snapshot_index = snapshot.index
            if record.reset or self.last == 0:  # an image begins with the snapshot
                self.base, self.terms = snapshot.index, [snapshot.term]
            else:
                require(self.term_of(snapshot.index) == snapshot.term, "snapshot of unknown entry", snapshot.index)
        else:
            raise Broken(f"unknown record {record!r}")

    def _hard_state(self, record: HardState | SnapshotMark) -> None:
        require(record.term >= self.term, "stored term falls from", self.term, "to", record.term)
        if record.term == self.term:
            require(self.vote in (0, record.vote), "vote changed within term", self.term, self.vote, record.vote)
        require(record.commit >= self.commit or record.commit >= self.last, "stored commit falls", record)
        self.term, self.vote, self.commit = record.term, record.vote, record.commit


class Ledger:
    """Everything that ever happened in one group, and the checks against it."""

    def __init__(self, nodes: dict[int, Node], voters: int) -> None:
        self.nodes = nodes
        self.majority = voters // 2 + 1
        self.leaders: dict[int, int] = {}  # term -> node
        self.votes: dict[tuple[int, int], int] = {}  # (term, voter) -> candidate
        # (index, term) -> (term of the entry before, kind, payload, time)
        self.entries: dict[tuple[int, int], tuple[int, int, bytes, int]] = {}
        self.committed: list[int] = [0]  # index -> term
        self.committed_by: list[int] = [0]  # index -> term of the leader that committed it
        self.floors: dict[int, int] = {}  # read ticket -> what its index must reach
        self.commands: dict[int, tuple[bytes, ...]] = {}  # proposal ticket -> commands
        self.replies: dict[int, Reply] = {}

    # -- the disk -----------------------------------------------------------------------------------------------------

    def wrote(self, node: Node, write: Write) -> None:
        """A machine handed out a write."""
        hard = None
        for record in write.records:
            if isinstance(record, HardState | SnapshotMark):
                hard = record
            elif isinstance(record, Truncate):
                self._truncated(node, record.index)
            elif isinstance(record, Entries):
                require(hard is not None, "entries without a hard state before them", write)
                require(hard.commit >= node.commit_seen, "entries forget commit", node.commit_seen, "over", hard)
                self._appended(node, record.block)
            node.accepted.replay(record)
            self._recoverable(node)
        if hard is not None:
            require(hard.term == node.machine.term, "hard state of another term", hard, node.machine.term)
        for _, message in write.then:
            require(isinstance(message, HELD), "needs no disk but waits for it:", message)

    def _recoverable(self, node: Node) -> None:
        """A crash may keep any prefix of the records; what it would then take for committed must be."""
        commit = min(node.accepted.commit, node.accepted.last)
        for index in range(max(node.accepted.base, node.commit_seen), min(commit + 1, len(self.committed))):
            term = node.accepted.term_of(index)
            require(term == self.committed[index], "a crash here makes node", node.id, "commit another entry at", index)

    def _truncated(self, node: Node, index: int) -> None:
        require(self.leaders.get(node.machine.term) != node.id, "leader", node.id, "truncates its log at", index)
        for gone in range(index, min(node.accepted.last, len(self.committed) - 1) + 1):
            term = node.accepted.term_of(gone)
            require(term != self.committed[gone], "committed entry", gone, "of term", term, "truncated on", node.id)

    def _appended(self, node: Node, block: bytes) -> None:
        """Log matching: an (index, term) has one content and one predecessor, whoever holds it."""
        _, first, _, time_us = block_info(block)
        previous = node.accepted.terms[-1] if first == node.accepted.last + 1 else -1
        before = self.entries.get((first - 1, previous), (0, 0, b"", 0))[3]
        require(before <= time_us, "time falls from", before, "to", time_us, "at", first)
        for index, term, kind, payload in entries_of(block):
            found = (previous, kind, payload, time_us)
            if (index, term) not in self.entries:
                leader = self.leaders.get(term, node.id)
                require(leader == node.id, "entry", index, "of term", term, "born on", node.id, "not on", leader)
                self.entries[index, term] = found
            require(self.entries[index, term] == found, "log matching: entry", index, "of term", term, "on", node.id)
            previous = term

    def left(self, node: Node, target: int, message: Any, held: bool) -> None:
        """A message leaves its node; `held`: after a write of it became durable."""
        durable = node.durable
        require(held or not isinstance(message, HELD), "left before the disk:", message)
        if isinstance(message, RequestVote):
            if not message.pre and durable.term == message.term:
                require(durable.vote == node.id, "asks for votes without its own", message)
                require(durable.last >= message.last_index, "asks for votes with entries it may lose", message)
            require(durable.term >= message.term - message.pre, "asks for votes of a term it may forget", message)
        elif isinstance(message, RequestVoteReply) and message.granted and not message.pre:
            require(durable.term >= message.term, "granted a vote that it may forget", message)
            if durable.term == message.term:
                require(durable.vote == target, "granted", target, "but stored a vote for", durable.vote)
            first = self.votes.setdefault((message.term, node.id), target)
            require(first == target, "node", node.id, "voted twice in term", message.term, first, target)
        elif isinstance(message, AppendEntriesReply | InstallSnapshotReply):
            require(durable.term >= message.term, "answers in a term that it may forget", message)
            accepted = getattr(message, "accepted", True) and durable.term == message.term
            if accepted and self.leaders.get(message.term) == target:
                self._acknowledged(node, target, message.index)
        elif isinstance(message, AppendEntries | Heartbeat | InstallSnapshot):
            leader = self.leaders.setdefault(message.term, node.id)
            require(leader == node.id, "not the leader of its term:", node.id, message)
            if isinstance(message, AppendEntries):
                require(message.prev_index <= node.accepted.last, "appends behind its own log", message)

    def _acknowledged(self, node: Node, leader: int, index: int) -> None:
        require(
            index <= node.durable.last, "node", node.id, "acknowledged", index, "with", node.durable.last, "durable"
        )
        other = self.nodes.get(leader)
        if other is not None and other.up and other.machine.role is RoleName.LEADER:
            mine, theirs = node.durable.term_of(index), other.accepted.term_of(index)
            require(mine == theirs or -1 in (mine, theirs), "acknowledged an entry that differs", index, mine, theirs)

    # -- the state of a machine ---------------------------------------------------------------------------------------

    def state(self, node: Node) -> None:
        """Look at a machine after its flush."""
        machine, accepted, durable = node.machine, node.accepted, node.durable
        require(machine.term >= node.term_seen, "term falls from", node.term_seen, "to", machine.term)
        node.term_seen = machine.term
        require(accepted.term == machine.term, "term", machine.term, "was never written:", accepted.term)
        require(accepted.last == machine.last_index, "log ends at", machine.last_index, "written", accepted.last)
        if machine.role is RoleName.LEADER and self.leaders.get(machine.term) != node.id:
            require(machine.term not in self.leaders, "second leader of term", machine.term, "is", node.id)
            self.leaders[machine.term] = node.id
            for index in range(accepted.base, len(self.committed)):
                complete = accepted.term_of(index) == self.committed[index] or self.committed_by[index] >= machine.term
                require(complete, "leader", node.id, "lacks committed", index)
        self._commit(node)
        require(machine.commit_index <= machine.last_index, "commit behind the log", machine.commit_index)
        require(machine.applied_index <= min(machine.commit_index, machine.flushed_index), "applied too early")
        require(machine.flushed_index <= durable.last, "flushed", machine.flushed_index, "durable", durable.last)
        flushed = machine.flushed_index
        stored, held = durable.term_of(flushed), accepted.term_of(flushed)
        require(stored == held or -1 in (stored, held), "flushed entry was rewritten:", flushed)
        purged = machine.window.base_index
        require(purged <= machine.snapshot.index <= machine.commit_index, "purged, snapshot, commit out of order")

    def _commit(self, node: Node) -> None:
        commit, accepted = node.machine.commit_index, node.accepted
        require(commit >= node.commit_seen, "commit falls from", node.commit_seen, "to", commit)
        fresh = False
        for index in range(max(node.commit_seen + 1, accepted.base), commit + 1):
            term = accepted.term_of(index)
            if index == len(self.committed):
                self.committed.append(term)
                self.committed_by.append(node.machine.term)
                fresh = True
            require(self.committed[index] == term, "node", node.id, "committed another entry at", index)
        node.commit_seen = commit
        if fresh:
            holders = [
                other for other in self.nodes.values() if other.durable.term_of(commit) == self.committed[commit]
            ]
            if len(self.nodes) >= self.majority:
                require(len(holders) >= self.majority, "entry", commit, "is committed on no durable quorum")

    def applied(self, index: int, term: int, kind: int, payload: bytes) -> None:
        require(index < len(self.committed) and self.committed[index] == term, "applied but not committed:", index)
        require(
            self.entries.get((index, term), (0, kind, payload))[1:3] == (kind, payload), "applied other bytes", index
        )

    # -- tickets ------------------------------------------------------------------------------------------------------

    def replied(self, reply: Reply) -> None:
        ticket = reply.ticket
        require(ticket not in self.replies, "second reply to ticket", ticket, reply)
        self.replies[ticket] = reply
        if ticket in self.floors:
            require(reply.outcome in (Outcome.READABLE, Outcome.REFUSED, Outcome.LOST), "not an end of a read:", reply)
            if reply.outcome is Outcome.READABLE:
                require(reply.index >= self.floors[ticket], "stale read", reply, "floor", self.floors[ticket])
        elif ticket in self.commands and reply.outcome is Outcome.COMMITTED:
            found = self.contents(range(reply.first, reply.index + 1))
            require(found == self.commands[ticket], "committed something else for ticket", ticket, found)
            require(self.committed[reply.index] == reply.term, "committed in another term", reply)

    def contents(self, indexes: range) -> tuple[bytes, ...]:
        """Payloads of committed entries."""
        require(indexes.stop <= len(self.committed), "not committed:", indexes)
        return tuple(self.entries[index, self.committed[index]][2] for index in indexes)

    def finish(self) -> None:
        """At the end of a run: what was said not to be done was not done."""
        done = {self.entries[at][2] for at in enumerate(self.committed) if at in self.entries}
        for ticket, commands in self.commands.items():
            reply = self.replies.get(ticket)
            if reply is not None and reply.outcome in (Outcome.REFUSED, Outcome.SUPERSEDED):
                require(done.isdisjoint(commands), "ticket", ticket, "ended as", reply, "but is committed")
