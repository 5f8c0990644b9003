"""Links between nodes over real sockets: what arrives, what is lost, and what one bad peer cannot do to the others."""

import errno
import random
import socket

import pytest
import trio
from transport_nodes import KEY, REGISTRY, Letter, Node, connect, frame, join, run, run_virtual, serving
from trio.testing import wait_all_tasks_blocked

from distkit.codec import Registry
from distkit.core import LocalError
from distkit.transport import Credentials, Hello, Limits, Link, Ping, RefusalCode, Transport
from distkit.transport.hello import HANDSHAKE, Greeting

SMALL = Limits(outbox_bytes_max=(4 << 20) + 1)


def counted(pairs: tuple[tuple[str, int], ...], reason: str) -> int:
    return dict(pairs).get(reason, 0)


# -- what arrives -----------------------------------------------------------------------------------------------------


def test_requests_go_by_the_dialled_link_and_answers_return_on_it() -> None:
    async def main() -> None:
        one, two = Node(1), Node(2)
        two.answering = True
        async with serving(one, two):
            assert one.transport.connected(2)
            assert one.send(2, Letter(5, b"question"), group=9)
            await one.until(lambda: bool(one.letters))
            assert two.letters == [(1, 9, Letter(5, b"question"))]
            assert one.letters == [(2, 9, Letter(5, b"question"))]

    run(main)


def test_a_reply_goes_by_the_link_that_the_peer_dialled() -> None:
    async def main() -> None:
        one = Node(1)
        async with serving(one):
            async with await join(one, 2) as raw:
                await one.saw("hello", 2, 1)
                assert not one.transport.connected(2)
                assert not one.transport.send(2, Letter(1, b""))
                assert one.transport.reply(2, Letter(2, b"answer"))
                one.transport.flush()
                assert await raw.receive_some() == frame(Letter(2, b"answer"))
            assert counted(one.transport.status().drops, "unconnected") == 1

    run(main)


def test_nothing_leaves_before_flush_and_order_is_kept() -> None:
    async def main() -> None:
        one, two = Node(1), Node(2)
        async with serving(one, two):
            letters = [Letter(i, bytes(i % 5000)) for i in range(2000)]
            for letter in letters:
                assert one.transport.send(2, letter)
            await wait_all_tasks_blocked()
            assert two.letters == []
            one.transport.flush()
            await two.until(lambda: len(two.letters) == 2000)
            assert [letter for _, _, letter in two.letters] == letters

    run(main)


def test_what_the_connection_does_not_take_at_once_follows_by_itself() -> None:
    async def main() -> None:
        one, two = Node(1), Node(2)
        async with serving(one, two):
            letters = [Letter(i, random.Random(i).randbytes(1 << 20)) for i in range(30)]
            for letter in letters:
                assert one.send(2, letter)
            assert one.transport.status().outbox_bytes > 0
            await two.until(lambda: len(two.letters) == 30)
            assert [letter for _, _, letter in two.letters] == letters
            status = one.transport.status()
            assert status.outbox_bytes == 0
            assert status.outbox_bytes_high > 1 << 20

    run(main)


def test_unknown_peers_and_missing_links_drop_and_count() -> None:
    async def main() -> None:
        one = Node(1)
        async with serving(one):
            assert not one.send(9, Letter(1, b""))
            assert not one.transport.reply(9, Letter(1, b""))
            assert counted(one.transport.status().drops, "unconnected") == 2
            with pytest.raises(LocalError):
                await one.transport.open_bulk(9)

    run(main)


def test_idle_links_stay_up() -> None:
    async def main() -> None:
        one, two = Node(1), Node(2)
        async with serving(one, two):
            await trio.sleep(30)
            assert one.send(2, Letter(1, b"still here"))
            await two.until(lambda: bool(two.letters))
            assert not [event for event in one.events + two.events if event[0] == "lost"]

    run_virtual(main)


# -- loss -------------------------------------------------------------------------------------------------------------


