"""Logs to break: records that are all different, a disk in memory, and what must be true of whatever was recovered."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from distkit._fast.codec import encode_block
from distkit.log import BLOCK, TRUNCATE, Record, Recovered, Wal, WalIdentity, WalOptions
from distkit.sim import MemoryFiles

OWNER = WalIdentity(cluster=0xC1, node=3, incarnation=0x1F)
SMALL = WalOptions(first_segment_bytes=12 << 10, segment_bytes=12 << 10, reserve_bytes=8 << 10)
HARD, MARKER = 64, 65
FIRST_STATE: list[Record] = [(HARD, 0, b"born"), (MARKER, 0, b"snapshot 0")]


def block(index: int, term: int = 1, size: int = 100) -> Record:
    """A block of one entry, whose payload names it."""
    payload = f"entry {index} of term {term} ".encode().ljust(size, b".")
    return BLOCK, 0, encode_block(term, index, 0, b"\1", [payload])


def hard(text: object) -> Record:
    return HARD, 0, f"hard state {text}".encode()


def batch(index: int, term: int = 1, size: int = 100) -> list[Record]:
    """What a machine writes for one entry: the hard state, then the entry."""
    return [hard(index), block(index, term, size)]


def truncate(index: int) -> Record:
    return TRUNCATE, 0, index.to_bytes(8, "little")


class Writer:
    """Uses a log and knows what it must hold: `appended` in order, of which `acked` records were synced."""

    def __init__(self, files: MemoryFiles, options: WalOptions = SMALL) -> None:
        self.files = files
        self.options = options
        self.appended: list[Record] = []
        self.acked = 0
        self.created = False
        self.released = 0
        self.wal: Wal

    def create(self) -> None:
        self.wal = Wal.create(self.files, OWNER, FIRST_STATE, self.options)
        self.created = True

    def append(self, records: list[Record]) -> None:
        self.appended += records  # noted first: a crash in the call may keep any part of it
        self.wal.append(records)

    def sync(self) -> None:
        self.wal.sync()
        self.acked = len(self.appended)

    def release(self, index: int) -> None:
        self.released = max(self.released, index)
        self.wal.release(0, index)

    def reopen(self) -> Recovered:
        """Open what a crash left; everything that must hold of it is checked."""
        self.wal, recovered = Wal.open(self.files, OWNER, self.options)
        self.check(recovered)
        # From here on the log is what was recovered.
        self.appended = self.appended[: self.kept(recovered)]
        self.acked = len(self.appended)
        return recovered

    def check(self, recovered: Recovered) -> None:
        """Nothing synced is missing, nothing was invented, reordered or left out; released entries may be gone."""
        kept = self.kept(recovered)
        assert kept >= self.acked, f"{self.acked - kept} records that were synced are gone"
        assert recovered.state == newest(FIRST_STATE + self.appended[:kept])

    def kept(self, recovered: Recovered) -> int:
        """How many of `appended` survived."""
        history = FIRST_STATE + self.appended
        for begin in range(len(history) + 1):
            head = len(newest(history[:begin]))
            state, rest = recovered.records[:head], recovered.records[head:]
            if dict(keyed(state)) == newest(history[:begin]) and history[begin : begin + len(rest)] == rest:
                missing = [
                    r for r in history[:begin] if r[0] == BLOCK and int(r[2][48 + 8 :].split()[1]) > self.released
                ]
                assert not missing, "entries that were not released are gone"
                return begin + len(rest) - len(FIRST_STATE)
        raise AssertionError("what was recovered is no run of what was appended")


def keyed(records: list[Record]) -> Iterator[tuple[tuple[int, int], bytes]]:
    return (((group, kind), content) for kind, group, content in records if kind < BLOCK)


def newest(records: list[Record]) -> dict[tuple[int, int], bytes]:
    return dict(keyed(records))


def entries(records: list[Record]) -> list[tuple[int, bytes]]:
    """The log that records amount to: (index, block), after truncations."""
    log: list[tuple[int, bytes]] = []
    for kind, _, content in records:
        if kind == BLOCK:
            log.append((int.from_bytes(content[16:24], "little"), content))
        elif kind == TRUNCATE:
            log = [entry for entry in log if entry[0] < int.from_bytes(content, "little")]
    return log


Script = Callable[[Writer], None]


def busy(writer: Writer) -> None:
    """Everything that a log does, in few calls: batches, several in one sync, cuts, marks, releases."""
    writer.create()
    for index in range(1, 25):
        writer.append(batch(index, size=1500))
        if index % 3 == 1:
            writer.sync()
        if index % 8 == 0:
            writer.sync()
            writer.wal.mark()
        if index == 12:
            writer.release(7)
    writer.sync()
    writer.release(22)  # several segments at once
    writer.wal.mark()


def calls_of(script: Script) -> list[str]:
    """The calls of the disk that a script makes when nothing goes wrong."""
    writer = Writer(MemoryFiles())
    writer.files.tracing = True
    script(writer)
    return [call for call, _ in writer.files.calls]


def image(files: MemoryFiles) -> dict[str, bytes]:
    return {name: files.read(name) for name in files.listdir()}


def synced_log() -> tuple[MemoryFiles, list[Record]]:
    """A log of two segments, all of it synced and marked, in as few bytes as possible."""
    writer = Writer(MemoryFiles(), SMALL)
    writer.create()
    for index in range(1, 10):
        writer.append(batch(index, size=1300 if index < 7 else 40))
        writer.sync()
    writer.wal.mark()
    writer.wal.close()
    assert len(writer.files.listdir()) == 3
    return writer.files, FIRST_STATE + writer.appended
