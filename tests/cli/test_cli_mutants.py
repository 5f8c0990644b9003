"""`mutants`: the table of known bugs that the simulator finds."""

import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from distkit.cli import commands, mutants

NAME = "half of the voters elect a leader"


def invoke(*arguments: str):
    return CliRunner().invoke(commands, ["mutants", *arguments])


def test_a_mutant_is_caught_in_a_process_of_its_own_and_made_small(tmp_path):
    file = tmp_path / "lines"
    result = invoke("--only", NAME, "--seeds-tenth", "--shrink", "--json", str(file))
    assert result.exit_code == 0, result.output
    line = json.loads(file.read_text())
    assert (line["name"], line["runs"]) == (NAME, 1)
    assert line["faults"] + line["strikes"] <= 12
    assert result.stdout.splitlines()[-1] == "1 of 1 mutants were caught"
    assert line["rule"] in result.stdout


@pytest.mark.parametrize(
    ("child", "said"),
    [
        (SimpleNamespace(returncode=0, stderr="", stdout=json.dumps({"name": NAME, "rule": "", "runs": 5})), ""),
        (
            SimpleNamespace(returncode=1, stderr="a\nthe patch no longer applies", stdout=""),
            "the patch no longer applies",
        ),
        (SimpleNamespace(returncode=-9, stderr="", stdout=""), "it died"),
    ],
    ids=["escaped", "moved", "killed"],
)
def test_one_that_is_not_caught_fails_and_is_named(monkeypatch, child, said):
    monkeypatch.setattr(mutants.subprocess, "run", lambda *_, **__: child)
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
