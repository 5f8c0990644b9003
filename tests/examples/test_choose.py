"""The members of `choose.py` in one process, over real sockets and files; and what its verdict says."""

from __future__ import annotations

import random

import choose
import pytest
import trio
import trio.testing
from choose_member import Member

from distkit.core import IdentityError, LocalError, StorageError

GROUP = 1 << 56
HELLO_PATIENCE = 20


class Cluster:
    def __init__(self, folder):
        self.folder = folder
        ports = choose._free_ports(3)
        self.members = {node: f"127.0.0.1:{port}" for node, port in enumerate(ports, 1)}
        self.said = []

    def member(self, node, *, form=False, group=GROUP):
        data = self.folder / str(node)
        return Member(node, self.members, group, data, form=form, say=lambda text: self.said.append((node, text)))


def start(nursery, member):
    """Run a member that proposes its own value; the scope ends it."""
    go, scope = trio.Event(), trio.CancelScope()
    go.set()

    async def run():
        with scope:
            await member.run(f"value {member.node}".encode(), go)

    nursery.start_soon(run)
    return scope


async def all_learn(members):
    with trio.fail_after(HELLO_PATIENCE):
        for member in members:
            await member.learned.wait()
    return {member.decided.value for member in members}


def test_three_members_agree_and_one_that_starts_again_still_knows(tmp_path):
    cluster = Cluster(tmp_path)

    async def main():
        async with trio.open_nursery() as nursery:
            members = [cluster.member(node, form=True) for node in (1, 2, 3)]
            scopes = [start(nursery, member) for member in members]
            (value,) = await all_learn(members)
            for scope in scopes:
                scope.cancel()
        assert value in (b"value 1", b"value 2", b"value 3")
        async with trio.open_nursery() as nursery:
            again = cluster.member(2)
            scope = start(nursery, again)
            assert await all_learn([again]) == {value}  # it asks nobody
            scope.cancel()
        fates = [text for _, text in cluster.said if text.startswith("is told")]
        assert sum(text.endswith("was chosen") for text in fates) <= 1

    trio.run(main)


def test_two_of_three_are_enough(tmp_path):
    cluster = Cluster(tmp_path)

    async def main():
        async with trio.open_nursery() as nursery:
            members = [cluster.member(node, form=True) for node in (1, 3)]
            scopes = [start(nursery, member) for member in members]
            assert len(await all_learn(members)) == 1
            for scope in scopes:
                scope.cancel()

    trio.run(main)


def test_a_node_without_its_disk_does_not_start_again(tmp_path):
    async def main():
        with pytest.raises(LocalError, match="forgotten its promises"):
            Cluster(tmp_path).member(1)

    trio.run(main)


def test_a_directory_is_formed_once_and_belongs_to_one_choice(tmp_path):
    async def main():
        async with trio.open_nursery() as nursery:
            scope = start(nursery, Cluster(tmp_path).member(1, form=True))
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
        with pytest.raises((LocalError, IdentityError)):
            Cluster(tmp_path).member(1, form=True)
        with pytest.raises((IdentityError, StorageError)):
            Cluster(tmp_path).member(1, group=GROUP * 2)

    trio.run(main)


AGREED = [(1, "tea"), (3, "tea"), (2, "tea"), (2, "tea")]


@pytest.mark.parametrize(
    ("decisions", "right", "word"),
    [
        (AGREED, True, "agree on tea"),
        (AGREED[:2], False, "node 2 has not learned"),
        ([*AGREED, (1, "water")], False, "WRONG: tea and water"),
        ([(node, "beer") for node in (1, 2, 3)], False, "nobody proposed beer"),
    ],
)
def test_the_verdict(decisions, right, word):
    random.Random(1).shuffle(decisions)
    found = choose.verdict(decisions)
    assert found[0] is right
    assert word in found[1]
