"""Histories of real systems: the formats, which call ends where, and what is said of those that cannot be read."""

import json
from collections.abc import Iterable
from itertools import count
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit.core import LocalError
from distkit.sim.linear import Operation
from distkit.sim.linear.edn import RECORD_CHARS_MAX, HistoryError
from distkit.sim.linear.formats import LINE_CHARS_MAX
from distkit.sim.linear.reading import read_history

HISTORIES = Path(__file__).parent / "histories"


def log(*events: str) -> list[str]:
    """Lines of a log, from events such as `0 invoke write 3`."""
    lines = []
    for event in events:
        process, what, kind, value = event.split(maxsplit=3)
        lines.append(f"INFO  jepsen.util - {process}\t:{what}\t:{kind}\t{value}\n")
    return lines


def refusal(lines: Iterable[str | bytes], **options: Any) -> str:
    with pytest.raises(HistoryError) as caught:
        read_history(lines, **options)
    assert isinstance(caught.value, LocalError)
    return str(caught.value)


WRITTEN_AND_READ = [Operation(0, "write", 3, None, 1, 3), Operation(1, "read", None, 3, 2, 4)]


@pytest.mark.parametrize(
    "text",
    [
        # Jepsen's EDN: one a line, pretty, all in one vector, tagged, with more fields
        """{:process 0, :type :invoke, :f :write, :value 3}
{:process 1, :type :invoke, :f :read, :value nil}
{:process 0, :type :ok, :f :write, :value 3}
{:process 1, :type :ok, :f :read, :value 3}
""",
        """[{:process 0, :type :invoke, :f :write, :value 3, :index 0, :time 12}
{:process 1, :type :invoke, :f :read, :value nil, :index 1, :time 13}
{:process 0, :type :ok, :f :write, :value 3, :index 2, :time 14}
{:process 1, :type :ok, :f :read, :value 3, :index 3, :time 15}]""",
        # knossos fills the answer into the call
        """#jepsen.history.Op{:process 0, :type :invoke, :f :write, :value 3}
#jepsen.history.Op{:process 1, :type :invoke, :f :read, :value 3}
#jepsen.history.Op{:process 0, :type :ok, :f :write, :value 3}
#jepsen.history.Op{:process 1, :type :ok, :f :read, :value 3}""",
        # the log of Jepsen before 0.1.4, in 2017 to 2023, and now; then history.txt; then one that others write
        """INFO  jepsen.util - 0\t:invoke\t:write\t3
INFO  jepsen.util - 1\t:invoke\t:read\tnil
INFO  jepsen.util - 0\t:ok\t:write\t3
INFO  jepsen.util - 1\t:ok\t:read\t3
INFO  jepsen.core - Worker 1 done :ok then
""",
        """INFO [2019-04-17 17:38:16,855] jepsen worker 0 - jepsen.util 0\t:invoke\t:write\t3
INFO [2019-04-17 17:38:16,856] jepsen worker 1 - jepsen.util 1\t:invoke\t:read\tnil
INFO [2019-04-17 17:38:16,861] jepsen worker 0 - jepsen.util 0\t:ok\t:write\t3
INFO [2019-04-17 17:38:16,862] jepsen worker 1 - jepsen.util 1\t:ok\t:read\t3
""",
        """2023-03-27 15:45:56,226{GMT}\tINFO\t[jepsen worker 0] jepsen.util: 0\t:invoke\t:write\t3
2023-03-27 15:45:56,227{GMT}\tINFO\t[jepsen worker 1] jepsen.util: 1\t:invoke\t:read\tnil
2023-03-27 15:45:56,228{GMT}\tINFO\t[jepsen worker 0] jepsen.util: 0\t:ok\t:write\t3
2023-03-27 15:45:56,229{GMT}\tINFO\t[jepsen worker 1] jepsen.util: 1\t:ok\t:read\t3
""",
        "0\t:invoke\t:write\t3\n1\t:invoke\t:read\tnil\n0\t:ok\t:write\t3\n1\t:ok\t:read\t3\n",
        """INFO  jepsen.util - 0 \t:invoke :write \t3 \t:hint 0
INFO  jepsen.util - 1 \t:invoke :read \tnil \t:hint 0
INFO  jepsen.util - 0 \t:ok :write \t3 \t:hint 1
INFO  jepsen.util - 1 \t:ok :read \t3 \t:hint 1
""",
        # JSON lines
        """{"process": 0, "type": "invoke", "f": "write", "value": 3}
{"process": 1, "type": "invoke", "f": "read", "value": null}
{"process": 0, "type": "ok", "f": "write", "value": 3, "time": 1.5}
{"process": 1, "type": "ok", "f": "read", "value": 3}""",
    ],
)
def test_each_format_says_the_same(text: str) -> None:
    assert read_history(text.splitlines(keepends=True)) == WRITTEN_AND_READ
    assert read_history(text.encode().replace(b"\n", b"\r\n").splitlines(keepends=True)) == WRITTEN_AND_READ
    assert read_history(["\ufeff" + text.splitlines()[0], *text.splitlines()[1:]]) == WRITTEN_AND_READ


