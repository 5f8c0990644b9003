"""The picture of a verdict: what is in it, where it stands, and that nothing out of a history gets out of its place."""

import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from math import inf
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit.core import LocalError
from distkit.sim.linear import CasRegister, Operation, Result, Verdict, check
from distkit.sim.linear.drawing import draw
from distkit.sim.linear.layout import Bar, Layout, lay_out

VOID = {"meta", "rect", "line", "path", "circle", "stop"}


class Page(HTMLParser):
    """The elements and the text of a page; fails unless each is closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def classes(self) -> Counter[str]:
        return Counter(name for _, attributes in self.elements for name in (attributes.get("class") or "").split())

    def text(self) -> str:
        return " ".join("".join(self.texts).split())


def write(process: int | str, value: Any, called: float, returned: float = inf) -> Operation:
    return Operation(process, "write", value, None, called, returned)


def read(process: int | str, value: Any, called: float, returned: float = inf) -> Operation:
    return Operation(process, "read", None, value, called, returned)


STALE = [write(0, 1, 1, 3), read(1, 1, 4, 6), write(2, 3, 5), write(0, 2, 7, 8), read(1, 3, 9, 10), read(1, 2, 11, 12)]


def test_an_illegal_history_shows_the_order_the_states_and_what_has_no_place() -> None:
    drawn = draw(check(STALE, "cas-register"), "cas-register", title="stale")
    assert re.findall(r'<g class="state[^>]*><title>([^<]*)</title>', drawn) == ["None", "1", "2", "3"]
    page = Page(drawn)
    text = page.text()
    assert "stale" in text
    assert "Not linearizable. No order has a place for read → 2 of process 1, called at 11, answered at 12." in text
    assert "the state between its call and its answer is 3, where it cannot answer what it did." in text
    assert [attributes.get("id") for _, attributes in page.elements].count("failed") == 1
    classes = page.classes()
    assert classes["point"] == 5 + 1  # and the one in the legend
    assert classes["failed"] == 1 + 1
    assert classes["open"] == 1 + 1
    items = text.partition("The order found, operations 1 to 5 of 5")[2]
    assert [part.split()[0] for part in items.split("⇒")[1:]][:4] == ["1process", "1process", "2process", "3process"]


def test_a_legal_history_shows_a_whole_order() -> None:
    page = Page(draw(check(STALE[:5], "cas-register"), CasRegister()))
    assert "Linearizable. The operations have an order" in page.text()
    assert page.classes()["point"] == 5 + 1
    assert page.classes()["failed"] == 0


def test_without_a_model_there_are_no_states() -> None:
    page = Page(draw(check(STALE, "cas-register")))
    assert "state" not in page.classes()
    assert "In the longest order found" not in page.text()


def test_an_undecided_history_is_no_pass() -> None:
    verdict = Verdict(Result.UNKNOWN, "k", None, tuple(STALE[:2]), tuple(STALE), 7, "memory")
    text = Page(draw(verdict, "cas-register")).text()
    assert "Undecided. The limit of memory was reached before an answer was found. This is not a pass." in text
    assert "key 'k'" in text


def test_of_many_keys_that_are_all_right_none_is_drawn() -> None:
    operations = [Operation(0, "write", 1, None, time, time + 1, key) for time, key in ((0, "a"), (2, "b"))]
    page = Page(draw(check(operations, "register"), "register"))
    assert "Every key has its own, so none is drawn." in page.text()
    assert page.classes()["bar"] == 0


def test_where_it_would_fit_something_behind_it_does_not() -> None:
    # the read of 1 fits before the write of 2 only, and so does nothing else that reads 1
    history = [write(0, 1, 1, 2), write(0, 2, 3, 6), read(1, 2, 4, 5), read(2, 1, 3.5, 8), read(1, 1, 7, 9)]
    verdict = Verdict(Result.ILLEGAL, None, history[3], (history[0], history[1], history[2]), tuple(history), 9)
    text = Page(draw(verdict, "register")).text()
    assert "It could take effect where the state is 1, but then what is behind it has no place." in text


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(LocalError, match="there is no model 'stack'; there are register, cas-register"):
        draw(check(STALE, "cas-register"), "stack")


NASTY = "</title></svg><script>alert(1)</script>\"'&\x00\x1b[2J\ud800\u202e\n"


def test_nothing_out_of_a_history_gets_out_of_its_place() -> None:
    history = [
        Operation(NASTY, "write", NASTY, None, 1, 2, NASTY),
        Operation("b", "read", None, (NASTY, NASTY), 3, 4, NASTY),
        Operation(NASTY + "c", "write", NASTY * 50, None, 3, inf, NASTY),
    ]
    verdict = check(history, "register")
    assert verdict.result is Result.ILLEGAL
    text = draw(verdict, "register", title=NASTY)
    assert Counter(tag for tag, _ in Page(text).elements)["script"] == 1
    assert text.encode().decode() == text
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "alert(1)" in text
    assert "<script>alert" not in text


def test_the_page_loads_nothing() -> None:
    page = Page(draw(check(STALE, "cas-register"), "cas-register"))
    loads = [name for _, attributes in page.elements for name in attributes if name in ("src", "href", "data")]
    assert loads == ["href"]
    assert "http" not in draw(check(STALE, "cas-register"), "cas-register")
    assert "@import" not in "".join(page.texts)


def many(operations: int, clients: int) -> list[Operation]:
    """A history of clients that each write, at once; the last read but 20 is stale."""
    history: list[Operation] = []
    for number in range(operations):
        called = number * 2
        kind = (
            read(number % clients, number - 1, called, called + 3)
            if number % 2
            else write(number % clients, number, called, called + 3)
        )
        history.append(kind)
    stale = operations - 20 - (operations % 2) + 1
    history[stale] = read(stale % clients, 0, stale * 2, stale * 2 + 3)
    return history


@pytest.mark.parametrize("operations", [24, 90, 500, 3000])
def test_of_a_long_history_the_part_round_the_failure_is_drawn(operations: int) -> None:
    verdict = check(many(operations, 4), "register")
    assert verdict.operation is not None
    layout = lay_out(verdict, lambda _: 60)
    assert len(layout.bars) <= 120
    assert [bar.operation for bar in layout.bars if bar.failed] == [verdict.operation]
    assert layout.points[-1].number == len(verdict.linearized)
    begin = verdict.history[layout.first - 1].called
    assert all(bar.cut == (bar.operation.called < begin) for bar in layout.bars)
    assert any(bar.cut for bar in layout.bars) == (layout.first > 1)
    text = draw(verdict, "register")
    assert len(text) < 80_000
    drawn = f"Operations {layout.first:,} to {layout.last:,} of {operations:,} are drawn"
    assert (drawn in Page(text).text()) == (operations > 90)


def bars_by_row(layout: Layout) -> list[list[Bar]]:
    rows: list[list[Bar]] = [[] for _ in layout.rows]
    for bar in sorted(layout.bars, key=lambda bar: bar.left):
        rows[bar.row].append(bar)
    return rows


def history_of(chance: Random) -> list[Operation]:
    """Operations in an order in which they can take effect, each process one after the other."""
    free: dict[int, float] = dict.fromkeys(range(5), 0)
    operations: list[Operation] = []
    for number in range(1, chance.randint(1, 130) + 1):
        moment = number * 10.0
        ready = [process for process, time in free.items() if time < moment - 1]
        if not ready:
            continue
        process = chance.choice(ready)
        called = max(free.pop(process) + 1, moment - chance.randint(0, 40))
        if chance.random() < 0.1:
            operations.append(write(process, number, called))
            free[100 + number] = 0
        else:
            operations.append(write(process, number, called, moment + chance.randint(0, 40)))
            free[process] = operations[-1].returned
    return operations


@given(st.integers(0, 10**9), st.sampled_from(["whole", "cut", "failed"]))
def test_everything_has_a_place_of_its_own(seed: int, what: str) -> None:
    operations = history_of(Random(seed))
    done = [operation for operation in operations if not operation.is_open]
    failed = done[-1] if what == "failed" and done else None
    order = [operation for operation in operations if operation != failed][: None if what == "whole" else -3 or None]
    result = Result.ILLEGAL if failed else Result.OK
    verdict = Verdict(result, None, failed, tuple(order), tuple(operations), 0)
    layout = lay_out(verdict, lambda operation: 50.0 * len(str(operation.input)))

    bars = {bar.number: bar for bar in layout.bars if bar.number}
    for point in layout.points:
        bar = bars[point.number]
        assert bar.row == point.row
        assert bar.left < point.x < bar.right
    for point, following in pairwise(layout.points):
        assert following.number == point.number + 1
        assert following.x >= point.x + 20
    for row in bars_by_row(layout):
        for bar, following_bar in pairwise(row):
            assert bar.right <= following_bar.left or bar.operation.is_open
    end = sorted(operation.called for operation in operations)[layout.last - 1]
    for bar in layout.bars:
        assert 0 <= bar.left < bar.right <= layout.width
        whole = not bar.cut and (bar.operation.is_open or bar.operation.returned <= end)
        assert bar.right - bar.left >= 50 * len(str(bar.operation.input)) or not whole
    in_time = sorted(layout.bars, key=lambda bar: (bar.operation.called, bar.left))
    assert all(bar.left <= following.left for bar, following in pairwise(in_time))
