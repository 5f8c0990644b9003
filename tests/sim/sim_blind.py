"""Patches of the bug tables of Raft that no simulation of the project as it is can show, and why.

Each is held by the test that it names in `tests/raft`, which makes its situation by hand.
"""

_SESSIONS = "one term has one session with a peer, as long as nobody is removed and added again"
_DRIVER = "the simulator's disk keeps the order of writes, and a node without its tail never comes back"
_MEMBERS = "the members of a cluster are fixed so far"
_HANDSHAKE = "a node with an empty disk is refused by the handshake, before any message of it"
_SLOWER = "the group is slower, or elects more often, and comes to rest within its bounds all the same"

#: Name of the patch -> why.
BLIND = {
    "04 answers of another session count": _SESSIONS,
    "04 sessions repeat after a restart": _SESSIONS,
    "04 an acknowledgement is sent in a later term": "its session tells it from those of the later term",
    "05 an append replaces from its first entry on": "a leader never sends from below where the logs part, while they "
    "do: hints are never too low, and acknowledgements reach as far (the ledger looks: no entry is replaced by itself)",
    "06 a heartbeat commits what the log does not hold": "a leader tells a peer no commit above what it acknowledged",
    "07 the own vote counts at once": "nobody can answer before the request left, with the write of the own vote",
    "08 the last answer of a voter counts": "a voter that is honest never takes an answer back within a term",
    "09 a refused candidate is recorded as voted for": _SLOWER,
    "09 a transfer campaign is not judged by its log": "whoever is told to campaign has all entries",
    "09 a repeated request is granted unseen": "a log does not grow between two requests of one candidate in a term",
    "13 only who takes itself for a voter votes": _MEMBERS,
    "13 a learner campaigns": _MEMBERS,
    "15 votes count by id alone": _HANDSHAKE,
    "15 candidates are known by id alone": _HANDSHAKE,
    "15 a machine starts on any disk": _HANDSHAKE,
    "22 votes of lower terms are dropped without a word": _SLOWER,
    "22 the timeout is drawn once": _SLOWER,
    "24 no stickiness": _SLOWER,
    "24 no pre-vote": _SLOWER,
    "24 a leader without a quorum stays": _SLOWER,
    "25 a failed snapshot is not tried again": _SLOWER,
    "27 an acknowledgement does not end the snapshot": _SLOWER,
    "27 only the pending index ends the snapshot": _SLOWER,
    "28 a purged previous entry is a conflict": _SLOWER,
    "30 a late completion takes the watermark back": _DRIVER,
    "32 the commit index may lie below the snapshot after a boot": _DRIVER,
    "33 a commit index beyond the log is believed at boot": _DRIVER,
    "33 a peer that lost its tail is asked without end": _DRIVER,
    "acknowledgements are merged across sessions": _SESSIONS,
    "a transfer does not wait for the target's log": "the target loses its election, and another is held",
    "a node campaigns before it has replayed its commit": "matters once entries change the members",
}

#: The same of the other mutants.
UNREACHABLE = {
    "what a snapshot covers counts as refused": "a batch is committed as a whole (the ledger looks): a commit index "
    "within one comes only with a snapshot, and a leader offers none below where the logs part",
}
