"""The numbers of SWIM and Lifeguard, as memberlist computes them. `n` is the number of live members, this one included.

Logarithms whose ceiling is taken are counted in integers, so that no C library decides.
"""

from __future__ import annotations

import math

#: Groups up to this size compare tables at the normal pace.
_SYNC_THRESHOLD = 32


def retransmit_limit(mult: int, n: int) -> int:
    """How often one node sends a claim: mult * ceil(log10(n + 1))."""
    return mult * len(str(n))


def sync_factor(n: int) -> int:
    """How much longer the interval between comparisons is: 1 up to 32 members, then ceil(log2 n - log2 32) + 1."""
    return 1 if n <= _SYNC_THRESHOLD else ((n - 1) // _SYNC_THRESHOLD).bit_length() + 1


def suspicion_min(mult: int, n: int, interval: float) -> float:
    """The shortest suspicion: mult * max(1, log10 n), three decimals of it, * interval."""
    return mult * int(1000 * max(1.0, math.log10(max(1, n)))) * interval / 1000


def confirmations_wanted(mult: int, n: int) -> int:
    """How many others must confirm a suspicion for its shortest duration; 0 where there are too few others."""
    wanted = mult - 2
    return 0 if n - 2 < wanted else wanted


def suspicion_timeout(confirmations: int, wanted: int, shortest: float, longest: float) -> float:
    """How long a suspicion lasts in all, with so many confirmations (at most `wanted`), in whole milliseconds."""
    if wanted < 1:
        return shortest
    part = math.log(confirmations + 1) / math.log(wanted + 1)
    return max(shortest, math.floor(1000 * (longest - part * (longest - shortest))) / 1000)


def expected_first_probe(n: int) -> float:
    """Mean number of periods until anybody probes a certain member, for random choice: 1 / (1 - (1 - 1/n)^n)."""
    return 1 / (1 - (1 - 1 / n) ** n)
