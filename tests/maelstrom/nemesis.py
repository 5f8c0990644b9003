"""What goes wrong during a run: one fault at a time, drawn from the seed, each begun and ended."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from random import Random

import trio
from children import PATIENCE, Child
from routing import PARTITIONS, Router, partition

FAULTS = ("kill", "kill-all", "pause", "partition", "wipe")


class Nemesis:
    """Does the faults of `kinds` to the nodes; `tell(text)` says what. `run` leaves everything healed."""

    def __init__(
        self,
        kinds: tuple[str, ...],
        interval: float,
        random: Random,
        nodes: Mapping[str, Child],
        router: Router,
        nursery: trio.Nursery,
        tell: Callable[[str], None],
        faults: list[str],
    ) -> None:
        unknown = set(kinds) - set(FAULTS)
        if unknown:
            raise ValueError(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
        self._kinds = kinds
        self._interval = interval
        self._random = random
        self._nodes = dict(nodes)
        self._router = router
        self._nursery = nursery
        self._tell = tell
        self._faults = faults

    async def run(self, seconds: float) -> None:
        """Faults for about so long, each with a pause before it, and each kind once before any comes again."""
        end = trio.current_time() + seconds
        kinds = list(self._kinds)
        while kinds and (trio.current_time() < end or len(kinds) < len(self._kinds)):
            await self._pause()
            await self._do(kinds.pop(self._random.randrange(len(kinds))))
            kinds = kinds or list(self._kinds)

    async def _pause(self) -> None:
        await trio.sleep((0.5 + self._random.random()) * self._interval)

    async def _do(self, kind: str) -> None:
        names = self._random.sample(sorted(self._nodes), len(self._nodes))
        if kind == "partition":
            await self._cut(self._random.choice(PARTITIONS))
        elif kind == "pause":
            await self._stop(names[: self._random.randint(1, max(1, len(names) - 1))])
        elif kind == "wipe" and len(names) > 1:
            await self._wipe(self._nodes[names[0]])
        elif kind in ("kill", "kill-all"):
            await self._kill(names if kind == "kill-all" else names[: self._random.randint(1, max(1, len(names) - 1))])

    async def _cut(self, kind: str) -> None:
        self._router.cuts = partition(kind, sorted(self._nodes), self._random)
        self._tell(f"partition {kind}: {', '.join(f'{a} to {b}' for a, b in sorted(self._router.cuts))} cut")
        await self._pause()
        self._router.cuts = frozenset()
        self._tell("healed")

    async def _kill(self, names: list[str]) -> None:
        self._tell(f"kill -9 {', '.join(names)}")
        for name in names:
            await self._nodes[name].kill()
        await self._pause()
        async with trio.open_nursery() as starting:
            for name in names:
                starting.start_soon(self._nodes[name].start, self._nursery)
        self._tell(f"{', '.join(names)} started again")

    async def _stop(self, names: list[str]) -> None:
        self._tell(f"SIGSTOP {', '.join(names)}")
        for name in names:
            self._nodes[name].stop()
        await self._pause()
        for name in names:
            self._nodes[name].go_on()
        self._tell(f"SIGCONT {', '.join(names)}")

    async def _wipe(self, node: Child) -> None:
        """A node that comes back without its disk must be refused, and end; then it gets its disk back."""
        self._tell(f"{node.name} loses its disk")
        aside = node.data.with_name(f"{node.name}.aside")
        await node.kill()
        node.data.rename(aside)
        said = len(node.log.read_bytes())
        await node.start(self._nursery, must_end=True)
        with trio.move_on_after(PATIENCE):
            await node.ended.wait()
        if not node.ended.is_set() or b"new data directory" not in node.log.read_bytes()[said:]:
            self._faults.append(f"{node.name} came back with an empty disk and was not refused")
        await node.kill()
        shutil.rmtree(node.data)
        aside.rename(node.data)
        await node.start(self._nursery)
        self._tell(f"{node.name} was refused, and has its disk again")
