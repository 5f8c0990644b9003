"""A trace of a real server: every acknowledgement leaves after the fdatasync that makes it true has returned."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import PATIENCE, Client, Servers, running, until

from distkit.codec import FrameDecoder
from distkit.core import PeerError
from distkit.raft.messages import AppendEntries, AppendEntriesReply
from distkit.replica import registry
from distkit.transport import MESSAGES

pytestmark = pytest.mark.process

WRITES = 30
CALLS = "fdatasync,recvfrom,sendto,sendmsg"
_CALL = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?:\((\d+)| resumed>)(.*)$")
_BYTES = re.compile(r'"((?:\\x[0-9a-f]{2})+)"')


@contextlib.contextmanager
def traced(strace: str, servers: Servers, node: int, path: Path) -> Iterator[None]:
    """Within the block every thread of the server is traced."""
    pid = servers.processes[node].pid
    words = [strace, "-f", "-qq", "-xx", "-s", "65536", "-e", f"trace={CALLS}", "-o", str(path), "-p", str(pid)]
    tracer = subprocess.Popen(words)
    try:
        until(lambda: all(map(is_traced, Path(f"/proc/{pid}/task").iterdir())), "strace to attach to each thread")
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(PATIENCE)


def is_traced(task: Path) -> bool:
    return re.search(r"^TracerPid:\s+[1-9]", (task / "status").read_text(), re.MULTILINE) is not None


def events(path: Path) -> Iterator[tuple[str, int, bytes]]:
    """What happened, in order: ("sync", 0, b""), ("received", fd, data) and ("sent", fd, data).

    strace writes a call when it begins, and its result when it ends: a packet counts as sent from the beginning of its
    call on, as received at the end of it, and a sync when it has returned.
    """
    descriptors: dict[str, int] = {}  # thread -> of the call that it is in
    for line in path.read_text().splitlines():
        found = _CALL.match(line)
        if found is None:
            continue
        thread, name, descriptor, rest = found.groups()
        if descriptor is not None:
            descriptors[thread] = int(descriptor)
        data = bytes.fromhex("".join(_BYTES.findall(rest)).replace("\\x", ""))
        if name == "fdatasync" and re.search(r"\) += 0$", rest):
            yield "sync", 0, b""
        elif name == "recvfrom" and data:
            yield "received", descriptors[thread], data
        elif name in ("sendto", "sendmsg") and data:
            yield "sent", descriptors[thread], data


def write(port: int) -> None:
    """One after the other, so that each needs a sync of its own."""
    with Client(port) as client:
        for number in range(WRITES):
            assert client.ask("SET", f"traced:{number}", "x") == "OK"


def test_one_server_answers_a_client_after_the_sync(program, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with running(tmp_path, count=1) as servers, traced(program("strace"), servers, 1, trace):
        write(servers.clients[1])
    synced = False
    asked = answered = 0
    for event, _descriptor, data in events(trace):
        if event == "received" and b"traced:" in data:
            asked, synced = asked + 1, False
        elif event == "sync":
            synced = True
        elif event == "sent" and data.startswith(b"+OK"):
            answered += 1
            assert synced, f"answer {answered} left before a sync had returned"
    assert asked == answered == WRITES


def test_a_follower_acknowledges_entries_after_the_sync(program, tmp_path: Path) -> None:
    """The third server is down, so that each write needs the follower's acknowledgement."""
    trace = tmp_path / "trace"
    with running(tmp_path) as servers:
        leader = servers.leader()
        follower, absent = (node for node in servers.nodes if node != leader)
        servers.kill(absent)
        with traced(program("strace"), servers, follower, trace):
            write(servers.clients[leader])
        assert servers.leader() == leader
    synced = False
    acknowledged = highest = 0
    for event, message in messages(trace):
        if event == "sync":
            synced = True
        elif isinstance(message, AppendEntries) and message.blocks:
            synced = False
        elif isinstance(message, AppendEntriesReply) and message.accepted and message.index > highest:
            highest = message.index
            acknowledged += 1
            assert synced, f"entry {highest} was acknowledged before a sync had returned"
    assert acknowledged == WRITES


def messages(path: Path) -> Iterator[tuple[str, object]]:
    """The same events with the messages of peers; what carries anything else, like wake-ups, is left out."""
    kinds = registry(MESSAGES)
    streams: dict[tuple[str, int], FrameDecoder | None] = {}
    for event, descriptor, data in events(path):
        if event == "sync":
            yield event, None
            continue
        decoder = streams.setdefault((event, descriptor), FrameDecoder(kinds))
        if decoder is None:
            continue
        decoder.feed(data)
        try:
            for _group, message in decoder:
                yield event, message
        except PeerError:
            streams[event, descriptor] = None
