"""One run, from a scenario to an outcome: safety under faults, then everything heals and the group must come to
rest."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from distkit.core import LocalError, record
from distkit.sim.broken import Broken, require
from distkit.sim.chance import SECOND
from distkit.sim.draw import draw
from distkit.sim.linear import MODELS as NAMED_MODELS
from distkit.sim.linear import Model, Operation, Result, check
from distkit.sim.objects import MODELS, ObjectsWorkload
from distkit.sim.replicas import ReplicaSystem
from distkit.sim.scenario import Scenario
from distkit.sim.scenario import check as check_scenario
from distkit.sim.synods import SynodSystem
from distkit.sim.systems import System
from distkit.sim.workload import Workload
from distkit.sim.world import Trace, World

#: A second of virtual time with more events than this is an endless loop.
_EVENTS_MAX: Final = 2_000_000
#: After the heal the group must be at rest within so many virtual seconds, and serve within as many.
SETTLE_MAX: Final = 60
#: Steps of the linearizability checker for one kind of object.
_STEPS_MAX: Final = 2_000_000


_FATES: Final = {
    "drop": "a message was lost",
    "copy": "a message came twice",
    "late": "a message came much later",
    "old": "a message came back from long ago",
    "flip": "a frame was damaged",
}


@record
class Outcome:
    """How a run ended. `rule` is "" if all is well, "undecided" if the checker gave up.

    Of the calls that began `acknowledged` were answered, `refused` were definitely not done, and of `unknown` ones no
    client was told. `digest` names all that happened, `fates` are the faults that struck messages: the `script` that
    repeats them.
    """

    scenario: Scenario
    rule: str
    text: str
    digest: str
    events: int
    virtual: float
    marks: dict[str, int]
    acknowledged: int
    unknown: int
    refused: int
    fates: dict[tuple[int, int, int], tuple[str, int]]

    @property
    def failed(self) -> bool:
        """Whether something was found."""
        return self.rule not in ("", "undecided")


class SimulationFailed(AssertionError):
    """A seed broke a rule. `outcome` has everything, the text says how to see it again."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(f"seed {outcome.scenario.seed}: {outcome.text}")
        self.outcome = outcome


def simulate(workload: Callable[[], Workload], seeds: Iterable[int], profile: str = "lite") -> None:
    """Test a state machine: run its workload with these seeds. SimulationFailed at the first that breaks a rule."""
    system = ReplicaSystem(workload)
    for seed in seeds:
        outcome = run(_drawn(seed, profile, "raft", system), system=system)
        if outcome.failed:
            raise SimulationFailed(outcome)


def system_of(machine: str) -> System:
    """The nodes that a scenario names: raft, synod, or FILE.py:NAME or MODULE:NAME of a Workload or System of one's
    own."""
    if machine == "raft":
        return ReplicaSystem(ObjectsWorkload)
    if machine == "synod":
        return SynodSystem()
    place, colon, name = machine.rpartition(":")
    if not colon:
        raise LocalError(f"there is no machine {machine!r} to simulate: give raft, synod, FILE.py:NAME or MODULE:NAME")
    try:
        found = getattr(_module(place), name)
        if isinstance(found, type) and issubclass(found, Workload):
            return ReplicaSystem(found)
        system: System = found() if isinstance(found, type) else found
    except Exception as error:  # anything: it may come out of the module
        raise LocalError(f"{machine!r} can't be loaded: {type(error).__name__}: {error}") from error
    if not callable(getattr(system, "workload", None)):
        raise LocalError(f"{machine!r} is neither a Workload nor a System of distkit.sim")
    return system


def _module(place: str) -> Any:
    if not place.endswith(".py"):
        return importlib.import_module(place)
    path = Path(place).resolve()
    name = f"simulated {path.stem}"  # the file may be called as a module that somebody needs
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"there is no file {place}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def drawn(seed: int, profile: str = "lite", machine: str = "raft") -> Scenario:
    """The scenario of a seed. LocalError: there is none, because the workload can't say what is called."""
    return _drawn(seed, profile, machine, system_of(machine))


def _drawn(seed: int, profile: str, machine: str, system: System) -> Scenario:
    try:
        return draw(seed, profile, machine, system)
    except LocalError:
        raise
    except Exception as error:  # anything: it comes out of the workload
        raise LocalError(f"{machine!r} has no calls for seed {seed}: {_raised(error)[1]}") from error


