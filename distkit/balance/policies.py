"""The policies by which a cluster chooses an endpoint: values, whose names are the words in TOML and on command lines.

    named("least_request", choices=3)      the same as LeastRequest(choices=3)

Policies of one cluster choose among the members of a view: the endpoints of one priority (and locality) whose gates are
open. What each costs and guarantees is said at its kernel, in `distkit._fast.pure`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, ClassVar, Final

from distkit._fast import bounded, hashing, loads, prequal, rotations, tableless
from distkit._fast.hashed import BUCKETS, REBUILD, SET_WEIGHT, Hashed
from distkit._fast.hashing import Order
from distkit._fast.picker import Picker
from distkit._fast.table import View
from distkit.balance.bounds import number, whole
from distkit.core import LocalError, record

_COSTS: Final = {
    "in_flight": loads.IN_FLIGHT,
    "next": loads.NEXT_IN_FLIGHT,
    "never_queue": loads.NEVER_QUEUE,
    "haproxy": loads.HAPROXY,
}
_TIES: Final = {"rotate": loads.ROTATE, "random": loads.RANDOM}
_RULES: Final = {"exact": bounded.EXACT, "envoy": bounded.ENVOY}
_EWMAS: Final = {"finagle": loads.PEAK_EWMA, "envoy": loads.ENVOY_EWMA}

#: Of an endpoint of weight 1 on the rings of libketama and nginx.
_POINTS: Final = 160

#: Keys of slots, as hash policies need them.
Keys = Mapping[int, bytes]


class Policy:
    """What a cluster needs to know of any of them."""

    __slots__ = ()
    name: ClassVar[str] = ""
    by_hash: ClassVar[bool] = False  # goes by `Context.key`

    def check(self) -> None:
        """Raise LocalError unless the options make sense."""
        self.view(Picker(0), {})

    def view(self, picker: Picker, keys: Keys) -> View:
        """A new view that chooses like this."""
        raise NotImplementedError


@record
class RoundRobin(Policy):
    """Each in turn. Weights count for nothing."""

    name: ClassVar[str] = "round_robin"
    random_phase: bool = True

    def view(self, picker: Picker, keys: Keys) -> View:
        """See Policy."""
        return rotations.RoundRobin(picker, self.random_phase)


@record
class WeightedRoundRobin(Policy):
    """nginx's smooth weighted round robin. A failure takes weight / max_fails until turns have given it back."""

    name: ClassVar[str] = "weighted_round_robin"
    max_fails: int = 1

    def view(self, picker: Picker, keys: Keys) -> View:
        """See Policy."""
        return rotations.Smooth(picker, whole("max_fails", self.max_fails))


@record
class StaticStride(Policy):
    """gRPC's weighted round robin. `clamp`: the bounds on weights of C-core; without, Go's scaling."""

    name: ClassVar[str] = "static_stride"
    clamp: bool = True
    random_phase: bool = True

    def view(self, picker: Picker, keys: Keys) -> View:
        """See Policy."""
        return rotations.Stride(picker, self.clamp, self.random_phase)


@record
class Edf(Policy):
    """Weighted round robin by earliest deadline first, as Envoy, from a random phase."""

    name: ClassVar[str] = "edf"
    random_phase: bool = True

    def view(self, picker: Picker, keys: Keys) -> View:
        """See Policy."""
        return rotations.EarliestDeadline(picker, 0.0, self.random_phase)


@record
class WeightedLeastRequest(Policy):
    """Envoy's least request for unequal weights: EDF with weight / (requests in flight + 1)^bias."""

    name: ClassVar[str] = "weighted_least_request"
    bias: float = 1.0
    random_phase: bool = True

    def view(self, picker: Picker, keys: Keys) -> View:
        """See Policy."""
        return rotations.EarliestDeadline(picker, number("bias", self.bias, 0, 100), self.random_phase)


@record
class Random(Policy):
    """Any, with equal chances."""

    name: ClassVar[str] = "random"

    def view(self, picker: Picker, keys: Keys) -> View:
        """See Policy."""
        return loads.Uniform(picker)


@record
class WeightedRandom(Policy):
    """Any, with chances by weight."""

    name: ClassVar[str] = "weighted_random"

    def view(self, picker: Picker, keys: Keys) -> View:
        """See Policy."""
        return loads.Weighted(picker)


