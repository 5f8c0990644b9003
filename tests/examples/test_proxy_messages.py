"""HTTP messages: what is read, what is refused, and what of it goes on to the next hop."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_messages import BadMessage, Head, Reader, answer, chunk, encode_head, forwarded, status_line

CHUNKED = (
    b"POST /p?q HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: 1\r\n\r\n"
)
PLAIN = b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"


def read(data: bytes, *, requests: bool = True, cuts: tuple[int, ...] = ()) -> list[Head | bytes | None]:
    reader = Reader(requests)
    for begin, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
        reader.feed(data[begin:end])
    reader.check()
    return list(reader.events)


def test_requests_one_after_another_in_one_piece() -> None:
    first, abc, de, end, second, hello, last = read(CHUNKED + PLAIN)
    assert isinstance(first, Head)
    assert (first.method, first.target, first.chunked, first.length) == (b"POST", b"/p?q", True, None)
    assert (abc, de, end) == (b"abc", b"de", None)
    assert isinstance(second, Head)
    assert (second.method, second.length, hello, last) == (b"PUT", 5, b"hello", None)


@given(st.lists(st.integers(0, len(CHUNKED + PLAIN)), max_size=6).map(sorted))
def test_cuts_change_nothing(cuts: list[int]) -> None:
    events = read(CHUNKED + PLAIN, cuts=tuple(cuts))
    heads = [each for each in events if isinstance(each, Head)]
    assert [(each.method, each.target, each.headers) for each in heads] == [
        (b"POST", b"/p?q", [(b"host", b"a"), (b"transfer-encoding", b"chunked")]),
        (b"PUT", b"/x", [(b"host", b"a"), (b"content-length", b"5")]),
    ]
    assert b"".join(each for each in events if isinstance(each, bytes)) == b"abcdehello"
    assert events.count(None) == 2


REFUSED = {
    "both framings": (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "two lengths": (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", 400),
    "a signed length": (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n", 400),
    "a bare line feed": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "a space before the colon": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    "a folded header": (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", 400),
    "a carriage return in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "an encoding that is not chunked": (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    "chunks of an old client": (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "a forward proxy": (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    "a strange target": (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a chunk that is no number": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    "a chunk beyond all numbers": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 17,
        400,
    ),
    "a long target": (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\n", 414),
    "many headers": (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x: y\r\n" * 200 + b"\r\n", 431),
    "a long head": (b"GET / HTTP/1.1\r\nHost: a\r\nx: " + b"y" * 70000, 431),
    "no HTTP at all": (b"\x16\x03\x01\x02\x00", 400),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_may_be_understood_in_two_ways_is_refused(name: str) -> None:
    data, status = REFUSED[name]
    with pytest.raises(BadMessage) as caught:
        read(data)
    assert caught.value.status == status


def test_a_length_that_is_told_twice_alike_is_one_or_refused() -> None:
    with pytest.raises(BadMessage):
        read(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc")


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_be_read_or_refused(data: bytes) -> None:
    for start in (b"", b"GET / HTTP/1.1\r\nHost: a\r\n"):
        for requests in (True, False):
            try:
                read(start + data, requests=requests)
            except BadMessage:
                pass


def test_headers_of_one_hop_stay_behind() -> None:
    head = read(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n"
        b"Proxy-Authorization: secret\r\nUpgrade: h2c\r\nX-Yours: 2\r\nContent-Length: 0\r\n\r\n"
    )[0]
    assert isinstance(head, Head)
    assert forwarded(head) == [(b"host", b"a"), (b"x-yours", b"2")]
    assert not head.keep_alive
    assert head.upgrade == b""


def test_a_connection_header_can_not_take_the_host_away() -> None:
    head = read(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n")[0]
    assert isinstance(head, Head)
    assert forwarded(head) == [(b"host", b"a")]


def test_a_whole_url_becomes_a_path_and_its_host_wins() -> None:
    head = read(b"GET http://b:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n")[0]
    assert isinstance(head, Head)
    assert (head.target, head.get(b"host")) == (b"/x?y", b"b:81")


def test_a_websocket_ends_http_and_gives_back_what_follows() -> None:
    reader = Reader(requests=True)
    reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nraw")
    head = reader.events[0]
    assert isinstance(head, Head)
    assert (head.upgrade, head.keep_alive, reader.raw) == (b"websocket", False, b"raw")


def test_responses() -> None:
    head, body, end = read(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", requests=False)
    assert isinstance(head, Head)
    assert (head.status, head.length, body, end) == (200, 2, b"ab", None)
    head, end = read(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", requests=False)
    assert (head.status, end) == (304, None)
    head, body = read(b"HTTP/1.0 200 OK\r\n\r\nab", requests=False)
    assert (head.length, head.chunked, body) == (None, False, b"ab")


def test_bytes_of_heads_and_chunks() -> None:
    assert encode_head(status_line(200), [(b"a", b"b")]) == b"HTTP/1.1 200 OK\r\na: b\r\n\r\n"
    assert status_line(799) == b"HTTP/1.1 799 "
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert answer(503, "no\n", close=True).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert answer(503, "no\n", close=False, empty=True).endswith(b"content-length: 3\r\n\r\n")
