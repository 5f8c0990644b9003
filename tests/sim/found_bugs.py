"""What the simulator found, as patches that put it back, and how the scenario files in `scenarios` were made."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from sim_copies import Patch, load

DIRECTORY = Path(__file__).parent / "scenarios"
SEEDS_MAX = 4000


@dataclass(frozen=True)
class Bug:
    """It breaks `rule`; a seed of `profile` shows it."""

    rule: str
    profile: str
    patches: tuple[Patch, ...]


FOUND = {
    # The mark of a snapshot that waited for its flush was written behind newer records, with an older commit index.
    "stale_mark": Bug(
        "monotone",
        "lite",
        (
            Patch(
                "raft.machine",
                "        s.snapshot = s.compacted = snapshot\n",
                "        s.snapshot = snapshot\n"
                "        s.records.append(durable.SnapshotMark(s.term, s.vote, s.commit, False, 0, snapshot))\n",
            ),
        ),
    ),
    # Blocks of small commands filled the log long before their payloads were a reason for a snapshot: Busy for ever.
    "busy_for_ever": Bug(
        "liveness",
        "lite",
        (Patch("replica.snapshots", " or (entries and raft.log_presses)", ""),),
    ),
    # A copy of a forwarded frame came when the leader had stepped down: "refused", though the first was applied.
    "a_copy_of_a_forwarded_frame_comes_to_a_former_leader": Bug(
        "at most once",
        "hunt",
        (
            Patch(
                "replica.proposals",
                "        if self._repeated(source, message):\n",
                "        if raft.role is RoleName.LEADER and self._repeated(source, message):\n",
            ),
            Patch(
                "replica.proposals",
                "Outcome.REFUSED if message.term > self._first_term else Outcome.LOST",
                "Outcome.REFUSED",
            ),
        ),
    ),
    # A node took a snapshot of its own while an older one was on its way to it, removed the file that it was receiving,
    # and ended itself when the last piece was there.
    "the_file_of_a_fetch_is_removed": Bug(
        "disk",
        "hunt",
        (
            Patch(
                "replica.snapshots",
                "            if self._fetching is not None:\n                under_way.append(self._fetching[1])\n",
                "",
            ),
        ),
    ),
}


def file_of(name: str) -> Path:
    """The scenario that shows a bug."""
    return DIRECTORY / f"{name}.json"


def make(name: str) -> None:
    """Find a seed that shows the bug, make it small, and write it down."""
    bug = FOUND[name]
    copy = load(*bug.patches)
    for seed in range(SEEDS_MAX):
        if copy.run(copy.drawn(seed, bug.profile)).rule == bug.rule:
            break
    else:
        raise SystemExit(f"no seed below {SEEDS_MAX} shows {name}")
    shrinker = copy.Shrinker(copy.run)
    small = shrinker.shrink(copy.drawn(seed, bug.profile))
    file_of(name).write_text(small.to_json() + "\n")
    print(f"{name}: seed {seed}, {shrinker.runs} runs, {len(small.faults)} faults, {len(small.calls)} calls")
    print(f"    {shrinker.best.text}")


if __name__ == "__main__":
    for each in sys.argv[1:] or FOUND:
        make(each)
