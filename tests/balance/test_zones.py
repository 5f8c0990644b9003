"""Zone-aware routing and locality weights, in the integers of the definition."""

import math
import random
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit.balance.zones import Locality, ZoneOff, ZoneRoute, locality_weights, route_by_zone
from distkit.core import LocalError


def route(clients: list[int], endpoints: list[int]) -> ZoneRoute:
    found = route_by_zone("a", dict(zip("abcdef", clients, strict=False)), dict(zip("abcdef", endpoints, strict=False)))
    assert isinstance(found, ZoneRoute)
    return found


def test_all_stays_where_the_own_share_of_endpoints_suffices() -> None:
    found = route([1, 1], [6, 6])
    assert found.local == 10_000
    assert {found.choose(n, n) for n in range(10_000)} == {"a"}


def test_what_the_zone_cannot_carry_goes_where_there_is_room() -> None:
    # Of the clients 40, 40, 20 %, of the endpoints 25, 50, 25 %: 62.5 % stay, the rest goes 2 to 1.
    found = route([4, 4, 2], [2, 4, 2])
    assert (found.local, found.residual) == (6250, (0, 1000, 1500))
    assert [found.choose(first, 0) for first in (0, 6249, 6250, 9999, 10_000)] == ["a", "a", "b", "b", "a"]
    # t = r mod R_last, the first with t < R_i: 999 is the last one of b. (t > R_i would be off by one.)
    assert [found.choose(9999, second) for second in (0, 999, 1000, 1499, 1500)] == ["b", "b", "c", "c", "b"]


def test_twenty_percent_of_clients_and_ten_of_endpoints_keep_half() -> None:
    assert route([2, 8], [1, 9]).local == 5000


def test_a_zone_without_endpoints_sends_all_away() -> None:
    found = route([5, 5], [0, 6])
    assert (found.local, found.residual) == (0, (0, 5000))
    elsewhere = route_by_zone("x", {"x": 1, "a": 1}, {"a": 3, "b": 3})  # not even named among the endpoints
    assert isinstance(elsewhere, ZoneRoute)
    assert (elsewhere.localities, elsewhere.local, elsewhere.residual) == (("x", "a", "b"), 0, (0, 0, 5000))


def test_shares_that_round_to_nothing_keep_nothing_where_nobody_serves() -> None:
    found = route([1, 30_000], [0, 6])  # the own zone has 0 of 10,000 of the clients, and of the endpoints
    assert (found.local, found.choose(0, 0)) == (0, "b")


def test_shares_are_matched_by_name_and_not_by_place() -> None:
    found = route_by_zone("b", {"a": 2, "b": 8}, {"c": 1, "a": 5, "b": 4})
    assert isinstance(found, ZoneRoute)
    assert found.localities == ("b", "c", "a")
    assert (found.local, found.residual) == (5000, (0, 1000, 4000))


def test_without_room_anywhere_a_locality_with_endpoints_is_drawn() -> None:
    found = ZoneRoute(("a", "b", "c"), 0, (0, 0, 0), (1, 2))
    assert Counter(found.choose(0, n) for n in range(100)) == {"b": 50, "c": 50}


@pytest.mark.parametrize(
    ("clients", "endpoints", "panic", "reason"),
    [
        ({"a": 1, "b": 1}, {"a": 9}, False, "endpoints are in fewer than two"),
        ({"a": 1}, {"a": 3, "b": 3}, False, "clients are in fewer than two"),
        ({"a": 0, "b": 1}, {"a": 3, "b": 3}, False, "no client is known in the own"),
        ({"c": 1, "b": 1}, {"a": 3, "b": 3}, False, "no client is known in the own"),
        ({"a": 1, "b": 1}, {"a": 3, "b": 2}, False, "fewer than 6 endpoints"),
        ({"a": 1, "b": 1}, {"a": 3, "b": 3}, True, "too few clients"),
        ({}, {}, False, "endpoints are in fewer than two"),
    ],
)
def test_it_is_off_when_the_counts_say_too_little(
    clients: dict[str, int], endpoints: dict[str, int], panic: bool, reason: str
) -> None:
    found = route_by_zone("a", clients, endpoints, clients_panic=panic)
    assert isinstance(found, ZoneOff)
    assert reason in found.reason


