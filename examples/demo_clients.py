"""The demo's clients: redis-py in threads, and a journal of what they asked, when, and what they were told.

Each client writes unique values to keys that it shares with the others and reads them, and appends its own numbers to a
key of its own, of which every acknowledged one must be there at the end, in order.
"""

from __future__ import annotations

import threading
import time
from math import inf
from random import Random
from types import TracebackType

import redis

from distkit.sim.linear import Operation

SHARED_KEYS = 24
TIMEOUT = 3.0
#: Answers that say that nothing was done; any other failure of a write leaves its outcome open.
DEFINITE = ("TRYAGAIN", "DISKFULL", "LOADING")


class Journal:
    """What all clients saw. `latencies` has (time of the answer, seconds) of each acknowledged write."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.latencies: list[tuple[float, float]] = []
        self.reads = self.unknown = self.refused = 0
        self._operations: list[Operation] = []
        self._appended: dict[str, list[tuple[int, bool]]] = {}  # (number, acknowledged), in order
        self._logs: dict[str, str] = {}

    @property
    def acknowledged(self) -> int:
        """Writes that were answered with success."""
        return len(self.latencies)

    def now(self) -> float:
        """Seconds since the load began."""
        return time.monotonic() - self.began

    def wrote(self, client: int, key: str, value: str | None, called: float, returned: float) -> None:
        """A client's write ended; `returned` infinite: nobody knows how. `value` None: an append, for `appended`."""
        if returned == inf:
            self.unknown += 1
        else:
            self.latencies.append((returned, returned - called))
        if value is not None:
            self._operations.append(Operation(client, "put", value, None, called, returned, key))

    def read(self, client: int | str, key: str, value: str | None, called: float) -> None:
        """A read of a client was answered."""
        self.reads += 1
        self._operations.append(Operation(client, "get", None, value, called, self.now(), key))

    def appended(self, key: str, number: int, acknowledged: bool) -> None:
        """A client appended a number to its log, or may have."""
        self._appended.setdefault(key, []).append((number, acknowledged))

    def operations(self) -> list[Operation]:
        """The history of the shared keys."""
        return self._operations

    def final_reads(self, ports: dict[int, int]) -> None:
        """When all is quiet: read every key on every node."""
        for node, port in ports.items():
            with redis.Redis("127.0.0.1", port, decode_responses=True, socket_timeout=10) as client:
                for number in range(SHARED_KEYS):
                    called = self.now()
                    self.read(f"final {node}", f"key:{number}", client.get(f"key:{number}"), called)
                for key in self._appended:
                    self._logs[key] = client.get(key) or ""

    def lost_appends(self) -> list[str]:
        """Acknowledged appends that are not there, are there twice, or are out of order."""
        complaints = []
        for key, numbers in self._appended.items():
            found = [int(word) for word in self._logs[key].split()]
            if found != sorted(set(found)):
                complaints.append(f"{key}: appended numbers are repeated or out of order")
            missing = {number for number, acknowledged in numbers if acknowledged} - set(found)
            if missing:
                shown = ", ".join(map(str, sorted(missing)[:5]))
                complaints.append(f"{key}: {len(missing)} acknowledged appends are missing: {shown} ...")
        return complaints

    def first_write_after(self, moment: float) -> float:
        """When the first write that was begun after this moment was acknowledged; 0 if none was."""
        return min((returned for returned, took in self.latencies if returned - took > moment), default=0.0)

    def last_second(self) -> tuple[float, float, float]:
        """Writes a second, p50 and p99 of their latency, over the last second."""
        since = self.now() - 1.0
        took: list[float] = []
        for returned, seconds in reversed(self.latencies):
            if returned < since:
                break
            took.append(seconds)
        took.sort()
        if not took:
            return 0.0, 0.0, 0.0
        return float(len(took)), took[len(took) // 2], took[len(took) * 99 // 100]


class Load:
    """So many clients at work until `stop`."""

    def __init__(self, ports: dict[int, int], clients: int, journal: Journal) -> None:
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=_Client(number, ports, journal, self._stopping).work, daemon=True)
            for number in range(clients)
        ]

    def stop(self) -> None:
        """Let every client finish what it is at."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=TIMEOUT * 3)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Client:
    """One thread. It stays with a node until that fails it, then goes to the next."""

    def __init__(self, number: int, ports: dict[int, int], journal: Journal, stopping: threading.Event) -> None:
        self._number = number
        self._ports = sorted(ports.values())
        self._journal = journal
        self._stopping = stopping
        self._random = Random(number)
        self._writes = 0

    def work(self) -> None:
        """Until told to stop."""
        turn = self._number
        while not self._stopping.is_set():
            port = self._ports[turn % len(self._ports)]
            turn += 1
            # No retries inside the client: each attempt must be in the journal with its own outcome.
            options = {"socket_timeout": TIMEOUT, "socket_connect_timeout": 0.5, "retry": None}
            with redis.Redis("127.0.0.1", port, decode_responses=True, **options) as client:  # type: ignore[arg-type]
                while not self._stopping.is_set() and self._step(client):
                    pass

    def _step(self, client: redis.Redis) -> bool:
        """One operation; whether to stay with this node."""
        draw = self._random.random()
        key = f"key:{self._random.randrange(SHARED_KEYS)}"
        if draw < 0.45:
            return self._write(client, key)
        if draw < 0.6:
            return self._append(client)
        called = self._journal.now()
        try:
            value = client.get(key)
        except redis.RedisError:
            self._stopping.wait(0.02)
            return False
        self._journal.read(self._number, key, str(value) if value is not None else None, called)
        return True

    def _write(self, client: redis.Redis, key: str) -> bool:
        self._writes += 1
        value = f"{self._number}.{self._writes}"
        called = self._journal.now()
        outcome = self._attempt(lambda: client.set(key, value))
        if outcome is not None:
            self._journal.wrote(self._number, key, value, called, self._journal.now() if outcome else inf)
        return bool(outcome)

    def _append(self, client: redis.Redis) -> bool:
        self._writes += 1
        number, key = self._writes, f"log:{self._number}"
        called = self._journal.now()
        outcome = self._attempt(lambda: client.append(key, f"{number} "))
        if outcome is not None:
            self._journal.appended(key, number, outcome)
            self._journal.wrote(self._number, key, None, called, self._journal.now() if outcome else inf)
        return bool(outcome)

    def _attempt(self, write: object) -> bool | None:
        """True: done. False: nobody knows. None: definitely not done."""
        try:
            write()  # type: ignore[operator]
        except redis.RedisError as error:
            self._stopping.wait(0.02)
            if str(error).startswith(DEFINITE) or "Connection refused" in str(error):
                self._journal.refused += 1
                return None
            return False
        return True
