"""One run, from a scenario to a verdict: safety under faults, then everything heals and the group must come to rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from distkit.core import DistkitError, LocalError, record
from distkit.raft import recover
from distkit.sim.broken import Broken, require
from distkit.sim.chance import SECOND
from distkit.sim.linear import Operation, Result, check
from distkit.sim.objects import MODELS
from distkit.sim.replicas import ReplicaSystem
from distkit.sim.scenario import Call, Scenario
from distkit.sim.systems import System
from distkit.sim.world import Trace, World

#: A second of virtual time with more events than this is an endless loop.
_EVENTS_MAX: Final = 2_000_000
#: After the heal the group must be at rest within so many virtual seconds, and serve within as many.
SETTLE_MAX: Final = 60
#: Steps of the linearizability checker for one key.
_STEPS_MAX: Final = 2_000_000


@record
class Outcome:
    """How a run ended. `rule` is "" if all is well, "undecided" if the checker gave up; `digest` names all that
    happened."""

    scenario: Scenario
    rule: str
    text: str
    digest: str
    events: int
    virtual: float
    marks: dict[str, int]
    acknowledged: int
    unknown: int
    fates: dict[tuple[int, int, int], tuple[str, int]]

    @property
    def failed(self) -> bool:
        """Whether something was found."""
        return self.rule not in ("", "undecided")


def system_of(machine: str) -> System:
    """The nodes that a scenario names."""
    if machine == "raft":
        return ReplicaSystem(recover)
    raise LocalError(f"there is no machine {machine!r} to simulate; there is raft")


def run(scenario: Scenario, trace: Trace | None = None, system: System | None = None) -> Outcome:
    """Run a scenario to its end, or to the step that breaks a rule."""
    world = World(scenario, system or system_of(scenario.machine), trace)
    rule = text = ""
    try:
        world.start()
        world.run(int(scenario.seconds * SECOND), _EVENTS_MAX)
        _heal(world)
        rule, text = _linearizable(world)
    except Broken as error:
        rule, text = error.rule, str(error)
    except (RecursionError, MemoryError, DistkitError):
        raise
    if rule:
        world.tell("broken", 0, rule=rule, text=text)
    return Outcome(
        scenario,
        rule,
        text,
        world.timeline.digest(),
        world.timeline.events,
        world.timeline.now / SECOND,
        dict(sorted(world.marks.items())),
        world.clients.acknowledged,
        world.clients.unknown,
        world.network.fates,
    )


def _heal(world: World) -> None:
    """No more faults: come to rest in time, serve, and have every write that was acknowledged."""
    world.faults.heal()
    _until(world, "after everything healed", world.oracle.settled)
    now = world.timeline.now
    keys = sorted({call.key for call in world.scenario.calls if call.key and call.key[0] not in "qm"})
    up = [host.id for host in world.hosts.values() if host.up]
    calls = [Call(now, 1000 + number, up[number % len(up)], "read", key, 0) for number, key in enumerate(keys)]
    calls.append(Call(now, 2000, up[0], "append", "last", 1))
    wanted = world.clients.acknowledged + len(calls)
    for call in calls:
        world.clients.event(call)

    def unserved() -> str:
        missing = wanted - world.clients.acknowledged
        return f"{missing} calls were not answered" if missing > 0 else world.oracle.settled()

    _until(world, "after the last calls", unserved)
    world.oracle.finish()


def _until(world: World, when: str, missing: Callable[[], str]) -> None:
    """Let time pass until nothing is missing; Broken if that takes too long."""
    for _ in range(SETTLE_MAX):
        world.run(world.timeline.now + SECOND, _EVENTS_MAX)
        if not missing():
            return
    require(False, "liveness", f"{SETTLE_MAX} s", when, missing())


def _linearizable(world: World) -> tuple[str, str]:
    """(rule, text) of what the checker finds wrong."""
    undecided = ""
    for letter, model in MODELS.items():
        history = [_whole(world, operation) for operation in world.clients.history if operation.key[0] == letter]
        if not history:
            continue
        verdict = check(history, model, steps_max=_STEPS_MAX)
        if verdict.result is Result.ILLEGAL:
            return "linearizability", verdict.text()
        if verdict.result is Result.UNKNOWN:
            undecided = verdict.text()
    return ("undecided", undecided) if undecided else ("", "")


def _whole(world: World, operation: Operation) -> Operation:
    """A read of a list with the list itself, not its length."""
    if operation.key[0] == "l" and operation.kind == "read" and operation.output is not None:
        return replace(operation, output=world.clients.lists(operation.key, operation.output))
    return operation


def watcher(events: list[dict[str, Any]]) -> Callable[[dict[str, Any]], None]:
    """A trace that numbers events and keeps them."""

    def take(event: dict[str, Any]) -> None:
        events.append({"seq": len(events), **event})

    return take
