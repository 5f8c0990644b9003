"""The leader's side of replication: appends, heartbeats, snapshots, and the commit index (paper 5.3, 5.4.2).

Appends overlap the leader's own write; its own acknowledgement is its flushed index.
"""

from __future__ import annotations

import math

from distkit._fast import codec, quorum
from distkit.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    InstallSnapshotReply,
    TimeoutNow,
)
from distkit.raft.progress import PROBE, REPLICATE, SNAPSHOT, Progress
from distkit.raft.proposals import settle
from distkit.raft.roles import become_follower, trace
from distkit.raft.state import LEADER, State


def replicate(s: State) -> None:
    """Send every peer what its progress allows; once a flush, after all inputs."""
    last = s.window.last
    for progress in s.progress.values():
        if progress.next <= last or progress.state is PROBE:
            while _append(s, progress, empty=False):
                pass
    transfer = s.transfer
    if transfer is not None and not transfer.sent and s.progress[transfer.target].match == s.window.last:
        transfer.sent = True
        s.sends.append((transfer.target, TimeoutNow(s.term)))


def heartbeat(s: State, now: float) -> None:
    """Tell every peer that the leader lives, and which reads its answer confirms."""
    for peer, progress in s.progress.items():
        commit = min(progress.match, s.commit)
        s.sends.append((peer, Heartbeat(s.term, progress.session, commit, s.read_position, 0)))
        progress.sent_commit = max(progress.sent_commit, commit)
    s.heartbeat_deadline = now + s.options.heartbeat


def notice_commit(s: State) -> None:
    """Tell idle peers how far the log is committed; busy ones learn it from the next append."""
    for peer, progress in s.progress.items():
        commit = min(progress.match, s.commit)
        if commit > progress.sent_commit:
            s.sends.append((peer, Heartbeat(s.term, progress.session, commit, 0, 0)))
            progress.sent_commit = commit
    s.notice_deadline = math.inf


def advance_commit(s: State, now: float) -> None:
    """Commit what a quorum holds, but count replicas only for entries of the own term (paper 5.4.2, figure 8)."""
    acked = [progress.match for progress in s.progress.values()]
    acked.append(s.flushed)
    index = quorum.majority_index(acked)
    if index > s.commit and s.window.term(index) == s.term:
        s.commit = index
        s.touched = True
        trace(s, "Commit")
        s.notice_deadline = now + s.options.commit_notice  # from the newest commit on: till then an append may tell
        settle(s)


def check_quorum(s: State, now: float) -> None:
    """Step down if no quorum was heard from for an election timeout (thesis 6.2)."""
    active = 1 + sum(1 for progress in s.progress.values() if progress.recent_active)
    if active < s.majority:
        s.count("quorum_lost")
        become_follower(s, now, s.term, 0)
        return
    for progress in s.progress.values():
        progress.recent_active = False
    s.quorum_deadline = now + s.options.election_timeout


def on_append_reply(s: State, now: float, source: int, message: AppendEntriesReply) -> None:
    """An acknowledgement, or a hint where the logs part."""
    progress = _progress(s, source, message.session)
    if progress is None:
        return
    progress.credit = message.credit
    if message.accepted:
        if message.index > s.window.last:
            s.count("nonsense")
            return
        _acknowledged(s, now, progress, message.index)
    else:
        _rejected(s, progress, message)


def on_heartbeat_reply(s: State, now: float, source: int, message: HeartbeatReply) -> None:
    """The peer is alive; answers and acknowledgements that were lost are made good now."""
    progress = _progress(s, source, message.session)
    if progress is None:
        return
    if message.read_position > s.read_position:
        s.count("nonsense")
        return
    progress.read_position = max(progress.read_position, message.read_position)
    progress.credit = message.credit
    progress.probe_sent = False
    if progress.state is REPLICATE and progress.match < s.window.last:
        _append(s, progress, empty=True)


def on_snapshot_reply(s: State, now: float, source: int, message: InstallSnapshotReply) -> None:
    """The peer holds the state up to `index`, be it the snapshot that was sent or an own newer one."""
    progress = _progress(s, source, message.session)
    if progress is None:
        return
    progress.credit = message.credit
    if message.index > s.window.last:
        s.count("nonsense")
        return
    _acknowledged(s, now, progress, message.index)


