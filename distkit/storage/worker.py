"""The log's thread: writes and syncs in batches, so that the event loop never waits for the disk.

Group commit: all writes that were submitted while one fdatasync ran go into the next. Completions are watermarks, one
callback a batch, in the event loop's thread. After a failure nothing is acknowledged any more.

A busy event loop may keep the interpreter from this thread for sys.getswitchinterval() (5 ms) after each of its system
calls, several times a batch: a completion that takes 0.2 ms on an idle loop then takes 25 ms. A program whose loop is
busy should call sys.setswitchinterval(0.0005) (0.6 ms); the choice is the program's, so nothing here makes it.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

import trio

from distkit.core import Full, Space
from distkit.log import Record, Wal
from distkit.log.wal import WalStats

#: While the disk is full, space is claimed again after this many seconds.
CLAIM_INTERVAL = 1.0


class _Write:
    __slots__ = ("records", "size", "token")

    def __init__(self, token: int, records: Sequence[Record]) -> None:
        self.token = token
        self.records = records
        self.size = sum(len(content) for _kind, _group, content in records)


class _Release:
    __slots__ = ("group", "index")

    def __init__(self, group: int, index: int) -> None:
        self.group = group
        self.index = index


class LogWorker:
    """Owns a Wal and the thread that uses it.

    `on_durable(token)`: all writes up to the token are durable. `on_failed(error)`: once, then never anything again;
    `on_space(space)`: the disk is full or has space again. `batch_bytes_max` bounds what one sync covers; `mark_after`
    seconds without work the last sync is proven by a mark.
    """

    def __init__(
        self,
        wal: Wal,
        on_durable: Callable[[int], None],
        on_failed: Callable[[BaseException], None],
        on_space: Callable[[Space], None],
        batch_bytes_max: int = 4 << 20,
        mark_after: float = 0.02,
    ) -> None:
        self._wal = wal
        self._on_durable = on_durable
        self._on_failed = on_failed
        self._on_space = on_space
        self._batch_bytes_max = batch_bytes_max
        self._mark_after = mark_after
        self._queue: SimpleQueue[_Write | _Release | None] = SimpleQueue()
        self._held: _Write | _Release | None = None  # taken from the queue, but not in this batch
        self._stop = threading.Event()  # for the waits of a full disk; the queue's None ends everything else
        self._stopping = False
        self._space = Space.OK
        self._thread = threading.Thread(target=self._run, name="distkit-log", daemon=True)
        # The way back into the event loop. Every acknowledgement waits for it, and a pipe of its own costs half of what
        # trio's door for threads does.
        self._posted: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()
        self._hears, self._rings = os.pipe()
        self._gone = trio.Event()
        self._counters = wal.counters  # as of the last batch

    def start(self) -> None:
        """Begin; call it inside `trio.run`, and end with `aclose`."""
        os.set_blocking(self._hears, False)
        trio.lowlevel.spawn_system_task(self._listen)
        self._thread.start()

    @property
    def stats(self) -> WalStats:
        """The log's counters as of the last batch."""
        return WalStats(*self._counters)

    def submit(self, token: int, records: Sequence[Record]) -> None:
        """Queue a write; never blocks. Without records it completes with the one before it, without I/O."""
        self._queue.put(_Write(token, records))

    def release(self, group: int, index: int) -> None:
        """Let segments go that hold nothing above the index, between two batches."""
        self._queue.put(_Release(group, index))

    async def aclose(self) -> None:
        """Write what was submitted, unless the log has failed or the disk is full; close it and end the thread."""
        self._stop.set()
        self._queue.put(None)
        await self._gone.wait()
        self._thread.join()
        os.close(self._hears)
        os.close(self._rings)

    async def _listen(self) -> None:
        """Call what the thread posts, up to its last word."""
        posted = self._posted
        while not self._gone.is_set():
            await trio.lowlevel.wait_readable(self._hears)
            os.read(self._hears, 1024)
            while posted:
                function, arguments = posted.popleft()
                function(*arguments)

    # -- in the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._tell_space()
            while (batch := self._take()) is not None:
                self._work(batch)
            self._wal.mark()
        except BaseException as error:  # noqa: BLE001 - the node stops for it, whatever it is
            self._post(self._on_failed, error)
            while not self._stopping:
                self._stopping = self._queue.get() is None
        finally:
            self._wal.close()
            self._post(self._gone.set)

    def _take(self) -> list[_Write] | None:
        """The next batch; None at the end. Other work is done on the way."""
        while True:
            item = self._held or self._next()
            self._held = None
            if isinstance(item, _Write):
                return self._gather(item)
            if item is None:
                return None
            self._wal.release(item.group, item.index)
            self._counters = self._wal.counters

    def _next(self) -> _Write | _Release | None:
        if self._stopping:
            return None
        try:
            item = self._queue.get(timeout=self._mark_after)
        except Empty:
            self._wal.mark()
            item = self._wait()
        self._stopping = item is None
        return item

    def _wait(self) -> _Write | _Release | None:
        """The next item; while the disk is full, try again to claim space meanwhile."""
        while self._space is Space.FULL:
            try:
                return self._queue.get(timeout=CLAIM_INTERVAL)
            except Empty:
                self._wal.claim()
                self._tell_space()
        return self._queue.get()

    def _gather(self, first: _Write) -> list[_Write]:
        """Everything that is queued by now, up to the size of a batch."""
        batch = [first]
        size = first.size
        while size < self._batch_bytes_max and not self._queue.empty():
            item = self._queue.get_nowait()
            if not isinstance(item, _Write):
                self._held = item
                self._stopping = item is None
                break
            batch.append(item)
            size += item.size
        return batch

    def _work(self, batch: list[_Write]) -> None:
        """Write and sync a batch. Without room for all of it, complete what there was room for, and wait for more."""
        done = 0
        for write in batch:
            while write.records and not self._append(write):
                self._complete(done)
                if self._stop.wait(CLAIM_INTERVAL):
                    self._stopping = True
                    return  # this write and what follows was never acknowledged
                self._wal.claim()
            done = write.token
        self._complete(done)

    def _append(self, write: _Write) -> bool:
        try:
            self._wal.append(write.records)
        except Full:
            return False
        return True

    def _complete(self, token: int) -> None:
        self._wal.sync()
        self._counters = self._wal.counters
        if token:
            self._post(self._on_durable, token)
        self._tell_space()

    def _tell_space(self) -> None:
        if self._wal.space is not self._space:
            self._space = self._wal.space
            self._post(self._on_space, self._space)

    def _post(self, function: Callable[..., None], *arguments: object) -> None:
        self._posted.append((function, arguments))
        os.write(self._rings, b"\0")
