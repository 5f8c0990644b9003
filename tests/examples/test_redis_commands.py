"""Redis's string and key commands, as transcripts: what is typed at which second, and what Redis 7.0 answers."""

import hiredis
import pytest
import resp
from hypothesis import given
from hypothesis import strategies as st
from keyspace import VALUE_BYTES_MAX
from kv_store import KeyValueStore, encode_command
from redis_commands import COMMANDS, CommandError, compile_glob, find

START_US = 1_700_000_000_000_000


class Session:
    """One client of one replica, whose clock moves only when the test says so."""

    def __init__(self) -> None:
        self.store = KeyValueStore()
        self.index = 0
        self.time_us = START_US

    def run(self, arguments: list[bytes]) -> object:
        command = COMMANDS.get(arguments[0].upper())
        if command is not None and not command.is_write:
            reply = self.store.query(arguments, self.time_us, 2)
        else:
            self.index += 1
            reply = self.store.apply(self.index, 1, self.time_us, encode_command(arguments, 2))
        reader = hiredis.Reader()
        reader.feed(reply)
        answer = reader.gets()
        return str(answer) if isinstance(answer, hiredis.ReplyError) else answer

    def type(self, line: str) -> object:
        arguments = resp.split_inline(line.encode())
        assert arguments
        return self.run(arguments)


NOT_INTEGER = "ERR value is not an integer or out of range"
SYNTAX = "ERR syntax error"
INCOMPATIBLE = "ERR NX and XX, GT or LT options at the same time are not compatible"


def invalid_expire(name: str) -> str:
    return f"ERR invalid expire time in '{name}' command"


def wrong_number(name: str) -> str:
    return f"ERR wrong number of arguments for '{name}' command"


