"""Mistakes with tickets, order and limits that Paxos implementations have made, each shown to be absent here:

20 paxodin's ProposalLost compares bytes     21 proposals lost in silence
22 FIFO assumptions (omnipaxos)              28 arithmetic at the limits
"""

from itertools import permutations

import pytest
from synod_world import Lone, World

from distkit.core import LocalError, Outcome, Reason, Space
from distkit.paxos.ballot import BALLOT_JUMP_MAX, ROUND_MAX, make_ballot, node_of, round_of, show_ballot
from distkit.paxos.synod.messages import Accept, Decided, Prepare, Promise, Promised
from distkit.quorum import flexible


def b(round_, node):
    return make_ballot(round_, node)


# -- 20, 21: tickets ---------------------------------------------------------------------------------------------------


def test_pitfall_20_equal_bytes_of_two_proposers_are_two_proposals(synod):
    for seed in range(10):
        world = World(synod, seed=seed)
        tickets = [world.propose(node, b"same") for node in (1, 2, 3, 1)]
        world.elapse(10)
        outcomes = sorted(world.outcome(ticket) for ticket in tickets)
        assert outcomes == [Outcome.COMMITTED] + [Outcome.SUPERSEDED] * 3


def test_pitfall_20_a_proposal_that_another_proposer_completed_has_won(synod):
    world = World(synod)
    ticket = world.propose(1, b"x")
    world.run(1)
    world.carry(Prepare)
    world.carry(Promise)
    world.carry(Accept, target=3)
    world.take()
    world.cut((1, 2), (1, 3))
    other = world.propose(2, b"x")
    world.elapse(2)
    world.heal()
    world.elapse(5)
    assert [world.outcome(ticket), world.outcome(other)] == [Outcome.COMMITTED, Outcome.SUPERSEDED]
    assert world.nodes[2].machine.chosen.ballot > world.nodes[2].machine.chosen.origin == b(1, 1)


def test_pitfall_20_a_proposal_keeps_its_identity_over_the_ballots_of_its_proposer(synod):
    """Nobody reported the vote of the first attempt, so the second proposes it afresh: the same one, not a twin."""
    lone = Lone(synod, 4, quorums=flexible.majority((2, 3, 4)), learn_interval=float("inf"))
    ticket = lone.propose(1, b"x")
    for attempt in range(3):
        lone.run(1)
        lone.promised_by(2, 3)
        assert {accept.origin for accept in lone.sent(Accept)} == {b(1, 1)}
        assert lone.ballot() == b(1 + 2 * attempt, 1)
        lone.receive(2, lone.nack(2, lone.ballot(), b(2 + 2 * attempt, 2)))
        lone.wait(1)
    lone.receive(4, lone.decide(4, b(1, 1), b"x"))
    assert lone.outcome(ticket) is Outcome.COMMITTED


def test_pitfall_20_a_proposal_after_the_decision_is_superseded(synod):
    world = World(synod)
    world.propose(1, b"x")
    world.elapse(1)
    ticket = world.propose(2, b"x")
    assert world.outcome(ticket) is Outcome.SUPERSEDED
    assert world.reply(ticket).term == b(1, 1)


def test_pitfall_21_every_ticket_ends_in_one_reply_that_comes_with_the_value(synod):
    world = World(synod)
    tickets = [world.propose(node, b"%d" % number) for number in range(3) for node in (1, 2, 3)]
    world.elapse(10)
    assert set(world.ledger.replies) == set(tickets)  # the ledger holds the rest: one each, not before the decision
    assert {world.reply(ticket).term >= world.nodes[1].machine.chosen.origin for ticket in tickets} == {True}


def test_pitfall_21_a_proposal_that_can_not_be_taken_is_refused(synod):
    world = World(synod, tickets_max=2)
    for _ in range(2):
        assert world.outcome(world.propose(1, b"x")) is None
    ticket = world.propose(1, b"x")
    assert world.outcome(ticket) is Outcome.REFUSED
    assert world.reply(ticket).reason is Reason.BUSY
    world.nodes[2].call("storage", Space.FULL)
    ticket = world.propose(2, b"x")
    assert world.outcome(ticket) is Outcome.REFUSED
    assert world.reply(ticket).reason is Reason.FULL
    world.nodes[2].call("storage", Space.OK)
    assert world.reply(world.propose(2, b"x")) is None


# -- 22: order ---------------------------------------------------------------------------------------------------------


def test_pitfall_22_votes_count_in_any_order(synod):
    votes = [(2, 1), (2, 2), (3, 2), (4, 1), (4, 3)]
    for order in permutations(votes):
        lone = Lone(synod, 5)
        for node, round_ in order:
            lone.receive(node, lone.last_vote(node, b(round_, 5), b"x", origin=b(1, 5)))
        lone.receive(5, lone.last_vote(5, b(2, 5), b"x", origin=b(1, 5)))
        assert lone.machine.chosen == Decided(b(2, 5), b(1, 5), b"x")


