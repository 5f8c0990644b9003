"""How many entries and rounds a second does the Raft machine commit, three voters in one process?

No disk and no sockets, but the whole path otherwise: public doors only, each hop encodes its messages to bytes, checks
the crc and decodes; three own logs; every committed entry is passed to an apply call on each of the three nodes.

    python benchmarks/raft_core.py [--seconds 3] [--peers] [--json]

With --peers etcd's Raft library runs the same in the same minute, and each of its cases is printed with the ratio.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable

from peers import Failed, PeerMissing
from peers import measure as measure_peer

import distkit
from distkit.codec import FrameDecoder, Registry
from distkit.core import Configuration, Member, Outcome, Output, RoleName, Span
from distkit.raft import MESSAGES, PARTS, Raft, RaftOptions, formation_records, recover

#: Takes (name, value, unit, params).
Show = Callable[[str, float, str, dict[str, object]], None]

VOTERS = (1, 2, 3)
ENTRY = b"x" * 256
APPLY_BYTES = 64 << 10
KEEP_ENTRIES = RaftOptions().keep_entries


class Node:
    """A machine, its three doors as bytes, and an application that looks at every entry."""

    def __init__(self, node: int, configuration: Configuration, registry: Registry) -> None:
        self.registry = registry
        self.machine: Raft = recover(
            formation_records(configuration), node=node, incarnation=node, random=random.Random(node), now=0.0
        )
        self.decoders = {peer: FrameDecoder(registry, 8 << 20) for peer in VOTERS if peer != node}
        self.inbox: list[tuple[int, bytes]] = []
        self.applied = 0

    def apply(self, index: int, payload: bytes) -> None:
        """What an application would do with one entry."""
        self.applied = index

    def apply_span(self, first: int, last: int) -> None:
        """Read committed entries within a byte budget, as a host does, and apply them one by one."""
        window, apply = self.machine.window, self.apply
        while first <= last:
            entries = window.entries(first, last, APPLY_BYTES)
            for index, _term, _time_us, _kind, payload in entries:
                apply(index, payload)
            first = index + 1

    def receive(self, now: float) -> None:
        """Decode and take everything that arrived."""
        inbox, self.inbox = self.inbox, []
        for source, data in inbox:
            decoder = self.decoders[source]
            decoder.feed(data)
            for _group, message in decoder:
                self.machine.receive(now, source, message)


class Cluster:
    """Three nodes and the wire between them."""

    def __init__(self) -> None:
        configuration = Configuration(1, tuple(Member(node, node, f"127.0.0.1:{7000 + node}") for node in VOTERS))
        registry = Registry(MESSAGES, parts=PARTS)
        self.nodes = {node: Node(node, configuration, registry) for node in VOTERS}
        self.now = 0.0
        self.committed = 0
        while not any(node.machine.role is RoleName.LEADER for node in self.nodes.values()):
            self.now = min(node.machine.deadline() for node in self.nodes.values())
            for node in self.nodes.values():
                node.machine.tick(self.now)
            self.settle()
        self.leader = next(node.machine for node in self.nodes.values() if node.machine.role is RoleName.LEADER)

    def settle(self) -> None:
        """Flush and deliver until nothing moves."""
        nodes = list(self.nodes.items())
        busy = True
        while busy:
            busy = False
            for source, node in nodes:
                if node.inbox:
                    node.receive(self.now)
                output = node.machine.flush(self.now)
                while output is not None:
                    busy = True
                    again = self.take(source, node, output)
                    output = node.machine.flush(self.now) if again else None

    def take(self, source: int, node: Node, output: Output) -> bool:
        """The host's duties: send, write (here: durable at once), apply, count replies; whether to flush again."""
        sends = output.sends
        for write in output.writes:
            node.machine.persisted(self.now, write.token)
            sends += write.then
        for target, message in sends:
            self.nodes[target].inbox.append((source, b"".join(node.registry.encode_frame(message))))
        for deliver in output.delivers:
            if type(deliver) is Span:
                node.apply_span(deliver.lo + 1, deliver.hi)
                node.machine.applied(self.now, deliver.hi)
        for reply in output.replies:
            assert reply.outcome is Outcome.COMMITTED, reply
            self.committed += reply.index - reply.first + 1
        return bool(output.writes)

    def compact(self) -> None:
        """Keep as many entries as a node keeps below its snapshot by default; not part of what is measured."""
        for node in self.nodes.values():
            window = node.machine.window
            window.compact(max(window.base_index, node.machine.applied_index - KEEP_ENTRIES))


