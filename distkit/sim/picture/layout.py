"""What a picture shows, and where: the choice of things, the heights of the lanes, room for labels."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from itertools import groupby
from typing import Final

from distkit.sim.picture.axis import FLIGHT, Axis
from distkit.sim.picture.run import Run
from distkit.sim.picture.story import Moment
from distkit.sim.picture.things import Message, Span, Thing

WIDTH, GUTTER, RIGHT = 1200, 72, 16
STRIP: Final = WIDTH - GUTTER - RIGHT
LANE = 66

#: How high the bar of a node in this state is.
TALL: Final = {"leader": 14, "candidate": 8, "down": 12, "paused": 22}


class Layout:
    """`told` are the numbered moments of the story, `earlier` some from before the picture; `before` counts those."""

    def __init__(self, run: Run, axis: Axis, told: list[Moment], earlier: list[Moment], before: Counter[str]) -> None:
        self.run = run
        self.axis = axis
        self.told, self.earlier, self.before = told, earlier, before
        self.begin, self.end = axis.times[0], axis.times[-1]
        self.digits = min(max(1 - math.floor(math.log10(FLIGHT / axis.per_second)), 1), 9)
        self.nodes = sorted(run.lanes)
        self.spans = sorted(filter(self.shows, run.spans), key=lambda span: (span.state == "paused", span.begin))
        self.cuts = [cut for cut in run.cuts if self.shows(cut)]
        self.marks = [mark for mark in run.marks if self.shows(mark)]
        self.commits = [commit for commit in run.commits if self.shows(commit)]
        self.ticks = axis.ticks(100.0)
        self.states = self._states()
        self.bands = [_band(spans) for spans in self._terms()]
        self.messages, self.hidden = self._letters()
        self.operations = [each for each in run.operations if self.shows(each)]
        self.ceiling = 46.0 if self.cuts or any(not mark.node for mark in self.marks) else 26.0
        self.floor = self.ceiling + LANE * len(self.nodes)

    # -- what is shown ------------------------------------------------------------------------------------------------

    def shows(self, thing: Thing) -> bool:
        """Whether a part of it lies within the picture."""
        begin, end = thing.during(self.end)
        return begin <= self.end and end >= self.begin

    def _states(self) -> dict[int, list[Span]]:
        """What each node was, in order."""
        states: dict[int, list[Span]] = {node: [] for node in self.nodes}
        for span in self.spans:
            if span.state != "paused":
                states[span.node].append(span)
        return states

    def _terms(self) -> list[list[Span]]:
        """The spans of each node in each term."""
        return [
            list(spans)
            for states in self.states.values()
            for term, spans in groupby(states, key=lambda span: span.term)
            if term
        ]

    def _letters(self) -> tuple[list[Message], Counter[tuple[float, float]]]:
        """The messages of this picture; those within a stretch that is cut short are only counted."""
        shown, hidden = [], Counter[tuple[float, float]]()
        for message in filter(self.shows, self.run.messages):
            begin, end = message.during(self.end)
            stretch = self.axis.stretch(begin)
            if stretch and stretch == self.axis.stretch(end):
                hidden[stretch] += 1
            else:
                shown.append(message)
        return shown, hidden

    # -- where --------------------------------------------------------------------------------------------------------

    def lane(self, node: int) -> float:
        """The height of a node's line; that of the row above all lanes for none."""
        return self.ceiling + LANE * (self.nodes.index(node) + 0.5) if node in self.states else 31.0

    def edge(self, node: int, time: float) -> float:
        """How far from the middle of its line an arrow meets a node."""
        states = self.states.get(node, [])
        number = bisect_right(states, time, key=lambda span: span.begin)
        return TALL.get(states[number - 1].state, 2) / 2 + 1 if number else 2.0

    def room(self, first: float, last: float, need: float) -> tuple[float, float]:
        """Where between two places a label of this width fits best, and how wide that place is: the first one between
        stretches that are cut short with enough room, else the widest."""
        edges = [first]
        for stretch in self.axis.breaks:
            begin, end = self.axis.place(stretch[0]), self.axis.place(stretch[1])
            if end > first and begin < last:
                edges += [max(begin, first), min(end, last)]
        parts = [(begin, end - begin) for begin, end in zip(edges[::2], [*edges[1::2], last], strict=True)]
        return next((part for part in parts if part[1] >= need), max(parts, key=lambda part: part[1]))

    # -- words --------------------------------------------------------------------------------------------------------

    def at(self, time: float) -> str:
        """A moment in words."""
        return f"{time:.{self.digits}f} s"

    def from_to(self, begin: float, end: float) -> str:
        return f"{self.at(begin)} to {self.at(end)}"


def _band(spans: list[Span]) -> Span:
    """All the time that a node is in one term."""
    return Span(spans[0].begin, spans[-1].end, spans[0].node, "term", spans[0].term)
