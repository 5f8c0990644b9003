"""The shortest way to a broken rule if proposers propose their own value, whatever the promises report: printed, and
drawn for docs/paxos.md.

    python docs/paxos/careless.py docs/paxos/careless.svg
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from distkit.sim.explore import Cluster, SynodSubject, events, numbered, retell, search
from distkit.sim.picture import figure

MUTANT = "P2 the own value is proposed whatever was voted for"


def shortest() -> tuple[str, str]:
    """(the way in words, its picture)."""
    sys.path[:0] = [str(Path(__file__).parents[2] / "tests" / part) for part in (".", "paxos")]
    (mutant,) = [each for each in import_module("synod_mutants").MUTANTS if each.name == MUTANT]
    careless = import_module("mutating").load("distkit.paxos.synod", mutant, shared=("messages",))
    cluster = Cluster(SynodSubject(acceptors=3, values=2, ballots=2, crashes=0, machine=careless))
    found = search(cluster)
    assert found.broken is not None
    steps, broken = retell(cluster, found, found.broken)
    picture = figure(events(cluster, steps, broken), title=f"The shortest way to break {broken.rule}")
    return "\n".join(numbered(cluster, steps, broken)), picture


if __name__ == "__main__":
    words, picture = shortest()
    print(words)
    Path(sys.argv[1]).write_text(picture)