# Each transcript starts empty; a number moves the clock by that many seconds, and the write behind it takes it along.
TRANSCRIPTS: dict[str, list[tuple[str, object] | float]] = {
    "get and set": [
        ("GET k", None),
        ("SET k 'a b'", b"OK"),
        ("get k", b"a b"),
        ("STRLEN k", 3),
        ("STRLEN none", 0),
        ("TYPE k", b"string"),
        ("TYPE none", b"none"),
        ("GETSET k c", b"a b"),
        ("GETSET new c", None),
        ("GETDEL k", b"c"),
        ("GETDEL k", None),
        ("SETNX k 1", 1),
        ("SETNX k 2", 0),
        ("GET k", b"1"),
    ],
    "set under a condition": [
        ("SET k 1 XX", None),
        ("GET k", None),
        ("SET k 1 NX", b"OK"),
        ("SET k 2 nx", None),
        ("SET k 2 XX", b"OK"),
        ("SET k 3 GET", b"2"),
        ("SET k 4 NX GET", b"3"),
        ("GET k", b"3"),
        ("SET new 1 GET", None),
        ("GET new", b"1"),
        ("SET none 1 XX GET", None),
        ("EXISTS none", 0),
        ("SET k 1 NX XX", SYNTAX),
        ("SET k 1 FOO", SYNTAX),
        ("SET k 1 EX", SYNTAX),
        ("SET k 1 EX 1 PX 1", SYNTAX),
        ("SET k 1 EX 1 KEEPTTL", SYNTAX),
        ("SET k 1 EX x", NOT_INTEGER),
        ("GET k", b"3"),
    ],
    "set with a deadline": [
        ("SET k 1 EX 10", b"OK"),
        ("TTL k", 10),
        ("PTTL k", 10_000),
        ("SET k 2 KEEPTTL", b"OK"),
        ("TTL k", 10),
        ("SET k 3", b"OK"),
        ("TTL k", -1),
        ("SET none 1 KEEPTTL", b"OK"),
        ("TTL none", -1),
        ("SET k 1 PX 1500", b"OK"),
        ("PTTL k", 1_500),
        ("TTL k", 2),
        ("SET k 1 EXAT 1700000100", b"OK"),
        ("TTL k", 100),
        ("SET k 1 PXAT 1700000000001", b"OK"),
        ("PTTL k", 1),
        ("SET k 1 EXAT 1", b"OK"),
        ("GET k", None),
        ("SETEX k 7 v", b"OK"),
        ("TTL k", 7),
        ("PSETEX k 7 v", b"OK"),
        ("PTTL k", 7),
        ("SET k 1 PX 9223372036854775807", invalid_expire("set")),
        ("SET k 1 EX 9223372036854775807", invalid_expire("set")),
        ("SET k 1 EX 0", invalid_expire("set")),
        ("SET k 1 PXAT -1", invalid_expire("set")),
        ("SETEX k 0 v", invalid_expire("setex")),
        ("PSETEX k -1 v", invalid_expire("psetex")),
        ("SETEX k x v", NOT_INTEGER),
        ("SET far 1 PXAT 9223372036854775807", b"OK"),
        ("GET far", b"1"),
    ],
    "a key expires when an entry of a later time is applied": [
        ("SET k 1 EX 10", b"OK"),
        9.999999,
        ("SET other 1", b"OK"),
        ("GET k", b"1"),
        0.000001,
        ("GET k", b"1"),
        ("PTTL k", 0),
        ("SET other 1", b"OK"),
        ("GET k", None),
        ("TTL k", -2),
        ("EXISTS k other", 1),
        ("MGET k other", [None, b"1"]),
        ("KEYS *", [b"other"]),
        ("DBSIZE", 1),
        ("SET k 2 NX", b"OK"),
        ("TTL k", -1),
    ],
    "a write sees the key expired at its own time": [
        ("SET k 5 EX 1", b"OK"),
        1,
        ("INCR k", 1),
        ("TTL k", -1),
        ("EXPIRE k 1", 1),
        1,
        ("DEL k", 0),
        ("APPEND k a", 1),
    ],
    "expire": [
        ("EXPIRE k 10", 0),
        ("TTL k", -2),
        ("SET k 1", b"OK"),
        ("EXPIRE k 10", 1),
        ("TTL k", 10),
        ("PEXPIRE k 2500", 1),
        ("PTTL k", 2_500),
        ("EXPIREAT k 1700000005", 1),
        ("TTL k", 5),
        ("PEXPIREAT k 1700000005001", 1),
        ("PTTL k", 5_001),
        ("PERSIST k", 1),
        ("PERSIST k", 0),
        ("PERSIST none", 0),
        ("TTL k", -1),
        ("EXPIRE k x", NOT_INTEGER),
        ("EXPIRE k 9223372036854775807", invalid_expire("expire")),
        ("PEXPIRE k 9223372036854775807", invalid_expire("pexpire")),
        ("EXPIRE k -9223372036854775808", invalid_expire("expire")),
        ("EXPIRE k 0", 1),
        ("GET k", None),
        ("SET k 1", b"OK"),
        ("EXPIREAT k 1", 1),
        ("EXISTS k", 0),
    ],
    "expire under a condition": [
        ("SET k 1", b"OK"),
        ("EXPIRE k 10 XX", 0),
        ("EXPIRE k 10 GT", 0),
        ("EXPIRE k 10 NX", 1),
        ("EXPIRE k 20 NX", 0),
        ("EXPIRE k 10 GT", 0),
        ("EXPIRE k 20 gt", 1),
        ("EXPIRE k 20 LT", 0),
        ("EXPIRE k 15 LT XX", 1),
        ("TTL k", 15),
        ("PERSIST k", 1),
        ("EXPIRE k 10 LT", 1),
        ("EXPIRE k 1 NX XX", INCOMPATIBLE),
        ("EXPIRE k 1 GT NX", INCOMPATIBLE),
        ("EXPIRE k 1 GT LT", "ERR GT and LT options at the same time are not compatible"),
        ("EXPIRE k 1 Foo", "ERR Unsupported option Foo"),
    ],
    "numbers": [
        ("INCR n", 1),
        ("INCRBY n 41", 42),
        ("DECR n", 41),
        ("DECRBY n 42", -1),
        ("GET n", b"-1"),
        ("SET n 9223372036854775806", b"OK"),
        ("INCR n", 9223372036854775807),
        ("INCR n", "ERR increment or decrement would overflow"),
        ("GET n", b"9223372036854775807"),
        ("SET n -9223372036854775808", b"OK"),
        ("DECR n", "ERR increment or decrement would overflow"),
        ("INCRBY n -1", "ERR increment or decrement would overflow"),
        ("DECRBY n -9223372036854775808", "ERR decrement would overflow"),
        ("INCRBY n 9223372036854775808", NOT_INTEGER),
        ("INCRBY n 1.5", NOT_INTEGER),
        ("SET n ''", b"OK"),
        ("INCR n", NOT_INTEGER),
        ("SET n ' 1'", b"OK"),
        ("INCR n", NOT_INTEGER),
        ("SET n 01", b"OK"),
        ("DECR n", NOT_INTEGER),
        ("SET n 1 EX 10", b"OK"),
        ("INCR n", 2),
        ("TTL n", 10),
    ],
    "append": [
        ("APPEND k ab", 2),
        ("APPEND k c", 3),
        ("GET k", b"abc"),
        ("APPEND k ''", 3),
        ("EXPIRE k 10", 1),
        ("APPEND k d", 4),
        ("TTL k", 10),
    ],
    "several keys": [
        ("MSET a 1 b 2 a 3", b"OK"),
        ("MGET a none b", [b"3", None, b"2"]),
        ("MSET a 1 b", wrong_number("mset")),
        ("EXISTS a a none b", 3),
        ("DBSIZE", 2),
        ("DEL a a none", 1),
        ("UNLINK b", 1),
        ("DBSIZE", 0),
        ("SET k 1 EX 10", b"OK"),
        ("MSET k 2", b"OK"),
        ("TTL k", -1),
    ],
    "flush": [
        ("MSET a 1 b 2", b"OK"),
        ("FLUSHALL nonsense", SYNTAX),
        ("FLUSHALL ASYNC SYNC", SYNTAX),
        ("DBSIZE", 2),
        ("FLUSHALL", b"OK"),
        ("DBSIZE", 0),
        ("SET a 1", b"OK"),
        ("FLUSHDB async", b"OK"),
        ("KEYS *", []),
    ],
    "scan": [
        ("SCAN 0", [b"0", []]),
        ("SET a 1", b"OK"),
        ("SCAN 0", [b"0", [b"a"]]),
        ("SCAN 0 MATCH b*", [b"0", []]),
        ("SCAN 0 COUNT 100 match ? TYPE string", [b"0", [b"a"]]),
        ("SCAN 0 TYPE list", [b"0", []]),
        ("SCAN 99999999", [b"0", []]),
        ("SCAN x", "ERR invalid cursor"),
        ("SCAN 111111111111111111111", "ERR invalid cursor"),
        ("SCAN 0 COUNT", SYNTAX),
        ("SCAN 0 COUNT 0", SYNTAX),
        ("SCAN 0 COUNT x", NOT_INTEGER),
        ("SCAN 0 FOO 1", SYNTAX),
    ],
    "unknown commands and wrong numbers of arguments": [
        ("GET", wrong_number("get")),
        ("get a b", wrong_number("get")),
        ("SET k", wrong_number("set")),
        ("DEL", wrong_number("del")),
        ("SETEX k 1", wrong_number("setex")),
        ("LPUSH l 1 2", "ERR unknown command 'LPUSH', with args beginning with: 'l' '1' '2' "),
    ],
}


