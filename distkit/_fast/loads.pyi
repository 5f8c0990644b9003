"""Policies that draw or go by loads: see `distkit._fast.pure.loads`, the specification of this kernel."""

from typing import Final, final

from typing_extensions import disjoint_base

from distkit._fast.table import Heap, Table, View

CHOICES_MAX: Final = 10
IN_FLIGHT: Final = 0
NEXT_IN_FLIGHT: Final = 1
NEVER_QUEUE: Final = 2
HAPROXY: Final = 3
PEAK_EWMA: Final = 4
ENVOY_EWMA: Final = 5
ROTATE: Final = 0
RANDOM: Final = 1
PENALTY: Final[float]
ENVOY_PENALTY: Final = 1e6
DRAWS_MAX: Final = 8

@final
class Uniform(View): ...

@disjoint_base
class Weighted(View): ...

@final
class Choices(Weighted):
    def __init__(
        self,
        table: Table,
        choices: int = 2,
        replacement: bool = True,
        weighted: bool = False,
        cost: int = 0,
        tau: float = 10.0,
        default_rtt: float = 0.0,
        failure_penalty: float = 1.0,
    ) -> None: ...

@final
class LeastConnections(Heap):
    def __init__(self, table: Table, cost: int = 0, ties: int = 0) -> None: ...

@final
class LeastTime(View):
    def __init__(self, table: Table, fail_timeout: float = 10.0) -> None: ...
