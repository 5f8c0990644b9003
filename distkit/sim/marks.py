"""Coverage marks: rare things that must happen in a large enough number of runs, else the runs prove less than they
seem to.

A mark is a line of words that is counted where the thing is seen. `MARKS` and `SYNOD_MARKS` say with which profile
each must fire; a mark that fires and is not listed here is an error of the simulator, because nobody would miss it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_BOTH: Final = ("lite", "swarm")
_SWARM: Final = ("swarm",)
_HUNT: Final = ("hunt",)

#: What happens to disks, networks, clocks and processes, whatever runs there.
_WORLD: Final[dict[str, tuple[str, ...]]] = {
    # the disk
    "a part of a write survived a crash": _BOTH,
    "a part of a write was lost in a crash": _BOTH,
    "a crash came between a flush and its write": _BOTH,
    "a crash came within a write": _BOTH,
    "a crash came between a write and its messages": _BOTH,
    "a crash came between the messages of a write and its end": _BOTH,
    "a crash came while a node started": _SWARM,
    "a torn tail was cut": _SWARM,
    "a write failed": _SWARM,
    "a sync failed and marked its pages clean": _SWARM,
    "a disk was full, and had space again": _BOTH,
    "damage was found at the start": _SWARM,
    "damage was harmless": _SWARM,
    "a write went astray": _SWARM,
    "a wiped node was refused": _BOTH,
    # the network, clocks and processes
    "a message was lost": _BOTH,
    "a message came twice": _BOTH,
    "a message came much later": _BOTH,
    "a message came back from long ago": _BOTH,
    "a frame was damaged": _SWARM,
    "a damaged frame was refused": _SWARM,
    "a leader was paused and another was elected": _BOTH,
    "messages of one kind were held back": _HUNT,
    "messages of one kind came again and again": _HUNT,
    "messages of one kind never came": _HUNT,
    "a clock jumped": _BOTH,
}

#: Of replicas.
MARKS: Final[dict[str, tuple[str, ...]]] = {
    **_WORLD,
    # elections
    "an election was held": _BOTH,
    "an election was lost": _BOTH,
    "a leader was deposed": _BOTH,
    "a leader heard no quorum and stepped down": _BOTH,
    "a leader died with entries that nobody else had": _BOTH,
    "a node of a later term answered an old leader": _BOTH,
    "leadership was transferred": _BOTH,
    "a leadership transfer was asked for": _BOTH,
    # the log
    "an append was refused": _BOTH,
    "a conflicting suffix was truncated": _BOTH,
    "an entry of an earlier term was committed by one of a later term": _BOTH,
    "a log was replaced by a snapshot": _BOTH,
    "a snapshot was taken": _BOTH,
    "a snapshot was installed": _BOTH,
    "a snapshot was given up half-way": (*_SWARM, *_HUNT),
    "a fetch went on over another connection": (*_SWARM, *_HUNT),
    "a node died while it fetched a snapshot": _BOTH,
    "a node died while it loaded a snapshot": _BOTH,
    "a node died while another fetched its snapshot": _BOTH,
    "a leader died as it had given a snapshot": _HUNT,
    "a node came back and replayed its log": _BOTH,
    # clients
    "a call was refused: busy": _BOTH,
    "a call was refused: full": _BOTH,
    "a call was refused: not_leader": _BOTH,
    "a call was refused: transfer": _BOTH,
    "a call was refused: fenced": _BOTH,
    "a call was refused: session_expired": _BOTH,
    "a call was refused: answered": (),
    "a call was refused: none": (),
    "a call was refused: leader_changed": (),
    "a call was refused: snapshot": (),
    "a call was refused: stopped": (),
    "a call was superseded: none": _BOTH,
    "a call ended without an answer": _BOTH,
    "a call was given up in time": _BOTH,
    "a retry in a session got its answer": _BOTH,
    # sessions
    "a session had several commands under way": _BOTH,
    "a session was closed": _BOTH,
    "a session was gone before it was closed": _BOTH,
    "a session was evicted": _BOTH,
    "a client saw that its session had expired": _BOTH,
    "a session could not be had": _BOTH,
    "an answer that its client has was forgotten": _BOTH,
    "a result was too large to keep": _BOTH,
}

#: Of single-decree Paxos.
SYNOD_MARKS: Final[dict[str, tuple[str, ...]]] = {
    **_WORLD,
    # ballots
    "a proposer was refused": _BOTH,
    "a proposer proposed what it found among the promises": _BOTH,
    "a proposer died between its proposal and the decision": _BOTH,
    "a value was chosen after its proposer had died": _BOTH,
    "a learner was told a vote": _BOTH,
    # restarts
    "an acceptor came back with its promise alone": _BOTH,
    "an acceptor came back with its vote": _BOTH,
    "a node came back and knew the decision": _BOTH,
    # clients
    "a proposal was chosen": _BOTH,
    "a proposal was superseded": _BOTH,
    "a proposal was refused: busy": _BOTH,
    "a proposal was refused: full": _BOTH,
    "a proposal was lost with its proposer": _BOTH,
    "a proposal ended without an answer": _BOTH,
}


def marks_of(machine: str) -> dict[str, tuple[str, ...]]:
    """The marks of what runs: of synods, or else of replicas."""
    return SYNOD_MARKS if machine == "synod" else MARKS


def missing(marks: Mapping[str, int], profile: str, machine: str = "raft") -> list[str]:
    """What should have happened in many runs of a profile and never did."""
    return [mark for mark, profiles in marks_of(machine).items() if profile in profiles and not marks.get(mark)]


def unknown(marks: Mapping[str, int], machine: str = "raft") -> list[str]:
    """What happened and is not listed."""
    return [mark for mark in marks if mark not in marks_of(machine)]
