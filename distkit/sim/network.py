"""The network: for each directed link a delay, and messages that are lost, repeated, late, or come back from long ago.

Every message of a link has a number. What happens to it is drawn from two streams of that link, one for delays and
one for faults, so that a run repeats whatever happens elsewhere. `fates` has the faults that struck, by link and
number: given back as `script`, they strike again without any chance.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from random import Random
from typing import Any, Final

from distkit.core import record
from distkit.sim.chance import below, exponential, exponentials, stream

#: Old messages of a link that may come back.
_REMEMBERED: Final = 16

Link = tuple[int, int]
#: What strikes a message: drop, copy or late (and nanoseconds), old (and which), flip (and where).
Fate = tuple[str, int]


@record
class NetworkOptions:
    """Delays are nanoseconds: at least `delay_min`, on average `delay_mean` more. Rates are per message.

    `loss`, `copy` (delivered twice), `late` (on average `late_mean` later, overtaken by others), `old` (together with
    this message an older one of the link is delivered again, from before a restart perhaps), `flip` (a bit of its
    frame is wrong; only where messages are bytes). `bandwidth` bytes a
    second and link, 0: unlimited.
    """

    delay_min: int = 50_000
    delay_mean: int = 200_000
    loss: float = 0.0
    copy: float = 0.0
    late: float = 0.0
    late_mean: int = 50_000_000
    old: float = 0.0
    flip: float = 0.0
    bandwidth: int = 0


class _Line:
    """One directed link."""

    __slots__ = ("chance", "delays", "free", "number", "past")

    def __init__(self, delays: Random, chance: Random) -> None:
        self.delays = delays
        self.chance = chance
        self.number = 0
        self.free = 0  # when the line has sent what it was given
        self.past: deque[Any] = deque(maxlen=_REMEMBERED)


class Network:
    """Says when each message arrives. `cut` links lose all; `clogged` ones hold it back until a time."""

    def __init__(
        self, seed: int, nodes: int, options: NetworkOptions, script: Mapping[tuple[int, int, int], Fate] | None = None
    ) -> None:
        self.options = options
        self.cut: set[Link] = set()
        self.clogged: dict[Link, int] = {}
        self.fates: dict[tuple[int, int, int], Fate] = {}
        self._script = script
        self._delays = exponentials(options.delay_min, options.delay_mean)
        self._faulty = options.loss + options.copy + options.late + options.old + options.flip
        self._lines = {
            (source, target): _Line(
                stream(seed, f"delay {source} {target}"), stream(seed, f"network {source} {target}")
            )
            for source in range(1, nodes + 1)
            for target in range(1, nodes + 1)
            if source != target
        }

    def send(self, now: int, source: int, target: int, message: Any, size: int) -> list[tuple[int, Any]]:
        """(time, message) of every delivery that this one causes; empty: it is lost."""
        link = (source, target)
        line = self._lines[link]
        line.number += 1
        arrival = now + self._delays[int(line.delays.random() * len(self._delays))]
        if size and self.options.bandwidth:
            line.free = max(line.free, now) + size * 1_000_000_000 // self.options.bandwidth
            arrival += line.free - now
        if link in self.clogged:
            arrival = max(arrival, self.clogged[link])
        if link in self.cut:
            return []
        fate = self._fate(source, target, line) if self._faulty or self._script is not None else None
        if fate is None:
            deliveries = [(arrival, message)]
        else:
            deliveries = self._strike(fate, arrival, message, line)
        if self.options.old or self._script is not None:
            line.past.append(message)
        return deliveries

    def heal(self) -> None:
        """From here on nothing is lost or held back."""
        self.cut.clear()
        self.clogged.clear()
        self._faulty = 0.0
        self._script = None

    def _fate(self, source: int, target: int, line: _Line) -> Fate | None:
        """What strikes this message: from the script, if there is one, else by chance."""
        key = (source, target, line.number)
        if self._script is not None:
            return self._script.get(key)
        options, random = self.options, line.chance
        mark = random.random()
        if mark >= self._faulty:
            return None
        fate: Fate = ("drop", 0)
        if (mark := mark - options.loss) >= 0:
            if (mark := mark - options.copy) < 0:
                fate = ("copy", exponential(random, options.late_mean))
            elif (mark := mark - options.late) < 0:
                fate = ("late", exponential(random, options.late_mean))
            elif mark - options.old < 0:
                fate = ("old", below(random, _REMEMBERED))
            else:
                fate = ("flip", below(random, 1 << 16))
        self.fates[key] = fate
        return fate

    def _strike(self, fate: Fate, arrival: int, message: Any, line: _Line) -> list[tuple[int, Any]]:
        kind, number = fate
        if kind == "drop":
            return []
        if kind == "late":
            return [(arrival + number, message)]
        if kind == "copy":
            return [(arrival, message), (arrival + number, message)]
        if kind == "flip":
            return [(arrival, _flipped(message, number))]
        old = [line.past[number % len(line.past)]] if line.past else []
        return [(arrival, message), *((arrival, each) for each in old)]


def _flipped(message: Any, position: int) -> Any:
    """A frame with one bit wrong."""
    if type(message) is not bytes:
        return message
    frame = bytearray(message)
    position %= 8 * len(frame)
    frame[position // 8] ^= 1 << position % 8
    return bytes(frame)
