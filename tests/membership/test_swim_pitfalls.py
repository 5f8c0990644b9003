"""What goes wrong in the field: mass restarts, slow nodes, cut networks, floods; and what is bounded."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from swim_world import Lone, World, alive, dead, left, place, suspect

from distkit.core import LocalError, PeerError
from distkit.membership.swim import Claim, Conflict, Dead, Joined, Status, Suspected, Swim, SwimOptions
from distkit.membership.swim.messages import (
    INCARNATION_MAX,
    Ack,
    Gossip,
    Nack,
    Ping,
    PingRequest,
    SyncReply,
    SyncRequest,
    check_message,
)


def agreed(world):
    """That every node sees the same members, all alive, with one incarnation each."""
    views = world.views()
    first = next(iter(views.values()))
    assert all(view == first for view in views.values())
    assert sorted(first) == sorted(world.swims)
    assert {status for status, _ in first.values()} == {Status.ALIVE}


# -- restarts (hashicorp/memberlist#345) ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_after_a_restart_of_all_at_once_every_node_is_alive_with_one_incarnation(seed):
    world = World(8, seed=seed)
    world.run(10.0)
    agreed(world)
    world.kill(*list(world.swims))
    for number in range(8):  # what was on its way arrives at the new processes
        world.start(f"n{number}", contact=f"n{(number + 1) % 8}", metadata=b"second start")
    world.run(45.0)  # gossip finds nearly all, the comparison of tables the rest
    agreed(world)
    assert {swim.member("n3").metadata for swim in world.swims.values()} == {b"second start"}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("gap", [0.1, 3.0, 12.0])
def test_after_a_rolling_restart_every_node_is_alive_with_one_incarnation(seed, gap):
    world = World(6, seed=seed)
    world.run(10.0)
    for number in range(6):
        world.kill(f"n{number}")
        world.run(gap)
        world.start(f"n{number}", contact=f"n{(number + 1) % 6}")
        world.run(1.0)
    world.run(40.0)
    agreed(world)


def test_a_restart_with_the_same_incarnation_and_other_metadata_is_seen():
    world = World(4)
    world.run(5.0)
    world.kill("n3")
    world.start("n3", contact="n0", metadata=b"new")
    world.run(5.0)
    agreed(world)
    assert {swim.member("n3").metadata for swim in world.swims.values()} == {b"new"}


def test_who_restarts_with_a_lower_incarnation_goes_above_what_others_remember():
    world = World(4)
    world.run(5.0)
    for metadata in (b"1", b"2", b"3"):
        world.swims["n3"].update(world.now, metadata)
        world.turn("n3")
        world.run(1.0)
    world.kill("n3")
    world.start("n3", contact="n0")
    world.run(10.0)
    agreed(world)
    assert world.swims["n0"].member("n3").incarnation > 4
    assert world.swims["n0"].member("n3").metadata == b""


def test_a_member_hears_what_others_hold_against_its_present_start():
    lone = Lone()
    claim = alive("n1", 1, b"new")
    assert lone.hear(claim) == []
    sends = lone.receive("n2", Gossip((claim,)))
    assert sends == [(place("n1"), Gossip((claim, alive("n1", 1))))]
    assert lone.swim.member("n1").metadata == b""


# -- slow nodes (hashicorp/consul#5567, serf#269) ---------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_one_node_that_stalls_5_seconds_in_10_does_not_take_healthy_ones_down(seed):
    world = World(16, seed=seed)
    world.run(10.0)
    begin = world.now
    for _ in range(12):
        world.stalled["n5"] = world.now + 5.0
        world.run(10.0)
    healthy = {f"n{number}" for number in range(16)} - {"n5"}
    assert [each for each in world.of(Dead) if each[2] in healthy] == []
    # Each stall may cause a suspicion of the slow node at each node, a death, and its refutation; nothing else moves.
    changes = [(node, event) for time, node, event in world.events if time > begin and event.member.name in healthy]
    assert len(changes) <= 2 * 12 * 4
    changes = [node for time, node, event in world.events if time > begin and event.member.name == "n5"]
    assert len(changes) <= 12 * 16 * 4
    world.run(60.0)
    agreed(world)


@pytest.mark.parametrize("loss", [0.05, 0.2])
def test_lost_messages_take_nobody_down(loss):
    world = World(12)
    world.run(5.0)
    chance = Random(5)
    world.lose = lambda *_: chance.random() < loss
    world.run(120.0)
    assert world.of(Dead) == []


def test_a_node_that_hears_nothing_doubts_itself():
    world = World(10)
    world.run(5.0)
    world.lose = lambda now, source, target, message: target == place("n4")
    world.run(4.0)
    assert world.swims["n4"].status().awareness > 0
    assert {world.swims[f"n{number}"].status().awareness for number in (0, 1, 2, 3)} == {0}


def test_in_a_large_group_a_suspended_node_compares_tables_at_once():
    lone = Lone(size=300)
    lone.run(40.0)
    assert lone.state.sync_due > lone.now + 61
    lone.now += 60.0
    lone.swim.tick(lone.now)
    sends = [(lone.now, *each) for each in lone.sent()] + lone.run(0.1)
    assert [each for each in sends if type(each[2]) is SyncRequest]


def test_a_suspended_node_comes_back_although_all_others_have_forgotten_it():
    world = World(5)
    world.run(5.0)
    world.stalled["n4"] = world.now + 120.0
    world.run(115.0)
    assert all(swim.member("n4") is None for name, swim in world.swims.items() if name != "n4")
    world.run(15.0)
    agreed(world)


# -- crashes and cuts -------------------------------------------------------------------------------------------------


def test_a_crash_is_found_by_all_within_the_time_that_the_options_promise():
    world = World(20)
    world.run(10.0)
    world.kill("n7")
    begin = world.now
    world.run(60.0)
    found = {name: time - begin for time, name, member in world.of(Dead) if member == "n7"}
    assert len(found) == 19
    assert max(found.values()) < 4 + 5.204 + 2  # some periods until it is probed, the shortest suspicion, gossip
    assert {member for _, _, member in world.of(Dead)} == {"n7"}
    assert all(time - begin >= 5.204 for time, _, _ in world.of(Dead))


def test_many_crashes_at_once_are_found():
    world = World(12)
    world.run(10.0)
    gone = [f"n{number}" for number in range(3, 12, 2)]
    world.kill(*gone)
    world.run(60.0)
    agreed(world)
    assert {member for _, _, member in world.of(Dead)} == set(gone)


def test_a_group_that_was_cut_in_two_for_longer_than_it_remembers_heals():
    world = World(8)
    for swim in world.swims.values():
        swim.join(world.now, [place("n0"), place("n7")])
    world.run(10.0)
    left_half = {place(f"n{number}") for number in range(4)}
    world.lose = lambda now, source, target, message: (place(source) in left_half) != (target in left_half)
    world.run(120.0)
    assert all(len(view) == 4 for view in world.views().values())
    world.lose = lambda *_: False
    world.run(130.0)
    agreed(world)


def test_a_hundred_nodes_that_start_together_find_each_other():
    world = World(100)
    world.run(8.0)
    agreed(world)
    assert world.of(Suspected) == []
    assert len(world.of(Joined)) == 100 * 99


def story(seed):
    """Starts, crashes, good-byes, cuts, losses and stalls at random; then all is well for a while."""
    random = Random(seed)
    size = random.choice([3, 5, 8, 12])
    world = World(size, seed=seed)
    names = [f"n{number}" for number in range(size)]
    contacts = [place(name) for name in names[:3]]
    loss, half = [0.0], [set()]
    world.lose = lambda now, source, target, message: (
        random.random() < loss[0] or (place(source) in half[0]) != (target in half[0])
    )

    def start(name):
        world.start(name, metadata=bytes([random.randrange(3)]))  # with the same incarnation as ever
        world.swims[name].join(world.now, contacts)
        world.turn(name)

    for swim in world.swims.values():
        swim.join(world.now, contacts)
    for _ in range(random.randrange(5, 25)):
        up, down = list(world.swims), [name for name in names if name not in world.swims]
        what = random.choice(["kill", "start", "start", "leave", "cut", "join", "lose", "stall", "update"])
        name = random.choice(down if what == "start" and down else up)
        if what == "start" and down:
            start(name)
        elif what == "kill" and len(up) > 1:
            world.kill(name)
        elif what == "leave" and len(up) > 1:
            world.swims[name].leave(world.now)
            world.turn(name)
            world.run(random.random() * 2)
            world.kill(name)
        elif what == "cut":
            half[0] = {place(name) for name in names if random.random() < 0.5}
        elif what == "join":
            half[0] = set()
        elif what == "lose":
            loss[0] = random.choice([0.0, 0.1, 0.3, 0.6])
        elif what == "stall":
            world.stalled[name] = world.now + random.random() * 40
        elif what == "update":
            world.swims[name].update(world.now, bytes([random.randrange(5)]))
            world.turn(name)
        world.run(random.choice([0.1, 1.0, 5.0, 20.0, 50.0]))
    loss[0], half[0] = 0.0, set()
    for name in names[:3]:
        if name not in world.swims:
            start(name)
    world.run(200.0)
    return world


@pytest.mark.parametrize("seed", range(25))
def test_whatever_has_happened_in_the_end_all_agree(seed):
    world = story(seed)
    agreed(world)
    for name, swim in world.swims.items():
        metadata = swim.member(name).metadata
        assert {other.member(name).metadata for other in world.swims.values()} == {metadata}


# -- bounds -----------------------------------------------------------------------------------------------------------


def test_members_are_bounded_and_the_dead_make_room_first():
    lone = Lone(size=4, members_max=5)
    lone.hear(alive("x1"), alive("x2"))
    assert lone.swim.status().live == 5
    assert lone.swim.status().counters == {"full": 1}
    lone.hear(dead("n1", "n2"), dead("n2", "n3"), alive("n1", 2))
    lone.hear(alive("x3"))
    assert {member.name for member in lone.swim.members()} == {"n0", "n1", "n3", "x1", "x3"}
    lone.run(60.0)


def test_relays_are_bounded():
    lone = Lone(relays_max=10)
    for number in range(20):
        lone.receive("n1", PingRequest(number, "n2", place("n2"), True, ()))
    assert lone.swim.status().relays == 10
    assert lone.swim.status().counters == {"relays_full": 10}


def test_contacts_are_bounded():
    lone = Lone()
    lone.swim.join(lone.now, [f"a:{number}" for number in range(1000)])
    assert len(lone.state.contacts) == 64


def test_a_member_that_flaps_without_end_leaves_no_heap_of_timers():
    lone = Lone(size=10)
    for number in range(1, 1000):
        lone.hear(suspect("n1", "n2", number), suspect("n1", "n3", number), alive("n1", number + 1))
        lone.hear(left("n2", number), alive("n2", number + 1))
    assert len(lone.state.suspicions) < 120
    assert len(lone.state.graves) < 100
    lone.hear(suspect("n1", "n2", 2000))
    lone.state.probe_deadline = math.inf
    lone.run(24.1)
    assert lone.status("n1") == Status.DEAD
    lone.run(31.0)
    assert (lone.status("n1"), lone.status("n2")) == (None, Status.ALIVE)


def test_one_small_request_causes_no_more_than_two_packets_at_once():
    lone = Lone(size=500)
    assert len(lone.receive("n1", SyncRequest(1, "", True, (alive("n1"),)))) == 2
    for request in (
        SyncRequest(1, "", False, (alive("n1"),)),
        Ping(1, "n0", ()),
        PingRequest(1, "n2", place("n2"), True, ()),
    ):
        assert len(lone.receive("n1", request)) == 1


def test_a_flood_of_conflicts_is_told_once():
    lone = Lone()
    events = lone.hear(*(alive("n1", number, address="10.1.1.1:1") for number in range(2, 300)))
    assert [type(event) for event in events] == [Conflict]


def test_an_incarnation_at_its_bound_cannot_be_refuted_but_harms_nothing():
    lone = Lone()
    lone.hear(suspect("n0", "n1", INCARNATION_MAX))
    assert lone.state.incarnation == 1
    assert lone.swim.status().counters == {"nonsense": 1}


NAMES = st.sampled_from([f"n{number}" for number in range(6)] + ["x1", "x2", "x3"])
CLAIMS = st.builds(
    Claim,
    st.integers(0, 3),
    NAMES,
    st.integers(0, 5),
    st.sampled_from(["", "n0", "n1", "n2"]),
    st.sampled_from(["", "10.0.0.1:7946", "10.9.9.9:1"]),
    st.sampled_from([b"", b"m"]),
).filter(lambda claim: claim.address or claim.accuser)
NEWS = st.lists(CLAIMS, max_size=4).map(tuple)
SEQUENCES = st.integers(0, 3)
MESSAGES = st.one_of(
    st.builds(Ping, SEQUENCES, NAMES, NEWS),
    st.builds(Ack, SEQUENCES, NEWS),
    st.builds(PingRequest, SEQUENCES, NAMES, st.just("10.9.9.9:1"), st.booleans(), NEWS),
    st.builds(Nack, SEQUENCES, NEWS),
    st.builds(Gossip, NEWS),
    st.builds(SyncRequest, st.integers(0, 3), st.sampled_from(["", "n1"]), st.booleans(), NEWS),
    st.builds(SyncReply, st.sampled_from(["", "n1"]), st.booleans(), NEWS),
)
STEPS = st.one_of(st.floats(0.0, 20.0), st.tuples(st.sampled_from(["n1", "n2", "z"]), MESSAGES))


def consistent(lone):
    """What must hold after everything."""
    s = lone.state
    members = lone.swim.members()
    live = [member for member in members if member.status <= Status.SUSPECT]
    assert s.live == len(live)
    assert s.names == sorted([*s.peers, "n0"])
    listed = [peer for peer in s.ring if peer.status != Status.LEFT]
    assert sorted(peer.name for peer in listed) == sorted(p.name for p in s.peers.values() if p.status != Status.LEFT)
    assert all(s.peers[peer.name] is peer for peer in listed)
    assert all(peer.in_ring for peer in s.ring)
    assert len(s.ring) <= 2 * len(s.peers) + 40
    assert 0 <= s.probed <= len(s.ring)
    assert 0 <= s.awareness <= 7
    assert set(s.waiting) <= {*s.peers, "n0"}
    assert s.broadcasts._bytes == sum(news.size for news in s.waiting.values())
    for peer in s.peers.values():
        assert (peer.suspicion is not None) == (peer.status == Status.SUSPECT)
    for deadline, _, suspicion in s.suspicions:
        assert suspicion.deadline != deadline or suspicion.peer.suspicion is suspicion


@given(st.lists(STEPS, max_size=30), st.integers(0, 3))
def test_no_sequence_of_messages_and_times_confuses_a_node(steps, seed):
    lone = Lone(size=4, seed=seed, told=False, members_max=6)
    for step in steps:
        if isinstance(step, float):
            lone.run(step)
        else:
            lone.receive(*step)
        consistent(lone)
    assert len(lone.swim.members()) <= 6
    assert math.isfinite(lone.swim.deadline())
    lone.run(300.0)
    consistent(lone)
    assert lone.state.graves == type(lone.state.graves)()
    assert lone.state.suspicions == []
    lone.swim.leave(lone.now)
    lone.run(60.0)
    assert lone.swim.deadline() == math.inf


@given(st.permutations([alive("n1", 4), suspect("n1", "n2", 4), suspect("n1", "n3", 3), alive("n1", 3), left("n1", 5)]))
def test_the_order_in_which_news_come_does_not_matter(claims):
    lone = Lone()
    for claim in claims:
        lone.hear(claim)
    assert (lone.status("n1"), lone.swim.member("n1").incarnation) == (Status.LEFT, 5)


# -- contract ---------------------------------------------------------------------------------------------------------


def test_the_same_calls_give_the_same_outputs():
    def story():
        world = World(10, seed=3)
        world.run(10.0)
        world.kill("n3")
        world.run(30.0)
        return world.sends, world.events, [swim.digest() for swim in world.swims.values()]

    assert story() == story()


def test_time_does_not_go_back_and_is_a_number():
    lone = Lone()
    for now in (lone.now - 1, math.nan):
        for call in (
            lambda now: lone.swim.tick(now),
            lambda now: lone.swim.receive(now, "a:1", Gossip(())),
            lambda now: lone.swim.leave(now),
            lambda now: lone.swim.join(now, []),
        ):
            with pytest.raises(LocalError, match="time went back"):
                call(now)


def test_early_late_and_repeated_ticks_are_harmless():
    lone = Lone(size=5)
    due = lone.swim.deadline()
    before = lone.swim.digest()
    for _ in range(3):
        lone.swim.tick(lone.now)
    assert lone.sent() == []
    assert lone.swim.digest() == before
    lone.now = due + 1000.0
    lone.swim.tick(lone.now)
    assert len([each for each in lone.sent() if type(each[1]) is Ping]) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": ""},
        {"name": "x" * 129},
        {"address": ""},
        {"metadata": bytes(513)},
        {"metadata": "text"},
        {"incarnation": 0},
        {"now": math.nan},
        {"now": -1.0},
        {"known": [suspect("n1", "n2")]},
        {"known": [alive("n1"), alive("n1")]},
    ],
)
def test_a_node_that_makes_no_sense_is_refused(arguments):
    right = {"name": "n0", "address": "a:1", "now": 0.0, "random": Random(1), "options": SwimOptions()}
    values = right | arguments
    with pytest.raises(LocalError):
        Swim(values.pop("name"), values.pop("address"), **values)


def test_other_messages_and_addresses_are_local_errors():
    lone = Lone()
    with pytest.raises(LocalError, match="takes no str"):
        lone.swim.receive(lone.now, "a:1", "hello")
    with pytest.raises(LocalError, match="addresses"):
        lone.swim.join(lone.now, ["a:1", ""])


@pytest.mark.parametrize(
    "message",
    [
        Gossip((Claim(4, "a", 1, "", "a:1", b""),)),
        Gossip((Claim(0, "", 1, "", "a:1", b""),)),
        Gossip((Claim(0, "x" * 129, 1, "", "a:1", b""),)),
        Gossip((Claim(1, "a", 1, "x" * 129, "", b""),)),
        Gossip((Claim(0, "a", 1, "", "x" * 256, b""),)),
        Gossip((Claim(0, "a", 1, "", "a:1", bytes(513)),)),
        Gossip((Claim(0, "a", INCARNATION_MAX + 1, "", "a:1", b""),)),
        Gossip((Claim(0, "a", 1, "", "", b""),)),
        Ping(1, "", ()),
        Ping(1, "ü" * 65, ()),
        PingRequest(1, "a", "", True, ()),
        SyncRequest(1, "x" * 129, True, ()),
    ],
)
def test_messages_that_no_member_sends_are_found(message):
    with pytest.raises(PeerError):
        check_message(message)


def test_names_have_a_bound():
    check_message(Gossip((alive("x" * 128, address="a:1"),)))
    with pytest.raises(PeerError):
        check_message(Gossip((alive("x" * 129, address="a:1"),)))


def test_messages_that_members_send_pass():
    world = World(6)
    world.run(30.0)
    world.kill("n3")
    world.run(60.0)
    assert {type(message) for *_, message in world.sends} >= {
        Ping,
        Ack,
        PingRequest,
        Nack,
        Gossip,
        SyncRequest,
        SyncReply,
    }
    for *_, message in world.sends:
        check_message(message)
