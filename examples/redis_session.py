"""One Redis client: its requests in order, its answers in order, and what may be under way at the same time.

Commands of the store go through the replica: writes are proposed, reads wait for a read position. A run of writes, or
of reads, is under way together; where one kind follows the other it waits until the earlier ones are answered. So
`SET x 1; GET x` in one packet answers 1 on any node, and `GET x; SET x 1` does not. Everything else is answered here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import redis_connection as local
import resp
from clients import Connection
from kv_store import encode_command, encode_transaction
from redis_commands import Command, CommandError, find

from distkit.core import Outcome, Reason
from distkit.core.limits import ENTRY_BYTES_MAX

if TYPE_CHECKING:
    from distkit.replica import ReplicaReply

__all__ = ["RedisSession", "Store"]

#: Requests of one client that may wait for answers; with more, nothing is read from it.
PIPELINE_MAX = 1024
#: Commands and their bytes between MULTI and EXEC.
QUEUED_MAX = 16_384

#: Answers are handed to the connection in pieces of about this many bytes.
ANSWERS_BYTES = 64 << 10

_QUEUED = resp.simple("QUEUED")
_NOT_QUEUED = resp.error("ERR only commands of the store can stand between MULTI and EXEC")
_ABORTED = resp.error("EXECABORT Transaction discarded because of previous errors.")
_TOO_LARGE = resp.error(f"ERR this command is larger than an entry of the log may be ({ENTRY_BYTES_MAX} bytes)")
_TRANSACTION_TOO_LARGE = resp.error(
    f"ERR a transaction is one entry of the log: at most {QUEUED_MAX} commands and {ENTRY_BYTES_MAX} bytes"
)
_UNKNOWN = resp.error(
    "UNKNOWN the outcome is not known: the write may or may not have been applied, now or later; read before you retry"
)
_REFUSED = {
    Reason.BUSY: resp.error("TRYAGAIN not done: too much is waiting already, slow down"),
    Reason.FULL: resp.error("DISKFULL not done: the leader's disk is full; reads go on, writes once there is space"),
    Reason.TRANSFER: resp.error("TRYAGAIN not done: leadership is being handed over"),
}
_NO_LEADER = resp.error("TRYAGAIN not done: there was no leader to take it")


class Store(Protocol):
    """The replicated store as a session sees it."""

    server: local.Server

    def propose(self, entry: bytes, done: Callable[[ReplicaReply], None]) -> None:
        """Replicate an entry; `done` is called once, later."""
        ...

    def read(self, done: Callable[[ReplicaReply], None]) -> None:
        """Ask for a moment at which the applied state answers reads; `done` is called in it, later."""
        ...

    def query(self, arguments: Sequence[bytes], protocol: int) -> bytes:
        """Answer a read from the applied state."""
        ...


class Slot:
    """The place of one answer among those of its client."""

    __slots__ = ("answer", "arguments", "is_readable", "protocol", "session")

    def __init__(self, session: RedisSession, arguments: Sequence[bytes]) -> None:
        self.session = session
        self.arguments = arguments
        self.protocol = session.client.protocol  # a HELLO that comes later changes no earlier answer
        self.answer: bytes | None = None
        self.is_readable = False

    def written(self, reply: ReplicaReply) -> None:
        """The replica ended the write."""
        if reply.outcome is Outcome.COMMITTED and reply.reason is Reason.NONE:
            self.session.answered(self, reply.result)
        elif reply.outcome is Outcome.COMMITTED:
            self.session.answered(self, resp.error("ERR applied, but the answer was too large to keep"))
        else:
            self.session.answered(self, _failure(reply))

    def readable(self, reply: ReplicaReply) -> None:
        """The state may be read now, or not at all."""
        if reply.outcome is Outcome.READABLE:
            self.is_readable = True
            self.session.go_on()
        else:
            self.session.answered(self, _REFUSED.get(reply.reason, _NO_LEADER))  # nothing was done, nothing is unknown


class RedisSession:
    """A `clients.Handler`."""

    def __init__(self, connection: Connection, store: Store, number: int) -> None:
        self.store = store
        self.client = local.Client(number, connection.peer, authenticated=not store.server.password)
        self._connection = connection
        self._parser = resp.Parser(authenticated=self.client.authenticated)
        self._waiting: deque[tuple[Slot, Command]] = deque()  # not begun yet
        self._slots: deque[Slot] = deque()  # all that are not sent, in order
        self._under_way = 0
        self._writing = False  # what is under way are writes
        self._queued: list[list[bytes]] | None = None  # between MULTI and EXEC
        self._queued_bytes = 0
        self._spoilt = False  # the transaction can't be executed
        self._closed = False

    @property
    def admitted(self) -> bool:
        """The client has given the password, if there is one."""
        return self.client.authenticated

    @property
    def busy(self) -> bool:
        """Something is not answered yet."""
        return bool(self._slots)

    def received(self, data: bytes) -> None:
        """Parse what came and begin what can begin."""
        self._parser.feed(data)
        try:
            while commands := self._parser.commands():
                for arguments in commands:
                    self._take(arguments)
                    if self.client.quit:
                        self._finish()
                        return
                self._parser.authenticated = self.client.authenticated
        except resp.ProtocolError as error:
            self._slots.append(self._filled(resp.error(str(error))))
            self._finish()
            return
        self.go_on()
        if self._waiting or len(self._slots) > PIPELINE_MAX:
            self._connection.pause()  # what waits here is held in memory: what is not read yet waits at the client

    def drained(self) -> None:
        """The client reads again."""
        self.go_on()

    def closed(self) -> None:
        """Nobody waits for answers any more. What was proposed may still be applied."""
        self._closed = True
        self._waiting.clear()
        self._slots.clear()

    def answered(self, slot: Slot, answer: bytes) -> None:
        """One that was under way has its answer."""
        slot.answer = answer
        self._under_way -= 1
        self.go_on()

    # -- taking -------------------------------------------------------------------------------------------------------

    def _take(self, arguments: list[bytes]) -> None:
        name = arguments[0].upper()
        if not self.client.authenticated and name not in local.BEFORE_AUTHENTICATION:
            self._slots.append(self._filled(local.NOT_AUTHENTICATED))
        elif name in _TRANSACTIONS:
            _TRANSACTIONS[name](self, arguments)
        elif name in local.COMMANDS and (self._queued is None or name == b"QUIT"):
            self._slots.append(self._filled(local.run(self.store.server, self.client, arguments)))
        elif name in local.COMMANDS:
            self._spoilt = True
            self._slots.append(self._filled(_NOT_QUEUED))
        else:
            self._take_store_command(arguments)

    def _take_store_command(self, arguments: list[bytes]) -> None:
        try:
            command = find(arguments)
        except CommandError as error:
            self._spoilt = True
            self._slots.append(self._filled(resp.error(str(error))))
            return
        if self._queued is not None:
            self._queue(arguments)
            return
        slot = Slot(self, arguments)
        self._slots.append(slot)
        self._waiting.append((slot, command))

    def _queue(self, arguments: list[bytes]) -> None:
        assert self._queued is not None
        self._queued_bytes += sum(map(len, arguments)) + 4 * len(arguments)
        if len(self._queued) >= QUEUED_MAX or self._queued_bytes > ENTRY_BYTES_MAX:
            self._spoilt = True
            self._queued.clear()  # nothing of it will be used
            self._slots.append(self._filled(_TRANSACTION_TOO_LARGE))
        else:
            self._queued.append(arguments)
            self._slots.append(self._filled(_QUEUED))

    def _filled(self, answer: bytes) -> Slot:
        slot = Slot(self, ())
        slot.answer = answer
        return slot

    # -- transactions -------------------------------------------------------------------------------------------------

    def _multi(self, arguments: list[bytes]) -> None:
        if len(arguments) != 1:
            self._slots.append(self._filled(local.wrong_arity(b"multi")))
        elif self._queued is not None:
            self._slots.append(self._filled(resp.error("ERR MULTI calls can not be nested")))
        else:
            self._queued, self._queued_bytes, self._spoilt = [], 0, False
            self._slots.append(self._filled(resp.OK))

    def _discard(self, arguments: list[bytes]) -> None:
        if self._queued is None:
            self._slots.append(self._filled(resp.error("ERR DISCARD without MULTI")))
            return
        self._queued = None
        self._slots.append(self._filled(resp.OK))

    def _exec(self, arguments: list[bytes]) -> None:
        queued, self._queued = self._queued, None
        if queued is None:
            self._slots.append(self._filled(resp.error("ERR EXEC without MULTI")))
        elif self._spoilt:
            self._slots.append(self._filled(_ABORTED))
        elif not queued:
            self._slots.append(self._filled(resp.array([])))
        else:
            slot = Slot(self, (encode_transaction(queued, self.client.protocol),))
            self._slots.append(slot)
            self._waiting.append((slot, _TRANSACTION))

    def _watch(self, arguments: list[bytes]) -> None:
        self._spoilt = True
        self._slots.append(
            self._filled(
                resp.error("ERR WATCH is not supported: MULTI/EXEC is one entry of the log, without conditions")
            )
        )

    # -- going on -----------------------------------------------------------------------------------------------------

    def go_on(self) -> None:
        """Send the answers that are complete up to here, and begin what may be under way together with what is."""
        if self._closed:
            return
        self._send_answers()
        waiting = self._waiting
        refused = False
        while waiting:
            slot, command = waiting[0]
            if self._under_way and command.is_write != self._writing:
                break
            waiting.popleft()
            self._begin(slot, command)
            refused = refused or slot.answer is not None
        if refused:
            self._send_answers()
        if self.client.quit and not self._slots:
            self._connection.close()
        elif not self._waiting and len(self._slots) <= PIPELINE_MAX // 2 and not self.client.quit:
            self._connection.resume()

    def _send_answers(self) -> None:
        """In order. A read is made only when its answer can leave: a client that does not read costs no memory."""
        slots, connection = self._slots, self._connection
        answers = []
        size = 0
        while slots and not connection.crowded and size < ANSWERS_BYTES:
            slot = slots[0]
            if slot.is_readable:
                slot.answer = self.store.query(slot.arguments, slot.protocol)
                self._under_way -= 1
            if slot.answer is None:
                break
            answers.append(slot.answer)
            size += len(slot.answer)
            slots.popleft()
            if size >= ANSWERS_BYTES:
                connection.send(b"".join(answers))
                answers, size = [], 0
        if answers:
            connection.send(b"".join(answers))

    def _begin(self, slot: Slot, command: Command) -> None:
        if not command.is_write:
            self._under_way += 1
            self._writing = False
            self.store.read(slot.readable)
            return
        if command is _TRANSACTION:
            entry = slot.arguments[0]
        else:
            entry = encode_command(slot.arguments, slot.protocol)
        if len(entry) > ENTRY_BYTES_MAX:
            slot.answer = _TOO_LARGE
            return
        self._under_way += 1
        self._writing = True
        self.store.propose(entry, slot.written)

    def _finish(self) -> None:
        """Answer what was asked so far, then close; nothing more is read."""
        self.client.quit = True
        self._connection.pause()
        self.go_on()


def _failure(reply: ReplicaReply) -> bytes:
    if reply.outcome is Outcome.REFUSED:
        return _REFUSED.get(reply.reason, _NO_LEADER)
    if reply.outcome is Outcome.SUPERSEDED:
        return resp.error("TRYAGAIN not done: another leader's entry took its place")
    return _UNKNOWN


def _no_command(*_: object) -> bytes:
    raise AssertionError("a transaction is run by the store as one entry")


#: Stands for EXEC among the commands that wait.
_TRANSACTION = Command(1, True, _no_command)

_TRANSACTIONS: dict[bytes, Callable[[RedisSession, list[bytes]], None]] = {
    b"MULTI": RedisSession._multi,
    b"EXEC": RedisSession._exec,
    b"DISCARD": RedisSession._discard,
    b"WATCH": RedisSession._watch,
    b"UNWATCH": lambda session, arguments: session._slots.append(session._filled(resp.OK)),
}
