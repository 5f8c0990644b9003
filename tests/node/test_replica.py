"""Replicas in a trio program: the whole stack, three members in one process."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from members import TIME_MAX, Cluster, Ledger, free_addresses, options

from distkit.core import IdentityError, LocalError, RoleName
from distkit.node import NodeOptions, open_replica
from distkit.raft import RaftOptions
from distkit.replica import ApplyError


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run with a bound on the time: a hang is a failure, not a hang."""

    async def bounded() -> None:
        with trio.fail_after(TIME_MAX):
            await test()

    trio.run(bounded)


def test_one_member_alone_works_and_remembers(tmp_path: Path) -> None:
    members = free_addresses(1)

    async def main() -> None:
        for expected in (b"1", b"2"):
            async with open_replica(Ledger(), node=1, members=members, data=tmp_path / "1") as replica:
                assert await replica.propose(b"line") == expected
                assert await replica.read(lambda ledger: len(ledger.lines)) == int(expected)
                assert replica.role is RoleName.LEADER

    run(main)


def test_three_members_agree_from_any_node(tmp_path: Path) -> None:
    async def main() -> None:
        async with Cluster(tmp_path, 3, options()).running() as cluster:
            for number, replica in enumerate(cluster.replicas.values(), 1):
                assert await replica.propose(b"from %d" % number) == str(number).encode()
            for replica in cluster.replicas.values():
                assert await replica.read(lambda ledger: list(ledger.lines)) == [b"from 1", b"from 2", b"from 3"]
            digests = {replica.status().replica.raft.commit_index for replica in cluster.replicas.values()}
            assert len(digests) == 1

    run(main)


def test_a_follower_reads_what_was_just_acknowledged_elsewhere(tmp_path: Path) -> None:
    async def main() -> None:
        async with Cluster(tmp_path, 3, options()).running() as cluster:
            leader = await cluster.leader()
            for number in range(20):
                await leader.propose(b"%d" % number)
                for follower in cluster.followers():
                    assert len(await follower.read(lambda ledger: list(ledger.lines))) == number + 1

    run(main)


def test_another_leader_takes_over_when_one_stops_and_nothing_is_lost(tmp_path: Path) -> None:
    async def main() -> None:
        async with Cluster(tmp_path, 3, options()).running() as cluster:
            leader = await cluster.leader()
            await leader.propose(b"before")
            await cluster.stop(leader.node)
            survivor = await cluster.leader()
            assert survivor.node != leader.node
            assert await survivor.propose(b"after") == b"2"
            await cluster.start(leader.node)
            back = cluster.replicas[leader.node]
            assert await back.read(lambda ledger: list(ledger.lines)) == [b"before", b"after"]

    run(main)


def test_all_members_stop_and_start_and_nothing_is_lost(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 3, options())

    async def main() -> None:
        async with cluster.running():
            assert await (await cluster.leader()).propose(b"kept") == b"1"
        async with cluster.running():
            assert await cluster.replicas[2].read(lambda ledger: list(ledger.lines)) == [b"kept"]
            assert {replica.status().boot for replica in cluster.replicas.values()} == {2}

    run(main)


def test_a_proposal_without_a_quorum_waits_until_the_caller_gives_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with Cluster(tmp_path, 3, options()).running() as cluster:
            leader = await cluster.leader()
            for follower in cluster.followers():
                await cluster.stop(follower.node)
            with trio.move_on_after(0.2) as scope:
                await leader.propose(b"nobody hears this")
            assert scope.cancelled_caught

    run(main)


def test_leadership_is_handed_over(tmp_path: Path) -> None:
    async def main() -> None:
        async with Cluster(tmp_path, 3, options()).running() as cluster:
            leader = await cluster.leader()
            target = cluster.followers()[0]
            await leader.transfer(target.node)
            await target.wait_ready()
            assert leader.leader == target.node

    run(main)


def test_a_session_applies_each_command_once_over_a_change_of_leader(tmp_path: Path) -> None:
    async def main() -> None:
        async with Cluster(tmp_path, 3, options()).running() as cluster:
            leader = await cluster.leader()
            follower = cluster.followers()[0]
            async with follower.session() as session:
                answers = [await session.propose(b"%d" % number) for number in range(3)]
                await cluster.stop(leader.node)
                answers += [await session.propose(b"%d" % number) for number in range(3, 6)]
            assert answers == [b"1", b"2", b"3", b"4", b"5", b"6"]
            assert await follower.read(lambda ledger: list(ledger.lines)) == [b"0", b"1", b"2", b"3", b"4", b"5"]

    run(main)


def test_a_member_that_missed_much_gets_a_snapshot(tmp_path: Path) -> None:
    async def main() -> None:
        async with Cluster(tmp_path, 3, options(snapshot_entries=50, keep_entries=0)).running() as cluster:
            await (await cluster.leader()).propose(b"first")
            away = cluster.followers()[0].node
            await cluster.stop(away)
            leader = await cluster.leader()
            for number in range(300):
                await leader.propose(b"%d" % number)
            await cluster.start(away)
            back = cluster.replicas[away]
            assert len(await back.read(lambda ledger: list(ledger.lines))) == 301
            assert back.status().replica.raft.snapshot_index > 0
            files = sorted(path.name for path in (tmp_path / str(leader.node)).glob("snap-*"))
            assert 1 <= len(files) <= 2  # an older one stays while a peer may be fetching it

    run(main)


