"""A member of a SWIM group in a trio program: the machine, its datagrams and its time."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from random import SystemRandom

import trio

from distkit.core import Busy, Clock, LocalError, PeerError, record
from distkit.membership.packets import Outsider, Packets
from distkit.membership.swim import Event, Left, Member, Swim, SwimOptions, SwimStatus
from distkit.node.clock import SystemClock
from distkit.node.outcomes import only_cause
from distkit.transport import Credentials, check_addresses
from distkit.transport.datagrams import Datagrams, is_numeric, look_up

logger = logging.getLogger(__name__)

#: A task that sleeps never sleeps longer, in seconds: trio's clock does not count suspend.
_SLEEP_MAX = 1.0
#: Seconds between look-ups of the names to join by, as long as nobody is there.
_LOOK_UP_PAUSE = 5.0
#: Events that wait for one reader.
_EVENTS_MAX = 10_000
#: Seconds in which a node that leaves tells the others.
_LEAVE_TIMEOUT = 5.0


@record
class MembershipStatus:
    """A member in numbers. `drops` counts datagrams that were not sent or not taken, by reason.

    Among them: `outsider` (not of this cluster, or changed on the way), `nonsense` (of a member, but no message).
    """

    swim: SwimStatus
    sent: int
    received: int
    drops: dict[str, int]


class Events:
    """Events for one reader. A reader that falls 10,000 behind gets those, and then Busy."""

    def __init__(self, readers: dict[Events, None]) -> None:
        self._readers = readers
        self._send, self._receive = trio.open_memory_channel[Event](_EVENTS_MAX)
        readers[self] = None

    def put(self, event: Event) -> None:
        """One more happened."""
        try:
            self._send.send_nowait(event)
        except trio.WouldBlock:
            self._send.close()
            self._readers.pop(self)

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *exc: object) -> None:
        self._readers.pop(self, None)
        self._send.close()
        self._receive.close()

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            raise Busy(f"{_EVENTS_MAX} events were not read in time: look at members() and begin again") from None


class Membership:
    """This node's place in the group. Made by `open_membership`; all methods belong to the trio thread."""

    def __init__(self, swim: Swim, packets: Packets, datagrams: Datagrams, clock: Clock, address: str) -> None:
        self.address = address
        self._swim = swim
        self._packets = packets
        self._datagrams = datagrams
        self._clock = clock
        self._readers: dict[Events, None] = {}
        self._changed = trio.Event()  #: the deadline may be another one now
        self._left = trio.Event()
        self._joining = trio.CancelScope()  #: of the task that joins
        self._drops: Counter[str] = Counter()

    # -- who is there -------------------------------------------------------------------------------------------------

    def members(self) -> tuple[Member, ...]:
        """All members by name, this one included; also those that died or left in the last half minute."""
        return self._swim.members()

    def member(self, name: str) -> Member | None:
        """One member, None: unknown."""
        return self._swim.member(name)

    def events(self) -> Events:
        """What happens from now on: `with membership.events() as events: async for event in events: ...`."""
        return Events(self._readers)

    def status(self) -> MembershipStatus:
        """Where this node stands."""
        drops = dict(self._drops + self._datagrams.drops)
        return MembershipStatus(self._swim.status(), self._datagrams.sent, self._datagrams.received, drops)

    # -- verbs --------------------------------------------------------------------------------------------------------

    async def join(self, addresses: Iterable[str]) -> None:
        """Join by these addresses (HOST:PORT, names are looked up). Returns at once: `Joined` events tell the rest."""
        self._join(await _look_up_all(addresses))

    def update(self, metadata: bytes) -> None:
        """Tell the others something new about this member, at most 512 bytes."""
        self._swim.update(self._now(), metadata)
        self._turn()

    async def leave(self) -> None:
        """Say good-bye, and wait until the others were told, or for some seconds. Only closing makes sense after it."""
        self._joining.cancel()
        self._swim.leave(self._now())
        self._turn()
        with trio.move_on_after(_LEAVE_TIMEOUT):
            await self._left.wait()

    # -- the duties of a host -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Take part until cancelled. `open_membership` runs this."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pace)
            while True:
                await self._datagrams.wait()
                self._take()
                self._turn()

    async def keep_joining(self, addresses: Sequence[str]) -> None:
        """Join by names, which are looked up again as long as nobody is there. `open_membership` runs this."""
        with self._joining:
            while len(self._swim.members()) == 1:
                found = await _look_up_all(addresses)
                if self._joining.cancel_called:  # a look-up that has an answer at once is no place to be cancelled
                    break
                self._join(found)
                await trio.sleep(_LOOK_UP_PAUSE)

    def _join(self, addresses: list[str]) -> None:
        self._swim.join(self._now(), [address for address in addresses if address != self.address])
        self._turn()

    async def _pace(self) -> None:
        while True:
            wait = self._swim.deadline() - self._now()
            with trio.move_on_after(min(max(wait, 0.0), _SLEEP_MAX)):
                await self._changed.wait()
            self._changed = trio.Event()
            if self._swim.deadline() <= self._now():
                self._take()  # answers that have come in count before it is judged that they are missing
                self._swim.tick(self._now())
                self._turn()

    def _take(self) -> None:
        for source, data in self._datagrams.take():
            try:
                message = self._packets.open(data)
            except Outsider as error:
                self._count("outsider", source, error)
            except PeerError as error:
                self._count("nonsense", source, error)
            else:
                self._swim.receive(self._now(), source, message)

    def _count(self, reason: str, source: str, error: PeerError) -> None:
        self._drops[reason] += 1
        # Once for each reason: whoever reaches the port could fill the log.
        level = logging.WARNING if self._drops[reason] == 1 else logging.DEBUG
        logger.log(level, "a datagram from %s is dropped: %s", source, error)

    def _turn(self) -> None:
        """Take what the machine has caused."""
        output = self._swim.flush(self._now())
        if output is not None:
            for address, message in output.sends:
                self._datagrams.send(address, self._packets.seal(message))
            for event in output.events:
                self._tell(event)
        self._changed.set()

    def _tell(self, event: Event) -> None:
        if isinstance(event, Left) and event.member.name == self._swim.state.name:
            self._left.set()
        for reader in list(self._readers):
            reader.put(event)

    def _now(self) -> float:
        return self._clock.now()


