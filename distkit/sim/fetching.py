"""Snapshot files on their way from one replica to another: over a connection of their own, as between nodes, one piece
at a time. What is lost, cut or reset breaks the connection; the next one goes on with the piece that is missing."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from distkit.core import Full, PeerError, StorageError
from distkit.replica import Fetch, FetchFrom, SnapshotGone
from distkit.sim.chance import SECOND

if TYPE_CHECKING:
    from distkit.sim.disks import Receiver
    from distkit.sim.replicas import ReplicaGuest

PIECE_BYTES: Final = 64
#: What both ends do for one piece takes so long.
_WORK: Final = SECOND // 500
#: A connection on which nothing comes for so long is taken for broken; after this time a fetch is given up then.
_BREAK: Final = SECOND // 2
_FETCH_MAX: Final = 2 * SECOND


class Fetching:
    """What a guest fetches now. It ends in the guest's `fetched`, unless another offer takes its place."""

    def __init__(self, guest: ReplicaGuest, work: FetchFrom) -> None:
        self.work = work
        self._guest = guest
        self._world = guest.world
        self._boot = guest.host.boots
        self._until = guest.world.timeline.now + _FETCH_MAX
        self._asks = 0
        try:
            self._receiver: Receiver | None = guest.host.disk.receiver(work.snapshot)
        except Full:
            self._receiver = None
            guest.later(0, self._end, False)
            return
        self._fetch = Fetch(work.snapshot, self._receiver.received, PIECE_BYTES)
        guest.later(_WORK, self._ask)

    def close(self) -> None:
        """It is over: give the file back."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.close()

    def _ask(self) -> None:
        guest = self._guest
        if self._receiver is None or guest.dies("fetching"):
            return
        request = self._fetch.request()
        if request is None:
            self._check(self._receiver)
            return
        self._asks += 1
        source = self._world.hosts[self.work.source]
        self._world.carry(guest.host, source, request, partial(self._give, self._asks))
        guest.later(_BREAK, self._broken, self._asks)

    def _give(self, ask: int, request: Any) -> None:
        """At the other end."""
        source, host = self._world.hosts[self.work.source], self._guest.host
        if source.guest.dies("giving"):
            return
        try:
            answer = source.guest.piece(host.id, request)
        except StorageError as error:
            source.stop(str(error))  # it is the giver's file that is damaged
            return
        self._world.carry(source, host, answer, partial(self._came, ask))

    def _came(self, ask: int, answer: Any) -> None:
        if self._receiver is None or ask != self._asks or self._boot != self._guest.host.boots:
            return  # over a connection that was given up, or is of an earlier start
        self._asks += 1
        try:
            offset = self._fetch.received
            self._receiver.write(offset, self._fetch.take(answer))
        except (SnapshotGone, Full):
            self._end(False)
            return
        except StorageError as error:
            self._guest.host.stop(str(error))
            return
        self._guest.later(_WORK, self._ask)

    def _broken(self, ask: int) -> None:
        if self._receiver is None or ask != self._asks:
            return
        if self._world.timeline.now >= self._until:
            self._end(False)
        else:
            self._world.marks["a fetch went on over another connection"] += 1
            self._ask()

    def _check(self, receiver: Receiver) -> None:
        """All pieces are here."""
        try:
            receiver.finish()
        except (PeerError, Full):
            self._end(False)
        else:
            self._end(True)

    def _end(self, whole: bool) -> None:
        self.close()
        self._guest.fetched(self, whole)
