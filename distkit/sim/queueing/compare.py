"""Policies side by side on the same requests, over many seeds, with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from distkit.balance import ClusterOptions
from distkit.core import LocalError
from distkit.sim.queueing.measures import MEASURES, Measures, measure, over_time, quantiles
from distkit.sim.queueing.run import simulate
from distkit.sim.queueing.scenarios import Floats, Scenario

#: Quantiles of the curves: finer towards the tail.
CURVE: Floats = 1.0 - np.logspace(np.log10(0.5), -4, 75)
SEEDS_MAX = 10_000
#: Quantiles of Student's t, two-sided 95 %, by degrees of freedom (1 to 30); beyond, an expansion in 1/n will do.
_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass(frozen=True)
class Interval:
    """A mean over seeds, and half of the width of its 95 % confidence interval (NaN for a single seed)."""

    mean: float
    half: float


@dataclass(frozen=True)
class Outcome:
    """A policy's run on one seed, boiled down."""

    measures: Measures
    curve: Floats
    over_time: Floats
    events: int


@dataclass(frozen=True)
class Comparison:
    """What policies did in a scenario: by policy, an outcome for each seed."""

    scenario: Scenario
    seeds: tuple[int, ...]
    outcomes: Mapping[str, Sequence[Outcome]]

    def interval(self, policy: str, name: str) -> Interval:
        """A measure of a policy."""
        return interval([getattr(each.measures, name) for each in self.outcomes[policy]])

    def ratio(self, policy: str, other: str, name: str) -> Interval:
        """How many times a measure of `other` that of `policy` is, seed by seed: the requests are the same for both."""
        pairs = zip(self.outcomes[policy], self.outcomes[other], strict=True)
        logs = [math.log(getattr(one.measures, name) / getattr(two.measures, name)) for one, two in pairs]
        found = interval(logs)
        mean = math.exp(found.mean)
        return Interval(mean, mean * (math.exp(found.half) - 1.0))

    def best(self, name: str) -> set[str]:
        """The best policy by a measure, and those that can't be told from it (the paired difference may be 0)."""
        means = {policy: self.interval(policy, name).mean for policy in self.outcomes}
        known = {policy: mean for policy, mean in means.items() if not math.isnan(mean)}
        if not known:
            return set()
        first = (min if MEASURES[name][1] else max)(known, key=known.__getitem__)
        return {policy for policy in known if policy == first or self._alike(policy, first, name)}

    def _alike(self, policy: str, other: str, name: str) -> bool:
        pairs = zip(self.outcomes[policy], self.outcomes[other], strict=True)
        found = interval([getattr(one.measures, name) - getattr(two.measures, name) for one, two in pairs])
        return abs(found.mean) <= (0.0 if math.isnan(found.half) else found.half)

    def curve(self, policy: str) -> Floats:
        """Latency at the quantiles of CURVE, the mean over seeds."""
        return np.asarray(np.nanmean([each.curve for each in self.outcomes[policy]], axis=0))

    def over_time(self, policy: str) -> Floats:
        """The 99th percentile in each part of the run, the median over seeds."""
        return np.asarray(np.nanmedian([each.over_time for each in self.outcomes[policy]], axis=0))


def interval(values: Sequence[float]) -> Interval:
    """Mean and confidence interval of independent values, by Student's t."""
    known = [each for each in values if not math.isnan(each)]
    if not known:
        return Interval(math.nan, math.nan)
    mean = math.fsum(known) / len(known)
    if len(known) == 1:
        return Interval(mean, math.nan)
    freedom = len(known) - 1
    deviation = math.sqrt(math.fsum((each - mean) ** 2 for each in known) / freedom)
    student = _T[freedom - 1] if freedom <= len(_T) else 1.96 + 2.37 / freedom + 2.82 / freedom**2
    return Interval(mean, student * deviation / math.sqrt(len(known)))


def boiled_down(options: ClusterOptions, scenario: Scenario, seed: int) -> Outcome:
    """Run and judge."""
    run = simulate(options, scenario, seed)
    return Outcome(measure(run), quantiles(run, CURVE), over_time(run), run.events)


def compare(
    policies: Mapping[str, ClusterOptions],
    scenario: Scenario,
    seeds: Sequence[int],
    *,
    outcomes: Callable[[Iterator[tuple[ClusterOptions, Scenario, int]]], Iterator[Outcome]] | None = None,
    done: Callable[[int], None] = lambda events: None,
) -> Comparison:
    """Run every policy on every seed. `done` is called after each run with its number of events.

    `outcomes` makes the runs, in the order in which it is given them; the default makes them here, one after another.
    """
    if not policies or not seeds or len(seeds) > SEEDS_MAX:
        raise LocalError(f"a comparison needs policies, and 1 to {SEEDS_MAX} seeds")
    runs = ((options, scenario, seed) for seed in seeds for options in policies.values())
    found: dict[str, list[Outcome]] = {policy: [] for policy in policies}
    made = outcomes(runs) if outcomes is not None else (boiled_down(*each) for each in runs)
    for _ in seeds:
        for policy in policies:
            outcome = next(made)
            found[policy].append(outcome)
            done(outcome.events)
    return Comparison(scenario, tuple(seeds), found)
