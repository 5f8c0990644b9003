"""The follower's side of replication (paper 5.3, 7). Acknowledgements ride on the write that makes them true."""

from __future__ import annotations

from collections.abc import Iterator

from distkit._fast import codec
from distkit.core import Space
from distkit.core.limits import INDEX_MAX
from distkit.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Entries,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    InstallSnapshotReply,
    Snapshot,
    SnapshotMark,
    Truncate,
)
from distkit.raft.proposals import lose_tickets, settle
from distkit.raft.roles import become_follower, heard_from_leader, trace
from distkit.raft.state import CANDIDATE, LEADER, State


def on_append(s: State, now: float, source: int, message: AppendEntries) -> None:
    """Take entries if the log holds the one before them; else say where the logs may part."""
    if not _follow(s, now, source):
        return
    window = s.window
    previous = message.prev_index
    if previous < s.commit:
        _acknowledge(s, source, message.session, s.commit)
        return
    if window.term(previous) != message.prev_term:
        _reject(s, source, message)
        return
    last = previous
    if message.blocks and (s.space is Space.OK or _all_empty(message.blocks)):
        _round, first, count, _time = codec.block_info(message.blocks[-1])
        last = first + count - 1
        if not _accept(s, message.blocks, previous + 1, last):
            return
    _commit(s, min(message.commit, last))
    _acknowledge(s, source, message.session, last)


def on_heartbeat(s: State, now: float, source: int, message: Heartbeat) -> None:
    """The leader lives. Its commit index is trusted only up to the own log (note the clamp: etcd-io/etcd#10166)."""
    if not _follow(s, now, source):
        return
    _commit(s, min(message.commit, s.window.last))
    if message.read_position > 0:
        reply = HeartbeatReply(
            s.term, message.session, s.incarnation, message.read_position, message.promise_us, credit(s)
        )
        s.sends.append((source, reply))


def on_install_snapshot(s: State, now: float, source: int, message: InstallSnapshot) -> None:
    """Replace the log by a snapshot whose file the host holds, unless the log already goes that far."""
    if not _follow(s, now, source):
        return
    snapshot = message.snapshot
    if snapshot.configuration.member(s.node) is None:
        s.count("nonsense")
        return
    if snapshot.index <= s.commit:
        _snapshot_reply(s, source, message.session, s.commit)
        return
    if not wants(s, snapshot):
        _commit(s, snapshot.index)
        _snapshot_reply(s, source, message.session, snapshot.index)
        return
    s.window.reset(snapshot.index, snapshot.term, snapshot.time_us)
    s.flushed = min(s.flushed, s.commit)
    for write in s.outstanding:
        write.last = min(write.last, s.commit)
    s.snapshot = snapshot
    s.commit = snapshot.index
    lose_tickets(s, snapshot.index)
    s.restore = snapshot
    s.restoring = True
    s.records = [SnapshotMark(s.term, s.vote, s.commit, True, 0, snapshot)]
    s.rewritten = True
    _snapshot_reply(s, source, message.session, snapshot.index)
    trace(s, "RestoreSnapshot")


def sensible_append(message: AppendEntries) -> bool:
    """Blocks are consecutive and terms never fall (the codec saw to it); here they must also fit the message."""
    previous = message.prev_index
    if message.prev_term > message.term or (previous == 0) != (message.prev_term == 0) or previous > INDEX_MAX:
        return False
    if not message.blocks:
        return True
    first_round, first, _count, _time = codec.block_info(message.blocks[0])
    last_round = codec.block_info(message.blocks[-1])[0]
    return first == previous + 1 and message.prev_term <= first_round and last_round <= message.term


def sensible_snapshot(message: InstallSnapshot) -> bool:
    """A snapshot holds at least one entry, of a term that is not above the leader's."""
    snapshot = message.snapshot
    return 0 < snapshot.index <= INDEX_MAX and 0 < snapshot.term <= message.term


