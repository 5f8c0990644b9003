"""Lifeguard, part by part: awareness, nacks, suspicion timeouts, buddies."""

import pytest
from swim_world import Lone, alive, place, suspect

from distkit.membership.swim import Status
from distkit.membership.swim.messages import Ack, Nack, Ping, PingRequest


def of(kind, sends):
    return [each for each in sends if type(each[-1]) is kind]


def fail_a_probe(lone, nacks=0):
    """One period in which the target does not answer, and so many of the relays say so."""
    _, ping = lone.next(Ping)
    end = lone.state.probe_end
    requests = of(PingRequest, lone.run(lone.state.probe_deadline - lone.now))
    for _, address, request in requests[:nacks]:
        assert request.sequence == ping.sequence
        lone.receive(address, Nack(request.sequence, ()))
    return end


# -- awareness --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("nacks", "score"), [(0, 3), (1, 2), (2, 1), (3, 0)])
def test_a_failed_probe_adds_the_missing_nacks(nacks, score):
    lone = Lone(size=10)
    end = fail_a_probe(lone, nacks)
    lone.run(end - lone.now)
    assert lone.state.awareness == score


def test_a_failed_probe_adds_one_where_nobody_can_nack():
    lone = Lone(size=10, nacks=False)
    lone.run(fail_a_probe(lone) - lone.now)
    assert lone.state.awareness == 1
    lone = Lone(size=2)  # nobody to ask
    lone.run(fail_a_probe(lone) - lone.now)
    assert lone.state.awareness == 1


def test_each_relay_nacks_once():
    lone = Lone(size=10)
    _, ping = lone.next(Ping)
    end = lone.state.probe_end
    requests = of(PingRequest, lone.run(0.5))
    for _ in range(3):
        lone.receive(requests[0][1], Nack(ping.sequence, ()))
    lone.run(end - lone.now)
    assert lone.state.awareness == 2


def test_an_answer_takes_one_away_and_the_score_stays_between_0_and_7():
    lone = Lone(size=30)
    for expected in (3, 7, 7):  # in each turn the next probe begins, which fails in the following one
        lone.run(fail_a_probe(lone) - lone.now)
        assert lone.state.awareness == expected
    for expected in (6, 5, 4, 3, 2, 1, 0, 0):
        sequence = lone.state.probe_sequence if lone.state.probe else lone.next(Ping)[1].sequence
        lone.receive("n1", Ack(sequence, ()))
        assert lone.state.awareness == expected


def test_refuting_a_suspicion_of_oneself_adds_one():
    lone = Lone()
    lone.hear(suspect("n0", "n3"))
    lone.hear(suspect("n0", "n3"))  # stale by now
    assert lone.state.awareness == 1


@pytest.mark.parametrize("score", [0, 1, 3, 7])
def test_interval_and_timeout_are_scaled_by_the_score_and_one(score):
    lone = Lone(size=10)
    lone.state.awareness = score
    _, ping = lone.next(Ping)
    begin = lone.now
    sends = lone.run(8.5)
    requests = [each for each in of(PingRequest, sends) if each[2].sequence == ping.sequence]
    assert requests[0][0] - begin == pytest.approx(0.5 * (score + 1))
    assert of(Ping, sends)[0][0] - begin == pytest.approx(1.0 * (score + 1))


def test_without_lifeguard_the_score_stays_0():
    lone = Lone(size=10, awareness_max=1)
    lone.run(20.0)
    assert lone.state.awareness == 0


# -- nacks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [True, False])
def test_a_relay_nacks_when_its_own_probe_times_out_if_that_is_wanted(wanted):
    lone = Lone(size=5, probe_interval=1e6)
    lone.receive("n1", PingRequest(7, "n2", place("n2"), wanted, ()))
    begin = lone.now
    nacks = of(Nack, lone.run(2.0))
    assert nacks == ([(begin + 0.4, place("n1"), Nack(7, ()))] if wanted else [])
    assert lone.state.relays == {}


def test_a_nack_arrives_before_the_period_of_the_one_who_asked_is_over():
    options = Lone().options
    assert options.probe_timeout + options.relay_timeout < options.probe_interval


def test_late_nacks_are_counted():
    lone = Lone()
    lone.receive("n1", Nack(7, ()))
    assert lone.swim.status().counters == {"late_nack": 1}


# -- suspicion --------------------------------------------------------------------------------------------------------


