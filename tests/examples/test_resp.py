"""The example server's RESP parser: equal to hiredis on what is right, equal to Redis's words on what is wrong, and
never more memory or work than the bytes that came."""

import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise

import hiredis
import pytest
import resp
from hypothesis import given
from hypothesis import strategies as st

REQUESTS = [
    [b"PING"],
    [b"GET", b""],
    [b"SET", b"key", b"value"],
    [b"SET", b"\r\n", b"$3\r\n*1\r\n"],
    [b"MSET", *[b"%d" % number for number in range(24)]],
    [b"ECHO", bytes(range(256))],
    [b"SET", b"k", b"x" * 5000],
]


def encode(arguments: Sequence[bytes]) -> bytes:
    return resp.array([resp.bulk(argument) for argument in arguments])


def feed(parser: resp.Parser, pieces: Iterable[bytes]) -> tuple[list[list[bytes]], str | None]:
    """All commands that come out of a parser, and the fault that ended it."""
    found: list[list[bytes]] = []
    for piece in pieces:
        parser.feed(piece)
        try:
            while commands := parser.commands():
                found += commands
        except resp.ProtocolError as fault:
            return found, str(fault)
    return found, None


def oracle(stream: bytes) -> list[list[bytes]]:
    reader = hiredis.Reader()
    reader.feed(stream)
    found = []
    while (reply := reader.gets()) is not False:
        found.append(reply)
    return found


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(stream)) for place in places), len(stream)]
    return [stream[start:stop] for start, stop in pairwise(edges)]


# What is right


@pytest.mark.parametrize("arguments", REQUESTS, ids=lambda arguments: f"{arguments[0].decode()}-{len(arguments)}")
def test_a_request_is_read_as_hiredis_reads_it_at_every_split(arguments: list[bytes]) -> None:
    stream = encode(arguments)
    assert oracle(stream) == [arguments]
    for place in range(len(stream) + 1):
        assert feed(resp.Parser(), cut(stream, [place])) == ([arguments], None)


def test_many_requests_are_read_byte_by_byte_and_all_at_once() -> None:
    stream = b"".join(map(encode, REQUESTS)) * 2
    assert feed(resp.Parser(), [stream]) == (oracle(stream), None)
    assert feed(resp.Parser(), [stream[at : at + 1] for at in range(len(stream))]) == (oracle(stream), None)


@given(
    st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=6), max_size=6),
    st.lists(st.integers(0, 400), max_size=6),
)
def test_any_requests_are_read_as_hiredis_reads_them(requests: list[list[bytes]], places: list[int]) -> None:
    stream = b"".join(map(encode, requests))
    assert feed(resp.Parser(), cut(stream, places)) == (oracle(stream), None)
    assert oracle(stream) == requests


def test_inline_commands_mix_with_arrays() -> None:
    stream = b"PING\r\n" + encode([b"GET", b"a"]) + b"  SET k 'v w'  \n\r\n\n" + encode([b"PING"]) + b"QUIT\r\n"
    expected = [[b"PING"], [b"GET", b"a"], [b"SET", b"k", b"v w"], [b"PING"], [b"QUIT"]]
    for place in range(len(stream) + 1):
        assert feed(resp.Parser(), cut(stream, [place])) == (expected, None)


@pytest.mark.parametrize("empty", [b"*0\r\n", b"*-1\r\n", b"*-10\r\n", b"\r\n", b"\n", b"  \r\n"])
def test_an_empty_command_is_no_command(empty: bytes) -> None:
    assert feed(resp.Parser(), [empty * 3 + b"PING\r\n"]) == ([[b"PING"]], None)


# What is wrong