def run(
    scenario: Scenario, trace: Trace | None = None, system: System | None = None, *, strict: bool = False
) -> Outcome:
    """Run a scenario to its end, or to the step that breaks a rule. `strict` looks whether messages that were received
    stay as they are, which takes time. Whatever the machines, the application or the workload raise is a finding.
    LocalError: the scenario can't be run."""
    check_scenario(scenario)
    try:
        world = World(scenario, system or system_of(scenario.machine), trace, strict=strict)
    except LocalError:
        raise
    except Exception as error:  # anything: it comes out of the system or the workload
        raise LocalError(f"{scenario.machine!r} can't be started: {_raised(error)[1]}") from error
    try:
        world.start()
        world.run(int(scenario.seconds * SECOND), _EVENTS_MAX)
        _heal(world)
        rule, text = _judged(world)
    except Broken as error:
        rule, text = error.rule, str(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it may come out of a machine, an application, a workload
        rule, text = _raised(error)
    for kind, _ in world.network.fates.values():
        world.marks[_FATES[kind]] += 1
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
        world.clients.refused,
        world.network.fates,
    )


def _raised(error: BaseException) -> tuple[str, str]:
    """(rule, text) of an exception: what, and where it was raised."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    rule = "assertion" if isinstance(error, AssertionError) else "errors"
    where = f"{place.name}, {Path(place.filename).name}:{place.lineno}"
    return rule, f"{rule}: {type(error).__name__}: {error} (in {where})"


def _heal(world: World) -> None:
    """No more faults: come to rest in time, serve, and have every write that was acknowledged."""
    world.faults.heal()
    world.clients.stop()
    _until(world, "after everything healed", world.oracle.settled)
    wanted = world.clients.acknowledged
    wanted += world.clients.last()

    def unserved() -> str:
        missing = wanted - world.clients.acknowledged
        return f"{missing} calls were not answered" if missing > 0 else world.oracle.settled()

    _until(world, "after the last calls", unserved)
    world.oracle.finish()
    world.clients.finish()


def _until(world: World, when: str, missing: Callable[[], str]) -> None:
    """Let time pass until nothing is missing; Broken if that takes too long."""
    for _ in range(SETTLE_MAX):
        world.run(world.timeline.now + SECOND, _EVENTS_MAX)
        if not missing():
            return
    require(False, "liveness", f"{SETTLE_MAX} s", when, missing())


def _judged(world: World) -> tuple[str, str]:
    """(rule, text) of what the checker of histories finds wrong, "undecided" if it can't tell."""
    undecided = ""
    for model, history in _histories(world):
        if _explained(history, model):
            continue
        verdict = check(history, model, steps_max=_STEPS_MAX)
        if verdict.result is Result.ILLEGAL:
            return "linearizability", verdict.text()
        if verdict.result is Result.UNKNOWN:
            undecided = verdict.text()
    return ("undecided", undecided) if undecided else ("", "")


def _explained(history: list[Operation], model: Model | str) -> bool:
    """Whether one order, that of the log, explains all answers and keeps to the times. If it does, there is no need to
    search for one, which many calls at a time may make longer than the run."""
    if isinstance(model, str):
        if model not in NAMED_MODELS:
            return False  # `check` says so
        model = NAMED_MODELS[model]
    states: dict[Any, tuple[Any, float]] = {}  # of each part, and when the last of what is there was called
    for operation in history:
        part = model.partition(operation)
        state, called = states.get(part) or (model.initial(), 0.0)
        state = model.step(state, operation)
        if state is None or operation.returned < called:
            return False
        states[part] = state, max(called, operation.called)
    return True


def _histories(world: World) -> list[tuple[Any, list[Operation]]]:
    """The history of the run by model."""
    history = world.clients.history
    if world.workload.model is not None:
        return [(world.workload.model, history)]
    if not isinstance(world.workload, ObjectsWorkload):
        return []
    parts = {letter: [each for each in history if each.key[0] == letter] for letter in MODELS}
    return [(MODELS[letter], part) for letter, part in parts.items() if part]


def watcher(events: list[dict[str, Any]]) -> Trace:
    """A trace that numbers events and keeps them."""

    def take(event: dict[str, Any]) -> None:
        events.append({"seq": len(events), **event})

    return take
