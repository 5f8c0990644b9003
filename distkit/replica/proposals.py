"""The way of a proposal from its caller into the leader's log, and of its result back.

    add -> held -> raft.propose ------------> committed -> applied -> reply      on the leader
                -> Propose frame -> (leader does the above) -> ProposeReply      elsewhere

Proposals travel in batches: one ticket of the machine or one frame for all that one flush brings, so the work for one
proposal is a few list operations. What was appended or sent is never appended or sent again; what a leader refused
was neither. A batch that was sent and has no answer ends LOST.
"""

from __future__ import annotations

import struct
from bisect import insort
from collections.abc import Container, Iterator
from operator import attrgetter

from distkit.core import Outcome, Reason, Reply, RoleName
from distkit.core.limits import BLOCK_BYTES_SOFT, BLOCK_ENTRIES_MAX, ENTRY_BYTES_MAX
from distkit.core.machine import Send
from distkit.raft import Raft
from distkit.replica.messages import RESULT_BYTES_MAX, Propose, ProposeReply
from distkit.replica.records import ReplicaOptions, ReplicaReply
from distkit.replica.sessions import Answer

#: Kinds of entries that a replica proposes (`docs/formats.md`).
COMMAND, SESSION_COMMAND, REGISTER, CLOSE_SESSION = 1, 2, 3, 4
#: Session, sequence and lowest unanswered sequence in front of a session command.
SESSION_PREFIX = struct.Struct("<QQQ")
SESSION_ID = struct.Struct("<Q")
#: Payload of one entry: a command with its session prefix.
PAYLOAD_BYTES_MAX = ENTRY_BYTES_MAX + SESSION_PREFIX.size

_KINDS = bytes((COMMAND, SESSION_COMMAND, REGISTER, CLOSE_SESSION))
_INFINITY = float("inf")
#: Senders whose last batch is remembered; each start of a peer is one.
_ORIGINS_MAX = 1 << 12
#: Refusals of this node's own machine after which a batch is held again: it was not appended.
_HOLD_AGAIN = (Reason.NOT_LEADER, Reason.TRANSFER)
_REASONS = {int(reason): reason for reason in Reason}
_FAILURES = {int(outcome): outcome for outcome in (Outcome.REFUSED, Outcome.SUPERSEDED, Outcome.LOST)}


class _Batch:
    """Proposals that share one ticket of the machine, their callers here (`tickets`) or behind `source`."""

    __slots__ = ("count", "done", "first", "kinds", "number", "origin", "payloads", "source", "tickets")

    def __init__(self, tickets: list[int], kinds: bytes, payloads: list[bytes], count: int) -> None:
        self.tickets = tickets
        self.kinds = kinds
        self.payloads = payloads
        self.count = count
        self.source = self.origin = self.number = 0
        self.first = 0
        self.done = 0


_next_index = attrgetter("first")


class _Forward:
    """A batch that was sent to `leader`; `done` of its tickets are answered."""

    __slots__ = ("deadline", "done", "leader", "tickets")

    def __init__(self, leader: int, tickets: list[int], deadline: float) -> None:
        self.leader = leader
        self.tickets = tickets
        self.deadline = deadline
        self.done = 0


