"""`mutants`: the table of known bugs that simulator and explorer find."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from distkit.cli import commands, mutants

NAME = "a read is served before its index is applied"


def invoke(*arguments: str):
    return CliRunner().invoke(commands, ["mutants", *arguments])


def program(folder: Path, source: str) -> str:
    """A file to run in place of the interpreter; it does `source`, whatever its arguments are."""
    file = folder / "program"
    file.write_text(f"#!{sys.executable}\n{source}\n")
    file.chmod(0o755)
    return str(file)


def test_a_mutant_is_caught_in_a_process_of_its_own_and_made_small(tmp_path):
    file = tmp_path / "lines"
    result = invoke("--only", NAME, "--seeds-tenth", "--shrink", "--json", str(file))
    assert result.exit_code == 0, result.output
    line = json.loads(file.read_text())
    assert (line["name"], line["runs"]) == (NAME, 1)
    assert line["faults"] + line["strikes"] <= 12
    assert result.stdout.splitlines()[-1] == "1 of 1 mutants were caught"
    assert line["rule"] in result.stdout


def test_what_no_run_shows_is_explored(tmp_path):
    file = tmp_path / "lines"
    result = invoke("--machine", "synod", "--only", "a full disk", "--json", str(file))
    assert result.exit_code == 0, result.output
    assert "limits                     10 moves, explored: FullDisk" in result.stdout
    assert json.loads(file.read_text())["runs"] == 10


def test_mutants_are_of_one_machine():
    result = invoke("--machine", "raft", "--only", "a full disk takes votes")
    assert result.exit_code == 2
    assert "no mutant has 'a full disk takes votes' in its name" in result.stderr


@pytest.mark.parametrize(
    ("child", "said"),
    [
        (f"print({json.dumps(json.dumps({'name': NAME, 'rule': '', 'runs': 5}))})", ""),
        ("import sys; sys.exit('a\\nthe patch no longer applies')", "the patch no longer applies"),
        ("import os; os.kill(os.getpid(), 9)", "it died"),
        ("while True: pass", "no end after 0 s"),
    ],
    ids=["escaped", "moved", "killed", "hangs"],
)
def test_one_that_is_not_caught_fails_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, child: str, said: str
) -> None:
    monkeypatch.setattr(mutants.sys, "executable", program(tmp_path, child))
    if child.startswith("while"):
        monkeypatch.setattr(mutants, "_TIME_MAX", 0)
    result = invoke("--only", NAME)
    assert result.exit_code == 1
    assert f"not caught: {NAME} {said}".strip() in result.stderr.replace("\n", " ")
    assert "NOT CAUGHT" in result.stdout


def test_a_text_in_no_name_is_a_usage_error():
    result = invoke("--only", "no such bug")
    assert result.exit_code == 2
    assert "no mutant has 'no such bug' in its name" in result.stderr


def test_without_a_source_checkout_there_are_no_mutants(monkeypatch, tmp_path):
    monkeypatch.setattr(mutants, "_TESTS", tmp_path)
    result = invoke()
    assert result.exit_code == 2
    assert "run this in a source checkout" in result.stderr


@pytest.mark.process
def test_an_interrupt_ends_the_children_and_starts_no_other(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    tells = f"import os\nwith open({str(pipe)!r}, 'w') as pipe: pipe.write(f'{{os.getpid()}}\\n')\nwhile True: pass"
    starts = (
        "from distkit.cli import commands, mutants\n"
        f"mutants.sys.executable = {program(tmp_path, tells)!r}\n"
        "commands(['mutants', '--jobs', '2'])"
    )
    process = subprocess.Popen([sys.executable, "-c", starts], stderr=subprocess.PIPE, text=True)
    try:
        with os.fdopen(os.open(pipe, os.O_RDWR)) as told:  # both ends, so that it never seems closed
            children = [int(told.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, errors.split()) == (1, ["Aborted!"])
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def test_a_full_disk_is_told_in_one_line() -> None:
    result = invoke("--only", NAME, "--seeds-tenth", "--json", "/dev/full")
    assert (result.exit_code, result.stderr) == (2, "Error: [Errno 28] No space left on device\n")
