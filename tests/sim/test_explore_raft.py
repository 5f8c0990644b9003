"""The explorer's second customer: elections of two real Raft nodes."""

import pytest
from click.testing import CliRunner
from mutating import Mutant, load

from distkit.cli import commands
from distkit.sim.explore import Cluster, RaftElectionSubject, retell, search

MUTANTS = [
    (Mutant("a vote is always free", "election", "    free = s.vote == source or", "    free = True or", ""), 2, 0),
    (
        Mutant(
            "a grant leaves before it is durable",
            "election",
            "    s.then.append((source, reply))",
            "    s.sends.append((source, reply))",
            "",
        ),
        1,
        0,
    ),
    (
        Mutant(
            "a request leaves before its term is durable",
            "election",
            "            s.then.append((voter, request))",
            "            s.sends.append((voter, request))",
            "",
        ),
        1,
        0,
    ),
    (
        Mutant("the own vote is forgotten", "roles", "        s.vote = s.node\n", "", ""),
        1,
        0,
    ),
    (
        Mutant(
            "the term is forgotten at a restart",
            "durable",
            "            term, vote = max((term, vote), (record.term, record.vote))\n",
            "",
            "",
        ),
        1,
        1,
    ),
]


def test_all_elections_of_two_nodes_in_one_term_with_a_crash_are_tried():
    found = search(Cluster(RaftElectionSubject(2, 1, 1)))
    assert (found.states, found.complete, found.broken) == (7_563, True, None)


@pytest.mark.parametrize(("mutant", "terms", "crashes"), MUTANTS, ids=lambda value: getattr(value, "name", str(value)))
def test_the_explorer_catches_a_mutant_of_elections(mutant, terms, crashes):
    machine = load("distkit.raft", mutant, shared=("messages",))
    cluster = Cluster(RaftElectionSubject(2, terms, crashes, machine=machine))
    found = search(cluster, states_max=100_000)
    assert found.broken is not None
    assert found.broken.rule in ("election safety", "durability")
    steps, broken = retell(cluster, found, found.broken)
    assert steps
    assert broken.rule == found.broken.rule


def test_the_command_tries_elections():
    result = CliRunner().invoke(commands, ["explore", "raft-election", "--crashes", "0"])
    assert result.exit_code == 0
    assert "1,727 distinct states" in result.output
