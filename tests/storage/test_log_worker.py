"""The log's thread: what it acknowledges is durable, in order, and in as few syncs as the disk allows."""

from __future__ import annotations

import errno
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

import distkit.storage.worker
from distkit.core import Space, StorageError
from distkit.log import Record, Wal, WalIdentity, WalOptions, recover, segment_name
from distkit.sim import MemoryFiles
from distkit.storage import DiskFiles, LogWorker

OWNER = WalIdentity(1, 1, 1)
STATE: list[Record] = [(64, 0, b"born")]
SMALL = WalOptions(16 << 10, 16 << 10, 8 << 10)


def record(number: int, size: int = 20) -> Record:
    return 64, 0, f"record {number} ".encode().ljust(size, b".")


class GatedFiles(MemoryFiles):
    """A disk whose fdatasync waits for the test: `entered` is released by each one, `gate` lets one pass."""

    def __init__(self) -> None:
        super().__init__()
        self.gated = False
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    def fdatasync(self, handle: int) -> None:
        if self.gated:
            self.entered.release()
            self.gate.acquire()
        super().fdatasync(handle)


class Host:
    """Everything that a worker reported, and a way to wait for it."""

    def __init__(self, files: MemoryFiles | DiskFiles, options: WalOptions = SMALL, mark_after: float = 60) -> None:
        self.files = files
        self.wal = Wal.create(files, OWNER, STATE, options)
        self.durable: list[int] = []
        self.failures: list[BaseException] = []
        self.spaces: list[Space] = []
        self.threads: set[int] = set()
        self._news = trio.Event()
        self.worker = LogWorker(
            self.wal,
            on_durable=self._noting(self.durable.append),
            on_failed=self._noting(self.failures.append),
            on_space=self._noting(self.spaces.append),
            mark_after=mark_after,
        )

    async def until(self, condition: Callable[[], object]) -> None:
        with trio.fail_after(10):
            while not condition():
                await self._news.wait()

    def _noting(self, note: Callable[..., None]) -> Callable[..., None]:
        def noted(value: object) -> None:
            self.threads.add(threading.get_ident())
            note(value)
            self._news.set()
            self._news = trio.Event()

        return noted


def run(files: MemoryFiles | DiskFiles, test: Callable[[Host], Awaitable[None]], **options: object) -> Host:
    hosts: list[Host] = []

    async def main() -> None:
        host = Host(files, **options)  # type: ignore[arg-type]
        hosts.append(host)
        host.worker.start()
        try:
            await test(host)
        finally:
            with trio.fail_after(10):
                await host.worker.aclose()

    trio.run(main)
    return hosts[0]


def passed(semaphore: threading.Semaphore) -> Awaitable[bool]:
    return trio.to_thread.run_sync(lambda: semaphore.acquire(timeout=10))


def test_writes_complete_in_order_and_in_the_event_loop(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        for token in range(1, 500):
            host.worker.submit(token, [record(token)])
            if token % 7 == 0:
                await trio.lowlevel.checkpoint()
        await host.until(lambda: host.durable and host.durable[-1] == 499)

    files = DiskFiles(tmp_path)
    host = run(files, test)
    assert host.durable == sorted(set(host.durable))
    assert host.threads == {threading.get_ident()}
    assert recover(files, OWNER).records == [*STATE, *(record(token) for token in range(1, 500))]


def test_nothing_is_acknowledged_before_its_sync_returned() -> None:
    files = GatedFiles()

    async def test(host: Host) -> None:
        files.gated = True
        host.worker.submit(1, [record(1)])
        assert await passed(files.entered)
        await trio.testing.wait_all_tasks_blocked()
        assert host.durable == []
        files.gated = False
        files.gate.release()
        await host.until(lambda: host.durable)

    assert run(files, test).durable == [1]


def test_all_that_waits_while_one_sync_runs_goes_into_the_next() -> None:
    files = GatedFiles()

    async def test(host: Host) -> None:
        files.gated = True
        host.worker.submit(1, [record(1)])
        assert await passed(files.entered)
        for token in range(2, 101):
            host.worker.submit(token, [record(token)])
        files.gated = False
        files.gate.release()
        await host.until(lambda: 100 in host.durable)

    host = run(files, test)
    assert host.durable == [1, 100]
    assert host.worker.stats.syncs == 2


def test_a_batch_is_bounded_in_bytes() -> None:
    files = GatedFiles()

    async def test(host: Host) -> None:
        files.gated = True
        host.worker.submit(1, [record(1)])
        assert await passed(files.entered)
        for token in range(2, 8):
            host.worker.submit(token, [record(token, 1 << 20)])
        files.gated = False
        files.gate.release()
        await host.until(lambda: 7 in host.durable)

    assert run(files, test).durable == [1, 5, 7]


def test_a_write_without_records_completes_in_its_turn_without_io() -> None:
    files = GatedFiles()

    async def test(host: Host) -> None:
        host.worker.submit(1, ())
        await host.until(lambda: host.durable)
        assert host.worker.stats.syncs == 0
        files.gated = True
        host.worker.submit(2, [record(2)])
        host.worker.submit(3, ())
        assert await passed(files.entered)
        host.worker.submit(4, ())
        await trio.testing.wait_all_tasks_blocked()
        assert host.durable == [1]
        files.gated = False
        files.gate.release()
        await host.until(lambda: 4 in host.durable)

    host = run(files, test)
    assert host.durable in ([1, 2, 4], [1, 3, 4])
    assert host.worker.stats.syncs == 1


def test_after_a_failed_sync_nothing_is_acknowledged_and_the_host_is_told_once() -> None:
    files = MemoryFiles()

    async def test(host: Host) -> None:
        host.worker.submit(1, [record(1)])
        await host.until(lambda: host.durable)
        files.fail_sync(1)
        for token in range(2, 10):
            host.worker.submit(token, [record(token)])
        await host.until(lambda: host.failures)
        host.worker.submit(10, [record(10)])
        host.worker.submit(11, ())
        host.worker.release(0, 5)

    host = run(files, test)
    assert host.durable == [1]
    assert [type(error) for error in host.failures] == [StorageError]


def test_any_exception_in_the_thread_is_told_to_the_host() -> None:
    async def test(host: Host) -> None:
        host.worker.submit(1, [(5, 0, b"no kind that a log may hold")])
        await host.until(lambda: host.failures)

    host = run(MemoryFiles(), test)
    assert len(host.failures) == 1
    assert host.durable == []


def test_a_full_disk_is_told_and_writes_wait_until_it_has_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distkit.storage.worker, "CLAIM_INTERVAL", 0.01)
    files = MemoryFiles()

    async def test(host: Host) -> None:
        files.space_bytes = 0
        for token in range(1, 40):
            host.worker.submit(token, [record(token, 1000)])
        await host.until(lambda: Space.FULL in host.spaces and host.durable)
        assert host.durable[-1] < 39
        assert host.failures == []
        files.space_bytes = None
        await host.until(lambda: 39 in host.durable)
        await host.until(lambda: host.spaces[-1] is Space.OK)

    host = run(files, test)
    assert host.spaces == [Space.FULL, Space.OK]
    assert host.durable == sorted(host.durable)


