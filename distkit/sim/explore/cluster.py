"""Every interleaving of real machines, as a model for `search`.

A state is a budget and a number for each node. The number stands for all that the node is: its machine, its disk, the
writes under way, and every message that it ever sent. Messages thus are a set that only grows: each may arrive at any
time, any number of times, or never. A move changes one node, and depends on that node and at most one other one; so
each distinct move runs the real machine once, and from then on is a look-up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import permutations
from typing import Any, Final

from distkit.core import record
from distkit.sim.broken import Broken
from distkit.sim.explore.node import Node
from distkit.sim.explore.subject import Subject

#: (what was spent, number of each node's condition)
State = tuple[int, ...]


@record
class Move:
    """What may happen to a node: `deliver` (source, message, when), `complete` (how many writes), `crash` (records that
    reached the disk), `tick` (timer), `call` (verb, arguments)."""

    node: int
    kind: str
    detail: tuple[Any, ...]


class Condition:
    """One of the things that a node can be. `after`: the moves that need no other node, once they are known."""

    __slots__ = ("after", "letters", "node", "outcomes", "view")

    def __init__(self, node: Node, view: int) -> None:
        self.node = node
        self.view = view
        self.after: tuple[tuple[int, int], ...] | None = None
        self.outcomes: dict[Move, tuple[int, int]] = {}
        letters: dict[int, list[Any]] = {}
        for target, message in node.sent:
            letters.setdefault(target, []).append(message)
        self.letters = letters


class Conditions:
    """All that one node, or any of several that are alike, was found to be."""

    def __init__(self, subject: Subject, first: Node) -> None:
        self.subject = subject
        self.all: list[Condition] = []
        self._numbers: dict[Any, int] = {}
        self._views: dict[Any, int] = {}
        self.views: list[Any] = []
        self.number(first)

    def number(self, node: Node) -> int:
        """The number of a condition."""
        key = self.subject.freezer.freeze(node)
        number = self._numbers.setdefault(key, len(self.all))
        if number == len(self.all):
            view = self.subject.view(node)
            place = self._views.setdefault(view, len(self.views))
            if place == len(self.views):
                self.views.append(view)
            self.all.append(Condition(node, place))
        return number


def run(node: Node, move: Move) -> Node:
    """A copy of the node after the move."""
    after: Node = node.subject.freezer.fork(node)
    detail = move.detail
    if move.kind == "deliver":
        source, message, now = detail
        after.receive(now, source, message)
    elif move.kind == "complete":
        after.complete(*detail)
    elif move.kind == "crash":
        after.crash(*detail)
    elif move.kind == "tick":
        after.tick(*detail)
    else:
        after.call(*detail)
    return after


class Cluster:
    """The model."""

    def __init__(self, subject: Subject, *, symmetry: bool = True) -> None:
        self.subject = subject
        self.nodes = subject.nodes
        alike = subject.exchangeable if symmetry else ()
        shared: Conditions | None = None
        self.conditions: list[Conditions] = []  # by place
        for node in self.nodes:
            if node in alike and shared is not None:
                self.conditions.append(shared)
                continue
            self.conditions.append(Conditions(subject, Node(subject, node)))
            if node in alike:
                shared = self.conditions[-1]
        self._pairs: list[list[dict[int, tuple[tuple[int, int], ...]]]] = [[{} for _ in self.nodes] for _ in self.nodes]
        self._judged: set[tuple[int, ...]] = set()
        self._dearer: Final = subject.attempts + 2  # what a crash costs: one attempt too many is never taken for it
        self._allowed = {
            crashes * self._dearer + attempts
            for crashes in range(subject.crashes + 1)
            for attempts in range(subject.attempts + 1)
        }
        self.runs = 0  #: moves that a real machine made
        self._symmetry = _Symmetry(self, alike) if len(alike) > 1 else None

    # -- the model ----------------------------------------------------------------------------------------------------

    def initial(self) -> Iterator[State]:
        """Every node has just started for the first time."""
        yield (0,) * (len(self.nodes) + 1)

    def check(self, state: State) -> None:
        """Judge what the nodes show together, if it is new."""
        views = tuple([each.all[number].view for each, number in zip(self.conditions, state[1:], strict=True)])
        if views not in self._judged:
            self.subject.judge(
                {node: each.views[view] for node, each, view in zip(self.nodes, self.conditions, views, strict=True)}
            )
            self._judged.add(views)

    def successors(self, state: State) -> list[State]:
        """All states one move away."""
        reached: list[State] = []
        spent = state[0]
        for place, number in enumerate(state[1:], 1):
            row = self._pairs[place - 1]
            alone = self.conditions[place - 1].all[number].after
            if alone is None:
                alone = self._alone(place - 1, number)
            for after, cost in alone:
                if cost and spent + cost not in self._allowed:
                    continue
                changed = list(state)
                changed[0] = spent + cost
                changed[place] = after
                reached.append(tuple(changed))
            for other, source in enumerate(state[1:]):
                pair = number << 32 | source
                together = row[other].get(pair)
                if together is None:
                    together = self._together(place - 1, number, other, source)
                for after, cost in together:
                    if cost and spent + cost not in self._allowed:
                        continue
                    changed = list(state)
                    changed[0] = spent + cost
                    changed[place] = after
                    reached.append(tuple(changed))
        if self._symmetry is not None:
            return [self._symmetry.canonical(each) for each in reached]
        return reached

    # -- moves that were not met before -------------------------------------------------------------------------------

    def _alone(self, place: int, number: int) -> tuple[tuple[int, int], ...]:
        """Where a node can get by itself."""
        found = self.conditions[place].all[number]
        after = self._outcomes(place, number, _moves_alone(self.nodes[place], found.node))
        found.after = after
        return after

    def _together(self, place: int, number: int, other: int, source: int) -> tuple[tuple[int, int], ...]:
        """Where what another node has ever sent can get a node."""
        letters = self.conditions[other].all[source].letters.get(self.nodes[place], ())
        node, sender = self.nodes[place], self.nodes[other]
        moves = [Move(node, "deliver", (sender, each, now)) for each in letters for now in self.subject.moments]
        after = self._outcomes(place, number, moves)
        self._pairs[place][other][number << 32 | source] = after
        return after

    def _outcomes(self, place: int, number: int, moves: Iterable[Move]) -> tuple[tuple[int, int], ...]:
        found = dict.fromkeys([self.outcome(place, number, move) for move in moves])
        return tuple(sorted(each for each in found if each[0] != number))

    def outcome(self, place: int, number: int, move: Move) -> tuple[int, int]:
        """(what the node then is, what the move costs). Raises Broken."""
        table = self.conditions[place]
        source = table.all[number]
        known = source.outcomes.get(move)
        if known is not None:
            return known
        self.runs += 1
        try:
            after = run(source.node, move)
        except Broken as error:
            raise BrokenMove(error, move) from error
        cost = self.subject.begun(source.node, after) + self._dearer * (move.kind == "crash")
        outcome = source.outcomes[move] = table.number(after), cost
        return outcome


def _moves_alone(name: int, node: Node) -> Iterator[Move]:
    """What can happen to a node without another one. `name`: which of several that are alike it is."""
    for count in range(1, len(node.writes) + 1):
        yield Move(name, "complete", (count,))
    for timer in node.subject.timers(node):
        yield Move(name, "tick", (timer,))
    for verb, arguments in node.subject.calls(node):
        yield Move(name, "call", (verb, arguments))
    if node.subject.crashes:
        for keep in range(sum(len(write.records) for write in node.writes) + 1):
            yield Move(name, "crash", (keep,))


class BrokenMove(Broken):
    """A move broke a rule."""

    def __init__(self, error: Broken, move: Move) -> None:
        super().__init__(error.rule, str(error).removeprefix(f"{error.rule}: "))
        self.move = move


class _Symmetry:
    """Which of all states that differ in the names of exchangeable nodes stands for them."""

    def __init__(self, cluster: Cluster, alike: tuple[int, ...]) -> None:
        self.cluster = cluster
        places = [place for place, node in enumerate(cluster.nodes, 1) if node in alike]
        self._low, self._high = places[0], places[-1] + 1
        self._others = [place for place in range(1, len(cluster.nodes) + 1) if not self._low <= place < self._high]
        self._alike = alike
        #: Each order of the exchangeable nodes: order[i] is who takes the i-th place.
        self.orders = list(permutations(range(len(alike))))
        self._same = self.orders[0]
        self._sorting: dict[State, list[tuple[int, ...]]] = {}
        self._renamed: dict[tuple[int, int, tuple[int, ...]], int] = {}

    def canonical(self, state: State) -> State:
        """The state that stands for this one."""
        columns = state[self._low : self._high]
        orders = self._sorting.get(columns)
        if orders is None:
            wanted = tuple(sorted(columns))
            orders = [each for each in self.orders if tuple([columns[one] for one in each]) == wanted]
            self._sorting[columns] = orders
        if len(orders) == 1:
            order = orders[0]
            return state if order is self._same else self.reordered(state, order)
        return min([self.reordered(state, order) for order in orders])

    def reordered(self, state: State, order: tuple[int, ...]) -> State:
        """The same state with other names."""
        changed = list(state)
        low = self._low
        changed[low : self._high] = [state[low + one] for one in order]
        for place in self._others:
            key = (place, state[place], order)
            number = self._renamed.get(key)
            if number is None:
                number = self._renamed[key] = self._rename(place - 1, state[place], order)
            changed[place] = number
        return tuple(changed)

    def _rename(self, place: int, number: int, order: tuple[int, ...]) -> int:
        conditions = self.cluster.conditions[place]
        node: Node = self.cluster.subject.freezer.fork(conditions.all[number].node)
        names = {self._alike[one]: self._alike[new] for new, one in enumerate(order)}
        self.cluster.subject.renamed(node, names)
        return conditions.number(node)
