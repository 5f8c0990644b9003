"""The table of endpoints: see `distkit._fast.pure.table`, the specification of this kernel."""

from typing import Final

from typing_extensions import disjoint_base

SLOTS_MAX: Final = 0x100000
REMOVED: Final = 0x10000

@disjoint_base
class Table:
    def __init__(self, seed: int) -> None: ...
    @property
    def count(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def now(self) -> float: ...
    @property
    def outstanding(self) -> int: ...

@disjoint_base
class View:
    def __init__(self, table: Table) -> None: ...

class Heap(View): ...
