"""What an application embeds: a replicated state machine in a trio program."""

from __future__ import annotations

import itertools
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import SystemRandom
from typing import Any, Generic, TypeVar

import trio

from distkit.core import (
    Busy,
    Clock,
    Files,
    IdentityError,
    LocalError,
    Outcome,
    OutcomeUnknown,
    Reason,
    Role,
    RoleName,
    StateMachine,
    record,
)
from distkit.core.ids import check_members
from distkit.node.clock import SystemClock
from distkit.node.corridor import Corridor
from distkit.node.options import NodeOptions
from distkit.node.outcomes import PASSING, error_of, only_cause, result_of
from distkit.node.session import Session
from distkit.node.snapshots import SnapshotFiles
from distkit.node.startup import Directory
from distkit.replica import ReplicaCore, ReplicaReply, ReplicaStatus, registry
from distkit.storage import LogWorker
from distkit.transport import (
    MESSAGES as TRANSPORT_MESSAGES,
)
from distkit.transport import (
    Bulk,
    Credentials,
    Hello,
    Link,
    Network,
    Refusal,
    RefusalCode,
    Transport,
    TransportStatus,
    check_addresses,
)

M = TypeVar("M", bound=StateMachine)
T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Pause before a proposal that no leader took is tried again.
RETRY_PAUSE = 0.05
#: Seconds between the lines that name the members which have not been seen, while a cluster forms.
FORMING_LINE = 1.0


@record
class NodeStatus:
    """A node in numbers: its replica, its transport, the log of its disk.

    `loop_gap_max` is the longest time in seconds that due work had to wait for the event loop: when it nears the
    election timeout, something else in this program blocks the loop.
    """

    node: int
    cluster: int
    incarnation: int
    boot: int
    address: str
    replica: ReplicaStatus
    transport: TransportStatus
    log: Any
    loop_gap_max: float


#: Makes a node's way to its peers. It is given the replica, which wants to know what happens (as a
#: `distkit.transport.Host`), and what tells who this node is at the moment.
MakeNetwork = Callable[["Replica[Any]", Callable[[], Hello]], Network]


