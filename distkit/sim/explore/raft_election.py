"""Elections of Raft for the explorer: who leads in which term, with nothing proposed.

Only requests for votes and their answers are carried: all that a leader sends is lost, so it falls when it misses its
quorum. That bounds the states, and is what an election must survive.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from random import Random
from types import ModuleType
from typing import Any, Final

from distkit import raft as real
from distkit._fast.logbuf import Window
from distkit.core import Configuration, Member, Reply, RoleName, Write
from distkit.raft.messages import HardState, RequestVote, RequestVoteReply
from distkit.raft.state import State
from distkit.sim.broken import require
from distkit.sim.explore.freezing import Freezer
from distkit.sim.explore.node import ARMED, Node

#: What nobody changes without snapshots or other members, and what nobody decides by in an election.
_SHARED: Final = frozenset(
    (
        *(
            "id",
            "subject",
            "node",
            "incarnation",
            "options",
            "random",
            "trace",
            "configuration",
            "voters",
            "incarnations",
        ),
        *("snapshot", "counters", "session", "origin"),
    )
)
_TIMES: Final = ("now", "wall_now", "leader_heard", "patience", "evidence")
_TIMERS: Final = ("election_deadline", "quorum_deadline", "heartbeat_deadline", "notice_deadline", "reads_resend")
#: Seconds after which every patience is over.
_LATE: Final = 1000.0
#: So far in the past that blocks bear no time.
_NO_TIME: Final = -(1 << 50)


class _Fixed(Random):
    """Chance that decides nothing: it draws timeouts, and any timer may fire at any time, and names of requests that
    are not carried."""

    def random(self) -> float:
        return 0.5

    def getrandbits(self, k: int, /) -> int:
        return 1


class Past:
    """What one node said and did, over all its lives."""

    def __init__(self, node: int) -> None:
        self.id = node
        self.term = self.vote = 0  #: on the disk
        self.seen = 0  #: highest term in this life
        self.granted: dict[int, int] = {}  #: by term
        self.led: set[int] = set()

    def restarted(self, node: Node) -> None:
        """What is recovered is what was durable."""
        s = node.machine.state
        require((s.term, s.vote) == (self.term, self.vote), "durability", "node", node.id, "recovers", s.term, s.vote)
        self.seen = self.term

    def crashed(self, node: Node, kept: Sequence[Any]) -> None:
        """The disk got these records."""
        for record in kept:
            if isinstance(record, HardState):
                require(record.term >= self.term, "monotone", "the durable term of", node.id, "falls to", record.term)
                same = record.term > self.term or self.vote in (0, record.vote)
                require(same, "election safety", "node", node.id, "changes its vote in term", record.term)
                self.term, self.vote = record.term, record.vote

    def stepped(self, node: Node) -> None:
        """Terms rise."""
        s = node.machine.state
        require(s.term >= self.seen, "monotone", "the term of", node.id, "falls to", s.term)
        self.seen = s.term
        if s.role is RoleName.LEADER:
            self.led.add(s.term)

    def wrote(self, node: Node, write: Write) -> None:
        """Judged once it is durable."""

    def completed(self, node: Node, write: Write) -> None:
        """A write is durable."""
        self.crashed(node, write.records)

    def left(self, node: Node, target: int, message: Any) -> None:
        """What is said of a vote is durable, and said to one only."""
        if isinstance(message, RequestVote) and not message.pre:
            mine = self.term > message.term or (self.term, self.vote) == (message.term, node.id)
            require(mine, "durability", "node", node.id, "asks for votes in a term that it may forget", message)
        elif isinstance(message, RequestVoteReply) and message.granted and not message.pre:
            known = self.term > message.term or (self.term, self.vote) == (message.term, target)
            require(known, "durability", "node", node.id, "granted", target, "a vote that it may forget", message)
            first = self.granted.setdefault(message.term, target)
            require(first == target, "election safety", "node", node.id, "votes twice in term", message.term)

    def replied(self, node: Node, reply: Reply) -> None:
        """Nobody asks for anything."""
        require(False, "replies", "nobody asked for", reply)


class RaftElectionSubject:
    """`terms` bounds how many terms are begun, all nodes together. A node waits for its disk before it takes more than
    one write may hold: two nodes, one term and a crash are 7,563 states; two terms without a crash are half a million.
    """

    writes = 1
    exchangeable: tuple[int, ...] = ()
    moments: tuple[float, ...] = (0.0, _LATE)

    def __init__(self, nodes: int = 2, terms: int = 1, crashes: int = 1, *, machine: ModuleType = real) -> None:
        self.nodes = tuple(range(1, nodes + 1))
        self.attempts = terms
        self.crashes = crashes
        self.machine = machine
        self.freezer = Freezer(_SHARED, {Window: (_copied, _content)})
        members = tuple(Member(node, 1, f"127.0.0.1:{7100 + node}") for node in self.nodes)
        self.configuration = Configuration(1, members)

    def formation(self, node: int) -> Iterable[Any]:
        """It is formed."""
        records: Iterable[Any] = self.machine.formation_records(self.configuration)
        return records

    def recover(self, node: Node, records: tuple[Any, ...]) -> Any:
        """The machine that the records amount to."""
        return self.machine.recover(records, node=node.id, incarnation=1, random=_Fixed(), now=0.0)

    def compacted(self, records: list[Any]) -> list[Any]:
        """As they are."""
        return records

    def ledger(self, node: int) -> Past:
        """Its past."""
        return Past(node)

    def delivered(self, node: Node, delivered: Any) -> None:
        """Roles and entries: the ledger looks itself."""

    def carries(self, message: Any) -> bool:
        """Votes only."""
        return isinstance(message, RequestVote | RequestVoteReply)

    def settle(self, node: Node) -> None:
        """Writes under way are numbered from 1, campaigns are the newest or over, and there is no time."""
        s: State = node.machine.state
        for name in _TIMES:
            setattr(s, name, type(getattr(s, name))(0))
        for name in _TIMERS:
            setattr(s, name, ARMED)
        s.wall_us = _NO_TIME
        for place in reversed(range(1, len(node.writes))):
            if not node.writes[place].records:  # it completes with the one before it
                first, second = node.writes[place - 1], node.writes.pop(place)
                node.writes[place - 1] = Write(0, first.records, first.then + second.then)
                s.outstanding[place].campaign = s.outstanding[place].campaign or s.outstanding[place - 1].campaign
                del s.outstanding[place - 1]
        for number, write in enumerate(s.outstanding, 1):
            write.token = number
            write.campaign = int(write.campaign == s.campaigns)
        s.campaigns = 1
        s.token = len(node.writes)
        node.writes = [
            Write(number, each.records, tuple(sorted(dict.fromkeys(each.then), key=repr)))
            for number, each in enumerate(node.writes, 1)
        ]

    def timers(self, node: Node) -> Iterator[str]:
        """What makes somebody campaign, and what makes a leader step down."""
        yield "quorum_deadline" if node.machine.state.role is RoleName.LEADER else "election_deadline"

    def calls(self, node: Node) -> Iterable[tuple[str, tuple[Any, ...]]]:
        """None."""
        return ()

    def begun(self, before: Node, after: Node) -> int:
        """A term that begins with a vote for oneself."""
        old, new = before.machine.state, after.machine.state
        return int(new.term > old.term and new.vote == after.id)

    def view(self, node: Node) -> Hashable:
        """The terms that it led."""
        return frozenset(node.ledger.led)

    def judge(self, views: Mapping[int, Any]) -> None:
        """At most one leader a term."""
        leaders: dict[int, int] = {}
        for node, terms in views.items():
            for term in terms:
                other = leaders.setdefault(term, node)
                require(other == node, "election safety", "nodes", other, "and", node, "both lead in term", term)

    def renamed(self, node: Node, names: Mapping[int, int]) -> None:
        """No nodes are exchangeable: each knows all others by name."""

    def shown(self, message: Any) -> str:
        """A request or an answer."""
        kind = "pre-vote" if message.pre else "vote"
        if isinstance(message, RequestVote):
            return f"{kind} wanted, term {message.term}"
        return f"{kind} {'granted' if message.granted else 'refused'}, term {message.term}"

    def role(self, node: Node) -> tuple[str, int]:
        """The machine's."""
        s = node.machine.state
        return s.role.name.lower(), s.term

    def told(self, node: Node) -> str:
        """Role, term and vote."""
        s = node.machine.state
        return f"{s.role.name.lower()} in term {s.term}" + (f", voted for {s.vote}" if s.vote else "")


def _copied(window: Window) -> Window:
    copy = Window(window.base_index, window.base_term)
    for block in _content(window)[2:]:
        copy.append(block)
    return copy


def _content(window: Window) -> tuple[Any, ...]:
    blocks = window.slice(window.base_index + 1, window.last, window.bytes + 1)
    return (window.base_index, window.base_term, *blocks)
