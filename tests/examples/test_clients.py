"""The hub on real loopback sockets: what arrives and leaves, and what no client can take from the others."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable

import clients
import pytest
import trio
import trio.testing
import trustme
from clients import Connection, Hub, HubLimits

from distkit.core import LocalError

#: Bound of every test here, in seconds; what they wait for takes a fraction of a second.
TIME_MAX = 30.0


@pytest.fixture(autouse=True)
def _frequent_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "SWEEP_SECONDS", 0.02)


class Echo:
    """Sends back what came, in capitals, at once or when the test says so; counts what the hub told it."""

    admitted = True

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.heard = b""
        self.answers_at_once = True
        self.on_drained: Callable[[], None] = lambda: None
        self.ends = 0
        self.busy = False

    def received(self, data: bytes) -> None:
        assert not self.ends
        self.heard += data
        if self.answers_at_once:
            self.connection.send(data.upper())

    def drained(self) -> None:
        assert not self.ends
        self.on_drained()

    def closed(self) -> None:
        self.ends += 1


class Service:
    """A hub and the handlers it has made."""

    def __init__(
        self,
        handler: Callable[[Connection], Echo] = Echo,
        limits: HubLimits | None = None,
        tls: ssl.SSLContext | None = None,
        wake_on_send: bool = True,
    ) -> None:
        self.handlers: list[Echo] = []
        self.streams: list[trio.SocketStream] = []
        self.turns = 0
        self._handler = handler
        self.hub = Hub(
            self._greet,
            turn_ended=self._turn_ended,
            limits=limits,
            tls=tls,
            turned_away=b"full",
            wake_on_send=wake_on_send,
        )
        self.address = self.hub.bind("127.0.0.1:0")

    def _greet(self, connection: Connection) -> Echo:
        handler = self._handler(connection)
        self.handlers.append(handler)
        return handler

    def _turn_ended(self) -> None:
        self.turns += 1

    async def connect(self) -> trio.SocketStream:
        """A client, and its handler made."""
        known = len(self.handlers)
        stream = await self.dial()
        await until(lambda: len(self.handlers) > known)
        return stream

    async def dial(self) -> trio.SocketStream:
        host, port = self.address.split(":")
        self.streams.append(await trio.open_tcp_stream(host, int(port)))
        return self.streams[-1]


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - plain objects of the hub have no event to wait for
        await trio.sleep(0.001)


async def receive(stream: trio.abc.ReceiveStream, count: int) -> bytes:
    """Exactly so many bytes, or what came before the end."""
    received = b""
    while len(received) < count and (data := await stream.receive_some(count - len(received))):
        received += data
    return received


async def ended(stream: trio.SocketStream) -> bool:
    """Wait for the end, whatever comes before it."""
    try:
        while await stream.receive_some(65536):
            pass
    except trio.BrokenResourceError:
        pass
    return True


def run(service: Service, test: Callable[[Service], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(TIME_MAX):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(service.hub.serve)
                await test(service)
                nursery.cancel_scope.cancel()
        for stream in service.streams:
            await stream.aclose()
        assert [handler.ends for handler in service.handlers] == [1] * len(service.handlers)
        assert service.hub.connections == {}

    trio.run(bounded)


@pytest.mark.parametrize("wake_on_send", [True, False])
def test_each_client_has_its_own_answers(wake_on_send: bool) -> None:
    async def talk(service: Service) -> None:
        streams = [await service.connect() for _ in range(50)]
        for number, stream in enumerate(streams):
            await stream.send_all(b"hello %d" % number)
        for number, stream in enumerate(streams):
            assert await receive(stream, len(b"hello %d" % number)) == b"HELLO %d" % number

    run(Service(wake_on_send=wake_on_send), talk)


def test_an_answer_that_comes_later_from_another_task_wakes_the_hub() -> None:
    async def talk(service: Service) -> None:
        stream = await service.connect()
        service.handlers[0].connection.send(b"by the way")
        assert await receive(stream, 10) == b"by the way"

    run(Service(), talk)


def test_without_waking_the_answers_leave_when_whoever_answers_says_so() -> None:
    async def talk(service: Service) -> None:
        stream = await service.connect()
        service.handlers[0].connection.send(b"by the way")
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert service.handlers[0].connection.unsent == 10
        service.hub.write_answers(trio.current_time())
        assert await receive(stream, 10) == b"by the way"

    run(Service(wake_on_send=False), talk)


def test_a_turn_ends_before_anything_is_written() -> None:
    async def talk(service: Service) -> None:
        stream = await service.connect()
        handler = service.handlers[0]
        handler.answers_at_once = False
        service.hub._turn_ended = lambda: handler.heard and not handler.ends and handler.connection.send(b"batch")
        await stream.send_all(b"question")
        assert await receive(stream, 5) == b"batch"

    run(Service(wake_on_send=False), talk)


@pytest.mark.parametrize("wake_on_send", [True, False])
def test_a_crowded_handler_goes_on_even_if_the_kernel_took_everything_at_once(wake_on_send: bool) -> None:
    """More answers than may wait, of which no write leaves a rest: nothing else would tell the handler to go on."""

    async def talk(service: Service) -> None:
        stream = await service.connect()
        handler = service.handlers[0]
        handler.answers_at_once = False
        left = [b"piece"] * 100

        def go_on() -> None:
            while left and not handler.connection.crowded:
                handler.connection.send(left.pop())

        handler.on_drained = go_on
        go_on()
        assert left
        service.hub.write_answers(trio.current_time())
        assert await receive(stream, 500) == b"piece" * 100

    run(Service(limits=HubLimits(crowded_bytes=10), wake_on_send=wake_on_send), talk)


def test_a_large_answer_leaves_in_parts_and_the_handler_hears_when_there_is_room() -> None:
    async def talk(service: Service) -> None:
        stream = await service.connect()
        handler = service.handlers[0]
        drained = trio.Event()
        handler.on_drained = drained.set
        handler.connection.send(b"x" * 20_000_000)
        assert handler.connection.crowded
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not drained.is_set()
        assert await receive(stream, 20_000_000) == b"x" * 20_000_000
        await drained.wait()
        assert handler.connection.unsent == 0

    run(Service(), talk)


def test_nothing_is_read_from_a_paused_client_until_it_is_resumed() -> None:
    async def talk(service: Service) -> None:
        paused, other = await service.connect(), await service.connect()
        connection = service.handlers[0].connection
        connection.pause()
        connection.pause()
        await paused.send_all(b"wait")
        await other.send_all(b"go")
        assert await receive(other, 2) == b"GO"
        assert service.handlers[0].heard == b""
        connection.resume()
        assert await receive(paused, 4) == b"WAIT"

    run(Service(), talk)


def test_a_handler_may_pause_in_its_greeting_and_the_hub_reads_all_the_same() -> None:
    def shy(connection: Connection) -> Echo:
        connection.pause()
        return Echo(connection)

    async def talk(service: Service) -> None:
        stream = await service.connect()
        await stream.send_all(b"hello")
        assert await receive(stream, 5) == b"HELLO"

    run(Service(shy), talk)


def test_a_close_sends_what_is_queued_and_nothing_that_is_added_later() -> None:
    async def talk(service: Service) -> None:
        stream = await service.connect()
        connection = service.handlers[0].connection
        connection.send(b"last words" * 500_000)
        connection.close()
        connection.send(b"too late")
        assert await receive(stream, 6_000_000) == b"last words" * 500_000

    run(Service(), talk)


def test_a_client_that_leaves_or_breaks_is_forgotten_and_the_others_stay() -> None:
    async def talk(service: Service) -> None:
        leaving, breaking, staying = [await service.connect() for _ in range(3)]
        await leaving.aclose()
        breaking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
        await breaking.aclose()
        await until(lambda: len(service.hub.connections) == 1)
        assert [handler.ends for handler in service.handlers] == [1, 1, 0]
        service.handlers[0].connection.send(b"nobody hears")
        service.handlers[0].connection.close()
        await staying.send_all(b"still here")
        assert await receive(staying, 10) == b"STILL HERE"

    run(Service(), talk)


# -- what no client may take from the others ---------------------------------------------------------------------------


def test_too_many_clients_are_told_so_and_room_is_given_again() -> None:
    async def talk(service: Service) -> None:
        first, second = await service.connect(), await service.connect()
        third = await service.dial()
        assert await receive(third, 100) == b"full"
        assert service.hub.counters == {"accepted": 2, "turned_away": 1}
        await first.aclose()
        await until(lambda: len(service.hub.connections) == 1)
        fourth = await service.connect()
        await fourth.send_all(b"hi")
        assert await receive(fourth, 2) == b"HI"
        await second.send_all(b"hi")
        assert await receive(second, 2) == b"HI"

    run(Service(limits=HubLimits(connections_max=2)), talk)


def test_a_client_that_leaves_too_much_unread_is_closed_and_the_others_are_served() -> None:
    async def talk(service: Service) -> None:
        deaf, other = await service.connect(), await service.connect()
        service.handlers[0].connection.send(bytes(64 << 20))
        await until(lambda: service.handlers[0].ends)
        assert service.hub.counters["unread_too_much"] == 1
        await other.send_all(b"hi")
        assert await receive(other, 2) == b"HI"
        assert await ended(deaf)

    run(Service(limits=HubLimits(unsent_bytes_max=1 << 20)), talk)


class Stranger(Echo):
    admitted = False


@pytest.mark.parametrize(
    ("handler", "limits", "sends"),
    [
        (Stranger, HubLimits(admission_timeout=0.0), 0),
        (Echo, HubLimits(stall_timeout=0.0), 16 << 20),
        (Echo, HubLimits(idle_timeout=1e-6), 0),
    ],
    ids=["not admitted", "does not read", "idle"],
)
def test_who_takes_too_long_is_closed(handler: type[Echo], limits: HubLimits, sends: int) -> None:
    async def talk(service: Service) -> None:
        stream = await service.connect()
        if sends:
            service.handlers[0].connection.send(bytes(sends))
        await until(lambda: service.handlers[0].ends)
        assert service.hub.counters["overdue"] == 1
        assert await ended(stream)

    run(Service(handler, limits), talk)


def test_who_waits_for_an_answer_is_not_idle_and_silence_is_allowed_by_default() -> None:
    connection = Service().hub  # a hub that does not run
    for limits, busy, reason in (
        (HubLimits(idle_timeout=5.0), False, "idle"),
        (HubLimits(idle_timeout=5.0), True, ""),
        (HubLimits(), False, ""),
    ):
        connection.limits = limits
        with socket.socket() as sock:
            client = Connection(connection, sock, "peer", None, now=100.0)
            client.handler = handler = Echo(client)
            handler.busy = busy
            assert client.overdue(104.0) == ""
            assert client.overdue(100_000.0) == reason
    connection._stop_listening()


def test_without_descriptors_the_hub_waits_and_then_takes_clients_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Exhausted:
        """A listener whose process has no file descriptor left."""

        def __init__(self, listener: socket.socket) -> None:
            self.listener = listener
            self.refusals = 0
            self.failing = True

        def accept(self) -> tuple[socket.socket, tuple[object, ...]]:
            if self.failing:
                self.refusals += 1
                raise OSError(errno.EMFILE, "Too many open files")
            return self.listener.accept()

        def __getattr__(self, name: str) -> object:
            return getattr(self.listener, name)

    async def talk(service: Service) -> None:
        exhausted = Exhausted(service.hub._listener)
        service.hub._listener = exhausted
        before = await service.dial()
        await until(lambda: exhausted.refusals)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert exhausted.refusals == 1  # it does not spin
        exhausted.failing = False
        await before.send_all(b"hi")
        assert await receive(before, 2) == b"HI"

    with caplog.at_level(logging.WARNING, "clients"):
        run(Service(), talk)
    assert "no client can be taken for a moment: Too many open files" in caplog.text


# -- TLS ------------------------------------------------------------------------------------------------------

AUTHORITY = trustme.CA()


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("kv.test").configure_cert(context)
    return context


async def secure(service: Service, authority: trustme.CA = AUTHORITY) -> trio.SSLStream[trio.SocketStream]:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    stream = trio.SSLStream(await service.connect(), context, server_hostname="kv.test")
    await stream.do_handshake()
    return stream


def test_tls_carries_small_and_large_answers() -> None:
    async def talk(service: Service) -> None:
        stream = await secure(service)
        await stream.send_all(b"hello")
        assert await receive(stream, 5) == b"HELLO"
        service.handlers[0].connection.send(b"x" * 5_000_000)
        assert await receive(stream, 5_000_000) == b"x" * 5_000_000
        await until(lambda: service.handlers[0].connection.unsent == 0)
        await stream.aclose()
        await until(lambda: service.handlers[0].ends)

    run(Service(tls=server_tls()), talk)


def test_a_client_that_ends_tls_is_closed_though_its_socket_is_open() -> None:
    async def talk(service: Service) -> None:
        stream = await secure(service)
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.unwrap()
        await until(lambda: service.handlers[0].ends)

    run(Service(tls=server_tls()), talk)


def test_an_answer_that_is_made_before_the_handshake_leaves_behind_it() -> None:
    async def talk(service: Service) -> None:
        context = ssl.create_default_context()
        AUTHORITY.configure_trust(context)
        stream = trio.SSLStream(await service.connect(), context, server_hostname="kv.test")
        service.handlers[0].connection.send(b"welcome")
        assert await receive(stream, 7) == b"welcome"

    run(Service(tls=server_tls()), talk)


def test_who_does_not_speak_tls_is_closed_and_heard_by_nobody() -> None:
    async def talk(service: Service) -> None:
        stream = await service.connect()
        await stream.send_all(b"PING\r\nSET x 1\r\n")
        assert await ended(stream)
        assert service.hub.counters["tls_failed"] == 1
        assert service.handlers[0].heard == b""

    run(Service(tls=server_tls()), talk)


def test_a_client_that_does_not_trust_the_certificate_ends_only_itself() -> None:
    async def talk(service: Service) -> None:
        with pytest.raises(trio.BrokenResourceError):
            await secure(service, trustme.CA())
        await service.streams[0].aclose()
        await until(lambda: service.handlers[0].ends)
        stream = await secure(service)
        await stream.send_all(b"hi")
        assert await receive(stream, 2) == b"HI"

    run(Service(tls=server_tls()), talk)


def test_a_handshake_that_is_not_finished_in_time_is_closed() -> None:
    async def talk(service: Service) -> None:
        stream = await service.connect()
        await stream.send_all(b"\x16\x03\x01")
        assert await ended(stream)
        assert service.hub.counters["overdue"] == 1

    run(Service(limits=HubLimits(admission_timeout=0.0), tls=server_tls()), talk)


def test_too_many_clients_of_a_tls_port_are_closed_without_a_word() -> None:
    async def talk(service: Service) -> None:
        await service.connect()
        assert await receive(await service.dial(), 100) == b""

    run(Service(limits=HubLimits(connections_max=1), tls=server_tls()), talk)


# -- begin and end --------------------------------------------------------------------------------------------


def test_draining_answers_what_was_asked_and_takes_nothing_more() -> None:
    async def talk(service: Service) -> None:
        stream = await service.connect()
        handler = service.handlers[0]
        handler.answers_at_once = False
        await stream.send_all(b"question")
        await until(lambda: handler.heard)
        handler.busy = True
        drained = trio.Event()

        async def drain() -> None:
            await service.hub.drain()
            drained.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain)
            await until(lambda: service.hub.draining)
            await stream.send_all(b"one more")
            with pytest.raises(OSError, match="connect"):
                await service.dial()
            handler.connection.resume()
            await trio.testing.wait_all_tasks_blocked()
            assert not drained.is_set()
            handler.connection.send(b"answer")
            handler.busy = False
            await drained.wait()
        assert handler.heard == b"question"
        assert await receive(stream, 6) == b"answer"

    run(Service(), talk)


def test_an_address_that_is_taken_or_nonsense_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(LocalError, match=f"clients can't be served on {address}: Address already in use"):
            Hub(Echo, turn_ended=lambda: None).bind(address)
    with pytest.raises(LocalError, match="HOST:PORT"):
        Hub(Echo, turn_ended=lambda: None).bind("nowhere")
