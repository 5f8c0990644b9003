"""Policies that draw, or look at how much there is to do: requests in flight and latencies."""

from __future__ import annotations

import math
from typing import ClassVar, Final

from distkit._fast.pure.table import NOBODY, NOWHERE, OK, Heap, Row, Table, View, Wish
from distkit.core.errors import LocalError

CHOICES_MAX: Final = 10

#: What less of is better, for each unit of weight: requests in flight; the same with the one that is being placed
#: (IPVS sed); that, but any idle endpoint first (IPVS nq); HAProxy's leastconn; latency times requests in flight, as
#: Finagle and tower or as Envoy reckon it.
IN_FLIGHT: Final = 0
NEXT_IN_FLIGHT: Final = 1
NEVER_QUEUE: Final = 2
HAPROXY: Final = 3
PEAK_EWMA: Final = 4
ENVOY_EWMA: Final = 5

#: How those of equal cost take turns: the one whose last request is longest ago; or so, with the turns shuffled.
ROTATE: Final = 0
RANDOM: Final = 1

#: Finagle's cost of an endpoint that has requests in flight and has never answered.
PENALTY: Final = float(((1 << 63) - 1) >> 16)
ENVOY_PENALTY: Final = 1e6

#: After so many draws that a request does not admit all members are looked at.
DRAWS_MAX: Final = 8


class Uniform(View):
    """Any member, with the same chance. Costs O(1)."""

    name: ClassVar[str] = "random"

    def choose(self, wish: Wish) -> int:
        """See View."""
        if not self.members:
            return NOBODY
        slot = self.members[self.table.below(len(self.members))]
        if wish.filtered:
            for _ in range(DRAWS_MAX):
                if wish.admits(self.table.rows[slot]):
                    return slot
                slot = self.members[self.table.below(len(self.members))]
            return self.scan(wish, self.table.rows[slot].place)
        return slot


class Weighted(View):
    """Any member, with chances by weight. A pick and a change of a weight cost O(log n).

    `_sums` is a Fenwick tree over the places of the members: node j, from 1 on, holds the weights of the places from
    j - (j & -j) to j - 1. A node is always added up again from those below it, so nothing drifts.
    """

    name: ClassVar[str] = "weighted_random"

    def __init__(self, table: Table) -> None:
        super().__init__(table)
        self._summed = True
        self._sums: list[float] = [0.0]

    def join(self, slot: int) -> None:
        """See View."""
        super().join(slot)
        if self._summed:
            self._sums.append(0.0)
            self._add_up(len(self.members))

    def leave(self, slot: int) -> None:
        """See View."""
        place = self.table.rows[slot].place
        super().leave(slot)
        if self._summed:
            self._sums.pop()
            if place < len(self.members):
                self._change(place)

    def weigh(self, slot: int, weight: float) -> None:
        """See View."""
        row = self.table.rows[slot]
        row.weight = weight
        if self._summed and row.place != NOWHERE:
            self._change(row.place)

    def choose(self, wish: Wish) -> int:
        """See View."""
        total = self._before(len(self.members))
        if wish.filtered:
            for _ in range(DRAWS_MAX):
                if not self.members:
                    return NOBODY
                slot = self._at(self.table.unit() * total)
                if wish.admits(self.table.rows[slot]):
                    return slot
            return self._choose_filtered(wish)
        return self._at(self.table.unit() * total) if self.members else NOBODY

    def _choose_filtered(self, wish: Wish) -> int:
        total = 0.0
        for slot in self.members:
            if wish.admits(self.table.rows[slot]):
                total += self.table.rows[slot].weight
        left = self.table.unit() * total
        last = NOBODY
        for slot in self.members:
            if wish.admits(self.table.rows[slot]):
                last = slot
                if left < self.table.rows[slot].weight:
                    break
                left -= self.table.rows[slot].weight
        return last

    def _change(self, place: int) -> None:
        node = place + 1
        while node <= len(self.members):
            self._add_up(node)
            node += node & -node

    def _add_up(self, node: int) -> None:
        total = self.table.rows[self.members[node - 1]].weight
        step = 1
        while step < node & -node:
            total += self._sums[node - step]
            step *= 2
        self._sums[node] = total

    def _before(self, place: int) -> float:
        """The weights of all places before this one."""
        total = 0.0
        while place:
            total += self._sums[place]
            place -= place & -place
        return total

    def _at(self, number: float) -> int:
        """The slot whose share of the weights, in the order of places, holds the number."""
        node = 0
        step = 1 << len(self.members).bit_length() - 1
        while step:
            if node + step <= len(self.members) and self._sums[node + step] <= number:
                node += step
                number -= self._sums[node]
            step //= 2
        return self.members[min(node, len(self.members) - 1)]


