"""Runs in which the simulator found a bug: each must stay clean."""

from pathlib import Path

import pytest

from distkit.sim import run
from distkit.sim.scenario import from_json

FILES = sorted((Path(__file__).parent / "scenarios").glob("*.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_once_failed_stays_clean(file):
    outcome = run(from_json(file.read_text()))
    assert not outcome.failed, outcome.text
    assert outcome.acknowledged > 0
