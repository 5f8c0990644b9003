"""SWIM, rule by rule: which claim holds, probing, relays, gossip, tables, leaving."""

import math
from itertools import pairwise

import pytest
from swim_world import Lone, World, alive, dead, left, place, suspect

from distkit.core import LocalError
from distkit.membership.swim import (
    Alive,
    Claim,
    Conflict,
    Dead,
    Joined,
    Left,
    Status,
    Suspected,
    Updated,
    syncing,
)
from distkit.membership.swim.messages import (
    Ack,
    Gossip,
    Nack,
    Ping,
    PingRequest,
    SyncReply,
    SyncRequest,
    claim_bytes,
)
from distkit.membership.swim.state import fingerprint

MAKE = {Status.ALIVE: lambda i: alive("n1", i), Status.SUSPECT: lambda i: suspect("n1", "n2", i)}
MAKE |= {Status.DEAD: lambda i: dead("n1", "n2", i), Status.LEFT: lambda i: left("n1", i)}


def kinds(events):
    return [type(event) for event in events]


def of(kind, sends):
    return [each for each in sends if type(each[-1]) is kind]


# -- which claim holds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [Status.ALIVE, Status.SUSPECT])
@pytest.mark.parametrize("j", [4, 5, 6])
def test_the_table_of_overrides(known, j):
    """Alive i overrides j if i > j; suspect i overrides alive j if i >= j, suspect j if i > j; dead i if i >= j."""
    i = 5
    expected = {
        Status.ALIVE: i > j,
        Status.SUSPECT: i >= j if known == Status.ALIVE else i > j,
        Status.DEAD: i >= j,
        Status.LEFT: i >= j,
    }
    for status, overrides in expected.items():
        lone = Lone()
        lone.hear(alive("n1", j))
        if known == Status.SUSPECT:
            lone.hear(suspect("n1", "n3", j))
        lone.state.broadcasts.drop("n1")
        lone.hear(MAKE[status](i))
        member = lone.swim.member("n1")
        assert (member.status, member.incarnation) == ((status, i) if overrides else (known, j)), (status, known, j)
        assert ("n1" in lone.state.waiting) == overrides or status == Status.SUSPECT  # that one may be confirmed


@pytest.mark.parametrize("gone", [Status.DEAD, Status.LEFT])
def test_only_a_higher_incarnation_brings_back_who_is_gone(gone):
    lone = Lone()
    lone.hear(MAKE[gone](3))
    for claim in (alive("n1", 3), suspect("n1", "n4", 3), alive("n1", 2)):
        assert lone.hear(claim) == []
    assert lone.status("n1") == gone
    assert kinds(lone.hear(alive("n1", 4))) == [Joined]
    assert lone.status("n1") == Status.ALIVE


def test_a_suspicion_of_a_later_incarnation_shows_that_a_dead_member_came_back():
    lone = Lone()
    lone.hear(dead("n1", "n2", 3))
    assert kinds(lone.hear(suspect("n1", "n2", 4))) == [Joined, Suspected]


def test_what_overrides_is_passed_on_and_nothing_else():
    lone = Lone()
    lone.hear(alive("n1", 1), suspect("n9", "n2"), dead("n9", "n2"))
    assert len(lone.state.waiting) == 0
    lone.hear(alive("n1", 2))
    assert "n1" in lone.state.waiting


def test_each_event_is_told():
    lone = Lone()
    assert kinds(lone.hear(alive("n7"))) == [Joined]
    assert kinds(lone.hear(suspect("n7", "n2"))) == [Suspected]
    assert kinds(lone.hear(alive("n7", 2))) == [Alive]
    assert kinds(lone.hear(alive("n7", 3, b"new"))) == [Updated]
    assert kinds(lone.hear(suspect("n7", "n2", 3), alive("n7", 4, b"newer"))) == [Suspected, Alive, Updated]
    assert kinds(lone.hear(dead("n7", "n2", 4))) == [Dead]
    assert kinds(lone.hear(alive("n7", 5))) == [Joined]
    events = lone.hear(left("n7", 5))
    assert kinds(events) == [Left]
    assert (events[0].member.name, events[0].member.status) == ("n7", Status.LEFT)


def test_of_the_dead_nothing_need_be_known():
    lone = Lone()
    assert lone.hear(dead("x1", "n2"), left("x1"), suspect("x1", "n2")) == []
    assert lone.swim.member("x1") is None
    assert lone.swim.status().counters == {"unknown_member": 3}


