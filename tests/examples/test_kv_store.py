"""The replicated half of the Redis example: one log, one state, one set of answers, whatever else differs."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import kv_store
import pytest
import resp
from hypothesis import given
from hypothesis import strategies as st
from keyspace import VALUE_BYTES_MAX, SnapshotError
from kv_store import TICK, KeyValueStore, encode_command, encode_transaction

EXAMPLES = Path(kv_store.__file__).parent


class Log:
    """Applies entries to a store at a time in seconds."""

    def __init__(self) -> None:
        self.store = KeyValueStore()
        self.index = 0

    def apply(self, entry: bytes, at: float = 0) -> bytes:
        self.index += 1
        return self.store.apply(self.index, 1, round(at * 1_000_000), entry)

    def run(self, line: str, at: float = 0, protocol: int = 2) -> bytes:
        return self.apply(encode_command(line.encode().split(), protocol), at)

    def read(self, line: str, now: float = 0, protocol: int = 2) -> bytes:
        return self.store.query(line.encode().split(), round(now * 1_000_000), protocol)


# Entries and answers


def test_an_answer_is_ready_to_send_in_the_protocol_of_its_client() -> None:
    log = Log()
    log.run("SET k 1")
    assert [log.run("GETDEL k", protocol=protocol) for protocol in (2, 3)] == [b"$1\r\n1\r\n", b"_\r\n"]
    assert log.run("GETDEL k", protocol=2) == b"$-1\r\n"
    log.run("SET k 1")
    assert log.read("MGET k none", protocol=2) == b"*2\r\n$1\r\n1\r\n$-1\r\n"
    assert log.read("MGET k none", protocol=3) == b"*2\r\n$1\r\n1\r\n_\r\n"


def test_a_transaction_is_one_entry_whose_commands_see_each_other_and_fail_alone() -> None:
    log = Log()
    lines = ["SET n 1", "incr n", "INCR n", "GETSET n x", "INCR n", "MGET n none", "NONSENSE", "SET n", "STRLEN n"]
    answer = log.apply(encode_transaction([line.encode().split() for line in lines], 3))
    assert answer == resp.array(
        [
            resp.OK,
            b":2\r\n",
            b":3\r\n",
            b"$1\r\n3\r\n",
            b"-ERR value is not an integer or out of range\r\n",
            b"*2\r\n$1\r\nx\r\n_\r\n",
            b"-ERR unknown command 'NONSENSE', with args beginning with: \r\n",
            b"-ERR wrong number of arguments for 'set' command\r\n",
            b":1\r\n",
        ]
    )
    assert log.apply(encode_transaction([], 2)) == b"*0\r\n"


def test_arguments_of_any_bytes_and_number_pass_through_an_entry() -> None:
    log = Log()
    keys = [b"", b"\r\n", b"\0", *[b"%d" % number for number in range(30)]]
    arguments = [b"MSET", *[argument for key in keys for argument in (key, key * 2)]]
    assert log.apply(encode_command(arguments, 2)) == resp.OK
    assert log.store.query([b"MGET", *keys], 0, 2) == resp.array([resp.bulk(key * 2) for key in keys])


def entries() -> list[bytes]:
    return [
        encode_command([b"SET", b"key", b"value"], 2),
        encode_transaction([[b"SET", b"key", b"value"], [b"SET", b"other", b"value"]], 3),
    ]


@pytest.mark.parametrize("entry", entries())
def test_an_entry_that_is_cut_short_or_goes_on_changes_nothing_and_does_not_raise(entry: bytes) -> None:
    log = Log()
    digest = log.store.digest()
    for damaged in [*[entry[:length] for length in range(len(entry))], entry + b"\0", entry + entry]:
        assert log.apply(damaged).startswith(b"-ERR this entry of the log is malformed")
    for protocol in (0, 1, 4, 255):
        assert log.apply(entry[:1] + bytes((protocol,)) + entry[2:]).startswith(b"-ERR this entry")
    assert log.store.digest() == digest


@pytest.mark.parametrize(
    "entry",
    [
        b"C\2" + b"\xff\xff\xff\xff",
        b"C\2" + b"\0\0\0\0",
        b"C\2" + b"\1\0\0\0" + b"\xff\xff\xff\xff" + b"SET",
        b"T\2" + b"\xff\xff\xff\xff",
        b"T\2" + b"\xff\xff\xff\xff" + encode_command([b"SET", b"a", b"b"], 2)[2:],
        b"Z\2",
    ],
)
def test_a_malformed_count_or_kind_is_an_answer(entry: bytes) -> None:
    assert Log().apply(entry).startswith(b"-ERR this entry of the log is malformed")


@given(st.one_of(st.binary(max_size=60), st.builds(lambda rest: b"C\2" + rest, st.binary(max_size=60))))
def test_no_entry_raises(entry: bytes) -> None:
    log = Log()
    answer = log.apply(entry)
    assert answer[:1] in (b"-", b"*") or (entry == TICK and not answer)


@pytest.mark.parametrize("arguments", [[b"SET", b"k", b"x" * (VALUE_BYTES_MAX + 1)], [b"SET", b"k" * 1_000_001, b""]])
def test_a_key_or_value_above_the_limit_of_a_snapshot_never_gets_into_the_state(arguments: list[bytes]) -> None:
    log = Log()
    assert log.apply(encode_command(arguments, 2)).startswith(b"-ERR")
    assert log.store.key_count() == 0


def test_an_answer_is_bounded_however_small_its_question() -> None:
    log = Log()
    log.apply(encode_command([b"SET", b"k", b"x" * VALUE_BYTES_MAX], 2))
    assert log.store.query([b"MGET", *[b"k"] * 16], 0, 2).startswith(b"*16")
    assert log.store.query([b"MGET", *[b"k"] * 10_000], 0, 2).startswith(b"-ERR the answer is too large")
    answer = log.apply(encode_transaction([[b"GET", b"k"]] * 1_000 + [[b"SET", b"done", b"1"]], 2))
    assert answer.startswith(b"*1001\r\n$1000000\r\n")
    assert b"-ERR the answer is too large" in answer
    assert len(answer) < kv_store.ANSWER_BYTES_MAX + 100_000
    assert log.read("GET done") == b"$1\r\n1\r\n"


# Reads


def test_a_read_changes_nothing_and_a_write_is_no_read() -> None:
    log = Log()
    log.run("SET k 1 EX 5")
    before = log.store.digest()
    for line in ("GET k", "get none", "KEYS *", "SCAN 0", "DBSIZE", "TTL k", "FOO", "GET"):
        log.read(line, now=100)
    assert log.store.digest() == before
    with pytest.raises(ValueError, match="propose it"):
        log.read("set k 2")


def test_a_read_counts_ttl_from_the_clock_but_leaves_expiry_to_the_log() -> None:
    log = Log()
    log.run("SET k 1 EX 10", at=100)
    assert log.read("TTL k", now=104) == b":6\r\n"
    assert log.read("PTTL k", now=109.999) == b":1\r\n"
    assert log.read("PTTL k", now=200) == b":0\r\n"
    assert log.read("GET k", now=200) == b"$1\r\n1\r\n"
    assert log.apply(TICK, at=110) == b""
    assert log.read("GET k", now=105) == b"$-1\r\n"


def test_the_leader_learns_when_to_propose_a_tick_and_repeats_it_while_keys_wait() -> None:
    log = Log()
    assert log.store.next_expiry_us() is None
    log.apply(encode_transaction([[b"SETEX", b"%d" % number, b"5", b""] for number in range(5_000)], 2), at=1)
    log.run("SETEX later 50 x", at=1)
    assert log.store.next_expiry_us() == 6_000_000
    ticks = 0
    while log.store.next_expiry_us() == 6_000_000:
        log.apply(TICK, at=6)
        assert log.store.key_count() == 1
        ticks += 1
    assert ticks == 3
    assert log.store.next_expiry_us() == 51_000_000


# Snapshots and determinism


def test_snapshot_freezes_before_it_returns() -> None:
    assert not inspect.isgeneratorfunction(KeyValueStore.snapshot)
    log, other = Log(), KeyValueStore()
    log.run("SET k 1")
    digest, chunks = log.store.digest(), log.store.snapshot()
    log.run("SET k 2", at=1)
    other.restore(chunks)
    assert other.digest() == digest != log.store.digest()
    assert other.query([b"GET", b"k"], 0, 2) == b"$1\r\n1\r\n"


def test_a_snapshot_that_is_refused_changes_nothing() -> None:
    log = Log()
    log.run("SET k 1")
    digest, chunks = log.store.digest(), list(log.store.snapshot())
    log.run("SET k 2")
    after = log.store.digest()
    with pytest.raises(SnapshotError):
        log.store.restore([chunks[0][:-1]])
    assert log.store.digest() == after
    log.store.restore(chunks)
    assert log.store.digest() == digest


def test_the_digest_sees_keys_values_deadlines_and_time() -> None:
    digests = []
    for lines, at in (([], 0.0), (["SET a 1"], 0), (["SET a 2"], 0), (["SET b 1"], 0), (["SETEX a 9 1"], 0), ([], 1.0)):
        log = Log()
        for line in lines:
            log.run(line, at)
        log.apply(TICK, at)
        digests.append(log.store.digest())
    assert len(set(digests)) == len(digests)


PROGRAM = """
import random
from kv_store import TICK, KeyValueStore, encode_command
from redis_commands import COMMANDS
rng, store, time_us, answers = random.Random(5), KeyValueStore(), 0, []
for index in range(1, 3000):
    time_us += rng.randrange(400_000)
    name = rng.choice(sorted(COMMANDS))
    words = [b"%d" % rng.randrange(60) for _ in range(rng.randrange(1, 4))] + rng.choice([[], [b"EX", b"3"], [b"GT"]])
    answers.append(store.apply(index, 1, time_us, encode_command([name, *words], 3)))
