"""The picture of a verdict: one page of HTML that needs nothing else, for people who did not write the checker."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import groupby, pairwise
from typing import Any, Final

from distkit.core import LocalError, record
from distkit.sim.linear.layout import Bar, Layout, Point, lay_out
from distkit.sim.linear.models import MODELS, Cell, Model
from distkit.sim.linear.records import Operation, Result, Verdict

_ROW: Final = 52.0
#: From the top of a row to its bars: room for a name.
_TOP: Final = 12.0
_BAR: Final = 20.0
_AXIS: Final = 30.0
_STATES: Final = 46.0
#: One character of a label, and what a bar has besides.
_CHAR: Final = 6.7
_PADDING: Final = 14.0
#: Characters of a label, of a value in a sentence, and of what is shown under the pointer.
_LABEL_CHARS: Final = 24
_VALUE_CHARS: Final = 120
_TITLE_CHARS: Final = 400
#: Pixels between two times on the axis.
_TICK: Final = 90.0
#: Different states that the reason names.
_STATES_NAMED: Final = 4

_STYLE: Final = """
:root { color-scheme: light dark; --paper: #fbfaf7; --ink: #22262e; --soft: #6b7280; --line: #e2e0d9; --bar: #dce6f4;
  --edge: #7c9cc9; --open: #e9e2f5; --open-edge: #9a84c9; --idle: #efeeea; --idle-edge: #b9b6ad; --path: #2b5fad;
  --bad: #c62f2f; --bad-soft: #fbe4e1; --good: #24794b; --unsure: #9a6700; --state: #f1efe9; --card: #ffffff }
@media (prefers-color-scheme: dark) { :root { --paper: #14171c; --ink: #e4e6ea; --soft: #969da9; --line: #2c313a;
  --bar: #22344f; --edge: #5580bb; --open: #322a48; --open-edge: #8b76bd; --idle: #22252b; --idle-edge: #565b66;
  --path: #7fb0f5; --bad: #ff7b72; --bad-soft: #46211f; --good: #5fc98b; --unsure: #e3b341; --state: #1e222a;
  --card: #191d23 } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 32px 28px 56px; max-width: 1500px; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif }
h1 { margin: 0 0 2px; font-size: 21px; font-weight: 650 }
h2 { margin: 30px 0 6px; font-size: 15px; font-weight: 650 }
a { color: inherit }
code, text, li { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace }
code { font-size: 13px; overflow-wrap: anywhere }
.facts { margin: 0 0 18px; color: var(--soft) }
.verdict { margin: 0 0 18px; padding: 13px 18px; max-width: 76em; border: 1px solid var(--line); border-left: 5px solid;
  border-radius: 6px; background: var(--card) }
.verdict p { margin: 0; color: var(--ink) } .verdict p + p { margin-top: 7px }
.verdict strong { font-weight: 650 }
.illegal { border-left-color: var(--bad) } .illegal strong { color: var(--bad) }
.ok { border-left-color: var(--good) } .ok strong { color: var(--good) }
.unknown { border-left-color: var(--unsure) } .unknown strong { color: var(--unsure) }
.where { margin: 0 2px 10px; color: var(--soft); font-size: 13px }
.where span { position: relative; display: block; height: 5px; margin-top: 5px; border-radius: 3px;
  background: var(--line) }
.where i { position: absolute; height: 5px; min-width: 5px; border-radius: 3px; background: var(--path) }
figure { display: flex; margin: 0; border: 1px solid var(--line); border-radius: 6px; background: var(--card);
  overflow-x: auto }
figure svg { display: block; flex: none }
.names { position: sticky; left: 0; background: var(--card); border-right: 1px solid var(--line) }
svg text { font-size: 11px; fill: var(--ink) }
svg .soft { fill: var(--soft) }
svg .row { stroke: var(--line) }
svg .tick { stroke: var(--line); stroke-dasharray: 2 3 }
.bar rect { fill: var(--bar); stroke: var(--edge) }
.open rect { fill: url(#fade-open); stroke: url(#fade-open-edge) }
.idle rect { fill: var(--idle); stroke: var(--idle-edge); stroke-dasharray: 3 2 }
.idle text { fill: var(--soft) }
.open.idle rect { fill: url(#fade-idle); stroke: url(#fade-idle-edge) }
.failed rect { fill: var(--bad-soft); stroke: var(--bad); stroke-width: 2 }
.failed text { fill: var(--bad); font-weight: 700 }
.bar .over { fill: var(--soft); font-size: 10px; font-weight: 400 }
.must { fill: var(--bad); opacity: .09 }
.path { fill: none; stroke: var(--path); stroke-width: 2; stroke-linejoin: round; opacity: .55 }
.point circle { fill: var(--path); stroke: var(--card); stroke-width: 1.5 }
.point text { fill: var(--card); font-size: 9px; font-weight: 700; text-anchor: middle }
.drop { stroke: var(--path); opacity: .3; stroke-dasharray: 2 3 }
.state rect { fill: var(--state); stroke: var(--line) }
.state.now rect { stroke: var(--bad) }
.legend { display: flex; flex-wrap: wrap; gap: 4px 26px; margin: 12px 2px 0; padding: 0; color: var(--soft);
  font-size: 13px; list-style: none }
.legend li { display: flex; align-items: center; gap: 8px; font-family: inherit }
details { margin: 22px 2px 0 } summary { cursor: pointer }
ol { margin: 8px 0 0; padding: 0 0 0 3.4em; font-size: 12.5px }
"""

_FADES: Final = """<svg width="0" height="0" style="position:absolute"><defs>
{}</defs></svg>
""".format(
    "".join(
        f'<linearGradient id="fade-{name}"><stop offset=".45" style="stop-color:var(--{name})"/>'
        f'<stop offset="1" style="stop-color:var(--{name});stop-opacity:0"/></linearGradient>\n'
        for name in ("open", "open-edge", "idle", "idle-edge")
    )
)

#: Brings the operation in question into view; the page is complete without it.
_SCRIPT: Final = """<script>
const failed = document.getElementById("failed"), figure = failed?.closest("figure")
if (figure) figure.scrollLeft += failed.getBoundingClientRect().left - figure.getBoundingClientRect().width * 0.7
</script>"""


def draw(verdict: Verdict, model: Model | str | None = None, *, title: str = "Is this history linearizable?") -> str:
    """The history as a page of HTML: a row for each process, the longest order found as a line through it.

    With the model, also the state after each operation, and why the one in question has no place. Of a long history the
    part round that operation is drawn. Everything out of the history is escaped, and the page loads nothing.

    LocalError if there is no model of that name.
    """
    if isinstance(model, str):
        if model not in MODELS:
            raise LocalError(f"there is no model {model!r}; there are {', '.join(MODELS)}")
        model = MODELS[model]
    layout = lay_out(verdict, _label_width) if verdict.history else None
    states = {} if layout is None or model is None else _states(verdict, model, layout)
    parts = [
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{_text(title)}</title>',
        '<meta name="viewport" content="width=device-width">',
        f"<style>{_STYLE}</style>\n</head>\n<body>",
        f"<h1>{_text(title)}</h1>",
        f'<p class="facts">{_text(_facts(verdict))}</p>',
        f'<div class="verdict {verdict.result.value}">{_sentences(verdict, model, states)}</div>',
    ]
    if layout is not None:
        parts += [_FADES, _where(verdict, layout), _figure(layout, states), _legend(verdict)]
        parts += [_order(verdict, layout, states), _SCRIPT]
    return "\n".join([*parts, "</body>\n</html>\n"])


@record
class _State:
    """What the object is after an operation, and how that is written."""

    state: Any
    text: str


def _states(verdict: Verdict, model: Model, layout: Layout) -> dict[int, _State]:
    """The state after each operation that is drawn, by its number in the order, and the one before the first."""
    first = layout.points[0].number - 1 if layout.points else len(verdict.linearized)
    last = layout.points[-1].number if layout.points else first
    states = {}
    state: Any = model.initial()
    for number, operation in enumerate((None, *verdict.linearized[:last])):
        if operation is not None:
            state = model.step(state, operation)
        if number >= first:
            states[number] = _State(state, repr(state[0] if isinstance(model, Cell) else state))
    return states


def _text(text: str) -> str:
    """Text that is safe between tags and in attributes."""
    return escape(_printable(text))


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _short(text: str, length: int) -> str:
    """Its begin and its end, in which values differ most."""
    end = (length - 1) // 2
    return text if len(text) <= length else text[: length - 1 - end] + "…" + text[len(text) - end :]


def _value(value: Any, length: int) -> str:
    return _short(repr(value), length)


def _what(operation: Operation, length: int) -> str:
    """What was asked and, if that is known and says something, what was answered."""
    given = "" if operation.input is None else f" {_value(operation.input, length)}"
    silent = operation.is_open or operation.output is True or (operation.output is None and operation.input is not None)
    return operation.kind + given + ("" if silent else f" → {_value(operation.output, length)}")


def _label(operation: Operation) -> str:
    return _short(_what(operation, _LABEL_CHARS), _LABEL_CHARS)


def _label_width(operation: Operation) -> float:
    return len(_label(operation)) * _CHAR + _PADDING


def _facts(verdict: Verdict) -> str:
    facts = [] if verdict.key is None else [f"key {_value(verdict.key, _VALUE_CHARS)}"]
    if verdict.history:
        facts.append(
            f"{len(verdict.history):,} operations, {len(verdict.linearized):,} of them in the longest order found"
        )
    return " · ".join([*facts, f"{verdict.steps:,} steps of the search"])


def _sentences(verdict: Verdict, model: Model | None, states: dict[int, _State]) -> str:
    """What was found, and why."""
    operation = verdict.operation
    if verdict.result is Result.OK:
        said = "The operations have an order, each between its call and its answer, that explains every answer."
        if not verdict.history:
            said += " Every key has its own, so none is drawn."
        return f"<p><strong>Linearizable.</strong> {said}</p>"
    if verdict.result is Result.UNKNOWN or operation is None:
        said = f"The limit of {verdict.limit} was reached before an answer was found. This is not a pass."
        return f"<p><strong>Undecided.</strong> {_text(said)}</p>"
    what = _text(_what(operation, _VALUE_CHARS))
    when = f"called at {_time(operation.called)}, answered at {_time(operation.returned)}"
    return (
        f'<p><strong>Not linearizable.</strong> No order has a place for <a href="#failed"><code>{what}</code></a> of '
        f"process {_name(operation.process)}, {_text(when)}. Everything answered before it can be put in an order.</p>"
        + (f"<p>{_why(verdict, operation, model, states)}</p>" if model is not None else "")
    )


def _why(verdict: Verdict, operation: Operation, model: Model, states: dict[int, _State]) -> str:
    """The states between its call and its answer in the longest order, and whether it could take effect in one."""
    order = verdict.linearized
    first = max((place for place, other in enumerate(order, 1) if other.returned < operation.called), default=0)
    last = min((place for place, other in enumerate(order) if other.called > operation.returned), default=len(order))
    seen = list(dict.fromkeys(state for number, state in states.items() if first <= number <= last))
    fitting = [state for state in seen if model.step(state.state, operation) is not None]
    there = f"In the longest order found, the state between its call and its answer is {_listed(seen)}"
    if not seen:
        return (
            "What is between its call and its answer in the longest order found is outside of the part that is drawn."
        )
    if not fitting:
        return f"{there}, where it cannot answer what it did."
    return (
        f"{there}. It could take effect where the state is {_listed(fitting)}, but then what is behind it has no place."
    )


def _listed(states: list[_State]) -> str:
    shown = [f"<code>{_text(_short(state.text, _VALUE_CHARS))}</code>" for state in states[:_STATES_NAMED]]
    if len(states) > _STATES_NAMED:
        return ", ".join(shown) + f" and so on ({len(states)} different ones)"
    return " or ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _time(time: float) -> str:
    return str(time) if isinstance(time, int) else f"{time:g}"


def _name(process: int | str) -> str:
    return _text(_short(str(process), _LABEL_CHARS))


def _where(verdict: Verdict, layout: Layout) -> str:
    """Of a long history, which part is drawn."""
    total = len(verdict.history)
    if layout.last - layout.first + 1 == total:
        return ""
    left, width = 100 * (layout.first - 1) / total, 100 * (layout.last - layout.first + 1) / total
    return (
        f'<p class="where">Operations {layout.first:,} to {layout.last:,} of {total:,} are drawn, by time of call.'
        f'<span><i style="left:{left:.2f}%;width:{width:.2f}%"></i></span></p>'
    )


def _figure(layout: Layout, states: dict[int, _State]) -> str:
    bottom = _AXIS + _ROW * len(layout.rows)
    height = bottom + (_STATES if states else 12)
    width = max(layout.width, 200)
    names = [_row_name(processes) for processes in layout.rows]
    names_width = max(24 + _CHAR * max(map(len, names)), 70)
    middles = [_AXIS + _ROW * row + _TOP + _BAR / 2 for row in range(len(names))]
    left = [
        '<text class="soft" x="12" y="19">process</text>',
        *(f'<text x="12" y="{y + 4:g}">{_text(name)}</text>' for name, y in zip(names, middles, strict=True)),
        *([f'<text class="soft" x="12" y="{bottom + 28:g}">state</text>'] if states else []),
    ]
    failed = [bar for bar in layout.bars if bar.failed]
    drawing = [
        *_axis(layout, bottom),
        *(f'<line class="row" x1="0" x2="{width:g}" y1="{y:g}" y2="{y:g}"/>' for y in middles),
        *(
            f'<rect class="must" x="{bar.left:g}" y="{_AXIS - 6:g}" width="{bar.right - bar.left:g}" '
            f'height="{height - _AXIS:g}"/>'
            for bar in failed
        ),
        *_bars(layout),
        *_path(layout.points, bottom if states else 0),
        *(_state_band(layout, states, bottom, failed) if states else ()),
    ]
    return (
        f'<figure><svg class="names" width="{names_width:g}" height="{height:g}">{"".join(left)}</svg>\n'
        f'<svg width="{width:g}" height="{height:g}" role="img" aria-label="the history">\n'
        + "\n".join(drawing)
        + "\n</svg></figure>"
    )


def _axis(layout: Layout, bottom: float) -> Iterator[str]:
    """Some of the times, as far apart as can be read."""
    free = 0.0
    for x, time in layout.ticks:
        if x >= free:
            yield f'<line class="tick" x1="{x:g}" x2="{x:g}" y1="24" y2="{bottom:g}"/>'
            yield f'<text class="soft" x="{x - 3:g}" y="19">{_time(time)}</text>'
            free = x + _TICK


def _row_name(processes: tuple[int | str, ...]) -> str:
    return _short(_printable(", ".join(map(str, processes))), _LABEL_CHARS)


def _bars(layout: Layout) -> Iterator[str]:
    """The operations; where processes share a row, each one's name stands over its first."""
    named: set[int | str] = set()
    for bar in sorted(layout.bars, key=lambda bar: bar.left):
        process = bar.operation.process
        over = ""
        if len(layout.rows[bar.row]) > 1 and process not in named:
            named.add(process)
            y = _AXIS + _ROW * bar.row + _TOP - 4
            over = f'<text class="over" x="{bar.left + 1:g}" y="{y:g}">{_name(process)}</text>'
        yield _bar(bar, over)


def _bar(bar: Bar, over: str) -> str:
    operation = bar.operation
    classes = ["bar"]
    if bar.failed:
        classes.append("failed")
    if operation.is_open:
        classes.append("open")
    if not bar.number and not bar.failed:
        classes.append("idle")
    y = _AXIS + _ROW * bar.row + _TOP
    order = f", number {bar.number} of the order" if bar.number else ""
    mark = ' id="failed"' if bar.failed else ""
    text = ("… " if bar.cut else "") + _label(operation)
    return (
        f'<g class="{" ".join(classes)}"{mark}><title>{_text(_short(operation.text(), _TITLE_CHARS))}{order}</title>'
        f'<rect x="{bar.left:g}" y="{y:g}" width="{max(bar.right - bar.left, 1):g}" height="{_BAR:g}" rx="4"/>'
        f'<text x="{bar.left + _PADDING / 2:g}" y="{y + 14:g}">{_text(text)}</text>{over}</g>'
    )


def _path(points: tuple[Point, ...], bottom: float) -> Iterator[str]:
    """A line through the points in their order, and from each one down to the state that it leaves."""
    at = [(point, point.x, _AXIS + _ROW * point.row + _TOP + _BAR + 10) for point in points]
    if bottom:
        for _, x, y in at:
            yield f'<line class="drop" x1="{x:g}" x2="{x:g}" y1="{y:g}" y2="{bottom + 12:g}"/>'
    if at:
        steps = [f"M{at[0][1]:g} {at[0][2]:g}"]
        for (_, x, y), (_, next_x, next_y) in pairwise(at):
            middle = (x + next_x) / 2
            steps.append(f"C{middle:g} {y:g} {middle:g} {next_y:g} {next_x:g} {next_y:g}")
        yield f'<path class="path" d="{" ".join(steps)}"/>'
    for point, x, y in at:
        yield (
            f'<g class="point"><circle cx="{x:g}" cy="{y:g}" r="9"/>'
            f'<text x="{x:g}" y="{y + 3.2:g}">{point.number}</text></g>'
        )


def _state_band(layout: Layout, states: dict[int, _State], bottom: float, failed: list[Bar]) -> Iterator[str]:
    """The states that follow each other, each as long as it lasts."""
    starts = [(0.0, states[min(states)].text), *((point.x, states[point.number].text) for point in layout.points)]
    runs = [next(run) for _, run in groupby(starts, key=lambda start: start[1])]
    last = max([starts[-1][0] + _ROW, *(bar.right for bar in failed)])
    ends = [x for x, _ in runs[1:]] + [last]
    for (x, text), end in zip(runs, ends, strict=True):
        room = int((end - x - 8) / _CHAR)
        now = any(x < bar.right and bar.left < end for bar in failed)
        label = _text(_short(text, room)) if room > 1 else ""
        yield (
            f'<g class="state{" now" if now else ""}"><title>{_text(_short(text, _TITLE_CHARS))}</title>'
            f'<rect x="{x:g}" y="{bottom + 12:g}" width="{end - x:g}" height="24"/>'
            f'<text x="{x + 5:g}" y="{bottom + 28:g}">{label}</text></g>'
        )


def _legend(verdict: Verdict) -> str:
    def bar(classes: str) -> str:
        rect = '<rect x="1" y="1" width="44" height="14" rx="4"/>'
        return f'<svg width="46" height="16"><g class="bar {classes}">{rect}</g></svg>'

    circle = '<circle cx="10" cy="10" r="9"/><text x="10" y="13.2">7</text>'
    point = f'<svg width="20" height="20"><g class="point">{circle}</g></svg>'
    entries = [
        (bar(""), "an operation, from its call to its answer"),
        (point, "where it takes effect: the order found, as far as it goes"),
        (bar("open"), "no answer, or outcome unknown"),
        (bar("idle"), "not in the order found"),
    ]
    if verdict.operation is not None:
        entries.append((bar("failed"), "the first one that no order has a place for"))
    items = "".join(f"<li>{sample}{_text(text)}</li>" for sample, text in entries)
    return f'<ul class="legend">{items}</ul>'


def _order(verdict: Verdict, layout: Layout, states: dict[int, _State]) -> str:
    """The order that is drawn, as a list: for those who search in it, or who can't see the picture."""
    if not layout.points:
        return ""
    first, last = layout.points[0].number, layout.points[-1].number
    items = []
    for number in range(first, last + 1):
        state = f" ⇒ {_short(states[number].text, _VALUE_CHARS)}" if states else ""
        items.append(f"<li>{_text(_short(verdict.linearized[number - 1].text(), _TITLE_CHARS) + state)}</li>")
    summary = f"The order found, operations {first:,} to {last:,} of {len(verdict.linearized):,}"
    return f'<details><summary>{summary}</summary><ol start="{first}">{"".join(items)}</ol></details>'
