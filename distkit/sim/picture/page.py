"""The whole picture: strips one above the other, the legend, and the story in words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from distkit.sim.picture.layout import GUTTER, RIGHT, STRIP, WIDTH, Layout
from distkit.sim.picture.story import summary
from distkit.sim.picture.strip import Strip
from distkit.sim.picture.style import PAGE, SCRIPT, STYLE
from distkit.sim.picture.words import LETTER, clean

_MESSAGES = {
    "vote": "votes",
    "append": "appends",
    "reply": "replies",
    "heartbeat": "heartbeats",
    "other": "other messages",
}
_FATES = {
    "done": "client: done",
    "refused": "client: refused",
    "unknown": "client: unknown",
    "open": "client: no answer",
}
_STATES = {
    "follower": ("follows", '<g class="follower"><rect y="-1" width="26" height="2"/></g>'),
    "candidate": ("campaigns", '<g class="candidate t1"><rect y="-4" width="26" height="8" rx="3"/></g>'),
    "leader": (
        "leads, a colour for each term",
        "".join(f'<g class="leader t{n}"><rect x="{9 * n - 9}" y="-7" width="8" height="14"/></g>' for n in (1, 2, 3)),
    ),
    "down": ("down", '<g class="down"><rect y="-6" width="26" height="12" rx="3"/></g>'),
    "paused": ("paused", '<g class="paused"><rect y="-8" width="26" height="16" rx="3"/></g>'),
}
_WAVES = '<g class="break"><path d="M8 -8q4 4 0 8q-4 4 0 8M18 -8q4 4 0 8q-4 4 0 8"/></g>'
_BADGE = '<g class="badge"><circle cx="13" r="8"/><text x="13" y="3.5" text-anchor="middle">1</text></g>'
_LOST = '<g class="m other lost"><path d="M0 5L18 -2"/><path class="cross" d="M14 -6l8 8m0 -8l-8 8"/></g>'


def draw_page(layout: Layout, title: str) -> str:
    """One HTML page that needs nothing else."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{clean(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width"><style>{PAGE}</style></head>\n<body>\n'
        f"<h1>{clean(title)}</h1>\n{_words(layout)}\n{draw_figure(layout, title)}"
        f'<div id="said" hidden></div>\n<script>{SCRIPT}</script>\n</body></html>\n'
    )


def draw_figure(layout: Layout, title: str) -> str:
    """The picture as SVG."""
    legend, top = _legend(layout)
    parts = []
    for number in range(max(1, math.ceil(layout.axis.width / STRIP - 1e-9))):
        strip = Strip(layout, number * STRIP)
        parts.append(f'<g class="strip" transform="translate(0 {top:g})">{"".join(strip.draw())}</g>')
        top += strip.height + 26
    return (
        f'<svg class="picture" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:g}" width="{WIDTH}" '
        f'height="{top:g}" role="img"><title>{clean(title)}</title><style>{STYLE}</style>\n'
        f"{_definitions(top)}\n"
        f'<rect class="paper" width="{WIDTH}" height="{top:g}" rx="6"/>\n{legend}\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _definitions(height: float) -> str:
    heads = "".join(
        f'<marker id="{kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto" '
        f'markerUnits="userSpaceOnUse" class="{kind}"><path d="M0 1L8 4L0 7z"/></marker>'
        for kind in _MESSAGES
    )
    return (
        f'<defs>{heads}<pattern id="hatch" width="9" height="9" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><path d="M0 0V9"/></pattern>'
        f'<clipPath id="strip"><rect x="{GUTTER - 8}" y="-10" width="{STRIP + RIGHT + 4}" height="{height + 10:g}"/>'
        "</clipPath></defs>"
    )


# -- legend -----------------------------------------------------------------------------------------------------------


def _legend(layout: Layout) -> tuple[str, float]:
    """What is in this picture and how it is drawn; and the height where the strips may begin."""
    parts, x, y = [], 16.0, 22.0
    for text, swatch, kind in _entries(layout):
        wide = 34 + len(text) * LETTER + 16
        if x + wide > WIDTH:
            x, y = 16.0, y + 22
        name = f' data-kind="{kind}"' if kind else ""
        parts.append(
            f'<g class="key"{name} transform="translate({x:.0f} {y:.0f})">{swatch}<text x="34" y="4">{text}</text></g>'
        )
        x += wide
    return "".join(parts), y + 34


def _entries(layout: Layout) -> Iterator[tuple[str, str, str]]:
    """Text, sample, and the kind of message that a click hides."""
    states = {span.state for span in layout.spans}
    for state, (text, swatch) in _STATES.items():
        if state in states:
            yield text, swatch, ""
    kinds = {message.kind for message in layout.messages}
    for kind, text in _MESSAGES.items():
        if kind in kinds:
            yield text, f'<g class="m {kind}"><path d="M0 5L26 -5" marker-end="url(#{kind})"/></g>', kind
    if any(message.lost is not None for message in layout.messages):
        yield "lost", _LOST, ""
    if layout.cuts:
        yield "links cut", '<g class="cut"><rect y="-8" width="26" height="16"/></g>', ""
    if layout.commits:
        yield "commit index", '<g class="commit"><path d="M8 -4v8"/><text x="14" y="4">7</text></g>', ""
    if any(mark.name == "restart" for mark in layout.marks):
        yield "starts", '<g class="start"><path d="M8 -7l11 7l-11 7z"/></g>', ""
    fates = {operation.fate for operation in layout.operations}
    for fate, text in _FATES.items():
        if fate in fates:
            yield text, f'<g class="op {fate}"><rect y="-6" width="26" height="12" rx="3"/></g>', ""
    if layout.axis.breaks:
        yield "quiet time cut short", _WAVES, ""
    if layout.told:
        yield "told in the text", _BADGE, ""


# -- words ------------------------------------------------------------------------------------------------------------


def _words(layout: Layout) -> str:
    """The story as HTML."""
    run, begin = layout.run, layout.begin
    nodes = "1 node" if len(run.lanes) == 1 else f"{len(run.lanes)} nodes"
    parts = [f"{nodes}, {run.events:,} events. The picture shows {layout.from_to(begin, layout.end)}."]
    before = summary(layout.before)
    if before:
        parts.append(f"Before that: {before}.")
    parts += [
        f"When it begins, node {span.node} leads term {span.term}."
        for span in layout.spans
        if span.state == "leader" and span.begin < begin
    ]
    fates = Counter(operation.outcome or "without an answer" for operation in layout.operations)
    if fates:
        parts.append(
            "Operations of clients: " + ", ".join(f"{count} {fate}" for fate, count in sorted(fates.items())) + "."
        )
    verdict = "" if run.broken is None else f'<p class="verdict">Broken: {clean(run.broken.text)}</p>\n'
    told = [("earlier", "", moment) for moment in layout.earlier]
    told += [(moment.kind, str(number), moment) for number, moment in enumerate(layout.told, 1)]
    items = "".join(
        f'<li class="{kind}"><b>{number}</b><time>{layout.at(moment.time)}</time> {clean(moment.text)}</li>\n'
        for kind, number, moment in told
    )
    return f"{verdict}<p>{clean(' '.join(parts))}</p>\n<ol>\n{items}</ol>"
