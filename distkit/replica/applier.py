"""Applying: committed entries go, in order and in slices, into the sessions and the application."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from itertools import chain

from distkit.core import LocalError, Reason, Restore, Span, StateMachine
from distkit.raft import Raft, Snapshot
from distkit.replica.proposals import CLOSE_SESSION, COMMAND, REGISTER, SESSION_COMMAND, SESSION_ID, SESSION_PREFIX
from distkit.replica.records import ApplyError
from distkit.replica.sessions import Answer, Sessions

#: An entry without content: what a new leader appends.
EMPTY = 0


class Applier:
    """The replicated state of one node, and what is committed but not applied yet.

    After an exception in the middle the state may be ahead of `index`, so every later use raises: nothing is applied
    twice.
    """

    __slots__ = (
        "_application",
        "_committed",
        "_failed",
        "_window",
        "applied_bytes",
        "index",
        "loading",
        "sessions",
        "term",
        "time_us",
    )

    def __init__(self, application: StateMachine, raft: Raft, sessions: Sessions) -> None:
        if inspect.isgeneratorfunction(application.snapshot):
            raise LocalError(
                f"{type(application).__name__}.snapshot is a generator function, which freezes nothing until it is "
                "drawn: copy the state first, then return an iterator over the copy"
            )
        self._application = application
        self._window = raft.window
        self._committed = 0
        self._failed: ApplyError | None = None
        self.sessions = sessions
        #: The snapshot that the state must be replaced by before anything else is applied.
        self.loading = raft.snapshot if raft.snapshot.index else None
        #: The state includes everything up to here.
        self.index = self.term = self.time_us = 0
        #: Payloads applied since the start.
        self.applied_bytes = 0

    @property
    def backlog(self) -> int:
        """Committed entries that can be applied now."""
        left = self._committed - self.index
        if left <= 0 or self.loading is not None or self._window.base_index > self.index:
            return 0
        return left

    def check(self) -> None:
        """Raise what stopped this replica, if anything did."""
        if self._failed is not None:
            raise self._failed

    def deliver(self, item: Span | Restore) -> None:
        """Take note of what the machine delivers."""
        if isinstance(item, Span):
            self._committed = item.hi
        else:
            self.loading = item.snapshot

    def run(self, entries_max: int, bytes_max: int) -> list[Answer]:
        """Apply the next entries within the budget, and return their answers in order."""
        first, last = self.index + 1, min(self._committed, self.index + entries_max)
        entries = self._window.entries(first, last, bytes_max)
        self._failed = ApplyError(first, "applying was interrupted")
        answers = [self._apply(*entry) for entry in entries]
        self.applied_bytes += sum([len(entry[4]) for entry in entries])
        self.index, self.term, self.time_us, _, _ = entries[-1]
        self._failed = None
        return answers

    def _apply(self, index: int, term: int, time_us: int, kind: int, payload: bytes) -> Answer:
        if kind == COMMAND:
            return self._command(index, term, time_us, payload)
        if kind == SESSION_COMMAND and len(payload) >= SESSION_PREFIX.size:
            session, sequence, lowest = SESSION_PREFIX.unpack_from(payload)
            answer = self.sessions.begin(session, sequence, lowest)
            if answer is None:
                answer = self._command(index, term, time_us, payload[SESSION_PREFIX.size :])
                self.sessions.keep(session, sequence, answer)
            return answer
        if kind == REGISTER:
            return self.sessions.register(index)
        if kind == CLOSE_SESSION and len(payload) == SESSION_ID.size:
            return self.sessions.close(*SESSION_ID.unpack(payload))
        if kind == EMPTY:
            return b""
        raise self._failure(index, f"its kind {kind} with {len(payload)} bytes is unknown to this version")

    def _command(self, index: int, term: int, time_us: int, command: bytes) -> Answer:
        try:
            result = self._application.apply(index, term, time_us, command)
        except Exception as error:
            raise self._failure(index, f"the application raised {type(error).__name__}: {error}") from error
        if type(result) is not bytes:
            raise self._failure(index, f"the application returned {type(result).__name__}, not bytes")
        return result if len(result) <= self.sessions.limits.result_bytes_max else Reason.RESULT_TOO_LARGE

    def _failure(self, index: int, text: str) -> ApplyError:
        self._failed = ApplyError(index, text)
        return self._failed

    # -- snapshots -------------------------------------------------------------------------------------------------

    def snapshot(self) -> Iterator[bytes]:
        """Freeze the state and return chunks of it: the sessions, then the application."""
        return chain(self.sessions.snapshot(), self._application.snapshot())

    def load(self, chunks: Iterator[bytes]) -> None:
        """Replace the state by that of a snapshot."""
        try:
            self.sessions.restore(chunks)
            self._application.restore(chunks)
        except BaseException as error:
            self._failed = ApplyError(self.index, f"loading a snapshot raised {type(error).__name__}: {error}")
            raise

    def loaded(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot that was loaded."""
        self.index, self.term, self.time_us = snapshot.index, snapshot.term, snapshot.time_us
        self._committed = max(self._committed, snapshot.index)
        if self.loading == snapshot:
            self.loading = None

    def digest(self) -> bytes:
        """The sessions' digest and the application's."""
        return self.sessions.digest() + self._application.digest()
