"""Limits on concurrency: bounds, the queue, time-outs, and counts that never leak."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit.balance.limits import EndpointLimits, Entry, Limit
from distkit.core import LocalError


def test_as_many_go_as_the_bound_says_then_some_wait_and_the_rest_is_refused() -> None:
    limit = Limit(2, queue_max=2)
    assert [limit.take(n, 0.0) for n in range(6)] == [Entry.GO] * 2 + [Entry.WAIT] * 2 + [Entry.FULL] * 2
    assert (limit.active, limit.waiting, limit.refused) == (2, 2, 2)


def test_who_waited_longest_goes_first() -> None:
    limit = Limit(1, queue_max=3)
    for ticket in (7, 5, 9, 1):
        limit.take(ticket, 0.0)
    assert [limit.give(1.0) for _ in range(4)] == [(5,), (9,), (1,), ()]
    assert (limit.active, limit.waiting) == (0, 0)


def test_without_a_queue_nobody_waits() -> None:
    limit = Limit(1)
    assert [limit.take(n, 0.0) for n in range(2)] == [Entry.GO, Entry.FULL]
    assert limit.give(0.0) == ()
    assert limit.take(2, 0.0) is Entry.GO


def test_waiting_ends_after_its_time() -> None:
    limit = Limit(1, queue_max=9, wait_max=5.0)
    for ticket, now in ((0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)):
        limit.take(ticket, now)
    assert limit.deadline() == 6.0
    assert limit.tick(5.999) == ()
    assert limit.tick(7.0) == (1, 2)
    assert limit.deadline() == 8.0
    assert limit.give(8.0) == ()  # ticket 3 has waited too long, though no tick has said so
    assert limit.tick(8.0) == (3,)
    assert (limit.active, limit.waiting, limit.refused, limit.deadline()) == (0, 0, 3, math.inf)


def test_cancelled_waiters_leave_no_place_behind() -> None:
    limit = Limit(1, queue_max=1)
    limit.take(0, 0.0)
    limit.take(1, 0.0)
    assert limit.cancel(1)
    assert not limit.cancel(1)
    assert not limit.cancel(0)  # it is in flight: give, do not cancel
    assert limit.take(2, 0.0) is Entry.WAIT
    assert limit.give(0.0) == (2,)


def test_a_bound_may_change_while_requests_are_in_flight() -> None:
    limit = Limit(1, queue_max=5)
    for ticket in range(5):
        limit.take(ticket, 0.0)
    assert limit.resize(3, 1.0) == (1, 2)
    assert limit.resize(2, 1.0) == ()
    assert limit.active == 3
    assert limit.give(1.0) == ()  # 2 in flight: no room yet
    assert limit.give(1.0) == (3,)


def test_bad_input_is_refused_and_changes_nothing() -> None:
    limit = Limit(1, queue_max=2)
    with pytest.raises(LocalError, match="give was called more often"):
        limit.give(0.0)
    limit.take(1, 0.0)
    limit.take(2, 0.0)
    with pytest.raises(LocalError, match="ticket 2 waits already"):
        limit.take(2, 0.0)
    for call in (lambda: limit.take(3, math.nan), lambda: limit.give(math.inf), lambda: limit.tick(math.nan)):
        with pytest.raises(LocalError, match="now must be a finite"):
            call()
    assert (limit.active, limit.waiting) == (1, 1)
    for wrong in ({"active_max": 0}, {"queue_max": -1}, {"wait_max": math.nan}, {"wait_max": -1.0}):
        with pytest.raises(LocalError, match=next(iter(wrong))):
            Limit(**({"active_max": 1} | wrong))  # type: ignore[arg-type]


def test_time_that_goes_back_counts_as_none() -> None:
    limit = Limit(1, queue_max=2, wait_max=5.0)
    limit.take(0, 100.0)
    limit.take(1, 50.0)
    assert limit.deadline() == 105.0
    assert limit.tick(10.0) == ()


steps = st.lists(
    st.tuples(st.sampled_from(["take", "give", "cancel", "tick", "resize"]), st.integers(0, 7), st.floats(0, 3))
)


@given(st.integers(1, 4), st.integers(0, 4), st.sampled_from([2.0, math.inf]), steps)
def test_every_request_ends_once_and_bounds_hold(
    active: int, queue: int, wait: float, steps: list[tuple[str, int, float]]
) -> None:
    limit, now, tickets = Limit(active, queue, wait), 0.0, 0
    flying = 0
    waiting: list[int] = []
    for what, number, step in steps:
        now += step
        went: tuple[int, ...] = ()
        if what == "take":
            tickets += 1
            entry = limit.take(tickets, now)
            assert (entry is Entry.GO) == (flying < limit.active_max)
            flying += entry is Entry.GO
            if entry is Entry.WAIT:
                waiting.append(tickets)
        elif what == "give" and flying:
            flying -= 1
            went = limit.give(now)
        elif what == "cancel" and waiting:
            assert limit.cancel(waiting.pop(number % len(waiting)))
        elif what == "tick":
            for ticket in limit.tick(now):
                waiting.remove(ticket)
        elif what == "resize":
            went = limit.resize(number + 1, now)
        for ticket in went:
            waiting.remove(ticket)
            flying += 1
        assert (limit.active, limit.waiting) == (flying, len(waiting))
        assert limit.waiting <= queue


def limits(**bounds: int) -> EndpointLimits:
    found = EndpointLimits()
    found.update(bounds)
    return found


def test_each_endpoint_has_its_own_bound_and_0_is_none() -> None:
    found = limits(a=2, b=0)
    assert [found.take("a") for _ in range(3)] == [True, True, False]
    assert all(found.take("b") for _ in range(100))
    found.give("a")
    assert found.take("a")
    assert (found.active("a"), found.active("b"), found.outstanding) == (2, 100, 102)


def test_pitfall_a_flap_does_not_forget_load_in_flight() -> None:
    """Gone and back with 50 in flight: still 50, and the sum is what is outstanding all the time."""
    found = limits(a=60, b=60)
    for _ in range(50):
        found.take("a")
    found.update({"b": 60})
    assert found.outstanding == found.active("a") == 50
    with pytest.raises(LocalError, match="no endpoint has the id 'a'"):
        found.take("a")
    found.give("a")
    found.update({"a": 50, "b": 60})
    assert found.active("a") == 49
    assert [found.take("a") for _ in range(2)] == [True, False]


def test_what_was_not_taken_cannot_be_given_back() -> None:
    found = limits(a=2)
    found.take("a")
    found.give("a")
    for id in ("a", "x"):
        with pytest.raises(LocalError, match="more often than take"):
            found.give(id)
    assert found.outstanding == 0
    wrong: Any
    for wrong in (-1, 1.5, True, 2**31):
        with pytest.raises(LocalError, match="the bound of 'a'"):
            found.update({"a": wrong})
