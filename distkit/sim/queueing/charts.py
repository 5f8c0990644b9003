"""Lines in a frame, as SVG: what the report of a comparison is drawn with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

#: Colours that most colour-blind people can tell apart (Okabe and Ito), on white and on black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d1f", "#7a5ea8", "#5b5b5b", "#b3446c")
_WIDTH, _HEIGHT = 720, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 28, 12, 40


def colour(place: int) -> str:
    """That of the policy in this place."""
    return COLOURS[place % len(COLOURS)]


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    ticks: Sequence[tuple[float, str]],
    x_name: str,
    y_name: str,
    format_y: Callable[[float], str],
    bands: Sequence[tuple[float, float]] = (),
) -> str:
    """A line for each name, over a logarithmic y axis. Points that are not finite or not above 0 leave a gap.

    `ticks` are places on the x axis with their labels; `bands` are stretches of it that are shaded.
    """
    points = [(x, y) for each in series.values() for x, y in each if math.isfinite(y) and y > 0]
    if not points:
        return "<p>Nothing was answered.</p>"
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    low, high = min(y for _, y in points) / 1.15, max(y for _, y in points) * 1.15

    def at_x(x: float) -> float:
        return _LEFT + (x - left) / ((right - left) or 1.0) * (_WIDTH - _LEFT - _RIGHT)

    def at_y(y: float) -> float:
        return _TOP + (1 - math.log(y / low) / math.log(high / low)) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(y_name)} by {escape(x_name)}">']
    for begin, end in bands:
        width = max(1.0, at_x(min(end, right)) - at_x(begin))
        parts.append(
            f'<rect class="band" x="{at_x(begin):.1f}" y="{_TOP}" width="{width:.1f}" '
            f'height="{_HEIGHT - _TOP - _BOTTOM}"/>'
        )
    for y in _rungs(low, high):
        parts.append(f'<path class="grid" d="M{_LEFT} {at_y(y):.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{at_y(y) + 4:.1f}" text-anchor="end">{escape(format_y(y))}</text>')
    for x, label in ticks:
        parts.append(
            f'<text x="{at_x(x):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{escape(label)}</text>'
        )
    parts.append(
        f'<text class="name" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 6}" text-anchor="end">{escape(x_name)}</text>'
    )
    for place, (name, values) in enumerate(series.items()):
        path = _path([(at_x(x), at_y(y)) if math.isfinite(y) and y > 0 else None for x, y in values])
        parts.append(f'<path class="line" stroke="{colour(place)}" d="{path}"><title>{escape(name)}</title></path>')
    return "".join([*parts, "</svg>"])


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    found, pen_is_up = [], True
    for point in points:
        if point is not None:
            found.append(f"{'M' if pen_is_up else 'L'}{point[0]:.1f} {point[1]:.1f}")
        pen_is_up = point is None
    return "".join(found)


def _rungs(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two numbers; powers alone if that is enough."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5)):
        found = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(found) >= 3:
            return found
    return found


def seconds(value: float) -> str:
    """A time for people: three digits and a unit."""
    if math.isnan(value):
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if abs(value) >= size or size == 1e-6:
            return f"{value / size:.3g} {unit}"
    raise AssertionError(value)
