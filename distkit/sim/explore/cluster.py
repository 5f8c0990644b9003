"""Every interleaving of real machines, as a space for `search`.

The parts are the nodes. The number of a node stands for all that it is, its condition: machine, disk, writes under way,
and every message that it ever sent. Messages thus are a set that only grows: each may arrive at any time, any number of
times, or never. A move changes one node, and depends on that node and at most one other one; so each distinct move runs
the real machine once, and from then on is a look-up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import permutations
from typing import Any, Final

from distkit._fast.explore import NOWHERE
from distkit.core import LocalError, record
from distkit.sim.broken import Broken
from distkit.sim.explore.node import Node
from distkit.sim.explore.search import State
from distkit.sim.explore.subject import Subject


@record
class Move:
    """What may happen to a node: `deliver` (source, message, when), `complete` (how many writes), `crash` (records that
    reached the disk), `tick` (timer), `call` (verb, arguments)."""

    node: int
    kind: str
    detail: tuple[Any, ...]


class Condition:
    """One of the things that a node can be. `letters`: what it ever sent, by target; `outcomes`: what is known of its
    moves, (number of the condition after it, cost)."""

    __slots__ = ("letters", "node", "outcomes", "view")

    def __init__(self, node: Node, view: int) -> None:
        self.node = node
        self.view = view
        self.outcomes: dict[Move, tuple[int, int]] = {}
        self.letters: dict[int, list[Any]] = {}
        for target, message in sorted(node.sent, key=repr):
            self.letters.setdefault(target, []).append(message)


class Conditions:
    """All that one node, or any of several that are alike, was found to be."""

    def __init__(self, subject: Subject, first: Node) -> None:
        self.all: list[Condition] = []
        self.views: list[Any] = []
        self._subject = subject
        self._numbers: dict[Any, int] = {}
        self._views: dict[Any, int] = {}
        self.number(first)

    def number(self, node: Node) -> int:
        """The number of a condition."""
        key = self._subject.freezer.freeze(node)
        number = self._numbers.setdefault(key, len(self.all))
        if number == len(self.all):
            looks = self._subject.view(node)
            view = self._views.setdefault(looks, len(self.views))
            if view == len(self.views):
                self.views.append(looks)
            self.all.append(Condition(node, view))
        return number


def run(node: Node, move: Move) -> Node:
    """A copy of the node after the move. Raises Broken."""
    after: Node = node.subject.freezer.fork(node)
    getattr(after, move.kind)(*move.detail)
    return after


class Cluster:
    """The space. With `symmetry`, states that differ in the names of exchangeable nodes only are one."""

    def __init__(self, subject: Subject, *, symmetry: bool = True) -> None:
        self.subject = subject
        self.nodes = subject.nodes
        alike = subject.exchangeable if symmetry and len(subject.exchangeable) > 1 else ()
        if alike != self.nodes[: len(alike)]:
            raise LocalError(f"nodes that are exchangeable come first; {alike} in {self.nodes} do not")
        self.runs = 0  #: moves that a real machine made
        self.conditions: list[Conditions] = []  #: by place; nodes that are alike share theirs
        for place, node in enumerate(self.nodes):
            known = 0 < place < len(alike)
            self.conditions.append(self.conditions[0] if known else Conditions(subject, Node(subject, node)))
        # One attempt too many must not be taken for a crash.
        self._crash: Final = subject.attempts + 2
        self.first: State = (0,) * (len(self.nodes) + 1)
        self.allowed = (b"\1" * (subject.attempts + 1) + b"\0") * (subject.crashes + 1)
        self.low, self.high = 1, 1 + len(alike)
        self.orders: Sequence[tuple[int, ...]] = list(permutations(range(len(alike)))) if alike else []
        self._alike = alike

    # -- what the search asks -----------------------------------------------------------------------------------------

    def alone(self, place: int, number: int) -> list[tuple[int, int]]:
        """Where a node can get by itself."""
        return self._outcomes(place, number, self.moves_alone(place, number))

    def together(self, place: int, number: int, other: int, source: int) -> list[tuple[int, int]]:
        """Where what another node has ever sent can get a node."""
        return self._outcomes(place, number, self.moves_together(place, other, source))

    def view(self, place: int, number: int) -> int:
        """What a node shows to the judge."""
        return self.conditions[place].all[number].view

    def judge(self, views: tuple[int, ...]) -> None:
        """Judge what the nodes show together."""
        places = zip(self.nodes, self.conditions, views, strict=True)
        self.subject.judge({node: conditions.views[view] for node, conditions, view in places})

    def renamed(self, place: int, number: int, order: int) -> int:
        """The condition with other names for the nodes that are alike."""
        conditions = self.conditions[place]
        node: Node = self.subject.freezer.fork(conditions.all[number].node)
        names = {self._alike[old]: self._alike[new] for new, old in enumerate(self.orders[order])}
        self.subject.renamed(node, names)
        return conditions.number(node)

    def broken(self, state: State) -> Broken:
        """The rule that a move out of this state breaks."""
        for move, after, _ in self.moves(state):
            if after is None:
                return self.error(state, move)
        raise LocalError("no move breaks a rule: what the subject says of a node does not depend on the node alone")

    # -- what people ask ----------------------------------------------------------------------------------------------

    def moves(self, state: State) -> Iterator[tuple[Move, State | None, int]]:
        """(move, state after it or None if it breaks a rule, its place) of every move that is allowed. One that leaves
        its node as it was, like a crash with nothing to lose, is none: it only costs."""
        for place, number in enumerate(state[1:]):
            for move in self._moves_of(state, place, number):
                after, cost = self.outcome(place, number, move)
                spent = state[0] + cost
                if after != number and spent < len(self.allowed) and self.allowed[spent]:
                    changed = (spent, *state[1 : place + 1], after, *state[place + 2 :])
                    yield move, None if after == NOWHERE else changed, place

    def _moves_of(self, state: State, place: int, number: int) -> Iterator[Move]:
        yield from self.moves_alone(place, number)
        for other, source in enumerate(state[1:]):
            if other != place:
                yield from self.moves_together(place, other, source)

    def error(self, state: State, move: Move) -> Broken:
        """What a move breaks."""
        node = self.node(self.nodes.index(move.node), state)
        try:
            run(node, move)
        except Broken as error:
            if node.id == move.node:
                return error
            return Broken(error.rule, f"of node {move.node}, told of one like it: {error}")
        raise LocalError(f"{move} breaks a rule once, and then does not: machines must be functions of their inputs")

    def alike(self, one: State, other: State) -> bool:
        """Whether two states differ in the names of exchangeable nodes, or not at all."""
        return one == other or any(self.reordered(one, order) == other for order in range(len(self.orders)))

    def reordered(self, state: State, order: int) -> State:
        """The state with other names for the nodes that are alike."""
        changed = list(state)
        changed[self.low : self.high] = [state[self.low + each] for each in self.orders[order]]
        for place in range(self.high - 1, len(self.nodes)):
            changed[place + 1] = self.renamed(place, state[place + 1], order)
        return tuple(changed)

    def node(self, place: int, state: State) -> Node:
        """The node at a place. One that is alike others may bear the name of another one of them."""
        return self.conditions[place].all[state[place + 1]].node

    def moves_alone(self, place: int, number: int) -> Iterator[Move]:
        """What can happen to a node without another one."""
        name, node = self.nodes[place], self.conditions[place].all[number].node
        for count in range(1, len(node.writes) + 1):
            yield Move(name, "complete", (count,))
        for timer in self.subject.timers(node):
            yield Move(name, "tick", (timer,))
        for verb, arguments in self.subject.calls(node):
            yield Move(name, "call", (verb, arguments))
        if self.subject.crashes:
            for keep in range(sum(len(write.records) for write in node.writes) + 1):
                yield Move(name, "crash", (keep,))

    def moves_together(self, place: int, other: int, source: int) -> Iterator[Move]:
        """Deliveries of all that another node has ever sent to this one."""
        node, sender = self.nodes[place], self.nodes[other]
        for message in self.conditions[other].all[source].letters.get(node, ()):
            for now in self.subject.moments:
                yield Move(node, "receive", (now, sender, message))

    # -- moves of real machines ---------------------------------------------------------------------------------------

    def _outcomes(self, place: int, number: int, moves: Iterable[Move]) -> list[tuple[int, int]]:
        found = dict.fromkeys([self.outcome(place, number, move) for move in moves])
        return [each for each in found if each[0] != number]

    def outcome(self, place: int, number: int, move: Move) -> tuple[int, int]:
        """(what the node then is, what the move costs)."""
        conditions = self.conditions[place]
        before = conditions.all[number]
        known = before.outcomes.get(move)
        if known is None:
            cost = self._crash if move.kind == "crash" else 0
            self.runs += 1
            try:
                after = run(before.node, move)
            except Broken:
                known = NOWHERE, cost
            else:
                if len(after.writes) > self.subject.writes:
                    known = number, 0  # it can wait
                else:
                    known = conditions.number(after), cost + self.subject.begun(before.node, after)
            before.outcomes[move] = known
        return known
