"""Run distkit's peers on this machine: `python benchmarks/peers/run.py --seconds 3`. `--help` explains the options."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, this folder is not yet a package

from peers import PEERS, Failed, PeerMissing, measure


def main() -> int:
    options = _parse()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # leaves the blocks that remove everything
    failed = False
    for peer in options.peers:
        try:
            records = measure(peer, options.clients, options.seconds, tries=options.tries, directory=options.directory)
        except (PeerMissing, Failed) as problem:
            failed = True
            print(f"{peer}: {problem}", file=sys.stderr)
            continue
        for record in records:
            print(json.dumps(record) if options.json else _row(record), flush=True)
    return int(failed)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the peers of distkit with the load of its own benchmark.")
    parser.add_argument("--seconds", type=_seconds, default=3.0, help="of each load, at most 600 (default 3)")
    parser.add_argument(
        "--peers", type=_peers, default=list(PEERS), help=f"separated by commas (default {','.join(PEERS)})"
    )
    parser.add_argument("--clients", type=_counts, default=[1, 16, 64, 256], help="client counts (default 1,16,64,256)")
    parser.add_argument(
        "--tries", type=int, choices=range(1, 11), default=3, help="cold starts, fail-overs (default 3)"
    )
    parser.add_argument("--directory", type=Path, help="where the servers' data goes (default: beside this script)")
    parser.add_argument("--json", action="store_true", help='lines of {"name", "value", "unit", "params"}')
    return parser.parse_args()


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 600:
        raise argparse.ArgumentTypeError("more than 0 and at most 600")
    return value


def _counts(text: str) -> list[int]:
    counts = [int(word) for word in text.split(",")]
    if not all(1 <= count <= 1000 for count in counts):
        raise argparse.ArgumentTypeError("client counts are 1 to 1000")
    return counts


def _peers(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(PEERS)}")
    return names


def _row(record: dict[str, object]) -> str:
    params = record["params"]
    assert isinstance(params, dict)
    which = ("clients", "batch", "encode", "tries", "errors")
    detail = " ".join(f"{name}={params[name]}" for name in which if name in params)
    return f"{params['system']:<10} {record['name']:<15} {record['value']:>12,} {record['unit']:<4} {detail}"


if __name__ == "__main__":
    sys.exit(main())
