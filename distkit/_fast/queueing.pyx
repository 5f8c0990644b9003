"""Requests, servers with queues, and clients that choose: see `distkit._fast.pure.queueing`, the specification."""

cimport cython
from libc.math cimport INFINITY, NAN
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from distkit._fast.picker cimport Picker

from distkit.core.errors import LocalError

SLOW = 0
FAIL = 1
HANG = 2
PAUSE = 3
CAPACITY = 4
ATTEMPTS_MAX = 1 << 28

cdef enum:
    C_SLOW = 0
    C_FAIL = 1
    C_HANG = 2
    C_PAUSE = 3
    C_CAPACITY = 4

    OK = 0
    ERROR = 1
    TIMEOUT = 2

    ARRIVE = 0
    COMPLETE = 1
    SHARED = 2
    REFUSE = 3
    TELL = 4
    PROBE = 5
    ANSWER = 6

    WAITING = 0
    ENDED = 2
    GIVEN_UP = 3

    NONE = -1
    KNOWN_MAX = 64

cdef double PROBE_SHARE = 0.1
cdef double REFUSE_TIME = 0.001


cdef struct Server:
    double slow
    double fail
    double hang
    double paused
    double paused_until
    double known[KNOWN_MAX]
    double virtual
    double stamp
    int64_t capacity
    int64_t running
    int64_t queued
    int32_t first
    int32_t last
    int32_t* sharing
    int32_t share_count
    int32_t share_room
    uint32_t version
    bint shared


cdef struct Attempt:
    double began
    double end
    double paused
    int64_t handle
    int32_t request
    int32_t client
    int32_t server
    int32_t next
    int32_t found
    int32_t state


cdef struct Probe:
    double latency
    int64_t number
    int64_t in_flight
    int32_t client
    int32_t server


cdef struct Event:
    double when
    uint64_t order
    int32_t kind
    int32_t one
    uint32_t other


cdef inline bint sooner(const Event* one, const Event* other) noexcept nogil:
    return one.when < other.when or (one.when == other.when and one.order < other.order)


cdef inline int64_t in_flight(const Server* server) noexcept nogil:
    return server.share_count if server.shared else server.running + server.queued


cdef double known_latency(const Server* server, int64_t in_flight) noexcept nogil:
    cdef int64_t place = min(in_flight, KNOWN_MAX - 1)
    cdef int64_t step
    for step in range(KNOWN_MAX):
        if step <= place and server.known[place - step]:
            return server.known[place - step]
        if place + step < KNOWN_MAX and server.known[place + step]:
            return server.known[place + step]
    return 0.0


cdef void* grown(void* memory, int64_t count, size_t size) except NULL:
    cdef void* larger = realloc(memory, <size_t>count * size)
    if larger == NULL:
        raise MemoryError
    return larger


