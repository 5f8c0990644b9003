"""What an object does, one operation after the other: the models that a history is checked against."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from distkit.sim.linear.records import Operation


class Model(ABC):
    """An object that does one operation at a time. Subclass it for your own: `initial` and `step` are enough.

    States are hashable values that are never changed, equal if and only if the objects behave equally from there on.
    `step` must be a function of its arguments alone: the search goes back and tries other orders.
    """

    @abstractmethod
    def initial(self) -> Hashable:
        """The state before the first operation; not None."""

    @abstractmethod
    def step(self, state: Any, operation: Operation) -> Hashable | None:
        """The state after the operation, or None if in this state it can't have answered what it did.

        An open operation (`Operation.is_open`) has no answer: return the state that its effect leaves, or None if it
        has none here.
        """

    def partition(self, operation: Operation) -> Hashable:
        """Operations with different answers are independent of each other and are checked apart. Default: the key."""
        key: Hashable = operation.key
        return key

    def droppable(self, operations: Sequence[Operation]) -> Iterable[int]:
        """Indexes of open operations whose effect none of the others can have observed: the search leaves them out.

        Leaving one out must not turn a history illegal that is legal with it. It is asked again, with the rest,
        until it names none. Default: none.
        """
        return ()

    def effect(self, operation: Operation) -> Hashable:
        """Open operations with equal answers can stand for each other in every state. Default: all but the times."""
        return operation.process, operation.kind, operation.input, operation.key
