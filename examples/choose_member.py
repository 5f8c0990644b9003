"""One node of a choice: a machine of single-decree Paxos with a log on the disk and connections to the others.

`Member` is all that a host of a machine does: what waits for the disk waits (`durable`), all else leaves at once
(`turn`), and time is told to the machine (`pace`). `choose.py` runs three of them.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from random import SystemRandom
from typing import Any

import trio

from distkit.codec import Registry
from distkit.core import Configuration, LocalError, Outcome, Reply, Space
from distkit.core import Member as Place
from distkit.core.machine import Send
from distkit.log import Wal, WalIdentity, open_identity
from distkit.node.clock import SystemClock
from distkit.paxos.ballot import show_ballot
from distkit.paxos.synod import MESSAGES, RECORDS, Decided, all_roles, formation_records, recover
from distkit.replica import decoded, encoded
from distkit.storage import DiskFiles, LogWorker
from distkit.transport import MESSAGES as TRANSPORT_MESSAGES
from distkit.transport import Credentials, Hello, Refusal, RefusalCode, Transport

__all__ = ["Member"]

TABLE = Registry(RECORDS)
#: A task that sleeps never sleeps longer, in seconds: trio's clock does not count suspend.
SLEEP_MAX = 1.0


class Member:
    """One node. `group` is a number that all members of one choice share, and no other choice has.

    `form` makes the first log. Without it an empty directory is an error: a node that has lost its disk has forgotten
    what it promised, and must not vote again.
    """

    def __init__(
        self,
        node: int,
        members: Mapping[int, str],
        group: int,
        data: Path,
        *,
        form: bool,
        say: Callable[[str], None] = print,
    ) -> None:
        places = tuple(Place(each, group + each, address) for each, address in sorted(members.items()))
        configuration = all_roles(Configuration(1, places))
        self.node = node
        self.members = dict(members)
        self.group = group
        self.decided: Decided | None = None
        self.learned = trio.Event()
        self._say = say
        self._clock = SystemClock()
        self._files = DiskFiles(data)
        self._identity = open_identity(self._files, node, group + node)
        if form:
            first = encoded(formation_records(configuration), table=TABLE)
            Wal.create(self._files, WalIdentity(group, node, group + node), first).close()
        elif not Wal.exists(self._files):
            raise LocalError(f"{data} holds no log: a node without its disk has forgotten its promises and can't go on")
        wal, recovered = Wal.open(self._files, WalIdentity(group, node, group + node))
        self._machine = recover(
            decoded(recovered.records, table=TABLE),
            node=node,
            incarnation=group + node,
            configuration=configuration,
            random=SystemRandom(),
            now=self._clock.now(),
        )
        self._worker = LogWorker(wal, self.durable, self._fail, self._storage)
        registry = Registry(MESSAGES, TRANSPORT_MESSAGES)
        self._transport = Transport(registry, self._hello, Credentials(), self, random.Random())
        self._transport.bind(members[node])
        self._thens: deque[tuple[int, tuple[Send, ...]]] = deque()
        self._wake = trio.Event()
        self._failure: BaseException | None = None

    async def run(self, value: bytes, may_propose: trio.Event) -> None:
        """Take part until cancelled, and propose the value once it is allowed."""
        try:
            self._worker.start()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._transport.serve, self.members)
                nursery.start_soon(self.pace)
                await may_propose.wait()
                self._say(f"proposes {value.decode()!r}")
                self._machine.propose(self._clock.now(), 1, value)
                self.turn()
        finally:
            with trio.CancelScope(shield=True):
                await self._worker.aclose()
            self._identity.close()
            self._files.close()

    # -- the duties of a host, see `distkit.core.machine` -------------------------------------------------------------

    def turn(self) -> None:
        """Take what the machine has caused: messages leave, records go to the disk with what waits for them."""
        output = self._machine.flush(self._clock.now())
        if output is not None:
            for target, message in output.sends:
                self._transport.send(target, message)
            for write in output.writes:
                self._thens.append((write.token, write.then))
                self._worker.submit(write.token, encoded(write.records, table=TABLE))
            for decided in output.delivers:
                self._learn(decided)
            for reply in output.replies:
                self._say(f"is told that its proposal was {_fate(reply)}")
        self._transport.flush()
        self._wake.set()  # the deadline may be another one now

    def durable(self, token: int) -> None:
        """Writes are on the disk: what waited for them leaves."""
        while self._thens and self._thens[0][0] <= token:
            for target, message in self._thens.popleft()[1]:
                self._transport.send(target, message)
        self._machine.persisted(self._clock.now(), token)
        self.turn()

    async def pace(self) -> None:
        """Tell the machine that time has passed; raise what ended the node."""
        while self._failure is None:
            wait = self._machine.deadline() - self._clock.now()
            with trio.move_on_after(min(max(wait, 0.0), SLEEP_MAX)):
                await self._wake.wait()
            self._wake = trio.Event()
            if self._machine.deadline() <= self._clock.now():
                self._machine.tick(self._clock.now())
                self.turn()
        raise self._failure

    def _storage(self, space: Space) -> None:
        self._machine.storage(self._clock.now(), space)
        self.turn()

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self._wake.set()

    def _learn(self, decided: Decided) -> None:
        self.decided = decided
        self._say(f"knows the decision {decided.value.decode()!r} (ballot {show_ballot(decided.ballot)})")
        self.learned.set()

    # -- what the transport asks and tells, see `distkit.transport.Host` ----------------------------------------------

    def _hello(self) -> Hello:
        members = tuple(sorted(self.members.items()))
        return Hello(self.group, self.node, self.group + self.node, self._identity.boot, None, members)

    def judge(self, hello: Hello) -> Refusal | None:
        """Members of this choice only."""
        if hello.cluster == self.group and hello.node in self.members:
            return None
        return Refusal(RefusalCode.WRONG_CLUSTER, "this is another choice")

    def on_hello(self, hello: Hello) -> None:
        """It is one of us."""

    def on_connected(self, node: int) -> None:
        """Messages to the node leave from now on."""
        self._machine.connected(self._clock.now(), node)
        self.turn()

    def on_message(self, node: int, group: int, message: Any, link: Any) -> None:
        """A message came in."""
        self._machine.receive(self._clock.now(), node, message)

    def on_drained(self) -> None:
        """All that came at once is in: one turn for it."""
        self.turn()

    def on_lost(self, node: int, reason: str) -> None:
        """A connection broke."""
        self._machine.lost(self._clock.now(), node, reason)

    def on_refused(self, node: int, refusal: Refusal, by_peer: bool, authenticated: bool) -> None:
        """Somebody does not want us, or we do not want somebody."""
        self._say(f"and node {node} do not talk: {refusal.text}")

    async def on_bulk(self, hello: Hello, stream: Any) -> None:
        """Nobody sends files here."""


def _fate(reply: Reply) -> str:
    return {Outcome.COMMITTED: "chosen", Outcome.SUPERSEDED: "not chosen"}.get(reply.outcome, reply.reason.name.lower())
