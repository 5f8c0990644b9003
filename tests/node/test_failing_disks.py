"""A node whose disk fails or is full: it stops, or refuses, and nothing that was acknowledged is lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from members import TIME_MAX, Ledger, free_addresses, options

from distkit.core import Full, StorageError
from distkit.log import WalOptions
from distkit.node import NodeOptions, Replica, open_replica
from distkit.raft import RaftOptions
from distkit.sim.files import MemoryFiles


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(TIME_MAX):
            await test()

    trio.run(bounded)


def test_a_failed_sync_ends_the_block_and_is_never_tried_again() -> None:
    files = MemoryFiles()
    members = free_addresses(1)
    acknowledged: list[bytes] = []

    async def main() -> None:
        async with open_replica(Ledger(), node=1, members=members, data=files, options=options()) as replica:
            acknowledged.append(await replica.propose(b"safe"))
            files.fail_sync(1)
            files.tracing = True
            acknowledged.append(await replica.propose(b"never acknowledged"))

    with pytest.raises(StorageError, match="cannot sync"):
        run(main)
    assert acknowledged == [b"1"]
    assert [call for call, _name in files.calls].count("fdatasync") == 1
    files.crash()

    async def again() -> None:
        async with open_replica(Ledger(), node=1, members=members, data=files, options=options()) as replica:
            assert await replica.read(lambda ledger: list(ledger.lines)) == [b"safe"]

    run(again)


async def fill(replica: Replica[Ledger]) -> None:
    for _ in range(1000):
        await replica.propose(b"x" * 1000)


def test_a_full_disk_refuses_writes_serves_reads_and_recovers() -> None:
    files = MemoryFiles()
    small = NodeOptions(
        raft=RaftOptions(heartbeat=0.05, election_timeout=0.4),
        log=WalOptions(first_segment_bytes=64 << 10, segment_bytes=64 << 10, reserve_bytes=16 << 10),
    )

    async def main() -> None:
        async with open_replica(Ledger(), node=1, members=free_addresses(1), data=files, options=small) as replica:
            assert await replica.propose(b"x" * 1000) == b"1"
            files.space_bytes = 150 << 10
            with pytest.raises(Full, match="disk is full"):
                await fill(replica)
            written = await replica.read(lambda ledger: len(ledger.lines))
            assert 50 < written < 150
            files.space_bytes = None
            while True:
                try:
                    answer = await replica.propose(b"there is space again")
                    break
                except Full:
                    await trio.sleep(0.1)
            assert answer == str(written + 1).encode()

    run(main)


def test_what_was_acknowledged_survives_the_loss_of_every_unsynced_byte() -> None:
    files = MemoryFiles()
    members = free_addresses(1)

    async def main(expected: int) -> None:
        async with open_replica(Ledger(), node=1, members=members, data=files, options=options()) as replica:
            assert await replica.read(lambda ledger: len(ledger.lines)) == expected
            for number in range(10):
                await replica.propose(b"%d" % number)

    for expected in (0, 10, 20):
        run(lambda expected=expected: main(expected))  # type: ignore[misc]
        files.crash()
