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
#: Pieces of streams have numbers of their own, from here on, and chance of their own.
_STREAM: Final = 1 << 40
_CARRY: Final = ("stream delay", "stream")
#: A message comes about so many times more in an echo, and at most so many.
_ECHOES: Final = 10
_ECHOES_MAX: Final = 16

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


class Grip:
    """Has hold of all messages of one `kind` (the name of its type) on some links, for a while.

    `hold`: they come when it ends; `echo`: they come, and copies of each come again and again until it ends; `mute`:
    they never come. What it holds is in the network already: no cut keeps it, and a node that starts anew gets it, too.
    """

    __slots__ = ("_chance", "how", "kind", "links", "until")

    def __init__(self, how: str, kind: str, links: frozenset[Link], until: int, chance: Random) -> None:
        self.how = how
        self.kind = kind
        self.links = links
        self.until = until
        self._chance = chance

    def times(self, now: int) -> list[int]:
        """When a message that is sent now comes, or comes once more."""
        if self.how == "hold":
            return [self.until]
        found: list[int] = []
        time = now
        while self.how == "echo" and len(found) < _ECHOES_MAX:
            time += 1 + exponential(self._chance, (self.until - now) // _ECHOES + 1)
            if time >= self.until:
                break
            found.append(time)
        return found


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
        self.grips: list[Grip] = []
        self.fates: dict[tuple[int, int, int], Fate] = {}
        self._script = script
        self._delays = exponentials(options.delay_min, options.delay_mean)
        self._seed = seed
        self._streams: dict[Link, _Line] = {}
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

    def carry(self, now: int, source: int, target: int, kind: str, size: int) -> int:
        """When a piece of a stream arrives; 0: it never does, and the connection that carried it is broken."""
        link, bandwidth = (source, target), self.options.bandwidth
        if link not in self._streams:
            self._streams[link] = _Line(*(stream(self._seed, f"{name} {source} {target}") for name in _CARRY))
        line = self._streams[link]
        line.number += 1
        arrival = now + self._delays[int(line.delays.random() * len(self._delays))]
        if bandwidth:
            line.free = max(line.free, now) + size * 1_000_000_000 // bandwidth
            arrival += line.free - now
        arrival = max(arrival, line.free, self.clogged.get(link, 0))
        for grip in self.grips:
            if grip.kind == kind and link in grip.links and grip.how != "echo":
                arrival = grip.until if grip.how == "hold" else 0
        if link in self.cut or self._drops((source, target, _STREAM + line.number), line):
            return 0
        return arrival

    def _drops(self, key: tuple[int, int, int], line: _Line) -> bool:
        """Whether a piece of a stream is lost."""
        if self._script is not None:
            return key in self._script
        if not self._faulty or line.chance.random() >= self.options.loss:
            return False
        self.fates[key] = ("drop", 0)
        return True

    def heal(self) -> None:
        """From here on nothing is lost or held back."""
        self.cut.clear()
        self.clogged.clear()
        self.grips.clear()
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
