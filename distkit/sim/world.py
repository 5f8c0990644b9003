"""The world: hosts, the network between them, faults, clients, and virtual time, from one scenario.

    network     world.send -> DELIVER -> host.receive
    disk        host.start_disk -> DISK -> host.disk_done
    clock       host -> TIMER -> host.wake
    faults, clients, connections: events of their own

Nothing here knows a protocol: `system` makes the machines and judges them, see `distkit.sim.systems`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from distkit.core import PeerError
from distkit.sim.broken import Broken
from distkit.sim.chance import SECOND, stream
from distkit.sim.faults import Faults
from distkit.sim.host import IDLE, Host
from distkit.sim.network import Network
from distkit.sim.scenario import Scenario
from distkit.sim.systems import System
from distkit.sim.timeline import Timeline

#: Takes one event of a run, see `docs/testing.md`.
Trace = Callable[[dict[str, Any]], None]

#: How long an end needs to notice that the other is gone without a word.
_NOTICE: Final = SECOND // 2
_CONNECT: Final = SECOND // 100
#: Wall clocks are read so often; in between machines extrapolate.
_WALL: Final = SECOND
_GRIPS: Final = {
    "hold": "messages of one kind were held back",
    "echo": "messages of one kind came again and again",
    "mute": "messages of one kind never came",
}


class World:
    """One run. `start`, then `run` to some time, as often as wanted."""

    DELIVER, TIMER, FLUSH, DISK, CLAIM, REST, WALL, CONNECT, FAULT, CLIENT, WORK, ARRIVE = range(12)
    EPOCH_US: Final = 1_700_000_000_000_000

    def __init__(self, scenario: Scenario, system: System, trace: Trace | None = None, *, strict: bool = False) -> None:
        self.scenario = scenario
        self.system = system
        self.seed = scenario.seed
        self.trace = trace
        self.strict = strict  #: messages must come out of `receive` as they went in
        self.marks: Counter[str] = Counter()  #: rare things that happened
        self.timeline = Timeline(
            (
                self._deliver,
                lambda node, boot: self.hosts[node].timer(boot),
                lambda node, boot: self.hosts[node].late_flush(boot),
                lambda node, boot: self.hosts[node].disk_done(boot),
                lambda node, boot: self.hosts[node].claim(boot),
                lambda node, boot: self.hosts[node].rest(boot),
                self._read_walls,
                self._reconcile,
                lambda node, fault: self.faults.strike(fault),
                lambda node, what: self.clients.event(what),
                lambda node, work: work(),
                self._arrive,
            )
        )
        script = None
        if scenario.script is not None:
            script = {(each[0], each[1], each[2]): (each[3], each[4]) for each in scenario.script}
        self.network = Network(scenario.seed, scenario.nodes, scenario.network, script)
        self.workload = system.workload()
        self.oracle = system.oracle(self)
        self.hosts = {node: system.host(self, node) for node in range(1, scenario.nodes + 1)}
        self.clients = system.clients(self)
        self.faults = Faults(self)
        self._chance = stream(scenario.seed, "world")
        self._resets: Counter[frozenset[int]] = Counter()  # how often connections between two nodes were reset
        self._messages = 0

    def start(self) -> None:
        """Start every node, connect them, and set the faults and the calls."""
        for host in self.hosts.values():
            host.start()
        for node in self.hosts:
            for other in range(node + 1, len(self.hosts) + 1):
                self.timeline.after(int(self._chance.random() * _CONNECT), self.CONNECT, node, (other, "timeout"))
        self.timeline.at(_WALL, self.WALL, 0)
        for fault in self.scenario.faults:
            self.timeline.at(fault.time, self.FAULT, fault.node, fault)
        for call in self.scenario.calls:
            self.timeline.at(call.time, self.CLIENT, 0, call)

    def run(self, until: int, events_max: int) -> None:
        """Let time pass. Broken is raised by whoever finds something."""
        step = self.timeline.now
        while step < until:
            step = min(until, step + SECOND)
            if not self.timeline.run(step, events_max):
                raise Broken("progress", f"more than {events_max} events in a second: something runs in circles")
            for host in self.hosts.values():
                if host.up:
                    digest = host.guest.digest()
                    self.timeline.note(digest)
                    self.tell("state", host.id, digest=digest.hex())

    # -- messages -----------------------------------------------------------------------------------------------------

    def send(self, source: Host, target: int, message: Any) -> None:
        """A message leaves."""
        if target not in self.hosts or target == source.id:
            raise Broken("errors", f"node {source.id} sends {type(message).__name__} to node {target}")
        size = 0
        content = message
        if self.scenario.by_bytes:
            content = b"".join(self.system.registry.encode_frame(message))
            size = len(content)
        deliveries = self.network.send(self.timeline.now, source.id, target, content, size)
        number = 0
        if self.trace is not None:
            number = self._messages = self._messages + 1
            self.tell("send", source.id, to=target, id=number, **self.system.described(message))
            if not deliveries:
                reason = "cut" if (source.id, target) in self.network.cut else "loss"
                self.tell("drop", target, id=number, reason=reason)
        grips = self.network.grips
        if grips and deliveries and self._gripped((source.id, target), type(message).__name__, content, number):
            return
        for time, each in deliveries:
            self.timeline.at(time, self.DELIVER, target, (source.id, each, number))

    def _gripped(self, link: tuple[int, int], kind: str, content: Any, number: int) -> bool:
        """Whether somebody has hold of a message, so that it does not come now."""
        gripped = False
        for grip in self.network.grips:
            if grip.kind == kind and link in grip.links:
                self.marks[_GRIPS[grip.how]] += 1
                gripped = gripped or grip.how != "echo"
                for time in grip.times(self.timeline.now):
                    self.timeline.at(time, self.ARRIVE, link[1], (link[0], content, number))
        return gripped

    def _deliver(self, node: int, payload: tuple[int, Any, int]) -> None:
        source, _, number = payload
        host = self.hosts[node]
        if not host.up or (source, node) in self.network.cut:
            if self.trace is not None:
                self.tell("drop", node, id=number, reason="cut" if host.up else "down")
            return
        self._arrive(node, payload)

    def _arrive(self, node: int, payload: tuple[int, Any, int]) -> None:
        """A message comes to a node, if that is up."""
        source, content, number = payload
        host = self.hosts[node]
        if not host.up:
            return
        if type(content) is bytes:
            try:
                content = self.system.decode(content)
            except PeerError:
                self.marks["a damaged frame was refused"] += 1
                return
        if self.trace is not None:
            self.trace(
                {"time": self.timeline.now / SECOND, "event": "receive", "node": node, "from": source, "id": number}
            )
        if self.strict:
            self._receive_strictly(host, source, content)
        else:
            host.receive(source, content)

    def _receive_strictly(self, host: Host, source: int, message: Any) -> None:
        before = self.system.registry.encode_frame(message)
        host.receive(source, message)
        if self.system.registry.encode_frame(message) != before:
            raise Broken("mutation", f"node {host.id} changed the {type(message).__name__} that it received")

    def carry(self, source: Host, target: Host, item: Any, take: Callable[[Any], None]) -> None:
        """Send something over a connection of its own, of which the machines don't know: `take` gets it at the other
        end, once. If the connection breaks before, or one of the two processes does, nothing comes."""
        now, pair = self.timeline.now, frozenset((source.id, target.id))
        content, size = item, 0
        if self.scenario.by_bytes:
            content = b"".join(self.system.registry.encode_frame(item))
            size = len(content)
        arrival = self.network.carry(now, source.id, target.id, type(item).__name__, size)
        state = (source.boots, target.boots, self._resets[pair])

        def arrive() -> None:
            whole = source.up and target.up and state == (source.boots, target.boots, self._resets[pair])
            if whole and (source.id, target.id) not in self.network.cut:
                target.awake(lambda: take(self.system.decode(content) if type(content) is bytes else content))

        if arrival:
            self.timeline.at(arrival, self.WORK, target.id, arrive)

    # -- connections --------------------------------------------------------------------------------------------------

    def _reconcile(self, node: int, payload: tuple[int, str]) -> None:
        """See to it that two hosts know whether they are connected."""
        other, reason = payload
        pair = (self.hosts[node], self.hosts[other])
        cut = self.network.cut
        linked = all(host.up for host in pair) and (node, other) not in cut and (other, node) not in cut
        for one, two in (pair, pair[::-1]):
            if two.id in one.peers and (not linked or one.peers[two.id] != two.boots):
                del one.peers[two.id]
                one.input("lost", two.id, "reset" if linked else reason)  # a new start makes the old connection end
            if linked and two.id not in one.peers and one.up:
                one.peers[two.id] = two.boots
                one.input("connected", two.id)

    def reset(self, node: int, other: int) -> None:
        """The connections between two nodes break, and are made again."""
        self._resets[frozenset((node, other))] += 1
        for one, two in ((self.hosts[node], self.hosts[other]), (self.hosts[other], self.hosts[node])):
            if one.peers.pop(two.id, None) is not None:
                one.input("lost", two.id, "reset")
        self.connect(node, other)

    def connect(self, node: int, other: int, reason: str = "timeout", delay: int = _CONNECT) -> None:
        """Soon the two will know whether they are connected."""
        low, high = sorted((node, other))
        self.timeline.after(delay, self.CONNECT, low, (high, reason))

    def links_changed(self) -> None:
        """Links were cut or healed: after a while everybody knows."""
        for node in self.hosts:
            for other in range(node + 1, len(self.hosts) + 1):
                self.connect(node, other, delay=_NOTICE)

    def process_gone(self, host: Host, reset: bool) -> None:
        """A process died: its connections are reset, or go silent."""
        for other in self.hosts:
            if other != host.id:
                quick = int(self._chance.random() * _CONNECT)
                self.connect(host.id, other, "reset" if reset else "timeout", quick if reset else _NOTICE)

    def process_came(self, host: Host) -> None:
        """A process started: it connects to the others."""
        for other in self.hosts:
            if other != host.id:
                self.connect(host.id, other, delay=int(self._chance.random() * _CONNECT))

    # -- disks and clocks ---------------------------------------------------------------------------------------------

    def disk_rests(self, host: Host) -> None:
        """Nothing waits for the disk: look again in a moment."""
        if self.scenario.wal:
            self.timeline.after(IDLE, self.REST, host.id, host.boots)

    def resumed(self, host: Host) -> None:
        """A process goes on."""
        self.tell("resume", host.id)
        if host.id != self.oracle.leader() and self.oracle.led(host):
            self.marks["a leader was paused and another was elected"] += 1

    def damaged(self, host: Host, reason: str) -> None:
        """A node found that its disk is damaged. It must have been our doing."""
        if not host.rotten:
            raise Broken("disk", f"node {host.id} {reason}, but nothing on its disk was damaged")
        host.barred = reason
        self.marks["damage was found at the start"] += 1

    def _read_walls(self, node: int, payload: Any) -> None:
        for host in self.hosts.values():
            host.read_wall()
        self.timeline.after(_WALL, self.WALL, 0)

    # -- for people ---------------------------------------------------------------------------------------------------

    def tell(self, event: str, node: int, **fields: Any) -> None:
        """An event of the trace. `fields` may bring a time of their own."""
        if self.trace is not None:
            self.trace({"time": self.timeline.now / SECOND, "event": event, "node": node, **fields})
