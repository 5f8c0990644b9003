"""What hosts rely on: the doors, the records and their bytes, what is refused, status, digest, image and trace."""

import math
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synod_world import Lone, World, configuration, incarnation

import distkit.paxos.synod
from distkit.codec import FrameDecoder, Registry
from distkit.core import LocalError, Outcome, Space
from distkit.paxos.ballot import BALLOT_JUMP_MAX, BALLOT_MAX, make_ballot
from distkit.paxos.synod.messages import (
    Accept,
    Accepted,
    Decide,
    Decided,
    Formed,
    LastVote,
    Learn,
    Nack,
    Prepare,
    Promise,
    Promised,
    Voted,
)
from distkit.quorum import flexible
from distkit.sim.broken import Broken


def b(round_, node):
    return make_ballot(round_, node)


# -- the doors --------------------------------------------------------------------------------------------------------


def test_a_machine_at_rest_has_nothing_to_say(synod):
    lone = Lone(synod, learn_interval=math.inf)
    assert lone.machine.flush(lone.now) is None
    assert lone.machine.deadline() == math.inf
    lone.host.call("tick")
    assert lone.machine.flush(lone.now) is None
    lone.host.call("lost", 2, "reset")
    lone.host.call("connected", 2)
    lone.host.call("persisted", 0)
    assert lone.machine.flush(lone.now) is None


def test_late_early_and_repeated_ticks_are_harmless(synod):
    lone = Lone(synod, learn_interval=math.inf)
    lone.propose(1, b"x")
    lone.sent()
    for _ in range(3):
        lone.host.call("tick")
    assert lone.sent() == []
    lone.now += 1000
    for _ in range(3):
        lone.host.call("tick")
    assert lone.sent() == [lone.prepare(b(1, 1))] * 2


def test_time_does_not_go_back(synod):
    lone = Lone(synod)
    for now in (lone.now - 1, math.nan):
        for door, arguments in (("tick", ()), ("persisted", (0,)), ("receive", (2, lone.learn(2)))):
            with pytest.raises(LocalError, match="time went back"):
                getattr(lone.machine, door)(now, *arguments)
    assert lone.machine.status().counters == {}


def test_a_completion_that_was_never_issued_is_an_error_and_a_repeated_one_is_not(synod):
    lone = Lone(synod)
    lone.propose(1, b"x")
    lone.run(1)
    before = lone.machine.digest()
    lone.host.call("persisted", 1)
    assert lone.machine.digest() == before
    with pytest.raises(LocalError, match="never issued"):
        lone.machine.persisted(lone.now, 2)


def test_messages_of_another_protocol_are_an_error_of_the_host(synod):
    lone = Lone(synod)
    for message in (Formed(1), Voted(1, 1, b""), None):
        with pytest.raises(LocalError, match="the synod takes no"):
            lone.machine.receive(lone.now, 2, message)


def test_only_proposers_propose(synod):
    world = World(synod, proposers=(1, 3))
    with pytest.raises(LocalError, match="node 2 is no proposer: propose at 1, 3"):
        world.nodes[2].machine.propose(world.now, 1, b"x")


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"proposers": (1, 4)}, "proposer 4 is no member"),
        ({"learners": (9,)}, "learner 9 is no member"),
        ({"quorums": flexible.majority((1, 2, 5))}, "acceptor 5 is no member"),
        ({"proposers": ()}, "without a proposer"),
        ({"proposers": (1, 1)}, "named twice"),
        ({"learners": (2, 2)}, "named twice"),
    ],
)
def test_a_configuration_must_make_sense(synod, roles, message):
    everybody = {"quorums": flexible.majority((1, 2, 3)), "proposers": (1, 2, 3), "learners": (1, 2, 3)}
    with pytest.raises(LocalError, match=message):
        synod.formation_records(synod.SynodConfiguration(configuration(3), **(everybody | roles)))


