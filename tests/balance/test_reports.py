"""Weights from load reports: the formula, the blackout, expiry."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit.balance.reports import LoadReport, ReportOptions, Reports
from distkit.core import LocalError


def reports(**options: float) -> Reports:
    machine = Reports(ReportOptions(**options))
    machine.update(["a", "b"])
    return machine


def weight_of(report: LoadReport, **options: float) -> float | None:
    machine = reports(blackout=0.0, **options)
    machine.report("a", report, 0.0)
    return machine.weight("a", 0.0)


def test_the_formula() -> None:
    assert weight_of(LoadReport(100.0, application=0.5)) == 200.0
    assert weight_of(LoadReport(100.0, application=0.5, cpu=0.9)) == 200.0  # the application's own measure goes first
    assert weight_of(LoadReport(100.0, cpu=0.25)) == 400.0
    assert weight_of(LoadReport(100.0, application=0.5, eps=50.0)) == 100.0  # half of them fail: 0.5 + 1.0 * 0.5
    assert weight_of(LoadReport(100.0, application=0.5, eps=50.0), error_penalty=0.0) == 200.0
    assert weight_of(LoadReport(100.0, application=0.5, eps=50.0), error_penalty=3.0) == 50.0
    assert weight_of(LoadReport(300.0, application=1.5)) == 200.0


def test_reports_without_requests_or_utilization_are_ignored() -> None:
    machine = reports(blackout=0.0)
    machine.report("a", LoadReport(100.0, application=0.5), 0.0)
    for nothing in (LoadReport(0.0, application=0.5), LoadReport(100.0), LoadReport(0.0)):
        machine.report("a", nothing, 100.0)
    assert (machine.weight("a", 100.0), machine.ignored) == (200.0, 3)
    assert machine.weight("a", 180.0) is None  # they did not renew it either
    assert machine.weight("b", 0.0) is None


def test_a_weight_counts_after_the_blackout() -> None:
    machine = reports()
    assert (ReportOptions().blackout, ReportOptions().expiry) == (10.0, 180.0)
    for now in (5.0, 6.0, 14.0):
        machine.report("a", LoadReport(100.0, cpu=0.5), now)
    assert machine.deadline() == 15.0
    assert machine.weight("a", 14.999) is None
    assert machine.weight("a", 15.0) == 200.0
    assert machine.deadline() == 194.0


def test_ready_again_begins_the_blackout_anew() -> None:
    machine = reports()
    machine.report("a", LoadReport(100.0, cpu=0.5), 0.0)
    assert machine.weight("a", 10.0) == 200.0
    machine.ready("a")
    assert machine.weight("a", 11.0) is None
    machine.report("a", LoadReport(100.0, cpu=0.25), 12.0)
    assert machine.weight("a", 21.9) is None
    assert machine.weight("a", 22.0) == 400.0


def test_a_weight_expires_and_then_the_blackout_begins_anew() -> None:
    machine = reports()
    machine.report("a", LoadReport(100.0, cpu=0.5), 0.0)
    assert machine.weight("a", 179.9) == 200.0
    assert machine.weight("a", 180.0) is None
    assert machine.deadline() == math.inf
    machine.report("a", LoadReport(100.0, cpu=0.5), 200.0)
    assert machine.weight("a", 209.0) is None
    assert machine.weight("a", 210.0) == 200.0


def test_expiry_does_not_depend_on_being_asked_in_time() -> None:
    machine = reports()
    machine.report("a", LoadReport(100.0, cpu=0.5), 0.0)
    machine.report("a", LoadReport(100.0, cpu=0.5), 500.0)  # the gap was too long, though nobody looked meanwhile
    assert machine.weight("a", 505.0) is None
    assert machine.weight("a", 510.0) == 200.0


def test_time_that_goes_back_counts_as_none() -> None:
    machine = reports()
    machine.report("a", LoadReport(100.0, cpu=0.5), 100.0)
    assert machine.weight("a", 110.0) == 200.0
    machine.report("a", LoadReport(300.0, cpu=0.5), 50.0)
    assert machine.weight("a", 0.0) == 600.0


def test_update_keeps_what_is_known() -> None:
    machine = reports(blackout=0.0)
    machine.report("a", LoadReport(100.0, cpu=0.5), 0.0)
    machine.update(["a"])
    assert machine.weight("a", 0.0) == 200.0
    machine.update([])
    machine.update(["a"])
    assert machine.weight("a", 0.0) is None
    with pytest.raises(LocalError, match="no endpoint has the id 'b'"):
        machine.weight("b", 0.0)


def test_bad_input_is_refused_and_changes_nothing() -> None:
    machine = reports(blackout=0.0)
    machine.report("a", LoadReport(100.0, cpu=0.5), 0.0)
    for wrong in (math.nan, -1.0, math.inf):
        for name in ("rps", "application", "eps", "cpu"):
            report = LoadReport(**({"rps": 1.0, "cpu": 0.1} | {name: wrong}))
            with pytest.raises(LocalError, match=name):
                machine.report("a", report, 0.0)
    with pytest.raises(LocalError, match="no usable weight"):
        machine.report("a", LoadReport(1e300, cpu=1e-300), 0.0)
    with pytest.raises(LocalError, match="now must be a finite"):
        machine.weight("a", math.nan)
    assert machine.weight("a", 0.0) == 200.0
    for bad in ({"blackout": -1.0}, {"expiry": 0.0}, {"error_penalty": math.nan}):
        with pytest.raises(LocalError, match=next(iter(bad))):
            reports(**bad)


@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from(["report", "ready", "ask"])), max_size=40))
def test_known_weights_follow_the_definition(steps: list[tuple[float, str]]) -> None:
    machine, now, first, last = reports(blackout=15.0, expiry=60.0), 0.0, math.inf, -math.inf
    for step, what in steps:
        now += step
        if now - last >= 60.0:
            first = math.inf
        if what == "report":
            machine.report("a", LoadReport(10.0, cpu=0.5), now)
            first, last = min(first, now), now
        elif what == "ready":
            machine.ready("a")
            first = math.inf
        known = first < math.inf and now - first >= 15.0
        assert machine.weight("a", now) == (20.0 if known else None)
