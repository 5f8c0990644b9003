"""Single-decree Paxos in the simulator: nodes with any roles choose one value, by quorums that the scenario names.

A run is short and crowded: everything that matters happens before the value is chosen, so `aim` moves calls and faults
to where they meet. Some runs are about progress instead: duels that only back-off can end, and messages that nobody
sends again unless a connection is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Any, Final

from distkit.codec import Registry
from distkit.core import Configuration, LocalError, Member, Output, StorageError
from distkit.log import WalOptions
from distkit.paxos.ballot import make_ballot, node_of, round_of, show_ballot
from distkit.paxos.synod import (
    MESSAGES,
    RECORDS,
    Synod,
    SynodConfiguration,
    SynodOptions,
    formation_records,
    recover,
)
from distkit.paxos.synod.messages import Promise
from distkit.paxos.synod.state import Trace
from distkit.quorum import flexible
from distkit.sim.broken import require
from distkit.sim.chance import SECOND, below, between, log_between, stream
from distkit.sim.disks import Disk, RecordDisk, WalDisk
from distkit.sim.files import MemoryFiles
from distkit.sim.host import Host
from distkit.sim.network import NetworkOptions
from distkit.sim.replicas import incarnation
from distkit.sim.scenario import Call, ClockOptions, Fault, Scenario
from distkit.sim.synod_clients import SynodClients
from distkit.sim.synod_oracle import SynodOracle
from distkit.sim.systems import frame
from distkit.sim.workload import Workload, times

if TYPE_CHECKING:
    from distkit.sim.world import World

_NODES: Final = 9
_OPTIONS: Final = frozenset(each.name for each in fields(SynodOptions))
#: What a proposer does, by the transition that begins it.
_ROLES: Final = {"Prepare": "preparing", "Accept": "accepting", "BackOff": "backing off", "Decide": "decided"}


def _grid(members: Sequence[int]) -> flexible.QuorumSystem:
    """Two rows; an odd one out is no acceptor."""
    half = len(members) // 2
    return flexible.grid([members[:half], members[half : 2 * half]]) if half > 1 else flexible.majority(members)


def _all(members: Sequence[int]) -> flexible.QuorumSystem:
    return flexible.counts(members, len(members), 1)


def _heavy(members: Sequence[int]) -> flexible.QuorumSystem:
    """The first one counts twice."""
    need = (len(members) + 1) // 2 + 1
    return flexible.weights({member: 1 + (member == members[0]) for member in members}, need, need)


def _either(members: Sequence[int]) -> flexible.QuorumSystem:
    """One of two groups in phase 1, some of both in phase 2."""
    half = (len(members) + 1) // 2
    groups = [flexible.all_of(*part) for part in (members[:half], members[half:]) if part]
    return flexible.QuorumSystem(flexible.any_of(*groups), flexible.dual(flexible.any_of(*groups)))


#: Quorum systems by the number in a scenario. 0: majorities.
_QUORUMS: Final[tuple[Callable[[Sequence[int]], flexible.QuorumSystem], ...]] = (
    flexible.majority,
    _all,
    lambda members: flexible.counts(members, 1, len(members)),
    lambda members: flexible.counts(members, len(members) - len(members) // 3, len(members) // 3 + 1),
    _heavy,
    _grid,
    _either,
)


def configuration_of(scenario: Scenario) -> SynodConfiguration:
    """Who takes part in a scenario. Its options `acceptors`, `proposers` and `learners` have a bit for each node (none
    set: everybody), `quorums` is a number of the table above."""
    return _configuration(scenario.nodes, scenario.machine_options)


@lru_cache(maxsize=16)
def _configuration(nodes: int, options: tuple[tuple[str, float], ...]) -> SynodConfiguration:
    given, everybody = dict(options), range(1, nodes + 1)

    def those(role: str) -> tuple[int, ...]:
        bits = int(given.get(role, 0))
        return tuple(node for node in everybody if bits >> node & 1) or tuple(everybody)

    members = tuple(Member(node, incarnation(node), f"127.0.0.1:{7100 + node}") for node in everybody)
    quorums = _QUORUMS[int(given.get("quorums", 0)) % len(_QUORUMS)](those("acceptors"))
    return SynodConfiguration(Configuration(1, members), quorums, those("proposers"), those("learners"))


def _duel(random: Random, scenario: Scenario) -> Scenario:
    """Up to three proposers in each other's way, where nothing but their back-off can end it: all delays are equal, and
    there are no faults. Their back-off is less than a round trip, and then either grows to several, or is about one
    round trip from the beginning and never the same."""
    delay = between(random, 0.01, 0.03)
    disk = delay * log_between(random, 0.02, 0.5)
    trip = 2 * delay + disk
    options = {name: value for name, value in scenario.machine_options if name == "learn_interval"}
    options |= {"proposers": 0b1110, "resend": 20 * trip}
    if random.random() < 0.5:
        options |= {"backoff": trip * log_between(random, 0.002, 0.04), "backoff_max": trip * between(random, 8, 16)}
        starts = [random.random() * 2 * trip for _ in range(3)]
    else:
        options["backoff"] = options["backoff_max"] = trip * between(random, 0.6, 0.8)
        starts = [(place + 0.3 * random.random()) * trip * 0.9 for place in range(3)]
    calls = [
        Call(int((0.02 + start) * SECOND), place, place, "propose", "", place) for place, start in enumerate(starts, 1)
    ]
    return replace(
        scenario,
        seconds=0.02 + 4 * trip,
        eager=1.0,
        network=NetworkOptions(delay_min=int(delay * SECOND), delay_mean=0),
        disk=replace(scenario.disk, delay_min=int(disk * SECOND), delay_mean=0),
        clock=ClockOptions(),
        machine_options=tuple(options.items()),
        faults=(),
        calls=tuple(sorted((call for call in calls if call.node <= scenario.nodes), key=lambda call: call.time)),
    )


def _patient(random: Random, scenario: Scenario) -> Scenario:
    """Nothing gets lost unless a process dies, and then a new connection is made: so nobody asks again before that. One
    node proposes, and the others are down when it begins."""
    proposer = 1 + below(random, scenario.nodes)
    begin = min((call.time for call in scenario.calls), default=0)
    others = [node for node in range(1, scenario.nodes + 1) if node != proposer]
    deaths = [Fault(begin, "crash", node, between(random, 0.02, 0.5), "kill") for node in others]
    faults = [each for each in scenario.faults if each.kind in ("crash", "pause", "reset", "slow", "stall", "jump")]
    return replace(
        scenario,
        network=replace(scenario.network, loss=0.0, flip=0.0),
        machine_options=tuple(
            (dict(scenario.machine_options) | {"proposers": 1 << proposer, "resend": 1000.0}).items()
        ),
        faults=tuple(sorted(deaths + faults, key=lambda fault: fault.time)),
    )


class SynodWorkload(Workload):
    """Clients that propose, each a value of its own."""

    def calls(self, random: Random, nodes: int, seconds: float, clients: int, count: int) -> tuple[Call, ...]:
        calls = []
        for number, time in enumerate(times(random, seconds, min(count, 60)), 1):
            client, node = 1 + below(random, clients), 1 + below(random, nodes)
            calls.append(Call(time, client, node, "propose", "", number))
        return tuple(calls)


class SynodSystem:
    """Nodes of a synod."""

    workload: Callable[[], Workload] = SynodWorkload

    def __init__(self, recover: Callable[..., Any] = recover) -> None:
        self.recover = recover  #: of the machine: `distkit.paxos.synod.recover`, or that of one with a rule broken
        self.registry = Registry(MESSAGES)

    # -- what is drawn ------------------------------------------------------------------------------------------------

    def options(self, random: Random, tiny: bool) -> tuple[tuple[str, float], ...]:
        """Roles and quorums, and how patient everybody is."""
        options: dict[str, float] = {
            role: below(random, 1 << _NODES) << 1 if random.random() < 0.4 else 0
            for role in ("acceptors", "proposers", "learners")
        }
        options["quorums"] = below(random, len(_QUORUMS)) if random.random() < 0.5 else 0
        options["resend"] = log_between(random, 0.02, 0.5)
        options["backoff"] = log_between(random, 0.001, 0.1)
        options["backoff_max"] = between(random, 0.1, 1.0)
        options["learn_interval"] = log_between(random, 0.05, 2.0)
        if tiny:
            options["tickets_max"] = 1 + below(random, 3)
        return tuple(options.items())

    def aim(self, random: Random, scenario: Scenario) -> Scenario:
        """Squeeze the run into a part of its time, so that calls and faults meet before the value is chosen; or make it
        one in which it must be chosen soon."""
        share = 1 / log_between(random, 1, 40)
        chance = stream(scenario.seed, "synod aim")
        mark = chance.random()
        if mark < 0.06:
            return _duel(chance, scenario)
        if mark < 0.16:
            scenario = _patient(chance, scenario)
        return replace(
            scenario,
            seconds=max(0.1, scenario.seconds * share),
            faults=tuple(
                replace(each, time=int(each.time * share), seconds=each.seconds * share) for each in scenario.faults
            ),
            calls=tuple(replace(each, time=int(each.time * share)) for each in scenario.calls),
        )

    # -- what runs ----------------------------------------------------------------------------------------------------

    def host(self, world: World, node: int) -> Host:
        disk = self.disk(world, node)
        disk.form(formation_records(configuration_of(world.scenario)))
        return Host(world, node, incarnation(node), disk)

    def disk(self, world: World, node: int) -> Disk:
        """An empty disk."""
        if not world.scenario.wal:
            return RecordDisk()
        size = world.scenario.disk.segment_bytes
        options = WalOptions(first_segment_bytes=size, segment_bytes=size, reserve_bytes=8192)
        return WalDisk(node, incarnation(node), options, MemoryFiles(), Registry(RECORDS))

    def oracle(self, world: World) -> SynodOracle:
        return SynodOracle(world, configuration_of(world.scenario), self.machine)

    def clients(self, world: World) -> SynodClients:
        return SynodClients(world, configuration_of(world.scenario).proposers)

    def boot(self, host: Host, records: list[Any], now: float) -> SynodGuest:
        if host.rotten and host.boots > 1 and host.world.oracle.lost_tail(host, records):
            raise StorageError("damage took what was not proven yet: the oracle bars the node")
        return SynodGuest(self, host, records, now)

    def machine(self, host: Host, records: Iterable[Any], now: float, trace: Trace | None = None) -> Synod:
        """The machine that these records amount to."""
        given: dict[str, Any] = dict(host.world.scenario.machine_options)
        machine: Synod = self.recover(
            records,
            node=host.id,
            incarnation=host.incarnation,
            configuration=configuration_of(host.world.scenario),
            options=SynodOptions(**{name: value for name, value in given.items() if name in _OPTIONS}),
            random=stream(host.world.seed, f"machine {host.id} {host.boots}"),
            now=now,
            trace=trace,
        )
        return machine

    def gone(self, host: Host, guest: SynodGuest | None) -> None:
        if guest is not None:
            host.world.clients.lost(guest.tickets)

    def wiped(self, world: World, host: Host) -> None:
        """An empty disk under the same id has another incarnation: it does not start, and nobody listens to it."""
        configuration = configuration_of(world.scenario)
        stranger = incarnation(host.id, 2)
        try:
            self.recover(
                formation_records(configuration),
                node=host.id,
                incarnation=stranger,
                configuration=configuration,
                random=stream(world.seed, "wiped"),
                now=0.0,
            )
        except LocalError:
            world.marks["a wiped node was refused"] += 1
        else:
            require(False, "identity", "node", host.id, "starts with an empty disk")
        for peer in world.hosts.values():
            if peer.up and not peer.paused and peer is not host:
                before = peer.machine.digest()
                promise = Promise(configuration.epoch, stranger, make_ballot(1, peer.id), 0, 0, b"")
                peer.call("receive", host.id, promise)
                require(peer.machine.digest() == before, "identity", "node", peer.id, "listens to a wiped one")

    def decode(self, data: bytes) -> Any:
        return frame(self.registry, data)

    def described(self, message: Any) -> dict[str, Any]:
        ballot = getattr(message, "ballot", 0)
        return {"message": type(message).__name__, "term": round_of(ballot), "detail": _detail(message)}


class SynodGuest:
    """A machine on a host."""

    def __init__(self, system: SynodSystem, host: Host, records: list[Any], now: float) -> None:
        self.host = host
        self.tickets: set[int] = set()  #: of clients, not ended yet
        self.machine = system.machine(host, records, now, self._noted)
        if isinstance(host.disk, WalDisk) and host.disk.torn_bytes:
            host.world.marks["a torn tail was cut"] += 1

    def take(self, output: Output) -> None:
        world = self.host.world
        for decided in output.delivers:
            world.oracle.told(self.host, decided)
        for reply in output.replies:
            self.tickets.discard(reply.ticket)
            world.oracle.replied(self.host, reply)
            world.clients.replied(reply)

    def digest(self) -> bytes:
        return self.machine.digest()

    def _noted(self, event: str, told: dict[str, Any]) -> None:
        """A transition of the machine. A vote is judged at once: a later one may take its place in the same flush."""
        if event == "Vote":
            self.host.world.oracle.seen(self.host)
        if self.host.world.trace is not None:
            self._tell(event, **told)

    def _tell(self, event: str, node: int, ballot: int, promised: int) -> None:
        shown: dict[str, Any] = {"ballot": show_ballot(ballot), "promised": show_ballot(promised)}
        if event in _ROLES and (event == "Decide" or node_of(ballot) == node):
            shown |= {"role": _ROLES[event], "term": round_of(ballot)}
        self.host.world.tell(event, node, **shown)


def _detail(message: Any) -> str:
    """A message in a few words."""
    words = [f"ballot {show_ballot(message.ballot)}"] if hasattr(message, "ballot") else []
    if getattr(message, "voted", 0):
        words.append(f"voted at {show_ballot(message.voted)}")
    if getattr(message, "origin", 0):
        words.append(f"for {message.value[:12].decode(errors='replace')!r}")
    if hasattr(message, "promised"):
        words.append(f"promised {show_ballot(message.promised)}")
    return ", ".join(words)
