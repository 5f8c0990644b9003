"""What the leader knows of one peer, and how much it may send it (etcd's `tracker/progress.go`).

Probe      one append at a time, until an answer shows where the logs agree
Replicate  appends are pipelined within a window of messages and bytes
Snapshot   nothing is sent until the snapshot is installed or failed
"""

from __future__ import annotations

import enum
from collections import deque
from typing import Final

from distkit.raft.options import RaftOptions


class ProgressState(enum.IntEnum):
    """Of one peer, as the leader sees it."""

    PROBE = 1
    REPLICATE = 2
    SNAPSHOT = 3


PROBE: Final = ProgressState.PROBE
REPLICATE: Final = ProgressState.REPLICATE
SNAPSHOT: Final = ProgressState.SNAPSHOT


class Progress:
    """Invariants: 0 <= match < next; inflight is empty outside Replicate; pending_snapshot is 0 outside Snapshot."""

    __slots__ = (
        "credit",
        "id",
        "inflight",
        "inflight_bytes",
        "match",
        "next",
        "pending_snapshot",
        "probe_sent",
        "read_position",
        "recent_active",
        "sent_commit",
        "session",
        "state",
    )

    def __init__(self, peer: int, next_index: int, session: int) -> None:
        self.id = peer
        self.session = session
        self.match = 0  #: highest index known to be durable on the peer and equal to ours
        self.next = next_index  #: next index to send
        self.state = PROBE
        self.probe_sent = False  #: in Probe: an append is out, wait
        self.inflight: deque[tuple[int, int]] = deque()  #: (last index, bytes) of unacknowledged appends
        self.inflight_bytes = 0
        self.pending_snapshot = 0  #: index of the snapshot being sent
        self.recent_active = False  #: heard from since the last quorum check
        self.sent_commit = 0  #: highest commit index this peer was told, as far as it can use it
        self.read_position = 0  #: newest read position it has confirmed
        self.credit = 1  #: bytes it is ready to hold; 0: its disk is full or it lags too far

    def full(self, options: RaftOptions) -> bool:
        """Whether the window allows no further append. The byte limit is soft: one message may cross it."""
        return len(self.inflight) >= options.inflight_messages_max or self.inflight_bytes >= options.inflight_bytes_max

    def sent(self, last: int, size: int) -> None:
        """An append up to `last` left in Replicate."""
        self.inflight.append((last, size))
        self.inflight_bytes += size
        self.next = last + 1

    def acknowledged(self, index: int) -> bool:
        """Take an acknowledgement up to `index`; whether it was news."""
        inflight = self.inflight
        while inflight and inflight[0][0] <= index:
            self.inflight_bytes -= inflight.popleft()[1]
        if self.next <= index:
            self.next = index + 1
        if index <= self.match:
            return False
        self.match = index
        return True

    def probe(self, next_index: int = 0) -> None:
        """Go (back) to Probe, at `next_index` or right after `match`."""
        self._enter(PROBE)
        self.next = max(next_index, self.match + 1)
        self.sent_commit = min(self.sent_commit, self.next - 1)

    def replicate(self) -> None:
        """The logs are known to agree up to `match`: pipeline from there."""
        self._enter(REPLICATE)
        self.next = self.match + 1

    def snapshot(self, index: int) -> None:
        """A snapshot at `index` is being sent."""
        self._enter(SNAPSHOT)
        self.pending_snapshot = index
        self.next = index + 1
        self.sent_commit = index

    def _enter(self, state: ProgressState) -> None:
        self.state = state
        self.probe_sent = False
        self.pending_snapshot = 0
        self.inflight.clear()
        self.inflight_bytes = 0
