"""The queueing simulator's kernel: single requests by hand, theory by seeds, and that both builds do the very same."""

from __future__ import annotations

import math
import random
from array import array
from importlib import import_module
from typing import Any

import pytest
from builds import builds
from hypothesis import given
from hypothesis import strategies as st

import distkit
from distkit.core import LocalError

SLOW, FAIL, HANG, PAUSE, CAPACITY = range(5)


class Build:
    """One build: its simulator, and pickers that fit to it."""

    def __init__(self, name: str, queueing: Any) -> None:
        place = "distkit._fast.pure" if name == "pure" else "distkit._fast"
        self.queueing = queueing
        self.picker = import_module(f"{place}.picker")
        self.loads = import_module(f"{place}.loads")

    def client(self, servers: int, policy: str = "LeastConnections", seed: int = 7) -> Any:
        made = self.picker.Picker(seed)
        view = made.attach(getattr(self.loads, policy)(made))
        for _ in range(servers):
            made.move(made.add(1.0), view)
        made.start(view)
        made.route([view], [1], [0], 1)
        return made


@pytest.fixture(params=builds("queueing"), scope="module")
def build(request: pytest.FixtureRequest) -> Build:
    return Build("pure" if ".pure." in request.param.__name__ else "compiled", request.param)


class Result:
    def __init__(self, run: Any, latencies: Any, served_by: Any, tries: Any) -> None:
        self.run, self.latencies, self.served_by, self.tries = run, list(latencies), list(served_by), list(tries)


def simulate(
    build: Build,
    servers: list[tuple[int, bool]],
    requests: list[tuple[float, float]],
    *,
    chances: list[float] | None = None,
    keys: list[int] | None = None,
    clients: list[int] | None = None,
    changes: list[tuple[float, int, int, float]] | None = None,
    pickers: list[Any] | None = None,
    **options: Any,
) -> Result:
    count = len(requests)
    run = build.queueing.Queueing(pickers or [build.client(len(servers))], servers, **options)
    out = array("d", bytes(8 * count)), array("i", bytes(4 * count)), array("i", bytes(4 * count))
    run.run(
        array("d", [time for time, _ in requests]),
        array("d", [demand for _, demand in requests]),
        array("d", chances or [0.5] * count),
        None if keys is None else array("Q", keys),
        array("i", clients or [0] * count),
        changes or [],
        *out,
    )
    return Result(run, *out)


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_one_worker_serves_in_the_order_of_arrival(build: Build) -> None:
    result = simulate(build, [(1, False)], [(0.0, 2.0), (1.0, 2.0), (10.0, 1.0)])
    assert result.latencies == [2.0, 3.0, 1.0]
    assert result.served_by == [0, 0, 0]
    assert result.run.now == 11.0


def test_workers_serve_side_by_side_and_without_a_bound_everybody_at_once(build: Build) -> None:
    requests = [(0.0, 2.0), (0.0, 2.0), (0.0, 2.0)]
    assert simulate(build, [(2, False)], requests).latencies == [2.0, 2.0, 4.0]
    assert simulate(build, [(0, False)], requests).latencies == [2.0, 2.0, 2.0]


def test_cores_are_shared_evenly(build: Build) -> None:
    # Both get half a core until the first is done at 3; the second, which came at 1, then has the rest for itself.
    result = simulate(build, [(1, True)], [(0.0, 2.0), (1.0, 2.0)])
    assert result.latencies == [3.0, 3.0]
    assert simulate(build, [(2, True)], [(0.0, 2.0), (0.0, 2.0), (0.0, 2.0)]).latencies == [3.0, 3.0, 3.0]


def test_a_pause_lengthens_what_is_under_way_and_what_comes_meanwhile(build: Build) -> None:
    for shared in (False, True):
        result = simulate(build, [(9, shared)], [(0.0, 2.0), (2.0, 1.0), (9.0, 1.0)], changes=[(1.0, 0, PAUSE, 3.0)])
        assert result.latencies == [5.0, 3.0, 1.0]


def test_pauses_that_overlap_add_up(build: Build) -> None:
    changes = [(1.0, 0, PAUSE, 3.0), (2.0, 0, PAUSE, 1.0)]
    for shared in (False, True):
        assert simulate(build, [(9, shared)], [(0.0, 2.0), (3.0, 1.0)], changes=changes).latencies == [6.0, 3.0]


