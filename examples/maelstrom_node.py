#!/usr/bin/env python3
"""A node for Maelstrom's lin-kv workload: the replicated log that ships, on a real disk, over stdin and stdout.

    maelstrom test -w lin-kv --bin examples/maelstrom_node.py --node-count 3 --concurrency 4n --rate 30 \\
        --time-limit 60 --nemesis partition -- --data /tmp/maelstrom

Each node uses the directory named like itself below --data: a new one for each test, or a test begins with the keys of
the one before. A node that is started again in its directory goes on where it was. Everything is answered through the
log, reads included. An error says what is known: 11 and 14, it was not done and never will be; 13, nobody can tell; 20
and 22 are decided when a command is applied. Lines that are no messages are named on standard error, and nothing else.
The log there numbers the nodes from 1, in the order of their names.

`tests/maelstrom/runner.py` plays Maelstrom's part, with kill -9 and worse.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import trio
from maelstrom_kv import MISSING, LinearizableMap, cas_command, write_command
from maelstrom_network import MaelstromNetwork
from maelstrom_wire import Code, Malformed, Message, Output, canonical, error, parse, read_lines

from distkit.core import Clock, DistkitError, LocalError, Outcome
from distkit.core.limits import MEMBERS_MAX
from distkit.node import NodeOptions, Replica, error_of, open_replica
from distkit.raft import RaftOptions
from distkit.replica import ReplicaOptions, ReplicaReply, SnapshotPolicy
from distkit.transport import Hello

#: Requests that may be open at a time; what is over is answered with error 11.
REQUESTS_MAX = 10_000
#: Key or value, as canonical JSON.
VALUE_BYTES_MAX = 64 << 10
BRACKETS_MAX = 100
#: How often requests are looked through for those that have waited too long, in seconds.
EXPIRY_INTERVAL = 0.02
#: How long an end waits for the last answers to be read, in seconds.
FINISH_TIMEOUT = 1.0
#: Lines about bad input on standard error; what is over is only counted.
COMPLAINTS_MAX = 100
#: How long the log's thread waits at most for a busy event loop to give up the interpreter, in seconds.
SWITCH_INTERVAL = 0.0005

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

logger = logging.getLogger("maelstrom_node")


class Refused(Exception):
    """A request that is answered with an error at once."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


