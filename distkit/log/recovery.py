"""Reading a log: which records hold, which were torn off by a crash, and which are damaged.

A crash may tear what was written after the last sync that returned. Rot may hurt anything. Both look like a record
that does not check, so the log carries proof: each record says up to where everything was durable before it was
written, the mark in the last page says it for the last sync of a burst, and the header of a segment says it for its
own head and for the whole of the segment before it. A bad place below a proven offset is damage, an error that names
it. A bad place above is a torn tail, and is left behind. Nothing here writes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, pairwise
from operator import itemgetter
from typing import Final

from distkit._fast.codec import block_info, find_record, scan_records
from distkit.core import Files, IdentityError, LocalError, StorageError, record
from distkit.core.limits import BLOCK_BYTES_MAX
from distkit.log.segment import (
    BLOCK,
    HEADER,
    HEADER_BYTES,
    MARK,
    PAGE,
    RECORD_BYTES_MAX,
    SEGMENT_BYTES_MAX,
    STATE_KIND_MAX,
    STATE_KIND_MIN,
    Record,
    SegmentHeader,
    WalIdentity,
    check_record,
    read_header,
    segment_ids,
    segment_name,
)

#: How much is read at once.
PIECE_BYTES: Final = 1 << 20

#: (offset, kind, group, synced, content): a record and its place.
Placed = tuple[int, int, int, int, bytes]


class DamageError(StorageError):
    """Bytes that were durable do not check any more. The node must not start: what it acknowledged is not all there."""


@dataclass(slots=True)
class Segment:
    """A segment that holds a part of the log: records up to `end`, entries up to `last[group]`."""

    id: int
    end: int
    last: dict[int, int]


@record
class Recovered:
    """What a log holds.

    `records` are the state at the head of the oldest segment and then exactly what was appended, in order; copies of
    the state at later heads are left out. `state` is the newest content for each (group, kind). `proven_state` and
    `unproven` split the records at the last offset that is proven durable, in the newest segment, which ends there
    for good: `Wal.open` writes the unproven ones again. `torn_bytes` lie behind the last whole record.
    """

    identity: WalIdentity
    records: list[Record]
    state: dict[tuple[int, int], bytes]
    segments: list[Segment]
    proven_state: dict[tuple[int, int], bytes]
    unproven: list[Record]
    torn_bytes: int


def recover(files: Files, identity: WalIdentity | None) -> Recovered:
    """Read the log of a directory; change nothing.

    Memory: the records that are returned and two pieces. IdentityError if it is not the log of `identity` (None: any,
    cluster 0: of any cluster) or was written by another release; DamageError names file, offset and lost entries;
    StorageError if there is no log or a read fails.
    """
    with failing("list the log"):
        segments = segment_ids(files.listdir())
    if not segments:
        raise StorageError("there is no log in this directory")
    headers = [segment_header(files, segment, identity) for segment in segments]
    for before, header in pairwise(headers):
        if (header.previous, header.identity) != (before.segment, before.identity):
            raise DamageError(
                f"{segment_name(header.segment)} follows segment {header.previous}, but the newest before it is "
                f"{segment_name(before.segment)}: a file of the log is missing or is not of this log",
                segment_name(header.segment),
            )
    reading = _Reading(files, headers[-1].identity)
    for header, following in zip(headers, [*headers[1:], None], strict=True):
        reading.segment(header, None if following is None else following.previous_end)
    return reading.result()


class Scan:
    """Streams the records of one segment file. `position` is the offset of the first byte that was not taken."""

    def __init__(self, files: Files, handle: int, header: SegmentHeader, end: int) -> None:
        self._files = files
        self._handle = handle
        self._place = (header.identity.cluster, header.identity.node, header.segment)
        self._end = end
        self._mark_at = header.size - PAGE
        self.position = 0
        #: Offset behind the last byte that is not zero, among those before the page of the mark that `beyond` has read.
        self.used = 0

    def records(self) -> Iterator[list[Placed]]:
        """The records from the start up to the first that does not check, or to the end."""
        data = b""
        while True:
            piece = self._read(self.position + len(data))
            data += piece
            found, taken = scan_records(data, 0, *self._place, self.position, BLOCK_BYTES_MAX)
            yield found
            self.position += taken
            data = data[taken:]
            if not piece or len(data) >= RECORD_BYTES_MAX:
                return

    def beyond(self, start: int) -> Iterator[Placed]:
        """All whole records at any multiple of 8 from `start` on, whatever lies between them."""
        data = b""
        while True:
            piece = self._read(start + len(data))
            piece_at = start + len(data)
            if used := len(piece[: max(0, self._mark_at - piece_at)].rstrip(b"\0")):
                self.used = piece_at + used
            data += piece
            taken = 0
            while (at := find_record(data, taken, *self._place, start, BLOCK_BYTES_MAX)) >= 0:
                found, taken = scan_records(data, at, *self._place, start, BLOCK_BYTES_MAX)
                yield from found
            if not piece:
                return
            # A record that is not whole yet begins in the last RECORD_BYTES_MAX bytes.
            taken = max(taken, len(data) - RECORD_BYTES_MAX & ~7)
            start += taken
            data = data[taken:]

    def _read(self, offset: int) -> bytes:
        return self._files.pread(self._handle, max(0, min(PIECE_BYTES, self._end - offset)), offset)


class _Reading:
    """What was read so far."""

    def __init__(self, files: Files, identity: WalIdentity) -> None:
        self._files = files
        self._identity = identity
        self._records: list[Record] = []
        self._state: dict[tuple[int, int], bytes] = {}
        self._segments: list[Segment] = []
        self._newest: dict[int, tuple[int, int]] = {}  # group: (index, term) of the last block
        self._proven_state: dict[tuple[int, int], bytes] = {}
        self._unproven: list[Record] = []
        self._torn_bytes = 0

    def result(self) -> Recovered:
        return Recovered(
            identity=self._identity,
            records=self._records,
            state=self._state,
            segments=self._segments,
            proven_state=self._proven_state,
            unproven=self._unproven,
            torn_bytes=self._torn_bytes,
        )

    def segment(self, header: SegmentHeader, end: int | None) -> None:
        """Take the records of one segment, which ends at `end`, or where its records end if it is the newest."""
        name = segment_name(header.segment)
        with failing("read the log", name):
            handle = self._files.open(name)
            try:
                size = self._files.size(handle)
                if end is None and size < header.size:
                    raise DamageError(f"the file has lost its end: {size} of {header.size} bytes are there", name, size)
                scan = Scan(self._files, handle, header, size if end is None else end)
                placed = list(chain.from_iterable(scan.records()))
                if end is None:
                    self._find_end(scan, header, placed, name)
                elif scan.position != end:
                    raise self._damage(scan, header, placed, name, end)
                else:
                    self._keep(header, placed, name, end)
            finally:
                self._files.close(handle)

    def _find_end(self, scan: Scan, header: SegmentHeader, placed: list[Placed], name: str) -> None:
        """Judge the first bad place of the newest segment by what the records behind it say."""
        bad = scan.position
        proven = max([header.head_end, *(synced for _, _, _, synced, _ in placed[-1:])])  # it never falls in a file
        torn_end = bad
        for offset, kind, _, synced, content in scan.beyond(bad):
            proven = max(proven, synced)
            if kind != MARK:
                torn_end = max(torn_end, offset + len(content))
        if proven > bad:
            raise self._damage(scan, header, placed, name, proven)
        self._torn_bytes = max(scan.used, torn_end) - bad
        at = bisect_left(placed, proven, key=itemgetter(0))
        self._keep(header, placed[:at], name, proven)
        self._proven_state = self._state.copy()
        count = len(self._records)
        self._note(header, placed[at:], name)
        self._unproven = self._records[count:]

    def _keep(self, header: SegmentHeader, placed: list[Placed], name: str, end: int) -> None:
        last = self._note(header, placed, name)
        self._segments.append(Segment(header.segment, end, last))

    def _note(self, header: SegmentHeader, placed: list[Placed], name: str) -> dict[int, int]:
        """Take the records that a segment does not only repeat; returns the last index of each group in them."""
        last: dict[int, int] = {}
        add = self._records.append
        for offset, kind, group, _, content in placed:
            if STATE_KIND_MIN <= kind <= STATE_KIND_MAX:
                if offset < header.state_end and self._segments:
                    if self._state.get((group, kind)) != content:
                        raise DamageError("the state at the head is not that of the log before it", name, offset)
                    continue
                note_state(self._state, group, kind, content)
            elif kind in (HEADER, MARK):
                continue
            else:
                try:
                    index = check_record(kind, content)
                except LocalError as error:
                    raise StorageError(f"a record cannot be read: {error}", name, offset) from None
                if kind == BLOCK:
                    self._newest[group] = (index, block_info(content)[0])
                    if index > last.get(group, 0):
                        last[group] = index
            add((kind, group, content))
        return last

    def _damage(self, scan: Scan, header: SegmentHeader, placed: list[Placed], name: str, proven: int) -> DamageError:
        """The error for a bad place at scan.position; says which entries it took, as far as the rest tells."""
        bad = scan.position
        self._note(header, placed, name)
        following: dict[int, tuple[int, int]] = {}
        for _, kind, group, _, content in scan.beyond(bad):
            if kind == BLOCK and group not in following:
                term, first, _, _ = block_info(content)
                following[group] = (first, term)
        lost = []
        for group in sorted(self._newest.keys() | following.keys()):
            index, term = self._newest.get(group, (0, 0))
            begin = f"after index {index} (term {term})" if index else "from the start"
            until = "before index {} (term {})".format(*following[group]) if group in following else "to the end"
            lost.append(f"group {group}: {begin} {until}")
        return DamageError(
            f"damage in the log: everything up to offset {proven} was durable, but the record at offset {bad} does "
            f"not check; entries may be lost: {'; '.join(lost) or 'unknown'}. The node must not start with it: "
            f"replace this member, or bring the file back from a copy of this same directory",
            name,
            bad,
        )


def segment_header(files: Files, segment: int, expected: WalIdentity | None) -> SegmentHeader:
    """The header of one segment, checked against the expected identity. Errors as those of `recover`."""
    name = segment_name(segment)
    with failing("read the log", name):
        handle = files.open(name)
        try:
            header = read_header(files, handle, segment)
            size = files.size(handle)
        finally:
            files.close(handle)
    if size > SEGMENT_BYTES_MAX:
        raise DamageError(f"the file is {size} bytes long, a segment has {SEGMENT_BYTES_MAX} at most", name, size)
    found = header.identity
    if not HEADER_BYTES <= header.state_end <= header.head_end <= header.size - PAGE:
        raise DamageError("the header of this log segment contradicts itself", name, 0)
    if expected is None:
        return header
    if found.node != expected.node:
        raise IdentityError(f"{name} is of node {found.node}, this is node {expected.node}: use the node's directory")
    if found.incarnation != expected.incarnation:
        raise IdentityError(
            f"{name} is of incarnation {found.incarnation:016x} of node {found.node}, this directory is incarnation "
            f"{expected.incarnation:016x}: files of two directories were mixed; bring back the directory as it was"
        )
    if expected.cluster and found.cluster != expected.cluster:
        raise IdentityError(
            f"{name} is of cluster {found.cluster:016x}, this node is of cluster {expected.cluster:016x}: "
            f"use the directory that belongs to it"
        )
    return header


def note_state(state: dict[tuple[int, int], bytes], group: int, kind: int, content: bytes) -> None:
    """Replace older state; kept in the order in which it was written, since copies of it are replayed in that order."""
    state.pop((group, kind), None)
    state[group, kind] = content


@contextmanager
def failing(what: str, name: str | None = None) -> Iterator[None]:
    """Turn an OSError into the StorageError that says what could not be done."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot {what}: {error}", name) from error
