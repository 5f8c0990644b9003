"""Policies that go by hashes: see `distkit._fast.pure.hashed`, the specification of this kernel."""

from collections.abc import Callable, Mapping
from typing import Final, final

from distkit._fast.hashing import Order
from distkit._fast.table import Table, View

REBUILD: Final = 0
SET_WEIGHT: Final = 1
BUCKETS: Final = 2

@final
class Hashed(View):
    def __init__(
        self,
        table: Table,
        build: Callable[[list[bytes], list[float]], Order],
        keys: Mapping[int, bytes],
        by_key: bool = True,
        weighted: bool = True,
        factor: int = 0,
        rule: int = 0,
        changes: int = 0,
    ) -> None: ...
    @property
    def rebuilt(self) -> int: ...
