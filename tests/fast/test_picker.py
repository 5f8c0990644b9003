"""The picker and its policies: both builds do the same, step by step, and nothing in flight is ever lost."""

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import pytest
from builds import builds
from hypothesis import given
from hypothesis import strategies as st

OK, ERROR, TIMEOUT, CONNECT_FAIL, CANCELLED, OVERLOAD = range(6)
DRAINED, EJECTED = 1, 4


class Kernels(NamedTuple):
    """One build of all kernels that pick."""

    picker: Any
    rotations: Any
    loads: Any
    hashed: Any
    hashing: Any
    tableless: Any
    prequal: Any


class Asked:
    """A context, as `distkit.balance.Context`."""

    def __init__(self, **given: Any) -> None:
        self.key = self.override = self.priority = None
        self.exclude: tuple[Any, ...] = ()
        self.subset: tuple[tuple[str, str], ...] = ()
        self.attempt = 0
        self.__dict__ |= given


def both() -> list[Any]:
    """The builds as parameters."""
    modules = [builds(name) for name in Kernels._fields]
    return [
        pytest.param(Kernels(*(each.values[0] for each in one)), id=one[0].id, marks=one[0].marks)
        for one in zip(*modules, strict=True)
    ]


BOTH = both()
TWIN: Kernels = BOTH[0].values[0]

KEYS = {slot: str(slot).encode() for slot in range(1000)}


def hashed(kernels: Kernels, picker: Any, build: Any, *arguments: Any) -> Any:
    """A view of hashes."""
    return kernels.hashed.Hashed(picker, build, KEYS, *arguments)


def small_ring(kernels: Kernels) -> Any:
    """What makes rings that the twin can make often."""
    return lambda names, weights: kernels.hashing.Ring.envoy(names, weights, 16, 64)


POLICIES: dict[str, Callable[[Kernels, Any], Any]] = {
    "round robin": lambda kernels, picker: kernels.rotations.RoundRobin(picker),
    "smooth": lambda kernels, picker: kernels.rotations.Smooth(picker, 2),
    "stride": lambda kernels, picker: kernels.rotations.Stride(picker),
    "stride as Go": lambda kernels, picker: kernels.rotations.Stride(picker, False, False),
    "edf": lambda kernels, picker: kernels.rotations.EarliestDeadline(picker),
    "edf with bias": lambda kernels, picker: kernels.rotations.EarliestDeadline(picker, 1.0, False),
    "edf with odd bias": lambda kernels, picker: kernels.rotations.EarliestDeadline(picker, 0.7),
    "first": lambda kernels, picker: kernels.rotations.FirstAvailable(picker),
    "uniform": lambda kernels, picker: kernels.loads.Uniform(picker),
    "weighted": lambda kernels, picker: kernels.loads.Weighted(picker),
    "two choices": lambda kernels, picker: kernels.loads.Choices(picker),
    "three different": lambda kernels, picker: kernels.loads.Choices(picker, 3, False),
    "two by weight": lambda kernels, picker: kernels.loads.Choices(picker, 2, False, True, 1),
    "two by weight, again": lambda kernels, picker: kernels.loads.Choices(picker, 2, True, True, 2),
    "all": lambda kernels, picker: kernels.loads.Choices(picker, 0, True, False, 3),
    "peak ewma": lambda kernels, picker: kernels.loads.Choices(picker, 2, False, False, 4),
    "tower": lambda kernels, picker: kernels.loads.Choices(picker, 2, False, False, 4, 1.0, 0.01),
    "envoy ewma": lambda kernels, picker: kernels.loads.Choices(picker, 2, True, False, 5),
    "least": lambda kernels, picker: kernels.loads.LeastConnections(picker),
    "least by chance": lambda kernels, picker: kernels.loads.LeastConnections(picker, 2, 1),
    "haproxy": lambda kernels, picker: kernels.loads.LeastConnections(picker, 3),
    "least time": lambda kernels, picker: kernels.loads.LeastTime(picker),
    "prequal": lambda kernels, picker: kernels.prequal.Prequal(picker, 2.5, 0.7, 4),
    "ring": lambda kernels, picker: hashed(kernels, picker, small_ring(kernels)),
    "ring, bounded": lambda kernels, picker: hashed(kernels, picker, small_ring(kernels), True, True, 125),
    "maglev, bounded as Envoy": lambda kernels, picker: hashed(
        kernels, picker, lambda names, weights: kernels.hashing.Maglev(names, weights, 101), True, True, 110, 2
    ),
    "rendezvous": lambda kernels, picker: hashed(kernels, picker, kernels.tableless.Rendezvous, True, True, 100, 0, 1),
    "jump": lambda kernels, picker: hashed(
        kernels, picker, lambda names, weights: kernels.tableless.Jump(len(names)), False, False
    ),
    "anchor, bounded": lambda kernels, picker: hashed(
        kernels, picker, lambda names, weights: kernels.tableless.Anchor(200, 1), False, False, 150, 0, 2
    ),
}


