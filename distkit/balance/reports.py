"""Weights from load reports (gRFC A58): endpoints that do more requests with less utilization get more of them.

    weight = rps / (utilization + error_penalty * eps / rps)

A weight is used once reports have come for the `blackout` time, so that a start does not count, and is forgotten
`expiry` after the last report; then the blackout begins anew. Until then it is unknown (None), which a balancer takes
as the mean of the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from distkit.balance.bounds import instant, number
from distkit.core import LocalError, record


@record
class LoadReport:
    """What an endpoint says of itself: requests and errors a second, utilization from 0 (it may exceed 1).

    `application` is its own measure of utilization and goes first; `cpu` counts if that is 0.
    """

    rps: float
    application: float = 0.0
    cpu: float = 0.0
    eps: float = 0.0


@record
class ReportOptions:
    """Times are seconds. `error_penalty` is how much utilization an endpoint gets whose every request fails."""

    blackout: float = 10.0
    expiry: float = 180.0
    error_penalty: float = 1.0

    def check(self) -> None:
        """Raise LocalError unless the options make sense."""
        number("blackout", self.blackout, 0, 86400)
        number("expiry", self.expiry, 0.001, 86400)
        number("error_penalty", self.error_penalty, 0, 1000)


class _Row:
    __slots__ = ("since", "updated", "weight")

    def __init__(self) -> None:
        self.weight = 0.0
        self.since = math.inf  # the first report of those that have come without a gap; infinity: none
        self.updated = -math.inf


class Reports:
    """The weights of endpoints by their reports. Times that go back count as the latest one seen."""

    def __init__(self, options: ReportOptions) -> None:
        options.check()
        self.options = options
        self.ignored = 0  # reports without requests or utilization
        self._rows: dict[str, _Row] = {}
        self._now = -math.inf

    def update(self, ids: Iterable[str]) -> None:
        """These are the endpoints now; what is known of them stays."""
        self._rows = {id: self._rows.get(id) or _Row() for id in ids}

    def ready(self, id: str) -> None:
        """The endpoint is connected (again): its blackout begins with its next report."""
        self._row(id).since = math.inf

    def report(self, id: str, report: LoadReport, now: float) -> None:
        """A report came. One without requests, or without utilization, says nothing and is ignored."""
        row = self._row(id)
        rps, eps = number("rps", report.rps), number("eps", report.eps)
        utilization = number("application", report.application) or number("cpu", report.cpu)
        self._now = instant(now, self._now)
        if not rps or not utilization:
            self.ignored += 1
            return
        weight = rps / (utilization + self.options.error_penalty * (eps / rps))
        if not 0 < weight < math.inf:
            raise LocalError(f"the report of {id!r} gives no usable weight: {report!r}")
        self._expire(row)
        row.weight = weight
        row.updated = self._now
        row.since = min(row.since, self._now)

    def weight(self, id: str, now: float) -> float | None:
        """The weight to use; None while it is unknown."""
        row = self._row(id)
        self._now = instant(now, self._now)
        self._expire(row)
        if row.since == math.inf or self._now - row.since < self.options.blackout:
            return None
        return row.weight

    def deadline(self) -> float:
        """When a weight becomes known or unknown next, if no report comes before; infinity if never.

        A balancer need not be that exact: asking for the weights once a second is usual.
        """
        times = []
        for row in self._rows.values():
            if row.since != math.inf:
                times.append(row.updated + self.options.expiry)
                if self._now < row.since + self.options.blackout:
                    times.append(row.since + self.options.blackout)
        return min(times, default=math.inf)

    def _expire(self, row: _Row) -> None:
        if self._now - row.updated >= self.options.expiry:
            row.since = math.inf

    def _row(self, id: str) -> _Row:
        row = self._rows.get(id)
        if row is None:
            raise LocalError(f"no endpoint has the id {id!r}: name it in update first")
        return row
