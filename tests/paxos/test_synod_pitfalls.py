"""Mistakes that Paxos implementations have made, each shown to be absent here. The mutants that break them again are in
`synod_mutants` and `synod_more_mutants`; sources:

03 denizalti/paxosmmc adopts after one promise; efficient/epaxos counts messages   04 brooker.co.za 2021-11
05 efficient/epaxos handlePrepare       06 stores that do not sync                 07 Tencent/phxpaxos#145, gryadka
08 luohaha/MyPaxos#18                   09 efficient/epaxos handleCommitShort      13 counts changed in place
18 palantir/atlasdb#1504                19 paxodin's torn tail                     24 one ballot variable (Sutra 2019)

Those with tickets, order and limits are in `test_synod_limits`, partial links (23) in `test_simple_learning`.
"""

from dataclasses import replace
from itertools import product
from random import Random

import pytest
from synod_world import Lone, World, configuration, incarnation

from distkit.core import Configuration, LocalError, Member, StorageError
from distkit.paxos.ballot import make_ballot, node_of
from distkit.paxos.synod.messages import Accept, Accepted, Decided, Learn, Prepare, Promise, Promised, Voted
from distkit.quorum import flexible


def b(round_, node):
    return make_ballot(round_, node)


def preparing(synod, size=3, **options):
    """Node 1 has asked for promises."""
    lone = Lone(synod, size, **options)
    lone.propose(1, b"x")
    lone.sent()
    return lone