def test_slowness_holds_for_work_that_begins_and_for_all_that_is_shared(build: Build) -> None:
    changes = [(1.0, 0, SLOW, 4.0)]
    assert simulate(build, [(1, False)], [(0.0, 2.0), (2.0, 2.0)], changes=changes).latencies == [2.0, 8.0]
    assert simulate(build, [(1, True)], [(0.0, 2.0)], changes=changes).latencies == [5.0]


def test_workers_can_be_added(build: Build) -> None:
    changes = [(1.0, 0, CAPACITY, 3.0)]
    assert simulate(build, [(1, False)], [(0.0, 2.0)] * 3, changes=changes).latencies == [2.0, 3.0, 3.0]


def test_answers_take_their_time_to_the_client(build: Build) -> None:
    result = simulate(build, [(1, False)], [(0.0, 2.0), (0.0, 2.0)], round_trip=0.25)
    assert result.latencies == [2.25, 4.25]


def test_a_server_that_fails_says_so_at_once_and_another_attempt_is_made(build: Build) -> None:
    changes = [(0.0, 0, FAIL, 0.6)]
    result = simulate(build, [(1, False)], [(1.0, 2.0)] * 2, chances=[0.5, 0.7], changes=changes, attempts=3)
    assert math.isnan(result.latencies[0])
    assert (result.latencies[1], result.tries, result.served_by) == (2.0, [3, 1], [-1, 0])
    # Who fails at once looks idle, so that least connections sends the other attempts there, too: a black hole.
    two = simulate(build, [(1, False), (1, False)], [(1.0, 2.0)] * 2, changes=changes, attempts=3)
    assert sorted(two.tries) == [1, 3]
    assert [each for each in two.latencies if not math.isnan(each)] == [2.0]


def test_a_client_gives_up_and_the_server_works_on(build: Build) -> None:
    result = simulate(build, [(1, False)], [(0.0, 5.0), (3.0, 1.0)], timeout=2.5)
    assert math.isnan(result.latencies[0])
    assert math.isnan(result.latencies[1])  # it waits for the first until 5, and its client until 5.5: 6 is too late
    assert simulate(build, [(1, False)], [(0.0, 5.0), (4.0, 1.0)], timeout=2.5).latencies[1] == 2.0


def test_what_hangs_is_given_up_or_ends_the_run(build: Build) -> None:
    changes = [(0.0, 0, HANG, 1.0)]
    result = simulate(build, [(1, False)], [(1.0, 1.0)], changes=changes)
    assert math.isnan(result.latencies[0])
    result = simulate(build, [(1, False), (1, False)], [(1.0, 1.0)], changes=changes, timeout=2.0, attempts=2)
    assert result.latencies[0] in (1.0, 3.0)


def test_users_think_before_they_ask_again(build: Build) -> None:
    result = simulate(build, [(1, False)], [(1.0, 2.0), (0.5, 2.0), (0.5, 1.0)], users=1)
    assert result.latencies == [2.0, 2.0, 1.0]
    assert result.run.now == 1.0 + 2.0 + 0.5 + 2.0 + 0.5 + 1.0


def test_turns_come_at_their_interval(build: Build) -> None:
    turns: list[float] = []
    simulate(build, [(1, False)], [(0.0, 2.0)], turn=turns.append, turn_interval=0.5)
    assert turns == [0.5, 1.0, 1.5, 2.0]


