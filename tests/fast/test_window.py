"""The window, in lockstep with its twin and with a plain list of entries."""

import struct
from collections.abc import Callable
from typing import Any

import pytest
from builds import builds, outcome
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from distkit._fast.pure import codec
from distkit._fast.pure import logbuf as twin
from distkit.core.errors import LocalError
from distkit.core.limits import INDEX_MAX

ALL = 1 << 30
EDGES = [edge + step for edge in (0, 2**31, 2**32, 2**62, 2**63, 2**64) for step in (-1, 0, 1)]
Entry = tuple[int, int, int, int, bytes]


@pytest.fixture(params=builds("logbuf"), scope="module")
def logbuf(request: pytest.FixtureRequest) -> Any:
    return request.param


def block(term: int, first: int, payloads: list[bytes], time_us: int = 0) -> bytes:
    return codec.encode_block(term, first, time_us, b"\1" * len(payloads), payloads)


def filled(window: Any) -> Any:
    """Index 5 of term 2 as base; then terms 2: 6-8, 3: 9-10, 5: 11-13, 5: 14."""
    for term, first, count in ((2, 6, 3), (3, 9, 2), (5, 11, 3), (5, 14, 1)):
        window.append(block(term, first, [b"%d" % index for index in range(first, first + count)], first * 100))
    return window


TERMS = {5: 2, 6: 2, 7: 2, 8: 2, 9: 3, 10: 3, 11: 5, 12: 5, 13: 5, 14: 5}


# ---- against a list


