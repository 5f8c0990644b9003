"""What a run of the simulator ends in when something is wrong."""

from __future__ import annotations

from typing import NoReturn

from distkit.core import DistkitError


class Broken(DistkitError):
    """An invariant does not hold. `rule` names it, the text says what was seen."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


def fail(rule: str, *explanation: object) -> NoReturn:
    """Raise Broken. Where checks are many, `if` before it costs less than `require`."""
    raise Broken(rule, " ".join(map(str, explanation)))


def require(holds: bool, rule: str, *explanation: object) -> None:
    """Raise Broken unless it holds."""
    if not holds:
        fail(rule, *explanation)
