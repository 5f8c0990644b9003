"""Small machines that run in the simulator, so that tests see what a host, a network and clients do with a machine.

`Toys` is a system whose machines are made by the test. Its oracle and its machines write all that happens into
`diary`: (true time in nanoseconds, what, node, more ...). `ToyMachine` does nothing of itself; tests derive from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import inf
from typing import Any

from distkit.codec import FrameDecoder, Registry
from distkit.core import Output, PeerError, Space, Write, record
from distkit.sim import Call, Fault, Outcome, Scenario, Workload, run
from distkit.sim.chance import SECOND
from distkit.sim.clients import Clients
from distkit.sim.disks import RecordDisk
from distkit.sim.host import Host
from distkit.sim.network import NetworkOptions
from distkit.sim.scenario import DiskOptions

MS = SECOND // 1000


@record
class Note:
    """A message, and a record on the disk."""

    number: int
    data: bytes


#: Long enough that a run of a toy ends before it heals, for those who look at `diary` up to `seconds`.
SCENARIO = Scenario(
    "toy", 1, 2, 1.0, eager=1.0, network=NetworkOptions(delay_min=MS, delay_mean=0), disk=DiskOptions(MS, 0)
)


class ToyMachine:
    """Takes what comes, and gives what the test put into `sends` and `records` (with `then`)."""

    loading = False

    def __init__(self, toys: Toys, host: Host, records: list[Any], now: float) -> None:
        self.toys = toys
        self.host = host
        self.node = host.id
        self.boot = host.boots
        self.recovered = records
        self.token = 0
        self.sends: list[tuple[int, Any]] = []
        self.records: list[Any] = []
        self.then: list[tuple[int, Any]] = []
        self.replies: list[Any] = []
        self.effects: list[Callable[[], None]] = []  # what the guest does before it hands out replies
        self.due = inf
        self.begin(now)

    def begin(self, now: float) -> None:
        """What a test wants done at the start."""

    def told(self, what: str, now: float, *more: Any) -> None:
        self.toys.write(what, self.node, now, *more)

    def receive(self, now: float, source: int, message: Any) -> None:
        self.told("receive", now, source, message)

    def connected(self, now: float, peer: int) -> None:
        self.told("connected", now, peer)

    def lost(self, now: float, peer: int, reason: str) -> None:
        self.told("lost", now, peer, reason)

    def persisted(self, now: float, token: int) -> None:
        self.told("persisted", now, token)

    def storage(self, now: float, space: Space) -> None:
        self.told("storage", now, space)

    def tick(self, now: float) -> None:
        self.told("tick", now)
        self.due = inf

    def deadline(self) -> float:
        return self.due

    def flush(self, now: float) -> Output | None:
        writes: tuple[Write, ...] = ()
        if self.records or self.then:
            self.token += 1
            writes = (Write(self.token, tuple(self.records), tuple(self.then)),)
        output = Output(tuple(self.sends), writes, (), tuple(self.replies))
        for each in (self.sends, self.records, self.then, self.replies):
            each.clear()
        self.told("flush", now)
        return output if self.effects or output != Output((), (), (), ()) else None


class ToyGuest:
    def __init__(self, machine: ToyMachine) -> None:
        self.machine: Any = machine
        self.application: Any = machine.toys.application
        self.tickets: set[int] = set()

    def take(self, output: Output) -> None:
        effects, self.machine.effects = self.machine.effects, []
        for effect in effects:
            effect()
        for reply in output.replies:
            self.tickets.discard(reply.ticket)
            self.machine.host.world.clients.replied(self, reply)

    def digest(self) -> bytes:
        return b"%d %d" % (self.machine.boot, self.machine.token)


class ToyOracle:
    """Writes down what it is told."""

    def __init__(self, toys: Toys) -> None:
        self.toys = toys

    def booted(self, host: Host, records: Iterable[Any]) -> None:
        self.toys.write("booted", host.id, tuple(records))

    def crashed(self, host: Host) -> None:
        self.toys.write("crashed", host.id)

    def flushed(self, host: Host, output: Any) -> None:
        self.toys.write("flushed", host.id, output)

    def seen(self, host: Host) -> None:
        pass

    def left(self, host: Host, target: int, message: Any, held: bool) -> None:
        self.toys.write("left", host.id, target, message, held)

    def superseded(self, content: bytes) -> None:
        pass

    def durable(self, host: Host, done: Iterable[Write]) -> None:
        self.toys.write("durable", host.id, tuple(done))

    def leader(self) -> int:
        return self.toys.leader

    def led(self, host: Host) -> bool:
        return host.id == self.toys.leader

    def settled(self) -> str:
        return self.toys.unsettled

    def finish(self) -> None:
        self.toys.write("finish", 0)


class ToyWorkload(Workload):
    def calls(self, random: Any, nodes: int, seconds: float, clients: int, count: int) -> tuple[Call, ...]:
        return ()

    def command(self, call: Call, random: Any) -> bytes:
        return f"{call.kind} {call.key} {call.value}".encode()

    def last_calls(self, calls: Any, nodes: Any, time: int) -> list[Call]:
        return []


class Toys:
    """A system of machines that the test makes, see the module."""

    def __init__(
        self,
        machine: Callable[[Toys, Host, list[Any], float], ToyMachine] = ToyMachine,
        workload: Callable[[], Workload] = ToyWorkload,
        disk: Callable[[], Any] = RecordDisk,
    ) -> None:
        self.machine = machine
        self.workload = workload
        self.disk = disk
        self.registry = Registry([(500, Note, "number:u64 data:bytes")])
        self.diary: list[tuple[Any, ...]] = []
        self.leader = 0
        self.unsettled = ""
        self.application: Any = None
        self.hosts: dict[int, Host] = {}
        self.world: Any = None

    def write(self, what: str, node: int, *more: Any) -> None:
        self.diary.append((self.world.timeline.now, what, node, *more))

    def told(self, what: str, node: int = 0) -> list[tuple[Any, ...]]:
        """Entries of one kind, of one node, without the kind and the node."""
        return [(each[0], *each[3:]) for each in self.diary if each[1] == what and node in (0, each[2])]

    def run(self, scenario: Scenario = SCENARIO, *, strict: bool = False, **changes: Any) -> Outcome:
        """One run, from an empty diary."""
        self.diary.clear()
        return run(replace(scenario, **changes), system=self, strict=strict)

    # -- what `distkit.sim.systems.System` asks for

    def host(self, world: Any, node: int) -> Host:
        self.world = world
        disk = self.disk()
        disk.form(())
        self.hosts[node] = Host(world, node, 100 + node, disk)
        return self.hosts[node]

    def clients(self, world: Any) -> Clients:
        return Clients(world)

    def options(self, random: Any, tiny: bool) -> tuple[tuple[str, float], ...]:
        return ()

    def aim(self, random: Any, scenario: Scenario) -> Scenario:
        return scenario

    def oracle(self, world: Any) -> ToyOracle:
        return ToyOracle(self)

    def boot(self, host: Host, records: list[Any], now: float) -> ToyGuest:
        return ToyGuest(self.machine(self, host, records, now))

    def gone(self, host: Host, guest: ToyGuest | None) -> None:
        if guest is not None:
            host.world.clients.lost(guest.tickets)

    def wiped(self, world: Any, host: Host) -> None:
        self.write("wiped", host.id)

    def decode(self, data: bytes) -> Any:
        decoder = FrameDecoder(self.registry)
        decoder.feed(data)
        messages = [message for _, message in decoder]
        if len(messages) != 1:
            raise PeerError("not one frame")
        return messages[0]

    def described(self, message: Any) -> dict[str, Any]:
        return {"message": type(message).__name__, "term": 0, "detail": ""}


def fault(kind: str, milliseconds: int, node: int = 1, seconds: float = 0.0, detail: str = "") -> Fault:
    return Fault(milliseconds * MS, kind, node, seconds, detail)
