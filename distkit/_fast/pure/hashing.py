"""Consistent hashing: who owns a hash, and who is next if the owner can't be taken.

An *order* is made of the keys of endpoints and answers with positions in that list. Hashes are 0 to 2^64 - 1; make them
of a request's key with `xxh64`. The orders that other systems have too place each hash where these place it:

    Ring.envoy, Ring.grpc    ring hash of Envoy and gRPC
    Ring.ketama              libketama; look up `ketama_hash(key)`
    Ring.nginx               `hash ... consistent` of nginx; look up `zlib.crc32(key)`
    Maglev                   Maglev of Envoy, weighted

More of them, which need no table, are in `tableless`; `bounded` puts bounds on load over any of them.

Every order has two ways on from the owner. `lookup(hash, attempt)` is the rule of the compatible system for a repeated
request: quick, and it may lead to the same endpoint again. `first_open` and `candidates` follow the order of
candidates, in which everybody comes at last, so that a hash whose owner is excluded, saturated or over its bound falls
to the next one, and returns when the owner is open again.
"""

from __future__ import annotations

import operator
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterable
from hashlib import md5
from math import ceil, floor
from typing import Final, final
from zlib import crc32

from distkit.core.errors import LocalError

#: What an order may be made of. All of it is checked before memory is taken.
ENDPOINTS_MAX: Final = 1 << 20
KEY_BYTES_MAX: Final = 1 << 12
WEIGHT_MIN: Final = 2.0**-32
WEIGHT_MAX: Final = 2.0**32
RING_SIZE_MAX: Final = 1 << 23
MAGLEV_SIZE_MAX: Final = 5_000_011

#: The seed of `murmur2` that Envoy and libstdc++ use.
MURMUR_SEED: Final = 0xC70F6907

_MASK = (1 << 64) - 1
_PRIMES = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
_MURMUR = 0xC6A4A7935BD1E995


def xxh64(data: bytes, seed: int = 0) -> int:
    """XXH64 of the bytes, as the xxHash specification defines it."""
    one, two, three, four, five = _PRIMES
    at, length = 0, len(_bytes(data))
    seed = _hash_of("seed", seed)
    if length >= 32:
        lanes = [seed + one + two & _MASK, seed + two & _MASK, seed, seed - one & _MASK]
        while length - at >= 32:
            for lane in range(4):
                lanes[lane] = _xxh_round(lanes[lane], _little(data, at, 8))
                at += 8
        total = sum(_rotated(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True)) & _MASK
        for lane in lanes:
            total = ((total ^ _xxh_round(0, lane)) * one + four) & _MASK
    else:
        total = seed + five & _MASK
    total = total + length & _MASK
    while length - at >= 8:
        total = (_rotated(total ^ _xxh_round(0, _little(data, at, 8)), 27) * one + four) & _MASK
        at += 8
    if length - at >= 4:
        total = (_rotated(total ^ _little(data, at, 4) * one & _MASK, 23) * two + three) & _MASK
        at += 4
    while at < length:
        total = _rotated(total ^ data[at] * five & _MASK, 11) * one & _MASK
        at += 1
    total = (total ^ total >> 33) * two & _MASK
    total = (total ^ total >> 29) * three & _MASK
    return total ^ total >> 32


def _xxh_round(lane: int, value: int) -> int:
    return _rotated(lane + value * _PRIMES[1] & _MASK, 31) * _PRIMES[0] & _MASK


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> 64 - bits) & _MASK


