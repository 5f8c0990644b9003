"""`sim`, `replay` and `shrink`: exit statuses, what they print, child processes, and input that is none."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from distkit.cli import commands
from distkit.sim import Scenario, drawn, run
from distkit.sim.scenario import from_json

HELPERS = Path(__file__).parents[1] / "sim"
SOURCE = """
import os, signal
from test_sim_users import Counter, Counting

class Good(Counting):
    pass

class Broken(Counting):
    def settled(self, applications):
        assert sum(each.count for each in applications) < 0, "money came or went"

class Exits(Counting):
    def command(self, call, random):
        raise SystemExit(0)

class Dies(Counting):
    def command(self, call, random):
        os.kill(os.getpid(), signal.SIGKILL)

class NoCalls(Counting):
    def calls(self, *more):
        raise ValueError("no calls")

class ByHash(Counting):
    def application(self):
        return HashCounter()

class HashCounter(Counter):
    def apply(self, index, term, time_us, command):
        super().apply(index, term, time_us, command)
        return next(iter({"a", "b", "c", "d", "e", "f", "g"})).encode()

class Telling(Counting):
    # Writes its process id into a pipe, once.
    told = False

    def command(self, call, random):
        if not Telling.told:
            Telling.told = True
            with open(os.environ["PIPE"], "w") as pipe:
                pipe.write(f"{os.getpid()}\\n")
        return b"add"
"""
SCRIBBLER = """
from test_sim_host import Scribbler
from toys import Toys

class Scribblers(Toys):
    def __init__(self):
        super().__init__(Scribbler)
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """The name of a machine in a file; the path has a space."""
    monkeypatch.syspath_prepend(HELPERS)
    file = tmp_path / "my bank.py"
    file.write_text(SOURCE)
    return lambda name: f"{file}:{name}"


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(commands, arguments)


def child(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "distkit", *arguments],
        env=os.environ | {"PYTHONPATH": str(HELPERS)} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def refused(result: Result, text: str) -> None:
    """Exit status 2, a text, and no traceback."""
    assert (result.exit_code, "Traceback" in result.output) == (2, False), result.output
    assert text in " ".join(result.output.split()), result.output
    assert isinstance(result.exception, SystemExit)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# -- sim --------------------------------------------------------------------------------------------------------------


def test_seeds_that_break_nothing_end_well(tmp_path: Path) -> None:
    result = invoke("sim", "--seeds", "3:6", "--json", str(tmp_path / "out"))
    assert result.exit_code == 0
    assert "3 lite seeds: 0 failed, 0 undecided" in result.output
    found = lines(tmp_path / "out")
    assert [line["seed"] for line in found] == [3, 4, 5]
    for line in found:
        outcome = run(drawn(line["seed"]))
        assert (line["digest"], line["events"], line["marks"]) == (outcome.digest, outcome.events, outcome.marks)
        assert (line["rule"], line["text"], line["profile"], line["machine"]) == ("", "", "lite", "raft")


@pytest.mark.parametrize(
    ("options", "profile"),
    [(["--lite"], "lite"), (["--swarm"], "swarm"), (["--profile", "swarm"], "swarm"), (["--profile", "idle"], "idle")],
)
def test_profiles(options: list[str], profile: str, tmp_path: Path) -> None:
    result = invoke("sim", "--seeds", "1:2", *options, "--json", str(tmp_path / "out"))
    assert f"1 {profile} seeds: 0 failed" in result.output
    assert lines(tmp_path / "out")[0]["digest"] == run(drawn(1, profile)).digest


