"""How a machine is driven: what waits for the disk, crashes at every point, pauses, clocks, and deadlines."""

from __future__ import annotations

from typing import Any

import pytest
from toys import MS, SCENARIO, Note, ToyMachine, Toys, fault

from distkit.core import LocalError, PeerError
from distkit.sim.chance import SECOND
from distkit.sim.network import NetworkOptions
from distkit.sim.scenario import ClockOptions, DiskOptions

ONE, TWO, THREE = (Note(number, b"n%d" % number) for number in (1, 2, 3))


class Writer(ToyMachine):
    """Node 1 writes ONE at 100 ms of its first life, with a message at once and one that waits."""

    def begin(self, now: float) -> None:
        self.due = now + 0.1 if self.node == 1 and self.boot == 1 else float("inf")

    def tick(self, now: float) -> None:
        super().tick(now)
        self.sends.append((2, TWO))
        self.records.append(ONE)
        self.then.append((2, THREE))


class Chatter(ToyMachine):
    """Node 1 sends a numbered note every 10 ms; everybody remembers what came."""

    def begin(self, now: float) -> None:
        self.number = 0
        self.due = now + 0.01 if self.node == 1 else float("inf")

    def tick(self, now: float) -> None:
        super().tick(now)
        self.number += 1
        self.sends.append((2, Note(self.number, b"")))
        self.due = now + 0.01


def kinds(toys: Toys, *wanted: str, node: int = 1) -> list[str]:
    return [each[1] for each in toys.diary if each[1] in wanted and each[2] == node]


# -- the disk ---------------------------------------------------------------------------------------------------------


def test_what_waits_for_the_disk_leaves_when_it_is_durable_and_before_the_machine_knows() -> None:
    toys = Toys(Writer)
    assert not toys.run().rule
    assert kinds(toys, "flushed", "durable", "left", "persisted") == ["flushed", "left", "durable", "left", "persisted"]
    (at_once, _, sent, held), (later, _, waited, held_too) = toys.told("left", 1)
    assert (sent, held, waited, held_too) == (TWO, False, THREE, True)
    assert later - at_once == MS  # the time of the disk
    assert [each[3] for each in toys.told("receive", 2)] == [TWO, THREE]
    assert toys.told("persisted", 1)[0][-1] == 1


def test_a_write_waits_for_the_one_before_it_and_those_that_wait_are_one_batch() -> None:
    class Busy(ToyMachine):
        def begin(self, now: float) -> None:
            self.number = 0
            self.due = now + 0.1 if self.node == 1 else float("inf")

        def tick(self, now: float) -> None:
            super().tick(now)
            self.number += 1
            self.records.append(Note(self.number, b""))
            self.then.append((2, Note(self.number, b"")))
            self.due = now + 0.01 if self.number < 4 else float("inf")

    toys = Toys(Busy)
    assert not toys.run(disk=DiskOptions(25 * MS, 0)).rule
    durable = [(time, write.token) for time, writes in toys.told("durable", 1) for write in writes]
    assert [token for _, token in durable] == [1, 2, 3, 4]
    begin = durable[0][0]
    assert [round((time - begin) / MS) for time, _ in durable] == [0, 25, 25, 50]  # 2 and 3 are one batch
    assert [each[-1] for each in toys.told("persisted", 1)] == [1, 3, 4]
    assert [each[3].number for each in toys.told("receive", 2)] == [1, 2, 3, 4]