@record
class LeastRequest(Policy):
    """The least loaded of some that are drawn, by requests in flight for each unit of weight.

    With `replacement` as Envoy and gRPC, without as Finagle; `weighted` draws by weight; `choices` 0 looks at all.
    `cost`: in_flight, next (one more: IPVS sed), never_queue (idle ones first: IPVS nq) or haproxy. `spare_draw` spends
    a random number on the choice of a priority even where there is one only, as Envoy does.
    """

    name: ClassVar[str] = "least_request"
    choices: int = 2
    replacement: bool = False
    weighted: bool = False
    cost: str = "in_flight"
    spare_draw: bool = False

    def view(self, picker: Picker, keys: Keys) -> View:
        """See Policy."""
        cost = _chosen("cost", self.cost, _COSTS)
        return loads.Choices(picker, whole("choices", self.choices, 0, 10), self.replacement, self.weighted, cost)


@record
class LeastConnections(Policy):
    """The least loaded of all, by the costs of `LeastRequest`. Equal ones rotate (`ties`), shuffled if random."""

    name: ClassVar[str] = "least_connections"
    cost: str = "in_flight"
    ties: str = "rotate"

    def view(self, picker: Picker, keys: Keys) -> View:
        """See Policy."""
        return loads.LeastConnections(picker, _chosen("cost", self.cost, _COSTS), _chosen("ties", self.ties, _TIES))


@record
class LeastTime(Policy):
    """nginx's least_time: average time to answer times (1 + requests in flight). Failures count for nothing."""

    name: ClassVar[str] = "least_time"
    fail_timeout: float = 10.0

    def view(self, picker: Picker, keys: Keys) -> View:
        """See Policy."""
        return loads.LeastTime(picker, number("fail_timeout", self.fail_timeout, 0, 1e9))


@record
class PeakEwma(Policy):
    """Latency times (1 + requests in flight), of some that are drawn. Latency rises at once and falls slowly.

    Times are seconds. `default_rtt` is what a new endpoint is believed to need; 0 is Finagle's rule, which sends it one
    request and waits. tower has tau 1 and default_rtt 0.01. `variant` envoy is a plain average, whose default_rtt is
    for idle endpoints only. A failure counts as at least `failure_penalty`, so failing fast attracts nothing.
    """

    name: ClassVar[str] = "peak_ewma"
    choices: int = 2
    replacement: bool = False
    variant: str = "finagle"
    tau: float = 10.0
    default_rtt: float = 0.0
    failure_penalty: float = 1.0

    def view(self, picker: Picker, keys: Keys) -> View:
        """See Policy."""
        return loads.Choices(
            picker,
            whole("choices", self.choices, 0, 10),
            self.replacement,
            False,
            _chosen("variant", self.variant, _EWMAS),
            number("tau", self.tau, 1e-6, 1e9),
            number("default_rtt", self.default_rtt, 0, 1e9),
            number("failure_penalty", self.failure_penalty, 0, 1e9),
        )


@record
class FirstAvailable(Policy):
    """The first in the order they were given; the next one while it is at its limit."""

    name: ClassVar[str] = "first_available"

    def view(self, picker: Picker, keys: Keys) -> View:
        """See Policy."""
        return rotations.FirstAvailable(picker)


@record
class Prequal(Policy):
    """By what probes of the endpoints found out: requests in flight there, from all clients, and latency.

    A pick asks for `probes` of them: take these from `Cluster.events`, answer by `Cluster.probed`. Times are seconds.
    The other options, and the rules, are said at `distkit._fast.pure.prequal.Prequal`.
    """

    name: ClassVar[str] = "prequal"
    probes: float = 3.0
    removals: float = 1.0
    pool: int = 16
    pool_min: int = 2
    age: float = 1.0
    quantile: float = 0.84
    delta: float = 1.0

    def view(self, picker: Picker, keys: Keys) -> View:
        """See Policy."""
        return prequal.Prequal(
            picker,
            number("probes", self.probes, 0, prequal.RATE_MAX),
            number("removals", self.removals, 0, prequal.RATE_MAX),
            whole("pool", self.pool, 1, prequal.POOL_MAX),
            whole("pool_min", self.pool_min, 1, prequal.POOL_MAX),
            number("age", self.age, 0, 1e9),
            number("quantile", self.quantile, 0, 1),
            number("delta", self.delta, 0, 1e9),
        )