def lasts(lone, *accusers, after=0.0):
    """How long a suspicion of n1 by n2 lasts if these confirm it after a while."""
    begin = lone.now
    lone.hear(suspect("n1", "n2"))
    lone.run(after)
    lone.hear(*(suspect("n1", accuser) for accuser in accusers))
    lone.run(300.0)
    member = lone.swim.member("n1")
    return None if member is None or member.status != Status.DEAD else round(member.since - begin, 6)


def big(**options):
    """A node in a group of 10 (shortest suspicion 4 s, longest 24 s, 2 confirmations) that probes nobody itself."""
    return Lone(size=10, probe_interval=1.0, gossip_to_dead=1e6, **options)


def quiet(lone):
    lone.state.probe_deadline = 1e12
    return lone


@pytest.mark.parametrize(
    ("accusers", "seconds"),
    [
        ((), 24.0),
        (("n3",), 11.381),  # floor(1000 * (24 - ln 2 / ln 3 * 20)) = 11381
        (("n3", "n4"), 4.0),
        (("n2", "n2"), 24.0),  # the first accuser does not count
        (("n3", "n3", "n3"), 11.381),  # nor does anybody twice
        (("n3", "n4", "n5", "n6"), 4.0),  # and no more than two
    ],
)
def test_a_suspicion_lasts_as_long_as_the_formula_says(accusers, seconds):
    assert lasts(quiet(big()), *accusers) == seconds


def test_confirmations_that_come_late_end_it_at_once():
    assert lasts(quiet(big()), "n3", "n4", after=7.0) == 7.0
    assert lasts(quiet(big()), "n3", after=7.0) == 11.381


def test_without_enough_others_there_is_nobody_to_wait_for():
    assert lasts(quiet(Lone(size=3, gossip_to_dead=1e6))) == 4.0


def test_without_lifeguard_a_suspicion_is_short():
    assert lasts(quiet(big(suspicion_max_mult=1))) == 4.0


def test_a_confirmation_is_passed_on_as_long_as_it_counts():
    lone = quiet(big())
    lone.hear(suspect("n1", "n2"))
    for accuser, passed in (("n2", False), ("n3", True), ("n3", False), ("n4", True), ("n5", False)):
        lone.state.broadcasts.drop("n1")
        lone.hear(suspect("n1", accuser))
        assert ("n1" in lone.state.waiting) == passed, accuser


def test_a_claim_of_another_incarnation_confirms_nothing():
    lone = quiet(big())
    lone.hear(alive("n1", 3), suspect("n1", "n2", 3))
    lone.hear(suspect("n1", "n3", 2), suspect("n1", "n4", 1))
    assert len(lone.state.peers["n1"].suspicion.accusers) == 1


def test_a_suspicion_of_a_later_incarnation_starts_anew():
    lone = quiet(big())
    lone.hear(suspect("n1", "n2", 1), suspect("n1", "n3", 1))
    lone.run(3.0)
    lone.hear(suspect("n1", "n4", 2))
    suspicion = lone.state.peers["n1"].suspicion
    assert (list(suspicion.accusers), suspicion.deadline) == (["n4"], lone.now + 24.0)
    lone.run(23.9)
    assert lone.status("n1") == Status.SUSPECT


def test_the_own_failed_probe_confirms_too():
    lone = big(awareness_max=1)
    lone.hear(suspect("n1", "n2"))
    lone.run(10.5)
    assert list(lone.state.peers["n1"].suspicion.accusers) == ["n2", "n0"]


# -- buddies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("buddy", [True, False])
def test_a_ping_to_a_suspect_carries_the_suspicion(buddy):
    lone = Lone(size=2, buddy=buddy)
    lone.hear(suspect("n1", "n5", 3))
    lone.state.broadcasts.drop("n1")
    _, ping = lone.next(Ping)
    assert ping.claims[:1] == ((suspect("n1", "n0", 3),) if buddy else ())


def test_a_relayed_ping_to_a_suspect_does_as_well():
    lone = Lone()
    lone.hear(suspect("n1", "n5", 3))
    [(_, ping)] = of(Ping, lone.receive("n2", PingRequest(1, "n1", place("n1"), True, ())))
    assert ping.claims[0] == suspect("n1", "n0", 3)


def test_the_answer_of_a_suspect_carries_its_refutation():
    lone = Lone()
    [(_, ack)] = lone.receive("n1", Ping(5, "n0", (suspect("n0", "n1", 1),)))
    assert ack == Ack(5, (alive("n0", 2),))