class Replica(Generic[M]):
    """A member of a cluster. Made by `open_replica`; all methods belong to the trio thread."""

    def __init__(
        self,
        machine: M,
        node: int,
        members: Mapping[int, str],
        data: str | Path | Files,
        listen: str,
        credentials: Credentials,
        options: NodeOptions,
        clock: Clock,
        network: MakeNetwork | None,
    ) -> None:
        self.machine = machine
        self.node = node
        self._members = dict(members)
        self._clock = clock
        self._options = options
        self._directory = Directory(data, node, members, options)
        hello = self._directory.hello
        self._transport: Network = (
            Transport(registry(TRANSPORT_MESSAGES), hello, credentials, self, SystemRandom(), options.transport)
            if network is None
            else network(self, hello)
        )
        self._listen = listen
        self._corridor: Corridor | None = None
        self._snapshots: SnapshotFiles | None = None
        self._worker: LogWorker | None = None
        self._connected: set[int] = set()
        self._seen = trio.Event()  #: somebody said hello while the cluster forms
        self._fatal: IdentityError | None = None
        self._failure: BaseException | None = None
        self._tickets = itertools.count(1)
        self._role = Role(RoleName.FOLLOWER, 0, 0, False)
        self._role_changed = trio.Event()
        self.address = ""

    # -- proposals and reads ------------------------------------------------------------------------------------------

    async def propose(self, command: bytes) -> bytes:
        """Replicate a command and return what `apply` answered; from any node.

        Waits while there is no leader; the deadline is the caller's cancel scope. A cancelled proposal may still be
        applied. Raises Busy, Full, Superseded, OutcomeUnknown ...: see `distkit.core.errors`. It is tried again only
        after an answer that says it entered no log.
        """
        while True:
            reply = await self.ask(lambda core, now, ticket: core.propose(now, ticket, command))
            if reply.outcome is Outcome.REFUSED and reply.reason in PASSING:
                await trio.sleep(RETRY_PAUSE)
                continue
            return result_of(reply)

    async def read(self, query: Callable[[M], T], *, stale: bool = False) -> T:
        """Call `query` with the machine in a state that holds every write acknowledged before this call.

        Linearizable by read index, on any node. `stale` answers from this node's state at once, however old it is.
        `query` runs in the event loop: it must be quick and must not change anything.
        """
        core = self._open().core
        if stale:
            if core.loading:
                raise Busy("a snapshot is being loaded: try again")
            return query(self.machine)
        answers: list[T] = []
        reply = await self.ask(
            lambda core, now, ticket: core.read(now, ticket), lambda: answers.append(query(self.machine))
        )
        if not answers:
            raise error_of(reply) or OutcomeUnknown("the read was not answered")
        return answers[0]

    def session(self) -> Session:
        """A client session: its commands are applied exactly once, however often they are retried. Use `async with`."""
        return Session(self)

    def propose_soon(
        self, command: bytes, done: Callable[[ReplicaReply], None], session: int = 0, sequence: int = 0, lowest: int = 0
    ) -> int:
        """Queue a command for the next turn and return its ticket; `done` is called once with the reply, later.

        For servers: no task and no wait for each request. Call `flush` after a bunch of them; without it they wait for
        the next turn that anything else causes.
        """
        corridor = self._open()
        ticket = next(self._tickets)
        corridor.tickets[ticket] = done
        try:
            corridor.core.propose(self._now(), ticket, command, session, sequence, lowest)
        except LocalError:
            del corridor.tickets[ticket]
            raise
        corridor.asked()
        return ticket

    def read_soon(self, done: Callable[[ReplicaReply], None]) -> int:
        """Queue a linearizable read; when `done` is called with READABLE, query the machine right there."""
        corridor = self._open()
        ticket = next(self._tickets)
        corridor.tickets[ticket] = done
        corridor.core.read(self._now(), ticket)
        corridor.asked()
        return ticket

    def cancel(self, ticket: int) -> bool:
        """Forget a ticket: `done` is not called any more. True: it had not left this node, so nothing will happen."""
        corridor = self._open()
        corridor.tickets.pop(ticket, None)
        return corridor.core.cancel(self._now(), ticket)

    def flush(self) -> None:
        """Let everything that was queued go out now, as one batch."""
        self._open().turn()

    @property
    def after_turn(self) -> Callable[[], None]:
        """Called at the end of each turn, when `done` callbacks have had their replies: the place to write answers."""
        return self._open().after_turn

    @after_turn.setter
    def after_turn(self, function: Callable[[], None]) -> None:
        self._open().after_turn = function

    # -- leadership and status ----------------------------------------------------------------------------------------

    @property
    def role(self) -> RoleName:
        """Role of this node."""
        return self._role.role

    @property
    def term(self) -> int:
        """Current term."""
        return self._role.term

    @property
    def leader(self) -> int:
        """The leader as this node knows it, 0 for none."""
        return self._role.leader

    @property
    def is_ready(self) -> bool:
        """This node leads and has applied an entry of its term, so its state is up to date."""
        return self._role.ready

    async def wait_leader(self) -> int:
        """Wait until a leader is known, and return it."""
        while self._role.leader == 0:
            await self._role_changed.wait()
        return self._role.leader

    async def wait_ready(self) -> int:
        """Wait until this node leads with an up-to-date state, and return the term."""
        while not self._role.ready:
            await self._role_changed.wait()
        return self._role.term

    @property
    def leadership(self) -> Role:
        """Role, term, leader and readiness in one record, as `wait_change` compares it."""
        return self._role

    async def wait_change(self, seen: Role) -> Role:
        """Wait until `leadership` is another than what the caller has seen, and return it. No change is missed."""
        while self._role == seen:
            await self._role_changed.wait()
        return self._role

    @property
    def failure(self) -> BaseException | None:
        """Why this node stopped taking part, None while it does or after a clean end."""
        return self._failure

    async def transfer(self, target: int) -> None:
        """Hand leadership to another member. Refused if this node does not lead, or if it took too long."""
        result_of(await self.ask(lambda core, now, ticket: core.transfer(now, ticket, target)))

    def status(self) -> NodeStatus:
        """Where this node stands; cheap."""
        corridor = self._open()
        identity = self._directory.identity
        assert self._worker is not None
        return NodeStatus(
            self.node,
            self._directory.cluster,
            identity.incarnation,
            identity.boot,
            self.address,
            corridor.core.status(),
            self._transport.status(),
            self._worker.stats,
            corridor.loop_gap_max,
        )

    # -- what the transport tells (distkit.transport.Host) -------------------------------------------------------------

    def judge(self, hello: Hello) -> Refusal | None:
        """Refuse nodes of another cluster and wiped members."""
        refusal = self._directory.judge(hello)
        self._fatal = self._fatal or self._directory.rejected
        self._seen.set()
        return refusal

    def on_hello(self, hello: Hello) -> None:
        """A peer is there: the cluster may be complete now."""
        self._seen.set()

    def on_connected(self, node: int) -> None:
        """The peer can be reached."""
        self._connected.add(node)
        if self._corridor is not None:
            self._corridor.core.connected(self._now(), node)
            self._corridor.turn()

    def on_message(self, node: int, group: int, message: Any, link: Link | None = None) -> None:
        """A message of a peer; before the cluster is formed there is nobody to take it."""
        if self._corridor is not None:
            self._corridor.core.receive(self._now(), node, message)

    def on_drained(self) -> None:
        """What was read is taken: one turn for all of it."""
        if self._corridor is not None:
            self._corridor.turn()

    def on_lost(self, node: int, reason: str) -> None:
        """A connection to the peer broke."""
        if not self._transport.connected(node):
            self._connected.discard(node)
        if self._corridor is not None:
            self._corridor.core.lost(self._now(), node, reason)
            if node in self._connected:  # it was the link by which the node called us; ours to it stands
                self._corridor.core.connected(self._now(), node)
            self._corridor.turn()
        elif self._directory.formation is not None:
            self._directory.formation.lost(node)

    def on_refused(self, node: int, refusal: Refusal, by_peer: bool, authenticated: bool) -> None:
        """A handshake was refused. If a member says that this node was wiped, it must not go on."""
        log = logger.warning if authenticated else logger.info
        log("node %d: handshake with node %d refused%s: %s", self.node, node, " by it" if by_peer else "", refusal.text)
        if by_peer and authenticated and refusal.code == RefusalCode.WIPED_MEMBER:
            self._fatal = self._fatal or IdentityError(refusal.text)
            self._seen.set()
            if self._corridor is not None:
                self._corridor.fail(self._fatal)

    async def on_bulk(self, hello: Hello, stream: Bulk) -> None:
        """A peer fetches a snapshot."""
        if self._snapshots is not None:
            await self._snapshots.serve(hello, stream)

    # -- life ----------------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Recover or form, then take part until cancelled. `open_replica` runs this."""
        try:
            core = self._directory.recover(self.machine, self._now())
            self.address = self._transport.bind(self._listen)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._transport.serve, self._members)
                if core is None:
                    core = await self._form()
                await self._take_part(core, nursery, task_status)
        except Exception as error:
            self._failure = only_cause(error)
            logger.error("node %d stops: %s", self.node, self._failure)
            raise
        finally:
            await self._close()

    async def _form(self) -> ReplicaCore:
        """Wait until every member has said hello."""
        directory = self._directory
        line_due = self._now() + FORMING_LINE
        while True:
            if self._fatal is not None:
                raise self._fatal
            formed = directory.formed()
            if formed is not None:
                return directory.form(formed, self.machine, self._now())
            self._seen = trio.Event()
            with trio.move_on_after(max(0.0, line_due - self._now())):
                await self._seen.wait()
            if self._now() >= line_due:
                line_due = self._now() + FORMING_LINE
                missing = ", ".join(f"{node} at {self._members[node]}" for node in directory.missing())
                logger.warning("node %d: the cluster is not formed yet, not seen so far: %s", self.node, missing)

    async def _take_part(self, core: ReplicaCore, nursery: trio.Nursery, task_status: trio.TaskStatus[None]) -> None:
        wal = self._directory.wal
        assert wal is not None
        corridor = Corridor(core, self._clock, self._transport, self._on_role, self._on_snapshot)
        worker = LogWorker(wal, corridor.durable, corridor.disk_failed, corridor.space)
        corridor.use_log(worker)
        worker.start()
        self._worker = worker
        self._snapshots = SnapshotFiles(
            core, self._directory, worker, self._transport, self._clock, corridor.turn, nursery
        )
        core.wall(self._now(), self._clock.time_us())
        for node in sorted(self._connected):
            core.connected(self._now(), node)
        self._corridor = corridor
        nursery.start_soon(corridor.pace)
        task_status.started()
        await corridor.failed.wait()
        assert corridor.failure is not None
        raise corridor.failure

    async def _close(self) -> None:
        corridor = self._corridor
        try:
            if corridor is not None:
                corridor.fail(OutcomeUnknown("the node was stopped"))
                tickets, corridor.tickets = corridor.tickets, {}
                for ticket, done in tickets.items():
                    done(ReplicaReply(ticket, Outcome.LOST, reason=Reason.STOPPED))
        finally:
            if self._worker is not None:
                with trio.CancelScope(shield=True):
                    await self._worker.aclose()
            elif self._directory.wal is not None:
                self._directory.wal.close()
            self._directory.close()

    def _on_role(self, role: Role) -> None:
        self._role = role
        logger.info(
            "node %d: %s of term %d, leader %s%s",
            self.node,
            role.role.name.lower(),
            role.term,
            role.leader or "unknown",
            ", ready" if role.ready else "",
        )
        changed, self._role_changed = self._role_changed, trio.Event()
        changed.set()

    def _on_snapshot(self, work: Any) -> None:
        assert self._snapshots is not None
        self._snapshots.take(work)

    def _open(self) -> Corridor:
        if self._corridor is None:
            raise LocalError("the replica is not open: use it inside `async with open_replica(...)`")
        if self._corridor.failure is not None:
            raise LocalError(f"the replica has stopped: {self._corridor.failure}")
        return self._corridor

    def _now(self) -> float:
        return self._clock.now()

    async def ask(
        self, verb: Callable[[ReplicaCore, float, int], None], readable: Callable[[], None] | None = None
    ) -> ReplicaReply:
        """Use a verb under a new ticket and wait for its reply; on READABLE, `readable` is called at that moment."""
        corridor = self._open()
        ticket = next(self._tickets)
        replies: list[ReplicaReply] = []
        answered = trio.Event()

        def done(reply: ReplicaReply) -> None:
            if readable is not None and reply.outcome is Outcome.READABLE:
                try:
                    readable()
                except Exception as error:  # noqa: BLE001 - raised to the caller below
                    errors.append(error)
            replies.append(reply)
            answered.set()

        errors: list[Exception] = []
        corridor.tickets[ticket] = done
        try:
            verb(corridor.core, self._now(), ticket)
            corridor.wake()
            await answered.wait()
        finally:
            if corridor.tickets.pop(ticket, None) is not None and corridor.failure is None:
                corridor.core.cancel(self._now(), ticket)
        if errors:
            raise errors[0]
        return replies[0]


