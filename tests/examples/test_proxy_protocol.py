"""PROXY protocol, version 2: the bytes of the specification, every cut of them, and what is no header."""

import proxy_protocol
import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_protocol import ProxyProtocolError, Source, decode, encode

from distkit import LocalError

#: Section 2.2 of the specification: signature, version 2 and PROXY, TCP over IPv4, 12 bytes, addresses and ports.
EXAMPLE = bytes.fromhex("0d0a0d0a000d0a515549540a 21 11 000c 7f000001 7f000002 3039 1f90")
SIX = bytes.fromhex("0d0a0d0a000d0a515549540a 21 21 0024") + b"\0" * 15 + b"\1" + b"\0" * 15 + b"\2" + b"\0\1\0\2"


def test_the_bytes_of_the_specification() -> None:
    source = Source("127.0.0.1", 12345, "127.0.0.2", 8080)
    assert encode(source) == EXAMPLE
    assert decode(EXAMPLE + b"GET") == (source, 28)
    assert decode(SIX) == (Source("::1", 1, "::2", 2), len(SIX))
    assert encode(Source("::1", 1, "::2", 2)) == SIX


def test_local_and_other_families_name_nobody() -> None:
    assert decode(encode(None)) == (None, 16)
    unix = proxy_protocol.SIGNATURE + b"\x21\x31\0\4abcd"
    assert decode(unix) == (None, 20)


def test_what_follows_the_addresses_is_skipped() -> None:
    data = EXAMPLE[:14] + b"\0\x0f" + EXAMPLE[16:] + b"\x04\0\0"
    assert decode(data) == (Source("127.0.0.1", 12345, "127.0.0.2", 8080), 31)


@pytest.mark.parametrize("cut", range(28))
def test_every_cut_asks_for_more(cut: int) -> None:
    assert decode(EXAMPLE[:cut]) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"GET / HTTP/1.1\r\n", "no signature"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "no signature"),
        (proxy_protocol.SIGNATURE + b"\x11\x11\0\x0c" + bytes(12), "version and command 0x11"),
        (proxy_protocol.SIGNATURE + b"\x21\x11\xff\xff", "65535 bytes of addresses, more than"),
        (proxy_protocol.SIGNATURE + b"\x21\x11\0\4abcd", "4 bytes hold no two addresses"),
    ],
)
def test_what_is_no_header_is_refused_as_soon_as_that_is_clear(data: bytes, message: str) -> None:
    with pytest.raises(ProxyProtocolError, match=message):
        decode(data)


def test_two_families_in_one_header_are_refused() -> None:
    with pytest.raises(LocalError, match="one family"):
        encode(Source("127.0.0.1", 1, "::1", 2))


@given(st.binary(max_size=60))
def test_no_bytes_do_anything_but_decode_wait_or_be_refused(data: bytes) -> None:
    for start in (b"", proxy_protocol.SIGNATURE):
        try:
            found = decode(start + data)
        except ProxyProtocolError:
            continue
        assert found is None or 16 <= found[1] <= len(start + data)