def test_times_are_lines_or_count_on_where_events_share_one() -> None:
    event = "{{:process 0 :type :{} :f :write :value 3}}".format
    lines = ["[", "", event("invoke") + event("ok") + event("invoke"), "", "", event("ok") + "]"]
    assert [(found.called, found.returned) for found in read_history(lines)] == [(3, 4), (5, 6)]


def test_failed_operations_are_left_out_and_those_without_an_outcome_never_return() -> None:
    lines = log(
        "0 invoke write 1",
        "0 fail write :conflict",
        "1 invoke cas [1 2]",
        "1 info cas indeterminate: #object[java.net (timeout",
        "2 invoke write 3",
    )
    assert read_history(lines) == [Operation(1, "cas", (1, 2), None, 3, inf), Operation(2, "write", 3, None, 5, inf)]


def test_a_process_may_go_on_after_an_unknown_outcome() -> None:
    lines = log("0 invoke write 1", "0 info write nil", "0 invoke read nil", "0 ok read 1")
    assert read_history(lines) == [Operation(0, "write", 1, None, 1, inf), Operation(0, "read", None, 1, 3, 4)]


@pytest.mark.parametrize(
    ("kind", "given", "answer", "operation"),
    [
        ("read", "nil", "nil", (None, None)),
        ("write", "4", "4", (4, None)),
        ("cas", "[1 2]", "[1 2]", ((1, 2), True)),
        ("cas", "[1 2]", "false", ((1, 2), False)),
        ("append", '"x"', '"x"', ("x", None)),
        ("read", "nil", "[1 2]", (None, (1, 2))),
        ("enqueue", "7", "7", (7, None)),
        ("dequeue", "nil", "7", (None, 7)),
        ("acquire", "nil", "nil", (None, None)),
        ("add", "2", "9", (2, 9)),
        ("get", '"k"', "7", ("k", 7)),
        ("get", "nil", "nil", (None, None)),
    ],
)
def test_what_an_answer_is(kind: str, given: str, answer: str, operation: tuple[object, object]) -> None:
    (found,) = read_history(log(f"0 invoke {kind} {given}", f"0 ok {kind} {answer}"))
    assert (found.input, found.output) == operation


def test_the_nemesis_is_no_client() -> None:
    lines = ["INFO  jepsen.util - :nemesis\t:info\t:start\tnil\n", *log("0 invoke write 1", "0 ok write 1")]
    assert len(read_history(lines)) == 1
    (found,) = read_history(
        ['{:process :nemesis, :type :info, :f :kill, :value nil} {:process "a" :type :invoke :f :read}']
    )
    assert found.process == "a"


def test_keys_are_in_a_field_or_in_the_values() -> None:
    by_field = ['{"process": 0, "type": "invoke", "f": "write", "value": 1, "key": "x"}']
    assert read_history(by_field) == [Operation(0, "write", 1, None, 1, inf, "x")]
    lines = log("0 invoke read [7 nil]", "1 invoke cas [8 [1 2]]", "0 ok read [7 3]", "1 ok cas [8 [1 2]]")
    assert read_history(lines, keyed=True) == [
        Operation(0, "read", None, 3, 1, 3, 7),
        Operation(1, "cas", (1, 2), True, 2, 4, 8),
    ]