def test_a_stopped_peer_is_lost_by_reset_on_both_links_and_found_again() -> None:
    async def main() -> None:
        one, two = Node(1), Node(2)
        async with serving(one, two) as nursery:
            two.stop()
            await one.until(lambda: one.events.count(("lost", 2, "reset")) == 2)
            assert not one.send(2, Letter(1, b""))
            again = Node(2, boot=2, listen=two.address)
            nursery.start_soon(again.serve, {1: one.address})
            await one.until(lambda: one.events.count(("connected", 2)) == 2)
            await one.saw("hello", 2, 2)
            assert one.send(2, Letter(7, b"welcome back"))
            await again.until(lambda: bool(again.letters))

    run(main)


def test_a_newer_connection_replaces_an_older_one() -> None:
    async def main() -> None:
        one = Node(1)
        async with serving(one):
            async with await join(one, 2) as first, await join(one, 2) as second:
                assert await first.receive_some() == b""
                await second.send_all(frame(Letter(1, b"second")))
                await one.until(lambda: bool(one.letters))
                assert ("lost", 2, "reset") not in one.events
                async with await join(one, 2, boot=2):
                    assert await second.receive_some() == b""
                    assert one.events[-2:] == [("lost", 2, "reset"), ("hello", 2, 2)]
            await one.until(lambda: one.events[-1] == ("lost", 2, "reset"))
            assert one.transport.status().peers == ()

    run(main)


@pytest.mark.parametrize("drip", [False, True])
def test_a_peer_that_says_nothing_useful_is_lost(drip: bool) -> None:
    """Silence, and a frame that comes at a byte a second."""

    async def main() -> None:
        one = Node(1)
        async with serving(one), await join(one, 2) as raw:
            begun = trio.current_time()
            if drip:
                for byte in frame(Letter(1, bytes(100)))[:4]:
                    await raw.send_all(bytes([byte]))
                    await trio.sleep(1)
            await one.saw("lost", 2, "timeout")
            assert one.letters == []
            assert trio.current_time() - begun == pytest.approx(5, abs=1.1)

    run_virtual(main)


def test_a_peer_that_never_reads_is_bounded_then_lost_and_others_do_not_notice() -> None:
    async def ping_forever(raw: trio.SocketStream) -> None:
        try:
            while True:
                await raw.send_all(frame(Ping()))
                await trio.sleep(1)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def main() -> None:
        one, two = Node(1, limits=SMALL), Node(2)
        async with serving(one, two) as nursery, await join(one, 3) as raw:
            await one.saw("hello", 3, 1)
            nursery.start_soon(ping_forever, raw)
            letter = Letter(0, bytes(1 << 20))
            while one.transport.reply(3, letter):
                one.transport.flush()
            for _ in range(1000):
                assert not one.transport.reply(3, letter)
            status = one.transport.status()
            assert status.outbox_bytes <= SMALL.outbox_bytes_max
            assert status.outbox_bytes_high <= SMALL.outbox_bytes_max
            assert counted(status.drops, "full") == 1001
            for number in range(100):
                assert one.send(2, Letter(number, b"on time"))
            await two.until(lambda: len(two.letters) == 100)
            assert ("lost", 3, "timeout") not in one.events
            await one.saw("lost", 3, "timeout")
            assert one.transport.status().outbox_bytes == 0

    run_virtual(main)


@pytest.mark.parametrize("content", [b"x" * 40, b"x" * 2000])
def test_a_flooding_peer_does_not_starve_the_others(content: bytes) -> None:
    class Counting(Node):
        in_a_row = longest = 0

        def on_message(self, node: int, group: int, message: object, link: Link) -> None:
            self.in_a_row += 1
            self.longest = max(self.longest, self.in_a_row)
            super().on_message(node, group, message, link)

    async def take_turns(one: Counting) -> None:
        while True:
            one.in_a_row = 0
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        one = Counting(1)
        async with serving(one) as nursery, await join(one, 3) as raw:
            nursery.start_soon(take_turns, one)
            await raw.send_all(frame(Letter(0, content)) * 3000)
            await one.until(lambda: len(one.letters) == 3000)
            assert one.longest <= 128, (
                "64 a turn; trio may let a task be the last of one turn and the first of the next"
            )

    run(main)