@pytest.mark.parametrize(
    "option",
    [
        {"resend": 0.0},
        {"resend": math.nan},
        {"backoff": -1.0},
        {"backoff": 3.0, "backoff_max": 2.0},
        {"backoff_max": math.inf},
        {"learn_interval": 0.0},
        {"learn_interval": math.nan},
        {"tickets_max": 0},
    ],
)
def test_options_must_make_sense(synod, option):
    with pytest.raises(Broken, match="LocalError"):
        World(synod, **option)


def test_now_must_be_a_time(synod):
    config = synod.all_roles(configuration(3))
    for now in (-1.0, math.nan):
        with pytest.raises(LocalError, match="now must be"):
            synod.recover(
                synod.formation_records(config),
                node=1,
                incarnation=incarnation(1),
                configuration=config,
                random=Random(1),
                now=now,
            )


@pytest.mark.parametrize("roles", [("proposer",), ("acceptor",), ("learner",), ("proposer", "learner"), ()])
def test_every_subset_of_roles_works(synod, roles):
    """Node 5 has just these roles among four others that have all."""
    others = (1, 2, 3, 4)
    quorums = flexible.majority((*others, 5) if "acceptor" in roles else others)
    proposers = (*others, 5) if "proposer" in roles else others
    learners = (*others, 5) if "learner" in roles else others
    world = World(synod, 5, quorums=quorums, proposers=proposers, learners=learners)
    status = world.nodes[5].machine.status()
    assert (status.proposer, status.acceptor, status.learner) == tuple(
        name in roles for name in ("proposer", "acceptor", "learner")
    )
    ticket = world.propose(5 if "proposer" in roles else 1, b"x")
    world.elapse(3)
    assert world.outcome(ticket) is Outcome.COMMITTED
    assert world.values() == [b"x"] * 4 + [b"x" if set(roles) & {"proposer", "learner"} else None]


# -- well-formed absurdities ------------------------------------------------------------------------------------------

