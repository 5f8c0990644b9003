"""The corridor: carries messages between the replica, its disk and its peers, and calls it when time has passed.

Everything happens in one task's turn after another, never concurrently: inputs go straight into the core, then `turn`
flushes it once and hands out what that caused. Nothing here waits but `pace`, which sleeps until the next deadline.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import trio

from distkit.core import Clock, Role, Space
from distkit.core.machine import Send
from distkit.log import Record
from distkit.raft import messages as raft
from distkit.replica import ReplicaCore, ReplicaOutput, ReplicaReply, encoded
from distkit.replica.messages import ProposeReply
from distkit.replica.records import SnapshotWork
from distkit.storage import LogWorker
from distkit.transport import Network

logger = logging.getLogger(__name__)

#: Answers go back on the connection by which the question came.
REPLIES = frozenset(
    (
        raft.AppendEntriesReply,
        raft.HeartbeatReply,
        raft.RequestVoteReply,
        raft.ReadIndexReply,
        raft.InstallSnapshotReply,
        ProposeReply,
    )
)

#: The wall clock is read again after this many seconds; in between it is extrapolated.
WALL_INTERVAL = 0.1
#: A task that sleeps never sleeps longer: trio's clock does not count suspend.
SLEEP_MAX = 1.0

Done = Callable[[ReplicaReply], None]


class Corridor:
    """Drives one ReplicaCore. `turn` after inputs; `failed` is set once the node can't go on, with `failure` as why."""

    def __init__(
        self,
        core: ReplicaCore,
        clock: Clock,
        transport: Network,
        on_role: Callable[[Role], None],
        on_snapshot: Callable[[SnapshotWork], None],
    ) -> None:
        self.core = core
        self.clock = clock
        self.tickets: dict[int, Done] = {}
        self.failed = trio.Event()
        self.failure: BaseException | None = None
        self.after_turn: Callable[[], None] = _nothing
        self.loop_gap_max = 0.0  #: longest time that a due deadline had to wait for the event loop
        self._transport = transport
        self._on_role = on_role
        self._on_snapshot = on_snapshot
        self._worker: LogWorker | None = None
        self._thens: deque[tuple[int, tuple[Send, ...]]] = deque()
        self._writes: list[tuple[int, list[Record]]] = []
        self._turning = False
        self._again = False
        self._wake = trio.Event()
        self._sleep = trio.CancelScope()  # that of `pace`; it ends at `_sleeping_until`
        self._sleeping_until = 0.0  # 0: awake
        self._wall_due = 0.0

    def use_log(self, worker: LogWorker) -> None:
        """The worker that writes; its callbacks are `durable`, `disk_failed` and `space`."""
        self._worker = worker

    # -- inputs from the log's worker ---------------------------------------------------------------------------------

    def durable(self, token: int) -> None:
        """All writes up to the token are durable: what waited for them leaves."""
        self._guard(lambda: self._complete(token))

    def disk_failed(self, error: BaseException) -> None:
        """The log takes no more writes, so this node takes no more part."""
        self.fail(error)

    def space(self, space: Space) -> None:
        """The disk is full, or has space again."""
        logger.log(
            logging.WARNING if space is Space.FULL else logging.INFO,
            "node %d: disk %s",
            self.core.raft.node,
            "full, proposals are refused until space returns" if space is Space.FULL else "has space again",
        )
        self._guard(lambda: self.core.storage(self.clock.now(), space))

    def fail(self, error: BaseException) -> None:
        """The node can't go on; the first reason counts."""
        if self.failure is None:
            self.failure = error
            self.failed.set()

    def _guard(self, take: Callable[[], None]) -> None:
        """Take an input and have a turn. The worker's callbacks belong to no task, so an exception must not leave."""
        if self.failure is not None:
            return
        try:
            take()
            self.turn()
        except BaseException as error:  # noqa: BLE001 - it is raised by the task that waits for `failed`
            self.fail(error)

    # -- turns --------------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Have a turn soon, together with whatever else comes until then."""
        self._wake.set()

    def asked(self) -> None:
        """Something was put in that the next turn takes; one under way takes it, too."""
        self._again = True

    async def pace(self) -> None:
        """Have turns when deadlines have passed or somebody woke us; for ever."""
        while True:
            due = self.core.deadline()
            now = self.clock.now()
            if now < due and not self._wake.is_set():
                self._sleeping_until = due
                with trio.move_on_after(min(due - now, SLEEP_MAX)) as self._sleep:
                    await self._wake.wait()
            else:
                await trio.lowlevel.checkpoint()
            self._sleeping_until = 0.0
            if self._wake.is_set():
                self._wake = trio.Event()
            now = self.clock.now()
            if now >= self._wall_due:
                self._wall_due = now + WALL_INTERVAL
                self.core.wall(now, self.clock.time_us())
            due = self.core.deadline()
            if now >= due:
                if due > 0.0:
                    self.loop_gap_max = max(self.loop_gap_max, now - due)
                self.core.tick(now)
            self.turn()

    def turn(self) -> None:
        """Flush the core and hand out what comes. Callbacks may put in more, which goes out in the same turn once;
        what they cause after that waits for the next turn, so that no callback can keep the loop busy for ever."""
        if self._turning:
            self._again = True
            return
        if self.failure is not None:
            return
        self._turning = True
        try:
            if not self.core.touched:
                self._transport.flush()  # a write that has become durable lets acknowledgements go without any turn
                return
            self._flush_core()
            self._transport.flush()
            self.after_turn()
            self._submit()
        except BaseException as error:  # noqa: BLE001 - it is raised by the task that waits for `failed`
            self.fail(error)  # a write of this turn may be lost with it: nothing more may be acknowledged
            return
        finally:
            self._turning = False
        if self._again:
            self._wake.set()
        elif self._sleeping_until:
            self._sleep_no_longer_than(self.core.deadline())

    def _sleep_no_longer_than(self, due: float) -> None:
        """Move the end of the sleep of `pace`, which costs less than to wake it for a look at the time."""
        if due < self._sleeping_until:
            self._sleeping_until = due
            self._sleep.deadline = min(self._sleep.deadline, trio.current_time() + due - self.clock.now())

    def _flush_core(self) -> None:
        for _ in range(2):
            self._again = False
            output = self.core.flush(self.clock.now())
            if output is not None:
                self._hand_out(output)
            if not self._again:
                break

    def _hand_out(self, output: ReplicaOutput) -> None:
        for node, message in output.sends:
            self._send(node, message)
        for write in output.writes:
            if not write.records and not self._thens:
                # Nothing to write and nothing under way: it is complete.
                self._thens.append((write.token, write.then))
                self._complete(write.token)
                self._again = True
                continue
            self._thens.append((write.token, write.then))
            self._writes.append((write.token, encoded(write.records)))
        if output.role is not None:
            self._on_role(output.role)
        for reply in output.replies:
            done = self.tickets.pop(reply.ticket, None)
            if done is not None:
                done(reply)
        for work in output.snapshots:
            self._on_snapshot(work)

    def _submit(self) -> None:
        """Hand the turn's writes to the log's thread: last, because it wants the interpreter, which every system call
        of this thread gives away. What the peers need is on the wire before."""
        assert self._worker is not None
        writes, self._writes = self._writes, []
        for token, records in writes:
            self._worker.submit(token, records)

    def _complete(self, token: int) -> None:
        while self._thens and self._thens[0][0] <= token:
            for node, message in self._thens.popleft()[1]:
                self._send(node, message)
        self.core.persisted(self.clock.now(), token)

    def _send(self, node: int, message: Any) -> None:
        if type(message) not in REPLIES or not self._transport.reply(node, message):
            self._transport.send(node, message)


def _nothing() -> None:
    """Nobody wants to know that a turn has ended."""