def snapshot_sent(s: State, peer: int, ok: bool) -> None:
    """The host's report on a transfer. After success the acknowledgement may still be on its way, so probe, paused."""
    progress = s.progress.get(peer)
    if progress is None or progress.state is not SNAPSHOT:
        return
    pending = progress.pending_snapshot if ok else 0
    progress.probe(max(progress.match, pending) + 1)
    progress.probe_sent = True


def peer_lost(s: State, peer: int) -> None:
    """What was sent to the peer may be lost: find out where it stands before sending more."""
    progress = s.progress.get(peer)
    if progress is not None and progress.state is not PROBE:
        progress.probe()
        progress.probe_sent = True


def peer_connected(s: State, peer: int) -> None:
    """The peer can be reached (again): probe it now rather than after the next heartbeat."""
    progress = s.progress.get(peer)
    if progress is not None:
        progress.recent_active = True
        progress.probe_sent = False


def _progress(s: State, source: int, session: int) -> Progress | None:
    progress = s.progress.get(source) if s.role is LEADER else None
    if progress is None or progress.session != session:
        s.count("stale")
        return None
    progress.recent_active = True
    return progress


def _acknowledged(s: State, now: float, progress: Progress, index: int) -> None:
    news = progress.acknowledged(index)
    held_back = progress.state is REPLICATE and progress.credit == 0  # it dropped what is in flight
    installed = progress.state is SNAPSHOT and progress.match >= s.window.base_index
    if progress.state is PROBE or installed or held_back:
        progress.replicate()
    if news:
        advance_commit(s, now)
    if progress.next <= s.window.last or s.transfer is not None:
        s.touched = True  # there may be room for more now, or all is there that a transfer waits for


def _rejected(s: State, progress: Progress, message: AppendEntriesReply) -> None:
    """Back up by terms, not by entries. A hint never raises `match`."""
    s.touched = True
    rejected = message.index
    if progress.state is REPLICATE:
        if rejected > progress.match:
            progress.probe()
        return
    if progress.state is not PROBE or rejected != progress.next - 1:
        s.count("stale")
        return
    if rejected <= progress.match:
        s.count("acknowledged_entries_lost")  # the peer's disk has forgotten what it promised: nothing to find below
        return
    agreed = min(message.hint_index, s.window.last)
    if message.hint_term > 0:
        agreed = max(s.window.hint(agreed, message.hint_term), 0)
    progress.probe(min(rejected, agreed + 1))


def _append(s: State, progress: Progress, empty: bool) -> bool:
    """Send one append or a snapshot; whether more may follow at once."""
    window = s.window
    state = progress.state
    probing = state is PROBE
    if state is SNAPSHOT or (probing and progress.probe_sent):
        return False
    if not probing and not empty and (progress.next > window.last or progress.full(s.options)):
        return False
    previous = progress.next - 1
    previous_term = window.term(previous)
    if previous_term < 0:
        _send_snapshot(s, progress)
        return False
    blocks: tuple[bytes, ...] = ()
    last = previous
    if not empty and previous < window.last and _has_credit(s, progress):
        blocks = tuple(window.slice(progress.next, window.last, s.options.append_bytes_max))
        _round, first, count, _time = codec.block_info(blocks[-1])
        last = first + count - 1
    elif not probing and not empty:
        return False
    s.sends.append((progress.id, AppendEntries(s.term, progress.session, previous, previous_term, s.commit, blocks)))
    progress.sent_commit = max(progress.sent_commit, min(s.commit, last))
    if probing:
        progress.probe_sent = True
    elif blocks:
        progress.sent(last, sum(map(len, blocks)))
        return last < window.last
    return False


def _has_credit(s: State, progress: Progress) -> bool:
    """A follower without room takes only the empty entry of a new term, which its reserve is for."""
    return progress.credit > 0 or (s.window.last == s.term_start and progress.next == s.term_start)


def _send_snapshot(s: State, progress: Progress) -> None:
    if not progress.recent_active:
        return
    s.sends.append((progress.id, InstallSnapshot(s.term, progress.session, s.snapshot)))
    progress.snapshot(s.snapshot.index)
