"""Bulk streams: a second connection for what is large."""

import pytest
import trio
from transport_nodes import Letter, Node, frame, join, run, run_virtual, serving

from distkit.core import PeerError
from distkit.transport import BulkStream, Disconnected, HandshakeRefused, Hello, Limits, Purpose, Refusal, RefusalCode


def test_messages_of_any_size_go_and_return_in_order() -> None:
    async def main() -> None:
        one, two = Node(1), Node(2)
        async with serving(one, two), await one.transport.open_bulk(2) as stream:
            assert stream.hello.node == 2
            await two.saw("bulk", 1)
            for size in (0, 1, 70_000, 4_000_000):
                await stream.send(Letter(size, bytes(size)))
                assert await stream.receive() == Letter(size, bytes(size))
            await stream.send(Letter(1, b""))
            await stream.send(Letter(2, b""))
            assert [await stream.receive(), await stream.receive()] == [Letter(1, b""), Letter(2, b"")]
            assert two.letters == []

    run(main)


def test_it_does_not_stand_in_the_way_of_links() -> None:
    """Nobody reads the echo, so the bulk stream is stuck; the link between the same two nodes is not."""

    async def fill(stream: BulkStream) -> None:
        while True:
            await stream.send(Letter(0, bytes(1 << 20)))

    async def main() -> None:
        one, two = Node(1, limits=Limits(bulk_timeout=10)), Node(2)
        async with serving(one, two) as nursery, await one.transport.open_bulk(2) as stream:
            with pytest.RaisesGroup(pytest.RaisesExc(Disconnected, match="did not take")):
                async with trio.open_nursery() as filling:
                    filling.start_soon(fill, stream)
                    await two.saw("bulk", 1)
                    for number in range(20):
                        one.send(2, Letter(number, b""))
                    await two.until(lambda: len(two.letters) == 20)
            nursery.cancel_scope.cancel()

    run_virtual(main)


def test_every_message_leaves_other_tasks_their_turn() -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        one, two = Node(1), Node(2)
        async with serving(one, two) as nursery, await one.transport.open_bulk(2) as stream:
            await two.saw("bulk", 1)
            nursery.start_soon(take_turns)
            before = turns
            for number in range(50):
                await stream.send(Letter(number, b""))
            assert turns - before >= 25, "trio may let a task be the last of one turn and the first of the next"
            before = turns
            for _ in range(50):
                await stream.receive()
            assert turns - before >= 25

    run(main)


def test_the_end_and_silence_are_told_apart() -> None:
    async def main() -> None:
        one, two = Node(1), Node(2)
        async with serving(one, two), await one.transport.open_bulk(2) as stream:
            begun = trio.current_time()
            with pytest.raises(Disconnected, match="no message") as caught:
                await stream.receive()
            assert caught.value.reason == "timeout"
            assert trio.current_time() - begun == pytest.approx(30, abs=0.5)
            with pytest.raises(Disconnected) as caught:
                await stream.receive()
            assert caught.value.reason == "reset"

    run_virtual(main)


@pytest.mark.parametrize("data", [bytes(16), frame(Letter(1, b""), group=1)])
def test_nonsense_is_a_peer_error(data: bytes) -> None:
    ended: list[str] = []

    class Strict(Node):
        async def on_bulk(self, hello: Hello, stream: BulkStream) -> None:
            with pytest.raises(PeerError):
                await stream.receive()
            ended.append("as it should")

    async def main() -> None:
        one = Strict(1)
        async with serving(one), await join(one, 2, purpose=Purpose.BULK) as raw:
            await raw.send_all(data)
            assert await raw.receive_some() == b""
        assert ended == ["as it should"]

    run(main)


def test_who_cannot_be_reached_or_refuses_is_an_error() -> None:
    class Unwilling(Node):
        def judge(self, hello: Hello) -> Refusal | None:
            return Refusal(RefusalCode.OTHER, "not now") if hello.purpose is Purpose.BULK else None

    async def main() -> None:
        one, two = Node(1), Unwilling(2)
        async with serving(one, two):
            with pytest.raises(HandshakeRefused, match="not now") as caught:
                await one.transport.open_bulk(2)
            assert caught.value.by_peer
            assert ("hello", 1, 1) in two.events
            two.stop()
            await one.saw("lost", 2, "reset")
            with pytest.raises(Disconnected):
                await one.transport.open_bulk(2)

    run(main)
