"""The mutants of Raft live with the tests of its bug tables."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "raft"))
