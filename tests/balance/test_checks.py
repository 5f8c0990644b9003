"""Active checks: rise and fall, intervals, time-outs, answers that come late or twice."""

import math
import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit.balance.checks import Checked, CheckOptions, Checks, Probe
from distkit.core import LocalError


def checks(*ids: str, seed: int = 1, **options: Any) -> Checks:
    machine = Checks(CheckOptions(**{"jitter": 0.0} | options), random.Random(seed))
    machine.update(ids or ("a",), 0.0)
    return machine


def answer(machine: Checks, well: bool, after: float = 0.0) -> tuple[float, list[Checked]]:
    """Run to the next probe and answer it: when it was sent, and what changed."""
    now = machine.deadline()
    (probe,) = machine.tick(now)
    assert isinstance(probe, Probe)
    return now, machine.answered(probe.probe_id, well, now + after)


def run(machine: Checks, answers: str) -> str:
    """Health after each answer: "+" or "-"."""
    states = ""
    for how in answers:
        answer(machine, how == "+")
        states += "+" if machine.healthy("a") else "-"
    return states


@pytest.mark.parametrize(
    ("answers", "states"),
    [
        ("+", "+"),  # the first answer decides at once
        ("-", "-"),
        ("+--+---", "++++++-"),
        ("-+-++", "----+"),
        ("+---++", "+++--+"),
        ("+---+-++", "+++----+"),
    ],
)
def test_rise_and_fall_count_answers_in_a_row(answers: str, states: str) -> None:
    assert run(checks(), answers) == states


def test_nothing_is_known_before_the_first_answer() -> None:
    machine = checks()
    assert machine.healthy("a") is None
    assert machine.tick(0.0) == [Probe("a", 1)]
    assert machine.healthy("a") is None
    assert machine.answered(1, True, 0.5) == [Checked("a", True)]


def test_the_interval_follows_the_state_and_is_short_on_an_edge() -> None:
    machine = checks(interval=10.0, unhealthy_interval=7.0, edge_interval=2.0, idle_after=1e4, rise=2, fall=2)
    sent = [answer(machine, how == "+", after=0.5)[0] for how in "++--+++"]
    # healthy 10, 10; edge 2; unhealthy 7; edge 2; healthy 10. Half a second goes by with each answer.
    assert [round(b - a - 0.5, 9) for a, b in pairwise(sent)] == [10, 10, 2, 7, 2, 10]


def test_without_traffic_checks_are_slow_and_traffic_wakes_them() -> None:
    machine = checks(interval=5.0, idle_interval=60.0, idle_after=20.0)
    sent = [answer(machine, True)[0] for _ in range(6)]
    assert sent == [0, 5, 10, 15, 20, 80]
    machine.traffic(81.0)
    assert machine.deadline() == 86.0
    assert answer(machine, True)[0] == 86.0
    assert machine.deadline() == 91.0


def test_a_probe_that_is_not_answered_in_time_is_a_bad_answer() -> None:
    machine = checks(timeout=1.0, fall=2)
    answer(machine, True)
    for expected in ([], [Checked("a", False)]):
        machine.tick(machine.deadline())
        assert machine.tick(machine.deadline() - 0.001) == []
        assert machine.tick(machine.deadline()) == expected


def test_late_and_duplicate_answers_are_counted_and_ignored() -> None:
    machine = checks(timeout=1.0)
    answer(machine, True)
    assert machine.answered(1, False, 0.5) == []  # twice
    (probe,) = machine.tick(5.0)
    assert isinstance(probe, Probe)
    machine.tick(6.0)  # timed out
    assert machine.answered(probe.probe_id, False, 6.1) == []
    for nobodys in (0, -1, 99):
        assert machine.answered(nobodys, False, 6.1) == []
    assert (machine.ignored, machine.healthy("a")) == (5, True)


def test_an_answer_after_its_time_is_bad_even_if_no_tick_came_before_it() -> None:
    machine = checks(timeout=1.0)
    (probe,) = machine.tick(0.0)
    assert isinstance(probe, Probe)
    assert machine.answered(probe.probe_id, True, 1.0) == [Checked("a", False)]
    assert machine.ignored == 1


