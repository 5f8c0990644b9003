"""Snapshot files: when one is taken, fetched or loaded, who is given one, and when older ones may go.

The core decides, the host works: everything here leaves as a `SnapshotWork` record and comes back as a report.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from distkit.core import Write
from distkit.core.machine import Send
from distkit.raft import Raft
from distkit.raft.messages import InstallSnapshot, Snapshot, SnapshotMark
from distkit.replica.applier import Applier
from distkit.replica.records import FetchFrom, Release, SaveSnapshot, SnapshotPolicy, SnapshotWork

_INFINITY = float("inf")


class Snapshots:
    """Files under way at this node: at most one that is saved, one that is fetched, and one given to each peer."""

    __slots__ = (
        "_base_bytes",
        "_base_index",
        "_failed",
        "_fetching",
        "_given",
        "_given_deadline",
        "_marks",
        "_policy",
        "_raft",
        "_retry_at",
        "_saving",
        "work",
    )

    def __init__(self, raft: Raft, policy: SnapshotPolicy) -> None:
        self._raft = raft
        self._policy = policy
        #: Index and applied bytes at the last snapshot.
        self._base_index = raft.snapshot.index
        self._base_bytes = 0
        self._saving: SaveSnapshot | None = None
        self._failed = False
        self._retry_at = 0.0
        self._fetching: tuple[int, Snapshot, InstallSnapshot] | None = None
        #: peer -> (what it was told to fetch, when to give up on it)
        self._given: dict[int, tuple[Snapshot, float]] = {}
        self._given_deadline = _INFINITY
        #: Writes that hold a mark and are not durable yet.
        self._marks: deque[tuple[int, Snapshot]] = deque()
        self.work: list[SnapshotWork] = []

    @property
    def state(self) -> str:
        """What is under way, in words."""
        words = [word for word, busy in (("saving", self._saving), ("fetching", self._fetching)) if busy]
        return " and ".join(words) or "idle"

    # -- saving ----------------------------------------------------------------------------------------------------

    def consider(self, now: float, applier: Applier) -> None:
        """Begin a snapshot of the state as it is now, if the policy says so, or the log in memory presses: it holds
        more than payloads, and when it is full every proposal is refused."""
        raft = self._raft
        entries, grown = applier.index - self._base_index, applier.applied_bytes - self._base_bytes
        due = entries >= self._policy.entries or grown >= self._policy.log_bytes or (entries and raft.log_presses)
        if not due and not self._failed:
            return
        if self._saving is not None or applier.loading is not None or now < self._retry_at:
            return
        chunks = applier.snapshot()
        self._saving = SaveSnapshot(applier.index, applier.term, applier.time_us, raft.configuration, chunks)
        self._base_index, self._base_bytes = applier.index, applier.applied_bytes
        self._failed = False
        self.work.append(self._saving)

    def saved(self, now: float, snapshot: Snapshot) -> None:
        """The file is durable: let the machine forget the log below it, unless a newer snapshot came meanwhile."""
        self._saving = None
        if snapshot.index > self._raft.snapshot.index:
            self._raft.compact(now, snapshot.index, snapshot)

    def save_failed(self, now: float) -> None:
        """No file was made: try again later, with the state of then."""
        self._saving = None
        self._failed = True
        self._retry_at = now + self._policy.retry_after

    # -- fetching and loading --------------------------------------------------------------------------------------

    def offered(self, source: int, message: InstallSnapshot) -> None:
        """The leader has a snapshot for this node: fetch its file first.

        A fetch goes on when the same leader offers a newer one, else a large state would never arrive.
        """
        fetching = self._fetching
        if fetching is not None and fetching[0] == source and fetching[2].term == message.term:
            self._fetching = (source, fetching[1], message)
            return
        self._fetching = (source, message.snapshot, message)
        self.work.append(FetchFrom(source, message.snapshot))

    def fetched(self, now: float, snapshot: Snapshot) -> None:
        """The file is durable: now the machine may see the message that offered it."""
        if self._fetching is not None and self._fetching[1] == snapshot:
            source, _, message = self._fetching
            self._fetching = None
            self._raft.receive(now, source, replace(message, snapshot=snapshot))

    def fetch_failed(self, snapshot: Snapshot) -> None:
        """The fetch was given up; the leader will offer a snapshot again."""
        if self._fetching is not None and self._fetching[1] == snapshot:
            self._fetching = None

    def restored(self, applier: Applier) -> None:
        """The state comes from a snapshot that was loaded."""
        self._base_index, self._base_bytes = applier.index, applier.applied_bytes

    # -- giving ----------------------------------------------------------------------------------------------------

    def sent(self, now: float, sends: Iterable[Send]) -> None:
        """Messages leave: an offer starts the wait for the peer to fetch. One that is at an older snapshot goes on with
        that, so that a large one arrives though connections break and newer ones are taken meanwhile."""
        for peer, message in sends:
            if type(message) is InstallSnapshot and peer not in self._given:
                self._wait(peer, message.snapshot, now)

    def asked(self, peer: int, index: int, term: int) -> Snapshot | None:
        """What a peer asks for, if it may have it."""
        given = self._given.get(peer)
        newest: Snapshot = self._raft.snapshot
        for each in (newest, newest if given is None else given[0]):
            if (each.index, each.term) == (index, term):
                return each
        return None

    def serving(self, now: float, peer: int, snapshot: Snapshot) -> None:
        """The peer was given a piece, so it is still at it."""
        if peer in self._given:
            self._wait(peer, snapshot, now)

    def given(self, now: float, peer: int, ok: bool) -> None:
        """The transfer to a peer ended."""
        self._given.pop(peer, None)
        self._raft.snapshot_sent(now, peer, ok)

    def tick(self, now: float, applier: Applier) -> None:
        """Try a save that failed again, even if nothing is applied: a leader whose log is full waits for it. Give up on
        peers that do not fetch: the offer may have been lost, and is repeated then."""
        if self._failed and now >= self._retry_at:
            self.consider(now, applier)
            if self._failed:  # a snapshot is being loaded: not now
                self._retry_at = now + self._policy.retry_after
        if now < self._given_deadline:
            return
        for peer in [peer for peer, (_, deadline) in self._given.items() if deadline <= now]:
            self.given(now, peer, False)
        self._given_deadline = min((deadline for _, deadline in self._given.values()), default=_INFINITY)

    def deadline(self) -> float:
        """When to call `tick` next."""
        return min(self._given_deadline, self._retry_at) if self._failed else self._given_deadline

    def _wait(self, peer: int, snapshot: Snapshot, now: float) -> None:
        deadline = now + self._policy.fetch_timeout
        self._given[peer] = (snapshot, deadline)
        self._given_deadline = min(self._given_deadline, deadline)

    # -- releasing -------------------------------------------------------------------------------------------------

    def written(self, writes: Iterable[Write]) -> None:
        """Writes leave for the disk: note those with a mark."""
        for write in writes:
            for item in write.records:
                if type(item) is SnapshotMark:
                    self._marks.append((write.token, item.snapshot))

    def persisted(self, token: int) -> None:
        """Marks up to this write are durable: what is older than the newest of them may go, but for what is under
        way: given to a peer, or fetched, though the log got ahead of it meanwhile."""
        newest = None
        while self._marks and self._marks[0][0] <= token:
            newest = self._marks.popleft()[1]
        if newest is not None:
            under_way = [snapshot for snapshot, _ in self._given.values()]
            if self._fetching is not None:
                under_way.append(self._fetching[1])
            self.work.append(Release(newest.index, tuple(dict.fromkeys((newest, *under_way)))))
