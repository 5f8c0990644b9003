"""The explorer: exact counts of known specifications, all of a small synod, symmetry, limits, and what it finds."""

import json
import os
import subprocess
import sys
from collections import deque
from functools import partial

import pytest
from click.testing import CliRunner
from explore_specs import Paxos, Voting
from mutating import load
from synod_mutants import MUTANTS

from distkit.cli import commands
from distkit.core import LocalError
from distkit.sim.broken import Broken
from distkit.sim.explore import Cluster, Freezer, SynodSubject, Whole, events, numbered, retell, search

#: Mutants of the synod, and the moves of the shortest way to see each.
CAUGHT = {
    "P1a a promise binds no vote": 12,
    "P1b a lower prepare is promised": 6,
    "P2 the own value is proposed whatever was voted for": 16,
    "a ballot is asked for again before it is durable": 2,
    "03 half is a quorum": 11,
    "04 a vote leaves the promise where it is": 9,
    "04 a vote does not count as a promise after a restart": 10,
    "05 the promise is kept only where there is no vote": 13,
    "24 one ballot for promise and vote": 12,
    "06 a promise leaves before it is durable": 3,
    "06 a vote leaves before it is durable": 9,
    "06 a prepare leaves before its ballot is durable": 1,
    "06 the vote is forgotten at a restart": 10,
    "06 the promise is forgotten at a restart": 2,
    "07 rounds come from memory": 4,
    "08 a promise of any ballot counts": 13,
}


def whole(model):
    return Whole(model.first, model.after, model.check)


def mutated(name):
    (mutant,) = [mutant for mutant in MUTANTS if mutant.name == name]
    return load("distkit.paxos.synod", mutant, shared=("messages",))


def tiny(**more):
    """One value, one ballot, one crash."""
    return SynodSubject(3, 1, 1, 1, **more)


@pytest.mark.parametrize(("model", "states"), [(Voting(3), 6752), (Paxos(2), 3921)])
def test_the_search_finds_as_many_states_of_the_specifications_as_tlc(model, states):
    found = search(whole(model))
    assert (found.states, found.complete, found.broken) == (states, True, None)


def test_the_search_finds_the_shortest_way_to_a_broken_specification():
    found = search(whole(Paxos(2, careless=True)))
    assert found.broken is not None
    assert found.broken.rule == "S7"
    assert not found.complete
    assert len(found.path) == 13


def test_a_model_may_break_a_rule_in_a_move():
    def after(state):
        if state == 3:
            raise Broken("three", "is too many")
        return [state + 1, state]

    found = search(Whole(0, after, lambda state: None))
    assert found.broken is not None
    assert (found.broken.rule, found.in_move, len(found.path), found.states) == ("three", True, 4, 4)


def test_a_model_may_be_broken_from_the_beginning():
    def check(state):
        raise Broken("never", "right")

    found = search(Whole(0, lambda state: [], check))
    assert found.broken is not None
    assert (found.broken.rule, found.states, found.path) == ("never", 1, ((0, 0),))


def test_all_of_a_small_synod_is_tried_and_nothing_is_wrong():
    found = search(Cluster(SynodSubject(2, 2, 2, 1)))
    assert (found.states, found.depth, found.complete, found.broken) == (11_841, 34, True, None)


@pytest.mark.parametrize(("bounds", "states"), [((1, 1, 2, 1), 26), ((2, 2, 2, 0), 1071)])
def test_all_is_tried_where_proposers_are_acceptors_too(bounds, states):
    found = search(Cluster(SynodSubject(*bounds, together=True)), states_max=10_000)
    assert (found.states, found.complete, found.broken) == (states, True, None)


@pytest.mark.process
def test_all_of_a_synod_of_three_with_two_values_two_ballots_and_a_crash_is_tried():
    found = search(Cluster(SynodSubject(3, 2, 2, 1)))
    assert (found.states, found.depth, found.complete, found.broken) == (1_854_578, 40, True, None)


def test_with_symmetry_and_without_it_finds_the_same_states():
    alike, apart = Cluster(tiny()), Cluster(tiny(), symmetry=False)
    each_once, every = reachable(alike, canonical=True), reachable(apart)
    assert search(alike).states == len(each_once) == 417
    assert search(apart).states == len(every) == 1890
    orders = range(len(alike.orders))
    assert sum(len({alike.reordered(state, order) for order in orders}) for state in each_once) == len(every)


