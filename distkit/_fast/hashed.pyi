"""Policies that go by hashes: see `distkit._fast.pure.hashed`, the specification of this kernel."""

from collections.abc import Callable, Mapping
from typing import final

from distkit._fast.hashing import Order
from distkit._fast.table import Table, View

@final
class Hashed(View):
    def __init__(
        self,
        table: Table,
        build: Callable[[list[bytes], list[float]], Order],
        keys: Mapping[int, bytes],
        by_key: bool = True,
        weighted: bool = True,
        bound: float = 0.0,
    ) -> None: ...
    @property
    def rebuilt(self) -> int: ...
