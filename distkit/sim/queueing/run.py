"""One run: clients with balancers of their own, the requests of a seed, and what became of each."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distkit._fast import queueing
from distkit.balance import Cluster, ClusterOptions, Endpoint, Outcome
from distkit.balance.cluster import LOAD_PROBE
from distkit.balance.events import Probe
from distkit.sim.queueing.scenarios import Floats, Requests, Scenario, draw

#: How often clients do what they do now and then (ejection, weights, checks), in units of the mean service time.
TURN_INTERVAL = 5.0
#: A server that fails or hangs for this share of its requests fails its checks.
ILL = 0.5


@dataclass(frozen=True)
class Run:
    """What became of each request: latency in seconds (NaN: no answer), the server that answered (-1), and attempts."""

    scenario: Scenario
    requests: Requests
    latencies: Floats
    served_by: NDArray[np.int32]
    tries: NDArray[np.int32]
    #: When the last event was, in seconds, and how many there were.
    ended: float
    events: int


def simulate(options: ClusterOptions, scenario: Scenario, seed: int) -> Run:
    """Run a scenario with clusters of these options. The same arguments give the same run."""
    requests = draw(scenario, seed)
    clients = _Clients(options, scenario, requests, random.Random(seed))
    count, unit = scenario.requests, scenario.unit
    simulation = queueing.Queueing(
        [each.picker for each in clients.clusters],
        [(each.capacity, each.shared) for each in scenario.servers],
        round_trip=scenario.round_trip * unit,
        timeout=scenario.timeout * unit,
        attempts=scenario.attempts,
        users=scenario.users,
        turn=clients.turn,
        turn_interval=TURN_INTERVAL * unit,
        prober=clients if options.policy.name == "prequal" else None,
        probe_time=scenario.probe_time * unit,
    )
    latencies, served_by, tries = np.empty(count), np.empty(count, np.int32), np.empty(count, np.int32)
    simulation.run(
        requests.times,
        requests.demands,
        requests.chances,
        requests.keys,
        requests.clients,
        requests.changes,
        latencies,
        served_by,
        tries,
    )
    return Run(scenario, requests, latencies, served_by, tries, simulation.now, simulation.events)


class _Clients:
    """The clients' clusters: what they do at each turn, and the probes that they send."""

    def __init__(self, options: ClusterOptions, scenario: Scenario, requests: Requests, rng: random.Random) -> None:
        self.clusters = [Cluster(options, random.Random(rng.getrandbits(64))) for _ in range(scenario.clients)]
        self._servers = {f"s{index}": index for index in range(len(scenario.servers))}
        self._changes = requests.changes
        self._change = 0
        self._ill = [[0.0, 0.0] for _ in scenario.servers]  # share of requests that fail, that hang
        for cluster in self.clusters:
            cluster.update([Endpoint(each) for each in self._servers], 0.0)
            for name, slot in self._servers.items():
                assert cluster.endpoint(cluster.picker.handle(slot)).id == name

    def turn(self, now: float) -> None:
        """Ejections and their ends, weights, checks."""
        while self._change < len(self._changes) and self._changes[self._change][0] <= now:
            _, server, what, value = self._changes[self._change]
            if what in (queueing.FAIL, queueing.HANG):
                self._ill[server][what == queueing.HANG] = value
            self._change += 1
        for cluster in self.clusters:
            if cluster.deadline() <= now:
                cluster.tick(now)
                for event in cluster.events():
                    if isinstance(event, Probe) and event.kind == "check":
                        well = max(self._ill[self._servers[event.id]]) < ILL
                        cluster.probed(event.probe_id, Outcome.OK if well else Outcome.ERROR, 0, 0.0, now)

    def wanted(self, client: int, now: float) -> Sequence[tuple[int, int]]:
        """See Prober."""
        events = self.clusters[client].events()
        # Numbers of load probes have their highest bit set, for which the kernel's have no room.
        return [(each.probe_id ^ LOAD_PROBE, self._servers[each.id]) for each in events if isinstance(each, Probe)]

    def answered(self, client: int, probe: int, in_flight: int, latency: float, now: float) -> None:
        """See Prober."""
        self.clusters[client].probed(probe ^ LOAD_PROBE, Outcome.OK, in_flight, latency, now)
