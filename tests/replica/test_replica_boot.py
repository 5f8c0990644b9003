"""Records and messages of a replica as bytes."""

from __future__ import annotations

import pytest
from replicas import REGISTRY, configuration_of, through_codec

from distkit._fast.codec import encode_block
from distkit.core import PeerError, StorageError
from distkit.raft import formation_records
from distkit.raft.messages import Entries, HardState, Truncate
from distkit.replica import decoded, encoded, registry
from distkit.replica.boot import RECORDS
from distkit.replica.messages import MESSAGES, FetchSnapshot, Propose, ProposeReply, SnapshotPiece

BLOCK = encode_block(1, 1, 0, b"\1\1", [b"a", bytes(10_000)])


@pytest.mark.parametrize(
    "message",
    [
        Propose(1 << 63, 2, 3, b"\1\2", (b"a", b"")),
        ProposeReply(1, 2, 3, 1, 0, 6, 7, b"\0\x09", (b"result", b"")),
        FetchSnapshot(1, 2, 1 << 40, 1 << 18),
        SnapshotPiece(1, 2, 3, 1 << 40, b"data"),
    ],
)
def test_messages_survive_the_wire(message: object):
    assert through_codec(message) == message


def test_kinds_of_messages_are_those_of_the_format():
    assert [(kind, record.__name__) for kind, record, _ in MESSAGES] == [
        (32, "Propose"),
        (33, "ProposeReply"),
        (34, "FetchSnapshot"),
        (35, "SnapshotPiece"),
    ]


def test_records_survive_the_log_in_their_order():
    records = [*formation_records(configuration_of(1, 2)), HardState(1, 2, 0), Entries(BLOCK), Truncate(1)]
    assert decoded(encoded(records)) == records


def test_a_block_goes_to_the_log_by_reference():
    ((kind, group, content),) = encoded([Entries(BLOCK)], group=3)
    assert (kind, group) == (96, 3)
    assert content is BLOCK


def test_records_of_other_groups_are_left_out():
    records = encoded([HardState(1, 1, 1)]) + encoded([HardState(2, 2, 2)], group=1)
    assert decoded(records, group=1) == [HardState(2, 2, 2)]


def test_a_record_of_another_version_is_an_error_that_says_so():
    with pytest.raises(StorageError, match="this version cannot read: unknown kind 70"):
        decoded([(70, 0, b"")])


def test_a_peer_cannot_send_a_durable_record():
    kind, buffers = RECORDS.encode_body(HardState(1, 1, 1))
    with pytest.raises(PeerError, match="unknown kind 64"):
        REGISTRY.decode_body(kind, b"".join(buffers))


def test_a_registry_takes_the_tables_of_others():
    assert HardState in registry([(1, HardState, "term:u64 vote:u64 commit:u64")])