class Story:
    """Everything that can happen to a picker, drawn from a seed; `told` is what came of it."""

    def __init__(self, kernels: Kernels, policy: str, seed: int) -> None:
        self.random = Random(seed)
        self.picker = kernels.picker.Picker(seed)
        self.policies = [POLICIES[policy](kernels, self.picker) for _ in range(3)]
        self.views = [self.picker.attach(view) for view in self.policies]
        self.slots: list[int] = []
        self.draining: list[int] = []
        self.handles: list[int] = []
        self.given: list[int] = []
        self.now = 0.0
        self.told: list[Any] = []
        self.picker.listener = self
        self.picker.streak_max = 3
        for index in self.views:
            self.picker.mask(index, DRAINED | EJECTED)
        for _ in range(self.random.randint(0, 6)):
            self.add()
        for index in self.views:
            self.picker.start(index)
        self.route()

    def failing(self, slot: int, now: float) -> None:
        self.told.append(("failing", slot, now))

    def overloaded(self, slot: int, now: float) -> None:
        self.told.append(("overloaded", slot, now))

    def reported(self, slot: int, report: Any, now: float) -> None:
        self.told.append((report, slot, now))

    def weight(self) -> float:
        return self.random.choice([1.0, 1.0, 2.0, 5.0, self.random.random() + 0.01, 4294967295.0])

    def add(self) -> None:
        slot = self.picker.add(self.weight(), self.random.choice([0, 0, 1, 3]), self.random.getrandbits(2))
        self.picker.slots[f"e{slot}"] = slot
        self.slots.append(slot)
        self.picker.move(slot, self.random.choice(self.views))

    def remove(self) -> None:
        slot = self.slots.pop(self.random.randrange(len(self.slots)))
        del self.picker.slots[f"e{slot}"]
        if self.picker.load(slot)[1]:
            self.draining.append(slot)
        self.picker.remove(slot)

    def revive(self) -> None:
        slot = self.random.choice(self.draining)
        flags, active, _weight, _latency = self.picker.load(slot)
        if flags >> 16 and active:  # else another tenant has the slot
            self.picker.revive(slot)
            self.picker.move(slot, self.random.choice(self.views))
            self.slots.append(slot)
            self.picker.slots[f"e{slot}"] = slot
        self.draining.remove(slot)

    def route(self) -> None:
        ends = sorted(self.random.choice([0, 40, 100]) for _ in range(2))
        order = self.random.sample(self.views, 3)
        self.picker.route(order, [*ends, 100], [self.random.randrange(2) for _ in order], 100)

    def context(self) -> Asked | int | None:
        chance = self.random.random()
        if chance < 0.6:
            return None if chance < 0.4 else self.random.getrandbits(64)
        tried = tuple(self.random.sample(self.handles, min(len(self.handles), 2)))
        names = (f"e{self.random.choice(self.slots)}",) if self.slots else ()
        return Asked(
            key=self.random.choice([None, self.random.getrandbits(64)]),
            exclude=self.random.choice([(), tried, names]),
            override=self.random.choice([None, None, "nobody", *names]),
            priority=self.random.choice([None, None, 0, 1, 2]),
            subset=self.random.choice([(), (), (("a", "b"),), (("c", "d"),), (("no", "such"),)]),
            attempt=self.random.randrange(3),
        )

    def step(self) -> None:
        random, picker = self.random, self.picker
        self.now += random.choice([0.0, 0.001, 0.1, 20.0, -1.0])
        chance = random.random()
        if chance < 0.45:
            handle = picker.pick(self.context(), self.now)
            self.told.append(handle)
            if handle >= 0:
                self.handles.append(handle)
        elif chance < 0.8:
            if self.handles:
                handle = self.handles.pop(random.randrange(len(self.handles)))
                self.given.append(handle)
                report = random.choice([None, None, "report"])
                self.told.append(picker.done(handle, random.randrange(6), random.random() / 8, self.now, report))
        elif chance < 0.82:
            if self.slots:
                self.remove()
        elif chance < 0.84:
            if self.draining:
                self.revive()
        elif chance < 0.88:
            self.add()
        elif not self.slots:
            self.route()
        else:
            self.change(random.choice(self.slots))
        self.look()

    def change(self, slot: int) -> None:
        random, picker = self.random, self.picker
        what = random.randrange(9)
        if what < 3:
            flags = random.choice([DRAINED, EJECTED])
            picker.flag(slot, *random.choice([(flags, 0), (0, flags), (0, flags)]))
        elif what == 3:
            picker.weigh(slot, self.weight())
        elif what == 4:
            picker.bound(slot, random.randrange(4))
        elif what == 5:
            picker.move(slot, random.choice([-1, *self.views]))
        elif what == 8:
            picker.rank(slot, random.randrange(5))
        elif what == 6:
            picker.mask(random.choice(self.views), random.choice([DRAINED, DRAINED | EJECTED]))
        else:
            self.told.append(picker.counters(slot))

    def look(self) -> None:
        loads = [self.picker.load(slot) for slot in range(self.picker.count)]
        if hasattr(self.policies[0], "take_probes"):
            for view in self.policies:
                self.told.append((view.pooled, view.pending))
                for handle in view.take_probes()[: self.random.randrange(3)]:
                    self.told.append(view.probed(handle, self.random.randrange(5), self.random.random()))
        self.told.append((loads, [self.picker.members(index) for index in self.views], self.picker.seed))
        assert sum(active for _flags, active, _weight, _latency in loads) == self.picker.outstanding
        assert self.picker.outstanding == len(self.handles)
        assert self.picker.full == sum(flags >> 4 & 1 for flags, *_ in loads)


