"""The policies that take turns: see `distkit._fast.pure.rotations`, the specification of this kernel."""

from typing import Final, final

from distkit._fast.table import Heap, Table, View

STRIDE_MAX: Final = 65535
PHASES: Final = 0x10000

@final
class RoundRobin(View):
    def __init__(self, table: Table, random_phase: bool = True) -> None: ...

@final
class Smooth(View):
    def __init__(self, table: Table, max_fails: int = 1) -> None: ...

@final
class Stride(View):
    def __init__(self, table: Table, clamp: bool = True, random_phase: bool = True) -> None: ...

@final
class EarliestDeadline(Heap):
    def __init__(self, table: Table, bias: float = 0.0, random_phase: bool = True) -> None: ...

@final
class FirstAvailable(Heap): ...