def test_the_dead_of_a_table_do_not_become_members():
    lone = Lone()
    claims = [Claim(status, "x1", 1, "", "10.0.0.9:1", b"") for status in (Status.DEAD, Status.LEFT)]
    assert lone.hear(*claims) == []
    assert lone.swim.member("x1") is None


# -- the own incarnation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [Status.SUSPECT, Status.DEAD])
@pytest.mark.parametrize(("claimed", "after"), [(6, 7), (7, 8), (12, 13)])
def test_a_claim_against_oneself_is_refuted_with_a_higher_incarnation(status, claimed, after):
    lone = Lone(incarnation=7)
    lone.hear(Claim(status, "n0", claimed, "n2", "", b""))
    assert lone.state.incarnation == max(7, after)
    assert ("n0" in lone.state.waiting) == (claimed >= 7)
    assert lone.state.awareness == (1 if claimed >= 7 else 0)
    assert lone.status("n0") == Status.ALIVE


def test_what_an_earlier_start_said_is_refuted_without_doubt_in_oneself():
    lone = Lone()
    lone.hear(alive("n0", 1))
    assert lone.state.incarnation == 1
    lone.hear(alive("n0", 9))
    assert lone.state.incarnation == 10
    lone.hear(alive("n0", 10, b"old metadata"))
    assert lone.state.incarnation == 11
    lone.hear(left("n0", 11))
    assert (lone.state.incarnation, lone.state.awareness) == (12, 0)


def test_only_the_member_itself_raises_its_incarnation():
    lone = Lone()
    lone.run(60.0)  # nobody answers: all are suspected and die
    assert {member.incarnation for member in lone.swim.members()} == {1}


# -- probing ----------------------------------------------------------------------------------------------------------


def probed(lone, periods):
    """Names of the members that are pinged in the next periods; all of them answer."""
    names = []
    for _ in range(periods):
        address, ping = lone.next(Ping)
        names.append(ping.target)
        assert address == place(ping.target)
        lone.receive(ping.target, Ack(ping.sequence, ()))
    return names


def test_every_round_probes_each_member_once_in_another_order():
    lone = Lone(size=11)
    rounds = [probed(lone, 10) for _ in range(6)]
    assert all(sorted(names) == sorted(rounds[0]) for names in rounds)
    assert len({tuple(names) for names in rounds}) > 3


def test_nobody_waits_longer_than_2n_minus_1_periods():
    size = 8
    for seed in range(30):
        names = probed(Lone(size=size, seed=seed), 60)
        for name in set(names):
            places = [number for number, each in enumerate(names) if each == name]
            gaps = [after - before for before, after in pairwise(places)]
            assert max(gaps) <= 2 * (size - 1) - 1


def test_who_joins_is_probed_in_the_same_round():
    for seed in range(5):
        lone = Lone(size=9, seed=seed)
        first = probed(lone, 3)
        lone.hear(alive("n9"))
        rest = probed(lone, 6)
        assert sorted(first + rest) == [f"n{number}" for number in range(1, 10)]


def test_who_leaves_does_not_disturb_the_round():
    for seed in range(20):
        lone = Lone(size=9, seed=seed)
        first = probed(lone, 3)
        gone = [first[0], next(f"n{i}" for i in range(1, 9) if f"n{i}" not in first)]
        lone.hear(left(gone[0]), left(gone[1]))
        rest = probed(lone, 4)
        assert sorted(first + rest) == sorted({f"n{i}" for i in range(1, 9)} - {gone[1]})


def test_one_member_a_period_and_no_more():
    lone = Lone(size=20)
    begin = lone.now
    probed(lone, 50)
    assert lone.now - begin == pytest.approx(49.5, abs=0.51)


def test_without_an_answer_three_others_are_asked_and_then_it_is_suspected():
    lone = Lone(size=10)
    sends = lone.run(2.6)
    ping_time, ping_address, ping = of(Ping, sends)[0]
    requests = [each for each in of(PingRequest, sends) if each[2].sequence == ping.sequence]
    assert [time for time, _, _ in requests] == [ping_time + 0.5] * 3
    assert len({address for _, address, _ in requests} - {ping_address}) == 3
    assert {(each.target, each.address) for _, _, each in requests} == {(ping.target, ping_address)}
    assert lone.status(ping.target) == Status.SUSPECT


