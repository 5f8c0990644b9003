"""The nodes under test as child processes, with pipes; each is signalled by the process id that was started."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import trio

ROOT = Path(__file__).resolve().parents[2]
NODE = ROOT / "examples" / "maelstrom_node.py"
#: Seconds within which a node must answer `init`, or end when it must.
PATIENCE = 10.0
#: Lines that may wait for one node; it may be stopped.
QUEUE_MAX = 20_000
LINE_BYTES_MAX = 8 << 20
#: The client that sends `init`.
STARTER = "c0"

Body = dict[str, Any]


class Child:
    """One node, started any number of times in one directory. `faults` gets what it must not do."""

    def __init__(
        self,
        name: str,
        names: Sequence[str],
        home: Path,
        program: Sequence[str],
        on_message: Callable[[str, str, Body, bytes], None],
        faults: list[str],
    ) -> None:
        self.name = name
        self.data = home / "data" / name
        self.log = home / f"{name}.log"
        self.process: trio.Process | None = None
        self.queue_lost = 0
        self._names = list(names)
        self._command = [sys.executable, *program, f"--data={home / 'data'}"]
        self._on_message = on_message
        self._faults = faults
        self._lines_in: trio.MemorySendChannel[bytes] | None = None
        self._numbers = itertools.count(1)
        self._initialised: dict[str, Any] | None = None
        self._answered = trio.Event()
        self._ending = False
        self.ended = trio.Event()

    async def start(self, nursery: trio.Nursery, must_end: bool = False) -> None:
        """Start it and wait for the answer to `init`. `must_end`: it is to find out that it can't take part."""
        self._answered, self.ended = trio.Event(), trio.Event()
        self._ending = must_end
        self._initialised = None
        with self.log.open("ab") as log:
            self.process = await trio.lowlevel.open_process(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        self._lines_in, lines = trio.open_memory_channel[bytes](QUEUE_MAX)
        nursery.start_soon(self._read, self.process)
        nursery.start_soon(self._write, self.process, lines)
        body = {"type": "init", "msg_id": next(self._numbers), "node_id": self.name, "node_ids": self._names}
        self.give(json.dumps({"src": STARTER, "dest": self.name, "body": body}).encode())
        with trio.move_on_after(PATIENCE):
            await self._answered.wait()
        if self._initialised != {"type": "init_ok"}:
            self._faults.append(f"{self.name} did not answer init within {PATIENCE} s but {self._initialised}")

    def give(self, line: bytes) -> None:
        """A line for the node; lost if it is down, or has not read for long."""
        if self._lines_in is None:
            return
        try:
            self._lines_in.send_nowait(line)
        except (trio.WouldBlock, trio.BrokenResourceError):
            self.queue_lost += 1

    async def kill(self) -> None:
        """SIGKILL."""
        self.expect_end()
        if self.process is not None:
            self.process.kill()
            await self.ended.wait()
            self.process = None

    def expect_end(self) -> None:
        """From now on its end is no fault."""
        self._ending = True
        self._hang_up()

    def _hang_up(self) -> None:
        if self._lines_in is not None:
            self._lines_in.close()
            self._lines_in = None

    def stop(self) -> None:
        """SIGSTOP."""
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGCONT)

    def said(self) -> str:
        """The end of what it wrote to standard error."""
        return self.log.read_text(errors="replace")[-4000:]

    async def _read(self, process: trio.Process) -> None:
        assert process.stdout is not None
        async with process.stdout:
            head = b""
            async for data in process.stdout:
                *lines, head = (head + data).split(b"\n")
                for line in lines:
                    self._take(line)
                if len(head) > LINE_BYTES_MAX:
                    self._faults.append(f"{self.name} wrote a line of more than {LINE_BYTES_MAX} bytes")
                    break
        status = await process.wait()
        if process is self.process and not self._ending:
            self._faults.append(f"{self.name} ended with status {status}: {self.said()[-1000:]}")
            self._hang_up()
        self.ended.set()
        self._answered.set()

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        match message:
            case {"src": self.name, "dest": str(dest), "body": {"type": str()} as body}:
                if dest == STARTER:
                    self._initialised = {key: value for key, value in body.items() if key != "in_reply_to"}
                    self._answered.set()
                else:
                    self._on_message(self.name, dest, body, line)
            case _:
                self._faults.append(f"{self.name} wrote what is no message of its own: {line[:200]!r}")

    async def _write(self, process: trio.Process, lines: trio.MemoryReceiveChannel[bytes]) -> None:
        assert process.stdin is not None
        try:
            async with process.stdin, lines:
                async for line in lines:
                    await process.stdin.send_all(line + b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # it is gone; `_read` says so
