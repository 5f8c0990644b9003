"""What clients do with a replicated state machine, and how their answers are judged. Derive to test your own.

class BankTest(Workload):
    def application(self):
        return Bank()

    def command(self, call, random):
        return transfer(random)

    def settled(self, applications):
        for bank in applications:
            assert sum(bank.accounts.values()) == 1000

simulate(BankTest, range(100))            # or: python -m distkit sim --machine bank.py:BankTest --seeds 0:100
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from distkit.core import StateMachine
from distkit.sim.chance import SECOND, below, between
from distkit.sim.linear import Operation
from distkit.sim.scenario import Call


class Workload:
    """One for each run, so it may keep what it saw. It must be deterministic: chance comes from what is passed.

    An AssertionError out of any method is a rule that was broken; any other exception is a mistake of the workload.
    """

    #: The model of `distkit.sim.linear` that judges what `operation` gives; None: nothing does.
    model: Any = None

    def application(self) -> StateMachine:
        """A new state machine, one for each start of each node."""
        raise NotImplementedError(f"{type(self).__name__} must say what its application() is")

    def command(self, call: Call, random: Random) -> bytes:
        """The command of a call. The same call with the same chance must give the same command."""
        raise NotImplementedError(f"{type(self).__name__} must say what the command() of a call is")

    def query(self, application: Any, call: Call) -> Any:
        """What a call of kind "read" sees: a plain value."""
        return application.digest()

    def calls(self, random: Random, nodes: int, seconds: float, clients: int, count: int) -> tuple[Call, ...]:
        """What is called when, by which client, at which node; kinds "read" and "transfer" are no commands.

        The default: commands and a quarter of reads, in bursts and quiet times, at all nodes.
        """
        calls = []
        for number, time in enumerate(times(random, seconds, count), 1):
            client, node = 1 + below(random, clients), 1 + below(random, nodes)
            kind = "read" if random.random() < 0.25 else "command"
            calls.append(Call(time, client, node, kind, "", number))
        return tuple(calls)

    def applied(self, index: int, command: bytes, result: bytes) -> None:
        """A command is applied, for the first time anywhere, in the order of the log."""

    def called(self, call: Call) -> Any:
        """A client begins a call; what this returns is given to `answered`."""
        return None

    def answered(self, call: Call, token: Any, answer: Any) -> None:
        """A client got its answer: bytes of a command, the value of a query of a read."""

    def operation(self, call: Call, answer: Any, called: float, returned: float) -> Operation | None:
        """A line of the history for `model`: a call that was answered, or one that was not and took effect: then
        `answer` is what its client would have been told, and `returned` when it was applied."""
        return None

    def settled(self, applications: Sequence[Any]) -> None:
        """At the end, when everything healed: the state machines of all nodes that are up, equal by their digests."""

    def last_calls(self, calls: Sequence[Call], nodes: Sequence[int], time: int) -> list[Call]:
        """What must be served after everything healed; `calls` are those of the run."""
        return [Call(time, 2000 + node, node, "read", "", 0) for node in nodes]


def times(random: Random, seconds: float, count: int) -> list[int]:
    """Times of calls in nanoseconds: evenly, or in bursts with quiet between them."""
    if random.random() < 0.6:
        found = [between(random, 0.1, seconds) for _ in range(count)]
    else:
        bursts = 1 + below(random, 5)
        starts = [between(random, 0.1, seconds) for _ in range(bursts)]
        found = [starts[below(random, bursts)] + random.random() * 0.3 for _ in range(count)]
    return sorted(int(min(time, seconds) * SECOND) for time in found)