def test_it_is_suspected_when_the_period_is_over_and_not_before():
    lone = Lone(size=10)
    _, ping = lone.next(Ping)
    lone.run(0.999)
    assert lone.status(ping.target) == Status.ALIVE
    lone.run(0.001)
    assert lone.status(ping.target) == Status.SUSPECT


@pytest.mark.parametrize("after", [0.1, 0.6, 0.999])
def test_an_answer_within_the_period_from_whomever_is_enough(after):
    lone = Lone(size=10)
    _, ping = lone.next(Ping)
    lone.run(after)
    lone.receive("n9", Ack(ping.sequence, ()))
    lone.run(1.0 - after)
    assert lone.status(ping.target) == Status.ALIVE


def test_an_answer_with_another_sequence_counts_for_nothing():
    lone = Lone(size=10)
    _, ping = lone.next(Ping)
    lone.receive(ping.target, Ack(ping.sequence - 1, ()))
    lone.run(1.0)
    assert lone.status(ping.target) == Status.SUSPECT
    assert lone.swim.status().counters == {"late_ack": 1}


def test_a_ping_is_answered_only_by_the_one_it_is_for():
    lone = Lone()
    [(address, ack)] = lone.receive("n3", Ping(77, "n0", ()))
    assert (address, ack.sequence) == (place("n3"), 77)
    assert lone.receive("n3", Ping(78, "other", ())) == []
    assert lone.swim.status().counters == {"wrong_target": 1}


def test_a_relay_pings_with_its_own_number_and_brings_the_answer_back():
    lone = Lone()
    [(address, ping)] = lone.receive("n1", PingRequest(7, "n2", place("n2"), True, ()))
    assert (address, ping.target) == (place("n2"), "n2")
    assert lone.receive("n2", Ack(ping.sequence, ())) == [(place("n1"), Ack(7, ()))]
    assert lone.receive("n2", Ack(ping.sequence, ())) == []
    assert not of(Nack, lone.run(3.0))


def test_a_relay_also_reaches_members_that_it_does_not_know():
    lone = Lone()
    [(address, ping)] = lone.receive("n1", PingRequest(7, "x7", "10.9.9.9:1", False, ()))
    assert (address, ping.target) == ("10.9.9.9:1", "x7")


def test_the_target_itself_is_not_asked():
    for seed in range(20):
        sends = Lone(size=4, seed=seed).run(2.0)
        assert of(PingRequest, sends)
        assert all(address != each.address for _, address, each in of(PingRequest, sends))


def test_only_members_that_are_alive_relay():
    lone = Lone(size=4)
    lone.hear(suspect("n1", "n9"), dead("n2", "n9"))
    lone.state.ring.sort(key=lambda peer: peer.name != "n3")
    sends = lone.run(10.0)
    assert {address for _, address, _ in of(PingRequest, sends)} <= {place("n3")}


# -- gossip -----------------------------------------------------------------------------------------------------------


def told(sends, name):
    return [(time, address) for time, address, message in sends for claim in message.claims if claim.name == name]


def test_news_are_told_as_often_as_the_limit_says_and_then_forgotten():
    lone = Lone(size=20)  # 4 * ceil(log10(21)) = 8
    lone.hear(alive("n3", 2))
    sends = lone.run(30.0)
    assert len(told(sends, "n3")) == 8 + sum(  # what is said of n3 when it does not answer comes on top
        claim.status != Status.ALIVE for _, _, m in sends for claim in m.claims if claim.name == "n3"
    )
    assert "n3" not in lone.state.waiting or lone.status("n3") != Status.ALIVE


def test_gossip_goes_to_three_different_members_every_200_ms():
    lone = Lone(size=5)
    lone.hear(*(alive(f"x{number}") for number in range(200)))
    del lone.state.ring[13:]  # so few that a second choice of one is likely
    sends = of(Gossip, lone.run(1.9))
    times = sorted({time for time, _, _ in sends})
    assert [after - before for before, after in pairwise(times)] == pytest.approx([0.2] * 9)
    for time in times:
        addresses = [address for when, address, _ in sends if when == time]
        assert len(addresses) == len(set(addresses)) == 3


