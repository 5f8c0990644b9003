"""When a retry is safe; Envoy's budget; the backoff. The compiled budgets: tests/fast/test_breaking.py."""

import math
import random
from itertools import product

import pytest

from distkit.balance.endpoints import Outcome
from distkit.balance.retries import Attempt, Backoff, active_allows, safe
from distkit.core import LocalError


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])
def test_idempotent_methods_are_safe_after_any_failure(method: str) -> None:
    for outcome in (Outcome.ERROR, Outcome.TIMEOUT, Outcome.CONNECT_FAIL, Outcome.OVERLOAD):
        assert safe(Attempt(method, outcome))


@pytest.mark.parametrize("method", ["POST", "PATCH", "CONNECT", "get", "QUERY", ""])
def test_other_methods_are_safe_only_if_nothing_was_done(method: str) -> None:
    for outcome in (Outcome.ERROR, Outcome.TIMEOUT, Outcome.OVERLOAD):
        assert not safe(Attempt(method, outcome))
        assert safe(Attempt(method, outcome, sent=False))
        assert safe(Attempt(method, outcome, refused=True))
        assert safe(Attempt(method, outcome, idempotent=True))
    assert safe(Attempt(method, Outcome.CONNECT_FAIL))


def test_the_application_may_say_that_a_method_is_not_idempotent() -> None:
    assert not safe(Attempt("DELETE", Outcome.TIMEOUT, idempotent=False))
    assert safe(Attempt("DELETE", Outcome.CONNECT_FAIL, idempotent=False))


def test_never_after_an_answer_began_or_without_the_body_or_when_nobody_waits() -> None:
    for method, sent, refused in product(["GET", "POST"], [False, True], [False, True]):
        for outcome in Outcome:
            assert not safe(Attempt(method, outcome, sent, answered=True, refused=refused))
            assert not safe(Attempt(method, outcome, sent, replayable=False, refused=refused))
        for outcome in (Outcome.OK, Outcome.CANCELLED):
            assert not safe(Attempt(method, outcome, sent, refused=refused))


def test_envoys_budget_is_a_share_of_what_is_active_but_at_least_some() -> None:
    assert [active_allows(0, retries) for retries in range(5)] == [True, True, True, False, False]
    assert active_allows(100, 19)
    assert not active_allows(100, 20)
    assert active_allows(101, 20)  # 20 < 20.2
    assert not active_allows(10, 0, percent=0.0, minimum=0)
    for wrong in ({"active": -1}, {"retries": -1}, {"percent": 101.0}, {"percent": math.nan}, {"minimum": -1}):
        with pytest.raises(LocalError, match=next(iter(wrong))):
            active_allows(**({"active": 1, "retries": 1} | wrong))  # type: ignore[arg-type]


def test_backoff_doubles_up_to_its_most_and_is_random_down_to_nothing() -> None:
    backoff, rng = Backoff(0.1, 0.5), random.Random(3)
    for retry, most in ((1, 0.1), (2, 0.2), (3, 0.4), (4, 0.5), (100, 0.5)):
        delays = [backoff.delay(retry, rng) for _ in range(300)]
        assert 0.0 <= min(delays) < 0.05 * most
        assert 0.95 * most < max(delays) < most
    with pytest.raises(LocalError, match="count from 1"):
        backoff.delay(0, rng)
    for wrong in (Backoff(-1.0), Backoff(math.nan), Backoff(1.0, 0.5)):
        with pytest.raises(LocalError, match=r"base|max"):
            wrong.check()
