"""Slow start: the published table, and what holds for every window."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit.balance.slow_start import SlowStart
from distkit.core import LocalError


@pytest.mark.parametrize(
    ("elapsed", "factor"),
    [(0, 0.1), (1, 0.1), (6, 0.1), (15, 0.25), (30, 0.5), (45, 0.75), (59.99, 59.99 / 60), (60, 1.0), (1e9, 1.0)],
)
def test_the_table_of_a_minute(elapsed: float, factor: float) -> None:
    assert SlowStart(60.0).factor(elapsed) == factor


def test_aggression_raises_the_weight_early_or_late() -> None:
    assert SlowStart(100.0, aggression=2.0).factor(25.0) == pytest.approx(0.5)
    assert SlowStart(100.0, aggression=0.5, minimum=0.01).factor(50.0) == pytest.approx(0.25)


def test_the_first_second_counts_as_one() -> None:
    assert SlowStart(4.0, minimum=0.01).factor(0.0) == SlowStart(4.0, minimum=0.01).factor(1.0) == 0.25


def test_no_window_and_a_window_below_a_second() -> None:
    assert SlowStart().factor(0.0) == SlowStart().factor(-1.0) == 1.0
    assert SlowStart(0.5).factor(0.1) == 1.0


def test_time_that_went_back_counts_as_none() -> None:
    start = SlowStart(60.0)
    assert start.factor(-100.0) == start.factor(-math.inf) == start.factor(0.0) == 0.1
    assert start.factor(math.inf) == 1.0


@given(
    st.floats(0, 86400),
    st.floats(0.01, 100),
    st.floats(0.001, 1),
    st.floats(-10, 100000),
    st.floats(0, 1000),
)
def test_factors_lie_within_minimum_and_1_and_never_fall(
    window: float, aggression: float, minimum: float, elapsed: float, later: float
) -> None:
    start = SlowStart(window, aggression, minimum)
    start.check()
    assert minimum <= start.factor(elapsed) <= start.factor(elapsed + later) <= 1.0


def test_bad_input_is_refused() -> None:
    with pytest.raises(LocalError, match="NaN"):
        SlowStart(60.0).factor(math.nan)
    for name, value in (
        ("window", -1.0),
        ("window", math.nan),
        ("aggression", 0.0),
        ("minimum", 0.0),
        ("minimum", 2.0),
    ):
        with pytest.raises(LocalError, match=name):
            SlowStart(**{name: value}).check()
