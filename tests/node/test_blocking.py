"""The blocking door: the same replica from threads, futures and asyncio, without trio."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from members import Ledger, free_addresses, options

import distkit
from distkit.core import IdentityError, LocalError, OutcomeUnknown
from distkit.replica import ApplyError

TIMEOUT = 20.0


def test_a_script_writes_and_reads(tmp_path: Path) -> None:
    with distkit.blocking.open_replica(Ledger(), node=1, members=free_addresses(1), data=tmp_path) as replica:
        assert replica.propose(b"a", timeout=TIMEOUT) == b"1"
        assert replica.read(lambda ledger: list(ledger.lines), timeout=TIMEOUT) == [b"a"]
        assert replica.read(lambda ledger: list(ledger.lines), stale=True, timeout=TIMEOUT) == [b"a"]
        assert replica.wait_leader(timeout=TIMEOUT) == 1
        assert replica.status().node == 1


def test_three_members_in_three_threads(tmp_path: Path) -> None:
    members = free_addresses(3)

    def open_member(node: int) -> distkit.blocking.BlockingReplica[Ledger]:
        return distkit.blocking.open_replica(
            Ledger(), node=node, members=members, data=tmp_path / str(node), options=options()
        )

    with ThreadPoolExecutor(3) as pool:
        replicas = list(pool.map(open_member, members))
        try:
            answers = list(pool.map(lambda replica: replica.propose(b"line", timeout=TIMEOUT), replicas * 5))
            assert sorted(answers, key=int) == [str(number).encode() for number in range(1, 16)]
        finally:
            for replica in replicas:
                replica.close()


def test_asyncio_awaits_the_futures(tmp_path: Path) -> None:
    async def main(replica: distkit.blocking.BlockingReplica[Ledger]) -> None:
        answers = await asyncio.gather(*(asyncio.wrap_future(replica.submit(b"%d" % number)) for number in range(20)))
        assert sorted(answers, key=int) == [str(number).encode() for number in range(1, 21)]
        assert await asyncio.wrap_future(replica.submit_read(lambda ledger: len(ledger.lines))) == 20

    with distkit.blocking.open_replica(Ledger(), node=1, members=free_addresses(1), data=tmp_path) as replica:
        asyncio.run(main(replica))


def test_a_timeout_says_that_the_outcome_is_unknown(tmp_path: Path) -> None:
    held = threading.Event()

    class Slow(Ledger):
        def apply(self, index: int, term: int, time_us: int, command: bytes) -> bytes:
            assert held.wait(TIMEOUT)
            return super().apply(index, term, time_us, command)

    with distkit.blocking.open_replica(Slow(), node=1, members=free_addresses(1), data=tmp_path) as replica:
        with pytest.raises(OutcomeUnknown, match="may still be applied"):
            replica.propose(b"late", timeout=0.05)
        held.set()
        assert replica.read(lambda ledger: list(ledger.lines), timeout=TIMEOUT) == [b"late"]


def test_an_exception_of_a_query_is_the_callers(tmp_path: Path) -> None:
    with distkit.blocking.open_replica(Ledger(), node=1, members=free_addresses(1), data=tmp_path) as replica:
        with pytest.raises(ZeroDivisionError):
            replica.read(lambda ledger: 1 // 0, timeout=TIMEOUT)
        assert replica.propose(b"goes on", timeout=TIMEOUT) == b"1"


def test_a_start_that_fails_raises_and_leaves_no_thread(tmp_path: Path) -> None:
    members = free_addresses(1)
    with distkit.blocking.open_replica(Ledger(), node=1, members=members, data=tmp_path):
        before = threading.active_count()
        with pytest.raises(IdentityError, match="another process uses this data directory"):
            distkit.blocking.open_replica(Ledger(), node=1, members=members, data=tmp_path)
        assert threading.active_count() == before


def test_a_replica_that_failed_says_so_when_it_is_asked_and_closed(tmp_path: Path) -> None:
    replica = distkit.blocking.open_replica(Ledger(), node=1, members=free_addresses(1), data=tmp_path)
    with pytest.raises((OutcomeUnknown, LocalError)):
        replica.propose(b"raise", timeout=TIMEOUT)
    with pytest.raises(ApplyError, match="entry 2 "):
        replica.close()
    with pytest.raises(LocalError, match="closed"):
        replica.propose(b"x", timeout=TIMEOUT)


def test_use_after_a_fork_is_an_error_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with distkit.blocking.open_replica(Ledger(), node=1, members=free_addresses(1), data=tmp_path) as replica:
        child = os.getpid() + 1
        monkeypatch.setattr(os, "getpid", lambda: child)
        with pytest.raises(LocalError, match="open it after the fork"):
            replica.propose(b"x")
        monkeypatch.undo()
