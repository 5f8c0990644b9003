"""Every interleaving of a few real machines, within bounds: what the simulator samples, tried to the end.

    found = search(Cluster(SynodSubject(acceptors=3, values=2, ballots=2, crashes=1)))
    found.states, found.complete, found.broken

A `Subject` says of a protocol what the exploration must know; the machines are those that run everywhere else. `Whole`
makes a space of any model with an initial state and a function to the next ones.
"""

from distkit.sim.explore.cluster import Cluster, Move
from distkit.sim.explore.freezing import Freezer
from distkit.sim.explore.node import Node
from distkit.sim.explore.raft_election import RaftElectionSubject
from distkit.sim.explore.retelling import Step, events, numbered, retell
from distkit.sim.explore.search import Found, Progress, Space, Whole, search
from distkit.sim.explore.subject import Subject
from distkit.sim.explore.synod import SynodSubject

__all__ = [
    "Cluster",
    "Found",
    "Freezer",
    "Move",
    "Node",
    "Progress",
    "RaftElectionSubject",
    "Space",
    "Step",
    "Subject",
    "SynodSubject",
    "Whole",
    "events",
    "numbered",
    "retell",
    "search",
]
