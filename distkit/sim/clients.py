"""Clients: they call, wait, give up, try again in a session, and remember what they saw.

Each client has one call under way at a time. What they saw is the history that the checkers judge; lists, whose values
are unique, are judged at once: a read or an append can't be older than what was answered before it was called.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from distkit.core import Outcome, Reason
from distkit.replica import ClientSession, ReplicaReply
from distkit.sim.broken import require
from distkit.sim.chance import SECOND
from distkit.sim.linear import Operation
from distkit.sim.objects import LIST_START, command, digest_after
from distkit.sim.scenario import Call

if TYPE_CHECKING:
    from distkit.sim.world import World

_PATIENCE: Final = 2 * SECOND  #: of a client, for one attempt
_PAUSE: Final = SECOND // 20  #: before it tries again
_ATTEMPTS: Final = 12
_READS: Final = ("read", "stale")


class _Running:
    """A call that is under way."""

    __slots__ = ("attempts", "call", "called", "floor", "maybe", "number", "sequence", "ticket")

    def __init__(self, call: Call, number: int, called: int, floor: int) -> None:
        self.call = call
        self.number = number
        self.called = called
        self.floor = floor  # of a list: its length that was answered to somebody before this call
        self.attempts = 0
        self.maybe = False  # an attempt ended without an answer: it may have taken effect
        self.sequence = 0
        self.ticket = 0


class _Client:
    def __init__(self, number: int) -> None:
        self.id = number
        self.waiting: deque[Call] = deque()
        self.running: _Running | None = None
        self.session: ClientSession | None = None


class _List:
    """A list as it is replicated: the digest of each of its prefixes, and how much of it was answered to somebody."""

    __slots__ = ("answered", "digests", "values")

    def __init__(self) -> None:
        self.values: list[int] = []
        self.digests = [LIST_START]
        self.answered = 0


class Clients:
    """All clients of a world, and their history."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.history: list[Operation] = []
        self.acknowledged = self.unknown = self.refused = 0
        self._clients: dict[int, _Client] = {}
        self._tickets: dict[int, _Client] = {}
        self._last_ticket = 0
        self._last_number = 0
        self._lists: dict[str, _List] = {}
        self._undone: set[int] = set()  # numbers of operations that definitely did not take effect
        self._done: set[int] = set()  # numbers of those that did

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
            host = self.world.hosts[self._node(running)]
            if host.up and not host.paused and running.ticket in host.guest.tickets:
                host.guest.tickets.discard(running.ticket)
                if host.call("cancel", running.ticket):
                    return self._refused(client, running, Reason.NONE)
            return self._lost(client, running)
        return self._attempt(client, running)

    def replied(self, guest: Any, reply: ReplicaReply) -> None:
        """A replica ended a ticket."""
        client = self._tickets.pop(reply.ticket, None)
        if client is None:
            return
        running = client.running
        assert running is not None
        self._tell_return(client, running, reply.outcome.name.lower())
        if reply.outcome is Outcome.COMMITTED:
            self._committed(client, running, reply)
        elif reply.outcome is Outcome.READABLE:
            self._finish(client, running, guest.objects.read(running.call.key))
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
        self._last_number += 1
        items = self._lists.get(call.key)
        client.running = running = _Running(
            call, self._last_number, self.world.timeline.now, items.answered if items else 0
        )
        if client.session is not None and call.kind not in _READS:
            running.sequence = client.session.begin()
        return self._attempt(client, running)

    def _attempt(self, client: _Client, running: _Running) -> None:
        running.attempts += 1
        world = self.world
        self._last_ticket += 1
        running.ticket = ticket = self._last_ticket
        host = world.hosts[self._node(running)]
        if not host.up:
            return self._later(client, running)
        call = running.call
        if call.kind == "stale":
            if not host.paused and not host.machine.loading:
                self._finish(client, running, host.guest.objects.read(call.key))
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
            content = command(call.kind, call.key, call.value, running.number, client.id)
            session = client.session
            if session is None:
                host.input("propose", ticket, content)
            else:
                host.input("propose", ticket, content, session.id, running.sequence, session.lowest)
        return None

    def _node(self, running: _Running) -> int:
        """Where this attempt goes: each to the next node."""
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
        require(running.number in self._done, "tickets", "an answer to what was not applied:", call)
        return self._finish(client, running, json.loads(reply.result))

    def _finish(self, client: _Client, running: _Running, output: Any) -> None:
        """The call was answered."""
        call = running.call
        if call.key.startswith("l"):
            self._judge_list(running, output)
        self.acknowledged += 1
        if call.kind != "stale":
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
            client.waiting.popleft()  # what it was for
            return self._next(client)
        if running.maybe:
            self.unknown += 1
            self._record(running, None, math.inf)
        else:
            self.refused += 1
            self._undone.add(running.number)
            gone = running.number not in self._done
            require(gone, "tickets", "an operation that was refused has taken effect:", call)
        return self._end(client, running)

    def _end(self, client: _Client, running: _Running) -> None:
        if client.session is not None and running.sequence:
            client.session.finish(running.sequence)
        client.running = None
        self._next(client)

    def _record(self, running: _Running, output: Any, returned: float) -> None:
        """A line of the history; what was answered "no" by a mutex had no effect and needs none."""
        call = running.call
        kind, value = call.kind, call.value
        given: Any = value
        if kind in ("acquire", "release"):
            if output is False:
                return
            given = output = None
        elif kind == "cas":
            given = (value & 0xFFFFFFFF, value >> 32)
        elif kind in ("read", "dequeue"):
            given = None
        if call.key.startswith("l"):
            output = None if kind == "append" else (output or (0, 0))[0]  # of a read: its length, see `lists`
        elif call.key.startswith("n") and kind == "read":
            output = output or 0
        self.history.append(Operation(call.client, kind, given, output, running.called, returned, call.key))

    def _transfer(self, call: Call) -> None:
        """Ask the leader, if there is one, to hand leadership to another node."""
        world = self.world
        leader = world.oracle.leader()
        if leader and leader != call.node and not world.hosts[leader].paused:
            self._last_ticket += 1
            world.marks["a leadership transfer was asked for"] += 1
            world.hosts[leader].input("transfer", self._last_ticket, call.node)

    # -- what is applied ----------------------------------------------------------------------------------------------

    def applied(self, index: int, content: bytes, result: bytes) -> None:
        """A command is applied for the first time."""
        kind, key, value, number, _client = content.decode().split()
        require(int(number) not in self._undone, "tickets", "an operation that was refused takes effect:", content)
        self._done.add(int(number))
        if kind == "append":
            items = self._lists.setdefault(key, _List())
            items.values.append(int(value))
            items.digests.append(digest_after(items.digests[-1], int(value)))

    def _judge_list(self, running: _Running, output: Any) -> None:
        """Real time and content of what a list answered."""
        call = running.call
        items = self._lists.setdefault(call.key, _List())
        length, digest = (output, None) if call.kind == "append" else output or (0, LIST_START)
        require(length < len(items.digests), "linearizability", call, "answered a list of", length)
        if call.kind == "append":
            require(items.values[length - 1] == call.value, "linearizability", call, "is not at", length)
            require(length > running.floor, "linearizability", call, "went to", length, "behind", running.floor)
        else:
            require(items.digests[length] == digest, "linearizability", call, "answered a list that never was")
        if call.kind == "read":
            fresh = length >= running.floor
            require(fresh, "linearizability", "stale read:", call, "saw", length, "of a list that had", running.floor)
        if call.kind != "stale":
            items.answered = max(items.answered, length)

    def lists(self, key: str, length: int) -> tuple[int, ...]:
        """The first values of a list."""
        return tuple(self._lists[key].values[:length]) if key in self._lists else ()

    def _tell_return(self, client: _Client, running: _Running, outcome: str) -> None:
        if self.world.trace is not None:
            node = self._node(running)
            self.world.tell("return", node, client=client.id, id=running.ticket, outcome=outcome, value=None)