class Proposals:
    """Open proposals of this node, and those that other nodes forwarded to it."""

    __slots__ = (
        "_batches",
        "_committed",
        "_connected",
        "_first_term",
        "_forward_deadline",
        "_forwards",
        "_kinds",
        "_last_batch",
        "_options",
        "_origin",
        "_payloads",
        "_raft",
        "_refused",
        "_retry_at",
        "_seen",
        "_tickets",
        "counters",
        "held_bytes",
        "held_bytes_high",
        "open",
        "open_high",
        "replies",
        "sends",
    )

    def __init__(self, raft: Raft, options: ReplicaOptions, origin: int, connected: Container[int]) -> None:
        self._raft = raft
        self._options = options
        self._origin = origin
        self._connected = connected
        self._tickets: list[int] = []
        self._kinds = bytearray()
        self._payloads: list[bytes] = []
        self._retry_at = 0.0
        self._refused: list[_Batch] = []
        self._batches: dict[int, _Batch] = {}
        self._committed: list[_Batch] = []
        self._forwards: dict[int, _Forward] = {}
        self._forward_deadline = _INFINITY
        self._last_batch = 0
        self._seen: dict[tuple[int, int], int] = {}
        self._first_term = raft.term
        self.held_bytes = self.held_bytes_high = 0
        self.open = self.open_high = 0
        self.replies: list[ReplicaReply] = []
        self.sends: list[Send] = []
        self.counters = {"forward_duplicate": 0, "forward_nonsense": 0, "forward_stale": 0, "forward_timeout": 0}

    @property
    def held(self) -> int:
        """Proposals that wait for a leader."""
        return len(self._tickets)

    @property
    def forwarded(self) -> int:
        """Proposals that wait for an answer of another node."""
        return sum(len(forward.tickets) - forward.done for forward in self._forwards.values())

    # -- from callers ----------------------------------------------------------------------------------------------

    def add(self, ticket: int, kind: int, payload: bytes) -> None:
        """Take a proposal; it is placed by the next flush."""
        options = self._options
        held_bytes = self.held_bytes + len(payload)
        if self.open >= options.proposals_max or held_bytes > options.held_bytes_max:
            self.replies.append(ReplicaReply(ticket, Outcome.REFUSED, reason=Reason.BUSY, leader=self._raft.leader))
            return
        self.open += 1
        self.held_bytes = held_bytes
        self._tickets.append(ticket)
        self._kinds.append(kind)
        self._payloads.append(payload)

    def cancel(self, ticket: int) -> bool:
        """Drop a proposal that is still held."""
        try:
            position = self._tickets.index(ticket)
        except ValueError:
            return False
        self.held_bytes -= len(self._payloads[position])
        self.open -= 1
        del self._tickets[position], self._kinds[position], self._payloads[position]
        return True

    # -- into the log ----------------------------------------------------------------------------------------------

    def place(self, now: float, next_ticket: Iterator[int]) -> None:
        """Hand what is held to the machine, or send it to the leader; hold it on if there is none to reach."""
        if not self._tickets or now < self._retry_at:
            return
        self.open_high = max(self.open_high, self.open)
        self.held_bytes_high = max(self.held_bytes_high, self.held_bytes)
        raft = self._raft
        if raft.role is RoleName.LEADER:
            for batch in self._taken():
                ticket = next(next_ticket)
                self._batches[ticket] = batch
                raft.propose(now, ticket, batch.payloads, kinds=batch.kinds)
        elif raft.leader in self._connected:
            deadline = now + self._options.forward_timeout
            self._forward_deadline = min(self._forward_deadline, deadline)
            for batch in self._taken():
                self._last_batch = number = self._last_batch + 1
                self._forwards[number] = _Forward(raft.leader, batch.tickets, deadline)
                message = Propose(self._origin, number, raft.term, batch.kinds, tuple(batch.payloads))
                self.sends.append((raft.leader, message))

    def _taken(self) -> Iterator[_Batch]:
        """All that is held, cut so that each batch fits one block."""
        tickets, kinds, payloads, size = self._tickets, bytes(self._kinds), self._payloads, self.held_bytes
        self._tickets, self._kinds, self._payloads, self.held_bytes = [], bytearray(), [], 0
        if size <= BLOCK_BYTES_SOFT and len(tickets) <= BLOCK_ENTRIES_MAX:
            yield _Batch(tickets, kinds, payloads, len(tickets))
            return
        start = size = 0
        for position, payload in enumerate(payloads):
            size += len(payload)
            if position > start and (size > BLOCK_BYTES_SOFT or position - start >= BLOCK_ENTRIES_MAX):
                yield _Batch(tickets[start:position], kinds[start:position], payloads[start:position], position - start)
                start, size = position, len(payload)
        yield _Batch(tickets[start:], kinds[start:], payloads[start:], len(tickets) - start)

    def settle(self, now: float) -> None:
        """After the machine's replies of one flush: hold again, in their order, what it refused for the moment."""
        if not self._refused:
            return
        refused, self._refused = self._refused, []
        self._retry_at = now + self._options.retry_interval
        # Nothing was added meanwhile: what was held went into these batches in the same flush.
        self._tickets = [ticket for batch in refused for ticket in batch.tickets]
        self._kinds = bytearray().join(batch.kinds for batch in refused)
        self._payloads = [payload for batch in refused for payload in batch.payloads]
        self.held_bytes = sum(map(len, self._payloads))

    # -- from the machine ------------------------------------------------------------------------------------------

    def replied(self, reply: Reply, applied: int) -> bool:
        """The machine ended a ticket; whether it was one of a batch."""
        batch = self._batches.pop(reply.ticket, None)
        if batch is None:
            return False
        if reply.outcome is Outcome.COMMITTED and reply.first > applied:
            batch.first = reply.first
            batch.payloads = []
            insort(self._committed, batch, key=_next_index)
        elif reply.outcome is Outcome.COMMITTED:
            # Its results are gone: a snapshot brought the state here.
            self._end(batch, Outcome.LOST, Reason.SNAPSHOT, reply.leader)
        elif reply.outcome is Outcome.REFUSED and not batch.source and reply.reason in _HOLD_AGAIN:
            self._refused.append(batch)
        else:
            self._end(batch, reply.outcome, reply.reason, reply.leader)
        return True

    def applied(self, first: int, answers: list[Answer]) -> None:
        """Entries from `first` on were applied with these answers: give them to whoever asked."""
        behind = first + len(answers)
        finished = 0
        for batch in self._committed:
            start = batch.first + batch.done
            if start >= behind:
                break
            part = answers[start - first : min(batch.first + batch.count, behind) - first]
            if batch.source:
                self._answer(batch, start, part)
            else:
                self._deliver(batch.tickets, batch.done, start, part)
            batch.done += len(part)
            finished += batch.done == batch.count
        del self._committed[:finished]

    def restored(self, index: int) -> None:
        """A snapshot replaced the state up to `index`: results of entries it covers will never be known."""
        gone = [batch for batch in self._committed if batch.first + batch.done <= index]
        del self._committed[: len(gone)]
        for batch in gone:
            self._end(batch, Outcome.LOST, Reason.SNAPSHOT, self._raft.leader)

    # -- from other nodes ------------------------------------------------------------------------------------------

    def forwarded_here(self, now: float, ticket: int, source: int, message: Propose) -> None:
        """Propose what another node forwarded, if this is the leader it meant.

        A frame is answered once: its first copy may have been proposed, whatever this node is when the second comes. Of
        a term from before this start nobody knows whether a copy came before.
        """
        raft = self._raft
        batch = _Batch([], message.kinds, list(message.items), len(message.items))
        batch.source, batch.origin, batch.number = source, message.origin, message.batch
        if self._repeated(source, message):
            self.counters["forward_duplicate"] += 1
        elif raft.role is not RoleName.LEADER or message.term != raft.term:
            reason = Reason.FENCED if raft.role is RoleName.LEADER else Reason.NOT_LEADER
            outcome = Outcome.REFUSED if message.term > self._first_term else Outcome.LOST
            self._end(batch, outcome, reason, raft.leader)
        elif not _sound(message):
            self.counters["forward_nonsense"] += 1
        else:
            self._batches[ticket] = batch
            raft.propose(now, ticket, batch.payloads, kinds=batch.kinds)

    def _repeated(self, source: int, message: Propose) -> bool:
        """Whether this frame, or a later one of the same sender, was seen before."""
        key = (source, message.origin)
        if message.batch <= self._seen.get(key, 0):
            return True
        if key not in self._seen and len(self._seen) >= _ORIGINS_MAX:
            del self._seen[next(iter(self._seen))]
        self._seen[key] = message.batch
        return False

    def answered(self, source: int, message: ProposeReply) -> None:
        """The leader ended proposals that were forwarded to it."""
        forward = self._forwards.get(message.batch)
        if message.origin != self._origin or forward is None or forward.leader != source:
            self.counters["forward_stale"] += 1
            return
        answers = _answers(message)
        left = len(forward.tickets) - forward.done
        if message.position != forward.done or len(answers) > left:
            # An answer in between was lost, or this one is nonsense: what is left stays unknown.
            self.counters["forward_nonsense"] += 1
            self._drop(message.batch, Outcome.LOST, Reason.NONE, 0)
        elif answers:
            self._deliver(forward.tickets, forward.done, message.index, answers)
            forward.done += len(answers)
            if len(answers) == left:
                del self._forwards[message.batch]
        else:
            outcome = _FAILURES.get(message.outcome, Outcome.LOST)
            self._drop(message.batch, outcome, _REASONS.get(message.reason, Reason.NONE), message.leader)

    def lost(self, peer: int) -> None:
        """The connection to a peer broke: whether it got what was sent to it is unknown."""
        for number in [number for number, forward in self._forwards.items() if forward.leader == peer]:
            self._drop(number, Outcome.LOST, Reason.NOT_LEADER, self._raft.leader)

    def leader_known(self, now: float, leader: int) -> None:
        """There is a leader: try again at once, and give the former one a little time for what it still owes."""
        self._retry_at = 0.0
        deadline = now + self._options.forward_grace
        for forward in self._forwards.values():
            if forward.leader != leader:
                forward.deadline = min(forward.deadline, deadline)
                self._forward_deadline = min(self._forward_deadline, deadline)

    # -- time ------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """End what waited too long for an answer."""
        if now < self._forward_deadline:
            return
        for number in [number for number, forward in self._forwards.items() if forward.deadline <= now]:
            self.counters["forward_timeout"] += 1
            self._drop(number, Outcome.LOST, Reason.NONE, self._raft.leader)
        self._forward_deadline = min((forward.deadline for forward in self._forwards.values()), default=_INFINITY)

    def deadline(self) -> float:
        """When to call `tick` or `place` next."""
        raft = self._raft
        if self._tickets and (raft.role is RoleName.LEADER or raft.leader in self._connected):
            return min(self._forward_deadline, self._retry_at)
        return self._forward_deadline

    # -- the ends --------------------------------------------------------------------------------------------------

    def _deliver(self, tickets: list[int], done: int, index: int, answers: list[Answer]) -> None:
        append = self.replies.append
        for position, answer in enumerate(answers, done):
            if isinstance(answer, bytes):
                append(ReplicaReply(tickets[position], Outcome.COMMITTED, index, answer))
            else:
                append(refusal(tickets[position], index, answer))
            index += 1
        self.open -= len(answers)

    def _answer(self, batch: _Batch, index: int, answers: list[Answer]) -> None:
        """Send answers to where the batch came from, in as many frames as they need."""
        start = size = 0
        for position, answer in enumerate(answers):
            length = 4 + len(answer) if isinstance(answer, bytes) else 4
            if position > start and size + length > RESULT_BYTES_MAX:
                self._answer_frame(batch, batch.done + start, index + start, answers[start:position])
                start, size = position, 0
            size += length
        self._answer_frame(batch, batch.done + start, index + start, answers[start:])

    def _answer_frame(self, batch: _Batch, position: int, index: int, answers: list[Answer]) -> None:
        reasons = bytes(0 if isinstance(answer, bytes) else answer for answer in answers)
        message = ProposeReply(
            batch.origin,
            batch.number,
            position,
            Outcome.COMMITTED,
            Reason.NONE,
            self._raft.leader,
            index,
            reasons if any(reasons) else b"",
            tuple(answer if isinstance(answer, bytes) else b"" for answer in answers),
        )
        self.sends.append((batch.source, message))

    def _end(self, batch: _Batch, outcome: Outcome, reason: Reason, leader: int) -> None:
        """End what is left of a batch in one way."""
        if batch.source:
            message = ProposeReply(batch.origin, batch.number, batch.done, outcome, reason, leader, 0, b"", ())
            self.sends.append((batch.source, message))
        else:
            self._fail(batch.tickets[batch.done :], outcome, reason, leader)

    def _drop(self, number: int, outcome: Outcome, reason: Reason, leader: int) -> None:
        """End what is left of a forwarded batch in one way."""
        forward = self._forwards.pop(number)
        self._fail(forward.tickets[forward.done :], outcome, reason, leader)

    def _fail(self, tickets: list[int], outcome: Outcome, reason: Reason, leader: int) -> None:
        self.open -= len(tickets)
        self.replies += [ReplicaReply(ticket, outcome, reason=reason, leader=leader) for ticket in tickets]


