"""What a node of the synod tells people and metrics about itself."""

from __future__ import annotations

from distkit.core import record
from distkit.paxos.synod.messages import Decided, Voted
from distkit.paxos.synod.state import Phase, State


@record
class SynodStatus:
    """Ballots are packed. `counters` counts what was ignored or refused, by reason."""

    node: int
    proposer: bool
    acceptor: bool
    learner: bool
    promised: int
    vote: Voted
    phase: Phase
    ballot: int
    refusals: int
    chosen: Decided | None
    tickets_waiting: int
    writes_outstanding: int
    counters: dict[str, int]

    @classmethod
    def of(cls, s: State) -> SynodStatus:
        """The status of a state."""
        return cls(
            s.node,
            s.node in s.proposers,
            s.node in s.bits,
            s.node in s.learners,
            s.promised,
            s.vote,
            s.phase,
            s.ballot,
            s.refusals,
            s.chosen,
            len(s.proposals),
            len(s.outstanding),
            dict(s.counters),
        )