def _little(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")


def murmur2(data: bytes, seed: int = MURMUR_SEED) -> int:
    """64-bit Murmur2 of the bytes, as libstdc++ has it."""
    aligned = len(_bytes(data)) & ~7
    total = _hash_of("seed", seed) ^ len(data) * _MURMUR & _MASK
    for at in range(0, aligned, 8):
        value = _little(data, at, 8) * _MURMUR & _MASK
        total = (total ^ (value ^ value >> 47) * _MURMUR & _MASK) * _MURMUR & _MASK
    if aligned < len(data):
        total = (total ^ _little(data, aligned, 8)) * _MURMUR & _MASK
    total = (total ^ total >> 47) * _MURMUR & _MASK
    return total ^ total >> 47


def ketama_hash(key: bytes) -> int:
    """What libketama looks up for a key: 32 bits."""
    return _little(md5(_bytes(key), usedforsecurity=False).digest(), 0, 4)


class Order:
    """What all orders can do. `count` endpoints at positions below `span`; both are the number of keys."""

    __slots__ = ("_ranks", "count", "span")

    count: int
    span: int
    #: In what order `first_open` asks who is left at last.
    _ranks: Iterable[int]

    def lookup(self, hashed: int, attempt: int = 0) -> int:
        """The position of the owner; for an attempt > 0 that of another choice, which may be the same."""
        return self._place(_hash_of("hash", hashed), _number_of("attempt", attempt, 0, 0xFFFFFFFF))

    def first_open(self, hashed: int, closed: bytes | bytearray | memoryview) -> int:
        """The first candidate whose byte in `closed` is 0, -1 if there is none."""
        flags = memoryview(closed)
        if len(flags) != self.span:
            raise LocalError(f"{len(flags)} flags for {self.span} positions")
        return self._first(_hash_of("hash", hashed), lambda position: not flags[position])

    def candidates(self, hashed: int, limit: int = ENDPOINTS_MAX) -> list[int]:
        """The first candidates in order, at most `limit`; each is the first open one if those before it are closed."""
        key = _hash_of("hash", hashed)
        found: list[int] = []
        seen: set[int] = set()
        for _ in range(_number_of("limit", limit, 0, ENDPOINTS_MAX)):
            position = self._first(key, lambda position: position not in seen)
            if position < 0:
                break
            found.append(position)
            seen.add(position)
        return found

    def _holds(self, position: int) -> bool:
        return position < self.span

    def _place(self, hashed: int, attempt: int) -> int:
        raise NotImplementedError

    def _first(self, hashed: int, accept: Callable[[int], bool]) -> int:
        """By attempts; if these led to nobody, by rank, beginning with rank `hashed mod count`."""
        for attempt in range(2 * self.count):
            position = self._place(hashed, attempt)
            if accept(position):
                return position
        ranks = list(self._ranks)
        start = hashed % self.count
        return next(filter(accept, ranks[start:] + ranks[:start]), -1)


@final
class Ring(Order):
    """Points on a circle of hashes: a hash belongs to the first point at or behind it, and that to an endpoint.

    Attempt a is the a-th point behind that; candidates come in the order of their points, and endpoints whose weights
    are too small for a point at last, by position. Of equal points the one that was made first comes first.
    """

    __slots__ = ("_mask", "_owners", "_points", "size")

    size: int
    _mask: int
    _points: list[int]
    _owners: list[int]

    def __init__(self) -> None:
        raise LocalError("a ring is made by Ring.envoy, Ring.grpc, Ring.ketama or Ring.nginx")

    @staticmethod
    def _of(count: int, points: list[tuple[int, int]], bits: int) -> Ring:
        """A ring of (hash, position) in the order they were made."""
        _check_size(len(points))
        ring = object.__new__(Ring)
        ring.count = ring.span = count
        ring.size = len(points)
        ring._mask = (1 << bits) - 1
        points.sort(key=operator.itemgetter(0))
        ring._points = [point for point, _position in points]
        ring._owners = [position for _point, position in points]
        return ring

    @staticmethod
    def envoy(
        keys: Iterable[bytes],
        weights: Iterable[float] | None = None,
        size_min: int = 1024,
        size_max: int = RING_SIZE_MAX,
        function: str = "xxh64",
        normalized: bool = False,
    ) -> Ring:
        """Envoy's ring: points at `function` ("xxh64" or "murmur2") of key, "_" and a number.

        The smallest weight gets a whole number of points; the ring has at least about `size_min` of them and at most
        about `size_max`. The order of the list changes rounding: an endpoint may have a point more or less.
        """
        names = _names_of(keys)
        return _envoy_ring(names, list(range(len(names))), weights, size_min, size_max, function, normalized)

    @staticmethod
    def grpc(
        keys: Iterable[bytes], weights: Iterable[float] | None = None, size_min: int = 1024, size_max: int = 4096
    ) -> Ring:
        """gRPC's ring: as `envoy` with the endpoints sorted by key, so that the order of the list changes nothing."""
        names = _names_of(keys)
        return _envoy_ring(names, _sorted_by_key(names), weights, size_min, size_max, "xxh64", False)

    @staticmethod
    def ketama(keys: Iterable[bytes], weights: Iterable[float] | None = None) -> Ring:
        """The ring of libketama, of 32 bits: four points of each MD5 of key, "-" and a number, 160 by mean weight."""
        names = _names_of(keys)
        taken = _weights_of(weights, len(names))
        total = 0.0
        for weight in taken:
            total += weight
        counts = [floor(_single(_single(_single(each) / _single(total)) * 40.0 * len(names))) for each in taken]
        _check_size(4 * sum(counts))
        points = [
            (_little(digest, at, 4), position)
            for position, count in enumerate(counts)
            for number in range(count)
            for digest in [md5(b"%s-%d" % (names[position], number), usedforsecurity=False).digest()]
            for at in (0, 4, 8, 12)
        ]
        return Ring._of(len(names), points, 32)

    @staticmethod
    def nginx(keys: Iterable[bytes], weights: Iterable[float] | None = None) -> Ring:
        """The ring of nginx, of 32 bits: 160 points by weight, a whole number, at CRC-32 of host, port and last point.

        A key is the address as it stands in the configuration. Of equal points only the first one of the list stays.
        """
        names = _names_of(keys)
        taken = _weights_of(weights, len(names))
        for position, weight in enumerate(taken):
            if weight != int(weight):
                raise LocalError(f"weight {position} is {weight}: weights of nginx are whole numbers")
        _check_size(160 * sum(map(int, taken)))
        points: dict[int, int] = {}
        for position, weight in enumerate(taken):
            base = crc32(_nginx_name(names[position]))
            point = 0
            for _ in range(160 * int(weight)):
                point = crc32(point.to_bytes(4, "little"), base)
                points.setdefault(point, position)
        return Ring._of(len(names), list(points.items()), 32)

    def _successor(self, hashed: int) -> int:
        return bisect_left(self._points, hashed & self._mask) % self.size

    def _place(self, hashed: int, attempt: int) -> int:
        return self._owners[(self._successor(hashed) + attempt) % self.size]

    def _first(self, hashed: int, accept: Callable[[int], bool]) -> int:
        at = self._successor(hashed)
        return next(filter(accept, (*self._owners[at:], *self._owners[:at], *range(self.span))), -1)


def _envoy_ring(
    names: list[bytes],
    order: list[int],
    weights: Iterable[float] | None,
    size_min: int,
    size_max: int,
    function: str,
    normalized: bool,
) -> Ring:
    most = _number_of("size_max", size_max, 1, RING_SIZE_MAX)
    least = _number_of("size_min", size_min, 1, most)
    shares = _shares(weights, order, normalized)
    smallest = min(shares)
    scale = min(ceil(smallest * least) / smallest, float(most))
    if function not in ("xxh64", "murmur2"):
        raise LocalError(f"{function!r} is no function of a ring: name xxh64 or murmur2")
    hashed = xxh64 if function == "xxh64" else murmur2
    points: list[tuple[int, int]] = []
    current = target = 0.0  # points made and wanted: over all endpoints, so that rounding makes up for itself
    for position, share in zip(order, shares, strict=True):
        target += scale * share
        number = 0
        while current < target:
            points.append((hashed(b"%s_%d" % (names[position], number)), position))
            number += 1
            current += 1.0
    return Ring._of(len(names), points, 64)


def _check_size(size: int) -> None:
    if not 0 < size <= RING_SIZE_MAX:
        raise LocalError(f"a ring of {size} points: there may be 1 to {RING_SIZE_MAX}, change weights or sizes")


def _single(value: float) -> float:
    """Rounded to single precision."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def _nginx_name(key: bytes) -> bytes:
    """Host, NUL and port."""
    if key[:5].lower() == b"unix:":
        return key[5:] + b"\0"
    host, colon, port = key.rpartition(b":")
    return host + b"\0" + port if colon and (port.isdigit() or not port) else key + b"\0"


@final
class Maglev(Order):
    """Envoy's Maglev: a table whose entries the endpoints take in turns, each at the free ones of its own permutation.

    `size` is a prime number; an endpoint's turns are in proportion to its weight. The order of the list changes
    nothing. Attempt a looks up hash XOR (2^64 - a); candidates come in the order of attempts. Making it takes time in
    proportion to the size, times the largest weight by the mean one.
    """

    __slots__ = ("_table", "size")

    def __init__(
        self,
        keys: Iterable[bytes],
        weights: Iterable[float] | None = None,
        size: int = 65537,
        normalized: bool = False,
    ) -> None:
        names = _names_of(keys)
        order = _sorted_by_key(names)
        shares = _shares(weights, order, normalized)
        slots = _number_of("size", size, 2, MAGLEV_SIZE_MAX)
        if not _is_prime(slots):
            raise LocalError(f"a Maglev table of {slots} entries: it must be a prime number, such as 65537")
        self.count = self.span = len(names)
        self.size = slots
        self._ranks = order
        self._table = [-1] * slots
        self._fill([names[position] for position in order], shares)

    def _fill(self, names: list[bytes], shares: list[float]) -> None:
        largest = max(shares)
        targets = [0.0] * self.count
        slots = [xxh64(name) % self.size for name in names]
        skips = [xxh64(name, 1) % (self.size - 1) + 1 for name in names]
        filled = turn = 0
        while True:
            turn += 1
            for number, position in enumerate(self._ranks):
                if turn * shares[number] < targets[number]:
                    continue
                targets[number] += largest
                while self._table[slots[number]] >= 0:
                    slots[number] = (slots[number] + skips[number]) % self.size
                self._table[slots[number]] = position
                filled += 1
                if filled == self.size:
                    return

    def _place(self, hashed: int, attempt: int) -> int:
        return self._table[(hashed ^ -attempt & _MASK) % self.size]


def _names_of(keys: Iterable[bytes]) -> list[bytes]:
    """The keys as a list, each looked at."""
    names = list(keys)
    if not 0 < len(names) <= ENDPOINTS_MAX:
        raise LocalError(f"{len(names)} keys: there may be 1 to {ENDPOINTS_MAX}")
    for position, name in enumerate(names):
        if type(name) is not bytes:
            raise LocalError(f"key {position} is of type {type(name).__name__}: keys are bytes, encode it")
        if not 0 < len(name) <= KEY_BYTES_MAX:
            raise LocalError(f"key {position} is of {len(name)} bytes: there may be 1 to {KEY_BYTES_MAX}")
    if len(set(names)) < len(names):
        seen: set[bytes] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise LocalError(f"the key {twice!r} is given twice")
    return names


def _sorted_by_key(names: list[bytes]) -> list[int]:
    return sorted(range(len(names)), key=names.__getitem__)


def _weights_of(weights: Iterable[float] | None, count: int) -> list[float]:
    """As doubles, each looked at; all 1 if there are none."""
    if weights is None:
        return [1.0] * count
    taken = list(weights)
    if len(taken) != count:
        raise LocalError(f"{len(taken)} weights for {count} keys")
    for position, weight in enumerate(taken):
        if not WEIGHT_MIN <= weight <= WEIGHT_MAX:
            raise LocalError(f"weight {position} is {weight}: there may be 2^-32 to 2^32, leave out who gets nothing")
    return [float(weight) for weight in taken]


def _shares(weights: Iterable[float] | None, order: list[int], normalized: bool) -> list[float]:
    """The share of each in the given order, with a sum of 1."""
    taken = _weights_of(weights, len(order))
    ordered = [taken[position] for position in order]
    total = 0.0
    for weight in ordered:  # not `sum`, which rounds in its own way
        total += weight
    if normalized:
        if not 0.999999 < total < 1.000001:
            raise LocalError(f"the sum of normalized weights is {total}, not 1")
        return ordered
    return [weight / total for weight in ordered]


def _bytes(data: bytes) -> bytes:
    if type(data) is not bytes:
        raise LocalError(f"{type(data).__name__} can't be hashed: give bytes")
    return data


def _hash_of(name: str, value: int) -> int:
    """A number of 64 bits."""
    taken = operator.index(value)
    if not 0 <= taken <= _MASK:
        raise LocalError(f"{name} {value} is not 0 to 2^64 - 1")
    return taken


def _number_of(name: str, value: int, smallest: int, largest: int) -> int:
    taken = operator.index(value)
    if not smallest <= taken <= largest:
        raise LocalError(f"{name} {value} is not {smallest} to {largest}")
    return taken


def _is_prime(number: int) -> bool:
    divisor = 2
    while divisor * divisor <= number:
        if number % divisor == 0:
            return False
        divisor += 1
    return True
