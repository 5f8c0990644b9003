"""Looking through a data directory from its identity to its last record, damage included.

It judges as `distkit.log.recover` does, and goes on where that stops: whoever repairs a cluster wants to know what is
left. A running node may write meanwhile, so what looks wrong is read once more before it is called damage: the proof
that it was durable was written after it. Memory: a few pieces of a file, and the newest state.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

from distkit._fast.codec import block_entries, block_info
from distkit.cli.findings import (
    BlockFound,
    Damage,
    EntryFound,
    Finding,
    IdentityFound,
    OtherFile,
    RecordFound,
    SegmentEnd,
    SegmentFound,
    SnapshotFound,
    Summary,
    TornTail,
)
from distkit.codec import Registry
from distkit.core import Files, IdentityError, LocalError, PeerError, StorageError, record
from distkit.log import (
    BLOCK,
    Scan,
    SegmentHeader,
    SnapshotReader,
    list_snapshots,
    read_identity,
    segment_header,
    segment_ids,
    segment_name,
    snapshot_name,
)
from distkit.log.recovery import Placed, failing
from distkit.log.segment import HEADER, MARK, NEXT, STATE_KIND_MAX, STATE_KIND_MIN
from distkit.raft.messages import PARTS, RECORDS, Entries, HardState, SnapshotMark, Truncate

_RESTORE = (
    "the node must not start with it. Bring the file back from a copy of this same directory, or replace the member "
    "(docs/operations.md)"
)
_REGISTRY = Registry(RECORDS, parts=PARTS)
_OWN_KINDS = {HEADER: "SegmentHeader", MARK: "Mark"}
#: Where entries do not follow each other; remembered until it is known whether the newest snapshot covers it.
_BREAKS_MAX = 64

Value = HardState | SnapshotMark | Truncate | BlockFound


class Inspection:
    """One look at a directory. With `entries`, each entry of each block is a finding too."""

    def __init__(self, files: Files, entries: bool) -> None:
        self._files = files
        self._entries = entries
        self._identity: IdentityFound | None = None
        self._state: dict[tuple[int, int], bytes] = {}
        self._unreadable: set[int] = set()
        self._state_hole = False  # records are missing, so the state at the next head need not fit
        self._entry_hole = False  # the same for the next entry
        self._before = 0  # the segment that was read before
        self._breaks: list[_Break] = []
        self._last = 0  # index of the last entry of group 0
        self._mark: SnapshotMark | None = None
        self._term = self._vote = self._commit = 0
        self._segments = self._records = self._damages = 0

    @property
    def damages(self) -> int:
        """Number of damages found so far."""
        return self._damages

    def findings(self) -> Iterator[Finding]:
        """Everything in order; the last one is the summary.

        IdentityError: nothing here is of distkit, or another release wrote it. StorageError: a file cannot be read.
        """
        names = self._names()
        segments = segment_ids(names)
        snapshots = list_snapshots(self._files)
        if not segments and not snapshots and "identity" not in names:
            raise IdentityError(
                "this is no data directory of distkit: there is no identity, no log and no snapshot in it"
                if names
                else "the directory is empty: no node was ever started here"
            )
        yield from self._identify(names, bool(segments))
        header = yield from self._following(0)
        while header is not None:
            header = yield from self._segment(header)
        yield from self._judge_breaks()
        yield from self._snapshots(snapshots)
        yield from _others(names, {name for _, _, name in snapshots})
        snapshot_index = 0 if self._mark is None else self._mark.snapshot.index
        yield Summary(
            self._segments,
            self._records,
            self._term,
            self._vote,
            self._commit,
            snapshot_index,
            max(self._last, snapshot_index),
            self._damages,
        )

    def _names(self) -> list[str]:
        with failing("list the directory"):
            return self._files.listdir()

    def _damage(self, file: str, offset: int, what: str, lost: str = "", remedy: str = _RESTORE) -> Damage:
        self._damages += 1
        return Damage(file, offset, what, lost, remedy)

    def _note_hole(self) -> None:
        self._state_hole = self._entry_hole = True

    # -- the identity -------------------------------------------------------------------------------------------------

    def _identify(self, names: list[str], has_log: bool) -> Iterator[Finding]:
        try:
            found = read_identity(self._files)
        except IdentityError as error:
            yield self._damage("identity", 0, str(error))
            return
        if found is None:
            yield self._damage("identity", 0, "there is a log or a snapshot, but no identity")
            return
        self._identity = IdentityFound(found.node, found.incarnation, found.boot, found.cluster)
        yield self._identity
        if found.cluster and not has_log:
            what = f"node {found.node} is a member of cluster {found.cluster:016x}, but its log is gone"
            yield self._damage("identity", 0, what)

    def _stranger(self, header: SegmentHeader) -> str:
        """What of a segment does not fit to the directory; empty if it is the directory's own."""
        own, found = self._identity, header.identity
        if own is None:
            return ""
        if found.node != own.node:
            return f"this segment is of node {found.node}, the directory of node {own.node}"
        if found.incarnation != own.incarnation:
            return f"this segment is of incarnation {found.incarnation:016x}, the directory of {own.incarnation:016x}"
        if own.cluster and found.cluster != own.cluster:
            return f"this segment is of cluster {found.cluster:016x}, the directory of {own.cluster:016x}"
        return ""

    # -- segments -----------------------------------------------------------------------------------------------------

    def _following(self, segment: int) -> Generator[Finding, None, SegmentHeader | None]:
        """The header of the next segment that has one; those that are damaged are findings, once."""
        for following in segment_ids(self._names()):
            if following <= segment or following in self._unreadable:
                continue
            name = segment_name(following)
            try:
                return segment_header(self._files, following, None)
            except StorageError as error:
                if isinstance(error.__cause__, FileNotFoundError):
                    continue  # a running node has deleted it meanwhile
                if isinstance(error.__cause__, OSError):
                    raise
                self._unreadable.add(following)
                yield self._damage(name, error.offset or 0, _words(error), "those of this file cannot be listed")
        return None

    def _segment(self, header: SegmentHeader) -> Generator[Finding, None, SegmentHeader | None]:
        """All about one segment; returns the header of the next one."""
        name = segment_name(header.segment)
        following = yield from self._following(header.segment)
        try:
            handle = self._files.open(name)
        except FileNotFoundError:
            return following  # as above
        except OSError as error:
            raise StorageError(f"cannot read the log: {error}", name) from error
        try:
            with failing("read the log", name):
                size = self._files.size(handle)
                yield SegmentFound(name, header.segment, header.previous, size)
                if stranger := self._stranger(header):
                    yield self._damage(name, 0, stranger)
                if self._before and self._before != header.previous:
                    self._note_hole()
                part = _Part(self._files, handle, header, size, oldest=not self._before, unsure=self._state_hole)
                self._state_hole = False
                self._before = header.segment
                self._segments += 1
                if following is None:
                    yield from self._sound(part)
                    following = yield from self._following(header.segment)
                if following is None:
                    yield from self._newest_end(part, size)
                else:
                    yield from self._stated_end(part, following)
                yield SegmentEnd(name, part.scan.position, part.records, part.first, part.last, part.proven)
        finally:
            self._files.close(handle)
        return following

    def _sound(self, part: _Part) -> Iterator[Finding]:
        """The records from where the scan stands to the first that does not check."""
        for found in part.scan.records():
            for placed in found:
                yield from self._record(part, placed)

    def _stated_end(self, part: _Part, following: SegmentHeader) -> Iterator[Finding]:
        """The rest of a segment that another one follows: it says where this one ends."""
        header, end = part.header, following.previous_end
        if (following.previous, following.identity) != (header.segment, header.identity):
            yield from self._sound(part)
            if not self._unreadable & set(range(header.segment, following.segment)):
                what = f"it follows segment {following.previous}, but the newest before it is segment {header.segment}"
                yield self._damage(segment_name(following.segment), 0, what, "those of a missing file")
            return
        if part.scan.position > end:
            raise LocalError("the node was started again while its log was read: run this once more")
        part.limit(end)
        yield from self._sound(part)
        if part.scan.position != end:
            yield from self._hole(part, end)
        part.proven = end

    def _newest_end(self, part: _Part, size: int) -> Iterator[Finding]:
        """The end of the newest segment: where a crash may have torn, and a running node may be writing."""
        if any(segment > part.header.segment for segment in self._unreadable):
            return  # it is not the newest, and what is would say where it ends
        if size < part.header.size:
            what = f"the file has lost its end: {size} of {part.header.size} bytes are there"
            yield self._damage(part.name, size, what, "those behind the last one shown")
            return
        part.weigh()
        while part.proven > part.scan.position:
            bad = part.scan.position
            yield from self._sound(part)
            if part.scan.position == bad:
                yield from self._hole(part, part.proven)
                return
            part.weigh()
        if part.mark is not None:
            yield from self._record(part, part.mark)
        if part.torn_bytes:
            yield TornTail(part.name, part.scan.position, part.torn_bytes)

    def _hole(self, part: _Part, proven: int) -> Iterator[Finding]:
        """Damage at the position of the scan, and the records behind it."""
        bad, last = part.scan.position, self._last
        first = next((block_info(each[4])[1] for each in part.scan.beyond(bad) if each[1] == BLOCK), None)
        if first is None:
            lost = f"{last + 1} and later ones of this segment"
        elif first > last + 1:
            lost = f"{last + 1} to {first - 1}"
        else:
            lost = "none, but a record of state (term, vote) or a truncation"
        what = f"everything up to offset {proven} was durable, but the record here does not check"
        yield self._damage(part.name, bad, what, lost)
        self._note_hole()
        for placed in part.scan.beyond(bad):
            yield from self._record(part, placed)

    # -- records ------------------------------------------------------------------------------------------------------

    def _record(self, part: _Part, placed: Placed) -> Iterator[Finding]:
        offset, kind, group, synced, content = placed
        part.note(placed)
        self._records += 1
        if kind in _OWN_KINDS:
            yield RecordFound(part.name, offset, _OWN_KINDS[kind], group, synced, False, None)
            return
        copy = offset < part.header.state_end and not part.oldest
        if copy and not part.unsure and self._state.get((group, kind)) != content:
            yield self._damage(part.name, offset, "the state at the head is not that of the log before it")
        if STATE_KIND_MIN <= kind <= STATE_KIND_MAX:
            self._state[group, kind] = content
        try:
            value = _value(kind, content)
        except PeerError as error:
            what = f"the record checks, but this release cannot read it: {error}"
            yield self._damage(part.name, offset, what, remedy="run the release of distkit that wrote it")
            self._note_hole()
            return
        yield RecordFound(part.name, offset, _name(value), group, synced, copy, value)
        if isinstance(value, BlockFound):
            part.first = part.first or value.first
            part.last = max(part.last, value.last)
            if self._entries:
                kinds_and_contents = block_entries(content, value.first, value.last)
                for index, (entry_kind, entry) in enumerate(kinds_and_contents, value.first):
                    yield EntryFound(index, entry_kind, entry)
        if group == 0:
            self._follow(value, copy, part.name, offset)

    def _follow(self, value: Value, copy: bool, name: str, offset: int) -> None:
        """Keep track of what the log of group 0 amounts to."""
        match value:
            case HardState() | SnapshotMark():
                self._term, self._vote = max((self._term, self._vote), (value.term, value.vote))
                self._commit = max(self._commit, value.commit)
                if isinstance(value, SnapshotMark):
                    if self._mark is None or value.snapshot.index >= self._mark.snapshot.index:
                        self._mark = value
                    if value.reset and not copy:
                        self._last = value.snapshot.index
            case Truncate():
                self._last = min(self._last, value.index - 1)
            case BlockFound():
                last, self._last = self._last, value.last
                hole_before, self._entry_hole = self._entry_hole, False
                if hole_before or value.first == last + 1 or len(self._breaks) == _BREAKS_MAX:
                    return
                if value.first > last:
                    self._breaks.append(_Break(name, offset, last + 1, value.first - 1, "are missing"))
                else:
                    self._breaks.append(_Break(name, offset, value.first, last, "are in the log twice"))

    def _judge_breaks(self) -> Iterator[Finding]:
        """Entries that do not follow each other matter only behind the newest snapshot."""
        covered = 0 if self._mark is None else self._mark.snapshot.index
        for each in self._breaks:
            first = max(each.first, covered + 1)
            if first <= each.last:
                lost = f"{first} to {each.last}"
                yield self._damage(each.file, each.offset, f"entries before this one {each.what}", lost)

    # -- snapshots ----------------------------------------------------------------------------------------------------

    def _snapshots(self, listed: list[tuple[int, int, str]]) -> Iterator[Finding]:
        """Snapshot files as they were listed before the log was read, so that the log's newest one is among them."""
        snapshot = None if self._mark is None else self._mark.snapshot
        needed = snapshot_name(snapshot.index, snapshot.term) if snapshot is not None and snapshot.index else ""
        for index, term, name in listed:
            yield from self._snapshot(index, term, name, needed)
        if snapshot is None or not needed or needed in (name for _, _, name in listed):
            return
        now = list_snapshots(self._files)
        if now == listed:
            what = f"the log begins behind snapshot {snapshot.index}, and its file is missing"
            yield self._damage(needed, 0, what, f"1 to {snapshot.index}")
        elif needed in (name for _, _, name in now):  # a running node has made it meanwhile
            yield from self._snapshot(snapshot.index, snapshot.term, needed, needed)

    def _snapshot(self, index: int, term: int, name: str, needed: str) -> Iterator[Finding]:
        remedy = _RESTORE if name == needed else "the log does not need this file: move it away"
        try:
            with SnapshotReader(self._files, name) as reader:
                for _ in reader:
                    pass
                info = reader.info
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return  # a running node has deleted it meanwhile
            if isinstance(error.__cause__, OSError):
                raise
            yield self._damage(name, error.offset or 0, _words(error), f"1 to {index}", remedy)
            return
        cluster = 0 if self._identity is None else self._identity.cluster
        if (info.index, info.term) != (index, term) or cluster not in (0, info.cluster):
            what = f"it holds snapshot {info.index} of term {info.term} of cluster {info.cluster:016x}: it was renamed"
            yield self._damage(name, 0, what, f"1 to {index}", remedy)
            return
        yield SnapshotFound(name, index, term, info.time_us, info.size, name == needed)


