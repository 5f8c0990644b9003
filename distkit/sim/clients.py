"""Clients: they call, wait, give up, try again in a session, and remember what they saw.

Each client has one call under way at a time, or as many as the scenario says. What is called and how answers are
judged is the workload's; here it is held that nothing takes effect that was refused, and that an answer is what came of
the command when it was applied, however late and at whichever attempt it is given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from distkit.core import Outcome, Reason
from distkit.core.limits import INDEX_MAX
from distkit.replica import ClientSession, ReplicaReply
from distkit.sim.broken import require
from distkit.sim.chance import SECOND, stream
from distkit.sim.linear import Operation
from distkit.sim.scenario import Call

if TYPE_CHECKING:
    from distkit.sim.host import Host
    from distkit.sim.world import World

_PATIENCE: Final = 2 * SECOND  #: of a client, for one attempt
_PAUSE: Final = SECOND // 20  #: before it tries again
_ATTEMPTS: Final = 12
_READS: Final = ("read", "stale")
#: They open and end a session: no commands of the workload.
_OF_SESSIONS: Final = ("register", "close")
_NO_COMMANDS: Final = (*_READS, *_OF_SESSIONS)
_TAG_BYTES: Final = 8


class _Running:
    """A call that is under way."""

    __slots__ = (
        "attempts",
        "call",
        "called",
        "client",
        "content",
        "floor",
        "maybe",
        "node",
        "sequence",
        "session",
        "ticket",
        "token",
    )

    def __init__(self, client: _Client, call: Call, content: bytes, called: int, token: Any, floor: int) -> None:
        self.client = client
        self.call = call
        self.content = content  # the command, with something that makes it unique in front
        self.called = called
        self.token = token  # the workload's
        self.floor = floor  # up to this index of the log all was done before the call
        self.attempts = 0
        self.node = 0  # where the attempt under way went
        self.maybe = False  # an attempt ended without an answer: it may have taken effect
        self.session: ClientSession | None = None  # to its end, even if the client has another one by then
        self.sequence = 0
        self.ticket = 0  # of the newest attempt; 0: it is over


class _Client:
    def __init__(self, number: int) -> None:
        self.id = number
        self.waiting: deque[Call] = deque()
        self.running: list[_Running] = []
        self.session: ClientSession | None = None

    @property
    def registers(self) -> bool:
        """Whether it is about to have a session."""
        return any(each.call.kind == "register" for each in self.running)


class Clients:
    """All clients of a world, and their history."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.history: list[Operation] = []  #: at the end, in the order in which it took effect
        self._places: list[tuple[tuple[int, int], Operation]] = []  # of operations in that order
        self.acknowledged = self.unknown = self.refused = 0
        self._clients: dict[int, _Client] = {}
        self._tickets: dict[int, _Running] = {}
        self._transfers: set[int] = set()
        self._ended: set[int] = set()  # tickets, each of which ends once
        self._numbers = 0  # of commands
        self._last_ticket = 0
        self._undone: set[bytes] = set()  # commands that definitely did not take effect
        self._done: dict[bytes, tuple[int, bytes, int]] = {}  # those that did: at which index, what came of it, when
        self._in_sessions: dict[int, tuple[int, int]] = {}  # session -> last index with an answer, index that closed it
        self._unanswered: list[_Running] = []  # calls of which nobody was told whether they took effect
        self._answered = 0  # the highest index of which some client has seen the effect
        self._workload = world.workload

    # -- events -------------------------------------------------------------------------------------------------------

    def event(self, what: Call | tuple[_Running, int]) -> None:
        """A call falls due, or (call under way, ticket) has waited for long enough."""
        if isinstance(what, Call):
            client = self._clients.setdefault(what.client, _Client(what.client))
            client.waiting.append(what)
            return self._next(client)
        running, ticket = what
        if running.ticket != ticket:
            return None
        if self._tickets.pop(ticket, None) is None:
            return self._attempt(running)
        host = self.world.hosts[running.node]
        if host.up and not host.paused and ticket in host.guest.tickets:
            host.guest.tickets.discard(ticket)
            if host.call("cancel", ticket):
                self._ended.add(ticket)
                self.world.marks["a call was given up in time"] += 1
                return self._refused(running, Reason.NONE)
        return self._lost(running)

    def replied(self, guest: Any, reply: ReplicaReply) -> None:
        """A replica ended a ticket."""
        require(reply.ticket not in self._ended, "tickets", "a ticket ended twice:", reply)
        self._ended.add(reply.ticket)
        if reply.outcome in (Outcome.REFUSED, Outcome.SUPERSEDED):
            self.world.marks[f"a call was {reply.outcome.name.lower()}: {reply.reason.name.lower()}"] += 1
        running = self._tickets.pop(reply.ticket, None)
        if running is None:
            if reply.ticket in self._transfers and reply.outcome is Outcome.COMMITTED:
                self.world.marks["leadership was transferred"] += 1
            return
        self._tell_return(running, reply.outcome.name.lower())
        if reply.outcome is Outcome.SUPERSEDED and running.content and running.attempts == 1:
            self.world.oracle.superseded(running.content)
        if reply.outcome is Outcome.COMMITTED:
            self._committed(running, reply)
        elif reply.outcome is Outcome.READABLE:
            index = guest.machine.applied_index
            self._ordered(running, index + 1)
            self._finish(running, self._workload.query(guest.application, running.call), index)
        elif reply.outcome is Outcome.LOST:
            self._lost(running)
        else:
            self._refused(running, reply.reason)

    def lost(self, tickets: Iterable[int]) -> None:
        """The process that had these tickets died."""
        for ticket in sorted(tickets):
            running = self._tickets.pop(ticket, None)
            if running is not None:
                self._tell_return(running, "lost")
                self._lost(running)

    def stop(self) -> None:
        """What was not begun is not called any more."""
        for client in self._clients.values():
            client.waiting.clear()

    def last(self) -> int:
        """After everything healed: the calls of the workload that must be answered. How many they are."""
        up = [host.id for host in self.world.hosts.values() if host.up]
        calls = self._workload.last_calls(self.world.scenario.calls, up, self.world.timeline.now)
        for call in calls:
            self.event(call)
        return len(calls)

    # -- a call -------------------------------------------------------------------------------------------------------

    def _next(self, client: _Client) -> None:
        """Begin what waits, in its order, as far as the client may."""
        scenario = self.world.scenario
        while client.waiting and len(client.running) < scenario.in_flight:
            call = client.waiting[0]
            if scenario.sessions and client.session is None and call.kind not in (*_READS, "transfer", "close"):
                if client.registers:
                    return
                call = Call(call.time, call.client, call.node, "register", "", 0)
            else:
                client.waiting.popleft()
            if call.kind == "transfer":
                self._transfer(call)
            elif call.kind != "close" or client.session is not None:
                self._begin(client, call)

    def _begin(self, client: _Client, call: Call) -> None:
        workload, session, content = self._workload, client.session, b""
        if call.kind not in _NO_COMMANDS:
            self._numbers += 1
            random = stream(self.world.seed, f"command {call.client} {call.time} {call.value}")
            content = tagged(self._numbers, workload.command(call, random))
        running = _Running(client, call, content, self.world.timeline.now, workload.called(call), self._answered)
        if session is not None and call.kind not in _READS:
            running.session = session
            if call.kind == "close":  # what it has under way may come before it or after it
                client.session = None
            else:
                running.sequence = session.begin()
                if session.lowest < running.sequence:
                    self.world.marks["a session had several commands under way"] += 1
        client.running.append(running)
        return self._attempt(running)

    def _attempt(self, running: _Running) -> None:
        running.attempts += 1
        world = self.world
        self._last_ticket += 1
        running.ticket = ticket = self._last_ticket
        running.node = self._choose(running)
        host = world.hosts[running.node]
        if not host.up:
            return self._later(running)
        call = running.call
        if call.kind == "stale":
            if not host.paused and not host.machine.loading:
                return self._finish(running, self._workload.query(host.guest.application, call), 0)
            return self._later(running)
        self._tickets[ticket] = running
        host.guest.tickets.add(ticket)
        world.timeline.after(_PATIENCE, world.CLIENT, 0, (running, ticket))
        if world.trace is not None:
            op = f"{call.kind} {call.key}"
            world.tell("invoke", host.id, client=call.client, id=ticket, op=op, value=call.value)
        self._call(host, running)
        return None

    def _call(self, host: Host, running: _Running) -> None:
        """Use the door of the replica that this call is for."""
        kind, ticket, session = running.call.kind, running.ticket, running.session
        if kind in ("read", "register"):
            host.input(kind, ticket)
        elif session is None:
            host.input("propose", ticket, running.content)
        elif kind == "close":
            host.input("close_session", ticket, session.id)
        else:
            host.input("propose", ticket, running.content, session.id, running.sequence, session.lowest)

    def _choose(self, running: _Running) -> int:
        """Where an attempt goes: each to the next node. A call for node 0 first goes to whoever has led for longest:
        there a read would be stale, and a write lost."""
        if running.call.node == 0 and running.attempts == 1:
            led = [host for host in self.world.hosts.values() if host.up and self.world.oracle.led(host)]
            if led:
                return min(led, key=lambda host: host.guest.raft.term).id
        return (running.call.node - 1 + running.attempts - 1) % len(self.world.hosts) + 1

    def _later(self, running: _Running) -> None:
        """Try again after a pause, or give up."""
        if running.attempts >= _ATTEMPTS:
            return self._give_up(running)
        pause = _PAUSE << min(running.attempts, 4)
        self.world.timeline.after(pause, self.world.CLIENT, 0, (running, running.ticket))
        return None

    # -- the ends -----------------------------------------------------------------------------------------------------

    def _committed(self, running: _Running, reply: ReplicaReply) -> None:
        call = running.call
        if call.kind == "register":
            running.client.session = ClientSession(int.from_bytes(reply.result, "little"))
            return self._end(running)
        if running.session is not None:
            self._in_session(running.session.id, reply.index, closes=call.kind == "close")
        if call.kind == "close":
            return self._closed(running, "a session was closed")
        if running.maybe:
            self.world.marks["a retry in a session got its answer"] += 1
        require(running.content in self._done, "tickets", "an answer to what was not applied:", call)
        index, result, _ = self._done[running.content]
        if reply.reason is Reason.RESULT_TOO_LARGE:  # the client has no answer, but what it was can be judged
            self.world.marks["a result was too large to keep"] += 1
            require(not reply.result, "tickets", "an answer with a result that is too large:", reply)
        else:
            require(reply.result == result, "tickets", call, "came to", result, "and was answered", reply.result)
        self._ordered(running, index)
        return self._finish(running, result, index)

    def _in_session(self, session: int, index: int, *, closes: bool) -> None:
        """A session answers nothing behind the entry that closed it."""
        answered, closed = self._in_sessions.get(session, (0, INDEX_MAX))
        answered, closed = (answered, index) if closes else (max(answered, index), closed)
        require(answered <= closed, "tickets", "session", session, "closed at", closed, "has an answer of", answered)
        self._in_sessions[session] = answered, closed

    def _ordered(self, running: _Running, index: int) -> None:
        """What is answered comes behind all that was answered before it was called, whatever it is about: `index` is
        that of the command, or the one that a read comes before."""
        rule = "stale read" if running.call.kind == "read" else "linearizability"
        require(index > running.floor, rule, running.call, "comes before", index, "though called after", running.floor)
        self._answered = max(self._answered, index if running.content else index - 1)

    def _finish(self, running: _Running, output: Any, index: int) -> None:
        """The call was answered, with what was there at this index of the log."""
        self._workload.answered(running.call, running.token, output)
        self.acknowledged += 1
        if running.call.kind != "stale":
            self._record(running, output, self.world.timeline.now, index)
        self._end(running)

    def _closed(self, running: _Running, mark: str) -> None:
        """There is no such session any more."""
        self.world.marks[mark] += 1
        self.acknowledged += 1
        self._end(running)

    def _lost(self, running: _Running) -> None:
        """No answer came. In a session, and for a read, another attempt can't do harm."""
        kind = running.call.kind
        running.maybe = running.maybe or kind not in _READS
        if kind in _READS or kind == "register" or running.session is not None:
            return self._later(running)
        return self._give_up(running)

    def _refused(self, running: _Running, reason: Reason) -> None:
        """This attempt was definitely not done."""
        require(reason is not Reason.ANSWERED, "tickets", "its client still waits for an answer:", running.call)
        if reason is Reason.SESSION_EXPIRED:
            client = running.client
            if running.call.kind == "close":
                return self._closed(running, "a session was gone before it was closed")
            if client.session is running.session:
                self.world.marks["a client saw that its session had expired"] += 1
                client.session = None
            # Another attempt, in another session, would be another command: earlier ones may have taken effect.
            return self._give_up(running)
        return self._later(running)

    def _give_up(self, running: _Running) -> None:
        call, client = running.call, running.client
        if call.kind == "register":
            self.world.marks["a session could not be had"] += 1
            if client.waiting:
                client.waiting.popleft()  # what it was for: nothing of it was ever begun
                self.refused += 1
        elif running.maybe:
            self.world.marks["a call ended without an answer"] += 1
            self._unanswered.append(running)
            self.unknown += 1
        else:
            self.refused += 1
            self._undone.add(running.content)
            gone = running.content not in self._done
            require(gone, "tickets", "an operation that was refused has taken effect:", call)
        return self._end(running)

    def finish(self) -> None:
        """The end of the run. What was not answered may have taken effect; whether it did, and when it was seen first,
        is known here. A history that says so is as true as one that leaves it open, and stricter."""
        for client in self._clients.values():
            pending = [each for each in client.running if each.call.kind not in (*_READS, "register")]
            self._unanswered += pending
            self.unknown += len(pending)
        for running in self._unanswered:
            if running.content in self._done:
                index, result, time = self._done[running.content]
                self._record(running, result, time, index)
        self._places.sort(key=lambda each: each[0])
        self.history = [operation for _, operation in self._places]

    def _end(self, running: _Running) -> None:
        if running.session is not None and running.sequence:
            running.session.finish(running.sequence)
        running.ticket = 0
        running.client.running.remove(running)
        self._next(running.client)

    def _record(self, running: _Running, answer: Any, returned: int, index: int) -> None:
        operation = self._workload.operation(running.call, answer, running.called, returned)
        if operation is not None:
            turn = 0 if running.content else running.called + 1  # reads behind the command, as they were called
            self._places.append(((index, turn), operation))

    def _transfer(self, call: Call) -> None:
        """Ask the leader, if there is one, to hand leadership to another node."""
        world = self.world
        leader = world.oracle.leader()
        if leader and leader != call.node and not world.hosts[leader].paused:
            self._last_ticket += 1
            self._transfers.add(self._last_ticket)
            world.marks["a leadership transfer was asked for"] += 1
            world.hosts[leader].input("transfer", self._last_ticket, call.node)

    def applied(self, index: int, content: bytes, result: bytes) -> None:
        """A command is applied for the first time."""
        require(content not in self._undone, "tickets", "an operation that was refused takes effect:", content)
        self._done[content] = index, result, self.world.timeline.now
        self._workload.applied(index, untagged(content), result)

    def _tell_return(self, running: _Running, outcome: str) -> None:
        if self.world.trace is not None:
            client, node = running.client.id, running.node
            self.world.tell("return", node, client=client, id=running.ticket, outcome=outcome, value=None)


def tagged(number: int, command: bytes) -> bytes:
    """A command with a number of its own, so that it is seen if it takes effect twice."""
    return number.to_bytes(_TAG_BYTES, "little") + command


def untagged(content: bytes) -> bytes:
    """What the application gets."""
    return content[_TAG_BYTES:]
