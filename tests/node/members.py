"""Three members of a cluster in one trio program, on real disks and loopback sockets, with short timeouts."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from distkit.core import DistkitError, StateMachine
from distkit.node import NodeOptions, Replica, open_replica
from distkit.raft import RaftOptions
from distkit.replica import ReplicaOptions, SnapshotPolicy

#: Bound of every test here, in seconds; what they wait for takes a fraction of a second.
TIME_MAX = 30.0


class Ledger(StateMachine):
    """Appends commands to a list and answers with its length; refuses none."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def apply(self, index: int, term: int, time_us: int, command: bytes) -> bytes:
        if command == b"raise":
            raise ValueError("this state machine is broken on purpose")
        self.lines.append(command)
        return str(len(self.lines)).encode()

    def snapshot(self) -> Iterable[bytes]:  # type: ignore[override]
        return iter([b"\n".join(self.lines) or b"\n"])

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.lines = [line for line in b"".join(chunks).split(b"\n") if line]


def options(snapshot_entries: int = 200_000, keep_entries: int = 10_000) -> NodeOptions:
    """Quick elections, and snapshots after few entries where a test wants them."""
    return NodeOptions(
        raft=RaftOptions(heartbeat=0.05, election_timeout=0.4, keep_entries=keep_entries),
        replica=ReplicaOptions(snapshot=SnapshotPolicy(entries=snapshot_entries)),
    )


def free_addresses(count: int) -> dict[int, str]:
    """Members 1..count on ports that were free a moment ago."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return {node: f"127.0.0.1:{sock.getsockname()[1]}" for node, sock in enumerate(held, 1)}
    finally:
        for sock in held:
            sock.close()


class Cluster:
    """Members that can be stopped and started again in their directories."""

    def __init__(self, root: Path, count: int, options: NodeOptions) -> None:
        self.root = root
        self.members = free_addresses(count)
        self.options = options
        self.replicas: dict[int, Replica[Ledger]] = {}
        self._nursery: trio.Nursery
        self._stops: dict[int, tuple[trio.Event, trio.Event]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Cluster]:
        """All members, until the block ends."""
        async with trio.open_nursery() as self._nursery:
            async with trio.open_nursery() as starting:
                for node in self.members:
                    starting.start_soon(self.start, node)
            yield self
            for node in list(self.replicas):
                await self.stop(node)

    async def start(self, node: int) -> None:
        """Open a member; returns once it has recovered or the cluster has formed. Raises what that raises."""
        outcome: list[BaseException] = []
        opened = trio.Event()
        self._nursery.start_soon(self._run, node, opened, outcome)
        await opened.wait()
        if outcome:
            raise outcome[0]

    async def stop(self, node: int) -> None:
        """Close a member."""
        del self.replicas[node]
        stop, stopped = self._stops.pop(node)
        stop.set()
        await stopped.wait()

    async def _run(self, node: int, opened: trio.Event, outcome: list[BaseException]) -> None:
        data = self.root / str(node)
        stop, stopped = trio.Event(), trio.Event()
        try:
            async with open_replica(
                Ledger(), node=node, members=self.members, data=data, options=self.options
            ) as replica:
                self.replicas[node] = replica
                self._stops[node] = (stop, stopped)
                opened.set()
                await stop.wait()
        except DistkitError as error:
            if opened.is_set():
                raise
            outcome.append(error)
        finally:
            opened.set()
            stopped.set()

    async def leader(self) -> Replica[Ledger]:
        """A member that leads and is up to date, waited for."""
        async with trio.open_nursery() as nursery:
            for replica in self.replicas.values():
                nursery.start_soon(_then_cancel, replica.wait_ready, nursery.cancel_scope)
        return next(replica for replica in self.replicas.values() if replica.is_ready)

    def followers(self) -> list[Replica[Ledger]]:
        """The members that do not lead."""
        return [replica for replica in self.replicas.values() if not replica.is_ready]


async def _then_cancel(wait: Callable[[], Awaitable[object]], scope: trio.CancelScope) -> None:
    await wait()
    scope.cancel()
