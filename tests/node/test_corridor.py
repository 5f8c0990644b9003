"""A turn that fails is the end of the node: with it a write may be lost, so nothing more may be acknowledged.
A turn in which the core has nothing to do costs nothing, but what a durable write let go leaves in it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import trio

from distkit.node.clock import SystemClock
from distkit.node.corridor import Corridor


class Core:
    """Fails in its first flush, and counts what it is told afterwards."""

    raft = SimpleNamespace(node=1)

    touched = True

    def __init__(self) -> None:
        self.told: list[int] = []

    def flush(self, now: float) -> None:
        raise ZeroDivisionError

    def persisted(self, now: float, token: int) -> None:
        self.told.append(token)

    def deadline(self) -> float:
        return float("inf")


class IdleCore(Core):
    """Has nothing to do, and says when it is asked all the same."""

    touched = False

    def flush(self, now: float) -> None:
        raise AssertionError("a core that has nothing to do was flushed")

    def deadline(self) -> float:
        raise AssertionError("no input came, so the deadline is where it was")


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


def test_a_turn_without_work_asks_the_core_for_nothing_and_sends_what_a_durable_write_let_go() -> None:
    class Wire:
        flushes = 0

        def flush(self) -> None:
            self.flushes += 1

    async def main() -> None:
        core: Any = IdleCore()
        wire: Any = Wire()
        corridor = Corridor(core, SystemClock(), wire, lambda role: None, lambda work: None)
        ended: list[None] = []
        corridor.after_turn = lambda: ended.append(None)
        corridor.turn()
        corridor.durable(1)
        assert corridor.failure is None
        assert core.told == [1]
        assert wire.flushes == 2
        assert ended == []

    trio.run(main)
