"""What an application writes: a deterministic replicated state machine."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator


class StateMachine(abc.ABC):
    """The state that is replicated. Every replica applies the same commands in the same order.

    All methods must be deterministic: no clock, no randomness, no I/O, no dependence on hash order. An error of a
    command is a result (some bytes that say so); an exception out of `apply` stops the replica and names the index.
    """

    @abc.abstractmethod
    def apply(self, index: int, term: int, time_us: int, command: bytes) -> bytes:
        """Apply one committed command and return its result.

        `index` rises strictly; `time_us` is the leader's wall clock (microseconds), made non-decreasing, and the only
        source of time: expiry and timestamps come from it alone. Results of session commands are kept for retries.
        A result of more than 4 MiB - 1 KiB is dropped; its caller is told that the command was applied.
        """

    @abc.abstractmethod
    def snapshot(self) -> Iterator[bytes]:
        """Freeze the state and return an iterator over chunks of it.

        The view must be frozen before this returns, because commands are applied while the chunks are drawn; so a
        generator function (which freezes nothing until it is first drawn) is refused. Chunks are 1 byte to 1 MiB.
        """

    @abc.abstractmethod
    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the state by that of a snapshot."""

    def digest(self) -> bytes:
        """A short hash of the state, equal on all replicas at the same index; b"" when it is not supported."""
        return b""
