"""What must hold of a Raft group after every step, judged against all that ever happened.

The ledger remembers leaders, votes, entries and commits for ever, so that a rule broken long after the fact (a second
leader of an old term, a committed entry rewritten after a restart) is seen at the step that breaks it. Each check
costs what changed, not what there is.

Sources: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", figure 3; Ongaro's thesis.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from distkit._fast.codec import block_entries, block_info
from distkit.core import RoleName, Write
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
from distkit.raft.progress import PROBE
from distkit.sim.broken import fail, require

#: A member of an enumeration by name costs as much as a call.
LEADER: Final = RoleName.LEADER

#: What a node says about its own log or vote: it may leave only when that is durable.
HELD = (RequestVote, RequestVoteReply, AppendEntriesReply, InstallSnapshotReply)


def entries_of(block: bytes) -> list[tuple[int, int, int, bytes]]:
    """(index, term, kind, payload) of every entry of a block."""
    term, first, count, _ = block_info(block)
    found = block_entries(block, first, first + count - 1)
    return [(index, term, kind, payload) for index, (kind, payload) in enumerate(found, first)]


def _start(block: bytes) -> tuple[int, int]:
    """(index, term) of the first entry of a block."""
    term, first, _, _ = block_info(block)
    return first, term


class Stored:
    """What a sequence of durable records says, by the simplest possible reading of them."""

    def __init__(self) -> None:
        self.term = self.vote = self.commit = 0
        self.base = self.snapshot_index = 0
        self.terms = [0]  # of the entries from index `base` on

    @property
    def last(self) -> int:
        """Index of the last entry."""
        return self.base + len(self.terms) - 1

    def term_of(self, index: int) -> int:
        """Term of the entry; -1 if the log does not hold it."""
        position = index - self.base
        return self.terms[position] if 0 <= position < len(self.terms) else -1

    def copy(self) -> Stored:
        """The same, to be changed apart from it."""
        other = Stored()
        other.term, other.vote, other.commit = self.term, self.vote, self.commit
        other.base, other.snapshot_index, other.terms = self.base, self.snapshot_index, self.terms.copy()
        return other

    @classmethod
    def recovered(cls, records: Iterable[Any]) -> Stored:
        """What a log says of which old segments are gone: it begins with its newest snapshot."""
        stored = cls()
        terms: dict[int, int] = {}
        base = last = base_term = 0
        for record in records:
            if isinstance(record, Entries):
                term, first, count, _ = block_info(record.block)
                terms.update(dict.fromkeys(range(first, first + count), term))
                last = first + count - 1
            elif isinstance(record, Truncate):
                last = record.index - 1
            else:
                stored._hard_state(record)
            if isinstance(record, SnapshotMark):
                if record.snapshot.index >= base:
                    base, base_term = record.snapshot.index, record.snapshot.term
                last = record.snapshot.index if record.reset else last
        held = [terms.get(index, -1) for index in range(base + 1, last + 1)]
        if -1 in held:
            fail("log", "entry", base + 1 + held.index(-1), "is missing of a log from", base, "to", last)
        stored.base = stored.snapshot_index = base
        stored.terms = [base_term, *held]
        if stored.terms != sorted(stored.terms):
            fail("log", "terms fall in", stored.terms)
        return stored

    def says(self, other: Stored) -> bool:
        """Whether a node that starts with this may be taken for one that starts with the other."""
        if (self.term, self.vote, self.commit, self.last) != (other.term, other.vote, other.commit, other.last):
            return False
        if self.snapshot_index != other.snapshot_index:
            return False
        low = max(self.base, other.base)
        return self.terms[low - self.base :] == other.terms[low - other.base :]

    def replay(self, record: Any) -> None:
        """Take in the next record."""
        kind = type(record)
        if kind is HardState:
            self._hard_state(record)
        elif kind is Entries:
            term, first, count, _ = block_info(record.block)
            if first != self.last + 1:
                fail("log", "a gap: block from", first, "after", self.last)
            if term < self.terms[-1]:
                fail("log", "terms fall:", term, "after", self.terms[-1])
            self.terms += [term] * count
        elif kind is Truncate:
            if not self.base < record.index <= self.last:
                fail("log", "truncated at", record.index, "in", self.base, self.last)
            del self.terms[record.index - self.base :]
        elif kind is SnapshotMark:
            self._hard_state(record)
            self._snapshot(record)
        else:
            fail("log", f"unknown record {record!r}")

    def _snapshot(self, record: SnapshotMark) -> None:
        snapshot = record.snapshot
        if snapshot.index < self.snapshot_index:
            fail("monotone", "snapshot falls to", snapshot.index)
        self.snapshot_index = snapshot.index
        if record.reset or self.last == 0:  # an image begins with the snapshot
            self.base, self.terms = snapshot.index, [snapshot.term]
        elif self.term_of(snapshot.index) != snapshot.term:
            fail("log", "snapshot of an unknown entry", snapshot.index)

    def _hard_state(self, record: HardState | SnapshotMark) -> None:
        if record.term < self.term:
            fail("monotone", "stored term falls from", self.term, "to", record.term)
        if record.term == self.term and self.vote not in (0, record.vote):
            fail("election safety", "vote changed within term", self.term, self.vote, record.vote)
        if record.commit < self.commit and record.commit < self.last:
            fail("monotone", "stored commit falls", record)
        self.term, self.vote, self.commit = record.term, record.vote, record.commit


class View(Protocol):
    """What the ledger sees of a node. `accepted` is what it was told to write, `durable` what is written."""

    id: int
    up: bool
    machine: Any
    accepted: Stored
    durable: Stored
    term_seen: int
    commit_seen: int


class Ledger:
    """Everything that ever happened in one group, and the checks against it."""

    def __init__(self, nodes: Mapping[int, Any], voters: int) -> None:
        self.nodes: Mapping[int, View] = nodes
        self.majority = voters // 2 + 1
        self.leaders: dict[int, int] = {}  # term -> node
        self.votes: dict[tuple[int, int], int] = {}  # (term, voter) -> candidate
        self.asked: dict[tuple[int, int], tuple[int, int]] = {}  # (term, candidate) -> end of the log it asked with
        self.sounded: dict[tuple[int, int], tuple[int, int]] = {}  # the same of pre-votes: the best of several
        # (index, term) -> (term of the entry before, kind, payload, time)
        self.entries: dict[tuple[int, int], tuple[int, int, bytes, int]] = {}
        self.committed: list[int] = [0]  # index -> term
        self.committed_by: list[int] = [0]  # index -> term of the leader that committed it
        self._blocks: dict[tuple[int, int, int], bytes] = {}  # (first, term, term before) -> a block that was checked

    # -- the disk -----------------------------------------------------------------------------------------------------

    def wrote(self, node: View, write: Write) -> None:
        """A machine handed out a write."""
        hard, held = None, (node.accepted.terms[-1], node.accepted.last)
        cut = (0, 0)  # where the log was truncated, and the term of what stood there
        for record in write.records:
            kind = type(record)
            if kind is HardState or kind is SnapshotMark:
                hard = record
                if kind is SnapshotMark and record.reset:
                    held = 0, 0  # a log that is replaced by a snapshot may have ended later
            elif kind is Truncate:
                self._truncated(node, record.index)
                cut = (record.index, node.accepted.term_of(record.index))
            elif kind is Entries:
                if cut[0] and cut == _start(record.block):
                    fail("log matching", "node", node.id, "replaces entry", cut[0], "by itself: a crash may take it")
                if hard is None:
                    fail("durability", "entries without a hard state before them", write)
                elif hard.commit < node.commit_seen:
                    fail("durability", "entries forget commit", node.commit_seen, "over", hard)
                self._appended(node, record.block)
            node.accepted.replay(record)
            self._recoverable(node)
        if hard is not None and hard.term != node.machine.term:
            fail("durability", "hard state of another term", hard, node.machine.term)
        for target, message in write.then:
            if type(message) not in HELD:
                fail("durability", "needs no disk but waits for it:", message)
            if type(message) is RequestVoteReply and message.granted:
                self._granted(node, target, message, held)

    def _granted(self, node: View, target: int, message: RequestVoteReply, held: tuple[int, int]) -> None:
        """A vote goes to nobody whose log is older than that of the voter (paper 5.4.1): than what it held before this
        write, which has nothing older. (What the candidate asked with, if it asked, and did not just say so.)"""
        term = message.term
        asked = (self.sounded if message.pre else self.asked).get((term, target), held)
        require(asked >= held, "election safety", "node", node.id, "voted in term", term, "for", target, asked, held)

    def recovered(self, node: View, records: Iterable[Any]) -> None:
        """A node starts with these records: what they say of an entry is what once was written."""
        for record in records:
            if type(record) is Entries:
                time_us = block_info(record.block)[3]
                for index, term, kind, payload in entries_of(record.block):
                    known = self.entries.get((index, term))
                    same = known is not None and known[1:] == (kind, payload, time_us)
                    require(same, "disk", "node", node.id, "came back with another entry", index, "of term", term)

    def _recoverable(self, node: View) -> None:
        """A crash may keep any prefix of the records; what it would then take for committed must be."""
        accepted, committed = node.accepted, self.committed
        base, terms = accepted.base, accepted.terms
        first = max(base, node.commit_seen)
        behind = min(accepted.commit + 1, base + len(terms), len(committed))
        if first < behind and terms[first - base : behind - base] != committed[first:behind]:
            index = next(index for index in range(first, behind) if terms[index - base] != committed[index])
            fail("durability", "a crash here makes node", node.id, "commit another entry at", index)

    def _truncated(self, node: View, index: int) -> None:
        leads = self.leaders.get(node.machine.term) == node.id
        require(not leads, "leader append-only", "leader", node.id, "truncates its log at", index)
        for gone in range(index, min(node.accepted.last, len(self.committed) - 1) + 1):
            term = node.accepted.term_of(gone)
            kept = term != self.committed[gone]
            require(kept, "committed entries", "entry", gone, "of term", term, "truncated on", node.id)

    def _appended(self, node: View, block: bytes) -> None:
        """Log matching: an (index, term) has one content and one predecessor, whoever holds it."""
        round_, first, _, time_us = block_info(block)
        previous = node.accepted.terms[-1] if first == node.accepted.last + 1 else -1
        key = (first, round_, previous)
        if self._blocks.get(key) is block:
            return
        before = self.entries.get((first - 1, previous), (0, 0, b"", 0))[3]
        require(before <= time_us, "log matching", "time falls from", before, "to", time_us, "at", first)
        for index, term, kind, payload in entries_of(block):
            found = (previous, kind, payload, time_us)
            known = self.entries.get((index, term))
            if known is None:
                leader = self.leaders.get(term) or self._elected(node, term)
                born = leader == node.id
                require(born, "log matching", "entry", index, "of term", term, "born on", node.id, "not on", leader)
                self.entries[index, term] = found
            else:
                require(known == found, "log matching", "entry", index, "of term", term, "differs on", node.id)
            previous = term
        self._blocks[key] = block

    def left(self, node: View, target: int, message: Any, held: bool) -> None:
        """A message leaves its node; `held`: after a write of it became durable."""
        kind = type(message)
        if kind is Heartbeat or kind is AppendEntries or kind is InstallSnapshot:
            leader = self.leaders.setdefault(message.term, node.id)
            if leader != node.id:
                fail("election safety", "node", node.id, "leads the term of", leader, ":", message)
            # (In one flush a leader may send, then lose its place and what it spoke of.)
            leads = message.term == node.accepted.term
            if kind is AppendEntries and leads and message.prev_index > node.accepted.last:
                fail("log matching", "node", node.id, "appends behind its own log", message)
            if kind is AppendEntries and message.blocks:
                self._sent(node, target, message)
            return
        if kind not in HELD:
            return
        if not held:
            fail("durability", "node", node.id, "sent before the disk had it:", message)
        if kind is RequestVote:
            self._asked(node, message)
        elif kind is RequestVoteReply:
            if message.granted and not message.pre:
                self._voted(node, target, message)
        else:
            durable = node.durable
            require(durable.term >= message.term, "durability", "answers in a term that it may forget", message)
            accepted = getattr(message, "accepted", True) and durable.term == message.term
            if accepted and self.leaders.get(message.term) == target:
                self._acknowledged(node, target, message.term, message.index)

    def _sent(self, node: View, target: int, message: AppendEntries) -> None:
        """Entries leave for a peer: no more are under way than the window allows, and a leader counts what it sends."""
        s = node.machine.state
        progress = s.progress.get(target)
        if progress is None or progress.session != message.session or progress.state == PROBE:
            return  # one append at a time, or its leader lost its place in the same flush
        inflight, options = progress.inflight, s.options
        _, first, count, _ = block_info(message.blocks[-1])
        counted = bool(inflight) and inflight[-1][0] >= first + count - 1
        require(counted, "bounds", "node", node.id, "does not count entries that it sends to", target, message)
        before = sum(size for _, size in inflight) - inflight[-1][1]
        few = len(inflight) <= options.inflight_messages_max and before < options.inflight_bytes_max
        require(few, "bounds", "node", node.id, "has too much under way to node", target, inflight)

    def _asked(self, node: View, message: RequestVote) -> None:
        key, last = (message.term, node.id), (message.last_term, message.last_index)
        if message.pre:
            self.sounded[key] = max(last, self.sounded.get(key, last))
        else:
            self.asked[key] = last
        durable = node.durable
        if not message.pre and durable.term == message.term:
            require(durable.vote == node.id, "durability", "asks for votes without its own", message)
            # (In one flush a candidate may ask, then follow another and truncate what it spoke of.)
            kept = durable.last >= message.last_index or node.accepted.last < message.last_index
            require(kept, "durability", "asks for votes with entries it may lose", message)
        known = durable.term >= message.term - message.pre
        require(known, "durability", "asks for votes of a term it may forget", message)

    def _voted(self, node: View, target: int, message: RequestVoteReply) -> None:
        durable = node.durable
        require(durable.term >= message.term, "durability", "granted a vote that it may forget", message)
        if durable.term == message.term:
            same = durable.vote == target
            require(same, "durability", "granted", target, "but stored a vote for", durable.vote)
        first = self.votes.setdefault((message.term, node.id), target)
        require(first == target, "election safety", "node", node.id, "voted twice in term", message.term, first, target)

    def _acknowledged(self, node: View, leader: int, term: int, index: int) -> None:
        last = node.durable.last
        require(index <= last, "durability", "node", node.id, "acknowledged", index, "with", last, "durable")
        other = self.nodes.get(leader)
        if other is None or not other.up or other.machine.term != term:
            return
        if other.machine.role is LEADER:
            mine, theirs = node.durable.term_of(index), other.accepted.term_of(index)
            same = mine == theirs or -1 in (mine, theirs)
            require(same, "log matching", "acknowledged an entry that differs", index, mine, theirs)

    # -- the state of a machine ---------------------------------------------------------------------------------------

    def state(self, node: View) -> None:
        """Look at a machine after its flush."""
        s, accepted, durable = node.machine.state, node.accepted, node.durable
        last = accepted.base + len(accepted.terms) - 1
        if s.term < node.term_seen:
            fail("monotone", "term falls from", node.term_seen, "to", s.term)
        node.term_seen = s.term
        if accepted.term != s.term:
            fail("durability", "term", s.term, "was never written", accepted.term)
        if last != s.last:
            fail("durability", "log ends at", s.last, "written", last)
        if s.role is LEADER:
            self.leads(node)
            self._matches(node)
        if s.commit != node.commit_seen:
            self._commit(node, s.commit)
            if s.tickets:
                self._owed(s, accepted)
        flushed, commit = s.flushed, s.commit
        if not (s.applied <= commit <= last and s.applied <= flushed):
            fail("positions", "applied", s.applied, "flushed", flushed, "commit", commit, "last", last)
        if flushed > durable.last:
            fail("positions", "flushed", flushed, "durable", durable.last)
        stored, held = durable.term_of(flushed), accepted.term_of(flushed)
        if stored != held and -1 not in (stored, held):
            fail("positions", "flushed entry was rewritten:", flushed)
        if not s.window.base_index <= s.snapshot.index <= commit:
            fail("positions", "purged, snapshot, commit out of order")

    def _owed(self, s: Any, accepted: Stored) -> None:
        """What is committed has ended its ticket, and a batch that shares one is committed as a whole."""
        first, last, term, ticket = s.tickets[-1]
        if s.role is LEADER and term == s.term and last <= s.commit:
            fail("tickets", "what is committed from", first, "on has no end of its ticket", ticket)
        first, last, term, ticket = s.tickets[0]
        if first <= s.commit < last and accepted.term_of(s.commit) == term:
            fail("tickets", "a batch of", first, "to", last, "is committed in part, up to", s.commit)

    def leads(self, node: View) -> None:
        """A leader that is new is the only one of its term, and has all that is committed."""
        s = node.machine.state
        if s.role is LEADER and self.leaders.get(s.term) != node.id:
            self._elected(node, s.term)
            votes = 1 + sum(self.votes.get((s.term, voter)) == node.id for voter in self.nodes if voter != node.id)
            elected = votes >= self.majority
            require(elected, "election safety", "node", node.id, "leads term", s.term, "with", votes, "votes")

    def _elected(self, node: View, term: int) -> int:
        """A node leads a term, or begins it with an entry, which is all that is seen of one that is deposed in the same
        flush. Its id."""
        accepted, other = node.accepted, self.leaders.setdefault(term, node.id)
        require(other == node.id, "election safety", "node", node.id, "and node", other, "both lead term", term)
        for index in range(accepted.base, len(self.committed)):
            complete = accepted.term_of(index) == self.committed[index] or self.committed_by[index] >= term
            require(complete, "leader completeness", "leader", node.id, "lacks committed entry", index)
        return node.id

    def _matches(self, node: View) -> None:
        """What a leader takes for acknowledged is on the peer's disk. A peer with a higher term owes it nothing."""
        accepted, nodes = node.accepted, self.nodes
        base, terms, term = accepted.base, accepted.terms, accepted.term
        for peer, progress in node.machine.state.progress.items():
            other = nodes.get(peer)
            if other is None or other.accepted.term != term:
                continue
            match, durable = progress.match, other.durable
            if match < durable.base or match < base:
                continue
            stored = durable.term_of(match)
            if stored != terms[match - base]:
                fail("log matching", "leader", node.id, "takes", match, "of node", peer, "for what it is not:", stored)

    def _commit(self, node: View, commit: int) -> None:
        """A node knows more to be committed."""
        accepted = node.accepted
        if commit < node.commit_seen:
            fail("monotone", "commit falls from", node.commit_seen, "to", commit)
        fresh = False
        for index in range(max(node.commit_seen + 1, accepted.base), commit + 1):
            term = accepted.term_of(index)
            if index == len(self.committed):
                self.committed.append(term)
                self.committed_by.append(node.machine.state.term)
                fresh = True
            if self.committed[index] != term:
                fail("committed entries", "node", node.id, "committed another entry at", index)
        node.commit_seen = commit
        if fresh and node.machine.role is LEADER and self.committed[commit] != node.machine.term:
            fail("committed entries", "leader", node.id, "committed", commit, "of an earlier term by counting")
        if fresh and len(self.nodes) >= self.majority:
            holders = [each for each in self.nodes.values() if each.durable.term_of(commit) == self.committed[commit]]
            enough = len(holders) >= self.majority
            require(enough, "durability", "entry", commit, "is committed on no durable quorum")

    def applied(self, index: int, term: int, kind: int, payload: bytes) -> None:
        """An entry is applied somewhere."""
        committed = index < len(self.committed) and self.committed[index] == term
        require(committed, "state machine safety", "applied but not committed:", index)
        same = self.entries.get((index, term), (0, kind, payload))[1:3] == (kind, payload)
        require(same, "state machine safety", "applied other bytes", index)

    # -- tickets ------------------------------------------------------------------------------------------------------

    def superseded(self, content: bytes) -> None:
        """Somebody is told that a command, which was tried once, will never be committed: a committed entry must
        have taken its place, or one of a later term come before it."""
        newest = len(self.committed) - 1
        for (index, term), (_, _, payload, _) in self.entries.items():
            if payload.endswith(content):
                gone = self.committed[index] != term if index <= newest else self.committed[newest] > term
                require(gone, "tickets", content, "is said to be superseded, but may be committed at", index)
