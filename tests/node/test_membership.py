"""A SWIM group on real sockets of the loopback interface, in virtual time: trio's mock clock jumps when all is said."""

import socket
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.lowlevel
import trio.testing

from distkit.core import Busy, LocalError
from distkit.membership.swim import Dead, Joined, Left, Status, Updated
from distkit.node import membership as module
from distkit.node.membership import Membership, open_membership
from distkit.transport.datagrams import Datagrams

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))


class VirtualClock:
    counts_suspend = False

    def now(self):
        return trio.current_time()

    def time_us(self):
        return round(trio.current_time() * 1e6) + 1


def run(function: Callable[[], Awaitable[None]]) -> None:
    async def main():
        with trio.fail_after(600):
            await function()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def member(name, contact: Membership | None = None, **arguments):
    join = [contact.address] if contact else []
    return open_membership(name, "127.0.0.1:0", clock=VirtualClock(), **{"join": join, "keys": [KEY]} | arguments)


def names(membership):
    return [member.name for member in membership.members() if member.status <= Status.SUSPECT]


async def until(condition):
    while not condition():  # noqa: ASYNC110 - of virtual time there is enough
        await trio.sleep(0.05)


async def until_event(membership, kind, name):
    with membership.events() as events:
        event = await anext(events)
        while not (isinstance(event, kind) and event.member.name == name):
            event = await anext(events)


def test_members_find_each_other_and_one_that_crashes_is_reported():
    async def main():
        async with member("a") as a, member("b", a) as b:
            with trio.CancelScope() as crash:
                async with member("c", b) as c:
                    await until(lambda: names(a) == names(b) == names(c) == ["a", "b", "c"])
                    assert a.member("c").address == c.address
                    crash.cancel()
                    await trio.lowlevel.checkpoint()
            begin = trio.current_time()
            await until_event(a, Dead, "c")
            assert 4.0 < trio.current_time() - begin < 15.0
            assert names(a) == ["a", "b"]

    run(main)


def test_the_end_of_the_block_is_a_good_bye():
    async def main():
        async with member("a") as a:
            with a.events() as events:
                async with member("b", a) as b:
                    await until(lambda: names(b) == ["a", "b"])
                assert [type(await anext(events)) for _ in range(2)] == [Joined, Left]
            assert a.member("b").status == Status.LEFT

    run(main)


def test_an_error_in_the_block_is_the_error_of_the_block_and_no_good_bye():
    async def main():
        async with member("a") as a:

            async def fail():
                async with member("b", a):
                    await until(lambda: names(a) == ["a", "b"])
                    raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await fail()
            assert a.member("b").status == Status.ALIVE

    run(main)


def test_metadata_travel():
    async def main():
        async with member("a") as a, member("b", a, metadata=b"one") as b:
            await until(lambda: "b" in names(a))
            assert a.member("b").metadata == b"one"
            async with trio.open_nursery() as nursery:
                nursery.start_soon(until_event, a, Updated, "b")
                await trio.testing.wait_all_tasks_blocked()
                b.update(b"two")
            assert a.member("b").metadata == b"two"

    run(main)


def test_a_restart_at_the_same_address_is_one_member_alive():
    async def main():
        async with member("a") as a, member("b", a):
            with trio.CancelScope() as crash:
                async with member("c", a) as c:
                    await until(lambda: "c" in names(a))
                    before, address = a.member("c").incarnation, c.address
                    crash.cancel()
                    await trio.lowlevel.checkpoint()
            await trio.sleep(0.1)
            async with open_membership("c", address, join=[a.address], keys=[KEY], clock=VirtualClock()) as c:
                await until(lambda: a.member("c").incarnation > before)
                await trio.sleep(30.0)
                assert names(a) == names(c) == ["a", "b", "c"]

    run(main)