class WindowMachine(RuleBasedStateMachine):
    """Two windows and a list of entries that see the same calls."""

    make: Callable[[], Any]

    def __init__(self) -> None:
        super().__init__()
        self.windows = (type(self).make(), twin.Window())
        self.base: tuple[int, int] = (0, 0)
        self.base_time_us = 0
        self.model: list[Entry] = []

    @property
    def last(self) -> int:
        return self.base[0] + len(self.model)

    @property
    def last_term(self) -> int:
        return self.model[-1][1] if self.model else self.base[1]

    def term(self, index: int) -> int:
        return self.base[1] if index == self.base[0] else self.model[index - self.base[0] - 1][1]

    def both(self, method: str, *arguments: object) -> Any:
        results = [outcome(getattr(window, method), *arguments) for window in self.windows]
        assert results[0] == results[1]
        return results[0]

    @rule(
        step=st.integers(0, 2), time=st.integers(0, 5), payloads=st.lists(st.binary(max_size=4), min_size=1, max_size=4)
    )
    def append(self, step: int, time: int, payloads: list[bytes]) -> None:
        term = self.last_term + step
        time_us = self.windows[0].last_time_us + time
        first = self.last + 1
        assert self.both("append", block(term, first, payloads, time_us))[0] is type(None)
        self.model += [(first + i, term, time_us, 1, payload) for i, payload in enumerate(payloads)]

    @rule(first=st.integers(1, 30), term=st.integers(0, 12))
    def append_elsewhere(self, first: int, term: int) -> None:
        fits = first == self.last + 1 and term >= self.last_term
        if not fits:
            assert self.both("append", block(term, first, [b"x"]))[0] is LocalError

    @rule(back=st.integers(-1, 12))
    def truncate(self, back: int) -> None:
        index = self.last + 1 - back
        fits = self.base[0] < index <= self.last + 1
        assert self.both("truncate", index)[0] is (type(None) if fits else LocalError)
        if fits:
            del self.model[index - self.base[0] - 1 :]

    @rule(ahead=st.integers(-1, 6))
    def compact(self, ahead: int) -> None:
        index = self.base[0] + ahead
        fits = 0 <= index <= self.last
        assert self.both("compact", index)[0] is (type(None) if fits else LocalError)
        if fits and ahead > 0:
            _, term, self.base_time_us, _, _ = self.model[ahead - 1]
            self.base = (index, term)
            del self.model[:ahead]

    @precondition(lambda self: len(self.model) > 6)
    @rule(ahead=st.integers(0, 3), term=st.integers(0, 12), time_us=st.integers(0, 50))
    def reset(self, ahead: int, term: int, time_us: int) -> None:
        self.base_time_us = max(self.windows[0].last_time_us, time_us)
        self.base = (self.last + ahead, term)
        self.model = []
        assert self.both("reset", *self.base, time_us)[0] is type(None)

    @rule(lo=st.integers(0, 12), size=st.integers(-2, 12), bytes_max=st.integers(-1, 400))
    def read(self, lo: int, size: int, bytes_max: int) -> None:
        lo += self.base[0]
        hi = lo + size - 1
        fits = self.base[0] < lo <= self.last + 1 and lo - 1 <= hi <= self.last
        kind, blocks = self.both("slice", lo, hi, bytes_max)
        assert kind is (list if fits else LocalError)
        kind, entries = self.both("entries", lo, hi, bytes_max)
        assert kind is (list if fits else LocalError)
        if fits:
            self.check_read(lo, hi, bytes_max, blocks, entries)

    def check_read(self, lo: int, hi: int, bytes_max: int, blocks: list[bytes], entries: list[Entry]) -> None:
        expected = self.model[lo - self.base[0] - 1 : hi - self.base[0]]
        assert entries == expected[: len(entries)]
        assert len(entries) <= 1 or sum(len(entry[4]) for entry in entries) <= bytes_max
        if len(entries) < len(expected):
            assert sum(len(entry[4]) for entry in expected[: len(entries) + 1]) > bytes_max
        held = []
        for part in blocks:
            term, first, count, time_us = codec.check_block(part)
            pairs = codec.block_entries(part, first, first + count - 1)
            held += [(first + i, term, time_us, kind, payload) for i, (kind, payload) in enumerate(pairs)]
        assert held == expected[: len(held)]
        assert len(blocks) <= 1 or sum(map(len, blocks)) <= bytes_max
        assert bool(expected) == bool(blocks) == bool(entries)

    @rule(index=st.integers(-1, 40), term=st.integers(-1, 14))
    def hint(self, index: int, term: int) -> None:
        candidates = range(self.base[0], min(index, self.last) + 1)
        expected = max((i for i in candidates if self.term(i) <= term), default=-1)
        assert self.both("hint", index, term) == (int, expected)

    @rule(
        first=st.integers(1, 30),
        parts=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), max_size=4),
        data=st.data(),
    )
    def conflict(self, first: int, parts: list[tuple[int, int]], data: st.DataObject) -> None:
        start = data.draw(st.sampled_from([first, max(1, self.base[0]), self.base[0] + 1, self.last + 1]))
        term = self.term(start) if self.base[0] <= start <= self.last else self.base[1]
        index, blocks, terms = start, [], []
        for step, count in parts:
            term += step
            blocks.append(block(term, index, [b""] * count))
            terms += [term] * count
            index += count
        expected = index
        for i, other in enumerate(terms, start):
            if i > self.last or (i > self.base[0] and self.term(i) != other):
                expected = i
                break
        assert self.both("conflict", start, blocks) == (int, expected)
        if blocks:
            assert self.both("conflict", start + 1, blocks)[0] is LocalError

    @invariant()
    def agrees(self) -> None:
        for window in self.windows:
            assert (window.base_index, window.base_term) == self.base
            assert (window.last, window.last_term) == (self.last, self.last_term)
            assert window.last_time_us == (self.model[-1][2] if self.model else self.base_time_us)
            assert [window.term(i) for i in range(self.base[0], self.last + 1)] == [
                self.term(i) for i in range(self.base[0], self.last + 1)
            ]
            assert window.term(self.base[0] - 1) == window.term(self.last + 1) == -1
            assert window.entries(self.base[0] + 1, self.last, ALL) == self.model
            assert window.digest() == digest(self.base, self.model)
        assert self.windows[0].bytes == self.windows[1].bytes
        assert (self.windows[0].bytes == 0) == (not self.model)


def digest(base: tuple[int, int], entries: list[Entry]) -> int:
    data = struct.pack("<QQ", *base)
    for index, term, time_us, kind, payload in entries:
        data += struct.pack("<QQQBI", index, term, time_us, kind, len(payload)) + payload
    return codec.crc32c(data)


def test_any_calls_leave_the_window_equal_to_a_list(logbuf: Any) -> None:
    class Machine(WindowMachine):
        make = logbuf.Window

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Machine,
        settings=settings(max_examples=150, stateful_step_count=30, suppress_health_check=list(HealthCheck)),
    )


