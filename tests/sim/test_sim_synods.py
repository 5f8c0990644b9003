"""Synods in the simulator: every role and quorum system, every fault, and that the oracle sees what is wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from distkit.core import Outcome as End
from distkit.core import Reply, StorageError
from distkit.paxos.ballot import make_ballot
from distkit.paxos.synod import recover
from distkit.paxos.synod.messages import Decided, Formed, Promised, Voted
from distkit.sim import Broken, Call, Fault, Scenario, drawn, run
from distkit.sim.chance import SECOND
from distkit.sim.marks import SYNOD_MARKS, missing, unknown
from distkit.sim.network import NetworkOptions
from distkit.sim.simulation import SETTLE_MAX
from distkit.sim.synods import SynodSystem, configuration_of
from distkit.sim.world import World

MS = SECOND // 1000
PLAIN = Scenario("synod", 1, 3, 0.5, eager=1.0, sessions=False, network=NetworkOptions(delay_min=MS, delay_mean=0))


def call(milliseconds: int, node: int, value: int = 1) -> Call:
    return Call(milliseconds * MS, node, node, "propose", "", value)


def world(scenario: Scenario, milliseconds: int) -> World:
    """A world after some time."""
    found = World(scenario, SynodSystem())
    found.start()
    found.run(milliseconds * MS, 1_000_000)
    return found


@pytest.mark.parametrize(("profile", "seeds"), [("lite", 60), ("five", 10), ("swarm", 25)])
def test_seeds_keep_every_rule_and_their_marks_are_listed(profile: str, seeds: int) -> None:
    marks: Counter[str] = Counter()
    for seed in range(seeds):
        outcome = run(drawn(seed, profile, "synod"))
        assert not outcome.failed, outcome.text
        marks.update(outcome.marks)
    assert unknown(marks, "synod") == []
    assert {"a proposer was refused", "a proposal was chosen", "a proposal was superseded"} <= set(marks)


@pytest.mark.soak
@pytest.mark.parametrize(("profile", "seeds"), [("lite", 10_000), ("swarm", 2000)])
def test_every_mark_of_many_runs_happens(profile: str, seeds: int) -> None:
    marks: Counter[str] = Counter()
    for seed in range(seeds):
        outcome = run(drawn(seed, profile, "synod"))
        assert not outcome.failed, outcome.text
        marks.update(outcome.marks)
    assert missing(marks, profile, "synod") == []
    assert unknown(marks, "synod") == []


def test_marks_of_synods_and_of_replicas_are_told_apart() -> None:
    assert "a proposal was chosen" in missing({}, "lite", "synod")
    assert "a proposal was chosen" not in missing({}, "lite", "raft")
    assert unknown(dict.fromkeys(SYNOD_MARKS, 1), "synod") == []
    assert unknown({"an election was held": 1}, "synod") == ["an election was held"]


@pytest.mark.parametrize("seed", range(3))
def test_a_seed_is_one_run(seed: int) -> None:
    for profile in ("lite", "swarm"):
        scenario = drawn(seed, profile, "synod")
        assert run(scenario).digest == run(scenario).digest == run(scenario, lambda event: None).digest


def test_messages_stay_as_they_are() -> None:
    for seed in range(5):
        assert run(drawn(seed, "lite", "synod"), strict=True).rule == ""


# -- who takes part ---------------------------------------------------------------------------------------------------


def test_roles_are_bits_and_nobody_means_everybody() -> None:
    options = (("acceptors", 0b0110), ("proposers", 0b1000), ("learners", 0))
    found = configuration_of(replace(PLAIN, nodes=4, machine_options=options))
    assert found.quorums.members == (1, 2)
    assert found.proposers == (3,)
    assert found.learners == (1, 2, 3, 4)


def test_roles_of_nodes_that_are_not_there_are_those_of_everybody() -> None:
    found = configuration_of(replace(PLAIN, machine_options=(("acceptors", 0b1110000),)))
    assert found.quorums.members == (1, 2, 3)


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("nodes", range(1, 10))
def test_every_quorum_system_is_one_for_any_number_of_nodes_and_chooses(number: int, nodes: int) -> None:
    scenario = replace(PLAIN, nodes=nodes, calls=(call(100, nodes),), machine_options=(("quorums", number),))
    configuration_of(scenario).check()
    assert run(scenario).rule == ""


def test_drawn_scenarios_have_all_quorum_systems_and_roles() -> None:
    found = [configuration_of(drawn(seed, "five", "synod")) for seed in range(150)]
    assert len({each.quorums.tables for each in found}) > 7
    for nodes in ([each.proposers for each in found], [each.learners for each in found]):
        assert {len(each) for each in nodes} == {1, 2, 3, 4, 5}


# -- the oracle -------------------------------------------------------------------------------------------------------


def test_a_value_is_chosen_and_everybody_learns_it() -> None:
    after = world(replace(PLAIN, calls=(call(100, 1, 7),)), 150)
    assert {host.machine.chosen.value for host in after.hosts.values()} == {b"v7.1"}
    assert after.oracle.settled() == ""
    assert after.clients.acknowledged == 1


def test_a_decision_survives_the_loss_of_power_everywhere() -> None:
    crashes = tuple(Fault(200 * MS, "crash", node, 0.1) for node in (1, 2, 3))
    after = world(replace(PLAIN, calls=(call(100, 1, 7),), faults=crashes), 290)
    assert not any(host.up for host in after.hosts.values())
    after.run(400 * MS, 1_000_000)
    assert {host.machine.chosen.value for host in after.hosts.values()} == {b"v7.1"}
    assert after.marks["a node came back and knew the decision"] == 3


def test_the_leader_is_the_proposer_of_the_highest_ballot() -> None:
    after = world(replace(PLAIN, calls=(call(100, 1, 1), call(101, 2, 2))), 102)
    assert after.oracle.leader() == 2
    after.run(300 * MS, 1_000_000)
    assert after.oracle.leader() == 0


def test_nothing_must_be_answered_without_quorums() -> None:
    after = world(PLAIN, 50)
    assert after.oracle.answers(1)
    after.hosts[2].crash(power=True)
    assert after.oracle.answers(1)
    assert not after.oracle.answers(2)  # it is down itself
    after.hosts[3].crash(power=True)
    assert not after.oracle.answers(1)


def test_a_learner_that_does_not_know_what_others_know_is_missing() -> None:
    after = world(replace(PLAIN, calls=(call(100, 1, 7),)), 150)
    after.hosts[3].machine.state.chosen = None
    assert after.oracle.settled() == "learner 3 does not know the decision"


def test_a_proposer_that_owes_answers_is_not_at_rest() -> None:
    after = world(replace(PLAIN, calls=(call(100, 1, 7),)), 101)
    assert after.oracle.settled() == "node 1 owes answers to 1 proposals"


def test_a_decision_that_was_not_delivered_is_missing() -> None:
    after = world(replace(PLAIN, calls=(call(100, 1, 7),)), 150)
    after.oracle.nodes[2].decided = None
    assert after.oracle.settled() == "node 2 knows the decision, and did not deliver it"


def test_a_decision_is_delivered_once_in_a_life() -> None:
    after = world(replace(PLAIN, calls=(call(100, 1, 7),)), 150)
    with pytest.raises(Broken, match="delivers twice"):
        after.oracle.told(after.hosts[1], after.hosts[1].machine.chosen)


def test_a_vote_that_another_replaces_before_anything_is_written_is_seen() -> None:
    """What was held back from node 1 comes at once: a proposal, the next ballot, and its proposal."""
    clog = Fault(103 * MS + MS // 2, "clog", 1, 0.02)
    after = world(replace(PLAIN, eager=0.0, calls=(call(100, 3, 1), call(104, 2, 2)), faults=(clog,)), 150)
    assert len(after.oracle.ledger.memory[1].votes) == 2
    assert after.hosts[1].machine.chosen is not None


ONE, TWO = make_ballot(1, 1), make_ballot(2, 2)
HELD = [Formed(7), Promised(ONE), Voted(ONE, ONE, b"x")]
FLIGHT = [Promised(TWO), Voted(TWO, ONE, b"x"), Decided(TWO, ONE, b"x")]


@pytest.mark.parametrize("count", range(4))
def test_any_first_part_of_what_was_under_way_may_come_back(count: int) -> None:
    after = world(PLAIN, 50)
    node = after.oracle.nodes[1]
    node.disk, node.flight = list(HELD), list(FLIGHT)
    assert after.oracle._kept(node, HELD + FLIGHT[:count]) == FLIGHT[:count]


@pytest.mark.parametrize(
    "found",
    [HELD[:2], [*HELD, Voted(TWO, ONE, b"z")], [*HELD, FLIGHT[2]], [*HELD[:2], Voted(ONE, ONE, b"y")]],
    ids=range(4),
)
def test_nothing_else_may_come_back(found: list[Any]) -> None:
    after = world(PLAIN, 50)
    node = after.oracle.nodes[1]
    node.disk, node.flight = list(HELD), list(FLIGHT)
    with pytest.raises(Broken, match="came back with"):
        after.oracle._kept(node, found)


def test_a_damaged_disk_may_lose_its_end_and_bars_the_node_then() -> None:
    after = world(PLAIN, 50)
    host = after.hosts[1]
    node = after.oracle.nodes[1]
    node.disk, node.flight = list(HELD), list(FLIGHT)
    assert after.oracle.lost_tail(host, HELD[:2])
    assert not after.oracle.lost_tail(host, HELD)
    assert not after.oracle.lost_tail(host, HELD + FLIGHT[:1])
    assert not after.oracle.lost_tail(host, [*HELD[:1], Voted(ONE, ONE, b"y")])  # that is another disk, not a shorter
    host.rotten, host.boots = True, 2
    with pytest.raises(StorageError, match="bars the node"):
        after.system.boot(host, HELD[:2], 0.0)


def test_a_machine_that_forgets_a_durable_decision_is_seen() -> None:
    def forgetful(records: Any, **arguments: Any) -> Any:
        return recover([each for each in records if type(each) is not Decided], **arguments)

    scenario = replace(PLAIN, calls=(call(100, 1, 7),), faults=(Fault(200 * MS, "crash", 2, 0.1),))
    assert run(scenario, system=SynodSystem(forgetful)).rule == "C3"


def test_a_machine_that_starts_with_an_empty_disk_is_seen() -> None:
    def welcoming(records: Any, **arguments: Any) -> Any:
        arguments["incarnation"] = arguments["incarnation"] % 1000 + 1000
        return recover(records, **arguments)

    scenario = replace(PLAIN, faults=(Fault(50 * MS, "wipe", 2),))
    assert run(scenario, system=SynodSystem(welcoming)).rule == "identity"
    assert run(scenario).marks["a wiped node was refused"] == 1


# -- clients ----------------------------------------------------------------------------------------------------------


def test_all_attempts_of_a_session_carry_the_same_bytes_and_others_do_not() -> None:
    # The first proposer dies with the proposal, so that there is a second attempt.
    scenario = replace(PLAIN, calls=(call(100, 1, 7),), faults=(Fault(101 * MS, "crash", 1, 0.2, "kill"),))
    proposed = [
        set(world(replace(scenario, sessions=sessions), 300).oracle.ledger.proposed.values())
        for sessions in (True, False)
    ]
    assert proposed == [{b"v7"}, {b"v7.1", b"v7.2"}]


@pytest.mark.parametrize("end", [End.REFUSED, End.SUPERSEDED])
def test_a_definite_answer_about_the_chosen_value_that_is_wrong_is_seen(end: End) -> None:
    after = world(replace(PLAIN, calls=(call(100, 1, 7),)), 150)
    after.clients.finish()
    after.clients.replied(Reply(1, end))
    with pytest.raises(Broken, match="the chosen value ended as"):
        after.clients.finish()


def test_without_any_quorum_calls_end_without_an_answer() -> None:
    faults = (Fault(50 * MS, "wipe", 3),)
    options = (("quorums", 2), ("proposers", 0b10))  # phase 2 needs everybody
    outcome = run(replace(PLAIN, seconds=30.0, faults=faults, calls=(call(100, 1, 7),), machine_options=options))
    assert (outcome.rule, outcome.acknowledged, outcome.unknown) == ("", 0, 1)
    assert outcome.virtual < 30 + SETTLE_MAX


# -- progress ---------------------------------------------------------------------------------------------------------


def test_some_runs_are_duels_without_faults_in_which_all_delays_are_equal() -> None:
    found = [each for each in (drawn(seed, "lite", "synod") for seed in range(150)) if not each.network.delay_mean]
    assert len(found) >= 5
    for each in found:
        options = dict(each.machine_options)
        assert (each.faults, each.disk.delay_mean, each.network.loss, each.clock.drift) == ((), 0, 0.0, 0.0)
        assert options["backoff"] <= options["backoff_max"]
        assert len(configuration_of(each).proposers) == 3
    assert {dict(each.machine_options)["backoff"] == dict(each.machine_options)["backoff_max"] for each in found} == {
        True,
        False,
    }


def test_in_some_runs_one_node_proposes_while_others_are_down_and_nobody_asks_again_for_long() -> None:
    found = [drawn(seed, "lite", "synod") for seed in range(150)]
    found = [each for each in found if dict(each.machine_options)["resend"] == 1000.0]
    assert len(found) >= 5
    for each in found:
        (proposer,) = configuration_of(each).proposers
        begin = min(call.time for call in each.calls)
        down = {fault.node for fault in each.faults if (fault.time, fault.kind) == (begin, "crash")}
        assert down == {1, 2, 3} - {proposer}
        assert each.network.loss == 0.0