def reachable(cluster, canonical=False):
    """The states, by the simplest possible search."""
    known, waiting = {cluster.first}, deque([cluster.first])
    while waiting:
        for _, after, _ in cluster.moves(waiting.popleft()):
            if canonical:
                after = min(cluster.reordered(after, order) for order in range(len(cluster.orders)))
            if after not in known:
                known.add(after)
                waiting.append(after)
    return known


@pytest.mark.parametrize("name", ["P1b a lower prepare is promised", "07 rounds come from memory"])
def test_with_symmetry_and_without_it_a_broken_rule_is_found_at_the_same_depth(name):
    synod = mutated(name)
    alike, apart = (search(Cluster(SynodSubject(machine=synod), symmetry=symmetry)) for symmetry in (True, False))
    assert alike.broken is not None
    assert apart.broken is not None
    assert (alike.broken.rule, len(alike.path)) == (apart.broken.rule, len(apart.path))
    assert alike.states <= apart.states


@pytest.mark.parametrize("name", CAUGHT)
def test_the_explorer_catches_a_mutant_of_the_synod_on_the_shortest_way(name):
    cluster = Cluster(SynodSubject(machine=mutated(name)))
    found = search(cluster, states_max=60_000)
    assert found.broken is not None
    steps, broken = retell(cluster, found, found.broken)
    assert len(steps) == CAUGHT[name]
    assert broken.rule == found.broken.rule


def test_colocated_roles_catch_that_the_own_vote_counts_at_once():
    synod = mutated("06 the own promise and vote count before they are durable")
    subject = SynodSubject(3, 1, 1, 0, together=True, machine=synod)
    found = search(Cluster(subject), states_max=60_000)
    assert found.broken is not None


def test_a_found_way_is_one_run_with_consistent_names():
    cluster = Cluster(SynodSubject(machine=mutated("P2 the own value is proposed whatever was voted for")))
    found = search(cluster)
    assert found.broken is not None
    steps, broken = retell(cluster, found, found.broken)
    sent = set()
    for step in steps:
        if step.move.kind == "receive":
            _, source, message = step.move.detail
            assert (source, step.move.node, message) in sent
        sent |= {(step.move.node, target, message) for target, message in step.sent}
    lines = numbered(cluster, steps, broken)
    assert lines[0].strip() == "1. node 4 is called: propose(4, b'a')"
    assert "S4" in lines[-1]
    trace = events(cluster, steps, broken)
    assert trace[-1]["event"] == "broken"
    assert {"send", "receive", "restart", "propose", "complete"} <= {event["event"] for event in trace}
    told = [(event["node"], event["role"], event["term"]) for event in trace if event["event"] == "role"]
    assert sorted(told) == sorted((node, role, 1) for node in (4, 5) for role in ("preparing", "accepting"))
    json.dumps(trace)


def test_a_crash_is_told_with_what_reached_the_disk():
    cluster = Cluster(SynodSubject(machine=mutated("06 the promise is forgotten at a restart")))
    found = search(cluster)
    assert found.broken is not None
    steps, _ = retell(cluster, found, found.broken)
    assert [step.move.kind for step in steps] == ["call", "crash"]


# -- limits -----------------------------------------------------------------------------------------------------------


def test_a_search_stops_before_there_are_too_many_states():
    total = search(Cluster(tiny())).states
    for most in (1, 2, total - 1):
        found = search(Cluster(tiny()), states_max=most)
        assert (found.states, found.complete, found.broken) == (most, False, None)
    assert search(Cluster(tiny()), states_max=total).complete


@pytest.mark.parametrize("most", [0, -1, 1 << 32])
def test_a_search_of_no_states_is_an_error(most):
    with pytest.raises(LocalError, match="states"):
        search(Cluster(tiny()), states_max=most)


def test_progress_is_told():
    told = []
    found = search(Cluster(tiny()), progress=told.append)
    assert told[-1].states == found.states
    assert told[-1].waiting == 0