def refusal(ticket: int, index: int, reason: Reason) -> ReplicaReply:
    """The end of a command that was committed, and for `reason` has no result."""
    outcome = Outcome.COMMITTED if reason is Reason.RESULT_TOO_LARGE else Outcome.REFUSED
    return ReplicaReply(ticket, outcome, index, reason=reason)


def _answers(message: ProposeReply) -> list[Answer]:
    """The answers that a reply carries; none if it reports a failure, or is nonsense."""
    if message.outcome != Outcome.COMMITTED or len(message.reasons) not in (0, len(message.results)):
        return []
    if not message.reasons:
        return list(message.results)
    return [
        _REASONS.get(reason, Reason.NONE) if reason else result
        for reason, result in zip(message.reasons, message.results, strict=True)
    ]


def _sound(message: Propose) -> bool:
    """Whether forwarded items make one block of entries that every replica can apply."""
    kinds, items = message.kinds, message.items
    if not 0 < len(items) == len(kinds) <= BLOCK_ENTRIES_MAX or kinds.translate(None, _KINDS):
        return False
    sizes = list(map(len, items))
    if max(sizes) > PAYLOAD_BYTES_MAX or (len(items) > 1 and sum(sizes) > BLOCK_BYTES_SOFT):
        return False
    if SESSION_COMMAND not in kinds and CLOSE_SESSION not in kinds:
        return True
    return all(
        (kind != SESSION_COMMAND or size >= SESSION_PREFIX.size) and (kind != CLOSE_SESSION or size == SESSION_ID.size)
        for kind, size in zip(kinds, sizes, strict=True)
    )
