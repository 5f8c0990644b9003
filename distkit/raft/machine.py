"""Raft as one machine: the doors, the rule of terms, and the flush. What happens behind them is in the other modules.

    election     votes and campaigns            proposals   commands, tickets, blocks
    replication  the leader's side              reads       read index
    follower     the follower's side            durable     writes, completions, recovery
    roles        changes of role                state       the record they all work on

Sources: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (extended version); Ongaro's
thesis; etcd-io/raft for PreVote, CheckQuorum, progress and read index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from distkit._fast import codec
from distkit._fast.logbuf import Window
from distkit.core import Configuration, LocalError, Output, Reason, Role, RoleName, Space, Span
from distkit.core.limits import INDEX_MAX, TERM_JUMP_MAX
from distkit.raft import durable, election, follower, proposals, reads, replication, tracing
from distkit.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    InstallSnapshotReply,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
    Snapshot,
    TimeoutNow,
)
from distkit.raft.options import RaftOptions
from distkit.raft.roles import EVIDENCE_ATTEMPTS, become_follower, draw_election_deadline, forget_leader, trace
from distkit.raft.state import FOLLOWER, LEADER, State, Trace, Transfer
from distkit.raft.status import RaftStatus

if TYPE_CHECKING:
    from random import Random

Handler = Callable[[State, float, int, Any], None]

HANDLERS: dict[type, Handler] = {
    AppendEntries: follower.on_append,
    AppendEntriesReply: replication.on_append_reply,
    Heartbeat: follower.on_heartbeat,
    HeartbeatReply: replication.on_heartbeat_reply,
    RequestVote: election.on_request_vote,
    RequestVoteReply: election.on_request_vote_reply,
    TimeoutNow: election.on_timeout_now,
    ReadIndex: reads.on_read_index,
    ReadIndexReply: reads.on_read_index_reply,
    InstallSnapshot: follower.on_install_snapshot,
    InstallSnapshotReply: replication.on_snapshot_reply,
}

#: Only a leader sends these, so a higher term in one names the leader of that term.
FROM_LEADER = frozenset((AppendEntries, Heartbeat, InstallSnapshot))


#: A node that lost its disk is another member: its votes and acknowledgements count for nothing.
WITH_INCARNATION = frozenset((RequestVote, RequestVoteReply, AppendEntriesReply, HeartbeatReply, InstallSnapshotReply))

#: Handlers of these say themselves whether they leave something to the next flush: most acknowledgements do not.
QUIET = frozenset((AppendEntriesReply,))

#: Well-formed messages that contradict themselves are refused before their term is looked at.
SENSIBLE: dict[type, Callable[[Any], bool]] = {
    AppendEntries: follower.sensible_append,
    InstallSnapshot: follower.sensible_snapshot,
}


def recover(
    records: Iterable[Any],
    *,
    node: int,
    incarnation: int,
    random: Random,
    now: float,
    options: RaftOptions | None = None,
    trace: Trace | None = None,
) -> Raft:
    """The machine that the durable `records` (types of `messages.RECORDS`, in order) amount to.

    Raises StorageError if the records have a hole, LocalError if `node` is another member than the records know.
    """
    state = State(node, incarnation, options or RaftOptions(), random, now, durable.fold(records), trace)
    member = state.configuration.member(node)
    if member is not None and member.incarnation != incarnation:
        raise LocalError(
            f"node {node} is a member with incarnation {member.incarnation:016x}, not {incarnation:016x}: "
            "a wiped node must be replaced, it can't come back under its old id"
        )
    state.evidence = EVIDENCE_ATTEMPTS  # no leader is known: be quick to ask; stickiness protects one that lives
    draw_election_deadline(state, now)
    tracing.started(state)
    return Raft(state)


class Raft:
    """One node. Drive it as `distkit.core.machine` says; make it with `recover`."""

    def __init__(self, state: State) -> None:
        self.state = state

    # -- network ------------------------------------------------------------------------------------------------------

    def receive(self, now: float, source: int, message: Any) -> None:
        """A well-typed message of a peer. Stale, absurd and unknown ones are counted and change nothing."""
        s = self._quiet_at(now)
        if s.trace is not None:
            tracing.received(s, source, message)
        kind = type(message)
        handler = HANDLERS.get(kind)
        if handler is None:
            raise LocalError(f"Raft takes no {kind.__name__}")
        if source not in s.incarnations or source == s.node:
            s.count("unknown_member")
            return
        if kind in WITH_INCARNATION and message.incarnation != s.incarnations[source]:
            s.count("wrong_incarnation")
            return
        if kind in SENSIBLE and not SENSIBLE[kind](message):
            s.count("nonsense")
            return
        if message.term != s.term or kind not in QUIET:
            s.touched = True
        if message.term != s.term and not self._rule_of_terms(s, now, source, message):
            return
        handler(s, now, source, message)

    def connected(self, now: float, peer: int) -> None:
        """A connection to the peer was made."""
        replication.peer_connected(self._at(now), peer)

    def lost(self, now: float, peer: int, reason: str) -> None:
        """The connection broke. "reset" of the leader is evidence that it died: campaign soon, rather than wait for
        the timeout. Others grant only once they lost it too."""
        s = self._at(now)
        replication.peer_lost(s, peer)
        if reason == "reset" and s.role is FOLLOWER and s.leader == peer:
            forget_leader(s, now)

    # -- disk ---------------------------------------------------------------------------------------------------------

    def persisted(self, now: float, token: int) -> None:
        """All writes up to `token` are durable. Repeats are harmless."""
        s = self._quiet_at(now)
        durable.persisted(s, now, token)
        if s.own_vote or s.role is not s.announced[0] or s.delivers or _deliverable(s):
            s.touched = True

    def storage(self, now: float, space: Space) -> None:
        """FULL: as leader refuse proposals, as follower take no entries but empty ones; votes and reads go on."""
        self._at(now).space = space

    # -- clock --------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Do what is due."""
        s = self._at(now)
        if s.role is LEADER:
            if now >= s.quorum_deadline:
                replication.check_quorum(s, now)
        elif now >= s.election_deadline:
            election.campaign(s, now)
        if s.role is LEADER:
            if now >= s.heartbeat_deadline:
                replication.heartbeat(s, now)
            if now >= s.notice_deadline:
                replication.notice_commit(s)
        elif s.reads_round and now >= s.reads_resend:
            reads.ask(s, now)
        if s.transfer is not None and now >= s.transfer.deadline:
            s.refuse(s.transfer.ticket, Reason.TRANSFER)
            s.transfer = None

    def deadline(self) -> float:
        """When `tick` has something to do."""
        s = self.state
        if s.role is LEADER:
            if s.applied >= s.term_start and not s.announced[3]:
                return s.now  # the host has applied what makes us ready: tell it
            due = min(s.heartbeat_deadline, s.quorum_deadline, s.notice_deadline)
        else:
            due = s.election_deadline
            if s.reads_round:
                due = min(due, s.reads_resend)
        if s.transfer is not None:
            due = min(due, s.transfer.deadline)
        return due

    def wall(self, now: float, time_us: int) -> None:
        """The wall clock, for the time stamps of blocks; extrapolated with `now` until the next call."""
        s = self._quiet_at(now)
        s.wall_us = min(max(time_us, 0), INDEX_MAX)
        s.wall_now = now

    # -- application --------------------------------------------------------------------------------------------------

    def propose(
        self, now: float, ticket: int, commands: Sequence[bytes], term: int | None = None, kinds: bytes | None = None
    ) -> None:
        """Append the commands as contiguous entries, all or nothing.

        Ends in COMMITTED (first..index), REFUSED (not leader, busy, full, fenced if `term` is not the current one,
        transfer), SUPERSEDED, or LOST (a snapshot covers them). LocalError: none, or more than one block holds.
        """
        proposals.propose(self._at(now), ticket, commands, term, kinds)

    def read(self, now: float, ticket: int) -> None:
        """Ask for a read position. Ends in READABLE (serve once `index` is applied) or REFUSED; works on followers."""
        reads.read(self._at(now), ticket)

    def campaign(self, now: float) -> None:
        """Start an election now, with a pre-vote; nothing on a leader."""
        s = self._at(now)
        if s.role is not LEADER:
            election.campaign(s, now)

    def transfer(self, now: float, ticket: int, target: int) -> None:
        """Hand leadership to `target`. Proposals are refused meanwhile. Ends in COMMITTED once it leads, or in REFUSED
        after an election timeout. A request for another target replaces this one."""
        s = self._at(now)
        if s.role is not LEADER:
            s.refuse(ticket, Reason.NOT_LEADER)
            return
        if target not in s.progress:
            raise LocalError(f"node {target} is not another voter of this cluster ({', '.join(map(str, s.voters))})")
        if s.transfer is not None:
            same = s.transfer.target == target
            s.refuse(ticket if same else s.transfer.ticket, Reason.TRANSFER)
            if same:
                return
        s.transfer = Transfer(ticket, target, now + s.options.election_timeout)

    def applied(self, now: float, index: int) -> None:
        """Spans and snapshots up to `index` are applied."""
        s = self._quiet_at(now)
        if not s.applied <= index <= s.delivered:
            raise LocalError(f"applied index {index} is not between {s.applied} and {s.delivered}, what was delivered")
        proposals.applied(s, index)
        if s.restoring and index >= s.snapshot.index:
            s.restoring = False
            s.touched = True
        if s.role is LEADER and not s.announced[3]:
            s.touched = True  # we may be ready now

    def compact(self, now: float, index: int, snapshot: Snapshot) -> None:
        """A snapshot file of the state at `index` is durable: record it and forget what lies well below it."""
        s = self._at(now)
        if snapshot.index != index or index > s.applied or s.restoring:
            raise LocalError(f"a snapshot at {snapshot.index} can't be taken at {index} with {s.applied} applied")
        if index <= s.snapshot.index:
            raise LocalError(f"a snapshot at {index} is not newer than the one at {s.snapshot.index}")
        s.snapshot = s.compacted = snapshot
        window = s.window
        # A peer that is being given an older snapshot goes on behind that one: else it would need another at once.
        given = [each.pending_snapshot for each in s.progress.values() if each.pending_snapshot]
        window.compact(max(window.base_index, min([index - s.options.keep_entries, *given])))
        if self.log_presses:
            window.compact(index)
        trace(s, "Compact")

    def wants(self, snapshot: Snapshot) -> bool:
        """Whether an InstallSnapshot of it would replace the log, so that its file must be fetched first."""
        return follower.wants(self.state, snapshot)

    def snapshot_sent(self, now: float, peer: int, ok: bool) -> None:
        """The transfer of a snapshot to the peer ended."""
        replication.snapshot_sent(self._at(now), peer, ok)

    # -- out ----------------------------------------------------------------------------------------------------------

    def flush(self, now: float) -> Output | None:
        """Everything caused since the last flush."""
        s = self._quiet_at(now)
        if not s.touched:
            return None
        s.touched = False
        if s.role is LEADER:
            proposals.seal(s)
            if s.reads_waiting or s.reads_round:
                reads.confirm(s)
                reads.start_round(s, now)
            replication.replicate(s)
        elif s.reads_waiting:
            reads.start_round(s, now)
        _deliver(s)
        write = durable.collect_write(s)
        if write is None and not (s.sends or s.delivers or s.replies):
            return None
        output = Output(tuple(s.sends), () if write is None else (write,), tuple(s.delivers), tuple(s.replies))
        s.sends.clear()
        s.delivers.clear()
        s.replies.clear()
        if s.trace is not None:
            tracing.flushed(s, output)
        return output

    def status(self) -> RaftStatus:
        """Where this node stands; cheap."""
        return RaftStatus.of(self.state)

    def digest(self) -> bytes:
        """Hash of the durable state and the positions; without counters, timers and queues."""
        s = self.state
        numbers = (
            s.term,
            s.vote,
            s.role,
            s.leader,
            s.commit,
            s.applied,
            s.flushed,
            s.snapshot.index,
            s.window.digest(),
        )
        data = b"".join(int(number).to_bytes(8, "little") for number in numbers)
        return codec.crc32c(data).to_bytes(4, "little")

    def image(self) -> tuple[Any, ...]:
        """Records that `recover` turns into this state."""
        return durable.image(self.state)

    # -- for hosts ----------------------------------------------------------------------------------------------------

    @property
    def touched(self) -> bool:
        """Whether `flush` has something to look at; if not, it gives None and `deadline` is no earlier than it was."""
        return self.state.touched

    @property
    def window(self) -> Window:
        """The log in memory; hosts read committed entries from it and change nothing."""
        return self.state.window

    @property
    def log_presses(self) -> bool:
        """The log in memory takes more than half of `log_bytes_max`: time for a snapshot, before proposals are Busy."""
        return self.state.window.bytes > self.state.options.log_bytes_max // 2

    @property
    def node(self) -> int:
        """Id of this node."""
        return self.state.node

    @property
    def term(self) -> int:
        """Current term."""
        return self.state.term

    @property
    def role(self) -> RoleName:
        """Current role."""
        return self.state.role

    @property
    def leader(self) -> int:
        """Known leader of the term, 0 if none."""
        return self.state.leader

    @property
    def commit_index(self) -> int:
        """Highest index known to be committed."""
        return self.state.commit

    @property
    def applied_index(self) -> int:
        """Highest index that the host reported as applied."""
        return self.state.applied

    @property
    def flushed_index(self) -> int:
        """Highest index whose entry is durable here."""
        return self.state.flushed

    @property
    def last_index(self) -> int:
        """Index of the last entry, those of the next flush included."""
        return self.state.last

    @property
    def configuration(self) -> Configuration:
        """The configuration in force."""
        return self.state.configuration

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot."""
        return self.state.snapshot

    # -- inside -------------------------------------------------------------------------------------------------------

    def _at(self, now: float) -> State:
        """The state at the time of an input that the next flush must look at."""
        s = self.state
        if not now >= s.now:
            raise _time_went_back(s, now)
        s.now = now
        s.touched = True
        return s

    def _quiet_at(self, now: float) -> State:
        """The state at the time of an input that may well have caused nothing."""
        s = self.state
        if not now >= s.now:
            raise _time_went_back(s, now)
        s.now = now
        return s

    def _rule_of_terms(self, s: State, now: float, source: int, message: Any) -> bool:
        """Paper 5.1 for a message of another term; whether its handler may see it."""
        kind = type(message)
        term: int = message.term
        if term > s.term:
            if term > INDEX_MAX or term > s.term + TERM_JUMP_MAX:
                s.count("term_jump")
                return False
            if kind is RequestVote:
                if election.sticky(s, now, message):
                    s.count("sticky")
                    return False
                if message.pre:
                    return True
            if kind is RequestVoteReply and message.pre and message.granted:
                return True
            become_follower(s, now, term, source if kind in FROM_LEADER else 0)
            return True
        if kind in FROM_LEADER:
            # A leader of an old term: tell it of ours, or it would never step down (etcd's stuck-node cure).
            reply = AppendEntriesReply(s.term, message.session, s.incarnation, False, 0, 0, 0, follower.credit(s))
            s.then.append((source, reply))
            s.count("stale")
            return False
        if kind is RequestVote:
            return True  # refused by the handler, with our term
        s.count("stale")
        return False


def _time_went_back(s: State, now: float) -> LocalError:
    return LocalError(f"time went back, or is not a number: {now!r} after {s.now!r}")


def _deliver(s: State) -> None:
    """Committed and durable entries, and a change of role if there is one to tell."""
    ready = s.role is LEADER and s.applied >= s.term_start
    announce = (s.role, s.term, s.leader, ready)
    if announce != s.announced:
        s.announced = announce
        s.delivers.append(Role(*announce))
    if _deliverable(s):
        target = min(s.commit, s.flushed)
        s.delivers.append(Span(s.delivered, target))
        s.delivered = target


def _deliverable(s: State) -> bool:
    """Whether entries are committed, durable here, and not handed to the host yet."""
    return s.commit > s.delivered < s.flushed and not s.restoring
