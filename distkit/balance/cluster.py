"""A cluster: endpoints, who of them is well, and a policy that chooses one for each request.

    cluster = Cluster(ClusterOptions(policy=LeastRequest()), random.Random(7))
    cluster.update([Endpoint("a", "10.0.0.1:80"), Endpoint("b", "10.0.0.2:80")], now)
    handle = cluster.pick(None, now)                                 # or Context(key=..., exclude=...)
    ... send the request to cluster.endpoint(handle).address ...
    cluster.done(handle, Outcome.OK, latency, now)

and whenever `deadline()` has come, `tick(now)`; after either, `events()` says what happened and which probes to send.
Nothing waits and nothing is called back. The cluster decides who is eligible in `update`, `tick` and `set_gate`;
`pick`, `pick_many` and `done` are the kernel's own methods and touch only what it published.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from distkit._fast.picker import Picker
from distkit._fast.prequal import Prequal
from distkit.balance import checks
from distkit.balance.bounds import instant, number, whole
from distkit.balance.endpoints import WEIGHT_MAX, WEIGHT_MIN, Context, Endpoint, Gate, Outcome
from distkit.balance.events import Checked, Ejected, Event, PanicOff, PanicOn, Probe, Restored
from distkit.balance.outliers import Ejection, OutlierOptions, Outliers, Return
from distkit.balance.policies import FirstAvailable, HashPolicy, LeastRequest, Policy
from distkit.balance.reports import LoadReport, ReportOptions, Reports
from distkit.balance.routing import CLOSED, CLOSED_IN_PANIC, SCALE, Key, Route, ZoneOptions
from distkit.balance.slow_start import SlowStart
from distkit.balance.status import ClusterStatus, EndpointStatus
from distkit.balance.subsets import random_subset
from distkit.core import LocalError, record

if TYPE_CHECKING:
    from random import Random

ENDPOINTS_MAX = 1 << 20
EVENTS_MAX = 10_000
LABELS_MAX = 64

#: How often weights that change with time are set anew, in seconds.
REFRESH = 1.0

#: What OVERLOAD makes of an endpoint's weight each time, the least share that is left, and the seconds in which all
#: of it comes back.
OVERLOAD_FACTOR = 0.8
OVERLOAD_LEAST = 0.1
OVERLOAD_RECOVERY = 10.0


#: Probes of the load are counted from here on, those of checks from 1. The oldest that nobody answered are forgotten.
LOAD_PROBE = 1 << 62
ASKED_MAX = 10_000


@record
class ClusterOptions:
    """What a cluster does beside choosing. All is off by default, but for panic and priorities, which are Envoy's.

    `concurrency_max` bounds the requests in flight of the whole cluster, 0 means no bound. `drop` is the share of
    requests that is shed. `panic_threshold` is percent, 0: never. `subset_tags` are the names of tags that
    `Context.subset` may use; endpoints may have 64 different pairs of such tags in all. `subset_size`: use a random
    subset of so many endpoints (0: all). `hash_by` says what hash policies know endpoints by: "id" or "address".
    """

    policy: Policy = LeastRequest()
    concurrency_max: int = 0
    drop: float = 0.0
    overprovisioning: int = 140
    panic_threshold: int = 50
    subset_tags: tuple[str, ...] = ()
    subset_size: int = 0
    hash_by: str = "id"
    zones: ZoneOptions | None = None
    slow_start: SlowStart | None = None
    outliers: OutlierOptions | None = None
    checks: checks.CheckOptions | None = None
    reports: ReportOptions | None = None

    def check(self) -> None:
        """Raise LocalError unless the options make sense."""
        if not isinstance(self.policy, Policy):
            raise LocalError(f"policy must be a policy (policies.named('round_robin'), say), not {self.policy!r}")
        self.policy.check()
        whole("concurrency_max", self.concurrency_max, 0, 1 << 40)
        number("drop", self.drop, 0, 1)
        whole("overprovisioning", self.overprovisioning, 100, 1_000_000)
        whole("panic_threshold", self.panic_threshold, 0, 100)
        whole("subset_size", self.subset_size, 0, ENDPOINTS_MAX)
        if self.hash_by not in ("id", "address"):
            raise LocalError(f"hash_by must be 'id' or 'address', not {self.hash_by!r}")
        for part in (self.zones, self.slow_start, self.outliers, self.checks, self.reports):
            if part is not None:
                part.check()


@record
class Diff:
    """Ids of endpoints that came, went, or are described differently now."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]


