"""Counting heads in one set of voters: see `distkit._fast.pure.quorum`, the specification of this kernel."""

from collections.abc import Sequence
from typing import Final

INFINITY: Final = 0x7FFFFFFFFFFFFFFF
WON: Final = 1
PENDING: Final = 0
LOST: Final = -1

def majority_index(acked: Sequence[int]) -> int: ...
def vote_result(yes: int, no: int, voters: int) -> int: ...