POINTS = {
    # point: (record survives, TWO left, THREE left, the machine was told)
    "flushed": ({False}, True, False, False),
    "written": ({False, True}, True, False, False),
    "durable": ({True}, True, False, False),
    "sent": ({True}, True, True, False),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_at_each_point_of_a_write(point: str) -> None:
    survives, sent, waited, told = POINTS[point]
    found = set()
    for seed in range(20):
        toys = Toys(Writer)
        outcome = toys.run(seed=seed, faults=(fault("crash", 50, detail=point, seconds=0.5),))
        assert not outcome.rule
        assert sum("a crash came" in mark for mark in outcome.marks) == 1
        assert len(toys.told("crashed", 1)) == 1
        messages = [each[2] for each in toys.told("left", 1)]
        assert messages == [TWO] * sent + [THREE] * waited
        assert len(toys.told("persisted", 1)) == told
        assert len(toys.told("durable", 1)) == (point in ("durable", "sent"))
        (_, before), (_, after) = toys.told("booted", 1)
        assert before == ()
        found.add(after == (ONE,))
        assert after in ((), (ONE,))
    assert found == survives


def test_a_crash_point_that_nothing_reaches_is_a_plain_crash_at_the_end() -> None:
    toys = Toys()
    assert not toys.run(faults=(fault("crash", 100, detail="sent", seconds=0.3),)).rule
    assert toys.told("crashed", 1) == [(400 * MS,)]
    assert toys.told("booted", 1)[1][0] == 400 * MS


def test_a_crash_forgets_all_but_the_disk() -> None:
    """What was not flushed, what waited for the disk, completions and timers of the process before: all gone."""
    toys = Toys(Writer)
    assert not toys.run(disk=DiskOptions(50 * MS, 0), faults=(fault("crash", 120, detail="", seconds=0.01),)).rule
    assert THREE not in [each[2] for each in toys.told("left", 1)]
    assert toys.told("persisted", 1) == []
    assert toys.told("durable", 1) == []


def test_kill_keeps_what_the_system_was_given_and_power_may_lose_it() -> None:
    for detail, expected in (("kill", {(ONE,)}), ("", {(), (ONE,)})):
        found = set()
        for seed in range(20):
            toys = Toys(Writer)
            toys.run(
                seed=seed, disk=DiskOptions(50 * MS, 0), faults=(fault("crash", 120, detail=detail, seconds=0.01),)
            )
            found.add(toys.told("booted", 1)[1][1])
        assert found == expected


# -- inputs -----------------------------------------------------------------------------------------------------------


def test_eager_hosts_flush_after_each_input_others_let_some_share_a_flush() -> None:
    flushes = {}
    for eager in (1.0, 0.3, 0.0):
        toys = Toys(Chatter)
        toys.run(eager=eager, network=NetworkOptions(0, 0))
        inputs = len(toys.told("receive", 2)) + len(toys.told("connected", 2))
        flushes[eager] = len(toys.told("flush", 2)) - 1  # one at the start
        assert inputs > 90
        assert flushes[eager] <= inputs
        # Every input is followed by a flush, at most a millisecond later.
        last = max(time for time, *_ in toys.told("receive", 2))
        assert toys.told("flush", 2)[-1][0] - last <= MS
        if eager == 1.0:
            assert flushes[eager] == inputs


def test_the_same_scenario_is_the_same_run_and_another_share_of_flushes_is_another() -> None:
    digests = []
    for eager in (0.5, 0.5, 0.9, 1.0):
        toys = Toys(Chatter)
        digests.append((toys.run(eager=eager, network=NetworkOptions()).digest, tuple(map(str, toys.diary))))
    assert digests[0] == digests[1]
    assert len({digest for digest, _ in digests}) == 3


def test_a_node_that_is_down_gets_nothing() -> None:
    toys = Toys(Chatter)
    toys.run(faults=(fault("crash", 200, node=2, seconds=0.3, detail="kill"),))
    times = [time for time, *_ in toys.told("receive", 2)]
    assert [time for time in times if 200 * MS < time < 500 * MS] == []
    assert min(time for time in times if time > 200 * MS) < 515 * MS


def test_connections_are_made_and_lost_with_a_reason() -> None:
    for detail, reason, notice in (("kill", "reset", 11 * MS), ("", "timeout", SECOND // 2)):
        toys = Toys()
        toys.run(faults=(fault("crash", 100, node=2, seconds=0.7, detail=detail),))
        (lost, _, peer, why) = toys.told("lost", 1)[0]
        assert (peer, why) == (2, reason)
        assert 0 <= lost - 100 * MS <= notice
        connected = [time for time, *_ in toys.told("connected", 1)]
        assert connected[0] < 20 * MS
        assert 800 * MS <= connected[1] < 820 * MS


# -- pauses -----------------------------------------------------------------------------------------------------------


def test_after_a_pause_everything_comes_at_once() -> None:
    toys = Toys(Chatter)
    toys.run(faults=(fault("pause", 200, node=2, seconds=0.4),))
    received = toys.told("receive", 2)
    assert [each[3].number for each in received] == list(range(1, len(received) + 1))
    assert [time for time, *_ in received if 200 * MS < time < 600 * MS] == []
    burst = [now for time, now, *_ in received if time == 600 * MS]
    assert len(burst) >= 38
    assert len(set(burst)) == 1


def test_a_stale_pause_lies_between_reading_the_clock_and_using_it() -> None:
    for detail, stale in (("", False), ("stale", True)):
        toys = Toys(Chatter)
        toys.run(faults=(fault("pause", 200, node=2, seconds=0.4, detail=detail),))
        nows = [now for time, now, *_ in toys.told("receive", 2) if time == 600 * MS]
        late = [now for now in nows if now < max(nows) - 0.3]
        assert late == (nows[:1] if stale else [])
        if stale:
            assert max(nows) - late[0] == pytest.approx(0.4, rel=0.01)


def test_a_timer_that_falls_due_in_a_pause_comes_once_at_its_end() -> None:
    toys = Toys(Chatter)
    toys.run(faults=(fault("pause", 205, node=1, seconds=0.4),))
    ticks = [time for time, *_ in toys.told("tick", 1)]
    assert [time for time in ticks if 205 * MS < time < 605 * MS] == []
    assert ticks.count(605 * MS) == 1


def test_a_pause_ends_with_the_process() -> None:
    toys = Toys(Chatter)
    faults = (fault("pause", 200, 2, 5.0), fault("crash", 300, 2, 0.1), fault("pause", 600, 2, 0.1))
    toys.run(faults=faults)
    numbers = [note.number for *_, note in toys.told("receive", 2)]
    assert numbers == sorted(set(numbers))  # what was held for the process that died never comes
    assert [number for number in numbers if 21 <= number <= 28] == []
    times = [time for time, *_ in toys.told("receive", 2)]
    assert [time for time in times if 200 * MS < time < 400 * MS] == []
    assert [time for time in times if 400 * MS < time < 500 * MS]


# -- time -------------------------------------------------------------------------------------------------------------


def test_clocks_begin_anywhere_at_each_start_and_never_go_back() -> None:
    toys = Toys(Chatter)
    toys.run(clock=ClockOptions(drift=0.05), faults=(fault("crash", 500, seconds=0.0), fault("jump", 700, seconds=2.0)))
    starts: list[list[float]] = []
    for _, what, node, *more in toys.diary:
        if what == "booted" and node == 1:
            starts.append([])
        elif node == 1 and what in ("receive", "tick", "flush", "connected", "lost"):
            starts[-1].append(more[0])
    assert len(starts) == 2
    for nows in starts:
        assert len(nows) > 50
        assert nows == sorted(nows)
    epochs = {int(nows[0]) for nows in starts} | {int(toys.told("flush", 2)[0][1])}
    assert len(epochs) == 3
    assert max(epochs) > 1000


def test_ticks_are_never_early_and_late_only_as_asked() -> None:
    class Exact(ToyMachine):
        def begin(self, now: float) -> None:
            self.random = self.toys.world.timeline  # nothing is drawn: the steps are fixed
            self.step = 0
            self.due = now + 0.001

        def tick(self, now: float) -> None:
            self.told("tick", now, self.due)
            self.step += 1
            self.due = now + (0.0007, 0.003, 0.000001, 0.0113)[self.step % 4]

    for late in (0, 20 * MS):
        toys = Toys(Exact)
        assert not toys.run(clock=ClockOptions(drift=0.03, late=late)).rule
        ticks = toys.told("tick")
        assert len(ticks) > 50
        assert all(now >= due for _, now, due in ticks)
        assert max(now - due for _, now, due in ticks) <= late / SECOND * 1.03 + 1e-8
        assert late == 0 or max(now - due for _, now, due in ticks) > 0.01


def test_a_jump_of_the_clock_brings_deadlines_nearer() -> None:
    class Waiting(ToyMachine):
        def begin(self, now: float) -> None:
            self.due = now + 0.9

    toys = Toys(Waiting)
    toys.run(faults=(fault("jump", 100, seconds=0.5),))
    assert toys.told("tick", 1)[0][0] == pytest.approx(400 * MS, abs=10)
    assert toys.told("tick", 2)[0][0] == pytest.approx(900 * MS, abs=10)


def test_a_tick_that_leaves_its_deadline_in_the_past_ends_the_run() -> None:
    class Stuck(ToyMachine):
        def begin(self, now: float) -> None:
            self.due = now + 0.1

        def tick(self, now: float) -> None:
            pass

    for eager in (1.0, 0.5, 0.0):
        outcome = Toys(Stuck).run(eager=eager)
        assert outcome.rule == "progress"
        assert "leaves its deadline in the past" in outcome.text
        assert outcome.events < 1500


def test_a_machine_whose_next_deadline_is_always_now_ends_the_run() -> None:
    class Restless(ToyMachine):
        def begin(self, now: float) -> None:
            self.due = now + 0.1

        def tick(self, now: float) -> None:
            self.due = now

    assert Toys(Restless).run().rule == "progress"


# -- what machines do wrong -------------------------------------------------------------------------------------------


def failing(door: str, what: Any) -> type[ToyMachine]:
    """A chatter whose node 2 does something in one of its doors."""

    def act(self: Any, now: float, *more: Any) -> Any:
        if self.node == 2:
            raise what
        return getattr(Chatter, door)(self, now, *more)

    return type("Failing", (Chatter,), {door: act})


@pytest.mark.parametrize("door", ["receive", "connected", "flush"])
def test_an_error_of_ours_out_of_a_door_is_a_finding_that_names_the_door(door: str) -> None:
    for error in (LocalError("not so"), PeerError("nonsense")):
        outcome = Toys(failing(door, error)).run()
        assert outcome.rule == "errors"
        assert f"node 2: {door} raised {type(error).__name__}: {error}" in outcome.text


def test_any_other_exception_is_a_finding_with_its_place() -> None:
    outcome = Toys(failing("receive", ZeroDivisionError("by zero"))).run()
    assert (outcome.rule, outcome.failed) == ("errors", True)
    assert "ZeroDivisionError: by zero (in act, test_sim_host.py:" in outcome.text


def test_an_exit_out_of_a_machine_ends_the_run_and_not_the_process() -> None:
    assert Toys(failing("receive", SystemExit(0))).run().rule == "errors"


@pytest.mark.parametrize("target", [0, 1, 3])
def test_a_message_to_nobody_is_a_finding(target: int) -> None:
    class Astray(ToyMachine):
        def begin(self, now: float) -> None:
            if self.node == 1:
                self.sends.append((target, ONE))

    outcome = Toys(Astray).run()
    assert outcome.rule == "errors"
    assert f"node 1 sends Note to node {target}" in outcome.text


class Scribbler(Chatter):
    """Changes what it receives."""

    def receive(self, now: float, source: int, message: Any) -> None:
        super().receive(now, source, message)
        message.number += 1


def test_a_machine_that_changes_what_it_received_is_found_when_looked_for() -> None:
    outcome = Toys(Scribbler).run(strict=True)
    assert outcome.rule == "mutation"
    assert "node 2 changed the Note that it received" in outcome.text
    assert not Toys(Scribbler).run().rule
    assert not Toys(Chatter).run(strict=True).rule


def test_strict_runs_are_the_same_runs() -> None:
    assert Toys(Chatter).run(strict=True).digest == Toys(Chatter).run().digest


# -- messages ---------------------------------------------------------------------------------------------------------


def test_messages_by_reference_are_the_same_objects_and_by_bytes_equal_ones() -> None:
    note = Note(1, b"x" * 10)

    class Once(ToyMachine):
        def begin(self, now: float) -> None:
            if self.node == 1:
                self.sends.append((2, note))

    for by_bytes in (False, True):
        toys = Toys(Once)
        toys.run(by_bytes=by_bytes)
        found = toys.told("receive", 2)[0][-1]
        assert found == note
        assert (found is note) is not by_bytes


def test_a_damaged_frame_is_dropped_and_counted() -> None:
    toys = Toys(Chatter)
    outcome = toys.run(by_bytes=True, network=NetworkOptions(MS, 0, flip=0.3))
    received = [each[-1].number for each in toys.told("receive", 2)]
    assert received == sorted(set(received))
    damaged = outcome.marks["a frame was damaged"]
    assert outcome.marks["a damaged frame was refused"] == damaged > 10
    assert len(toys.told("left", 1)) - damaged - len(received) in range(3)  # under way at the end


def test_a_group_that_does_not_come_to_rest_is_found() -> None:
    toys = Toys()
    toys.unsettled = "node 1 is unhappy"
    outcome = toys.run()
    assert outcome.rule == "liveness"
    assert "node 1 is unhappy" in outcome.text
    assert outcome.virtual == pytest.approx(SCENARIO.seconds + 60)
    assert toys.told("finish") == []
