"""Datagrams: every message goes out and comes back, and nothing else passes. Sizes are what the machine counts with."""

import builtins
import hmac
import itertools
import struct
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st
from swim_world import World, alive

from distkit._fast.codec import crc32c
from distkit.core import LocalError, PeerError
from distkit.membership.packets import Outsider, Packets, _key_id
from distkit.membership.swim import Claim
from distkit.membership.swim import messages as m
from distkit.membership.swim.messages import (
    INCARNATION_MAX,
    Ack,
    Gossip,
    Nack,
    Ping,
    PingRequest,
    SyncReply,
    SyncRequest,
    claim_bytes,
)
from distkit.membership.swim.state import PACKET_OVERHEAD

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))


def counted():
    numbers = itertools.count()
    return lambda: next(numbers).to_bytes(12, "big")


def packets(*keys, cluster="blue"):
    return Packets(cluster, keys, counted())


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
claims = st.builds(
    Claim,
    st.integers(0, 3),
    names,
    st.integers(0, INCARNATION_MAX),
    names,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.binary(max_size=100),
)
news = st.lists(claims, max_size=4).map(tuple)
u32 = st.integers(0, (1 << 32) - 1)
messages = st.one_of(
    st.builds(Ping, u32, names, news),
    st.builds(Ack, u32, news),
    st.builds(PingRequest, u32, names, names, st.booleans(), news),
    st.builds(Nack, u32, news),
    st.builds(Gossip, news),
    st.builds(SyncRequest, st.integers(0, (1 << 64) - 1), names, st.booleans(), news),
    st.builds(SyncReply, names, st.booleans(), news),
)
SAMPLE = Ping(7, "n1", (alive("n2", 3, b"meta"), Claim(1, "n3", 2, "n4", "", b"")))


@given(messages)
def test_every_message_comes_back(message):
    for sides in (packets(), packets(KEY)):
        assert sides.open(sides.seal(message)) == message


@given(messages)
def test_a_datagram_has_the_size_that_the_machine_counts_with(message):
    base = {
        Ping: lambda: m.PING_BYTES + m.text_bytes(message.target),
        Ack: lambda: m.ACK_BYTES,
        PingRequest: lambda: m.PING_REQUEST_BYTES + m.text_bytes(message.target) + m.text_bytes(message.address),
        Nack: lambda: m.NACK_BYTES,
        Gossip: lambda: m.GOSSIP_BYTES,
        SyncRequest: lambda: m.SYNC_REQUEST_BYTES + m.text_bytes(message.after),
        SyncReply: lambda: m.SYNC_REPLY_BYTES + m.text_bytes(message.after),
    }[type(message)]()
    size = base + sum(map(claim_bytes, message.claims)) + PACKET_OVERHEAD
    assert len(packets(KEY).seal(message)) == size
    assert len(packets().seal(message)) == size - 24


def test_no_datagram_of_a_busy_group_is_longer_than_allowed():
    world = World(60, packet_bytes=1300)
    world.run(5.0)
    world.kill("n3", "n4")
    world.run(20.0)
    seal = packets(KEY).seal
    lengths = [len(seal(message)) for *_, message in world.sends]
    assert 1200 < max(lengths) <= 1300


def test_the_largest_claim_fits_the_smallest_packet():
    world = World(1, packet_bytes=1232)
    big = Claim(0, "x" * 128, 1, "", "y" * 255, bytes(512))
    room = world.swims["n0"].state.room
    assert claim_bytes(big) + 5 + 128 <= room  # as one part of a table
    assert claim_bytes(big) + 8 + 128 <= room  # behind a ping


@pytest.mark.parametrize("sides", [packets(), packets(KEY), packets(KEY, OTHER)], ids=["clear", "one key", "two keys"])
def test_no_cut_no_flipped_bit_and_no_addition_passes(sides):
    datagram = sides.seal(SAMPLE)
    for end in range(len(datagram)):
        with pytest.raises(Outsider):
            sides.open(datagram[:end])
    for bit in range(8 * len(datagram)):
        changed = bytearray(datagram)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Outsider):
            sides.open(bytes(changed))
    with pytest.raises(Outsider):
        sides.open(datagram + b"\0")


@given(st.binary(max_size=2000))
def test_what_outsiders_send_is_refused_before_it_is_parsed(data):
    for sides in (packets(), packets(KEY)):
        for datagram in (data, sides.seal(SAMPLE)[:4] + data):
            with pytest.raises(Outsider):
                sides.open(datagram)


