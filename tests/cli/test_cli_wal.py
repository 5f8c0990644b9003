"""`python -m distkit wal`: what it prints of whole, torn and damaged directories, and that it never changes one."""

import errno
import json
import os
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from directories import Node, block, contents, two_segments

from distkit._fast.codec import crc32c, encode_records
from distkit.cli import commands
from distkit.log import segment_name
from distkit.raft.messages import HardState
from distkit.replica import encoded
from distkit.storage import DiskFiles

CLEAN = """\
lock      free
identity  node 1, incarnation 0000000000000abc, start 2, cluster 00000000000000c1
segment   wal-0000000000000001: 608 bytes, the first one
     offset     synced  group  record
          0          0      0  SegmentHeader
        104          0      0  SnapshotMark  term 0, vote none, commit 0, empty state, configuration 1: \
1 at 127.0.0.1:7101, 2 at 127.0.0.1:7102
        264        264      0  HardState  term 1, vote 1, commit 0
        312        264      0  Block  term 1, entry 1, 56 bytes, 2026-09-21 14:13:20.000Z
        392        392      0  HardState  term 1, vote 1, commit 1
        440        392      0  Block  term 1, entries 2 to 4 (3), 141 bytes, 2026-09-21 14:13:20.000Z
  608 bytes used, 6 records, entries 1 to 4, proven durable to 608
segment   wal-0000000000000002: 12288 bytes, follows segment 1
     offset     synced  group  record
          0          0      0  SegmentHeader
        104          0      0  SnapshotMark (copy)  term 0, vote none, commit 0, empty state, configuration 1: \
1 at 127.0.0.1:7101, 2 at 127.0.0.1:7102
        264          0      0  HardState (copy)  term 1, vote 1, commit 1
        312        312      0  Truncate  entries from 4 on are removed
        344        312      0  HardState  term 2, vote 2, commit 2
        392        312      0  Block  term 2, entry 4, 59 bytes, 2026-09-21 14:13:20.000Z
        480        480      0  SnapshotMark  term 1, vote 1, commit 2, snapshot 2 of term 1, configuration 1: \
1 at 127.0.0.1:7101, 2 at 127.0.0.1:7102
       8192        640      0  Mark
  640 bytes used, 8 records, entries 4 to 4, proven durable to 640
snapshot  snap-0000000000000002-0000000000000001: index 2, term 1, 2026-09-21 14:13:20.000Z, 85 bytes, verified; \
the node starts from it
file      next: space claimed for the next segment of the log
clean: 14 records, 2 segments; term 2, vote 2, commit 2, snapshot 2, last entry 4
"""
FIRST, SECOND = segment_name(1), segment_name(2)
SNAPSHOT = "snap-0000000000000002-0000000000000001"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    two_segments(DiskFiles(tmp_path / "1"))
    return tmp_path / "1"


