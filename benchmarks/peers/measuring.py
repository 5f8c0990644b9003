"""Every figure of one peer, as records that any benchmark can print beside its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from . import etcd_core
from .cluster import Cluster
from .distkit_kv import Distkit, DistkitTls
from .etcd import Etcd
from .machine import fdatasync_latency
from .programs import BUILD
from .pysync import PySyncObj
from .zookeeper import ZooKeeper

KV_PEERS: dict[str, type[Cluster]] = {"etcd": Etcd, "zookeeper": ZooKeeper, "pysyncobj": PySyncObj}
OURS: dict[str, type[Cluster]] = {"distkit": Distkit, "distkit-tls": DistkitTls}
PEERS = (*KV_PEERS, "etcd-core")

GET_CLIENTS = 64
WARM_UP = 3.0  # seconds at GET_CLIENTS clients: a JVM needs them to compile what it runs
IDLE = 1.0  # seconds of rest before memory is read

Record = dict[str, Any]


def measure(
    peer: str,
    clients: Sequence[int] = (1, 16, 64, 256),
    seconds: float = 3.0,
    *,
    size: int = 256,
    keys: int = 1000,
    tries: int = 3,
    directory: Path | None = None,
) -> list[Record]:
    """Run one of `PEERS` from a cold start to the last fail-over and return its figures.

    Each figure is a dict with the keys name, value, unit and params. A cluster gives

    - `cold_start` (s): from the first of three processes to the first acknowledged put, median of `tries`;
    - `rss_idle` (MiB): resident memory of a node after that, mean of the three;
    - for each of `clients`: `put` (1/s), `put_p50`, `put_p99` (ms), `put_cpu` (us a put, all three servers together);
    - `get`, `get_p50`, `get_p99`, `get_cpu` at 64 clients;
    - `fail_over` (s): from SIGKILL of the leader to the next acknowledged put, median of `tries`.

    etcd-core, which has no clients, gives `core_entries` (1/s, committed on all three) and `core_round_p50` (us) one at
    a time and in batches, with and without encoding every message.

    A load lasts `seconds`, after a warm-up, with values of `size` bytes and random ones of `keys` keys. `params` names
    system, version, clients and what a read promises, has the outcome of each of several tries, and `fdatasync_us`, the
    median just before on the disk of `directory`. That is by default the checkout's, since a temporary directory may be
    in memory. Nothing is left there.

    Raises `PeerMissing` when the peer is not installed and cannot be from here, `Failed` when it does not serve.
    """
    if peer not in PEERS:
        raise ValueError(f"unknown peer {peer!r}: choose from {', '.join(PEERS)}")
    if peer == "etcd-core":
        return _measure_core(seconds, size)
    started = []
    for _ in range(tries - 1):
        with open_cluster(peer, size=size, keys=keys, directory=directory) as (cluster, _params):
            started.append(cluster.cold_start())
    with open_cluster(peer, size=size, keys=keys, directory=directory) as (cluster, params):
        started.append(cluster.cold_start())
        records = [median_record("cold_start", started, params)]
        time.sleep(IDLE)
        records.append(record_of("rss_idle", statistics.mean(cluster.resident()) / 2**20, "MiB", params))
        cluster.load("fill", 16, seconds)
        cluster.load("put", GET_CLIENTS, WARM_UP)
        for count in clients:
            records += load_records(cluster, "put", count, seconds, params)
        if cluster.reads is not None:
            records += load_records(cluster, "get", GET_CLIENTS, seconds, params | {"reads": cluster.reads})
        records.append(median_record("fail_over", [cluster.fail_over() for _ in range(tries)], params))
    return records


@contextlib.contextmanager
def open_cluster(
    peer: str, *, size: int = 256, keys: int = 1000, directory: Path | None = None
) -> Iterator[tuple[Cluster, Record]]:
    """A cluster of one of `KV_PEERS` or `OURS`, which its `cold_start` starts, and the params of its figures.

    For a run that interleaves several systems: start them, then take turns with short `load`s. At the end of the block
    its processes are killed and its data is removed.
    """
    if directory is None:
        BUILD.mkdir(exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix=f"run-{peer}-", dir=directory or BUILD))
    try:
        with contextlib.closing((KV_PEERS | OURS)[peer](home, size, keys)) as cluster:
            params = {
                "system": peer,
                "version": cluster.version,
                "note": cluster.note,
                "connections": cluster.connections,
                "value_bytes": size,
                "keys": keys,
                "cpus": os.cpu_count(),
                "fdatasync_us": _fdatasync_us(home),
            }
            yield cluster, params
    finally:
        shutil.rmtree(home)


def load_records(cluster: Cluster, op: str, clients: int, seconds: float, params: Record) -> list[Record]:
    disk = _fdatasync_us(cluster.directory)  # again before each load: on a shared machine it wanders
    load = cluster.load(op, clients, seconds)
    params = params | {"clients": clients, "seconds": round(load.seconds, 2), "fdatasync_us": disk}
    if load.errors:
        params |= {"errors": load.errors, "error": load.error}
        print(f"{cluster.system}: {load.errors} errors, the first: {load.error}", file=sys.stderr)
    records = [
        record_of(op, load.ops / load.seconds, "1/s", params),
        record_of(f"{op}_p50", load.p50 * 1e3, "ms", params),
        record_of(f"{op}_p99", load.p99 * 1e3, "ms", params),
    ]
    if load.ops:
        records.append(record_of(f"{op}_cpu", load.cpu / load.ops * 1e6, "us", params))
    return records


def _measure_core(seconds: float, size: int) -> list[Record]:
    records = []
    for run in etcd_core.etcd_core(seconds, size):
        params = {
            "system": "etcd-core",
            "version": f"{etcd_core.version()}, {run['go']}",
            "note": "three nodes on one thread, no disk",
            "batch": run["batch"],
            "encode": run["encode"],
            "value_bytes": size,
            "cpus": os.cpu_count(),
        }
        records.append(record_of("core_entries", run["entries_per_second"], "1/s", params))
        records.append(record_of("core_round_p50", run["p50"] * 1e6, "us", params))
    return records


def _fdatasync_us(directory: Path) -> int:
    return round(fdatasync_latency(directory) * 1e6)


def median_record(name: str, seconds: Sequence[float], params: Record) -> Record:
    return record_of(name, statistics.median(seconds), "s", params | {"tries": [round(took, 3) for took in seconds]})


def record_of(name: str, value: float, unit: str, params: Record) -> Record:
    return {"name": name, "value": float(f"{value:.4g}"), "unit": unit, "params": params}