@pytest.fixture(params=BOTH, scope="module")
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return request.param


@pytest.mark.parametrize("kernels", BOTH[1:])
@pytest.mark.parametrize("policy", POLICIES)
@given(seed=st.integers(0, 1 << 32), steps=st.integers(1, 150))
def test_both_builds_do_the_same(kernels: Kernels, policy: str, seed: int, steps: int) -> None:
    story, other = Story(kernels, policy, seed), Story(TWIN, policy, seed)
    for _ in range(steps):
        story.step()
        other.step()
        assert story.told == other.told
        story.told.clear()
        other.told.clear()


def test_tags_are_bits(kernels: Kernels) -> None:
    picker = kernels.picker.Picker(1)
    view = picker.attach(kernels.loads.Uniform(picker))
    picker.labels.update({("a", "b"): 1, ("c", "d"): 2})
    slots = [picker.add(1.0, 0, labels) for labels in (0, 1, 2, 3)]
    for slot in slots:
        picker.move(slot, view)
    picker.mask(view, 0)
    picker.route([view], [1], [0], 1)
    both_tags = {picker.pick(Asked(subset=(("a", "b"), ("c", "d"))), 0.0) for _ in range(20)}
    assert {picker.slot(handle) for handle in both_tags} == {slots[3]}
    one_tag = {picker.pick(Asked(subset=(("a", "b"),)), 0.0) for _ in range(50)}
    assert {picker.slot(handle) for handle in one_tag} == {slots[1], slots[3]}
    assert picker.pick(Asked(subset=(("x", "y"),)), 0.0) == kernels.picker.NO_ENDPOINT
