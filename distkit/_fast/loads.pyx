"""Policies that draw or go by loads: see `distkit._fast.pure.loads`, the specification of this kernel."""

cimport cython
from libc.math cimport exp, floor
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc

from distkit._fast.table cimport (
    C_OK,
    NO_PLACE,
    NOT_THERE,
    Heap,
    Row,
    Table,
    View,
    Wish,
    admits,
    below,
    unit,
)

from distkit.core.errors import LocalError

CHOICES_MAX = 10

IN_FLIGHT = 0
NEXT_IN_FLIGHT = 1
NEVER_QUEUE = 2
HAPROXY = 3
PEAK_EWMA = 4
ENVOY_EWMA = 5

ROTATE = 0
RANDOM = 1

PENALTY = 140737488355327.0
ENVOY_PENALTY = 1e6
DRAWS_MAX = 8

cdef enum:
    C_CHOICES_MAX = 10
    C_IN_FLIGHT = 0
    C_NEXT_IN_FLIGHT = 1
    C_NEVER_QUEUE = 2
    C_HAPROXY = 3
    C_PEAK_EWMA = 4
    C_ENVOY_EWMA = 5
    C_DRAWS_MAX = 8

cdef double C_PENALTY = 140737488355327.0


@cython.final
cdef class Uniform(View):
    cdef int64_t choose(self, const Wish* wish) except? -9:
        cdef uint32_t slot
        cdef int tries
        if not self.count:
            return NOT_THERE
        slot = self.members[below(self.table, self.count)]
        if wish.filtered:
            for tries in range(C_DRAWS_MAX):
                if admits(wish, &self.table.rows[slot]):
                    return slot
                slot = self.members[below(self.table, self.count)]
            return self.scan(wish, self.table.rows[slot].place)
        return slot


cdef class Weighted(View):
    def __init__(self, Table table not None):
        View.__init__(self, table)
        self.summed = True

    def __dealloc__(self):
        free(self.sums)

    cdef size_t taken(self) noexcept:
        return self.capacity * sizeof(uint32_t) + ((<size_t>self.capacity + 1) * sizeof(double) if self.summed else 0)

    cdef int room(self, uint32_t count) except -1:
        cdef void* grown
        View.room(self, count)
        if self.summed:
            grown = realloc(self.sums, (<size_t>self.capacity + 1) * sizeof(double))
            if grown is NULL:
                raise MemoryError
            self.sums = <double*>grown
        return 0

    cdef void join(self, uint32_t slot) noexcept:
        View.join(self, slot)
        if self.summed:
            self.add_up(self.count)
            self.total = self.before(self.count)

    cdef void leave(self, uint32_t slot) noexcept:
        cdef uint32_t place = self.table.rows[slot].place
        View.leave(self, slot)
        if self.summed:
            if place < self.count:
                self.change(place)
            self.total = self.before(self.count)

    cdef int weigh(self, uint32_t slot, double weight) except -1:
        cdef Row* row = &self.table.rows[slot]
        row.weight = weight
        if self.summed and row.place != NO_PLACE:
            self.change(row.place)
            self.total = self.before(self.count)
        return 0

    cdef int64_t choose(self, const Wish* wish) except? -9:
        cdef double total
        cdef uint32_t slot
        cdef int tries
        if not self.count:
            return NOT_THERE
        total = self.total
        if wish.filtered:
            for tries in range(C_DRAWS_MAX):
                slot = self.at(unit(self.table) * total)
                if admits(wish, &self.table.rows[slot]):
                    return slot
            return self.choose_filtered(wish)
        return self.at(unit(self.table) * total)

    cdef int64_t choose_filtered(self, const Wish* wish) noexcept:
        cdef double total = 0.0, left
        cdef uint32_t place
        cdef int64_t last = NOT_THERE
        cdef Row* row
        for place in range(self.count):
            row = &self.table.rows[self.members[place]]
            if admits(wish, row):
                total += row.weight
        left = unit(self.table) * total
        for place in range(self.count):
            row = &self.table.rows[self.members[place]]
            if admits(wish, row):
                last = self.members[place]
                if left < row.weight:
                    break
                left -= row.weight
        return last

    cdef void change(self, uint32_t place) noexcept:
        cdef uint32_t node = place + 1
        while node <= self.count:
            self.add_up(node)
            node += node & (~node + 1)

    cdef void add_up(self, uint32_t node) noexcept:
        cdef double total = self.table.rows[self.members[node - 1]].weight
        cdef uint32_t step = 1
        while step < (node & (~node + 1)):
            total += self.sums[node - step]
            step *= 2
        self.sums[node] = total

    cdef double before(self, uint32_t place) noexcept:
        cdef double total = 0.0
        while place:
            total += self.sums[place]
            place &= place - 1
        return total

    cdef uint32_t at(self, double number) noexcept:
        cdef uint32_t node = 0, step = 1
        cdef bint further
        while step * 2 <= self.count:
            step *= 2
        while step:
            if node + step <= self.count:
                further = self.sums[node + step] <= number
                number -= self.sums[node + step] * further  # no branch: nobody could predict it
                node += step * further
            step //= 2
        return self.members[min(node, self.count - 1)]


