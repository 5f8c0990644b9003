""" "Paxos Made Simple", sections 2.3 and 2.4: learning a chosen value, and progress. One test for each statement."""

import pytest
from synod_world import Lone, World

from distkit.core import Outcome
from distkit.paxos.ballot import make_ballot, round_of
from distkit.paxos.synod.messages import Accept, Accepted, Decide, Decided, LastVote, Learn, Nack, Prepare, Promise


def b(round_, node):
    return make_ballot(round_, node)


def chosen_by(world, *acceptors, proposer=1, value=b"x"):
    """Have these acceptors choose a value; nobody is told."""
    world.propose(proposer, value)
    world.run(proposer)
    world.carry(Prepare)
    world.carry(Promise)
    for acceptor in acceptors:
        world.carry(Accept, target=acceptor)
    world.take()


# -- 2.3: learning a chosen value -------------------------------------------------------------------------------------


def test_a_learner_must_find_out_that_a_proposal_has_been_accepted_by_a_majority(synod):
    world = World(synod, 5, proposers=(1,), learners=(5,))
    chosen_by(world, 2, 3)
    world.wait(5)
    world.carry(Learn)
    for acceptor in (2, 2, 3, 2):
        assert world.nodes[5].machine.chosen is None
        for letter in world.letters(LastVote, source=acceptor):
            world.hand(letter)
    assert world.nodes[5].machine.chosen is None
    world.carry(LastVote, source=1)
    assert world.nodes[5].machine.chosen.value == b"x"


def test_acceptors_respond_to_a_distinguished_learner_which_informs_the_others_when_a_value_is_chosen(synod):
    """The proposer is the distinguished learner of its own ballots."""
    world = World(synod, 5, learners=(2, 4))
    world.propose(1, b"x")
    world.run(1)
    for kind in (Prepare, Promise, Accept):
        world.carry(kind)
    assert {(letter.source, letter.target) for letter in world.letters(Accepted)} == {
        (node, 1) for node in (2, 3, 4, 5)
    }
    world.carry(Accepted)
    decided = {(letter.source, letter.target) for letter in world.letters(Decide)}
    assert decided == {(1, 2), (1, 4)}
    world.carry(Decide)
    assert world.values() == [b"x", b"x", None, b"x", None]


def test_because_of_message_loss_a_value_could_be_chosen_with_no_learner_ever_finding_out(synod):
    world = World(synod, learn_interval=float("inf"))
    chosen_by(world, 2)
    world.crash(1)
    world.restart(1)
    world.elapse(1000)
    assert world.values() == [None] * 3
    assert world.ledger.chosen is not None


def test_the_learner_can_ask_the_acceptors_what_proposals_they_have_accepted(synod):
    world = World(synod)
    chosen_by(world, 2)
    world.crash(1)
    world.restart(1)
    world.elapse(2)
    assert world.values() == [b"x"] * 3


def test_an_acceptor_tells_a_learner_of_its_vote_only_once_it_is_durable(synod):
    lone = Lone(synod)
    lone.hand((2, 1, lone.accept(b(1, 2), b"x")))
    lone.hand((3, 1, lone.learn(3)))
    assert lone.letters() == []
    lone.host.persist()
    assert [letter.message for letter in lone.letters(LastVote, target=3)] == [lone.last_vote(1, b(1, 2), b"x")]


def test_failure_of_an_acceptor_could_make_it_impossible_to_know_whether_a_majority_had_accepted(synod):
    """In that case learners find out only when a new proposal is chosen: they can have a proposer issue one."""
    world = World(synod)
    chosen_by(world, 2)
    world.crash(1)
    world.elapse(10)
    assert world.values()[1:] == [None, None]
    ticket = world.propose(3, b"y")
    world.elapse(5)
    assert world.values()[1:] == [b"x", b"x"]
    assert world.outcome(ticket) is Outcome.SUPERSEDED


def test_a_decision_is_delivered_once_and_for_ever(synod):
    world = World(synod)
    world.propose(1, b"x")
    world.elapse(2)
    decision = world.nodes[3].machine.chosen
    world.hand((2, 3, world.decide(2, decision.ballot, b"x", decision.origin)))  # the ledger refuses a second delivery
    world.crash(3)
    world.restart(3)
    assert world.nodes[3].decided == decision == Decided(b(1, 1), b(1, 1), b"x")
    assert world.nodes[3].machine.deadline() == float("inf")


def test_a_decided_node_tells_others_also_after_a_restart(synod):
    world = World(synod)
    world.propose(1, b"x")
    world.elapse(2)
    world.crash(2)
    world.restart(2)
    decide = world.decide(2, b(1, 1), b"x")
    for message in (world.prepare(b(9, 3)), world.accept(b(9, 3), b"y"), world.learn(3)):
        world.hand((3, 2, message))
        assert [letter.message for letter in world.take(target=3)] == [decide]
    assert world.nodes[2].machine.status().promised == b(1, 1)


# -- 2.4: progress ----------------------------------------------------------------------------------------------------


