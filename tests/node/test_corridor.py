"""A turn that fails is the end of the node: with it a write may be lost, so nothing more may be acknowledged.
A turn in which the core has nothing to do costs nothing, but what a durable write let go leaves in it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

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


class PacedCore(Core):
    """Has one deadline, which a tick moves out of sight."""

    def __init__(self, due: float) -> None:
        super().__init__()
        self.due = due
        self.asked = 0
        self.ticks: list[float] = []

    def flush(self, now: float) -> None:
        self.touched = False

    def deadline(self) -> float:
        self.asked += 1
        return self.due

    def tick(self, now: float) -> None:
        self.ticks.append(now)
        self.due = float("inf")

    def wall(self, now: float, time_us: int) -> None:
        pass


class TrioClock(SystemClock):
    def now(self) -> float:
        return trio.current_time()


@pytest.mark.parametrize(("before", "after"), [(0.8, 0.3), (0.3, 0.8), (0.5, 0.0), (1e9, 0.5), (1e9, 1e8)])
def test_a_deadline_that_moves_ends_the_sleep_in_time_and_wakes_nobody_before(before: float, after: float) -> None:
    async def main() -> None:
        start = trio.current_time()
        core = PacedCore(start + before)
        wire: Any = SimpleNamespace(flush=lambda: None)
        corridor = Corridor(core, TrioClock(), wire, lambda role: None, lambda work: None)  # type: ignore[arg-type]
        corridor.use_log(SimpleNamespace())  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(corridor.pace)
            await trio.testing.wait_all_tasks_blocked()
            asked = core.asked
            core.due, core.touched = start + after, True
            corridor.turn()
            assert core.asked == asked + 1
            await trio.testing.wait_all_tasks_blocked(0.0001)
            assert core.asked == asked + 1 or after == 0.0
            await trio.sleep(2)
            assert core.ticks == ([pytest.approx(start + after)] if after < 2 else [])
            assert core.asked > asked + 1  # no sleep is longer than SLEEP_MAX, whatever the deadline
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.001))
