"""Judges a run of replicas: the ledger of Raft, and what is applied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from distkit.core import RoleName, StateMachine, Write
from distkit.raft import Raft
from distkit.raft.messages import AppendEntriesReply, RequestVote, SnapshotMark, Truncate
from distkit.sim.broken import Broken, require
from distkit.sim.clients import untagged
from distkit.sim.raft_ledger import Ledger, Stored

if TYPE_CHECKING:
    from distkit.sim.host import Host
    from distkit.sim.world import World


#: A member of an enumeration by name costs as much as a call.
FOLLOWER, CANDIDATE, LEADER = RoleName.FOLLOWER, RoleName.CANDIDATE, RoleName.LEADER


class _Node:
    """What the ledger sees of a host."""

    def __init__(self, node: int) -> None:
        self.id = node
        self.up = False
        self.machine: Any = None
        self.accepted = Stored()
        self.durable = Stored()
        self.term_seen = self.commit_seen = 0
        self.seen: tuple[Any, ...] = ()
        self.role = (FOLLOWER, 0)  # and term
        self.flight: list[Any] = []  # records of writes that are not durable yet
        self.applied: list[tuple[int, int, bytes, bytes]] = []  # by the flush under way
        self.last_applied = 0  # the last command's index, or that of the snapshot it went on from


class RaftOracle:
    """See the module. `watched` wraps an application, so that everything applied is looked at."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.nodes: dict[int, _Node] = {node: _Node(node) for node in range(1, world.scenario.nodes + 1)}
        self.ledger = Ledger(self.nodes, world.scenario.nodes)
        self.results: dict[int, tuple[bytes, bytes]] = {}  #: index -> (command, its result)
        self.before: dict[int, int] = {}  #: index of a command -> that of the one before it
        self.digests: dict[int, bytes] = {}  #: applied index -> digest of the state
        self._newest = 0  # index of a command
        self.taken: dict[bytes, int] = {}  #: command -> index at which it was applied

    # -- what a host tells --------------------------------------------------------------------------------------------

    def booted(self, host: Host, records: Iterable[Any]) -> None:
        """A node came back: with what it had made durable, and at most some of what was under way besides."""
        node = self.nodes[host.id]
        records = list(records)
        found = Stored.recovered(records)
        if host.boots > 1:
            self._survived(node, found)
            self.ledger.recovered(node, records)
        node.durable, node.accepted, node.flight = found, found.copy(), []
        node.machine = host.guest.raft
        node.up, node.seen = True, ()
        node.role = (FOLLOWER, found.term)
        if host.boots > 1 and found.commit > found.base:
            self.world.marks["a node came back and replayed its log"] += 1
        node.applied.clear()
        node.term_seen, node.commit_seen = found.term, 0
        require(
            node.machine.last_index == found.last,
            "disk",
            "node",
            host.id,
            "recovered a log up to",
            node.machine.last_index,
        )
        require(node.machine.term == found.term, "disk", "node", host.id, "recovered term", node.machine.term)
        vote = node.machine.state.vote
        require(vote == found.vote, "disk", "node", host.id, "recovered a vote for", vote, "instead of", found.vote)
        self.loaded(host, host.guest.machine.applied_index)

    def _survived(self, node: _Node, found: Stored) -> None:
        possible = node.durable.copy()
        agrees = [found.says(possible)]
        for record in node.flight:
            possible.replay(record)
            agrees.append(found.says(possible))
        if any(agrees):
            if not agrees[0]:
                self.world.marks["a part of a write survived a crash"] += 1
            if not agrees[-1]:
                self.world.marks["a part of a write was lost in a crash"] += 1
            return
        seen, held = (found.term, found.vote, found.last), node.durable
        durable = (held.term, held.vote, held.last)
        raise Broken("disk", f"node {node.id} came back with (term, vote, last) {seen}; {durable} was durable")

    def lost_tail(self, host: Host, records: Iterable[Any]) -> bool:
        """Whether a disk that was damaged took the end of the log for torn, though it was durable. Only of what a later
        write or mark has proven can a log tell (`docs/formats.md`): the one thing that damage may take unseen."""
        held, found = self.nodes[host.id].durable, Stored.recovered(records)
        low = max(held.base, found.base)
        kept = found.terms[low - found.base :]
        older = found.term < held.term or (found.term == held.term and found.vote in (held.vote, 0))
        return older and not found.says(held) and held.terms[low - held.base :][: len(kept)] == kept

    def crashed(self, host: Host) -> None:
        node = self.nodes[host.id]
        node.up = False
        if node.role[0] is LEADER:
            last, term = node.accepted.last, node.accepted.terms[-1]
            if all(other.accepted.term_of(last) != term for other in self.nodes.values() if other is not node):
                self.world.marks["a leader died with entries that nobody else had"] += 1

    def flushed(self, host: Host, output: Any) -> None:
        node = self.nodes[host.id]
        self.ledger.leads(node)  # first: what a second leader writes would be called something else
        for write in output.writes:
            self.ledger.wrote(node, write)
            node.flight += write.records
            self._mark(host, write)
        self.seen(host)

    def seen(self, host: Host) -> None:
        node = self.nodes[host.id]
        s = node.machine.state
        seen = (s.term, s.role, s.commit, s.applied, s.flushed, s.window.last, s.snapshot)
        if seen != node.seen:
            node.seen = seen
            self._look(node, s)
        if node.applied:
            for each in node.applied:
                self._applied(node, *each)
            node.applied.clear()

    def _look(self, node: _Node, s: Any) -> None:
        ledger = self.ledger
        committed = len(ledger.committed)
        ledger.state(node)
        if len(ledger.committed) > committed and ledger.committed[committed] != ledger.committed_by[committed]:
            self.world.marks["an entry of an earlier term was committed by one of a later term"] += 1
        if node.role != (s.role, s.term):
            before, node.role = node.role, (s.role, s.term)
            mark = _change(before, node.role)
            if mark:
                self.world.marks[mark] += 1

    def left(self, host: Host, target: int, message: Any, held: bool) -> None:
        self.ledger.left(self.nodes[host.id], target, message, held)

    def superseded(self, content: bytes) -> None:
        """A client, which tried once, is told that this command will never be committed."""
        self.ledger.superseded(content)

    def durable(self, host: Host, done: Iterable[Write]) -> None:
        node = self.nodes[host.id]
        for write in done:
            for record in write.records:
                node.durable.replay(record)
            del node.flight[: len(write.records)]

    # -- what is applied ----------------------------------------------------------------------------------------------

    def watched(self, host: Host, application: StateMachine) -> StateMachine:
        """The application, with everything it applies looked at."""
        # Under its own name in whatever is said about it.
        kind: type[_Watched] = type(type(application).__name__, (_Watched,), {})
        return kind(self.nodes[host.id].applied, application)

    def loaded(self, host: Host, index: int) -> None:
        """A node goes on from a state that was saved."""
        self.nodes[host.id].last_applied = index
        self.stands(host, index)

    def stands(self, host: Host, index: int) -> None:
        """All of a state, also what no result shows, is equal wherever this index was the last that was applied."""
        digest = host.guest.machine.digest()
        same = self.digests.setdefault(index, digest) == digest
        require(same, "state machine safety", "states differ: that of node", host.id, "from others at", index)

    def _applied(self, node: _Node, index: int, term: int, command: bytes, result: bytes) -> None:
        """State machine safety: in order, none left out; and no operation takes effect twice."""
        rule = "state machine safety"
        known = self.results.get(index)
        if known is None:
            self._first(index, term, command)
            self.results[index] = (command, result)
            before = self.taken.setdefault(command, index)
            require(before == index, "at most once", command, "is applied at", before, "and at", index)
            self.world.clients.applied(index, command, result)
        else:
            require(known == (command, result), rule, "at", index, known, "elsewhere, here", command, result)
        dense = self.before[index] <= node.last_applied < index
        require(dense, rule, "node", node.id, "applied", index, "after", node.last_applied, "not", self.before[index])
        node.last_applied = index

    def _first(self, index: int, term: int, command: bytes) -> None:
        """A command is applied for the first time anywhere."""
        ledger, rule = self.ledger, "state machine safety"
        committed = index < len(ledger.committed) and ledger.committed[index] == term
        require(committed, rule, "applied but not committed:", index)
        known = ledger.entries.get((index, term))
        require(known is None or known[2].endswith(command), rule, "applied what is not in the log at", index)
        require(index > self._newest, rule, "applied", index, "though none did before", self._newest)
        self.before[index], self._newest = self._newest, index

    # -- the end ------------------------------------------------------------------------------------------------------

    def leader(self) -> int:
        """The leader of the highest term, 0: none."""
        leading = [
            (node.machine.term, node.id) for node in self.nodes.values() if node.up and node.machine.role is LEADER
        ]
        return max(leading, default=(0, 0))[1]

    def led(self, host: Host) -> bool:
        """Whether the node leads some term, as far as it knows."""
        return self.nodes[host.id].role[0] is LEADER

    def settled(self) -> str:
        """Why the group is not at rest; "" if it is: one leader, equal logs and states, nobody is owed anything."""
        up = [host for host in self.world.hosts.values() if host.up]
        leader = self.leader()
        if not leader:
            return "there is no leader"
        for host in up:
            raft: Raft = host.guest.raft
            mine = self.world.hosts[leader].guest.raft
            if raft.leader != leader or raft.term != mine.term:
                return f"node {host.id} does not follow node {leader}"
            if (raft.last_index, raft.commit_index, raft.applied_index) != (mine.last_index,) * 3:
                return f"node {host.id} is at {raft.applied_index} of {raft.commit_index} of {mine.last_index}"
            status = host.machine.status()
            if status.proposals or status.reads:
                return f"node {host.id} owes answers to {status.proposals} proposals and {status.reads} reads"
        return ""

    def finish(self) -> None:
        """After the heal: states are equal."""
        up = [host for host in self.world.hosts.values() if host.up]
        for host in up:
            host.guest.bounded()
        self.world.workload.settled([host.guest.application for host in up])
        states = {host.guest.machine.digest() for host in up}
        require(len(states) == 1, "state machine safety", "states differ after everything healed")

    def _mark(self, host: Host, write: Write) -> None:
        marks = self.world.marks
        for record in write.records:
            if type(record) is Truncate:
                marks["a conflicting suffix was truncated"] += 1
            elif type(record) is SnapshotMark and record.reset:
                marks["a log was replaced by a snapshot"] += 1
        for _, message in write.then:
            if type(message) is AppendEntriesReply and not message.accepted:
                marks["an append was refused"] += 1
                leader = self.leader()
                if leader and message.term > self.nodes[leader].machine.term:
                    marks["a node of a later term answered an old leader"] += 1
            elif type(message) is RequestVote and not message.pre:
                marks["an election was held"] += 1


def _change(before: tuple[RoleName, int], now: tuple[RoleName, int]) -> str:
    """The mark of a change of (role, term)."""
    if before[0] is LEADER and now[0] is not LEADER:
        return "a leader was deposed" if now[1] > before[1] else "a leader heard no quorum and stepped down"
    if before[0] is CANDIDATE and now[0] is not LEADER and now[1] >= before[1]:
        return "an election was lost"
    return ""


class _Watched(StateMachine):
    """An application whose results are compared with those of the other nodes."""

    def __init__(self, applied: list[tuple[int, int, bytes, bytes]], application: StateMachine) -> None:
        self._applied = applied
        self._application = application
        # As it is, so that it is refused where an application's own would be.
        self.snapshot = application.snapshot  # type: ignore[method-assign]

    def apply(self, index: int, term: int, time_us: int, command: bytes) -> bytes:
        result = self._application.apply(index, term, time_us, untagged(command))
        self._applied.append((index, term, command, result))
        return result

    def snapshot(self) -> Iterator[bytes]:
        raise NotImplementedError

    def restore(self, chunks: Iterable[bytes]) -> None:
        self._application.restore(chunks)

    def digest(self) -> bytes:
        return self._application.digest()