def test_two_proposers_can_keep_issuing_proposals_none_of_which_are_ever_chosen(synod):
    """Here each Accept arrives after the other's Prepare. Chance and the back-off make that unlikely to go on."""
    world = World(synod)
    ballots = []
    for turn in range(8):
        node, other = (1, 2) if turn % 2 == 0 else (2, 1)
        if turn < 2:
            world.propose(node, b"value of %d" % node)
        else:
            world.wait(node)
        world.run(node)
        ballots.append(world.nodes[node].machine.status().ballot)
        world.carry(Prepare, source=node)
        world.carry(Promise, target=node)
        if turn:
            assert world.carry(Accept, source=other) == 2
            world.carry(Nack, target=other)
            assert world.nodes[other].machine.status().phase is synod.Phase.BACKING_OFF
    assert ballots == sorted(set(ballots))
    assert world.ledger.chosen is None


def test_back_off_lets_duelling_proposers_come_to_an_end(synod):
    """All five have been refused for a ballot of another."""
    for seed in range(20):
        world = World(synod, 5, seed=seed)
        for node in world.nodes:
            world.propose(node, b"%d" % node)
            world.run(node)
            other = node % 5 + 1
            world.hand((other, node, world.nack(other, b(1, node), b(2, other))))
            assert world.nodes[node].machine.status().phase is synod.Phase.BACKING_OFF
        world.elapse(10)
        assert None not in world.values()


def test_back_off_is_random_and_doubles_up_to_its_limit(synod):
    lone = Lone(synod, backoff=1.0, backoff_max=8.0, learn_interval=float("inf"))
    lone.propose(1, b"x")
    lone.run(1)
    delays = []
    windows = (1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0)
    for _ in windows:
        lone.receive(2, lone.nack(2, lone.ballot(), lone.ballot() + 1))
        delays.append(lone.machine.deadline() - lone.now)
        lone.wait(1)
        lone.run(1)
    parts = [delay / window for delay, window in zip(delays, windows, strict=True)]
    assert all(0 <= part <= 1 for part in parts)
    assert len(set(parts)) == len(parts)
    assert max(delays) > 4.0


def test_a_distinguished_proposer_that_can_communicate_with_a_majority_succeeds(synod):
    """By abandoning a proposal and trying again with a higher number when it learns of one."""
    world = World(synod, 5)
    for node in (2, 3):
        world.hand((4, node, world.prepare(b(70, 4))))
        world.hand((5, node, world.prepare(b(90, 5))))
    world.settle()
    world.take()
    world.isolate(4)
    world.isolate(5)
    ticket = world.propose(1, b"x")
    world.elapse(5)
    assert world.outcome(ticket) is Outcome.COMMITTED
    assert round_of(world.nodes[1].machine.chosen.ballot) == 91


@pytest.mark.parametrize(
    ("size", "cuts", "proposers"),
    [
        (3, [(1, 3)], (1,)),
        (5, [(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)], (1, 2, 5)),
        (5, [(1, 3), (1, 4), (2, 4), (2, 5), (3, 5)], (1, 2)),
    ],
    ids=["chain", "all hear node 5 only", "ring"],
)
def test_pitfall_23_whoever_is_connected_to_a_quorum_makes_progress_and_the_rest_learn(synod, size, cuts, proposers):
    for seed in range(5):
        world = World(synod, size, seed=seed)
        world.cut(*cuts)
        for node in proposers:
            world.propose(node, b"%d" % node)
        world.elapse(20)
        assert None not in world.values()
        assert len(world.ledger.replies) == len(proposers)


@pytest.mark.parametrize("down", [(2,), (3,), (2, 4), (3, 5)])
def test_enough_working_acceptors_are_enough(synod, down):
    world = World(synod, 5)
    world.crash(*down)
    ticket = world.propose(1, b"x")
    world.elapse(2)
    assert world.outcome(ticket) is Outcome.COMMITTED


@pytest.mark.parametrize("kind", [Prepare, Promise, Accept, Accepted, Decide])
def test_a_lost_message_is_made_up_for(synod, kind):
    world = World(synod)
    ticket = world.propose(1, b"x")
    for _ in range(10):
        world.run(1)
        world.run(2)
        world.run(3)
        if world.take(kind):
            break
        world.deliver()
    world.elapse(3)
    assert world.outcome(ticket) is Outcome.COMMITTED
    assert world.values() == [b"x"] * 3


@pytest.mark.parametrize("phase", ["prepare", "accept"])
def test_only_those_that_have_not_answered_are_asked_again(synod, phase):
    lone = Lone(synod, 5)
    lone.propose(1, b"x")
    lone.run(1)
    lone.promised_by(2)
    if phase == "accept":
        lone.promised_by(3)
        lone.receive(4, lone.accepted(4, lone.ballot()))
    lone.sent()
    lone.wait(1)
    kind, missing = (Prepare, [3, 4, 5]) if phase == "prepare" else (Accept, [2, 3, 5])
    assert [letter.target for letter in lone.letters(kind)] == missing
    assert lone.letters(Accept if phase == "prepare" else Prepare) == []


def test_a_new_connection_is_asked_at_once(synod):
    lone = Lone(synod)
    lone.propose(1, b"x")
    lone.run(1)
    lone.take()
    lone.host.call("connected", 3)
    assert lone.sent() == [lone.prepare(b(1, 1))]


def test_nothing_is_asked_again_before_the_ballot_is_durable(synod):
    lone = Lone(synod)
    lone.propose(1, b"x")
    lone.host.call("connected", 3)
    lone.host.flush()
    lone.wait(1)
    assert lone.letters() == []