def wal(path: Path, *options: str) -> Result:
    """The command, which must not change a byte or a name."""
    before = {name: sha256(data).digest() for name, data in contents(path).items()}
    result = CliRunner().invoke(commands, ["wal", str(path), *options])
    assert {name: sha256(data).digest() for name, data in contents(path).items()} == before
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def objects(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def of_type(result: Result, kind: str) -> list[dict[str, object]]:
    return [each for each in objects(result) if each["type"] == kind]


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


# -- whole directories ------------------------------------------------------------------------------------------------


def test_a_whole_directory_is_shown_from_identity_to_snapshot(directory: Path) -> None:
    result = wal(directory)
    assert result.stdout == CLEAN
    assert result.exit_code == 0


def test_entries_are_shown_with_the_beginning_of_their_content(directory: Path) -> None:
    lines = wal(directory, "--entries").stdout.splitlines()
    assert [line.strip() for line in lines if line.startswith(" " * 28)] == [
        "1: empty, 0 bytes",
        "2: command, 5 bytes 'hello'",
        "3: command, 60 bytes '" + 48 * "x" + "' ...",
        "4: command, 4 bytes 'gone'",
        "4: command, 3 bytes 'new'",
    ]


def test_json_is_one_object_a_line_with_whole_contents(directory: Path) -> None:
    result = wal(directory, "--json", "--entries")
    assert result.exit_code == 0
    assert of_type(result, "identity") == [
        {
            "type": "identity",
            "node": 1,
            "incarnation": "0000000000000abc",
            "boot": 2,
            "cluster": "00000000000000c1",
        }
    ]
    assert [each["content"] for each in of_type(result, "entry")] == [
        each.hex() for each in (b"", b"hello", b"x" * 60, b"gone", b"new")
    ]
    marks = [each for each in of_type(result, "record") if each["kind"] == "SnapshotMark"]
    snapshot = marks[-1]["snapshot"]
    assert isinstance(snapshot, dict)
    assert snapshot["configuration"]["members"][1] == {
        "id": 2,
        "incarnation": "0000000000000a02",
        "address": "127.0.0.1:7102",
        "role": "voter",
    }
    assert objects(result)[-1] == {
        "type": "summary",
        "segments": 2,
        "records": 14,
        "term": 2,
        "vote": 2,
        "commit": 2,
        "snapshot_index": 2,
        "last_index": 4,
        "damages": 0,
    }


def test_a_limit_hides_records_and_not_what_they_amount_to(directory: Path) -> None:
    result = wal(directory, "--json", "--entries", "--limit", "4")
    assert [each["offset"] for each in of_type(result, "record")] == [0, 104, 264, 312]
    assert [each["index"] for each in of_type(result, "entry")] == [1]
    assert objects(result)[-1] == objects(wal(directory, "--json"))[-1]


def test_a_directory_before_its_cluster_formed_is_whole(tmp_path: Path) -> None:
    Node(DiskFiles(tmp_path)).stop()
    for name in contents(tmp_path):
        if name not in ("identity", "lock"):
            (tmp_path / name).unlink()
    identity = bytearray((tmp_path / "identity").read_bytes())
    identity[16:24] = bytes(8)
    identity[:4] = crc32c(bytes(identity[4:])).to_bytes(4, "little")
    (tmp_path / "identity").write_bytes(identity)
    result = wal(tmp_path)
    assert "identity  node 1, incarnation 0000000000000abc, start 1, no cluster yet" in result.stdout
    assert result.stdout.endswith(
        "clean: 0 records, 0 segments; term 0, vote none, commit 0, snapshot 0, last entry 0\n"
    )
    assert result.exit_code == 0


def test_the_process_of_a_running_node_is_named(tmp_path: Path) -> None:
    node = Node(DiskFiles(tmp_path))
    assert f"lock      held by process {os.getpid()}: the node is running\n" in wal(tmp_path).stdout
    assert of_type(wal(tmp_path, "--json"), "lock") == [{"type": "lock", "held": True, "process": os.getpid()}]
    node.stop()
    assert of_type(wal(tmp_path, "--json"), "lock") == [{"type": "lock", "held": False, "process": None}]


def test_unfinished_and_foreign_files_are_told_apart(directory: Path) -> None:
    for name in ("snap-0000000000000009-0000000000000001.part", "identity.tmp", "notes.txt"):
        (directory / name).write_bytes(b"?")
    result = wal(directory, "--json")
    assert {str(each["file"]): each["meaning"] for each in of_type(result, "file")} == {
        "next": "space claimed for the next segment of the log",
        "snap-0000000000000009-0000000000000001.part": "unfinished; the node removes it or goes on with it",
        "identity.tmp": "unfinished; the node removes it or goes on with it",
        "notes.txt": "not of distkit",
    }
    assert result.exit_code == 0


# -- a torn tail ------------------------------------------------------------------------------------------------------


def test_a_torn_tail_is_harmless_and_measured(tmp_path: Path) -> None:
    node = Node(DiskFiles(tmp_path))
    node.write(HardState(1, 1, 0), block(1, 1, b"a"))
    end = of_type(wal(tmp_path, "--json"), "segment_end")[0]["used_bytes"]
    assert isinstance(end, int)
    node.crash()
    with (tmp_path / FIRST).open("r+b") as file:
        file.seek(end)
        file.write(encode_records(0xC1, 1, 1, end, end, [(64, 0, b"\1" * 24)])[0][:40])
    result = wal(tmp_path)
    assert (
        f"torn tail {FIRST} at offset {end}: 40 bytes of a write that was never acknowledged; harmless" in result.stdout
    )
    assert result.stdout.splitlines()[-1].startswith("clean: ")
    assert result.exit_code == 0
    assert of_type(wal(tmp_path, "--json"), "torn_tail") == [
        {"type": "torn_tail", "file": FIRST, "offset": end, "bytes": 40}
    ]


# -- damage -----------------------------------------------------------------------------------------------------------


def test_a_flipped_byte_names_file_offset_entries_and_what_to_do(directory: Path) -> None:
    flip(directory / FIRST, 330)
    result = wal(directory)
    before, after = CLEAN.split("        312        264      0  Block", 1)
    assert result.stdout.startswith(
        before + f"DAMAGE    {FIRST} at offset 312: everything up to offset 608 was durable"
    )
    assert "\n          entries: 1 to 1\n          what to do: the node must not start with it. " in result.stdout
    assert "        440        392      0  Block  term 1, entries 2 to 4 (3)" in result.stdout
    assert after.split("\nsegment", 1)[1].rsplit("clean", 1)[0] in result.stdout
    assert result.stdout.splitlines()[-1].startswith("DAMAGED in one place: ")
    assert result.exit_code == 1


def test_lost_entries_at_the_end_are_open_ended(directory: Path) -> None:
    flip(directory / SECOND, 400)
    (damage,) = of_type(wal(directory, "--json"), "damage")
    assert (damage["file"], damage["offset"], damage["lost"]) == (SECOND, 392, "4 and later ones of this segment")


def test_damage_of_state_alone_says_that_no_entry_is_lost(directory: Path) -> None:
    flip(directory / FIRST, 400)
    (damage,) = of_type(wal(directory, "--json"), "damage")
    assert (damage["offset"], damage["lost"]) == (392, "none, but a record of state (term, vote) or a truncation")


@pytest.mark.parametrize(
    ("name", "offset", "what"),
    [
        (SECOND, 30, "the header of this log segment is damaged"),
        (SNAPSHOT, 60, "a chunk of the snapshot is damaged"),
        (SNAPSHOT, 20, "the header of the snapshot is damaged"),
        ("identity", 30, "the file 'identity' is damaged"),
    ],
)
def test_damage_of_each_file_is_named(directory: Path, name: str, offset: int, what: str) -> None:
    flip(directory / name, offset)
    result = wal(directory, "--json")
    (damage,) = of_type(result, "damage")
    assert damage["file"] == name
    assert what in str(damage["what"])
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("name", "file", "what", "lost"),
    [
        (FIRST, SECOND, "entries before this one are missing", "3 to 3"),
        (SNAPSHOT, SNAPSHOT, "the log begins behind snapshot 2, and its file is missing", "1 to 2"),
        ("identity", "identity", "there is a log or a snapshot, but no identity", ""),
    ],
)
def test_a_file_that_is_gone_is_named(directory: Path, name: str, file: str, what: str, lost: str) -> None:
    (directory / name).unlink()
    result = wal(directory, "--json")
    (damage,) = of_type(result, "damage")
    assert (damage["file"], damage["what"], damage["lost"]) == (file, what, lost)
    assert result.exit_code == 1


