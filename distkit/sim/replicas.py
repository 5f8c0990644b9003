"""Replicas in the simulator: the same ReplicaCore that a node runs, with an application whose operations are
checked."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from distkit.core import (
    Configuration,
    Full,
    IdentityError,
    LocalError,
    Member,
    Reason,
    StorageError,
    record,
)
from distkit.log import WalOptions
from distkit.raft import RaftOptions, Snapshot, formation_records, recover
from distkit.raft import messages as raft
from distkit.replica import (
    FetchFrom,
    Formation,
    LoadSnapshot,
    ReplicaCore,
    ReplicaOptions,
    ReplicaOutput,
    ReplicaReply,
    SaveSnapshot,
    SessionLimits,
    Sessions,
    SnapshotPolicy,
    judge_hello,
    registry,
)
from distkit.replica import fetch as pieces
from distkit.sim.broken import require
from distkit.sim.chance import SECOND, stream
from distkit.sim.clients import Clients
from distkit.sim.disks import CLUSTER, Disk, RecordDisk, WalDisk
from distkit.sim.draw import aimed, limits
from distkit.sim.fetching import Fetching
from distkit.sim.files import MemoryFiles
from distkit.sim.host import Host
from distkit.sim.hunt import PLOTS
from distkit.sim.raft_oracle import RaftOracle
from distkit.sim.systems import frame
from distkit.sim.workload import Workload

if TYPE_CHECKING:
    from distkit.sim.world import World

#: Events of the machine that are not transitions.
_TOLD: Final = ("Send", "Receive", "Ready", "InitState", "Replicate")
_SAVE: Final = SECOND // 20
#: A leader that dies once it has given a snapshot dies so long after, while the other installs it.
_GIVEN: Final = SECOND // 50


def incarnation(node: int, disks: int = 1) -> int:
    """Of the directory of a node, its `disks`th."""
    return 1000 * disks + node


class ReplicaSystem:
    """Replicas over Raft, of the application that a workload brings."""

    options = staticmethod(limits)
    aim = staticmethod(aimed)
    plots = PLOTS

    def __init__(self, workload: Callable[[], Workload], recover: Callable[..., Any] = recover) -> None:
        self.workload = workload
        self.recover = recover  #: of the machine: `distkit.raft.recover`, or that of one with a rule broken
        self.registry = registry()

    def host(self, world: World, node: int) -> Host:
        disk = self.disk(world, node)
        disk.form(formation_records(self.configuration(world.scenario.nodes)))
        return Host(world, node, incarnation(node), disk)

    def disk(self, world: World, node: int) -> Disk:
        """An empty disk."""
        if not world.scenario.wal:
            return RecordDisk()
        size = world.scenario.disk.segment_bytes
        options = WalOptions(first_segment_bytes=size, segment_bytes=size, reserve_bytes=8192)
        return WalDisk(node, incarnation(node), options, MemoryFiles())

    def configuration(self, nodes: int) -> Configuration:
        """The first configuration of a cluster of this size."""
        members = (Member(node, incarnation(node), f"127.0.0.1:{7100 + node}") for node in range(1, nodes + 1))
        return Configuration(1, tuple(members))

    def oracle(self, world: World) -> RaftOracle:
        return RaftOracle(world)

    def clients(self, world: World) -> Clients:
        return Clients(world)

    def boot(self, host: Host, records: list[Any], now: float) -> Any:
        if host.rotten and host.boots > 1 and host.world.oracle.lost_tail(host, records):
            raise StorageError("damage took what was not proven yet: the oracle bars the node")
        return ReplicaGuest(self, host, records, now)

    def gone(self, host: Host, guest: ReplicaGuest | None) -> None:
        if guest is None:
            return
        marks = host.world.marks
        if guest.fetching is not None:
            marks["a node died while it fetched a snapshot"] += 1
        if guest.machine.loading:
            marks["a node died while it loaded a snapshot"] += 1
        if any(other.up and other.guest.gets_from(host.id) for other in host.world.hosts.values()):
            marks["a node died while another fetched its snapshot"] += 1
        guest.bounded()
        host.world.clients.lost(guest.tickets)

    def wiped(self, world: World, host: Host) -> None:
        """An empty disk under the same id: the same code that nodes use must refuse it, on both ends."""
        nodes = world.scenario.nodes
        configuration = self.configuration(nodes)
        members = tuple((member.id, member.address) for member in configuration.members)
        hello = Hello(host.id, incarnation(host.id, 2), members, None, 0)
        for peer in world.hosts.values():
            if peer is host:
                continue
            theirs = Hello(peer.id, peer.incarnation, members, configuration, CLUSTER)
            formation = Formation(host.id, hello.incarnation, dict(members))
            refused = [
                _refuses(formation.hello, theirs),
                _refuses(judge_hello, peer.id, configuration, CLUSTER, hello),
            ]
            require(all(refused), "identity", "node", host.id, "came back with an empty disk, not refused:", refused)
            world.marks["a wiped node was refused"] += 1

    def decode(self, data: bytes) -> Any:
        return frame(self.registry, data)

    def described(self, message: Any) -> dict[str, Any]:
        return {"message": type(message).__name__, "term": getattr(message, "term", 0), "detail": _detail(message)}


@record
class Hello:
    """What a node says about itself, see `distkit.replica.PeerHello`."""

    node: int
    incarnation: int
    members: tuple[tuple[int, str], ...]
    configuration: Configuration | None
    cluster: int


def _refuses(judge: Callable[..., None], *arguments: Any) -> bool:
    try:
        judge(*arguments)
    except IdentityError:
        return True
    return False


class ReplicaGuest:
    """A replica on a host, and the snapshot files that it asks for."""

    def __init__(self, system: ReplicaSystem, host: Host, records: list[Any], now: float) -> None:
        world = host.world
        self.host = host
        self.world = world
        self.tickets: set[int] = set()  #: of clients, not ended yet
        self.application = world.workload.application()
        self.fetching: Fetching | None = None
        self._free = 0  # when the files' thread has done what it was given
        self._turns: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()  # what that is, in order
        random = stream(world.seed, f"machine {host.id} {host.boots}")
        raft_options, self.options, limits = _options(world.scenario.machine_options)
        machine = system.recover(
            records,
            node=host.id,
            incarnation=host.incarnation,
            random=random,
            now=now,
            options=raft_options,
            trace=self._tell if world.trace is not None else None,
        )
        application = world.oracle.watched(host, self.application)
        origin, sessions = random.getrandbits(63), _Sessions(world, limits)
        self.machine = ReplicaCore(machine, application, self.options, now=now, origin=origin, sessions=sessions)
        if isinstance(host.disk, WalDisk) and host.disk.torn_bytes:
            world.marks["a torn tail was cut"] += 1
        snapshot = machine.snapshot
        if snapshot.index > 0:
            self.machine.load(host.disk.chunks(snapshot))
            self.machine.restored(now, snapshot)

    def gets_from(self, node: int) -> bool:
        """Whether it fetches a snapshot from this node."""
        return self.fetching is not None and self.fetching.work.source == node

    @property
    def raft(self) -> Any:
        """The consensus machine."""
        return self.machine.raft

    def _tell(self, event: str, fields: dict[str, Any]) -> None:
        """A transition of the machine, with true time instead of the node's. What it sends the world tells itself."""
        if event.startswith(_TOLD):
            return
        self.world.tell(event, **{**fields, "time": self.world.timeline.now / SECOND})

    def bounded(self) -> None:
        """No queue was ever longer than the options allow."""
        status, options = self.machine.status(), self.options
        for name, high, most in (
            ("proposals", status.proposals_high, options.proposals_max),
            ("reads", status.reads_high, options.reads_max),
            ("bytes of proposals", status.held_bytes_high, options.held_bytes_max),
        ):
            require(high <= most, "bounds", "node", self.host.id, "held", high, name, "where", most, "is the limit")
        sessions, limits = self.machine.sessions, self.machine.sessions.limits
        few = len(sessions) <= limits.sessions_max and (sessions.bytes <= limits.bytes_max or len(sessions) <= 1)
        require(few, "bounds", "node", self.host.id, "has", len(sessions), "sessions with", sessions.bytes, "bytes")

    def digest(self) -> bytes:
        raft: bytes = self.raft.digest()
        return raft + self.machine.digest()

    def take(self, output: ReplicaOutput) -> None:
        for reply in output.replies:
            self._reply(reply)
        for work in output.snapshots:
            if self.host.guest is not self:
                return  # what a client called next was the end of this process
            if isinstance(work, SaveSnapshot):
                if work.index == self.machine.applied_index:
                    self.world.oracle.stands(self.host, work.index)
                self._in_turn(_SAVE, self._save, work)
            elif isinstance(work, LoadSnapshot):
                self._in_turn(_SAVE, self._load, work.snapshot)
            elif isinstance(work, FetchFrom):
                self._begin_fetch(work)
            else:
                self._in_turn(0, self.host.disk.release, work)

    def _reply(self, reply: ReplicaReply) -> None:
        self.tickets.discard(reply.ticket)
        self.world.clients.replied(self, reply)

    # -- snapshots ----------------------------------------------------------------------------------------------------

    def _in_turn(self, delay: int, work: Callable[..., None], *arguments: Any) -> None:
        """Do something with files, behind what was asked for before: a node has one thread for them."""
        now = self.world.timeline.now
        self._free = max(self._free, now) + delay
        self._turns.append((work, arguments))
        self.later(self._free - now, self._next_turn)

    def _next_turn(self) -> None:
        """Do the oldest of what is to be done, whosever moment this is: a pause makes moments change places."""
        work, arguments = self._turns.popleft()
        work(*arguments)

    def later(self, delay: int, work: Callable[..., None], *arguments: Any) -> None:
        """Do something after a while, if this very process still lives."""
        host, boot = self.host, self.host.boots

        def run() -> None:
            if not host.up or host.boots != boot:
                return
            if host.paused:
                self.world.timeline.after(SECOND // 10, self.world.WORK, host.id, run)
                return
            try:
                work(*arguments)
            except StorageError as error:
                host.stop(str(error))

        self.world.timeline.after(delay, self.world.WORK, host.id, run)

    def _save(self, work: SaveSnapshot) -> None:
        try:
            snapshot = self.host.disk.save(work)
        except Full:
            self.host.input("snapshot_failed")
            return
        self.world.marks["a snapshot was taken"] += 1
        self.host.input("snapshot_saved", snapshot)

    def dies(self, point: str) -> bool:
        """Whether the host dies here, as a fault asked for."""
        if self.host.die_at != point:
            return False
        self.host.crash(power=True)
        return True

    def _load(self, snapshot: Snapshot) -> None:
        if self.dies("loading"):
            return
        self.machine.load(self.host.disk.chunks(snapshot))
        self.world.oracle.loaded(self.host, snapshot.index)
        self.world.marks["a snapshot was installed"] += 1
        self.host.input("restored", snapshot)

    def _begin_fetch(self, work: FetchFrom) -> None:
        if self.fetching is not None:
            self.fetching.close()
        self.fetching = Fetching(self, work)

    def fetched(self, fetching: Fetching, whole: bool) -> None:
        """A fetch has ended."""
        snapshot = fetching.work.snapshot
        if self.fetching is fetching:
            self.fetching = None
        if self.host.die_at == "fetched":
            self.host.die_at = "written"  # the write that makes the snapshot the start of the log
        if whole:
            self.host.input("fetched", snapshot)
        else:
            self.world.marks["a snapshot was given up half-way"] += 1
            self.host.input("fetch_failed", snapshot)

    def piece(self, peer: int, request: Any) -> Any:
        """Give a peer a piece of the snapshot that it was offered."""
        core, host = self.machine, self.host
        snapshot = core.snapshot_asked(peer, request.index, request.term)
        if snapshot is None:
            host.input("snapshot_sent", peer, False)
            return pieces.gone(request)
        host.call("snapshot_serving", peer, snapshot)
        offset, size = pieces.span(request, snapshot)
        data = host.disk.read(snapshot, offset, size)
        if offset + len(data) == snapshot.size:
            host.input("snapshot_sent", peer, True)
            if host.die_at == "given":
                self.world.marks["a leader died as it had given a snapshot"] += 1
                self.later(_GIVEN, host.crash, False)
        return pieces.piece(request, snapshot, data)


class _Sessions(Sessions):
    """The table that ships, and what happens in it."""

    def __init__(self, world: World, limits: SessionLimits) -> None:
        super().__init__(limits)
        self._marks = world.marks

    def begin(self, session: int, sequence: int, lowest: int) -> bytes | Reason | None:
        before = self.bytes
        answer = super().begin(session, sequence, lowest)
        if self.bytes < before:
            self._marks["an answer that its client has was forgotten"] += 1
        return answer

    def _evict(self) -> None:
        before = self.evicted
        super()._evict()
        if self.evicted > before:
            self._marks["a session was evicted"] += 1


@lru_cache(maxsize=4)  # each start of each node of a run asks for the same
def _options(named: tuple[tuple[str, float], ...]) -> tuple[RaftOptions, ReplicaOptions, SessionLimits]:
    """The options of the machine, of the replica and of its sessions, by the names in the scenario."""
    given: dict[str, Any] = dict(named)

    def taken(kind: Any) -> dict[str, Any]:
        return {each.name: given.pop(each.name) for each in fields(kind) if each.name in given}

    raft, limits = RaftOptions(**taken(RaftOptions)), SessionLimits(**taken(SessionLimits))
    snapshot = SnapshotPolicy(**taken(SnapshotPolicy))
    replica = ReplicaOptions(snapshot=snapshot, **taken(ReplicaOptions))
    if given:
        raise LocalError(f"replicas have no option {', '.join(sorted(given))}: a scenario of another version?")
    return raft, replica, limits


def _detail(message: Any) -> str:
    """A message in a few words."""
    kind = type(message)
    if kind is raft.AppendEntries:
        return f"after {message.prev_index}/{message.prev_term}, {len(message.blocks)} blocks, commit {message.commit}"
    if kind is raft.AppendEntriesReply:
        return (
            f"has {message.index}" if message.accepted else f"refuses {message.index}, agrees to {message.hint_index}"
        )
    if kind is raft.RequestVote:
        return f"{'pre-vote, ' if message.pre else ''}log to {message.last_index}/{message.last_term}"
    if kind is raft.RequestVoteReply:
        return f"{'pre-vote ' if message.pre else ''}{'granted' if message.granted else 'refused'}"
    if kind is raft.InstallSnapshot:
        return f"snapshot at {message.snapshot.index}"
    if kind is raft.InstallSnapshotReply:
        return f"has {message.index}"
    return ""
