"""Options of breakers: defaults that work, mistakes that are named. The machine itself: tests/fast/test_breaking.py."""

import math
import random

import pytest

from distkit.balance.breaker import CLOSED, HALF_OPEN, OPEN, Breaker, BreakerOptions
from distkit.balance.endpoints import Outcome
from distkit.core import LocalError


def test_the_usual_breaker_opens_after_five_failures_and_comes_back_by_one_probe() -> None:
    breaker: Breaker = BreakerOptions().breaker(random.Random(1))
    for _ in range(5):
        assert breaker.state == CLOSED
        breaker.done(breaker.permit(0.0), Outcome.TIMEOUT, 0.0)
    assert breaker.state == OPEN
    assert 5.0 <= breaker.deadline() < 5.5  # jitter spreads the probes of many clients
    probe = breaker.permit(breaker.deadline())
    assert (breaker.state, breaker.permit(6.0)) == (HALF_OPEN, 0)
    breaker.done(probe, Outcome.OK, 6.0)
    assert breaker.state == CLOSED


def test_every_option_reaches_the_breaker() -> None:
    options = BreakerOptions(
        failures=0,
        ratio=0.5,
        requests=2,
        window=1.0,
        open_for=3.0,
        open_max=4.0,
        probes=2,
        successes=2,
        probe_timeout=7.0,
        jitter=0.0,
    )
    breaker = options.breaker(random.Random(1))
    for now in (0.0, 1.5):  # the first is out of the window when the second ends
        breaker.done(breaker.permit(now), Outcome.ERROR, now)
    assert breaker.state == CLOSED
    breaker.done(breaker.permit(1.5), Outcome.ERROR, 1.5)
    assert (breaker.state, breaker.deadline()) == (OPEN, 4.5)
    first, second = breaker.permit(4.5), breaker.permit(4.5)
    assert breaker.deadline() == 11.5
    breaker.done(first, Outcome.OK, 5.0)
    assert breaker.state == HALF_OPEN
    breaker.done(second, Outcome.ERROR, 5.0)
    assert breaker.deadline() == 9.0  # twice 3, at most 4


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("failures", -1),
        ("failures", 1.5),
        ("ratio", 1.1),
        ("ratio", math.nan),
        ("requests", 0),
        ("window", 0.0),
        ("open_for", -1.0),
        ("open_max", 1.0),
        ("probes", 63),
        ("successes", 0),
        ("probe_timeout", math.inf),
        ("jitter", "much"),
    ],
)
def test_mistakes_are_named(name: str, wrong: object) -> None:
    with pytest.raises(LocalError, match=name):
        BreakerOptions(**{name: wrong}).breaker(random.Random(1))  # type: ignore[arg-type]


def test_a_breaker_that_could_never_open_is_refused() -> None:
    with pytest.raises(LocalError, match="could never open"):
        BreakerOptions(failures=0).check()