def test_without_news_there_is_no_gossip():
    lone = Lone(size=20)
    for _ in range(50):
        _, ping = lone.next(Ping)
        lone.receive(ping.target, Ack(ping.sequence, ()))
    assert lone.state.gossip_deadline == math.inf


def test_what_was_told_least_often_goes_first_and_packets_stay_within_their_size():
    lone = Lone(size=20)
    lone.hear(*(alive(f"x{number}", 1, bytes(200)) for number in range(30)))
    counts = {}
    for _ in range(60):
        claims = lone.state.piggyback(1000)
        assert sum(map(claim_bytes, claims)) <= 1000
        for claim in claims:
            counts[claim.name] = counts.get(claim.name, 0) + 1
        assert max(counts.values()) - min(counts.get(f"x{number}", 0) for number in range(30)) <= 1
    assert set(counts.values()) == {8}  # limit of 50 members


def test_a_newer_claim_takes_the_place_of_an_older_one():
    lone = Lone(size=5)
    lone.hear(alive("n1", 2))
    lone.state.piggyback(1000)
    lone.hear(suspect("n1", "n2", 2))
    assert [claim.status for claim in lone.state.piggyback(1000)] == [Status.SUSPECT]
    assert len(lone.state.waiting) == 1


def test_a_newer_claim_takes_the_place_of_an_older_one_that_waits():
    lone = Lone(size=5)
    lone.hear(alive("n1", 2), alive("n1", 3))
    assert [claim.incarnation for claim in lone.state.piggyback(1000)] == [3]


def test_every_message_carries_news():
    lone = Lone(size=5)
    for message in (Ping(1, "n0", ()), PingRequest(2, "n2", place("n2"), True, ())):
        lone.hear(alive(f"x{message.sequence}"))
        [(_, sent)] = lone.receive("n1", message)
        assert f"x{message.sequence}" in {claim.name for claim in sent.claims}
    for message in (Ping(1, "n0", (alive("y1"),)), Ack(9, (alive("y2"),)), Nack(9, (alive("y3"),))):
        lone.receive("n1", message)
    assert {"y1", "y2", "y3"} <= {member.name for member in lone.swim.members()}


def test_the_dead_hear_that_they_are_dead_so_that_they_can_object():
    lone = Lone(size=2)
    lone.hear(dead("n1", "n9"))
    sends = lone.run(1.0)
    assert [(address, message.claims[0].status) for _, address, message in sends][:1] == [(place("n1"), Status.DEAD)]


# -- suspicion --------------------------------------------------------------------------------------------------------


def test_a_suspicion_that_nobody_refutes_ends_in_death():
    lone = Lone(size=3)
    lone.hear(suspect("n1", "n2"))
    begin = lone.now
    lone.run(3.999)
    assert lone.status("n1") == Status.SUSPECT
    lone.run(0.001)
    assert lone.status("n1") == Status.DEAD
    assert lone.swim.member("n1").since == begin + 4.0
    [claim] = [claim for claim in lone.state.piggyback(1000) if claim.name == "n1"]
    assert (claim.status, claim.accuser) == (Status.DEAD, "n0")


def test_a_refutation_ends_a_suspicion():
    lone = Lone(size=3)
    lone.state.probe_deadline = math.inf
    lone.hear(suspect("n1", "n2"))
    lone.run(3.0)
    assert kinds(lone.hear(alive("n1", 2))) == [Alive]
    lone.run(90.0)
    assert lone.status("n1") == Status.ALIVE


def test_dead_members_are_forgotten_after_a_while():
    lone = Lone(size=3)
    lone.hear(dead("n1", "n2"), left("n2"))
    lone.run(29.9)
    assert lone.swim.member("n1") is not None
    lone.run(0.2)
    assert [member.name for member in lone.swim.members()] == ["n0"]
    assert (lone.state.names, lone.state.peers, lone.state.live) == (["n0"], {}, 1)


def test_who_came_back_is_not_forgotten():
    lone = Lone(size=3, probe_interval=1000.0)
    lone.hear(dead("n1", "n2"))
    lone.run(10.0)
    lone.hear(alive("n1", 2))
    lone.run(25.0)
    assert lone.status("n1") == Status.ALIVE
    lone.hear(dead("n1", "n2", 2))
    lone.run(29.0)
    assert lone.status("n1") == Status.DEAD
    lone.run(2.0)
    assert lone.status("n1") is None


# -- tables -----------------------------------------------------------------------------------------------------------


