"""Between memory and disk: what a flush writes, what a completed write proves, and restart from any durable state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from distkit._fast import codec
from distkit._fast.logbuf import Window
from distkit.core import Configuration, LocalError, Restore, StorageError, Write
from distkit.core.limits import INDEX_MAX
from distkit.raft.election import tally
from distkit.raft.follower import flush_ack
from distkit.raft.messages import Entries, HardState, Snapshot, SnapshotMark, Truncate
from distkit.raft.replication import advance_commit
from distkit.raft.state import CANDIDATE, LEADER, Durable, Outstanding, State


def formation_records(configuration: Configuration) -> tuple[SnapshotMark]:
    """The first durable records of a member: the empty state at index 0 under the first configuration."""
    return (SnapshotMark(0, 0, 0, False, 0, Snapshot(0, 0, 0, 0, 0, configuration)),)


def fold(records: Iterable[Any]) -> Durable:
    """What durable records amount to, in the order in which they were written.

    Raises StorageError if entries are missing between the newest snapshot and the end of the log.
    """
    items = list(records)
    marks = [record for record in items if type(record) is SnapshotMark]
    if not marks:
        raise StorageError("the log holds no configuration: it was never formed, or its beginning is missing")
    newest = max(marks, key=lambda mark: mark.snapshot.index).snapshot
    term = vote = commit = 0
    for record in items:
        if type(record) is HardState or type(record) is SnapshotMark:
            term, vote = max((term, vote), (record.term, record.vote))
            commit = max(commit, record.commit)
    window = Window(newest.index, newest.term, newest.time_us)
    for block, last in _survivors(items, newest.index):
        _replay_block(window, block, last)
    commit = min(max(commit, newest.index), window.last)
    return Durable(term, vote, commit, newest, window)


def _survivors(items: list[Any], base: int) -> list[tuple[bytes, int]]:
    """The blocks above `base` that nothing later in the log removed, each with the last of its entries that is left.

    Seen from the end backwards, because what was removed may not even fit on the newest snapshot.
    """
    survivors: list[tuple[bytes, int]] = []
    end = INDEX_MAX + 1
    for record in reversed(items):
        kind = type(record)
        if kind is Entries:
            _round, first, count, _time = codec.block_info(record.block)
            last = min(first + count, end) - 1
            if last >= first and last > base:
                survivors.append((record.block, last))
        elif kind is Truncate:
            end = min(end, record.index)
        elif kind is SnapshotMark:
            if record.reset:
                break
        elif kind is not HardState:
            raise StorageError(f"the log holds a record of unknown type {kind.__name__}")
    survivors.reverse()
    return survivors


def image(s: State) -> tuple[Any, ...]:
    """Records that restore the state as it is accepted now."""
    mark = SnapshotMark(s.term, s.vote, s.commit, False, 0, s.snapshot)
    window = s.window
    blocks: list[bytes] = []
    if window.last > s.snapshot.index:
        blocks = window.slice(s.snapshot.index + 1, window.last, window.bytes + 1)
    return (mark, *(Entries(block) for block in blocks))


def collect_write(s: State) -> Write | None:
    """The write of this flush."""
    if s.ack is not None:
        flush_ack(s)
    hard = (s.term, s.vote)
    if s.compacted is s.snapshot:  # a received one may have overtaken it
        s.records.append(SnapshotMark(s.term, s.vote, s.commit, False, 0, s.snapshot))
    s.compacted = None
    records: tuple[Any, ...] = ()
    if s.entries_accepted or hard != s.hard_written:
        records = _with_hard_state(s)
    elif s.records:
        records = tuple(s.records)
    if not records and not s.then and not s.own_vote:
        return None
    s.token += 1
    write = Write(s.token, records, tuple(s.then))
    s.outstanding.append(Outstanding(s.token, s.window.last, s.own_vote, s.restore))
    s.hard_written = hard
    s.entries_accepted = False
    s.rewritten = False
    s.records = []
    s.then = []
    s.own_vote = 0
    s.restore = None
    return write


def _with_hard_state(s: State) -> tuple[Any, ...]:
    """The records of this flush with the hard state, commit index included, before the entries: recovery keeps a
    prefix, so no entry survives without the commit index that was known when it was accepted.

    Nor may a commit index survive with entries that it does not speak of: what a truncation or a snapshot is about to
    remove is still in the log if the prefix ends before it. So a commit index that reaches so far comes after.
    """
    newest = HardState(s.term, s.vote, s.commit)
    if not s.rewritten:
        return (newest, *s.records)
    start = pivot = 0
    kept = s.commit
    for position, record in enumerate(s.records):
        if type(record) is Truncate:
            pivot = position + 1
            kept = min(kept, record.index - 1)
        elif type(record) is SnapshotMark and record.reset:
            start = pivot = position + 1  # it has a hard state of its own
            kept = s.commit
    before = () if pivot == start else (HardState(s.term, s.vote, kept),)
    return (*s.records[:start], *before, *s.records[start:pivot], newest, *s.records[pivot:])


def persisted(s: State, now: float, token: int) -> None:
    """All writes up to `token` are durable: own vote and own acknowledgement count from now on."""
    if token > s.token:
        raise LocalError(f"write {token} was never issued; the newest is {s.token}")
    news = False
    while s.outstanding and s.outstanding[0].token <= token:
        write = s.outstanding.popleft()
        if write.last > s.flushed:
            s.flushed = write.last
            news = True
        if write.restore is not None and write.restore.index == s.snapshot.index:
            s.delivered = write.restore.index
            s.delivers.append(Restore(write.restore))
        if write.campaign and write.campaign == s.campaigns and s.role is CANDIDATE:
            s.votes[s.node] = True
            tally(s, now)
    if news and s.role is LEADER:
        advance_commit(s, now)


def _replay_block(window: Window, block: bytes, last: int) -> None:
    first = max(codec.block_info(block)[1], window.base_index + 1)
    if first != window.last + 1:
        raise StorageError(f"the log goes on with entry {first} after entry {window.last}: records are missing")
    window.append(codec.cut_block(block, first, last))
