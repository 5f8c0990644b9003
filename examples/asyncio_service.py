#!/usr/bin/env python3
"""An asyncio web service around a replicated counter: distkit runs in a thread of its own and gives futures to await.

    python examples/asyncio_service.py --node 1 --data data/1 --http 127.0.0.1:8001 \\
        --member 1=127.0.0.1:7101 --member 2=127.0.0.1:7102 --member 3=127.0.0.1:7103

    curl -X POST http://127.0.0.1:8001/add/5        # committed on a majority of disks, from any node
    curl http://127.0.0.1:8003/value                # linearizable, on any node
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Iterable, Iterator
from functools import partial

import h11

import distkit
from distkit.blocking import BlockingReplica, open_replica

#: Seconds a request may take; an addition that has no answer by then may still be applied.
DEADLINE = 5.0
REQUEST_BYTES_MAX = 16 << 10


class Counter(distkit.StateMachine):
    """The replicated state: one number."""

    value = 0

    def apply(self, index: int, term: int, time_us: int, command: bytes) -> bytes:
        self.value += int(command)
        return b"%d" % self.value

    def snapshot(self) -> Iterator[bytes]:
        return iter([b"%d" % self.value])

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.value = int(b"".join(chunks))


async def answer(replica: BlockingReplica[Counter], request: h11.Request) -> tuple[int, bytes]:
    """Status and body for a request."""
    words = request.target.decode("ascii", "replace").strip("/").split("/")
    try:
        async with asyncio.timeout(DEADLINE):
            if request.method == b"GET" and words == ["value"]:
                value = await asyncio.wrap_future(replica.submit_read(lambda counter: counter.value))
                return 200, b"%d\n" % value
            if request.method == b"POST" and len(words) == 2 and words[0] == "add" and words[1].isdecimal():
                return 200, await asyncio.wrap_future(replica.submit(words[1].encode())) + b"\n"
    except (distkit.OutcomeUnknown, TimeoutError):
        return 504, b"no answer in time: an addition may have been applied, or may still be\n"
    except distkit.DistkitError as error:
        return 503, f"not done: {error}\n".encode()
    return 404, b"there are POST /add/N and GET /value\n"


async def serve_client(
    replica: BlockingReplica[Counter], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """One request for each connection, which keeps the example short."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=REQUEST_BYTES_MAX)
    try:
        while (event := connection.next_event()) is h11.NEED_DATA:
            async with asyncio.timeout(DEADLINE):
                connection.receive_data(await reader.read(REQUEST_BYTES_MAX))
        if isinstance(event, h11.Request):
            status, body = await answer(replica, event)
            headers = [("content-length", str(len(body))), ("connection", "close")]
            writer.write(connection.send(h11.Response(status_code=status, headers=headers)) or b"")
            writer.write(connection.send(h11.Data(data=body)) or b"")
            await writer.drain()
    except (h11.RemoteProtocolError, TimeoutError, ConnectionError) as error:
        print(f"client: {error}", file=sys.stderr)
    finally:
        writer.close()


async def serve(replica: BlockingReplica[Counter], address: str) -> None:
    """Until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    host, _, port = address.rpartition(":")
    server = await asyncio.start_server(partial(serve_client, replica), host, int(port))
    print(f"serving http on {address}", flush=True)
    async with server:
        await stop.wait()


def member(text: str) -> tuple[int, str]:
    """NODE=HOST:PORT."""
    node, _, address = text.partition("=")
    return int(node), address


def main() -> int:
    """Exit status 1 with a line on stderr if the replica can't start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", type=int, required=True, help="id of this node")
    parser.add_argument("--data", required=True, metavar="DIR", help="its directory")
    parser.add_argument("--http", required=True, metavar="HOST:PORT", help="where to serve HTTP")
    parser.add_argument("--member", type=member, action="append", required=True, metavar="NODE=HOST:PORT")
    given = parser.parse_args()
    try:
        with open_replica(Counter(), node=given.node, members=dict(given.member), data=given.data) as replica:
            asyncio.run(serve(replica, given.http))
    except distkit.DistkitError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
