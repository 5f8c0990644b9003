"""The replicated half of the Redis example: a keyspace that changes by entries of the log alone.

    store = KeyValueStore()
    store.apply(index, term, time_us, encode_command([b"SET", b"key", b"value"], protocol=2))  # b"+OK\\r\\n"
    store.query([b"GET", b"key"], now_us, protocol=2)  # b"$5\\r\\nvalue\\r\\n"

Without clock, I/O or chance: the same entries give the same state and the same answers on every replica. Time is the
leader's, carried by the entries. A key expires when an entry with a later time is applied, so between writes the leader
has to bring time forward: when `next_expiry_us()` has come, it proposes `TICK`.

Entries, little-endian; the protocol is the version of RESP (2 or 3) that the client speaks, so that the answer, which
may wait in a session for a retry, is ready to send whichever node passes it on:

    command      "C" | protocol u8 | arguments
    transaction  "T" | protocol u8 | number of commands u32 | that many times arguments
    tick         "E"
    arguments    count u32 | count times length u32 | the bytes of all arguments; the first is the name in capitals
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence

import resp
from keyspace import VALUE_BYTES_MAX, Keyspace
from redis_commands import COMMANDS, CommandError, Reply, find

from distkit import StateMachine

__all__ = ["ANSWER_BYTES_MAX", "READ_BYTES_MAX", "TICK", "KeyValueStore", "encode_command", "encode_transaction"]

TICK = b"E"
"""An entry that only brings time forward. Its answer is empty."""

READ_BYTES_MAX = 16 * 1024 * 1024
"""Bytes of the answer to one read, SCAN's aside, which is bounded by its bucket."""

ANSWER_BYTES_MAX = 4_000_000
"""Bytes of the answer to a transaction: what a replica keeps for a retry. A command in it whose answer does not fit has
run, and an error stands in its place.

MGET of one large value a thousand times asks for far more than it sends. A read like that must not cost a replica its
memory; an entry like that would do so on every replica, and again each time the log is replayed."""

REMOVALS_PER_COMMAND = 16
REMOVALS_PER_TICK = 2048

_COMMAND, _TRANSACTION = b"C", b"T"
_TOO_LARGE = resp.error("ERR the answer is too large: ask for less, or use SCAN instead of KEYS")
_COUNT = struct.Struct("<I")
_LENGTHS = [struct.Struct(f"<{count}I") for count in range(9)]


def encode_command(arguments: Sequence[bytes], protocol: int) -> bytes:
    """The entry for one command; `redis_commands.find` says before whether it is sound."""
    return _COMMAND + bytes((protocol,)) + _encode_arguments(arguments)


def encode_transaction(commands: Sequence[Sequence[bytes]], protocol: int) -> bytes:
    """The entry for what stood between MULTI and EXEC: applied as one, answered by an array."""
    header = _TRANSACTION + bytes((protocol,)) + _COUNT.pack(len(commands))
    return header + b"".join(map(_encode_arguments, commands))


def _encode_arguments(arguments: Sequence[bytes]) -> bytes:
    count = len(arguments)
    lengths = _lengths(count).pack(*map(len, arguments))
    return b"".join((_COUNT.pack(count), lengths, arguments[0].upper(), *arguments[1:]))


def _decode_arguments(entry: bytes, position: int) -> tuple[list[bytes], int]:
    """The arguments that start at `position`, and the position behind them.

    Raises:
        CommandError: the entry is not one that this version writes.
    """
    try:
        (count,) = _COUNT.unpack_from(entry, position)
        position += 4 + 4 * count
        if position > len(entry) or not count:
            raise _malformed()
        lengths = _lengths(count).unpack_from(entry, position - 4 * count)
    except struct.error:
        raise _malformed() from None
    arguments = []
    for length in lengths:
        arguments.append(entry[position : position + length])
        position += length
    if position > len(entry) or max(lengths) > VALUE_BYTES_MAX:
        raise _malformed()
    return arguments, position