def test_joining_asks_the_contacts_in_turn_until_one_answers():
    lone = Lone(size=1)
    lone.swim.join(lone.now, ["a:1", "b:1", place("n0")])
    sends = of(SyncRequest, lone.run(2.9))
    assert [address for _, address, message in sends if message.mutual] == ["a:1", "b:1", "a:1"]
    request = sends[-1][2]
    assert request.claims[0] == alive("n0")
    lone.receive("a:1", SyncReply(request.after, False, (alive("n1"), alive("n0"))))
    lone.receive("n1", Gossip((alive("n1"),)))
    assert not [m for _, _, m in of(SyncRequest, lone.run(5.0)) if m.mutual]


def test_a_table_comes_in_parts_that_each_fit_a_packet():
    giver, taker = Lone(size=300), Lone(size=1)
    taker.swim.join(taker.now, [place("n1")])
    [(_, _, request)] = of(SyncRequest, taker.run(0.0))
    parts = 0
    while request is not None:
        [(_, reply)] = of(SyncReply, giver.receive("n0", request))
        assert sum(map(claim_bytes, reply.claims)) + 5 + len(reply.after) <= giver.state.room
        answer = of(SyncRequest, taker.receive("n1", reply))
        request = answer[0][1] if answer else None
        parts += 1
    assert parts > 5
    assert {member.name for member in taker.swim.members()} == {f"n{number}" for number in range(300)}
    assert taker.state.sync_deadline == math.inf


def test_equal_tables_are_not_sent():
    one, two = Lone(size=5), Lone(size=5)
    request = SyncRequest(one.state.digest, "", True, (one.state.own_claim,))
    assert two.receive("n1", request) == [(place("n1"), SyncReply("", False, ()))]


def test_both_learn_when_tables_are_compared_and_the_exchange_ends():
    lone = Lone(size=5)
    request = SyncRequest(12345, "", True, (alive("n9"),))
    sends = lone.receive("n9", request)
    assert [type(message) for _, message in sends] == [SyncReply, SyncRequest]
    assert sends[1][1].mutual is False
    sends = lone.receive("n9", SyncRequest(12345, "", False, (alive("n9"),)))
    assert [type(message) for _, message in sends] == [SyncReply]


def test_a_table_that_is_asked_back_is_the_end_of_it():
    lone = Lone(size=5)
    sends = lone.receive("n9", SyncRequest(12345, "", False, (alive("n9"),)))
    assert [type(message) for _, message in sends] == [SyncReply]


def test_tables_are_compared_at_the_pace_of_the_group():
    for size, seconds in ((20, 30.0), (40, 60.0), (70, 90.0)):
        lone = Lone(size=size, probe_interval=1e6)
        sends = [message for _, _, message in of(SyncRequest, lone.run(seconds * 10 + 31))]
        assert len([message for message in sends if message.mutual]) in (10, 11)


def test_the_digest_is_that_of_the_live_members_whatever_the_way_there():
    world = World(6)
    world.run(20.0)
    world.kill("n5")
    world.run(60.0)
    world.start("n6", contact="n1")
    world.run(30.0)
    assert len({swim.state.digest for swim in world.swims.values()}) == 1
    for swim in world.swims.values():
        digest = 0
        for member in swim.members():
            digest ^= fingerprint(member.name, member.incarnation, member.metadata)
        assert digest == swim.state.digest


def test_what_a_table_says_of_the_dead_is_only_a_suspicion():
    lone = Lone(size=5)
    lone.receive("n4", SyncRequest(1, "", False, (Claim(Status.DEAD, "n1", 1, "", place("n1"), b""),)))
    assert lone.status("n1") == Status.SUSPECT
    lone.receive("n4", SyncRequest(1, "", False, (Claim(Status.LEFT, "n2", 1, "", place("n2"), b""),)))
    assert lone.status("n2") == Status.LEFT
    lone.receive("n4", SyncRequest(1, "", False, (Claim(Status.SUSPECT, "x1", 4, "", place("x1"), b"m"),)))
    member = lone.swim.member("x1")
    assert (member.status, member.incarnation, member.metadata) == (Status.SUSPECT, 4, b"m")


def test_an_answer_that_nobody_asked_for_changes_nothing():
    lone = Lone(size=2)
    lone.receive("n1", SyncReply("", False, (alive("x1"),)))
    assert lone.swim.member("x1") is None


