"""Time from left to right, stretched where much happens and cut short where nothing does.

Left to right because that is how every chart of time is read, and because words (who leads, which links are cut, what
a client asked) fit into long flat stretches. A long run goes on in the next strip, as music does.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

#: A typical message takes this much room from left to right.
FLIGHT: Final = 40.0
#: Two different moments are never closer than this.
STEP: Final = 1.5
#: Longer stretches without anything of interest are cut short, but for a margin at both ends.
QUIET, MARGIN, BREAK = 260.0, 55.0, 60.0


class Axis:
    """Maps times to places from 0 to `width`. `breaks` are the stretches (from, to) that were cut short."""

    def __init__(self, points: Iterable[tuple[float, bool]], flight: float) -> None:
        """`points` are the moments to be drawn, and whether one is of interest; `flight` is a message's usual time."""
        self.per_second = FLIGHT / flight
        self.breaks: list[tuple[float, float]] = []
        interest: dict[float, bool] = {}
        for time, interesting in points:
            interest[time] = interest.get(time, False) or interesting
        times = sorted(interest)
        self._find_breaks([time for time in times if interest[time]])
        inside = {edge for stretch in self.breaks for edge in stretch}
        self.times = [times[0]]
        self.places = [0.0]
        for time in sorted({*times, *inside}):
            stretch = self.stretch(time)
            if time > self.times[-1] and (stretch is None or time in stretch):
                step = max((time - self.times[-1]) * self.per_second, STEP)
                self.places.append(self.places[-1] + (BREAK if stretch and time == stretch[1] else step))
                self.times.append(time)

    def _find_breaks(self, times: list[float]) -> None:
        margin = MARGIN / self.per_second
        for before, after in pairwise(times):
            if (after - before) * self.per_second > QUIET:
                self.breaks.append((before + margin, after - margin))

    @property
    def width(self) -> float:
        return self.places[-1]

    def stretch_to(self, width: float) -> None:
        """Make the whole picture this wide."""
        factor = width / self.width if self.width else 1.0
        self.places = [place * factor for place in self.places]
        self.per_second *= factor

    def place(self, time: float) -> float:
        """Where a moment is; outside of the picture, its nearest end."""
        return _between(time, self.times, self.places)

    def time(self, place: float) -> float:
        """The moment at a place."""
        return _between(place, self.places, self.times)

    def stretch(self, time: float) -> tuple[float, float] | None:
        """The stretch cut short that a moment lies in."""
        number = bisect_right(self.breaks, (time, math.inf)) - 1
        return self.breaks[number] if number >= 0 and self.breaks[number][1] >= time else None

    def ticks(self, apart: float) -> list[tuple[float, str]]:
        """Round times at least so far apart, with their labels, outside of stretches cut short."""
        step = _round(apart / self.per_second)
        digits = max(0, -math.floor(math.log10(step)))
        marks: list[tuple[float, str]] = []
        edges = [self.times[0], *(edge for stretch in self.breaks for edge in stretch), self.times[-1]]
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            for number in range(math.ceil(begin / step), math.floor(end / step) + 1):
                place = self.place(number * step)
                near = min([abs(place - self.place(edge)) for edge in edges[1:-1]], default=apart)
                if near > 15 and (not marks or place - marks[-1][0] >= apart * 0.8):
                    marks.append((place, f"{number * step:.{digits}f}"))
        return marks


def _between(value: float, known: list[float], wanted: list[float]) -> float:
    """Linear interpolation over rising values."""
    number = bisect_right(known, value)
    if number == 0:
        return wanted[0]
    if number == len(known):
        return wanted[-1]
    low, high = known[number - 1], known[number]
    return wanted[number - 1] + (wanted[number] - wanted[number - 1]) * (value - low) / (high - low)


def _round(least: float) -> float:
    """1, 2 or 5 times a power of ten, not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))
