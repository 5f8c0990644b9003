"""The lin-kv workload as Maelstrom generates it, and what its clients saw.

Keys 0, 1, 2 ... Each has a group of 2n workers for n nodes: n of them only read, n write and compare-and-set (two for
each write), values 0 to 4. Worker i talks to node i mod n, one operation at a time. A worker whose operation may or may
not have taken effect goes on as another process, and a key retires when it has seen enough processes or operations.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import trio

from distkit.sim.linear import Operation

#: A key retires after so many processes (Maelstrom's number) and operations (which bounds the checker's work).
PROCESSES_PER_KEY = 20
OPERATIONS_PER_KEY = 400
VALUES = 5
#: Errors that say that it was not done and will not be.
DEFINITE = frozenset((1, 10, 11, 12, 14, 20, 21, 22, 30))
KINDS = ("read", "write", "cas")

Body = dict[str, Any]


@dataclass
class Answer:
    """How a request ended: `ok`, `fail` (definitely not done) or `info`. `code`: the error's, -1 without an answer."""

    outcome: str
    body: Body
    code: int = 0


def _seen(kind: str, answer: Answer) -> object:
    """What an answer says about the key. Of a compare-and-set that failed: what it did not hold."""
    if kind == "read":
        return answer.body["value"]
    return answer.outcome == "ok" if kind == "cas" else None


class Key:
    """The key that a group of workers is at."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.processes: set[int] = set()
        self.operations = 0

    def admits(self, process: int) -> bool:
        """Whether the process may do one more operation here; counts it."""
        known = process in self.processes
        if self.operations >= OPERATIONS_PER_KEY or (not known and len(self.processes) >= PROCESSES_PER_KEY):
            return False
        self.processes.add(process)
        self.operations += 1
        return True


class Clients:
    """All workers. `give(name, line)` reaches a node, `receive` takes answers; `faults` gets what no node must do."""

    def __init__(
        self,
        names: Sequence[str],
        concurrency: int,
        rate: float,
        timeout: float,
        seed: int,
        give: Callable[[str, bytes], None],
        faults: list[str],
    ) -> None:
        if concurrency % (2 * len(names)) or concurrency < 1:
            raise ValueError(f"concurrency must be a multiple of {2 * len(names)}, not {concurrency}")
        self.history: list[Operation] = []
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.codes: Counter[int] = Counter()
        self.latencies: list[float] = []
        self._names = list(names)
        self._concurrency = concurrency
        self._pause = 2 * concurrency / rate
        self._timeout = timeout
        self._seed = seed
        self._give = give
        self._faults = faults
        self._keys = itertools.count()
        self._groups = [Key(next(self._keys)) for _ in range(concurrency // (2 * len(names)))]
        self._ids = itertools.count(1)
        self._waiting: dict[tuple[str, int], tuple[trio.Event, list[Body]]] = {}

    async def run(self, seconds: float) -> None:
        """Work for so long; returns when the last operation has ended."""
        end = trio.current_time() + seconds
        async with trio.open_nursery() as nursery:
            for worker in range(self._concurrency):
                nursery.start_soon(self._work, worker, end)

    async def read_everything(self, patience: float) -> None:
        """On healed nodes: each must answer a write, and reads of all keys, within `patience` seconds."""
        async with trio.open_nursery() as nursery:
            for place, name in enumerate(self._names):
                nursery.start_soon(self._read_from, name, -1 - place, patience)

    def receive(self, client: str, body: Body) -> None:
        """A node has answered; late answers are dropped."""
        number = body.get("in_reply_to")
        waiting = self._waiting.pop((client, number), None) if type(number) is int else None
        if waiting is not None:
            waiting[1].append(body)
            waiting[0].set()

    async def _work(self, worker: int, end: float) -> None:
        random = Random(f"{self._seed}/client/{worker}")
        place = worker % (2 * len(self._names))
        group = worker // (2 * len(self._names))
        process = worker
        while True:
            await trio.sleep(random.random() * self._pause)
            if trio.current_time() >= end:
                return
            kind = "read" if place < len(self._names) else random.choice(("write", "cas", "cas"))
            if not self._groups[group].admits(process):
                self._groups[group] = Key(next(self._keys))
                self._groups[group].admits(process)
            key = self._groups[group].number
            answer = await self._operate(
                f"c{worker + 1}", self._names[place % len(self._names)], process, kind, key, random
            )
            if answer.outcome == "info":
                process += self._concurrency

    async def _operate(self, client: str, name: str, process: int, kind: str, key: int, random: Random) -> Answer:
        """One operation, noted in the history unless it was definitely not done."""
        body: Body = {"type": kind, "key": key}
        given: Any = None
        if kind == "write":
            given = body["value"] = random.randrange(VALUES)
        elif kind == "cas":
            given = (random.randrange(VALUES), random.randrange(VALUES))
            body["from"], body["to"] = given
        called = trio.current_time()
        answer = await self._ask(client, name, body)
        returned = trio.current_time()
        if kind == "read" and answer.code == 20:
            answer = Answer("ok", {"type": "read_ok", "value": None})  # a key that is missing holds nothing
        elif kind == "read" and answer.outcome == "info":
            answer.outcome = "fail"
        self.outcomes[kind, answer.outcome] += 1
        self.codes[answer.code] += 1
        if answer.outcome == "ok":
            self.latencies.append(returned - called)
        if answer.outcome == "info":
            self.history.append(Operation(process, kind, given, None, called, math.inf, key))
        elif answer.outcome == "ok" or answer.code in (20, 22):
            self.history.append(Operation(process, kind, given, _seen(kind, answer), called, returned, key))
        return answer

    async def _ask(self, client: str, name: str, body: Body) -> Answer:
        number = next(self._ids)
        answered, bodies = waiting = (trio.Event(), list[Body]())
        self._waiting[client, number] = waiting
        line = json.dumps({"src": client, "dest": name, "body": {**body, "msg_id": number}})
        self._give(name, line.encode())
        with trio.move_on_after(self._timeout):
            await answered.wait()
        self._waiting.pop((client, number), None)
        if not bodies:
            return Answer("info", {}, -1)
        return self._judged(name, body["type"], bodies[0])

    def _judged(self, name: str, kind: str, body: Body) -> Answer:
        code = body.get("code")
        if body["type"] == "error" and type(code) is int:
            return Answer("fail" if code in DEFINITE else "info", body, code)
        if body["type"] != f"{kind}_ok" or (kind == "read" and "value" not in body):
            self._faults.append(f"{name} answered a {kind} with {json.dumps(body)[:200]}")
            return Answer("info", body, -1)
        return Answer("ok", body)

    async def _read_from(self, name: str, process: int, patience: float) -> None:
        random = Random(f"{self._seed}/last/{name}")
        keys = next(self._keys)
        end = trio.current_time() + patience
        for kind, key in [("write", keys), *(("read", key) for key in range(keys))]:
            while (await self._operate(f"c{name}", name, process, kind, key, random)).outcome != "ok":
                process -= len(self._names)
                if trio.current_time() > end:
                    self._faults.append(f"{name} did not answer a {kind} within {patience} s after everything healed")
                    return
                await trio.sleep(0.05)