# -- nonsense ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        bytes(16),
        b"GET / HTTP/1.1\r\n\r\n",
        frame(Letter(1, b"bad crc"))[:-1] + b"?",
        frame(Letter(1, b""))[:4] + b"\xff\xff\xff\x7f" + frame(Letter(1, b""))[8:],
    ],
    ids=range(4),
)
def test_nonsense_ends_the_link_and_only_that(data: bytes) -> None:
    async def main() -> None:
        one, two = Node(1), Node(2)
        async with serving(one, two), await join(one, 3) as raw:
            await raw.send_all(frame(Letter(1, b"good")) + data)
            await one.saw("lost", 3, "nonsense")
            assert one.letters == [(3, 0, Letter(1, b"good"))]
            assert await raw.receive_some() == b""
            assert one.send(2, Letter(2, b""))
            await two.until(lambda: bool(two.letters))

    run(main)


GREETING = b"".join(HANDSHAKE.encode_frame(Greeting(1, 1, bytes(32))))


def test_a_handshake_message_in_the_session_is_nonsense() -> None:
    async def main() -> None:
        one = Node(1)
        async with serving(one), await join(one, 3) as raw:
            await raw.send_all(GREETING)
            await one.saw("lost", 3, "nonsense")

    run(main)


def test_an_exception_of_the_host_ends_serve() -> None:
    class Faulty(Node):
        def on_message(self, node: int, group: int, message: object, link: Link) -> None:
            raise RuntimeError("a bug in the host")

    async def main() -> None:
        one = Faulty(1)
        async with serving(one), await join(one, 2) as raw:
            await raw.send_all(frame(Letter(1, b"")))
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        run(main)
    assert caught.group_contains(RuntimeError, match="a bug in the host")


# -- handshakes over sockets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drip", [False, True])
def test_a_handshake_that_is_not_finished_is_closed_in_time(drip: bool) -> None:
    async def main() -> None:
        one = Node(1)
        async with serving(one), await connect(one.address) as raw:
            begun = trio.current_time()
            if drip:
                for byte in GREETING[:4]:
                    await raw.send_all(bytes([byte]))
                    await trio.sleep(1)
            assert await raw.receive_some() == b""
            assert trio.current_time() - begun == pytest.approx(5, abs=0.5)
            status = one.transport.status()
            assert status.failures == (("timeout", 1),)
            assert status.strangers == 0
            assert one.events == []

    run_virtual(main)


class Lenient(Node):
    """A node that does not mind other clusters."""

    def judge(self, hello: Hello) -> None:
        return None


def test_another_cluster_is_refused_typed_at_both_ends_and_dialled_with_patience() -> None:
    async def main() -> None:
        one, two = Node(1, cluster=7), Lenient(2, cluster=8)
        async with trio.open_nursery() as nursery:
            for node in (one, two):
                nursery.start_soon(node.serve, {1: one.address, 2: two.address})
            await trio.sleep(10)
            assert set(one.events) == {("refused", 2, RefusalCode.WRONG_CLUSTER, False, True)}
            assert set(two.events) == {("refused", 1, RefusalCode.WRONG_CLUSTER, True, True)}
            assert 10 < counted(one.transport.status().refusals, "WRONG_CLUSTER") < 60
            assert "WRONG_CLUSTER" in two.transport.status().peers[0].trouble
            assert two.transport.status().refusals == ()
            nursery.cancel_scope.cancel()

    run_virtual(main)


def test_another_key_is_refused_and_nothing_is_believed() -> None:
    async def main() -> None:
        one, two = Node(1), Node(2, credentials=Credentials(b"x" * 32))
        async with trio.open_nursery() as nursery:
            for node in (one, two):
                nursery.start_soon(node.serve, {1: one.address, 2: two.address})
            await one.saw("refused", 2, 2, True, False)
            await one.saw("refused", 0, 2, False, False)
            assert {event[0] for event in one.events + two.events} == {"refused"}
            assert KEY.decode() not in repr(one.transport.status()) + repr(Credentials(KEY))
            nursery.cancel_scope.cancel()

    run(main)


