"""The search of the explorer: see `distkit._fast.pure.explore`, the specification of this kernel."""

from collections.abc import Iterable, Sequence
from typing import Final, Protocol, final

PENDING: Final = 0
COMPLETE: Final = 1
CAPPED: Final = 2
BROKEN: Final = 3
NUMBER_MAX: Final = 0x3FFFFFE
NOWHERE: Final = 0x3FFFFFF
WIDTH_MAX: Final = 32
ORDERS_MAX: Final = 720

class _Space(Protocol):
    def alone(self, place: int, number: int) -> Iterable[tuple[int, int]]: ...
    def together(self, place: int, number: int, other: int, source: int) -> Iterable[tuple[int, int]]: ...
    def view(self, place: int, number: int) -> int: ...
    def judge(self, views: tuple[int, ...]) -> None: ...
    def renamed(self, place: int, number: int, order: int) -> int: ...

@final
class Explorer:
    def __init__(
        self,
        space: _Space,
        first: Sequence[int],
        allowed: bytes,
        low: int = 0,
        high: int = 0,
        orders: Sequence[Sequence[int]] = (),
    ) -> None: ...
    @property
    def at(self) -> int: ...
    @property
    def depth(self) -> int: ...
    @property
    def count(self) -> int: ...
    def state(self, number: int) -> tuple[int, ...]: ...
    def parent(self, number: int) -> int: ...
    def run(self, states_max: int, looks: int) -> int: ...