def _decode(entry: bytes) -> tuple[bool, int, list[list[bytes]]]:
    """Whether an entry is a transaction, the protocol of its client, and its commands."""
    kind, count, position = entry[:1], 1, 2
    if kind == _TRANSACTION and len(entry) >= 6:
        (count,), position = _COUNT.unpack_from(entry, 2), 6
    elif kind != _COMMAND:
        raise _malformed()
    commands = []
    for _ in range(count):
        arguments, position = _decode_arguments(entry, position)
        commands.append(arguments)
    if position != len(entry) or entry[1] not in resp.NULL:
        raise _malformed()
    return kind == _TRANSACTION, entry[1], commands


def _lengths(count: int) -> struct.Struct:
    return _LENGTHS[count] if count < len(_LENGTHS) else struct.Struct(f"<{count}I")


def _malformed() -> CommandError:
    return CommandError("ERR this entry of the log is malformed or of a newer version; nothing was changed")


def _encode_reply(reply: Reply, protocol: int) -> bytes:
    if isinstance(reply, bytes):
        return reply
    null = resp.NULL[protocol]
    if reply is None:
        return null
    if sum(len(value) for value in reply if value is not None) > READ_BYTES_MAX:
        return _TOO_LARGE
    return resp.array([null if value is None else resp.bulk(value) for value in reply])


class KeyValueStore(StateMachine):
    """A replicated state machine: `apply`, `snapshot`, `restore` and `digest`, and reads of what is applied."""

    def __init__(self) -> None:
        self._keyspace = Keyspace()

    def apply(self, index: int, term: int, time_us: int, command: bytes) -> bytes:
        """Carry out one entry at the leader's time, which is taken as unchanged if it goes back; return the answer.

        What is wrong with a command is its answer: an entry never raises.
        """
        keyspace = self._keyspace
        keyspace.advance(time_us, REMOVALS_PER_TICK if command == TICK else REMOVALS_PER_COMMAND)
        if command == TICK:
            return b""
        try:
            is_transaction, protocol, commands = _decode(command)
        except CommandError as error:
            return resp.error(str(error))
        if not is_transaction:
            return self._run(commands[0], keyspace.time_us, protocol)
        answers = []
        answers_bytes = 0
        for arguments in commands:
            answer = self._run(arguments, keyspace.time_us, protocol)
            if answers_bytes + len(answer) > ANSWER_BYTES_MAX:
                answer = _TOO_LARGE
            answers_bytes += len(answer)
            answers.append(answer)
        return resp.array(answers)

    def query(self, arguments: Sequence[bytes], now_us: int, protocol: int) -> bytes:
        """Answer a read from the applied state; nothing changes.

        Args:
            arguments: the command as the client sent it.
            now_us: the wall clock, from which TTL and PTTL count. It does not decide whether a key is expired.
            protocol: the version of RESP that the client speaks.

        Raises:
            ValueError: the command writes, so it has to be proposed.
        """
        command = COMMANDS.get(arguments[0].upper())
        if command is not None and command.is_write:
            raise ValueError(f"{arguments[0]!r} changes the state: propose it instead")
        return self._run(arguments, now_us, protocol)

    def _run(self, arguments: Sequence[bytes], now_us: int, protocol: int) -> bytes:
        try:
            reply = find(arguments).run(self._keyspace, arguments, now_us)
        except CommandError as error:
            return resp.error(str(error))
        return _encode_reply(reply, protocol)

    def next_expiry_us(self) -> int | None:
        """When the leader should next propose `TICK`: the earliest deadline, None if no key has one.

        It lies in the past while expired keys wait to be removed; each tick removes a bounded number of them.
        """
        return self._keyspace.next_deadline_us()

    def key_count(self) -> int:
        """How many keys there are."""
        return len(self._keyspace)

    def snapshot(self) -> Iterator[bytes]:
        """Freeze the state, then return its bytes in pieces that are made when they are asked for."""
        return self._keyspace.freeze().chunks()

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the state by a snapshot's.

        Raises:
            SnapshotError: `chunks` are no whole snapshot; the state is unchanged.
        """
        self._keyspace = Keyspace.restore(chunks)

    def digest(self) -> bytes:
        """32 bytes, equal where keys, values, deadlines, their order and the time are equal."""
        digest = hashlib.blake2b(digest_size=32)
        for chunk in self._keyspace.view().chunks():
            digest.update(chunk)
        return digest.digest()
