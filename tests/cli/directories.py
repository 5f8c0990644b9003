"""Data directories for the tests of the command line, made with the real log."""

from pathlib import Path

from distkit._fast.codec import encode_block
from distkit.core import Configuration, Files, Member
from distkit.log import SnapshotWriter, Wal, WalIdentity, WalOptions, open_identity
from distkit.raft import Snapshot, formation_records
from distkit.raft.messages import Entries, HardState, SnapshotMark, Truncate
from distkit.replica import encoded

NODE, INCARNATION, CLUSTER = 1, 0xABC, 0xC1
TIME_US = 1_790_000_000_000_000
CONFIGURATION = Configuration(1, tuple(Member(node, 0xA00 + node, f"127.0.0.1:710{node}") for node in (1, 2)))
#: Small enough that a test of every byte is quick.
SMALL = WalOptions(first_segment_bytes=8192, segment_bytes=8192, reserve_bytes=4096)


def block(term: int, first: int, *contents: bytes) -> Entries:
    """Commands from index `first` on; one without content is an empty entry."""
    return Entries(encode_block(term, first, TIME_US, bytes(map(bool, contents)), contents))


class Node:
    """A node that only writes: identity, log and snapshots of a directory."""

    def __init__(self, files: Files, options: WalOptions = SMALL) -> None:
        self.files = files
        self.identity = open_identity(self.files, NODE, INCARNATION)
        if Wal.exists(self.files):
            self.wal, _ = Wal.open(self.files, WalIdentity(CLUSTER, NODE, INCARNATION), options)
        else:
            records = encoded(formation_records(CONFIGURATION))
            self.wal = Wal.create(self.files, WalIdentity(CLUSTER, NODE, INCARNATION), records, options)
            self.identity.formed(CLUSTER)

    def append(self, *records: object) -> None:
        """A batch, not durable yet."""
        self.wal.append(encoded(records))

    def write(self, *records: object) -> None:
        """A batch, durable."""
        self.append(*records)
        self.wal.sync()

    def snapshot(self, index: int, term: int, *chunks: bytes) -> None:
        """A snapshot file and its mark in the log."""
        writer = SnapshotWriter(self.files, CLUSTER, index, term, TIME_US, b"")
        for chunk in chunks:
            writer.write(chunk)
        size = writer.finish().size
        self.write(SnapshotMark(term, 1, index, False, 0, Snapshot(index, term, TIME_US, size, 0, CONFIGURATION)))

    def stop(self) -> None:
        """As after a clean end: the last sync is proven."""
        self.wal.mark()
        self.crash()

    def crash(self) -> None:
        """Give log and lock back as they are."""
        self.wal.close()
        self.identity.close()


def two_segments(files: Files) -> None:
    """Five entries in two starts, one of them truncated away, a snapshot of the first two."""
    node = Node(files)
    node.write(HardState(1, 1, 0), block(1, 1, b""))
    node.write(HardState(1, 1, 1), block(1, 2, b"hello", b"x" * 60, b"gone"))
    node.stop()
    node = Node(files)
    node.write(Truncate(4), HardState(2, 2, 2), block(2, 4, b"new"))
    node.snapshot(2, 1, b"state")
    node.stop()


def contents(path: Path) -> dict[str, bytes]:
    """The bytes of every file."""
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}
