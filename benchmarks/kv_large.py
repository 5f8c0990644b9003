"""Millions of keys: snapshots taken and installed under load, and whether the leader keeps its place meanwhile."""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers import Failed, open_cluster, record_of
from peers.cluster import NODES, Load
from peers.distkit_kv import Distkit

KEYS_A_COMMAND = 20
COMMANDS_A_PACKET = 32
LOAD_CLIENTS = 16
LOAD_KEYS = 1000  # what the load writes, among the millions
LOAD_SECONDS = 10.0  # of each load while the follower comes back
GIVE_UP = 300.0  # seconds for one packet of the fill, for the first snapshot, and for the follower
STEP = 0.1  # seconds between two looks


def measure_large(keys: int, *, directory: Path | None = None) -> list[dict[str, Any]]:
    """Store `keys` keys of 256 bytes while a follower is down, then let it come back under load.

    - `large_fill` (1/s): keys stored a second, 20 a command, 32 commands under way; snapshots are taken meanwhile, and
      `large_fill_max` (ms) is the longest that one of these packets of 32 had to wait;
    - `large_snapshot` (MiB): the leader's newest snapshot; `large_rss` (MiB): its resident memory;
    - `large_install` (s): from starting the follower, whose part of the log is gone, until it has applied what was
      committed at its start: the snapshot is fetched and loaded, the rest comes from the log;
    - `large_put`, `large_put_p50`, `large_put_p99`: puts of 16 clients to the leader during that time, in loads of 10
      seconds; the worst p99 of them;
    - `large_put_failed`: puts that were answered by an error, in both parts;
    - `large_elections`: how far the term rose; it should be 0.
    """
    with open_cluster("distkit", keys=LOAD_KEYS, directory=directory) as (cluster, params):
        assert isinstance(cluster, Distkit)
        cluster.cold_start()
        params = params | {"keys": keys, "clients": LOAD_CLIENTS, "keys_a_command": KEYS_A_COMMAND}
        leader = cluster.wait_leader()
        term = cluster.term()
        follower = next(node for node in NODES if node != leader)
        cluster.servers[follower].kill()
        took, longest, failed = _fill(cluster.ports[leader], keys, cluster.size)
        _wait(lambda: _position(cluster, leader, "snapshot") > 0, "the leader has a snapshot")
        files = (cluster.directory / f"n{leader}").glob("snap-*")
        snapshot = max(file.stat().st_size for file in files if not file.suffix)  # .tmp is not finished
        loads, installed = _come_back(cluster, leader, follower)
        risen = (cluster.term() or 0) - (term or 0)
        return [
            record_of("large_fill", keys / took, "1/s", params),
            record_of("large_fill_max", longest * 1e3, "ms", params),
            record_of("large_snapshot", snapshot / 2**20, "MiB", params),
            record_of("large_rss", cluster.servers[leader].resident() / 2**20, "MiB", params),
            record_of("large_install", installed, "s", params),
            record_of(
                "large_put", sum(load.ops for load in loads) / sum(load.seconds for load in loads), "1/s", params
            ),
            record_of("large_put_p50", statistics.median(load.p50 for load in loads) * 1e3, "ms", params),
            record_of("large_put_p99", max(load.p99 for load in loads) * 1e3, "ms", params),
            record_of("large_put_failed", failed + sum(load.errors for load in loads), "1", params),
            record_of("large_elections", risen, "1", params),
        ]


def _fill(port: int, keys: int, size: int) -> tuple[float, float, int]:
    """Store all keys by MSET on one connection: (seconds, longest of a packet, commands answered by errors)."""
    failed = 0
    longest = 0.0
    begin = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=GIVE_UP) as connection:
        answers = connection.makefile("rb")
        for first in range(0, keys, KEYS_A_COMMAND * COMMANDS_A_PACKET):
            stop = min(keys, first + KEYS_A_COMMAND * COMMANDS_A_PACKET)
            commands = [_mset(low, min(stop, low + KEYS_A_COMMAND), size) for low in range(first, stop, KEYS_A_COMMAND)]
            sent = time.perf_counter()
            connection.sendall(b"".join(commands))
            failed += sum(answers.readline() != b"+OK\r\n" for _ in commands)
            longest = max(longest, time.perf_counter() - sent)
    return time.perf_counter() - begin, longest, failed


def _mset(low: int, high: int, size: int) -> bytes:
    words = [b"$4\r\nMSET\r\n"]
    for number in range(low, high):
        words.append(b"$16\r\nkey:%012d\r\n$%d\r\n%s\r\n" % (number, size, os.urandom(size // 2).hex().encode()))
    return b"*%d\r\n%s" % (1 + 2 * (high - low), b"".join(words))


def _come_back(cluster: Distkit, leader: int, follower: int) -> tuple[list[Load], float]:
    """Start the follower under load, one load after another: the loads, and the seconds until it had caught up."""
    wanted = _position(cluster, leader, "commit")
    begin = time.perf_counter()
    cluster.restart(follower)
    loads: list[Load] = []
    took = 0.0
    while not took:
        if time.perf_counter() - begin > GIVE_UP:
            raise Failed(f"the follower has not caught up within {GIVE_UP:.0f} s")
        with contextlib.closing(cluster.client("put", [leader], LOAD_CLIENTS, LOAD_SECONDS)) as client:
            client.go()
            stop = time.monotonic() + LOAD_SECONDS
            while not took and time.monotonic() < stop:
                if _position(cluster, follower, "applied") >= wanted:
                    took = time.perf_counter() - begin
                time.sleep(STEP)
            loads.append(client.result(GIVE_UP))
    if _position(cluster, follower, "snapshot") == 0:
        raise Failed("the follower came back without a snapshot: store more --keys")
    return loads, took


def _position(cluster: Distkit, node: int, name: str) -> int:
    return int(cluster.info(node).get(name, 0))


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + GIVE_UP
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"not within {GIVE_UP:.0f} s: {what}")
        time.sleep(STEP)
