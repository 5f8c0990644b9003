"""The session table alone: repeats, pruning, eviction by log content, snapshots."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit.core import Reason, StorageError
from distkit.replica.sessions import ANSWER_OVERHEAD, SessionLimits, Sessions


def applied(sessions: Sessions, session: int, sequence: int, lowest: int, answer: bytes) -> bytes | Reason:
    """What the command gets, as the core does it; `answer` is the application's result if it is applied."""
    known = sessions.begin(session, sequence, lowest)
    if known is not None:
        return known
    sessions.keep(session, sequence, answer)
    return answer


def restored(sessions: Sessions, **limits: int) -> Sessions:
    other = Sessions(SessionLimits(**limits))
    other.restore(sessions.snapshot())
    return other


def test_the_id_of_a_session_is_the_index_of_its_entry():
    sessions = Sessions()
    assert sessions.register(258) == b"\x02\x01" + bytes(6)
    assert 258 in sessions


def test_a_repeated_command_gets_the_first_answer():
    sessions = Sessions()
    sessions.register(1)
    assert applied(sessions, 1, 1, 1, b"first") == b"first"
    assert applied(sessions, 1, 1, 1, b"second") == b"first"


def test_an_empty_answer_is_an_answer():
    sessions = Sessions()
    sessions.register(1)
    applied(sessions, 1, 1, 1, b"")
    assert sessions.begin(1, 1, 1) == b""


def test_commands_of_one_session_may_arrive_in_any_order():
    sessions = Sessions()
    sessions.register(1)
    assert [applied(sessions, 1, sequence, 1, b"%d" % sequence) for sequence in (3, 1, 2)] == [b"3", b"1", b"2"]
    assert [sessions.begin(1, sequence, 1) for sequence in (1, 2, 3)] == [b"1", b"2", b"3"]


def test_the_lowest_unanswered_sequence_prunes_answers():
    sessions = Sessions()
    sessions.register(1)
    for sequence in (1, 2, 3):
        applied(sessions, 1, sequence, 1, b"12345")
    applied(sessions, 1, 4, 3, b"12345")
    assert sessions.bytes == 2 * (ANSWER_OVERHEAD + 5)
    assert [sessions.begin(1, sequence, 1) for sequence in (1, 2)] == [Reason.ANSWERED, Reason.ANSWERED]
    assert sessions.begin(1, 3, 1) == b"12345"


def test_a_jump_of_the_lowest_sequence_costs_no_more_than_the_answers():
    sessions = Sessions()
    sessions.register(1)
    applied(sessions, 1, 1, 1, b"a")
    assert applied(sessions, 1, (1 << 64) - 1, (1 << 64) - 1, b"b") == b"b"
    assert sessions.bytes == ANSWER_OVERHEAD + 1


def test_an_unknown_or_closed_session_is_expired():
    sessions = Sessions()
    sessions.register(1)
    applied(sessions, 1, 1, 1, b"abc")
    assert sessions.close(1) == b""
    assert sessions.bytes == 0
    assert [sessions.begin(1, 1, 1), sessions.begin(2, 1, 1), sessions.close(1)] == [Reason.SESSION_EXPIRED] * 3


def test_the_least_recently_used_session_is_evicted_over_the_count():
    sessions = Sessions(SessionLimits(sessions_max=2))
    sessions.register(1)
    sessions.register(2)
    applied(sessions, 1, 1, 1, b"")
    sessions.register(3)
    assert [session in sessions for session in (1, 2, 3)] == [True, False, True]
    assert sessions.evicted == 1


def test_a_repeat_counts_as_use():
    sessions = Sessions(SessionLimits(sessions_max=2))
    sessions.register(1)
    applied(sessions, 1, 1, 1, b"")
    sessions.register(2)
    applied(sessions, 1, 1, 1, b"")
    sessions.register(3)
    assert 1 in sessions


def test_the_least_recently_used_sessions_are_evicted_over_the_bytes_but_never_the_one_in_use():
    sessions = Sessions(SessionLimits(bytes_max=3 * ANSWER_OVERHEAD))
    for session in (1, 2, 3):
        sessions.register(session)
        applied(sessions, session, 1, 1, b"")
    assert applied(sessions, 2, 2, 1, bytes(10 * ANSWER_OVERHEAD)) == bytes(10 * ANSWER_OVERHEAD)
    assert [session in sessions for session in (1, 2, 3)] == [False, True, False]


def test_a_session_with_too_many_unanswered_commands_is_refused_and_nothing_else_changes():
    sessions = Sessions(SessionLimits(answers_max=2))
    sessions.register(1)
    for sequence in (1, 2):
        applied(sessions, 1, sequence, 1, b"x")
    assert sessions.begin(1, 3, 1) is Reason.BUSY
    assert sessions.begin(1, 2, 1) == b"x"
    assert applied(sessions, 1, 3, 2, b"y") == b"y"


