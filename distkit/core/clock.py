"""Where `now` comes from. Machines never see a clock: they are told the time as an argument."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Time for a node.

    `now()` is float seconds that never go back and that count while the host is suspended (CLOCK_BOOTTIME); its
    epoch is arbitrary and differs between boots, so it is never stored or sent. `time_us()` is the wall clock in
    microseconds since 1970 and may jump. `counts_suspend` tells whether lease reads may be served.
    """

    counts_suspend: bool

    def now(self) -> float:
        """Seconds, monotonic, suspend included."""
        ...

    def time_us(self) -> int:
        """Wall clock, microseconds since the Unix epoch."""
        ...