class HashPolicy(Policy):
    """Those that go by `Context.key`; a request without one gets a random one.

    `bound` is 0, or the per cent (100 or more, 125 say) of its share of the load that anybody may have: what is above
    goes to the next candidates. `rule`: exact (never above) or envoy.
    """

    __slots__ = ()
    by_hash: ClassVar[bool] = True
    bound: int
    rule: str

    def endpoints_max(self) -> int:
        """How many endpoints a view can have."""
        return hashing.ENDPOINTS_MAX

    def _hashed(
        self,
        picker: Picker,
        keys: Keys,
        build: Callable[[list[bytes], list[float]], Order],
        by_key: bool = True,
        weighted: bool = True,
        changes: int = REBUILD,
    ) -> View:
        factor = whole("bound", self.bound, 0, bounded.FACTOR_MAX)
        rule = _chosen("rule", self.rule, _RULES)
        return Hashed(picker, build, keys, by_key, weighted, factor, rule, changes)


@record
class RingHash(HashPolicy):
    """Envoy's ring hash; with size_max 4096 that of gRPC. `function` is xxh64 or murmur2. Keys: xxh64 of requests'."""

    name: ClassVar[str] = "ring_hash"
    function: str = "xxh64"
    size_min: int = 1024
    size_max: int = 8 << 20
    bound: int = 0
    rule: str = "exact"

    def view(self, picker: Picker, keys: Keys) -> View:
        """See Policy."""
        options = self.size_min, self.size_max, self.function
        hashing.Ring.envoy([b"x"], None, *options)  # what makes no sense is refused now, not at the first pick
        return self._hashed(picker, keys, lambda names, weights: hashing.Ring.envoy(names, weights, *options))

    def endpoints_max(self) -> int:
        """See HashPolicy."""
        return self.size_max


@record
class Ketama(HashPolicy):
    """libketama's ring. Keys: `distkit._fast.hashing.ketama_hash` of the request's; endpoints are hashed by address."""

    name: ClassVar[str] = "ketama"
    bound: int = 0
    rule: str = "exact"

    def view(self, picker: Picker, keys: Keys) -> View:
        """See Policy."""
        return self._hashed(picker, keys, hashing.Ring.ketama)

    def endpoints_max(self) -> int:
        """See HashPolicy."""
        return hashing.RING_SIZE_MAX // _POINTS


@record
class NginxHash(HashPolicy):
    """nginx's `hash ... consistent`. Keys: crc32 of the request's. Weights count as the nearest whole numbers."""

    name: ClassVar[str] = "nginx_hash"
    bound: int = 0
    rule: str = "exact"

    def view(self, picker: Picker, keys: Keys) -> View:
        """See Policy."""
        return self._hashed(picker, keys, lambda names, weights: hashing.Ring.nginx(names, _whole_weights(weights)))

    def endpoints_max(self) -> int:
        """See HashPolicy."""
        return hashing.RING_SIZE_MAX // _POINTS


@record
class Maglev(HashPolicy):
    """Envoy's Maglev, whose table has `size` entries, a prime number."""

    name: ClassVar[str] = "maglev"
    size: int = 65537
    bound: int = 0
    rule: str = "exact"

    def view(self, picker: Picker, keys: Keys) -> View:
        """See Policy."""
        if not _is_prime(whole("size", self.size, 2, hashing.MAGLEV_SIZE_MAX)):
            raise LocalError(f"the size of a Maglev table must be a prime number (65537, say), not {self.size}")
        return self._hashed(picker, keys, lambda names, weights: hashing.Maglev(names, weights, self.size))

    def endpoints_max(self) -> int:
        """See HashPolicy."""
        return self.size


@record
class Rendezvous(HashPolicy):
    """Highest random weight: exact shares by weight and nothing to build, but each pick looks at all."""

    name: ClassVar[str] = "rendezvous"
    bound: int = 0
    rule: str = "exact"

    def view(self, picker: Picker, keys: Keys) -> View:
        """See Policy."""
        return self._hashed(picker, keys, tableless.Rendezvous, changes=SET_WEIGHT)