def test_outsiders_are_counted_and_change_nothing():
    async def main():
        async with member("a") as a, member("b", a, keys=[OTHER]) as b, member("c", a, cluster="green"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                host, port = a.address.split(":")
                for data in (b"", b"x", bytes(1400), bytes(5000)):
                    stranger.sendto(data, (host, int(port)))
            await trio.sleep(5.0)
            assert names(a) == ["a"]
            assert names(b) == ["b"]
            drops = a.status().drops
            assert drops["outsider"] >= 3 + 5
            assert drops["too_long"] == 1

    run(main)


def test_keys_are_changed_in_a_running_group():
    async def main():
        async with (
            member("a", keys=[KEY, OTHER]) as a,
            member("b", a, keys=[OTHER, KEY]) as b,
            member("c", a, keys=[KEY, OTHER]) as c,
        ):
            await until(lambda: names(a) == names(b) == names(c) == ["a", "b", "c"])
            await trio.sleep(30.0)
            assert a.status().drops == {}

    run(main)


def test_names_to_join_by_are_looked_up_until_somebody_is_there(monkeypatch):
    async def main():
        answers = [[], []]
        asked = []

        async def look_up(address):
            asked.append(address)
            return answers.pop(0) if answers else [a.address]

        monkeypatch.setattr(module, "look_up", look_up)
        async with member("a") as a, member("b", join=["localhost:7946"]) as b:
            await until(lambda: names(b) == ["a", "b"])
            await trio.sleep(60.0)
            assert asked == ["localhost:7946"] * 3

    run(main)


def test_a_reader_that_does_not_read_is_told_so(monkeypatch):
    monkeypatch.setattr(module, "_EVENTS_MAX", 3)

    async def main():
        async with member("a") as a, member("b", a) as b:
            await until(lambda: "b" in names(a))
            with a.events() as events:
                for number in range(8):
                    b.update(b"%d" % number)
                    await trio.sleep(1.0)
                assert [(await anext(events)).member.metadata for _ in range(3)] == [b"0", b"1", b"2"]
                with pytest.raises(Busy, match="3 events were not read in time"):
                    await anext(events)
            assert not a._readers

    run(main)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"listen": "0.0.0.0:0", "keys": []}, "not a loopback address"),
        ({"join": ["10.0.0.1:7946"], "keys": []}, "not a loopback address"),
        ({"keys": [b"short"]}, "at least 32 bytes"),
        ({"listen": "0.0.0.0:0"}, "advertise"),
        ({"advertise": "host.example:7946"}, "advertise"),
        ({"advertise": "10.0.0.1:0"}, "advertise"),
        ({"listen": "127.0.0.1"}, "HOST:PORT"),
        ({"listen": "192.0.2.1:7946"}, "can't listen"),
        ({"name": ""}, "name"),
        ({"metadata": bytes(513)}, "512"),
        ({"cluster": ""}, "cluster"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    async def main():
        values = {"name": "a", "listen": "127.0.0.1:0", "keys": [KEY], "clock": VirtualClock()} | arguments
        with pytest.raises(LocalError, match=message):
            async with open_membership(values.pop("name"), values.pop("listen"), **values):
                pass

    run(main)


# -- datagrams --------------------------------------------------------------------------------------------------------


def drops(loopback_only, sends):
    """What is counted when these (address, content) are sent, none of which can be."""
    found = {}

    async def main():
        datagrams = Datagrams(loopback_only=loopback_only)
        address = datagrams.bind("127.0.0.1:0")
        assert datagrams.send(address, b"x")
        for target, data in sends:
            assert not datagrams.send(target or address, data)
        datagrams.close()
        datagrams.close()
        found.update(datagrams.drops)

    run(main)
    return found


def test_without_a_key_nothing_is_sent_beyond_this_machine():
    assert drops(True, [("192.0.2.1:7946", b"x"), ("[2001:db8::1]:7946", b"x")]) == {"bad_address": 2}


@pytest.mark.parametrize("address", ["localhost:1", "example.org:7946", "10.0.0.1", "10.0.0.1:0", ":::", "a:b:c"])
def test_only_numeric_addresses_are_sent_to(address):
    assert drops(False, [(address, b"x")]) == {"bad_address": 1}


def test_what_the_system_refuses_is_counted():
    assert sum(drops(False, [("", bytes(70_000)), ("[::1]:7946", b"x")]).values()) == 2


def test_datagrams_arrive_in_batches_with_their_source():
    async def main():
        one, two = Datagrams(loopback_only=True), Datagrams(loopback_only=True, bytes_max=100)
        source, target = one.bind("127.0.0.1:0"), two.bind("127.0.0.1:0")
        for number in range(100):
            one.send(target, b"%d" % number)
        one.send(target, bytes(101))
        await two.wait()
        first = two.take()
        assert first == [(source, b"%d" % number) for number in range(64)]
        assert len(two.take()) == 36
        assert two.take() == []
        assert two.drops == {"too_long": 1}
        two.close()
        with pytest.raises(trio.ClosedResourceError):
            await two.wait()
        one.close()

    run(main)


def test_ipv6_addresses_stand_in_brackets():
    async def main():
        one = Datagrams(loopback_only=True)
        try:
            address = one.bind("[::1]:0")
        except LocalError:
            return  # a machine without IPv6 has nothing to show here
        assert address.startswith("[::1]:")
        one.send(address, b"x")
        await one.wait()
        assert one.take() == [(address, b"x")]
        one.close()

    run(main)


def test_joined_is_told_for_each_member():
    async def main():
        async with member("a") as a:
            joined = []

            async def watch():
                with a.events() as events:
                    async for event in events:
                        if isinstance(event, Joined):
                            joined.append(event.member.name)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                await trio.testing.wait_all_tasks_blocked()
                async with member("b", a) as b, member("c", b):
                    await until(lambda: sorted(joined) == ["b", "c"])
                nursery.cancel_scope.cancel()

    run(main)