def measure(entries: int, calls: int, seconds: float) -> tuple[float, float]:
    """(committed entries a second, median seconds of a round) with `calls` proposals of `entries` entries a round."""
    cluster = Cluster()
    commands = [ENTRY] * entries
    rounds: list[float] = []
    ticket = 0
    spent = 0.0
    while spent < seconds:
        began = time.perf_counter()
        for _ in range(calls):
            ticket += 1
            cluster.leader.propose(cluster.now, ticket, commands)
        cluster.settle()
        rounds.append(time.perf_counter() - began)
        spent += rounds[-1]
        cluster.compact()
    assert cluster.committed == ticket * entries
    cluster.now += 1.0  # the commit notice: followers learn the last commit index
    cluster.leader.tick(cluster.now)
    cluster.settle()
    assert {node.applied for node in cluster.nodes.values()} == {ticket * entries + 1}
    return cluster.committed / spent, statistics.median(rounds)


def main() -> int:
    """Run the cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each case")
    parser.add_argument("--peers", action="store_true", help="etcd's Raft library too (Go: benchmarks/README.md)")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    arguments = parser.parse_args()
    params = {
        "system": "distkit",
        "distkit": distkit.__version__,
        "python": platform.python_version(),
        "compiled": distkit.COMPILED,
        "voters": len(VOTERS),
        "entry_bytes": len(ENTRY),
    }
    rates: dict[int, float] = {}
    show: Show = show_json if arguments.json else show_row
    for name, entries, calls in (
        ("one at a time", 1, 1),
        ("64 in one call", 64, 1),
        ("256 in one call", 256, 1),
        ("256 in one call, 16 calls in flight", 256, 16),
    ):
        rate, round_p50 = measure(entries, calls, arguments.seconds)
        case = {**params, "case": name, "entries_a_call": entries, "calls_in_flight": calls}
        show("core_entries", rate, "entries/s", case)
        show("core_round_p50", round_p50 * 1e6, "us", case)
        if calls == 1:
            rates[entries] = rate
    if arguments.peers:
        try:
            compare(rates, arguments.seconds, show)
        except (PeerMissing, Failed) as problem:
            print(problem, file=sys.stderr)
            return 1
    return 0


def compare(
    rates: dict[int, float], seconds: float, show: Callable[[str, float, str, dict[str, object]], None]
) -> None:
    """Run etcd's Raft library. `rates` are ours, by entries a call; `core_ratio` is ours by its rate with encoding."""
    for record in measure_peer("etcd-core", seconds=seconds, size=len(ENTRY)):
        params = record["params"]
        encoded = "encoded" if params["encode"] else "not encoded"
        case = {**params, "case": f"etcd-core, {params['batch']} in one call, {encoded}"}
        show(record["name"], record["value"], record["unit"], case)
        if record["name"] == "core_entries" and params["encode"] and params["batch"] in rates:
            show("core_ratio", rates[params["batch"]] / record["value"], "times", case)


def show_json(name: str, value: float, unit: str, params: dict[str, object]) -> None:
    """One JSON line."""
    print(json.dumps({"name": name, "value": round(value, 2), "unit": unit, "params": params}), flush=True)


def show_row(name: str, value: float, unit: str, params: dict[str, object]) -> None:
    """One row for people."""
    kernels = "" if "compiled" not in params else "compiled" if params["compiled"] else "pure"
    print(f"{params['case']:40} {name:16} {value:14,.2f} {unit:10} {kernels}".rstrip(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
