"""A picture of a run: nodes as lines, time from left to right, messages as arrows, and the story in words.

    page = draw(events, title="seed 17")

`events` are those of a trace (`docs/testing.md`): one mapping each, in order. A long run is shown around the moment
that matters, the last one if nothing else is said; quiet stretches are cut short. Memory and the size of the picture
are bounded, however long the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from distkit.core import LocalError
from distkit.sim.picture.axis import Axis
from distkit.sim.picture.layout import STRIP, Layout
from distkit.sim.picture.page import draw_figure, draw_page
from distkit.sim.picture.reading import read
from distkit.sim.picture.run import THINGS_MAX, Run
from distkit.sim.picture.story import Story

__all__ = ["draw", "figure"]

#: Strips of a picture for which nobody said how many seconds it shows, and at most.
STRIPS, STRIPS_MAX = 5, 40
#: Moments of the story that are told, and those from before the picture.
TOLD_MAX, EARLIER_MAX = 24, 5


def draw(
    events: Iterable[Mapping[str, Any]], *, title: str = "", around: float | None = None, seconds: float | None = None
) -> str:
    """One HTML page that needs nothing else: the story of a run and its picture.

    Shown is what happened up to `seconds` before and after `around` (seconds of the run; default: its end, which is
    where a broken rule ends it). Without `seconds`, as much as is readable. Raises LocalError with the number of the
    line for an event that is malformed, and if there is nothing to show.
    """
    return draw_page(_layout(events, around, seconds), title or "A run")


def figure(
    events: Iterable[Mapping[str, Any]], *, title: str = "", around: float | None = None, seconds: float | None = None
) -> str:
    """The picture alone, as SVG, for a document that tells the story itself. Arguments and errors as for `draw`."""
    return draw_figure(_layout(events, around, seconds), title or "A run")


def _layout(events: Iterable[Mapping[str, Any]], around: float | None, seconds: float | None) -> Layout:
    """Read the run, choose the part to show, and lay it out."""
    if seconds is not None and not seconds > 0:
        raise LocalError(f"a picture shows more than {seconds!r} seconds")
    run = Run()
    story = Story(run)
    later = 0
    for event in read(events):
        if around is not None and event.time > around:
            later += 1
            if later > THINGS_MAX if seconds is None else event.time > around + seconds:
                break
        run.advance(event)
        story.hear(event)
        run.add(event)
    run.finish()
    if not run.events:
        raise LocalError("the trace holds no events, so there is nothing to draw")
    if around is not None and not run.begin <= around <= run.end:
        raise LocalError(f"nothing happens around {around:g} s: the trace goes from {run.begin:g} s to {run.end:g} s")
    axis = _axis(run, run.end if around is None else around, seconds)
    begin, end = axis.times[0], axis.times[-1]
    told = [moment for moment in story.moments if begin <= moment.time <= end]
    earlier = [moment for moment in story.moments if moment.time < begin and moment.kind != "commit"]
    before = story.counts - Counter(moment.kind for moment in story.moments if moment.time >= begin)
    return Layout(run, axis, told[-TOLD_MAX:], earlier[-EARLIER_MAX:], before)


def _axis(run: Run, around: float, seconds: float | None) -> Axis:
    """The part of the run to show."""
    begin, end, room = run.known_since, run.end, STRIPS * STRIP
    if seconds is not None:
        begin, end, room = max(begin, around - seconds), min(end, around + seconds), STRIPS_MAX * STRIP
    axis = Axis(run.points(begin, end), run.flight(begin, end))
    if axis.width > room:
        high = min(axis.width, max(axis.place(around) + room / 2, room))
        begin, end = axis.time(high - room), axis.time(high)
        axis = Axis(run.points(begin, end), run.flight(begin, end))
    strips = max(1, round(axis.width / STRIP))
    axis.stretch_to(min(strips * STRIP, 3.0 * axis.width))
    return axis