# ---- one thing at a time


def test_blocks_are_shared_not_copied(logbuf: Any) -> None:
    window = logbuf.Window()
    blocks = [block(1, 1, [b"a", b"b"]), block(1, 3, [b"c"])]
    for part in blocks:
        window.append(part)
    assert window.bytes == sum(map(len, blocks))
    assert all(held is given for held, given in zip(window.slice(1, 3, ALL), blocks, strict=True))
    window.compact(2)
    assert window.bytes == len(blocks[1])
    window.truncate(4)
    assert window.slice(3, 3, 0)[0] is blocks[1]


def test_a_limit_in_bytes_may_be_reached_but_not_passed(logbuf: Any) -> None:
    window = filled(logbuf.Window(5, 2))
    blocks = window.slice(6, 14, ALL)
    two = len(blocks[0]) + len(blocks[1])
    assert [len(window.slice(6, 14, limit)) for limit in (-1, 0, two - 1, two, two + 1)] == [1, 1, 1, 2, 2]
    payloads = [len(entry[4]) for entry in window.entries(9, 11, ALL)]
    assert payloads == [1, 2, 2]
    assert [len(window.entries(9, 11, limit)) for limit in (-1, 0, 1, 2, 3, 4, 5)] == [1, 1, 1, 1, 2, 2, 3]


def test_terms_inside_and_outside(logbuf: Any) -> None:
    window = filled(logbuf.Window(5, 2))
    assert {index: window.term(index) for index in TERMS} == TERMS
    for number in (4, 15, *EDGES):
        assert window.term(number) == -1


def test_a_hint_is_the_end_of_the_last_run_that_is_not_above_the_term(logbuf: Any) -> None:
    window = filled(logbuf.Window(5, 2))
    assert [window.hint(14, term) for term in range(1, 7)] == [-1, 8, 10, 10, 14, 14]
    assert [window.hint(index, 4) for index in (4, 5, 9, 10, 11, 14, 99)] == [-1, 5, 9, 10, 10, 10, 10]
    for number in EDGES:
        for arguments in ((number, 4), (12, number)):
            assert window.hint(*arguments) == filled(twin.Window(5, 2)).hint(*arguments)


def test_a_conflict_is_the_first_entry_of_another_term(logbuf: Any) -> None:
    window = filled(logbuf.Window(5, 2))
    assert window.conflict(6, [block(2, 6, [b""] * 3), block(3, 9, [b""] * 2)]) == 11
    assert window.conflict(6, [block(2, 6, [b""] * 4)]) == 9
    assert window.conflict(9, [block(4, 9, [b""])]) == 9
    assert window.conflict(14, [block(5, 14, [b""] * 3)]) == 15
    assert window.conflict(3, [block(9, 3, [b""] * 3), block(9, 6, [b""])]) == 6
    assert window.conflict(2, [block(9, 2, [b""] * 2)]) == 4
    assert window.conflict(40, [block(9, 40, [b""])]) == 40
    assert window.conflict(7, []) == 7


def test_entries_in_front_of_the_base_cannot_be_reached(logbuf: Any) -> None:
    window = filled(logbuf.Window(5, 2))
    window.compact(12)
    held = window.bytes
    assert (window.base_index, window.base_term, window.term(11)) == (12, 5, -1)
    assert outcome(window.slice, 12, 13, ALL)[0] is LocalError
    assert codec.block_info(window.slice(13, 13, ALL)[0]) == (5, 13, 1, 1100)
    window.truncate(14)
    assert window.bytes == held - len(block(5, 14, [b"14"]))
    window.truncate(13)
    assert (window.last, window.last_term, window.bytes, window.last_time_us) == (12, 5, 0, 1100)


def test_the_time_of_the_log_does_not_fall_when_entries_are_forgotten(logbuf: Any) -> None:
    window = filled(logbuf.Window(5, 2))
    window.compact(14)
    assert window.last_time_us == 1400
    window.reset(20, 6)
    assert window.last_time_us == 1400
    window.reset(20, 6, 2000)
    assert window.last_time_us == 2000
    assert logbuf.Window(1, 1, 7).last_time_us == 7