@pytest.mark.parametrize("transcript", TRANSCRIPTS.values(), ids=TRANSCRIPTS)
def test_transcript(transcript: list[tuple[str, object] | float]) -> None:
    session = Session()
    for step in transcript:
        if isinstance(step, tuple):
            line, expected = step
            assert session.type(line) == expected, line
        else:
            session.time_us += round(step * 1_000_000)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_refuses_a_wrong_number_of_arguments(name: bytes) -> None:
    arity = COMMANDS[name].arity
    assert find([name.lower(), *[b"0"] * (abs(arity) - 1)]) is COMMANDS[name]
    wrong = [abs(arity) + 1] if arity == 1 else [abs(arity) - 1] if arity < -1 else []
    if arity > 1:
        wrong = [arity - 1, arity + 1]
    for count in wrong:
        with pytest.raises(CommandError, match=f"for '{name.lower().decode()}' command"):
            find([name, *[b"0"] * (count - 1)])


def test_an_unknown_command_is_shown_as_typed_and_cut_to_128_bytes() -> None:
    with pytest.raises(CommandError) as raised:
        find([b"Foo", b"\xff" * 100, b"b" * 500, b"c"])
    shown = str(raised.value)
    assert shown.startswith("ERR unknown command 'Foo', with args beginning with: '\\xff\\xff")
    assert len(shown) < 700
    assert find([b"gEt", b"k"]) is COMMANDS[b"GET"]


def test_a_value_stops_growing_at_the_limit() -> None:
    session = Session()
    session.run([b"SET", b"k", b"x" * (VALUE_BYTES_MAX - 1)])
    assert session.run([b"APPEND", b"k", b"x"]) == VALUE_BYTES_MAX
    too_long = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
    assert session.run([b"APPEND", b"k", b"x"]) == too_long
    assert session.type("STRLEN k") == VALUE_BYTES_MAX


