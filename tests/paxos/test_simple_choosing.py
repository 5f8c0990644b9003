""" "Paxos Made Simple", sections 2.1, 2.2 and 2.5: choosing a value. One test for each statement, named after it."""

from itertools import combinations, permutations

import pytest
from synod_world import Letter, Lone, World, incarnation

from distkit.core import Outcome
from distkit.paxos.ballot import make_ballot, node_of
from distkit.paxos.synod.messages import Accept, Accepted, Nack, Prepare, Promise, Promised, Voted
from distkit.quorum.flexible import counts, majority
from distkit.sim.broken import Broken

SETS = [quorum for size in (2, 3) for quorum in combinations((1, 2, 3), size)]


def b(round_, node):
    return make_ballot(round_, node)


# -- 2.1: the problem -------------------------------------------------------------------------------------------------


def test_only_a_value_that_has_been_proposed_may_be_chosen(synod):
    world = World(synod)
    world.elapse(5)
    assert world.values() == [None] * 3
    world.propose(2, b"x")
    world.elapse(5)
    assert world.values() == [b"x"] * 3


def test_only_a_single_value_is_chosen(synod):
    world = World(synod, 5)
    tickets = [world.propose(node, b"value of %d" % node) for node in world.nodes]
    world.elapse(20)
    assert len(set(world.values())) == 1
    assert sorted(world.outcome(ticket) for ticket in tickets) == [Outcome.COMMITTED] + [Outcome.SUPERSEDED] * 4


def test_a_process_never_learns_that_a_value_has_been_chosen_unless_it_has_been(synod):
    world = World(synod)
    world.propose(1, b"x")
    world.run(1)
    world.carry(Prepare)
    world.carry(Promise)
    world.carry(Accept, target=2)
    assert [node.machine.chosen for node in world.nodes.values()] == [None] * 3  # chosen, but nobody has heard of it
    world.carry(Accepted)
    assert world.values() == [b"x", None, None]


def test_messages_can_be_duplicated_lost_and_take_arbitrarily_long(synod):
    for order in permutations(range(4)):
        world = World(synod, 5)
        world.propose(1, b"x")
        world.run(1)
        world.carry(Prepare)
        late = world.take(Promise)
        for place in order[:3]:
            for _ in range(2):
                world.hand(late[place])
                world.run(1)
        world.elapse(5)
        for letter in late * 2:
            world.hand(letter)
        world.elapse(5)
        assert world.values() == [b"x"] * 5


# -- 2.2: choosing a value --------------------------------------------------------------------------------------------


def test_P1_an_acceptor_must_accept_the_first_proposal_that_it_receives(synod):
    for first in (b(1, 2), b(9, 3)):
        lone = Lone(synod)
        (accepted,) = lone.receive(node_of(first), lone.accept(first, b"x"))
        assert accepted == Accepted(lone.epoch, incarnation(1), first)


def test_P1a_an_acceptor_accepts_n_iff_it_has_not_responded_to_a_prepare_greater_than_n(synod):
    for promised, accept in [(b(2, 2), b(2, 2)), (b(2, 2), b(2, 3)), (b(2, 2), b(3, 2)), (b(2, 3), b(2, 2))]:
        lone = Lone(synod)
        lone.receive(node_of(promised), lone.prepare(promised))
        (answer,) = lone.receive(node_of(accept), lone.accept(accept, b"x"))
        assert isinstance(answer, Accepted if accept >= promised else Nack)
        assert lone.machine.status().vote.ballot == (accept if accept >= promised else 0)


def test_two_proposers_may_each_get_half_so_an_acceptor_must_be_able_to_accept_more_than_one_proposal(synod):
    lone = Lone(synod)
    for ballot in (b(1, 2), b(2, 2), b(2, 3)):
        assert lone.receive(node_of(ballot), lone.accept(ballot, b"x")) == [lone.accepted(1, ballot)]
        assert lone.machine.status().vote.ballot == ballot


def test_different_proposals_have_different_numbers(synod):
    world = World(synod, 5)
    numbers = []
    for _ in range(4):
        for node in world.nodes:
            world.propose(node, b"%d" % node)
            world.run(node)
            numbers.append(world.nodes[node].machine.status().ballot)
            assert node_of(numbers[-1]) == node
            world.crash(node)
            world.restart(node)
            world.take()
    assert len(set(numbers)) == len(numbers) == 20