def test_the_digest_does_not_see_how_entries_are_cut(logbuf: Any) -> None:
    whole, parts = logbuf.Window(), logbuf.Window()
    entries = block(2, 1, [b"a", b"", b"bc", b"d"], 9)
    whole.append(entries)
    for index in (1, 2, 3, 4):
        parts.append(codec.cut_block(entries, index, index))
    assert whole.digest() == parts.digest()
    parts.compact(2)
    whole.compact(2)
    assert whole.digest() == parts.digest()
    whole.truncate(4)
    assert whole.digest() != parts.digest()


def test_numbers_at_the_edges(logbuf: Any) -> None:
    for number in EDGES:
        for arguments in ((number, 0, 0), (0, number, 0), (0, 0, number)):
            made, expected = (outcome(build.Window, *arguments)[0] for build in (logbuf, twin))
            assert made in (LocalError, logbuf.Window)
            assert (made is LocalError) == (expected is LocalError)
        for method, arguments in (
            ("truncate", (number,)),
            ("compact", (number,)),
            ("reset", (number, 1)),
            ("reset", (1, number)),
            ("slice", (number, 14, ALL)),
            ("slice", (6, number, ALL)),
            ("slice", (6, 14, number)),
            ("entries", (number, 14, ALL)),
            ("entries", (6, 14, number)),
            ("conflict", (number, [])),
        ):
            fast, slow = filled(logbuf.Window(5, 2)), filled(twin.Window(5, 2))
            assert outcome(getattr(fast, method), *arguments) == outcome(getattr(slow, method), *arguments)
            assert fast.digest() == slow.digest()


def test_the_window_reaches_the_largest_index(logbuf: Any) -> None:
    window = logbuf.Window(INDEX_MAX - 2, INDEX_MAX)
    window.append(block(INDEX_MAX, INDEX_MAX - 1, [b"a", b"b"]))
    assert (window.last, window.term(INDEX_MAX), window.hint(INDEX_MAX, INDEX_MAX)) == (INDEX_MAX, INDEX_MAX, INDEX_MAX)
    assert window.conflict(INDEX_MAX, [block(INDEX_MAX, INDEX_MAX, [b""])]) == INDEX_MAX + 1
    assert window.slice(INDEX_MAX + 1, INDEX_MAX, ALL) == []


def test_a_block_that_was_never_checked_leads_nobody_out_of_it(logbuf: Any) -> None:
    good = block(2, 6, [b"ab", b"c", b"de"])
    for at in range(48, 72):
        changed = good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :]
        fast, slow = logbuf.Window(5, 2), twin.Window(5, 2)
        for window in (fast, slow):
            window.append(changed)
        for call in (("slice", 7, 7, ALL), ("entries", 6, 8, ALL), ("digest",), ("truncate", 7)):
            assert outcome(getattr(fast, call[0]), *call[1:]) == outcome(getattr(slow, call[0]), *call[1:])
    for length in range(len(good)):
        assert outcome(logbuf.Window(5, 2).append, good[:length])[0] is LocalError


@pytest.mark.parametrize("wrong", [None, 5, "text", bytearray(56), 1.5])
def test_wrong_types_are_refused(logbuf: Any, wrong: Any) -> None:
    window = filled(logbuf.Window(5, 2))
    before = window.digest()
    calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        (window.append, (wrong,)),
        (window.conflict, (15, [wrong])),
    ]
    if not isinstance(wrong, int):
        calls += [(window.term, (wrong,)), (window.truncate, (wrong,)), (window.compact, (wrong,))]
        calls += [(window.hint, (wrong, 3)), (window.hint, (9, wrong)), (window.reset, (wrong, 3))]
        calls += [(window.slice, (6, 9, wrong)), (window.entries, (wrong, 9, 9)), (logbuf.Window, (wrong,))]
    for function, arguments in calls:
        with pytest.raises(TypeError):
            function(*arguments)
    assert window.digest() == before


def test_the_window_shows_its_numbers_and_takes_none(logbuf: Any) -> None:
    window = filled(logbuf.Window(5, 2))
    for name in ("base_index", "base_term", "last", "last_term", "last_time_us", "bytes"):
        with pytest.raises(AttributeError):
            setattr(window, name, 1)
