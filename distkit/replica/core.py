"""ReplicaCore: a consensus machine, the application, client sessions, reads and snapshots as one room without I/O.

Whoever drives it (a node on real disks, the simulator in virtual time) passes inputs to its doors and calls `flush`.
Duties of the host are those of `distkit.core.machine`, except that the core itself reads the log, applies it, and
tells the machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

from distkit.core import LocalError, Output, Reply, Restore, Role, Space, StateMachine
from distkit.core.limits import ENTRY_BYTES_MAX, INDEX_MAX
from distkit.core.machine import Send
from distkit.raft import Raft
from distkit.raft.messages import InstallSnapshot, Snapshot
from distkit.replica.applier import Applier
from distkit.replica.messages import Propose, ProposeReply
from distkit.replica.proposals import (
    CLOSE_SESSION,
    COMMAND,
    REGISTER,
    SESSION_COMMAND,
    SESSION_ID,
    SESSION_PREFIX,
    Proposals,
)
from distkit.replica.reads import Reads
from distkit.replica.records import LoadSnapshot, ReplicaOptions, ReplicaOutput, ReplicaReply, ReplicaStatus
from distkit.replica.sessions import Sessions
from distkit.replica.snapshots import Snapshots

_U64_MAX = (1 << 64) - 1


class ReplicaCore:
    """One replica. `origin` is a random 64-bit number, new at every start; `sessions` an empty table, which only tests
    give, with limits of their own.

    If `raft.snapshot.index` is not 0, `load` and `restored` come before everything else. Every ticket (a number of the
    host's choice) ends in exactly one reply, unless `cancel` returned True. ApplyError out of `flush`: the replica has
    stopped, and so must the node.
    """

    def __init__(
        self,
        raft: Raft,
        application: StateMachine,
        options: ReplicaOptions | None = None,
        *,
        now: float,
        origin: int,
        sessions: Sessions | None = None,
    ) -> None:
        self._options = options = options or ReplicaOptions()
        options.check()
        self._now = now
        self._touched = True  # as `touched` says; what only the machine was told, it knows itself
        self._connected: set[int] = set()
        self._tickets = count(1)
        self._transfers: dict[int, int] = {}
        self._proposals = Proposals(raft, options, origin, self._connected)
        self._reads = Reads(raft, options)
        self._applier = Applier(application, raft, Sessions() if sessions is None else sessions)
        self._snapshots = Snapshots(raft, options.snapshot)
        self.raft = raft
        self.application = application

    # -- network ---------------------------------------------------------------------------------------------------

    def receive(self, now: float, source: int, message: Any) -> None:
        """A message of a peer arrived. Pieces of snapshots do not come here: the bulk connection has them."""
        self._now = now
        kind = type(message)
        if kind is Propose:
            self._at(now)
            self._proposals.forwarded_here(now, next(self._tickets), source, message)
        elif kind is ProposeReply:
            self._at(now)
            self._proposals.answered(source, message)
        elif kind is InstallSnapshot and self._must_fetch(source, message):
            self._at(now)
            self._snapshots.offered(source, message)
        else:
            self.raft.receive(now, source, message)

    def _must_fetch(self, source: int, message: InstallSnapshot) -> bool:
        """A member leads, as far as one can tell, and offers what this log lacks. The machine judges the rest."""
        raft = self.raft
        is_member = source != raft.node and raft.configuration.member(source) is not None
        return is_member and message.term >= raft.term and raft.wants(message.snapshot)

    def connected(self, now: float, peer: int) -> None:
        """A connection to the peer was made: what is held may be forwarded to it."""
        self._at(now)
        self._connected.add(peer)
        self.raft.connected(now, peer)

    def lost(self, now: float, peer: int, reason: str) -> None:
        """The connection to the peer broke: what was forwarded to it and is not answered ends as lost."""
        self._at(now)
        self._connected.discard(peer)
        self._proposals.lost(peer)
        self.raft.lost(now, peer, reason)

    # -- disk ------------------------------------------------------------------------------------------------------

    def persisted(self, now: float, token: int) -> None:
        """All writes up to the token are durable."""
        self._now = now
        self.raft.persisted(now, token)
        self._snapshots.persisted(token)

    def storage(self, now: float, space: Space) -> None:
        """There is no space for new entries, or there is again."""
        self._now = now
        self.raft.storage(now, space)

    # -- clock -----------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Time has passed."""
        self._at(now)
        self.raft.tick(now)
        self._proposals.tick(now)
        self._snapshots.tick(now, self._applier)

    def deadline(self) -> float:
        """When to call `tick` and `flush` next: at once while there is more to apply."""
        if self._applier.backlog:
            return self._now
        return min(self.raft.deadline(), self._proposals.deadline(), self._reads.deadline(), self._snapshots.deadline())

    def wall(self, now: float, time_us: int) -> None:
        """The wall clock, for the time stamps of entries; at the start and about once a heartbeat."""
        self._now = now
        self.raft.wall(now, time_us)

    # -- verbs -----------------------------------------------------------------------------------------------------

    def propose(
        self, now: float, ticket: int, command: bytes, session: int = 0, sequence: int = 0, lowest: int = 0
    ) -> None:
        """Have a command applied, from any node; `session` 0: at most once, and lost if the way to the leader breaks.

        In a session a retry with the same sequence gets the first answer. Commands of one node keep their order as long
        as one leader takes them.
        """
        self._at(now)
        if type(command) is not bytes or len(command) > ENTRY_BYTES_MAX:
            raise LocalError(f"a command must be bytes, at most {ENTRY_BYTES_MAX} of them")
        if session:
            if not (0 < session <= INDEX_MAX and 0 <= sequence <= _U64_MAX and 0 <= lowest <= sequence):
                raise LocalError(f"session {session}, sequence {sequence}, lowest {lowest} do not fit together")
            command = SESSION_PREFIX.pack(session, sequence, lowest) + command
        self._proposals.add(ticket, SESSION_COMMAND if session else COMMAND, command)

    def register(self, now: float, ticket: int) -> None:
        """Open a session; the result is its id, 8 bytes little-endian."""
        self._at(now)
        self._proposals.add(ticket, REGISTER, b"")

    def close_session(self, now: float, ticket: int, session: int) -> None:
        """End a session and forget its answers."""
        self._at(now)
        if not 0 < session <= INDEX_MAX:
            raise LocalError(f"session {session} is not the id of a session")
        self._proposals.add(ticket, CLOSE_SESSION, SESSION_ID.pack(session))

    def read(self, now: float, ticket: int) -> None:
        """Ask when the application may be queried for a linearizable read; on any node, through elections."""
        self._at(now)
        self._reads.add(ticket)

    def transfer(self, now: float, ticket: int, target: int) -> None:
        """Hand leadership to another node; COMMITTED once it leads."""
        self._at(now)
        number = next(self._tickets)
        self.raft.transfer(now, number, target)
        self._transfers[number] = ticket

    def cancel(self, now: float, ticket: int) -> bool:
        """The caller gave up. True: it was still held here, so nothing will happen and no reply follows. False: it is
        under way; its reply will come and means nothing to anybody."""
        self._at(now)
        return self._proposals.cancel(ticket) or self._reads.cancel(ticket)

    # -- snapshots -------------------------------------------------------------------------------------------------

    def snapshot_saved(self, now: float, snapshot: Snapshot) -> None:
        """The file that SaveSnapshot asked for is durable under its final name."""
        self._at(now)
        self._snapshots.saved(now, snapshot)
        self._snapshots.consider(now, self._applier)  # the log may have filled up meanwhile, and nothing gets in then

    def snapshot_failed(self, now: float) -> None:
        """The file that SaveSnapshot asked for could not be made, for want of space say."""
        self._at(now)
        self._snapshots.save_failed(now)

    def fetched(self, now: float, snapshot: Snapshot) -> None:
        """The file that FetchFrom asked for is checked and durable under its final name."""
        self._at(now)
        self._snapshots.fetched(now, snapshot)

    def fetch_failed(self, now: float, snapshot: Snapshot) -> None:
        """The file that FetchFrom asked for cannot be had."""
        self._at(now)
        self._snapshots.fetch_failed(snapshot)

    def load(self, chunks: Iterable[bytes]) -> None:
        """Replace sessions and application by the chunks of a snapshot file.

        This may take long and may run in another thread: until `restored` no other door uses either of them.
        """
        self._applier.load(iter(chunks))

    def restored(self, now: float, snapshot: Snapshot) -> None:
        """This snapshot was loaded: go on from it."""
        self._at(now)
        self._applier.loaded(snapshot)
        self._snapshots.restored(self._applier)
        if self.raft.applied_index < snapshot.index:
            self.raft.applied(now, snapshot.index)

    def snapshot_asked(self, peer: int, index: int, term: int) -> Snapshot | None:
        """The snapshot that a peer asks for: the newest, or an older one that it is at; None: any other is gone."""
        return self._snapshots.asked(peer, index, term)

    def snapshot_serving(self, now: float, peer: int, snapshot: Snapshot) -> None:
        """A piece of the snapshot was given to the peer."""
        self._at(now)
        self._snapshots.serving(now, peer, snapshot)

    def snapshot_sent(self, now: float, peer: int, ok: bool) -> None:
        """The last piece of a snapshot was given to the peer, or it can't have it."""
        self._at(now)
        self._snapshots.given(now, peer, ok)

    # -- out -------------------------------------------------------------------------------------------------------

    @property
    def touched(self) -> bool:
        """Whether `flush` has something to look at. If not, it gives None and `deadline` is no earlier than it was: the
        host may spare both. Only inputs that mostly change nothing (a write is durable, an acknowledgement came) leave
        it as it was when they did not; what waits for time to pass comes with the tick that `deadline` asks for."""
        return self._touched or self.raft.touched or bool(self._snapshots.work)

    def flush(self, now: float) -> ReplicaOutput | None:
        """Everything caused since the last flush; applies committed entries, as many as the options allow."""
        self._now = now
        self._touched = False
        self._applier.check()
        self._proposals.place(now, self._tickets)
        self._reads.place(now, self._tickets)
        output = self.raft.flush(now)
        role = None
        if output is not None:
            role = self._take(now, output)
        if self._applier.backlog:
            self._apply(now)
        if not self.loading:
            self._reads.applied(self._applier.index)
        return self._output(output, role)

    def _take(self, now: float, output: Output) -> Role | None:
        """Take in what the machine gave; the newest change of role."""
        role = None
        for reply in output.replies:
            self._reply(now, reply)
        self._proposals.settle(now)
        for item in output.delivers:
            if isinstance(item, Role):
                role = item
                self._led(now, item)
                continue
            self._applier.deliver(item)
            if isinstance(item, Restore):
                self._proposals.restored(item.snapshot.index)
                self._snapshots.work.append(LoadSnapshot(item.snapshot))
        self._snapshots.written(output.writes)
        self._snapshots.sent(now, output.sends)
        return role

    def _reply(self, now: float, reply: Reply) -> None:
        """The machine ended one of our tickets."""
        if self._proposals.replied(reply, self._applier.index) or self._reads.replied(now, reply):
            return
        ticket = self._transfers.pop(reply.ticket)
        self._proposals.replies.append(ReplicaReply(ticket, reply.outcome, reason=reply.reason, leader=reply.leader))

    def _led(self, now: float, role: Role) -> None:
        if role.leader:
            self._proposals.leader_known(now, role.leader)
            self._reads.leader_known()

    def _apply(self, now: float) -> None:
        applier, options = self._applier, self._options
        first = applier.index + 1
        answers = applier.run(options.apply_entries_max, options.apply_bytes_max)
        self.raft.applied(now, applier.index)
        self._proposals.applied(first, answers)
        self._snapshots.consider(now, applier)
        self._touched = applier.backlog > 0

    def _output(self, output: Output | None, role: Role | None) -> ReplicaOutput | None:
        proposals, reads, snapshots = self._proposals, self._reads, self._snapshots
        if not (proposals.sends or proposals.replies or reads.replies or snapshots.work):
            return None if output is None else ReplicaOutput(output.sends, output.writes, (), role, ())
        sends: tuple[Send, ...] = ()
        if proposals.sends:
            sends = tuple(proposals.sends)
            proposals.sends.clear()
        replies: tuple[ReplicaReply, ...] = ()
        if proposals.replies or reads.replies:
            replies = (*proposals.replies, *reads.replies)
            proposals.replies.clear()
            reads.replies.clear()
        work = tuple(snapshots.work)
        snapshots.work.clear()
        if output is not None:
            return ReplicaOutput(output.sends + sends, output.writes, replies, role, work)
        return ReplicaOutput(sends, (), replies, None, work)

    def _at(self, now: float) -> None:
        """An input came that the next flush must look at."""
        self._now = now
        self._touched = True

    # -- for people ------------------------------------------------------------------------------------------------

    @property
    def applied_index(self) -> int:
        """Index of the last entry that is applied."""
        return self._applier.index

    @property
    def loading(self) -> bool:
        """A snapshot is to be loaded: the application must not be queried, not even for a stale read."""
        return self._applier.loading is not None

    @property
    def sessions(self) -> Sessions:
        """The session table."""
        return self._applier.sessions

    def status(self) -> ReplicaStatus:
        """Where this replica stands; cheap."""
        proposals, reads, sessions = self._proposals, self._reads, self._applier.sessions
        return ReplicaStatus(
            raft=self.raft.status(),
            applied_index=self._applier.index,
            backlog=self._applier.backlog,
            sessions=len(sessions),
            session_bytes=sessions.bytes,
            proposals=proposals.open,
            proposals_high=proposals.open_high,
            held=proposals.held,
            held_bytes=proposals.held_bytes,
            held_bytes_high=proposals.held_bytes_high,
            forwarded=proposals.forwarded,
            reads=reads.open,
            reads_high=reads.open_high,
            snapshot="loading" if self.loading else self._snapshots.state,
            counters={**proposals.counters, "sessions_evicted": sessions.evicted},
        )

    def digest(self) -> bytes:
        """Hash of the replicated state at `applied_index`: the sessions' and the application's."""
        return self._applier.digest()
