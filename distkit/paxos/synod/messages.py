"""Messages and durable records of single-decree Paxos, as tables that a host turns into a codec registry.

Every message begins with `epoch` (which configuration the sender counts by) and `incarnation` (of the sender); either
one wrong, and the message changes nothing. Ballots are packed (`distkit.paxos.ballot`), 0 is none.

`origin` identifies a proposal: the ballot at which it was proposed for the first time. It travels with the value
through all later ballots, so that equal bytes of two clients remain two proposals.
"""

from __future__ import annotations

from distkit.core import record

# -- messages ---------------------------------------------------------------------------------------------------------


@record
class Prepare:
    """Phase 1a: promise to accept nothing below `ballot`, and say what you have accepted."""

    epoch: int
    incarnation: int
    ballot: int


@record
class Promise:
    """Phase 1b: (voted, origin, value) is the acceptor's vote of the highest ballot, all empty if it has none."""

    epoch: int
    incarnation: int
    ballot: int
    voted: int
    origin: int
    value: bytes


@record
class Accept:
    """Phase 2a: vote for this proposal, unless you have promised more."""

    epoch: int
    incarnation: int
    ballot: int
    origin: int
    value: bytes


@record
class Accepted:
    """Phase 2b: the acceptor has voted at `ballot`. It goes to the proposer, which knows for what."""

    epoch: int
    incarnation: int
    ballot: int


@record
class Nack:
    """An acceptor refuses a Prepare or Accept at `ballot`, because it has promised `promised`, which is higher."""

    epoch: int
    incarnation: int
    ballot: int
    promised: int


@record
class Learn:
    """A learner that knows no decision asks: what was chosen, or what have you accepted?"""

    epoch: int
    incarnation: int


@record
class LastVote:
    """The answer of an acceptor to Learn: its vote of the highest ballot. Learners count these by themselves."""

    epoch: int
    incarnation: int
    ballot: int
    origin: int
    value: bytes


@record
class Decide:
    """This proposal was chosen, at `ballot` or before it."""

    epoch: int
    incarnation: int
    ballot: int
    origin: int
    value: bytes


# -- durable records: the newest of each kind counts ------------------------------------------------------------------


@record
class Formed:
    """The first record: this directory counts by one configuration, for ever."""

    epoch: int


@record
class Promised:
    """Nothing below `ballot` is accepted any more, nor proposed by this node. A vote promises its ballot as well."""

    ballot: int


@record
class Voted:
    """The vote of the highest ballot. A separate record from the promise, which may be higher."""

    ballot: int
    origin: int
    value: bytes


@record
class Decided:
    """The proposal that was chosen: also what the machine delivers, once in each life of the node."""

    ballot: int
    origin: int
    value: bytes


_PROPOSAL = "ballot:u64 origin:u64 value:bytes"
_HEADER = "epoch:u64 incarnation:u64"

MESSAGES = (
    (48, Prepare, f"{_HEADER} ballot:u64"),
    (49, Promise, f"{_HEADER} ballot:u64 voted:u64 origin:u64 value:bytes"),
    (50, Accept, f"{_HEADER} {_PROPOSAL}"),
    (51, Accepted, f"{_HEADER} ballot:u64"),
    (52, Nack, f"{_HEADER} ballot:u64 promised:u64"),
    (53, Learn, _HEADER),
    (54, LastVote, f"{_HEADER} {_PROPOSAL}"),
    (55, Decide, f"{_HEADER} {_PROPOSAL}"),
)

RECORDS = (
    (72, Formed, "epoch:u64"),
    (73, Promised, "ballot:u64"),
    (74, Voted, _PROPOSAL),
    (75, Decided, _PROPOSAL),
)
