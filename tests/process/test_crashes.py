"""kill -9, SIGSTOP, wiped and damaged directories on real servers: nothing acknowledged is lost, nothing lies."""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from random import Random

import pytest
from servers import PATIENCE, Client, Servers, running, until

pytestmark = pytest.mark.process


class Writers:
    """Clients that append unique numbers to keys of their own, each staying with a node until it fails."""

    def __init__(self, servers: Servers, count: int = 4) -> None:
        self.acknowledged: dict[str, list[int]] = {f"log:{number}": [] for number in range(count)}
        self.attempted: dict[str, int] = dict.fromkeys(self.acknowledged, 0)
        self.backwards: list[str] = []
        self._ports = list(servers.clients.values())
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(key, turn), daemon=True)
            for turn, key in enumerate(self.acknowledged)
        ]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    @property
    def total(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    def progress(self, more: int = 20) -> None:
        """Wait until so many more writes were acknowledged."""
        goal = self.total + more
        until(lambda: self.total >= goal, "writes to be acknowledged")

    def _work(self, key: str, turn: int) -> None:
        longest = 0
        while not self._stop.is_set():
            turn += 1
            try:
                with Client(self._ports[turn % len(self._ports)], timeout=3.0) as client:
                    while not self._stop.is_set():
                        self.attempted[key] += 1
                        number = self.attempted[key]
                        answer = client.ask("APPEND", key, f"{number} ")
                        if not isinstance(answer, int):
                            break
                        self.acknowledged[key].append(number)
                        seen = client.ask("STRLEN", key)
                        if not isinstance(seen, int):
                            break
                        if seen < max(longest, answer):
                            self.backwards.append(f"{key}: {seen} after {max(longest, answer)}")
                        longest = max(longest, seen)
            except (OSError, EOFError):
                time.sleep(0.05)

    def check(self, servers: Servers) -> None:
        """Every acknowledged number is there once, in order, on every node; no read went back."""
        assert self.backwards == []
        for node in servers.nodes:
            with Client(servers.clients[node], timeout=30.0) as client:
                for key, numbers in self.acknowledged.items():
                    value = client.ask("GET", key)
                    assert isinstance(value, bytes), (node, key, value)
                    found = [int(word) for word in value.split()]
                    assert found == sorted(set(found))
                    assert set(numbers) <= set(found), f"node {node}, {key}: acknowledged writes are missing"


def test_kill_9_again_and_again_loses_nothing(tmp_path: Path) -> None:
    random = Random(7)
    with running(tmp_path) as servers, Writers(servers) as writers:
        for turn in range(6):
            writers.progress()
            victim = servers.leader() if turn % 2 == 0 else random.choice(servers.nodes)
            servers.kill(victim)
            writers.progress()
            servers.start(victim)
            until(lambda victim=victim: servers.info(victim), "the killed node to answer")
        writers.__exit__()
        assert writers.total > 200
        writers.check(servers)


def test_all_servers_at_once_lose_power_and_nothing_is_lost(tmp_path: Path) -> None:
    with running(tmp_path) as servers, Writers(servers) as writers:
        for _ in range(2):
            writers.progress()
            for node in servers.nodes:
                servers.processes[node].kill()
            for node in servers.nodes:
                servers.processes[node].wait(PATIENCE)
                servers.start(node)
            servers.leader()
        writers.progress()
        writers.__exit__()
        writers.check(servers)


def test_a_stopped_leader_is_replaced_and_steps_back_when_it_goes_on(tmp_path: Path) -> None:
    with running(tmp_path) as servers, Writers(servers) as writers:
        for _ in range(3):
            writers.progress()
            paused = servers.leader()
            servers.signal(paused, signal.SIGSTOP)
            servers.leader(among=tuple(node for node in servers.nodes if node != paused))
            writers.progress()
            servers.signal(paused, signal.SIGCONT)
            until(lambda paused=paused: servers.info(paused).get("role") == "replica", "the old leader to step back")
        writers.__exit__()
        writers.check(servers)


def test_a_wiped_directory_is_refused_and_told_how_to_be_replaced(tmp_path: Path) -> None:
    with running(tmp_path) as servers:
        victim = servers.follower()
        with Client(servers.clients[servers.leader()]) as client:
            assert client.ask("SET", "precious", "kept") == "OK"
        servers.kill(victim)
        shutil.rmtree(servers.data(victim))
        servers.start(victim)
        assert servers.processes[victim].wait(PATIENCE) == 1
        assert "new data directory" in servers.said(victim)
        assert "replace the member" in servers.said(victim)
        with Client(servers.clients[servers.leader()]) as client:
            assert client.ask("GET", "precious") == b"kept"


def test_sigterm_and_sigint_stop_it_cleanly(tmp_path: Path) -> None:
    with running(tmp_path) as servers:
        first, second = servers.nodes[:2]
        assert servers.stop(first) == 0
        servers.signal(second, signal.SIGINT)
        assert servers.processes[second].wait(PATIENCE) == 0


def test_one_directory_is_for_one_process_and_one_node(tmp_path: Path) -> None:
    with running(tmp_path, count=1) as servers:
        command = servers.command(1)
        again = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert again.returncode == 1
        assert "another process uses this data directory" in again.stderr
        assert servers.stop(1) == 0
        command[command.index("--node=1")] = "--node=2"
        other = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert other.returncode == 1
        assert "belongs to node 1" in other.stderr


def test_a_flipped_byte_in_the_log_is_named_with_file_and_offset(tmp_path: Path) -> None:
    with running(tmp_path, count=1) as servers:
        with Client(servers.clients[1]) as client:
            for number in range(50):
                assert client.ask("SET", f"key:{number}", "value") == "OK"
        assert servers.stop(1) == 0
    segments = sorted(servers.data(1).glob("wal-*"))
    data = bytearray(segments[-1].read_bytes())
    place = data.rindex(b"key:25")
    data[place] ^= 1
    segments[-1].write_bytes(data)
    servers.start(1)
    assert servers.processes[1].wait(PATIENCE) == 1
    said = servers.said(1)
    assert segments[-1].name in said
    assert "at offset" in said
    assert segments[-1].read_bytes() == bytes(data), "a damaged file must be left as it is"
