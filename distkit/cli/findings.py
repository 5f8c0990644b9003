"""What is found in a data directory, as records; each says itself as a line of text and as a JSON object."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

from distkit.core import Configuration, Member, record
from distkit.raft.messages import HardState, Snapshot, SnapshotMark, Truncate

#: Bytes of an entry that are shown in a line of text.
PREVIEW_BYTES = 48

_ENTRY_KINDS = ("empty", "command", "session command", "register session", "close session", "configuration")


@record
class IdentityFound:
    """The file `identity`. Cluster 0: the directory is not part of a cluster yet."""

    node: int
    incarnation: int
    boot: int
    cluster: int

    def text(self) -> str:
        """One line."""
        cluster = f"cluster {self.cluster:016x}" if self.cluster else "no cluster yet"
        return f"identity  node {self.node}, incarnation {self.incarnation:016x}, start {self.boot}, {cluster}"

    def json(self) -> dict[str, Any]:
        """Ids of 64 bits are texts: many readers of JSON have only 53."""
        return {
            "type": "identity",
            "node": self.node,
            "incarnation": f"{self.incarnation:016x}",
            "boot": self.boot,
            "cluster": f"{self.cluster:016x}",
        }


@record
class LockFound:
    """The process that uses the directory: 0 none that can be seen from here, None unknown."""

    process: int | None

    def text(self) -> str:
        """One line."""
        if self.process is None:
            return "lock      unknown: this operating system does not tell who holds it"
        return f"lock      held by process {self.process}: the node is running" if self.process else "lock      free"

    def json(self) -> dict[str, Any]:
        """`held` is null when it is not known."""
        held = None if self.process is None else self.process > 0
        return {"type": "lock", "held": held, "process": self.process or None}


@record
class SegmentFound:
    """A segment file, before its records."""

    file: str
    segment: int
    previous: int
    file_bytes: int

    def text(self) -> str:
        """Two lines: the second is the heading of the records."""
        after = f"follows segment {self.previous}" if self.previous else "the first one"
        return f"segment   {self.file}: {self.file_bytes} bytes, {after}\n  {'offset':>9}  {'synced':>9}  group  record"

    def json(self) -> dict[str, Any]:
        """One object."""
        return {"type": "segment", **_plain(self)}


@record
class BlockFound:
    """What the header of a block says; `bytes` is its length."""

    term: int
    first: int
    last: int
    bytes: int
    time_us: int


@record
class RecordFound:
    """A record of the log: `value` is typed, None for a header or a mark. `copy`: state, repeated from before."""

    file: str
    offset: int
    kind: str
    group: int
    synced: int
    copy: bool
    value: HardState | SnapshotMark | Truncate | BlockFound | None

    def text(self) -> str:
        """One line."""
        copy = " (copy)" if self.copy else ""
        return f"  {self.offset:>9}  {self.synced:>9}  {self.group:>5}  {self.kind}{copy}{_content(self.value)}"

    def json(self) -> dict[str, Any]:
        """The fields of the value stand beside those of the record."""
        place = {name: getattr(self, name) for name in ("file", "offset", "kind", "group", "synced", "copy")}
        return {"type": "record", **place, **({} if self.value is None else _plain(self.value))}


@record
class EntryFound:
    """One entry of the block before it."""

    index: int
    kind: int
    content: bytes

    def text(self) -> str:
        """One line with the beginning of the content."""
        name = _ENTRY_KINDS[self.kind] if self.kind < len(_ENTRY_KINDS) else f"unknown kind {self.kind}"
        shown = ascii(self.content[:PREVIEW_BYTES])[1:] if self.content else ""
        more = " ..." if len(self.content) > PREVIEW_BYTES else ""
        return f"  {'':>27}  {self.index}: {name}, {len(self.content)} bytes {shown}{more}".rstrip()

    def json(self) -> dict[str, Any]:
        """The whole content, in hexadecimal digits."""
        return {"type": "entry", "index": self.index, "kind": self.kind, "content": self.content.hex()}


@record
class SegmentEnd:
    """What a segment held: entries `first` to `last` (0: none); everything below `synced` is proven durable."""

    file: str
    used_bytes: int
    records: int
    first: int
    last: int
    synced: int

    def text(self) -> str:
        """One line."""
        entries = f"entries {self.first} to {self.last}" if self.last else "no entries"
        return f"  {self.used_bytes} bytes used, {self.records} records, {entries}, proven durable to {self.synced}"

    def json(self) -> dict[str, Any]:
        """One object."""
        return {"type": "segment_end", **_plain(self)}


@record
class TornTail:
    """Bytes behind the last whole record that no sync had covered."""

    file: str
    offset: int
    bytes: int

    def text(self) -> str:
        """One line."""
        return (
            f"torn tail {self.file} at offset {self.offset}: {self.bytes} bytes of a write that was never "
            "acknowledged; harmless, the next start leaves them behind"
        )

    def json(self) -> dict[str, Any]:
        """One object."""
        return {"type": "torn_tail", **_plain(self)}


@record
class SnapshotFound:
    """A snapshot file whose every byte checks. `needed`: the node starts from it."""

    file: str
    index: int
    term: int
    time_us: int
    bytes: int
    needed: bool

    def text(self) -> str:
        """One line."""
        needed = "the node starts from it" if self.needed else "the log does not need it"
        return (
            f"snapshot  {self.file}: index {self.index}, term {self.term}, {moment(self.time_us)}, {self.bytes} bytes, "
            f"verified; {needed}"
        )

    def json(self) -> dict[str, Any]:
        """One object."""
        return {"type": "snapshot", **_plain(self)}


@record
class OtherFile:
    """A file that is neither log nor finished snapshot."""

    file: str
    meaning: str

    def text(self) -> str:
        """One line."""
        return f"file      {self.file}: {self.meaning}"

    def json(self) -> dict[str, Any]:
        """One object."""
        return {"type": "file", **_plain(self)}


@record
class Damage:
    """Something because of which a node refuses to start. `lost`: which entries may be gone, as far as it is known."""

    file: str
    offset: int
    what: str
    lost: str
    remedy: str

    def text(self) -> str:
        """Three lines, or two if no entries are concerned."""
        lost = f"\n          entries: {self.lost}" if self.lost else ""
        return f"DAMAGE    {self.file} at offset {self.offset}: {self.what}{lost}\n          what to do: {self.remedy}"

    def json(self) -> dict[str, Any]:
        """One object."""
        return {"type": "damage", **_plain(self)}


@record
class Summary:
    """What the whole amounts to. `commit` is what the log knew; the cluster may be further."""

    segments: int
    records: int
    term: int
    vote: int
    commit: int
    snapshot_index: int
    last_index: int
    damages: int

    def text(self) -> str:
        """One line."""
        verdict = {0: "clean", 1: "DAMAGED in one place"}.get(self.damages, f"DAMAGED in {self.damages} places")
        return (
            f"{verdict}: {self.records} records, {self.segments} segments; term {self.term}, "
            f"vote {_vote(self.vote)}, commit {self.commit}, snapshot {self.snapshot_index}, last entry "
            f"{self.last_index}"
        )

    def json(self) -> dict[str, Any]:
        """One object."""
        return {"type": "summary", **_plain(self)}


Finding = (
    IdentityFound
    | LockFound
    | SegmentFound
    | RecordFound
    | EntryFound
    | SegmentEnd
    | TornTail
    | SnapshotFound
    | OtherFile
    | Damage
    | Summary
)


def moment(time_us: int) -> str:
    """Microseconds since 1970 as a date in UTC; a number that is no date stays one."""
    try:
        when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    except OverflowError:
        return f"time {time_us} us"
    return when.isoformat(" ", "milliseconds").removesuffix("+00:00") + "Z"


def _content(value: HardState | SnapshotMark | Truncate | BlockFound | None) -> str:
    match value:
        case HardState():
            return f"  term {value.term}, vote {_vote(value.vote)}, commit {value.commit}"
        case SnapshotMark():
            reset = ", replaces the log" if value.reset else ""
            hard = f"term {value.term}, vote {_vote(value.vote)}, commit {value.commit}"
            return f"  {hard}, {_snapshot(value.snapshot)}{reset}"
        case Truncate():
            return f"  entries from {value.index} on are removed"
        case BlockFound():
            count = value.last - value.first + 1
            entries = f"entry {value.first}" if count == 1 else f"entries {value.first} to {value.last} ({count})"
            return f"  term {value.term}, {entries}, {value.bytes} bytes, {moment(value.time_us)}"
        case None:
            return ""


def _snapshot(snapshot: Snapshot) -> str:
    configuration = snapshot.configuration
    members = ", ".join(f"{member.id} at {member.address}" for member in configuration.members)
    state = f"snapshot {snapshot.index} of term {snapshot.term}" if snapshot.index else "empty state"
    return f"{state}, configuration {configuration.version}: {members}"


def _vote(node: int) -> str:
    return str(node) if node else "none"


def _plain(value: Any) -> dict[str, Any]:
    """The fields of a record, for JSON."""
    return {field.name: _json(getattr(value, field.name)) for field in fields(value)}


def _json(value: Any) -> Any:
    match value:
        case Member():
            return _plain(value) | {"incarnation": f"{value.incarnation:016x}", "role": value.role.name.lower()}
        case Snapshot() | Configuration():
            return _plain(value)
        case tuple():
            return [_json(each) for each in value]
        case _:
            return value
