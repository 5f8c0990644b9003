"""The inspection judges as recovery does, at every byte, and does not call a running node's log damaged."""

from collections.abc import Callable
from random import Random
from typing import Any

from directories import Node, block, two_segments
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distkit._fast.codec import block_info
from distkit.cli.findings import BlockFound, Damage, Finding, RecordFound, Summary
from distkit.cli.inspection import Inspection
from distkit.core import DistkitError, Files, IdentityError
from distkit.log import (
    Recovered,
    SnapshotReader,
    WalIdentity,
    list_snapshots,
    read_identity,
    recover,
    remove_snapshots,
    segment_ids,
    segment_name,
    snapshot_name,
)
from distkit.raft.durable import fold
from distkit.raft.messages import Entries, HardState, Truncate
from distkit.replica import decoded
from distkit.sim.files import MemoryFiles


def started(files: Files) -> Recovered | None:
    """What a node would start with; None if it would refuse."""
    try:
        identity = read_identity(files)
        assert identity is not None
        recovered = recover(files, WalIdentity(identity.cluster, identity.node, identity.incarnation))
        fold(decoded(recovered.records))
        for _, _, name in list_snapshots(files):
            with SnapshotReader(files, name) as reader:
                assert list(reader)
    except DistkitError:
        return None
    return recovered


def inspected(files: Files) -> list[Finding]:
    return list(Inspection(files, entries=True).findings())


def is_damaged(files: Files) -> bool:
    """The verdict; a file of another release counts as one that a node refuses."""
    try:
        findings = inspected(files)
    except IdentityError:
        return True
    summary = findings[-1]
    assert isinstance(summary, Summary)
    assert summary.damages == sum(isinstance(each, Damage) for each in findings)
    return summary.damages > 0


def values(findings: list[Finding]) -> list[Any]:
    """What was written, in order, as typed values."""
    records = (each for each in findings if isinstance(each, RecordFound) and not each.copy)
    return [each.value for each in records if each.value is not None]


def expected_values(recovered: Recovered) -> list[Any]:
    found = []
    for value in decoded(recovered.records):
        if isinstance(value, Entries):
            term, first, count, time_us = block_info(value.block)
            value = BlockFound(term, first, first + count - 1, len(value.block), time_us)
        found.append(value)
    return found


def test_every_flipped_byte_is_judged_as_recovery_does() -> None:
    files = MemoryFiles()
    two_segments(files)
    verdicts = set()
    for name in files.listdir():
        data = files.read(name)
        used = [offset for offset, byte in enumerate(data) if byte] if name not in ("lock", "next") else []
        for offset in {at for byte in used for at in (byte, byte + 1) if at < len(data)}:
            broken = files.copy()
            broken.flip(name, 8 * offset + 4)
            verdicts.add(is_damaged(broken))
            assert is_damaged(broken) == (started(broken) is None), (name, offset)
    assert verdicts == {False, True}  # a hurt mark is found by nobody and hurts nobody


STEPS = st.lists(st.sampled_from(["entries", "sync", "mark", "truncate", "restart"]), max_size=40)


@given(STEPS, st.none() | st.integers(0, 1000), st.none() | st.integers(0, 1 << 30))
@settings(max_examples=300)
@example(["entries"] * 30 + ["mark"], None, None)
@example(["entries", "sync", "entries", "restart", "entries"], 3, None)
def test_every_log_is_judged_as_recovery_does(steps: list[str], crash: int | None, flip: int | None) -> None:
    files = MemoryFiles()
    node = Node(files)
    last = 0
    for step in steps:
        match step:
            case "entries":
                node.append(HardState(1, 1, 0), block(1, last + 1, b"x" * 500, b"y" * 100))
                last += 2
            case "truncate" if last > 1:
                node.append(Truncate(last))
                last -= 1
            case "sync":
                node.wal.sync()
            case "mark":
                node.wal.mark()
            case "restart":
                node.crash()
                node = Node(files)
    node.crash()
    if crash is not None:
        files.crash(Random(crash))
    if flip is not None:
        ids = segment_ids(files.listdir())
        name = segment_name(ids[flip % len(ids)])
        files.flip(name, flip % (8 * len(files.read(name).rstrip(b"\0"))))

    recovered = started(files)
    assert is_damaged(files) == (recovered is None)
    if recovered is not None:
        findings = inspected(files)
        assert values(findings) == expected_values(recovered)
        assert findings[-1].last_index == fold(decoded(recovered.records)).window.last  # type: ignore[union-attr]


class Watched:
    """Files on which something happens before each call that looks at the disk."""

    def __init__(self, files: MemoryFiles, event: Callable[[], None]) -> None:
        self._files = files
        self._event = event

    def __getattr__(self, name: str) -> Any:
        if name in ("open", "pread", "listdir"):
            self._event()
        return getattr(self._files, name)


def damages(findings: list[Finding]) -> list[Damage]:
    return [each for each in findings if isinstance(each, Damage)]


def test_a_log_that_grows_while_it_is_read_is_whole() -> None:
    files = MemoryFiles()
    node = Node(files)
    node.write(HardState(1, 1, 0), block(1, 1, b"first"))
    indexes = iter(range(2, 200))

    def grow() -> None:
        index = next(indexes, None)
        if index is not None:
            node.write(HardState(1, 1, index - 1), block(1, index, b"x" * 200))

    findings = inspected(Watched(files, grow))
    assert damages(findings) == []
    firsts = [value.first for value in values(findings) if isinstance(value, BlockFound)]
    assert firsts == list(range(1, len(firsts) + 1))
    assert len(firsts) > 10


def test_a_node_may_compact_its_log_at_any_moment_of_the_reading() -> None:
    calls = 0
    moment = 0
    while moment <= calls:
        moment, calls = moment + 1, 0
        files = MemoryFiles()
        node = Node(files)
        for index in range(1, 30):
            node.write(HardState(1, 1, index - 1), block(1, index, b"x" * 800))
        node.snapshot(3, 1, b"state")

        def compact(node: Node = node, moment: int = moment) -> None:
            nonlocal calls
            calls += 1
            if calls == moment:
                node.snapshot(29, 1, b"state")
                remove_snapshots(node.files, [snapshot_name(29, 1)])
                assert node.wal.release(0, 29) > 0

        assert damages(inspected(Watched(files, compact))) == [], moment
    assert moment > 20
