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

#: Mutants that a simulation should show and no seed has so far: what they need comes together too rarely. Each wants a
#: fault or a load that makes its situation common; until then the tests that name the rule hold it.
UNSEEN = {
    "acknowledgements of an earlier term count": "the same leader again, and an answer that is a whole election late",
    "votes of an earlier term count": "a grant that is a whole election late, to one that campaigns again",
    "a proposal ends as superseded when it is truncated": "its entry survives elsewhere and wins after all",
    "a session takes up what its client is done with": "a first attempt that arrives after the answer to the second",
    "an answer to an earlier start of the node is taken": "a node that forwards in the moment it is back",
    "what a snapshot covers counts as refused": "a proposal whose leader is given a snapshot with it",
    "what a snapshot replaced counts as refused": "a proposal that is committed and not applied as a snapshot comes",
    "the machine sees a snapshot that was not fetched": "a newer snapshot offered while one is fetched, and a crash",
    "old files go before the mark of the new snapshot is durable": "a crash within that write",
    "the old segment is not synced before the new one begins": "a crash with the power right after a segment was cut",
    "03 a hint is taken for what matches": "a hint above what the logs share",
    "05 an append replaces from its first entry on": "a crash within the write that replaces",
    "06 an append commits up to the own last entry": "an append that ends before a tail that differs",
    "08 every answer counts as another voter": "copies of one grant, and a candidate that the others do not want",
    "09 a node votes while its snapshot is not durable": "an election while a snapshot is installed",
    "18 one answer confirms a read": "a leader that was left with one follower",
    "18 reads join the round under way": "a round that began before the leader was deposed",
    "18 questions of a follower have the same position": "an answer that is a whole question late",
    "18 questions of every start look the same": "an answer to a question from before the restart",
    "a leader that lost its place ends its tickets": "a commit index between two of its entries in a later term",
    "tickets of an earlier leadership are in the way": "a leader again with tickets of before",
}
