"""`python -m distkit check`: what it says of a history, what it draws, and its exit status."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from distkit.cli import commands

HISTORIES = Path(__file__).parent.parent / "sim" / "histories"


def check(file: str | Path, *options: str, input: bytes | None = None) -> Result:
    path = file if file == "-" else HISTORIES / file
    return CliRunner().invoke(commands, ["check", str(path), *options], input=input)


@pytest.mark.parametrize(
    ("file", "options"), [("legal.edn", ["--model", "cas-register"]), ("legal.jsonl", ["--model", "fifo-queue"])]
)
def test_a_legal_history_is_status_0(file: str, options: list[str]) -> None:
    result = check(file, *options)
    assert result.stdout.startswith("linearizable (")
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("file", "options", "key", "operation"),
    [
        ("illegal.log", ["--model", "cas-register"], "", "process 2: read -> 2, called 16, answered 17"),
        (
            "illegal.jsonl",
            ["--model", "register", "--keyed"],
            "key 'x': ",
            "process 0: read -> 1, called 9, answered 10",
        ),
        (
            "illegal.jsonl",
            ["--model", "register", "--keyed", "--by-time"],
            "key 'x': ",
            "process 0: read -> 1, called 11.25, answered 12.5",
        ),
    ],
)
def test_an_illegal_history_is_status_1_and_says_what_has_no_place(
    file: str, options: list[str], key: str, operation: str
) -> None:
    result = check(file, *options)
    assert result.stdout.startswith(f"not linearizable: {key}no order has a place for\n    {operation}\n")
    assert ("times are numbers of lines" in result.stdout) == ("--by-time" not in options)
    assert result.exit_code == 1


@pytest.mark.parametrize(("limit", "name"), [("--steps-max", "steps"), ("--memory-max", "memory")])
def test_a_history_that_stays_undecided_is_status_2(limit: str, name: str) -> None:
    result = check("illegal.log", "--model", "cas-register", limit, "1")
    assert result.stdout.startswith("undecided, which is no pass: ")
    assert f"the limit of {name} is reached" in result.stdout
    assert result.exit_code == 2


def test_json_has_the_verdict() -> None:
    result = check("illegal.jsonl", "--model", "register", "--keyed", "--json")
    facts = json.loads(result.stdout)
    assert (facts["result"], facts["key"], facts["operations"], facts["key_operations"]) == ("illegal", "x", 6, 3)
    assert facts["operation"] == {
        "process": 0, "f": "read", "input": None, "output": 1, "key": "x", "called": 9, "returned": 10
    }  # fmt: skip
    assert [operation["input"] for operation in facts["linearized"]] == [1, 2]
    assert result.exit_code == 1
    facts = json.loads(check("legal.edn", "--model", "cas-register", "--json").stdout)
    assert (facts["result"], facts["operation"], facts["limit"]) == ("ok", None, None)
    assert [operation["returned"] for operation in facts["linearized"] if operation["input"] == 5] == [None]


def test_the_picture_is_written(tmp_path: Path) -> None:
    result = check("illegal.log", "--model", "cas-register", "--picture", str(tmp_path / "out.html"))
    assert result.exit_code == 1
    page = (tmp_path / "out.html").read_text()
    assert "illegal.log: is it a cas-register?" in page
    assert 'class="bar failed" id="failed"' in page


def test_a_picture_that_cannot_be_written_is_status_2(tmp_path: Path) -> None:
    result = check("legal.edn", "--model", "cas-register", "--picture", str(tmp_path / "missing" / "out.html"))
    assert "No such file or directory" in result.stderr
    assert result.exit_code == 2


def test_a_history_comes_from_standard_input() -> None:
    result = check("-", "--model", "cas-register", input=(HISTORIES / "illegal.log").read_bytes())
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (b"\xff\xfe\n", [], "standard input: line 1: this is not UTF-8 text"),
        (b"", [], "standard input: there is no event in it"),
        (b"0\t:invoke\t:read\tnil\n0\t:ok\t:read", [], "line 2: the last line of the log has no newline at its end"),
        (b"0\t:invoke\t:pop\tnil\n", [], "the model knows read, write, cas, not 'pop'"),
        (b"0\t:invoke\t:cas\t3\n", [], "a cas must be of (old, new)"),
        (b"0\t:invoke\t:read\tnil\n", ["--keyed"], "line 1: the value must be a pair [key value]"),
        (b"0\t:invoke\t:read\tnil\n", ["--by-time"], "line 1: time must be a number, not None"),
        (b"0\t:invoke\t:read\tnil\n1\t:invoke\t:read\tnil\n", ["--operations-max", "1"], "more than 1 operations"),
    ],
)
def test_what_cannot_be_checked_is_status_2_and_says_why(data: bytes, options: list[str], message: str) -> None:
    result = check("-", "--model", "cas-register", *options, input=data)
    assert message in result.stderr
    assert result.stdout == ""
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.edn", "--model", "register"], "does not exist"),
        (["legal.edn"], "Missing option '--model'"),
        (["legal.edn", "--model", "stack"], "'stack' is not one of"),
        (["legal.edn", "--model", "register", "--steps-max", "0"], "0 is not in the range"),
    ],
)
def test_wrong_arguments_are_status_2(arguments: list[str], message: str) -> None:
    result = check(*arguments)
    assert message in result.stderr
    assert result.exit_code == 2


def test_progress_is_shown_on_a_terminal_and_apart_from_the_output() -> None:
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "distkit", "check", str(HISTORIES / "legal.edn"), "--model", "cas-register"]
    environment = os.environ | {"TERM": "xterm"}
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=end, check=False, timeout=60, env=environment)
    shown = os.read(terminal, 1 << 16)
    os.close(terminal)
    os.close(end)
    assert b"reading" in shown
    assert result.stdout.startswith(b"linearizable (")
    assert b"\x1b" not in result.stdout
