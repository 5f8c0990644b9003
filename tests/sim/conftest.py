"""The mutants of Raft and of the synod live with the tests of their bug tables."""

import sys
from pathlib import Path

for folder in ("raft", "paxos"):
    sys.path.append(str(Path(__file__).parents[1] / folder))
