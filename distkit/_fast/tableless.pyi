"""Consistent hashing without a table: see `distkit._fast.pure.tableless`, the specification of this kernel."""

from collections.abc import Iterable
from typing import Final, final

from distkit._fast.hashing import Order

PROBES_MAX: Final = 0x400

def jump(hashed: int, count: int) -> int: ...

@final
class Rendezvous(Order):
    def __init__(self, keys: Iterable[bytes], weights: Iterable[float] | None = None) -> None: ...
    def set_weight(self, position: int, weight: float) -> None: ...

@final
class Jump(Order):
    def __init__(self, count: int) -> None: ...

@final
class Anchor(Order):
    def __init__(self, capacity: int, count: int) -> None: ...
    def remove(self, bucket: int) -> None: ...
    def add(self) -> int: ...

@final
class MultiProbe(Order):
    @property
    def probes(self) -> int: ...
    def __init__(self, keys: Iterable[bytes], probes: int = 21) -> None: ...