def test_an_endpoint_has_one_probe_under_way() -> None:
    machine = checks(timeout=30.0, interval=1.0)
    assert len(machine.tick(0.0)) == 1
    for now in (1.0, 2.0, 29.0):
        assert machine.tick(now) == []


def test_jitter_and_spread_draw_apart_what_would_come_at_once() -> None:
    names = [str(n) for n in range(50)]
    machine = checks(*names, spread=5.0, jitter=0.5, interval=10.0)
    first, second = {}, {}
    while len(second) < 50:
        now = machine.deadline()
        for probe in machine.tick(now):
            assert isinstance(probe, Probe)
            (second if probe.id in first else first)[probe.id] = now
            machine.answered(probe.probe_id, True, now)
    assert 0 <= min(first.values()) < 1
    assert 4 < max(first.values()) < 5
    waits = [second[id] - first[id] for id in second]
    assert 10 <= min(waits) < 11
    assert 14 < max(waits) < 15


def test_update_keeps_state_and_forgets_probes_of_those_that_left() -> None:
    machine = checks("a", "b")
    probes = {probe.id: probe for probe in machine.tick(0.0) if isinstance(probe, Probe)}
    machine.answered(probes["a"].probe_id, True, 0.1)
    machine.update(["a", "c"], 0.2)
    assert machine.healthy("a") is True
    assert machine.answered(probes["b"].probe_id, True, 0.3) == []
    assert machine.ignored == 1
    assert machine.tick(0.3) == [Probe("c", 3)]
    machine.update(["b"], 0.4)
    assert machine.healthy("b") is None
    machine.update([], 0.5)
    assert machine.deadline() == math.inf
    with pytest.raises(LocalError, match="no endpoint has the id 'a'"):
        machine.healthy("a")


def test_late_ticks_and_time_that_goes_back_are_harmless() -> None:
    machine = checks(interval=5.0)
    answer(machine, True)
    assert machine.tick(1000.0) == [Probe("a", 2)]  # one probe, however late
    assert machine.tick(3.0) == []
    assert machine.answered(2, True, 4.0) == []
    assert machine.deadline() > 1000.0


def test_bad_input_is_refused() -> None:
    machine = checks()
    for call in (machine.tick, machine.traffic, lambda now: machine.answered(1, True, now)):
        with pytest.raises(LocalError, match="now must be a finite"):
            call(math.nan)
    with pytest.raises(LocalError, match="same id"):
        machine.update(["a", "a"], 1.0)
    for wrong in (
        {"interval": 0.0},
        {"timeout": math.nan},
        {"rise": 0},
        {"fall": 1.5},
        {"jitter": 2.0},
        {"spread": -1.0},
    ):
        with pytest.raises(LocalError, match=next(iter(wrong))):
            checks(**wrong)


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 4), st.integers(1, 4))
def test_health_equals_the_definition(answers: list[bool], rise: int, fall: int) -> None:
    machine = checks(rise=rise, fall=fall)
    health, run = None, 0
    for well in answers:
        answer(machine, well)
        if health is None:
            health = well
        else:
            run = run + 1 if well != health else 0
            if run == (rise if well else fall):
                health, run = well, 0
        assert machine.healthy("a") is health


@given(st.lists(st.tuples(st.sampled_from(["tick", "well", "ill", "again", "update", "traffic"]), st.floats(0, 8))))
def test_probes_are_numbered_once_and_at_most_one_an_endpoint_is_open(steps: list[tuple[str, float]]) -> None:
    machine, now, sent, closed = checks("a", "b", jitter=0.3), 0.0, {}, 0
    for what, step in steps:
        now += step
        if what == "tick":
            for probe in machine.tick(now):
                if isinstance(probe, Probe):
                    assert probe.probe_id > closed
                    closed = probe.probe_id
                    sent[probe.id] = probe.probe_id
            assert machine.deadline() > now
        elif what == "update":
            machine.update(["a", "b"], now)
        elif what == "traffic":
            machine.traffic(now)
        elif sent:
            id = min(sent)
            probe_id = sent[id] if what == "again" else sent.pop(id)
            machine.answered(probe_id, what == "well", now)
