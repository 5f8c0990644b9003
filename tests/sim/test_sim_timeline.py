"""Virtual time: the order of events, the digest of what happened, and clocks that are never early."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distkit.sim.chance import SECOND, stream
from distkit.sim.timeline import NodeClock, Timeline


class Recorder:
    """A timeline whose events are remembered: (now, kind, node, payload)."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, int, Any]] = []
        self.timeline = Timeline((self._taker(0), self._taker(1)))

    def _taker(self, kind: int) -> Any:
        return lambda node, payload: self.seen.append((self.timeline.now, kind, node, payload))


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 1), st.integers(0, 9)), max_size=40))
def test_events_come_by_time_and_then_in_the_order_of_asking(asked: list[tuple[int, int, int]]) -> None:
    recorder = Recorder()
    for number, (time, kind, node) in enumerate(asked):
        recorder.timeline.at(time, kind, node, number)
    assert recorder.timeline.run(100, 1000)
    numbered = [(time, kind, node, number) for number, (time, kind, node) in enumerate(asked)]
    assert recorder.seen == sorted(numbered, key=lambda event: (event[0], event[3]))
    assert recorder.timeline.events == len(asked)
    assert recorder.timeline.now == 100


def test_payloads_are_never_compared() -> None:
    recorder = Recorder()
    for _ in range(5):
        recorder.timeline.at(3, 0, 1, object())
    assert recorder.timeline.run(3, 10)
    assert len(recorder.seen) == 5


def test_time_passes_up_to_and_with_the_end() -> None:
    recorder = Recorder()
    for time in (5, 6, 7):
        recorder.timeline.at(time, 0, 1)
    assert recorder.timeline.run(6, 10)
    assert [event[0] for event in recorder.seen] == [5, 6]
    recorder.timeline.after(0, 1, 2)
    assert recorder.timeline.run(10, 10)
    assert [event[:2] for event in recorder.seen] == [(5, 0), (6, 0), (6, 1), (7, 0)]


def test_an_event_may_cause_others_at_the_same_time() -> None:
    seen: list[int] = []

    def take(node: int, payload: Any) -> None:
        seen.append(node)
        if node < 5:
            timeline.after(0, 0, node + 1)

    timeline = Timeline((take,))
    timeline.at(9, 0, 1)
    timeline.at(9, 0, 100)
    assert timeline.run(9, 100)
    assert seen == [1, 100, 2, 3, 4, 5]


def test_events_without_end_are_seen() -> None:
    timeline = Timeline((lambda node, payload: timeline.after(0, 0, 1),))
    timeline.at(1, 0, 1)
    assert not timeline.run(10, 1000)
    assert timeline.now == 1
    assert timeline.events == 1000


def digest(*events: tuple[int, int, int], note: bytes = b"") -> str:
    recorder = Recorder()
    for event in events:
        recorder.timeline.at(*event)
    recorder.timeline.run(1000, 1000)
    recorder.timeline.note(note)
    return recorder.timeline.digest()


def test_the_digest_names_everything_that_happened() -> None:
    assert digest((1, 0, 1), (2, 1, 2)) == digest((1, 0, 1), (2, 1, 2))
    others = [
        digest(),
        digest((1, 0, 1)),
        digest((1, 0, 1), (2, 1, 2)),
        digest((1, 0, 1), (3, 1, 2)),
        digest((1, 0, 1), (2, 0, 2)),
        digest((1, 0, 1), (2, 1, 3)),
        digest((1, 0, 2), (1, 0, 1)),
        digest((1, 0, 1), (1, 0, 2)),
        digest((1, 0, 1), (2, 1, 2), note=b"x"),
    ]
    assert len(set(others)) == len(others)
    assert digest((1, 0, 1)) == "03387c29184ace577a2cf41aa764d0e2"


def test_the_digest_may_be_asked_for_in_between_and_is_that_of_long_runs_too() -> None:
    asked, silent = Recorder(), Recorder()
    for recorder in (asked, silent):
        for time in range(20_000):
            recorder.timeline.at(time, time % 2, time % 7)
    for step in range(0, 20_001, 500):
        asked.timeline.run(step, 1000)
        asked.timeline.digest()
    silent.timeline.run(20_000, 30_000)
    assert asked.timeline.digest() == silent.timeline.digest()


# -- clocks -----------------------------------------------------------------------------------------------------------

epochs = st.floats(0.0, 1e6)
rates = st.floats(0.95, 1.05)
borns = st.integers(0, 86_400 * SECOND)
delays = st.floats(-3.0, 6.0).map(lambda power: 10.0**power)


@settings(max_examples=500)
@given(epochs, rates, borns, delays)
def test_a_deadline_is_never_early_and_at_most_a_few_nanoseconds_late(
    epoch: float, rate: float, born: int, delay: float
) -> None:
    """The first true time at which the clock shows it: at the one before it shows less."""
    clock = NodeClock(epoch, rate, born)
    due = epoch + delay
    time = clock.when(due)
    assert isinstance(time, int)
    assert time >= born
    assert clock.read(time) >= due
    exact = born + delay / rate * SECOND
    # Floats of this size are themselves some nanoseconds apart.
    assert time - exact <= 3 + exact * 1e-15 + (epoch + delay) * 1e-6


@settings(max_examples=300)
@given(epochs, st.integers(0, 2**32))
def test_many_deadlines_of_one_clock(epoch: float, seed: int) -> None:
    random = stream(seed, "deadlines")
    clock = NodeClock(float(int(epoch)), 1.0 + 0.1 * (random.random() - 0.5), 5)
    for _ in range(50):
        due = epoch + 10.0 ** (random.random() * 9 - 3)
        assert clock.read(clock.when(due)) >= due


@given(rates, borns, st.integers(0, 10**15))
def test_a_clock_begins_at_its_epoch_and_runs_at_its_rate(rate: float, born: int, passed: int) -> None:
    clock = NodeClock(1000.0, rate, born)
    assert clock.read(born) == 1000.0
    assert clock.read(born + passed) == pytest.approx(1000.0 + rate * passed / SECOND, rel=1e-12)


@given(rates, st.lists(st.tuples(st.integers(0, 10 * SECOND), st.floats(0, 5)), min_size=1, max_size=20))
def test_a_clock_jumps_ahead_and_never_goes_back(rate: float, moves: list[tuple[int, float]]) -> None:
    clock, time = NodeClock(7.0, rate, 0), 0
    for passed, jump in moves:
        before = clock.read(time)
        due = before + 3.0
        expected = clock.when(due)
        clock.jump(jump)
        assert clock.read(time) == pytest.approx(before + jump)
        assert clock.when(due) <= expected
        shown = clock.read(time)
        time += passed
        assert clock.read(time) >= shown
