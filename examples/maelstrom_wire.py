"""Maelstrom's wire: one JSON object {"src", "dest", "body"} a line, on standard input and output.

What comes in is bounded and never ends the program: a line that is no message raises `Malformed`, and one that is too
long is skipped to its end. https://github.com/jepsen-io/maelstrom/blob/main/doc/protocol.md
"""

from __future__ import annotations

import enum
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import trio

__all__ = ["LINE_BYTES_MAX", "Code", "Malformed", "Message", "Output", "canonical", "error", "parse", "read_lines"]

#: A line; what peers send each other is the longest.
LINE_BYTES_MAX = 8 << 20
#: What waits to be written; more is dropped and counted.
OUTPUT_BYTES_MAX = 64 << 20

_READ_BYTES = 64 << 10


class Code(enum.IntEnum):
    """Maelstrom's errors. CRASH is the only one that leaves open whether the request took effect."""

    NOT_SUPPORTED = 10
    UNAVAILABLE = 11
    MALFORMED = 12
    CRASH = 13
    ABORT = 14
    KEY_MISSING = 20
    MISMATCH = 22


class Malformed(Exception):
    """A line that is no message; the text says what is wrong with it."""


@dataclass(frozen=True)
class Message:
    """One message. The body is whatever JSON object came."""

    src: str
    dest: str
    body: dict[str, Any]


def canonical(value: object) -> str:
    """The one text of a JSON value: equal texts are equal values, and 1, 1.0 and true are three. Plain ASCII."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False)


def error(code: Code, text: str) -> dict[str, Any]:
    """The body of an error."""
    return {"type": "error", "code": int(code), "text": text}


def parse(line: bytes) -> Message:
    """The message on a line. Raises Malformed."""
    try:
        value = json.loads(line.decode(), parse_constant=_no_json)
    except (ValueError, RecursionError) as cause:
        raise Malformed(f"this is not JSON: {cause}") from None
    match value:
        case {"src": str(src), "dest": str(dest), "body": dict(body)}:
            return Message(src, dest, body)
    raise Malformed('a message is an object with the texts "src" and "dest" and the object "body"')


def _no_json(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON value")


async def read_lines(stream: trio.abc.ReceiveStream) -> AsyncIterator[list[bytes]]:
    """The lines that are whole after each read, without their ends; of one that is too long, its first part.

    Ends with the stream; a last line without an end is not given.
    """
    head = bytearray()
    skipping = False
    while data := await stream.receive_some(_READ_BYTES):
        *lines, rest = data.split(b"\n")
        whole: list[bytes] = []
        for line in lines:
            if not skipping:
                whole.append(bytes(head) + line)
            head.clear()
            skipping = False
        if not skipping:
            head += rest
            if len(head) > LINE_BYTES_MAX:
                whole.append(bytes(head[:100]))
                head.clear()
                skipping = True
        if whole:
            yield whole


class Output:
    """The way out: `post` never waits, `run` writes. What is over the bound is dropped, as a network would."""

    def __init__(self, stream: trio.abc.SendStream) -> None:
        self.dropped = 0
        self._stream = stream
        self._lines: list[bytes] = []
        self._waiting = 0  # bytes, those that are being written included
        self._wake = trio.Event()
        self._written = trio.Event()

    def post(self, src: str, dest: str, body: dict[str, Any]) -> bool:
        """Queue a message. False: dropped, because nobody reads."""
        line = canonical({"src": src, "dest": dest, "body": body}).encode() + b"\n"
        if self._waiting + len(line) > OUTPUT_BYTES_MAX:
            self.dropped += 1
            return False
        if not self._waiting:
            self._written = trio.Event()
        self._lines.append(line)
        self._waiting += len(line)
        self._wake.set()
        return True

    async def run(self) -> None:
        """Write for ever."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            lines, self._lines = self._lines, []
            data = b"".join(lines)
            await self._stream.send_all(data)
            self._waiting -= len(data)
            if not self._waiting:
                self._written.set()

    async def wait_written(self) -> None:
        """Wait until `run` has written everything."""
        if self._waiting:
            await self._written.wait()
