"""Servers, load and what goes wrong: a scenario is data, and with a seed it is one set of requests for every policy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distkit._fast import queueing
from distkit.core import LocalError

Floats = NDArray[np.float64]

#: Shapes of service times, all with the mean 1.
SHAPES = ("fixed", "exponential", "lognormal", "bimodal", "pareto")
REQUESTS_MAX = 20_000_000
SERVERS_MAX = CLIENTS_MAX = 10_000
BURSTS = 20


@dataclass(frozen=True)
class Server:
    """`capacity` requests at once, first come, first served (0: any number); a shared server works on all of them at
    once with so many cores. `slow` multiplies all work.
    """

    capacity: int = 1
    shared: bool = False
    slow: float = 1.0


@dataclass(frozen=True)
class Change:
    """From `at` (a share of the run) on, some servers are different: `what` is one of `distkit._fast.queueing`."""

    at: float
    servers: tuple[int, ...]
    what: int
    value: float


@dataclass(frozen=True)
class Scenario:
    """What a policy is tried on. Times are in units of the mean service time of a server that is not slow."""

    name: str
    #: What it shows, in a sentence or two for people.
    about: str
    servers: tuple[Server, ...]
    #: Share of all that the servers can do which is asked for; of an unbounded server: requests that it has at once.
    load: float = 0.8
    requests: int = 100_000
    clients: int = 1
    #: Not 0: a closed loop of so many users, who think `think` on average.
    users: int = 0
    think: float = 0.0
    shape: str = "exponential"
    #: Bursts: in this share of the time the load is `burst` times as high, and less in the rest.
    burst: float = 1.0
    burst_share: float = 0.1
    #: The first part of the run is not measured.
    warm_up: float = 0.1
    round_trip: float = 0.0
    timeout: float = math.inf
    attempts: int = 1
    #: Not 0: requests have one of so many keys, by Zipf's law with this exponent.
    keys: int = 0
    zipf: float = 1.0
    changes: tuple[Change, ...] = ()
    #: Each server pauses on its own, at random: so often in a run, for so long.
    pauses: int = 0
    pause: float = 0.0
    probe_time: float = 0.02
    #: One unit of time, in seconds: policies have constants in seconds, too.
    unit: float = 0.01

    def __post_init__(self) -> None:
        if not 1 <= len(self.servers) <= SERVERS_MAX or not 1 <= self.clients <= CLIENTS_MAX:
            raise LocalError(f"a scenario has 1 to {SERVERS_MAX} servers and clients")
        if not 100 <= self.requests <= REQUESTS_MAX:
            raise LocalError(f"a scenario has 100 to {REQUESTS_MAX} requests, not {self.requests}")
        if not self.load > 0 or not 0 <= self.warm_up < 1 or not self.burst >= 1 or not 0 < self.burst_share < 1:
            raise LocalError("load must be above 0, burst at least 1, and shares lie between 0 and 1")
        if self.burst * self.burst_share > 1:
            raise LocalError("more requests than there are would come in bursts: burst * burst_share is at most 1")
        if self.shape not in SHAPES:
            raise LocalError(f"the shape of service times is one of {', '.join(SHAPES)}, not {self.shape!r}")

    @property
    def rate(self) -> float:
        """Requests in a unit of time."""
        return self.load * sum(max(1, each.capacity) / each.slow if each.capacity else 1.0 for each in self.servers)

    @property
    def duration(self) -> float:
        """Roughly how long the run lasts, in units of time."""
        return self.requests / self.rate


@dataclass(frozen=True)
class Requests:
    """What is drawn of a scenario, times in seconds: one entry a request, and the changes of servers."""

    times: Floats
    demands: Floats
    chances: Floats
    keys: NDArray[np.uint64] | None
    clients: NDArray[np.int32]
    changes: list[tuple[float, int, int, float]]


def draw(scenario: Scenario, seed: int) -> Requests:
    """The requests of a seed: the same for every policy."""
    # A stream for each thing, so that one more of something leaves the rest as it is.
    streams = [np.random.Generator(np.random.PCG64(each)) for each in np.random.SeedSequence(seed).spawn(6)]
    count = scenario.requests
    if scenario.users:
        times = streams[0].exponential(scenario.think, count) if scenario.think else np.zeros(count)
    else:
        times = _arrivals(scenario, streams[0])
    keys = None
    if scenario.keys:
        shares = np.arange(1, scenario.keys + 1, dtype=np.float64) ** -scenario.zipf
        numbers = streams[3].choice(scenario.keys, count, p=shares / shares.sum())
        keys = streams[3].integers(0, 1 << 63, scenario.keys, dtype=np.uint64)[numbers] * np.uint64(2)
    return Requests(
        times=times * scenario.unit,
        demands=_demands(scenario.shape, count, streams[1]) * scenario.unit,
        chances=streams[2].random(count),
        keys=keys,
        clients=streams[4].integers(0, scenario.clients, count, dtype=np.int32),
        changes=_changes(scenario, streams[5]),
    )


def _arrivals(scenario: Scenario, stream: np.random.Generator) -> Floats:
    gaps = stream.exponential(1.0 / scenario.rate, scenario.requests)
    if scenario.burst > 1:
        # Calm and burst alternate BURSTS times; a gap within a burst is shorter, so that the mean stays.
        high, share = scenario.burst, scenario.burst_share
        low = (1.0 - high * share) / (1.0 - share)
        phase = (np.arange(scenario.requests) * float(BURSTS) / scenario.requests) % 1.0 < high * share
        gaps = gaps / np.where(phase, high, max(low, 1e-9))
    return np.cumsum(gaps)


def _demands(shape: str, count: int, stream: np.random.Generator) -> Floats:
    if shape == "fixed":
        return np.ones(count)
    if shape == "exponential":
        return stream.exponential(1.0, count)
    if shape == "lognormal":
        return stream.lognormal(-0.03125, 0.25, count)
    if shape == "bimodal":  # one in a hundred takes fifty times as long
        return np.where(stream.random(count) < 0.01, 50.0, 1.0) / 1.49
    return (stream.pareto(2.5, count) + 1.0) * 0.6  # finite variance, heavy tail


def _changes(scenario: Scenario, stream: np.random.Generator) -> list[tuple[float, int, int, float]]:
    duration = scenario.duration
    found = [(0.0, index, queueing.SLOW, each.slow) for index, each in enumerate(scenario.servers) if each.slow != 1.0]
    for change in scenario.changes:
        found += [(change.at * duration, index, change.what, change.value) for index in change.servers]
    for index in range(len(scenario.servers)):
        for at in stream.random(scenario.pauses):
            found.append((float(at) * duration, index, queueing.PAUSE, scenario.pause))
    pausing = queueing.PAUSE
    return sorted(
        (at * scenario.unit, i, what, value * (scenario.unit if what == pausing else 1)) for at, i, what, value in found
    )


# -- what there is -----------------------------------------------------------------------------------------------------


def _restarts(count: int) -> tuple[Change, ...]:
    """One after another fails everything for a while, and is slow for a while when it is back."""
    found = []
    for index in range(count):
        at = 0.2 + 0.6 * index / count
        found += [
            Change(at, (index,), queueing.FAIL, 1.0),
            Change(at + 0.02, (index,), queueing.FAIL, 0.0),
            Change(at + 0.02, (index,), queueing.SLOW, 4.0),
            Change(at + 0.04, (index,), queueing.SLOW, 1.0),
        ]
    return tuple(found)


def _leak(index: int) -> tuple[Change, ...]:
    steps = [Change(0.3 + 0.04 * step, (index,), queueing.SLOW, 1.0 + step) for step in range(1, 11)]
    return (*steps, Change(0.8, (index,), queueing.SLOW, 1.0))


_ALL = (
    Scenario("even", "Twenty equal servers at 80 % of what they can do: the usual day.", (Server(),) * 20),
    Scenario(
        "slow-servers",
        "Sixteen servers that wait for something else (a database, a disk) and so take any number of requests at once; "
        "two of them are sixteen times slower.",
        (*(Server(0),) * 14, *(Server(0, slow=16.0),) * 2),
        load=1.56,
        shape="lognormal",
        unit=0.05,
    ),
    Scenario(
        "cpu-bound",
        "Four servers that compute, each with one core shared by its requests, and sixteen users who ask again as soon "
        "as they are answered: whoever leaves a server idle loses throughput.",
        (Server(1, shared=True),) * 4,
        users=16,
        load=1.0,
    ),
    Scenario(
        "mixed-speeds",
        "Half of the servers are twice, a quarter four times slower than the rest, and nobody has told the weights.",
        (*(Server(4),) * 5, *(Server(4, slow=2.0),) * 10, *(Server(4, slow=4.0),) * 5),
    ),
    Scenario(
        "pauses",
        "Twenty servers which each stand still now and then, as garbage collectors make them.",
        (Server(4),) * 20,
        load=0.6,
        pauses=8,
        pause=20.0,
    ),
    Scenario(
        "leak",
        "One of twenty servers becomes eleven times slower bit by bit, and is restarted.",
        (Server(4),) * 20,
        load=0.6,
        changes=_leak(3),
    ),
    Scenario(
        "black-hole",
        "One of ten servers fails every request at once, which looks like being quick. Clients try up to three times.",
        (Server(4),) * 10,
        load=0.6,
        attempts=3,
        changes=(Change(0.3, (3,), queueing.FAIL, 1.0), Change(0.7, (3,), queueing.FAIL, 0.0)),
    ),
    Scenario(
        "hang",
        "One of ten servers takes requests and answers none. Clients give up after a while and try up to three times.",
        (Server(4),) * 10,
        load=0.6,
        attempts=3,
        timeout=30.0,
        changes=(Change(0.3, (3,), queueing.HANG, 1.0), Change(0.5, (3,), queueing.HANG, 0.0)),
    ),
    Scenario(
        "gray",
        "One of ten servers loses a hundredth of its requests; clients give up after a while and try again.",
        (Server(4),) * 10,
        load=0.6,
        attempts=3,
        timeout=30.0,
        changes=(Change(0.1, (3,), queueing.HANG, 0.01),),
    ),
    Scenario(
        "restarts",
        "Twenty servers are restarted one after another; each refuses requests for a while and is slow when back.",
        (Server(4),) * 20,
        load=0.6,
        attempts=3,
        changes=_restarts(20),
    ),
    Scenario(
        "zone-loss",
        "A third of the servers hangs at once, and comes back.",
        (Server(4),) * 18,
        load=0.5,
        attempts=3,
        timeout=30.0,
        changes=(
            Change(0.4, tuple(range(6)), queueing.HANG, 1.0),
            Change(0.6, tuple(range(6)), queueing.HANG, 0.0),
        ),
    ),
    Scenario(
        "many-clients",
        "A hundred clients, each of which knows only what it has sent itself, in front of twenty servers.",
        (Server(),) * 20,
        clients=100,
    ),
    Scenario(
        "stale",
        "Answers are on their way for ten times as long as servers work on them: what clients know is old.",
        (Server(),) * 20,
        round_trip=10.0,
    ),
    Scenario(
        "bursts",
        "The load comes in bursts that are more than the servers can do.",
        (Server(4),) * 20,
        load=0.6,
        burst=2.0,
        burst_share=0.2,
    ),
    Scenario("long-jobs", "One request in a hundred takes fifty times as long.", (Server(4),) * 20, shape="bimodal"),
    Scenario(
        "hot-keys",
        "Requests for ten thousand keys, some of which are asked for far more often (Zipf, exponent 1.1), in front of "
        "twenty caches.",
        (Server(16),) * 20,
        load=0.6,
        keys=10_000,
        zipf=1.1,
    ),
)

#: By name.
SCENARIOS = {each.name: each for each in _ALL}
