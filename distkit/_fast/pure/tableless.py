"""Consistent hashing without a table: who owns a hash is computed each time.

    Jump          jump consistent hash: endpoints come and go at the end
    Rendezvous    highest random weight: weighted, and a weight changes at once
    Anchor        AnchorHash: any bucket comes and goes at once
    MultiProbe    multi-probe consistent hashing

All are orders as those of `hashing`. The hash functions that the papers leave open are SplitMix64, its outputs and its
finalizer. Attempt a of a lookup takes output a - 1 of SplitMix64 seeded with the hash in place of the hash.
"""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Callable, Iterable
from math import frexp, inf
from typing import Final, final

from distkit._fast.pure.hashing import (
    _MASK,
    ENDPOINTS_MAX,
    WEIGHT_MAX,
    WEIGHT_MIN,
    Order,
    _hash_of,
    _names_of,
    _number_of,
    _weights_of,
    xxh64,
)
from distkit.core.errors import LocalError

PROBES_MAX: Final = 1 << 10

_STEP = 0x9E3779B97F4A7C15


def jump(hashed: int, count: int) -> int:
    """Jump consistent hash (Lamping and Veach): the bucket of a hash, of `count` (1 to 2^31 - 1) in a row."""
    return _jump(_hash_of("hash", hashed), _number_of("count", count, 1, 0x7FFFFFFF))


def _jump(key: int, count: int) -> int:
    bucket, following = -1, 0
    while following < count:
        bucket = following
        key = (key * 2862933555777941757 + 1) & _MASK
        following = int((bucket + 1) * (2147483648.0 / ((key >> 33) + 1)))
    return bucket


def _mixed(value: int) -> int:
    """The finalizer of SplitMix64."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK
    return value ^ value >> 31


def _rehashed(hashed: int, number: int) -> int:
    """Hashes without end of one hash: the outputs of SplitMix64 from there on."""
    return _mixed(hashed + (number + 1) * _STEP & _MASK)


def _attempted(hashed: int, attempt: int) -> int:
    """The hash itself, and for attempts behind the first one others."""
    return _rehashed(hashed, attempt - 1) if attempt else hashed


@final
class Rendezvous(Order):
    """Rendezvous hashing (highest random weight): everybody bids for a hash, and candidates come by their bids.

    The bid of an endpoint is -ln(u) / weight and the lowest one wins, so that shares are as weights. u is the middle of
    the part of (0, 1), of 2^52 equal parts, that the first 52 bits of the hash XOR xxh64(key), mixed by the finalizer
    of SplitMix64, name. The logarithm is `_negative_log`, which any machine computes to the same bits, multiplied by
    1 / weight. Of equal bids the first one in the list wins. A change of a weight or of a key moves nothing else than
    what that endpoint gains or loses. A lookup takes time in proportion to the endpoints.
    """

    __slots__ = ("_inverses", "_seeds")

    def __init__(self, keys: Iterable[bytes], weights: Iterable[float] | None = None) -> None:
        names = _names_of(keys)
        self._inverses = [1.0 / weight for weight in _weights_of(weights, len(names))]
        self._seeds = [xxh64(name) for name in names]
        self.count = self.span = len(names)
        self._ranks = ()

    def set_weight(self, position: int, weight: float) -> None:
        """Change one weight, at once. 0 takes nothing, but somebody's weight must stay above it."""
        at = _number_of("position", position, 0, self.span - 1)
        if not (weight == 0 or WEIGHT_MIN <= weight <= WEIGHT_MAX):
            raise LocalError(f"the weight is {weight}: there may be 0, or 2^-32 to 2^32")
        before = self._inverses[at]
        self._inverses[at] = 1.0 / weight if weight else inf
        if min(self._inverses) == inf:
            self._inverses[at] = before
            raise LocalError("the last weight above 0 must stay")

    def _holds(self, position: int) -> bool:
        return position < self.span and self._inverses[position] != inf

    def _place(self, hashed: int, attempt: int) -> int:
        return self._first(_attempted(hashed, attempt), lambda _position: True)

    def _first(self, hashed: int, accept: Callable[[int], bool]) -> int:
        best, lowest = -1, inf
        for position, (seed, inverse) in enumerate(zip(self._seeds, self._inverses, strict=True)):
            bid = _negative_log(((_mixed(hashed ^ seed) >> 12 << 1) + 1) * 2.0**-53) * inverse
            if bid < lowest and accept(position):
                best, lowest = position, bid
        return best


def _negative_log(value: float) -> float:
    """-ln of a number between 0 and 1, to about 1e-15: by operations that every machine rounds in the same way.

    ln m = 2 artanh((m - 1) / (m + 1)), as a series, for the mantissa; and so many times ln 2 for the exponent.
    """
    mantissa, exponent = frexp(value)
    if mantissa < 0.7071067811865476:
        mantissa, exponent = mantissa * 2.0, exponent - 1
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    square = ratio * ratio
    series = 1.0 / 19.0
    for odd in (17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0):
        series = series * square + 1.0 / odd
    return -(exponent * 0.6931471805599453 + 2.0 * ratio * series)


