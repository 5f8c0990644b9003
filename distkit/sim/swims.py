"""Large groups of SWIM nodes in virtual time: how soon crashes are found, how often the living are taken for dead, and
what it costs in messages.

A driver of its own, because it counts every microsecond: time moves in slots of a millisecond, and what happens in a
slot stands in a list. A run is a function of its `SwimScenario`, byte for byte.
"""

from __future__ import annotations

import math
from dataclasses import field
from typing import Any, Final

from distkit.core import LocalError, record
from distkit.membership.swim import Claim, Dead, Event, Joined, Status, Suspected, Swim, SwimOptions
from distkit.sim.chance import below, stream

#: Slots in a second.
SLOTS: Final = 1000
#: Slots of the wheel: what is due later is looked at again then.
_WHEEL: Final = 1 << 15
_MASK: Final = _WHEEL - 1
#: A node that is not scheduled.
_NEVER: Final = 1 << 62


@record
class Stall:
    """A node that is up, but slow, for `seconds` from `begin`.

    Nothing reaches it and nothing leaves it meanwhile; both wait, as far as `SwimScenario.buffer` goes. Its timers run
    on, so that it judges others without having heard them: what overloaded hosts do. With `frozen` timers stand still
    as well, and what has arrived is read before they go on: a suspended process.
    """

    node: int
    begin: float
    seconds: float
    frozen: bool = False


@record
class SwimScenario:
    """A group of `nodes` members that know each other, for `seconds`.

    Each message takes `delay` (least, most) seconds or is lost with probability `loss`. `crashes`: (node, when).
    """

    seed: int = 1
    nodes: int = 100
    seconds: float = 60.0
    options: SwimOptions = field(default_factory=SwimOptions)
    loss: float = 0.0
    delay: tuple[float, float] = (0.001, 0.005)
    crashes: tuple[tuple[int, float], ...] = ()
    stalls: tuple[Stall, ...] = ()
    buffer: int = 256

    def __post_init__(self) -> None:
        if not 0 <= self.loss < 1:
            raise LocalError(f"loss is a probability below 1, not {self.loss!r}")
        if not 1 / SLOTS <= self.delay[0] <= self.delay[1] <= 10:
            raise LocalError(f"delay is (least, most) seconds from {1 / SLOTS} to 10, not {self.delay!r}")
        named = [node for node, _ in self.crashes] + [stall.node for stall in self.stalls]
        if self.nodes < 1 or not all(0 <= node < self.nodes for node in named):
            raise LocalError(f"nodes are numbered from 0 to {self.nodes - 1}")


@record
class SwimOutcome:
    """What happened. Times in seconds, infinity: never. One entry of `suspected`, `detected`, `known` for each crash.

    `suspected`: until somebody suspected it; `detected`: until somebody declared it dead; `known`: until all nodes that
    are up and not stalled knew. `false_positives`: how often a member that was neither crashed nor stalled was declared
    dead or taken for it, counted at each node where that happened; `false_positives_healthy` leaves out the nodes that
    were stalled themselves. `suspicions`: how often nodes began to suspect one that was up.
    """

    suspected: tuple[float, ...]
    detected: tuple[float, ...]
    known: tuple[float, ...]
    false_positives: int
    false_positives_healthy: int
    suspicions: int
    events: int
    messages: int


