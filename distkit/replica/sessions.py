"""The session table: what makes a retried command take effect once, part of the replicated state.

A session is an entry of the log; its id is the index of that entry. A command of a session carries a sequence number
and the lowest sequence that its client still wants answered. The first time a sequence is seen it is applied and its
answer kept; after that the kept answer is given. Answers below the lowest unanswered sequence are dropped.

Everything here is decided by the content of the log alone, the limits are a part of the format: all replicas keep
and evict the same. Over a limit, the session that was used least recently (in log order) is evicted; its client gets
SESSION_EXPIRED and does not know which of its unanswered commands were applied.
"""

from __future__ import annotations

import hashlib
import struct
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from distkit.core import Reason, StorageError, record
from distkit.replica.messages import RESULT_BYTES_MAX

#: What an answer counts beside its length, so that empty ones are bounded too.
ANSWER_OVERHEAD = 64

#: The result of a command, or why there is none. RESULT_TOO_LARGE: it was applied; all other reasons: it was not.
Answer = bytes | Reason

_CHUNK_VERSION = 1
_CHUNK_BYTES = 512 << 10
_CHUNK = struct.Struct("<BBH")
_COUNT = struct.Struct("<I")
_SESSION = struct.Struct("<QQI")
_ANSWER = struct.Struct("<QI")
_NO_RESULT = (1 << 32) - 1


@record
class SessionLimits:
    """A part of the format (`docs/formats.md`): they must never differ between replicas, nor change. Arguments only so
    that tests reach them.

    `sessions_max` sessions of one replica, with `bytes_max` of answers in all. One session keeps `answers_max` answers
    and `session_bytes_max` of them, and that of the lowest unanswered command; a client with more unanswered ones is
    refused (BUSY) until it reads some. A result of more than `result_bytes_max` is not kept.
    """

    sessions_max: int = 1 << 14
    answers_max: int = 1 << 10
    session_bytes_max: int = 8 << 20
    bytes_max: int = 64 << 20
    result_bytes_max: int = RESULT_BYTES_MAX


class _Session:
    __slots__ = ("answers", "bytes", "lowest")

    def __init__(self, lowest: int) -> None:
        self.lowest = lowest
        self.answers: dict[int, Answer] = {}
        self.bytes = 0


class Sessions:
    """All sessions of a replica, ordered by last use."""

    __slots__ = ("_sessions", "bytes", "evicted", "limits")

    def __init__(self, limits: SessionLimits | None = None) -> None:
        self._sessions: OrderedDict[int, _Session] = OrderedDict()
        self.limits = limits or SessionLimits()
        self.bytes = 0
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, session: int) -> bool:
        return session in self._sessions

    def register(self, index: int) -> bytes:
        """Open the session whose entry has this index; the answer is its id, 8 bytes little-endian."""
        self._sessions[index] = _Session(0)
        self._evict()
        return index.to_bytes(8, "little")

    def close(self, session: int) -> Answer:
        """Forget a session."""
        if session not in self._sessions:
            return Reason.SESSION_EXPIRED
        self._drop(session)
        return b""

    def begin(self, session: int, sequence: int, lowest: int) -> Answer | None:
        """The answer to a command, or None: then apply it and `keep` its answer."""
        state = self._sessions.get(session)
        if state is None:
            return Reason.SESSION_EXPIRED
        self._sessions.move_to_end(session)
        if lowest > state.lowest:
            self._prune(state, lowest)
        if sequence < state.lowest:
            return Reason.ANSWERED
        answer, limits = state.answers.get(sequence), self.limits
        full = len(state.answers) >= limits.answers_max or state.bytes >= limits.session_bytes_max
        if answer is None and full and sequence > state.lowest:
            return Reason.BUSY  # but never the lowest: until that is answered no answer can be forgotten
        return answer

    def keep(self, session: int, sequence: int, answer: Answer) -> None:
        """Keep the answer to a command for which `begin` gave None."""
        state = self._sessions[session]
        state.answers[sequence] = answer
        size = _size(answer)
        state.bytes += size
        self.bytes += size
        self._evict()

    def snapshot(self) -> Iterator[bytes]:
        """Freeze the table and return an iterator over chunks that `restore` takes."""
        return _chunks(_stream(self._frozen()))

    def restore(self, chunks: Iterator[bytes]) -> None:
        """Replace the table by a snapshot of it. Draws its own chunks only; StorageError if they make no sense."""
        limits = self.limits
        bytes_max = limits.bytes_max + limits.result_bytes_max + _SESSION.size * (limits.sessions_max + 1)
        try:
            sessions = _parsed(_joined(chunks, bytes_max))
        except struct.error as error:
            raise StorageError(f"the sessions of a snapshot end too early: {error}") from None
        self._sessions = sessions
        self.bytes = sum(state.bytes for state in sessions.values())

    def digest(self) -> bytes:
        """SHA-256 of the table, order of use included."""
        total = hashlib.sha256()
        for piece in _stream(self._frozen()):
            total.update(piece)
        return total.digest()

    def _frozen(self) -> list[_Frozen]:
        return [(session, state.lowest, tuple(state.answers.items())) for session, state in self._sessions.items()]

    def _prune(self, state: _Session, lowest: int) -> None:
        answers = state.answers
        # Usually one step; the count of answers bounds the work whatever number a client sends.
        if lowest - state.lowest <= len(answers):
            gone = [sequence for sequence in range(state.lowest, lowest) if sequence in answers]
        else:
            gone = [sequence for sequence in answers if sequence < lowest]
        for sequence in gone:
            size = _size(answers.pop(sequence))
            state.bytes -= size
            self.bytes -= size
        state.lowest = lowest

    def _evict(self) -> None:
        """Drop the least recently used sessions over the limits, never the one in use, which is the last."""
        sessions, limits = self._sessions, self.limits
        while len(sessions) > limits.sessions_max or (self.bytes > limits.bytes_max and len(sessions) > 1):
            self._drop(next(iter(sessions)))
            self.evicted += 1

    def _drop(self, session: int) -> None:
        self.bytes -= self._sessions.pop(session).bytes


