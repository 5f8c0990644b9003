"""The record decorator: plain slotted dataclasses, frozen for the type checker and under ``python -X dev``.

Building a frozen, slotted dataclass costs about three times a slotted one, and machines build many records for
each message. So records are really frozen only in development mode; the type checker holds the rule always.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")

#: Records raise on assignment in this process (``python -X dev``).
FROZEN: bool = sys.flags.dev_mode


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T], /) -> type[T]:
    """Make ``cls`` a slotted dataclass that is frozen for the type checker and in development mode.

    Zero-argument ``super()`` does not work in its methods, because ``slots=True`` makes a new class.
    """
    return dataclass(slots=True, frozen=FROZEN, unsafe_hash=True)(cls)