class SwimGroup:
    """The run of one scenario."""

    def __init__(self, scenario: SwimScenario) -> None:
        self.scenario = scenario
        self.random = stream(scenario.seed, "network").random
        self.places = [f"10.0.{node >> 8}.{node & 255}:7" for node in range(scenario.nodes)]
        self.node_of = {address: node for node, address in enumerate(self.places)}
        names = [f"n{node}" for node in range(scenario.nodes)]
        self.number_of = {name: node for node, name in enumerate(names)}
        known = [
            Claim(Status.ALIVE, name, 1, "", address, b"") for name, address in zip(names, self.places, strict=True)
        ]
        random = stream(scenario.seed, "nodes")  # one for all: a thousand of them would not fit into a cache
        self.machines = [
            Swim(
                name,
                address,
                random=random,
                now=0.0,
                options=scenario.options,
                known=known,
            )
            for name, address in zip(names, self.places, strict=True)
        ]
        #: What happens in each slot: (node, where it comes from, message), or (node, "", None): its timers.
        self.wheel: list[list[tuple[int, str, Any]]] = [[] for _ in range(_WHEEL)]
        self.wake = [_NEVER] * scenario.nodes  #: slot at which timers will be looked at
        self.up = [True] * scenario.nodes
        self.stalled = [0] * scenario.nodes  #: until this slot
        self.frozen = [False] * scenario.nodes
        self.held = [0] * scenario.nodes  #: messages that wait for the end of a stall
        self.slow = {stall.node for stall in scenario.stalls}
        self.messages = self.events = 0
        self.false_positives = self.false_positives_healthy = self.suspicions = 0
        self.crashed_at = dict(scenario.crashes)
        self.suspected: dict[int, float] = {}
        self.detected: dict[int, float] = {}
        self.known: dict[int, float] = {}
        self.knowing = dict.fromkeys(self.crashed_at, 0)
        self.healthy = scenario.nodes - len(self.slow | set(self.crashed_at))
        self.slot = 0
        self.calm_from = 0  #: no node is stalled from this slot on
        self.faults = self.planned_faults()
        for node in range(scenario.nodes):
            self.wake[node] = 1
            self.wheel[1].append((node, "", None))

    def planned_faults(self) -> list[tuple[int, int, Stall | None]]:
        """(slot, node, stall or crash), the last one first."""
        found: list[tuple[int, int, Stall | None]] = [
            (math.ceil(when * SLOTS), node, None) for node, when in self.scenario.crashes
        ]
        found += [(math.ceil(stall.begin * SLOTS), stall.node, stall) for stall in self.scenario.stalls]
        return sorted(found, key=lambda fault: fault[:2], reverse=True)

    def strike(self, slot: int, node: int, stall: Stall | None) -> None:
        """A node crashes or stalls."""
        if stall is None:
            self.up[node] = False
        else:
            self.stalled[node] = slot + math.ceil(stall.seconds * SLOTS)
            self.frozen[node] = stall.frozen
            self.held[node] = 0

    def run(self, until: float) -> None:
        """Let the time pass up to so many seconds."""
        wheel, faults = self.wheel, self.faults
        for slot in range(self.slot + 1, math.ceil(until * SLOTS) + 1):
            while faults and faults[-1][0] <= slot:
                _, node, stall = faults.pop()
                self.strike(slot, node, stall)
                self.calm_from = max(self.calm_from, self.stalled[node] + 2)
            happening = wheel[slot & _MASK]
            if happening:
                wheel[slot & _MASK] = []
                self.events += len(happening)
                if slot < self.calm_from:
                    stalled = self.stalled
                    happening = [each for each in happening if stalled[each[0]] <= slot or not self.hold(slot, *each)]
                self.step(slot, happening)
            self.slot = slot

    def step(self, slot: int, happening: list[tuple[int, str, Any]]) -> None:
        """What happens in a slot, in order. The loop that everything waits for."""
        now = slot / SLOTS
        machines, wake, wheel, up, places = self.machines, self.wake, self.wheel, self.up, self.places
        node_of, random, loss, stalled = self.node_of, self.random, self.scenario.loss, self.stalled
        least, most = self.scenario.delay
        far = slot + _WHEEL - 1
        horizon = far / SLOTS
        messages = 0
        first, span = round(least * SLOTS), (round((most - least) * SLOTS) + 1) / (1 - loss)
        for node, source, message in happening:
            if not up[node]:
                continue
            machine = machines[node]
            if message is not None:
                machine.receive(now, source, message)
            elif wake[node] != slot:
                continue
            elif machine.deadline() <= now:
                machine.tick(now)
            output = machine.flush(now)
            if output is not None:
                sends = output.sends
                messages += len(sends)
                own = places[node]
                leaving = first + (slot if stalled[node] <= slot else stalled[node])
                for address, sent in sends:
                    chance = random() - loss
                    if chance >= 0.0:
                        wheel[leaving + int(chance * span) & _MASK].append((node_of[address], own, sent))
                if output.events:
                    self.judge(slot, node, output.events)
            due = machine.deadline()
            if due < horizon:
                wanted = int(due * SLOTS) + 1
                if wanted <= slot:
                    wanted = slot + 1
            else:
                wanted = far
            if wanted != wake[node] and (wanted != far or wake[node] <= slot):
                wake[node] = wanted
                wheel[wanted & _MASK].append((node, "", None))
        self.messages += messages

    def hold(self, slot: int, node: int, source: str, message: Any) -> bool:
        """Whether the node is stalled, so that this has to wait."""
        until = self.stalled[node]
        if until <= slot or not self.up[node]:
            return False
        if message is not None:
            self.held[node] += 1
            if self.held[node] <= self.scenario.buffer:
                self.wheel[until & _MASK].append((node, source, message))
            return True
        if not self.frozen[node]:
            return False
        if self.wake[node] == slot:
            self.wake[node] = until + 1  # behind what was held
            self.wheel[(until + 1) & _MASK].append((node, "", None))
        return True

    def judge(self, slot: int, observer: int, events: tuple[Event, ...]) -> None:
        """What a node has come to believe."""
        now = slot / SLOTS
        for event in events:
            subject = self.number_of[event.member.name]
            crashed = self.crashed_at.get(subject, math.inf) <= now
            if isinstance(event, Suspected):
                if crashed:
                    self.suspected.setdefault(subject, now)
                else:
                    self.suspicions += 1
            elif isinstance(event, Dead):
                if crashed:
                    self.detect(now, observer, subject)
                elif subject not in self.slow:
                    self.false_positives += 1
                    self.false_positives_healthy += observer not in self.slow
            elif isinstance(event, Joined) and crashed and observer not in self.slow and self.up[observer]:
                self.knowing[subject] -= 1

    def detect(self, now: float, observer: int, subject: int) -> None:
        """A node knows of a crash."""
        self.detected.setdefault(subject, now)
        if observer not in self.slow and observer not in self.crashed_at:
            self.knowing[subject] += 1
            if self.knowing[subject] == self.healthy:
                self.known.setdefault(subject, now)

    def outcome(self) -> SwimOutcome:
        """All in numbers."""
        crashes = self.scenario.crashes

        def times(found: dict[int, float]) -> tuple[float, ...]:
            return tuple(found.get(node, math.inf) - when for node, when in crashes)

        return SwimOutcome(
            times(self.suspected),
            times(self.detected),
            times(self.known),
            self.false_positives,
            self.false_positives_healthy,
            self.suspicions,
            self.events,
            self.messages,
        )


def stalls(seed: int, nodes: int, slow: int, seconds: float, pause: float, until: float) -> tuple[Stall, ...]:
    """The anomalies of the Lifeguard paper: `slow` random nodes stall together for `seconds`, with a `pause` between.

    They begin after 10 s, when the start is over, and go on until the time given.
    """
    random = stream(seed, "stalls")
    order = list(range(nodes))
    for place in range(slow):
        other = place + below(random, nodes - place)
        order[place], order[other] = order[other], order[place]
    found, begin = [], 10.0
    while begin < until:
        found += [Stall(node, begin, seconds) for node in order[:slow]]
        begin += seconds + pause
    return tuple(found)


def run_swim(scenario: SwimScenario) -> SwimOutcome:
    """Run a scenario. LocalError: it makes no sense."""
    group = SwimGroup(scenario)
    group.run(scenario.seconds)
    return group.outcome()
