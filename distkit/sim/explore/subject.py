"""What an exploration needs to know of the protocol that it explores."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from distkit.sim.explore.freezing import Freezer

if TYPE_CHECKING:
    from distkit.sim.explore.node import Node


class Subject(Protocol):
    """A protocol with its bounds. Machines must keep the shape of `distkit.core.machine` and hold all that they know
    in an object `state`.

    nodes       ids of the nodes
    exchangeable  nodes that differ in nothing but their id: states that differ only in who of them is who count as one
    crashes     how often a process may die, all nodes together
    attempts    how many attempts may be begun, all nodes together
    writes      how many writes a node has under way at most; what would make more has to wait
    moments     when messages may arrive: now, or also after every patience is over
    freezer     how to copy and compare nodes
    """

    nodes: tuple[int, ...]
    exchangeable: tuple[int, ...]
    crashes: int
    attempts: int
    writes: int
    moments: tuple[float, ...]
    freezer: Freezer

    def formation(self, node: int) -> Iterable[Any]:
        """The first durable records."""
        ...

    def recover(self, node: Node, records: tuple[Any, ...]) -> Any:
        """The machine that the records amount to."""
        ...

    def compacted(self, records: list[Any]) -> list[Any]:
        """Records that say the same to whoever recovers or judges: the fewer spellings, the fewer states."""
        ...

    def ledger(self, node: int) -> Any:
        """What judges the steps of one node by its own past, and remembers it."""
        ...

    def delivered(self, node: Node, delivered: Any) -> None:
        """The machine hands something to its application."""
        ...

    def carries(self, message: Any) -> bool:
        """Whether the network ever delivers messages like this one."""
        ...

    def settle(self, node: Node) -> None:
        """After each move: make what means the same equal (numbers of writes, times), forget what decides nothing."""
        ...

    def timers(self, node: Node) -> Iterable[str]:
        """Fields of the machine's state that are the deadlines of armed timers."""
        ...

    def calls(self, node: Node) -> Iterable[tuple[str, tuple[Any, ...]]]:
        """Verbs that the application may use now, with their arguments."""
        ...

    def begun(self, before: Node, after: Node) -> int:
        """How many attempts a move has begun."""
        ...

    def view(self, node: Node) -> Hashable:
        """What `judge` must know of a node."""
        ...

    def judge(self, views: Mapping[int, Any]) -> None:
        """Raises Broken if the nodes together break a rule."""
        ...

    def renamed(self, node: Node, names: Mapping[int, int]) -> None:
        """Give exchangeable nodes new names, wherever a node that is none of them mentions them."""
        ...

    def shown(self, message: Any) -> str:
        """A message, for people; short."""
        ...

    def role(self, node: Node) -> tuple[str, int]:
        """What a node is doing, and in which term, for a picture; "follower": it answers others."""
        ...

    def told(self, node: Node) -> str:
        """Where a node stands, for people; short."""
        ...
