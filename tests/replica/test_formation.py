"""Formation of a fixed cluster, and who may take part afterwards."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from distkit.core import Configuration, IdentityError, LocalError, Member, PeerError
from distkit.replica import Formation, Formed, Waiting, cluster_id, judge_hello

MEMBERS = {1: "a:1", 2: "b:2", 3: "c:3"}


class Hello(NamedTuple):
    node: int
    incarnation: int
    members: tuple[tuple[int, str], ...] = tuple(MEMBERS.items())
    configuration: Configuration | None = None
    cluster: int = 0


def configured(*incarnations: int) -> Configuration:
    members = zip(MEMBERS.items(), incarnations, strict=True)
    return Configuration(1, tuple(Member(node, incarnation, address) for (node, address), incarnation in members))


X = configured(11, 12, 13)
FORMED = Formed(X, cluster_id(X))


def said_by_formed(node: int, configuration: Configuration = X) -> Hello:
    incarnation = configuration.members[node - 1].incarnation
    return Hello(node, incarnation, configuration=configuration, cluster=cluster_id(configuration))


# -- forming ----------------------------------------------------------------------------------------------------------


def test_one_member_alone_forms_at_once():
    formed = Formation(7, 99, {7: "a:1"}).state()
    assert formed == Formed(Configuration(1, (Member(7, 99, "a:1"),)), cluster_id(formed.configuration))


def test_a_node_names_those_it_waits_for():
    formation = Formation(2, 12, MEMBERS)
    assert formation.state() == Waiting((1, 3))
    formation.hello(Hello(3, 13))
    assert formation.state() == Waiting((1,))
    formation.hello(Hello(1, 11))
    assert formation.state() == FORMED


def test_in_every_order_of_hellos_all_form_the_same():
    for order in itertools.permutations(itertools.permutations((1, 2, 3), 2)):
        nodes = {node: Formation(node, 10 + node, MEMBERS) for node in MEMBERS}
        for source, target in order:
            state = nodes[source].state()
            nodes[target].hello(said_by_formed(source) if isinstance(state, Formed) else Hello(source, 10 + source))
        assert [node.state() for node in nodes.values()] == [FORMED] * 3, order


def test_the_order_of_the_map_does_not_matter():
    formation = Formation(1, 11, dict(reversed(MEMBERS.items())))
    formation.hello(Hello(2, 12))
    formation.hello(Hello(3, 13))
    assert formation.state() == FORMED


def test_a_hello_counts_only_while_its_connection_lasts():
    formation = Formation(1, 11, MEMBERS)
    formation.hello(Hello(2, 12))
    formation.lost(2)
    formation.lost(1)
    assert formation.state() == Waiting((2, 3))
    formation.hello(Hello(3, 13))
    formation.hello(Hello(2, 22))
    assert formation.state().configuration == configured(11, 22, 13)


def test_a_node_that_missed_the_formation_adopts_it():
    formation = Formation(1, 11, MEMBERS)
    formation.hello(said_by_formed(3))
    assert formation.state() == FORMED


def test_different_maps_are_refused_and_both_are_named():
    formation = Formation(1, 11, MEMBERS)
    with pytest.raises(IdentityError, match=r"node 2 .* 1=a:1, 2=b:2, node 1 with 1=a:1, 2=b:2, 3=c:3") as caught:
        formation.hello(Hello(2, 12, ((1, "a:1"), (2, "b:2"))))
    assert "same map" in str(caught.value)


def test_two_processes_under_one_id_are_refused():
    with pytest.raises(IdentityError, match="another process runs as node 1"):
        Formation(1, 11, MEMBERS).hello(Hello(1, 77))


def test_a_node_that_is_not_in_the_formed_cluster_is_refused():
    formation = Formation(4, 14, {**MEMBERS, 4: "d:4"})
    with pytest.raises(IdentityError, match="without node 4"):
        formation.hello(said_by_formed(1))


def test_a_node_outside_of_its_own_map_is_an_error_of_the_caller():
    with pytest.raises(LocalError, match="node 4 is not among the members 1=a:1"):
        Formation(4, 14, MEMBERS)


def test_a_configuration_without_a_cluster_is_nonsense():
    with pytest.raises(PeerError, match="no cluster id"):
        Formation(1, 11, MEMBERS).hello(Hello(2, 12, configuration=X))


def test_the_cluster_id_depends_on_every_fact_and_nothing_else():
    ids = {cluster_id(configured(*incarnations)) for incarnations in itertools.product((1, 2), repeat=3)}
    moved = Configuration(1, (Member(1, 1, "a:1"), Member(2, 1, "b:2"), Member(3, 1, "c:33")))
    assert len(ids | {cluster_id(moved)}) == 9
    assert cluster_id(configured(1, 1, 1)) == 0xAFC6B65A1265DB4B


# -- a lost directory -------------------------------------------------------------------------------------------------


def test_a_wiped_node_is_told_by_a_formed_peer_that_it_must_not_take_part():
    with pytest.raises(IdentityError, match=r"node 2 has a new data directory .* node 1 knows it as .* old directory"):
        Formation(2, 99, MEMBERS).hello(said_by_formed(1))


def test_a_formed_node_refuses_a_wiped_peer():
    with pytest.raises(IdentityError, match=r"node 2 has a new data directory"):
        judge_hello(1, X, cluster_id(X), Hello(2, 99))


def test_a_formation_that_is_done_refuses_a_wiped_peer_too():
    formation = Formation(1, 11, MEMBERS)
    formation.hello(said_by_formed(3))
    with pytest.raises(IdentityError, match="node 2 has a new data directory"):
        formation.hello(Hello(2, 99))
    formation.lost(3)
    assert formation.state() == FORMED


def test_a_formed_node_accepts_members_formed_or_not_yet():
    judge_hello(1, X, cluster_id(X), said_by_formed(2))
    judge_hello(1, X, cluster_id(X), Hello(3, 13))


def test_another_cluster_is_refused():
    with pytest.raises(IdentityError, match="belongs to cluster"):
        judge_hello(1, X, cluster_id(X), said_by_formed(2, configured(1, 12, 3)))


def test_absence_from_the_configuration_proves_nothing():
    judge_hello(1, X, cluster_id(X), Hello(9, 5, configuration=configured(1, 2, 3), cluster=cluster_id(X)))


# -- everything that can happen to three nodes ------------------------------------------------------------------------


class Abstract(NamedTuple):
    """All that matters of a node: from this a Formation in the same state can be made."""

    incarnation: int
    heard: frozenset[tuple[int, int]]
    formed: Configuration | None

    def hello(self, node: int) -> Hello:
        cluster = cluster_id(self.formed) if self.formed else 0
        return Hello(node, self.incarnation, configuration=self.formed, cluster=cluster)

    def formation(self, node: int) -> Formation:
        formation = Formation(node, self.incarnation, MEMBERS)
        for peer, incarnation in sorted(self.heard):
            formation.hello(Hello(peer, incarnation))
        if self.formed:
            peer = 1 if node != 1 else 2
            formation.hello(said_by_formed(peer, self.formed))
        return formation


State = tuple[Abstract, ...]


def forget(state: State, node: int, new: Abstract) -> State:
    """The node becomes `new` and all its connections break."""
    return tuple(
        new if peer == node else other._replace(heard=frozenset(fact for fact in other.heard if fact[0] != node))
        for peer, other in enumerate(state, 1)
    )


def successors(state: State, wipes: int) -> Iterator[tuple[State, int]]:
    for source, target in itertools.permutations((1, 2, 3), 2):
        formation = state[target - 1].formation(target)
        try:
            formation.hello(state[source - 1].hello(source))
        except IdentityError:
            continue
        outcome = formation.state()
        old = state[target - 1]
        if isinstance(outcome, Formed):
            # A node that is formed now says hello anew on all its connections.
            new = old._replace(heard=frozenset(), formed=outcome.configuration)
            yield (forget(state, target, new) if new != old else state), wipes
        else:
            heard = dict(old.heard) | {source: state[source - 1].incarnation}
            new = old._replace(heard=frozenset(heard.items()))
            yield tuple(new if peer == target else other for peer, other in enumerate(state, 1)), wipes
    for node in (1, 2, 3):
        old = state[node - 1]
        yield forget(state, node, old._replace(heard=frozenset())), wipes
        if wipes:
            yield forget(state, node, Abstract(old.incarnation + 10, frozenset(), None)), wipes - 1


def explored(wipes: int) -> set[tuple[State, int, Configuration | None]]:
    """Every reachable (state, wipes left, the configuration that was once formed on a majority)."""
    start = tuple(Abstract(10 + node, frozenset(), None) for node in (1, 2, 3))
    seen = {(start, wipes, None)}
    todo = list(seen)
    while todo:
        state, left, majority = todo.pop()
        for following, still_left in successors(state, left):
            formed = [node.formed for node in following if node.formed]
            quorum = majority or next((one for one in formed if formed.count(one) >= 2), None)
            item = (following, still_left, quorum)
            if item not in seen:
                seen.add(item)
                todo.append(item)
    return seen


def test_without_a_lost_directory_there_is_one_configuration_whatever_happens():
    reached = explored(wipes=0)
    assert {node.formed for state, _, _ in reached for node in state} == {None, X}
    assert any(all(node.formed for node in state) for state, _, _ in reached)


def test_with_one_lost_directory_nothing_else_is_formed_once_a_majority_is():
    for state, _, majority in explored(wipes=1):
        if majority is not None:
            assert {node.formed for node in state} <= {None, majority}