FAULTS = [
    (b"*x\r\n", "invalid multibulk length"),
    (b"*\r\n", "invalid multibulk length"),
    (b"*+1\r\n", "invalid multibulk length"),
    (b"*01\r\n", "invalid multibulk length"),
    (b"* 1\r\n", "invalid multibulk length"),
    (b"*1_0\r\n", "invalid multibulk length"),
    (b"*65537\r\n", "invalid multibulk length"),
    (b"*1000000000\r\n", "invalid multibulk length"),
    (b"*9223372036854775808\r\n", "invalid multibulk length"),
    (b"*18446744073709551617\r\n", "invalid multibulk length"),
    (b"*" + b"1" * 40, "too big mbulk count string"),
    (b"*1\r\n$x\r\n", "invalid bulk length"),
    (b"*1\r\n$\r\n", "invalid bulk length"),
    (b"*1\r\n$-1\r\n", "invalid bulk length"),
    (b"*1\r\n$-0\r\n", "invalid bulk length"),
    (b"*1\r\n$1000001\r\n", "invalid bulk length"),
    (b"*1\r\n$18446744073709551617\r\n", "invalid bulk length"),
    (b"*1\r\n$4\r\nPINGxx", "invalid bulk length"),
    (b"*1\r\n$3\r\nPING\r\n", "invalid bulk length"),
    (b"*1\r\n$" + b"1" * 40, "too big bulk count string"),
    (b"*1\r\n+PING\r\n", "expected '$', got '+'"),
    (b"*1\r\n\x01", "expected '$', got '\\x01'"),
    (b"*2\r\n$1\r\na\r\n*1\r\n", "expected '$', got '*'"),
    (b'ECHO "a\r\n', "unbalanced quotes in request"),
    (b"ECHO 'a\r\n", "unbalanced quotes in request"),
    (b'ECHO "a"b\r\n', "unbalanced quotes in request"),
    (b"x" * 65_537, "too big inline request"),
    (b"x" * 65_537 + b"\n", "too big inline request"),
    (b"POST / HTTP/1.1\r\n", "HTTP is not served on this port"),
    (b"Host: localhost:6379\r\n", "HTTP is not served on this port"),
]


