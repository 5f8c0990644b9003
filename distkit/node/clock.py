"""The clock of a real node."""

from __future__ import annotations

import sys
import time


class SystemClock:
    """CLOCK_BOOTTIME, which counts suspend. On macOS the monotonic clock does; elsewhere nothing is known to."""

    def __init__(self) -> None:
        boottime: int | None = getattr(time, "CLOCK_BOOTTIME", None)
        self._clock = time.CLOCK_MONOTONIC if boottime is None and hasattr(time, "CLOCK_MONOTONIC") else boottime
        self.counts_suspend = boottime is not None or sys.platform == "darwin"

    def now(self) -> float:
        """Seconds, monotonic, suspend included where the platform can."""
        return time.monotonic() if self._clock is None else time.clock_gettime(self._clock)

    def time_us(self) -> int:
        """Wall clock, microseconds since the Unix epoch."""
        return time.time_ns() // 1000
