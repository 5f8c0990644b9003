"""Shrinking, on runs that are made up: what a failure does not need goes, what it needs stays, and so does the rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from distkit.core import LocalError
from distkit.sim import Call, Fault, Outcome, Scenario, Shrinker, drawn
from distkit.sim.chance import SECOND
from distkit.sim.network import NetworkOptions
from distkit.sim.scenario import ClockOptions

Judge = Callable[[Scenario], str]


def outcome(
    scenario: Scenario, rule: str, virtual: float, fates: dict[tuple[int, int, int], tuple[str, int]]
) -> Outcome:
    return Outcome(scenario, rule, rule and f"{rule}: seen", "", 1, virtual, {}, 0, 0, 0, fates)


class Runs:
    """Runs that break a rule if the judge says so; `scenarios` are those that were tried."""

    def __init__(
        self, judge: Judge, virtual: float = 5.0, fates: tuple[tuple[int, int, int, str, int], ...] = ()
    ) -> None:
        self.judge = judge
        self.virtual = virtual
        self.fates = {each[:3]: each[3:] for each in fates}
        self.scenarios: list[Scenario] = []

    def __call__(self, scenario: Scenario) -> Outcome:
        self.scenarios.append(scenario)
        drawn_fates = self.fates if scenario.script is None else {}
        return outcome(scenario, self.judge(scenario), min(self.virtual, scenario.seconds), drawn_fates)


def large() -> Scenario:
    faults = tuple(
        Fault(number * SECOND // 10, kind, 1 + number % 5) for number, kind in enumerate(["crash", "pause", "clog"] * 8)
    )
    calls = tuple(
        Call(number * SECOND // 20, 1 + number % 3, 1 + number % 5, "append", "l0", number) for number in range(60)
    )
    return Scenario(
        "raft",
        1,
        5,
        8.0,
        by_bytes=True,
        wal=True,
        eager=0.3,
        network=NetworkOptions(loss=0.1),
        clock=ClockOptions(drift=0.01),
        machine_options=(("entries", 5), ("heartbeat", 0.04)),
        faults=faults,
        calls=calls,
    )


def test_only_what_the_failure_needs_is_left() -> None:
    """It needs two faults, a call, a lost message and one option."""

    def judge(scenario: Scenario) -> str:
        faults = {(fault.kind, fault.time) for fault in scenario.faults}
        needs = (
            {("crash", 0), ("pause", 7 * SECOND // 10)} <= faults
            and any(call.value == 42 for call in scenario.calls)
            and (scenario.script is None or (1, 2, 9, "drop", 0) in scenario.script)
            and ("entries", 5) in scenario.machine_options
        )
        return "log matching" if needs else ""

    fates = tuple((1 + number % 3, 2, number, "drop", 0) for number in range(1, 40) if number % 3 != 1)
    runs = Runs(judge, fates=(*fates, (1, 2, 9, "drop", 0)))
    told: list[str] = []
    shrinker = Shrinker(runs, told.append)
    small = shrinker.shrink(large())
    assert [(fault.kind, fault.time) for fault in small.faults] == [("crash", 0), ("pause", 7 * SECOND // 10)]
    assert [call.value for call in small.calls] == [42]
    assert small.script == ((1, 2, 9, "drop", 0),)
    assert small.machine_options == (("entries", 5),)
    assert (small.network, small.clock, small.eager) == (NetworkOptions(), ClockOptions(), 1.0)
    assert (small.by_bytes, small.wal, small.sessions) == (False, False, False)
    assert small.nodes == 3  # the highest node that has a part in it
    assert shrinker.best.rule == "log matching"
    assert shrinker.best.scenario == small
    assert told
    assert shrinker.runs < 400


def test_another_rule_is_another_failure() -> None:
    """With few faults something else breaks: that is not what was to be shrunk."""

    def judge(scenario: Scenario) -> str:
        return "election safety" if len(scenario.faults) >= 5 else "liveness"

    shrinker = Shrinker(Runs(judge))
    small = shrinker.shrink(large())
    assert len(small.faults) == 5
    assert shrinker.best.rule == "election safety"


def test_a_failure_that_needs_nothing_shrinks_to_nothing() -> None:
    small = Shrinker(Runs(lambda scenario: "always")).shrink(large())
    assert (small.faults, small.calls, small.script, small.nodes, small.machine_options) == ((), (), (), 1, ())


def test_a_failure_that_needs_everything_stays() -> None:
    scenario = replace(large(), script=((1, 2, 1, "drop", 0),))
    shrinker = Shrinker(Runs(lambda each: "all of it" if each == scenario else ""))
    assert shrinker.shrink(scenario) == scenario


def test_what_comes_after_the_end_goes_at_once() -> None:
    runs = Runs(lambda scenario: "early", virtual=0.5)
    Shrinker(runs, runs_max=3).shrink(large())
    last = runs.scenarios[-1]
    assert last.seconds <= 0.502
    assert all(each.time <= SECOND for each in (*last.faults, *last.calls))


def test_fewer_nodes_take_what_happened_to_the_others_along() -> None:
    faults = (
        Fault(0, "cut", 1, 1.0, "1>4 4>1"),
        Fault(1, "cut", 1, 1.0, "1>2"),
        Fault(2, "crash", 5),
        Fault(3, "crash", 0),
    )

    def judge(scenario: Scenario) -> str:
        cut = any(fault.detail == "1>2" for fault in scenario.faults)
        return "split" if cut and scenario.nodes >= 2 and Fault(3, "crash", 0) in scenario.faults else ""

    small = Shrinker(Runs(judge)).shrink(replace(large(), faults=faults))
    assert small.nodes == 2
    assert small.faults == (faults[1], faults[3])


def test_runs_are_bounded() -> None:
    runs = Runs(lambda scenario: "always" if len(scenario.faults) > 3 else "")
    shrinker = Shrinker(runs, runs_max=10)
    small = shrinker.shrink(large())
    assert shrinker.runs == 10
    assert runs.judge(small) == "always"


@pytest.mark.parametrize("rule", ["", "undecided"])
def test_a_run_that_does_not_fail_is_not_shrunk(rule: str) -> None:
    with pytest.raises(LocalError, match="breaks no rule"):
        Shrinker(Runs(lambda scenario: rule)).shrink(drawn(1))