@asynccontextmanager
async def open_replica(
    machine: M,
    *,
    node: int,
    members: Mapping[int, str],
    data: str | Path | Files,
    listen: str | None = None,
    credentials: Credentials | None = None,
    options: NodeOptions | None = None,
    clock: Clock | None = None,
    network: MakeNetwork | None = None,
) -> AsyncIterator[Replica[M]]:
    """Take part in a cluster as member `node` with the state machine `machine`, until the block ends.

    `members` maps every member's id to its HOST:PORT and is the same on all of them; one member alone works. `data` is
    this member's directory (or a `Files`); `listen` is where to listen, if not at its address in `members`. `network`
    makes another way to the peers than sockets: `credentials` and `options.transport` mean nothing then. Entering
    waits until the replica has recovered, or until all members of a new cluster have seen each other (a log line a
    second names those that are missing). Raises LocalError (arguments), IdentityError (directory or cluster),
    StorageError (damage); a disk that fails later ends the block with a StorageError.
    """
    check_members(dict(members))
    if node not in members:
        raise LocalError(f"node {node} is not among the members {sorted(members)}")
    options = options or NodeOptions()
    options.check()
    credentials = credentials or Credentials()
    listen = listen or members[node]
    if network is None:
        check_addresses(credentials, listen, members.values())
    replica = Replica(machine, node, members, data, listen, credentials, options, clock or SystemClock(), network)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(replica.run)
            yield replica
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        cause = only_cause(group)
        failure = replica.failure
        if failure is None or failure is cause:
            raise cause from cause.__cause__
        raise failure from group  # what the body met was a consequence of it