def test_a_session_with_too_many_bytes_of_answers_is_refused():
    sessions = Sessions(SessionLimits(session_bytes_max=100))
    sessions.register(1)
    applied(sessions, 1, 1, 1, bytes(100))
    assert sessions.begin(1, 2, 1) is Reason.BUSY
    assert sessions.begin(1, 2, 2) is None


def test_a_result_that_was_too_large_stays_so_for_retries_and_in_snapshots():
    sessions = Sessions()
    sessions.register(1)
    sessions.keep(1, 1, Reason.RESULT_TOO_LARGE)
    assert sessions.begin(1, 1, 1) is Reason.RESULT_TOO_LARGE
    assert restored(sessions).begin(1, 1, 1) is Reason.RESULT_TOO_LARGE
    assert restored(sessions).bytes == sessions.bytes == ANSWER_OVERHEAD


def test_a_snapshot_is_frozen_when_it_is_taken():
    sessions = Sessions()
    sessions.register(1)
    applied(sessions, 1, 1, 1, b"before")
    chunks = sessions.snapshot()
    applied(sessions, 1, 2, 2, b"after")
    sessions.register(9)
    other = Sessions()
    other.restore(chunks)
    assert 9 not in other
    assert other.begin(1, 1, 1) == b"before"


def test_a_large_table_takes_many_chunks_and_leaves_the_rest_to_the_application():
    sessions = Sessions()
    for session in (1, 2):
        sessions.register(session)
        applied(sessions, session, 1, 1, bytes(3 << 20))
    chunks = list(sessions.snapshot())
    assert len(chunks) > 10
    assert max(map(len, chunks)) <= 1 << 20
    rest = iter([*chunks, b"application"])
    other = Sessions()
    other.restore(rest)
    assert list(rest) == [b"application"]
    assert other.digest() == sessions.digest()
    assert other.bytes == sessions.bytes


@pytest.mark.parametrize("cut", [0, 1, -1])
def test_damaged_chunks_are_refused_and_change_nothing(cut: int):
    sessions = Sessions()
    sessions.register(1)
    applied(sessions, 1, 1, 1, b"answer")
    (chunk,) = sessions.snapshot()
    broken = {0: [], 1: [b"\x07" + chunk[1:]], -1: [chunk[:-1]]}[cut]
    before = sessions.digest()
    with pytest.raises(StorageError, match="snapshot"):
        sessions.restore(iter(broken))
    assert sessions.digest() == before


def test_a_count_beyond_the_end_is_refused():
    stream = struct.pack("<I", 1_000_000)
    with pytest.raises(StorageError, match="end too early"):
        Sessions().restore(iter([b"\x01\x01\x00\x00" + stream]))


@pytest.mark.parametrize("limits", [{"answers_max": 2}, {"session_bytes_max": 2 * ANSWER_OVERHEAD}])
def test_the_lowest_command_is_never_refused_for_the_answers_of_later_ones(limits: dict[str, int]) -> None:
    """It came last: were it refused, its client could forget no answer, and would be refused for ever."""
    sessions = Sessions(SessionLimits(**limits))
    sessions.register(5)
    assert [applied(sessions, 5, sequence, 1, b"") for sequence in (2, 3, 4)] == [b"", b"", Reason.BUSY]
    assert applied(sessions, 5, 1, 1, b"late") == b"late"
    assert applied(sessions, 5, 4, 1, b"") is Reason.BUSY
    assert applied(sessions, 5, 4, 4, b"now") == b"now"


LIMITS = {"sessions_max": 3, "answers_max": 3, "session_bytes_max": 400, "bytes_max": 700}
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("register")),
        st.tuples(st.just("close"), st.integers(1, 30)),
        st.tuples(st.just("command"), st.integers(1, 30), st.integers(0, 6), st.integers(0, 6), st.integers(0, 200)),
    ),
    max_size=30,
)


def play(sessions: Sessions, steps: list[tuple[object, ...]], first: int) -> Iterator[object]:
    for index, (what, *values) in enumerate(steps, first):
        if what == "register":
            yield sessions.register(index)
        elif what == "close":
            yield sessions.close(*values)
        else:
            session, sequence, lowest, size = values
            yield applied(sessions, session, sequence, lowest, b"%d" % index + bytes(size))


@given(STEPS, STEPS)
def test_a_replica_that_came_by_snapshot_answers_and_evicts_like_one_that_was_there_from_the_start(before, after):
    veteran = Sessions(SessionLimits(**LIMITS))
    list(play(veteran, before, 1))
    newcomer = restored(veteran, **LIMITS)
    assert newcomer.digest() == veteran.digest()
    first = len(before) + 1
    assert list(play(newcomer, after, first)) == list(play(veteran, after, first))
    assert newcomer.digest() == veteran.digest()
    assert newcomer.bytes == veteran.bytes
    assert len(veteran) <= LIMITS["sessions_max"]
