"""The application of the simulator: small objects whose every operation can be checked. A key's first letter says
which.

    r  register: write v           c  register: write v, cas from-to        l  list of unique values: append v
    n  counter: add v              q  queue: enqueue v, dequeue             m  mutex: acquire, release, by client

Values are unique. Lists are judged at once: a read or an append can't be older than what was answered before it was
called, and what it saw must be what is replicated. Everything else is judged at the end, by `distkit.sim.linear`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any, Final
from zlib import crc32

from distkit.core import StateMachine
from distkit.sim.broken import require
from distkit.sim.chance import below, between, chosen
from distkit.sim.linear import Operation
from distkit.sim.scenario import Call
from distkit.sim.workload import Workload, times

#: What each object can do besides being read, and how often.
KINDS: Final = {
    "r": {"write": 1.0},
    "c": {"write": 1.0, "cas": 2.0},
    "l": {"append": 1.0},
    "n": {"add": 1.0},
    "q": {"enqueue": 1.2, "dequeue": 1.0},
    "m": {"acquire": 1.0, "release": 1.0},
}
#: The models of `distkit.sim.linear` that judge them, but for lists.
MODELS: Final = {
    "r": "register",
    "c": "cas-register",
    "n": "counter",
    "q": "fifo-queue",
    "m": "mutex",
}
#: JSON of a result that is no number.
_WORDS: Final = {None: b"null", False: b"false", True: b"true"}
_EMPTY: Final = (0, 0x5EED)  # a list: its length, and the digest of its values


class Objects(StateMachine):
    """All objects. A command is text: `kind key value client`. Results and states are plain values, as JSON, and what
    comes of a long command is as long, for spaces that say nothing."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def apply(self, index: int, term: int, time_us: int, command: bytes) -> bytes:
        kind, key, value, client = command.decode().split()
        result = self._apply(kind, key, int(value), int(client))
        shown = b"%d" % result if type(result) is int else _WORDS[result]
        return shown + command[len(command.rstrip()) :]

    def _apply(self, kind: str, key: str, value: int, client: int) -> Any:
        values = self.values
        if kind == "write":
            values[key] = value
            return None
        if kind == "cas":  # from the lower half of the value to the upper one
            if values.get(key) != value & 0xFFFFFFFF:
                return False
            values[key] = value >> 32
            return True
        if kind == "append":
            length, digest = values.get(key, _EMPTY)
            values[key] = (length + 1, crc32(b"%d" % value, digest))
            return length + 1
        if kind == "add":
            values[key] = values.get(key, 0) + value
            return values[key]
        if kind == "enqueue":
            values[key] = (*values.get(key, ()), value)
            return None
        if kind == "dequeue":
            queue = values.get(key, ())
            values[key] = queue[1:]
            return queue[0] if queue else None
        held = values.get(key, 0)
        if kind == "acquire":
            values[key] = held or client
            return held == 0
        if kind == "release":
            values[key] = 0 if held == client else held
            return held == client
        raise ValueError(f"no operation {kind}")

    def snapshot(self) -> Iterator[bytes]:
        return iter([json.dumps([key, value]).encode() for key, value in sorted(self.values.items())])

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.values = {}
        for chunk in chunks:
            key, value = json.loads(chunk)
            self.values[key] = tuple(value) if isinstance(value, list) else value

    def digest(self) -> bytes:
        return crc32(json.dumps(sorted(self.values.items())).encode()).to_bytes(4, "little")


class _List:
    """A list as it is replicated: the digest of each of its prefixes, and how much of it was answered to somebody."""

    __slots__ = ("answered", "digests", "values")

    def __init__(self) -> None:
        self.values: list[int] = []
        self.digests = [_EMPTY[1]]
        self.answered = 0


