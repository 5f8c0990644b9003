"""What a run meant for callers and servers, in a few numbers."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from distkit.sim.queueing.run import Run
from distkit.sim.queueing.scenarios import Floats

#: Parts of a run for curves over time.
WINDOWS = 60


@dataclass(frozen=True)
class Measures:
    """Times are in seconds. What is not there (moved keys without keys) is NaN."""

    #: Latency of requests that were answered, retries included.
    p50: float
    p90: float
    p99: float
    p999: float
    mean: float
    #: Share of requests without an answer.
    errors: float
    #: Answers in a second.
    goodput: float
    #: Attempts after the first, a request.
    retries: float
    #: Requests of the busiest server by those of the mean one; 1 is even.
    max_by_mean: float
    #: Jain's fairness index of requests a server: 1 is even, 1/n is all at one.
    jain: float
    #: Share of a key's requests that were answered by another server than the one before.
    moved: float


#: Names of the measures, what they are called, and whether less is better.
MEASURES: dict[str, tuple[str, bool]] = {
    "p50": ("median", True),
    "p90": ("p90", True),
    "p99": ("p99", True),
    "p999": ("p99.9", True),
    "mean": ("mean", True),
    "errors": ("errors", True),
    "goodput": ("answers/s", False),
    "retries": ("retries", True),
    "max_by_mean": ("max/mean", True),
    "jain": ("Jain", False),
    "moved": ("moved", True),
}
assert list(MEASURES) == [each.name for each in fields(Measures)]


def measure(run: Run) -> Measures:
    """Judge a run, without its warm-up."""
    first = int(run.scenario.warm_up * len(run.latencies))
    latencies = run.latencies[first:]
    answered = latencies[~np.isnan(latencies)]
    served = run.served_by[first:]
    counts = np.bincount(served[served >= 0], minlength=len(run.scenario.servers)).astype(np.float64)
    p50, p90, p99, p999 = np.quantile(answered, (0.5, 0.9, 0.99, 0.999)) if len(answered) else (np.nan,) * 4
    return Measures(
        p50=float(p50),
        p90=float(p90),
        p99=float(p99),
        p999=float(p999),
        mean=float(answered.mean()) if len(answered) else float("nan"),
        errors=1.0 - len(answered) / len(latencies),
        goodput=len(run.latencies[~np.isnan(run.latencies)]) / run.ended,
        retries=float(np.maximum(0, run.tries[first:] - 1).mean()),
        max_by_mean=float(counts.max() / counts.mean()) if counts.any() else float("nan"),
        jain=float(counts.sum() ** 2 / (len(counts) * (counts**2).sum())) if counts.any() else float("nan"),
        moved=_moved(run, first),
    )


def quantiles(run: Run, at: Floats) -> Floats:
    """Latencies in seconds at these quantiles."""
    latencies = run.latencies[int(run.scenario.warm_up * len(run.latencies)) :]
    answered = latencies[~np.isnan(latencies)]
    return np.quantile(answered, at) if len(answered) else np.full(len(at), np.nan)


def over_time(run: Run, quantile: float = 0.99) -> Floats:
    """A quantile of the latency (seconds) in each of WINDOWS parts of the run, by arrival; NaN without an answer."""
    parts = np.array_split(run.latencies, WINDOWS)
    answered = [part[~np.isnan(part)] for part in parts]
    return np.array([np.quantile(part, quantile) if len(part) else np.nan for part in answered])


def _moved(run: Run, first: int) -> float:
    if run.requests.keys is None:
        return float("nan")
    keys, served = run.requests.keys[first:], run.served_by[first:]
    keys, served = keys[served >= 0], served[served >= 0]
    order = np.argsort(keys, kind="stable")
    keys, served = keys[order], served[order]
    same = keys[1:] == keys[:-1]
    return float((served[1:] != served[:-1])[same].mean()) if same.any() else float("nan")
