"""Faults: each begins, does what it says, and ends; the heal ends all of them."""

from __future__ import annotations

from typing import Any

import pytest
from test_sim_host import Chatter
from toys import MS, Note, ToyMachine, Toys, fault

from distkit.core import LocalError, Space, StorageError, Write
from distkit.sim.chance import SECOND
from distkit.sim.disks import RecordDisk
from distkit.sim.network import NetworkOptions
from distkit.sim.scenario import DiskOptions


class Pair(ToyMachine):
    """Every node sends a note to every other each 10 ms."""

    def begin(self, now: float) -> None:
        self.number = 0
        self.due = now + 0.01

    def tick(self, now: float) -> None:
        super().tick(now)
        self.number += 1
        self.sends += [(peer, Note(self.number, b"")) for peer in self.toys.hosts if peer != self.node]
        self.due = now + 0.01


def quiet(toys: Toys, source: int, target: int, begin: int = 350, end: int = 650) -> bool:
    """Whether nothing of the one came to the other between two times (milliseconds)."""
    return not [
        1 for time, _, sender, _ in toys.told("receive", target) if sender == source and begin * MS < time < end * MS
    ]


def silence(toys: Toys, nodes: int, begin: int = 350, end: int = 650) -> set[tuple[int, int]]:
    """Links that carried nothing."""
    links = [(source, target) for source in range(1, nodes + 1) for target in range(1, nodes + 1) if source != target]
    return {link for link in links if quiet(toys, *link, begin, end)}


LINKS = {
    ("isolate", 2, ""): {(1, 2), (2, 1), (2, 3), (3, 2)},
    ("isolate", 2, "in"): {(1, 2), (3, 2)},
    ("isolate", 2, "out"): {(2, 1), (2, 3)},
    ("cut", 1, "1>2"): {(1, 2)},
    ("cut", 1, "1>2 2>1 3>1"): {(1, 2), (2, 1), (3, 1)},
    ("cut", 1, ""): set(),
    ("clog", 3, ""): {(1, 3), (2, 3)},
    ("crash", 1, "kill"): {(1, 2), (1, 3), (2, 1), (3, 1)},
    ("pause", 1, ""): {(1, 2), (1, 3), (2, 1), (3, 1)},
}


@pytest.mark.parametrize(("kind", "node", "detail"), LINKS)
def test_links_are_silent_while_a_fault_lasts_and_carry_before_and_after(kind: str, node: int, detail: str) -> None:
    toys = Toys(Pair)
    outcome = toys.run(nodes=3, faults=(fault(kind, 300, node, 0.4, detail),))
    assert not outcome.rule
    assert silence(toys, 3) == LINKS[kind, node, detail]
    assert silence(toys, 3, 100, 299) == set()
    assert silence(toys, 3, 720, 999) == set()


def test_the_heal_ends_what_lasts_for_ever() -> None:
    for kind, node, detail in LINKS:
        toys = Toys(Pair)
        assert not toys.run(nodes=3, faults=(fault(kind, 300, node, 1000.0, detail),)).rule
        assert silence(toys, 3, 700, 999) == LINKS[kind, node, detail]
        assert silence(toys, 3, 1100, 1500) == set()


def test_no_fault_strikes_after_the_heal() -> None:
    toys = Toys(Pair)
    assert not toys.run(nodes=3, faults=(fault("isolate", 1010, 1, 10.0), fault("crash", 1010, 2, 10.0))).rule
    assert silence(toys, 3, 1011, 1900) == set()
    assert toys.told("crashed") == []


def test_cuts_may_overlap() -> None:
    """A link works again when the last fault that cut it is over."""
    toys = Toys(Pair)
    toys.run(nodes=3, faults=(fault("isolate", 200, 1, 0.3), fault("cut", 300, 1, 0.4, "1>2")))
    assert silence(toys, 3, 350, 490) == {(1, 2), (2, 1), (1, 3), (3, 1)}
    assert silence(toys, 3, 510, 690) == {(1, 2)}
    assert silence(toys, 3, 710, 900) == set()


def test_a_message_under_way_dies_with_its_link() -> None:
    toys = Toys(Chatter)
    toys.run(network=NetworkOptions(50 * MS, 0), faults=(fault("cut", 300, 1, 0.02, "1>2"),))
    assert [each[-1].number for each in toys.told("receive", 2) if 300 * MS <= each[0] < 320 * MS] == []
    assert {25, 26}.isdisjoint(each[-1].number for each in toys.told("receive", 2))  # they were sent before the cut


