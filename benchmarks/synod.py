"""How long does single-decree Paxos take to choose a value, three nodes in one process, one decision at a time?

No disk and no sockets, but the whole path otherwise: public doors only, each hop encodes its messages to bytes, checks
the crc and decodes; every write is reported durable before what waits for it leaves. A decision begins with `propose`
on nodes that have never heard of one another's ballots, so it takes both phases, and it ends when all three nodes have
delivered it. A synod decides once, so each decision has three machines of its own: making them is a figure by itself.

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
from distkit.core import Configuration, Member, Outcome, Output
from distkit.paxos import synod

#: Takes (name, value, unit, params).
Show = Callable[[str, float, str, dict[str, object]], None]

NODES = (1, 2, 3)
VALUE = b"12345678"
BATCH = 200


class Wire:
    """The bytes between three nodes: what one sends to another in one turn is one packet."""

    def __init__(self) -> None:
        self.registry = Registry(synod.MESSAGES)
        self.decoders = {(source, target): FrameDecoder(self.registry) for source in NODES for target in NODES}
        self.packets: dict[int, list[tuple[int, bytes]]] = {node: [] for node in NODES}
        self.messages = 0
        self.writes = 0


class Group:
    """The machines of one decision."""

    def __init__(self, configuration: synod.SynodConfiguration, wire: Wire, seed: int) -> None:
        records = synod.formation_records(configuration)
        self.wire = wire
        self.chosen: list[synod.Decided] = []
        self.outcomes: list[Outcome] = []
        self.machines = {
            node: synod.recover(
                records,
                node=node,
                incarnation=node,
                configuration=configuration,
                random=random.Random(seed + node),
                now=0.0,
            )
            for node in NODES
        }

    def decide(self, proposer: int, value: bytes) -> None:
        """Propose a value, and carry messages until nothing moves."""
        self.machines[proposer].propose(0.0, 1, value)
        packets = self.wire.packets
        decoders = self.wire.decoders
        nodes = list(self.machines.items())
        busy = True
        while busy:
            busy = False
            for node, machine in nodes:
                inbox = packets[node]
                if inbox:
                    packets[node] = []
                    for source, data in inbox:
                        decoder = decoders[source, node]
                        decoder.feed(data)
                        for _group, message in decoder:
                            machine.receive(0.0, source, message)
                output = machine.flush(0.0)
                while output is not None:
                    busy = True
                    output = machine.flush(0.0) if self.take(node, machine, output) else None

    def take(self, node: int, machine: synod.Synod, output: Output) -> bool:
        """The host's duties: send, write (here: durable at once), note what was decided; whether to flush again."""
        sends = output.sends
        for write in output.writes:
            machine.persisted(0.0, write.token)
            sends += write.then
            self.wire.writes += 1
        for target, message in sends:
            self.wire.packets[target].append((node, b"".join(self.wire.registry.encode_frame(message))))
        self.wire.messages += len(sends)
        self.chosen += output.delivers
        self.outcomes += [reply.outcome for reply in output.replies]
        return bool(output.writes)


def measure(seconds: float) -> tuple[float, float, float, float, float]:
    """Median seconds of a decision, and to make three machines; decisions a second; messages and writes for each."""
    members = tuple(Member(node, node, f"127.0.0.1:{7000 + node}") for node in NODES)
    configuration = synod.all_roles(Configuration(1, members))
    wire = Wire()
    times: list[float] = []
    made: list[float] = []
    while sum(times) < seconds:
        began = time.perf_counter()
        groups = [Group(configuration, wire, seed) for seed in range(BATCH)]
        made.append((time.perf_counter() - began) / BATCH)
        for group in groups:
            began = time.perf_counter()
            group.decide(1, VALUE)
            times.append(time.perf_counter() - began)
        for group in groups:
            assert group.outcomes == [Outcome.COMMITTED]
            assert [decided.value for decided in group.chosen] == [VALUE] * len(NODES)
    count = len(times)
    return (
        statistics.median(times),
        statistics.median(made),
        count / sum(times),
        wire.messages / count,
        wire.writes / count,
    )


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
    decision, making, rate, messages, writes = measure(arguments.seconds)
    show("synod_decision_p50", decision * 1e6, "us", params)
    show("synod_decisions", rate, "decisions/s", params)
    show("synod_messages", messages, "messages/decision", params)
    show("synod_writes", writes, "writes/decision", params)
    show("synod_machines_p50", making * 1e6, "us", params)
    return 0


def show_json(name: str, value: float, unit: str, params: dict[str, object]) -> None:
    """One JSON line."""
    print(json.dumps({"name": name, "value": round(value, 2), "unit": unit, "params": params}), flush=True)


def show_row(name: str, value: float, unit: str, params: dict[str, object]) -> None:
    """One row for people."""
    kernels = "compiled" if params["compiled"] else "pure"
    print(f"{params['case']:20} {name:20} {value:14,.2f} {unit:20} {kernels}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