@cython.final
cdef class Choices(Weighted):
    def __init__(
        self,
        Table table not None,
        choices=2,
        bint replacement=True,
        bint weighted=False,
        cost=IN_FLIGHT,
        double tau=10.0,
        double default_rtt=0.0,
        double failure_penalty=1.0,
    ):
        Weighted.__init__(self, table)
        if not 0 <= choices <= CHOICES_MAX:
            raise LocalError(f"choices must be 1 to {CHOICES_MAX}, or 0 to look at all endpoints, not {choices}")
        if not IN_FLIGHT <= cost <= ENVOY_EWMA:
            raise LocalError(f"there is no cost {cost}")
        for name, value in (("tau", tau), ("default_rtt", default_rtt), ("failure_penalty", failure_penalty)):
            if not 0 <= value <= 1e9 or (name == "tau" and value == 0):
                raise LocalError(f"{name} must be a finite number of seconds, not {value!r}")
        self.choices = choices
        self.replacement = replacement
        self.summed = weighted
        self.cost = cost
        self.watches = cost >= PEAK_EWMA
        self.plain = choices == 2 and not replacement and not weighted and cost == IN_FLIGHT
        self.tau = tau
        self.default_rtt = default_rtt
        self.failure_penalty = failure_penalty

    cdef int place(self, uint32_t slot) except -1:
        cdef Row* row = &self.table.rows[slot]
        Weighted.place(self, slot)
        if row.latency < 0:
            if self.cost == C_PEAK_EWMA:
                row.latency = self.default_rtt
            row.stamp = self.table.now
        return 0

    cdef int64_t choose(self, const Wish* wish) except? -9:
        cdef uint32_t[C_CHOICES_MAX] places
        cdef uint32_t i
        cdef int64_t slot, best = NOT_THERE
        cdef double cost = 0.0, other, total = 0.0
        cdef Row* rows = self.table.rows
        if not self.count:
            return NOT_THERE
        if self.plain and not wish.filtered and self.count > 2:
            return self.better_of_two(rows)
        if not self.choices or (not self.replacement and self.choices >= self.count):
            return self.look_at_all(wish)
        total = self.total
        for i in range(self.choices):
            if not self.replacement:
                slot = self.pass_over(places, i, total)
                if slot == NOT_THERE:
                    continue
                if self.summed:
                    total -= rows[slot].weight
            elif self.summed:
                slot = self.at(unit(self.table) * total)
            else:
                slot = self.members[below(self.table, self.count)]
            if slot == best or not admits(wish, &rows[slot]):
                continue
            other = self.cost_of(&rows[slot])
            if best == NOT_THERE or other * rows[best].weight < cost * rows[slot].weight:
                best = slot
                cost = other
        return self.look_at_all(wish) if best == NOT_THERE else best

    cdef int64_t better_of_two(self, const Row* rows) noexcept:
        """What `choose` comes to in the usual case, quickly."""
        cdef uint32_t first = below(self.table, self.count)
        cdef uint32_t second = below(self.table, self.count - 1)
        cdef uint32_t one = self.members[first]
        cdef uint32_t other = self.members[second + (second >= first)]
        cdef bint less = rows[other].active * rows[one].weight < rows[one].active * rows[other].weight
        return other if less else one

    cdef int64_t pass_over(self, uint32_t* places, uint32_t i, double total) noexcept:
        """Draw among the places that are left: what was drawn, of which there are `i`, is passed over in its order."""
        cdef uint32_t place, j
        cdef double number
        cdef int64_t slot
        if self.summed:
            number = unit(self.table) * total
            for j in range(i):
                if number >= self.before(places[j]):
                    number += self.table.rows[self.members[places[j]]].weight
            place = self.table.rows[self.at(number)].place
        else:
            place = below(self.table, self.count - i)
            for j in range(i):
                place += place >= places[j]
        slot = self.members[place]
        for j in range(i):
            if places[j] == place:  # a rounding error at the edge of a share
                slot = NOT_THERE
        j = i
        while j and places[j - 1] > place:
            places[j] = places[j - 1]
            j -= 1
        places[j] = place
        return slot

    cdef int64_t look_at_all(self, const Wish* wish) noexcept:
        cdef Row* rows = self.table.rows
        cdef Row* row
        cdef int64_t best = NOT_THERE
        cdef double cost = 0.0, other, mine, theirs
        cdef uint32_t place, slot, ties = 1
        for place in range(self.count):
            slot = self.members[place]
            row = &rows[slot]
            if not admits(wish, row):
                continue
            other = self.cost_of(row)
            if best != NOT_THERE:
                mine = cost * row.weight
                theirs = other * rows[best].weight
                if theirs > mine:
                    continue
                ties = ties + 1 if theirs == mine else 1
                if ties > 1 and below(self.table, ties):
                    continue
            best = slot
            cost = other
        return best

    cdef double cost_of(self, Row* row) noexcept:
        cdef double now = self.table.now
        if self.cost == C_PEAK_EWMA:
            row.latency *= exp(-(now - row.stamp) / self.tau)
            row.stamp = now
            if row.latency == 0 and row.active:
                return (C_PENALTY + row.active) * row.weight
            return row.latency * (<double>row.active + 1)
        if self.cost == C_ENVOY_EWMA:
            if row.latency < 0:
                return (1e6 + row.active) * row.weight if row.active else self.default_rtt * 1000
            return row.latency * 1000 * (<double>row.active + 1)
        return in_flight_cost(self.cost, row.active)

    cdef void answered(self, uint32_t slot, int outcome, double latency) noexcept:
        cdef Row* row
        cdef double decay
        if self.cost < C_PEAK_EWMA:
            return
        row = &self.table.rows[slot]
        if outcome != C_OK:
            latency = max(latency, max(self.failure_penalty, row.latency))
        decay = exp(-(self.table.now - row.stamp) / self.tau)
        if row.latency < 0 or (self.cost == C_PEAK_EWMA and latency > row.latency):
            row.latency = latency
        else:
            row.latency = decay * row.latency + (1 - decay) * latency
        row.stamp = self.table.now