def test_what_was_clogged_comes_at_once() -> None:
    toys = Toys(Chatter)
    toys.run(faults=(fault("clog", 300, 2, 0.4),))
    received = toys.told("receive", 2)
    assert len([1 for time, *_ in received if time == 700 * MS]) > 30
    assert sorted(each[-1].number for each in received) == list(range(1, len(received) + 1))


def numbers(toys: Toys, node: int, begin: int, end: int) -> list[int]:
    """What came to a node between two times (milliseconds)."""
    return [each[-1].number for each in toys.told("receive", node) if begin * MS <= each[0] < end * MS]


def test_messages_of_a_kind_are_held_back_and_come_when_it_ends() -> None:
    toys = Toys(Chatter)
    outcome = toys.run(faults=(fault("hold", 300, 2, 0.4, "in Note"),))
    assert numbers(toys, 2, 305, 700) == []
    assert len(numbers(toys, 2, 700, 701)) > 30
    assert sorted(numbers(toys, 2, 0, 5000)) == list(range(1, 1 + len(toys.told("receive", 2))))
    assert outcome.marks["messages of one kind were held back"] > 30


@pytest.mark.parametrize(("node", "detail"), [(2, "in Other"), (2, "out Note"), (1, "in Note"), (2, "in Note 2")])
def test_messages_of_another_kind_or_way_go_on(node: int, detail: str) -> None:
    toys, alone = Toys(Chatter), Toys(Chatter)
    toys.run(faults=(fault("mute", 300, node, 0.4, detail),))
    alone.run()
    assert toys.told("receive", 2) == alone.told("receive", 2)


def test_what_is_held_back_comes_through_a_cut_and_to_a_node_that_started_anew() -> None:
    toys = Toys(Chatter)
    held = fault("hold", 300, 1, 0.2, "out Note 2")
    toys.run(faults=(held, fault("cut", 350, 1, 0.4, "1>2"), fault("crash", 360, 2, 0.05, "kill")))
    assert 3 <= len(numbers(toys, 2, 500, 501)) <= 6
    assert numbers(toys, 2, 501, 750) == []


def test_messages_of_a_kind_that_are_muted_never_come() -> None:
    toys = Toys(Chatter)
    toys.run(faults=(fault("mute", 300, 2, 0.4, "in Note"),))
    came = numbers(toys, 2, 0, 5000)
    assert set(range(1, max(came))) - set(came) == set(range(min(set(range(1, max(came))) - set(came)), 70))


def test_an_echo_repeats_what_came_until_it_ends() -> None:
    toys = Toys(Chatter)
    toys.run(faults=(fault("echo", 300, 2, 0.4, "in Note"),))
    again = numbers(toys, 2, 300, 700)
    assert len(again) > 3 * len(set(again)) > 90
    assert max(again.count(number) for number in again) <= 17
    assert len(numbers(toys, 2, 705, 5000)) == len(set(numbers(toys, 2, 705, 5000)))


def test_the_heal_lets_go_of_messages() -> None:
    toys = Toys(Chatter)
    toys.run(faults=(fault("mute", 300, 2, 1000.0, "in Note"),))
    assert numbers(toys, 2, 305, 1000) == []
    assert numbers(toys, 2, 1005, 2000)


def test_a_short_fault_does_not_end_a_longer_one_of_its_kind() -> None:
    toys = Toys(Chatter)
    toys.run(faults=(fault("clog", 300, 2, 0.4), fault("clog", 350, 2, 0.1)))
    assert quiet(toys, 1, 2, 302, 699)
    toys = Toys(Steady)
    toys.run(faults=(fault("stall", 310, 1, 0.3), fault("stall", 320, 1, 0.01)))
    assert [time for time, _ in toys.told("durable", 1) if 310 * MS < time < 610 * MS] == []


def test_a_reset_breaks_connections_and_they_are_made_again() -> None:
    toys = Toys()
    toys.run(nodes=3, faults=(fault("reset", 500, 1),))
    assert [(time, peer) for time, _, peer, _ in toys.told("lost", 1)] == [(500 * MS, 2), (500 * MS, 3)]
    assert {(peer, reason) for _, _, peer, reason in toys.told("lost", 2)} == {(1, "reset")}
    again = [(time, peer) for time, _, peer in toys.told("connected", 1) if time > 500 * MS]
    assert sorted(peer for _, peer in again) == [2, 3]
    assert max(time for time, _ in again) < 520 * MS


