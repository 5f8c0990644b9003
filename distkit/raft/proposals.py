"""Proposals on the leader: commands become entries of one block a flush, and every ticket meets its fate.

A ticket's commands never span two blocks, and blocks travel, truncate and commit whole, so they are all or nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from distkit._fast import codec
from distkit.core import LocalError, Outcome, Reason, Reply, Space
from distkit.core.limits import BLOCK_BYTES_MAX, BLOCK_BYTES_SOFT, BLOCK_ENTRIES_MAX
from distkit.raft.messages import Entries
from distkit.raft.state import LEADER, State

EMPTY = 0
COMMAND = 1
_TABLE_ROW = 8


def propose(s: State, ticket: int, commands: Sequence[bytes], term: int | None, kinds: bytes | None) -> None:
    """Queue the commands for the next block, or refuse the ticket."""
    count = len(commands)
    size = sum(map(len, commands)) + _TABLE_ROW * count
    if not count or count > BLOCK_ENTRIES_MAX or size + codec.BLOCK_HEADER > BLOCK_BYTES_MAX:
        raise LocalError(
            f"one proposal holds 1 to {BLOCK_ENTRIES_MAX} commands of at most {BLOCK_BYTES_MAX - codec.BLOCK_HEADER} "
            f"bytes in all ({_TABLE_ROW} more for each), not {count} of {size}"
        )
    if kinds is not None and len(kinds) != count:
        raise LocalError(f"{count} commands need as many kinds, not {len(kinds)}")
    reason = _refusal(s, size, term)
    if reason is not Reason.NONE:
        s.refuse(ticket, reason)
        return
    if s.unsealed and (s.unsealed_bytes + size > BLOCK_BYTES_SOFT or len(s.unsealed) + count > BLOCK_ENTRIES_MAX):
        seal(s)
    first = s.last + 1
    s.unsealed.extend(commands)
    s.unsealed_kinds += bytes((COMMAND,)) * count if kinds is None else kinds
    s.unsealed_bytes += size
    s.unsealed_tickets.append((first, first + count - 1, s.term, ticket))


def append_empty(s: State) -> None:
    """The first entry of a leader's term; no limit may refuse it (thesis 6.4: it lets reads and old entries commit)."""
    s.unsealed.append(b"")
    s.unsealed_kinds.append(EMPTY)
    s.unsealed_bytes += _TABLE_ROW
    seal(s)


def seal(s: State) -> None:
    """Encode the queued commands into a block, once, and append it to the log and to the next write."""
    if not s.unsealed:
        return
    window = s.window
    wall_us = s.wall_us + int((s.now - s.wall_now) * 1e6)
    time_us = max(window.last_time_us, wall_us)
    block = codec.encode_block(s.term, window.last + 1, time_us, bytes(s.unsealed_kinds), s.unsealed)
    window.append(block)
    s.records.append(Entries(block))
    s.entries_accepted = True
    s.unapplied.append((window.last, len(block)))
    s.unapplied_bytes += len(block)
    s.tickets.extend(s.unsealed_tickets)
    s.unsealed = []
    s.unsealed_kinds = bytearray()
    s.unsealed_bytes = 0
    s.unsealed_tickets = []


def settle(s: State) -> None:
    """End the tickets whose fate the commit index has decided: committed, or superseded by another term's entry.

    Terms never fall along a log, so behind a committed entry no entry of a lower term can follow: tickets of lower
    terms are superseded even where the log does not reach them any more.
    """
    tickets, window, commit = s.tickets, s.window, s.commit
    if not tickets:
        return
    committed_term = window.term(commit)
    while tickets and (tickets[0][1] <= commit or tickets[0][2] < committed_term):
        first, last, term, ticket = tickets.popleft()
        kept = last <= commit and window.term(last) == term
        outcome = Outcome.COMMITTED if kept else Outcome.SUPERSEDED
        s.replies.append(Reply(ticket, outcome, last, first, term, leader=s.leader))


def lose_tickets(s: State, index: int) -> None:
    """A received snapshot covers the entries up to `index`: whether these were ours can no longer be told."""
    tickets, s.tickets = s.tickets, deque()
    for first, last, term, ticket in tickets:
        if first <= index:
            s.replies.append(Reply(ticket, Outcome.LOST, last, first, term, Reason.SNAPSHOT, s.leader))
        else:
            s.tickets.append((first, last, term, ticket))
    settle(s)


def applied(s: State, index: int) -> None:
    """Entries up to `index` are applied: their bytes count no longer."""
    s.applied = index
    while s.unapplied and s.unapplied[0][0] <= index:
        s.unapplied_bytes -= s.unapplied.popleft()[1]


def _refusal(s: State, size: int, term: int | None) -> Reason:
    if s.role is not LEADER:
        return Reason.NOT_LEADER
    if term is not None and term != s.term:
        return Reason.FENCED
    if s.transfer is not None:
        return Reason.TRANSFER
    if s.space is Space.FULL:
        return Reason.FULL
    options = s.options
    held = s.unapplied_bytes + s.unsealed_bytes
    # Half of the log at most: should another leader replace this tail, there must be room for what replaces it.
    if held and held + size > min(options.unapplied_bytes_max, options.log_bytes_max // 2):
        return Reason.BUSY
    if s.window.bytes + s.unsealed_bytes + size > options.log_bytes_max:
        return Reason.BUSY
    if len(s.tickets) + len(s.unsealed_tickets) >= options.tickets_max:
        return Reason.BUSY
    return Reason.NONE