class Asking:
    """Probes server 0 with each pick."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, int, int, float, float]] = []

    def wanted(self, client: int, now: float) -> list[tuple[int, int]]:
        return [(len(self.answers) + 100, 0)]

    def answered(self, client: int, probe: int, in_flight: int, latency: float, now: float) -> None:
        self.answers.append((client, probe, in_flight, latency, now))


def test_probes_see_the_load_on_their_way(build: Build) -> None:
    asking = Asking()
    simulate(build, [(1, False)], [(0.0, 2.0), (1.0, 2.0), (5.0, 1.0)], prober=asking, probe_time=0.5)
    assert asking.answers == [(0, 100, 1, 0.0, 0.5), (0, 101, 2, 0.0, 1.5), (0, 102, 1, 3.0, 5.5)]


def test_clients_have_pickers_of_their_own(build: Build) -> None:
    pickers = [build.client(2), build.client(2)]
    simulate(build, [(1, False)] * 2, [(0.0, 1.0)] * 4, clients=[0, 0, 0, 1], pickers=pickers)
    assert [each.picks for each in pickers] == [3, 1]
    assert [each.outstanding for each in pickers] == [0, 0]


# -- theory ------------------------------------------------------------------------------------------------------------


def poisson(count: int, rate: float, seed: int) -> list[tuple[float, float]]:
    rng, now, found = random.Random(seed), 0.0, []
    for _ in range(count):
        now += rng.expovariate(rate)
        found.append((now, rng.expovariate(1.0)))
    return found


@pytest.mark.parametrize("shared", [False, True])
def test_one_server_is_m_m_1_whether_it_queues_or_shares(build: Build, shared: bool) -> None:
    means = [
        sum(latencies := simulate(build, [(1, shared)], poisson(20000, 0.5, seed)).latencies) / len(latencies)
        for seed in range(5)
    ]
    assert abs(sum(means) / 5 - 2.0) < 0.1


def test_work_is_conserved(build: Build) -> None:
    """One worker that is never idle while somebody waits: it is done when all work is, however it came."""
    requests = [(0.0, demand) for _, demand in poisson(500, 1.0, 3)]
    total = sum(demand for _, demand in requests)
    for shared in (False, True):
        assert simulate(build, [(1, shared)], requests).run.now == pytest.approx(total)


# -- both builds -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 1 << 32))
@pytest.mark.skipif(not distkit.COMPILED, reason="the kernels are not compiled")
def test_both_builds_do_the_same(seed: int) -> None:
    assert drawn(Build("pure", import_module("distkit._fast.pure.queueing")), seed) == drawn(
        Build("compiled", import_module("distkit._fast.queueing")), seed
    )


def drawn(build: Build, seed: int) -> object:
    rng = random.Random(seed)
    servers = [(rng.randint(1, 3), rng.random() < 0.3) for _ in range(rng.randint(1, 5))]
    servers = [(capacity if shared or rng.random() < 0.8 else 0, shared) for capacity, shared in servers]
    users = rng.choice((0, 0, 4))
    requests = [(rng.random() if users else time, demand) for time, demand in poisson(120, len(servers), seed)]
    kinds = {SLOW: 8.0, FAIL: 1.0, HANG: 1.0, PAUSE: 5.0, CAPACITY: 3.0}
    changes = []
    for when in sorted(rng.uniform(0, 60) for _ in range(rng.randint(0, 8))):
        what = rng.choice(list(kinds))
        value = float(rng.randint(1, 4)) if what == CAPACITY else rng.uniform(0.1, kinds[what])
        changes.append((when, rng.randrange(len(servers)), what, value))
    asking = Asking() if rng.random() < 0.5 else None
    count = rng.randint(1, 3)
    result = simulate(
        build,
        servers,
        requests,
        chances=[rng.random() for _ in requests],
        keys=[rng.getrandbits(64) for _ in requests] if rng.random() < 0.5 else None,
        clients=[rng.randrange(count) for _ in requests],
        changes=changes,
        pickers=[
            build.client(len(servers), rng.choice(("Uniform", "LeastConnections")), each) for each in range(count)
        ],
        round_trip=rng.choice((0.0, 0.1)),
        timeout=rng.choice((math.inf, 3.0)),
        attempts=rng.randint(1, 3),
        users=users,
        prober=asking,
    )
    return repr((result.latencies, result.served_by, result.tries, result.run.events, asking and asking.answers))


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_what_makes_no_sense_is_refused(build: Build) -> None:
    queueing, client = build.queueing.Queueing, build.client(1)
    for options in (
        {"round_trip": -1.0},
        {"timeout": 0.0},
        {"timeout": math.nan},
        {"attempts": 0},
        {"users": -1},
        {"turn_interval": 0.0},
        {"probe_time": math.inf},
    ):
        with pytest.raises(LocalError):
            queueing([client], [(1, False)], **options)
    for servers in ([], [(-1, False)], [(0, True)]):
        with pytest.raises(LocalError):
            queueing([client], servers)
    with pytest.raises(LocalError, match="there is no client 1"):
        simulate(build, [(1, False)], [(0.0, 1.0)], clients=[1])
    with pytest.raises(LocalError, match="there is no server 1"):
        simulate(build, [(1, False)], [(0.0, 1.0)], changes=[(0.0, 1, SLOW, 1.0)])
    with pytest.raises(LocalError, match="every array needs one entry"):
        simulate(build, [(1, False)], [(0.0, 1.0)], keys=[])
    with pytest.raises(LocalError, match="slot 1 is no server"):
        simulate(build, [(1, False)], [(0.0, 1.0)] * 2, pickers=[build.client(2)])
    run = simulate(build, [(1, False)], [(0.0, 1.0)]).run
    with pytest.raises(LocalError, match="a run can be made once"):
        run.run(array("d"), array("d"), array("d"), None, array("i"), [], array("d"), array("i"), array("i"))