def accepting(synod, size=3, **options):
    """Node 1 has asked for votes, and has voted itself."""
    lone = preparing(synod, size, **options)
    lone.promised_by(*range(2, size // 2 + 2))
    lone.take()
    assert lone.machine.status().phase is synod.Phase.ACCEPTING
    return lone


# -- 03: counting ------------------------------------------------------------------------------------------------------


def test_pitfall_03_a_promise_that_comes_twice_counts_once(synod):
    lone = preparing(synod, 5)
    lone.promised_by(2, 2, 2, 2)
    assert lone.letters(Accept) == []
    lone.promised_by(3)
    assert len(lone.letters(Accept)) == 4


def test_pitfall_03_a_vote_that_comes_twice_counts_once(synod):
    lone = accepting(synod, 5)
    for _ in range(4):
        lone.receive(2, lone.accepted(2, lone.ballot()))
    assert lone.machine.chosen is None
    lone.receive(5, lone.accepted(5, lone.ballot()))
    assert lone.machine.chosen.value == b"x"


@pytest.mark.parametrize("size", range(1, 8))
def test_pitfall_03_every_subset_of_votes_decides_exactly_if_it_is_a_quorum(synod, size):
    for voters in product((False, True), repeat=size - 1):
        lone = Lone(synod, size, learners=(1,), proposers=tuple(range(1, size + 1)))
        for node, votes in enumerate(voters, 2):
            if votes:
                lone.receive(node, lone.last_vote(node, b(1, size), b"x"))
        assert (lone.machine.chosen is not None) == (2 * sum(voters) > size), voters


@pytest.mark.parametrize(
    ("quorums", "phase1", "phase2"),
    [
        (flexible.counts((1, 2, 3, 4), 1, 4), (), (2, 3, 4)),
        (flexible.counts((1, 2, 3, 4), 4, 1), (2, 3, 4), ()),
        (flexible.grid([[1, 2], [3, 4]]), (2,), (3,)),
        (flexible.weights({1: 1, 2: 1, 3: 1, 4: 3}, 4, 3), (4,), (4,)),
    ],
)
def test_pitfall_03_each_phase_counts_by_its_own_quorums(synod, quorums, phase1, phase2):
    lone = preparing(synod, 4, quorums=quorums)
    for peer in phase1:
        assert lone.machine.status().phase is synod.Phase.PREPARING
        lone.promised_by(peer)
    assert lone.machine.status().phase is (synod.Phase.ACCEPTING if phase2 else synod.Phase.IDLE)
    for peer in phase2:
        assert lone.machine.chosen is None
        lone.receive(peer, lone.accepted(peer, b(1, 1)))
    assert lone.machine.chosen is not None


# -- 04, 05, 24: promise and vote -------------------------------------------------------------------------------------


def test_pitfall_04_a_vote_raises_the_promise(synod):
    lone = Lone(synod)
    lone.receive(3, lone.accept(b(2, 3), b"x"))
    assert lone.receive(2, lone.prepare(b(1, 2))) == [lone.nack(1, b(1, 2), b(2, 3))]
    assert lone.receive(2, lone.accept(b(1, 2), b"y")) == [lone.nack(1, b(1, 2), b(2, 3))]
    lone.crash(1)
    lone.restart(1)
    assert lone.receive(2, lone.prepare(b(1, 2))) == [lone.nack(1, b(1, 2), b(2, 3))]


@pytest.mark.parametrize("voted", [True, False])
def test_pitfall_05_a_promise_holds_whether_there_is_a_vote_or_not(synod, voted):
    lone = Lone(synod)
    if voted:
        lone.receive(2, lone.accept(b(1, 2), b"x"))
    lone.receive(3, lone.prepare(b(3, 3)))
    assert lone.receive(2, lone.accept(b(2, 2), b"y")) == [lone.nack(1, b(2, 2), b(3, 3))]
    lone.crash(1)
    lone.restart(1)
    assert lone.receive(2, lone.accept(b(2, 2), b"y")) == [lone.nack(1, b(2, 2), b(3, 3))]


def test_pitfall_24_promise_and_vote_have_ballots_of_their_own(synod):
    lone = Lone(synod)
    lone.receive(2, lone.accept(b(1, 2), b"x"))
    lone.receive(3, lone.prepare(b(2, 3)))
    assert lone.receive(2, lone.prepare(b(3, 2))) == [lone.promise(1, b(3, 2), b(1, 2), b(1, 2), b"x")]
    lone.crash(1)
    lone.restart(1)
    assert lone.receive(3, lone.prepare(b(4, 3))) == [lone.promise(1, b(4, 3), b(1, 2), b(1, 2), b"x")]


# -- 06, 19: the disk --------------------------------------------------------------------------------------------------


def test_pitfall_06_what_was_said_is_on_the_disk_wherever_the_crash_comes(synod):
    """Three proposers and a crash of everybody before, between and behind the writes of every step."""
    for seed in range(60):
        random = Random(seed)
        world = World(synod, seed=seed)
        for node in world.nodes.values():
            world.propose(node.id, b"%d" % node.id)
            for _ in range(random.randrange(4)):
                world.run(node.id)
                world.deliver()
        for _ in range(random.randrange(12)):
            if world.pool:
                world.hand(world.pool.pop(random.randrange(len(world.pool))))
        for node in world.nodes.values():
            node.flush()
            node.persist(random.randint(0, len(node.writes)))
            world.crash(node.id, keep=random.randint(0, sum(len(write.records) for write in node.writes)))
        world.restart(1, 2, 3)
        world.propose(1, b"later")
        world.elapse(5)
        assert len(set(world.values())) == 1


def test_pitfall_06_the_own_vote_counts_only_once_it_is_durable(synod):
    lone = preparing(synod)
    lone.hand((2, 1, lone.promise(2, lone.ballot())))
    assert len(lone.letters(Accept)) == 2  # at once: its ballot is durable
    lone.hand((2, 1, lone.accepted(2, lone.ballot())))
    lone.host.call("persisted", 1)  # an earlier write, reported again
    lone.host.flush()
    assert lone.machine.chosen is None
    lone.host.persist()
    assert lone.machine.chosen.value == b"x"


def test_pitfall_06_the_own_promise_counts_only_once_it_is_durable(synod):
    lone = Lone(synod, 1)
    lone.propose(1, b"x")
    assert lone.machine.status().phase is synod.Phase.PREPARING
    lone.host.persist(1)
    assert (lone.machine.status().phase, lone.machine.chosen) == (synod.Phase.ACCEPTING, None)
    lone.host.persist(1)
    assert lone.machine.chosen.value == b"x"


def test_pitfall_06_others_may_choose_before_the_own_disk_is_done(synod):
    lone = preparing(synod)
    lone.hand((2, 1, lone.promise(2, lone.ballot())))
    assert len(lone.letters(Accept)) == 2
    for peer in (2, 3):
        lone.hand((peer, 1, lone.accepted(peer, lone.ballot())))
    assert lone.machine.chosen.value == b"x"
    assert len(lone.host.writes) > 0


def test_pitfall_06_a_promise_of_a_ballot_that_is_not_durable_yet_counts_for_nothing(synod):
    lone = Lone(synod)
    lone.propose(1, b"x")
    for peer in (2, 3):
        lone.hand((peer, 1, lone.promise(peer, lone.ballot())))
    assert lone.letters(Accept) == []
    assert lone.counted("stale") == 2


def test_pitfall_06_a_completion_stands_for_the_writes_before_it(synod):
    """The own promise is in the first write, and only the second one is reported."""
    lone = Lone(synod)
    lone.propose(1, b"x")
    lone.hand((3, 1, lone.prepare(b(9, 3))))
    assert len(lone.host.writes) == 2
    lone.host.persist(report=False)
    lone.hand((2, 1, lone.promise(2, b(1, 1))))
    assert len(lone.letters(Accept)) == 2


@pytest.mark.parametrize("keep", range(4))
def test_pitfall_19_a_write_torn_anywhere_restarts_twice(synod, keep):
    lone = Lone(synod)
    lone.hand((2, 1, lone.accept(b(1, 2), b"x")), flush=False)
    lone.hand((3, 1, lone.prepare(b(2, 3))), flush=False)
    lone.hand((3, 1, lone.decide(3, b(1, 2), b"x")))
    assert len(lone.host.writes[0].records) == 3
    lone.crash(1, keep=keep)
    for _ in range(2):
        lone.restart(1)  # the ledger compares what is recovered with what the records say
        lone.crash(1)
    lone.restart(1)
    status = lone.machine.status()
    assert status.promised >= status.vote.ballot


def test_pitfall_06_durable_is_what_the_order_of_completions_says(synod):
    lone = Lone(synod)
    for round_ in (1, 2, 3):
        lone.hand((2, 1, lone.accept(b(round_, 2), b"x")))
    lone.host.persist(2, report=False)
    assert [letter.message.ballot for letter in lone.letters(Accepted)] == [b(1, 2), b(2, 2)]


# -- 07, 08: ballots ---------------------------------------------------------------------------------------------------


def test_pitfall_07_a_ballot_is_not_used_again_with_another_value(synod):
    """x reaches the proposer's own disk only; its next life proposes y. Whoever asks the two others gets y for good."""
    world = World(synod)
    world.propose(1, b"x")
    world.run(1)
    world.carry(Prepare)
    world.carry(Promise)
    world.take()
    world.crash(1)
    world.restart(1)
    world.propose(1, b"y")
    world.run(1)
    world.carry(Prepare, target=2)
    world.carry(Promise)
    accepts = world.letters(Accept)
    assert {letter.message.ballot for letter in accepts} == {b(2, 1)}
    assert {letter.message.value for letter in accepts} == {b"x"}
    world.elapse(2)
    assert world.values() == [b"x"] * 3


def test_pitfall_07_every_attempt_takes_a_new_ballot_above_what_it_was_refused_for(synod):
    lone = preparing(synod)
    for refusal in (b(1, 2), b(7, 3), b(7, 3) + 1):
        before = lone.ballot()
        lone.receive(2, lone.nack(2, before, max(refusal, before + 1)))
        lone.wait(1)
        lone.run(1)
        assert lone.ballot() > max(before, refusal)
        assert node_of(lone.ballot()) == 1


def test_pitfall_07_a_ballot_lies_above_what_the_node_promised_to_others(synod):
    lone = Lone(synod)
    lone.receive(3, lone.prepare(b(41, 3)))
    lone.propose(1, b"x")
    assert lone.ballot() == b(42, 1)
    lone.crash(1)
    lone.restart(1)
    lone.propose(1, b"x")
    assert lone.ballot() == b(42, 1)  # nobody has heard of the first one


def refused_once(synod, phase, size=3):
    """Node 1 in a phase of its second ballot, and its first ballot."""
    lone = preparing(synod, size)
    first = lone.ballot()
    if phase == "accepting":
        lone.promised_by(*range(2, size // 2 + 2))
    lone.receive(2, lone.nack(2, first, first + 1))
    lone.wait(1)
    lone.run(1)
    if phase == "accepting":
        lone.promised_by(*range(2, size // 2 + 2))
    lone.take()
    return lone, first


def test_pitfall_08_a_promise_of_an_earlier_ballot_counts_for_nothing(synod):
    lone, first = refused_once(synod, "preparing")
    for peer in (2, 3):
        lone.receive(peer, lone.promise(peer, first))
    assert lone.machine.status().phase is synod.Phase.PREPARING
    assert lone.counted("stale") == 2


def test_pitfall_08_a_vote_of_an_earlier_ballot_does_not_count_for_this_one(synod):
    lone, first = refused_once(synod, "accepting", 5)
    lone.receive(3, lone.accepted(3, first))
    lone.receive(4, lone.accepted(4, lone.ballot()))
    assert lone.machine.chosen is None
    assert lone.counted("stale") == 1
    lone.receive(5, lone.accepted(5, lone.ballot()))
    assert lone.machine.chosen is not None


def test_pitfall_08_a_vote_before_phase_2_counts_for_nothing(synod):
    lone = preparing(synod)
    for peer in (2, 3):
        lone.receive(peer, lone.accepted(peer, lone.ballot()))
    assert lone.machine.chosen is None
    assert lone.counted("stale") == 2


def test_pitfall_08_a_refusal_of_an_earlier_ballot_changes_nothing(synod):
    lone, first = refused_once(synod, "accepting")
    lone.receive(3, lone.nack(3, first, b(90, 3)))
    status = lone.machine.status()
    assert (status.phase, status.refusals) == (synod.Phase.ACCEPTING, 1)


def test_pitfall_08_a_promise_in_phase_2_counts_for_nothing(synod):
    """Even if it reports a vote: the proposal of this ballot is made, and stays."""
    lone = accepting(synod, 5, past=[Promised(b(5, 2))])
    lone.receive(5, lone.promise(5, lone.ballot(), b(3, 3), b(3, 3), b"y"))
    assert lone.counted("stale") == 1
    lone.wait(1)
    assert {letter.message.value for letter in lone.letters(Accept)} == {b"x"}


@pytest.mark.parametrize("field", ["epoch", "incarnation"])
@pytest.mark.parametrize("phase", ["preparing", "accepting"])
def test_pitfall_08_replies_of_another_configuration_or_incarnation_count_for_nothing(synod, field, phase):
    lone = preparing(synod) if phase == "preparing" else accepting(synod)
    ballot = lone.ballot()
    reply = lone.promise(2, ballot) if phase == "preparing" else lone.accepted(2, ballot)
    wrong = replace(reply, **{field: getattr(reply, field) + 1})
    before = lone.machine.digest()
    assert lone.receive(2, wrong) == []
    assert lone.machine.digest() == before
    assert lone.counted(f"wrong_{field}") == 1


def test_pitfall_08_reports_of_an_earlier_ballot_are_forgotten(synod):
    """Node 2 reports a vote at the first ballot and then falls silent: neither counts at the second."""
    lone = preparing(synod, 5, past=[Promised(b(5, 3))])
    lone.receive(2, lone.promise(2, lone.ballot(), b(4, 3), 0, b"y"))
    lone.receive(3, lone.nack(3, lone.ballot(), b(7, 3)))
    lone.wait(1)
    lone.sent()
    lone.promised_by(3)
    assert lone.letters(Accept) == []
    lone.promised_by(4)
    assert {letter.message.value for letter in lone.letters(Accept)} == {b"x"}


# -- 09: the decision --------------------------------------------------------------------------------------------------


def test_pitfall_09_a_decision_overtakes_the_vote_for_it(synod):
    lone = Lone(synod)
    lone.receive(2, lone.accept(b(1, 2), b"x"))
    lone.receive(3, lone.decide(3, b(2, 3), b"y"))
    assert lone.host.decided == Decided(b(2, 3), b(2, 3), b"y")
    lone.receive(3, lone.accept(b(2, 3), b"y"))
    assert lone.machine.chosen.value == b"y"


def test_pitfall_09_a_second_decision_does_not_replace_the_first(synod):
    lone = Lone(synod)
    lone.receive(2, lone.decide(2, b(1, 2), b"x"))
    lone.receive(3, lone.decide(3, b(2, 3), b"y"))
    assert lone.machine.chosen.value == b"x"
    assert lone.counted("conflict") == 1


def test_pitfall_09_late_votes_decide_nothing(synod):
    lone = accepting(synod)
    for peer in (2, 3, 2):
        lone.receive(peer, lone.accepted(peer, lone.ballot()))  # the ledger refuses a second delivery
    assert lone.counted("stale") == 2


# -- 13, 18: who counts ------------------------------------------------------------------------------------------------


def recover(synod, records, config, node=1, number=None):
    return synod.recover(
        records,
        node=node,
        incarnation=incarnation(node) if number is None else number,
        configuration=config,
        random=Random(1),
        now=0.0,
    )


FIVE = (1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    "change",
    [
        lambda c, s: s.all_roles(c.members, flexible.counts(FIVE, 2, 4)),
        lambda c, s: s.SynodConfiguration(c.members, c.quorums, (1,), c.learners),
        lambda c, s: s.SynodConfiguration(c.members, c.quorums, c.proposers, (1,)),
        lambda c, s: s.all_roles(configuration(6), c.quorums),
        lambda c, s: s.all_roles(Configuration(2, c.members.members), c.quorums),
        lambda c, s: s.all_roles(Configuration(1, (*c.members.members[:4], Member(5, 9, "127.0.0.1:7105"))), c.quorums),
    ],
    ids=["quorums", "proposers", "learners", "members", "version", "incarnation"],
)
def test_pitfall_13_nothing_that_counts_can_be_changed_in_place(synod, change):
    config = synod.all_roles(configuration(5), flexible.counts(FIVE, 4, 2))
    records = synod.formation_records(config)
    recover(synod, records, config)
    with pytest.raises(LocalError, match="can't be changed in place"):
        recover(synod, records, change(config, synod))
    with pytest.raises(StorageError, match="formed twice"):
        recover(synod, synod.formation_records(change(config, synod)) + records, config)


def test_pitfall_13_the_same_quorums_written_differently_and_new_addresses_are_no_change(synod):
    config = synod.all_roles(configuration(3))
    pairs = flexible.any_of(flexible.all_of(1, 2), flexible.all_of(1, 3), flexible.all_of(2, 3))
    members = tuple(Member(each.id, each.incarnation, "elsewhere:1") for each in config.members.members)
    same = synod.all_roles(Configuration(1, members), flexible.QuorumSystem(pairs, pairs))
    recover(synod, synod.formation_records(config), same)


def test_pitfall_18_a_wiped_node_does_not_come_back_under_its_old_id(synod):
    config = synod.all_roles(configuration(3))
    with pytest.raises(LocalError, match="wiped node"):
        recover(synod, synod.formation_records(config), config, number=77)
    with pytest.raises(LocalError, match="no member"):
        recover(synod, synod.formation_records(config), config, node=4, number=77)


def test_pitfall_18_a_wiped_node_that_comes_back_all_the_same_is_heard_by_nobody(synod):
    lone = Lone(synod)
    before = lone.machine.digest()
    for message in (
        Prepare(lone.epoch, 77, b(1, 2)),
        Accept(lone.epoch, 77, b(1, 2), b(1, 2), b"x"),
        Learn(lone.epoch, 77),
    ):
        assert lone.receive(2, message) == []
    assert lone.machine.digest() == before
    assert lone.counted("wrong_incarnation") == 3


def test_pitfall_18_a_directory_that_was_never_formed_or_holds_contradictions_does_not_start(synod):
    config = synod.all_roles(configuration(3))
    formed = synod.formation_records(config)
    for records, message in [
        ((), "never formed"),
        ((Promised(b(1, 2)),), "never formed"),
        ((*formed, Voted(b(1, 2), b(1, 2), b"x"), Voted(b(1, 2), b(1, 2), b"y")), "two votes"),
        ((*formed, Decided(b(1, 2), b(1, 2), b"x"), Decided(b(2, 2), b(2, 2), b"y")), "two decisions"),
        ((*formed, Learn(1, 2)), "unknown type Learn"),
    ]:
        with pytest.raises(StorageError, match=message):
            recover(synod, records, config)
