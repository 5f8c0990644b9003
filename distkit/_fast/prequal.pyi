"""Prequal: see `distkit._fast.pure.prequal`, the specification of this kernel."""

from typing import Final, final

from distkit._fast.table import Table, View

POOL_MAX: Final = 64
RATE_MAX: Final = 16.0
RECENT: Final = 128
PENDING_MAX: Final = 64

@final
class Prequal(View):
    def __init__(
        self,
        table: Table,
        probes: float = 3.0,
        removals: float = 1.0,
        pool: int = 16,
        pool_min: int = 2,
        age: float = 1.0,
        quantile: float = 0.84,
        delta: float = 1.0,
    ) -> None: ...
    @property
    def pooled(self) -> int: ...
    @property
    def pending(self) -> int: ...
    def take_probes(self) -> list[int]: ...
    def probed(self, handle: int, in_flight: int, latency: float) -> bool: ...