print(store.digest().hex(), b"".join(answers).hex())
"""


def test_the_same_entries_give_the_same_bytes_under_another_hash_seed() -> None:
    outputs = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([str(EXAMPLES), *sys.path])},
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) > 10_000


# Against a model

KEYS = [b"a", b"b", b"c"]
key = st.sampled_from(KEYS)
value = st.sampled_from([b"", b"1", b"-7", b"x"])
seconds = st.sampled_from([b"1", b"2", b"9"])

commands = st.one_of(
    st.tuples(st.just(b"SET"), key, value),
    st.tuples(st.just(b"SET"), key, value, st.just(b"EX"), seconds),
    st.tuples(st.just(b"SET"), key, value, st.just(b"KEEPTTL")),
    st.tuples(st.just(b"SET"), key, value, st.sampled_from([b"NX", b"XX"])),
    st.tuples(st.just(b"DEL"), key, key),
    st.tuples(st.just(b"INCR"), key),
    st.tuples(st.just(b"APPEND"), key, value),
    st.tuples(st.just(b"EXPIRE"), key, seconds),
    st.tuples(st.just(b"PERSIST"), key),
    st.tuples(st.just(b"GETDEL"), key),
)


class Model:
    """The same commands on a dictionary of (value, deadline), cleaned before each of them."""

    def __init__(self) -> None:
        self.now = 0
        self.keys: dict[bytes, tuple[bytes, float]] = {}

    def clean(self, now: int) -> None:
        self.now = now
        self.keys = {name: pair for name, pair in self.keys.items() if pair[1] > now}

    def run(self, name: bytes, *words: bytes) -> object:
        old, deadline = self.keys.get(words[0], (None, float("inf")))
        match name, *words[1:]:
            case b"SET", new, b"EX", count:
                self.keys[words[0]] = new, self.now + int(count)
            case b"SET", new, b"KEEPTTL":
                self.keys[words[0]] = new, deadline
            case b"SET", new, *condition:
                if condition and (old is None) != (condition == [b"NX"]):
                    return None
                self.keys[words[0]] = new, float("inf")
            case b"DEL", _:
                return sum(self.keys.pop(word, None) is not None for word in words)
            case b"INCR", *_:
                if old is not None and not re.fullmatch(rb"0|-?[1-9][0-9]*", old):
                    return "error"
                self.keys[words[0]] = b"%d" % (int(old or 0) + 1), deadline
                return int(old or 0) + 1
            case b"APPEND", tail:
                self.keys[words[0]] = (old or b"") + tail, deadline
                return len(old or b"") + len(tail)
            case b"EXPIRE", count:
                if old is None:
                    return 0
                self.keys[words[0]] = old, self.now + int(count)
                return 1
            case b"PERSIST", *_:
                if old is None or deadline == float("inf"):
                    return 0
                self.keys[words[0]] = old, float("inf")
                return 1
            case b"GETDEL", *_:
                self.keys.pop(words[0], None)
                return old
        return "OK"


def encode_expected(answer: object) -> bytes:
    if isinstance(answer, int):
        return resp.integer(answer)
    if isinstance(answer, bytes):
        return resp.bulk(answer)
    return resp.OK if answer == "OK" else resp.NULL[2]


@given(st.lists(st.tuples(st.integers(0, 2), commands, st.booleans()), max_size=40))
def test_any_history_is_that_of_a_dictionary_and_survives_snapshots(
    history: list[tuple[int, tuple[bytes, ...], bool]],
) -> None:
    log, twin, model, now = Log(), KeyValueStore(), Model(), 0
    for index, (elapsed, arguments, change) in enumerate(history, 1):
        now += elapsed
        model.clean(now)
        entry = encode_command(arguments, 2)
        answer, expected = log.apply(entry, now), model.run(*arguments)
        assert answer.startswith(b"-ERR") if expected == "error" else answer == encode_expected(expected)
        for name in KEYS:
            known = model.keys.get(name)
            assert log.store.query([b"GET", name], 0, 2) == (resp.bulk(known[0]) if known else resp.NULL[2])
        assert log.store.key_count() == len(model.keys)
        # The twin lives through restarts from snapshots of the other, which must not show in anything.
        assert twin.apply(index, 1, now * 1_000_000, entry) == answer
        assert twin.query([b"KEYS", b"*"], 0, 2) == log.read("KEYS *")
        assert twin.digest() == log.store.digest()
        if change:
            twin.restore(log.store.snapshot())