HUGE = (1 << 64) - 1
ABSURD = [
    ("from an unknown member", 9, lambda w: Prepare(w.epoch, incarnation(9), b(1, 9)), "unknown_member"),
    ("from itself", 1, lambda w: w.prepare(b(1, 1)), "unknown_member"),
    ("from node 0", 0, lambda w: w.prepare(b(1, 2)), "unknown_member"),
    ("of another epoch", 2, lambda w: Prepare(w.epoch ^ 1, incarnation(2), b(1, 2)), "wrong_epoch"),
    ("of another incarnation", 2, lambda w: Prepare(w.epoch, 5, b(1, 2)), "wrong_incarnation"),
    ("prepare without a ballot", 2, lambda w: Prepare(w.epoch, incarnation(2), 0), "nonsense"),
    ("prepare in round 0", 2, lambda w: w.prepare(2), "nonsense"),
    ("prepare of 2^64 - 1", 2, lambda w: Prepare(w.epoch, incarnation(2), HUGE), "nonsense"),
    ("prepare that jumps", 2, lambda w: w.prepare(b(7, 2) + BALLOT_JUMP_MAX), "nonsense"),
    ("prepare at the last ballot", 2, lambda w: Prepare(w.epoch, incarnation(2), BALLOT_MAX), "nonsense"),
    ("prepare of another's ballot", 2, lambda w: Prepare(w.epoch, incarnation(2), b(9, 3)), "nonsense"),
    ("prepare of no proposer", 4, lambda w: w.prepare(b(9, 4)), "nonsense"),
    ("accept of another's ballot", 2, lambda w: Accept(w.epoch, incarnation(2), b(9, 3), b(9, 3), b"y"), "nonsense"),
    ("accept of no proposer", 4, lambda w: w.accept(b(9, 4), b"y"), "nonsense"),
    ("accept younger than its ballot", 2, lambda w: w.accept(b(9, 2), b"y", b(10, 2)), "nonsense"),
    ("accept that nobody proposed", 2, lambda w: Accept(w.epoch, incarnation(2), b(9, 2), 0, b"y"), "nonsense"),
    ("accept proposed by no proposer", 2, lambda w: w.accept(b(9, 2), b"y", b(8, 4)), "nonsense"),
    ("promise of no acceptor", 4, lambda w: w.promise(4, w.ballot()), "nonsense"),
    ("promise with a vote at its ballot", 2, lambda w: w.promise(2, w.ballot(), w.ballot(), 0, b"y"), "nonsense"),
    ("promise with a vote above", 2, lambda w: w.promise(2, w.ballot(), b(9, 3), 0, b"y"), "nonsense"),
    ("promise with a value and no vote", 2, lambda w: w.promise(2, w.ballot(), 0, 0, b"y"), "nonsense"),
    ("promise with an origin and no vote", 2, lambda w: w.promise(2, w.ballot(), 0, b(1, 2)), "nonsense"),
    ("promise with a vote of nobody's", 2, lambda w: w.promise(2, w.ballot(), b(3, 4), b(3, 2), b"y"), "nonsense"),
    ("promise that contradicts our vote", 2, lambda w: w.promise(2, w.ballot(), b(5, 3), 0, b"y"), "conflict"),
    ("promise never asked for", 2, lambda w: w.promise(2, b(90, 1)), "stale"),
    ("vote of no acceptor", 4, lambda w: w.accepted(4, w.ballot()), "nonsense"),
    ("vote never asked for", 2, lambda w: w.accepted(2, b(5, 1)), "stale"),
    ("vote before it is asked for", 2, lambda w: w.accepted(2, w.ballot()), "stale"),
    ("vote at 2^64 - 1", 2, lambda w: w.accepted(2, HUGE), "stale"),
    ("last vote of no acceptor", 4, lambda w: w.last_vote(4, b(5, 3), b"old"), "nonsense"),
    ("last vote at no ballot", 2, lambda w: LastVote(w.epoch, incarnation(2), 0, 0, b""), "nonsense"),
    ("last vote at 2^64 - 1", 2, lambda w: w.last_vote(2, HUGE, b"y"), "nonsense"),
    ("last vote too large", 2, lambda w: w.last_vote(2, b(9, 2), bytes(w.synod.VALUE_BYTES_MAX + 1)), "nonsense"),
    ("refusal of no acceptor", 4, lambda w: w.nack(4, w.ballot(), b(9, 3)), "nonsense"),
    ("refusal below the ballot", 2, lambda w: w.nack(2, w.ballot(), b(2, 3)), "nonsense"),
    ("refusal that jumps", 2, lambda w: w.nack(2, w.ballot(), HUGE), "nonsense"),
    ("refusal never asked for", 2, lambda w: w.nack(2, b(3, 1), b(9, 3)), "stale"),
    ("question of no learner", 4, lambda w: w.learn(4), "nonsense"),
    ("decision without a ballot", 2, lambda w: Decide(w.epoch, incarnation(2), 0, 0, b""), "nonsense"),
    ("decision of nobody's", 2, lambda w: w.decide(2, b(9, 4), b"y"), "nonsense"),
    ("decision too large", 2, lambda w: w.decide(2, b(9, 2), bytes(w.synod.VALUE_BYTES_MAX + 1)), "nonsense"),
    ("a value too large", 2, lambda w: w.accept(b(9, 2), bytes(w.synod.VALUE_BYTES_MAX + 1)), "nonsense"),
]


@pytest.mark.parametrize(("source", "message", "counter"), [row[1:] for row in ABSURD], ids=[row[0] for row in ABSURD])
def test_an_absurd_message_is_counted_and_changes_nothing(synod, source, message, counter):
    """Node 1 of four (4 has no role) has voted in round 5 and is preparing round 6."""
    three = (1, 2, 3)
    past = [Voted(b(5, 3), b(5, 3), b"old")]
    lone = Lone(synod, 4, past=past, quorums=flexible.majority(three), proposers=three, learners=three)
    lone.propose(1, b"x")
    lone.sent()
    assert lone.ballot() == b(6, 1)
    before, image = lone.machine.digest(), lone.machine.image()
    assert lone.receive(source, message(lone)) == []
    assert lone.machine.status().counters == {counter: 1}
    assert (lone.machine.digest(), lone.machine.image()) == (before, image)