def test_a_value_is_chosen_when_a_single_proposal_has_been_accepted_by_a_majority(synod):
    """Votes at different ballots never add up, nor do two of four."""
    lone = Lone(synod, 4)
    lone.propose(1, b"x")
    lone.run(1)
    lone.promised_by(2, 3)
    assert lone.sent(Accept, 2)
    ballot = lone.ballot()
    lone.receive(2, lone.accepted(2, ballot))
    lone.receive(3, lone.last_vote(3, ballot + (1 << 31), b"x", origin=ballot))
    assert lone.machine.chosen is None
    lone.receive(4, lone.accepted(4, ballot))
    assert lone.machine.chosen.value == b"x"


@pytest.mark.parametrize("first", SETS)
@pytest.mark.parametrize("second", SETS)
def test_P2_every_higher_numbered_proposal_that_is_chosen_has_the_same_value(synod, first, second):
    """P2a and P2b as well: so has every one that is accepted by any acceptor, or issued by any proposer."""
    world = World(synod)
    world.propose(1, b"x")
    world.run(1)
    for target in first:
        world.carry(Prepare, target=target)
    world.carry(Promise)
    accepts = [letter for letter in world.take(Accept) if letter.target in first]
    for letter in accepts:
        world.hand(letter)
        world.run(letter.target)
    assert world.ledger.chosen == (b(1, 1), b"x")
    world.take()
    world.crash(1, 2, 3)
    world.restart(1, 2, 3)
    world.propose(3, b"y")
    world.run(3)
    for target in second:
        world.carry(Prepare, target=target)
    world.carry(Promise)
    issued = world.letters(Accept)
    assert {letter.message.value for letter in issued} <= {b"x"}  # P2b
    world.elapse(5)
    assert {vote for acceptor in world.ledger.disk.values() for vote in acceptor.votes.values()} == {
        (b(1, 1), b"x")  # P2a
    }
    assert world.values() == [b"x"] * 3


@pytest.mark.parametrize(
    "votes",
    [
        {2: None, 3: None},
        {2: ((1, 2), b"p"), 3: None},
        {2: ((1, 2), b"p"), 3: ((2, 3), b"q")},
        {2: ((3, 2), b"p"), 3: ((2, 3), b"q")},
        {3: ((2, 3), b"q"), 2: ((2, 2), b"p")},
        {2: ((2, 2), b"p"), 3: ((2, 3), b"q")},
    ],
)
def test_P2c_v_is_the_value_of_the_highest_numbered_proposal_among_the_responses_or_any_if_there_is_none(synod, votes):
    lone = Lone(synod, 4, past=[Promised(b(5, 2))])
    lone.propose(1, b"own")
    lone.run(1)
    ballot = lone.ballot()
    for peer, vote in votes.items():
        voted, value = (b(*vote[0]), vote[1]) if vote else (0, b"")
        lone.hand(Letter(peer, 1, lone.promise(peer, ballot, voted, 0, value)))
    accept = lone.sent(Accept, 4)[-1]
    highest = max((vote for vote in votes.values() if vote), default=((6, 1), b"own"))
    assert (accept.ballot, accept.value) == (ballot, highest[1])
    assert accept.origin == b(*highest[0])


def test_P2c_the_own_vote_of_the_proposer_counts_like_any_other(synod):
    lone = Lone(synod, past=[Voted(b(2, 2), b(2, 2), b"p")])
    lone.propose(1, b"own")
    lone.run(1)
    lone.promised_by(3)
    assert lone.sent(Accept, 2)[-1].value == b"p"


def test_a_proposal_is_issued_only_after_a_majority_has_promised(synod):
    lone = Lone(synod, 5)
    lone.propose(1, b"x")
    lone.run(1)
    for peer in (2, 2, 2):
        lone.promised_by(peer)
    assert lone.sent(Accept) == []
    lone.promised_by(3)
    assert len(lone.sent(Accept)) == 4