@cython.final
cdef class LeastConnections(Heap):
    def __init__(self, Table table not None, cost=IN_FLIGHT, ties=ROTATE):
        Heap.__init__(self, table)
        if not IN_FLIGHT <= cost <= HAPROXY:
            raise LocalError(f"cost {cost} changes with time, so no heap can be kept by it: use choices")
        if not ROTATE <= ties <= RANDOM:
            raise LocalError(f"there is no rule {ties} for ties")
        self.cost = cost
        self.by_chance = ties == RANDOM
        self.watches = True

    cdef int place(self, uint32_t slot) except -1:
        Heap.place(self, slot)
        self.table.rows[slot].turn = self.next_turn()
        self.reckon(slot)
        return 0

    cdef void join(self, uint32_t slot) noexcept:
        self.reckon(slot)
        Heap.join(self, slot)

    cdef int weigh(self, uint32_t slot, double weight) except -1:
        self.table.rows[slot].weight = weight
        self.change(slot)
        return 0

    cdef void charged(self, uint32_t slot) noexcept:
        self.table.rows[slot].turn = self.next_turn()
        self.change(slot)

    cdef void released(self, uint32_t slot) noexcept:
        self.change(slot)

    cdef int64_t choose(self, const Wish* wish) except? -9:
        return self.least(wish)

    cdef uint64_t next_turn(self) noexcept:
        self.turns += 1
        if self.by_chance:
            return self.turns + below(self.table, 2 * self.count + 1)
        return self.turns

    cdef void change(self, uint32_t slot) noexcept:
        self.reckon(slot)
        if self.table.rows[slot].place != NO_PLACE:
            self.settle(slot)

    cdef void reckon(self, uint32_t slot) noexcept:
        cdef Row* row = &self.table.rows[slot]
        if self.cost == C_HAPROXY:
            row.current = floor((<double>row.active + 1) * 256 / row.weight) if row.active else 0.0
        else:
            row.current = in_flight_cost(self.cost, row.active) / row.weight