def test_a_scan_returns_every_key_that_is_there_from_its_beginning_to_its_end() -> None:
    session = Session()
    stay = {b"stay %d" % number for number in range(500)}
    for key in stay:
        session.run([b"SET", key, b""])
    cursor, found, calls = b"0", [], 0
    while True:
        answer = session.run([b"SCAN", cursor, b"COUNT", b"7"])
        assert isinstance(answer, list)
        cursor, keys = answer
        found += keys
        calls += 1
        session.run([b"SET", b"comes %d" % calls, b""])
        session.run([b"DEL", b"comes %d" % (calls - 1)])
        if cursor == b"0":
            break
    assert calls > 20
    assert stay <= set(found)
    assert len(found) == len(set(found))


# Patterns


def matches_as_in_c(pattern: bytes, text: bytes) -> bool:
    """Redis's stringmatchlen, with slices in place of pointers."""
    while pattern and text:
        if pattern[:1] == b"*":
            return any(matches_as_in_c(pattern[1:], text[at:]) for at in range(len(text) + 1))
        if pattern[:1] == b"[":
            pattern = pattern[1:]
            negated = pattern[:1] == b"^"
            pattern = pattern[negated:]
            found = False
            while pattern:
                if pattern[:1] == b"\\" and len(pattern) >= 2:
                    pattern = pattern[1:]
                    found |= pattern[0] == text[0]
                elif pattern[:1] == b"]":
                    break
                elif len(pattern) >= 3 and pattern[1:2] == b"-":
                    low, high = sorted((pattern[0], pattern[2]))
                    pattern = pattern[2:]
                    found |= low <= text[0] <= high
                else:
                    found |= pattern[0] == text[0]
                pattern = pattern[1:]
            if found == negated:
                return False
        elif pattern[:1] != b"?":
            if pattern[:1] == b"\\" and len(pattern) >= 2:
                pattern = pattern[1:]
            if pattern[0] != text[0]:
                return False
        pattern, text = pattern[1:], text[1:]
    return not pattern.strip(b"*") and not text


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (b"*", [b"", b"a", b"\n"], []),
        (b"", [b""], [b"a"]),
        (b"h?llo", [b"hello", b"h\nllo"], [b"hllo", b"heello"]),
        (b"h*llo", [b"hllo", b"heeeello"], [b"hell"]),
        (b"h[ae]llo", [b"hello", b"hallo"], [b"hillo"]),
        (b"h[^e]llo", [b"hallo"], [b"hello"]),
        (b"h[a-c]llo", [b"hallo", b"hcllo"], [b"hdllo"]),
        (b"h[c-a]llo", [b"hbllo"], [b"hdllo"]),
        (b"a.c$", [b"a.c$"], [b"abc$"]),
        (rb"\*\?\[", [b"*?["], [b"a?["]),
        (rb"[\]]", [b"]"], [b"\\"]),
        (b"*a*b*", [b"ab", b"xaxbx"], [b"ba"]),
        (b"*ab", [b"ab", b"abab"], [b"aba"]),
        (b"[", [], [b"[", b""]),
        (b"[^", [b"a"], [b""]),
        (b"[]", [], [b"]"]),
        (b"[a", [b"a"], [b"["]),
        (b"a\\", [b"a\\"], [b"a"]),
    ],
)
def test_patterns_of_the_documentation(pattern: bytes, yes: list[bytes], no: list[bytes]) -> None:
    matches = compile_glob(pattern)
    assert [text for text in yes if not matches(text)] == []
    assert [text for text in no if matches(text)] == []
    assert all(matches_as_in_c(pattern, text) for text in yes)


@given(
    st.lists(st.sampled_from([b"a", b"b", b"*", b"?", b"[", b"]", b"^", b"-", b"\\", b"\n"]), max_size=9),
    st.lists(st.sampled_from([b"a", b"b", b"c", b"]", b"\\", b"-", b"\n"]), max_size=6),
)
def test_any_pattern_matches_what_it_matches_in_redis(pattern: list[bytes], text: list[bytes]) -> None:
    whole = b"".join(text)
    assert bool(compile_glob(b"".join(pattern))(whole)) == matches_as_in_c(b"".join(pattern), whole)


def test_a_pattern_of_many_stars_takes_linear_time() -> None:
    # A matcher that reconsiders would not end before the sun does.
    assert not compile_glob(b"*a" * 200 + b"b")(b"a" * 5_000)


def test_a_pattern_is_bounded() -> None:
    with pytest.raises(CommandError, match="longer than 1024 bytes"):
        compile_glob(b"?" * 1025)
    assert compile_glob(b"?" * 1024)(b"x" * 1024)
