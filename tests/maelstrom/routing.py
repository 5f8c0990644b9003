"""The network between nodes, as Maelstrom models it: delays, loss, cuts; and what it lacks: copies and one-way cuts.

Messages of clients arrive at once and always. A message between nodes that is cut off when it would arrive is lost;
one that is under way survives the end of the process that sent it, and of the one that it is for.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import trio

#: Messages that may be under way at a time; what is over is lost.
UNDER_WAY_MAX = 20_000

Cuts = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Conditions:
    """Seconds of delay on average and how they are spread; shares of the messages that are lost or arrive twice."""

    latency: float = 0.0
    spread: str = "constant"
    loss: float = 0.0
    duplicates: float = 0.0

    def delay(self, random: Random) -> float:
        """Draw the delay of one message."""
        if self.spread == "uniform":
            return random.random() * 2 * self.latency
        if self.spread == "exponential":
            return -math.log(1.0 - random.random()) * self.latency
        return self.latency


class Router:
    """Carries lines between nodes; `deliver(name, line)` hands one over. `cuts`: the links (from, to) that are down."""

    def __init__(self, random: Random, conditions: Conditions, deliver: Callable[[str, bytes], None]) -> None:
        self.cuts: Cuts = frozenset()
        self.counters: Counter[str] = Counter()
        self._random = random
        self._conditions = conditions
        self._deliver = deliver
        self._under_way: list[tuple[float, int, str, str, bytes]] = []
        self._numbers = itertools.count()
        self._earlier = trio.Event()

    def send(self, source: str, target: str, line: bytes) -> None:
        """A node has sent something to another."""
        random, conditions = self._random, self._conditions
        self.counters["sent"] += 1
        copies = 1 + (random.random() < conditions.duplicates)
        for _ in range(copies):
            if random.random() < conditions.loss or len(self._under_way) >= UNDER_WAY_MAX:
                self.counters["lost"] += 1
                continue
            deadline = trio.current_time() + conditions.delay(random)
            heapq.heappush(self._under_way, (deadline, next(self._numbers), source, target, line))
        self.counters["copies"] += copies - 1
        self._earlier.set()

    async def run(self) -> None:
        """Deliver what is due, for ever."""
        while True:
            while self._under_way and self._under_way[0][0] <= trio.current_time():
                _deadline, _number, source, target, line = heapq.heappop(self._under_way)
                if (source, target) in self.cuts:
                    self.counters["cut"] += 1
                else:
                    self.counters["delivered"] += 1
                    self._deliver(target, line)
            self._earlier = trio.Event()
            with trio.move_on_at(self._under_way[0][0] if self._under_way else math.inf):
                await self._earlier.wait()


def _apart(left: Sequence[str], right: Sequence[str]) -> Cuts:
    return frozenset((a, b) for pair in itertools.product(left, right) for a, b in (pair, pair[::-1]))


def partition(kind: str, names: Sequence[str], random: Random) -> Cuts:
    """The links that are down in a partition of that kind, drawn at random."""
    nodes = random.sample(names, len(names))
    count = len(nodes)
    if kind == "one":
        return _apart(nodes[:1], nodes[1:])
    if kind == "majority":
        return _apart(nodes[: (count - 1) // 2], nodes[(count - 1) // 2 :])
    if kind == "minority-third":
        size = max(1, (count - 1) // 3)
        return _apart(nodes[:size], nodes[size:])
    if kind == "one-way":
        links = [(nodes[0], other) for other in nodes[1:]]
        return frozenset(links if random.random() < 0.5 else [link[::-1] for link in links])
    if kind == "majorities-ring":  # each hears a majority, no two the same one
        heard = count // 2 + 1
        deaf = {(nodes[(place + step) % count], nodes[place]) for place in range(count) for step in range(heard, count)}
        return frozenset(deaf)
    raise ValueError(f"no such partition: {kind}")


PARTITIONS = ("one", "majority", "majorities-ring", "minority-third", "one-way")