def test_a_seed_that_breaks_a_rule_fails_and_its_line_shows_it_again(
    tmp_path: Path, machine: Callable[[str], str]
) -> None:
    result = invoke("sim", "--seeds", "0:2", "--machine", machine("Broken"), "--json", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert "money came or went" in result.output
    assert "2 lite seeds: 2 failed" in result.output
    for line in lines(tmp_path / "out"):
        assert line["rule"] == "assertion"
        python, *again = shlex.split(line["reproduce"])
        assert (python, *again[:2]) == ("python", "-m", "distkit")
        replayed = invoke(*again[2:])
        assert replayed.exit_code == 1
        assert line["text"] in replayed.output
        assert line["digest"] in replayed.output


def test_what_the_checker_cannot_decide_is_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distkit.sim.simulation._STEPS_MAX", 1)
    monkeypatch.setattr("distkit.sim.simulation._explained", lambda history, model: False)  # or there is no search
    result = invoke("sim", "--seeds", "0:1")
    assert "0 failed, 1 undecided" in result.output
    assert result.exit_code == 2
    assert invoke("replay", "0").exit_code == 2


def test_an_exit_of_a_workload_is_a_finding_and_not_the_end(machine: Callable[[str], str]) -> None:
    assert invoke("sim", "--seeds", "0:2", "--machine", machine("Exits")).exit_code == 1


@pytest.mark.parametrize(
    "seeds",
    [
        "",
        "5",
        ":",
        "5:",
        ":5",
        "5:5",
        "6:5",
        "a:b",
        "-1:5",
        "1.5:3",
        "²:5",
        "0:1:2",
        "0:100000001",
        "1" * 5000 + ":2",
        " 1:2",
    ],
)
def test_seeds_that_are_no_range(seeds: str) -> None:
    refused(invoke("sim", f"--seeds={seeds}"), "is not a range of seeds: give A:B")


def test_options_that_make_no_sense() -> None:
    refused(invoke("sim"), "Missing option '--seeds'")
    refused(invoke("sim", "--seeds", "0:1", "--jobs", "0"), "--jobs")
    refused(invoke("sim", "--seeds", "0:1", "--profile", "huge"), "--profile")
    refused(invoke("sim", "--seeds", "0:1", "--json", "/no/such/folder/file"), "--json")
    refused(invoke("replay", "1", "--picture", "/no/such/folder/file"), "--picture")
    refused(invoke("shrink", "1", "--output", "/no/such/folder/file"), "there is no directory '/no/such/folder'")


@pytest.mark.parametrize(
    "verb", [["sim", "--seeds", "0:2"], ["sim", "--check", "--seeds", "0:2"], ["replay", "0"], ["shrink", "0"]]
)
@pytest.mark.parametrize(
    ("name", "text"),
    [("nonsense", "there is no machine 'nonsense'"), ("NoCalls", "no calls"), ("Missing", "can't be loaded")],
)
def test_a_machine_that_cannot_run_is_refused(
    verb: list[str], name: str, text: str, machine: Callable[[str], str]
) -> None:
    refused(invoke(*verb, "--machine", name if name == "nonsense" else machine(name)), text)
    if verb[0] == "sim":
        refused(invoke(*verb, "--jobs", "2", "--machine", name if name == "nonsense" else machine(name)), text)


def test_marks_that_never_fired_fail_when_asked_for() -> None:
    result = invoke("sim", "--seeds", "1:2", "--marks")
    assert result.exit_code == 1
    assert "never happened: " in result.output


@pytest.mark.parametrize("verb", [["sim", "--seeds", "0:1", "--json"], ["replay", "0", "--picture"]])
def test_a_full_disk_is_told_in_one_line(verb: list[str]) -> None:
    result = invoke(*verb, "/dev/full")
    assert (result.exit_code, result.stderr) == (2, "Error: [Errno 28] No space left on device\n")


def test_lines_on_standard_output_have_it_for_themselves() -> None:
    result = invoke("sim", "--seeds", "0:3", "--marks", "--json", "-")
    assert [json.loads(line)["seed"] for line in result.stdout.splitlines()] == [0, 1, 2]
    assert "3 lite seeds: 0 failed" in result.stderr
    assert "never happened: " in result.stderr


def test_what_is_to_be_typed_stands_in_one_line(machine: Callable[[str], str]) -> None:
    result = invoke("sim", "--seeds", "0:1", "--machine", machine("Broken"))
    line = next(line for line in result.stderr.splitlines() if "replay" in line)
    assert shlex.split(line)[-1] == machine("Broken")


# -- child processes --------------------------------------------------------------------------------------------------


@pytest.mark.process
def test_more_processes_find_the_same(tmp_path: Path, machine: Callable[[str], str]) -> None:
    for name in ("raft", machine("Broken")):
        found = []
        for jobs in ("1", "2", "7"):
            out = tmp_path / f"out {jobs}"
            done = child("sim", "--seeds", "2:7", "--jobs", jobs, "--machine", name, "--json", str(out))
            assert done.returncode == (0 if name == "raft" else 1)
            found.append(sorted(lines(out), key=lambda line: line["seed"]))
        assert found[0] == found[1] == found[2]
        assert [line["seed"] for line in found[0]] == [2, 3, 4, 5, 6]


@pytest.mark.process
def test_a_child_that_dies_is_reported_with_its_seed(machine: Callable[[str], str]) -> None:
    done = child("sim", "--seeds", "1:4", "--jobs", "2", "--machine", machine("Dies"))
    assert done.returncode == 2
    assert "the process that ran seed " in done.stderr
    assert "failed with exit status -9" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.process
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_interrupt_ends_all_processes(jobs: str, tmp_path: Path, machine: Callable[[str], str]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "distkit",
            "sim",
            "--seeds",
            "1:1000000",
            "--jobs",
            jobs,
            "--machine",
            machine("Telling"),
        ],
        env=os.environ | {"PYTHONPATH": str(HELPERS), "PIPE": str(pipe)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        with os.fdopen(os.open(pipe, os.O_RDWR)) as told:  # both ends, so that it never seems closed
            workers = [int(told.readline()) for _ in range(int(jobs))]
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does it
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors.split()) == (1, ["Aborted!"])
        for worker in workers:
            with pytest.raises(ProcessLookupError):
                os.kill(worker, 0)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.process
def test_the_check_of_determinism(tmp_path: Path, machine: Callable[[str], str]) -> None:
    done = child("sim", "--check", "--seeds", "0:3", "--machine", machine("Good"))
    assert (done.returncode, done.stdout) == (0, "3 lite seeds: the same runs in two processes\n")
    done = child("sim", "--check", "--seeds", "0:3", "--machine", machine("ByHash"))
    assert done.returncode == 1
    first, one, _, other, advice = done.stdout.splitlines()
    assert first.startswith("seed ")
    assert " is not deterministic: step " in first
    steps = json.loads(one), json.loads(other)
    assert steps[0] != steps[1]
    assert steps[0]["seq"] == steps[1]["seq"] == int(first.split("step ")[1].split()[0]) - 1
    assert "order of a set" in advice
    done = child("sim", "--check", "--seeds", "0:2", "--machine", machine("Dies"))
    assert done.returncode == 2
    assert "the same runs" not in done.stdout


@pytest.mark.process
def test_the_check_finds_a_machine_that_changes_what_it_receives(tmp_path: Path) -> None:
    file = tmp_path / "scribblers.py"
    file.write_text(SCRIBBLER)
    done = child("sim", "--check", "--seeds", "0:2", "--machine", f"{file}:Scribblers")
    assert done.returncode == 1
    assert "node 2 changed the Note that it received" in done.stdout


# -- replay and shrink ------------------------------------------------------------------------------------------------


def test_a_replay_says_how_it_went() -> None:
    result = invoke("replay", "5")
    assert result.exit_code == 0
    assert "no rule was broken" in result.output
    assert run(drawn(5)).digest in result.output


def test_a_trace_is_one_json_line_for_each_event() -> None:
    result = invoke("replay", "5", "--trace")
    assert result.exit_code == 0
    *events, verdict, _summary = result.output.splitlines()
    found = [json.loads(line) for line in events]
    assert verdict == "no rule was broken"
    assert [event["seq"] for event in found] == list(range(len(found)))
    assert [event["time"] for event in found] == sorted(event["time"] for event in found)
    kinds = {event["event"] for event in found}
    assert {"send", "receive", "restart", "invoke", "return", "heal", "state"} <= kinds


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    file = tmp_path / "run.html"
    assert invoke("replay", "5", "--picture", str(file)).exit_code == 0
    assert "<svg" in file.read_text()
    assert "seed 5" in file.read_text()


def test_a_scenario_file_is_the_same_run(tmp_path: Path) -> None:
    file = tmp_path / "scenario.json"
    file.write_text(drawn(9).to_json())
    result = invoke("replay", str(file))
    assert result.exit_code == 0
    assert run(drawn(9)).digest in result.output


def test_shrink_writes_a_smaller_scenario_that_fails_alike(
    tmp_path: Path, machine: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("shrink", "1", "--machine", machine("Broken"), "--runs-max", "25")
    assert result.exit_code == 0, result.output
    assert "after " in result.output
    small: Scenario = from_json((tmp_path / "scenario-1.json").read_text())
    large = drawn(1, machine=machine("Broken"))
    assert len(small.calls) + len(small.faults) < len(large.calls) + len(large.faults)
    command = result.output.splitlines()[-1].split("python -m distkit ")[1]
    again = invoke(*shlex.split(command))
    assert again.exit_code == 1
    assert "money came or went" in again.output


def test_shrink_of_a_run_that_does_not_fail(tmp_path: Path) -> None:
    refused(invoke("shrink", "5", "--output", str(tmp_path / "x")), "this scenario breaks no rule")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("verb", ["replay", "shrink"])
def test_files_that_are_no_scenarios(verb: str, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    for content, text in (
        (b"", "not a scenario file"),
        (b"\xff\xfe", "neither a seed (a number) nor a scenario file"),
        (b'{"distkit scenario": 99}', "version 99"),
        (drawn(1).to_json().replace('"nodes": 3', '"nodes": 300').encode(), "nodes of Scenario"),
        (drawn(1).to_json().replace('"machine": "raft"', '"machine": "craft"').encode(), "there is no machine 'craft'"),
    ):
        bad.write_bytes(content)
        refused(invoke(verb, str(bad)), text)
    for name in (str(tmp_path), str(tmp_path / "missing"), "-5", "²", "1" * 5000, "\0"):
        refused(invoke(verb, "--", name), "nor a scenario file")
    refused(invoke(verb, "/dev/zero"), "larger than any scenario file")