@pytest.mark.parametrize(("stream", "fault"), FAULTS, ids=lambda value: repr(value)[:30])
def test_a_fault_is_named_in_the_words_of_redis_after_the_commands_before_it(stream: bytes, fault: str) -> None:
    before = [[b"SET", b"a", b"1"], [b"GET", b"a"]]
    whole = b"".join(map(encode, before)) + stream
    for place in range(0, len(whole) + 1, max(len(whole) // 100, 1)):
        assert feed(resp.Parser(), cut(whole, [place])) == (before, f"ERR Protocol error: {fault}")


def test_commands_before_a_fault_come_from_one_call_and_every_later_call_raises() -> None:
    parser = resp.Parser()
    parser.feed(encode([b"PING"]) + b"*x\r\n")
    assert parser.commands() == [[b"PING"]]
    for _ in range(2):
        with pytest.raises(resp.ProtocolError, match="invalid multibulk length"):
            parser.commands()
        parser.feed(encode([b"PING"]))


@given(st.lists(st.sampled_from([b"*", b"$", b"1", b"2", b"-", b"\r\n", b"\n", b"a", b'"', b" ", b"\\"]), max_size=30))
def test_the_outcome_does_not_depend_on_how_the_bytes_are_cut(tokens: list[bytes]) -> None:
    stream = b"".join(tokens)
    whole = feed(resp.Parser(), [stream])
    for place in range(len(stream) + 1):
        assert feed(resp.Parser(), cut(stream, [place])) == whole
    assert feed(resp.Parser(), [stream[at : at + 1] for at in range(len(stream))]) == whole


# Bounds


@pytest.mark.parametrize(
    ("parser", "stream", "too_much", "fault"),
    [
        (
            partial(resp.Parser, args_max=2),
            encode([b"a", b"b"]),
            encode([b"a", b"b", b"c"]),
            "invalid multibulk length",
        ),
        (partial(resp.Parser, args_max=2), b"a b\n", b"a b c\n", "invalid multibulk length"),
        (partial(resp.Parser, bulk_bytes_max=3), encode([b"abc"]), encode([b"abcd"]), "invalid bulk length"),
        (
            partial(resp.Parser, command_bytes_max=6),
            encode([b"abc", b"def"]),
            encode([b"abc", b"defg"]),
            "too big request",
        ),
        (partial(resp.Parser, inline_bytes_max=4), b"PING\n", b"PING \n", "too big inline request"),
        (partial(resp.Parser, inline_bytes_max=4), b"PIN", b"PINGS", "too big inline request"),
    ],
)
def test_a_limit_holds_to_the_byte(
    parser: Callable[[], resp.Parser], stream: bytes, too_much: bytes, fault: str
) -> None:
    assert feed(parser(), [stream])[1] is None
    commands, found = feed(parser(), [too_much])
    assert commands == []
    assert found is not None
    assert fault in found


@pytest.mark.parametrize(
    "stream", [b"*1000000000\r\n", b"*65536\r\n", b"*1\r\n$1000000\r\n", b"*65536\r\n$1000000\r\n"]
)
def test_an_announced_size_allocates_nothing(stream: bytes) -> None:
    parser = resp.Parser()
    tracemalloc.start()
    try:
        feed(parser, [stream])
        assert tracemalloc.get_traced_memory()[1] < 20_000
    finally:
        tracemalloc.stop()


class Counting(resp.Parser):
    """Adds up the bytes that were looked at."""

    __slots__ = ("looked_at",)
    looked_at: int

    def _parse(self, buffer: bytes, complete: list[list[bytes]]) -> int:
        self.looked_at += len(buffer)
        return super()._parse(buffer, complete)


@pytest.mark.parametrize(
    "stream",
    [encode([b"SET", b"k", b"x" * 300_000]), b"PING " + b"x" * 60_000 + b"\n", encode([b"a"] * 20_000)],
    ids=["large", "inline", "many"],
)
def test_work_is_linear_in_the_bytes_however_small_the_pieces(stream: bytes) -> None:
    parser = Counting()
    parser.looked_at = 0
    commands, fault = feed(parser, [stream[at : at + 7] for at in range(0, len(stream), 7)])
    assert (len(commands), fault) == (1, None)
    assert parser.looked_at < 5 * len(stream)


def test_a_quote_that_is_never_closed_is_found_in_linear_time() -> None:
    # Were any part of the expression to give bytes back, this would take minutes.
    assert resp.split_inline(b'"' + b"\\a" * 30_000) is None
    assert resp.split_inline(b"'" + b"\\'" * 30_000) is None


def test_before_authentication_limits_are_narrow_and_auth_takes_effect_before_what_follows() -> None:
    eleven = encode([b"MSET", *[b"x"] * 10])
    large = encode([b"SET", b"k", b"x" * 16_385])
    for stream, fault in ((eleven, "unauthenticated multibulk length"), (large, "unauthenticated bulk length")):
        assert feed(resp.Parser(authenticated=False), [stream]) == ([], f"ERR Protocol error: {fault}")
        parser = resp.Parser(authenticated=False)
        parser.feed(encode([b"AUTH", b"secret"]) + stream * 2)
        assert parser.commands() == [[b"AUTH", b"secret"]]
        parser.authenticated = True
        assert len(parser.commands()) == 2


# Inline quoting


def split_as_in_c(line: bytes) -> list[bytes] | None:
    """Redis's sdssplitargs, statement by statement."""
    space, text = b" \t\n\v\f\r", line + b"\0"
    found: list[bytes] = []
    at = 0

    def ends(place: int) -> bool:
        return place >= len(line) or text[place] in space

    while True:
        while at < len(line) and text[at] in space:
            at += 1
        if at >= len(line):
            return found
        current, quote, done = bytearray(), b"", False
        while not done:
            byte = text[at : at + 1]
            if quote == b'"':
                if text[at : at + 2] == b"\\x" and ishex(text[at + 2 : at + 4]):
                    current.append(int(text[at + 2 : at + 4], 16))
                    at += 3
                elif byte == b"\\" and at + 1 < len(line):
                    at += 1
                    escaped = text[at : at + 1]
                    current += {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}.get(escaped, escaped)
                elif byte == b'"':
                    if not ends(at + 1):
                        return None
                    done = True
                elif at >= len(line):
                    return None
                else:
                    current += byte
            elif quote == b"'":
                if byte == b"\\" and text[at + 1 : at + 2] == b"'":
                    at += 1
                    current += b"'"
                elif byte == b"'":
                    if not ends(at + 1):
                        return None
                    done = True
                elif at >= len(line):
                    return None
                else:
                    current += byte
            elif at >= len(line) or byte in (b" ", b"\n", b"\r", b"\t"):
                done = True
            elif byte in (b'"', b"'"):
                quote = byte
            else:
                current += byte
            at += at < len(line)
        found.append(bytes(current))


def ishex(digits: bytes) -> bool:
    return len(digits) == 2 and all(digit in b"0123456789abcdefABCDEF" for digit in digits)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"SET key value", [b"SET", b"key", b"value"]),
        (b'"a b" \'c d\' e"f g"', [b"a b", b"c d", b"ef g"]),
        (rb'"\n\r\t\b\a\x41\q\\\""', [b'\n\r\t\b\aAq\\"']),
        (rb"'\n\'\\ '", [rb"\n'\\ "]),
        (rb"'\\'", None),
        (rb'"\x4"', [b"x4"]),
        (b"''", [b""]),
        (b"", []),
        (b'"a"b', None),
        (b'a"', None),
        (rb'"\"', None),
        (rb"'\'", None),
    ],
)
def test_quotes_of_inline_commands(line: bytes, expected: list[bytes] | None) -> None:
    assert resp.split_inline(line) == expected
    assert split_as_in_c(line) == expected


