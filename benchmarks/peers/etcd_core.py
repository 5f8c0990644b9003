"""etcd's Raft library alone: three nodes in one Go process, no disk and no sockets."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from .machine import Failed
from .programs import go_build, package_version, require

_RUNS = 4


def etcd_core(seconds: float, size: int) -> list[dict[str, Any]]:
    """What go/etcd_core.go prints of each run: batch, encode, entries_per_second, p50 and p99 (seconds), go."""
    require(
        {
            "golang-go": "/usr/bin/go",
            "golang-etcd-server-dev": "/usr/share/gocode/src/go.etcd.io/etcd/raft",
        }
    )
    argv = [str(go_build("etcd-core", "etcd_core.go")), f"-seconds={seconds}", f"-size={size}"]
    limit = _RUNS * seconds + 60
    done = subprocess.run(argv, capture_output=True, text=True, timeout=limit, check=False)
    if done.returncode != 0:
        raise Failed(f"etcd-core failed: {done.stderr[-500:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def version() -> str:
    return f"etcd raft {package_version('golang-etcd-server-dev')}"