@pytest.mark.parametrize(("value", "origin"), [(b"other", (5, 3)), (b"old", (4, 3))])
def test_a_second_proposal_at_one_ballot_is_not_voted_for(synod, value, origin):
    lone = Lone(synod, past=[Voted(b(5, 3), b(5, 3), b"old")])
    assert lone.receive(3, lone.accept(b(5, 3), value, b(*origin))) == []
    assert lone.machine.status().vote == Voted(b(5, 3), b(5, 3), b"old")
    assert lone.counted("conflict") == 1


def test_votes_for_two_values_at_one_ballot_are_no_quorum(synod):
    lone = Lone(synod, 5)
    lone.receive(2, lone.last_vote(2, b(1, 5), b"x"))
    lone.receive(3, lone.last_vote(3, b(1, 5), b"y"))
    lone.receive(4, lone.last_vote(4, b(1, 5), b"x"))
    assert lone.machine.chosen is None
    assert lone.counted("conflict") == 1


NUMBERS = st.one_of(
    st.integers(0, HUGE), st.builds(make_ballot, st.integers(1, 9), st.integers(1, 4)), st.just(0), st.just(1)
)
ANY = st.one_of(
    st.builds(Prepare, st.just(0), st.just(0), NUMBERS),
    st.builds(Promise, st.just(0), st.just(0), NUMBERS, NUMBERS, NUMBERS, st.binary(max_size=2)),
    st.builds(Accept, st.just(0), st.just(0), NUMBERS, NUMBERS, st.binary(max_size=2)),
    st.builds(Accepted, st.just(0), st.just(0), NUMBERS),
    st.builds(LastVote, st.just(0), st.just(0), NUMBERS, NUMBERS, st.binary(max_size=2)),
    st.builds(Nack, st.just(0), st.just(0), NUMBERS, NUMBERS),
    st.builds(Learn, st.just(0), st.just(0)),
    st.builds(Decide, st.just(0), st.just(0), NUMBERS, NUMBERS, st.binary(max_size=2)),
)


@given(st.lists(st.tuples(st.integers(2, 4), ANY), max_size=12), st.booleans())
def test_whatever_members_say_the_machine_goes_on(messages, proposes):
    synod = distkit.paxos.synod
    config = synod.all_roles(configuration(4))
    machine = synod.recover(
        synod.formation_records(config),
        node=1,
        incarnation=incarnation(1),
        configuration=config,
        random=Random(1),
        now=0.0,
    )
    if proposes:
        machine.propose(0.0, 1, b"x")
    for source, message in messages:
        message = type(message)(config.epoch, incarnation(source), *astuple(message)[2:])
        before = machine.status().promised
        machine.receive(0.0, source, message)
        output = machine.flush(0.0)
        for write in output.writes if output else ():
            machine.persisted(0.0, write.token)
        assert machine.status().promised >= before
    assert (
        synod.recover(
            machine.image(),
            node=1,
            incarnation=incarnation(1),
            configuration=config,
            random=Random(1),
            now=0.0,
        ).image()
        == machine.image()
    )


def astuple(message):
    return tuple(getattr(message, name) for name in type(message).__dataclass_fields__)


# -- bytes -------------------------------------------------------------------------------------------------------------

U64 = st.integers(0, HUGE)
RECORDS = st.one_of(
    st.builds(Formed, U64),
    st.builds(Promised, U64),
    st.builds(Voted, U64, U64, st.binary(max_size=99)),
    st.builds(Decided, U64, U64, st.binary(max_size=99)),
)


@given(st.lists(ANY, min_size=1, max_size=5))
def test_messages_survive_the_wire(messages):
    registry = Registry(distkit.paxos.synod.MESSAGES)
    decoder = FrameDecoder(registry)
    decoder.feed(b"".join(part for message in messages for part in registry.encode_frame(message)))
    assert [message for _, message in decoder] == messages