class Choices(Weighted):
    """Of some members that are drawn the one with the least cost for its weight; the first drawn on a tie.

    With replacement (Envoy, gRPC) one may be drawn twice, without (Finagle) never. `choices` 0 looks at all of them,
    with random ties. `weighted`: drawn with chances by weight (Finagle), instead of alike. Costs O(choices).
    """

    name: ClassVar[str] = "least_request"

    def __init__(
        self,
        table: Table,
        choices: int = 2,
        replacement: bool = True,
        weighted: bool = False,
        cost: int = IN_FLIGHT,
        tau: float = 10.0,
        default_rtt: float = 0.0,
        failure_penalty: float = 1.0,
    ) -> None:
        super().__init__(table)
        if not 0 <= choices <= CHOICES_MAX:
            raise LocalError(f"choices must be 1 to {CHOICES_MAX}, or 0 to look at all endpoints, not {choices}")
        if not IN_FLIGHT <= cost <= ENVOY_EWMA:
            raise LocalError(f"there is no cost {cost}")
        for name, value in (("tau", tau), ("default_rtt", default_rtt), ("failure_penalty", failure_penalty)):
            if not 0 <= value <= 1e9 or (name == "tau" and value == 0):
                raise LocalError(f"{name} must be a finite number of seconds, not {value!r}")
        self._choices = choices
        self._replacement = replacement
        self._summed = weighted
        self._cost = cost
        self._tau = tau
        self._default_rtt = default_rtt
        self._failure_penalty = failure_penalty

    def place(self, slot: int) -> None:
        """See View."""
        row = self.table.rows[slot]
        if row.latency < 0:
            row.latency = self._default_rtt if self._cost == PEAK_EWMA else row.latency
            row.stamp = self.table.now

    def choose(self, wish: Wish) -> int:
        """See View."""
        count = len(self.members)
        if not count:
            return NOBODY
        if not self._choices or (not self._replacement and self._choices >= count):
            return self._least(wish)
        best = NOBODY
        cost = 0.0
        for slot in self._draws() if self._replacement else self._different_draws():
            if slot == best or not wish.admits(self.table.rows[slot]):
                continue
            other = self._cost_of(self.table.rows[slot])
            if best == NOBODY or other * self.table.rows[best].weight < cost * self.table.rows[slot].weight:
                best, cost = slot, other
        return self._least(wish) if best == NOBODY else best

    def _draws(self) -> list[int]:
        count = len(self.members)
        if not self._summed:
            return [self.members[self.table.below(count)] for _ in range(self._choices)]
        total = self._before(count)
        return [self._at(self.table.unit() * total) for _ in range(self._choices)]

    def _different_draws(self) -> list[int]:
        places: list[int] = []
        drawn: list[int] = []
        total = self._before(len(self.members)) if self._summed else 0.0
        for _ in range(self._choices):
            place = self._pass_over(places, total)
            slot = self.members[place]
            if place not in places:  # else a rounding error at the edge of a share
                drawn.append(slot)
                total -= self.table.rows[slot].weight if self._summed else 0.0
            places.append(place)
            places.sort()
        return drawn

    def _pass_over(self, places: list[int], total: float) -> int:
        """Draw among the places that are left: those that were drawn are passed over in their order."""
        if not self._summed:
            place = self.table.below(len(self.members) - len(places))
            for earlier in places:
                place += place >= earlier
            return place
        number = self.table.unit() * total
        for earlier in places:
            if number >= self._before(earlier):
                number += self.table.rows[self.members[earlier]].weight
        return self.table.rows[self._at(number)].place

    def _least(self, wish: Wish) -> int:
        best = NOBODY
        cost = 0.0
        ties = 1
        for slot in self.members:
            row = self.table.rows[slot]
            if not wish.admits(row):
                continue
            other = self._cost_of(row)
            if best != NOBODY:
                mine, theirs = cost * row.weight, other * self.table.rows[best].weight
                if theirs > mine:
                    continue
                ties = ties + 1 if theirs == mine else 1
                if ties > 1 and self.table.below(ties):
                    continue
            best, cost = slot, other
        return best

    def _cost_of(self, row: Row) -> float:
        if self._cost == PEAK_EWMA:
            # To read is to observe a latency of 0.
            row.latency *= math.exp(-(self.table.now - row.stamp) / self._tau)
            row.stamp = self.table.now
            if row.latency == 0 and row.active:
                return (PENALTY + row.active) * row.weight  # whatever its weight
            return row.latency * (row.active + 1)
        if self._cost == ENVOY_EWMA:
            if row.latency < 0:
                return (ENVOY_PENALTY + row.active) * row.weight if row.active else self._default_rtt * 1000
            return row.latency * 1000 * (row.active + 1)
        return in_flight_cost(self._cost, row.active)

    def answered(self, slot: int, outcome: int, latency: float) -> None:
        """See View. A failure counts as a long latency, so failing fast does not attract requests."""
        if self._cost < PEAK_EWMA:
            return
        row = self.table.rows[slot]
        if outcome != OK:
            latency = max(latency, self._failure_penalty, row.latency)
        decay = math.exp(-(self.table.now - row.stamp) / self._tau)
        if row.latency < 0 or (self._cost == PEAK_EWMA and latency > row.latency):
            row.latency = latency
        else:
            row.latency = decay * row.latency + (1 - decay) * latency
        row.stamp = self.table.now


