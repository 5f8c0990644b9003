"""Marks: rare things that must happen, and none that nobody would miss."""

from __future__ import annotations

from collections import Counter

import pytest

from distkit.sim import drawn, run
from distkit.sim.marks import MARKS, missing, unknown


def marks(profile: str, seeds: range) -> Counter[str]:
    found: Counter[str] = Counter()
    for seed in seeds:
        outcome = run(drawn(seed, profile))
        assert not outcome.failed, outcome.text
        found.update(outcome.marks)
    return found


def test_what_never_happened_is_missing_in_the_profiles_that_must_show_it() -> None:
    both = [mark for mark, profiles in MARKS.items() if "lite" in profiles]
    swarm = [mark for mark, profiles in MARKS.items() if "swarm" in profiles]
    assert both
    assert set(both) < set(swarm)
    assert missing({}, "lite") == both
    assert missing({}, "swarm") == swarm
    assert missing(dict.fromkeys(both, 1), "lite") == []
    assert missing({**dict.fromkeys(both, 1), both[3]: 0}, "lite") == [both[3]]
    assert missing({}, "idle") == []


def test_what_is_not_listed_is_unknown() -> None:
    assert unknown(dict.fromkeys(MARKS, 1)) == []
    assert unknown({"an election was held": 3, "pigs flew": 1}) == ["pigs flew"]


def test_every_mark_of_a_few_runs_is_listed() -> None:
    found = marks("lite", range(20)) + marks("swarm", range(2))
    assert unknown(found) == []
    assert len(found) > 20


@pytest.mark.soak
@pytest.mark.parametrize(("profile", "seeds"), [("lite", 3000), ("swarm", 300)])
def test_every_mark_of_many_runs_is_listed(profile: str, seeds: int) -> None:
    """That each one fires is held by `sim --marks`, over more seeds."""
    found = marks(profile, range(seeds))
    assert unknown(found) == []
    assert len(missing(found, profile)) < 8
