"""The picture in docs/testing.md is that of a run that breaks."""

from pathlib import Path

from two_leaders import events

from distkit.sim.picture import figure

PICTURE = Path(__file__).parents[2] / "docs" / "two-leaders.svg"


def test_half_of_the_voters_elect_two_leaders_and_the_document_shows_it():
    found = events()
    assert found[-1]["event"] == "broken"
    assert "both lead term 1" in found[-1]["text"]
    again = figure(found, title="Two leaders in one term")
    assert PICTURE.read_text() == again, "python tests/sim/two_leaders.py docs/two-leaders.svg draws it again"
