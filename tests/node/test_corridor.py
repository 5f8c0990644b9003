"""A turn that fails is the end of the node: with it a write may be lost, so nothing more may be acknowledged."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import trio

from distkit.node.clock import SystemClock
from distkit.node.corridor import Corridor


class Core:
    """Fails in its first flush, and counts what it is told afterwards."""

    raft = SimpleNamespace(node=1)

    def __init__(self) -> None:
        self.told: list[int] = []

    def flush(self, now: float) -> None:
        raise ZeroDivisionError

    def persisted(self, now: float, token: int) -> None:
        self.told.append(token)

    def deadline(self) -> float:
        return float("inf")


class Transport:
    def flush(self) -> None:
        raise AssertionError("nothing may leave after a turn that failed")


def test_a_turn_that_fails_is_noted_and_nothing_is_acknowledged_after_it() -> None:
    async def main() -> None:
        core: Any = Core()
        transport: Any = Transport()
        corridor = Corridor(core, SystemClock(), transport, lambda role: None, lambda work: None)
        corridor.turn()
        assert corridor.failed.is_set()
        assert isinstance(corridor.failure, ZeroDivisionError)
        corridor.durable(1)
        corridor.turn()
        assert core.told == []

    trio.run(main)