def test_an_idle_log_on_a_full_disk_notices_that_there_is_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distkit.storage.worker, "CLAIM_INTERVAL", 0.01)
    files = MemoryFiles()

    async def test(host: Host) -> None:
        files.space_bytes = 0
        token = 0
        while Space.FULL not in host.spaces:
            token += 1
            host.worker.submit(token, [record(token, 1000)])
            await host.until(lambda token=token: token in host.durable)
            await trio.lowlevel.checkpoint()
        files.space_bytes = None
        await host.until(lambda: host.spaces == [Space.FULL, Space.OK])

    run(files, test, mark_after=0.01)


def test_a_worker_stops_on_a_full_disk_without_acknowledging_what_waits() -> None:
    files = MemoryFiles()

    async def test(host: Host) -> None:
        files.space_bytes = 0
        for token in range(1, 40):
            host.worker.submit(token, [record(token, 1000)])
        await host.until(lambda: host.spaces)

    host = run(files, test)
    assert host.spaces == [Space.FULL]
    assert host.durable[-1] < 39
    files.space_bytes = None
    assert recover(files, OWNER).records[-1] == record(host.durable[-1], 1000)


def test_the_end_of_a_burst_is_marked() -> None:
    files = GatedFiles()

    async def test(host: Host) -> None:
        files.gated = True
        host.worker.submit(1, [record(1)])
        assert await passed(files.entered)
        files.gate.release()
        assert await passed(files.entered)  # nobody asked for this sync
        assert host.durable == [1]
        files.gated = False
        files.gate.release()

    run(files, test, mark_after=0)
    at = files.read(segment_name(1)).index(b"record 1")
    files.flip(segment_name(1), at * 8)
    with pytest.raises(StorageError, match="damage"):
        recover(files, OWNER)


def test_closing_writes_and_marks_all_that_was_submitted() -> None:
    files = MemoryFiles()

    async def test(host: Host) -> None:
        for token in range(1, 200):
            host.worker.submit(token, [record(token)])

    host = run(files, test)
    assert host.durable[-1:] == [199]
    assert host.wal.stats.marks == 1
    files.crash()
    assert recover(files, OWNER).records[-1] == record(199)


def test_segments_are_released_between_batches() -> None:
    files = MemoryFiles()

    async def test(host: Host) -> None:
        for token in range(1, 60):
            host.worker.submit(token, [record(token, 1000)])
        host.worker.release(0, 0)
        host.worker.submit(60, [record(60)])
        await host.until(lambda: 60 in host.durable)

    host = run(files, test)
    assert host.worker.stats.released > 0
    assert files.listdir() == ["next", segment_name(1 + host.worker.stats.released)]


def test_an_error_number_of_the_disk_is_in_the_message() -> None:
    files = MemoryFiles()
    files_error = OSError(errno.EIO, "Input/output error")

    async def test(host: Host) -> None:
        files.fail("pwritev", 1, files_error)
        host.worker.submit(1, [record(1)])
        await host.until(lambda: host.failures)

    assert "Input/output error" in str(run(files, test).failures[0])