def test_a_node_that_is_back_before_anybody_noticed_was_lost_all_the_same() -> None:
    toys = Toys()
    toys.run(nodes=3, faults=(fault("crash", 500, 1, 0.05),))  # without a word, and up again after 50 ms
    assert {(peer, reason) for _, _, peer, reason in toys.told("lost", 2)} == {(1, "reset")}
    again = [time for time, _, peer in toys.told("connected", 2) if peer == 1 and time > 500 * MS]
    assert len(again) == 1


def test_both_ends_see_a_cut_and_its_end() -> None:
    toys = Toys()
    toys.run(seconds=3.0, faults=(fault("cut", 200, 1, 1.0, "1>2"),))
    for node, peer in ((1, 2), (2, 1)):
        ((lost, _, who, reason),) = toys.told("lost", node)
        assert (who, reason) == (peer, "timeout")
        assert 200 * MS < lost < 1200 * MS
        assert len([1 for time, *_ in toys.told("connected", node) if time > 1200 * MS]) == 1


def test_node_0_of_a_fault_is_the_leader_of_that_moment() -> None:
    toys = Toys(Pair)
    toys.leader = 3
    toys.run(nodes=3, faults=(fault("crash", 300, 0, 0.1),))
    assert {each[2] for each in toys.diary if each[1] == "crashed"} == {3}


def test_a_crash_of_a_node_that_is_down_is_none() -> None:
    toys = Toys()
    toys.run(faults=(fault("crash", 100, 1, 0.5, "kill"), fault("crash", 200, 1, 0.1, "kill")))
    assert [time for time, _ in toys.told("booted", 1)] == [0, 600 * MS]


class Steady(ToyMachine):
    """Writes a note every 50 ms."""

    def begin(self, now: float) -> None:
        self.due = now + 0.05

    def tick(self, now: float) -> None:
        super().tick(now)
        self.records.append(Note(self.token, b""))
        self.due = now + 0.05


def times(toys: Toys) -> list[int]:
    """How long the writes of node 1 took, in milliseconds."""
    begun = [time for time, output in toys.told("flushed", 1) if output.writes]
    ended = [time for time, _ in toys.told("durable", 1)]
    return [round((end - begin) / MS) for begin, end in zip(begun, ended, strict=False)]


def test_a_slow_disk_takes_ten_times_as_long_for_a_while() -> None:
    toys = Toys(Steady)
    toys.run(disk=DiskOptions(2 * MS, 0), faults=(fault("slow", 310, 1, 0.3),))
    assert times(toys)[:18] == [2] * 6 + [20] * 6 + [2] * 6


def test_a_stalled_disk_stands_still_for_a_while() -> None:
    toys = Toys(Steady)
    toys.run(disk=DiskOptions(2 * MS, 0), faults=(fault("stall", 310, 1, 0.3),))
    durable = [time for time, _ in toys.told("durable", 1)]
    assert [time for time in durable if 310 * MS < time < 610 * MS] == []
    assert 612 * MS in durable
    assert times(toys)[0] == times(toys)[-1] == 2


