"""The rules of tickets, broken by hand once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tickets import TicketLedger

from distkit.core import Outcome, Reply
from distkit.sim import Broken


def sound() -> TicketLedger:
    """One entry is committed."""
    ledger = TicketLedger({}, 3)
    ledger.committed.append(1)
    ledger.entries[1, 1] = 0, 1, b"first", 1000
    return ledger


def caught(rule: str, text: str, act: Callable[[], Any]) -> None:
    with pytest.raises(Broken) as found:
        act()
    assert (found.value.rule, text in str(found.value)) == (rule, True), str(found.value)


def test_tickets_end_once_and_rightly() -> None:
    ledger = sound()
    ledger.commands |= {1: (b"first",), 2: (b"other",), 3: (b"first",), 4: (b"first",)}
    ledger.floors |= {5: 1, 6: 1, 7: 2}
    committed = {"outcome": Outcome.COMMITTED, "index": 1, "first": 1, "term": 1}
    ledger.replied(Reply(1, **committed))
    caught("tickets", "second reply to ticket 1", lambda: ledger.replied(Reply(1, **committed)))
    caught("tickets", "something else for ticket 2", lambda: ledger.replied(Reply(2, **committed)))
    caught("tickets", "in another term", lambda: ledger.replied(Reply(3, **committed | {"term": 2})))
    caught("tickets", "not committed", lambda: ledger.replied(Reply(4, **committed | {"index": 2})))
    caught("tickets", "not an end of a read", lambda: ledger.replied(Reply(5, **committed)))
    ledger.replied(Reply(6, Outcome.READABLE, 1))
    caught("stale read", "floor 2", lambda: ledger.replied(Reply(7, Outcome.READABLE, 1)))


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.SUPERSEDED, Outcome.LOST])
def test_what_was_said_not_to_be_done_was_not_done(outcome: Outcome) -> None:
    ledger = sound()
    ledger.commands[1] = (b"first",)
    ledger.replied(Reply(1, outcome))
    if outcome is Outcome.LOST:
        ledger.finish()
    else:
        caught("tickets", "but is committed", ledger.finish)
