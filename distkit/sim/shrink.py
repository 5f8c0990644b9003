"""Make a failing scenario small: take away what it fails without, by classes first, then piece by piece.

Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002) over the lists of a
scenario: faults, what strikes messages, calls. Then fewer nodes, less chance, an earlier end. What is left still
breaks the same rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from distkit.core import LocalError
from distkit.sim.chance import SECOND
from distkit.sim.faults import LOSING
from distkit.sim.network import NetworkOptions
from distkit.sim.scenario import ClockOptions, DiskOptions, Scenario, without_chance
from distkit.sim.simulation import Outcome

T = TypeVar("T")

#: Runs a scenario.
Run = Callable[[Scenario], Outcome]


class Shrinker:
    """Shrinks one scenario. `runs` counts what it took; `tell` is called with a few words after each success."""

    def __init__(self, run: Run, tell: Callable[[str], None] = lambda _: None, runs_max: int = 2000) -> None:
        self._run = run
        self._tell = tell
        self._runs_max = runs_max
        self.runs = 0
        self._rule = ""
        self.best: Outcome

    def shrink(self, scenario: Scenario) -> Scenario:
        """The smallest that was found. LocalError: it does not fail."""
        first = self._run(scenario)
        if not first.failed:
            raise LocalError("this scenario breaks no rule: there is nothing to shrink")
        self._rule = first.rule
        self.best = first
        if scenario.script is None:
            self._accept(without_chance(scenario, first.fates))
        self._end_early()
        self._classes()
        smaller = True
        while smaller and self.runs < self._runs_max:
            before = self._size()
            self._lists()
            self._nodes()
            self._plain()
            self._end_early()
            smaller = self._size() < before
        return self.best.scenario

    def _size(self) -> tuple[int, int, int, int, float]:
        scenario = self.best.scenario
        lists = (len(scenario.faults), len(scenario.script or ()), len(scenario.calls))
        return (scenario.nodes, *lists, scenario.seconds)

    def _accept(self, candidate: Scenario) -> bool:
        """Keep the candidate if it breaks the same rule."""
        if self.runs >= self._runs_max or candidate == self.best.scenario:
            return False
        self.runs += 1
        outcome = self._run(candidate)
        if outcome.rule != self._rule:
            return False
        self.best = outcome
        nodes, faults, script, calls, seconds = self._size()
        self._tell(f"{nodes} nodes, {faults} faults, {script} on messages, {calls} calls, {seconds:.1f} s")
        return True

    def _classes(self) -> None:
        """Whole classes at once: each kind of fault, each fate of messages, each kind of call."""
        for kind in sorted({fault.kind for fault in self.best.scenario.faults}):
            scenario = self.best.scenario
            self._accept(replace(scenario, faults=tuple(each for each in scenario.faults if each.kind != kind)))
        for kind in sorted({each[3] for each in self.best.scenario.script or ()}):
            scenario = self.best.scenario
            script = tuple(each for each in scenario.script or () if each[3] != kind)
            self._accept(replace(scenario, script=script))
        for kind in sorted({call.kind for call in self.best.scenario.calls}):
            scenario = self.best.scenario
            self._accept(replace(scenario, calls=tuple(each for each in scenario.calls if each.kind != kind)))

    def _lists(self) -> None:
        self._list(self.best.scenario.faults, lambda scenario, faults: replace(scenario, faults=faults))
        script = self.best.scenario.script or ()
        self._list(script, lambda scenario, script: replace(scenario, script=script))
        self._list(self.best.scenario.calls, lambda scenario, calls: replace(scenario, calls=calls))

    def _list(self, items: Sequence[T], put: Callable[[Scenario, tuple[T, ...]], Scenario]) -> None:
        """Take away as much of a list as possible: halves, quarters ... single items."""
        kept = tuple(items)
        size = max(1, len(kept) // 2)
        while kept:
            position = 0
            while position < len(kept):
                rest = kept[:position] + kept[position + size :]
                if self._accept(put(self.best.scenario, rest)):
                    kept = rest
                else:
                    position += size
            if size == 1:
                return
            size //= 2

    def _nodes(self) -> None:
        """Fewer nodes, without what happened to those that are gone."""
        scenario = self.best.scenario
        losing = sum(each.kind in LOSING for each in scenario.faults)
        for nodes in range(2 * losing + 1, scenario.nodes):  # what no cluster survives is no finding
            faults = tuple(each for each in scenario.faults if each.node <= nodes and _known(each.detail, nodes))
            calls = tuple(each for each in scenario.calls if each.node <= nodes)
            script = tuple(each for each in scenario.script or () if max(each[:2]) <= nodes)
            if self._accept(replace(scenario, nodes=nodes, faults=faults, calls=calls, script=script)):
                return

    def _plain(self) -> None:
        """Everyday values instead of drawn ones."""
        plain: list[dict[str, object]] = [
            {"clock": ClockOptions()},
            {"disk": DiskOptions()},
            {"network": NetworkOptions()},
            {"eager": 1.0},
            {"sessions": False},
            {"by_bytes": False},
            {"wal": False},
        ]
        for change in plain:
            self._accept(replace(self.best.scenario, **change))  # type: ignore[arg-type]
        for name, _ in self.best.scenario.machine_options:
            scenario = self.best.scenario
            options = tuple(each for each in scenario.machine_options if each[0] != name)
            self._accept(replace(scenario, machine_options=options))

    def _end_early(self) -> None:
        """Nothing after the rule broke matters."""
        scenario, end = self.best.scenario, int(self.best.virtual * SECOND)
        self._accept(
            replace(
                scenario,
                seconds=min(scenario.seconds, self.best.virtual + 0.001),
                faults=tuple(each for each in scenario.faults if each.time <= end),
                calls=tuple(each for each in scenario.calls if each.time <= end),
            )
        )


def _known(detail: str, nodes: int) -> bool:
    """Whether all nodes of a detail are left: the ends of links that are cut, peers whose messages are held."""
    return all(int(end) <= nodes for word in detail.split() for end in word.split(">") if end.isdecimal())