def test_no_healthy_endpoint_at_all_is_off_even_without_a_minimum() -> None:
    assert isinstance(route_by_zone("a", {"a": 1, "b": 1}, {"a": 0, "b": 0}, endpoints_min=0), ZoneOff)


counts = st.lists(st.integers(0, 30), min_size=2, max_size=6)


@given(counts, counts)
def test_routes_equal_the_definition(clients: list[int], endpoints: list[int]) -> None:
    size = min(len(clients), len(endpoints))
    clients, endpoints = clients[:size], endpoints[:size]
    names = "abcdef"[:size]
    found = route_by_zone("a", dict(zip(names, clients, strict=True)), dict(zip(names, endpoints, strict=True)))
    if clients[0] == 0 or sum(endpoints) < 6:
        assert isinstance(found, ZoneOff)
        return
    assert isinstance(found, ZoneRoute)
    low = [10_000 * count // sum(clients) for count in clients]
    up = [10_000 * count // sum(endpoints) for count in endpoints]
    if up[0] > 0 and up[0] >= low[0]:
        assert found.local == 10_000
        return
    assert found.local == up[0] * 10_000 // low[0]
    sums = [sum(max(0, u - d) for u, d in zip(up[1 : i + 1], low[1 : i + 1], strict=True)) for i in range(size)]
    assert list(found.residual) == sums
    rng = random.Random(1)
    for _ in range(50):
        chosen = found.choose(rng.getrandbits(32), rng.getrandbits(32))
        assert endpoints[names.index(chosen)] > 0 or chosen == "a"
        assert chosen != "a" or found.local > 0


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=2, max_size=5))
def test_when_all_clients_route_so_every_zone_gets_what_it_can_carry(zones: list[tuple[int, int]]) -> None:
    """The point of it: load by endpoint is even, to what integers round away."""
    names = "abcde"[: len(zones)]
    clients = {name: zone[0] for name, zone in zip(names, zones, strict=True)}
    endpoints = {name: zone[1] for name, zone in zip(names, zones, strict=True)}
    load = dict.fromkeys(names, Fraction(0))
    for own in names:
        found = route_by_zone(own, clients, endpoints, endpoints_min=0)
        assert isinstance(found, ZoneRoute)
        demand = Fraction(clients[own], sum(clients.values()))
        load[own] += demand * Fraction(found.local, 10_000)
        away = demand * (1 - Fraction(found.local, 10_000))
        for i in range(1, len(found.localities)):
            spare = found.residual[i] - found.residual[i - 1]
            load[found.localities[i]] += away * spare / found.residual[-1] if found.residual[-1] else 0
    for name in names:
        assert abs(load[name] - Fraction(endpoints[name], sum(endpoints.values()))) < Fraction(1, 100)


def test_a_locality_that_loses_endpoints_loses_traffic_when_it_cannot_carry_it() -> None:
    def shares(eligible: int) -> list[float]:
        found = locality_weights({"a": Locality(1, eligible, 100), "b": Locality(2, 100, 100)})
        return [round(share, 6) for share in found.values()]

    assert shares(100) == shares(72) == [0.333333, 0.666667]
    assert shares(50) == [0.259259, 0.740741]  # 0.7 of 2.7
    assert shares(0) == [0.0, 1.0]


def test_weight_0_and_empty_localities_get_no_traffic() -> None:
    assert locality_weights({"a": Locality(0, 5, 5), "b": Locality(1, 5, 5), "c": Locality(1, 0, 0)}) == {
        "a": 0.0,
        "b": 1.0,
        "c": 0.0,
    }
    assert locality_weights({"a": Locality(1, 0, 5)}) == {"a": 0.0}
    assert locality_weights({}) == {}


def test_bad_input_is_refused() -> None:
    with pytest.raises(LocalError, match="the number of clients in 'a'"):
        route_by_zone("a", {"a": -1}, {})
    with pytest.raises(LocalError, match="the number of endpoints in 'b'"):
        route_by_zone("a", {"a": 1}, {"b": 1.5})  # type: ignore[dict-item]
    for weight in (-1.0, math.nan, math.inf, 2.0**40):
        with pytest.raises(LocalError, match="the weight of 'a'"):
            locality_weights({"a": Locality(weight, 1, 1)})
    with pytest.raises(LocalError, match="2 eligible endpoints of 1"):
        locality_weights({"a": Locality(1, 2, 1)})
