"""Requests, servers with queues, and clients that choose: see `distkit._fast.pure.queueing`, the specification."""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, final

from distkit._fast.picker import Picker

SLOW: Final = 0
FAIL: Final = 1
HANG: Final = 2
PAUSE: Final = 3
CAPACITY: Final = 4
ATTEMPTS_MAX: Final = 0x10000000

class _Prober(Protocol):
    def wanted(self, client: int, now: float) -> Sequence[tuple[int, int]]: ...
    def answered(self, client: int, probe: int, in_flight: int, latency: float, now: float) -> None: ...

@final
class Queueing:
    def __init__(
        self,
        pickers: Sequence[Picker],
        servers: Sequence[tuple[int, bool]],
        *,
        round_trip: float = ...,
        timeout: float = ...,
        attempts: int = ...,
        users: int = ...,
        turn: Callable[[float], Any] | None = ...,
        turn_interval: float = ...,
        prober: _Prober | None = ...,
        probe_time: float = ...,
    ) -> None: ...
    @property
    def events(self) -> int: ...
    @property
    def now(self) -> float: ...
    def run(
        self,
        times: Any,
        demands: Any,
        chances: Any,
        keys: Any,
        clients: Any,
        changes: Sequence[tuple[float, int, int, float]],
        latencies: Any,
        served_by: Any,
        tries: Any,
    ) -> None: ...
