"""Virtual time: the queue of events, and the clocks of nodes, which differ from true time and from each other."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from heapq import heappop, heappush
from struct import Struct
from typing import Any, Final

from distkit.sim.chance import SECOND

_EVENT: Final = Struct("<QBB")
_DIGEST_BYTES: Final = 1 << 16

#: Takes (node, payload) of an event.
Handler = Callable[[int, Any], None]


class Timeline:
    """Events in the order of their time (nanoseconds), those of one time in the order in which they were asked for.

    `digest` names everything that happened so far: the same seed gives the same one everywhere.
    """

    __slots__ = ("_hash", "_queue", "_sequence", "_trail", "events", "handlers", "now")

    def __init__(self, handlers: tuple[Handler, ...]) -> None:
        self.now = 0
        self.events = 0
        self.handlers = handlers
        self._queue: list[tuple[int, int, int, int, Any]] = []
        self._sequence = 0
        self._hash = hashlib.sha256()
        self._trail = bytearray()

    def at(self, time: int, kind: int, node: int, payload: Any = None) -> None:
        """Call `handlers[kind](node, payload)` at a time that is not past."""
        self._sequence = sequence = self._sequence + 1
        heappush(self._queue, (time, sequence, kind, node, payload))

    def after(self, delay: int, kind: int, node: int, payload: Any = None) -> None:
        """The same, so many nanoseconds from now."""
        self._sequence = sequence = self._sequence + 1
        heappush(self._queue, (self.now + delay, sequence, kind, node, payload))

    def run(self, until: int, events_max: int) -> bool:
        """Let time pass up to `until`. False: more than `events_max` events came before it."""
        queue, handlers, trail, pack = self._queue, self.handlers, self._trail, _EVENT.pack
        left = events_max
        try:
            while queue and queue[0][0] <= until:
                if not left:
                    return False
                left -= 1
                self.now, _, kind, node, payload = heappop(queue)
                trail += pack(self.now, kind, node)
                handlers[kind](node, payload)
        finally:
            self.events += events_max - left
        self.now = until
        if len(self._trail) > _DIGEST_BYTES:
            self._take_trail()
        return True

    def note(self, data: bytes) -> None:
        """Make something else a part of the digest."""
        self._trail += data

    def digest(self) -> str:
        """What happened so far, as 32 hexadecimal digits."""
        self._take_trail()
        return self._hash.copy().hexdigest()[:32]

    def _take_trail(self) -> None:
        self._hash.update(self._trail)
        self._trail.clear()


class NodeClock:
    """The clock of one start of a node: begins anywhere, runs a little too fast or too slow, may jump ahead.

    Never goes back, as the clocks that `distkit.core.Clock` asks for.
    """

    __slots__ = ("_base", "_born", "_rate")

    def __init__(self, epoch: float, rate: float, born: int) -> None:
        self._base = epoch  # seconds
        self._rate = rate / SECOND
        self._born = born

    def read(self, time: int) -> float:
        """What the clock shows, in seconds, at a true time in nanoseconds."""
        return self._base + (time - self._born) * self._rate

    def jump(self, seconds: float) -> None:
        """Move ahead."""
        self._base += seconds

    def when(self, reading: float) -> int:
        """The first true time at which the clock shows at least `reading`."""
        time = self._born + math.ceil((reading - self._base) / self._rate)
        # The division rounds: a few nanoseconds early would make a tick that finds nothing due, again and again.
        while self.read(time) < reading:
            time += 1
        return time