#: (session, lowest, answers)
_Frozen = tuple[int, int, tuple[tuple[int, Answer], ...]]


def _size(answer: Answer) -> int:
    return ANSWER_OVERHEAD + (len(answer) if isinstance(answer, bytes) else 0)


def _stream(frozen: list[_Frozen]) -> Iterator[bytes]:
    """The bytes of a table (`docs/formats.md`), in pieces."""
    yield _COUNT.pack(len(frozen))
    for session, lowest, answers in frozen:
        yield _SESSION.pack(session, lowest, len(answers))
        for sequence, answer in answers:
            if isinstance(answer, bytes):
                yield _ANSWER.pack(sequence, len(answer))
                yield answer
            else:
                yield _ANSWER.pack(sequence, _NO_RESULT)


def _chunks(stream: Iterator[bytes]) -> Iterator[bytes]:
    """Cut a stream into chunks that say whether another one follows."""
    held = bytearray()
    for piece in stream:
        held += piece
        while len(held) > _CHUNK_BYTES:
            yield _CHUNK.pack(_CHUNK_VERSION, 0, 0) + held[:_CHUNK_BYTES]
            del held[:_CHUNK_BYTES]
    yield _CHUNK.pack(_CHUNK_VERSION, 1, 0) + held


def _joined(chunks: Iterable[bytes], bytes_max: int) -> bytes:
    stream = bytearray()
    for chunk in chunks:
        version, last, reserved = _CHUNK.unpack_from(chunk)
        if version != _CHUNK_VERSION or last > 1 or reserved:
            raise StorageError(f"the sessions of a snapshot have format {version}; this version reads {_CHUNK_VERSION}")
        stream += memoryview(chunk)[_CHUNK.size :]
        if len(stream) > bytes_max:
            raise StorageError(f"the sessions of a snapshot take more than {bytes_max} bytes")
        if last:
            return bytes(stream)
    raise StorageError("the snapshot ends before its sessions do")


def _parsed(stream: bytes) -> OrderedDict[int, _Session]:
    sessions: OrderedDict[int, _Session] = OrderedDict()
    (count,) = _COUNT.unpack_from(stream)
    at = _COUNT.size
    for _ in range(count):
        session, lowest, answers = _SESSION.unpack_from(stream, at)
        at += _SESSION.size
        state = sessions[session] = _Session(lowest)
        for _ in range(answers):
            sequence, size = _ANSWER.unpack_from(stream, at)
            at += _ANSWER.size
            answer: Answer = Reason.RESULT_TOO_LARGE
            if size != _NO_RESULT:
                answer = stream[at : at + size]
                at += size
            state.answers[sequence] = answer
            state.bytes += _size(answer)
    if at != len(stream):
        raise StorageError(f"the sessions of a snapshot take {at} bytes, not {len(stream)}")
    return sessions