@final
class Jump(Order):
    """Jump consistent hash as an order: `jump(hash, count)`, and SplitMix64 of the hash for further attempts.

    Endpoints come and go at the end of the list only: one that is added takes what it needs from all others, and
    nothing else moves.
    """

    __slots__ = ()

    def __init__(self, count: int) -> None:
        self.count = self.span = _number_of("count", count, 1, ENDPOINTS_MAX)
        self._ranks = range(self.count)

    def _place(self, hashed: int, attempt: int) -> int:
        return _jump(_attempted(hashed, attempt), self.count)


@final
class Anchor(Order):
    """AnchorHash (Mendelson et al.): buckets 0 to `capacity` - 1, of which the first `count` are there at first.

    Any bucket may be removed, and only what it owned moves; `add` brings the last removed one back, and with it all
    that it owned. The first bucket of a hash is SplitMix64's finalizer of it mod `capacity`; the function of bucket b
    is output b of SplitMix64 seeded with the hash.
    """

    __slots__ = ("_anchors", "_places", "_removed", "_successors", "_working")

    def __init__(self, capacity: int, count: int) -> None:
        self.span = _number_of("capacity", capacity, 1, ENDPOINTS_MAX)
        self.count = _number_of("count", count, 1, self.span)
        # A, K, W, L and R of the paper.
        self._anchors = [0] * self.count + list(range(self.count, self.span))
        self._successors = list(range(self.span))
        self._working = list(range(self.span))
        self._places = list(range(self.span))
        self._removed = list(range(self.span - 1, self.count - 1, -1))
        self._ranks = self._working[: self.count]

    def remove(self, bucket: int) -> None:
        """Take a bucket out; the last one must stay."""
        at = _number_of("bucket", bucket, 0, self.span - 1)
        if self._anchors[at]:
            raise LocalError(f"bucket {at} is removed already")
        if self.count == 1:
            raise LocalError("the last bucket must stay")
        self._removed.append(at)
        self.count -= 1
        last = self._working[self.count]
        self._anchors[at] = self.count
        self._working[self._places[at]] = self._successors[at] = last
        self._places[last] = self._places[at]
        self._ranks = self._working[: self.count]

    def add(self) -> int:
        """Bring the bucket back that was removed last, or one that never was there; which it is."""
        if self.count == self.span:
            raise LocalError(f"all {self.span} buckets are there: make it with a larger capacity")
        at = self._removed.pop()
        self._anchors[at] = 0
        self._places[self._working[self.count]] = self.count
        self._working[self._places[at]] = self._successors[at] = at
        self.count += 1
        self._ranks = self._working[: self.count]
        return at

    def _holds(self, position: int) -> bool:
        return position < self.span and not self._anchors[position]

    def _place(self, hashed: int, attempt: int) -> int:
        key = _attempted(hashed, attempt)
        bucket = _mixed(key) % self.span
        while self._anchors[bucket]:
            following = _rehashed(key, bucket) % self._anchors[bucket]
            while self._anchors[following] >= self._anchors[bucket]:
                following = self._successors[following]
            bucket = following
        return bucket


@final
class MultiProbe(Order):
    """Multi-probe consistent hashing (Appleton and O'Reilly): one point an endpoint, at xxh64 of its key.

    A hash is put on the circle `probes` times, at outputs of SplitMix64 seeded with it, and belongs to the point that
    is nearest behind any of these, the first one of equals. The next candidate is who owns it without those before.
    """

    __slots__ = ("_owners", "_points", "probes")

    def __init__(self, keys: Iterable[bytes], probes: int = 21) -> None:
        names = _names_of(keys)
        self.probes = _number_of("probes", probes, 1, PROBES_MAX)
        points = sorted(((xxh64(name), position) for position, name in enumerate(names)), key=operator.itemgetter(0))
        self._points = [point for point, _position in points]
        self._owners = [position for _point, position in points]
        self.count = self.span = len(names)
        self._ranks = ()

    def _place(self, hashed: int, attempt: int) -> int:
        return self._first(_attempted(hashed, attempt), lambda _position: True)

    def _first(self, hashed: int, accept: Callable[[int], bool]) -> int:
        best, nearest = -1, _MASK + 1
        for number in range(self.probes):
            probe = _rehashed(hashed, number)
            start = bisect_left(self._points, probe)
            for at in (*range(start, self.count), *range(start)):
                if accept(self._owners[at]):
                    distance = self._points[at] - probe & _MASK
                    if distance < nearest:
                        best, nearest = self._owners[at], distance
                    break
        return best