@given(RECORDS)
def test_records_survive_the_disk(record):
    registry = Registry(distkit.paxos.synod.RECORDS)
    kind, buffers = registry.encode_body(record)
    assert registry.decode_body(kind, b"".join(buffers)) == record
    assert 64 <= kind <= 95  # state: the newest of each kind is all that the log must keep


def test_kinds_are_nobody_elses():
    from distkit.raft import messages as raft
    from distkit.replica import messages as replica

    tables = (raft.MESSAGES, replica.MESSAGES, distkit.paxos.synod.MESSAGES)
    kinds = [kind for table in tables for kind, *_ in table]
    assert len(set(kinds)) == len(kinds)
    Registry(raft.RECORDS, distkit.paxos.synod.RECORDS, parts=raft.PARTS)


def test_the_page_of_formats_lists_every_message_and_record(synod):
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    for kind, record, layout in (*synod.MESSAGES, *synod.RECORDS):
        fields = ", ".join(field.replace(":", " ") for field in layout.split())
        assert f"| {kind} | {record.__name__} | {fields} |" in page


def test_the_newest_record_of_each_kind_is_enough_to_restart(synod):
    lone = Lone(synod)
    for round_ in (1, 2, 3):
        lone.receive(2, lone.accept(b(round_, 2), b"%d" % round_))
        lone.receive(3, lone.prepare(b(round_, 3)))
    newest = {type(record): record for record in lone.host.disk}
    assert lone.host.recovered(newest.values()).image() == lone.machine.image()
    assert len(lone.host.disk) > len(newest) == 3


# -- what people see ---------------------------------------------------------------------------------------------------


def test_status_says_where_a_node_stands(synod):
    lone = Lone(synod, past=[Voted(b(1, 2), b(1, 2), b"old")])
    lone.propose(1, b"x")
    status = lone.machine.status()
    assert (status.node, status.promised, status.ballot) == (1, b(2, 1), b(2, 1))
    assert status.vote == Voted(b(1, 2), b(1, 2), b"old")
    assert (status.phase, status.refusals, status.chosen) == (synod.Phase.PREPARING, 0, None)
    assert (status.tickets_waiting, status.writes_outstanding, status.counters) == (1, 1, {})


def test_equal_states_have_equal_digests_and_every_fact_changes_them(synod):
    digests = set()

    def take(lone):
        assert lone.machine.digest() == lone.machine.digest()
        digests.add(lone.machine.digest())

    lone = Lone(synod)
    steps = [
        lambda: None,
        lambda: lone.propose(1, b"x"),
        lambda: lone.host.persist(),
        lambda: lone.hand((2, 1, lone.promise(2, b(1, 1)))),
        lambda: lone.host.persist(),
        lambda: lone.hand((3, 1, lone.accept(b(1, 3), b"y"))),
        lambda: lone.host.persist(),
        lambda: lone.hand((2, 1, lone.nack(2, b(1, 1), b(1, 2)))),
        lambda: lone.wait(1),
        lambda: lone.host.call("storage", Space.FULL),
        lambda: lone.hand((3, 1, lone.decide(3, b(1, 3), b"y"))),
    ]
    for step in steps:
        step()
        take(lone)
    assert len(digests) == len(steps)


def test_the_trace_tells_of_every_transition(synod):
    events = []
    config = synod.all_roles(configuration(1))
    machine = synod.recover(
        synod.formation_records(config),
        node=1,
        incarnation=incarnation(1),
        configuration=config,
        random=Random(1),
        now=0.0,
        trace=lambda event, fields: events.append((event, fields["ballot"])),
    )
    machine.propose(0.0, 1, b"x")
    while (output := machine.flush(0.0)) is not None:
        for write in output.writes:
            machine.persisted(0.0, write.token)
    ballot = b(1, 1)
    assert events == [(event, ballot) for event in ("Prepare", "Promise", "Accept", "Vote", "Decide")]