def wants(s: State, snapshot: Snapshot) -> bool:
    """Whether the log would be replaced by the snapshot: newer than what is committed, and not a part of the log."""
    return snapshot.index > s.commit and s.window.term(snapshot.index) != snapshot.term


def credit(s: State) -> int:
    """How many more bytes of entries this node is ready to hold."""
    if s.space is Space.FULL or s.restoring:
        return 0
    return max(0, s.options.log_bytes_max - s.window.bytes)


def flush_ack(s: State) -> None:
    """Turn the merged acknowledgement of this flush into a message of the next write."""
    if s.ack is not None:
        leader, term, session, index = s.ack
        s.then.append((leader, AppendEntriesReply(term, session, s.incarnation, True, index, 0, 0, credit(s))))
        s.ack = None


def _follow(s: State, now: float, source: int) -> bool:
    """The sender leads this term (a lower term was answered before, a higher one adopted)."""
    if s.role is LEADER or (s.leader != 0 and s.leader != source):
        s.count("nonsense")  # two leaders in one term: the peer is broken, or not a Raft peer
        return False
    if s.role is CANDIDATE:
        become_follower(s, now, s.term, source)
    else:
        heard_from_leader(s, now, source)
    return True


def _accept(s: State, blocks: tuple[bytes, ...], first: int, last: int) -> bool:
    """Append what is new. Truncate only from the first entry whose term differs: an old, reordered append must not
    remove what a newer one added."""
    window = s.window
    conflict = window.conflict(first, blocks)
    if conflict > last:
        return True
    if conflict <= window.last:
        if conflict <= s.commit:
            s.count("conflict_below_commit")  # corruption, here or there; truncating would lose committed entries
            return False
        _truncate(s, conflict)
    for block in blocks if conflict == first else _from(conflict, blocks):
        window.append(block)
        s.records.append(Entries(block))
    s.entries_accepted = True
    return True


def _from(index: int, blocks: tuple[bytes, ...]) -> Iterator[bytes]:
    """The blocks without the entries before `index`."""
    for block in blocks:
        _round, first, count, _time = codec.block_info(block)
        last = first + count - 1
        if last >= index:
            yield codec.cut_block(block, max(first, index), last)


def _truncate(s: State, index: int) -> None:
    """Remove entries from `index` on; writes in flight no longer prove what comes after (the ABA of async appends)."""
    s.window.truncate(index)
    s.records.append(Truncate(index))
    s.rewritten = True
    s.flushed = min(s.flushed, index - 1)
    for write in s.outstanding:
        write.last = min(write.last, index - 1)
    s.count("truncated")
    trace(s, "Truncate")


def _commit(s: State, index: int) -> None:
    if index > s.commit:
        s.commit = index
        trace(s, "Commit")
        settle(s)


def _acknowledge(s: State, source: int, session: int, index: int) -> None:
    if s.ack is not None:
        leader, term, old_session, old_index = s.ack
        if (leader, term, old_session) == (source, s.term, session):
            s.ack = (source, term, session, max(index, old_index))
            return
        flush_ack(s)
    s.ack = (source, s.term, session, index)


def _reject(s: State, source: int, message: AppendEntries) -> None:
    start = min(message.prev_index, s.window.last)
    hint = max(s.window.hint(start, message.prev_term), 0)
    hint_term = max(s.window.term(hint), 0)
    reply = AppendEntriesReply(
        s.term, message.session, s.incarnation, False, message.prev_index, hint, hint_term, credit(s)
    )
    s.then.append((source, reply))
    s.count("rejected_appends")


def _snapshot_reply(s: State, source: int, session: int, index: int) -> None:
    s.then.append((source, InstallSnapshotReply(s.term, session, s.incarnation, index, credit(s))))


def _all_empty(blocks: tuple[bytes, ...]) -> bool:
    """Only empty entries: small enough for the reserve, and a new leader needs its own to commit."""
    return all(len(block) == codec.BLOCK_HEADER + 8 * codec.block_info(block)[2] for block in blocks)