class ObjectsWorkload(Workload):
    """Clients that use all objects, and judge each by its model."""

    def __init__(self) -> None:
        self._lists: dict[str, _List] = {}

    def application(self) -> Objects:
        return Objects()

    def command(self, call: Call, random: Random) -> bytes:
        # Spaces say nothing, but a few long commands fill windows, batches and segments. (Of more than half of the
        # smallest `log_bytes_max` that is drawn, one may be refused as long as nothing else makes a snapshot due.)
        padding = int(random.random() * 1800) if random.random() < 0.1 else 0
        return f"{call.kind} {call.key} {call.value} {call.client}".encode() + b" " * padding

    def query(self, application: Objects, call: Call) -> Any:
        return application.values.get(call.key)

    def calls(self, random: Random, nodes: int, seconds: float, clients: int, count: int) -> tuple[Call, ...]:
        kinds = [kind for kind in KINDS if random.random() < 0.7] or ["l"]
        keys = [f"{kind}{number}" for kind in kinds for number in range(1 + below(random, 3))]
        reads = between(random, 0.1, 0.6)
        elsewhere = between(random, 0.0, 1.0)
        calls: list[Call] = []
        written: dict[str, list[int]] = {}
        for number, time in enumerate(times(random, seconds, count), 1):
            client = 1 + below(random, clients)
            # Most clients stay with their node, some are everywhere.
            node = 1 + (below(random, nodes) if random.random() < elsewhere else (client - 1) % nodes)
            if random.random() < 0.1:
                node = 0  # an old leader, if there is one
            key = keys[below(random, len(keys))]
            if random.random() < 0.004:
                calls.append(Call(time, client, 1 + below(random, nodes), "transfer", "", 0))
            elif key[0] not in "qm" and random.random() < reads:
                kind = "stale" if random.random() < 0.05 and key[0] == "l" else "read"
                calls.append(Call(time, client, node, kind, key, 0))
            else:
                kind = chosen(random, KINDS[key[0]])
                value = _value(random, kind, number, written.setdefault(key, [0]))
                calls.append(Call(time, client, node, kind, key, value))
        return tuple(calls)

    # -- lists, at once -----------------------------------------------------------------------------------------------

    def applied(self, index: int, command: bytes, result: bytes) -> None:
        kind, key, value, _client = command.decode().split()
        if kind == "append":
            items = self._lists.setdefault(key, _List())
            items.values.append(int(value))
            items.digests.append(crc32(value.encode(), items.digests[-1]))

    def called(self, call: Call) -> int:
        items = self._lists.get(call.key)
        return items.answered if items is not None else 0

    def answered(self, call: Call, token: int, answer: Any) -> None:
        if not call.key.startswith("l"):
            return
        items = self._lists.setdefault(call.key, _List())
        rule = "linearizability"
        if call.kind == "append":
            length = json.loads(answer)
            require(items.values[length - 1 : length] == [call.value], rule, call, "is not at", length)
            require(length > token, rule, call, "went to", length, "behind", token)
        else:
            length, digest = answer or _EMPTY
            require(items.digests[length : length + 1] == [digest], rule, call, "saw a list that never was")
            if call.kind == "stale":
                return
            require(length >= token, rule, "stale read:", call, "saw", length, "of a list that had", token)
        items.answered = max(items.answered, length)

    # -- everything, at the end ---------------------------------------------------------------------------------------

    def operation(self, call: Call, answer: Any, called: float, returned: float) -> Operation | None:
        if call.key.startswith("l"):
            return None  # judged already, and completely: each answer is a place in the order
        kind, value = call.kind, call.value
        output = json.loads(answer) if isinstance(answer, bytes) else answer
        given: Any = value
        if kind in ("acquire", "release"):
            if output is False:
                return None  # it had no effect, and nothing is said about when it was free
            given = output = None
        elif kind == "cas":
            given = (value & 0xFFFFFFFF, value >> 32)
        elif kind in ("read", "dequeue"):
            given = None
        if kind == "read" and call.key[0] == "n":
            output = output or 0
        return Operation(call.client, kind, given, output, called, returned, call.key)

    def last_calls(self, calls: Sequence[Call], nodes: Sequence[int], time: int) -> list[Call]:
        keys = sorted({call.key for call in calls if call.key and call.key[0] not in "qm"})
        last = [
            Call(time, 1000 + number, nodes[number % len(nodes)], "read", key, 0) for number, key in enumerate(keys)
        ]
        return [*last, Call(time, 2000, nodes[0], "append", "last", 1)]


def _value(random: Random, kind: str, number: int, written: list[int]) -> int:
    """The unique value of a write; for a cas, what it expects is one of the last values of this key."""
    value = number
    if kind == "cas":
        value = number << 32 | written[below(random, len(written))]
    if kind in ("write", "cas"):
        written.append(number)
        del written[:-3]
    return value
