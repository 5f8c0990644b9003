"""Bodies: every record goes out and comes back, and no other bytes pass."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit._fast.codec import encode_block
from distkit.codec import Registry
from distkit.core import Configuration, LocalError, Member, MemberRole, PeerError, record
from distkit.core.limits import FRAME_BLOBS_MAX, NODE_ID_MAX
from distkit.raft import messages as raft


@record
class Everything:
    """One field of each type."""

    small: int
    flag: bool
    number: int
    content: bytes
    text: str
    blobs: tuple[bytes, ...]
    numbers: tuple[int, ...]
    addresses: tuple[tuple[int, str], ...]
    configuration: Configuration
    part: raft.Snapshot
    many: tuple[raft.Snapshot, ...]
    absent: Configuration | None
    last: int


EVERYTHING = (
    "small:u8 flag:bool number:u16 content:bytes text:str blobs:blobs numbers:u64s addresses:addresses "
    "configuration:configuration part:Snapshot many:Snapshot* absent:configuration? last:u32"
)

REGISTRY = Registry(raft.MESSAGES, raft.RECORDS, [(1, Everything, EVERYTHING)], parts=raft.PARTS)


def encoded(message: Any) -> tuple[int, bytes]:
    kind, buffers = REGISTRY.encode_body(message)
    return kind, b"".join(buffers)


# -- round trips ------------------------------------------------------------------------------------------------------

u64 = st.integers(0, (1 << 64) - 1)
node_ids = st.integers(1, NODE_ID_MAX)
host_ports = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
members = st.builds(Member, node_ids, u64, host_ports, st.sampled_from(MemberRole))
configurations = st.builds(
    Configuration,
    u64,
    st.lists(members, max_size=8, unique_by=lambda member: member.id).map(
        lambda m: tuple(sorted(m, key=lambda x: x.id))
    ),
    st.sets(node_ids, max_size=5).map(lambda ids: tuple(sorted(ids))),
)
snapshots = st.builds(raft.Snapshot, u64, u64, u64, u64, st.integers(0, (1 << 32) - 1), configurations)


@st.composite
def block_runs(draw: st.DrawFn) -> tuple[bytes, ...]:
    """Consecutive blocks whose rounds never fall."""
    index, round_ = draw(st.integers(1, 1 << 40)), draw(st.integers(0, 1 << 40))
    blocks = []
    for payloads in draw(st.lists(st.lists(st.binary(max_size=6000), min_size=1, max_size=3), max_size=3)):
        blocks.append(encode_block(round_, index, 5, bytes([1] * len(payloads)), payloads))
        index, round_ = index + len(payloads), round_ + draw(st.integers(0, 2))
    return tuple(blocks)


def values_of(word: str) -> st.SearchStrategy[Any]:
    kind = word.partition(":")[2]
    optional, many = kind.endswith("?"), kind.endswith("*")
    strategy: st.SearchStrategy[Any] = {
        "u8": st.integers(0, (1 << 8) - 1),
        "u16": st.integers(0, (1 << 16) - 1),
        "u32": st.integers(0, (1 << 32) - 1),
        "u64": u64,
        "bool": st.booleans(),
        "bytes": st.binary(max_size=5000),
        "str": st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
        "blobs": st.lists(st.binary(max_size=5000), max_size=4).map(tuple),
        "blocks": block_runs(),
        "block": block_runs().filter(bool).map(lambda blocks: blocks[0]),
        "u64s": st.lists(u64, max_size=5).map(tuple),
        "addresses": st.dictionaries(node_ids, host_ports, max_size=5).map(lambda found: tuple(sorted(found.items()))),
        "configuration": configurations,
        "Snapshot": snapshots,
    }[kind.rstrip("?*")]
    if many:
        return st.lists(strategy, max_size=3).map(tuple)
    return st.none() | strategy if optional else strategy


ROWS = (*raft.MESSAGES, *raft.RECORDS, (1, Everything, EVERYTHING))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1].__name__)
@given(data=st.data())
def test_every_record_comes_back(row: tuple[int, type, str], data: st.DataObject) -> None:
    kind, cls, line = row
    message = data.draw(st.builds(cls, *map(values_of, line.split())))
    found, body = encoded(message)
    assert found == kind
    assert REGISTRY.decode_body(kind, body) == message


CONFIGURATION = Configuration(3, (Member(1, 7, "a:1"), Member(9, 8, "[::1]:2", MemberRole.WITNESS)), (1, 2))
SNAPSHOT = raft.Snapshot(5, 4, 3, 2, 1, CONFIGURATION)
ADDRESSES = ((1, "a:1"), (2, "b:2"))
SAMPLE = Everything(
    *(200, True, 65535, b"xyz", "été", (b"", b"ab"), (1, 1 << 63), ADDRESSES, CONFIGURATION),
    *(SNAPSHOT, (SNAPSHOT, SNAPSHOT), None, 77),
)


def samples() -> list[Any]:
    block = encode_block(3, 10, 5, b"\1\1", [b"one", b"two"])
    after = encode_block(4, 12, 5, b"\1", [b"three"])
    return [
        SAMPLE,
        raft.AppendEntries(1, 2, 3, 4, 5, (block, after)),
        raft.AppendEntries(1, 2, 3, 4, 5, ()),
        raft.RequestVote(1, 2, 3, 4, True, False),
        raft.InstallSnapshot(1, 2, SNAPSHOT),
        raft.Entries(block),
        raft.SnapshotMark(1, 2, 3, True, 0, SNAPSHOT),
    ]


@pytest.mark.parametrize("message", samples(), ids=lambda message: type(message).__name__)
def test_no_truncation_and_no_trailing_byte_passes(message: Any) -> None:
    kind, body = encoded(message)
    for end in range(len(body)):
        with pytest.raises(PeerError):
            REGISTRY.decode_body(kind, body[:end])
        with pytest.raises(PeerError):
            REGISTRY.decode_body(kind, b"head" + body + b"tail", 4, 4 + end)
    assert REGISTRY.decode_body(kind, b"head" + body + b"tail", 4, 4 + len(body)) == message
    with pytest.raises(PeerError):
        REGISTRY.decode_body(kind, body + b"\0")


@pytest.mark.parametrize("message", samples(), ids=lambda message: type(message).__name__)
def test_a_flipped_byte_gives_another_record_or_a_peer_error(message: Any) -> None:
    """The body alone has no crc; whatever still decodes must be a record that says something else."""
    kind, body = encoded(message)
    for at in range(len(body)):
        for flip in (0x01, 0x80, 0xFF):
            changed = body[:at] + bytes([body[at] ^ flip]) + body[at + 1 :]
            try:
                found = REGISTRY.decode_body(kind, changed)
            except PeerError:
                continue
            assert found != message


@given(kind=st.sampled_from([row[0] for row in ROWS]), body=st.binary(max_size=300))
def test_noise_is_a_peer_error_or_a_canonical_record(kind: int, body: bytes) -> None:
    try:
        found = REGISTRY.decode_body(kind, body)
    except PeerError:
        return
    assert encoded(found) == (kind, body)


# -- single rules -----------------------------------------------------------------------------------------------------


@record
class One:
    """A record of one field, of the type under test."""

    field: Any


def one(kind: str) -> Registry:
    return Registry([(1, One, f"field:{kind}")])


U16, U32 = struct.Struct("<H").pack, struct.Struct("<I").pack
MEMBER = struct.pack("<IQB", 1, 5, 1) + U16(3) + b"a:1"


def configuration(*members: bytes, outgoing: bytes = U16(0), count: int | None = None) -> bytes:
    return bytes(8) + U16(len(members) if count is None else count) + b"".join(members) + outgoing


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("bool", b"\2"),
        ("configuration?", b"\2"),
        ("bytes", U32(1 << 31) + b"x"),
        ("bytes", U32((1 << 32) - 1)),
        ("str", U16(2) + b"\xff\xfe"),
        ("str", U16(3) + b"\xed\xa0\x80"),
        ("blobs", U32(1 << 31)),
        ("blobs", U32(FRAME_BLOBS_MAX + 1) + bytes(4 * (FRAME_BLOBS_MAX + 1))),
        ("blobs", U32(2) + U32(1) + U32(1 << 31) + b"x"),
        ("blocks", U32(1) + U32(3) + b"abc"),
        ("u64s", U32(1 << 29)),
        ("addresses", U16(65) + b"".join(U32(node) + U16(3) + b"a:1" for node in range(1, 66))),
        ("addresses", U16(2) + (U32(1) + U16(3) + b"a:1") * 2),
        ("addresses", U16(1) + U32(0) + U16(3) + b"a:1"),
        ("addresses", U16(1) + U32(1) + U16(0)),
        ("configuration", configuration(MEMBER, MEMBER)),
        ("configuration", configuration(MEMBER, b"\0" + MEMBER[1:])),
        ("configuration", configuration(MEMBER.replace(b"\1" + U16(3), b"\4" + U16(3)))),
        ("configuration", configuration(MEMBER.replace(b"\1" + U16(3), b"\0" + U16(3)))),
        ("configuration", configuration(MEMBER[:13] + U16(0))),
        ("configuration", configuration(MEMBER[:13] + U16(256) + b"a" * 256)),
        ("configuration", configuration(b"\xff\xff\xff\xff" + MEMBER[4:])),
        ("configuration", configuration(MEMBER, count=1 << 15)),
        ("configuration", configuration(MEMBER, outgoing=U16(2) + U32(1) + U32(1))),
        ("configuration", configuration(MEMBER, outgoing=U16(2) + U32(2) + U32(1))),
        ("configuration", configuration(*(U32(node) + MEMBER[4:] for node in range(1, 66)))),
        ("configuration", configuration(MEMBER, outgoing=U16(65) + b"".join(map(U32, range(1, 66))))),
    ],
)
def test_each_rule_of_a_type_is_held(kind: str, body: bytes) -> None:
    with pytest.raises(PeerError):
        one(kind).decode_body(1, body)


def test_blocks_must_be_consecutive_and_rounds_may_not_fall() -> None:
    def blocks(*heads: tuple[int, int]) -> bytes:
        encoded_blocks = [encode_block(round_, first, 0, b"\1", [b"x"]) for round_, first in heads]
        return b"".join([U32(len(heads)), *(U32(len(b)) for b in encoded_blocks), *encoded_blocks])

    assert len(one("blocks").decode_body(1, blocks((3, 5), (3, 6), (9, 7))).field) == 3
    for bad in ([(3, 5), (3, 7)], [(3, 5), (3, 5)], [(3, 5), (2, 6)], [(3, 5), (4, 6), (3, 7)]):
        with pytest.raises(PeerError):
            one("blocks").decode_body(1, blocks(*bad))


def test_more_records_than_bytes_are_refused_before_any_is_read() -> None:
    registry = Registry([(1, One, "field:Truncate*")], parts=[(raft.Truncate, "index:u64")])
    with pytest.raises(PeerError, match="65535 records are expected where 8 bytes are left"):
        registry.decode_body(1, b"\xff\xff" + bytes(8))


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(PeerError, match="unknown kind 9999"):
        REGISTRY.decode_body(9999, b"")


def test_large_contents_go_by_reference() -> None:
    block = encode_block(1, 1, 0, b"\1", [bytes(5000)])
    _, buffers = REGISTRY.encode_body(raft.AppendEntries(1, 2, 3, 4, 5, (block, block)))
    assert buffers[1] is block
    assert buffers[2] is block
    _, [buffer] = REGISTRY.encode_body(raft.Entries(block))
    assert buffer is block
    assert REGISTRY.decode_body(96, buffer).block is block


@pytest.mark.parametrize(
    "message",
    [
        raft.Truncate(-1),
        raft.Truncate(1 << 64),
        raft.HardState(1, 2, "three"),  # type: ignore[arg-type]
        One(1),
        "text",
    ],
    ids=repr,
)
def test_what_cannot_be_encoded_is_a_local_error(message: Any) -> None:
    with pytest.raises(LocalError):
        REGISTRY.encode_body(message)
    for kind, value in (("blobs", (b"",) * (FRAME_BLOBS_MAX + 1)), ("str", "\ud800"), ("str", "x" * 65536)):
        with pytest.raises(LocalError):
            one(kind).encode_body(One(value))


@pytest.mark.parametrize(
    "rows",
    [
        [(1, One, "field:u7")],
        [(1, One, "wrong:u8")],
        [(1, One, "")],
        [(1, One, "field:u8"), (1, Member, "id:u32 incarnation:u64 address:str role:u8")],
        [(1, One, "field:u8"), (2, One, "field:u8")],
        [(1 << 16, One, "field:u8")],
        [(1, raft.Truncate, "index:u64"), (2, raft.ReadIndex, "term:u64 origin:block position:u64")],
    ],
)
def test_a_wrong_table_is_refused_when_the_registry_is_built(rows: list[tuple[int, type, str]]) -> None:
    with pytest.raises(LocalError):
        Registry(rows)
