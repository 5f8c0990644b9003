"""The network: each fate does what it says, each link has chance of its own, a script repeats it all without any."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from distkit.sim.chance import SECOND
from distkit.sim.network import Fate, Network, NetworkOptions

PLAIN = NetworkOptions(delay_min=1000, delay_mean=2000)
MESSAGES = 3000


def sent(network: Network, count: int = MESSAGES, link: tuple[int, int] = (1, 2), step: int = 10_000) -> list[Any]:
    """What messages 1, 2 ... of one link cause, one every `step` nanoseconds."""
    return [network.send(number * step, *link, number, 0) for number in range(1, count + 1)]


def test_without_faults_every_message_comes_once_after_its_delay() -> None:
    deliveries = sent(Network(1, 3, PLAIN))
    assert [[message for _, message in each] for each in deliveries] == [[number] for number in range(1, MESSAGES + 1)]
    delays = [each[0][0] - number * 10_000 for number, each in enumerate(deliveries, 1)]
    assert min(delays) >= 1000
    assert 2800 < sum(delays) / len(delays) < 3200
    assert len(set(delays)) > 10


@pytest.mark.parametrize("rate", [0.05, 0.2, 1.0])
@pytest.mark.parametrize("kind", ["loss", "copy", "late", "old"])
def test_each_fault_strikes_at_its_rate(kind: str, rate: float) -> None:
    network = Network(2, 3, replace(PLAIN, **{kind: rate}))
    sent(network)
    struck = {"loss": "drop"}.get(kind, kind)
    assert {fate for fate, _ in network.fates.values()} == {struck}
    assert len(network.fates) == pytest.approx(rate * MESSAGES, rel=0.35)
    assert all(key[:2] == (1, 2) and 1 <= key[2] <= MESSAGES for key in network.fates)


def test_rates_add_up() -> None:
    network = Network(3, 3, replace(PLAIN, loss=0.1, copy=0.1, late=0.1, old=0.1, flip=0.1))
    sent(network, 5000)
    kinds = [kind for kind, _ in network.fates.values()]
    for kind in ("drop", "copy", "late", "old", "flip"):
        assert kinds.count(kind) == pytest.approx(500, rel=0.2)


def test_a_lost_message_never_comes() -> None:
    assert sent(Network(1, 2, replace(PLAIN, loss=1.0)), 50) == [[]] * 50


def test_a_copied_message_comes_twice_the_second_time_later() -> None:
    for number, deliveries in enumerate(sent(Network(1, 2, replace(PLAIN, copy=1.0, late_mean=SECOND)), 50), 1):
        (first, one), (second, two) = deliveries
        assert one == two == number
        assert second > first


def test_a_late_message_comes_once_and_is_overtaken() -> None:
    deliveries = sent(Network(1, 2, replace(PLAIN, late=0.2, late_mean=SECOND)))
    assert all(len(each) == 1 for each in deliveries)
    arrivals = [each[0] for each in deliveries]
    order = [message for _, message in sorted(arrivals)]
    assert order != sorted(order)
    late = [time - number * 10_000 for time, number in arrivals if time - number * 10_000 > 20_000]
    assert len(late) == pytest.approx(0.2 * MESSAGES, rel=0.2)
    assert sum(late) / len(late) == pytest.approx(SECOND, rel=0.2)


def test_an_old_message_comes_again_with_a_new_one() -> None:
    deliveries = sent(Network(1, 2, replace(PLAIN, old=1.0)), 200)
    assert deliveries[0] == [(deliveries[0][0][0], 1)]  # there is none yet
    for number, each in enumerate(deliveries[1:], 2):
        (time, new), (again, old) = each
        assert new == number
        assert old < number
        assert again == time
    assert len({number - each[1][1] for number, each in enumerate(deliveries[1:], 2)}) > 5


def test_old_messages_outlive_restarts_and_heals() -> None:
    """A network forgets nothing of what a process that is gone has sent."""
    network = Network(1, 2, replace(PLAIN, old=1.0))
    network.send(0, 1, 2, "of the process before", 0)
    again = [message for number in range(20) for _, message in network.send(SECOND + number, 1, 2, "new", 0)]
    assert "of the process before" in again


def test_a_flipped_frame_has_one_bit_wrong_and_other_messages_none() -> None:
    network = Network(1, 2, replace(PLAIN, flip=1.0))
    frame = bytes(range(40))
    positions = set()
    for number in range(200):
        ((_, found),) = network.send(number, 1, 2, frame, len(frame))
        wrong = [one ^ two for one, two in zip(found, frame, strict=True)]
        assert sum(bits.bit_count() for bits in wrong) == 1
        positions.add(found)
    assert len(positions) > 100
    record = ("not", "bytes")
    assert network.send(0, 1, 2, record, 0)[0][1] is record


def test_links_have_chance_of_their_own() -> None:
    """What is sent on one link changes nothing on another, in delays and in faults."""
    options = replace(PLAIN, loss=0.1, copy=0.1, late=0.1, old=0.1)
    alone, busy = Network(5, 3, options), Network(5, 3, options)
    expected = sent(alone, 500)
    found = []
    for number in range(1, 501):
        busy.send(number, 2, 1, "back", 0)
        found.append(busy.send(number * 10_000, 1, 2, number, 0))
        busy.send(number, 1, 3, "elsewhere", 0)
    assert found == expected
    assert {key: fate for key, fate in busy.fates.items() if key[:2] == (1, 2)} == alone.fates


def test_no_two_links_have_the_same_chance() -> None:
    links = ((1, 2), (2, 1), (1, 3), (3, 2))
    assert len({str(sent(Network(5, 3, PLAIN), 100, link)) for link in links}) == 4
    lossy = replace(PLAIN, loss=0.5)
    assert len({str([bool(each) for each in sent(Network(5, 3, lossy), 100, link)]) for link in links}) == 4


def test_faults_change_no_delay() -> None:
    """Delays are drawn from another stream, so a run without a fault is else the same."""
    calm = sent(Network(6, 2, PLAIN), 300)
    faulty = sent(Network(6, 2, replace(PLAIN, loss=0.3, old=0.2)), 300)
    assert [each[0] for each in faulty if each] == [one[0] for one, two in zip(calm, faulty, strict=True) if two]


def test_another_seed_is_another_network() -> None:
    assert sent(Network(1, 2, PLAIN), 20) != sent(Network(2, 2, PLAIN), 20)
    assert sent(Network(1, 2, PLAIN), 20) == sent(Network(1, 2, PLAIN), 20)


def test_a_script_repeats_what_struck_without_chance() -> None:
    options = replace(PLAIN, loss=0.1, copy=0.1, late=0.1, old=0.1, late_mean=SECOND)
    drawn = Network(7, 2, options)
    expected = sent(drawn)
    for rates in (options, PLAIN):
        script = dict(drawn.fates)
        again = Network(7, 2, rates, script)
        assert sent(again) == expected
        assert script == drawn.fates


def test_a_part_of_a_script_strikes_only_its_messages() -> None:
    script: dict[tuple[int, int, int], Fate] = {
        (1, 2, 3): ("drop", 0),
        (1, 2, 5): ("late", 7000),
        (2, 1, 1): ("drop", 0),
    }
    plain = sent(Network(7, 2, PLAIN), 8)
    scripted = sent(Network(7, 2, PLAIN, script), 8)
    assert scripted[2] == []
    assert scripted[4] == [(plain[4][0][0] + 7000, 5)]
    for number in (1, 2, 4, 6, 7, 8):
        assert scripted[number - 1] == plain[number - 1]


def test_an_empty_script_strikes_nothing() -> None:
    assert sent(Network(7, 2, replace(PLAIN, loss=1.0), {}), 50) == sent(Network(7, 2, PLAIN), 50)


def test_a_cut_link_loses_all_in_one_direction_only() -> None:
    network = Network(8, 3, PLAIN)
    network.cut.add((1, 2))
    assert network.send(0, 1, 2, "x", 0) == []
    assert network.send(0, 2, 1, "x", 0)
    assert network.send(0, 1, 3, "x", 0)
    network.cut.discard((1, 2))
    assert network.send(0, 1, 2, "x", 0)


def test_a_clogged_link_holds_messages_until_its_time() -> None:
    network = Network(9, 2, PLAIN)
    network.clogged[1, 2] = SECOND
    assert {time for number in range(10) for time, _ in network.send(number, 1, 2, number, 0)} == {SECOND}
    assert network.send(0, 2, 1, "back", 0)[0][0] < SECOND
    assert network.send(SECOND, 1, 2, "after", 0)[0][0] > SECOND


def test_bandwidth_makes_messages_wait_for_the_line() -> None:
    network = Network(10, 2, replace(PLAIN, delay_mean=0, bandwidth=1_000_000))
    times = [network.send(0, 1, 2, number, 500)[0][0] for number in range(4)]
    assert times == [1000 + 500_000 * number for number in (1, 2, 3, 4)]
    assert network.send(0, 2, 1, "the other way", 500)[0][0] == 501_000
    assert network.send(10 * SECOND, 1, 2, "later", 500)[0][0] == 10 * SECOND + 501_000  # the line had a rest
    assert network.send(0, 1, 2, "a record has no size", 0)[0][0] == 1000


def test_heal_ends_everything() -> None:
    network = Network(11, 2, replace(PLAIN, loss=1.0))
    network.cut.add((1, 2))
    network.clogged[2, 1] = 99 * SECOND
    network.heal()
    assert all(len(each) == 1 for each in sent(network, 50))
    assert network.send(0, 2, 1, "x", 0)[0][0] < SECOND
    scripted = Network(11, 2, PLAIN, {(1, 2, 1): ("drop", 0)})
    scripted.heal()
    assert len(sent(scripted, 1)[0]) == 1


def test_a_stream_keeps_its_order_and_breaks_when_its_link_is_cut() -> None:
    network = Network(1, 2, NetworkOptions(1000, 50_000, bandwidth=1_000_000))
    times = [network.carry(now, 1, 2, "Piece", 100) for now in range(0, 100_000, 1000)]
    assert 0 not in times
    assert times[-1] >= 10_000_000  # 100 pieces of 100 bytes
    network.cut.add((1, 2))
    assert network.carry(200_000, 1, 2, "Piece", 100) == 0
    assert network.carry(200_000, 2, 1, "Piece", 100) > 0


def test_what_a_stream_loses_is_lost_again_by_the_script_and_no_message_with_it() -> None:
    network = Network(7, 2, NetworkOptions(loss=0.2))
    lost = [not network.carry(0, 1, 2, "Piece", 1) for _ in range(100)]
    assert 5 < sum(lost) < 40
    again = Network(7, 2, NetworkOptions(), network.fates)
    assert [not again.carry(0, 1, 2, "Piece", 1) for _ in range(100)] == lost
    assert all(again.send(0, 1, 2, "message", 1) for _ in range(100))
