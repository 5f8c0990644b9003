"""`python -m distkit`: its verbs, what it says where its packages are absent, and what runs here."""

import json
import os
import pty
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner
from directories import two_segments

import distkit
from distkit.cli import VERBS, commands, info
from distkit.storage import DiskFiles

BLOCKED = "import sys, runpy; sys.modules[{!r}] = None; runpy.run_module('distkit', run_name='__main__')"


def test_each_verb_is_listed_with_what_it_does() -> None:
    result = CliRunner().invoke(commands, ["--help"])
    listed = [line.split(maxsplit=1) for line in result.stdout.split("Commands:\n")[1].splitlines()]
    assert [name for name, _ in listed] == list(VERBS)
    assert all(help for _, help in listed)


def test_an_unknown_verb_is_a_usage_error() -> None:
    result = CliRunner().invoke(commands, ["forget"])
    assert "No such command 'forget'" in result.stderr
    assert result.exit_code == 2


@pytest.mark.parametrize("package", ["click", "rich"])
def test_an_absent_package_is_named_with_the_remedy(package: str) -> None:
    command = [sys.executable, "-c", BLOCKED.format(package), "wal", "."]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.stderr == f"python -m distkit needs {package}: pip install '.[cli]' in the checkout\n"
    assert result.returncode == 2


def test_the_program_gives_the_status_of_its_verb(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "distkit", "wal", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.stderr.startswith("Usage: python -m distkit wal ")
    assert result.returncode == 2


def test_info_says_what_runs_here() -> None:
    facts = json.loads(CliRunner().invoke(commands, ["info", "--json"]).stdout)
    assert facts["versions"]["distkit"] == version("distkit")
    assert facts["versions"]["trio"] == version("trio")
    assert facts["kernels"] == ("compiled" if distkit.COMPILED else "pure")
    assert facts["crc32c"] in ("c", "python")
    assert isinstance(facts["clock_counts_suspend"], bool)


def test_info_for_people_has_a_line_for_each_fact() -> None:
    facts = json.loads(CliRunner().invoke(commands, ["info", "--json"]).stdout)
    lines = CliRunner().invoke(commands, ["info"]).stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == [name.replace("_", " ") for name in facts]


def test_info_warns_of_what_makes_a_node_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info, "COMPILED", False)
    monkeypatch.setattr(info, "CRC_IMPLEMENTATION", "python")
    stderr = CliRunner().invoke(commands, ["info"]).stderr
    assert "warning: the pure Python kernels are many times slower" in stderr
    assert "warning: google-crc32c has no C build here" in stderr


def test_progress_is_shown_on_a_terminal_and_apart_from_the_output(tmp_path: Path) -> None:
    two_segments(DiskFiles(tmp_path))
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "distkit", "wal", str(tmp_path)]
    environment = os.environ | {"TERM": "xterm"}
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=end, check=False, timeout=60, env=environment)
    shown = os.read(terminal, 1 << 16)
    os.close(terminal)
    os.close(end)
    assert b"reading" in shown
    assert result.stdout.splitlines()[-1].startswith(b"clean: ")
    assert b"\x1b" not in result.stdout