@record
class _Break:
    """A block that does not begin where the log ended: what is wrong with entries `first` to `last`."""

    file: str
    offset: int
    first: int
    last: int
    what: str


class _Part:
    """The reading of one segment."""

    def __init__(
        self, files: Files, handle: int, header: SegmentHeader, size: int, *, oldest: bool, unsure: bool
    ) -> None:
        self._files = files
        self._handle = handle
        self.name = segment_name(header.segment)
        self.header = header
        self.oldest = oldest
        self.unsure = unsure
        self.scan = Scan(files, handle, header, size)
        self.records = self.first = self.last = 0
        self.proven = header.head_end
        self.mark: Placed | None = None
        self.torn_bytes = 0

    def limit(self, end: int) -> None:
        """The segment ends here."""
        position = self.scan.position
        self.scan = Scan(self._files, self._handle, self.header, end)
        self.scan.position = position

    def note(self, placed: Placed) -> None:
        """Count a record."""
        self.records += 1
        self.proven = max(self.proven, placed[3])

    def weigh(self) -> None:
        """Look behind the position of the scan: what is proven durable, and what else lies there."""
        bad = self.scan.position
        for placed in self.scan.beyond(bad):
            self.proven = max(self.proven, placed[3])
            if placed[1] == MARK:
                self.mark = placed
        self.torn_bytes = max(0, self.scan.used - bad)


def _value(kind: int, content: bytes) -> Value:
    """The typed value of a record. PeerError if this release does not know it."""
    value = _REGISTRY.decode_body(kind, content)
    if isinstance(value, Entries):
        term, first, count, time_us = block_info(content)
        return BlockFound(term, first, first + count - 1, len(content), time_us)
    known: Value = value
    return known


def _name(value: Value) -> str:
    return "Block" if isinstance(value, BlockFound) else type(value).__name__


def _words(error: StorageError) -> str:
    """An error without the place, which a finding says itself."""
    return str(error).rpartition(" [")[0] or str(error)


def _others(names: list[str], snapshots: set[str]) -> Iterator[Finding]:
    for name in names:
        if name in ("identity", "lock") or segment_ids([name]):
            continue
        if name == NEXT:
            yield OtherFile(name, "space claimed for the next segment of the log")
        elif name == "identity.tmp" or (name.startswith("snap-") and name.endswith((".tmp", ".part"))):
            yield OtherFile(name, "unfinished; the node removes it or goes on with it")
        elif name not in snapshots:
            yield OtherFile(name, "not of distkit")
