"""A scenario: everything that makes a run what it is, as data. The same scenario gives the same run, everywhere.

`draw` makes one from a seed. What a failing run was made of is a scenario, too, with every fault in a list: `shrink`
takes things away from it, a file keeps it, and a test runs it again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from functools import cache
from math import isfinite
from typing import Any, Final

from distkit.core import LocalError, record
from distkit.sim.network import NetworkOptions

#: Of the file. Older ones can't be run, because the machines drew other numbers then.
VERSION: Final = 1
#: What a fault may be, see `distkit.sim.faults`; and what may strike a message, see `distkit.sim.network`.
FAULTS: Final = (
    *("crash", "pause", "isolate", "cut", "clog", "reset", "jump", "slow", "stall", "full", "error", "badsync"),
    *("hold", "echo", "mute"),
    *("rot", "misplace", "misdirect", "wipe"),
)
FATES: Final = ("drop", "copy", "late", "old", "flip")
_DAY: Final = 86_400
_DAY_NS: Final = _DAY * 1_000_000_000
#: The largest value of each number; others are below 2**63.
_LARGEST: Final = {
    "nodes": 9,
    "in_flight": 64,
    "seconds": _DAY,
    "wall": _DAY,
    "drift": 0.5,
    "segment_bytes": 1 << 24,
    **dict.fromkeys(("delay_min", "delay_mean", "late_mean"), _DAY_NS),
    **dict.fromkeys(("eager", "loss", "copy", "old", "flip"), 1),
}
_TYPES: Final[dict[str, Any]] = {"bool": bool, "int": int, "float": int | float, "str": str}


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
    """At `time` client `client` begins `kind` on `key` at `node` (0: the node that has led for longest), once it is
    done with what came before."""

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
    once, the others share a flush. `in_flight`: calls that one client has under way at a time. `script`: what
    strikes which message, (source, target, number of the message, kind, nanoseconds)."""

    machine: str
    seed: int
    nodes: int
    seconds: float
    by_bytes: bool = False
    wal: bool = False
    eager: float = 0.7
    sessions: bool = True
    in_flight: int = 1
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
        data["machine_options"] = tuple((name, value) for name, value in data["machine_options"])
        if data["script"] is not None:
            data["script"] = tuple(tuple(each) for each in data["script"])
        scenario = Scenario(**data)
    except (KeyError, TypeError, ValueError) as error:
        raise LocalError(f"not a scenario that this program can run: {type(error).__name__} {error}") from None
    check(scenario)
    return scenario


def check(scenario: Scenario) -> None:
    """Raise LocalError unless it can be run."""
    for part in (scenario, scenario.network, scenario.disk, scenario.clock, *scenario.faults, *scenario.calls):
        if not isinstance(part, Scenario | NetworkOptions | DiskOptions | ClockOptions | Fault | Call):
            raise LocalError(f"{part!r} is no part of a scenario")
        _check_fields(part)
    if not scenario.nodes or not scenario.seconds:
        raise LocalError("a scenario has 1 to 9 nodes and lasts up to a day")
    if not scenario.in_flight:
        raise LocalError("in_flight of a scenario must be 1 or more: clients that may call nothing")
    if scenario.disk.segment_bytes < 1 << 12:
        raise LocalError("segment_bytes of a scenario must be 4096 or more")
    timed: tuple[Fault | Call, ...] = (*scenario.faults, *scenario.calls)
    for what in timed:
        if what.node > scenario.nodes:
            raise LocalError(f"{what} does not fit a scenario of {scenario.nodes} nodes")
    for fault in scenario.faults:
        _check_fault(fault, scenario.nodes)
    for option in scenario.machine_options:
        if not isinstance(option[0], str) or not _is_number(option[1]):
            raise LocalError(f"{option!r} is no option of a machine: a name and a number")
    for strike in scenario.script or ():
        _check_strike(strike)


def _check_fields(part: Any) -> None:
    """Each field has its type, and each number is one that can happen. Only a value of a call may be negative."""
    for name, wanted, largest in _limits(part.__class__):
        value = getattr(part, name)
        # A bool is an int, but not here.
        if not isinstance(value, _TYPES[wanted]) or (type(value) is bool and wanted != "bool"):
            wrong = wanted
        elif largest is not None and not 0 <= value <= largest:
            wrong = f"between 0 and {largest}"
        else:
            continue
        raise LocalError(f"{name} of {type(part).__name__} in a scenario must be {wrong}, not {value!r:.100}")


@cache
def _limits(kind: type) -> list[tuple[str, str, float | None]]:
    """Name, type and largest value (None: no number, or any) of each plain field: thousands of calls have the same."""
    found: list[tuple[str, str, float | None]] = []
    for each in fields(kind):
        name, wanted = each.name, str(each.type)
        largest: float | None = None
        if wanted in ("int", "float") and name != "value":
            # The same name is a rate of the network and a time of the clock.
            largest = 1 if name == "late" and kind is NetworkOptions else _LARGEST.get(name, 1 << 63)
        if wanted in _TYPES:
            found.append((name, wanted, largest))
    return found


def _check_fault(fault: Fault, nodes: int) -> None:
    if fault.kind not in FAULTS:
        raise LocalError(f"there is no fault {fault.kind!r}; there are {', '.join(FAULTS)}")
    if fault.kind in ("hold", "echo", "mute"):
        way, *kind = fault.detail.split() or [""]
        peers = {str(node) for node in range(1, nodes + 1)}
        if way not in ("in", "out") or not kind or not peers.issuperset(kind[1:]):
            raise LocalError(
                f"{fault.detail!r} of a {fault.kind} does not name messages: 'in KIND' or 'out KIND', peers after that"
            )
    if fault.kind == "cut":
        for link in fault.detail.split():
            source, arrow, target = link.partition(">")
            if not (arrow and source.isdecimal() and target.isdecimal()):
                raise LocalError(f"{link!r} of a cut is no link: give those that are cut as in '1>2 2>1'")


def _check_strike(strike: tuple[Any, ...]) -> None:
    """What strikes a message: (source, target, number of the message, kind, nanoseconds or which)."""
    numbers = (*strike[:3], *strike[4:])
    if (
        len(strike) != 5
        or any(type(number) is not int or not 0 <= number <= _DAY_NS for number in numbers)
        or strike[3] not in FATES
    ):
        raise LocalError(f"{strike!r:.100} strikes no message: source, target, number, one of {', '.join(FATES)}, time")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and isfinite(value)


def without_chance(scenario: Scenario, fates: dict[tuple[int, int, int], tuple[str, int]]) -> Scenario:
    """The same run with what struck its messages as a script."""
    script = tuple((*key, kind, number) for key, (kind, number) in fates.items())
    return replace(scenario, script=script)
