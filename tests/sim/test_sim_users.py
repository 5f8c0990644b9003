"""What users bring: workloads and state machines that are right, wrong, or nonsense."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from distkit.core import LocalError, StateMachine
from distkit.sim import Call, SimulationFailed, Workload, drawn, run, simulate
from distkit.sim.linear import Operation
from distkit.sim.replicas import ReplicaSystem


class Counter(StateMachine):
    """Counts its commands."""

    def __init__(self) -> None:
        self.count = 0

    def apply(self, index: int, term: int, time_us: int, command: bytes) -> bytes:
        self.count += 1
        return b"%d" % self.count

    def snapshot(self) -> Iterator[bytes]:
        return iter([b"%d" % self.count])

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.count = int(b"".join(chunks))

    def digest(self) -> bytes:
        return b"%d" % self.count


class Counting(Workload):
    """Adds one, and reads."""

    def application(self) -> StateMachine:
        return Counter()

    def command(self, call: Call, random: Any) -> bytes:
        return b"add"


def found(workload: type[Workload], seeds: Iterable[int] = range(12)) -> tuple[str, str]:
    """(rule, text) of the first seed that finds something."""
    try:
        simulate(workload, seeds)
    except SimulationFailed as failed:
        return failed.outcome.rule, failed.outcome.text
    return "", ""


def counting(**methods: Any) -> type[Workload]:
    """Counting, with other methods."""
    return type("Other", (Counting,), methods)


def machine(**methods: Any) -> type[Workload]:
    """Counting on a state machine with other methods."""
    kind = type("OtherCounter", (Counter,), methods)
    return counting(application=lambda self: kind())


def returning(value: Any) -> Callable[..., Any]:
    return lambda self, *more: value


def raising(error: BaseException) -> Callable[..., Any]:
    def raise_it(self: Any, *more: Any) -> Any:
        raise error

    return raise_it


def test_a_sound_machine_passes() -> None:
    assert found(Counting) == ("", "")


def test_a_failure_names_its_seed_and_carries_the_outcome() -> None:
    with pytest.raises(SimulationFailed, match=r"seed 3: assertion: AssertionError: money went") as caught:
        simulate(counting(settled=raising(AssertionError("money went"))), range(3, 5))
    assert caught.value.outcome.scenario.seed == 3


def test_a_workload_that_lacks_a_method_is_told_which() -> None:
    rule, text = found(type("Mine", (Workload,), {"command": returning(b"add")}))
    assert (rule, "Mine must say what its application() is" in text) == ("errors", True)
    rule, text = found(type("Mine", (Workload,), {"application": returning(Counter())}))
    assert (rule, "Mine must say what the command() of a call is" in text) == ("errors", True)


def test_a_workload_sees_everything_in_order() -> None:
    told: list[tuple[Any, ...]] = []
    system = ReplicaSystem(
        counting(
            applied=lambda self, index, command, result: told.append(("applied", index, command, result)),
            called=lambda self, call: (told.append(("called", call)), len(told))[1],
            answered=lambda self, call, token, answer: told.append(("answered", call, token, answer)),
            settled=lambda self, applications: told.append(("settled", [each.count for each in applications])),
        )
    )
    scenario = drawn(5)
    calls = Counting().calls(Random(1), 3, scenario.seconds, 3, 60)
    assert not run(replace(scenario, calls=calls), system=system).rule
    applied = [each for each in told if each[0] == "applied"]
    assert [each[1] for each in applied] == sorted(each[1] for each in applied)
    assert [each[3] for each in applied] == [b"%d" % number for number in range(1, len(applied) + 1)]
    assert {each[2] for each in applied} == {b"add"}
    for _, call, token, answer in (each for each in told if each[0] == "answered"):
        assert told[token - 1] == ("called", call)
        assert isinstance(answer, bytes)
    (settled,) = (each for each in told if each[0] == "settled")
    assert set(settled[1]) == {len(applied)}
    assert told[-1] == settled


BROKEN = {
    "a rule of their own": (
        counting(settled=raising(AssertionError("money went"))),
        "assertion",
        "money went (in raise_it,",
    ),
    "a rule at a call": (counting(answered=raising(AssertionError("bad answer"))), "assertion", "bad answer"),
    "a mistake at a call": (counting(called=raising(KeyError("k"))), "errors", "KeyError"),
    "a command of nothing": (counting(command=returning(None)), "errors", "TypeError"),
    "a command of text": (counting(command=returning("text")), "errors", "TypeError"),
    "no application": (counting(application=returning(None)), "errors", "NoneType"),
    "a result of nothing": (machine(apply=returning(None)), "errors", "returned NoneType, not bytes"),
    "a result of text": (machine(apply=returning("text")), "errors", "returned str, not bytes"),
    "an exception": (machine(apply=raising(ValueError("boom"))), "errors", "the application raised ValueError: 'boom'"),
    "an exit": (machine(digest=raising(SystemExit(0))), "errors", "SystemExit"),
    "a digest of nothing": (machine(digest=returning(None)), "errors", "NoneType"),
    "a snapshot that is a generator": (
        machine(snapshot=lambda self: (yield b"%d" % self.count)),
        "errors",
        "OtherCounter.snapshot is a generator function",
    ),
    "a model that is none": (counting(model="nonsense"), "errors", "there is no model 'nonsense'"),
    "a history of numbers": (counting(model="counter", operation=returning(5)), "errors", "AttributeError"),
    "states that differ by process": (
        machine(apply=lambda self, index, term, time_us, command: b"%d" % id(self)),
        "state machine safety",
        "elsewhere, here",
    ),
    "states that differ by node": (machine(digest=lambda self: b"%d" % id(self)), "state machine safety", "differ"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_wrong_is_found_and_named(what: str) -> None:
    workload, rule, text = BROKEN[what]
    found_rule, found_text = found(workload)
    assert found_rule == rule
    assert text in found_text or text.replace("'", "") in found_text


def test_a_snapshot_that_is_not_the_whole_state_is_found() -> None:
    class Forgetful(Counter):
        """Counts double after each tenth command; a restart from a snapshot does not know."""

        def __init__(self) -> None:
            super().__init__()
            self.since = 0

        def apply(self, index: int, term: int, time_us: int, command: bytes) -> bytes:
            self.since += 1
            self.count += self.since % 10 == 0
            return super().apply(index, term, time_us, command)

    rule, _ = found(counting(application=lambda self: Forgetful()), range(60))
    assert rule == "state machine safety"


def test_a_view_that_is_not_frozen_is_found() -> None:
    class Lazy(Counter):
        def snapshot(self) -> Iterator[bytes]:
            return (b"%d" % self.count for _ in range(1))

    assert found(counting(application=lambda self: Lazy()), range(60))[0] == "state machine safety"


def test_wrong_answers_are_judged_by_the_model() -> None:
    """A register that swallows each fifth write."""

    class Register(Counter):
        def apply(self, index: int, term: int, time_us: int, command: bytes) -> bytes:
            if int(command) % 5:
                self.count = int(command)
            return b""

    class Judged(Workload):
        model = "register"

        def application(self) -> StateMachine:
            return Register()

        def command(self, call: Call, random: Any) -> bytes:
            return b"%d" % call.value

        def operation(self, call: Call, answer: Any, called: float, returned: float) -> Operation | None:
            kind = "read" if call.kind == "read" else "write"
            given = None if kind == "read" else call.value
            output = int(answer) or None if kind == "read" and answer is not None else None
            return Operation(call.client, kind, given, output, called, returned)

    rule, text = found(Judged)
    assert rule == "linearizability"
    assert "read" in text


WRONG_CALLS = {
    "none": returning(None),
    "numbers": returning((1, 2)),
    "times that are no whole numbers": returning((Call(0.5, 1, 1, "command", "", 1),)),  # type: ignore[arg-type]
    "times before the beginning": returning((Call(-5, 1, 1, "command", "", 1),)),
    "nodes that are not there": returning((Call(5, 1, 77, "command", "", 1),)),
    "kinds of numbers": returning((Call(5, 1, 1, 5, "", 1),)),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("what", WRONG_CALLS)
def test_calls_that_are_none_are_refused(what: str) -> None:
    with pytest.raises(LocalError):
        simulate(counting(calls=WRONG_CALLS[what]), range(1))


# -- machines by name -------------------------------------------------------------------------------------------------

SOURCE = """
from test_sim_users import Counting

