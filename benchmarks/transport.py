"""What does a message between two processes cost, plain and in TLS, beside raw sockets in the same run?

Both processes share one core, so the figures are CPU time, not wake-ups of an idle one. `round_trip` sends 64 bytes
there and back. `one_way` sends frames of 256 bytes, 1, 16 or 252 of them in one write, each encoded and decoded as a
message of its own; raw sockets move the same number of bytes and look at none. `one_way_block` is how entries travel in
a cluster: 252 of 256 bytes in one checked block in one frame. All cases take turns.

    python benchmarks/transport.py [--messages 3000] [--rounds 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import random
import socket
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import trio
import trustme

import distkit
from distkit._fast.codec import encode_block
from distkit.codec import FRAME_HEADER_BYTES, Registry
from distkit.core import record
from distkit.transport import MESSAGES, BulkStream, Credentials, Hello, Link, Refusal, TlsFiles, Transport

ENTRIES = 252
#: Writes after which the sender waits until the receiver has got this far.
WINDOW = 64


@record
class Letter:
    """A frame of the benchmark; `echo`: send it back."""

    echo: bool
    content: bytes


@record
class Blocks:
    """Entries as they travel between peers."""

    echo: bool
    blocks: tuple[bytes, ...]


REGISTRY = Registry([(100, Letter, "echo:bool content:bytes"), (101, Blocks, "echo:bool blocks:blocks")], MESSAGES)
OVERHEAD = FRAME_HEADER_BYTES + 5


class Node:
    """A host that sends back what asks for it (child) or tells `answered` that an answer is there (parent)."""

    def __init__(
        self, node: int, credentials: Credentials, answered: Callable[[Link, Any], None] | None = None
    ) -> None:
        hello = Hello(7, node, node, 1, None, ())
        self.transport = Transport(REGISTRY, lambda: hello, credentials, self, random.Random(node))
        self.address = self.transport.bind("127.0.0.1:0")
        self.answered = answered
        self.up = trio.Event()

    def judge(self, hello: Hello) -> Refusal | None:
        return None

    def on_hello(self, hello: Hello) -> None:
        self.up.set()

    def on_connected(self, node: int) -> None:
        pass

    def on_message(self, node: int, group: int, message: Any, link: Link) -> None:
        if self.answered is not None:
            self.answered(link, message)
        elif message.echo:
            link.send(message if type(message) is Letter else Letter(True, b""))

    def on_drained(self) -> None:
        self.transport.flush()

    def on_lost(self, node: int, reason: str) -> None:
        pass

    def on_refused(self, node: int, refusal: Refusal, by_peer: bool, authenticated: bool) -> None:
        raise SystemExit(f"refused: {refusal}")

    async def on_bulk(self, hello: Hello, stream: BulkStream) -> None:
        pass


class Answers:
    """Counts answers. In a round trip each but the last asks for the next at once, inside the read that brought it."""

    def __init__(self) -> None:
        self.missing = 0
        self.done = trio.Event()

    def __call__(self, link: Link, message: Any) -> None:
        self.missing -= 1
        if self.missing == 0:
            self.done.set()
        elif self.missing > 0 and message.content:
            link.send(message)


async def round_trips(node: Node, answers: Answers, count: int) -> float:
    answers.missing, answers.done = count, trio.Event()
    begun = time.perf_counter()
    node.transport.send(2, Letter(True, bytes(64 - OVERHEAD)))
    node.transport.flush()
    await answers.done.wait()
    return (time.perf_counter() - begun) / count


async def one_way(node: Node, answers: Answers, count: int, batch: int, message: Callable[[bool], Any]) -> float:
    """Seconds for one write of `batch` messages."""
    plain, last = message(False), message(True)
    begun = time.perf_counter()
    for write in range(1, count + 1):
        for _ in range(batch - 1):
            node.transport.send(2, plain)
        wait = write % WINDOW == 0 or write == count
        node.transport.send(2, last if wait else plain)
        node.transport.flush()
        if wait:
            answers.missing, answers.done = 1, trio.Event()
            await answers.done.wait()
    return (time.perf_counter() - begun) / count


def letter(echo: bool) -> Letter:
    # An answer without content is not sent on: see Answers.
    return Letter(echo, bytes(256 - OVERHEAD))


def block(echo: bool) -> Blocks:
    return Blocks(echo, (encode_block(1, 1, 0, b"\1" * ENTRIES, [bytes(256)] * ENTRIES),))


# -- raw sockets ------------------------------------------------------------------------------------------------------


def raw_child(pipe: Connection) -> None:
    """Per order (bytes a window, windows): reads the bytes and answers with as many (at most 64) for each window."""
    listener = socket.create_server(("127.0.0.1", 0))
    pipe.send(listener.getsockname())
    sock, _ = listener.accept()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while order := pipe.recv():
        size, windows = order
        pipe.send(None)
        for _ in range(windows):
            left = size
            while left:
                left -= len(sock.recv(min(left, 65536)))
            sock.sendall(bytes(min(size, 64)))
    sock.close()
    listener.close()


def raw(pipe: Connection, sock: socket.socket, size: int, count: int, window: int) -> float:
    """Seconds for one write of `size` bytes, answered every `window` writes."""
    count = max(1, count // window) * window
    pipe.send((size * window, count // window))
    pipe.recv()
    data = bytes(size)
    begun = time.perf_counter()
    for write in range(1, count + 1):
        sock.sendall(data)
        if write % window == 0:
            left = min(size * window, 64)
            while left:
                left -= len(sock.recv(left))
    return (time.perf_counter() - begun) / count


# -- the run ----------------------------------------------------------------------------------------------------------


def distkit_child(pipe: Connection, credentials: Credentials) -> None:
    async def main() -> None:
        node = Node(2, credentials)
        pipe.send(node.address)
        await node.transport.serve({})

    trio.run(main)


def tls_files(folder: Path, authority: trustme.CA, node: int) -> TlsFiles:
    certificate = authority.issue_cert(f"node-{node}.distkit")
    files = TlsFiles(*(folder / f"{node}-{name}.pem" for name in ("certificate", "key", "authority")))
    certificate.cert_chain_pems[0].write_to_path(str(files.certificate))
    files.key.touch(mode=0o600)
    certificate.private_key_pem.write_to_path(str(files.key))
    authority.cert_pem.write_to_path(str(files.authority))
    return files


@contextmanager
def child(target: Callable[..., None], *arguments: Any) -> Iterator[tuple[Connection, Any]]:
    """A process and what it said first."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    try:
        yield ours, ours.recv()
    finally:
        process.kill()
        process.join()


