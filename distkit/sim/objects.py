"""The application of the simulator: small objects whose every operation can be checked. A key's first letter says
which.

    r  register: write v           c  register: write v, cas from-to        l  list of unique values: append v
    n  counter: add v              q  queue: enqueue v, dequeue             m  mutex: acquire, release, by client

A command is text: `kind key value number client`; `number` is unique to the operation, so it is seen if one takes
effect twice. """

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any
from zlib import crc32

from distkit.core import StateMachine

#: What each object can do besides being read, and how often.
KINDS = {
    "r": {"write": 1.0},
    "c": {"write": 1.0, "cas": 2.0},
    "l": {"append": 1.0},
    "n": {"add": 1.0},
    "q": {"enqueue": 1.2, "dequeue": 1.0},
    "m": {"acquire": 1.0, "release": 1.0},
}
#: The models of `distkit.sim.linear` that judge them.
MODELS = {"r": "register", "c": "cas-register", "l": "append-list", "n": "counter", "q": "fifo-queue", "m": "mutex"}

#: A read of a list gives its length, its digest and not all of it.
_START = 0x5EED


def command(kind: str, key: str, value: int, number: int, client: int) -> bytes:
    """An operation as a command."""
    return f"{kind} {key} {value} {number} {client}".encode()


class Objects(StateMachine):
    """All objects. Results and states are plain values, so a snapshot is JSON."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def apply(self, index: int, term: int, time_us: int, command: bytes) -> bytes:
        kind, key, value, _number, client = command.decode().split()
        return json.dumps(self._apply(kind, key, int(value), int(client))).encode()

    def _apply(self, kind: str, key: str, value: int, client: int) -> Any:
        values = self.values
        if kind == "write":
            values[key] = value
            return None
        if kind == "cas":  # from the lower half of the value to the upper one
            expected, new = value & 0xFFFFFFFF, value >> 32
            if values.get(key) != expected:
                return False
            values[key] = new
            return True
        if kind == "append":
            length, digest = values.get(key, (0, _START))
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

    def read(self, key: str) -> Any:
        """What a read returns."""
        return self.values.get(key)

    def snapshot(self) -> Iterator[bytes]:
        return iter([json.dumps([key, value]).encode() for key, value in sorted(self.values.items())])

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.values = {}
        for chunk in chunks:
            key, value = json.loads(chunk)
            self.values[key] = tuple(value) if isinstance(value, list) else value

    def digest(self) -> bytes:
        data = json.dumps(sorted(self.values.items())).encode()
        return crc32(data).to_bytes(4, "little")


def digest_after(digest: int, value: int) -> int:
    """The digest of a list with one more value."""
    return crc32(b"%d" % value, digest)


LIST_START = _START
