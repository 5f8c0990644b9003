"""A replica for programs without trio: it runs in a thread of its own. For Flask, Django, scripts, and asyncio.

    with distkit.blocking.open_replica(Counter(), node=1, members={1: "127.0.0.1:7101"}, data="data/1") as replica:
        replica.propose(b"5", timeout=2.0)

All methods may be called from any thread. `submit` and `submit_read` return futures, which asyncio programs await with
`asyncio.wrap_future`. The state machine and query functions run in the replica's thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import trio

from distkit.core import LocalError, OutcomeUnknown, StateMachine
from distkit.node import NodeOptions, NodeStatus, Replica
from distkit.node import open_replica as _open_replica

if TYPE_CHECKING:
    from distkit.core import Clock, Files
    from distkit.transport import Credentials

M = TypeVar("M", bound=StateMachine)
T = TypeVar("T")


class BlockingReplica(Generic[M]):
    """A running replica in its own thread. Made by `open_replica`; `close` it, or use it as a context manager."""

    def __init__(self, machine: M, arguments: Mapping[str, Any]) -> None:
        self._machine = machine
        self._arguments = dict(arguments)
        self._process = os.getpid()
        self._begun = threading.Event()
        self._opened: Future[None] = Future()
        self._closed: Future[None] = Future()
        self._scope = trio.CancelScope()
        self._token: trio.lowlevel.TrioToken
        self._replica: Replica[M]
        self._nursery: trio.Nursery
        self._thread = threading.Thread(target=self._run, name=f"distkit-{arguments.get('node')}", daemon=True)
        self._thread.start()
        try:
            self._opened.result()
        except BaseException:
            self._cancel()  # Ctrl-C while the cluster forms; a start that failed has ended by itself
            self._thread.join()
            raise

    # -- asking -------------------------------------------------------------------------------------------------------

    def propose(self, command: bytes, timeout: float | None = None) -> bytes:
        """Replicate a command and return what `apply` answered.

        After `timeout` seconds OutcomeUnknown is raised: it may have been applied, or may still be. See
        `distkit.node.Replica.propose` for the other outcomes.
        """
        return _wait(self.submit(command), timeout, "the command may still be applied")

    def read(self, query: Callable[[M], T], timeout: float | None = None, *, stale: bool = False) -> T:
        """Call `query` with the machine in a state that holds every write acknowledged before; linearizable.

        `stale` takes the state of this node as it is. OutcomeUnknown after `timeout` seconds.
        """
        return _wait(self.submit_read(query, stale=stale), timeout, "no leader confirmed the read")

    def submit(self, command: bytes) -> Future[bytes]:
        """Like `propose`, as a future. Cancelling it drops the interest in the answer, not the command."""
        return self._start(lambda replica: replica.propose(command))

    def submit_read(self, query: Callable[[M], T], *, stale: bool = False) -> Future[T]:
        """Like `read`, as a future."""
        return self._start(lambda replica: replica.read(query, stale=stale))

    def wait_leader(self, timeout: float | None = None) -> int:
        """Wait until a leader is known, and return it."""
        return _wait(self._start(lambda replica: replica.wait_leader()), timeout, "no leader is known")

    def transfer(self, target: int, timeout: float | None = None) -> None:
        """Hand leadership to another member."""
        _wait(self._start(lambda replica: replica.transfer(target)), timeout, "the transfer may still happen")

    def status(self) -> NodeStatus:
        """Where this node stands."""

        async def ask(replica: Replica[M]) -> NodeStatus:
            return replica.status()

        return self._start(ask).result()

    # -- life ---------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop the replica and wait until its thread is gone. Raises what ended it, if it had failed before."""
        self._check_process()
        self._cancel()
        self._thread.join()
        self._closed.result()

    def __enter__(self) -> BlockingReplica[M]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise LocalError(
                "this replica was opened before a fork and lives in the parent process: open it after the fork "
                "(gunicorn: in post_fork, not with --preload), one replica for each directory"
            )

    def _cancel(self) -> None:
        self._begun.wait()
        try:
            self._token.run_sync_soon(self._scope.cancel)
        except trio.RunFinishedError:
            pass  # it has ended already; `_closed` knows why

    def _start(self, ask: Callable[[Replica[M]], Awaitable[T]]) -> Future[T]:
        """Run `ask` as a task in the replica's thread; its outcome is the future's."""
        self._check_process()
        future: Future[T] = Future()
        try:
            self._token.run_sync_soon(self._spawn, ask, future)
        except trio.RunFinishedError:
            future.set_exception(LocalError("the replica is closed"))
        return future

    # -- in the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:  # noqa: BLE001 - it is raised to whoever opens or closes
            if not self._opened.done():
                self._opened.set_exception(error)
            self._closed.set_exception(error)
        else:
            if not self._opened.done():
                self._opened.set_exception(LocalError("the replica was closed while it was opened"))
            self._closed.set_result(None)

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._begun.set()
        with self._scope:
            async with _open_replica(self._machine, **self._arguments) as replica, trio.open_nursery() as nursery:
                self._replica, self._nursery = replica, nursery
                self._opened.set_result(None)
                await trio.sleep_forever()

    def _spawn(self, ask: Callable[[Replica[M]], Awaitable[T]], future: Future[T]) -> None:
        if self._nursery.cancel_scope.cancel_called or self._scope.cancel_called:
            future.set_exception(LocalError("the replica is closed"))
        else:
            self._nursery.start_soon(self._answer, ask, future)

    async def _answer(self, ask: Callable[[Replica[M]], Awaitable[T]], future: Future[T]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = await ask(self._replica)
        except trio.Cancelled:
            future.set_exception(OutcomeUnknown("the replica was closed: it may or may not have been done"))
            raise
        except Exception as error:  # noqa: BLE001 - it belongs to whoever holds the future
            future.set_exception(error)
        else:
            future.set_result(result)


def open_replica(
    machine: M,
    *,
    node: int,
    members: Mapping[int, str],
    data: str | Path | Files,
    listen: str | None = None,
    credentials: Credentials | None = None,
    options: NodeOptions | None = None,
    clock: Clock | None = None,
) -> BlockingReplica[M]:
    """`distkit.open_replica` in a thread of its own; returns once the replica is open, raises what it would raise."""
    arguments = {
        "node": node,
        "members": members,
        "data": data,
        "listen": listen,
        "credentials": credentials,
        "options": options,
        "clock": clock,
    }
    return BlockingReplica(machine, arguments)


def _wait(future: Future[T], timeout: float | None, doubt: str) -> T:
    try:
        return future.result(timeout)
    except TimeoutError:
        if future.done():
            raise  # the application's own
        future.cancel()
        raise OutcomeUnknown(f"no answer within {timeout} s: {doubt}") from None
