"""A scenario: everything that makes a run what it is, as data. The same scenario gives the same run, everywhere.

`draw` makes one from a seed. What a failing run was made of is a scenario, too, with every fault in a list: `shrink`
takes things away from it, a file keeps it, and a test runs it again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from typing import Any, Final

from distkit.core import LocalError, record
from distkit.sim.network import NetworkOptions

#: Of the file. Older ones can't be run, because the machines drew other numbers then.
VERSION: Final = 1


@record
class DiskOptions:
    """Nanoseconds that a batch takes: at least `delay_min`, on average `delay_mean` more. `segment_bytes` of the
    log."""

    delay_min: int = 100_000
    delay_mean: int = 300_000
    segment_bytes: int = 1 << 16


@record
class ClockOptions:
    """`drift`: clocks run up to so much (a fraction) fast or slow; `wall`: wall clocks are up to so many seconds off;
    `late`: ticks come up to so many nanoseconds late."""

    drift: float = 0.0
    wall: float = 0.0
    late: int = 0


@record
class Fault:
    """At `time` (nanoseconds) `kind` happens to `node` (0: the leader of that moment); `seconds` and `detail` depend on
    the kind: see `distkit.sim.faults`."""

    time: int
    kind: str
    node: int
    seconds: float = 0.0
    detail: str = ""


@record
class Call:
    """At `time` client `client` begins `kind` on `key` at `node`, once it is done with what came before."""

    time: int
    client: int
    node: int
    kind: str
    key: str
    value: int


@record
class Scenario:
    """See the module. `by_bytes`: messages pass the codec, else they are passed as they are. `wal`: the log is
    the one that ships, on a disk in memory, else a list of records. `eager`: share of the inputs that are flushed at
    once, the others share a flush. `script`: what strikes which message, (source, target, number of the message,
    kind, nanoseconds)."""

    machine: str
    seed: int
    nodes: int
    seconds: float
    by_bytes: bool = False
    wal: bool = False
    eager: float = 0.7
    sessions: bool = True
    network: NetworkOptions = NetworkOptions()
    disk: DiskOptions = DiskOptions()
    clock: ClockOptions = ClockOptions()
    machine_options: tuple[tuple[str, float], ...] = ()
    faults: tuple[Fault, ...] = ()
    calls: tuple[Call, ...] = ()
    script: tuple[tuple[int, int, int, str, int], ...] | None = None

    def to_json(self) -> str:
        """The content of a scenario file."""
        return json.dumps({"distkit scenario": VERSION, **asdict(self)}, indent=1)


_PARTS: Final = {"network": NetworkOptions, "disk": DiskOptions, "clock": ClockOptions}


def from_json(text: str) -> Scenario:
    """The scenario of a file. LocalError says what is wrong with it."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LocalError(f"not a scenario file: {error}") from None
    if not isinstance(data, dict) or "distkit scenario" not in data:
        raise LocalError("not a scenario file: it has no field 'distkit scenario'")
    version = data.pop("distkit scenario")
    if version != VERSION:
        raise LocalError(f"a scenario of version {version!r}; this program runs version {VERSION} only")
    try:
        for name, part in _PARTS.items():
            data[name] = part(**data[name])
        data["faults"] = tuple(Fault(**each) for each in data["faults"])
        data["calls"] = tuple(Call(**each) for each in data["calls"])
        data["machine_options"] = tuple((str(name), value) for name, value in data["machine_options"])
        if data["script"] is not None:
            data["script"] = tuple(tuple(each) for each in data["script"])
        scenario = Scenario(**data)
    except (KeyError, TypeError, ValueError) as error:
        raise LocalError(f"not a scenario that this program can run: {type(error).__name__} {error}") from None
    check(scenario)
    return scenario


def check(scenario: Scenario) -> None:
    """Raise LocalError unless it can be run."""
    for each in fields(Scenario):
        value, default = getattr(scenario, each.name), each.default
        if isinstance(default, bool | float | str | int) and not isinstance(value, type(default) | int):
            raise LocalError(f"{each.name} of a scenario must be {type(default).__name__}, not {value!r}")
    if not 1 <= scenario.nodes <= 9 or not 0 < scenario.seconds <= 86_400:
        raise LocalError("a scenario has 1 to 9 nodes and lasts up to a day")
    timed: tuple[Fault | Call, ...] = (*scenario.faults, *scenario.calls)
    for what in timed:
        if not isinstance(what.time, int) or what.time < 0 or not 0 <= what.node <= scenario.nodes:
            raise LocalError(f"{what} does not fit a scenario of {scenario.nodes} nodes")


def without_chance(scenario: Scenario, fates: dict[tuple[int, int, int], tuple[str, int]]) -> Scenario:
    """The same run with what struck its messages as a script."""
    script = tuple((*key, kind, number) for key, (kind, number) in fates.items())
    return replace(scenario, script=script)


def as_record(scenario: Scenario) -> dict[str, Any]:
    """Its options in a few words, for reports."""
    return {"nodes": scenario.nodes, "seconds": scenario.seconds, "faults": len(scenario.faults)}