@cython.final
cdef class LeastTime(View):
    def __init__(self, Table table not None, double fail_timeout=10.0):
        View.__init__(self, table)
        if not 0 <= fail_timeout <= 1e9:
            raise LocalError(f"fail_timeout must be a finite number of seconds, not {fail_timeout!r}")
        self.fail_timeout = <int64_t>fail_timeout
        self.watches = True

    cdef int place(self, uint32_t slot) except -1:
        View.place(self, slot)
        self.table.rows[slot].current = 0.0
        self.table.rows[slot].stamp = self.table.now
        return 0

    cdef int64_t choose(self, const Wish* wish) except? -9:
        cdef Row* rows = self.table.rows
        cdef int64_t best = NOT_THERE
        cdef double least = 0.0, cost, mine, theirs
        cdef bint many = False
        cdef uint32_t place, slot
        for place in range(self.count):
            slot = self.members[place]
            if not admits(wish, &rows[slot]):
                continue
            cost = self.cost_of(&rows[slot])
            if best != NOT_THERE:
                mine = least * rows[slot].weight
                theirs = cost * rows[best].weight
                many = many and theirs >= mine
                if theirs >= mine:
                    many = many or theirs == mine
                    continue
            best = slot
            least = cost
        if many:
            best = self.take_turn(wish, best, least)
        if best != NOT_THERE and floor(self.table.now - rows[best].stamp) > self.fail_timeout:
            rows[best].stamp = self.table.now
        return best

    cdef int64_t take_turn(self, const Wish* wish, int64_t best, double least) noexcept:
        cdef Row* rows = self.table.rows
        cdef Row* row
        cdef double total = 0.0, weight = rows[best].weight
        cdef int64_t chosen = NOT_THERE
        cdef uint32_t place
        for place in range(self.count):
            row = &rows[self.members[place]]
            if not admits(wish, row) or self.cost_of(row) * weight != least * row.weight:
                continue
            row.current += row.weight
            total += row.weight
            if chosen == NOT_THERE or row.current > rows[chosen].current:
                chosen = self.members[place]
        if chosen == NOT_THERE:
            return best
        rows[chosen].current -= total
        return chosen

    cdef double cost_of(self, const Row* row) noexcept:
        cdef int64_t idle = <int64_t>floor(self.table.now - row.stamp)
        cdef int64_t time = <int64_t>floor(row.latency * 1000) if row.latency > 0 else 0
        if idle > self.fail_timeout:
            time >>= min(63, idle // (self.fail_timeout + 1))
        return <double>time_step(time) * (1 + <double>row.active)

    cdef void answered(self, uint32_t slot, int outcome, double latency) noexcept:
        cdef Row* row = &self.table.rows[slot]
        if outcome == C_OK:
            row.latency = latency if row.latency < 0 else 0.95 * row.latency + 0.05 * latency


cdef inline double in_flight_cost(int cost, uint32_t active) noexcept:
    if cost == C_NEXT_IN_FLIGHT or (cost == C_NEVER_QUEUE and active):
        return active + 1.0
    if cost == C_HAPROXY and active:
        return (active + 1.0) * 256
    return <double>active


cdef inline int64_t time_step(int64_t milliseconds) noexcept:
    return 5000 if milliseconds > 5000 else milliseconds + 20 - milliseconds % 20
