"""What does the log cost, beside the disk itself in the same run?

    group_commit        records of 256 B a second through Wal.append and Wal.sync, N records a sync
    group_commit_raw    the same bytes through pwritev and fdatasync alone, on a file claimed in the same way
    worker              latency of one record through LogWorker: from submit to on_durable in trio's event loop
    worker_raw          latency of pwritev and fdatasync of the same bytes
    append              entries a second through Wal.append, without a disk below: encoding, checksums, bookkeeping
    replay              entries a second through recover, from a log in the page cache

The two of a pair take turns, so that a slow moment of the disk meets both. `block` is the number of entries of 256 B in
each record. Files are made in a directory below the current one (or --directory), since /tmp may be in memory.

    python benchmarks/wal.py [--seconds 0.5] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import trio

import distkit
from distkit._fast.codec import encode_block, encode_records
from distkit.log import BLOCK, Record, Wal, WalIdentity, recover
from distkit.storage import DiskFiles, LogWorker

OWNER = WalIdentity(1, 1, 1)
STATE: list[Record] = [(64, 0, b"state")]
ENTRY = bytes(range(256))


class NoDisk(DiskFiles):
    """Takes everything and keeps the heads of segments only."""

    def pwritev(self, handle: int, buffers: Sequence[bytes], offset: int) -> None:
        if offset == 0:
            super().pwritev(handle, buffers, offset)

    def fdatasync(self, handle: int) -> None:
        pass


class RawFile:
    """The disk alone: a file of 16 MiB, claimed, written round and round."""

    def __init__(self, directory: Path) -> None:
        self.handle = os.open(directory / "raw", os.O_RDWR | os.O_CREAT, 0o600)
        os.posix_fallocate(self.handle, 0, 16 << 20)
        os.fdatasync(self.handle)
        self.offset = 0

    def write(self, buffers: Sequence[bytes]) -> None:
        size = sum(map(len, buffers))
        if self.offset + size > 16 << 20:
            # Space that was not written yet, as the log has it: its first use costs the file system an extent.
            os.ftruncate(self.handle, 0)
            os.posix_fallocate(self.handle, 0, 16 << 20)
            os.fdatasync(self.handle)
            self.offset = 0
        os.pwritev(self.handle, buffers, self.offset)
        os.fdatasync(self.handle)
        self.offset += size


def blocks(count: int, entries: int, first: int = 1) -> list[Record]:
    """`count` records, each a block of `entries` entries of 256 B."""
    kinds, payloads = b"\1" * entries, [ENTRY] * entries
    return [(BLOCK, 0, encode_block(1, first + number * entries, 0, kinds, payloads)) for number in range(count)]


def in_turns(seconds: float, *calls: Callable[[], object]) -> list[list[float]]:
    """Seconds of each call of each of them, in turns."""
    times: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for call, taken in zip(calls, times, strict=True):
            begin = time.perf_counter()
            call()
            taken.append(time.perf_counter() - begin)
    return times


class Report:
    """Prints figures as they come."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._params = {
            "distkit": distkit.__name__,
            "kernels": "compiled" if distkit.COMPILED else "pure",
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
        }

    def add(self, name: str, value: float, unit: str, **params: Any) -> None:
        if self._as_json:
            print(json.dumps({"name": name, "value": value, "unit": unit, "params": self._params | params}), flush=True)
        else:
            about = " ".join(f"{key} {item}" for key, item in params.items())
            print(f"{name:18} {value:14,.1f} {unit:10} {about}", flush=True)


def group_commit(report: Report, directory: Path, seconds: float) -> None:
    files = DiskFiles(directory / "group")
    wal, raw = Wal.create(files, OWNER, STATE), RawFile(directory)
    for count in (1, 16, 256, 4096):
        records = blocks(count, 1)
        buffers = encode_records(1, 1, 1, 0, 0, records)

        def commit(records: list[Record] = records) -> None:
            wal.append(records)
            wal.sync()
            wal.release(0, 1 << 60)

        ours, disk = in_turns(seconds, commit, partial(raw.write, buffers))
        for name, times in (("group_commit", ours), ("group_commit_raw", disk)):
            report.add(
                name,
                count / statistics.median(times),
                "records/s",
                records_a_sync=count,
                p50_us=round(statistics.median(times) * 1e6),
                min_us=round(min(times) * 1e6),
            )
    wal.close()


def worker(report: Report, directory: Path, seconds: float) -> None:
    """One write at a time, as a follower with one client has it."""
    raw = RawFile(directory)
    record = blocks(1, 1)
    buffers = encode_records(1, 1, 1, 0, 0, record)

    async def main() -> list[list[float]]:
        done = trio.Event()
        at = 0.0

        def durable(_: int) -> None:
            nonlocal at
            at = time.perf_counter()
            done.set()

        def failed(error: BaseException) -> None:
            raise error

        wal = Wal.create(DiskFiles(directory / "worker"), OWNER, STATE)
        log = LogWorker(wal, durable, failed, lambda _: None)
        log.start()
        ours: list[float] = []
        disk: list[float] = []
        end = time.perf_counter() + seconds
        token = 0
        while time.perf_counter() < end or token < 5:
            token += 1
            done = trio.Event()
            begin = time.perf_counter()
            log.submit(token, record)
            await done.wait()
            ours.append(at - begin)
            begin = time.perf_counter()
            raw.write(buffers)
            disk.append(time.perf_counter() - begin)
        await log.aclose()
        return [ours, disk]

    for name, times in zip(("worker", "worker_raw"), trio.run(main), strict=True):
        times.sort()
        report.add(
            name,
            statistics.median(times) * 1e6,
            "us",
            p10_us=round(times[len(times) // 10] * 1e6),
            p99_us=round(times[len(times) * 99 // 100] * 1e6),
            writes=len(times),
        )


def append(report: Report, directory: Path, seconds: float) -> None:
    for entries in (1, 64, 256):
        count = max(1, 1024 // entries)
        records = blocks(count, entries)
        wal = Wal.create(NoDisk(directory / f"append{entries}"), OWNER, STATE)

        def write(wal: Wal = wal, records: list[Record] = records) -> None:
            wal.append(records)
            wal.release(0, 1 << 60)

        (times,) = in_turns(seconds, write)
        report.add("append", count * entries / statistics.median(times), "entries/s", block=entries)
        wal.close()


def replay(report: Report, directory: Path, seconds: float) -> None:
    for entries in (1, 64, 256):
        files = DiskFiles(directory / f"replay{entries}")
        wal = Wal.create(files, OWNER, STATE)
        count = 65_536 // entries
        for record in blocks(count, entries):
            wal.append([record])
        wal.sync()
        wal.close()
        recovered = 0

        def read(files: DiskFiles = files) -> None:
            nonlocal recovered
            recovered = len(recover(files, OWNER).records)

        (times,) = in_turns(seconds, read)
        if recovered != count + len(STATE):
            raise SystemExit(f"{recovered} of {count} records were recovered")
        report.add("replay", 65_536 / statistics.median(times), "entries/s", block=entries)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each case (default: 0.5)")
    parser.add_argument("--directory", type=Path, default=Path(), help="a disk to measure (default: the current one)")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    options = parser.parse_args()
    report = Report(options.json)
    with tempfile.TemporaryDirectory(prefix="wal-benchmark-", dir=options.directory) as directory:
        for case in (group_commit, worker, append, replay):
            case(report, Path(directory), options.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