@cython.final
cdef class Queueing:
    cdef list pickers
    cdef void** picker_at  # the same without counting references
    cdef object turn
    cdef object prober
    cdef Server* servers
    cdef int32_t server_count
    cdef Attempt* attempts
    cdef int32_t attempt_count
    cdef int32_t attempt_room
    cdef int32_t oldest
    cdef Event* heap
    cdef int64_t heap_count
    cdef int64_t heap_room
    cdef uint64_t order
    cdef Probe* probes
    cdef int32_t probe_count
    cdef int32_t probe_room
    cdef double round_trip
    cdef double timeout
    cdef double turn_interval
    cdef double probe_time
    cdef int32_t attempts_max
    cdef int64_t users
    cdef int64_t following
    cdef int64_t count
    cdef int64_t open
    cdef bint keyed
    cdef bint ran
    cdef readonly int64_t events
    cdef readonly double now
    cdef const double[::1] times
    cdef const double[::1] demands
    cdef const double[::1] chances
    cdef const uint64_t[::1] keys
    cdef const int32_t[::1] clients
    cdef double[::1] latencies
    cdef int32_t[::1] served_by
    cdef int32_t[::1] tries
    cdef double* came

    def __init__(
        self, pickers, servers, *, double round_trip=0.0, double timeout=INFINITY, int32_t attempts=1,
        int64_t users=0, turn=None, double turn_interval=0.1, prober=None, double probe_time=0.001,
    ):
        if self.picker_at != NULL:
            raise LocalError("a simulation is made once")
        if not pickers or not servers:
            raise LocalError("a simulation needs clients and servers")
        if not (0 <= round_trip < INFINITY and timeout > 0 and turn_interval > 0 and 0 <= probe_time < INFINITY):
            raise LocalError("times must not be negative, and timeout and turn_interval must be above 0")
        if not 1 <= attempts <= 100 or users < 0:
            raise LocalError("attempts are 1 to 100, users at least 0")
        for capacity, shared in servers:
            if capacity < 0 or (shared and capacity == 0):
                raise LocalError("a capacity is at least 0, and at least 1 for a shared server")
        self.pickers = list(pickers)
        self.picker_at = <void**>grown(NULL, len(self.pickers), sizeof(void*))
        cdef Py_ssize_t index = 0
        cdef Picker picker
        for picker in self.pickers:
            self.picker_at[index] = <void*>picker
            index += 1
        self.servers = <Server*>grown(NULL, len(servers), sizeof(Server))
        memset(self.servers, 0, len(servers) * sizeof(Server))
        cdef Server* server
        for capacity, shared in servers:
            server = &self.servers[self.server_count]
            server.slow, server.capacity, server.shared = 1.0, capacity, shared
            server.first = server.last = NONE
            self.server_count += 1
        self.round_trip = round_trip
        self.timeout = timeout
        self.attempts_max = attempts
        self.users = users
        self.turn = turn
        self.turn_interval = turn_interval
        self.prober = prober
        self.probe_time = probe_time

    def __dealloc__(self):
        cdef int32_t index
        if self.servers != NULL:
            for index in range(self.server_count):
                free(self.servers[index].sharing)
        free(self.servers)
        free(self.picker_at)
        free(self.attempts)
        free(self.heap)
        free(self.probes)
        free(self.came)

    def run(self, times, demands, chances, keys, clients, changes, latencies, served_by, tries):
        cdef int64_t request
        self.times = times
        self.count = self.times.shape[0]
        if self.ran:
            raise LocalError("a run can be made once: make another Queueing")
        for each in (demands, chances, clients, latencies, served_by, tries):
            if len(each) != self.count:
                raise LocalError("every array needs one entry for each request")
        if keys is not None and len(keys) != self.count:
            raise LocalError("every array needs one entry for each request")
        if self.count * self.attempts_max > ATTEMPTS_MAX:
            raise LocalError(f"at most {ATTEMPTS_MAX} attempts")
        self.demands, self.chances, self.clients = demands, chances, clients
        self.latencies, self.served_by, self.tries = latencies, served_by, tries
        self.keyed = keys is not None
        if self.keyed:
            self.keys = keys
        for request in range(self.count):
            if not 0 <= self.clients[request] < len(self.pickers):
                raise LocalError(f"there is no client {self.clients[request]}")
        checked = [(float(when), int(server), int(what), float(value)) for when, server, what, value in changes]
        for _, server, what, _ in checked:
            if not 0 <= server < self.server_count or not C_SLOW <= what <= C_CAPACITY:
                raise LocalError(f"there is no server {server}, or nothing like {what} to change")
        self.ran = True
        self.came = <double*>grown(NULL, max(1, self.count), sizeof(double))
        for request in range(self.count):
            self.latencies[request] = NAN
            self.served_by[request] = NONE
            self.tries[request] = 0
        self.loop(checked)

    cdef int loop(self, list changes) except -1:
        cdef double turning = self.turn_interval if self.turn is not None else INFINITY
        cdef double when, arrival, timeout, changing, now
        cdef Py_ssize_t change = 0
        cdef int64_t user
        cdef Event event
        self.open = self.count
        changing = changes[0][0] if changes else INFINITY
        for user in range(min(self.users, self.count)):
            self.think()
        while self.open:
            when = self.heap[0].when if self.heap_count else INFINITY
            arrival = self.times[self.following] if not self.users and self.following < self.count else INFINITY
            timeout = self.next_timeout()
            now = min(when, arrival, timeout)
            if now == INFINITY:
                return 0
            self.events += 1
            if changing <= now and changing <= turning:
                self.now = max(self.now, changing)
                _, server, what, value = changes[change]
                self.alter(server, what, value)
                change += 1
                changing = changes[change][0] if change < len(changes) else INFINITY
            elif turning <= now:
                self.now = max(self.now, turning)
                self.turn(self.now)
                turning += self.turn_interval
            elif timeout <= now:
                self.now = timeout
                self.give_up()
            elif when <= now:
                event = self.soonest()
                self.now = event.when
                self.happen(&event)
            else:
                self.now = arrival
                self.following += 1
                self.came[self.following - 1] = arrival
                self.attempt(<int32_t>(self.following - 1))
        return 0

    # -- clients -------------------------------------------------------------------------------------------------------

    cdef int think(self) except -1:
        if self.following < self.count:
            self.schedule(self.now + self.times[self.following], ARRIVE, <int32_t>self.following, 0)
            self.following += 1
        return 0

    cdef int attempt(self, int32_t request) except -1:
        cdef int32_t client = self.clients[request]
        cdef Picker picker = <Picker>self.picker_at[client]
        cdef int64_t handle
        cdef int32_t server, number
        cdef double chance
        cdef Server* target
        self.tries[request] += 1
        handle = picker.pick_hashed(self.keyed, self.keys[request] if self.keyed else 0, self.now)
        if handle < 0:
            return self.close(request)
        if <uint32_t>handle >= <uint32_t>self.server_count:
            raise LocalError(
                f"slot {<uint32_t>handle} is no server: endpoints must be as many as servers, in their order"
            )
        server = <int32_t>(handle & 0x7FFFFFFF)
        if self.attempt_count == self.attempt_room:
            self.attempt_room = max(1024, 2 * self.attempt_room)
            self.attempts = <Attempt*>grown(self.attempts, self.attempt_room, sizeof(Attempt))
        number = self.attempt_count
        self.attempt_count += 1
        self.attempts[number] = Attempt(
            began=self.now, end=0.0, paused=0.0, handle=handle, request=request, client=client, server=server,
            next=NONE, found=0, state=WAITING,
        )
        if self.prober is not None:
            for probe, probed in self.prober.wanted(client, self.now):
                self.probe(client, probe, probed)
        chance = self.chances[request]
        target = &self.servers[server]
        if chance < target.fail:
            self.schedule(self.now + (REFUSE_TIME + self.round_trip), REFUSE, number, 0)
        elif chance < 1.0 - target.hang:
            self.receive(server, number)
        return 0

    cdef int tell(self, int32_t number, int outcome) except -1:
        cdef Attempt* told = &self.attempts[number]
        cdef int32_t request = told.request
        if told.state == GIVEN_UP:
            return 0
        told.state = ENDED
        (<Picker>self.picker_at[told.client]).finish(told.handle, outcome, self.now - told.began, self.now)
        if outcome != OK:
            return self.try_again(request)
        self.latencies[request] = self.now - self.came[request]
        self.served_by[request] = self.attempts[number].server
        return self.close(request)

    cdef int try_again(self, int32_t request) except -1:
        if self.tries[request] < self.attempts_max:
            return self.attempt(request)
        return self.close(request)

    cdef int close(self, int32_t request) except -1:
        self.open -= 1
        if self.users:
            self.think()
        return 0

    cdef double next_timeout(self) noexcept:
        if self.timeout == INFINITY:
            return INFINITY
        while self.oldest < self.attempt_count and self.attempts[self.oldest].state >= ENDED:
            self.oldest += 1
        if self.oldest == self.attempt_count:
            return INFINITY
        return self.attempts[self.oldest].began + self.timeout

    cdef int give_up(self) except -1:
        cdef Attempt* late = &self.attempts[self.oldest]
        late.state = GIVEN_UP
        (<Picker>self.picker_at[late.client]).finish(late.handle, TIMEOUT, self.now - late.began, self.now)
        return self.try_again(self.attempts[self.oldest].request)

    # -- servers -------------------------------------------------------------------------------------------------------

    cdef int receive(self, int32_t index, int32_t number) except -1:
        cdef Server* server = &self.servers[index]
        self.attempts[number].found = <int32_t>min(in_flight(server), KNOWN_MAX - 1)
        if server.shared:
            self.share(server)
            self.attempts[number].end = server.virtual + self.demands[self.attempts[number].request]
            if server.share_count == server.share_room:
                server.share_room = max(16, 2 * server.share_room)
                server.sharing = <int32_t*>grown(server.sharing, server.share_room, sizeof(int32_t))
            server.sharing[server.share_count] = number
            server.share_count += 1
            return self.expect(index)
        if server.capacity == 0 or server.running < server.capacity:
            return self.start(server, number)
        if server.queued:
            self.attempts[server.last].next = number
        else:
            server.first = number
        server.last = number
        server.queued += 1
        return 0

    cdef int start(self, Server* server, int32_t number) except -1:
        cdef Attempt* started = &self.attempts[number]
        server.running += 1
        started.paused = server.paused
        return self.schedule(
            max(self.now, server.paused_until) + self.demands[started.request] * server.slow, COMPLETE, number, 0
        )

    cdef int start_queued(self, Server* server) except -1:
        cdef int32_t number = server.first
        server.first = self.attempts[number].next
        server.queued -= 1
        return self.start(server, number)

    cdef int complete(self, int32_t number) except -1:
        cdef Attempt* ended = &self.attempts[number]
        cdef Server* server = &self.servers[ended.server]
        cdef double rest = server.paused - ended.paused
        if rest > 0:
            ended.paused = server.paused
            return self.schedule(self.now + rest, COMPLETE, number, 0)
        server.running -= 1
        if server.queued and (server.capacity == 0 or server.running < server.capacity):
            self.start_queued(server)
        return self.answer(server, number)

    cdef int answer(self, Server* server, int32_t number) except -1:
        cdef double took = self.now - self.attempts[number].began
        cdef double* known = &server.known[self.attempts[number].found]
        known[0] = took if known[0] == 0.0 else known[0] + PROBE_SHARE * (took - known[0])
        if self.round_trip > 0:
            return self.schedule(self.now + self.round_trip, TELL, number, 0)
        return self.tell(number, OK)

    cdef void share(self, Server* server) noexcept:
        cdef double since = max(server.stamp, server.paused_until)
        if server.share_count and self.now > since:
            server.virtual += (self.now - since) * self.rate(server)
        server.stamp = self.now

    cdef double rate(self, Server* server) noexcept:
        return min(1.0, <double>server.capacity / server.share_count) / server.slow

    cdef int32_t first_shared(self, Server* server) noexcept:
        """The place of the request that is done first."""
        cdef int32_t place, best = 0
        for place in range(1, server.share_count):
            if self.attempts[server.sharing[place]].end < self.attempts[server.sharing[best]].end:
                best = place
        return best

    cdef int expect(self, int32_t index) except -1:
        cdef Server* server = &self.servers[index]
        cdef double wait
        server.version += 1
        if not server.share_count:
            return 0
        wait = max(0.0, self.attempts[server.sharing[self.first_shared(server)]].end - server.virtual)
        wait = wait / self.rate(server)
        return self.schedule(max(self.now, server.paused_until) + wait, SHARED, index, server.version)

    cdef int complete_shared(self, int32_t index, uint32_t version) except -1:
        cdef Server* server = &self.servers[index]
        cdef int32_t place, number
        if version != server.version:
            return 0
        self.share(server)
        place = self.first_shared(server)
        number = server.sharing[place]
        server.virtual = max(server.virtual, self.attempts[number].end)
        server.share_count -= 1
        server.sharing[place] = server.sharing[server.share_count]
        self.expect(index)
        return self.answer(server, number)

    cdef int alter(self, int32_t index, int what, double value) except -1:
        cdef Server* server = &self.servers[index]
        if server.shared:
            self.share(server)
        if what == C_SLOW:
            server.slow = value
        elif what == C_FAIL:
            server.fail = value
        elif what == C_HANG:
            server.hang = value
        elif what == C_PAUSE:
            server.paused += value
            server.paused_until = max(self.now, server.paused_until) + value
        else:
            server.capacity = <int64_t>value
            while not server.shared and server.queued and (
                server.capacity == 0 or server.running < server.capacity
            ):
                self.start_queued(server)
        if server.shared:
            return self.expect(index)
        return 0

    # -- probes --------------------------------------------------------------------------------------------------------

    cdef int probe(self, int32_t client, int64_t number, int64_t server) except -1:
        if not 0 <= server < self.server_count:
            raise LocalError(f"there is no server {server} to probe")
        if self.probe_count == self.probe_room:
            self.probe_room = max(1024, 2 * self.probe_room)
            self.probes = <Probe*>grown(self.probes, self.probe_room, sizeof(Probe))
        self.probes[self.probe_count] = Probe(
            latency=0.0, number=number, in_flight=0, client=client, server=<int32_t>server
        )
        self.schedule(self.now + self.probe_time / 2, PROBE, self.probe_count, 0)
        self.probe_count += 1
        return 0

    cdef int look(self, int32_t number) except -1:
        cdef Probe* probe = &self.probes[number]
        cdef Server* server = &self.servers[probe.server]
        if server.hang >= 1.0:
            return 0
        probe.in_flight = in_flight(server)
        probe.latency = known_latency(server, probe.in_flight)
        return self.schedule(max(self.now, server.paused_until) + self.probe_time / 2, ANSWER, number, 0)

    # -- events --------------------------------------------------------------------------------------------------------

    cdef int happen(self, const Event* event) except -1:
        if event.kind == COMPLETE:
            return self.complete(event.one)
        if event.kind == TELL:
            return self.tell(event.one, OK)
        if event.kind == ARRIVE:
            self.came[event.one] = self.now
            return self.attempt(event.one)
        if event.kind == SHARED:
            return self.complete_shared(event.one, event.other)
        if event.kind == REFUSE:
            return self.tell(event.one, ERROR)
        if event.kind == PROBE:
            return self.look(event.one)
        probe = self.probes[event.one]
        self.prober.answered(probe.client, probe.number, probe.in_flight, probe.latency, self.now)
        return 0

    cdef int schedule(self, double when, int32_t kind, int32_t one, uint32_t other) except -1:
        cdef int64_t place, above
        cdef Event event
        if self.heap_count == self.heap_room:
            self.heap_room = max(1024, 2 * self.heap_room)
            self.heap = <Event*>grown(self.heap, self.heap_room, sizeof(Event))
        event = Event(when=when, order=self.order, kind=kind, one=one, other=other)
        self.order += 1
        place = self.heap_count
        self.heap_count += 1
        while place:
            above = (place - 1) >> 1
            if not sooner(&event, &self.heap[above]):
                break
            self.heap[place] = self.heap[above]
            place = above
        self.heap[place] = event
        return 0

    cdef Event soonest(self) noexcept:
        cdef Event first = self.heap[0]
        cdef Event event
        cdef int64_t place = 0, below
        self.heap_count -= 1
        event = self.heap[self.heap_count]
        while True:
            below = 2 * place + 1
            if below >= self.heap_count:
                break
            if below + 1 < self.heap_count and sooner(&self.heap[below + 1], &self.heap[below]):
                below += 1
            if not sooner(&self.heap[below], &event):
                break
            self.heap[place] = self.heap[below]
            place = below
        if self.heap_count:
            self.heap[place] = event
        return first