def test_a_log_that_is_gone_is_named(directory: Path) -> None:
    (directory / FIRST).unlink()
    (directory / SECOND).unlink()
    (damage,) = of_type(wal(directory, "--json"), "damage")
    assert damage["what"] == "node 1 is a member of cluster 00000000000000c1, but its log is gone"


def test_a_gap_between_segments_is_named(tmp_path: Path) -> None:
    for first in (1, 2, 3):
        node = Node(DiskFiles(tmp_path))
        node.write(HardState(1, 1, 0), block(1, first, b"a"))
        node.stop()
    (tmp_path / SECOND).unlink()
    result = wal(tmp_path, "--json")
    (damage,) = of_type(result, "damage")
    assert damage["file"] == segment_name(3)
    assert damage["what"] == "it follows segment 2, but the newest before it is segment 1"
    assert result.exit_code == 1


def test_a_header_that_is_damaged_is_one_damage(tmp_path: Path) -> None:
    for first in (1, 2, 3):
        node = Node(DiskFiles(tmp_path))
        node.write(HardState(1, 1, 0), block(1, first, b"a"))
        node.stop()
    flip(tmp_path / SECOND, 30)
    result = wal(tmp_path, "--json")
    (damage,) = of_type(result, "damage")
    assert (damage["file"], damage["lost"]) == (SECOND, "those of this file cannot be listed")
    assert [each["first"] for each in of_type(result, "record") if each["kind"] == "Block"] == [1, 3]


