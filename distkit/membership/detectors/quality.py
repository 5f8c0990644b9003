"""How good a detector is: the three measures of Chen, Toueg and Aguilera, over a trace of its events."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from distkit.core import LocalError, record
from distkit.membership.detectors.detector import Detector, Peer, Suspected, Trusted

#: (time, event), in order.
Trace = Sequence[tuple[float, Suspected | Trusted]]


@record
class Quality:
    """Times in seconds. NaN where there is nothing to measure.

    `detection_time`: from the crash to the suspicion that lasted; infinity if there was none. `mistakes`: suspicions
    while the peer was up. `mistake_recurrence`: mean time from one mistake to the next. `mistake_duration`: mean time
    until a mistake was corrected. `query_accuracy`: part of the time up in which the peer was trusted.
    """

    detection_time: float
    mistakes: int
    mistake_recurrence: float
    mistake_duration: float
    query_accuracy: float


def watch(detector: Detector, peer: Peer, arrivals: Iterable[float], until: float) -> Trace:
    """Play the arrivals of a peer's heartbeats to a detector, and tell what it said and when."""
    trace: list[tuple[float, Suspected | Trusted]] = []
    for arrival in (*arrivals, until):
        while detector.deadline() < arrival:
            due = detector.deadline()
            trace += [(due, event) for event in detector.flush(due)]
        if arrival < until:
            detector.heartbeat(arrival, peer)
        trace += [(arrival, event) for event in detector.flush(arrival)]
    return trace


def quality(trace: Trace, begin: float, end: float, crash: float = math.inf) -> Quality:
    """The measures of the trace of one peer, watched from `begin` to `end`, that crashed at `crash`, or never."""
    if not begin < min(end, crash):
        raise LocalError("the peer must be watched for some time before it crashes")
    up_until = min(end, crash)
    began: list[float] = []
    durations: list[float] = []
    open_since: float | None = None
    for time, event in trace:
        if isinstance(event, Suspected) and open_since is None:
            open_since = time
            if time < up_until:
                began.append(time)
        elif isinstance(event, Trusted) and open_since is not None:
            if open_since < up_until:
                durations.append(min(time, up_until) - open_since)
            open_since = None
    if open_since is not None and open_since < up_until:
        durations.append(up_until - open_since)
    detection = math.nan
    if crash < end:
        detection = math.inf if open_since is None else max(0.0, open_since - crash)
    gaps = [later - earlier for earlier, later in pairwise(began)]
    return Quality(
        detection,
        len(began),
        sum(gaps) / len(gaps) if gaps else math.nan,
        sum(durations) / len(durations) if durations else math.nan,
        1.0 - sum(durations) / (up_until - begin),
    )
