"""Events for whoever validates or draws runs: the names and fields of the traces that etcd's TLA+ specification reads.

One event each for what a machine starts with, receives, sends, commits and hands over (`Ready`); transitions of roles
and of the log are emitted where they happen, by `roles.trace`. Nothing here runs unless a trace was asked for.

Source: etcd-io/raft, state_trace.go.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

from distkit.core import Output, RoleName
from distkit.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Entries,
    InstallSnapshot,
    InstallSnapshotReply,
    RequestVote,
    RequestVoteReply,
)
from distkit.raft.roles import trace
from distkit.raft.state import State

#: Messages that the specification knows, by their names there. Heartbeats and reads are not part of it.
_NAMES: Final = {
    AppendEntries: "AppendEntriesRequest",
    AppendEntriesReply: "AppendEntriesResponse",
    RequestVote: "RequestVoteRequest",
    RequestVoteReply: "RequestVoteResponse",
    InstallSnapshot: "Snapshot",
    InstallSnapshotReply: "AppendEntriesResponse",
}


def started(s: State) -> None:
    """The state of a start."""
    trace(s, "InitState", {"voters": list(s.voters)})


def received(s: State, source: int, message: Any) -> None:
    """A message came in; the state is that before it is handled."""
    name = _NAMES.get(type(message))
    if name is not None:
        trace(s, f"Receive{name}", {"from": source, "message": _plain(message)})


def flushed(s: State, output: Output) -> None:
    """What a flush gave. Messages that wait for its write are sent later, but they are decided here."""
    blocks = sum(type(item) is Entries for write in output.writes for item in write.records)
    if blocks and s.role is RoleName.LEADER:
        trace(s, "Replicate", {"blocks": blocks})
    waiting = [send for write in output.writes for send in write.then]
    for target, message in (*output.sends, *waiting):
        name = _NAMES.get(type(message))
        if name is not None:
            trace(s, f"Send{name}", {"to": target, "message": _plain(message)})
    trace(s, "Ready", {"writes": len(output.writes), "delivers": len(output.delivers)})


def _plain(message: Any) -> dict[str, Any]:
    """Plain fields of a message: numbers, and how many blocks."""
    plain = {}
    for each in fields(message):
        value = getattr(message, each.name)
        if isinstance(value, bool | int):
            plain[each.name] = value
        elif isinstance(value, tuple):
            plain[each.name] = len(value)
    return plain
