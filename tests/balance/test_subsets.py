"""Subsets: the rule of gRFC A68, and apertures whose shares are exactly equal."""

import math
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distkit._fast.hashing import xxh64
from distkit.balance.subsets import APERTURE_MIN, Overlap, aperture, random_subset
from distkit.core import LocalError

SERVERS = [f"10.0.0.{n}:80" for n in range(50)]


def test_the_smallest_hashes_are_kept() -> None:
    for seed in (0, 1, 2**64 - 1):
        chosen = random_subset(SERVERS, 5, seed)
        hashes = [xxh64(address.encode(), seed) for address in SERVERS]
        assert list(chosen) == sorted(sorted(range(50), key=lambda n: hashes[n])[:5])


def test_few_servers_are_all_kept_and_those_without_address_never() -> None:
    assert random_subset(["a", "b"], 2, 7) == (0, 1)
    assert random_subset(["a", "", "b"], 5, 7) == (0, 2)
    assert 1 not in random_subset(["a", "", "b", "c"], 2, 7)
    assert random_subset([], 3, 7) == ()


@given(st.sets(st.text(min_size=1, max_size=8), min_size=3, max_size=30), st.integers(1, 20), st.integers(0, 2**64 - 1))
def test_removing_a_server_lets_at_most_one_other_in(names: set[str], size: int, seed: int) -> None:
    before = sorted(names)
    kept = [before[n] for n in random_subset(before, size, seed)]
    after = before[1:]
    now = [after[n] for n in random_subset(after, size, seed)]
    assert set(kept) - {before[0]} <= set(now)
    assert len(now) == min(size, len(after))


def test_order_of_servers_does_not_matter() -> None:
    turned = SERVERS[::-1]
    assert {SERVERS[n] for n in random_subset(SERVERS, 9, 3)} == {turned[n] for n in random_subset(turned, 9, 3)}


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 70))
@example(25, 13, 12)  # arcs that end in the slice in which they began
def test_over_all_clients_every_server_gets_exactly_the_same(clients: int, servers: int, size: int) -> None:
    total = [0] * servers
    for client in range(clients):
        arc = aperture(client, clients, servers, size)
        assert len({overlap.server for overlap in arc}) == len(arc)
        for overlap in arc:
            assert 0 < overlap.part <= overlap.whole == clients
            total[overlap.server] += overlap.part
        width = sum(overlap.part for overlap in arc)
        wide = min(clients, math.ceil(Fraction(max(12, size), servers) * clients))
        assert width == wide * servers  # the same for each client
        assert Fraction(width, clients) >= min(servers, max(size, APERTURE_MIN))  # at least `size` servers' worth
    assert len(set(total)) == 1


@given(st.integers(1, 40), st.integers(1, 60), st.data())
def test_overlaps_equal_the_definition(clients: int, servers: int, data: st.DataObject) -> None:
    client = data.draw(st.integers(0, clients - 1))
    begin = Fraction(client, clients)
    width = min(Fraction(1), Fraction(math.ceil(Fraction(12, servers) * clients), clients))
    expected = {}
    for server in range(servers):
        low, high = Fraction(server, servers), Fraction(server + 1, servers)
        covered = sum(max(Fraction(0), min(high, begin + turn + width) - max(low, begin + turn)) for turn in (-1, 0))
        if covered:
            expected[server] = covered * servers
    assert {o.server: Fraction(o.part, o.whole) for o in aperture(client, clients, servers)} == expected


def test_an_aperture_begins_at_the_place_of_its_client_and_wraps() -> None:
    assert [overlap.server for overlap in aperture(0, 4, 100, 25)] == list(range(25))
    assert [overlap.server for overlap in aperture(3, 4, 100, 25)] == list(range(75, 100))
    assert [overlap.server for overlap in aperture(9, 10, 20)] == [*range(18, 20), *range(10)]
    assert aperture(1, 3, 20)[0] == Overlap(6, 1, 3)  # a third of the ring is 6 2/3 slices in
    assert aperture(1, 3, 20)[0].weight == 1 / 3


def test_the_smallest_aperture_is_twelve_or_all() -> None:
    assert len(aperture(0, 1000, 1000, 1)) == 12
    assert aperture(2, 5, 7, 1) == tuple(Overlap(n, 5, 5) for n in range(7))
    assert aperture(0, 1, 50) == tuple(Overlap(n, 1, 1) for n in range(50))  # the only client takes all
    assert aperture(0, 3, 0) == ()


def test_bad_input_is_refused() -> None:
    for size, seed, name in ((0, 1, "size"), (1, -1, "seed"), (1, 2**64, "seed"), (1.5, 1, "size")):
        with pytest.raises(LocalError, match=name):
            random_subset(SERVERS, size, seed)  # type: ignore[arg-type]
    for arguments, name in (
        ((3, 3, 5), "client"),
        ((-1, 3, 5), "client"),
        ((0, 0, 5), "clients"),
        ((0, 1, -1), "servers"),
    ):
        with pytest.raises(LocalError, match=name):
            aperture(*arguments)
    with pytest.raises(LocalError, match="size"):
        aperture(0, 1, 5, 0)
