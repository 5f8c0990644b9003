"""One detector for many peers, over any way to estimate when the next heartbeat is late."""

from __future__ import annotations

import math
from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Protocol

from distkit.core import LocalError, record

Peer = Hashable


class Estimate(Protocol):
    """What is known of the heartbeats of one peer. Made at the first of them."""

    def heartbeat(self, now: float, sequence: int | None) -> None:
        """The next one arrived. `sequence` counts what the peer sent, None: unknown."""
        ...

    def suspicion(self, now: float) -> float:
        """0 or more, +inf at most; never falls while no heartbeat arrives."""
        ...

    def due(self) -> float:
        """A time close to the first at which the suspicion reaches the threshold."""
        ...


class Method(Protocol):
    """How lateness is judged, as a value. A peer is suspected while its suspicion is at least `threshold`."""

    @property
    def threshold(self) -> float:
        """The suspicion at which a peer counts as down."""
        ...

    def first(self, now: float, sequence: int) -> Estimate:
        """What the first heartbeat of a peer says."""
        ...


@record
class Suspected:
    """The peer counts as down from now on."""

    peer: Peer


@record
class Trusted:
    """The peer counts as up again."""

    peer: Peer


class _Watch:
    __slots__ = ("estimate", "scheduled", "sequence", "suspected")

    def __init__(self, estimate: Estimate, sequence: int) -> None:
        self.estimate = estimate
        self.sequence = sequence
        self.suspected = False
        self.scheduled = math.inf  #: when `flush` will look at it


class Detector:
    """Tells from heartbeats which peers are down. No clock: `now` is float seconds, never going back.

    `method` is one of `Deadline`, `PhiNormal`, `PhiExponential`, `Chen`, `Bertier`. A peer that never sent a heartbeat
    is not suspected. LocalError: time went back, or more than `peers_max` peers; the state is as before then.
    """

    def __init__(self, method: Method, peers_max: int = 65536) -> None:
        if peers_max < 1:
            raise LocalError(f"peers_max must be at least 1, not {peers_max!r}")
        self.method = method
        self._threshold = method.threshold
        self._peers_max = peers_max
        self._watches: dict[Peer, _Watch] = {}
        self._queue: list[tuple[float, int, Peer]] = []
        self._entries = 0
        self._events: list[Suspected | Trusted] = []
        self._now = -math.inf

    def heartbeat(self, now: float, peer: Peer, sequence: int | None = None) -> None:
        """A heartbeat arrived. `sequence` is the sender's count, always or never given.

        With it, heartbeats that came late or twice change nothing, and methods that know the sender's interval see
        which were lost; without it they infer that from the time.
        """
        self._at(now)
        watch = self._watches.get(peer)
        if watch is None:
            if len(self._watches) >= self._peers_max:
                raise LocalError(f"{self._peers_max} peers are watched already: remove some, or raise peers_max")
            number = 0 if sequence is None else sequence
            self._watches[peer] = watch = _Watch(self.method.first(now, number), number)
        else:
            if sequence is not None:
                if sequence <= watch.sequence:
                    return
                watch.sequence = sequence
            watch.estimate.heartbeat(now, sequence)
        if watch.suspected and watch.estimate.suspicion(now) < self._threshold:
            watch.suspected = False
            self._events.append(Trusted(peer))
        if not watch.suspected:
            self._schedule(peer, watch, watch.estimate.due())

    def suspicion(self, now: float, peer: Peer) -> float:
        """How suspect the peer is: 0 (not at all, or unknown) to +inf."""
        watch = self._watches.get(peer)
        return 0.0 if watch is None else watch.estimate.suspicion(now)

    def available(self, now: float, peer: Peer) -> bool:
        """Whether the suspicion is below the threshold."""
        return self.suspicion(now, peer) < self._threshold

    def remove(self, peer: Peer) -> None:
        """Forget a peer. No event follows."""
        self._watches.pop(peer, None)

    @property
    def peers(self) -> tuple[Peer, ...]:
        """Everyone who sent a heartbeat, the first one first."""
        return tuple(self._watches)

    def deadline(self) -> float:
        """When `flush` may have something to tell, not before now; infinity: never without another heartbeat."""
        return max(self._now, self._queue[0][0]) if self._queue else math.inf

    def flush(self, now: float) -> tuple[Suspected | Trusted, ...]:
        """What changed since the last flush, in order. Early, late and repeated calls are harmless."""
        self._at(now)
        queue = self._queue
        while queue and queue[0][0] <= now:
            time, _, peer = heappop(queue)
            watch = self._watches.get(peer)
            if watch is None or watch.scheduled != time:
                continue  # it was removed, or is scheduled anew
            watch.scheduled = math.inf
            if watch.suspected:
                continue
            if watch.estimate.suspicion(now) >= self._threshold:
                watch.suspected = True
                self._events.append(Suspected(peer))
            else:
                # `due` is rounded: never look again at the same time.
                self._schedule(peer, watch, max(watch.estimate.due(), math.nextafter(now, math.inf)))
        events = tuple(self._events)
        self._events.clear()
        return events

    def _schedule(self, peer: Peer, watch: _Watch, due: float) -> None:
        """Look at the peer at `due`; an earlier look that is planned already will plan the later one."""
        if due < watch.scheduled:
            watch.scheduled = due
            self._entries += 1
            heappush(self._queue, (due, self._entries, peer))

    def _at(self, now: float) -> None:
        if not self._now <= now < math.inf:
            raise LocalError(f"time went back, or is not a finite number: {now!r} after {self._now!r}")
        self._now = now


def check_positive(name: str, value: float) -> None:
    """Raise LocalError unless an option is a finite number above 0."""
    if not 0 < value < math.inf:
        raise LocalError(f"{name} must be a finite number above 0, not {value!r}")


def check_window(samples: int) -> None:
    """Raise LocalError unless this many samples can be kept."""
    if not 2 <= samples <= 1 << 20:
        raise LocalError(f"samples must be 2 to {1 << 20}, not {samples!r}")