async def measure(
    addresses: dict[str, str], credentials: dict[str, Credentials], raw_case: Any, messages: int, rounds: int
) -> dict[tuple[str, str], list[float]]:
    """Seconds by (system, case), one value for each round."""
    found: dict[tuple[str, str], list[float]] = {}
    nodes = {}
    async with trio.open_nursery() as nursery:
        for system, address in addresses.items():
            answers = Answers()
            nodes[system] = (Node(1, credentials[system], answers), answers)
            nursery.start_soon(nodes[system][0].transport.serve, {2: address})
            await nodes[system][0].up.wait()
        for _ in range(rounds):
            for system, (node, answers) in nodes.items():
                seconds = found.setdefault((system, "round_trip"), [])
                seconds.append(await round_trips(node, answers, messages))
                for batch in (1, 16, 252):
                    count = max(WINDOW, messages // batch)
                    seconds = found.setdefault((system, f"one_way_{batch}"), [])
                    seconds.append(await one_way(node, answers, count, batch, letter) / batch)
                seconds = found.setdefault((system, "one_way_block"), [])
                seconds.append(await one_way(node, answers, max(WINDOW, messages // 16), 1, block) / ENTRIES)
            found.setdefault(("raw", "round_trip"), []).append(raw_case(64, messages, 1))
            for batch in (1, 16, 252):
                seconds = found.setdefault(("raw", f"one_way_{batch}"), [])
                seconds.append(raw_case(256 * batch, max(WINDOW, messages // batch), WINDOW) / batch)
        nursery.cancel_scope.cancel()
    return found


def main() -> int:
    """Run the cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=3000, help="messages for each case and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        authority = trustme.CA()
        one, two = (Credentials(tls=tls_files(Path(folder), authority, node)) for node in (1, 2))
        plain = Credentials()
        with (
            child(distkit_child, plain) as (_, plain_address),
            child(distkit_child, two) as (_, tls_address),
            child(raw_child) as (pipe, raw_address),
            socket.create_connection(raw_address) as sock,
        ):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            found = trio.run(
                measure,
                {"plain": plain_address, "tls": tls_address},
                {"plain": plain, "tls": one},
                lambda size, count, window: raw(pipe, sock, size, count, window),
                arguments.messages,
                arguments.rounds,
            )
    params: dict[str, object] = {
        "distkit": distkit.__version__,
        "python": platform.python_version(),
        "trio": trio.__version__,
        "openssl": ssl.OPENSSL_VERSION,
        "compiled": distkit.COMPILED,
    }
    for (system, case), seconds in sorted(found.items(), key=lambda item: (item[0][1], item[0][0])):
        show(arguments.json, system, case, seconds, found.get(("raw", case)), params)
    return 0


def show(
    as_json: bool, system: str, case: str, seconds: list[float], beside: list[float] | None, params: dict[str, object]
) -> None:
    """One figure: microseconds for a round trip, messages (or entries) a second one way."""
    median = statistics.median(seconds)
    value, unit = (median * 1e6, "us") if case == "round_trip" else (1 / median, "1/s")
    ratio = None if beside is None else median / statistics.median(beside)
    if as_json:
        extra = {"system": system, "min": min(seconds), "max": max(seconds), "times_raw": ratio}
        print(json.dumps({"name": case, "value": round(value, 2), "unit": unit, "params": params | extra}), flush=True)
    else:
        times = "" if ratio is None else f"{ratio:8.1f} x raw"
        print(f"{case:14} {system:6} {value:14,.1f} {unit:4} {times}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
