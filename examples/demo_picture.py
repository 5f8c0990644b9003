"""A picture of a demo's run as SVG: latency and throughput over time, who led, and when a server was down."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from html import escape
from math import log10
from typing import Protocol

WIDTH, LEFT, RIGHT = 960, 70, 20
BUCKET = 0.25
COLOURS = {1: "#4477aa", 2: "#228833", 3: "#aa7733"}

_STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #333 }
  .title { font-size: 14px; font-weight: 600 }
  .grid { stroke: #888; stroke-opacity: 0.3; stroke-width: 1 }
  .p50 { stroke: #4477aa; fill: none; stroke-width: 1.6 }
  .p99 { stroke: #cc6677; fill: none; stroke-width: 1.6 }
  .rate { fill: #4477aa; fill-opacity: 0.6 }
  .mark { stroke: #cc3311; stroke-width: 1.2; stroke-dasharray: 4 3 }
  .event { fill: #cc3311 }
  .down { fill: #cc3311; fill-opacity: 0.25 }
  .lead { fill: #fff; font-weight: 600 }
  @media (prefers-color-scheme: dark) { text { fill: #ddd } .event { fill: #ff8866 } .lead { fill: #fff } }
"""


class Latencies(Protocol):
    """What the picture needs of a journal: (time of the answer, seconds it took) of each write."""

    latencies: list[tuple[float, float]]


@dataclass
class Run:
    """What happened, in seconds since the load began; 0 for what did not."""

    seconds: float
    killed_node: int = 0
    killed_at: float = 0.0
    restarted_at: float = 0.0
    recovered_at: float = 0.0
    seen: list[tuple[float, dict[int, dict[str, str]]]] = field(default_factory=list)

    def saw(self, now: float, infos: dict[int, dict[str, str]]) -> None:
        """The servers said this of themselves."""
        self.seen.append((now, infos))


def draw(run: Run, journal: Latencies) -> str:
    """The whole picture."""
    buckets = _buckets(run.seconds, journal.latencies)
    parts = [
        _panel(30, 150, "latency of writes, ms (log scale)", _latency(run.seconds, buckets)),
        _panel(220, 90, "acknowledged writes a second", _throughput(run.seconds, buckets)),
        _panel(350, 90, "who leads, in which term", _leadership(run)),
        _events(run),
        _time_axis(run.seconds, 455),
    ]
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 490" width="{WIDTH}" height="490" role="img">\n'
        "<title>Latency, throughput and leadership while a leader is killed</title>\n"
        f"<style>{_STYLE}</style>\n{body}\n</svg>\n"
    )


def _x(seconds: float, total: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * min(max(seconds / total, 0.0), 1.0)


def _buckets(seconds: float, latencies: Iterable[tuple[float, float]]) -> list[list[float]]:
    buckets: list[list[float]] = [[] for _ in range(int(seconds / BUCKET) + 1)]
    for returned, took in latencies:
        if 0 <= returned < len(buckets) * BUCKET:
            buckets[int(returned / BUCKET)].append(took)
    for bucket in buckets:
        bucket.sort()
    return buckets


def _panel(top: int, height: int, title: str, content: Callable[[int, int], str]) -> str:
    return f'<text class="title" x="{LEFT}" y="{top - 8}">{escape(title)}</text>\n{content(top, height)}'


def _latency(seconds: float, buckets: list[list[float]]) -> Callable[[int, int], str]:
    def content(top: int, height: int) -> str:
        lowest, decades = -1.0, 5.0  # 0.1 ms to 10 s

        def y(took: float) -> float:
            return top + height * (
                1 - (min(max(log10(max(took * 1e3, 1e-9)), lowest), lowest + decades) - lowest) / decades
            )

        lines = [
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(ms / 1e3):.1f}" y2="{y(ms / 1e3):.1f}"/>'
            f'<text x="{LEFT - 8}" y="{y(ms / 1e3) + 4:.1f}" text-anchor="end">{ms:g}</text>'
            for ms in (0.1, 1, 10, 100, 1000, 10000)
        ]
        for name, part in (("p50", 0.5), ("p99", 0.99)):
            points = [
                f"{_x((number + 0.5) * BUCKET, seconds):.1f},{y(bucket[int(len(bucket) * part)]):.1f}"
                for number, bucket in enumerate(buckets)
                if bucket
            ]
            lines.append(f'<polyline class="{name}" points="{" ".join(points)}"/>')
        right = WIDTH - RIGHT
        lines.append(
            f'<line class="p50" x1="{right - 150}" x2="{right - 125}" y1="{top - 12}" y2="{top - 12}"/>'
            f'<text x="{right - 120}" y="{top - 8}">p50</text>'
            f'<line class="p99" x1="{right - 70}" x2="{right - 45}" y1="{top - 12}" y2="{top - 12}"/>'
            f'<text x="{right - 40}" y="{top - 8}">p99</text>'
        )
        return "\n".join(lines)

    return content


