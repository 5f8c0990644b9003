"""Bounded loads over any order of hashing (arXiv 1608.01350): nobody gets much more than a fair share.

With `total` requests in flight, all together may have bound = ceil((total + 1) * factor / 100), the one about to be
made counted, and each its part of that by weight. Whose part is full is passed over. Three rules say what the parts are
and who is next:

    EXACT     cap = max(1, ceil(bound * weight / weights)); taken while below it, so nobody is ever above; the next
              candidate of the order. There always is one: the caps sum up to more than what is in flight.
    HAPROXY   HAProxy's slots, which share the bound as whole numbers without a rest; taken while below; weights are
              whole numbers. The next candidate of the order.
    ENVOY     cap = max(1, ceil(bound * (weight / weights))); taken while not above it, so that one may be above by
              one. The next one is random, by a Mersenne Twister seeded with the low 32 bits of the hash
              (`overflow_order`); if all are above, the least overloaded is taken, the owner first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import ceil, inf
from typing import Final, final

from distkit._fast.pure.hashing import Order, _hash_of, _number_of, _weights_of
from distkit.core.errors import LocalError

#: Per cent, and the sum of weights under HAProxy's rule.
FACTOR_MAX: Final = 1_000_000
HAPROXY_WEIGHTS_MAX: Final = 0x7FFFFFFF

EXACT: Final = 0
HAPROXY: Final = 1
ENVOY: Final = 2

_WORD = (1 << 32) - 1


def overflow_order(hashed: int, count: int) -> list[int]:
    """In what order Envoy tries `count` hosts when the owner of a hash is overloaded: a shuffle of them all."""
    draw = _mersenne_twister(_hash_of("hash", hashed) & _WORD)
    order = list(range(_number_of("count", count, 1, 0x100000)))
    for at in range(count):
        left = count - at
        drawn = left
        while drawn >= left:
            drawn = draw() // ((1 << 32) // left)
        order[at], order[at + drawn] = order[at + drawn], order[at]
    return order


def _mersenne_twister(seed: int) -> Callable[[], int]:
    """MT19937 as C++ has it: Python's own starts in another way."""
    words = [seed]
    for number in range(1, 624):
        words.append(1812433253 * (words[-1] ^ words[-1] >> 30) + number & _WORD)
    place = 624

    def draw() -> int:
        nonlocal place
        if place == 624:
            for number in range(624):
                word = words[number] & 0x80000000 | words[(number + 1) % 624] & 0x7FFFFFFF
                words[number] = words[(number + 397) % 624] ^ word >> 1 ^ (0x9908B0DF if word & 1 else 0)
            place = 0
        word = words[place]
        place += 1
        word ^= word >> 11
        word ^= word << 7 & 0x9D2C5680
        word ^= word << 15 & 0xEFC60000
        return word ^ word >> 18

    return draw


@final
class Bounded:
    """Who takes a hash, and how much each has in flight.

    `weights` are by position of the order, 1 if not given; `factor` is per cent, 100 or more. Who is closed takes
    nothing, and neither it nor what it has in flight counts for the others. Positions that an order doesn't hold when
    this is made (removed buckets of an Anchor) are closed from the start; close and open them as they come and go.
    """

    __slots__ = ("_active", "_closed", "_factor", "_rule", "_weights", "order")

    def __init__(
        self, order: Order, weights: Iterable[float] | None = None, factor: int = 125, rule: int = EXACT
    ) -> None:
        if not isinstance(order, Order):
            raise TypeError(f"an order is needed, not {type(order).__name__}")
        self._weights = _weights_of(weights, order.span)
        self._rule = _number_of("rule", rule, EXACT, ENVOY)
        self._factor = _number_of("factor", factor, 100, FACTOR_MAX)
        if rule == HAPROXY:
            _check_haproxy(self._weights)
        self.order = order
        self._active = [0] * order.span
        self._closed = {position for position in range(order.span) if not order._holds(position)}

    @property
    def total(self) -> int:
        """In flight at those that are open."""
        return sum(active for position, active in enumerate(self._active) if position not in self._closed)

    def active_at(self, position: int) -> int:
        """In flight at one."""
        return self._active[self._checked(position)]

    def cap(self, position: int) -> int:
        """What it may have in flight together with the next request; 0 for one that is closed."""
        at = self._checked(position)
        return 0 if at in self._closed else self._cap(at)

    def is_open(self, position: int) -> bool:
        """Whether it is open."""
        return self._checked(position) not in self._closed

    def close(self, position: int) -> None:
        """Let it take nothing from now on."""
        self._closed.add(self._checked(position))

    def open(self, position: int) -> None:
        """Let it take requests again."""
        self._closed.discard(self._checked(position))

    def pick(self, hashed: int, exclude: Iterable[int] = ()) -> int:
        """Who takes the hash, which counts as in flight there; -1 if everybody is excluded, closed or full."""
        hashed = _hash_of("hash", hashed)
        excluded = {self._checked(position) for position in exclude}
        found = self._find(hashed, excluded)
        if found >= 0:
            self._active[found] += 1
        return found

    def done(self, position: int) -> None:
        """One that was picked has ended, well or not."""
        at = self._checked(position)
        if not self._active[at]:
            raise LocalError(f"nothing is in flight at {at}")
        self._active[at] -= 1

    def _find(self, hashed: int, excluded: set[int]) -> int:
        out = excluded | self._closed
        if self._rule == ENVOY:
            return self._envoy_choice(hashed, out)

        def is_below(position: int) -> bool:
            return position not in out and self._active[position] < self._cap(position)

        return self.order._first(hashed, is_below)

    def _envoy_choice(self, hashed: int, out: set[int]) -> int:
        def overload(position: int) -> float:
            return inf if position in out else self._active[position] / self._cap(position)

        owner = self.order._place(hashed, 0)
        lowest = overload(owner)
        if lowest <= 1.0:
            return owner
        best = owner if lowest < inf else -1
        for position in overflow_order(hashed, self.order.span):
            load = overload(position)
            if position != owner and load <= 1.0:
                return position
            if position != owner and load < lowest:
                lowest, best = load, position
        return best

    def _cap(self, position: int) -> int:
        bound = ((self.total + 1) * self._factor + 99) // 100
        before = weights = 0.0
        for at, each in enumerate(self._weights):
            if at == position:
                before = weights
            if at not in self._closed:
                weights += each
        weight = self._weights[position]
        if self._rule == EXACT:
            return max(1, ceil(bound * weight / weights))
        if self._rule == ENVOY:
            return max(1, ceil(bound * (weight / weights)))
        own, front, rest = int(weight), int(before), bound % int(weights)
        whole = int(weights)
        return max(1, own * (bound // whole) + (front + own) * rest // whole - front * rest // whole)

    def _checked(self, position: int) -> int:
        return _number_of("position", position, 0, self.order.span - 1)


def _check_haproxy(weights: list[float]) -> None:
    for position, weight in enumerate(weights):
        if weight != int(weight):
            raise LocalError(f"weight {position} is {weight}: weights of HAProxy are whole numbers")
    if sum(weights) > HAPROXY_WEIGHTS_MAX:
        raise LocalError(f"the sum of weights is above {HAPROXY_WEIGHTS_MAX}")
