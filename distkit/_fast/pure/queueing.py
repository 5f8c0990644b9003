"""Requests, servers with queues, and the clients that choose among them: a discrete-event simulation in one loop.

The clients' pickers are those that ship. Everything random is drawn beforehand, one entry a request: two policies are
compared on the very same requests (common random numbers), and the same arrays give the same results, with compiled and
with pure kernels.

What happens at one moment happens in the order: changes of servers, the turn of the clients, timeouts, then events by
the order in which they were scheduled, then arrivals.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from distkit.core import LocalError

if TYPE_CHECKING:
    from distkit._fast.picker import Picker

# What a change of a server sets: its slowness (a factor of all work that begins), the share of requests that fail at
# once, that hang for ever, a pause of so many seconds, the number of workers.
SLOW: Final = 0
FAIL: Final = 1
HANG: Final = 2
PAUSE: Final = 3
CAPACITY: Final = 4

_OK, _ERROR, _TIMEOUT = 0, 1, 2
_ARRIVE, _COMPLETE, _SHARED, _REFUSE, _TELL, _PROBE, _ANSWER = range(7)
_WAITING, _RUNNING, _ENDED, _GIVEN_UP = range(4)

#: A server tells a probe what latency it knows for as many requests in flight as it has: averages to which the newest
#: adds this share, for up to so many.
_PROBE_SHARE: Final = 0.1
_KNOWN_MAX: Final = 64
#: How long a server takes to say that it fails a request, in seconds.
_REFUSE_TIME: Final = 0.001
ATTEMPTS_MAX: Final = 1 << 28


class _Prober(Protocol):
    """Who asks servers for their load on behalf of the clients: numbers out, answers in."""

    def wanted(self, client: int, now: float) -> Sequence[tuple[int, int]]:
        """After each pick of a client: (number of the probe, server) for each that it sends now."""

    def answered(self, client: int, probe: int, in_flight: int, latency: float, now: float) -> None:
        """What the server said."""


class _Server:
    __slots__ = (
        *("capacity", "fail", "hang", "paused", "paused_until", "known", "queue", "running", "shared", "sharing"),
        *("slow", "stamp", "version", "virtual"),
    )

    def __init__(self, capacity: int, shared: bool) -> None:
        self.capacity = capacity  # workers, or cores if it is shared; 0: as many as there are requests
        self.shared = shared
        self.slow = 1.0
        self.fail = 0.0
        self.hang = 0.0
        self.paused = 0.0  # seconds in all
        self.paused_until = 0.0
        self.running = 0
        self.queue: list[int] = []
        self.known = [0.0] * _KNOWN_MAX  # latencies by requests in flight as they came, 0: none
        # Processor sharing: work that each request has got since the start, and when that was reckoned.
        self.virtual = 0.0
        self.stamp = 0.0
        self.version = 0
        self.sharing: list[int] = []


class _Attempt:
    __slots__ = ("began", "client", "end", "found", "handle", "paused", "request", "server", "state")

    def __init__(self, request: int, client: int, handle: int, server: int, began: float) -> None:
        self.request = request
        self.client = client
        self.handle = handle
        self.server = server
        self.began = began  # at the client
        self.end = 0.0  # in virtual time of a shared server
        self.found = 0  # requests in flight at the server before it
        self.paused = 0.0
        self.state = _WAITING


@final
class Queueing:
    """A run. Server i is the endpoint in slot i of every picker.

    Args:
        pickers: one for each client. They charge picks at once.
        servers: (capacity, shared) each. `capacity` workers take requests first come, first served, 0 for without a
            bound; a shared server works on all requests at once with so many cores.
        round_trip: seconds between a server's answer and its client.
        timeout: seconds after which a client gives an attempt up; the server does not learn of it. math.inf: never.
        attempts: how often a request is tried at most.
        users: 0 for requests that come at their times; else so many users that send the next request when they have
            an answer (after `times[i]` seconds of thinking).
        turn, turn_interval: called with the time, for what clients do now and then.
        prober: see there; answers take `probe_time` seconds, half of it each way.
    """

    __slots__ = (
        *("_attempts", "_attempts_max", "_came", "_chances", "_clients", "_demands", "_heap", "_keys", "_latencies"),
        *("_next", "_oldest", "_open", "_order", "_pickers", "_probe_time", "_prober", "_probes", "_ran"),
        *("_round_trip", "_seen", "_served_by", "_servers", "_timeout", "_times", "_tries", "_turn"),
        *("_turn_interval", "_users", "events", "now"),
    )

    def __init__(
        self,
        pickers: Sequence[Picker],
        servers: Sequence[tuple[int, bool]],
        *,
        round_trip: float = 0.0,
        timeout: float = math.inf,
        attempts: int = 1,
        users: int = 0,
        turn: Callable[[float], Any] | None = None,
        turn_interval: float = 0.1,
        prober: _Prober | None = None,
        probe_time: float = 0.001,
    ) -> None:
        if not pickers or not servers:
            raise LocalError("a simulation needs clients and servers")
        if not (0 <= round_trip < math.inf and timeout > 0 and turn_interval > 0 and 0 <= probe_time < math.inf):
            raise LocalError("times must not be negative, and timeout and turn_interval must be above 0")
        if not 1 <= attempts <= 100 or users < 0:
            raise LocalError("attempts are 1 to 100, users at least 0")
        if any(capacity < 0 or (shared and capacity == 0) for capacity, shared in servers):
            raise LocalError("a capacity is at least 0, and at least 1 for a shared server")
        self._pickers = list(pickers)
        self._servers = [_Server(capacity, shared) for capacity, shared in servers]
        self._round_trip = round_trip
        self._timeout = timeout
        self._attempts_max = attempts
        self._users = users
        self._turn = turn
        self._turn_interval = turn_interval
        self._prober = prober
        self._probe_time = probe_time
        self._ran = False
        #: How many events there were: arrivals, answers, timeouts, probes, changes and turns.
        self.events = 0
        #: When the last one was.
        self.now = 0.0

    def run(
        self,
        times: Sequence[float],
        demands: Sequence[float],
        chances: Sequence[float],
        keys: Sequence[int] | None,
        clients: Sequence[int],
        changes: Sequence[tuple[float, int, int, float]],
        latencies: Any,
        served_by: Any,
        tries: Any,
    ) -> None:
        """Simulate all requests; a run can be made once.

        For each request: when it comes (rising; seconds of thinking with `users`), how long a server works on it, a
        number in [0, 1) that decides whether it meets a failure, its key (None: no keys), and its client: buffers of
        float64, float64, float64, uint64 and int32. `changes` are (time, server, what, value), times rising. The
        results are written into buffers of float64, int32 and int32: seconds from the arrival to the answer (NaN
        without one), the server that answered (-1), and attempts made.
        """
        count = len(times)
        if self._ran:
            raise LocalError("a run can be made once: make another Queueing")
        if any(len(each) != count for each in (demands, chances, clients, latencies, served_by, tries)) or (
            keys is not None and len(keys) != count
        ):
            raise LocalError("every array needs one entry for each request")
        if count * self._attempts_max > ATTEMPTS_MAX:
            raise LocalError(f"at most {ATTEMPTS_MAX} attempts")
        for client in clients:
            if not 0 <= client < len(self._pickers):
                raise LocalError(f"there is no client {client}")
        for _, server, what, _ in changes:
            if not 0 <= server < len(self._servers) or not SLOW <= what <= CAPACITY:
                raise LocalError(f"there is no server {server}, or nothing like {what} to change")
        self._ran = True
        self._demands, self._chances, self._keys, self._clients = demands, chances, keys, clients
        self._latencies, self._served_by, self._tries = latencies, served_by, tries
        self._came = [0.0] * count
        self._attempts: list[_Attempt] = []
        self._oldest = 0  # attempt whose timeout comes next
        self._heap: list[tuple[float, int, int, int, int]] = []  # time, order, kind, two numbers
        self._order = 0
        self._probes: list[tuple[int, int, int]] = []  # client, number, server
        self._seen: list[tuple[int, int, int, float]] = []  # client, number, in flight, latency
        self._times = times
        self._next = 0
        for request in range(count):
            latencies[request] = math.nan
            served_by[request] = -1
            tries[request] = 0
        self._loop(changes)

    def _loop(self, changes: Sequence[tuple[float, int, int, float]]) -> None:
        count = len(self._times)
        self._open = count
        change, turn = 0, self._turn_interval if self._turn is not None else math.inf
        if self._users:
            for _ in range(min(self._users, count)):
                self._think()
        while self._open:
            when = self._heap[0][0] if self._heap else math.inf
            arrival = self._times[self._next] if not self._users and self._next < count else math.inf
            timeout = self._next_timeout()
            changing = changes[change][0] if change < len(changes) else math.inf
            now = min(when, arrival, timeout)
            if now == math.inf:
                return  # the rest hangs, and nobody gives up
            self.events += 1
            if changing <= now and changing <= turn:
                self.now = max(self.now, changing)
                self._change(*changes[change][1:])
                change += 1
            elif turn <= now:
                assert self._turn is not None
                self.now = max(self.now, turn)
                self._turn(self.now)
                turn += self._turn_interval
            elif timeout <= now:
                self.now = timeout
                self._give_up()
            elif when <= now:
                self.now, _, kind, one, other = heappop(self._heap)
                self._happen(kind, one, other)
            else:
                self.now = arrival
                self._next += 1
                self._arrive(self._next - 1)

    # -- clients -------------------------------------------------------------------------------------------------------

    def _think(self) -> None:
        """A user thinks about the next request, if there is one."""
        if self._next < len(self._times):
            self._schedule(self.now + self._times[self._next], _ARRIVE, self._next, 0)
            self._next += 1

    def _arrive(self, request: int) -> None:
        self._came[request] = self.now
        self._try(request)

    def _try(self, request: int) -> None:
        client = self._clients[request]
        self._tries[request] += 1
        handle = self._pick(client, request)
        if handle < 0:
            self._close(request)
            return
        server = handle & 0xFFFFFFFF
        if server >= len(self._servers):
            raise LocalError(f"slot {server} is no server: endpoints must be as many as servers, in their order")
        attempt = len(self._attempts)
        self._attempts.append(_Attempt(request, client, handle, server, self.now))
        if self._prober is not None:
            for probe, probed in self._prober.wanted(client, self.now):
                self._probe(client, probe, probed)
        chance = self._chances[request]
        target = self._servers[server]
        if chance < target.fail:
            self._schedule(self.now + (_REFUSE_TIME + self._round_trip), _REFUSE, attempt, 0)
        elif chance < 1.0 - target.hang:
            self._receive(target, attempt)

    def _pick(self, client: int, request: int) -> int:
        picker = self._pickers[client]
        if self._keys is None:
            return picker.pick(None, self.now)
        out = array("q", (0,))
        picker.pick_many(array("Q", (self._keys[request],)), out, self.now)
        return out[0]

    def _tell(self, attempt: int, outcome: int) -> None:
        """The client has the answer."""
        told = self._attempts[attempt]
        if told.state == _GIVEN_UP:
            return
        told.state = _ENDED
        self._pickers[told.client].done(told.handle, outcome, self.now - told.began, self.now)
        if outcome == _OK:
            self._latencies[told.request] = self.now - self._came[told.request]
            self._served_by[told.request] = told.server
            self._close(told.request)
        else:
            self._try_again(told.request)

    def _try_again(self, request: int) -> None:
        if self._tries[request] < self._attempts_max:
            self._try(request)
        else:
            self._close(request)

    def _close(self, request: int) -> None:
        self._open -= 1
        if self._users:
            self._think()

    def _next_timeout(self) -> float:
        if self._timeout == math.inf:
            return math.inf
        while self._oldest < len(self._attempts) and self._attempts[self._oldest].state >= _ENDED:
            self._oldest += 1
        if self._oldest == len(self._attempts):
            return math.inf
        return self._attempts[self._oldest].began + self._timeout

    def _give_up(self) -> None:
        late = self._attempts[self._oldest]
        late.state = _GIVEN_UP
        self._pickers[late.client].done(late.handle, _TIMEOUT, self.now - late.began, self.now)
        self._try_again(late.request)

    # -- servers -------------------------------------------------------------------------------------------------------

    def _receive(self, server: _Server, attempt: int) -> None:
        self._attempts[attempt].found = min(self._in_flight(server), _KNOWN_MAX - 1)
        if server.shared:
            self._share(server)
            self._attempts[attempt].end = server.virtual + self._demands[self._attempts[attempt].request]
            server.sharing.append(attempt)
            self._expect(server)
        elif server.capacity == 0 or server.running < server.capacity:
            self._start(server, attempt)
        else:
            server.queue.append(attempt)

    def _in_flight(self, server: _Server) -> int:
        return len(server.sharing) if server.shared else server.running + len(server.queue)

    def _start(self, server: _Server, attempt: int) -> None:
        started = self._attempts[attempt]
        server.running += 1
        started.paused = server.paused
        begin = max(self.now, server.paused_until)
        self._schedule(begin + self._demands[started.request] * server.slow, _COMPLETE, attempt, 0)

    def _complete(self, attempt: int) -> None:
        ended = self._attempts[attempt]
        server = self._servers[ended.server]
        if server.paused > ended.paused:  # it was at rest meanwhile
            self._schedule(self.now + (server.paused - ended.paused), _COMPLETE, attempt, 0)
            ended.paused = server.paused
            return
        server.running -= 1
        if server.queue and (server.capacity == 0 or server.running < server.capacity):
            self._start(server, server.queue.pop(0))
        self._answer(server, attempt)

    def _answer(self, server: _Server, attempt: int) -> None:
        ended = self._attempts[attempt]
        took, known = self.now - ended.began, server.known[ended.found]
        server.known[ended.found] = took if known == 0.0 else known + _PROBE_SHARE * (took - known)
        if self._round_trip > 0.0:
            self._schedule(self.now + self._round_trip, _TELL, attempt, 0)
        else:
            self._tell(attempt, _OK)

    def _share(self, server: _Server) -> None:
        """Bring the work that everybody has got up to now."""
        since = max(server.stamp, server.paused_until)
        if server.sharing and self.now > since:
            server.virtual += (self.now - since) * self._rate(server)
        server.stamp = self.now

    def _rate(self, server: _Server) -> float:
        return min(1.0, server.capacity / len(server.sharing)) / server.slow

    def _expect(self, server: _Server) -> None:
        """Schedule the next completion anew."""
        server.version += 1
        if server.sharing:
            first = min(self._attempts[each].end for each in server.sharing)
            wait = max(0.0, first - server.virtual) / self._rate(server)
            when = max(self.now, server.paused_until) + wait
            self._schedule(when, _SHARED, self._servers.index(server), server.version)

    def _complete_shared(self, index: int, version: int) -> None:
        server = self._servers[index]
        if version != server.version:
            return
        self._share(server)
        place = min(range(len(server.sharing)), key=lambda each: self._attempts[server.sharing[each]].end)
        attempt = server.sharing[place]
        server.virtual = max(server.virtual, self._attempts[attempt].end)
        server.sharing[place] = server.sharing[-1]
        server.sharing.pop()
        self._expect(server)
        self._answer(server, attempt)

    def _change(self, index: int, what: int, value: float) -> None:
        server = self._servers[index]
        if server.shared:
            self._share(server)
        if what == SLOW:
            server.slow = value
        elif what == FAIL:
            server.fail = value
        elif what == HANG:
            server.hang = value
        elif what == PAUSE:
            server.paused += value
            server.paused_until = max(self.now, server.paused_until) + value
        else:
            server.capacity = int(value)
            while not server.shared and server.queue and (server.capacity == 0 or server.running < server.capacity):
                self._start(server, server.queue.pop(0))
        if server.shared:
            self._expect(server)

    # -- probes --------------------------------------------------------------------------------------------------------

    def _probe(self, client: int, probe: int, server: int) -> None:
        if not 0 <= server < len(self._servers):
            raise LocalError(f"there is no server {server} to probe")
        self._probes.append((client, probe, server))
        self._schedule(self.now + self._probe_time / 2, _PROBE, len(self._probes) - 1, 0)

    def _look(self, number: int) -> None:
        """A probe is at its server."""
        client, probe, server = self._probes[number]
        asked = self._servers[server]
        # A server that hangs for all does not answer probes either.
        if asked.hang < 1.0:
            in_flight = self._in_flight(asked)
            self._seen.append((client, probe, in_flight, self._latency(asked, in_flight)))
            when = max(self.now, asked.paused_until) + self._probe_time / 2
            self._schedule(when, _ANSWER, len(self._seen) - 1, 0)

    def _latency(self, server: _Server, in_flight: int) -> float:
        """What is known for as many requests in flight, or for the next such number; 0.0: nothing."""
        place = min(in_flight, _KNOWN_MAX - 1)
        for step in range(_KNOWN_MAX):
            if step <= place and server.known[place - step]:
                return server.known[place - step]
            if place + step < _KNOWN_MAX and server.known[place + step]:
                return server.known[place + step]
        return 0.0

    # -- events --------------------------------------------------------------------------------------------------------

    def _schedule(self, when: float, kind: int, one: int, other: int) -> None:
        heappush(self._heap, (when, self._order, kind, one, other))
        self._order += 1

    def _happen(self, kind: int, one: int, other: int) -> None:
        if kind == _ARRIVE:
            self._arrive(one)
        elif kind == _COMPLETE:
            self._complete(one)
        elif kind == _SHARED:
            self._complete_shared(one, other)
        elif kind == _REFUSE:
            self._tell(one, _ERROR)
        elif kind == _TELL:
            self._tell(one, _OK)
        elif kind == _PROBE:
            self._look(one)
        else:
            assert self._prober is not None
            client, probe, in_flight, latency = self._seen[one]
            self._prober.answered(client, probe, in_flight, latency, self.now)
