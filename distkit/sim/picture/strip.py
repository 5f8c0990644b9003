"""One strip of a picture as SVG: what happens from one place of the axis to another."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from distkit.sim.picture.layout import GUTTER, LANE, STRIP, TALL, Layout
from distkit.sim.picture.story import cut_text
from distkit.sim.picture.style import TERMS
from distkit.sim.picture.things import Cut, Mark, Message, Operation, Span
from distkit.sim.picture.words import LETTER, clean, clip

ROW: Final = 20
CLIENT_ROWS_MAX: Final = 12


class Strip:
    """Shows the places from `left` to `left + STRIP`."""

    def __init__(self, layout: Layout, left: float) -> None:
        self.layout = layout
        self.axis = layout.axis
        self.left = left
        self.right = left + STRIP
        self.rows, self.left_out = self._client_rows()
        self.height = layout.floor + (ROW * len(self.rows) + 14 if self.rows else 6)

    def draw(self) -> Iterator[str]:
        layout = self.layout
        yield from self._frame()
        yield '<g clip-path="url(#strip)">'
        for band in layout.bands:
            yield from self._band(band)
        for cut in layout.cuts:
            yield from self._cut(cut)
        for message in layout.messages:
            yield from self._message(message)
        for span in layout.spans:
            yield from self._span(span)
        for band in layout.bands:
            yield from self._band_name(band)
        yield from self._commits()
        for mark in layout.marks:
            yield from self._mark(mark)
        for number, (_, row) in enumerate(self.rows):
            yield from self._client(layout.floor + 10 + ROW * number, row)
        yield "</g>"
        for stretch in self.axis.breaks:
            yield from self._break(stretch)
        if layout.run.broken is not None:
            yield from self._broken(layout.run.broken)
        yield from self._badges()

    # -- places -------------------------------------------------------------------------------------------------------

    def _x(self, time: float) -> float:
        return GUTTER + self.axis.place(time) - self.left

    def _has(self, time: float) -> bool:
        """Whether a moment lies in this strip, and not in time that is cut short."""
        return self.left <= self.axis.place(time) <= self.right and not self.axis.stretch(time)

    def _part(self, begin: float, end: float) -> tuple[float, float] | None:
        """The part of some time that lies in this strip: where it begins, and how wide it is."""
        first, last = self.axis.place(begin), self.axis.place(end)
        if first > self.right or last < self.left:
            return None
        first, last = max(first, self.left), min(last, self.right)
        return GUTTER + first - self.left, last - first

    def _room(self, part: tuple[float, float], need: float) -> tuple[float, float]:
        """Where in a part of this strip a label fits, and how wide that place is."""
        moved = self.left - GUTTER
        place, wide = self.layout.room(part[0] + moved, part[0] + part[1] + moved, need)
        return place - moved, wide

    def _client_rows(self) -> tuple[list[tuple[str, list[Operation]]], int]:
        """Rows of operations with their names: one for each client, more for those that it has under way at once.
        And how many operations found no room."""
        rows: dict[tuple[str, int], list[Operation]] = {}
        left_out, end = 0, self.layout.end
        for operation in self.layout.operations:
            if self._part(*operation.during(end)) is None:
                continue
            number = 0
            while _busy(rows.get((operation.client, number)), operation, end):
                number += 1
            if (operation.client, number) in rows or len(rows) < CLIENT_ROWS_MAX:
                rows.setdefault((operation.client, number), []).append(operation)
            else:
                left_out += 1
        named = sorted(rows.items(), key=lambda row: (len(row[0][0]), row[0]))
        return [("" if number else client, row) for (client, number), row in named], left_out

    # -- behind everything --------------------------------------------------------------------------------------------

    def _frame(self) -> Iterator[str]:
        """Names of the lanes, and the time above them."""
        layout = self.layout
        yield '<text class="small" x="4" y="12">seconds</text>'
        for place, label in layout.ticks:
            if self.left <= place <= self.right:
                x = GUTTER + place - self.left
                yield f'<path class="grid" d="M{x:.1f} 18V{self.height - 6:g}"/>'
                yield f'<text class="small" x="{x:.1f}" y="12" text-anchor="middle">{label}</text>'
        for node in layout.nodes:
            y = layout.lane(node)
            yield f'<text class="name" x="{GUTTER - 10}" y="{y + 4:g}" text-anchor="end">node {node}</text>'
        for number, (client, _) in enumerate(self.rows):
            if client:
                name, y = clip(f"client {client}", GUTTER), layout.floor + 21 + ROW * number
                yield f'<text class="small" x="{GUTTER - 10}" y="{y:g}" text-anchor="end">{clean(name)}</text>'
        if self.left_out:
            more = f"and {self.left_out} more operations"
            yield f'<text class="small" x="{GUTTER}" y="{self.height + 10:g}">{more}</text>'

    def _band(self, band: Span) -> Iterator[str]:
        part = self._part(band.begin, band.end)
        if part is None:
            return
        box = f'x="{part[0]:.1f}" y="{self.layout.lane(band.node) - LANE / 2 + 2:g}" width="{part[1]:.1f}"'
        yield f'<rect class="term {_colour(band)}" {box} height="{LANE - 4}"/>'

    def _band_name(self, band: Span) -> Iterator[str]:
        part, label = self._part(band.begin, band.end), f"term {band.term}"
        if part is not None:
            need = len(label) * LETTER + 4
            x, wide = self._room(part, need)
            if wide >= need:
                y = self.layout.lane(band.node) + LANE / 2 - 5
                yield f'<text class="term {_colour(band)}" x="{x + 4:.1f}" y="{y:g}">{label}</text>'

    def _cut(self, cut: Cut) -> Iterator[str]:
        part = self._part(cut.begin, cut.end)
        if part is None:
            return
        x, wide, floor = *part, self.layout.floor
        text = cut_text(cut.links, self.layout.nodes)
        walls = "".join(
            f"M{x:.1f} {self.layout.lane(upper) + LANE / 2:g}h{wide:.1f}"
            for upper, lower in pairwise(self.layout.nodes)
            if {(upper, lower), (lower, upper)} <= cut.links
        )
        spot, room = self._room(part, len(text) * LETTER + 22)
        yield (
            f'<g class="cut"><rect x="{x:.1f}" y="22" width="{wide:.1f}" height="{floor - 22:g}"/>'
            f'<path d="M{x:.1f} 22V{floor:g}M{x + wide:.1f} 22V{floor:g}"/>'
            f'<path class="wall" d="{walls}"/>'
            f'<text x="{spot + 14:.1f}" y="35">{clean(clip(text, room - 18))}</text>'
            f"<title>{clean(text)}\n{self.layout.from_to(cut.begin, cut.end)}</title></g>"
        )

    # -- messages -----------------------------------------------------------------------------------------------------

    def _message(self, message: Message) -> Iterator[str]:
        """Its arrow; one more for each time that it arrives again."""
        for number, time in enumerate(message.arrivals):
            yield from self._arrow(message, time, "again" if number else "")
        if message.lost is not None:
            yield from self._arrow(message, message.lost, "lost")
        elif not message.arrivals:
            yield from self._arrow(message, self.layout.end, "flies")

    def _arrow(self, message: Message, time: float, fate: str) -> Iterator[str]:
        """From the sender's line to the receiver's; one that is lost or still under way ends between them."""
        layout = self.layout
        x2, y2 = self._x(time), layout.lane(message.target)
        if message.sent is None:
            x1, y1 = x2 - 16, y2 - 24
        else:
            x1, y1 = self._x(message.sent), layout.lane(message.source)
        lanes = abs(y2 - y1) / LANE
        down = 1 if y2 > y1 else -1
        y1 += down * (layout.edge(message.source, message.sent) if message.sent is not None else 0)
        if fate in ("lost", "flies") and message.reason != "down":
            x2 = max(x2 if fate == "lost" else 0.0, x1 + 10) + 10 * max(lanes - 1, 0)
            y2 = y1 + down * LANE / 2.6
        else:
            y2 -= down * (10 if fate == "lost" else layout.edge(message.target, time))
        if max(x1, x2) < GUTTER or min(x1, x2) > GUTTER + STRIP:
            return
        path, kind = f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}", message.kind
        head = "" if fate in ("lost", "flies") else f' marker-end="url(#{kind})"'
        yield f'<g class="m {kind}{fate and " " + fate}" data-id="{message.id}">'
        yield f'<path class="near" d="{path}"/><path d="{path}"{head}/>'
        if fate == "lost":
            yield f'<path class="cross" d="M{x2 - 4:.1f} {y2 - 4:.1f}l8 8m0 -8l-8 8"/>'
        yield f"<title>{self._told(message)}</title></g>"

    def _told(self, message: Message) -> str:
        """A message in words."""
        at = self.layout.at
        lines = [message.name + (f", term {message.term}" if message.term else ""), message.detail]
        if message.sent is not None:
            lines += [f"node {message.source} → node {message.target}", f"sent at {at(message.sent)}"]
        for time in message.arrivals:
            late = "" if message.sent is None else f", {(time - message.sent) * 1e3:.3g} ms later"
            lines.append(f"received at {at(time)}{late}")
        if message.lost is not None:
            lines.append(f"lost at {at(message.lost)}{message.reason and ': ' + message.reason}")
        elif not message.arrivals:
            lines.append("under way at the end")
        return clean("\n".join(line for line in lines if line))

    # -- nodes --------------------------------------------------------------------------------------------------------

    def _span(self, span: Span) -> Iterator[str]:
        part = self._part(span.begin, span.end)
        if part is None:
            return
        x, wide, y = *part, self.layout.lane(span.node)
        # What a machine of another kind calls itself is written into the bar.
        own = span.state != "follower" and span.state not in TALL
        state = "leader" if own else span.state
        tall = TALL.get(state, 2)
        label = {"leader": f"leads term {span.term}", "down": "down", "paused": "paused"}.get(span.state, "")
        if own:
            label = f"{span.state} {span.term}"
        spot, room = self._room(part, len(label) * LETTER + 14)
        if state == "leader" and room < len(label) * LETTER + 12:
            label = str(span.term)
        words = f"node {span.node}: {span.state}" + (f", term {span.term}" if span.term else "")
        yield (
            f'<g class="{state} {_colour(span)}"><rect x="{x:.1f}" y="{y - tall / 2:g}" '
            f'width="{max(wide, 1):.1f}" height="{tall}" rx="{3 if tall > 2 else 0}"/>'
        )
        if label and room >= len(label) * LETTER + 12:
            yield f'<text x="{spot + 8:.1f}" y="{y + (-14 if state == "paused" else 4):g}">{label}</text>'
        yield f"<title>{clean(words)}\n{self.layout.from_to(span.begin, span.end)}</title></g>"

    def _commits(self) -> Iterator[str]:
        """Ticks under the lines; those on one spot share one label."""
        free: dict[int, float] = {}
        for commit in self.layout.commits:
            if not self._has(commit.time):
                continue
            x, y, label = self._x(commit.time), self.layout.lane(commit.node), str(commit.last)
            yield f'<g class="commit"><path d="M{x:.1f} {y + 7:g}v6"/>'
            if x >= free.get(commit.node, 0.0):
                free[commit.node] = x + len(label) * LETTER + 3
                yield f'<text x="{x:.1f}" y="{y + 23:g}" text-anchor="middle">{label}</text>'
            entries = f"{commit.first} to {commit.last}" if commit.first < commit.last else label
            words = f"node {commit.node} learns that {entries} is committed\n{self.layout.at(commit.time)}"
            yield f"<title>{words}</title></g>"

    def _mark(self, mark: Mark) -> Iterator[str]:
        if mark.name == "broken" or not self._has(mark.time):
            return
        x, y = self._x(mark.time), self.layout.lane(mark.node)
        if mark.name in ("crash", "stop"):
            kind, path = "cross", f"M{x - 6:.1f} {y - 6:g}l12 12m0 -12l-12 12"
        elif mark.name == "restart":
            kind, path = "start", f"M{x:.1f} {y - 7:g}l11 7l-11 7z"
        elif mark.small:
            kind, path = "dot", f"M{x - 1.5:.1f} {y + 4:g}h3v3h-3z"
        else:
            kind, path = "mark", f"M{x:.1f} {y - 5:g}l4 5l-4 5l-4 -5z"
        words = (f"node {mark.node}: " if mark.node else "") + mark.name + (f"\n{mark.text}" if mark.text else "")
        yield f'<g class="{kind}"><path d="{path}"/><title>{clean(words)}\n{self.layout.at(mark.time)}</title></g>'

    # -- clients ------------------------------------------------------------------------------------------------------

    def _client(self, y: float, row: list[Operation]) -> Iterator[str]:
        times = [operation.during(self.layout.end) for operation in row]
        limits = [*(self._x(begin) for begin, _ in times[1:]), math.inf]
        for operation, (begin, end), limit in zip(row, times, limits, strict=True):
            part = self._part(begin, end)
            if part is not None:
                yield from self._operation(operation, y, part, min(limit, GUTTER + STRIP))

    def _operation(self, operation: Operation, y: float, part: tuple[float, float], limit: float) -> Iterator[str]:
        """A bar with its text inside, or behind it up to the `limit`, where the next one begins."""
        x, wide = part[0], max(part[1], 4.0)
        spot, room = self._room(part, len(operation.text) * LETTER + 8)
        inside = room >= min(len(operation.text), 12) * LETTER + 8
        label = clip(operation.text, room - 6 if inside else limit - x - wide - 8)
        answer = (
            f"{operation.outcome or 'answered'} {operation.value}" if operation.returned is not None else "no answer"
        )
        where = f" at node {operation.node}" if operation.node else ""
        words = f"client {operation.client}: {operation.text}{where}\n{answer}"
        yield (
            f'<g class="op {operation.fate}"><rect x="{x:.1f}" y="{y + 1:g}" width="{wide:.1f}" height="13" rx="3"/>'
            f'<text class="{"in" if inside else "out"}" x="{spot + 4 if inside else x + wide + 4:.1f}" y="{y + 11:g}">'
            f"{clean(label)}</text><title>{clean(words)}\n{self.layout.from_to(*operation.during(self.layout.end))}"
            "</title></g>"
        )

    # -- in front of everything ---------------------------------------------------------------------------------------

    def _break(self, stretch: tuple[float, float]) -> Iterator[str]:
        part = self._part(*stretch)
        if part is None:
            return
        x, wide, tall, seconds = *part, self.height, stretch[1] - stretch[0]
        length = f"{seconds:.3g} s" if seconds >= 0.9995 else f"{seconds * 1e3:.3g} ms"
        wave = "q4 4 0 8q-4 4 0 8" * int((tall - 20) / 16)
        yield (
            f'<g class="break"><rect x="{x:.1f}" y="16" width="{wide:.1f}" height="{tall - 20:g}"/>'
            f'<path d="M{x:.1f} 18{wave}M{x + wide:.1f} 18{wave}"/>'
        )
        if wide > 40:
            yield f'<text x="{x + wide / 2:.1f}" y="12" text-anchor="middle">{length}</text>'
        yield f"<title>{length} cut short, in which nothing happens but {self.layout.hidden[stretch]} heartbeats and "
        yield f"answers\n{self.layout.from_to(*stretch)}</title></g>"

    def _broken(self, mark: Mark) -> Iterator[str]:
        layout = self.layout
        if not self._has(mark.time) or not layout.shows(mark):
            return
        x, text = self._x(mark.time), clip(" ".join(mark.text.split()) or "broken", 760.0)
        wide = len(text) * 6.3 + 16
        left = min(max(x - wide + 6, GUTTER), GUTTER + STRIP + 8 - wide)
        yield f'<g class="broken"><path d="M{x:.1f} 0V{self.height - 4:g}"/>'
        named = {mark.node, *map(int, re.findall(r"\b(?:node|leader|candidate|on) (\d{1,15})\b", mark.text))}
        for node in sorted(named.intersection(layout.nodes)):
            yield f'<circle cx="{x:.1f}" cy="{layout.lane(node):g}" r="9"/>'
        yield (
            f'<rect x="{left:.1f}" y="-6" width="{wide:.1f}" height="20" rx="4"/>'
            f'<text x="{left + wide / 2:.1f}" y="8" text-anchor="middle">{clean(text)}</text>'
            f"<title>{clean(mark.text)}\n{layout.at(mark.time)}</title></g>"
        )

    def _badges(self) -> Iterator[str]:
        """The numbers of the story, above the line of the node that they speak of."""
        free: dict[int, float] = {}
        for number, moment in enumerate(self.layout.told, 1):
            if moment.kind != "broken" and self.left <= self.axis.place(moment.time) <= self.right:
                x = max(self._x(moment.time), free.get(moment.node, 0.0))
                free[moment.node] = x + 17
                y = self.layout.lane(moment.node) - (21 if moment.node else 0)
                yield (
                    f'<g class="badge"><circle cx="{x:.1f}" cy="{y:g}" r="8"/><text x="{x:.1f}" y="{y + 3.5:g}" '
                    f'text-anchor="middle">{number}</text><title>{clean(moment.text)}</title></g>'
                )


def _colour(span: Span) -> str:
    """The class of its term's colour."""
    return f"t{span.term % TERMS}"


def _busy(row: list[Operation] | None, operation: Operation, end: float) -> bool:
    """Whether the last operation of a row goes on when this one begins."""
    return row is not None and row[-1].during(end)[1] > operation.during(end)[0]