def _throughput(seconds: float, buckets: list[list[float]]) -> Callable[[int, int], str]:
    def content(top: int, height: int) -> str:
        rates = [len(bucket) / BUCKET for bucket in buckets]
        most = _round_up(max(rates, default=1.0))
        bars = []
        for number, rate in enumerate(rates):
            left, right = _x(number * BUCKET, seconds), _x((number + 1) * BUCKET, seconds)
            tall = height * rate / most
            bars.append(
                f'<rect class="rate" x="{left:.1f}" y="{top + height - tall:.1f}" width="{max(right - left, 0.1):.1f}" '
                f'height="{tall:.1f}"/>'
            )
        scale = [
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{top + height * (1 - part):.1f}" '
            f'y2="{top + height * (1 - part):.1f}"/>'
            f'<text x="{LEFT - 8}" y="{top + height * (1 - part) + 4:.1f}" text-anchor="end">{most * part:,.0f}</text>'
            for part in (0, 0.5, 1)
        ]
        return "\n".join([*scale, *bars])

    return content


def _round_up(value: float) -> float:
    step = 10 ** max(len(str(int(value))) - 1, 0)
    return float(-(-int(value + 1) // step) * step)


def _leadership(run: Run) -> Callable[[int, int], str]:
    def content(top: int, height: int) -> str:
        rows = []
        tall = height / 3
        for row, node in enumerate((1, 2, 3)):
            y = top + row * tall
            rows.append(f'<text x="{LEFT - 8}" y="{y + tall / 2 + 4:.1f}" text-anchor="end">node {node}</text>')
            rows.append(
                f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y + tall:.1f}" y2="{y + tall:.1f}"/>'
            )
            for begin, end, state in _spans(run, node):
                left, wide = _x(begin, run.seconds), _x(end, run.seconds) - _x(begin, run.seconds)
                box = f'x="{left:.1f}" y="{y + 4:.1f}" width="{max(wide, 1):.1f}" height="{tall - 8:.1f}"'
                if state == "down":
                    rows.append(f'<rect class="down" {box}/>')
                    rows.append(f'<text class="event" x="{left + 6:.1f}" y="{y + tall / 2 + 4:.1f}">down</text>')
                elif state:
                    rows.append(f'<rect fill="{COLOURS[node]}" rx="3" {box}/>')
                    rows.append(f'<text class="lead" x="{left + 6:.1f}" y="{y + tall / 2 + 4:.1f}">term {state}</text>')
        return "\n".join(rows)

    return content


def _spans(run: Run, node: int) -> list[tuple[float, float, str]]:
    """(from, to, state) of a node: its term while it leads, "down" while it does not answer, "" otherwise."""
    spans: list[tuple[float, float, str]] = []
    for moment, infos in run.seen:
        info = infos.get(node) or {}
        state = (info["term"] if info.get("raft_role") == "leader" else "") if info else "down"
        if spans and spans[-1][2] == state:
            spans[-1] = (spans[-1][0], moment, state)
        else:
            begin = spans[-1][1] if spans else 0.0
            if state == "down" and node == run.killed_node and begin < run.killed_at <= moment:
                begin = run.killed_at  # known better than by the looks before and after it
                spans[-1] = (spans[-1][0], begin, spans[-1][2])
            spans.append((begin, moment, state))
    if spans:
        spans[-1] = (spans[-1][0], run.seconds, spans[-1][2])
    return spans


def _events(run: Run) -> str:
    parts = []
    if run.killed_at:
        gap = f", next write after {(run.recovered_at - run.killed_at) * 1e3:.0f} ms" if run.recovered_at else ""
        parts.append(_event(run.killed_at, run.seconds, f"kill -9 of node {run.killed_node}{gap}", "end"))
    if run.restarted_at:
        parts.append(_event(run.restarted_at, run.seconds, "started again", "start"))
    return "\n".join(parts)


def _event(moment: float, total: float, text: str, anchor: str) -> str:
    """A line at a moment, with its text left ("end") or right ("start") of it."""
    x = _x(moment, total)
    beside = x - 6 if anchor == "end" else x + 6
    return (
        f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="30" y2="440"/>'
        f'<text class="event" x="{beside:.1f}" y="45" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _time_axis(seconds: float, y: int) -> str:
    step = next(step for step in (1, 2, 5, 10, 30, 60, 300, 600) if seconds / step <= 12)
    marks = [
        f'<text x="{_x(moment, seconds):.1f}" y="{y}" text-anchor="middle">{moment}</text>'
        for moment in range(0, int(seconds) + 1, step)
    ]
    return "\n".join(
        [*marks, f'<text x="{WIDTH - RIGHT}" y="{y + 22}" text-anchor="end">seconds since the load began</text>']
    )