class LeastConnections(Heap):
    """Of all members the one with the least cost for its weight, from a heap: O(log n) for each pick and each end.

    Every change of the requests in flight moves a member at once. `Row.current` is the cost, `Row.turn` orders
    equal ones.
    """

    name: ClassVar[str] = "least_connections"

    def __init__(self, table: Table, cost: int = IN_FLIGHT, ties: int = ROTATE) -> None:
        super().__init__(table)
        if not IN_FLIGHT <= cost <= HAPROXY:
            raise LocalError(f"cost {cost} changes with time, so no heap can be kept by it: use choices")
        if not ROTATE <= ties <= RANDOM:
            raise LocalError(f"there is no rule {ties} for ties")
        self._cost = cost
        self._ties = ties
        self._turns = 0

    def place(self, slot: int) -> None:
        """See View."""
        self.table.rows[slot].turn = self._next_turn()
        self._reckon(slot)

    def join(self, slot: int) -> None:
        """See View."""
        self._reckon(slot)
        super().join(slot)

    def weigh(self, slot: int, weight: float) -> None:
        """See View."""
        self.table.rows[slot].weight = weight
        self._change(slot)

    def charged(self, slot: int) -> None:
        """See View."""
        self.table.rows[slot].turn = self._next_turn()
        self._change(slot)

    def released(self, slot: int) -> None:
        """See View."""
        self._change(slot)

    def choose(self, wish: Wish) -> int:
        """See View."""
        return self.least(wish)

    def _next_turn(self) -> int:
        self._turns += 1
        if self._ties == RANDOM:
            return self._turns + self.table.below(2 * len(self.members) + 1)
        return self._turns

    def _change(self, slot: int) -> None:
        self._reckon(slot)
        if self.table.rows[slot].place != NOWHERE:
            self.settle(slot)

    def _reckon(self, slot: int) -> None:
        row = self.table.rows[slot]
        if self._cost == HAPROXY:
            row.current = float(math.floor((row.active + 1) * 256 / row.weight)) if row.active else 0.0
        else:
            row.current = in_flight_cost(self._cost, row.active) / row.weight