def test_a_batch_under_way_waits_for_a_stalled_disk_and_the_heal_ends_that() -> None:
    for length, end in ((0.3, 700), (1000.0, 1000)):
        toys = Toys(Steady)
        toys.run(disk=DiskOptions(40 * MS, 0), faults=(fault("stall", 400, 1, length),))
        durable = [time // MS for time, _ in toys.told("durable", 1)]
        assert [time for time in durable if 400 <= time < end] == []
        assert [time for time in durable if end <= time < end + 41]


def test_a_disk_is_slow_until_the_last_fault_that_makes_it_so_is_over() -> None:
    toys = Toys(Steady)
    toys.run(disk=DiskOptions(2 * MS, 0), faults=(fault("slow", 310, 1, 0.3), fault("slow", 350, 1, 0.1)))
    assert times(toys)[:18] == [2] * 6 + [20] * 6 + [2] * 6


def test_the_heal_makes_slow_disks_quick() -> None:
    toys = Toys(Steady)
    toys.run(disk=DiskOptions(2 * MS, 0), faults=(fault("slow", 310, 1, 500.0),))
    assert times(toys)[-2:] == [2, 2]


def test_a_full_disk_is_told_and_has_space_again() -> None:
    toys = Toys(Steady)
    outcome = toys.run(seconds=2.0, faults=(fault("full", 300, 1, 0.5),))
    assert [(time, space) for time, _, space in toys.told("storage", 1)] == [
        (300 * MS, Space.FULL),
        (800 * MS, Space.OK),
    ]
    assert outcome.marks["a disk was full, and had space again"] == 1
    assert toys.told("storage", 2) == []


def test_the_heal_gives_space() -> None:
    toys = Toys(Steady)
    toys.run(faults=(fault("full", 300, 1, 500.0),))
    assert [(time, space) for time, _, space in toys.told("storage", 1)] == [(300 * MS, Space.FULL), (SECOND, Space.OK)]


def test_a_node_that_starts_on_a_full_disk_hears_of_it() -> None:
    toys = Toys(Steady)
    toys.run(seconds=2.0, faults=(fault("full", 300, 1, 1.5), fault("crash", 500, 1, 0.1, "kill")))
    told = [(time > 600 * MS, space) for time, _, space in toys.told("storage", 1)]
    assert told == [(False, Space.FULL), (True, Space.FULL), (True, Space.OK)]


class Tight(RecordDisk):
    """Has no room for a third write until it was asked for space twice."""

    submitted = claims = 0

    def submit(self, write: Write) -> None:
        self.submitted += 1
        super().submit(write)

    def begin(self) -> bool:
        if self.submitted > 2 and self.claims < 2:
            self.space = Space.FULL
            return False
        return super().begin()

    def claim(self) -> Space:
        self.claims += 1
        if self.claims == 2:
            self.space = Space.OK
        return self.space


def test_a_disk_that_has_no_room_for_the_next_write_is_asked_again() -> None:
    """It was idle until then, so that no completion can tell."""
    toys = Toys(Steady, disk=Tight)
    assert not toys.run(nodes=1, seconds=4.0).rule
    (full, _, first), (again, _, second) = toys.told("storage", 1)
    assert (first, second) == (Space.FULL, Space.OK)
    assert 150 * MS <= full < 200 * MS
    assert again - full == 2 * SECOND
    tokens = [write.token for _, done in toys.told("durable", 1) for write in done]
    assert tokens == list(range(1, len(tokens) + 1))
    assert len(tokens) > 60


class BrokenDisk(RecordDisk):
    """Fails in its third batch, once."""

    batches = 0
    failing = True

    def complete(self) -> list[Any]:
        self.batches += 1
        if self.batches == 3 and self.failing:
            raise StorageError("input/output error", "disk")
        return super().complete()


class Failing(Steady):
    """On a disk that fails on purpose."""

    def begin(self, now: float) -> None:
        super().begin(now)
        self.host.failing = True


def test_a_node_whose_disk_fails_ends_itself_and_comes_back_with_the_heal() -> None:
    toys = Toys(Failing, disk=BrokenDisk)
    assert not toys.run(nodes=1).rule
    assert len(toys.told("durable", 1)) >= 2
    assert len([1 for time, _ in toys.told("durable", 1) if time < SECOND]) == 2
    assert len(toys.told("crashed", 1)) == 1
    assert [time for time, _ in toys.told("booted", 1)] == [0, SECOND]


class Unreadable(RecordDisk):
    boots = 0

    def boot(self) -> list[Any]:
        self.boots += 1
        if self.boots == 2:
            raise StorageError("this is no log", "disk")
        return super().boot()


def test_a_disk_that_is_damaged_without_our_doing_is_a_finding() -> None:
    outcome = Toys(disk=Unreadable).run(faults=(fault("crash", 100, 1, 0.1),))
    assert outcome.rule == "disk"
    assert "this is no log" in outcome.text


def test_a_wiped_node_never_comes_back() -> None:
    toys = Toys(Pair)
    assert not toys.run(nodes=3, faults=(fault("wipe", 300, 2), fault("crash", 500, 2, 0.1))).rule
    assert [each[2] for each in toys.diary if each[1] == "wiped"] == [2]
    assert len(toys.told("booted", 2)) == 1
    assert silence(toys, 3, 310, 1900) == {(1, 2), (2, 1), (2, 3), (3, 2)}


def test_a_fault_of_no_kind_is_refused_before_anything_runs() -> None:
    """`run` takes scenarios of any origin; files and seeds are checked before."""
    with pytest.raises(LocalError, match="no fault 'earthquake'"):
        Toys().run(faults=(fault("earthquake", 300),))
