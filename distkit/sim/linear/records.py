"""What clients did, and what the checker says about it."""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import Any, Literal

from distkit.core.records import record

#: Of a longest linearization, the text for people shows this many operations at its end.
SHOWN = 10


@record
class Operation:
    """One operation of one client. What definitely did not happen is no operation: leave it out of a history.

    Times are numbers of one clock; two events at one time are concurrent. Inputs, outputs and keys are hashable plain
    values, compared with ``==``. ``kind`` is a word of the model: see `distkit.sim.linear.models`.
    """

    process: int | str
    kind: str
    input: Any
    output: Any  # what was answered; None if that is unknown
    called: float
    returned: (
        float  # inf: never answered, or the outcome is unknown: it takes effect at any time after `called`, or never
    )
    key: Any = None  # operations of different keys are independent

    @property
    def is_open(self) -> bool:
        """Whether nothing is known about its outcome."""
        return self.returned == inf

    def text(self) -> str:
        """One line for people."""
        given = "" if self.input is None else f" {self.input!r}"
        if self.is_open:
            return f"process {self.process}: {self.kind}{given}, called {round(self.called, 6)}, outcome unknown"
        answer = "" if self.output is None and self.input is not None else f" -> {self.output!r}"
        times = f"called {round(self.called, 6)}, answered {round(self.returned, 6)}"
        return f"process {self.process}: {self.kind}{given}{answer}, {times}"


class Result(Enum):
    """How a check ended. UNKNOWN is never a pass."""

    OK = "ok"
    ILLEGAL = "illegal"
    UNKNOWN = "unknown"


@record
class Verdict:
    """What was found.

    ``operation`` (ILLEGAL only) is the first operation, in the order of answers, up to which no order explains the
    history of its key: everything answered before it can be linearized, it can't be in addition. ``linearized`` is
    the longest linearization found of that key, or of an undecided one as far as the search came; of a history
    that is OK and has one key it is a whole one, a witness.
    """

    result: Result
    key: Any  # of the first illegal or undecided key; None if OK
    operation: Operation | None
    linearized: tuple[Operation, ...]
    history: tuple[Operation, ...]  # the operations of that key, by time of call; of the only key, if OK
    steps: int  # of the whole search: operations tried and taken back
    limit: Literal["", "steps", "memory"] = ""  # UNKNOWN only: which one was reached

    def text(self) -> str:
        """A few lines for people."""
        key = "" if self.key is None else f"key {self.key!r}: "
        if self.result is Result.OK:
            return f"linearizable ({self.steps:,} steps)"
        if self.result is Result.UNKNOWN:
            return (
                f"undecided, which is no pass: {key}{len(self.history):,} operations, and the limit of {self.limit} is "
                f"reached after {self.steps:,} steps; allow more, or check a shorter history"
            )
        assert self.operation is not None
        lines = [
            f"not linearizable: {key}no order has a place for",
            f"    {self.operation.text()}",
            f"after the longest order found, {len(self.linearized):,} of {len(self.history):,} operations:",
            *(["    ..."] if len(self.linearized) > SHOWN else []),
            *(f"    {operation.text()}" for operation in self.linearized[-SHOWN:]),
        ]
        return "\n".join(lines)