def test_with_times_the_lines_may_be_in_any_order() -> None:
    events = [(0, "ok", 3.5), (1, "ok", 2), (0, "invoke", 1), (1, "invoke", 0.5)]
    lines = [
        json.dumps({"process": process, "type": what, "f": "write", "value": process, "time": time})
        for process, what, time in events
    ]
    expected = [Operation(1, "write", 1, None, 0.5, 2), Operation(0, "write", 0, None, 1, 3.5)]
    assert read_history(lines, by_time=True) == expected
    assert "line 1: process 0 ends write here, which it has not called" in refusal(lines)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            log("0 invoke write 1", "0 invoke read nil"),
            "line 2: process 0 calls read here, but its write of line 1 has no",
        ),
        (log("0 invoke write 1", "1 ok write 1"), "line 2: process 1 ends write here, which it has not called"),
        (
            log("0 invoke write 1", "0 ok read 1"),
            "line 2: process 0 ends read here, but what it called in line 1 is write",
        ),
        (
            ['{"process":0,"type":"invoke","f":"read","key":1}', '{"process":0,"type":"ok","f":"read","key":2}'],
            "line 2: process 0 ends read here, but what it called in line 1 is read of key 1",
        ),
        (['{"type":"invoke","f":"read"}'], "line 1: process must be a number or a name, not None"),
        (
            ['{"process":"\\u001b[2J","type":"ok","f":"x"}'],
            "line 1: process must be a number or a name, not '\\x1b[2J'",
        ),
        (['{"process":1,"type":"ok","f":"\\u0007"}'], "line 1: f must be the name of an operation, not '\\x07'"),
        (['{"process":true,"type":"invoke","f":"read"}'], "line 1: process must be a number or a name, not True"),
        (['{"process":1,"type":"call","f":"read"}'], "line 1: type must be one of invoke, ok, fail, info, not 'call'"),
        (['{"process":1,"type":["ok"],"f":"read"}'], "line 1: type must be one of invoke, ok, fail, info, not ('ok',)"),
        (['{"process":1,"type":"invoke"}'], "line 1: f must be the name of an operation, not None"),
        (
            ['{"process":1,"type":"invoke","f":"read","value":NaN}'],
            "line 1: this is no value of a history: NaN is equal",
        ),
        (['{"process":1,"process":1}'], "line 1: this is no value of a history: an object has one name twice"),
        (['{"process":' + "9" * 5000 + "}"], "line 1: this is no value of a history: Exceeds the limit"),
        (['{"value":' + "[" * 40 + "]" * 40 + "}"], "line 1: nested more than 32 deep"),
        (['{"value":' + "[" * 500_000], "line 1: this is no value of a history: maximum recursion depth"),
        (['{"value":"\\ud800"}'], "line 1: the text '\\ud800' has half of a character in it"),
        (['{"value":"' + "x" * RECORD_CHARS_MAX + '"}'], "line 1: one record is longer than 1048576 characters"),
        (
            ['{"process":1,', '"type":"ok"}'],
            "line 1: the JSON object does not end on its line: the history was cut short",
        ),
        (['{"process":1} x'], "line 1: column 15: Extra data"),
        (['[{"process":1}]'], "line 1: expected a JSON object on one line, found '[{\"process\":1}]'"),
        (['{"process":1,"type":"inv'], "line 1: the JSON object does not end on its line: the history was cut short"),
        (["{:process 1 :type :inv"], "line 1: what '{' begins here has no end: the history was cut short"),
        (
            [*log("0 invoke write 1"), "INFO  jepsen.util - 0\t:ok\t:write\t1"],
            "line 2: the last line of the log has no new",
        ),
        ([*log("0 invoke write 1"), "INFO  jepsen.util - 0\t:o"], "line 2: the last line of the log has no newline"),
        (["INFO  jepsen.util - 0\t:ok\t:write\n"], "line 1: the event has no value: the history was cut short"),
        (["INFO  jepsen.util - 0\t:ok\n"], "line 1: the event has no operation: the history was cut short"),
        (
            ["INFO  jepsen.util - x\t:ok\t:write\t1\n"],
            "line 1: an event begins with the number of its process, not 'x'",
        ),
        (["INFO  jepsen.util - 0\t:ok\t:write\t[1 2\n"], "line 1: what '[' begins here has no end"),
        ([b"ok\n", b"\xff\xfe\n"], "line 2: this is not UTF-8 text: 'utf-8' codec can't decode byte 0xff"),
        (["{:value \udc80}"], "line 1: this is not UTF-8 text"),
        (["x" * (LINE_CHARS_MAX + 1)], "line 1: the line is longer than 67108864 characters"),
        ([], "there is no event in it"),
        (["\n", "; a comment\n"], "there is no event in it"),
        (["[]"], "there is no event in it"),
        (
            ["Dear checker,\n", "all is well.\n"],
            "there is no event in it. A history is EDN ({:process 0, :type :invoke,",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(lines: list[str], message: str) -> None:
    assert refusal(lines).startswith(message)


@pytest.mark.parametrize(
    ("value", "message"),
    [("3", "the value must be a pair [key value], as the history is keyed, not 3"), ("[1 2 3]", "not (1, 2, 3)")],
)
def test_a_keyed_history_has_pairs_only(value: str, message: str) -> None:
    assert message in refusal(log(f"0 invoke write {value}"), keyed=True)


@pytest.mark.parametrize("time", ["null", "true", '"now"', "1e999"])
def test_an_event_without_a_time_has_no_place_among_times(time: str) -> None:
    line = f'{{"process": 0, "type": "invoke", "f": "read", "time": {time}}}'
    assert refusal([line], by_time=True).startswith("line 1: time must be a number, not ")


def test_a_history_is_bounded_in_operations_and_in_memory() -> None:
    lines = log("0 invoke write 1", "0 ok write 1", "0 invoke write 2", "0 ok write 2")
    assert len(read_history(lines, operations_max=2)) == 2
    assert refusal(lines, operations_max=1) == "line 3: the history has more than 1 operations"
    assert "line 1: the history as far as this line takes more than 300 bytes" in refusal(lines, bytes_max=300)
    ends = ['{"process":0,"type":"ok","f":"read","time":1}'] * 5
    assert refusal(ends, operations_max=3, by_time=True) == "line 4: the history has more than 3 operations"


def test_an_endless_history_is_refused_without_being_read_to_an_end() -> None:
    endless = (line for number in count() for line in log(f"0 invoke write {number}", f"0 ok write {number}"))
    assert refusal(endless, operations_max=10).startswith("line 21: ")


@pytest.mark.parametrize("name", ["legal.edn", "illegal.log", "legal.jsonl", "illegal.jsonl"])
def test_a_history_that_is_cut_within_a_line_says_so(name: str) -> None:
    data = (HISTORIES / name).read_bytes()
    whole = read_history(data.splitlines(keepends=True))
    read = 0
    for end in range(len(data) - 1):
        try:
            found = read_history(data[:end].splitlines(keepends=True))
        except HistoryError as error:
            said = str(error)
        else:
            assert b"\n" in data[end - 1 : end + 1]
            assert len(found) <= len(whole)
            read, said = read + 1, "cut short"
        assert "cut short" in said or said.startswith("there is no event in it")
    assert (read > 0) == (name != "legal.edn")


PIECES = st.sampled_from(
    [
        *(
            "{",
            "}",
            "[",
            "]",
            ":process 0",
            ":type :invoke",
            ":type :ok",
            ":f :read",
            ":value 3",
            " ",
            "#op",
            "#_",
            "\n",
        ),
        *(
            '"process": 0',
            '"type": "ok"',
            '"f": "x"',
            ",",
            "0\t:ok\t:read\t3\n",
            "INFO  jepsen.util - 1 :invoke :a [1]\n",
        ),
    ]
)


@given(
    st.binary(max_size=80) | st.lists(PIECES, max_size=20).map(lambda pieces: "".join(pieces).encode()), st.booleans()
)
def test_any_bytes_give_operations_or_a_typed_error(data: bytes, keyed: bool) -> None:
    for by_time in (False, True):
        try:
            found = read_history(data.splitlines(keepends=True), keyed=keyed, by_time=by_time)
        except HistoryError:
            continue
        assert all(operation.called < operation.returned or by_time for operation in found)
        assert all(hash(operation) is not None for operation in found)