def test_members_of_other_clusters_and_with_other_keys_are_outsiders():
    for ours, theirs in (
        (packets(KEY), packets(OTHER)),
        (packets(KEY), packets(KEY, cluster="green")),
        (packets(), packets(cluster="green")),
        (packets(KEY), packets()),
        (packets(), packets(KEY)),
    ):
        with pytest.raises(Outsider):
            ours.open(theirs.seal(SAMPLE))


def test_keys_are_changed_without_a_moment_in_which_members_do_not_understand_each_other():
    stages = [packets(KEY), packets(KEY, OTHER), packets(OTHER, KEY), packets(OTHER)]
    for before, after in itertools.pairwise(stages):
        assert after.open(before.seal(SAMPLE)) == SAMPLE
        assert before.open(after.seal(SAMPLE)) == SAMPLE
    with pytest.raises(Outsider):
        stages[0].open(stages[-1].seal(SAMPLE))


def test_two_keys_with_one_id_both_open():
    twin = next(key for n in range(10_000) if _key_id(key := n.to_bytes(32, "big")) == _key_id(KEY))
    both = packets(KEY, twin)
    assert both.open(packets(twin).seal(SAMPLE)) == SAMPLE
    assert both.open(packets(KEY).seal(SAMPLE)) == SAMPLE


def test_each_packet_has_its_own_nonce():
    sides = packets(KEY)
    assert len({sides.seal(SAMPLE) for _ in range(100)}) == 100


def test_claims_that_no_member_makes_do_not_pass():
    sides = packets(KEY)
    with pytest.raises(PeerError, match="unknown status 9"):
        sides.open(sides.seal(Gossip((Claim(9, "n1", 1, "n2", "", b""),))))


def test_nothing_of_a_message_can_be_read():
    datagram = packets(KEY).seal(Gossip((alive("a-name-to-look-for"),)))
    assert b"name" not in datagram
    assert b"10.0.0" not in datagram


def test_the_bytes_are_those_of_the_documentation():
    datagram = packets().seal(Ping(7, "n1", (Claim(1, "n3", 2, "n4", "", b""),)))
    claim = b"\1" + b"\2\0n3" + struct.pack("<Q", 2) + b"\2\0n4" + b"\0\0" + bytes(4)
    content = struct.pack("<H", 112) + struct.pack("<I", 7) + b"\2\0n1" + b"\1\0" + claim
    header = b"\x5d\xd1\1\0"
    crc = crc32c(header + b"\4blue" + content)
    assert datagram == header + struct.pack("<I", crc) + content
    sealed = packets(KEY).seal(Nack(1, ()))
    assert (sealed[:3], len(sealed)) == (b"\x5d\xd1\1", 4 + 12 + 2 + 6 + 16)
    assert sealed[4:16] == bytes(12)
    cipher = ChaCha20Poly1305(hmac.new(KEY, b"distkit datagram", sha256).digest())
    assert cipher.decrypt(sealed[4:16], sealed[16:], sealed[:4] + b"blue") == b"\x73\0\1\0\0\0\0\0"


def content_of(sides, content):
    """A datagram that a member with a bug might send."""
    header = sides._header
    return header + struct.pack("<I", sides._crc(header, content)) + content


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xff",
        struct.pack("<H", 113),
        struct.pack("<HIH", 113, 1, 65535),
        struct.pack("<HIH", 113, 1, 0) + b"x",
        struct.pack("<HIH", 113, 1, 1) + b"\7" + bytes(18),
        struct.pack("<HI", 112, 1) + b"\0\0" + b"\0\0",
        struct.pack("<HI", 112, 1) + b"\1\0\xff" + b"\0\0",
    ],
)
def test_nonsense_of_members_is_an_error_that_says_what(content):
    sides = packets()
    with pytest.raises(PeerError) as caught:
        sides.open(content_of(sides, content))
    assert type(caught.value) is PeerError


@given(st.binary(max_size=300))
def test_no_content_of_a_member_crashes(content):
    sides = packets()
    try:
        sides.open(content_of(sides, b"\x70\0" + content))
    except PeerError:
        pass


def test_short_keys_and_strange_clusters_are_refused():
    with pytest.raises(LocalError, match="at least 32 bytes"):
        packets(b"secret")
    for cluster in ("", "x" * 256):
        with pytest.raises(LocalError, match="1 to 255"):
            packets(cluster=cluster)


def test_without_the_package_it_is_said_what_to_install(monkeypatch):
    found = builtins.__import__

    def missing(name, *rest):
        if name.startswith("cryptography"):
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(LocalError, match=r"distkit\[membership\]"):
        packets(KEY)
    assert packets().open(packets().seal(SAMPLE)) == SAMPLE
