"""Snapshot files of a running node: written in slices, loaded, fetched from another node, and removed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import trio

from distkit.core import Clock, Full, PeerError
from distkit.log import SnapshotReader, SnapshotReceiver, SnapshotWriter, remove_snapshots
from distkit.log.snapshot import snapshot_name
from distkit.node.startup import Directory
from distkit.raft import Snapshot
from distkit.replica import Fetch, FetchFrom, LoadSnapshot, Release, ReplicaCore, SaveSnapshot, SnapshotGone
from distkit.replica import fetch as pieces
from distkit.replica.messages import FetchSnapshot
from distkit.replica.records import SnapshotWork
from distkit.storage import LogWorker
from distkit.transport import Bulk, Disconnected, Hello, Network

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Attempts to go on with a transfer whose connection broke, and the seconds between them.
FETCH_ATTEMPTS = 5
FETCH_PAUSE = 0.5


class SnapshotFiles:
    """Does the snapshot work that the core asks for, each piece in a task; files are touched in one worker thread."""

    def __init__(
        self,
        core: ReplicaCore,
        directory: Directory,
        worker: LogWorker,
        transport: Network,
        clock: Clock,
        turn: Callable[[], None],
        nursery: trio.Nursery,
    ) -> None:
        self._core = core
        self._directory = directory
        self._files = directory.files
        self._worker = worker
        self._transport = transport
        self._clock = clock
        self._turn = turn
        self._nursery = nursery
        self._thread = trio.CapacityLimiter(1)
        self._fetching: trio.CancelScope | None = None

    def take(self, work: SnapshotWork) -> None:
        """Begin a piece of work; what it ends in is told to the core."""
        match work:
            case SaveSnapshot():
                self._nursery.start_soon(self._save, work)
            case LoadSnapshot():
                self._nursery.start_soon(self._load, work.snapshot)
            case FetchFrom():
                if self._fetching is not None:
                    self._fetching.cancel()
                self._fetching = trio.CancelScope()  # here, not in the task: two offers may come before it runs
                self._nursery.start_soon(self._fetch, work, self._fetching)
            case Release():
                self._nursery.start_soon(self._release, work)

    async def serve(self, hello: Hello, stream: Bulk) -> None:
        """Give another node the pieces it asks for; tell the core when it has the last, or can't have it."""
        complete = False
        try:
            while not complete:
                request = await stream.receive()
                if not isinstance(request, FetchSnapshot):
                    raise PeerError(f"node {hello.node} sent {type(request).__name__} on a bulk connection")
                complete = await self._serve_piece(hello.node, request, stream)
        finally:
            self._core.snapshot_sent(self._clock.now(), hello.node, complete)
            self._turn()

    async def _serve_piece(self, node: int, request: FetchSnapshot, stream: Bulk) -> bool:
        """Answer one request; whether it was the last of its file."""
        snapshot = self._core.snapshot_asked(node, request.index, request.term)
        name = snapshot_name(request.index, request.term)
        if snapshot is None:
            await stream.send(pieces.gone(request))
            return False
        self._core.snapshot_serving(self._clock.now(), node, snapshot)
        offset, size = pieces.span(request, snapshot)
        data = await self._run(self._read_piece, name, offset, size)
        await stream.send(pieces.piece(request, snapshot, data))
        return offset + len(data) == snapshot.size

    async def _save(self, work: SaveSnapshot) -> None:
        cluster = self._directory.cluster
        writer: SnapshotWriter | None = None
        try:
            writer = await self._run(
                partial(SnapshotWriter, self._files, cluster, work.index, work.term, work.time_us, b"")
            )
            for chunk in work.chunks:
                await self._run(writer.write, chunk)
            info = await self._run(writer.finish)
        except Full as error:
            logger.warning("no space for a snapshot at %d, will try again: %s", work.index, error)
            if writer is not None:
                await self._run(writer.abort)
            self._core.snapshot_failed(self._clock.now())
            self._turn()
            return
        snapshot = Snapshot(work.index, work.term, work.time_us, info.size, 0, work.configuration)
        logger.info("snapshot at %d: %d bytes", info.index, info.size)
        self._core.snapshot_saved(self._clock.now(), snapshot)
        self._turn()

    async def _load(self, snapshot: Snapshot) -> None:
        await self._run(self._directory.load, self._core, snapshot)
        self._core.restored(self._clock.now(), snapshot)
        logger.info("restored from a snapshot at %d", snapshot.index)
        self._turn()

    async def _fetch(self, work: FetchFrom, scope: trio.CancelScope) -> None:
        with scope:
            try:
                done = await self._fetch_file(work)
            except (Full, SnapshotGone, PeerError, Disconnected) as error:
                logger.warning("snapshot %d from node %d: %s", work.snapshot.index, work.source, error)
                done = False
            if done:
                self._core.fetched(self._clock.now(), work.snapshot)
            else:
                self._core.fetch_failed(self._clock.now(), work.snapshot)
            self._turn()

    async def _fetch_file(self, work: FetchFrom) -> bool:
        snapshot = work.snapshot
        receiver = await self._run(
            partial(
                SnapshotReceiver, self._files, self._directory.cluster, snapshot.index, snapshot.term, snapshot.size
            )
        )
        try:
            fetch = Fetch(snapshot, receiver.received)
            for attempt in range(FETCH_ATTEMPTS):
                if attempt:
                    await trio.sleep(FETCH_PAUSE)
                try:
                    async with await self._transport.open_bulk(work.source) as stream:
                        await self._fetch_pieces(fetch, receiver, stream)
                except Disconnected as error:
                    logger.info("snapshot %d: %s after %d bytes", snapshot.index, error, fetch.received)
                    continue
                await self._run(receiver.finish)
                return True
            return False
        finally:
            with trio.CancelScope(shield=True):
                await self._run(receiver.close)

    async def _fetch_pieces(self, fetch: Fetch, receiver: SnapshotReceiver, stream: Bulk) -> None:
        while (request := fetch.request()) is not None:
            await stream.send(request)
            offset = fetch.received
            data = fetch.take(await stream.receive())
            await self._run(receiver.write, offset, data)

    async def _release(self, work: Release) -> None:
        """Older snapshot files and log segments go; the mark that makes them useless is durable."""
        keep = {(snapshot.index, snapshot.term) for snapshot in work.keep}
        await self._run(self._remove, work.index, keep)
        self._worker.release(0, work.index)

    def _remove(self, index: int, keep: set[tuple[int, int]]) -> None:
        newer = snapshot_name(index + 1, 0)  # unfinished files among them: a save or fetch may be under way
        names = {name for name in self._files.listdir() if name >= newer}
        names.update(snapshot_name(*each) for each in keep)
        remove_snapshots(self._files, names)

    def _read_piece(self, name: str, offset: int, size: int) -> bytes:
        with SnapshotReader(self._files, name) as reader:
            return reader.file_bytes(offset, size)

    async def _run(self, function: Callable[..., T], *arguments: object) -> T:
        return await trio.to_thread.run_sync(partial(function, *arguments), limiter=self._thread)