class _Member:
    """What the cluster itself knows of an endpoint, beside its row in the table."""

    __slots__ = ("drained", "endpoint", "gate", "key", "overload", "overloaded_at", "slot", "well_since")

    def __init__(self, endpoint: Endpoint, slot: int) -> None:
        self.endpoint = endpoint
        self.slot = slot
        self.gate = Gate(0)
        self.drained = False  # by set_gate, whatever its description says
        self.key: Key | None = None  # of its view; None: in none yet
        self.well_since = -math.inf  # slow start counts from here
        self.overload = 1.0
        self.overloaded_at = 0.0


class Cluster:
    """See the module. One cluster is for one thread at a time."""

    #: (context, the hash of the request alone, or None; now) -> a handle, or NO_ENDPOINT, SATURATED or DROPPED (< 0).
    pick: Callable[[Context | int | None, float], int]
    #: (n or a buffer of 64-bit hashes, a writable buffer of int64, now) -> how many were written; as so many picks.
    pick_many: Callable[[Any, Any, float], int]
    #: (handle, outcome, latency in seconds, now, report=None) -> False if the handle is stale: counted and ignored.
    done: Callable[..., bool]

    def __init__(self, options: ClusterOptions, rng: Random) -> None:
        options.check()
        self.options = options
        self.picker = Picker(rng.getrandbits(64))
        self.pick = self.picker.pick
        self.pick_many = self.picker.pick_many
        self.done = self.picker.done
        self.events_lost = 0
        self._subset_seed = rng.getrandbits(64)
        self._members: dict[str, _Member] = {}
        self._by_slot: dict[int, Endpoint] = {}
        self._draining: dict[str, tuple[int, int]] = {}  # id -> (slot, handle) of rows that were removed in use
        self._keys: dict[int, bytes] = {}
        self._views: dict[Key, int] = {}
        self._unstarted: list[int] = []
        self._probing: dict[Key, Prequal] = {}
        self._asked: dict[int, int] = {}  # probe id -> handle
        self._asked_last = 0
        self._route = Route(options.overprovisioning, options.panic_threshold, options.zones)
        self._loads: dict[int, int] = {}
        self._panic: set[int] = set()
        self._events: list[Event] = []
        self._now = -math.inf
        self._began = False
        self._refresh = math.inf
        self._mean = 1.0
        self._dirty = False
        self._picks = 0
        self._outliers = None if options.outliers is None else Outliers(options.outliers, rng)
        self._checks = None if options.checks is None else checks.Checks(options.checks, rng)
        self._reports = None if options.reports is None else Reports(options.reports)
        self.picker.listener = self
        self.picker.limit = options.concurrency_max
        self.picker.drop = min(0xFFFFFFFF, int(options.drop * 4294967296))
        self.picker.by_hash = options.policy.by_hash
        self.picker.spare_draw = isinstance(options.policy, LeastRequest) and options.policy.spare_draw
        self.picker.streak_max = 0 if options.outliers is None else options.outliers.consecutive_errors

    # Endpoints and gates.

    def update(self, endpoints: Iterable[Endpoint], now: float) -> Diff:
        """These are the endpoints now. State stays with those whose id was known, requests in flight included."""
        wanted = self._wanted(endpoints)
        now = self._now = instant(now, self._now)
        removed = tuple(id for id in self._members if id not in wanted)
        added = tuple(id for id in wanted if id not in self._members)
        changed = tuple(
            id for id, endpoint in wanted.items() if id in self._members and self._members[id].endpoint != endpoint
        )
        self._take_labels(wanted)
        self._forget_drained()
        for id in removed:
            self._remove(self._members.pop(id))
        for id in added:
            self._members[id] = self._add(wanted[id], now)
        self._members = {id: self._members[id] for id in wanted}
        for id in changed:
            self._describe(self._members[id], wanted[id])
        for part in (self._outliers, self._checks):
            if part is not None:
                part.update(wanted, now)
        if self._reports is not None:
            self._reports.update(wanted)
        self._weigh_all(now)
        self._choose_subset()
        for id in (*added, *changed):
            self._place(self._members[id])
        if isinstance(self.options.policy, FirstAvailable):
            for rank, member in enumerate(self._members.values()):
                self.picker.rank(member.slot, rank)
        self._publish()
        for index in self._unstarted:
            self.picker.start(index)
        self._unstarted.clear()
        self._began = self._began or bool(wanted)
        return Diff(added, removed, changed)

    def set_gate(self, id: str, gate: Gate, closed: bool, now: float) -> None:
        """Close or open an endpoint's gate for one reason. DRAINED is the one that is for the endpoint's owner.

        What its description drains (`drained`, or a weight of 0) stays drained, and what is drained here stays so over
        updates.
        """
        if not isinstance(gate, Gate) or gate & Gate.SATURATED or gate & ~Gate(511):
            raise LocalError(f"gate must be of Gate, without SATURATED, which the cluster keeps itself; not {gate!r}")
        member = self._member(id)
        self._now = instant(now, self._now)
        if gate & Gate.DRAINED:
            member.drained = closed
            self._drain(member)
            gate &= ~Gate.DRAINED
        self._change_gate(member, gate if closed else Gate(0), Gate(0) if closed else gate)
        self._publish()

    def endpoint(self, handle: int) -> Endpoint:
        """The endpoint that a handle names, even if it was removed meanwhile and is still in use."""
        slot = self.picker.slot(handle)
        if slot < 0:
            raise LocalError(f"the handle {handle} names no endpoint (any more)")
        return self._by_slot[slot]

    @property
    def concurrency_max(self) -> int:
        """The bound on requests in flight of the whole cluster, 0 for none. It may be set at any time."""
        return self.picker.limit

    @concurrency_max.setter
    def concurrency_max(self, limit: int) -> None:
        self.picker.limit = whole("concurrency_max", limit, 0, 1 << 40)

    # Time.

    def tick(self, now: float) -> None:
        """Do what is due: sweeps, checks, weights. Early, late and repeated calls are harmless."""
        now = self._now = instant(now, self._now)
        if self._checks is not None:
            if self.picker.picks != self._picks:
                self._picks = self.picker.picks
                self._checks.traffic(now)
            self._take_checks(self._checks.tick(now))
        if self._outliers is not None and self._outliers.deadline() <= now:
            for id, member in self._members.items():
                self._outliers.add(id, *self.picker.counters(member.slot))
            for decision in self._outliers.tick(now):
                self._take_decision(decision)
        if self._refresh <= now:
            self._weigh_all(now)
        self._publish()

    def deadline(self) -> float:
        """When `tick` or `events` has something to do next; infinity if never."""
        times = [self._refresh]
        if self._outliers is not None:
            times.append(self._outliers.deadline())
        if self._checks is not None:
            times.append(self._checks.deadline())
        if any(view.pending for view in self._probing.values()):
            times.append(self.picker.now)
        return min(times)

    def events(self) -> list[Event]:
        """What happened since the last call; the oldest are left out if it is more than 10,000.

        Prequal asks for probes at each pick: look here after it.
        """
        found, self._events = self._events, []
        for view in self._probing.values():
            for handle in view.take_probes():
                if (slot := self.picker.slot(handle)) >= 0:
                    self._asked_last += 1
                    self._asked[LOAD_PROBE | self._asked_last] = handle
                    found.append(Probe(self._by_slot[slot].id, LOAD_PROBE | self._asked_last, "load"))
        while len(self._asked) > ASKED_MAX:
            del self._asked[next(iter(self._asked))]
        return found

    def probed(self, probe_id: int, outcome: Outcome, in_flight: int, latency: float, now: float) -> None:
        """The answer to a probe. For a check only the outcome counts: OK is well, everything else is not.

        For a probe of the load `in_flight` and `latency` are what the endpoint says; without OK they are ignored.
        """
        whole("in_flight", in_flight)
        number("latency", latency)
        now = self._now = instant(now, self._now)
        if probe_id & LOAD_PROBE:
            handle = self._asked.pop(probe_id, -1)
            endpoint = self._by_slot.get(self.picker.slot(handle))
            member = None if endpoint is None else self._members.get(endpoint.id)
            if member is not None and member.key is not None and outcome == Outcome.OK:
                self.picker.observe(now)
                if view := self._probing.get(member.key):
                    view.probed(handle, in_flight, latency)
        elif self._checks is not None:
            self._take_checks(self._checks.answered(probe_id, outcome == Outcome.OK, now))
            self._publish()

    def status(self) -> ClusterStatus:
        """All of it, for people and metrics. It is a copy."""
        rows = []
        for member in self._members.values():
            endpoint = member.endpoint
            flags, active, weight, latency = self.picker.load(member.slot)
            gate = Gate(flags & 511)
            rows.append(
                EndpointStatus(
                    *(endpoint.id, endpoint.address, endpoint.priority, endpoint.locality, gate),
                    *(active, 0.0 if gate & Gate.DRAINED else weight, latency),
                )
            )
        in_flight = self.picker.outstanding
        return ClusterStatus(
            policy=self.options.policy.name,
            endpoints=tuple(rows),
            in_flight=in_flight,
            draining=in_flight - sum(row.in_flight for row in rows),
            picks=self.picker.picks,
            stale=self.picker.stale,
            loads=dict(self._loads),
            panic=tuple(sorted(self._panic)),
            events_lost=self.events_lost,
        )

    # What the kernel tells.

    def failing(self, slot: int, now: float) -> None:
        """See Listener of the picker."""
        if self._outliers is not None:
            self._now = instant(now, self._now)
            decision = self._outliers.streak(self._by_slot[slot].id, now)
            if decision is not None:
                self._take_decision(decision)
                self._publish()

    def overloaded(self, slot: int, now: float) -> None:
        """See Listener of the picker."""
        member = self._members[self._by_slot[slot].id]
        member.overload = max(OVERLOAD_LEAST, self._recovered(member, now) * OVERLOAD_FACTOR)
        member.overloaded_at = now
        self._refresh = min(self._refresh, now + REFRESH)
        self._weigh(member, now)

    def reported(self, slot: int, report: Any, now: float) -> None:
        """See Listener of the picker."""
        if not isinstance(report, LoadReport):
            raise LocalError(f"a report must be a LoadReport, not {report!r}")
        if self._reports is not None:
            self._reports.report(self._by_slot[slot].id, report, now)

    # Inside.

    def _wanted(self, endpoints: Iterable[Endpoint]) -> dict[str, Endpoint]:
        """By id, all looked at before anything changes."""
        wanted: dict[str, Endpoint] = {}
        for endpoint in endpoints:
            if not isinstance(endpoint, Endpoint):
                raise LocalError(f"endpoints must be of Endpoint, not {endpoint!r}")
            if endpoint.id in wanted:
                raise LocalError(f"two endpoints have the id {endpoint.id!r}: give each one once")
            wanted[endpoint.id] = endpoint
            if len(wanted) > ENDPOINTS_MAX // 2:
                raise LocalError(f"a cluster has at most {ENDPOINTS_MAX // 2} endpoints")
        if self.options.hash_by == "address" and self.options.policy.by_hash:
            addresses = [endpoint.address for endpoint in wanted.values()]
            if len(set(addresses)) != len(addresses) or "" in addresses:
                raise LocalError("to hash by address each endpoint needs an address of its own")
        policy = self.options.policy
        if isinstance(policy, HashPolicy) and len(wanted) > policy.endpoints_max():
            raise LocalError(f"{policy.name} takes at most {policy.endpoints_max()} endpoints, not {len(wanted)}")
        pairs = {tag for endpoint in wanted.values() for tag in self._labels(endpoint)}
        if len(pairs) > LABELS_MAX:
            raise LocalError(
                f"endpoints have {len(pairs)} different pairs of the tags {', '.join(self.options.subset_tags)}: "
                f"at most {LABELS_MAX} can be used for subsets"
            )
        return wanted

    def _labels(self, endpoint: Endpoint) -> list[tuple[str, str]]:
        tags = cast("tuple[tuple[str, str], ...]", endpoint.tags)
        return [tag for tag in tags if tag[0] in self.options.subset_tags]

    def _take_labels(self, wanted: dict[str, Endpoint]) -> None:
        """A bit for each pair of tags; those that are still in use keep theirs."""
        if not self.options.subset_tags:
            return
        pairs = {tag: None for endpoint in wanted.values() for tag in self._labels(endpoint)}
        labels = self.picker.labels
        for tag in [tag for tag in labels if tag not in pairs]:
            del labels[tag]
        free = (bit for bit in range(LABELS_MAX) if 1 << bit not in set(labels.values()))
        for tag in [tag for tag in pairs if tag not in labels]:
            labels[tag] = 1 << next(free)

    def _forget_drained(self) -> None:
        self._draining = {id: (slot, h) for id, (slot, h) in self._draining.items() if self.picker.slot(h) == slot}

    def _add(self, endpoint: Endpoint, now: float) -> _Member:
        slot, _handle = self._draining.pop(endpoint.id, (-1, -1))
        if slot >= 0:
            self.picker.revive(slot)
            self.picker.flag(slot, 0, CLOSED | Gate.DEGRADED)
        else:
            slot = self.picker.add(1.0)
        member = _Member(endpoint, slot)
        if self._began:
            member.well_since = now
        self._describe(member, endpoint)
        return member

    def _describe(self, member: _Member, endpoint: Endpoint) -> None:
        """Everything of a description but its weight and its view."""
        slot = member.slot
        member.endpoint = endpoint
        self._by_slot[slot] = endpoint
        self.picker.slots[endpoint.id] = slot
        self.picker.bound(slot, endpoint.concurrency_max)
        self.picker.label(slot, sum(self.picker.labels[tag] for tag in self._labels(endpoint)))
        key = (endpoint.id if self.options.hash_by == "id" else endpoint.address).encode(errors="surrogatepass")
        if self._keys.get(slot) != key:
            # Hash policies read keys when they make their order anew, which the move makes them do.
            self._unplace(member)
            self._keys[slot] = key
        self._drain(member)

    def _drain(self, member: _Member) -> None:
        """Close or open the gate for all that drains an endpoint: its owner's word, its description, its weight."""
        drained = member.drained or member.endpoint.drained or member.endpoint.weight == 0
        self._change_gate(member, *((Gate.DRAINED, Gate(0)) if drained else (Gate(0), Gate.DRAINED)))

    def _remove(self, member: _Member) -> None:
        slot = member.slot
        self._unplace(member)
        if self.picker.load(slot)[1]:
            self._draining[member.endpoint.id] = slot, self.picker.handle(slot)
        self.picker.remove(slot)
        del self.picker.slots[member.endpoint.id]

    def _unplace(self, member: _Member) -> None:
        if member.key is not None:
            self._route.count(member.key, member.gate, -1)
            self.picker.move(member.slot, -1)
            member.key = None
            self._dirty = True

    def _place(self, member: _Member) -> None:
        """Take an endpoint to the view that it belongs to."""
        key = self._route.key(member.endpoint.priority, member.endpoint.locality, member.gate)
        if key != member.key:
            self._unplace(member)
            member.key = key
            self._route.count(key, member.gate, 1)
            self.picker.move(member.slot, self._view(key))
            self._dirty = True

    def _view(self, key: Key) -> int:
        index = self._views.get(key)
        if index is None:
            view = self.options.policy.view(self.picker, self._keys)
            index = self.picker.attach(view)
            if isinstance(view, Prequal):
                self._probing[key] = view
            self.picker.mask(index, CLOSED_IN_PANIC if key[0] in self._panic else CLOSED)
            self._views[key] = index
            self._unstarted.append(index)
        return index

    def _change_gate(self, member: _Member, closed: Gate, opened: Gate) -> None:
        gate = (member.gate | closed) & ~opened
        if gate == member.gate:
            return
        if member.gate & CLOSED and not gate & CLOSED and self._began:
            member.well_since = self._now
            self._refresh = min(self._refresh, self._now + REFRESH)
        if member.key is not None:
            self._route.count(member.key, member.gate, -1)
            self._route.count(member.key, gate, 1)
        member.gate = gate
        self.picker.flag(member.slot, closed, opened)
        self._dirty = True
        if member.key is not None:
            self._place(member)  # DEGRADED decides the view
            if member.well_since == self._now:
                self._weigh(member, self._now)

    def _choose_subset(self) -> None:
        size = self.options.subset_size
        if not size:
            return
        members = list(self._members.values())
        names = [member.endpoint.address or member.endpoint.id for member in members]
        chosen = set(random_subset(names, size, self._subset_seed))
        for place, member in enumerate(members):
            outside = (Gate(0), Gate.OUT_OF_SUBSET) if place in chosen else (Gate.OUT_OF_SUBSET, Gate(0))
            self._change_gate(member, *outside)

    # Weights.

    def _weigh_all(self, now: float) -> None:
        """Set all weights, and say when that has to be done again."""
        known = [weight for member in self._members.values() if (weight := self._known_weight(member, now))]
        self._mean = sum(known) / len(known) if known else 1.0
        changing = self._reports is not None and bool(self._members)
        for member in self._members.values():
            self._weigh(member, now)
            changing = changing or self._recovered(member, now) < 1 or self._slow(member, now) < 1
        self._refresh = now + REFRESH if changing else math.inf

    def _weigh(self, member: _Member, now: float) -> None:
        weight = self._known_weight(member, now) or self._mean
        if not self.options.policy.by_hash:
            # A table of hashes that follows every change of a weight would move keys all the time.
            weight *= self._slow(member, now) * self._recovered(member, now)
        self.picker.weigh(member.slot, min(WEIGHT_MAX, max(WEIGHT_MIN, weight)))

    def _known_weight(self, member: _Member, now: float) -> float | None:
        """None: unknown, or the endpoint is drained."""
        if self._reports is not None and member.endpoint.weight != 0:
            return self._reports.weight(member.endpoint.id, now)
        return member.endpoint.weight or None

    def _slow(self, member: _Member, now: float) -> float:
        slow_start = self.options.slow_start
        return 1.0 if slow_start is None else slow_start.factor(now - member.well_since)

    def _recovered(self, member: _Member, now: float) -> float:
        """The share of its weight that an endpoint has after it was overloaded."""
        if member.overload == 1:
            return 1.0
        return min(1.0, member.overload + (now - member.overloaded_at) / OVERLOAD_RECOVERY)

    # Decisions.

    def _publish(self) -> None:
        """Share the load anew, if anything has changed."""
        if not self._dirty:
            return
        self._dirty = False
        self._loads, panic, parts = self._route.shares()
        for key, index in self._views.items():
            if (key[0] in panic) != (key[0] in self._panic):
                self.picker.mask(index, CLOSED_IN_PANIC if key[0] in panic else CLOSED)
        for priority in sorted(panic ^ self._panic):
            self._tell(PanicOn(priority) if priority in panic else PanicOff(priority))
        self._panic = panic
        parts = [(key, part) for key, part in parts if key in self._views]
        ends = list(itertools.accumulate(part for _, part in parts))
        views = [self._views[key] for key, _ in parts]
        scale = ends[-1] if ends and ends[-1] else 1
        self.picker.route(views, ends if scale == SCALE else [scale] * len(ends), [key[0] for key, _ in parts], scale)

    def _take_decision(self, decision: Ejection | Return) -> None:
        member = self._members[decision.id]
        if isinstance(decision, Return):
            self._change_gate(member, Gate(0), Gate.EJECTED)
            self._tell(Restored(decision.id))
        else:
            self._change_gate(member, Gate.EJECTED, Gate(0))
            self._tell(Ejected(decision.id, decision.cause.value, decision.until))

    def _take_checks(self, found: Iterable[checks.Probe | checks.Checked]) -> None:
        for each in found:
            if isinstance(each, checks.Probe):
                self._tell(Probe(each.id, each.probe_id, "check"))
                continue
            closed, opened = (Gate(0), Gate.FAILED_CHECKS) if each.healthy else (Gate.FAILED_CHECKS, Gate(0))
            self._change_gate(self._members[each.id], closed, opened)
            self._tell(Checked(each.id, each.healthy))

    def _tell(self, event: Event) -> None:
        if len(self._events) >= EVENTS_MAX:
            self.events_lost += 1
            del self._events[0]
        self._events.append(event)

    def _member(self, id: str) -> _Member:
        member = self._members.get(id)
        if member is None:
            raise LocalError(f"no endpoint has the id {id!r}")
        return member