def test_the_accept_request_need_not_go_to_the_acceptors_that_responded(synod):
    world = World(synod)
    world.propose(1, b"x")
    world.run(1)
    world.carry(Prepare, target=2)
    world.carry(Promise, source=2)
    world.crash(2)
    world.carry(Accept, target=3)
    world.carry(Accepted, source=3)
    assert world.values()[0] == b"x"


def test_a_promise_reports_the_highest_numbered_proposal_that_the_acceptor_has_accepted_if_any(synod):
    lone = Lone(synod)
    assert lone.receive(2, lone.prepare(b(1, 2))) == [lone.promise(1, b(1, 2))]
    lone.receive(2, lone.accept(b(1, 2), b"p"))
    assert lone.receive(3, lone.prepare(b(2, 3))) == [lone.promise(1, b(2, 3), b(1, 2), b(1, 2), b"p")]
    lone.receive(3, lone.accept(b(2, 3), b"q"))
    assert lone.receive(2, lone.prepare(b(3, 2))) == [lone.promise(1, b(3, 2), b(2, 3), b(2, 3), b"q")]


def test_a_promise_is_never_again_to_accept_a_lower_numbered_proposal(synod):
    lone = Lone(synod)
    lone.receive(3, lone.prepare(b(2, 3)))
    for ballot in (b(1, 2), b(2, 2)):
        assert lone.receive(2, lone.accept(ballot, b"x")) == [lone.nack(1, ballot, b(2, 3))]
    assert lone.machine.status().vote.ballot == 0


def test_phase_1b_an_acceptor_answers_a_prepare_only_above_any_to_which_it_has_responded(synod):
    lone = Lone(synod)
    assert isinstance(lone.receive(3, lone.prepare(b(5, 3)))[0], Promise)
    for lower in (b(5, 2), b(4, 2), b(1, 2)):
        assert lone.receive(2, lone.prepare(lower)) == [lone.nack(1, lower, b(5, 3))]
    assert isinstance(lone.receive(2, lone.prepare(b(6, 2)))[0], Promise)


def test_a_repeated_prepare_is_promised_again_but_not_once_its_proposal_is_accepted(synod):
    lone = Lone(synod)
    first = lone.receive(2, lone.prepare(b(1, 2)))
    assert lone.receive(2, lone.prepare(b(1, 2))) == first
    lone.receive(2, lone.accept(b(1, 2), b"x"))
    assert lone.receive(2, lone.prepare(b(1, 2))) == []
    assert lone.counted("stale") == 1


def test_an_acceptor_needs_to_remember_only_its_newest_vote_and_its_newest_promise(synod):
    lone = Lone(synod)
    for round_ in (1, 2, 3):
        lone.receive(2, lone.accept(b(round_, 2), b"%d" % round_))
        lone.receive(3, lone.prepare(b(round_, 3)))
    assert lone.machine.image()[1:] == (Voted(b(3, 2), b(3, 2), b"3"), Promised(b(3, 3)))


def test_an_acceptor_must_remember_this_even_if_it_fails_and_restarts(synod):
    lone = Lone(synod)
    lone.receive(2, lone.accept(b(1, 2), b"x"))
    lone.receive(3, lone.prepare(b(4, 3)))
    lone.crash(1)
    lone.restart(1)
    assert lone.receive(2, lone.accept(b(3, 2), b"y")) == [lone.nack(1, b(3, 2), b(4, 3))]
    assert lone.receive(2, lone.prepare(b(5, 2))) == [lone.promise(1, b(5, 2), b(1, 2), b(1, 2), b"x")]


def test_a_proposer_can_abandon_a_proposal_and_forget_all_about_it(synod):
    """As long as it never tries to issue another proposal with the same number."""
    world = World(synod)
    world.propose(1, b"x")
    world.run(1)
    for _ in range(3):
        world.take()
        world.crash(1)
        world.restart(1)
        before = world.nodes[1].machine.status().promised
        world.propose(1, b"y")
        world.run(1)
        assert {letter.message.ballot for letter in world.letters(Prepare)} == {before + (1 << 31)}
    world.elapse(5)
    assert world.values() == [b"y"] * 3


