"""A server for tests of the proxy, in a process of its own so that it can be killed: python proxy_backend.py PORT NAME.

It answers each request with its name, `/held` only after a SIGUSR1, `/healthz` with "well".
"""

import signal
import socket
import sys

import trio
from proxy_messages import BadMessage, Head, Reader
from proxy_wire import Wire


async def main(port: int, name: str) -> None:
    with socket.create_server(("127.0.0.1", port), backlog=1024) as listener:
        listener.setblocking(False)
        released = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(release, released)
            print("ready", flush=True)
            while True:
                await trio.lowlevel.wait_readable(listener)
                sock, _ = listener.accept()
                nursery.start_soon(serve, Wire(sock), name.encode(), released)


async def release(released: trio.Event, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGUSR1) as signals:
        task_status.started()
        async for _ in signals:
            released.set()


async def serve(wire: Wire, name: bytes, released: trio.Event) -> None:
    reader = Reader(requests=True)
    try:
        while data := await wire.receive():
            reader.feed(data)
            while reader.events:
                event = reader.events.popleft()
                if isinstance(event, Head):
                    if event.target == b"/held":
                        await released.wait()
                    text = b"well" if event.target == b"/healthz" else name
                    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))
    except (OSError, BadMessage):
        pass
    finally:
        wire.close()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), sys.argv[2])