def test_a_wiped_member_is_refused_and_told_how_to_be_replaced(tmp_path: Path) -> None:
    async def main() -> None:
        async with Cluster(tmp_path, 3, options()).running() as cluster:
            leader = await cluster.leader()
            await leader.propose(b"precious")
            victim = cluster.followers()[0].node
            await cluster.stop(victim)
            shutil.rmtree(tmp_path / str(victim))
            with pytest.raises(IdentityError, match="new data directory"):
                await cluster.start(victim)
            assert await leader.read(lambda ledger: list(ledger.lines)) == [b"precious"]

    run(main)


def test_an_exception_out_of_apply_ends_the_block_and_names_the_entry(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(ApplyError, match="entry 2 "):
            async with open_replica(Ledger(), node=1, members=free_addresses(1), data=tmp_path / "1") as replica:
                await replica.propose(b"raise")

    run(main)


def test_while_a_cluster_forms_a_log_line_names_who_is_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    members = free_addresses(3)

    async def main() -> None:
        with trio.move_on_after(1.5) as scope:
            async with open_replica(Ledger(), node=1, members=members, data=tmp_path / "1"):
                pass
        assert scope.cancelled_caught

    with caplog.at_level(logging.WARNING):
        run(main)
    assert any(f"2 at {members[2]}, 3 at {members[3]}" in record.getMessage() for record in caplog.records)


def test_two_replicas_never_share_a_directory(tmp_path: Path) -> None:
    members = free_addresses(1)

    async def main() -> None:
        async with open_replica(Ledger(), node=1, members=members, data=tmp_path / "1"):
            with pytest.raises(IdentityError, match="another process uses this data directory"):
                async with open_replica(Ledger(), node=1, members=members, data=tmp_path / "1"):
                    pass

    run(main)


def test_a_directory_is_started_with_the_members_it_was_formed_with(tmp_path: Path) -> None:
    members = free_addresses(3)

    async def alone() -> None:
        async with open_replica(Ledger(), node=1, members={1: members[1]}, data=tmp_path / "1"):
            pass

    async def among_three() -> None:
        async with open_replica(Ledger(), node=1, members=members, data=tmp_path / "1"):
            pass

    run(alone)
    with pytest.raises(IdentityError, match=r"members \[1\], but was started with \[1, 2, 3\]"):
        run(among_three)
    run(alone)


def test_a_callback_that_raises_at_the_end_leaves_nothing_open(tmp_path: Path) -> None:
    members = free_addresses(1)

    def raises(reply: object) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        async with open_replica(Ledger(), node=1, members=members, data=tmp_path / "1") as replica:
            await replica.wait_ready()
            replica.propose_soon(b"never flushed", raises)

    async def again() -> None:
        async with open_replica(Ledger(), node=1, members=members, data=tmp_path / "1") as replica:
            assert await replica.propose(b"the directory is free") == b"1"

    with pytest.raises(ZeroDivisionError):
        run(main)
    run(again)


def test_the_body_sees_its_own_exceptions_as_they_are(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with open_replica(Ledger(), node=1, members=free_addresses(1), data=tmp_path / "1"):
                raise ZeroDivisionError

    run(main)


@pytest.mark.parametrize(
    ("narrow", "why"),
    [
        (NodeOptions(raft=RaftOptions(log_bytes_max=3 << 20)), "at least twice"),
        # With more than half of it taken by an idle log the largest command would be Busy for ever.
        (NodeOptions(raft=RaftOptions(log_bytes_max=(2 << 20) - 1)), "the largest command, of 1048448 bytes, must fit"),
    ],
)
def test_a_log_that_fills_up_before_a_snapshot_is_taken_is_refused(
    narrow: NodeOptions, why: str, tmp_path: Path
) -> None:

    async def main() -> None:
        async with open_replica(Ledger(), node=1, members={1: "127.0.0.1:7101"}, data=tmp_path / "1", options=narrow):
            pass

    with pytest.raises(LocalError, match=why):
        run(main)


@pytest.mark.parametrize(
    ("node", "members", "what"),
    [
        (9, {1: "127.0.0.1:7101"}, "not among the members"),
        (1, {1: "127.0.0.1"}, "HOST:PORT"),
        (1, {1: "127.0.0.1:7101", 2: "127.0.0.1:7101"}, "same address"),
        (1, {1: "10.1.2.3:7101"}, "loopback"),
        (0, {0: "127.0.0.1:7101"}, "node id"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_touched(
    tmp_path: Path, node: int, members: dict[int, str], what: str
) -> None:
    async def main() -> None:
        with pytest.raises(LocalError, match=what):
            async with open_replica(Ledger(), node=node, members=members, data=tmp_path / "1", options=NodeOptions()):
                pass

    run(main)
    assert not (tmp_path / "1").exists()