def test_a_proposer_can_make_multiple_proposals_and_abandon_one_at_any_time(synod):
    lone = Lone(synod)
    lone.propose(1, b"x")
    lone.run(1)
    ballots = []
    for phase in ("preparing", "accepting", "preparing"):
        ballots.append(lone.ballot())
        if phase == "accepting":
            lone.promised_by(2)
        lone.receive(3, lone.nack(3, lone.ballot(), lone.ballot() + 2))
        lone.wait(1)
        lone.run(1)
    assert len(set(ballots)) == 3
    assert sorted(ballots) == ballots


def test_an_acceptor_that_ignores_a_request_should_inform_the_proposer_who_should_abandon_its_proposal(synod):
    world = World(synod)
    world.propose(1, b"x")
    world.run(1)
    world.carry(Prepare)
    world.carry(Promise, source=2)
    world.propose(3, b"y")
    world.run(3)
    world.carry(Prepare, source=3, target=2)
    world.deliver(Accept, target=2)
    higher = world.nodes[3].machine.status().ballot
    assert [letter.message.promised for letter in world.letters(Nack)] == [higher]
    world.deliver(Nack)
    status = world.nodes[1].machine.status()
    assert (status.phase, status.refusals) == (synod.Phase.BACKING_OFF, 1)


# -- 2.5: stable storage ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["prepare", "accept"])
def test_an_acceptor_records_its_intended_response_in_stable_storage_before_sending_it(synod, kind):
    lone = Lone(synod)
    request = lone.accept(b(1, 2), b"x") if kind == "accept" else lone.prepare(b(1, 2))
    lone.hand(Letter(2, 1, request))
    assert lone.letters() == []
    (write,) = lone.host.writes
    assert write.records == ((Voted(b(1, 2), b(1, 2), b"x"),) if kind == "accept" else (Promised(b(1, 2)),))
    assert [target for target, _ in write.then] == [2]
    lone.host.persist()
    assert len(lone.take(target=2)) == 1


@pytest.mark.parametrize("kind", ["prepare", "accept"])
def test_a_repeated_response_waits_for_the_write_that_is_under_way(synod, kind):
    lone = Lone(synod)
    request = lone.accept(b(1, 2), b"x") if kind == "accept" else lone.prepare(b(1, 2))
    for _ in range(2):
        lone.hand(Letter(2, 1, request))
    assert lone.letters() == []
    assert [len(write.records) for write in lone.host.writes] == [1, 0]


def test_different_proposers_choose_their_numbers_from_disjoint_sets_of_numbers(synod):
    for node in (2, 3):
        lone = Lone(synod)
        lone.receive(node, Prepare(lone.epoch, incarnation(node), b(1, 5 - node)))
        assert lone.counted("nonsense") == 1
    numbers = {b(round_, node) for round_ in range(1, 50) for node in range(1, 50)}
    assert len(numbers) == 49 * 49


@pytest.mark.parametrize("proposers", [(1, 2, 3), (4,)], ids=["acceptors", "not an acceptor"])
def test_a_proposer_remembers_in_stable_storage_the_highest_number_it_has_tried(synod, proposers):
    """Also if it is no acceptor. Its first message of a number waits until the number is durable."""
    world = World(synod, 4, quorums=majority((1, 2, 3)), proposers=proposers)
    node = proposers[-1]
    world.propose(node, b"x")
    assert world.letters(Prepare) == []
    assert Promised(b(1, node)) in world.nodes[node].writes[0].records
    world.run(node)
    assert {letter.target for letter in world.take(Prepare)} == {1, 2, 3} - {node}
    world.crash(node)
    world.restart(node)
    world.propose(node, b"y")
    world.run(node)
    assert {letter.message.ballot for letter in world.letters(Prepare)} == {b(2, node)}


def test_the_oracle_of_these_tests_sees_two_values_chosen(synod):
    """Quorums that do not meet are refused when a system is made; forced, they choose twice, and that is seen."""
    quorums = counts((1, 2, 3, 4), 2, 3)
    halves = quorums.tables[0]
    object.__setattr__(quorums, "tables", (halves, halves))
    world = World(synod, 4, quorums=quorums)
    world.cut((1, 3), (1, 4), (2, 3), (2, 4))
    world.propose(1, b"x")
    world.propose(3, b"y")
    with pytest.raises(Broken, match="S7"):
        world.elapse(5)