class Good(Counting):
    pass

class NoStart(Counting):
    def __init__(self):
        raise ValueError("no start")

class NoCalls(Counting):
    def calls(self, *more):
        raise ValueError("no calls")

nothing = 5
"""


def test_a_machine_of_a_file_runs(tmp_path: Path) -> None:
    """Even of one that has the name of a module that others need."""
    file = tmp_path / "json.py"
    file.write_text(SOURCE)
    assert not run(drawn(1, "lite", f"{file}:Good")).rule
    assert sys.modules["json"] is json
    assert drawn(1, machine="test_sim_users:Counting").machine == "test_sim_users:Counting"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nonsense", "there is no machine 'nonsense' to simulate: give raft, "),
        ("", "give raft"),
        (":Good", "can't be loaded"),
        ("no.such.module:Good", "can't be loaded"),
        ("{file}:Missing", "can't be loaded: AttributeError"),
        ("{folder}/missing.py:Good", "there is no file"),
        ("{folder}/syntax.py:Good", "can't be loaded: SyntaxError"),
        ("{file}:nothing", "neither a Workload nor a System"),
        ("json:dumps", "neither a Workload nor a System"),
        ("{file}:NoStart", "no start (in __init__"),
        ("{file}:NoCalls", "has no calls for seed 0: errors: ValueError: no calls"),
    ],
)
def test_a_machine_that_is_none_is_refused(name: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / "bank.py"
    file.write_text(SOURCE)
    (tmp_path / "syntax.py").write_text("def x(:\n")
    with pytest.raises(LocalError) as caught:
        drawn(0, machine=name.format(file=file, folder=tmp_path))
    assert text in str(caught.value)
