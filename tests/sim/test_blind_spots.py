"""What once went unseen: bugs that broke no rule that was held, each put in by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from distkit._fast.codec import block_entries, block_info, encode_block
from distkit.core import StateMachine, StorageError
from distkit.raft.messages import Entries, HardState
from distkit.replica import ReplicaOptions
from distkit.replica.applier import Applier
from distkit.replica.proposals import Proposals
from distkit.replica.reads import Reads
from distkit.sim import Call, Fault, Outcome, Scenario, Workload, drawn, run
from distkit.sim.disks import RecordDisk
from distkit.sim.objects import ObjectsWorkload
from distkit.sim.replicas import ReplicaSystem

SECOND = 1_000_000_000
#: Three nodes that take a snapshot after every eighth entry.
OPTIONS = (("entries", 8), ("keep_entries", 0))


def calls(count: int, kind: str = "write", key: str = "r0") -> tuple[Call, ...]:
    """By three clients, each at its node."""
    return tuple(
        Call(number * SECOND // 20, 1 + number % 3, 1 + number % 3, kind, key, number) for number in range(1, count)
    )


def seen(
    disk: type[RecordDisk] = RecordDisk, workload: Callable[[], Workload] = ObjectsWorkload, **changes: Any
) -> Outcome:
    """The outcome of a run on such disks."""

    class System(ReplicaSystem):
        def disk(self, world: Any, node: int) -> Any:
            return disk()

    scenario = Scenario("raft", 1, 3, 4.0, machine_options=OPTIONS, calls=calls(60))
    return run(replace(scenario, **changes), system=System(workload))


CRASH = (Fault(3 * SECOND, "crash", 2, 0.2, "kill"),)


def test_a_sound_group_passes() -> None:
    assert seen(faults=CRASH).rule == ""


@pytest.mark.parametrize(
    ("point", "victim", "mark"),
    [
        ("fetching", 2, "a node died while it fetched a snapshot"),
        ("fetched", 2, "a crash came within a write"),
        ("loading", 2, "a node died while it loaded a snapshot"),
        ("giving", 0, "a node died while another fetched its snapshot"),
        ("given", 0, "a leader died as it had given a snapshot"),
    ],
)
def test_a_node_dies_at_each_point_of_the_way_of_a_snapshot(point: str, victim: int, mark: str) -> None:
    cut_off = Fault(SECOND, "isolate", 2, 1.5)
    outcome = seen(faults=(cut_off, Fault(int(2.45 * SECOND), "crash", victim, 1.0, point)))
    assert outcome.rule == ""
    assert outcome.marks.get(mark) == 1


@pytest.mark.parametrize(
    ("kind", "detail", "mark"),
    [
        ("crash", "boot", "a crash came while a node started"),
        ("crash", "written SnapshotMark", "a crash came within a write"),
        ("misdirect", "", "a write went astray"),
    ],
)
def test_the_log_that_ships_survives_what_strikes_its_writes_and_its_start(kind: str, detail: str, mark: str) -> None:
    struck = 0
    for time in (1, 2, 3):
        faults = (Fault(time * SECOND, kind, 2, 0.2, detail), Fault(3 * SECOND + SECOND // 2, "crash", 2, 0.2, "kill"))
        outcome = run(Scenario("raft", 1, 3, 4.0, wal=True, machine_options=OPTIONS, calls=calls(60), faults=faults))
        assert outcome.rule == ""
        struck += outcome.marks.get(mark, 0)
    assert struck


def test_nodes_that_need_a_snapshot_are_struck_while_they_get_it() -> None:
    """Drawn faults come by chance, which almost never meets so short a time."""
    drawn_faults = [fault for seed in range(100) for fault in drawn(seed).faults]
    struck = {fault.detail for fault in drawn_faults if fault.kind == "crash"}
    assert struck >= {"fetching", "fetched", "loading", "giving"}


def test_some_commands_are_long() -> None:
    sizes = [len(ObjectsWorkload().command(call, Random(call.value))) for call in calls(200)]
    assert min(sizes) < 20
    assert max(sizes) > 1200
    assert sum(sizes) < 400 * len(sizes)


def test_a_queue_that_outgrows_its_limit_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    together = tuple(replace(each, time=SECOND, client=each.value, node=1) for each in calls(20))
    limits = (("proposals_max", 4), ("reads_max", 4))
    assert seen(calls=together, machine_options=limits).rule == ""
    plain = Proposals.add

    def add(proposals: Proposals, *command: Any) -> None:
        proposals._options = ReplicaOptions()
        plain(proposals, *command)

    monkeypatch.setattr(Proposals, "add", add)
    outcome = seen(calls=together, machine_options=limits)
    assert outcome.rule == "bounds"
    assert "proposals where 4 is the limit" in outcome.text


class Notes(StateMachine):
    """Answers nothing that would tell how old its state is."""

    def __init__(self) -> None:
        self.count = 0
        self.hidden = 0

    def apply(self, index: int, term: int, time_us: int, command: bytes) -> bytes:
        self.count += 1
        self.hidden += len(command)
        return b"noted"

    def snapshot(self) -> Iterator[bytes]:
        return iter([b"%d %d" % (self.count, self.hidden)])

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.count, self.hidden = map(int, b"".join(chunks).split())

    def digest(self) -> bytes:
        return b"%d %d" % (self.count, self.hidden)


class NotesTest(Workload):
    """Without a model, so that no checker of histories looks at answers."""

    def application(self) -> StateMachine:
        return Notes()

    def command(self, call: Call, random: Any) -> bytes:
        return b"x" * call.value


def mixed() -> tuple[Call, ...]:
    """Commands at node 1, reads everywhere."""
    return tuple(
        Call(number * SECOND // 50, number % 3, 1 + number % 3, "read" if number % 3 else "command", "", number)
        for number in range(1, 150)
    )


def test_a_stale_read_is_seen_whatever_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read comes behind all that somebody got an answer to, though the workload judges nothing."""
    stalled = (Fault(SECOND, "stall", 2, 1.0), Fault(SECOND, "stall", 3, 0.5))
    assert seen(workload=NotesTest, calls=mixed(), faults=stalled).rule == ""
    plain = Reads.replied
    monkeypatch.setattr(Reads, "replied", lambda reads, now, reply: plain(reads, now, replace(reply, index=0)))
    assert seen(workload=NotesTest, calls=mixed(), faults=stalled).rule == "stale read"