def test_the_wrong_node_at_an_address_is_refused() -> None:
    async def main() -> None:
        one, two = Node(1), Node(2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.serve, {3: two.address})
            nursery.start_soon(two.serve, {})
            await one.saw("refused", 2, RefusalCode.WRONG_NODE, False, True)
            await two.saw("refused", 1, RefusalCode.WRONG_NODE, True, True)
            nursery.cancel_scope.cancel()

    run(main)


# -- bounds on connections --------------------------------------------------------------------------------------------


def test_a_thousand_connections_are_bounded_and_a_member_still_gets_in() -> None:
    limits = Limits(handshakes_max=16, connections_max=100, connections_per_ip_max=50)

    async def main() -> None:
        one, two = Node(1, limits=limits), Node(2)
        async with serving(one, two):
            standing: list[trio.SocketStream] = []
            for _ in range(1000):
                standing.append(await connect(one.address))
                status = one.transport.status()
                assert status.strangers <= 16
                if len(standing) > 100:
                    await standing.pop(0).aclose()
            async with await join(one, 3):
                await one.saw("hello", 3, 1)
            assert one.send(2, Letter(1, b"unmoved"))
            await two.until(lambda: bool(two.letters))
            assert counted(one.transport.status().drops, "strangers") > 800
            for stream in standing:
                await stream.aclose()

    run(main)


@pytest.mark.parametrize("limits", [Limits(connections_max=3), Limits(connections_per_ip_max=3)])
def test_connections_beyond_the_limit_are_closed_at_once(limits: Limits) -> None:
    async def main() -> None:
        one = Node(1, limits=limits)
        async with serving(one):
            members = [await join(one, member) for member in (2, 3, 4)]
            async with await connect(one.address) as fourth:
                assert await fourth.receive_some() == b""
            assert counted(one.transport.status().drops, "connections") == 1
            await members.pop().aclose()
            await one.saw("lost", 4, "reset")
            async with await join(one, 5):
                await one.saw("hello", 5, 1)
            for member in members:
                await member.aclose()

    run(main)


def test_accept_survives_what_is_not_its_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file descriptors left, and a connection that broke while it waited in the kernel."""
    failures = [errno.EMFILE, errno.ECONNABORTED, errno.EPROTO]

    class Faulty:
        def __init__(self, real: socket.socket) -> None:
            self.real = real

        def accept(self) -> tuple[socket.socket, tuple[str, int]]:
            if failures:
                raise OSError(failures.pop(), "accept failed")
            return self.real.accept()

        def __getattr__(self, name: str) -> object:
            return getattr(self.real, name)

    async def main() -> None:
        one = Node(1)
        listener = one.transport._listener
        assert listener is not None
        monkeypatch.setattr(listener, "_sock", Faulty(listener._sock))
        async with serving(one), await join(one, 2):
            await one.saw("hello", 2, 1)
        assert failures == []

    run_virtual(main)


# -- the caller's mistakes --------------------------------------------------------------------------------------------


def test_mistakes_of_the_caller_are_local_errors() -> None:
    node = Node(1)
    with pytest.raises(LocalError, match="cannot listen"):
        Node(2, listen=node.address)
    node.transport.close()
    node.transport.close()
    with pytest.raises(LocalError, match="MESSAGES"):
        Transport(Registry(), lambda: node.hello, Credentials(), node, random.Random(1))
    fresh = Transport(REGISTRY, lambda: node.hello, Credentials(), node, random.Random(1))
    with pytest.raises(LocalError, match="bind"):
        trio.run(fresh.serve, {})
    with pytest.raises(LocalError, match="loopback"):
        trio.run(
            Node(3, credentials=Credentials()).transport.serve,
            {4: "10.0.0.1:7101"},
        )
    for wrong in (
        {"keepalive": 9.0},
        {"backoff_min": 0.0},
        {"handshakes_max": 0},
        {"bulk_timeout": 0.0},
        {"outbox_bytes_max": 100},
    ):
        with pytest.raises(LocalError):
            Limits(**wrong)
