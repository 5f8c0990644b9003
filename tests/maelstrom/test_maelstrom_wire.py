"""Lines in and out: whole however they arrive, and bounded."""

from __future__ import annotations

import json

import maelstrom_wire
import pytest
import trio
import trio.testing
from maelstrom_wire import LINE_BYTES_MAX, Malformed, Message, Output, canonical, parse, read_lines
from trio.testing import MemoryReceiveStream, MemorySendStream


def lines_of(*pieces: bytes) -> list[bytes]:
    """What is read when a stream brings these pieces one by one."""
    found: list[bytes] = []

    stream = MemoryReceiveStream()

    async def read() -> None:
        async for lines in read_lines(stream):
            found.extend(lines)

    async def feed() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for piece in pieces:
                stream.put_data(piece)
                await trio.testing.wait_all_tasks_blocked()
            stream.put_eof()

    trio.run(feed)
    return found


def test_lines_are_whole_wherever_the_stream_is_cut() -> None:
    data = b"one\n\ntwo\r\nthree\nrest"
    for cut in range(1, len(data)):
        assert lines_of(data[:cut], data[cut:]) == [b"one", b"", b"two\r", b"three"]
    assert lines_of(*(data[place : place + 1] for place in range(len(data)))) == [b"one", b"", b"two\r", b"three"]


def test_a_line_that_is_too_long_is_skipped_to_its_end() -> None:
    long = b"x" * LINE_BYTES_MAX
    assert lines_of(b"one\n" + long, long, b"yy\ntwo\n") == [b"one", b"x" * 100, b"two"]


def test_a_message_has_three_parts() -> None:
    line = b'{"id": 7, "src": "c1", "dest": "n1", "body": {"type": "read", "more": 1}}'
    assert parse(line) == Message("c1", "n1", {"type": "read", "more": 1})
    for wrong in (b"", b"7", b'{"src": "c1"}', b"[" * 10_000, "\ufeff{}".encode("utf-16"), b'{"src": NaN}'):
        with pytest.raises(Malformed):
            parse(wrong)


def test_texts_are_equal_as_values_are() -> None:
    assert canonical({"b": [1, None], "a": "ü"}) == '{"a":"\\u00fc","b":[1,null]}'
    assert len({canonical(value) for value in (1, 1.0, True, "1")}) == 4


def test_what_is_over_the_bound_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maelstrom_wire, "OUTPUT_BYTES_MAX", 150)

    async def main() -> None:
        stream = MemorySendStream()
        output = Output(stream)
        posted = [output.post("n1", "c1", {"type": "read_ok", "value": number}) for number in range(5)]
        assert posted == [True, True, False, False, False]
        assert output.dropped == 3
        async with trio.open_nursery() as nursery:
            nursery.start_soon(output.run)
            await output.wait_written()
            nursery.cancel_scope.cancel()
        written = [json.loads(line) for line in stream.get_data_nowait().splitlines()]
        assert [message["body"]["value"] for message in written] == [0, 1]
        assert output.post("n1", "c1", {"type": "read_ok", "value": 5})

    trio.run(main)
