"""One PySyncObj member: `pysyncobj_node.py DIRECTORY ADDRESS OTHER OTHER`.

Runs commands, each a line of JSON on its input, and answers each with a line of JSON.
"""

import json
import pathlib
import random
import sys
import threading
import time

from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated  # type: ignore[import-not-found]

PROBE_INTERVAL = 0.01


class Store(SyncObj):  # type: ignore[misc]
    def __init__(self, directory: pathlib.Path, address: str, others: list[str]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.values: dict[str, bytes] = {}
        conf = SyncObjConf(
            journalFile=str(directory / "journal"),
            fullDumpFile=str(directory / "dump"),
            appendEntriesUseBatch=False,  # else a lone put waits for the next tick: ten a second
        )
        super().__init__(address, others, conf)

    @replicated  # type: ignore[untyped-decorator]
    def put(self, key: str, value: bytes) -> None:
        self.values[key] = value


class Slots:
    """`clients` puts under way at any time: each acknowledgement starts the next one, until the time is up."""

    def __init__(self, store: Store, clients: int, seconds: float, size: int, keys: int) -> None:
        self._store = store
        self._names = [f"key:{n:012}" for n in range(keys)]
        self._value = bytes(size)
        self._random = random.Random(0)
        self._left = clients
        self._over = threading.Event()
        self.latencies: list[float] = []
        self.errors: list[str] = []
        self._begin = time.perf_counter()
        self._deadline = self._begin + seconds
        for _ in range(clients):
            self._next()
        self._over.wait(seconds + 30)
        self.seconds = time.perf_counter() - self._begin

    def _next(self) -> None:
        start = time.perf_counter()
        self._store.put(
            self._random.choice(self._names), self._value, callback=lambda _, error: self._done(start, error)
        )

    def _done(self, start: float, error: int) -> None:
        now = time.perf_counter()
        if error == FAIL_REASON.SUCCESS:
            self.latencies.append(now - start)
        else:
            self.errors.append(f"FAIL_REASON {error}")
        if now < self._deadline:
            self._next()
            return
        self._left -= 1
        if self._left == 0:
            self._over.set()


def load(store: Store, clients: int, seconds: float, size: int, keys: int) -> dict[str, object]:
    run = Slots(store, clients, seconds, size, keys)
    latencies = sorted(run.latencies)
    return {
        "ops": len(latencies),
        "seconds": run.seconds,
        "p50": latencies[len(latencies) // 2] if latencies else 0.0,
        "p99": latencies[len(latencies) * 99 // 100] if latencies else 0.0,
        "errors": len(run.errors),
        "error": run.errors[0] if run.errors else "",
    }


def probe(store: Store, seconds: float, size: int) -> dict[str, object]:
    """Start a put every PROBE_INTERVAL, whatever became of the earlier ones, until one is acknowledged."""
    begin = time.perf_counter()
    acknowledged = threading.Event()
    took = [seconds]

    def done(_: object, error: int) -> None:
        if error == FAIL_REASON.SUCCESS and not acknowledged.is_set():
            took[0] = time.perf_counter() - begin
            acknowledged.set()

    while not acknowledged.is_set() and time.perf_counter() - begin < seconds:
        store.put("key:000000000000", bytes(size), callback=done)
        acknowledged.wait(PROBE_INTERVAL)
    missed = not acknowledged.is_set()
    error = f"no put acknowledged within {seconds} s" if missed else ""
    return {"ops": 1, "seconds": took[0], "p50": 0.0, "p99": 0.0, "errors": int(missed), "error": error}


def main() -> None:
    directory, address, *others = sys.argv[1:]
    store = Store(pathlib.Path(directory), address, others)
    for line in sys.stdin:
        command = json.loads(line)
        op = command.pop("op")
        if op == "leader":
            answer: object = store._isLeader()
        elif op == "probe":
            answer = probe(store, command["seconds"], command["size"])
        else:  # put, and fill: random puts do as well where nothing is read
            answer = load(store, **command)
        print(json.dumps(answer), flush=True)
    store.destroy()


main()