class Node:
    """One node: `run` serves the lines of a stream until it ends. Answers and what peers are told go to `output`."""

    def __init__(
        self, data: Path, options: NodeOptions, timeout: float, output: Output, clock: Clock | None = None
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.replica: Replica[LinearizableMap] | None = None  # once the cluster is formed
        self._data = data
        self._options = options
        self._timeout = timeout
        self._output = output
        self._clock = clock
        self._init: Message | None = None  # while it has no answer
        self._name = ""
        self._members: dict[int, str] = {}
        self.network: MaelstromNetwork | None = None
        self._waiting: dict[int, tuple[float, Message]] = {}  # by ticket, the oldest first
        self._nursery: trio.Nursery
        self._requests: dict[str, Callable[[Message], None]] = {
            "init": self._on_init,
            "read": self._on_read,
            "write": self._on_write,
            "cas": self._on_cas,
        }

    async def run(self, stream: trio.abc.ReceiveStream) -> None:
        """Until the stream ends. DistkitError: this node can't take part, or not any more."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._output.run)
                self._nursery.start_soon(self._expire)
                async for lines in read_lines(stream):
                    for line in lines:
                        self._take(line)
                    self._turn()
                self._nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise _cause(group) from None
        finally:
            counters = {**self.counters, "dropped": self._output.dropped}
            logger.info("counters: %s", counters if self.network is None else {**counters, **self.network.counters})

    # -- what comes in ------------------------------------------------------------------------------------------------

    def _take(self, line: bytes) -> None:
        """One line; whatever it holds, this goes on."""
        try:
            message = parse(line)
        except Malformed as cause:
            self._complain("malformed", f"{cause}; the line begins with {line[:80]!r}")
            return
        kind = message.body.get("type")
        if message.dest != self._name and kind != "init":
            self._complain("astray", f"a message for {message.dest[:80]!r}, and this is node {self._name!r}")
        elif isinstance(kind, str) and kind.startswith("distkit"):
            if self.network is not None:
                self.network.receive(message.src, message.body)
        elif "in_reply_to" in message.body:
            self._complain("replies", f"a reply that nobody waits for: {line[:200]!r}")
        else:
            self._serve(message, kind)

    def _serve(self, message: Message, kind: object) -> None:
        if type(message.body.get("msg_id")) is not int:
            self._complain("malformed", f"a request without a number as msg_id: {str(message.body)[:200]}")
            return
        try:
            if not isinstance(kind, str):
                raise Refused(Code.MALFORMED, 'a body has a text as "type"')
            handler = self._requests.get(kind)
            if handler is None:
                raise Refused(Code.NOT_SUPPORTED, f"this node knows {', '.join(self._requests)}")
            handler(message)
        except Refused as refused:
            self._answer(message, error(refused.code, str(refused)))
        except LocalError as cause:  # it has stopped, or is about to
            self._answer(message, error(Code.UNAVAILABLE, str(cause)))

    def _turn(self) -> None:
        """Everything that was ready has been read: send it on as one batch."""
        if self.replica is not None:
            with contextlib.suppress(LocalError):  # it has stopped, and the task that runs it says why
                self.replica.flush()

    def _complain(self, kind: str, text: str) -> None:
        self.counters[kind] += 1
        if self.counters[kind] <= COMPLAINTS_MAX:
            logger.warning("%s", text)

    # -- the requests of clients --------------------------------------------------------------------------------------

    def _on_read(self, message: Message) -> None:
        key = _text_of(message, "key")

        def done(reply: ReplicaReply) -> None:
            value = replica.machine.get(key) if reply.outcome is Outcome.READABLE else b""
            body = MISSING if value is None else {"type": "read_ok", "value": json.loads(value or "null")}
            self._end(reply, body)

        replica = self._open()
        self._wait(replica.read_soon(done), message)

    def _on_write(self, message: Message) -> None:
        self._propose(message, write_command(_text_of(message, "key"), _text_of(message, "value")))

    def _on_cas(self, message: Message) -> None:
        key, old, new = (_text_of(message, field) for field in ("key", "from", "to"))
        self._propose(message, cas_command(key, old, new))

    def _propose(self, message: Message, command: bytes) -> None:
        self._wait(self._open().propose_soon(command, self._applied), message)

    def _applied(self, reply: ReplicaReply) -> None:
        self._end(reply, json.loads(reply.result) if reply.outcome is Outcome.COMMITTED else {})

    def _open(self) -> Replica[LinearizableMap]:
        if self.replica is None:
            raise Refused(Code.UNAVAILABLE, "the cluster is not formed yet: not all nodes have seen each other")
        if len(self._waiting) >= REQUESTS_MAX:
            raise Refused(Code.UNAVAILABLE, f"{REQUESTS_MAX} requests are waiting already")
        return self.replica

    def _wait(self, ticket: int, message: Message) -> None:
        self._waiting[ticket] = (trio.current_time() + self._timeout, message)

    def _end(self, reply: ReplicaReply, body: dict[str, Any]) -> None:
        """The replica has ended a ticket: `body` answers it if it succeeded."""
        _deadline, message = self._waiting.pop(reply.ticket)
        cause = error_of(reply)
        if cause is not None:
            codes = {Outcome.REFUSED: Code.UNAVAILABLE, Outcome.SUPERSEDED: Code.ABORT}
            body = error(codes.get(reply.outcome, Code.CRASH), str(cause))
        self._answer(message, body)

    async def _expire(self) -> None:
        """Give up what has waited too long: definitely if it has not left this node, else nobody can tell."""
        while True:
            await trio.sleep(EXPIRY_INTERVAL)
            while self._waiting:
                ticket, (deadline, message) = next(iter(self._waiting.items()))
                if trio.current_time() < deadline:
                    break
                del self._waiting[ticket]
                self._give_up(ticket, message)

    def _give_up(self, ticket: int, message: Message) -> None:
        try:
            held_here = self.replica is not None and self.replica.cancel(ticket)
        except LocalError:
            held_here = False  # the replica has stopped
        if held_here:
            self._answer(message, error(Code.UNAVAILABLE, "there is no leader; it was not done"))
        else:
            self._answer(message, error(Code.CRASH, "no answer in time; it may be done, or may still be"))

    def _answer(self, message: Message, body: dict[str, Any]) -> None:
        name = self._name or message.dest
        self._output.post(name, message.src, {**body, "in_reply_to": message.body["msg_id"]})

    # -- the life of the node -----------------------------------------------------------------------------------------

    def _on_init(self, message: Message) -> None:
        name, names = message.body.get("node_id"), message.body.get("node_ids")
        if not isinstance(names, list) or not all(isinstance(each, str) and _NAME.fullmatch(each) for each in names):
            raise Refused(Code.MALFORMED, "node_ids must be names of letters, digits, '_', '.' and '-'")
        if name not in names or len(set(names)) != len(names) or len(names) > MEMBERS_MAX:
            raise Refused(Code.MALFORMED, f"node_ids must hold node_id and each once, at most {MEMBERS_MAX}")
        members = {number: f"{each}:0" for number, each in enumerate(sorted(names), 1)}
        if not self._name:
            self._init, self._name, self._members = message, str(name), members
            self._nursery.start_soon(self._take_part)
        elif (name, members) != (self._name, self._members):
            raise Refused(Code.ABORT, f"this process is node {self._name} of another cluster already")
        elif self._init is not None:
            raise Refused(Code.UNAVAILABLE, "the directory is still being opened")
        else:
            self._answer(message, {"type": "init_ok"})

    async def _take_part(self) -> None:
        """Be a member of the cluster; a name stands for its place in the order of all names."""
        number = next(number for number, address in self._members.items() if address == f"{self._name}:0")
        try:
            async with open_replica(
                LinearizableMap(),
                node=number,
                members=self._members,
                data=self._data / self._name,
                options=self._options,
                clock=self._clock,
                network=self._reach,
            ) as self.replica:
                await trio.sleep_forever()
        except DistkitError as cause:
            if self._init is not None:
                self._answer(self._init, error(Code.ABORT, str(cause)))
            with trio.move_on_after(FINISH_TIMEOUT):
                await self._output.wait_written()
            raise

    def _reach(self, replica: Replica[Any], hello: Callable[[], Hello]) -> MaelstromNetwork:
        def post(name: str, body: dict[str, Any]) -> bool:
            return self._output.post(self._name, name, body)

        self.network = MaelstromNetwork(replica, hello, self._members, post, self._serving)
        return self.network

    def _serving(self) -> None:
        """The directory is in order. Formation needs the others, who may be told of it only after this answer."""
        assert self._init is not None
        self._answer(self._init, {"type": "init_ok"})
        self._init = None


def _text_of(message: Message, field: str) -> str:
    """A key or value as canonical JSON. Raises Refused."""
    if field not in message.body:
        raise Refused(Code.MALFORMED, f'the field "{field}" is missing')
    try:
        text = canonical(message.body[field])
    except RecursionError:
        raise Refused(Code.MALFORMED, f'"{field}" is nested too deep') from None
    if len(text) > VALUE_BYTES_MAX or text.count("[") + text.count("{") > BRACKETS_MAX:
        limits = f"at most {VALUE_BYTES_MAX} bytes and {BRACKETS_MAX} brackets"
        raise Refused(Code.MALFORMED, f'"{field}" is too large: {limits}')
    return text


def _cause(group: BaseException) -> BaseException:
    """The one exception in nested groups of one; the group itself when there are several."""
    while isinstance(group, BaseExceptionGroup) and len(group.exceptions) == 1:
        group = group.exceptions[0]
    return group


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; argparse ends the program with status 2 and a usage line when it is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="each node has its directory in here")
    parser.add_argument(
        "--timeout",
        type=float,
        default=0.9,
        metavar="S",
        help="answer with an error after this many seconds (default 0.9: Maelstrom's clients wait at least 1)",
    )
    parser.add_argument(
        "--election-timeout", type=float, default=1.0, metavar="S", help="of Raft; several network delays (default 1)"
    )
    parser.add_argument(
        "--snapshot-entries", type=int, default=10_000, metavar="N", help="take a snapshot every N commands"
    )
    parser.add_argument("--verbose", action="store_true", help="log every change of role and what was counted")
    arguments = parser.parse_args(words)
    if not 0 < arguments.timeout < 3600:
        parser.error("--timeout must be between 0 and 3600 seconds")
    try:
        arguments.node = node_options(arguments.election_timeout, arguments.snapshot_entries)
    except LocalError as cause:
        parser.error(str(cause))
    return arguments


def node_options(election_timeout: float, snapshot_entries: int) -> NodeOptions:
    """Options of a node; a peer that lags by more than a snapshot fetches that. LocalError: they make no sense."""
    options = NodeOptions(
        raft=RaftOptions(
            heartbeat=election_timeout / 10, election_timeout=election_timeout, keep_entries=snapshot_entries
        ),
        replica=ReplicaOptions(snapshot=SnapshotPolicy(entries=snapshot_entries)),
    )
    options.raft.check()
    options.replica.check()
    return options


async def serve(arguments: argparse.Namespace) -> None:
    """Standard input and output, until the input ends."""
    stdin, stdout = (trio.lowlevel.FdStream(os.dup(number)) for number in (0, 1))
    async with stdin, stdout:
        await Node(arguments.data, arguments.node, arguments.timeout, Output(stdout)).run(stdin)


def main(words: Sequence[str] | None = None) -> int:
    """Exit status: 0 at the end of the input, 1 when the node could not start or go on, 2 for a wrong command line."""
    arguments = parse_arguments(words)
    logging.basicConfig(
        level=logging.INFO if arguments.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        trio.run(serve, arguments)
    except (DistkitError, trio.BrokenResourceError) as cause:
        print(f"maelstrom_node: {str(cause) or 'nobody reads what this node says'}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