@record
class Jump(HashPolicy):
    """Jump consistent hash over the endpoints in the order they came; one that goes gives its place to the last one."""

    name: ClassVar[str] = "jump"
    bound: int = 0
    rule: str = "exact"

    def view(self, picker: Picker, keys: Keys) -> View:
        """See Policy."""
        return self._hashed(picker, keys, lambda names, weights: tableless.Jump(len(names)), False, False)


@record
class Anchor(HashPolicy):
    """AnchorHash: any endpoint comes and goes, and only what it owned moves. At most `capacity` of them in a view."""

    name: ClassVar[str] = "anchor"
    capacity: int = 1024
    bound: int = 0
    rule: str = "exact"

    def view(self, picker: Picker, keys: Keys) -> View:
        """See Policy."""
        whole("capacity", self.capacity, 1, hashing.ENDPOINTS_MAX)
        build = lambda names, weights: tableless.Anchor(self.capacity, 1)  # noqa: E731
        return self._hashed(picker, keys, build, False, False, BUCKETS)

    def endpoints_max(self) -> int:
        """See HashPolicy."""
        return self.capacity


@record
class MultiProbe(HashPolicy):
    """Multi-probe consistent hashing: one point an endpoint, `probes` hashes a pick. Weights count for nothing."""

    name: ClassVar[str] = "multi_probe"
    probes: int = 21
    bound: int = 0
    rule: str = "exact"

    def view(self, picker: Picker, keys: Keys) -> View:
        """See Policy."""
        whole("probes", self.probes, 1, tableless.PROBES_MAX)
        return self._hashed(
            picker, keys, lambda names, weights: tableless.MultiProbe(names, self.probes), weighted=False
        )


POLICIES: Final[dict[str, type[Policy]]] = {
    policy.name: policy
    for policy in (
        RoundRobin,
        WeightedRoundRobin,
        StaticStride,
        Edf,
        Random,
        WeightedRandom,
        LeastRequest,
        LeastConnections,
        WeightedLeastRequest,
        LeastTime,
        PeakEwma,
        Prequal,
        FirstAvailable,
        RingHash,
        Ketama,
        NginxHash,
        Maglev,
        Rendezvous,
        Jump,
        Anchor,
        MultiProbe,
    )
}

#: Other words for some of them, with what these words fix.
ALIASES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "p2c": ("least_request", {"choices": 2}),
    "sed": ("least_connections", {"cost": "next"}),
    "nq": ("least_connections", {"cost": "never_queue"}),
}


def named(name: str, **options: Any) -> Policy:
    """The policy of that name. LocalError says what there is, if the name or an option is unknown or out of range."""
    known, fixed = ALIASES.get(name, (name, {}))
    kind = POLICIES.get(known)
    if kind is None:
        raise LocalError(f"there is no policy {name!r}: choose one of {', '.join([*POLICIES, *ALIASES])}")
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # they all are records
    for option, value in options.items():
        if option not in names:
            said = f"its options are {', '.join(names)}" if names else "it has none"
            raise LocalError(f"{name} has no option {option!r}: {said}")
        default = getattr(kind(), option)
        fits = isinstance(value, int | float) if isinstance(default, float) else type(value) is type(default)
        if not fits or (isinstance(value, bool) and not isinstance(default, bool)):
            raise LocalError(f"{option} of {name} must be of type {type(default).__name__}, not {value!r}")
    policy = kind(**{**fixed, **options})
    policy.check()
    return policy


def _chosen(name: str, word: str, words: Mapping[str, int]) -> int:
    if word not in words:
        raise LocalError(f"{name} must be one of {', '.join(words)}, not {word!r}")
    return words[word]


def _whole_weights(weights: list[float]) -> list[float]:
    """As whole numbers, made smaller if a ring could not have so many points."""
    factor = min(1.0, (hashing.RING_SIZE_MAX / _POINTS - len(weights)) / sum(weights))
    return [float(max(1, round(weight * factor))) for weight in weights]


def _is_prime(value: int) -> bool:
    return value > 1 and all(value % divisor for divisor in range(2, int(value**0.5) + 1))
