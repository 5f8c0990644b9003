"""Numbers that callers give, checked: what every machine of this package does before it believes one."""

from __future__ import annotations

import math

from distkit.core import LocalError


def number(name: str, value: float, low: float = 0.0, high: float = math.inf) -> float:
    """`value` as a float from `low` to `high`, both allowed. LocalError unless it is a finite number within."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise LocalError(f"{name} must be a number, not {value!r}")
    if not low <= value <= high or value in (math.inf, -math.inf):
        raise LocalError(f"{name} must be a finite number from {low:g} to {high:g}, not {value!r}")
    return float(value)


def whole(name: str, value: int, low: int = 0, high: int = (1 << 53) - 1) -> int:
    """`value` if it is an integer from `low` to `high`, both allowed. LocalError if it is not."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise LocalError(f"{name} must be an integer, not {value!r}")
    if not low <= value <= high:
        raise LocalError(f"{name} must be from {low} to {high}, not {value!r}")
    return value


def instant(now: float, latest: float) -> float:
    """The time to count with: `now`, or the `latest` one seen if time went back. LocalError unless it is finite."""
    if not -math.inf < now < math.inf:
        raise LocalError(f"now must be a finite number of seconds, not {now!r}")
    return now if now > latest else latest
