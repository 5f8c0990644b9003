"""The pictures of docs/paxos.md are what the commands under them draw."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path
from textwrap import indent

import pytest
from click.testing import CliRunner

from distkit.cli import commands

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "paxos.md").read_text()
COMMANDS = re.findall(r"^    python -m distkit (replay .*--picture docs/paxos/(\w+)\.svg.*)$", TEXT, re.MULTILINE)


def test_every_picture_has_its_command():
    shown = re.findall(r"^!\[.*\]\(paxos/(\w+)\.svg\)$", TEXT, re.MULTILINE)
    assert shown == [*[name for _, name in COMMANDS], "careless"]
    assert len(shown) == 6


@pytest.mark.parametrize(("command", "name"), COMMANDS, ids=[name for _, name in COMMANDS])
def test_a_picture_is_what_its_command_draws(monkeypatch, tmp_path, command, name):
    monkeypatch.chdir(ROOT)
    drawn = tmp_path / "drawn.svg"
    words = [str(drawn) if word == f"docs/paxos/{name}.svg" else word for word in shlex.split(command)]
    result = CliRunner().invoke(commands, words)
    assert result.exit_code == (1 if name == "forgetful" else 0), result.output
    assert drawn.read_text() == (ROOT / "docs" / "paxos" / f"{name}.svg").read_text(), f"draw it again: {command}"


def test_the_shortest_way_to_a_broken_rule_is_what_the_explorer_finds():
    words, picture = runpy.run_path(str(ROOT / "docs" / "paxos" / "careless.py"))["shortest"]()
    assert indent(words, "    ") in TEXT
    assert picture == (ROOT / "docs" / "paxos" / "careless.svg").read_text()