def test_pitfall_22_an_older_vote_does_not_replace_a_newer_one(synod):
    lone = Lone(synod, 5)
    lone.receive(2, lone.last_vote(2, b(2, 5), b"x"))
    lone.receive(2, lone.last_vote(2, b(1, 5), b"y"))
    assert lone.counted("stale") == 1
    for node in (3, 4):
        lone.receive(node, lone.last_vote(node, b(2, 5), b"x"))
    assert lone.machine.chosen.value == b"x"


# -- 28: limits --------------------------------------------------------------------------------------------------------


def test_pitfall_28_ballots_have_limits(synod):
    top = b(ROUND_MAX, 0x7FFFFFFF)
    assert (round_of(top), node_of(top), top.bit_length()) == (ROUND_MAX, 0x7FFFFFFF, 63)
    assert [show_ballot(ballot) for ballot in (0, b(1, 2), top)] == ["-", "1.2", "4294967295.2147483647"]
    assert sorted([b(2, 1), b(1, 3), b(1, 2)]) == [b(1, 2), b(1, 3), b(2, 1)]
    for round_, node in ((0, 1), (ROUND_MAX + 1, 1), (-1, 1), (1, 0), (1, 1 << 31), (1, -1)):
        with pytest.raises(LocalError, match="a ballot has"):
            make_ballot(round_, node)


@pytest.mark.parametrize("round_", [ROUND_MAX - 1, ROUND_MAX])
def test_pitfall_28_the_last_round_can_be_used_and_none_after_it(synod, round_):
    lone = Lone(synod, past=[Promised(b(round_ - 1, 2))])
    lone.propose(1, b"x")
    lone.propose(1, b"y")
    lone.run(1)
    assert lone.ballot() == b(round_, 1)
    lone.promised_by(2)
    lone.receive(2, lone.nack(2, lone.ballot(), b(round_, 3)))
    lone.wait(1)
    if round_ == ROUND_MAX:
        assert [(reply.outcome, reply.reason) for reply in lone.ledger.replies.values()] == [
            (Outcome.LOST, Reason.STOPPED),
            (Outcome.REFUSED, Reason.STOPPED),
        ]
        assert lone.machine.status().phase is synod.Phase.IDLE
        lone.propose(1, b"z")
        assert lone.outcome(3) is Outcome.REFUSED
    else:
        assert lone.ballot() == b(ROUND_MAX, 1)


@pytest.mark.parametrize("beyond", [0, 1])
def test_pitfall_28_a_ballot_may_jump_so_far_and_no_farther(synod, beyond):
    lone = Lone(synod, past=[Promised(b(5, 2))])
    ballot = b(5, 2) + BALLOT_JUMP_MAX + (beyond << 31)
    answers = lone.receive(2, lone.prepare(ballot))
    assert [type(answer) for answer in answers] == ([] if beyond else [Promise])
    assert lone.counted("nonsense") == beyond


@pytest.mark.parametrize("beyond", [0, 1])
def test_pitfall_28_values_have_a_largest_size(synod, beyond):
    lone = Lone(synod)
    value = bytes(synod.VALUE_BYTES_MAX + beyond)
    assert len(lone.receive(2, lone.accept(b(1, 2), value))) == 1 - beyond
    assert lone.counted("nonsense") == beyond
    if beyond:
        with pytest.raises(LocalError, match="at most"):
            lone.machine.propose(lone.now, 1, value)
        assert lone.machine.status().tickets_waiting == 0
    else:
        lone.machine.propose(lone.now, 1, value)
        assert lone.machine.status().tickets_waiting == 1


def test_pitfall_28_an_empty_value_is_a_value(synod):
    world = World(synod)
    ticket = world.propose(1, b"")
    world.elapse(2)
    assert world.outcome(ticket) is Outcome.COMMITTED
    assert [node.machine.chosen for node in world.nodes.values()] == [Decided(b(1, 1), b(1, 1), b"")] * 3
    world.crash(2)
    world.restart(2)
    assert world.nodes[2].machine.chosen == Decided(b(1, 1), b(1, 1), b"")


def test_an_acceptor_without_disk_space_takes_no_new_vote_but_repeats_its_old_one(synod):
    lone = Lone(synod)
    lone.receive(2, lone.accept(b(1, 2), b"x"))
    lone.host.call("storage", Space.FULL)
    assert lone.receive(3, lone.prepare(b(2, 3))) == [lone.promise(1, b(2, 3), b(1, 2), b(1, 2), b"x")]
    assert lone.receive(3, lone.accept(b(2, 3), b"y")) == []
    assert lone.counted("full") == 1
    assert lone.receive(3, lone.learn(3)) == [lone.last_vote(1, b(1, 2), b"x")]
