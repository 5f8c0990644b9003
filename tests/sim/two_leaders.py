"""The picture in docs/testing.md: half of the voters taken for a quorum, and a network that breaks into halves.

python tests/sim/two_leaders.py docs/two-leaders.svg
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sim_copies import Patch, load

from distkit.sim.picture import figure
from distkit.sim.scenario import Fault, Scenario

HALF = Patch("raft.state", "return len(self.voters) // 2 + 1", "return len(self.voters) // 2")
#: The ledger says before that that the first of them has too few votes; what comes of it is a better picture.
UNCOUNTED = Patch("sim.raft_ledger", "elected = votes >= self.majority", "elected = votes > 0")
LINKS = " ".join(f"{one}>{two} {two}>{one}" for one in (1, 2) for two in (3, 4))
SCENARIO = Scenario("raft", 2, 4, 0.5, faults=(Fault(50_000_000, "cut", 1, 1.0, LINKS),))


def events() -> list[dict[str, Any]]:
    """The trace of the run; its last event says what was broken."""
    found: list[dict[str, Any]] = []
    copy = load(HALF, UNCOUNTED)
    copy.run(copy.from_json(SCENARIO.to_json()), lambda event: found.append({"seq": len(found), **event}))
    return found


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(figure(events(), title="Two leaders in one term"))