def test_a_segment_that_lost_its_end_is_named(directory: Path) -> None:
    with (directory / SECOND).open("r+b") as file:
        file.truncate(4096)
    (damage,) = of_type(wal(directory, "--json"), "damage")
    assert (damage["offset"], damage["what"]) == (4096, "the file has lost its end: 4096 of 12288 bytes are there")


def test_state_that_contradicts_the_log_before_it_is_named(directory: Path) -> None:
    with (directory / SECOND).open("r+b") as file:
        file.seek(264)
        file.write(encode_records(0xC1, 1, 2, 264, 0, encoded([HardState(1, 2, 1)]))[0])
    (damage,) = of_type(wal(directory, "--json"), "damage")
    assert (damage["offset"], damage["what"]) == (264, "the state at the head is not that of the log before it")


def test_entries_that_no_snapshot_covers_are_missing(tmp_path: Path) -> None:
    node = Node(DiskFiles(tmp_path))
    node.write(HardState(1, 1, 0), block(1, 1, b"a"))
    node.write(block(1, 4, b"b"))
    node.stop()
    (damage,) = of_type(wal(tmp_path, "--json"), "damage")
    assert (damage["what"], damage["lost"]) == ("entries before this one are missing", "2 to 3")


def test_entries_that_are_there_twice_are_named(tmp_path: Path) -> None:
    node = Node(DiskFiles(tmp_path))
    node.write(HardState(1, 1, 0), block(1, 1, b"a", b"b", b"c"))
    node.write(block(1, 2, b"b"))
    node.stop()
    (damage,) = of_type(wal(tmp_path, "--json"), "damage")
    assert (damage["what"], damage["lost"]) == ("entries before this one are in the log twice", "2 to 3")


def test_a_segment_of_another_node_is_named(directory: Path, tmp_path: Path) -> None:
    identity = bytearray((directory / "identity").read_bytes())
    identity[24:32] = (7).to_bytes(8, "little")
    identity[:4] = crc32c(bytes(identity[4:])).to_bytes(4, "little")
    (directory / "identity").write_bytes(identity)
    damages = of_type(wal(directory, "--json"), "damage")
    assert [each["what"] for each in damages] == ["this segment is of node 1, the directory of node 7"] * 2


# -- what cannot be read at all ---------------------------------------------------------------------------------------


def test_a_directory_of_something_else_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"?")
    result = wal(tmp_path)
    assert f"{tmp_path}: this is no data directory of distkit" in result.stderr
    assert result.exit_code == 2


def test_an_empty_directory_says_that_no_node_was_here(tmp_path: Path) -> None:
    result = wal(tmp_path)
    assert f"{tmp_path}: the directory is empty: no node was ever started here" in result.stderr
    assert result.exit_code == 2


def test_a_path_that_does_not_exist_is_a_usage_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(commands, ["wal", str(tmp_path / "none")])
    assert "does not exist" in result.stderr
    assert result.exit_code == 2


def test_a_newer_format_names_the_remedy(directory: Path) -> None:
    data = (directory / SECOND).read_bytes()
    header = (2).to_bytes(4, "little") + data[28:104]
    (directory / SECOND).write_bytes(encode_records(0xC1, 1, 2, 0, 0, [(1, 0, header)])[0] + data[104:])
    result = wal(directory)
    assert f"{SECOND} has log format 2, this release reads format 1" in result.stderr
    assert "run that one" in result.stderr
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("number", "status", "advice"),
    [
        (errno.EACCES, 2, "Run this as the user of the node"),
        (errno.EIO, 1, "The disk does not give back what is on it"),
    ],
)
def test_a_file_that_cannot_be_read(
    directory: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: int, advice: str
) -> None:
    opened = os.open

    def refusing(path: Path, flags: int) -> int:
        if Path(path).name == SECOND:
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, flags)

    monkeypatch.setattr("distkit.cli.readonly.os.open", refusing)
    result = CliRunner().invoke(commands, ["wal", str(directory)])
    assert f"cannot read the log: [Errno {number}] {os.strerror(number)}" in result.stderr
    assert advice in result.stderr
    assert result.exit_code == status
