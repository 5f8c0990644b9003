"""The search of the linearizability checker: see `distkit._fast.pure.linear`, the specification of this kernel."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final, final

READ: Final = 0
UNLESS: Final = 1
WRITE: Final = 2
CAS: Final = 3
ADD: Final = 4
PUSH: Final = 5
POP: Final = 6
TAKE: Final = 7
LEGAL: Final = 1
PENDING: Final = 0
ILLEGAL: Final = -1
FULL: Final = -2
MEMORY_FACTOR: int
NUMBER_MAX: Final = 0x3FFFFFFFFFFFFFFF
VALUE_MAX: Final = 0x7FFFFFFF
OPERATIONS_MAX: Final = 0x7FFFFFFF

@final
class Search:
    def __init__(
        self,
        order: Sequence[int],
        limits: Sequence[int],
        twins: Sequence[int],
        instructions: Iterable[Any],
        initial: Any = 0,
        sequences: Iterable[tuple[int, int]] = (),
        step: Callable[[Any, Any], Hashable | None] | None = None,
    ) -> None: ...
    @property
    def steps(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def trying(self) -> int: ...
    @property
    def blocking(self) -> int: ...
    @property
    def longest(self) -> list[int]: ...
    def run(self, steps_max: int, memory_bytes_max: int) -> int: ...
