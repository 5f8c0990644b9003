"""The judge of replicas in whole runs: disks that lie, machines that forget, states that part, groups that hang; and
each fault of a real disk once, which an honest replica survives."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from distkit.core import RoleName
from distkit.raft import formation_records, recover
from distkit.raft.messages import HardState
from distkit.sim import Broken, Call, Fault, Outcome, Scenario, run
from distkit.sim.chance import SECOND
from distkit.sim.disks import RecordDisk
from distkit.sim.objects import Objects, ObjectsWorkload
from distkit.sim.raft_oracle import RaftOracle
from distkit.sim.replicas import ReplicaGuest, ReplicaSystem
from distkit.sim.scenario import DiskOptions

CALLS = tuple(
    Call(SECOND // 2 + number * SECOND // 40, 1 + number % 3, 1 + number % 3, kind, "l0", number)
    for number, kind in enumerate(["append", "append", "read"] * 40, 1)
)
SCENARIO = Scenario(
    "raft",
    1,
    3,
    5.0,
    eager=1.0,
    sessions=False,
    calls=CALLS,
    machine_options=(("heartbeat", 0.05), ("election_timeout", 0.3), ("evidence_delay", 0.03), ("entries", 30)),
)


def crash(time: float, node: int = 1, detail: str = "", seconds: float = 0.3) -> Fault:
    return Fault(int(time * SECOND), "crash", node, seconds, detail)


NO_SNAPSHOTS = SCENARIO.machine_options[:3]


class With(ReplicaSystem):
    """Replicas on other disks, or of another machine."""

    def __init__(self, disk: Callable[[], Any] = RecordDisk, machine: Callable[..., Any] = recover) -> None:
        super().__init__(ObjectsWorkload, machine)
        self.make = disk

    def disk(self, world: Any, node: int) -> Any:
        return self.make()


def with_system(system: ReplicaSystem, *faults: Fault, **changes: Any) -> Outcome:
    return run(replace(SCENARIO, faults=faults, **changes), system=system)


def test_an_honest_group_passes() -> None:
    outcome = with_system(With(), crash(1.0), crash(2.0, 2), crash(3.0, 0))
    assert (outcome.rule, outcome.acknowledged > 100) == ("", True)


def without_votes(records: Any) -> list[Any]:
    return [HardState(each.term, 0, each.commit) if isinstance(each, HardState) else each for each in records]


def test_what_is_done_with_files_keeps_its_order_whatever_a_pause_does_to_its_moments() -> None:
    guest: Any = ReplicaGuest.__new__(ReplicaGuest)
    guest.world = SimpleNamespace(timeline=SimpleNamespace(now=0))
    guest._free, guest._turns = 0, deque()
    moments: list[Callable[[], None]] = []
    guest.later = lambda delay, act: moments.append(act)
    done: list[str] = []
    guest._in_turn(5, done.append, "load the old snapshot")
    guest._in_turn(0, done.append, "remove its file")
    for moment in reversed(moments):
        moment()
    assert done == ["load the old snapshot", "remove its file"]


# -- disks that lie ---------------------------------------------------------------------------------------------------


class Losing(RecordDisk):
    """Loses the last thing that was durable."""

    def lose(self, random: Random | None) -> None:
        super().lose(random)
        del self.records[-1:]


class Forgetting(RecordDisk):
    """Votes come back as none."""

    def boot(self) -> list[Any]:
        return without_votes(super().boot())


class Hasty(RecordDisk):
    """Says that a write is done before it is: a crash takes it back."""

    def __init__(self) -> None:
        super().__init__()
        self.late: list[Any] = []

    def complete(self) -> list[Any]:
        self.records += self.late
        self.late = []
        done, self._busy = self._busy, []
        self.late = [record for write in done for record in write.records]
        return done

    def lose(self, random: Random | None) -> None:
        super().lose(random)
        self.late = []


class Inventing(RecordDisk):
    """Comes back with a term that nobody wrote."""

    def boot(self) -> list[Any]:
        found = super().boot()
        states = [each for each in found if isinstance(each, HardState)]
        return [*found, HardState(states[-1].term + 1, 0, states[-1].commit)] if states else found


@pytest.mark.parametrize("disk", [Losing, Forgetting, Hasty, Inventing])
def test_a_disk_that_lies_is_found_at_the_start(disk: type[RecordDisk]) -> None:
    crashes = [crash(0.9 + number / 3, 1 + number % 3) for number in range(10)]
    outcome = with_system(With(disk), *crashes)
    assert outcome.rule == "disk"
    assert "came back with (term, vote, last)" in outcome.text
    assert "was durable" in outcome.text


@pytest.mark.parametrize(
    ("forget", "text"),
    [
        (lambda records: [each for each in records if not isinstance(each, HardState)], "recovered term 0"),
        (lambda records: records[:1] + records[1:-1], "recovered a log up to"),
        (without_votes, "recovered a vote for 0"),
    ],
)
def test_a_machine_that_forgets_what_was_recovered_is_found(forget: Callable[[Any], Any], text: str) -> None:
    system = With(machine=lambda records, **options: recover(forget(records), **options))
    outcome = with_system(system, crash(2.0), machine_options=NO_SNAPSHOTS)
    assert outcome.rule == "disk"
    assert text in outcome.text


# -- what is applied --------------------------------------------------------------------------------------------------


class Applying:
    """An oracle of two nodes, whose machines say what the test wants; entries 1 to 3 of term 1 are committed."""

    def __init__(self) -> None:
        self.told: list[tuple[int, bytes]] = []
        world = SimpleNamespace(scenario=replace(SCENARIO, nodes=2), marks=Counter(), clients=self)
        self.oracle = RaftOracle(world)  # type: ignore[arg-type]
        self.hosts = {node: self._host(node) for node in (1, 2)}
        self.applications = {node: self.oracle.watched(host, Objects()) for node, host in self.hosts.items()}
        self.oracle.ledger.committed += [1, 1, 1]

    def _host(self, node: int) -> Any:
        records = tuple(formation_records(ReplicaSystem(ObjectsWorkload).configuration(2)))
        machine = recover(records, node=node, incarnation=1000 + node, random=Random(1), now=1.0)
        replica = SimpleNamespace(applied_index=0, digest=bytes)
        host = SimpleNamespace(id=node, boots=1, guest=SimpleNamespace(raft=machine, machine=replica))
        self.oracle.booted(host, records)
        assert machine.role is RoleName.FOLLOWER
        return host

    def applied(self, index: int, content: bytes, result: bytes) -> None:
        self.told.append((index, content))

    def apply(self, node: int, index: int, command: bytes, term: int = 1) -> None:
        """A node applies an entry and flushes. A number that makes it unique stands in front of each command."""
        self.applications[node].apply(index, term, 0, command)
        self.oracle.seen(self.hosts[node])


def test_each_entry_is_told_once_in_whatever_order_nodes_apply() -> None:
    group = Applying()
    for node in (1, 2):
        group.apply(node, 1, b"00000001append l0 5 1")
        group.apply(node, 2, b"00000002append l0 6 1")
    assert group.told == [(1, b"00000001append l0 5 1"), (2, b"00000002append l0 6 1")]


@pytest.mark.parametrize(
    ("before", "then", "rule"),
    [
        ([], (1, 4, b"00000001append l0 5 1"), "state machine safety"),
        ([], (1, 1, b"00000001append l0 5 1", 2), "state machine safety"),
        ([(1, 1, b"00000001append l0 5 1")], (2, 1, b"00000002append l0 6 1"), "state machine safety"),
        ([(1, 1, b"00000001append l0 5 1")], (1, 2, b"00000001append l0 5 1"), "at most once"),
        ([(1, 1, b"00000001append l0 5 1")], (2, 2, b"00000001append l0 5 1"), "at most once"),
    ],
)
def test_what_must_not_be_applied(before: list[Any], then: tuple[Any, ...], rule: str) -> None:
    """Not committed; of another term; another command; twice on one node; twice on two."""
    group = Applying()
    for each in before:
        group.apply(*each)
    with pytest.raises(Broken) as caught:
        group.apply(*then)
    assert caught.value.rule == rule


def test_the_same_command_with_another_result_is_found() -> None:
    group = Applying()
    group.apply(1, 1, b"00000001append l0 5 1")
    group.applications[2].apply(3, 1, 0, b"00000003append l0 9 1")
    group.oracle.nodes[2].applied.clear()
    with pytest.raises(Broken, match="state machine safety"):
        group.apply(2, 1, b"00000001append l0 5 1")


# -- the end ----------------------------------------------------------------------------------------------------------


def test_a_group_that_can_not_come_to_rest_is_found() -> None:
    outcome = with_system(With(), Fault(2 * SECOND, "wipe", 1), Fault(2 * SECOND, "wipe", 2))
    assert outcome.rule == "liveness"
    assert "there is no leader" in outcome.text


def test_a_wiped_node_that_its_peers_would_take_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    wipe = Fault(2 * SECOND, "wipe", 1)
    assert not with_system(With(), wipe).rule
    monkeypatch.setattr("distkit.sim.replicas.judge_hello", lambda *more: None)
    outcome = with_system(With(), wipe)
    assert outcome.rule == "identity"
    assert "not refused" in outcome.text


def test_a_lost_answer_is_not_a_lost_write() -> None:
    """All that was acknowledged is there at the end, whoever died."""
    for seed in range(5):
        faults = [crash(0.6 + number / 4, 0, ("", "kill", "sent", "durable")[number % 4], 0.2) for number in range(16)]
        outcome = with_system(With(), *faults, seed=seed)
        assert not outcome.rule
        assert outcome.unknown > 0


# -- faults of a real disk --------------------------------------------------------------------------------------------

REAL = {
    "power": (crash(1.5, 2), "a node came back and replayed its log"),
    "error": (Fault(2 * SECOND, "error", 0, 0.5), "a write failed"),
    "badsync": (Fault(2 * SECOND, "badsync", 0, 0.5), "a sync failed and marked its pages clean"),
    "rot": (Fault(2 * SECOND, "rot", 1), "damage was"),
    "misplace": (Fault(2 * SECOND, "misplace", 3), "damage was"),
    "slow": (Fault(2 * SECOND, "slow", 0, 1.0), ""),
    "stall": (Fault(2 * SECOND, "stall", 0, 1.0), ""),
}


@pytest.mark.parametrize("kind", REAL)
def test_replicas_on_the_log_that_ships_survive_each_fault_of_a_disk(kind: str) -> None:
    fault, mark = REAL[kind]
    found: Counter[str] = Counter()
    for seed in range(4):
        disk = DiskOptions(segment_bytes=1 << 12)
        outcome = run(replace(SCENARIO, seed=seed, wal=True, by_bytes=True, disk=disk, faults=(fault,)))
        assert not outcome.rule, outcome.text
        assert outcome.acknowledged > 80
        found.update(outcome.marks)
    assert any(each.startswith(mark) for each in found)


def test_disks_that_are_full_everywhere_refuse_for_a_time_and_lose_nothing() -> None:
    faults = tuple(Fault(SECOND, "full", node, 3.0) for node in (1, 2, 3))
    tight = replace(SCENARIO, wal=True, by_bytes=True, disk=DiskOptions(segment_bytes=1 << 12), faults=faults)
    found: Counter[str] = Counter()
    for seed in (2, 3, 7, 13):
        outcome = run(replace(tight, seed=seed, machine_options=NO_SNAPSHOTS))
        assert not outcome.rule, outcome.text
        found.update(outcome.marks)
    assert found["a disk was full, and had space again"] > 2
    assert found["a call was refused: full"] > 0


def test_many_appends_at_one_time_can_be_judged() -> None:
    """While a disk stands still clients wait, and then nothing but appends comes: each says what was before it."""
    stalled = replace(SCENARIO, seed=2, wal=True, by_bytes=True, faults=(Fault(2 * SECOND, "stall", 0, 1.0),))
    assert run(stalled).rule == ""
