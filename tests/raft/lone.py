"""One real node with a given past; its peers are played by the test, which answers for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

from cluster import ROUNDS_MAX, Cluster, Letter, blocks, incarnation, require

from distkit.core import RoleName
from distkit.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Entries,
    HardState,
    Heartbeat,
    HeartbeatReply,
    RequestVote,
    RequestVoteReply,
)
from distkit.sim.broken import Broken
from distkit.sim.raft_ledger import entries_of


class Lone(Cluster):
    """Node 1 with a given past; its peers 2 to `size` are played by the test."""

    def __init__(
        self,
        raft: ModuleType,
        size: int = 3,
        *,
        log: Iterable[int] = (),
        term: int = 0,
        vote: int = 0,
        commit: int = 0,
        more: Sequence[Any] = (),
        **options: Any,
    ) -> None:
        terms = tuple(log)
        term = max((term, *terms))
        past = [HardState(term, vote, commit), *map(Entries, blocks(1, terms)), *more] if term or more else []
        super().__init__(raft, size, real=[1], records={1: past}, **options)
        self.host = self.nodes[1]
        self.run(1)
        self.take()

    @property
    def machine(self) -> Any:
        return self.host.machine

    @property
    def peers(self) -> range:
        return range(2, len(self.configuration.members) + 1)

    def receive(self, source: int, message: Any) -> list[Any]:
        """Hand node 1 a message and return what it answers to the sender once everything is durable."""
        self.hand(Letter(source, 1, message))
        self.run(1)
        return [letter.message for letter in self.take(target=source)]

    def sent(self, kind: type | None = None, target: int = 0) -> list[Any]:
        """What node 1 has sent since, of one kind, to one peer."""
        self.run(1)
        return [letter.message for letter in self.take(kind, target=target)]

    def until(self, happens: Callable[[], bool], seconds: float = 10.0) -> float:
        """Tick node 1 at its deadlines until something happens; how long that took."""
        begin = self.now
        while not happens():
            require(self.machine.deadline() <= begin + seconds, "it did not happen")
            self._tick_in_time()
        return self.now - begin

    def hear(self, leader: int, term: int = 0) -> None:
        """A leader of this (or a later) term sends a heartbeat."""
        self.receive(leader, Heartbeat(term or self.machine.term, 1, 0, 1, 0))

    def session_of(self, peer: int) -> int:
        """The replication session of the leader with a peer, as its heartbeats name it."""
        while not self.letters(Heartbeat, target=peer):
            self._tick_in_time()
        return int(self.take(Heartbeat, target=peer)[-1].message.session)

    def timeout(self) -> float:
        """Let the election timeout pass; how long it was."""
        self.take(RequestVote)
        return self.until(lambda: bool(self.letters(RequestVote)))

    def vote(self, *voters: int, pre: bool = False, granted: bool = True, term: int | None = None) -> None:
        """Peers answer a vote request. A grant carries the term of the request, a refusal that of the voter."""
        term = term if term is not None else self.machine.term + (pre and granted)
        for voter in voters:
            self.receive_only(voter, RequestVoteReply(term, incarnation(voter), pre, granted))

    def receive_only(self, source: int, message: Any) -> None:
        """Hand node 1 a message; what it sends stays in the pool."""
        self.hand(Letter(source, 1, message))
        self.run(1)

    def candidate(self) -> None:
        """Make node 1 a candidate whose vote requests lie in the pool."""
        if not self.letters(RequestVote):
            self.timeout()
        self.take(RequestVote)
        majority = len(self.configuration.members) // 2 + 1
        self.vote(*self.peers[: majority - 1], pre=True)
        require(self.machine.role is RoleName.CANDIDATE, "no candidate after the pre-vote is won")

    def elected(self) -> None:
        """Make node 1 the leader of the next term; its first appends lie in the pool."""
        self.candidate()
        self.take()
        majority = len(self.configuration.members) // 2 + 1
        self.vote(*self.peers[: majority - 1])
        require(self.machine.role is RoleName.LEADER, "not elected")

    def lead(self) -> None:
        """Make node 1 a leader whose peers all hold its log."""
        self.elected()
        for _ in range(ROUNDS_MAX):
            appends = self.take(AppendEntries)
            if not appends:
                break
            for letter in appends:
                self.receive_only(letter.target, accept(letter))
        self.elapse_alone(2 * self.options.commit_notice)
        self.take()

    def elapse_alone(self, seconds: float) -> None:
        """Let time pass with ticks in time; letters stay in the pool."""
        end = self.now + seconds
        while self.machine.deadline() <= end:
            self._tick_in_time()
        self.now = end

    def _tick_in_time(self) -> None:
        self.now = max(self.now, self.machine.deadline())
        for _ in range(3):  # a won election makes the next tick due at once
            self.tick(1)
            self.run(1)
            if self.machine.deadline() > self.now:
                return
        raise Broken("progress", "a tick leaves its deadline in the past")


def last_of(append: AppendEntries) -> int:
    """Index of the last entry of an append."""
    return entries_of(append.blocks[-1])[-1][0] if append.blocks else append.prev_index


def accept(letter: Letter, index: int | None = None, credit: int = 1 << 30) -> AppendEntriesReply:
    """The answer of a follower that took this append (up to `index`)."""
    append = letter.message
    index = last_of(append) if index is None else index
    return AppendEntriesReply(append.term, append.session, incarnation(letter.target), True, index, 0, 0, credit)


def refuse(letter: Letter, hint_index: int, hint_term: int) -> AppendEntriesReply:
    """The answer of a follower whose log does not match, with its best guess where it does."""
    append = letter.message
    node = incarnation(letter.target)
    return AppendEntriesReply(
        append.term, append.session, node, False, append.prev_index, hint_index, hint_term, 1 << 30
    )


def beat(letter: Letter, position: int | None = None) -> HeartbeatReply:
    """The answer of a follower to a heartbeat."""
    heartbeat: Heartbeat = letter.message
    position = heartbeat.read_position if position is None else position
    return HeartbeatReply(heartbeat.term, heartbeat.session, incarnation(letter.target), position, 0, 1 << 30)
