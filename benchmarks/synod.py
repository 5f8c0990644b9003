"""How long does single-decree Paxos take to choose a value, three nodes in one process, one decision at a time?

No disk and no sockets, but the whole path otherwise: public doors only, each hop encodes its messages to bytes, checks
the crc and decodes; every write is reported durable before what waits for it leaves. A decision begins with `propose`
on nodes that have never heard of one another's ballots, so it takes both phases. `synod_decision_p50` ends when the
proposer has its reply, `synod_known_p50` when all three nodes have delivered the value and have it on their disks. A
synod decides once, so each decision has three machines of its own: making them is a figure by itself.

    python benchmarks/synod.py [--seconds 3] [--json]
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

import distkit
from distkit.codec import FrameDecoder, Registry
from distkit.core import Configuration, Member, Outcome
from distkit.core.machine import Send
from distkit.paxos import synod

#: Takes (name, value, unit, params).
Show = Callable[[str, float, str, dict[str, object]], None]

#: By name of a figure: it should be at most so much, with compiled kernels.
GOALS = {"synod_decision_p50": 60.0}

NODES = (1, 2, 3)
VALUE = b"12345678"


class Host:
    """One node's doors to the others as bytes, for one machine after the other."""

    def __init__(self, node: int, registry: Registry) -> None:
        self.node = node
        self.encode = registry.encode_frame
        self.decoders = {peer: FrameDecoder(registry) for peer in NODES if peer != node}
        self.peers: dict[int, Host] = {}
        self.inbox: list[tuple[int, bytes]] = []
        self.machine: synod.Synod
        self.chosen: list[synod.Decided] = []
        self.replied = 0.0
        self.messages = 0
        self.writes = 0

    def receive(self) -> None:
        """Decode and take everything that arrived."""
        receive = self.machine.receive
        for source, data in self.inbox:
            decoder = self.decoders[source]
            decoder.feed(data)
            for _group, message in decoder:
                receive(0.0, source, message)
        self.inbox.clear()

    def turn(self) -> None:
        """A host's duties: send, write (here: durable at once), note what was decided, until nothing is left."""
        machine = self.machine
        output = machine.flush(0.0)
        while output is not None:
            if output.replies:
                assert output.replies[0].outcome is Outcome.COMMITTED
                self.replied = time.perf_counter()
            if output.delivers:
                self.chosen += output.delivers
            if output.sends:
                self.send(output.sends)
            for write in output.writes:
                self.writes += 1
                machine.persisted(0.0, write.token)
                if write.then:
                    self.send(write.then)
            output = machine.flush(0.0)

    def send(self, sends: tuple[Send, ...]) -> None:
        """Send messages; one that goes to several peers is encoded once."""
        last, data = None, b""
        for target, message in sends:
            if message is not last:
                last, data = message, b"".join(self.encode(message))
            self.peers[target].inbox.append((self.node, data))
        self.messages += len(sends)


def connected_hosts() -> list[Host]:
    """Three nodes that can hear one another."""
    registry = Registry(synod.MESSAGES)
    hosts = {node: Host(node, registry) for node in NODES}
    for host in hosts.values():
        host.peers = hosts
    return list(hosts.values())


def decide(hosts: list[Host], value: bytes) -> tuple[float, float]:
    """Propose a value at the first and carry messages until nothing moves; seconds to the reply, and until all know."""
    proposer = hosts[0]
    began = time.perf_counter()
    proposer.machine.propose(0.0, 1, value)
    proposer.turn()
    busy = True
    while busy:
        busy = False
        for host in hosts:
            if host.inbox:
                busy = True
                host.receive()
                host.turn()
    return proposer.replied - began, time.perf_counter() - began


def measure(seconds: float) -> dict[str, tuple[float, str]]:
    """The figures, with their units."""
    members = tuple(Member(node, node, f"127.0.0.1:{7000 + node}") for node in NODES)
    configuration = synod.all_roles(Configuration(1, members))
    hosts = connected_hosts()
    replied: list[float] = []
    known: list[float] = []
    made: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        for host in hosts:
            host.chosen = []
            host.machine = synod.recover(
                synod.formation_records(configuration),
                node=host.node,
                incarnation=host.node,
                configuration=configuration,
                random=random.Random(host.node),
                now=0.0,
            )
        made.append(time.perf_counter() - began)
        to_reply, to_all = decide(hosts, VALUE)
        replied.append(to_reply)
        known.append(to_all)
        assert [[decided.value for decided in host.chosen] for host in hosts] == [[VALUE]] * len(NODES)
    count = len(known)
    return {
        "synod_decision_p50": (statistics.median(replied) * 1e6, "us"),
        "synod_known_p50": (statistics.median(known) * 1e6, "us"),
        "synod_decisions": (count / sum(known), "decisions/s"),
        "synod_messages": (sum(host.messages for host in hosts) / count, "messages/decision"),
        "synod_writes": (sum(host.writes for host in hosts) / count, "writes/decision"),
        "synod_machines_p50": (statistics.median(made) * 1e6, "us"),
    }


def main() -> int:
    """Run the case and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="time for the case")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    arguments = parser.parse_args()
    params: dict[str, object] = {
        "system": "distkit",
        "distkit": distkit.__version__,
        "python": platform.python_version(),
        "compiled": distkit.COMPILED,
        "nodes": len(NODES),
        "value_bytes": len(VALUE),
        "case": "one at a time",
    }
    show: Show = show_json if arguments.json else show_row
    if not arguments.json:
        print(", ".join(f"{name} {value}" for name, value in params.items()))
    for name, (value, unit) in measure(arguments.seconds).items():
        show(name, value, unit, params | ({"goal_max": GOALS[name]} if name in GOALS else {}))
    return 0


def show_json(name: str, value: float, unit: str, params: dict[str, object]) -> None:
    """One JSON line."""
    print(json.dumps({"name": name, "value": round(value, 2), "unit": unit, "params": params}), flush=True)


def show_row(name: str, value: float, unit: str, params: dict[str, object]) -> None:
    """One row for people."""
    goal = f"goal: at most {params['goal_max']:g}" if "goal_max" in params else ""
    print(f"{name:20} {value:14,.2f} {unit:20} {goal}".rstrip(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