async def _look_up_all(addresses: Iterable[str]) -> list[str]:
    found: list[str] = []
    for address in addresses:
        found += await look_up(address)
    return found


@asynccontextmanager
async def open_membership(
    name: str,
    listen: str,
    *,
    join: Sequence[str] = (),
    cluster: str = "distkit",
    keys: Sequence[bytes] = (),
    metadata: bytes = b"",
    advertise: str | None = None,
    options: SwimOptions | None = None,
    insecure: bool = False,
    clock: Clock | None = None,
) -> AsyncIterator[Membership]:
    """Be a member of a group for the length of an `async with` block; at its normal end the node says good-bye.

    `name` is this node's own in the group. `listen` is its UDP address, `advertise` the numeric one under which others
    reach it, where that is another. `join` are addresses of some members (names are looked up, all they stand for); the
    same list may be given to all. The first of `keys` (at least 32 secret bytes, the same on all nodes) encrypts, all
    decrypt. Without keys only loopback addresses are allowed, except with `insecure`.

    LocalError says what to change.
    """
    check_addresses(Credentials(keys[0] if keys else None, insecure=insecure), listen, join)
    options = options or SwimOptions()
    clock = clock or SystemClock()
    packets = Packets(cluster, keys, lambda: os.urandom(12))
    datagrams = Datagrams(loopback_only=not keys and not insecure, bytes_max=options.packet_bytes)
    bound = datagrams.bind(listen)
    try:
        address = advertise or bound
        if not is_numeric(address):
            raise LocalError(f"{address} is no address that others can send to: name one with advertise=IP:PORT")
        swim = Swim(
            name,
            address,
            random=SystemRandom(),
            now=clock.now(),
            options=options,
            incarnation=max(1, clock.time_us() // 1000),  # above that of earlier starts, if the clock is right
            metadata=metadata,
        )
        membership = Membership(swim, packets, datagrams, clock, address)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(membership.run)
            if join:
                nursery.start_soon(membership.keep_joining, join)
            yield membership
            await membership.leave()
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        cause = only_cause(group)
        raise cause from cause.__cause__
    finally:
        datagrams.close()
