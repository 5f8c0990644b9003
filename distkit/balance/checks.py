"""Active health checks as a machine that asks for probes and is told their answers; what a probe is, its caller knows.

    tick -> Probe(id, probe_id) --- the caller asks the endpoint --- answered(probe_id, well) -> Checked(id, healthy)

An endpoint's first answer decides at once. After that `fall` bad answers in a row make it unhealthy, `rise` good ones
healthy. As in Envoy, the next probe follows a while after the last one ended: `interval` when healthy,
`unhealthy_interval` when not, `edge_interval` while an answer contradicts the state but has not changed it yet, and
`idle_interval` without traffic (it wins over the others). An endpoint has at most one probe under way. What is not
answered within `timeout` is a bad answer; what comes later, or twice, is counted and ignored.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from distkit.balance.bounds import instant, number, whole
from distkit.core import LocalError, record

if TYPE_CHECKING:
    from random import Random


@record
class Probe:
    """Ask this endpoint whether it is well and hand the answer to `answered` with this number."""

    id: str
    probe_id: int


@record
class Checked:
    """The endpoint's health is known for the first time, or has changed."""

    id: str
    healthy: bool


@record
class CheckOptions:
    """Times are seconds. `jitter` is the share by which a wait may be longer; `spread` delays the first probes of
    endpoints by up to that time. Without traffic for `idle_after` the cluster is idle.
    """

    interval: float = 5.0
    unhealthy_interval: float = 5.0
    edge_interval: float = 1.0
    idle_interval: float = 60.0
    idle_after: float = 60.0
    timeout: float = 1.0
    rise: int = 2
    fall: int = 3
    jitter: float = 0.1
    spread: float = 0.0

    def check(self) -> None:
        """Raise LocalError unless the options make sense."""
        for name in ("interval", "unhealthy_interval", "edge_interval", "idle_interval", "idle_after", "timeout"):
            number(name, getattr(self, name), 0.001, 86400)
        for name in ("rise", "fall"):
            whole(name, getattr(self, name), 1, 1000)
        number("jitter", self.jitter, 0, 1)
        number("spread", self.spread, 0, 86400)


class _Row:
    """One endpoint: its health (None: not known yet), answers in a row that contradict it, what happens next."""

    __slots__ = ("due", "healthy", "probe_id", "run")

    def __init__(self, due: float) -> None:
        self.healthy: bool | None = None
        self.run = 0
        self.probe_id = 0  # of the probe under way; 0: none
        self.due = due  # when the probe under way times out, or the next one is sent


class Checks:
    """Who is healthy. Early, late and repeated ticks are harmless; time that goes back counts as no time."""

    def __init__(self, options: CheckOptions, rng: Random) -> None:
        options.check()
        self.options = options
        self.ignored = 0  # answers that came too late, twice, or to no probe of ours
        self._rng = rng
        self._rows: dict[str, _Row] = {}
        self._probes: dict[int, str] = {}
        self._last_probe = 0
        self._now = -math.inf
        self._traffic = -math.inf
        self._idle = False
        # (due, id) of rows; an entry whose row has another `due` by now is skipped.
        self._heap: list[tuple[float, str]] = []

    def healthy(self, id: str) -> bool | None:
        """Whether the endpoint is healthy; None before its first answer."""
        row = self._rows.get(id)
        if row is None:
            raise LocalError(f"no endpoint has the id {id!r}: name it in update first")
        return row.healthy

    def update(self, ids: Iterable[str], now: float) -> None:
        """These are the endpoints now. Those known go on as they are; probes of those that left are forgotten."""
        ids = tuple(ids)
        if len(set(ids)) != len(ids):
            raise LocalError("two endpoints have the same id: give each one once")
        self._now = instant(now, self._now)
        if self._traffic == -math.inf:
            self._traffic = self._now
        known, self._rows = self._rows, {}
        for id in ids:
            row = known.pop(id, None)
            if row is None:
                row = _Row(self._now + self.options.spread * self._rng.random())
            self._rows[id] = row
        for row in known.values():
            self._probes.pop(row.probe_id, None)
        self._heap = [(row.due, id) for id, row in self._rows.items()]
        heapq.heapify(self._heap)

    def traffic(self, now: float) -> None:
        """The cluster is in use. Probes that an idle time had put off come within an interval."""
        self._now = instant(now, self._now)
        self._traffic = self._now
        if not self._idle:
            return
        self._idle = False
        for id, row in self._rows.items():
            latest = self._now + self.options.interval
            if not row.probe_id and row.due > latest:
                self._schedule(id, row, latest)

    def deadline(self) -> float:
        """When `tick` has something to do; infinity without endpoints."""
        while self._heap and not self._current(*self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def tick(self, now: float) -> list[Probe | Checked]:
        """Probes that are due, and what changed because probes were not answered in time."""
        self._now = instant(now, self._now)
        found: list[Probe | Checked] = []
        while self.deadline() <= self._now:
            _, id = heapq.heappop(self._heap)
            row = self._rows[id]
            if row.probe_id:
                found += self._end(id, row, well=False)
            else:
                self._last_probe += 1
                row.probe_id = self._last_probe
                self._probes[row.probe_id] = id
                self._schedule(id, row, self._now + self.options.timeout)
                found.append(Probe(id, row.probe_id))
        return found

    def answered(self, probe_id: int, well: bool, now: float) -> list[Checked]:
        """The endpoint answered a probe, well or not. Returns its new health, if that changed."""
        self._now = instant(now, self._now)
        id = self._probes.get(probe_id)
        if id is None:
            self.ignored += 1
            return []
        row = self._rows[id]
        if self._now >= row.due:  # too late, though no tick has said so yet
            self.ignored += 1
            well = False
        return self._end(id, row, well)

    def _end(self, id: str, row: _Row, well: bool) -> list[Checked]:
        """A probe ended: what that changes, and when the next one comes."""
        del self._probes[row.probe_id]
        row.probe_id = 0
        changed = row.healthy is None
        if row.healthy is not None:
            row.run = 0 if well == row.healthy else row.run + 1
            changed = row.run >= (self.options.rise if well else self.options.fall)
        if changed:
            row.healthy, row.run = well, 0
        self._schedule(id, row, self._now + self._wait(row))
        return [Checked(id, well)] if changed else []

    def _wait(self, row: _Row) -> float:
        options = self.options
        self._idle = self._now - self._traffic >= options.idle_after
        if self._idle:
            wait = options.idle_interval
        elif row.run:
            wait = options.edge_interval
        else:
            wait = options.interval if row.healthy else options.unhealthy_interval
        return wait + wait * options.jitter * self._rng.random()

    def _schedule(self, id: str, row: _Row, due: float) -> None:
        row.due = due
        heapq.heappush(self._heap, (due, id))

    def _current(self, due: float, id: str) -> bool:
        row = self._rows.get(id)
        return row is not None and row.due == due
