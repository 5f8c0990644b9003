"""How fast, and with how much CPU, do three durable processes on loopback store values? distkit beside its peers.

    python benchmarks/kv_cluster.py                                 # distkit alone
    python benchmarks/kv_cluster.py --peers etcd,zookeeper          # interleaved with them: the README's table
    python benchmarks/kv_cluster.py --tls --json
    python benchmarks/kv_cluster.py --large                         # instead: snapshots of 2 million keys under load

All systems run at once and take turns with short loads, several rounds of them, so that a figure and its ratio come
from the same minutes; each is the median over the rounds. Values are 256 bytes, every put is on a majority of disks
(fdatasync) before it is answered, one reply per command, after apply. `put_cpu` is that of all three servers together;
`fail_over` and `fail_stop` are from SIGKILL and SIGSTOP of the leader to the next acknowledged put; `elections` is how
far the term rose under all loads, where nobody failed: it should be 0.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from kv_large import measure_large
from peers import KV_PEERS, Failed, PeerMissing, load_records, median_record, open_cluster, record_of
from peers.cluster import Cluster

GET_CLIENTS = 64
WARM_UP = 3.0
Clusters = dict[str, tuple[Cluster, dict[str, Any]]]
Figures = dict[tuple[str, str, int], list[dict[str, Any]]]  # (name, system, clients) -> a record a round


def main() -> int:
    """Measure and print."""
    options = _parse()
    systems = ["distkit", *(["distkit-tls"] if options.tls else []), *options.peers]
    figures: Figures = defaultdict(list)
    try:
        if options.large:
            _keep(figures, measure_large(options.keys, directory=options.directory))
            systems = ["distkit"]
        else:
            _measure(systems, options, figures)
    except (PeerMissing, Failed) as problem:
        print(problem, file=sys.stderr)
        return 1
    if options.json:
        for records in figures.values():
            print(json.dumps(_middle(records)))
    else:
        _print_table(figures, systems)
    return 0


def _measure(systems: list[str], options: argparse.Namespace, figures: Figures) -> None:
    for system in systems:
        _keep(figures, [_cold_start(system, options)])
    with contextlib.ExitStack() as stack:
        clusters = {
            system: stack.enter_context(open_cluster(system, directory=options.directory)) for system in systems
        }
        for cluster, params in clusters.values():
            cluster.cold_start()
            time.sleep(1.0)
            _keep(figures, [record_of("rss_idle", statistics.mean(cluster.resident()) / 2**20, "MiB", params)])
            cluster.load("fill", 16, 1.0)
            cluster.load("put", GET_CLIENTS, WARM_UP)
        terms = {system: cluster.term() for system, (cluster, _params) in clusters.items()}
        for _ in range(options.rounds):
            _take_turns(clusters, options, figures)
        for system, (cluster, params) in clusters.items():
            before, after = terms[system], cluster.term()
            if before is not None and after is not None:
                _keep(figures, [record_of("elections", after - before, "1", params)])
            for name, sign in (("fail_over", signal.SIGKILL), ("fail_stop", signal.SIGSTOP)):
                took = [cluster.fail_over(sign) for _ in range(options.tries)]
                _keep(figures, [median_record(name, took, params)])


def _take_turns(clusters: Clusters, options: argparse.Namespace, figures: Figures) -> None:
    for clients in options.clients:
        for cluster, params in clusters.values():
            _keep(figures, load_records(cluster, "put", clients, options.seconds, params))
    for cluster, params in clusters.values():
        if cluster.reads is not None:
            reads = params | {"reads": cluster.reads}
            _keep(figures, load_records(cluster, "get", GET_CLIENTS, options.seconds, reads))


def _cold_start(system: str, options: argparse.Namespace) -> dict[str, Any]:
    took = []
    for _ in range(options.tries):
        with open_cluster(system, directory=options.directory) as (cluster, params):
            took.append(cluster.cold_start())
    return median_record("cold_start", took, params)


def _keep(figures: Figures, records: list[dict[str, Any]]) -> None:
    for record in records:
        params = record["params"]
        figures[record["name"], params["system"], params.get("clients", 0)].append(record)


def _middle(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The median over the rounds, with the extremes beside it; other params are those of the last round."""
    values = [record["value"] for record in records]
    params = records[-1]["params"] | {"min": min(values), "max": max(values), "rounds": len(values)}
    return records[-1] | {"value": float(f"{statistics.median(values):.4g}"), "params": params}


def _print_table(figures: Figures, systems: list[str]) -> None:
    print(f"{'':22}" + "".join(f"{system:>16}" for system in systems) + f"{'best peer':>16}")
    rows = sorted({(name, clients) for name, _system, clients in figures}, key=_order)
    for name, clients in rows:
        values = {
            system: _middle(figures[name, system, clients])["value"]
            for system in systems
            if (name, system, clients) in figures
        }
        unit = next(iter(figures[name, system, clients][0]["unit"] for system in values))
        label = f"{name} {clients or ''}".strip() + f" [{unit}]"
        cells = "".join(f"{values[system]:>16,}" if system in values else f"{'-':>16}" for system in systems)
        print(f"{label:22}{cells}{_ratio(name, values):>16}")


def _ratio(name: str, values: dict[str, float]) -> str:
    """How many times better than the best peer: above 1 is better, whatever the unit."""
    peers = [value for system, value in values.items() if system in KV_PEERS and value > 0]
    own = values.get("distkit")
    if not peers or not own:
        return ""
    more_is_better = name in ("put", "get")
    ratio = own / max(peers) if more_is_better else min(peers) / own
    return f"x {ratio:.2f}"


def _order(row: tuple[str, int]) -> tuple[int, str, int]:
    name, clients = row
    names = ["put", "put_p50", "put_p99", "put_cpu", "get", "get_p50", "get_p99", "get_cpu"]
    return (names.index(name) if name in names else len(names), name, clients)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=_names, default=[], help=f"separated by commas: {','.join(KV_PEERS)}")
    parser.add_argument("--clients", type=_counts, default=[1, 16, 64, 256], help="client counts (default 1,16,64,256)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each load (default 2)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each system at each load (default 3)")
    parser.add_argument("--tries", type=int, default=3, help="cold starts and fail-overs (default 3)")
    parser.add_argument("--tls", action="store_true", help="distkit with mutual TLS, too")
    parser.add_argument(
        "--large", action="store_true", help="measure snapshots of a large state instead, distkit alone"
    )
    parser.add_argument("--keys", type=int, default=2_000_000, help="with --large: how many (default 2000000)")
    parser.add_argument("--directory", type=Path, help="where the servers' data goes (default: beside the peers)")
    parser.add_argument("--json", action="store_true", help='lines of {"name", "value", "unit", "params"}')
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in KV_PEERS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(KV_PEERS)}")
    return names


def _counts(text: str) -> list[int]:
    counts = [int(word) for word in text.split(",")]
    if not all(1 <= count <= 1000 for count in counts):
        raise argparse.ArgumentTypeError("client counts are 1 to 1000")
    return counts


if __name__ == "__main__":
    sys.exit(main())
