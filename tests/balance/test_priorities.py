"""Sharing of load among priorities: the tables of the rule, panic, and an oracle written from the definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit.balance.priorities import Level, Shares, share_load
from distkit.core import LocalError


def levels(*healthy: int, degraded: tuple[int, ...] = ()) -> list[Level]:
    """Levels of a hundred endpoints each."""
    return [Level(h, d, 100) for h, d in zip(healthy, degraded or (0,) * len(healthy), strict=True)]


@pytest.mark.parametrize(
    ("healthy", "loads"),
    [
        ((100, 100), (100, 0)),
        ((72, 72), (100, 0)),
        ((71, 71), (99, 1)),
        ((70, 70), (98, 2)),
        ((50, 50), (70, 30)),
        ((50, 60), (70, 30)),
        ((25, 100), (35, 65)),
        ((0, 100), (0, 100)),
        ((20, 20, 10), (40, 40, 20)),  # 28, 28, 14 of 70
        ((25, 25), (50, 50)),
        ((5, 5, 5), (34, 33, 33)),  # 7 * 100 div 21 = 33 each, the rest to the first
        ((0, 5, 5), (0, 50, 50)),
        ((0, 0, 3), (0, 0, 100)),
    ],
)
def test_load_spills_as_levels_lose_health(healthy: tuple[int, ...], loads: tuple[int, ...]) -> None:
    shares = share_load(levels(*healthy), panic_threshold=0)
    assert shares == Shares(loads, (0,) * len(loads), (False,) * len(loads))


def test_degraded_endpoints_take_what_the_healthy_of_all_levels_leave() -> None:
    shares = share_load(levels(10, 20, degraded=(50, 0)))  # health 14, 28; degraded 70; together whole
    assert (shares.healthy, shares.degraded) == ((14, 28), (58, 0))
    shares = share_load(levels(5, 0, degraded=(5, 10)), panic_threshold=0)  # 7; 7, 14: available 28
    assert (shares.healthy, shares.degraded) == ((25, 0), (25, 50))
    shares = share_load(levels(0, 0, 0, degraded=(5, 5, 5)), panic_threshold=0)
    assert (shares.healthy, shares.degraded) == ((0, 0, 0), (34, 33, 33))


def test_excluded_endpoints_do_not_make_a_level_look_ill() -> None:
    assert share_load([Level(50, 0, 100, 50), Level(100, 0, 100)]).healthy == (100, 0)
    assert share_load([Level(0, 0, 5, 5), Level(3, 0, 3)]).healthy == (0, 100)


def test_a_level_panics_only_when_all_together_are_less_than_whole() -> None:
    assert share_load(levels(20, 100)).panic == (False, False)
    shares = share_load(levels(20, 50))  # 28 + 70 < 100; level 1 is at the threshold, not below
    assert (shares.panic, shares.healthy) == ((True, False), (29, 71))
    assert share_load(levels(20, 0, degraded=(30, 0))).panic == (False, True)  # degraded ones count as present


def test_when_all_levels_panic_load_goes_by_the_number_of_endpoints() -> None:
    assert share_load([Level(1, 0, 10), Level(2, 0, 30)]) == Shares((25, 75), (0, 0), (True, True))
    assert share_load([Level(0, 0, 0), Level(0, 0, 1), Level(0, 0, 2)]).healthy == (0, 34, 66)
    assert share_load([Level(0, 0, 3), Level(0, 0, 3), Level(0, 0, 3)]).healthy == (34, 33, 33)


def test_threshold_0_never_panics_and_fails_instead() -> None:
    assert share_load(levels(0, 0), panic_threshold=0) == Shares((100, 0), (0, 0), (False, False), unavailable=True)
    assert share_load(levels(3), panic_threshold=0) == Shares((100,), (0,), (False,))


def test_no_endpoints_at_all() -> None:
    for threshold in (0, 50):
        shares = share_load([Level(0, 0, 0), Level(0, 0, 0)], panic_threshold=threshold)
        assert (shares.healthy, shares.unavailable) == ((100, 0), True)


def test_health_that_rounds_to_nothing_still_serves() -> None:
    """1 of 1000 is a health of 0 %; without panic the one that is well must be found all the same."""
    shares = share_load([Level(0, 0, 1000), Level(1, 0, 1000)], panic_threshold=0)
    assert (shares.healthy, shares.unavailable) == ((0, 100), False)
    shares = share_load([Level(0, 0, 1000), Level(0, 1, 1000)], panic_threshold=0)
    assert (shares.degraded, shares.unavailable) == ((0, 100), False)


def test_levels_tried_already_are_left_out_as_long_as_another_can_serve() -> None:
    assert share_load(levels(100, 100, 100), without=[0]).healthy == (0, 100, 0)
    assert share_load(levels(100, 100, 100), without=[0, 1]).healthy == (0, 0, 100)
    assert share_load(levels(100, 100), without=[0, 1]).healthy == (100, 0)
    assert share_load(levels(100, 0), without=[0, 7, -1]).healthy == (100, 0)


def test_choose_takes_the_first_level_whose_cumulative_load_reaches_the_number() -> None:
    shares = share_load(levels(10, 20, degraded=(50, 0)))  # healthy 14, 28, degraded 58 on level 0
    assert [shares.choose(n) for n in (0, 13, 14, 41, 42, 99, 100, 113, 114)] == [
        (0, False),
        (0, False),
        (1, False),
        (1, False),
        (0, True),
        (0, True),
        (0, False),
        (0, False),
        (1, False),
    ]


def oracle(given: list[Level], factor: int) -> tuple[list[int], list[int]]:
    health = [min(100, factor * v.healthy // (v.total - v.excluded)) if v.total > v.excluded else 0 for v in given]
    degraded = [min(100, factor * v.degraded // (v.total - v.excluded)) if v.total > v.excluded else 0 for v in given]
    norm, left = min(100, sum(health) + sum(degraded)), 100
    loads = []
    for part in health + degraded:
        loads.append(min(left, part * 100 // norm))
        left -= loads[-1]
    first = [i for i, part in enumerate(health + degraded) if part][0]  # noqa: RUF015
    loads[first] += left
    return loads[: len(given)], loads[len(given) :]


@st.composite
def any_level(draw: st.DrawFn) -> Level:
    parts = draw(st.tuples(*[st.integers(0, 12)] * 4))
    return Level(parts[0], parts[1], sum(parts), parts[3])


@given(st.lists(any_level(), min_size=1, max_size=5), st.sampled_from([100, 140, 200]), st.integers(0, 100))
def test_loads_always_sum_to_100_and_equal_the_definition(given: list[Level], factor: int, threshold: int) -> None:
    shares = share_load(given, factor, threshold)
    assert sum(shares.healthy) + sum(shares.degraded) == 100
    assert min(shares.healthy + shares.degraded) >= 0
    assert shares.unavailable == (
        not any(v.total for v in given) or (threshold == 0 and not any(v.healthy + v.degraded for v in given))
    )
    if not all(shares.panic) and not shares.unavailable:
        assert (list(shares.healthy), list(shares.degraded)) == oracle(given, factor)
    if threshold == 0:
        assert not any(shares.panic)
    chosen = [shares.choose(n) for n in range(100)]
    for level in range(len(given)):
        assert chosen.count((level, False)) == shares.healthy[level]
        assert chosen.count((level, True)) == shares.degraded[level]
        if shares.healthy[level] and not shares.panic[level] and not shares.unavailable:
            assert given[level].healthy  # load never goes where nobody is well, unless in panic


def test_bad_input_is_refused() -> None:
    with pytest.raises(LocalError, match="at least one priority level"):
        share_load([])
    with pytest.raises(LocalError, match="must not exceed the total of 3"):
        share_load([Level(2, 2, 3)])
    with pytest.raises(LocalError, match="healthy must be from 0"):
        share_load([Level(-1, 0, 3)])
    with pytest.raises(LocalError, match="total must be an integer"):
        share_load([Level(1, 0, 3.0)])  # type: ignore[arg-type]
    with pytest.raises(LocalError, match="overprovisioning must be from 100"):
        share_load(levels(1), overprovisioning=99)
    with pytest.raises(LocalError, match="panic_threshold"):
        share_load(levels(1), panic_threshold=101)
    with pytest.raises(LocalError, match="loads must sum to 100"):
        Shares((10,), (0,), (False,)).choose(50)