def test_a_lost_answer_is_asked_for_again_but_not_for_ever():
    lone = Lone(size=2, probe_interval=1e6)
    syncing.begin(lone.state, lone.now, "a:1", True)
    sends = [(lone.now, *each) for each in lone.sent()] + lone.run(10.0)
    assert [address for _, address, message in sends if type(message) is SyncRequest] == ["a:1"] * 3
    assert lone.state.sync_address == ""


# -- leaving, updating, restarting ------------------------------------------------------------------------------------


def test_leaving_is_not_dying():
    world = World(5)
    world.run(5.0)
    world.swims["n3"].leave(world.now)
    world.turn("n3")
    world.run(5.0)
    assert {name for _, name, member in world.of(Left) if member == "n3"} == {"n0", "n1", "n2", "n3", "n4"}
    assert world.of(Dead) == []
    assert world.swims["n3"].deadline() == math.inf
    world.kill("n3")
    world.run(60.0)
    assert world.of(Suspected) == []
    assert all("n3" not in view for view in world.views().values())


def test_who_leaves_does_not_refute_it_any_more():
    lone = Lone()
    lone.swim.leave(lone.now)
    lone.hear(suspect("n0", "n3"), left("n0"), dead("n0", "n3"))
    assert lone.state.incarnation == 1
    assert lone.state.waiting["n0"].claim == left("n0")


def test_who_leaves_tells_until_the_limit():
    lone = Lone(size=20)
    lone.swim.leave(lone.now)
    sends = lone.run(10.0)
    assert len(told(sends, "n0")) == 8
    assert kinds(lone.taken()) == [Left]


def test_who_is_alone_has_left_at_once():
    lone = Lone(size=1)
    lone.swim.leave(lone.now)
    lone.swim.leave(lone.now)
    lone.run(0.0)
    assert kinds(lone.taken()) == [Left]
    assert lone.receive("n1", Ping(1, "n0", ())) == []
    with pytest.raises(LocalError, match="leaving"):
        lone.swim.join(lone.now, ["a:1"])
    with pytest.raises(LocalError, match="leaving"):
        lone.swim.update(lone.now, b"")


def test_new_metadata_reach_everybody():
    world = World(6)
    world.run(5.0)
    world.swims["n2"].update(world.now, b"weight=3")
    assert world.swims["n2"].member("n2").incarnation == 2
    world.turn("n2")
    world.run(3.0)
    assert {name for _, name, member in world.of(Updated) if member == "n2"} == {"n0", "n1", "n3", "n4", "n5"}
    assert {swim.member("n2").metadata for swim in world.swims.values()} == {b"weight=3"}
    assert {swim.member("n2").incarnation for swim in world.swims.values()} == {2}
    world.swims["n2"].update(world.now, b"weight=3")
    assert world.swims["n2"].member("n2").incarnation == 2
    with pytest.raises(LocalError, match="512"):
        world.swims["n2"].update(world.now, bytes(513))


def test_two_nodes_of_one_name_are_a_conflict_that_the_first_one_wins():
    lone = Lone()
    event, *more = lone.hear(*[alive("n1", 5, address="10.7.7.7:1")] * 3)
    assert event == Conflict(lone.swim.member("n1"), "10.7.7.7:1")
    assert more == []
    assert lone.swim.member("n1").address == place("n1")
    lone.hear(dead("n1", "n2"))
    assert kinds(lone.hear(alive("n1", 5, address="10.7.7.7:1"))) == [Joined]
    assert lone.swim.member("n1").address == "10.7.7.7:1"


def test_a_second_node_of_the_own_name_is_not_refuted_for_ever():
    lone = Lone()
    lone.hear(alive("n0", 9, address="10.7.7.7:1"))
    assert lone.state.incarnation == 1
    lone.hear(dead("n0", "n2", 9))
    assert lone.state.incarnation == 10


def test_a_node_that_comes_back_at_another_address_is_a_member_once_the_old_one_is_dead():
    world = World(4)
    world.run(5.0)
    world.kill("n3")
    world.start("n3", contact="n0", address="10.0.0.33:7946")
    world.run(40.0)
    assert {swim.member("n3").address for swim in world.swims.values()} == {"10.0.0.33:7946"}
    assert all(view["n3"][0] == Status.ALIVE for view in world.views().values())