class Lost(RecordDisk):
    """Forgets the last commit index that it was told."""

    def boot(self) -> list[Any]:
        records = super().boot()
        places = [place for place, each in enumerate(records) if type(each) is HardState]
        if len(places) < 2:
            return records
        old, *_, new = places
        return [*records[:new], replace(records[new], commit=records[old].commit), *records[new + 1 :]]


class Rewritten(RecordDisk):
    """Gives back other bytes than it took."""

    def boot(self) -> list[Any]:
        return [_rewritten(each) if type(each) is Entries else each for each in super().boot()]


def _rewritten(record: Entries) -> Entries:
    term, first, count, time_us = block_info(record.block)
    found = block_entries(record.block, first, first + count - 1)
    kinds = bytes(kind for kind, _ in found)
    return Entries(encode_block(term, first, time_us, kinds, [bytes(len(payload)) for _, payload in found]))


class Quitting(RecordDisk):
    """Fails once, for no reason."""

    batches = 0

    def complete(self) -> list[Any]:
        self.batches += 1
        if self.batches == 20:
            raise StorageError("the log is in a bad mood")
        return super().complete()


@pytest.mark.parametrize(
    ("disk", "text"),
    [
        (Lost, "came back with"),
        (Rewritten, "came back with another entry"),
        (Quitting, "ends itself, but nothing was done to its disk"),
    ],
)
def test_a_disk_that_is_wrong_in_what_nobody_asks_about_is_seen(disk: type[RecordDisk], text: str) -> None:
    outcome = seen(disk, faults=CRASH)
    assert outcome.rule == "disk"
    assert text in outcome.text


def test_a_state_that_a_snapshot_changes_is_seen_before_it_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is answered depends on it, and at the end all nodes have gone on from the same wrong one."""

    def restore(notes: Notes, chunks: Iterable[bytes]) -> None:
        notes.count, notes.hidden = int(b"".join(chunks).split()[0]), 0

    monkeypatch.setattr(Notes, "restore", restore)
    every = tuple(Fault(int(3.9 * SECOND) + node, "crash", node, 0.01, "kill") for node in (1, 2, 3))
    outcome = seen(workload=NotesTest, calls=mixed(), faults=every)
    assert outcome.rule == "state machine safety"
    assert "states differ" in outcome.text


def _skipping(applier: Applier, index: int, command: bytes) -> bytes | None:
    return b"noted" if index == 20 else None


def _repeating(applier: Applier, index: int, command: bytes) -> bytes | None:
    if index == 20:
        applier._application.apply(index, 1, 0, command)
    return None


@pytest.mark.parametrize("wrong", [_skipping, _repeating])
def test_an_entry_that_one_node_leaves_out_or_applies_twice_is_seen_at_once(
    monkeypatch: pytest.MonkeyPatch, wrong: Callable[[Applier, int, bytes], bytes | None]
) -> None:
    """Its result says nothing, and it may start from a snapshot of another node before the end."""
    plain, came = Applier._command, []

    def command(applier: Applier, index: int, term: int, time_us: int, command: bytes) -> Any:
        answer = None
        if index == 20:
            came.append(applier)
            answer = wrong(applier, index, command) if len(came) == 3 else None  # not the leader, who answers
        return answer or plain(applier, index, term, time_us, command)

    monkeypatch.setattr(Applier, "_command", command)
    outcome = seen(workload=NotesTest, calls=mixed(), machine_options=())
    assert outcome.rule == "state machine safety"
    assert "20" in outcome.text