class LeastTime(View):
    """nginx's least_time: time to answer times (1 + requests in flight), for each unit of weight.

    Equal ones take turns, smoothly by weight. The time is .95 of itself and .05 of what a success took, reckoned in
    whole milliseconds, halved for each `fail_timeout` without a request, in steps of 20 up to 5000. Costs O(n).
    """

    name: ClassVar[str] = "least_time"

    def __init__(self, table: Table, fail_timeout: float = 10.0) -> None:
        super().__init__(table)
        if not 0 <= fail_timeout <= 1e9:
            raise LocalError(f"fail_timeout must be a finite number of seconds, not {fail_timeout!r}")
        self._fail_timeout = math.floor(fail_timeout)

    def place(self, slot: int) -> None:
        """See View."""
        row = self.table.rows[slot]
        row.current = 0.0
        row.stamp = self.table.now

    def choose(self, wish: Wish) -> int:
        """See View."""
        rows = self.table.rows
        best = NOBODY
        least = 0.0
        many = False
        for slot in self.members:
            if not wish.admits(rows[slot]):
                continue
            cost = self._cost_of(rows[slot])
            if best != NOBODY:
                mine, theirs = least * rows[slot].weight, cost * rows[best].weight
                many = many and theirs >= mine
                if theirs >= mine:
                    many = many or theirs == mine
                    continue
            best, least = slot, cost
        if many:
            best = self._turn(wish, best, least)
        if best != NOBODY and math.floor(self.table.now - rows[best].stamp) > self._fail_timeout:
            rows[best].stamp = self.table.now
        return best

    def _turn(self, wish: Wish, best: int, least: float) -> int:
        """Smooth round robin among those that cost as little as the best one."""
        rows = self.table.rows
        total = 0.0
        chosen = NOBODY
        weight = rows[best].weight
        for slot in self.members:
            row = rows[slot]
            if not wish.admits(row) or self._cost_of(row) * weight != least * row.weight:
                continue
            row.current += row.weight
            total += row.weight
            if chosen == NOBODY or row.current > rows[chosen].current:
                chosen = slot
        if chosen == NOBODY:
            return best
        rows[chosen].current -= total
        return chosen

    def _cost_of(self, row: Row) -> float:
        idle = math.floor(self.table.now - row.stamp)
        time = math.floor(row.latency * 1000) if row.latency > 0 else 0
        if idle > self._fail_timeout:
            time >>= min(63, idle // (self._fail_timeout + 1))
        return float(time_step(time) * (1 + row.active))

    def answered(self, slot: int, outcome: int, latency: float) -> None:
        """See View."""
        row = self.table.rows[slot]
        if outcome == OK:
            row.latency = latency if row.latency < 0 else 0.95 * row.latency + 0.05 * latency


def in_flight_cost(cost: int, active: int) -> float:
    """A cost that goes by the requests in flight alone."""
    if cost == NEXT_IN_FLIGHT or (cost == NEVER_QUEUE and active):
        return active + 1.0
    if cost == HAPROXY and active:
        return (active + 1.0) * 256
    return float(active)


def time_step(milliseconds: int) -> int:
    """nginx's steps: an exact multiple of 20 moves up a whole step."""
    return 5000 if milliseconds > 5000 else milliseconds + 20 - milliseconds % 20
