"""Clients: they call, wait, give up, try again in a session, and remember what they saw.

Each client has one call under way at a time. What is called and how answers are judged is the workload's; here it is
held that nothing takes effect that was refused, and nothing is answered that was not applied.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from distkit.core import Outcome, Reason
from distkit.replica import ClientSession, ReplicaReply
from distkit.sim.broken import require
from distkit.sim.chance import SECOND, stream
from distkit.sim.linear import Operation
from distkit.sim.scenario import Call

if TYPE_CHECKING:
    from distkit.sim.world import World

_PATIENCE: Final = 2 * SECOND  #: of a client, for one attempt
_PAUSE: Final = SECOND // 20  #: before it tries again
_ATTEMPTS: Final = 12
_READS: Final = ("read", "stale")
_NO_COMMANDS: Final = (*_READS, "register")
_TAG_BYTES: Final = 8


class _Running:
    """A call that is under way."""

    __slots__ = ("attempts", "call", "called", "content", "floor", "maybe", "node", "sequence", "ticket", "token")

    def __init__(self, call: Call, content: bytes, called: int, token: Any, floor: int) -> None:
        self.call = call
        self.content = content  # the command, with something that makes it unique in front
        self.called = called
        self.token = token  # the workload's
        self.floor = floor  # up to this index of the log all was done before the call
        self.attempts = 0
        self.node = 0  # where the attempt under way went
        self.maybe = False  # an attempt ended without an answer: it may have taken effect
        self.sequence = 0
        self.ticket = 0


class _Client:
    def __init__(self, number: int) -> None:
        self.id = number
        self.waiting: deque[Call] = deque()
        self.running: _Running | None = None
        self.session: ClientSession | None = None


class Clients:
    """All clients of a world, and their history."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.history: list[Operation] = []
        self.acknowledged = self.unknown = self.refused = 0
        self._clients: dict[int, _Client] = {}
        self._tickets: dict[int, _Client] = {}
        self._transfers: set[int] = set()
        self._ended: set[int] = set()  # tickets, each of which ends once
        self._numbers = 0  # of commands
        self._last_ticket = 0
        self._undone: set[bytes] = set()  # commands that definitely did not take effect
        self._done: dict[bytes, int] = {}  # those that did, and at which index
        self._answered = 0  # the highest index of which some client has seen the effect
        self._workload = world.workload

    # -- events -------------------------------------------------------------------------------------------------------

    def event(self, what: Call | tuple[int, int]) -> None:
        """A call falls due, or (client, ticket) has waited for long enough."""
        if isinstance(what, Call):
            client = self._clients.setdefault(what.client, _Client(what.client))
            client.waiting.append(what)
            self._next(client)
            return None
        client, running = self._clients[what[0]], self._clients[what[0]].running
        if running is None or running.ticket != what[1]:
            return None
        if self._tickets.pop(running.ticket, None) is not None:
            host = self.world.hosts[running.node]
            if host.up and not host.paused and running.ticket in host.guest.tickets:
                host.guest.tickets.discard(running.ticket)
                if host.call("cancel", running.ticket):
                    self._ended.add(running.ticket)
                    self.world.marks["a call was given up in time"] += 1
                    return self._refused(client, running, Reason.NONE)
            return self._lost(client, running)
        return self._attempt(client, running)

    def replied(self, guest: Any, reply: ReplicaReply) -> None:
        """A replica ended a ticket."""
        require(reply.ticket not in self._ended, "tickets", "a ticket ended twice:", reply)
        self._ended.add(reply.ticket)
        client = self._tickets.pop(reply.ticket, None)
        if client is None:
            if reply.ticket in self._transfers and reply.outcome is Outcome.COMMITTED:
                self.world.marks["leadership was transferred"] += 1
            return
        running = client.running
        assert running is not None
        self._tell_return(client, running, reply.outcome.name.lower())
        if reply.outcome is Outcome.COMMITTED:
            self._committed(client, running, reply)
        elif reply.outcome is Outcome.READABLE:
            self._ordered(running, guest.machine.applied_index + 1)
            self._finish(client, running, self._workload.query(guest.application, running.call))
        elif reply.outcome is Outcome.LOST:
            self._lost(client, running)
        else:
            self.world.marks[f"a call was {reply.outcome.name.lower()}: {reply.reason.name.lower()}"] += 1
            self._refused(client, running, reply.reason)

    def lost(self, tickets: Iterable[int]) -> None:
        """The process that had these tickets died."""
        for ticket in sorted(tickets):
            client = self._tickets.pop(ticket, None)
            if client is not None:
                running = client.running
                assert running is not None
                self._tell_return(client, running, "lost")
                self._lost(client, running)

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
        if client.running is not None or not client.waiting:
            return None
        call = client.waiting.popleft()
        if call.kind == "transfer":
            self._transfer(call)
            return self._next(client)
        if self.world.scenario.sessions and client.session is None and call.kind not in _READS:
            client.waiting.appendleft(call)
            call = Call(call.time, call.client, call.node, "register", "", 0)
        workload, content = self._workload, b""
        if call.kind not in _NO_COMMANDS:
            self._numbers += 1
            random = stream(self.world.seed, f"command {call.client} {call.time} {call.value}")
            content = tagged(self._numbers, workload.command(call, random))
        client.running = running = _Running(
            call, content, self.world.timeline.now, workload.called(call), self._answered
        )
        if client.session is not None and call.kind not in _READS:
            running.sequence = client.session.begin()
        return self._attempt(client, running)

    def _attempt(self, client: _Client, running: _Running) -> None:
        running.attempts += 1
        world = self.world
        self._last_ticket += 1
        running.ticket = ticket = self._last_ticket
        running.node = self._choose(running)
        host = world.hosts[running.node]
        if not host.up:
            return self._later(client, running)
        call = running.call
        if call.kind == "stale":
            if not host.paused and not host.machine.loading:
                self._finish(client, running, self._workload.query(host.guest.application, call))
                return None
            return self._later(client, running)
        self._tickets[ticket] = client
        host.guest.tickets.add(ticket)
        world.timeline.after(_PATIENCE, world.CLIENT, 0, (client.id, ticket))
        if world.trace is not None:
            world.tell("invoke", host.id, client=client.id, id=ticket, op=f"{call.kind} {call.key}", value=call.value)
        if call.kind == "read":
            host.input("read", ticket)
        elif call.kind == "register":
            host.input("register", ticket)
        else:
            session = client.session
            if session is None:
                host.input("propose", ticket, running.content)
            else:
                host.input("propose", ticket, running.content, session.id, running.sequence, session.lowest)
        return None

    def _choose(self, running: _Running) -> int:
        """Where an attempt goes: each to the next node. A call for node 0 first goes to whoever has led for longest:
        there a read would be stale, and a write lost."""
        if running.call.node == 0 and running.attempts == 1:
            led = [host for host in self.world.hosts.values() if host.up and self.world.oracle.led(host)]
            if led:
                return min(led, key=lambda host: host.guest.raft.term).id
        return (running.call.node - 1 + running.attempts - 1) % len(self.world.hosts) + 1

    def _later(self, client: _Client, running: _Running) -> None:
        """Try again after a pause, or give up."""
        if running.attempts >= _ATTEMPTS:
            return self._give_up(client, running)
        self.world.timeline.after(_PAUSE << min(running.attempts, 4), self.world.CLIENT, 0, (client.id, running.ticket))
        return None

    # -- the ends -----------------------------------------------------------------------------------------------------

    def _committed(self, client: _Client, running: _Running, reply: ReplicaReply) -> None:
        call = running.call
        if call.kind == "register":
            client.session = ClientSession(int.from_bytes(reply.result, "little"))
            client.running = None
            return self._next(client)
        if running.maybe:
            self.world.marks["a retry in a session got its answer"] += 1
        require(running.content in self._done, "tickets", "an answer to what was not applied:", call)
        self._ordered(running, self._done[running.content])
        return self._finish(client, running, reply.result)

    def _ordered(self, running: _Running, index: int) -> None:
        """What is answered comes behind all that was answered before it was called, whatever it is about: `index` is
        that of the command, or the one that a read comes before."""
        rule = "stale read" if running.call.kind == "read" else "linearizability"
        require(index > running.floor, rule, running.call, "comes before", index, "though called after", running.floor)
        self._answered = max(self._answered, index if running.content else index - 1)

    def _finish(self, client: _Client, running: _Running, output: Any) -> None:
        """The call was answered."""
        self._workload.answered(running.call, running.token, output)
        self.acknowledged += 1
        if running.call.kind != "stale":
            self._record(running, output, self.world.timeline.now)
        self._end(client, running)

    def _lost(self, client: _Client, running: _Running) -> None:
        """No answer came. In a session, and for a read, another attempt can't do harm."""
        kind = running.call.kind
        running.maybe = running.maybe or kind not in _READS
        if kind in _READS or kind == "register" or client.session is not None:
            return self._later(client, running)
        return self._give_up(client, running)

    def _refused(self, client: _Client, running: _Running, reason: Reason) -> None:
        """This attempt was definitely not done."""
        if reason is Reason.SESSION_EXPIRED:
            client.session = None
            return self._give_up(client, running)
        return self._later(client, running)

    def _give_up(self, client: _Client, running: _Running) -> None:
        call = running.call
        if call.kind == "register":
            client.running = None
            if client.waiting:
                client.waiting.popleft()  # what it was for
            return self._next(client)
        if running.maybe:
            self.world.marks["a call ended without an answer"] += 1
            self.unknown += 1
            self._record(running, None, math.inf)
        else:
            self.refused += 1
            self._undone.add(running.content)
            gone = running.content not in self._done
            require(gone, "tickets", "an operation that was refused has taken effect:", call)
        return self._end(client, running)

    def finish(self) -> None:
        """The end of the run: what is still under way may have taken effect."""
        for client in self._clients.values():
            running = client.running
            if running is not None and running.call.kind not in (*_READS, "register"):
                self.unknown += 1
                self._record(running, None, math.inf)

    def _end(self, client: _Client, running: _Running) -> None:
        if client.session is not None and running.sequence:
            client.session.finish(running.sequence)
        client.running = None
        self._next(client)

    def _record(self, running: _Running, answer: Any, returned: float) -> None:
        operation = self._workload.operation(running.call, answer, running.called, returned)
        if operation is not None:
            self.history.append(operation)

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
        self._done[content] = index
        self._workload.applied(index, untagged(content), result)

    def _tell_return(self, client: _Client, running: _Running, outcome: str) -> None:
        if self.world.trace is not None:
            node = running.node
            self.world.tell("return", node, client=client.id, id=running.ticket, outcome=outcome, value=None)


def tagged(number: int, command: bytes) -> bytes:
    """A command with a number of its own, so that it is seen if it takes effect twice."""
    return number.to_bytes(_TAG_BYTES, "little") + command


def untagged(content: bytes) -> bytes:
    """What the application gets."""
    return content[_TAG_BYTES:]