@given(st.lists(st.sampled_from([b"a", b"x", b"41", b'"', b"'", b"\\", b" ", b"\t", b"\v", b"\r"]), max_size=12))
def test_any_line_is_split_as_redis_splits_it(tokens: list[bytes]) -> None:
    line = b"".join(tokens)
    assert resp.split_inline(line) == split_as_in_c(line)


# Replies


def decode(reply: bytes) -> object:
    reader = hiredis.Reader()
    reader.feed(reply)
    return reader.gets()


def test_replies_are_read_by_hiredis() -> None:
    assert decode(resp.OK) == b"OK"
    assert decode(resp.simple("PO\r\nNG")) == b"PO  NG"
    assert decode(resp.integer(-(2**63))) == -(2**63)
    assert decode(resp.bulk(b"\r\n")) == b"\r\n"
    assert decode(resp.array([resp.bulk(b""), resp.integer(1), resp.array([])])) == [b"", 1, []]
    assert [decode(resp.NULL[protocol]) for protocol in (2, 3)] == [None, None]
    assert [resp.NULL[protocol] for protocol in (2, 3)] == [b"$-1\r\n", b"_\r\n"]


def test_a_map_is_flat_in_resp2() -> None:
    pairs = [(resp.bulk(b"proto"), resp.integer(3)), (resp.bulk(b"modules"), resp.array([]))]
    assert decode(resp.mapping(pairs, 2)) == [b"proto", 3, b"modules", []]
    assert decode(resp.mapping(pairs, 3)) == {b"proto": 3, b"modules": []}


def test_an_error_is_one_line_whatever_a_client_put_into_it() -> None:
    reply = decode(resp.error("ERR unknown command 'a\r\n+OK'"))
    assert isinstance(reply, hiredis.ReplyError)
    assert str(reply) == "ERR unknown command 'a  +OK'"


@pytest.mark.parametrize(
    ("digits", "number"),
    [
        (b"0", 0),
        (b"-1", -1),
        (b"9223372036854775807", 2**63 - 1),
        (b"-9223372036854775808", -(2**63)),
        *[(digits, None) for digits in (b"", b"-", b"+1", b"01", b"-0", b" 1", b"1_0", b"1.0", b"\xff")],
        (b"9223372036854775808", None),
        (b"-9223372036854775809", None),
        (b"1" * 1_000_000, None),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_numbers_are_read_the_one_way_redis_accepts(digits: bytes, number: int | None) -> None:
    assert resp.parse_integer(digits) == number