def test_crashes_and_ballots_are_bounded_by_what_was_asked_for():
    cluster = Cluster(SynodSubject(2, 1, 2, 2))
    for state in reachable(cluster):
        crashes, attempts = divmod(state[0], cluster.subject.attempts + 2)
        assert crashes <= 2
        assert attempts <= 2


def test_more_values_than_acceptors_can_not_be_proposed_by_acceptors():
    with pytest.raises(LocalError, match="proposers"):
        SynodSubject(2, 3, together=True)


# -- copies -----------------------------------------------------------------------------------------------------------


class Thing:
    def __init__(self):
        self.numbers = [1, 2]
        self.table = {1: {2}, 3: {4}}
        self.queue = deque([bytearray(b"x")])
        self.options = object()


def test_a_fork_is_equal_and_apart():
    freezer = Freezer(frozenset(("options",)))
    thing = Thing()
    fork = freezer.fork(thing)
    assert freezer.freeze(fork) == freezer.freeze(thing)
    assert fork.options is thing.options
    before = freezer.freeze(thing)
    for change in (
        lambda: fork.numbers.append(3),
        lambda: fork.table[1].add(5),
        lambda: fork.queue[0].append(6),
    ):
        change()
        assert freezer.freeze(thing) == before != freezer.freeze(fork)


def test_the_order_of_a_dict_is_no_part_of_the_value():
    freezer = Freezer(frozenset())
    assert freezer.freeze({1: [2], 3: [4]}) == freezer.freeze({3: [4], 1: [2]})
    assert freezer.freeze([1, 2]) != freezer.freeze([2, 1])


def test_what_can_not_be_copied_is_an_error():
    with pytest.raises(LocalError, match="say how it is copied"):
        Freezer(frozenset()).fork([object()])


# -- the command line -------------------------------------------------------------------------------------------------


def explore(*arguments):
    return CliRunner().invoke(commands, ["explore", *arguments])


def test_a_complete_search_exits_0_and_says_how_many_states_there_are():
    result = explore("synod", "--values", "1", "--ballots", "1")
    assert result.exit_code == 0
    assert f"{search(Cluster(tiny())).states:,} distinct states" in result.output
    assert "complete" in result.output


def test_a_capped_search_exits_2():
    result = explore("synod", "--states-max", "1000")
    assert result.exit_code == 2
    assert "1,000 distinct states" in result.output
    assert "capped" in result.output


@pytest.mark.parametrize("name", ["way.html", "way.svg"])
def test_a_broken_rule_exits_1_and_is_printed_and_drawn(monkeypatch, tmp_path, name):
    broken = partial(SynodSubject, machine=mutated("07 rounds come from memory"))
    monkeypatch.setattr("distkit.cli.explore.SynodSubject", broken)
    result = explore("synod", "--picture", str(tmp_path / name))
    assert result.exit_code == 1
    assert "4. node 4 is called: propose" in result.output
    assert "C2" in result.output
    assert "<svg" in (tmp_path / name).read_text()


def test_what_can_not_be_is_refused():
    assert explore("synod", "--together", "--acceptors", "1").exit_code == 2


def test_a_picture_that_can_not_be_written_is_refused_before_the_search(tmp_path):
    result = explore("synod", "--picture", str(tmp_path / "nowhere" / "way.svg"))
    assert (result.exit_code, "distinct states" in result.output) == (2, False)


@pytest.mark.parametrize("seed", ["1", "2"])
def test_every_process_finds_the_same(seed):
    script = (
        "from distkit.sim.explore import *;"
        "f = search(Cluster(SynodSubject(3, 2, 2, 1)), states_max=20000);"
        "c = Cluster(SynodSubject(3, 1, 1, 1)); g = search(c);"
        "print(f.states, f.depth, g.states, g.depth, c.runs, [len(each.all) for each in c.conditions])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    cluster = Cluster(tiny())
    found = search(cluster)
    capped = search(Cluster(SynodSubject(3, 2, 2, 1)), states_max=20000)
    sizes = [len(each.all) for each in cluster.conditions]
    assert done.stdout.strip() == f"{capped.states} {capped.depth} {found.states} {found.depth} {cluster.runs} {sizes}"
